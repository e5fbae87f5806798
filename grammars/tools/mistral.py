"""Mistral: ``[TOOL_CALLS]`` and a JSON list of calls, or a name and its arguments.

* up to the tokenizer v7: ``[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]``; a call may have
  an ``id`` of nine letters and digits behind these;
* from v11 on (Mistral Small 3.2, Devstral, Magistral, Ministral 3): ``[TOOL_CALLS]NAME[ARGS]{...}``
  for each call, in v11 with ``[CALL_ID]`` and an id between name and arguments.

Reasoning stands between ``[THINK]`` and ``[/THINK]``.

References: mistral-common's ``tokens/tokenizers/instruct.py``; vLLM's ``mistral`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import blanks, text
from grammars.ir import EPSILON, Expr, chars, optional, repeat, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout, brackets, comma, gap

MARKERS: Final = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")
SPECIAL: Final = frozenset(MARKERS)
_BEGIN: Final = "[TOOL_CALLS]"


def _call_id() -> Expr:
    return repeat(chars([(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)]), 9, 9)


def mistral(layout: Layout) -> Expr:
    """The assistant's message, tokenizers up to v7."""
    known = seq(comma(), text('"id":'), gap(), text('"'), _call_id(), text('"'))

    def call(tool: Tool) -> Expr:
        return layout.object(tool, "name", "arguments", behind=optional(known))

    rest = None
    if layout.tools:
        listed = brackets(layout.several(layout.each(call), comma()))
        rest = seq(blanks(0, 1, b" "), listed)
    return _message(layout, rest)


def mistral_args(layout: Layout) -> Expr:
    """The assistant's message, tokenizers from v11 on."""
    named = seq(layout.mark("[CALL_ID]"), _call_id()) if "[CALL_ID]" in layout.special else EPSILON

    def call(tool: Tool) -> Expr:
        return seq(
            text(layout.name(tool)),
            optional(named),
            layout.mark("[ARGS]"),
            blanks(0, 1, b" "),
            layout.arguments(tool),
        )

    rest = None
    if layout.tools:
        one = layout.each(call)
        rest = layout.then_more(one, seq(layout.mark(_BEGIN), one))
    return _message(layout, rest)


def _message(layout: Layout, rest: Expr | None) -> Expr:
    answer = layout.answer(_BEGIN, rest, "[THINK]", "[/THINK]")
    return layout.reasoned("[THINK]", "[/THINK]", answer)
