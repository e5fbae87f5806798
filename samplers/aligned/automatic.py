"""CARS while it accepts, a Markov chain with its trie where it does not."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from constrain.automaton import TokenAutomaton
from samplers.aligned.rejection import CARS, Aligned, Memory, Method, Report
from samplers.backend import OnTokens, SpeculativeBackend
from samplers.progress import progress_of
from samplers.sample import Sample
from samplers.speculative.choices import Drawn

ENOUGH: Final = 0.05
"""Acceptance below which rejection is given up, if it also costs more than a chain."""
PATIENCE: Final = 32
"""Latest attempts by which that is judged."""
DEFAULT_STEPS: Final = 10


@dataclass
class Switch:
    """What was used, and why.

    Attributes:
        method: ``"CARS"``, or ``"MH"`` once rejection was given up.
        reason: in words.
    """

    method: Literal["CARS", "MH"] = "CARS"
    reason: str = "rejection accepts enough"


class _Masked(Aligned):
    """Proposals from the trie, masked beyond it (those of ASAp)."""

    method = Method(masks_all=True, learns_masks=True)


class AlignedSampling:
    """Samples that follow the model given the grammar, by the method that fits.

    The target is Q(w) = P(w) 1[w in L] / Z as in :mod:`samplers.aligned.rejection`.  It begins with
    CARS, whose samples are exact and which learns whether or not it accepts.  Attempts that fail are
    short, many need no model, and all of them teach; so rejection is given up only once the calls of
    the model that were spent while fewer than 5 % of the latest attempts were accepted exceed what
    chains for all missing samples would take.  (So all in all at most twice the calls of the better
    choice are spent, whichever that was.)  Then it goes on with independence Metropolis-Hastings:
    proposals q from the same trie with masks beyond it, accepted with min(1, W(w') / W(w)), W = P / q
    under the trie as it is at that step.  A text that the trie knows completely has W = Z(root), so a
    chain moves freely among known texts and hesitates only before new ones, by the mass that masks cut
    off there.  The trie goes on learning, less and less, so that the chain's law approaches Q.

    Args:
        backend: the model with its drafters.
        automaton: the grammar.
        steps: proposals for each sample once rejection is given up.
        enough: acceptance below which that happens.
        patience: latest attempts by which it is judged.
        calls: of the model that are worth spending on rejection for each missing sample while few
            attempts are accepted; what a chain takes at most by default.

    Attributes:
        switch: what the last call used.
    """

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        steps: int = DEFAULT_STEPS,
        enough: float = ENOUGH,
        patience: int = PATIENCE,
        calls: int | None = None,
    ) -> None:
        self.backend = backend
        self.automaton = automaton
        self.steps = steps
        self.enough = enough
        self.patience = patience
        self.calls = calls
        self.switch = Switch()
        self._rejecting = CARS(backend, automaton)
        self._proposing = _Masked(backend, automaton)
        self._proposing.share(self._rejecting)

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
        """Draws texts; arguments as in :meth:`samplers.CARS.sample`.

        ``max_attempts`` bounds rejection, in all: after so many attempts chains follow.
        """
        prepared = self._rejecting.prepare(prompt, max_new_tokens, temperature, top_p)
        source = np.random.SeedSequence(seed)
        out: list[Sample] = []
        with self.backend.same_prompt(), progress_of(progress, n, on_tokens) as report:
            most = math.inf if max_attempts is None else max_attempts
            self._reject(prepared.ids, prepared.memory, temperature, source, n, out, report, most)
            if len(out) < n:
                self._walk(prepared.ids, prepared.memory, temperature, source, n, out, report)
        return out

    def report(
        self, prompt: str | Sequence[int], max_new_tokens: int, temperature: float = 1.0
    ) -> Report:
        """Counts for a prompt so far."""
        return self._rejecting.report(prompt, max_new_tokens, temperature)

    # -- rejection -------------------------------------------------------------------------------

    def _reject(
        self,
        ids: list[int],
        memory: Memory,
        temperature: float,
        source: np.random.SeedSequence,
        n: int,
        out: list[Sample],
        report: OnTokens,
        most: float,
    ) -> None:
        """Accepts until there are enough, too few are accepted, or ``most`` attempts were made."""
        latest: deque[bool] = deque(maxlen=self.patience)
        chain = (self.steps + 1) * memory.trie.budget if self.calls is None else self.calls
        spent = in_vain = attempts = 0
        self.switch = Switch()
        while len(out) < n:
            if attempts >= most:
                self.switch = Switch("MH", f"max_attempts={most} were made")
                return
            width = int(min(self.backend.max_rows, max(n - len(out), 4), most - attempts))
            attempts += width
            choices = [Drawn(seed) for seed in source.spawn(width)]
            made = self._rejecting.round(ids, memory, temperature, choices)
            for sample, accepted in made:
                latest.append(accepted)
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
                self.switch = Switch(
                    "MH",
                    f"{sum(latest)} of the latest {self.patience} attempts were accepted, fewer than "
                    f"{self.enough:.0%}, after {in_vain} calls of the model in vain; chains for the "
                    f"missing {n - len(out)} texts take at most {worth}",
                )
                return

    # -- the chain -------------------------------------------------------------------------------

    def _walk(
        self,
        ids: list[int],
        memory: Memory,
        temperature: float,
        source: np.random.SeedSequence,
        n: int,
        out: list[Sample],
        report: OnTokens,
    ) -> None:
        """Chains side by side, one for each missing sample."""
        while len(out) < n:
            width = min(self.backend.max_rows, n - len(out))
            states = self._propose(ids, memory, temperature, source.spawn(width))
            decisions = [Drawn(seed) for seed in source.spawn(width)]
            for _ in range(self.steps):
                bound = _log_bound(memory)
                proposed = self._propose(ids, memory, temperature, source.spawn(width))
                for i, text in enumerate(proposed):
                    states[i] = _decide(states[i], text, bound, decisions[i])
            for text in states:
                out.append(text)
                report(len(out) - 1, text.token_ids)

    def _propose(
        self,
        ids: list[int],
        memory: Memory,
        temperature: float,
        seeds: Sequence[np.random.SeedSequence],
    ) -> list[Sample]:
        choices = [Drawn(seed) for seed in seeds]
        return [s for s, _ in self._proposing.round(ids, memory, temperature, choices)]


def _log_bound(memory: Memory) -> float:
    """Log Z(root): the weight of every text that the trie knows completely."""
    root = memory.trie.root
    return math.log(root.z) if root is not None else 0.0


def _decide(old: Sample, new: Sample, bound: float, choices: Drawn) -> Sample:
    """One step: the old text is known to the trie that proposed the new one."""
    weight = new.logprob - new.constrained_logprob
    accepted = choices.accept(math.exp(min(weight - bound, 0.0)))
    kept, other = (new, old) if accepted else (old, new)
    kept.stats.forwards += other.stats.forwards
    kept.stats.rejected = other.stats.rejected if accepted else kept.stats.rejected + 1
    kept.weight = 1.0
    return kept
