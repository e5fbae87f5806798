"""Wrong objects at every door of extraction and samplers: a sentence that says what was expected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from test_extraction import CHAT, SCHEMA, TOKENIZER
from test_extraction import model as chat_model
from toys import BOS, model, vocabulary
from transformers import BatchEncoding

import constrain
import samplers
from constrain import TokenAutomaton, Vocabulary, describe_schema
from grammars import Grammar, GrammarError
from samplers import (
    DraftModel,
    Forced,
    GrammarConstrained,
    SpeculativeBackend,
    SpeculativeGenerate,
)


class Person(BaseModel):
    paid: bool


@dataclass
class Point:
    x: bool


GRAMMAR = Grammar.from_json_schema({"type": "boolean"})
AUTOMATON = TokenAutomaton(GRAMMAR, vocabulary())
EXTRACTS = [constrain.extract, samplers.extract]


# --- extract --------------------------------------------------------------------------------------

TEXTS: list[tuple[Any, type[Exception], str]] = [
    (["one", "two"], TypeError, r"one text.*not a list \(2 items of str\); call it once for each"),
    (("one",), TypeError, "call it once for each"),
    ([], TypeError, "one text.*not a list"),
    (None, TypeError, "one text.*not None"),
    (b"text", TypeError, "one text.*not the text b'text'"),
    (Path("invoice.txt"), TypeError, "one text.*not an object of type PosixPath"),
    ({"role": "user", "content": "x"}, TypeError, "mappings with role and content"),
    ([{"content": "x"}], TypeError, "mappings with role and content"),
    (torch.tensor([[1, 2]]), TypeError, r"one text.*Tensor of shape \[1, 2\]"),
    (BatchEncoding({"input_ids": [1]}), TypeError, "one text.*BatchEncoding"),
]
WANTED: list[tuple[Any, type[Exception], str]] = [
    (Person(paid=True), TypeError, "instance of Person; give the type itself: Person"),
    (Point(True), TypeError, "instance of Point; give the type itself: Point"),
    ([Person], TypeError, r"the type of a list is list\[Person\]"),
    (3, TypeError, "not 3"),
    (b"{}", TypeError, "not the text b'{}'"),
    (AUTOMATON, TypeError, "TokenAutomaton; give the grammar"),
    (vocabulary(), TypeError, "not an object of type Vocabulary"),
    ("Person", GrammarError, "JSON"),
    ("{'type': 'null'}", GrammarError, "line 1"),
    (len, GrammarError, "len"),
]
OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"num_return_sequences": 3},
        ValueError,
        "num_return_sequences=3: extract returns one Extract",
    ),
    ({"return_dict_in_generate": True}, ValueError, "return_dict_in_generate"),
    ({"max_length": 30}, ValueError, "max_length is given by max_new_tokens"),
    ({"eos_token_id": 3}, ValueError, "eos_token_id is the vocabulary's"),
    ({"attention_mask": torch.ones(1, 3)}, ValueError, "attention_mask is made of the prompt"),
]


def extracted(extract: Any, *given: Any, **options: Any) -> Any:
    """Arguments in their order, those left out as they should be."""
    whole = [chat_model(), TOKENIZER, "Ada paid.", SCHEMA]
    return extract(*given, *whole[len(given) :], **{"max_new_tokens": 40} | options)


@pytest.mark.parametrize("extract", EXTRACTS)
@pytest.mark.parametrize(("text", "kind", "message"), TEXTS, ids=str)
def test_texts(extract: Any, text: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        extracted(extract, chat_model(), TOKENIZER, text)


@pytest.mark.parametrize("extract", EXTRACTS)
@pytest.mark.parametrize(("wanted", "kind", "message"), WANTED, ids=str)
def test_schemas_and_types(extract: Any, wanted: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        extracted(extract, chat_model(), TOKENIZER, "Ada", wanted)


@pytest.mark.parametrize(("options", "kind", "message"), OPTIONS, ids=str)
def test_options_of_generate(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        extracted(constrain.extract, **options)


def test_several_texts_by_a_generation_config() -> None:
    config = chat_model().generation_config.__class__(num_return_sequences=2, do_sample=True)
    with pytest.raises(ValueError, match="2 texts, but extract returns one"):
        extracted(constrain.extract, generation_config=config, do_sample=True)


def test_one_sequence_is_one_text() -> None:
    assert extracted(constrain.extract, num_return_sequences=1).complete


@pytest.mark.parametrize("extract", EXTRACTS)
def test_model_and_tokenizer(extract: Any) -> None:
    changed = "model and tokenizer may have changed places"
    with pytest.raises(TypeError, match=f"needs a model, not.*{changed}"):
        extracted(extract, TOKENIZER, chat_model())
    with pytest.raises(TypeError, match=f"needs a tokenizer, not.*{changed}"):
        extracted(extract, chat_model(), chat_model())
    with pytest.raises(TypeError, match=r"needs a model.*load_model\(name\)"):
        extracted(extract, "smollm2-135m-instruct")
    with pytest.raises(TypeError, match=r"needs a tokenizer.*the tokenizer it was made of"):
        extracted(extract, chat_model(), vocabulary())
    for nothing in (None, GRAMMAR, 3, {}):
        with pytest.raises(TypeError, match="needs a model, not"):
            extracted(extract, nothing)
        with pytest.raises(TypeError, match="needs a tokenizer, not"):
            extracted(extract, chat_model(), nothing)


@pytest.mark.parametrize("extract", EXTRACTS)
@pytest.mark.parametrize("budget", [0, -3, 2.5, "40", True])
def test_budgets(extract: Any, budget: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_new_tokens"):
        extracted(extract, max_new_tokens=budget)


def test_a_prompt_builder_that_returns_neither() -> None:
    for answer in (None, 3, ["text"], b"text"):
        with pytest.raises(TypeError, match="a prompt is text or chat messages"):
            extracted(constrain.extract, prompt=lambda text, schema, answer=answer: answer)
    with pytest.raises(ValueError, match="the prompt is empty and the model has no BOS"):
        extracted(constrain.extract, prompt=lambda text, schema: "")


@pytest.mark.parametrize("option", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 2.0}], ids=str)
def test_numbers_of_the_law(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        extracted(samplers.extract, **option)


def test_types_that_cannot_be_hashed_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from typing import Annotated

    made = []
    real = Grammar.from_type

    def counted(tp: Any, **options: Any) -> Grammar:
        made.append(tp)
        return real(tp, **options)

    monkeypatch.setattr(Grammar, "from_type", counted)
    tp = Annotated[bool, {"un": "hashable"}]
    for _ in range(3):
        assert extracted(constrain.extract, chat_model(), TOKENIZER, "Ada", tp).value in (
            True,
            False,
        )
    assert made == [tp]


# --- prompts of samplers --------------------------------------------------------------------------

IDS = [BOS, 5, 6]
SAME: dict[str, Any] = {
    "list": IDS,
    "tuple": tuple(IDS),
    "numbers of numpy": [np.int64(i) for i in IDS],
    "array": np.array(IDS),
    "tensor [n]": torch.tensor(IDS),
    "tensor [1, n]": torch.tensor([IDS]),
    "a row of a list": [IDS],
    "a list of tensors": [torch.tensor(i) for i in IDS],
    "BatchEncoding": BatchEncoding({"input_ids": torch.tensor([IDS])}),
    "mapping": {"input_ids": IDS, "attention_mask": [1, 1, 1]},
}
WRONG: list[tuple[Any, type[Exception], str]] = [
    (b"text", TypeError, "not the text b'text'"),
    (None, TypeError, "a prompt is text, token ids .* or chat messages"),
    (3, TypeError, "not 3"),
    ([1.5, 2.0], TypeError, r"not a list \(2 items of float\)"),
    ([True, False], TypeError, "not a list"),
    (["one", "two"], TypeError, r"not a list \(2 items of str\)"),
    (torch.tensor([1.5]), TypeError, "Tensor"),
    (torch.tensor([IDS, IDS]), ValueError, "2 prompts were given; call it once for each"),
    ([IDS, IDS], ValueError, "2 prompts were given"),
    ({"ids": IDS}, TypeError, "dict"),
    ({1, 2}, TypeError, "set"),
    ([{"content": "x"}], TypeError, "mappings with role and content"),
    ("text", ValueError, "needs a tokenizer"),
    ([{"role": "user", "content": "x"}], ValueError, "chat messages needs a tokenizer"),
    ([64], ValueError, "the model has 64"),
    ([-1], ValueError, "from -1"),
]


@pytest.mark.parametrize("prompt", SAME.values(), ids=SAME)
def test_ids_in_every_form(prompt: Any) -> None:
    assert SpeculativeBackend(model(), drafters=[]).encode(prompt) == IDS


@pytest.mark.parametrize(("prompt", "kind", "message"), WRONG, ids=str)
def test_what_is_no_prompt(prompt: Any, kind: type[Exception], message: str) -> None:
    sampler = GrammarConstrained(SpeculativeBackend(model(), drafters=[]), AUTOMATON)
    with pytest.raises(kind, match=message):
        sampler.sample(prompt, max_new_tokens=8)


def test_an_empty_prompt_is_bos() -> None:
    for empty in ([], torch.zeros(1, 0, dtype=torch.long)):
        assert SpeculativeBackend(model(), drafters=[]).encode(empty) == [BOS]


def test_chat_messages() -> None:
    backend = SpeculativeBackend(chat_model(), CHAT, [])
    messages = [{"role": "user", "content": "Paid?"}]
    text = CHAT.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert backend.encode(messages) == CHAT(text)["input_ids"]
    machine = TokenAutomaton(GRAMMAR, Vocabulary.from_huggingface(CHAT, model=chat_model()))
    sampler = GrammarConstrained(backend, machine)
    one = sampler.sample(messages, max_new_tokens=8, temperature=0)[0]
    assert one.text == sampler.sample(text, max_new_tokens=8, temperature=0)[0].text
    with pytest.raises(ValueError, match="chat template"):
        SpeculativeBackend(chat_model(), TOKENIZER, []).encode(messages)


# --- constructors of samplers ---------------------------------------------------------------------


def backend() -> SpeculativeBackend:
    return SpeculativeBackend(model(), drafters=[])


CONSTRUCTORS: dict[str, tuple[Any, str]] = {
    "a model where a backend should be": (
        lambda: GrammarConstrained(model(), AUTOMATON),
        r"needs a SpeculativeBackend, not.*SpeculativeBackend\(model, tokenizer\)",
    ),
    "a grammar where an automaton should be": (
        lambda: GrammarConstrained(backend(), GRAMMAR),
        r"needs a TokenAutomaton, not.*TokenAutomaton\(grammar, vocabulary\)",
    ),
    "a grammar for the method": (
        lambda: SpeculativeGenerate(GRAMMAR), "SpeculativeGenerate needs a TokenAutomaton"
    ),
    "a model for the method": (
        lambda: SpeculativeGenerate(model()), "SpeculativeGenerate needs a TokenAutomaton"
    ),
    "an option that there is not": (
        lambda: SpeculativeGenerate(AUTOMATON, max_trees=3), "max_trees"
    ),
    "a tokenizer for a backend": (
        lambda: SpeculativeBackend(TOKENIZER, model()), "changed places"
    ),
    "the name of a model": (
        lambda: SpeculativeBackend("smollm2-135m-instruct"), "load_model"
    ),
    "a vocabulary for a backend": (
        lambda: SpeculativeBackend(model(), vocabulary()), "needs a tokenizer, not.*Vocabulary"
    ),
    "one drafter": (
        lambda: SpeculativeBackend(model(), drafters=Forced()), r"drafters is a list.*\[Forced"
    ),
    "a model as a drafter": (
        lambda: SpeculativeBackend(model(), drafters=[model()]), r"DraftModel\(model\)"
    ),
    "a class as a drafter": (
        lambda: SpeculativeBackend(model(), drafters=[Forced]), "not the type Forced"
    ),
    "a tokenizer as a draft model": (lambda: DraftModel(TOKENIZER), "DraftModel needs a model"),
    "rows that are no number": (
        lambda: SpeculativeBackend(model(), drafters=[], max_rows="8"), "max_rows must be an integer"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_constructors(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("option", [{"max_rows": 0}, {"max_tree_nodes": -1}, {"max_kv_bytes": 0}])
def test_numbers_of_a_backend(option: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        SpeculativeBackend(model(), drafters=[], **option)


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_numbers_of_samples(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^n(=| must)"):
        GrammarConstrained(backend(), AUTOMATON).sample(IDS, n, max_new_tokens=8)


@pytest.mark.parametrize(
    "wrong", [GRAMMAR, model(), "gpt2", None, 3], ids=lambda x: type(x).__name__
)
def test_no_tokenizer_for_a_vocabulary(wrong: Any) -> None:
    with pytest.raises(TypeError, match="from_huggingface needs a tokenizer, not"):
        Vocabulary.from_huggingface(wrong)


def test_no_model_for_a_vocabulary() -> None:
    with pytest.raises(TypeError, match="from_huggingface needs a model, not"):
        Vocabulary.from_huggingface(TOKENIZER, model=TOKENIZER)


def test_no_schema_to_describe() -> None:
    with pytest.raises(GrammarError, match="must be JSON"):
        describe_schema("Person")
