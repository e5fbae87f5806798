"""The schema as a document: its text, its draft, its places and the references between them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from grammars.errors import GrammarError, UnsupportedSchemaError

Schema: TypeAlias = dict[str, Any] | bool

_DRAFTS: Final = {
    "http://json-schema.org/draft-04/schema": 4,
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
_LATEST: Final = 2020

CONSTRAINED: Final = frozenset(
    [
        "type",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "$ref",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    ]
)
ANNOTATIONS: Final = frozenset(
    [
        "$schema",
        "$comment",
        "$defs",
        "definitions",
        "$vocabulary",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
    ]
)
NOT_YET: Final = frozenset(
    [
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "format",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$anchor",
    ]
)
"""Keywords of a draft that this version refuses, where they say anything at all."""

_FORMATS: Final = frozenset(
    [
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    ]
)
_VACUOUS: Final[dict[str, tuple[Any, ...]]] = {
    "uniqueItems": (False,),
    "minProperties": (0,),
    "unevaluatedProperties": (True,),
    "unevaluatedItems": (True,),
    "patternProperties": ({},),
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "propertyNames": (True,),
}
"""Values with which such a keyword allows everything."""


class Document:
    """One schema document.

    Attributes:
        root: the schema, floats read as ``Decimal``.
        draft: 4, 6, 7, 2019 or 2020.
    """

    def __init__(
        self,
        schema: Mapping[str, Any] | bool | str,
        registry: Mapping[str, Any],
        *,
        assert_formats: bool,
    ) -> None:
        self.root: Final = _parse(schema) if isinstance(schema, str) else _plain(schema, "")
        self._registry = registry
        self._assert_formats = assert_formats
        self.draft: Final = _draft_of(self.root)
        self._checked: set[str] = set()

    def at(self, pointer: str) -> Schema:
        """The schema at a place, its keywords checked.

        Raises:
            GrammarError: if there is no schema there.
            UnsupportedSchemaError: for a keyword that is not constrained.
        """
        found = self._lookup(pointer)
        if not isinstance(found, dict | bool):
            raise GrammarError(
                f"a schema must be an object or a boolean, not {_shown(found)}", pointer=pointer
            )
        if isinstance(found, dict) and pointer not in self._checked:
            self._check(found, pointer)
            self._checked.add(pointer)
        schema: Schema = found
        return schema

    def _lookup(self, pointer: str) -> Any:
        found: Any = self.root
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise KeyError(pointer)
        return found

    def _check(self, schema: dict[str, Any], pointer: str) -> None:
        if "$ref" in schema and self.draft <= 7:
            return  # its siblings are ignored
        for keyword, value in schema.items():
            if keyword in NOT_YET and not self._is_vacuous(keyword, value, schema):
                raise UnsupportedSchemaError(
                    f"the keyword {keyword!r} is not supported yet, and dropping it would accept "
                    "texts the schema forbids; remove it or express it otherwise",
                    pointer=below(pointer, keyword),
                    keyword=keyword,
                )
            if keyword in ("$id", "id") and isinstance(value, str) and pointer:
                raise UnsupportedSchemaError(
                    f"{keyword!r} below the root, which changes what references mean, is not "
                    "supported yet",
                    pointer=below(pointer, keyword),
                    keyword=keyword,
                )

    def _is_vacuous(self, keyword: str, value: Any, schema: dict[str, Any]) -> bool:
        if keyword == "format":
            return not self._assert_formats or value not in _FORMATS
        if keyword in ("then", "else"):
            return "if" not in schema
        if keyword == "if":
            return "then" not in schema and "else" not in schema
        if keyword in ("minContains", "maxContains"):
            return "contains" not in schema
        if keyword in ("$anchor", "$dynamicAnchor", "$recursiveAnchor"):
            return True  # only targets; what refers to them is refused
        return value in _VACUOUS.get(keyword, ())

    def resolve(self, pointer: str) -> str:
        """The place that ``$ref`` at a place refers to.

        Raises:
            GrammarError: if it leads out of the document or nowhere.
        """
        reference = self._lookup(pointer)["$ref"]
        place = below(pointer, "$ref")
        if not isinstance(reference, str):
            raise GrammarError(f"$ref must be a string, not {_shown(reference)}", pointer=place)
        base, _, fragment = reference.partition("#")
        own = self.root.get("$id", self.root.get("id")) if isinstance(self.root, dict) else None
        if base and base != str(own).partition("#")[0]:
            raise GrammarError(
                f"the reference {reference!r} leads out of this schema; copy what it refers to "
                "into $defs",
                pointer=place,
            )
        target = unquote(fragment)
        try:
            if target and not target.startswith("/"):
                raise KeyError(target)
            found = self._lookup(target)
        except KeyError:
            near = self._nearest(target)
            raise GrammarError(
                f"the reference {reference!r} leads nowhere; {near}", pointer=place
            ) from None
        if not isinstance(found, dict | bool):
            raise GrammarError(
                f"the reference {reference!r} leads to {_shown(found)}, which is no schema",
                pointer=place,
            )
        return target

    def _nearest(self, target: str) -> str:
        """How far the pointer leads, and what is there."""
        parts = target.split("/")
        for end in range(len(parts) - 1, 0, -1):
            try:
                found = self._lookup("/".join(parts[:end]))
            except KeyError:
                continue
            keys = [*found][:8] if isinstance(found, dict) else []
            listed = ", ".join(map(repr, keys)) or "nothing"
            return f"#{'/'.join(parts[:end])} has {listed}"
        return "plain names ($anchor) are not supported yet" if target else "there is no root"


def below(pointer: str, *keys: str | int) -> str:
    """The pointer to something inside."""
    for key in keys:
        pointer += "/" + str(key).replace("~", "~0").replace("/", "~1")
    return pointer


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _draft_of(root: Any) -> int:
    declared = root.get("$schema") if isinstance(root, dict) else None
    if not isinstance(declared, str):
        return _LATEST
    return _DRAFTS.get(
        declared.rstrip("#").replace(
            "https://json-schema.org/draft-", "http://json-schema.org/draft-"
        ),
        _LATEST,
    )


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


_MOST_DIGITS: Final = 1_000
"""Digits that a number in a schema may have when it is written out."""


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("Infinity")
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
        line = text.splitlines()[error.lineno - 1].strip() if text.strip() else ""
        quoted = f" in {line[:60]!r}" if line else ": the text is empty"
        raise GrammarError(
            f"the schema is not JSON: {error.msg}{quoted}", line=error.lineno, column=error.colno
        ) from None
    _check_json(text)
    return _plain(found, "")


def _plain(value: Any, pointer: str) -> Any:
    """A deep copy with plain containers and exact decimals."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float | Decimal):
        number = Decimal(repr(value)) if isinstance(value, float) else value
        if not number.is_finite():
            raise GrammarError(f"{value} is not a JSON number", pointer=pointer)
        return (
            int(number)
            if number == number.to_integral_value() and abs(number.adjusted()) < 400
            else number
        )
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise GrammarError(f"the key {key!r} is not a string", pointer=pointer)
        return {key: _plain(item, below(pointer, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, below(pointer, i)) for i, item in enumerate(value)]
    raise GrammarError(
        f"{type(value).__name__} is not a JSON value; a schema consists of dicts, lists, strings, "
        "numbers, booleans and None",
        pointer=pointer,
    )
