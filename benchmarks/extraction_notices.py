"""Notices of events, maintenance, recalls and jobs: a title, a place, a day with its hours, a contact."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from extraction_spellings import TIME_STYLES, spell_date, spell_time

_TIME: Final = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["event", "maintenance", "recall", "job"]},
        "title": {"type": "string", "minLength": 1, "maxLength": 80},
        "organisation": {
            "type": "string",
            "minLength": 1,
            "maxLength": 60,
            "description": "who announces it",
        },
        "place": {"type": "string", "minLength": 1, "maxLength": 60},
        "date": {"type": "string", "format": "date"},
        "start_time": {**_TIME, "description": "HH:MM"},
        "end_time": {**_TIME, "description": "HH:MM"},
        "contact": {
            "type": "string",
            "minLength": 1,
            "maxLength": 60,
            "description": "e-mail address or telephone number",
        },
    },
    "required": [
        "kind", "title", "organisation", "place", "date", "start_time", "end_time", "contact",
    ],
    "additionalProperties": False,
}  # fmt: skip

_TITLES: Final = {
    "event": (
        "Evening of Sea Songs", "Repair Café for Radios", "Lecture: How Moss Remembers",
        "Winter Lantern Walk", "Chess for Beginners",
    ),
    "maintenance": (
        "Lift out of service", "Water shut-off in Block C", "Upgrade of the booking system",
        "Boiler inspection", "Closure of the east car park",
    ),
    "recall": (
        "Recall of Tidewell kettles", "Safety notice: Bramble pushchairs", "Recall of Nutfield oat bars",
        "Faulty batteries in Lumo lanterns",
    ),
    "job": (
        "Open day for tram drivers", "Assistant gardener wanted", "Interviews for night porters",
        "Part-time archivist sought",
    ),
}  # fmt: skip
_ORGANISATIONS: Final = (
    "Friends of Marlow Quay", "Eastmere Borough Council", "Fenwick Housing Trust", "Tidewell Appliances",
    "Hollin Museum", "Auberg Tramways", "St Brannoc Library", "Greenacre Stores",
)  # fmt: skip
_PLACES: Final = (
    "Old Customs House, Quay Street", "Room 2.14, Fenwick House", "Village Hall, Nether Ansel",
    "Main desk, 5 Market Row", "Depot North, Gate 3", "Reading Room, Hollin Museum",
    "Pavilion at Lowther Park",
    "Basement of 18 Thorn Terrace",
)  # fmt: skip
_WORDS: Final = {
    "event": ("Everybody is welcome and entry is free.", "Tickets are sold at the door."),
    "maintenance": (
        "We apologise for the inconvenience while the work goes on.",
        "Engineers will work as fast as they can; residents need not be at home.",
    ),
    "recall": (
        "Customers may bring the product back and get their money without a receipt.",
        "Stop using the product at once; our staff will replace it.",
    ),
    "job": (
        "Bring your papers and a short letter; no experience is needed.",
        "Applicants can meet the team and ask about shifts and wages.",
    ),
}


@dataclass(frozen=True)
class _Notice:
    kind: str
    title: str
    organisation: str
    place: str
    day: str
    start: str
    end: str
    contact: str
    words: str
    rng: random.Random


def make(number: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A notice's text and what it says; kinds and layouts in turn, all else drawn."""
    kind = tuple(_TITLES)[number // len(_LAYOUTS) % len(_TITLES)]
    day = date(2024, 3, 13) + timedelta(days=rng.randrange(600))
    start = rng.randrange(14, 40) * 30
    end = min(start + rng.randrange(2, 12) * 30, 23 * 60 + 30)
    clock = rng.choice(TIME_STYLES)
    notice = _Notice(
        kind=kind,
        title=rng.choice(_TITLES[kind]),
        organisation=rng.choice(_ORGANISATIONS),
        place=rng.choice(_PLACES),
        day=spell_date(day, rng.choice(("iso", "day month", "month day", "dots", "slashes"))),
        start=spell_time(start, clock),
        end=spell_time(end, clock),
        contact=_contact(rng),
        words=rng.choice(_WORDS[kind]),
        rng=rng,
    )
    truth = {
        "kind": kind,
        "title": notice.title,
        "organisation": notice.organisation,
        "place": notice.place,
        "date": day.isoformat(),
        "start_time": f"{start // 60:02}:{start % 60:02}",
        "end_time": f"{end // 60:02}:{end % 60:02}",
        "contact": notice.contact,
    }
    return _LAYOUTS[number % len(_LAYOUTS)](notice).strip() + "\n", truth


def _contact(rng: random.Random) -> str:
    name = rng.choice(("info", "office", "notices", "j.harrow", "desk"))
    mail = f"{name}@{rng.choice(('fenwick', 'marlowquay', 'eastmere'))}.example"
    phone = f"0{rng.randrange(1200, 1999)} {rng.randrange(100, 999)} {rng.randrange(100, 999)}"
    return rng.choice((mail, phone))


# -- layouts ---------------------------------------------------------------------------------------


def _labelled(notice: _Notice) -> str:
    where, when = notice.rng.choice((("Where", "When"), ("Place", "Date"), ("Location", "Day")))
    return (
        f"{notice.title}\n\n{where}: {notice.place}\n"
        f"{when}: {notice.day}\nTime: {notice.start} to {notice.end}\n\n{notice.words}\n\n"
        f"Contact: {notice.contact}\n{notice.organisation}"
    )


def _prose(notice: _Notice) -> str:
    return (
        f"{notice.organisation} announces: {notice.title}\n\nOn {notice.day}, from {notice.start} until "
        f"{notice.end}, at this place: {notice.place}. {notice.words} Questions? Ask {notice.contact}."
    )


def _board(notice: _Notice) -> str:
    rule = "=" * 44
    return (
        f"{rule}\n  {notice.organisation}\n{rule}\n* {notice.title} *\n\n{notice.words}\n\n"
        f"  {notice.day} | {notice.start} - {notice.end}\n  {notice.place}\n"
        f"  Tel./mail: {notice.contact}\n{rule}"
    )


def _mixed(notice: _Notice) -> str:
    """Labels in another language than the text, the day at the top."""
    begins, ends, where = notice.rng.choice((("Beginn", "Ende", "Ort"), ("Début", "Fin", "Lieu")))
    return (
        f"{notice.day}\nNOTICE - {notice.title}\n{notice.words}\n{begins}: {notice.start}\n"
        f"{ends}: {notice.end}\n{where}: {notice.place}\n\n{notice.organisation}, {notice.contact}"
    )


_LAYOUTS: Final[tuple[Callable[[_Notice], str], ...]] = (_labelled, _prose, _board, _mixed)
