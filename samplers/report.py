"""What a sampler's last call did and learned: one form for all samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class SamplingReport:
    """What a sampler's last call did; kept where the call failed, too.

    Attributes:
        method: whose law the samples follow: the sampler's name, or what it chose (``"CARS"``, ``"MH"``).
        reason: why it chose that, in words; empty where there is no choice.
        samples: how many were returned.
        attempts: texts begun: attempts of samplers that reject, proposals of chains, runs of particles;
            the samples themselves where each is written once.
        accepted: those of them that were taken.
        forwards: calls of the model, prefill included, however many rows took part.
        log_evidence: natural logarithm of an estimate of Pr(L), the probability that the model alone
            writes a text of the grammar; nan where a sampler does not estimate it.
        lossy: whether some sample is of typical acceptance, and so not of the sampler's law.
    """

    method: str = ""
    reason: str = ""
    samples: int = 0
    attempts: int = 0
    accepted: int = 0
    forwards: int = 0
    log_evidence: float = math.nan
    lossy: bool = False

    @property
    def acceptance(self) -> float:
        """Accepted attempts among all; nan without any."""
        return self.accepted / self.attempts if self.attempts else math.nan


@dataclass
class RejectionReport(SamplingReport):
    """Of a sampler that rejects and learns.

    Attributes:
        bounds: Z(root), the mass that is not yet known to be outside the grammar, after each round: an
            attempt is accepted with probability Pr(L) / Z(root).
    """

    bounds: list[float] = field(default_factory=list, repr=False)

    def named(self) -> str:
        """What a bar says of it while it goes on."""
        return f"samples ({self.attempts:,} attempts)"


@dataclass
class AlignedReport(RejectionReport):
    """Of ``AlignedSampling``: rejection, and the chain that followed where it was given up.

    Without a chain ``runs`` is 0, and what is said of it is nan.

    Attributes:
        runs: proposals of the chain, each a run of particles.
        steps: proposals for each sample of the chain.
        moved: share of proposals that the chain went on to.
        effective: effective number of the chain's samples, those that came again counted as fewer.
        effective_runs: effective number of its proposals as an importance sample.
    """

    runs: int = 0
    steps: float = 0.0
    moved: float = math.nan
    effective: float = math.nan
    effective_runs: float = math.nan


@dataclass
class ParticleReport(SamplingReport):
    """Of ``AWRS``.

    Attributes:
        log_evidences: natural logarithm of each run's estimate of Pr(L), minus infinity for runs in which
            all particles died; ``log_evidence`` is that of their mean.
    """

    log_evidences: list[float] = field(default_factory=list)

    def add(self, log_evidence: float) -> None:
        """Counts a run."""
        self.log_evidences.append(log_evidence)
        self.attempts += 1
        self.accepted += log_evidence > -math.inf
        mean = np.logaddexp.reduce(self.log_evidences) - math.log(self.attempts)
        self.log_evidence = float(mean)


@dataclass
class LookaheadReport(SamplingReport):
    """Of ``AdaDec``.

    Attributes:
        pauses: tokens before which it looked ahead.
    """

    pauses: int = 0


@dataclass(frozen=True)
class FormatGuidance:
    """What the hidden Markov model did for one sample.

    Attributes:
        log_format: log q(format) before the first token.
        mean_retained, min_retained: the mass of A on the hidden states kept, over the tokens.
        mean_states: how many these were.
        fallbacks: tokens at which the mask alone decided, as q gave the format no chance.
    """

    log_format: float
    mean_retained: float
    min_retained: float
    mean_states: float
    fallbacks: int


@dataclass
class FormatReport(SamplingReport):
    """Of ``DecoG`` and ``CtrlG``.

    Attributes:
        guidance: of each sample, in their order.
    """

    guidance: list[FormatGuidance] = field(default_factory=list)


__all__ = [
    "AlignedReport",
    "FormatGuidance",
    "FormatReport",
    "LookaheadReport",
    "ParticleReport",
    "RejectionReport",
    "SamplingReport",
]
