"""Circles of references at one value: their least reading, and which of them have none.

``V = anyOf [string, $ref V]`` refers to itself without entering the value.  Such schemas are read as
the *least fixed point*: a value meets the schema if that can be derived in finitely many steps, so
``V`` is string.  That is sound where every reference of the circle stands under ``allOf``, ``anyOf``,
``then`` and the like; where one is negated (``not``, ``if``, the rivals of ``oneOf``) the schema is
a paradox or says different things to different readers, and is refused.  So is a circle that has
nothing but itself in it.

A shortest derivation never needs a schema to derive itself, so inside a circle a reference back to
what is being derived can be left out: :meth:`Circles.unfolded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from grammars.errors import GrammarError
from grammars.frontends.json_schema.assertions import (
    NOTHING,
    All,
    At,
    Either,
    Formula,
    Leaf,
    Not,
    One,
)

_None: frozenset[At] = frozenset()


class Circles:
    """Finds the strongly connected components of the references at one value.

    Args:
        meaning: what a place says, in terms of other places.
    """

    def __init__(self, meaning: Callable[[At], Formula]) -> None:
        self._meaning = meaning
        self._component: dict[At, frozenset[At]] = {}

    def unfolded(self, at: At) -> Formula:
        """What a place says, without references back to what is being derived.

        Raises:
            GrammarError: for a circle that negates itself, or has nothing but itself in it.
        """
        plain = At(at.place, at.env) if at.barred else at
        formula = self._meaning(plain)
        if type(formula) is All and all(type(item) is Leaf for item in formula.items):
            return formula  # most schemas: nothing in them refers to a schema for the same value
        circle = self.component(plain)
        if not circle:
            return formula
        return _without(formula, circle, at.barred | {plain})

    def component(self, at: At) -> frozenset[At]:
        """The places that a place and each other refer to at the same value; none if not itself."""
        known = self._component.get(at)
        if known is None:
            if next(self._references(at), None) is None:
                known = self._component[at] = _None
            else:
                self._explore(at)
                known = self._component[at]
        return known

    def _explore(self, root: At) -> None:
        """Tarjan's algorithm from one place, without recursion."""
        number: dict[At, int] = {}
        low: dict[At, int] = {}
        path: list[At] = []
        waiting: set[At] = set()
        stack = [_Visit(root, iter(()))]
        self._enter(stack[0], number, low, path, waiting)
        while stack:
            visit = stack[-1]
            at = visit.at
            following = next(visit.todo, None)
            if following is not None:
                if following in self._component:
                    continue
                if following not in number:
                    stack.append(_Visit(following, iter(())))
                    self._enter(stack[-1], number, low, path, waiting)
                elif following in waiting:
                    low[at] = min(low[at], number[following])
                continue
            stack.pop()
            if stack:
                low[stack[-1].at] = min(low[stack[-1].at], low[at])
            if low[at] == number[at]:
                members = path[path.index(at) :]
                del path[path.index(at) :]
                waiting.difference_update(members)
                self._close(members)

    def _enter(
        self,
        visit: _Visit,
        number: dict[At, int],
        low: dict[At, int],
        path: list[At],
        waiting: set[At],
    ) -> None:
        at = visit.at
        visit.todo = (target for target, _ in self._references(at))
        number[at] = low[at] = len(number)
        path.append(at)
        waiting.add(at)

    def _references(self, at: At) -> Iterator[tuple[At, bool]]:
        return _references(self._meaning(at), True)

    def _close(self, members: list[At]) -> None:
        """Notes a component, if it may be read."""
        inside = frozenset(members)
        is_circle = len(members) > 1 or any(
            t == members[0] for t, _ in self._references(members[0])
        )
        if not is_circle:
            self._component[members[0]] = _None
            return
        for at in members:
            for target, positive in self._references(at):
                if target in inside and not positive:
                    raise self._paradox(at, target, inside)
        self._check_grounded(members)
        for at in members:
            self._component[at] = inside

    def _paradox(self, at: At, target: At, inside: frozenset[At]) -> GrammarError:
        circle = " -> ".join(map(str, (at, *self._way(target, at, inside))))
        return GrammarError(
            f"the schema is defined by its own negation ({circle}), through not, if or the other "
            "alternatives of oneOf; a recursive schema must pass through properties or items, or "
            "refer to itself in allOf and anyOf only",
            pointer=at.place,
        )

    def _way(self, start: At, goal: At, inside: frozenset[At]) -> list[At]:
        """A shortest path inside a component."""
        before: dict[At, At | None] = {start: None}
        queue = [start]
        for at in queue:
            if at == goal:
                break
            for target, _ in self._references(at):
                if target in inside and target not in before:
                    before[target] = at
                    queue.append(target)
        way: list[At] = []
        here: At | None = goal
        while here is not None:
            way.append(here)
            here = before[here]
        return way[::-1]

    def _check_grounded(self, members: list[At]) -> None:
        """Complains of places that no derivation reaches, whatever the value."""
        open_ = dict.fromkeys(members)
        grown = True
        while grown:
            grown = False
            for at in list(open_):
                if _derivable(self._meaning(at), open_):
                    del open_[at]
                    grown = True
        if not open_:
            return
        chain = [next(iter(open_))]
        while True:
            following = next((t for t, _ in self._references(chain[-1]) if t in open_), None)
            if following is None:  # it says itself that nothing meets it
                return
            if following in chain:
                break
            chain.append(following)
        circle = " -> ".join(map(str, (*chain[chain.index(following) :], following)))
        raise GrammarError(
            f"the schema refers to itself without describing anything ({circle}); "
            "a recursive schema must pass through properties or items",
            pointer=following.place,
        )


@dataclass
class _Visit:
    at: At
    todo: Iterator[At]


def _references(formula: Formula, positive: bool) -> Iterator[tuple[At, bool]]:
    """The places that a formula names for the same value, and whether without negation."""
    match formula:
        case At():
            yield formula, positive
        case Not(item):
            yield from _references(item, not positive)
        case All(items) | Either(items):
            for item in items:
                yield from _references(item, positive)
        case One(items, _, overlaps, _):
            rivals = {i for pair in overlaps for i in pair}
            for i, item in enumerate(items):
                yield from _references(item, positive)
                if i in rivals:
                    yield from _references(item, not positive)


def _derivable(formula: Formula, open_: dict[At, None]) -> bool:
    """Whether a formula may hold while some places do not; references to others hold."""
    match formula:
        case At():
            return formula not in open_
        case All(items):
            return all(_derivable(item, open_) for item in items)
        case Either(items) | One(items):
            return any(_derivable(item, open_) for item in items)
    return True


def _without(formula: Formula, circle: frozenset[At], barred: frozenset[At]) -> Formula:
    """The formula with references to barred places impossible, and others of the circle told so."""
    match formula:
        case At() if formula in barred:
            return NOTHING
        case At() if formula in circle:
            return At(formula.place, formula.env, barred)
        case All(items):
            parts = tuple(_without(item, circle, barred) for item in items)
            return NOTHING if NOTHING in parts else All(parts)
        case Either(items):
            ways = (_without(item, circle, barred) for item in items)
            return Either(tuple(way for way in ways if way != NOTHING))
        case One(items, split, overlaps, tagged):
            one_by_one = tuple(_without(item, circle, barred) for item in items)
            return One(one_by_one, _without(split, circle, barred), overlaps, tagged)
    return formula
