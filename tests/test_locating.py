"""Places in a source: tables by hand, and properties of every place that is found."""

from __future__ import annotations

import json
import random
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars.json_places import Span, places
from grammars.sources.locating import MAX_PLACES, Located, SourceIndex, locate

quick = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def found_in(value: Any, source: str) -> list[str]:
    """What stands where a value is found."""
    given = Decimal(str(value)) if isinstance(value, int | float) else value
    return [source[begin:end] for begin, end in SourceIndex(source).places_of(given)]


# --- one value ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        ("Ada", "Ada met Ada Lovelace.", ["Ada", "Ada"]),
        ("Ada", "ada met ADA, not Adam", ["ada", "ADA"]),
        ("Ada", "Adam and Canada", []),
        ("Ada Lovelace", "Ada\n   Lovelace, Ada  lovelace", ["Ada\n   Lovelace"]),
        ("ADA  LOVELACE", "Ada\n   Lovelace, Ada  lovelace", ["Ada\n   Lovelace", "Ada  lovelace"]),
        (" Ada ", "Ada", ["Ada"]),
        ("", "Ada", []),
        (" \n", "Ada  \n", []),
        ("Straße", "STRASSE 5", ["STRASSE"]),
        ("strasse", "Straße", ["Straße"]),
        ("s", "ß", []),
        ("東京", "私は東京にいる", ["東京"]),
        ("12", "2012, 12.5 and 12", ["12", "12"]),
        ("A-1", "A-1, A-11, BA-1", ["A-1"]),
        ("(x)", "f(x) + (x)", ["(x)", "(x)"]),
        ("aa", "aaaa aa", ["aa"]),
        ("Ltd.", "Mill Ltd., Mill ltd.", ["Ltd."]),
        ("a b a", "a b a b a", ["a b a", "a b a"]),
        ("é", "e\u0301", []),
    ],
)
def test_strings(value: str, source: str, expected: list[str]) -> None:
    assert found_in(value, source) == expected


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        (1240.5, "1,240.50 or 1.240,50", ["1,240.50", "1.240,50"]),
        (1240.5, "1 240,50 or 1'240.50", ["1 240,50", "1'240.50"]),
        (1240.5, "1240.5, 1,24050", ["1240.5"]),
        (1240, "1,240 and 1.240 and 1240.00", ["1,240", "1.240", "1240.00"]),
        (1.24, "1.240", ["1.240"]),
        (12, "12 and 12.0, 120 and 112", ["12", "12.0"]),
        (-12, "-12, \u221212, A-12 and 12", ["-12", "\u221212"]),
        (12, "-12 and 12", ["12"]),
        (12, "only -12", ["12"]),
        (12, "INV-12", ["12"]),
        (0, "0 and 0.00, 10", ["0", "0.00"]),
        (0, "0,00", ["0,00"]),
        (3, "GBP3.00 or €3", ["3.00", "3"]),
        (7, "007", ["007"]),
        (20, "VAT 20 %", ["20"]),
        (20, "nothing", []),
        ("18.50000000000000000001", "18.50", []),
        ("1240.50", "1,240.50", ["1,240.50"]),
        ("+12", "12", ["12"]),
    ],
)  # fmt: skip
def test_numbers(value: float | str, source: str, expected: list[str]) -> None:
    assert found_in(value, source) == expected


def test_digits_beyond_those_of_a_float() -> None:
    assert locate("[18.50000000000000000001]", "18.50").sources == {"/0": (0, 5)}
    assert locate("[9007199254740993]", "9007199254740993 9007199254740992").sources == {
        "/0": (0, 16)
    }


def test_numbers_beyond_all_bounds() -> None:
    for written in ("1e999999999999999999999", "-0", "1e-400", "123456789" * 50, "0.0000001"):
        located = locate(f"[{written}]", "0 and 1")
        assert located.sources.keys() == ({"/0"} if written == "-0" else set())


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        ("2025-03-14", "Date: 14 March 2025, due 3/14/2025", ["14 March 2025", "3/14/2025"]),
        ("2025-03-14", "2025-03-14 or 14 March 2025", ["2025-03-14"]),
        ("15:30", "at 3:30 pm or 15:31", ["3:30 pm"]),
        ("2025-03-14T15:30:00", "on 14 March 2025 at 3:30 pm", ["14 March 2025 at 3:30 pm"]),
        ("2025-03-14T15:30:00Z", "at 15:30 on 14 March 2025", ["15:30 on 14 March 2025"]),
        ("2025-03-14T15:30", "14 March 2025" + " " * 61 + "15:30", []),
        ("2025-03-14T15:30", ("15:30 on 14/3/2025" + " " * 99) * 3, ["15:30 on 14/3/2025"] * 3),
        ("2025-03-15", "14 March 2025", []),
        ("15:31", "3:30 pm", []),
        ("T", "14 March 2025 3:30 pm", []),
    ],
)
def test_dates_and_times(value: str, source: str, expected: list[str]) -> None:
    assert found_in(value, source) == expected


def test_other_values_stand_nowhere() -> None:
    assert locate('[true, null, {}, [], "true"]', "true null {} []") == Located({"/4": (0, 4)})
    with pytest.raises(ValueError, match="no JSON"):
        locate("{", "")


# --- one of several places ------------------------------------------------------------------------


def shown(value: Any, source: str) -> dict[str, str]:
    """Each value's place, as the line it is on with the place in brackets."""
    out = {}
    for pointer, (begin, end) in locate(json.dumps(value), source).sources.items():
        line = source.rfind("\n", 0, begin) + 1
        last = (source + "\n").find("\n", end)
        out[pointer] = f"{source[line:begin]}[{source[begin:end]}]{source[end:last]}"
    return out


def test_words_of_the_key_on_the_line() -> None:
    source = "Subtotal  240.00\nTotal     240.00\nDate: 2025-03-14\nDue date: 2025-03-14"
    assert shown({"total": 240, "dueDate": "2025-03-14", "date": "2025-03-14"}, source) == {
        "/total": "Total     [240.00]",
        "/dueDate": "Due date: [2025-03-14]",
        "/date": "Date: [2025-03-14]",
    }


def test_items_have_their_values_near_each_other() -> None:
    source = "Widget   2   120.00\nGadget   2   120.00\nTotal        240.00"
    items = [
        {"name": "Widget", "qty": 2, "price": 120},
        {"name": "Gadget", "qty": 2, "price": 120.0},
    ]
    assert shown({"items": items}, source) == {
        "/items/0/name": "[Widget]   2   120.00",
        "/items/0/qty": "Widget   [2]   120.00",
        "/items/0/price": "Widget   2   [120.00]",
        "/items/1/name": "[Gadget]   2   120.00",
        "/items/1/qty": "Gadget   [2]   120.00",
        "/items/1/price": "Gadget   2   [120.00]",
    }


def test_numbers_before_their_names() -> None:
    source = "120.00 2 Widget\n120.00 2 Gadget\n120.00 2 Gizmo"
    items = [{"qty": 2, "name": name, "price": 120} for name in ("Widget", "Gadget", "Gizmo")]
    found = shown(items, source)
    for number, name in enumerate(("Widget", "Gadget", "Gizmo")):
        assert found[f"/{number}/qty"] == f"120.00 [2] {name}"
        assert found[f"/{number}/price"] == f"[120.00] 2 {name}"


def test_items_that_are_all_alike_are_in_order() -> None:
    source = "Tea 1\nTea 1\nTea 1"
    located = locate(json.dumps([{"name": "Tea", "qty": 1}] * 3), source)
    assert located.sources == {
        "/0/name": (0, 3), "/0/qty": (4, 5), "/1/name": (6, 9), "/1/qty": (10, 11),
        "/2/name": (12, 15), "/2/qty": (16, 17),
    }  # fmt: skip
    assert located.ambiguous["/1/qty"] == [(4, 5), (10, 11), (16, 17)]
    assert len(located.ambiguous) == 6


def test_plain_items_are_in_order() -> None:
    assert locate('["b", "a", "b"]', "b a b").sources == {"/0": (0, 1), "/1": (2, 3), "/2": (4, 5)}
    assert locate('["a", "a", "a"]', "a a").sources == {"/0": (0, 1), "/1": (2, 3), "/2": (0, 1)}
    assert locate('["x", "b", "y"]', "b x b y b").sources["/1"] == (4, 5)


def test_objects_whose_keys_are_numbers_are_no_arrays() -> None:
    source = "2024: 5\n2025: 5"
    assert locate('{"2025": 5, "2024": 5}', source).sources == {"/2025": (14, 15), "/2024": (6, 7)}


def test_members_of_one_object_are_near_each_other() -> None:
    source = "Seller: Mill Ltd, 1 Main Street, Leeds\nBuyer: Press Ltd, 2 Main Street, Leeds"
    value = {
        "buyer": {"name": "Press Ltd", "street": "Main Street", "city": "Leeds"},
        "seller": {"name": "Mill Ltd", "street": "Main Street", "city": "Leeds"},
    }
    found = shown(value, source)
    assert found["/buyer/city"].startswith("Buyer: ")
    assert found["/seller/street"] == "Seller: Mill Ltd, 1 [Main Street], Leeds"


def test_one_place_may_be_of_two_values() -> None:
    located = locate('{"name": "Ada Lovelace", "first": "Ada", "last": "Lovelace"}', "Ada Lovelace")
    assert located == Located({"/name": (0, 12), "/first": (0, 3), "/last": (4, 12)})
    assert locate('{"a": "x", "b": "x"}', "x").sources == {"/a": (0, 1), "/b": (0, 1)}


def test_the_example() -> None:
    """Every value of the invoice has the place that a reader would give it."""
    source = (Path(__file__).parent.parent / "examples" / "invoice.txt").read_text("utf-8")
    items = [
        ("Cotton paper A4, 120 g, ream", 12, 222.0),
        ("Kraft envelopes C5, box of 500", 3, 123.0),
        ("Bookbinding board 2 mm, sheet", 40, 70.0),
    ]
    value = {
        "invoice_number": "LP-20417", "date": "2025-03-14", "vendor": "Larkspur Paper Mill Ltd",
        "customer": "Blue Heron Press", "currency": "GBP",
        "items": [{"description": d, "quantity": q, "amount": a} for d, q, a in items],
        "total": 498.0, "paid": False,
    }  # fmt: skip
    located = locate(json.dumps(value), source)
    assert located.sources.keys() == {
        p for p in places(json.dumps(value)) if p not in ("", "/items", "/paid")
        and p.count("/") != 2
    }  # fmt: skip
    lines = source.splitlines()
    for number, (description, quantity, amount) in enumerate(items):
        line = next(i for i, text in enumerate(lines) if text.startswith(description))
        for key, written in (
            ("description", description),
            ("quantity", str(quantity)),
            ("amount", f"{amount:.2f}"),
        ):
            begin, end = located.sources[f"/items/{number}/{key}"]
            assert source.count("\n", 0, begin) == line
            assert source[begin:end] == written
    begin, end = located.sources["/vendor"]
    assert source[begin:end] == "LARKSPUR PAPER MILL LTD"
    assert located.ambiguous.keys() == {
        "/currency",
        "/items/1/quantity",
    }  # 3 is in a post code, too


# --- properties -----------------------------------------------------------------------------------


def folded(text: str) -> str:
    return " ".join(text.split()).casefold()


@quick
@given(source=st.text("ab AßéB\n,.-", max_size=40), data=st.data())
def test_words_of_the_source_are_found_where_they_stand(source: str, data: st.DataObject) -> None:
    """Any run of whole words is found at its own place, however its blanks and cases are changed."""
    pieces = source.split()
    if not pieces:
        return
    first = data.draw(st.integers(0, len(pieces) - 1))
    last = data.draw(st.integers(first, len(pieces) - 1))
    begin, at = 0, 0
    for number, piece in enumerate(pieces[: last + 1]):
        at = source.index(piece, at)
        begin = at if number == first else begin
        at += len(piece)
    exact = source[begin:at]
    index = SourceIndex(source)
    assert (begin, at) in index.places_of(exact)
    spaced = index.places_of("  ".join(exact.split()))
    assert all(source[b:e].split() == exact.split() for b, e in spaced)
    assert spaced
    assert index.places_of(exact.swapcase().casefold())
    for value in (exact, exact.upper(), exact.lower()):
        for b, e in index.places_of(value):
            assert folded(source[b:e]) == folded(value)


@quick
@given(
    cents=st.integers(-(10**9), 10**9),
    style=st.sampled_from([",.", ".,", " ,", "\u202f,", "'.", "_."]),
)
def test_spellings_of_a_number_are_found(cents: int, style: str) -> None:
    group, point = style
    written = (
        f"{cents / 100:,.2f}".replace(",", "G")
        .replace(".", point)
        .replace("G", "" if group == "_" else group)
    )
    source = f"pay {written} now"
    (found,) = SourceIndex(source).places_of(Decimal(cents) / 100)
    assert found == (4, 4 + len(written))


@quick
@given(
    day=st.dates(date(1000, 1, 1), date(2999, 12, 31)),
    form=st.sampled_from(["%d %B %Y", "%B %d, %Y", "%d.%m.%Y"]),
)
def test_dates_are_found(day: date, form: str) -> None:
    written = day.strftime(form).replace(f"{day.year:d}", f"{day.year:04d}")
    assert SourceIndex(f"On {written}.").places_of(day.isoformat()) == [(3, 3 + len(written))]


@pytest.mark.parametrize("seed", range(20))
def test_choices_are_places_and_deterministic(seed: int) -> None:
    chosen = random.Random(seed)
    words = ["tea", "cup", "1", "2", "3.50", "total", "x"]
    source = "".join(chosen.choice(words) + chosen.choice([" ", "\n", ", "]) for _ in range(60))
    items = [
        {"name": chosen.choice(words[:2]), "n": chosen.randint(1, 3), "p": 3.5} for _ in range(5)
    ]
    text = json.dumps({"items": items, "total": 3.5, "tags": chosen.sample(words, 3)})
    located = locate(text, source)
    assert locate(text, source) == located
    index = SourceIndex(source)
    for pointer, (begin, end) in places(text).items():
        if text[begin] in "{[":
            continue
        value = json.loads(text[begin:end])
        every = index.places_of(value if isinstance(value, str) else Decimal(str(value)))
        assert (pointer in located.sources) == bool(every)
        if every:
            assert located.sources[pointer] in every
            assert located.ambiguous.get(pointer, every) == every
            assert (pointer in located.ambiguous) == (len(every) > 1)


def test_sources_without_line_ends_and_with_very_many_places() -> None:
    source = "1 a " * 5_000
    text = json.dumps([{"n": 1, "s": "a"}] * 10)
    located = locate(text, source)
    assert len(located.sources) == 20
    assert {len(spans) for spans in located.ambiguous.values()} == {MAX_PLACES}
    near: list[Span] = [located.sources[f"/9/{key}"] for key in "ns"]
    assert abs(near[0][0] - near[1][0]) <= 4
