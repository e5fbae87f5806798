"""How tokens are written: ``model.generate`` with a processor, and streamers that are ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from transformers.generation.streamers import BaseStreamer

from constrain.arguments import described
from constrain.automaton import TokenAutomaton
from constrain.huggingface.processor import GrammarLogitsProcessor
from constrain.vocabulary import Vocabulary


class Generate(Protocol):
    """Writes token ids, EOS included, that the automaton allows."""

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        **generation: Any,
    ) -> list[int]: ...


class _Stream(BaseStreamer):  # type: ignore[misc]
    """A streamer that is ended once."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.has_ended = False

    def put(self, value: torch.Tensor) -> None:
        self.inner.put(value)

    def end(self) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.inner.end()


@contextmanager
def ended(streamer: Any) -> Iterator[Any]:
    """The streamer, which is ended on every way out, once; ``None`` for none.

    Raises:
        TypeError: if it has no ``put`` and ``end``.
    """
    if streamer is None:
        yield None
        return
    if not (callable(getattr(streamer, "put", None)) and callable(getattr(streamer, "end", None))):
        raise TypeError(
            "streamer must have put(token_ids) and end(), as those of transformers have, not "
            f"{described(streamer)}"
        )
    made = _Stream(streamer)
    try:
        yield made
    finally:
        made.end()


def device_of(model: Any) -> torch.device:
    """Where a model's inputs belong."""
    return torch.device(getattr(model, "device", "cpu"))


def write(
    model: Any,
    input_ids: torch.Tensor,
    automaton: TokenAutomaton,
    *,
    max_new_tokens: int,
    **generation: Any,
) -> list[int]:
    """``model.generate`` with a processor: greedy unless a temperature says otherwise."""
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=max_new_tokens)
    temperature = generation.pop("temperature", None)
    if temperature:
        generation |= {"temperature": temperature, "do_sample": True}
        generation = {"top_k": 0, "top_p": 1.0} | generation
    generation = {"do_sample": False} | generation
    ends = list(automaton.vocabulary.eos_token_ids)
    with torch.no_grad():
        out = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            logits_processor=[processor, *generation.pop("logits_processor", ())],
            max_new_tokens=max_new_tokens,
            eos_token_id=ends,
            pad_token_id=generation.pop("pad_token_id", ends[0]),
            **generation,
        )
    if len(out) != 1:
        raise ValueError(f"generate wrote {len(out)} texts, but extract returns one Extraction")
    return until_end(out[0, input_ids.shape[-1] :].tolist(), automaton.vocabulary)


def until_end(tokens: list[int], vocabulary: Vocabulary) -> list[int]:
    """Without the padding behind the first EOS."""
    ends = set(vocabulary.eos_token_ids)
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: first + 1]
