"""The law of types: what a grammar writes, pydantic validates; what it cannot keep, it says."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re
import warnings
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NotRequired, Union

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainValidator,
    SkipValidation,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    field_validator,
)
from pydantic_core import core_schema
from type_table import REFUSED, TYPES, Allowing, Invoice, Item, Meeting, Person, Point
from typing_extensions import TypeAliasType, TypedDict

from grammars import Grammar, GrammarError, LimitExceeded, Limits, UnkeptConstraintWarning

SAMPLES = range(60)

_grammars: dict[str, Grammar] = {}


def grammar_of(name: str) -> Grammar:
    if name not in _grammars:
        _grammars[name] = Grammar.from_type(TYPES[name])
    return _grammars[name]


def is_valid(adapter: TypeAdapter[Any], text: str | bytes) -> bool:
    try:
        adapter.validate_json(text)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", TYPES)
def test_what_is_written_validates(name: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name])
    grammar = grammar_of(name)
    for seed in SAMPLES:
        text = grammar.sample(seed)
        adapter.validate_json(text)
        assert grammar.accepts(text)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_an_error_with_the_place(name: str) -> None:
    tp, message = REFUSED[name]
    with pytest.raises(GrammarError, match=message):
        Grammar.from_type(tp)


# -- types made of types ---------------------------------------------------------------------------


def composed(draw: random.Random, depth: int = 2) -> Any:
    """A type made of types of the table."""

    def part() -> Any:
        return composed(draw, depth - 1)

    if depth == 0:
        return TYPES[draw.choice(list(TYPES))]
    match draw.randrange(8):
        case 0:
            return list[part()]  # type: ignore[misc]
        case 1:
            return dict[str, part()]  # type: ignore[misc]
        case 2:
            return part() | None
        case 3:
            return tuple[part(), part()]  # type: ignore[misc]
        case 4:
            return Union[part(), part()]  # noqa: UP007 - some parts have no operator
        case 5:
            return Json[part()]
        case 6:
            return Annotated[list[part()], Field(min_length=1, max_length=2)]  # type: ignore[misc]
    fields: dict[str, Any] = {"a": (part(), ...), "b": (part() | None, None)}
    return create_model(
        "Made", **fields, __config__=ConfigDict(extra=draw.choice(["ignore", "allow"]))
    )


@pytest.mark.parametrize("seed", range(40))
def test_types_made_of_types(seed: int) -> None:
    tp = composed(random.Random(seed))
    try:
        grammar = Grammar.from_type(tp)
    except GrammarError as error:
        assert "min_length above 1" in str(error), error  # noqa: PT017 - inside Json
        return
    adapter: TypeAdapter[Any] = TypeAdapter(tp)
    for number in range(20):
        adapter.validate_json(grammar.sample(number))


# -- normal spellings ------------------------------------------------------------------------------

A_UUID = "12345678-1234-4234-8234-123456789abc"
WRITTEN: dict[str, list[str]] = {
    "int": ["0", "-3", "16", "1" * 40],
    "float": ["1", "1.5", "-2e-7", "1.0", "1.5e+300"],
    "float positive": ["0.1", "1e-300", "5e-324"],
    "float multiple": ["0.25", "1.5", "-3"],
    "Decimal": ["1", "1.50", '"1.50"', '"-3"', "12.5", '"1E+5"'],
    "Decimal with digits": ['"1.10"', "1.1", "123", '"999.99"', "999.99"],
    "Decimal with 18 digits": ['"0"', '"123456789012345678"', "123456789012345678", '"0.5"'],
    "Fraction": ['"1/2"', "0.5", '"-3/4"', '"1.5"', "3"],
    "complex": ['"1+2j"', '"(1+2j)"', "1.5", '"2j"', '"-1.5e3-2j"'],
    "date": ['"2020-02-29"', '"0001-01-01"', '"9999-12-31"'],
    "datetime": [
        '"2020-01-01T00:00:00"',
        '"2020-01-01T00:00:00Z"',
        '"2020-01-01 10:00:00"',
        '"2020-01-01T10:00"',
        '"2020-01-01T10:00:00.123456+01:00"',
        '"2020-01-01T10:00:00.5"',
        '"0001-01-01T00:00:00+23:59"',
    ],
    "naive datetime": ['"2020-01-01T00:00:00"'],
    "aware datetime": ['"2020-01-01T00:00:00Z"', '"2020-01-01T00:00:00-05:30"'],
    "datetime from": [
        '"2020-02-29T12:30:15.25"',
        '"2020-02-29T12:30:15.3Z"',
        '"2021-01-01T00:00:00"',
    ],
    "datetime in UTC": ['"2020-06-01T00:00:00Z"', '"2020-06-01 00:00:00+00:00"'],
    "time": ['"10:00:00"', '"10:00"', '"10:00:00Z"', '"10:00:00.5+01:00"'],
    "timedelta": ['"P1DT2H"', '"PT0.5S"', '"-P1D"', '"P3W"', '"PT36H"', '"PT0S"'],
    "timedelta above": ['"PT1H1S"', '"PT1H0.000001S"', '"P1D"', '"P1DT0S"'],
    "timedelta in a range": ['"PT1M30S"', '"-P1D"', '"PT0S"', '"-P1DT23H59M55S"'],
    "UUID": [f'"{A_UUID}"', f'"{A_UUID.upper()}"'],
    "UUID4": [f'"{A_UUID}"'],
    "HttpUrl": [
        '"https://example.com"',
        '"http://a.b/c?d=e#f"',
        '"http://user:pw@h.com:80/"',
        '"http://localhost:8000/x"',
        '"https://www.example.co.uk/a-b/c_d"',
        '"http://127.0.0.1"',
        '"http://[::1]:8/"',
    ],
    "AnyUrl": ['"mailto:a@b.c"', '"https://example.com"', '"urn:isbn:123"', '"file:///a/b"'],
    "PostgresDsn": [
        '"postgresql://u:p@localhost:5432/db"',
        '"postgresql+asyncpg://u@h1:1,h2:2/db"',
    ],
    "IPv4Network": ['"10.0.0.0/8"', '"192.168.1.0/24"', '"1.2.3.4/32"', '"1.2.3.4"'],
    "IPv6Network": ['"2001:db8::/32"', '"::/0"', '"::1/128"', '"fe80::/10"'],
    "IPv4Interface": ['"10.1.2.3/8"', '"10.1.2.3"'],
    "IPvAnyAddress": ['"1.2.3.4"', '"::1"'],
    "Pattern": [
        json.dumps(pattern)
        for pattern in (
            r"^\d{3}-[a-z]+$",
            "a|b",
            "(ab)+c?",
            "[A-Za-z_][A-Za-z0-9_]*",
            r"(\d+)\.(\d+)",
            "(?:a(b(c)))",
        )
    ],
    "Base64Str": ['"aGVsbG8="', '""', '"w6k="', '"YQ=="'],
    "Base64Bytes": ['"/w=="', '"YWJj"', '""'],
    "bytes in base64": ['{"raw":"YQ==","short":"YWJj"}'],
    "ByteSize": ['"1GB"', '"1.5 MiB"', '"10"', '"20kb"'],
    "Path": ['"/a/b.txt"', '""'],
    "ZoneInfo": ['"Europe/Zurich"', '"UTC"'],
    "Literal": ['"yes"', "3", "true", "null"],
    "Enum": ['"red"', "3", "1.5", "null"],
    "Flag": ["1", "2"],
    "Json[list[int]]": ['"[1,-2]"', '"[]"'],
    "Json[model]": [
        json.dumps(json.dumps(value, separators=(",", ":")))
        for value in (
            {
                "number": 'a"\\',
                "items": [{"name": "é\n"}],
                "due": "2020-01-01",
                "total": 1,
                "paid": True,
            },
        )
    ],
    "dict[int, str]": ['{"1":"a","2":"b"}', '{"1":"a","-20":""}'],
    "dict[IntEnum, int]": ['{"1":3,"20":4}'],
    "dict[Literal, int]": ['{"a":3}', "{}"],
    "dict[date, int]": ['{"2020-01-01":3}'],
    "aliases and names": [
        '{"the name":"x","AGE":3}',
        '{"name":"x","age":3}',
        '{"name":"x","AGE":3}',
    ],
    "aliases to choose from": [
        '{"first":"x","other":1}',
        '{"names":["x",3],"other":1}',
        '{"names":["x"],"another":2}',
        '{"first":"x","meta":{"deep":true},"other":1}',
    ],
    "allowing model with a type": ['{"A":"x","more":3}', '{"a":"x"}'],
    "NamedTuple": ["[1]", '[1,"a"]'],
    "str stripped": ['"ab"', '"a b"'],
    "set of models": ['[{"a":1,"b":null}]'],
    "Counter": ['{"a":1}'],
    "discriminated union": ['{"kind":"cat"}', '{"kind":"wolf","name":"x"}'],
    "discriminated union by an alias": ['{"K":1}', '{"K":2}'],
    "dataclass with InitVar": ['{"x":1,"seed":2}'],
}
"""Texts that pydantic takes and that are written."""

COERCED: dict[str, list[str]] = {
    "int": ["1.0", '"1"', "true"],
    "float": ['"1.5"', "true"],
    "bool": ["1", '"yes"', '"true"'],
    "Decimal": ['" 1 "', '"1_0"', '"٣"'],
    "date": ['"2020-01-01T00:00:00"', "1577836800"],
    "datetime": [
        '"2020-01-01"',
        "1577836800",
        '"2020-01-01T10:00:00,5"',
        '"2020-01-01T10:00:00+0130"',
    ],
    "time": ["3600", '"10:00:00.1234567"'],
    "timedelta": ["5", '"1 day, 10:00:00"', '"+P1D"', '"P1Y"'],
    "UUID": ['"12345678123442348234123456789abc"', f'"urn:uuid:{A_UUID}"'],
    "IPv4Address": ["16909060"],
    "IPv4Network": ['"10.0.0.0/255.0.0.0"'],
    "IntEnum": ["1.0", '"1"', "true"],
    "NamedTuple": ['{"first":1}'],
    "ByteSize": ["5", '"1kbit"'],
    "dict[int, str]": ['{"01":"a","2":"b"}', '{"1.0":"a","2":"b"}'],
    "model": [
        '{"number":"1","items":[],"due":"2020-01-01","total":1,"paid":true,"title":"Invoice"}',
    ],
    "set[int]": ["[1,1,2]"],
    "Base64Bytes": ['"Y!Q=="', '"YR=="'],
    "Pattern": ['"(?P<a>b)(?P=a)"'],
}
"""Texts that pydantic takes, by a coercion or from habit, and that are not written."""

WRONG: dict[str, list[str]] = {
    "StrictInt": ["1.0", "1e3"],
    "float finite": ["1e309", "1" * 400],
    "float above": ["0.5", "0.50000000000000000000001"],
    "float positive": ["0", "1e-400", "0.0"],
    "Decimal with 18 digits": ['""', '"1234567890123456789"', "1234567890123456789"],
    "Decimal with digits": ["1.001", "1000", '"1e3"', '"1.001"'],
    "Fraction": ['"1/0"', '""', '"1 / 2"'],
    "complex": ['""', '"1 + 2j"'],
    "date": ['"0000-01-01"', '"2020-02-30"', '"2020-1-1"'],
    "date after": ['"2024-01-01"', '"2023-12-31"'],
    "datetime": [
        '"2020-01-01T23:59:60"',
        '"2020-01-01T24:00:00"',
        '"2020-01-01T10:00:00+24:00"',
        '"2020-01-01T10"',
    ],
    "naive datetime": ['"2020-01-01T00:00:00Z"'],
    "aware datetime": ['"2020-01-01T00:00:00"'],
    "datetime from": [
        '"2020-02-29T12:30:15.2"',
        '"2020-02-29T12:30"',
        '"2020-02-29T12:30:15.249999"',
    ],
    "datetime in UTC": ['"2020-01-01T00:00:00Z"', '"2021-01-01T00:00:00Z"'],
    "time": ['"24:00"', '"23:59:60"'],
    "timedelta": ['"P"', '"PT"', '"P1D2H"', '"P-1D"'],
    "timedelta above": ['"PT1H"', '"PT59M"', '"-P1D"'],
    "UUID4": [f'"{A_UUID[:14]}1{A_UUID[15:]}"', f'"{A_UUID[:19]}c{A_UUID[20:]}"'],
    "UUID7": [f'"{A_UUID}"'],
    "HttpUrl": ['"ftp://a"', '"http://a:99999"', '"http://a.1"', '"http://xn--a.b"', '"a"', '""'],
    "IPv4Network": ['"10.1.0.0/8"', '"10.0.0.0/33"'],
    "IPv6Network": ['"2001:db8::1/32"'],
    "Pattern": ['"a("', '"["', '"*"'],
    "Base64Str": ['"YQ"', '"/w=="', '"a"'],
    "Base64Bytes": ['"YQ"', '"a-_9"'],
    "ByteSize": ['"1x"', '"1e5"', "-1"],
    "Json[list[int]]": ["[1]", '"[1"', '"{}"', '"[\\"a\\"]"'],
    "dict[int, str]": ['{"x":"a","2":"b"}', '{"1":"a"}'],
    "forbidding model": ['{"a":1,"c":2}', '{"b":1}'],
    "aliases to choose from": ['{"first":"x"}', '{"names":[],"other":1}'],
    "discriminated union": ['{"name":"x"}', '{"kind":"wolf"}', '{"kind":"cow"}'],
    "str stripped": ['" a"', '"a "', '"  "'],
    "set of tuples": ["[[1,[2]]]", '[[1,{"a":1}]]'],
    "Hashable": ["[1]", "{}"],
    "str with Rust's classes": ['"1ak"', '"aa"'],
    "str by Python's re": ['{"a":"b","b":"x1"}'],
}
"""Texts that neither takes."""


def cases(table: dict[str, list[str]]) -> list[Any]:
    return [
        pytest.param(name, text, id=f"{name} {text[:40]}")
        for name, texts in table.items()
        for text in texts
    ]


@pytest.mark.parametrize(("name", "text"), cases(WRITTEN))
def test_normal_spellings_are_written(name: str, text: str) -> None:
    assert is_valid(TypeAdapter(TYPES[name]), text), "the table is wrong"
    assert grammar_of(name).accepts(text), str(grammar_of(name).explain(text))


@pytest.mark.parametrize(("name", "text"), cases(COERCED))
def test_coercions_are_not_written(name: str, text: str) -> None:
    assert is_valid(TypeAdapter(TYPES[name]), text), "the table is wrong"
    assert not grammar_of(name).accepts(text)


@pytest.mark.parametrize(("name", "text"), cases(WRONG))
def test_what_pydantic_refuses_is_refused(name: str, text: str) -> None:
    assert not is_valid(TypeAdapter(TYPES[name]), text), "the table is wrong"
    assert not grammar_of(name).accepts(text)


# -- bounds, drawn at random, with pydantic as the judge -------------------------------------------


def compare(tp: Any, texts: Iterator[str], *, exact: bool = True) -> None:
    """What the grammar takes is valid, and if ``exact`` the reverse too."""
    grammar, adapter = Grammar.from_type(tp), TypeAdapter(tp)
    for text in texts:
        ours, theirs = grammar.accepts(text), is_valid(adapter, text)
        assert ours == theirs or (theirs and not exact), f"{tp}: {text}"


def bounded(kind: Any, draw: random.Random, value: Any) -> Any:
    key = draw.choice(["ge", "gt", "le", "lt"])
    return Annotated[kind, Field(**{key: value})]


@pytest.mark.parametrize("seed", range(12))
def test_bounds_of_floats_hold_for_the_double(seed: int) -> None:
    draw = random.Random(seed)
    bound = draw.choice([0.0, 0.5, -0.1, 1e-7, 3e20, draw.uniform(-9, 9), draw.gauss(0, 1e5)])
    near = [
        math.nextafter(bound, math.inf),
        math.nextafter(bound, -math.inf),
        bound,
        -bound,
        bound + 1,
    ]
    tp = bounded(float, draw, bound)
    compare(tp, (json.dumps(x) for x in near))
    between = [(Decimal(near[0]) + Decimal(bound)) / 2, (Decimal(near[1]) + Decimal(bound)) / 2]
    slightly = [
        x + sign * Decimal(1).scaleb(-400) for x in (Decimal(bound), *between) for sign in (-1, 1)
    ]
    compare(tp, (f"{x:f}" for x in (*between, *slightly)), exact=False)


@pytest.mark.parametrize("seed", range(12))
def test_digits_of_decimals(seed: int) -> None:
    draw = random.Random(seed)
    most, places = draw.randint(1, 6), draw.choice([None, 0, 1, 2, 4])
    if places is not None:
        most = max(most, places)
    rules: dict[str, Any] = {"max_digits": most, "decimal_places": places}
    if draw.random() < 0.5:
        rules["ge"] = Decimal(draw.randint(-50, 50)).scaleb(-1)
    tp = Annotated[Decimal, Field(**{k: v for k, v in rules.items() if v is not None})]
    numbers = []
    for _ in range(60):
        number = Decimal(draw.randint(-(10**5), 10**5)).scaleb(-draw.randint(0, 5))
        numbers.append(f"{number:f}")
    compare(tp, (text for n in numbers for text in (n, f'"{n}"')), exact=False)
    # without zeros at the end of the fraction it is the same language
    short = [n.rstrip("0").rstrip(".") if "." in n else n for n in numbers]
    compare(tp, (text for n in short for text in (n, f'"{n}"')))


def moments(draw: random.Random, bound: dt.datetime) -> Iterator[dt.datetime]:
    for _ in range(40):
        step = draw.choice([0, 1, -1, 1000, 10**6, -(10**6), 10**9, 10**12, -(10**13)])
        yield bound + dt.timedelta(microseconds=step * draw.randint(0, 9))


@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_times(seed: int) -> None:
    draw = random.Random(seed)
    micro = draw.choice([0, 0, 1, 250_000, 999_999, 120])
    bound = dt.datetime(2000, 2, 28, 23, 59, draw.randint(0, 59), micro)
    texts = [f'"{m.isoformat(timespec="microseconds")}"' for m in moments(draw, bound)]
    texts += [f'"{m.isoformat(timespec="seconds")}"' for m in moments(draw, bound)]
    compare(bounded(dt.datetime, draw, bound), iter([*texts, *(f'{t[:-1]}Z"' for t in texts)]))
    compare(
        bounded(dt.datetime, draw, bound.replace(tzinfo=dt.UTC)), (f'{t[:-1]}Z"' for t in texts)
    )
    east = bound.replace(tzinfo=dt.timezone(dt.timedelta(hours=draw.randint(-12, 12))))
    compare(bounded(dt.datetime, draw, east), (f'{t[:-1]}Z"' for t in texts))
    compare(bounded(dt.time, draw, bound.time()), ('"' + t[12:] for t in texts))
    compare(bounded(dt.date, draw, bound.date()), (t[:11] + '"' for t in texts))


@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_durations(seed: int) -> None:
    draw = random.Random(seed)
    micro = draw.choice([0, 1, 10**6, 90 * 10**6, 3600 * 10**6, 86_400 * 10**6 + 5]) * draw.randint(
        -3, 3
    )
    tp = bounded(dt.timedelta, draw, dt.timedelta(microseconds=micro))
    steps = [0, 1, -1, 10**6, -(10**6), 60 * 10**6, 3600 * 10**6, 86_400 * 10**6]
    values = [dt.timedelta(microseconds=micro + s * n) for s in steps for n in (1, 2, 59)]
    write = TypeAdapter(dt.timedelta).dump_json
    compare(tp, (write(v).decode() for v in values))


# -- objects are closed ----------------------------------------------------------------------------

MORE = '"title":"x"'


@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (Item, '{"name":"a"}'),
        (Person, '{"name":"a"}'),
        (Point, '{"x":1,"y":2}'),
        (list[Item], '[{"name":"a"}]'),
        (dict[str, Item], '{"k":{"name":"a"}}'),
    ],
)
def test_objects_are_closed_unless_asked(tp: Any, text: str) -> None:
    more = re.sub(r"}(\]?}?)$", rf",{MORE}}}\1", text)
    if more.count("}") == 2:  # inside the dictionary
        more = text.replace("}}", f",{MORE}}}}}")
    closed, opened = Grammar.from_type(tp), Grammar.from_type(tp, extra="ignore")
    assert closed.accepts(text)
    assert opened.accepts(text)
    assert not closed.accepts(more)
    assert opened.accepts(more), str(opened.explain(more))


def test_what_the_type_says_of_other_keys_goes_first() -> None:
    allowing = Grammar.from_type(Allowing)
    assert allowing.accepts('{"a":1,"inner":{"name":"x"},"more":[1]}')
    assert not allowing.accepts('{"a":1,"inner":{"name":"x","more":1}}')
    forbidding = Grammar.from_type(TYPES["forbidding model"], extra="ignore")
    assert not forbidding.accepts('{"a":1,"c":2}')


def test_open_objects_are_valid_too() -> None:
    """Other keys are none that pydantic would read as a field."""
    for name in ("aliases and names", "aliases to choose from", "model", "TypedDict", "dataclass"):
        grammar = Grammar.from_type(TYPES[name], extra="ignore")
        adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name])
        for seed in SAMPLES:
            adapter.validate_json(grammar.sample(seed))


# -- what only functions know ----------------------------------------------------------------------


class Checked(BaseModel):
    name: Annotated[str, Field(max_length=3)]

    @field_validator("name")
    @classmethod
    def fine(cls, value: str) -> str:
        return value


def test_validators_are_refused_warned_about_or_ignored() -> None:
    with pytest.raises(GrammarError, match=r'Checked\.name: .*fine.*validators="ignore"'):
        Grammar.from_type(Checked)
    with pytest.warns(UnkeptConstraintWarning, match=r"Checked\.name: .*fine"):
        warned = Grammar.from_type(Checked, validators="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignored = Grammar.from_type(Checked, validators="ignore")
    assert warned == ignored
    assert ignored.accepts('{"name":"abc"}')
    assert not ignored.accepts('{"name":"abcd"}'), "what the type says besides is kept"


def test_all_that_is_not_kept_is_named_at_once() -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.from_type(Meeting)
    assert "Meeting.people[].name" in str(caught.value)
    assert "Meeting.when" in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("validators", "no"), ("extra", "allow")])
def test_options_that_are_none(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"{key}='{value}': must be one of"):
        Grammar.from_type(int, **{key: value})  # type: ignore[arg-type]


class Described:
    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(lambda value: value)

    @classmethod
    def __get_pydantic_json_schema__(cls, _core: Any, _handler: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": "^my$"}


@pytest.mark.parametrize(
    ("tp", "good", "bad"),
    [
        (Described, '"my"', '"no"'),
        (Annotated[Any, PlainValidator(int), WithJsonSchema({"type": "integer"})], "3", '"3"'),
        (Annotated[Any, PlainValidator(int, json_schema_input_type=int)], "3", '"3"'),
        (Annotated[int, WithJsonSchema({"type": "integer", "maximum": 5})], "5", "6"),
        (Annotated[str, Field(json_schema_extra={"pattern": "^a+$"})], '"aa"', '"b"'),
        (SkipValidation[int], "3", '"3"'),
    ],
)
def test_what_people_say_of_the_json_of_a_type_holds(tp: Any, good: str, bad: str) -> None:
    grammar = Grammar.from_type(tp, validators="ignore")
    assert grammar.accepts(good), str(grammar.explain(good))
    assert not grammar.accepts(bad)


class Undescribed:
    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(lambda value: value)


def test_a_validator_without_a_json_form() -> None:
    with pytest.raises(GrammarError, match=r"json_schema_input_type=.*WithJsonSchema"):
        Grammar.from_type(Undescribed, validators="ignore")


class BadDefault(BaseModel):
    model_config = ConfigDict(validate_default=True)
    a: int = "x"  # type: ignore[assignment]
    b: int = 3


def test_a_field_whose_default_is_not_valid_is_written() -> None:
    grammar = Grammar.from_type(BadDefault)
    assert grammar.accepts('{"a":1}')
    assert not grammar.accepts("{}")


def test_limits_name_the_field() -> None:
    class Stepped(BaseModel):
        n: Annotated[int, Field(multiple_of=10**9 + 7)]

    with pytest.raises(LimitExceeded, match=r"Stepped\.n.*max_dfa_states"):
        Grammar.from_type(Stepped)
    with pytest.raises(LimitExceeded, match=r"max_dfa_states = 3"):
        Grammar.from_type(Invoice, limits=Limits(max_dfa_states=3))


def test_a_pattern_that_is_not_translated_names_the_field() -> None:
    class Bounded(BaseModel):
        word: Annotated[str, Field(pattern=r"\b{start}a")]

    with pytest.raises(GrammarError, match=r"Bounded\.word: in the pattern .*column 1"):
        Grammar.from_type(Bounded)


def test_fractions_of_bounds_that_are_no_decimals() -> None:
    tp = Annotated[Fraction, Field(gt=Fraction(1, 3), le=Fraction(2, 3))]
    compare(tp, iter(["0.33", "0.34", "0.66", "0.67", '"0.5"', "1", '"0.3333333333"']))


def test_members_that_json_cannot_find_are_left_out() -> None:
    grammar = Grammar.from_type(Literal["a", b"b", 3])
    assert grammar.accepts('"a"')
    assert not grammar.accepts('"b"')


# -- one name, several configurations --------------------------------------------------------------


class Nested(TypedDict):
    name: str
    deeper: NotRequired[Nested]


Shared = TypeAliasType("Shared", list[str])


class Filled(BaseModel):
    model_config = ConfigDict(str_min_length=1)
    part: Nested
    words: Shared


class Short(BaseModel):
    model_config = ConfigDict(str_max_length=2)
    part: Nested
    words: Shared


class Mixed(BaseModel):
    filled: Filled
    short: Short
    part: Nested
    words: Shared


@pytest.mark.parametrize("word", ["", "abc"])
@pytest.mark.parametrize("path", ["filled", "short", ""])
@pytest.mark.parametrize("inside", ["part", "part.deeper", "words"])
def test_a_type_takes_the_configuration_of_where_it_stands(
    path: str, inside: str, word: str
) -> None:
    def value() -> dict[str, Any]:
        return {"part": {"name": "a", "deeper": {"name": "a"}}, "words": []}

    whole: dict[str, Any] = {"filled": value(), "short": value(), **value()}
    at: Any = whole[path] if path else whole
    for key in inside.split("."):
        at = at[key]
    if isinstance(at, list):
        at.append(word)
    else:
        at["name"] = word
    compare(Mixed, iter([json.dumps(whole)]))
