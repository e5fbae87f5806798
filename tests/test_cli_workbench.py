"""The commands for those who write grammars: lint, convert, fmt, bench, explain's completion."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from grammars import Grammar
from samplers.cli import app
from samplers.cli.watching import watched


@pytest.fixture
def files(tmp_path: Path) -> Path:
    texts = {
        "good.gbnf": '# sums\nroot::=n  ("+" n)*\nn::= [0-9]+ # digits\n',
        "bad.gbnf": 'root ::= n | "1"\nn ::= [0-9]\nold ::= "x"\n',
        "sums.lark": 'start: n ("+" n)*\nn: /[0-9]+/\n',
        "wrong.gbnf": "root ::= (\n",
        "word.regex": "[a-c]{2,3}",
        "closed.json": json.dumps(
            {
                "type": "object",
                "properties": {"a": {"type": "integer", "minLength": 3}, "b": {"enum": ["x", "y"]}},
                "required": ["a"],
                "additionalProperties": False,
            }
        ),
        "open.json": '{"type": "object"}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(*arguments: Any, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    return result.exit_code, result.output


# -- lint ------------------------------------------------------------------------------------------


def test_lint_finds_nothing(files: Path) -> None:
    assert run("lint", files / "good.gbnf") == (0, "nothing found\n")


def test_lint_tells_places_and_witnesses(files: Path) -> None:
    status, said = run("lint", files / "bad.gbnf")
    assert status == 1
    assert "line 1, column 1: warning: rule 'root' reads a text in two ways: '1' is both" in said
    assert "line 3, column 1: warning: rule 'old' is never used" in said


def test_lint_in_json(files: Path) -> None:
    status, said = run("lint", files / "closed.json", "--json")
    found = json.loads(said)
    assert (status, found["holds"]) == (1, False)
    assert [f["pointer"] for f in found["findings"]] == ["/properties/a/minLength"]


def test_lint_of_a_grammar_that_is_none(files: Path) -> None:
    status, said = run("lint", files / "wrong.gbnf", "--json")
    (finding,) = json.loads(said)["findings"]
    assert (status, finding["code"], finding["line"]) == (1, "invalid", 1)


def test_lint_without_the_search(files: Path) -> None:
    _, said = run("lint", files / "bad.gbnf", "--no-ambiguity")
    assert "in two ways" not in said
    assert "never used" in said


# -- convert ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["good.gbnf", "sums.lark", "word.regex", "closed.json"])
@pytest.mark.parametrize("to", ["gbnf", "lark"])
def test_convert(files: Path, name: str, to: str) -> None:
    status, said = run("convert", files / name, "--to", to)
    assert status == 0
    made = Grammar.from_gbnf(said) if to == "gbnf" else Grammar.from_lark(said)
    old = Grammar.from_file(files / name)
    for seed in range(20):
        assert made.accepts(old.sample(seed, 50))
        assert old.accepts(made.sample(seed, 50))


def test_convert_says_what_it_cannot_keep(files: Path) -> None:
    status, said = run("convert", files / "open.json")
    assert status == 2
    assert "an object has no key twice" in said
    status, said = run("convert", files / "open.json", "--wider")
    assert status == 0
    assert Grammar.from_gbnf(said).accepts('{"a":1}')


# -- fmt -------------------------------------------------------------------------------------------


def test_fmt(files: Path) -> None:
    wanted = '# sums\nroot ::= n ("+" n)*\nn ::= [0-9]+  # digits\n'
    assert run("fmt", files / "good.gbnf") == (0, wanted)
    assert run("fmt", files / "good.gbnf", "--check") == (1, "")
    assert run("fmt", files / "good.gbnf", "--write") == (0, "")
    assert (files / "good.gbnf").read_text() == wanted
    assert run("fmt", files / "good.gbnf", "--check") == (0, "")


def test_fmt_of_a_schema_keeps_tokens(files: Path) -> None:
    (files / "n.json").write_text('{"const":1.50,"enum":[],"not":{}}')
    assert run("fmt", files / "n.json")[1] == (
        '{\n  "const": 1.50,\n  "enum": [],\n  "not": {}\n}\n'
    )


# -- bench, explain --------------------------------------------------------------------------------


def test_explain_tells_the_nearest_text(files: Path) -> None:
    status, said = run("explain", files / "good.gbnf", "--text", "1+x")
    assert status == 1
    assert re.search(r"accepted, and as short as it can be: '1\+\d'", said)
    found = json.loads(run("explain", files / "good.gbnf", "--text", "1+", "--json")[1])
    assert found["nearest"] in [f"1+{n}" for n in range(10)]


# -- test, list ------------------------------------------------------------------------------------


def test_case_tables(files: Path) -> None:
    table = files / "cases.toml"
    table.write_text(
        'grammar = "good.gbnf"\naccept = ["1", "1+x"]\nreject = ["1+2"]\nprefix = ["1+"]\n'
    )
    status, said = run("test", table)
    assert status == 1
    assert f"{table}:2: accept: line 1, column 3" in said
    assert f"{table}:3: reject: accepted" in said
    assert said.endswith("4 cases, 2 failed\n")
    found = json.loads(run("test", table, "--json")[1])
    assert (found["cases"], [f["text"] for f in found["failures"]]) == (4, ["1+x", "1+2"])
    other = run("test", table, "--grammar", files / "word.regex")
    assert other[0] == 1
    table.write_text('library = "date"\naccept = ["2024-02-29"]\nreject = ["2023-02-29"]\n')
    assert run("test", table) == (0, "2 cases, 0 failed\n")


def test_a_table_that_is_none_is_told_with_its_line(files: Path) -> None:
    table = files / "cases.toml"
    table.write_text('accept = ["1"]\nacept = []\n')
    status, said = run("test", table)
    assert status == 2
    assert f"{table}:2: unknown key 'acept'" in said


def test_the_library_is_listed() -> None:
    assert "RFC 8259" in run("list")[1]
    found = {entry["name"] for entry in json.loads(run("list", "--json")[1])}
    assert {"json", "sql", "python", "date"} <= found


# -- watching --------------------------------------------------------------------------------------


def test_watching_runs_again_when_a_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.regex"
    path.write_text("a")
    seen: list[str] = []

    def look() -> None:
        seen.append(path.read_text())
        if len(seen) == 2:
            raise KeyboardInterrupt
        if len(seen) == 1:
            threading.Thread(target=change, daemon=True).start()
            raise ValueError("told, and the watch goes on")

    def change() -> None:
        time.sleep(0.05)
        path.write_text("longer")

    with pytest.raises(Exception, match="0"):
        watched([path], look, watch=True)
    assert seen == ["a", "longer"]


def test_standard_input_is_not_watched() -> None:
    status, said = run("lint", "-", "--kind", "regex", "--watch", stdin="a")
    assert status == 2
    assert "--watch needs files" in said


# -- completion ------------------------------------------------------------------------------------


def test_shells_complete_commands() -> None:
    result = CliRunner().invoke(
        app,
        [],
        prog_name="gramma",
        env={"_GRAMMA_COMPLETE": "complete_bash", "COMP_WORDS": "gramma li", "COMP_CWORD": "1"},
    )
    assert sorted(result.output.split()) == ["lint", "list"]
