"""Which keys and items have been evaluated: what ``unevaluatedProperties`` and ``-Items`` leave out.

Only subschemas that hold evaluate anything.  So there are alternatives: for each set of subschemas
that may hold, what they have evaluated.  It is not necessary to say that the others do not hold:
with less evaluated, the keyword only demands more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from grammars.errors import UnsupportedSchemaError
from grammars.frontends.json_schema.assertions import (
    All,
    Arrays,
    At,
    Branch,
    Demands,
    Either,
    Formula,
    Leaf,
    Objects,
    Region,
    conjunction,
    negation,
)
from grammars.frontends.json_schema.document import Documents, below
from grammars.frontends.json_schema.keywords import applies

_MOST: int = 512
"""Alternatives of one schema, counted before they are multiplied out further."""


class References(Protocol):
    """What leads from a schema to those that it refers to (a ``reading.Reader``)."""

    @property
    def documents(self) -> Documents: ...

    def target(self, at: At, keyword: str) -> At:
        """The schema that a keyword of the schema at a place refers to."""
        ...


@dataclass(frozen=True)
class _Evaluated:
    """One alternative.

    Attributes:
        when: what has to hold for it.
        names, patterns, everything: the keys.
        prefix, rest: the first items, and whether all others.
        items: items that meet one of these (``contains``).
    """

    when: tuple[Formula, ...] = ()
    names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    everything: bool = False
    prefix: int = 0
    rest: bool = False
    items: Demands = ()

    def __or__(self, other: _Evaluated) -> _Evaluated:
        return _Evaluated(
            tuple(dict.fromkeys(self.when + other.when)),
            self.names | other.names,
            tuple(dict.fromkeys(self.patterns + other.patterns)),
            self.everything or other.everything,
            max(self.prefix, other.prefix),
            self.rest or other.rest,
            tuple(dict.fromkeys(self.items + other.items)),
        )

    @property
    def is_nothing(self) -> bool:
        return self == _Evaluated(self.when)


_Ways = list[_Evaluated]


def unevaluated(
    reader: References,
    at: At,
    keyword: str,
    demands: Demands,
    leaf: Callable[[Branch, str], Leaf],
) -> Formula:
    """The formula of ``unevaluatedProperties`` or ``unevaluatedItems``.

    Raises:
        UnsupportedSchemaError: if too many combinations of subschemas have to be told apart.
    """
    out: list[Formula] = []
    for way in _Survey(reader, keyword).own(at, seen=()):
        if keyword == "unevaluatedProperties":
            if way.everything:
                rest = Branch()
            else:
                region = Region(names=way.names, outside=way.patterns)
                rest = Branch(objects=Objects(every=((region, demands),)))
        elif way.rest:
            rest = Branch()
        else:
            either: Demands = demands
            if way.items:
                either = (Either((*way.items, conjunction(demands))),)
            rest = Branch(arrays=Arrays(prefix=((),) * way.prefix, rest=either))
        out.append(All((*way.when, leaf(rest, keyword))))
    return Either(tuple(dict.fromkeys(out)))


class _Survey:
    """Follows the subschemas that apply in place."""

    def __init__(self, reader: References, keyword: str) -> None:
        self._reader = reader
        self._keyword = keyword

    def own(self, at: At, seen: tuple[At, ...]) -> _Ways:
        """What the keywords beside the one in question have evaluated."""
        schema = self._reader.documents.at(at.place)
        assert isinstance(schema, dict)
        return self._schema(at, schema, (*seen, at))

    def _sub(self, at: At, seen: tuple[At, ...], *keys: str | int) -> _Ways:
        place = below(at.place, *keys)
        return self._place(At(place, self._reader.documents.enter(place, at.env)), seen)

    def _place(self, at: At, seen: tuple[At, ...]) -> _Ways:
        schema = self._reader.documents.at(at.place)
        if isinstance(schema, bool) or at in seen:
            return [_Evaluated()]
        ways = self._schema(at, schema, (*seen, at))
        if self._keyword in schema:
            whole = _Evaluated(everything=True, rest=True)
            return [way | whole for way in ways]
        return ways

    def _schema(self, at: At, schema: dict[str, Any], seen: tuple[At, ...]) -> _Ways:
        draft = self._reader.documents.draft(at.place)
        if "$ref" in schema and draft <= 7:
            return self._place(self._reader.target(at, "$ref"), seen)
        ways = [self._properties(schema) | self._items(at, schema, draft)]
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword in schema and self._reader.documents.knows(at.place, keyword):
                ways = self._both(at, ways, self._place(self._reader.target(at, keyword), seen))
        for i in range(len(schema.get("allOf", ()))):
            ways = self._both(at, ways, self._sub(at, seen, "allOf", i))
        for keyword in ("anyOf", "oneOf"):
            for i in range(len(schema.get(keyword, ()))):
                ways = self._both(at, ways, self._optional(at, seen, keyword, i))
        if "if" in schema:
            ways = self._both(at, ways, self._condition(at, schema, seen))
        for keyword in ("dependentSchemas", "dependencies"):
            for name, value in schema.get(keyword, {}).items():
                if not isinstance(value, list | str):
                    ways = self._both(at, ways, self._dependent(at, seen, keyword, name))
        return ways

    def _both(self, at: At, some: _Ways, others: _Ways) -> _Ways:
        out = list(dict.fromkeys(a | b for a in some for b in others))
        if len(out) > _MOST:
            raise UnsupportedSchemaError(
                f"{self._keyword} would have to tell more than {_MOST} combinations of subschemas "
                "apart; put fewer alternatives beside it",
                pointer=below(at.place, self._keyword),
                keyword=self._keyword,
            )
        return out

    def _properties(self, schema: dict[str, Any]) -> _Evaluated:
        named = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        return _Evaluated(
            names=frozenset(named if isinstance(named, dict) else ()),
            patterns=tuple(patterns if isinstance(patterns, dict) else ()),
            everything="additionalProperties" in schema,
        )

    def _items(self, at: At, schema: dict[str, Any], draft: int) -> _Evaluated:
        items = schema.get("items")
        out = _Evaluated()
        if applies("prefixItems", draft):
            out |= _Evaluated(prefix=len(schema.get("prefixItems", ())))
        if isinstance(items, list):
            out |= _Evaluated(prefix=len(items), rest="additionalItems" in schema)
        elif items is not None:
            out |= _Evaluated(rest=True)
        if "contains" in schema and draft >= 2020:
            place = below(at.place, "contains")
            found = At(place, self._reader.documents.enter(place, at.env))
            out |= _Evaluated(items=(found,))
        return out

    def _optional(self, at: At, seen: tuple[At, ...], keyword: str, index: int) -> _Ways:
        place = below(at.place, keyword, index)
        holds = At(place, self._reader.documents.enter(place, at.env))
        return self._if(holds, self._place(holds, seen))

    @staticmethod
    def _if(condition: Formula, ways: _Ways) -> _Ways:
        """Alternatives under a condition, or nothing evaluated."""
        under = [way | _Evaluated((condition,)) for way in ways if not way.is_nothing]
        return [*under, _Evaluated()]

    def _condition(self, at: At, schema: dict[str, Any], seen: tuple[At, ...]) -> _Ways:
        place = below(at.place, "if")
        condition = At(place, self._reader.documents.enter(place, at.env))
        holds = [way | _Evaluated((condition,)) for way in self._place(condition, seen)]
        if "then" in schema:
            holds = self._both(at, holds, self._sub(at, seen, "then"))
        if "else" not in schema:
            return [*holds, _Evaluated()]
        other = self._sub(at, seen, "else")
        return [*holds, *(way | _Evaluated((negation(condition),)) for way in other)]

    def _dependent(self, at: At, seen: tuple[At, ...], keyword: str, name: str) -> _Ways:
        present = Branch(types=frozenset(["object"]), objects=Objects(required=(name,)))
        has = Leaf(present, f"has {name!r}")
        return self._if(has, self._sub(at, seen, keyword, name))
