"""What is asked of a server, and whether an answer is what was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from constrain.arguments import check_count
from constrain.huggingface.asking import checked_question, question
from constrain.huggingface.grounding import source_of
from constrain.huggingface.prompts import Messages
from constrain.huggingface.stopping import stop_texts
from constrain.huggingface.target import Target
from grammars.errors import GrammarError
from grammars.frontends.json_schema.closing import closed
from grammars.grammar import Grammar
from grammars.sources.source import KEYWORD

_FOREIGN_KEY: Final = re.compile(r'no key ("(?:[^"\\]|\\.)*") may come here')
"""The hint of an explanation at a key that the schema does not name."""

_FENCE: Final = re.compile(r"```\w*\s*\n(.*?)```", re.DOTALL)

RETRY_TEMPERATURE: Final = 0.7
"""The temperature of further attempts where none was given."""


@dataclass(frozen=True)
class Drawn:
    """How tokens are drawn; ``None`` leaves that to the server.

    Raises:
        TypeError, ValueError: for numbers that are none, or out of range.
    """

    temperature: float | None = 0.0
    top_p: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None
    extra_body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_count(self.max_new_tokens, "max_new_tokens", optional=True)
        check_count(self.seed, "seed", least=0, optional=True)
        if self.temperature is not None and not self.temperature >= 0:
            raise ValueError(f"temperature={self.temperature}: must be 0 or more")

    @property
    def members(self) -> dict[str, Any]:
        """The members of a request."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.max_new_tokens,
        }
        return {name: value for name, value in given.items() if value is not None}

    def again(self, body: dict[str, Any], attempt: int) -> dict[str, Any]:
        """The same request, of which another answer is wanted."""
        if not attempt:
            return body
        again: dict[str, Any] = {}
        if self.temperature is not None:
            again["temperature"] = self.temperature or RETRY_TEMPERATURE
        if self.seed is not None:
            again["seed"] = self.seed + attempt
        return body | again


@dataclass(frozen=True)
class Asked:
    """A text with what is wanted of it."""

    messages: Messages
    target: Target
    drawn: Drawn
    stop: tuple[str, ...]

    @classmethod
    def of(cls, asked: Any, wanted: Any, options: Mapping[str, Any]) -> Asked:
        """From the arguments of :meth:`OpenAIServer.extract`."""
        left = dict(options)
        told = {name: left.pop(name) for name in ("prompt", "system", "examples") if name in left}
        stop = left.pop("stop", None)
        given = checked_question(asked)
        source = source_of(given, left.pop("source", None))
        target = Target.of(wanted, source=source, grounded=bool(left.pop("grounded", False)))
        unknown = left.keys() - Drawn.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"{min(unknown)!r} is no option of an extraction over a server")
        said = question(given, target, **told)
        messages: Messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        stops = tuple(one.decode() for one in stop_texts(stop))
        return cls(messages, target, Drawn(**left), stops)

    @property
    def schema(self) -> Any:
        """The schema that is sent and that answers are checked by; ``None`` for a grammar.

        Without what only this package knows.  Objects of types have no other keys than their fields,
        unless the type says ``extra="allow"``: what pydantic would drop in silence is refused.
        """
        schema = _without_marks(self.target.schema)
        return schema if self.target.adapter is None else closed(schema)

    def made_up(self, text: str) -> str | None:
        """Why a text of the schema has values that stand nowhere in the source; ``None`` if it has none."""
        if self.target.wanted is None:
            return None
        schema = json.dumps(self.target.schema)
        grammar = _of_source(schema, self.target.source, self.target.grounded)
        written = json.dumps(json.loads(text), ensure_ascii=False)
        return None if grammar.accepts(written) else grammar.explain(written).message


def _without_marks(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: _without_marks(v) for k, v in schema.items() if k != KEYWORD}
    return [_without_marks(v) for v in schema] if isinstance(schema, list) else schema


@lru_cache(16)
def _of_source(schema: str, source: str | None, grounded: bool) -> Grammar:
    return Grammar.from_json_schema(
        schema, property_order="any", numbers="any", source=source, grounded=grounded
    )


def refuse_local(**options: Any) -> None:
    """Refuses options that only a model that runs here has.

    Raises:
        TypeError: if one is given; names it.
    """
    for name, value in options.items():
        if value is not None and value is not False:
            raise TypeError(f"{name} is for a model that runs here, not for one behind a server")


def not_of(text: str, schema: str) -> str | None:
    """Why a text is no JSON that a schema describes, keys in any order; ``None`` where it is."""
    try:
        written = json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError as error:
        fenced = _FENCE.search(text)
        if fenced is not None and _is_json(fenced[1]):
            return "the JSON is inside a code fence (```)"
        return f"no JSON ({error})"
    grammar = _in_any_order(schema)
    if grammar.accepts(written):
        return None
    told = grammar.explain(written)
    foreign = _FOREIGN_KEY.match(told.hint)
    if foreign is None:
        return told.message
    return f"key {json.loads(foreign[1])!r} is not in the schema: {told.message}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@lru_cache(64)
def _in_any_order(schema: str) -> Grammar:
    try:
        return Grammar.from_json_schema(schema, property_order="any", numbers="any")
    except GrammarError:  # a keyword that asks for keys in order
        return Grammar.from_json_schema(schema, numbers="any")
