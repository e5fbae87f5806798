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
from samplers.aligned.awrs import Estimator, draw_token
from samplers.speculative.choices import Drawn
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
        lambda choices: draw_token(law, legal.__contains__, choices, "recursive")
    ):
        found[token] += chance * math.exp(log_mass)
        assert 1 <= tested <= len(p)
    assert set(found) == legal
    for token in legal:
        assert found[token] == pytest.approx(p[token], abs=1e-12)


@pytest.mark.parametrize(
    ("p", "legal", "accepts"),
    [
        ([0.8, 0.2], {0}, 2),
        ([0.8, 0.2], {0, 1}, 3),
        ([0.3, 0.7], {1}, 2),
        ([0.75, 0.15, 0.1], {0, 2}, 2),
        ([0.2, 0.7, 0.1], {1, 2}, 3),
        ([0.05, 0.9, 0.05], {1}, 2),
    ],
    ids=str,
)
def test_the_geometric_estimate_is_properly_weighted(
    p: list[float], legal: set[int], accepts: int
) -> None:
    """The same, with as many phantom rejects as come with any probability to speak of."""
    law = _law(p)
    found: dict[int, float] = defaultdict(float)
    for (token, log_mass, tested), chance in runs(
        lambda c: draw_token(law, legal.__contains__, c, "geometric", accepts)
    ):
        found[token] += chance * math.exp(log_mass)
        assert 1 <= tested <= len(p)
    assert set(found) == legal
    for token in legal:
        assert found[token] == pytest.approx(p[token], abs=1e-9)


def test_a_sure_legal_token_costs_one_test() -> None:
    drawn = [draw_token(_law([0.99, 0.01]), {0}.__contains__, Drawn(i)) for i in range(50)]
    sure = [(token, log_mass) for token, log_mass, tested in drawn if tested == 1]
    assert len(sure) > 40
    assert set(sure) == {(0, 0.0)}


@pytest.mark.parametrize("estimator", ["recursive", "geometric"])
def test_nothing_is_legal(estimator: Estimator) -> None:
    for (token, log_mass, _), _ in runs(
        lambda c: draw_token(_law([0.6, 0.4]), set().__contains__, c, estimator)
    ):
        assert token == -1
        assert log_mass == -math.inf


def test_failures_are_geometric() -> None:
    choices = Drawn(1)
    drawn = [choices.failures(0.8) for _ in range(4000)]
    assert abs(np.mean(drawn) - 4.0) < 4 * math.sqrt(20 / 4000)
    assert choices.failures(0.0) == 0


@pytest.mark.parametrize("estimator", ["recursive", "geometric"])
@pytest.mark.parametrize("particles", [1, 4])
def test_evidence_is_unbiased(particles: int, estimator: Estimator) -> None:
    sampler = AWRS(backend(), automaton(), particles=particles, estimator=estimator)
    sampler.sample(PROMPT, 1200 // particles, max_new_tokens=BUDGET, seed=1)
    z = np.exp(sampler.report.log_evidences)
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


def test_runs_side_by_side_are_runs_alone() -> None:
    """A sample depends on its own seed, not on what else is drawn with it."""
    together = AWRS(backend(), automaton(), particles=3).sample(
        PROMPT, 7, max_new_tokens=BUDGET, seed=4
    )
    one_by_one = backend()
    one_by_one.max_rows = 1
    alone = AWRS(one_by_one, automaton(), particles=3).sample(
        PROMPT, 7, max_new_tokens=BUDGET, seed=4
    )
    assert [s.token_ids for s in together] == [s.token_ids for s in alone]
    assert [s.weight for s in together] == pytest.approx([s.weight for s in alone])


def test_a_bar_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    AWRS(backend(), automaton()).sample(PROMPT, 3, max_new_tokens=BUDGET, progress=True)
    assert "3/3" in capsys.readouterr().err
    AWRS(backend(), automaton()).sample(PROMPT, 3, max_new_tokens=BUDGET)
    assert capsys.readouterr().err == ""


def test_seeds_and_requests() -> None:
    sampler = AWRS(backend(), automaton())
    a = sampler.sample(PROMPT, 5, max_new_tokens=BUDGET, seed=3)
    b = sampler.sample(PROMPT, 5, max_new_tokens=BUDGET, seed=3)
    assert [s.token_ids for s in a] == [s.token_ids for s in b]
    with pytest.raises(BudgetError):
        sampler.sample(PROMPT, 1, max_new_tokens=1)
    with pytest.raises(ValueError, match="estimator"):
        AWRS(backend(), automaton(), estimator="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="particles"):
        AWRS(backend(), automaton(), particles=0)
    with pytest.raises(ValueError, match="above 0"):
        sampler.sample(PROMPT, 1, max_new_tokens=BUDGET, temperature=0.0)
