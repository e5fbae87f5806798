"""Contrastive decoding against plain forwards, and the laws that no weighing may break."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_extraction import CHAT, TEXT, model

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from extraction_contrast import NO_TEXT, Contrast

from constrain import TokenAutomaton, extract
from constrain.describe import describe_schema
from constrain.huggingface.asking import default_prompt, encode_prompt
from constrain.huggingface.extraction import automaton_for
from grammars import Grammar

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"who": {"type": "string", "maxLength": 8}, "sum": {"type": "integer"}},
    "required": ["who", "sum"],
    "additionalProperties": False,
}
PROMPT = encode_prompt(model(), CHAT, default_prompt(TEXT, describe_schema(SCHEMA)))
WITHOUT = encode_prompt(model(), CHAT, default_prompt(NO_TEXT, describe_schema(SCHEMA)))


def automaton() -> TokenAutomaton:
    return automaton_for(Grammar.from_json_schema(SCHEMA), CHAT, model())


def logprobs(ids: list[int]) -> torch.Tensor:
    """Of the next token, by a forward of all ids."""
    with torch.no_grad():
        logits: torch.Tensor = model()(torch.tensor([ids])).logits[0, -1]
    return logits.float().log_softmax(-1)


def judged_by_definition(written: list[int], weight: float, within: float, left: int) -> set[int]:
    """The tokens that may come next, by two whole forwards; several where they are equally good."""
    made = automaton()
    state = made.start
    for token in written:
        state = made.advance(state, token)
    read, unread = logprobs(PROMPT + written), logprobs(WITHOUT + written)
    allowed = made.allowed_tokens(state, left).tolist()
    best = max(float(read[t]) for t in allowed)
    scores = {
        t: (1 + weight) * float(read[t]) - weight * float(unread[t])
        for t in allowed
        if read[t] >= best - within - 1e-4
    }
    most = max(scores.values())
    return {t for t, score in scores.items() if score >= most - 1e-3}


def write(weight: float, within: float, budget: int = 60, streamer: Any = None) -> list[int]:
    made = Contrast(WITHOUT, weight=weight, within=within)
    ids = torch.tensor([PROMPT])
    return made(model(), ids, automaton(), max_new_tokens=budget, streamer=streamer)


@pytest.mark.parametrize(("weight", "within"), [(0.0, 3.0), (1.0, 3.0), (2.5, 0.5), (1.0, 50.0)])
def test_each_token_is_the_best_by_definition(weight: float, within: float) -> None:
    tokens = write(weight, within)
    made = automaton()
    state, chosen = made.start, 0
    settled = made.forced_tokens(state)
    for i, token in enumerate(tokens):
        if settled:
            assert token == settled.pop(0)
        else:
            assert token in judged_by_definition(tokens[:i], weight, within, 60 - i)
            chosen += 1
        state = made.advance(state, token)
        if not settled:
            settled = list(made.forced_tokens(state))
    assert state == made.FINISHED
    assert chosen >= 3


def test_weight_changes_what_is_written() -> None:
    assert write(0.0, 50.0) != write(4.0, 50.0)


def test_a_contrast_with_the_prompt_itself_changes_nothing() -> None:
    same = Contrast(PROMPT, weight=3.0)
    found = same(model(), torch.tensor([PROMPT]), automaton(), max_new_tokens=60)
    assert found == write(0.0, 3.0)


@pytest.mark.parametrize("budget", [30, 40, 60])
def test_texts_are_complete_within_any_budget(budget: int) -> None:
    made = automaton()
    fewest = made.min_tokens_to_accept(made.start) + 1
    for most in {max(budget, fewest), fewest}:
        tokens = write(1.0, 3.0, most)
        assert len(tokens) <= most
        assert tokens[-1] == CHAT.eos_token_id
        assert set(json.loads(CHAT.decode(tokens[:-1]))) == {"who", "sum"}


def test_extract_takes_it_and_streams_what_is_chosen() -> None:
    class Heard:
        def __init__(self) -> None:
            self.ids: list[int] = []
            self.ended = 0

        def put(self, value: torch.Tensor) -> None:
            self.ids += value.flatten().tolist()

        def end(self) -> None:
            self.ended += 1

    heard = Heard()
    made = Contrast.for_schema(model(), CHAT, SCHEMA)
    assert made.without == WITHOUT
    found = extract(
        model(), CHAT, TEXT, SCHEMA, grounded=True, generate=made, max_new_tokens=80, streamer=heard
    )
    assert found.complete
    assert found.value["sum"] == 12
    assert found.value["who"] in TEXT
    assert heard.ids[-len(found.tokens) :] == found.tokens
    assert heard.ended == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"without": []}, "has no tokens"),
        ({"without": [1], "weight": -1.0}, "weight must be"),
        ({"without": [1], "weight": math.nan}, "weight must be"),
        ({"without": [1], "within": math.inf}, "within must be"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Contrast(options.pop("without"), **options)
