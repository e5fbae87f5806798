"""Whether one given value meets assertions: what ``enum`` and ``const`` keep of their values."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from grammars.frontends.json_schema.assertions import (
    Arrays,
    Branch,
    Numbers,
    Objects,
    Places,
    Strings,
    identity,
)

Meets = Callable[[Places, Any], bool]
"""Asks the same of subschemas."""

Matches = Callable[[str, str], bool]
"""(pattern, text) -> whether the pattern is found in the text."""


def type_of(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def satisfies(branch: Branch, value: Any, meets: Meets, matches: Matches) -> bool:
    """Whether a value belongs to a branch."""
    if branch.values is not None:
        wanted = identity(value)
        if not any(identity(v) == wanted for v in branch.values):
            return False
    kind = type_of(value)
    if kind not in branch.types:
        return False
    match kind:
        case "number":
            return _number(branch.numbers, value)
        case "string":
            return _string(branch.strings, value, matches)
        case "array":
            return _array(branch.arrays, value, meets)
        case "object":
            return _object(branch.objects, value, meets)
    return True


def _number(numbers: Numbers, value: int | Decimal) -> bool:
    low, high, step = numbers.low, numbers.high, numbers.step
    if low and (value < low.value or (low.strict and value == low.value)):
        return False
    if high and (value > high.value or (high.strict and value == high.value)):
        return False
    return step is None or (Fraction(value) / step).denominator == 1


def _string(strings: Strings, value: str, matches: Matches) -> bool:
    long_enough = strings.low <= len(value)
    short_enough = strings.high is None or len(value) <= strings.high
    return (
        long_enough
        and short_enough
        and all(matches(pattern, value) for pattern, _ in strings.patterns)
    )


def _array(arrays: Arrays, value: list[Any], meets: Meets) -> bool:
    if len(value) < arrays.low or (arrays.high is not None and len(value) > arrays.high):
        return False
    return all(meets(arrays.item(i), item) for i, item in enumerate(value))


def _object(objects: Objects, value: dict[str, Any], meets: Meets) -> bool:
    if any(name not in value for name in objects.required):
        return False
    return all(meets(objects.value(name), item) for name, item in value.items())
