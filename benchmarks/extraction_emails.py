"""E-mails: four kinds of heads, sums and requests in the text, a day by which an answer is wanted."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from extraction_spellings import spell_date, spell_number

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "sender": {"type": "string", "minLength": 1, "maxLength": 60, "description": "name"},
        "recipient": {"type": "string", "minLength": 1, "maxLength": 60, "description": "name"},
        "subject": {"type": "string", "minLength": 1, "maxLength": 80},
        "sent": {"type": "string", "format": "date", "description": "day of the message"},
        "reply_by": {
            "type": "string",
            "format": "date",
            "description": "day by which an answer is wanted",
        },
        "amounts": {
            "type": "array",
            "maxItems": 4,
            "items": {"type": "number", "minimum": 0},
            "description": "sums of money, in the order of the text",
        },
        "requests": {
            "type": "array",
            "minItems": 1,
            "maxItems": 4,
            "items": {"type": "string", "minLength": 1, "maxLength": 100},
            "description": "what the recipient is asked to do, in the words of the text",
        },
    },
    "required": ["sender", "recipient", "subject", "sent", "reply_by", "amounts", "requests"],
    "additionalProperties": False,
}

_FIRST: Final = (
    "Maren", "Tobias", "Priya", "Callum", "Ines", "Oskar", "Leila", "Hugo", "Freya", "Anselm",
    "Noor", "Silvia",
)  # fmt: skip
_LAST: Final = (
    "Lund", "Okafor", "Brandt", "Ferreira", "Whitlock", "Sato", "Marchetti", "Dunne", "Kowal",
    "Haddad", "Eriksen", "Pryce",
)  # fmt: skip
_TOPICS: Final = (
    ("Roof repair at the boathouse", "the roof of the boathouse"),
    ("Catering for the summer fair", "the catering for the summer fair"),
    ("Minibus hire in October", "the minibus"),
    ("New chairs for the reading room", "the chairs for the reading room"),
    ("Translation of the handbook", "the translation of the handbook"),
    ("Piano tuning before the recital", "the piano"),
    ("Office move: next steps", "the office move"),
    ("Sponsorship of the youth team", "the sponsorship"),
    ("Trial order of glassware", "our trial order"),
    ("Photographs for the annual report", "the photographs"),
)  # fmt: skip
_REQUESTS: Final = (
    "send the signed quote back", "confirm the number of guests", "book the hall for the rehearsal",
    "tell Anneke which colour you prefer", "check the list of addresses", "forward this to the treasurer",
    "return the spare keys", "order two more boxes of labels", "call the supplier about the delay",
    "update the shared calendar", "leave the samples at reception", "bring the old contract with you",
)  # fmt: skip
_SUMS: Final = (
    "The deposit is {0}.", "Our offer for {topic} comes to {0} without tax.",
    "So far we have spent {0} on {topic}.", "The firm wants {0} now and {1} when it is done.",
    "Of the budget of {0}, about {1} is left.",
)  # fmt: skip
_FILLERS: Final = (
    "I hope you had a good trip.", "Thanks again for your help last week.",
    "It was good to see everyone at the meeting.", "Sorry for the late message.",
    "There is some news about {topic}.", "We talked about {topic} again this morning.",
)  # fmt: skip
_DEADLINES: Final = (
    "I need your answer by {0}.", "Please reply no later than {0}.", "We have to decide on {0}.",
    "Could you get back to me by {0}?",
)  # fmt: skip


@dataclass(frozen=True)
class _Email:
    sender: str
    recipient: str
    subject: str
    sent: str
    body: str
    rng: random.Random

    def address(self, name: str) -> str:
        return (
            name.lower().replace(" ", ".")
            + "@"
            + self.rng.choice(("harbourmail", "post"))
            + ".example"
        )


def make(number: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """An e-mail's text and what it says; kinds of heads in turn, all else drawn."""
    sender, recipient = _names(rng)
    subject, topic = rng.choice(_TOPICS)
    sent = date(2024, 2, 14) + timedelta(days=rng.randrange(650))
    reply_by = sent + timedelta(days=rng.randrange(3, 40))
    day_style = rng.choice(("iso", "day month", "month day", "dots"))
    requests = rng.sample(_REQUESTS, rng.choice((1, 2, 2, 3)))
    sums, amounts = _sums(rng, topic)
    deadline = rng.choice(_DEADLINES).format(spell_date(reply_by, day_style))
    body = _body(rng, sender, recipient, topic, sums, requests, deadline)
    email = _Email(sender, recipient, subject, spell_date(sent, day_style), body, rng)
    truth = {
        "sender": sender,
        "recipient": recipient,
        "subject": subject,
        "sent": sent.isoformat(),
        "reply_by": reply_by.isoformat(),
        "amounts": [float(amount) for amount in amounts],
        "requests": requests,
    }
    return _HEADS[number % len(_HEADS)](email).strip() + "\n", truth


def _names(rng: random.Random) -> tuple[str, str]:
    first, last = rng.sample(_FIRST, 2), rng.sample(_LAST, 2)
    return f"{first[0]} {last[0]}", f"{first[1]} {last[1]}"


def _sums(rng: random.Random, topic: str) -> tuple[str, list[Decimal]]:
    """A sentence with sums of money, if any, and the sums."""
    sentence = rng.choice((*_SUMS, ""))
    count = sum(mark in sentence for mark in ("{0}", "{1}"))
    large = sorted((Decimal(rng.randrange(2000, 480000)) / 100 for _ in range(count)), reverse=True)
    style, sign = (
        rng.choice(("1,240.50", "1.240,50", "1 240.50")),
        rng.choice(("€", "EUR", "£", "USD")),
    )
    spelled = []
    for amount in large:
        number = spell_number(amount, style)
        spelled.append(sign + number if sign == "£" else f"{number} {sign}")
    return sentence.format(*spelled, topic=topic), large


def _body(
    rng: random.Random,
    sender: str,
    recipient: str,
    topic: str,
    sums: str,
    requests: list[str],
    deadline: str,
) -> str:
    filler = rng.choice(_FILLERS).format(topic=topic)
    if len(requests) > 1 and rng.random() < 0.5:
        lead = rng.choice(("Could you please:", "Three things to do, please:", "Would you:"))
        lead = lead if len(requests) == 3 or not lead.startswith("Three") else "Please:"
        asked = "\n".join([lead, *(f"- {request}" for request in requests)])
        parts = [f"{filler} {sums}".strip(), asked, deadline]
    else:
        sentences = [f"{rng.choice(('Please', 'Would you please'))} {one}." for one in requests]
        parts = [f"{filler} {sums}".strip(), " ".join(sentences), deadline]
    hello = rng.choice(("Dear {0},", "Hello {0},", "{0},")).format(recipient.split()[0])
    bye = rng.choice(("Best wishes", "Thanks", "Kind regards"))
    return "\n\n".join([hello, *parts, f"{bye}\n{sender.split()[0]}"])


# -- heads -----------------------------------------------------------------------------------------


def _headers(email: _Email) -> str:
    return (
        f"From: {email.sender} <{email.address(email.sender)}>\n"
        f"To: {email.recipient} <{email.address(email.recipient)}>\n"
        f"Date: {email.sent}\nSubject: {email.subject}\n\n{email.body}"
    )


def _german_headers(email: _Email) -> str:
    return (
        f"Betreff: {email.subject}\nVon: {email.sender}\nAn: {email.recipient}\n"
        f"Gesendet: {email.sent}\n\n{email.body}"
    )


def _exported(email: _Email) -> str:
    return (
        f"Subject: {email.subject}\n{email.sender} wrote to {email.recipient} on {email.sent}\n"
        f"--------\n{email.body}"
    )


def _arrow(email: _Email) -> str:
    return (
        f"[{email.sent}] {email.sender} -> {email.recipient}\n« {email.subject} »\n\n{email.body}"
    )


_HEADS: Final[tuple[Callable[[_Email], str], ...]] = (_headers, _german_headers, _exported, _arrow)
