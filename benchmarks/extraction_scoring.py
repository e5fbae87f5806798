"""What is right, wrong and invented in an extracted value, and JSON read as leniently as people do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from extraction_documents import Document, leaves
from extraction_spellings import dates_in, numbers_in, times_in

_SPACE: Final = re.compile(r"\s+")
_FENCE: Final = re.compile(r"```(?:json)?")
_COMMA: Final = re.compile(r",\s*([}\]])")
_MONEY: Final = re.compile(r"[\s€£$,]|EUR|GBP|USD|CHF")
_MOST_CUTS: Final = 200


@dataclass(frozen=True)
class Score:
    """How a value compares with the truth of a document.

    Attributes:
        fields: leaves of the truth: what is neither object nor array.
        right: of these, those that the value has, equal up to runs of white space.
        extra: leaves of the value where the truth has none.
        invented: leaves that stand nowhere in the text.
    """

    fields: int
    right: int
    extra: int
    invented: int
    wrong_at: tuple[str, ...] = ()
    invented_at: tuple[str, ...] = ()

    @property
    def wrong(self) -> int:
        """Fields that are wrong or missing, and those too many."""
        return self.fields - self.right + self.extra


def score(document: Document, value: Any) -> Score:
    """Compares a value, field by field, with the truth.  Items of arrays are compared by their place."""
    truth, found = dict(leaves(document.truth)), dict(leaves(value))
    wrong = [pointer for pointer in truth if not _same(truth[pointer], found.get(pointer))]
    extra = [pointer for pointer in found if pointer not in truth]
    made_up = list(invented(document, value))
    return Score(
        len(truth),
        len(truth) - len(wrong),
        len(extra),
        len(made_up),
        (*wrong, *extra),
        tuple(made_up),
    )


def _same(true: Any, found: Any) -> bool:
    if isinstance(true, str) and isinstance(found, str):
        return _folded(true) == _folded(found)
    return isinstance(true, bool) == isinstance(found, bool) and bool(true == found)


def _folded(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def invented(document: Document, value: Any) -> Iterator[str]:
    """Pointers of strings and numbers that stand nowhere in the text.

    Up to white space for strings and the spelling of numbers; dates and times stand where the text has
    them in any usual spelling.  Yes or no, null and the words of an ``enum`` are free.
    """
    text = document.text
    folded, numbers = _folded(text), numbers_in(text)
    moments = dates_in(text) | times_in(text)
    for pointer, leaf in leaves(value):
        if isinstance(leaf, bool) or leaf is None or _is_free(document.schema, pointer):
            continue
        if isinstance(leaf, str):
            stands = _folded(leaf) in folded or leaf in moments
        else:
            stands = abs(Decimal(str(leaf))) in numbers
        if not stands:
            yield pointer


def _is_free(schema: Any, pointer: str) -> bool:
    return "enum" in (_schema_at(schema, pointer) or {})


def _schema_at(schema: Any, pointer: str) -> Any:
    """The schema of a place; ``None`` where it has none of its own."""
    for key in pointer.split("/")[1:]:
        if not isinstance(schema, Mapping):
            return None
        schema = schema["items"] if "items" in schema else schema.get("properties", {}).get(key)
    return schema


# -- reading ---------------------------------------------------------------------------------------


def read_leniently(text: str, schema: Any) -> Any:
    """The first JSON object of an answer in the types of a schema, as far as it can be made out.

    Fences and words around it are left out, commas before brackets too, and an object that breaks off is
    closed behind its last whole member.  Numbers in quotes become numbers where the schema wants them.

    Returns:
        The value, or ``None`` if there is no object.
    """
    begin = text.find("{")
    if begin < 0:
        return None
    text = _COMMA.sub(r"\1", _FENCE.sub("", text[begin:]))
    for candidate in _candidates(text):
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        return _shaped(value, schema)
    return None


def _candidates(text: str) -> Iterator[str]:
    """The text; then the text up to a place where something ended, from behind, with brackets closed."""
    yield text
    ends: list[tuple[int, str]] = []
    closers: list[str] = []
    in_string = escaped = False
    for i, char in enumerate(text):
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "{[":
            closers.append("}" if char == "{" else "]")
            ends.append((i + 1, "".join(reversed(closers))))
        elif char in "}]" and closers:
            closers.pop()
            ends.append((i + 1, "".join(reversed(closers))))
        elif char == ",":
            ends.append((i, "".join(reversed(closers))))
    ends.append((len(text), ('"' if in_string else "") + "".join(reversed(closers))))
    for end, closing in reversed(ends[-_MOST_CUTS:]):
        yield text[:end] + closing


def _shaped(value: Any, schema: Any) -> Any:
    """With numbers and truth values where the schema wants them and the answer has them in quotes."""
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return {key: _shaped(inner, properties.get(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shaped(inner, schema.get("items")) for inner in value]
    if isinstance(value, str) and schema.get("type") in ("number", "integer"):
        try:
            return float(_MONEY.sub("", value))
        except ValueError:
            return value
    if isinstance(value, str) and schema.get("type") == "boolean":
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), value)
    return value
