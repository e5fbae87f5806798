"""The rows of the output: one for each document, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """What became of one document.

    Attributes:
        row: its number in the input, from 0.
        id: what it is called there; its number where it has no name.
        value: the extracted value as plain data; ``None`` where there is none.
        complete: whether there is a value.
        error: the kind of error and its message; ``None`` where there is a value.
        seconds: its share of the time that its batch took.
        tokens: how many were written, the end included; 0 where a server does not tell.
        sources: JSON pointer -> (start, end), where values stand in the text, in characters.
        confidence: JSON pointer -> probability of the value against what was allowed there.
    """

    row: int
    id: str | int
    value: Any = None
    complete: bool = False
    error: str | None = None
    seconds: float = 0.0
    tokens: int = 0
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)

    def line(self) -> bytes:
        """The row as a line of JSON, the newline included.

        Raises:
            ValueError: for a number in the value that JSON has no name for.
        """
        return json_of(asdict(self)).encode() + b"\n"


def json_of(value: Any) -> str:
    """JSON text that UTF-8 can write: signs as they are, but all escaped where one is half of a pair.

    Raises:
        ValueError: for numbers that JSON has no name for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def told(error: BaseException) -> str:
    """An error as rows tell it."""
    return f"{type(error).__name__}: {error}"
