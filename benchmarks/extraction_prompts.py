"""Prompts that were tried on the documents to tune on; ``default`` is what ``extract`` asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from constrain.huggingface.asking import default_prompt
from constrain.huggingface.prompts import Messages

Prompt: TypeAlias = Callable[[str, str, Any], Messages]
"""(text, what is shown of the schema, the schema) -> chat messages."""

DEFAULT_PROMPT: Final = "default"

_FORM: Final = """\
Extract the information from the text below as one JSON object of this form. Copy values from the text; \
answer with the JSON only.

Form:
{form}

Text:
{text}"""
_FORM_LAST: Final = """\
Text:
{text}

Extract the information from the text above as one JSON object of this form. Copy values from the text; \
answer with the JSON only.

Form:
{form}"""
_SCHEMA_LAST: Final = """\
Text:
{text}

Extract the information from the text above as one JSON object that follows this JSON Schema. \
Take values from the text; answer with the JSON only.

JSON Schema:
{schema}"""
_BARE: Final = "{text}\n\nWrite this as JSON with the keys {keys}."

_TICKET: Final = """\
Ticket no. 7714 (15 May 2023)
Rider: Anna Vogel, carried by Coastline Buses.
2 x adult single, 3.50 each: 7.00
1 x dog: 1.20
To pay: EUR 8.20. Settled in cash."""
_TICKET_VALUE: Final[dict[str, Any]] = {
    "ticket": "7714",
    "date": "2023-05-15",
    "rider": "Anna Vogel",
    "carrier": "Coastline Buses",
    "fares": [
        {"what": "adult single", "count": 2, "amount": 7},
        {"what": "dog", "count": 1, "amount": 1.2},
    ],
    "total": 8.2,
    "settled": True,
}


def form_of(schema: Mapping[str, Any]) -> Any:
    """An object as it is wanted, with words in place of values: shorter than a schema."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    described = schema.get("description", "")
    if schema.get("format") == "date":
        return f"{described}, YYYY-MM-DD".lstrip(", ")
    if schema["type"] == "object":
        return {name: form_of(inner) for name, inner in schema["properties"].items()}
    if schema["type"] == "array":
        return [described or form_of(schema["items"])]
    words = {"string": "...", "number": 0.0, "integer": 0, "boolean": "true or false"}
    return described or words[schema["type"]]


def _filled(template: str) -> Prompt:
    """One user message."""

    def prompt(text: str, shown: str, schema: Any) -> Messages:
        form = json.dumps(form_of(schema), ensure_ascii=False)
        keys = ", ".join(schema["properties"])
        said = template.format(text=text.strip(), schema=shown, form=form, keys=keys)
        return [{"role": "user", "content": said}]

    return prompt


def _with_example(inner: Prompt) -> Prompt:
    """An example of another schema as turns before."""

    def shape(value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {"type": "object", "properties": {k: shape(v) for k, v in value.items()}}
        if isinstance(value, list):
            return {"type": "array", "items": shape(value[0])}
        names = {bool: "boolean", int: "integer", float: "number", str: "string"}
        return {"type": names[type(value)]}

    def prompt(text: str, shown: str, schema: Any) -> Messages:
        wanted = shape(_TICKET_VALUE)
        asked = inner(_TICKET, json.dumps(wanted), wanted)
        answer = {"role": "assistant", "content": json.dumps(_TICKET_VALUE)}
        return [*asked, answer, *inner(text, shown, schema)]

    return prompt


def _default(text: str, shown: str, schema: Any) -> Messages:
    return default_prompt(text, shown)


PROMPTS: Final[dict[str, Prompt]] = {
    DEFAULT_PROMPT: _default,
    "schema-last": _filled(_SCHEMA_LAST),
    "form": _filled(_FORM),
    "form-last": _filled(_FORM_LAST),
    "keys": _filled(_BARE),
    "example": _with_example(_default),
    "form-example": _with_example(_filled(_FORM)),
}
