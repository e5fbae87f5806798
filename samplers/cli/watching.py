"""Running a command again whenever a file that it reads changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from grammars import GrammarError
from samplers.output import tell

_PAUSE: Final = 0.3
"""Seconds between looks at the files."""

WatchOption = Annotated[
    bool, typer.Option("--watch", help="Run again whenever a file changes, until Ctrl-C.")
]


def watched(paths: Sequence[Path | None], run: Callable[[], None], watch: bool) -> None:
    """Runs something, once or whenever one of the files has changed.

    Args:
        paths: the files; what is no file of its own, such as standard input, cannot be watched.
        run: what is run; its exit status and errors are told and the watch goes on.
        watch: whether to.
    """
    if not watch:
        run()
        return
    files = [path for path in paths if path is not None]
    if any(not path.is_file() for path in files):
        raise ValueError("--watch needs files: standard input is read once only")
    try:
        while True:
            before = _stamps(files)
            Console().clear()
            _run(run)
            while _stamps(files) == before:
                time.sleep(_PAUSE)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _run(run: Callable[[], None]) -> None:
    try:
        run()
    except typer.Exit:
        return
    except (GrammarError, OSError, ValueError) as error:
        tell(f"gramma: {error}", err=True)


def _stamps(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """When files were last written and how long they are; ``None`` for one that is not there just now."""
    out: list[tuple[int, int] | None] = []
    for path in files:
        try:
            found = path.stat()
        except OSError:
            out.append(None)
        else:
            out.append((found.st_mtime_ns, found.st_size))
    return out
