"""Prompts that were tried on the documents to tune on; ``default`` is what ``extract`` asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from constrain.huggingface.extraction import default_prompt
from constrain.huggingface.prompts import Messages

Prompt: TypeAlias = Callable[[str, str, Any], Messages]
"""(text, what is shown of the schema, the schema) -> chat messages."""

DEFAULT_PROMPT: Final = "default"


def _default(text: str, shown: str, schema: Any) -> Messages:
    return default_prompt(text, shown)


PROMPTS: Final[dict[str, Prompt]] = {DEFAULT_PROMPT: _default}
