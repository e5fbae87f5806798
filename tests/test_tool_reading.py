"""Messages with calls read back: beside renderings of the templates and the readers of other tests."""

from __future__ import annotations

from typing import Any

import pytest
from test_tools import (
    EMPTY,
    NO_CONTENT,
    NO_REASONING,
    ONE_CALL,
    READ,
    RENDER,
    TOOL_SETS,
    _calls,
    _grammar,
    _openai,
)

from grammars import Grammar, GrammarError
from grammars.tools.definitions import read_tools
from grammars.tools.formats import FORMATS
from grammars.tools.reading import READERS, Message, read_message

TEXTS = [
    "</tool_call>",
    '"</parameter>"',
    "a\nb",
    "{}",
    "[TOOL_CALLS]",
    "<|call|>",
    "```",
    "\\",
    "é\u2028",
]


def test_every_format_is_read() -> None:
    assert {*READERS, "harmony"} == set(FORMATS)
    with pytest.raises(ValueError, match="no tool format"):
        read_message("a", "nonsense", [])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", range(len(TOOL_SETS)))
def test_what_was_rendered(form: str, number: int) -> None:
    tools = read_tools(TOOL_SETS[number][0])
    for some in _calls(form, TOOL_SETS[number][2]):
        for content in ("", "I will look that up."):
            for thought in (None, "They want it;\n2 < 3."):
                if (content and form in NO_CONTENT) or (thought and form in NO_REASONING):
                    continue
                text = RENDER[form](some, content, thought)
                expected = Message(content, some, thought or "")
                assert read_message(text, form, tools) == expected
                if thought is None:
                    assert read_message(text, form, tools, reasoning=None) == expected
                else:
                    assert read_message(text, form, tools, reasoning=True) == expected


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"harmony"}))
def test_text_alone(form: str) -> None:
    tools = read_tools(TOOL_SETS[0][0])
    assert read_message(" Hello. ", form, tools) == Message("Hello.")
    assert read_message("Hello.", form, []) == Message("Hello.")


def test_text_in_harmony_and_cohere() -> None:
    tools = read_tools(TOOL_SETS[0][0])
    said = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi."
    )
    for end in ("", "<|return|>"):
        assert read_message(said + end, "harmony", tools) == Message("Hi.", [], "Hm.")
    said = "<|START_RESPONSE|>Hi.<|END_RESPONSE|>"
    assert read_message(said, "cohere", tools) == Message("Hi.")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("number", range(len(TOOL_SETS)))
def test_samples(form: str, number: int) -> None:
    """As a reader of other tests, which knows only simple strings, reads them."""
    tools, schemas, _ = TOOL_SETS[number]
    for seed in range(4):
        text = _grammar(number, form, "required").sample(seed).decode()
        assert read_message(text, form, read_tools(tools), reasoning=None).calls == READ[form](
            text, schemas
        )


JSON_FORMATS = sorted(
    set(FORMATS) - {"qwen3_coder", "glm45", "glm47", "minimax_m2", "deepseek_v32", "deepseek_v4"}
)


@pytest.mark.parametrize("form", JSON_FORMATS)
def test_markers_in_strings_are_none(form: str) -> None:
    (tool,) = tools = [
        _openai("say", {"type": "object", "properties": {"text": {"type": "string"}}})
    ]
    assert tool
    grammar = Grammar.from_tools(tools, format=form, tool_choice="required", special=())
    for said in [
        *TEXTS,
        "".join(TEXTS),
        "</think>",
        RENDER[form]([("say", {"text": "x"})], "", None),
    ]:
        calls = [("say", {"text": said})] * (1 if form in ONE_CALL else 2)
        text = RENDER[form](calls, "", None)
        assert grammar.accepts(text)
        assert read_message(text, form, read_tools(tools), reasoning=None).calls == calls


@pytest.mark.parametrize("form", ["qwen3_coder", "glm45", "glm47", "minimax_m2"])
def test_values_between_tags_have_the_types_of_the_schema(form: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "number": {"$ref": "#/$defs/number"},
            "either": {"type": ["string", "null"]},
            "list": {"type": "array", "items": {"type": "string"}},
            "flag": {"type": "boolean"},
        },
        "required": ["text", "number"],
        "minProperties": 2,
        "$defs": {"number": {"type": "number"}},
    }
    tools = [_openai("f", schema)]
    grammar = Grammar.from_tools(tools, format=form, tool_choice="required")
    for text in ("3", "true", "null", '["a"]', "", "plain"):
        arguments: dict[str, Any] = {
            "text": text, "number": 1.5, "either": "a", "list": ["3"], "flag": False,
        }  # fmt: skip
        message = RENDER[form]([("f", arguments)], "", None)
        assert grammar.accepts(message)
        assert read_message(message, form, read_tools(tools)).calls == [("f", arguments)]


def test_what_is_no_call() -> None:
    tools = read_tools([_openai("f", EMPTY)])
    other = RENDER["hermes"]([("g", {})], "", None)
    with pytest.raises(GrammarError, match="a call of 'g', which is no tool; there are f"):
        read_message(other, "hermes", tools)
    with pytest.raises(GrammarError, match="no JSON where the arguments"):
        read_message("<tool_call>\n{", "hermes", tools)
    with pytest.raises(GrammarError, match="a call is an object with 'name' and 'arguments'"):
        read_message("<tool_call>\n{}", "hermes", tools)
