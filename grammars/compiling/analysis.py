"""Facts about the rules that a start rule reaches: recursive, nullable, worth inlining."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Final, TypeAlias

from grammars import ir
from grammars.compiling.automata import components
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import (
    Alt,
    And,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Ref,
    Repeat,
    Rule,
    Seq,
)
from grammars.limits import Limits
from grammars.program import UNBOUNDED

INLINE_SIZE: Final = 24
"""A rule used more than once is inlined up to this many expression nodes."""
INLINE_ONCE_SIZE: Final = 2_000
"""The same for a rule used once."""
INLINE_TOTAL: Final = 5_000
"""Nodes of an inlined rule with all that is inlined into it: small rules that use each other twice
would else double at every step."""
INLINE_DEPTH: Final = 200
"""Levels of nesting of an inlined rule with all that is inlined into it."""
MAX_DEPTH: Final = 1_000
"""Levels of nesting of one rule's expression."""
MAX_COUNT: Final = UNBOUNDED
"""The largest bound of a repetition: counts are 32 bits wide."""


@contextmanager
def place_of(rule: Rule) -> Iterator[None]:
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
            with place_of(grammar[name]):
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
                and depth[name] <= INLINE_DEPTH
                and (self.uses[name] == 1 or total[name] <= INLINE_TOTAL)
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
        if self.uses[name] > 1 and has_wide_loop(self.grammar[name].body):
            return False
        return self.size[name] <= (INLINE_SIZE if self.uses[name] > 1 else INLINE_ONCE_SIZE)


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


def has_wide_loop(expr: Expr) -> bool:
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


def is_nullable(expr: Expr, nullable: Set[str]) -> bool:
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
