"""The outline of a grammar around its JSON values: a nondeterministic automaton that may read more.

It answers one question, where values of parts begin (:mod:`grammars.uniqueness.locating`), so it may read
too much, never too little: values are single edges, brackets of recursive rules need not match, long
counts are not counted.  Rules in which no value is that matters are *coarse* at first, any text in their
bytes: following all readings of a programming language would take for ever, and what matters may only be
that a token stands behind it.  The search says which of them have to be read as they are.  These are copied
where they are called, and only when the search gets there; of a recursive rule there is one copy for each
call from outside the recursion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from typing import Final

from grammars.compiling.analysis import Analysis, is_nullable
from grammars.compiling.automata import ALL_BYTES, components
from grammars.compiling.building import RuleBuilder
from grammars.compiling.utf8 import ByteMask, Utf8Node, ranges_mask, utf8_node
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import (
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
    Part,
    Ref,
    Repeat,
    Seq,
    children,
    refs,
)
from grammars.limits import Limits
from grammars.work import spend

VALUE_STARTS: Final[ByteMask] = ranges_mask(((0x22, 0x22), (0x5B, 0x5B), (0x7B, 0x7B)))
"""First bytes of JSON values whose end shows: ``"``, ``[`` and ``{``."""
_SCALARS: Final[ByteMask] = ranges_mask(
    ((0x2B, 0x2B), (0x2D, 0x2E), (0x30, 0x39), (0x41, 0x5A))
) | (ranges_mask(((0x61, 0x7A),)))
"""What numbers, ``true``, ``false`` and ``null`` are made of."""
_FEW: Final = 8
"""Bounds of repetitions up to which copies are counted."""


class Outline:
    """The automaton; states are list positions.

    Args:
        grammar: the rules.
        parts: by the names of their rules.
        limits: bounds on automata of regular parts.
        exact: rules that are not coarse; all if there is no set.

    Attributes:
        coarse: the coarse rules, by the state that stands for each.
        eps, edges: of each state.
        values: of each state, (rule of a part, state behind its value).
        useful: of each state, whether a value for which memory is asked may be ahead.
    """

    def __init__(
        self,
        grammar: GrammarIR,
        parts: Mapping[str, Part],
        limits: Limits,
        exact: Set[str] | None = None,
    ) -> None:
        self._grammar = grammar
        self._parts = parts
        self._exact = exact
        self.coarse: dict[int, str] = {}
        self._alphabets: dict[str, ByteMask] = {}
        self._limits = limits
        self._analysis = Analysis(grammar, limits)
        self.eps: list[list[int]] = []
        self.edges: list[list[tuple[ByteMask, int]]] = []
        self.values: list[list[tuple[str, int]]] = []
        self.useful: list[bool] = []
        self._pending: dict[int, tuple[str, int]] = {}
        self._known: dict[tuple[int, int], int] = {}
        self._called: dict[tuple[str, int, bool], int] = {}
        self._contained: dict[int, bool] = {}
        self._firsts = FirstBytes(grammar, self._analysis.nullable)
        self._ring = _rings(grammar, self._analysis.names, parts)
        self._asking = self._rules_that_ask()
        self._inside: dict[str, tuple[int, int]] = {}
        self.end = self._state(False)
        self.start = self._call(grammar.start, self.end)

    def first(self, rule: str) -> ByteMask:
        """The bytes that texts of a rule begin with (a superset)."""
        return self._firsts.of_rule(rule)

    def opened(self, rule: str, then: int) -> int:
        """A state from which the texts of a part are read byte by byte, and then what follows."""
        return self._call(rule, then, opened=True)

    def expand(self, state: int) -> None:
        """Copies the rule that is called at a state, if that was put off."""
        waiting = self._pending.pop(state, None)
        if waiting is not None:
            self._copy(state, *waiting)

    # -- which rules matter --------------------------------------------------------------------

    def _rules_that_ask(self) -> set[str]:
        """Rules in whose texts a value may be for which memory is asked."""
        callers: dict[str, list[str]] = {}
        for name in self._analysis.names:
            if name not in self._parts:
                for callee in refs(self._grammar[name].body):
                    callers.setdefault(callee, []).append(name)
        found = {part.rule for part in self._parts.values() if part.asks}
        stack = list(found)
        while stack:
            for caller in callers.get(stack.pop(), ()):
                if caller not in found:
                    found.add(caller)
                    stack.append(caller)
        return found

    def _contains(self, expr: Expr) -> bool:
        """Whether such a value may be in a text of an expression."""
        known = self._contained.get(id(expr))
        if known is None:
            if isinstance(expr, Ref):
                known = expr.name in self._asking
            else:
                known = any(self._contains(part) for part in children(expr))
            self._contained[id(expr)] = known
        return known

    # -- building, from the last part back --------------------------------------------------------

    def _state(self, useful: bool) -> int:
        spend()
        self.eps.append([])
        self.edges.append([])
        self.values.append([])
        self.useful.append(useful)
        return len(self.eps) - 1

    def _before(self, expr: Expr, then: int) -> int:
        """A state from which a text of the expression leads to another state."""
        key = (id(expr), then)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._made(expr, then)
        return known

    def _made(self, expr: Expr, then: int) -> int:
        useful = self.useful[then] or self._contains(expr)
        match expr:
            case Literal(data):
                return self._spelled(data, then)
            case Chars(ranges):
                return self._character(utf8_node(ranges), then, {})
            case ByteSet(ranges):
                return self._edge(ranges_mask(ranges), then)
            case Mark(symbol):
                return self._edge(1 << (0x2C if symbol == REPEATED_COMMA else 0x5D), then)
            case Machine():
                return self._machine(expr, then)
            case Seq(items):
                for item in reversed(items):
                    then = self._before(item, then)
                return then
            case Alt(items):
                made = self._state(useful)
                self.eps[made] = [self._before(item, then) for item in items]
                return made
            case Repeat(item, low, high):
                return self._repeat(item, low, high, then)
            case Ref(name):
                return self._call(name, then)
            case Bag(members, separator):
                after = self._state(useful)
                each = self._state(useful)
                self.eps[each] = [self._before(member.item, after) for member in members]
                self.eps[after] = [then, self._before(separator, each)]
                return each
            case And() | Not():
                return self._regular(expr, then)
        return self._state(False)  # nothing leads on from here

    def _edge(self, mask: ByteMask, then: int) -> int:
        made = self._state(self.useful[then])
        self.edges[made].append((mask, then))
        return made

    def _spelled(self, data: bytes, then: int) -> int:
        for byte in reversed(data):
            then = self._edge(1 << byte, then)
        return then

    def _character(self, node: Utf8Node, then: int, known: dict[Utf8Node, int]) -> int:
        if not node:
            return then
        made = known.get(node)
        if made is None:
            made = known[node] = self._state(self.useful[then])
            self.edges[made] = [(mask, self._character(rest, then, known)) for mask, rest in node]
        return made

    def _machine(self, machine: Machine, then: int) -> int:
        states = [self._state(self.useful[then]) for _ in machine.accept]
        for state, row, accepts in zip(states, machine.edges, machine.accept, strict=True):
            masks: dict[int, ByteMask] = {}
            for low, high, target in row:
                masks[target] = masks.get(target, 0) | ranges_mask(((low, high),))
            self.edges[state] = [(mask, states[target]) for target, mask in masks.items()]
            if accepts:
                self.eps[state].append(then)
        return states[0]

    def _repeat(self, item: Expr, low: int, high: int | None, then: int) -> int:
        useful = self.useful[then] or self._contains(item)
        if high is None or high > _FEW:
            loop = self._state(useful)
            self.eps[loop] = [then, self._before(item, loop)]
            then = loop
            low = low if low <= _FEW else 1
        else:
            for _ in range(high - low):
                more = self._state(useful)
                self.eps[more] = [then, self._before(item, then)]
                then = more
        for _ in range(low):
            then = self._before(item, then)
        return then

    def _regular(self, expr: And | Not, then: int) -> int:
        if self._contains(expr):
            raise GrammarError(
                "a part that compares keys or items stands in an intersection or a complement, where its "
                "values cannot be found; take it out of there"
            )
        try:
            dfa = self._builder.regular_dfa(expr)
        except LimitExceeded as error:
            more = (
                [x for x in expr.items if not isinstance(x, Not)] if isinstance(expr, And) else []
            )
            if error.limit != "max_dfa_states" or not more:
                raise
            return self._before(more[0], then)
        states = [self._state(self.useful[then]) for _ in dfa.accept]
        for state, row, accepts in zip(states, dfa.edges, dfa.accept, strict=True):
            self.edges[state] = [(label & ALL_BYTES, states[target]) for label, target, _ in row]
            if accepts:
                self.eps[state].append(then)
        return states[dfa.start]

    @cached_property
    def _builder(self) -> RuleBuilder:
        return RuleBuilder(self._analysis, self._limits, ALL_BYTES)

    # -- rules ---------------------------------------------------------------------------------

    def _call(self, name: str, then: int, *, opened: bool = False) -> int:
        place = self._inside.get(name)
        if place is not None:  # within its own recursion
            entry, leave = place
            self.eps[leave].append(then)
            return entry
        key = (name, then, opened)
        known = self._called.get(key)
        if known is None:
            known = self._called[key] = self._state(self.useful[then] or name in self._asking)
            if name in self._parts and not opened:
                self._value(known, name, then)
            elif self._is_coarse(name):
                self.coarse[known] = name
                self.eps[known].append(then)
                self.edges[known].append((self._alphabet(name), known))
            else:
                self._pending[known] = (name, then)
        return known

    def _is_coarse(self, name: str) -> bool:
        """Whether a rule is read as any text in its bytes."""
        if self._exact is None or name in self._exact or name in self._asking:
            return False
        body = self._grammar[name].body  # automata stand for free text, which matters
        return not isinstance(body, Literal | Machine | And | Not)

    def _alphabet(self, name: str) -> ByteMask:
        """The bytes in the texts of a rule (a superset)."""
        seen = {name}
        stack = [name]
        mask = 0
        while stack:
            one = stack.pop()
            if one not in self._alphabets:
                self._alphabets[one] = _bytes_of(self._grammar[one].body)
            mask |= self._alphabets[one]
            fresh = [x for x in refs(self._grammar[one].body) if x not in seen]
            seen.update(fresh)
            stack += fresh
        return mask

    def _value(self, state: int, name: str, then: int) -> None:
        self.values[state].append((name, then))
        if not self._parts[name].read:
            others = self.first(name) & ~VALUE_STARTS
            if others:  # the end of a number does not show, and need not be known
                loop = self._state(self.useful[then])
                self.eps[loop].append(then)
                self.edges[loop].append((_SCALARS, loop))
                self.edges[state].append((others, loop))

    def _copy(self, state: int, name: str, then: int) -> None:
        ring = self._ring.get(name, ())
        if not ring:
            self.eps[state].append(self._before(self._grammar[name].body, then))
            return
        useful = self.useful[state]
        outer, self._inside = self._inside, {}
        for member in ring:
            self._inside[member] = (self._state(useful), self._state(useful))
        for member, (entry, leave) in self._inside.items():
            self.eps[entry].append(self._before(self._grammar[member].body, leave))
        entry, leave = self._inside[name]
        self._inside = outer
        self.eps[state].append(entry)
        self.eps[leave].append(then)


def _rings(
    grammar: GrammarIR, names: list[str], parts: Mapping[str, Part]
) -> dict[str, tuple[str, ...]]:
    """By recursive rule, the rules that call each other in a ring with it."""
    number = {name: i for i, name in enumerate(names)}
    calls = [[number[callee] for callee in refs(grammar[name].body)] for name in names]
    found: dict[str, tuple[str, ...]] = {}
    for component in components(calls):
        members = tuple(names[i] for i in component)
        if len(members) > 1 or component[0] in calls[component[0]]:
            found |= dict.fromkeys(members, members)
    return found


def _bytes_of(expr: Expr) -> ByteMask:
    """The bytes that an expression reads itself (a superset)."""
    mask = 0
    stack = [expr]
    while stack:
        node = stack.pop()
        spend()
        match node:
            case Literal(data):
                for byte in set(data):
                    mask |= 1 << byte
            case Chars(ranges):
                mask |= _bytes_of_characters(utf8_node(ranges))
            case ByteSet(ranges):
                mask |= ranges_mask(ranges)
            case Mark(symbol):
                mask |= 1 << (0x2C if symbol == REPEATED_COMMA else 0x5D)
            case Machine(edges):
                for row in edges:
                    mask |= ranges_mask(tuple((low, high) for low, high, _ in row))
            case And(items):
                inside = ALL_BYTES
                for item in items:
                    if not isinstance(item, Not) and not refs(item):
                        inside &= _bytes_of(item)
                mask |= inside
            case Not():
                return ALL_BYTES
            case _:
                stack.extend(children(node))
    return mask


def _bytes_of_characters(node: Utf8Node) -> ByteMask:
    mask = 0
    seen = {node}
    stack = [node]
    while stack:
        for edge, rest in stack.pop():
            mask |= edge
            if rest not in seen:
                seen.add(rest)
                stack.append(rest)
    return mask


class FirstBytes:
    """The bytes that texts begin with (a superset), by rule."""

    def __init__(self, grammar: GrammarIR, nullable: Iterable[str]) -> None:
        self._grammar = grammar
        self._nullable = frozenset(nullable)
        self._rules: dict[str, ByteMask] = {}
        self._open: list[str] = []

    def of_rule(self, name: str) -> ByteMask:
        """Those of a rule."""
        if name not in self._rules:
            self._settle(name)
        return self._rules[name]

    def _settle(self, name: str) -> None:
        """Works out a rule and all that may stand first in it, to the least fixed point."""
        self._rules[name] = 0
        self._open = [name]
        changed = True
        while changed:
            changed = False
            for one in reversed(self._open):
                spend(2)
                found = self._of(self._grammar[one].body)
                if found != self._rules[one]:
                    self._rules[one] = found
                    changed = True

    def _of(self, expr: Expr) -> ByteMask:
        match expr:
            case Literal(data):
                return 1 << data[0] if data else 0
            case Chars(ranges):
                return self._union(mask for mask, _ in utf8_node(ranges))
            case ByteSet(ranges):
                return ranges_mask(ranges)
            case Mark(symbol):
                return 1 << (0x2C if symbol == REPEATED_COMMA else 0x5D)
            case Machine(edges):
                return ranges_mask(tuple((low, high) for low, high, _ in edges[0]))
            case Seq(items):
                out = 0
                for item in items:
                    out |= self._of(item)
                    if not is_nullable(item, self._nullable):
                        break
                return out
            case Ref(name):
                if name not in self._rules:
                    self._rules[name] = 0
                    self._open.append(name)
                    return self._of(self._grammar[name].body)
                return self._rules[name]
            case And(items):
                out = ALL_BYTES
                for item in items:
                    if not isinstance(item, Not):
                        out &= self._of(item)
                return out
            case Not():
                return ALL_BYTES
            case Bag(members):
                return self._union(self._of(member.item) for member in members)
        return self._union(map(self._of, children(expr)))

    @staticmethod
    def _union(masks: Iterable[ByteMask]) -> ByteMask:
        out = 0
        for mask in masks:
            out |= mask
        return out
