"""gpt-oss: OpenAI's harmony, messages in channels.

The prompt ends with ``<|start|>assistant``.  What follows are messages, each with a channel:

* ``<|channel|>analysis<|message|>`` text ``<|end|>``: reasoning;
* ``<|channel|>commentary<|message|>`` text ``<|end|>``: a word to the user before a call;
* ``<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>`` JSON ``<|call|>``: a
  call, which ends the answer; the recipient may also stand before the channel, and
  ``<|constrain|>`` may be missing, as in the chat template;
* ``<|channel|>final<|message|>`` text ``<|return|>``: the answer.

Each further message begins with ``<|start|>assistant``.

References: https://cookbook.openai.com/articles/openai-harmony and the chat template of
``openai/gpt-oss-20b``; vLLM's ``openai`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import blanks, many, text
from grammars.ir import Expr, alt, optional, seq
from grammars.tools.definitions import Tool
from grammars.tools.layout import Layout

MARKERS: Final = (
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
)
SPECIAL: Final = frozenset(MARKERS)


def harmony(layout: Layout) -> Expr:
    """The assistant's messages."""
    channel, message = layout.mark("<|channel|>"), layout.mark("<|message|>")
    free = layout.free(*MARKERS)
    further = seq(layout.mark("<|start|>"), text("assistant"))

    def said(name: str, end: str) -> Expr:
        return seq(channel, text(name), message, free, layout.mark(end))

    json = seq(blanks(0, 1, b" "), layout.mark("<|constrain|>"), text("json"))
    kind = alt(json, text(" json"))

    def call(tool: Tool) -> Expr:
        name = layout.name(tool)
        behind = seq(channel, text(f"commentary to=functions.{name}"), optional(kind))
        before = seq(text(f" to=functions.{name}"), channel, text("commentary"), optional(kind))
        return seq(alt(behind, before), message, layout.arguments(tool), layout.mark("<|call|>"))

    ways = []
    if layout.mode != "required":
        final = seq(channel, text("final"), message, free)
        ways.append(seq(final, optional(layout.mark("<|return|>"))))
    if layout.mode != "none":
        preamble = seq(said("commentary", "<|end|>"), further)
        ways.append(seq(optional(preamble), layout.each(call)))
    answer = alt(*ways)
    if layout.reasoning == "never":
        return answer
    thought = seq(said("analysis", "<|end|>"), further)
    return seq(many(thought, 1 if layout.reasoning == "always" else 0), answer)
