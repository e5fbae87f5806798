"""Grammars of Python types: what pydantic writes is accepted, what is sampled pydantic validates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from grammars import Grammar, GrammarError, LimitExceeded, Limits

T = TypeVar("T")
SEEDS = range(25)


class Colour(Enum):
    RED = "red"
    GREEN = 'gr"een'


class Level(IntEnum):
    LOW = 1
    HIGH = 20


class Item(BaseModel):
    name: str
    count: Annotated[int, Field(ge=0, le=99)] = 1


class Invoice(BaseModel):
    number: Annotated[str, Field(min_length=1, max_length=8)]
    items: list[Item]
    colour: Colour | None = None
    paid: bool


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    b: str | int = "x"


class Aliased(BaseModel):
    name: str = Field(alias="the name")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Chain(BaseModel):
    next: Optional[Chain]  # noqa: UP045 - both spellings are meant to work


class Even(BaseModel):
    """Recursive by way of another model."""

    odd: Odd | None


class Odd(BaseModel):
    even: Even


class Box(BaseModel, Generic[T]):
    content: T


@dataclass
class Point:
    x: int
    y: int
    label: str = "p"
    tags: list[str] = field(default_factory=list)


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Pair(NamedTuple):
    first: int
    second: str


# what -> (type, instances, texts that are refused)
TYPES: dict[str, tuple[Any, list[Any], list[str]]] = {
    "int": (int, [0, -3, 10**30], ["1.5", '"1"', "01", "true", "null", ""]),
    "float": (float, [0.0, -1.5, 1e300, 2.5e-7], ['"1"', "NaN", "1."]),
    "bool": (bool, [True, False], ["1", "True"]),
    "str": (str, ["", 'a"b', "é\n\u2028\U0001f600", "\\"], ["a", '"\n"', '"']),
    "None": (None, [None], ["nul", "0"]),
    "list[int]": (list[int], [[], [1], [1, -2, 3]], ["[1,]", '["1"]', "{}"]),
    "list with constraints": (
        Annotated[list[Annotated[int, Field(ge=1, lt=5)]], Field(min_length=1, max_length=3)],
        [[1], [4, 4, 1]],
        ["[]", "[0]", "[5]", "[1,1,1,1]"],
    ),
    "integer in a range": (
        Annotated[int, Field(ge=-5, le=120)],
        [-5, 0, 120],
        ["-6", "121", "1200", "-0.5"],
    ),
    "float above": (Annotated[float, Field(gt=0.5)], [0.75, 12.0], ["0.5", "0.25", "-1"]),
    "multiple": (Annotated[int, Field(multiple_of=5)], [0, 5, -25], ["3", "12"]),
    "pattern": (Annotated[str, Field(pattern=r"^[a-z]+\d$")], ["a1", "xyz0"], ['"a"', '"A1"']),
    "length": (Annotated[str, Field(max_length=2)], ["", "é", "ab"], ['"abc"']),
    "Literal": (
        Literal["yes", "no", 3, True, None],
        ["yes", "no", 3, True, None],
        ['"maybe"', "4", "false", ""],
    ),
    "Enum": (Colour, list(Colour), ['"RED"', '"blue"']),
    "IntEnum": (Level, list(Level), ["2", '"1"']),
    "Optional": (Optional[int], [None, 3], ['"3"', "nul"]),  # noqa: UP045
    "union": (int | str | list[bool], [1, "a", [True]], ["null", "[1]", "{}"]),
    "dict[str, int]": (dict[str, int], [{}, {"a": 1}, {"": 0, "é": -2}], ['{"a":"b"}', "{1:2}"]),
    "dict[str, list]": (dict[str, list[str]], [{}, {"a": ["b"]}], ['{"a":1}']),
    "tuple[int, str]": (tuple[int, str], [(1, "a")], ["[1]", '["a",1]', '[1,"a",2]', "[]"]),
    "tuple[int, ...]": (tuple[int, ...], [(), (1, 2, 3)], ['["a"]']),
    "NamedTuple": (Pair, [Pair(1, "a")], ["[1]", '["a",1]']),
    "nested models": (
        Invoice,
        [
            Invoice(number="7", items=[], paid=True),
            Invoice(number="A-1", items=[Item(name="tea")], paid=False, colour=Colour.GREEN),
        ],
        ["{}", '{"number":"","items":[],"paid":true}', '{"number":"1","items":[{}],"paid":true}'],
    ),
    "list of models": (list[Item], [[], [Item(name="a"), Item(name="b", count=99)]], ["[{}]"]),
    "closed model": (
        Closed,
        [Closed(a=1), Closed(a=-1, b=2)],
        ['{"a":1,"c":2}', '{"b":1}', '{"a":null}'],
    ),
    "alias": (Aliased, [Aliased(**{"the name": "x"})], ['{"name":"x"}']),
    "tree": (
        Tree,
        [Tree(value=1), Tree(value=1, children=[Tree(value=2, children=[Tree(value=3)])])],
        ['{"value":1,"children":[3]}', "{}"],
    ),
    "chain": (Chain, [Chain(next=None), Chain(next=Chain(next=None))], ["{}", '{"next":{}}']),
    "models that need each other": (
        Even,
        [Even(odd=None), Even(odd=Odd(even=Even(odd=None)))],
        ['{"odd":{}}', '{"odd":{"even":{}}}'],
    ),
    "generic model": (Box[list[int]], [Box[list[int]](content=[1])], ['{"content":["a"]}']),
    "dataclass": (
        Point,
        [Point(1, 2), Point(0, -1, "q", ["a"])],
        ['{"x":1}', '{"x":1,"y":"2"}'],
    ),
    "TypedDict": (
        Person,
        [{"name": "Ada"}, {"name": "Bob", "age": 3}],
        ["{}", '{"age":3}', '{"name":3}'],
    ),
    "list of TypedDict": (list[Person], [[], [{"name": "Ada"}]], ["[{}]"]),
}

GRAMMARS: dict[str, Grammar] = {}


def grammar_of(name: str) -> Grammar:
    if name not in GRAMMARS:
        GRAMMARS[name] = Grammar.from_type(TYPES[name][0])
    return GRAMMARS[name]


@pytest.mark.parametrize("name", TYPES)
def test_what_pydantic_writes_is_accepted(name: str) -> None:
    tp, instances, refused = TYPES[name]
    adapter: TypeAdapter[Any] = TypeAdapter(tp)
    grammar = grammar_of(name)
    for instance in instances:
        data = adapter.dump_json(instance, by_alias=True)
        indented = adapter.dump_json(instance, by_alias=True, indent=2)
        spaced = json.dumps(json.loads(data))
        for text in (data, indented, spaced):
            assert grammar.accepts(text), f"{text!r}: {grammar.explain(text)}"
        if isinstance(instance, BaseModel):
            assert grammar.accepts(instance.model_dump_json(by_alias=True))
    for bad in refused:
        assert not grammar.accepts(bad), bad


@pytest.mark.parametrize("name", TYPES)
def test_what_is_sampled_validates(name: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name][0])
    grammar = grammar_of(name)
    for seed in SEEDS:
        text = grammar.sample(seed)
        assert grammar.accepts(text)
        adapter.validate_json(text, strict=False)


@pytest.mark.parametrize("name", TYPES)
def test_what_validates_and_is_written_again_is_accepted(name: str) -> None:
    """Sampled texts survive a round through the type, whatever their spelling was."""
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name][0])
    grammar = grammar_of(name)
    for seed in SEEDS[:8]:
        again = adapter.dump_json(adapter.validate_json(grammar.sample(seed)), by_alias=True)
        assert grammar.accepts(again), f"{again!r}: {grammar.explain(again)}"


def test_equal_types_give_equal_grammars() -> None:
    assert Grammar.from_type(list[int]) == Grammar.from_type(list[int])
    assert Grammar.from_type(list[int]) != Grammar.from_type(list[str])


# --- types without a JSON form --------------------------------------------------------------------


class Plain:
    """No type that pydantic knows."""


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    plain: Plain


@pytest.mark.parametrize(
    "tp", [Plain, list[Plain], Callable[[], int], Holder, dict[str, Plain]], ids=str
)
def test_types_without_a_json_form(tp: Any) -> None:
    with pytest.raises(GrammarError) as caught:
        Grammar.from_type(tp)
    name = tp.__name__ if isinstance(tp, type) and not hasattr(tp, "__args__") else str(tp)
    assert name in str(caught.value)
    assert "JSON" in str(caught.value)


@pytest.mark.parametrize("tp", [3, [1, 2], {"type": "null"}], ids=str)
def test_values_that_are_no_types(tp: Any) -> None:
    with pytest.raises(GrammarError, match="JSON"):
        Grammar.from_type(tp)


class Unresolved(BaseModel):
    other: Missing  # type: ignore[name-defined]  # noqa: F821


def test_a_name_that_is_defined_nowhere() -> None:
    with pytest.raises(GrammarError, match=r"Unresolved: the type '\w+' is not defined; define it"):
        Grammar.from_type(Unresolved)


def test_a_default_that_json_cannot_write_is_no_obstacle() -> None:
    """A default says nothing about the texts."""

    class Defaulted(BaseModel):
        amount: int = Field(default_factory=lambda: 3)
        plain: Any = Decimal("1.5")

    assert Grammar.from_type(Defaulted).accepts("{}")


def test_limits() -> None:
    with pytest.raises(LimitExceeded, match=r"Limits\.max_dfa_states = 3"):
        Grammar.from_type(Invoice, limits=Limits(max_dfa_states=3))
