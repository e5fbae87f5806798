"""What shortens prompts or caches: protocols, the application of the first, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from constrain.arguments import described
from constrain.huggingface.shortening.document import Document
from constrain.huggingface.shortening.selection import Unit, best_lines, best_tokens
from constrain.vocabulary import Vocabulary
from grammars.json_places import Span

KeysAndValues: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Of one layer, [rows, groups, tokens, D] each; a group is the heads that have keys in common."""

SINKS: Final = 4
"""Tokens at a prompt's beginning that are always kept: much attention goes to them whatever they are, and
models fail without (Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks")."""


@dataclass(frozen=True)
class LongPrompt:
    """A prompt, and what of it may be dropped.

    Attributes:
        ids: token ids of the whole prompt.
        document: positions that may be dropped.  All others are kept: instructions, schema, examples, the
            marks of the chat template, and the first :data:`SINKS` tokens, whatever they are.
        lines: parts of ``document``, which they make up: each line with its line break.
    """

    ids: Sequence[int]
    document: range
    lines: tuple[range, ...]


@runtime_checkable
class PromptFilter(Protocol):
    """Chooses which tokens of a long document a model reads.

    Attributes:
        keep: tokens of the document that are kept at most.  A document that is not longer is read whole,
            and the filter is not asked.
    """

    @property
    def keep(self) -> int: ...

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        """Positions of ``prompt.document`` that are kept, at most ``keep``, ascending.

        Args:
            model: that will read what is kept.
            prompt: longer than may be kept.

        Raises:
            BudgetError: if the filter cannot read a prompt so long.
            ValueError: if it cannot use the model.
        """


@dataclass(frozen=True)
class KeysRead:
    """A prompt that a model has read to its end, and which keys of its document are to stay.

    Attributes:
        layers: keys and values of all tokens of the prompt, floating[1, groups, len(prompt.ids), D] each.
        kept: of each layer, positions of ``prompt.document``, int64[groups, k], each row ascending; k is
            the same everywhere.
    """

    layers: list[KeysAndValues]
    kept: list[torch.Tensor]


@runtime_checkable
class CacheFilter(Protocol):
    """Chooses which keys and values of a long document stay when a model has read it.

    Attributes:
        keep: tokens of the document whose keys and values stay in each head, at most.  Those of a
            document that is not longer all stay, and the filter is not asked.
    """

    @property
    def keep(self) -> int: ...

    def read(self, model: Any, prompt: LongPrompt) -> KeysRead:
        """Has a model read a prompt, and chooses of ``prompt.document``, at most ``keep`` tokens a head.

        Args:
            model: that reads, and goes on with what stays.
            prompt: longer than may be kept.

        Raises:
            BudgetError: if the prompt is too long to be read.
            ValueError: if the filter cannot use the model.
        """


AnyFilter: TypeAlias = PromptFilter | CacheFilter


@dataclass(frozen=True)
class Shortened:
    """What was read, or remembered, of a document that was shortened.

    Attributes:
        by: the filter.
        tokens: tokens of the document.
        kept: of these, tokens that were read; by a :class:`CacheFilter`, whose model reads everything,
            those that each head of each layer has kept.
        spans: the parts of the text that were read: (start, end), in characters, ascending.  Of the text
            that was given; with chat messages, of ``source``.  Heads keep different tokens: by a
            :class:`CacheFilter` these are the parts that any head of any layer has kept, which are many
            more than ``kept`` tokens.
    """

    by: AnyFilter
    tokens: int
    kept: int
    spans: tuple[Span, ...] = field(repr=False)

    @property
    def lossy(self) -> bool:
        """Whether something was dropped, and the answer may be another than that of the whole text."""
        return self.kept < self.tokens

    @property
    def share(self) -> float:
        """The share of the document's tokens that was read."""
        return self.kept / self.tokens if self.tokens else 1.0


def check_filter(given: Any) -> None:
    """Refuses what is no filter.

    Raises:
        TypeError: says what is one.
    """
    if given is not None and (isinstance(given, type) or not isinstance(given, AnyFilter)):
        raise TypeError(
            "shorten must be a filter of prompts, as GemFilter(keep=1024) is, or of caches, as "
            f"SpecKV(keep=1024) is, not {described(given)}"
        )


def placed(ids: Sequence[int], text: str, vocabulary: Vocabulary) -> tuple[Document, LongPrompt]:
    """The document in a prompt, and what of it may be dropped.

    Args:
        ids: of the whole prompt.
        text: the document, which stands in it.
        vocabulary: of the model.

    Raises:
        ValueError: if the document is not found.
    """
    document = Document.found(text, ids, vocabulary)
    free = range(max(document.tokens.start, SINKS), document.tokens.stop)
    lines = tuple(cut for line in document.lines if (cut := _within(line, free)))
    return document, LongPrompt(ids, free, lines)


def shortened(
    model: Any, ids: Sequence[int], text: str, vocabulary: Vocabulary, given: PromptFilter
) -> tuple[list[int], Shortened]:
    """A prompt without what a filter leaves out of its document.

    Args:
        model: that will read it.
        ids: of the whole prompt.
        text: the document, which stands in it.
        vocabulary: of the model.
        given: the filter.

    Returns:
        The ids that are left, in their order, and what is told of them.

    Raises:
        BudgetError, ValueError: as :meth:`PromptFilter.choose`; if the document is not found, or the filter
            chooses what it may not.
    """
    document, prompt = placed(ids, text, vocabulary)
    free = prompt.document
    if len(document.tokens) <= given.keep or not free:
        kept: Sequence[int] = document.tokens
    else:
        always = range(document.tokens.start, free.start)
        kept = [*always, *_checked(given.choose(model, prompt), given, free)]
    told = Shortened(given, len(document.tokens), len(kept), document.spans(kept))
    left = [
        *ids[: document.tokens.start], *(ids[i] for i in kept), *ids[document.tokens.stop :]
    ]  # fmt: skip
    return left, told


def selected(
    scores: torch.Tensor, prompt: LongPrompt, keep: int, unit: Unit, neighbours: int = 1
) -> list[int]:
    """What a filter's scores choose of a prompt.

    Args:
        scores: floating[len(prompt.ids)]; only those of the document count.
        prompt: that they are of.
        keep: tokens at most.
        unit: what is kept or dropped as one.
        neighbours: as :func:`best_tokens` takes them; for single tokens.

    Returns:
        Positions in the prompt, ascending.
    """
    begin = prompt.document.start
    part = scores[begin : prompt.document.stop]
    values = np.asarray(part.float().cpu().numpy(), np.float32)
    if unit == "lines":
        lines = [range(line.start - begin, line.stop - begin) for line in prompt.lines]
        chosen = best_lines(values, keep, lines)
    else:
        chosen = best_tokens(values, keep, neighbours)
    return [begin + i for i in chosen]


def _within(line: range, free: range) -> range:
    return range(max(line.start, free.start), min(line.stop, free.stop))


def _checked(chosen: Sequence[int], given: PromptFilter, free: range) -> list[int]:
    kept = [int(i) for i in chosen]
    ascends = all(a < b for a, b in pairwise(kept))
    if not ascends or len(kept) > given.keep or any(i not in free for i in kept):
        raise ValueError(
            f"{type(given).__name__}.choose must return at most {given.keep:,} positions of the document "
            f"({free.start:,} to {free.stop - 1:,}), each once and ascending"
        )
    return kept
