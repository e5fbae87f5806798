"""Whether one given value meets demands: what ``enum`` and ``const`` keep of their values."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from grammars.frontends.json_schema.assertions import (
    Arrays,
    Branch,
    Demands,
    Lacks,
    Numbers,
    Objects,
    Region,
    Shape,
    Strings,
    Trait,
    Value,
    identity,
    type_of,
)

Finds = Callable[[Shape, str], bool]
"""Whether a string has a shape (its own negation aside)."""


class Judge:
    """Evaluates branches on values.

    Args:
        branches: the alternatives of demands.
        finds: decides patterns and formats.
    """

    def __init__(self, branches: Callable[[Demands], list[Branch]], finds: Finds) -> None:
        self._branches = branches
        self._finds = finds

    def meets(self, demands: Demands, value: Any) -> bool:
        """Whether a value meets all demands."""
        return not demands or any(self.belongs(b, value) for b in self._branches(demands))

    def belongs(self, branch: Branch, value: Any) -> bool:
        """Whether a value belongs to a branch."""
        if branch.values is not None and Value(value) not in branch.values:
            return False
        return self.allows(branch, value)

    def allows(self, branch: Branch, value: Any) -> bool:
        """The same for one of the values that the branch lists, if it lists any."""
        if branch.excluded and Value(value) in branch.excluded:
            return False
        kind = type_of(value)
        if kind not in branch.types:
            return False
        match kind:
            case "number":
                return _number(branch.numbers, value)
            case "string":
                return self._string(branch.strings, value)
            case "array":
                return self._array(branch.arrays, value)
            case "object":
                return self._object(branch.objects, value)
        return True

    def _string(self, strings: Strings, value: str) -> bool:
        if len(value) < strings.low or (strings.high is not None and len(value) > strings.high):
            return False
        return all(self._finds(shape, value) != shape.negated for shape in strings.shapes)

    def _array(self, arrays: Arrays, value: list[Any]) -> bool:
        if len(value) < arrays.low or (arrays.high is not None and len(value) > arrays.high):
            return False
        if arrays.unique is not None:
            distinct = len({identity(item) for item in value}) == len(value)
            if distinct != arrays.unique or arrays.clash:
                return False
        for one in arrays.contains:
            found = sum(self.meets(one.demands, item) for item in value[one.start :])
            if found < one.low or (one.high is not None and found > one.high):
                return False
        return all(self.meets(arrays.item(i), item) for i, item in enumerate(value))

    def _object(self, objects: Objects, value: dict[str, Any]) -> bool:
        if any(name not in value for name in objects.required):
            return False
        if len(value) < objects.low or (objects.high is not None and len(value) > objects.high):
            return False
        named = dict(objects.properties)
        if not all(self.meets(named.get(name, ()), item) for name, item in value.items()):
            return False
        for region, demands in objects.every:
            for name, item in value.items():
                if self.inside(region, name) and not self.meets(demands, item):
                    return False
        return all(
            any(self.inside(region, name) and self.meets(d, item) for name, item in value.items())
            for region, d in objects.some
        ) and all(
            need.allows(
                sum(not any(self._shows(trait, value) for trait in c) for c in need.clauses)
            )
            for need in objects.needs
        )

    def _shows(self, trait: Trait, value: dict[str, Any]) -> bool:
        if isinstance(trait, Lacks):
            return trait.name not in value
        keys = trait.keys
        if isinstance(keys, str):
            return keys in value and self.meets(trait.demands, value[keys])
        found = (item for name, item in value.items() if self.inside(keys, name))
        return any(self.meets(trait.demands, item) for item in found)

    def inside(self, region: Region, name: str) -> bool:
        """Whether a key is in a region."""
        if name in region.names:
            return False
        if any(self._finds(Shape("pattern", p, ""), name) for p in region.outside):
            return False
        found = all(self._finds(Shape("pattern", p, ""), name) for p in region.inside)
        return found and self.meets(region.key, name)


def _number(numbers: Numbers, value: int | Decimal) -> bool:
    low, high = numbers.low, numbers.high
    if low and (value < low.value or (low.strict and value == low.value)):
        return False
    if high and (value > high.value or (high.strict and value == high.value)):
        return False
    exact = Fraction(value)
    if numbers.step is not None and (exact / numbers.step).denominator != 1:
        return False
    return not any((exact / step).denominator == 1 for step in numbers.not_steps)
