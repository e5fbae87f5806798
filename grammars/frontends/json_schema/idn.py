"""Internationalised host names: IDNA 2008 (RFC 5890 to 5893) as far as it is regular.

Every text accepted is valid.  Left out are:

* labels that begin with ``xn--``: whether one is the Punycode of a valid label is not regular;
* long names: the Punycode of a label has at most 63 octets, in no regular relation to its
  characters.  A label has at most 13 characters, all below U+10000; if all beyond ASCII are of one
  alphabet, as many as every such label may have (:data:`_ALPHABETS`: 24 Cyrillic letters, 45 with
  one umlaut).  A name with such labels has at most three of them, and perhaps one of ASCII behind.
  Beside a bound on the length below 253 all such labels have at most 13 characters, those of ASCII
  beside them 16, and a name has at most three labels;
* labels in which a combining mark could merge with a letter of Latin, Greek or Cyrillic before it,
  or where two marks follow each other, instead of finding out whether that is NFC;
* two hyphens in a row, zero-width non-joiners between letters other than those of the Arabic
  block, and in a name with a label from right to left digits at the start of a label.

Which characters are allowed, joining types and scripts are those of the package ``idna``; what
concerns normal forms and directions is the Unicode data of the running Python.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from idna import idnadata

from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    NOTHING,
    ByteSet,
    Expr,
    Not,
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

_ARABIC_DIGITS: Final[Ranges] = ((0x660, 0x669),)
_PERSIAN_DIGITS: Final[Ranges] = ((0x6F0, 0x6F9),)
_LETTERS: Final[Ranges] = ((0x41, 0x5A), (0x61, 0x7A))
_ALNUM: Final[Ranges] = ((0x30, 0x39), *_LETTERS)
_JOINER: Final = 0x200D
_NON_JOINER: Final = 0x200C
_ARABIC_BLOCK: Final[Ranges] = ((0x600, 0x6FF),)


def _listed(packed: Iterable[int]) -> Ranges:
    """Ranges as the package ``idna`` writes them: start and end, the latter not included."""
    return normalize_ranges((pair >> 32, (pair & 0xFFFFFFFF) - 1) for pair in packed)


@lru_cache(maxsize=8)
def _scripts(*names: str) -> Ranges:
    """Allowed characters of some scripts."""
    listed = (pair for name in names for pair in idnadata.scripts[name])
    return intersect_ranges(_listed(listed), _valid())


@lru_cache(maxsize=2)
def _joining(kinds: str) -> Ranges:
    """Letters of the Arabic block that join to both sides (``D``) or to the right (``R``)."""
    listed = (pair for kind in kinds for pair in idnadata.joining_types[kind])
    return intersect_ranges(_listed(listed), intersect_ranges(_ARABIC_BLOCK, _valid()))


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


@lru_cache(maxsize=1)
def _valid() -> Ranges:
    """PVALID beyond ASCII, as far as this Python knows the characters."""
    allowed = intersect_ranges(_listed(idnadata.codepoint_classes["PVALID"]), ((0x80, 0xFFFF),))
    return _within(allowed, lambda p: unicodedata.category(chr(p)) != "Cn")


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


_INDIC: Final[Ranges] = ((0x900, 0x109F),)
"""Scripts in which vowel signs may merge, each with one or two others only."""


@lru_cache(maxsize=1)
def _told_apart() -> Ranges:
    """Characters that may merge with the one before, where it is found out whether they do."""
    return intersect_ranges(_ranges(sorted(_merging())), _INDIC)


@lru_cache(maxsize=1)
def _marks() -> tuple[tuple[int, Ranges], ...]:
    """The combining marks by their class, in its order; without those that may merge unseen."""
    unseen = normalize_ranges((p, p) for p in _merging())
    usable = _minus(_all_marks(), _minus(unseen, _told_apart()))
    out: dict[int, list[int]] = {}
    for low, high in usable:
        for point in range(low, high + 1):
            out.setdefault(unicodedata.combining(chr(point)), []).append(point)
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
    some = seq(_LDH, repeat(seq(optional(separator), _LDH), 0, _NAME - 1))
    return both(seq(label, repeat(seq(separator, label))), some)


# -- labels ----------------------------------------------------------------------------------------


class _Labels:
    """Labels whose characters have certain directions.

    A unit is a character with its combining marks, or what a contextual rule (RFC 5892, appendix A)
    holds together.  A hyphen stands alone between units, so never in third and fourth place both.
    """

    def __init__(
        self,
        first: Iterable[str],
        others: Iterable[str],
        *,
        nfc: bool,
        alphabet: Ranges = ((0x80, 0xFFFF),),
    ) -> None:
        beyond = _union(_valid(), _ARABIC_DIGITS, _PERSIAN_DIGITS)
        lower = ((0x30, 0x39), (0x61, 0x7A))
        everything = _union(lower, intersect_ranges(beyond, alphabet))
        directed = _directed(everything, [*first, *others])
        allowed = _minus(directed, _all_marks())
        self._marks = intersect_ranges(directed, _all_marks())
        merging = normalize_ranges((p, p) for p in _merging()) if nfc else ()
        self._starters = _minus(allowed, _minus(merging, _told_apart()))
        is_mark = _within(self._starters, lambda p: unicodedata.category(chr(p))[0] == "M")
        self._no_marks = _minus(self._starters, is_mark)
        self._first = _directed(self._no_marks, first)
        self._nfc = nfc
        self._alphabet = alphabet

    def _chain(self) -> Expr:
        """A combining mark, and perhaps a joiner behind a virama."""
        if not self._nfc:
            return repeat(chars(self._marks))
        usable = [(order, intersect_ranges(r, self._marks)) for order, r in _marks()]
        marks = chars(_union(*(r for order, r in usable if order != 9)))
        virama = chars(_union(*(r for order, r in usable if order == 9)))
        joiner = optional(chars([(_NON_JOINER, _JOINER)])) if self._has(_JOINER) else EPSILON
        return optional(alt(marks, seq(virama, joiner)))

    def _unit(self, starters: Ranges) -> Expr:
        chain = self._chain()
        held = [seq(chars(starters), chain)]

        def among(ranges: Ranges) -> Expr:
            return chars(intersect_ranges(starters, ranges))

        if self._has(0xB7):
            held.append(seq(among(((0x6C, 0x6C),)), repeat(text("·l"), 1)))
        if self._has(0x375):
            held.append(seq(text("͵"), among(_scripts("Greek")), chain))
        if self._has(0x5F3):
            held.append(seq(among(_scripts("Hebrew")), chars([(0x5F3, 0x5F4)])))
        if self._has(_NON_JOINER):
            step = seq(text(chr(_NON_JOINER)), chars(_joining("D")))
            last = seq(text(chr(_NON_JOINER)), chars(_joining("DR")))
            held.append(seq(among(_joining("D")), repeat(step), last, chain))
        return alt(*held)

    def _has(self, point: int) -> bool:
        return bool(intersect_ranges(self._alphabet, ((point, point),)))

    def label(self) -> Expr:
        """Such labels of any length."""
        after_hyphen = seq(text("-"), self._unit(self._no_marks))
        whole = seq(self._unit(self._first), repeat(alt(self._unit(self._starters), after_hyphen)))
        return both(whole, Not(self._merged())) if self._nfc else whole

    def _merged(self) -> Expr:
        """Texts in which a vowel sign merges with what is before it."""
        anything = repeat(ANY_CHAR)
        pairs = [
            seq(chars(firsts), text(chr(second)))
            for second, firsts in _merging().items()
            if intersect_ranges(_told_apart(), ((second, second),)) and self._has(second)
        ]
        return seq(anything, alt(*pairs), anything) if pairs else NOTHING

    def with_middle_dot(self) -> Expr:
        """Labels of Kana and Han, in which a Katakana middle dot may stand."""
        some = chars(intersect_ranges(self._first, _scripts("Hiragana", "Katakana", "Han")))
        dots = repeat(text("・"))
        return seq(dots, some, repeat(alt(some, text("・"))))


_MIXED: Final = repeat(chars([(0, 0xFFFF)]), 1, 13)
"""As long as a label may be whose characters are anything below U+10000."""
_OCTET: Final = ByteSet(((0x00, 0xFF),))
_ALPHABETS: Final[tuple[tuple[tuple[int, int], Expr], ...]] = (
    ((0xDF, 0x17F), repeat(_OCTET, 1, 46)),
    ((0x3AC, 0x3CE), repeat(_OCTET, 1, 52)),
    ((0x430, 0x491), repeat(_OCTET, 1, 48)),
    ((0x900, 0xEFF), repeat(ANY_CHAR, 1, 19)),
    ((0x10D0, 0x10FF), repeat(ANY_CHAR, 1, 24)),
)
_RIGHT_ALPHABETS: Final = (
    ((0x5D0, 0x5F4), repeat(_OCTET, 1, 50)),
    ((0x600, 0x6CC), repeat(_OCTET, 1, 45)),
)
"""Letters of one alphabet (Latin, Greek, Cyrillic, those from Devanagari to Lao, Georgian; Hebrew,
Arabic), and how long a label of them and ASCII may be, in octets of UTF-8 or in characters.

Each bound is the greatest for which all labels fit: Punycode writes the distances between code
points in their order, whose sum is at most the alphabet's size times the length, so the most digits
that they may need are found by dynamic programming over bias and sum.
"""
_SEPARATOR: Final = chars([(0x2E, 0x2E), (0x3002, 0x3002), (0xFF0E, 0xFF0E), (0xFF61, 0xFF61)])


def _names(*, nfc: bool, long: bool) -> Expr:
    """Up to three labels of 63 octets and one of 60, so at most 252 octets in any case."""
    kinds = ["L", "EN", "ON", "ET"], ["NSM", "BN", "CS"]
    mixed = _Labels(*kinds, nfc=nfc)
    plain = [both(alt(mixed.label(), mixed.with_middle_dot()), _MIXED), _ascii_beside(long)]
    for pair, size in _ALPHABETS if long else ():
        plain.append(both(_Labels(*kinds, nfc=nfc, alphabet=(pair,)).label(), size))
    right: list[Expr] = []
    for digits in ("AN", "EN"):  # not both kinds of digits in one label
        kinds = ["R", "AL"], ["NSM", digits]
        right.append(both(_Labels(*kinds, nfc=nfc).label(), _MIXED))
        for pair, size in _RIGHT_ALPHABETS if long else ():
            right.append(both(_Labels(*kinds, nfc=nfc, alphabet=(pair,)).label(), size))
    # where a label runs from right to left, the Bidi Rule (RFC 5893) holds for every label
    left = _ascii_beside(long, _LETTERS)
    return alt(_few(alt(*plain), alt(*plain), long), _few(left, alt(*right), long))


def _ascii_beside(long: bool, first: Ranges = _ALNUM) -> Expr:
    """A label of ASCII in a name with others."""
    return ascii_label(63 if long else 16, first)


def _few(first: Expr, label: Expr, long: bool) -> Expr:
    last = optional(seq(_SEPARATOR, ascii_label(60, _LETTERS))) if long else EPSILON
    return seq(optional(seq(first, _SEPARATOR)), label, optional(seq(_SEPARATOR, label)), last)


def _ascii_names() -> Expr:
    """Names of ASCII alone, as many labels as fit."""
    return joined(ascii_label(63), _SEPARATOR)


@lru_cache(maxsize=2)
def idn_hostname(*, long: bool = True) -> Expr:
    """Valid names, of U-labels and labels of ASCII.

    Args:
        long: with all the lengths that are known to fit; else with few states, so that a counter
            of characters can run beside.
    """
    return alt(_ascii_names(), _names(nfc=True, long=long))


@lru_cache(maxsize=2)
def idn_mail_domain(*, long: bool = True) -> Expr:
    """Domains of internationalised mailboxes (RFC 6531), which need not be in NFC."""
    return alt(_ascii_names(), _names(nfc=False, long=long))
