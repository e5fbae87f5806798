"""Kimi K2: a section of calls, each with a numbered name.

``<|tool_calls_section_begin|>``, for each call ``<|tool_call_begin|>functions.NAME:NUMBER``,
``<|tool_call_argument_begin|>``, the arguments as JSON, ``<|tool_call_end|>``;
``<|tool_calls_section_end|>``.

References: ``docs/tool_call_guidance.md`` of ``moonshotai/Kimi-K2-Instruct`` and its chat template;
vLLM's ``kimi_k2`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import text
from grammars.ir import Expr, alt, chars, repeat, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout

SPECIAL: Final = frozenset(
    (
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
    )
)
MARKERS: Final = (*sorted(SPECIAL), "<think>", "</think>")


def _number() -> Expr:
    digit = chars([(0x30, 0x39)])
    return alt(text("0"), seq(chars([(0x31, 0x39)]), repeat(digit, 0, 3)))


def kimi(layout: Layout) -> Expr:
    """The assistant's message."""

    def call(tool: Tool) -> Expr:
        return seq(
            layout.mark("<|tool_call_begin|>"),
            text(f"functions.{layout.name(tool)}:"),
            _number(),
            layout.mark("<|tool_call_argument_begin|>"),
            layout.arguments(tool),
            layout.mark("<|tool_call_end|>"),
        )

    rest = None
    if layout.tools:
        calls = layout.several(layout.each(call))
        rest = seq(calls, layout.mark("<|tool_calls_section_end|>"))
    answer = layout.answer("<|tool_calls_section_begin|>", rest, *MARKERS)
    return layout.reasoned("<think>", "</think>", answer)
