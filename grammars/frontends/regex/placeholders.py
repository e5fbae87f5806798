r"""Properties of characters in patterns for Python's ``re``, which has none.

``\p{...}``, ``\P{...}``, ``\pL`` become single characters that the pattern does not have otherwise, so that
``re`` can parse the rest.  These are surrogates, which occur in no text.  What they stand for is asked of
the package ``regex``.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grammars.frontends.regex.properties import any_property_ranges
from grammars.ir import Ranges, intersect_ranges, invert_ranges

_ESCAPE: Final = re.compile(r"\\(?:([pP])(?:\{([^{}]*)\}|([A-Z]))|.)", re.DOTALL)
_WRITTEN: Final = re.compile(r"\\u[dD][89a-fA-F][\da-fA-F]{2}|\\U0000[dD][89a-fA-F][\da-fA-F]{2}")
_ASCII: Final[Ranges] = ((0, 0x7F),)


@dataclass(frozen=True)
class Rewritten:
    """A pattern in which characters stand for properties.

    Attributes:
        original: the pattern.
        text: what ``re`` is given.
        properties: by character, what was written.
    """

    original: str
    text: str
    properties: Mapping[int, str]
    _starts: tuple[int, ...] = ()
    _shifts: tuple[int, ...] = ()

    def offset(self, at: int) -> int:
        """The offset in the original of one in the text."""
        i = bisect_right(self._starts, at)
        return at + (self._shifts[i - 1] if i else 0)

    def place(self, point: int) -> int:
        """Where in the text a character that stands for a property is first."""
        return self.text.index(chr(point))

    def restored(self, message: str) -> str:
        """A message about the text with the properties as they were written."""
        for point, written in self.properties.items():
            message = message.replace(chr(point), written)
        return message

    def ranges(
        self, point: int, *, ignore_case: bool, ascii_only: bool, in_set: bool
    ) -> Ranges | None:
        """The characters that one stands for; ``None`` if there is no such property.

        Args:
            point: a key of ``properties``.
            ignore_case, ascii_only: the flags ``i`` and ``a``, which ``regex`` applies to properties.
            in_set: it stands beside others between brackets.
        """
        written = self.properties[point]
        name = written[2:].removeprefix("{").removesuffix("}").strip()
        negative = (written[1] == "P") != name.startswith("^")
        found = any_property_ranges(name.removeprefix("^"), ignore_case=ignore_case, in_set=in_set)
        if found is None:
            return None
        if ascii_only:
            found = intersect_ranges(found, _ASCII)
        return invert_ranges(found) if negative else found


def rewritten(pattern: str) -> Rewritten:
    """The pattern with each of its properties as one character."""
    if not isinstance(pattern, str) or not ("\\p" in pattern or "\\P" in pattern):
        return Rewritten(pattern, pattern, {})
    taken = {ord(c) for c in pattern} | {int(x[2:], 16) for x in _WRITTEN.findall(pattern)}
    free = (point for point in range(0xD800, 0xE000) if point not in taken)
    points: dict[str, int] = {}
    out: list[str] = []
    starts: list[int] = []
    shifts: list[int] = []
    at = size = 0
    for found in _ESCAPE.finditer(pattern):
        written = found.group()
        if not found.group(1):
            continue
        if written not in points:
            point = next(free, None)
            if point is None:
                break  # re refuses the rest
            points[written] = point
        out += [pattern[at : found.start()], chr(points[written])]
        size += found.start() - at + 1
        at = found.end()
        starts.append(size)
        shifts.append(at - size)
    out.append(pattern[at:])
    properties = {point: written for written, point in points.items()}
    return Rewritten(pattern, "".join(out), properties, tuple(starts), tuple(shifts))
