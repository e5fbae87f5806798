"""What a person sees while a model is loaded and writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console


class _Counter:
    """Shows how many tokens there are so far; called with those that are new."""

    def __init__(self, status: Any, text: str) -> None:
        self._status = status
        self._text = text
        self._count = 0

    def __call__(self, number: int, tokens: Sequence[int]) -> None:
        self._count += len(tokens)
        self._status.update(f"{self._text}: {self._count} tokens")


@contextmanager
def answering(model: str) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Loads a model; yields it, its tokenizer and options for ``samplers.extract``.

    A running count goes to standard error where that is a terminal.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"gramma: loading {model}", file=sys.stderr, flush=True)
        loaded, tokenizer = _load(model)
        print("gramma: writing", file=sys.stderr, flush=True)
        yield loaded, tokenizer, {}
        return
    with console.status(f"loading {model}") as status:
        loaded, tokenizer = _load(model)
        yield loaded, tokenizer, {"on_tokens": _Counter(status, "writing")}


def _load(model: str) -> tuple[Any, Any]:
    from constrain.models import load_model

    return load_model(model)
