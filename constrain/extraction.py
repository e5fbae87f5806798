"""Text in, validated data out: the schema constrains, the prompt explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch

from constrain.automaton import TokenAutomaton
from constrain.models import context_length
from constrain.processor import GrammarLogitsProcessor, check_budget
from constrain.vocabulary import Vocabulary
from grammars.errors import BudgetError
from grammars.grammar import Grammar

Messages: TypeAlias = Sequence[Mapping[str, Any]]
PromptBuilder: TypeAlias = Callable[[str, str], "str | Messages"]
"""(text, JSON Schema as text) -> prompt text, or chat messages."""

DEFAULT_MAX_NEW_TOKENS: Final = 512

PROMPT: Final = """\
Extract the information from the text below as one JSON object that follows this JSON Schema. \
Take values from the text; answer with the JSON only.

JSON Schema:
{schema}

Text:
{text}"""
"""What :func:`default_prompt` asks, as one user message."""


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        value: the validated value: an instance of the type, or plain data for a schema; the text
            itself where a grammar of other texts than JSON was given; ``None`` if the text is not
            complete.
        text: what the model wrote.
        tokens: its token ids, the final EOS included.
        complete: whether the text is whole and of the grammar.
    """

    value: Any
    text: str
    tokens: list[int]
    complete: bool


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


def extract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    generate: Generate | None = None,
    prompt: PromptBuilder | None = None,
    max_new_tokens: int | None = None,
    **generation: Any,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands.

    Args:
        model: a causal language model of ``transformers``.
        tokenizer: its tokenizer.
        text_or_messages: the text to read, put into ``prompt``; or chat messages, taken as they
            are.
        schema_or_type: a JSON Schema (dict, bool, JSON text), a Python type that pydantic knows, or
            a :class:`~grammars.Grammar` of JSON texts.
        generate: how tokens are written; ``model.generate`` by default.
        prompt: builds the prompt from the text and the schema; :func:`default_prompt` by default.
        max_new_tokens: the budget, EOS included: the JSON is complete within it.  By default 512,
            or what the model's context leaves.
        **generation: passed on, for example ``temperature=0.7``; without any, greedy.

    Raises:
        BudgetError: before the first token, if the shortest text does not fit the budget, or prompt
            and budget exceed the model's context.
        GrammarError: if schema or type cannot be used.
        pydantic.ValidationError: if a validator of the type's own refuses the value.
    """
    target = _Target.of(schema_or_type)
    automaton = automaton_for(target.grammar, tokenizer, model)
    if isinstance(text_or_messages, str):
        asked = (prompt or default_prompt)(text_or_messages, target.description)
    else:
        asked = text_or_messages
    ids = _encode(tokenizer, asked, _device(model))
    budget = _budget(model, ids.shape[-1], max_new_tokens)
    check_budget(automaton, budget)
    write = generate or _generate
    tokens = write(model, ids, automaton, max_new_tokens=budget, **generation)
    return target.read(tokens, automaton.vocabulary)


def default_prompt(text: str, schema: str) -> Messages:
    """One user message: :data:`PROMPT` with the schema and the text."""
    return [{"role": "user", "content": PROMPT.format(schema=schema, text=text.strip())}]


# -- what is wanted --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    grammar: Grammar
    description: str
    adapter: Any = None

    @classmethod
    def of(cls, wanted: Any) -> _Target:
        if isinstance(wanted, Grammar):
            return cls(wanted, "(see the expected form)")
        if isinstance(wanted, str | bool | Mapping):
            text = wanted if isinstance(wanted, str) else json.dumps(wanted, ensure_ascii=False)
            return cls(_schema_grammar(text), text)
        from pydantic import TypeAdapter

        from grammars.frontends.types import type_schema

        text = json.dumps(type_schema(wanted), ensure_ascii=False)
        return cls(_schema_grammar(text), text, TypeAdapter(wanted))

    def read(self, tokens: list[int], vocabulary: Vocabulary) -> Extraction:
        data = vocabulary.decode(tokens)
        text = data.decode("utf-8", "replace")
        ended = bool(tokens) and tokens[-1] in vocabulary.eos_token_ids
        if not (ended and self.grammar.accepts(data)):
            return Extraction(None, text, tokens, complete=False)
        return Extraction(self._value(text), text, tokens, complete=True)

    def _value(self, text: str) -> Any:
        if self.adapter:
            return self.adapter.validate_json(text)
        try:
            return json.loads(text)
        except ValueError:
            return text  # a grammar of other texts


@lru_cache(64)
def _schema_grammar(text: str) -> Grammar:
    return Grammar.from_json_schema(text)


_vocabularies: WeakKeyDictionary[Any, dict[Any, Vocabulary]] = WeakKeyDictionary()


def vocabulary_for(tokenizer: Any, model: Any) -> Vocabulary:
    """The vocabulary of a tokenizer with a model's rows and EOS ids, made once."""
    from constrain._huggingface import eos_ids_of, rows_of

    key = (len(tokenizer), rows_of(model), tuple(eos_ids_of(tokenizer, model)))
    known = _vocabularies.setdefault(tokenizer, {})
    if key not in known:
        known[key] = Vocabulary.from_huggingface(tokenizer, model=model)
    return known[key]


def automaton_for(grammar: Grammar, tokenizer: Any, model: Any) -> TokenAutomaton:
    """The automaton of a grammar for a model; the most recent ones are kept."""
    return _automaton(grammar, vocabulary_for(tokenizer, model))


@lru_cache(16)
def _automaton(grammar: Grammar, vocabulary: Vocabulary) -> TokenAutomaton:
    return TokenAutomaton(grammar, vocabulary)


# -- asking the model ------------------------------------------------------------------------------


def _encode(tokenizer: Any, asked: str | Messages, device: torch.device) -> torch.Tensor:
    """int64[1, length]; messages by the tokenizer's chat template, or in plain words."""
    if isinstance(asked, str):
        encoded = tokenizer(asked, return_tensors="pt")["input_ids"]
    elif getattr(tokenizer, "chat_template", None):
        encoded = tokenizer.apply_chat_template(
            list(asked), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
    else:
        plain = "\n\n".join(str(message["content"]) for message in asked) + "\n\nJSON:\n"
        encoded = tokenizer(plain, return_tensors="pt")["input_ids"]
    ids: torch.Tensor = encoded.to(device)
    return ids


def _device(model: Any) -> torch.device:
    return torch.device(getattr(model, "device", "cpu"))


def _budget(model: Any, prompt: int, wanted: int | None) -> int:
    context = context_length(model)
    if context is None:
        return DEFAULT_MAX_NEW_TOKENS if wanted is None else wanted
    left = context - prompt
    if wanted is None and left > 0:
        return min(DEFAULT_MAX_NEW_TOKENS, left)
    if left < (wanted or 1):
        raise BudgetError(
            f"the prompt has {prompt:,} tokens and max_new_tokens is {wanted or 1:,}, but the model's "
            f"context holds {context:,}; shorten the text or lower max_new_tokens",
            needed=prompt + (wanted or 1),
            available=context,
        )
    assert wanted is not None
    return wanted


def _generate(
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
    return _until_end(out[0, input_ids.shape[-1] :].tolist(), automaton.vocabulary)


def _until_end(tokens: list[int], vocabulary: Vocabulary) -> list[int]:
    """Without the padding behind the first EOS."""
    ends = set(vocabulary.eos_token_ids)
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: first + 1]
