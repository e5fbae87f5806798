"""Addresses, networks and URLs as pydantic reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from grammars.frontends.types.textual import known_format
from grammars.ir import (
    EPSILON,
    Expr,
    alt,
    chars,
    minus,
    optional,
    repeat,
    seq,
    text,
)

_DIGIT: Final = chars([(0x30, 0x39)])
_HEX: Final = chars([(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)])
_LOWER: Final = chars([(0x61, 0x7A)])
_ALNUM: Final = chars([(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)])


def address(version: int) -> Expr:
    return known_format(f"ipv{version}")


def interface(version: int) -> Expr:
    """An address, with the length of its network or not."""
    return seq(address(version), optional(seq(text("/"), _lengths(32 if version == 4 else 128))))


def _lengths(most: int) -> Expr:
    return alt(*(text(str(n)) for n in range(most + 1)))


def network(version: int) -> Expr:
    """An address in which all bits beyond the length behind it are zero."""
    if version == 4:
        return alt(address(4), *(_network4(n) for n in range(33)))
    single = seq(address(6), optional(text("/128")))
    return alt(single, *(_network6(n) for n in range(128)))


def _network4(length: int) -> Expr:
    whole, bits = divmod(length, 8)
    octet = alt(*(text(str(n)) for n in range(256)))
    parts = [octet] * whole
    if bits:
        parts.append(alt(*(text(str(n)) for n in range(0, 256, 1 << (8 - bits)))))
    parts += [text("0")] * (4 - len(parts))
    dotted = seq(*(p if not i else seq(text("."), p) for i, p in enumerate(parts)))
    return seq(dotted, text(f"/{length}"))


def _network6(length: int) -> Expr:
    whole, bits = divmod(length, 16)
    groups = [repeat(_HEX, 1, 4)] * whole
    if bits:
        digits, rest = divmod(bits, 4)
        parts: list[Expr] = [repeat(_HEX, digits, digits)]
        if rest:
            parts.append(alt(*(text(f"{n:x}") for n in range(0, 16, 1 << (4 - rest)))))
        zeros = 4 - digits - bool(rest)
        groups.append(seq(*parts, text("0" * zeros)))
    written = seq(*(g if not i else seq(text(":"), g) for i, g in enumerate(groups)))
    end = "" if len(groups) == 8 else "::"
    return seq(written, text(f"{end}/{length}"))


# -- URLs ------------------------------------------------------------------------------------------
#
# What the URL standard reads without changing more than case: host names of letters, digits and
# inner hyphens (none that begins as Punycode does), whose last label begins with a letter so that it
# is no number; addresses; ports; paths, queries and fragments of what RFC 3986 allows.

_PCT: Final = seq(text("%"), _HEX, _HEX)


def _class(listed: str) -> Expr:
    return chars([(ord(c), ord(c)) for c in listed])


_NAME: Final = alt(_ALNUM, _class("-._~"))
_PATH_CHAR: Final = alt(_NAME, _class("!$&'()*+,;=:@"), _PCT)
_QUERY_CHAR: Final = alt(_PATH_CHAR, _class("/?"))
_PATH: Final = repeat(seq(text("/"), repeat(_PATH_CHAR)))
_TAIL: Final = seq(
    optional(seq(text("?"), repeat(_QUERY_CHAR))), optional(seq(text("#"), repeat(_QUERY_CHAR)))
)
_USER: Final = seq(
    repeat(alt(_NAME, _PCT), 1), optional(seq(text(":"), repeat(alt(_NAME, _PCT)))), text("@")
)


def _host() -> Expr:
    tail = seq(repeat(text("-"), 0, 1), _ALNUM)
    label = seq(_ALNUM, repeat(tail, 0, 30))
    letter = chars([(0x41, 0x5A), (0x61, 0x7A)])
    last = seq(letter, repeat(tail, 0, 30))
    names = seq(repeat(seq(label, text(".")), 0, 4), last)
    return alt(names, address(4), seq(text("["), address(6), text("]")))


def _port() -> Expr:
    nonzero = chars([(0x31, 0x39)])
    below = alt(text("0"), seq(nonzero, repeat(_DIGIT, 0, 3)))
    five = alt(
        seq(chars([(0x31, 0x35)]), repeat(_DIGIT, 4, 4)),
        seq(text("6"), chars([(0x30, 0x34)]), repeat(_DIGIT, 3, 3)),
        seq(text("65"), chars([(0x30, 0x34)]), repeat(_DIGIT, 2, 2)),
        seq(text("655"), chars([(0x30, 0x32)]), _DIGIT),
        seq(text("6553"), chars([(0x30, 0x35)])),
    )
    return seq(text(":"), alt(below, five))


def _schemes(allowed: Iterable[str] | None) -> Expr:
    if allowed is not None:
        return alt(*map(text, allowed))
    inner = alt(_LOWER, _DIGIT, _class("+.-"))
    return minus(seq(_LOWER, repeat(inner, 0, 15)), text("file"))


def urls(schema: dict[str, Any], *, several_hosts: bool = False) -> Expr:
    """``scheme://user:password@host:port/path?query#fragment``; ``file:///path`` where allowed."""
    allowed = schema.get("allowed_schemes")
    host = seq(_host(), optional(_port()))
    authority: Expr = seq(optional(_USER), host)
    if several_hosts:
        authority = seq(authority, repeat(seq(text(","), host)))
    ways: list[Expr] = []
    named = None if allowed is None else [s for s in allowed if s != "file"]
    if named != []:
        ways.append(seq(_schemes(named), text("://"), authority, _PATH, _TAIL))
    if allowed is None:
        special = alt(*map(text, ("http", "https", "ws", "wss", "ftp", "file")))
        scheme = minus(_schemes(None), special)
        ways.append(seq(scheme, text(":"), repeat(alt(_NAME, _class("@+:;,="), _PCT), 1)))
    if allowed is None or "file" in allowed:
        filled = seq(text("/"), repeat(alt(_NAME, _PCT), 1))
        ways.append(seq(text("file://"), repeat(filled, 1), _TAIL))
    return alt(*ways) if ways else EPSILON
