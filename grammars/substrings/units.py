"""Where spans of a text begin and end, and which differences between texts do not count.

A text becomes a sequence of symbols: its characters, and around the places where a span may begin or end
two marks.  Whether there are marks between two characters is decided by these two alone, so an automaton
that reads the sequence can skip them without a choice (:mod:`grammars.substrings.kernels`).
"""

from __future__ import annotations

import unicodedata
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from grammars.errors import GrammarError

Unit: TypeAlias = Literal["chars", "words", "lines"]
Fold: TypeAlias = Literal["space", "case"]

UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
FOLDS: Final[tuple[Fold, ...]] = get_args(Fold)

Int32: TypeAlias = npt.NDArray[np.int32]

_NEW_LINE: Final = 0x0A
_BLANK: Final = 0
_WORD: Final = 1
_ALONE: Final = 2

_CLOSING: Final = frozenset(",.;:!?)]}\u00bb\u201d\u2026\u3001\u3002")
"""Signs that belong to what they stand right behind: no span begins with one there."""
_OPENING: Final = frozenset("([{\u00ab\u201c")
"""Signs that belong to what they stand right before: no span ends with one there."""

_WITHOUT_SPACES: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Scripts that put no blanks between words: any of their characters may begin and end a span."""


class Sequence(NamedTuple):
    """A text as symbols.

    Attributes:
        symbols: int32[n], indices of ``characters``; ``len(characters)`` marks where a span may end, the
            number after it where one may begin (between the same characters the end comes first).
        characters: the characters that occur, as a span is written with them.
        marked: whether there are marks; without any, spans begin and end anywhere.
    """

    symbols: Int32
    characters: list[str]
    marked: bool


def check_text(text: object, what: str) -> None:
    """Refuses what is no text of characters.

    Args:
        text: what was given.
        what: what it is called in messages.

    Raises:
        TypeError: if it is no ``str``.
        GrammarError: if it has a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}: {text!r:.80}")
    at = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
    if at is not None:
        raise GrammarError(
            f"character {at} of {what} is a lone surrogate, {text[at]!r}, which no UTF-8 can write; "
            "decode the text with errors='replace'"
        )


def sequence(text: str, unit: Unit, fold: frozenset[Fold]) -> Sequence:
    """The symbols of a text: folded, and marked where spans of a unit begin and end."""
    if "space" in fold:
        text = _with_single_spaces(text, lines=unit == "lines")
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    if "case" in fold:
        points = _in_one_case(points)
    known, found = np.unique(points, return_inverse=True)
    characters = [chr(point) for point in known.tolist()]
    symbols: Int32 = found.astype(np.int32)
    if unit == "chars" or not len(symbols):
        return Sequence(symbols, characters, marked=False)
    if unit == "words":
        before, after = _around_words(characters, symbols)
    else:
        before, after = _around_lines(known[symbols])
    return Sequence(_with_marks(symbols, len(characters), before, after), characters, marked=True)


def _with_single_spaces(text: str, *, lines: bool) -> str:
    """Runs of white space as one blank each, those with a line end as a line end where lines matter."""
    if lines:
        kept = (" ".join(line.split()) for line in text.splitlines())
        return "\n".join(line for line in kept if line)
    return " ".join(text.split())


def _in_one_case(points: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The characters in lower case, where that is one character."""
    known, inverse = np.unique(points, return_inverse=True)
    lower = [ord(low) if len(low := chr(p).lower()) == 1 else p for p in known.tolist()]
    return np.array(lower, np.uint32)[inverse]


def in_any_case(character: str) -> tuple[str, ...]:
    """The characters that fold to one, as :func:`sequence` folds."""
    found = {character, character.upper(), character.title()}
    return tuple(sorted(c for c in found if len(c) == 1 and c.lower() in (character, c)))


def _kind(character: str) -> int:
    """Blank, part of a word, or neither (and so a word of its own)."""
    if character.isspace():
        return _BLANK
    point = ord(character)
    if any(low <= point <= high for low, high in _WITHOUT_SPACES):
        return _ALONE
    is_word = character == "_" or unicodedata.category(character)[0] in "LNM"
    return _WORD if is_word else _ALONE


def are_words(text: str, begin: int, end: int) -> bool:
    """Whether a span that is not empty begins and ends where words do."""
    return _is_border(text, begin) and _is_border(text, end)


def _is_border(text: str, at: int) -> bool:
    """Whether no word goes on across a place."""
    if not 0 < at < len(text):
        return True
    before, after = _kind(text[at - 1]), _kind(text[at])
    return before != after or after == _ALONE


def _around_words(characters: list[str], symbols: Int32) -> tuple[Marks, Marks]:
    """Where a word ends before, and begins at, each character and the end of the text."""
    kind = np.array([*map(_kind, characters)], np.int8)[symbols]
    closes = np.array([c in _CLOSING for c in characters])[symbols]
    opens = np.array([c in _OPENING for c in characters])[symbols]
    between = (kind[1:] != kind[:-1]) | (kind[1:] == _ALONE)
    end = between & (kind[:-1] != _BLANK) & ~(opens[:-1] & (kind[1:] != _BLANK))
    begin = between & (kind[1:] != _BLANK) & ~(closes[1:] & (kind[:-1] != _BLANK))
    ends = np.concatenate(([False], end, [kind[-1] != _BLANK]))
    begins = np.concatenate(([kind[0] != _BLANK], begin, [False]))
    return ends, begins


def _around_lines(points: npt.NDArray[np.uint32]) -> tuple[Marks, Marks]:
    """Where a line that is not empty ends before, and begins at, each character and the end."""
    line = points != _NEW_LINE
    ends = np.concatenate(([False], line[:-1] & ~line[1:], [line[-1]]))
    begins = np.concatenate(([line[0]], ~line[:-1] & line[1:], [False]))
    return ends, begins


Marks: TypeAlias = npt.NDArray[np.bool_]


def _with_marks(symbols: Int32, characters: int, ends: Marks, begins: Marks) -> Int32:
    """The symbols with marks before each, and at the end."""
    rows = np.full((len(symbols) + 1, 3), -1, np.int32)
    rows[ends, 0] = characters
    rows[begins, 1] = characters + 1
    rows[:-1, 2] = symbols
    flat = rows.ravel()
    return flat[flat >= 0]


__all__ = [
    "FOLDS",
    "UNITS",
    "Fold",
    "Sequence",
    "Unit",
    "are_words",
    "check_text",
    "in_any_case",
    "sequence",
]
