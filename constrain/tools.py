"""Tools as callers have them, and calls as they get them: Python functions, types and specifications."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from constrain.arguments import described
from constrain.huggingface.prompts import is_messages
from grammars.tools.definitions import Tool, read_tools

_ARGUMENTS: Final = re.compile(r"^\s*(?:Args|Arguments|Parameters):\s*$", re.M)
_ENTRY: Final = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


@dataclass(frozen=True)
class ToolCall:
    """A call that a model wants to be made.

    Attributes:
        name: of the tool.
        arguments: by name, validated: ``function(**call.arguments)``.  Python values where the tool is a
            function or a type, else plain data.
    """

    name: str
    arguments: dict[str, Any]


class ToolCalls(list[ToolCall]):
    """The calls of one answer, in order; none where the model answered in words.

    Attributes:
        text: what the model said besides.
        reasoning: what it thought first, where that was asked for.
        raw: the whole answer as the model wrote it, special tokens by their names.
        tokens: its token ids; empty for those of a server.
    """

    def __init__(
        self,
        calls: Iterable[ToolCall] = (),
        *,
        text: str = "",
        reasoning: str = "",
        raw: str = "",
        tokens: Sequence[int] = (),
    ) -> None:
        super().__init__(calls)
        self.text = text
        self.reasoning = reasoning
        self.raw = raw
        self.tokens = list(tokens)

    def __repr__(self) -> str:
        return f"ToolCalls({super().__repr__()}, text={self.text!r})"


@dataclass(frozen=True)
class KnownTool:
    """A tool with all that is known of it.

    Attributes:
        tool: name and schema.
        spec: as OpenAI lists it.
        validate: JSON text of arguments -> arguments by name; raises ``pydantic.ValidationError``.
    """

    tool: Tool
    spec: dict[str, Any]
    validate: Callable[[str], dict[str, Any]]


def known_tools(tools: Any) -> list[KnownTool]:
    """Tools as :meth:`Grammar.from_tools` takes them, with their specifications and validators.

    The description of a function is its docstring up to the first section, those of its parameters
    what stands below ``Args:``.

    Raises:
        TypeError, GrammarError: for what is no tool.
    """
    given = list(tools) if isinstance(tools, Iterable) and not isinstance(tools, Mapping) else tools
    return [_known(one, tool) for one, tool in zip(given, read_tools(given), strict=True)]


def checked_call(name: str, arguments: Any, tools: Iterable[KnownTool]) -> ToolCall:
    """A call with validated arguments.

    Args:
        name: of one of the tools.
        arguments: plain data.
        tools: those that may be called.

    Raises:
        pydantic.ValidationError: if the tool's signature refuses them; a note names the tool.
    """
    (tool,) = (one for one in tools if one.tool.name == name)
    try:
        return ToolCall(name, tool.validate(json.dumps(arguments, ensure_ascii=False)))
    except ValueError as error:
        error.add_note(f"in the arguments of a call of {name!r}")
        raise


def checked_messages(given: Any) -> list[dict[str, Any]]:
    """Chat messages, of a question too.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if is_messages(given):
        return [dict(message) for message in given]
    raise TypeError(
        f"call reads chat messages (mappings with role and content) or a text, not {described(given)}"
    )


def _known(given: Any, tool: Tool) -> KnownTool:
    if isinstance(given, Mapping):
        inner = given["function"] if isinstance(given.get("function"), Mapping) else given
        spec = _spec(tool, tool.schema, str(inner.get("description") or ""))
        return KnownTool(tool, spec, json.loads)
    doc = inspect.getdoc(given) or ""
    if isinstance(given, type):
        schema, doc = tool.schema, doc if "__doc__" in vars(given) else ""
        if dataclasses.is_dataclass(given) and doc.startswith(f"{given.__name__}("):
            doc = ""  # made by the decorator
    else:
        schema = _described(tool.schema, doc)
    tool = Tool(tool.name, schema, tool.pointer)
    validate = _of_type(given) if isinstance(given, type) else _of_function(given)
    return KnownTool(tool, _spec(tool, schema, _summary(doc)), validate)


def _spec(tool: Tool, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    function = {"name": tool.name, "description": description, "parameters": dict(schema)}
    return {"type": "function", "function": function}


# -- docstrings ----------------------------------------------------------------------------------------


def _summary(doc: str) -> str:
    """A docstring up to its first section."""
    lines: list[str] = []
    for line in doc.splitlines():
        if re.fullmatch(r"[A-Z]\w*:", line) or line.startswith(":param"):
            break
        lines.append(line)
    return "\n".join(lines).strip()


def _described(schema: Mapping[str, Any], doc: str) -> dict[str, Any]:
    """A schema whose properties have the descriptions of a docstring, where they have none."""
    told = _parameters(doc)
    properties = {
        key: {**inner, "description": told[key]}
        if key in told and isinstance(inner, Mapping) and "description" not in inner
        else inner
        for key, inner in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def _parameters(doc: str) -> dict[str, str]:
    """What a docstring says of each parameter, below ``Args:``."""
    begin = _ARGUMENTS.search(doc)
    if begin is None:
        return {}
    found: dict[str, str] = {}
    name, indent = "", -1
    for line in doc[begin.end() :].splitlines():
        if not line.strip():
            continue
        if not line[0].isspace():
            break
        entry = _ENTRY.match(line)
        if entry and (indent < 0 or len(entry[1]) <= indent):
            indent, name = len(entry[1]), entry[2]
            found[name] = entry[3].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


# -- validation ----------------------------------------------------------------------------------------


def _of_type(tp: Any) -> Callable[[str], dict[str, Any]]:
    from pydantic import TypeAdapter

    adapter = TypeAdapter(tp)

    def validate(text: str) -> dict[str, Any]:
        made: Any = adapter.validate_json(text)
        if isinstance(made, dict):
            return made
        if dataclasses.is_dataclass(made):
            return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
        return dict(made)

    return validate


def _of_function(function: Any) -> Callable[[str], dict[str, Any]]:
    """Validates the arguments of a function by its signature, without calling it."""
    from pydantic import TypeAdapter

    adapter = TypeAdapter(_taking(function))
    signature = inspect.signature(function)

    def validate(text: str) -> dict[str, Any]:
        made: Any = adapter.validate_json(text)
        args, kwargs = made
        bound = signature.bind(*args, **kwargs)
        rest = next(
            (p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None
        )
        found = dict(bound.arguments)
        return found | found.pop(rest, {}) if rest is not None else found

    return validate


def _taking(function: Any) -> Any:
    """A function of the same signature and annotations that returns what it was given."""

    def take(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    plain = getattr(function, "__func__", function)
    scope = getattr(inspect.unwrap(plain), "__globals__", take.__globals__)
    made = FunctionType(take.__code__, scope, function.__name__)
    functools.update_wrapper(made, function)
    made.__annotations__ = {k: v for k, v in made.__annotations__.items() if k != "return"}
    return made
