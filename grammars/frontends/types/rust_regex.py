r"""Patterns of ``pydantic.Field(pattern=...)`` as Rust's ``regex`` reads them, matched anywhere.

The dialect is close to ECMA-262's, but its classes are Unicode's (``\d``, ``\w``, ``\s``, ``\b``),
classes nest and have operators, and there are inline flags.  Rust's tables are not at hand and newer
than Python's, so every class is known from both sides: characters that are certainly in it, and
characters that may be in it.  A negation swaps the two.  What certainly matches is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from grammars.errors import GrammarError
from grammars.frontends.regex import ecma
from grammars.frontends.regex.lookaround import solve
from grammars.frontends.regex.nodes import (
    ALL,
    ANY_TEXT,
    Edge,
    Node,
    Plain,
    Side,
    UnsolvableError,
    as_grammar_error,
    cat,
    rep,
    union,
)
from grammars.frontends.types.textual import WHITE_SPACE
from grammars.ir import (
    MAX_CODE_POINT,
    Expr,
    Ranges,
    chars,
    intersect_ranges,
    invert_ranges,
    normalize_ranges,
)


@dataclass(frozen=True)
class _Set:
    """Characters that are surely in a class, and those that may be."""

    surely: Ranges
    maybe: Ranges

    @classmethod
    def exactly(cls, ranges: Ranges) -> _Set:
        return cls(ranges, ranges)

    def __invert__(self) -> _Set:
        return _Set(invert_ranges(self.maybe), invert_ranges(self.surely))

    def __or__(self, other: _Set) -> _Set:
        return _Set(
            normalize_ranges([*self.surely, *other.surely]),
            normalize_ranges([*self.maybe, *other.maybe]),
        )

    def __and__(self, other: _Set) -> _Set:
        return _Set(
            intersect_ranges(self.surely, other.surely), intersect_ranges(self.maybe, other.maybe)
        )


def rust_search_to_expr(pattern: str) -> Expr:
    """The texts in which Rust's ``regex`` finds the pattern.

    Raises:
        GrammarError: with line and column in the pattern, for what is not translated.
    """
    try:
        anywhere = Plain(ANY_TEXT)
        return solve(cat([anywhere, _Parser(pattern).parse(), anywhere]))
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise GrammarError("the pattern is nested too deeply", line=1, column=1) from None


def rust_fullmatch_to_expr(pattern: str) -> Expr:
    """The texts that the pattern matches from the first character to the last.

    Raises:
        GrammarError: with line and column in the pattern, for what is not translated.
    """
    try:
        return solve(_Parser(pattern).parse())
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise GrammarError("the pattern is nested too deeply", line=1, column=1) from None


_POSIX: Final[dict[str, Ranges]] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": ((0x30, 0x39),),
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "word": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
_CIRCLED: Final[Ranges] = (
    (0x24B6, 0x24E9),
    (0x1F130, 0x1F149),
    (0x1F150, 0x1F169),
    (0x1F170, 0x1F189),
)
"""Letters of the category So, alphabetic all the same."""
_CONTROLS: Final = {"a": 0x07, "f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_OPERATORS: Final = ("&&", "--", "~~")
_START: Final = Side((), nothing=True)
_ANYTHING: Final = Side(ALL, nothing=True)
_LINE_END: Final = Side(((0x0A, 0x0A),), nothing=True)


def _categories(*names: str) -> _Set:
    """Characters of general categories; unassigned ones may have got there since."""
    known = normalize_ranges(pair for name in names for pair in _ranges(name) or ())
    return _Set(known, normalize_ranges([*known, *(_ranges("Cn") or ())]))


@lru_cache(1)
def _word() -> _Set:
    sure = _categories("L", "Nl", "M", "Nd", "Pc")
    joiners: Ranges = ((0x200C, 0x200D),)
    return _Set(
        normalize_ranges([*sure.surely, *joiners, *_CIRCLED]),
        normalize_ranges([*sure.maybe, *joiners, *_CIRCLED]),
    )


class _Parser(ecma._Parser):
    """The dialect of Rust on top of the parser of ECMA-262."""

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern, loose=True)
        self._flags: frozenset[str] = frozenset()

    # -- structure ------------------------------------------------------------------------------

    def _alternatives(self) -> Node:
        outer = self._flags  # flags set inside a group end with it
        out = [self._sequence()]
        while self._takes("|"):
            out.append(self._sequence())
        self._flags = outer
        return union(out)

    def _repeated(self, node: Node, offset: int) -> Node:
        while (bounds := self._quantifier()) is not None:
            low, high = bounds
            if high is not None and high < low:
                raise self._error(
                    f"bad repetition {{{low},{high}}}: the bounds are reversed", offset
                )
            node = rep(node, low, high)
        return node

    def _braces(self) -> tuple[int, int | None] | None:
        if self._takes("{,"):
            high = self._digits()
            if not high or not self._takes("}"):
                raise self._error("this repetition is not understood", self._at)
            return 0, int(high)
        return super()._braces()

    def _assertion(self) -> Node | None:
        offset = self._at
        lines = "m" in self._flags
        if self._takes("^"):
            return Edge(((_LINE_END if lines else _START, _ANYTHING),))
        if self._takes("$"):
            return Edge(((_ANYTHING, _LINE_END if lines else _START),))
        if self._takes("\\A"):
            return Edge(((_START, _ANYTHING),))
        if self._takes("\\z"):
            return Edge(((_ANYTHING, _START),))
        if self._pattern.startswith(("\\b{", "\\<", "\\>"), offset):
            raise self._error("a boundary at one side of a word is not translated", offset)
        if self._takes("\\b"):
            inside, outside = self._sides()
            return Edge(((inside, outside), (outside, inside)))
        if self._takes("\\B"):
            inside, outside = self._sides()
            return Edge(((inside, inside), (outside, outside)))
        return None

    @staticmethod
    def _sides() -> tuple[Side, Side]:
        word = _word()
        return Side(word.surely), Side(invert_ranges(word.maybe), nothing=True)

    def _atom(self) -> Node:
        offset = self._at
        if self._takes("(?"):
            return self._special_group(offset)
        here = self._next()
        match here:
            case ".":
                return Plain(chars(ALL if "s" in self._flags else invert_ranges(((0x0A, 0x0A),))))
            case "(":
                return self._group_body(offset)
            case "[":
                return self._plain(self._members(offset))
            case "\\":
                return self._plain(self._escaped(offset))
            case "*" | "+" | "?" | "{":
                raise self._error(f"nothing to repeat before {here!r}", offset)
        return self._plain(_one(ord(here)))

    def _plain(self, found: _Set) -> Node:
        if "i" in self._flags:
            found = _folded(found)
        return Plain(chars(found.surely))

    def _special_group(self, offset: int) -> Node:
        if self._takes(":"):
            return self._group_body(offset)
        if any(self._pattern.startswith(sign, self._at) for sign in ("=", "!", "<=", "<!")):
            raise self._error(
                "look-around is not part of these patterns; write what may come there as alternatives",
                offset,
            )
        if self._takes("P<") or self._takes("<"):
            end = self._pattern.find(">", self._at)
            if end < 0:
                raise self._error("this group has no name; write (?P<name>...)", offset)
            self._at = end + 1
            return self._group_body(offset)
        end = self._at
        while end < len(self._pattern) and (
            self._pattern[end].isalpha() or self._pattern[end] == "-"
        ):
            end += 1
        on, _, off = self._pattern[self._at : end].partition("-")
        closing = self._pattern[end : end + 1]
        if closing not in (")", ":") or not {*on, *off} <= set("ims") or not (on or off):
            raise self._error("of flags in a pattern only i, m and s are translated", offset)
        self._at = end + 1
        before = self._flags
        self._flags = (before | set(on)) - set(off)
        if closing == ")":
            return cat([])
        inner = self._group_body(offset)
        self._flags = before
        return inner

    # -- classes --------------------------------------------------------------------------------

    def _members(self, opened: int) -> _Set:
        """A class, of which the bracket has been read."""
        negative = self._takes("^")
        out = self._union(opened, first=True)
        while not self._takes("]"):
            operator = next(op for op in _OPERATORS if self._takes(op))
            other = self._union(opened, first=False)
            if operator == "&&":
                out = out & other
            elif operator == "--":
                out = out & ~other
            else:
                out = (out & ~other) | (other & ~out)
        if "i" in self._flags:
            out = _folded(out)
        return ~out if negative else out

    def _union(self, opened: int, *, first: bool) -> _Set:
        out = _Set((), ())
        while True:
            if not self._peek():
                raise self._error("this class is never closed; add ']'", opened)
            operator = self._peek() + self._peek(1) in _OPERATORS
            if operator and first:
                raise self._error(
                    "an operator at the beginning of a class is not translated", opened
                )
            if operator or (self._peek() == "]" and not first):
                return out
            out |= self._member(opened)
            first = False

    def _member(self, opened: int) -> _Set:
        offset = self._at
        low = self._class_item(opened)
        if self._peek() != "-" or self._peek(1) in ("]", "-"):
            return low
        self._at += 1
        high = self._class_item(opened)
        if not (ecma.is_single(low.surely) and ecma.is_single(high.surely)):
            raise self._error("a range goes from one character to another", offset)
        if high.surely[0][0] < low.surely[0][0]:
            raise self._error("bad range: its end comes before its start", offset)
        return _Set.exactly(((low.surely[0][0], high.surely[0][0]),))

    def _class_item(self, opened: int) -> _Set:
        offset = self._at
        if self._takes("[:"):
            negative = self._takes("^")
            end = self._pattern.find(":]", self._at)
            name = self._pattern[self._at : max(end, self._at)]
            if name not in _POSIX:
                raise self._error("this is no class of POSIX", offset)
            self._at = end + 2
            found = _Set.exactly(_POSIX[name])
            return ~found if negative else found
        here = self._next()
        if here == "[":
            return self._members(offset)
        if here == "\\":
            return self._escaped(offset)
        if not here:
            raise self._error("this class is never closed; add ']'", opened)
        return _one(ord(here))

    def _escaped(self, offset: int) -> _Set:
        """The characters of an escape, of which the backslash has been read."""
        kind = self._next()
        match kind:
            case "d" | "D":
                found = _categories("Nd")
            case "w" | "W":
                found = _word()
            case "s" | "S":
                found = _Set.exactly(WHITE_SPACE)
            case "p" | "P":
                found = self._named(offset)
            case "x" | "u" | "U":
                return _one(self._number({"x": 2, "u": 4, "U": 8}[kind], offset))
            case _ if kind in _CONTROLS and kind:
                return _one(_CONTROLS[kind])
            case _:
                if not kind or kind.isalnum() or kind in "<>":
                    raise self._error(f"the escape '\\{kind}' is not translated", offset)
                return _one(ord(kind))
        return ~found if kind.isupper() else found

    def _number(self, count: int, offset: int) -> int:
        if self._takes("{"):
            end = self._pattern.find("}", self._at)
            digits = self._pattern[self._at : max(end, self._at)]
            self._at = end + 1
        else:
            digits = self._pattern[self._at : self._at + count]
            self._at += count
        if not digits or not ecma.HEX_DIGITS.issuperset(digits) or int(digits, 16) > MAX_CODE_POINT:
            raise self._error("this escape needs the hexadecimal number of a character", offset)
        return int(digits, 16)

    def _named(self, offset: int) -> _Set:
        r"""``\pL``, ``\p{Greek}``, ``\p{Script=Greek}``, ``\p{^L}``."""
        if self._takes("{"):
            end = self._pattern.find("}", self._at)
            name = self._pattern[self._at : max(end, self._at)]
            self._at = end + 1
        else:
            name = self._next()
        negative = name.startswith("^")
        found = _property(name.removeprefix("^"))
        if found is None:
            raise self._error(f"the property {name!r} is not translated", offset)
        return ~found if negative else found


@lru_cache(64)
def _property(name: str) -> _Set | None:
    key, _, value = name.partition("=")
    spellings = [value or key, (value or key).title(), (value or key).capitalize()]
    for one in spellings:
        known = None
        if not value or key.lower() in ("gc", "general_category"):
            known = _ranges(one)
        if known is None and (not value or key.lower() in ("sc", "script")):
            known = _ranges(f"Script={one}")
        if known is not None:
            unassigned = _ranges("Cn") or ()
            return _Set(
                intersect_ranges(known, invert_ranges(normalize_ranges(unassigned))),
                normalize_ranges([*known, *unassigned]),
            )
    return None


@lru_cache(128)
def _ranges(name: str) -> Ranges | None:
    """A property as ECMA-262 names it; ``None`` if there is none of that name."""
    try:
        return ecma._Parser("{" + name + "}")._property(0)
    except GrammarError:
        return None


def _one(point: int) -> _Set:
    return _Set.exactly(((point, point),))


# -- flag i ----------------------------------------------------------------------------------------


@lru_cache(1)
def _orbits() -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Characters that surely, and that perhaps, match each other without regard to case."""
    sure: dict[str, list[int]] = {}
    loose: dict[int, set[int]] = {}
    for point in range(MAX_CODE_POINT + 1):
        if 0xD800 <= point <= 0xDFFF:
            continue
        c = chr(point)
        fold, lower, upper = c.casefold(), c.lower(), c.upper()
        if fold == lower == upper == c:
            continue
        if len(fold) == 1:
            sure.setdefault(fold, [ord(fold)]).append(point)
        for other in {*fold, *lower, *upper}:
            loose.setdefault(point, {point}).add(ord(other))
            loose.setdefault(ord(other), {ord(other)}).add(point)
    surely = {p: tuple({*group}) for group in sure.values() for p in group}
    perhaps = {p: tuple(q for x in group for q in loose[x]) for p, group in loose.items()}
    return surely, perhaps


def _folded(found: _Set) -> _Set:
    surely, perhaps = _orbits()
    return _Set(_with_orbits(found.surely, surely), _with_orbits(found.maybe, perhaps))


def _with_orbits(ranges: Ranges, orbits: dict[int, tuple[int, ...]]) -> Ranges:
    more: Iterable[int] = (
        other
        for point, group in orbits.items()
        if any(low <= point <= high for low, high in ranges)
        for other in group
    )
    return normalize_ranges([*ranges, *((p, p) for p in more)])
