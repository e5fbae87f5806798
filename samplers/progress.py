"""What a person sees while a model is loaded and writes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text


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


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says at a terminal what takes long, until it is done; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def progress_of(
    shown: bool,
    total: int,
    on_tokens: Callable[[int, Sequence[int]], None] | None,
    name: Callable[[], str] = lambda: "samples",
) -> Iterator[Callable[[int, Sequence[int]], None]]:
    """What a sampler calls with each text that is done: a bar on standard error, and the caller.

    Args:
        shown: whether there is a bar.
        total: texts that will be drawn.
        on_tokens: the caller's, called as well.
        name: what the bar is of; asked anew whenever it is drawn.
    """
    with bar(shown, name, total) as advance:

        def report(number: int, tokens: Sequence[int]) -> None:
            advance(1)
            if on_tokens is not None:
                on_tokens(number, tokens)

        yield report


class _Name(ProgressColumn):
    """What a bar is of, as it is now."""

    def __init__(self, name: Callable[[], str]) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(self._name())


@contextmanager
def bar(shown: bool, name: str | Callable[[], str], total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; what it yields advances it."""
    made = Progress(
        _Name(name if callable(name) else lambda: name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
    with made:
        task = made.add_task("", total=total)
        yield lambda steps: made.advance(task, steps)


def _load(model: str) -> tuple[Any, Any]:
    from constrain.models import load_model

    return load_model(model, dtype="native")
