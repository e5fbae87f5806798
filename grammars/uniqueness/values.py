"""What memory says of a finished JSON text: keys and array items that repeat, and where.

A plain walk over the whole text with an explicit stack, for those who have the text at hand.
Values get numbers: equal values (1 is 1.0, the order of keys does not matter) equal numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Set
from dataclasses import dataclass, field
from typing import Final

_BLANKS: Final = b" \t\n\r"
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR: Final = re.compile(rb"true|false|null|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER: Final = re.compile(r"(-?)0*([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_LONGEST_EXPONENT: Final = 4000
"""Digits; Python converts no more than 4,300 at once."""


@dataclass(frozen=True, slots=True)
class Clash:
    """The first place where a text and its memory disagree.

    Attributes:
        starts: where the items that the place lies in begin, the outermost first: behind the
            opening bracket or the comma before them; the first one is the text itself.
        end: where the disagreement shows: behind a repeated key, at a separator.
        repeats: a key or item repeats where none should, rather than the other way round.
        items: how many keys or items of the same container came before.
    """

    starts: tuple[int, ...]
    end: int
    repeats: bool
    items: int


@dataclass(slots=True)
class _Container:
    """An array or object that is still open."""

    is_object: bool
    start: int
    values: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    members: dict[int, int] = field(default_factory=dict)
    key: int | None = None
    repeated: bool = False


class _NotJsonError(Exception):
    """The text is something else, and memory has nothing to say about it."""


def first_clash(data: bytes, marks: Set[int] | None, distinct_keys: bool) -> Clash | None:
    """The first key or item that memory objects to.

    Args:
        data: a JSON text; anything else has no clashes.
        marks: where among its separators those behind repeated items are claimed to stand; None
            if items are not compared.
        distinct_keys: whether a key may not be in one object twice.
    """
    walk = _Walk(data, marks, distinct_keys)
    try:
        return walk.run()
    except _NotJsonError:
        return None


class _Walk:
    def __init__(self, data: bytes, marks: Set[int] | None, distinct_keys: bool) -> None:
        self.data = data
        self.marks = marks
        self.distinct_keys = distinct_keys
        self.numbers: dict[Hashable, int] = {}
        self.open: list[_Container] = []
        self.at = 0

    def run(self) -> Clash | None:
        """Reads to the end or to the first clash."""
        while True:
            while self.at < len(self.data) and self.data[self.at] in _BLANKS:
                self.at += 1
            if self.at >= len(self.data):
                return None
            clash = self.step(self.data[self.at : self.at + 1])
            if clash is not None:
                return clash

    def step(self, byte: bytes) -> Clash | None:
        """Reads one string, number, name or punctuation character."""
        if byte in (b"{", b"["):
            self.at += 1
            self.open.append(_Container(byte == b"{", self.at))
        elif byte in (b",", b"]", b"}"):
            return self.separator(byte)
        elif byte == b":":
            self.at += 1
        elif byte == b'"':
            return self.string()
        else:
            found = self.match(_SCALAR)
            self.value(self.number(_scalar(found.decode())))
        return None

    def separator(self, byte: bytes) -> Clash | None:
        if not self.open:
            raise _NotJsonError
        inside = self.open[-1]
        claimed = self.marks is not None and self.at in self.marks
        if self.marks is not None and claimed != inside.repeated:
            return self.clash(not claimed)
        self.at += 1
        if byte == b",":
            inside.start, inside.key, inside.repeated = self.at, None, False
            return None
        self.open.pop()
        self.value(self.number(_content(inside)))
        return None

    def string(self) -> Clash | None:
        try:
            number = self.number(json.loads(self.match(_STRING).decode(), strict=False))
        except ValueError:
            raise _NotJsonError from None
        if not self.open or not self.open[-1].is_object or self.open[-1].key is not None:
            self.value(number)
            return None
        inside = self.open[-1]
        if self.distinct_keys and number in inside.members:
            return self.clash(True)
        inside.key = number
        return None

    def value(self, number: int) -> None:
        """A value is complete."""
        if not self.open:
            return
        inside = self.open[-1]
        if not inside.is_object:
            inside.repeated = number in inside.seen
            inside.seen.add(number)
            inside.values.append(number)
        elif inside.key is not None:
            inside.members[inside.key] = number

    def match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self.data, self.at)
        if found is None:
            raise _NotJsonError
        self.at = found.end()
        return found[0]

    def number(self, content: Hashable) -> int:
        return self.numbers.setdefault(content, len(self.numbers))

    def clash(self, repeats: bool) -> Clash:
        inside = self.open[-1]
        starts = (0, *(container.start for container in self.open))
        return Clash(starts, self.at, repeats, len(inside.values) + len(inside.members))


def _content(inside: _Container) -> Hashable:
    if inside.is_object:
        return "object", frozenset(inside.members.items())
    return "array", tuple(inside.values)


def _scalar(text: str) -> Hashable:
    """A name, or a number as its digits and its power of ten."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return "name", text
    sign, whole, fraction, exponent = found[1], found[2], found[3] or "", found[4] or "0"
    digits = (whole + fraction).lstrip("0")
    short = digits.rstrip("0")
    if not short:
        return "number", 0
    if len(exponent) > _LONGEST_EXPONENT:
        return "number", text
    power = int(exponent) - len(fraction) + len(digits) - len(short)
    return "number", sign + short, power
