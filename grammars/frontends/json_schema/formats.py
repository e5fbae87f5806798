r"""The formats of drafts 4 to 2020-12 as expressions over code points.

Every text an expression accepts is valid by the RFC that the specification names.  Where an RFC
leaves a choice, or where a condition is not regular, the section says which texts are left out;
nothing invalid is let in.  Two more wishes decide between readings: what validators in use refuse
is not written, and what documents in use contain is read.

Names that no draft defines (``KNOWN`` lists the others) are annotations: :func:`format_expr` has
no expression for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from grammars.frontends.json_schema.idn import (
    any_label,
    ascii_label,
    idn_hostname,
    idn_mail_domain,
    joined,
    up_to,
)
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    Chars,
    Expr,
    Literal,
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

_Builder = Callable[[], Expr]


# -- small parts -----------------------------------------------------------------------------------


def _set(*parts: str) -> Expr:
    """A class: each part is a range (three characters, such as ``a-z``) or characters to list."""
    pairs: list[tuple[int, int]] = []
    for part in parts:
        if len(part) == 3 and part[1] == "-":
            pairs.append((ord(part[0]), ord(part[2])))
        else:
            pairs += [(ord(c), ord(c)) for c in part]
    return chars(pairs)


def _class(*items: Expr) -> Expr:
    """One class of all the characters of classes and single characters."""
    pairs: list[tuple[int, int]] = []
    for item in items:
        if isinstance(item, Chars):
            pairs += item.ranges
        elif isinstance(item, Literal):
            pairs += [(ord(c), ord(c)) for c in item.data.decode()]
    return chars(pairs)


def _words(words: Iterable[str]) -> Expr:
    return alt(*map(text, words))


def _numbers(low: int, high: int) -> Expr:
    """The two-digit numbers from ``low`` to ``high``."""
    return _words(f"{n:02}" for n in range(low, high + 1))


def _list(item: Expr, separator: Expr) -> Expr:
    """One item or more."""
    return seq(item, repeat(seq(separator, item)))


_DIGIT: Final = _set("0-9")
_NONZERO: Final = _set("1-9")
_ALPHA: Final = _set("a-z", "A-Z")
_ALNUM: Final = _class(_ALPHA, _DIGIT)
_HEX: Final = _set("0-9", "a-f", "A-F")
_DOT: Final = text(".")
_COLON: Final = text(":")
_SLASH: Final = text("/")


# -- dates and times: RFC 3339 ---------------------------------------------------------------------
#
# "T" and "Z" in either case, as 5.6 says, but no blank for the "T", which is a remark on readability
# only.  The year 0000 is left out: libraries for dates begin with year 1.
#
# A second 60 is a leap second: the time is 23:59:60 in UTC, and a date-time is at the end of June or
# December, the only places where one was ever inserted (5.7, appendix D).  Its offset is a number of
# quarters of an hour, as all offsets now in use are, and its fraction has at most six digits; telling
# 23:59 UTC by offsets of any minute takes 15 times the states.

_YEAR: Final = minus(repeat(_DIGIT, 4, 4), text("0000"))
_FRACTION: Final = optional(seq(_DOT, repeat(_DIGIT, 1)))
_ZULU: Final = _set("Zz")
_OFFSET: Final = alt(_ZULU, seq(_set("+-"), _numbers(0, 23), _COLON, _numbers(0, 59)))
_TEE: Final = _set("Tt")


def _date() -> Expr:
    long_months = seq(
        _words(["01", "03", "05", "07", "08", "10", "12"]), text("-"), _numbers(1, 31)
    )
    short_months = seq(_words(["04", "06", "09", "11"]), text("-"), _numbers(1, 30))
    days = alt(long_months, short_months, seq(text("02-"), _numbers(1, 28)))
    fours = _words(f"{n:02}" for n in range(0, 100, 4))
    centuries = seq(minus(fours, text("00")), text("00"))  # 0000 is no year here
    leap_year = alt(centuries, seq(_DIGIT, _DIGIT, minus(fours, text("00"))))
    return alt(seq(_YEAR, text("-"), days), seq(leap_year, text("-02-29")))


_USUAL_TIME: Final = seq(
    _numbers(0, 23), _COLON, _numbers(0, 59), _COLON, _numbers(0, 59), _FRACTION, _OFFSET
)


def _leap_second(offsets: Iterable[int]) -> Expr:
    """23:59:60 in UTC at offsets given in minutes."""
    fraction = optional(seq(_DOT, _DIGIT, up_to(_DIGIT, 5)))
    out: list[Expr] = []
    for offset in offsets:
        hour, minute = divmod((23 * 60 + 59 + offset) % (24 * 60), 60)
        sign = "+" if offset > 0 else "-"
        written = text(f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}")
        if offset == 0:
            written = alt(_ZULU, text("+00:00"), text("-00:00"))
        out.append(seq(text(f"{hour:02}:{minute:02}:60"), fraction, written))
    return alt(*out)


_EAST: Final = range(15, 24 * 60, 15)
_WEST: Final = range(-24 * 60 + 15, 1, 15)


def _plain_time() -> Expr:
    """``hh:mm:ss``, which draft 3 calls a time."""
    return seq(_numbers(0, 23), _COLON, _numbers(0, 59), _COLON, _numbers(0, 59))


def _time() -> Expr:
    return alt(_USUAL_TIME, _leap_second([*_WEST, *_EAST]))


def _date_time() -> Expr:
    same_day = seq(_YEAR, _words(["-06-30", "-12-31"]), _TEE, _leap_second(_WEST))
    next_day = seq(_YEAR, _words(["-07-01", "-01-01"]), _TEE, _leap_second(_EAST))
    return alt(seq(_date(), _TEE, _USUAL_TIME), same_day, next_day)


def _duration() -> Expr:
    """Appendix A: a unit may only be followed by the next smaller one; weeks stand alone."""

    def chain(units: str) -> Expr:
        out: Expr = EPSILON
        ways: list[Expr] = []
        for unit in reversed(units):
            out = seq(repeat(_DIGIT, 1), text(unit), optional(out))
            ways.append(out)
        return alt(*ways)

    clock = seq(text("T"), chain("HMS"))
    weeks = seq(repeat(_DIGIT, 1), text("W"))
    return seq(text("P"), alt(seq(chain("YMD"), optional(clock)), clock, weeks))


# -- host names: RFC 1123 --------------------------------------------------------------------------
#
# Labels of at most 63 letters, digits and inner hyphens, no dot at the end; as long as ``joined``
# says.  From draft 7 on, which knows IDNA, labels with hyphens in third and fourth place are left
# out, "xn--" among them: whether one is the Punycode of a valid label is not regular.


def _hostname(*, idna: bool) -> Expr:
    return joined(ascii_label(63) if idna else any_label(63), _DOT)


# -- addresses: RFC 2673, RFC 4291 -----------------------------------------------------------------

_OCTET: Final = alt(
    _DIGIT,
    seq(_NONZERO, _DIGIT),
    seq(text("1"), _DIGIT, _DIGIT),
    seq(text("2"), _set("0-4"), _DIGIT),
    seq(text("25"), _set("0-5")),
)
_IPV4: Final = seq(_OCTET, *[seq(_DOT, _OCTET)] * 3)
_GROUP: Final = repeat(_HEX, 1, 4)
_LAST_TWO: Final = alt(seq(_GROUP, _COLON, _GROUP), _IPV4)


def _ipv6() -> Expr:
    """Addresses, in which ``::`` stands for one group or more; the format has no zone."""

    def groups(count: int) -> Expr:
        return repeat(seq(_GROUP, _COLON), count, count)

    def up_to(count: int) -> Expr:
        return (
            optional(seq(repeat(seq(_GROUP, _COLON), 0, count - 1), _GROUP)) if count else EPSILON
        )

    ways: list[Expr] = [seq(groups(6), _LAST_TWO)]
    for behind in range(7, -1, -1):
        tail: Expr
        if behind >= 2:
            tail = seq(groups(behind - 2), _LAST_TWO)
        else:
            tail = _GROUP if behind else EPSILON
        ways.append(seq(up_to(7 - behind), text("::"), tail))
    return alt(*ways)


_IPV6: Final = _ipv6()


# -- mail: RFC 5321, RFC 6531 ----------------------------------------------------------------------
#
# The local part is a dot-string or a quoted string of at most 64 octets; the domain is a host name
# as in draft 7 (of up to seven labels, see below), or an IPv4 or IPv6 literal.  Literals with other
# tags are left out, as no tag is registered, and so are escaped blanks.  In an internationalised
# local part any character beyond ASCII may stand where a letter may; octets are counted by the
# longest form that the characters of the text may need (32 letters of Latin, Greek or Cyrillic).

_ATOM: Final = _class(_ALNUM, _set("!#$%&'*+-/=?^_`{|}~"))
_QUOTED: Final = _set(" -!", "#-[", "]-~")
_ESCAPED: Final = seq(text("\\"), _set("!-~"))


def _local_part(also: Expr) -> Expr:
    atom = repeat(_class(_ATOM, also), 1)
    quoted = seq(text('"'), repeat(alt(_class(_QUOTED, also), _ESCAPED)), text('"'))
    return alt(_list(atom, _DOT), quoted)


def _mail_literal() -> Expr:
    """Addresses; in IPv6 ``::`` has at most one group behind it, again for the sake of counters."""
    before = optional(seq(_GROUP, up_to(seq(_COLON, _GROUP), 4)))
    short = seq(before, text("::"), optional(_GROUP))
    whole = seq(repeat(seq(_GROUP, _COLON), 7, 7), _GROUP)
    return seq(text("["), alt(_IPV4, seq(text("IPv6:"), alt(short, whole))), text("]"))


def _mail_domain() -> Expr:
    """Host names without a counter, since ``maxLength`` often stands next to this format.

    Three labels, and up to four of at most 14 characters before them, have 251 characters at most.
    Only the last label may have 63 characters, not 62: then any number of characters between the
    fewest and the most can follow at each place, which is what a counter needs.
    """
    short = up_to(seq(ascii_label(14), _DOT), 4)
    return seq(short, up_to(seq(ascii_label(62), _DOT), 2), ascii_label(63))


def _email() -> Expr:
    local = both(_local_part(EPSILON), seq(ANY_CHAR, up_to(ANY_CHAR, 63)))
    return seq(local, text("@"), alt(_mail_domain(), _mail_literal()))


def _idn_email(*, long: bool = True) -> Expr:
    sizes = ((64, 0x7F), (32, 0x7FF), (21, 0xFFFF), (16, 0x10FFFF))  # of UTF-8
    local = alt(
        *(both(_local_part(chars([(0x80, top)])), repeat(ANY_CHAR, 1, n)) for n, top in sizes)
    )
    return seq(local, text("@"), alt(idn_mail_domain(long=long), _mail_literal()))


# -- identifiers: RFC 3986, RFC 3987 ---------------------------------------------------------------
#
# The grammars as they stand.  An IRI may contain private characters in its query only; what 4.2 of
# RFC 3987 asks of mixed directions is advice and not checked.

_UNRESERVED: Final = _class(_ALNUM, _set("-._~"))
_SUB_DELIMS: Final = _set("!$&'()*+,;=")
_PERCENT: Final = seq(text("%"), _HEX, _HEX)
_BMP: Final = [(0xA0, 0xD7FF), (0xF900, 0xFDCF), (0xFDF0, 0xFFEF)]
_PLANES: Final = [(p << 16, (p << 16) + 0xFFFD) for p in range(1, 14)] + [(0xE1000, 0xEFFFD)]
_UCS: Final = chars([*_BMP, *_PLANES])
_PRIVATE: Final = chars([(0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)])
_SCHEME: Final = seq(_ALPHA, repeat(_class(_ALNUM, _set("+.", "-"))))
_FUTURE: Final = seq(
    _set("vV"), repeat(_HEX, 1), _DOT, repeat(_class(_UNRESERVED, _SUB_DELIMS, _COLON), 1)
)


class _Identifiers:
    """The rules that URI and IRI share, given what an IRI allows in addition."""

    def __init__(self, also: Expr, private: Expr) -> None:
        name = _class(_UNRESERVED, _SUB_DELIMS, also)
        part = _class(name, text(":@"))
        self._segment = repeat(alt(part, _PERCENT))
        self._filled = repeat(alt(part, _PERCENT), 1)
        self._no_colon = repeat(alt(_class(name, text("@")), _PERCENT), 1)
        user = repeat(alt(_class(name, _COLON), _PERCENT))
        literal = seq(text("["), alt(_IPV6, _FUTURE), text("]"))
        host = alt(literal, repeat(alt(name, _PERCENT)))  # an IPv4 address is a name as well
        port = optional(seq(_COLON, repeat(_DIGIT)))
        self._authority = seq(optional(seq(user, text("@"))), host, port)
        more = _class(part, text("/?"))
        query = repeat(alt(_class(more, private), _PERCENT))
        fragment = repeat(alt(more, _PERCENT))
        self._end = seq(optional(seq(text("?"), query)), optional(seq(text("#"), fragment)))

    def _hierarchy(self, first: Expr) -> Expr:
        """What stands between the scheme and the query; ``first`` begins a path without a slash."""
        rest = repeat(seq(_SLASH, self._segment))
        return alt(
            seq(text("//"), self._authority, rest),
            seq(_SLASH, optional(seq(self._filled, rest))),
            seq(first, rest),
            EPSILON,
        )

    def absolute(self) -> Expr:
        return seq(_SCHEME, _COLON, self._hierarchy(self._filled), self._end)

    def reference(self) -> Expr:
        return alt(self.absolute(), seq(self._hierarchy(self._no_colon), self._end))


_URI: Final = _Identifiers(EPSILON, EPSILON)
_IRI: Final = _Identifiers(_UCS, _PRIVATE)


def _uri_template() -> Expr:
    """RFC 6570 with its erratum 6937, by which ``'`` is a literal.

    Operators that are reserved for extensions (``= , ! @ |``) are part of its grammar.
    """
    excluded = _set("\x00- ", "\x7f-\x9f", '"%<>\\^`{|}')
    assert isinstance(excluded, Chars)
    beyond = _class(_UCS, _PRIVATE)
    assert isinstance(beyond, Chars)
    ascii_only = normalize_ranges([*excluded.ranges, (0x80, 0x10FFFF)])
    literal = alt(_class(chars(invert_ranges(ascii_only)), beyond), _PERCENT)
    character = alt(_class(_ALNUM, text("_")), _PERCENT)
    name = seq(character, repeat(seq(optional(_DOT), character)))
    prefix = seq(_COLON, _NONZERO, repeat(_DIGIT, 0, 3))
    variable = seq(name, optional(alt(prefix, text("*"))))
    expression = seq(
        text("{"), optional(_set("+#./;?&", "=,!@|")), _list(variable, text(",")), text("}")
    )
    return repeat(alt(literal, expression))


# -- pointers: RFC 6901, draft-handrews-relative-json-pointer --------------------------------------
#
# The later draft of relative pointers adds a way to neighbouring items ("0+1"), which validators do
# not know; it is left out.

_PLAIN: Final = chars(invert_ranges(((0x2F, 0x2F), (0x7E, 0x7E))))
_POINTER: Final = repeat(seq(_SLASH, repeat(alt(_PLAIN, text("~0"), text("~1")))))


def _relative_pointer() -> Expr:
    steps = alt(text("0"), seq(_NONZERO, repeat(_DIGIT)))
    return seq(steps, alt(text("#"), _POINTER))


def _uuid() -> Expr:
    """RFC 4122's text form; any version and variant."""
    return seq(
        *(
            seq(text("-") if i else EPSILON, repeat(_HEX, n, n))
            for i, n in enumerate((8, 4, 4, 4, 12))
        )
    )


# -- patterns: ECMA-262 ----------------------------------------------------------------------------
#
# Balanced parentheses are not regular.  What is accepted are patterns that are valid with the ``u``
# flag and
#   * nest groups at most ``_DEPTH`` deep, and have no groups in look-arounds;
#   * name at most one group, at the start of the pattern, and refer back to none;
#   * bound repetitions by {n}, {n,} or {n,m}, where both have one digit or m has more digits than
#     n, at most four;
#   * write the escape of a character by number as \xHH or \uHHHH, or as \u{...} of two to five
#     digits, and no half of a surrogate pair;
#   * in classes, write hyphens first or last, no bare "[" and no range from an escape other than
#     \uHHHH.  A range begins with one of ``_LOWER_ENDS``; a range of two \uHHHH differs in the first
#     digit.

_DEPTH: Final = 2
_SYNTAX: Final = "^$\\.*+?()[]{}|/"
_PROPERTIES: Final = (
    *(
        "L",
        "Lu",
        "Ll",
        "Lt",
        "Lm",
        "Lo",
        "M",
        "Mn",
        "N",
        "Nd",
        "P",
        "Pd",
        "S",
        "Sc",
        "Z",
        "Zs",
        "C",
    ),
    *("Script=Latin", "Script=Greek", "Script=Cyrillic", "Script=Han"),
)
_IN_CLASS: Final = "\\]-["
_LOWER_ENDS: Final = "0123456789AFGKNagknx !\xc0\xe0"


def _quantifier() -> Expr:
    """Braces hold one number, or two of which the second is larger or has more digits."""
    digits = [repeat(_DIGIT, 0, 3), repeat(_DIGIT, 1, 3), repeat(_DIGIT, 2, 3)]
    ordered = [
        seq(_DIGIT, text(","), _NONZERO, digits[1]),
        seq(_NONZERO, _DIGIT, text(","), _NONZERO, digits[2]),
        *(seq(text(f"{n},"), chars([(0x30 + n, 0x39)])) for n in range(10)),
    ]
    alone = seq(_DIGIT, digits[0], optional(text(",")))
    braces = seq(text("{"), alt(alone, *ordered), text("}"))
    return optional(seq(alt(_set("*+?"), braces), optional(text("?"))))


def _no_half() -> Expr:
    """Four digits that are no half of a surrogate pair."""
    return alt(
        seq(_set("0-9", "a-c", "A-C", "efEF"), repeat(_HEX, 3, 3)),
        seq(_set("dD"), _set("0-7"), _HEX, _HEX),
    )


def _escape() -> Expr:
    """Escapes that classes have as well."""
    many = alt(repeat(_HEX, 2, 3), _no_half(), seq(_set("1-9", "a-f", "A-F"), repeat(_HEX, 4, 4)))
    numbered = alt(
        seq(text("x"), _HEX, _HEX),
        seq(text("u"), alt(_no_half(), seq(text("{"), many, text("}")))),
        seq(text("c"), _ALPHA),
    )
    property_ = seq(_set("pP"), text("{"), _words(_PROPERTIES), text("}"))
    return seq(text("\\"), alt(_set("fnrtvdDwWsS"), _set(_SYNTAX), numbered, property_))


def _ranges() -> Iterable[Expr]:
    """Ranges in classes, by their lower end."""
    for low in map(ord, _LOWER_ENDS):
        yield seq(text(chr(low)), text("-"), _without([(low, 0x10FFFF)], _IN_CLASS))
    digits = "0123456789abcef"  # and no half of a surrogate pair
    for i, first in enumerate(digits[:-1]):
        above = digits[i + 1 :]
        yield seq(
            text("\\u"),
            _set(first + first.upper()),
            repeat(_HEX, 3, 3),
            text("-\\u"),
            _set(above + above.upper()),
            repeat(_HEX, 3, 3),
        )


def _without(pairs: list[tuple[int, int]], points: str) -> Expr:
    """A class without some characters."""
    left_out = normalize_ranges((ord(c), ord(c)) for c in points)
    return chars(intersect_ranges(normalize_ranges(pairs), invert_ranges(left_out)))


def _class_of_pattern() -> Expr:
    bare = _without([(0x20, 0x10FFFF)], _IN_CLASS)
    item = alt(bare, _escape(), text("\\-"), text("\\b"), *_ranges())
    hyphen = optional(text("-"))
    return seq(text("["), optional(text("^")), hyphen, repeat(item), hyphen, text("]"))


def _pattern() -> Expr:
    quantifier = _quantifier()
    bare = _without([(0x20, 0x10FFFF)], _SYNTAX.replace("/", ""))
    atom = alt(bare, text("."), _escape(), _class_of_pattern())
    edge = alt(_set("^$|"), text("\\b"), text("\\B"))
    looks = _words(["(?=", "(?!", "(?<=", "(?<!"])

    def level(depth: int) -> Expr:
        item = alt(edge, seq(atom, quantifier))
        if depth:
            inner = level(depth - 1)
            group = seq(_words(["(", "(?:"]), inner, text(")"), quantifier)
            item = alt(item, group, seq(looks, level(0), text(")")))
        return repeat(item)

    whole = level(_DEPTH)
    letter = _class(_ALPHA, _set("_$"))
    name = seq(letter, repeat(_class(letter, _DIGIT)))
    named = seq(text("(?<"), name, text(">"), level(_DEPTH - 1), text(")"), quantifier)
    return seq(optional(seq(optional(text("^")), named)), whole)


_BUILDERS: Final[dict[str, _Builder]] = {
    "date-time": _date_time,
    "date": _date,
    "time": _time,
    "duration": _duration,
    "email": _email,
    "idn-email": _idn_email,
    "hostname": lambda: _hostname(idna=True),
    "idn-hostname": idn_hostname,
    "ipv4": lambda: _IPV4,
    "ipv6": lambda: _IPV6,
    "uri": _URI.absolute,
    "uri-reference": _URI.reference,
    "iri": _IRI.absolute,
    "iri-reference": _IRI.reference,
    "uuid": _uuid,
    "uri-template": _uri_template,
    "json-pointer": lambda: _POINTER,
    "relative-json-pointer": _relative_pointer,
    "regex": _pattern,
}

KNOWN: Final[frozenset[str]] = frozenset(_BUILDERS)
"""The formats that a draft from 4 on defines."""


_COUNTED: Final[dict[str, _Builder]] = {
    "idn-email": lambda: _idn_email(long=False),
    "idn-hostname": lambda: idn_hostname(long=False),
}
"""The same with fewer states, for formats that have many."""


@lru_cache(maxsize=64)
def format_expr(
    name: str, *, idna: bool = True, zone: bool = True, counted: bool = False
) -> Expr | None:
    """The texts of a format, over code points; ``None`` for a name that no draft defines.

    Args:
        name: the value of ``format``.
        idna: whether host names follow IDNA, as drafts from 7 on say; before, any label will do.
        zone: whether a time has an offset; in draft 3 it is ``hh:mm:ss`` alone.
        counted: whether characters are counted beside; what has too many states for that is less.
    """
    if name == "time" and not zone:
        return _plain_time()
    if name == "hostname" and not idna:
        return _hostname(idna=False)
    builder = _COUNTED.get(name) if counted else None
    builder = builder or _BUILDERS.get(name)
    return None if builder is None else builder()
