"""The playground's answers and its server, without a browser."""

from __future__ import annotations

import http.client
import json
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from interrupts import heed_interrupts
from patience import PATIENCE
from test_extraction import CHAT, model
from typer.testing import CliRunner

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError
from grammars.files import Kind
from samplers.cli import app
from samplers.play import Playground, PlayServer
from samplers.play.grammar_store import GrammarStore
from samplers.play.playground import MOST_SAMPLES, MOST_TOKENS
from samplers.play.server import MOST_BYTES

SUM = 'root ::= term ("+" term)*\nterm ::= [0-9] | "(" root ")"\n'


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random model and its tokenizer as a folder."""
    folder = tmp_path_factory.mktemp("toy")
    model().save_pretrained(folder)
    CHAT.save_pretrained(folder)
    return str(folder)


def playground(
    text: str = SUM, kind: Kind = "gbnf", path: Path | None = None, **more: Any
) -> Playground:
    may_write = more.pop("may_write", False)
    return Playground(GrammarStore("a.gbnf", kind, text, path, may_write=may_write), **more)


# --- verdicts -------------------------------------------------------------------------------------

WORDS = ["abc", "abé", "a😀b", "a😁", "", "a\nb", "e\u0301", "日本"]


def longest_beginning(text: str) -> int:
    """How many bytes of a text some word begins with: by looking at every word."""
    data = text.encode()
    words = [word.encode() for word in WORDS]
    return max(n for n in range(len(data) + 1) if any(w.startswith(data[:n]) for w in words))


@pytest.mark.parametrize(
    "text",
    [*WORDS, "ab", "a", "abd", "abè", "a😂", "a😀", "a😀bc", "a\n", "a\r", "日", "日木", "x", "😀"],
)
def test_marks_are_those_of_every_word(text: str) -> None:
    grammar = "root ::= " + " | ".join(json.dumps(word, ensure_ascii=False) for word in WORDS)
    verdict = playground().check("gbnf", grammar, text)["verdict"]
    offset = longest_beginning(text)
    assert verdict["byte"] == offset
    shown = text.encode("utf-16-le")
    good = shown[: 2 * verdict["good"]].decode("utf-16-le")
    bad = shown[2 * verdict["good"] : 2 * (verdict["good"] + verdict["bad"])].decode("utf-16-le")
    whole = [c for c in range(len(text) + 1) if len(text[:c].encode()) <= offset][-1]
    assert good == text[:whole], "whole characters, counted as browsers do"
    assert bad == text[whole : whole + 1]
    state = "accepted" if text in WORDS else "unfinished" if not bad else "refused"
    assert verdict["state"] == state
    assert bool(verdict["expected"]) == (state != "accepted")


@pytest.mark.parametrize(
    ("text", "whole"),
    [("1+((2", "1+((2))"), ("(1)x", "(1)"), ("1", "1"), ("1+é", "1+éx"), ("éy", "éx")],
)
def test_a_shortest_way_to_the_end(text: str, whole: str) -> None:
    grammar = SUM.replace('"("', '"é" "x" | "("')
    assert playground().complete("gbnf", grammar, text)["text"] == whole
    assert Grammar.from_gbnf(grammar).accepts(whole)


def test_a_way_to_the_end_by_special_tokens() -> None:
    made = playground()
    assert made.complete("gbnf", 'root ::= "a" <|call|> "b"', "ac")["text"] == "a<|call|>b"
    assert made.complete("gbnf", 'root ::= "a" root', "")["text"] is None


def test_half_a_surrogate_pair() -> None:
    verdict = playground().check("regex", "a.*", "ab\ud83d")["verdict"]
    assert (verdict["state"], verdict["good"], verdict["bad"]) == ("refused", 2, 1)
    assert "surrogate" in verdict["message"]


def test_open_rules_have_places() -> None:
    verdict = playground().check("gbnf", SUM, "1+(")["verdict"]
    assert verdict["state"] == "unfinished"
    rules = [(rule["name"], rule["line"]) for rule in verdict["rules"]]
    assert rules[0] == ("root", 1)
    assert ("term", 2) in rules
    deep = playground().check("gbnf", SUM, "(" * 40)["verdict"]
    assert {"name": "...", "line": None, "column": None, "pointer": None} in deep["rules"]


@pytest.mark.parametrize(
    ("kind", "grammar", "place"),
    [
        ("gbnf", 'root ::= "a\n', {"line": 1}),
        ("lark", "start: A\n", {"line": 1}),
        ("regex", "a(", {"column": 2}),
        ("json", '{"type": "object",\n "minLength": -1}', {"pointer": "/minLength"}),
        ("json", '{"type": }', {"line": 1, "column": 10}),
    ],
)
def test_a_grammar_that_does_not_compile(kind: Kind, grammar: str, place: dict[str, Any]) -> None:
    for _ in range(2):  # the second time as it was kept
        answer = playground().check(kind, grammar, "a")
        assert answer["verdict"] is None
        assert answer["grammar"]["compiles"] is False
        error = answer["grammar"]["error"]
        assert {name: error[name] for name in place} == place
        assert error["message"]


def test_an_empty_language_says_why() -> None:
    answer = playground().check("json", '{"type": "integer", "minimum": 2, "maximum": 1}', "")
    assert answer["grammar"]["empty"]
    assert answer["verdict"]["state"] == "refused"
    assert "no text at all" in answer["verdict"]["message"]


def test_warnings_of_a_grammar_are_shown() -> None:
    text = 'start: A | B\nA: "x"\nB: "x"\n'
    made = playground(text, "lark")
    for _ in range(2):
        (warning,) = made.check("lark", text, "x")["grammar"]["warnings"]
        assert "B" in warning
    findings = made.lint("lark", text, False)["findings"]
    assert "never-read" in {found["code"] for found in findings}


def test_options_of_the_command_hold_where_they_can_be_said() -> None:
    made = playground(options={"start": "term"})
    assert made.check("gbnf", SUM, "1+1")["verdict"]["good"] == 1
    assert made.check("regex", "a", "a")["verdict"]["state"] == "accepted"


def test_special_tokens_are_read_by_name() -> None:
    made = playground()
    text = 'root ::= "a" <|call|> "b"'
    assert made.check("gbnf", text, "a<|call|>b")["verdict"]["state"] == "accepted"
    verdict = made.check("gbnf", text, "a<|call|>c")["verdict"]
    assert (verdict["good"], verdict["bad"]) == (9, 1)


def test_answers_in_threads_are_those_of_one() -> None:
    made = playground()
    questions = [(SUM, "1" + "+1" * n + tail) for n in range(8) for tail in ("", "+", "a")] * 2
    expected = [playground().check("gbnf", *question) for question in questions]
    got: list[Any] = [None] * len(questions)

    def ask(n: int) -> None:
        got[n] = made.check("gbnf", *questions[n])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


# --- samples, remarks, tokens ---------------------------------------------------------------------


def test_samples_are_texts_and_the_same_for_a_seed() -> None:
    made = playground()
    first = made.samples("gbnf", SUM, 5, 3)
    assert first == made.samples("gbnf", SUM, 5, 3)
    assert first["texts"][1:] == made.samples("gbnf", SUM, 4, 4)["texts"]
    assert all(Grammar.from_gbnf(SUM).accepts(text) for text in first["texts"])
    long = '"' + "x" * 500 + '"'
    assert made.samples("gbnf", f"root ::= {long}", 1, 0)["texts"] == ["x" * 500]
    with pytest.raises(ValueError, match="count"):
        made.samples("gbnf", SUM, MOST_SAMPLES + 1, 0)
    with pytest.raises(GrammarError):
        made.samples("gbnf", 'root ::= "a" root', 1, 0)


def test_ambiguity_has_a_witness() -> None:
    text = 'root ::= root "+" root | [0-9]\nother ::= "x"\n'
    made = playground()
    answer = made.lint("gbnf", text, True)
    assert answer["ambiguity"]
    assert not answer["holds"]
    (found,) = [f for f in answer["findings"] if f["code"] == "ambiguous"]
    assert found["line"] == 1
    assert len(found["example"]) == 5, "of three digits"
    assert Grammar.from_gbnf(text).accepts(found["example"])
    assert "unreachable" in {f["code"] for f in answer["findings"]}
    quick = made.lint("gbnf", text, False)
    assert not quick["ambiguity"]
    assert "ambiguous" not in {f["code"] for f in quick["findings"]}


@pytest.mark.parametrize("text", ["", "1", "1+", "1+x", "(1", "(1)+2"])
def test_tokens_are_those_that_the_automaton_allows(toy: str, text: str) -> None:
    made = playground(model=toy)
    answer = made.tokens("gbnf", SUM, text, toy)
    grammar = Grammar.from_gbnf(SUM)
    vocabulary = Vocabulary.from_huggingface(CHAT)
    automaton = TokenAutomaton(grammar, vocabulary)
    before = text.encode()[: grammar.explain(text).offset]
    state = automaton.advance_bytes(automaton.start, before)
    allowed = automaton.allowed_tokens(state).tolist()
    assert answer["allowed"] == len(allowed)
    assert [token["id"] for token in answer["listed"]] == allowed[:MOST_TOKENS]
    assert answer["may_end"] == grammar.accepts(before)
    for token in answer["listed"]:
        data = vocabulary.token_bytes(token["id"])
        assert token["text"] == (None if data is None else data.decode())
        if data is not None:
            assert grammar.explain(before + data).offset == len(before + data)


def test_many_tokens_are_counted_and_some_listed(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = playground(model=toy)
    whole = made.tokens("regex", "(.|\n)*", "", toy)
    assert whole["of"] > whole["allowed"] == len(whole["listed"]) > 100
    monkeypatch.setattr("samplers.play.playground.MOST_TOKENS", 50)
    assert made.tokens("regex", "(.|\n)*", "", toy) == {**whole, "listed": whole["listed"][:50]}


def test_special_tokens_are_listed_and_read(toy: str) -> None:
    made = playground(model=toy)
    text = 'root ::= "a" <|pad|> "b"'
    (found,) = made.tokens("gbnf", text, "a", toy)["listed"]
    assert (found["id"], found["text"]) == (CHAT.pad_token_id, "<|pad|>")
    (found,) = made.tokens("gbnf", text, "a<|pad|>", toy)["listed"]
    assert found["text"] == "b"


def test_only_models_that_were_offered(toy: str) -> None:
    made = playground(model=toy)
    offered = {known["name"]: known["here"] for known in made.start()["models"]}
    assert offered[toy] is True
    assert "smollm2-135m-instruct" in offered
    with pytest.raises(ValueError, match="no tokenizer"):
        made.tokens("gbnf", SUM, "", "/etc")


# --- the server -----------------------------------------------------------------------------------


@contextmanager
def serving(made: Playground) -> Iterator[PlayServer]:
    with PlayServer(made) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    server: PlayServer,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """A request; ``path`` is what comes behind the random part unless it begins with ``/``."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    whole = path if path.startswith("/") else f"/{server.token}/{path}"
    connection.request(method, whole, body, headers or {})
    answer = connection.getresponse()
    found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    connection.close()
    return found


def ask(server: PlayServer, question: str, **body: Any) -> Answer:
    headers = {"Content-Type": "application/json"}
    return request(server, "POST", question, json.dumps(body).encode(), headers)


@pytest.fixture(scope="module")
def server() -> Iterator[PlayServer]:
    with serving(playground()) as found:
        yield found


def test_the_page_asks_nobody_else(server: PlayServer) -> None:
    page = request(server, "GET", "")
    assert page.status == 200
    text = page.body.decode()
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    (nonce,) = set(re.findall(r"nonce-([\w-]+)", policy))
    assert text.count(f'nonce="{nonce}"') == 2
    assert nonce not in request(server, "GET", "").body.decode()
    assert page.headers["referrer-policy"] == "no-referrer"


def test_the_beginning(server: PlayServer) -> None:
    start = request(server, "GET", "start")
    assert start.status == 200
    assert start.json["grammar"] == SUM
    assert start.json["kind"] == "gbnf"
    assert start.json["kinds"] == ["lark", "gbnf", "regex", "json"]
    assert start.json["may_write"] is False


def test_questions_over_http(server: PlayServer) -> None:
    about = {"kind": "gbnf", "grammar": SUM}
    checked = ask(server, "check", text="1+\ud83d", **about)
    assert checked.status == 200
    assert checked.json["verdict"]["good"] == 2
    assert len(ask(server, "samples", count=2, seed=1, **about).json["texts"]) == 2
    assert ask(server, "complete", text="(1", **about).json == {"text": "(1)"}
    assert "findings" in ask(server, "lint", ambiguity=False, **about).json
    assert ask(server, "outline", text="1+2", **about).json["rows"][0] == [0, "root", 0, 3]
    wrong = ask(server, "samples", kind="gbnf", grammar='root ::= "a', count=1, seed=1)
    assert wrong.status == 422
    assert wrong.json["error"]["line"] == 1
    assert ask(server, "tokens", text="", model="nobody", **about).status == 422


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/start", {}, 404),
        ("/wrong/start", {}, 404),
        ("/wr%C3%B6ng/start", {}, 404),
        ("nothing", {}, 404),
        ("check", {}, 404),
        ("start", {"Host": "evil.example"}, 403),
        ("start", {"Host": "127.0.0.1"}, 403),
        ("start", {"Origin": "http://evil.example"}, 403),
        ("start", {"Origin": "null"}, 403),
        ("start", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("start", {"Sec-Fetch-Site": "same-site"}, 403),
        ("start", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("start?x=1", {}, 200),
    ],
)
def test_who_may_ask(server: PlayServer, path: str, headers: dict[str, str], status: int) -> None:
    answer = request(server, "GET", path, None, headers)
    assert answer.status == status
    if status != 200:
        assert answer.json["error"]["message"]
        assert server.token not in answer.body.decode()


def test_the_own_origin_may_ask(server: PlayServer) -> None:
    for host in ("127.0.0.1", "localhost"):
        address = f"{host}:{server.server_port}"
        headers = {"Host": address, "Origin": f"http://{address}"}
        assert request(server, "GET", "start", None, headers).status == 200


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("check", b"{}", {"Content-Type": "text/plain"}, 415),
        ("check", b"{}", {}, 415),
        ("check", b"{", JSON, 400),
        ("check", b"[]", JSON, 400),
        ("check", b"[" * 100_000, JSON, 400),
        ("check", b"\xff", JSON, 400),
        ("check", b"{}", JSON, 400),
        ("check", b'{"kind": "gbnf", "grammar": 1, "text": ""}', JSON, 400),
        ("check", b'{"kind": "other", "grammar": "", "text": ""}', JSON, 400),
        ("samples", b'{"kind": "gbnf", "grammar": "", "count": true, "seed": 1}', JSON, 400),
        ("check", b"", {**JSON, "Content-Length": str(MOST_BYTES + 1)}, 413),
        ("check", b"", {**JSON, "Content-Length": "-1"}, 411),
        ("nothing", b"{}", JSON, 404),
        ("start", b"{}", JSON, 404),
        ("", b"{}", JSON, 404),
    ],
)
def test_questions_that_are_none(
    server: PlayServer, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = request(server, "POST", path, body, headers)
    assert answer.status == status
    assert answer.json["error"]["message"]


def test_a_defect_is_told_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = playground()

    def fails(*_: Any) -> Any:
        raise AssertionError("a defect")

    monkeypatch.setattr(made, "outline", fails)
    with serving(made) as server:
        about = {"kind": "gbnf", "grammar": SUM, "text": "1"}
        answer = ask(server, "outline", **about)
        assert answer.status == 500
        assert "a defect" in answer.json["error"]["message"]
        assert ask(server, "check", **about).status == 200
    assert "a defect" in capsys.readouterr().err


# --- saving ---------------------------------------------------------------------------------------


def test_saving_needs_to_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.gbnf"
    file.write_text(SUM)
    with serving(playground(path=file)) as server:
        assert ask(server, "save", grammar="root ::= [a]", force=True).status == 403
    assert file.read_text() == SUM


def test_saving(tmp_path: Path) -> None:
    file = tmp_path / "a.gbnf"
    file.write_bytes(b"\xef\xbb\xbf" + SUM.replace("\n", "\r\n").encode())
    file.chmod(0o640)
    link = tmp_path / "link.gbnf"
    link.symlink_to(file)
    with serving(playground(path=link, may_write=True)) as server:
        assert ask(server, "save", grammar="root ::= [a]\n", force=False).status == 200
        assert file.read_bytes() == b"\xef\xbb\xbfroot ::= [a]\r\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert link.is_symlink()
        file.write_text("root ::= [b]\n")
        conflict = ask(server, "save", grammar="root ::= [c]\n", force=False)
        assert conflict.status == 409
        assert "changed" in conflict.json["error"]["message"]
        assert file.read_text() == "root ::= [b]\n"
        assert ask(server, "save", grammar="root ::= [c]\n", force=True).status == 200
        assert file.read_text() == "root ::= [c]\n"
        assert ask(server, "save", grammar="root ::= [d]\n", force=False).status == 200
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gbnf", "link.gbnf"]


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "a.gbnf"
    file.parent.mkdir()
    file.write_text(SUM)
    with serving(playground(path=file, may_write=True)) as server:
        file.unlink()
        file.parent.rmdir()
        answer = ask(server, "save", grammar=SUM, force=True)
        assert answer.status == 422
        assert "No such file" in answer.json["error"]["message"]
    half = playground(path=tmp_path / "b.gbnf", may_write=True)
    (tmp_path / "b.gbnf").write_text(SUM)
    with serving(half) as server:
        assert ask(server, "save", grammar="\ud800", force=False).status == 422
    assert (tmp_path / "b.gbnf").read_text() == SUM


# --- the command ----------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "broken.gbnf"
    file.write_text('root ::= "a')
    command = [sys.executable, "-m", "samplers.cli", "play", str(file), "--no-browser"]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]{32}/)", url)
        assert found, url
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=PATIENCE)
        connection.request("GET", found[2] + "start")
        assert json.loads(connection.getresponse().read())["grammar"] == 'root ::= "a'
        connection.close()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE)
        assert (running.returncode, out, err) == (0, "", "")
    finally:
        running.kill()
        running.wait()


def test_the_command_opens_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.gbnf"
    file.write_text(SUM)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def interrupted(_: PlayServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlayServer, "serve_forever", interrupted)
    result = CliRunner().invoke(app, ["play", str(file)])
    assert result.exit_code == 0, result.output
    assert opened == [result.stdout.strip()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.gbnf"], "No such file"),
        (["a.txt"], "suffix"),
        (["-", "--kind", "gbnf", "--write"], "--write needs a file"),
        (["a.regex", "--whitespace", "compact"], "JSON Schema"),
    ],
)
def test_the_command_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.regex").write_text("a")
    result = CliRunner().invoke(app, ["play", *words, "--no-browser"], input="root ::= [a]")
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_port_that_is_taken(server: PlayServer, tmp_path: Path) -> None:
    (tmp_path / "a.regex").write_text("a")
    words = ["play", str(tmp_path / "a.regex"), "--no-browser", "--port", str(server.server_port)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "in use" in result.stderr


def test_locks_are_not_held_while_others_ask() -> None:
    """A search for ambiguity, which takes long, keeps no text from being checked."""
    made = playground()
    started, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        started.set()
        assert go_on.wait(60)
        raise GrammarError("done")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samplers.play.playground.lint_grammar", slow)

        def lint() -> None:
            with pytest.raises(GrammarError, match="done"):
                made.lint("gbnf", SUM, True)

        thread = threading.Thread(target=lint)
        thread.start()
        assert started.wait(60)
        assert made.check("gbnf", SUM, "1")["verdict"]["state"] == "accepted"
        go_on.set()
        thread.join()


def test_kinds_are_those_of_the_page() -> None:
    saved = playground("{}", cast(Kind, "gramma")).start()
    assert saved["kinds"] == ["lark", "gbnf", "regex", "json", "gramma"]
