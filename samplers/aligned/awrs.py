"""Adaptive weighted rejection sampling, with particles: no masks, weights instead.

One token: candidates x_1, x_2, ... are drawn from the model's law p without replacement and tested until
one is legal.  That costs one test a candidate instead of a look at the whole vocabulary, and an unbiased
estimate of the legal mass comes with it: with q_i the probability of x_i among what was left, and x_k the
first legal one,

    Z^ = prod over i < k of (1 - q_i) * (1 if the next candidate is legal too, else q_k).

Where one token has most of the mass that estimate is rough, and another one costs nothing: candidates are
drawn with replacement until A are legal, N in all, and Z^ = (A - 1) / (N - 1), the unbiased estimate of a
negative binomial.  A token found illegal is not tested again: how often it would have been drawn meanwhile
is drawn from the geometric law of its mass.

Texts: particles multiply their weights by these estimates; when few of them carry the weight, they are
drawn anew by weight (sequential Monte Carlo).  The mean weight estimates Pr(L) without bias.

Source: Lipkin et al. 2025, "Fast Controlled Generation from Language Models with Adaptive Weighted
Rejection Sampling", sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from constrain.automaton import TokenAutomaton
from constrain.processor import check_budget
from samplers.aligned.rejection import check_sampling
from samplers.backend import OnTokens, SpeculativeBackend
from samplers.progress import progress_of
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Law, Sampling, law_of
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.target import Floats, Weighting
from samplers.speculative.tree import ROOT, Tree

PARTICLES: Final = 5
ESS: Final = 0.5
ACCEPTS: Final = 2
_PEAKED: Final = 2 / 3
_ALMOST_ALL: Final = 1 - 1e-12
_RUNS: Final = 100
"""Runs for one sample in which all particles die, unless the caller says otherwise."""

Estimator: TypeAlias = Literal["auto", "recursive", "geometric"]


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
    law: Law,
    is_legal: Callable[[int], bool],
    choices: Choices,
    estimator: Estimator = "auto",
    accepts: int = ACCEPTS,
) -> tuple[int, float, int]:
    """Draws a legal token without looking at all of them.

    Args:
        law: of the model.
        is_legal: the test.
        choices: the source of randomness.
        estimator: of the legal mass; ``"auto"`` is ``"geometric"`` where one token has two thirds of
            the mass or more than two accepts are asked for, else ``"recursive"``.
        accepts: A, of the geometric estimator; at least 2.

    Returns:
        (index into ``law``, log of the estimated legal mass, candidates tested); index -1 and minus
        infinity if no token with any probability is legal.
    """
    p = law.weights / law.weights.sum()
    if estimator == "auto":
        peaked = float(p.max()) >= _PEAKED or accepts > ACCEPTS
        estimator = "geometric" if peaked else "recursive"
    if estimator == "geometric":
        return _geometric(law, p, is_legal, choices, accepts)
    return _recursive(law, p, is_legal, choices)


def _recursive(
    law: Law, left: Floats, is_legal: Callable[[int], bool], choices: Choices
) -> tuple[int, float, int]:
    """Candidates without replacement, up to the one behind the first legal one."""
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


def _geometric(
    law: Law, left: Floats, is_legal: Callable[[int], bool], choices: Choices, accepts: int
) -> tuple[int, float, int]:
    """Candidates with replacement until ``accepts`` of them are legal, each tested once."""
    legal: set[int] = set()
    found, drawn, tested, accepted = -1, 0, 0, 0
    illegal = 0.0
    while accepted < accepts:
        if left.sum() <= 0:
            return -1, -math.inf, tested
        drawn += 1 + choices.failures(min(illegal, _ALMOST_ALL))
        at = choices.pick(left)
        if at not in legal:
            tested += 1
            if not is_legal(law.token(at)):
                illegal += float(left[at])
                left[at] = 0.0
                continue
            legal.add(at)
        accepted += 1
        found = at if found < 0 else found
    return found, math.log((accepts - 1) / (drawn - 1)), tested


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
        estimator: of the legal mass at a token; see :func:`draw_token`.
    """

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        particles: int = PARTICLES,
        ess: float = ESS,
        estimator: Estimator = "auto",
    ) -> None:
        if particles < 1:
            raise ValueError(f"particles={particles}: must be at least 1")
        if not 0 <= ess <= 1:
            raise ValueError(f"ess={ess}: must be from 0 to 1")
        if estimator not in ("auto", "recursive", "geometric"):
            raise ValueError(f"estimator={estimator!r}: one of auto, recursive, geometric")
        self.backend = backend
        self.automaton = automaton
        self.particles = particles
        self.ess = ess
        self.estimator: Estimator = estimator
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
        progress: bool = False,
    ) -> list[Sample]:
        """Draws texts, one a run; arguments as in :meth:`samplers.CARS.sample`.

        As many runs go side by side as the backend's ``max_rows`` has room for their particles.
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
        found: dict[int, Sample] = {}
        sources = [Drawn(source) for source in np.random.SeedSequence(seed).spawn(n)]
        missing = [(i, max_attempts or _RUNS) for i in range(n)]
        width = max(1, self.backend.max_rows // self.particles)
        with self.backend.same_prompt(), progress_of(progress, n, on_tokens) as report:
            while missing:
                now, missing = missing[:width], missing[width:]
                runs = [_Run(self, budget, Sampling(temperature), sources[i]) for i, _ in now]
                _Batch(self, ids, budget, runs).go()
                for (i, left), run in zip(now, runs, strict=True):
                    self.log_evidence.append(run.log_evidence)
                    if run.log_evidence > -math.inf:
                        found[i] = run.sample()
                        report(i, found[i].token_ids)
                    elif left > 1:
                        missing.append((i, left - 1))
                    else:
                        raise RuntimeError(
                            "no particle reached the end of a text; raise max_attempts"
                        )
        return [found[i] for i in range(n)]


class _Batch:
    """Runs side by side: their particles are the rows of one cache, and share the prompt.

    Args:
        sampler: whose runs they are.
        ids: the prompt.
        budget: new tokens of each text.
        runs: not begun yet.
    """

    def __init__(
        self, sampler: AWRS, ids: Sequence[int], budget: int, runs: Sequence[_Run]
    ) -> None:
        self._backend = sampler.backend
        self._ids = ids
        self._runs = runs
        self._scorer: TreeScorer = sampler.backend.read(list(ids[:-1]), len(ids) + budget)
        rows = sum(len(run.rows) for run in runs)
        if rows > 1:
            self._scorer.cache.expand(rows)

    def go(self) -> None:
        """Token by token, until all particles have ended."""
        while any(run.rows for run in self._runs):
            scores = self._score()
            self._scorer.commit([[] for run in self._runs for _ in run.rows])
            kept: list[int] = []
            slot = 0
            for run in self._runs:
                mine = range(slot, slot + len(run.rows))
                slot = mine.stop
                if mine:
                    kept += [mine[i] for i in run.step([scores.at(i, ROOT) for i in mine])]
            self._scorer.select(kept)

    def _score(self) -> Scores:
        last = [tokens[-1:] or self._ids[-1:] for run in self._runs for tokens in run.texts()]
        self._backend.forwards += 1
        return self._scorer.score([Request(list(token), Tree(None)) for token in last])


class _Run:
    """Particles from the prompt to the end of their texts.

    Attributes:
        rows: numbers of the particles that go on.
        log_evidence: logarithm of the estimated Pr(L), once no particle goes on.
    """

    def __init__(self, sampler: AWRS, budget: int, sampling: Sampling, choices: Choices) -> None:
        self._sampler = sampler
        self._automaton = sampler.automaton
        self._budget = budget
        self._sampling = sampling
        self._choices = choices
        self._particles = [Particle((), sampler.automaton.start)] * sampler.particles
        self.rows = list(range(sampler.particles))
        self._evidence = 0.0
        self._forwards = 0

    def texts(self) -> list[tuple[int, ...]]:
        """New tokens of the particles that go on."""
        return [self._particles[i].tokens for i in self.rows]

    @property
    def log_evidence(self) -> float:
        """Of Pr(L)."""
        weights = self._weights()
        return self._evidence + float(np.logaddexp.reduce(weights)) - math.log(len(weights))

    def _weights(self) -> Floats:
        return np.array([p.log_weight for p in self._particles])

    def step(self, logits: Sequence[object]) -> list[int]:
        """One token more for each row, given its logits; then perhaps particles drawn anew.

        Returns:
            For each particle that goes on, the row whose cache it continues.
        """
        self._forwards += 1
        where = {i: slot for slot, i in enumerate(self.rows)}
        for slot, i in enumerate(self.rows):
            self._particles[i] = self._extend(self._particles[i], logits[slot])
        weights = self._weights()
        if weights.max() == -math.inf:
            self.rows = []
            return []
        ancestors = list(range(len(weights)))
        if _effective(weights) < self._sampler.ess * len(weights):
            self._evidence += float(np.logaddexp.reduce(weights)) - math.log(len(weights))
            ancestors = self._ancestors(np.exp(weights - weights.max()))
            self._particles = [replace(self._particles[a], log_weight=0.0) for a in ancestors]
        ended = (self._automaton.FINISHED, self._automaton.DEAD)
        self.rows = [i for i, p in enumerate(self._particles) if p.state not in ended]
        return [where[ancestors[i]] for i in self.rows]

    def _extend(self, particle: Particle, logits: object) -> Particle:
        automaton = self._automaton
        left = self._budget - len(particle.tokens)

        def is_legal(token: int) -> bool:
            after = automaton.advance(particle.state, token)
            if after == automaton.DEAD:
                return False
            if after == automaton.FINISHED:
                return True
            return automaton.min_tokens_to_accept(after) + 2 <= left

        law = law_of(logits, Weighting(), self._sampling)
        index, legal_mass, tested = draw_token(
            law, is_legal, self._choices, self._sampler.estimator
        )
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

    def _ancestors(self, weights: Floats) -> list[int]:
        """Whose copies particles become: each count times p times, up to rounding; the rest by lot.

        Residual resampling, which is unbiased.
        """
        p = weights / weights.sum()
        count = len(p)
        whole = np.floor(count * p).astype(int)
        out = [i for i, times in enumerate(whole) for _ in range(times)]
        rest = np.maximum(count * p - whole, 0.0)
        while len(out) < count:
            out.append(self._choices.pick(rest if rest.sum() > 0 else p))
        return out

    def sample(self) -> Sample:
        """One particle, by weight."""
        weights = self._weights()
        chosen = self._particles[self._choices.pick(np.exp(weights - weights.max()))]
        text = self._automaton.vocabulary.decode(chosen.tokens[:-1])
        return Sample(
            list(chosen.tokens),
            text.decode("utf-8", "replace"),
            math.fsum(chosen.logprobs),
            math.fsum(chosen.drawn),
            weight=math.exp(self.log_evidence),
            stats=Stats(forwards=self._forwards, tokens=len(chosen.tokens)),
            token_logprobs=list(chosen.logprobs),
            token_constrained_logprobs=list(chosen.drawn),
        )


def _effective(log_weights: Floats) -> float:
    """Effective number of particles."""
    p = np.exp(log_weights - log_weights.max())
    return float(p.sum() ** 2 / (p**2).sum())
