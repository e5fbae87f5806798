"""Listed values (``Literal``, ``Enum``): those that pydantic finds by a value of JSON, or by a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, TypeAlias, cast

from pydantic_core import CoreSchema, SchemaValidator, ValidationError

Core: TypeAlias = dict[str, Any]


def validator_of(core: Core, config: dict[str, Any] | None = None) -> SchemaValidator:
    """Pydantic's validator of a core schema."""
    return SchemaValidator(cast(CoreSchema, core), cast(Any, config or None))


def json_values(core: Core) -> Iterator[str | int | float | bool | None]:
    """Scalars that are read as one of the members each."""
    validator = validator_of(_bare(core))
    for value in _values(core):
        plain = plain_value(value)
        if isinstance(plain, str | int | float | bool | None) and _is_valid(
            validator, json.dumps(plain)
        ):
            yield plain


def json_keys(core: Core) -> Iterator[str]:
    """Keys of objects that are read as one of the members each."""
    validator = validator_of({"type": "dict", "keys_schema": _bare(core)})
    for value in _values(core):
        plain = plain_value(value)
        word = plain if isinstance(plain, str) else json.dumps(plain, default=str)
        if _is_valid(validator, json.dumps({word: None})):
            yield word


def plain_value(value: Any) -> Any:
    """The value of a member, without the class that people derived from ``str``, ``int``, ``float``."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _values(core: Core) -> list[Any]:
    values: list[Any] = core["members" if core["type"] == "enum" else "expected"]
    return values


def _bare(core: Core) -> Core:
    return {k: v for k, v in core.items() if k not in ("metadata", "serialization", "ref")}


def _is_valid(validator: SchemaValidator, written: str) -> bool:
    try:
        validator.validate_json(written)
    except ValidationError:
        return False
    return True
