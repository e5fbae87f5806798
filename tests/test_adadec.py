"""AdaDec against greedy decoding and a look-ahead written without trees and caches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from test_aligned import (
    BUDGET,
    EOS,
    PROMPT,
    Text,
    automaton,
    backend,
    is_open,
    logprobs,
    mass,
    model,
)

from constrain import BudgetError
from samplers import AdaDec, GrammarConstrained
from samplers.adadec import fit_threshold, learn_threshold, teacher_forced


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def masked_row(text: Text) -> dict[int, float]:
    row = logprobs(text)
    allowed = [t for t in range(len(row)) if is_open((*text, t))]
    total = np.logaddexp.reduce(row[allowed])
    return {t: float(row[t] - total) for t in allowed}


def slow(threshold: float, beams: int, lookahead: int) -> tuple[Text, int]:
    """The text, and how often it paused."""
    text: Text = ()
    pauses = 0
    while not text or text[-1] != EOS:
        row = masked_row(text)
        h = -sum(math.exp(v) * v for v in row.values())
        if h < threshold or len(row) == 1:
            text = (*text, max(row, key=lambda t: row[t]))
            continue
        pauses += 1
        best, best_score = -1, -math.inf
        for token in sorted(row, key=lambda t: -row[t])[:beams]:
            way, total = (*text, token), row[token]
            for _ in range(lookahead):
                if way[-1] == EOS:
                    break
                after = masked_row(way)
                following = max(after, key=lambda t: after[t])
                way, total = (*way, following), total + after[following]
            score = total / (len(way) - len(text))
            if score > best_score:
                best, best_score = token, score
        text = (*text, best)
    return text, pauses


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.1, 1.3])
@pytest.mark.parametrize(("beams", "lookahead"), [(3, 5), (2, 1), (4, 0)])
def test_agrees_with_the_slow_way(threshold: float, beams: int, lookahead: int) -> None:
    sampler = AdaDec(backend(), automaton(), threshold=threshold, beams=beams, lookahead=lookahead)
    (sample,) = sampler.sample(PROMPT, max_new_tokens=BUDGET)
    text, pauses = slow(threshold, beams, lookahead)
    assert tuple(sample.token_ids) == text
    assert sampler.report.pauses == pauses
    assert sample.complete
    assert sample.logprob == pytest.approx(math.log(mass()[text]))


def test_no_pause_is_greedy() -> None:
    (a,) = AdaDec(backend(), automaton(), threshold=math.inf).sample(PROMPT, max_new_tokens=BUDGET)
    (b,) = GrammarConstrained(backend(), automaton()).sample(
        PROMPT, max_new_tokens=BUDGET, temperature=0
    )
    assert a.token_ids == b.token_ids
    assert a.logprob == pytest.approx(b.logprob)


def test_free_text() -> None:
    (a,) = AdaDec(backend(), threshold=0.4).sample(PROMPT, max_new_tokens=8)
    assert 1 <= len(a.token_ids) <= 8


@pytest.mark.parametrize("threshold", [0.0, 0.9, math.inf])
def test_stops_where_it_is_told(threshold: float) -> None:
    # without roll-outs, which would stop too, so that another candidate might be the best
    sampler = AdaDec(backend(), threshold=threshold, lookahead=0)
    (whole,) = sampler.sample(PROMPT, max_new_tokens=8)
    for length in range(1, len(whole.token_ids) + 1):
        most = len(PROMPT) + length
        (cut,) = sampler.sample(
            PROMPT, max_new_tokens=8, stop=lambda ids, most=most: len(ids) >= most
        )
        assert cut.token_ids == whole.token_ids[:length]
        assert cut.complete == (cut.token_ids[-1] == EOS)


def test_roll_outs_stop_too() -> None:
    seen: list[int] = []

    def stop(ids: Sequence[int]) -> bool:
        seen.append(len(ids))
        return len(ids) >= len(PROMPT) + 2

    sampler = AdaDec(backend(), automaton(), threshold=0.0)
    (sample,) = sampler.sample(PROMPT, max_new_tokens=BUDGET, stop=stop)
    assert len(sample.token_ids) <= 2
    assert max(seen) <= len(PROMPT) + 2


def test_requests() -> None:
    sampler = AdaDec(backend(), automaton())
    with pytest.raises(ValueError, match="greedy"):
        sampler.sample(PROMPT, 2)
    with pytest.raises(ValueError, match="greedy"):
        sampler.sample(PROMPT, temperature=1.0)
    with pytest.raises(BudgetError):
        sampler.sample(PROMPT, max_new_tokens=1)
    with pytest.raises(ValueError, match="threshold"):
        AdaDec(backend(), automaton(), threshold=-1)


def test_a_planted_threshold_is_found() -> None:
    rng = np.random.default_rng(0)
    h = rng.uniform(0, 3, 40_000)
    right = rng.random(len(h)) < 1 / (1 + np.exp(-(-2.0 * h + 3.0)))
    hits = right.mean()
    found = fit_threshold(h, right)
    # balancing the classes shifts the log-odds by their ratio
    wanted = (0.0 - (3.0 - math.log(hits / (1 - hits)))) / -2.0
    assert found.weight == pytest.approx(-2.0, abs=0.1)
    assert found.value == pytest.approx(wanted, abs=0.05)


def test_references_are_read_token_by_token() -> None:
    for text in list(mass())[:5]:
        entropies, hits = teacher_forced(model(), PROMPT, text)
        for i, token in enumerate(text):
            row = logprobs(text[:i])
            assert entropies[i] == pytest.approx(float(-(np.exp(row) * row).sum()), abs=1e-5)
            assert hits[i] == (int(np.argmax(row)) == token)


def test_degenerate_references() -> None:
    with pytest.raises(ValueError, match="needs both cases"):
        fit_threshold(np.array([1.0, 2.0]), np.array([True, True]))
    with pytest.raises(ValueError, match="surer where it is wrong"):
        fit_threshold(np.array([1.0, 2.0, 1.1, 1.9]), np.array([False, True, False, True]))
    pairs = [(PROMPT, list(text)) for text in mass()]
    with pytest.raises(ValueError, match=r"cutoff=1\.0"):
        learn_threshold(model(), pairs, cutoff=1.0)
