"""Options that say how a grammar is read, and the files, texts and standard input that are read."""

from __future__ import annotations

import codecs
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

import typer

from grammars import Grammar, GrammarError, Limits
from grammars.files import Kind, decode, kind_of, misplaced, read_text
from grammars.frontends.advice import suggestion
from grammars.grammar import Formats, LarkLexer, Numbers, PropertyOrder, Whitespace, grammar_of
from grammars.sources.source import KEYWORD
from samplers.cli.app import with_option

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


# -- reading grammars ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SchemaOptions:
    """How a JSON Schema is read, as :meth:`Grammar.from_json_schema` takes it; ``None``: not said.

    The fields are options of every command under :func:`reads_grammar`.
    """

    property_order: Annotated[
        PropertyOrder | None,
        typer.Option(
            metavar="ORDER",
            help="Order of keys, for a JSON Schema: schema (as there, which is usual) or any.",
        ),
    ] = None
    formats: Annotated[
        Formats | None,
        typer.Option(
            metavar="HOW",
            help="Known formats of a JSON Schema: assert, as is usual, or annotate.",
        ),
    ] = None
    whitespace: Annotated[
        Whitespace | None,
        typer.Option(
            metavar="HOW",
            help="Blanks, for a JSON Schema: flexible (common forms, as is usual) or compact (none).",
        ),
    ] = None
    numbers: Annotated[
        Numbers | None,
        typer.Option(
            metavar="HOW",
            help="Spellings of numbers, for a JSON Schema: shortest, as is usual, or any.",
        ),
    ] = None

    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Another limit than the usual one, as max_work=20000000; may be repeated.",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Those that were said, as the constructors of ``Grammar`` take them, limits apart."""
        said = {name: value for name, value in asdict(self).items() if value}
        said.pop("limit", None)
        return said

    def limits(self) -> Limits:
        """The limits, those that were said in place of the usual ones.

        Raises:
            ValueError: for what is no limit or no number.
        """
        said: dict[str, int] = {}
        names = [field.name for field in fields(Limits)]
        for written in self.limit or ():
            name, _, number = written.partition("=")
            if name not in names:
                known = ", ".join(names)
                raise ValueError(
                    f"--limit {written}: no limit {name!r}{suggestion(name, names)}; {known}"
                )
            if not number.replace("_", "").isdecimal():
                raise ValueError(f"--limit {written}: write --limit {name}=NUMBER")
            said[name] = int(number)
        return Limits(**said)

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
            metavar="LEXER",
            help="How the terminals of a Lark grammar are read: auto (as is usual), contextual, basic, "
            "dynamic or dynamic_complete.",
        ),
    ] = None
    dialect: Annotated[
        Literal["llguidance", "xgrammar"] | None,
        typer.Option(
            metavar="WHOSE",
            help="Whose Lark (llguidance) or GBNF (xgrammar) it is, if not its own.",
        ),
    ] = None
    kind: Annotated[
        Kind | None,
        typer.Option(
            metavar="KIND",
            help="The kind of the grammar, where no suffix tells it: lark, gbnf, regex, json or gramma.",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in super().given().items() if name != "kind"}


def _listed(names: Iterable[str]) -> str:
    """Options as users write them."""
    written = ({"import_paths": "import-path"}.get(name, name) for name in names)
    return " and ".join("--" + name.replace("_", "-") for name in written)


def reads_grammar(command: Callable[..., None]) -> Callable[..., None]:
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


def load(path: Path, how: GrammarOptions, *others: Path | None) -> Grammar:
    """The grammar of a file.

    Args:
        path: the file; ``-`` is standard input.
        how: how it is read.
        others: further files that the command reads.
    """
    read_once(path, *others)
    name = name_of(path)
    kind = told_kind(path, how)
    try:
        text = grammar_text(path)
        if (found := misplaced(kind, text, how.given())) is not None:
            raise ValueError(f"{name}: {_listed(found[0])} can be said of {found[1]}")
        base = None if path == STANDARD_INPUT else path
        return grammar_of(text, kind, path=base, limits=how.limits(), **how.given())
    except GrammarError as error:
        raise ValueError(f"{name}: {with_option(error)}") from None


def told_kind(path: Path, how: GrammarOptions) -> Kind:
    """The kind of a grammar, by ``--kind`` or the file's suffix."""
    if how.kind is not None:
        return how.kind
    if path != STANDARD_INPUT:
        return _kind(path, how)
    raise ValueError("standard input has no suffix to tell a grammar's kind by; give --kind")


def _kind(path: Path, how: GrammarOptions) -> Kind:
    try:
        return kind_of(path)
    except GrammarError as error:
        schema = (
            f" json, if it is the JSON Schema that {how.names} is said of" if how.given() else ""
        )
        raise ValueError(f"{path}: {error}; or say it with --kind{schema}") from None


def load_schema(
    path: Path,
    how: SchemaOptions,
    *others: Path | None,
    source: Callable[[], str] | None = None,
    grounded: bool = False,
) -> tuple[Grammar, str]:
    """The grammar of a JSON Schema, and the schema's text.

    Args:
        path: the file; ``-`` is standard input.
        how: how it is read.
        others: further files that the command reads.
        source: reads the text that values stand in; asked if some have to.
        grounded: whether strings and numbers have to that the schema does not say otherwise of.
    """
    read_once(path, *others)
    try:
        text = grammar_text(path)
        if misplaced("json", text, ["whitespace"]) is not None:
            said = f" that {how.names} can be said of" if how.given() else ""
            raise ValueError(f"{name_of(path)}: a saved grammar, not a JSON Schema{said}")
        tied: dict[str, Any] = {}
        if source is not None and (grounded or f'"{KEYWORD}"' in text):
            tied = {"source": source(), "grounded": grounded}
        return Grammar.from_json_schema(text, limits=how.limits(), **tied, **how.given()), text
    except GrammarError as error:
        raise ValueError(f"{name_of(path)}: {with_option(error)}") from None


def grammar_text(path: Path) -> str:
    if path == STANDARD_INPUT:
        return decode(sys.stdin.buffer.read(), "standard input")
    return read_text(path)


def name_of(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_once(*paths: Path | None) -> None:
    if sum(path == STANDARD_INPUT for path in paths) > 1:
        raise ValueError("standard input (-) can be read once only; give a file for the other")


def read_text_option(path: Path | None, text: str | None) -> bytes | None:
    if text is not None:
        if path is not None:
            raise ValueError("give either a TEXT-FILE or --text, not both")
        return text.encode("utf-8", "surrogateescape")
    if path is None:
        return None
    return sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()


def needed(data: bytes | None) -> bytes:
    if data is None:
        raise ValueError("which text? give a TEXT-FILE (- for standard input) or --text")
    return data


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def as_read(data: bytes) -> str:
    """Text that was read, without the byte order mark that some editors write first."""
    return as_text(data.removeprefix(codecs.BOM_UTF8))
