"""From the intermediate form to a :class:`~grammars.program.Program`.

The steps, one function each:

1. ``Analysis``: which rules are reachable, recursive, nullable, worth inlining;
2. ``RuleBuilder``: every remaining rule becomes a deterministic automaton over bytes and calls
   (intersections and complements are computed on automata; long repetitions become counters);
3. ``_drop_unproductive``: calls of rules without any text disappear, so no dead end is left;
   ``_lay_out_bags`` then gives every bag its states;
4. ``_remove_left_recursion``: a rule that would call itself before consuming anything is rebuilt as
   "a base case, then climb";
5. ``_flatten``: arrays.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypeAlias

import numpy as np

from grammars import ir
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
    components,
    counts_to_accept,
    determinize,
    expand,
    intersect,
    of_words,
    reduce,
    settle,
    subtract,
    trim,
)
from grammars.compiling.bags import COMPLETE, MORE, BagSpec, settle_bag
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
)
from grammars.limits import Limits
from grammars.program import FIRST_PUSH, MANY, NO_EDGE, UNBOUNDED, IntArray, Program

_COPY_LIMIT: Final = 256
"""A bounded repetition becomes a counter when its copies would have more states than this."""
_MANY_WORDS: Final = 500
"""Alternative texts of one place above which their minimal automaton is built directly."""
_INLINE_SIZE: Final = 24
"""A rule used more than once is inlined up to this many expression nodes."""
_INLINE_ONCE_SIZE: Final = 2_000
"""The same for a rule used once."""
_INLINE_TOTAL: Final = 5_000
"""Nodes of an inlined rule with all that is inlined into it: small rules that use each other twice
would else double at every step."""
_INLINE_DEPTH: Final = 200
"""Levels of nesting of an inlined rule with all that is inlined into it."""
MAX_DEPTH: Final = 1_000
"""Levels of nesting of one rule's expression."""
MAX_COUNT: Final = UNBOUNDED
"""The largest bound of a repetition: counts are 32 bits wide."""


def compile_ir(grammar: GrammarIR, limits: Limits, alphabet: ByteMask = ALL_BYTES) -> Program:
    """Compiles a grammar, restricted to texts over the bytes of ``alphabet`` (and all marks).

    Raises:
        GrammarError: for a reference to an undefined rule, an intersection or complement of
            something recursive or of a bag, a bag's item that may be empty, or a bag that would
            begin with itself.
        LimitExceeded: where a limit is reached.
    """
    with deep_recursion():
        analysis = Analysis(grammar, limits)
        builder = RuleBuilder(analysis, limits, alphabet)
        start = builder.build_start()
        rules = builder.rules
        _drop_unproductive(rules, limits)
        _lay_out_bags(rules)
        _remove_left_recursion(rules, limits)
        return _flatten(rules, start, limits)


@contextmanager
def _place_of(rule: Rule) -> Iterator[None]:
    """Gives errors without a place that of the rule at which work is."""
    try:
        yield
    except GrammarError as error:
        span = rule.span
        error.locate(line=span.line, column=span.column, pointer=span.pointer, rule=rule.name)
        raise


_DEPTH: Final = 12_000
"""Python frames a nested expression may take (several for each level)."""


@contextmanager
def deep_recursion() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Analysis:
    """Facts about the rules reachable from the start."""

    def __init__(self, grammar: GrammarIR, limits: Limits) -> None:
        self.grammar = grammar
        self.size: dict[str, int] = {}
        self._depth: dict[str, int] = {}
        self.uses: dict[str, int] = {grammar.start: 1}
        calls: dict[str, list[str]] = {}
        self._found: dict[str, list[str]] = {}
        known: _Measures = {}
        todo = [grammar.start]
        total = 0
        while todo:
            name = todo.pop()
            if name in calls:
                continue
            if name not in grammar:
                raise GrammarError(f"there is no rule {name!r} to start from")
            with _place_of(grammar[name]):
                size, self._depth[name], _ = _measured(grammar[name].body, known)
                total += size
                if total > limits.max_expression_nodes:
                    raise LimitExceeded(
                        "max_expression_nodes", limits.max_expression_nodes, "the grammar"
                    )
                found = self._found[name] = _called(grammar[name].body, known)
                for callee in found:
                    self.uses[callee] = self.uses.get(callee, 0) + 1
                    if callee not in grammar:
                        raise GrammarError(
                            f"rule {callee!r} is referred to but not defined; define it"
                        )
            self.size[name] = size
            calls[name] = list(dict.fromkeys(found))
            todo.extend(reversed(calls[name]))
        self.names = list(calls)
        number = {name: i for i, name in enumerate(self.names)}
        self.recursive: set[str] = set()
        self.order: list[str] = []
        for component in components([[number[c] for c in calls[name]] for name in self.names]):
            members = [self.names[i] for i in component]
            self.order += members
            if len(members) > 1 or members[0] in calls[members[0]]:
                self.recursive.update(members)
        self.nullable = self._find_nullable()
        self._inlined = self._find_inlined(calls)

    def _find_inlined(self, calls: dict[str, list[str]]) -> set[str]:
        """The rules that are replaced by their bodies, callees first, so that sizes are known."""
        out: set[str] = set()
        total: dict[str, int] = {}
        depth: dict[str, int] = {}
        for name in self.order:
            inside = [c for c in calls[name] if c in out]
            total[name] = self.size[name]
            if inside:
                counts = Counter(self._found[name])
                total[name] += sum(counts[c] * total[c] for c in inside)
            depth[name] = self._depth[name] + max((depth[c] for c in inside), default=0)
            if (
                self._is_small(name)
                and depth[name] <= _INLINE_DEPTH
                and (self.uses[name] == 1 or total[name] <= _INLINE_TOTAL)
            ):
                out.add(name)
        return out

    def _find_nullable(self) -> set[str]:
        nullable: set[str] = set()
        changed = True
        while changed:
            changed = False
            for name in self.order:
                if name not in nullable and is_nullable(self.grammar[name].body, nullable):
                    nullable.add(name)
                    changed = True
        return nullable

    def inlines(self, name: str) -> bool:
        """Whether a reference to the rule is replaced by the rule's body."""
        return name in self._inlined

    def _is_small(self, name: str) -> bool:
        """Whether a rule's own body is worth inlining."""
        if name in self.recursive or self.grammar[name].shared:
            return False
        if self.uses[name] > 1 and _has_wide_loop(self.grammar[name].body):
            return False
        return self.size[name] <= (_INLINE_SIZE if self.uses[name] > 1 else _INLINE_ONCE_SIZE)


_Measures: TypeAlias = dict[int, tuple[int, int, bool]]
"""By identity of an expression: nodes, levels of nesting, whether it refers to rules."""


def _measured(expr: Expr, known: _Measures) -> tuple[int, int, bool]:
    """Nodes of an expression, levels of nesting and whether it refers to rules, without recursion.

    Parts that are shared are looked at once and count wherever they stand, so that a small graph
    that is a huge tree is known as such before anything walks through it.

    Raises:
        GrammarError: if there are more than ``MAX_DEPTH`` levels, or a repetition cannot be counted.
    """
    stack = [expr]
    while stack:
        node = stack[-1]
        below = ir.children(node)
        if below:
            missing = [child for child in below if id(child) not in known]
            if missing:
                stack += missing
                continue
        stack.pop()
        if isinstance(node, Repeat):
            check_count(node.min, node.max)
        size, depth, refers = _node_size(node), 0, type(node) is Ref
        for child in below:
            more, levels, some = known[id(child)]
            size += more
            if levels > depth:
                depth = levels
            refers = refers or some
        depth += 1
        if depth > MAX_DEPTH:
            raise GrammarError(
                f"an expression is nested too deeply (more than {MAX_DEPTH:,} levels); "
                "give inner parts rules of their own"
            )
        known[id(node)] = (size, depth, refers)
    return known[id(expr)]


def _called(expr: Expr, known: _Measures) -> list[str]:
    """The rules that a measured expression refers to, as often and in the order it does."""
    out: list[str] = []
    stack = [expr]
    while stack:
        node = stack.pop()
        if type(node) is Ref:
            out.append(node.name)
        elif known[id(node)][2]:
            stack.extend(reversed(ir.children(node)))
    return out


def check_count(low: int, high: int | None) -> None:
    """Checks the bounds of a repetition.

    Raises:
        GrammarError: if a counter cannot hold them.
    """
    if high is not None and high > MAX_COUNT:
        advice = "without an upper bound it would be fine" if low <= MAX_COUNT else "lower it"
        raise GrammarError(
            f"a repetition of up to {_number(high)} is more than can be counted "
            f"({MAX_COUNT:,}); {advice}"
        )
    if low > MAX_COUNT:
        raise GrammarError(
            f"a repetition of at least {_number(low)} is more than can be counted "
            f"({MAX_COUNT:,}); lower it"
        )


def _number(value: int) -> str:
    """A number for messages; Python refuses to write very long ones."""
    return f"{value:,}" if value.bit_length() < 200 else f"2**{value.bit_length() - 1}"


def _node_size(node: Expr) -> int:
    if type(node) is Literal:
        return len(node.data)
    return len(node.accept) if type(node) is Machine else 1


def _has_wide_loop(expr: Expr) -> bool:
    """Whether free text can run on inside: such a rule is worth keeping as a unit.

    The work for the many tokens that stay inside it is then shared by all its uses.
    """
    for node in ir.walk(expr):
        if isinstance(node, Repeat) and (node.max is None or node.max > 8):
            for inner in ir.walk(node.item):
                if isinstance(inner, Chars) and sum(hi - lo + 1 for lo, hi in inner.ranges) > 16:
                    return True
                if isinstance(inner, Not):
                    return True
    return False


def is_nullable(expr: Expr, nullable: set[str]) -> bool:
    """Whether the expression derives the empty text, given the rules that do."""
    match expr:
        case Literal(data):
            return not data
        case Seq(items) | And(items):
            return all(is_nullable(x, nullable) for x in items)
        case Alt(items):
            return any(is_nullable(x, nullable) for x in items)
        case Repeat(item, low, _):
            return low == 0 or is_nullable(item, nullable)
        case Ref(name):
            return name in nullable
        case Not(item):
            return not is_nullable(item, nullable)
        case Machine(_, accept):
            return accept[0]
        case _:
            return False


@dataclass
class _BagPart:
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
class _BuiltRule:
    """A rule's automaton; that of a bag is its separator's until ``_lay_out_bags``.

    Attributes:
        source: the rule of the grammar that it is, or is a part of.
        called: which rules an automaton calls, and of which automaton that was found.
    """

    source: Rule
    dfa: Dfa
    nullable: bool = False
    bag: _BagPart | None = None
    called: tuple[Dfa, list[int]] = (EMPTY, [])

    @property
    def name(self) -> str:
        """The name of that rule."""
        return self.source.name


@dataclass(frozen=True)
class _Lexeme:
    """A part of a sequence that becomes a rule of its own."""

    expr: Expr


class _PlainParts:
    """Automata of expressions without references, by content: the same in all grammars."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._known: dict[object, Dfa] = {}
        self._lock = Lock()

    def get(self, key: object) -> Dfa | None:
        """What was kept; it must not be changed."""
        return self._known.get(key)

    def keep(self, key: object, dfa: Dfa) -> None:
        """Keeps an automaton without calls; the oldest give way."""
        if any(label < 0 for row in dfa.edges for label, _, _ in row):
            return
        size = sum(map(len, dfa.edges)) + len(dfa)
        if 8 * size > _PLAIN_ROOM:
            return
        with self._lock:
            self._known[key] = dfa
            self._room -= size
            while self._room < 0:
                old = self._known.pop(next(iter(self._known)))
                self._room += sum(map(len, old.edges)) + len(old)


_PLAIN_ROOM: Final = 200_000
"""States and edges kept of all of them."""
_PLAIN: Final = _PlainParts(_PLAIN_ROOM)


class RuleBuilder:
    """Builds the automaton of the start rule and, from there, of every rule it calls."""

    def __init__(self, analysis: Analysis, limits: Limits, alphabet: ByteMask) -> None:
        self.analysis = analysis
        self.grammar = analysis.grammar
        self.limits = limits
        self.alphabet = alphabet
        self.rules: list[_BuiltRule] = []
        self._index: dict[str, int] = {}
        self._todo: list[str] = []
        self._counted: dict[Expr, int] = {}
        self._bags: dict[Bag, int] = {}
        self._items: dict[Expr, int] = {}
        self._regular: dict[Expr, Dfa] = {}
        self._wanting: dict[str, bool] = {}
        self._inlined: dict[tuple[str, Node], Node] = {}
        self._loops: dict[tuple[Expr, Node], Node] = {}
        self._context = ""
        self._extracting = False

    def build_start(self) -> int:
        """Builds all rules; returns the number of a start rule that nothing calls."""
        name = self.grammar.start
        top = self._rule_dfa(name)
        while self._todo:
            self._build(self._todo.pop())
        # the start rule is never called, so it may accept the empty text; its start state must
        # not be entered again, or the empty text would be accepted there as well
        self.rules.append(
            _BuiltRule(self.grammar[name], _fresh_start(top, accepting=top.accept[top.start]))
        )
        return len(self.rules) - 1

    def _rule_dfa(self, name: str) -> Dfa:
        rule = self.grammar[name]
        self._context = name
        with _place_of(rule):
            try:
                self._extracting = self._wants_lexemes(name)
                return self._plain_dfa(rule.body)
            except RecursionError:
                raise GrammarError(
                    "the rules that this one is made of are nested too deeply; make them fewer"
                ) from None

    def _build(self, name: str) -> None:
        dfa = self._rule_dfa(name)
        self.rules[self._index[name]].dfa = _fresh_start(dfa, accepting=False)

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
        if number is None:
            number = self._index[name] = len(self.rules)
            self.rules.append(_BuiltRule(self.grammar[name], EMPTY, name in self.analysis.nullable))
            self._todo.append(name)
        return number

    def _call(self, made: Assembler, number: int, then: Node) -> Node:
        called = made.edge(call_label(number), then)
        return made.union((called, then)) if self.rules[number].nullable else called

    # -- expressions ---------------------------------------------------------------------------

    def _dfa(self, expr: Expr, regular: bool) -> Dfa:
        """The automaton of an expression, uncounted; no calls if ``regular``."""
        key = (expr, self.limits.max_dfa_states, regular or not self._extracting)
        known = _PLAIN.get(key)
        if known is not None:
            return known
        made = self._assembler()
        with _Memo(self):
            dfa = made.dfa(self._before(made, expr, FINISH, regular))
        if not any(isinstance(x, Ref) for x in ir.walk(expr)):
            _PLAIN.keep(key, dfa)
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
                return made.embed(_machine_dfa(expr), then)
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
                return self._call(made, self._bag_rule(expr), then)
            case And() | Not():
                dfa = self.regular_dfa(expr)
                if dfa.counted and not regular:
                    return self._call(made, self._counted_rule(expr, dfa), then)
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
            with _place_of(self.grammar[name]):
                node = self._before(made, self.grammar[name].body, then, regular)
            self._inlined[key] = node
        return node

    def _repeat(self, made: Assembler, expr: Repeat, then: Node, regular: bool) -> Node:
        if not then:
            return NOWHERE
        if not regular and self._is_long(expr):
            return self._call(made, self._counted_rule(expr, self._counting_loop(expr)), then)
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
        units = items if regular or not self._extracting else self._lexemes(items)
        for unit in reversed(units):
            if isinstance(unit, _Lexeme):
                then = self._call(made, self._lexeme_rule(unit.expr), then)
            else:
                then = self._before(made, unit, then, regular)
        return then

    def _lexemes(self, items: tuple[Expr, ...]) -> list[Expr | _Lexeme]:
        """Takes free text out of a sequence, with the byte before and the byte behind it.

        As a rule of its own it is one unit of work for the masks wherever it occurs, and with its
        delimiters it ends in few places.
        """
        todo = deque(items)
        units: list[Expr | _Lexeme] = []
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
            units.append(_Lexeme(parts[0] if len(parts) == 1 else Seq(tuple(parts))))
        return units

    def _is_lexeme(self, expr: Expr) -> bool:
        if not isinstance(expr, Repeat) or not (self._is_long(expr) or _has_wide_loop(expr)):
            return False
        return not any(isinstance(x, Ref | Bag) for x in ir.walk(expr))

    def _lexeme_rule(self, expr: Expr) -> int:
        known = self._counted.get(expr)
        return self._counted_rule(expr, self.regular_dfa(expr)) if known is None else known

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

    def _bag_rule(self, bag: Bag) -> int:
        """The number of a bag's rule: never inlined, since its register is not a count."""
        number = self._bags.get(bag)
        if number is None:
            members = [(self._item_rule(member.item), member) for member in bag.members]
            separator = self._plain_dfa(bag.separator)
            number = self._bags[bag] = len(self.rules)
            self.rules.append(
                _BuiltRule(self.grammar[self._context], separator, bag=_BagPart(bag, members))
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
        if number is None:
            dfa = _fresh_start(self._plain_dfa(item), accepting=False)
            number = self._items[item] = len(self.rules)
            self.rules.append(_BuiltRule(self.grammar[self._context], dfa))
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

    def _counted_rule(self, expr: Expr, dfa: Dfa) -> int:
        number = self._counted.get(expr)
        if number is None:
            number = self._counted[expr] = len(self.rules)
            nullable = dfa.accept[dfa.start] and dfa.count_min == 0
            ready = _fresh_start(self._restricted(dfa), accepting=False)
            self.rules.append(_BuiltRule(self.grammar[self._context], ready, nullable))
        return number

    def _counting_loop(self, expr: Repeat, regular: bool = False) -> Dfa:
        """The automaton of a counted repetition: one loop, an edge counts when an item ends."""
        limit = self.limits.max_dfa_states
        item = self._dfa(expr.item, regular)
        low = 0 if item.accept[item.start] else expr.min
        item = _fresh_start(item, accepting=False)
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

    def regular_dfa(self, expr: Expr) -> Dfa:
        """The automaton (perhaps counted) of an expression that must be regular."""
        known = self._regular.get(expr)
        if known is None:
            known = self._regular[expr] = self._make_regular(expr)
        return known

    def _make_regular(self, expr: Expr) -> Dfa:
        limit = self.limits.max_dfa_states
        match expr:
            case And(items):
                without = [x.item for x in items if isinstance(x, Not)]
                parts = sorted(
                    (self.regular_dfa(x) for x in items if not isinstance(x, Not)), key=len
                )
                out = parts[0] if parts else complement(EMPTY)
                spent = 0  # the limit holds for all steps together: each of them takes its time
                for part in parts[1:]:
                    out = intersect(out, part, limit, spent)
                    spent += len(out)
                for less in without:
                    out = subtract(out, expand(self.regular_dfa(less), limit), limit, spent)
                    spent += len(out)
                return out
            case Not(item):
                return complement(expand(self.regular_dfa(item), limit))
            case Ref(name) if name not in self.analysis.recursive:
                return self.regular_dfa(self.grammar[name].body)
            case Repeat() if self._is_long(expr):
                return self._counting_loop(expr, regular=True)
            case Seq(items) if sum(self._is_long(x) for x in items) == 1:
                return self._counted_sequence(items)
        return self._dfa(expr, regular=True)

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


def _machine_dfa(machine: Machine) -> Dfa:
    edges: list[list[Edge]] = []
    for row in machine.edges:
        masks: dict[int, ByteMask] = {}
        for low, high, target in row:
            masks[target] = masks.get(target, 0) | ranges_mask(((low, high),))
        edges.append([(mask, target, 0) for target, mask in masks.items()])
    return trim(Dfa(0, list(machine.accept), edges))


def _fresh_start(dfa: Dfa, *, accepting: bool) -> Dfa:
    """The same automaton with a start state that no edge enters and that accepts as told."""
    entered = any(t == dfa.start for row in dfa.edges for _, t, _ in row)
    if not entered and dfa.accept[dfa.start] == accepting:
        return dfa
    accept = [*dfa.accept, accepting]
    edges = [*dfa.edges, list(dfa.edges[dfa.start])]
    fresh = Dfa(len(dfa), accept, edges, dfa.counted, dfa.count_min, dfa.count_max)
    return trim(fresh)


# -- productivity ------------------------------------------------------------------------------


def _calls(rule: _BuiltRule) -> list[int]:
    dfa, called = rule.called
    if dfa is not rule.dfa:
        found = [-1 - lab for row in rule.dfa.edges for lab, _, _ in row if lab < 0]
        called = list(dict.fromkeys(found))
        rule.called = (rule.dfa, called)
    calls = list(called)
    if rule.bag is not None:
        calls += [member for member, _ in rule.bag.members]
    return list(dict.fromkeys(calls))


def _drop_unproductive(rules: list[_BuiltRule], limits: Limits) -> None:
    """Removes calls of rules that derive no (non-empty) text, everywhere.

    Rounds over the rules, callees first, until nothing changes: one round for most grammars, two
    where recursion is involved, more only where productivity runs against the call order.
    """
    calls = [_calls(rule) for rule in rules]
    order = [r for component in components(calls) for r in component]
    dead = set(range(len(rules)))
    while True:
        before = len(dead)
        for r in order:
            with _place_of(rules[r].source):
                if r in dead and _derives(rules[r], dead, limits):
                    dead.discard(r)
        if len(dead) == before:
            break
    if dead:
        for rule in rules:
            with _place_of(rule.source):
                rule.dfa = settle(reduce(trim(rule.dfa, dead)), limits.max_dfa_states)
    for rule in rules:
        if rule.bag is not None:
            settled = _settled(rule, dead, limits)
            rule.bag.spec, kept = settled if settled is not None else (None, ())
            rule.bag.members = [rule.bag.members[i] for i in kept]


def _settled(
    rule: _BuiltRule, dead: set[int], limits: Limits
) -> tuple[BagSpec, tuple[int, ...]] | None:
    """A bag's bounds where some rules have no text; without a separator there is one item."""
    assert rule.bag is not None
    source = rule.bag.source
    bounds = [member for _, member in rule.bag.members]
    high = source.high
    if not _reaches_end(rule.dfa, dead, limits):
        high = 1 if high is None else min(high, 1)
    spec = BagSpec(
        tuple(m.min for m in bounds),
        tuple(0 if r in dead else m.max for r, m in rule.bag.members),
        tuple(m.group for m in bounds),
        source.low,
        high,
        source.ordered,
        source.conditions,
        source.loose,
    )
    return settle_bag(spec, limits)


def _derives(rule: _BuiltRule, dead: set[int], limits: Limits) -> bool:
    if rule.bag is not None:
        return _settled(rule, dead, limits) is not None
    return _reaches_end(rule.dfa, dead, limits)


def _reaches_end(dfa: Dfa, dead: set[int], limits: Limits) -> bool:
    if dfa.counted:  # a path alone proves nothing: its count must fit
        return not settle(trim(dfa, dead), limits.max_dfa_states).is_empty()
    seen = {dfa.start}
    stack = [dfa.start]
    while stack:
        q = stack.pop()
        if dfa.accept[q]:
            return True
        for label, t, _ in dfa.edges[q]:
            if t not in seen and (label > 0 or -1 - label not in dead):
                seen.add(t)
                stack.append(t)
    return False


# -- bags --------------------------------------------------------------------------------------


def _lay_out_bags(rules: list[_BuiltRule]) -> None:
    """Gives each bag its states: the start, two after an item, and those of the separator.

    After an item the bag may end (state 1), go on (the separator's start), or both (state 2).  The
    separator's ends take items, as the start does.
    """
    for rule in rules:
        if rule.bag is None:
            continue
        inner = rule.dfa
        rows: list[list[Edge]] = [[(lab, 3 + t, 0) for lab, t, _ in row] for row in inner.edges]
        onward = rows[inner.start]
        rule.dfa = Dfa(0, [False, True, True] + [False] * len(inner), [[], [], list(onward), *rows])
        takes = [0, *(3 + q for q in range(len(inner)) if inner.accept[q])]
        if inner.accept[inner.start]:
            takes.append(2)
        rule.bag.takes = tuple(takes)
        by_flags = {0: 0, COMPLETE: 1, MORE: 3 + inner.start, COMPLETE | MORE: 2}
        rule.bag.returns = tuple(by_flags[flags] for flags in range(4))


# -- left recursion ----------------------------------------------------------------------------


def _left_calls(rule: _BuiltRule) -> list[int]:
    dfa = rule.dfa
    calls = [-1 - lab for lab, _, _ in dfa.edges[dfa.start] if lab < 0]
    if rule.bag is not None:
        calls += [member for member, _ in rule.bag.members]
    return list(dict.fromkeys(calls))


def _remove_left_recursion(rules: list[_BuiltRule], limits: Limits) -> None:
    """Rebuilds rules that call each other before consuming anything.

    Within one knot of such rules, a text of rule A is: a base (an alternative of some member of the
    knot that does not begin with a member), and then, while the member X just completed can begin a
    longer one, the rest of that.  That is a finite automaton over the same labels.
    """
    left = [_left_calls(rule) for rule in rules]
    for component in components(left):
        if len(component) == 1 and component[0] not in left[component[0]]:
            continue
        for member in component:
            with _place_of(rules[member].source):
                _expand_for_climbing(rules[member], limits)
        old = {x: rules[x].dfa for x in component}
        for member in component:
            nfa, start, done = _climbing(old)
            with _place_of(rules[member].source):
                dfa = determinize(nfa, start, done[member], limits.max_dfa_states)
            rules[member].dfa = _fresh_start(dfa, accepting=False)


def _expand_for_climbing(rule: _BuiltRule, limits: Limits) -> None:
    """Removes the counter of a left-recursive rule, which must not be a bag."""
    if rule.bag is not None:
        raise GrammarError(
            f"an item that comes in any order (in rule {rule.name!r}) begins with "
            "the very items it is one of; put some text before them"
        )
    rule.dfa = expand(rule.dfa, limits.max_dfa_states)


def _climbing(knot: dict[int, Dfa]) -> tuple[Nfa, int, dict[int, int]]:
    nfa = Nfa()
    start = nfa.state()
    done = {x: nfa.state() for x in knot}
    base: dict[int, int] = {}
    for x, dfa in knot.items():
        base[x] = len(nfa.eps)
        for _ in range(len(dfa)):
            nfa.state()
        for q, row in enumerate(dfa.edges):
            nfa.edges[base[x] + q] = [(lab, base[x] + t, 0) for lab, t, _ in row]
            if dfa.accept[q]:
                nfa.eps[base[x] + q].append(done[x])
    for x, dfa in knot.items():
        for label, t, _ in dfa.edges[dfa.start]:
            if label < 0 and -1 - label in knot:
                nfa.eps[done[-1 - label]].append(base[x] + t)
            else:
                nfa.add(start, label, base[x] + t)
    return nfa, start, done


# -- arrays ------------------------------------------------------------------------------------


def _reachable(rules: list[_BuiltRule], start: int) -> list[int]:
    seen = {start}
    order = [start]
    for r in order:
        for callee in _calls(rules[r]):
            if callee not in seen:
                seen.add(callee)
                order.append(callee)
    return order


def _flatten(rules: list[_BuiltRule], start: int, limits: Limits) -> Program:
    used = _reachable(rules, start)
    total = 1 + sum(len(rules[r].dfa) for r in used)
    if total > limits.max_program_states:
        largest = max((rules[r] for r in used), key=lambda rule: len(rule.dfa))
        with _place_of(largest.source):
            raise LimitExceeded(
                "max_program_states",
                limits.max_program_states,
                f"the compiled grammar (most of it rule {largest.name!r})",
            )
    return _Flattener(rules, used, start, limits).program()


class _Flattener:
    """Numbers the states of all rules and fills the arrays."""

    def __init__(
        self, rules: list[_BuiltRule], used: list[int], start: int, limits: Limits
    ) -> None:
        self.rules = rules
        self.used = used
        self.start = start
        self.limits = limits
        self.base: dict[int, int] = {}
        at = 1
        for r in used:
            self.base[r] = at
            at += len(rules[r].dfa)
        self.total = at

    def program(self) -> Program:
        dfas = {r: self.rules[r].dfa for r in self.used}
        q_count = self.total
        accept_from = np.full(q_count, UNBOUNDED, np.int32)
        count_limit = np.full(q_count, UNBOUNDED, np.int32)
        count_floor = np.zeros(q_count, np.int32)
        count_cap = np.full(q_count, UNBOUNDED, np.int32)
        rule_of = np.zeros(q_count, np.int32)
        accept_from[0] = 0
        calls: dict[int, list[tuple[int, int]]] = {}
        names = ["end"]
        start_of = {r: self.base[r] + dfa.start for r, dfa in dfas.items()}
        sources: list[int] = []
        targets: list[int] = []
        numbers: list[int] = []
        masks: dict[ByteMask, int] = {}
        for r, dfa in dfas.items():
            base = self.base[r]
            rule_of[base : base + len(dfa)] = len(names)
            names.append(self.rules[r].name)
            self._counts(dfa, base, count_limit, count_floor, count_cap)
            accepting = np.array(dfa.accept, np.bool_)
            accept_from[base : base + len(dfa)][accepting] = dfa.count_min if dfa.counted else 0
            for q, row in enumerate(dfa.edges, base):
                for label, t, inc in row:
                    if label < 0:
                        calls.setdefault(q, []).append((-1 - label, (base + t) << 1 | inc))
                    else:
                        sources.append(q)
                        targets.append((base + t) << 1 | inc)
                        numbers.append(masks.setdefault(label, len(masks)))
        alphabet = _Alphabet(list(masks))
        edges = alphabet.edges(q_count, sources, numbers, targets)
        bags = [self.rules[r].bag for r in self.used]
        parts = [(r, bag) for r, bag in zip(self.used, bags, strict=True) if bag is not None]
        bag_of = np.full(q_count, -1, np.int32)
        taken: dict[int, list[int]] = {}
        for b, (r, part) in enumerate(parts):
            members = [member for member, _ in part.members]
            for q in part.takes:
                bag_of[self.base[r] + q] = b
                taken[self.base[r] + q] = members
        # ends of rules with nothing left to do
        done = (accept_from == 0) & (np.diff(edges.offset) == 0)
        done[[*calls, *(q for q, members in taken.items() if members)]] = False
        tail: list[bool] = done.tolist()
        rank = self._ranks(calls, taken, start_of)
        chains = _Chains(edges, calls, taken, start_of, tail, rank)
        table = edges.table(alphabet.size)
        for q in sorted({*calls, *taken}):
            table[q] = NO_EDGE
            for c, entry in chains.row(q).items():
                table[q, c] = entry
        reads = np.packbits(table != NO_EDGE, axis=1, bitorder="little")
        first = np.zeros((q_count, 32), np.uint8)
        first[:, : reads.shape[1]] = reads
        start_rank = np.full(q_count, -1, np.int32)
        for r, place in rank.items():
            start_rank[start_of[r]] = place
        called = [(start_of[r], target) for row in calls.values() for r, target in row]
        call_counts = np.zeros(q_count + 1, np.int32)
        call_counts[[q + 1 for q in calls]] = [len(row) for row in calls.values()]
        empty = self.rules[self.start].dfa.is_empty()
        return Program(
            start=-1 if empty else start_of[self.start],
            byte_class=alphabet.class_of,
            classes=alphabet.size,
            table=table,
            edge_offset=edges.offset,
            edge_class=edges.classes,
            edge_target=edges.targets,
            call_offset=np.cumsum(call_counts, dtype=np.int32),
            call_start=_column([start for start, _ in called]),
            call_return=_column([target for _, target in called]),
            call_tail=np.array([tail[target >> 1] for _, target in called], np.uint8),
            push_offset=_offsets(chains.links),
            push_links=_column([t for row in chains.links for t in row]),
            push_target=_column(chains.targets),
            push_outer=np.array(chains.outer, np.uint8),
            accept_from=accept_from,
            count_limit=count_limit,
            count_floor=count_floor,
            count_cap=count_cap,
            first=first.view(np.uint64),
            start_rank=start_rank,
            rule_of=rule_of,
            rule_names=tuple(names),
            marks=alphabet.marks,
            bags=tuple(part.spec for _, part in parts if part.spec is not None),
            bag_of=bag_of,
            bag_offset=_offsets([[m for m, _ in part.members] for _, part in parts]),
            bag_start=_column([start_of[m] for _, part in parts for m, _ in part.members]),
            bag_return=_column([self.base[r] + q for r, part in parts for q in part.returns]),
        )

    @staticmethod
    def _counts(dfa: Dfa, base: int, limit: IntArray, floor: IntArray, cap: IntArray) -> None:
        if not dfa.counted:
            return
        counts = counts_to_accept(dfa)
        assert counts is not None, "counted automata are settled before they are flattened"
        for q, (fewest, most) in enumerate(counts):
            if dfa.count_max is None:
                cap[base + q] = dfa.count_min
            else:
                limit[base + q] = dfa.count_max - fewest
            if most is not None:
                floor[base + q] = max(0, dfa.count_min - most)

    def _ranks(
        self,
        calls: dict[int, list[tuple[int, int]]],
        taken: dict[int, list[int]],
        start_of: dict[int, int],
    ) -> dict[int, int]:
        """An order of the rules in which left callers come before their callees."""
        used = self.used
        number = {r: i for i, r in enumerate(used)}
        left = [
            [number[c] for c, _ in calls.get(start_of[r], ())]
            + [number[c] for c in taken.get(start_of[r], ())]
            for r in used
        ]
        callees_first = [i for component in components(left) for i in component]
        return {used[i]: place for place, i in enumerate(reversed(callees_first))}


class _Alphabet:
    """Classes of symbols that no edge of a program tells apart.

    Attributes:
        size: how many there are.
        class_of: uint8[258], the class of each byte and mark.
        marks: the marks that some edge reads.
    """

    def __init__(self, masks: list[ByteMask]) -> None:
        width = (ir.SYMBOLS + 7) // 8
        packed = b"".join(mask.to_bytes(width, "little") for mask in masks)
        rows = np.frombuffer(packed, np.uint8).reshape(len(masks), width)
        member = np.unpackbits(rows, axis=1, bitorder="little")[:, : ir.SYMBOLS]
        read: list[bool] = np.any(member, axis=0).tolist()
        self.marks = tuple(m for m in range(256, ir.SYMBOLS) if read[m])
        # a mark that no edge reads needs no class of its own
        columns = np.packbits(member.T, axis=1)
        keys = [column.tobytes() for column in columns]
        known: dict[bytes, int] = {}
        numbers = [known.setdefault(key, len(known)) for key in keys[:256]]
        for m in range(256, ir.SYMBOLS):
            numbers.append(known.setdefault(keys[m], len(known)) if read[m] else 0)
        self.size = len(known)
        if self.size > 256:
            raise GrammarError("the grammar tells all bytes and marks apart, which is too many")
        self.class_of = np.array(numbers, np.uint8)
        first = {c: symbol for symbol, c in reversed(list(enumerate(numbers)))}
        for m in range(256, ir.SYMBOLS):
            if not read[m]:
                continue
            first[numbers[m]] = m
        self._member = member[:, [first[c] for c in range(self.size)]]

    def edges(
        self, states: int, sources: list[int], masks: list[int], targets: list[int]
    ) -> _Edges:
        """The edges (by source, ascending) on masks of these numbers as edges on classes."""
        of_mask, classes = np.nonzero(self._member)
        begin = np.searchsorted(of_mask, np.arange(len(self._member) + 1))
        number = np.array(masks, np.int64)
        counts = np.diff(begin)[number]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        at = np.arange(total) - np.repeat(ends - counts, counts) + np.repeat(begin[number], counts)
        source = np.repeat(np.array(sources, np.int32), counts)
        return _Edges(
            states,
            source,
            classes[at].astype(np.int32),
            np.repeat(np.array(targets, np.int32), counts),
        )


class _Edges:
    """Edges on byte classes, by source."""

    def __init__(self, states: int, source: IntArray, classes: IntArray, targets: IntArray) -> None:
        self.source, self.classes, self.targets = source, classes, targets
        self.states = states
        self.offset = np.zeros(states + 1, np.int32)
        np.cumsum(np.bincount(source, minlength=states), out=self.offset[1:])

    def of(self, q: int) -> list[tuple[int, int]]:
        """(class, target) of one state."""
        part = slice(int(self.offset[q]), int(self.offset[q + 1]))
        return list(zip(self.classes[part].tolist(), self.targets[part].tolist(), strict=True))

    def table(self, classes: int) -> IntArray:
        """int32[Q, C]: the only target by state and class; ``MANY`` where there are several."""
        table = np.full(self.states * classes, NO_EDGE, np.int32)
        key = self.source.astype(np.int64) * classes + self.classes
        table[key] = self.targets
        table[key[table[key] != self.targets]] = MANY
        return table.reshape(self.states, classes)


class _Chains:
    """Which call chains a byte class starts, and the table entries that follow from it."""

    def __init__(
        self,
        edges: _Edges,
        calls: dict[int, list[tuple[int, int]]],
        taken: dict[int, list[int]],
        start_of: dict[int, int],
        tail: list[bool],
        rank: dict[int, int],
    ) -> None:
        self.edges, self.calls, self.start_of, self.tail = edges, calls, start_of, tail
        self.taken = taken
        self.links: list[list[int]] = []
        self.targets: list[int] = []
        self.outer: list[bool] = []
        self._known: dict[tuple[bool, tuple[int, ...], int], int] = {}
        # per rule: class -> (links, target) of the only way in, or None where there are several
        self._entry: dict[int, dict[int, tuple[tuple[int, ...], int] | None]] = {}
        for r in sorted(rank, key=lambda r: -rank[r]):
            self._entry[r] = {c: _only(ways) for c, ways in self._ways(start_of[r]).items()}

    def _ways(self, q: int) -> dict[int, list[tuple[tuple[int, ...], int] | None]]:
        ways: dict[int, list[tuple[tuple[int, ...], int] | None]] = {}
        for c, target in self.edges.of(q):
            ways.setdefault(c, []).append(((), target))
        for r, ret in self.calls.get(q, ()):
            for c, entry in self._entry[r].items():
                if entry is None:
                    ways.setdefault(c, []).append(None)
                    continue
                links, target = entry
                # a return to a state with nothing left to do is skipped: the call is a jump
                own = () if self.tail[ret >> 1] else (ret,)
                ways.setdefault(c, []).append((own + links, target))
        for r in self.taken.get(q, ()):  # which items are available only the residual says
            for c in self._entry[r]:
                ways.setdefault(c, []).append(None)
        return ways

    def row(self, q: int) -> dict[int, int]:
        """Table entries of one state with calls."""
        out: dict[int, int] = {}
        for c, target in self.edges.of(q):
            out[c] = MANY if c in out else target
        for r, ret in self.calls.get(q, ()):
            # a return to a state with nothing left to do is skipped: the call is a jump
            own = () if self.tail[ret >> 1] else (ret,)
            for c, entry in self._entry[r].items():
                if entry is None or c in out:
                    out[c] = MANY
                else:
                    links, target = entry
                    out[c] = self._chain(bool(own), own + links, target)
        for r in self.taken.get(q, ()):  # which items are available only the residual says
            out.update(dict.fromkeys(self._entry[r], MANY))
        return out

    def _chain(self, outer: bool, links: tuple[int, ...], target: int) -> int:
        key = (outer, links, target)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.targets)
            self.links.append(list(links))
            self.targets.append(target)
            self.outer.append(outer)
        return FIRST_PUSH - number


def _only(
    ways: list[tuple[tuple[int, ...], int] | None],
) -> tuple[tuple[int, ...], int] | None:
    return ways[0] if len(ways) == 1 else None


def _offsets(rows: list[list[int]] | list[list[tuple[int, int]]]) -> np.ndarray:
    out = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=out[1:]) if rows else None
    return out


def _column(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def regular_dfa(grammar: GrammarIR, expr: Expr, limits: Limits) -> Dfa:
    """The plain automaton (no counters, no calls) of a regular expression over a grammar's rules.

    Raises:
        GrammarError: if a recursive rule is below ``expr``.
        LimitExceeded: where a limit is reached.
    """
    builder = RuleBuilder(Analysis(grammar, limits), limits, ALL_BYTES)
    return expand(builder.regular_dfa(expr), limits.max_dfa_states)
