"""Traces as pages: every token is there, and nothing in them is markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_extraction import CHAT, model
from typer.testing import CliRunner

from samplers.cli import app

HOSTILE = "<script>alert(1)</script>&amp;\"'"


class Reader(HTMLParser):
    """Elements of a page, and the texts of table cells and marks."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.marks: list[tuple[str, str]] = []
        self.title = ""
        self._open: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("meta", "br"):
            return
        kind = dict(attrs).get("class") or ""
        self._open.append((tag, kind))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self._open]
        if "td" in inside:
            self.rows[-1][-1] += data
        elif ("pre", "text") in self._open and self._open[-1][0] == "span":
            self.marks.append((self._open[-1][1], data))
        elif inside[-1:] == ["title"]:
            self.title += data


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    model().save_pretrained(folder)
    CHAT.save_pretrained(folder)
    return folder


def traced(folder: Path, toy: Path, grammar: str, text: str) -> tuple[int, Reader]:
    file = folder / "a&b.gbnf"
    file.write_text(grammar)
    page = folder / "page.html"
    words = ["trace", str(file), "--text", text, "-m", str(toy), "--html", str(page)]
    result = CliRunner().invoke(app, words)
    assert "Traceback" not in result.output, result.output
    html = page.read_text("utf-8")
    assert "http" not in html.replace("http-equiv", "")
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.tags <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "p", "strong", "pre", "span"),
        *("div", "table", "thead", "tbody", "tr", "th", "td", "br"),
    }
    return result.exit_code, reader


def test_every_token_and_the_open_rules(tmp_path: Path, toy: Path) -> None:
    grammar = 'root ::= "(" word ")" | word\nword ::= [a-c]+ | "(" root ")"\n'
    status, page = traced(tmp_path, toy, grammar, "((ab))")
    assert status == 0
    assert page.title.endswith("a&b.gbnf")
    rows = [row for row in page.rows if row]
    assert "".join(row[1] for row in rows[:-1]) == "((ab))"
    assert rows[-1][1] == "(end)"
    assert rows[-1][4] == "yes"
    assert [row[0] for row in rows[:-1]] == [str(n + 1) for n in range(len(rows) - 1)]
    assert all(row[7].startswith("root") for row in rows[:-1])
    assert any("word" in row[7] for row in rows)
    assert {kind for kind, _ in page.marks} == {"good"}
    assert "".join(text for _, text in page.marks) == "((ab))"


def test_rules_are_open_where_the_text_may_end(tmp_path: Path, toy: Path) -> None:
    _, page = traced(tmp_path, toy, 'root ::= word ("+" word)*\nword ::= [ab]+\n', "a+b")
    rows = [row for row in page.rows if row]
    assert rows[-1][4] == "yes"
    assert rows[-1][7] == "root > word"


def test_the_first_impossible_byte(tmp_path: Path, toy: Path) -> None:
    status, page = traced(tmp_path, toy, 'root ::= "ab" [0-9]+ "é"', "ab12ècd")
    assert status == 1
    assert "".join(text for kind, text in page.marks if kind == "good") == "ab12"
    assert [text for kind, text in page.marks if kind == "bad"] == ["è"]
    assert [text for kind, text in page.marks if kind == "dim"] == ["cd"]
    last = page.rows[-1]
    assert "expected in line 1, column 5" in last[7]


def test_a_text_that_ends_too_early(tmp_path: Path, toy: Path) -> None:
    status, page = traced(tmp_path, toy, 'root ::= "abc"', "ab")
    assert status == 1
    assert page.rows[-1][1] == "(end)"
    assert page.marks[-1][0] == "bad"


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_is_markup(tmp_path: Path, toy: Path, refused: bool) -> None:
    grammar = "root ::= " + "[^\\n]*" if not refused else 'root ::= "<script>" [0-9] "<b>"'
    status, page = traced(tmp_path, toy, grammar, HOSTILE)
    assert status == int(refused)
    assert "script" not in page.tags
    assert "".join(text for _, text in page.marks) == HOSTILE
