"""DeepSeek R1, V3, V3.1, V3.2 and V4: lists of calls between tokens of their own.

* R1 and V3: ``<｜tool▁calls▁begin｜>``, for each call
  ``<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME``, the arguments as JSON in a code block, and
  ``<｜tool▁call▁end｜>``, separated by line breaks; ``<｜tool▁calls▁end｜>``.
* V3.1: ``<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>JSON<｜tool▁call▁end｜>``, without separators.
* V3.2 and V4: ``<｜DSML｜function_calls>`` (V4: ``tool_calls``), for each call ``<｜DSML｜invoke
  name="NAME">`` and ``<｜DSML｜parameter name="KEY" string="true">VALUE</｜DSML｜parameter>``;
  ``string`` says whether the value is a string, written as it is, or JSON.

References: the chat templates of ``deepseek-ai/DeepSeek-R1-0528``, ``deepseek-ai/DeepSeek-V3.1``
and ``encoding_dsv32.py`` of ``deepseek-ai/DeepSeek-V3.2``; vLLM's ``deepseek_v3``, ``deepseek_v31``
and ``deepseek_v32`` parsers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from grammars.frontends.parameters import STYLES, Style
from grammars.frontends.pieces import text
from grammars.ir import Expr, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout

SPECIAL: Final = frozenset(
    (
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
    )
)
MARKERS: Final = (*sorted(SPECIAL), "<think>", "</think>")
TEXTUAL: Final[frozenset[str]] = frozenset()
TEXT_MARKERS: Final = ("<think>", "</think>")

_DSML: Final = STYLES["deepseek_xml"]
_STYLE: Final = Style(
    _DSML.before,
    _DSML.middle,
    _DSML.end + "\n",
    _DSML.after,
    _DSML.types,
    gap="",
    padded=False,
    barred=("</｜DSML｜", "<｜DSML｜"),
    nothing="\n",
)


def deepseek_v3(layout: Layout) -> Expr:
    """The assistant's message, R1 and V3."""

    def call(tool: Tool) -> Expr:
        return seq(
            layout.mark("<｜tool▁call▁begin｜>"),
            text("function"),
            layout.mark("<｜tool▁sep｜>"),
            text(f"{layout.name(tool)}\n```json\n"),
            layout.arguments(tool),
            text("\n```"),
            layout.mark("<｜tool▁call▁end｜>"),
        )

    return _message(layout, call, "\n")


def deepseek_v31(layout: Layout) -> Expr:
    """The assistant's message, V3.1."""

    def call(tool: Tool) -> Expr:
        return seq(
            layout.mark("<｜tool▁call▁begin｜>"),
            text(layout.name(tool)),
            layout.mark("<｜tool▁sep｜>"),
            layout.arguments(tool),
            layout.mark("<｜tool▁call▁end｜>"),
        )

    return _message(layout, call, "")


def _message(layout: Layout, call: Callable[[Tool], Expr], separator: str) -> Expr:
    begin, end = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
    rest = None
    if layout.tools:
        rest = seq(layout.several(layout.each(call), separator), layout.mark(end))
    answer = layout.answer(begin, rest, *MARKERS)
    return layout.reasoned("<think>", "</think>", answer)


def deepseek_v32(layout: Layout) -> Expr:
    """The assistant's message, V3.2."""
    return _tagged(layout, "function_calls")


def deepseek_v4(layout: Layout) -> Expr:
    """The assistant's message, V4."""
    return _tagged(layout, "tool_calls")


def _tagged(layout: Layout, block: str) -> Expr:
    def call(tool: Tool) -> Expr:
        return seq(
            text(f'<｜DSML｜invoke name="{layout.name(tool)}">\n'),
            layout.parameters(tool, _STYLE),
            text("</｜DSML｜invoke>\n"),
        )

    begin = f"<｜DSML｜{block}>"
    rest = None
    if layout.tools:
        calls = layout.several(layout.each(call))
        rest = seq(text("\n"), calls, text(f"</｜DSML｜{block}>"))
    answer = layout.answer(begin, rest, "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
