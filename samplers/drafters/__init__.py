"""What guesses tokens; each drafter is a small file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from samplers.drafters.base import Context, Drafter, Observation
from samplers.drafters.forced import Forced
from samplers.drafters.grammar_counts import GrammarCounts
from samplers.drafters.prompt_lookup import PromptLookup
from samplers.drafters.token_recycling import TokenRecycling
from samplers.drafters.trigram import Trigram

if TYPE_CHECKING:
    from samplers.drafters.draft_model import DraftModel
    from samplers.drafters.layer_skip import LayerSkip
    from samplers.drafters.learned import (
        FSPAD,
        PPD,
        Chimera,
        Heads,
        HiddenTransfer,
        LearnedDrafter,
        LexicalUnits,
        Medusa2,
        MedusaHeads,
    )
    from samplers.drafters.learned.alignment import aligned_draft
    from samplers.drafters.learned.answers import write_answers
    from samplers.drafters.learned.short_output import load_draft
    from samplers.drafters.online_distilled import OnlineDistilled

_NEURAL = {
    "Chimera": "samplers.drafters.learned",
    "FSPAD": "samplers.drafters.learned",
    "DraftModel": "samplers.drafters.draft_model",
    "Heads": "samplers.drafters.learned",
    "HiddenTransfer": "samplers.drafters.learned",
    "LayerSkip": "samplers.drafters.layer_skip",
    "LearnedDrafter": "samplers.drafters.learned",
    "Medusa2": "samplers.drafters.learned",
    "LexicalUnits": "samplers.drafters.learned",
    "MedusaHeads": "samplers.drafters.learned",
    "OnlineDistilled": "samplers.drafters.online_distilled",
    "PPD": "samplers.drafters.learned",
    "aligned_draft": "samplers.drafters.learned.alignment",
    "load_draft": "samplers.drafters.learned.short_output",
    "write_answers": "samplers.drafters.learned.answers",
}
"""Loaded when first used."""

__all__ = [
    "Chimera",
    "Context",
    "DraftModel",
    "Drafter",
    "FSPAD",
    "Forced",
    "GrammarCounts",
    "Heads",
    "HiddenTransfer",
    "LayerSkip",
    "LearnedDrafter",
    "Medusa2",
    "LexicalUnits",
    "MedusaHeads",
    "Observation",
    "OnlineDistilled",
    "PPD",
    "PromptLookup",
    "TokenRecycling",
    "Trigram",
    "aligned_draft",
    "default_drafters",
    "load_draft",
    "write_answers",
]


def default_drafters() -> list[Drafter]:
    """The drafters that need neither arguments nor training, those that continue others last."""
    return [PromptLookup(), GrammarCounts(), TokenRecycling(), Trigram(), Forced()]


def __getattr__(name: str) -> Any:
    home = _NEURAL.get(name)
    if home is None:
        raise AttributeError(f"module 'samplers.drafters' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
