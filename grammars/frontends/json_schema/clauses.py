"""Formulas about objects as clauses: what need not be multiplied out.

A statement about an object that is made of keys that are there, keys that are not and values of
keys is a conjunction of clauses, each of them "this key, or that one, or ...".  Alternatives of that
kind are kept as they are (:class:`assertions.Need`) and decided key by key while a text is written
(:class:`grammars.ir.Condition`); multiplied out they would be products over all keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from grammars.frontends.json_schema.assertions import (
    All,
    At,
    Branch,
    Clause,
    Demands,
    Either,
    Formula,
    Has,
    Lacks,
    Leaf,
    Not,
    Objects,
    Trait,
    conjunction,
    forbids,
    negation,
)
from grammars.frozen import replace

Chain: TypeAlias = tuple[At, ...]
"""The places a formula was reached from without entering the value."""
Placed: TypeAlias = list[tuple[str, Any]]

_MOST: Final = 64
"""Clauses of one statement."""
_FREE: Final = Branch()
_OBJECT: Final = frozenset(["object"])


class _UnfitError(Exception):
    """A statement that clauses cannot express."""


class Clauses:
    """Turns formulas into clauses.

    Args:
        meaning: what a place says.
        positioned: a leaf with the positions of its keys, by the chain it was reached by.
    """

    def __init__(
        self, meaning: Callable[[At], Formula], positioned: Callable[[Branch, Chain], Branch]
    ) -> None:
        self._meaning = meaning
        self._positioned = positioned
        self._violations: dict[Formula, Clause | None] = {}
        self._known: dict[tuple[Formula, Chain], tuple[tuple[Clause, ...], Placed] | None] = {}

    def of(self, formula: Formula, chain: Chain) -> tuple[tuple[Clause, ...], Placed] | None:
        """Clauses that hold together exactly where a formula does, for objects; and keys it places.

        ``None`` if there are none, or many.
        """
        key = (formula, chain)
        if key not in self._known:
            self._known[key] = self._found(formula, chain)
        return self._known[key]

    def _found(self, formula: Formula, chain: Chain) -> tuple[tuple[Clause, ...], Placed] | None:
        placed: Placed = []
        try:
            found = self._clauses(formula, chain, True, placed)
        except _UnfitError:
            return None
        return tuple(dict.fromkeys(c for c in found if not _is_tautology(c))), placed

    def violation(self, formula: Formula) -> Clause | None:
        """A clause that holds exactly where a formula does not, for objects; ``None`` if there is none."""
        if formula in self._violations:
            return self._violations[formula]
        try:
            found = self._clauses(formula, (), False, [])
        except _UnfitError:
            found = []
        known = self._violations[formula] = found[0] if len(found) == 1 else None
        return known

    def outside(self, formula: Formula) -> bool | None:
        """Whether all values that are no objects meet a formula, or none; ``None`` if it depends."""
        match formula:
            case Leaf(branch):
                if branch.types == _OBJECT:
                    return False
                plain = replace(branch, objects=_FREE.objects)
                return True if plain == _FREE else None
            case At():
                return self.outside(self._meaning(formula))
            case Not(item):
                found = self.outside(item)
                return None if found is None else not found
            case All(items) | Either(items):
                parts = [self.outside(item) for item in items]
                decided = isinstance(formula, Either)
                if decided in parts:
                    return decided
                return None if None in parts else not decided
        return None

    def places(self, formula: Formula, chain: Chain) -> Placed:
        """The keys that a formula gives a place."""
        placed: Placed = []
        todo: list[tuple[Formula, Chain]] = [(formula, chain)]
        while todo:
            one, way = todo.pop()
            match one:
                case Leaf(branch):
                    placed += self._positioned(branch, way).objects.placed
                case At():
                    todo.append((self._meaning(one), (*way, one)))
                case All(items):
                    todo += [(item, way) for item in reversed(items)]
        return placed

    def _clauses(
        self, formula: Formula, chain: Chain, positive: bool, placed: Placed
    ) -> list[Clause]:
        match formula:
            case Leaf(branch):
                if positive:
                    placed += self._positioned(branch, chain).objects.placed
                return _asserted(branch) if positive else _denied(branch)
            case At():
                return self._clauses(self._meaning(formula), (*chain, formula), positive, placed)
            case Not(item):
                return self._clauses(item, chain, not positive, placed)
            case All(items) | Either(items):
                parts = [self._clauses(item, chain, positive, placed) for item in items]
                return _both(parts) if isinstance(formula, All) == positive else _either(parts)
        raise _UnfitError


def _both(parts: list[list[Clause]]) -> list[Clause]:
    out = [clause for part in parts for clause in part]
    if len(out) > _MOST:
        raise _UnfitError
    return out


def _either(parts: list[list[Clause]]) -> list[Clause]:
    out: list[Clause] = [()]
    for part in parts:
        if len(out) * len(part) > _MOST:
            raise _UnfitError
        out = [tuple(dict.fromkeys((*a, *b))) for a in out for b in part]
    return out


def _is_tautology(clause: Clause) -> bool:
    """Whether a clause says of a key that it is there or not, or has a value or its opposite."""
    for trait in clause:
        if isinstance(trait, Lacks):
            name = trait.name
            if Has(name) in clause:
                return True
            values = [t.demands for t in clause if isinstance(t, Has) and t.keys == name]
            if any(opposite(demands) in values for demands in values):
                return True
    return False


def _check_plain(branch: Branch) -> None:
    objects = branch.objects
    if branch.values is not None or objects.low or objects.high is not None or objects.needs:
        raise _UnfitError


def _asserted(branch: Branch) -> list[Clause]:
    """Clauses of assertions about an object."""
    if "object" not in branch.types:
        return [()]
    _check_plain(branch)
    objects = branch.objects
    if objects.every:
        raise _UnfitError  # it is about all keys
    out: list[Clause] = [(Has(name),) for name in objects.required]
    for name, demands in objects.properties:
        if forbids(demands):
            out.append((Lacks(name),))
        elif demands:
            out.append((Lacks(name), Has(name, demands)))
    out += [(Has(region, demands),) for region, demands in objects.some]
    return out


def _denied(branch: Branch) -> list[Clause]:
    """Clauses of the opposite of assertions about an object."""
    if "object" not in branch.types:
        return []
    _check_plain(branch)
    objects: Objects = branch.objects
    if objects.some:
        raise _UnfitError
    out: list[Trait] = [Lacks(name) for name in objects.required]
    out += [Has(name, opposite(demands)) for name, demands in objects.properties if demands]
    out += [Has(region, opposite(demands)) for region, demands in objects.every if demands]
    return [tuple(out)]


def opposite(demands: Demands) -> Demands:
    """What is met exactly where not all demands are."""
    if forbids(demands):
        return ()
    return (negation(conjunction(demands)),)
