"""Drafters that are trained for a model and guess from its hidden states, behind one interface."""

from __future__ import annotations

from samplers.drafters.learned.base import LearnedDrafter
from samplers.drafters.learned.chimera import Chimera
from samplers.drafters.learned.evaluation import Evaluation, evaluate
from samplers.drafters.learned.features import FSPAD
from samplers.drafters.learned.growing import Growth
from samplers.drafters.learned.hidden_transfer import HiddenTransfer
from samplers.drafters.learned.lexical_units import LexicalUnits
from samplers.drafters.learned.medusa import Heads, MedusaHeads
from samplers.drafters.learned.medusa2 import Change, Medusa2, change_of
from samplers.drafters.learned.prompt_tokens import PPD
from samplers.drafters.learned.training import Report, Training

__all__ = [
    "Change",
    "Chimera",
    "Evaluation",
    "FSPAD",
    "Growth",
    "Heads",
    "HiddenTransfer",
    "LearnedDrafter",
    "Medusa2",
    "LexicalUnits",
    "MedusaHeads",
    "PPD",
    "Report",
    "Training",
    "change_of",
    "evaluate",
]
