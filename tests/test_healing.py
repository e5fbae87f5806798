"""Token healing: a prompt's last token goes back into the grammar."""

from __future__ import annotations

import pytest

from constrain import TokenAutomaton, Vocabulary, heal
from grammars import Grammar

TOKENS: list[bytes | None] = [b"a", b":", b"://", b"/", b"//b", b"b", b"ab", None, None]
WORDS = Vocabulary.from_tokens(TOKENS, 8, special_tokens={"<s>": 7})
AUTOMATON = TokenAutomaton(Grammar.literal("//b"), WORDS)


def test_a_token_that_others_extend_is_taken_back() -> None:
    healed = heal([0, 1], AUTOMATON)
    assert (healed.prompt, healed.prefix) == ([0], b":")
    assert healed.automaton.allowed_tokens(healed.automaton.start).tolist() == [1, 2]
    state = healed.automaton.advance(healed.automaton.start, 2)
    assert healed.automaton.is_accepting(healed.automaton.advance(state, 5))


@pytest.mark.parametrize("prompt", [[], [0, 2], [0, 7], [6]])
def test_there_may_be_nothing_to_heal(prompt: list[int]) -> None:
    healed = heal(prompt, AUTOMATON)
    assert (healed.prompt, healed.prefix) == (prompt, b"")
    assert healed.automaton is AUTOMATON


def test_keys_are_compared_behind_a_healed_token() -> None:
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)] + [b":{", None]
    words = Vocabulary.from_tokens(tokens, 257)
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    healed = heal([ord(":")], TokenAutomaton(Grammar.from_json_schema(schema), words))
    automaton = healed.automaton
    state = automaton.advance_bytes(automaton.start, b':{"a":1,"a')
    assert ord('"') not in automaton.allowed_tokens(state).tolist()
    assert ord("b") in automaton.allowed_tokens(state).tolist()


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="ids 0 to 8"):
        heal([99], AUTOMATON)
    with pytest.raises(TypeError):
        heal([1], Grammar.literal("a"))  # type: ignore[arg-type]
