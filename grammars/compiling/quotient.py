"""What may follow a given beginning of a grammar's texts: its left quotient.

Byte by byte, by the derivatives of Brzozowski (1964): the derivative of a rule is a new rule, so
recursion of any kind stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from grammars import ir
from grammars.compiling.analysis import Analysis, deep_recursion, is_nullable
from grammars.compiling.utf8 import END, Utf8Node, utf8_node
from grammars.errors import GrammarError
from grammars.ir import (
    EPSILON,
    NOTHING,
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
    Member,
    Not,
    Part,
    Ref,
    Repeat,
    Rule,
    Seq,
    alt,
    both,
    repeat,
    seq,
)
from grammars.limits import Limits
from grammars.uniqueness.memory import SEPARATORS
from grammars.uniqueness.regions import goes_on
from grammars.uniqueness.sections import memory_of


def quotient(grammar: GrammarIR, beginning: bytes, limits: Limits) -> GrammarIR:
    """The texts that complete ``beginning`` to a text of the grammar, for the rules alone.

    Raises:
        GrammarError: if the grammar is nested too deeply.
    """
    symbols = _symbols(grammar, beginning)
    if symbols is None:
        return GrammarIR((Rule(grammar.start, NOTHING),), grammar.start, grammar.notes)
    if grammar.json and beginning:
        part = Part(grammar.start, grammar.distinct_keys, grammar.compare_items)
        grammar = replace(grammar, json=False, parts=(part,))
    if grammar.parts:  # asked for anew where the whole is known
        grammar = replace(grammar, locator=None, distinct_keys=False, compare_items=False)
    try:
        with deep_recursion():
            for symbol in symbols:
                grammar = _Derivative(grammar, symbol, limits).grammar()
    except RecursionError:
        raise GrammarError("a grammar is nested too deeply to begin with its trigger") from None
    return grammar


def _symbols(grammar: GrammarIR, data: bytes) -> Sequence[int] | None:
    """The bytes, marks in place of separators behind repeated items; ``None`` at a repeated key."""
    memory = memory_of(grammar)
    if memory is None:
        return data
    after, marks, _ = memory.advance(memory.start, data)
    if after is None:
        return None
    symbols = list(data)
    for offset, symbol in marks:
        symbols[offset] = symbol
    return symbols


class _Derivative:
    """The quotient by one symbol."""

    def __init__(self, grammar: GrammarIR, symbol: int, limits: Limits) -> None:
        self._grammar: Final = grammar
        self._symbol: Final = symbol
        self._nullable: Final = Analysis(grammar, limits).nullable
        self._taken = {rule.name for rule in grammar.rules}
        self._names: dict[str, str] = {}
        self._todo: list[str] = []

    def grammar(self) -> GrammarIR:
        """Rules that are not reached any more are left out."""
        start = self._named(self._grammar.start)
        rules = {rule.name: rule for rule in self._grammar.rules}
        while self._todo:
            rule = self._grammar[self._todo.pop()]
            fresh = replace(rule, name=self._names[rule.name], body=self._of(rule.body))
            rules[fresh.name] = fresh
        reached = [start]
        for name in reached:  # grows while we iterate
            reached += [x for x in ir.refs(rules[name].body) if x not in reached]
        return replace(
            self._grammar,
            rules=tuple(rules[name] for name in reached),
            start=start,
            parts=tuple(self._parts(set(reached))),
        )

    def _parts(self, reached: set[str]) -> Iterator[Part]:
        """Rules that are left of parts; those behind which nothing of a value can matter are plain rules."""
        for part in self._grammar.parts:
            if part.rule in reached:
                yield part
            name = self._names.get(part.rule)
            if name in reached:
                byte = SEPARATORS.get(self._symbol, self._symbol)
                rest = replace(part, rule=name, read=part.read + bytes((byte,)))
                if goes_on(rest.read):
                    yield rest

    def _named(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            known = unused(name, self._taken)
            self._names[name] = known
            self._todo.append(name)
        return known

    def _of(self, expr: Expr) -> Expr:
        symbol = self._symbol
        match expr:
            case Literal(data):
                begins = data[:1] == bytes((symbol,)) if symbol < 256 else False
                return Literal(data[1:]) if begins else NOTHING
            case Chars(ranges):
                return self._rest(utf8_node(ranges))
            case ByteSet(ranges):
                return EPSILON if any(lo <= symbol <= hi for lo, hi in ranges) else NOTHING
            case Mark(own):
                return EPSILON if own == symbol else NOTHING
            case Machine():
                return self._machine(expr)
            case Seq(items):
                return self._sequence(items)
            case Alt(items):
                return alt(*map(self._of, items))
            case Repeat(item, low, high):
                low = 0 if is_nullable(item, self._nullable) else max(low - 1, 0)
                more = repeat(item, low, None if high is None else high - 1)
                return seq(self._of(item), more)
            case Ref(name):
                return Ref(self._named(name))
            case And(items):
                return both(*map(self._of, items))
            case Not(item):
                return Not(self._of(item)) if symbol < 256 else NOTHING
            case Bag(members):
                ways = (seq(self._of(m.item), _after(expr, i)) for i, m in enumerate(members))
                return alt(*ways)
        return NOTHING

    def _sequence(self, items: tuple[Expr, ...]) -> Expr:
        ways: list[Expr] = []
        for i, item in enumerate(items):
            ways.append(seq(self._of(item), *items[i + 1 :]))
            if not is_nullable(item, self._nullable):
                break
        return alt(*ways)

    def _rest(self, node: Utf8Node) -> Expr:
        return alt(*(_spelled(x) for mask, x in node if mask >> self._symbol & 1))

    def _machine(self, machine: Machine) -> Expr:
        row = machine.edges[0]
        start = next((t for lo, hi, t in row if lo <= self._symbol <= hi), None)
        return NOTHING if start is None else _restarted(machine, start)


def _after(bag: Bag, first: int) -> Expr:
    """What may follow in a bag when its first item was one of a member's."""
    if bag.conditions or bag.loose:
        return _after_conditional(bag, first)
    taken = bag.members[first]
    left: list[Member] = []
    for i, member in enumerate(bag.members):
        if i == first:
            most = None if member.max is None else member.max - 1
            member = replace(member, min=max(member.min - 1, 0), max=most)
        past = bag.ordered and i < first
        if past or (taken.group is not None and member.group == taken.group):
            member = replace(member, max=0)
        if member.max is not None and member.max < member.min:
            return NOTHING
        left.append(member)
    ends = bag.low == 1 and not any(member.min for member in left)
    high = None if bag.high is None else bag.high - 1
    more: Expr = NOTHING
    if high != 0:
        more = ir.bag(left, bag.separator, max(bag.low - 1, 1), high, ordered=bag.ordered)
    return alt(EPSILON if ends else NOTHING, seq(bag.separator, more))


def _after_conditional(bag: Bag, first: int) -> Expr:
    """The same for a bag with conditions; clauses that hold now are left out."""
    taken = bag.members[first]
    single = taken.group is not None or taken.max is not None
    free = len(bag.members) - bag.loose
    left = [
        replace(m, min=0, max=0)
        if (bag.ordered and min(i, free) < min(first, free))
        or (single and (i == first or (m.group == taken.group and m.group is not None)))
        else m
        for i, m in enumerate(bag.members)
    ]
    if any(m.min and left[i].max == 0 and i != first for i, m in enumerate(bag.members)):
        return NOTHING
    conditions = []
    for condition in bag.conditions:
        clauses = [
            tuple(x for x in clause if x >= 0 or taken.group is None or ~x != taken.group)
            for clause in condition.clauses
            if first not in clause
        ]
        conditions.append(replace(condition, clauses=tuple(clauses)))
    more = ir.bag(left, bag.separator, ordered=bag.ordered, conditions=conditions, loose=bag.loose)
    # the same where nothing more comes: every absent literal that is left holds
    ends = not any(m.min for m in left) and all(
        c.allows(sum(all(x >= 0 for x in clause) for clause in c.clauses)) for c in conditions
    )
    return alt(EPSILON if ends else NOTHING, seq(bag.separator, more))


def _spelled(node: Utf8Node) -> Expr:
    if node == END:
        return EPSILON
    ways = []
    for mask, following in node:
        values = ((b, b) for b in range(256) if mask >> b & 1)
        ways.append(seq(ByteSet(ir.normalize_ranges(values)), _spelled(following)))
    return alt(*ways)


def _restarted(machine: Machine, start: int) -> Machine:
    """The machine from another state on: that one becomes state 0."""
    order = [start, *(q for q in range(len(machine.accept)) if q != start)]
    number = {q: i for i, q in enumerate(order)}
    edges = tuple(tuple((lo, hi, number[t]) for lo, hi, t in machine.edges[q]) for q in order)
    return Machine(edges, tuple(machine.accept[q] for q in order))


def unused(name: str, taken: set[str]) -> str:
    """A name like this one that is not taken yet; it is from now on."""
    fresh, i = name, 1
    while fresh in taken:
        i += 1
        fresh = f"{name}.{i}"
    taken.add(fresh)
    return fresh
