"""Chat messages as clients send them, in the form that chat templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from samplers.serving.errors import invalid, unsupported

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_TEXTS: Final = ("text", "input_text", "output_text", "refusal")
Json = dict[str, Any]


def chat_messages(given: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Messages of ``/v1/chat/completions``.

    Contents become texts, ``developer`` becomes ``system``, arguments of calls become objects.

    Raises:
        RequestRefused: for roles and contents that are none, or not of text; names the place.
    """
    names: dict[str, str] = {}
    return [_message(message, f"messages[{i}]", names) for i, message in enumerate(given)]


def _message(message: Mapping[str, Any], at: str, names: dict[str, str]) -> Json:
    """One message; ``names`` has the tools by the ids of their calls."""
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise invalid(f"{at}.role", f"must be one of {', '.join(_ROLES)}")
    if message.get("function_call") is not None:
        raise unsupported(f"{at}.function_call", "use tool_calls")
    if message.get("audio") is not None:
        raise unsupported(f"{at}.audio")
    made: Json = {"role": _ROLES[role], "content": _text(message.get("content"), f"{at}.content")}
    if isinstance(message.get("name"), str):
        made["name"] = message["name"]
    calls = message.get("tool_calls")
    if role == "assistant" and calls:
        made["tool_calls"] = _calls(calls, f"{at}.tool_calls", names)
    elif message.get("content") is None:
        raise invalid(f"{at}.content", "is missing")
    if role == "tool":
        made |= _answered(message, at, names)
    return made


def _answered(message: Mapping[str, Any], at: str, names: Mapping[str, str]) -> Json:
    number = message.get("tool_call_id")
    if not isinstance(number, str):
        raise invalid(f"{at}.tool_call_id", "must be the id of a call")
    name = message.get("name") or names.get(number)
    return {"tool_call_id": number} | ({"name": name} if name else {})


def _text(content: Any, at: str) -> str:
    """A content as one text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(at, "must be a text or a list of parts")
    return "".join(_part(part, f"{at}[{i}]") for i, part in enumerate(content))


def _part(part: Any, at: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _TEXTS:
        raise unsupported(f"{at}.type", "parts are of text alone: this server reads nothing else")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise invalid(f"{at}.text", "must be a text")
    return text


def _calls(calls: Any, at: str, names: dict[str, str]) -> list[Json]:
    if not isinstance(calls, list):
        raise invalid(at, "must be a list of calls")
    made = []
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise unsupported(f"{at}[{i}]", "a call has a function with a name")
        arguments = _arguments(function.get("arguments"), f"{at}[{i}].function.arguments")
        number = str(call.get("id", ""))
        names[number] = function["name"]
        inner = {"name": function["name"], "arguments": arguments}
        made.append({"id": number, "type": "function", "function": inner})
    return made


def _arguments(given: Any, at: str) -> Json:
    try:
        made = json.loads(given or "{}") if isinstance(given, str) or given is None else given
    except (ValueError, RecursionError):
        raise invalid(at, "must be the JSON text of an object") from None
    if not isinstance(made, dict):
        raise invalid(at, "must be the JSON text of an object")
    return made


# -- the responses API ---------------------------------------------------------------------------------


def response_messages(given: str | Sequence[Mapping[str, Any]], system: str | None) -> list[Json]:
    """Items of ``/v1/responses`` as chat messages.

    Args:
        given: a text, or items: messages, calls of functions, and what these gave.
        system: the instructions.

    Raises:
        RequestRefused: for items of another kind; names the place.
    """
    made: list[Json] = [] if system is None else [{"role": "system", "content": system}]
    if isinstance(given, str):
        return [*made, {"role": "user", "content": given}]
    names: dict[str, str] = {}
    for i, item in enumerate(given):
        at = f"input[{i}]"
        kind = item.get("type", "message")
        if kind == "message":
            made.append(_message(item, at, names))
        elif kind == "function_call":
            _add_call(made, item, at, names)
        elif kind == "function_call_output":
            number = item.get("call_id")
            text = _text(item.get("output"), f"{at}.output")
            told = {"role": "tool", "content": text, "tool_call_id": number}
            made.append(_message(told, at, names))
        else:
            raise unsupported(f"{at}.type", f"items of type {kind!r} are not supported")
    return made


def _add_call(made: list[Json], item: Mapping[str, Any], at: str, names: dict[str, str]) -> None:
    """A call, in one message with those before it."""
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    calls = _calls([{"id": item.get("call_id"), "function": function}], at, names)
    if made and made[-1]["role"] == "assistant":
        made[-1].setdefault("tool_calls", []).extend(calls)
    else:
        made.append({"role": "assistant", "content": "", "tool_calls": calls})
