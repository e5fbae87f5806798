"""Commands about known texts and grammars: ``test`` runs case tables, ``list`` names the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grammars import library
from grammars.cases import Cases, Failure
from samplers.cli.app import DOES_NOT_HOLD, app, reports
from samplers.cli.grammar_files import (
    GrammarOptions,
    JsonOption,
    load,
    reads_grammar,
)
from samplers.cli.watching import WatchOption, watched
from samplers.output import dump, say, show, tell


@app.command("test")
@reports
@reads_grammar
def run_tables(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Case tables (.toml); see the documentation."),
    ],
    grammar: Annotated[
        Path | None,
        typer.Option("--grammar", "-g", help="The grammar, instead of the one a table names."),
    ] = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Runs tables of texts that a grammar has to accept, to refuse, or to be able to go on from.

    Exit status 1 if a case does not hold.

    Example: `gramma test cases.toml`
    """

    def run() -> None:
        failures: list[Failure] = []
        told: list[dict[str, object]] = []
        cases = 0
        for path in files:
            table = Cases.read(path)
            made = table.load() if grammar is None else load(grammar, how)
            found = list(table.failures(made))
            failures += found
            cases += len(table.cases)
            told += [
                {
                    "file": str(path),
                    "line": failure.case.line,
                    "verdict": failure.case.verdict,
                    "text": failure.case.text,
                    "message": failure.message,
                }
                for failure in found
            ]
            if not as_json:
                for failure in found:
                    tell(f"{path}:{failure.case.line}: {failure.case.verdict}: {failure.message}")
        if as_json:
            dump({"cases": cases, "failed": len(failures), "failures": told})
        else:
            say(f"{cases} cases, {len(failures)} failed")
        raise typer.Exit(DOES_NOT_HOLD if failures else 0)

    watched([*files, grammar], run, watch)


@app.command("list")
@reports
def list_(as_json: JsonOption = False) -> None:
    """The grammars that come along, with what each is a grammar of and its reference.

    Example: `gramma list`
    """
    entries = [library.entry(name) for name in library.names()]
    if as_json:
        dump(
            [
                {
                    "name": entry.name,
                    "title": entry.title,
                    "reference": entry.reference,
                    "parameters": entry.parameters,
                }
                for entry in entries
            ]
        )
        return
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    table.add_column("reference", overflow="fold")
    for entry in entries:
        table.add_row(Text(entry.name), Text(entry.title), Text(entry.reference))
    show(table)
