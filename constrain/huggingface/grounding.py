"""The source text of an extraction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from constrain.huggingface.prompts import Messages


def source_of(asked: str | Messages, given: str | None = None) -> str:
    """The text that values are taken from: the one given, the text asked about, or what users said.

    Args:
        asked: one text, or chat messages.
        given: another text, where not all of that is the source.

    Raises:
        TypeError: if that is no ``str``.
    """
    if given is not None:
        if not isinstance(given, str):
            raise TypeError(f"source must be str, not {type(given).__name__}: {given!r:.80}")
        return given
    if isinstance(asked, str):
        return asked
    said = [text for message in asked if message["role"] == "user" for text in _texts(message)]
    return "\n\n".join(said)


def _texts(message: Any) -> Iterator[str]:
    """The texts of a message, whose content may be in parts."""
    content = message["content"]
    if isinstance(content, str):
        yield content
        return
    for part in content:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]
