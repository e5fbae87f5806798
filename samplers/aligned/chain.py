"""Particle independence Metropolis-Hastings: a Markov chain over texts that need not be near each other.

Proposals are runs of sequential Monte Carlo, all from one law that nothing the chain does changes: the
trie as rejection left it, masks beyond.  A run gives a text and an estimate Z^ of Pr(L); the chain goes
from a run to another with probability min(1, Z^' / Z^).  As E[Z^ 1(text = w)] = P(w) 1[w in L], that
leaves Q as it is, whatever the number of particles (with one of them it is plain independence
Metropolis-Hastings, Z^ = P / q); the more particles, the less estimates differ and the freer it moves.

The old text's estimate is the one it was proposed with.  Working it out again under what was learned from
that very text would be wrong: a text that a trie knows has W = Z(root), near 1, a new one the product
of all masses that masks cut off, and a chain that compares the two never moves again.

Source: Andrieu, Doucet and Holenstein 2010, "Particle Markov chain Monte Carlo methods", section 2.4.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from samplers.aligned.particles import effective
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices


@dataclass
class Chain:
    """Where a chain has been; runs are numbered as they were proposed.

    Attributes:
        choices: the source of randomness of its decisions.
        samples: the text of each run; ``None`` for a run in which all particles died.
        log_weights: log Z^ of each run.
        visited: the run at which the chain is at each time, from the first one that gave a text on.
    """

    choices: Choices

    def __post_init__(self) -> None:
        self.samples: list[Sample | None] = []
        self.log_weights: list[float] = []
        self.visited: list[int] = []

    def add(self, sample: Sample | None, log_weight: float) -> None:
        """Proposes a run; the chain begins with the first one in which a particle lives."""
        self.samples.append(sample)
        self.log_weights.append(log_weight)
        new = len(self.samples) - 1
        if not self.visited:
            if sample is not None:
                self.visited.append(new)
            return
        old = self.visited[-1]
        ratio = log_weight - self.log_weights[old]
        self.visited.append(new if self.choices.accept(math.exp(min(ratio, 0.0))) else old)

    @property
    def begun(self) -> bool:
        """Whether it is at a text."""
        return bool(self.visited)

    @property
    def steps(self) -> int:
        """Proposals after the first one."""
        return max(len(self.visited) - 1, 0)

    @property
    def acceptance(self) -> float:
        """Share of proposals that were taken."""
        moves = sum(a != b for a, b in zip(self.visited, self.visited[1:], strict=False))
        return moves / self.steps if self.steps > 0 else math.nan

    @property
    def log_evidence(self) -> float:
        """Logarithm of the mean weight, which estimates Pr(L) without bias."""
        return float(np.logaddexp.reduce(self.log_weights)) - math.log(len(self.log_weights))

    @property
    def effective_runs(self) -> float:
        """Effective number of runs as an importance sample, (sum w)^2 / sum w^2."""
        return effective(np.array(self.log_weights))

    def staying(self, steps: int) -> float:
        """Expected probability that so many proposals leave the chain where it is.

        From all weights seen, the place drawn by weight: a chain at weight w moves with the mean of
        min(1, w' / w) over the other runs.
        """
        logs = np.sort(np.array([w for w in self.log_weights if w > -math.inf]))
        others = len(self.log_weights) - 1
        if others < 1 or not len(logs):
            return 1.0
        weights = np.exp(logs - logs[-1])
        below = np.concatenate([[0.0], np.cumsum(weights)[:-1]])  # of lighter runs
        heavier = np.arange(len(weights))[::-1]
        safe = np.maximum(weights, np.finfo(float).tiny)
        moves = np.minimum((np.minimum(below / safe, len(weights)) + heavier) / others, 1.0)
        return float((weights * (1.0 - moves) ** steps).sum() / weights.sum())

    def spaced(self, count: int) -> list[Sample]:
        """Where the chain was at so many equally spaced times, the last of them now.

        A text that it did not leave meanwhile comes again, each time as a sample of its own, with the
        calls of the model and the refusals since the one before.
        """
        out: list[Sample] = []
        begun = self.visited[0]
        begin = 0
        for number in range(1, count + 1):
            at = (self.steps * number) // count
            found = self.samples[self.visited[at]]
            assert found is not None, "a chain stays at texts"
            ways = range(begin, at + 1)
            runs = [self.samples[begun + time] for time in ways]
            stats = Stats(
                forwards=sum(run.stats.forwards for run in runs if run is not None),
                tokens=len(found.token_ids),
                rejected=sum(self.visited[time] != begun + time for time in ways),
            )
            out.append(replace(found, weight=1.0, method="MH", stats=stats))
            begin = at + 1
        return out

    def distinct(self, count: int) -> float:
        """Effective number of the samples of :meth:`spaced`: repeated ones count as fewer."""
        at = [self.visited[(self.steps * number) // count] for number in range(1, count + 1)]
        _, times = np.unique(at, return_counts=True)
        return float(count**2 / (times.astype(float) ** 2).sum())
