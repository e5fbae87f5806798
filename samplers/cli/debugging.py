"""Commands about a grammar and a text: ``check``, ``explain``, ``sample``, ``trace``."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from grammars import Explanation, Grammar
from samplers.cli.app import DOES_NOT_HOLD, app, reports
from samplers.cli.grammar_files import (
    DEFAULT_MODEL,
    GrammarFile,
    GrammarOptions,
    JsonOption,
    ModelOption,
    SeedOption,
    TextFile,
    TextOption,
    as_text,
    load,
    name_of,
    needed,
    read_text_option,
    reads_grammar,
)
from samplers.output import dump, say, show
from samplers.output import tell as prose


@app.command()
@reports
@reads_grammar
def check(
    grammar: GrammarFile,
    text_file: TextFile = None,
    text: TextOption = None,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Does a grammar compile, and does a text match it?  If not: where, and what was expected.

    A final line break of a file is part of the text only if the grammar wants it.

    Example: `gramma check invoice.schema.json answer.json`
    """
    made = load(grammar, how, text_file)
    data = read_text_option(text_file, text)
    if data is None:
        _tell_of_grammar(made, as_json)
        raise typer.Exit(DOES_NOT_HOLD if made.is_empty else 0)
    verdict = made.explain(trimmed(made, data))
    tell(verdict, as_json)
    raise typer.Exit(0 if verdict.accepted else DOES_NOT_HOLD)


@app.command()
@reports
@reads_grammar
def explain(
    grammar: GrammarFile,
    text_file: TextFile = None,
    text: TextOption = None,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """How far a text follows a grammar, what could come there, and which rules are open.

    Example: `gramma explain arithmetic.gbnf --text "1 + ("`
    """
    made = load(grammar, how, text_file)
    data = trimmed(made, needed(read_text_option(text_file, text)))
    verdict = made.explain(data)
    nearest = None if verdict.accepted else made.complete(data)
    captures = made.captures(data) if verdict.accepted else ()
    more: dict[str, Any] = {"nearest": None if nearest is None else as_text(nearest)}
    if made.ir.marked is not None:
        more["captures"] = [
            {"name": x.name, "start": x.start, "end": x.end, "text": as_text(x.data)}
            for x in captures
        ]
    tell(verdict, as_json, more)
    for x in () if as_json else captures:
        say(f"{x.name}, bytes {x.start} to {x.end}: {as_text(x.data)!r}")
    if verdict.rule_path and not as_json:
        _tell_of_rules(made, verdict)
    if nearest is not None and not as_json:
        prose(f"accepted, and as short as it can be: {as_text(nearest)!r}")
    raise typer.Exit(0 if verdict.accepted else DOES_NOT_HOLD)


def trimmed(grammar: Grammar, data: bytes) -> bytes:
    """Without what editors add to a file, unless the grammar allows it.

    That is a byte order mark before the text and a line break behind it.
    """
    if data.startswith(codecs.BOM_UTF8) and not _may_begin(grammar, codecs.BOM_UTF8):
        data = data.removeprefix(codecs.BOM_UTF8)
    if not data.endswith(b"\n"):
        return data
    if _may_begin(grammar, data):
        return data
    return data[:-2] if data.endswith(b"\r\n") else data[:-1]


def _may_begin(grammar: Grammar, beginning: bytes) -> bool:
    found = grammar.explain(beginning)
    return found.accepted or (found.offset == len(beginning) and not grammar.is_empty)


def tell(verdict: Explanation, as_json: bool, more: Mapping[str, Any] | None = None) -> None:
    """Writes a verdict; ``more`` is added to it in JSON."""
    if as_json:
        dump(asdict(verdict) | dict(more or {}))
    else:
        prose(str(verdict))


def _tell_of_grammar(made: Grammar, as_json: bool) -> None:
    if as_json:
        facts = {"rules": len(made.ir.rules), "states": made.program.states}
        dump({"compiles": True, "empty": made.is_empty, **facts})
    elif made.is_empty:
        prose(str(made.explain(b"")))
    else:
        prose(
            f"compiles: {len(made.ir.rules):,} rules, {made.program.states:,} states; "
            f"for example {as_text(made.sample(0))!r}"
        )


def _tell_of_rules(made: Grammar, verdict: Explanation) -> None:
    for name in verdict.rule_path:
        if name not in made.ir:  # dots between the outermost rules and the innermost
            prose(f"  {name}")
            continue
        span = made.ir[name].span
        if span.line is not None:
            prose(f"  {name}: line {span.line} of the grammar")


@app.command()
@reports
@reads_grammar
def sample(
    grammar: GrammarFile,
    count: Annotated[int, typer.Option("--count", "-n", min=1)] = 1,
    seed: SeedOption = None,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", min=0)] = None,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Random texts of a grammar, one a line (line breaks inside are kept).

    Example: `gramma sample date.regex -n 5 --seed 1`
    """
    made = load(grammar, how)
    seeds = [None if seed is None else seed + i for i in range(count)]
    texts = (as_text(made.sample(s, max_bytes)) for s in seeds)
    if as_json:
        dump(list(texts))
    else:
        for found in texts:
            say(found)


@app.command()
@reports
@reads_grammar
def trace(
    grammar: GrammarFile,
    text_file: TextFile = None,
    text: TextOption = None,
    model: ModelOption = DEFAULT_MODEL,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with this and the open rules."),
    ] = None,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """A text token by token: how many tokens are allowed, what is forced, how far the end is.

    Stops at the first token that is not allowed (exit status 1).  A page (--html) has the rules that are
    open at each token besides.

    Example: `gramma trace invoice.schema.json --text '{"paid": true}'`
    """
    from samplers.progress import working
    from samplers.tracing import steps_of, table_of

    made = load(grammar, how, text_file)
    data = trimmed(made, needed(read_text_option(text_file, text)))
    with working(f"reading by the tokens of {model}"):
        steps = list(steps_of(made, data, model))
    if html is not None:
        from samplers.trace_page import page_of

        page = page_of(made, data, steps, name_of(grammar), model)
        html.write_text(page, encoding="utf-8", newline="\n")
    if as_json:
        dump([step.as_dict() for step in steps])
    else:
        show(table_of(steps))
    if not steps[-1].allowed_here:
        if not as_json:
            prose(str(made.explain(data)))
        raise typer.Exit(DOES_NOT_HOLD)
