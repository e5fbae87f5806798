"""Keywords to assertions: what a set of places demands, as alternatives of :class:`Branch`.

``allOf`` and ``$ref`` add places, ``anyOf`` multiplies alternatives; what is left at each place is a
plain conjunction of keywords.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema.assertions import (
    ALL_TYPES,
    TYPES,
    Arrays,
    Bound,
    Branch,
    Numbers,
    Objects,
    Places,
    Strings,
)
from grammars.frontends.json_schema.document import ANNOTATIONS, Document, Schema, below
from grammars.limits import Limits

_Pending: TypeAlias = tuple[str, tuple[str, ...]]
"""A place still to be read, and the places it was reached from without entering the value."""


class Reader:
    """Reads places of one document."""

    def __init__(self, document: Document, limits: Limits) -> None:
        self.document = document
        self._limits = limits
        self._plain: dict[str, Branch] = {}

    def branches(self, places: Places) -> list[Branch]:
        """The alternatives that all places together allow.

        Raises:
            GrammarError: for a malformed keyword, or references that only go in a circle.
            LimitExceeded: if there are more than ``max_schema_branches``.
        """
        out: list[Branch] = []
        todo: list[tuple[Branch, tuple[_Pending, ...], frozenset[str]]] = [
            (Branch(), tuple((place, ()) for place in places), frozenset())
        ]
        while todo:
            branch, pending, seen = todo.pop()
            if not pending:
                out.append(branch)
                continue
            (place, chain), rest = pending[0], pending[1:]
            if place in chain:
                self._complain_of_circle(place, chain)
            if place in seen:
                todo.append((branch, rest, seen))
                continue
            ways = self._ways(place, chain)
            for own, more in reversed(ways):
                todo.append((branch & own, more + rest, seen | {place}))
            if len(todo) + len(out) > self._limits.max_schema_branches:
                raise LimitExceeded(
                    "max_schema_branches",
                    self._limits.max_schema_branches,
                    "multiplying out anyOf",
                    pointer=place,
                )
        return out

    def _ways(
        self, place: str, chain: tuple[str, ...]
    ) -> list[tuple[Branch, tuple[_Pending, ...]]]:
        """What one place demands: alternatives of (assertions, further places)."""
        schema = self.document.at(place)
        if schema is True:
            return [(Branch(), ())]
        if schema is False:
            return []
        chain = (*chain, place)
        more: list[_Pending] = []
        if "$ref" in schema:
            more.append((self.document.resolve(place), chain))
            if self.document.draft <= 7:
                return [(Branch(), tuple(more))]
        more += [(p, chain) for p in self._list(schema, place, "allOf")]
        own = self.plain(place)
        if "anyOf" not in schema:
            return [(own, tuple(more))]
        return [(own, ((p, chain), *more)) for p in self._list(schema, place, "anyOf")]

    def _complain_of_circle(self, place: str, chain: tuple[str, ...]) -> None:
        circle = " -> ".join(f"#{p}" for p in (*chain[chain.index(place) :], place))
        raise GrammarError(
            f"the schema refers to itself without describing anything ({circle}); "
            "a recursive schema must pass through properties or items",
            pointer=place,
        )

    @staticmethod
    def _list(schema: dict[str, Any], place: str, keyword: str) -> Places:
        if keyword not in schema:
            return ()
        value = schema[keyword]
        if not isinstance(value, list) or not value:
            raise _malformed(place, keyword, "a list of at least one schema", value)
        return tuple(below(place, keyword, i) for i in range(len(value)))

    def single_way(self, place: str) -> tuple[str, Places] | None:
        """If a place only passes on to others: ("$ref" or "anyOf", those places)."""
        schema = self.document.at(place)
        if not isinstance(schema, dict):
            return None
        said = schema.keys() - ANNOTATIONS
        if "$ref" in schema and (said == {"$ref"} or self.document.draft <= 7):
            return "$ref", (self.document.resolve(place),)
        if said == {"anyOf"}:
            return "anyOf", self._list(schema, place, "anyOf")
        return None

    def plain(self, place: str) -> Branch:
        """The conjunction of the keywords at a place that are not combinators."""
        known = self._plain.get(place)
        if known is None:
            schema = self.document.at(place)
            assert isinstance(schema, dict)
            known = self._plain[place] = _read(schema, place, self.document.draft)
        return known


# -- one schema object -----------------------------------------------------------------------------


def _read(schema: dict[str, Any], place: str, draft: int) -> Branch:
    types, whole = _types(schema, place)
    numbers = _numbers(schema, place)
    if whole:
        numbers &= Numbers(step=Fraction(1))
    return Branch(
        types,
        numbers,
        _strings(schema, place),
        _arrays(schema, place),
        _objects(schema, place),
        _values(schema, place),
        (place,),
    )


def _types(schema: dict[str, Any], place: str) -> tuple[frozenset[str], bool]:
    """Allowed types, and whether numbers must be integers."""
    if "type" not in schema:
        return ALL_TYPES, False
    value = schema["type"]
    named = [value] if isinstance(value, str) else value
    valid = {*TYPES, "integer"}
    known = isinstance(named, list) and all(isinstance(t, str) and t in valid for t in named)
    if not known or not named:
        raise _malformed(place, "type", f"one of {', '.join(sorted(valid))}, or a list", value)
    types = frozenset("number" if t == "integer" else t for t in named)
    return types, "integer" in named and "number" not in named


def _values(schema: dict[str, Any], place: str) -> tuple[Any, ...] | None:
    if "enum" in schema and not isinstance(schema["enum"], list):
        raise _malformed(place, "enum", "a list", schema["enum"])
    named = [schema["enum"]] if "enum" in schema else []
    if "const" in schema:
        named.append([schema["const"]])
    out = Branch()
    for values in named:
        out = out & Branch(values=tuple(values))
    return out.values


def _numbers(schema: dict[str, Any], place: str) -> Numbers:
    out = Numbers()
    for side, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        for keyword in (side, exclusive):
            if keyword not in schema:
                continue
            if keyword == exclusive and isinstance(schema[keyword], bool):
                continue  # draft 4 has a boolean beside the bound
            number = _number(schema, place, keyword)
            strict = keyword == exclusive or schema.get(exclusive) is True
            bound = Bound(number, strict)
            out &= Numbers(low=bound) if side == "minimum" else Numbers(high=bound)
    if "multipleOf" in schema:
        step = _number(schema, place, "multipleOf")
        if step <= 0:
            raise _malformed(place, "multipleOf", "a number above 0", schema["multipleOf"])
        out &= Numbers(step=Fraction(step))
    return out


def _number(schema: dict[str, Any], place: str, keyword: str) -> Decimal:
    value = schema[keyword]
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _malformed(place, keyword, "a number", value)
    return Decimal(value)


def _strings(schema: dict[str, Any], place: str) -> Strings:
    patterns: tuple[tuple[str, str], ...] = ()
    if "pattern" in schema:
        pattern = schema["pattern"]
        if not isinstance(pattern, str):
            raise _malformed(place, "pattern", "a string", pattern)
        patterns = ((pattern, below(place, "pattern")),)
    return Strings(
        _count(schema, place, "minLength") or 0, _count(schema, place, "maxLength"), patterns
    )


def _count(schema: dict[str, Any], place: str, keyword: str) -> int | None:
    if keyword not in schema:
        return None
    value = schema[keyword]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _malformed(place, keyword, "an integer of at least 0", value)
    return value


def _arrays(schema: dict[str, Any], place: str) -> Arrays:
    prefix: tuple[Places, ...] = ()
    rest: Places = ()
    items = schema.get("items", True)
    if "prefixItems" in schema:
        count = _schema_count(schema, place, "prefixItems")
        prefix = tuple((below(place, "prefixItems", i),) for i in range(count))
    if isinstance(items, list):  # before 2020-12 a list of schemas stood here
        count = _schema_count(schema, place, "items")
        prefix = tuple((below(place, "items", i),) for i in range(count))
        if "additionalItems" in schema:
            rest = (below(place, "additionalItems"),)
    elif "items" in schema:
        rest = (below(place, "items"),)
    return Arrays(
        prefix, rest, _count(schema, place, "minItems") or 0, _count(schema, place, "maxItems")
    )


def _schema_count(schema: dict[str, Any], place: str, keyword: str) -> int:
    value = schema[keyword]
    if not isinstance(value, list):
        raise _malformed(place, keyword, "a list of schemas", value)
    return len(value)


def _objects(schema: dict[str, Any], place: str) -> Objects:
    named: Schema | Any = schema.get("properties", {})
    if not isinstance(named, dict):
        raise _malformed(place, "properties", "an object of schemas", named)
    required = schema.get("required", [])
    if isinstance(required, bool):
        required = []  # draft 3 had a boolean here; later drafts define no such form
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _malformed(place, "required", "a list of property names", required)
    return Objects(
        tuple((name, (below(place, "properties", name),)) for name in named),
        (below(place, "additionalProperties"),) if "additionalProperties" in schema else (),
        tuple(dict.fromkeys(required)),
    )


def _malformed(place: str, keyword: str, wanted: str, value: Any) -> GrammarError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return GrammarError(f"{keyword!r} must be {wanted}, not {shown}", pointer=below(place, keyword))
