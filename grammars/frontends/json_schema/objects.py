"""Objects: which keys there may be, with which values, and how they are written.

Keys that the schema names get a :class:`Slot` each.  All other keys fall into :class:`KeyClass`
es: sets of strings (told apart by patterns and ``propertyNames``) whose values have to meet the same.
"There is some key with ..." either makes a slot required or a class needed, so it splits plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from grammars.errors import LimitExceeded
from grammars.frontends.json_schema.assertions import (
    Branch,
    Demands,
    Has,
    Lacks,
    Need,
    Objects,
    Region,
    Shape,
    Trait,
    join,
)
from grammars.frontends.json_schema.branching import Brancher
from grammars.frontends.json_schema.clauses import opposite
from grammars.frontends.json_schema.key_sets import KeySet, KeySets, KeyTest
from grammars.frontends.json_schema.plain import PlainObject
from grammars.frontends.json_schema.satisfies import Judge
from grammars.frontends.json_schema.strings import content, shape_expr
from grammars.frozen import quickly_made, replace
from grammars.ir import Condition, Expr, alt, text
from grammars.limits import Limits
from grammars.work import spend

KEY: Final = "key"
"""What labels of classes of keys, and so the names of their rules, begin with."""
_UNITS: Final = 20
"""Work of one state of an automaton that tells keys apart, see :mod:`grammars.work`."""
_STATES_PER_BRANCH: Final = 48
"""States of such automata for each alternative that ``max_schema_branches`` allows."""
_VARIANTS_PER_BRANCH: Final = 16
"""How many of ``max_schema_branches`` one combination of what is asked of a value counts for."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Slot:
    """A named key.

    Attributes:
        placed: whether the schema gives it a place of its own (``properties``).
        group: slots of the same key, of which one at most is taken.
    """

    name: str
    demands: Demands
    required: bool
    placed: bool = True
    group: int | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class KeyClass:
    """Keys without a name in the schema.

    Attributes:
        key: their content, as an expression over code points.
        label: the class in words.
        demands: what their values meet.
        needed: at least one such key must be there.
        holds: for needed ones, which patterns and demands on keys hold for the keys.
    """

    key: Expr
    label: str
    demands: Demands
    needed: bool = False
    holds: frozenset[object] = frozenset()


@quickly_made
@dataclass(frozen=True, slots=True)
class Plan:
    """One way of meeting the assertions about an object.

    Attributes:
        slots: in the order in which the schema names them.
        low, high: how many keys; ``low`` is 0 where the required ones suffice.
        conditions: on which slots and classes, numbered in this order, there are keys.
    """

    slots: tuple[Slot, ...]
    classes: tuple[KeyClass, ...]
    low: int
    high: int | None
    conditions: tuple[Condition, ...] = ()

    @property
    def may_be_empty(self) -> bool:
        owed = any(s.required for s in self.slots) or any(c.needed for c in self.classes)
        holds = all(
            c.allows(sum(all(x >= 0 for x in clause) for clause in c.clauses))
            for c in self.conditions
        )
        return not owed and self.low == 0 and holds


class Planner:
    """Makes plans."""

    def __init__(
        self,
        brancher: Brancher,
        judge: Judge,
        limits: Limits,
    ) -> None:
        self._brancher = brancher
        self._judge = judge
        self._limits = limits
        self._work = 0
        self._key_sets = KeySets(limits, self._count)

    def plans(self, objects: Objects) -> list[Plan]:
        """All alternatives; none if the assertions are plainly impossible."""
        if objects.needs:
            return self._conditional(objects)
        named, placed, cells = self._keys(objects)
        required = set(objects.required)
        slots = []
        known = dict(objects.properties)
        for i, name in enumerate(named):
            demands = self._value(objects, known, name)
            if self._brancher.possible(demands):
                slots.append(Slot(name, demands, name in required, i < placed))
            elif name in required:
                return []
        cells, whole = self._valued(objects, cells)
        plans = [Plan(tuple(slots), (), objects.low, objects.high)]
        for region, demands in objects.some:
            ways = (q for p in plans for q in self._with_some(p, cells, region, demands))
            plans = list(dict.fromkeys(ways))
            self._check_count(len(plans))
        classes = tuple(_merged(cells))
        if whole and len(classes) == 1:  # nothing tells them apart after all
            classes = (_all_others(tuple(named), classes[0].demands),)
        return [_settled(p.slots, p.classes + classes, p.low, p.high) for p in plans]

    def plain(self, read: PlainObject) -> Plan | None:
        """The plan of a plain schema; ``None`` where a value is impossible that there must be."""
        possible = self._brancher.possible
        if not self._brancher.all_possible(map(read.value, read.required)):
            return None
        slots: list[Slot] = []
        for name, demands in read.named.items():
            if possible(demands):
                slots.append(Slot(name, demands, name in read.required))
        names = tuple(dict.fromkeys((*read.named, *read.required)))
        for name in names[len(read.named) :]:
            slots.append(Slot(name, read.rest, required=True, placed=False))
        classes = (_all_others(names, read.rest),) if possible(read.rest) else ()
        return Plan(tuple(slots), classes, 0, None)

    def _conditional(self, objects: Objects) -> list[Plan]:
        """One plan for all alternatives that were put off: each key by what its value has to say.

        A key that several clauses speak of has a slot for every combination of what they ask that
        a value may answer.
        """
        some = tuple(Need(((Has(region, demands),),)) for region, demands in objects.some)
        needs = objects.needs + some
        traits = [t for need in needs for clause in need.clauses for t in clause]
        asked = [t for t in traits if isinstance(t, Has) and t.demands]
        regions = [t.keys for t in traits if isinstance(t, Has) and isinstance(t.keys, Region)]
        mentioned = [t.name if isinstance(t, Lacks) else t.keys for t in traits]
        listed = [name for name in mentioned if isinstance(name, str)]
        told = replace(
            objects,
            required=tuple(dict.fromkeys((*objects.required, *listed))),
            some=tuple((region, ()) for region in dict.fromkeys(regions)),
        )
        named, placed, cells = self._keys(told)
        slots: list[Slot] = []
        shown: list[set[Trait]] = []
        groups: dict[str, int] = {}
        known = dict(objects.properties)
        clauses: list[tuple[int, ...]] = []
        for place, name in enumerate(named):
            about = [t for t in asked if self._is_about(t, name)]
            always = {t for t in traits if self._is_about(t, name) and t not in asked}
            variants = self._variants(self._value(objects, known, name), about)
            required = name in objects.required
            if not variants and required:
                return []
            if variants:
                groups[name] = len(groups)
            if required and len(variants) > 1:
                clauses.append(tuple(range(len(slots), len(slots) + len(variants))))
            for demands, met in variants:
                needed = required and len(variants) == 1
                slots.append(Slot(name, demands, needed, place < placed, groups[name]))
                shown.append(met | always)
            self._check_count(len(slots))
        classes: list[KeyClass] = []
        for cell in self._valued(told, cells)[0]:
            covers = [t for t in traits if isinstance(t, Has) and _is_of(t, cell)]
            about = [t for t in covers if t.demands]
            for demands, met in self._variants(cell.demands, about):
                classes.append(KeyClass(cell.keys.expr, cell.label, demands, holds=cell.holds))
                shown.append(met | {t for t in covers if not t.demands})
        # several slots of one key are told apart by value, so members keep the order of keys
        members: dict[Trait, list[int]] = {}
        for i, found in enumerate(shown):
            for trait in found:
                members.setdefault(trait, []).append(i)
        conditions = [Condition(tuple(clauses))] if clauses else []
        for need in needs:
            condition = _condition(need, members, groups)
            if condition is None:
                return []
            conditions.append(condition)
        return [
            _settled(tuple(slots), tuple(classes), objects.low, objects.high, tuple(conditions))
        ]

    def _is_about(self, trait: Trait, name: str) -> bool:
        if isinstance(trait, Lacks):
            return False
        if isinstance(trait.keys, str):
            return trait.keys == name
        return self._judge.inside(trait.keys, name)

    def _variants(self, demands: Demands, about: list[Has]) -> list[tuple[Demands, set[Trait]]]:
        """The combinations of what is asked of a value that some value may answer."""
        if not self._brancher.possible(demands):
            return []
        out: list[tuple[Demands, set[Trait]]] = [(demands, set())]
        for asked in dict.fromkeys(t.demands for t in about):
            same: set[Trait] = {t for t in about if t.demands == asked}
            split = []
            for known, met in out:
                with_it, without = join(known, asked), join(known, opposite(asked))
                split += [(with_it, met | same)] if self._brancher.possible(with_it) else []
                split += [(without, met)] if self._brancher.possible(without) else []
            out = split
            self._check_count(len(out) * _VARIANTS_PER_BRANCH)
        return out

    # -- names ---------------------------------------------------------------------------------

    def _ordered(self, objects: Objects) -> tuple[list[str], int]:
        """Named keys: in the order of reading of their subschemas, then those without one.

        Also how many have one.
        """
        first: dict[str, Any] = {}
        for name, position in objects.placed:
            first[name] = min(position, first.get(name, position))
        placed = sorted(first, key=lambda name: first[name])
        mentioned = [name for name, _ in objects.properties] + list(objects.required)
        for region, _ in (*objects.every, *objects.some):
            mentioned += sorted(region.names)
            mentioned += self._words(region.key)
        return list(dict.fromkeys((*placed, *mentioned))), len(placed)

    def _words(self, key: Demands) -> Iterator[str]:
        """Keys that demands on keys single out (``propertyNames`` with ``enum``)."""
        if not key:
            return
        for branch in self._brancher.branches(key):
            excluded = sorted(branch.excluded, key=repr)  # sets have no order of their own
            for value in (*excluded, *(branch.values or ())):
                if isinstance(value.data, str):
                    yield value.data

    def _value(self, objects: Objects, known: dict[str, Demands], name: str) -> Demands:
        """What the value of a key has to meet; ``known`` are the properties."""
        out = [d for region, d in objects.every if self._judge.inside(region, name)]
        return join(known.get(name, ()), *out)

    # -- other keys ----------------------------------------------------------------------------

    def _keys(self, objects: Objects) -> tuple[list[str], int, list[_Cell]]:
        """Named keys in order, how many of them have a place, and the cells that others fall into.

        Keys of cells that hold few are named: as names of their own they can run out without harm.
        """
        named, placed = self._ordered(objects)
        cells = self._cells(objects, tuple(named))
        if len(cells) > 1 or cells[0].keys.outside:
            few = [name for cell in cells for name in self._key_sets.few(cell.keys)]
            if few:
                named += few
                cells = self._cells(objects, tuple(named))
        return named, placed, cells

    def _cells(self, objects: Objects, names: tuple[str, ...]) -> list[_Cell]:
        """Keys that are not named, split by everything that tells them apart."""
        regions = [region for region, _ in (*objects.every, *objects.some)]
        tests: list[KeyTest] = []
        for pattern in dict.fromkeys(p for r in regions for p in (*r.inside, *r.outside)):
            shape = Shape("pattern", pattern, "")
            tests.append(KeyTest(pattern, shape_expr(shape), shape_expr(shape, loose=True)))
        for key in dict.fromkeys(r.key for r in regions if r.key):
            tests.append(KeyTest(key, self._key_expr(key), self._key_expr(key)))
        cells = [_Cell(self._key_sets.everything(names), frozenset(), names)]
        for test in tests:
            cells = [part for cell in cells for part in self._split(cell, test)]
            self._check_count(len(cells))
        return cells

    def _valued(self, objects: Objects, cells: list[_Cell]) -> tuple[list[_Cell], bool]:
        """The cells whose keys may have some value, with what it meets; whether these are all."""
        out = []
        for cell in cells:
            demands = join(*(d for region, d in objects.every if _covers(region, cell.holds)))
            if self._brancher.possible(demands):
                out.append(replace(cell, demands=demands))
        return out, len(out) == len(cells)

    def _split(self, cell: _Cell, test: KeyTest) -> Iterator[_Cell]:
        """The keys of a cell that pass a test, and those that do not; each if there are any."""
        within, without = self._key_sets.split(cell.keys, test)
        if within is not None:
            yield replace(cell, keys=within, holds=cell.holds | {test.sign})
        if without is not None:
            yield replace(cell, keys=without)

    def _count(self, states: int) -> None:
        """Counts the states of automata that were looked at to tell keys apart."""
        self._work += states
        spend(_UNITS * states)
        if self._work > self._limits.max_schema_branches * _STATES_PER_BRANCH:
            self._check_count(self._limits.max_schema_branches + 1)

    def _key_expr(self, key: Demands) -> Expr:
        """The strings that meet demands."""
        ways = [self._branch_expr(b) for b in self._brancher.branches(key) if "string" in b.types]
        return alt(*ways)

    def _branch_expr(self, branch: Branch) -> Expr:
        if branch.values is not None:
            words = [v.data for v in branch.values if self._judge.allows(branch, v.data)]
            return alt(*(text(word) for word in words if isinstance(word, str)))
        excluded = [v.data for v in branch.excluded if isinstance(v.data, str)]
        return content(branch.strings, excluded)

    # -- some key ------------------------------------------------------------------------------

    def _with_some(
        self, plan: Plan, cells: list[_Cell], region: Region, demands: Demands
    ) -> Iterator[Plan]:
        """Plans in which some key of a region meets demands: one that is there anyway, or another."""
        for i, slot in enumerate(plan.slots):
            if not self._judge.inside(region, slot.name):
                continue
            more = join(slot.demands, demands)
            if slot.required and more == slot.demands:
                yield plan
                return
            if self._brancher.possible(more):
                there = replace(slot, demands=more, required=True)
                yield replace(plan, slots=(*plan.slots[:i], there, *plan.slots[i + 1 :]))
        for i, known in enumerate(plan.classes):
            if not _covers(region, known.holds):
                continue
            more = join(known.demands, demands)
            if more == known.demands:
                yield plan
                return
            if self._brancher.possible(more):
                same = replace(known, demands=more)
                yield replace(plan, classes=(*plan.classes[:i], same, *plan.classes[i + 1 :]))
        for cell in cells:
            more = join(cell.demands, demands)
            if _covers(region, cell.holds) and self._brancher.possible(more):
                needed = KeyClass(cell.keys.expr, cell.label, more, needed=True, holds=cell.holds)
                yield replace(plan, classes=(*plan.classes, needed))

    def _check_count(self, count: int) -> None:
        if count > self._limits.max_schema_branches:
            raise LimitExceeded(
                "max_schema_branches",
                self._limits.max_schema_branches,
                "telling the keys of this object apart",
            )


@quickly_made
@dataclass(frozen=True, slots=True)
class _Cell:
    """Keys that are all treated alike.

    Attributes:
        holds: which patterns and demands on keys hold for them.
        names: the named keys, which are none of them.
    """

    keys: KeySet
    holds: frozenset[object]
    names: tuple[str, ...]
    demands: Demands = ()

    @property
    def label(self) -> str:
        listed = ", ".join(map(repr, self.names[:8])) + (", ..." if len(self.names) > 8 else "")
        found = sorted(repr(h) for h in self.holds if isinstance(h, str))
        said = [f"{KEY} other than {listed}"] if self.names else [KEY]
        return " with ".join([*said, *found])


def _all_others(names: tuple[str, ...], demands: Demands) -> KeyClass:
    """All keys but some, where nothing tells them apart."""
    cell = _Cell(KeySet(names), frozenset(), names)
    return KeyClass(cell.keys.expr, cell.label, demands)


def _covers(region: Region, holds: frozenset[object]) -> bool:
    """Whether unnamed keys, for which these patterns and demands hold, are in a region."""
    if region.key and region.key not in holds:
        return False
    return holds.issuperset(region.inside) and holds.isdisjoint(region.outside)


def _is_of(trait: Has, cell: _Cell) -> bool:
    return isinstance(trait.keys, Region) and _covers(trait.keys, cell.holds)


def _condition(
    need: Need, members: dict[Trait, list[int]], groups: dict[str, int]
) -> Condition | None:
    """A need in terms of members and groups; ``None`` if it cannot be met."""
    clauses: list[tuple[int, ...]] = []
    for clause in need.clauses:
        if any(isinstance(t, Lacks) and t.name not in groups for t in clause):
            continue  # such a key is never there
        literals = [x for t in clause for x in members.get(t, ())]
        literals += [~groups[t.name] for t in clause if isinstance(t, Lacks)]
        clauses.append(tuple(dict.fromkeys(literals)))
    if len(clauses) < need.unmet or (not need.unmet and not need.more and () in clauses):
        return None
    return Condition(tuple(clauses), need.unmet, need.more)


def _merged(cells: Iterable[_Cell]) -> Iterator[KeyClass]:
    """Classes of keys whose values meet the same are one."""
    groups: dict[Demands, list[_Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.demands, []).append(cell)
    for demands, members in groups.items():
        label = " or ".join(dict.fromkeys(cell.label for cell in members))
        yield KeyClass(alt(*(cell.keys.expr for cell in members)), label, demands)


def _settled(
    slots: tuple[Slot, ...],
    classes: tuple[KeyClass, ...],
    low: int,
    high: int | None,
    conditions: tuple[Condition, ...] = (),
) -> Plan:
    """A plan with bounds only where they say something."""
    if low:
        owed = sum(s.required for s in slots) + (1 if any(c.needed for c in classes) else 0)
        low = 0 if low <= owed else low
    if high is not None and not classes and high >= len(slots):
        high = None
    return Plan(slots, classes, low, high, conditions)
