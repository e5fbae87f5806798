"""Grammars written as GBNF and Lark accept what they accepted."""

from __future__ import annotations

import itertools
import json
from typing import Any

import lark
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import bag_grammars, grammars

from grammars import Grammar, GrammarError
from grammars.ir import GrammarIR

ALPHABET = "abcé"
TEXTS = ["".join(x) for n in range(5) for x in itertools.product(ALPHABET, repeat=n)]


def made_of(ir: GrammarIR) -> Grammar:
    grammar = Grammar(ir)
    assume(not grammar.is_empty)
    return grammar


def written(grammar: Grammar, notation: str) -> str:
    try:
        return grammar.to_gbnf() if notation == "gbnf" else grammar.to_lark()
    except GrammarError as error:
        assume(
            "no UTF-8" not in error.message and "no rules of another notation" not in error.message
        )
        raise


@settings(max_examples=80)
@given(st.one_of(grammars(), bag_grammars()))
def test_random_grammars_as_gbnf(ir: GrammarIR) -> None:
    grammar = made_of(ir)
    other = Grammar.from_gbnf(written(grammar, "gbnf"))
    assert [t for t in TEXTS if grammar.accepts(t)] == [t for t in TEXTS if other.accepts(t)]


@settings(max_examples=30)
@given(st.one_of(grammars(), bag_grammars()))
def test_random_grammars_as_lark(ir: GrammarIR) -> None:
    """Both our reader and lark's own Earley parser read the text."""
    grammar = made_of(ir)
    text = written(grammar, "lark")
    other = Grammar.from_lark(text)
    accepted = [t for t in TEXTS if grammar.accepts(t)]
    assert accepted == [t for t in TEXTS if other.accepts(t)]
    parser = lark.Lark(text, parser="earley", ambiguity="forest")
    for t in [*accepted[:30], *TEXTS[:60]]:
        try:
            parser.parse(t)
            read = True
        except lark.exceptions.LarkError:
            read = False
        assert read == grammar.accepts(t), t


SCHEMAS: list[Any] = [
    {"type": "string", "pattern": "^[a-z]+(-[0-9]+)?$", "maxLength": 12},
    {"type": "integer", "minimum": -5, "maximum": 300},
    {"enum": ["a", 1, None, {"k": [True]}]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "null"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"},
    {"oneOf": [{"type": "string", "format": "date"}, {"type": "string", "minLength": 11}]},
]


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_schemas_as_gbnf(schema: Any, order: Any) -> None:
    grammar = Grammar.from_json_schema(schema, property_order=order)
    other = Grammar.from_gbnf(grammar.to_gbnf())
    for seed in range(40):
        assert other.accepts(grammar.sample(seed, 60))
        assert grammar.accepts(other.sample(seed, 60))


@pytest.mark.parametrize("schema", [{"type": "object"}, {"type": "array", "uniqueItems": True}])
def test_what_rules_cannot_say_is_refused_or_left_out(schema: Any) -> None:
    grammar = Grammar.from_json_schema(schema)
    with pytest.raises(GrammarError, match="no rules of another notation"):
        grammar.to_gbnf()
    wider = Grammar.from_gbnf(grammar.to_gbnf(wider=True))
    assert wider.accepts('{"a":1,"a":1}') == (schema["type"] == "object")
    for seed in range(20):
        assert wider.accepts(grammar.sample(seed, 80))


def test_characters_that_need_an_escape() -> None:
    odd = '"\\\n\r\t\x00\x7f-^][/.#\u2028\U0001f600'
    grammar = Grammar.from_choices([odd, "x"]) | Grammar.from_regex(r"[\]\[\\^\-/\"\n\x00-\x05]")
    for other in (Grammar.from_gbnf(grammar.to_gbnf()), Grammar.from_lark(grammar.to_lark())):
        assert other.accepts(odd)
        for char in '][\\^-/"\n\x00\x05\x06x':
            assert other.accepts(char) == grammar.accepts(char), char


def test_special_tokens_in_gbnf_and_not_in_lark() -> None:
    grammar = Grammar.token("<|call|>") + Grammar.literal("a") + Grammar.token(7)
    assert Grammar.from_gbnf(grammar.to_gbnf()).tokens == ("<|call|>", "[7]")
    with pytest.raises(GrammarError, match="special token"):
        grammar.to_lark()


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Grammar.from_choices([b"\xff\xfe"]), "no UTF-8"),
        (Grammar.from_json_schema(False), "no text satisfies"),
    ],
)
def test_what_cannot_be_written(grammar: Grammar, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        grammar.to_gbnf()


def test_the_text_is_one_that_people_write() -> None:
    source = 'root ::= expr ws\nexpr ::= expr "+" expr | [0-9]+ | "(" expr ")"\nws ::= [\\t ]*\n'
    assert Grammar.from_gbnf(source).to_gbnf() == source


def test_many_optional_parts_of_a_sequence() -> None:
    keys = {f"k{n}": {"type": "boolean"} for n in range(30)}
    grammar = Grammar.from_json_schema(
        {
            "type": "object",
            "properties": keys,
            "required": list(keys),
            "additionalProperties": False,
        }
    )
    other = Grammar.from_lark(grammar.to_lark())
    for seed in range(10):
        assert other.accepts(grammar.sample(seed))
        assert grammar.accepts(other.sample(seed))


def test_a_long_chain_is_cut_into_rules() -> None:
    grammar = Grammar.from_regex("(?!b)(?:a(?!c)){300}|x")
    other = Grammar.from_gbnf(grammar.to_gbnf())
    assert other.accepts("a" * 300)
    assert not other.accepts("a" * 299)
