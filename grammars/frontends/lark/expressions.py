"""Graphs of expressions as one expression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from grammars import ir
from grammars.ir import EPSILON, NOTHING, Expr, alt, repeat, seq


def eliminate(
    edges: Mapping[tuple[int, int], Expr], start: int, finals: Iterable[int], most: int
) -> Expr | None:
    """The texts along paths from ``start`` to one of ``finals`` (states are not negative)."""
    into: dict[int, dict[int, Expr]] = {}
    onward: dict[int, dict[int, Expr]] = {}

    def connect(p: int, q: int, expr: Expr) -> None:
        old = onward.setdefault(p, {}).get(q, NOTHING)
        new = _either(old, expr)
        onward[p][q] = new
        into.setdefault(q, {})[p] = new

    for (p, q), expr in edges.items():
        if expr != NOTHING:
            connect(p, q, expr)
    begin, end = -1, -2
    connect(begin, start, EPSILON)
    for q in finals:
        connect(q, end, EPSILON)
    todo = {q for q in (*into, *onward) if q >= 0}
    while todo:
        # the cheapest first: states in few paths
        q = min(todo, key=lambda x: (_ways_through(into, onward, x), -x))
        todo.remove(q)
        sources = into.pop(q, {})
        targets = onward.pop(q, {})
        loop = sources.pop(q, None)
        targets.pop(q, None)
        middle = EPSILON if loop is None else repeat(loop)
        for p in sources:
            onward[p].pop(q, None)
        for t in targets:
            into[t].pop(q, None)
        total = 0
        for p, before in sources.items():
            for t, after in targets.items():
                connect(p, t, _join(before, middle, after))
                total += _size(onward[p][t])
        if total > most:
            return None
    return onward.get(begin, {}).get(end, NOTHING)


def _ways_through(
    into: Mapping[int, Mapping[int, Expr]], onward: Mapping[int, Mapping[int, Expr]], q: int
) -> int:
    sources = sum(1 for p in into.get(q, ()) if p != q)
    targets = sum(1 for t in onward.get(q, ()) if t != q)
    return sources * targets


def _join(before: Expr, middle: Expr, after: Expr) -> Expr:
    if isinstance(middle, ir.Repeat) and before == middle.item:
        return seq(repeat(before, 1), after)
    return seq(before, middle, after)


def _either(old: Expr, new: Expr) -> Expr:
    """The union, with ``x x*`` beside nothing folded into ``x*``."""
    if new == EPSILON and isinstance(old, ir.Repeat) and old.min == 1 and old.max is None:
        return repeat(old.item)
    if old == EPSILON and isinstance(new, ir.Repeat) and new.min == 1 and new.max is None:
        return repeat(new.item)
    return alt(old, new)


def _size(expr: Expr) -> int:
    return sum(1 for _ in ir.walk(expr))


def ir_depth(expr: Expr) -> int:
    """How deeply an expression is nested, found without recursion."""
    deepest = 0
    stack = [(expr, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        stack += [(child, depth + 1) for child in ir.children(node)]
    return deepest
