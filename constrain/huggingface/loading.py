"""Models by name where a model is asked for, loaded once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from constrain.arguments import check_model, check_tokenizer
from constrain.models import load_model


def loaded(model: Any, tokenizer: Any, place: str) -> tuple[Any, Any]:
    """Model and tokenizer as given, or those of a name.

    Args:
        model: a model, the name of one (embedded, or on a hub), or its folder; names are loaded in
            bfloat16, the latest two are kept.
        tokenizer: the model's; ``None`` with a name.
        place: who asks, for messages.

    Raises:
        TypeError: if they are of other kinds, or a tokenizer comes with a name.
        ModelUnavailable: if no model has this name.
    """
    if isinstance(model, str | Path) and tokenizer is None:
        return _by_name(str(model))
    return check_model(model, place), check_tokenizer(tokenizer, place)


@lru_cache(2)
def _by_name(name: str) -> tuple[Any, Any]:
    return load_model(name)
