"""How many levels of indentation the rest of a text needs at least: no level is a dead end.

By how much the levels go up or down to the end of a rule is the same for all its texts, as INDENT and DEDENT
are balanced; how high they must go on the way is a least fixed point over the program.  Where as many levels
are open as are allowed, what needs more of them cannot be completed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.engine.pool import END, StatePool
from grammars.ir import END_DEDENT, END_INDENT, LINE_DEDENT, LINE_INDENT
from grammars.program import UNBOUNDED, Program

_STEPS: Final = {LINE_INDENT: 1, END_INDENT: 1, LINE_DEDENT: -1, END_DEDENT: -1}
_NEVER: Final = 1 << 40


class Depths:
    """Levels that states of a pool need beyond those that are open.

    Args:
        pool: the states; the caller holds its lock.

    Attributes:
        most: no state needs more than so many.
    """

    def __init__(self, pool: StatePool) -> None:
        self._pool = pool
        net = _nets(pool.program)
        peak = _peaks(pool.program, net)
        known = peak < _NEVER
        self.most: Final[int] = (
            int(peak[known].max(initial=0)) if (net[known] <= 0).all() else _NEVER
        )
        self._net: list[int] = net.tolist()
        self._peak: list[int] = peak.tolist()
        self._needed: dict[int, int] = {END: 0}

    def forget(self) -> None:
        """To be called when states were forgotten."""
        self._needed = {END: 0}

    def needed(self, state: int) -> int:
        """Levels beyond those open at a state that every completion opens at some time."""
        known = self._needed
        todo = [state]
        while todo:
            at = todo[-1]
            if at in known:
                todo.pop()
                continue
            items = self._pool.items(at)
            missing = [frame for _, _, frame in items if frame not in known]
            if missing:
                todo += missing
                continue
            todo.pop()
            known[at] = min(
                max(self._peak[q], self._net[q] + known[frame]) for q, _, frame in items
            )
        return known[state]


def _weights(p: Program) -> npt.NDArray[np.int64]:
    """By class of symbols: by how many levels its mark goes up or down."""
    weight = np.zeros(p.classes, np.int64)
    for mark in p.marks:
        weight[p.byte_class[mark]] = _STEPS.get(mark, 0)
    return weight


def _nets(p: Program) -> npt.NDArray[np.int64]:
    """The difference of levels from each program state to the end of its rule."""
    net = np.where(np.asarray(p.accept_from) == UNBOUNDED, _NEVER, 0).astype(np.int64)
    edges, calls = _sources(p)
    weight = _weights(p)[p.edge_class]
    while True:
        before = net.copy()
        target = net[p.edge_target >> 1]
        use = (target < _NEVER) & (net[edges] == _NEVER)
        net[edges[use]] = (weight + target)[use]
        rule = net[p.call_start]
        rest = np.where(np.asarray(p.call_tail, np.bool_), 0, net[p.call_return >> 1])
        use = (rule < _NEVER) & (rest < _NEVER) & (net[calls] == _NEVER)
        net[calls[use]] = (rule + rest)[use]
        if np.array_equal(before, net):
            return net


def _peaks(p: Program, net: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The least number of levels that must be open at once on the way to the end of the rule."""
    peak = np.where(np.asarray(p.accept_from) == UNBOUNDED, _NEVER, 0).astype(np.int64)
    edges, calls = _sources(p)
    weight = _weights(p)[p.edge_class]
    tails = np.asarray(p.call_tail, np.bool_)
    while True:
        before = peak.copy()
        onward = np.maximum(0, weight + peak[p.edge_target >> 1])
        np.minimum.at(peak, edges, np.minimum(onward, _NEVER))
        rest = np.where(tails, 0, net[p.call_start] + peak[p.call_return >> 1])
        np.minimum.at(peak, calls, np.minimum(np.maximum(peak[p.call_start], rest), _NEVER))
        if np.array_equal(before, peak):
            return peak


def _sources(p: Program) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The program states of edges, and of calls."""
    states = np.arange(p.states)
    return np.repeat(states, np.diff(p.edge_offset)), np.repeat(states, np.diff(p.call_offset))
