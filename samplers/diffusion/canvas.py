"""What a diffusion model fills in: fixed text, masks and gaps, as a row of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import SupportsIndex, TypeAlias

from constrain.vocabulary import Vocabulary


@dataclass(frozen=True)
class Masks:
    """Exactly ``n`` mask tokens."""

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n)


@dataclass(frozen=True)
class Gap:
    """Any number of tokens up to ``max_tokens``."""

    max_tokens: int

    def __post_init__(self) -> None:
        _check_count(self.max_tokens)


Part: TypeAlias = str | bytes | int | Masks | Gap | None
"""Fixed text, a fixed token id, ``None`` for one mask, several masks, a gap."""


class Kind(Enum):
    """What a cell may become."""

    TEXT = "text"
    MASK = "mask"
    SLOT = "slot"
    EOS = "eos"
    NEVER = "never"


@dataclass(frozen=True)
class Cell:
    """One place of a canvas.

    Attributes:
        kind: ``TEXT`` is fixed (``data``; a slot left empty has none), ``MASK`` becomes one token,
            ``SLOT`` one token or nothing, ``EOS`` is fixed, ``NEVER`` is a special token, which no
            text has.
        data: the bytes of fixed text.
    """

    kind: Kind
    data: bytes = b""

    @property
    def is_open(self) -> bool:
        """Whether something can still be chosen here."""
        return self.kind in (Kind.MASK, Kind.SLOT)

    @property
    def may_follow_end(self) -> bool:
        """Whether the cell can be behind the end of the text."""
        return self.is_open or self.kind is Kind.EOS or self == EMPTY


MASK = Cell(Kind.MASK)
SLOT = Cell(Kind.SLOT)
EOS = Cell(Kind.EOS)
NEVER = Cell(Kind.NEVER)
EMPTY = Cell(Kind.TEXT)


def cells_of(
    parts: Iterable[Part], vocabulary: Vocabulary, cell_of: Callable[[int], Cell] | None = None
) -> list[Cell]:
    """The cells of a canvas: one for each mask and slot, token id and text.

    Args:
        parts: of the canvas.
        vocabulary: the tokens.
        cell_of: in place of :func:`cell_of_token`, for one that remembers.

    Raises:
        TypeError: for a part of another kind.
        ValueError: for an id outside the vocabulary, or text with bytes that no token has.
    """
    cells: list[Cell] = []
    for part in parts:
        if cell_of is not None and type(part) is int:
            cells.append(cell_of(part))
        elif part is None:
            cells.append(MASK)
        elif isinstance(part, Masks):
            cells.extend([MASK] * part.n)
        elif isinstance(part, Gap):
            cells.extend([SLOT] * part.max_tokens)
        elif isinstance(part, str | bytes):
            cells.append(_fixed(part, vocabulary))
        else:
            cells.append(cell_of_token(part, vocabulary))
    return cells


def checked_token(token: object, vocabulary: Vocabulary) -> int:
    """A token id of a vocabulary.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is outside the vocabulary.
    """
    if isinstance(token, bool) or not isinstance(token, SupportsIndex):
        raise TypeError(
            "a canvas is made of str, bytes, token ids, None, Masks and Gap, "
            f"not {type(token).__name__}"
        )
    number = token.__index__()
    if not 0 <= number < vocabulary.size:
        raise ValueError(f"token id {number} is outside the vocabulary of {vocabulary.size:,} ids")
    return number


def cell_of_token(token: int, vocabulary: Vocabulary) -> Cell:
    """The cell of a fixed token."""
    number = checked_token(token, vocabulary)
    if number in vocabulary.eos_token_ids:
        return EOS
    data = vocabulary.token_bytes(number)
    return Cell(Kind.TEXT, data) if data else NEVER


def text_bounds(cells: list[Cell], eos_padding: bool) -> range:
    """The boundaries between cells at which the text may end.

    Without padding that is the end of the canvas, and no EOS may stand in it.  With it, all that
    follows the end must be able to be EOS, and what is EOS already must follow it.
    """
    last = len(cells)
    kinds = [cell.kind for cell in cells]
    first_eos = kinds.index(Kind.EOS) if Kind.EOS in kinds else None
    if not eos_padding:
        return range(last, last + (first_eos is None))
    first = last
    while first and cells[first - 1].may_follow_end:
        first -= 1
    return range(first, (last if first_eos is None else first_eos) + 1)


def _fixed(text: str | bytes, vocabulary: Vocabulary) -> Cell:
    data = text.encode() if isinstance(text, str) else bytes(text)
    lacking = next((b for b in data if not vocabulary.bytes_in_tokens[b]), None)
    if lacking is not None:
        raise ValueError(f"{text!r} cannot be written in tokens: none has the byte 0x{lacking:02x}")
    return Cell(Kind.TEXT, data)


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"a number of tokens is an int, not {type(count).__name__}")
    if count < 0:
        raise ValueError(f"a number of tokens cannot be negative: {count}")
