"""Decimal notations of the numbers in a range, or of the multiples of a step.

Without a numeric keyword a number is any JSON number (RFC 8259).  Under one it is written plainly
(``-12.50``) or in normalised scientific form (``1.25e+07``, one digit that is not 0 before the
point): comparing unbounded digits with unbounded exponents is not regular.  Multiples are written
plainly.  With a fraction or an exponent such a number is one that a double holds: at most 17 digits
stand before the point (more are never written for a double), and it is at most the largest double.
Integers may have any number of digits.

The *shortest* notations are what writers of JSON write: integers as digits alone, other numbers
without zeros at the end of a fraction (``16``, ``16.0``, ``16.5``, not ``16.50``) or in front of an
exponent (``1e+06``, ``1e6``, not ``1e006``), and zero without a sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from grammars.errors import LimitExceeded
from grammars.frontends.json_schema.assertions import Bound, Numbers, Spelled
from grammars.ir import (
    NOTHING,
    ByteSet,
    Expr,
    Literal,
    Machine,
    Not,
    alt,
    both,
    minus,
    optional,
    repeat,
    seq,
)
from grammars.limits import Limits

DIGIT: Final = ByteSet(((0x30, 0x39),))
NONZERO: Final = ByteSet(((0x31, 0x39),))
POINT: Final = Literal(b".")
MINUS: Final = Literal(b"-")
ZEROS: Final = repeat(Literal(b"0"))
DIGITS: Final = repeat(DIGIT)
WHOLE: Final = alt(Literal(b"0"), seq(NONZERO, DIGITS))
FRACTION: Final = seq(POINT, repeat(DIGIT, 1))
ZERO_FRACTION: Final = seq(POINT, repeat(Literal(b"0"), 1))
MOST_BEFORE_POINT: Final = 17
_MARK: Final = ByteSet(((0x45, 0x45), (0x65, 0x65)))
_ANY_SIGN: Final = optional(ByteSet(((0x2B, 0x2B), (0x2D, 0x2D))))
_SHORT: Final = alt(Literal(b"0"), seq(NONZERO, repeat(DIGIT, 0, MOST_BEFORE_POINT - 1)))
_HUNDREDS: Final = alt(
    seq(ByteSet(((0x31, 0x32),)), DIGIT, DIGIT), seq(Literal(b"30"), ByteSet(((0x30, 0x37),)))
)
JSON_NUMBER: Final = seq(
    optional(MINUS), WHOLE, optional(FRACTION), optional(seq(_MARK, _ANY_SIGN, repeat(DIGIT, 1)))
)
"""Any number of RFC 8259, whether or not a double holds it."""
_LARGEST_DOUBLE: Final = Decimal("1.7976931348623157")
"""The leading digits of the largest double, which has the exponent 308."""
INTEGER: Final = alt(seq(optional(MINUS), WHOLE), seq(optional(MINUS), _SHORT, ZERO_FRACTION))
_DIGITS_ALONE: Final = seq(optional(MINUS), WHOLE)

_SHORT_INTEGER: Final = alt(Literal(b"0"), seq(optional(MINUS), NONZERO, DIGITS))
_SHORT_FRACTION: Final = seq(POINT, alt(Literal(b"0"), seq(DIGITS, NONZERO)))
_SHORT_EXPONENT: Final = alt(seq(optional(Literal(b"0")), NONZERO), seq(NONZERO, repeat(DIGIT, 1)))
_SHORT_NUMBER: Final = alt(
    seq(optional(MINUS), alt(seq(NONZERO, DIGITS), seq(NONZERO, DIGITS, _SHORT_FRACTION))),
    seq(optional(MINUS), Literal(b"0"), POINT, DIGITS, NONZERO),
    seq(Literal(b"0"), optional(Literal(b".0"))),
    seq(optional(MINUS), NONZERO, optional(_SHORT_FRACTION), _MARK, _ANY_SIGN, _SHORT_EXPONENT),
)


def number_expr(
    numbers: Numbers,
    limits: Limits,
    excluded: Iterable[int | Decimal] = (),
    *,
    shortest: bool = False,
) -> Expr:
    """The notations of the numbers that meet the constraints and are not excluded.

    Args:
        numbers: the constraints.
        limits: bounds on the size of remainders.
        excluded: values that are left out.
        shortest: only the shortest notations, where there is any constraint.
    """
    if numbers.is_empty:
        return NOTHING
    excluded = tuple(excluded)
    if numbers.spelling is not None:
        rest = replace(numbers, spelling=None)
        if rest.is_free and not excluded:
            return numbers.spelling
        return both(numbers.spelling, number_expr(rest, limits, excluded, shortest=shortest))
    if numbers.is_free and not excluded:
        return JSON_NUMBER
    out = _within(numbers, limits, shortest)
    for value in excluded:
        out = minus(out, equal_to(value))
    return out


def are_integers(numbers: Numbers) -> bool:
    """Whether all numbers that meet the constraints are integers."""
    return numbers.whole or (numbers.step is not None and numbers.step.denominator == 1)


def _within(numbers: Numbers, limits: Limits, shortest: bool) -> Expr:
    if shortest:
        shape = _SHORT_INTEGER if are_integers(numbers) else both(_held(), _SHORT_NUMBER)
    else:
        shape = _DIGITS_ALONE if numbers.whole else _held()
    free = numbers == Numbers(step=numbers.step, whole=numbers.whole)
    if free and numbers.step == 1:
        return shape if numbers.whole or shortest else INTEGER
    plain = numbers.step is not None or bool(numbers.not_steps)
    parts = [shape, _signed(numbers, scientific=not plain)]
    if numbers.step is not None:
        parts.append(_multiples(numbers.step, limits))
    return both(*parts, *(Not(_multiples(step, limits)) for step in numbers.not_steps))


@lru_cache(maxsize=1)
def _held() -> Expr:
    """Integers of any length, and notations of what a double holds without becoming infinite."""
    near = _plain_below(Bound(_LARGEST_DOUBLE))
    mantissa = seq(NONZERO, optional(FRACTION))
    plus = optional(Literal(b"+"))
    return seq(
        optional(MINUS),
        alt(
            WHOLE,
            seq(_SHORT, FRACTION),
            seq(_SHORT, optional(FRACTION), _MARK, _ANY_SIGN, ZEROS, DIGIT, optional(DIGIT)),
            seq(_SHORT, optional(FRACTION), _MARK, MINUS, ZEROS, repeat(DIGIT, 3, 3)),
            seq(mantissa, _MARK, plus, ZEROS, _HUNDREDS),
            seq(both(mantissa, near), _MARK, plus, ZEROS, Literal(b"308")),
        ),
    )


def shortest_notations(value: int | Decimal, *, whole: bool = False) -> Expr:
    """The shortest notations of one number, and its own if it was read from a text.

    Args:
        value: the number.
        whole: digits alone, for an integer.
    """
    number = Decimal(value)
    sign = "-" if number < 0 else ""
    digits, fraction = _digits_of(number)
    plain = f"{sign}{digits}.{fraction}" if fraction else f"{sign}{digits}"
    if whole:
        return NOTHING if fraction else _word(plain)
    words = [plain]
    power = number.adjusted()
    if number and not -4 <= power < 16:  # where writers of doubles begin to use exponents
        whole_digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
        rest = f".{whole_digits[1:]}" if len(whole_digits) > 1 else ""
        mantissa = f"{sign}{whole_digits[0]}{rest}"
        words += [f"{mantissa}e{power:+03d}", f"{mantissa}e{power:+d}", f"{mantissa}e{power}"]
    if isinstance(value, Spelled):
        words.append(value.text)
    return alt(*map(_word, dict.fromkeys(words)))


def equal_to(value: int | Decimal) -> Expr:
    """All notations of one number."""
    bound = Bound(Decimal(value))
    return _signed(Numbers(bound, bound), scientific=True)


def _signed(numbers: Numbers, *, scientific: bool) -> Expr:
    """Numbers without and with a minus sign, by the range of their magnitude."""
    low, high = numbers.low, numbers.high
    plain = _magnitudes(low, high, scientific)
    negative = _magnitudes(_negated(high), _negated(low), scientific)
    return alt(plain, seq(MINUS, negative))


def _negated(bound: Bound | None) -> Bound | None:
    # copy_negate, unlike minus, does not round to a context's precision
    return None if bound is None else Bound(bound.value.copy_negate(), bound.strict)


def _magnitudes(low: Bound | None, high: Bound | None, scientific: bool) -> Expr:
    """Notations without sign of the numbers from ``low`` to ``high`` that are at least 0."""
    if high is not None and (high.value < 0 or (high.value == 0 and high.strict)):
        return NOTHING
    if low is not None and (low.value < 0 or (low.value == 0 and not low.strict)):
        low = None
    forms = [_plain(low, high)]
    if scientific:
        forms.append(_scientific(low, high))
    return alt(*forms)


# -- plain decimals --------------------------------------------------------------------------------


def _plain(low: Bound | None, high: Bound | None) -> Expr:
    parts = [seq(WHOLE, optional(FRACTION))]
    if low is not None:
        parts.append(_plain_above(low))
    if high is not None:
        parts.append(_plain_below(high))
    return both(*parts) if len(parts) < 3 else both(*parts[1:])


def _digits_of(value: Decimal) -> tuple[str, str]:
    """Digits before and after the point, the latter without trailing zeros."""
    whole, _, fraction = format(value.copy_abs(), "f").partition(".")
    return whole, fraction.rstrip("0")


def _plain_above(bound: Bound) -> Expr:
    whole, fraction = _digits_of(bound.value)
    more = [seq(NONZERO, repeat(DIGIT, len(whole))), _larger(whole)]
    return alt(
        seq(alt(*more), optional(FRACTION)),
        seq(_word(whole), _fraction_above(fraction, bound.strict)),
    )


def _plain_below(bound: Bound) -> Expr:
    whole, fraction = _digits_of(bound.value)
    fewer = [_smaller(whole)]
    if len(whole) > 1:
        fewer += [Literal(b"0"), seq(NONZERO, repeat(DIGIT, 0, len(whole) - 2))]
    return alt(
        seq(alt(*fewer), optional(FRACTION)),
        seq(_word(whole), _fraction_below(fraction, bound.strict)),
    )


def _word(digits: str) -> Expr:
    return Literal(digits.encode())


def _between(low: int, high: int) -> Expr:
    if low > high:
        return NOTHING
    return ByteSet(((0x30 + low, 0x30 + high),))


def _larger(digits: str) -> Expr:
    """Digit strings of the same length, as written without leading zeros, that are larger."""
    ways = []
    for i, digit in enumerate(digits):
        rest = len(digits) - i - 1
        ways.append(seq(_word(digits[:i]), _between(int(digit) + 1, 9), repeat(DIGIT, rest, rest)))
    return alt(*ways)


def _smaller(digits: str) -> Expr:
    """The same for smaller ones."""
    ways = []
    for i, digit in enumerate(digits):
        rest = len(digits) - i - 1
        least = 1 if i == 0 and len(digits) > 1 else 0
        ways.append(
            seq(_word(digits[:i]), _between(least, int(digit) - 1), repeat(DIGIT, rest, rest))
        )
    return alt(*ways)


def _fraction_above(digits: str, strict: bool) -> Expr:
    """What may follow equal digits before the point so that the number is above."""
    if not digits:
        if not strict:
            return optional(FRACTION)
        return seq(POINT, ZEROS, NONZERO, DIGITS)
    ways = [
        seq(_word(digits[:i]), _between(int(digit) + 1, 9), DIGITS)
        for i, digit in enumerate(digits)
    ]
    tail = seq(ZEROS, NONZERO, DIGITS) if strict else DIGITS
    return seq(POINT, alt(*ways, seq(_word(digits), tail)))


def _fraction_below(digits: str, strict: bool) -> Expr:
    """The same for below."""
    if not digits:
        return NOTHING if strict else optional(ZERO_FRACTION)
    ways: list[Expr] = []
    for i, digit in enumerate(digits):
        ways.append(seq(_word(digits[:i]), _between(0, int(digit) - 1), DIGITS))
        if i:
            ways.append(_word(digits[:i]))
    if not strict:
        ways.append(seq(_word(digits), ZEROS))
    return optional(seq(POINT, alt(*ways)))


# -- scientific notation ---------------------------------------------------------------------------


def _scientific(low: Bound | None, high: Bound | None) -> Expr:
    mark = ByteSet(((0x45, 0x45), (0x65, 0x65)))
    mantissa = seq(NONZERO, optional(FRACTION))
    anything = seq(mantissa, mark, _any_exponent())
    parts: list[Expr] = []
    for bound, above in ((low, True), (high, False)):
        if bound is None:
            continue
        if bound.value == 0:  # every number so written is above 0
            parts.append(anything if above else NOTHING)
            continue
        power = bound.value.adjusted()
        leading = Bound(_leading(bound.value), bound.strict)
        near = _plain_above(leading) if above else _plain_below(leading)
        parts.append(
            alt(
                seq(mantissa, mark, _exponent_beyond(power, above)),
                seq(both(mantissa, near), mark, _exponent_equal(power)),
            )
        )
    return both(*parts) if parts else anything


def _leading(value: Decimal) -> Decimal:
    """The digits of a number with the point behind the first one."""
    digits = value.as_tuple().digits
    return Decimal((0, digits, 1 - len(digits)))


_SIGN_PLUS: Final = optional(Literal(b"+"))


def _any_exponent() -> Expr:
    return seq(optional(ByteSet(((0x2B, 0x2B), (0x2D, 0x2D)))), repeat(DIGIT, 1))


def _exponent_equal(power: int) -> Expr:
    digits = seq(ZEROS, _word(str(abs(power))))
    if power == 0:
        return seq(optional(ByteSet(((0x2B, 0x2B), (0x2D, 0x2D)))), repeat(Literal(b"0"), 1))
    return seq(_SIGN_PLUS if power > 0 else MINUS, digits)


def _exponent_beyond(power: int, above: bool) -> Expr:
    """Exponents larger (or smaller) than ``power``."""
    positive = seq(_SIGN_PLUS, repeat(DIGIT, 1))
    negative = seq(MINUS, repeat(DIGIT, 1))
    size = str(abs(power))
    more = seq(ZEROS, alt(_larger(size), seq(NONZERO, repeat(DIGIT, len(size)))))
    fewer = seq(ZEROS, alt(_shorter(size), _smaller(size)))
    if above:
        if power >= 0:
            return seq(_SIGN_PLUS, more)
        return alt(positive, seq(MINUS, fewer))
    if power > 0:
        return alt(negative, seq(_SIGN_PLUS, fewer))
    return seq(MINUS, more)


def _shorter(digits: str) -> Expr:
    """Numbers with fewer digits, zeros in front left out (0 among them)."""
    if len(digits) == 1:
        return NOTHING
    return alt(Literal(b"0"), seq(NONZERO, repeat(DIGIT, 0, len(digits) - 2)))


# -- multiples -------------------------------------------------------------------------------------


def _multiples(step: Fraction, limits: Limits) -> Expr:
    """Plain notations of the multiples of a decimal step."""
    if step == 1:
        return INTEGER
    places = _decimal_places(step)
    modulus = int(step * 10**places)
    if modulus * (places + 1) > limits.max_dfa_states:
        raise LimitExceeded(
            "max_dfa_states",
            limits.max_dfa_states,
            "multipleOf with this step",
            instead="use a step with fewer digits",
        )
    shape = seq(optional(MINUS), WHOLE, optional(FRACTION))
    return both(shape, seq(optional(MINUS), _remainders(modulus, places)))


def _decimal_places(step: Fraction) -> int:
    places = 0
    while (step * 10**places).denominator != 1:
        places += 1
    return places


def _remainders(modulus: int, places: int) -> Expr:
    """Digits, perhaps a point and more, whose value times 10^places is a multiple of modulus.

    State (r, j): the digits so far, as an integer, leave r, and j of them are behind the point.
    """
    number = {(r, -1): r for r in range(modulus)}
    for j in range(places + 1):
        for r in range(modulus):
            number[r, j] = len(number)
    done = len(number)  # only zeros from here on
    edges: list[tuple[tuple[int, int, int], ...]] = []
    accept: list[bool] = []
    for r, j in number:
        behind = max(j, 0)
        whole = r * 10 ** (places - behind) % modulus == 0
        accept.append(whole and j != 0)
        row = []
        if j < places:
            nxt = -1 if j < 0 else j + 1
            row = [(0x30 + d, 0x30 + d, number[(10 * r + d) % modulus, nxt]) for d in range(10)]
        elif whole:
            row = [(0x30, 0x30, done)]
        if j < 0:
            row.append((0x2E, 0x2E, number[r, 0]))
        edges.append(tuple(row))
    edges.append(((0x30, 0x30, done),))
    accept.append(True)
    return Machine(tuple(edges), tuple(accept))
