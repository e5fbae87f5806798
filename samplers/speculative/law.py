"""The law of one token: logits, weights, temperature and top-p."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from constrain.arrays import Int64
from grammars.errors import GrammaError
from samplers.speculative.target import Floats, Weighting

Processors: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(int64[1, length], floating[1, V]) -> floating[1, V], a pure function of the prefix."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn from the weighted law.

    Attributes:
        temperature: logits are divided by it; 0 takes the likeliest token (the first among equals).
        top_p: of the weighted law, the smallest set of likeliest tokens with this mass.
        processors: ``transformers``' own, applied to each prefix before temperature and weights.

    Raises:
        ValueError: if a number is out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    processors: Processors | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature}: must be 0 or more, and finite")
        if 0 < self.temperature < 1e-30:
            raise ValueError(f"temperature={self.temperature}: too small to divide by; 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be above 0 and at most 1")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature == 0


@dataclass(frozen=True)
class Law:
    """What the next token is drawn from.

    Attributes:
        ids: int64[k], the tokens that are possible at all; ``None`` for every column.
        weights: float64[k], not negative, not normalised: what is drawn from, top-p applied.
        model: float64[k], log-probabilities of the model (at the temperature; at 1 when greedy).
        constrained: float64[k], log-probabilities of the weighted law before top-p.
    """

    ids: Int64 | None
    weights: Floats
    model: Floats
    constrained: Floats

    def token(self, index: int) -> int:
        """The token at an index of the arrays."""
        return index if self.ids is None else int(self.ids[index])

    def index(self, token: int) -> int | None:
        """Where a token is in the arrays."""
        if self.ids is None:
            return token if 0 <= token < len(self.weights) else None
        at = int(np.searchsorted(self.ids, token))
        return at if at < len(self.ids) and self.ids[at] == token else None

    def dense(self, size: int) -> Floats:
        """float64[size], the probabilities of all tokens."""
        out = np.zeros(size)
        p = self.weights / self.weights.sum()
        if self.ids is None:
            out[: len(p)] = p
        else:
            out[self.ids] = p
        return out


class EmptyLaw(GrammaError, RuntimeError):  # noqa: N818 - the name says it
    """No token has a weight above zero."""


def law_of(logits: Any, weighting: Weighting, sampling: Sampling) -> Law:
    """The law after a prefix.

    Args:
        logits: a torch tensor [V'] of the model's, on the CPU, processors applied.
        weighting: the target's weights there.
        sampling: temperature and top-p.

    Raises:
        EmptyLaw: if nothing is possible.
    """
    temperature = sampling.temperature or 1.0
    row = logits if logits.dtype == torch.float64 else logits.float()
    if temperature != 1.0:
        row = row / temperature
    normaliser = float(torch.logsumexp(row, -1))
    values = row.numpy()
    if weighting.ids is not None:
        values = values[weighting.ids]
    if normaliser == -math.inf:
        raise EmptyLaw("every logit is minus infinity")
    model = values.astype(np.float64) - normaliser
    score = model if weighting.log_weights is None else model + weighting.log_weights
    if not len(score) or not np.isfinite(top := score.max()):
        raise EmptyLaw("the target allows no token here")
    p = np.exp(score - top)
    total = p.sum()
    constrained = score - (top + np.log(total))
    if sampling.greedy:
        # without weights the model's own order decides, as it does in plain decoding
        best = int(np.argmax(values if weighting.log_weights is None else score))
        p = np.zeros_like(p)
        p[best] = 1.0
    elif sampling.top_p < 1:
        p = _nucleus(p / total, sampling.top_p)
    return Law(weighting.ids, p, model, constrained)


def _nucleus(p: Floats, top_p: float) -> Floats:
    """The smallest set of likeliest tokens whose mass reaches ``top_p``; at least one."""
    order = np.argsort(-p, kind="stable")
    sums = np.cumsum(p[order])
    count = int(np.searchsorted(sums, top_p, side="left")) + 1
    out = np.zeros_like(p)
    kept = order[:count]
    out[kept] = p[kept]
    return out
