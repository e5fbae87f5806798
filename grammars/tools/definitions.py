"""Tools as callers describe them: a name and a JSON Schema of the arguments."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from grammars.errors import GrammarError

ToolLike: TypeAlias = Mapping[str, Any] | type[Any] | Callable[..., Any]
"""A tool: a mapping, a pydantic model, or a function."""
ToolChoice: TypeAlias = str | Mapping[str, Any]
Mode: TypeAlias = Literal["auto", "none", "required"]

_SCHEMA_KEYS: Final = ("parameters", "input_schema", "inputSchema")
_NO_ARGUMENTS: Final[dict[str, Any]] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Tool:
    """One tool.

    Attributes:
        name: as the model writes it.
        schema: of the object with the arguments.
        pointer: where the schema stands among the tools.
    """

    name: str
    schema: Mapping[str, Any]
    pointer: str

    def error(self, message: str) -> GrammarError:
        """An error that names the tool."""
        return GrammarError(f"tool {self.name!r}: {message}", pointer=self.pointer)


def read_tools(tools: Iterable[ToolLike]) -> list[Tool]:
    """Tools, checked.

    Raises:
        GrammarError: for tools without a name, with one that is given twice, or whose arguments are no
            object, naming the tool.
        TypeError: for something that describes no tool.
    """
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise TypeError(f"tools is a list of tools, not {tools!r:.80}")
    found = [_read(tool, f"/{i}") for i, tool in enumerate(tools)]
    names = [tool.name for tool in found]
    for i, tool in enumerate(found):
        if tool.name in names[:i]:
            raise tool.error("there are two tools of this name")
    return found


def _read(tool: Any, at: str) -> Tool:
    if isinstance(tool, Mapping):
        return _of_mapping(tool, at)
    if isinstance(tool, type) or callable(tool):
        return _of_python(tool, at)
    raise TypeError(
        f"a tool is a mapping with a name and a schema, a pydantic model or a function, not {tool!r:.80}"
    )


def _of_mapping(tool: Mapping[str, Any], at: str) -> Tool:
    """OpenAI's form, the same without its envelope, Anthropic's and MCP's."""
    inner, pointer = tool, at
    if isinstance(tool.get("function"), Mapping):
        inner, pointer = tool["function"], f"{at}/function"
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise GrammarError("a tool needs a name that is not empty", pointer=f"{pointer}/name")
    key = next((k for k in _SCHEMA_KEYS if inner.get(k) is not None), None)
    if key is None:
        return Tool(name, _NO_ARGUMENTS, pointer)
    return _checked(Tool(name, _parsed(inner[key]), f"{pointer}/{key}"))


def _parsed(schema: Any) -> Any:
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema)
    except json.JSONDecodeError:
        return schema


def _of_python(tool: Any, at: str) -> Tool:
    try:
        from pydantic import TypeAdapter
    except ImportError as error:
        raise ImportError("tools given as Python types or functions need pydantic") from error
    name = getattr(tool, "__name__", "")
    if not isinstance(tool, type):
        _check_signature(tool, name, at)
    try:
        schema = TypeAdapter(tool).json_schema()
    except Exception as error:
        raise GrammarError(
            f"tool {name!r}: no schema of its arguments: {error}", pointer=at
        ) from error
    return _checked(Tool(name, schema, at))


def _check_signature(function: Callable[..., Any], name: str, at: str) -> None:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise GrammarError(
                f"tool {name!r}: its parameter {parameter.name!r} has no name in a call, but "
                "arguments are an object; make it a keyword",
                pointer=at,
            )
        if parameter.annotation is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise GrammarError(
                f"tool {name!r}: its parameter {parameter.name!r} has no type, so a model might write "
                f"anything; annotate it ({parameter.name}: str, or Any if any value will do)",
                pointer=at,
            )


def _checked(tool: Tool) -> Tool:
    """The tool with a schema that says that it describes an object."""
    schema = tool.schema
    if not isinstance(schema, Mapping):
        raise tool.error(f"the schema of the arguments must be an object, not {schema!r:.80}")
    kind = schema.get("type")
    if kind is None:
        if not schema:
            return Tool(tool.name, _NO_ARGUMENTS, tool.pointer)
        return Tool(tool.name, {**schema, "type": "object"}, tool.pointer)
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise tool.error(f"its arguments must be an object, but the schema says {kind!r}")
    return Tool(tool.name, {**schema, "type": "object"}, tool.pointer)


def choose(tools: list[Tool], choice: ToolChoice | None) -> tuple[Mode, list[Tool]]:
    """What ``tool_choice`` says: whether there must be a call, and of which tools.

    Args:
        tools: all there are.
        choice: ``"auto"``, ``"none"``, ``"required"`` (or ``"any"``), a name, ``{"type": "function",
            "function": {"name": ...}}``, or Anthropic's ``{"type": "tool", "name": ...}``.

    Raises:
        GrammarError: for a tool that there is not, or if a call is required and there is none.
        ValueError: for another choice.
    """
    names = [tool.name for tool in tools]
    if isinstance(choice, Mapping):
        return _named_choice(tools, choice)
    match choice:
        case None | "auto":
            return ("auto" if tools else "none"), tools
        case "none":
            return "none", []
        case "required" | "any":
            if not tools:
                raise GrammarError(f"tool_choice={choice!r}, but there are no tools")
            return "required", tools
        case str() if choice in names:
            return "required", [tool for tool in tools if tool.name == choice]
    raise _no_such(names, choice)


def _named_choice(tools: list[Tool], choice: Mapping[str, Any]) -> tuple[Mode, list[Tool]]:
    kind = choice.get("type")
    if kind in ("auto", "none", "any", "required") and "name" not in choice:
        return choose(tools, kind)
    allowed = choice.get("allowed_tools")
    if kind == "allowed_tools" and isinstance(allowed, Mapping):
        listed = [_name_in(item) for item in allowed.get("tools", ())]
        missing = [n for n in listed if n not in [t.name for t in tools]]
        if missing:
            raise _no_such([t.name for t in tools], missing[0])
        return choose([t for t in tools if t.name in listed], allowed.get("mode", "auto"))
    name = _name_in(choice)
    if kind not in (None, "function", "tool") or not isinstance(name, str):
        raise ValueError(f"tool_choice={choice!r} is none of the forms that name a tool")
    found = [tool for tool in tools if tool.name == name]
    if not found:
        raise _no_such([t.name for t in tools], name)
    return "required", found


def _name_in(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    function = item.get("function")
    return function.get("name") if isinstance(function, Mapping) else item.get("name")


def _no_such(names: list[str], name: Any) -> GrammarError:
    listed = ", ".join(map(repr, names)) or "none at all"
    return GrammarError(
        f"tool_choice names {name!r}, which is no tool; there are {listed} "
        "(and the choices 'auto', 'none' and 'required')"
    )
