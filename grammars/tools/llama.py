"""Llama 3.1, 3.2 and 3.3: one call as a JSON object with ``name`` and ``parameters``.

The whole message is ``{"name": ..., "parameters": {...}}``; these models make one call at a time.

References: the chat template of ``meta-llama/Llama-3.1-8B-Instruct``; vLLM's ``llama3_json`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.ir import Expr, seq
from grammars.tools.layout import Layout, gap

SPECIAL: Final[frozenset[str]] = frozenset()
MARKERS: Final = ("<think>", "</think>")
_BEGIN: Final = '{"name":'


def llama(layout: Layout) -> Expr:
    """The assistant's message."""
    rest = None
    if layout.tools:
        rest = seq(gap(), layout.each(lambda tool: layout.call_behind(tool, "parameters")))
    answer = layout.answer(_BEGIN, rest, "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
