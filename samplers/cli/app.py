"""The command's frame: the application, its exit status, and how errors are told."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn, ParamSpec

import typer

from constrain.extras import MissingExtra, missing_extra
from grammars import GrammarError, LimitExceeded
from grammars.version import version
from samplers.output import READER_GONE, ReaderGone, hang_up, tell

_P = ParamSpec("_P")

DOES_NOT_HOLD = 1
COULD_NOT_RUN = 2

app = typer.Typer(
    name="gramma",
    help="Constrained and structured decoding: check grammars, sample them, have models follow them.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    app()


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gramma {version()}")
        raise typer.Exit


@app.callback()
def _common(
    asked: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Says the version."),
    ] = False,
) -> None:
    pass


def reports(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turns what cannot be helped into a message and exit status 2."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ReaderGone:
            hang_up()
            raise typer.Exit(READER_GONE) from None
        except ModuleNotFoundError as error:
            told = missing_extra("this command", error)
            if not isinstance(told, MissingExtra):
                raise
            complain(told)
        except (GrammarError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, typer.Exit):
                raise
            complain(error)

    return wrapped


def complain(error: Exception) -> NoReturn:
    tell(f"gramma: {_message(error)}", err=True)
    raise typer.Exit(COULD_NOT_RUN) from None


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return with_option(error)


def with_option(error: Exception) -> str:
    """The text of an error; where it is a limit, with the option that raises it."""
    option = f" (--limit {error.limit}=...)" if isinstance(error, LimitExceeded) else ""
    return f"{error}{option}"
