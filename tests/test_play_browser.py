"""The playground's page in a headless browser: texts are typed, marks are read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, browser, program
from test_extraction import CHAT, model

from grammars import Grammar
from samplers.play import Playground, PlayServer
from samplers.play.grammar_store import GrammarStore

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium on PATH")

SUM = 'root ::= term ("+" term)*\nterm ::= [0-9] | "(" root ")" | "é😀"\n'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grammar") / "<b>sum.gbnf"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Iterator[Page]:
    """The page of a grammar, opened once."""
    file.write_text(SUM)
    toy = tmp_path_factory.mktemp("toy")
    model().save_pretrained(toy)
    CHAT.save_pretrained(toy)
    store = GrammarStore(file.name, "gbnf", SUM, file, may_write=True)
    with PlayServer(Playground(store, model=str(toy))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with browser(tmp_path_factory.mktemp("profile")) as found:
                found.look(1280, 900)
                found.open(server.url)
                found.wait("document.body.dataset.checked === ''")
                yield found
                assert found.complaints == []
                assert found.asked
                assert all(
                    address.startswith(server.url) or address == "data:," for address in found.asked
                )
        finally:
            server.shutdown()
            thread.join()


def marks(page: Page) -> list[list[str]]:
    """Class and text of each mark, in the order of the text."""
    found: list[list[str]] = page.run(
        "[...document.querySelectorAll('#marks mark')].map(m => [m.className, m.textContent])"
    )
    return found


def content(page: Page, name: str) -> str:
    found: str = page.run(f"document.getElementById({json.dumps(name)}).textContent")
    return found


def set_text(page: Page, text: str) -> None:
    """Empties the text and types another one."""
    page.run("text.focus(); text.select()")
    page.type("\b" + text)
    page.wait(f"document.body.dataset.checked === {json.dumps(text)}")


def test_the_beginning(page: Page) -> None:
    assert content(page, "name") == "<b>sum.gbnf", "text, and no markup"
    assert page.run("grammar.value") == SUM
    assert content(page, "state") == "not finished"
    assert marks(page) == [["more", ""]]


def test_what_is_typed_is_marked(page: Page) -> None:
    set_text(page, "1+(2+x)")
    assert marks(page) == [["good", "1+(2+"], ["bad", "x"]]
    assert content(page, "state") == "refused"
    assert "line 1, column 6" in content(page, "message")
    expected = page.run("[...document.querySelectorAll('#expected li')].map(e => e.textContent)")
    assert "'0' to '9'" in expected
    rules = page.run("[...document.querySelectorAll('#rules li')].map(e => e.textContent)")
    assert rules[:2] == ["root", "term"]
    colours = page.run(
        "['good', 'bad'].map(c => getComputedStyle(document.querySelector('#marks .' + c)).backgroundColor)"
    )
    for colour, strongest in zip(colours, (1, 0), strict=True):
        channels = [int(part) for part in colour.strip("rgb()").split(",")]
        assert channels.index(max(channels)) == strongest, "green, then red"
    page.type("\b\b2)")  # x) goes
    page.wait("document.body.dataset.checked === '1+(2+2)'")
    assert marks(page) == [["good", "1+(2+2)"]]
    assert content(page, "state") == "accepted"


def test_marks_lie_under_their_characters(page: Page) -> None:
    """The drawn text and the one that is edited break their lines in the same places."""
    set_text(page, "(1+" * 60 + "\n")
    assert marks(page) == [["good", "(1+" * 60], ["bad break", "\n"]]
    sizes = page.run(
        "[text, document.getElementById('marks')].map(e => [e.clientWidth, e.scrollHeight, "
        "getComputedStyle(e).font, e.getBoundingClientRect().top])"
    )
    assert sizes[0] == sizes[1]


def test_characters_beyond_the_basic_plane(page: Page) -> None:
    set_text(page, "é😀+é😁")
    assert marks(page) == [["good", "é😀+é"], ["bad", "😁"]]
    set_text(page, "é😀+é")
    assert marks(page) == [["good", "é😀+é"], ["more", ""]]


def test_tokens_are_listed_and_write(page: Page) -> None:
    set_text(page, "1")
    page.wait("[...document.querySelectorAll('#tokens button')].some(b => b.textContent === '+')")
    assert "the text may end" in content(page, "tokens-note")
    page.run(
        "[...document.querySelectorAll('#tokens button')].find(b => b.textContent === '+').click()"
    )
    page.wait("document.body.dataset.checked === '1+'")
    assert marks(page) == [["good", "1+"], ["more", ""]]
    page.wait("[...document.querySelectorAll('#tokens button')].every(b => b.textContent !== '+')")
    page.run("document.querySelector('#tokens button:not(:disabled)').focus()")
    first = page.run("document.activeElement.textContent")
    page.press("ArrowRight")
    assert page.run("document.activeElement.textContent") != first


def test_a_shortest_way_to_the_end_is_offered(page: Page) -> None:
    set_text(page, "(1+(2x")
    page.wait("document.getElementById('nearest').textContent === '))'")
    page.click("#nearest")
    page.wait("document.body.dataset.checked === '(1+(2))'")
    assert marks(page) == [["good", "(1+(2))"]]
    assert page.run("document.getElementById('nearest-part').hidden")


def test_samples_become_the_text(page: Page) -> None:
    page.wait("document.querySelectorAll('#samples button').length === 5")
    page.click("#samples button")
    text = page.wait("text.value")
    page.wait(f"document.body.dataset.checked === {json.dumps(text)}")
    assert Grammar.from_gbnf(SUM).accepts(text)
    assert marks(page) == [["good", text]]


def test_the_outline_selects_its_text(page: Page) -> None:
    set_text(page, "1+(2)")
    page.wait("document.querySelectorAll('#outline button').length === 5")
    rows = page.run("[...document.querySelectorAll('#outline button')].map(b => b.textContent)")
    assert rows == ["root 1+(2)", "term 1", "term (2)", "root 2", "term 2"]
    page.run("document.querySelectorAll('#outline button')[2].click()")
    assert page.run("text.value.slice(text.selectionStart, text.selectionEnd)") == "(2)"


def test_the_grammar_is_edited(page: Page) -> None:
    set_text(page, "1")
    page.run("grammar.focus(); grammar.setSelectionRange(0, grammar.value.length)")
    page.type('root ::= "a" root |\n "b')
    page.wait("document.getElementById('compiles').textContent === 'does not compile'")
    assert "line 2" in content(page, "grammar-error")
    assert page.run("document.querySelector('#gutter .bad').textContent") == "2"
    assert marks(page) == []
    page.type('"\n')
    page.wait("document.getElementById('compiles').textContent.includes('states')")
    assert content(page, "grammar-error") == ""
    page.wait("document.querySelector('#marks .bad') !== null")
    assert marks(page) == [["bad", "1"]]
    page.run("document.getElementById('save').click()")
    page.wait("document.getElementById('saved').textContent === 'saved'")


def test_ambiguity_is_found_and_tried(page: Page, file: Path) -> None:
    assert file.read_text() == 'root ::= "a" root |\n "b"\n', "the test before has saved it"
    page.run("grammar.focus(); grammar.setSelectionRange(0, grammar.value.length)")
    page.type("root ::= [ab] | root root\n")
    page.wait("document.getElementById('compiles').textContent.includes('states')")
    page.click("#ambiguity")
    page.wait("document.querySelector('#findings').textContent.includes('two ways')")
    page.run(
        "[...document.querySelectorAll('#findings button')]"
        ".find(b => b.textContent.startsWith('try')).click()"
    )
    text = page.wait("text.value.length === 3 && text.value")
    page.wait(f"document.body.dataset.checked === {json.dumps(text)}")
    assert content(page, "state") == "accepted"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_is_wider_than_the_window(page: Page, width: int, dark: bool) -> None:
    page.look(width, 800, dark=dark)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    back = page.run("getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in back.strip("rgb()").split(",")) < 60) == dark


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Page) -> None:
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "spinbutton"}
    controls = [n for n in nodes if n.get("role", {}).get("value") in roles]
    assert len(controls) >= 8
    assert all(n.get("name", {}).get("value") for n in controls)
    page.run("document.activeElement.blur()")
    reached = []
    for _ in range(60):
        page.press("Tab")
        reached.append(page.run("document.activeElement.id"))
    assert {"grammar", "text", "kind", "model", "seed", "more", "ambiguity"} <= set(reached)
