"""Broken grammars and refused texts with their messages; run, it writes ``docs/messages.md``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from grammars import Grammar, GrammarError

TABLE: Final = Path(__file__).with_name("messages.toml")
PAGE: Final = Path(__file__).parents[1] / "docs" / "messages.md"
_KINDS: Final = {
    "gbnf": "GBNF",
    "lark": "Lark",
    "regex": "Regular expressions",
    "json": "JSON Schema",
    "llguidance": "llguidance's Lark",
    "xgrammar": "xgrammar's EBNF",
    "tag": "Structural tags",
    "python": "Python types",
    "library": "Names of the library",
}
_HEAD: Final = """\
# Messages

What is said of grammars that are broken and of texts that are refused, by examples. `tests/messages.toml`
has them with the place and the words that each message must have; this page is written by
`python tests/messages.py`.

A message names the place: line and column of a grammar's text, the JSON pointer in a schema, the field of
a Python type; of a text line, column and byte, the rules that are open and, in JSON, the pointer of the
value. Then it says what is wrong, and what to do. `gramma check` and `gramma explain` print the same
messages.
"""


@dataclass(frozen=True)
class Example:
    """A broken grammar, or a text that a grammar refuses.

    Attributes:
        title: what is wrong.
        place: what its message begins with.
        says: parts of the message.
        kind, source: the grammar.
        text: the text; ``None`` for a broken grammar.
        grammar: the grammar's name, for a text.
    """

    title: str
    place: str
    says: list[str]
    kind: str
    source: str
    text: str | None = None
    grammar: str = field(default="")

    @property
    def name(self) -> str:
        return f"{self.grammar or self.kind}: {self.title}"


def _of_type(source: str) -> Grammar:
    lines = "from collections.abc import Callable\nfrom dataclasses import dataclass\n" + source
    scope: dict[str, Any] = {
        "__name__": __name__, "Annotated": Annotated, "BaseModel": BaseModel, "Field": Field,
    }  # fmt: skip
    exec(compile(lines, "<example>", "exec", dont_inherit=True), scope)
    return Grammar.from_type(scope["Answer"])


_READERS: Final[dict[str, Callable[[str], Grammar]]] = {
    "gbnf": Grammar.from_gbnf,
    "lark": Grammar.from_lark,
    "regex": Grammar.from_regex,
    "json": Grammar.from_json_schema,
    "llguidance": lambda source: Grammar.from_lark(source, dialect="llguidance"),
    "xgrammar": lambda source: Grammar.from_gbnf(source, dialect="xgrammar"),
    "tag": Grammar.from_structural_tag,
    "python": _of_type,
    "library": Grammar.from_library,
}


@cache
def _grammar(kind: str, source: str) -> Grammar:
    return _READERS[kind](source)


def examples() -> list[Example]:
    """All examples, in the order of the table."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    out = [Example(**entry) for entry in table["grammar"]]
    for entry in table["text"]:
        name = entry["grammar"]
        kind, _, library = name.partition(":")
        made = (
            {"kind": "library", "source": library} if kind == "library" else table["grammars"][name]
        )
        out.append(Example(**entry, **made))
    return out


def message(example: Example) -> str:
    """What is said of an example; the empty text if nothing is wrong."""
    return _said(example.kind, example.source, example.text)


@cache
def _said(kind: str, source: str, text: str | None) -> str:
    if text is not None:
        verdict = _grammar(kind, source).explain(text)
        return "" if verdict.accepted else str(verdict)
    try:
        made = _READERS[kind](source)
    except GrammarError as error:
        return str(error)
    return str(made.explain("")) if made.is_empty else ""


def page() -> str:
    """The text of ``docs/messages.md``."""
    return "\n".join([_HEAD, *_grammars(), *_texts()])


def _grammars() -> Iterator[str]:
    broken = [example for example in examples() if example.text is None]
    for kind, title in _KINDS.items():
        yield f"## {title}\n"
        for example in (e for e in broken if e.kind == kind):
            yield f"**{example.title}**\n"
            yield _block(example.source)
            yield _block(message(example))


def _texts() -> Iterator[str]:
    refused = [example for example in examples() if example.text is not None]
    for name in dict.fromkeys(example.grammar for example in refused):
        kind, _, library = name.partition(":")
        mine = [example for example in refused if example.grammar == name]
        if kind == "library":
            yield f"## Texts: `{library}` of the library\n"
        else:
            yield f"## Texts: {name}\n"
            yield _block(mine[0].source)
        for example in mine:
            yield f"**{example.title}**\n"
            yield _block(message(example))


def _block(text: str) -> str:
    """A block of text as it is; quoted and indented if it has a fence itself."""
    text = text.strip("\n")
    if "```" in text:
        return "\n".join(f">     {line}".rstrip() for line in text.split("\n")) + "\n"
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
