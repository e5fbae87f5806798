"""Qwen3-Coder and Qwen 3.5: a call as tags, each argument between tags of its own.

``<tool_call>``, ``<function=NAME>``, for each argument ``<parameter=KEY>``, its value and
``</parameter>``, ``</function>``, ``</tool_call>``, all on lines of their own.  Strings are written
as they are, other values as JSON; booleans also as the template writes them, ``True`` and ``False``.

References: the chat template of ``Qwen/Qwen3-Coder-30B-A3B-Instruct``; vLLM's ``qwen3_coder`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.parameters import Style
from grammars.frontends.pieces import text
from grammars.ir import Expr, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout, line_breaks

SPECIAL: Final[frozenset[str]] = frozenset()
MARKERS: Final = ("<tool_call>", "</tool_call>", "<think>", "</think>")
_STYLE: Final = Style(
    "<parameter=",
    ">\n",
    "\n</parameter>\n",
    gap="",
    padded=False,
    capitals=True,
    barred=(
        "</parameter>",
        "<parameter=",
        "<function=",
        "</function>",
        "<tool_call>",
        "</tool_call>",
    ),
)


def qwen_coder(layout: Layout) -> Expr:
    """The assistant's message."""
    begin, end = layout.mark("<tool_call>"), layout.mark("</tool_call>")

    def call(tool: Tool) -> Expr:
        return seq(
            text(f"\n<function={layout.name(tool)}>\n"),
            layout.parameters(tool, _STYLE),
            text("</function>\n"),
            end,
        )

    rest = None
    if layout.tools:
        one = layout.each(call)
        rest = layout.then_more(one, seq(line_breaks(1), begin, one))
    answer = layout.answer("<tool_call>", rest, "</tool_call>", "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
