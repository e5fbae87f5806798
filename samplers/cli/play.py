"""The command ``play``: the playground in a browser."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from grammars.files import misplaced
from samplers.cli.app import app, reports
from samplers.cli.grammar_files import (
    STANDARD_INPUT,
    GrammarFile,
    GrammarOptions,
    grammar_text,
    name_of,
    reads_grammar,
    told_kind,
)
from samplers.output import say


@app.command()
@reports
@reads_grammar
def play(
    grammar: GrammarFile,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Whose tokens: an embedded model, a folder, a hub name."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    write: Annotated[
        bool, typer.Option("--write", "-w", help="The page may save into the grammar's file.")
    ] = False,
    *,
    how: GrammarOptions,
) -> None:
    """A page to write a grammar and try it on texts, served from this machine to itself.

    What follows the grammar is green, the first impossible character red with what was expected there;
    allowed tokens, random texts, remarks with texts that are read in two ways, and which rules read what.

    Until Ctrl-C.  The grammar may have errors to begin with.

    Example: `gramma play examples/arithmetic.lark`
    """
    from samplers.play import Playground, PlayServer
    from samplers.play.grammar_store import GrammarStore

    kind = told_kind(grammar, how)
    text = grammar_text(grammar)
    if (found := misplaced(kind, text, how.given())) is not None:
        raise ValueError(f"{name_of(grammar)}: said of {found[1]}")
    is_file = grammar != STANDARD_INPUT
    if write and not is_file:
        raise ValueError("--write needs a file: standard input cannot be written")
    path = grammar if is_file else None
    store = GrammarStore(name_of(grammar), kind, text, path, may_write=write)
    with PlayServer(Playground(store, how.given(), model, how.limits()), port) as server:
        try:
            say(server.url)
            if browser:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
