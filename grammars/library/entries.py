"""Entries of the library: what a grammar is of, by which reference, and what it leaves out.

All of it stands in the comment at the head of a grammar's file, which this module reads::

    # JSON values.
    # Reference: RFC 8259.
    # Left out: that names of an object differ.
    #
    # more for who reads the file

A line that goes on from a field is indented further.  A file of several grammars says what they are in
lines such as ``# date: full dates.``, one for each rule to start from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, get_args

from grammars.errors import GrammarError
from grammars.files import Kind, decode, kind_of

Lexer: TypeAlias = Literal["auto", "contextual", "basic", "dynamic", "dynamic_complete"]

_MARK: Final = re.compile(r"(?:#|//) ?")
_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9 -]*):(?: |$)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A grammar of the library, described.

    Attributes:
        name: what :func:`grammars.library.load` knows it by.
        title: what its texts are.
        reference: the standard or manual that says so, with the section where it matters.
        left_out: how its language differs from the reference; ``"nothing"`` where it does not.
        kind: the front end that reads it: ``"gbnf"``, ``"lark"``, ``"regex"`` or ``"json"``.
        path: its file, to read and to copy; ``None`` if it is made of its parameters alone.
        start: the rule of the file to start from; ``""`` for a regular expression.
        lexer: how the terminals of a Lark grammar are looked for, see ``Grammar.from_lark``; ``"auto"``
            unless the file says otherwise.
        parameters: what it takes, with defaults, as text; ``""`` if nothing.
    """

    name: str
    title: str
    reference: str
    left_out: str
    kind: Kind
    path: Path | None
    start: str
    lexer: Lexer = "auto"
    parameters: str = ""

    def source(self) -> str:
        """The text of the file, without the rules that parameters add.

        Raises:
            GrammarError: if there is no file.
        """
        if self.path is None:
            raise GrammarError(f"no file of a grammar {self.name!r} in the library")
        return text_of(self.path.name)


def folder() -> Path:
    """Where the files lie."""
    return Path(str(files(__package__)))


@cache
def text_of(file: str) -> str:
    """The text of a file of the library, line ends as line feeds."""
    return decode((folder() / file).read_bytes(), file).replace("\r\n", "\n")


def described(name: str, file: str, start: str, parameters: str = "") -> Entry:
    """The entry of a grammar in a file, from the comment at its head."""
    fields = _fields(text_of(file))
    title = fields.get(start, fields[""])
    return Entry(
        name,
        title.removesuffix("."),
        fields["Reference"].removesuffix("."),
        fields["Left out"].removesuffix("."),
        kind_of(Path(file)),
        folder() / file,
        start,
        _lexer(fields.get("Lexer", "auto.")),
        parameters,
    )


def _lexer(said: str) -> Lexer:
    for lexer in get_args(Lexer):
        if said.removesuffix(".") == lexer:
            return cast(Lexer, lexer)
    raise GrammarError(f"no lexer {said!r}")


@cache
def _fields(text: str) -> dict[str, str]:
    """Fields of the first block of comments; the title is that of no name."""
    out = {"": ""}
    key = ""
    for line in text.removeprefix("(?x)").lstrip("\n").split("\n"):
        mark = _MARK.match(line)
        if not mark:
            break
        written = line[mark.end() :]
        found = _FIELD.match(written) if out[""] else None
        if found:
            key = found[1]
            out[key] = written[found.end() :].strip()
        elif not written.strip():
            key = "more"
        elif key != "more" and (not key or written.startswith(" ")):
            out[key] = f"{out[key]} {written.strip()}".strip()
        else:
            key = "more"
    return out
