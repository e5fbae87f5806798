"""Progress over many texts: a bar on standard error, or a callback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from constrain.arguments import described

Reported: TypeAlias = bool | Callable[[int, int], None]
"""Whether there is a bar; or what is called with the texts that are done, and all of them."""


@contextmanager
def reporting(progress: Reported, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is called with the number of texts that are done now.

    Raises:
        TypeError: if ``progress`` is neither a bool nor callable.
    """
    if callable(progress):
        yield _Counter(progress, total)
        return
    if not isinstance(progress, bool):
        raise TypeError(
            f"progress is True, False or a function (done, total), not {described(progress)}"
        )
    if not progress:
        yield lambda _: None
        return
    with _bar() as bar:
        task = bar.add_task("texts", total=total)
        yield lambda steps: bar.advance(task, steps)


class _Counter:
    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def __call__(self, steps: int) -> None:
        self._done += steps
        self._report(self._done, self._total)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
