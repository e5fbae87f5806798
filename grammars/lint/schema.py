"""Findings about JSON Schemas: keywords that do nothing, and those that contradict each other."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from grammars.frontends.json_schema.formats import KNOWN
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
from grammars.frontends.json_schema.reading import KEYWORDS
from grammars.lint.findings import Finding, Severity

_TYPES: Final = frozenset(["array", "boolean", "integer", "null", "number", "object", "string"])
_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": (
        *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "minContains", "maxContains", "unevaluatedItems"),
    ),
    "object": (
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties", "dependencies", "dependentRequired"),
        *("dependentSchemas", "unevaluatedProperties"),
    ),
}
"""Keywords that say something about values of one type only."""
_TYPE_OF: Final = {keyword: kind for kind, keywords in _OF_TYPE.items() for keyword in keywords}
_BOUNDS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
    ("minimum", "maximum"),
)
_NEEDS: Final[Mapping[str, str]] = {
    "then": "if",
    "else": "if",
    "minContains": "contains",
    "maxContains": "contains",
}
"""Keywords that do nothing without another."""
_CONTENT: Final = frozenset(["contentEncoding", "contentMediaType", "contentSchema", "$vocabulary"])
_ALL: Final = frozenset(
    {*KEYWORDS, *NAMING, *ANNOTATIONS, *SUBSCHEMAS, *SUBSCHEMA_LISTS, *SUBSCHEMA_MAPS}
    | {*_CONTENT, *_NEEDS, "$vocabulary"}
)


def schema_findings(schema: Any) -> Iterator[Finding]:
    """Findings about a schema as JSON has it (``dict``, ``list``, ...), place by place.

    They are about the words of the schema alone; that it has no value at all is told by the grammar.
    """
    draft = LATEST
    if isinstance(schema, Mapping):
        draft = DRAFTS.get(str(schema.get("$schema", "")).rstrip("#"), LATEST)
    used = _references(schema)
    stack: list[tuple[Any, str]] = [(schema, "")]
    while stack:
        at, pointer = stack.pop()
        if not isinstance(at, Mapping):
            continue
        yield from _findings_at(at, pointer, draft, used)
        stack += reversed([(x, f"{pointer}/{p}") for p, x in _subschemas(at)])


def _subschemas(at: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword, value in at.items():
        name = _escaped(keyword)
        if isinstance(value, Mapping) and keyword in SUBSCHEMA_MAPS:
            yield from ((f"{name}/{_escaped(key)}", found) for key, found in value.items())
        elif isinstance(value, list) and keyword in SUBSCHEMA_LISTS:
            yield from ((f"{name}/{n}", found) for n, found in enumerate(value))
        elif keyword in SUBSCHEMAS or keyword in SUBSCHEMA_LISTS:
            yield name, value


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _references(schema: Any) -> frozenset[str]:
    """All references of a document, wherever they stand."""
    out: set[str] = set()
    stack = [schema]
    while stack:
        at = stack.pop()
        if isinstance(at, Mapping):
            out.update(str(at[k]) for k in ("$ref", "$dynamicRef", "$recursiveRef") if k in at)
            stack += at.values()
        elif isinstance(at, list):
            stack += at
    return frozenset(out)


def _findings_at(
    at: Mapping[str, Any], pointer: str, draft: int, used: frozenset[str]
) -> Iterator[Finding]:
    if "$ref" in at and draft <= 7:
        others = [k for k in at if k in KEYWORDS and k != "$ref"]
        for keyword in others:
            yield _idle(
                pointer,
                keyword,
                f"{keyword!r} beside '$ref' is ignored in draft {draft}",
                "put both into 'allOf', or name a later draft in '$schema'",
            )
        return
    yield from _unknown(at, pointer, draft)
    yield from _of_other_types(at, pointer)
    yield from _without_partner(at, pointer)
    yield from _crossed_bounds(at, pointer)
    yield from _listed_values(at, pointer)
    yield from _closed_objects(at, pointer)
    yield from _unused_definitions(at, pointer, used)
    format_ = at.get("format")
    if isinstance(format_, str) and format_ not in KNOWN:
        yield _idle(
            pointer,
            "format",
            f"format {format_!r} is none that any draft defines, so it constrains nothing",
            _closest(format_, KNOWN) or "say it with 'pattern'",
        )


def _idle(pointer: str, keyword: str, message: str, advice: str = "") -> Finding:
    return Finding("idle", "warning", message, advice, pointer=f"{pointer}/{_escaped(keyword)}")


def _contradiction(pointer: str, message: str, advice: str = "") -> Finding:
    return Finding("contradiction", "warning", message, advice, pointer=pointer)


def _closest(word: str, known: frozenset[str]) -> str:
    found = difflib.get_close_matches(word, known, 1, 0.75)
    return f"did you mean {found[0]!r}?" if found else ""


def _unknown(at: Mapping[str, Any], pointer: str, draft: int) -> Iterator[Finding]:
    for keyword in at:
        if keyword not in _ALL:
            close = _closest(keyword, _ALL)
            if close or not keyword.startswith(("x-", "x_", "$")):
                severity: Severity = "warning" if close else "note"
                message = f"{keyword!r} is no keyword of JSON Schema, so it constrains nothing"
                place = f"{pointer}/{_escaped(keyword)}"
                yield Finding("unknown-keyword", severity, message, close, pointer=place)
        elif keyword in KEYWORDS and not applies(keyword, draft):
            yield _idle(
                pointer,
                keyword,
                f"{keyword!r} is no keyword of draft {draft}, so it constrains nothing",
                "name another draft in '$schema'",
            )


def _types(at: Mapping[str, Any]) -> frozenset[str] | None:
    """The types that a schema allows by ``type``; ``None`` if it names none (or schemas)."""
    said = at.get("type")
    names = [said] if isinstance(said, str) else said
    if not isinstance(names, list) or not all(isinstance(n, str) and n in _TYPES for n in names):
        return None
    return frozenset(names)


def _of_other_types(at: Mapping[str, Any], pointer: str) -> Iterator[Finding]:
    types = _types(at)
    if types is None:
        return
    for keyword in at:
        kind = _TYPE_OF.get(keyword)
        if kind is None or kind in types or (kind == "number" and "integer" in types):
            continue
        listed = " or ".join(sorted(types))
        yield _idle(
            pointer,
            keyword,
            f"{keyword!r} says something about {kind}s only, and the type is {listed}",
            "remove it, or add the type",
        )


def _without_partner(at: Mapping[str, Any], pointer: str) -> Iterator[Finding]:
    for keyword, needed in _NEEDS.items():
        if keyword in at and needed not in at:
            yield _idle(pointer, keyword, f"{keyword!r} does nothing without {needed!r}")
    if "if" in at and "then" not in at and "else" not in at:
        yield _idle(pointer, "if", "'if' does nothing without 'then' and 'else'")
    if "additionalItems" in at and not isinstance(at.get("items"), list):
        yield _idle(
            pointer,
            "additionalItems",
            "'additionalItems' does nothing unless 'items' is a list",
            "from draft 2020-12 on, write 'prefixItems' and 'items'",
        )


def _crossed_bounds(at: Mapping[str, Any], pointer: str) -> Iterator[Finding]:
    for low, high in _BOUNDS:
        a, b = at.get(low), at.get(high)
        if _is_number(a) and _is_number(b) and a > b:  # type: ignore[operator]
            yield _contradiction(pointer, f"{low!r} is {a} and {high!r} is {b}: nothing is between")
    required, most = at.get("required"), at.get("maxProperties")
    if isinstance(required, list) and _is_number(most) and len(set(map(str, required))) > most:  # type: ignore[operator]
        yield _contradiction(
            pointer, f"{len(required)} keys are required, 'maxProperties' is {most}"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed_values(at: Mapping[str, Any], pointer: str) -> Iterator[Finding]:
    types = _types(at)
    listed = at.get("enum")
    values = list(listed) if isinstance(listed, list) else []
    if "const" in at:
        values.append(at["const"])
    if types is not None:
        for value in values:
            if not _type_of(value) & types:
                named = " or ".join(sorted(types))
                shown = json.dumps(value, ensure_ascii=False)[:60]
                yield _contradiction(pointer, f"the value {shown} is not of type {named}")
    if isinstance(listed, list):
        texts = [json.dumps(value, sort_keys=True) for value in listed]
        for text in dict.fromkeys(t for t in texts if texts.count(t) > 1):
            yield _idle(pointer, "enum", f"the value {text[:60]} is listed twice")


def _type_of(value: Any) -> frozenset[str]:
    """The names of types that a value has."""
    if value is None:
        return frozenset(["null"])
    if isinstance(value, bool):
        return frozenset(["boolean"])
    if isinstance(value, int | float):
        return frozenset(["number", "integer"] if value == int(value) else ["number"])
    if isinstance(value, str):
        return frozenset(["string"])
    return frozenset(["array" if isinstance(value, list) else "object"])


def _closed_objects(at: Mapping[str, Any], pointer: str) -> Iterator[Finding]:
    required, properties = at.get("required"), at.get("properties", {})
    if not isinstance(required, list) or not isinstance(properties, Mapping):
        return
    for key in required:
        if not isinstance(key, str):
            continue
        if key in properties:
            if properties[key] is False:
                yield _contradiction(pointer, f"the key {key!r} is required and forbidden")
        elif at.get("additionalProperties") is False and not at.get("patternProperties"):
            yield _contradiction(
                pointer,
                f"the key {key!r} is required, and 'additionalProperties': false forbids it",
                _closest(key, frozenset(properties)) or "add it to 'properties'",
            )
        else:
            close = _closest(key, frozenset(properties))
            if close:
                yield Finding(
                    "undeclared-key",
                    "note",
                    f"the key {key!r} is required and not among the properties",
                    close,
                    pointer=f"{pointer}/required",
                )


def _unused_definitions(
    at: Mapping[str, Any], pointer: str, used: frozenset[str]
) -> Iterator[Finding]:
    for keyword in ("$defs", "definitions"):
        found = at.get(keyword)
        if not isinstance(found, Mapping):
            continue
        for name, schema in found.items():
            place = f"{pointer}/{keyword}/{_escaped(name)}"
            named = isinstance(schema, Mapping) and any(k in schema for k in NAMING)
            if not named and not any(f"#{place}" in ref or ref.endswith(place) for ref in used):
                yield Finding(
                    "unused-definition",
                    "note",
                    f"nothing refers to the definition {name!r}",
                    "remove it, or refer to it",
                    pointer=place,
                )
