"""Adaptive weighted rejection sampling, with particles: no masks, weights instead.

One token: candidates x_1, x_2, ... are drawn from the model's law p without replacement and tested until
one is legal.  That costs one test a candidate instead of a look at the whole vocabulary, and an unbiased
estimate of the legal mass comes with it: with q_i the probability of x_i among what was left, and x_k the
first legal one,

    Z^ = prod over i < k of (1 - q_i) * (1 if the next candidate is legal too, else q_k).

Texts: particles multiply their weights by these estimates; when few of them carry the weight, they are
drawn anew by weight (sequential Monte Carlo).  The mean weight estimates Pr(L) without bias.

Source: Lipkin et al. 2025, "Fast Controlled Generation from Language Models with Adaptive Weighted
Rejection Sampling", sections 3 and 4 (the estimator without the geometric phase).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from constrain.automaton import TokenAutomaton
from constrain.processor import check_budget
from samplers.aligned.rejection import check_sampling
from samplers.backend import OnTokens, SpeculativeBackend
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Law, Sampling, law_of
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.target import Floats, Weighting
from samplers.speculative.tree import ROOT, Tree

PARTICLES: Final = 5
ESS: Final = 0.5


@dataclass(frozen=True)
class Particle:
    """A text on its way.

    Attributes:
        tokens: new ones.
        state: the automaton's.
        log_weight: since the last resampling.
        logprobs: of the tokens, under the model.
        drawn: log-probabilities of the tokens less those of the legal mass as it was estimated.
        tested: candidates looked at.
    """

    tokens: tuple[int, ...]
    state: int
    log_weight: float = 0.0
    logprobs: tuple[float, ...] = ()
    drawn: tuple[float, ...] = ()
    tested: int = 0


def draw_token(
    law: Law, is_legal: Callable[[int], bool], choices: Choices
) -> tuple[int, float, int]:
    """Draws a legal token without looking at all of them.

    Args:
        law: of the model.
        is_legal: the test.
        choices: the source of randomness.

    Returns:
        (index into ``law``, log of the estimated legal mass, candidates tested); index -1 and minus
        infinity if no token with any probability is legal.
    """
    left = law.weights / law.weights.sum()
    estimate = 1.0
    found, found_q = -1, 1.0
    tested = 0
    while True:
        total = left.sum()
        if total <= 0:  # nothing is left to look at
            return found, (math.log(estimate) if found >= 0 else -math.inf), tested
        at = choices.pick(left)
        q = min(float(left[at] / total), 1.0)
        left[at] = 0.0
        tested += 1
        legal = is_legal(law.token(at))
        if found >= 0:
            factor = 1.0 if legal else found_q
            return found, math.log(estimate * factor), tested
        if legal:
            found, found_q = at, q
        else:
            estimate *= 1.0 - q
            if estimate <= 0:
                return -1, -math.inf, tested


class AWRS:
    """Sequential Monte Carlo whose particles are extended by adaptive weighted rejection.

    The target is Q(w) = P(w) 1[w in L] / Z as in :mod:`samplers.aligned.rejection`.  A sample is one
    particle of a run of its own, drawn by weight; its ``weight`` is the run's estimate of Z, so that
    weighted means over samples are consistent estimates under Q, and the mean weight is an unbiased
    estimate of Z = Pr(L).  With few particles the unweighted law leans towards masking's.

    Args:
        backend: the model.  Particles are its rows side by side and share the prompt; no drafts are
            used, since particles move together token by token.
        automaton: the grammar.
        particles: of a run.
        ess: particles are drawn anew when their effective number falls below this share.
    """

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        particles: int = PARTICLES,
        ess: float = ESS,
    ) -> None:
        if particles < 1:
            raise ValueError(f"particles={particles}: must be at least 1")
        if not 0 <= ess <= 1:
            raise ValueError(f"ess={ess}: must be from 0 to 1")
        self.backend = backend
        self.automaton = automaton
        self.particles = particles
        self.ess = ess
        self.log_evidence: list[float] = []
        """Log of the estimate of Pr(L), for each run of the last call."""

    def sample(
        self,
        prompt: str | Sequence[int],
        n: int = 1,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int | None = None,
        max_attempts: int | None = None,
        on_tokens: OnTokens | None = None,
    ) -> list[Sample]:
        """Draws texts, one a run; arguments as in :meth:`samplers.CARS.sample`.

        ``max_attempts`` bounds the runs for one sample: a run in which every particle comes to a
        dead end of probability 0 is repeated.

        Raises:
            RuntimeError: if all of them do.
        """
        check_sampling(temperature, top_p)
        ids = self.backend.encode(prompt)
        budget = self.backend.budget(len(ids), max_new_tokens)
        check_budget(self.automaton, budget)
        self.log_evidence = []
        out: list[Sample] = []
        with self.backend.same_prompt():
            for i, source in enumerate(np.random.SeedSequence(seed).spawn(n)):
                choices = Drawn(source)
                for _ in range(max_attempts or _RUNS):
                    run = _Run(self, ids, budget, Sampling(temperature), choices)
                    evidence = run.go()
                    self.log_evidence.append(evidence)
                    if evidence > -math.inf:
                        break
                else:
                    raise RuntimeError("no particle reached the end of a text; raise max_attempts")
                out.append(run.sample(evidence))
                if on_tokens is not None:
                    on_tokens(i, out[-1].token_ids)
        return out


_RUNS: Final = 100


@dataclass
class _Run:
    """Particles from the prompt to the end of their texts."""

    sampler: AWRS
    ids: list[int]
    budget: int
    sampling: Sampling
    choices: Choices
    particles: list[Particle] = field(default_factory=list)
    forwards: int = 0

    def go(self) -> float:
        """Runs to the end; the logarithm of the estimated Pr(L)."""
        automaton, count = self.sampler.automaton, self.sampler.particles
        self.particles = [Particle((), automaton.start)] * count
        scorer, rows = self._begin()
        evidence = 0.0
        while rows:
            logits = self._score(scorer, rows)
            for slot, i in enumerate(rows):
                self.particles[i] = self._extend(self.particles[i], logits[slot])
            scorer.commit([[] for _ in rows])
            weights = np.array([p.log_weight for p in self.particles])
            if weights.max() == -math.inf:
                return -math.inf
            ancestors = list(range(count))
            if _effective(weights) < self.sampler.ess * count:
                evidence += float(np.logaddexp.reduce(weights)) - math.log(count)
                ancestors = self._resample(weights)
            rows = self._keep(scorer, rows, ancestors)
        weights = np.array([p.log_weight for p in self.particles])
        return evidence + float(np.logaddexp.reduce(weights)) - math.log(count)

    def _begin(self) -> tuple[TreeScorer, list[int]]:
        count = self.sampler.particles
        scorer = self.sampler.backend.read(self.ids[:-1], len(self.ids) + self.budget)
        if count > 1:
            scorer.cache.expand(count)
        return scorer, list(range(count))

    def _score(self, scorer: TreeScorer, rows: Sequence[int]) -> Sequence[object]:
        requests = []
        for i in rows:
            last = self.particles[i].tokens[-1:] or self.ids[-1:]
            requests.append(Request(list(last), Tree(None)))
        scores = scorer.score(requests)
        self.forwards += 1
        self.sampler.backend.forwards += 1
        return [scores.at(slot, ROOT) for slot in range(len(rows))]

    def _extend(self, particle: Particle, logits: object) -> Particle:
        automaton = self.sampler.automaton
        left = self.budget - len(particle.tokens)

        def is_legal(token: int) -> bool:
            after = automaton.advance(particle.state, token)
            if after == automaton.DEAD:
                return False
            if after == automaton.FINISHED:
                return True
            return automaton.min_tokens_to_accept(after) + 2 <= left

        law = law_of(logits, Weighting(), self.sampling)
        index, legal_mass, tested = draw_token(law, is_legal, self.choices)
        if index < 0:
            return replace(particle, state=automaton.DEAD, log_weight=-math.inf)
        token = law.token(index)
        logp = float(law.model[index])
        return Particle(
            (*particle.tokens, token),
            automaton.advance(particle.state, token),
            particle.log_weight + legal_mass,
            (*particle.logprobs, logp),
            (*particle.drawn, logp - legal_mass),
            particle.tested + tested,
        )

    def _resample(self, weights: Floats) -> list[int]:
        """Draws particles anew by weight (residual resampling); weights become equal."""
        p = np.exp(weights - weights.max())
        p /= p.sum()
        ancestors = self._ancestors(p)
        self.particles = [replace(self.particles[a], log_weight=0.0) for a in ancestors]
        return ancestors

    def _ancestors(self, p: Floats) -> list[int]:
        """Each ancestor count times p times, up to rounding; the rest by lot, without bias."""
        count = len(p)
        whole = np.floor(count * p).astype(int)
        out = [i for i, times in enumerate(whole) for _ in range(times)]
        rest = np.maximum(count * p - whole, 0.0)
        while len(out) < count:
            out.append(self.choices.pick(rest if rest.sum() > 0 else p))
        return out

    def _keep(self, scorer: TreeScorer, rows: Sequence[int], ancestors: Sequence[int]) -> list[int]:
        """Rows of the cache for the particles that go on; which those are."""
        automaton = self.sampler.automaton
        where = {i: slot for slot, i in enumerate(rows)}
        on = [
            i
            for i, particle in enumerate(self.particles)
            if particle.state not in (automaton.FINISHED, automaton.DEAD)
        ]
        scorer.select([where[ancestors[i]] for i in on])
        return on

    def sample(self, evidence: float) -> Sample:
        """One particle, by weight."""
        weights = np.array([p.log_weight for p in self.particles])
        chosen = self.particles[self.choices.pick(np.exp(weights - weights.max()))]
        text = self.sampler.automaton.vocabulary.decode(chosen.tokens[:-1])
        return Sample(
            list(chosen.tokens),
            text.decode("utf-8", "replace"),
            math.fsum(chosen.logprobs),
            math.fsum(chosen.drawn),
            weight=math.exp(evidence),
            stats=Stats(forwards=self.forwards, tokens=len(chosen.tokens)),
            token_logprobs=list(chosen.logprobs),
            token_constrained_logprobs=list(chosen.drawn),
        )


def _effective(log_weights: Floats) -> float:
    """Effective number of particles."""
    p = np.exp(log_weights - log_weights.max())
    return float(p.sum() ** 2 / (p**2).sum())
