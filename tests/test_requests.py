"""``structured_outputs`` of requests: each member against the constructor that it stands for."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from grammars import Grammar, GrammarError, LimitExceeded, Limits, UnsupportedSchemaError
from grammars.requests import GrammarRequest, is_ebnf, read_structured_outputs

SCHEMA: Final = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"const": 1}}}
EBNF: Final = 'root ::= "a" tail\ntail ::= [0-9]{2}'
LARK: Final = 'start: "a" TAIL\nTAIL: /[0-9]{2}/'
LLGUIDANCE: Final = "%llguidance {}\nstart: N\nN: /[0-9]{2}/ & /.[1-3]/"
XGRAMMAR: Final = 'root ::= "a" Regex("[0-9]{2}")'
TAG: Final = {
    "type": "structural_tag",
    "format": {"type": "tag", "begin": "<a>", "end": "</a>",
               "content": {"type": "json_schema", "json_schema": {"type": "integer"}}},
}  # fmt: skip
LEGACY: Final = {
    "structures": [{"begin": "<a>", "schema": {"type": "integer"}, "end": "</a>"}],
    "triggers": ["<a>"],
}
OBJECT: Final = {"type": "object"}

SAME: Final[dict[str, tuple[dict[str, Any], Grammar]]] = {
    "json": ({"json": SCHEMA}, Grammar.from_json_schema(SCHEMA)),
    "json text": ({"json": json.dumps(SCHEMA)}, Grammar.from_json_schema(SCHEMA)),
    "json true": ({"json": True}, Grammar.from_json_schema(True)),
    "compact": (
        {"json": SCHEMA, "disable_any_whitespace": True},
        Grammar.from_json_schema(SCHEMA, whitespace="compact"),
    ),
    "closed": (
        {"json": SCHEMA, "disable_additional_properties": True},
        Grammar.from_json_schema({**SCHEMA, "additionalProperties": False}),
    ),
    "closed text": (
        {"json": json.dumps(SCHEMA), "disable_additional_properties": True},
        Grammar.from_json_schema({**SCHEMA, "additionalProperties": False}),
    ),
    "grounded": (
        {"json": {"type": "string"}, "source": "a b", "grounded": True},
        Grammar.from_json_schema({"type": "string"}, source="a b", grounded=True),
    ),
    "object": ({"json_object": True}, Grammar.from_json_schema(OBJECT)),
    "compact object": (
        {"json_object": True, "disable_any_whitespace": True},
        Grammar.from_json_schema(OBJECT, whitespace="compact"),
    ),
    "regex": ({"regex": "[ab]+"}, Grammar.from_regex("[ab]+")),
    "empty regex": ({"regex": ""}, Grammar.from_regex("")),
    "choice": ({"choice": ["yes", "né"]}, Grammar.from_choices(["yes", "né"])),
    "ebnf": ({"grammar": EBNF}, Grammar.from_gbnf(EBNF)),
    "xgrammar": ({"grammar": XGRAMMAR}, Grammar.from_gbnf(XGRAMMAR, dialect="xgrammar")),
    "lark": ({"grammar": LARK}, Grammar.from_lark(LARK)),
    "llguidance": ({"grammar": LLGUIDANCE}, Grammar.from_lark(LLGUIDANCE)),
    "named gbnf": ({"gbnf": EBNF}, Grammar.from_gbnf(EBNF)),
    "named lark": ({"lark": LARK}, Grammar.from_lark(LARK)),
    "tag": ({"structural_tag": TAG}, Grammar.from_structural_tag(TAG)),
    "tag text": ({"structural_tag": json.dumps(LEGACY)}, Grammar.from_structural_tag(LEGACY)),
    "absent members": (
        {"regex": "a", "json": None, "json_object": False, "whitespace_pattern": None,
         "disable_any_whitespace": False},
        Grammar.from_regex("a"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_a_member_stands_for_a_constructor(case: str) -> None:
    asked, grammar = SAME[case]
    assert read_structured_outputs(asked) == grammar
    assert not grammar.is_empty


def test_a_structural_tag_may_be_a_model() -> None:
    class Tag(BaseModel):
        type: str = "structural_tag"
        format: dict[str, Any]

    tag = Tag(format={"type": "const_string", "value": "x"})
    assert read_structured_outputs({"structural_tag": tag}).accepts("x")


def test_keys_are_written_in_the_order_of_the_schema_that_is_asked_for() -> None:
    grammar = read_structured_outputs({"json": {**SCHEMA, "required": ["a", "b"]}})
    assert grammar.accepts('{"b": 2, "a": 1}')
    assert not grammar.accepts('{"a": 1, "b": 2}')


REFUSED: Final[dict[str, tuple[Any, list[str]]]] = {
    "no object": (["json"], ["an object", "['json']"]),
    "nothing": ({}, ["exactly one of", "none"]),
    "only absent ones": ({"json": None, "json_object": False}, ["exactly one of", "none"]),
    "an option alone": ({"disable_any_whitespace": True}, ["exactly one of", "none"]),
    "two": ({"json": {}, "regex": "a"}, ["exactly one of", "json and regex"]),
    "unknown": ({"regexp": "a"}, ["'regexp'", "did you mean 'regex'?"]),
    "unknown of a number": ({3: "a"}, ["3", "there are json"]),
    "schema of a number": ({"json": 3}, ["at /json:", "an object", "3"]),
    "schema of no JSON": ({"json": {"const": {1, 2}}}, ["at /json:", "is not JSON", "set"]),
    "schema with infinity": ({"json": {"const": float("inf")}}, ["at /json:", "is not JSON"]),
    "schema text": ({"json": '{"type": "object",}'}, ["at /json: line 1, column 19", "comma"]),
    "closed schema text": (
        {"json": "{", "disable_additional_properties": True}, ["at /json: line 1, column 2"]),
    "schema": ({"json": {"properties": {"a": {"type": "text"}}}}, ["at /json/properties/a/type:"]),
    "empty schema": ({"json": False}, ["at /json:"]),
    "empty text": ({"json": " "}, ["at /json:", "empty"]),
    "json_object of a text": ({"json_object": "yes"}, ["at /json_object:", "true or false"]),
    "regex of a number": ({"regex": 3}, ["at /regex:", "a text", "3"]),
    "regex": ({"regex": "a(b"}, ["at /regex: line 1, column 2", "add ')'"]),
    "choice of a text": ({"choice": "yes"}, ["at /choice:", "a list of texts"]),
    "no choices": ({"choice": []}, ["at /choice:", "at least one"]),
    "choice of a number": ({"choice": ["a", 3]}, ["at /choice/1:", "3"]),
    "half a character": ({"choice": ["a", "\ud800"]}, ["at /choice:", "surrogate"]),
    "ebnf": ({"grammar": 'root ::= "a" b'}, ["at /grammar: line 1, column 14", "'b'"]),
    "lark": ({"grammar": "start: b"}, ["at /grammar:", "'b'", "not defined"]),
    "no grammar": ({"grammar": ""}, ["at /grammar:", "empty"]),
    "gbnf that is lark": ({"gbnf": LARK}, ["at /gbnf: line 1", "looks like Lark"]),
    "tag": ({"structural_tag": {"format": {"type": "tags"}}}, ["at /structural_tag/format/type:"]),
    "pattern of blanks": (
        {"json": {}, "whitespace_pattern": " *"}, ["at /whitespace_pattern:", "disable_any_wh"]),
    "flag of a number": (
        {"json": {}, "disable_any_whitespace": 1}, ["at /disable_any_whitespace:", "1"]),
    "compact regex": (
        {"regex": "a", "disable_any_whitespace": True},
        ["at /disable_any_whitespace:", "json and json_object only", "regex"]),
    "closed object": (
        {"json_object": True, "disable_additional_properties": True},
        ["at /disable_additional_properties:", "json only"]),
    "grounded in nothing": ({"json": {}, "grounded": True}, ["at /grounded:", "source"]),
    "source of a number": ({"json": {}, "source": 3}, ["at /source:", "3"]),
    "source of a regex": ({"regex": "a", "source": "a"}, ["at /source:", "json only"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_member_and_what_to_do(case: str) -> None:
    asked, parts = REFUSED[case]
    with pytest.raises(GrammarError) as caught:
        read_structured_outputs(asked)
    for part in parts:
        assert part in str(caught.value)


def test_errors_keep_their_kind() -> None:
    with pytest.raises(LimitExceeded, match="at /regex: ") as limit:
        read_structured_outputs({"regex": "[ab]*a[ab]{12}"}, limits=Limits(max_dfa_states=50))
    assert limit.value.pointer == "/regex"
    schema = {"properties": {"a": {"type": "array", "contains": {"$dynamicRef": "#x"}}}}
    with pytest.raises(GrammarError) as unsupported:
        read_structured_outputs({"json": schema})
    assert (unsupported.value.pointer or "").startswith("/json/properties/a/contains")
    if isinstance(unsupported.value, UnsupportedSchemaError):
        assert unsupported.value.keyword == "$dynamicRef"


def test_equal_requests_are_one_key() -> None:
    asked = {"json": SCHEMA, "disable_any_whitespace": True}
    one, same = GrammarRequest.of(asked), GrammarRequest.of({**asked, "regex": None})
    assert one == same
    assert hash(one) == hash(same)
    for other in ({"json": SCHEMA}, {"structural_tag": SCHEMA}, {**asked, "source": "a"}):
        assert GrammarRequest.of(other) != one


def test_a_nest_of_a_million_is_refused() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = {"not": nested}
    with pytest.raises(GrammarError, match="at /json: is nested too deeply"):
        GrammarRequest.of({"json": nested})


@given(
    st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1, max_size=4), st.text()
)
def test_choices_are_exactly_those_asked_for(choices: list[str], other: str) -> None:
    grammar = read_structured_outputs({"choice": choices})
    assert all(grammar.accepts(text) for text in choices)
    assert grammar.accepts(other.encode("utf-8", "replace")) == (
        other.encode("utf-8", "replace").decode() in choices
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EBNF, True),
        ("# a comment\n  root-1 ::= x", True),
        ("root\n  ::= x", True),
        (LARK, False),
        ('start: "a ::= b"', False),
        ("?start: x\n%ignore WS", False),
    ],
)
def test_which_notation_a_grammar_is_in(text: str, expected: bool) -> None:
    assert is_ebnf(text) is expected
