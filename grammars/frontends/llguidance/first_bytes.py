"""The bytes with which the texts of a grammar may begin, from above."""

from __future__ import annotations

from grammars.compiling.automata import ALL_BYTES
from grammars.compiling.utf8 import ranges_mask, utf8_node
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
    Not,
    Nothing,
    Ref,
    Repeat,
    Seq,
)

_Known = dict[str, tuple[int, bool]]


def first_bytes(ir: GrammarIR) -> int:
    """A mask of bytes; no text begins with another.  Where the empty text is possible, all bytes."""
    known: _Known = {rule.name: (0, False) for rule in ir.rules}
    changed = True
    while changed:
        changed = False
        for rule in ir.rules:
            found = _first(rule.body, known)
            if found != known[rule.name]:
                known[rule.name] = found
                changed = True
    mask, nullable = known[ir.start]
    return ALL_BYTES if nullable else mask


def is_nullable(expr: Expr) -> bool:
    """Whether the empty text is of a regular expression without references."""
    match expr:
        case Literal(data):
            return not data
        case Machine(_, accept):
            return accept[0]
        case Seq(items) | And(items):
            return all(map(is_nullable, items))
        case Alt(items):
            return any(map(is_nullable, items))
        case Repeat(item, low):
            return low == 0 or is_nullable(item)
        case Not(item):
            return not is_nullable(item)
    return False


def _first(expr: Expr, known: _Known) -> tuple[int, bool]:
    match expr:
        case Nothing():
            return 0, False
        case Literal(data):
            return (1 << data[0], False) if data else (0, True)
        case Chars(ranges):
            return _union(mask for mask, _ in utf8_node(ranges)), False
        case ByteSet(ranges):
            return ranges_mask(ranges), False
        case Machine(edges, accept):
            return _union(ranges_mask(((low, high),)) for low, high, _ in edges[0]), accept[0]
        case Seq(items):
            mask = 0
            for item in items:
                more, nullable = _first(item, known)
                mask |= more
                if not nullable:
                    return mask, False
            return mask, True
        case Alt(items):
            found = [_first(item, known) for item in items]
            return _union(m for m, _ in found), any(n for _, n in found)
        case Repeat(item, low):
            mask, nullable = _first(item, known)
            return mask, nullable or low == 0
        case Ref(name):
            return known[name]
        case And(items):
            found = [_first(item, known) for item in items]
            mask = ALL_BYTES
            for more, _ in found:
                mask &= more
            return mask, all(n for _, n in found)
        case Bag(members):
            found = [_first(member.item, known) for member in members]
            return _union(m for m, _ in found), any(n for _, n in found)
    return ALL_BYTES, True


def _union(masks: object) -> int:
    out = 0
    for mask in masks:  # type: ignore[attr-defined]
        out |= mask
    return out
