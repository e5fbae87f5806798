"""Parameters of rules: a number of 64 bits, what a reference makes of it, and conditions on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

BITS: Final = 64
_ALL: Final = (1 << BITS) - 1


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits ``low`` to ``high - 1`` of the parameter; ``_`` is all of them."""

    low: int = 0
    high: int = BITS

    @property
    def ones(self) -> int:
        """The number whose bits are all set, of this width."""
        return (1 << (self.high - self.low)) - 1

    def of(self, value: int) -> int:
        """The bits as a number."""
        return value >> self.low & self.ones


@dataclass(frozen=True, slots=True)
class Argument:
    """What a rule is given: ``kind`` of the parameter of the rule that refers to it.

    Attributes:
        kind: ``constant``, ``same``, ``incr``, ``decr``, ``and`` or ``or``.
        value: the number of the kinds that have one.
        bits: the bits of ``incr`` and ``decr``.
    """

    kind: str
    value: int = 0
    bits: Bits = Bits()

    @property
    def depends(self) -> bool:
        """Whether the rule that refers must have a parameter itself."""
        return self.kind != "constant"

    def of(self, value: int) -> int:
        """The argument where the parameter has a value."""
        match self.kind:
            case "constant":
                return self.value
            case "incr":
                full = self.bits.of(value) == self.bits.ones
                return value if full else value + (1 << self.bits.low) & _ALL
            case "decr":
                return value if self.bits.of(value) == 0 else value - (1 << self.bits.low)
            case "and":
                return value & self.value
            case "or":
                return value | self.value
        return value


@dataclass(frozen=True, slots=True)
class Comparison:
    """Bits, or how many of them are set, compared with a number."""

    operator: str
    bits: Bits
    value: int
    counts: bool = False

    def holds(self, value: int) -> bool:
        found = self.bits.of(value)
        return COMPARISONS[self.operator](found.bit_count() if self.counts else found, self.value)


@dataclass(frozen=True, slots=True)
class Logic:
    """``and``, ``or``, ``not`` of conditions; ``and`` of none is true."""

    operator: str
    parts: tuple[Condition, ...]

    def holds(self, value: int) -> bool:
        found = [part.holds(value) for part in self.parts]
        if self.operator == "not":
            return not found[0]
        return all(found) if self.operator == "and" else any(found)


Condition: TypeAlias = Comparison | Logic

COMPARISONS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
TRUE: Final = Logic("and", ())
