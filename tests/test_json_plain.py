"""Plain JSON schemas: what is read in one step, and what is read by formulas, must be the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.assertions import At, Demands
from grammars.frontends.json_schema.document import Documents
from grammars.frontends.json_schema.plain import (
    PlainArray,
    PlainObject,
    PlainReader,
    PlainScalar,
    PlainWords,
)
from grammars.frontends.json_schema.reading import Reader
from grammars.ir import GrammarIR

_NAMES = st.sampled_from(["a", "b", "c d", "/x~"])
_KINDS = st.sampled_from(["null", "boolean", "integer", "number", "string"])
_WORDS = st.lists(st.sampled_from(["", "x", "y", "\ud800", '"']), max_size=3)


def _objects(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("object"),
            "properties": st.dictionaries(_NAMES, schemas, max_size=3),
            "required": st.lists(_NAMES, max_size=2),
            "additionalProperties": schemas,
            "title": st.just("T"),
        },
    )


def _more(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        _objects(schemas),
        st.fixed_dictionaries({"type": st.just("array")}, optional={"items": schemas}),
        st.fixed_dictionaries({"anyOf": st.lists(schemas, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"items": schemas, "minItems": st.just(1)}),
    )


_SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.just({}),
        st.builds(lambda kind: {"type": kind}, _KINDS),
        st.builds(lambda words: {"type": "string", "enum": words}, _WORDS),
        st.builds(lambda words: {"enum": words}, _WORDS),
        st.just({"type": "string", "pattern": "^[ab]+$"}),
        st.just({"type": "string", "minLength": 2, "maxLength": 1}),
        st.sampled_from([{"$ref": "#"}, {"$ref": "#/$defs/d"}, {"$ref": "#/$defs/e"}]),
    ),
    _more,
    max_leaves=8,
)


def _result(schema: Any, **options: str) -> GrammarIR | str:
    try:
        return json_schema_to_ir(schema, **options)  # type: ignore[arg-type]
    except GrammarError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(
    root=_objects(_SCHEMAS),
    d=_SCHEMAS,
    e=_SCHEMAS,
    draft=st.sampled_from(["", "http://json-schema.org/draft-04/schema#"]),
    options=st.fixed_dictionaries(
        {},
        optional={"whitespace": st.just("compact"), "property_order": st.just("any")},
    ),
)
def test_expressions_are_those_of_formulas(
    root: dict[str, Any], d: Any, e: Any, draft: str, options: dict[str, str]
) -> None:
    schema = {**root, "$defs": {"d": d, "e": e}}
    if draft:
        schema["$schema"] = draft
    found = _result(schema, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainReader, "_applies", lambda *_: False)
        patch.setattr(PlainReader, "read", lambda *_: None)
        assert found == _result(schema, **options)


def _read(schema: Any) -> Any:
    documents = Documents(schema, {})
    reader = Reader(documents, assert_formats=True)
    return PlainReader(reader).schema(reader.root())


def test_plain_schemas_are_told() -> None:
    below: Demands = (At("/properties/a"),)
    assert _read({"properties": {"a": {"type": "null"}}, "required": ["a"]}) == PlainObject(
        {"a": below}, ("a",), (), alone=False
    )
    assert _read({"type": "array", "items": True}) == PlainArray(())
    assert _read({"enum": ["x", "y", "x"]}) == PlainWords(("x", "y"))
    assert _read({"type": "integer", "description": "n"}) == PlainScalar("integer")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "minProperties": 1},
        {"type": ["string", "null"]},
        {"type": "any"},
        {"type": "string", "enum": ["x", 1]},
        {"type": "object", "properties": {"a": {}}, "required": True},
        {"type": "object", "properties": {"a": {"required": True}}, "$schema": "http://json-schema.org/draft-03/schema#"},
        {"type": "object", "properties": []},
        {"$dynamicAnchor": "x", "type": "object"},
    ],
    ids=str,
)  # fmt: skip
def test_others_are_left_to_formulas(schema: Any) -> None:
    assert _read(schema) is None
