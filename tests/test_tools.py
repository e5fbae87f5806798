"""Tool calls of model families: renderings are accepted, samples are read back, wrong calls are refused.

Renderings follow each family's chat template, which the docstrings in ``grammars/tools`` name; readers
are regular expressions of their own and know nothing of the grammars.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel

from constrain import TokenAutomaton, Vocabulary
from constrain.models import ModelUnavailable, load_tokenizer
from grammars import Grammar, GrammarError, SpecialToken, tool_format_of
from grammars.tools.formats import FORMATS

Call = tuple[str, dict[str, Any]]

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city"],
}
ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "maxItems": 3},
        "express": {"type": "boolean"},
        "note": {"type": ["string", "null"], "maxLength": 20},
    },
    "required": ["items", "express"],
    "$defs": {
        "item": {
            "type": "object",
            "properties": {
                "sku": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"},
                "n": {"type": "integer"},
            },
            "required": ["sku", "n"],
        }
    },
}
WRITE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "minLength": 1},
        "content": {"type": "string"},
        "mode": {"const": "w"},
        "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "required": ["path", "content"],
}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}


def _openai(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": "does it", "parameters": schema, "strict": True}
    return {"type": "function", "function": function}


TOOL_SETS: tuple[tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[Call]], ...] = (
    (
        [_openai("get_weather", WEATHER)],
        {"get_weather": WEATHER},
        [
            ("get_weather", {"city": "São Paulo"}),
            ("get_weather", {"city": "Rome", "days": 3, "unit": "celsius"}),
        ],
    ),
    (
        [{"name": "order", "input_schema": ORDER}, {"name": "list_orders"}],
        {"order": ORDER, "list_orders": EMPTY},
        [
            ("order", {"items": [{"sku": "AB12", "n": 2}], "express": False, "note": "by noon"}),
            ("list_orders", {}),
        ],
    ),
    (
        [
            _openai("write_file", WRITE),
            _openai("get_weather", WEATHER),
            {"name": "stop", "inputSchema": EMPTY},
        ],
        {"write_file": WRITE, "get_weather": WEATHER, "stop": EMPTY},
        [
            ("write_file", {"path": "a.py", "content": 'if a < b:\n    print("x")\n', "size": 1.5}),
            ("get_weather", {"city": "Rome"}),
            ("stop", {}),
        ],
    ),
)


# -- renderings --------------------------------------------------------------------------------------


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raw(value: Any) -> str:
    """A value between tags: strings as they are, others as JSON."""
    return value if isinstance(value, str) else _dumps(value)


def _think(reasoning: str | None) -> str:
    return "" if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n"


def render_hermes(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    blocks = [
        f'<tool_call>\n{{"name": "{n}", "arguments": {_dumps(a)}}}\n</tool_call>' for n, a in calls
    ]
    return _think(reasoning) + "\n".join([content] * bool(content) + blocks)


def render_llama3(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    ((name, arguments),) = calls
    return _think(reasoning) + content + f'{{"name": "{name}", "parameters": {_dumps(arguments)}}}'


def render_qwen3_coder(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    text = _think(reasoning) + content
    for number, (name, arguments) in enumerate(calls):
        text += "\n" if number or content else ""
        text += f"<tool_call>\n<function={name}>\n"
        text += "".join(f"<parameter={k}>\n{_raw(v)}\n</parameter>\n" for k, v in arguments.items())
        text += "</function>\n</tool_call>"
    return text


def render_glm45(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    text = "" if reasoning is None else f"\n<think>{reasoning}</think>"
    text += f"\n{content}" if content else ""
    for name, arguments in calls:
        pairs = "".join(
            f"<arg_key>{k}</arg_key>\n<arg_value>{_raw(v)}</arg_value>\n"
            for k, v in arguments.items()
        )
        text += f"\n<tool_call>{name}\n{pairs}</tool_call>"
    return text


def render_glm47(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    text = ("" if reasoning is None else f"<think>{reasoning}</think>") + content
    for name, arguments in calls:
        pairs = "".join(
            f"<arg_key>{k}</arg_key><arg_value>{_raw(v)}</arg_value>" for k, v in arguments.items()
        )
        text += f"<tool_call>{name}{pairs}</tool_call>"
    return text


def render_deepseek_v3(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    listed = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{_dumps(a)}\n```<｜tool▁call▁end｜>"
        for n, a in calls
    )
    return _think(reasoning) + f"{content}<｜tool▁calls▁begin｜>{listed}<｜tool▁calls▁end｜>"


def render_deepseek_v31(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    thought = "" if reasoning is None else f"{reasoning}</think>"
    listed = "".join(
        f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{_dumps(a)}<｜tool▁call▁end｜>" for n, a in calls
    )
    return f"{thought}{content}<｜tool▁calls▁begin｜>{listed}<｜tool▁calls▁end｜>"


def _dsml(block: str) -> Callable[[Sequence[Call], str, str | None], str]:
    def render(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
        thought = "" if reasoning is None else f"{reasoning}</think>"
        text = f"{thought}{content}\n\n<｜DSML｜{block}>\n"
        for name, arguments in calls:
            text += f'<｜DSML｜invoke name="{name}">\n'
            for key, value in arguments.items():
                kind = "true" if isinstance(value, str) else "false"
                text += f'<｜DSML｜parameter name="{key}" string="{kind}">'
                text += f"{_raw(value)}</｜DSML｜parameter>\n"
            text += "</｜DSML｜invoke>\n"
        return text + f"</｜DSML｜{block}>"

    return render


def render_mistral(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    thought = "" if reasoning is None else f"[THINK]{reasoning}[/THINK]"
    listed = [{"name": n, "arguments": a, "id": "a1B2c3D4e"} for n, a in calls]
    return f"{thought}{content}[TOOL_CALLS]{_dumps(listed)}"


def render_mistral_args(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    thought = "" if reasoning is None else f"[THINK]{reasoning}[/THINK]"
    return thought + content + "".join(f"[TOOL_CALLS]{n}[ARGS]{_dumps(a)}" for n, a in calls)


def render_kimi_k2(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    listed = "".join(
        f"<|tool_call_begin|>functions.{n}:{i}<|tool_call_argument_begin|>{_dumps(a)}<|tool_call_end|>"
        for i, (n, a) in enumerate(calls)
    )
    thought = "" if reasoning is None else f"<think>{reasoning}</think>"
    return f"{thought}{content}<|tool_calls_section_begin|>{listed}<|tool_calls_section_end|>"


def render_minimax_m1(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    lines = "".join(f"{_dumps({'name': n, 'arguments': a})}\n" for n, a in calls)
    return f"{_think(reasoning)}{content}\n<tool_calls>\n{lines}</tool_calls>"


def render_minimax_m2(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    text = f"{_think(reasoning)}{content}\n<minimax:tool_call>\n"
    for name, arguments in calls:
        pairs = "".join(
            f'<parameter name="{k}">{_raw(v)}</parameter>\n' for k, v in arguments.items()
        )
        text += f'<invoke name="{name}">\n{pairs}</invoke>\n'
    return text + "</minimax:tool_call>"


def render_cohere(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    assert not content  # a plan takes its place
    thought = "" if reasoning is None else f"<|START_THINKING|>{reasoning}<|END_THINKING|>"
    listed = ",\n".join(
        f'    {{"tool_call_id": "{i}", "tool_name": "{n}", "parameters": {_dumps(a)}}}'
        for i, (n, a) in enumerate(calls)
    )
    return f"{thought}<|START_ACTION|>[\n{listed}\n]<|END_ACTION|>"


def render_cohere_r(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    assert reasoning is None
    listed = [{"tool_name": n, "parameters": a} for n, a in calls]
    return f"{content}Action: ```json\n{json.dumps(listed, indent=2, ensure_ascii=False)}\n```"


def render_harmony(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    ((name, arguments),) = calls
    text = ""
    if reasoning is not None:
        text += f"<|channel|>analysis<|message|>{reasoning}<|end|><|start|>assistant"
    if content:
        text += f"<|channel|>commentary<|message|>{content}<|end|><|start|>assistant"
    text += f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
    return text + _dumps(arguments) + "<|call|>"


def render_json(calls: Sequence[Call], content: str, reasoning: str | None) -> str:
    listed = [{"name": n, "arguments": a} for n, a in calls]
    return _think(reasoning) + content + _dumps({"tool_calls": listed})


RENDER: dict[str, Callable[[Sequence[Call], str, str | None], str]] = {
    "json": render_json,
    "llama3": render_llama3,
    "hermes": render_hermes,
    "qwen3_coder": render_qwen3_coder,
    "glm45": render_glm45,
    "glm47": render_glm47,
    "deepseek_v3": render_deepseek_v3,
    "deepseek_v31": render_deepseek_v31,
    "deepseek_v32": _dsml("function_calls"),
    "deepseek_v4": _dsml("tool_calls"),
    "mistral": render_mistral,
    "mistral_args": render_mistral_args,
    "kimi_k2": render_kimi_k2,
    "minimax_m1": render_minimax_m1,
    "minimax_m2": render_minimax_m2,
    "cohere": render_cohere,
    "cohere_r": render_cohere_r,
    "harmony": render_harmony,
}
ONE_CALL = {"llama3", "harmony"}
NO_CONTENT = {"cohere"}
NO_REASONING = {"cohere_r"}


# -- readers -----------------------------------------------------------------------------------------


def _objects(name: str, arguments: str) -> Callable[[list[Any]], list[Call]]:
    return lambda found: [(x[name], x[arguments]) for x in found]


def _typed(pairs: list[tuple[str, str]], schema: dict[str, Any]) -> dict[str, Any]:
    """Values between tags: JSON where that is what the schema wants, else a string as it is."""
    out = {}
    for key, value in pairs:
        told = schema["properties"][key]
        try:
            other = json.loads(value.lower() if value in ("True", "False") else value)
            jsonschema.validate(other, {**told, "$defs": schema.get("$defs", {})})
            out[key] = other
        except (json.JSONDecodeError, jsonschema.ValidationError):
            out[key] = value
    return out


def _read_hermes(text: str, _schemas: dict[str, Any]) -> list[Call]:
    found = re.findall(r"<tool_call>(.*?)</tool_call>", text, re.S)
    return _objects("name", "arguments")([json.loads(x) for x in found])


def _read_llama3(text: str, _schemas: dict[str, Any]) -> list[Call]:
    return _objects("name", "parameters")([json.loads(text[text.index('{"name":') :])])


def _read_tags(call: str, pair: str) -> Callable[[str, dict[str, Any]], list[Call]]:
    def read(text: str, schemas: dict[str, Any]) -> list[Call]:
        found = re.findall(call, text, re.S)
        return [(n, _typed(re.findall(pair, inner, re.S), schemas[n])) for n, inner in found]

    return read


def _read_dsml(text: str, _schemas: dict[str, Any]) -> list[Call]:
    out = []
    for name, inner in re.findall(
        r'<｜DSML｜invoke name="(.*?)">\n(.*?)</｜DSML｜invoke>', text, re.S
    ):
        pairs = re.findall(
            r'<｜DSML｜parameter name="(.*?)" string="(true|false)">(.*?)</｜DSML｜parameter>',
            inner,
            re.S,
        )
        out.append((name, {k: v if kind == "true" else json.loads(v) for k, kind, v in pairs}))
    return out


def _read_names(pattern: str) -> Callable[[str, dict[str, Any]], list[Call]]:
    def read(text: str, _schemas: dict[str, Any]) -> list[Call]:
        return [(n, json.loads(a)) for n, a in re.findall(pattern, text, re.S)]

    return read


def _read_mistral_args(text: str, _schemas: dict[str, Any]) -> list[Call]:
    out = []
    for part in text.split("[TOOL_CALLS]")[1:]:
        head, arguments = part.split("[ARGS]", 1)
        out.append((head.split("[CALL_ID]")[0], json.loads(arguments)))
    return out


def _read_lines(text: str, _schemas: dict[str, Any]) -> list[Call]:
    (inner,) = re.findall(r"<tool_calls>\n(.*)\n</tool_calls>", text, re.S)
    return _objects("name", "arguments")([json.loads(line) for line in inner.split("\n")])


def _read_list(begin: str, end: str, name: str, arguments: str) -> Callable[[str, Any], list[Call]]:
    def read(text: str, _schemas: dict[str, Any]) -> list[Call]:
        inner = text.split(begin, 1)[1]
        inner = inner[: inner.rindex(end)] if end else inner
        return _objects(name, arguments)(json.loads(inner))

    return read


READ: dict[str, Callable[[str, dict[str, Any]], list[Call]]] = {
    "json": lambda text, _: _objects("name", "arguments")(json.loads(text)["tool_calls"]),
    "llama3": _read_llama3,
    "hermes": _read_hermes,
    "qwen3_coder": _read_tags(
        r"<tool_call>\n<function=(.*?)>\n(.*?)</function>\n</tool_call>",
        r"<parameter=(.*?)>\n(.*?)\n</parameter>\n",
    ),
    "glm45": _read_tags(
        r"<tool_call>(.*?)\n(.*?)</tool_call>",
        r"<arg_key>(.*?)</arg_key>\n<arg_value>(.*?)</arg_value>\n",
    ),
    "glm47": _read_tags(
        r"<tool_call>([^<]*)(.*?)</tool_call>",
        r"<arg_key>(.*?)</arg_key><arg_value>(.*?)</arg_value>",
    ),
    "deepseek_v3": _read_names(
        r"<｜tool▁call▁begin｜>function<｜tool▁sep｜>(.*?)\n```json\n(.*?)\n```<｜tool▁call▁end｜>"
    ),
    "deepseek_v31": _read_names(
        r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>"
    ),
    "deepseek_v32": _read_dsml,
    "deepseek_v4": _read_dsml,
    "mistral": _read_list("[TOOL_CALLS]", "", "name", "arguments"),
    "mistral_args": _read_mistral_args,
    "kimi_k2": _read_names(
        r"<\|tool_call_begin\|>functions\.(.*?):[0-9]+<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>"
    ),
    "minimax_m1": _read_lines,
    "minimax_m2": _read_tags(
        r'<invoke name="(.*?)">\n(.*?)</invoke>\n', r'<parameter name="(.*?)">(.*?)</parameter>\n'
    ),
    "cohere": _read_list("<|START_ACTION|>", "<|END_ACTION|>", "tool_name", "parameters"),
    "cohere_r": _read_list("```json", "```", "tool_name", "parameters"),
    "harmony": _read_names(r"to=functions\.([^<\s]+).*?<\|message\|>(.*?)<\|call\|>"),
}


@cache
def _grammar(number: int, form: str, choice: str) -> Grammar:
    return Grammar.from_tools(TOOL_SETS[number][0], format=form, tool_choice=choice)


def test_every_format_is_tested() -> None:
    assert set(RENDER) == set(READ) == set(FORMATS)


def _calls(form: str, calls: list[Call]) -> list[list[Call]]:
    """What of some calls a message of a format may have."""
    return [[call] for call in calls] if form in ONE_CALL else [[call] for call in calls] + [calls]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", range(len(TOOL_SETS)))
def test_renderings_of_the_template_are_accepted(form: str, number: int) -> None:
    calls = TOOL_SETS[number][2]
    required, auto = _grammar(number, form, "required"), _grammar(number, form, "auto")
    for some in _calls(form, calls):
        text = RENDER[form](some, "", None)
        assert required.accepts(text), str(required.explain(text))
        assert auto.accepts(text), str(auto.explain(text))
        named = _grammar(number, form, some[0][0])
        assert named.accepts(text) == ({name for name, _ in some} == {some[0][0]})
        if form not in NO_CONTENT:
            text = RENDER[form](some, "I will look that up. ", None)
            assert auto.accepts(text), str(auto.explain(text))
            assert required.accepts(text) == (
                form == "harmony"
            )  # where a word to the user is a message
    assert auto.accepts("No tool is needed: 3 < 4.") == (form != "harmony")


@pytest.mark.parametrize("form", sorted(set(FORMATS) - NO_REASONING))
def test_reasoning_comes_first(form: str) -> None:
    tools, _, calls = TOOL_SETS[0]
    thought = RENDER[form](calls[:1], "", "They want the weather;\n2 < 3.")
    bare = RENDER[form](calls[:1], "", None)
    for reasoning in (True, "optional", None):
        for choice in ("auto", "required"):
            grammar = Grammar.from_tools(
                tools, format=form, tool_choice=choice, reasoning=reasoning
            )
            assert grammar.accepts(thought) == (reasoning is not None), reasoning
            assert grammar.accepts(bare) == (reasoning is not True), reasoning


def test_reasoning_may_have_been_opened_by_the_prompt() -> None:
    tools, _, calls = TOOL_SETS[0]
    grammar = Grammar.from_tools(tools, format="hermes", reasoning=True)
    thought = RENDER["hermes"](calls[:1], "", "They want the weather.")
    assert grammar.accepts(thought.removeprefix("<think>\n"))
    assert not grammar.accepts(thought.replace("They", "<think>They"))
    with pytest.raises(GrammarError, match="no section of reasoning"):
        Grammar.from_tools(tools, format="cohere_r", reasoning=True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", range(len(TOOL_SETS)))
def test_samples_are_read_back(form: str, number: int) -> None:
    check_samples(form, number, range(6))


def check_samples(form: str, number: int, seeds: Iterable[int]) -> None:
    """Reads samples back with a reader that knows nothing of the grammar; validates arguments."""
    grammar, schemas = _grammar(number, form, "required"), TOOL_SETS[number][1]
    for seed in seeds:
        text = grammar.sample(seed).decode()
        calls = READ[form](text, schemas)
        assert calls, text
        for name, arguments in calls:
            jsonschema.validate(arguments, schemas[name])
            assert set(arguments) <= set(schemas[name]["properties"])


@pytest.mark.parametrize("form", FORMATS)
def test_wrong_calls_are_refused(form: str) -> None:
    required, auto = _grammar(0, form, "required"), _grammar(0, form, "auto")
    wrong: list[Call] = [
        ("get_weathers", {"city": "Rome"}),
        ("get_weathe", {"city": "Rome"}),
        ("", {"city": "Rome"}),
        ("get_weather", {}),
        ("get_weather", {"days": 3}),
        ("get_weather", {"city": "Rome", "days": 8}),
        ("get_weather", {"city": "Rome", "days": "three"}),
        ("get_weather", {"city": "Rome", "unit": "kelvin"}),
        ("get_weather", {"city": "Rome", "country": "IT"}),
    ]
    assert required.accepts(RENDER[form]([("get_weather", {"city": "Rome"})], "", None))
    for call in wrong:
        text = RENDER[form]([call], "", None)
        assert not required.accepts(text), text
        assert not auto.accepts(text), text
    none = _grammar(0, form, "none")
    assert not none.accepts(RENDER[form]([("get_weather", {"city": "Rome"})], "", None))
    assert none.accepts(none.sample(1).decode())


@pytest.mark.parametrize("form", sorted(set(FORMATS) - ONE_CALL))
def test_one_call_where_parallel_calls_are_not_wanted(form: str) -> None:
    tools, _, calls = TOOL_SETS[0]
    grammar = Grammar.from_tools(tools, format=form, parallel=False)
    assert grammar.accepts(RENDER[form](calls[:1], "", None))
    assert not grammar.accepts(RENDER[form](calls, "", None))


# -- special tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [name for name, f in FORMATS.items() if f.special])
def test_markers_are_single_tokens(form: str) -> None:
    """Along a rendering that is cut into bytes and special tokens every id is in the mask."""
    markers = FORMATS[form].markers
    names = {name: 256 + i for i, name in enumerate(sorted(markers))}
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)]
    tokens += [None] * (len(names) + 1)
    vocabulary = Vocabulary.from_tokens(tokens, [256 + len(names)], special_tokens=names)
    calls, grammar = TOOL_SETS[0][2], _grammar(0, form, "required")
    automaton = TokenAutomaton(grammar, vocabulary)
    text = RENDER[form](calls[:1], "", None)
    parts = re.split("(" + "|".join(map(re.escape, sorted(FORMATS[form].special))) + ")", text)
    ids = [i for p in parts for i in ([names[p]] if p in names else p.encode())]
    assert any(i >= 256 for i in ids)
    state = automaton.start
    row = np.zeros((vocabulary.size + 31) // 32, np.uint32)
    for token in ids:
        automaton.fill_mask(state, row)
        assert row[token // 32] >> (token % 32) & 1
        state = automaton.advance(state, token)
    assert automaton.is_accepting(state)
    spelled = automaton.advance_bytes(automaton.start, text.encode())
    assert spelled == automaton.DEAD  # the same text in ordinary tokens is no call
    assert grammar.accepts([SpecialToken(p) if p in names else p for p in parts])


REAL = {
    "harmony": "o200k",
    "hermes": "qwen2.5",
    "qwen3_coder": "qwen2.5",
    "mistral": "mistral-nemo",
    "llama3": "llama3",
}
"""Formats, and a tokenizer of a family that writes them."""


@cache
def _tokenizer(name: str) -> tuple[Any, Vocabulary]:
    try:
        tokenizer = load_tokenizer(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    return tokenizer, Vocabulary.from_huggingface(tokenizer)


@cache
def _automaton(number: int, form: str) -> TokenAutomaton:
    return TokenAutomaton(_grammar(number, form, "required"), _tokenizer(REAL[form])[1])


@pytest.mark.parametrize("form", REAL)
@pytest.mark.parametrize("number", range(len(TOOL_SETS)))
def test_calls_in_the_tokens_of_the_family(form: str, number: int) -> None:
    """Every id of the tokenizer's own encoding is in the mask, markers being single ids of it."""
    tokenizer, vocabulary = _tokenizer(REAL[form])
    automaton, markers = _automaton(number, form), FORMATS[form].markers
    row = np.zeros((vocabulary.size + 31) // 32, np.int32)

    def bit(state: int, token: int) -> bool:
        automaton.fill_mask(state, row)
        return bool(row[token >> 5] >> (token & 31) & 1)

    for calls in _calls(form, TOOL_SETS[number][2]):
        text = RENDER[form](calls, "", None)
        ids = tokenizer.encode(text, add_special_tokens=False)
        written = [m for m in markers if m in text]
        single = {tokenizer.convert_tokens_to_ids(m) for m in written}
        assert bool(written) == (form != "llama3")
        assert single <= set(ids)
        state = automaton.start
        for token in ids:
            assert bit(state, token), (text, tokenizer.decode([token]))
            state = automaton.advance(state, token)
        assert automaton.is_accepting(state)
        assert all(bit(state, token) for token in vocabulary.eos_token_ids)
        name = calls[0][0]
        wrong = tokenizer.encode(text.replace(name, name[:-1], 1), add_special_tokens=False)
        state = automaton.start
        for token in wrong:
            state = automaton.advance(state, token)
        assert state == automaton.DEAD
        for marker in single & {tokenizer.convert_tokens_to_ids(m) for m in FORMATS[form].special}:
            at = ids.index(marker)
            state = automaton.start
            for token in ids[:at]:
                state = automaton.advance(state, token)
            spelled = tokenizer.convert_ids_to_tokens(marker).encode()
            assert automaton.advance_bytes(state, spelled + b"x") == automaton.DEAD


@pytest.mark.parametrize("form", REAL)
def test_random_tokens_of_the_family_are_calls(form: str) -> None:
    """Texts of random tokens within a budget, read back by a reader that knows nothing of the grammar."""
    tokenizer, vocabulary = _tokenizer(REAL[form])
    for number, (_, schemas, _) in enumerate(TOOL_SETS):
        automaton = _automaton(number, form)
        rng = np.random.default_rng(number)
        ids, state = [], automaton.start
        for left in range(120, 0, -1):
            row = automaton.mask(state, left)
            allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
            token = int(rng.choice(allowed))
            if token in vocabulary.eos_token_ids:
                break
            ids.append(token)
            state = automaton.advance(state, token)
        assert automaton.is_accepting(state)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        calls = READ[form](text, schemas)
        assert calls, text
        for name, arguments in calls:
            jsonschema.validate(arguments, schemas[name])


def test_markers_can_be_texts() -> None:
    tools, _, calls = TOOL_SETS[0]
    grammar = Grammar.from_tools(tools, format="mistral", special=())
    text = RENDER["mistral"](calls, "", None)
    assert grammar.tokens == ()
    assert grammar.accepts(text.encode())
    hermes = Grammar.from_tools(
        tools, format="hermes", special=["<tool_call>", "</tool_call>", "<s>"]
    )
    assert set(hermes.tokens) == {"<tool_call>", "</tool_call>"}


# -- tools and choices ---------------------------------------------------------------------------------


class Reminder(BaseModel):
    """A pydantic model is a tool of its own name."""

    text: str
    minutes: int = 5


def set_volume(level: int, room: Literal["kitchen", "hall"] = "hall") -> None:
    """A function is a tool of its own name."""


def test_tools_from_python() -> None:
    grammar = Grammar.from_tools([Reminder, set_volume], format="hermes", tool_choice="required")
    render = RENDER["hermes"]
    assert grammar.accepts(render([("Reminder", {"text": "tea", "minutes": 3})], "", None))
    assert grammar.accepts(render([("set_volume", {"level": 3, "room": "kitchen"})], "", None))
    assert grammar.accepts(render([("set_volume", {"level": 3})], "", None))
    assert not grammar.accepts(render([("set_volume", {"level": 3, "room": "attic"})], "", None))
    assert not grammar.accepts(render([("set_volume", {})], "", None))


def test_choices() -> None:
    tools = TOOL_SETS[2][0]
    other = RENDER["hermes"]([("get_weather", {"city": "Rome"})], "", None)
    stop = RENDER["hermes"]([("stop", {})], "", None)
    for choice in (
        "stop",
        {"type": "function", "function": {"name": "stop"}},
        {"type": "tool", "name": "stop"},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"name": "stop"}]},
        },
    ):
        grammar = Grammar.from_tools(tools, format="hermes", tool_choice=choice)
        assert grammar.accepts(stop)
        assert not grammar.accepts(other)
        assert not grammar.accepts("text")
    for choice in ("required", "any", {"type": "any"}):
        grammar = Grammar.from_tools(tools, format="hermes", tool_choice=choice)
        assert grammar.accepts(other)
        assert not grammar.accepts("text")
    none = Grammar.from_tools([], format="hermes")
    assert none.accepts("text")
    assert not none.accepts(other)


def test_errors_name_tool_and_place() -> None:
    bad = _openai("broken", {"type": "object", "properties": {"a": {"type": "strng"}}})
    with pytest.raises(GrammarError, match="'broken'") as error:
        Grammar.from_tools([_openai("fine", WEATHER), bad], format="hermes")
    assert error.value.pointer == "/1/function/parameters/properties/a/type"
    with pytest.raises(GrammarError, match="two tools"):
        Grammar.from_tools([_openai("a", WEATHER), _openai("a", WEATHER)], format="hermes")
    with pytest.raises(GrammarError, match="must be an object"):
        Grammar.from_tools([_openai("a", {"type": "array"})], format="hermes")
    with pytest.raises(GrammarError, match="name"):
        Grammar.from_tools([{"type": "function", "function": {}}], format="hermes")
    with pytest.raises(GrammarError, match="'a b'"):
        Grammar.from_tools([_openai("a b", WEATHER)], format="qwen3_coder")
    with pytest.raises(GrammarError, match="'nope'"):
        Grammar.from_tools([_openai("a", WEATHER)], format="hermes", tool_choice="nope")
    with pytest.raises(GrammarError, match="no tools"):
        Grammar.from_tools([], format="hermes", tool_choice="required")
    with pytest.raises(ValueError, match="there are llama3"):
        Grammar.from_tools([], format="nope")
    with pytest.raises(ValueError, match="reasoning"):
        Grammar.from_tools([], format="hermes", reasoning="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Grammar.from_tools([3], format="hermes")  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Grammar.from_tools("get_weather", format="hermes")  # type: ignore[arg-type]


def test_a_text_between_tags_cannot_end_them() -> None:
    tools = TOOL_SETS[2][0]
    for form in ("qwen3_coder", "glm45", "minimax_m2", "deepseek_v32"):
        grammar = Grammar.from_tools(tools, format=form, tool_choice="required")
        call = ("write_file", {"path": "a", "content": "<b>1 & 2</b>"})
        assert grammar.accepts(RENDER[form]([call], "", None))
        ends = {
            "qwen3_coder": "</parameter>",
            "glm45": "</arg_value>",
            "minimax_m2": "</parameter>",
        }
        call = ("write_file", {"path": "a", "content": f"x{ends.get(form, '</｜DSML｜')}y"})
        assert not grammar.accepts(RENDER[form]([call], "", None))


@pytest.mark.parametrize(
    ("sign", "form"),
    [
        ('<tool_call>\n{"name": <function-name>, "arguments": <args>}\n</tool_call>', "hermes"),
        ("<tool_call>\n<function=f>\n<parameter=p>", "qwen3_coder"),
        ("<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>", "glm45"),
        ("<arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value>", "glm47"),
        ("<｜tool▁calls▁begin｜>' ```json", "deepseek_v3"),
        ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
        ("[TOOL_CALLS]", "mistral"),
        ("[TOOL_CALLS]' + name + '[ARGS]", "mistral_args"),
        ("<|tool_calls_section_begin|>", "kimi_k2"),
        ("<minimax:tool_call>", "minimax_m2"),
        ("<|START_ACTION|>", "cohere"),
        ("<|channel|>commentary to=functions.", "harmony"),
        ('{"name": "f", "parameters": ', "llama3"),
    ],
)
def test_formats_are_told_from_chat_templates(sign: str, form: str) -> None:
    assert tool_format_of(sign) == form

    class Tokenizer:
        def __init__(self) -> None:
            self.chat_template = {"default": "x", "tool_use": sign}

    assert tool_format_of(Tokenizer()) == form


def test_an_unknown_chat_template() -> None:
    with pytest.raises(ValueError, match="no known tool format"):
        tool_format_of("{{ messages }}")
    with pytest.raises(ValueError, match="no chat template"):
        tool_format_of(object())


# -- random schemas ------------------------------------------------------------------------------------


def _random_value(rng: random.Random, depth: int) -> dict[str, Any]:
    """A schema of a value."""
    kinds = ["string", "words", "pattern", "integer", "number", "boolean", "null", "any of"]
    match rng.choice(kinds + ["array", "object"] * (depth > 0)):
        case "string":
            low = rng.randint(0, 3)
            return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 6)}
        case "words":
            return {"enum": rng.sample(["a", "b c", "", "é", 7, True, None], 3)}
        case "pattern":
            return {"type": "string", "pattern": rng.choice(["^[a-z]+$", "x", "^(ab|é)?$"])}
        case "integer":
            return {"type": "integer", "minimum": rng.randint(-5, 5), "maximum": rng.randint(6, 99)}
        case "any of":
            return {"anyOf": [_random_value(rng, 0), _random_value(rng, 0)]}
        case "array":
            return {"type": "array", "items": _random_value(rng, depth - 1), "maxItems": 3}
        case "object":
            return _random_object(rng, depth - 1)
        case "number":
            return {"type": "number", "minimum": -9.5, "maximum": 9}
        case kind:
            return {"type": kind}


def _random_object(rng: random.Random, depth: int) -> dict[str, Any]:
    """A schema of an object."""
    names = rng.sample(["a", "bc", "d_e", "f"], rng.randint(0, 4))
    out: dict[str, Any] = {
        "type": "object",
        "properties": {name: _random_value(rng, depth) for name in names},
        "additionalProperties": False,
    }
    if names:
        out["required"] = rng.sample(names, rng.randint(0, len(names)))
    return out


TAGGED = ("qwen3_coder", "glm45", "glm47", "deepseek_v32", "minimax_m2")


@pytest.mark.parametrize("seed", range(12))
def test_arguments_between_tags_are_those_of_the_schema(seed: int) -> None:
    """What JSON of a schema says can be written between tags, and what is written there is in JSON."""
    rng = random.Random(seed)
    schema = _random_object(rng, 2)
    form = TAGGED[seed % len(TAGGED)]
    whole = Grammar.from_json_schema(schema)
    tagged = Grammar.from_tools(
        [_openai("f", schema)], format=form, tool_choice="f", parallel=False
    )
    if whole.is_empty:
        assert tagged.is_empty
        return
    for number in range(20):
        arguments = json.loads(whole.sample(number), parse_float=lambda x: float(x) + 0.0)
        text = RENDER[form]([("f", arguments)], "", None)
        if any("<" in v for v in arguments.values() if isinstance(v, str)):
            continue  # it may end the tag
        assert tagged.accepts(text), (schema, text, str(tagged.explain(text)))
    for number in range(20):
        text = tagged.sample(number).decode()
        ((name, arguments),) = READ[form](text, {"f": schema})
        assert name == "f"
        jsonschema.validate(arguments, schema)
