"""Messages with calls of tools read back: names, arguments, the text and the reasoning beside them.

What is read are messages that a grammar of :meth:`Grammar.from_tools` accepts, special tokens by their
names.  JSON is read to where it ends, so that markers inside its strings are no markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from grammars.errors import GrammarError
from grammars.frontends.json_schema.closing import closed
from grammars.tools import plain
from grammars.tools.definitions import Tool

Call: TypeAlias = tuple[str, dict[str, Any]]
"""(name of the tool, its arguments)."""
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True)
class Message:
    """What an assistant wrote.

    Attributes:
        content: the text beside the calls.
        calls: what is to be called, in order.
        reasoning: what it thought first.
    """

    content: str
    calls: list[Call] = field(default_factory=list)
    reasoning: str = ""


@dataclass(frozen=True)
class _Reader:
    """How the messages of a format are read.

    Attributes:
        begin: the marker with which the calls begin.
        calls: reads them, from that marker on.
        open, close: the markers around reasoning.
    """

    begin: str
    calls: Callable[[str, Mapping[str, Tool]], list[Call]]
    open: str = "<think>"
    close: str = "</think>"


def read_message(
    text: str, format: str, tools: Sequence[Tool], *, reasoning: bool | str | None = "optional"
) -> Message:
    """An assistant's message as calls, text and reasoning.

    Args:
        text: the message, special tokens by their names, without the end of the turn.
        format: as :meth:`Grammar.from_tools` takes it.
        tools: those that may be called.
        reasoning: whether a section of reasoning comes first, as :meth:`Grammar.from_tools` takes it.

    Raises:
        ValueError: for an unknown format.
        GrammarError: for a text that is no message of the format, or calls something else.
    """
    known = {tool.name: tool for tool in tools}
    if format == "harmony":
        return _harmony(text, known)
    reader = READERS.get(format)
    if reader is None:
        raise ValueError(
            f"format={format!r} is no tool format; there are {', '.join(READERS)}, harmony"
        )
    thought, text = _thought(text, reader, reasoning)
    at = text.find(reader.begin) if tools else -1
    if at < 0:
        return Message(_content(text), [], thought)
    return Message(text[:at].strip(), _known(reader.calls(text[at:], known), known), thought)


def _thought(text: str, reader: _Reader, wanted: bool | str | None) -> tuple[str, str]:
    """The reasoning, and what follows it."""
    end = text.find(reader.close) if wanted else -1
    calls = text.find(reader.begin)
    if end < 0 or (wanted == "optional" and 0 <= calls < end):
        return "", text
    thought = text[:end].lstrip().removeprefix(reader.open)
    return thought.strip(), text[end + len(reader.close) :]


def _content(text: str) -> str:
    """A message without calls."""
    for marker in ("<|START_RESPONSE|>", "<|END_RESPONSE|>"):
        text = text.replace(marker, "")
    return text.strip()


def _known(calls: list[Call], tools: Mapping[str, Tool]) -> list[Call]:
    for name, _ in calls:
        if name not in tools:
            raise GrammarError(
                f"a call of {name!r}, which is no tool; there are {', '.join(tools)}"
            )
    return calls


# -- JSON ----------------------------------------------------------------------------------------------


def _json_at(text: str, at: int) -> tuple[Any, int]:
    """A JSON value behind blanks, and where it ends."""
    at += len(text[at:]) - len(text[at:].lstrip())
    try:
        found: tuple[Any, int] = _DECODER.raw_decode(text, at)
    except ValueError as error:
        raise GrammarError(f"no JSON where the arguments of a call should be: {error}") from None
    return found


def _object(made: Any, name: str, arguments: str) -> Call:
    if not (
        isinstance(made, dict)
        and isinstance(made.get(name), str)
        and isinstance(made.get(arguments), dict)
    ):
        raise GrammarError(f"a call is an object with {name!r} and {arguments!r}, not {made!r:.80}")
    return made[name], made[arguments]


def _objects_behind(begin: str, name: str = "name", arguments: str = "arguments") -> Any:
    """Objects, each behind a marker."""

    def read(text: str, _: Mapping[str, Tool]) -> list[Call]:
        out, at = [], text.find(begin)
        while at >= 0:
            made, end = _json_at(text, at + len(begin))
            out.append(_object(made, name, arguments))
            at = text.find(begin, end)
        return out

    return read


def _list_behind(begin: str, name: str, arguments: str) -> Any:
    """One list of objects behind a marker."""

    def read(text: str, _: Mapping[str, Tool]) -> list[Call]:
        made, _end = _json_at(text, text.index(begin) + len(begin))
        return [_object(one, name, arguments) for one in made]

    return read


def _llama(text: str, _: Mapping[str, Tool]) -> list[Call]:
    return [_object(_json_at(text, 0)[0], "name", "parameters")]


def _plain(text: str, _: Mapping[str, Tool]) -> list[Call]:
    made = _json_at(text, 0)[0]
    return [_object(one, "name", "arguments") for one in made["tool_calls"]]


def _lines(text: str, _: Mapping[str, Tool]) -> list[Call]:
    out, at = [], len("<tool_calls>")
    while not text[at:].lstrip().startswith("</tool_calls>"):
        made, at = _json_at(text, at)
        out.append(_object(made, "name", "arguments"))
    return out


def _named(header: str) -> Any:
    """Arguments as JSON behind a header, whose first group is the name."""
    pattern = re.compile(header)

    def read(text: str, _: Mapping[str, Tool]) -> list[Call]:
        return list(_headed(text, pattern))

    return read


def _headed(text: str, pattern: re.Pattern[str]) -> Iterator[Call]:
    at = 0
    while found := pattern.search(text, at):
        made, at = _json_at(text, found.end())
        yield found[1], made


# -- tags ----------------------------------------------------------------------------------------------


def _tagged(call: str, pair: str) -> Any:
    """Calls as tags, each argument between tags of its own, which no value has in it."""
    calls, pairs = re.compile(call, re.S), re.compile(pair, re.S)

    def read(text: str, tools: Mapping[str, Tool]) -> list[Call]:
        return [
            (
                name,
                {key: _value(value, key, tools.get(name)) for key, value in pairs.findall(inner)},
            )
            for name, inner in calls.findall(text)
        ]

    return read


def _value(text: str, key: str, tool: Tool | None) -> Any:
    """A value between tags: as JSON where the schema has it so, else a string as it is."""
    try:
        made = json.loads({"True": "true", "False": "false"}.get(text, text))
    except ValueError:
        return text
    schema = {} if tool is None else dict(closed(tool.schema))
    for keyword in ("required", "minProperties"):
        schema.pop(keyword, None)
    written = json.dumps({key: made}, ensure_ascii=False)
    return made if _accepts(json.dumps(schema), written) else text


@lru_cache(256)
def _accepts(schema: str, text: str) -> bool:
    return bool(_grammar(schema).accepts(text))


@lru_cache(32)
def _grammar(schema: str) -> Any:
    from grammars.grammar import Grammar

    return Grammar.from_json_schema(schema)


def _dsml(text: str, _: Mapping[str, Tool]) -> list[Call]:
    calls = re.findall(r'<｜DSML｜invoke name="(.*?)">\n(.*?)</｜DSML｜invoke>', text, re.S)
    pattern = re.compile(
        r'<｜DSML｜parameter name="(.*?)" string="(true|false)">(.*?)</｜DSML｜parameter>', re.S
    )
    return [
        (
            name,
            {
                key: value if is_string == "true" else json.loads(value)
                for key, is_string, value in pattern.findall(inner)
            },
        )
        for name, inner in calls
    ]


# -- harmony -------------------------------------------------------------------------------------------

_CALL: Final = re.compile(
    r"(?:<\|channel\|>commentary to=functions\.([^<\s]+)| to=functions\.([^<\s]+)<\|channel\|>commentary)"
    r"(?: ?<\|constrain\|>json| json)?<\|message\|>"
)
_SAID: Final = re.compile(
    r"<\|channel\|>(analysis|commentary|final)<\|message\|>(.*?)(?:<\|[a-z]+\|>|$)", re.S
)


def _harmony(text: str, tools: Mapping[str, Tool]) -> Message:
    found = _CALL.search(text)
    before = text if found is None else text[: found.start()]
    said: dict[str, list[str]] = {"analysis": [], "commentary": [], "final": []}
    for channel, words in _SAID.findall(before):
        said[channel].append(words.strip())
    calls: list[Call] = []
    if found is not None:
        calls = _known([(found[1] or found[2], _json_at(text, found.end())[0])], tools)
    content = "\n".join(said["commentary"] + said["final"])
    return Message(content, calls, "\n".join(said["analysis"]))


READERS: Final[Mapping[str, _Reader]] = MappingProxyType(
    {
        "json": _Reader(plain.BEGIN, _plain),
        "llama3": _Reader('{"name":', _llama),
        "hermes": _Reader("<tool_call>", _objects_behind("<tool_call>")),
        "qwen3_coder": _Reader(
            "<tool_call>",
            _tagged(
                r"<tool_call>\n<function=(.*?)>\n(.*?)</function>\n</tool_call>",
                r"<parameter=(.*?)>\n(.*?)\n</parameter>\n",
            ),
        ),
        "glm45": _Reader(
            "<tool_call>",
            _tagged(
                r"<tool_call>(.*?)\n(.*?)</tool_call>",
                r"<arg_key>(.*?)</arg_key>\n<arg_value>(.*?)</arg_value>\n",
            ),
        ),
        "glm47": _Reader(
            "<tool_call>",
            _tagged(
                r"<tool_call>([^<]*)(.*?)</tool_call>",
                r"<arg_key>(.*?)</arg_key><arg_value>(.*?)</arg_value>",
            ),
        ),
        "deepseek_v3": _Reader(
            "<｜tool▁calls▁begin｜>",
            _named(r"<｜tool▁call▁begin｜>function<｜tool▁sep｜>(.*?)\n```json\n"),
        ),
        "deepseek_v31": _Reader(
            "<｜tool▁calls▁begin｜>", _named(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>")
        ),
        "deepseek_v32": _Reader("<｜DSML｜function_calls>", _dsml),
        "deepseek_v4": _Reader("<｜DSML｜tool_calls>", _dsml),
        "mistral": _Reader(
            "[TOOL_CALLS]",
            _list_behind("[TOOL_CALLS]", "name", "arguments"),
            "[THINK]",
            "[/THINK]",
        ),
        "mistral_args": _Reader(
            "[TOOL_CALLS]",
            _named(r"\[TOOL_CALLS\](.*?)(?:\[CALL_ID\][a-zA-Z0-9]{9})?\[ARGS\]"),
            "[THINK]",
            "[/THINK]",
        ),
        "kimi_k2": _Reader(
            "<|tool_calls_section_begin|>",
            _named(r"<\|tool_call_begin\|>functions\.(.*?):[0-9]+<\|tool_call_argument_begin\|>"),
        ),
        "minimax_m1": _Reader("<tool_calls>", _lines),
        "minimax_m2": _Reader(
            "<minimax:tool_call>",
            _tagged(
                r'<invoke name="(.*?)">\n(.*?)</invoke>\n',
                r'<parameter name="(.*?)">(.*?)</parameter>\n',
            ),
        ),
        "cohere": _Reader(
            "<|START_ACTION|>",
            _list_behind("<|START_ACTION|>", "tool_name", "parameters"),
            "<|START_THINKING|>",
            "<|END_THINKING|>",
        ),
        "cohere_r": _Reader("Action:", _list_behind("```json", "tool_name", "parameters")),
    }
)
"""How the messages of each format are read; harmony's, which are several, have a reader of their own."""
