"""Grammars of schemas and types whose values stand in a source text."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from spans import spans

from grammars import Grammar, GrammarError, Inferred, Labelled, Verbatim
from grammars.sources.dates import dates_of, times_of
from grammars.sources.numbers import numbers_of

SOURCE = """Order no. AB-1207 of 14 March 2025
Ann Lee,  12 Mill Lane
2 boxes of "fine" tea at 1,240.50 EUR each, 3 % off; call at 3:30 pm
"""


def grounded(schema: Any, source: str = SOURCE, **options: Any) -> Grammar:
    return Grammar.from_json_schema(schema, source=source, grounded=True, **options)


STRINGS = [
    ("Ann Lee", True),
    ("Ann Lee, 12 Mill Lane", True),
    ("Ann Lee,  12", False),
    ("Lane 2 boxes", True),
    ('"fine" tea', True),
    ("Ann Le", False),
    ("", True),
    ("Bob", False),
]


@pytest.mark.parametrize(("value", "accepted"), STRINGS)
def test_strings_are_spans(value: str, accepted: bool) -> None:
    assert grounded({"type": "string"}).accepts(json.dumps(value)) == accepted


NUMBERS = [
    ("1240.5", True),
    ("1240.50", True),
    ("1240", False),
    ("240.50", False),
    ("2", True),
    ("2.0", True),
    ("12", True),
    ("1207", True),
    ("-1207", False),
    ("3", True),
    ("0.03", False),
    ("4", False),
]


@pytest.mark.parametrize(("text", "accepted"), NUMBERS)
def test_numbers_stand_in_the_text(text: str, accepted: bool) -> None:
    assert grounded({"type": "number"}).accepts(text) == accepted


@pytest.mark.parametrize(
    ("schema", "text", "accepted"),
    [
        ({"type": "integer"}, "2", True),
        ({"type": "integer"}, "2.0", False),
        ({"type": "integer", "minimum": 3}, "2", False),
        ({"type": "number", "multipleOf": 0.25}, "1240.5", True),
        ({"type": "integer", "not": {"const": 12}}, "12", False),
        ({"enum": ["red", 7]}, '"red"', True),
        ({"enum": ["red", 7]}, "7", True),
        ({"const": 99}, "99", True),
        ({"type": "boolean"}, "true", True),
        ({"type": ["string", "null"]}, "null", True),
        ({"type": "string", "pattern": "^(yes|no)$"}, '"yes"', True),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, '"AB-1207"', True),
        ({"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, '"AB-1208"', False),
        ({"type": "string", "format": "date"}, '"2025-03-14"', True),
        ({"type": "string", "format": "date"}, '"2025-03-15"', False),
        ({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}, '"2025-03-14"', True),
        ({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$"}, '"15:30"', True),
        ({"type": "string", "maxLength": 7}, '"Ann Lee"', True),
        ({"type": "string", "maxLength": 6}, '"Ann Lee"', False),
        ({"type": "string", "not": {"const": "Ann Lee"}}, '"Ann Lee"', False),
        ({"type": "string", "x-gramma-source": "inferred"}, '"Bob"', True),
        ({"type": "number", "x-gramma-source": "inferred"}, "77", True),
        ({"allOf": [{"type": "string"}, {"x-gramma-source": "inferred"}]}, '"Bob"', True),
        (
            {"allOf": [{"x-gramma-source": "verbatim"}, {"x-gramma-source": "inferred"}]},
            '"Bob"',
            False,
        ),
        ({}, '{"any key": ["Ann", 12]}', True),
        ({}, '{"any key": ["Anne", 12]}', False),
        ({}, '{"any key": ["Ann", 13]}', False),
        (
            {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            '["Ann", "Lee"]',
            True,
        ),
        (
            {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            '["Ann", "Ann"]',
            False,
        ),
    ],
)
def test_keywords(schema: Any, text: str, accepted: bool) -> None:
    for order in ("schema", "any"):
        assert grounded(schema, property_order=order).accepts(text) == accepted


def test_only_what_is_marked_is_tied_without_grounded() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "x-gramma-source": "verbatim"},
            "b": {"type": "string"},
        },
    }
    grammar = Grammar.from_json_schema(schema, source=SOURCE)
    assert grammar.accepts('{"a": "Mill Lane", "b": "anything"}')
    assert not grammar.accepts('{"a": "Milk Lane", "b": "anything"}')


def test_verbatim_needs_a_source() -> None:
    with pytest.raises(GrammarError, match="source=") as error:
        Grammar.from_json_schema({"properties": {"a": {"x-gramma-source": "verbatim"}}})
    assert error.value.pointer == "/properties/a/x-gramma-source"
    with pytest.raises(ValueError, match="source="):
        Grammar.from_json_schema({}, grounded=True)
    with pytest.raises(GrammarError, match="'verbatim', 'inferred', 'labelled' or 'rows'"):
        grounded({"x-gramma-source": True})
    assert Grammar.from_json_schema({"x-gramma-source": "inferred"}).accepts('"x"')


def test_what_cannot_stand_in_the_source_is_named() -> None:
    schema = {
        "type": "object",
        "properties": {
            "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            "n": {"type": "integer"},
        },
        "required": ["zip"],
    }
    grammar = grounded(schema)
    assert grammar.is_empty
    said = str(grammar.explain('{"zip": "12345"}'))
    assert "field 'zip': no part of the source meets this" in said
    assert "inferred" in said
    empty = grounded({"type": "integer", "minimum": 5_000})
    assert "the value: no number of the source" in str(empty.explain("1"))


def object_of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_every_field_that_the_source_lacks_is_named_with_one_hint() -> None:
    fare = object_of(price={"type": "number"}, unit={"type": "string"})
    trip = object_of(
        fare={"$ref": "#/$defs/Fare"},
        stops={"type": "array", "items": {"$ref": "#/$defs/Fare"}, "minItems": 1},
        minutes={"type": "integer"},
        seats={"type": "integer"},
        day={"type": "string", "format": "date"},
    )
    trip["properties"]["extra"] = {"type": "number"}  # optional, so no reason
    said = str(grounded({**trip, "$defs": {"Fare": fare}}, "It leaves at noon.").explain("{}"))
    number = "no number of the source meets this"
    for path in ("fare.price", "stops[0].price", "minutes", "seats"):
        assert f"field {path!r}: {number}; " in said
    assert "field 'day': no part of the source meets this; make it optional" in said
    assert said.count("Inferred()") == 1
    assert "extra" not in said
    assert "unit" not in said


def test_a_value_that_needs_one_like_itself_ends_the_list_of_fields() -> None:
    node = object_of(value={"type": "number"}, next={"$ref": "#"})
    said = str(grounded(node, "no digits").explain("{}"))
    assert "field 'value': " in said
    assert "field 'next.value'" not in said


def test_alternatives_that_all_lack_a_number_are_told_by_their_places() -> None:
    either = {"anyOf": [{"type": "number", "minimum": 1}, {"type": "integer"}]}
    said = str(grounded(object_of(n=either), "no digits").explain("{}"))
    assert "#/properties/n/anyOf/0/minimum: no number of the source meets this; " in said
    assert said.count("Inferred()") == 1


def test_many_fields_are_not_all_listed() -> None:
    many = object_of(**{f"n{i}": {"type": "number"} for i in range(9)})
    said = str(grounded(many, "no digits").explain("{}"))
    assert said.count("field 'n") == 5
    assert "and other fields; " in said


FORM = """Invoice No: 77   of 3 May
1 line          12.00
Subtotal        12.00
VAT 20 %         2.40
Amount due      14.40
TOTAL (EUR)     14.40
total weight 9 kg
"""


@pytest.mark.parametrize(
    ("name", "schema", "text", "accepted"),
    [
        ("total", {}, "14.40", True),
        ("total", {}, "14.4", True),
        ("total", {}, "9", True),
        ("total", {}, "12", False),
        ("amountDue", {}, "14.4", True),
        ("amount_due", {}, "2.4", False),
        ("x", {"x-gramma-labels": ["vat", "amount due"]}, "2.4", True),
        ("x", {"x-gramma-labels": ["vat", "amount due"]}, "20", True),
        ("x", {"x-gramma-labels": ["vat", "amount due"]}, "12", False),
        ("x", {"title": "Invoice no"}, "77", True),
        ("x", {"title": "Invoice no"}, "3", True),
        ("x", {"title": "Invoice no"}, "12", False),
        ("no such label", {}, "12", True),
        ("no such label", {}, "13", False),
        ("weight", {"maximum": 5}, "2.4", True),  # nothing behind the label meets it
    ],
)
def test_numbers_behind_labels(name: str, schema: Any, text: str, accepted: bool) -> None:
    value = {"type": "number", "x-gramma-source": "labelled"} | schema
    whole = {"type": "object", "properties": {name: value}, "required": [name]}
    for grammar in (grounded(whole, FORM), Grammar.from_json_schema(whole, source=FORM)):
        assert grammar.accepts(f"{{{json.dumps(name)}: {text}}}") == accepted


def test_strings_behind_labels() -> None:
    value = {"type": "string", "minLength": 1, "x-gramma-source": "labelled"}
    schema = {"type": "object", "properties": {"invoice no": value}, "required": ["invoice no"]}
    assert grounded(schema, FORM).accepts('{"invoice no": "77 of 3 May"}')
    assert not grounded(schema, FORM).accepts('{"invoice no": "1 line"}')
    assert Grammar.from_json_schema(schema).accepts('{"invoice no": "anything"}')
    with pytest.raises(GrammarError, match="list of texts"):
        grounded({"x-gramma-source": "labelled", "x-gramma-labels": 7}, FORM)


class Sums(BaseModel):
    total: Annotated[float, Labelled()]
    tax: Annotated[float, Labelled("VAT", "tax")]
    other: float


def test_labels_in_types() -> None:
    made = Grammar.from_type(Sums, source=FORM, grounded=True)
    assert made.accepts('{"total": 14.4, "tax": 2.4, "other": 77.0}')
    assert not made.accepts('{"total": 12.0, "tax": 2.4, "other": 77.0}')
    assert not made.accepts('{"total": 14.4, "tax": 14.4, "other": 77.0}')


def test_explanations_speak_of_the_source() -> None:
    found = grounded({"type": "object", "properties": {"who": {"type": "string"}}}).explain(
        '{"who": "Ann Loo"}'
    )
    assert found.pointer == "/who"
    assert "no span of the source" in str(found)


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    number: Annotated[str, Verbatim()]
    who: str
    price: float
    colour: Colour
    kind: Literal["tea", "coffee"]
    summary: Annotated[str, Inferred()]
    boxes: Annotated[list[int], Inferred()] = []
    cost: Decimal | None = None


def test_types() -> None:
    grammar = Grammar.from_type(Order, source=SOURCE, grounded=True)
    value: dict[str, Any] = {
        "number": "AB-1207", "who": "Ann Lee", "price": 1240.5, "colour": "red", "kind": "coffee",
        "summary": "anything",
    }  # fmt: skip
    assert grammar.accepts(json.dumps(value))
    assert grammar.accepts(json.dumps(value | {"cost": 3}))
    for key, other in [("number", "AB-1"), ("who", "Bob"), ("price", 7.5), ("boxes", ["x"])]:
        assert not grammar.accepts(json.dumps(value | {key: other})), key
    loose = Grammar.from_type(Order, source=SOURCE)
    assert loose.accepts(json.dumps(value | {"who": "Bob", "price": 7.5}))
    assert not loose.accepts(json.dumps(value | {"number": "AB-1"}))
    assert Order.model_json_schema()["properties"]["number"]["x-gramma-source"] == "verbatim"


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from('ab1.,- \n"'), max_size=14), st.randoms())
def test_objects_by_definition(source, rng) -> None:  # type: ignore[no-untyped-def]
    schema = {
        "type": "object",
        "properties": {"s": {"type": "string", "maxLength": 5}, "n": {"type": "number"}},
        "required": ["s"],
        "additionalProperties": False,
    }
    grammar = grounded(schema, source)
    words = spans(source, "words", ["space"])
    values = {one.value for one in numbers_of(source)}
    for _ in range(8):
        word = rng.choice([*sorted(words), "ab", "a b", "b1"])
        number = rng.choice([*sorted(values), Decimal(1), Decimal("-1.5"), None])
        value = {"s": word} | ({} if number is None else {"n": number})
        data = json.dumps(value, default=str).replace(f'"{number}"}}', f"{number}}}")
        wanted = word in words and len(word) <= 5 and (number is None or number in values)
        assert grammar.accepts(data) == wanted, data


READINGS = [
    ("1,240.50", {"1240.50"}),
    ("1.240,50", {"1240.50"}),
    ("1\u202f240,50", {"1240.50"}),
    ("1'240.50", {"1240.50"}),
    ("12,345,678.9", {"12345678.9"}),
    ("1.240", {"1240", "1.240"}),
    ("3,5", {"3.5", "3", "5"}),
    ("1,2,3", {"1", "2", "3"}),
    ("2025-03-14", {"2025", "3", "14"}),
    ("PO-8831", {"8831"}),
    ("at -5 or \u22127.25", {"5", "-5", "7.25", "-7.25"}),
    ("A4, 120 g", {"4", "120"}),
    (".5 and 2.5E-3", {"0.5", "2.5E-3"}),
    ("007", {"7"}),
    ("12 222.00", {"12222.00", "12", "222.00"}),
    ("\u0663\u0664", {"34"}),
    ("no number", set()),
    ("9" * 500, set()),
]


@pytest.mark.parametrize(("text", "values"), READINGS)
def test_numbers(text: str, values: set[str]) -> None:
    found = numbers_of(text)
    assert {one.text for one in found} == values
    assert {one.value for one in found} == {Decimal(value) for value in values}
    for one in found:
        assert any(c.isdigit() for c in text[one.start : one.end])
        json.loads(one.text)


DATES = [
    ("2025-03-14", ["2025-03-14"]),
    ("14 March 2025", ["2025-03-14"]),
    ("14th of March, 2025", ["2025-03-14"]),
    ("March 14th, 2025", ["2025-03-14"]),
    ("14. M\u00e4rz 2025", ["2025-03-14"]),
    ("1er janvier 2024", ["2024-01-01"]),
    ("3 de mayo de 2024", ["2024-05-03"]),
    ("14-Mar-25", ["2025-03-14"]),
    ("14/03/2025", ["2025-03-14"]),
    ("3/4/2025", ["2025-03-04", "2025-04-03"]),
    ("14.03.98", ["1998-03-14"]),
    ("20250314", ["2025-03-14"]),
    ("31/02/2025", []),
    ("1207 of 14", []),
]


@pytest.mark.parametrize(("text", "values"), DATES)
def test_dates(text: str, values: list[str]) -> None:
    assert [one.text for one in dates_of(text)] == values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("at 3:30 pm", [("15:30:00", "15:30")]),
        ("12 a.m.", [("00:00:00", "00:00")]),
        ("14:05:09", [("14:05:09",)]),
        ("15h30", [("15:30:00", "15:30")]),
        ("15.30 Uhr", [("15:30:00", "15:30")]),
        ("19.30", [("19:30:00", "19:30")]),
        ("07.30 pm", [("19:30:00", "19:30")]),
        ("25:00 1:75 1.30 24.00 14.03.2025 10.15,5", []),
    ],
)
def test_times(text: str, values: list[tuple[str, ...]]) -> None:
    assert [one.texts for one in times_of(text)] == values
