"""Memory that generation takes beside the model's weights, by rows, context and tree.

A budget of memory buys rows (texts side by side), context, or drafts: the SpecMemo idea of giving trees and
caches no more than a model of memory allows.  Here that model is counted, not fitted: what the cache, the
logits and the mask of one forward hold.  Activations within the model come on top (:attr:`~GenerationMemory.
transient` of a forward's new tokens, an upper bound for decoders of the Llama family), and so does what
drafters keep themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from constrain.models import text_config
from samplers.speculative.scorer import TreeScorer

Quantity: TypeAlias = Literal["rows", "prompt", "new", "nodes"]


@dataclass(frozen=True)
class Load:
    """What is asked of a model at once.

    Attributes:
        rows: texts side by side.
        prompt: tokens that all of them begin with.
        new: tokens of each behind it, EOS included.
        nodes: drafted tokens of a row in one forward.
        shared: whether the prompt's keys and values are held once.
    """

    rows: int = 1
    prompt: int = 1
    new: int = 1
    nodes: int = 0
    shared: bool = False

    @property
    def kept(self) -> int:
        """Tokens that the cache has room for, of all rows together."""
        before = self.prompt - 1  # the last one is scored with the first tree
        behind = 1 + self.new + self.nodes
        return before + self.rows * behind if self.shared else self.rows * (before + behind)

    @property
    def seen(self) -> int:
        """Entries of the largest attention mask."""
        columns = (0 if self.shared else self.prompt - 1) + 1 + self.new + self.nodes
        return self.rows * (1 + self.nodes) * columns

    @property
    def scored(self) -> int:
        """Places of all rows that a forward gives logits of."""
        return self.rows * (1 + self.nodes)


@dataclass(frozen=True)
class GenerationMemory:
    """Bytes that a model takes for each thing a forward holds.

    Attributes:
        token: keys and values of a token in one row, in all layers, and its last hidden state if it is kept.
        logits: the logits of one place.
        cell: one entry of the attention mask.
        transient: activations of one new token in one layer: hidden states, queries, keys, values, and the
            inside of the feed-forward block.
    """

    token: int
    logits: int
    cell: int
    transient: int

    @classmethod
    def of(cls, model: Any, *, keep_hidden: bool = False) -> GenerationMemory:
        """A model's.

        Args:
            model: a causal language model of ``transformers``.
            keep_hidden: whether drafters read hidden states, which are then kept for all tokens.

        Raises:
            UnsupportedModel: see :func:`~samplers.speculative.scorer.shape_of`.
        """
        config = text_config(model)
        size = model.dtype.itemsize
        inside = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        return cls(
            token=TreeScorer(model, keep_hidden=keep_hidden).bytes_per_token,
            logits=int(config.vocab_size) * size,
            cell=size,
            transient=(6 * int(config.hidden_size) + 3 * int(inside)) * size,
        )

    def cache(self, load: Load) -> int:
        """Bytes of keys and values, which ``max_kv_bytes`` bounds."""
        return load.kept * self.token

    def needed(self, load: Load) -> int:
        """Bytes of all of it, while a tree is scored."""
        return (
            self.cache(load) + load.scored * (self.logits + self.transient) + load.seen * self.cell
        )

    def most(self, what: Quantity, budget: int, load: Load) -> int:
        """The most of one quantity that a budget allows, with the others as they are.

        Args:
            what: the quantity; what ``load`` has of it does not count.
            budget: bytes.
            load: the others.

        Returns:
            0 (for ``"rows"``, ``"prompt"`` and ``"new"``: not even one) up to 2**40.  For ``"nodes"`` -1
            says that there is no room without drafts either.
        """
        least = 0 if what == "nodes" else 1

        def fits(count: int) -> bool:
            changed: dict[str, Any] = {what: count}
            return self.needed(replace(load, **changed)) <= budget

        if not fits(least):
            return least - 1
        low, high = least, least + 1
        while fits(high) and high < 2**40:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low
