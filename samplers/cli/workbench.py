"""Commands for those who write grammars: ``lint``, ``convert``, ``fmt``, ``bench``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from grammars import Grammar
from grammars.files import misplaced
from grammars.grammar import grammar_of
from grammars.lint import LintReport, lint
from grammars.writing.formatting import formatted
from samplers.cli.app import DOES_NOT_HOLD, app, reports
from samplers.cli.grammar_files import (
    DEFAULT_MODEL,
    STANDARD_INPUT,
    GrammarFile,
    GrammarOptions,
    JsonOption,
    ModelOption,
    as_text,
    grammar_text,
    load,
    name_of,
    reads_grammar,
    told_kind,
)
from samplers.cli.watching import WatchOption, watched
from samplers.output import dump, say, show, tell

_CHECKED = 50
"""Samples of each side that a conversion is checked with."""


# -- lint ------------------------------------------------------------------------------------------


@app.command("lint")
@reports
@reads_grammar
def lint_(
    grammar: GrammarFile,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A model whose tokenizer has to write the texts."),
    ] = None,
    ambiguity: Annotated[
        bool, typer.Option(help="Search for texts that are read in two ways; takes seconds.")
    ] = True,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """What a grammar says that its author may not have meant.

    Rules that nothing uses or that derive nothing, texts that are read in two ways (with a shortest one),
    terminals that are never read, schema keywords that do nothing or contradict each other.

    Exit status 1 if there is an error or a warning.

    Example: `gramma lint arithmetic.lark`
    """

    def run() -> None:
        kind = told_kind(grammar, how)
        text = grammar_text(grammar)
        if (found := misplaced(kind, text, how.given())) is not None:
            raise ValueError(f"{name_of(grammar)}: said of {found[1]}")
        base = None if grammar == STANDARD_INPUT else grammar

        def read() -> Grammar:
            return grammar_of(text, kind, path=base, limits=how.limits(), **how.given())

        report, made = lint(text, kind, read, ambiguity=ambiguity)
        if made is not None and model is not None:
            from samplers.tracing import unwritable_findings

            found_too = unwritable_findings(made, model)
            report = LintReport.of([*report.findings, *found_too], report.undecided)
        _tell_of_findings(report, as_json)
        raise typer.Exit(0 if report.holds else DOES_NOT_HOLD)

    watched([grammar], run, watch)


def _tell_of_findings(report: LintReport, as_json: bool) -> None:
    if as_json:
        found = [finding.as_dict() for finding in report.findings]
        dump({"holds": report.holds, "findings": found, "undecided": list(report.undecided)})
        return
    for finding in report.findings:
        tell(str(finding))
    if report.undecided:
        some = ", ".join(report.undecided[:5]) + (", ..." if len(report.undecided) > 5 else "")
        tell(f"not searched to the end for ambiguity: {len(report.undecided)} rules ({some})")
    if not report.findings:
        say("nothing found")


# -- convert ---------------------------------------------------------------------------------------


@app.command()
@reports
@reads_grammar
def convert(
    grammar: GrammarFile,
    to: Annotated[Literal["gbnf", "lark"], typer.Option("--to", help="The notation.")] = "gbnf",
    wider: Annotated[
        bool,
        typer.Option(
            "--wider", help="Leave out what no rules can say: no key twice, different items."
        ),
    ] = False,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Writes a grammar of any kind as GBNF or Lark that accepts the same texts.

    Samples of both are read by the other before anything is written.

    Example: `gramma convert invoice.schema.json --to gbnf`
    """
    made = load(grammar, how)
    text = made.to_gbnf(wider=wider) if to == "gbnf" else made.to_lark(wider=wider)
    other = Grammar.from_gbnf(text) if to == "gbnf" else Grammar.from_lark(text)
    _compare(made, other, wider)
    dump({"to": to, "text": text, "wider": wider}) if as_json else say(text.removesuffix("\n"))


def _compare(made: Grammar, other: Grammar, wider: bool) -> None:
    """Samples each grammar and reads the texts by the other.

    Raises:
        RuntimeError: for a text that only one of them accepts.
    """
    for seed in range(_CHECKED):
        for by, reader in ((made, other), (other, made)):
            text = by.sample(seed, 200)
            if not reader.accepts(text) and not (wider and by is other):
                raise RuntimeError(
                    f"only the {'old' if by is made else 'new'} grammar accepts {as_text(text)!r}; "
                    "this is a defect, please report it"
                )


# -- fmt -------------------------------------------------------------------------------------------


@app.command()
@reports
@reads_grammar
def fmt(
    grammar: GrammarFile,
    write: Annotated[bool, typer.Option("--write", "-w", help="Write it into the file.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit status 1 if it is not formatted.")
    ] = False,
    *,
    how: GrammarOptions,
) -> None:
    """Spaces and indents a grammar in one way; comments and lines stay.

    Example: `gramma fmt arithmetic.gbnf --write`
    """
    made = load(grammar, how)
    kind = told_kind(grammar, how)
    text = grammar_text(grammar)
    new = formatted(text, kind)
    base = None if grammar == STANDARD_INPUT else grammar
    again = grammar_of(new, kind, path=base, limits=how.limits(), **how.given())
    if again.program.states != made.program.states or again.is_empty != made.is_empty:
        raise RuntimeError(
            f"{name_of(grammar)}: formatted, it is another grammar; please report it"
        )
    if check:
        raise typer.Exit(0 if new == text else DOES_NOT_HOLD)
    if write and grammar != STANDARD_INPUT:
        if new != text:
            grammar.write_text(new, encoding="utf-8")
        return
    say(new.removesuffix("\n"))


# -- bench -----------------------------------------------------------------------------------------


@app.command()
@reports
@reads_grammar
def bench(
    grammar: GrammarFile,
    model: ModelOption = DEFAULT_MODEL,
    texts: Annotated[
        int, typer.Option("--texts", "-n", min=1, help="Texts that are sampled.")
    ] = 20,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """What this grammar costs on a model's vocabulary: compiling, first masks, masks, budgets.

    Example: `gramma bench invoice.schema.json --model smollm2-135m-instruct`
    """
    from samplers.cost import cost_of, table_of_costs
    from samplers.progress import working

    def read() -> Grammar:
        return load(grammar, how)

    with working(f"measuring on the tokens of {model}"):
        costs = cost_of(read, model, texts)
    if as_json:
        dump(costs.as_dict())
    else:
        show(table_of_costs(costs))
