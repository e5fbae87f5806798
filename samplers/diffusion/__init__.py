"""Infilling with diffusion language models: canvases of fixed text and masks, in any order."""

from samplers.diffusion.canvas import Gap, Masks
from samplers.diffusion.completability import Completability, OpenCanvas, is_completable

__all__ = ["Completability", "Gap", "Masks", "OpenCanvas", "is_completable"]
