"""Hermes 2 Pro, Hermes 3, Qwen 2.5 and Qwen 3: a JSON object for each call, between two tags.

The assistant's message is content, then for each call ``<tool_call>``, a line break, ``{"name": ...,
"arguments": ...}``, a line break and ``</tool_call>``, calls separated by a line break.

References: the chat templates of ``Qwen/Qwen3-8B`` and ``NousResearch/Hermes-3-Llama-3.1-8B``;
vLLM's ``hermes`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.ir import Expr, seq
from grammars.tools.layout import Layout, line_breaks

SPECIAL: Final[frozenset[str]] = frozenset()
MARKERS: Final = ("<tool_call>", "</tool_call>", "<think>", "</think>")


def hermes(layout: Layout) -> Expr:
    """The assistant's message."""
    begin, end = layout.mark("<tool_call>"), layout.mark("</tool_call>")
    rest = None
    if layout.tools:
        call = layout.each(lambda tool: layout.object(tool, "name", "arguments"))
        one = seq(line_breaks(1), call, line_breaks(1), end)
        rest = layout.then_more(one, seq(line_breaks(1), begin, one))
    answer = layout.answer("<tool_call>", rest, "</tool_call>", "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
