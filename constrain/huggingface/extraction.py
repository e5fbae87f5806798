"""Text in, validated data out: the schema constrains, the prompt explains."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch
from transformers.generation.streamers import BaseStreamer

from constrain.arguments import check_count, check_model, check_tokenizer, described
from constrain.automaton import TokenAutomaton
from constrain.canonical.copies import as_written
from constrain.describe import describe_schema
from constrain.healing import Healed, healed_if
from constrain.huggingface.processor import GrammarLogitsProcessor, check_budget
from constrain.huggingface.prompts import Messages, checked_ids, is_messages, prompt_ids, templated
from constrain.models import context_length
from constrain.vocabulary import Vocabulary
from grammars.errors import BudgetError
from grammars.grammar import Grammar

PromptBuilder: TypeAlias = Callable[[str, str], "str | Messages"]
"""(text, JSON Schema as :func:`describe_schema` shows it) -> prompt text, or chat messages."""

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
        prefix: the end of the prompt that ``tokens`` begin with (``heal=True``); not part of ``text``.
    """

    value: Any
    text: str
    tokens: list[int]
    complete: bool
    prefix: bytes = b""


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
        asked = _asked(text_or_messages)
        target = _Target.of(schema_or_type)
        automaton = automaton_for(target.grammar, tokenizer, model, canonical=canonical)
        if isinstance(asked, str):
            asked = (prompt or default_prompt)(asked, target.description)
        healed = healed_if(heal, _encode(model, tokenizer, asked), automaton)
        automaton = healed.automaton
        ids = torch.tensor([healed.prompt], device=_device(model))
        budget = _budget(model, ids.shape[-1], max_new_tokens)
        check_budget(automaton, budget)
        if stream is not None:
            generation["streamer"] = stream
        write = generate or _generate
        tokens = write(model, ids, automaton, max_new_tokens=budget, **generation)
        return target.read(tokens, healed)


def _asked(given: Any) -> str | Messages:
    """One text, or chat messages."""
    if isinstance(given, str) or is_messages(given):
        found: str | Messages = given
        return found
    wanted = "extract reads one text (str) or chat messages (mappings with role and content), not "
    if isinstance(given, list | tuple) and given and all(isinstance(one, str) for one in given):
        raise TypeError(f"{wanted}{described(given)}; call it once for each text")
    raise TypeError(wanted + described(given))


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


def default_prompt(text: str, schema: str) -> Messages:
    """One user message: :data:`PROMPT` with the text and :func:`describe_schema` of the schema.

    Everything that extracts builds this prompt: ``extract`` here and in ``samplers``, and the command.
    """
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
            return cls(_schema_grammar(text), describe_schema(wanted))
        _refuse_instances(wanted)
        from pydantic import TypeAdapter

        grammar = _type_grammar(wanted)
        return cls(grammar, describe_schema(wanted), TypeAdapter(wanted))

    def read(self, tokens: list[int], healed: Healed) -> Extraction:
        data, prefix = healed.text(tokens), healed.prefix
        text = data.decode("utf-8", "replace")
        ended = bool(tokens) and tokens[-1] in healed.automaton.vocabulary.eos_token_ids
        if not (ended and self.grammar.accepts(data)):
            return Extraction(None, text, tokens, complete=False, prefix=prefix)
        return Extraction(self._value(text), text, tokens, complete=True, prefix=prefix)

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


_KEPT_TYPES: Final = 64
_unhashable: OrderedDict[int, tuple[Any, Grammar]] = OrderedDict()


def _type_grammar(tp: Any) -> Grammar:
    """The grammar of a type, made once: for types that cannot be hashed by their identity."""
    try:
        hash(tp)
    except TypeError:
        known = _unhashable.get(id(tp))
        if known is None:
            known = _unhashable[id(tp)] = (
                tp,
                Grammar.from_type(tp, validators="warn"),
            )  # kept, so that the id stays its
            if len(_unhashable) > _KEPT_TYPES:
                _unhashable.popitem(last=False)
        return known[1]
    return _hashable_type_grammar(tp)


@lru_cache(_KEPT_TYPES)
def _hashable_type_grammar(tp: Any) -> Grammar:
    return Grammar.from_type(tp, validators="warn")


def _refuse_instances(wanted: Any) -> None:
    """A value where a type should be, or another object of this package."""
    wants = "a JSON Schema (dict, bool, JSON text), a Python type or a Grammar is needed, not "
    kind = type(wanted).__name__
    if isinstance(wanted, TokenAutomaton):
        raise TypeError(f"{wants}a TokenAutomaton; give the grammar that it was made of")
    if isinstance(wanted, type) or wanted is None:
        return
    if hasattr(wanted, "model_fields_set") or dataclasses.is_dataclass(wanted):
        raise TypeError(f"{wants}an instance of {kind}; give the type itself: {kind}")
    if isinstance(wanted, list | tuple):
        inner = getattr(wanted[0], "__name__", "...") if len(wanted) == 1 else "..."
        raise TypeError(f"{wants}{described(wanted)}; the type of a list is list[{inner}]")
    if isinstance(wanted, int | float | bytes | set | frozenset | Vocabulary):
        raise TypeError(wants + described(wanted))


_vocabularies: WeakKeyDictionary[Any, dict[Any, Vocabulary]] = WeakKeyDictionary()


def vocabulary_for(tokenizer: Any, model: Any) -> Vocabulary:
    """The vocabulary of a tokenizer with a model's rows and EOS ids, made once."""
    from constrain.vocabulary.huggingface import eos_ids_of, rows_of

    key = (len(tokenizer), rows_of(model), tuple(eos_ids_of(tokenizer, model)))
    known = _vocabularies.setdefault(tokenizer, {})
    if key not in known:
        known[key] = Vocabulary.from_huggingface(tokenizer, model=model)
    return known[key]


def automaton_for(
    grammar: Grammar, tokenizer: Any, model: Any, *, canonical: bool = False
) -> TokenAutomaton:
    """The automaton of a grammar for a model; the most recent ones are kept."""
    plain = _automaton(grammar, vocabulary_for(tokenizer, model))
    return as_written(plain, canonical)


@lru_cache(16)
def _automaton(grammar: Grammar, vocabulary: Vocabulary) -> TokenAutomaton:
    return TokenAutomaton(grammar, vocabulary)


# -- asking the model ------------------------------------------------------------------------------


def _encode(model: Any, tokenizer: Any, asked: Any) -> list[int]:
    """Token ids; of messages by the tokenizer's chat template, or in plain words."""
    if not is_messages(asked):
        if not isinstance(asked, str):
            raise TypeError(f"a prompt is text or chat messages, not {described(asked)}")
        ids = prompt_ids(tokenizer, asked)
    elif getattr(tokenizer, "chat_template", None):
        ids = templated(tokenizer, asked)
    else:
        plain = "\n\n".join(str(message["content"]) for message in asked) + "\n\nJSON:\n"
        ids = prompt_ids(tokenizer, plain)
    return checked_ids(model, ids)


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
    if len(out) != 1:
        raise ValueError(f"generate wrote {len(out)} texts, but extract returns one Extraction")
    return _until_end(out[0, input_ids.shape[-1] :].tolist(), automaton.vocabulary)


def _until_end(tokens: list[int], vocabulary: Vocabulary) -> list[int]:
    """Without the padding behind the first EOS."""
    ends = set(vocabulary.eos_token_ids)
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: first + 1]
