"""Texts of rules with marks of layout, written with the blanks that the marks need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from grammars.ir import END_INDENT, END_SAME, LINE_INDENT, LINE_SAME, Layout
from grammars.layout.widths import FLAT, Stack, width_behind

_BLANK: Final = b" "


def written(
    symbols: Sequence[int],
    layout: Layout,
    *,
    stack: Stack = FLAT,
    width: int = 0,
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
            at += 1
            continue
        begin = at
        while at < len(symbols) and symbols[at] >= 256:
            at += 1
        marks, is_last = symbols[begin:at], at == len(symbols)
        wanted = _width(marks, levels, width, is_last, unit * wider() if _indents(marks) else 0)
        if wanted is None:
            continue
        if width > wanted or (wanted - width) % unit:
            out += b"\n"
            width = 0
        out += blank * ((wanted - width) // unit)
        width = wanted
    return bytes(out)


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
