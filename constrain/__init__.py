"""``Grammar`` x ``Vocabulary``: token-level automata, masks, the logits processor, extraction.

The names below are the public face; importing this package is cheap, each name loads what it needs
when it is first used.  Those that touch models need torch and transformers, which the extra ``hf``
brings; without it they raise :class:`MissingExtra`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from constrain.extras import MissingExtra, missing_extra
from grammars.errors import BudgetError, GrammarError, LimitExceeded, UnknownStateError
from grammars.limits import Limits

if TYPE_CHECKING:
    from constrain.automaton import TokenAutomaton, fill_masks
    from constrain.bitmask import allocate_bitmask, apply_bitmask_
    from constrain.describe import describe_schema
    from constrain.healing import Healed, heal
    from constrain.huggingface.asynchronous import aextract
    from constrain.huggingface.batches import extract_many
    from constrain.huggingface.calling import call
    from constrain.huggingface.choosing import Chances, choose
    from constrain.huggingface.continuous import ContinuousBatch, continuous_batching
    from constrain.huggingface.extraction import extract
    from constrain.huggingface.growing import ExtractionStream
    from constrain.huggingface.healing import HealedInputs, heal_inputs
    from constrain.huggingface.processor import GrammarLogitsProcessor
    from constrain.huggingface.result import Extraction
    from constrain.huggingface.shortening import (
        AskAgain,
        CacheFilter,
        CannotPrune,
        GemFilter,
        PromptFilter,
        Shortened,
        SpecKV,
        SpecPC,
    )
    from constrain.huggingface.streaming import extract_stream
    from constrain.huggingface.thinking import Reasoning
    from constrain.models import load_model
    from constrain.servers.openai import OpenAIServer
    from constrain.servers.transport import ServerError
    from constrain.tools import ToolCall, ToolCalls
    from constrain.vocabulary import Vocabulary
    from constrain.vocabulary.special import SpecialTokenWarning

_HOMES = {
    "TokenAutomaton": "constrain.automaton",
    "fill_masks": "constrain.automaton",
    "SpecialTokenWarning": "constrain.vocabulary.special",
    "Vocabulary": "constrain.vocabulary",
    "GrammarLogitsProcessor": "constrain.huggingface.processor",
    "Chances": "constrain.huggingface.choosing",
    "Extraction": "constrain.huggingface.result",
    "Healed": "constrain.healing",
    "HealedInputs": "constrain.huggingface.healing",
    "heal": "constrain.healing",
    "heal_inputs": "constrain.huggingface.healing",
    "choose": "constrain.huggingface.choosing",
    "describe_schema": "constrain.describe",
    "Reasoning": "constrain.huggingface.thinking",
    "extract": "constrain.huggingface.extraction",
    "extract_many": "constrain.huggingface.batches",
    "ContinuousBatch": "constrain.huggingface.continuous",
    "continuous_batching": "constrain.huggingface.continuous",
    "AskAgain": "constrain.huggingface.shortening",
    "CacheFilter": "constrain.huggingface.shortening",
    "CannotPrune": "constrain.huggingface.shortening",
    "GemFilter": "constrain.huggingface.shortening",
    "PromptFilter": "constrain.huggingface.shortening",
    "Shortened": "constrain.huggingface.shortening",
    "SpecKV": "constrain.huggingface.shortening",
    "SpecPC": "constrain.huggingface.shortening",
    "extract_stream": "constrain.huggingface.streaming",
    "ExtractionStream": "constrain.huggingface.growing",
    "aextract": "constrain.huggingface.asynchronous",
    "call": "constrain.huggingface.calling",
    "OpenAIServer": "constrain.servers.openai",
    "ServerError": "constrain.servers.transport",
    "ToolCall": "constrain.tools",
    "ToolCalls": "constrain.tools",
    "allocate_bitmask": "constrain.bitmask",
    "apply_bitmask_": "constrain.bitmask",
    "load_model": "constrain.models",
}

__all__ = [
    "BudgetError",
    "Chances",
    "Extraction",
    "ExtractionStream",
    "AskAgain",
    "CacheFilter",
    "CannotPrune",
    "GemFilter",
    "GrammarError",
    "GrammarLogitsProcessor",
    "Healed",
    "HealedInputs",
    "LimitExceeded",
    "Limits",
    "MissingExtra",
    "OpenAIServer",
    "PromptFilter",
    "Reasoning",
    "ServerError",
    "Shortened",
    "SpecKV",
    "SpecPC",
    "SpecialTokenWarning",
    "TokenAutomaton",
    "ToolCall",
    "ToolCalls",
    "UnknownStateError",
    "Vocabulary",
    "aextract",
    "allocate_bitmask",
    "apply_bitmask_",
    "call",
    "choose",
    "describe_schema",
    "extract",
    "extract_many",
    "ContinuousBatch",
    "continuous_batching",
    "extract_stream",
    "fill_masks",
    "heal",
    "heal_inputs",
    "load_model",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'constrain' has no attribute {name!r}")
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        raise missing_extra(f"constrain.{name}", error) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
