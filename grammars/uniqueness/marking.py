"""Rules that compare no items, made to read marks: for JSON that may stand where items are compared.

Behind an item that repeats an earlier one memory puts a mark in the place of the separator.  Rules that do not
care have to take the mark for the separator, wherever one is read outside of strings.  Where that is follows
from a small automaton (outside, in a string, behind a backslash), whose state at the start of each expression
is found by going through the rules; more marks than needed do no harm, as memory makes none in strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeAlias

from grammars import ir
from grammars.compiling.analysis import Analysis
from grammars.compiling.automata import ALL_BYTES, expand
from grammars.compiling.building import RuleBuilder
from grammars.compiling.quotient import unused
from grammars.ir import (
    EPSILON,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Alt,
    And,
    Bag,
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Mark,
    Nothing,
    Not,
    Ref,
    Repeat,
    Rule,
    Seq,
    alt,
    children,
    refs,
    seq,
    with_children,
)
from grammars.limits import Limits
from grammars.work import spend

_OUTSIDE: Final = 0
_STRING: Final = 1
_ESCAPE: Final = 2
_MARKS: Final = {0x2C: REPEATED_COMMA, 0x5D: REPEATED_CLOSE}

_Places: TypeAlias = int
"""A set of the three states, bit by bit."""
_Moves: TypeAlias = tuple[_Places, _Places, _Places]
"""The states that a text may lead to, by the state before it."""
_NONE: Final[_Moves] = (0, 0, 0)
_STAY: Final[_Moves] = (1, 2, 4)


def with_marks(grammar: GrammarIR, roots: frozenset[str], limits: Limits) -> GrammarIR:
    """The grammar in which some rules and all that they call read marks as separators.

    Args:
        grammar: its rules.
        roots: rules whose texts are JSON values.
        limits: bounds on automata of regular parts.
    """
    marker = _Marker(grammar, limits)
    for root in roots:
        marker.enter(root)
    return marker.grammar()


class _Marker:
    def __init__(self, grammar: GrammarIR, limits: Limits) -> None:
        self._grammar = grammar
        self._limits = limits
        self._moves: dict[str, _Moves] = {}
        self._seen: dict[int, _Moves] = {}
        self._places: dict[int, _Places] = {}
        self._rules: dict[str, _Places] = {}
        self._done: dict[int, Expr] = {}
        self._fresh: list[Rule] = []
        self._taken = {rule.name for rule in grammar.rules}
        self._builder: RuleBuilder | None = None

    def grammar(self) -> GrammarIR:
        """The changed grammar."""
        rules = tuple(
            replace(rule, body=self._marked(rule.body)) if rule.name in self._rules else rule
            for rule in self._grammar.rules
        )
        return replace(self._grammar, rules=(*rules, *self._fresh))

    # -- where expressions begin -----------------------------------------------------------------

    def enter(self, root: str) -> None:
        """Notes in which states the expressions of a rule and of those it calls begin."""
        self._settle(root)
        todo = [(root, 1 << _OUTSIDE)]
        while todo:
            name, places = todo.pop()
            known = self._rules.get(name, 0)
            if name in self._rules and places | known == known:
                continue
            self._rules[name] = known | places
            calls: list[tuple[str, _Places]] = []
            self._visit(self._grammar[name].body, known | places, calls)
            todo += calls

    def _visit(self, expr: Expr, places: _Places, calls: list[tuple[str, _Places]]) -> None:
        known = self._places.get(id(expr), 0)
        if id(expr) in self._places and places | known == known:
            return
        spend()
        places |= known
        self._places[id(expr)] = places
        match expr:
            case Ref(name):
                calls.append((name, places))
            case Seq(items):
                for item in items:
                    self._visit(item, places, calls)
                    places = _moved(places, self._of(item))
            case Repeat(item):
                self._visit(item, _moved(places, _star(self._of(item))), calls)
            case Bag(members, separator):
                item_moves = _union(self._of(member.item) for member in members)
                between = _moved(places, _star(_joined(item_moves, self._of(separator))))
                for member in members:
                    self._visit(member.item, between, calls)
                self._visit(separator, _moved(between, item_moves), calls)
            case And() | Not():
                pass  # looked at as a whole
            case _:
                for part in children(expr):
                    self._visit(part, places, calls)

    def _settle(self, root: str) -> None:
        """What each rule's texts do to the state, to the least fixed point."""
        order = [root]
        for name in order:  # grows while we iterate
            if name not in self._moves:
                self._moves[name] = _NONE
                order += [x for x in refs(self._grammar[name].body) if x not in self._moves]
        changed = True
        while changed:
            changed = False
            self._seen = {}
            for name in reversed(order):
                spend(2)
                found = self._of(self._grammar[name].body)
                if found != self._moves[name]:
                    self._moves[name] = found
                    changed = True

    def _of(self, expr: Expr) -> _Moves:
        known = self._seen.get(id(expr))
        if known is None:
            known = self._seen[id(expr)] = self._found(expr)
        return known

    def _found(self, expr: Expr) -> _Moves:
        match expr:
            case Literal(data):
                out = _STAY
                for byte in data:
                    out = _joined(out, _byte(byte))
                return out
            case Chars(ranges) | ByteSet(ranges):
                return _union(
                    _byte(min(byte, 0x80))
                    for low, high in ranges
                    for byte in range(low, min(high, 0x80) + 1 if low <= 0x80 else low + 1)
                )
            case Mark():
                return _byte(0x2C)
            case Machine():
                return _of_machine(expr)
            case Seq(items):
                out = _STAY
                for item in items:
                    out = _joined(out, self._of(item))
                return out
            case Repeat(item, low):
                more = _star(self._of(item))
                return _joined(self._of(item), more) if low else more
            case Ref(name):
                return self._moves[name]
            case And(items):
                return next((self._of(x) for x in items if not isinstance(x, Not)), (7, 7, 7))
            case Not():
                return (7, 7, 7)
            case Bag(members, separator):
                one = _union(self._of(member.item) for member in members)
                return _joined(one, _star(_joined(self._of(separator), one)))
            case Nothing():
                return _NONE
        return _union(self._of(part) for part in children(expr))

    # -- marks -----------------------------------------------------------------------------------

    def _marked(self, expr: Expr) -> Expr:
        known = self._done.get(id(expr))
        if known is None:
            known = self._done[id(expr)] = self._changed(expr)
        return known

    def _changed(self, expr: Expr) -> Expr:
        outside = bool(self._places.get(id(expr), 0) & 1 << _OUTSIDE)
        match expr:
            case Literal(data):
                return _spelled(data) if outside else expr
            case Chars(ranges) | ByteSet(ranges):
                marks = [
                    Mark(symbol)
                    for byte, symbol in _MARKS.items()
                    if outside and any(low <= byte <= high for low, high in ranges)
                ]
                return alt(expr, *marks)
            case Machine() | And() | Not():
                return self._regular(expr) if outside else expr
        parts = children(expr)
        fresh = [self._marked(part) for part in parts]
        if all(a is b for a, b in zip(parts, fresh, strict=True)):
            return expr
        if isinstance(expr, Alt):
            return alt(*fresh)
        if isinstance(expr, Seq):
            return seq(*fresh)
        return with_children(expr, fresh)

    def _regular(self, expr: Expr) -> Expr:
        """A regular expression that reads separators outside of strings: a rule for each state."""
        if self._builder is None:
            self._builder = RuleBuilder(
                Analysis(self._grammar, self._limits), self._limits, ALL_BYTES
            )
        dfa = expand(self._builder.regular_dfa(expr), self._limits.max_dfa_states)
        if not _reads_separators(dfa.start, dfa.edges):
            return expr
        names = [unused("value", self._taken) for _ in dfa.accept]
        for name, row, accepts in zip(names, dfa.edges, dfa.accept, strict=True):
            ways: list[Expr] = [EPSILON] if accepts else []
            for label, target, _ in row:
                pairs = ((byte, byte) for byte in range(256) if label >> byte & 1)
                symbols: list[Expr] = [ByteSet(ir.normalize_ranges(pairs))]
                symbols += [Mark(symbol) for byte, symbol in _MARKS.items() if label >> byte & 1]
                ways.append(seq(alt(*symbols), Ref(names[target])))
            self._fresh.append(Rule(name, alt(*ways)))
        return Ref(names[dfa.start])


def _reads_separators(start: int, edges: list[list[tuple[int, int, int]]]) -> bool:
    """Whether a text of an automaton has a separator outside of strings, if it begins there."""
    seen, stack = {(start, _OUTSIDE)}, [(start, _OUTSIDE)]
    while stack:
        state, place = stack.pop()
        spend()
        for label, target, _ in edges[state]:
            if place == _OUTSIDE and any(label >> byte & 1 for byte in _MARKS):
                return True
            special = [byte for byte in (0x22, 0x5C) if label >> byte & 1]
            other = label & ~(1 << 0x22 | 1 << 0x5C)
            for byte in [*special, *([0x80] if other else [])]:
                after = (target, _byte(byte)[place].bit_length() - 1)
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
    return False


def _byte(byte: int) -> _Moves:
    if byte == 0x22:
        return (1 << _STRING, 1 << _OUTSIDE, 1 << _STRING)
    if byte == 0x5C:
        return (1 << _OUTSIDE, 1 << _ESCAPE, 1 << _STRING)
    return (1 << _OUTSIDE, 1 << _STRING, 1 << _STRING)


def _moved(places: _Places, moves: _Moves) -> _Places:
    out = 0
    for place in range(3):
        if places >> place & 1:
            out |= moves[place]
    return out


def _joined(first: _Moves, second: _Moves) -> _Moves:
    return (_moved(first[0], second), _moved(first[1], second), _moved(first[2], second))


def _union(all_moves: Iterable[_Moves]) -> _Moves:
    out = _NONE
    for moves in all_moves:
        out = (out[0] | moves[0], out[1] | moves[1], out[2] | moves[2])
    return out


def _star(moves: _Moves) -> _Moves:
    out = _STAY
    while True:
        more = _union((out, _joined(out, moves)))
        if more == out:
            return out
        out = more


def _of_machine(machine: Machine) -> _Moves:
    out = []
    for place in range(3):
        seen, stack = {(0, place)}, [(0, place)]
        while stack:
            state, now = stack.pop()
            spend()
            for low, high, target in machine.edges[state]:
                special = [byte for byte in (0x22, 0x5C) if low <= byte <= high]
                other = [0x80] if high - low + 1 > len(special) else []
                for byte in [*special, *other]:
                    after = (target, _byte(byte)[now].bit_length() - 1)
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
        ends = 0
        for state, now in seen:
            if machine.accept[state]:
                ends |= 1 << now
        out.append(ends)
    return (out[0], out[1], out[2])


def _spelled(data: bytes) -> Expr:
    """A text that begins outside of strings, marks beside its separators."""
    items: list[Expr] = []
    place, begin = _OUTSIDE, 0
    for at, byte in enumerate(data):
        if place == _OUTSIDE and byte in _MARKS:
            one = Literal(data[at : at + 1])
            items += [Literal(data[begin:at]), alt(one, Mark(_MARKS[byte]))]
            begin = at + 1
        place = _byte(byte)[place].bit_length() - 1
    if not items:
        return Literal(data)
    return seq(*items, Literal(data[begin:]))
