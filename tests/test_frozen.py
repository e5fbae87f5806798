"""Quickly made dataclasses are made as their authors wrote them."""

from __future__ import annotations

from copy import copy
from dataclasses import FrozenInstanceError, dataclass, field, replace
from inspect import signature

import pytest

from grammars import ir
from grammars.frontends.json_schema import assertions
from grammars.frozen import quickly_made
from grammars.frozen import replace as quick_replace


@quickly_made
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    name: str = field(default="p", compare=False)


def test_arguments_and_defaults() -> None:
    assert Point(1) == Point(x=1, y=2, name="other")
    assert repr(Point(1, 3)) == "Point(x=1, y=3, name='p')"
    assert hash(Point(1, 2, "a")) == hash(Point(1, 2, "b"))
    assert [*signature(Point).parameters] == ["x", "y", "name"]
    with pytest.raises(TypeError):
        Point()  # type: ignore[call-arg]


def test_it_stays_frozen_and_can_be_copied() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 3  # type: ignore[misc]
    assert replace(point, x=5) == Point(5)
    assert copy(point) == point


def test_what_needs_more_than_filling_is_refused() -> None:
    with pytest.raises(TypeError, match="no plain argument"):

        @quickly_made
        @dataclass(frozen=True, slots=True)
        class Listed:
            items: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="filling its slots"):

        @quickly_made
        @dataclass(frozen=True)
        class Loose:
            x: int


def test_forms_have_their_fields() -> None:
    assert ir.Seq((ir.EPSILON,)).items == (ir.EPSILON,)
    assert ir.Rule("a", ir.NOTHING).span == ir.Span()
    assert hash(ir.Repeat(ir.ANY_CHAR, 1, None)) == hash(ir.Repeat(ir.ANY_CHAR, 1, None))
    assert assertions.Branch() == assertions.FREE
    assert assertions.At("/a").env == ()


def test_copies_with_some_fields_changed() -> None:
    point = Point(1, 3, "a")
    for changes in ({}, {"x": 5}, {"y": 0, "name": "b"}):
        assert quick_replace(point, **changes) == replace(point, **changes)
        assert quick_replace(point, **changes).name == replace(point, **changes).name
    literal = ir.seq(ir.Literal(b"a"), ir.Ref("b"))
    hash(literal)
    assert isinstance(literal, ir.Seq)
    other = quick_replace(literal, items=(ir.Ref("c"),))
    assert hash(other) == hash(ir.Seq((ir.Ref("c"),)))
    with pytest.raises(TypeError):
        quick_replace(point, z=1)
