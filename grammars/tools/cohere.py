"""Cohere Command R7B, Command A, and Command R: an action, which is a JSON list of calls.

* R7B and A: a plan between ``<|START_THINKING|>`` and ``<|END_THINKING|>``, then
  ``<|START_ACTION|>[{"tool_call_id": "0", "tool_name": ..., "parameters": {...}},
  ...]<|END_ACTION|>``, or ``<|START_RESPONSE|>`` text ``<|END_RESPONSE|>``;
* R and R+: ``Action:`` and a JSON code block with a list of ``{"tool_name": ..., "parameters": {...}}``.

References: the chat templates ``tool_use`` of ``CohereLabs/c4ai-command-r7b-12-2024`` and
``CohereLabs/c4ai-command-r-plus``.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import blanks, text
from grammars.ir import Expr, alt, chars, repeat, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout, brackets, comma, gap, line_breaks

MARKERS: Final = (
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
)
SPECIAL: Final = frozenset(MARKERS)
TEXTUAL: Final[frozenset[str]] = frozenset()
TEXT_MARKERS: Final[tuple[str, ...]] = ()
_ACTION: Final = "Action:"


def cohere(layout: Layout) -> Expr:
    """The assistant's message, Command R7B and Command A."""
    free = layout.free(*MARKERS)
    wrapped = seq(layout.mark("<|START_RESPONSE|>"), free, layout.mark("<|END_RESPONSE|>"))
    ways = [] if layout.mode == "required" else [alt(wrapped, free)]
    if layout.mode != "none":
        number = repeat(chars([(0x30, 0x39)]), 1, 4)
        known = seq(text('"tool_call_id":'), gap(), text('"'), number, text('"'))

        def call(tool: Tool) -> Expr:
            return layout.object(tool, "tool_name", "parameters", known)

        calls = brackets(layout.several(layout.each(call), comma()))
        ways.append(seq(layout.mark("<|START_ACTION|>"), calls, layout.mark("<|END_ACTION|>")))
    return layout.reasoned("<|START_THINKING|>", "<|END_THINKING|>", alt(*ways))


def cohere_r(layout: Layout) -> Expr:
    """The assistant's message, Command R and R+."""
    rest = None
    if layout.tools:

        def call(tool: Tool) -> Expr:
            return layout.object(tool, "tool_name", "parameters")

        calls = brackets(layout.several(layout.each(call), comma()))
        rest = seq(
            blanks(0, 1, b" \n"),
            text("```json"),
            line_breaks(1),
            calls,
            line_breaks(1),
            text("```"),
        )
    if layout.reasoning != "never":
        raise layout.no_reasoning("Command R")
    return layout.answer(_ACTION, rest)
