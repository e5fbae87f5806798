r"""Regular expressions as JSON Schema reads them: ECMA-262 with the ``u`` flag, matched anywhere.

The dialect differs from Python's in what the classes mean (``\d`` and ``\w`` are ASCII, ``\s`` has
its own list, ``.`` stops at four line ends), in its escapes and in its anchors (``$`` holds at the
very end only).  Patterns that are valid only without ``u`` but whose meaning is not in doubt are
read as engines read them then: needless escapes of punctuation, and a brace or a closing bracket
that stands for itself.

What other dialects mean something else by is an error, as it is with ``u``: escapes of letters that
ECMA-262 does not define (``\A``, ``\Z``, ``\z``, ``\h``, which would be plain letters without ``u``),
octal escapes, inline flags such as ``(?i)``, and ``(?P<name>...)``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from grammars.errors import GrammarError
from grammars.frontends.regex.lookaround import solve
from grammars.frontends.regex.nodes import (
    ALL,
    ANY_TEXT,
    EMPTY,
    Cat,
    Edge,
    Node,
    Or,
    Plain,
    Side,
    UnsolvableError,
    as_grammar_error,
    cat,
    locate,
    look,
    rep,
    union,
    united,
)
from grammars.frontends.regex.properties import OF_STRINGS, property_ranges
from grammars.ir import (
    EPSILON,
    MAX_CODE_POINT,
    Expr,
    Ranges,
    chars,
    invert_ranges,
    normalize_ranges,
    seq,
)

_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_LINE_ENDS: Final[Ranges] = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CONTROLS: Final = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")
_HIGH: Final = (0xD800, 0xDBFF)
_LOW: Final = (0xDC00, 0xDFFF)
"""First and second halves of surrogate pairs."""
_ANYTHING: Final = Side(ALL, nothing=True)
_NOTHING_THERE: Final = Side((), nothing=True)
_TEXT_START: Final = ((_NOTHING_THERE, _ANYTHING),)
_TEXT_END: Final = ((_ANYTHING, _NOTHING_THERE),)
_IN_WORD: Final = Side(_WORD)
_NO_WORD: Final = Side(invert_ranges(_WORD), nothing=True)
_BOUNDARY: Final = ((_IN_WORD, _NO_WORD), (_NO_WORD, _IN_WORD))


def ecma_search_to_expr(pattern: str, *, loose: bool = False) -> Expr:
    """The texts in which the pattern matches somewhere.

    Args:
        pattern: in ECMA-262's syntax, read as with the flag ``u``.
        loose: let ``.`` match all but a line feed, as many other dialects do.

    Raises:
        GrammarError: with line and column in the pattern, for text that is not a pattern, for
            backreferences, which are not regular, and for what is not translated exactly
            (properties of strings, lone halves of surrogate pairs).
        LimitExceeded: for look-around whose automaton would be too large.
    """
    try:
        return _found_anywhere(_Parser(pattern, loose).parse())
    except UnsolvableError as error:
        raise as_grammar_error(error, pattern) from None
    except RecursionError:
        raise GrammarError("the pattern is nested too deeply", line=1, column=1) from None


def _found_anywhere(node: Node) -> Expr:
    """The texts in which a node matches somewhere: alternatives without conditions at once."""
    done: list[Expr] = []
    left: list[Node] = []
    for way in node.items if isinstance(node, Or) else (node,):
        found = _between_anchors(way)
        if found is None:
            left.append(way)
        else:
            done.append(found)
    if left:
        anywhere = Plain(ANY_TEXT)
        done.append(solve(cat([anywhere, union(left), anywhere])))
    return united(*done)


def _between_anchors(node: Node) -> Expr | None:
    """The same of a node with no other conditions than ``^`` at its start and ``$`` at its end."""
    items = list(node.items) if isinstance(node, Cat) else [node]
    before = after = ANY_TEXT
    if _is_anchor(items[0], _TEXT_START):
        before = EPSILON
        del items[0]
    if items and _is_anchor(items[-1], _TEXT_END):
        after = EPSILON
        del items[-1]
    inner = [item.expr for item in items if isinstance(item, Plain)]
    return seq(before, *inner, after) if len(inner) == len(items) else None


def _is_anchor(node: Node, pairs: tuple[tuple[Side, Side], ...]) -> bool:
    return isinstance(node, Edge) and node.pairs is pairs and not node.negative


class _Parser:
    """Recursive descent over the pattern; ``at`` is the position."""

    def __init__(self, pattern: str, loose: bool = False) -> None:
        self._pattern = pattern
        self._not_dot: Ranges = ((0x0A, 0x0A),) if loose else _LINE_ENDS
        self._at = 0

    def parse(self) -> Node:
        node = self._alternatives()
        if self._at < len(self._pattern):
            raise self._error("this ')' closes no group; write \\) for the character", self._at)
        return node

    def _error(self, message: str, offset: int) -> GrammarError:
        line, column = locate(self._pattern, offset)
        return GrammarError(message, line=line, column=column)

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._pattern[at : at + 1]

    def _next(self) -> str:
        here = self._peek()
        self._at += 1
        return here

    def _takes(self, wanted: str) -> bool:
        found = self._pattern.startswith(wanted, self._at)
        if found:
            self._at += len(wanted)
        return found

    # -- structure ------------------------------------------------------------------------------

    def _alternatives(self) -> Node:
        out = [self._sequence()]
        while self._takes("|"):
            out.append(self._sequence())
        return union(out)

    def _sequence(self) -> Node:
        out: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            offset = self._at
            node = self._assertion()
            if node is None:
                out.append(self._repeated(self._atom(), offset))
                continue
            # a look-ahead may be repeated outside u; that leaves it optional, or as it was
            bounds = self._quantifier()
            if bounds is not None:
                if not self._pattern.startswith(("(?=", "(?!"), offset):
                    raise self._error("an anchor or look-behind cannot be repeated", offset)
                node = node if bounds[0] else EMPTY
            out.append(node)
        return cat(out)

    def _repeated(self, node: Node, offset: int) -> Node:
        bounds = self._quantifier()
        if bounds is None:
            return node
        low, high = bounds
        if high is not None and high < low:
            raise self._error(f"bad repetition {{{low},{high}}}: the bounds are reversed", offset)
        return rep(node, low, high)

    def _quantifier(self) -> tuple[int, int | None] | None:
        """A quantifier, if one stands here; lazy ones match the same texts."""
        bounds: tuple[int, int | None] | None
        if self._takes("*"):
            bounds = (0, None)
        elif self._takes("+"):
            bounds = (1, None)
        elif self._takes("?"):
            bounds = (0, 1)
        else:
            bounds = self._braces()
        if bounds is not None:
            self._takes("?")
        return bounds

    def _braces(self) -> tuple[int, int | None] | None:
        """``{n}``, ``{n,}``, ``{n,m}``; anything else is not a quantifier."""
        start = self._at
        if not self._takes("{"):
            return None
        low = self._digits()
        high = low
        if low and self._takes(","):
            high = self._digits()
        if not low or not self._takes("}"):
            self._at = start
            return None
        if max(len(low), len(high)) > 18:
            raise self._error("a repetition bound is too large", start)
        return int(low), int(high) if high else None

    def _digits(self) -> str:
        start = self._at
        while self._peek() and self._peek() in "0123456789":
            self._at += 1
        return self._pattern[start : self._at]

    def _assertion(self) -> Node | None:
        offset = self._at
        if self._takes("^"):
            return Edge(_TEXT_START)
        if self._takes("$"):
            return Edge(_TEXT_END)
        if self._takes("\\b"):
            return Edge(_BOUNDARY)
        if self._takes("\\B"):
            return Edge(_BOUNDARY, negative=True)
        for opening in ("(?=", "(?!", "(?<=", "(?<!"):
            if self._takes(opening):
                return look(
                    self._group_body(offset),
                    ahead="<" not in opening,
                    negative=opening[-1] == "!",
                    offset=offset,
                )
        return None

    def _group_body(self, opened: int) -> Node:
        inner = self._alternatives()
        if not self._takes(")"):
            raise self._error("this group is never closed; add ')'", opened)
        return inner

    def _atom(self) -> Node:
        offset = self._at
        here = self._next()
        match here:
            case ".":
                return Plain(chars(invert_ranges(self._not_dot)))
            case "(":
                self._group_name(offset)
                return self._group_body(offset)
            case "[" | "\\":
                return Plain(chars(self._whole(offset)))
            case "*" | "+" | "?":
                raise self._error(f"nothing to repeat before {here!r}", offset)
            case "{":
                self._at = offset
                if self._braces() is not None:
                    raise self._error("nothing to repeat before '{'", offset)
                self._at = offset + 1
            case _ if _is_half(ord(here), ord(here)):
                return Plain(chars(self._whole(offset)))
        return Plain(chars(_single(ord(here))))

    def _group_name(self, opened: int) -> None:
        """What may stand behind an opening parenthesis."""
        if not self._takes("?") or self._takes(":"):
            return
        if self._takes("<"):
            end = self._pattern.find(">", self._at)
            name = self._pattern[self._at : max(end, self._at)]
            if not name.replace("$", "_").isidentifier():
                raise self._error("this group has no valid name; write (?<name>...)", opened)
            self._at = end + 1
            return
        written = self._pattern[opened : opened + 4]
        raise self._error(
            f"{written!r} is not a group of ECMA-262; groups are (...), (?:...), (?<name>...), "
            "(?=...), (?!...), (?<=...), (?<!...)",
            opened,
        )

    # -- classes --------------------------------------------------------------------------------

    def _whole(self, offset: int) -> Ranges:
        """One class or escape; with halves of surrogate pairs two, which together are characters.

        Patterns for engines without the flag ``u`` write characters beyond U+FFFF that way.
        """
        self._at = offset
        ranges, halves = self._set()
        if not halves:
            return ranges
        if halves == ranges and all(_HIGH[0] <= a and b <= _HIGH[1] for a, b in halves):
            start = self._at
            second, low = self._set() if self._peek() not in ("", *")|") else ((), ())
            if low and low == second and all(_LOW[0] <= a for a, _ in low):
                if self._quantifier() is None:
                    return _paired(halves, low)
                raise self._error(
                    "a repetition of half a surrogate pair; put both halves into a group", start
                )
        raise self._error(
            "half a surrogate pair is no character and never matches; write the first half and the "
            "second one behind it, such as [\\ud83c-\\ud83e][\\udc00-\\udfff], or \\u{1F600}",
            offset,
        )

    def _set(self) -> tuple[Ranges, Ranges]:
        """A class, an escape or a character; and those it has that are halves of surrogate pairs."""
        offset = self._at
        here = self._next()
        if here == "[":
            return self._class(offset)
        ranges = self._escape(offset, in_class=False) if here == "\\" else _single(ord(here))
        return ranges, ranges if all(_is_half(*pair) for pair in ranges) else ()

    def _class(self, opened: int) -> tuple[Ranges, Ranges]:
        """The same for a class; one that is negated has no halves, as they are no characters."""
        negative = self._takes("^")
        pairs: list[tuple[int, int]] = []
        while not self._takes("]"):
            offset = self._at
            first = self._class_atom(opened)
            if self._peek() != "-" or self._peek(1) == "]":
                pairs += first
                continue
            self._at += 1
            last = self._class_atom(opened)
            if not is_single(first) or not is_single(last):
                # outside u a hyphen next to a class such as \d stands for itself
                pairs += [*first, (0x2D, 0x2D), *last]
                continue
            if last[0][0] < first[0][0]:
                written = self._pattern[offset : self._at]
                raise self._error(f"bad range {written!r}: its end comes before its start", offset)
            pairs.append((first[0][0], last[0][0]))
        ranges = normalize_ranges(pairs)
        if negative:
            return invert_ranges(ranges), ()
        return ranges, normalize_ranges(pair for pair in pairs if _is_half(*pair))

    def _class_atom(self, opened: int) -> Ranges:
        offset = self._at
        here = self._next()
        if not here:
            raise self._error("this class is never closed; add ']'", opened)
        if here == "\\":
            return self._escape(offset, in_class=True)
        return ((ord(here), ord(here)),)

    # -- escapes --------------------------------------------------------------------------------

    def _escape(self, offset: int, *, in_class: bool) -> Ranges:
        """The characters of an escape, of which the backslash has been read."""
        kind = self._next()
        match kind:
            case "":
                raise self._error("the pattern ends in a backslash; write \\\\ for one", offset)
            case "d" | "D" | "w" | "W" | "s" | "S":
                ranges = {"d": _DIGITS, "w": _WORD, "s": _spaces()}[kind.lower()]
                return invert_ranges(ranges) if kind.isupper() else ranges
            case "p" | "P":
                ranges = self._property(offset)
                return invert_ranges(ranges) if kind == "P" else ranges
            case "f" | "n" | "r" | "t" | "v":
                return _single(_CONTROLS[kind])
            case "b" if in_class:
                return _single(0x08)
            case "c":
                letter = self._next()
                if not (letter.isascii() and letter.isalpha()):
                    raise self._error("\\c needs a letter behind it", offset)
                return _single(ord(letter) % 32)
            case "x":
                return _single(self._hex(2, offset))
            case "u":
                return _single(self._unicode(offset))
            case "0" if self._peek() not in tuple("0123456789"):
                return _single(0)
            case "k":
                raise self._backreference(offset)
        if kind in tuple("123456789") and not in_class:
            raise self._backreference(offset)
        if kind.isascii() and kind.isalnum():
            raise self._error(
                f"'\\{kind}' is not an escape of ECMA-262; write {kind!r} for the character",
                offset,
            )
        return _single(ord(kind))

    def _backreference(self, offset: int) -> GrammarError:
        return self._error(
            "a backreference is not supported: what a group matched cannot be repeated; write the "
            "alternatives out",
            offset,
        )

    def _hex(self, count: int, offset: int) -> int:
        digits = self._pattern[self._at : self._at + count]
        if len(digits) < count or not HEX_DIGITS.issuperset(digits):
            raise self._error(f"this escape needs {count} hexadecimal digits", offset)
        self._at += count
        return int(digits, 16)

    def _unicode(self, offset: int) -> int:
        if self._takes("{"):
            end = self._pattern.find("}", self._at)
            digits = self._pattern[self._at : max(end, self._at)]
            if not digits or not HEX_DIGITS.issuperset(digits) or int(digits, 16) > MAX_CODE_POINT:
                raise self._error("\\u{...} needs the hexadecimal number of a character", offset)
            self._at = end + 1
            return int(digits, 16)
        point = self._hex(4, offset)
        if 0xD800 <= point <= 0xDBFF and self._pattern.startswith("\\u", self._at):
            start = self._at
            digits = self._pattern[start + 2 : start + 6]
            if len(digits) == 4 and HEX_DIGITS.issuperset(digits):
                low = int(digits, 16)
                if 0xDC00 <= low <= 0xDFFF:
                    self._at += 6
                    return 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
        return point

    def _property(self, offset: int) -> Ranges:
        if not self._takes("{"):
            raise self._error("\\p needs a property in braces, such as \\p{L}", offset)
        end = self._pattern.find("}", self._at)
        if end < 0:
            raise self._error("this property is never closed; add '}'", offset)
        written = self._pattern[self._at : end]
        self._at = end + 1
        ranges = property_ranges(written)
        if written in OF_STRINGS:
            raise self._error(
                f"property {written!r} is one of strings, not of characters, which needs the flag "
                "v; \\p{Extended_Pictographic} and \\p{Emoji} are properties of characters",
                offset,
            )
        if ranges is None:
            raise self._error(
                f"{written!r} is not a property of ECMA-262; these are general categories such as "
                "\\p{L}, binary properties such as \\p{Alphabetic}, \\p{Script=Greek} and "
                "\\p{Script_Extensions=Greek}, in exactly this spelling",
                offset,
            )
        return ranges


def _single(point: int) -> Ranges:
    return ((point, point),)


def is_single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


# -- halves of surrogate pairs ---------------------------------------------------------------------


def _is_half(low: int, high: int) -> bool:
    """Whether there are only surrogates from one code point to another."""
    return low >= _HIGH[0] and high <= _LOW[1]


def _paired(high: Ranges, low: Ranges) -> Ranges:
    """The characters that are written as one of some first and one of some second halves."""
    return normalize_ranges(
        (_joined(first, a), _joined(first, b))
        for start, end in high
        for first in range(start, end + 1)
        for a, b in low
    )


def _joined(first: int, second: int) -> int:
    return 0x10000 + ((first - _HIGH[0]) << 10) + (second - _LOW[0])


# -- white space -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _spaces() -> Ranges:
    r"""``\s``: white space and line ends of ECMA-262."""
    controls = ((0x09, 0x0D), (0xFEFF, 0xFEFF), (0x2028, 0x2029))
    return normalize_ranges([*controls, *_SPACE_SEPARATORS])


_SPACE_SEPARATORS: Final = (
    *((0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
r"""``\p{Zs}``, since looking through all of Unicode for it takes as long as compiling a large schema."""
