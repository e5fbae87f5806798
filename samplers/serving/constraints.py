"""What an answer has to keep, as plain data that another process makes a grammar of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.requests import GrammarRequest
from samplers.serving.errors import invalid


@dataclass(frozen=True)
class Constraint:
    """One grammar that a request asks for; equal texts are the same grammar.

    Attributes:
        text: JSON text of what :func:`grammar_of` reads; the order of keys belongs to it.
        param: the member of the request that says so.
    """

    text: str
    param: str

    @classmethod
    def of(cls, asked: Mapping[str, Any], param: str, most: int) -> Constraint:
        """From what :func:`grammar_of` reads.

        Args:
            asked: JSON.
            param: the member of the request.
            most: bytes that its text may have.

        Raises:
            RequestRefused: if it has more.
        """
        text = json.dumps(asked, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
        if size > most:
            raise invalid(param, f"its JSON has {size:,} bytes; this server takes {most:,}")
        return cls(text, param)


def grammar_of(text: str, limits: Limits) -> Grammar:
    """The grammar of a constraint.

    Args:
        text: JSON text of an object with ``structured_outputs`` (see :mod:`grammars.requests`), or
            ``tools`` with ``format``, ``tool_choice``, ``parallel`` and ``special`` as
            :meth:`Grammar.from_tools` takes them, and ``schema``: of answers without a call.
        limits: bounds on what it may cost.

    Raises:
        GrammarError: for what is no grammar, or has no text.
    """
    asked = json.loads(text)
    if "structured_outputs" in asked:
        return GrammarRequest.of(asked["structured_outputs"]).grammar(limits=limits)
    made = Grammar.from_tools(
        asked["tools"],
        format=asked["format"],
        tool_choice=asked["tool_choice"],
        parallel=asked["parallel"],
        special=asked["special"],
        limits=limits,
    )
    if "schema" in asked:
        made |= Grammar.from_json_schema(asked["schema"], limits=limits)
    if made.is_empty:
        raise GrammarError(made.explain(b"").message)
    return made
