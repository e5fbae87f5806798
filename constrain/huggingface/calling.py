"""Calls of tools by a model: its own format by its chat template, arguments validated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from pydantic import ValidationError

from constrain.arguments import check_count
from constrain.healing import Healed
from constrain.huggingface.asking import budget_of
from constrain.huggingface.automata import automaton_for, vocabulary_for
from constrain.huggingface.extraction import one_by_one, refuse_options, retried
from constrain.huggingface.loading import loaded
from constrain.huggingface.processor import check_budget
from constrain.huggingface.prompts import Messages, checked_ids, prompt_ids
from constrain.huggingface.writing import Generate, Phases, ended, write
from constrain.servers.openai import OpenAIServer, server_of
from constrain.servers.requests import refuse_local
from constrain.tools import KnownTool, ToolCalls, checked_call, checked_messages, known_tools
from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar
from grammars.tools import tool_format_of
from grammars.tools.definitions import ToolChoice, ToolLike, choose
from grammars.tools.formats import FORMATS
from grammars.tools.reading import read_message

PLAIN: Final = "json"
"""The format of models whose template has none."""

INSTRUCTION: Final = """\
You have these tools:
{tools}

To call tools, answer with this JSON and nothing else:
{{"tool_calls": [{{"name": "the tool", "arguments": {{...}}}}]}}
{otherwise}"""
"""What the system message of a model without a format of its own says."""

_OTHERWISE: Final = {
    "auto": "If no tool is needed, answer in words.",
    "required": "You have to call a tool now.",
    "none": "Now answer in words, without calling a tool.",
}


def call(
    model: Any,
    tokenizer: Any,
    messages: str | Messages,
    tools: Iterable[ToolLike],
    *,
    tool_choice: ToolChoice | None = "auto",
    format: str | None = None,
    parallel: bool = True,
    reasoning: bool | Literal["optional"] | None = None,
    max_new_tokens: int | None = None,
    retries: int = 0,
    canonical: bool = False,
    backend: str | OpenAIServer | None = None,
    generate: Generate | None = None,
    streamer: Any = None,
    **generation: Any,
) -> ToolCalls:
    """Has a model call tools, or answer in words; names and arguments are valid.

    ::

        def get_weather(city: str, days: int = 1) -> str:
            "Says the weather of the next days."

        for one in call(model, tokenizer, "Do I need an umbrella in Rome?", [get_weather]):
            print(get_weather(**one.arguments))

    Args:
        model, tokenizer: as :func:`extract` takes them.
        messages: chat messages, or one question as text.
        tools: Python functions (signature and docstring), pydantic models, or specifications as OpenAI,
            Anthropic and MCP write them; see :meth:`Grammar.from_tools`.
        tool_choice: ``"auto"``, ``"required"``, ``"none"``, the name of a tool, or OpenAI's objects.
        format: how the model writes calls (docs/tools.md); by default what its chat template says, and
            ``"json"`` where that says nothing: a system message then explains tools and format.
        parallel: whether there may be several calls.
        reasoning: whether a section of reasoning comes first, as :meth:`Grammar.from_tools` takes it.
        max_new_tokens: the budget, EOS included; by default 512, or what the context leaves.
        retries: how often another answer is drawn where a signature refuses arguments that its schema
            allows (validators of one's own); at temperature 0.7 where none is given.
        backend: a server, as :func:`extract` takes it, which has a format of its own; ``canonical``,
            ``reasoning``, ``format``, ``generate`` and ``streamer`` are for models that run here.
        canonical, generate, streamer, **generation: as :func:`extract` takes them.

    Returns:
        The calls, with ``text`` beside them.

    Raises:
        TypeError, ValueError: for arguments of the wrong kind.
        GrammarError: for tools or choices that cannot be used, naming the tool.
        BudgetError: before the first token, if the shortest answer does not fit.
        pydantic.ValidationError: if a validator of a signature refuses arguments.
    """
    server = server_of(model, backend)
    if server is not None:
        refuse_local(
            canonical=canonical,
            reasoning=reasoning,
            format=format,
            generate=generate,
            streamer=streamer,
        )
        return server.call(
            messages,
            tools,
            tool_choice=tool_choice,
            parallel=parallel,
            retries=retries,
            max_new_tokens=max_new_tokens,
            **generation,
        )
    with ended(streamer) as stream:
        model, tokenizer = loaded(model, tokenizer, "call")
        retries = check_count(retries, "retries", least=0)
        max_new_tokens = check_count(max_new_tokens, "max_new_tokens", optional=True)
        refuse_options(generation)
        known = known_tools(tools)
        mode, allowed = choose([one.tool for one in known], tool_choice)
        form = format or detected_format(tokenizer)
        vocabulary = vocabulary_for(tokenizer, model)
        grammar = _grammar(known, form, tool_choice, reasoning, parallel, vocabulary)
        automaton = automaton_for(grammar, tokenizer, model, canonical=canonical)
        ids = tools_prompt(model, tokenizer, checked_messages(messages), known, form, mode)
        budget = budget_of(model, len(ids), max_new_tokens)
        check_budget(automaton, budget)
        phases = Phases(stream)
        for attempt in range(retries + 1):
            rows = one_by_one(model, generate or write, retried(generation, attempt), phases)
            (tokens,) = rows([Healed(ids, automaton, b"")], budget, True)
            raw = named_text(tokens, vocabulary, form)
            said = read_message(raw, form, allowed, reasoning=reasoning)
            try:
                calls = [checked_call(name, given, known) for name, given in said.calls]
            except ValidationError:
                if attempt == retries:
                    raise
                continue
            return ToolCalls(
                calls, text=said.content, reasoning=said.reasoning, raw=raw, tokens=tokens
            )
        raise AssertionError("the last attempt returns or raises")


def detected_format(tokenizer: Any) -> str:
    """The format that a chat template writes; ``"json"`` where it writes none."""
    try:
        return tool_format_of(tokenizer)
    except ValueError:
        return PLAIN


def _grammar(
    known: Sequence[KnownTool],
    form: str,
    choice: ToolChoice | None,
    reasoning: bool | str | None,
    parallel: bool,
    vocabulary: Vocabulary,
) -> Grammar:
    """The grammar of answers; markers are tokens where the vocabulary has them as such."""
    if form not in FORMATS:
        raise ValueError(f"format={form!r} is no tool format; there are {', '.join(FORMATS)}")
    special = special_markers(form, vocabulary)
    specs = json.dumps([one.spec for one in known], ensure_ascii=False)
    return _made(specs, form, json.dumps(choice), reasoning, parallel, special)


def special_markers(form: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The markers of a format that a vocabulary has as special tokens."""
    return tuple(
        marker
        for marker in FORMATS[form].markers
        if (token := vocabulary.special_tokens.get(marker)) is not None
        and vocabulary.token_bytes(token) is None
    )


@lru_cache(64)
def _made(
    specs: str,
    form: str,
    choice: str,
    reasoning: Any,
    parallel: bool,
    special: tuple[str, ...],
) -> Grammar:
    return Grammar.from_tools(
        json.loads(specs),
        format=form,
        tool_choice=json.loads(choice),
        reasoning=reasoning,
        parallel=parallel,
        special=special,
    )


def named_text(tokens: Sequence[int], vocabulary: Vocabulary, form: str) -> str:
    """What was written, special tokens by their names, without the end."""
    ends, markers = vocabulary.eos_token_ids, FORMATS[form].markers
    parts = []
    for number, token in enumerate(tokens, 1):
        data = vocabulary.token_bytes(token)
        if data is None:
            name = vocabulary.name_of(token)
            if number == len(tokens) and token in ends and name not in markers:
                break
            data = name.encode()
        elif number == len(tokens) and token in ends:
            break
        parts.append(data)
    return b"".join(parts).decode("utf-8", "replace")


# -- the prompt ----------------------------------------------------------------------------------------


def tools_prompt(
    model: Any,
    tokenizer: Any,
    messages: list[dict[str, Any]],
    known: Sequence[KnownTool],
    form: str,
    mode: str,
) -> list[int]:
    """Token ids of chat messages with tools, as the chat template or a system message tells of them."""
    specs = [one.spec for one in known]
    template = getattr(tokenizer, "chat_template", None)
    if form != PLAIN and template:
        made = tokenizer.apply_chat_template(
            messages, tools=specs or None, add_generation_prompt=True, return_dict=True
        )
        return checked_ids(model, prompt_ids(tokenizer, made))
    told = instructed(messages, specs, mode) if form == PLAIN else messages
    if template:
        return checked_ids(model, prompt_ids(tokenizer, told))
    lines = [f"{message['role']}: {message['content']}" for message in told]
    return checked_ids(model, prompt_ids(tokenizer, "\n\n".join([*lines, "assistant: "])))


def instructed(
    messages: Sequence[Mapping[str, Any]], specs: Sequence[Any], mode: str
) -> list[dict[str, Any]]:
    """Messages for a model that knows nothing of tools: explained, calls and results as text."""
    told = [_as_text(message) for message in messages]
    if not specs:
        return told
    listed = "\n".join(json.dumps(spec["function"], ensure_ascii=False) for spec in specs)
    text = INSTRUCTION.format(tools=listed, otherwise=_OTHERWISE[mode])
    if told and told[0]["role"] == "system":
        first = told[0] | {"content": f"{told[0]['content']}\n\n{text}"}
        return [first, *told[1:]]
    return [{"role": "system", "content": text}, *told]


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of words alone."""
    if message["role"] == "tool":
        name = message.get("name") or message.get("tool_call_id") or "the tool"
        return {"role": "user", "content": f"Result of {name}: {message.get('content')}"}
    if message.get("tool_calls"):
        calls = [_plain_call(one) for one in message["tool_calls"]]
        text = json.dumps({"tool_calls": calls}, ensure_ascii=False)
        content = message.get("content")
        return {"role": message["role"], "content": f"{content}\n{text}" if content else text}
    return {"role": message["role"], "content": message.get("content") or ""}


def _plain_call(one: Mapping[str, Any]) -> dict[str, Any]:
    inner = one.get("function") or one
    arguments = inner.get("arguments")
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return {"name": inner.get("name"), "arguments": arguments}
