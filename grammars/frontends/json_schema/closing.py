"""Objects closed where a schema names keys: what is written has those keys and no others.

JSON Schema lets an object have any further key unless told otherwise.  Who writes the arguments of a tool
wants the declared ones.  Closing only ever narrows: what a closed schema describes, the schema does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = ("prefixItems", "anyOf", "oneOf", "allOf")
_SINGLE: Final = ("items", "additionalProperties", "additionalItems", "unevaluatedItems")
_NAMES_KEYS: Final = ("properties", "patternProperties")
_SAYS: Final = ("additionalProperties", "unevaluatedProperties")
_SAME_VALUE: Final = ("allOf", "anyOf", "oneOf")
_CONDITIONAL: Final = ("then", "else")


def closed(schema: Any) -> Any:
    """A schema whose objects have no other keys than those it names.

    An object is closed where the schema has ``properties`` or ``patternProperties`` and says nothing
    about other keys.  Required keys without a subschema get one that allows anything.  Where several
    subschemas speak of one object (``allOf``, ``if``, ``$ref`` beside ``properties``) it is closed to
    what they name together (``unevaluatedProperties``, in drafts 2019-09 and later).
    """
    return _Closer(frozenset(_shared_targets(schema))).value(schema)


class _Closer:
    """Closes subschemas.

    Args:
        shared: references whose targets speak of an object together with other subschemas.
    """

    def __init__(self, shared: frozenset[str]) -> None:
        self._shared = shared

    def value(self, schema: Any) -> Any:
        """A subschema that describes a value by itself."""
        if not isinstance(schema, Mapping):
            return schema
        out = self._inside(schema)
        if any(key in schema for key in _SAYS):
            return out
        if _speaks_with_others(schema) or schema.get("$ref") in self._shared:
            out["unevaluatedProperties"] = False
        elif any(key in schema for key in _NAMES_KEYS):
            _add_required(out)
            out["additionalProperties"] = False
        return out

    def _beside(self, schema: Any) -> Any:
        """A subschema that speaks of the same value as the one around it."""
        return self._inside(schema) if isinstance(schema, Mapping) else schema

    def _inside(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The same with the values below it closed."""
        out = dict(schema)
        same = self._beside if _speaks_with_others(schema) else self.value
        for key in _MAPS:
            if isinstance(out.get(key), Mapping):
                out[key] = {
                    name: self._beside(item)
                    if f"#/{key}/{name}" in self._shared
                    else self.value(item)
                    for name, item in out[key].items()
                }
        for key in (*_LISTS, "items"):
            if isinstance(out.get(key), list):
                reader = same if key in _SAME_VALUE else self.value
                out[key] = [reader(item) for item in out[key]]
        for key in _SINGLE:
            if isinstance(out.get(key), Mapping):
                out[key] = self.value(out[key])
        for key in _CONDITIONAL:
            if isinstance(out.get(key), Mapping):
                out[key] = self._beside(out[key])
        if isinstance(out.get("dependentSchemas"), Mapping):
            found = out["dependentSchemas"].items()
            out["dependentSchemas"] = {name: self._beside(item) for name, item in found}
        return out


def _speaks_with_others(schema: Mapping[str, Any]) -> bool:
    """Whether subschemas in several places name keys of the one object."""
    places: list[Any] = [schema] if any(key in schema for key in _NAMES_KEYS) else []
    allof = schema.get("allOf")
    places += allof if isinstance(allof, list) else []
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            places.append(schema[key])
    places += [schema[key] for key in (*_CONDITIONAL, "dependentSchemas", "$ref") if key in schema]
    return len(places) > 1


def _shared_targets(schema: Any) -> Iterator[str]:
    """References below subschemas that speak of an object together with others."""
    stack: list[tuple[Any, bool]] = [(schema, False)]
    while stack:
        node, beside = stack.pop()
        if isinstance(node, list):
            stack += [(item, beside) for item in node]
        elif isinstance(node, Mapping):
            several = _speaks_with_others(node)
            if (beside or several) and isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for key, item in node.items():
                same = key in _SAME_VALUE or key in _CONDITIONAL
                stack.append((item, same and (beside or several)))


def _add_required(schema: dict[str, Any]) -> None:
    """Gives required keys without a subschema one that allows anything."""
    required, properties = schema.get("required"), schema.get("properties", {})
    if not isinstance(required, list) or not isinstance(properties, Mapping):
        return
    missing = [name for name in required if isinstance(name, str) and name not in properties]
    if missing and "patternProperties" not in schema:
        schema["properties"] = {**properties, **dict.fromkeys(missing, True)}
