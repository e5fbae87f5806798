"""Infilling with diffusion language models: canvases of fixed text and masks, in any order.

What judges canvases needs compiled kernels of its own, so it is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samplers.diffusion.canvas import Gap, Masks
from samplers.diffusion.infiller import DiffusionInfiller
from samplers.diffusion.layout import NoCompletion
from samplers.diffusion.learn2pd import Filter, Learn2PD, train_filter
from samplers.diffusion.model import Frame, MaskedModel
from samplers.diffusion.schedule import Dream, FreeDave, LocalLeap, Schedule, Static, Threshold

if TYPE_CHECKING:
    from samplers.diffusion.completability import Completability, OpenCanvas, is_completable

__all__ = [
    "Completability",
    "DiffusionInfiller",
    "Dream",
    "Filter",
    "Frame",
    "FreeDave",
    "Gap",
    "Learn2PD",
    "LocalLeap",
    "MaskedModel",
    "Masks",
    "NoCompletion",
    "OpenCanvas",
    "Schedule",
    "Static",
    "Threshold",
    "is_completable",
    "train_filter",
]


def __getattr__(name: str) -> Any:
    if name not in ("Completability", "OpenCanvas", "is_completable"):
        raise AttributeError(f"module 'samplers.diffusion' has no attribute {name!r}")
    from samplers.diffusion import completability

    value = globals()[name] = getattr(completability, name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
