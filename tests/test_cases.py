"""Case tables: what is read of one, where errors say they are, and which cases fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from grammars import Grammar, GrammarError
from grammars.cases import Case, Cases, CasesError

TABLE = "\n".join(
    [
        "# dates",
        'grammar = "year.regex"',
        "",
        'accept = ["2024", # a comment with "quotes" and [brackets]',
        "          '1999']",
        '"reject" = [',
        '    "99",',
        '    """12',
        '345""", "x = [1]",',
        "",
        "    '''20\"24''',",
        "]",
        'prefix = ["", "2\\u0030"]',
    ]
)


def test_cases_have_their_lines() -> None:
    cases = Cases.parse(TABLE, name="dates.toml", folder="here")
    assert cases.cases == (
        Case("accept", "2024", 4),
        Case("accept", "1999", 5),
        Case("reject", "99", 7),
        Case("reject", "12\n345", 8),
        Case("reject", "x = [1]", 9),
        Case("reject", '20"24', 11),
        Case("prefix", "", 13),
        Case("prefix", "20", 13),
    )
    assert (cases.name, cases.folder, cases.grammar) == ("dates.toml", Path("here"), "year.regex")
    assert cases.of("accept") == ("2024", "1999")


def test_a_table_may_be_empty() -> None:
    cases = Cases.parse("")
    assert cases.cases == ()
    with pytest.raises(CasesError, match=r"<cases>:1: no 'grammar' or 'library' is named"):
        cases.load()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('accept = ["a"', 1, "no TOML"),
        ('\naccept = ["a" "b"]\n', 2, "no TOML"),
        ('accept = ["a"]\n\nacept = ["b"]', 3, "unknown key 'acept'; there are accept, reject"),
        ('\n\naccept = "a"', 3, "'accept' must be a list of strings"),
        ('reject = ["a",\n 3]', 1, "'reject' has 3, which is no string"),
        ('reject = [["a"]]', 1, "which is no string"),
        ('prefix = [{a = "b"}]', 1, "which is no string"),
        ("\ngrammar = 3", 2, "'grammar' must be a string"),
        ('grammar = "a"\nlibrary = "b"', 2, "keep one"),
        ('accept = []\nstart = "b"', 2, "'start' is said of a 'grammar'"),
        ("parameters = 3", 1, "must be a table"),
        ("accept = []\n[parameters]\na = 1", 2, "'parameters' is said of a 'library'"),
        ("[accept]\na = 1", 1, "must be a list"),
        ('accept = ["a"]\naccept = ["b"]', 2, "no TOML"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(CasesError, match=message) as caught:
        Cases.parse(text, name="t.toml")
    assert str(caught.value).startswith(f"t.toml:{line}: ")
    assert (caught.value.name, caught.value.line) == ("t.toml", line)
    assert isinstance(caught.value, GrammarError)


def test_tables_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "year.regex").write_text("[0-9]{4}\n")
    (tmp_path / "word.gbnf").write_text('root ::= "a"\nother ::= "b"\n')
    path = tmp_path / "cases.toml"
    path.write_bytes(b'grammar = "year.regex"\r\naccept = ["2024"]\r\nreject = ["24"]\r\n')
    cases = Cases.read(path)
    assert [case.line for case in cases.cases] == [2, 3]
    assert not list(cases.failures(cases.load()))
    path.write_text('grammar = "word.gbnf"\nstart = "other"\naccept = ["b"]\nreject = ["a"]')
    assert not list(Cases.read(path).failures(Cases.read(path).load()))
    path.write_bytes(b'accept = ["\xff"]')
    with pytest.raises(CasesError, match="UTF-8"):
        Cases.read(path)
    with pytest.raises(OSError):
        Cases.read(tmp_path / "none.toml")


def test_a_grammar_of_the_library_takes_parameters() -> None:
    cases = Cases.parse(
        'library = "gripper"\naccept = ["(pick b rooma left)"]\nreject = ["(pick ball1 rooma left)"]\n'
        '[parameters]\nballs = ["b"]'
    )
    assert cases.parameters == {"balls": ["b"]}
    assert not list(cases.failures(cases.load()))


def test_failures_say_what_the_grammar_made_of_a_text() -> None:
    cases = Cases.parse('accept = ["ab", "a"]\nreject = ["b",\n"ab"]\nprefix = ["a", "ab", "b"]')
    found = list(cases.failures(Grammar.from_regex("ab")))
    assert [(f.case.verdict, f.case.text, f.case.line) for f in found] == [
        ("accept", "a", 1),
        ("reject", "ab", 3),
        ("prefix", "b", 4),
    ]
    assert "ends too early" in found[0].message
    assert found[1].message == "accepted"
    assert "unexpected 'b'" in found[2].message


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar.from_json_schema(
            {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
        ),
        Grammar.from_json_schema({"const": [1, 2]}),
        Grammar.from_lark(
            "start: A _NL _INDENT A _NL _DEDENT\nA: /[\\[\\]12,]+/\n"
            "_NL: /(\\r?\\n[\\t ]*)+/\n%declare _INDENT _DEDENT"
        ),
    ],
    ids=["memory", "plain", "layout"],
)
def test_prefixes_are_those_that_explain_finds_no_fault_with(grammar: Grammar) -> None:
    text = grammar.sample(seed=3, max_bytes=40).decode()
    for end in range(len(text) + 1):
        for shown in (text[:end], text[:end] + "x", text[:end] + "1"):
            cases = Cases((c := Case("prefix", shown, 1)).text, Path(), (c,))
            offset = grammar.explain(shown).offset
            assert bool(list(cases.failures(grammar))) == (offset < len(shown.encode()))


def test_nothing_begins_a_text_of_an_empty_language() -> None:
    cases = Cases.parse('prefix = ["", "a"]\nreject = ["", "a"]')
    empty = Grammar.from_json_schema(False)
    assert [failure.case.verdict for failure in cases.failures(empty)] == ["prefix", "prefix"]
