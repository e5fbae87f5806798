"""The widths of lines and the levels that they open and close.

What indentation does is a function of the text but for one thing, which the rules know: which newlines
count.  So the state is a stack of widths for each reading of the rules, and the width of the line that may
begin here, which is the same for all readings.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from grammars.ir import (
    END_DEDENT,
    END_INDENT,
    END_SAME,
    LINE_DEDENT,
    LINE_INDENT,
    LINE_SAME,
    Layout,
)

Stack: TypeAlias = tuple[int, ...]
"""Widths of the levels that are open, the outermost first: strictly ascending, each above 0."""

NEWLINE: Final = 0x0A
_TAB: Final = 0x09
_BLANK: Final = 0x20
BLANKS: Final = (_TAB, _BLANK)
FLAT: Final[Stack] = ()
LINE_MARKS: Final = (LINE_SAME, LINE_INDENT, LINE_DEDENT)
"""The marks that come before further text."""
END_MARKS: Final = (END_SAME, END_INDENT, END_DEDENT)


def width_behind(width: int, data: bytes, tab: int) -> int:
    """The blanks since the last line end behind some more bytes, tabs as so many."""
    at = data.rfind(NEWLINE)
    if at >= 0:
        width, data = 0, data[at + 1 :]
    return width + data.count(_BLANK) + tab * data.count(_TAB)


def marks_of(
    stack: Stack, width: int, layout: Layout, *, end: bool
) -> tuple[tuple[int, ...], Stack]:
    """What a newline that counts puts before the line that follows: marks, and the levels open then.

    Args:
        stack: the levels that are open.
        width: of the line.
        layout: bounds.
        end: whether the text ends with it.  Then all levels end.

    Returns:
        No marks at all where the width fits no level, or too many levels are open.
    """
    top = stack[-1] if stack else 0
    if width > top:
        if len(stack) >= layout.max_depth:
            return (), stack
        if end:
            return (END_INDENT, *(END_DEDENT,) * (len(stack) + 1)), FLAT
        return (LINE_INDENT,), (*stack, width)
    kept = tuple(level for level in stack if level <= width)
    if width != (kept[-1] if kept else 0):
        return (), stack
    if end:  # the levels that the width ends end anyway
        return (END_SAME, *(END_DEDENT,) * len(stack)), FLAT
    return (LINE_DEDENT,) * (len(stack) - len(kept)) or (LINE_SAME,), kept
