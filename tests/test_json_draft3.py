"""Draft 3 against a validator of that draft, and its forms in schemas that name no draft."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError, UnsupportedSchemaError
from grammars.grammar import Grammar

DRAFT_3 = "http://json-schema.org/draft-03/schema#"
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object", "any")
VALUES: list[Any] = [
    *(None, True, 0, 1, 6, 9, 2.5, -3, "", "a", "ab", [], [1], ["a", 6], {}),
    *({"a": 1}, {"b": "a"}, {"a": 6, "b": "a"}, {"a": "a", "b": 3, "c": None}, {"c": {"a": 9}}),
]


def schemas() -> st.SearchStrategy[Any]:
    return st.recursive(st.sampled_from(_LEAVES), _compound, max_leaves=6)


_LEAVES: list[Any] = [
    {},
    *({"type": t} for t in TYPES),
    {"type": ["string", "integer"]},
    {"disallow": "string"},
    {"disallow": ["integer", "null"]},
    {"divisibleBy": 3},
    {"minimum": 2, "exclusiveMinimum": True},
    {"maximum": 6},
    {"minLength": 1},
    {"enum": [1, "a", None]},
    {"dependencies": {"a": "b"}},
    {"dependencies": {"b": ["a"], "c": {"minimum": 2}}},
    {"required": True},
]


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from("abc")
    properties = st.dictionaries(
        names, st.tuples(inner, st.booleans()).map(lambda p: p[0] | {"required": p[1]}), max_size=3
    )
    return st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda x: {"extends": x}),
        inner.map(lambda x: {"extends": x}),
        st.lists(st.one_of(inner, st.sampled_from(TYPES)), min_size=1, max_size=2).map(
            lambda x: {"type": x}
        ),
        st.lists(st.one_of(inner, st.sampled_from(TYPES)), min_size=1, max_size=2).map(
            lambda x: {"disallow": x}
        ),
        properties.map(lambda p: {"properties": p}),
        st.builds(lambda p, a: {"properties": p, "additionalProperties": a}, properties, inner),
        inner.map(lambda x: {"items": x}),
        st.builds(lambda a, b: a | b, inner, inner),
    )


def _looks_deeper(schema: Any) -> bool:
    """Whether ``required`` may stand where this validator does not see that a property has it."""
    text = json.dumps(schema)
    return "required" in text and any(part in text for part in ('"extends"', '"type": ['))


@given(schemas())
@settings(max_examples=80, deadline=None)
def test_like_a_validator(schema: Any) -> None:
    validator = jsonschema.Draft3Validator(schema)
    grammar = Grammar.from_json_schema({**schema, "$schema": DRAFT_3}, property_order="any")
    if _looks_deeper(schema):
        return
    for value in VALUES:
        assert grammar.accepts(json.dumps(value)) == validator.is_valid(value), value


TABLE: list[tuple[Any, list[str], list[str]]] = [
    ({"disallow": ["string", {"type": "object"}]}, ["1", "null"], ['"a"', "{}"]),
    ({"extends": [{"minimum": 3}, {"maximum": 5}], "type": "integer"}, ["3"], ["1", "6", '"a"']),
    ({"extends": {"extends": {"type": "null"}}}, ["null"], ["1"]),
    ({"properties": {"a": {"required": True}}}, ['{"a":1}', "[]"], ["{}", '{"b":1}']),
    ({"properties": {"a": {"required": False}}}, ["{}"], []),
    ({"required": True, "type": "null"}, ["null"], ["1"]),  # there always is a root
    ({"items": {"required": True}}, ["[]", "[1]"], []),
    ({"properties": {"a": {"extends": {"required": True}}}}, ['{"a":1}'], ["{}"]),
    (
        {"properties": {"a": {"$ref": "#/x"}}, "x": {"required": True, "type": "null"}},
        ['{"a":null}'],
        ["{}", '{"a":1}'],
    ),
    (
        {"properties": {"a": {"type": [{"required": True}, {"required": True, "enum": [1]}]}}},
        ['{"a":1}'],
        ["{}"],
    ),
    ({"properties": {"a": {"type": [{"required": True}, "null"]}}}, ["{}"], []),
    ({"divisibleBy": 3}, ["9", '"a"'], ["1"]),
    ({"type": ["string", {"type": "integer", "minimum": 5}]}, ['"a"', "7"], ["1", "null"]),
    ({"dependencies": {"a": "b"}}, ["{}", '{"a":1,"b":1}'], ['{"a":1}']),
    ({"format": "ip-address"}, ['"1.2.3.4"'], ['"x"']),
    ({"format": "host-name"}, ['"a.org"'], ['"a b"']),
]


@pytest.mark.parametrize("named", [DRAFT_3, None, "https://example.org/of-our-own"])
@pytest.mark.parametrize(("schema", "inside", "outside"), TABLE)
def test_forms(named: str | None, schema: Any, inside: list[str], outside: list[str]) -> None:
    """They hold in draft 3, and where no draft that is known is named."""
    grammar = Grammar.from_json_schema(schema | ({"$schema": named} if named else {}))
    assert [grammar.accepts(text) for text in inside] == [True] * len(inside)
    assert [grammar.accepts(text) for text in outside] == [False] * len(outside)


def test_only_in_draft_3() -> None:
    named = {"$schema": "http://json-schema.org/draft-07/schema#"}
    later = Grammar.from_json_schema({**named, "disallow": "null", "extends": {"type": "string"}})
    assert later.accepts("null")  # no keywords of draft 7
    assert Grammar.from_json_schema({"format": "time"}).accepts('"10:00:00Z"')
    clock = Grammar.from_json_schema({"$schema": DRAFT_3, "format": "time"})
    assert clock.accepts('"10:00:00"')
    assert not clock.accepts('"10:00:00Z"')
    assert not Grammar.from_json_schema({"$schema": DRAFT_3, "type": "integer"}).accepts("1.0")


@pytest.mark.parametrize("draft", [None, 4, 6, 7])
def test_required_of_a_property_is_never_dropped(draft: int | None) -> None:
    schema: dict[str, Any] = {"properties": {"a": {"type": "null", "required": True}}}
    if draft:
        schema["$schema"] = f"http://json-schema.org/draft-0{draft}/schema#"
    grammar = Grammar.from_json_schema(schema)
    assert grammar.accepts('{"a":null}')
    assert not grammar.accepts("{}")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"extends": 3}, "/extends"),
        ({"extends": ["a"]}, "/extends"),
        ({"disallow": "foo"}, "/disallow"),
        ({"disallow": []}, "/disallow"),
        ({"items": {"type": [3]}}, "/items/type"),
        ({"divisibleBy": 0}, "/divisibleBy"),
        ({"required": "a"}, "/required"),
        ({"format": ["date"]}, "/format"),
    ],
)
def test_malformed(schema: Any, pointer: str) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.from_json_schema({**schema, "$schema": DRAFT_3})
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("uri", "draft"),
    [
        ("http://json-schema.org/draft-04/hyper-schema#", 4),
        ("https://json-schema.org/draft-04/schema", 4),
        ("http://json-schema.org/draft-07/hyper-schema", 7),
        ("http://json-schema.org/draft/2019-09/schema#", 2019),
        ("http://json-schema.org/schema#", None),
    ],
)
def test_uris_of_drafts(uri: str, draft: int | None) -> None:
    """``const`` came with draft 6, ``$ref`` hides what is beside it up to draft 7."""
    target = {"t": {"type": ["string", "null"]}}
    schema = {"$schema": uri, "$ref": "#/t", **target, "minLength": 2}
    hidden = Grammar.from_json_schema(schema).accepts('"a"')
    assert hidden == (draft in (4, 7))
    constant = Grammar.from_json_schema({"$schema": uri, "const": 1})
    assert constant.accepts("2") == (draft == 4)


def test_required_vocabulary_that_is_not_known() -> None:
    meta = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$vocabulary": {
            "https://json-schema.org/draft/2020-12/vocab/core": True,
            "https://json-schema.org/draft/2020-12/vocab/validation": True,
            "https://example.org/vocab/units": True,
        },
    }
    schema = {"$schema": "https://example.org/meta", "unit": "m"}
    with pytest.raises(UnsupportedSchemaError, match="vocab/units"):
        Grammar.from_json_schema(schema, registry={"https://example.org/meta": meta})
    meta["$vocabulary"]["https://example.org/vocab/units"] = False  # type: ignore[index]
    made = Grammar.from_json_schema(schema, registry={"https://example.org/meta": meta})
    assert made.accepts("1")
