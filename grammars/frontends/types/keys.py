"""Keys of dictionaries: the strings that pydantic reads as a key of some type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.types import functions, numeric, scalars
from grammars.frontends.types.members import json_keys
from grammars.frontends.types.places import Place
from grammars.ir import Expr, alt, text
from grammars.limits import Limits

Core: TypeAlias = dict[str, Any]
Schema: TypeAlias = dict[str, Any]

_NUMBERS = frozenset(["int", "float", "decimal", "fraction", "complex", "bool"])


class Reader(Protocol):
    """What is needed of the reader of types."""

    limits: Limits

    def resolved(self, core: Core, place: Place) -> Core:
        """The schema that a reference means."""
        ...

    def inside(self, core: Core, place: Place) -> Core | None:
        """The schema inside one that adds nothing to texts."""
        ...

    def scalar(self, core: Core, place: Place) -> Schema:
        """Types that are one string each."""
        ...

    def spelled(self, kind: Literal["string", "number"], expr: Expr) -> Schema:
        """A schema of the texts of an expression."""
        ...


def key_schema(reader: Reader, core: Core, place: Place) -> Schema | None:
    """A schema of the keys that are read as a type; ``None`` where any will do.

    Raises:
        GrammarError: if no key of an object ever is such a value.
    """
    core = reader.resolved(core, place)
    kind = core["type"]
    if kind == "any":
        return None
    if kind in scalars.TYPES:
        made = reader.scalar(core, place)
        return None if made == {"type": "string"} else made
    if kind in _NUMBERS:
        return reader.spelled("string", _number(core, place, reader.limits))
    if kind in ("literal", "enum"):
        words = list(json_keys(core))
        if words:
            return {"enum": words}
        raise place.error("keys of an object are strings, and none is one of the listed values")
    if kind == "union":
        choices = [c[0] if isinstance(c, tuple) else c for c in core["choices"]]
        return _any_of(reader, choices, place)
    inner = reader.inside(core, place)
    if inner is not None:
        return key_schema(reader, inner, place)
    function = (core.get("function") or {}).get("function")
    known = None if function is None else functions.texts_of(function)
    if known is None:
        raise place.error(f"keys of an object are strings, none of which is a {kind}")
    return reader.spelled("string", known)


def _any_of(reader: Reader, choices: list[Core], place: Place) -> Schema | None:
    """Keys that are read as one of the choices; those that never are one are left out."""
    ways: list[Schema] = []
    failed: GrammarError | None = None
    for one in choices:
        try:
            way = key_schema(reader, one, place)
        except LimitExceeded:
            raise
        except GrammarError as error:
            failed = error
            continue
        if way is None:
            return None
        ways.append(way)
    if not ways and failed is not None:
        raise failed
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _number(core: Core, place: Place, limits: Limits) -> Expr:
    kind = core["type"]
    if kind == "bool":
        return alt(text("true"), text("false"))
    if kind == "complex":
        return numeric.complex_text()
    within = numeric.float_range(core) if kind == "float" else numeric.exact_range(core)
    digits = numeric.Digits(core.get("max_digits"), core.get("decimal_places"))
    make: dict[str, Callable[[], Expr | None]] = {
        "int": lambda: numeric.integers(within, limits),
        "float": lambda: numeric.floats(within, limits, finite=True),
        "decimal": lambda: numeric.decimal_text(digits, within, limits),
        "fraction": lambda: numeric.fraction_text(within, limits),
    }
    expr = within_limits(make[kind], place)
    assert expr is not None
    return expr


def within_limits(make: Callable[[], Expr | None], place: Place) -> Expr | None:
    """An expression; a limit that is reached on the way is said to be this place's."""
    try:
        return make()
    except LimitExceeded as error:
        raise LimitExceeded(error.limit, error.value, f"the number at {place.path}") from None
