"""Fields of models, dataclasses and typed dictionaries: the keys under which they are read.

A field may be read under several keys (aliases, its name) and from inside other values
(``AliasPath``).  A *spelling* of an object chooses one way for each field.  If there are many, only
those are written that use the first way of every field, or the second way of every field, and so
on.  Where pydantic would read a field of such an object from elsewhere, the spelling is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from grammars.frontends.types.places import Place

Schema: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str | int, ...]

_MOST_SPELLINGS: Final = 8
"""All combinations of aliases are written if there are no more than these."""


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes:
        paths: where pydantic looks for it, the first one first.
        schema: what its value must be.
        required: whether it has no default.
    """

    name: str
    paths: tuple[Path, ...]
    schema: Schema
    required: bool


@dataclass(frozen=True)
class Extra:
    """Keys that are no field's: ``None`` if there must not be any, else a schema of their values."""

    values: Schema | None = None
    keys: Schema | None = None


def paths_of(name: str, alias: Any, place: Place) -> tuple[Path, ...]:
    """Where pydantic looks for a field, under the configuration of a place."""
    if alias is None:
        return ((name,),)
    out: list[Path] = []
    if place.config.get("validate_by_alias", True):
        if isinstance(alias, str):
            out.append((alias,))
        elif alias and isinstance(alias[0], list):
            out += map(tuple, alias)
        else:
            out.append(tuple(alias))
    if place.config.get("validate_by_name") or place.config.get("populate_by_name"):
        out.append((name,))
    return tuple(dict.fromkeys(out))


def object_schema(fields: Sequence[Field], extra: Extra, place: Place) -> Schema:
    """The objects that have these fields.

    Raises:
        GrammarError: for a field that is only read from the end of a list.
    """
    usable = [_usable(one, place) for one in fields]
    spellings: list[Schema] = []
    for paths in _choices([one.paths for one in usable]):
        chosen = list(zip(usable, paths, strict=True))
        if _is_read_so(chosen):
            made = _spelling(chosen, usable, extra)
            if made not in spellings:
                spellings.append(made)
    if not spellings:
        raise place.error(
            "its aliases hide each other in every spelling; give each field one alias"
        )
    return spellings[0] if len(spellings) == 1 else {"anyOf": spellings}


def _choices(paths: Sequence[tuple[Path, ...]]) -> Iterator[Sequence[Path]]:
    """One path for each field, in every way if these are few."""
    if math.prod(map(len, paths)) <= _MOST_SPELLINGS:
        yield from itertools.product(*paths)
        return
    for i in range(max(map(len, paths))):
        yield [ways[min(i, len(ways) - 1)] for ways in paths]


def _usable(one: Field, place: Place) -> Field:
    paths = tuple(p for p in one.paths if all(isinstance(k, str) or k >= 0 for k in p))
    if not paths:
        raise place.below(f".{one.name}").error(
            f"an alias that counts from the end of a list ({one.paths[0]!r}) cannot be written; "
            "give the field another alias"
        )
    return Field(one.name, paths, one.schema, one.required)


def _is_read_so(chosen: Sequence[tuple[Field, Path]]) -> bool:
    """Whether pydantic finds each field where a spelling puts it, not under an earlier alias."""
    heads = {path[0] for _, path in chosen}
    return not any(
        earlier[0] in heads
        for one, path in chosen
        for earlier in one.paths[: one.paths.index(path)]
    )


@dataclass
class _Node:
    """What stands under a key: schemas of values that are read there, or more keys."""

    schemas: list[Schema] = field(default_factory=list)
    below: dict[str | int, _Node] = field(default_factory=dict)
    required: bool = False


def _spelling(
    chosen: Sequence[tuple[Field, Path]], fields: Sequence[Field], extra: Extra
) -> Schema:
    root = _Node()
    for one, path in chosen:
        node = root
        for key in path:
            node = node.below.setdefault(key, _Node())
            node.required |= one.required
        node.schemas.append(one.schema)
    readings = {path: one.schema for one in fields for path in one.paths}
    out = _keyed(root, (), readings)
    hidden = {path[0] for path in readings} - root.below.keys()
    out["additionalProperties"] = False if extra.values is None else extra.values
    if extra.values is not None:
        for key in sorted(map(str, hidden)):
            out["properties"][key] = False
        if extra.keys is not None:
            named = {"enum": sorted(out["properties"])}
            out["propertyNames"] = {"anyOf": [named, extra.keys]}
    return out


def _keyed(node: _Node, at: Path, readings: dict[Path, Schema]) -> Schema:
    """An object with the keys of a node."""
    out: Schema = {
        "type": "object",
        "properties": {
            str(key): _value(below, (*at, key), readings) for key, below in node.below.items()
        },
    }
    required = [str(key) for key, below in node.below.items() if below.required]
    if required:
        out["required"] = required
    elif at:  # an object that holds nothing would be a key that means nothing
        out["minProperties"] = 1
    if at:
        out["additionalProperties"] = False
    return out


def _value(node: _Node, at: Path, readings: dict[Path, Schema]) -> Schema:
    parts = list(node.schemas)
    if node.below:
        whole = all(isinstance(key, int) for key in node.below)
        parts.append(_listed(node, at, readings) if whole else _keyed(node, at, readings))
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _listed(node: _Node, at: Path, readings: dict[Path, Schema]) -> Schema:
    """A list that is as long as the fields in it need."""
    indices = sorted(key for key in node.below if isinstance(key, int))
    owed = [i for i in indices if node.below[i].required]
    items = []
    for i in range(indices[-1] + 1):
        below = node.below.get(i)
        if below is not None:
            items.append(_value(below, (*at, i), readings))
        else:
            items.append(readings.get((*at, i), {}))
    return {
        "type": "array",
        "prefixItems": items,
        "items": False,
        "minItems": (owed[-1] if owed else indices[0]) + 1,
    }


def tagged(choice: Schema, paths: Iterable[Path], tags: Sequence[Any]) -> Schema:
    """A choice of a union whose discriminator is there and has one of the tags."""
    ways = [
        {"required": [path[0]], "properties": {path[0]: {"enum": list(tags)}}}
        for path in paths
        if len(path) == 1
    ]
    return {"allOf": [choice, ways[0] if len(ways) == 1 else {"anyOf": ways}]}


def discriminator_paths(discriminator: Any) -> Iterator[Path]:
    """Where a discriminator is read."""
    if isinstance(discriminator, str):
        yield (discriminator,)
    elif discriminator and isinstance(discriminator[0], list):
        yield from map(tuple, discriminator)
    else:
        yield tuple(discriminator)
