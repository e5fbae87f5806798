"""Where in a type something is, what it is made of, and what its grammar cannot keep."""

from __future__ import annotations

import functools
import inspect
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from grammars.errors import GrammarError, UnkeptConstraintWarning

Validators = Literal["refuse", "warn", "ignore"]
"""What is done about validators that are functions, and about bounds relative to now."""

_MOST_NAMED: Final = 8


@dataclass(frozen=True, eq=False)
class Scope:
    """A core schema with definitions: what its references mean.

    pydantic validates a model inside another type by the model's own schema, whose definitions can
    differ from those of the same names outside: a typed dictionary takes the configuration of the
    model that it was first met in.

    Attributes:
        definitions: core schemas by reference.
        config: the configuration under which they are read.
    """

    definitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def resolved(core: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """The schema that a reference means in a scope, or the schema itself."""
    while core["type"] in ("definition-ref", "definitions"):
        if core["type"] == "definitions":
            scope.definitions.update((one["ref"], one) for one in core["definitions"])
            core = core["schema"]
        else:
            core = scope.definitions[core["schema_ref"]]
    return core


@dataclass(frozen=True)
class Place:
    """A part of a type, with what holds there.

    Attributes:
        path: how it is reached, as in ``Invoice.items[].price``.
        config: pydantic's configuration that applies.
        hashable: whether only values that Python can hash will do (items of a set).
        scope: what references mean.
    """

    path: str
    config: dict[str, Any] = field(default_factory=dict)
    hashable: bool = False
    scope: Scope = field(default_factory=Scope)

    def below(self, step: str) -> Place:
        """The same, one step further."""
        return replace(self, path=self.path + step)

    def hashed(self) -> Place:
        """The same for values that must be hashable."""
        return self if self.hashable else replace(self, hashable=True)

    def configured(self, config: dict[str, Any]) -> Place:
        """The same under another configuration."""
        return replace(self, config=config)

    def scoped(self, scope: Scope) -> Place:
        """The same where references mean something else."""
        return replace(self, scope=scope, config=scope.config)

    def error(self, message: str) -> GrammarError:
        """An error that begins with the path."""
        return GrammarError(f"at {self.path}: {message}")


class Unkept:
    """Collects what a grammar cannot keep, and says so once everything is known."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def note(self, place: Place, what: str) -> None:
        self._found[f"{place.path}: {what}"] = None

    def report(self, validators: Validators) -> None:
        """Refuses or warns, as was asked for.

        Raises:
            GrammarError: if something was found and ``validators`` is ``"refuse"``.
        """
        if not self._found or validators == "ignore":
            return
        named = list(self._found)[:_MOST_NAMED]
        if len(self._found) > _MOST_NAMED:
            named.append(f"and {len(self._found) - _MOST_NAMED} more")
        listed = "; ".join(named)
        if validators == "warn":
            warnings.warn(
                f"a grammar cannot keep what these check, so pydantic may refuse a text of it: "
                f"{listed}",
                UnkeptConstraintWarning,
                stacklevel=4,  # where the grammar is made
            )
            return
        raise GrammarError(
            f"a grammar cannot keep what these check: {listed}; with "
            'Grammar.from_type(..., validators="ignore") they are left to pydantic, which may then '
            "refuse a text of the grammar"
        )


def function_name(function: Any) -> str:
    """A function as people know it: module and qualified name."""
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{name}" if module else name


def described(function: Any) -> str:
    """A function with the line of its source, where that is known."""
    name = function_name(function)
    try:
        code = inspect.unwrap(function).__code__
    except (AttributeError, ValueError):
        return name
    return f"{name} (line {code.co_firstlineno})"
