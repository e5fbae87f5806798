"""A prompt that was read whole, with fewer keys and values left than tokens.

Positions are in the keys (rotary embeddings), so what is dropped leaves no trace but a length: the next
token stands behind all that was read, not behind all that was kept.  Heads keep different tokens, but all
the same number, so that keys and values stay one tensor a layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

from constrain.huggingface.prefix import HARMLESS
from constrain.huggingface.shortening.filters import (
    CacheFilter,
    KeysAndValues,
    KeysRead,
    Shortened,
    placed,
)
from constrain.models import text_config
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammaError


class CannotPrune(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A model whose keys and values cannot be dropped, or who writes and needs them all."""


@dataclass(frozen=True)
class Pruned:
    """What stays of a prompt that was read.

    Attributes:
        ids: the tokens that were read: those of the prompt but its last, with which the writing begins.
        layers: keys and values of each layer, floating[1, groups, n, D]; n is the same everywhere.
    """

    ids: list[int]
    layers: list[KeysAndValues]

    @property
    def kept(self) -> int:
        """Tokens whose keys and values are there, in each head."""
        return int(self.layers[0][0].shape[2])

    @property
    def dropped(self) -> int:
        """Tokens that were read, and whose keys and values are not there."""
        return len(self.ids) - self.kept

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, in bytes."""
        return sum(block.numel() * block.element_size() for pair in self.layers for block in pair)

    def cache(self) -> Cache:
        """A cache for ``generate``, of one row; one that grows does not change another."""
        return Cache(layers=[PrunedLayer(*pair, self.dropped) for pair in self.layers])


class PrunedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer whose length is that of what was read.

    Args:
        keys, values: floating[1, groups, n, D].
        dropped: tokens that were read, and are not among them.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, dropped: int) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self.dropped = dropped

    def get_seq_length(self) -> int:
        """Called by models: where the next token stands."""
        return self.dropped + int(self.keys.shape[2])

    def get_mask_sizes(self, query: Any) -> tuple[int, int]:
        """Keys, those of new tokens among them, and where the first would stand if none were dropped.

        So all that were kept stand before what is new, and the new ones in their places.  Older versions
        give the positions of new tokens instead of their number.
        """
        new = query if isinstance(query, int) else len(query)
        return int(self.keys.shape[2]) + new, self.dropped


def pruned(
    model: Any, ids: Sequence[int], text: str, vocabulary: Vocabulary, given: CacheFilter
) -> tuple[Pruned | None, Shortened]:
    """A prompt that a model has read, without the keys and values that a filter drops.

    Args:
        model: that reads.
        ids: of the whole prompt.
        text: the document, which stands in it.
        vocabulary: of the model.
        given: the filter.

    Returns:
        What stays, and what is told of it; ``None`` where all would stay, and nothing was read.

    Raises:
        CannotPrune: if the model's cache is more than keys and values of all tokens.
        BudgetError, ValueError: as :meth:`CacheFilter.read`; if the document is not found, or the filter
            chooses what it may not.
    """
    document, prompt = placed(ids, text, vocabulary)
    # the prompt's last token is read once more, for its logits, and its keys with it
    free = range(prompt.document.start, min(prompt.document.stop, len(ids) - 1))
    count = len(document.tokens)
    if count <= given.keep or not free:
        return None, Shortened(given, count, count, document.spans(document.tokens))
    check_prunable(model)
    read = given.read(model, replace(prompt, document=free))
    _check_choice(read, given, free, len(ids))
    always = [i for i in document.tokens if i not in free]
    anywhere = {i for kept in read.kept for row in kept.tolist() for i in row}
    spans = document.spans(sorted(anywhere.union(always)))
    told = Shortened(given, count, len(always) + read.kept[0].shape[1], spans)
    outside = [i for i in range(len(ids) - 1) if i not in free]
    return Pruned(list(ids[:-1]), _gathered(read, outside)), told


def _gathered(read: KeysRead, outside: Sequence[int]) -> list[KeysAndValues]:
    """What stays of each layer, and some positions besides; whole layers are let go one by one."""
    found: list[KeysAndValues] = []
    read.layers.reverse()
    for kept in read.kept:
        pair = read.layers.pop()
        place = pair[0].device
        always = torch.tensor(outside, dtype=torch.int64, device=place).expand(len(kept), -1)
        index = torch.cat([always, kept.to(place)], 1).sort(1).values[None, :, :, None]
        keys, values = (x.gather(2, index.expand(-1, -1, -1, x.shape[3])) for x in pair)
        found.append((keys, values))
    return found


def _check_choice(read: KeysRead, given: CacheFilter, free: range, length: int) -> None:
    """Refuses positions that a filter may not choose."""
    shape = read.kept[0].shape
    for (keys, values), kept in zip(read.layers, read.kept, strict=True):
        ascends = bool((kept[:, 1:] > kept[:, :-1]).all())
        inside = bool(((kept >= free.start) & (kept < free.stop)).all())
        if not ascends or not inside or kept.shape != shape or shape[1] > given.keep:
            raise ValueError(
                f"{type(given).__name__}.read must keep at most {given.keep:,} positions of the document "
                f"({free.start:,} to {free.stop - 1:,}) in each group of heads, each once and ascending, "
                "and in all the same number"
            )
        if any(block.shape[:3] != (1, len(kept), length) for block in (keys, values)):
            raise ValueError(
                f"{type(given).__name__}.read must give keys and values of all {length:,} tokens, [1, "
                "groups, tokens, D], and choose for each group of heads"
            )


def check_prunable(model: Any) -> None:
    """Refuses models whose layers do not all attend to all tokens.

    Raises:
        CannotPrune: says what to use instead.
    """
    config, name = text_config(model), type(model).__name__
    types = set(getattr(config, "layer_types", None) or ())
    sliding = not types and getattr(config, "sliding_window", None) is not None
    if sliding or types - {"full_attention"}:
        strange = "sliding attention" if sliding else ", ".join(sorted(types - {"full_attention"}))
        raise CannotPrune(
            f"{name} has layers of {strange}, whose keys and values are not those of all tokens; shorten "
            "the prompt instead: AskAgain(keep=...)"
        )
    if getattr(config, "alibi", False) or getattr(config, "is_encoder_decoder", False):
        raise CannotPrune(
            f"{name} does not have its positions in its keys; shorten the prompt instead: "
            "AskAgain(keep=...)"
        )


def refuse_pruning(given: Any, place: str) -> None:
    """Refuses filters of caches where texts are written side by side.

    Raises:
        CannotPrune: says what to use instead.
    """
    if isinstance(given, CacheFilter):
        raise CannotPrune(
            f"{place} writes texts side by side, and {type(given).__name__} shortens the cache of one; use "
            "extract for each, or shorten the prompts: AskAgain(keep=...)"
        )


def check_writer(given: Any, generate: Any, generation: Mapping[str, Any]) -> None:
    """Refuses ways of writing that cannot go on with a cache that a filter has shortened.

    Args:
        given: the filter.
        generate: what writes; ``None`` for ``model.generate``.
        generation: options of ``model.generate``.

    Raises:
        CannotPrune: says what is in the way.
    """
    if not isinstance(given, CacheFilter):
        return
    name = type(given).__name__
    if generate is not None:
        if "pruned" not in inspect.signature(generate).parameters:
            raise CannotPrune(
                f"{name} hands keys and values to what writes, and generate= takes no pruned=; leave it "
                "out, or shorten the prompt instead: AskAgain(keep=...)"
            )
        return
    strange = sorted(generation.keys() - HARMLESS)
    if strange:
        raise CannotPrune(
            f"{strange[0]} may need a whole cache, and {name} leaves keys and values out; leave one of "
            "them out"
        )
