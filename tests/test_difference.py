"""Masks of states that are worked out by comparison with another state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from constrain import TokenAutomaton, Vocabulary
from constrain.models import load_tokenizer
from constrain.rules import RuleAutomaton
from grammars import Grammar

NAMES = ("name", "names", "id", "identifier", "description", "desc", "größe", "a", "", "x-y", 'q"q')


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_huggingface(load_tokenizer("smollm2"))


def schema(count: int) -> dict[str, Any]:
    names = [*NAMES, *(f"field_{i}" for i in range(count))]
    return {"type": "object", "properties": {name: {"type": "null"} for name in names}}


@pytest.mark.model
@pytest.mark.parametrize("count", [0, 60])
def test_keys_beside_many_names(vocabulary: Vocabulary, count: int) -> None:
    """Every bit says what advancing says, wherever a key stands among the names."""
    automaton = TokenAutomaton(Grammar.from_json_schema(schema(count)), vocabulary)
    rng = random.Random(count)
    for prefix in (
        "",
        "n",
        "name",
        "namesake",
        "gr",
        "größ",
        "x-",
        'q\\"',
        "field_1",
        "\\u00",
        "z",
    ):
        state = automaton.advance_bytes(automaton.start, b'{"' + prefix.encode())
        if state == automaton.DEAD:
            continue
        allowed = np.zeros(vocabulary.size, np.bool_)
        allowed[automaton.allowed_tokens(state)] = True
        tokens = rng.sample(range(vocabulary.size), 1_000)
        tokens += [t for t in range(vocabulary.size) if b'"' in (vocabulary.token_bytes(t) or b"")]
        for token in tokens:
            live = automaton.advance(state, token) != automaton.DEAD
            assert allowed[token] == live, (prefix, vocabulary.token_bytes(token))


@pytest.mark.model
def test_the_comparison_is_used(vocabulary: Vocabulary) -> None:
    grammar = Grammar.from_json_schema(schema(60))
    rules = RuleAutomaton(grammar, vocabulary, grammar.limits, judges_spelling=False)
    place = rules.after_bytes(rules.start, b'{"nam')
    found = [rules.rule_masks._compare(q) for q, _, _ in rules.pool.items(place)]
    assert any(answer is not None for answer in found)
