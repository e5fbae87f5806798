"""Which keywords there are, draft by draft."""

from __future__ import annotations

from typing import Final

DRAFTS: Final = {
    "http://json-schema.org/draft-03/schema": 3,
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
"""Drafts by the URI of their meta-schemas; those of hyper-schemas stand for the same drafts."""

LATEST: Final = 2020

_FROM: Final = {
    "const": 6,
    "contains": 6,
    "propertyNames": 6,
    "if": 7,
    "then": 7,
    "else": 7,
    "dependentRequired": 2019,
    "dependentSchemas": 2019,
    "unevaluatedProperties": 2019,
    "unevaluatedItems": 2019,
    "minContains": 2019,
    "maxContains": 2019,
    "$recursiveRef": 2019,
    "$dynamicRef": 2020,
    "prefixItems": 2020,
}
"""The first draft that knows a keyword; those not listed are as old as draft 4.

A schema of draft 3 may use those of draft 4 as well: they would have no effect there, which nobody
who writes them means.
"""

_UNTIL: Final = {"$recursiveRef": 2019, "disallow": 3, "divisibleBy": 3, "extends": 3}
"""The last draft that knows a keyword."""

VALIDATION: Final = frozenset(
    [
        "type",
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "disallow",
        "divisibleBy",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
    ]
)
"""Keywords of the validation vocabulary, which a meta-schema of one's own may leave out."""

ANNOTATIONS: Final = frozenset(
    [
        "$comment",
        "$defs",
        "default",
        "definitions",
        "deprecated",
        "description",
        "example",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    ]
)
"""Keywords without effect on values (definitions have one only where they are referred to)."""

NAMING: Final = frozenset(
    [
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$id",
        "$recursiveAnchor",
        "$recursiveRef",
        "$schema",
        "id",
    ]
)
"""Keywords that tie a schema to its place."""

SUBSCHEMAS: Final = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
SUBSCHEMA_LISTS: Final = frozenset(
    ["allOf", "anyOf", "disallow", "extends", "items", "oneOf", "prefixItems", "type"]
)
"""Lists of schemas (in ``type`` and ``disallow`` beside names of types).

``items`` and the keywords of draft 3 may be one schema as well.
"""
SUBSCHEMA_MAPS: Final = frozenset(
    [
        "$defs",
        "definitions",
        "dependencies",
        "dependentSchemas",
        "patternProperties",
        "properties",
    ]
)


def applies(keyword: str, draft: int, *, declared: bool = True) -> bool:
    """Whether a keyword means anything in a draft; unknown ones are annotations.

    Args:
        keyword: the keyword.
        draft: a number of :data:`DRAFTS`.
        declared: whether the schema says itself that it is of this draft; one that does not may
            be of any earlier draft, whose keywords then count as well.
    """
    latest = _UNTIL.get(keyword, LATEST) if declared else LATEST
    return _FROM.get(keyword, 3) <= draft <= latest
