"""Internationalised host names: IDNA 2008 (RFC 5890 to 5893) as far as it is regular.

Every text accepted is valid.  Left out are:

* labels that begin with ``xn--``: whether one is the Punycode of a valid label is not regular;
* long names: the Punycode of a label has at most 63 octets, in no regular relation to its
  characters.  A label that is not ASCII has at most ``_LONGEST`` characters, all below U+10000,
  and a name with such labels has at most three labels;
* labels in which a combining mark could merge with the character before it, or where two marks
  follow each other, instead of finding out whether that is NFC;
* two hyphens in a row, zero-width non-joiners between letters other than those of the Arabic
  block, and in a name with a label from right to left digits at the start of a label.

Which characters are allowed is derived from the Unicode data of the running Python, as RFC 5892
derives it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    Expr,
    Ranges,
    alt,
    both,
    chars,
    intersect_ranges,
    invert_ranges,
    minus,
    normalize_ranges,
    optional,
    repeat,
    seq,
    text,
)

_Pairs = list[tuple[int, int]]

# -- which characters (RFC 5892) -------------------------------------------------------------------

_LETTER_DIGITS: Final = frozenset(["Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"])
_EXCEPTIONS_ALLOWED: Final = (0xDF, 0x3C2, 0x6FD, 0x6FE, 0xF0B, 0x3007)
_NEVER: Final[Ranges] = normalize_ranges(
    [
        *[(0x640, 0x640), (0x7FA, 0x7FA), (0x302E, 0x302F), (0x3031, 0x3035), (0x303B, 0x303B)],
        # default ignorable
        *[(0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164)],
        *[(0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)],
        # blocks of symbols
        *[(0x20D0, 0x20FF), (0x1D100, 0x1D24F)],
        # old Hangul
        *[(0x1100, 0x11FF), (0xA960, 0xA97C), (0xD7B0, 0xD7FB)],
    ]
)
_ARABIC_DIGITS: Final[Ranges] = ((0x660, 0x669),)
_PERSIAN_DIGITS: Final[Ranges] = ((0x6F0, 0x6F9),)
_LETTERS: Final[Ranges] = ((0x41, 0x5A), (0x61, 0x7A))
_ALNUM: Final[Ranges] = ((0x30, 0x39), *_LETTERS)
_JOINER: Final = 0x200D
_NON_JOINER: Final = 0x200C

# scripts that rules ask for, as far as their characters are allowed (letters only)
_GREEK: Final[Ranges] = (
    *((0x370, 0x373), (0x376, 0x377), (0x37B, 0x37D), (0x37F, 0x37F), (0x386, 0x386)),
    *((0x388, 0x38A), (0x38C, 0x38C), (0x38E, 0x3A1), (0x3A3, 0x3E1), (0x3F0, 0x3FF)),
)
_HEBREW: Final[Ranges] = ((0x591, 0x5C7), (0x5D0, 0x5EA), (0x5EF, 0x5F2))
_KANA_HAN: Final[Ranges] = (
    *((0x3005, 0x3005), (0x3007, 0x3007), (0x3041, 0x3096), (0x309D, 0x309E), (0x30A1, 0x30FA)),
    *((0x30FD, 0x30FE), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
)

# joining types in the Arabic block (Unicode's ArabicShaping.txt)
_JOINS_BOTH: Final[Ranges] = (
    *((0x620, 0x620), (0x626, 0x626), (0x628, 0x628), (0x62A, 0x62E), (0x633, 0x63F)),
    *((0x641, 0x647), (0x649, 0x64A), (0x66E, 0x66F), (0x678, 0x687), (0x69A, 0x6BF)),
    *((0x6C1, 0x6C2), (0x6CC, 0x6CC), (0x6CE, 0x6CE), (0x6D0, 0x6D1), (0x6FA, 0x6FC)),
    (0x6FF, 0x6FF),
)
_JOINS_RIGHT: Final[Ranges] = (
    *((0x622, 0x625), (0x627, 0x627), (0x629, 0x629), (0x62F, 0x632), (0x648, 0x648)),
    *((0x671, 0x673), (0x675, 0x677), (0x688, 0x699), (0x6C0, 0x6C0), (0x6C3, 0x6CB)),
    *((0x6CD, 0x6CD), (0x6CF, 0x6CF), (0x6D2, 0x6D3), (0x6D5, 0x6D5), (0x6EE, 0x6EF)),
)


def _ranges(points: Iterable[int]) -> Ranges:
    """Ranges of sorted points."""
    out: _Pairs = []
    for point in points:
        if out and out[-1][1] == point - 1:
            out[-1] = (out[-1][0], point)
        else:
            out.append((point, point))
    return tuple(out)


def _union(*parts: Ranges) -> Ranges:
    return normalize_ranges(pair for part in parts for pair in part)


def _minus(a: Ranges, b: Ranges) -> Ranges:
    return intersect_ranges(a, invert_ranges(b))


def _within(ranges: Ranges, keep: Callable[[int], bool]) -> Ranges:
    return _ranges(p for low, high in ranges for p in range(low, high + 1) if keep(p))


def _is_stable(point: int) -> bool:
    """Folding case and compatibility leaves the character as it is."""
    char = chr(point)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", char).casefold())
    return folded == char


@lru_cache(maxsize=1)
def _valid() -> Ranges:
    """PVALID beyond ASCII, without characters that NFC never keeps."""
    letters = _ranges(
        p for p in range(0x80, 0x10000) if unicodedata.category(chr(p)) in _LETTER_DIGITS
    )
    stable = _within(_minus(letters, _NEVER), _is_stable)
    plain = _minus(stable, _union(_ARABIC_DIGITS, _PERSIAN_DIGITS))
    return _union(plain, tuple((p, p) for p in _EXCEPTIONS_ALLOWED))


@lru_cache(maxsize=1)
def _merging() -> dict[int, Ranges]:
    """Characters that may merge with the one before them, with what they merge with."""
    firsts: dict[int, list[int]] = {}
    for point in range(0xC0, 0x10000):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and parts[0][0] != "<":
            first, second = (int(x, 16) for x in parts)
            if unicodedata.normalize("NFC", chr(first) + chr(second)) == chr(point):
                firsts.setdefault(second, []).append(first)
    return {second: _ranges(sorted(points)) for second, points in firsts.items()}


@lru_cache(maxsize=1)
def _marks() -> tuple[tuple[int, Ranges], ...]:
    """The combining marks by their class, in its order; without those that may merge."""
    out: dict[int, list[int]] = {}
    for low, high in _valid():
        for point in range(low, high + 1):
            order = unicodedata.combining(chr(point))
            if order and point not in _merging():
                out.setdefault(order, []).append(point)
    return tuple((order, _ranges(out[order])) for order in sorted(out))


@lru_cache(maxsize=1)
def _all_marks() -> Ranges:
    return _within(_valid(), lambda p: unicodedata.combining(chr(p)) > 0)


def _directed(ranges: Ranges, kinds: Iterable[str]) -> Ranges:
    """The characters of some directions (RFC 5893)."""
    wanted = frozenset(kinds)
    return _within(ranges, lambda p: unicodedata.bidirectional(chr(p)) in wanted)


# -- host names of ASCII: RFC 1123 -----------------------------------------------------------------
#
# A name has at most 127 characters without its dots, so at most 253 with them; counting both at once
# takes 25,000 states.

_NAME: Final = 127
_LDH: Final = chars([(0x2D, 0x2D), *_ALNUM])
_RESERVED: Final = seq(_LDH, _LDH, text("--"), repeat(ANY_CHAR))


def up_to(item: Expr, count: int) -> Expr:
    """At most so many copies, spelled out: an intersection can then count something else."""
    out: Expr = EPSILON
    for _ in range(count):
        out = optional(seq(item, out))
    return out


def any_label(longest: int, first: Ranges = _ALNUM) -> Expr:
    """A label of letters, digits and inner hyphens."""
    return seq(chars(first), optional(seq(up_to(_LDH, longest - 2), chars(_ALNUM))))


def ascii_label(longest: int, first: Ranges = _ALNUM) -> Expr:
    """The same without hyphens in third and fourth place both, which RFC 5890 reserves."""
    return minus(any_label(longest, first), _RESERVED)


def joined(label: Expr, separator: Expr) -> Expr:
    """One label or more, in a name that is surely short enough."""
    some = repeat(seq(optional(separator), _LDH), 1, _NAME)
    return both(seq(label, repeat(seq(separator, label))), some)


# -- labels ----------------------------------------------------------------------------------------


class _Labels:
    """Labels whose characters have certain directions.

    A unit is a character with its combining marks, or what a contextual rule (RFC 5892, appendix A)
    holds together.  A hyphen stands alone between units, so never in third and fourth place both.
    """

    def __init__(self, first: Iterable[str], others: Iterable[str], *, nfc: bool) -> None:
        lower = ((0x30, 0x39), (0x61, 0x7A))
        everything = _union(lower, _valid(), _ARABIC_DIGITS, _PERSIAN_DIGITS)
        directed = _directed(everything, [*first, *others])
        allowed = _minus(directed, _all_marks())
        self._marks = intersect_ranges(directed, _all_marks())
        beyond = tuple((p, p) for p in _merging()) if nfc else ()
        self._starters = _minus(allowed, normalize_ranges(beyond))
        is_mark = _within(self._starters, lambda p: unicodedata.category(chr(p))[0] == "M")
        self._no_marks = _minus(self._starters, is_mark)
        self._first = _directed(self._no_marks, first)
        self._nfc = nfc

    def _chain(self) -> Expr:
        """A combining mark, and perhaps a joiner behind a virama."""
        if not self._nfc:
            return repeat(chars(self._marks))
        usable = [(order, intersect_ranges(r, self._marks)) for order, r in _marks()]
        marks = chars(_union(*(r for order, r in usable if order != 9)))
        virama = chars(_union(*(r for order, r in usable if order == 9)))
        return optional(alt(marks, seq(virama, optional(chars([(_NON_JOINER, _JOINER)])))))

    def _unit(self, starters: Ranges) -> Expr:
        chain = self._chain()
        held = [seq(chars(starters), chain)]

        def among(ranges: Ranges) -> Expr:
            return chars(intersect_ranges(starters, ranges))

        held.append(seq(among(((0x6C, 0x6C),)), repeat(text("·l"), 1)))
        if _within(starters, lambda p: p == 0x3B1):
            held.append(seq(text("͵"), chars(intersect_ranges(starters, _GREEK)), chain))
        held.append(seq(among(_HEBREW), chars([(0x5F3, 0x5F4)])))
        step = seq(text(chr(_NON_JOINER)), chars(_JOINS_BOTH))
        last = seq(text(chr(_NON_JOINER)), chars(_union(_JOINS_BOTH, _JOINS_RIGHT)))
        held.append(seq(among(_JOINS_BOTH), repeat(step), last, chain))
        return alt(*held)

    def label(self) -> Expr:
        """Such labels of any length."""
        after_hyphen = seq(text("-"), self._unit(self._no_marks))
        return seq(self._unit(self._first), repeat(alt(self._unit(self._starters), after_hyphen)))

    def with_middle_dot(self) -> Expr:
        """Labels of Kana and Han, in which a Katakana middle dot may stand."""
        some = chars(intersect_ranges(self._first, _KANA_HAN))
        dots = repeat(text("・"))
        return seq(dots, some, repeat(alt(some, text("・"))))


_LONGEST: Final = 13
"""Most characters of a label that is not ASCII; they all have code points below 0x10000."""
_SEPARATOR: Final = chars([(0x2E, 0x2E), (0x3002, 0x3002), (0xFF0E, 0xFF0E), (0xFF61, 0xFF61)])


def _sized(label: Expr) -> Expr:
    """The labels that are surely short enough in Punycode."""
    return both(label, repeat(chars([(0, 0xFFFF)]), 1, _LONGEST))


def _names(*, nfc: bool) -> Expr:
    """Up to three labels, so at most 253 octets in any case."""
    ltr = _Labels(["L", "EN", "ON", "ET"], ["NSM", "BN", "CS"], nfc=nfc)
    plain = alt(_sized(alt(ltr.label(), ltr.with_middle_dot())), ascii_label(16))
    kinds = [["NSM", "AN"], ["NSM", "EN"]]  # not both kinds of digits in one label
    right = alt(*(_sized(_Labels(["R", "AL"], others, nfc=nfc).label()) for others in kinds))
    # where a label runs from right to left, the Bidi Rule (RFC 5893) holds for every label
    left = ascii_label(16, _LETTERS)
    return alt(_few(plain, plain), _few(left, right))


def _few(first: Expr, label: Expr) -> Expr:
    return seq(optional(seq(first, _SEPARATOR)), label, optional(seq(_SEPARATOR, label)))


def _ascii_names() -> Expr:
    """Names of ASCII alone, as many labels as fit."""
    return joined(ascii_label(63), _SEPARATOR)


@lru_cache(maxsize=1)
def idn_hostname() -> Expr:
    """Valid names, of U-labels and labels of ASCII."""
    return alt(_ascii_names(), _names(nfc=True))


@lru_cache(maxsize=1)
def idn_mail_domain() -> Expr:
    """Domains of internationalised mailboxes (RFC 6531), which need not be in NFC."""
    return alt(_ascii_names(), _names(nfc=False))
