"""Checks of arguments: a wrong object gets a sentence that says what was expected."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, overload

_SHOWN = 40


def described(value: Any) -> str:
    """A few words for an object in an error message."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, type):
        return f"the type {value.__name__}"
    if isinstance(value, str | bytes):
        shown = repr(value if len(value) <= _SHOWN else value[:_SHOWN])
        return f"the text {shown}{'...' if len(value) > _SHOWN else ''}"
    if isinstance(value, list | tuple):
        inner = f" of {type(value[0]).__name__}" if value else ""
        return f"a {type(value).__name__} ({len(value)} items{inner})"
    shape = getattr(value, "shape", None)
    if shape is not None and not callable(shape):
        return f"a {type(value).__name__} of shape {list(shape)}"
    return f"an object of type {type(value).__name__}"


@overload
def check_count(
    value: Any, name: str, *, least: int = ..., optional: Literal[False] = ...
) -> int: ...
@overload
def check_count(value: Any, name: str, *, least: int = ..., optional: bool) -> int | None: ...
def check_count(value: Any, name: str, *, least: int = 1, optional: bool = False) -> int | None:
    """An integer argument of at least ``least``.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is smaller.
    """
    if value is None and optional:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {described(value)}") from None
    if number < least:
        bound = f"at least {least}" if least else "0 or more"
        raise ValueError(f"{name}={number}: must be {bound}")
    return number


def check_model(value: Any, place: str) -> Any:
    """A causal language model of ``transformers``, or something that acts as one.

    Raises:
        TypeError: if it is certainly none.
    """
    if isinstance(value, str):
        _refuse(value, place, "a model", "; load it first: model, tokenizer = load_model(name)")
    if _is_tokenizer(value):
        _refuse(value, place, "a model", "; model and tokenizer may have changed places")
    if _is_neither(value):
        _refuse(value, place, "a model", "")
    return value


def check_tokenizer(value: Any, place: str) -> Any:
    """A tokenizer of ``transformers``, or something that acts as one.

    Raises:
        TypeError: if it is certainly none.
    """
    if isinstance(value, str):
        hint = "; load it first: model, tokenizer = load_model(name)"
        _refuse(value, place, "a tokenizer", hint)
    if hasattr(value, "forward"):
        hint = "; model and tokenizer may have changed places"
        _refuse(value, place, "a tokenizer", hint)
    if type(value).__name__ == "Vocabulary" and _is_neither(value):
        hint = "; a vocabulary cannot tokenize a prompt, give the tokenizer it was made of"
        _refuse(value, place, "a tokenizer", hint)
    if _is_neither(value):
        _refuse(value, place, "a tokenizer", "")
    return value


def _is_neither(value: Any) -> bool:
    """Plain data, a class, or an object of the packages below models."""
    package = type(value).__module__.partition(".")[0]
    return (
        value is None
        or isinstance(value, type | bytes | int | float | list | tuple | Mapping)
        or package in ("grammars", "constrain")
    )


def _is_tokenizer(value: Any) -> bool:
    return hasattr(value, "convert_ids_to_tokens") or (
        hasattr(value, "token_to_id") and hasattr(value, "encode")
    )


def _refuse(value: Any, place: str, wanted: str, hint: str) -> NoReturn:
    raise TypeError(f"{place} needs {wanted}, not {described(value)}{hint}")
