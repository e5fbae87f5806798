"""Many optional keys: the register that counts them allows what the automaton of keys in order does."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from grammars.frontends.json_schema import writing

_A: dict[str, Any] = {"type": "integer"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "closed": {"properties": {"a": _A, "ab": _A, "c": _A}, "additionalProperties": False},
    "open": {"properties": {"a": _A, "ab": _A, "c": _A}},
    "one required": {
        "properties": {"a": _A, "ab": _A, "c": _A},
        "required": ["ab"],
        "additionalProperties": False,
    },
    "required without a place": {"properties": {"a": _A, "c": _A}, "required": ["ab"]},
    "others by pattern": {
        "properties": {"a": _A, "c": _A},
        "patternProperties": {"^ab*$": {"minimum": 1}},
        "additionalProperties": False,
    },
    "an impossible key": {"properties": {"a": False, "ab": _A, "c": _A}},
    "few of them": {"properties": {"a": _A, "ab": _A, "c": _A}, "maxProperties": 2},
}
VOCABULARY = Vocabulary((*tuple(bytes([b]) for b in range(256)), None), (256,))


def _both(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Grammar, Grammar]:
    schema = {"type": "object", **schema}
    plain = Grammar.from_json_schema(schema)
    monkeypatch.setattr(writing, "_MOST_RESTS", 0)
    return plain, Grammar.from_json_schema(schema)


def _texts() -> list[str]:
    keys = ["a", "ab", "c", "d", "abb"]
    return [
        "{" + ", ".join(f'"{key}": {1 if key != "abb" else 0}' for key in some) + "}"
        for count in range(4)
        for some in permutations(keys, count)
    ] + ['{"a": 1, "a": 1}', '{"a": 1,}', "{ }", '{"c": "x"}']


@pytest.mark.parametrize("name", SCHEMAS)
def test_texts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, counted = _both(SCHEMAS[name], monkeypatch)
    assert counted.program.bags
    accepted = [text for text in _texts() if plain.accepts(text)]
    assert accepted
    assert [text for text in _texts() if counted.accepts(text)] == accepted


@pytest.mark.parametrize("name", SCHEMAS)
def test_masks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    automata = [TokenAutomaton(g, VOCABULARY) for g in _both(SCHEMAS[name], monkeypatch)]
    rows = [np.zeros((VOCABULARY.size + 31) // 32, np.int32) for _ in automata]
    for text in _texts()[::3]:
        states = [a.start for a in automata]
        for byte in text.encode():
            for automaton, state, row in zip(automata, states, rows, strict=True):
                automaton.fill_mask(state, row)
            assert (rows[0] == rows[1]).all()
            states = [a.advance(s, byte) for a, s in zip(automata, states, strict=True)]
            assert (states[0] == automata[0].DEAD) == (states[1] == automata[1].DEAD)
            if states[0] == automata[0].DEAD:
                break


@pytest.mark.parametrize("closed", [True, False])
def test_a_map_of_languages(closed: bool) -> None:
    """Two hundred keys that begin alike, any of which may be missing."""
    keys = [x + y for x in "abcdefghijklmn" for y in "opqrstuvwxyzab"]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
    }
    if closed:
        schema["additionalProperties"] = False
    grammar = Grammar.from_json_schema(schema)
    assert grammar.program.states < 4_000
    some = keys[3::17]
    assert grammar.accepts(json.dumps(dict.fromkeys(some, "x")))
    assert not grammar.accepts(json.dumps(dict.fromkeys(reversed(some), "x")))
    assert grammar.accepts(json.dumps({"other": 1})) is not closed
