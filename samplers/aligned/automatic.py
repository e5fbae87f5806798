"""CARS while it accepts, a Markov chain where it does not."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from samplers.aligned.chain import Chain
from samplers.aligned.particles import Run, complete
from samplers.aligned.rejection import CARS, AttemptsExhausted, Prepared
from samplers.aligned.trie import MAX_BYTES
from samplers.aligned.twisted import Twisted
from samplers.backend import OnTokens, Prompt, SpeculativeBackend, check_backend
from samplers.healing import without_prefixes
from samplers.options import Sampler, SamplingOptions
from samplers.progress import bar, progress_of
from samplers.report import AlignedReport
from samplers.rows import Rows
from samplers.sample import Sample
from samplers.speculative.choices import Drawn
from samplers.speculative.law import Sampling

ENOUGH: Final = 0.05
"""Acceptance below which rejection is given up, if it also costs more than a chain."""
PATIENCE: Final = 32
"""Latest attempts by which that is judged."""
PARTICLES: Final = 8
"""Of a proposal, where the backend has so many rows."""
FEWEST_STEPS: Final = 2
"""Proposals for each sample at first; they are doubled until chains move, up to the most."""
MOST_STEPS: Final = 16
STAYING: Final = 0.2
"""Expected probability that two samples after each other are the same, at most."""
DISTINCT: Final = 0.6
"""Effective number of the samples, those that came again counted as fewer, for each wanted, at least."""
_ESS: Final = 0.5
_DEAD_RUNS: Final = 100


class AlignedSampling(Sampler):
    """Samples that follow the model given the grammar, by the method that fits.

    The target is Q(w) = P(w) 1[w in L] / Z as in :mod:`samplers.aligned.rejection`.  It begins with
    CARS, whose samples are exact and which learns whether or not it accepts.  Attempts that fail are
    short, many need no model, and all of them teach; so rejection is given up only once the calls of
    the model that were spent while fewer than 5 % of the latest attempts were accepted exceed what a
    chain for all missing samples would take.  (So all in all at most about twice the calls of the better
    choice are spent, whichever that was.)

    Then it goes on with particle independence Metropolis-Hastings (:mod:`samplers.aligned.chain`): each
    proposal is the survivor of a few particles that grow under the mask and the trie, the chain goes on
    to it with probability min(1, Z^' / Z^), and samples are equally spaced places of one chain.  Nothing
    is learned meanwhile, so that all weights are of one law and the chain leaves Q as it is.  Proposals
    for each sample are doubled until two samples after each other are expected to be the same text with
    probability 0.2 at most, and their effective number is 0.6 of those wanted.  A chain of finite length
    is not exact, which is why rejection comes first.

    Args:
        backend: the model with its drafters.
        automaton: the grammar.
        steps: proposals for each sample once rejection is given up; by default as many as make the
            chain move, from 2 to 16.
        enough: acceptance below which rejection is given up.
        patience: latest attempts by which that is judged.
        calls: of the model (each row counts) that are worth spending on rejection for each missing
            sample while few attempts are accepted; what a chain takes at most by default.
        particles: of a proposal; by default 8, or as many as the backend has rows.
        max_model_calls: of the chain, however many rows take part: once they are spent, it ends with the
            proposal at hand and samples come from what there is (:attr:`report` says so); unbounded
            by default, but for ``steps``.
        max_bytes: of all tries kept, see :class:`samplers.CARS`.
        canonical: likewise.

    Attributes:
        report: what the last call used, why, and how well it went.
    """

    report: AlignedReport

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        steps: int | None = None,
        enough: float = ENOUGH,
        patience: int = PATIENCE,
        calls: int | None = None,
        particles: int | None = None,
        max_model_calls: int | None = None,
        max_bytes: int = MAX_BYTES,
        canonical: bool = False,
    ) -> None:
        for name, value in (
            ("steps", steps),
            ("particles", particles),
            ("max_model_calls", max_model_calls),
        ):
            if value is not None:
                check_count(value, name)
        check_count(patience, "patience")
        self.backend = check_backend(backend, type(self).__name__)
        self.automaton = as_written(check_automaton(automaton, type(self).__name__), canonical)
        self.steps = steps
        self.enough = enough
        self.patience = patience
        self.calls = calls
        self.particles = particles
        self.max_model_calls = max_model_calls
        self.report = self.new_report()
        self._rejecting = CARS(backend, self.automaton, max_bytes=max_bytes)

    def new_report(self) -> AlignedReport:
        """A report of nothing yet."""
        return AlignedReport("CARS", "rejection accepts enough")

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts by rejection, or by chains where too few are accepted.

        ``max_attempts`` bounds rejection: behind so many attempts without a text chains follow.
        ``Sample.exact`` and ``Sample.method`` say of each text which of the two it is of.
        """
        self._rejecting.report = self.report
        prepared = self._rejecting.prepare(prompt, options)
        source = np.random.SeedSequence(options.seed)
        out: list[Sample] = []
        with (
            self.backend.same_prompt(),
            progress_of(options.progress, n, options.on_tokens, self.report.named) as report,
        ):
            self._reject(prepared, options, source, n, out, report)
        if len(out) < n:
            walk = _Walk(self, prepared, options.temperature, source, n - len(out))
            walk.go(options.progress)
            self._note(walk)
            for sample in walk.chain.spaced(walk.missing):
                out.append(sample)
                if options.on_tokens is not None:
                    options.on_tokens(len(out) - 1, sample.token_ids)
        return without_prefixes(out, prepared.prompt)

    @property
    def nbytes(self) -> int:
        """Memory of all that is kept between calls, in bytes."""
        return self._rejecting.nbytes

    # -- rejection -------------------------------------------------------------------------------

    def _reject(
        self,
        prepared: Prepared,
        options: SamplingOptions,
        source: np.random.SeedSequence,
        n: int,
        out: list[Sample],
        report: OnTokens,
    ) -> None:
        """Accepts until there are enough, too few are accepted, or none is in ``max_attempts``."""
        ids, memory = prepared.ids, prepared.memory
        most = math.inf if options.max_attempts is None else options.max_attempts
        latest: deque[bool] = deque(maxlen=self.patience)
        particles = self.particles or PARTICLES
        steps = self.steps or FEWEST_STEPS
        chain = steps * particles * memory.trie.budget if self.calls is None else self.calls
        spent = in_vain = attempts = 0
        while len(out) < n:
            if attempts >= most:
                self._give_up(f"none of max_attempts={most} attempts was accepted")
                return
            width = int(min(self.backend.max_rows, max(n - len(out), 4), most - attempts))
            choices = [Drawn(seed) for seed in source.spawn(width)]
            made = self._rejecting.round(ids, memory, options.temperature, choices)
            for sample, accepted in made:
                latest.append(accepted)
                attempts = 0 if accepted else attempts + 1
                spent += sample.stats.forwards
                if not accepted or len(out) == n:
                    continue
                sample.stats.forwards, spent = spent, 0
                out.append(sample)
                report(len(out) - 1, sample.token_ids)
            if len(latest) < self.patience or sum(latest) >= self.enough * self.patience:
                continue
            in_vain += sum(sample.stats.forwards for sample, accepted in made if not accepted)
            worth = chain * (n - len(out))
            if in_vain >= worth and len(out) < n:
                self._give_up(
                    f"{sum(latest)} of the latest {self.patience} attempts were accepted, fewer than "
                    f"{self.enough:.0%}, after {in_vain} calls of the model in vain; chains for the "
                    f"missing {n - len(out)} texts take at most {worth}",
                )
                return

    def _give_up(self, reason: str) -> None:
        self.report.method, self.report.reason = "MH", reason

    def _note(self, walk: _Walk) -> None:
        chain, report = walk.chain, self.report
        report.runs = len(chain.samples)
        report.steps = chain.steps / walk.missing
        report.moved = chain.acceptance
        report.effective = chain.distinct(walk.missing)
        report.effective_runs = chain.effective_runs
        report.log_evidence = chain.log_evidence
        if walk.is_spent:
            report.reason += f"; the chain ended at max_model_calls={self.max_model_calls}"


class _Walk:
    """A chain that grows until it moves.

    Args:
        sampler: whose options hold.
        prepared: the request.
        temperature: of the model.
        source: of randomness.
        missing: samples wanted of it.

    Attributes:
        chain: as far as it came.
    """

    def __init__(
        self,
        sampler: AlignedSampling,
        prepared: Prepared,
        temperature: float,
        source: np.random.SeedSequence,
        missing: int,
    ) -> None:
        self.missing = missing
        self._backend = sampler.backend
        self._begun = sampler.backend.forwards
        self._most_calls = sampler.max_model_calls
        self._steps = sampler.steps
        self._source = source
        self._particles = sampler.particles or max(2, min(PARTICLES, sampler.backend.max_rows))
        trie = prepared.memory.trie
        self._proposal = Twisted(trie, Sampling(temperature))
        self._rows = Rows(sampler.backend, prepared.ids, trie.budget, missing * self._particles)
        (decisions,) = source.spawn(1)
        self.chain = Chain(Drawn(decisions))

    @property
    def calls(self) -> int:
        """Of the model, so far."""
        return self._backend.forwards - self._begun

    @property
    def is_spent(self) -> bool:
        """Whether the caller's bound on them is reached."""
        return self._most_calls is not None and self.calls >= self._most_calls

    def go(self, shown: bool) -> None:
        """Proposes until two samples after each other are seldom the same, or the bounds are reached.

        Raises:
            AttemptsExhausted: if no particle ever reaches the end of a text.
        """
        steps = self._steps or FEWEST_STEPS
        while True:
            self._propose(self.missing * steps, shown)
            if self._steps or self._moves(steps) or steps >= MOST_STEPS or self.is_spent:
                return
            steps *= 2

    def _moves(self, steps: int) -> bool:
        """Whether weights say that samples are seldom the same, and those there are agree."""
        enough = DISTINCT * self.missing
        return self.chain.staying(steps) <= STAYING and self.chain.distinct(self.missing) >= enough

    def _propose(self, steps: int, shown: bool) -> None:
        chain = self.chain
        width = max(1, self._rows.limit // self._particles)
        with bar(shown, "proposals", steps + 1) as advance:
            advance(len(chain.samples))
            while not chain.begun or (chain.steps < steps and not self.is_spent):
                seeds = self._source.spawn(max(1, min(width, steps - chain.steps)))
                runs = [Run(self._proposal, self._particles, _ESS, Drawn(seed)) for seed in seeds]
                complete(self._rows, runs)
                for run in runs:
                    alive = run.log_evidence > -math.inf
                    chain.add(run.sample() if alive else None, run.log_evidence)
                advance(len(runs))
                if not chain.begun and len(chain.samples) >= _DEAD_RUNS:
                    raise AttemptsExhausted(
                        f"no particle of {len(chain.samples)} runs reached the end of a text: all "
                        "that the grammar allows has probability 0 after some prefix; raise particles",
                        [],
                        len(chain.samples),
                    )
