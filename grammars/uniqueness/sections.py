"""Memory of JSON within free text: asleep up to a trigger, then that of the trigger's section.

A state of :class:`SectionMemory` is one of its own (how much of a trigger the text ends with, how
much of a section's end is to come, or "nothing to remember any more"), or a state of the memory of
the section that the text is in; ``Tracker.owner`` says whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Final

from grammars.free_text.triggers import Triggers
from grammars.ir import GrammarIR, Section
from grammars.uniqueness.memory import DONE, SCALAR, Marks, Memory, Tracker
from grammars.uniqueness.regions import RegionMemory
from grammars.uniqueness.values import Clash, first_clash

FREE: Final = 9
"""In free text; ``raw`` is the beginning of a trigger that the text ends with."""
ENDING: Final = 10
"""Behind a section's value; ``raw`` is what is to come before free text goes on."""
OFF: Final = 11
"""Nothing that follows matters."""
BLANK_BYTES: Final = b" \t\n\r"
"""What may stand between a trigger and a JSON answer, and between an answer and its end."""


class SectionMemory(Memory):
    """The memory of free text with sections.

    Args:
        sections: one for each trigger.
        repeated: free text goes on behind a section.
    """

    def __init__(self, sections: tuple[Section, ...], repeated: bool) -> None:
        super().__init__(False, False)
        self._repeated = repeated
        self._triggers = Triggers([section.trigger for section in sections])
        self._off = self.tracker(None, OFF)
        self._inner = [self._memory_of(section) for section in sections]
        # the number of the section whose memory, or a memory within it, owns a state
        self._section_of = {
            part: i
            for i, memory in enumerate(self._inner)
            if memory is not None
            for part in _parts(memory)
        }
        self._ends = [self._ending(s.end) if repeated else self._off for s in sections]
        self._begins = [
            self._begin(i, section.trigger if section.inside else b"")
            for i, section in enumerate(sections)
        ]
        self.start = self.tracker(None, FREE)

    def _memory_of(self, section: Section) -> Memory | None:
        """The memory of a section; where free text goes on it is needed to find the end."""
        if section.sections:
            return SectionMemory(section.sections, section.repeated)
        if self._repeated or section.distinct_keys or section.compare_items:
            return Memory(section.distinct_keys, section.compare_items, single=True)
        return None

    def _ending(self, rest: bytes) -> Tracker:
        return self.tracker(None, ENDING, rest) if rest else self.tracker(None, FREE)

    def _begin(self, number: int, read: bytes) -> Tracker:
        """The state behind a trigger, some bytes of which the section has read already.

        Rules know what in these repeats a key or an item (:func:`grammars.compiling.quotient.quotient`).
        """
        memory = self._inner[number]
        if memory is None:
            return self._off
        after, _, used = memory.advance(memory.start, read)
        if after is None or used < len(read):
            return self._off
        return self._ends[number] if self._is_over(after) else after

    @staticmethod
    def _is_over(tracker: Tracker) -> bool:
        """Whether the outermost value has ended, or nothing of it can matter."""
        return tracker.frame is None and tracker.mode in (SCALAR, DONE)

    # -- reading -------------------------------------------------------------------------------

    def advance(self, at: Tracker, data: bytes) -> tuple[Tracker | None, Marks, int]:
        marks: list[tuple[int, int]] = []
        i, n = 0, len(data)
        state: Tracker | None = at
        while i < n and state is not None:
            if state.owner is not self:
                state, found, used = self._within(state, data[i:])
                marks += [(i + offset, symbol) for offset, symbol in found]
                i += used
            elif state.mode == FREE:
                state, i = self._search(state, data, i)
            elif state.mode == ENDING:
                i = _end_of_blanks(state.raw, data, i)
                rest = state.raw[n - i :]
                i += len(state.raw) - len(rest)
                state = self._ending(rest)
            else:
                i = n
        return state, tuple(marks), i

    def _within(self, at: Tracker, data: bytes) -> tuple[Tracker | None, Marks, int]:
        number = self._section_of[at.owner]
        memory = self._inner[number]
        assert memory is not None, "it owns a state"
        after, marks, used = memory.advance(at, data)
        if after is not None and self._is_over(after):
            after = self._ends[number]
        return after, marks, used

    def _search(self, at: Tracker, data: bytes, i: int) -> tuple[Tracker, int]:
        """Reads free text up to the end of a trigger, or all of it."""
        triggers = self._triggers
        state = triggers.state_of(at.raw)
        for place in range(i, len(data)):
            state = triggers.step(state, data[place])
            found = triggers.found[state]
            if found >= 0:
                return self._begins[found], place + 1
        return self.tracker(None, FREE, triggers.prefixes[state]), len(data)

    # -- what may still repeat -----------------------------------------------------------------

    def threatened(self, at: Tracker) -> bool:
        return at.owner is not self and at.owner.threatened(at)

    def critical_bytes(self, at: Tracker) -> Iterable[int] | None:
        return None if at.owner is self else at.owner.critical_bytes(at)

    # -- interning -----------------------------------------------------------------------------

    def trim(self, keep: Iterable[Tracker]) -> None:
        """Its own states are few and stay."""
        kept = [*keep, *self._begins]
        for number, memory in enumerate(self._inner):
            if memory is not None:
                memory.trim(t for t in kept if self._section_of.get(t.owner) == number)


def _end_of_blanks(end: bytes, data: bytes, i: int) -> int:
    """The place behind blanks that stand before a section's end; an end may begin with one itself."""
    if end[:1] and end[0] not in BLANK_BYTES:
        while i < len(data) and data[i] in BLANK_BYTES:
            i += 1
    return i


def _parts(memory: Memory) -> Iterator[Memory]:
    """A memory and those within it."""
    yield memory
    if isinstance(memory, SectionMemory):
        for inner in memory._inner:
            if inner is not None:
                yield from _parts(inner)


# -- finished texts --------------------------------------------------------------------------------


def first_clash_of_sections(
    data: bytes, marks: Set[int], of: GrammarIR | Section, start: int = 0
) -> Clash | None:
    """What :func:`grammars.uniqueness.values.first_clash` says of the sections of free text.

    Args:
        data: the text.
        marks: where separators behind repeated items are claimed to stand.
        of: whose sections.
        start: where the free text begins.
    """
    triggers = Triggers([section.trigger for section in of.sections])
    while True:
        found = _next_section(triggers, data, start)
        if found is None:
            return None
        number, end = found
        section = of.sections[number]
        begin = end - len(section.trigger) if section.inside else end
        if section.sections:
            return first_clash_of_sections(data, marks, section, begin)
        stop = _value_end(data, begin)
        clash = _clash(data[begin:stop], marks, section, begin)
        if clash is not None or not of.repeated:
            return clash
        start = _end_of_blanks(section.end, data, stop) + len(section.end)


def _next_section(triggers: Triggers, data: bytes, start: int) -> tuple[int, int] | None:
    """The number of the first trigger behind a place, and where it ends."""
    state = 0
    for place in range(start, len(data)):
        state = triggers.step(state, data[place])
        if triggers.found[state] >= 0:
            return triggers.found[state], place + 1
    return None


def _value_end(data: bytes, begin: int) -> int:
    """Where the JSON value that begins somewhere ends."""
    memory = Memory(False, False, single=True)
    return begin + memory.advance(memory.start, data[begin:])[2]


def _clash(data: bytes, marks: Set[int], section: Section, begin: int) -> Clash | None:
    if not section.distinct_keys and not section.compare_items:
        return None
    own = frozenset(at - begin for at in marks) if section.compare_items else None
    clash = first_clash(data, own, section.distinct_keys)
    if clash is None:
        return None
    starts = tuple(begin + at for at in clash.starts)
    return Clash(starts, begin + clash.end, clash.repeats, clash.items)


def memory_of(ir: GrammarIR) -> Memory | None:
    """The tracker of keys and items that a grammar asks for; ``None`` if nothing must not repeat."""
    if not (ir.distinct_keys or ir.compare_items):
        return None
    if ir.locator is not None:
        return RegionMemory(ir.locator)
    if ir.sections:
        return SectionMemory(ir.sections, ir.repeated)
    # rules of a JSON schema name each key once, or else ask for distinct keys
    return Memory(ir.distinct_keys, ir.compare_items, is_json=ir.json)
