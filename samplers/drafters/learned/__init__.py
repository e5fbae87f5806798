"""Drafters that are trained for a model and read its hidden states, behind one interface."""

from __future__ import annotations

from samplers.drafters.learned.base import LearnedDrafter
from samplers.drafters.learned.chimera import Chimera
from samplers.drafters.learned.evaluation import Evaluation, evaluate
from samplers.drafters.learned.features import FSPAD
from samplers.drafters.learned.growing import Growth
from samplers.drafters.learned.medusa import Heads, MedusaHeads
from samplers.drafters.learned.medusa2 import Change, Medusa2, change_of
from samplers.drafters.learned.training import Report, Training

__all__ = [
    "Change",
    "Chimera",
    "Evaluation",
    "FSPAD",
    "Growth",
    "Heads",
    "LearnedDrafter",
    "Medusa2",
    "MedusaHeads",
    "Report",
    "Training",
    "change_of",
    "evaluate",
]
