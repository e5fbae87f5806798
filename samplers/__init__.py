"""The top layer: a model x a ``TokenAutomaton`` -> texts, and the command line.

The names below are the public face; each loads what it needs when it is first used.  They need
torch and transformers, which the extra ``hf`` of the distribution brings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from constrain.extras import missing_extra

if TYPE_CHECKING:
    from constrain.huggingface.batches import extract_many
    from constrain.huggingface.choosing import Chances
    from constrain.huggingface.growing import ExtractionStream
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
    from constrain.huggingface.thinking import Reasoning
    from constrain.tools import ToolCall, ToolCalls
    from samplers.adadec import AdaDec
    from samplers.aligned.automatic import AlignedSampling
    from samplers.aligned.awrs import AWRS
    from samplers.aligned.mcmc import ConstrainedMCMC
    from samplers.aligned.rejection import (
        ARS,
        CARS,
        RSFT,
        ASAp,
        AttemptsExhausted,
        RejectionSampling,
    )
    from samplers.backend import SpeculativeBackend
    from samplers.bulk.errors import BulkError
    from samplers.bulk.run import Summary, extract_files
    from samplers.choosing import choose
    from samplers.constrained import GrammarConstrained
    from samplers.deco_g.decoder import CtrlG, DecoG
    from samplers.deco_g.hmm import HMM
    from samplers.diffusion import (
        DiffusionInfiller,
        Gap,
        MaskedModel,
        Masks,
        NoCompletion,
        is_completable,
    )
    from samplers.drafters import (
        FSPAD,
        PPD,
        Chimera,
        Drafter,
        DraftModel,
        Forced,
        GrammarCounts,
        Heads,
        HiddenTransfer,
        LayerSkip,
        LearnedDrafter,
        LexicalUnits,
        Medusa2,
        MedusaHeads,
        OnlineDistilled,
        PromptLookup,
        TokenRecycling,
        Trigram,
        aligned_draft,
        load_draft,
        write_answers,
    )
    from samplers.extraction import aextract, call, extract, extract_stream
    from samplers.generation import SpeculativeGenerate
    from samplers.options import Sampler, SamplingOptions
    from samplers.report import SamplingReport
    from samplers.sample import Sample, Stats
    from samplers.several import extract_samples
    from samplers.speculative.scorer import UnsupportedModel
    from samplers.speculative.typical import LossyDraws, Typical

_HOMES = {
    "CtrlG": "samplers.deco_g.decoder",
    "DecoG": "samplers.deco_g.decoder",
    "DiffusionInfiller": "samplers.diffusion",
    "Gap": "samplers.diffusion",
    "MaskedModel": "samplers.diffusion",
    "Masks": "samplers.diffusion",
    "NoCompletion": "samplers.diffusion",
    "is_completable": "samplers.diffusion",
    "AdaDec": "samplers.adadec",
    "AWRS": "samplers.aligned.awrs",
    "AlignedSampling": "samplers.aligned.automatic",
    "ConstrainedMCMC": "samplers.aligned.mcmc",
    "AttemptsExhausted": "samplers.aligned.rejection",
    "ASAp": "samplers.aligned.rejection",
    "CARS": "samplers.aligned.rejection",
    "ARS": "samplers.aligned.rejection",
    "RSFT": "samplers.aligned.rejection",
    "RejectionSampling": "samplers.aligned.rejection",
    "OnlineDistilled": "samplers.drafters",
    "Medusa2": "samplers.drafters",
    "MedusaHeads": "samplers.drafters",
    "FSPAD": "samplers.drafters",
    "HiddenTransfer": "samplers.drafters",
    "LexicalUnits": "samplers.drafters",
    "PPD": "samplers.drafters",
    "Chimera": "samplers.drafters",
    "LayerSkip": "samplers.drafters",
    "LearnedDrafter": "samplers.drafters",
    "Heads": "samplers.drafters",
    "DraftModel": "samplers.drafters",
    "Drafter": "samplers.drafters",
    "BulkError": "samplers.bulk.errors",
    "Chances": "constrain.huggingface.choosing",
    "Extraction": "constrain.huggingface.result",
    "ExtractionStream": "constrain.huggingface.growing",
    "AskAgain": "constrain.huggingface.shortening",
    "CacheFilter": "constrain.huggingface.shortening",
    "CannotPrune": "constrain.huggingface.shortening",
    "GemFilter": "constrain.huggingface.shortening",
    "PromptFilter": "constrain.huggingface.shortening",
    "Reasoning": "constrain.huggingface.thinking",
    "Shortened": "constrain.huggingface.shortening",
    "SpecKV": "constrain.huggingface.shortening",
    "SpecPC": "constrain.huggingface.shortening",
    "Forced": "samplers.drafters",
    "GrammarConstrained": "samplers.constrained",
    "GrammarCounts": "samplers.drafters",
    "HMM": "samplers.deco_g.hmm",
    "PromptLookup": "samplers.drafters",
    "Sample": "samplers.sample",
    "Sampler": "samplers.options",
    "SamplingOptions": "samplers.options",
    "SamplingReport": "samplers.report",
    "SpeculativeBackend": "samplers.backend",
    "SpeculativeGenerate": "samplers.generation",
    "Stats": "samplers.sample",
    "Summary": "samplers.bulk.run",
    "TokenRecycling": "samplers.drafters",
    "LossyDraws": "samplers.speculative.typical",
    "Typical": "samplers.speculative.typical",
    "Trigram": "samplers.drafters",
    "UnsupportedModel": "samplers.speculative.scorer",
    "ToolCall": "constrain.tools",
    "ToolCalls": "constrain.tools",
    "aextract": "samplers.extraction",
    "aligned_draft": "samplers.drafters",
    "load_draft": "samplers.drafters",
    "write_answers": "samplers.drafters",
    "call": "samplers.extraction",
    "choose": "samplers.choosing",
    "extract": "samplers.extraction",
    "extract_files": "samplers.bulk.run",
    "extract_many": "constrain.huggingface.batches",
    "extract_samples": "samplers.several",
    "extract_stream": "samplers.extraction",
}

__all__ = [
    "CtrlG",
    "DecoG",
    "DiffusionInfiller",
    "Gap",
    "MaskedModel",
    "Masks",
    "NoCompletion",
    "is_completable",
    "AdaDec",
    "AWRS",
    "AlignedSampling",
    "ConstrainedMCMC",
    "AttemptsExhausted",
    "ASAp",
    "CARS",
    "ARS",
    "RSFT",
    "RejectionSampling",
    "OnlineDistilled",
    "Medusa2",
    "MedusaHeads",
    "LayerSkip",
    "LearnedDrafter",
    "LossyDraws",
    "Chimera",
    "FSPAD",
    "HiddenTransfer",
    "LexicalUnits",
    "PPD",
    "Heads",
    "DraftModel",
    "Drafter",
    "BulkError",
    "Chances",
    "Extraction",
    "ExtractionStream",
    "Forced",
    "GrammarConstrained",
    "GrammarCounts",
    "HMM",
    "PromptLookup",
    "AskAgain",
    "CacheFilter",
    "CannotPrune",
    "GemFilter",
    "PromptFilter",
    "Reasoning",
    "Shortened",
    "SpecKV",
    "SpecPC",
    "Sample",
    "Sampler",
    "SamplingOptions",
    "SamplingReport",
    "SpeculativeBackend",
    "SpeculativeGenerate",
    "Stats",
    "Summary",
    "TokenRecycling",
    "ToolCall",
    "ToolCalls",
    "Trigram",
    "Typical",
    "UnsupportedModel",
    "aextract",
    "aligned_draft",
    "call",
    "choose",
    "extract",
    "extract_files",
    "extract_many",
    "extract_samples",
    "extract_stream",
    "load_draft",
    "write_answers",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'samplers' has no attribute {name!r}")
    try:
        module = import_module(home)
    except ModuleNotFoundError as error:
        raise missing_extra(f"samplers.{name}", error) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
