"""Several answers with weights: a sample of the model's own law given the grammar."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import AfterValidator, ValidationError
from test_extraction import EOS, TOKENIZER, Order, model

import samplers
from constrain import BudgetError, extract
from samplers import AlignedSampling, SpeculativeBackend, UnsupportedModel, extract_samples

KINDS = Literal["tea", "coffee", "cocoa", "cold tea"]


def short(text: str, schema: str) -> str:
    return f"{text} ->"


OPTIONS: dict[str, Any] = {"prompt": short, "max_new_tokens": 40}


def exact() -> dict[str, float]:
    """The model's law of the answers, each text being written in one way only."""
    prompt = TOKENIZER("Tea. ->")["input_ids"]
    logs = {}
    for kind in ("tea", "coffee", "cocoa", "cold tea"):
        ids = [*TOKENIZER(f'"{kind}"')["input_ids"], EOS]
        with torch.no_grad():
            scores = model()(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
        logs[kind] = math.fsum(
            float(scores[len(prompt) + i - 1, token]) for i, token in enumerate(ids)
        )
    total = math.fsum(map(math.exp, logs.values()))
    return {kind: math.exp(log) / total for kind, log in logs.items()}


@pytest.mark.parametrize("sampler", [samplers.GrammarConstrained, AlignedSampling])
def test_weighted_answers_follow_the_models_law(sampler: Any) -> None:
    n = 400 if sampler is samplers.GrammarConstrained else 40
    found = extract_samples(
        model(), TOKENIZER, "Tea.", KINDS, n, seed=1, sampler=sampler, **OPTIONS
    )
    assert len(found) == n
    assert math.fsum(one.weight for one in found) == pytest.approx(1)
    shares: dict[str, float] = defaultdict(float)
    plain: dict[str, float] = defaultdict(float)
    for one in found:
        assert one.complete
        shares[one.value] += one.weight
        plain[one.value] += 1 / n
    law = exact()
    far = max(abs(shares[kind] - law[kind]) for kind in law)
    assert far < (0.08 if n == 400 else 0.25)
    if sampler is samplers.GrammarConstrained:  # whose own law is another one
        assert max(abs(plain[kind] - law[kind]) for kind in law) > 2 * far


def test_it_is_repeated_by_its_seed() -> None:
    backend = SpeculativeBackend(model(), TOKENIZER)
    first = extract_samples(model(), TOKENIZER, "Tea.", Order, 5, seed=3, **OPTIONS)
    again = extract_samples(
        model(), TOKENIZER, "Tea.", Order, 5, seed=3, backend=backend, **OPTIONS
    )
    assert [one.tokens for one in again] == [one.tokens for one in first]
    assert [one.weight for one in again] == pytest.approx([one.weight for one in first], rel=1e-3)
    assert all(isinstance(one.value, Order) for one in first)
    assert len({one.text for one in first}) > 1
    (only,) = extract_samples(model(), TOKENIZER, "Tea.", Order, 1, **OPTIONS)
    assert only.weight == 1


def no_tea(value: str) -> str:
    if "tea" in value:
        raise ValueError("no tea")
    return value


@pytest.mark.filterwarnings("ignore:a grammar cannot keep")
def test_answers_that_a_validator_refuses_weigh_nothing() -> None:
    wanted = Annotated[KINDS, AfterValidator(no_tea)]
    found = extract_samples(model(), TOKENIZER, "Tea.", wanted, 12, seed=2, **OPTIONS)
    refused = [one for one in found if one.error is not None]
    assert 0 < len(refused) < 12
    for one in refused:
        assert isinstance(one.error, ValidationError)
        assert (one.value, one.weight) == (None, 0.0)
        assert "tea" in one.text
    assert math.fsum(one.weight for one in found) == pytest.approx(1)
    none = Annotated[Literal["tea", "teapot"], AfterValidator(no_tea)]
    with pytest.raises(ValidationError, match="no tea"):
        extract_samples(model(), TOKENIZER, "Tea.", none, 3, **OPTIONS)


def test_the_prompt_is_that_of_extract() -> None:
    prompts: list[list[int]] = []

    class Noting(samplers.GrammarConstrained):
        def sample(self, prompt: Any, *args: Any, **options: Any) -> Any:
            prompts.append(list(prompt))
            return super().sample(prompt, *args, **options)

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **_: Any) -> list[int]:
        prompts.append(input_ids[0].tolist())
        return []

    order = Order(paid=True, kind="tea")
    more: dict[str, Any] = {"system": "Be brief.", "examples": [("Tea, paid.", order)]}
    extract_samples(model(), TOKENIZER, "Tea.", Order, 1, sampler=Noting, **more, **OPTIONS)
    extract(model(), TOKENIZER, "Tea.", Order, generate=write, **more, **OPTIONS)
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"n": 0}, ValueError, "n=0"),
        ({"temperature": 0}, ValueError, "sampling needs one above 0"),
        ({"max_new_tokens": 3}, BudgetError, "at least"),
        ({"backend": 3}, TypeError, "extract_samples needs a SpeculativeBackend"),
        ({"seed": -1}, ValueError, "seed"),
    ],
    ids=str,
)
def test_what_is_refused(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        extract_samples(model(), TOKENIZER, "Tea.", Order, **(OPTIONS | options))


def test_models_that_cannot_take_tokens_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedModel("no tree")

    monkeypatch.setattr("samplers.several.SpeculativeBackend", refuse)
    with pytest.raises(UnsupportedModel):
        extract_samples(model(), TOKENIZER, "Tea.", Order, **OPTIONS)


def test_grounded_answers() -> None:
    wanted = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
    found = extract_samples(
        model(), TOKENIZER, "Ada met Bob.", wanted, 4, grounded=True, seed=1, **OPTIONS
    )
    assert all(one.value["who"] in "Ada met Bob." for one in found)


def test_places_and_confidence_of_each() -> None:
    for one in extract_samples(model(), TOKENIZER, "cold tea", KINDS, 3, seed=1, **OPTIONS):
        assert list(one.confidence) == [""]
        assert 0 < one.confidence[""] < 1
        assert list(one.sources) == ([""] if one.value in "cold tea" else [])
