"""The backend inside ``model.generate`` and ``samplers.extract``: what comes out is what would have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from toys import BOS, EOS, PAD, model, vocabulary
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton
from grammars import Grammar
from samplers import SpeculativeGenerate

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
PROMPTS = torch.tensor([[BOS, 5, 6, 7, 9], [PAD, PAD, BOS, 9, 11]])
ATTENTION = (PROMPTS != PAD).long()
BUDGET = 30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def automaton() -> TokenAutomaton:
    return TokenAutomaton(Grammar.from_json_schema(SCHEMA), vocabulary())


def _plain(automaton: TokenAutomaton, **options: Any) -> list[list[int]]:
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=BUDGET)
    return _written(logits_processor=[processor], **options)


def _written(**options: Any) -> list[list[int]]:
    options = {"max_new_tokens": BUDGET, "do_sample": False} | options
    out = model().generate(PROMPTS, attention_mask=ATTENTION, **options)
    return [row.tolist() for row in out]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 4},
        {"suppress_tokens": [10]},
        {"min_new_tokens": 20},
    ],
    ids=str,
)
def test_greedy_texts_are_those_of_generate(
    automaton: TokenAutomaton, options: dict[str, Any]
) -> None:
    method = SpeculativeGenerate(automaton)
    for _ in range(2):  # the second time its drafters know the text
        assert _written(custom_generate=method, **options) == _plain(automaton, **options)
    assert len(method.stats) == len(PROMPTS)
    assert sum(s.accepted for s in method.stats) > 0
    assert all(s.forwards < s.tokens for s in method.stats)


def test_without_a_grammar(automaton: TokenAutomaton) -> None:
    assert _written(custom_generate=SpeculativeGenerate()) == _written()


def test_sampled_texts_are_whole(automaton: TokenAutomaton) -> None:
    torch.manual_seed(0)
    method = SpeculativeGenerate(automaton)
    rows = _written(
        custom_generate=method, do_sample=True, num_return_sequences=5, top_k=5, temperature=1.5
    )
    assert len(rows) == 10
    assert len({tuple(row) for row in rows}) > 2
    for row in rows:
        new = row[PROMPTS.shape[1] :]
        assert EOS in new
        text = vocabulary().decode(new[: new.index(EOS)])
        assert automaton.grammar.accepts(text), text


def test_the_same_seed_gives_the_same_texts(automaton: TokenAutomaton) -> None:
    def once() -> list[list[int]]:
        torch.manual_seed(7)
        return _written(custom_generate=SpeculativeGenerate(automaton), do_sample=True)

    assert once() == once()


def test_the_limit_of_generate_is_read(automaton: TokenAutomaton) -> None:
    with pytest.raises(BudgetError, match="raise it to at least"):
        _written(custom_generate=SpeculativeGenerate(automaton), max_new_tokens=5)


class _After(StoppingCriteria):  # type: ignore[misc]
    """Stops once a token has come."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids[:, -1] == self.token


def test_stopping_criteria(automaton: TokenAutomaton) -> None:
    whole = _plain(automaton)[0][PROMPTS.shape[1] :]
    token = whole[4]
    rows = _written(
        custom_generate=SpeculativeGenerate(automaton),
        stopping_criteria=StoppingCriteriaList([_After(token)]),
    )
    assert rows[0][PROMPTS.shape[1] :][: whole.index(token) + 1] == whole[: whole.index(token) + 1]
    assert EOS not in rows[0]


class _Collected(BaseStreamer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


def test_streamer(automaton: TokenAutomaton) -> None:
    streamer = _Collected()
    out = model().generate(
        PROMPTS[:1],
        custom_generate=SpeculativeGenerate(automaton, streamer=streamer),
        max_new_tokens=BUDGET,
        do_sample=False,
    )
    assert streamer.ended
    assert [t for piece in streamer.pieces for t in piece] == out[0].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 3}, "beams"),
        ({"return_dict_in_generate": True}, "only token ids"),
    ],
)
def test_what_it_cannot_do_is_said(
    automaton: TokenAutomaton, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _written(custom_generate=SpeculativeGenerate(automaton), **options)


def test_text_is_json(automaton: TokenAutomaton) -> None:
    row = _written(custom_generate=SpeculativeGenerate(automaton))[0][PROMPTS.shape[1] :]
    json.loads(vocabulary().decode(row[: row.index(EOS)]))
