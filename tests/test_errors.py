"""One root of all errors."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from grammars import GrammaError, Grammar, GrammarError

PACKAGES = ("gramma", "grammars", "constrain", "samplers")


def errors_of(module: ModuleType) -> dict[str, type[Exception]]:
    """The exceptions among a package's public names, warnings aside."""
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_error_has_the_root(package: str) -> None:
    found = errors_of(importlib.import_module(package))
    assert found, "every package has some"
    assert {name for name, kind in found.items() if not issubclass(kind, GrammaError)} == set()


def test_a_bad_grammar_is_caught_by_the_root_and_as_a_value_error() -> None:
    with pytest.raises(GrammaError):
        Grammar.from_gbnf("root ::= (")
    assert issubclass(GrammarError, ValueError)
