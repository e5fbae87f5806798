"""Dates and times of day that stand in a text, read as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from typing import Final

_MONTHS: Final = (
    "january janvier januar enero gennaio januari janeiro jan janv ene gen",
    "february f\u00e9vrier februar febrero febbraio februari fevereiro feb f\u00e9vr fev",
    "march mars m\u00e4rz marzo maart mar\u00e7o mar m\u00e4r mrt",
    "april avril abril aprile apr avr abr",
    "may mai mayo maggio mei maio mag",
    "june juin juni junio giugno junho jun giu",
    "july juillet juli julio luglio julho jul juil lug",
    "august ao\u00fbt agosto augustus aug ago",
    "september septembre septiembre settembre setembro sep sept set",
    "october octobre oktober octubre ottobre outubro oct okt ott out",
    "november novembre noviembre novembro nov",
    "december d\u00e9cembre dezember diciembre dicembre dezembro dec d\u00e9c dez dic",
)
"""Names of months in English, French, German, Spanish, Italian, Dutch and Portuguese, and short forms."""
_NUMBER: Final = {name: i for i, names in enumerate(_MONTHS, 1) for name in names.split()}
_NAME: Final = "|".join(sorted(map(re.escape, _NUMBER), key=len, reverse=True))
_CENTURY: Final = 70
"""Years of two digits from this one on are of the last century."""

_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?<!\d)(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)",
        r"(?<!\d)(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})(?!\d)",
        r"(?<!\d)(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})(?P=s)(?P<y>\d{4}|\d{2})(?!\d)",
        rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th|er|\.|\u00ba)?\s*(?:of\s+|de\s+|di\s+|-\s*)?(?P<n>{_NAME})\b\.?,?\s*"
        r"(?:de\s+|-\s*)?(?P<y>\d{4}|\d{2}(?!\d))",
        rf"\b(?P<n>{_NAME})\b\.?\s*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})(?!\d)",
    )
)


@dataclass(frozen=True, slots=True)
class FoundDate:
    """A date of a text.

    Attributes:
        start, end: where it stands.
        value: the date; of one that may be read in two ways (3/4/2025) each is found.
    """

    start: int
    end: int
    value: date

    @property
    def text(self) -> str:
        """As ISO 8601 writes it: ``2025-03-14``."""
        return self.value.isoformat()


@lru_cache(8)
def dates_of(text: str) -> tuple[FoundDate, ...]:
    """All readings of all dates of a text that have a day, a month and a year."""
    found = {
        FoundDate(match.start(), match.end(), value)
        for form in _FORMS
        for match in form.finditer(text)
        for value in _values(match)
    }
    return tuple(sorted(found, key=lambda one: (one.start, one.end, one.value)))


_TIMES: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?<![\d:.,])(?P<h>\d{1,2})(?:[:h]|(?=\.\d\d\s*(?:[ap]\.?m\b|Uhr))\.)(?P<m>\d{2})(?::(?P<s>\d{2}))?"
        r"(?![\d:])(?:\s*(?P<half>[ap])\.?m\b)?",
        r"(?<![\d:.,])(?P<h>\d{1,2})(?P<m>)(?P<s>)\s*(?P<half>[ap])\.?m\b",
        # 19.30, which may be a number as well
        r"(?<![\d:.,])(?P<h>\d{2})\.(?P<m>\d{2})(?P<s>)(?P<half>)(?![\d:]|[.,]\d|\s*[ap]\.?m\b)",
    )
)
_NEAR: Final = 60
"""Characters between a date and a time that may belong to it."""


@dataclass(frozen=True, slots=True)
class FoundTime:
    """A time of day of a text.

    Attributes:
        start, end: where it stands.
        value: the time.
    """

    start: int
    end: int
    value: time

    @property
    def texts(self) -> tuple[str, ...]:
        """As ISO 8601 writes it, without seconds too where there are none."""
        whole = self.value.isoformat()
        return (whole,) if self.value.second else (whole, whole[:5])


@lru_cache(8)
def times_of(text: str) -> tuple[FoundTime, ...]:
    """The times of day of a text, to the minute or second; ``19.30`` is one too, since nobody knows."""
    found = {
        FoundTime(match.start(), match.end(), value)
        for form in _TIMES
        for match in form.finditer(text)
        if (value := _time(match)) is not None
    }
    return tuple(sorted(found, key=lambda one: (one.start, one.end, one.value)))


def _time(match: re.Match[str]) -> time | None:
    hour, minute, second = (int(match[name] or 0) for name in "hms")
    half = (match["half"] or "").lower()
    if half and not 1 <= hour <= 12:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return time(hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None


def moments_of(text: str) -> Iterator[str]:
    """Dates with the times that stand near them, as ISO 8601 writes both: ``2025-03-14T15:30:00``."""
    times = times_of(text)
    for day in dates_of(text):
        for one in times:
            if day.start - _NEAR <= one.end and one.start <= day.end + _NEAR:
                yield from (f"{day.text}T{written}" for written in one.texts)


def _values(match: re.Match[str]) -> Iterator[date]:
    said = match.groupdict()
    year = int(said["y"])
    if len(said["y"]) == 2:
        year += 1900 if year >= _CENTURY else 2000
    if said.get("a") is not None:
        a, b = int(said["a"]), int(said["b"])
        ways = {(b, a), (a, b)}  # day first, month first
    elif said.get("n") is not None:
        ways = {(_NUMBER[said["n"].casefold()], int(said["d"]))}
    else:
        ways = {(int(said["m"]), int(said["d"]))}
    for month, day in sorted(ways):
        try:
            yield date(year, month, day)
        except ValueError:
            continue


__all__ = ["FoundDate", "FoundTime", "dates_of", "moments_of", "times_of"]
