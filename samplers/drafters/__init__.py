"""What guesses tokens; each drafter is a small file."""

from __future__ import annotations

from samplers.drafters.base import Context, Drafter, Observation
from samplers.drafters.forced import Forced
from samplers.drafters.grammar_counts import GrammarCounts
from samplers.drafters.prompt_lookup import PromptLookup
from samplers.drafters.token_recycling import TokenRecycling
from samplers.drafters.trigram import Trigram

__all__ = [
    "Context",
    "Drafter",
    "Forced",
    "GrammarCounts",
    "Observation",
    "PromptLookup",
    "TokenRecycling",
    "Trigram",
    "default_drafters",
]


def default_drafters() -> list[Drafter]:
    """The drafters that need neither arguments nor training, those that continue others last."""
    return [PromptLookup(), GrammarCounts(), TokenRecycling(), Trigram(), Forced()]
