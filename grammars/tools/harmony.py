"""gpt-oss: OpenAI's harmony, messages in channels.

The prompt ends with ``<|start|>assistant``.  What follows are messages, each with a channel:

* ``<|channel|>analysis<|message|>`` text ``<|end|>``: reasoning;
* ``<|channel|>commentary<|message|>`` text ``<|end|>``: a word to the user before a call;
* ``<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>`` JSON ``<|call|>``: a call, which ends the answer; the
  recipient may also stand before the channel, and ``<|constrain|>`` may be missing, as in the chat template;
* ``<|channel|>final<|message|>`` text ``<|return|>``: the answer.

Each further message begins with ``<|start|>assistant``.

References: https://cookbook.openai.com/articles/openai-harmony and the chat template of ``openai/gpt-oss-20b``; vLLM's
``openai`` parser.
"""

from __future__ import annotations

from typing import Final

from grammars.frontends.pieces import blanks, either, many, maybe, sequence, text
from grammars.ir import GrammarIR
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


def harmony(layout: Layout) -> GrammarIR:
    """The assistant's messages."""
    channel, message = layout.mark("<|channel|>"), layout.mark("<|message|>")
    free = layout.free(*MARKERS)
    further = sequence(layout.mark("<|start|>"), text("assistant"))

    def said(name: str, end: str) -> GrammarIR:
        return sequence(channel, text(name), message, free, layout.mark(end))

    json = sequence(blanks(0, 1, b" "), layout.mark("<|constrain|>"), text("json"))
    kind = either(json, text(" json"))

    def call(tool: Tool) -> GrammarIR:
        name = layout.name(tool)
        behind = sequence(channel, text(f"commentary to=functions.{name}"), maybe(kind))
        before = sequence(text(f" to=functions.{name}"), channel, text("commentary"), maybe(kind))
        return sequence(
            either(behind, before), message, layout.arguments(tool), layout.mark("<|call|>")
        )

    ways = []
    if layout.mode != "required":
        final = sequence(channel, text("final"), message, free)
        ways.append(sequence(final, maybe(layout.mark("<|return|>"))))
    if layout.mode != "none":
        preamble = sequence(said("commentary", "<|end|>"), further)
        ways.append(sequence(maybe(preamble), layout.each(call)))
    answer = either(*ways)
    if layout.reasoning == "never":
        return answer
    thought = sequence(said("analysis", "<|end|>"), further)
    return sequence(many(thought, 1 if layout.reasoning == "always" else 0), answer)
