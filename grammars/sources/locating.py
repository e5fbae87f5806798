"""Where the values of a JSON text stand in the source that they were taken from.

Strings stand where the source has them, else where it has them with other white space, else in other
upper and lower case; always from the beginning of a word to the end of one.  Numbers stand where the
source has the same number, however it is spelled (:mod:`grammars.sources.numbers`), dates and times of
ISO 8601 where it has them in any usual form.  What stands nowhere has no place, and neither have
booleans and ``null``.

Of several places one is chosen:

1. Values with one place come first, then those with few, then in the order of the JSON text.
2. A value outside of arrays goes where the words of its key stand before it on its line (``TOTAL  498.00``
   for ``/total``), most of them first; then to a place that no other value has; then to the nearest one.
3. A value in an item of an array goes to a place that no other value has; then between the places of the
   items before and behind its own, if it is the first of its item; then to the nearest one; then by key.
4. Near is what has few line ends and then few characters between itself and a place of a value of the same
   object or array, or, while there is none, of the next outer one.
5. Else the first place is taken.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Final

from grammars.json_places import Span, places
from grammars.sources.dates import dates_of, times_of
from grammars.sources.numbers import numbers_of
from grammars.substrings.units import are_words

MAX_PLACES: Final = 1000
"""Places of a value that are looked at, the first ones."""
_NEAR: Final = 60
"""Characters between a date and a time of day that belong together."""
_LABEL: Final = 200
"""Characters before a value in which the words of its key are looked for."""
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d)?[T ]?(\d\d:\d\d(?::\d\d)?)?(?:Z|[+-]\d\d:?\d\d)?")
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?")
_WORDS_OF_KEYS: Final = re.compile(r"[^\W\d_]+?(?=[A-Z][a-z])|[^\W\d_]+|\d+")


@dataclass(frozen=True)
class Located:
    """Where values stand in a source, by JSON pointer.

    Attributes:
        sources: the place of each value that stands there.
        ambiguous: all places of those that stand at several.
    """

    sources: dict[str, Span] = field(default_factory=dict)
    ambiguous: dict[str, list[Span]] = field(default_factory=dict)


def locate(text: str, source: str) -> Located:
    """Finds the values of a JSON text in a source.

    Args:
        text: JSON.
        source: what it was taken from.

    Raises:
        ValueError: if ``text`` is no JSON.
    """
    index, where = SourceIndex(source), places(text)
    found = {
        pointer: spans
        for pointer, (begin, end) in where.items()
        if text[begin] not in "{[" and (spans := index.places_of(json_scalar(text[begin:end])))
    }
    arrays = {pointer for pointer, (begin, _) in where.items() if text[begin] == "["}
    chosen = _Choice(index, arrays).of(found)
    return Located(
        {pointer: chosen[pointer] for pointer in found},
        {pointer: spans for pointer, spans in found.items() if len(spans) > 1},
    )


def json_scalar(written: str) -> Any:
    """A string, boolean or ``None``; a number as the ``Decimal`` that its digits say, if it is one."""
    if written[0] not in "-0123456789":
        return json.loads(written)
    try:
        return Decimal(written)
    except InvalidOperation:  # an exponent of twenty digits
        return None


def _as_float(value: Decimal) -> Decimal:
    """The number that is read where numbers are floats of 64 bits; the same if that is none."""
    try:
        read = float(value)
    except (OverflowError, ValueError):
        return value
    return Decimal(repr(read)) if read and math.isfinite(read) else value


# -- places ----------------------------------------------------------------------------------------


class SourceIndex:
    """A source text in which values are found.

    Args:
        text: the source.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def places_of(self, value: Any) -> list[Span]:
        """Where a scalar stands, in the order of the source; those that are alike best, and no others.

        Args:
            value: a ``str``, or a number as ``Decimal``; others stand nowhere.
        """
        if isinstance(value, Decimal):
            # digits beyond those of a float are not read by most programs
            return self._numbers(value) or self._numbers(_as_float(value))
        if not isinstance(value, str) or not value.strip():
            return []
        ways: tuple[Callable[[str], list[Span]], ...] = (
            self._verbatim,
            self._with_other_blanks,
            self._in_other_case,
            self._moments,
            self._spelled_numbers,
        )
        return next((found for way in ways if (found := way(value.strip()))), [])

    def line_of(self, place: int) -> int:
        """The number of the line that a character stands in."""
        return bisect_left(self._line_ends, place)

    def before_on_line(self, place: int) -> str:
        """What stands before a character on its line, as far as that may be a label."""
        begin = max(0, place - _LABEL)
        return self.text[max(begin, self.text.rfind("\n", begin, place) + 1) : place]

    @cached_property
    def _line_ends(self) -> list[int]:
        return [found.start() for found in re.finditer("\n", self.text)]

    def _verbatim(self, value: str) -> list[Span]:
        return self._words((at, at + len(value)) for at in _occurrences(self.text, value))

    def _with_other_blanks(self, value: str) -> list[Span]:
        return self._words(self._single_spaced.find(value))

    def _in_other_case(self, value: str) -> list[Span]:
        return self._words(self._one_case.find(value))

    def _words(self, spans: Iterator[Span]) -> list[Span]:
        found: list[Span] = []
        for begin, end in spans:
            if are_words(self.text, begin, end):
                found.append((begin, end))
                if len(found) == MAX_PLACES:
                    break
        return found

    @cached_property
    def _single_spaced(self) -> _Folded:
        return _Folded(self.text, lambda character: character)

    @cached_property
    def _one_case(self) -> _Folded:
        return _Folded(self.text, str.casefold)

    def _moments(self, value: str) -> list[Span]:
        """Dates, times of day, and both together."""
        said = _MOMENT.fullmatch(value)
        if said is None:
            return []
        days = [(d.start, d.end) for d in dates_of(self.text) if d.text == said[1]]
        times = [(t.start, t.end) for t in times_of(self.text) if said[2] in t.texts]
        if said[1] is not None and said[2] is not None:
            days = [
                (min(day[0], time[0]), max(day[1], time[1]))
                for day in days
                for time in _around(day, times)
            ]
        return _sorted(days if said[1] is not None else times)

    def _spelled_numbers(self, value: str) -> list[Span]:
        return self._numbers(Decimal(value)) if _NUMBER.fullmatch(value) else []

    def _numbers(self, value: Decimal) -> list[Span]:
        """Those without a sign before them that may be theirs come first, and then alone."""
        found = self._numbers_by_value.get(value, ())
        negative = {end for _, end in self._numbers_by_value.get(-value, ())} if value else set()
        plain = [span for span in found if value < 0 or span[1] not in negative]
        return _outermost(_sorted(plain or found))

    @cached_property
    def _numbers_by_value(self) -> dict[Decimal, list[Span]]:
        out: dict[Decimal, list[Span]] = {}
        for number in numbers_of(self.text):
            out.setdefault(number.value, []).append((number.start, number.end))
        return out


class _Folded:
    """A text with runs of white space as one blank, and its characters changed one by one."""

    def __init__(self, text: str, change: Callable[[str], str]) -> None:
        self._change = change
        pieces: list[str] = []
        self._begins: list[int] = []
        self._ends: list[int] = []
        for run in re.finditer(r"\s+|\S", text):
            piece = " " if run[0].isspace() else change(run[0])
            pieces.append(piece)
            self._begins += [run.start()] * len(piece)
            self._ends += [run.end()] * len(piece)
        self._text = "".join(pieces)

    def find(self, value: str) -> Iterator[Span]:
        """Where a value stands, in characters of the text as it was."""
        wanted = "".join(map(self._change, " ".join(value.split())))
        for at in _occurrences(self._text, wanted):
            end = at + len(wanted)
            # a character that became several is there as a whole
            begins = not at or self._begins[at] != self._begins[at - 1]
            if begins and (end == len(self._ends) or self._ends[end] != self._ends[end - 1]):
                yield self._begins[at], self._ends[end - 1]


def _around(day: Span, times: list[Span]) -> list[Span]:
    """The times of day, which are in order, that are near to a date."""
    first = bisect_left(times, day[0] - _NEAR, key=lambda time: time[1])
    return times[first : bisect_right(times, day[1] + _NEAR, key=lambda time: time[0])]


def _occurrences(text: str, wanted: str) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _outermost(spans: list[Span]) -> list[Span]:
    """Of spans in order, those within no other: both parts of 0,00 are naught, as is the whole."""
    out: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not out or span[1] > out[-1][1]:
            out.append(span)
    return out


def _sorted(spans: Any) -> list[Span]:
    return sorted(set(spans))[:MAX_PLACES]


# -- one of several --------------------------------------------------------------------------------


class _Choice:
    """One place for each value, of those that it has; see the head of the module for the rule."""

    def __init__(self, index: SourceIndex, arrays: set[str]) -> None:
        self._index = index
        self._arrays = arrays
        self._chosen: dict[str, Span] = {}
        self._taken: set[Span] = set()
        self._within: dict[str, list[Span]] = {}
        """Chosen places in each array and object, in order."""

    def of(self, found: dict[str, list[Span]]) -> dict[str, Span]:
        for pointer in sorted(found, key=lambda p: len(found[p])):  # equals stay in order
            self._take(pointer, self._best(pointer, found[pointer]))
        return self._chosen

    def _take(self, pointer: str, span: Span) -> None:
        self._chosen[pointer] = span
        self._taken.add(span)
        for outer in _outer(pointer):
            insort(self._within.setdefault(outer, []), span)

    def _best(self, pointer: str, spans: list[Span]) -> Span:
        if len(spans) == 1:
            return spans[0]
        words = self._words_of_key(pointer)
        own, kin = self._kin(pointer)
        is_item = any(outer in self._arrays for outer in _outer(pointer))
        low, high = self._between(own)

        def cost(span: Span) -> tuple[Any, ...]:
            label = -self._labels(words, span)
            is_taken = span in self._taken
            is_out = not (low <= span[0] and span[1] <= high)
            near = self._distance(span, kin)
            if is_item:
                return is_taken, is_out, near, label, span
            return label, is_taken, is_out, near, span

        return min(spans, key=cost)

    def _words_of_key(self, pointer: str) -> set[str]:
        """The words of the innermost key that leads to a value, folded."""
        while pointer and pointer.rpartition("/")[0] in self._arrays:
            pointer = pointer.rpartition("/")[0]
        key = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        return {word.casefold() for word in _WORDS_OF_KEYS.findall(key)}

    def _labels(self, words: set[str], span: Span) -> int:
        """How many words of a key stand before a place on its line."""
        line = self._index.before_on_line(span[0])
        return len(words.intersection(map(str.casefold, re.findall(r"[^\W\d_]+|\d+", line))))

    def _kin(self, pointer: str) -> tuple[str, list[Span]]:
        """The innermost array or object around a value in which places are chosen, and those.

        Also the value's part of it: itself, or the item or member that it is in.
        """
        own = pointer
        for outer in _outer(pointer):
            if outer in self._within:
                return own, self._within[outer]
            own = outer
        return pointer, []

    def _between(self, own: str) -> tuple[int, int]:
        """Where an item's places lie: behind those of items before it, and before those behind it."""
        low, high = 0, len(self._index.text)
        array, _, number = own.rpartition("/")
        if array not in self._arrays:
            return low, high
        for pointer, span in self._chosen.items():
            if pointer.startswith(f"{array}/"):
                other = int(pointer[len(array) + 1 :].partition("/")[0])
                if other < int(number):
                    low = max(low, span[1])
                elif other > int(number):
                    high = min(high, span[0])
        return low, high

    def _distance(self, span: Span, others: list[Span]) -> tuple[int, int]:
        """Line ends and characters between a place and the nearest of some."""
        at = bisect_left(others, span)
        return min(
            (self._apart(span, other) for other in others[max(0, at - 1) : at + 1]), default=(0, 0)
        )

    def _apart(self, one: Span, other: Span) -> tuple[int, int]:
        first, second = sorted((one, other))
        lines = self._index.line_of(second[0]) - self._index.line_of(max(first[0], first[1] - 1))
        return max(0, lines), max(0, second[0] - first[1])


def _outer(pointer: str) -> Iterator[str]:
    """The pointers of the arrays and objects around a value, the innermost first."""
    while pointer:
        pointer = pointer.rpartition("/")[0]
        yield pointer
