"""What a prompt shows of a schema: all that says what is wanted, nothing that misleads."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from constrain import describe_schema
from grammars import Grammar, GrammarError


def shown(schema: Any) -> Any:
    return json.loads(describe_schema(schema))


class Part(BaseModel):
    title: str = Field(max_length=30, description="as printed on the label")
    price: Decimal = Field(ge=0, max_digits=8, decimal_places=2)


class Thing(BaseModel):
    """A thing."""

    kind: Literal["a", "b"] = "a"
    code: str = Field(pattern="^[A-Z]{2}$", examples=["AB"])
    parts: list[Part] = Field(min_length=1, max_length=5)
    weight: float | None = Field(default=None, gt=0, lt=100)


def test_a_type() -> None:
    assert shown(Thing) == {
        "description": "A thing.",
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"]},
            "code": {"type": "string", "pattern": "^[A-Z]{2}$", "examples": ["AB"]},
            "parts": {
                "type": "array", "items": {"$ref": "#/$defs/Part"}, "minItems": 1, "maxItems": 5,
            },
            "weight": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        },
        "required": ["code", "parts"],
        "$defs": {
            "Part": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "description": "as printed on the label"},
                    "price": {"anyOf": [{"type": "number"}, {"type": "string"}]},
                },
                "required": ["title", "price"],
            }
        },
    }  # fmt: skip
    # keys in the order in which they are to be written
    assert list(shown(Thing)["properties"]) == ["kind", "code", "parts", "weight"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, True),
        (False, False),
        ({}, {}),
        ('{"type": "integer", "minimum": 3}', {"type": "integer"}),
        ({"$schema": "x", "$id": "y", "$comment": "z", "type": "null"}, {"type": "null"}),
        ({"additionalProperties": False}, {}),
        ({"additionalProperties": {"type": "string", "maxLength": 3}},
         {"additionalProperties": {"type": "string"}}),
        ({"items": False, "prefixItems": [{"minimum": 1}]}, {"items": False, "prefixItems": [{}]}),
        ({"items": [{"maximum": 1}, True]}, {"items": [{}, True]}),
        # what only looks like a keyword: names of properties, and values
        ({"properties": {"minimum": {"minimum": 1}, "title": True}},
         {"properties": {"minimum": {}, "title": True}}),
        ({"required": ["title", "minimum"]}, {"required": ["title", "minimum"]}),
        ({"const": {"title": "x", "minimum": 1}}, {"const": {"title": "x", "minimum": 1}}),
        ({"enum": [{"default": 1}]}, {"enum": [{"default": 1}]}),
        ({"examples": [{"title": "x"}]}, {"examples": [{"title": "x"}]}),
        ({"$defs": {"title": {"title": "x"}}}, {"$defs": {"title": {}}}),
        # a bound in a condition or behind a "not" is what is meant
        ({"if": {"maxLength": 1}, "then": {"title": "x", "minLength": 1},
          "else": {"not": {"multipleOf": 2, "title": "x"}}},
         {"if": {"maxLength": 1}, "then": {}, "else": {"not": {"multipleOf": 2}}}),
        ({"contains": {"items": {"minimum": 1}}}, {"contains": {"items": {"minimum": 1}}}),
        ({"properties": "odd"}, {"properties": "odd"}),
    ],
    ids=str,
)  # fmt: skip
def test_schemas(schema: Any, expected: Any) -> None:
    assert shown(schema) == expected


def test_keywords_come_as_people_write_them() -> None:
    """What a thing is comes before what it has; properties keep their order."""
    schema = {"required": ["b"], "x": 1, "properties": {"b": {}, "a": {}}, "type": "object"}
    assert list(shown(schema)) == ["type", "properties", "required", "x"]
    assert list(shown(schema)["properties"]) == ["b", "a"]


def test_letters_stay_what_they_are() -> None:
    assert describe_schema({"enum": ["é"]}) == '{"enum": ["é"]}'


def test_types_of_all_kinds() -> None:
    assert shown(list[int]) == {"type": "array", "items": {"type": "integer"}}
    assert shown(Annotated[int, Field(ge=3)]) == {"type": "integer"}
    with pytest.raises(GrammarError, match="JSON Schema"):
        describe_schema(len)


_leaves = st.sampled_from(
    [{"type": "integer", "minimum": 2}, {"type": "string", "maxLength": 3, "title": "T"},
     {"enum": ["a", 1]}, {"type": "null"}, True]
)  # fmt: skip


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "title", "minimum", "type"])
    return st.one_of(
        st.dictionaries(names, inner, max_size=3).map(
            lambda p: {
                "type": "object",
                "properties": p,
                "additionalProperties": False,
                "title": "X",
            }
        ),
        inner.map(lambda s: {"type": "array", "items": s, "maxItems": 3, "default": []}),
        st.lists(inner, min_size=1, max_size=3).map(lambda s: {"anyOf": s}),
        inner.map(lambda s: {"anyOf": [{"not": s}, s]}),
    )


@settings(max_examples=60, deadline=None)
@given(st.recursive(_leaves, _around, max_leaves=6), st.integers(0, 2**32))
def test_what_is_shown_is_never_stricter(schema: Any, seed: int) -> None:
    """Every text of the schema is one of what is shown, and showing twice changes nothing."""
    less = shown(schema)
    jsonschema.Draft202012Validator.check_schema(less)
    assert shown(less) == less
    grammar = Grammar.from_json_schema(schema)
    jsonschema.validate(json.loads(grammar.sample(seed=seed)), less)
