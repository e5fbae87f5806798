"""What samples say about a law: weighted means, divergence, and a picture of both over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from samplers.sample import Sample


@dataclass(frozen=True)
class Estimate:
    """A weighted mean.

    Attributes:
        mean: sum of w f / sum of w (self-normalised, so biased by about 1/ess).
        error: its standard error, by the delta method.
        ess: effective number of samples, (sum of w)^2 / sum of w^2.
    """

    mean: float
    error: float
    ess: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.error:.2g} (ess {self.ess:.1f})"


def estimate(samples: Sequence[Sample], value: Callable[[Sample], float]) -> Estimate:
    """The expectation of a value, with the samples' weights.

    Args:
        samples: with weights, as any sampler returns them.
        value: of one sample.

    Raises:
        ValueError: without samples, or if all weights are 0.
    """
    weights = [s.weight for s in samples]
    total = math.fsum(weights)
    if total <= 0:
        raise ValueError("an estimate needs samples with a weight above 0")
    values = [float(value(s)) for s in samples]
    mean = math.fsum(w * v for w, v in zip(weights, values, strict=True)) / total
    spread = math.fsum((w * (v - mean)) ** 2 for w, v in zip(weights, values, strict=True))
    ess = total**2 / math.fsum(w * w for w in weights)
    return Estimate(mean, math.sqrt(spread) / total, ess)


def divergence(samples: Sequence[Sample]) -> float:
    """KL(Q~ || P) in nats, Q~ the samples' own (weighted) frequencies, P the model.

    The estimate of Park et al. 2024 (section 5).  P is not normalised over the grammar: the least
    value for exact samples is -log Z.  With few samples frequencies look too certain, so that the
    estimate of N samples is too large; compare it with that of N exact ones.
    """
    mass: Counter[tuple[int, ...]] = Counter()
    logprob: dict[tuple[int, ...], float] = {}
    for sample in samples:
        key = tuple(sample.token_ids)
        mass[key] += sample.weight  # type: ignore[assignment]
        logprob[key] = sample.logprob
    total = math.fsum(mass.values())
    if total <= 0:
        raise ValueError("a divergence needs samples with a weight above 0")
    return math.fsum(
        w / total * (math.log(w / total) - logprob[key]) for key, w in mass.items() if w > 0
    )


def over_time(samples: Sequence[Sample], points: int = 50) -> list[tuple[int, float, float]]:
    """(samples so far, their divergence, accepted among all attempts so far)."""
    out: list[tuple[int, float, float]] = []
    rejected = 0
    marks = {max(1, round(len(samples) * (i + 1) / points)) for i in range(points)}
    for count, sample in enumerate(samples, 1):
        rejected += sample.stats.rejected
        if count in marks:
            out.append((count, divergence(samples[:count]), count / (count + rejected)))
    return out


_WIDTH: Final = 640
_HEIGHT: Final = 320
_MARGIN: Final = 48
_INK: Final = ("#1b6ca8", "#c2571a")


def plot(samples: Sequence[Sample], path: str | Path, *, title: str = "") -> None:
    """Draws divergence and acceptance over samples, as an SVG file.

    Args:
        samples: in the order in which they were drawn.
        path: of the file.
        title: above the picture.
    """
    curve = over_time(samples)
    kl = [(n, v) for n, v, _ in curve]
    accepted = [(n, v) for n, _, v in curve]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="12">',
        f'<text x="{_WIDTH / 2}" y="20" text-anchor="middle">{escape(title)}</text>',
        _line(kl, min(v for _, v in kl), max(v for _, v in kl), _INK[0]),
        _line(accepted, 0.0, 1.0, _INK[1]),
        _label(8, _INK[0], "KL(Q~ || P), nats", kl, "start"),
        _label(_WIDTH - 8, _INK[1], "accepted", accepted, "end"),
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">samples: '
        f"{len(samples):,}</text>",
        "</svg>",
    ]
    Path(path).write_text("\n".join(parts), "utf-8")


def _line(points: Sequence[tuple[int, float]], low: float, high: float, ink: str) -> str:
    last = points[-1][0]
    span = (high - low) or 1.0
    where = " ".join(
        f"{_MARGIN + (n / last) * (_WIDTH - 2 * _MARGIN):.1f},"
        f"{_HEIGHT - _MARGIN - (v - low) / span * (_HEIGHT - 2 * _MARGIN):.1f}"
        for n, v in points
    )
    return f'<polyline fill="none" stroke="{ink}" stroke-width="2" points="{where}"/>'


def _label(x: float, ink: str, name: str, points: Sequence[tuple[int, float]], anchor: str) -> str:
    last = points[-1][1]
    return (
        f'<text x="{x}" y="{_MARGIN - 8}" fill="{ink}" text-anchor="{anchor}">'
        f"{escape(name)}: {last:.3f} at the end</text>"
    )
