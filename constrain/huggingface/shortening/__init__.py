"""Long documents shortened before the model reads them, or when it has.  Lossy: what is dropped is gone.

=====================  =============================================================================
module                 what it does
=====================  =============================================================================
``document``           finds the document among a prompt's tokens, and its lines
``filters``            what a filter is given and returns; applies one, and says what was kept
``importance``         attention of a few queries to all keys, without the square matrix
``selection``          of scored tokens, those that are kept: single ones, with neighbours, whole lines
``gemfilter``          :class:`GemFilter`: one early layer of the model itself
``specpc``             :class:`SpecPC`: all layers of a small draft model
``askagain``           :class:`AskAgain`: one layer of the model, asked by the whole question
``pruning``            drops keys and values of a prompt that was read; a cache of what is left
``speckv``             :class:`SpecKV`: each head by itself, asked by what a draft writes
=====================  =============================================================================
"""

from __future__ import annotations

from constrain.huggingface.shortening.askagain import AskAgain
from constrain.huggingface.shortening.filters import (
    CacheFilter,
    KeysRead,
    LongPrompt,
    PromptFilter,
    Shortened,
)
from constrain.huggingface.shortening.gemfilter import GemFilter
from constrain.huggingface.shortening.pruning import CannotPrune
from constrain.huggingface.shortening.speckv import SpecKV
from constrain.huggingface.shortening.specpc import SpecPC

__all__ = [
    "AskAgain",
    "CacheFilter",
    "CannotPrune",
    "GemFilter",
    "KeysRead",
    "LongPrompt",
    "PromptFilter",
    "Shortened",
    "SpecKV",
    "SpecPC",
]
