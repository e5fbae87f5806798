"""What an extraction returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        value: the validated value: an instance of the type, or plain data for a schema; the text
            itself where a grammar of other texts than JSON was given; ``None`` if the text is not
            complete.
        text: what the model wrote.
        tokens: its token ids, the final EOS included.
        complete: whether the text is whole and of the grammar.
        prefix: the end of the prompt that ``tokens`` begin with (``heal=True``); not part of ``text``.
        reasoning: the thought that was written before (``reasoning=``); no part of ``text`` and ``tokens``.
        weight: the share of this answer among several (``extract_samples``).
        error: why there is no value (``extract_many(on_error="return")``); ``None`` if there is one.
    """

    value: Any
    text: str
    tokens: list[int]
    complete: bool
    prefix: bytes = b""
    reasoning: str = ""
    weight: float = 1.0
    error: Exception | None = None
