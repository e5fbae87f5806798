"""Extractions for people: the source with values marked, in a terminal and as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browser, program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_json_places import inside, values

from constrain.huggingface.result import Extraction
from grammars.json_places import places
from samplers.extraction_page import page_of
from samplers.marking import (
    items_of,
    leaves_of,
    marked_source,
    place_of,
    segments,
    table_of,
    written_values,
)

SOURCE = "Ada <Lovelace> & Co\n  Tea   2\n  Tea   3\nTotal 1,240.50"
VALUE = {"first": "Ada", "name": "Ada <Lovelace>", "items": [{"what": "Tea", "n": 2}], "total": 1240.5,
         "who": "<b>Eve</b>", "paid": True, "tags": [], "o": {}}  # fmt: skip


def extraction(value: object = VALUE, source: str | None = SOURCE) -> Extraction:
    text = json.dumps(value)
    pieces = tuple(bytes([byte]) for byte in text.encode())
    logprobs = [-0.01] * len(pieces)
    return Extraction(value, text, [1] * len(pieces), True, b"", source=source, pieces=pieces,
                      token_constrained_logprobs=logprobs)  # fmt: skip


# --- pieces ---------------------------------------------------------------------------------------


def test_segments() -> None:
    spans = {"a": [(0, 5)], "b": [(2, 3), (7, 8)], "c": [(4, 8)]}
    assert list(segments(10, spans)) == [
        (0, 2, ["a"]), (2, 3, ["a", "b"]), (3, 4, ["a"]), (4, 5, ["a", "c"]), (5, 7, ["c"]),
        (7, 8, ["c", "b"]), (8, 10, []),
    ]  # fmt: skip
    assert list(segments(3, {})) == [(0, 3, [])]
    assert list(segments(0, {})) == []


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    spans=st.dictionaries(
        st.integers(0, 5),
        st.lists(
            st.tuples(st.integers(0, 20), st.integers(0, 20)).filter(lambda s: s[0] < s[1]),
            max_size=3,
        ),
    )
)
def test_segments_by_character(spans: dict[int, list[tuple[int, int]]]) -> None:
    at = 0
    for begin, end, over in segments(20, spans):
        assert begin == at < end
        at = end
        for place in range(begin, end):
            assert set(over) == {
                label for label, own in spans.items() if any(b <= place < e for b, e in own)
            }
    assert at == 20


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(value=values)
def test_json_in_lines(value: object) -> None:
    text = json.dumps(value)
    pieces = list(written_values(text))
    shown = "".join(piece for piece, _ in pieces)
    assert json.loads(shown) == json.loads(text)
    leaves = leaves_of(text)
    assert list(leaves) == [pointer for _, pointer in pieces if pointer in leaves]
    arrays = [pointer for piece, pointer in pieces if piece == "]" and pointer is not None]
    assert {*arrays, *leaves} == {pointer for _, pointer in pieces if pointer is not None}
    assert items_of(text).keys() == set(arrays)
    for piece, pointer in pieces:
        if pointer in leaves:
            assert pointer is not None
            begin, end = places(text)[pointer]
            assert piece == text[begin:end]
    assert inside(value) >= len(leaves_of(text))


def test_texts_that_are_no_json_are_one_value() -> None:
    assert list(written_values("yes")) == [("yes", "")]
    assert leaves_of("yes") == {"": "yes"}


# --- the terminal ---------------------------------------------------------------------------------


def printed(thing: object, *, colour: bool = False) -> str:
    console = Console(width=200, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as captured:
        console.print(thing, soft_wrap=True)
    return captured.get()


def test_the_source_with_marks() -> None:
    assert printed(marked_source(extraction())).splitlines() == [
        "[[Ada]{/first} <Lovelace>]{/name} & Co",
        "  [Tea]{/items/0/what}   [2]{/items/0/n}",
        "  Tea   3",
        "Total [1,240.50]{/total}",
    ]
    assert "\x1b[" in printed(marked_source(extraction()), colour=True)
    # nothing in a source is taken for markup
    shown = printed(marked_source(extraction("x", "[bold]x[/bold]")))
    assert shown == "[bold][x]{the value}[/bold]\n"
    assert printed(marked_source(extraction("x", None))) == "\n"


def test_the_table_of_values() -> None:
    found = extraction()
    shown = printed(table_of(found))
    for part in (
        "/items/0/what",
        "line 2, column 3 (of 2 places)",
        "not in the text",
        "<b>Eve</b>",
    ):
        assert part in shown
    assert place_of(found, "/paid", True) == ""
    assert place_of(extraction(source=None), "/who", "<b>Eve</b>") == ""
    assert "none" not in read(page_of(extraction(source=None), "x")).texts
    assert place_of(found, "/total", 1240.5) == "line 4, column 7"
    assert shown.count("0.9") >= 5
    assert "(1 item)" in shown
    assert items_of(found.text) == {"/items": 1}
    assert items_of("yes") == {}


# --- the page -------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Elements with their classes and texts; every element that opens must close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for tag, attrs in self.open:
            for name in (tag, *str(attrs.get("class") or "").split()):
                self.texts[name] = self.texts.get(name, "") + data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_a_page() -> None:
    found = extraction()
    page = page_of(found, "a <b>.txt")
    reader = read(page)
    assert reader.texts["h1"] == "Values of a <b>.txt"
    assert reader.texts["source"] == SOURCE
    values = re.sub(r"(?<=\S)0\.\d\d(?=[,\n])", "", reader.texts["values"])
    assert json.loads(values) == VALUE
    assert reader.texts["none"] == '"<b>Eve</b>"'
    numbers = {pointer: n for n, pointer in enumerate(leaves_of(found.text))}
    for pointer, (begin, end) in found.sources.items():
        shown = reader.texts[f"v{numbers[pointer]}"]  # of the source, then of the values
        assert shown.startswith(SOURCE[begin:end])
        assert f'href="#s{numbers[pointer]}"' in page
        assert page.count(f'id="s{numbers[pointer]}"') == 1
    assert reader.texts[f"o{numbers['/items/0/what']}"] == "Tea"
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert "not in the text" in page
    assert not {tag for tag, _ in reader.elements} & {"b", "img", "link", "script", "iframe"}


@pytest.mark.parametrize("source", ["", None, "<script>alert(1)</script> &amp; \x00 \ud800"])
def test_pages_of_odd_sources(source: str | None) -> None:
    page = page_of(extraction({"a": "<script>alert(1)</script>", "<i>": '"'}, source), "x")
    assert "<script" not in page
    assert "<i>" not in page
    read(page)
    page.encode("utf-8", "surrogatepass")


def test_a_page_of_what_is_not_complete() -> None:
    page = page_of(Extraction(None, '{"a": <', [1], False, source=SOURCE), "x")
    assert read(page).texts["values"] == '{"a": <'
    assert "not complete" in page


def test_a_page_of_another_text() -> None:
    page = page_of(Extraction("Tea", "Tea", [1], True, source=SOURCE), "x")
    assert read(page).texts["values"] == "Tea"
    assert 'href="#s0"' in page


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(page_of(extraction(), "x"), "utf-8")
    return folder


@pytest.mark.skipif(program() is None, reason="no browser")
def test_the_page_in_a_browser(shown: Path) -> None:
    """Values and places light up together, without scripts, requests or complaints."""
    profile = shown / "profile"
    profile.mkdir()
    with browser(profile) as page:
        address = (shown / "page.html").as_uri()
        for dark in (False, True):
            page.look(1200, 800, dark=dark)
            page.open(address)
            backgrounds = page.run("getComputedStyle(document.body).backgroundColor")
            assert (backgrounds == "rgb(255, 255, 255)") != dark
        assert page.run("document.querySelectorAll('mark').length") == 5
        outline = "getComputedStyle(document.querySelector('mark.v1')).outlineStyle"
        assert page.run(outline) == "none"
        page.run("document.querySelector('a.v1').focus()")
        assert page.run(outline) == "solid"
        assert page.run("document.documentElement.scrollWidth") <= 1200
        page.look(360, 700)
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert page.complaints == []
        assert set(page.asked) == {address}
