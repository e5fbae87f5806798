"""Invoices: six layouts, labels in three languages, four currencies, one to five lines."""

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
        "number": {"type": "string", "minLength": 1, "maxLength": 24, "description": "invoice number"},
        "issued": {"type": "string", "format": "date", "description": "date of the invoice"},
        "seller": {"type": "string", "minLength": 1, "maxLength": 60, "description": "who sends it"},
        "buyer": {"type": "string", "minLength": 1, "maxLength": 60, "description": "who pays"},
        "currency": {"enum": ["EUR", "GBP", "USD", "CHF"]},
        "lines": {
            "type": "array",
            "minItems": 1,
            "maxItems": 8,
            "items": {
                "type": "object",
                "properties": {
                    "description": {"type": "string", "minLength": 1, "maxLength": 60},
                    "quantity": {"type": "integer", "minimum": 1},
                    "unit_price": {"type": "number", "minimum": 0},
                    "amount": {"type": "number", "minimum": 0},
                },
                "required": ["description", "quantity", "unit_price", "amount"],
                "additionalProperties": False,
            },
        },
        "tax": {"type": "number", "minimum": 0},
        "total": {"type": "number", "minimum": 0, "description": "what is to pay, tax included"},
        "paid": {"type": "boolean"},
    },
    "required": [
        "number", "issued", "seller", "buyer", "currency", "lines", "tax", "total", "paid",
    ],
    "additionalProperties": False,
}  # fmt: skip

_SELLERS: Final = (
    "Alder & Finch Tools", "Quarry Hill Ceramics", "Nordlicht Optik GmbH", "Brindle Coffee Roasters",
    "Saltmarsh Print Works", "Atelier Vauban SARL", "Copperbeech Joinery", "Hazelden Seeds Ltd",
    "Meridian Lab Supplies", "Tolle Zelte KG", "Ferrol Marine Stores", "Pinewick Bakery",
)  # fmt: skip
_BUYERS: Final = (
    "Gullane Primary School", "Harrow Street Clinic", "Orchard Farm Shop", "Rosalind Tate",
    "Stadtbad Weilheim", "Kestrel Cycling Club", "Lindqvist Architects", "Hotel Bellerive",
    "Mill Road Theatre", "Tarn Valley Outdoor Centre",
)  # fmt: skip
_STREETS: Final = (
    "3 Cooper's Yard",
    "27 Station Road",
    "Hafenstr. 11",
    "8 rue des Lilas",
    "Pier 4",
)
_TOWNS: Final = ("Wexcombe", "Port Ansel", "93047 Auberg", "69003 Ligny", "Eastmere")
_GOODS: Final = (
    "Steel bracket 40 mm", "Glazed tile, sea green", "Espresso beans, 1 kg bag", "Oak shelf 90 cm",
    "Poster A2, matt", "Tomato seed mix", "Pipette tips, rack of 96", "Tent pole, spare",
    "Mooring rope 12 m", "Rye loaf, sliced", "Reading lamp, brass", "Wood screws, pack of 200",
    "Lens cloth", "Work gloves, size L", "Delivery within the county", "Installation, half day",
    "Garden twine, 3 spools", "Felt underlay", "Ink cartridge, black", "Gift voucher",
)  # fmt: skip
_SIGNS: Final = {"EUR": "€", "GBP": "£", "USD": "$", "CHF": "CHF"}
_RATES: Final = (7, 8, 19, 20)


@dataclass(frozen=True)
class _Words:
    """Labels of a language."""

    language: str
    invoice: str
    number: tuple[str, ...]
    issued: tuple[str, ...]
    seller: str
    buyer: tuple[str, ...]
    columns: tuple[str, str, str, str]
    net: str
    tax: str
    total: tuple[str, ...]
    paid: tuple[str, ...]
    unpaid: tuple[str, ...]


_ENGLISH: Final = _Words(
    language="en",
    invoice="Invoice",
    number=("Invoice number", "Invoice no.", "Reference", "Number"),
    issued=("Invoice date", "Issued", "Date of issue"),
    seller="From",
    buyer=("Billed to", "Customer", "To"),
    columns=("Item", "Qty", "Price", "Total"),
    net="Net",
    tax="Tax",
    total=("Total due", "Grand total", "Amount payable"),
    paid=("Paid by card. Thank you!", "Payment received with thanks.", "PAID IN FULL"),
    unpaid=("Please pay within 14 days.", "Payment is still open.", "Not yet paid."),
)
_GERMAN: Final = _Words(
    language="de",
    invoice="Rechnung",
    number=("Rechnungsnummer", "Rechnung Nr."),
    issued=("Rechnungsdatum", "Datum"),
    seller="Verkäufer",
    buyer=("Kunde", "Rechnung an"),
    columns=("Artikel", "Menge", "Preis", "Betrag"),
    net="Netto",
    tax="MwSt.",
    total=("Gesamtbetrag", "Summe"),
    paid=("Betrag dankend erhalten (paid).",),
    unpaid=("Bitte zahlen Sie innerhalb von 14 Tagen (not paid).",),
)
_FRENCH: Final = _Words(
    language="fr",
    invoice="Facture",
    number=("Facture n°", "Numéro"),
    issued=("Date de facture", "Date"),
    seller="Vendeur",
    buyer=("Client", "Facturé à"),
    columns=("Article", "Quantité", "Prix", "Montant"),
    net="Total HT",
    tax="TVA",
    total=("Total TTC", "Net à payer"),
    paid=("Facture acquittée (paid).",),
    unpaid=("À régler sous 14 jours (not paid).",),
)


@dataclass(frozen=True)
class _Line:
    description: str
    quantity: int
    unit_price: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class _Invoice:
    """What an invoice says, and how it is spelled."""

    number: str
    issued: date
    seller: str
    buyer: str
    currency: str
    lines: tuple[_Line, ...]
    rate: int
    paid: bool
    words: _Words
    style: str
    day_style: str
    sign: str
    rng: random.Random

    @property
    def net(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return (self.net * self.rate / 100).quantize(Decimal("0.01"))

    @property
    def total(self) -> Decimal:
        return self.net + self.tax

    @property
    def day(self) -> str:
        return spell_date(self.issued, self.day_style, self.words.language)

    @property
    def status(self) -> str:
        return self.rng.choice(self.words.paid if self.paid else self.words.unpaid)

    def money(self, value: Decimal) -> str:
        """With sign or code, before or behind."""
        number = spell_number(value, self.style)
        if self.sign in ("£", "$"):
            return self.sign + number
        return f"{self.sign} {number}" if self.style == "1,240.50" else f"{number} {self.sign}"

    def bare(self, value: Decimal) -> str:
        return spell_number(value, self.style)


def make(number: int, rng: random.Random) -> tuple[str, dict[str, Any]]:
    """An invoice's text and what it says; layouts and counts of lines in turn, all else drawn."""
    invoice = _drawn(rng, lines=1 + number % 5)
    text = _LAYOUTS[number % len(_LAYOUTS)](invoice)
    return text.strip() + "\n", _truth(invoice)


def _drawn(rng: random.Random, lines: int) -> _Invoice:
    words = rng.choices((_ENGLISH, _GERMAN, _FRENCH), (14, 3, 3))[0]
    if words is _ENGLISH:
        currency = rng.choice(("GBP", "USD", "EUR", "CHF"))
        style = rng.choice(("1,240.50", "1,240.50", "1 240.50"))
        day_style = rng.choice(("iso", "day month", "month day", "slashes"))
    else:
        currency, style = "EUR", rng.choice(("1.240,50", "1 240.50"))
        day_style = rng.choice(("dots", "day month"))
    goods = rng.sample(_GOODS, lines)
    return _Invoice(
        number=_number(rng),
        issued=date(2024, 1, 13) + timedelta(days=rng.randrange(700)),
        seller=rng.choice(_SELLERS),
        buyer=rng.choice(_BUYERS),
        currency=currency,
        lines=tuple(_line(rng, name) for name in goods),
        rate=rng.choice(_RATES),
        paid=rng.random() < 0.4,
        words=words,
        style=style,
        day_style=day_style,
        sign=currency if rng.random() < 0.5 else _SIGNS[currency],
        rng=rng,
    )


def _number(rng: random.Random) -> str:
    digits = rng.randrange(1000, 99999)
    letters = "".join(rng.choices("ABCDEFHKMNRSTW", k=2))
    shapes = (
        f"{digits}",
        f"{letters}{digits}",
        f"2025/{digits % 1000:03}",
        f"R-{digits}-{letters}",
    )
    return rng.choice(shapes)


def _line(rng: random.Random, name: str) -> _Line:
    cents = rng.choice((rng.randrange(90, 2000), rng.randrange(1500, 60000)))
    return _Line(name, rng.choice((1, 1, 2, 3, 4, 6, 10, 24)), Decimal(cents - cents % 5) / 100)


def _truth(invoice: _Invoice) -> dict[str, Any]:
    return {
        "number": invoice.number,
        "issued": invoice.issued.isoformat(),
        "seller": invoice.seller,
        "buyer": invoice.buyer,
        "currency": invoice.currency,
        "lines": [
            {
                "description": line.description,
                "quantity": line.quantity,
                "unit_price": float(line.unit_price),
                "amount": float(line.amount),
            }
            for line in invoice.lines
        ],
        "tax": float(invoice.tax),
        "total": float(invoice.total),
        "paid": invoice.paid,
    }


# -- layouts ---------------------------------------------------------------------------------------


def _head(invoice: _Invoice) -> list[str]:
    rng, words = invoice.rng, invoice.words
    return [
        f"{rng.choice(words.number)}: {invoice.number}",
        f"{rng.choice(words.issued)}: {invoice.day}",
    ]


def _address(rng: random.Random) -> str:
    return f"{rng.choice(_STREETS)}, {rng.choice(_TOWNS)}"


def _sums(invoice: _Invoice) -> list[tuple[str, str]]:
    words = invoice.words
    return [
        (words.net, invoice.money(invoice.net)),
        (f"{words.tax} {invoice.rate}%", invoice.money(invoice.tax)),
        (invoice.rng.choice(words.total), invoice.money(invoice.total)),
    ]


def _columns(invoice: _Invoice) -> str:
    """A ledger: quantity first, columns set apart by spaces."""
    rng, (item, quantity, price, total) = invoice.rng, invoice.words.columns
    rows = [f"{quantity:<9}{item:<30}{price:>12}{total:>14}"]
    rows += [
        f"{line.quantity:<9}{line.description:<30}{invoice.bare(line.unit_price):>12}"
        f"{invoice.bare(line.amount):>14}"
        for line in invoice.lines
    ]
    sums = [f"{name:>45}  {value}" for name, value in _sums(invoice)]
    to = f"{rng.choice(invoice.words.buyer)}: {invoice.buyer}, {_address(rng)}"
    return "\n".join(
        [
            invoice.seller,
            _address(rng),
            "",
            *_head(invoice),
            to,
            "",
            *rows,
            "",
            *sums,
            "",
            invoice.status,
        ]
    )


def _pipes(invoice: _Invoice) -> str:
    """A table with bars."""
    rng, words = invoice.rng, invoice.words
    rows = ["| " + " | ".join(words.columns) + " |", "|---|---|---|---|"]
    rows += [
        f"| {line.description} | {line.quantity} | {invoice.money(line.unit_price)} "
        f"| {invoice.money(line.amount)} |"
        for line in invoice.lines
    ]
    sums = [f"{name}: {value}" for name, value in _sums(invoice)]
    parties = [f"{words.seller}: {invoice.seller}", f"{rng.choice(words.buyer)}: {invoice.buyer}"]
    title = f"# {words.invoice.upper()}"
    return "\n".join([title, *parties, *_head(invoice), "", *rows, "", *sums, invoice.status])


def _times(invoice: _Invoice) -> str:
    """One line for each item: 3 x what @ price = amount."""
    rng, words = invoice.rng, invoice.words
    rows = [
        f"  {line.quantity} x {line.description} @ {invoice.money(line.unit_price)}"
        f" = {invoice.money(line.amount)}"
        for line in invoice.lines
    ]
    sums = [f"  {name} = {value}" for name, value in _sums(invoice)]
    return "\n".join(
        [
            f"{words.invoice} {invoice.number} / {invoice.day}",
            f"{words.seller} {invoice.seller}, {_address(rng)}",
            f"{rng.choice(words.buyer)} {invoice.buyer}, {_address(rng)}",
            *rows,
            *sums,
            invoice.status,
        ]
    )


def _blocks(invoice: _Invoice) -> str:
    """A block of labelled lines for each item."""
    rng, words = invoice.rng, invoice.words
    item, quantity, price, total = words.columns
    blocks = [
        f"{i}. {item}: {line.description}\n   {quantity}: {line.quantity}\n"
        f"   {price}: {invoice.money(line.unit_price)}\n   {total}: {invoice.money(line.amount)}"
        for i, line in enumerate(invoice.lines, 1)
    ]
    sums = [f"{name}: {value}" for name, value in _sums(invoice)]
    parties = [f"{words.seller}: {invoice.seller}", f"{rng.choice(words.buyer)}: {invoice.buyer}"]
    head = [words.invoice, *_head(invoice), *parties]
    return "\n".join([*head, "", *blocks, "", *sums, "", invoice.status])


def _dotted(invoice: _Invoice) -> str:
    """A receipt with leaders."""
    rng, words = invoice.rng, invoice.words
    rows = []
    for line in invoice.lines:
        rows.append(line.description)
        left = f"   {line.quantity} at {invoice.bare(line.unit_price)} "
        rows.append(left.ljust(34, ".") + " " + invoice.bare(line.amount))
    sums = [f"{name} ".ljust(30, ".") + f" {value}" for name, value in _sums(invoice)]
    to = f"{rng.choice(words.buyer)}: {invoice.buyer}"
    bottom = [invoice.status, *_head(invoice), to]
    return "\n".join(
        [f"*** {invoice.seller} ***", _address(rng), "", *rows, "", *sums, "", *bottom]
    )


def _letter(invoice: _Invoice) -> str:
    """A letter in whole sentences; the language of the labels says nothing here."""
    rows = [
        f"{line.quantity} x {line.description} at {invoice.money(line.unit_price)} each, "
        f"which makes {invoice.money(line.amount)}"
        for line in invoice.lines
    ]
    return (
        f"{invoice.day}\n\nTo {invoice.buyer}, {_address(invoice.rng)}\n\n"
        f"With this letter, invoice {invoice.number}, we charge you for the following: "
        f"{'; '.join(rows)}. To the net sum of {invoice.money(invoice.net)} we add "
        f"{invoice.money(invoice.tax)} of tax ({invoice.rate} %), so that the total is "
        f"{invoice.money(invoice.total)}. {invoice.status}\n\nKind regards\n{invoice.seller}"
    )


_LAYOUTS: Final[tuple[Callable[[_Invoice], str], ...]] = (
    _columns, _pipes, _times, _blocks, _dotted, _letter,
)  # fmt: skip
