"""``extract`` with the speculative backend plugged in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from constrain.automaton import TokenAutomaton
from constrain.huggingface.asking import PromptBuilder
from constrain.huggingface.asynchronous import awaited
from constrain.huggingface.extraction import extract as _extract
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.recording import ScoredTokens
from constrain.huggingface.result import Extraction
from constrain.huggingface.streaming import ExtractionStream
from constrain.huggingface.thinking import Reasoning
from constrain.huggingface.writing import ended
from samplers.backend import OnTokens, SpeculativeBackend, check_backend
from samplers.constrained import GrammarConstrained
from samplers.exclusive import exclusive
from samplers.speculative.law import Sampling
from samplers.speculative.scorer import UnsupportedModel
from samplers.streaming import Committed


def extract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    grounded: bool = False,
    source: str | None = None,
    backend: SpeculativeBackend | None = None,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    reasoning: int | Reasoning | None = None,
    retries: int = 0,
    stop: str | Sequence[str] | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    canonical: bool = False,
    heal: bool = False,
    on_tokens: OnTokens | None = None,
    streamer: Any = None,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands, with drafts.

    The result is that of :func:`constrain.extract`, sooner.

    Args:
        model: a causal language model of ``transformers``, or the name of one, which is loaded once.
        tokenizer: its tokenizer; ``None`` with a name.
        text_or_messages: the text to read, put into ``prompt``; or chat messages.
        schema_or_type: a JSON Schema, a Python type that pydantic knows, or a ``Grammar``.
        grounded, source: as :func:`constrain.extract` takes them.
        backend: a backend for the model; give the same one again and its drafters learn from one
            text for the next.  By default a new one with the default drafters.
        prompt: builds the prompt from the text and the schema.
        system, examples, reasoning, retries, stop: as :func:`constrain.extract` takes them.
        max_new_tokens: the budget, EOS included; by default 512, or what the context leaves.
        temperature: 0 takes the likeliest token.
        top_p: see :meth:`GrammarConstrained.sample`.
        seed: for the same text again.
        canonical, heal: as :func:`constrain.extract` takes them.
        on_tokens: called after each step with 0 and the new tokens.
        streamer: one of ``transformers``: gets the prompt, then the tokens as they are committed; its
            ``end`` is called however this function ends.

    Raises:
        TypeError, BudgetError, GrammarError, pydantic.ValidationError: as :func:`constrain.extract`
            does.
        ValueError: if the backend is another model's.

    A model whose cache cannot take tokens back writes by ``model.generate``, without drafts.
    """
    with ended(streamer) as stream:
        options: dict[str, Any] = {"prompt": prompt, "max_new_tokens": max_new_tokens}
        options |= {"system": system, "examples": examples, "reasoning": reasoning}
        options |= {"retries": retries, "stop": stop, "canonical": canonical, "heal": heal}
        options |= {"grounded": grounded, "source": source}
        Sampling(temperature, top_p)  # says at once if a number is out of range
        model, tokenizer = loaded(model, tokenizer, "extract")
        if backend is not None and check_backend(backend, "extract").model is not model:
            raise ValueError("the backend was made for another model")
        try:
            made = backend or SpeculativeBackend(model, tokenizer)
        except UnsupportedModel:
            if seed is not None:
                torch.manual_seed(seed)
            if temperature:
                options |= {"temperature": temperature, "top_p": top_p}
            told = Committed(on_tokens=on_tokens, streamer=stream)
            options["streamer"] = told if told else None
        else:
            options["generate"] = _Writer(made, top_p, seed, on_tokens)
            options |= {"streamer": stream, "temperature": temperature}
        return _extract(model, tokenizer, text_or_messages, schema_or_type, **options)


def extract_stream(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    partial_strings: bool = False,
    streamer: Any = None,
    **options: Any,
) -> ExtractionStream:
    """Streams an extraction with drafts: as :func:`constrain.extract_stream`, sooner.

    Args:
        model, tokenizer, text_or_messages, schema_or_type, **options: as :func:`extract` takes them.
        partial_strings: whether strings that are not closed are there, as far as they are written.
        streamer: as :func:`extract` takes it.
    """
    run = partial(extract, model, tokenizer, text_or_messages, schema_or_type, **options)
    return ExtractionStream(run, partial_strings, streamer)


async def aextract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    **options: Any,
) -> Extraction:
    """Awaits an extraction with drafts: as :func:`constrain.aextract`, sooner.

    Args:
        model, tokenizer, text_or_messages, schema_or_type, **options: as :func:`extract` takes them.
    """
    return await awaited(extract, model, tokenizer, text_or_messages, schema_or_type, **options)


class _Writer:
    """``generate`` of :func:`constrain.extract` by the backend."""

    def __init__(
        self,
        backend: SpeculativeBackend,
        top_p: float,
        seed: int | None,
        on_tokens: OnTokens | None,
    ) -> None:
        self._backend = backend
        self._top_p = top_p
        self._seed = seed
        self._on_tokens = on_tokens

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        temperature: float,
        streamer: Any = None,
    ) -> list[int]:
        told = Committed(on_tokens=self._on_tokens, streamer=streamer)
        told.put(input_ids.cpu())
        with exclusive(self._backend):
            found = GrammarConstrained(self._backend, automaton).sample(
                input_ids[0].tolist(),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=self._top_p,
                seed=self._seed,
                on_tokens=told.commit,
            )
        if self._seed is not None:
            self._seed += 1  # a thought's answer, or a further attempt, is another text
        told.end()
        return ScoredTokens(found[0].token_ids, found[0].token_constrained_logprobs)
