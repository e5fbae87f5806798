"""The beginning that many prompts share, read by the model once."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from constrain.huggingface.writing import device_of
from constrain.models import text_config

_FEWEST: Final = 32
"""Shared tokens below which reading them again costs nothing to speak of."""
_OF_LENGTH: Final = ("dynamic", "longrope")
"""Rotary embeddings that change with the length of the text."""
HARMLESS: Final = frozenset(
    (
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "do_sample", "logits_processor"),
        *("repetition_penalty", "no_repeat_ngram_size", "pad_token_id"),
    )
)
"""Options of ``generate`` that choose tokens and leave the cache alone."""


@dataclass(frozen=True)
class SharedPrefix:
    """Tokens with which all prompts begin, and their keys and values.

    Attributes:
        ids: the tokens.
        cache: a cache of one row that has them.
    """

    ids: list[int]
    cache: Any

    @classmethod
    def of(
        cls, model: Any, prompts: Sequence[Sequence[int]], generation: Mapping[str, Any]
    ) -> SharedPrefix | None:
        """What some prompts share, where reading it once helps and changes nothing.

        Args:
            model: of ``transformers``.
            prompts: their token ids; at least one of each is left to be read.
            generation: options of ``generate``; with any that may touch the cache, nothing is shared.

        Returns:
            ``None`` for few prompts or tokens, for models whose cache is more than keys and values of all
            tokens (windows, running states), and for those that do not take positions, or change them with
            the length: padding behind the prefix would change what they see.
        """
        if len(prompts) < 2 or not generation.keys() <= HARMLESS:
            return None
        shared = _shared(prompts)
        if len(shared) < _FEWEST or not _counts_positions(model):
            return None
        ids = torch.tensor([shared], device=device_of(model))
        with torch.no_grad():
            read = model(ids, attention_mask=torch.ones_like(ids), use_cache=True)
        cache = getattr(read, "past_key_values", None)
        return cls(shared, cache) if _has_all_tokens(cache, len(shared)) else None

    def rows(self, count: int) -> Any:
        """A cache of its own for some rows."""
        made = copy.deepcopy(self.cache)
        made.batch_repeat_interleave(count)
        return made


def _shared(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest beginning of all prompts that leaves a token of each."""
    most = min(map(len, prompts)) - 1
    first = prompts[0]
    count = next((i for i in range(most) if any(prompt[i] != first[i] for prompt in prompts)), most)
    return list(first[:count])


def _counts_positions(model: Any) -> bool:
    """Whether a model takes positions as they are, however long the text becomes."""
    taken = inspect.signature(getattr(model, "forward", model)).parameters.keys()
    if not {"past_key_values", "position_ids"} <= taken:
        return False
    config = text_config(model)
    given = [getattr(config, name, None) for name in ("rope_scaling", "rope_parameters")]
    return not any(kind in json.dumps(given, default=str) for kind in _OF_LENGTH)


def _has_all_tokens(cache: Any, length: int) -> bool:
    """Whether a cache is plain keys and values of so many tokens."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    return (
        type(cache) is DynamicCache
        and all(type(layer) is DynamicLayer for layer in cache.layers)
        and cache.get_seq_length() == length
    )
