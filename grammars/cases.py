"""Case tables of a grammar: texts it has to accept, to refuse, or to read as a beginning.

A table is a TOML file.  ``gramma test FILE`` runs one; :meth:`Cases.read` reads one::

    grammar = "../date.regex"       # a grammar file, from this one's folder; or: library = "date"
    start = "root"                  # the rule to start from, where the grammar file has several

    accept = ["2024-02-29", "2000-02-29"]
    reject = [
        "2023-02-29",               # no leap year
        "2024-01-01 ",              # no blank behind it
    ]
    prefix = ["", "2024-0"]

``accept``
    texts of the language, the whole of each.
``reject``
    texts that are not of the language.
``prefix``
    texts that begin some text of the language, whole or not.  A mask never forbids a way to one.
``grammar``, ``start``, ``library``, ``parameters``
    which grammar is meant, all of them optional: a file by its path from the table's folder and a rule of
    it, or a name of :mod:`grammars.library` with a table ``[parameters]`` of what it takes.

Every key may be left out, in any order; an unknown one is an error.  Texts are strings of TOML: of one line
or several, with escapes or literal.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from grammars.errors import GrammarError
from grammars.files import decode, kind_of, read_text
from grammars.grammar import Grammar, grammar_of
from grammars.layout.recognize import LayoutReader, explain_with_layout
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.recognizer import Recognizer

Verdict = Literal["accept", "reject", "prefix"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)

_NAMES: Final = ("grammar", "start", "library")
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
    r"|#[^\n]*|[\[\]{}=\n]|[^\[\]{}=\n\"'#]+",
    re.DOTALL,
)
"""What places of strings can be told by, in a text that is known to be TOML."""


class CasesError(GrammarError):
    """A case table that cannot be used; ``str()`` is ``FILE:LINE: what is wrong``.

    Attributes:
        name: what the file is called.
        line: 1-based line in it.
    """

    def __init__(self, message: str, name: str, line: int) -> None:
        self.name = name
        super().__init__(message, line=line)

    def _render(self) -> str:
        return f"{self.name}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Case:
    """One text and what the grammar has to make of it.

    Attributes:
        verdict: ``"accept"``, ``"reject"`` or ``"prefix"``.
        text: the text.
        line: 1-based line of the table where it begins.
    """

    verdict: Verdict
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that does not hold, and why.

    Attributes:
        case: the case.
        message: what the grammar made of the text, in words.
    """

    case: Case
    message: str


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of one file, in its order, and which grammar they are about.

    Attributes:
        name: what the file is called.
        folder: where paths in it begin.
        cases: the cases.
        grammar: path of a grammar file as it is written there, or ``None``.
        start: the rule to start from, or ``None`` for the usual one.
        library: name of a grammar of the library, or ``None``.
        parameters: what that one is loaded with.
    """

    name: str
    folder: Path
    cases: tuple[Case, ...]
    grammar: str | None = None
    start: str | None = None
    library: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Cases:
        """Reads a case table.

        Args:
            path: a TOML file.

        Raises:
            CasesError: with file and line, for what is no such table.
            OSError: if the file cannot be read.
        """
        path = Path(path)
        try:
            text = decode(path.read_bytes(), path.name)
        except GrammarError as error:
            raise CasesError(error.message, str(path), 1) from None
        return cls.parse(text.replace("\r\n", "\n"), name=str(path), folder=path.parent)

    @classmethod
    def parse(cls, text: str, *, name: str = "<cases>", folder: str | Path = ".") -> Cases:
        """Reads the text of a case table.

        Args:
            text: TOML.
            name: what errors call it.
            folder: where paths in it begin.

        Raises:
            CasesError: with that name and the line, for what is no such table.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _not_toml(str(error), text, name) from None
        places = _Places(text)
        for key, value in table.items():
            _check(key, value, name, places.keys.get(key, 1))
        if "grammar" in table and "library" in table:
            line = places.keys.get("library", 1)
            raise CasesError("'grammar' and 'library' name a grammar each; keep one", name, line)
        for key, needed in (("start", "grammar"), ("parameters", "library")):
            if key in table and needed not in table:
                line = places.keys.get(key, 1)
                raise CasesError(f"{key!r} is said of a {needed!r}, which is not named", name, line)
        cases = [
            Case(verdict, written, line)
            for verdict in VERDICTS
            for written, line in zip(table.get(verdict, []), places.items[verdict], strict=True)
        ]
        cases.sort(key=lambda case: case.line)
        named = {key: table.get(key) for key in _NAMES}
        return cls(
            name, Path(folder), tuple(cases), **named, parameters=table.get("parameters", {})
        )

    def of(self, verdict: Verdict) -> tuple[str, ...]:
        """The texts of one verdict."""
        return tuple(case.text for case in self.cases if case.verdict == verdict)

    def load(self, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        """The grammar that the table names.

        Args:
            limits: as everywhere.

        Raises:
            CasesError: if it names none.
            GrammarError: as the constructor of that kind.
            OSError: if the grammar file cannot be read.
        """
        if self.library is not None:
            return Grammar.from_library(self.library, limits=limits, **self.parameters)
        if self.grammar is None:
            raise CasesError("no 'grammar' or 'library' is named", self.name, 1)
        path = self.folder / self.grammar
        options = {} if self.start is None else {"start": self.start}
        return grammar_of(read_text(path), kind_of(path), path=path, limits=limits, **options)

    def failures(self, grammar: Grammar) -> Iterator[Failure]:
        """The cases that do not hold of a grammar, one by one.

        Args:
            grammar: any; :meth:`load` makes the one that the table names.
        """
        for case in self.cases:
            message = _wrong(grammar, case)
            if message is not None:
                yield Failure(case, message)


def _wrong(grammar: Grammar, case: Case) -> str | None:
    """What is wrong with the grammar by a case; ``None`` if it holds."""
    if case.verdict == "reject":
        return "accepted" if grammar.accepts(case.text) else None
    if grammar.accepts(case.text):
        return None
    if case.verdict == "prefix" and _begins(grammar, case.text):
        return None
    return grammar.explain(case.text).message


def _begins(grammar: Grammar, text: str) -> bool:
    """Whether a text begins some text of the language: every byte of it can stand where it stands."""
    if grammar.is_empty:
        return False
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return False
    if grammar.memory() is not None or grammar.tokens:
        return grammar.explain(text).offset == len(data)
    # what explains compiles the rules once more, to tell them apart
    recognizer = Recognizer(grammar.program, grammar.limits)
    if grammar.layout is None:
        return recognizer.run(data)[1] == len(data)
    reader = LayoutReader(recognizer, grammar.layout)
    return explain_with_layout(reader, data, frozenset()).offset == len(data)


def _not_toml(message: str, text: str, name: str) -> CasesError:
    found = _PLACE.search(message)
    last = text.count("\n", 0, len(text.rstrip("\n"))) + 1
    line = int(found[1]) if found and found[1] else last
    return CasesError(f"no TOML: {_PLACE.sub('', message)}", name, line)


def _check(key: str, value: Any, name: str, line: int) -> None:
    """Keys and the kinds of their values."""
    if key in VERDICTS:
        if not isinstance(value, list):
            raise CasesError(f"{key!r} must be a list of strings, not {value!r:.60}", name, line)
        for item in value:
            if not isinstance(item, str):
                raise CasesError(f"{key!r} has {item!r:.60}, which is no string", name, line)
    elif key in _NAMES:
        if not isinstance(value, str):
            raise CasesError(f"{key!r} must be a string, not {value!r:.60}", name, line)
    elif key == "parameters":
        if not isinstance(value, dict):
            raise CasesError(f"'parameters' must be a table, not {value!r:.60}", name, line)
    else:
        known = ", ".join((*VERDICTS, *_NAMES, "parameters"))
        raise CasesError(f"unknown key {key!r}; there are {known}", name, line)


class _Places:
    """Lines of keys, and of the strings that stand directly in their lists.

    Attributes:
        keys: key -> line.
        items: verdict -> lines of its strings, in order.
    """

    def __init__(self, text: str) -> None:
        self.keys: dict[str, int] = {}
        self.items: dict[str, list[int]] = {verdict: [] for verdict in VERDICTS}
        line, depth, key, in_value, in_table = 1, 0, "", False, False
        for found in _TOKEN.finditer(text):
            token = found.group()
            if token in ("[", "{"):
                if depth == 0 and not in_value:
                    in_table = True  # a header; what is below is no list of cases
                depth += 1
            elif token in ("]", "}"):
                depth -= 1
            elif token == "\n" and depth == 0:
                key, in_value = "", False
            elif token == "=" and depth == 0:
                in_value = True
                if not in_table:
                    self.keys.setdefault(key, line)
            elif token.startswith(('"', "'")) and in_value:
                if depth == 1 and not in_table and key in self.items:
                    self.items[key].append(line)
            elif not in_value and token.strip() and not token.startswith("#"):
                key = token.strip().strip("\"'")
                if in_table and depth:
                    self.keys.setdefault(key, line)
            line += token.count("\n")
