"""Where randomness comes from.

Everything random in verification goes through :class:`Choices`.  A sampler draws; a test enumerates
every outcome with its probability, and so computes the law of whole texts exactly.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Weights: TypeAlias = npt.NDArray[np.float64]


class Choices(Protocol):
    """A source of random decisions."""

    def pick(self, weights: Weights) -> int:
        """An index, with probability proportional to its weight (not negative, some positive)."""

    def accept(self, probability: float) -> bool:
        """True with a probability."""

    def gumbel(self, size: int) -> Weights:
        """Independent standard Gumbel variables."""

    def failures(self, probability: float) -> int:
        """How many trials fail before one does not, each failing with a probability below 1."""


class Drawn:
    """Decisions drawn from a generator of numpy's, one uniform number each.

    So with drafts that are verified by sampling and matching, a seed gives the same text whatever
    was drafted: each token costs one number.
    """

    def __init__(self, seed: int | np.random.SeedSequence | None = None) -> None:
        self._generator = np.random.default_rng(seed)

    def pick(self, weights: Weights) -> int:
        """An index by inversion of the cumulative weights."""
        sums = np.cumsum(weights)
        at = int(np.searchsorted(sums, self._generator.random() * sums[-1], side="right"))
        if at < len(weights) and weights[at] > 0:
            return at
        return int(np.flatnonzero(weights)[-1])  # rounding led beyond the last one

    def accept(self, probability: float) -> bool:
        """One uniform number below the probability."""
        return bool(self._generator.random() < probability)

    def gumbel(self, size: int) -> Weights:
        """Standard Gumbel variables."""
        drawn: Any = self._generator.gumbel(size=size)
        return np.asarray(drawn, np.float64)

    def failures(self, probability: float) -> int:
        """A geometric variable by inversion."""
        if probability <= 0:
            return 0
        return int(math.log1p(-self._generator.random()) / math.log(probability))


def seeds_of(seed: int | None, count: int) -> list[np.random.SeedSequence]:
    """Independent seeds, one a sample: sample i is the same however many are drawn."""
    return np.random.SeedSequence(seed).spawn(count)
