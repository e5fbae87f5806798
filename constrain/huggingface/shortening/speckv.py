"""What a draft writes says which keys and values of a long prompt are worth keeping.

Galim et al. 2025, "Draft-based Approximate Inference for LLMs" (arXiv 2506.08373), SpecKV: a draft writes
some tokens behind the prompt; the model reads both; in each layer, the attention of the prompt's last tokens
and of what the draft wrote, to each key before them, is reduced over these queries and over the heads that
have the key in common, and smoothed over neighbours; the best keys stay, with those of the last tokens, and
what the draft wrote is forgotten.  Without a draft's tokens that is SnapKV (Li et al. 2024, arXiv
2404.14469).  Defaults are those of the authors' program, but for the number of tokens that are written:
there it is that of the answer.

Ours are: the model may be its own draft, which reads the prompt once; what is not the document always stays.
The paper reads the prompt with sparse attention, too; here it is read as ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from constrain.arguments import check_count, check_model
from constrain.huggingface.shortening.filters import KeysAndValues, KeysRead, LongPrompt
from constrain.huggingface.shortening.gemfilter import DEFAULT_KEEP
from constrain.huggingface.shortening.importance import (
    check_context,
    check_same_vocabulary,
    layers_of,
    listening,
)
from constrain.huggingface.shortening.pruning import CannotPrune
from constrain.huggingface.shortening.selection import (
    POOLS,
    Pool,
    best_tokens,
    check_choice,
    pooled,
)
from constrain.huggingface.writing import device_of
from constrain.models import context_length

Reduction: TypeAlias = Literal["max", "mean"]
_REDUCTIONS: Final = ("max", "mean")


@dataclass(frozen=True)
class SpecKV:
    """Keeps the keys and values that a draft of the answer attends to, others in each head.  Lossy.

    The whole prompt is read.  What is won is memory, and time of each token that is written.

    Attributes:
        keep: tokens of the document whose keys and values stay in each head, those of the window among
            them.
        draft: a causal language model of ``transformers`` with the model's vocabulary; ``None``: the model
            itself.
        lookahead: tokens that the draft writes behind the prompt, greedily and without a grammar, at most:
            it may end earlier.  0 is SnapKV.
        window: tokens at the end of the prompt whose attention counts, too; their keys and values stay.
        kernel: tokens over which attention is smoothed; 1: not at all.
        pool: how: ``"max"`` or ``"avg"``.
        reduction: how the weights of the queries and heads of a key become one: ``"max"`` or ``"mean"``.

    Raises:
        TypeError, ValueError: for arguments out of range.
    """

    keep: int = DEFAULT_KEEP
    draft: Any = field(default=None, repr=False)
    lookahead: int = 32
    window: int = 32
    kernel: int = 7
    pool: Pool = "max"
    reduction: Reduction = "max"

    def __post_init__(self) -> None:
        check_count(self.keep, "keep")
        check_count(self.lookahead, "lookahead", least=0)
        check_count(self.window, "window")
        check_count(self.kernel, "kernel")
        check_choice(self.pool, "pool", POOLS)
        check_choice(self.reduction, "reduction", _REDUCTIONS)
        if self.draft is not None:
            check_model(self.draft, "SpecKV")

    def read(self, model: Any, prompt: LongPrompt) -> KeysRead:
        """Has a model read a prompt, and chooses what stays of its document.

        Raises:
            BudgetError: if the prompt exceeds the context of model or draft.
            CannotPrune: if the model's cache is more than keys and values of all tokens, or its attention
                cannot be read.
            ValueError: if the draft has another vocabulary, or ``keep`` is less than the window has of the
                document.
        """
        ids = list(prompt.ids)
        before = max(len(ids) - self.window, 0)
        free = range(prompt.document.start, max(min(prompt.document.stop, before), 0))
        always = range(max(free.stop, prompt.document.start), prompt.document.stop)
        if self.keep < len(always):
            raise ValueError(
                f"keep={self.keep:,}: the last {self.window:,} tokens of the prompt always stay, and "
                f"{len(always):,} of them are of the document; raise keep, or lower window"
            )
        weights, layers = self._attention(model, ids, before)
        groups = layers[0][0].shape[1]
        kept = [self._best(one, groups, free, always) for one in weights]
        return KeysRead(layers, kept)

    def _best(self, weights: torch.Tensor, groups: int, free: range, always: range) -> torch.Tensor:
        """Positions that stay of one layer, int64[groups, k], from weights float32[heads, keys]."""
        count = min(self.keep - len(always), len(free))
        grouped = weights.view(groups, len(weights) // groups, weights.shape[1])
        joined = grouped.mean(1) if self.reduction == "mean" else grouped.amax(1)
        rows = []
        for row in joined.cpu().numpy():
            best: list[int] = []
            if count:
                scores = pooled(row, self.kernel, self.pool)[free.start : free.stop]
                best = best_tokens(scores, count)
            rows.append([*(free.start + i for i in best), *always])
        return torch.from_numpy(np.array(rows, np.int64).reshape(groups, -1))

    def _attention(
        self, model: Any, ids: list[int], before: int
    ) -> tuple[list[torch.Tensor], list[KeysAndValues]]:
        """What is attended to, and what the model has read.

        Returns:
            Of each layer, the reduced weights of the first ``before`` tokens, float32[heads, before], and
            keys and values of the prompt.
        """
        window = len(ids) - before
        heard = _Reduced(layers_of(model), before, self.reduction)
        room = self._room(model, ids)
        cache = Cache(layers=[_RoomyLayer(room) for _ in range(layers_of(model))])
        if self.draft is None and room:
            with torch.no_grad(), listening(model, window, heard):
                written_by(model, ids, room, cache)
        else:
            written: list[int] = []
            if self.draft is not None:
                check_same_vocabulary(model, self.draft)
                own = self._room(self.draft, ids)
                with torch.no_grad():
                    written = written_by(self.draft, ids, min(room, own), DynamicCache())
            given = torch.tensor([[*ids, *written]], device=device_of(model))
            body = getattr(model, "base_model", model)  # without its head
            with torch.no_grad(), listening(model, window + len(written), heard):
                body(input_ids=given, past_key_values=cache, use_cache=True)
        return heard.weights(model), _keys_of(model, cache, len(ids))

    def _room(self, model: Any, ids: Sequence[int]) -> int:
        """Tokens that a model may write ahead within its context."""
        check_context(model, len(ids))
        context = context_length(model)
        return self.lookahead if context is None else min(self.lookahead, context - len(ids))


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer with room for tokens to come, which then copy nothing.

    Args:
        room: tokens behind those that are read first.

    Attributes:
        keys, values: floating[1, groups, n, D], of the tokens so far.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._blocks: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by models: takes new keys and values, [1, groups, n, D], and gives all."""
        before = int(self.get_seq_length())
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        now = before + int(key_states.shape[2])
        if not self._blocks or now > self._blocks[0].shape[2]:
            self._blocks = (
                self._with_room(self.keys, key_states, now),
                self._with_room(self.values, value_states, now),
            )
        for block, new in zip(self._blocks, (key_states, value_states), strict=True):
            block[:, :, before:now] = new
        self.keys, self.values = (block[:, :, :now] for block in self._blocks)
        return self.keys, self.values

    def _with_room(self, old: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
        block = new.new_empty(*new.shape[:2], length + self._room, new.shape[3])
        if old.numel():
            block[:, :, : old.shape[2]] = old
        return block


class _Reduced:
    """Weights of some keys, reduced over queries as they are heard.

    Args:
        layers: of the model.
        keys: how many, the first.
        reduction: how.
    """

    def __init__(self, layers: int, keys: int, reduction: Reduction) -> None:
        self._keys, self._reduction = keys, reduction
        self._found: list[torch.Tensor | None] = [None] * layers

    def __call__(self, layer: int, scores: torch.Tensor) -> None:
        weights = scores.softmax(-1)[..., : self._keys]
        new = weights.sum(1) if self._reduction == "mean" else weights.amax(1)
        old = self._found[layer]
        if old is not None:
            new = old + new if self._reduction == "mean" else torch.maximum(old, new)
        self._found[layer] = new

    def weights(self, model: Any) -> list[torch.Tensor]:
        """Of each layer, float32[heads, keys]; sums for means, which have the same order.

        Raises:
            CannotPrune: if some layer was not heard.
        """
        found = [one for one in self._found if one is not None]
        if len(found) < len(self._found):
            raise CannotPrune(
                f"the attention of {type(model).__name__} cannot be read: it does not come from the "
                "registry of transformers"
            )
        return found


def written_by(model: Any, ids: Sequence[int], count: int, cache: Any) -> list[int]:
    """Has a model read a prompt, and write and read some tokens behind it, the likeliest each.

    Args:
        model: of ``transformers``.
        ids: of the prompt.
        count: tokens at most; it ends before an EOS.
        cache: of the model, empty; gets keys and values of the prompt and of what is written.

    Returns:
        The tokens that were written.
    """
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = set(ends) if isinstance(ends, list | tuple) else {ends}
    names = inspect.signature(model.forward).parameters
    options = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
    written: list[int] = []
    given = list(ids)
    while True:
        read = torch.tensor([given], device=device_of(model))
        out = model(input_ids=read, past_key_values=cache, use_cache=True, **options)
        token = int(out.logits[0, -1].argmax())
        if len(written) == count or token in ends:
            return written
        written.append(token)
        given = [token]


def _keys_of(model: Any, cache: Any, length: int) -> list[KeysAndValues]:
    """Keys and values of the first tokens in a cache, layer by layer; takes them out of it.

    Raises:
        CannotPrune: if it has not those of all tokens.
    """
    found: list[KeysAndValues] = []
    for layer in cache.layers:
        keys, values = layer.keys, layer.values
        if keys is None or keys.dim() != 4 or keys.shape[2] < length:
            break
        found.append((keys[:, :, :length], values[:, :, :length]))
        layer.keys = layer.values = None
    if len(found) != layers_of(model):
        raise CannotPrune(
            f"{type(model).__name__} does not keep keys and values of all tokens in each of its layers; "
            "shorten the prompt instead: AskAgain(keep=...)"
        )
    return found
