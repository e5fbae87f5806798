"""Constraints that pydantic checks in a function, moved into the schema that the function follows.

``Annotated[Sequence[int], Field(min_length=3)]`` becomes a function behind a list, since the schema of a
sequence has no place for a length.  What comes out of the list is what it took, so the list may as
well be that long.
"""

from __future__ import annotations

import functools
from typing import Any, Final, TypeAlias

from grammars.frontends.types.places import Scope, resolved

Core: TypeAlias = dict[str, Any]

_COMPARED: Final = frozenset(["ge", "gt", "le", "lt", "multiple_of"])
_COUNTED: Final = frozenset(["min_length", "max_length"])
_CHECKS: Final = {
    "min_length_validator": "min_length",
    "max_length_validator": "max_length",
    "greater_than_validator": "gt",
    "greater_than_or_equal_validator": "ge",
    "less_than_validator": "lt",
    "less_than_or_equal_validator": "le",
    "multiple_of_validator": "multiple_of",
}
_ORDERED: Final = frozenset(["int", "float", "decimal", "fraction"])
_TIMED: Final = frozenset(["date", "datetime", "time", "timedelta"])
_LONG: Final = frozenset(
    [
        "str",
        "bytes",
        "list",
        "set",
        "frozenset",
        "deque",
        "tuple",
        "dict",
        "ordered-dict",
        "frozendict",
    ]
)


def constrained(core: Core, scope: Scope) -> Core | None:
    """The schema inside a function of pydantic's that checks one constraint, with the constraint.

    ``None`` for any other function, and where the constraint speaks of another value.
    """
    function = core["function"]["function"]
    if core["type"] != "function-after" or not isinstance(function, functools.partial):
        return None
    if not (getattr(function.func, "__module__", "") or "").startswith("pydantic."):
        return None
    key = _CHECKS.get(function.func.__name__)
    if key is None or key not in function.keywords:
        return None
    return _with(resolved(core["schema"], scope), key, function.keywords[key], scope)


def check_of(function: Any) -> str | None:
    """A constraint that a function of pydantic's checks, as people write it."""
    while isinstance(function, functools.partial):
        key = _CHECKS.get(getattr(function.func, "__name__", ""))
        if key is not None and key in function.keywords:
            return f"{key}={function.keywords[key]!r}"
        function = function.func
    return None


def _with(core: Core, key: str, value: Any, scope: Scope) -> Core | None:
    kind = core["type"]
    takes = (kind in _ORDERED and key in _COMPARED) or (kind in _LONG and key in _COUNTED)
    if takes or (kind in _TIMED and key in _COMPARED - {"multiple_of"}):
        return _tightened(core, key, value)
    inside = {"json-or-python": ("json_schema",), "lax-or-strict": ("lax_schema", "strict_schema")}
    fields = inside.get(kind, ())
    if kind in ("json", "function-before") or (
        kind == "function-after" and _keeps_length(core, key)
    ):
        fields = ("schema",)
    if kind == "function-after" and not fields:
        inner = constrained(core, scope)
        return None if inner is None else _with(inner, key, value, scope)
    out = dict(core)
    for name in fields:
        inner = core.get(name)
        changed = None if inner is None else _with(resolved(inner, scope), key, value, scope)
        if changed is None:
            return None
        out[name] = changed
    return out if fields else None


def _keeps_length(core: Core, key: str) -> bool:
    """Whether a function makes a secret of what came, which is as long."""
    function = core["function"]["function"]
    named = getattr(function, "__module__", "") == "pydantic.types"
    return named and key in _COUNTED and function.__name__ in ("SecretStr", "SecretBytes")


def _tightened(core: Core, key: str, value: Any) -> Core | None:
    known = core.get(key)
    if known is None or known == value:
        return {**core, key: value}
    if key == "multiple_of":
        return None
    pick = max if key in ("ge", "gt", "min_length") else min
    return {**core, key: pick(known, value)}
