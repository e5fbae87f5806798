"""What a server answers: a message, whole or in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A message of a server, or a piece of one; pieces are added up.

    Attributes:
        text: the content.
        finish: why it ended, in the server's words; ``None`` while it goes on.
        reasoning: what the model thought first, where the server tells.
        refusal: why the model does not answer.
        calls: of tools, as the server lists them.
        tokens: how many were written, where the server counts them.
    """

    text: str = ""
    finish: str | None = None
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[Any] = ()
    tokens: int | None = None

    @classmethod
    def of(cls, choice: Mapping[str, Any], message: Mapping[str, Any], usage: Any = None) -> Answer:
        """From one of the choices that a server gives, its message or delta, and its counts."""
        tokens = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
        return cls(
            message.get("content") or "",
            choice.get("finish_reason"),
            message.get("reasoning_content") or message.get("reasoning") or "",
            message.get("refusal") or "",
            message.get("tool_calls") or (),
            tokens if isinstance(tokens, int) else None,
        )

    def __add__(self, other: Answer) -> Answer:
        return Answer(
            self.text + other.text,
            other.finish or self.finish,
            self.reasoning + other.reasoning,
            self.refusal + other.refusal,
            tokens=self.tokens if other.tokens is None else other.tokens,
        )

    @property
    def whole_text(self) -> str:
        """The text with halves of characters joined, and those that stay alone replaced."""
        return self.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
