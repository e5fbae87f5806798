"""GLM 4.5, 4.6 and 4.7: the name of a tool, then keys and values between tags.

``<tool_call>NAME``, for each argument ``<arg_key>KEY</arg_key>`` and
``<arg_value>VALUE</arg_value>``, and ``</tool_call>``; up to GLM 4.6 on lines of their own, from
4.7 on without line breaks.  Strings are written as they are, other values as JSON.

References: the chat templates of ``zai-org/GLM-4.5``, ``zai-org/GLM-4.6`` and ``zai-org/GLM-4.7``;
vLLM's ``glm45`` parser.
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
_BARRED: Final = (
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<tool_call>",
    "</tool_call>",
)
_LINES: Final = Style(
    "<arg_key>",
    "</arg_key>\n<arg_value>",
    "</arg_value>\n",
    gap="",
    padded=False,
    barred=_BARRED,
)
_DENSE: Final = Style(
    "<arg_key>", "</arg_key><arg_value>", "</arg_value>", gap="", padded=False, barred=_BARRED
)


def glm_lines(layout: Layout) -> Expr:
    """The assistant's message, GLM 4.5 and 4.6."""
    return _message(layout, _LINES, "\n")


def glm_dense(layout: Layout) -> Expr:
    """The assistant's message, GLM 4.7."""
    return _message(layout, _DENSE, "")


def _message(layout: Layout, style: Style, behind_name: str) -> Expr:
    begin, end = layout.mark("<tool_call>"), layout.mark("</tool_call>")

    def call(tool: Tool) -> Expr:
        name = text(layout.name(tool) + behind_name)
        return seq(name, layout.parameters(tool, style), end)

    rest = None
    if layout.tools:
        one = layout.each(call)
        rest = layout.then_more(one, seq(line_breaks(1), begin, one))
    answer = layout.answer("<tool_call>", rest, "</tool_call>", "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
