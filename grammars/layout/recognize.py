"""Texts of a grammar with layout: the rules and the widths of lines side by side, in plain Python."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from grammars.explain import (
    Explanation,
    excerpt,
    expectations,
    message_of,
    open_rules,
    place,
    rule_path,
)
from grammars.ir import END_DEDENT, Layout
from grammars.layout.widths import (
    END_MARKS,
    FLAT,
    LINE_MARKS,
    NEWLINE,
    Stack,
    marks_of,
    width_behind,
)
from grammars.recognizer import DEAD, Recognizer

Reading: TypeAlias = tuple[int, Stack]
"""A state of the recognizer, and the levels that are open there."""


class LayoutReader:
    """Follows texts through rules that wait for marks of layout.

    Args:
        recognizer: of the rules.
        layout: how indentation is read.

    Attributes:
        start: the readings of the empty text.
    """

    def __init__(self, recognizer: Recognizer, layout: Layout) -> None:
        self.recognizer: Final = recognizer
        self.layout: Final = layout
        self.start: Final[tuple[Reading, ...]] = (
            ((recognizer.start, FLAT),) if recognizer.start != DEAD else ()
        )
        classes = recognizer.classes_of(LINE_MARKS)
        self._may_begin: Final = classes

    def run(self, data: bytes) -> tuple[tuple[Reading, ...], int, int]:
        """The readings behind the longest beginning of a text that is one of some text of the language.

        Returns:
            The readings, how many bytes were possible, and the width of the line there.
        """
        readings, width, at = self.start, 0, 0
        recognizer, awaited = self.recognizer, self._may_begin
        while at < len(data) and readings:
            if len(readings) == 1:
                # most bytes are far from any newline: one reading, no mark in sight
                state, stack = readings[0]
                begin = at
                state, at = recognizer.run_until(data, at, state, awaited)
                if at > begin:
                    width = width_behind(width, data[begin:at], self.layout.tab_length)
                    readings = ((state, stack),)
                if at == len(data):
                    break
            after = self.step(readings, data[at], width)
            if not after:
                break
            width = width_behind(width, data[at : at + 1], self.layout.tab_length)
            readings = after
            at += 1
        return readings, at, width

    def step(self, readings: Iterable[Reading], byte: int, width: int) -> tuple[Reading, ...]:
        """The readings behind one more byte; none if no text of the language goes on so."""
        advance = self.recognizer.advance
        out: dict[Reading, None] = {}
        for state, stack in readings:
            after = advance(state, byte)
            if after != DEAD:
                out[after, stack] = None
            if self.recognizer.can_take(state, self._may_begin):
                for begun, levels in self._begun(state, stack, width):
                    after = advance(begun, byte)
                    if after != DEAD:
                        out[after, levels] = None
        return tuple(out)

    def _begun(self, state: int, stack: Stack, width: int) -> list[Reading]:
        """The reading in which a newline ends here and a line begins; none where it cannot."""
        marks, levels = marks_of(stack, width, self.layout, end=False)
        state = self._marked(state, marks) if marks else DEAD
        return [] if state == DEAD else [(state, levels)]

    def _marked(self, state: int, marks: Iterable[int]) -> int:
        for mark in marks:
            state = self.recognizer.advance(state, mark)
        return state

    def accepts(self, readings: Iterable[Reading], width: int) -> bool:
        """Whether the text may end here."""
        accepting = self.recognizer.accepting
        for state, stack in readings:
            if accepting[self._marked(state, (END_DEDENT,) * len(stack))]:
                return True
            marks, _ = marks_of(stack, width, self.layout, end=True)
            if marks and accepting[self._marked(state, marks)]:
                return True
        return False

    def line(self, readings: Iterable[Reading], width: int) -> list[Reading]:
        """The readings in which a line begins here, beside those in which the newline goes on."""
        return [
            begun
            for state, stack in readings
            if self.recognizer.can_take(state, self._may_begin)
            for begun in self._begun(state, stack, width)
        ]


def accepts_with_layout(reader: LayoutReader, data: bytes) -> bool:
    """Whether the whole text is in the language."""
    readings, used, width = reader.run(data)
    return used == len(data) and reader.accepts(readings, width)


def explain_with_layout(reader: LayoutReader, data: bytes, names: frozenset[str]) -> Explanation:
    """Like :func:`grammars.explain.explain`; names widths that fit no level."""
    readings, offset, width = reader.run(data)
    line, column = place(data, offset)
    if offset == len(data) and reader.accepts(readings, width):
        return Explanation(True, offset, line, column, (), (), "accepted")
    recognizer = reader.recognizer
    begun = reader.line(readings, width)
    shown = [*begun, *readings]
    path = rule_path(recognizer, shown[0][0], names) if shown else ()
    expected = tuple(
        dict.fromkeys(word for state, _ in shown for word in expectations(recognizer, state))
    )
    message = message_of(data, offset, line, column, expected, path)
    if not begun:
        fault = _fault(reader, readings, data[offset : offset + 1], width)
        if fault:
            message = "\n".join(
                [
                    f"line {line}, column {column} (byte {offset}): {fault}",
                    *excerpt(data, offset),
                    *([open_rules(path)] if path else []),
                ]
            )
            expected = ()
    return Explanation(False, offset, line, column, expected, path, message)


def _fault(reader: LayoutReader, readings: Iterable[Reading], byte: bytes, width: int) -> str:
    """What is wrong with the width of the line that begins here; empty if it is not that."""
    recognizer = reader.recognizer
    for state, stack in readings:
        if not byte or byte[0] == NEWLINE:
            continue
        if not recognizer.can_take(state, recognizer.classes_of(LINE_MARKS)):
            continue
        levels = ", ".join(map(str, (0, *stack)))
        top = stack[-1] if stack else 0
        if width > top and len(stack) >= reader.layout.max_depth:
            return f"more than {reader.layout.max_depth} levels of indentation are open"
        if width > top:
            return f"unexpected indentation: the line is {width} wide, expected {top}"
        if width not in (0, *stack):
            return f"the line is {width} wide, which is no level of indentation that is open ({levels})"
        if width == top:
            return f"expected an indented line, wider than {top}"
        return f"unexpected end of a level of indentation: the line is {width} wide, expected {top}"
    return ""


__all__ = [
    "END_MARKS",
    "LayoutReader",
    "Reading",
    "accepts_with_layout",
    "explain_with_layout",
]
