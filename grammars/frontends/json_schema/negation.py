"""The opposite of assertions, as alternatives.

A branch is "of these types, and if a number then ..., and if a string then ..., and ...", so its
opposite is "of another type, or a number and not ..., or ...".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from grammars.frontends.json_schema.assertions import (
    ALL_TYPES,
    NOTHING,
    All,
    Arrays,
    Bound,
    Branch,
    Contains,
    Demands,
    Either,
    Formula,
    Leaf,
    Not,
    Numbers,
    Objects,
    Region,
    Strings,
    Value,
    conjunction,
    negation,
    type_of,
)


def opposite(leaf: Leaf) -> Formula:
    """What is true exactly where the leaf's assertions are not."""
    branch = leaf.branch
    ways: list[Formula] = []

    def add(kind: str, parts: Iterator[Branch]) -> None:
        only = Branch(types=frozenset([kind]))
        ways.extend(Leaf(only & part, f"not {leaf.label}") for part in parts)

    if branch.types != ALL_TYPES:
        ways.append(Leaf(Branch(types=ALL_TYPES - branch.types), f"not {leaf.label}"))
    add("number", (Branch(numbers=n) for n in _numbers(branch.numbers)))
    add("string", (Branch(strings=s) for s in _strings(branch.strings)))
    add("array", (Branch(arrays=a) for a in _arrays(branch.arrays)))
    add("object", (Branch(objects=o) for o in _objects(branch.objects)))
    if branch.values is not None:
        ways.append(All(tuple(differs(v, leaf.label) for v in branch.values)))
    if branch.excluded:
        ways.append(
            Leaf(Branch(values=tuple(sorted(branch.excluded, key=repr))), f"not {leaf.label}")
        )
    return Either(tuple(ways))


def differs(value: Value, label: str) -> Formula:
    """Anything but one value."""
    data = value.data
    kind = type_of(data)
    name = f"not {label}"
    if kind not in ("array", "object"):
        return Leaf(Branch(excluded=frozenset([value])), name)
    ways: list[Formula] = [Leaf(Branch(types=ALL_TYPES - {kind}), name)]
    only = Branch(types=frozenset([kind]))
    if kind == "array":
        parts = [Branch(arrays=Arrays(high=len(data) - 1))] if data else []
        parts.append(Branch(arrays=Arrays(low=len(data) + 1)))
        for i, item in enumerate(data):
            other = (Not(_equals(item, label)),)
            parts.append(Branch(arrays=Arrays(prefix=((),) * i + (other,), low=i + 1)))
    else:
        outside = Region(names=frozenset(data))
        parts = [Branch(objects=Objects(some=((outside, ()),)))]
        for name_, item in data.items():
            absent, other = (NOTHING,), (Not(_equals(item, label)),)
            parts.append(Branch(objects=Objects(properties=((name_, absent),))))
            parts.append(Branch(objects=Objects(properties=((name_, other),), required=(name_,))))
    return Either((*ways, *(Leaf(only & part, name) for part in parts)))


def _equals(item: object, label: str) -> Formula:
    return Leaf(Branch(values=(Value(item),)), label)


def _not_all(demands: Demands) -> Demands:
    return (negation(conjunction(demands)),)


def _numbers(numbers: Numbers) -> Iterator[Numbers]:
    if numbers.low is not None:
        yield Numbers(high=_other_side(numbers.low))
    if numbers.high is not None:
        yield Numbers(low=_other_side(numbers.high))
    if numbers.step is not None:
        yield Numbers(not_steps=(numbers.step,))
    for step in numbers.not_steps:
        yield Numbers(step=step)


def _other_side(bound: Bound) -> Bound:
    return Bound(bound.value, not bound.strict)


def _strings(strings: Strings) -> Iterator[Strings]:
    if strings.low:
        yield Strings(high=strings.low - 1)
    if strings.high is not None:
        yield Strings(low=strings.high + 1)
    for shape in strings.shapes:
        yield Strings(shapes=(replace(shape, negated=not shape.negated),))


def _arrays(arrays: Arrays) -> Iterator[Arrays]:
    for i, demands in enumerate(arrays.prefix):
        if demands:
            yield Arrays(prefix=((),) * i + (_not_all(demands),), low=i + 1)
    if arrays.rest:
        yield Arrays(contains=(Contains(_not_all(arrays.rest), 1, None, len(arrays.prefix)),))
    if arrays.low:
        yield Arrays(high=arrays.low - 1)
    if arrays.high is not None:
        yield Arrays(low=arrays.high + 1)
    for one in arrays.contains:
        if one.low:
            yield Arrays(contains=(Contains(one.demands, 0, one.low - 1, one.start),))
        if one.high is not None:
            yield Arrays(contains=(Contains(one.demands, one.high + 1, None, one.start),))
    if arrays.unique is not None:
        yield Arrays(unique=not arrays.unique)


def _objects(objects: Objects) -> Iterator[Objects]:
    assert not objects.needs, "needs are made of formulas, not negated"
    for name, demands in objects.properties:
        if demands:
            yield Objects(properties=((name, _not_all(demands)),), required=(name,))
    for region, demands in objects.every:
        yield Objects(some=((region, _not_all(demands)),))
    for region, demands in objects.some:
        yield Objects(every=((region, _not_all(demands)),))
    for name in objects.required:
        yield Objects(properties=((name, (NOTHING,)),))
    if objects.low:
        yield Objects(high=objects.low - 1)
    if objects.high is not None:
        yield Objects(low=objects.high + 1)
