"""What a person sees while a model is loaded and writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


class _Counter:
    """A streamer for ``generate`` that shows how many tokens there are so far."""

    def __init__(self, status: Any, text: str) -> None:
        self._status = status
        self._text = text
        self._count = -1  # the first piece is the prompt

    def put(self, value: Any) -> None:
        self._count += 1
        self._status.update(f"{self._text}: {max(self._count, 0)} tokens")

    def end(self) -> None:
        pass


@contextmanager
def answering(model: str) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Loads a model; yields it, its tokenizer and options for ``generate``.

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
        yield loaded, tokenizer, {"streamer": _Counter(status, "writing")}


def _load(model: str) -> tuple[Any, Any]:
    from constrain.models import load_model

    return load_model(model)
