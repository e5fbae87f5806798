"""Adaptive weighted rejection: unbiased token by token (enumerated) and text by text (drawn)."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from enumeration import runs, total_variation
from test_aligned import BUDGET, PROMPT, automaton, backend, exact, expected_variation, mass

from constrain import BudgetError
from samplers import AWRS
from samplers.aligned.awrs import draw_token
from samplers.speculative.law import Law


def _law(p: list[float]) -> Law:
    weights = np.array(p)
    logp = np.log(weights / weights.sum())
    return Law(None, weights, logp, logp)


@pytest.mark.parametrize(
    ("p", "legal"),
    [
        ([0.5, 0.5], {0}),
        ([0.7, 0.2, 0.1], {0, 2}),
        ([0.7, 0.2, 0.1], {1}),
        ([0.1, 0.2, 0.3, 0.4], {0, 1, 2, 3}),
        ([0.05, 0.15, 0.3, 0.1, 0.4], {0, 3}),
        ([0.9, 0.04, 0.03, 0.02, 0.01], {4}),
    ],
    ids=str,
)
def test_a_token_is_properly_weighted(p: list[float], legal: set[int]) -> None:
    """E[Z^ 1(token = x)] = p(x) for every legal x, over all orders of candidates."""
    law = _law(p)
    found: dict[int, float] = defaultdict(float)
    for (token, log_mass, tested), chance in runs(
        lambda choices: draw_token(law, legal.__contains__, choices)
    ):
        found[token] += chance * math.exp(log_mass)
        assert 1 <= tested <= len(p)
    assert set(found) == legal
    for token in legal:
        assert found[token] == pytest.approx(p[token], abs=1e-12)


def test_nothing_is_legal() -> None:
    for (token, log_mass, _), _ in runs(
        lambda c: draw_token(_law([0.6, 0.4]), set().__contains__, c)
    ):
        assert token == -1
        assert log_mass == -math.inf


@pytest.mark.parametrize("particles", [1, 4])
def test_evidence_is_unbiased(particles: int) -> None:
    sampler = AWRS(backend(), automaton(), particles=particles)
    sampler.sample(PROMPT, 1200 // particles, max_new_tokens=BUDGET, seed=1)
    z = np.exp(sampler.log_evidence)
    error = z.std(ddof=1) / math.sqrt(len(z))
    assert abs(z.mean() - sum(mass().values())) < 4 * error


def test_weighted_texts_follow_the_model() -> None:
    samples = AWRS(backend(), automaton(), particles=3).sample(
        PROMPT, 700, max_new_tokens=BUDGET, seed=2
    )
    total = sum(s.weight for s in samples)
    law: dict[tuple[int, ...], float] = defaultdict(float)
    for s in samples:
        law[tuple(s.token_ids)] += s.weight / total
        assert s.complete
        assert automaton().grammar.accepts(s.text)
        assert s.logprob == pytest.approx(math.log(mass()[tuple(s.token_ids)]))
    ess = total**2 / sum(s.weight**2 for s in samples)
    assert total_variation(law, exact()) < 2 * expected_variation(exact(), int(ess))


def test_seeds_and_requests() -> None:
    sampler = AWRS(backend(), automaton())
    a = sampler.sample(PROMPT, 5, max_new_tokens=BUDGET, seed=3)
    b = sampler.sample(PROMPT, 5, max_new_tokens=BUDGET, seed=3)
    assert [s.token_ids for s in a] == [s.token_ids for s in b]
    with pytest.raises(BudgetError):
        sampler.sample(PROMPT, 1, max_new_tokens=1)
    with pytest.raises(ValueError, match="particles"):
        AWRS(backend(), automaton(), particles=0)
    with pytest.raises(ValueError, match="above 0"):
        sampler.sample(PROMPT, 1, max_new_tokens=BUDGET, temperature=0.0)
