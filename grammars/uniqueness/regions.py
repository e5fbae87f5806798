"""Memory of JSON values within other text: asleep where the locator finds none, then that of the value.

A state of :class:`RegionMemory` is one of its own (where the locator is), or a state of the memory of the
value that the text is in; ``Tracker.owner`` says whose.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Set
from typing import Final

from grammars.ir import Locator, Region
from grammars.uniqueness.memory import DONE, SCALAR, Marks, Memory, Tracker
from grammars.uniqueness.values import Clash, first_clash

BETWEEN: Final = 9
"""Outside of values; ``raw`` is the number of the locator's state."""
OFF: Final = 11
"""Nothing that follows matters."""
_NOWHERE: Final = -1


class RegionMemory(Memory):
    """The memory of a grammar with parts.

    Args:
        locator: where their values begin.
    """

    def __init__(self, locator: Locator) -> None:
        super().__init__(False, False)
        self._rows = rows_of(locator)
        regions = regions_of(locator)
        self._off = self.tracker(None, OFF)
        self._own = [
            self.tracker(None, BETWEEN, state.to_bytes(4, "big"))
            for state in range(len(locator.edges))
        ]
        self._after = [self._at(region.after) for region in regions]
        self._inner = [memory_of_region(region) for region in regions]
        self._begins = [
            begun(memory, region.read)[0]
            for memory, region in zip(self._inner, regions, strict=True)
        ]
        self._number_of = {memory: number for number, memory in enumerate(self._inner)}
        self.start = self._at(0)

    def _at(self, state: int) -> Tracker:
        return self._off if state == _NOWHERE else self._own[state]

    # -- reading -------------------------------------------------------------------------------

    def advance(self, at: Tracker, data: bytes) -> tuple[Tracker | None, Marks, int]:
        marks: list[tuple[int, int]] = []
        i, n = 0, len(data)
        state = at
        while i < n:
            if state.owner is not self:
                number = self._number_of[state.owner]
                after, found, used = state.owner.advance(state, data[i:])
                marks += [(i + offset, symbol) for offset, symbol in found]
                i += used
                if after is None:
                    return None, tuple(marks), i
                state = self._after[number] if is_over(after) else after
            elif state.mode == OFF:
                i = n
            else:
                state, i = self._between(state, data, i)
        return state, tuple(marks), i

    def _between(self, at: Tracker, data: bytes, i: int) -> tuple[Tracker, int]:
        """Reads up to where a value begins, or all."""
        rows = self._rows
        state = int.from_bytes(at.raw, "big")
        for place in range(i, len(data)):
            state = rows[state][data[place]]
            if state < 0:
                if state == _NOWHERE:
                    return self._off, len(data)
                return self._begins[-2 - state], place
        return self._own[state], len(data)

    # -- what may still repeat -----------------------------------------------------------------

    def threatened(self, at: Tracker) -> bool:
        return at.owner is not self and at.owner.threatened(at)

    def critical_bytes(self, at: Tracker) -> Iterable[int] | None:
        return None if at.owner is self else at.owner.critical_bytes(at)

    # -- interning -----------------------------------------------------------------------------

    def trim(self, keep: Iterable[Tracker]) -> None:
        """Its own states are few and stay."""
        kept = [*keep, *self._begins]
        for memory in self._inner:
            memory.trim(t for t in kept if t.owner is memory)


def is_over(tracker: Tracker) -> bool:
    """Whether the outermost value has ended, or nothing of it can matter."""
    return tracker.frame is None and tracker.mode in (SCALAR, DONE)


def goes_on(read: bytes) -> bool:
    """Whether a JSON value that begins so may still repeat a key or an item, or has an end that shows."""
    memory = Memory(False, False, single=True)
    after, _, used = memory.advance(memory.start, read)
    return after is not None and used == len(read) and not is_over(after)


def memory_of_region(region: Region) -> Memory:
    """The memory of one value."""
    return Memory(region.distinct_keys, region.compare_items, is_json=True, single=True)


def begun(memory: Memory, read: bytes) -> tuple[Tracker, Marks]:
    """The state of a value some bytes of which were read already, and the marks in these."""
    after, marks, used = memory.advance(memory.start, read)
    assert after is not None, "the value goes on"
    assert used == len(read), "the value goes on"
    return after, marks


def rows_of(locator: Locator) -> list[array[int]]:
    """By state, what each byte leads to: a state, -1: nowhere, or ``-2 - number`` of a region."""
    rows: list[array[int]] = []
    number = 0
    for edges, regions in zip(locator.edges, locator.regions, strict=True):
        row = array("i", [_NOWHERE]) * 256
        for low, high, target in edges:
            for byte in range(low, high + 1):
                row[byte] = target
        for region in regions:
            for low, high in region.first:
                for byte in range(low, high + 1):
                    row[byte] = -2 - number
            number += 1
        rows.append(row)
    return rows


def regions_of(locator: Locator) -> list[Region]:
    """All regions, in the order of their numbers."""
    return [region for regions in locator.regions for region in regions]


# -- finished texts --------------------------------------------------------------------------------


def first_clash_of_regions(data: bytes, marks: Set[int], locator: Locator) -> Clash | None:
    """What :func:`grammars.uniqueness.values.first_clash` says of the values of parts.

    Args:
        data: the text.
        marks: where separators behind repeated items are claimed to stand.
        locator: where the values begin.
    """
    rows, regions = rows_of(locator), regions_of(locator)
    state, at = 0, 0
    while at < len(data):
        state = rows[state][data[at]]
        if state >= 0:
            at += 1
            continue
        if state == _NOWHERE:
            return None
        region = regions[-2 - state]
        end = _value_end(data, at, region.read)
        clash = _clash(data[at - len(region.read) : end], marks, region, at - len(region.read))
        if clash is not None or region.after == _NOWHERE:
            return clash
        state, at = region.after, end
    return None


def _value_end(data: bytes, begin: int, read: bytes) -> int:
    """Where the JSON value that goes on somewhere ends."""
    memory = Memory(False, False, single=True)
    return begin + memory.advance(begun(memory, read)[0], data[begin:])[2]


def _clash(data: bytes, marks: Set[int], region: Region, begin: int) -> Clash | None:
    if not region.distinct_keys and not region.compare_items:
        return None
    own = None
    if region.compare_items:
        before = begun(memory_of_region(region), region.read)[1]
        own = frozenset([at - begin for at in marks] + [offset for offset, _ in before])
    clash = first_clash(data, own, region.distinct_keys)
    if clash is None:
        return None
    starts = tuple(begin + at for at in clash.starts)
    return Clash(starts, begin + clash.end, clash.repeats, clash.items)
