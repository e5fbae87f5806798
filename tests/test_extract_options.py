"""What people ask of an extraction besides: examples, thoughts, further attempts, where to stop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import AfterValidator, BaseModel, ValidationError, field_validator
from test_extraction import (
    CHAT,
    CONTEXT,
    EOS,
    SCHEMA,
    TEMPLATE,
    TOKENIZER,
    Order,
    counted,
    make_tokenizer,
    model,
    prompt_of,
)
from transformers import AddedToken

import constrain
import samplers
from constrain import BudgetError, Extraction, Reasoning
from grammars import Grammar

EXTRACTS = [constrain.extract, samplers.extract]
BOTH = pytest.mark.parametrize("extract", EXTRACTS, ids=["constrain", "samplers"])


def short(text: str, schema: str) -> str:
    return f"{text} ->"


def as_chat(text: str, schema: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# --- the prompt -----------------------------------------------------------------------------------


def test_a_system_message() -> None:
    asked = prompt_of("Tea.", tokenizer=CHAT, prompt=as_chat, system="Be brief.")
    assert asked == "<|system|>Be brief.\n<|user|>Tea.\n<|assistant|>"
    assert prompt_of("Tea.", prompt=short, system="Be brief.") == "Be brief.\n\nTea. ->"
    messages = [{"role": "user", "content": "Paid?"}]
    asked = prompt_of(messages, tokenizer=CHAT, system="Be brief.")
    assert asked == "<|system|>Be brief.\n<|user|>Paid?\n<|assistant|>"
    messages = [{"role": "system", "content": "No."}, *messages]
    with pytest.raises(ValueError, match="a system message already"):
        prompt_of(messages, tokenizer=CHAT, system="Be brief.")


def shown(extract: Any, wanted: Any, examples: Any, **options: Any) -> str:
    """The prompt that a model is given, decoded."""
    seen: list[str] = []

    class Streamer:
        def put(self, value: torch.Tensor) -> None:
            seen.append(TOKENIZER.decode(value.flatten()))

        def end(self) -> None:
            pass

    options = {"tokenizer": CHAT, "prompt": as_chat, "max_new_tokens": 40} | options
    extract(model(), options.pop("tokenizer"), "Tea.", wanted, examples=examples,
            streamer=Streamer(), **options)  # fmt: skip
    return seen[0]


@BOTH
def test_examples_are_turns_of_the_chat(extract: Any) -> None:
    order = Order(paid=True, kind="coffee")
    written = '{"paid": true, "kind": "coffee"}'
    expected = f"<|user|>Coffee, paid.\n<|assistant|>{written}\n<|user|>Tea.\n<|assistant|>"
    for value in (order, order.model_dump()):
        assert shown(extract, Order, [("Coffee, paid.", value)]) == expected
    value = {"paid": True, "kind": "é"}
    assert '"kind": "é"' in shown(extract, SCHEMA, [("a", value), ("b", value)])
    plain = shown(extract, Order, [("Coffee, paid.", order)], prompt=short)
    assert plain == f"Coffee, paid. ->{written}\n\nTea. ->"
    answers = Grammar.from_choices(["yes", "no"])
    assert "<|assistant|>yes\n" in shown(extract, answers, [("a", "yes")])
    plain = shown(extract, answers, [("a", "yes")], tokenizer=TOKENIZER)
    assert plain == "a\n\nJSON:\nyes\n\nTea.\n\nJSON:\n"


@BOTH
@pytest.mark.parametrize(
    ("examples", "kind", "message"),
    [
        ([("a", {"paid": 3, "kind": "tea"})], ValueError, r"examples\[0\]: 1 validation error"),
        ([("a", Order(paid=True, kind="tea")), ("b", None)], ValueError, r"examples\[1\]"),
        (["a"], TypeError, r"examples\[0\] is a pair \(text, value\), not the text 'a'"),
        ({"a": 1}, TypeError, "examples is a list of pairs"),
    ],
)
def test_examples_that_cannot_be_written(
    extract: Any, examples: Any, kind: type[Exception], message: str
) -> None:
    with counted() as forwards, pytest.raises(kind, match=message):
        shown(extract, Order, examples)
    assert forwards == []


def test_examples_of_a_schema_are_checked_against_it() -> None:
    with pytest.raises(ValueError, match=r"examples\[0\]: .* nothing that may be written"):
        shown(constrain.extract, SCHEMA, [("a", {"paid": True, "kind": "coffee"})])
    messages = [{"role": "user", "content": "Paid?"}]
    with pytest.raises(ValueError, match="as messages of user and assistant"):
        constrain.extract(model(), CHAT, messages, SCHEMA, examples=[("a", {})])


# --- a thought first ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("reasoning", [20, Reasoning(20, field="why")], ids=["think", "field"])
def test_a_thought_comes_first(extract: Any, reasoning: Any) -> None:
    told: list[list[int]] = []

    class Streamer:
        def put(self, value: torch.Tensor) -> None:
            told.append(value.flatten().tolist())

        def end(self) -> None:
            told.append([])

    with counted() as forwards:
        found = extract(
            model(), CHAT, "Tea.", SCHEMA, prompt=as_chat, max_new_tokens=40, reasoning=reasoning,
            streamer=Streamer(),
        )  # fmt: skip
    assert found.complete
    assert set(found.value) == {"paid", "kind"}
    assert Grammar.from_json_schema(SCHEMA).accepts(found.text)
    assert isinstance(found.reasoning, str)
    assert "think>" not in found.reasoning
    prompt, *rest, end = told
    assert end == []
    opening = "<think>\n" if reasoning == 20 else '{"why": "'
    assert CHAT.decode(prompt) == "<|user|>Tea.\n<|assistant|>" + opening
    thought = [token for piece in rest for token in piece][: -len(found.tokens)]
    assert len(thought) <= 21  # with an EOS
    assert thought[-1] == EOS
    closed = CHAT.decode(thought[:-1])
    assert closed.endswith("</think>" if reasoning == 20 else '"')
    assert forwards


def test_the_answer_follows_the_thought_in_the_prompt() -> None:
    prompts: list[str] = []
    texts = iter(["Hm, tea.</think>", "[true]"])

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **options: Any) -> list[int]:
        prompts.append(CHAT.decode(input_ids[0]))
        return [*CHAT(next(texts))["input_ids"], EOS]

    found = constrain.extract(
        model(), CHAT, "Tea.", list[bool], prompt=as_chat, reasoning=30, generate=write
    )
    assert found == Extraction([True], "[true]", found.tokens, True, reasoning="Hm, tea.")
    asked = "<|user|>Tea.\n<|assistant|><think>\n"
    assert prompts == [asked, asked + "Hm, tea.</think>\n\n"]
    prompts.clear()
    texts = iter(['Hm, \\"tea\\".\\n"', "[true]"])
    found = constrain.extract(
        model(), CHAT, "Tea.", list[bool], prompt=as_chat, generate=write,
        reasoning=Reasoning(30, field="why"),
    )  # fmt: skip
    assert found.reasoning == 'Hm, "tea".\n'
    assert prompts[1].endswith('{"why": "Hm, \\"tea\\".\\n", "answer": ')


def test_a_template_may_have_opened_it() -> None:
    opened = make_tokenizer(TEMPLATE.replace("<|assistant|>", "<|assistant|><think>\n"))
    prompts: list[str] = []

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **options: Any) -> list[int]:
        prompts.append(CHAT.decode(input_ids[0]))
        return []

    constrain.extract(
        model(), opened, "Tea.", list[bool], prompt=as_chat, reasoning=30, generate=write
    )
    assert prompts[0].endswith("<|assistant|><think>\n")
    assert prompts[0].count("<think>") == 1


@cache
def thinking_tokenizer() -> Any:
    """One whose markers of thoughts are special tokens."""
    made = make_tokenizer(TEMPLATE)
    names = ["<think>", "</think>"]
    made.add_special_tokens({"additional_special_tokens": [AddedToken(n) for n in names]})
    return made


@BOTH
def test_markers_that_are_special_tokens(extract: Any) -> None:
    tokenizer = thinking_tokenizer()
    close = tokenizer.convert_tokens_to_ids("</think>")
    told: list[int] = []

    class Streamer:
        def put(self, value: torch.Tensor) -> None:
            told.extend(value.flatten().tolist())

        def end(self) -> None:
            pass

    found = extract(
        model(), tokenizer, "Tea.", SCHEMA, prompt=as_chat, max_new_tokens=40, reasoning=12,
        streamer=Streamer(),
    )  # fmt: skip
    assert found.complete
    assert told.count(close) == 1
    assert "</think>" not in found.reasoning
    assert "think" not in found.reasoning


def test_the_default_prompt_says_that_it_comes() -> None:
    hint = "between <think> and </think>"
    seen: list[str] = []

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **options: Any) -> list[int]:
        seen.append(CHAT.decode(input_ids[0]))
        return []

    for reasoning in (9, None, Reasoning(9, "why")):
        options: dict[str, Any] = {"generate": write, "reasoning": reasoning}
        constrain.extract(model(), CHAT, "Tea.", {"type": "null"}, max_new_tokens=9, **options)
    assert [hint in prompt for prompt in seen] == [True, True, False, False, False]
    assert '"why", your thoughts' in seen[-1]


def test_budgets_of_thoughts() -> None:
    options: dict[str, Any] = {"prompt": short}
    with counted() as forwards:
        with pytest.raises(BudgetError, match="at least"):
            constrain.extract(model(), TOKENIZER, "a", SCHEMA, reasoning=3, **options)
        with pytest.raises(BudgetError, match="context"):
            constrain.extract(
                model(), TOKENIZER, "a", SCHEMA, reasoning=CONTEXT, max_new_tokens=30, **options
            )
        wrong: Any = "much"
        with pytest.raises(TypeError, match="reasoning must be an integer"):
            constrain.extract(model(), TOKENIZER, "a", SCHEMA, reasoning=wrong, **options)
    assert forwards == []
    for least in (9, 12, 30):
        found = constrain.extract(
            model(), TOKENIZER, "a", SCHEMA, reasoning=least, max_new_tokens=40, **options
        )
        assert found.complete


def test_many_thoughts() -> None:
    texts = ["Tea.", "Coffee, and more of it.", "x"]
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 40, "reasoning": 15}
    alone = [constrain.extract(model(), TOKENIZER, text, SCHEMA, **options) for text in texts]
    assert constrain.extract_many(model(), TOKENIZER, texts, SCHEMA, **options) == alone
    assert all(one.complete for one in alone)


# --- further attempts -----------------------------------------------------------------------------


def refusing(value: str) -> Any:
    class Refusing(BaseModel):
        kind: Literal["tea", "coffee", "milk"]

        @field_validator("kind")
        @classmethod
        def refuse(cls, given: str) -> str:
            if given == value:
                raise ValueError(f"no more {given}")
            return given

    return Refusing


@BOTH
@pytest.mark.filterwarnings("ignore:a grammar cannot keep")
def test_a_refused_value_is_drawn_again(extract: Any) -> None:
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 30}
    if extract is samplers.extract:
        options["seed"] = 3
    torch.manual_seed(0)
    likeliest = extract(model(), TOKENIZER, "a", refusing(""), **options).value.kind
    wanted = refusing(likeliest)
    with pytest.raises(ValidationError, match=f"no more {likeliest}"):
        extract(model(), TOKENIZER, "a", wanted, **options)
    found = extract(model(), TOKENIZER, "a", wanted, retries=20, **options)
    assert found.value.kind != likeliest
    if extract is samplers.extract:
        again = extract(model(), TOKENIZER, "a", wanted, retries=20, **options)
        assert again == found


def test_the_error_of_the_last_attempt_is_raised() -> None:
    texts = iter(['"tea"', '"coffee"', '"milk"'])
    seen: list[Any] = []

    def write(*_: Any, **options: Any) -> list[int]:
        seen.append(options.get("temperature"))
        return [*TOKENIZER(next(texts))["input_ids"], EOS]

    def refuse(value: str) -> str:
        raise ValueError(f"no {value}")

    wanted = Annotated[Literal["tea", "coffee", "milk"], AfterValidator(refuse)]
    with (
        pytest.warns(UserWarning, match="cannot keep"),
        pytest.raises(ValidationError, match="no milk"),
    ):
        constrain.extract(model(), TOKENIZER, "a", wanted, generate=write, retries=2)
    assert seen == [None, 0.7, 0.7]


# --- where to stop --------------------------------------------------------------------------------


def writing(text: str) -> Callable[..., list[int]]:
    return lambda *_, **__: [*TOKENIZER(text)["input_ids"], EOS]


def test_the_answer_ends_before_a_stop_text() -> None:
    words = Grammar.from_regex("[a-z ]+")
    options: dict[str, Any] = {"generate": writing("tea and milk and more")}
    found = constrain.extract(model(), TOKENIZER, "a", words, stop=" and", **options)
    assert (found.text, found.value, found.complete) == ("tea", "tea", True)
    assert TOKENIZER.decode(found.tokens) == "tea and"
    found = constrain.extract(model(), TOKENIZER, "a", words, stop=["more", " milk"], **options)
    assert found.text == "tea and"
    found = constrain.extract(model(), TOKENIZER, "a", words, stop=["never"], **options)
    assert found.text == "tea and milk and more"
    options = {"generate": writing('["a", "b"]')}
    found = constrain.extract(model(), TOKENIZER, "a", list[str], stop=", ", **options)
    assert (found.text, found.value, found.complete) == ('["a"', None, False)


@BOTH
def test_nothing_is_written_behind_it(extract: Any) -> None:
    words = Grammar.from_regex("[a-z]{30}")
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 40}
    whole = extract(model(), TOKENIZER, "a", words, **options)
    stop = whole.text[4:6]
    at = whole.text.index(stop)
    with counted() as forwards:
        found = extract(model(), TOKENIZER, "a", words, stop=stop, **options)
    assert (found.text, found.complete) == (whole.text[:at], False)
    assert found.tokens == whole.tokens[: len(found.tokens)]
    assert len(forwards) <= at + 3
    many = constrain.extract_many(model(), TOKENIZER, ["a", "b"], words, stop=stop, **options)
    assert many[0] == constrain.extract(model(), TOKENIZER, "a", words, stop=stop, **options)


@pytest.mark.parametrize(
    ("stop", "kind", "message"),
    [
        (3, TypeError, "stop is a text or a list of texts, not 3"),
        ([3], TypeError, "stop is a text"),
        ("", ValueError, "empty text"),
        (["a", ""], ValueError, "empty text"),
    ],
)
def test_what_is_no_stop_text(stop: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        constrain.extract(model(), TOKENIZER, "a", SCHEMA, stop=stop)


# --- a model by its name --------------------------------------------------------------------------


@BOTH
def test_a_model_by_its_folder(
    extract: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("model")
    model().save_pretrained(folder)
    CHAT.save_pretrained(folder)
    loads: list[str] = []
    load = constrain.load_model

    def counting(name: str) -> Any:
        loads.append(name)
        return load(name)

    monkeypatch.setattr("constrain.huggingface.loading.load_model", counting)
    for name in (str(folder), folder):
        found = extract(name, None, "Tea.", SCHEMA, prompt=as_chat, max_new_tokens=40)
        assert found.complete
    found = constrain.choose(str(folder), None, "Tea?", ["yes", "no"])
    assert sum(found.values()) == pytest.approx(1)
    assert samplers.choose(folder, None, "Tea?", ["yes", "no"]) == pytest.approx(found, rel=1e-3)
    assert loads == [str(folder)]
    with pytest.raises(TypeError, match="extract needs a model, not the text"):
        extract(str(folder), CHAT, "Tea.", SCHEMA)


@BOTH
def test_values_of_examples_stand_in_their_own_texts(extract: Any) -> None:
    class Person(BaseModel):
        name: str

    said = "<|assistant|>"
    texts: dict[str, Any] = {"grounded": True, "source": "Tea, by Ada."}
    prompt = shown(extract, Person, [("Bob came.", Person(name="Bob"))], **texts)
    assert f'Bob came.\n{said}{{"name": "Bob"}}' in prompt
    with pytest.raises(ValueError, match=r"examples\[1\]: .*nothing that may be written"):
        shown(extract, Person, [("Bob", {"name": "Bob"}), ("Cy", {"name": "Bob"})], **texts)
