"""One check of what is asked for, in every sampler, before the model is called; and one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_aligned import BUDGET, PROMPT, ROWS, automaton, backend

from grammars.errors import BudgetError
from samplers import (
    ARS,
    AWRS,
    CARS,
    HMM,
    RSFT,
    AdaDec,
    AlignedSampling,
    ASAp,
    ConstrainedMCMC,
    CtrlG,
    DecoG,
    GrammarConstrained,
    RejectionSampling,
    SamplingOptions,
    SpeculativeBackend,
)
from samplers.aligned.rejection import AttemptsExhausted
from samplers.rows import Rows

Maker = Callable[[SpeculativeBackend], Any]


def hmm() -> HMM:
    states = 2
    return HMM(
        torch.full((states,), 1 / states),
        torch.full((states, states), 1 / states),
        torch.full((states, ROWS), 1 / ROWS),
    )


ALIGNED: dict[str, Maker] = {
    kind.__name__: lambda b, kind=kind: kind(b, automaton())  # type: ignore[misc]
    for kind in (
        RejectionSampling,
        ARS,
        RSFT,
        CARS,
        ASAp,
        ConstrainedMCMC,
        AWRS,
        AlignedSampling,
    )
}
SAMPLERS: dict[str, Maker] = ALIGNED | {
    "AdaDec": lambda b: AdaDec(b, automaton()),
    "AdaDec, free": lambda b: AdaDec(b),
    "GrammarConstrained": lambda b: GrammarConstrained(b, automaton()),
    "DecoG": lambda b: DecoG(b, automaton(), hmm()),
    "CtrlG": lambda b: CtrlG(b, automaton(), hmm()),
}
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"n": 0}, ValueError, "n=0: must be at least 1"),
    ({"n": -1}, ValueError, "n=-1: must be at least 1"),
    ({"n": 1.5}, TypeError, "n must be an integer, not 1.5"),
    ({"n": True}, TypeError, "n must be an integer, not True"),
    ({"n": "2"}, TypeError, "n must be an integer, not the text '2'"),
    ({"n": None}, TypeError, "n must be an integer, not None"),
    ({"max_attempts": 0}, ValueError, "max_attempts=0: must be at least 1"),
    ({"max_attempts": -3}, ValueError, "max_attempts=-3: must be at least 1"),
    ({"max_attempts": 2.0}, TypeError, "max_attempts must be an integer, not 2.0"),
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens=0: must be at least 1"),
    ({"max_new_tokens": -1}, ValueError, "max_new_tokens=-1: must be at least 1"),
    ({"max_new_tokens": 4.0}, TypeError, "max_new_tokens must be an integer, not 4.0"),
    ({"temperature": -0.5}, ValueError, "temperature=-0.5: must be 0 or more"),
    ({"temperature": float("nan")}, ValueError, "temperature=nan: must be 0 or more"),
    ({"temperature": float("inf")}, ValueError, "temperature=inf: must be 0 or more"),
    ({"temperature": "hot"}, TypeError, "temperature='hot': must be a number"),
    ({"temperature": None}, TypeError, "temperature=None: must be a number"),
    ({"top_p": 0.0}, ValueError, "top_p=0.0: must be above 0"),
    ({"top_p": 1.1}, ValueError, "top_p=1.1: must be above 0"),
    ({"top_p": float("nan")}, ValueError, "top_p=nan: must be above 0"),
    ({"top_p": "all"}, TypeError, "top_p='all': must be a number"),
    ({"seed": -1}, ValueError, "seed=-1: must be 0 or more"),
    ({"seed": 0.5}, TypeError, "seed must be an integer, not 0.5"),
]


@pytest.mark.parametrize("name", SAMPLERS)
def test_bad_arguments_are_refused_with_one_message(name: str) -> None:
    made = backend()
    sampler = SAMPLERS[name](made)
    for given, error, message in BAD:
        with pytest.raises(error) as caught:
            sampler.sample(PROMPT, **({"max_new_tokens": BUDGET} | given))
        assert str(caught.value).startswith(message), (name, given)
    assert made.forwards == 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_models_and_grammars_are_told_apart_from_backends_and_automata(name: str) -> None:
    made = backend()
    with pytest.raises(TypeError, match=r"needs a SpeculativeBackend, not .*SpeculativeBackend\("):
        SAMPLERS[name](made.model)
    if name != "AdaDec, free":
        kind = type(SAMPLERS[name](made))
        more = (hmm(),) if name in ("DecoG", "CtrlG") else ()
        with pytest.raises(TypeError, match=r"needs a TokenAutomaton, not .*Grammar"):
            kind(made, automaton().grammar, *more)


@pytest.mark.parametrize("name", SAMPLERS)
def test_numbers_of_numpy_are_numbers(name: str) -> None:
    sampler = SAMPLERS[name](backend())
    given: dict[str, Any] = {} if name.startswith("AdaDec") else {"temperature": np.float64(1.0)}
    samples = sampler.sample(
        PROMPT, np.int64(1), max_new_tokens=np.int32(BUDGET), seed=np.int64(1), **given
    )
    assert len(samples) == 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_report_what_the_last_call_did(name: str) -> None:
    made = backend()
    sampler = SAMPLERS[name](made)
    assert (sampler.report.samples, sampler.report.forwards) == (0, 0)
    given: dict[str, Any] = {} if name.startswith("AdaDec") else {"n": 3, "temperature": 1.0}
    for seed in range(2):
        before = made.forwards
        samples = sampler.sample(PROMPT, max_new_tokens=BUDGET, seed=seed, **given)
        report = sampler.report
        assert report.samples == len(samples)
        assert report.forwards == made.forwards - before
        assert report.method == samples[0].method
        assert report.attempts >= report.accepted > 0
        assert 0 < report.acceptance <= 1
    made.forwards += 1
    with pytest.raises(ValueError, match="must be at least"):
        sampler.sample(PROMPT, max_new_tokens=0)
    assert sampler.report is report  # a call that is refused leaves the last report


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_have_the_same_call(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    sampler = SAMPLERS[name](backend())
    parameters = inspect.signature(type(sampler).sample).parameters
    own = ["stop"] if name.startswith("AdaDec") else []
    assert list(parameters) == ["self", "prompt", "n", "options", *own, "given"]
    greedy = 0.0 if name.startswith("AdaDec") else 1.0
    assert sampler.defaults == SamplingOptions(temperature=greedy)
    seen: list[int] = []
    (sample,) = sampler.sample(
        PROMPT,
        max_new_tokens=BUDGET,
        seed=1,
        progress=True,
        on_tokens=lambda number, tokens: seen.extend(tokens),
    )
    assert seen == sample.token_ids
    shown = capsys.readouterr().err
    assert "1/1" in shown or "proposals" in shown
    sampler.sample(PROMPT, max_new_tokens=BUDGET, seed=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", SAMPLERS)
def test_options_are_as_good_as_arguments(name: str) -> None:
    options = SamplingOptions(
        max_new_tokens=BUDGET, seed=3, temperature=0.0 if name.startswith("AdaDec") else 1.0
    )
    (given,) = SAMPLERS[name](backend()).sample(PROMPT, options=options)
    (also,) = SAMPLERS[name](backend()).sample(PROMPT, 1, replace(options, seed=4), seed=3)
    temperature = options.temperature
    (said,) = SAMPLERS[name](backend()).sample(
        PROMPT, max_new_tokens=BUDGET, seed=3, temperature=temperature
    )
    assert given.token_ids == also.token_ids == said.token_ids
    with pytest.raises(TypeError, match=r"'temprature' \(did you mean 'temperature'\?\)"):
        SAMPLERS[name](backend()).sample(PROMPT, temprature=1.0)
    with pytest.raises(TypeError, match=r"options must be SamplingOptions"):
        SAMPLERS[name](backend()).sample(PROMPT, options={"seed": 3})


def test_options_say_at_once_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="top_p=0: must be above 0"):
        SamplingOptions(top_p=0)
    assert SamplingOptions(seed=1) == replace(SamplingOptions(), seed=1)


@pytest.mark.parametrize("name", ALIGNED)
def test_truncation_is_refused_where_it_would_change_the_target(name: str) -> None:
    sampler = ALIGNED[name](backend())
    with pytest.raises(ValueError, match="above 0"):
        sampler.sample(PROMPT, max_new_tokens=BUDGET, temperature=0)
    with pytest.raises(ValueError, match="truncation"):
        sampler.sample(PROMPT, max_new_tokens=BUDGET, top_p=0.5)


@pytest.mark.parametrize("name", ["RejectionSampling", "ARS", "RSFT"])
def test_one_attempt_is_one_attempt(name: str) -> None:
    sampler = ALIGNED[name](backend())
    for seed in range(40):
        try:
            sampler.sample(PROMPT, max_new_tokens=BUDGET, seed=seed, max_attempts=1)
        except AttemptsExhausted:
            assert (sampler.report.attempts, sampler.report.accepted) == (1, 0)
            return
    pytest.fail("some attempt fails")


# -- rows and memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "particles"), [("AWRS", 5), ("AlignedSampling", 8), ("AdaDec", 1)]
)
def test_bounds_of_the_backend_hold(
    name: str, particles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Particles and roll-outs stay within ``max_rows`` and ``max_kv_bytes``."""
    caches: list[Any] = []
    read = SpeculativeBackend.read

    def noted(self: SpeculativeBackend, *asked: Any) -> Any:
        scorer = read(self, *asked)
        caches.append(scorer)
        score = scorer.score

        def scored(requests: Any, **options: Any) -> Any:
            out = score(requests, **options)
            sizes.append((scorer.rows, scorer.cache.nbytes))
            return out

        scorer.score = scored
        return scorer

    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr(SpeculativeBackend, "read", noted)
    free = backend()
    each = _bytes_per_token(free)
    for rows, tokens in ((2, None), (8, 40), (8, 26)):
        limit = None if tokens is None else tokens * each
        made = backend(max_rows=rows, max_kv_bytes=limit)
        given: dict[str, Any] = {"max_attempts": 1} if name == "AlignedSampling" else {}
        SAMPLERS[name](made).sample(PROMPT, max_new_tokens=BUDGET, seed=3, **given)
        assert sizes
        assert max(r for r, _ in sizes) <= rows
        if limit is not None:
            assert max(b for _, b in sizes) <= limit
        sizes.clear()
    small = SAMPLERS[name](backend(max_kv_bytes=3 * each))
    with pytest.raises(BudgetError, match="max_kv_bytes"):
        small.sample(PROMPT, max_new_tokens=BUDGET, seed=3)


def _bytes_per_token(made: SpeculativeBackend) -> int:
    rows = Rows(made, PROMPT, BUDGET, 1)
    rows.logits([()])
    return rows.scorer.bytes_per_token
