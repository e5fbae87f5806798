"""What the comparison with other engines' tests reads of their sources."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grammars import SpecialToken


@pytest.fixture(scope="module")
def suites() -> Iterator[Any]:
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("other_suites")
    sys.path.remove(folder)


_CPP = r'''
static void test_grammar(const std::string & a) { }
static void all() {
    test_grammar(  // with tokens
        "a" " name",
        R"""(root ::= <[10]> "x" !<[11]>*)""",
        { token(10) + "x" "\n\x41" + token(11), "", R"""("y")""" },
        { helper(1) }
    );
    test_schema("s", R"({"type": "integer"})", { "1", "-0" }, { "01", });
}
'''


def test_calls_of_a_cpp_source(suites: Any) -> None:
    (_, first, line), (name, second, _) = suites.Cpp(_CPP).calls("test_grammar|test_schema")
    assert line == 4
    assert first[:2] == [("a name",), ('root ::= <[10]> "x" !<[11]>*',)]
    assert first[2] == [(SpecialToken("[10]"), "x\nA", SpecialToken("[11]")), ("",), ('"y"',)]
    assert first[3] == [None]
    assert (name, second[3]) == ("test_schema", [("01",)])


def test_what_cannot_be_read_is_counted(suites: Any) -> None:
    suite = suites._integration(_CPP, "x.cpp", "gbnf")
    assert suite.unread == {"test_grammar": 1}
    assert [(case.kind, case.text) for case in suite.cases] == [
        ("accept", ("1",)),
        ("accept", ("-0",)),
        ("refuse", ("01",)),
    ]
    assert [suites.verdict(case)[0] for case in suite.cases] == ["agree"] * 3


@pytest.mark.parametrize(
    ("schema", "text", "kind", "wanted"),
    [
        ({"type": "integer"}, "1", "accept", "agree"),
        ({"type": "integer"}, "1", "refuse", "choice"),
        ({"type": "integer"}, '"1"', "accept", "choice"),
        ({"type": "string", "format": "time"}, '"15:30:00"', "accept", "choice"),
        ({"type": "array"}, "[ \n\n 1]", "accept", "choice"),
        ({"type": "nothing"}, "1", "refuse", "refused"),
    ],
)
def test_differences_are_judged_by_a_reference(
    suites: Any, schema: Any, text: str, kind: str, wanted: str
) -> None:
    case = suites.Case("term", json.dumps(["schema", schema]), kind, (text,))
    assert suites.verdict(case)[0] == wanted


def test_wrong_is_what_no_reference_explains(suites: Any) -> None:
    assert suites.verdict(suites.Case("gbnf", 'root ::= "a"', "accept", ("b",)))[0] == "wrong"
    assert suites.verdict(suites.Case("gbnf", 'root ::= "a"', "bad"))[0] == "wrong"


def test_conversions_are_compared_by_the_texts_they_write(suites: Any) -> None:
    tree = json.dumps(["schema", {"enum": [1, 2]}])
    same, fewer = 'root ::= "1" | " 2"', 'root ::= "1" | "3"'
    assert suites.verdict(suites.Case("term", tree, "same", (same,)))[0] == "agree"
    assert suites.verdict(suites.Case("term", tree, "same", (fewer,)))[0] == "choice"
