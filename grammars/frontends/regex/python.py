r"""Regular expressions as Python's ``re`` reads them, with ``re.fullmatch`` semantics on ``str``.

Parsing is ``re``'s own, and so are classes: whatever ``\w``, ``[^k]`` or ``(?i:ſ)`` match is found
by asking ``re`` about every code point once.  The order in which ``re`` tries alternatives does not
matter for a full match, except inside atomic groups and possessive repetitions, which become
conditions on what may follow.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from grammars.compiling.analysis import check_count
from grammars.compiling.compiler import compile_ir
from grammars.errors import GrammarError
from grammars.frontends import _re_api
from grammars.frontends.nesting import deepest_bracket
from grammars.frontends.regex.lookaround import (
    EMPTY,
    NEVER,
    Edge,
    Node,
    Plain,
    Side,
    UnsolvableError,
    as_grammar_error,
    cat,
    locate,
    look,
    rep,
    solve,
    union,
)
from grammars.ir import (
    ANY_CHAR,
    MAX_CODE_POINT,
    Expr,
    GrammarIR,
    Ranges,
    Rule,
    Span,
    both,
    chars,
    invert_ranges,
    normalize_ranges,
    repeat,
    seq,
    single_rule,
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


def regex_to_expr(pattern: str, flags: int = 0, *, look_around: bool = False) -> Expr:
    """The texts that ``re.fullmatch(pattern, text, flags)`` matches.

    Args:
        look_around: translate look-ahead and look-behind where that is exact for the whole text;
            by default they are refused, because in a part of a larger grammar they would speak
            about more than this pattern's own text.

    Raises:
        GrammarError: for a pattern that ``re`` refuses, or that is not regular (backreferences,
            conditional groups), or whose conditions are not translated.
    """
    try:
        translator = _Translator(pattern, flags, look_around)
        return solve(translator.translate())
    except UnsolvableError as error:
        if error.offset is not None and error.offset == translator.atomic:
            raise translator.unordered() from None
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        offset, depth = deepest_bracket(pattern)
        line, column = locate(pattern, offset)
        raise GrammarError(
            f"the pattern is nested too deeply ({depth:,} levels)", line=line, column=column
        ) from None


def regex_search_to_expr(pattern: str, flags: int = 0) -> Expr:
    """The texts in which ``re.search(pattern, text, flags)`` finds something.

    Raises:
        GrammarError: see :func:`regex_to_expr`; and for atomic groups and possessive repetitions.
    """
    try:
        translator = _Translator(pattern, flags, look_around=True)
        if translator.atomic is not None:
            raise translator.unordered()
        anywhere = Plain(repeat(ANY_CHAR))
        return solve(cat([anywhere, translator.translate(), anywhere]))
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise GrammarError("the pattern is nested too deeply", line=1, column=1) from None


def regex_to_ir(pattern: str, limits: Limits = DEFAULT_LIMITS) -> GrammarIR:
    """A grammar of one rule, ``root``, with the texts that ``re.fullmatch`` matches.

    Raises:
        GrammarError: see :func:`regex_to_expr`.
    """
    return GrammarIR((Rule("root", regex_to_expr(pattern), Span(1, 1)),), "root")


class _Translator:
    """From ``re``'s parse tree to nodes."""

    def __init__(self, pattern: str, flags: int, look_around: bool) -> None:
        self._pattern = pattern
        self._look_around = look_around
        try:
            self._tree = _re_api.parse(pattern, flags)
        except _re_api.PatternError as error:
            offset = error.offset or 0
            line, column = locate(pattern, offset)
            raise GrammarError(
                f"not a regular expression: {error.reason} (in {_excerpt(pattern, offset)})",
                line=line,
                column=column,
            ) from None
        self._flags = int(self._tree.state.flags)
        self._looks: Iterator[int] | None = None
        self.atomic = next(_places(pattern, self._flags, "ATOMIC"), None)
        """Offset of the first atomic group or possessive repetition."""

    def translate(self) -> Node:
        return self._sequence(self._tree, self._flags)

    def _sequence(self, ops: Sequence[_Op], flags: int) -> Node:
        return cat([self._op(op, av, flags) for op, av in ops])

    def _op(self, op: Any, av: Any, flags: int) -> Node:
        name = str(op)
        match name:
            case "LITERAL" | "NOT_LITERAL" | "IN":
                return Plain(_character(name, av, flags))
            case "ANY":
                return Plain(ANY_CHAR if flags & re.DOTALL else _NOT_NEWLINE)
            case "BRANCH":
                return union([self._sequence(branch, flags) for branch in av[1]])
            case "SUBPATTERN":
                return self._sequence(av[3], _inner_flags(flags, av))
            case "MAX_REPEAT" | "MIN_REPEAT":
                return rep(self._sequence(av[2], flags), *self._counted(av))
            case "AT":
                return _at(str(av), flags)
            case "ASSERT" | "ASSERT_NOT":
                return self._look(name, av, flags)
            case "FAILURE":
                return NEVER
            case "POSSESSIVE_REPEAT":
                return self._atomic_last((op, av), flags)
            case "ATOMIC_GROUP":
                return self._atomic(av, flags)
        raise self._unsupported(name)

    def _counted(self, av: Any) -> tuple[int, int | None]:
        """The bounds of a repetition that a counter can hold."""
        low, high = _bounds(av)
        try:
            check_count(low, high)
        except GrammarError as error:
            wanted = str(low if high is None else high)
            found = (f for f in _BOUNDS.finditer(self._pattern) if wanted in f.groups())
            place = next(found, None)
            line, column = locate(self._pattern, place.start() if place else 0)
            error.locate(line=line, column=column)
            raise
        return low, high

    def _look(self, name: str, av: Any, flags: int) -> Node:
        direction, ops = av
        if self._looks is None:
            self._looks = _places(self._pattern, self._flags, "ASSERT")
        offset = next(self._looks, 0)
        if not self._look_around and len(ops):
            raise self._unsupported("ASSERT", offset)
        return look(
            self._sequence(ops, flags),
            ahead=direction > 0,
            negative=name == "ASSERT_NOT",
            offset=offset,
        )

    def _unsupported(self, name: str, offset: int | None = None) -> GrammarError:
        what, advice = _UNSUPPORTED.get(name, (name, "rewrite the pattern without it"))
        if offset is None:
            offset = next(_places(self._pattern, self._flags, name), 0)
        line, column = locate(self._pattern, offset)
        return GrammarError(
            f"{what} {_excerpt(self._pattern, offset)} is not supported: {advice}",
            line=line,
            column=column,
        )

    # -- atomic groups --------------------------------------------------------------------------

    def _atomic(self, ops: Sequence[_Op], flags: int) -> Node:
        """The first match in ``re``'s order, whatever follows.

        Parts of which no text begins another have one match at most, so the order matters only for
        what follows them.
        """
        ops = list(ops)
        if not ops:
            return EMPTY
        head = self._sequence(ops[:-1], flags)
        if not self._is_prefix_free(ops[:-1], head):
            raise self.unordered()
        return cat([head, self._atomic_last(ops[-1], flags)])

    def _atomic_last(self, last: _Op, flags: int) -> Node:
        op, av = last
        greedy = _re_api.constants.MAX_REPEAT if str(op) == "POSSESSIVE_REPEAT" else op
        whole = self._op(greedy, av, flags)
        if self._is_prefix_free([last], whole):
            return whole
        match str(op):
            case "SUBPATTERN":
                return self._atomic(av[3], _inner_flags(flags, av))
            case "ATOMIC_GROUP":
                return self._atomic(av, flags)
            case "BRANCH":
                parts: list[Node] = []
                refused: list[Node] = []
                for branch in av[1]:
                    parts.append(cat([*refused, self._atomic(branch, flags)]))
                    refused.append(self._not_ahead(self._sequence(branch, flags)))
                return union(parts)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high = self._counted(av)
                item = self._sequence(av[2], flags)
                if not self._is_prefix_free(av[2], item) or av[2].getwidth()[0] == 0:
                    raise self.unordered()
                if str(op) == "MIN_REPEAT" or low == high:
                    return rep(item, low, low)
                if high is None:
                    return cat([rep(item, low, None), self._not_ahead(item)])
                fewer = cat([rep(item, low, high - 1), self._not_ahead(item)])
                return union([fewer, rep(item, high, high)])
        raise self.unordered()

    def _is_prefix_free(self, ops: Sequence[_Op], node: Node) -> bool:
        """Whether no text of the part begins another text of it."""
        low, high = _re_api.tree_of(ops).getwidth()
        if low == high:
            return True
        if not isinstance(node, Plain):
            return False
        longer = seq(node.expr, repeat(ANY_CHAR, 1))
        overlap = single_rule(both(node.expr, longer))
        return compile_ir(overlap, DEFAULT_LIMITS).is_empty

    def _not_ahead(self, item: Node) -> Node:
        return look(item, ahead=True, negative=True, offset=self.atomic or 0)

    def unordered(self) -> GrammarError:
        """The refusal of what depends on the order in which ``re`` tries alternatives."""
        offset = self.atomic or 0
        line, column = locate(self._pattern, offset)
        return GrammarError(
            f"atomic group or possessive repetition {_excerpt(self._pattern, offset)} is not "
            "supported for this content: use an ordinary group or repetition",
            line=line,
            column=column,
        )


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
    r"|(?P<ATOMIC>\(\?>|[*+?}]\+)|(?P<COMMENT>\#[^\n]*)|.",
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
