"""Prompts as token ids: text, chat messages, or ids as ``transformers`` hands them out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from constrain.arguments import described
from constrain.models import text_config

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""Chat messages: mappings with ``role`` and ``content``."""


def is_messages(given: Any) -> TypeGuard[Messages]:
    """Whether it is a list of chat messages."""
    return (
        isinstance(given, Sequence)
        and not isinstance(given, str | bytes)
        and len(given) > 0
        and all(isinstance(message, Mapping) and "role" in message for message in given)
    )


def prompt_ids(tokenizer: Any, prompt: Any) -> list[int]:
    """Token ids of one prompt.

    Args:
        tokenizer: of the model; ``None`` will do for ids.
        prompt: text; chat messages; or token ids: integers, an integer tensor or array [n] or [1, n],
            or what a tokenizer returns for one text.

    Raises:
        TypeError: if it is none of these.
        ValueError: if there is more than one prompt, text without a tokenizer, or messages without a
            chat template.
    """
    if isinstance(prompt, str):
        return _integers(_needed(tokenizer, "text")(prompt)["input_ids"])
    if is_messages(prompt):
        template = getattr(_needed(tokenizer, "chat messages"), "chat_template", None)
        if not template:
            raise ValueError(
                "chat messages need a tokenizer with a chat template; give the prompt as text instead"
            )
        return templated(tokenizer, prompt)
    # what a tokenizer returns is a mapping in some versions and acts as one in others
    if isinstance(prompt, Mapping) or hasattr(prompt, "input_ids"):
        if "input_ids" not in prompt:
            raise _wrong(prompt)
        prompt = prompt["input_ids"]
    return _integers(prompt)


def templated(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids of chat messages by the tokenizer's chat template, up to where the answer begins."""
    made = tokenizer.apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, return_dict=True
    )
    return _integers(made["input_ids"])


def checked_ids(model: Any, ids: list[int]) -> list[int]:
    """The ids, BOS if there are none.

    Raises:
        ValueError: if there are none and the model has no BOS, or the model has no such tokens.
    """
    if not ids:
        bos = getattr(getattr(model, "config", None), "bos_token_id", None)
        if not isinstance(bos, int):
            raise ValueError("the prompt is empty and the model has no BOS token to begin with")
        ids = [bos]
    size = getattr(text_config(model), "vocab_size", None)
    if min(ids) < 0 or (isinstance(size, int) and max(ids) >= size):
        raise ValueError(
            f"the prompt has tokens from {min(ids)} to {max(ids)}; the model has {size}"
        )
    return ids


def _needed(tokenizer: Any, what: str) -> Any:
    if tokenizer is None:
        raise ValueError(f"a prompt of {what} needs a tokenizer; give token ids instead")
    return tokenizer


def _integers(given: Any) -> list[int]:
    """Integers out of a list, tensor or array of them, or of one row of them."""
    values = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(values, Sequence) or isinstance(values, str | bytes | bytearray):
        raise _wrong(given)
    if len(values) > 0 and _is_row(values[0]):
        if len(values) > 1:
            raise ValueError(f"{len(values)} prompts were given; call it once for each")
        values = values[0].tolist() if hasattr(values[0], "tolist") else values[0]
    try:
        if any(isinstance(value, bool) for value in values):
            raise TypeError
        return [operator.index(value) for value in values]
    except TypeError:
        raise _wrong(given) from None


def _is_row(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return False
    return isinstance(value, Sequence) or (
        hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0
    )


def _wrong(given: Any) -> TypeError:
    return TypeError(
        "a prompt is text, token ids (integers of one text) or chat messages (mappings with role and "
        f"content), not {described(given)}"
    )
