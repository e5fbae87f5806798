"""Where each value stands in a JSON text, by JSON pointer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in a text, in characters (code points); the end is exclusive."""

MAX_DEPTH: Final = 1000
"""Pointers grow with the depth of a value: texts that nest deeper are refused."""

_BLANKS: Final = re.compile(r"[ \t\n\r]*+")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD: Final = re.compile("true|false|null")


def places(text: str) -> dict[str, Span]:
    """Where every value of a JSON text stands: JSON pointer -> (start, end), in the order of the text.

    The place of a string has its quotes, that of an array or object its brackets; ``""`` is the whole
    value, without blanks around it.  Of a key that an object has twice the last value counts, as in
    ``json.loads``, and the places of the others are left out.

    Args:
        text: JSON, as RFC 8259 defines it: no ``NaN`` and no ``Infinity``.

    Raises:
        ValueError: if it is none, or nests deeper than :data:`MAX_DEPTH`.
    """
    return _Scanner(text).run()


def key_pointer(parent: str, key: str) -> str:
    """The JSON pointer of a key's value in the object that another pointer leads to (RFC 6901)."""
    return f"{parent}/{key.replace('~', '~0').replace('/', '~1')}"


@dataclass
class _Open:
    """An array or object whose end has not come.

    Attributes:
        pointer: of it.
        number: of its place among those found.
        begin: where it begins.
        closing: the bracket that ends it.
        members: how many there are so far.
        starts: of an object, for each member the number of the first place in it.
        keys: of an object, the latest member of each key.
    """

    pointer: str
    number: int
    begin: int
    closing: str
    members: int = 0
    starts: list[int] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)


class _Scanner:
    """One pass over a text, without recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: list[tuple[str, Span] | None] = []
        self._stack: list[_Open] = []

    def run(self) -> dict[str, Span]:
        self._skip()
        pointer: str | None = ""
        while pointer is not None:
            pointer = self._value(pointer)
        if self._at != len(self._text):
            self._refuse()
        return dict(place for place in self._found if place is not None)

    def _skip(self) -> None:
        blanks = _BLANKS.match(self._text, self._at)
        assert blanks is not None
        self._at = blanks.end()

    def _next(self) -> str:
        """The next character that is no blank; empty at the end."""
        self._skip()
        return self._text[self._at : self._at + 1]

    def _refuse(self) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise ValueError(f"no JSON: unexpected character or end at offset {self._at}, line {line}")

    def _value(self, pointer: str) -> str | None:
        """Reads a scalar, or the beginning of another value; the pointer of what comes next, if any."""
        text, begin = self._text, self._at
        first = text[begin : begin + 1]
        if first and first in "{[":
            if len(self._stack) >= MAX_DEPTH:
                raise ValueError(f"no place of values that nest deeper than {MAX_DEPTH:,}")
            closing = "}" if first == "{" else "]"
            self._stack.append(_Open(pointer, len(self._found), begin, closing))
            self._found.append(None)
            self._at += 1
            if self._next() != closing:
                return self._member(self._stack[-1])
        else:
            kind = _STRING if first == '"' else _WORD if first in ("t", "f", "n") else _NUMBER
            scalar = kind.match(text, begin)
            if scalar is None:
                self._refuse()
            self._at = scalar.end()
            self._found.append((pointer, (begin, self._at)))
        return self._after()

    def _after(self) -> str | None:
        """Reads what stands behind a value, up to the next one; its pointer, if there is one."""
        while self._stack:
            top, found = self._stack[-1], self._next()
            if found == "," and top.members:
                self._at += 1
                self._skip()
                return self._member(top)
            if found != top.closing:
                self._refuse()
            self._at += 1
            self._found[top.number] = (top.pointer, (top.begin, self._at))
            self._stack.pop()
        self._skip()
        return None

    def _member(self, top: _Open) -> str:
        """Reads up to the value of an item or a member; its pointer."""
        top.members += 1
        if top.closing == "]":
            return f"{top.pointer}/{top.members - 1}"
        written = _STRING.match(self._text, self._at)
        if written is None:
            self._refuse()
        self._at = written.end()
        if self._next() != ":":
            self._refuse()
        self._at += 1
        self._skip()
        key = json.loads(written[0])
        top.starts.append(len(self._found))
        earlier = top.keys.get(key)
        if earlier is not None:
            for number in range(top.starts[earlier], top.starts[earlier + 1]):
                self._found[number] = None
        top.keys[key] = len(top.starts) - 1
        return key_pointer(top.pointer, key)
