"""Dates and times as pydantic reads them, with bounds.

Written are ``2024-01-31``, ``10:30``, ``10:30:15.5``, a date and a time with ``T`` or a blank
between them, and behind a time ``Z`` or an offset or nothing; durations in ISO 8601.  pydantic
compares a bound without an offset with what the clock shows, and one with an offset with the
instant; under the latter only UTC is written.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from grammars.frontends.json_schema.assertions import Bound, Numbers
from grammars.frontends.json_schema.formats import format_expr
from grammars.frontends.json_schema.numbers import number_expr
from grammars.ir import (
    EPSILON,
    NOTHING,
    Expr,
    alt,
    both,
    chars,
    optional,
    repeat,
    seq,
    text,
)
from grammars.limits import DEFAULT_LIMITS

_DIGIT: Final = chars([(0x30, 0x39)])
_T: Final = alt(text("T"), text(" "))
_FRACTION: Final = seq(text("."), repeat(_DIGIT, 1, 6))
_BOUND_KEYS: Final = ("ge", "gt", "le", "lt")
_ZULU: Final = alt(text("Z"), text("+00:00"))


def _two(low: int, high: int) -> Expr:
    return alt(*(text(f"{n:02}") for n in range(low, high + 1)))


_HOURS: Final = _two(0, 23)
_SIXTY: Final = _two(0, 59)
_OFFSET: Final = alt(text("Z"), seq(alt(text("+"), text("-")), _HOURS, text(":"), _SIXTY))
_CLOCK: Final = seq(_HOURS, text(":"), _SIXTY, text(":"), _SIXTY)
_SHORT_CLOCK: Final = seq(_HOURS, text(":"), _SIXTY)


def _days() -> Expr:
    """Days of the calendar from the year 1 on."""
    expr = format_expr("date", idna=True)
    assert expr is not None
    return expr


# -- dates -----------------------------------------------------------------------------------------


def dates(schema: dict[str, Any]) -> Expr:
    """``YYYY-MM-DD`` within the bounds."""
    parts = [_days()]
    for above, strict, bound in _bounds(schema):
        parts.append(_beyond(bound.isoformat(), above, strict, same=EPSILON, other=EPSILON))
    return both(*parts)


def _bounds(schema: dict[str, Any]) -> Iterator[tuple[bool, bool, Any]]:
    for key in _BOUND_KEYS:
        if schema.get(key) is not None:
            yield key in ("ge", "gt"), key in ("gt", "lt"), schema[key]


def _beyond(bound: str, above: bool, strict: bool, *, same: Expr, other: Expr) -> Expr:
    """Texts of the layout of ``bound`` that sort behind (before) it, then ``other``.

    Those equal to it have ``same`` behind them (without one, ``strict`` leaves them out).
    """
    ways: list[Expr] = []
    layout = [_DIGIT if c.isdigit() else (_T if c == "T" else text(c)) for c in bound]
    for i, c in enumerate(bound):
        if not c.isdigit():
            continue
        low, high = (int(c) + 1, 9) if above else (0, int(c) - 1)
        if low <= high:
            digit = chars([(0x30 + low, 0x30 + high)])
            ways.append(seq(*_written(bound[:i]), digit, *layout[i + 1 :], other))
    if same is not EPSILON or not strict:
        ways.append(seq(*_written(bound), same))
    return alt(*ways)


def _written(prefix: str) -> list[Expr]:
    return [_T if c == "T" else text(c) for c in prefix]


# -- times, and dates with times -------------------------------------------------------------------


def times(schema: dict[str, Any]) -> Expr:
    """``HH:MM``, ``HH:MM:SS``, ``HH:MM:SS.ffffff`` with an offset or none."""
    clock = alt(_SHORT_CLOCK, seq(_CLOCK, optional(_FRACTION)))
    return _with_zone(schema, clock, seq(_CLOCK, optional(_FRACTION)))


def datetimes(schema: dict[str, Any]) -> Expr:
    """A date and a time."""
    clock = alt(_SHORT_CLOCK, seq(_CLOCK, optional(_FRACTION)))
    return _with_zone(
        schema,
        seq(_days(), _T, clock),
        seq(_days(), _T, _CLOCK, optional(_FRACTION)),
    )


def _with_zone(schema: dict[str, Any], free: Expr, full: Expr) -> Expr:
    """The clock, ``full`` where it is compared with bounds, and what may stand behind it."""
    zone = _zones(schema.get("tz_constraint"))
    bounds = list(_bounds(schema))
    if not bounds:
        return seq(free, zone)
    clock = both(full, *(_clock_beyond(*bound) for bound in bounds))
    offsets = {_offset_of(bound) for _, _, bound in bounds}
    if offsets == {None}:
        return seq(clock, zone)
    behind: Expr = _ZULU
    if offsets == {datetime.timedelta(0)}:
        behind = optional(_ZULU)
    return both(seq(clock, behind), seq(full, zone))


def _offset_of(bound: Any) -> datetime.timedelta | None:
    offset: datetime.timedelta | None = bound.utcoffset()
    return offset


def _clock_beyond(above: bool, strict: bool, bound: Any) -> Expr:
    if _offset_of(bound):
        bound = _in_utc(bound)
    layout = "%Y-%m-%dT%H:%M:%S" if isinstance(bound, datetime.datetime) else "%H:%M:%S"
    written = bound.strftime(layout)
    if isinstance(bound, datetime.datetime):  # strftime drops zeros before years below 1000
        written = f"{bound.year:04}-{bound:%m-%dT%H:%M:%S}"
    second = Decimal(bound.microsecond).scaleb(-6)
    fraction = _fractions(Bound(second, strict), above)
    return _beyond(written, above, strict, same=fraction, other=optional(_FRACTION))


def _in_utc(bound: Any) -> Any:
    if isinstance(bound, datetime.datetime):
        return bound.astimezone(datetime.UTC)
    moved = datetime.datetime.combine(datetime.date(2000, 1, 2), bound) - bound.utcoffset()
    return moved.time()


def _fractions(bound: Bound, above: bool) -> Expr:
    """Fractions of a second, ``.5`` or nothing, on one side of a bound below 1."""
    digits = f"{bound.value:.6f}"[2:]
    out: list[Expr] = []
    for i, c in enumerate(digits):
        low, high = (int(c) + 1, 9) if above else (0, int(c) - 1)
        if low <= high:
            digit = chars([(0x30 + low, 0x30 + high)])
            out.append(seq(text("." + digits[:i]), digit, repeat(_DIGIT, 0, 5 - i)))
        if not above and i and int(digits[i:]):
            out.append(text("." + digits[:i]))  # cut short, so smaller
    whole = int(digits)
    if not above and whole:
        out.append(EPSILON)
    if not bound.strict:
        short = digits.rstrip("0")
        zeros = repeat(text("0"), 0, 6 - len(short))
        out.append(seq(text("." + short), zeros) if short else NOTHING)
        if not short:
            out += [EPSILON, seq(text("."), repeat(text("0"), 1, 6))]
    return alt(*out)


def _zones(constraint: Any) -> Expr:
    if constraint == "naive":
        return EPSILON
    if constraint == "aware":
        return _OFFSET
    if isinstance(constraint, int):
        sign, minutes = "-" if constraint < 0 else "+", abs(constraint) // 60
        named = text(f"{sign}{minutes // 60:02}:{minutes % 60:02}")
        return alt(text("Z"), named) if constraint == 0 else named
    return optional(_OFFSET)


# -- durations -------------------------------------------------------------------------------------

_MOST_DAYS: Final = 99_999_999
_UNITS: Final = (("D", _MOST_DAYS), ("H", 23), ("M", 59), ("S", 59))
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


def timedeltas(schema: dict[str, Any]) -> Expr:
    """ISO 8601: ``P3DT4H5M6.5S``, a minus sign before the ``P``; weeks, where there is no bound."""
    bounds = list(_bounds(schema))
    if not bounds:
        return _any_duration()
    plus, minus = [_canonical()], [_magnitude(0, True, True)]  # "-PT0S" is below zero to pydantic
    for above, strict, bound in bounds:
        size = bound // _MICROSECOND
        plus.append(_magnitude(size, above, strict))
        minus.append(_magnitude(-size, not above, strict))
    return alt(seq(text("P"), both(*plus)), seq(text("-P"), both(*minus)))


def _any_duration() -> Expr:
    def number(digits: int) -> Expr:
        return alt(text("0"), seq(chars([(0x31, 0x39)]), repeat(_DIGIT, 0, digits - 1)))

    seconds = seq(number(6), optional(_FRACTION), text("S"))
    minutes = seq(number(5), text("M"))
    hours = seq(number(4), text("H"))
    clock = seq(
        text("T"),
        alt(
            seq(hours, optional(minutes), optional(seconds)),
            seq(minutes, optional(seconds)),
            seconds,
        ),
    )
    days = alt(seq(number(8), text("D")), seq(number(7), text("W")))
    return seq(optional(text("-")), text("P"), alt(seq(days, optional(clock)), clock))


def _canonical() -> Expr:
    filled, _ = _from(0, None, True, False)
    return filled


def _magnitude(size: int, above: bool, strict: bool) -> Expr:
    """Durations (without sign) of at least or at most so many microseconds, in usual units."""
    if size < 0:
        return _canonical() if above else NOTHING
    seconds, micro = divmod(size, 10**6)
    parts = (seconds // 86_400, seconds // 3_600 % 24, seconds // 60 % 60, seconds % 60)
    if parts[0] > _MOST_DAYS:
        return NOTHING if above else _canonical()
    filled, _ = _from(0, (*parts, micro), above, strict)
    return filled


def _from(
    level: int, bound: tuple[int, ...] | None, above: bool, strict: bool
) -> tuple[Expr, bool]:
    """Units from one on, at least one of them, and whether none at all (zero) would do too."""
    unit, most = _UNITS[level]
    if unit == "S":
        return _seconds(bound, above, strict)
    anything, _ = _from(level + 1, None, True, False)
    glue = text("T") if unit == "D" else EPSILON
    rest_any = optional(seq(glue, anything))
    if bound is None:
        return alt(seq(_count(0, most), text(unit), rest_any), seq(glue, anything)), True
    here, (rest, zero) = bound[level], _from(level + 1, bound, above, strict)
    low, high = (here + 1, most) if above else (0, here - 1)
    ways = [seq(_count(low, high), text(unit), rest_any)]
    ways.append(seq(text(f"{here}{unit}"), optional(seq(glue, rest)) if zero else seq(glue, rest)))
    if here == 0:
        ways.append(seq(glue, rest))
    elif not above:
        ways.append(seq(glue, anything))
    return alt(*ways), zero if here == 0 else not above


def _seconds(bound: tuple[int, ...] | None, above: bool, strict: bool) -> tuple[Expr, bool]:
    shape = seq(_count(0, 59), optional(_FRACTION))
    if bound is None:
        return seq(shape, text("S")), True
    value = Decimal(bound[3]) + Decimal(bound[4]).scaleb(-6)
    limit = Bound(value, strict)
    numbers = Numbers(low=limit) if above else Numbers(high=limit)
    zero = (value == 0 and not strict) if above else (value > 0 or not strict)
    return seq(both(shape, number_expr(numbers, DEFAULT_LIMITS)), text("S")), zero


def _count(low: int, high: int) -> Expr:
    """Numbers in digits, without zeros before them."""
    if low > high:
        return NOTHING
    within = Numbers(Bound(Decimal(low)), Bound(Decimal(high)), whole=True)
    return both(number_expr(within, DEFAULT_LIMITS), repeat(_DIGIT, 1, 9))
