"""Where the JSON values of parts begin in a text: a deterministic automaton, if there is one.

Memory follows the text, not how rules read it.  So a value can have a memory of its own only where the text
so far says that it begins there, in all readings of the rules.  The search below follows all readings of
the rules' outline at once (the subset construction), a value being one step whose end memory finds.  At
each place the readings have to agree: where a value may begin that compares keys or items, no other
reading may go on with the same byte, unless that begins a value as well.  Then the sets of readings are
the states of the locator; else the grammar is refused with a text that leads to the place.

Values that compare nothing are steps like the others where that is possible, as their ends show then; where
other readings are in the way they are read byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from grammars.compiling.analysis import deep_recursion
from grammars.compiling.automata import refine
from grammars.compiling.utf8 import ByteMask
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import GrammarIR, Locator, Part, Region, normalize_ranges
from grammars.limits import Limits
from grammars.special_tokens import shown
from grammars.uniqueness.outline import VALUE_STARTS, Outline
from grammars.work import spend

_OFF: Final = -1
"""The state from which no value is ahead that matters."""
_TRIES: Final = 12
"""Searches in which some rules are read coarsely."""
_SHOWN: Final = 60
"""Bytes of a text in a message."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found.

    Attributes:
        locator: where values begin.
        marked: rules of parts that do not compare items themselves but may stand where others do.
        distinct_keys, compare_items: whether any value asks for it.
    """

    locator: Locator
    marked: frozenset[str]
    distinct_keys: bool
    compare_items: bool


def locate(grammar: GrammarIR, limits: Limits) -> Found | None:
    """The locator of a grammar's parts; ``None`` if memory has nothing to do in any text.

    Raises:
        GrammarError: where the text does not show that a value begins which compares keys or items.
        LimitExceeded: for ``max_work`` or ``max_dfa_states``.
    """
    parts = {part.rule: part for part in grammar.parts}
    if not any(part.asks for part in parts.values()):
        return None
    exact: set[str] | None = set()
    tries = 0
    try:
        with deep_recursion():
            while True:
                outline = Outline(grammar, parts, limits, exact)
                try:
                    return _Search(outline, parts, limits).found()
                except _CoarseError as error:
                    tries += 1
                    exact = exact | error.rules if exact is not None and tries < _TRIES else None
    except RecursionError:
        raise GrammarError(
            "a grammar around a part that compares keys or items is nested too deeply"
        ) from None


class _CoarseError(Exception):
    """Readings do not agree, and some of them are of rules that are read coarsely.

    Attributes:
        rules: their names.
    """

    def __init__(self, rules: Set[str]) -> None:
        super().__init__()
        self.rules = rules


@dataclass(slots=True)
class _Group:
    """Values that begin with the same byte somewhere.

    Attributes:
        first: the bytes that any of them begins with.
        values: (rule, state of the outline behind it).
    """

    first: ByteMask
    values: list[tuple[str, int]]


@dataclass(slots=True)
class _State:
    """A set of readings.

    Attributes:
        edges: (bytes, number of a state or ``_OFF``), disjoint.
        groups: values that may begin, and the state behind them.
        before: the state from which it was found first, and what was read there (``None``: a value).
    """

    edges: list[tuple[ByteMask, int]]
    groups: list[tuple[_Group, int]]
    before: tuple[int, int | None] | None


class _Search:
    def __init__(self, outline: Outline, parts: dict[str, Part], limits: Limits) -> None:
        self._outline = outline
        self._parts = parts
        self._limits = limits
        self._closures: dict[int, frozenset[int]] = {}
        self._numbers: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._states: list[_State] = []

    def found(self) -> Found | None:
        """Runs the search."""
        start = self._number(self._closure([self._outline.start]), None)
        if start == _OFF:
            return None
        at = 0
        while at < len(self._sets):  # grows meanwhile
            self._follow(at)
            at += 1
        return self._result()

    def _number(self, readings: frozenset[int], before: tuple[int, int | None] | None) -> int:
        if not any(self._outline.useful[state] for state in readings):
            return _OFF
        known = self._numbers.get(readings)
        if known is None:
            known = self._numbers[readings] = len(self._sets)
            if known >= self._limits.max_dfa_states:
                raise LimitExceeded(
                    "max_dfa_states",
                    self._limits.max_dfa_states,
                    "finding the parts of this grammar that compare keys or items",
                )
            self._sets.append(readings)
            self._states.append(_State([], [], before))
        return known

    def _closure(self, seeds: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        for seed in seeds:
            known = self._closures.get(seed)
            if known is None:
                known = self._closures[seed] = self._closed(seed)
            found |= known
        return frozenset(found)

    def _closed(self, seed: int) -> frozenset[int]:
        """States reached without a byte at which something is read, or the text ends."""
        outline = self._outline
        seen, stack = {seed}, [seed]
        while stack:
            state = stack.pop()
            outline.expand(state)
            for target in outline.eps[state]:
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        spend(1 + len(seen) // 4)
        return frozenset(
            x for x in seen if outline.edges[x] or outline.values[x] or x == outline.end
        )

    def _follow(self, number: int) -> None:
        """The steps from a set of readings."""
        readings, groups = self._agreed(number)
        edges = [edge for state in readings for edge in self._outline.edges[state]]
        spend(20 + 4 * len(readings) + 4 * len(edges))
        targets: dict[frozenset[int], ByteMask] = {}
        for mask, seeds in _disjoint(edges):
            target = self._closure(seeds)
            targets[target] = targets.get(target, 0) | mask
        state = self._states[number]
        state.edges = [
            (mask, self._number(target, (number, _lowest(mask))))
            for target, mask in targets.items()
        ]
        state.groups = [
            (group, self._number(self._closure(then for _, then in group.values), (number, None)))
            for group in groups
        ]

    def _agreed(self, number: int) -> tuple[set[int], list[_Group]]:
        """The readings, values that compare nothing opened where they are in the way of others."""
        outline = self._outline
        readings = set(self._sets[number])
        values = list(dict.fromkeys(v for state in readings for v in outline.values[state]))
        while True:
            plain = 0
            for state in readings:
                for mask, _ in outline.edges[state]:
                    plain |= mask
            groups = self._grouped(values)
            bad = [g for g in groups if g.first & plain or not self._is_one(g)]
            if not bad:
                return readings, groups
            idle = [v for g in bad for v in g.values if not self._parts[v[0]].asks]
            if not idle:
                coarse = {outline.coarse[x] for x in readings if x in outline.coarse}
                coarse = coarse or set(outline.coarse.values())
                raise _CoarseError(coarse) if coarse else self._error(number, bad[0])
            values = [v for v in values if v not in idle]
            for rule, then in idle:
                opened = self._closure([outline.opened(rule, then)])
                readings |= opened
                values += [v for s in opened for v in outline.values[s] if v not in values]

    def _is_one(self, group: _Group) -> bool:
        """Whether the values of a group begin alike."""
        return len({self._parts[rule].read for rule, _ in group.values}) == 1

    def _grouped(self, values: list[tuple[str, int]]) -> list[_Group]:
        """Values by what they begin with."""
        groups: list[_Group] = []
        for value in values:
            first = self._first(value[0])
            if not first:
                continue
            one = _Group(first, [value])
            for other in [g for g in groups if g.first & first]:
                groups.remove(other)
                one = _Group(one.first | other.first, other.values + one.values)
            groups.append(one)
        return groups

    def _first(self, rule: str) -> ByteMask:
        first = self._outline.first(rule)
        return first if self._parts[rule].read else first & VALUE_STARTS

    # -- the result ----------------------------------------------------------------------------

    def _result(self) -> Found:
        asking = [self._asks(group) for state in self._states for group, _ in state.groups]
        marked: set[str] = set()
        for state in self._states:
            for group, _ in state.groups:
                if self._asks(group)[1]:
                    rules = {rule for rule, _ in group.values}
                    marked |= {rule for rule in rules if not self._parts[rule].compare_items}
        return Found(
            _merged([self._row(state) for state in self._states]),
            frozenset(marked),
            any(keys for keys, _ in asking),
            any(items for _, items in asking),
        )

    def _asks(self, group: _Group) -> tuple[bool, bool]:
        parts = [self._parts[rule] for rule, _ in group.values]
        return any(p.distinct_keys for p in parts), any(p.compare_items for p in parts)

    def _row(self, state: _State) -> _Row:
        edges: dict[int, ByteMask] = {}
        for mask, target in state.edges:
            if target != _OFF:
                edges[target] = edges.get(target, 0) | mask
        regions = []
        for group, after in state.groups:
            read = self._parts[group.values[0][0]].read
            regions.append((group.first, *self._asks(group), read, after))
        return list(edges.items()), regions

    def _error(self, number: int, group: _Group) -> GrammarError:
        rule = next(rule for rule, _ in group.values if self._parts[rule].asks)
        where = f"behind {self._example(number)}"
        if self._states[number].before is None:
            where = "at the start of the text"
        error = GrammarError(
            f"a part of this grammar (rule {rule!r}) compares keys or items (uniqueItems, or an object with "
            f"keys of any name), and where its text begins does not show: {where} the grammar also "
            "allows other text that begins like it.  Put a text or a special token before the part that "
            "nothing else there begins with, close its objects (additionalProperties: false), or leave "
            "uniqueItems out"
        )
        error.locate(rule=rule)
        return error

    def _example(self, number: int) -> str:
        """A text that leads to a state."""
        out: list[bytes] = []
        at = self._states[number].before
        while at is not None:
            source, byte = at
            out.append("\N{HORIZONTAL ELLIPSIS}".encode() if byte is None else bytes((byte,)))
            at = self._states[source].before
        text = shown(b"".join(reversed(out))).decode(errors="replace")
        return repr(text if len(text) <= _SHOWN else "..." + text[-_SHOWN:])


_Row = tuple[list[tuple[int, ByteMask]], list[tuple[ByteMask, bool, bool, bytes, int]]]
"""Of a state: (target, bytes) of its edges; (first bytes, what is asked, what was read, state behind)."""


def _lowest(mask: ByteMask) -> int:
    """A byte of a mask; letters and signs, if there are any, show better."""
    good = mask >> 0x21 << 0x21
    return ((good or mask) & -(good or mask)).bit_length() - 1


def _disjoint(edges: list[tuple[ByteMask, int]]) -> list[tuple[ByteMask, set[int]]]:
    """Edges of several readings by the bytes that lead to the same ones."""
    targets: dict[ByteMask, set[int]] = {}
    union, overlap = 0, False
    for mask, target in edges:
        if mask not in targets:
            overlap = overlap or bool(union & mask)
            union |= mask
        targets.setdefault(mask, set()).add(target)
    if not overlap:
        return list(targets.items())
    blocks = [block & union for block in refine(targets) if block & union]
    spend(len(blocks) * len(targets) // 4)
    return [
        (block, {t for mask, found in targets.items() if mask & block for t in found})
        for block in blocks
    ]


def _merged(rows: list[_Row]) -> Locator:
    """The automaton with states that do the same made one (Moore 1956)."""
    group = [0] * len(rows)
    count = 0
    while True:
        numbers: dict[object, int] = {}
        spend(len(rows))
        fresh = []
        for row, own in zip(rows, group, strict=True):
            edges: dict[int, ByteMask] = {}
            for target, mask in row[0]:
                edges[group[target]] = edges.get(group[target], 0) | mask
            regions = sorted((*r[:4], _at(group, r[4])) for r in row[1])
            key = (own, frozenset(edges.items()), tuple(regions))
            fresh.append(numbers.setdefault(key, len(numbers)))
        group = fresh
        if len(numbers) == count:
            break
        count = len(numbers)
    chosen: dict[int, int] = {}
    for state, number in enumerate(group):
        chosen.setdefault(number, state)
    return Locator(
        tuple(_edges_of(rows[state], group) for state in chosen.values()),
        tuple(_regions_of(rows[state], group) for state in chosen.values()),
    )


def _at(group: list[int], state: int) -> int:
    return _OFF if state == _OFF else group[state]


def _edges_of(row: _Row, group: list[int]) -> tuple[tuple[int, int, int], ...]:
    masks: dict[int, ByteMask] = {}
    for target, mask in row[0]:
        masks[group[target]] = masks.get(group[target], 0) | mask
    return tuple(sorted((lo, hi, t) for t, mask in masks.items() for lo, hi in _ranges(mask)))


def _regions_of(row: _Row, group: list[int]) -> tuple[Region, ...]:
    return tuple(
        sorted(
            (
                Region(_ranges(first), _at(group, after), keys, items, read)
                for first, keys, items, read, after in row[1]
            ),
            key=lambda region: region.first,
        )
    )


def _ranges(mask: ByteMask) -> tuple[tuple[int, int], ...]:
    return normalize_ranges((byte, byte) for byte in range(256) if mask >> byte & 1)
