"""The schema as documents: texts, drafts, places, identifiers and the references between them.

A *place* names a schema: a JSON pointer in the main document (``""``, ``"/items"``), or
``URI#pointer`` in a document of the registry.  A *resource* is a schema with an identifier of its
own; references are relative to the resource they stand in.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urljoin

from grammars.errors import GrammarError, UnsupportedSchemaError
from grammars.frontends.advice import json_error, suggestion
from grammars.frontends.json_schema.assertions import Env, Spelled
from grammars.frontends.json_schema.keywords import (
    ANNOTATIONS,
    DRAFTS,
    LATEST,
    NAMING,
    SUBSCHEMA_LISTS,
    SUBSCHEMA_MAPS,
    SUBSCHEMAS,
    applies,
)

Schema: TypeAlias = dict[str, Any] | bool

_UNKNOWN: Final = object()
_IDENTIFYING: Final = frozenset(["$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor"])
_RECURSIVE: Final = ""
"""The name under which ``$recursiveAnchor`` is kept among dynamic anchors."""


@dataclass
class _Resource:
    """A schema with an identifier.

    Attributes:
        place: where its root is.
        draft: 3, 4, 6, 7, 2019 or 2020.
        declared: whether ``$schema`` says so; else it is the latest, with forms of earlier ones.
        asserts: whether keywords of the validation vocabulary mean anything.
        anchors: plain names, and the places they stand for.
        dynamic: names declared by ``$dynamicAnchor`` (and ``$recursiveAnchor``).
    """

    place: str
    draft: int
    declared: bool = True
    asserts: bool = True
    anchors: dict[str, str] = field(default_factory=dict)
    dynamic: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Dialect:
    """What ``$schema`` says; see :class:`_Resource`."""

    draft: int
    declared: bool = True
    asserts: bool = True


class Documents:
    """A main schema, and those it may refer to.

    Attributes:
        root: the main schema, floats read as ``Decimal``.
    """

    def __init__(self, schema: Mapping[str, Any] | bool | str, registry: Mapping[str, Any]) -> None:
        self.root: Final = _parse(schema) if isinstance(schema, str) else _plain(schema, "")
        self._registry = {uri.rstrip("#"): found for uri, found in registry.items()}
        self._texts: dict[str, Any] = {"": self.root}
        self._found: dict[str, Any] = {}
        self._resources: dict[str, _Resource] = {}
        self._uri_at: dict[str, str] = {}
        self._homes: dict[str, str] = {}
        self._canonical: dict[str, str] = {}
        self._first: dict[tuple[str, int], str] = {}
        self._contents = _Contents()
        self._positions: dict[str, tuple[int, ...]] = {}
        self._numbers: dict[str, int] = {}
        self._keys_of: dict[int, frozenset[str]] = {}  # of texts that are kept
        self._parts: dict[str, dict[str, int]] = {}
        self._any_dynamic = False
        self._discovered: set[str] = set()
        self._loaded_all = False
        self._default = _Dialect(LATEST, declared=False)
        self._default = replace(self._dialect(self.root, "", self._default), asserts=True)
        self._add("", self.root, "")

    # -- places --------------------------------------------------------------------------------

    def at(self, place: str) -> Schema:
        """The schema at a place.

        Raises:
            GrammarError: if there is no schema there.
        """
        found = self._lookup(place)
        if not isinstance(found, dict | bool):
            raise GrammarError(
                f"a schema must be an object or a boolean, not {shown(found)}", pointer=place
            )
        schema: Schema = found
        return schema

    def _lookup(self, place: str) -> Any:
        known = self._found.get(place, _UNKNOWN)
        if known is _UNKNOWN:
            known = self._found[place] = self._look(place)
        return known

    def _look(self, place: str) -> Any:
        uri, pointer = _split(place)
        if not pointer:
            return self._texts[uri]
        outer, _, part = place.rpartition("/")
        found = self._lookup(outer)
        key = part.replace("~1", "/").replace("~0", "~") if "~" in part else part
        if isinstance(found, dict) and key in found:
            return found[key]
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            return found[int(key)]
        raise KeyError(place)

    def draft(self, place: str) -> int:
        """The draft that applies at a place."""
        return self._resources[self._home(place)].draft

    def knows(self, place: str, keyword: str) -> bool:
        """Whether a keyword means anything at a place."""
        home = self._resources[self._home(place)]
        return applies(keyword, home.draft, declared=home.declared)

    def dialect(self, place: str) -> tuple[int, bool, bool]:
        """The draft at a place, whether it is declared, and whether validation applies."""
        home = self._resources[self._home(place)]
        return home.draft, home.declared, home.asserts

    def asserts(self, place: str) -> bool:
        """Whether the validation vocabulary applies at a place."""
        return self._resources[self._home(place)].asserts

    def _home(self, place: str) -> str:
        """The URI of the resource that a place belongs to."""
        if len(self._uri_at) == 1:
            return self._uri_at[""]
        known = self._homes.get(place)
        if known is None:
            at = place
            while at not in self._uri_at:
                at = at.rpartition("/")[0]
            known = self._homes[place] = self._uri_at[at]
        return known

    def canonical(self, place: str) -> str:
        """The first place asked for at which a schema says the same, annotations aside.

        So equal schemas are known to be equal, and share their rules.
        """
        known = self._canonical.get(place)
        return self.canonical_of(place, self._lookup(place)) if known is None else known

    def canonical_of(self, place: str, schema: Any) -> str:
        """The same of a schema that is known to be at the place."""
        known = self._canonical.get(place)
        if known is None:
            self._found[place] = schema
            content = self._contents.of(schema)
            known = place
            if content is not None:
                known = self._first.setdefault((self._home(place), content), place)
            self._canonical[place] = known
        return known

    # -- resources -----------------------------------------------------------------------------

    @property
    def resources(self) -> int:
        """How many schemas with an identifier there are by now."""
        return len(self._resources)

    def only_dialect(self) -> int | None:
        """The draft of all that has been loaded, if validation applies and no anchor is dynamic."""
        drafts = {found.draft for found in self._resources.values()}
        asserts = all(found.asserts for found in self._resources.values())
        return drafts.pop() if len(drafts) == 1 and asserts and not self._any_dynamic else None

    def _add(self, place: str, text: Any, uri: str) -> None:
        """Notes the identifiers in a document whose own URI is ``uri``."""
        dialect = self._dialect(text, place, self._default)
        self._uri_at[place] = uri
        self._resources[uri] = _Resource(place, dialect.draft, dialect.declared, dialect.asserts)
        if not self._keys(text) & _IDENTIFYING:
            return
        found = _schemas(text, place) if _names_below(text) else iter([(place, text)])
        for where, schema in found:
            home = self._resources[self._home(where)]
            named = self._identifier(schema, home.draft)
            if named:
                home = self._enter(where, schema, named, home)
            self._anchors(where, schema, home)

    def _enter(self, place: str, schema: dict[str, Any], named: str, outer: _Resource) -> _Resource:
        uri = _joined(self._home(place), named).rstrip("#")
        dialect = _Dialect(outer.draft, outer.declared, outer.asserts)
        if "$schema" in schema:
            dialect = self._dialect(schema, place, replace(dialect, asserts=True))
        fresh = _Resource(place, dialect.draft, dialect.declared, dialect.asserts)
        if self._uri_at.get(place) == self._home(place) and self._home(place) != uri:
            # the document's root: what it was loaded by leads to it as well
            self._resources[self._home(place)] = fresh
        self._uri_at[place] = uri
        self._homes.clear()
        self._resources[uri] = fresh
        return fresh

    @staticmethod
    def _identifier(schema: dict[str, Any], draft: int) -> str | None:
        if "$ref" in schema and draft <= 7:
            return None
        for keyword in ("$id", "id") if draft > 4 else ("id", "$id"):
            named = schema.get(keyword)
            if isinstance(named, str) and not named.startswith("#"):
                return named
        return None

    def _anchors(self, place: str, schema: dict[str, Any], home: _Resource) -> None:
        for keyword in ("$id", "id"):  # up to draft 7 an anchor is an identifier with "#"
            named = schema.get(keyword)
            if home.draft <= 7 and isinstance(named, str) and "#" in named[:-1]:
                home.anchors.setdefault(named.partition("#")[2], place)
        named = schema.get("$anchor")
        if isinstance(named, str):
            home.anchors.setdefault(named, place)
        named = schema.get("$dynamicAnchor")
        if isinstance(named, str):
            home.anchors.setdefault(named, place)
            home.dynamic.setdefault(named, place)
            self._any_dynamic = True
        if schema.get("$recursiveAnchor") is True and place == home.place:
            home.dynamic.setdefault(_RECURSIVE, place)
            self._any_dynamic = True

    def _dialect(self, text: Any, place: str, default: _Dialect) -> _Dialect:
        """What a document declares itself to be; the default for a meta-schema that is not known.

        Raises:
            UnsupportedSchemaError: if its meta-schema requires a vocabulary that is not known.
        """
        declared = text.get("$schema") if isinstance(text, dict) else None
        asserts = True
        for _ in range(8):  # a meta-schema of one's own is written in another
            if not isinstance(declared, str):
                break
            known = _plain_draft(declared)
            if known is not None:
                return _Dialect(known, asserts=asserts)
            meta = self._registry.get(declared.rstrip("#"))
            if not isinstance(meta, Mapping):
                break
            vocabulary = meta.get("$vocabulary")
            if isinstance(vocabulary, Mapping):
                asserts = asserts and any("/vocab/validation" in uri for uri in vocabulary)
                _check_vocabulary(vocabulary, place)
            declared = meta.get("$schema")
        return replace(default, asserts=asserts)

    # -- references ----------------------------------------------------------------------------

    def enter(self, place: str, env: Env) -> Env:
        """Dynamic anchors in force once a place has been entered."""
        if not self._any_dynamic:
            return env
        known = dict(env)
        for name, target in self._resources[self._home(place)].dynamic.items():
            known.setdefault(name, target)
        return tuple(sorted(known.items()))

    def resolve(self, place: str, keyword: str, env: Env = ()) -> str:
        """The place that a reference leads to.

        Args:
            place: the schema that has the reference.
            keyword: ``$ref``, ``$dynamicRef`` or ``$recursiveRef``.
            env: the dynamic anchors in force.

        Raises:
            GrammarError: if it leads nowhere.
        """
        reference = self._lookup(place)[keyword]
        pointer = below(place, keyword)
        if not isinstance(reference, str):
            raise GrammarError(
                f"{keyword} must be a string, not {shown(reference)}", pointer=pointer
            )
        target = self._target(place, reference, pointer)
        if keyword == "$ref":
            return target
        name = _RECURSIVE if keyword == "$recursiveRef" else unquote(reference.partition("#")[2])
        if self._resources[self._home(target)].dynamic.get(name) == target:
            return dict(env).get(name, target)
        return target

    def _target(self, place: str, reference: str, pointer: str) -> str:
        uri, _, fragment = reference.partition("#")
        uri = _joined(self._home(place), uri) if uri else self._home(place)
        fragment = unquote(fragment)
        resource = self._find(uri)
        if resource is None:
            raise GrammarError(
                f"the reference {reference!r} leads out of this schema to {uri!r}, which is not in "
                "the registry; pass registry={uri: schema}, or copy what it refers to into $defs",
                pointer=pointer,
            )
        if not fragment:
            return resource.place
        if not fragment.startswith("/"):
            named = resource.anchors.get(fragment)
            if named is None:
                listed = ", ".join(map(repr, [*resource.anchors][:8])) or "none"
                raise GrammarError(
                    f"the reference {reference!r} leads nowhere; the anchors there are: {listed}",
                    pointer=pointer,
                )
            return named
        return self._pointed(resource, reference, fragment, pointer)

    def _pointed(self, resource: _Resource, reference: str, fragment: str, pointer: str) -> str:
        place = resource.place + fragment
        try:
            found = self._lookup(place)
        except KeyError:
            near = self._nearest(resource.place, fragment)
            raise GrammarError(
                f"the reference {reference!r} leads nowhere; {near}", pointer=pointer
            ) from None
        if not isinstance(found, dict | bool):
            raise GrammarError(
                f"the reference {reference!r} leads to {shown(found)}, which is no schema",
                pointer=pointer,
            )
        self._discover(place, found)
        return place

    def _discover(self, place: str, found: Schema) -> None:
        """Identifiers below a place that is no schema by its position alone."""
        if place in self._discovered:
            return
        self._discovered.add(place)
        if not self._keys(self._texts[_split(place)[0]]) & _IDENTIFYING:
            return
        for where, schema in _schemas(found, place):
            if where not in self._uri_at:
                home = self._resources[self._home(where)]
                self._anchors(where, schema, home)

    def _find(self, uri: str) -> _Resource | None:
        uri = uri.rstrip("#")
        if uri in self._resources:
            return self._resources[uri]
        text = self._registry.get(uri)
        if text is None:
            text = _published(uri)
        if text is not None:
            self._load(uri, text)
            return self._resources[uri]
        if not self._loaded_all:  # an identifier inside one of them
            self._loaded_all = True
            for other, found in self._registry.items():
                if other not in self._texts:
                    self._load(other, found)
        return self._resources.get(uri)

    def _load(self, uri: str, text: Any) -> None:
        self._texts[uri] = _parse(text) if isinstance(text, str) else _plain(text, uri + "#")
        self._add(uri + "#", self._texts[uri], uri)

    def _nearest(self, root: str, fragment: str) -> str:
        """How far a pointer leads, and what is there."""
        parts = fragment.split("/")
        for end in range(len(parts) - 1, 0, -1):
            try:
                found = self._lookup(root + "/".join(parts[:end]))
            except KeyError:
                continue
            keys = [*found] if isinstance(found, dict) else []
            listed = ", ".join(map(repr, keys[:8])) or "nothing"
            return f"#{'/'.join(parts[:end])} has {listed}" + self._meant(root, parts, end, keys)
        return "there is no root"

    def _meant(self, root: str, parts: list[str], end: int, keys: list[str]) -> str:
        """What a pointer may have meant: a key spelt much alike, or the other name of ``$defs``."""
        if end == 1 and parts[1] in _DEFINITIONS and len(parts) > 2:
            for other in _DEFINITIONS:
                meant = "/".join(["", other, *parts[2:]])
                try:
                    self._lookup(root + meant)
                except KeyError:
                    continue
                return f" (did you mean '#{meant}'?)"
        return suggestion(parts[end], keys)

    # -- order ---------------------------------------------------------------------------------

    def position(self, place: str) -> tuple[int, ...]:
        """Where a place stands: documents in the order of their loading, then order of text.

        Numbers of the parts on the way to it; what has no place of its own stands at the beginning.
        """
        known = self._positions.get(place)
        if known is None:
            uri, pointer = _split(place)
            if not pointer:
                known = (self._numbers.setdefault(uri, len(self._numbers)),)
            else:
                part = pointer.rpartition("/")[2]
                outer = place[: -len(part) - 1]
                known = (*self.position(outer), self._part(outer, part))
            self._positions[place] = known
        return known

    def _part(self, outer: str, part: str) -> int:
        """The number of a part among those beside it."""
        table = self._parts.get(outer)
        if table is None:
            try:
                found = self._lookup(outer)
            except KeyError:
                found = ()
            names = found if isinstance(found, dict) else map(str, range(len(found)))
            table = self._parts[outer] = {name: i for i, name in enumerate(names)}
        return table.get(part.replace("~1", "/").replace("~0", "~"), -1)

    @property
    def loaded(self) -> int:
        """How many documents there are by now."""
        return len(self._texts)

    def mentions(self, keyword: str, value: Any) -> bool:
        """Whether a keyword has a value anywhere in what has been loaded (perhaps as something else)."""
        return any(
            keyword in self._keys(text) and _mentions(text, keyword, value)
            for text in self._texts.values()
        )

    def _keys(self, text: Any) -> frozenset[str]:
        """All keys in a document."""
        known = self._keys_of.get(id(text))
        if known is None:
            known = self._keys_of[id(text)] = _keys(text)
        return known


def _split(place: str) -> tuple[str, str]:
    """(URI of the document, JSON pointer)."""
    if place[:1] in ("", "/"):
        return "", place
    uri, _, pointer = place.partition("#")
    return uri, pointer


def _joined(base: str, reference: str) -> str:
    return urljoin(base, reference) if base else reference


def _normal(uri: str) -> str:
    """The URI of a published meta-schema as it was published, whatever the scheme."""
    uri = re.sub(
        "^https?://json-schema.org/draft-", "http://json-schema.org/draft-", uri.rstrip("#")
    )
    return re.sub("^http://json-schema.org/draft/", "https://json-schema.org/draft/", uri)


def _plain_draft(uri: str) -> int | None:
    """The draft of a meta-schema's URI, of hyper-schemas too."""
    return DRAFTS.get(_normal(uri).replace("/hyper-schema", "/schema"))


def _check_vocabulary(vocabulary: Mapping[str, Any], place: str) -> None:
    for uri, required in vocabulary.items():
        if required is True and not re.match("https?://json-schema.org/draft/[^/]*/vocab/", uri):
            raise UnsupportedSchemaError(
                f"the meta-schema requires the vocabulary {uri!r}, whose keywords are not known",
                pointer=below(place, "$schema"),
                keyword="$schema",
            )


def _schemas(text: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Schemas in a schema, by their position below keywords, the outer ones first."""
    stack = [(place, text)]
    while stack:
        where, schema = stack.pop()
        if not isinstance(schema, dict):
            continue
        yield where, schema
        inner: list[tuple[str, Any]] = []
        for keyword, value in schema.items():
            if keyword in SUBSCHEMAS or (keyword in SUBSCHEMA_LISTS and isinstance(value, dict)):
                inner.append((below(where, keyword), value))
            if keyword in SUBSCHEMA_LISTS and isinstance(value, list):
                inner += [(below(where, keyword, i), item) for i, item in enumerate(value)]
            if keyword in SUBSCHEMA_MAPS and isinstance(value, dict):
                inner += [(below(where, keyword, key), item) for key, item in value.items()]
        stack.extend(reversed(inner))


def _names_below(text: Any) -> bool:
    """Whether anything below the outermost schema may be an identifier."""
    stack = [*text.values()] if isinstance(text, dict) else [text]
    while stack:
        part = stack.pop()
        if type(part) is dict:
            for key in _IDENTIFYING & part.keys():
                if isinstance(part[key], str | bool):
                    return True
            stack.extend(part.values())
        elif type(part) is list:
            stack.extend(part)
    return False


class _Contents:
    """Numbers for what schemas say, annotations aside: equal ones for equal schemas.

    Each part of a text has its number once, so that a schema costs what it has beyond its parts.
    """

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._known: dict[int, int | None] = {}  # by identity of containers, which their texts keep

    def of(self, schema: Any) -> int | None:
        """The number of a schema; ``None`` if it names itself, so that it is more than it says."""
        if type(schema) is not dict:
            return self._value(schema)
        known = self._known.get(id(schema), -1)
        if known == -1:
            known = self._known[id(schema)] = self._schema(schema)
        return known

    def _number(self, content: object) -> int:
        return self._numbers.setdefault(content, len(self._numbers))

    def _schema(self, schema: dict[str, Any]) -> int | None:
        said: list[tuple[str, int]] = []
        for keyword, value in schema.items():
            if keyword in NAMING:
                return None
            if keyword in ANNOTATIONS:
                continue
            number = self._part(keyword, value)
            if number is None:
                return None
            said.append((keyword, number))
        return self._number(("schema", *said))

    def _part(self, keyword: str, value: Any) -> int | None:
        if type(value) is dict:
            if keyword in SUBSCHEMA_MAPS:
                numbers = [(key, self.of(item)) for key, item in value.items()]
                if any(number is None for _, number in numbers):
                    return None
                return self._number(("map", *numbers))
            if keyword in SUBSCHEMAS or keyword in SUBSCHEMA_LISTS:
                return self.of(value)
        elif type(value) is list and keyword in SUBSCHEMA_LISTS:
            parts = [self.of(item) for item in value]
            return None if None in parts else self._number(("list", *parts))
        return self._value(value)

    def _value(self, value: Any) -> int:
        """The number of something that is no schema, with the order of keys and spelling of numbers."""
        kind = type(value)
        if kind is dict:
            pairs = [(key, self._value(item)) for key, item in value.items()]
            return self._number(("object", *pairs))
        if kind is list:
            return self._number(("array", *map(self._value, value)))
        if kind is Spelled:
            return self._number((kind, value.text))
        return self._number((kind, value))


def _keys(text: Any) -> frozenset[str]:
    keys: set[str] = set()
    stack = [text]
    while stack:
        part = stack.pop()
        if type(part) is dict:
            keys.update(part)
            stack.extend(part.values())
        elif type(part) is list:
            stack.extend(part)
    return frozenset(keys)


def _mentions(text: Any, keyword: str, value: Any) -> bool:
    stack = [text]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if keyword in part and part[keyword] is value:
                return True
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)
    return False


@lru_cache(1)
def _meta_schemas() -> dict[str, Any]:
    from jsonschema_specifications import REGISTRY

    return {uri.rstrip("#"): REGISTRY[uri].contents for uri in REGISTRY}


def _published(uri: str) -> Any:
    """The meta-schema with this URI, if it is one."""
    return _meta_schemas().get(_normal(uri)) if "json-schema.org" in uri else None


def below(pointer: str, *keys: str | int) -> str:
    """The pointer to something inside."""
    for key in keys:
        text = str(key)
        if "~" in text or "/" in text:
            text = text.replace("~", "~0").replace("/", "~1")
        pointer = f"{pointer}/{text}"
    return pointer


def shown(value: Any) -> str:
    """A value for a message, cut if it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|[{}\[\]:,]', re.DOTALL)


def _check_json(text: str) -> None:
    """Refuses what Python's reader lets pass: keys that come twice, and numbers that are none."""
    keys: list[set[str] | None] = []
    last = ""
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == "{":
            keys.append(set())
        elif token == "[":
            keys.append(None)
        elif token in "}]":
            keys.pop()
        elif token.endswith(("Infinity", "NaN")):
            raise _error_at(text, found.start(), f"{token} is not JSON; remove it from the schema")
        elif token[0] == '"':
            here = keys[-1] if keys else None
            if here is not None and last in "{,":
                key = json.loads(token)
                if key in here:
                    raise _error_at(
                        text,
                        found.start(),
                        f"the schema has the key {key!r} twice in one object; remove one",
                    )
                here.add(key)
        last = token


def _error_at(text: str, offset: int, message: str) -> GrammarError:
    line = text.count("\n", 0, offset) + 1
    return GrammarError(message, line=line, column=offset - text.rfind("\n", 0, offset))


_DEFINITIONS: Final = ("$defs", "definitions")
_MOST_DIGITS: Final = 1_000
"""Digits that a number in a schema may have when it is written out."""


def _decimal(text: str) -> Spelled:
    try:
        number = Spelled(text)
    except ArithmeticError:
        number = Spelled("Infinity")
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise GrammarError(
            f"the number {text[:40]} has more than {_MOST_DIGITS:,} digits before or behind the "
            "point; use a smaller one"
        )
    return number


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        _decimal("1e999999")  # says what is wrong
    return int(text)


def _parse(text: str) -> Any:
    try:
        found = json.loads(text, parse_float=_decimal, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise json_error(text, error, "the schema is not JSON") from None
    _check_json(text)
    return _plain(found, "")


def _plain(value: Any, pointer: str) -> Any:
    """A deep copy with plain containers and exact decimals."""
    try:
        return _copied(value)
    except _OddError:
        return _checked(value, pointer)


class _OddError(Exception):
    """Something that is not what ``json`` makes."""


def _copied(value: Any) -> Any:
    """The copy of what consists of Python's own containers."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise _OddError
        return {key: _copied(item) for key, item in value.items()}
    if kind is str or kind is bool or kind is int or value is None or kind is Spelled:
        return value
    if kind is list:
        return [_copied(item) for item in value]
    if kind is float and math.isfinite(value):
        return Spelled(repr(value))
    raise _OddError


def _checked(value: Any, pointer: str) -> Any:
    """The same of any containers, with the place of what is no JSON."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float | Decimal):
        if isinstance(value, Spelled):
            return value
        number = Spelled(repr(value) if isinstance(value, float) else str(value))
        if not number.is_finite():
            raise GrammarError(f"{value} is not a JSON number", pointer=pointer)
        return number
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise GrammarError(f"the key {key!r} is not a string", pointer=pointer)
        return {key: _checked(item, below(pointer, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(item, below(pointer, i)) for i, item in enumerate(value)]
    raise GrammarError(
        f"{type(value).__name__} is not a JSON value; a schema consists of dicts, lists, strings, "
        "numbers, booleans and None",
        pointer=pointer,
    )
