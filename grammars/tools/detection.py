"""Which tool format a tokenizer's chat template writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SIGNS: Final = (
    ("harmony", ("<|channel|>", "functions.")),
    ("deepseek_v32", ("｜DSML｜", "function_calls")),
    ("deepseek_v4", ("｜DSML｜",)),
    ("deepseek_v3", ("<｜tool▁calls▁begin｜>", "```json")),
    ("deepseek_v31", ("<｜tool▁calls▁begin｜>",)),
    ("kimi_k2", ("<|tool_calls_section_begin|>",)),
    ("minimax_m2", ("<minimax:tool_call>",)),
    ("minimax_m1", ("<tool_calls>", "</tool_calls>")),
    ("cohere", ("<|START_ACTION|>",)),
    ("cohere_r", ("Action:", "```json", "tool_name")),
    ("mistral_args", ("[TOOL_CALLS]", "[ARGS]")),
    ("mistral", ("[TOOL_CALLS]",)),
    ("qwen3_coder", ("<tool_call>", "<function=", "<parameter=")),
    ("glm45", ("<arg_key>", "</arg_key>\\n<arg_value>")),
    ("glm45", ("<arg_key>", "</arg_key>\n<arg_value>")),
    ("glm47", ("<arg_key>", "<arg_value>")),
    ("hermes", ("<tool_call>", "arguments")),
    ("llama3", ('{"name": ', '"parameters": ')),
)
"""What tells formats apart in a chat template, the first that fits."""


def tool_format_of(tokenizer: Any) -> str:
    """The tool format that a tokenizer's chat template writes, for ``Grammar.from_tools(format=)``.

    Args:
        tokenizer: one with a chat template (of several, the one called ``tool_use``, or the default one),
            or the text of a template.

    Raises:
        ValueError: for a template that is none of the known formats'.
    """
    found = tokenizer if isinstance(tokenizer, str) else getattr(tokenizer, "chat_template", None)
    if isinstance(found, Mapping):
        found = found.get("tool_use", found.get("default"))
    if not isinstance(found, str):
        raise ValueError("this tokenizer has no chat template; name the format")
    for name, signs in _SIGNS:
        if all(sign in found for sign in signs):
            return name
    known = dict.fromkeys(name for name, _ in _SIGNS)
    raise ValueError(
        f"the chat template belongs to no known tool format; there are {', '.join(known)}"
    )
