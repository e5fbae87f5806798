"""Derivations of texts: which rules read which parts of an accepted text.

The recognizer says whether a part of the rules derives a part of the text; a derivation is then found from
the top down, as in a chart: a sequence over ``[i, j)`` is cut where each item derives its piece, an
alternative is taken if it derives the whole, and no rule is asked again for a piece for which it is open,
so that circular rules (``a ::= a | "x"``) end.  Every node is therefore sound, and where a text has several
derivations one of them is shown.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from grammars import Grammar, GrammarError
from grammars.compiling.compiler import compile_ir
from grammars.ir import Alt, Expr, GrammarIR, Literal, Ref, Repeat, Rule, Seq, alt
from grammars.recognizer import DEAD, Recognizer
from grammars.work import counted_work, spend

MOST_BYTES: Final = 20_000
"""Bytes of a text that is outlined."""
_MOST_PARTS: Final = 5_000
"""Parts of rules that get an automaton of their own."""


@dataclass(frozen=True, slots=True)
class Node:
    """A rule and what it read.

    Attributes:
        rule: its name.
        start, end: byte offsets into the text.
        children: the rules that read parts of it, in the order of the text.
    """

    rule: str
    start: int
    end: int
    children: tuple[Node, ...]

    def nodes(self) -> Iterator[Node]:
        """The node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack += reversed(node.children)


_Nodes: TypeAlias = tuple[Node, ...]
_Asked: TypeAlias = Generator["_Asked", _Nodes | None, _Nodes | None]


def outline(grammar: Grammar, data: bytes) -> Node:
    """One derivation of an accepted text: its rules, the start rule on top.

    Rules that read nothing, and those that front ends make up (their names begin with ``_``), are left out.
    What is inside of intersections, complements, automata and items in any order is not told apart.

    Args:
        grammar: the rules.
        data: a text that it accepts.  Keys and items that must not repeat are not looked at.

    Raises:
        GrammarError: for a text that the rules do not read or that is too long, a grammar with indentation
            or special tokens, or with more parts than can be told apart.
        LimitExceeded: for ``Limits.max_work``.
    """
    if grammar.layout is not None or grammar.tokens:
        what = "indentation" if grammar.layout is not None else "special tokens"
        raise GrammarError(f"grammars with {what} have no outline")
    if len(data) > MOST_BYTES:
        raise GrammarError(f"an outline needs a text of {MOST_BYTES:,} bytes or fewer")
    with counted_work(grammar.limits, "outlining this text"):
        return _Deriver(grammar, data).top()


class _Deriver:
    """Derives parts of one text."""

    def __init__(self, grammar: Grammar, data: bytes) -> None:
        self._ir = grammar.ir
        self._data = data
        self._opening = _with_refs(self._ir)
        parts = dict.fromkeys(self._parts())
        if len(parts) > _MOST_PARTS:
            raise GrammarError(f"an outline needs rules of {_MOST_PARTS:,} parts or fewer")
        self._starts: dict[Expr, int] = {}
        self._recognizer = self._make_recognizer(grammar, parts)
        self._ends: dict[tuple[Expr, int], frozenset[int]] = {}
        self._known: dict[tuple[Expr, int, int], _Nodes] = {}
        self._open: set[tuple[str, int, int]] = set()

    def top(self) -> Node:
        """The start rule's node."""
        start = Ref(self._ir.start)
        if len(self._data) not in self._ends_of(start, 0):
            raise GrammarError("only a text that is accepted has an outline")
        found = _answer(self._derive(start, 0, len(self._data)))
        assert found is not None, (
            "a text that a rule derives has a derivation in which no rule is in itself"
        )
        if len(found) == 1 and found[0].rule == self._ir.start:
            return found[0]
        return Node(self._ir.start, 0, len(self._data), found)

    # -- automata ----------------------------------------------------------------------------------

    def _parts(self) -> Iterator[Expr]:
        """What is asked for: the parts of every expression that refers to a rule."""
        yield Ref(self._ir.start)
        for rule in self._ir.rules:
            stack = [rule.body]
            while stack:
                node = stack.pop()
                if node not in self._opening:
                    continue
                inner = _parts_of(node)
                yield from (part for part in inner if not isinstance(part, Literal))
                stack += inner

    def _make_recognizer(self, grammar: Grammar, parts: Iterable[Expr]) -> Recognizer:
        """One automaton for all parts, each behind a key of its own."""
        keys = {part: n.to_bytes(3, "big") for n, part in enumerate(parts)}
        names = {part: f"'{n}" for n, part in enumerate(keys)}
        while any(name in self._ir for name in (*names.values(), "''")):
            names = {part: f"'{name}" for part, name in names.items()}
        top = Rule(
            "''", alt(*(Seq((Literal(key), Ref(names[part]))) for part, key in keys.items()))
        )
        rules = [Rule(name, part, shared=True) for part, name in names.items()]
        ir = GrammarIR((top, *rules, *self._ir.rules), top.name)
        recognizer = Recognizer(compile_ir(ir, grammar.limits), grammar.limits)
        for part, key in keys.items():
            state, used = recognizer.run(key)
            self._starts[part] = state if used == len(key) else DEAD
        return recognizer

    def _ends_of(self, part: Expr, start: int) -> frozenset[int]:
        """Where the texts of a part can end that begin at an offset."""
        if isinstance(part, Literal):
            end = start + len(part.data)
            return frozenset((end,)) if self._data.startswith(part.data, start) else frozenset()
        known = self._ends.get((part, start))
        if known is None:
            known = self._ends[part, start] = frozenset(self._run(part, start))
        return known

    def _run(self, part: Expr, start: int) -> Iterator[int]:
        recognizer, data = self._recognizer, self._data
        state, at = self._starts[part], start
        while state != DEAD:
            if recognizer.accepting[state]:
                yield at
            if at == len(data):
                break
            state = recognizer.advance(state, data[at])
            at += 1
        spend(1 + (at - start) // 4)

    # -- derivations -------------------------------------------------------------------------------

    def _derive(self, expr: Expr, i: int, j: int) -> _Asked:
        """The rules below an expression that derives ``[i, j)``; ``None`` if only open rules would do."""
        if expr not in self._opening or i == j:
            return ()
        known = self._known.get((expr, i, j))
        if known is not None:
            return known
        spend(5)
        if isinstance(expr, Ref):
            found = yield self._of_rule(expr.name, i, j)
        elif isinstance(expr, Alt):
            found = yield self._of_alternatives(expr, i, j)
        elif isinstance(expr, Seq | Repeat):
            found = yield self._of_pieces(expr, i, j)
        else:
            found = ()
        if found is not None:
            self._known[expr, i, j] = found
        return found

    def _of_rule(self, name: str, i: int, j: int) -> _Asked:
        key = (name, i, j)
        if key in self._open:
            return None
        self._open.add(key)
        inner = yield self._derive(self._ir[name].body, i, j)
        self._open.discard(key)
        if inner is None or name.startswith("_"):
            return inner
        return (Node(name, i, j, inner),)

    def _of_alternatives(self, expr: Alt, i: int, j: int) -> _Asked:
        for item in expr.items:
            if j in self._ends_of(item, i):
                found = yield self._derive(item, i, j)
                if found is not None:
                    return found
        return None

    def _of_pieces(self, expr: Seq | Repeat, i: int, j: int) -> _Asked:
        cuts = self._cuts(expr.items, i, j) if isinstance(expr, Seq) else self._turns(expr, i, j)
        for pieces in cuts:
            out: list[Node] = []
            for item, start, end in pieces:
                found = yield self._derive(item, start, end)
                if found is None:
                    break
                out += found
            else:
                return tuple(out)
        return None

    def _cuts(self, items: tuple[Expr, ...], i: int, j: int) -> Iterator[list[_Piece]]:
        """Every way to cut a piece of the text into those of a sequence's items."""
        reached: list[set[int]] = [{i}]
        for item in items:
            reached.append({e for p in reached[-1] for e in self._ends_of(item, p) if e <= j})
        yield from self._ways_back(items, reached, j, empty=True)

    def _turns(self, expr: Repeat, i: int, j: int) -> Iterator[list[_Piece]]:
        """Every way to cut a piece of the text into items of a repetition, none of which is empty."""
        item = expr.item
        least = 0 if i in self._ends_of(item, i) else expr.min
        reached: list[set[int]] = [{i}]
        while reached[-1] and (expr.max is None or len(reached) <= expr.max):
            after = {e for p in reached[-1] for e in self._ends_of(item, p) if p < e <= j}
            reached.append(after)
            if j in after and len(reached) > least:
                items = (item,) * (len(reached) - 1)
                yield from self._ways_back(items, reached, j, empty=False)

    def _ways_back(
        self, items: tuple[Expr, ...], reached: list[set[int]], j: int, *, empty: bool
    ) -> Iterator[list[_Piece]]:
        """Ways from the end of the last item back to the start of the first, depth first."""
        stack: list[Iterator[int]] = [iter((j,))]
        way: list[int] = []
        while stack:
            at = next(stack[-1], None)
            if at is None:
                stack.pop()
                if way:
                    way.pop()
                continue
            spend()
            k = len(items) - len(way)
            if k == 0:
                ends = [at, *reversed(way)]
                yield [(x, a, b) for x, a, b in zip(items, ends, ends[1:], strict=False)]
                continue
            way.append(at)
            stack.append(iter(self._before(items[k - 1], reached[k - 1], at, empty)))

    def _before(self, item: Expr, starts: set[int], end: int, empty: bool) -> list[int]:
        """Where an item that ends at an offset can begin, the latest first."""
        found = (p for p in starts if p < end or (empty and p == end))
        return sorted((p for p in found if end in self._ends_of(item, p)), reverse=True)


_Piece: TypeAlias = tuple[Expr, int, int]


def _answer(asked: _Asked) -> _Nodes | None:
    """Runs a derivation on a stack of its own, as rules nest deeper than Python's calls may."""
    stack = [asked]
    answer: Any = None
    while stack:
        try:
            stack.append(stack[-1].send(answer))
            answer = None
        except StopIteration as done:
            stack.pop()
            answer = done.value
    found: _Nodes | None = answer
    return found


def _parts_of(node: Expr) -> tuple[Expr, ...]:
    if isinstance(node, Seq | Alt):
        return node.items
    return (node.item,) if isinstance(node, Repeat) else ()


def _with_refs(ir: GrammarIR) -> set[Expr]:
    """Expressions in which a derivation goes on: references, and what has some in a place that is read."""
    found: set[Expr] = {Ref(ir.start)}
    for rule in ir.rules:
        order = [rule.body]
        for node in order:  # grows while we iterate
            order += _parts_of(node)
        for node in reversed(order):
            if isinstance(node, Ref) or any(part in found for part in _parts_of(node)):
                found.add(node)
    return found
