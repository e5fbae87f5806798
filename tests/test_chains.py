"""Chains of particle runs: laws enumerated where they can be, summed exactly where they are too large."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import Enumerated, runs, total_variation
from markov import EOS, Markov, mean_logprob, trapping
from test_aligned import (
    BUDGET,
    PROMPT,
    Text,
    automaton,
    backend,
    exact,
    expected_variation,
    frequencies,
    logprobs,
    mass,
)

from samplers import (
    ARS,
    AWRS,
    CARS,
    AdaDec,
    AlignedSampling,
    ASAp,
    ConstrainedMCMC,
    GrammarConstrained,
    RejectionSampling,
    Sample,
)
from samplers.aligned.automatic import DISTINCT, MOST_STEPS, STAYING
from samplers.aligned.chain import Chain
from samplers.aligned.particles import Run, complete, effective
from samplers.aligned.twisted import Twisted
from samplers.rows import Rows
from samplers.speculative.choices import Drawn
from samplers.speculative.law import Sampling

SHORT = 3


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# -- what can be enumerated --------------------------------------------------------------------------


class _Tables:
    """Stands for rows of a cache."""

    def logits(self, texts: list[Text]) -> dict[Text, Any]:
        return {text: torch.from_numpy(np.array(logprobs(text), np.float64)) for text in texts}


def short_mass() -> dict[Text, float]:
    return {text: p for text, p in mass().items() if len(text) <= SHORT}


def law_of_runs(particles: int, warm: int) -> dict[tuple[Text, float], float]:
    """The exact law of a run's text and its estimate, after some attempts of rejection."""
    sampler = CARS(backend(), automaton())
    if warm:
        sampler.sample(PROMPT, warm, max_new_tokens=SHORT, seed=warm)
    proposal = Twisted(sampler.memory(PROMPT, SHORT, 1.0).trie, Sampling())
    rows: Any = _Tables()

    def run(choices: Enumerated) -> tuple[Text, float]:
        made = Run(proposal, particles, 0.9, choices)
        complete(rows, [made])
        return tuple(made.sample().token_ids), round(made.log_evidence, 10)

    law: dict[tuple[Text, float], float] = defaultdict(float)
    for outcome, p in runs(run):
        law[outcome] += p
    return dict(law)


@pytest.mark.parametrize(("particles", "warm"), [(1, 0), (1, 3), (2, 0), (2, 2)])
def test_a_run_is_properly_weighted_and_its_kernel_leaves_the_model(
    particles: int, warm: int
) -> None:
    law = law_of_runs(particles, warm)
    assert sum(law.values()) == pytest.approx(1.0)
    found: dict[Text, float] = defaultdict(float)
    for (text, log_z), p in law.items():
        found[text] += p * math.exp(log_z)
    assert found == pytest.approx(short_mass(), abs=1e-9)  # E[Z^ 1(text = w)] = P(w)
    places = list(law)
    q = np.array([law[place] for place in places])
    z = np.exp([log_z for _, log_z in places])
    kernel = q[None, :] * np.minimum(1.0, z[None, :] / z[:, None])
    kernel += np.diag(1.0 - kernel.sum(axis=1))
    target = q * z / (q * z).sum()
    assert np.abs(target @ kernel - target).sum() < 1e-12
    # from masking's texts it leads to Q, whatever it began with
    at = q.copy()
    for _ in range(200):
        at = at @ kernel
    texts: dict[Text, float] = defaultdict(float)
    for (text, _), p in zip(places, at, strict=True):
        texts[text] += p
    total = sum(short_mass().values())
    assert total_variation(texts, {t: p / total for t, p in short_mass().items()}) < 1e-6


def test_a_chain_decides_by_its_own_kernel() -> None:
    """Decisions of the class, enumerated, are those of the kernel above."""
    logs = [-3.0, -2.0, -4.5, -math.inf, -2.5]
    outcomes: dict[tuple[int, ...], float] = defaultdict(float)

    def run(choices: Enumerated) -> tuple[int, ...]:
        chain = Chain(choices)
        for i, log_z in enumerate(logs):
            chain.add(None if log_z == -math.inf else _sample(i), log_z)
        return tuple(chain.visited)

    for visited, p in runs(run):
        outcomes[visited] += p
    expected: dict[tuple[int, ...], float] = {(0,): 1.0}
    for new in range(1, len(logs)):
        after: dict[tuple[int, ...], float] = defaultdict(float)
        for visited, p in expected.items():
            alpha = min(1.0, math.exp(logs[new] - logs[visited[-1]]))
            after[(*visited, new)] += p * alpha
            after[(*visited, visited[-1])] += p * (1 - alpha)
        expected = {visited: p for visited, p in after.items() if p > 0}
    assert dict(outcomes) == pytest.approx(expected)


def test_runs_that_die_are_never_where_a_chain_is() -> None:
    chain = Chain(Drawn(0))
    chain.add(None, -math.inf)
    assert not chain.begun
    chain.add(_sample(1), -5.0)
    chain.add(None, -math.inf)
    chain.add(_sample(3), -1.0)
    assert chain.visited == [1, 1, 3]
    assert chain.log_evidence == pytest.approx(math.log((math.exp(-5) + math.exp(-1)) / 4))
    assert [s.token_ids for s in chain.spaced(1)] == [[3]]


def test_samples_are_equally_spaced_and_cost_what_lies_between() -> None:
    chain = Chain(Drawn(0))
    for i in range(9):
        chain.add(_sample(i), 0.0)  # equal weights: it always moves
    spaced = chain.spaced(4)
    assert [s.token_ids for s in spaced] == [[2], [4], [6], [8]]
    assert sum(s.stats.forwards for s in spaced) == 9 * 10
    assert all(s.method == "MH" and not s.exact and s.weight == 1.0 for s in spaced)
    assert chain.distinct(4) == pytest.approx(4.0)
    stuck = Chain(Drawn(0))
    for i in range(9):
        stuck.add(_sample(i), -800.0 if i else 0.0)
    assert [s.token_ids for s in stuck.spaced(4)] == [[0]] * 4
    assert stuck.distinct(4) == pytest.approx(1.0)
    assert stuck.acceptance == 0
    assert sum(s.stats.rejected for s in stuck.spaced(4)) == 8
    assert stuck.staying(100) == pytest.approx(1.0)


def test_staying_is_the_mean_over_places() -> None:
    logs = np.random.default_rng(3).normal(size=40) * 2
    chain = Chain(Drawn(0))
    for i, log_z in enumerate(logs):
        chain.add(_sample(i), float(log_z))
    w = np.exp(logs)
    for steps in (1, 4):
        slow = 0.0
        for x in range(40):
            moves = np.mean([min(1.0, w[k] / w[x]) for k in range(40) if k != x])
            slow += w[x] / w.sum() * (1 - moves) ** steps
        assert chain.staying(steps) == pytest.approx(slow)


def _sample(number: int) -> Sample:
    sample = Sample([number], "", -1.0, -1.0)
    sample.stats.forwards = 10
    return sample


def test_a_small_language_drawn_by_chains() -> None:
    sampler = AlignedSampling(backend(), automaton(), enough=1.01, patience=8, calls=0)
    samples = sampler.sample(PROMPT, 60, max_new_tokens=BUDGET, seed=1)
    assert sampler.report.method == "MH"
    count = int(sampler.report.effective)
    assert total_variation(frequencies(samples), exact()) < 2 * expected_variation(exact(), count)
    assert sampler.report.log_evidence == pytest.approx(math.log(sum(mass().values())), abs=0.2)


# -- what is too large to be ---------------------------------------------------------------------------

LARGE: dict[str, Callable[[], Markov]] = {
    "8 letters, log Z -16": lambda: trapping(0, 13, 8, scale=1.2, bent=0.3, trap=2.5),
    "8 letters, log Z -9": lambda: trapping(3, 13, 8, scale=1.8, bent=-0.4, trap=3.0),
    "20 letters, log Z -18": lambda: trapping(3, 13, 20, scale=1.8, bent=-0.4, trap=3.0),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_reference_by_importance_is_the_exact_sum(name: str) -> None:
    toy = LARGE[name]()
    logp, log_weight = toy.masked(40_000, 1)
    weights = np.exp(log_weight - log_weight.max())
    ess = weights.sum() ** 2 / (weights**2).sum()
    mean = (weights * logp).sum() / weights.sum()
    spread = math.sqrt((weights**2 * (logp - mean) ** 2).sum()) / weights.sum()
    assert ess > (100 if toy.length > 8 else 500)
    assert abs(mean - toy.mean_logprob()) < 5 * spread
    log_mass = math.log(weights.mean()) + log_weight.max()
    assert log_mass == pytest.approx(toy.log_mass(), abs=5 / math.sqrt(ess))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8 letters, log Z -16", "8 letters, log Z -9"])
def test_large_languages_are_followed_where_masks_do_not(name: str) -> None:
    toy, count = LARGE[name](), 24
    sampler = AlignedSampling(toy.backend(), toy.automaton(), calls=0)
    samples = sampler.sample(toy.prompt, count, max_new_tokens=toy.budget, seed=1)
    report = sampler.report
    assert report.method == "MH"
    assert {s.method for s in samples if not s.exact} == {"MH"}
    for sample in samples:
        assert sample.logprob == pytest.approx(toy.logprob(sample.token_ids), abs=1e-6)
    mean, _ = mean_logprob(samples)
    spread = float(np.std([s.logprob for s in samples])) / math.sqrt(report.effective)
    assert abs(mean - toy.mean_logprob()) < 4 * spread
    masking, _ = mean_logprob(
        GrammarConstrained(toy.backend(), toy.automaton()).sample(
            toy.prompt, count, max_new_tokens=toy.budget, seed=1
        )
    )
    assert masking < toy.mean_logprob() - 3
    assert abs(mean - toy.mean_logprob()) < 0.5 * abs(masking - toy.mean_logprob())
    assert report.moved > 0.3
    assert report.effective >= DISTINCT * count
    error = 4 / math.sqrt(report.effective_runs)
    assert report.log_evidence == pytest.approx(toy.log_mass(), abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8 letters, log Z -16", "8 letters, log Z -9"])
def test_proposals_do_not_get_worse_by_what_was_learned(name: str) -> None:
    """Effective number of 60 runs, and whether a chain of them moves, from nothing and then warmer."""
    toy = LARGE[name]()
    sampler = CARS(toy.backend(), toy.automaton())
    memory = sampler.memory(toy.prompt, toy.budget, 1.0)
    source = np.random.SeedSequence(5)
    found = []
    for attempts in (0, 240):
        while memory.attempts < attempts:
            choices = [Drawn(seed) for seed in source.spawn(8)]
            sampler.round(toy.prompt, memory, 1.0, choices)
        rows = Rows(sampler.backend, toy.prompt, toy.budget, 8)
        chain = Chain(Drawn(0))
        for seed in range(60):
            run = Run(Twisted(memory.trie, Sampling()), 8, 0.5, Drawn(seed))
            complete(rows, [run])
            chain.add(run.sample(), run.log_evidence)
        found.append((chain.effective_runs, chain.acceptance))
    (cold, cold_moves), (warm, warm_moves) = found
    assert warm > 0.85 * cold  # noise of 60 runs; the bounds themselves would lose a third
    assert warm_moves > cold_moves - 0.05


def test_chains_grow_until_they_move_or_the_bounds_are_reached() -> None:
    toy = LARGE["20 letters, log Z -18"]()
    given: dict[str, Any] = {"calls": 0, "patience": 4, "particles": 1}
    free = AlignedSampling(toy.backend(), toy.automaton(), **given)
    free.sample(toy.prompt, 3, max_new_tokens=toy.budget, seed=1)
    assert free.report.steps > 2
    assert free.report.steps <= MOST_STEPS
    made = toy.backend()
    bounded = AlignedSampling(made, toy.automaton(), max_model_calls=40, **given)
    samples = bounded.sample(toy.prompt, 3, max_new_tokens=toy.budget, seed=1, max_attempts=1)
    assert len(samples) == 3
    assert made.forwards < 40 + 3 * toy.budget
    assert "max_model_calls=40" in bounded.report.reason
    fixed = AlignedSampling(toy.backend(), toy.automaton(), steps=3, **given)
    fixed.sample(toy.prompt, 3, max_new_tokens=toy.budget, seed=1, max_attempts=1)
    assert fixed.report.steps == 3
    assert STAYING < 1


@pytest.mark.parametrize("options", [{"max_rows": 1}, {"max_rows": 3}, {"max_rows": 40}, {}])
def test_fewer_rows_change_nothing_but_time(options: dict[str, int]) -> None:
    toy = LARGE["8 letters, log Z -9"]()
    sampler = AlignedSampling(toy.backend(**options), toy.automaton(), particles=4, calls=0)
    samples = sampler.sample(toy.prompt, 2, max_new_tokens=toy.budget, seed=1, max_attempts=1)
    assert len(samples) == 2
    for sample in samples:
        assert sample.logprob == pytest.approx(toy.logprob(sample.token_ids), abs=1e-6)


# -- which law a text is of ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "method", "is_exact"),
    [
        (RejectionSampling, "RejectionSampling", True),
        (ARS, "ARS", True),
        (CARS, "CARS", True),
        (ASAp, "ASAp", False),
        (ConstrainedMCMC, "ConstrainedMCMC", False),
        (AWRS, "AWRS", False),
        (GrammarConstrained, "GrammarConstrained", False),
        (AlignedSampling, "CARS", True),
    ],
)
def test_samples_say_which_law_they_are_of(sampler: Any, method: str, is_exact: bool) -> None:
    samples = sampler(backend(), automaton()).sample(PROMPT, 3, max_new_tokens=BUDGET, seed=1)
    assert {(s.method, s.exact) for s in samples} == {(method, is_exact)}
    (greedy,) = AdaDec(backend(), automaton()).sample(PROMPT, max_new_tokens=BUDGET)
    assert (greedy.method, greedy.exact) == ("AdaDec", False)


# -- runs that die -------------------------------------------------------------------------------------


def dying() -> Markov:
    """Half of the legal letters have no legal successor of any probability."""
    toy = trapping(1, 4, 3, scale=0.7, bent=0.0, trap=0.0)
    table = np.array(toy.table)
    table[:2, :4] = -2000.0
    table -= np.logaddexp.reduce(table, axis=1, keepdims=True)
    return Markov(table, 4, 3)


def test_the_mean_weight_counts_runs_that_died() -> None:
    toy = dying()
    truth = math.exp(toy.log_mass())
    sampler = AWRS(toy.backend(), toy.automaton(), particles=1)
    means, survived = [], []
    for seed in range(60):
        samples = sampler.sample(toy.prompt, 3, max_new_tokens=toy.budget, seed=seed)
        means.append(np.mean([s.weight for s in samples]))
        alive = [z for z in sampler.report.log_evidences if z > -math.inf]
        survived.append(np.mean(np.exp(alive)))
        assert sum(s.stats.rejected for s in samples) == len(sampler.report.log_evidences) - 3
    error = np.std(means) / math.sqrt(len(means))
    assert abs(np.mean(means) - truth) < 4 * error
    assert np.mean(survived) - truth > 4 * error  # without them it would be too large


def test_rows_answer_for_any_texts() -> None:
    toy = LARGE["8 letters, log Z -9"]()
    generator = np.random.default_rng(0)
    for limit in (1, 2, 5):
        made = toy.backend(max_rows=limit)
        rows = Rows(made, toy.prompt, toy.budget, 8)
        capacity = rows.scorer.cache.layers[0].capacity
        for _ in range(12):
            length = int(generator.integers(0, toy.budget))
            texts = [tuple(generator.integers(0, EOS, length).tolist()) for _ in range(4)]
            texts.append(texts[0])
            found = rows.logits(texts)
            assert set(found) == set(texts)
            for text, logits in found.items():
                row = torch.log_softmax(logits, -1).numpy()
                before = text[-1] if text else toy.prompt[-1]
                assert row == pytest.approx(toy.table[before], abs=1e-5)
            assert len(rows._held) <= limit
        assert rows.scorer.cache.layers[0].capacity == capacity
    assert effective(np.array([-math.inf, -math.inf])) == 0.0
