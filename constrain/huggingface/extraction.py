"""Text in, validated data out: the schema constrains, the prompt explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from constrain.arguments import check_count, check_model, check_tokenizer
from constrain.healing import healed_if
from constrain.huggingface.asking import (
    DEFAULT_MAX_NEW_TOKENS,
    PROMPT,
    PromptBuilder,
    budget_of,
    checked_question,
    default_prompt,
    encode_prompt,
)
from constrain.huggingface.automata import automaton_for, vocabulary_for
from constrain.huggingface.processor import check_budget
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.target import Target
from constrain.huggingface.writing import Generate, device_of, ended, write

__all__ = [
    "DEFAULT_MAX_NEW_TOKENS",
    "PROMPT",
    "Extraction",
    "Generate",
    "PromptBuilder",
    "automaton_for",
    "default_prompt",
    "ended",
    "extract",
    "vocabulary_for",
]


def extract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    generate: Generate | None = None,
    prompt: PromptBuilder | None = None,
    max_new_tokens: int | None = None,
    canonical: bool = False,
    heal: bool = False,
    streamer: Any = None,
    **generation: Any,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands.

    Args:
        model: a causal language model of ``transformers``.
        tokenizer: its tokenizer.
        text_or_messages: the text to read, put into ``prompt``; or chat messages, taken as they
            are.  One text: call it once for each.
        schema_or_type: a JSON Schema (dict, bool, JSON text), a Python type that pydantic knows, or
            a :class:`~grammars.Grammar` of JSON texts.
        generate: how tokens are written; ``model.generate`` by default.
        prompt: builds the prompt from the text and :func:`describe_schema` of the schema;
            :func:`default_prompt` by default.
        max_new_tokens: the budget, EOS included: the JSON is complete within it.  By default 512,
            or what the model's context leaves.
        canonical: masks keep to the tokenizer's own way of writing, where the grammar and the budget
            leave a choice; costs some seconds once for a tokenizer, and about a millisecond for each
            new mask.
        heal: takes the prompt's last tokens back where some token reaches across its end
            (:func:`constrain.heal`); :attr:`Extraction.tokens` then begin with them, and the budget
            counts them.  Costs compiling the grammar once more for each other end of a prompt.
        streamer: one of ``transformers``: gets the prompt, then the tokens as they are written; its
            ``end`` is called however this function ends.
        **generation: passed on, for example ``temperature=0.7``; without any, greedy.

    Raises:
        TypeError: if an argument is of the wrong kind; says what was expected.
        ValueError: if ``generation`` asks for more than one text, or other outputs than token ids.
        BudgetError: before the first token, if the shortest text does not fit the budget, or prompt
            and budget exceed the model's context.
        GrammarError: if schema or type cannot be used.
        pydantic.ValidationError: if a validator of the type's own refuses the value.
    """
    with ended(streamer) as stream:
        check_model(model, "extract")
        check_tokenizer(tokenizer, "extract")
        max_new_tokens = check_count(max_new_tokens, "max_new_tokens", optional=True)
        _refuse_options(generation)
        asked = checked_question(text_or_messages)
        target = Target.of(schema_or_type)
        automaton = automaton_for(target.grammar, tokenizer, model, canonical=canonical)
        if isinstance(asked, str):
            asked = (prompt or default_prompt)(asked, target.description)
        healed = healed_if(heal, encode_prompt(model, tokenizer, asked), automaton)
        automaton = healed.automaton
        ids = torch.tensor([healed.prompt], device=device_of(model))
        budget = budget_of(model, ids.shape[-1], max_new_tokens)
        check_budget(automaton, budget)
        if stream is not None:
            generation["streamer"] = stream
        tokens = (generate or write)(model, ids, automaton, max_new_tokens=budget, **generation)
        return target.read(tokens, healed)


_OWN: Final = {
    "attention_mask": "made of the prompt",
    "eos_token_id": "the vocabulary's",
    "input_ids": "made of the prompt",
    "inputs": "made of the prompt",
    "inputs_embeds": "made of the prompt",
    "max_length": "given by max_new_tokens",
}


def _refuse_options(generation: Mapping[str, Any]) -> None:
    """Refuses options of ``generate`` that do not go with one text."""
    count = generation.get("num_return_sequences")
    if count is not None and count != 1:
        raise ValueError(
            f"num_return_sequences={count}: extract returns one Extraction; call it again for "
            "another (with another seed, and a temperature)"
        )
    if generation.get("return_dict_in_generate"):
        raise ValueError("return_dict_in_generate: extract reads token ids only")
    for name in sorted(_OWN.keys() & generation.keys()):
        raise ValueError(f"{name} is {_OWN[name]} in extract and cannot be passed on")
