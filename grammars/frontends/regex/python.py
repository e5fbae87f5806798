r"""Regular expressions as Python's ``re`` reads them, with ``re.fullmatch`` semantics on ``str``.

Parsing is ``re``'s own, and so are classes: whatever ``\w``, ``[^k]`` or ``(?i:ſ)`` match is found
by asking ``re`` about every code point once.  The order in which ``re`` tries alternatives does not
matter for a full match, except inside atomic groups and possessive repetitions, which become
conditions on what may follow.

Properties (``\p{Greek}``), which ``re`` has none of, are read as well, see :mod:`.placeholders`.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from grammars.compiling.analysis import check_count
from grammars.errors import GrammarError
from grammars.frontends import _re_api
from grammars.frontends.advice import pattern_advice
from grammars.frontends.nesting import deepest_bracket
from grammars.frontends.regex.lookaround import solve
from grammars.frontends.regex.nodes import (
    ANY_TEXT,
    EMPTY,
    NEVER,
    Atomic,
    Cat,
    Edge,
    Node,
    Or,
    Plain,
    Rep,
    Side,
    UnsolvableError,
    as_grammar_error,
    cat,
    locate,
    look,
    rep,
    union,
)
from grammars.frontends.regex.placeholders import Rewritten, rewritten
from grammars.ir import (
    ANY_CHAR,
    MAX_CODE_POINT,
    Expr,
    GrammarIR,
    Nothing,
    Ranges,
    Rule,
    Span,
    chars,
    invert_ranges,
    normalize_ranges,
    text,
)
from grammars.limits import DEFAULT_LIMITS, Limits

_Op: TypeAlias = tuple[Any, Any]

_TYPE_FLAGS: Final = int(re.ASCII | re.UNICODE | re.LOCALE)
_EMPTY_HAS_NON_BOUNDARY: Final = re.fullmatch(r"\B", "") is not None  # differs between versions
_NON_SURROGATES: Final[Ranges] = ((0, 0xD7FF), (0xE000, MAX_CODE_POINT))

_UNSUPPORTED: Final = {
    "GROUPREF": (
        "backreference",
        "what a group matched cannot be repeated; write the alternatives out",
    ),
    "GROUPREF_EXISTS": (
        "conditional group",
        "write both cases as alternatives, with and without the group",
    ),
    "ASSERT": ("look-ahead or look-behind", "rewrite the pattern without it"),
}


def regex_to_expr(
    pattern: str, flags: int = 0, *, look_around: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Expr:
    """The texts that ``re.fullmatch(pattern, text, flags)`` matches.

    Args:
        look_around: translate look-ahead and look-behind, for the whole text; by default they are
            refused, because in a part of a larger grammar they would speak about more than this
            pattern's own text.
        limits: ``max_dfa_states`` bounds the automaton of a pattern with look-around.

    Raises:
        GrammarError: for a pattern that ``re`` refuses, or that is not regular (backreferences,
            conditional groups), for properties that are not known, and for atomic groups with a
            repetition whose part may be empty.
        LimitExceeded: for an automaton that is too large.
    """
    try:
        return solve(_Translator(pattern, flags, look_around).translate(), limits.max_dfa_states)
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise _nested_too_deeply(pattern) from None


def regex_search_to_expr(pattern: str, flags: int = 0) -> Expr:
    """The texts in which ``re.search(pattern, text, flags)`` finds something.

    Raises:
        GrammarError: see :func:`regex_to_expr`.
    """
    try:
        node = _Translator(pattern, flags, look_around=True).translate()
        anywhere = Plain(ANY_TEXT)
        return solve(cat([anywhere, node, anywhere]))
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise _nested_too_deeply(pattern) from None


def _nested_too_deeply(pattern: str) -> GrammarError:
    offset, depth = deepest_bracket(pattern)
    line, column = locate(pattern, offset)
    return GrammarError(
        f"the pattern is nested too deeply ({depth:,} levels)", line=line, column=column
    )


def regex_to_ir(pattern: str, limits: Limits = DEFAULT_LIMITS) -> GrammarIR:
    """A grammar of one rule, ``root``, with the texts that ``re.fullmatch`` matches.

    Raises:
        GrammarError: see :func:`regex_to_expr`.
    """
    body = regex_to_expr(pattern, look_around=True, limits=limits)
    notes = (NEVER_MATCHES,) if isinstance(body, Nothing) else ()
    return GrammarIR((Rule("root", body, Span(1, 1)),), "root", notes)


NEVER_MATCHES: Final = (
    "the pattern matches no text: an anchor (^, $, \\b) or a look-around stands where it cannot "
    "hold"
)
"""Why a pattern that can be read is the empty language."""


class _OrderMattersError(Exception):
    """What an atomic group matches depends on the order of its alternatives in a way that shows."""


class _Translator:
    """From ``re``'s parse tree to nodes."""

    def __init__(self, pattern: str, flags: int, look_around: bool) -> None:
        self._look_around = look_around
        self._source: Rewritten = rewritten(pattern)
        try:
            self._tree = _re_api.parse(self._source.text, flags)
        except _re_api.PatternError as error:
            offset = self._source.offset(error.offset or 0)
            line, column = locate(pattern, offset)
            reason = self._source.restored(error.reason)
            raise GrammarError(
                f"not a regular expression: {reason}"
                f"{pattern_advice(error.reason, pattern, offset)} (in {_excerpt(pattern, offset)})",
                line=line,
                column=column,
            ) from None
        self._flags = int(self._tree.state.flags)
        self._offsets: dict[int, int] | None = None

    def translate(self) -> Node:
        return self._sequence(self._tree, self._flags)

    def _sequence(self, ops: Sequence[_Op], flags: int) -> Node:
        return cat([self._op(op, av, flags) for op, av in ops])

    def _op(self, op: Any, av: Any, flags: int) -> Node:
        name = str(op)
        match name:
            case "BRANCH":
                return union([self._sequence(branch, flags) for branch in av[1]])
            case "SUBPATTERN":
                return self._sequence(av[3], _inner_flags(flags, av))
            case "MAX_REPEAT" | "MIN_REPEAT":
                return rep(self._sequence(av[2], flags), *self._counted(av))
        return self._leaf(name, av, flags)

    def _leaf(self, name: str, av: Any, flags: int) -> Node:
        """What is read alike inside an atomic group and outside."""
        match name:
            case "LITERAL" | "NOT_LITERAL" | "IN":
                return Plain(self._character(name, av, flags))
            case "ANY":
                return Plain(ANY_CHAR if flags & re.DOTALL else _NOT_NEWLINE)
            case "AT":
                return _at(str(av), flags)
            case "ASSERT" | "ASSERT_NOT":
                return self._look(name, av, flags)
            case "FAILURE":
                return NEVER
            case "POSSESSIVE_REPEAT":
                return self._possessive(av, flags)
            case "ATOMIC_GROUP":
                return self._atomic(av, flags, self._offset(av))
        raise self._unsupported(name)

    def _counted(self, av: Any) -> tuple[int, int | None]:
        """The bounds of a repetition that a counter can hold."""
        low, high = _bounds(av)
        try:
            check_count(low, high)
        except GrammarError as error:
            wanted = str(low if high is None else high)
            found = (f for f in _BOUNDS.finditer(self._source.text) if wanted in f.groups())
            place = next(found, None)
            line, column = self._locate(place.start() if place else 0)
            error.locate(line=line, column=column)
            raise
        return low, high

    def _look(self, name: str, av: Any, flags: int) -> Node:
        direction, ops = av
        if not self._look_around and len(ops):
            raise self._unsupported("ASSERT", self._offset(av))
        return look(
            self._sequence(ops, flags),
            ahead=direction > 0,
            negative=name == "ASSERT_NOT",
            offset=self._source.offset(self._offset(av)),
        )

    # -- characters -----------------------------------------------------------------------------

    def _character(self, name: str, av: Any, flags: int) -> Expr:
        """What stands for one character; a property does for its characters."""
        source = self._source
        if not source.properties:
            return _character(name, av, flags)
        if name != "IN":
            if av not in source.properties:
                return _character(name, av, flags)
            ranges = self._property(av, flags, in_set=False)
            return chars(invert_ranges(ranges) if name == "NOT_LITERAL" else ranges)
        for op, value in av:
            if str(op) == "RANGE" and not source.properties.keys().isdisjoint(value):
                point = value[0] if value[0] in source.properties else value[1]
                raise self._error("a property cannot be the end of a range", source.place(point))
        mine = [v for op, v in av if str(op) == "LITERAL" and v in source.properties]
        if not mine:
            return _character(name, av, flags)
        rest = [
            (op, v)
            for op, v in av
            if str(op) != "NEGATE" and not (str(op) == "LITERAL" and v in source.properties)
        ]
        several = len(mine) + len(rest) > 1
        pairs = [pair for point in mine for pair in self._property(point, flags, in_set=several)]
        if rest:
            pairs += _class(name, tuple(rest), flags)
        ranges = normalize_ranges(pairs)
        return chars(invert_ranges(ranges) if len(av) > len(rest) + len(mine) else ranges)

    def _property(self, point: int, flags: int, *, in_set: bool) -> Ranges:
        """The characters of the property that a character of the rewritten pattern stands for."""
        ranges = self._source.ranges(
            point,
            ignore_case=bool(flags & re.IGNORECASE),
            ascii_only=bool(flags & re.ASCII),
            in_set=in_set,
        )
        if ranges is None:
            raise self._error(
                f"{self._source.properties[point]!r} is no property that is known: write a general "
                "category such as \\p{L}, a script such as \\p{Greek} or \\p{scx=Greek}, or a "
                "property of characters such as \\p{Alphabetic}",
                self._source.place(point),
            )
        return ranges

    # -- errors ---------------------------------------------------------------------------------

    def _locate(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset in the rewritten pattern."""
        return locate(self._source.original, self._source.offset(offset))

    def _error(self, message: str, offset: int) -> GrammarError:
        line, column = self._locate(offset)
        return GrammarError(message, line=line, column=column)

    def _unsupported(self, name: str, offset: int | None = None) -> GrammarError:
        what, advice = _UNSUPPORTED.get(name, (name, "rewrite the pattern without it"))
        if offset is None:
            offset = next(_places(self._source.text, self._flags, name), 0)
        excerpt = _excerpt(self._source.original, self._source.offset(offset))
        return self._error(f"{what} {excerpt} is not supported: {advice}", offset)

    def _offset(self, av: Any) -> int:
        """Where a look, an atomic group or a possessive repetition is written (its sign, that is)."""
        if self._offsets is None:
            self._offsets = {}
            looks, atomic = (
                _places(self._source.text, self._flags, kind) for kind in ("ASSERT", "ATOMIC")
            )
            _find_offsets(self._tree, looks, atomic, self._offsets)
        return self._offsets.get(id(av), 0)

    # -- atomic groups --------------------------------------------------------------------------

    def _atomic(self, ops: Sequence[_Op], flags: int, offset: int) -> Node:
        """The first match in ``re``'s order, whatever follows.

        Where the order shows only in what must not follow, it is a negative look-ahead: cheaper than
        an automaton, and counted repetitions stay counted.
        """
        try:
            return self._unordered(ops, flags)
        except _OrderMattersError:
            return Atomic(self._ordered(ops, flags), self._source.offset(offset))

    def _possessive(self, av: Any, flags: int) -> Node:
        """A possessive repetition; ``re`` never goes back into one of its copies."""
        try:
            return self._unordered([(_re_api.constants.POSSESSIVE_REPEAT, av)], flags)
        except _OrderMattersError:
            offset = self._offset(av)
            item = self._atomic(av[2], flags, offset)
            return Atomic(Rep(item, *self._counted(av)), self._source.offset(offset))

    def _ordered(self, ops: Sequence[_Op], flags: int) -> Node:
        """The same nodes with all alternatives in ``re``'s order."""
        return Cat(tuple(self._ordered_op(str(op), av, flags) for op, av in ops))

    def _ordered_op(self, name: str, av: Any, flags: int) -> Node:
        match name:
            case "BRANCH":
                return Or(tuple(self._ordered(branch, flags) for branch in av[1]))
            case "SUBPATTERN":
                return self._ordered(av[3], _inner_flags(flags, av))
            case "MAX_REPEAT" | "MIN_REPEAT":
                inner = self._ordered(av[2], flags)
                return Rep(inner, *self._counted(av), lazy=name == "MIN_REPEAT")
        return self._leaf(name, av, flags)

    def _unordered(self, ops: Sequence[_Op], flags: int) -> Node:
        """The first match, said without order.

        Parts that always match texts of one length have one match at most, so the order matters only
        for what follows them.

        Raises:
            _OrderMattersError: where it cannot be said.
        """
        ops = list(ops)
        if not ops:
            return EMPTY
        if not _has_one_width(ops[:-1]):
            raise _OrderMattersError
        return cat([self._sequence(ops[:-1], flags), self._unordered_last(ops[-1], flags)])

    def _unordered_last(self, last: _Op, flags: int) -> Node:
        op, av = last
        if _has_one_width([last]):
            greedy = _re_api.constants.MAX_REPEAT if str(op) == "POSSESSIVE_REPEAT" else op
            return self._op(greedy, av, flags)
        match str(op):
            case "SUBPATTERN":
                return self._unordered(av[3], _inner_flags(flags, av))
            case "ATOMIC_GROUP":
                return self._unordered(av, flags)
            case "BRANCH":
                parts: list[Node] = []
                refused: list[Node] = []
                for branch in av[1]:
                    parts.append(cat([*refused, self._unordered(branch, flags)]))
                    refused.append(self._not_ahead(self._sequence(branch, flags)))
                return union(parts)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high = self._counted(av)
                if not _has_one_width(av[2]) or av[2].getwidth()[0] == 0:
                    raise _OrderMattersError
                item = self._sequence(av[2], flags)
                if str(op) == "MIN_REPEAT" or low == high:
                    return rep(item, low, low)
                if high is None:
                    return cat([rep(item, low, None), self._not_ahead(item)])
                fewer = cat([rep(item, low, high - 1), self._not_ahead(item)])
                return union([fewer, rep(item, high, high)])
        raise _OrderMattersError

    def _not_ahead(self, item: Node) -> Node:
        return look(item, ahead=True, negative=True, offset=0)


def _has_one_width(ops: Sequence[_Op]) -> bool:
    """Whether all texts of some operations have the same length."""
    low, high = _re_api.tree_of(ops).getwidth()
    return bool(low == high)


def _bounds(av: Any) -> tuple[int, int | None]:
    low, high = int(av[0]), int(av[1])
    return low, None if high >= _re_api.MAX_REPEAT else high


def _inner_flags(flags: int, av: Any) -> int:
    added, removed = int(av[1]), int(av[2])
    if added & _TYPE_FLAGS:
        flags &= ~_TYPE_FLAGS
    return (flags | added) & ~removed


# -- places ----------------------------------------------------------------------------------------

_BOUNDS: Final = re.compile(r"\{0*(\d*),?0*(\d*)\}")
_TOKEN: Final = re.compile(
    r"(?P<GROUPREF>\\[1-9]\d?|\(\?P=)|\\.|(?P<CLASS>\[\^?\]?(?:\\.|[^\]\\])*\]?)"
    r"|(?P<NOTE>\(\?\#[^)]*\)?)|(?P<ASSERT>\(\?<?[=!])|(?P<GROUPREF_EXISTS>\(\?\()"
    r"|(?P<ATOMIC>\(\?>|(?:[*+?]|\{(?:\d+,?\d*|,\d*)\})\+)|(?P<COMMENT>\#[^\n]*)|.",
    re.DOTALL,
)


def _places(pattern: str, flags: int, kind: str) -> Iterator[int]:
    """Offsets of a construct, in order."""
    at = 0
    while found := _TOKEN.match(pattern, at):
        at = found.end()
        if found.lastgroup == "COMMENT" and not flags & re.VERBOSE:
            at = found.start() + 1
        elif found.lastgroup == kind:
            yield found.start()


def _find_offsets(
    ops: Sequence[_Op], looks: Iterator[int], atomic: Iterator[int], out: dict[int, int]
) -> None:
    """Assigns the places of looks and atomic groups, which come in order, to their arguments."""
    for op, av in ops:
        match str(op):
            case "SUBPATTERN":
                _find_offsets(av[3], looks, atomic, out)
            case "BRANCH":
                for branch in av[1]:
                    _find_offsets(branch, looks, atomic, out)
            case "MAX_REPEAT" | "MIN_REPEAT":
                _find_offsets(av[2], looks, atomic, out)
            case "POSSESSIVE_REPEAT":
                _find_offsets(av[2], looks, atomic, out)
                out[id(av)] = next(atomic, 0)
            case "ASSERT" | "ASSERT_NOT":
                out[id(av)] = next(looks, 0)
                _find_offsets(av[1], looks, atomic, out)
            case "ATOMIC_GROUP":
                out[id(av)] = next(atomic, 0)
                _find_offsets(av, looks, atomic, out)
            case "FAILURE":  # (?!)
                next(looks, 0)


def _excerpt(pattern: str, offset: int) -> str:
    """The text at an offset, quoted and shortened."""
    part = pattern[offset : offset + 20]
    return repr(part + ("..." if len(pattern) > offset + 20 else "")) if part else repr(pattern)


# -- positions -------------------------------------------------------------------------------------


def _at(name: str, flags: int) -> Node:
    free = Side(((0, MAX_CODE_POINT),), nothing=True, last_newline=True)
    newline = ((10, 10),)
    multiline = bool(flags & re.MULTILINE)
    match name:
        case "AT_BEGINNING":
            return Edge(((Side(newline if multiline else (), nothing=True), free),))
        case "AT_BEGINNING_STRING":
            return Edge(((Side((), nothing=True), free),))
        case "AT_END":
            right = Side(newline if multiline else (), nothing=True, last_newline=True)
            return Edge(((free, right),))
        case "AT_END_STRING":
            return Edge(((free, Side((), nothing=True)),))
    word = _category("CATEGORY_WORD", bool(flags & re.ASCII))
    inside, outside = Side(word), Side(invert_ranges(word))
    at_end = Side(outside.ranges, nothing=True)
    if name == "AT_BOUNDARY":
        return Edge(((inside, at_end), (at_end, inside)))
    pairs = [(inside, inside), (outside, at_end), (at_end, outside)]
    if _EMPTY_HAS_NON_BOUNDARY:
        pairs.append((at_end, at_end))
    return Edge(tuple(pairs))


# -- characters ------------------------------------------------------------------------------------

_NOT_NEWLINE: Final = chars(invert_ranges(((10, 10),)))


def _character(name: str, av: Any, flags: int) -> Expr:
    if name == "LITERAL" and not flags & re.IGNORECASE:
        return text(chr(av))
    return chars(_class(name, tuple(av) if name == "IN" else av, flags))


@lru_cache(maxsize=1024)
def _class(name: str, av: Any, flags: int) -> Ranges:
    """The code points that a literal, a negated literal or a set matches."""
    kind = int(re.ASCII if flags & re.ASCII else re.UNICODE)
    if flags & re.IGNORECASE:
        return _probe(name, av, kind | int(re.IGNORECASE))
    if name == "NOT_LITERAL":
        return invert_ranges(((av, av),))
    pairs: list[tuple[int, int]] = []
    negative = False
    for op, value in av:
        match str(op):
            case "NEGATE":
                negative = True
            case "LITERAL":
                pairs.append((value, value))
            case "RANGE":
                pairs.append(value)
            case "CATEGORY":
                pairs += _category(str(value), bool(flags & re.ASCII))
    ranges = normalize_ranges(pairs)
    return invert_ranges(ranges) if negative else ranges


@lru_cache(maxsize=16)
def _category(name: str, ascii_only: bool) -> Ranges:
    """A category's code points (surrogates aside)."""
    if "_NOT_" in name:
        return invert_ranges(_category(name.replace("_NOT_", "_"), ascii_only))
    kind = re.ASCII if ascii_only else re.UNICODE
    item = (_re_api.constants.CATEGORY, getattr(_re_api.constants, name))
    return _probe("IN", (item,), int(kind))


def _probe(name: str, av: Any, flags: int) -> Ranges:
    """The code points that match, by asking ``re``."""
    item = (getattr(_re_api.constants, name), list(av) if name == "IN" else av)
    if name == "LITERAL":
        matcher = _re_api.compile_tree(_re_api.tree_of([item]), flags)
        return normalize_ranges(
            (ord(c), ord(c)) for c in matcher.findall(_cased_characters() + chr(av))
        )
    pairs = []
    for found in _re_api.run_of(item, flags).finditer(_all_characters()):
        start, end = found.span()
        # offsets are code points, with a gap where the surrogates would be
        pairs += [(start, min(end, 0xD800) - 1), (max(start, 0xD800) + 0x800, end + 0x7FF)]
    return normalize_ranges(pairs)


@lru_cache(maxsize=1)
def _all_characters() -> str:
    points = array("I", range(0xD800))
    points.extend(range(0xE000, MAX_CODE_POINT + 1))
    return points.tobytes().decode("utf-32-le" if sys.byteorder == "little" else "utf-32-be")


@lru_cache(maxsize=1)
def _cased_characters() -> str:
    """All that a literal can match under IGNORECASE, besides itself."""
    cased = [p for p in range(MAX_CODE_POINT + 1) if _re_api.is_cased(p)]
    both_cases = {*cased, *map(_re_api.to_lower, cased)}
    return "".join(map(chr, sorted(both_cases)))
