"""Parts of patterns: expressions, conditions on positions, and what is made of them.

An :class:`Edge` speaks about the characters next to a position, a :class:`Look` about longer texts
there.  Besides characters, two things can stand next to a position: nothing (the text's end), and
(``last_newline``) a line feed that ends the text, before which Python's ``$`` holds as well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias

from grammars.errors import GrammarError
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    MAX_CODE_POINT,
    NOTHING,
    Alt,
    And,
    Chars,
    Expr,
    Literal,
    Not,
    Nothing,
    Ranges,
    Repeat,
    Seq,
    alt,
    chars,
    normalize_ranges,
    repeat,
    seq,
)

ANY_TEXT: Final = repeat(ANY_CHAR)
ALL: Final[Ranges] = ((0, MAX_CODE_POINT),)


@dataclass(frozen=True, slots=True)
class Side:
    """What may stand on one side of a position: a character of a class, or other things."""

    ranges: Ranges = ()
    nothing: bool = False
    last_newline: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Plain:
    """An expression without conditions."""

    expr: Expr


@dataclass(frozen=True, eq=False, slots=True)
class Edge:
    """A position where one of the pairs (before, behind) holds."""

    pairs: tuple[tuple[Side, Side], ...]
    negative: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Look:
    """What stands behind (``ahead``) or before this position begins (ends) with the item, or not.

    ``offset`` is where the look was written, for messages.
    """

    item: Node
    ahead: bool
    negative: bool
    offset: int


@dataclass(frozen=True, eq=False, slots=True)
class Cat:
    """Concatenation."""

    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Or:
    """Union."""

    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Rep:
    """``min`` to ``max`` copies; within :class:`Atomic` few or many first, as ``lazy`` says."""

    item: Node
    min: int
    max: int | None
    lazy: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Atomic:
    """The first match of the item in the order of its alternatives, whatever follows.

    ``offset`` is where it was written, for messages.
    """

    item: Node
    offset: int


@dataclass(frozen=True, eq=False, slots=True)
class Solved:
    """A part that is a text's whole beginning or end: its language by the class on its open side.

    ``tail`` says which: the language by the class before it, or by the class behind it.
    """

    by_class: dict[int, Expr]
    tail: bool


Node: TypeAlias = Plain | Edge | Look | Cat | Or | Rep | Atomic | Solved


class UnsolvableError(Exception):
    """A condition that is not written as an expression here; ``offset`` is its place if known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


# -- building nodes --------------------------------------------------------------------------------

EMPTY: Final = Plain(EPSILON)
NEVER: Final = Plain(NOTHING)


def cat(items: Iterable[Node]) -> Node:
    """Concatenation; neighbours without conditions become one."""
    out: list[Node] = []
    for item in items:
        for part in item.items if isinstance(item, Cat) else (item,):
            before = out[-1] if out else None
            if isinstance(part, Plain) and part.expr == EPSILON:
                continue
            if isinstance(part, Plain) and isinstance(before, Plain):
                out[-1] = Plain(seq(before.expr, part.expr))
            else:
                out.append(part)
    if not out:
        return EMPTY
    return out[0] if len(out) == 1 else Cat(tuple(out))


def union(items: Sequence[Node]) -> Node:
    """Union of nodes."""
    if all(isinstance(item, Plain) for item in items):
        return Plain(united(*(item.expr for item in items if isinstance(item, Plain))))
    return items[0] if len(items) == 1 else Or(tuple(items))


def rep(item: Node, least: int, most: int | None) -> Node:
    """Repetition of a node."""
    if isinstance(item, Plain):
        return Plain(repeat(item.expr, least, most))
    if most == 0:
        return EMPTY
    if isinstance(item, Rep) and item.min == 0 and item.max is None:
        return item  # copies of x* are x*
    return item if least == most == 1 else Rep(item, least, most)


def look(item: Node, *, ahead: bool, negative: bool, offset: int) -> Node:
    """A look; an :class:`Edge` where one character decides."""
    match item:
        case Plain(expr):
            needed = _needed(expr, ahead)
            if needed == EPSILON:
                return NEVER if negative else EMPTY
            if isinstance(needed, Nothing):
                return EMPTY if negative else NEVER
            ranges = one_character(needed)
            if ranges is None:
                return Look(Plain(needed), ahead, negative, offset)
            side = Side(ranges)
            free = Side(ALL, nothing=True, last_newline=True)
            return Edge((((free, side) if ahead else (side, free)),), negative)
        case Edge(pairs, inner):
            if inner or not any(right.last_newline and right.ranges != ALL for _, right in pairs):
                return Edge(pairs, inner != negative)
        case Or(items):
            parts = [look(x, ahead=ahead, negative=negative, offset=offset) for x in items]
            return cat(parts) if negative else union(parts)
    return Look(item, ahead, negative, offset)


def _needed(expr: Expr, ahead: bool) -> Expr:
    """The part that decides a look: what may be empty at its far end does not."""
    if nullable(expr):
        return EPSILON
    if isinstance(expr, Repeat):
        return _needed(expr.item, ahead) if expr.min == 1 else repeat(expr.item, expr.min, expr.min)
    if isinstance(expr, Seq):
        items = list(expr.items)
        far = -1 if ahead else 0
        while len(items) > 1 and nullable(items[far]):
            items.pop(far)
        items[far] = _needed(items[far], ahead)
        return seq(*items)
    return expr


def one_character(expr: Expr) -> Ranges | None:
    """The class, if the expression is one."""
    match expr:
        case Chars(ranges):
            return ranges
        case Literal(data):
            text = data.decode()
            return ((ord(text), ord(text)),) if len(text) == 1 else None
        case Alt(items):
            parts = [one_character(x) for x in items]
            if all(part is not None for part in parts):
                return normalize_ranges(pair for part in parts if part for pair in part)
    return None


# -- expressions -----------------------------------------------------------------------------------


def united(*items: Expr) -> Expr:
    """Union; single characters become one class, which is far cheaper to compile than several."""
    flat = alt(*items)
    if not isinstance(flat, Alt) or not any(isinstance(x, Chars) for x in flat.items):
        return flat
    singles = {x: ranges for x in flat.items if (ranges := one_character(x)) is not None}
    if len(singles) < 2:
        return flat
    merged = chars(pair for ranges in singles.values() for pair in ranges)
    return alt(*(x for x in flat.items if x not in singles), merged)


def nullable(expr: Expr) -> bool:
    match expr:
        case Literal(data):
            return not data
        case Seq(items) | And(items):
            return all(map(nullable, items))
        case Alt(items):
            return any(map(nullable, items))
        case Repeat(item, low, _):
            return low == 0 or nullable(item)
        case Not(item):
            return not nullable(item)
    return False


def contains(ranges: Ranges, point: int) -> bool:
    """Whether a code point is in ascending ranges."""
    at = bisect_right(ranges, point, key=itemgetter(0))
    return at > 0 and point <= ranges[at - 1][1]


# -- looking at nodes ------------------------------------------------------------------------------


def nodes_of(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    stack = [node]
    while stack:
        at = stack.pop()
        yield at
        if isinstance(at, Cat | Or):
            stack.extend(at.items)
        elif isinstance(at, Rep | Look | Atomic):
            stack.append(at.item)


def may_be_empty(node: Node) -> bool:
    """Whether the empty text may match, conditions aside."""
    match node:
        case Plain(expr):
            return nullable(expr)
        case Cat(items):
            return all(map(may_be_empty, items))
        case Or(items):
            return any(map(may_be_empty, items))
        case Rep(item, least, _):
            return least == 0 or may_be_empty(item)
        case Atomic(item, _):
            return may_be_empty(item)
    return True


def size_of(node: Node) -> int:
    """States of an automaton for the node: characters, with those of all copies of repetitions."""
    match node:
        case Plain(expr):
            return _size_of(expr)
        case Cat(items) | Or(items):
            return sum(map(size_of, items))
        case Rep(item, least, most):
            return size_of(item) * max(most or least, 1)
        case Look(item) | Atomic(item):
            return size_of(item)
    return 1


def _size_of(expr: Expr) -> int:
    match expr:
        case Literal(data):
            return len(data)
        case Seq(items) | Alt(items) | And(items):
            return sum(map(_size_of, items))
        case Repeat(item, least, most):
            return _size_of(item) * max(most or least, 1)
        case Not(item):
            return _size_of(item)
    return 1


# -- places ----------------------------------------------------------------------------------------


def locate(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset."""
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def as_grammar_error(error: UnsolvableError, pattern: str) -> GrammarError:
    """The error with its place in the pattern."""
    line, column = locate(pattern, error.offset or 0)
    return GrammarError(error.message, line=line, column=column)
