"""Texts of rules with marks of layout, written with the blanks that the marks need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from grammars.ir import END_INDENT, END_SAME, LINE_INDENT, LINE_SAME, Layout
from grammars.layout.widths import BLANKS, FLAT, NEWLINE, Stack, width_behind

_BLANK: Final = b" "


def written(
    symbols: Sequence[int],
    layout: Layout,
    *,
    stack: Stack = FLAT,
    width: int = 0,
    bare: bool = True,
    blank: bytes = _BLANK,
    wider: Callable[[], int] = lambda: 1,
) -> bytes:
    """The text of bytes and marks from some place on.

    Where a newline is not as wide as its mark needs, blanks are added, or a line end and blanks.

    Args:
        symbols: bytes and marks.
        layout: how indentation is read.
        stack: the levels that are open there.
        width: blanks since the last line end there.
        bare: whether nothing but blanks is on that line: a newline that ends with a comment takes no more
            blanks.
        blank: what blanks are written with: a blank or a tab.
        wider: by how many of them the next level is wider.
    """
    unit = 1 if blank == _BLANK else layout.tab_length
    out = bytearray()
    levels = list(stack)
    at = 0
    while at < len(symbols):
        symbol = symbols[at]
        if symbol < 256:
            out.append(symbol)
            width = width_behind(width, bytes((symbol,)), layout.tab_length)
            bare = symbol == NEWLINE or (bare and symbol in BLANKS)
            at += 1
            continue
        begin = at
        while at < len(symbols) and symbols[at] >= 256:
            at += 1
        marks, is_last = symbols[begin:at], at == len(symbols)
        wanted = _width(marks, levels, width, is_last, unit * wider() if _indents(marks) else 0)
        if wanted is None:
            continue
        if width > wanted or (wanted - width) % unit or (width < wanted and not bare):
            out += b"\n"
            width, bare = 0, True
        out += blank * ((wanted - width) // unit)
        width = wanted
    return bytes(out)


def ends_with_comments(symbols: Sequence[int]) -> bool:
    """Whether a line begins behind a newline that ends with more than a line end and blanks.

    Where such a newline was mended, what follows may be read in another way: blanks that were ignored
    and newlines of their own become a part of it.
    """
    last = max((i for i, symbol in enumerate(symbols) if symbol < 256), default=-1)
    return any(
        before < 256 <= symbol and before != NEWLINE and before not in BLANKS
        for before, symbol in pairwise(symbols[: last + 1])
    )


def _indents(marks: Sequence[int]) -> bool:
    return marks[0] in (LINE_INDENT, END_INDENT)


def _width(
    marks: Sequence[int], levels: list[int], width: int, is_last: bool, wider: int
) -> int | None:
    """The width that marks need, whose levels are opened and closed; ``None`` if any will do."""
    top = levels[-1] if levels else 0
    if _indents(marks):
        wanted = width if is_last and width > top else top + wider
        levels.append(wanted)
        return wanted
    if is_last:
        if marks[0] not in (LINE_SAME, END_SAME):
            return None  # no newline was read: levels end with the text
        return width if width in (0, *levels) else 0
    if marks[0] == LINE_SAME:
        return top
    del levels[len(levels) - len(marks) :]
    return levels[-1] if levels else 0
