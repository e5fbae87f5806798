"""Grammars ready for use: :func:`load` makes one by name, as ``Grammar.from_library`` does.

Formats and languages, each with its reference and what it leaves out in its file's head
(:func:`entry`; ``docs/library.md`` has the table)::

    load("json")
    print(entry("date").reference)  # RFC 3339, ...

What a task brings along (variables, constants, objects, functions) are parameters::

    load("slia", variables=["name"], strings=[" ", "."], integers=[0, 1])

The grammars are files beside this one, written to be read and copied; texts that each accepts and
refuses lie in ``cases/``.
"""

from __future__ import annotations

from typing import Any

from grammars.cases import Cases
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.library.building import entry, names
from grammars.library.entries import Entry, folder
from grammars.limits import DEFAULT_LIMITS, Limits

__all__ = ["Entry", "cases", "entries", "entry", "folder", "load", "names", "source"]


def entries() -> tuple[Entry, ...]:
    """All grammars of the library, described."""
    return tuple(entry(name) for name in names())


def load(name: str, *, limits: Limits = DEFAULT_LIMITS, **parameters: Any) -> Grammar:
    """A grammar of the library, as ``Grammar.from_library`` makes it.

    Args:
        name: one of :func:`names`.
        limits: as everywhere.
        parameters: what the grammar takes, see :attr:`Entry.parameters`; all but ``functions`` have
            defaults.

    Raises:
        GrammarError: for a name or a parameter that is not known, with those that are, and for
            values that cannot stand in such texts.
    """
    return Grammar.from_library(name, limits=limits, **parameters)


def source(name: str) -> str:
    """The text of a grammar's file, without the rules that parameters add.

    Raises:
        GrammarError: if there is no such file.
    """
    if name not in names():
        raise GrammarError(f"no file of a grammar {name!r} in the library")
    return entry(name).source()


def cases(name: str) -> Cases:
    """The case table of a grammar: texts that it accepts, refuses and begins.

    Raises:
        GrammarError: if there is none.
    """
    path = folder() / "cases" / f"{entry(name).name}.toml"
    if not path.is_file():
        raise GrammarError(f"no cases of a grammar {name!r} in the library")
    return Cases.read(path)
