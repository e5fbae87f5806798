"""Findings about grammars: one table for each kind of text."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from grammars import Grammar
from grammars.files import Kind
from grammars.frontends.lark.unused import unused_names
from grammars.grammar import grammar_of
from grammars.lint import LintReport, lint
from grammars.writing.formatting import formatted


def report_of(text: str, kind: Kind) -> LintReport:
    return lint(text, kind, lambda: grammar_of(text, kind, path=None))[0]


SCHEMAS: list[tuple[Any, list[tuple[str, str | None]]]] = [
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, []),
    ({"type": "integer", "minLength": 1}, [("idle", "/minLength")]),
    ({"type": ["string", "null"], "minLength": 1}, []),
    ({"type": "number", "minimum": 3, "maximum": 2}, [("empty", None), ("contradiction", "")]),
    ({"type": "string", "minLenght": 2}, [("unknown-keyword", "/minLenght")]),
    ({"type": "string", "x-ui": 2}, []),
    ({"type": "string", "format": "date_time"}, [("idle", "/format")]),
    ({"then": {"type": "string"}}, [("idle", "/then")]),
    ({"if": {"type": "string"}}, [("idle", "/if")]),
    ({"minContains": 2}, [("idle", "/minContains")]),
    ({"items": {}, "additionalItems": False}, [("idle", "/additionalItems")]),
    ({"enum": ["a", "a"]}, [("idle", "/enum")]),
    ({"type": "string", "enum": ["a", 3]}, [("contradiction", "")]),
    ({"type": "integer", "enum": [1.0, 2]}, []),
    (
        {
            "properties": {"a": {}},
            "required": ["b"],
            "additionalProperties": False,
            "type": "object",
        },
        [("empty", None), ("contradiction", "")],
    ),
    ({"properties": {"name": {}}, "required": ["nmae"]}, [("undeclared-key", "/required")]),
    ({"required": ["a", "b"], "maxProperties": 1}, [("contradiction", "")]),
    ({"$defs": {"a": {"type": "null"}}}, [("unused-definition", "/$defs/a")]),
    ({"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"}, []),
    (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": {}},
            "$ref": "#/definitions/a",
            "minLength": 2,
        },
        [("idle", "/minLength")],
    ),
    (
        {"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{"type": "null"}]},
        [("idle", "/prefixItems")],
    ),
    (
        {"properties": {"a/b": {"items": [{"type": "null", "pattern": "x"}]}}},
        [("idle", "/properties/a~1b/items/0/pattern")],
    ),
]


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS, ids=lambda x: json.dumps(x)[:60])
def test_schemas(schema: Any, expected: list[tuple[str, str | None]]) -> None:
    found = report_of(json.dumps(schema), "json").findings
    assert sorted((f.code, f.pointer or "") for f in found) == sorted(
        (code, pointer or "") for code, pointer in expected
    )


RULES: list[tuple[Kind, str, list[tuple[str, int | None]]]] = [
    ("gbnf", 'root ::= a\na ::= "x"', []),
    ("gbnf", 'root ::= a\na ::= "x"\nb ::= b "y"', [("unreachable", 3)]),
    ("gbnf", 'root ::= a | b\na ::= "x" a\nb ::= "y"', [("unproductive", 2)]),
    ("gbnf", 'root ::= a\na ::= "x" a', [("empty", None), ("unproductive", 2)]),
    ("gbnf", 'root ::= root "+" [0-9] | [0-9]', [("left-recursion", 1)]),
    ("gbnf", 'root ::= a "!"\na ::= b? "x" | "y"\nb ::= a "z"', [("left-recursion", 2)]),
    ("gbnf", 'root ::= ws ws\nws ::= " "*', [("ambiguous", 1)]),
    ("gbnf", "root ::= (", [("invalid", 1)]),
    ("lark", "start: A\nA: /a/\nB: /b/\nc: A", [("unreachable", 3), ("unreachable", 4)]),
    ("lark", 'start: s\ns: s "+" s | /[0-9]/', [("ambiguous", 2)]),
    ("lark", 'start: (KW | NAME)+\nKW: "if"\nNAME.2: /[a-z]+/', [("never-read", None)]),
    ("regex", "(a|a)*b", []),
]


@pytest.mark.parametrize(("kind", "text", "expected"), RULES)
def test_rules(kind: Kind, text: str, expected: list[tuple[str, int | None]]) -> None:
    found = report_of(text, kind).findings
    assert sorted((f.code, f.line or 0) for f in found) == sorted((c, n or 0) for c, n in expected)
    assert all(str(f) and f.as_dict()["code"] == f.code for f in found)


def test_notes_do_not_count() -> None:
    assert report_of('root ::= root "+" "x" | "y"', "gbnf").holds
    assert not report_of('root ::= "y"\nx ::= "x"', "gbnf").holds


def test_unused_names_of_lark() -> None:
    text = (
        "%import common.WS -> BLANK\n%import common (INT, CNAME)\n%declare _INDENT\n"
        '?start: _list{INT} "x" // old\n_list{x}: x ("," x)*\n!old.2: "a" -> start\n'
        'T.-1: /a\\/b old/i | "start"\n%ignore BLANK\n%extend T: U\nU: "u"'
    )
    assert [(u.name, u.line) for u in unused_names(text)] == [
        ("CNAME", 2),
        ("old", 6),
        ("T", 7),
        ("U", 10),
    ]


# -- formatting ------------------------------------------------------------------------------------

TEXTS: list[tuple[Kind, str, str]] = [
    ("gbnf", 'root::=a|"b"  *', 'root ::= a | "b"*\n'),
    ("gbnf", 'root ::= ( "a" [ x] ) { 2 , 3 }', 'root ::= ("a" [ x]){2,3}\n'),
    ("gbnf", '#c\n\n\n\nroot ::= <[7]> !<x>*\n   | "b"', '# c\n\nroot ::= <[7]> !<x>*\n  | "b"\n'),
    ("lark", "start : a   B ?-> c", "start: a B? -> c\n"),
    ("lark", '?a.2:"x".."z"~ 2 .. 3', '?a.2: "x".."z"~2..3\n'),
    ("lark", "%import   common . WS->X", "%import common.WS -> X\n"),
    ("lark", "_l{ x , y }:x [y]", "_l{x, y}: x [y]\n"),
    ("lark", 'start: "a//b" /c d/ //e', 'start: "a//b" /c d/  // e\n'),
    ("json", '{"a":[1.0,{} ]}', '{\n  "a": [\n    1.0,\n    {}\n  ]\n}\n'),
    ("regex", " a  b ", " a  b "),
]


@pytest.mark.parametrize(("kind", "text", "wanted"), TEXTS)
def test_formatting(kind: Kind, text: str, wanted: str) -> None:
    assert formatted(text, kind) == wanted
    assert formatted(wanted, kind) == wanted


@pytest.mark.parametrize("name", ["c", "smiles"])
def test_formatting_keeps_the_rules_of_the_library(name: str) -> None:
    (path,) = (Path(__file__).parent.parent / "grammars/library").glob(f"{name}.*")
    text = path.read_text()
    rng = random.Random(0)
    messy = "\n".join(
        line + " " * rng.randint(0, 2) if "::=" not in line else line.replace(" ::= ", "::=  ")
        for line in text.splitlines()
    )
    bodies = [(r.name, r.body) for r in Grammar.from_gbnf(text).ir.rules]
    for each in (text, messy):
        made = formatted(each, "gbnf")
        assert [(r.name, r.body) for r in Grammar.from_gbnf(made).ir.rules] == bodies
        assert formatted(made, "gbnf") == made
