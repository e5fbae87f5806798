"""Rules in plain kinds: texts, classes, sequences, alternatives, repetitions, references.

The intermediate form has more: intersections and complements, automata, items in any order, single bytes.
All of it is context-free and most of it regular, so it becomes rules of its own here, exactly, or an error
that says what cannot.  What is no part of the rules (no key twice, indentation) cannot be written at all.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from grammars.compiling.analysis import Analysis
from grammars.compiling.automata import ALL_BYTES, Dfa, expand, settle
from grammars.compiling.bags import COMPLETE, MORE, BagSpec, Residuals, settle_bag
from grammars.compiling.building import RuleBuilder
from grammars.compiling.utf8 import ByteMask
from grammars.errors import GrammarError, LimitExceeded
from grammars.folding import fold
from grammars.ir import (
    EPSILON,
    MAX_CODE_POINT,
    Alt,
    And,
    Bag,
    ByteSet,
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
    chars,
    children,
    normalize_ranges,
    refs,
    repeat,
    seq,
)
from grammars.limits import Limits
from grammars.shortest import referred
from grammars.special_tokens import FRAME

_MOST_RULES: Final = 5_000
_DEEPEST: Final = 30
"""States that are written in place, one in another."""
_UNNAMED: Final = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class PlainGrammar:
    """Rules of the six plain kinds.

    Attributes:
        rules: the start rule first; names are made of ASCII letters, digits and hyphens.
        start: its name.
    """

    rules: tuple[Rule, ...]
    start: str


def plain_rules(ir: GrammarIR, limits: Limits, *, wider: bool = False) -> PlainGrammar:
    """The same language in plain rules.

    Args:
        ir: the rules of a grammar.
        limits: ``max_dfa_states`` and ``max_states`` hold for what becomes automata.
        wider: leave out what plain rules cannot say: no key twice, different items.

    Raises:
        GrammarError: for a grammar with such a constraint (unless ``wider``), one with indentation, and
            bytes that are no UTF-8.
        LimitExceeded: for intersections and bags that need too many rules.
    """
    if ir.layout is not None:
        raise GrammarError(
            "indentation is no part of the rules, so no other notation has it; keep the grammar in Lark, "
            "with its indenter"
        )
    kept = unwritable(ir)
    if kept and not wider:
        raise GrammarError(
            f"no rules of another notation can say that {' and that '.join(kept)}; "
            "ask for a wider grammar to leave that out"
        )
    return _Writer(ir, limits).grammar()


def unwritable(ir: GrammarIR) -> tuple[str, ...]:
    """What memory beside the rules demands, in words."""
    asks = [(ir.distinct_keys, ir.compare_items)]
    asks += [(s.distinct_keys, s.compare_items) for s in ir.sections]
    asks += [(p.distinct_keys, p.compare_items) for p in ir.parts]
    out: list[str] = []
    if any(keys for keys, _ in asks):
        out.append("an object has no key twice")
    if any(items for _, items in asks):
        out.append("the items of an array differ")
    return tuple(out)


class _Writer:
    def __init__(self, ir: GrammarIR, limits: Limits) -> None:
        self._ir = ir
        self._limits = limits
        self._builder = RuleBuilder(Analysis(ir, limits), limits, ALL_BYTES)
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._made: list[Rule] = []
        self._known: dict[Expr, Expr] = {}
        self._context = ir.start

    def grammar(self) -> PlainGrammar:
        """All rules that the start rule leads to."""
        todo = deque([self._ir.start])
        seen = {self._ir.start}
        self._name(self._ir.start)
        out: list[Rule] = []
        while todo:
            name = todo.popleft()
            self._context = name
            rule = self._ir[name]
            body = self._plain(rule.body)
            new = Rule(self._name(name), body, rule.span)
            made, self._made = self._made, []
            out += [new, *made]
            if len(out) > _MOST_RULES:
                raise GrammarError(f"written out, the grammar has more than {_MOST_RULES:,} rules")
            for found in referred(rule.body):
                if found not in seen:
                    seen.add(found)
                    todo.append(found)
        return PlainGrammar(_without_dead_ends(out), self._name(self._ir.start))

    # -- names -------------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = self._fresh(name)
        return known

    def _fresh(self, name: str) -> str:
        base = _UNNAMED.sub("-", name).strip("-").lower() or "rule"
        if base[0].isdigit():
            base = f"rule-{base}"
        found, n = base, 1
        while found in self._taken:
            n += 1
            found = f"{base}-{n}"
        self._taken.add(found)
        return found

    # -- expressions -------------------------------------------------------------------------------

    def _plain(self, root: Expr) -> Expr:
        """An expression in plain kinds, parts first, without recursion."""
        known = self._known
        stack = [root]
        while stack:
            node = stack[-1]
            if node in known:
                stack.pop()
                continue
            if isinstance(node, And | Not | Machine):
                known[node] = self._automaton(self._builder.regular_dfa(node))
                continue
            missing = [x for x in children(node) if x not in known]
            if missing:
                stack += missing
                continue
            known[node] = self._converted(node, [known[x] for x in children(node)])
        return known[root]

    def _converted(self, node: Expr, parts: list[Expr]) -> Expr:
        if isinstance(node, Ref):
            return Ref(self._name(node.name))
        if isinstance(node, Literal):
            return self._literal(node)
        if isinstance(node, ByteSet):
            if node.ranges and node.ranges[-1][1] >= 0x80:
                raise self._no_text(bytes((node.ranges[-1][1],)))
            return chars(node.ranges)
        if isinstance(node, Bag):
            return self._bag(node, parts)
        if isinstance(node, Mark):
            return Nothing()  # what needs memory is left out, and said before
        return _rebuilt(node, parts)

    def _literal(self, node: Literal) -> Expr:
        try:
            node.data.replace(bytes((FRAME,)), b"").decode()
        except UnicodeDecodeError as error:
            raise self._no_text(node.data[error.start : error.end]) from None
        return node

    def _no_text(self, data: bytes) -> GrammarError:
        error = GrammarError(
            f"rule {self._context!r} reads the bytes {data!r}, which are no UTF-8: other notations are "
            "about characters"
        )
        span = self._ir[self._context].span
        error.locate(line=span.line, column=span.column, pointer=span.pointer)
        return error

    # -- automata ----------------------------------------------------------------------------------

    def _automaton(self, counted: Dfa) -> Expr:
        """A reference to rules for the states of an automaton."""
        limit = self._limits.max_dfa_states
        dfa = settle(expand(counted, limit), limit)
        if any(label < 0 for row in dfa.edges for label, _, _ in row):
            raise GrammarError(f"rule {self._context!r} cannot be written without automata")
        decode = _Decoder(dfa, self._no_text)
        ways: dict[int, dict[int, Ranges]] = {}
        todo = [dfa.start]
        while todo:
            q = todo.pop()
            if q not in ways:
                ways[q] = decode.ways(q)
                todo += ways[q]
        alive = _productive(ways, dfa.accept)
        if dfa.start not in alive:
            return Nothing()
        return self._states(dfa, {q: _alive(way, alive) for q, way in ways.items() if q in alive})

    def _states(self, dfa: Dfa, ways: dict[int, dict[int, Ranges]]) -> Expr:
        """Rules for states that are entered in several places; the others are written in place."""
        entered = Counter(t for way in ways.values() for t in way)
        shared = {q for q in ways if entered[q] > 1 and ways[q]} | _on_loops(ways)
        numbers = {
            q: self._fresh(f"{self._name(self._context)}-{n}") for n, q in enumerate(sorted(shared))
        }
        bodies: dict[int, Expr] = {}

        def body(q: int) -> Expr:
            branches = [
                seq(chars(ranges), Ref(numbers[t]) if t in shared else bodies[t])
                for t, ranges in ways[q].items()
            ]
            return alt(*branches, EPSILON) if dfa.accept[q] else alt(*branches)

        depths: dict[int, int] = {}
        for q in _innermost_first(ways, shared):
            bodies[q] = body(q)
            depths[q] = 1 + max((depths[t] for t in ways[q] if t not in shared), default=0)
            if depths[q] >= _DEEPEST and q not in shared:  # readers of groups in groups have an end
                shared.add(q)
                numbers[q] = self._fresh(f"{self._name(self._context)}-{len(numbers)}")
        for q, name in numbers.items():
            self._made.append(Rule(name, bodies[q]))
        return Ref(numbers[dfa.start]) if dfa.start in shared else bodies[dfa.start]

    # -- bags --------------------------------------------------------------------------------------

    def _bag(self, bag: Bag, parts: list[Expr]) -> Expr:
        """A reference to rules for what a bag still needs."""
        *items, separator = parts
        spec = BagSpec(
            tuple(m.min for m in bag.members),
            tuple(m.max for m in bag.members),
            tuple(m.group for m in bag.members),
            *(bag.low, bag.high, bag.ordered, bag.conditions, bag.loose),
        )
        settled = settle_bag(spec, self._limits)
        if settled is None:
            return Nothing()
        spec, kept = settled
        residuals = Residuals((spec,), self._limits)
        base = f"{self._name(self._context)}-items"
        names = {0: self._fresh(base)}
        todo = [0]
        for number in todo:  # grows while we iterate
            branches: list[Expr] = []
            for member, step in residuals.row(0, number).steps():
                after = step >> 3
                if step & MORE and after not in names:
                    if len(names) >= _MOST_RULES:
                        raise LimitExceeded(
                            "max_states",
                            _MOST_RULES,
                            f"rule {self._context!r}, written out in any order,",
                        )
                    names[after] = self._fresh(base)
                    todo.append(after)
                more = seq(separator, Ref(names[after])) if step & MORE else Nothing()
                rest = alt(EPSILON, more) if step & COMPLETE else more
                branches.append(seq(items[kept[member]], rest))
            self._made.append(Rule(names[number], alt(*branches)))
        return Ref(names[0])


def _rebuilt(node: Expr, parts: list[Expr]) -> Expr:
    """A node with other parts, simplified: alternatives without a text are gone."""
    if isinstance(node, Seq):
        return seq(*parts)
    if isinstance(node, Alt):
        return alt(*parts)
    if isinstance(node, Repeat):
        return repeat(parts[0], node.min, node.max)
    return node


def _without_dead_ends(rules: list[Rule]) -> tuple[Rule, ...]:
    """The rules without alternatives that have no text, and without those that nothing refers to then."""
    users: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in refs(rule.body):
            users.setdefault(name, []).append(rule)
    some: set[str] = set()
    todo = list(rules)
    while todo:
        rule = todo.pop()
        if rule.name not in some and _has_text(rule.body, some):
            some.add(rule.name)
            todo += users.get(rule.name, ())
    if len(some) == len(rules):
        return tuple(rules)
    kept = {r.name: replace(r, body=_without(r.body, some)) for r in rules}
    used = dict.fromkeys([rules[0].name])
    reached = list(used)
    for name in reached:  # grows while we iterate
        reached += [x for x in refs(kept[name].body) if x not in used]
        used.update(dict.fromkeys(refs(kept[name].body)))
    return tuple(kept[rule.name] for rule in rules if rule.name in used)


def _has_text(root: Expr, some: set[str]) -> bool:
    return not isinstance(_without(root, some), Nothing)


def _without(root: Expr, some: set[str]) -> Expr:
    """An expression in which references to other rules than some stand for nothing."""

    def kept(node: Expr, parts: list[Expr]) -> Expr:
        dead = isinstance(node, Ref) and node.name not in some
        return Nothing() if dead else _rebuilt(node, parts)

    return fold(root, kept)


# -- automata over characters ----------------------------------------------------------------------


class _Decoder:
    """Edges over characters of an automaton over the bytes of UTF-8.

    Args:
        dfa: the automaton, without dead ends.
        refuse: makes the error for bytes that it reads and that are no UTF-8.
    """

    def __init__(self, dfa: Dfa, refuse: Callable[[bytes], GrammarError]) -> None:
        self._refuse = refuse
        self._edges: list[list[tuple[int, int, int]]] = [
            [(low, high, t) for label, t, _ in row for low, high in _ranges_of(label)]
            for row in dfa.edges
        ]
        self._behind: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    def ways(self, q: int) -> dict[int, Ranges]:
        """The characters that lead from a state to each other state."""
        found: dict[int, list[tuple[int, int]]] = {}
        for low, high, t in self._edges[q]:
            if low < 0x80:
                found.setdefault(t, []).append((low, min(high, 0x7F)))
            for lead in range(max(low, 0x80), high + 1):
                if not 0xC2 <= lead <= 0xF4:
                    raise self._refuse(bytes((lead,)))
                more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
                base = (lead & (0x3F >> more)) << (6 * more)
                for a, b, end in self._continued(t, more):
                    if _is_no_character(base + a, base + b, _LOWEST[more]):
                        raise self._refuse(bytes((lead,)))
                    found.setdefault(end, []).append((base + a, base + b))
        return {t: normalize_ranges(pairs) for t, pairs in found.items()}

    def _continued(self, q: int, more: int) -> list[tuple[int, int, int]]:
        """Offsets of the characters that so many further bytes finish, and the states they lead to."""
        if more == 0:
            return [(0, 0, q)]
        known = self._behind.get((q, more))
        if known is None:
            known = self._behind[q, more] = []
            width = 6 * (more - 1)
            for low, high, t in self._edges[q]:
                if low < 0x80 or high > 0xBF:
                    raise self._refuse(bytes((low if low < 0x80 else high,)))
                first, last = low - 0x80, high - 0x80
                for a, b, end in self._continued(t, more - 1):
                    if (a, b) == (0, (1 << width) - 1):  # all of them: neighbours join
                        known.append((first << width, ((last + 1) << width) - 1, end))
                    else:
                        steps = range(first, last + 1)
                        known += [((n << width) + a, (n << width) + b, end) for n in steps]
        return known


_LOWEST: Final = (0, 0x80, 0x800, 0x10000)
"""The first character of a lead byte that so many bytes follow."""


def _is_no_character(low: int, high: int, lowest: int) -> bool:
    return low < lowest or high > MAX_CODE_POINT or (low <= 0xDFFF and high >= 0xD800)


def _ranges_of(mask: ByteMask) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    at = 0
    mask &= ALL_BYTES
    while mask:
        skipped = (mask & -mask).bit_length() - 1
        mask >>= skipped
        length = (~mask & (mask + 1)).bit_length() - 1
        out.append((at + skipped, at + skipped + length - 1))
        at += skipped + length
        mask >>= length
    return out


def _productive(ways: dict[int, dict[int, Ranges]], accept: list[bool]) -> set[int]:
    """States from which the end can be reached by whole characters."""
    before: dict[int, list[int]] = {}
    for q, way in ways.items():
        for t in way:
            before.setdefault(t, []).append(q)
    out = {q for q in ways if accept[q]}
    todo = list(out)
    while todo:
        for q in before.get(todo.pop(), ()):
            if q not in out:
                out.add(q)
                todo.append(q)
    return out


def _alive(way: dict[int, Ranges], alive: Iterable[int]) -> dict[int, Ranges]:
    return {t: ranges for t, ranges in way.items() if t in alive}


def _on_loops(ways: dict[int, dict[int, Ranges]]) -> set[int]:
    """States at which a walk along the edges comes back to where it was."""
    out: set[int] = set()
    done: set[int] = set()
    for root in ways:
        path: list[tuple[int, list[int]]] = [(root, list(ways[root]))] if root not in done else []
        on_path = {root}
        done.add(root)
        while path:
            q, rest = path[-1]
            if not rest:
                path.pop()
                on_path.discard(q)
                continue
            t = rest.pop()
            if t in on_path:
                out.add(t)
            if t not in done:
                done.add(t)
                on_path.add(t)
                path.append((t, list(ways[t])))
    return out


def _innermost_first(ways: dict[int, dict[int, Ranges]], shared: set[int]) -> list[int]:
    """States in an order in which those that are written in place come before their only use."""
    out: list[int] = []
    done: set[int] = set()
    for root in ways:
        stack = [root]
        while stack:
            q = stack[-1]
            missing = [t for t in ways[q] if t not in shared and t not in done]
            if q in done or not missing:
                stack.pop()
                if q not in done:
                    done.add(q)
                    out.append(q)
            else:
                stack += missing
    return out
