"""Schemas as OpenAI's strict mode takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MAPS: Final = ("properties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE: Final = ("items",)


class _OptionalKeys(Exception):  # noqa: N818 - no error: the schema is sent without strictness
    """Raised where an object may lack a key, or have others."""


def strict_form(schema: Any) -> Any:
    """A schema without ``default``; ``None`` if strict mode refuses its objects.

    Strict mode wants objects that have all keys that they name, and no others.
    """
    try:
        return _strict(schema)
    except _OptionalKeys:
        return None


def _strict(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    out = {key: value for key, value in schema.items() if key != "default"}
    if _is_object(out) and not _is_fixed(out):
        raise _OptionalKeys
    for key in _MAPS:
        if isinstance(out.get(key), Mapping):
            out[key] = {name: _strict(item) for name, item in out[key].items()}
    for key in _LISTS:
        if isinstance(out.get(key), list):
            out[key] = [_strict(item) for item in out[key]]
    for key in _SINGLE:
        if key in out:
            out[key] = _strict(out[key])
    return out


def _is_object(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type")
    named = "object" in kinds if isinstance(kinds, list) else kinds == "object"
    return named or "properties" in schema or "additionalProperties" in schema


def _is_fixed(schema: Mapping[str, Any]) -> bool:
    """Whether an object has all keys that it names, and no others."""
    names, required = schema.get("properties", {}), schema.get("required", [])
    return schema.get("additionalProperties") is False and set(names) == set(required)
