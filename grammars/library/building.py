"""Grammars of the library by name, as rules: what there is, and what is made of a name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from grammars.errors import GrammarError
from grammars.frontends.advice import suggestion
from grammars.frontends.regex.python import regex_to_ir
from grammars.ir import GrammarIR
from grammars.library.entries import Entry, Lexer, described
from grammars.library.parametrised import MAKERS, file_to_ir
from grammars.limits import Limits

Recipe: TypeAlias = tuple[str, str, str, Lexer]
"""Kind, text, rule to start from, lexer."""

_PLAIN: Final[dict[str, tuple[str, str]]] = {
    "json": ("json.gbnf", "root"),
    "jsonl": ("jsonl.gbnf", "root"),
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
    """What there is."""
    return (*_PLAIN, *MAKERS)


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


def check(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuses names and parameters that there are not.

    Raises:
        GrammarError: with those that there are.
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


def takes_parameters(name: str) -> bool:
    """Whether a grammar is made of more than the text of its file."""
    return name in MAKERS


def made_of_parameters(name: str, parameters: Mapping[str, Any], limits: Limits) -> GrammarIR:
    """The rules of a grammar that takes parameters."""
    given = dict(parameters)
    if name == "function_calls":
        given["limits"] = limits
    return MAKERS[name](**given)


def recipe(name: str) -> Recipe:
    """All that the rules of another one depend on."""
    found = entry(name)
    return found.kind, found.source(), found.start, found.lexer


def made_of_text(recipe: Recipe, limits: Limits) -> GrammarIR:
    """The rules of a file."""
    kind, text, start, lexer = recipe
    if kind == "regex":
        return regex_to_ir(text, limits)
    if kind == "lark":
        from grammars.frontends.lark.grammar import lark_to_ir  # late, as all of Lark is

        return lark_to_ir(text, start, limits, lexer=lexer)
    return file_to_ir(text, start)


def _check(name: str) -> None:
    if name not in names():
        listed = ", ".join(names())
        raise GrammarError(
            f"no grammar {name!r} in the library{suggestion(name, names())}; there are {listed}"
        )


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
