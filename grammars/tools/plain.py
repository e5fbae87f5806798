"""Any model that writes JSON: ``{"tool_calls": [...]}``, for models that were trained on no format.

The whole message is ``{"tool_calls": [{"name": ..., "arguments": {...}}, ...]}``, or text.  No family writes
it of itself; the prompt has to say so, as :func:`constrain.call` does.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import text
from grammars.ir import Expr, seq
from grammars.tools.layout import Layout, brackets, comma, gap

SPECIAL: Final[frozenset[str]] = frozenset()
MARKERS: Final = ("<think>", "</think>")
BEGIN: Final = '{"tool_calls":'


def plain(layout: Layout) -> Expr:
    """The assistant's message."""
    rest = None
    if layout.tools:
        call = layout.each(lambda tool: layout.object(tool, "name", "arguments"))
        rest = seq(gap(), brackets(layout.several(call, comma())), gap(), text("}"))
    answer = layout.answer(BEGIN, rest, "<think>", "</think>")
    return layout.reasoned("<think>", "</think>", answer)
