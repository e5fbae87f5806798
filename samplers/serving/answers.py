"""Answers read from texts: contents, calls of tools, and the reason of the end."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from constrain.huggingface.calling import named_text
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from grammars.tools.reading import READERS, read_message
from samplers.serving.service import Tools
from samplers.serving.texts import Ended, Piece, TokenScore

Json = dict[str, Any]
_WHOLE: Final = ("cohere", "harmony")
"""Formats with markers around words, which are told when the answer is complete."""


@dataclass(frozen=True)
class CallOfTool:
    """A call, as OpenAI tells of it.

    Attributes:
        id: made up here.
        name: of the tool.
        arguments: JSON text.
    """

    id: str
    name: str
    arguments: str


@dataclass
class Answer:
    """One of the answers to a request, as far as it is written.

    Attributes:
        content: what may be told of it.
        calls: of tools, when it is complete.
        finish: ``"stop"``, ``"length"`` or ``"tool_calls"``, when it is complete.
        scores: of its tokens.
    """

    tools: Tools | None
    vocabulary: Vocabulary
    content: str = ""
    calls: list[CallOfTool] = field(default_factory=list)
    finish: str | None = None
    scores: list[TokenScore] = field(default_factory=list)
    _raw: str = ""

    def add(self, piece: Piece) -> str:
        """Takes more of the text; the new content that may be told of it."""
        self._raw += piece.text
        self.scores += piece.scores
        content = self._raw if self.tools is None else _words(self._raw, self.tools)
        return self._grown(content)

    def end(self, event: Ended) -> str:
        """Takes the end; the rest of the content."""
        self.finish = event.reason
        if self.tools is None:
            return ""
        content, calls = self._read(self.tools, event)
        self.calls = [CallOfTool(f"call_{uuid.uuid4().hex[:24]}", *call) for call in calls]
        if self.calls:
            self.finish = "tool_calls"
        return self._grown(content)

    def _grown(self, content: str) -> str:
        new = content[len(self.content) :]
        self.content += new
        return new

    def _read(self, tools: Tools, event: Ended) -> tuple[str, list[tuple[str, str]]]:
        raw = named_text(event.tokens, self.vocabulary, tools.format)
        if not _is_whole(self._raw, raw):  # a stop text came before the end
            return self._raw.strip(), []
        if tools.has_format and not _begins_calls(raw, tools):
            return raw, []
        try:
            said = read_message(raw, tools.format, tools.allowed, reasoning=None)
        except GrammarError:
            if tools.has_format:
                return raw, []
            raise
        calls = [(name, json.dumps(found, ensure_ascii=False)) for name, found in said.calls]
        return said.content, calls


def _is_whole(told: str, raw: str) -> bool:
    return len(told) >= len(raw)


def _begins_calls(raw: str, tools: Tools) -> bool:
    reader = READERS.get(tools.format)
    return reader is None or raw.lstrip().startswith(reader.begin)


def _words(raw: str, tools: Tools) -> str:
    """What is content in the beginning of an answer, whatever follows."""
    if tools.mode == "required" or tools.format.startswith(_WHOLE):
        return ""
    begin = READERS[tools.format].begin
    if tools.has_format:
        shown = raw.lstrip()
        return "" if begin.startswith(shown[: len(begin)]) else raw
    at = raw.find(begin) if tools.allowed else -1
    if at < 0:
        at = len(raw) - next((n for n in range(len(begin), 0, -1) if raw.endswith(begin[:n])), 0)
    return raw[:at].strip()
