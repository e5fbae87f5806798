"""The exact law of everything drawn through :class:`samplers.speculative.choices.Choices`.

A run that takes all its random decisions from :class:`Enumerated` is repeated until every sequence
of decisions was taken once, depth first; the probability of a run is the product of those of its
decisions.  So the law of whole texts is computed, not estimated::

    law = law_of(lambda choices: tuple(generate(choices)))

Runs must be functions of their decisions: no clock and no memory may change which decisions are
asked for.  (Drafts that are verified by sampling and matching never do.)
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from samplers.speculative.choices import Weights

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass
class _Decision:
    """One decision on the way: its outcomes, which of them is being tried, their probabilities."""

    outcomes: list[int]
    probabilities: list[float]
    at: int = 0

    @property
    def outcome(self) -> int:
        return self.outcomes[self.at]

    @property
    def probability(self) -> float:
        return self.probabilities[self.at]


class Enumerated:
    """Choices that go through all outcomes, one run after another.

    ``restart`` begins a run; ``advance`` moves on to the next sequence of decisions and says whether
    there is one.  Several samples may share an object: then their joint law is enumerated.
    """

    def __init__(self) -> None:
        self._trace: list[_Decision] = []
        self._used = 0

    # -- what a run asks for ---------------------------------------------------------------------

    def pick(self, weights: Weights) -> int:
        """Every index with a weight above zero, in turn."""
        given = np.asarray(weights, np.float64)
        assert given.ndim == 1, "weights of one decision"
        assert np.isfinite(given).all(), f"weights must be finite: {given}"
        assert (given >= 0).all(), f"weights must not be negative: {given}"
        total = float(given.sum())
        assert total > 0, "one weight must be positive"
        outcomes = np.flatnonzero(given)
        return self._decide(outcomes.tolist(), (given[outcomes] / total).tolist())

    def accept(self, probability: float) -> bool:
        """Both outcomes in turn, as far as they are possible."""
        assert 0.0 <= probability <= 1.0, f"not a probability: {probability}"
        if probability in (0.0, 1.0):
            return bool(probability)
        return bool(self._decide([1, 0], [probability, 1.0 - probability]))

    def failures(self, probability: float) -> int:
        """Up to so many that what is left out is below 1e-13; the last outcome gets the rest."""
        assert 0.0 <= probability < 1.0, f"not the probability of a failure: {probability}"
        if probability == 0.0:
            return 0
        most = math.ceil(-30 / math.log(probability))
        chances = [(1 - probability) * probability**i for i in range(most)]
        return self._decide(list(range(most + 1)), [*chances, probability**most])

    def gumbel(self, size: int) -> Weights:
        """Has infinitely many outcomes."""
        raise NotImplementedError("Gumbel variables cannot be enumerated; draw with pick instead")

    def _decide(self, outcomes: list[int], probabilities: list[float]) -> int:
        if self._used == len(self._trace):
            self._trace.append(_Decision(outcomes, probabilities))
        decision = self._trace[self._used]
        same = decision.outcomes == outcomes and all(
            abs(p - q) < 1e-9 for p, q in zip(decision.probabilities, probabilities, strict=True)
        )
        assert same, "a run asked for other decisions when it was repeated"
        self._used += 1
        return decision.outcome

    # -- from run to run -------------------------------------------------------------------------

    def restart(self) -> None:
        """Before a run."""
        self._used = 0

    @property
    def probability(self) -> float:
        """Of the decisions that the run took."""
        return float(np.prod([d.probability for d in self._trace]))

    @property
    def decisions(self) -> int:
        """How many the run took."""
        return len(self._trace)

    def advance(self) -> bool:
        """Moves on to the next sequence of decisions; False if all were taken."""
        assert self._used == len(self._trace), "a run asked for fewer decisions when repeated"
        while self._trace and self._trace[-1].at + 1 == len(self._trace[-1].outcomes):
            self._trace.pop()
        if not self._trace:
            return False
        self._trace[-1].at += 1
        return True


def runs(run: Callable[[Enumerated], T], limit: int = 1_000_000) -> Iterator[tuple[T, float]]:
    """What a run returns, with its probability, over all sequences of decisions."""
    choices = Enumerated()
    for number in itertools.count():
        assert number < limit, f"more than {limit:,} runs"
        choices.restart()
        yield run(choices), choices.probability
        if not choices.advance():
            return


def law_of(run: Callable[[Enumerated], K], limit: int = 1_000_000) -> dict[K, float]:
    """The law of what a run returns."""
    law: defaultdict[K, float] = defaultdict(float)
    for outcome, probability in runs(run, limit):
        law[outcome] += probability
    return dict(law)


def total_variation(p: Mapping[K, float], q: Mapping[K, float]) -> float:
    """Half the sum of absolute differences."""
    return sum(abs(p.get(key, 0.0) - q.get(key, 0.0)) for key in p.keys() | q.keys()) / 2
