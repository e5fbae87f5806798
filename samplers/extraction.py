"""``extract`` with the speculative backend plugged in."""

from __future__ import annotations

from typing import Any

import torch

from constrain.automaton import TokenAutomaton
from constrain.extraction import Extraction, Messages, PromptBuilder
from constrain.extraction import extract as _extract
from samplers.backend import OnTokens, SpeculativeBackend
from samplers.constrained import GrammarConstrained
from samplers.speculative.scorer import UnsupportedModel


def extract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    backend: SpeculativeBackend | None = None,
    prompt: PromptBuilder | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands, with drafts.

    The result is that of :func:`constrain.extract`, sooner.

    Args:
        model: a causal language model of ``transformers``.
        tokenizer: its tokenizer.
        text_or_messages: the text to read, put into ``prompt``; or chat messages.
        schema_or_type: a JSON Schema, a Python type that pydantic knows, or a ``Grammar``.
        backend: a backend for the model; give the same one again and its drafters learn from one
            text for the next.  By default a new one with the default drafters.
        prompt: builds the prompt from the text and the schema.
        max_new_tokens: the budget, EOS included; by default 512, or what the context leaves.
        temperature: 0 takes the likeliest token.
        top_p: see :meth:`GrammarConstrained.sample`.
        seed: for the same text again.
        on_tokens: called after each step with 0 and the new tokens.

    Raises:
        BudgetError, GrammarError, pydantic.ValidationError: as :func:`constrain.extract` does.
        ValueError: if the backend is another model's.

    A model whose cache cannot take tokens back writes by ``model.generate``, without drafts.
    """
    if backend is not None and backend.model is not model:
        raise ValueError("the backend was made for another model")
    try:
        made = backend or SpeculativeBackend(model, tokenizer)
    except UnsupportedModel:
        return _without_drafts(
            model, tokenizer, text_or_messages, schema_or_type, prompt, max_new_tokens, temperature,
            top_p, seed,
        )  # fmt: skip

    def write(
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        **generation: Any,
    ) -> list[int]:
        found = GrammarConstrained(made, automaton).sample(
            input_ids[0].tolist(), max_new_tokens=max_new_tokens, **generation
        )
        return found[0].token_ids

    return _extract(
        model,
        tokenizer,
        text_or_messages,
        schema_or_type,
        generate=write,
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        on_tokens=on_tokens,
    )


def _without_drafts(
    model: Any,
    tokenizer: Any,
    asked: str | Messages,
    wanted: Any,
    prompt: PromptBuilder | None,
    max_new_tokens: int | None,
    temperature: float,
    top_p: float,
    seed: int | None,
) -> Extraction:
    if seed is not None:
        torch.manual_seed(seed)
    options: dict[str, Any] = {"temperature": temperature, "top_p": top_p} if temperature else {}
    return _extract(
        model, tokenizer, asked, wanted, prompt=prompt, max_new_tokens=max_new_tokens, **options
    )
