"""A decoder layer of our own, small enough to train in minutes.

Root-mean-square norms, rotary positions, grouped heads, a gated linear unit: the layer of Llama (Touvron
et al. 2023).  Tokens that are drafted see their own past, which may be what was drafted before them.
"""

from __future__ import annotations

import torch
from torch.nn.functional import rms_norm, silu

from samplers.drafters.learned.products import Linear

Pair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, float32[n, groups, width] each."""


class Norm(torch.nn.Module):
    """Divides by the root of the mean square.

    Args:
        size: H.
        weight: float[H] to begin with; ones by default.
    """

    def __init__(self, size: int, weight: torch.Tensor | None = None) -> None:
        super().__init__()
        start = torch.ones(size) if weight is None else weight.detach().float().cpu().clone()
        self.weight = torch.nn.Parameter(start)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32[..., H] of the same shape."""
        return rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, 1e-6)


def linear(inner: int, outer: int, scale: float = 1.0) -> Linear:
    """A product without bias whose outputs are as large as its inputs, times ``scale``."""
    made = Linear(inner, outer)
    torch.nn.init.normal_(made.weight, std=scale * inner**-0.5)
    return made


class Layer(torch.nn.Module):
    """Attention and a gated unit, each added to what comes in.

    Args:
        size: H.
        heads: of queries; H is a multiple of it.
        groups: of keys and values; ``heads`` is a multiple of it.
        inner: width of the gated unit.

    Raises:
        ValueError: if a number is no such multiple, or a head's width is odd.
    """

    def __init__(self, size: int, heads: int, groups: int, inner: int) -> None:
        super().__init__()
        if size % heads or heads % groups or size // heads % 2:
            raise ValueError(f"{heads} heads in {groups} groups do not divide {size} numbers")
        self.heads, self.groups, self.width = heads, groups, size // heads
        self.before = Norm(size)
        self.query = linear(size, size)
        self.key = linear(size, groups * self.width)
        self.value = linear(size, groups * self.width)
        self.out = linear(size, size, 0.2)
        self.between = Norm(size)
        self.gate = linear(size, inner)
        self.up = linear(size, inner)
        self.down = linear(inner, size, 0.2)

    def queries(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """float32[n, heads, width], from inputs [n, H] at positions int64[n]."""
        return self._queries(self.before(x), positions)

    def pairs(self, x: torch.Tensor, positions: torch.Tensor) -> Pair:
        """Keys and values of inputs [n, H] at positions int64[n]."""
        return self._pairs(self.before(x), positions)

    def parts(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, Pair]:
        """Queries, and keys and values, of inputs [n, H] at positions int64[n]."""
        x = self.before(x)
        return self._queries(x, positions), self._pairs(x, positions)

    def _queries(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return _turned(self.query(x).view(len(x), self.heads, self.width), positions)

    def _pairs(self, x: torch.Tensor, positions: torch.Tensor) -> Pair:
        keys = self.key(x).view(len(x), self.groups, self.width)
        return _turned(keys, positions), self.value(x).view(len(x), self.groups, self.width)

    def attend(
        self,
        x: torch.Tensor,
        queries: torch.Tensor,
        seen: Pair,
        mask: torch.Tensor | None = None,
        own: tuple[Pair, ...] = (),
    ) -> torch.Tensor:
        """The layer's outputs float32[n, H].

        Args:
            x: float32[n, H], its inputs.
            queries: of them.
            seen: keys and values of m tokens.
            mask: bool[n, k], who sees which of the last k of them, k up to m; the others, and without a mask
                all, are seen by every query.
            own: further keys and values, n of each: query i sees the i-th of each.
        """
        keys, values = seen
        n, each = len(queries), self.heads // self.groups
        q = queries.view(n, self.groups, each, self.width) * self.width**-0.5
        scores = torch.einsum("ngew,mgw->genm", q, keys)
        if mask is not None:
            first = len(keys) - mask.shape[1]
            masked = scores[..., first:].masked_fill(~mask, -torch.inf)
            scores = torch.cat([scores[..., :first], masked], -1) if first else masked
        extra = [torch.einsum("ngew,ngw->gen", q, k)[..., None] for k, _ in own]
        weights = (torch.cat([scores, *extra], -1) if extra else scores).softmax(-1)
        mixed = torch.einsum("genm,mgw->ngew", weights[..., : len(keys)], values)
        for i, (_, v) in enumerate(own):
            share = weights[..., len(keys) + i].permute(2, 0, 1)[..., None]
            mixed = mixed + share * v[:, :, None]
        x = x + self.out(mixed.reshape(n, -1))
        inside = self.between(x)
        result: torch.Tensor = x + self.down(silu(self.gate(inside)) * self.up(inside))
        return result


def _turned(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x [n, heads, width] with its halves turned (Su et al. 2021)."""
    half = x.shape[-1] // 2
    speeds = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = positions[:, None].float() * speeds
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
