"""``oneOf``: what tells its alternatives apart, so that few have to be excluded from each other.

Two schemas that no value meets both of need not be excluded.  That is seen at a glance where they
allow different types or list different values, and where both name the values of a property (a
*tag*): if it is there, its value decides, and only where it may be left out are there rivals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from grammars.frontends.json_schema.assertions import (
    ALL_TYPES,
    NOTHING,
    All,
    Branch,
    Demands,
    Either,
    Formula,
    Leaf,
    Objects,
    One,
    Value,
    negation,
)

_MOST_TAGS: Final = 2
"""Tags that may be left out, one after the other."""
_OBJECT: Final = frozenset(["object"])


@dataclass(frozen=True)
class Profile:
    """What a schema says at a glance; it may say more.

    Attributes:
        types: types of its values.
        values: all its values, if it lists them.
        tags: values of properties that it lists, whether or not they have to be there.
        required: properties that objects must have.
        objects_only: it says nothing about values that are no objects, but for ``types``.
    """

    types: frozenset[str] = ALL_TYPES
    values: frozenset[Value] | None = None
    tags: dict[str, frozenset[Value]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    objects_only: bool = False

    @property
    def has_all_others(self) -> bool:
        """Whether every value that is no object meets the schema."""
        return self.objects_only and self.types == ALL_TYPES


def exactly_one(ways: Demands, profiles: Sequence[Profile], label: str) -> Formula:
    """The formula of ``oneOf``."""
    numbers = range(len(ways))
    overlaps = tuple(
        (i, j) for i, j in combinations(numbers, 2) if not _are_apart(profiles[i], profiles[j])
    )
    return _one(ways, profiles, overlaps, label, frozenset())


def _are_apart(a: Profile, b: Profile) -> bool:
    """Whether it is plain that no value meets both."""
    if a.types.isdisjoint(b.types):
        return True
    if a.values is not None and b.values is not None and a.values.isdisjoint(b.values):
        return True
    if a.types & b.types != _OBJECT:
        return False
    return any(_tells(name, a, b) and name in a.required & b.required for name in a.tags)


def _tells(name: str, a: Profile, b: Profile) -> bool:
    """Whether no value of a property meets both."""
    return name in a.tags and name in b.tags and a.tags[name].isdisjoint(b.tags[name])


def _one(
    ways: Demands,
    profiles: Sequence[Profile],
    overlaps: tuple[tuple[int, int], ...],
    label: str,
    used: frozenset[str],
) -> Formula:
    """Alternatives by the value of a tag if there is one, or each without its rivals."""
    tag = _best_tag(profiles, overlaps, used) if len(used) < _MOST_TAGS else None
    if tag is None:
        return One(ways, Either(tuple(_without_rivals(ways, overlaps))), overlaps)
    there = Leaf(Branch(types=_OBJECT, objects=Objects(required=(tag,))), f"{label} with {tag!r}")
    absent = Objects(properties=((tag, (NOTHING,)),))
    missing = Leaf(Branch(types=_OBJECT, objects=absent), f"{label} without {tag!r}")
    others = Leaf(Branch(types=ALL_TYPES - _OBJECT), f"{label}, no object")
    rest = tuple(p for p in overlaps if not _tells(tag, profiles[p[0]], profiles[p[1]]))
    out: list[Formula] = [All((there, way)) for way in _without_rivals(ways, rest)]
    without = [i for i, p in enumerate(profiles) if tag not in p.required and "object" in p.types]
    out += _among(without, missing, ways, profiles, overlaps, label, used | {tag})
    all_tags = frozenset(name for p in profiles for name in p.tags)
    free = [i for i, p in enumerate(profiles) if p.types != _OBJECT]
    if sum(profiles[i].has_all_others for i in free) < 2:
        out += _among(free, others, ways, profiles, overlaps, label, all_tags)
    return One(ways, Either(tuple(out)), overlaps, tagged=True)


def _among(
    numbers: list[int],
    where: Leaf,
    ways: Demands,
    profiles: Sequence[Profile],
    overlaps: tuple[tuple[int, int], ...],
    label: str,
    used: frozenset[str],
) -> list[Formula]:
    """Exactly one of some of the schemas, under a condition."""
    if not numbers:
        return []
    if len(numbers) == 1:
        return [All((where, ways[numbers[0]]))]
    place = {i: n for n, i in enumerate(numbers)}
    pairs = tuple((place[i], place[j]) for i, j in overlaps if i in place and j in place)
    kept = [profiles[i] for i in numbers]
    return [All((where, _one(tuple(ways[i] for i in numbers), kept, pairs, label, used)))]


def _best_tag(
    profiles: Sequence[Profile], overlaps: tuple[tuple[int, int], ...], used: frozenset[str]
) -> str | None:
    """The property that tells most of the overlapping pairs apart, half of them at least."""
    told: dict[str, int] = {}
    for i, j in overlaps:
        a, b = profiles[i], profiles[j]
        for name in a.tags:
            if name not in used and _tells(name, a, b):
                told[name] = told.get(name, 0) + 1
    best = max(told, key=lambda name: told[name], default=None)
    return best if best is not None and 2 * told[best] >= len(overlaps) else None


def _without_rivals(ways: Demands, overlaps: tuple[tuple[int, int], ...]) -> list[Formula]:
    rivals: list[list[int]] = [[] for _ in ways]
    for i, j in overlaps:
        rivals[i].append(j)
        rivals[j].append(i)
    return [
        All((way, *(negation(ways[j]) for j in mine))) if mine else way
        for way, mine in zip(ways, rivals, strict=True)
    ]
