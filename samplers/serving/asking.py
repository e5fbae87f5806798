"""What a request asks for, whichever endpoint it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.tools.definitions import choose, read_tools
from samplers.serving.bodies import ChatBody, ResponsesBody
from samplers.serving.errors import RequestRefused, invalid, unsupported
from samplers.serving.messages import chat_messages, response_messages
from samplers.serving.options import ServingOptions

Json = dict[str, Any]
_ANY_OBJECT: Final = {"type": "object"}
_LOGPROBS: Final = "message.output_text.logprobs"


@dataclass(frozen=True)
class Format:
    """The form of an answer in words.

    Attributes:
        asked: as ``structured_outputs`` has it.
        param: the member of the request.
    """

    asked: Json
    param: str


@dataclass(frozen=True)
class Asked:
    """A request, checked but for its grammar.

    Attributes:
        model: the name that it gives.
        messages: for the chat template.
        format: of an answer in words; ``None``: any text.
        tools: as OpenAI's chat completions list them.
        tool_choice: as :meth:`Grammar.from_tools` takes it.
        parallel: whether there may be several calls.
        n: answers.
        max_tokens: of each; ``None`` for the server's default.
        tokens_param: the member that says so.
        temperature, top_p, seed, stop: how texts are drawn, and where they end.
        top: likeliest tokens to be told with each; ``None``: no scores at all.
        stream, include_usage: how it is answered.
    """

    model: str
    messages: list[Json]
    format: Format | None
    tools: list[Json]
    tool_choice: Any
    parallel: bool
    n: int
    max_tokens: int | None
    tokens_param: str
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    top: int | None
    stream: bool
    include_usage: bool


def chat_asked(body: ChatBody, options: ServingOptions) -> Asked:
    """What a chat completion asks for.

    Raises:
        RequestRefused: naming the member.
    """
    tools = [_chat_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ())]
    if body.max_tokens and body.max_completion_tokens:
        raise invalid("max_tokens", "max_completion_tokens is given too; leave one of them out")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "needs logprobs: true")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "needs stream: true")
    if (n := body.n or 1) > options.max_n:
        raise invalid("n", f"must be at most {options.max_n}")
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if "" in stop:
        raise invalid("stop", "an empty text stands before everything")
    choice = _choice(tools, body.tool_choice)
    return Asked(
        body.model,
        chat_messages(body.messages),
        _format(body.response_format, "response_format", body.structured_outputs),
        tools,
        choice,
        _several(choice, body.parallel_tool_calls),
        n,
        body.max_completion_tokens or body.max_tokens,
        "max_completion_tokens" if body.max_completion_tokens else "max_tokens",
        1.0 if body.temperature is None else body.temperature,
        1.0 if body.top_p is None else body.top_p,
        body.seed,
        stop,
        (body.top_logprobs or 0) if body.logprobs else None,
        bool(body.stream),
        bool(body.stream_options and body.stream_options.include_usage),
    )


def response_asked(body: ResponsesBody) -> Asked:
    """What a request to ``/v1/responses`` asks for.

    Raises:
        RequestRefused: naming the member.
    """
    tools = [_response_tool(tool, f"tools[{i}]") for i, tool in enumerate(body.tools or ())]
    for i, name in enumerate(body.include or ()):
        if name != _LOGPROBS:
            raise unsupported(f"include[{i}]", f"only {_LOGPROBS!r} can be included")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "needs stream: true")
    text = dict(body.text or {})
    verbosity = text.pop("verbosity", None)
    if verbosity not in (None, "medium"):
        raise unsupported("text.verbosity")
    given = text.pop("format", None)
    if text:
        raise RequestRefused(
            f"text.{min(text)}: there is no such member",
            param=f"text.{min(text)}",
            code="unknown_parameter",
        )
    choice = _choice(tools, body.tool_choice)
    scored = body.top_logprobs is not None or _LOGPROBS in (body.include or ())
    return Asked(
        body.model,
        response_messages(body.input, body.instructions),
        _format(_nested(given), "text.format", body.structured_outputs),
        tools,
        choice,
        _several(choice, body.parallel_tool_calls),
        1,
        body.max_output_tokens,
        "max_output_tokens",
        1.0 if body.temperature is None else body.temperature,
        1.0 if body.top_p is None else body.top_p,
        None,
        (),
        (body.top_logprobs or 0) if scored else None,
        bool(body.stream),
        False,
    )


# -- forms ---------------------------------------------------------------------------------------------


def _format(given: Any, param: str, structured: Json | None) -> Format | None:
    """The form that ``response_format``, ``text.format`` or ``structured_outputs`` asks for."""
    if given is not None and not isinstance(given, dict):
        raise invalid(param, "must be an object")
    kind = None if given is None else given.get("type")
    if structured is not None:
        if kind not in (None, "text"):
            raise invalid("structured_outputs", f"{param} says otherwise; leave one of them out")
        return Format(structured, "structured_outputs")
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return Format({"json_object": True}, param)
    if kind != "json_schema":
        raise invalid(f"{param}.type", "must be text, json_object or json_schema")
    inner = given.get("json_schema")
    at = f"{param}.json_schema" if param == "response_format" else param
    if not isinstance(inner, dict):
        raise invalid(at, "must be an object with a schema")
    schema = inner.get("schema")
    if not isinstance(schema, dict | bool):
        raise invalid(f"{at}.schema", "must be a JSON Schema")
    if not isinstance(inner.get("strict"), bool | None):
        raise invalid(f"{at}.strict", "must be true or false")
    return Format({"json": schema}, f"{at}.schema")


def _nested(given: Any) -> Any:
    """A format of ``/v1/responses``, whose schema lies flat, as chat completions have it."""
    if isinstance(given, dict) and given.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": given}
    return given


def as_json_schema(form: Format) -> Any:
    """The schema of a form, beside tools.

    Raises:
        RequestRefused: for forms that are no JSON.
    """
    if "json" in form.asked:
        return form.asked["json"]
    if form.asked.get("json_object"):
        return _ANY_OBJECT
    raise unsupported(form.param, "beside tools an answer in words may be kept to JSON alone")


# -- tools ---------------------------------------------------------------------------------------------


def _chat_tool(tool: Mapping[str, Any], at: str) -> Json:
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        raise unsupported(
            f"{at}.type", "tools are functions: {'type': 'function', 'function': {...}}"
        )
    return _tool(tool["function"], f"{at}.function")


def _response_tool(tool: Mapping[str, Any], at: str) -> Json:
    if tool.get("type") != "function":
        raise unsupported(f"{at}.type", "tools are functions: {'type': 'function', 'name': ...}")
    return _tool({key: value for key, value in tool.items() if key != "type"}, at)


def _tool(function: Mapping[str, Any], at: str) -> Json:
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise invalid(f"{at}.name", "must be the name of the function")
    if not isinstance(parameters, dict | None):
        raise invalid(f"{at}.parameters", "must be a JSON Schema of an object")
    if not isinstance(function.get("description"), str | None):
        raise invalid(f"{at}.description", "must be a text")
    if not isinstance(function.get("strict"), bool | None):
        raise invalid(f"{at}.strict", "must be true or false")
    inner = {
        "name": name,
        "description": function.get("description") or "",
        "parameters": parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": inner}


def _several(choice: Any, parallel: bool | None) -> bool:
    """Whether there may be several calls: of a tool that is named, one is meant."""
    named = isinstance(choice, dict) and choice.get("type") == "function"
    return parallel is not False and not named


def _choice(tools: Sequence[Json], choice: Any) -> Any:
    """The choice, checked against the tools."""
    if not isinstance(choice, str | None) and choice.get("type") == "custom":
        raise unsupported("tool_choice.type")
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        raise invalid("tool_choice", "must be auto, none, required, or an object that names a tool")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools" and "tools" in choice:
        choice = {"type": "allowed_tools", "allowed_tools": choice}  # as /v1/responses has it
    try:
        known = read_tools(tools)
    except GrammarError as error:
        raise invalid("tools", str(error)) from None
    try:
        choose(known, choice)
    except (GrammarError, ValueError, TypeError, AttributeError) as error:
        raise invalid("tool_choice", str(error)) from None
    return choice
