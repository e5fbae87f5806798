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
drawn anew by weight (sequential Monte Carlo).  The mean weight over runs, those that died counted as 0,
estimates Pr(L) without bias.

Source: Lipkin et al. 2025, "Fast Controlled Generation from Language Models with Adaptive Weighted
Rejection Sampling", sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.huggingface.processor import check_budget
from constrain.room import with_room
from samplers.aligned.particles import Particle, Run, after, complete
from samplers.aligned.rejection import AttemptsExhausted
from samplers.arguments import check_aligned
from samplers.backend import Prompt, SpeculativeBackend, check_backend
from samplers.healing import asked, without_prefix
from samplers.options import Sampler, SamplingOptions
from samplers.progress import progress_of
from samplers.report import ParticleReport
from samplers.rows import Rows
from samplers.sample import Sample
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Law, Sampling, law_of
from samplers.speculative.target import Floats, Weighting

PARTICLES: Final = 5
ESS: Final = 0.5
ACCEPTS: Final = 2
_PEAKED: Final = 2 / 3
_ALMOST_ALL: Final = 1 - 1e-12
_RUNS: Final = 100
"""Runs for one sample in which all particles die, unless the caller says otherwise."""

Estimator: TypeAlias = Literal["auto", "recursive", "geometric"]


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


class AWRS(Sampler):
    """Sequential Monte Carlo whose particles are extended by adaptive weighted rejection.

    The target is Q(w) = P(w) 1[w in L] / Z as in :mod:`samplers.aligned.rejection`.  A sample is one
    particle of a run of its own, drawn by weight; its ``weight`` is the run's estimate of Z, so that
    weighted means over samples are consistent estimates under Q.  With few particles the unweighted
    law leans towards masking's.

    A run in which all particles come to dead ends is a run too, with an estimate of 0.  It gives no
    text, so that runs go on until there are n that do, M in all; the weights of these n are multiplied
    by (n - 1) / (M - 1), the unbiased estimate of how many runs survive.  So the mean weight is an
    unbiased estimate of Z = Pr(L) for every n above 1.  For n = 1 the factor is 1 / M, which is too
    large on average where runs die.

    Args:
        backend: the model.  Particles are its rows side by side and share the prompt; where there are
            more than ``max_rows`` or ``max_kv_bytes`` allow, rows are read again and again, which is
            slow.  No drafts are used, since particles move together token by token.
        automaton: the grammar.
        particles: of a run.
        ess: particles are drawn anew when their effective number falls below this share.
        estimator: of the legal mass at a token; see :func:`draw_token`.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.

    Attributes:
        report: what the last call did, the estimate of Pr(L) of each run among it.
    """

    report: ParticleReport

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        particles: int = PARTICLES,
        ess: float = ESS,
        estimator: Estimator = "auto",
        canonical: bool = False,
    ) -> None:
        check_count(particles, "particles")
        if not 0 <= ess <= 1:
            raise ValueError(f"ess={ess}: must be from 0 to 1")
        if estimator not in ("auto", "recursive", "geometric"):
            raise ValueError(f"estimator={estimator!r}: one of auto, recursive, geometric")
        self.backend = check_backend(backend, type(self).__name__)
        self.automaton = as_written(check_automaton(automaton, type(self).__name__), canonical)
        self.particles = particles
        self.ess = ess
        self.estimator: Estimator = estimator
        self.report = self.new_report()

    def new_report(self) -> ParticleReport:
        """A report of nothing yet."""
        return ParticleReport(type(self).__name__)

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts, one a run.

        As many runs go side by side as the backend's ``max_rows`` has room for their particles.
        ``max_attempts`` bounds the runs for one sample (100 by default), of which all but the last
        died; ``Sample.stats.rejected`` says how many did.

        Raises:
            AttemptsExhausted: if all of them died.
            BudgetError: if ``max_kv_bytes`` has no room for one row.
        """
        check_aligned(options.temperature, options.top_p)
        healed = asked(self.backend, prompt, self.automaton, options.heal)
        budget = self.backend.budget(len(healed.prompt), options.max_new_tokens)
        check_budget(healed.automaton, budget)
        sources = [Drawn(source) for source in np.random.SeedSequence(options.seed).spawn(n)]
        proposal = _Rejecting(
            healed.automaton, budget, Sampling(options.temperature), self.estimator
        )
        limit = _RUNS if options.max_attempts is None else options.max_attempts
        missing = [(i, 0) for i in range(n)]  # samples, and runs for them that died
        found: dict[int, Sample] = {}
        rows = Rows(self.backend, healed.prompt, budget, n * self.particles)
        width = max(1, rows.limit // self.particles)
        with progress_of(options.progress, n, options.on_tokens) as report:
            while missing:
                now, missing = missing[:width], missing[width:]
                runs = [Run(proposal, self.particles, self.ess, sources[i]) for i, _ in now]
                complete(rows, runs)
                for (i, died), run in zip(now, runs, strict=True):
                    self.report.add(run.log_evidence)
                    if run.log_evidence > -math.inf:
                        found[i] = without_prefix(run.sample(), healed)
                        found[i].method = "AWRS"
                        found[i].stats.rejected = died
                        report(i, found[i].token_ids)
                    elif died + 1 < limit:
                        missing.append((i, died + 1))
                    else:
                        raise AttemptsExhausted(
                            f"in none of {limit:,} runs did a particle reach the end of a text; raise "
                            "max_attempts or particles, or use AlignedSampling",
                            [found[i] for i in sorted(found)],
                            self.report.attempts,
                        )
        share = survival(n, self.report.attempts)
        for sample in found.values():
            sample.weight *= share
        return [found[i] for i in range(n)]


def survival(survived: int, runs: int) -> float:
    """Share of runs that survive, where runs went on until so many had (Haldane 1945).

    Unbiased if that was more than one; for one it is 1 / runs, too large on average.
    """
    if survived == runs:
        return 1.0
    return (survived - 1) / (runs - 1) if survived > 1 else 1 / runs


@dataclass(frozen=True)
class _Rejecting:
    """Extends particles by candidates that are tested one by one; see the module."""

    automaton: TokenAutomaton
    budget: int
    sampling: Sampling
    estimator: Estimator

    def begin(self) -> Particle:
        """The empty text."""
        return Particle((), self.automaton.start)

    def weigh(self, particle: Particle, logits: Any, choices: Choices) -> Particle:
        """The next token and the estimate of the legal mass come together."""
        automaton = self.automaton
        left = self.budget - len(particle.tokens)
        _, state = with_room(
            automaton, particle.state, lambda: particle.tokens, automaton.is_accepting
        )
        particle = replace(particle, state=state)  # found again once, not for each candidate

        def is_legal(token: int) -> bool:
            return with_room(
                automaton,
                particle.state,
                lambda: particle.tokens,
                lambda state: _is_legal(automaton, state, token, left),
            )[0]

        law = law_of(logits, Weighting(), self.sampling)
        index, legal_mass, _ = draw_token(law, is_legal, choices, self.estimator)
        if index < 0:
            return replace(particle, state=automaton.DEAD, log_weight=-math.inf)
        token = law.token(index)
        logp = float(law.model[index])
        return Particle(
            (*particle.tokens, token),
            after(automaton, particle, token),
            particle.log_weight + legal_mass,
            (*particle.logprobs, logp),
            (*particle.drawn, logp - legal_mass),
        )

    def draw(self, particle: Particle, choices: Choices) -> Particle:
        """Nothing is left to draw."""
        return particle


def _is_legal(automaton: TokenAutomaton, state: int, token: int, left: int) -> bool:
    """Whether a token leaves a text that ends within a budget, EOS included."""
    if automaton.is_canonical:  # steps do not tell in which way of writing they are
        row = automaton.mask(state, left)
        return token < 32 * len(row) and bool(row[token >> 5] >> (token & 31) & 1)
    after = automaton.advance(state, token)
    if after == automaton.DEAD:
        return False
    return after == automaton.FINISHED or automaton.min_tokens_to_accept(after) + 2 <= left
