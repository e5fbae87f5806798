"""An attention function of our own in a model of ``transformers``, for the length of one forward.

All that is known of how ``transformers`` chooses attention is here.  One function is registered under a
name of its own; a model's configuration has that name while a forward of ours is under way.  Which of
our functions then answers is known to the thread alone that asked for it, so that other threads may use
the same model meanwhile: theirs is ``sdpa``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from constrain.models import text_config

NAME: Final = "gramma"
"""Of the attention function, in the registry of ``transformers``."""
Attention: TypeAlias = Callable[..., tuple[Any, Any]]
"""As the registry has them: (module, query, key, value, mask, **options) -> output and weights."""

_ATTENTION: ContextVar[Attention] = ContextVar("gramma_attention", default=sdpa_attention_forward)


def _attention(module: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    return _ATTENTION.get()(module, *args, **options)


AttentionInterface.register(NAME, _attention)
# for other threads' forwards of a model that is just in one of ours
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


class _Switch:
    """Gives configurations the name of our attention, and back when the last forward has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[int, tuple[int, str]] = {}

    @contextmanager
    def on(self, config: Any) -> Iterator[None]:
        with self._lock:
            before = getattr(config, "_attn_implementation")  # noqa: B009 - its only name
            count, before = self._under_way.get(id(config), (0, before))
            self._under_way[id(config)] = count + 1, before
            setattr(config, "_attn_implementation", NAME)  # noqa: B010
        try:
            yield
        finally:
            with self._lock:
                count, before = self._under_way.pop(id(config))
                if count > 1:
                    self._under_way[id(config)] = count - 1, before
                else:
                    setattr(config, "_attn_implementation", before)  # noqa: B010


_SWITCH: Final = _Switch()


@contextmanager
def attending(model: Any, attention: Attention) -> Iterator[None]:
    """Within, forwards of a model in this thread attend by a function of ours.

    Args:
        model: of ``transformers``; one whose attention does not come from the registry goes on as before.
        attention: given the masks of ``sdpa``.
    """
    token = _ATTENTION.set(attention)
    try:
        with _SWITCH.on(text_config(model)):
            yield
    finally:
        _ATTENTION.reset(token)
