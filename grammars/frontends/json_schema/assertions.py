"""What a schema says, by type, and how two statements combine.

Every class is a conjunction of constraints on values of one type and says nothing about others;
``&`` is conjunction.  A :class:`Branch` puts them together with the set of types that are allowed.
Places (JSON pointers) stand for subschemas; several of them mean all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from math import ceil, gcd, lcm
from typing import Any, Final, TypeAlias

Places: TypeAlias = tuple[str, ...]
"""Subschemas that all apply; the empty tuple allows anything."""

TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
ALL_TYPES: Final = frozenset(TYPES)


def join(*groups: Places) -> Places:
    """All places of all groups, each once."""
    return tuple(dict.fromkeys(place for group in groups for place in group))


@dataclass(frozen=True)
class Bound:
    """A limit on numbers; ``strict`` excludes the value itself."""

    value: Decimal
    strict: bool = False


@dataclass(frozen=True)
class Numbers:
    """Constraints on numbers: ``low``, ``high``, and a step they are multiples of."""

    low: Bound | None = None
    high: Bound | None = None
    step: Fraction | None = None

    def __and__(self, other: Numbers) -> Numbers:
        return Numbers(
            _tighter(self.low, other.low, 1),
            _tighter(self.high, other.high, -1),
            _common_step(self.step, other.step),
        )

    @property
    def is_free(self) -> bool:
        return self == Numbers()

    @property
    def is_empty(self) -> bool:
        if self.low is None or self.high is None:
            return False
        if self.low.value == self.high.value:
            return self.low.strict or self.high.strict
        return self.low.value > self.high.value or self._between_steps()

    def _between_steps(self) -> bool:
        """Whether no multiple of the step lies within the bounds."""
        if self.step is None or self.low is None or self.high is None:
            return False
        first = ceil(Fraction(self.low.value) / self.step)
        if self.low.strict and first * self.step == Fraction(self.low.value):
            first += 1
        high = Fraction(self.high.value)
        return first * self.step > high or (self.high.strict and first * self.step == high)


def _tighter(a: Bound | None, b: Bound | None, sign: int) -> Bound | None:
    if a is None or b is None:
        return a or b
    if a.value == b.value:
        return Bound(a.value, a.strict or b.strict)
    return max(a, b, key=lambda bound: sign * bound.value)


def _common_step(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    if a is None or b is None:
        return a or b
    return Fraction(lcm(a.numerator, b.numerator), gcd(a.denominator, b.denominator))


@dataclass(frozen=True)
class Strings:
    """Constraints on strings: length in code points, patterns with their places."""

    low: int = 0
    high: int | None = None
    patterns: tuple[tuple[str, str], ...] = ()

    def __and__(self, other: Strings) -> Strings:
        return Strings(
            max(self.low, other.low),
            _least(self.high, other.high),
            tuple(dict.fromkeys(self.patterns + other.patterns)),
        )

    @property
    def is_empty(self) -> bool:
        return self.high is not None and self.low > self.high


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


@dataclass(frozen=True)
class Arrays:
    """Constraints on arrays: the first items one by one, the rest, the length."""

    prefix: tuple[Places, ...] = ()
    rest: Places = ()
    low: int = 0
    high: int | None = None

    def __and__(self, other: Arrays) -> Arrays:
        length = max(len(self.prefix), len(other.prefix))
        return Arrays(
            tuple(join(self.item(i), other.item(i)) for i in range(length)),
            join(self.rest, other.rest),
            max(self.low, other.low),
            _least(self.high, other.high),
        )

    def item(self, index: int) -> Places:
        return self.prefix[index] if index < len(self.prefix) else self.rest

    @property
    def is_empty(self) -> bool:
        return self.high is not None and self.low > self.high


@dataclass(frozen=True)
class Objects:
    """Constraints on objects: named properties in order, other keys, required keys."""

    properties: tuple[tuple[str, Places], ...] = ()
    others: Places = ()
    required: tuple[str, ...] = ()

    def __and__(self, other: Objects) -> Objects:
        mine, theirs = dict(self.properties), dict(other.properties)
        names = dict.fromkeys((*mine, *theirs))
        merged = tuple(
            (name, join(mine.get(name, self.others), theirs.get(name, other.others)))
            for name in names
        )
        return Objects(
            merged,
            join(self.others, other.others),
            tuple(dict.fromkeys(self.required + other.required)),
        )

    def value(self, name: str) -> Places:
        return dict(self.properties).get(name, self.others)


@dataclass(frozen=True)
class Branch:
    """One alternative of what a schema allows.

    Attributes:
        types: the types that are allowed, ``"integer"`` being numbers with step 1.
        values: if not ``None``, the value is one of these (``enum``, ``const``).
        sources: the places that said something, for messages.
    """

    types: frozenset[str] = ALL_TYPES
    numbers: Numbers = field(default_factory=Numbers)
    strings: Strings = field(default_factory=Strings)
    arrays: Arrays = field(default_factory=Arrays)
    objects: Objects = field(default_factory=Objects)
    values: tuple[Any, ...] | None = None
    sources: Places = ()

    def __and__(self, other: Branch) -> Branch:
        return Branch(
            self.types & other.types,
            self.numbers & other.numbers,
            self.strings & other.strings,
            self.arrays & other.arrays,
            self.objects & other.objects,
            _common(self.values, other.values),
            join(self.sources, other.sources),
        )

    def without(self, kind: str) -> Branch:
        return replace(self, types=self.types - {kind})


def _common(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if a is None or b is None:
        return b if a is None else a
    known = {identity(value) for value in b}
    return tuple(value for value in a if identity(value) in known)


def identity(value: Any) -> Any:
    """A hashable form that is equal exactly for equal JSON values (1 equals 1.0, not true)."""
    if isinstance(value, bool) or value is None:
        return ("literal", value)
    if isinstance(value, int | Decimal):
        return ("number", Fraction(value))
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(map(identity, value)))
    return ("object", frozenset((key, identity(item)) for key, item in value.items()))
