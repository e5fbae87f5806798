"""What the command writes to standard output: texts, JSON and tables."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from rich.table import Table

READER_GONE: Final = 141
"""Exit status where the reader closed the pipe: 128 and SIGPIPE, as shells report other tools."""
_NARROWEST: Final = 20
"""Prose is not broken into lines shorter than this."""


class ReaderGone(Exception):  # noqa: N818 - not an error
    """Nobody reads the output any more, as behind ``| head``."""


def say(text: str) -> None:
    """Writes a line.

    Raises:
        ReaderGone: if nobody reads it.
    """
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EINVAL):  # the latter on Windows
            raise ReaderGone from None
        raise


def tell(text: str, *, err: bool = False) -> None:
    """Writes prose, to standard output or error: at a terminal broken between words, elsewhere as it is.

    Raises:
        ReaderGone: if nobody reads it.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = wrapped(text, shutil.get_terminal_size().columns)
    if err:
        typer.echo(text, err=True)
    else:
        say(text)


def wrapped(text: str, width: int) -> str:
    """Prose in lines of a width; lines that are long go on indented, the others stay."""
    out: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width:
            out.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip(" "))] + "  "
        out += textwrap.wrap(
            line,
            max(width, _NARROWEST),
            subsequent_indent=indent,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
    return "\n".join(out)


def dump(value: Any) -> None:
    """Writes a value as JSON."""
    say(json.dumps(value, ensure_ascii=False, indent=2))


def show(table: Table, *, err: bool = False) -> None:
    """Writes a table, to standard output or error: wrapped where a terminal is narrow, never elsewhere."""
    from rich.console import Console

    console = Console(stderr=err)
    if not console.is_terminal:
        console.width = max(1, console.measure(table, options=_unbounded(console)).maximum)
    with console.capture() as captured:
        console.print(table)
    shown = captured.get().removesuffix("\n")
    if err:
        typer.echo(shown, err=True)
    else:
        say(shown)


def _unbounded(console: Any) -> Any:
    return console.options.update(max_width=1 << 20)


def hang_up() -> None:
    """Sends what is still to be flushed nowhere, so that nothing complains at the end."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: no file behind it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
