"""Automata whose letters say what is counted, as graphs of expressions that count.

A lexeme's automaton has the body of a counted repetition once; the letters with which an iteration
ends come in two kinds, *staying* and *going* on (:class:`grammars.frontends.lark.threads.Region`).
Of its texts only those count in which the last iteration that there may be, and no other, goes.
:func:`without_regions` puts that into the graph: the iterations that the automaton tells apart, as it
may the first few, are written out; those behind are one repetition with bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeAlias

from grammars.frontends.lark.expressions import eliminate
from grammars.frontends.lark.minimization import equivalence_classes, trimmed
from grammars.frontends.lark.patterns import Mask
from grammars.frontends.lark.threads import (
    CLASS,
    CLASS_BITS,
    Machine,
    Marks,
    Region,
    UncountableError,
)
from grammars.ir import NOTHING, Expr, alt, repeat

_TOLD_APART: Final = 12
"""Iterations at the beginning that may differ from those behind."""

Edges: TypeAlias = dict[tuple[int, int, Marks], Expr]
"""By source, target and marks, the texts that lead there."""


@dataclass
class Graph:
    """States, with expressions between them.

    Attributes:
        start: the state to start in.
        finals: the states that may end a text.
    """

    edges: Edges
    start: int
    finals: set[int]

    def targets(self) -> dict[int, list[tuple[int, Marks, Expr]]]:
        """What leads on, by source."""
        out: dict[int, list[tuple[int, Marks, Expr]]] = {}
        for (p, q, marks), expr in self.edges.items():
            out.setdefault(p, []).append((q, marks, expr))
        return out


def automaton_expr(
    rows: list[dict[int, int]], accepting: Sequence[bool], machine: Machine, most: int
) -> Expr | None:
    """An expression for an automaton over letters; ``None`` where it would exceed ``most`` nodes.

    Raises:
        UncountableError: where what is counted has to be written out.
    """
    rows, kept = trimmed(rows, list(accepting))
    block = equivalence_classes(rows, kept)
    first: dict[int, int] = {}
    for q, b in enumerate(block):
        first.setdefault(b, q)
    masks: dict[tuple[int, int, int], Mask] = {}
    for b, q in first.items():
        for letter, t in rows[q].items():
            key = (b, block[t], letter >> CLASS_BITS)
            masks[key] = masks.get(key, 0) | 1 << (letter & CLASS)
    finals = {b for b, q in first.items() if kept[q]}
    edges: Edges = {
        (p, q, machine.marks[mark]): machine.alphabet.expr(mask)
        for (p, q, mark), mask in masks.items()
    }
    graph = without_regions(Graph(edges, block[0], finals), machine.regions, most)
    if graph is None:
        return None
    plain = {(p, q): expr for (p, q, _), expr in graph.edges.items()}
    return eliminate(plain, graph.start, graph.finals, most)


def without_regions(graph: Graph, regions: Sequence[Region], most: int) -> Graph | None:
    """The same texts, those that break a bound left out, in a graph without marks.

    ``None`` where an expression would exceed ``most`` nodes.

    Raises:
        UncountableError: where iterations differ for too long.
    """
    found = {r for _, _, marks in graph.edges for r, action in marks if action != "into"}
    for number in sorted(found):
        changed = _Unrolling(graph, number, regions[number], most).graph()
        if changed is None:
            return None
        graph = changed
    edges: Edges = {}
    for (p, q, _), expr in graph.edges.items():
        edges[p, q, frozenset()] = alt(edges.get((p, q, frozenset()), NOTHING), expr)
    return Graph(edges, graph.start, graph.finals)


class _Unrolling:
    """One region's iterations, those told apart written out and the others repeated."""

    def __init__(self, graph: Graph, number: int, region: Region, most: int) -> None:
        self.old = graph
        self.number = number
        self.region = region
        self.most = most
        self.onward = graph.targets()
        self.inside = self._inside()
        self.edges: Edges = {}
        self.finals = graph.finals - self.inside
        states = {graph.start} | {q for p, q, _ in graph.edges for q in (p, q)}
        self._fresh = count(max(states) + 1)
        self._copies: dict[tuple[int, object], int] = {}

    def _does(self, marks: Marks) -> str:
        return next((action for r, action in marks if r == self.number), "")

    def _inside(self) -> set[int]:
        """The states from which an iteration can end without entering the region before."""
        into: dict[int, list[int]] = {}
        todo = []
        for p, q, marks in self.old.edges:
            action = self._does(marks)
            if action in ("stay", "go"):
                todo.append(p)
            elif not action:
                into.setdefault(q, []).append(p)
        inside = set(todo)
        while todo:
            for p in into.get(todo.pop(), ()):
                if p not in inside:
                    inside.add(p)
                    todo.append(p)
        return inside

    def _reach(self, states: Iterable[int]) -> set[int]:
        """What can be reached inside one iteration."""
        found = set(states) & self.inside
        todo = list(found)
        while todo:
            for q, marks, _ in self.onward.get(todo.pop(), ()):
                if not self._does(marks) and q in self.inside and q not in found:
                    found.add(q)
                    todo.append(q)
        return found

    def _next(self, states: set[int]) -> set[int]:
        """Where the next iteration begins."""
        return {
            q
            for p in states
            for q, marks, _ in self.onward.get(p, ())
            if self._does(marks) == "stay"
        }

    def graph(self) -> Graph | None:
        """The graph, or ``None`` where an expression would be too large."""
        last = self.region.count - 1
        entries = {q for _, q, marks in self.old.edges if self._does(marks) == "into"}
        if self.old.start in self.inside:
            entries.add(self.old.start)
        phases = [self._reach(entries)]
        begins = entries & self.inside
        loop: int | None = None
        while len(phases) <= last and phases[-1]:
            after = self._next(phases[-1])
            if len(begins) == 1 and after <= begins:
                (loop,) = begins
                phases.pop()
                break
            if len(phases) > _TOLD_APART:
                raise UncountableError(self.region.terminal)
            begins = after & self.inside
            if after - self.inside:
                raise UncountableError(self.region.terminal)  # its iterations end only once
            phases.append(self._reach(after))
        self._loop_at = len(phases) if loop is not None else None
        for phase, states in enumerate(phases):
            self._write_phase(phase, states, last)
        if loop is not None and not self._write_loop(loop, len(phases), last):
            return None
        self._write_outside()
        start = self.old.start
        if start in self.inside:
            start = self._entry(start)
        return Graph(self.edges, start, self.finals)

    def _copy(self, state: int, where: object) -> int:
        key = (state, where)
        if key not in self._copies:
            self._copies[key] = next(self._fresh)
        return self._copies[key]

    def _entry(self, state: int) -> int:
        """Where a state is entered from outside."""
        if state not in self.inside:
            return state
        return self._begin(state, 0)

    def _begin(self, state: int, phase: int) -> int:
        """A state with which an iteration begins."""
        if state not in self.inside:
            return state
        return self._copy(state, "loop" if phase == self._loop_at else phase)

    def _connect(self, p: int, q: int, marks: Marks, expr: Expr) -> None:
        marks = frozenset((r, action) for r, action in marks if r != self.number)
        self.edges[p, q, marks] = alt(self.edges.get((p, q, marks), NOTHING), expr)

    def _write_outside(self) -> None:
        for (p, q, marks), expr in self.old.edges.items():
            if p not in self.inside:
                self._connect(p, self._entry(q), marks, expr)

    def _write_phase(self, phase: int, states: set[int], last: int) -> None:
        """An iteration that is told apart from others."""
        for p in states:
            here = self._copy(p, phase)
            if p in self.old.finals:
                self.finals.add(here)
            for q, marks, expr in self.onward.get(p, ()):
                action = self._does(marks)
                if action == "stay":
                    if phase < last:
                        self._connect(here, self._begin(q, phase + 1), marks, expr)
                elif action == "go":
                    if phase == last:
                        self._connect(here, self._entry_or_out(q, marks), marks, expr)
                elif action == "into":
                    self._connect(here, self._entry(q), marks, expr)
                else:
                    target = self._copy(q, phase) if q in states else q
                    self._connect(here, target, marks, expr)

    def _entry_or_out(self, state: int, marks: Marks) -> int:
        if state in self.inside:
            raise UncountableError(self.region.terminal)
        return state

    def _write_loop(self, begin: int, phase: int, last: int) -> bool:
        """The iterations behind ``phase`` of them, all of which begin in one state."""
        states = self._reach({begin})
        body = self._body(begin, states)
        if body is None:
            return False
        arrived = self._copy(begin, "loop")
        more = last - phase
        ending = self._copy(begin, "ending")
        going = self._copy(begin, "going")
        self._connect(arrived, ending, frozenset(), repeat(body, 0, more))
        self._connect(arrived, going, frozenset(), repeat(body, more, more))
        for p in states:
            if p in self.old.finals:
                self.finals.add(self._copy(p, "ending"))
            for q, marks, expr in self.onward.get(p, ()):
                action = self._does(marks)
                if action == "go":
                    out = self._entry_or_out(q, marks)
                    self._connect(self._copy(p, "going"), out, marks, expr)
                elif action == "into":
                    self._connect(self._copy(p, "ending"), self._entry(q), marks, expr)
                elif not action and q in states:
                    for where in ("ending", "going"):
                        self._connect(self._copy(p, where), self._copy(q, where), marks, expr)
                elif not action:
                    self._connect(self._copy(p, "ending"), q, marks, expr)
        return True

    def _body(self, begin: int, states: set[int]) -> Expr | None:
        """The texts of one iteration that stays."""
        end = max(states) + 1
        edges: dict[tuple[int, int], Expr] = {}
        for p in states:
            for q, marks, expr in self.onward.get(p, ()):
                action = self._does(marks)
                if action == "stay":
                    target = end
                elif not action and q in states:
                    target = q
                else:
                    continue
                if any(r != self.number for r, _ in marks):
                    raise UncountableError(self.region.terminal)
                edges[p, target] = alt(edges.get((p, target), NOTHING), expr)
        return eliminate(edges, begin, [end], self.most)
