"""Strings of types that are one string each: ``str``, ``bytes``, dates, UUIDs, URLs, by core schema."""

from __future__ import annotations

import re
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends.regex.python import regex_search_to_expr
from grammars.frontends.types import networks, temporal, textual
from grammars.frontends.types.places import Place, Unkept
from grammars.frontends.types.rust_regex import rust_search_to_expr
from grammars.ir import ANY_CHAR, Expr, both, repeat

TYPES: Final = frozenset(
    ["str", "bytes", "date", "time", "datetime", "timedelta", "uuid", "url", "multi-host-url"]
)


def content(core: dict[str, Any], place: Place, unkept: Unkept) -> Expr:
    """The strings that pydantic reads as a value of such a type.

    Raises:
        GrammarError: for a constraint that is not translated, with the place.
    """
    match core["type"]:
        case "str":
            return _string(core, place)
        case "bytes":
            return _bytes(core, place)
        case "date" | "datetime":
            _note_now(core, place, unkept)
            read = temporal.dates if core["type"] == "date" else temporal.datetimes
            return read(core)
        case "time":
            return temporal.times(core)
        case "timedelta":
            if core.get("multiple_of") is not None:
                unkept.note(place, f"timedelta multiple_of {core['multiple_of']!r}")
            return temporal.timedeltas(core)
        case "uuid":
            return textual.uuids(core.get("version"))
    made = networks.urls(core, several_hosts=core["type"] == "multi-host-url")
    return _of_length(made, 0, core.get("max_length"))


def _note_now(core: dict[str, Any], place: Place, unkept: Unkept) -> None:
    if core.get("now_op"):
        unkept.note(place, f"that the {core['type']} is in the {core['now_op']}, relative to now")


def length_of(core: dict[str, Any], place: Place) -> tuple[int, int | None]:
    """Bounds on the length of a string, by its schema and the configuration."""
    low = core.get("min_length", place.config.get("str_min_length"))
    return low or 0, core.get("max_length", place.config.get("str_max_length"))


def is_plain(core: dict[str, Any], place: Place) -> bool:
    """Whether any string of the right length will do."""
    if core.get("pattern") is not None or core.get("ascii_only"):
        return False
    return not (_strips(core, place) and length_of(core, place) != (0, None))


def _strips(core: dict[str, Any], place: Place) -> bool:
    return bool(core.get("strip_whitespace", place.config.get("str_strip_whitespace")))


def _string(core: dict[str, Any], place: Place) -> Expr:
    low, high = length_of(core, place)
    parts = [textual.ANY_TEXT]
    if core.get("pattern") is not None:
        parts.append(_pattern(core, place))
    if _strips(core, place) and (len(parts) > 1 or low or high is not None):
        parts.append(textual.stripped())
    if core.get("ascii_only"):
        parts.append(textual.ascii_text())
    return _of_length(both(*parts), low, high)


def _of_length(expr: Expr, low: int, high: int | None) -> Expr:
    return both(expr, repeat(ANY_CHAR, low, high)) if low or high is not None else expr


def _pattern(core: dict[str, Any], place: Place) -> Expr:
    pattern = core["pattern"]
    engine = core.get("regex_engine", place.config.get("regex_engine", "rust-regex"))
    try:
        if isinstance(pattern, re.Pattern):
            return regex_search_to_expr(pattern.pattern, pattern.flags & ~re.UNICODE)
        return (
            rust_search_to_expr(pattern)
            if engine == "rust-regex"
            else regex_search_to_expr(pattern)
        )
    except GrammarError as error:
        column = f", column {error.column}" if error.column else ""
        raise place.error(f"in the pattern {pattern!r}{column}: {error.message}") from None


def _bytes(core: dict[str, Any], place: Place) -> Expr:
    low, high = core.get("min_length") or 0, core.get("max_length")
    match place.config.get("val_json_bytes"):
        case "base64":
            return textual.base64(low, high, url=True)
        case "hex":
            return textual.hexadecimal(low, high)
    if high is None:  # a character has at least one byte
        return _of_length(textual.ANY_TEXT, low, None)
    return _of_length(textual.ascii_text(), low, high)
