"""The text of a Lark grammar: where its names stand, and errors of lark with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grammars.errors import GrammarError
from grammars.frontends import _re_api
from grammars.frontends._lark_api import LarkError
from grammars.frontends.lark.advice import refusal, syntax
from grammars.frontends.lark.imports import Imported
from grammars.frontends.lark.threads import UnsupportedTerminalError
from grammars.frontends.nesting import deepest_bracket
from grammars.frontends.notations import other_dialect, other_notation
from grammars.frontends.regex.lookaround import locate
from grammars.ir import Span

_PLACE = re.compile(r"\bline (\d+),? column (\d+)")
_MOST_LEVELS: Final = 2_000
"""Brackets within brackets with which a text is not given to lark, whose parser takes a time of minutes for
hundreds of thousands of them before Python's stack ends; 300 levels are what the usual stack can hold."""
_FEW_LEVELS: Final = 50
"""Brackets within brackets that are not why Python's stack ended."""
_SILENT = re.compile(r"//[^\n]*|\"(?:\\.|[^\"\\\n])*\"i?|/(?!/)(?:\\.|[^/\\\n])*/[imslux]*")
"""Comments, strings and regular expressions, whose brackets are not the grammar's."""
_DEFINES = re.compile(r"(?:\{[^}\n]*\})?(?:\.-?\d+)?[ \t]*:")
"""What stands behind a name where it is defined."""
_PREPOSITION = re.compile(r"[\s,:]*(?:\bat)?\s*$")
"""What leads from the reason to the place in lark's messages."""
_NAMED = (
    re.compile(r"Rule '([^']+)' used but not defined"),
    re.compile(r"(?:[Tt]erminal|[Rr]ule)s? used but not defined: (\w+)"),
    re.compile(r"(?:Rules|Terminals|Templates?) '(\w+)'"),
    re.compile(r"'(\w+)'"),
    re.compile(r"\((\w+) in \w+\)"),
    re.compile(r"for (\w+) \("),
    re.compile(r"\((?:name=)?(\w+)[):]"),
    re.compile(r"(?:[Rr]ule|[Tt]erminal|[Tt]oken) (\w+)"),
)


class Source:
    """The grammar's text, and where its names are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words: list[tuple[str, int, int, bool]] | None = None

    def place(self, *names: str | None) -> Span:
        """Where the first of the names that the text contains is defined, or else stands first."""
        for name in names:
            if name:
                found = [token for token in self._tokens() if token[0] == name]
                if found:
                    _, line, column, _ = next((token for token in found if token[3]), found[0])
                    return Span(line, column)
        return Span(1, 1)

    def _tokens(self) -> list[tuple[str, int, int, bool]]:
        if self._words is None:
            self._words = []
            pattern = re.compile(
                r"//[^\n]*|(\"(?:\\.|[^\"\\\n])*\"i?)|(/(?!/)(?:\\.|[^/\\\n])*/[imslux]*)|(\w+)"
            )
            for match in pattern.finditer(self.text):
                if match.lastgroup is None and match.lastindex is None:
                    continue
                at = match.start()
                line = self.text.count("\n", 0, at) + 1
                column = at - self.text.rfind("\n", 0, at)
                defines = _DEFINES.match(self.text, match.end()) is not None
                self._words.append((match.group(), line, column, defines))
        return self._words

    def check_nesting(self) -> None:
        """Refuses what is nested far too deeply, before lark reads it.

        Raises:
            GrammarError: with the deepest place.
        """
        if deepest_bracket(_SILENT.sub("", self.text))[1] > _MOST_LEVELS:
            raise self.too_deep()

    def too_deep(self) -> GrammarError:
        """The refusal of a grammar that is nested too deeply, with the deepest place.

        Lark nests what is written in a row, too: alternatives and parts of one rule by the hundred.
        """
        offset, depth = deepest_bracket(self.text)
        if depth < _FEW_LEVELS:
            rows = self.text.splitlines()
            line = max(range(len(rows)), key=lambda i: len(rows[i])) + 1
            return GrammarError(
                "lark reads the grammar's parts within each other, and some rule has too many of them; "
                "give some of them rules of their own",
                line=line,
                column=1,
            )
        line, column = locate(self.text, offset)
        return GrammarError(
            f"the grammar is nested too deeply (brackets {depth:,} levels here); "
            "give inner parts rules of their own",
            line=line,
            column=column,
        )

    def error(self, error: LarkError, imported: Imported | None = None) -> GrammarError:
        """An error of lark as one of ours, with its place.

        Args:
            error: what lark raised.
            imported: the grammar that was imported last: lark parses each as soon as it is read, so
                an error of syntax is in that one.
        """
        if error.too_deep:
            return self.too_deep()
        if error.is_number:
            line, column = locate(self.text, _re_api.longest_bounds(self.text) or 0)
            return GrammarError(f"lark refuses this grammar: {error}", line=line, column=column)
        message = str(error)
        found = _PLACE.search(message)
        if found:
            line, column = int(found[1]), int(found[2])
            rows = (self.text if imported is None else imported.text).splitlines()
            whole = rows[line - 1] if 0 < line <= len(rows) else ""
            row = whole.strip()
            reason = _PREPOSITION.sub("", message[: found.start()]) or "unexpected input"
            plain = syntax(whole, max(column, 1), reason)
            if imported is not None:
                where = self.place(Path(imported.name).stem)
                return GrammarError(
                    f"lark cannot read the imported grammar {imported.name} near {row!r} "
                    f"(line {line}, column {max(column, 1)}): {plain or f'{reason}; correct the line'}",
                    line=where.line,
                    column=where.column,
                )
            advice = other_notation(self.text, "lark") or other_dialect(row, "lark") or plain
            return GrammarError(
                f"lark cannot read this grammar near {row!r}: {advice or f'{reason}; correct the line'}",
                line=line,
                column=max(column, 1),
            )
        names = list(dict.fromkeys(token[0] for token in self._tokens() if token[0][:1].isalpha()))
        if (told := refusal(message, self.text, names)) is not None:
            said, name, inside = told
            where = self.place(name) if inside is None else self._use(name, inside)
            return GrammarError(said, line=where.line, column=where.column)
        where = Span(1, 1)
        for pattern in _NAMED:
            named = [n for n in pattern.findall(message) if n in dict.fromkeys(self._names())]
            if named:
                where = self.place(named[0])
                break
        first = message.strip().splitlines()[0]
        return GrammarError(
            f"lark refuses this grammar: {first}", line=where.line, column=where.column
        )

    def _use(self, name: str | None, inside: str) -> Span:
        """Where a name stands in the definition of another."""
        current = ""
        for token, line, column, defines in self._tokens():
            if defines:
                current = token
            elif token == name and current == inside:
                return Span(line, column)
        return self.place(name)

    def _names(self) -> Iterator[str]:
        return (token[0] for token in self._tokens())


def describe(error: UnsupportedTerminalError, name: str, pattern: str) -> GrammarError:
    """The error for people."""
    return GrammarError(
        f"terminal {name} (/{pattern}/) uses {error.reason} which this version cannot follow "
        "exactly; write the terminal without it"
    )
