"""Gramma: constrained and structured decoding, the names people use most in one place.

Everything here lives in ``grammars``, ``constrain`` or ``samplers``, and is loaded when it is first
used: ``import gramma`` is cheap.  Names that touch models need the extra ``hf`` (torch,
transformers); without it they raise :class:`MissingExtra`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constrain import (
        GrammarLogitsProcessor,
        MissingExtra,
        OpenAIServer,
        ServerError,
        TokenAutomaton,
        UnknownStateError,
        Vocabulary,
        allocate_bitmask,
        apply_bitmask_,
        fill_masks,
        load_model,
    )
    from grammars import (
        BudgetError,
        Explanation,
        GrammaError,
        Grammar,
        GrammarError,
        Inferred,
        Labelled,
        LimitExceeded,
        Limits,
        Rows,
        UnsupportedSchemaError,
        Verbatim,
    )
    from samplers import (
        HMM,
        AdaDec,
        AlignedSampling,
        AskAgain,
        CacheFilter,
        CannotPrune,
        Chances,
        DecoG,
        DiffusionInfiller,
        Extraction,
        ExtractionStream,
        Gap,
        GemFilter,
        GrammarConstrained,
        Masks,
        PromptFilter,
        Reasoning,
        Sample,
        SamplingOptions,
        Shortened,
        SpecKV,
        SpecPC,
        SpeculativeBackend,
        SpeculativeGenerate,
        ToolCall,
        ToolCalls,
        aextract,
        call,
        choose,
        extract,
        extract_files,
        extract_many,
        extract_samples,
        extract_stream,
    )

    __version__: str

_HOMES = {
    "BudgetError": "grammars",
    "Explanation": "grammars",
    "GrammaError": "grammars",
    "Grammar": "grammars",
    "GrammarError": "grammars",
    "Inferred": "grammars",
    "Labelled": "grammars",
    "LimitExceeded": "grammars",
    "Limits": "grammars",
    "Rows": "grammars",
    "UnsupportedSchemaError": "grammars",
    "Verbatim": "grammars",
    "GrammarLogitsProcessor": "constrain",
    "MissingExtra": "constrain",
    "OpenAIServer": "constrain",
    "ServerError": "constrain",
    "TokenAutomaton": "constrain",
    "UnknownStateError": "constrain",
    "Vocabulary": "constrain",
    "allocate_bitmask": "constrain",
    "apply_bitmask_": "constrain",
    "fill_masks": "constrain",
    "load_model": "constrain",
    "AdaDec": "samplers",
    "AlignedSampling": "samplers",
    "Chances": "samplers",
    "DecoG": "samplers",
    "DiffusionInfiller": "samplers",
    "Extraction": "samplers",
    "ExtractionStream": "samplers",
    "Gap": "samplers",
    "GrammarConstrained": "samplers",
    "HMM": "samplers",
    "Masks": "samplers",
    "AskAgain": "samplers",
    "CacheFilter": "samplers",
    "CannotPrune": "samplers",
    "GemFilter": "samplers",
    "PromptFilter": "samplers",
    "Reasoning": "samplers",
    "Shortened": "samplers",
    "SpecKV": "samplers",
    "SpecPC": "samplers",
    "Sample": "samplers",
    "SamplingOptions": "samplers",
    "SpeculativeBackend": "samplers",
    "SpeculativeGenerate": "samplers",
    "choose": "samplers",
    "ToolCall": "samplers",
    "ToolCalls": "samplers",
    "aextract": "samplers",
    "call": "samplers",
    "extract": "samplers",
    "extract_files": "samplers",
    "extract_many": "samplers",
    "extract_samples": "samplers",
    "extract_stream": "samplers",
}

__all__ = [
    "AdaDec",
    "AlignedSampling",
    "BudgetError",
    "Chances",
    "DecoG",
    "DiffusionInfiller",
    "Explanation",
    "Extraction",
    "ExtractionStream",
    "Gap",
    "GrammaError",
    "Grammar",
    "GrammarConstrained",
    "GrammarError",
    "GrammarLogitsProcessor",
    "HMM",
    "Inferred",
    "Labelled",
    "LimitExceeded",
    "Limits",
    "Masks",
    "MissingExtra",
    "OpenAIServer",
    "AskAgain",
    "CacheFilter",
    "CannotPrune",
    "GemFilter",
    "PromptFilter",
    "Reasoning",
    "Shortened",
    "SpecKV",
    "SpecPC",
    "Rows",
    "Sample",
    "SamplingOptions",
    "ServerError",
    "SpeculativeBackend",
    "SpeculativeGenerate",
    "TokenAutomaton",
    "UnknownStateError",
    "ToolCall",
    "ToolCalls",
    "UnsupportedSchemaError",
    "Verbatim",
    "Vocabulary",
    "__version__",
    "aextract",
    "allocate_bitmask",
    "apply_bitmask_",
    "call",
    "choose",
    "extract",
    "extract_files",
    "extract_many",
    "extract_samples",
    "extract_stream",
    "fill_masks",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from grammars.version import version

        value: Any = version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'gramma' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
