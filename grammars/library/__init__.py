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

import inspect
from functools import cache
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.grammar import Grammar, grammar_of
from grammars.library.entries import Entry, described, folder
from grammars.library.parametrised import MAKERS, from_gbnf
from grammars.limits import DEFAULT_LIMITS, Limits

__all__ = ["Entry", "entries", "entry", "folder", "load", "names", "source"]

_PLAIN: Final[dict[str, tuple[str, str]]] = {
    "json": ("json.gbnf", "root"),
    "jsonl": ("jsonl.gbnf", "root"),
    "csv": ("csv.gbnf", "root"),
    "arithmetic": ("arithmetic.gbnf", "root"),
    "semver": ("semver.regex", ""),
    "cron": ("cron.gbnf", "root"),
    "url": ("uri.gbnf", "url"),
    "uri": ("uri.gbnf", "root"),
    "uri_reference": ("uri.gbnf", "uri-reference"),
    "email": ("email.regex", ""),
    "date": ("dates.gbnf", "date"),
    "time": ("dates.gbnf", "time"),
    "datetime": ("dates.gbnf", "date-time"),
    "duration": ("dates.gbnf", "duration"),
    "markdown_table": ("markdown_table.gbnf", "root"),
    "toml": ("toml.gbnf", "root"),
    "regex": ("regex.gbnf", "root"),
    "sql": ("sql.gbnf", "root"),
    "graphql": ("graphql.gbnf", "root"),
    "pddl": ("pddl.gbnf", "root"),
    "pddl_domain": ("pddl.gbnf", "domain"),
    "pddl_problem": ("pddl.gbnf", "problem"),
    "sygus": ("sygus.gbnf", "root"),
    "typescript_types": ("typescript_types.gbnf", "root"),
    "typescript_type": ("typescript_types.gbnf", "type"),
    "mermaid": ("mermaid.gbnf", "root"),
    "cypher": ("cypher.gbnf", "root"),
    "opensmiles": ("opensmiles.gbnf", "root"),
    "python": ("python.lark", "start"),
    "yaml": ("yaml.gbnf", "root"),
}
"""Grammars without parameters: name -> file and rule to start from."""

_FILES: Final = {
    "acrylates": ("smiles.gbnf", "acrylates"),
    "isocyanates": ("smiles.gbnf", "isocyanates"),
    "chain_extenders": ("smiles.gbnf", "chain-extenders"),
}
"""Files of grammars with parameters, where they are not called as the grammar is."""


def names() -> tuple[str, ...]:
    """What :func:`load` knows."""
    return (*_PLAIN, *MAKERS)


def entries() -> tuple[Entry, ...]:
    """All grammars of the library, described."""
    return tuple(entry(name) for name in names())


@cache
def entry(name: str) -> Entry:
    """What a grammar of the library is of.

    Raises:
        GrammarError: for a name that is not known, with those that are.
    """
    _check(name)
    if name in _PLAIN:
        return described(name, *_PLAIN[name])
    if name == "function_calls":
        return Entry(
            name,
            'calls of functions in JSON: {"name": ..., "arguments": {...}}',
            "JSON Schema",
            "nothing",
            "json",
            None,
            "root",
            parameters=_signature(name),
        )
    return described(name, *_FILES.get(name, (f"{name}.gbnf", "root")), _signature(name))


def load(name: str, *, limits: Limits = DEFAULT_LIMITS, **parameters: Any) -> Grammar:
    """A grammar of the library.

    Args:
        name: one of :func:`names`.
        limits: as everywhere.
        parameters: what the grammar takes, see :attr:`Entry.parameters`; all but ``functions`` have
            defaults.

    Raises:
        GrammarError: for a name or a parameter that is not known, with those that are, and for
            values that cannot stand in such texts.
    """
    _check(name)
    accepted = _parameters(name)
    unknown = [key for key in parameters if key not in accepted]
    missing = [key for key, p in accepted.items() if p.default is p.empty and key not in parameters]
    if unknown or missing:
        wrong = [f"has no parameter {key!r}" for key in unknown]
        wrong += [f"needs {key!r}" for key in missing]
        takes = _signature(name) or "none"
        raise GrammarError(f"grammar {name!r} {' and '.join(wrong)}; its parameters: {takes}")
    if name in MAKERS:
        return MAKERS[name](limits=limits, **parameters)
    found = entry(name)
    if found.kind == "gbnf":
        return from_gbnf(found.source(), found.start, limits)
    options: dict[str, Any] = {"start": found.start} if found.start else {}
    if found.kind == "lark":
        options["lexer"] = found.lexer
    return grammar_of(found.source(), found.kind, limits=limits, **options)


def source(name: str) -> str:
    """The text of a grammar's file, without the rules that parameters add.

    Raises:
        GrammarError: if there is no such file.
    """
    if name not in names():
        raise GrammarError(f"no file of a grammar {name!r} in the library")
    return entry(name).source()


def _check(name: str) -> None:
    if name not in names():
        listed = "\n".join(f"  {known}({_signature(known)})" for known in names())
        raise GrammarError(f"no grammar {name!r} in the library; there are\n{listed}")


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    if name not in MAKERS:
        return {}
    found = inspect.signature(MAKERS[name]).parameters
    return {key: parameter for key, parameter in found.items() if key != "limits"}


def _signature(name: str) -> str:
    """Parameters with their defaults, as text."""
    return ", ".join(
        key if p.default is p.empty else f"{key}={p.default!r}"
        for key, p in _parameters(name).items()
    )
