"""From expressions to automata over bytes and calls, rule by rule.

Intersections and complements are computed on automata; long repetitions become counters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from grammars import ir
from grammars.compiling.analysis import has_wide_loop, is_nullable, place_of
from grammars.compiling.assembly import FINISH, NOWHERE, Assembler, Node
from grammars.compiling.automata import (
    ALL_BYTES,
    ALL_MARKS,
    EMPTY,
    Dfa,
    Edge,
    Nfa,
    call_label,
    complement,
    determinize,
    expand,
    intersect,
    of_words,
    reduce,
    settle,
    subtract,
    trim,
)
from grammars.compiling.bags import BagSpec
from grammars.compiling.shelf import Shelf
from grammars.compiling.utf8 import ByteMask, ranges_mask, utf8_node
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import (
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
    Nothing,
    Ref,
    Repeat,
    Rule,
    Seq,
    Substrings,
)
from grammars.limits import Limits

_COPY_LIMIT: Final = 256
"""A bounded repetition becomes a counter when its copies would have more states than this."""
_MANY_WORDS: Final = 500
"""Alternative texts of one place above which their minimal automaton is built directly."""


def copy_limit() -> int:
    """States of all copies of a repetition above which it is counted."""
    return _COPY_LIMIT


@dataclass
class BagPart:
    """What makes a rule a bag.

    Attributes:
        members: each member's rule number and bounds.
        spec: the settled bounds, once it is known which members have texts.
        takes: states at which items begin.
        returns: states after an item, by flags.
    """

    source: Bag
    members: list[tuple[int, Member]]
    spec: BagSpec | None = None
    takes: tuple[int, ...] = ()
    returns: tuple[int, ...] = ()


@dataclass
class BuiltRule:
    """A rule's automaton; that of a bag is its separator's until ``lay_out_bags``.

    Attributes:
        source: the rule of the grammar that it is, or is a part of.
        called: which rules an automaton calls, and of which automaton that was found.
    """

    source: Rule
    dfa: Dfa
    nullable: bool = False
    bag: BagPart | None = None
    called: tuple[Dfa, list[int]] = (EMPTY, [])

    @property
    def name(self) -> str:
        """The name of that rule."""
        return self.source.name


@dataclass(frozen=True)
class Lexeme:
    """A part of a sequence that becomes a rule of its own."""

    expr: Expr


PLAIN: Final[Shelf[Dfa]] = Shelf(200_000)
"""Automata of expressions without references, by content: the same in all grammars."""


class RuleFacts(Protocol):
    """What is known of the rules of a grammar: :class:`~grammars.compiling.analysis.Analysis`."""

    @property
    def grammar(self) -> GrammarIR: ...
    @property
    def recursive(self) -> Set[str]: ...
    @property
    def nullable(self) -> Set[str]: ...
    def inlines(self, name: str) -> bool:
        """Whether a reference to the rule is replaced by the rule's body."""
        ...


Conjunction: TypeAlias = Callable[[Sequence[Dfa], Sequence[Dfa]], Dfa]
"""Texts that all of some automata accept, of any number, and none of some others, which are not counted."""


class RuleBuilder:
    """Builds the automaton of the start rule and, from there, of every rule it calls.

    Args:
        analysis: what is known of the rules.
        limits: bounds.
        alphabet: the bytes that texts have.
        products: makes intersections and complements; not given: steps in plain Python.

    Attributes:
        rules: by number.
        items: where rules are built elsewhere (:meth:`name_rules`), the rules of items of bags: number,
            expression, whether free text in it is kept apart.
    """

    def __init__(
        self,
        analysis: RuleFacts,
        limits: Limits,
        alphabet: ByteMask,
        products: Conjunction | None = None,
    ) -> None:
        self.analysis = analysis
        self._products = products or self._intersected
        self.grammar = analysis.grammar
        self.limits = limits
        self.alphabet = alphabet
        self.rules: list[BuiltRule] = []
        self._index: dict[str, int] = {}
        self._todo: list[str] = []
        self._named = False
        self.items: list[tuple[int, Expr, bool]] = []
        self._todo_numbers: list[int] = []
        self._counted: dict[Expr, int] = {}
        self._bags: dict[Bag, int] = {}
        self._items: dict[Expr, int] = {}
        self._regular: dict[Expr, Dfa] = {}
        self._wanting: dict[str, bool] = {}
        self._inlined: dict[tuple[str, Node], Node] = {}
        self._loops: dict[tuple[Expr, Node], Node] = {}
        self._context = ""
        self._extracting = False

    # -- parts of rules that are built elsewhere ---------------------------------------------------

    def name_rules(self, names: Sequence[str]) -> None:
        """Gives rules their numbers, which are then not built here: :meth:`called_names` tells them."""
        nullable = self.analysis.nullable
        self.rules = [BuiltRule(self.grammar[name], EMPTY, name in nullable) for name in names]
        self._index = {name: number for number, name in enumerate(names)}
        self._named = True

    def called_names(self) -> list[int]:
        """Numbers of the named rules that were called since this was last asked."""
        out, self._todo_numbers = self._todo_numbers, []
        return out

    @contextmanager
    def within(self, name: str, extracting: bool) -> Iterator[None]:
        """What is made meanwhile is a part of a rule."""
        self._context, self._extracting = name, extracting
        with place_of(self.grammar[name]):
            yield

    def add_part(self, dfa: Dfa, nullable: bool) -> None:
        """Adds a rule that was made before, for another grammar."""
        self.rules.append(BuiltRule(self.grammar[self._context], dfa, nullable))

    def counted_loop_rule(self, expr: Repeat) -> int:
        """The number of the rule of a counted repetition."""
        known = self._counted.get(expr)
        if known is None:
            known = self.counted_rule(expr, self._kept(expr, self.counting_loop))
        return known

    # -- whole rules -------------------------------------------------------------------------------

    def build_start(self) -> int:
        """Builds all rules; returns the number of a start rule that nothing calls."""
        name = self.grammar.start
        top = self._rule_dfa(name)
        while self._todo:
            self._build(self._todo.pop())
        # the start rule is never called, so it may accept the empty text; its start state must
        # not be entered again, or the empty text would be accepted there as well
        self.rules.append(
            BuiltRule(self.grammar[name], fresh_start(top, accepting=top.accept[top.start]))
        )
        return len(self.rules) - 1

    def _rule_dfa(self, name: str) -> Dfa:
        rule = self.grammar[name]
        self._context = name
        with place_of(rule):
            try:
                self._extracting = self._wants_lexemes(name)
                return self._plain_dfa(rule.body)
            except RecursionError:
                raise GrammarError(
                    "the rules that this one is made of are nested too deeply; make them fewer"
                ) from None

    def _build(self, name: str) -> None:
        dfa = self._rule_dfa(name)
        self.rules[self._index[name]].dfa = fresh_start(dfa, accepting=False)

    def _restricted(self, dfa: Dfa) -> Dfa:
        """Only edges on available bytes."""
        if self.alphabet == ALL_BYTES:
            return dfa
        available = self.alphabet | ALL_MARKS
        rows: list[list[Edge]] = [
            [
                (lab if lab < 0 else lab & available, t, inc)
                for lab, t, inc in row
                if lab < 0 or lab & available
            ]
            for row in dfa.edges
        ]
        kept = Dfa(dfa.start, dfa.accept, rows, dfa.counted, dfa.count_min, dfa.count_max)
        return reduce(trim(kept))

    def _rule_number(self, name: str) -> int:
        number = self._index.get(name)
        if self._named and number is not None:
            self._todo_numbers.append(number)
        if number is None:
            number = self._index[name] = len(self.rules)
            self.rules.append(BuiltRule(self.grammar[name], EMPTY, name in self.analysis.nullable))
            self._todo.append(name)
        return number

    def _call(self, made: Assembler, number: int, then: Node) -> Node:
        called = made.edge(call_label(number), then)
        return made.union((called, then)) if self.rules[number].nullable else called

    # -- expressions ---------------------------------------------------------------------------

    def _dfa(self, expr: Expr, regular: bool) -> Dfa:
        """The automaton of an expression, uncounted; no calls if ``regular``."""
        key = (expr, self.limits.max_dfa_states, regular or not self._extracting)
        known = PLAIN.get(key)
        if known is not None:
            return known
        made = self._assembler()
        with _Memo(self):
            dfa = made.dfa(self._before(made, expr, FINISH, regular))
        if not _calls(dfa) and not any(isinstance(x, Ref) for x in ir.walk(expr)):
            PLAIN.keep(key, dfa, sum(map(len, dfa.edges)) + len(dfa))
        return dfa

    def _assembler(self) -> Assembler:
        what = f"the repetitions of rule {self._context!r}"
        return Assembler(self.limits.max_dfa_states, what)

    def _before(self, made: Assembler, expr: Expr, then: Node, regular: bool) -> Node:
        """The node at which the expression is read, and then what ``then`` says."""
        match expr:
            case Nothing():
                return NOWHERE
            case Literal(data):
                return made.literal(data, then)
            case Chars(ranges):
                return made.characters(utf8_node(ranges), then)
            case ByteSet(ranges):
                return made.edge(ranges_mask(ranges), then)
            case Machine():
                return made.embed(_machine_dfa(expr, self.limits), then)
            case Seq(items):
                return self._sequence(made, items, then, regular)
            case Alt(items):
                return self._alternatives(made, items, then, regular)
            case Repeat():
                return self._repeat(made, expr, then, regular)
            case Ref(name):
                return self._reference(made, name, then, regular)
            case Mark(symbol):
                return made.edge(1 << symbol, then)
            case Bag():
                if regular:
                    raise GrammarError(
                        "items in any order are used inside an intersection or a complement "
                        f"(in rule {self._context!r}), which is possible for regular parts only"
                    )
                return self._call(made, self.bag_rule(expr), then)
            case And() | Not():
                dfa = self.regular_dfa(expr)
                if dfa.counted and not regular:
                    return self._call(made, self.counted_rule(expr, dfa), then)
                return made.embed(expand(dfa, self.limits.max_dfa_states), then)

    def _alternatives(
        self, made: Assembler, items: tuple[Expr, ...], then: Node, regular: bool
    ) -> Node:
        words = [item.data for item in items if isinstance(item, Literal)]
        ways = [
            self._before(made, item, then, regular)
            for item in items
            if not isinstance(item, Literal)
        ]
        if len(words) > 1:
            ways.append(made.words(words, then))
        elif words:
            ways.append(made.literal(words[0], then))
        return made.union(ways)

    def _reference(self, made: Assembler, name: str, then: Node, regular: bool) -> Node:
        if regular and name in self.analysis.recursive:
            raise GrammarError(
                f"rule {name!r} is recursive and is used inside an intersection or a complement "
                f"(in rule {self._context!r}), which is possible for regular parts only"
            )
        if not regular and not self.analysis.inlines(name):
            return self._call(made, self._rule_number(name), then)
        key = (name, then)
        node = self._inlined.get(key)
        if node is None:
            with place_of(self.grammar[name]):
                node = self._before(made, self.grammar[name].body, then, regular)
            self._inlined[key] = node
        return node

    def _repeat(self, made: Assembler, expr: Repeat, then: Node, regular: bool) -> Node:
        if not then:
            return NOWHERE
        if not regular and self._is_long(expr):
            return self._call(made, self.counted_rule(expr, self.counting_loop(expr)), then)
        item, low, high = expr.item, expr.min, expr.max
        if is_nullable(item, self.analysis.nullable):
            low = 0  # copies may be empty: any smaller number of them will do
        at = then
        if high is None:
            key = (item, then)
            known = self._loops.get(key)
            if known is None:
                known = self._loops[key] = made.loop()
                made.define(known, (self._before(made, item, known, regular), then))
            at = known
        else:
            for _ in range(high - low):
                at = made.union((self._before(made, item, at, regular), then))
        for _ in range(low):
            at = self._before(made, item, at, regular)
        return at

    def _sequence(
        self, made: Assembler, items: tuple[Expr, ...], then: Node, regular: bool
    ) -> Node:
        units = items if regular or not self._extracting else self.lexemes(items)
        for unit in reversed(units):
            if isinstance(unit, Lexeme):
                then = self._call(made, self.lexeme_rule(unit.expr), then)
            else:
                then = self._before(made, unit, then, regular)
        return then

    def lexemes(self, items: tuple[Expr, ...]) -> list[Expr | Lexeme]:
        """Takes free text out of a sequence, with the byte before and the byte behind it.

        As a rule of its own it is one unit of work for the masks wherever it occurs, and with its
        delimiters it ends in few places.
        """
        todo = deque(items)
        units: list[Expr | Lexeme] = []
        while todo:
            item = todo.popleft()
            if not self._is_lexeme(item):
                units.append(item)
                continue
            parts = [item]
            before = units[-1] if units else None
            if isinstance(before, Literal) and before.data:
                units[-1] = Literal(before.data[:-1])
                parts.insert(0, Literal(before.data[-1:]))
            if todo and isinstance(todo[0], Literal) and todo[0].data:
                parts.append(Literal(todo[0].data[:1]))
                todo[0] = Literal(todo[0].data[1:])
            units.append(Lexeme(parts[0] if len(parts) == 1 else Seq(tuple(parts))))
        return units

    def _is_lexeme(self, expr: Expr) -> bool:
        if not isinstance(expr, Repeat) or not (self._is_long(expr) or has_wide_loop(expr)):
            return False
        return not any(isinstance(x, Ref | Bag) for x in ir.walk(expr))

    def lexeme_rule(self, expr: Expr) -> int:
        """The number of the rule of free text."""
        known = self._counted.get(expr)
        if known is None:
            known = self.counted_rule(expr, self._kept(expr, self.regular_dfa))
        return known

    def _kept(self, expr: _Kind, make: Callable[[_Kind], Dfa]) -> Dfa:
        """The automaton of a part without references, from another grammar if that had it."""
        key = (expr, self.limits.max_dfa_states, "counted", self._extracting)
        known = PLAIN.get(key)
        if known is None:
            known = make(expr)
            if not any(isinstance(x, Ref | Bag) for x in ir.walk(expr)) and not _calls(known):
                PLAIN.keep(key, known, sum(map(len, known.edges)) + len(known))
        return known

    def _wants_lexemes(self, name: str) -> bool:
        """Whether a rule has parts of different kinds, so that free text is best kept apart.

        A rule that is one plain automaton anyway stays one.
        """
        known = self._wanting.get(name)
        if known is None:
            known = self._wanting[name] = self._finds_lexemes(name)
        return known

    def _finds_lexemes(self, name: str) -> bool:
        for node in ir.walk(self.grammar[name].body):
            if isinstance(node, Bag) or (isinstance(node, Repeat) and self._is_long(node)):
                return True
            if isinstance(node, Ref) and (
                not self.analysis.inlines(node.name) or self._wants_lexemes(node.name)
            ):
                return True
        return False

    # -- bags ----------------------------------------------------------------------------------

    def bag_rule(self, bag: Bag) -> int:
        """The number of a bag's rule: never inlined, since its register is not a count."""
        number = self._bags.get(bag)
        if number is None:
            members = [(self._item_rule(member.item), member) for member in bag.members]
            separator = self._plain_dfa(bag.separator)
            number = self._bags[bag] = len(self.rules)
            self.rules.append(
                BuiltRule(self.grammar[self._context], separator, bag=BagPart(bag, members))
            )
        return number

    def _item_rule(self, item: Expr) -> int:
        if is_nullable(item, self.analysis.nullable):
            raise GrammarError(
                f"an item that comes in any order may be empty (in rule {self._context!r}); "
                "make the item's text non-empty and its minimum 0"
            )
        if isinstance(item, Ref):
            return self._rule_number(item.name)
        number = self._items.get(item)
        if number is None and self._named:
            number = self._items[item] = len(self.rules)
            self.rules.append(BuiltRule(self.grammar[self._context], EMPTY))
            self.items.append((number, item, self._extracting))
        if number is None:
            dfa = fresh_start(self._plain_dfa(item), accepting=False)
            number = self._items[item] = len(self.rules)
            self.rules.append(BuiltRule(self.grammar[self._context], dfa))
        return number

    def _plain_dfa(self, expr: Expr) -> Dfa:
        if isinstance(expr, Alt) and len(expr.items) > _MANY_WORDS:
            words = [item.data for item in expr.items if isinstance(item, Literal)]
            if len(words) == len(expr.items):  # minimal at once; its size is that of the list
                return self._restricted(of_words(words))
        return self._restricted(self._dfa(expr, regular=False))

    # -- counters ------------------------------------------------------------------------------

    def _is_long(self, expr: Expr) -> bool:
        """Whether a repetition is counted instead of copied."""
        if not isinstance(expr, Repeat):
            return False
        copies = expr.min if expr.max is None else expr.max
        return copies > 1 and copies * self._weight(expr.item) > _COPY_LIMIT

    def _weight(self, expr: Expr) -> int:
        """Roughly the states of one copy."""
        total = 0
        for node in ir.walk(expr):
            match node:
                case Literal(data):
                    total += len(data)
                case Chars(ranges):
                    total += 1 if ranges[-1][1] < 0x80 else 8
                case Ref(name) if self.analysis.inlines(name):
                    total += self._weight(self.grammar[name].body)
                case Repeat(_, low, high):
                    total += 4 * (low if high is None else min(high, 1000))
                case _:
                    total += 1
        return total

    def counted_rule(self, expr: Expr, dfa: Dfa) -> int:
        """The number of the rule of a part that has an automaton of its own."""
        number = self._counted.get(expr)
        if number is None:
            number = self._counted[expr] = len(self.rules)
            nullable = dfa.accept[dfa.start] and dfa.count_min == 0
            ready = fresh_start(self._restricted(dfa), accepting=False)
            self.rules.append(BuiltRule(self.grammar[self._context], ready, nullable))
        return number

    def counting_loop(self, expr: Repeat, regular: bool = False) -> Dfa:
        """The automaton of a counted repetition: one loop, an edge counts when an item ends."""
        limit = self.limits.max_dfa_states
        item = self._dfa(expr.item, regular)
        low = 0 if item.accept[item.start] else expr.min
        item = fresh_start(item, accepting=False)
        nfa = Nfa()
        loop = nfa.state()
        for _ in range(len(item)):
            nfa.state()
        for q, row in enumerate(item.edges):
            source = loop if q == item.start else 1 + q
            for label, target, _ in row:
                if item.edges[target]:
                    nfa.add(source, label, 1 + target)
                if item.accept[target]:
                    nfa.add(source, label, loop, 1)
        dfa = determinize(nfa, loop, loop, limit)
        return settle(Dfa(dfa.start, dfa.accept, dfa.edges, True, low, expr.max), limit)

    # -- regular parts -------------------------------------------------------------------------

    def know_regular(self, expr: Expr, dfa: Dfa) -> None:
        """Notes the automaton of a regular expression that was made elsewhere."""
        self._regular.setdefault(expr, dfa)

    def knows_regular(self, expr: Expr) -> bool:
        """Whether the automaton of a regular expression has been made."""
        return expr in self._regular

    def regular_dfa(self, expr: Expr) -> Dfa:
        """The automaton (perhaps counted) of an expression that must be regular."""
        known = self._regular.get(expr)
        if known is None:
            known = self._regular[expr] = self._make_regular(expr)
        return known

    def _make_regular(self, expr: Expr) -> Dfa:
        match expr:
            case And(items):
                without = [x.item for x in items if isinstance(x, Not)]
                within = [self.regular_dfa(x) for x in items if not isinstance(x, Not)]
                return self._products(within, [self._flat(x) for x in without])
            case Not(item):
                return self._products([], [self._flat(item)])
            case Ref(name) if name not in self.analysis.recursive:
                return self.regular_dfa(self.grammar[name].body)
            case Repeat() if self._is_long(expr):
                return self.counting_loop(expr, regular=True)
            case Seq(items) if sum(self._is_long(x) for x in items) == 1:
                return self._counted_sequence(items)
        return self._dfa(expr, regular=True)

    def _flat(self, expr: Expr) -> Dfa:
        """The automaton of a regular expression without a counter."""
        return expand(self.regular_dfa(expr), self.limits.max_dfa_states)

    def _intersected(self, within: Sequence[Dfa], without: Sequence[Dfa]) -> Dfa:
        """See :data:`Conjunction`: in plain Python."""
        if not within and len(without) == 1:
            return complement(without[0])
        limit = self.limits.max_dfa_states
        parts = sorted(within, key=len)
        out = parts[0] if parts else complement(EMPTY)
        spent = 0  # the limit holds for all steps together: each of them takes its time
        for part in parts[1:]:
            out = intersect(out, part, limit, spent)
            spent += len(out)
        for less in without:
            out = subtract(out, less, limit, spent)
            spent += len(out)
        return out

    def _counted_sequence(self, items: tuple[Expr, ...]) -> Dfa:
        """A sequence with exactly one counted item: the count is checked at its end."""
        limit = self.limits.max_dfa_states
        counted = next(self.regular_dfa(x) for x in items if self._is_long(x))
        if not counted.counted:
            return self._dfa(Seq(items), regular=True)
        made = self._assembler()
        with _Memo(self):
            then = FINISH
            for item in reversed(items):
                if self._is_long(item):
                    then = made.embed(counted, then)
                else:
                    then = self._before(made, item, then, regular=True)
            dfa = made.dfa(then)
        low, high = counted.count_min, counted.count_max
        return settle(Dfa(dfa.start, dfa.accept, dfa.edges, True, low, high), limit)


_Kind = TypeVar("_Kind", bound=Expr)


def _calls(dfa: Dfa) -> bool:
    return any(label < 0 for row in dfa.edges for label, _, _ in row)


class _Memo:
    """Keeps what is known of the nodes of one automaton apart from that of others."""

    def __init__(self, builder: RuleBuilder) -> None:
        self._builder = builder

    def __enter__(self) -> None:
        b = self._builder
        self._before = (b._inlined, b._loops)
        b._inlined, b._loops = {}, {}

    def __exit__(self, *_: object) -> None:
        self._builder._inlined, self._builder._loops = self._before


def _machine_dfa(machine: Machine, limits: Limits) -> Dfa:
    if isinstance(machine, Substrings) and len(machine.automaton.accept) > limits.max_dfa_states:
        raise LimitExceeded(
            "max_dfa_states",
            limits.max_dfa_states,
            f"spans of a text of {len(machine.text):,} characters in such a grammar",
            instead="give a shorter text",
        )
    edges: list[list[Edge]] = []
    for row in machine.edges:
        masks: dict[int, ByteMask] = {}
        for low, high, target in row:
            masks[target] = masks.get(target, 0) | ranges_mask(((low, high),))
        edges.append([(mask, target, 0) for target, mask in masks.items()])
    return trim(Dfa(0, list(machine.accept), edges))


def fresh_start(dfa: Dfa, *, accepting: bool) -> Dfa:
    """The same automaton with a start state that no edge enters and that accepts as told."""
    entered = any(t == dfa.start for row in dfa.edges for _, t, _ in row)
    if not entered and dfa.accept[dfa.start] == accepting:
        return dfa
    accept = [*dfa.accept, accepting]
    edges = [*dfa.edges, list(dfa.edges[dfa.start])]
    fresh = Dfa(len(dfa), accept, edges, dfa.counted, dfa.count_min, dfa.count_max)
    return trim(fresh)
