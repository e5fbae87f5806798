"""Patterns with any look-around, also repeated, and atomic groups: as deterministic automata.

A pattern becomes a nondeterministic automaton over classes of characters, with conditions at its
empty moves, and this is made deterministic with an obligation beside each of its states:

* A state that may have been reached stands with a formula (:mod:`.formulas`) that says what the rest
  of the text still has to be.  A variable ``q`` of it says that a run from state ``q`` of the
  automaton matches a beginning of that rest.  A look-ahead passed on the way is such an obligation,
  a negative one its negation.
* Reading a character puts in the place of a variable what it asks of the text behind: derivatives
  as in an alternating automaton (Chandra, Kozen and Stockmeyer 1981; for look-ahead Morihata 2012,
  Miyazaki and Minamide 2019).
* A look-behind is run along from every position on.  The formula at its end is what it says there.
* In an atomic group a later alternative is taken where, as a negative look-ahead says, no earlier
  one leads to the end of the group.

Formulas are canonical, so there are finitely many states; every language with such conditions is
regular.  How many there are depends on the pattern, and is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from grammars.errors import LimitExceeded
from grammars.frontends.lark.minimization import equivalence_classes, trimmed
from grammars.frontends.regex.bytewise import byte_machine
from grammars.frontends.regex.formulas import FALSE, TRUE, Formulas
from grammars.frontends.regex.nodes import (
    Atomic,
    Cat,
    Edge,
    Look,
    Node,
    Or,
    Plain,
    Rep,
    Side,
    UnsolvableError,
    contains,
    may_be_empty,
    nodes_of,
    nullable,
)
from grammars.ir import (
    MAX_CODE_POINT,
    Alt,
    Chars,
    Expr,
    Literal,
    Nothing,
    Ranges,
    Repeat,
    Seq,
    normalize_ranges,
    walk,
)
from grammars.work import spend

_END: Final = -1
"""In the place of a character: the text ends here."""
_MATCHED: Final = 0
"""The state behind a look: whatever follows."""
_AT_END: Final = 1
"""The state behind the pattern: nothing follows."""
_MAX_STATES: Final = 200_000
"""States of the nondeterministic automaton (copies of what is counted)."""

_Lanes: TypeAlias = tuple[int, ...]
"""States at which a part is left, or entered: of the path itself and of runs that try it."""
_Reached: TypeAlias = dict[int, int]
"""Formulas by state."""
_State: TypeAlias = tuple[int, tuple[tuple[tuple[int, int], ...], ...]]
"""The class before a position, and what each run has reached there, the pattern's own last."""


def solve_by_automaton(node: Node, limit: int) -> Expr:
    """The texts that match the node from their start to their end, as one automaton.

    Args:
        node: any but ``Solved``.
        limit: most states of the automaton.

    Raises:
        LimitExceeded: for ``max_dfa_states``, or where work is counted for ``max_work``.
        UnsolvableError: for a repetition in an atomic group whose part may be empty, and for looks
            that may be waiting at too many places at once.
    """
    letters = _Letters(node)
    net = _Net(letters)
    start = net.built(node, (_AT_END,), ordered=False)[0]
    net.runs.append(_Run(start, _AT_END, again=False))
    try:
        rows, accept = _Subsets(net, limit).automaton()
    except RecursionError:  # formulas of hundreds of variables
        raise UnsolvableError(
            "look-around that has to remember too many places of the text at once is not possible; "
            "use shorter repetitions in it"
        ) from None
    rows, accept = trimmed(rows, accept)
    block = equivalence_classes(rows, accept)
    first: dict[int, int] = {}
    for q, b in enumerate(block):
        first.setdefault(b, q)
    number = {b: i for i, b in enumerate(first)}  # block[0] comes first
    small = [{c: number[block[t]] for c, t in rows[q].items()} for q in first.values()]
    return byte_machine(letters.classes, small, [accept[q] for q in first.values()])


# -- characters ------------------------------------------------------------------------------------


class _Letters:
    """The classes of characters that a pattern tells apart; a letter is the number of one."""

    def __init__(self, node: Node) -> None:
        sets: set[Ranges] = set()
        self.sides: list[Side] = []
        """What edges ask of the character before them."""
        for part in nodes_of(node):
            if isinstance(part, Plain):
                for expr in walk(part.expr):
                    if isinstance(expr, Literal):
                        sets.update(((ord(c), ord(c)),) for c in expr.data.decode())
                    elif isinstance(expr, Chars):
                        sets.add(expr.ranges)
            elif isinstance(part, Edge):
                for left, right in part.pairs:
                    sets |= {left.ranges, right.ranges}
                    if right.last_newline:
                        sets.add(_NEWLINE)
                    if left not in self.sides:
                        self.sides.append(left)
        self.classes = _partition(sorted(sets))
        self._firsts = [ranges[0][0] for ranges in self.classes]
        spend(sum(map(len, self.classes)))
        self._masks: dict[Ranges, int] = {}
        self.newline = next((i for i, x in enumerate(self.classes) if x == _NEWLINE), None)
        kinds: dict[tuple[bool, ...], int] = {tuple(side.nothing for side in self.sides): 0}
        self.kinds = [
            kinds.setdefault(tuple(contains(side.ranges, p) for side in self.sides), len(kinds))
            for p in self._firsts
        ]
        """By letter: its kind as a character before a position; kind 0 is the start of the text."""
        self.asked = list(kinds)
        """By kind: which of the sides hold."""

    def mask(self, ranges: Ranges) -> int:
        """The letters of a class of characters, as a set of bits."""
        known = self._masks.get(ranges)
        if known is None:
            known = 0
            at = 0
            for letter, point in sorted(enumerate(self._firsts), key=lambda pair: pair[1]):
                while at < len(ranges) and ranges[at][1] < point:
                    at += 1
                if at < len(ranges) and ranges[at][0] <= point:
                    known |= 1 << letter
            self._masks[ranges] = known
        return known


_NEWLINE: Final[Ranges] = ((10, 10),)
_SURROGATES: Final[Ranges] = ((0xD800, 0xDFFF),)


def _partition(sets: Sequence[Ranges]) -> list[Ranges]:
    """The coarsest classes of characters of which every given set is a union."""
    events: dict[int, int] = {0: 0}  # where the membership bits change
    for bit, ranges in enumerate([_SURROGATES, *sets]):
        for lo, hi in ranges:
            events[lo] = events.get(lo, 0) ^ 1 << bit
            events[hi + 1] = events.get(hi + 1, 0) ^ 1 << bit
    points = sorted(events)
    members = 0
    pieces: dict[int, list[tuple[int, int]]] = {}
    for at, end in zip(points, [*points[1:], MAX_CODE_POINT + 1], strict=True):
        members ^= events[at]
        if at < end and not members & 1:
            pieces.setdefault(members, []).append((at, end - 1))
    return [normalize_ranges(pairs) for pairs in pieces.values()]


# -- the nondeterministic automaton ----------------------------------------------------------------


@dataclass(frozen=True)
class _Ahead:
    """A run from any of some states matches here, or from none."""

    starts: tuple[int, ...]
    negative: bool


@dataclass(frozen=True)
class _Behind:
    """A run has come to its end here, or has not."""

    run: int
    negative: bool


_Condition: TypeAlias = Edge | _Ahead | _Behind


@dataclass(frozen=True)
class _Run:
    """What is read from the start of the text on, or from every position on (``again``)."""

    start: int
    end: int
    again: bool


@dataclass
class _Net:
    """States with empty moves under conditions and at most one move over a character each.

    Attributes:
        moves: by state, number of a condition (or ``None``) and state behind it.
        reads: by state, the letters that lead to another state, and that.
        runs: look-behinds, inner ones first, and the pattern itself.
    """

    letters: _Letters
    moves: list[list[tuple[int | None, int]]] = field(default_factory=lambda: [[], []])
    reads: list[tuple[int, int] | None] = field(default_factory=lambda: [None, None])
    conditions: list[_Condition] = field(default_factory=list)
    runs: list[_Run] = field(default_factory=list)
    _looks: dict[Node, int] = field(default_factory=dict)

    def _state(self) -> int:
        spend()
        if len(self.moves) >= _MAX_STATES:
            raise LimitExceeded("max_dfa_states", _MAX_STATES, "the copies of what is counted")
        self.moves.append([])
        self.reads.append(None)
        return len(self.moves) - 1

    def built(self, node: Node, thens: _Lanes, *, ordered: bool) -> _Lanes:
        """The states at which the node is read, and then what stands at ``thens``.

        Args:
            node: the part.
            thens: where it is left, by lane.
            ordered: the part belongs to an atomic group, of which the last lane is a run that tries
                whether its end can be reached.  In the others an alternative is taken only where
                none before it can.
        """
        match node:
            case Plain(expr):
                return self._expr(expr, thens, ordered)
            case Cat(items):
                for item in reversed(items):
                    thens = self.built(item, thens, ordered=ordered)
                return thens
            case Or(items):
                return self._choice([self.built(x, thens, ordered=ordered) for x in items], ordered)
            case Rep(item, least, most, lazy):
                inner = partial(self.built, item, ordered=ordered)
                return self._repeated(inner, least, most, lazy, thens, ordered)
            case Edge() | Look():
                number = self._looks.get(node)
                if number is None:
                    number = self._looks[node] = self._condition(node)
                return tuple(self._guarded(number, then) for then in thens)
            case Atomic(item, offset):
                _check_order(item, offset)
                return self.built(item, (*thens, _MATCHED), ordered=True)[:-1]
        raise UnsolvableError("a part that is solved already cannot stand here")

    def _condition(self, node: Edge | Look) -> int:
        condition: _Condition
        if isinstance(node, Edge):
            condition = node
        elif node.ahead:
            start = self.built(node.item, (_MATCHED,), ordered=False)[0]
            condition = _Ahead((start,), node.negative)
        else:
            end = self._state()
            start = self.built(node.item, (end,), ordered=False)[0]
            self.runs.append(_Run(start, end, again=True))
            condition = _Behind(len(self.runs) - 1, node.negative)
        self.conditions.append(condition)
        return len(self.conditions) - 1

    def _guarded(self, condition: int, then: int) -> int:
        state = self._state()
        self.moves[state] = [(condition, then)]
        return state

    def _expr(self, expr: Expr, thens: _Lanes, ordered: bool) -> _Lanes:
        match expr:
            case Literal(data):
                for c in reversed(data.decode()):
                    thens = self._read(((ord(c), ord(c)),), thens)
                return thens
            case Chars(ranges):
                return self._read(ranges, thens)
            case Seq(items):
                for item in reversed(items):
                    thens = self._expr(item, thens, ordered)
                return thens
            case Alt(items):
                return self._choice([self._expr(x, thens, ordered) for x in items], ordered)
            case Repeat(item, least, most):
                inner = partial(self._expr, item, ordered=ordered)
                return self._repeated(inner, least, most, False, thens, ordered)
            case Nothing():
                return tuple(self._state() for _ in thens)
        raise UnsolvableError(f"{type(expr).__name__} cannot stand beside look-around")

    def _read(self, ranges: Ranges, thens: _Lanes) -> _Lanes:
        mask = self.letters.mask(ranges)
        out = []
        for then in thens:
            state = self._state()
            self.reads[state] = (mask, then)
            out.append(state)
        return tuple(out)

    def _choice(self, options: Sequence[_Lanes], ordered: bool) -> _Lanes:
        """One of some alternatives; the first ones come first where that matters."""
        if len(options) == 1:
            return options[0]
        states = tuple(self._state() for _ in options[0])
        self._choose(states, options, ordered)
        return states

    def _choose(self, states: _Lanes, options: Sequence[_Lanes], ordered: bool) -> None:
        guards: list[int | None] = [None]
        for i in range(1, len(options)):
            guard = None
            if ordered:
                tried = tuple(option[-1] for option in options[:i])
                self.conditions.append(_Ahead(tried, negative=True))
                guard = len(self.conditions) - 1
            guards.append(guard)
        for lane, state in enumerate(states):
            tries = ordered and lane == len(states) - 1
            self.moves[state] = [
                (None if tries else guard, option[lane])
                for guard, option in zip(guards, options, strict=True)
            ]

    def _repeated(
        self,
        inner: Callable[[_Lanes], _Lanes],
        least: int,
        most: int | None,
        lazy: bool,
        thens: _Lanes,
        ordered: bool,
    ) -> _Lanes:
        def either(more: _Lanes) -> list[_Lanes]:
            return [thens, more] if lazy else [more, thens]

        out = thens
        if most is None:
            out = tuple(self._state() for _ in thens)
            self._choose(out, either(inner(out)), ordered)
        else:
            for _ in range(most - least):
                out = self._choice(either(inner(out)), ordered)
        for _ in range(least):
            out = inner(out)
        return out


def _check_order(item: Node, offset: int) -> None:
    """Checks that no repetition goes round without reading, where engines stop in ways of their own.

    Raises:
        UnsolvableError: if one may.
    """
    stack = [item]
    while stack:
        part = stack.pop()
        empty = False
        match part:
            case Plain(expr):
                repeats = (x for x in walk(expr) if isinstance(x, Repeat) and x.max != 1)
                empty = any(nullable(x.item) for x in repeats)
            case Rep(inner, _, most):
                empty = most != 1 and may_be_empty(inner)
                stack.append(inner)
            case Cat(items) | Or(items):
                stack.extend(items)
            case Atomic(inner):
                stack.append(inner)
        if empty:
            raise UnsolvableError(
                "in an atomic group or possessive repetition a repeated part that may be empty is not "
                "possible; let the part have one character at least, or use an ordinary group",
                offset,
            )


# -- the deterministic automaton -------------------------------------------------------------------


@dataclass
class _Position:
    """What is known of a position: the character before it, the one behind, look-behinds so far.

    Attributes:
        derivatives: by state, what a run from there asks of the text behind the next character.
        composed: by formula, the same for it.
        conditions: by condition, the same for it.
    """

    kind: int
    letter: int
    behind: tuple[int, ...]
    derivatives: dict[int, int] = field(default_factory=dict)
    composed: dict[int, int] = field(default_factory=dict)
    conditions: dict[int, int] = field(default_factory=dict)


class _Subsets:
    """Subset construction with formulas."""

    def __init__(self, net: _Net, limit: int) -> None:
        self._net = net
        self._limit = limit
        self._formulas = Formulas()
        self._positions: dict[tuple[int, int, tuple[int, ...]], _Position] = {}

    def automaton(self) -> tuple[list[dict[int, int]], list[bool]]:
        """Rows, letter to state, and which states accept; state 0 is the start."""
        net = self._net
        runs: list[tuple[tuple[int, int], ...]] = [() for _ in net.runs]
        runs[-1] = ((net.runs[-1].start, TRUE),)
        start: _State = (0, tuple(runs))
        numbers: dict[_State, int] = {start: 0}
        order = [start]
        rows: list[dict[int, int]] = []
        accept: list[bool] = []
        for state in order:  # grows while we iterate
            accept.append(self._ends(state))
            row: dict[int, int] = {}
            for letter, kind in enumerate(net.letters.kinds):
                following = self._step(state, letter)
                if following is None:
                    continue
                key = (kind, following)
                number = numbers.get(key)
                if number is None:
                    if len(order) >= self._limit:
                        raise LimitExceeded(
                            "max_dfa_states", self._limit, "look-around or an atomic group"
                        )
                    number = numbers[key] = len(order)
                    order.append(key)
                row[letter] = number
            rows.append(row)
        return rows, accept

    def _step(self, state: _State, letter: int) -> tuple[tuple[tuple[int, int], ...], ...] | None:
        """What the runs reach with a letter; ``None`` if the pattern itself does not go on."""
        reads = self._net.reads
        out: list[tuple[tuple[int, int], ...]] = []
        for reached in self._reach(state, letter):
            spend(1 + len(reached) // 4)
            after: _Reached = {}
            for q, formula in reached.items():
                move = reads[q]
                if move is not None and move[0] >> letter & 1:
                    before = after.get(move[1], FALSE)
                    after[move[1]] = self._formulas.either(before, formula)
            out.append(tuple(sorted(after.items())))
        return tuple(out) if out[-1] else None

    def _ends(self, state: _State) -> bool:
        return self._reach(state, _END)[-1].get(_AT_END, FALSE) == TRUE

    def _reach(self, state: _State, letter: int) -> list[_Reached]:
        """What each run reaches at a position, with formulas on the text behind the letter."""
        kind, runs = state
        behind: tuple[int, ...] = ()
        out: list[_Reached] = []
        for run, arrived in zip(self._net.runs, runs, strict=True):
            position = self._position(kind, letter, behind)
            spend(1 + len(arrived) // 4)
            begun = {q: self._composed(f, position) for q, f in arrived}
            if run.again:
                begun[run.start] = TRUE
            reached = self._closure(begun, position)
            out.append(reached)
            behind = (*behind, reached.get(run.end, FALSE)) if run.again else behind
        return out

    def _position(self, kind: int, letter: int, behind: tuple[int, ...]) -> _Position:
        key = (kind, letter, behind)
        known = self._positions.get(key)
        if known is None:
            known = self._positions[key] = _Position(*key)
        return known

    def _closure(self, begun: Mapping[int, int], position: _Position) -> _Reached:
        """The states reached without reading: the least solution, since moves add possibilities."""
        formulas = self._formulas
        moves = self._net.moves
        reached = {q: f for q, f in begun.items() if f != FALSE}
        stack = list(reached)
        steps = 4
        while stack:
            q = stack.pop()
            formula = reached[q]
            for condition, target in moves[q]:
                steps += 1
                if condition is None:
                    added = formula
                else:
                    added = formulas.both(formula, self._holds(condition, position))
                before = reached.get(target, FALSE)
                after = formulas.either(before, added)
                if after != before:
                    reached[target] = after
                    stack.append(target)
        spend(steps // 3)
        return reached

    def _derivative(self, state: int, position: _Position) -> int:
        """What a run from a state asks of the text behind the next character."""
        known = position.derivatives.get(state)
        if known is None:
            formulas = self._formulas
            known = FALSE
            for q, formula in self._closure({state: TRUE}, position).items():
                if q == _MATCHED or (q == _AT_END and position.letter == _END):
                    known = formulas.either(known, formula)
                    continue
                move = self._net.reads[q]
                if move is not None and position.letter >= 0 and move[0] >> position.letter & 1:
                    there = TRUE if move[1] == _MATCHED else formulas.variable(move[1])
                    known = formulas.either(known, formulas.both(formula, there))
            position.derivatives[state] = known
        return known

    def _composed(self, formula: int, position: _Position) -> int:
        """A formula on the text from here on as one on the text behind the next character."""
        if formula in (FALSE, TRUE):
            return formula
        known = position.composed.get(formula)
        if known is None:
            spend(2)
            variable, high, low = self._formulas.parts(formula)
            known = self._formulas.choose(
                self._derivative(variable, position),
                self._composed(high, position),
                self._composed(low, position),
            )
            position.composed[formula] = known
        return known

    def _holds(self, number: int, position: _Position) -> int:
        """A condition as a formula on the text behind the next character."""
        known = position.conditions.get(number)
        if known is not None:
            return known
        condition = self._net.conditions[number]
        if isinstance(condition, Edge):
            known = self._edge(condition, position)
        elif isinstance(condition, _Behind):
            known = position.behind[condition.run]
        else:
            known = FALSE
            for start in condition.starts:
                known = self._formulas.either(known, self._derivative(start, position))
        if condition.negative:
            known = self._formulas.negation(known)
        position.conditions[number] = known
        return known

    def _edge(self, edge: Edge, position: _Position) -> int:
        letters = self._net.letters
        asked = letters.asked[position.kind]
        known = FALSE
        for left, right in edge.pairs:
            if not asked[letters.sides.index(left)]:
                continue
            if position.letter == _END:
                found = TRUE if right.nothing else FALSE
            elif letters.mask(right.ranges) >> position.letter & 1:
                found = TRUE
            elif right.last_newline and position.letter == letters.newline:
                found = self._formulas.variable(_AT_END)
            else:
                found = FALSE
            known = self._formulas.either(known, found)
        return known
