"""Text in, validated data out: the schema constrains, the prompt explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from pydantic import ValidationError

from constrain.arguments import check_count
from constrain.healing import Healed
from constrain.huggingface.asking import (
    DEFAULT_MAX_NEW_TOKENS,
    PROMPT,
    PromptBuilder,
    checked_question,
    default_prompt,
)
from constrain.huggingface.automata import automaton_for, vocabulary_for
from constrain.huggingface.grounding import source_of
from constrain.huggingface.jobs import Rows, prepare, write_jobs
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.shortening.filters import AnyFilter
from constrain.huggingface.shortening.pruning import Pruned, check_writer
from constrain.huggingface.target import Target
from constrain.huggingface.thinking import Reasoning
from constrain.huggingface.writing import Generate, Halted, Phases, device_of, ended, write
from constrain.servers.openai import OpenAIServer, server_of
from constrain.servers.requests import refuse_local

__all__ = [
    "DEFAULT_MAX_NEW_TOKENS",
    "PROMPT",
    "Extraction",
    "Generate",
    "PromptBuilder",
    "Reasoning",
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
    grounded: bool = False,
    source: str | None = None,
    backend: str | OpenAIServer | None = None,
    generate: Generate | None = None,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    reasoning: int | Reasoning | None = None,
    retries: int = 0,
    stop: str | Sequence[str] | None = None,
    canonical: bool = False,
    heal: bool = False,
    shorten: AnyFilter | None = None,
    streamer: Any = None,
    **generation: Any,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands.

    Args:
        model: a causal language model of ``transformers``; or the name of one, or its folder, which is
            loaded once (:func:`constrain.load_model`).
        tokenizer: its tokenizer; ``None`` with a name.
        text_or_messages: the text to read, put into ``prompt``; or chat messages, taken as they
            are.  One text; :func:`extract_many` takes several.
        schema_or_type: a JSON Schema (dict, bool, JSON text), a Python type that pydantic knows, or
            a :class:`~grammars.Grammar` of JSON texts.
        grounded: every string is a span of the text and every number stands in it, where schema or type
            do not say otherwise (``docs/grounding.md``); dates and numbers in the schema's own form.
        source: the text that they stand in, if it is not the text, or what users say in the messages.
        backend: a server that the model runs behind: its URL, with ``model`` the name there or ``None``; or
            give an :class:`~constrain.OpenAIServer` as the model.  ``canonical``, ``heal``,
            ``reasoning``, ``shorten``, ``generate`` and ``streamer`` are for models that run here.
        generate: how tokens are written; ``model.generate`` by default.
        prompt: builds the prompt from the text and :func:`describe_schema` of the schema;
            :func:`default_prompt` by default.
        system: a system message before all else.
        examples: pairs of a text and its value, shown as turns of the chat before the text (few-shot);
            a prompt of text has them as paragraphs.  Values are plain data or instances of the type.
        max_new_tokens: the budget, EOS included: the JSON is complete within it.  By default 512,
            or what the model's context leaves.
        reasoning: tokens of a thought that the model writes first, between ``<think>`` and
            ``</think>``; a :class:`Reasoning` for a field instead.  It comes on top of
            ``max_new_tokens``, and is :attr:`Extraction.reasoning`, no part of the value.
        retries: how often another text is drawn where a validator of the type's own refuses the
            value; at temperature 0.7 where none is given.
        stop: texts before the first of which the answer ends.  It is complete where what stands
            before it is of the grammar.
        canonical: masks keep to the tokenizer's own way of writing, where the grammar and the budget
            leave a choice; costs some seconds once for a tokenizer, and about a millisecond for each
            new mask.
        heal: takes the prompt's last tokens back where some token reaches across its end
            (:func:`constrain.heal`); :attr:`Extraction.tokens` then begin with them, and the budget
            counts them.  Costs compiling the grammar once more for each other end of a prompt.
        shorten: leaves parts of a long text out before it is read, for example
            ``GemFilter(keep=1024)``.  **Lossy**: the answer may be another than that of the whole text;
            :attr:`Extraction.shortened` says what was read.  Grounded values still may stand anywhere
            in the whole text.  With messages, ``source`` says which part of them is the document.
            ``SpecKV(keep=1024)`` has it read whole, and forgets keys and values of it then.
        streamer: one of ``transformers``: gets the prompt, then the tokens as they are written; its
            ``end`` is called however this function ends.
        **generation: passed on, for example ``temperature=0.7``; without any, greedy.

    Raises:
        TypeError: if an argument is of the wrong kind; says what was expected.
        ValueError: if ``generation`` asks for more than one text, or other outputs than token ids; for
            an example that is not of the schema; if ``shorten`` cannot be done with this model or prompt
            (with its cache: :class:`~constrain.huggingface.shortening.CannotPrune`).
        BudgetError: before the first token, if the shortest text does not fit the budget, or prompt
            and budget exceed the model's context.
        GrammarError: if schema or type cannot be used, or nothing in the source meets them.
        pydantic.ValidationError: if a validator of the type's own refuses the value, that of the last
            retry.
    """
    server = server_of(model, backend)
    if server is not None:
        refuse_local(
            canonical=canonical,
            heal=heal,
            reasoning=reasoning,
            shorten=shorten,
            generate=generate,
            streamer=streamer,
        )
        return server.extract(
            text_or_messages,
            schema_or_type,
            grounded=grounded,
            source=source,
            prompt=prompt,
            system=system,
            examples=examples,
            max_new_tokens=max_new_tokens,
            retries=retries,
            stop=stop,
            **generation,
        )
    with ended(streamer) as stream:
        model, tokenizer = loaded(model, tokenizer, "extract")
        max_new_tokens = check_count(max_new_tokens, "max_new_tokens", optional=True)
        retries = check_count(retries, "retries", least=0)
        refuse_options(generation)
        check_writer(shorten, generate, generation)
        asked = checked_question(text_or_messages)
        job = prepare(
            model,
            tokenizer,
            asked,
            Target.of(schema_or_type, source=source_of(asked, source), grounded=grounded),
            prompt=prompt,
            system=system,
            examples=examples,
            max_new_tokens=max_new_tokens,
            canonical=canonical,
            heal=heal,
            reasoning=reasoning,
            stop=stop,
            source=source,
            shorten=shorten,
        )
        phases = Phases(stream, job.stop)
        for attempt in range(retries + 1):
            options = retried(generation, attempt)
            rows = one_by_one(model, generate or write, options, phases, job.pruned)
            (written,) = write_jobs([job], rows)
            try:
                return written.read(job)
            except ValidationError:
                if attempt == retries:
                    raise
        raise AssertionError("the last attempt returns or raises")


def one_by_one(
    model: Any,
    generate: Generate,
    generation: Mapping[str, Any],
    phases: Phases | None = None,
    pruned: Pruned | None = None,
) -> Rows:
    """What writes one text after the other by a ``generate``, and tells who listens.

    Args:
        model, generate, generation: what writes, and how.
        phases: who listens.
        pruned: what is left of the prompt's beginning, which was read.
    """
    heard = Phases(None) if phases is None else phases

    def one(healed: Healed, budget: int, is_answer: bool) -> list[int]:
        ids = torch.tensor([healed.prompt], device=device_of(model))
        options = dict(generation)
        heard.begin(healed, is_answer)
        if heard:
            options["streamer"] = heard
        if pruned is not None:
            options["pruned"] = pruned
        try:
            tokens = generate(model, ids, healed.automaton, max_new_tokens=budget, **options)
            heard.finish(tokens)
        except Halted:
            tokens = list(heard.tokens)
        return tokens

    return lambda healed, budget, is_answer: [one(row, budget, is_answer) for row in healed]


RETRY_TEMPERATURE: Final = 0.7
"""The temperature of further attempts where none was given: the likeliest text was refused."""


def retried(generation: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Options of a further attempt, which has to write something else."""
    options = dict(generation)
    if attempt and not options.get("temperature") and not options.get("do_sample"):
        options["temperature"] = RETRY_TEMPERATURE
    return options


_OWN: Final = {
    "attention_mask": "made of the prompt",
    "eos_token_id": "the vocabulary's",
    "input_ids": "made of the prompt",
    "inputs": "made of the prompt",
    "inputs_embeds": "made of the prompt",
    "max_length": "given by max_new_tokens",
}


def refuse_options(generation: Mapping[str, Any]) -> None:
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
