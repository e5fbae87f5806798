"""Keywords whose value says nothing cost nothing; those that compare items are never lost."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from grammars import Grammar

ARRAY: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a"],
}
CLOSED = {**OBJECT, "additionalProperties": False}
STRING: dict[str, Any] = {"type": "string"}

IDLE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (ARRAY, {"uniqueItems": False}),
    (ARRAY, {"minItems": 0}),
    (ARRAY, {"contains": {"type": "integer"}, "minContains": 0}),
    (ARRAY, {"contains": False, "minContains": 0}),
    (ARRAY, {"minContains": 3}),
    (ARRAY, {"prefixItems": []}),
    (ARRAY, {"unevaluatedItems": True}),
    (ARRAY, {"$defs": {"x": {"uniqueItems": True}}}),
    (ARRAY, {"default": [{"uniqueItems": True}]}),
    (ARRAY, {"anyOf": [{}, {"uniqueItems": False}]}),
    (OBJECT, {"uniqueItems": True}),
    (OBJECT, {"additionalProperties": True}),
    (OBJECT, {"minProperties": 0}),
    (OBJECT, {"patternProperties": {"^z": True}}),
    (OBJECT, {"propertyNames": {"minLength": 0}}),
    (OBJECT, {"unevaluatedProperties": True}),
    (OBJECT, {"dependentRequired": {"b": []}}),
    (CLOSED, {"maxProperties": 1_000_000_000}),
    (CLOSED, {"minProperties": 1}),
    (STRING, {"uniqueItems": True, "minItems": 3}),
    (STRING, {"minLength": 0}),
]


def shape(grammar: Grammar) -> tuple[bool, bool, int, int]:
    """What the engine works with: memory of items, of keys, states and bags."""
    ir, program = grammar.ir, grammar.program
    return ir.compare_items, ir.distinct_keys, program.states, len(program.bags)


@pytest.mark.parametrize(("schema", "idle"), IDLE)
def test_keywords_that_say_nothing_cost_nothing(
    schema: dict[str, Any], idle: dict[str, Any]
) -> None:
    with_it = Grammar.from_json_schema({**schema, **idle})
    assert shape(with_it) == shape(Grammar.from_json_schema(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {**ARRAY, "uniqueItems": True, "maxItems": 1},
        {**ARRAY, "uniqueItems": True, "maxItems": 0},
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}],
            "items": False,
            "uniqueItems": True,
        },
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1},
        {"properties": {"uniqueItems": {"type": "integer"}}, **CLOSED},
        {"const": {"uniqueItems": True}},
        {"enum": [[1, 1], {"uniqueItems": True}]},
    ],
)
def test_no_memory_where_nothing_can_repeat(schema: dict[str, Any]) -> None:
    assert Grammar.from_json_schema(schema).memory() is None


ELSEWHERE: list[tuple[Any, dict[str, Any]]] = [
    ({"$ref": "urn:x"}, {"urn:x": {**ARRAY, "uniqueItems": True}}),
    ({"$ref": "urn:x#/$defs/u"}, {"urn:x": {"$defs": {"u": {**ARRAY, "uniqueItems": True}}}}),
    ({"$ref": "urn:x"}, {"urn:x": {"$ref": "urn:y"}, "urn:y": {**ARRAY, "uniqueItems": True}}),
    ({**ARRAY, "allOf": [{"$ref": "urn:x"}]}, {"urn:x": {"uniqueItems": True}}),
    ({**ARRAY, "not": {"$ref": "urn:x"}}, {"urn:x": {"uniqueItems": True}}),
    ({**ARRAY, "uniqueItems": False, "not": {"uniqueItems": True}}, {}),
    ({"type": "array", "items": {**ARRAY, "uniqueItems": True}, "uniqueItems": False}, {}),
    ({"type": "array", "items": {**ARRAY, "uniqueItems": False}, "uniqueItems": True}, {}),
]
VALUES: list[Any] = [[], [1], [1, 1], [1, 2], [1, 2, 1], [[1, 1]], [[1, 1], [1, 1]], [[1], [1]],
                     [[1, 2], [2, 1]]]  # fmt: skip


@pytest.mark.parametrize(("schema", "registry"), ELSEWHERE)
def test_items_are_compared_wherever_the_word_stands(schema: Any, registry: dict[str, Any]) -> None:
    grammar = Grammar.from_json_schema(schema, registry=registry)
    resources = [(uri, Resource(text, DRAFT202012)) for uri, text in registry.items()]
    validator = jsonschema.Draft202012Validator(
        schema, registry=Registry().with_resources(resources)
    )
    for value in VALUES:
        assert grammar.accepts(str(value)) == validator.is_valid(value), value
