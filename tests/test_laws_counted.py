"""All laws once more, with every repetition counted instead of copied out.

Repetitions become counters above 256 states; here above two, so that counters are everyday in the
grammars of every front end.  (Those of the intermediate form are in ``test_laws_ir.py``.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
import test_laws_bags
import test_laws_gbnf
import test_laws_json_schema
import test_laws_regex
from counters import count_above
from laws import Case

from grammars.program import UNBOUNDED

Cases = Mapping[str, Callable[[], Case]]

_LIMIT = 2
"""States above which a repetition is counted."""


@pytest.fixture(autouse=True)
def counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every repetition of more than two states is counted."""
    count_above(_LIMIT, monkeypatch)


def counted(cases: Cases) -> Cases:
    """The cases in which something is counted then."""
    with pytest.MonkeyPatch.context() as patch:
        count_above(_LIMIT, patch)
        return {name: make for name, make in cases.items() if _counts(make())}


def _counts(case: Case) -> bool:
    return bool((case.grammar.program.count_limit < UNBOUNDED).any())


class TestRegex(test_laws_regex.TestRegex):
    """Python's regular expressions."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Cases] = counted(test_laws_regex.TestRegex.fixed)


class TestGbnf(test_laws_gbnf.TestGbnf):
    """GBNF (Lark's repetitions are written out by its reader)."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Cases] = counted(test_laws_gbnf.TestGbnf.fixed)


class TestJsonSchema(test_laws_json_schema.TestJsonSchema):
    """JSON Schema, uniqueness too."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Cases] = counted(test_laws_json_schema.TestJsonSchema.fixed)
    # the oracle takes a minute for these on random schemas
    test_random_no_dead_ends = None
    test_random_forced = None
    test_random_texts = None


class TestBags(test_laws_bags.TestBags):
    """Unordered groups with items that are counted."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Cases] = counted(test_laws_bags.TestBags.fixed)


class TestMemory(test_laws_bags.TestMemory):
    """Keys and items that must not repeat."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Cases] = counted(test_laws_bags.TestMemory.fixed)


@pytest.mark.parametrize("laws", [TestRegex, TestGbnf, TestJsonSchema, TestBags, TestMemory])
def test_something_is_counted(laws: type[test_laws_regex.TestRegex]) -> None:
    assert laws.fixed
