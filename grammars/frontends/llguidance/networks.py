"""Rules over lexemes as networks: states, edges that read a lexeme, a part or a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from grammars.compiling.automata import components
from grammars.frontends.llguidance.structure import Call, Cat, Lex, Node, Or, Part, Rep


class TooLargeError(Exception):
    """The networks, or what is made of them, exceed what is allowed."""


@dataclass
class Network:
    """States and edges of all rules that are not written out in place.

    Attributes:
        starts, ends: by rule.
        lexemes, calls, parts: by state, what it reads and the states behind that.
    """

    starts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    empty: list[list[int]] = field(default_factory=list)
    lexemes: list[tuple[int, int] | None] = field(default_factory=list)
    calls: list[tuple[str, int] | None] = field(default_factory=list)
    parts: list[tuple[int, int] | None] = field(default_factory=list)
    nullable: frozenset[str] = frozenset()
    final: set[int] = field(default_factory=set)
    _closures: dict[int, frozenset[int]] = field(default_factory=dict)

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states reached without reading, of those that read or end a rule."""
        out: set[int] = set()
        for state in states:
            out |= self._closure(state)
        return frozenset(out)

    def _closure(self, state: int) -> frozenset[int]:
        known = self._closures.get(state)
        if known is None:
            seen, stack = {state}, [state]
            while stack:
                for after in self.empty[stack.pop()]:
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
            known = self._closures[state] = frozenset(
                s
                for s in seen
                if self.lexemes[s] or self.calls[s] or self.parts[s] or s in self.final
            )
        return known


class _Builder:
    def __init__(self, rules: Mapping[str, Node], inline: bool, limit: int) -> None:
        self.rules = rules
        self.limit = limit
        self.network = Network()
        self.network.nullable = frozenset(_nullable(rules))
        self.kept = _recursive(rules)
        if not inline:
            counts: dict[str, int] = {}
            for node in rules.values():
                for name in called(node):
                    counts[name] = counts.get(name, 0) + 1
            self.kept |= {name for name, count in counts.items() if count > 1}

    def state(self) -> int:
        network = self.network
        if len(network.empty) >= self.limit:
            raise TooLargeError
        network.empty.append([])
        network.lexemes.append(None)
        network.calls.append(None)
        network.parts.append(None)
        return len(network.empty) - 1

    def rule(self, name: str) -> None:
        if name in self.network.starts:
            return
        end = self.network.ends[name] = self.state()
        self.network.final.add(end)
        start = self.network.starts[name] = self.state()
        begin = self.build(direct_recursion_removed(name, self.rules[name]), end)
        self.network.empty[start].append(begin)

    def build(self, node: Node, then: int) -> int:
        match node:
            case Cat(items):
                for item in reversed(items):
                    then = self.build(item, then)
                return then
            case Or(items):
                here = self.state()
                self.network.empty[here] = [self.build(item, then) for item in items]
                return here
            case Rep(item, low, high):
                return self.repeated(item, low, high, then)
            case Call(rule) if rule not in self.kept:
                return self.build(self.rules[rule], then)
        here = self.state()
        match node:
            case Lex(lexeme):
                self.network.lexemes[here] = (lexeme, then)
            case Part(part):
                self.network.parts[here] = (part, then)
            case Call(rule):
                self.network.calls[here] = (rule, then)
                if rule in self.network.nullable:
                    self.network.empty[here].append(then)
        return here

    def repeated(self, item: Node, low: int, high: int | None, then: int) -> int:
        at = then
        if high is None:
            at = self.state()
            self.network.empty[at] = [self.build(item, at), then]
        else:
            for _ in range(high - low):
                here = self.state()
                self.network.empty[here] = [self.build(item, at), then]
                at = here
        for _ in range(low):
            at = self.build(item, at)
        return at


def network_of(rules: Mapping[str, Node], start: str, *, inline: bool, limit: int) -> Network:
    """The network of all rules.

    Args:
        rules: by name.
        start: the first rule.
        inline: rules that are not recursive are written out wherever they are called.
        limit: how many states there may be.

    Raises:
        TooLargeError: for more states.
    """
    builder = _Builder(rules, inline, limit)
    try:
        builder.rule(start)
        for name in builder.kept:
            builder.rule(name)
    except RecursionError:
        raise TooLargeError from None
    return builder.network


def called(node: Node) -> list[str]:
    """The rules a node calls."""
    out = []
    stack = [node]
    while stack:
        match stack.pop():
            case Call(rule):
                out.append(rule)
            case Cat(items) | Or(items):
                stack += items
            case Rep(item):
                stack.append(item)
    return out


def _recursive(rules: Mapping[str, Node]) -> set[str]:
    names = list(rules)
    number = {name: i for i, name in enumerate(names)}
    nexts = [[number[x] for x in dict.fromkeys(called(rules[name]))] for name in names]
    out: set[str] = set()
    for component in components(nexts):
        if len(component) > 1 or component[0] in nexts[component[0]]:
            out |= {names[i] for i in component}
    return out


def _nullable(rules: Mapping[str, Node]) -> set[str]:
    found: set[str] = set()
    changed = True
    while changed:
        changed = False
        for name, node in rules.items():
            if name not in found and _is_nullable(node, found):
                found.add(name)
                changed = True
    return found


def _is_nullable(node: Node, known: set[str]) -> bool:
    match node:
        case Cat(items):
            return all(_is_nullable(item, known) for item in items)
        case Or(items):
            return any(_is_nullable(item, known) for item in items)
        case Rep(item, low):
            return low == 0 or _is_nullable(item, known)
        case Call(rule):
            return rule in known
    return False


_NOTHING: Final = Or(())


def direct_recursion_removed(name: str, node: Node) -> Node:
    """``a: a x | b`` as ``b x*``: what may follow then shows in one place."""
    branches = node.items if isinstance(node, Or) else (node,)
    more: list[Node] = []
    base: list[Node] = []
    for branch in branches:
        items = branch.items if isinstance(branch, Cat) else (branch,)
        if items and items[0] == Call(name):
            if len(items) > 1:
                more.append(Cat(items[1:]) if len(items) > 2 else items[1])
        else:
            base.append(branch)
    if not more:
        return node
    begin = base[0] if len(base) == 1 else Or(tuple(base))
    loop = more[0] if len(more) == 1 else Or(tuple(more))
    return Cat((begin, Rep(loop, 0, None)))
