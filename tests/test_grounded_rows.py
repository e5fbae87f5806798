"""Arrays whose items stand in lines of a source: ``"x-gramma-source": "rows"``."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from spans import spans

from grammars import Grammar, Rows, UnsupportedSchemaError
from grammars.sources.numbers import numbers_of
from grammars.sources.rows import number_in, rows_of

TABLE = """Deliveries of May            page 3
Oak boards, 2 m      12     18.50    222.00
Glue                  3      4.00     12.00
-------------------------------------------
Total                               234.00
"""
ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "what": {"type": "string"},
        "count": {"type": "integer", "minimum": 1},
        "amount": {"type": "number"},
        "paid": {"type": "boolean"},
    },
    "required": ["what", "count", "amount"],
    "additionalProperties": False,
}


def rows(item: Any = ITEM, **array: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, "x-gramma-source": "rows", **array}


def grammar(schema: Any, source: str = TABLE) -> Grammar:
    return Grammar.from_json_schema(schema, source=source, grounded=True)


OAK = {"what": "Oak boards, 2 m", "count": 12, "amount": 222}
GLUE = {"what": "Glue", "count": 3, "amount": 12}


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ([OAK, GLUE], True),
        ([GLUE], True),
        ([], True),
        ([GLUE, OAK], False),
        ([OAK, OAK], False),
        ([OAK | {"what": "boards"}], True),
        ([OAK | {"what": "boa"}], False),
        ([OAK | {"amount": 18.5}], True),
        ([OAK | {"amount": 12}], False),
        ([OAK | {"count": 2}], False),
        ([OAK | {"amount": 4}], False),
        ([OAK | {"paid": True}, GLUE | {"paid": False}], True),
        ([{"what": "Total", "count": 234, "amount": 234}], False),
    ],
)
def test_items_stand_in_lines(value: list[Any], accepted: bool) -> None:
    for schema in (rows(), {"allOf": [rows(), {"maxItems": 3}]}):
        assert grammar(schema).accepts(json.dumps(value)) == accepted


def test_numbers_of_items() -> None:
    assert not grammar(rows(minItems=1)).accepts("[]")
    assert not grammar(rows(minItems=2)).accepts(json.dumps([OAK]))
    assert grammar(rows(minItems=2, maxItems=2)).accepts(json.dumps([OAK, GLUE]))
    assert not grammar(rows(maxItems=1)).accepts(json.dumps([OAK, GLUE]))
    assert grammar(rows(minItems=3)).is_empty


class Line(BaseModel):
    what: str
    count: int


class Note(BaseModel):
    lines: Annotated[list[Line], Rows()]


def test_types() -> None:
    made = Grammar.from_type(Note, source=TABLE, grounded=True)
    assert made.accepts('{"lines": [{"what": "Glue", "count": 3}]}')
    assert not made.accepts(
        '{"lines": [{"what": "Glue", "count": 3}, {"what": "Glue", "count": 3}]}'
    )
    assert Grammar.from_type(Note).accepts('{"lines": [{"what": "x", "count": 7}]}')


def test_only_with_a_source() -> None:
    free = Grammar.from_json_schema(rows())
    assert free.accepts(json.dumps([{"what": "x", "count": 7, "amount": 7}]))
    tied = Grammar.from_json_schema(rows(), source=TABLE)
    assert not tied.accepts(json.dumps([{"what": "x", "count": 7, "amount": 7}]))


def test_values_that_need_not_stand_there() -> None:
    item = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["wood", "other"]},
            "what": {"type": ["string", "null"]},
            "note": {"type": "string", "x-gramma-source": "inferred"},
            "count": {"type": "number"},
        },
        "required": ["kind", "what", "count"],
    }
    made = grammar(rows(item))
    assert made.accepts('[{"kind": "other", "what": "Glue", "note": "any", "count": 3}]')
    assert made.accepts('[{"kind": "wood", "what": null, "count": 4}]')
    assert not made.accepts('[{"kind": "metal", "what": "Glue", "count": 3}]')


def test_arrays_that_compare_items_beside() -> None:
    schema = {
        "type": "object",
        "properties": {"lines": rows(), "tags": {"type": "array", "uniqueItems": True}},
        "required": ["lines"],
    }
    made = grammar(schema, "a   1   2\na   1   2")
    same = {"what": "a", "count": 1, "amount": 2}
    assert made.accepts(json.dumps({"lines": [same, same], "tags": ["a"]}))
    assert not made.accepts(json.dumps({"lines": [same, same], "tags": ["a", "a"]}))


@pytest.mark.parametrize(
    "schema",
    [
        rows(uniqueItems=True),
        rows({"type": "string"}),
        rows({"type": "object", "properties": {"a": {"type": "array"}}}),
        rows({"anyOf": [ITEM, {"type": "null"}]}),
        rows(contains={"required": ["paid"]}),
    ],
)
def test_what_rows_cannot_be(schema: Any) -> None:
    with pytest.raises(UnsupportedSchemaError, match="rows"):
        grammar({"type": "object", "properties": {"lines": schema}, "required": ["lines"]})


def stands(items: list[dict[str, Any]], lines: list[tuple[str, ...]]) -> bool:
    """Whether items stand in lines, by trying all."""
    if not items:
        return True
    return any(
        fits(items[0], lines[i], ["what", "count"]) and stands(items[1:], lines[i + 1 :])
        for i in range(len(lines))
    )


def fits(item: dict[str, Any], cells: tuple[str, ...], names: list[str]) -> bool:
    if not names:
        return True
    name, *others = names
    if name not in item:
        return fits(item, cells, others)
    return any(
        is_in(item[name], cells[i]) and fits(item, cells[i + 1 :], others)
        for i in range(len(cells))
    )


def is_in(value: Any, cell: str) -> bool:
    if isinstance(value, str):
        return value != "" and value in spans(cell, "words", ["space"])
    places = {(one.start, one.end) for one in numbers_of(cell)}
    return len(places) == 1 and any(one.value == value for one in numbers_of(cell))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b a", "1", "2", "b 2", "-", "3 b 1"]), max_size=4),
        max_size=4,
    ),
    st.randoms(),
)
def test_by_trying_all(table: list[list[str]], rng: random.Random) -> None:
    schema = rows(
        {
            "type": "object",
            "properties": {"what": {"type": "string"}, "count": {"type": "number"}},
            "additionalProperties": False,
        }
    )
    source = "\n".join("   ".join(line) for line in table)
    made = grammar(schema, source)
    lines = rows_of(source)
    for _ in range(12):
        items = []
        for _ in range(rng.randrange(4)):
            item: dict[str, Any] = {}
            if rng.random() < 0.7:
                item["what"] = rng.choice(["a", "b", "b a", "2", "1", "b 2", ""])
            if rng.random() < 0.7:
                item["count"] = rng.choice([1, 2, 3])
            items.append(item)
        assert made.accepts(json.dumps(items)) == stands(items, lines), items


def test_cells() -> None:
    assert rows_of("a b  c\t1 | 2\n---\n\n x") == [("a b", "c", "1", "2"), ("x",)]
    assert {one.value for one in number_in("GBP 1,250.50")} == {Decimal("1250.50")}
    assert number_in("2 of 3") == []
    assert number_in("none") == []
    assert {one.text for one in number_in("1 250,50")} == {"1250.50", "1", "250.50"}
