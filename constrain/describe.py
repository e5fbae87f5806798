"""What a prompt shows of a JSON Schema: what helps to answer, without what misleads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.sources.source import KEYWORD, LABELS

_MAPS: Final = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
)
_LISTS: Final = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_SINGLE: Final = frozenset(
    {
        "additionalItems", "additionalProperties", "contains", "else", "if", "items", "not",
        "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_CONDITIONS: Final = frozenset({"contains", "if", "not"})
_BOUNDS: Final = frozenset(
    {
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
        "maxLength",
    }
)  # fmt: skip
_NOISE: Final = frozenset(
    {"$schema", "$id", "id", "$comment", "$anchor", "$vocabulary", "default", "deprecated",
     "discriminator", "readOnly", "title", "writeOnly", KEYWORD,
     LABELS}
)  # fmt: skip
_FIRST: Final = (
    "description", "type", "enum", "const", "format", "properties", "required", "items"
)  # fmt: skip
"""The order in which people write keywords; pydantic sorts them by name."""
_DECIMAL: Final = "^(?!^[-+.]*$)"
"""How the patterns begin that pydantic writes for ``Decimal``."""


def describe_schema(schema: Any) -> str:
    """JSON Schema text for a prompt: structure without titles, bounds and bookkeeping.

    What stays: types, properties and their order, which are required, enums and constants,
    descriptions, formats, patterns, examples, numbers of items, how schemas are combined.  What goes,
    since the grammar keeps it anyway and small models copy it into their answers (30 or 130 for an
    age that has to be from 0 to 130): titles, bounds on numbers and lengths, defaults, ``$schema``,
    ``$id`` and the like, the patterns that pydantic writes for ``Decimal``, and
    ``additionalProperties`` where it is only true or false.  Under ``not``, ``if`` and ``contains`` bounds
    stay, since there they change what is meant.  Keywords come in the order in which people write
    them, properties in their own.

    Args:
        schema: a JSON Schema (dict, bool, or JSON text), or a Python type that pydantic knows.

    Returns:
        JSON on one line.

    Raises:
        GrammarError: if pydantic knows no schema for the type, or a text is not JSON.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise GrammarError(f"a JSON Schema of text must be JSON: {error}") from None
    elif not isinstance(schema, bool | Mapping):
        schema = _of_type(schema)
    return json.dumps(_shown(schema), ensure_ascii=False)


def _of_type(tp: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError
    from pydantic_core import SchemaError

    try:
        return TypeAdapter(tp).json_schema()
    except (PydanticUserError, SchemaError) as error:
        first = str(error).splitlines()[0]
        raise GrammarError(f"{tp!r} has no JSON Schema: {first}") from None


def _shown(schema: Any, *, exact: bool = False) -> Any:
    """A schema without what a prompt need not say.

    Args:
        schema: any value where a schema may stand.
        exact: whether bounds stay: where a schema is a condition or is negated.
    """
    if not isinstance(schema, Mapping):
        return schema
    kept = [k for k in schema if k not in _NOISE and (exact or not _left_out(k, schema[k]))]
    kept.sort(key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    return {key: _read(key, schema[key], exact or key in _CONDITIONS) for key in kept}


def _left_out(key: str, value: Any) -> bool:
    if key == "pattern":
        return isinstance(value, str) and value.startswith(_DECIMAL)
    if key in ("additionalProperties", "unevaluatedProperties"):
        return isinstance(value, bool)
    return key in _BOUNDS


def _read(key: str, value: Any, exact: bool) -> Any:
    """A keyword's value; where it holds schemas, they are shortened too."""
    if key in _MAPS and isinstance(value, Mapping):
        return {name: _shown(one, exact=exact) for name, one in value.items()}
    if key in _LISTS or key in _SINGLE:
        many = isinstance(value, list)
        return [_shown(one, exact=exact) for one in value] if many else _shown(value, exact=exact)
    return value
