"""Patterns of terminals as trees, with Python's meaning, and the classes of characters they tell apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from grammars import ir
from grammars.frontends import _re_api
from grammars.frontends._re_api import constants as _constants
from grammars.ir import MAX_CODE_POINT, Expr, Ranges

Mask: TypeAlias = int
"""A set of character classes; the bit behind the last class stands for the end of the text."""


class UnsupportedError(Exception):
    """A construct of a pattern that cannot be followed; the text says which."""


@dataclass(frozen=True, slots=True)
class PChar:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class PSeq:
    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class PAlt:
    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class PRepeat:
    item: Pattern
    min: int
    max: int | None
    greedy: bool


@dataclass(frozen=True, slots=True)
class PPrevious:
    """The character before is of the set (or, with ``start``, there is none)."""

    ranges: Ranges
    start: bool


@dataclass(frozen=True, slots=True)
class PNext:
    """The character behind is of the set (or, with ``end``, the text ends)."""

    ranges: Ranges
    end: bool


@dataclass(frozen=True, slots=True)
class PNot:
    """The pattern does not match here."""

    item: Pattern


Pattern: TypeAlias = PChar | PSeq | PAlt | PRepeat | PPrevious | PNext | PNot

_NEWLINE: Final[Ranges] = ((10, 10),)
_ANY: Final[Ranges] = ((0, MAX_CODE_POINT),)
_ONE_CHAR: Final = {
    _constants.LITERAL,
    _constants.NOT_LITERAL,
    _constants.IN,
    _constants.ANY,
    _constants.CATEGORY,
}


@lru_cache(maxsize=1)
def _every_character() -> str:
    return "".join(map(chr, range(MAX_CODE_POINT + 1)))


@lru_cache(maxsize=4096)
def _one_char_ranges(node: str, flags: int, build: Callable[[], Any]) -> Ranges:
    found = _re_api.run_of(build(), flags).finditer(_every_character())
    return tuple((m.start(), m.end() - 1) for m in found)


class _Node:
    """Makes one operation of a parsed pattern a key of a cache."""

    def __init__(self, op: Any, value: Any) -> None:
        self.key = repr((op, value))
        self.node = (op, value)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and other.key == self.key

    def __call__(self) -> Any:
        return self.node


def _set_of(op: Any, value: Any, flags: int) -> Ranges:
    """The characters one operation takes: asked of ``re`` itself, so that it cannot differ."""
    if op is _constants.LITERAL and not flags & re.IGNORECASE:
        return ((value, value),)
    if op is _constants.ANY:
        return _ANY if flags & re.DOTALL else ir.invert_ranges(_NEWLINE)
    node = _Node(op, value)
    kept = flags & (re.IGNORECASE | re.ASCII | re.UNICODE)
    return _one_char_ranges(node.key, kept, node)


def parse_pattern(pattern: str) -> Pattern:
    """Reads a pattern as ``re`` does.

    Raises:
        UnsupportedError: for a construct that is not followed here.
        PatternError: where ``re`` refuses the pattern.
    """
    parsed = _re_api.parse(f"(?:{pattern})")
    return _sequence(list(parsed), parsed.state.flags)


def _sequence(nodes: Sequence[Any], flags: int, tail: bool = False) -> Pattern:
    """A sequence; with ``tail`` it ends an assertion, where looking at text and taking it are the same."""
    last = len(nodes) - 1
    items = tuple(
        _convert(op, value, flags, tail and i == last) for i, (op, value) in enumerate(nodes)
    )
    return items[0] if len(items) == 1 else PSeq(items)


def _convert(op: Any, value: Any, flags: int, tail: bool = False) -> Pattern:
    c = _constants
    if op in _ONE_CHAR:
        return PChar(_set_of(op, value, flags))
    if op is c.BRANCH:
        return PAlt(tuple(_sequence(list(branch), flags, tail) for branch in value[1]))
    if op is c.SUBPATTERN:
        _, add, drop, body = value
        if add & (re.ASCII | re.UNICODE | re.LOCALE):
            flags &= ~(re.ASCII | re.UNICODE | re.LOCALE)
        return _sequence(list(body), (flags | add) & ~drop, tail)
    if op in (c.MAX_REPEAT, c.MIN_REPEAT):
        low, high, body = value
        item = _sequence(list(body), flags)
        return PRepeat(item, low, None if high is c.MAXREPEAT else int(high), op is c.MAX_REPEAT)
    if op is c.AT:
        return _anchor(value, flags, tail)
    if op in (c.ASSERT, c.ASSERT_NOT):
        direction, body = value
        if direction < 0:
            return _behind(list(body), flags, op is c.ASSERT_NOT)
        inner = _sequence(list(body), flags, tail=op is c.ASSERT_NOT or tail)
        if op is c.ASSERT_NOT:
            return _negated(inner)
        return inner if tail else _ahead(inner)
    names = {
        c.GROUPREF: "a backreference",
        c.GROUPREF_EXISTS: "a conditional group",
        c.ATOMIC_GROUP: "an atomic group",
        c.POSSESSIVE_REPEAT: "a possessive repetition",
    }
    raise UnsupportedError(names.get(op, str(op).lower()))


def _anchor(where: Any, flags: int, tail: bool) -> Pattern:
    c = _constants
    if where in (c.AT_BEGINNING, c.AT_BEGINNING_STRING):
        lines = where is c.AT_BEGINNING and flags & re.MULTILINE
        return PPrevious(_NEWLINE if lines else (), start=True)
    if where is c.AT_END_STRING:
        return PNext((), end=True)
    if where is c.AT_END:
        if flags & re.MULTILINE:
            return PNext(_NEWLINE, end=True)
        if tail:
            return PAlt((PNext((), end=True), PSeq((PChar(_NEWLINE), PNext((), end=True)))))
        more = PSeq((PChar(_NEWLINE), PChar(_ANY)))
        return PNot(PAlt((PChar(ir.invert_ranges(_NEWLINE)), more)))
    if where in (c.AT_BOUNDARY, c.AT_NON_BOUNDARY):
        word = _set_of(c.IN, [(c.CATEGORY, c.CATEGORY_WORD)], flags)
        other = ir.invert_ranges(word)
        if where is c.AT_NON_BOUNDARY:
            sides = ((word, word), (other, other))
        else:
            sides = ((word, other), (other, word))
        return PAlt(
            tuple(
                PSeq((PPrevious(p, start=p is other), PNext(n, end=n is other))) for p, n in sides
            )
        )
    raise UnsupportedError(str(where).lower())


def _behind(nodes: Sequence[Any], flags: int, negated: bool) -> Pattern:
    inner = _single(_sequence(nodes, flags))
    if inner is None:
        raise UnsupportedError("a look-behind at more than one character")
    return PPrevious(ir.invert_ranges(inner) if negated else inner, start=negated)


def _single(pattern: Pattern) -> Ranges | None:
    if isinstance(pattern, PChar):
        return pattern.ranges
    if isinstance(pattern, PAlt):
        parts = [_single(item) for item in pattern.items]
        if None in parts:
            return None
        return ir.normalize_ranges(pair for part in parts for pair in part or ())
    return None


def _negated(pattern: Pattern) -> Pattern:
    """A pattern that does not match here: said of the characters around, where these decide it."""
    match pattern:
        case PChar(ranges):
            return PNext(ir.invert_ranges(ranges), end=True)
        case PNext(ranges, end):
            return PNext(ir.invert_ranges(ranges), end=not end)
        case PPrevious(ranges, start):
            return PPrevious(ir.invert_ranges(ranges), start=not start)
        case PAlt(items) if all(map(_is_near, items)):
            return PSeq(tuple(map(_negated, items)))
        case PSeq(items) if _is_near(pattern):
            return PAlt(tuple(map(_negated, items)))
    return PNot(pattern)


def _is_near(pattern: Pattern) -> bool:
    """Whether a pattern asks for the characters on both sides of a place alone."""
    match pattern:
        case PChar() | PNext() | PPrevious():
            return True
        case PAlt(items):
            return all(map(_is_near, items))
        case PSeq(items):
            *first, last = items or (PAlt(()),)
            return _is_near(last) and all(_is_near(x) and not _takes(x) for x in first)
    return False


def _takes(pattern: Pattern) -> bool:
    """Whether a pattern of nearby characters can take one."""
    return isinstance(pattern, PChar) or any(map(_takes, parts(pattern)))


def _ahead(pattern: Pattern) -> Pattern:
    match pattern:
        case PChar(ranges):
            return PNext(ranges, end=False)
        case PAlt(items):
            return PAlt(tuple(map(_ahead, items)))
        case PSeq(items) if all(isinstance(x, PNext | PPrevious | PNot) for x in items[:-1]):
            return PSeq((*items[:-1], _ahead(items[-1]))) if items else pattern
        case PNext() | PPrevious() | PNot():
            return pattern
    raise UnsupportedError("a look-ahead at more than one character")


def parts(pattern: Pattern) -> tuple[Pattern, ...]:
    """What a pattern is made of."""
    match pattern:
        case PSeq(items) | PAlt(items):
            return items
        case PRepeat(item) | PNot(item):
            return (item,)
    return ()


def character_sets(pattern: Pattern) -> set[Ranges]:
    """Every set of characters the pattern distinguishes."""
    found: set[Ranges] = set()
    seen: set[int] = set()
    todo = [pattern]
    while todo:  # parts that are shared are looked at once
        node = todo.pop()
        if id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, PChar | PPrevious | PNext):
                found.add(node.ranges)
            todo += parts(node)
    return found


def min_width(pattern: Pattern, known: dict[int, int] | None = None) -> int:
    """The fewest characters that match."""
    known = {} if known is None else known
    if id(pattern) not in known:
        widths = [min_width(part, known) for part in parts(pattern)]
        match pattern:
            case PChar():
                width = 1
            case PSeq():
                width = sum(widths)
            case PAlt():
                width = min(widths, default=0)
            case PRepeat():
                width = pattern.min * widths[0]
            case _:
                width = 0
        known[id(pattern)] = width
    return known[id(pattern)]


class Alphabet:
    """Classes of code points that no pattern tells apart."""

    def __init__(self, sets: Iterable[Ranges]) -> None:
        events: list[tuple[int, int]] = [(0, 0), (MAX_CODE_POINT + 1, 0)]
        known = list(dict.fromkeys(sets))
        for i, ranges in enumerate(known):
            for lo, hi in ranges:
                events += ((lo, 1 << i), (hi + 1, 1 << i))
        events.sort()
        by_signature: dict[int, list[tuple[int, int]]] = {}
        at = signature = 0
        for place, bit in events:
            if place > at:
                by_signature.setdefault(signature, []).append((at, place - 1))
                at = place
            signature ^= bit
        self.classes: list[Ranges] = [ir.normalize_ranges(x) for x in by_signature.values()]
        self.end: Mask = 1 << len(self.classes)
        self.all: Mask = 2 * self.end - 1
        self._masks: dict[Ranges, Mask] = {}
        self._exprs: dict[Mask, Expr] = {}
        for i, ranges in enumerate(known):
            signatures = enumerate(by_signature)
            self._masks[ranges] = sum(1 << c for c, s in signatures if s >> i & 1)

    def mask(self, ranges: Ranges) -> Mask:
        """The classes that make up a set given to the constructor."""
        return self._masks[ranges]

    def class_of(self, code_point: int) -> int:
        """The number of a character's class."""
        return next(
            i
            for i, ranges in enumerate(self.classes)
            if any(lo <= code_point <= hi for lo, hi in ranges)
        )

    def members(self, mask: Mask) -> list[int]:
        """The classes of a mask, the end of the text left out."""
        mask &= ~self.end
        out = []
        while mask:
            low = mask & -mask
            out.append(low.bit_length() - 1)
            mask ^= low
        return out

    def expr(self, mask: Mask) -> Expr:
        """One character of these classes; made once, as most automata have the same few."""
        known = self._exprs.get(mask)
        if known is None:
            pairs = (pair for c in self.members(mask) for pair in self.classes[c])
            known = self._exprs[mask] = ir.chars(pairs)
        return known

    def told_apart(self, among: Mask, by: Iterable[Mask]) -> list[list[int]]:
        """The classes of a mask, those together that are in the same of some other masks."""
        blocks = [among & ~self.end]
        for mask in by:
            blocks = [part for block in blocks for part in (block & mask, block & ~mask) if part]
        return [self.members(block) for block in blocks if block]
