"""Infilling with diffusion language models: canvases of fixed text and masks, in any order."""

from samplers.diffusion.canvas import Gap, Masks
from samplers.diffusion.completability import Completability, OpenCanvas, is_completable
from samplers.diffusion.infiller import DiffusionInfiller
from samplers.diffusion.layout import NoCompletion
from samplers.diffusion.learn2pd import Filter, Learn2PD, train_filter
from samplers.diffusion.model import Frame, MaskedModel
from samplers.diffusion.schedule import Dream, FreeDave, LocalLeap, Schedule, Static, Threshold

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
