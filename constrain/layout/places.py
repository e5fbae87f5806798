"""How places of a grammar with layout move: readings of the rules, each with its levels, and a width."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from constrain.engine.pool import DEAD, StatePool
from constrain.layout.depths import Depths
from constrain.layout.newlines import newlines_of
from grammars.ir import END_DEDENT, END_INDENT, END_SAME, Layout
from grammars.layout.widths import FLAT, LINE_MARKS, Stack, marks_of, width_behind

Reading: TypeAlias = tuple[int, Stack]
"""A state of the rules' pool, and the levels that are open there."""

_BEGINS: Final = 1
_ENDS: Final = 2
_COUNTS: Final = 4
"""Of a kind of state: a line may begin, the text may end with a newline, its width is being counted."""


class Spot(NamedTuple):
    """What a place stands for.

    Attributes:
        readings: of the text, ascending; nearly always one.
        width: blanks since the last line end, if a line may begin here by some reading; else 0.
    """

    readings: tuple[Reading, ...]
    width: int


class Moves:
    """Steps of places by bytes; what is no state of the pool is never asked for.

    Args:
        pool: of the rules; the caller holds its lock.
        layout: how indentation is read.
        start: the rules' state of the empty text.
    """

    def __init__(self, pool: StatePool, layout: Layout, start: int) -> None:
        self._pool = pool
        self._layout = layout
        self._awaited: Final = self._classes(LINE_MARKS)
        self._ending: Final = self._classes((END_SAME, END_INDENT))
        self._newlines: Final = newlines_of(pool.program)
        self._kinds: dict[int, int] = {}
        self._depths: Final = Depths(pool)
        self.start: Final = self.spot({(start, FLAT): None}, 0)

    def _classes(self, marks: tuple[int, ...]) -> int:
        program = self._pool.program
        return sum({1 << int(program.byte_class[mark]) for mark in marks if mark in program.marks})

    def _kind(self, state: int) -> int:
        known = self._kinds.get(state)
        if known is None:
            found = self._pool.classes(state)
            known = _BEGINS if found & self._awaited else 0
            known |= _ENDS if found & self._ending else 0
            inside = self._newlines.inside
            if inside and any(q in inside for q, _, _ in self._pool.items(state)):
                known |= _COUNTS
            self._kinds[state] = known
        return known

    @property
    def closing(self) -> frozenset[int]:
        """The bytes by which a newline may end, line ends and blanks aside."""
        return self._newlines.closing

    def forget(self) -> None:
        """To be called when states were forgotten."""
        self._kinds.clear()
        self._depths.forget()

    def is_deep(self, stack: Stack) -> bool:
        """Whether so many levels are open that some state may need more than are allowed."""
        return len(stack) + self._depths.most > self._layout.max_depth

    def is_live(self, state: int, stack: Stack) -> bool:
        """Whether a text can be completed with no more levels than are allowed."""
        if not self.is_deep(stack):
            return True
        return len(stack) + self._depths.needed(state) <= self._layout.max_depth

    def may_begin(self, state: int) -> bool:
        """Whether a line may begin at a state of the rules: a mark of a newline is waited for."""
        return self._kind(state) & _BEGINS != 0

    def is_newline(self, state: int) -> bool:
        """Whether the width of a line matters at a state of the rules.

        It may begin, or be the last, or the newline before it ends with a comment that is being read.
        """
        return self._kind(state) != 0

    def begun(self, state: int, stack: Stack, width: int) -> Reading | None:
        """The reading in which the newline ends here and a line begins; ``None`` where it cannot."""
        marks, levels = marks_of(stack, width, self._layout, end=False)
        state = self._marked(state, marks) if marks else DEAD
        return None if state == DEAD else (state, levels)

    def _marked(self, state: int, marks: tuple[int, ...]) -> int:
        for mark in marks:
            if state == DEAD:
                break
            state = self._pool.advance_symbol(state, mark)
        return state

    def by_bytes(self, spot: Spot, data: bytes) -> Spot | None:
        """The place behind some bytes; ``None`` if no text goes on so."""
        readings, width = dict.fromkeys(spot.readings), spot.width
        for i, byte in enumerate(data):
            out: dict[Reading, None] = {}
            for state, stack in readings:
                after = self._pool.advance_symbol(state, byte)
                if after != DEAD:
                    out[after, stack] = None
                if self.may_begin(state):
                    begun = self.begun(state, stack, width)
                    if begun is not None:
                        after = self._pool.advance_symbol(begun[0], byte)
                        if after != DEAD:
                            out[after, begun[1]] = None
            if not out:
                return None
            readings = out
            width = width_behind(width, data[i : i + 1], self._layout.tab_length)
        live = {reading: None for reading in readings if self.is_live(*reading)}
        return self.spot(live, width) if live else None

    def spot(self, readings: dict[Reading, None], width: int) -> Spot:
        """The place of readings, its width left out where no newline may just have been read."""
        ordered = tuple(sorted(readings))
        return Spot(ordered, width if any(self._kind(state) for state, _ in ordered) else 0)

    def accepts(self, spot: Spot) -> bool:
        """Whether the text may end here."""
        for state, stack in spot.readings:
            if self._pool.accepting(self._marked(state, (END_DEDENT,) * len(stack))):
                return True
            if self._kind(state) & _ENDS:
                marks, _ = marks_of(stack, spot.width, self._layout, end=True)
                if marks and self._pool.accepting(self._marked(state, marks)):
                    return True
        return False
