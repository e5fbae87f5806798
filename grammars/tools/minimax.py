"""MiniMax M1 and M2: a block of calls.

* M1: ``<tool_calls>``, a JSON object ``{"name": ..., "arguments": ...}`` on a line for each call,
  ``</tool_calls>``;
* M2: ``<minimax:tool_call>``, for each call ``<invoke name="NAME">``, ``<parameter
  name="KEY">VALUE</parameter>`` and ``</invoke>`` on lines of their own, ``</minimax:tool_call>``.
  Strings are written as they are, other values as JSON.

References: the chat templates and tool calling guides of ``MiniMaxAI/MiniMax-M1-80k`` and
``MiniMaxAI/MiniMax-M2``; vLLM's ``minimax`` and ``minimax_m2`` parsers.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.parameters import Style
from grammars.frontends.pieces import text
from grammars.ir import Expr, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout

SPECIAL: Final[frozenset[str]] = frozenset()
MARKERS: Final = (
    "<tool_calls>",
    "</tool_calls>",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "<think>",
    "</think>",
)
_STYLE: Final = Style(
    '<parameter name="',
    '">',
    "</parameter>\n",
    gap="",
    padded=False,
    barred=(
        "</parameter>",
        "<parameter name=",
        "<invoke name=",
        "</invoke>",
        "</minimax:tool_call>",
    ),
)


def minimax_m1(layout: Layout) -> Expr:
    """The assistant's message, M1."""
    rest = None
    if layout.tools:
        call = layout.each(lambda tool: layout.object(tool, "name", "arguments", lines=False))
        calls = layout.several(call, "\n")
        rest = seq(text("\n"), calls, text("\n"), layout.mark("</tool_calls>"))
    return _message(layout, "<tool_calls>", rest)


def minimax_m2(layout: Layout) -> Expr:
    """The assistant's message, M2."""

    def call(tool: Tool) -> Expr:
        return seq(
            text(f'<invoke name="{layout.name(tool)}">\n'),
            layout.parameters(tool, _STYLE),
            text("</invoke>\n"),
        )

    rest = None
    if layout.tools:
        calls = layout.several(layout.each(call))
        rest = seq(text("\n"), calls, layout.mark("</minimax:tool_call>"))
    return _message(layout, "<minimax:tool_call>", rest)


def _message(layout: Layout, begin: str, rest: Expr | None) -> Expr:
    answer = layout.answer(begin, rest, "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
