"""Strings with a form of their own: UUIDs, encodings of bytes, sizes, patterns, mail addresses."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from grammars.frontends.json_schema.formats import format_expr
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    Expr,
    Machine,
    Ranges,
    alt,
    both,
    chars,
    minus,
    optional,
    repeat,
    seq,
    text,
)

DIGIT: Final = chars([(0x30, 0x39)])
_HEX: Final = chars([(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)])
ANY_TEXT: Final = repeat(ANY_CHAR)
WHITE_SPACE: Final[Ranges] = (
    (0x09, 0x0D),
    (0x20, 0x20),
    (0x85, 0x85),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
)
"""Unicode's White_Space, which pydantic strips."""


def known_format(name: str) -> Expr:
    """A format of JSON Schema, as an expression over code points."""
    expr = format_expr(name, idna=True)
    assert expr is not None
    return expr


def stripped() -> Expr:
    """Texts without blanks at either end."""
    blank = chars(WHITE_SPACE)
    return minus(ANY_TEXT, alt(seq(blank, ANY_TEXT), seq(ANY_TEXT, blank)))


def ascii_text() -> Expr:
    return repeat(chars([(0, 0x7F)]))


def uuids(version: int | None) -> Expr:
    """With hyphens, in digits of either case."""
    third, fourth = repeat(_HEX, 4, 4), repeat(_HEX, 4, 4)
    if version is not None:
        variant = chars([(0x38, 0x39), (0x41, 0x42), (0x61, 0x62)])
        third = seq(text(str(version)), repeat(_HEX, 3, 3))
        fourth = seq(variant, repeat(_HEX, 3, 3))
    hyphen = text("-")
    return seq(
        repeat(_HEX, 8, 8), hyphen, repeat(_HEX, 4, 4), hyphen, third, hyphen, fourth, hyphen,
        repeat(_HEX, 12, 12),
    )  # fmt: skip


def hexadecimal(low: int, high: int | None) -> Expr:
    """So many bytes, two digits each."""
    return repeat(seq(_HEX, _HEX), low, high)


# -- base64 ----------------------------------------------------------------------------------------

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _sextets(url: bool, multiple: int = 1) -> Expr:
    alphabet = _ALPHABET + ("-_" if url else "+/")
    return chars([(ord(c), ord(c)) for c in alphabet[::multiple]])


def base64(low: int, high: int | None, *, url: bool) -> Expr:
    """So many bytes in base64, padded, with no bit set that says nothing."""
    any_, four, sixteen = (_sextets(url, n) for n in (1, 4, 16))
    whole = seq(any_, any_, any_, any_)
    ends = (EPSILON, seq(any_, sixteen, text("==")), seq(any_, any_, four, text("=")))
    out: list[Expr] = []
    for more, end in enumerate(ends):
        least = max(0, -((more - low) // 3))
        most = None if high is None else (high - more) // 3
        if most is None or most >= least:
            out.append(seq(repeat(whole, least, most), end))
    return alt(*out)


@lru_cache(2)
def base64_of_text(*, url: bool) -> Expr:
    """Base64 of UTF-8: two automata in one, the bytes of characters and six bits of each letter."""
    alphabet = _ALPHABET + ("-_" if url else "+/")
    number: dict[tuple[str, str, int], int] = {}
    edges: list[tuple[tuple[int, int, int], ...]] = []
    accept: list[bool] = []
    todo: list[tuple[str, str, int]] = []

    def state(utf8: str, bits: str, phase: int) -> int:
        key = (utf8, bits, phase)
        if key not in number:
            number[key] = len(number)
            todo.append(key)
            edges.append(())
            accept.append(utf8 == "" and phase == 0)
        return number[key]

    state("", "", 0)
    while todo:
        key = todo.pop(0)
        utf8, bits, phase = key
        row: list[tuple[int, int, int]] = []
        if utf8 == "=":  # padding to come
            target = state("=", "", phase - 1) if phase > 1 else state("end", "", 0)
            edges[number[key]] = ((0x3D, 0x3D, target),)
            continue
        if utf8 == "end":
            accept[number[key]] = True
            continue
        for value, letter in enumerate(alphabet):
            after = bits + f"{value:06b}"
            following: str | None = utf8
            if len(after) >= 8:
                following = _utf8_step(utf8, int(after[:8], 2))
                after = after[8:]
            if following is not None:
                target = state(following, after, (phase + 1) % 4)
                row.append((ord(letter), ord(letter), target))
        if phase in (2, 3) and utf8 == "" and "1" not in bits:
            row.append((0x3D, 0x3D, state("=", "", 1) if phase == 2 else state("end", "", 0)))
        edges[number[key]] = tuple(sorted(row))
    return Machine(tuple(edges), tuple(accept))


def _utf8_step(state: str, byte: int) -> str | None:
    """What must follow a byte in UTF-8, as ranges of continuation bytes; ``None`` if it is wrong."""
    if state == "":
        if byte < 0x80:
            return ""
        for low, high, follow in _LEADS:
            if low <= byte <= high:
                return follow
        return None
    kind, rest = state[0], state[1:]
    low, high = _CONTINUATIONS[kind]
    return rest if low <= byte <= high else None


_CONTINUATIONS: Final = {
    "c": (0x80, 0xBF),
    "e": (0xA0, 0xBF),
    "s": (0x80, 0x9F),
    "f": (0x90, 0xBF),
    "t": (0x80, 0x8F),
}
_LEADS: Final = (
    (0xC2, 0xDF, "c"),
    (0xE0, 0xE0, "ec"),
    (0xE1, 0xEC, "cc"),
    (0xED, 0xED, "sc"),
    (0xEE, 0xEF, "cc"),
    (0xF0, 0xF0, "fcc"),
    (0xF1, 0xF3, "ccc"),
    (0xF4, 0xF4, "tcc"),
)


# -- sizes, patterns, addresses --------------------------------------------------------------------


def byte_sizes() -> Expr:
    """``10``, ``1.5GB``, ``20 MiB``."""
    number = seq(repeat(DIGIT, 1, 15), optional(seq(text("."), repeat(DIGIT, 1, 6))))
    units = ["B"] + [p + "B" for p in "KMGTPE"] + [p + "iB" for p in "KMGTPE"]
    units += [u.lower() for u in units] + ["kB"]
    unit = alt(*map(text, dict.fromkeys(units)))
    return seq(number, optional(seq(optional(text(" ")), unit)))


def colours() -> Expr:
    """``#a1b2c3``, ``#abc``."""
    return seq(text("#"), alt(repeat(_HEX, 3, 3), repeat(_HEX, 6, 6)))


_GROUP_DEPTH: Final = 3


@lru_cache(1)
def python_patterns() -> Expr:
    """Patterns that Python's ``re`` compiles: the usual syntax, groups three deep."""
    plain = [(c, c) for c in range(0x20, 0x7F) if chr(c) not in "\\^$.|?*+()[]{}"]
    letters = [(0xA1, 0xAC), (0xAE, 0x2FF)]
    escape = seq(text("\\"), chars([(ord(c), ord(c)) for c in "dDwWsS.^$|?*+()[]{}\\/-nrt"]))
    ranges = alt(text("a-z"), text("A-Z"), text("0-9"), text("a-f"), text("A-F"))
    member_chars = [(c, c) for c in range(0x21, 0x7F) if chr(c) not in "\\]^-[&~|"]
    member = alt(ranges, escape, chars([*member_chars, *letters]))
    class_ = seq(text("["), optional(text("^")), repeat(member, 1), text("]"))
    count = repeat(DIGIT, 1, 2)
    braces = seq(text("{"), alt(count, seq(count, text(","))), text("}"))
    quantifier = optional(seq(alt(text("*"), text("+"), text("?"), braces), optional(text("?"))))
    atom = alt(chars([*plain, *letters]), escape, class_, text("."))
    body: Expr = EPSILON
    for depth in range(_GROUP_DEPTH + 1):
        if depth:
            group = seq(text("("), optional(text("?:")), body, text(")"))
            items = alt(seq(atom, quantifier), seq(group, quantifier))
        else:
            items = seq(atom, quantifier)
        sequence = repeat(items)
        body = seq(sequence, repeat(seq(text("|"), sequence)))
    return seq(optional(text("^")), body, optional(text("$")))


def mail_addresses() -> Expr:
    """Addresses that email-validator takes without asking the network."""
    word = repeat(chars([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]), 1)
    local = seq(word, repeat(seq(chars([(ord(c), ord(c)) for c in ".+-"]), word)))
    inner = chars([(0x30, 0x39), (0x61, 0x7A)])
    label = seq(inner, repeat(inner, 0, 29))
    letters = repeat(chars([(0x61, 0x7A)]), 2, 12)
    special = ("arpa", "invalid", "local", "localhost", "onion", "test", "example")
    last = minus(letters, alt(*map(text, special)))
    domain = seq(label, text("."), repeat(seq(label, text(".")), 0, 3), last)
    return seq(both(local, repeat(ANY_CHAR, 1, 64)), text("@"), domain)
