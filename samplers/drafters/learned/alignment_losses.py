"""Losses between a draft's law and its target's: KL, total variation, and TVD++.

A drafted token is accepted with the probability sum_x min(p(x), q(x)) = 1 - TVD(p, q), p the target's law
and q the draft's (Leviathan et al. 2023, corollary 3.6), so that total variation is what a draft should
make small.  Its gradient is a policy gradient: with r(x) = 1[p(x) > q(x)],

    grad TVD(p, q) = E_{x ~ q}[ -r(x) grad log q(x) ],

and TVD++ normalises the reward, (r(x) - mean) / deviation, as advantages are (Goel et al. 2024, "Direct
Alignment of Draft Model for Speculative Decoding with Chat-Fine-Tuned LLMs", arXiv 2403.00858, section 3).
KL(p || q) is what distillation uses.

Of the target's law the k likeliest tokens are known, and the mass of all others together, which count as
one token: so the losses are between laws of k + 1 outcomes, and at most those between the whole laws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch

Loss: TypeAlias = Literal["kl", "tvd", "tvd++"]
_LEAST: Final = 1e-3
"""Deviation of rewards that is divided by at least."""


@dataclass(frozen=True)
class Pair:
    """Two laws at some positions, over the same k listed tokens and the rest as one more.

    Attributes:
        p: floating[n, k + 1], the target's; the rest comes last.
        log_q: floating[n, k + 1], the draft's, with gradients; minus infinity where it is impossible.
    """

    p: torch.Tensor
    log_q: torch.Tensor

    @property
    def q(self) -> torch.Tensor:
        """floating[n, k + 1], the draft's law; rows sum to 1."""
        return self.log_q.exp()

    def acceptance(self) -> torch.Tensor:
        """floating[n]: at least how often a token drawn from q is accepted; the rest counts as never."""
        return torch.minimum(self.p, self.q)[:, :-1].sum(-1)


def paired(
    logits: torch.Tensor, at: torch.Tensor, probabilities: torch.Tensor, whole: torch.Tensor
) -> Pair:
    """Lays a draft's logits beside the target's laws.

    Args:
        logits: floating[n, C], the draft's, divided by the temperature; columns are what it can say.
        at: int64[n, k], the columns of the listed tokens; -1 for one that it cannot say, or none.
        probabilities: floating[n, k], the target's; 0 where there is no token.
        whole: bool[n], whether only listed tokens are possible.  The draft is then limited to them, as it
            is where it drafts; at least one of them must be sayable.
    """
    sayable = at >= 0
    listed = logits.gather(-1, at.clamp(min=0)).masked_fill(~sayable, -torch.inf)
    normaliser = torch.where(whole, _logsumexp(listed, whole), logits.logsumexp(-1))
    others = torch.ones(len(logits), logits.shape[-1] + 1, dtype=torch.bool, device=logits.device)
    others.scatter_(-1, torch.where(sayable, at, torch.full_like(at, logits.shape[-1])), False)
    others = others[:, :-1] & ~whole[:, None]
    some = others.any(-1)
    rest = _logsumexp(logits.masked_fill(~others, -torch.inf), some) - normaliser
    rest = torch.where(some, rest, torch.full_like(rest, -torch.inf))
    log_q = listed - normaliser[:, None]
    missing = (1 - probabilities.sum(-1)).clamp(min=0.0)
    missing = torch.where(whole, torch.zeros_like(missing), missing)
    return Pair(
        torch.cat([probabilities, missing[:, None]], -1).to(logits.dtype),
        torch.cat([log_q, rest[:, None]], -1),
    )


def _logsumexp(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Of each of some rows; of one of minus infinities alone there is no gradient, so others are zeros."""
    return torch.where(rows[:, None], values, torch.zeros_like(values)).logsumexp(-1)


def kl(pair: Pair) -> torch.Tensor:
    """Kullback-Leibler divergence of the draft's law from the target's, nats a position, mean.

    What the draft cannot say is left out of p, which is normalised again: no training could help there.
    """
    possible = torch.isfinite(pair.log_q)
    p = pair.p * possible
    p = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    log_q = torch.where(possible, pair.log_q, torch.zeros_like(pair.log_q))
    return (torch.xlogy(p, p) - p * log_q).sum(-1).mean()


def tvd(pair: Pair) -> torch.Tensor:
    """Total variation, half the sum of |p - q|, mean over the positions."""
    return 0.5 * (pair.p - pair.q).abs().sum(-1).mean()


def tvd_plus_plus(pair: Pair) -> torch.Tensor:
    """A number whose gradient is that of TVD++: E_{x ~ q}[-(r(x) - mean) / deviation grad log q(x)].

    Mean and deviation are those of the rewards of all positions at hand under q.  The expectation is
    taken over all outcomes rather than over draws, so that no noise is left for the mean to lower, and the
    gradient is that of :func:`tvd` over the deviation.
    """
    q = pair.q
    with torch.no_grad():
        reward = (pair.p > q).to(q.dtype)
        mean = (q * reward).sum(-1).mean()
        deviation = (mean * (1 - mean)).sqrt().clamp(min=_LEAST)
        advantage = (reward - mean) / deviation
    return -(q * advantage).sum(-1).mean()


LOSSES: Final[Mapping[str, Callable[[Pair], torch.Tensor]]] = {
    "kl": kl,
    "tvd": tvd,
    "tvd++": tvd_plus_plus,
}
"""By name: floating[] with gradients, of a pair."""
