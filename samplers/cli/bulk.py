"""``gramma extract --input``: many documents, their options and what is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from samplers.cli.app import DOES_NOT_HOLD
from samplers.cli.grammar_files import DEFAULT_MODEL, grammar_text, name_of
from samplers.output import dump, say, tell

_PANEL: Final = "Many documents"
_INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as shells report it."""

InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input",
        rich_help_panel=_PANEL,
        help="Many documents: .jsonl (an object a line), .parquet, or a folder of text files.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", rich_help_panel=_PANEL, help="The folder that rows are written to."),
]
FormatOption = Annotated[
    Literal["jsonl", "parquet", "both"] | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        rich_help_panel=_PANEL,
        help="jsonl, as is usual, parquet or both.",
    ),
]
TextFieldOption = Annotated[
    str | None,
    typer.Option(
        "--text-field",
        rich_help_panel=_PANEL,
        help="The field or column of the text; text is usual.",
    ),
]
IdFieldOption = Annotated[
    str | None,
    typer.Option("--id-field", rich_help_panel=_PANEL, help="That of the name; id is usual."),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, rich_help_panel=_PANEL, help="Documents side by side in a worker; 8."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, rich_help_panel=_PANEL, help="Models side by side; 1."),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        rich_help_panel=_PANEL,
        help="Workers are actors of a Ray cluster; local begins one here.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", rich_help_panel=_PANEL, help="cpu, or cuda: a GPU for each worker."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        rich_help_panel=_PANEL,
        help="Of the model: native (bfloat16 where the processor has it, else float32), or a torch type.",
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="URL",
        rich_help_panel=_PANEL,
        help="An OpenAI-compatible server, --model its name there; the key is in GRAMMA_API_KEY.",
    ),
]


def named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their names on the command line."""
    return {f"--{name.replace('_', '-')}": value for name, value in options.items()}


def refuse(options: Mapping[str, Any], why: str) -> None:
    """Refuses options that were given and do not go with others.

    Raises:
        ValueError: names them.
    """
    given = [name for name, value in options.items() if value not in (None, False, 0, 0.0, [])]
    if given:
        raise ValueError(f"{', '.join(given)}: {why}")


@dataclass(frozen=True)
class Run:
    """Extraction from many documents, as it was asked for on the command line."""

    input: Path
    output: Path | None
    schema: Path
    model: str
    max_new_tokens: int | None
    grounded: bool

    def __call__(self, several: Mapping[str, Any], as_json: bool) -> int:
        """Runs it and says what became of it.

        Args:
            several: the options of :func:`samplers.extract_files`; ``None`` where not said.
            as_json: whether that is said as JSON.

        Returns:
            The exit status: 1 if there are rows with errors.
        """
        if self.output is None:
            raise ValueError("--input needs --output: the folder that rows are written to")
        import os

        from grammars.errors import GrammarError
        from samplers import extract_files

        options = {name: value for name, value in several.items() if value is not None}
        model = None if "backend" in options and self.model == DEFAULT_MODEL else self.model
        try:
            with _shown() as progress:
                found = extract_files(
                    self.input,
                    grammar_text(self.schema),
                    self.output,
                    model=model,
                    api_key=os.environ.get("GRAMMA_API_KEY"),
                    grounded=self.grounded,
                    max_new_tokens=self.max_new_tokens,
                    progress=progress,
                    **options,
                )
        except GrammarError as error:
            raise ValueError(f"{name_of(self.schema)}: {error}") from None
        except KeyboardInterrupt:
            tell("gramma: stopped; rows that are done are kept, the same command goes on", err=True)
            return _INTERRUPTED
        if as_json:
            dump(asdict(found) | {"files": [str(path) for path in found.files]})
        else:
            for path in found.files:
                say(str(path))
        tell(
            f"gramma: {found.rows:,} rows, {found.values:,} with a value, {found.errors:,} with an error; "
            f"{found.resumed:,} were done before; {found.seconds:.1f} s",
            err=True,
        )
        return DOES_NOT_HOLD if found.errors else 0


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[int, int], None]]:
    """What shows how many rows are done: a bar at a terminal, elsewhere nothing until the end."""
    from rich.console import Console

    from samplers.progress import bar

    with contextlib.ExitStack() as stack:
        advance: list[Callable[[int], None]] = []
        before = 0

        def progress(done: int, total: int) -> None:
            nonlocal before
            if not advance:
                shown = Console(stderr=True).is_terminal
                advance.append(stack.enter_context(bar(shown, "documents", total)))
            advance[0](done - before)
            before = done

        yield progress
