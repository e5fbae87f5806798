"""Masks under a budget where keys must not repeat: whatever is chosen, texts end in time and are valid."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from constrain import TokenAutomaton, Vocabulary
from constrain.uniqueness.budgets import key_tokens_of
from grammars.grammar import Grammar

WORDS = (
    b'"a', b'"b', b'"ab', b'"a"', b'"a":', b'"b":', b'":', b'",', b'","', b'","a', b'","a":', b',"',
    b',"a', b',"b":', b'{"', b'{"a', b'{"a":', b'{"a":{"b":', b'"}', b'"},', b'}}', b'},"', b'},"b', b"[[",
    b"],", b"],[", b"[1,", b"1,1", b"ab", b"aa", b"\\u0061", b'\\"', b"00", b"10", b'"":', b'"",', b'""',
    b', "', b'"]', b'","b":{"', b"0}", b"0,", b'0,"', b'0,"a', b'0}}',
)  # fmt: skip
TOKENS: list[bytes | None] = [*(bytes([b]) for b in range(0x20, 0x7F)), *WORDS, None]
EOS = len(TOKENS) - 1
VOCABULARY = Vocabulary.from_tokens(TOKENS, [EOS])
INTEGER = {"type": "integer", "minimum": 0, "maximum": 99}

SCHEMAS: dict[str, Any] = {
    "any object": {"type": "object", "additionalProperties": INTEGER},
    "required beside others": {
        "type": "object",
        "properties": {"a": INTEGER, "b": {"type": "string"}},
        "required": ["a", "b"],
        "additionalProperties": INTEGER,
    },
    "required, undeclared": {
        "type": "object",
        "required": ["b", "ab"],
        "additionalProperties": INTEGER,
    },
    "several properties": {"type": "object", "minProperties": 3, "additionalProperties": INTEGER},
    "nested, the same keys": {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "required": ["a", "b"],
                "additionalProperties": INTEGER,
                "properties": {"a": {"type": "object", "required": ["b"], "minProperties": 2}},
            }
        },
        "required": ["a"],
        "additionalProperties": INTEGER,
    },
    "keys by pattern": {
        "type": "object",
        "propertyNames": {"pattern": "^[ab]{2,3}$"},
        "minProperties": 2,
        "additionalProperties": INTEGER,
    },
    "items that differ": {
        "type": "object",
        "properties": {"a": {"type": "array", "items": INTEGER, "uniqueItems": True, "minItems": 3}},
        "required": ["a"],
        "additionalProperties": {"type": "array", "uniqueItems": True, "minItems": 2},
    },
    "list of objects": {
        "type": "array",
        "minItems": 2,
        "items": {"type": "object", "required": ["a"], "additionalProperties": INTEGER},
    },
    "different objects": {
        "type": "array",
        "minItems": 2,
        "uniqueItems": True,
        "items": {"type": "object", "additionalProperties": INTEGER},
    },
    "texts too": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "string", "minLength": 2},
    },
}  # fmt: skip


def written(automaton: TokenAutomaton, budget: int, rng: random.Random) -> bytes:
    """A text by random choices from masks under a budget, none of which is empty."""
    state, out, left = automaton.start, b"", budget
    words = rng.random() < 0.6
    while state != automaton.FINISHED:
        allowed = automaton.allowed_tokens(state, left).tolist()
        assert allowed, (out, left)
        assert set(allowed) <= set(automaton.allowed_tokens(state).tolist()), (out, left)
        if words:  # those that do most at once
            allowed = [t for t in allowed if len(TOKENS[t] or b"") > 1] or allowed
        token = rng.choice(allowed)
        out += TOKENS[token] or b""
        state = automaton.advance(state, token)
        assert state != automaton.DEAD, (out, left)
        left -= 1
        assert left >= 0, out
    return out


@pytest.mark.parametrize("name", list(SCHEMAS))
@pytest.mark.parametrize("order", ["schema", "any"])
def test_texts_under_a_budget_end_and_hold(name: str, order: str) -> None:
    schema = SCHEMAS[name]
    automaton = TokenAutomaton(Grammar.from_json_schema(schema, property_order=order), VOCABULARY)
    fewest = automaton.min_tokens_to_accept(automaton.start)
    rng = random.Random(name + order)
    for i in range(30):
        if i % 10 == 9:
            automaton.trim([])
        budget = fewest + 1 + rng.choice([0, 0, 1, 2, 3, 5, 8, 13, 30])
        text = written(automaton, budget, rng)
        Draft202012Validator(schema).validate(json.loads(text))


def test_a_used_key_does_not_end_there() -> None:
    """Where the text would have to end at once behind a key that is in use, that token is not allowed."""
    schema = SCHEMAS["any object"]
    automaton = TokenAutomaton(Grammar.from_json_schema(schema), VOCABULARY)
    state = automaton.advance_bytes(automaton.start, b'{"a":1,"')
    a, b = (VOCABULARY.texts.index(x) for x in (b"a", b"b"))
    for left in range(3, 30):
        allowed = automaton.allowed_tokens(state, left).tolist()
        if b not in allowed:
            assert a not in allowed
        after = automaton.min_tokens_to_accept(automaton.advance(state, a))
        assert (a in allowed) <= (after + 2 <= left)
    assert a in allowed


def test_ample_budgets_take_nothing() -> None:
    schema = SCHEMAS["nested, the same keys"]
    grammar = Grammar.from_json_schema(schema, property_order="any")
    automaton = TokenAutomaton(grammar, VOCABULARY)
    for text in (b"", b'{"', b'{"a":{"', b'{"a":{"b":1,"', b'{"b":1,"a":{"a":{"b":1'):
        state = automaton.advance_bytes(automaton.start, text)
        whole = automaton.mask(state)
        assert np.array_equal(automaton.mask(state, 500), whole), text
        assert np.array_equal(automaton.mask(state, 400), whole), text  # from the cache
        tight = automaton.min_tokens_to_accept(state) + 1
        first = automaton.mask(state, tight)
        assert np.array_equal(automaton.mask(state, tight), first), text
        assert not np.any(first & ~whole), text


def test_tokens_that_write_keys() -> None:
    tokens = key_tokens_of(VOCABULARY)
    number = {text: i for i, text in enumerate(TOKENS) if text}
    assert tokens.opening[b"a"] == [number[b'"a']]
    assert tokens.closing[b"a"] == [number[b'"a"'], number[b'"a":']]
    assert tokens.name_of[number[b',"b":']] == "b"
    assert number[b'{"a":{"b":'] not in tokens.name_of
    flags = [
        np.unpackbits(row.view(np.uint8), bitorder="little").nonzero()[0].tolist()
        for row in (*tokens.named, *tokens.listed, tokens.escapes)
    ]
    outside, inside, listed, listed_inside, escapes = flags
    assert number[b',"a'] in outside
    assert number[b'","a":'] in inside
    assert {number[b"[1,"], number[b"],["]} & set(listed) == {number[b"[1,"]}
    assert listed_inside == []
    assert escapes == sorted(number[t] for t in (b"\\", b"\\u0061", b'\\"'))
