"""Plain schemas: those of a single type that leave no choice, read without formulas.

Most schemas are objects of named properties, arrays of one kind of item, lists of words, or scalars
under ``type`` alone.  What they say is known at once, and so is that some value meets them, and that a
reference leads to them; so they are read here, in one step, and everything else by
:mod:`~grammars.frontends.json_schema.reading`, which reads plain ones to the same effect.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from grammars.frontends.json_schema.assertions import NOTHING, At, Demands
from grammars.frontends.json_schema.document import Documents, below
from grammars.frontends.json_schema.reading import KEYWORDS, Reader


class PlainObject(NamedTuple):
    """An object.

    Attributes:
        named: what the values of named keys meet.
        required: keys there must be.
        rest: what the values of other keys meet.
        alone: whether values of other types are not allowed.
    """

    named: dict[str, Demands]
    required: tuple[str, ...]
    rest: Demands
    alone: bool

    def value(self, name: str) -> Demands:
        """What the value of a key meets."""
        known = self.named.get(name)
        return self.rest if known is None else known


class PlainArray(NamedTuple):
    """An array whose items all meet the same."""

    items: Demands


class PlainWords(NamedTuple):
    """A list of strings (each once)."""

    words: tuple[str, ...]


class PlainScalar(NamedTuple):
    """Anything of a type, ``"integer"`` among them."""

    kind: str


PlainSchema: TypeAlias = PlainObject | PlainArray | PlainWords | PlainScalar

_OF_OBJECTS: Final = frozenset(["type", "properties", "required", "additionalProperties"])
_OF_ARRAYS: Final = frozenset(["type", "items"])
_TYPE: Final = frozenset(["type"])
_WORDS: Final = frozenset(["type", "enum"])
_ENUM: Final = frozenset(["enum"])
_SCALARS: Final = frozenset(["null", "boolean", "integer", "number", "string"])
_ANY: Final[Demands] = ()
_NONE: Final[Demands] = (NOTHING,)

_ANYTHING: Final = PlainObject({}, (), _ANY, alone=False)

_TEXTS: Final = frozenset(["pattern", "format"])
_STRINGS: Final = _TYPE | _TEXTS
_MOST_REFERENCES: Final = 8
_UNKNOWN: Final = object()


class PlainReader:
    """Reads the plain schemas of some documents; ``None`` or ``False`` where a schema is not plain.

    Attributes:
        draft: that all schemas are of, once one has been read.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._documents: Documents = reader.documents
        self._known: dict[At, PlainSchema | None] = {}
        self._demands: dict[str, Demands] = {}
        self._meanings: dict[At, Demands | None] = {}
        self._checked: tuple[int, bool] = (0, False)
        self.draft = 0

    def _applies(self, at: At) -> bool:
        """Whether all documents are of one dialect, in which keywords mean what they usually do."""
        if at.env or at.barred:
            return False
        found = self._documents.resources
        if self._checked[0] != found:
            one = self._documents.only_dialect()
            fine = one is not None and not self._reader.requires_in_place
            self._checked = found, fine
            self.draft = one or 0
        return self._checked[1]

    def read(self, demands: Demands) -> PlainSchema | None:
        """What demands say together, if they are those of a plain schema or allow anything."""
        if not demands:
            return _ANYTHING
        only = demands[0]
        return self.schema(only) if type(only) is At and len(demands) == 1 else None

    def schema(self, at: At) -> PlainSchema | None:
        """What a plain schema says."""
        known = self._known.get(at, _UNKNOWN)
        if known is _UNKNOWN:
            schema = self._documents.at(at.place) if self._applies(at) else None
            known = self._known[at] = self._read(at.place, schema) if type(schema) is dict else None
        return known  # type: ignore[return-value]

    def _read(self, place: str, schema: dict[str, Any]) -> PlainSchema | None:
        said = schema.keys() & KEYWORDS
        if "type" not in said:
            if said == _ENUM:
                return self._words(schema)
            return self._object(place, schema) if said and said <= _OF_OBJECTS else None
        kind = schema["type"]
        if kind == "object":
            return self._object(place, schema) if said <= _OF_OBJECTS else None
        if kind == "array":
            return self._array(place, schema) if said <= _OF_ARRAYS else None
        if type(kind) is not str or kind not in _SCALARS:
            return None
        if len(said) == 1:
            return PlainScalar(kind)
        return self._words(schema) if kind == "string" and said == _WORDS else None

    def _words(self, schema: dict[str, Any]) -> PlainSchema | None:
        words = schema["enum"]
        if type(words) is not list or not words or not all(type(word) is str for word in words):
            return None
        return PlainWords(tuple(dict.fromkeys(words)))

    def _array(self, place: str, schema: dict[str, Any]) -> PlainSchema | None:
        if "items" not in schema:
            return PlainArray(_ANY)
        items = self._below(f"{place}/items", schema["items"])
        return None if items is None else PlainArray(items)

    def _object(self, place: str, schema: dict[str, Any]) -> PlainSchema | None:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if type(properties) is not dict or type(required) is not list:
            return None
        if not all(type(name) is str for name in required):
            return None
        named: dict[str, Demands] = {}
        for name, value in properties.items():
            demands = self._below(below(place, "properties", name), value)
            if demands is None:
                return None
            named[name] = demands
        others = schema.get("additionalProperties", True)
        rest = self._below(f"{place}/additionalProperties", others)
        if rest is None:
            return None
        return PlainObject(named, tuple(dict.fromkeys(required)), rest, "type" in schema)

    def _below(self, place: str, schema: Any) -> Demands | None:
        """A schema below another one, as demands; ``None`` if it is none."""
        if type(schema) is dict:
            if not schema:
                return _ANY
            place = self._documents.canonical_of(place, schema)
            known = self._demands.get(place)
            return self._as_demands(self._reader.place(place)) if known is None else known
        if schema is True:
            return _ANY
        return _NONE if schema is False else None

    # -- what schemas say at a glance --------------------------------------------------------------

    def surely_possible(self, at: At) -> bool:
        """Whether it is plain that some value meets a schema, keys that there must be aside."""
        if self.schema(at) is not None:
            return True
        if not self._applies(at):
            return False
        schema = self._documents.at(at.place)
        if type(schema) is not dict:
            return False
        said = schema.keys() & KEYWORDS
        if schema.get("type") != "string" or not said <= _STRINGS or said >= _TEXTS:
            return False
        return all(type(schema.get(keyword, "")) is str for keyword in _TEXTS)

    def meaning(self, at: At) -> Demands | None:
        """A schema as demands, references followed; none where it allows anything.

        ``None`` if that takes a closer look.
        """
        known = self._meanings.get(at, _UNKNOWN)
        if known is _UNKNOWN:
            known = self._meanings[at] = self._followed(at) if self._applies(at) else None
        return known  # type: ignore[return-value]

    def _followed(self, at: At) -> Demands | None:
        for _ in range(_MOST_REFERENCES):
            schema = self._documents.at(at.place)
            if type(schema) is not dict:
                return None
            said = schema.keys() & KEYWORDS
            if "$ref" in said:
                if self.draft > 7 and len(said) > 1:
                    return None
                at = self._reader.target(at, "$ref")
                if not self._applies(at):  # it may have loaded another document
                    return None
            elif not said:
                return _ANY
            else:
                return None if self.schema(at) is None else self._as_demands(at)
        return None

    def _as_demands(self, at: At) -> Demands:
        known = self._demands.get(at.place)
        if known is None:
            known = self._demands[at.place] = (at,)
        return known
