"""A source text, and how the values that a grammar writes are tied to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

from grammars.sources.dates import dates_of, moments_of, times_of
from grammars.sources.labels import Labelled
from grammars.sources.numbers import FoundNumber, numbers_of
from grammars.substrings.units import Fold, Unit, check_text

Tie: TypeAlias = Literal["verbatim", "inferred"] | Labelled
"""Whether a value has to stand in the source, perhaps behind a label, or may be anything allowed."""

KEYWORD: Final = "x-gramma-source"
"""The keyword of a schema that says it."""
LABELS: Final = "x-gramma-labels"
"""The keyword beside it that lists labels."""
UNIT: Final[Unit] = "words"
"""Strings begin and end where words do."""
FOLD: Final[frozenset[Fold]] = frozenset(["space"])
"""Runs of white space, line ends among them, are one blank."""


@dataclass(frozen=True)
class Source:
    """A text that values are taken from.

    Attributes:
        text: the text.
        grounded: whether strings and numbers have to stand in it unless a schema says otherwise; else only
            those that a schema says so of.
        explains: whether a grammar notes which values cannot stand in it; costs compiling each once more.

    Raises:
        TypeError: if the text is no ``str``.
        GrammarError: if it has a lone surrogate.
    """

    text: str
    grounded: bool = False
    explains: bool = False

    def __post_init__(self) -> None:
        check_text(self.text, "source")

    def ties(self, said: Tie | None) -> bool:
        """Whether a value of which a schema says so much has to stand in the text."""
        return said == "verbatim" or isinstance(said, Labelled) or (self.grounded and said is None)

    def parts(self, said: Tie | None) -> list[Source]:
        """Where such a value stands: behind its label, if the text has that; else anywhere."""
        if not isinstance(said, Labelled):
            return [self]
        pieces = dict.fromkeys(piece.strip() for piece in said.pieces(self.text))
        return [Source(piece, self.grounded, self.explains) for piece in pieces] or [self]

    @cached_property
    def numbers(self) -> tuple[FoundNumber, ...]:
        """The numbers of the text, each value with each spelling once."""
        return tuple({(one.value, one.text): one for one in numbers_of(self.text)}.values())

    @cached_property
    def moments(self) -> tuple[str, ...]:
        """The dates and times of the text, alone and together, as ISO 8601 writes them, each once."""
        found = {one.text for one in dates_of(self.text)}
        found.update(written for one in times_of(self.text) for written in one.texts)
        return tuple(sorted(found.union(moments_of(self.text))))


__all__ = ["FOLD", "KEYWORD", "LABELS", "UNIT", "Labelled", "Source", "Tie"]
