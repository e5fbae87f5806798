"""Calls of tools: whatever a random model would like to write, names and arguments are valid."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from test_extraction import CHAT, EOS, TEMPLATE, TOKENIZER, counted, make_tokenizer
from test_extraction import model as small_model
from test_tools import RENDER
from transformers import AddedToken, LlamaForCausalLM

import constrain
import samplers
from constrain import BudgetError, ToolCall
from constrain.huggingface.calling import instructed
from constrain.tools import known_tools
from grammars import Grammar, GrammarError
from grammars.tools.formats import FORMATS

WITH_TOOLS = (
    "{% if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
    "{# <tool_call> name and arguments </tool_call> #}" + TEMPLATE
)
HERMES = make_tokenizer(WITH_TOOLS)
BOTH = pytest.mark.parametrize(
    "call", [constrain.call, samplers.call], ids=["constrain", "samplers"]
)


@cache
def model() -> LlamaForCausalLM:
    """One with room for a prompt of bytes."""
    config = copy.deepcopy(small_model().config)
    config.max_position_embeddings = 4_096
    made = LlamaForCausalLM(config).eval()
    made.load_state_dict(small_model().state_dict())
    return made


def get_weather(city: Literal["Rome", "Oslo"], days: int = 1) -> str:
    """Says the weather.

    Of the next days.

    Args:
        city: where,
            in Europe.
        days (int): how many of them.

    Returns:
        Words.
    """
    raise AssertionError("nothing is called")


class Stop(BaseModel):
    """Ends the talk."""

    reason: Literal["done", "lost"]


BOOK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "book",
        "description": "Books a table.",
        "parameters": {
            "type": "object",
            "properties": {"seats": {"type": "integer", "minimum": 1, "maximum": 8}},
            "required": ["seats"],
        },
    },
}
TOOLS: list[Any] = [get_weather, Stop, BOOK]
CHECKS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "get_weather": lambda a: a["city"] in ("Rome", "Oslo") and isinstance(a["days"], int),
    "Stop": lambda a: a["reason"] in ("done", "lost"),
    "book": lambda a: 1 <= a["seats"] <= 8,
}


def writing(*texts: str) -> Any:
    left = iter(texts)
    return lambda *_, **__: [*TOKENIZER(next(left))["input_ids"], EOS]


# --- with a model ---------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("tokenizer", [TOKENIZER, CHAT, HERMES], ids=["plain", "chat", "hermes"])
def test_calls_are_valid(call: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    names = set()
    for seed in range(4):
        options = {"seed": seed} if call is samplers.call else {}
        found = call(
            model(), tokenizer, "Rain?", TOOLS, tool_choice="required", temperature=1.5,
            max_new_tokens=90, **options,
        )  # fmt: skip
        assert found
        assert found.text == ""
        assert found.tokens[-1] == EOS
        for one in found:
            assert isinstance(one, ToolCall)
            assert CHECKS[one.name](one.arguments), one
            names.add(one.name)
    assert len(names) > 1


@BOTH
def test_choices(call: Any) -> None:
    options: dict[str, Any] = {"max_new_tokens": 80}
    (one,) = call(model(), HERMES, "Rain?", TOOLS, tool_choice="book", parallel=False, **options)
    assert one.name == "book"
    found = call(model(), HERMES, "Rain?", TOOLS, tool_choice="none", **options)
    assert found == []
    assert found.text
    assert found.text in found.raw
    function = {"type": "function", "function": {"name": "Stop"}}
    found = call(model(), HERMES, "Rain?", TOOLS, tool_choice=function, parallel=False, **options)
    assert [one.name for one in found] == ["Stop"]
    found = call(model(), HERMES, "Rain?", [], **options)
    assert found == []
    assert repr(found).startswith("ToolCalls([], text=")


@pytest.mark.parametrize("form", ["harmony", "mistral", "kimi_k2", "hermes", "llama3", "json"])
@BOTH
def test_formats_with_and_without_tokens_of_their_own(call: Any, form: str) -> None:
    """Markers that are special tokens of the tokenizer are written as such, and read back."""
    for tokenizer, larger in ((TOKENIZER, model()), with_markers(form)):
        found = call(
            larger, tokenizer, "Rain?", [BOOK], format=form, tool_choice="required",
            parallel=False, max_new_tokens=160,
        )  # fmt: skip
        assert [one.name for one in found] == ["book"]
        assert 1 <= found[0].arguments["seats"] <= 8


@cache
def with_markers(form: str) -> tuple[Any, LlamaForCausalLM]:
    made = make_tokenizer()
    special = [AddedToken(m, special=True) for m in sorted(FORMATS[form].special)]
    if special:
        made.add_special_tokens({"additional_special_tokens": special})
    larger = copy.deepcopy(model())
    if form == "harmony":  # as gpt-oss has it
        ends = [
            EOS,
            made.convert_tokens_to_ids("<|call|>"),
            made.convert_tokens_to_ids("<|return|>"),
        ]
        larger.generation_config.eos_token_id = ends
    return made, larger


@BOTH
def test_a_section_of_reasoning(call: Any) -> None:
    found = call(
        model(), HERMES, "Rain?", [BOOK], tool_choice="required", reasoning=True, max_new_tokens=90
    )
    assert "</think>" in found.raw
    assert "think>" not in found.reasoning
    assert found[0].name == "book"


def test_streamers_and_names_of_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("model")
    model().save_pretrained(folder)
    HERMES.save_pretrained(folder)
    told: list[int] = []

    class Streamer:
        ends = 0

        def put(self, value: torch.Tensor) -> None:
            told.extend(value.flatten().tolist())

        def end(self) -> None:
            self.ends += 1

    streamer = Streamer()
    options: dict[str, Any] = {"tool_choice": "book", "max_new_tokens": 60, "streamer": streamer}
    found = constrain.call(str(folder), None, "Rain?", TOOLS, **options)
    assert told[-len(found.tokens) :] == found.tokens
    assert streamer.ends == 1


# --- what is said and read ------------------------------------------------------------------------


def test_text_and_calls_are_told_apart() -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_weather", {"city": "Rome", "days": 3}),
        ("Stop", {"reason": "done"}),
    ]
    text = RENDER["hermes"](calls, "I will look.", None)
    found = constrain.call(model(), HERMES, "Rain?", TOOLS, generate=writing(text))
    assert found == [ToolCall(*one) for one in calls]
    assert (found.text, found.raw, found.reasoning) == ("I will look.", text, "")
    found = constrain.call(model(), HERMES, "Rain?", TOOLS, generate=writing("It rains."))
    assert (list(found), found.text) == ([], "It rains.")
    text = RENDER["json"](calls, "", None)
    found = constrain.call(model(), CHAT, "Rain?", TOOLS, generate=writing(text))
    assert found == [ToolCall(*one) for one in calls]


def prompt_of(tokenizer: Any, messages: Any, tools: Any, **options: Any) -> str:
    seen: list[str] = []

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **_: Any) -> list[int]:
        seen.append(TOKENIZER.decode(input_ids[0]))
        return [EOS]

    constrain.call(model(), tokenizer, messages, tools, generate=write, **options)
    return seen[0]


def test_the_chat_template_is_given_the_tools() -> None:
    prompt = prompt_of(HERMES, "Rain?", TOOLS)
    told, rest = prompt.removeprefix("<|tools|>").split("<|user|>")
    assert rest == "Rain?\n<|assistant|>"
    decoder = json.JSONDecoder()
    specs, at = [], 0
    while at < len(told):
        spec, at = decoder.raw_decode(told, at)
        specs.append(spec)
    assert [spec["function"]["name"] for spec in specs] == ["get_weather", "Stop", "book"]
    weather = specs[0]["function"]
    assert weather["description"] == "Says the weather.\n\nOf the next days."
    told_of = {k: v["description"] for k, v in weather["parameters"]["properties"].items()}
    assert told_of == {"city": "where, in Europe.", "days": "how many of them."}
    assert specs[1]["function"]["description"] == "Ends the talk."
    assert specs[2] == BOOK
    assert prompt_of(HERMES, "Rain?", []) == "<|user|>Rain?\n<|assistant|>"


@pytest.mark.parametrize(
    ("choice", "said"),
    [("auto", "answer in words"), ("required", "have to call"), ("none", "without calling")],
)
def test_other_models_are_told_in_words(choice: str, said: str) -> None:
    prompt = prompt_of(CHAT, "Rain?", TOOLS, tool_choice=choice)
    assert prompt.startswith("<|system|>You have these tools:\n")
    assert prompt.endswith("<|user|>Rain?\n<|assistant|>")
    assert said in prompt
    assert '"name": "get_weather"' in prompt
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"}]
    prompt = prompt_of(CHAT, messages, TOOLS)
    assert prompt.startswith("<|system|>Be brief.\n\nYou have these tools:")
    assert prompt_of(TOKENIZER, messages, []) == "system: Be brief.\n\nuser: Rain?\n\nassistant: "


def test_calls_and_results_of_before_in_words() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    told = instructed(
        [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42"},
        ],
        [],
        "auto",
    )
    assert [message["content"] for message in told] == [
        "Go.",
        '{"tool_calls": [{"name": "f", "arguments": {"a": 1}}]}',
        "Result of f: 42",
    ]
    assert [message["role"] for message in told] == ["user", "assistant", "user"]


# --- functions and types --------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: int = 0


def test_arguments_are_python_values() -> None:
    def book(day: date, at: Point, *, seats: Annotated[int, Field(ge=1)] = 2) -> None:
        """Books."""

    text = '{"tool_calls": [{"name": "book", "arguments": {"day": "2026-11-29", "at": {"x": 1, "y": 2}}}]}'
    (found,) = constrain.call(model(), CHAT, "Rain?", [book], generate=writing(text))
    assert found.arguments == {"day": date(2026, 11, 29), "at": Point(1, 2), "seats": 2}
    book(**found.arguments)
    text = '{"tool_calls": [{"name": "Point", "arguments": {"x": 1}}]}'
    (found,) = constrain.call(model(), CHAT, "Rain?", [Point], generate=writing(text))
    assert Point(**found.arguments) == Point(1)
    (tool,) = known_tools([Point])
    assert tool.spec["function"]["description"] == ""


def test_methods_and_functions_with_further_keywords() -> None:
    class Shop:
        def buy(self, what: str, **rest: int) -> None:
            """Buys."""

    (tool,) = known_tools([Shop().buy])
    assert tool.validate('{"what": "tea", "cups": 2}') == {"what": "tea", "cups": 2}
    assert tool.validate('{"what": "tea"}') == {"what": "tea"}
    with pytest.raises(ValidationError):
        tool.validate('{"what": "tea", "cups": "many"}')


def even(value: int) -> int:
    if value % 2:
        raise ValueError("not even")
    return value


def test_a_validator_of_ones_own_may_refuse() -> None:
    def take(count: Annotated[int, AfterValidator(even)]) -> None:
        """Takes."""

    texts = [
        f'{{"tool_calls": [{{"name": "take", "arguments": {{"count": {n}}}}}]}}' for n in (1, 3, 4)
    ]
    with pytest.raises(ValidationError, match="not even") as told:
        constrain.call(model(), CHAT, "Go.", [take], generate=writing(*texts), retries=1)
    assert told.value.__notes__ == ["in the arguments of a call of 'take'"]
    found = constrain.call(model(), CHAT, "Go.", [take], generate=writing(*texts), retries=2)
    assert found == [ToolCall("take", {"count": 4})]


# --- what cannot be done --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("tools", "options", "kind", "message"),
    [
        ([BOOK], {"tool_choice": "nope"}, GrammarError, "'nope', which is no tool"),
        ([], {"tool_choice": "required"}, GrammarError, "no tools"),
        ([BOOK, BOOK], {}, GrammarError, "two tools of this name"),
        ([3], {}, TypeError, "a tool is a mapping"),
        (BOOK, {}, TypeError, "tools is a list of tools"),
        ([BOOK], {"format": "nonsense"}, ValueError, "no tool format; there are llama3"),
        ([BOOK], {"tool_choice": "book", "max_new_tokens": 4}, BudgetError, "at least"),
        ([BOOK], {"messages": 3}, TypeError, "call reads chat messages"),
        ([BOOK], {"retries": -1}, ValueError, "retries=-1"),
        ([lambda *args: args], {}, GrammarError, "has no name in a call"),
        ([lambda city: city], {}, GrammarError, r"'city' has no type, .* annotate it \(city: str"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_refused(
    call: Any, tools: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    options = dict(options)
    messages = options.pop("messages", "Rain?")
    with pytest.raises(kind, match=message):
        call(model(), HERMES, messages, tools, **options)


def test_nothing_is_written_before_arguments_are_checked() -> None:
    with counted() as forwards, pytest.raises(GrammarError):
        constrain.call(small_model(), CHAT, "a", [BOOK], tool_choice="nope")
    assert forwards == []


def test_every_answer_is_of_the_grammar() -> None:
    grammar = Grammar.from_tools([one.spec for one in known_tools(TOOLS)], format="hermes")
    torch.manual_seed(3)
    for _ in range(3):
        found = constrain.call(model(), HERMES, "Rain?", TOOLS, temperature=1.0, max_new_tokens=60)
        assert grammar.accepts(found.raw)
