"""Grammar-aligned samplers against laws that are enumerated on prefixes, without any trie."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import Enumerated, runs, total_variation
from one_thread import one_thread  # noqa: F401 - a fixture
from toys import tiny
from transformers import LlamaForCausalLM

from constrain import BudgetError, Healed, TokenAutomaton, Vocabulary
from grammars import Grammar
from samplers import (
    ARS,
    CARS,
    RSFT,
    AlignedSampling,
    ASAp,
    AttemptsExhausted,
    ConstrainedMCMC,
    GrammarConstrained,
    RejectionSampling,
    Sample,
    SpeculativeBackend,
)
from samplers.aligned.mcmc import _Run
from samplers.aligned.rejection import Aligned
from samplers.aligned.storage import TrieMismatch
from samplers.aligned.trie import Node, Visit
from samplers.estimates import divergence, estimate, over_time, plot

Text = tuple[int, ...]
EOS, ROWS, BUDGET = 1, 6, 4
PROMPT = [0, 2]
PATTERN = "0(0|1){0,3}|1{2,3}"


def model() -> LlamaForCausalLM:
    return tiny(5, ROWS, EOS)


@cache
def automaton() -> TokenAutomaton:
    vocabulary = Vocabulary.from_tokens([None, None, b"0", b"1", b"00", b"01"], [EOS])
    return TokenAutomaton(Grammar.from_regex(PATTERN), vocabulary)


@cache
def logprobs(text: Text) -> np.ndarray:
    with torch.no_grad():
        logits = model()(torch.tensor([[*PROMPT, *text]])).logits[0, -1]
    return torch.log_softmax(logits, -1).numpy()


def is_open(text: Text) -> bool:
    """Whether something can still become of a prefix, within the budget (by enumeration)."""
    return any(whole[: len(text)] == text for whole in mass())


@cache
def mass() -> dict[Text, float]:
    """P of every valid text: all sequences of tokens are tried, the pattern decides."""
    texts = automaton().vocabulary.texts
    out: dict[Text, float] = {}

    def extend(text: Text, logp: float) -> None:
        row = logprobs(text)
        data = b"".join(texts[t] for t in text)
        if automaton().grammar.accepts(data):
            out[(*text, EOS)] = math.exp(logp + row[EOS])
        if len(text) + 1 < BUDGET:
            for token in range(2, ROWS):
                extend((*text, token), logp + float(row[token]))

    extend((), 0.0)
    return out


def exact() -> dict[Text, float]:
    total = sum(mass().values())
    return {text: p / total for text, p in mass().items()}


@cache
def masked() -> dict[Text, tuple[list[float], list[float]]]:
    """Of every valid text, token by token: log P, and log P within the mask."""
    out = {}
    for text in mass():
        raw, inside = [], []
        for i, token in enumerate(text):
            row = logprobs(text[:i])
            allowed = [t for t in range(ROWS) if is_open((*text[:i], t))]
            raw.append(float(row[token]))
            inside.append(float(row[token] - np.logaddexp.reduce(row[allowed])))
        out[text] = (raw, inside)
    return out


def backend(**options: Any) -> SpeculativeBackend:
    options = {"drafters": [], "adaptive": False} | options
    return SpeculativeBackend(model(), None, **options)


def frequencies(samples: Sequence[Sample]) -> dict[Text, float]:
    counts = Counter(tuple(s.token_ids) for s in samples)
    return {text: n / len(samples) for text, n in counts.items()}


def expected_variation(law: dict[Text, float], count: int) -> float:
    """About what as many exact draws have (Berend and Kontorovich 2013 bound it so)."""
    return 0.5 * sum(math.sqrt(p * (1 - p) / count) for p in law.values())


def next_attempt(
    sampler: Aligned, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[Text, float], float]:
    """The exact law of what the next attempt accepts, and the mass it rejects."""
    memory = sampler.memory(PROMPT, BUDGET, 1.0)
    monkeypatch.setattr(sampler, "_absorb", lambda *_: None)

    def attempt(choices: Enumerated) -> tuple[Text, bool]:
        ((sample, accepted),) = sampler.round(PROMPT, memory, 1.0, [choices])
        return tuple(sample.token_ids), accepted

    law: dict[Text, float] = {}
    rejected = 0.0
    for (text, accepted), p in runs(attempt):
        if accepted:
            law[text] = law.get(text, 0.0) + p
        else:
            rejected += p
    return law, rejected


# -- rejection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [0, 1, 5, 40])
@pytest.mark.parametrize("kind", [RejectionSampling, RSFT, ARS, CARS])
def test_what_is_accepted_follows_the_model(
    kind: type[Aligned], warm: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = kind(backend(), automaton())
    if warm:
        sampler.sample(PROMPT, warm, max_new_tokens=BUDGET, seed=warm)
    memory = sampler.memory(PROMPT, BUDGET, 1.0)
    law, rejected = next_attempt(sampler, monkeypatch)
    accepted = sum(law.values())
    assert accepted + rejected == pytest.approx(1.0, abs=1e-9)
    assert total_variation({t: p / accepted for t, p in law.items()}, exact()) < 1e-6
    root = memory.trie.root
    if root is not None:
        assert accepted == pytest.approx(sum(mass().values()) / root.z, abs=1e-6)


def test_masking_what_is_new_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ASAp(backend(), automaton())
    law, rejected = next_attempt(sampler, monkeypatch)
    assert rejected == pytest.approx(0.0, abs=1e-9)
    assert total_variation(law, exact()) > 0.02


@pytest.mark.parametrize("kind", [ARS, CARS, ASAp])
def test_bounds_only_fall_and_stay_above_the_truth(kind: type[Aligned]) -> None:
    sampler = kind(backend(), automaton())
    before: dict[Text, float] = {}
    bounds: list[float] = []
    for seed in range(12):
        sampler.sample(PROMPT, 2, max_new_tokens=BUDGET, seed=seed)
        bounds += sampler.report.bounds
        for node in sampler.memory(PROMPT, BUDGET, 1.0).trie.nodes():
            prefix = tuple(node.path())
            truth = sum(p for text, p in mass().items() if text[: len(prefix)] == prefix)
            chance = math.exp(sum(logprobs(prefix[:i])[t] for i, t in enumerate(prefix)))
            assert node.z <= before.get(prefix, 1.0) + 1e-6
            assert node.z >= truth / chance - 1e-6
            before[prefix] = node.z
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(bounds))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("kind", [ARS, CARS])
def test_drawn_samples(kind: type[Aligned], rows: int) -> None:
    sampler = kind(backend(drafters=None, adaptive=True, max_rows=rows), automaton())
    samples = sampler.sample(PROMPT, 2000, max_new_tokens=BUDGET, seed=3)
    assert total_variation(frequencies(samples), exact()) < 2 * expected_variation(exact(), 2000)
    for sample in samples[-50:]:
        text = tuple(sample.token_ids)
        assert sample.complete
        assert sample.logprob == pytest.approx(math.log(mass()[text]), abs=1e-5)
        assert automaton().grammar.accepts(sample.text)
    assert sampler.report.acceptance > 0.5


def test_few_forwards_once_the_trie_is_known() -> None:
    made = backend()
    sampler = CARS(made, automaton())
    sampler.sample(PROMPT, 300, max_new_tokens=BUDGET, seed=1)
    before = made.forwards
    sampler.sample(PROMPT, 100, max_new_tokens=BUDGET, seed=2)
    assert made.forwards - before < 20


def test_rows_within_a_bound_on_memory() -> None:
    sampler = CARS(backend(), automaton())
    trie = sampler.memory(PROMPT, BUDGET, 1.0).trie
    trie.max_bytes = 3 * 4 * ROWS
    samples = sampler.sample(PROMPT, 1000, max_new_tokens=BUDGET, seed=4)
    assert len(trie._rows) <= 3
    assert total_variation(frequencies(samples), exact()) < 2 * expected_variation(exact(), 1000)


def test_asap_comes_closer_than_masking() -> None:
    sampler = ASAp(backend(), automaton())
    samples = sampler.sample(PROMPT, 300, max_new_tokens=BUDGET, seed=2)
    law = sampler.memory(PROMPT, BUDGET, 1.0).trie.law()
    gcd = {text: math.exp(sum(inside)) for text, (_, inside) in masked().items()}
    assert total_variation(law, exact()) < 0.2 * total_variation(gcd, exact())
    assert all(s.stats.rejected == 0 for s in samples)
    for sample in samples:
        assert sample.weight == pytest.approx(math.exp(sample.logprob - sample.constrained_logprob))


def test_tries_in_files(tmp_path: Path) -> None:
    sampler, other = CARS(backend(), automaton()), CARS(backend(), automaton())
    sampler.sample(PROMPT, 30, max_new_tokens=BUDGET, seed=1)
    file = tmp_path / "trie.safetensors"
    sampler.save(file, PROMPT, BUDGET)
    other.load(file, PROMPT, BUDGET)
    a, b = (s.memory(PROMPT, BUDGET, 1.0).trie for s in (sampler, other))
    assert a.law() == b.law()
    assert a.root is not None
    assert b.root is not None
    assert a.root.z == pytest.approx(b.root.z)
    samples = other.sample(PROMPT, 1000, max_new_tokens=BUDGET, seed=5)
    assert total_variation(frequencies(samples), exact()) < 2 * expected_variation(exact(), 1000)
    with pytest.raises(TrieMismatch, match="prompt"):
        other.load(file, [0, 3], BUDGET)
    with pytest.raises(TrieMismatch, match="budget"):
        other.load(file, PROMPT, BUDGET + 1)
    (tmp_path / "other").write_bytes(b"nothing of the kind")
    with pytest.raises(TrieMismatch):
        other.load(tmp_path / "other", PROMPT, BUDGET)


def test_attempts_are_bounded() -> None:
    grammar = Grammar.from_regex("(01){6}")
    rare = TokenAutomaton(grammar, automaton().vocabulary)
    with pytest.raises(AttemptsExhausted, match="none of 20 attempts") as caught:
        RejectionSampling(backend(), rare).sample(PROMPT, 1, max_new_tokens=14, max_attempts=20)
    assert caught.value.samples == []
    assert caught.value.attempts >= 20


@pytest.mark.parametrize("kind", [CARS, ConstrainedMCMC, AlignedSampling])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "above 0"),
        ({"top_p": 0.9}, ValueError, "truncation would change the target"),
        ({"max_new_tokens": 1}, BudgetError, "raise it to at least"),
    ],
)
def test_requests_are_checked_before_the_first_forward(
    kind: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    made = backend()
    with pytest.raises(error, match=message):
        kind(made, automaton()).sample(PROMPT, 1, **({"max_new_tokens": BUDGET} | options))
    assert made.forwards == 0


# -- chains ------------------------------------------------------------------------------------------


def chain_run(proposal: Any) -> _Run:
    sampler = ConstrainedMCMC(backend(), automaton(), proposal=proposal)
    return _Run(sampler, Healed(PROMPT, sampler.automaton, b""), BUDGET, 1.0, [])


def entropies_of(text: Text) -> list[float]:
    out = []
    for i in range(len(text)):
        row = logprobs(text[:i])
        p = np.exp(row[[t for t in range(ROWS) if is_open((*text[:i], t))]])
        p /= p.sum()
        out.append(float(-(p * np.log(p)).sum()))
    return out


@pytest.mark.parametrize("proposal", ["uniform", "priority", "restart"])
def test_stationary_law_of_the_chain(proposal: Any) -> None:
    """The exact transition matrix leaves Q as it is."""
    run, texts = chain_run(proposal), list(mass())
    samples = {
        text: Sample(
            list(text),
            "",
            sum(masked()[text][0]),
            sum(masked()[text][1]),
            token_logprobs=masked()[text][0],
            token_constrained_logprobs=masked()[text][1],
        )
        for text in texts
    }
    size = len(texts)
    q = np.zeros((size, size))
    for i, old in enumerate(texts):
        for j, new in enumerate(texts):
            q[i, j] = math.exp(run._proposal(samples[old], entropies_of(old), samples[new]))
    assert q.sum(1) == pytest.approx(np.ones(size))  # each row is a law
    p = np.array([mass()[text] for text in texts])
    kernel = q * np.minimum(1.0, p[None, :] * q.T / (p[:, None] * q))
    kernel += np.diag(1.0 - kernel.sum(1))
    law = p / p.sum()
    assert np.abs(law @ kernel - law).sum() < 1e-12
    assert np.abs(law[:, None] * kernel - (law[:, None] * kernel).T).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("proposal", ["uniform", "priority", "restart"])
def test_steps_lead_to_the_model(proposal: Any) -> None:
    count = 250
    gcd = {text: math.exp(sum(inside)) for text, (_, inside) in masked().items()}
    far = total_variation(gcd, exact())
    sampler = ConstrainedMCMC(backend(), automaton(), proposal=proposal, steps=12)
    samples = sampler.sample(PROMPT, count, max_new_tokens=BUDGET, seed=6)
    noise = 2 * expected_variation(exact(), count)
    assert total_variation(frequencies(samples), exact()) < 0.25 * far + noise
    assert 0 < sampler.report.acceptance <= 1
    for sample in samples[:20]:
        assert sample.logprob == pytest.approx(math.log(mass()[tuple(sample.token_ids)]))


def test_no_steps_are_masking() -> None:
    made = ConstrainedMCMC(backend(), automaton(), steps=0)
    a = made.sample(PROMPT, 300, max_new_tokens=BUDGET, seed=1)
    gcd = {text: math.exp(sum(inside)) for text, (_, inside) in masked().items()}
    assert total_variation(frequencies(a), gcd) < 2 * expected_variation(gcd, 300)
    b = GrammarConstrained(backend(), automaton()).sample(PROMPT, 300, max_new_tokens=BUDGET)
    assert total_variation(frequencies(b), gcd) < 2 * expected_variation(gcd, 300)


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ARS, CARS])
def test_exact_within_any_bound_on_memory(
    kind: type[Aligned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forgotten nodes count as residual: bounds are looser, the law is the same."""
    sampler = kind(backend(), automaton(), max_bytes=6_000)
    free = kind(backend(), automaton())
    for made in (sampler, free):
        made.sample(PROMPT, 60, max_new_tokens=BUDGET, seed=4)
    assert sampler.nbytes <= 6_000
    trie = sampler.memory(PROMPT, BUDGET, 1.0).trie
    assert 1 <= trie.size < free.memory(PROMPT, BUDGET, 1.0).trie.size
    law, rejected = next_attempt(sampler, monkeypatch)
    accepted = sum(law.values())
    assert accepted + rejected == pytest.approx(1.0, abs=1e-9)
    assert total_variation({t: p / accepted for t, p in law.items()}, exact()) < 1e-6
    assert trie.root is not None
    assert accepted == pytest.approx(sum(mass().values()) / trie.root.z, abs=1e-6)


def test_prompts_share_one_bound() -> None:
    bound = 40_000
    sampler = AlignedSampling(backend(), automaton(), max_bytes=bound)
    prompts = [[0, a, b] for a in range(2, ROWS) for b in range(2, ROWS)]
    for number, prompt in enumerate(prompts):
        sampler.sample(prompt, 8, max_new_tokens=BUDGET, seed=number)
        assert sampler.nbytes <= bound
        kept = list(sampler._rejecting._memories._known.values())
        assert all(not memory.trie._rows for memory in kept[:-1])
        assert kept[-1].trie is sampler._rejecting.memory(prompt, BUDGET, 1.0).trie
    assert 1 < len(kept) < len(prompts)  # some were kept, and some had to go


def test_memory_is_counted() -> None:
    """What a trie says it takes is about what it takes."""
    sampler = CARS(backend(), automaton())
    tracemalloc.start()
    try:
        sampler.sample(PROMPT, 5, max_new_tokens=BUDGET, seed=1)
        trie = sampler.memory(PROMPT, BUDGET, 1.0).trie
        nodes = [trie.root]
        before, _ = tracemalloc.get_traced_memory()
        counted = trie._node_bytes
        assert trie.root is not None
        for _ in range(4_000):
            node = Node(nodes[-1], 2, 0, 1, 0.5)
            assert nodes[-1] is not None
            nodes[-1].visits[7 if len(nodes) == 1 else 2] = Visit(-1.5, node, 0.5)
            nodes.append(node)
        taken = tracemalloc.get_traced_memory()[0] - before
        trie.recount()
        assert 0.6 < (trie._node_bytes - counted) / taken < 1.5
    finally:
        tracemalloc.stop()


# -- the method that fits ----------------------------------------------------------------------------


@pytest.mark.slow
def test_rejection_gives_way_and_says_so() -> None:
    patient = AlignedSampling(backend(), automaton())
    patient.sample(PROMPT, 40, max_new_tokens=BUDGET, seed=1)
    assert patient.report.method == "CARS"
    forced = AlignedSampling(backend(), automaton(), enough=1.01, patience=8, calls=0)
    samples = forced.sample(PROMPT, 400, max_new_tokens=BUDGET, seed=1)
    assert forced.report.method == "MH"
    assert "of the latest 8 attempts" in forced.report.reason
    assert len(samples) == 400
    assert total_variation(frequencies(samples), exact()) < 2 * expected_variation(exact(), 400)


def test_attempts_of_rejection_are_bounded() -> None:
    sampler = AlignedSampling(backend(), automaton())
    samples = sampler.sample(PROMPT, 30, max_new_tokens=BUDGET, seed=1, max_attempts=10)
    assert len(samples) == 30
    assert sampler.report.method == "MH"
    assert "max_attempts=10" in sampler.report.reason
    assert sampler.report.attempts >= 10


# -- estimates ---------------------------------------------------------------------------------------


def test_estimates(tmp_path: Path) -> None:
    samples = [
        Sample([i % 3], str(i % 3), math.log(1 / 3), 0.0, weight=1.0 + i % 3) for i in range(9)
    ]
    found = estimate(samples, lambda s: float(s.text))
    assert found.mean == pytest.approx((1 * 0 + 2 * 1 + 3 * 2) / 6)
    assert found.ess == pytest.approx(18**2 / (3 * (1 + 4 + 9)))
    q = np.array([1, 2, 3]) / 6
    assert divergence(samples) == pytest.approx(float((q * np.log(q * 3)).sum()))
    with pytest.raises(ValueError, match="weight above 0"):
        estimate([], lambda s: 0.0)
    curve = over_time(samples, points=3)
    assert [n for n, _, _ in curve] == [3, 6, 9]
    plot(samples, tmp_path / "plot.svg", title="a < b")
    picture = (tmp_path / "plot.svg").read_text()
    assert picture.startswith("<svg")
    assert "a &lt; b" in picture
    assert picture.count("<polyline") == 2
