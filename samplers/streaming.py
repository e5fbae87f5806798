"""Tokens as they are committed, for streamers of ``transformers`` and for callbacks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationMixin

from constrain.huggingface.writing import AnswerListener, listener_of
from samplers.backend import OnTokens


class Committed(AnswerListener):
    """Tells a streamer and a callback of new tokens, whichever of the two is asked.

    It is a streamer itself, for ``model.generate``; a sampler calls :meth:`commit` instead.

    Args:
        on_tokens: called with the number of a sample, 0 here, and its new tokens.
        streamer: gets the prompt first, then one token at a time.
    """

    def __init__(self, *, on_tokens: OnTokens | None, streamer: Any) -> None:
        self._on_tokens = on_tokens
        self._streamer = streamer
        self._has_prompt = False

    def __bool__(self) -> bool:
        return self._on_tokens is not None or self._streamer is not None

    def put(self, value: torch.Tensor) -> None:
        """The prompt, int64[1, n], the first time; then new tokens, int64[n]."""
        if self._streamer is not None:
            self._streamer.put(value)
        if self._has_prompt and self._on_tokens is not None:
            self._on_tokens(0, value.flatten().tolist())
        self._has_prompt = True

    def commit(self, number: int, tokens: Sequence[int]) -> None:
        """New tokens of a sample."""
        if self._streamer is not None:
            for token in tokens:
                self._streamer.put(torch.tensor([token]))
        if self._on_tokens is not None:
            self._on_tokens(number, tokens)

    def begin_answer(self) -> None:
        """An answer begins."""
        listener = listener_of(self._streamer)
        if listener is not None:
            listener.begin_answer()

    def answer(self, data: bytes) -> None:
        """More of the answer."""
        listener = listener_of(self._streamer)
        if listener is not None:
            listener.answer(data)

    def end(self) -> None:
        """The text has ended."""
        if self._streamer is not None:
            self._streamer.end()


def streamer_of_generate() -> Any:
    """The streamer that the running call of ``generate`` was given, if there is one.

    ``generate`` writes the prompt to it, but hands it to its own decoding methods alone: of the
    arguments of a method like ``custom_generate`` it passes on those that ``_sample`` does not have,
    and ``streamer`` is one that it has.  Nobody would ever end the streamer, and whoever waits for
    its text would wait for ever; so it is taken from where it is.
    """
    code = getattr(inspect.unwrap(GenerationMixin.generate), "__code__", None)
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is code:
            return frame.f_locals.get("streamer")
    return None
