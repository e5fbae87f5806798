"""Numbers as pydantic reads them: texts of ``int``, ``float``, ``Decimal``, ``Fraction``, ``complex``.

A JSON number becomes a double on its way to ``float``, and on its way to ``Decimal`` and
``Fraction`` too unless it is all digits.  So a bound is compared with the nearest double, and digits
of a decimal that a double does not hold are only written in a string.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any, Final

from grammars.frontends.json_schema.assertions import Bound, Numbers
from grammars.frontends.json_schema.numbers import number_expr
from grammars.ir import (
    ByteSet,
    Expr,
    Literal,
    alt,
    both,
    optional,
    repeat,
    seq,
    text,
)
from grammars.limits import Limits

DIGIT: Final = ByteSet(((0x30, 0x39),))
NONZERO: Final = ByteSet(((0x31, 0x39),))
MINUS: Final = optional(Literal(b"-"))
SIGN: Final = optional(ByteSet(((0x2B, 0x2B), (0x2D, 0x2D))))
NATURAL: Final = alt(Literal(b"0"), seq(NONZERO, repeat(DIGIT)))
INTEGER: Final = alt(Literal(b"0"), seq(MINUS, NONZERO, repeat(DIGIT)))
FRACTION: Final = seq(Literal(b"."), repeat(DIGIT, 1))
PLAIN: Final = seq(MINUS, NATURAL, optional(FRACTION))
_MARK: Final = ByteSet(((0x45, 0x45), (0x65, 0x65)))
_MOST_WHOLE: Final = 300
"""Digits before the point, so that the number stays below the largest double."""
_SAFE_DIGITS: Final = 15
"""Significant digits that a double holds, whatever they are."""
_EXPONENT: Final = seq(
    _MARK,
    alt(
        seq(SIGN, repeat(Literal(b"0")), repeat(DIGIT, 1, 2)),
        seq(SIGN, repeat(Literal(b"0")), ByteSet(((0x31, 0x32),)), DIGIT, DIGIT),
        seq(Literal(b"-"), repeat(DIGIT, 1)),
    ),
)
"""At most 299, so that a digit with it stays below the largest double."""
_SHORT_NATURAL: Final = alt(Literal(b"0"), seq(NONZERO, repeat(DIGIT, 0, 16)))
FINITE: Final = seq(
    MINUS,
    alt(
        Literal(b"0"),
        seq(NONZERO, repeat(DIGIT, 0, _MOST_WHOLE - 1)),
        seq(_SHORT_NATURAL, FRACTION),
        seq(alt(Literal(b"0"), NONZERO), optional(FRACTION), _EXPONENT),
    ),
)
"""Numbers that are neither infinite as a double nor longer than people write them."""


_SHORTEST: Final = seq(
    MINUS,
    NATURAL,
    optional(seq(Literal(b"."), alt(Literal(b"0"), seq(repeat(DIGIT), NONZERO)))),
    optional(seq(_MARK, SIGN, repeat(DIGIT, 1))),
)
"""Numbers without zeros at the end of a fraction, on which a model could go on and on."""


@dataclass(frozen=True)
class Range:
    """Bounds and a step, as exact numbers."""

    low: Bound | None = None
    high: Bound | None = None
    step: Fraction | None = None

    @property
    def is_free(self) -> bool:
        return self == Range()


def exact_range(schema: dict[str, Any]) -> Range:
    """The bounds of an ``int``, ``Decimal`` or ``Fraction``, as decimals that mean the same.

    A fraction that is no decimal is replaced by a decimal within the bounds, 40 digits near.
    """
    low = _tightest(schema, "ge", "gt", ROUND_CEILING, max)
    high = _tightest(schema, "le", "lt", ROUND_FLOOR, min)
    step = schema.get("multiple_of")
    return Range(low, high, None if step is None else abs(Fraction(step)))


def _tightest(schema: dict[str, Any], loose: str, strict: str, rounding: str, pick: Any) -> Any:
    found = []
    for key, is_strict in ((loose, False), (strict, True)):
        value = schema.get(key)
        if value is None or (isinstance(value, float | Decimal) and not _is_finite(value)):
            continue
        exact = Fraction(value)
        context = Context(prec=40 + len(str(abs(exact.numerator))), rounding=rounding)
        decimal = context.divide(Decimal(exact.numerator), Decimal(exact.denominator))
        same = Fraction(decimal) == exact
        found.append((exact, is_strict and same, Bound(decimal, is_strict and same)))
    if not found:
        return None
    sign = 1 if pick is max else -1
    return max(found, key=lambda one: (sign * one[0], one[1]))[2]


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def float_range(schema: dict[str, Any]) -> Range:
    """Bounds such that a decimal is within them exactly if the double nearest to it is."""
    low = high = None
    for key, strict in (("ge", False), ("gt", True)):
        value = schema.get(key)
        if value is not None and value != -math.inf:
            near = math.nextafter(float(value), math.inf) if strict else float(value)
            low = near if low is None else max(low, near)
    for key, strict in (("le", False), ("lt", True)):
        value = schema.get(key)
        if value is not None and value != math.inf:
            near = math.nextafter(float(value), -math.inf) if strict else float(value)
            high = near if high is None else min(high, near)
    step = schema.get("multiple_of")
    return Range(
        None if low is None else Bound(Decimal(repr(low))),
        None if high is None else Bound(Decimal(repr(high))),
        None if step is None else Fraction(repr(abs(float(step)))),
    )


def integers(within: Range, limits: Limits) -> Expr:
    """Integers in digits alone."""
    if within.is_free:
        return INTEGER
    numbers = Numbers(within.low, within.high, _whole_step(within.step), whole=True)
    return both(INTEGER, number_expr(numbers, limits))


def _whole_step(step: Fraction | None) -> Fraction:
    """The step of the integers among multiples of a step."""
    return Fraction(1) if step is None else Fraction(step.numerator)


def floats(within: Range, limits: Limits, *, finite: bool) -> Expr | None:
    """Numbers for a double; ``None`` where any JSON number will do."""
    if within.is_free:
        return both(FINITE, _SHORTEST) if finite else None
    parts = [number_expr(Numbers(within.low, within.high, within.step), limits), _SHORTEST]
    if finite or within.step is not None:
        parts.append(FINITE)
    if within.step is not None:
        parts.append(_plain(_digits_of_multiples(within.step), None))
    return both(*parts)


def _digits_of_multiples(step: Fraction) -> int:
    """Digits before the point for which the double next to a multiple counts as one.

    pydantic takes the remainder of two doubles, which may be 1e-9 off; half of that is used.
    """
    near = float(step)
    off = abs(Fraction(near) - step)
    for digits in range(_SAFE_DIGITS, 1, -1):
        most = 10**digits
        if off == 0 and most / step <= 1 << 53:
            return digits
        if most / step * off + Fraction(math.ulp(most)) / 2 <= Fraction(1, 2 * 10**9):
            return digits
    return 1


# -- decimals --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """How many digits a decimal may have: in all, and behind the point."""

    most: int | None = None
    places: int | None = None

    @property
    def is_free(self) -> bool:
        return self == Digits()


def decimal_number(digits: Digits, within: Range, limits: Limits) -> Expr:
    """JSON numbers for a decimal: any at all, or plain ones that come through a double unharmed."""
    if digits.is_free and within.is_free:
        return FINITE
    plain = both(_plain_of(digits), alt(INTEGER, _short()))
    return _within(plain, within, limits)


def decimal_text(digits: Digits, within: Range, limits: Limits) -> Expr:
    """Strings for a decimal, plain, or with an exponent where nothing is said about digits."""
    if digits.is_free and within.is_free:
        exponent = seq(_MARK, SIGN, repeat(DIGIT, 1, 3))
        return alt(PLAIN, seq(MINUS, NONZERO, optional(FRACTION), exponent))
    return _within(_plain_of(digits), within, limits)


def _within(plain: Expr, within: Range, limits: Limits) -> Expr:
    if within.is_free:
        return plain
    parts = [plain, number_expr(Numbers(within.low, within.high, within.step), limits)]
    if within.step is not None:
        parts.append(_short())  # the remainder is taken to 28 digits
    return both(*parts)


def _short() -> Expr:
    """Plain numbers of at most 15 digits."""
    ways = [_plain(whole, _SAFE_DIGITS - whole) for whole in range(1, _SAFE_DIGITS + 1)]
    return alt(*ways)


def _plain(whole: int | None, places: int | None) -> Expr:
    """Plain numbers with at most so many digits before and behind the point."""
    most = None if whole is None else whole - 1
    if whole == 0:
        front: Expr = Literal(b"0")
    else:
        front = alt(Literal(b"0"), seq(NONZERO, repeat(DIGIT, 0, most)))
    if places == 0:
        return seq(MINUS, front)
    if whole == 0:  # zero itself has a digit before the point
        some = seq(repeat(Literal(b"0")), NONZERO, repeat(DIGIT))
        return seq(MINUS, front, Literal(b"."), both(repeat(DIGIT, 1, places), some))
    return seq(MINUS, front, optional(seq(Literal(b"."), repeat(DIGIT, 1, places))))


def _plain_of(digits: Digits) -> Expr:
    most, places = digits.most, digits.places
    if most is None:
        return _plain(None, places)
    if places is not None:
        if places >= most:  # no digit before the point but a zero
            return _plain(0, most) if places > most else _plain(0, places)
        return _plain(most - places, places)
    return alt(*(_plain(whole, most - whole) for whole in range(most + 1)))


# -- fractions and complex numbers -----------------------------------------------------------------


def fraction_number(within: Range, limits: Limits) -> Expr:
    """JSON numbers for a fraction."""
    return FINITE if within.is_free else _within(alt(INTEGER, _short()), within, limits)


def fraction_text(within: Range, limits: Limits) -> Expr:
    """Strings for a fraction: ``-3/4``, ``1.5``; under bounds plain decimals only."""
    if within.is_free:
        return alt(PLAIN, seq(INTEGER, Literal(b"/"), NONZERO, repeat(DIGIT)))
    return _within(PLAIN, within, limits)


def complex_text() -> Expr:
    """Strings for a complex number: ``1``, ``2j``, ``1+2j``, with or without parentheses."""
    exponent = seq(_MARK, SIGN, repeat(DIGIT, 1, 2))
    number = seq(alt(_SHORT_NATURAL, seq(_SHORT_NATURAL, FRACTION)), optional(exponent))
    sign = ByteSet(((0x2B, 0x2B), (0x2D, 0x2D)))
    ways = alt(
        seq(MINUS, number),
        seq(MINUS, number, text("j")),
        seq(MINUS, number, sign, number, text("j")),
    )
    return alt(ways, seq(text("("), ways, text(")")))
