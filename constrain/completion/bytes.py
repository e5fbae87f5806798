"""How to end a rule byte by byte: the bound that stands in where the fewest tokens cost too much.

Where every byte is a token, a text that is completed byte by byte is completed.  A *place* is a
program state with its count; for each place that is asked for, one way to the end of its rule is
found and kept, together with the places on it.  So from a place that costs b > 0 some byte leads to
one that costs b - 1: whoever follows these numbers arrives, which is what a budget needs.

The search runs from above (Knuth's generalization of Dijkstra's algorithm, but only over what is
asked for): each rule that is called on the way has a search of its own, all in one queue ordered by
the distance from where each began.  A search ends at the first place that is known already, so a
cost is that of some way, usually the shortest.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, TypeAlias

import numpy as np

from grammars.compiling.bags import CANONICAL, COMPLETE, Residuals
from grammars.program import Program

Place: TypeAlias = tuple[int, int]
"""A program state and its count (in a bag's rule: its residual)."""

NEVER: Final = 1 << 30
"""No bytes end the rule."""


class _Run:
    """The search from one place, up to the end of its rule."""

    def __init__(self) -> None:
        self.reached: dict[Place, tuple[int, Place | None]] = {}
        self.waiting: list[tuple[Place, Place, int, Place]] = []
        """Who called: where its search began, where it goes on, its distance, where it called."""


class ByteWays:
    """Costs of places of one program, in bytes; ``settle`` names the place that stands for one."""

    def __init__(
        self, program: Program, residuals: Residuals, settle: Callable[[int, int], Place]
    ) -> None:
        self._program = program
        self._residuals = residuals
        self._settle = settle
        self._known: dict[Place, int] = {}
        self._fresh: list[Place] = []
        self._steps: dict[int, list[int]] = {}
        self._is_byte = np.zeros(program.classes, np.bool_)
        self._is_byte[program.byte_class[:256]] = True
        self._heap: list[tuple[int, Place, Place, Place | None]] = []
        self._runs: dict[Place, _Run] = {}

    def cost(self, place: Place) -> int:
        """Bytes that end the rule (``NEVER`` if none do)."""
        known = self._known.get(place)
        if known is not None:
            return known
        self._open(place)
        while self._heap and place not in self._known:
            self._visit(*heappop(self._heap))
        self._heap.clear()
        self._runs.clear()
        if place not in self._known:
            self._known[place] = NEVER
        return self._known[place]

    def known(self, place: Place) -> int | None:
        """The cost of a place if it was found."""
        return self._known.get(place)

    def take_over(self, other: ByteWays) -> None:
        """Keeps to what others were told."""
        self._known = other._known

    def take_fresh(self) -> list[tuple[Place, int]]:
        """Places whose cost was found since the last call."""
        fresh = [(place, self._known[place]) for place in self._fresh]
        self._fresh.clear()
        return fresh

    # -- the search ----------------------------------------------------------------------------

    def _open(self, start: Place) -> _Run:
        self._runs[start] = run = _Run()
        heappush(self._heap, (0, start, start, None))
        return run

    def _visit(self, done: int, start: Place, place: Place, before: Place | None) -> None:
        run = self._runs[start]
        if start in self._known or place in run.reached:
            return
        run.reached[place] = (done, before)
        q, n = place
        rest = 0 if q == 0 or n >= self._program.accept_from[q] else self._known.get(place)
        if rest is not None:
            if rest < NEVER:
                self._arrive(start, run, place, rest)
            return
        for target in self._bytes(q):
            after = self._moved(n, target)
            if after is not None:
                heappush(self._heap, (done + 1, start, after, place))
        for callee, after in self._calls(q, n):
            cost = self._known.get(callee)
            if cost is not None:
                heappush(self._heap, (done + cost, start, after, place))
                continue
            called = self._runs.get(callee) or self._open(callee)
            called.waiting.append((start, after, done, place))

    def _arrive(self, start: Place, run: _Run, end: Place, rest: int) -> None:
        """Notes what the places on the way cost, and goes on where the rule was called."""
        at = end
        while True:
            # a place that became known meanwhile keeps its number: what is before it goes by that
            rest = self._known.get(at, rest)
            if at not in self._known:
                self._known[at] = rest
                self._fresh.append(at)
            done, before = run.reached[at]
            if before is None:
                break
            rest += done - run.reached[before][0]
            at = before
        for caller, after, done, place in run.waiting:
            heappush(self._heap, (done + rest, caller, after, place))

    # -- the program ---------------------------------------------------------------------------

    def _bytes(self, q: int) -> list[int]:
        """Distinct targets of the edges of a state that read bytes (not marks)."""
        known = self._steps.get(q)
        if known is None:
            p = self._program
            part = slice(int(p.edge_offset[q]), int(p.edge_offset[q + 1]))
            targets = p.edge_target[part][self._is_byte[p.edge_class[part]]]
            known = self._steps[q] = sorted(set(targets.tolist()))
        return known

    def _moved(self, n: int, target: int) -> Place | None:
        """Where an edge leads; ``None`` where no end would be within bounds."""
        p = self._program
        q = target >> 1
        m = min(n + (target & 1), int(p.count_cap[q]))
        if not p.count_floor[q] <= m <= p.count_limit[q]:
            return None
        return self._settle(q, m)

    def _calls(self, q: int, n: int) -> list[tuple[Place, Place]]:
        """Rules that may be called: where each begins and where it goes on afterwards."""
        p = self._program
        bag = int(p.bag_of[q])
        if bag >= 0:
            return self._items(bag, n)
        out: list[tuple[Place, Place]] = []
        for e in range(int(p.call_offset[q]), int(p.call_offset[q + 1])):
            after = self._moved(n, int(p.call_return[e]))
            if after is not None:
                out.append((self._settle(int(p.call_start[e]), 0), after))
        return out

    def _items(self, bag: int, n: int) -> list[tuple[Place, Place]]:
        """Canonical items of a bag; a bag that may end does so."""
        p = self._program
        begin = int(p.bag_offset[bag])
        out: list[tuple[Place, Place]] = []
        for i, step in enumerate(self._residuals.row(bag, n)):
            if step < 0 or not step & CANONICAL:
                continue
            flags, left = (COMPLETE, 0) if step & COMPLETE else (step & 3, step >> 3)
            after = self._settle(int(p.bag_return[4 * bag + flags]), left)
            out.append((self._settle(int(p.bag_start[begin + i]), 0), after))
        return out
