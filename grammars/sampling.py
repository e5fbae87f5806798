"""Random texts of a grammar, for tests and for people.

Expansion runs left to right over the intermediate form with an explicit stack.  The length of the
shortest text of every part is known beforehand (the least fixed point, after Knuth 1977, "A
generalization of Dijkstra's algorithm"); what a text may have beyond its shortest form is a slack
that choices use up, so every text ends and fits.  Intersections and complements are walked on
their automata.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final, TypeAlias

from grammars.automata import Dfa
from grammars.causes import barren_causes
from grammars.compiler import regular_dfa
from grammars.errors import BudgetError, GrammarError
from grammars.ir import (
    Alt,
    And,
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Nothing,
    Ranges,
    Ref,
    Repeat,
    Seq,
    children,
    intersect_ranges,
    refs,
)
from grammars.limits import Limits

_SLACK: Final = 64
"""Bytes beyond the shortest text when the caller sets no bound."""
_STEPS: Final = 4_000
"""Expansions after which only shortest ways are taken (loops may cost no bytes)."""
_PLAIN: Final = ((0x20, 0x7E),)

_Cost: TypeAlias = tuple[float, int]
"""Length in bytes of the shortest text, and height of its derivation (so that it is finite)."""
_IMPOSSIBLE: Final[_Cost] = (float("inf"), 0)


class Sampler:
    """Samples texts of one grammar."""

    def __init__(self, grammar: GrammarIR, limits: Limits) -> None:
        self._grammar = grammar
        self._limits = limits
        self._dfas: dict[int, tuple[Dfa, list[float]]] = {}
        self._rules: dict[str, _Cost] = {}
        self._costs: dict[int, _Cost] = {}
        self._relax()

    def sample(self, rng: random.Random, max_bytes: int | None) -> bytes:
        """One text, of at most ``max_bytes`` bytes.

        Raises:
            BudgetError: if the shortest text is longer.
        """
        body = self._grammar[self._grammar.start].body
        least = self._cost(body)[0]
        if max_bytes is not None and least > max_bytes:
            raise BudgetError(
                f"the shortest text of this grammar has {least:.0f} bytes, more than "
                f"max_bytes={max_bytes}; raise max_bytes",
                needed=int(least),
                available=max_bytes,
            )
        slack = _SLACK if max_bytes is None else max_bytes - least
        return self._expand(body, rng, slack)

    def causes(self) -> tuple[str, ...]:
        """Why the language is empty: rules without any text that need no other such rule for it."""
        barren = [r for r in self._grammar.rules if r.name not in self._rules]
        return barren_causes({r.name: refs(r.body) for r in barren})

    def _expand(self, body: Expr, rng: random.Random, slack: float) -> bytes:
        out = bytearray()
        stack = [body]
        steps = 0
        while stack:
            node = stack.pop()
            least = self._cost(node)[0]
            steps += 1
            if steps > _STEPS:
                slack = 0
            match node:
                case Literal(data):
                    out += data
                case Chars(ranges):
                    char = chr(_pick(ranges, rng, slack + least)).encode()
                    slack -= len(char) - least
                    out += char
                case ByteSet(ranges):
                    out.append(_pick_one(ranges, rng))
                case Seq(items):
                    stack.extend(reversed(items))
                case Ref(name):
                    stack.append(self._grammar[name].body)
                case Alt(items):
                    branch = self._branch(items, rng, least + slack, steps > _STEPS)
                    slack -= self._cost(branch)[0] - least
                    stack.append(branch)
                case Repeat(item, low, _):
                    count = self._count(node, rng, slack)
                    slack -= (count - low) * self._cost(item)[0]
                    stack.extend([item] * count)
                case And() | Not() | Machine():
                    data = self._walk(node, rng, least + slack)
                    slack -= len(data) - least
                    out += data
        return bytes(out)

    def _branch(
        self, items: tuple[Expr, ...], rng: random.Random, most: float, shortest: bool
    ) -> Expr:
        if shortest:
            return min(items, key=self._cost)
        return rng.choice([x for x in items if self._cost(x)[0] <= most])

    def _count(self, node: Repeat, rng: random.Random, slack: float) -> int:
        count = node.min
        each = self._cost(node.item)[0]
        while (node.max is None or count < node.max) and each <= slack and rng.random() < 0.7:
            count += 1
            slack -= max(each, 1)
        return count

    def _walk(self, node: Expr, rng: random.Random, most: float) -> bytes:
        dfa, distance = self._automaton(node)
        state, out = dfa.start, bytearray()
        while True:
            left = most - len(out) - 1
            ways = [(mask, t) for mask, t, _ in dfa.edges[state] if distance[t] <= left]
            if dfa.accept[state] and (not ways or rng.random() < 0.3):
                return bytes(out)
            mask, state = rng.choice(ways)
            values = [b for b in range(256) if mask >> b & 1]
            plain = [b for b in values if 0x20 <= b < 0x7F]
            out.append(rng.choice(plain or values))

    # -- shortest texts ------------------------------------------------------------------------

    def _relax(self) -> None:
        """Least fixed point of the rules' costs."""
        users: dict[str, list[str]] = {}
        for rule in self._grammar.rules:
            for name in refs(rule.body):
                users.setdefault(name, []).append(rule.name)
        todo = deque(rule.name for rule in reversed(self._grammar.rules))
        waiting = set(todo)
        while todo:
            name = todo.popleft()
            waiting.discard(name)
            self._costs.clear()
            cost = self._cost(self._grammar[name].body)
            if cost < self._rules.get(name, _IMPOSSIBLE):
                self._rules[name] = cost
                new = [u for u in users.get(name, ()) if u not in waiting]
                waiting.update(new)
                todo.extend(new)
        self._costs.clear()

    def _cost(self, expr: Expr) -> _Cost:
        known = self._costs.get(id(expr))
        if known is not None:
            return known
        stack = [expr]
        while stack:
            node = stack[-1]
            regular = isinstance(node, And | Not | Machine)
            missing = [] if regular else [c for c in children(node) if id(c) not in self._costs]
            if missing:
                stack.extend(missing)
            else:
                self._costs[id(stack.pop())] = self._own_cost(node)
        return self._costs[id(expr)]

    def _own_cost(self, node: Expr) -> _Cost:
        costs = self._costs
        match node:
            case Nothing():
                return _IMPOSSIBLE
            case Literal(data):
                return len(data), 0
            case Chars(ranges):
                return len(chr(ranges[0][0]).encode()), 0
            case ByteSet():
                return 1, 0
            case Seq(items):
                parts = [costs[id(x)] for x in items]
                return sum(c for c, _ in parts), max(h for _, h in parts)
            case Alt(items):
                return min(costs[id(x)] for x in items)
            case Repeat(item, low, _):
                cost, height = costs[id(item)]
                return (low * cost, height) if low else (0, 0)
            case Ref(name):
                cost, height = self._rules.get(name, _IMPOSSIBLE)
                return cost, height + 1
            case And() | Not() | Machine():
                dfa, distance = self._automaton(node)
                return distance[dfa.start], 0

    def _automaton(self, node: Expr) -> tuple[Dfa, list[float]]:
        known = self._dfas.get(id(node))
        if known is None:
            dfa = regular_dfa(self._grammar, node, self._limits)
            known = self._dfas[id(node)] = (dfa, _distances(dfa))
        return known


def _distances(dfa: Dfa) -> list[float]:
    """Fewest bytes to an accepting state, by state."""
    before: list[list[int]] = [[] for _ in dfa.edges]
    for source, row in enumerate(dfa.edges):
        for _, target, _ in row:
            before[target].append(source)
    out = [float("inf")] * len(dfa)
    todo = deque(s for s in range(len(dfa)) if dfa.accept[s])
    for s in todo:
        out[s] = 0
    while todo:
        s = todo.popleft()
        for source in before[s]:
            if out[source] > out[s] + 1:
                out[source] = out[s] + 1
                todo.append(source)
    return out


def _pick(ranges: Ranges, rng: random.Random, most: float) -> int:
    """A code point of at most ``most`` UTF-8 bytes; usually a printable ASCII one."""
    plain = intersect_ranges(ranges, _PLAIN)
    if plain and rng.random() < 0.9:
        return _pick_one(plain, rng)
    top = {1: 0x7F, 2: 0x7FF, 3: 0xFFFF}.get(int(min(most, 4)), 0x10FFFF)
    return _pick_one(intersect_ranges(ranges, ((0, top),)), rng)


def _pick_one(ranges: Ranges, rng: random.Random) -> int:
    lo, hi = rng.choice(ranges)
    return rng.randint(lo, hi)


def no_text(notes: tuple[str, ...]) -> GrammarError:
    """The error for sampling from an empty language."""
    because = ": " + "; ".join(notes) if notes else ""
    return GrammarError(f"there is nothing to sample: no text satisfies this grammar{because}")
