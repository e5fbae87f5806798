"""The bodies of requests: which members there are, which are refused, and which make no difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from samplers.serving.errors import RequestRefused, invalid, unsupported

_Body = TypeVar("_Body", bound=BaseModel)

Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Json = dict[str, Any]


def _documented(schema: Json) -> WithJsonSchema:
    """What the OpenAPI document says of an object that is read elsewhere."""
    return WithJsonSchema({"type": "object"} | schema)


_FUNCTION: Final[Json] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "description": {"type": "string"},
        "parameters": {"type": "object", "description": "A JSON Schema of an object."},
        "strict": {"type": "boolean"},
    },
}
_SCHEMA: Final[Json] = {"type": "object", "description": "A JSON Schema."}
Message = Annotated[
    Json,
    _documented(
        {
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                "content": {"type": "string"},
            },
        }
    ),
]
ChatTool = Annotated[
    Json,
    _documented(
        {
            "required": ["type", "function"],
            "properties": {"type": {"const": "function"}, "function": _FUNCTION},
        }
    ),
]
ResponseTool = Annotated[
    Json,
    _documented(
        {
            "required": ["type", "name"],
            "properties": {"type": {"const": "function"}, **_FUNCTION["properties"]},
        }
    ),
]
ResponseFormat = Annotated[
    Json,
    _documented(
        {
            "required": ["type"],
            "properties": {
                "type": {"enum": ["text", "json_object", "json_schema"]},
                "json_schema": {
                    "type": "object",
                    "required": ["schema"],
                    "properties": {"name": {"type": "string"}, "schema": _SCHEMA},
                },
            },
        }
    ),
]
StructuredOutputs = Annotated[
    Json,
    _documented(
        {
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {
                "json": _SCHEMA,
                "json_object": {"const": True},
                "regex": {"type": "string"},
                "choice": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "grammar": {"type": "string"},
                "gbnf": {"type": "string"},
                "lark": {"type": "string"},
                "structural_tag": {"type": "object"},
            },
        }
    ),
]

_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (),
    "background": (False,),
    "context_management": (),
    "conversation": (),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "max_tool_calls": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "truncation": ("disabled",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Members that OpenAI knows and this server does not support, with the values that ask for nothing."""

_NO_DIFFERENCE: Final = frozenset(
    ("metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")
)
"""Members that say nothing about the answer."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Strict):
    """What is streamed besides."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatBody(_Strict):
    """The body of ``POST /v1/chat/completions``."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    tools: list[ChatTool] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    n: Count | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ResponsesBody(_Strict):
    """The body of ``POST /v1/responses``."""

    model: str
    input: str | Annotated[list[Message], Field(min_length=1)]
    instructions: str | None = None
    text: Json | None = None
    structured_outputs: StructuredOutputs | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def read_json(data: bytes) -> Json:
    """The object in the body of a request.

    Raises:
        RequestRefused: for what is none, or has numbers or characters that JSON and UTF-8 do not have.
    """

    def no_number(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number of JSON")

    try:
        made = json.loads(data, parse_constant=no_number)
        json.dumps(made, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise RequestRefused("the body is nested too deeply", code="invalid_json") from None
    except UnicodeEncodeError:
        raise RequestRefused(
            "the body has half of a surrogate pair, which is no character", code="invalid_json"
        ) from None
    except ValueError as error:
        raise RequestRefused(f"the body is no JSON: {error}", code="invalid_json") from None
    if not isinstance(made, dict):
        raise RequestRefused("the body is no JSON object", code="invalid_json")
    return made


def read_body(given: Json, kind: type[_Body]) -> _Body:
    """A body, checked.

    Raises:
        RequestRefused: for a member that is unknown, not supported, or has a wrong value; names it.
    """
    left = {name: value for name, value in given.items() if name not in _NO_DIFFERENCE}
    for name, neutral in _NEUTRAL.items():
        if name in left and name not in kind.model_fields:
            value = left.pop(name)
            if value is not None and not any(_same(value, one) for one in neutral):
                raise unsupported(name)
    try:
        return kind.model_validate(left)
    except ValidationError as error:
        raise _refusal(error) from None


def param_of(place: tuple[int | str, ...]) -> str:
    """A place in a body, such as ``messages[0].content``."""
    out = ""
    for part in place:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _same(value: Any, neutral: Any) -> bool:
    """Equal, and no truth value where a number is meant."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _refusal(error: ValidationError) -> RequestRefused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = first["loc"]
    if first["type"] == "extra_forbidden":
        param = param_of(place)
        return RequestRefused(
            f"{param}: there is no such member", param=param, code="unknown_parameter"
        )
    # of a member with several types pydantic names the type that was tried last
    shown = tuple(part for part in place if not (isinstance(part, str) and not part.isidentifier()))
    if len(shown) > 1 and shown[-1] in ("str", "int", "float", "bool"):
        shown = shown[:-1]
    return invalid(param_of(shown), first["msg"])


def schema_of(kind: type[BaseModel], model: str) -> Json:
    """The JSON Schema of a body, without references, for a server with one model."""
    schema = kind.model_json_schema()
    schema["properties"]["model"] = {"const": model, "type": "string"}
    known = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inlined(known[value["$ref"].rpartition("/")[2]])
            return {key: inlined(inner) for key, inner in value.items()}
        return [inlined(inner) for inner in value] if isinstance(value, list) else value

    made: Json = inlined(schema)
    return made
