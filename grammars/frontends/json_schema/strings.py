"""Strings: assertions about them as expressions, and the same decided for one text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from json.encoder import encode_basestring  # what dumps(..., ensure_ascii=False) makes of a text
from operator import itemgetter
from typing import Final, TypeAlias

from grammars.compiling.automata import Dfa, expand
from grammars.compiling.compiler import compile_ir, regular_dfa
from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema.assertions import Shape, Strings
from grammars.frontends.json_schema.formats import format_expr
from grammars.frontends.json_schema.text import quoted
from grammars.frontends.regex.ecma import ecma_search_to_expr
from grammars.ir import (
    ANY_CHAR,
    Alt,
    And,
    ByteSet,
    Chars,
    Expr,
    Literal,
    Not,
    Repeat,
    Seq,
    alt,
    both,
    repeat,
    single_rule,
    text,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.recognizer import Recognizer

ANY_TEXT = repeat(ANY_CHAR)
"""Any text, as an expression over code points."""


def content(strings: Strings, excluded: Iterable[str]) -> Expr:
    """The strings that meet the assertions, as an expression over code points.

    Raises:
        GrammarError: for a pattern that cannot be read, with its place.
    """
    parts = [shape_expr(shape) for shape in strings.shapes]
    extents = [_extent(part) for part in parts]
    low = strings.low if strings.low > max((e[0] for e in extents), default=0) else 0
    longest = min((e[1] for e in extents if e[1] is not None), default=None)
    high = strings.high
    if high is not None and longest is not None and longest <= high:
        high = None  # the shapes imply it
    if low or high is not None:
        parts = [shape_expr(shape, counted=True) for shape in strings.shapes]
        parts.append(repeat(ANY_CHAR, low, high))
    words = [text(word) for word in sorted(excluded)]
    if words:
        parts.append(Not(alt(*words)))
    return both(*parts) if any(not isinstance(p, Not) for p in parts) else both(ANY_TEXT, *parts)


@lru_cache(4_096)
def _extent(expr: Expr) -> tuple[int, int | None]:
    """Bounds on the length, in code points, of what an expression over code points describes."""
    match expr:
        case Literal(data):
            length = len(data.decode())
            return length, length
        case Chars():
            return 1, 1
        case ByteSet():  # all of a character or a part of it
            return 0, 1
        case Seq(items):
            parts = [_extent(item) for item in items]
            tops = [top for _, top in parts if top is not None]
            return sum(low for low, _ in parts), sum(tops) if len(tops) == len(parts) else None
        case Alt(items):
            parts = [_extent(item) for item in items]
            tops = [top for _, top in parts if top is not None]
            return min(low for low, _ in parts), max(tops) if len(tops) == len(parts) else None
        case And(items):
            parts = [_extent(item) for item in items]
            tops = [top for _, top in parts if top is not None]
            return max(low for low, _ in parts), min(tops, default=None)
        case Repeat(item, least, most):
            low, top = _extent(item)
            return low * least, None if top is None or most is None else top * most
    return 0, None


_Lengths: TypeAlias = tuple[int, int | None]
"""All lengths between two numbers, or from one on."""


@lru_cache(4_096)
def _lengths(expr: Expr) -> _Lengths | None:
    """The lengths that texts of an expression have, in code points, where they are an interval."""
    match expr:
        case Literal(data):
            length = len(data.decode())
            return length, length
        case Chars():
            return 1, 1
        case Seq(items):
            parts = [_lengths(item) for item in items]
            known = [part for part in parts if part is not None]
            tops = [top for _, top in known if top is not None]
            if len(known) < len(parts):
                return None
            return sum(low for low, _ in known), sum(tops) if len(tops) == len(parts) else None
        case Alt(items):
            parts = [_lengths(item) for item in items]
            found = [part for part in parts if part is not None]
            return _united(sorted(found, key=itemgetter(0))) if len(found) == len(parts) else None
        case Repeat(item, least, most):
            one = _lengths(item)
            return None if one is None else _repeated(one, least, most)
    return None


def _united(parts: list[_Lengths]) -> _Lengths | None:
    """One interval of several that are sorted, if there is no gap."""
    low, high = parts[0]
    for start, end in parts[1:]:
        if high is not None:
            if start > high + 1:
                return None
            high = None if end is None else max(high, end)
    return low, high


def _repeated(one: _Lengths, least: int, most: int | None) -> _Lengths | None:
    """The lengths of repetitions: between k and k + 1 of them gaps get smaller as k grows."""
    low, high = one
    longest = None if high is None else least * high
    bounded = longest is not None or least == 0
    if least != most and bounded and (least + 1) * low > (longest or 0) + 1:
        return None
    if high == 0:
        return 0, 0
    return least * low, None if high is None or most is None else most * high


def _meet(a: _Lengths, b: _Lengths) -> bool:
    return (a[1] is None or b[0] <= a[1]) and (b[1] is None or a[0] <= b[1])


def shape_expr(shape: Shape, *, counted: bool = False, loose: bool = False) -> Expr:
    """A pattern or format, or its opposite, as an expression over code points.

    Args:
        shape: what is written.
        counted: long parts may be counted.
        loose: whatever matches in some dialect.

    Dialects of patterns disagree on whether ``.`` matches a carriage return and two other line
    ends.  Texts that match in some only are left out on both sides, so that every validator agrees.
    """
    try:
        expr = _shape(shape.kind, shape.text, loose or shape.negated, counted and not shape.negated)
    except GrammarError as error:
        column = f", column {error.column}" if error.column else ""
        raise GrammarError(
            f"in the {shape.kind} {shape.text!r}{column}: {error.message}", pointer=shape.place
        ) from None
    return both(ANY_TEXT, Not(expr)) if shape.negated else expr


@lru_cache(4_096)
def _shape(kind: str, text: str | Expr, loose: bool, counted: bool) -> Expr:
    if not isinstance(text, str):
        return text
    if kind == "pattern":
        return ecma_search_to_expr(text, loose=loose)
    expr = format_expr(
        text, idna=kind == "format", zone=kind != "format of draft 3", counted=counted
    )
    assert expr is not None, "only known formats are asserted"
    return expr


_LITTLE: Final = Limits(max_dfa_states=500)
"""For questions that are only asked to save work."""


@lru_cache(4_096)
def plainly_possible(strings: Strings) -> bool:
    """``False`` only if no string meets the assertions; patterns too large to tell are let pass."""
    if len(strings.shapes) < 2 and not (strings.shapes and (strings.low or strings.high)):
        return True
    if len(strings.shapes) == 1 and not strings.shapes[0].negated:
        lengths = _lengths(shape_expr(strings.shapes[0]))
        if lengths is not None and _meet(lengths, (strings.low, strings.high)):
            return True
    try:
        return not is_empty(content(strings, ()), _LITTLE)
    except LimitExceeded:
        return True


@lru_cache(4_096)
def listed_strings(strings: Strings) -> tuple[str, ...]:
    """The strings that meet the assertions, if a pattern singles out a few; else none."""
    if not any(shape.kind == "pattern" and not shape.negated for shape in strings.shapes):
        return ()
    try:
        return few_words(content(strings, ()), _LITTLE) or ()
    except LimitExceeded:
        return ()


@lru_cache(1_024)
def _finder(expr: Expr) -> Recognizer:
    # in quotes, as in a grammar: so the compiler keeps parts that repeat as parts
    return Recognizer(compile_ir(single_rule(quoted(expr)), DEFAULT_LIMITS), DEFAULT_LIMITS)


def has_shape(shape: Shape, value: str) -> bool:
    """Whether a text has a pattern or format (``negated`` aside)."""
    if shape.negated:
        shape = Shape(shape.kind, shape.text, shape.place)
    return is_in(shape_expr(shape), value)


def is_in(expr: Expr, value: str) -> bool:
    """Whether a text is described by an expression over code points."""
    try:
        data = encode_basestring(value).encode()
    except UnicodeEncodeError:
        return False
    recognizer = _finder(expr)
    state, used = recognizer.run(data)
    return used == len(data) and recognizer.accepting[state]


@lru_cache(1_024)
def few_words(expr: Expr, limits: Limits, most: int = 64) -> tuple[str, ...] | None:
    """All texts that a regular expression describes, if there are few."""
    dfa = regular_dfa(single_rule(expr), expr, limits)
    if len(dfa) > most * 64:
        return None
    words: list[bytes] = []
    stack = [(dfa.start, b"")]
    while stack:
        state, word = stack.pop()
        if dfa.accept[state]:
            words.append(word)
        if len(word) > len(dfa) or len(words) > most or len(stack) > most:
            return None  # a loop, or too many
        for byte, target in _bytes_from(dfa, state):
            stack.append((target, word + bytes([byte])))
    return tuple(sorted(word.decode() for word in words))


def _bytes_from(dfa: Dfa, state: int) -> Iterator[tuple[int, int]]:
    for mask, target, _ in dfa.edges[state]:
        for byte in range(256):
            if mask >> byte & 1:
                yield byte, target


@lru_cache(1_024)
def automaton(expr: Expr, limits: Limits) -> Dfa:
    """The automaton of a regular expression, without counters."""
    return expand(regular_dfa(single_rule(expr), expr, limits), limits.max_dfa_states)


@lru_cache(4_096)
def is_empty(expr: Expr, limits: Limits) -> bool:
    """Whether no text is described by a regular expression."""
    return regular_dfa(single_rule(expr), expr, limits).is_empty()
