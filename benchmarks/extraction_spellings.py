"""How documents spell numbers, dates and times of day, and which of them stand in a text.

Writing and reading know nothing of one another: a document is written in one style, and a value counts
as standing in a text where any usual reading of some place gives it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Final

MONTHS: Final = {
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ),
    "de": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September",
        "Oktober", "November", "Dezember",
    ),
    "fr": (
        "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
        "octobre", "novembre", "décembre",
    ),
}  # fmt: skip
"""Names of months by language."""

NUMBER_STYLES: Final = {"1,240.50": (",", "."), "1.240,50": (".", ","), "1 240.50": (" ", ".")}
"""Example -> what parts thousands, what parts the fraction."""

DATE_STYLES: Final = ("iso", "day month", "month day", "dots", "slashes")
TIME_STYLES: Final = ("19:30", "19.30", "7:30 pm", "19h30")


# -- writing ---------------------------------------------------------------------------------------


def spell_number(value: Decimal | int, style: str) -> str:
    """A number in one of :data:`NUMBER_STYLES`: integers without a fraction, others with two digits."""
    thousands, point = NUMBER_STYLES[style]
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return text.replace(",", "\0").replace(".", point).replace("\0", thousands)


def spell_date(day: date, style: str, language: str = "en") -> str:
    """A date in one of :data:`DATE_STYLES`.

    ``slashes`` are day first; a day that could be a month too is spelled as ``day month``.
    """
    if style == "slashes" and day.day <= 12:
        style = "day month"
    name = MONTHS[language][day.month - 1]
    spelled = {
        "iso": day.isoformat(),
        "day month": f"{day.day}{'.' if language == 'de' else ''} {name} {day.year}",
        "month day": f"{name} {day.day}, {day.year}",
        "dots": f"{day:%d.%m.%Y}",
        "slashes": f"{day:%d/%m/%Y}",
    }
    return spelled[style]


def spell_time(minutes: int, style: str) -> str:
    """A time of day, given in minutes from midnight, in one of :data:`TIME_STYLES`."""
    hour, minute = divmod(minutes, 60)
    if style == "7:30 pm":
        past = f":{minute:02}" if minute else ""
        return f"{(hour - 1) % 12 + 1}{past} {'pm' if hour >= 12 else 'am'}"
    if style == "19h30":
        return f"{hour}h{minute:02}"
    return f"{hour:02}{style[2]}{minute:02}"


# -- reading ---------------------------------------------------------------------------------------

_DIGITS: Final = re.compile(
    r"""(?<!\d)                                # a number is not cut at its beginning
    (?: \d{1,3}(?P<part>[,.'\u2019\ \u00a0\u202f])\d{3}(?:(?P=part)\d{3})*(?:[.,]\d+)?
      | \d+(?:[.,]\d+)?
      | \d+
    )(?!\d)""",
    re.VERBOSE,
)
_PARTS: Final = re.compile(r"[^\d]")
_ISO: Final = re.compile(r"(?<!\d)(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)")
_NUMERIC: Final = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?!\d)")
_NUMBER_OF: Final = {
    name.lower(): 1 + i for names in MONTHS.values() for i, name in enumerate(names)
}
_NAME: Final = "|".join(sorted(_NUMBER_OF, key=len, reverse=True))
_DAY_MONTH: Final = re.compile(
    rf"(?<!\d)(\d{{1,2}})\.?\s+({_NAME})\s+(\d{{4}})(?!\d)", re.IGNORECASE
)
_MONTH_DAY: Final = re.compile(rf"({_NAME})\s+(\d{{1,2}}),?\s+(\d{{4}})(?!\d)", re.IGNORECASE)
_TIME: Final = re.compile(
    r"(?<![\d.,])(\d{1,2})(?:[:.h](\d{2}))?(?:\s*([ap])\.?m\b)?(?![\d]|[.,]\d)", re.IGNORECASE
)


def numbers_in(text: str) -> set[Decimal]:
    """The absolute values of the numbers that a reader may find in a text.

    A place has several readings where its marks allow them: ``1.240`` is 1.24 and 1240, ``3 500`` is 3,
    500 and 3500.
    """
    found: set[Decimal] = set()
    at = 0
    while match := _DIGITS.search(text, at):
        found |= set(_readings(match.group()))
        first = re.match(r"\d+", match.group())
        assert first
        at = match.start() + first.end()
    return found


def _readings(spelled: str) -> Iterator[Decimal]:
    """Integers of its parts, the last mark as a point, all marks as those of thousands."""
    pieces = _PARTS.split(spelled)
    yield from map(Decimal, pieces)
    if len(pieces) == 1:
        return
    last = [mark for mark in spelled if not mark.isdigit()][-1]
    if last in ".,":
        yield Decimal("".join(pieces[:-1]) + "." + pieces[-1])
    if all(len(piece) == 3 for piece in pieces[1:]):
        yield Decimal("".join(pieces))
    if len(pieces) > 2:
        yield from _readings(spelled[: spelled.rindex(last)])


def dates_in(text: str) -> set[str]:
    """The dates that a reader may find in a text, as ISO says them; of 03/04/2025 both readings."""
    found: set[str] = set()

    def add(year: str, month: str | int, day: str) -> None:
        with contextlib.suppress(ValueError):  # there is no such day
            found.add(date(int(year), int(month), int(day)).isoformat())

    for year, month, day in _ISO.findall(text):
        add(year, month, day)
    for one, other, year in _NUMERIC.findall(text):
        add(year, other, one)
        add(year, one, other)
    for day, name, year in _DAY_MONTH.findall(text):
        add(year, _NUMBER_OF[name.lower()], day)
    for name, day, year in _MONTH_DAY.findall(text):
        add(year, _NUMBER_OF[name.lower()], day)
    return found


def times_in(text: str) -> set[str]:
    """The times of day that a reader may find in a text, as ``HH:MM``."""
    found: set[str] = set()
    for match in _TIME.finditer(text):
        hour, minute, half = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        if match[2] is None and not half:
            continue
        if half:
            hour = hour % 12 + (12 if half == "p" else 0)
        if hour < 24 and minute < 60:
            found.add(f"{hour:02}:{minute:02}")
    return found
