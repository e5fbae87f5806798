"""Hints on texts that a JSON grammar refuses: what JSON writes otherwise, and which keyword may be meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Where = Literal["value", "key", "colon", "behind value", "in key", "in string", "in word", "end"]

_BLANKS: Final = b" \t\n\r"
_NUMBER: Final = b"-0123456789"
_DELIMITERS: Final = b' \t\n\r,:{}[]"'
_CAPITAL: Final = re.compile(rb"(True|False|None|NaN|Infinity|-Infinity|undefined)\b")
_OF_PYTHON: Final = {b"True": "true", b"False": "false", b"None": "null", b"undefined": "null"}
_STRING: Final = re.compile(rb'"((?:[^"\\\n]|\\.)*)"?')
_NEXT_KEY: Final = re.compile(rb',\s*("(?:[^"\\\n]|\\.)*")')
_TYPES: Final[tuple[tuple[bytes, str], ...]] = (
    (b'"', "a string"), (b"{", "an object"), (b"[", "an array"), (b"0123456789", "a number"),
    (b"t", "true"), (b"f", "false"), (b"n", "null"),
)  # fmt: skip


@dataclass(slots=True)
class _Level:
    """An object or an array that is open."""

    is_object: bool
    keys: list[str] = field(default_factory=list)
    index: int = 0

    @property
    def step(self) -> str:
        """The step of a pointer from here to the value that is read last."""
        step = (self.keys[-1] if self.keys else "") if self.is_object else str(self.index)
        return "/" + step.replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a JSON text that goes on somehow.

    Attributes:
        pointer: JSON pointer of the value that is there, or of the object or array that goes on.
        where: what may begin or go on there.
        is_object: whether the innermost value that is open is an object; ``None`` if none is.
        keys: those of that object that are complete.
        begun: the bytes of the string, key or word so far.
        last: the last byte that is no blank; empty at the beginning.
    """

    pointer: str
    where: Where
    is_object: bool | None
    keys: tuple[str, ...]
    begun: bytes
    last: bytes


def spot_of(text: bytes) -> Spot:
    """The place at the end of the beginning of a JSON text."""
    levels: list[_Level] = []
    where: Where = "value"
    at, begun = 0, b""
    while at < len(text):
        byte = text[at : at + 1]
        begun = b""
        if byte in (b"{", b"["):
            levels.append(_Level(byte == b"{"))
            where = "key" if byte == b"{" else "value"
        elif byte in (b"}", b"]"):
            if levels:
                levels.pop()
            where = "behind value" if levels else "end"
        elif byte == b",":
            if levels and not levels[-1].is_object:
                levels[-1].index += 1
            where = "key" if levels and levels[-1].is_object else "value"
        elif byte == b":":
            where = "value"
        elif byte == b'"':
            end = _end_of_string(text, at)
            if end is None:
                where, begun, at = (
                    "in key" if where == "key" else "in string",
                    text[at + 1 :],
                    len(text),
                )
                break
            if where == "key" and levels:
                levels[-1].keys.append(_decoded(text[at:end]))
                where = "colon"
            else:
                where = "behind value" if levels else "end"
            at = end - 1
        elif byte not in _BLANKS:
            end = at
            while end < len(text) and text[end] not in _DELIMITERS:
                end += 1
            if end == len(text):
                where, begun = "in word", text[at:]
                break
            where, at = "behind value" if levels else "end", end - 1
        at += 1
    level = levels[-1] if levels else None
    at_value = where in ("value", "in string", "in word")
    pointer = "".join(open_.step for open_ in (levels if at_value else levels[:-1]))
    keys = tuple(level.keys) if level is not None and level.is_object else ()
    kind = None if level is None else level.is_object
    return Spot(pointer, where, kind, keys, begun, text.rstrip(_BLANKS)[-1:])


def _end_of_string(text: bytes, at: int) -> int | None:
    """The offset behind a string; ``None`` if it does not end."""
    end = at + 1
    while end < len(text):
        if text[end] == 0x5C:
            end += 1
        elif text[end] == 0x22:
            return end + 1
        end += 1
    return None


def _decoded(written: bytes) -> str:
    try:
        found = json.loads(written)
    except ValueError:
        return written.decode("utf-8", "replace")
    return found if isinstance(found, str) else str(found)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A text that is refused at a place.

    Attributes:
        text: the whole.
        offset: of the byte that cannot stand there; the length of the text if it ends too early.
        allowed: the bytes that could.
        words: what could stand there in words, see ``Explanation.expected``.
        known: whether an object that is open has a key in its schema.
        complete: a shortest text that begins like the text up to the place; ``None`` if none is found.
        grounded: whether strings have to be spans of a source.
    """

    text: bytes
    offset: int
    allowed: Collection[int]
    words: tuple[str, ...]
    known: Callable[[str], bool]
    complete: Callable[[], bytes | None]
    grounded: bool = False

    @property
    def reasons(self) -> str:
        """What keeps strings from being any text."""
        return "pattern, format, enum" + (", or no span of the source" if self.grounded else "")

    @property
    def here(self) -> bytes:
        return self.text[self.offset : self.offset + 1]

    def only(self, bytes_: bytes) -> bool:
        """Whether nothing else may come than some bytes or blanks."""
        return all(byte in bytes_ or byte in _BLANKS for byte in self.allowed)


def hint_of(refusal: Refusal, spot: Spot) -> str:
    """What is probably wrong at a place and what to do; the empty text where nothing is plain."""
    for judge in (_surroundings, _habits, _brackets, _keys, _strings, _words, _values):
        said = judge(refusal, spot)
        if said:
            return said
    return ""


def _surroundings(refusal: Refusal, spot: Spot) -> str:
    """What stands before or behind the JSON."""
    text, offset = refusal.text, refusal.offset
    if not text.strip():
        return "the text is empty"
    if not spot.last and text[offset:].lstrip()[:3] == b"```":
        return "take out the code fence (```) around the JSON"
    begins = [text.find(bytes([byte]), offset) for byte in refusal.allowed if byte in b"{["]
    if not spot.last and any(at > offset for at in begins) and refusal.here not in b"{[\"'":
        return "take out what stands before the JSON"
    if spot.where == "end" and text[offset:].strip():
        return "the JSON is complete here; take out what follows"
    return ""


def _habits(refusal: Refusal, spot: Spot) -> str:
    """What other languages write so."""
    here, rest = refusal.here, refusal.text[refusal.offset :]
    between = spot.where not in ("in key", "in string")
    if between and rest.startswith((b"//", b"/*", b"#")):
        return "JSON has no comments"
    if here and here in b"'`" and between:
        return 'JSON writes keys and texts in double quotes: "..."'
    if spot.where == "value" and (found := _CAPITAL.match(rest)):
        written = _OF_PYTHON.get(found[1])
        name = found[1].decode()
        kinds = "" if written and written.encode()[0] in refusal.allowed else _asked_for(refusal)
        return (f"JSON writes {written}, not {name}" if written else f"JSON has no {name}") + kinds
    if spot.where == "key" and here.isalpha():
        return 'JSON writes keys in double quotes: "..."'
    if here and here in b"}]" and spot.last == b",":
        return f"take out the comma before '{here.decode()}'"
    return ""


def _brackets(refusal: Refusal, spot: Spot) -> str:
    """What is closed too early, or not at all."""
    here = refusal.here
    if not here:
        return _cut_off(spot)
    if here == b"}" and spot.is_object is False:
        return "an array is open here; close it with ']' first"
    if here == b"]" and spot.is_object:
        return "an object is open here; close it with '}' first"
    if here == b"}" and spot.where in ("key", "behind value"):
        missing = _missing_keys(refusal, spot)
        return (
            f"the object lacks {_named(missing, 'key')}"
            if missing
            else "the object needs more keys"
        )
    if here == b"]" and spot.where in ("value", "behind value"):
        return "the array needs more items (minItems, contains)"
    if (
        here == b","
        and spot.where == "behind value"
        and spot.is_object is False
        and refusal.only(b"]")
    ):
        return "no more items may come (maxItems)"
    if here == b"," and spot.is_object and _has_to_close(refusal, spot):
        return _no_more_keys(refusal)
    if here == b'"' and spot.where == "behind value":
        return "a comma is missing before this"
    if here in _BLANKS and spot.where not in ("in key", "in string", "in word"):
        return "no blank or line break may come here: blanks are bounded, and there are none in compact JSON"
    return ""


def _has_to_close(refusal: Refusal, spot: Spot) -> bool:
    """Whether an object may end here, and may not go on; digits of its last value may."""
    if spot.where == "in word":
        return ord("}") in refusal.allowed
    return spot.where == "behind value" and refusal.only(b"}")


def _no_more_keys(refusal: Refusal) -> str:
    """What is wrong with the comma behind the last item that an object may have."""
    found = _NEXT_KEY.match(refusal.text, refusal.offset)
    if found is not None:
        key = _decoded(found[1])
        if not refusal.known(key):
            shown = json.dumps(key, ensure_ascii=False)
            return f"no key {shown} may come here (additionalProperties, maxProperties)"
    return "no more keys may come here (additionalProperties, maxProperties, or the order of keys)"


def _cut_off(spot: Spot) -> str:
    inside = {
        "in key": "inside a key",
        "in string": "inside a string",
        "in word": "inside a value",
    }.get(spot.where)
    if inside is None and spot.is_object is not None:
        inside = "inside an object" if spot.is_object else "inside an array"
    return f"the text is cut off {inside}" if inside else ""


def _missing_keys(refusal: Refusal, spot: Spot) -> list[str]:
    """Keys that a shortest continuation gives the object that is open."""
    completed = refusal.complete()
    if completed is None:
        return []
    try:
        value: Any = json.loads(completed)
        for step in spot.pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return [key for key in value if key not in spot.keys] if isinstance(value, dict) else []


def _keys(refusal: Refusal, spot: Spot) -> str:
    """Keys that are unknown, too early, too late or there already."""
    if spot.where not in ("in key", "key"):
        return ""
    if spot.where == "key" and refusal.here != b'"':
        return 'a key comes here, in double quotes: "..."' if 0x22 in refusal.allowed else ""
    begin = refusal.offset - len(spot.begun) - 1 if spot.where == "in key" else refusal.offset
    found = _STRING.match(refusal.text, begin)
    if found is None:
        return ""
    key = _decoded(b'"' + found[1] + b'"')
    shown = json.dumps(key, ensure_ascii=False)
    if key in spot.keys:
        return f"the key {shown} is there already"
    if spot.where == "key":
        return "no more keys may come here"
    begun = spot.begun.decode("utf-8", "replace")
    others = [
        begun + word[1:-1].split('"')[0] for word in refusal.words if word.endswith(("\":'", "\"'"))
    ]
    if refusal.known(key):
        order = f"the key {shown} is known, but not here: keys come in the order of the schema"
        return order + ' (any order: property_order="any", --property-order any)'
    near = difflib.get_close_matches(key, others, 1)
    return f"no key {shown} may come here" + (
        f"; did you mean {json.dumps(near[0])}?" if near else ""
    )


def _strings(refusal: Refusal, spot: Spot) -> str:
    """What a string cannot have, or lacks."""
    if spot.where not in ("in string", "in key"):
        return ""
    here = refusal.here
    if here < b" ":
        name = {b"\n": "\\n", b"\r": "\\r", b"\t": "\\t"}.get(here, f"\\u{here[0]:04x}")
        return f"a string cannot have this character as it is; write {name}"
    slashes = len(spot.begun) - len(spot.begun.rstrip(b"\\"))
    if slashes % 2:
        return f"JSON has no escape \\{here.decode('ascii', 'replace')}; write \\\\ for a backslash"
    if spot.where == "in key":
        return ""
    if here == b'"':
        return f"the string cannot end yet (minLength, {refusal.reasons})"
    if refusal.only(b'"'):
        return f"the string has to end here (maxLength, {refusal.reasons})"
    return f"this character cannot stand here ({refusal.reasons})"


def _words(refusal: Refusal, spot: Spot) -> str:
    """Numbers and constants."""
    if spot.where != "in word" or spot.begun[:1] not in tuple(bytes((b,)) for b in _NUMBER):
        return ""
    here = refusal.here
    if here in b".eE" and here:
        return "no fraction and no exponent may come here (integer)"
    if spot.begun.lstrip(b"-") == b"0" and here.isdigit():
        return "a number has no leading zeros"
    if here.isdigit():
        return "the number would be too large or too long (maximum, minimum, multipleOf, enum)"
    return "the number cannot end here (minimum, maximum, multipleOf, enum)"


def _kinds(refusal: Refusal) -> list[str]:
    """The types of the values that may begin."""
    return [name for first, name in _TYPES if any(byte in first for byte in refusal.allowed)]


def _asked_for(refusal: Refusal) -> str:
    kinds = _kinds(refusal)
    return f", and the schema asks for {' or '.join(kinds)}" if kinds else ""


def _values(refusal: Refusal, spot: Spot) -> str:
    """A value of another type or beyond its bounds."""
    if spot.where != "value":
        return ""
    here = refusal.here
    given = next(
        (name for first, name in _TYPES if here in first), "a number" if here == b"-" else ""
    )
    if given and given not in _kinds(refusal):
        return f"{given} stands here" + _asked_for(refusal)
    if here == b"-":
        return "the number may not be negative (minimum)"
    if given == "a number":
        return "the number is out of bounds (minimum, maximum, multipleOf, enum)"
    return ""


def _named(keys: list[str], what: str) -> str:
    shown = ", ".join(json.dumps(key, ensure_ascii=False) for key in keys[:4])
    more = ", ..." if len(keys) > 4 else ""
    return f"the {what}{'s' if len(keys) > 1 else ''} {shown}{more}"
