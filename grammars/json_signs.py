"""Signs of JSON outside of strings, replaced in rules: separators by marks, or by separators with blanks.

Which commas, colons and brackets of a rule stand outside of strings follows from a small automaton (outside,
in a string, behind a backslash), whose states at the start of each rule are found by going through all rules
from those whose texts are JSON values.

*Marks*: behind an item that repeats an earlier one memory puts a mark in the place of the separator.  Rules
that compare no items but may stand where items are compared have to take the mark for the separator.  More
marks than needed do no harm, as memory makes none in strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from grammars import ir
from grammars.compiling.analysis import Analysis, deep_recursion
from grammars.compiling.automata import ALL_BYTES, expand
from grammars.compiling.building import RuleBuilder
from grammars.compiling.quotient import unused
from grammars.compiling.utf8 import ByteMask
from grammars.errors import GrammarError
from grammars.ir import (
    EPSILON,
    NOTHING,
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
    Not,
    Nothing,
    Ranges,
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
    signs: dict[int, Expr] = {
        byte: alt(Literal(bytes((byte,))), Mark(symbol)) for byte, symbol in _MARKS.items()
    }
    return _replaced(grammar, roots, _Replacement(signs, {}, exact=False), limits)


def with_separators(grammar: GrammarIR, item: str, key: str, limits: Limits) -> GrammarIR:
    """A grammar of JSON values without blanks, with blanks around its commas and colons.

    Args:
        grammar: its rules.
        item: what stands between items and members: a comma, with blanks.
        key: what stands between a key and its value: a colon, with blanks.
        limits: bounds on automata of regular parts.

    Raises:
        ValueError: for separators of another kind.
        GrammarError: for a rule of which a part may stand in strings and outside of them.
    """
    for name, text, sign in (("item", item, ","), ("key", key, ":")):
        if text.strip(" \t\r\n") != sign:
            raise ValueError(f"the {name} separator of JSON is {sign!r} with blanks, not {text!r}")
    before, behind = item.split(",")
    repeated = seq(ir.text(before), Mark(REPEATED_COMMA), ir.text(behind))
    signs = {0x2C: ir.text(item), 0x3A: ir.text(key)}
    replacement = _Replacement(signs, {REPEATED_COMMA: repeated}, exact=True)
    return _replaced(grammar, frozenset({grammar.start}), replacement, limits)


@dataclass(frozen=True)
class _Replacement:
    """What stands for signs.

    Attributes:
        signs: by byte.
        marks: by symbol; others stay.
        exact: it must not be done in strings.
    """

    signs: Mapping[int, Expr]
    marks: Mapping[int, Expr]
    exact: bool


def _replaced(
    grammar: GrammarIR, roots: frozenset[str], replacement: _Replacement, limits: Limits
) -> GrammarIR:
    rewriter = _Rewriter(grammar, replacement, limits)
    with deep_recursion():
        for root in roots:
            rewriter.enter(root)
        return rewriter.grammar()


class _Rewriter:
    def __init__(self, grammar: GrammarIR, replacement: _Replacement, limits: Limits) -> None:
        self._grammar = grammar
        self._replacement = replacement
        self._signs = sum(1 << byte for byte in replacement.signs)
        self._limits = limits
        self._moves: dict[str, _Moves] = {}
        self._seen: dict[int, _Moves] = {}
        self._places: dict[int, _Places] = {}
        self._rules: dict[str, _Places] = {}
        self._done: dict[tuple[int, _Places], Expr] = {}
        self._fresh: list[Rule] = []
        self._taken = {rule.name for rule in grammar.rules}
        self._builder: RuleBuilder | None = None

    def grammar(self) -> GrammarIR:
        """The changed grammar."""
        rules = tuple(
            replace(rule, body=self._changed(rule.body, self._rules[rule.name]))
            if rule.name in self._rules
            else rule
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

    # -- replacing -----------------------------------------------------------------------------

    def _changed(self, expr: Expr, places: _Places) -> Expr:
        """An expression that begins in some states."""
        key = (id(expr), places)
        known = self._done.get(key)
        if known is None:
            known = self._done[key] = self._made(expr, places)
        return known

    def _made(self, expr: Expr, places: _Places) -> Expr:
        outside = bool(places & 1 << _OUTSIDE)
        match expr:
            case Literal(data):
                return self._literal(data, places) if outside else expr
            case Chars(ranges) | ByteSet(ranges):
                signs = [b for b in self._replacement.signs if _has(ranges, b)] if outside else []
                return self._class(expr, signs, places) if signs else expr
            case Mark(symbol):
                return self._replacement.marks.get(symbol, expr)
            case Machine() | And() | Not():
                return self._regular(expr, places) if outside else expr
            case Alt(items):
                return alt(*(self._changed(item, places) for item in items))
            case Seq(items):
                made = []
                for item in items:
                    made.append(self._changed(item, places))
                    places = _moved(places, self._of(item))
                return seq(*made)
            case Repeat(item):
                inside = self._changed(item, _moved(places, _star(self._of(item))))
                return replace(expr, item=inside)
            case Bag(members, separator):
                moves = _union(self._of(member.item) for member in members)
                begin = _moved(places, _star(_joined(moves, self._of(separator))))
                fresh = [self._changed(member.item, begin) for member in members]
                return with_children(expr, [*fresh, self._changed(separator, _moved(begin, moves))])
        return expr

    def _check(self, places: _Places) -> None:
        if self._replacement.exact and places != 1 << _OUTSIDE:
            raise GrammarError(
                "the separators of this grammar cannot be told from signs in its strings; use "
                "whitespace= instead of separators="
            )

    def _literal(self, data: bytes, places: _Places) -> Expr:
        items: list[Expr] = []
        place, begin = _OUTSIDE, 0
        for at, byte in enumerate(data):
            if place == _OUTSIDE and byte in self._replacement.signs:
                self._check(places)
                items += [Literal(data[begin:at]), self._replacement.signs[byte]]
                begin = at + 1
            place = _byte(byte)[place].bit_length() - 1
        return seq(*items, Literal(data[begin:]))

    def _class(self, expr: Chars | ByteSet, signs: list[int], places: _Places) -> Expr:
        self._check(places)
        used = ((byte, byte) for byte in signs)
        limit = 0xFF if isinstance(expr, ByteSet) else ir.MAX_CODE_POINT
        rest = ir.intersect_ranges(expr.ranges, ir.invert_ranges(ir.normalize_ranges(used), limit))
        others: Expr = NOTHING
        if rest:
            others = ByteSet(rest) if isinstance(expr, ByteSet) else ir.chars(rest)
        return alt(others, *(self._replacement.signs[byte] for byte in signs))

    def _regular(self, expr: Expr, places: _Places) -> Expr:
        """A regular expression that reads signs outside of strings: a rule for each state."""
        if self._builder is None:
            self._builder = RuleBuilder(
                Analysis(self._grammar, self._limits), self._limits, ALL_BYTES
            )
        dfa = expand(self._builder.regular_dfa(expr), self._limits.max_dfa_states)
        if not _reads_signs(dfa.start, dfa.edges, self._signs):
            return expr
        self._check(places)
        start = (dfa.start, _OUTSIDE)
        names = {start: unused("value", self._taken)}
        todo = [start]
        for state, place in todo:  # grows while we iterate
            ways: list[Expr] = [EPSILON] if dfa.accept[state] else []
            for label, target, _ in dfa.edges[state]:
                for mask, after in _split(label, place):
                    goal = (target, after)
                    if goal not in names:
                        names[goal] = unused("value", self._taken)
                        todo.append(goal)
                    ways.append(seq(self._read(mask, place), Ref(names[goal])))
            self._fresh.append(Rule(names[state, place], alt(*ways)))
        return Ref(names[start])

    def _read(self, mask: ByteMask, place: int) -> Expr:
        """One byte of a mask, or what stands for it."""
        signs = [b for b in self._replacement.signs if place == _OUTSIDE and mask >> b & 1]
        rest = mask & ~sum(1 << byte for byte in signs) & ALL_BYTES
        plain = ((byte, byte) for byte in range(256) if rest >> byte & 1)
        others = ByteSet(ir.normalize_ranges(plain)) if rest else NOTHING
        return alt(others, *(self._replacement.signs[byte] for byte in signs))


def _has(ranges: Ranges, value: int) -> bool:
    return any(low <= value <= high for low, high in ranges)


def _split(label: ByteMask, place: int) -> list[tuple[ByteMask, int]]:
    """The bytes of an edge by the state behind them."""
    out = [(1 << b, _byte(b)[place].bit_length() - 1) for b in (0x22, 0x5C) if label >> b & 1]
    others = label & ALL_BYTES & ~(1 << 0x22 | 1 << 0x5C)
    return [*out, (others, _byte(0x80)[place].bit_length() - 1)] if others else out


def _reads_signs(start: int, edges: list[list[tuple[int, int, int]]], signs: ByteMask) -> bool:
    """Whether a text of an automaton has one of some signs outside of strings, if it begins there."""
    seen, stack = {(start, _OUTSIDE)}, [(start, _OUTSIDE)]
    while stack:
        state, place = stack.pop()
        spend()
        for label, target, _ in edges[state]:
            if place == _OUTSIDE and label & signs:
                return True
            for _, after in _split(label, place):
                if (target, after) not in seen:
                    seen.add((target, after))
                    stack.append((target, after))
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
