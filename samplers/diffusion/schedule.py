"""Schedules: which of the places that a model has judged are committed, and how many at once.

A schedule sees the confidences of the open places of the present block and names those to commit.
It knows nothing of grammars: what a grammar forbids has been taken out of the confidences before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAP_RADIUS: Final = 4


@dataclass(frozen=True)
class View:
    """What a schedule sees of one canvas.

    Attributes:
        confidence: float64[T], probability of the token chosen for each place; ``-inf`` where
            nothing can be committed (fixed, or outside the block).
        block: the places of the present block.
        masks: open places in the block when it was begun.
        step: forwards spent on the block so far.
    """

    confidence: Floats
    block: range
    masks: int
    step: int

    def ranked(self) -> list[int]:
        """Open places, most confident first; the earlier one of equals."""
        order = np.argsort(-self.confidence, kind="stable")
        return [int(i) for i in order if self.confidence[i] > -np.inf]

    @property
    def open(self) -> int:
        """How many places are open in the block."""
        return int(np.isfinite(self.confidence).sum())


class Schedule(Protocol):
    """Chooses places."""

    def choose(self, view: View) -> list[int]:
        """Places to commit, most confident first; at least one of those that are open."""
        ...


@dataclass(frozen=True)
class Static:
    """Equal shares (LLaDA): a block of m masks takes ``steps`` forwards, the first ones with the rest.

    Source: Nie et al. 2025, "Large Language Diffusion Models", low-confidence remasking.

    Attributes:
        steps: forwards for each block; ``None`` for one token a forward.
    """

    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps}: must be at least 1")

    def choose(self, view: View) -> list[int]:
        """The most confident ones."""
        return view.ranked()[: self.quota(view)]

    def quota(self, view: View) -> int:
        """How many are due at this step."""
        if self.steps is None:
            return 1
        share, rest = divmod(view.masks, self.steps)
        due = share + (view.step < rest)
        return max(due, 1) if view.step < self.steps - 1 else max(due, view.open)


@dataclass(frozen=True)
class Dream:
    """Dream's shares: with t going from 1 to ``eps`` in ``steps``, a share 1 - s/t of what is open.

    Source: Ye et al. 2025, "Dream 7B"; its released decoding loop.
    """

    steps: int = 32
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.eps < 1:
            raise ValueError(f"steps={self.steps}, eps={self.eps}: at least 1, and between 0 and 1")

    def choose(self, view: View) -> list[int]:
        """The most confident ones; all of them at the last step."""
        at = min(view.step, self.steps - 1)
        t, s = (1 - (1 - self.eps) * k / self.steps for k in (at, at + 1))
        count = view.open if at == self.steps - 1 else int(view.open * (1 - s / t))
        return view.ranked()[: max(count, 1)]


@dataclass(frozen=True)
class Threshold:
    """All places whose confidence reaches a threshold, and the most confident one anyway.

    Source: Wu et al. 2025, "Fast-dLLM", section 3.3 (confidence-aware parallel decoding).
    """

    threshold: float = 0.9

    def __post_init__(self) -> None:
        _check_share("threshold", self.threshold)

    def choose(self, view: View) -> list[int]:
        """Those above the threshold."""
        ranked = view.ranked()
        sure = [i for i in ranked if view.confidence[i] >= self.threshold]
        return sure or ranked[:1]


@dataclass(frozen=True)
class LocalLeap:
    """Less is asked near places that are sure already.

    Anchors are places with confidence of at least ``anchor``; within ``radius`` of one ``near`` is
    enough, and the most confident place is always taken.

    The paper observes that what an anchor says of its neighbours fades with distance, and draws the line
    at a radius; its released code asks the same of all places within.  ``decay`` is ours: with 0 that is
    what happens, with 1 what is asked rises evenly from ``near`` beside an anchor to ``anchor`` just
    outside the radius.

    Source: "LocalLeap: Accelerating Diffusion LLM Inference via Local Determinism Propagation",
    2025, algorithm 1.
    """

    anchor: float = 0.9
    near: float = 0.75
    radius: int = LEAP_RADIUS
    decay: float = 0.0

    def __post_init__(self) -> None:
        _check_share("anchor", self.anchor)
        _check_share("near", self.near)
        if self.radius < 0:
            raise ValueError(f"radius={self.radius}: must not be negative")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay={self.decay}: must be from 0 to 1")

    def asked(self, distance: int) -> float:
        """The confidence that is enough at a distance from the nearest anchor, from 1 on."""
        if distance > self.radius:
            return self.anchor
        share = self.decay * (distance - 1) / self.radius
        return self.near + share * (self.anchor - self.near)

    def choose(self, view: View) -> list[int]:
        """Anchors and their confident neighbours."""
        ranked = view.ranked()
        anchors = np.flatnonzero(view.confidence >= self.anchor)
        if not len(anchors):
            return ranked[:1]

        def is_taken(place: int) -> bool:
            confidence = float(view.confidence[place])
            distance = int(np.abs(anchors - place).min())
            return confidence >= (self.asked(distance) if distance else self.anchor)

        return [place for place in ranked if is_taken(place)]


@dataclass(frozen=True)
class FreeDave:
    """Several steps of a schedule drafted with one forward's logits, verified together by the next.

    Lossless: what comes out is what ``schedule`` by itself would have written, however many tokens it
    commits at a step, as far as one batched forward gives the logits that single ones do.  It needs
    temperature 0.  A step counts as verified only if it commits the very tokens that were drafted, so
    the more tokens a step has, the fewer drafts come true.

    Source: Wu and Zhang 2025, "Free Draft-and-Verification", algorithm 1.

    Attributes:
        drafts: K, canvases scored together.
        schedule: what is sped up: any schedule that goes by what it sees; one token a step by default.
    """

    drafts: int = 4
    schedule: Schedule = Static()

    def __post_init__(self) -> None:
        if self.drafts < 1:
            raise ValueError(f"drafts={self.drafts}: must be at least 1")
        if isinstance(self.schedule, FreeDave):
            raise ValueError("schedule must be what is drafted and verified, not FreeDave itself")

    def choose(self, view: View) -> list[int]:
        """What the schedule chooses: the step that is drafted and verified."""
        return self.schedule.choose(view)

    @property
    def truncates(self) -> bool:
        """Whether the schedule has the model shown nothing behind a committed EOS."""
        return bool(getattr(self.schedule, "truncates", False))


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name}={value}: must be above 0 and at most 1")
