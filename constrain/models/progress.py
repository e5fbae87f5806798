"""Progress of fetching and converting, on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

Advance: TypeAlias = Callable[[int], None]  # called with the bytes that are there so far


@contextlib.contextmanager
def step(text: str, total: int | None = None) -> Iterator[Advance]:
    """Shows one step on stderr: a bar where the size is known, else a spinner.

    Where stderr is no terminal, one line says that the step begins.
    """
    stream = sys.stderr  # kept: a step may send sys.stderr elsewhere while it runs
    if not stream.isatty():
        print(text, file=stream, flush=True)
        yield lambda _: None
        return
    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    bar = [BarColumn(), DownloadColumn()] if total is not None else []
    with Progress(*columns, *bar, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(
            task, completed=done if total is None else min(done, total)
        )
