"""JSON strings and the blanks between tokens, as byte expressions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from operator import is_
from typing import Final

from grammars.ir import (
    ANY_CHAR,
    Alt,
    And,
    ByteSet,
    Chars,
    Expr,
    Literal,
    Machine,
    Not,
    Repeat,
    Seq,
    Substrings,
    alt,
    both,
    chars,
    intersect_ranges,
    repeat,
    seq,
    text,
)
from grammars.json_characters import ANY_SPELLED, RAW, SPECIAL

_in_json: Final = json.JSONEncoder(ensure_ascii=False).encode  # made once, unlike by json.dumps

INDENT: Final = 64
"""Blanks that may follow a line break: enough for ``indent=2`` down to 32 levels."""

_QUOTE: Final = Literal(b'"')
_HEX: Final = ByteSet(((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)))
_D: Final = ByteSet(((0x44, 0x44), (0x64, 0x64)))


def _escape() -> Expr:
    """Escapes of one code point; halves of surrogate pairs only as pairs."""
    upper = ByteSet(((0x38, 0x39), (0x41, 0x42), (0x61, 0x62)))
    lower = ByteSet(((0x43, 0x46), (0x63, 0x66)))
    not_d = ByteSet(((0x30, 0x39), (0x41, 0x43), (0x45, 0x46), (0x61, 0x63), (0x65, 0x66)))
    plane = alt(seq(not_d, repeat(_HEX, 3, 3)), seq(_D, ByteSet(((0x30, 0x37),)), _HEX, _HEX))
    pair = seq(_D, upper, _HEX, _HEX, Literal(b"\\u"), _D, lower, _HEX, _HEX)
    short = ByteSet(tuple((b, b) for b in sorted(b'"/\\bfnrt')))
    return seq(Literal(b"\\"), alt(short, seq(Literal(b"u"), alt(plane, pair))))


CHARACTER: Final = alt(chars(RAW), _escape())
"""One code point inside a JSON string, in any spelling."""

STRING: Final = seq(_QUOTE, repeat(CHARACTER), _QUOTE)
"""Any JSON string (without lone surrogates, which are no characters)."""


def string_of_length(low: int, high: int | None) -> Expr:
    """Strings of ``low`` to ``high`` code points, in any spelling."""
    return seq(_QUOTE, repeat(CHARACTER, low, high), _QUOTE)


@lru_cache(1_024)
def quoted(content: Expr) -> Expr:
    """Strings whose value an expression over code points describes, in their usual spelling."""
    return seq(_QUOTE, spelled(content), _QUOTE)


def string_literal(value: str) -> Expr:
    """One string as ``json.dumps(value, ensure_ascii=False)`` writes it."""
    try:
        return Literal(_in_json(value).encode())
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, but an escape
        return Literal(json.dumps(value).encode())


def spelled(expr: Expr) -> Expr:
    """The usual spelling inside quotes of every text of an expression over code points.

    Spelling maps code points one to one, so it commutes with intersection; a complement is taken
    among the spellings.  What stands several times in the expression does so in the spelling, and
    what is spelled as it is stays the same object: so the compiler reads it once.
    """
    return _Speller().of(expr)


class _Speller:
    """Spells the parts of one expression, each once."""

    def __init__(self) -> None:
        self._known: dict[int, Expr] = {}  # by identity: the expression keeps its parts alive

    def of(self, expr: Expr) -> Expr:
        """The spelling of a part."""
        known = self._known.get(id(expr))
        if known is None:
            known = self._known[id(expr)] = self._spelled(expr)
        return known

    def _spelled(self, expr: Expr) -> Expr:
        match expr:
            case Literal(data):
                content = _literal_content(data)
                return expr if content == data else Literal(content)
            case Chars():
                found = _spelled_class(expr)
                return expr if found == expr else found
            case Seq(items):
                parts = [*map(self.of, items)]
                return expr if _are_same(parts, items) else seq(*parts)
            case Alt(items):
                parts = [*map(self.of, items)]
                return expr if _are_same(parts, items) else alt(*parts)
            case And(items):
                parts = [*map(self.of, items)]
                return expr if _are_same(parts, items) else both(*parts)
            case Not(item):
                return both(repeat(ANY_SPELLED), Not(self.of(item)))
            case Repeat(item, low, high):
                part = self.of(item)
                return expr if part is item else repeat(part, low, high)
            case Machine():
                return spelled_machine(expr)
            case _:
                return expr


@lru_cache(256)
def spelled_machine(machine: Machine) -> Machine:
    """The usual spelling inside quotes of every text of an automaton."""
    if isinstance(machine, Substrings):
        return Substrings(machine.text, machine.unit, machine.fold, spelled=True)
    if not any(
        intersect_ranges(((lo, hi),), SPECIAL) for row in machine.edges for lo, hi, _ in row
    ):
        return machine
    edges = list(machine.edges)
    accept = list(machine.accept)
    inner: dict[tuple[tuple[bytes, int], ...], int] = {}

    def ways(rests: Iterable[tuple[bytes, int]]) -> list[tuple[int, int, int]]:
        """Edges that read texts, each before its target; no text begins another one."""
        by_first: dict[int, list[tuple[bytes, int]]] = {}
        for rest, target in rests:
            by_first.setdefault(rest[0], []).append((rest[1:], target))
        out: list[tuple[int, int, int]] = []
        for byte, behind in by_first.items():
            key = tuple(sorted(behind))
            if key[0][0] == b"":
                out.append((byte, byte, key[0][1]))
                continue
            if key not in inner:
                inner[key] = len(edges)
                edges.append(())
                accept.append(False)
                edges[inner[key]] = tuple(sorted(ways(key)))
            out.append((byte, byte, inner[key]))
        return out

    for q, row in enumerate(machine.edges):
        plain: list[tuple[int, int, int]] = []
        escaped: list[tuple[bytes, int]] = []
        for low, high, target in row:
            plain += [(a, b, target) for a, b in intersect_ranges(((low, high),), RAW)]
            for a, b in intersect_ranges(((low, high),), SPECIAL):
                escaped += [(json.dumps(chr(c))[1:-1].encode(), target) for c in range(a, b + 1)]
        edges[q] = tuple(sorted([*plain, *ways(escaped)]))
    return Machine(tuple(edges), tuple(accept))


def _are_same(parts: list[Expr], items: tuple[Expr, ...]) -> bool:
    return all(map(is_, parts, items))


@lru_cache(1_024)
def _spelled_class(expr: Chars) -> Expr:
    ranges = expr.ranges
    if ranges == ANY_CHAR.ranges:  # type: ignore[union-attr]
        return ANY_SPELLED
    special = intersect_ranges(ranges, SPECIAL)
    if not special:
        return expr
    escaped = [text(json.dumps(chr(c))[1:-1]) for a, b in special for c in range(a, b + 1)]
    return alt(chars(intersect_ranges(ranges, RAW)), *escaped)


def _literal_content(data: bytes) -> bytes:
    return _in_json(data.decode())[1:-1].encode()


def string_content(value: str) -> Expr:
    """A string's usual spelling without its quotes."""
    return Literal(json.dumps(value, ensure_ascii=False)[1:-1].encode())


NEW_LINE: Final = seq(Literal(b"\n"), repeat(Literal(b" "), 0, INDENT))
"""A line break and its indentation.  Bounded, so that a model cannot go on writing blanks."""
