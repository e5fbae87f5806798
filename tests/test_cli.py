"""The command: what every subcommand prints, and its exit status.

Commands that need a model run with a toy saved to a folder; those marked ``model`` with the
embedded one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from patience import PATIENCE
from test_extraction import CHAT, model
from typer.main import get_command
from typer.testing import CliRunner, Result

from constrain.models import DEFAULT_MODEL, ModelUnavailable, load_model
from grammars import Grammar
from samplers import choose
from samplers.cli import app, main

INVOICE = {
    "type": "object",
    "properties": {"paid": {"type": "boolean"}, "total": {"type": "integer", "maximum": 99}},
    "required": ["paid"],
    "additionalProperties": False,
}
ARITHMETIC = 'root ::= term ("+" term)*\nterm ::= [0-9] | "(" root ")"\n'
COMMANDS = ["check", "explain", "sample", "trace", "generate", "extract"]


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """One command in this process; anything but an exit status is a failure."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def program(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """One command in a process of its own."""
    command = [sys.executable, "-m", "samplers.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of grammars and texts."""
    contents: dict[str, str | bytes] = {
        "yesno.regex": "yes|no\n",
        "sum.gbnf": ARITHMETIC,
        "list.lark": 'start: "[" NUMBER ("," NUMBER)* "]"\nNUMBER: /[0-9]+/\n',
        "invoice.schema.json": json.dumps(INVOICE, indent=2),
        "good.json": '{"paid": true, "total": 12}\n',
        "bad.json": '{\n  "paid": yes\n}\n',
        "empty.gbnf": 'root ::= "a" pair\npair ::= "b" pair\n',
        "broken.gbnf": 'root ::= "a\n',
        "broken.schema.json": '{"type": }',
        "latin.gbnf": 'root ::= "caf\xe9"'.encode("latin-1"),
        "grammar.txt": "yes",
        "text.txt": "The bill of 12 is paid.\n",
    }
    for name, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.gbnf").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model and its tokenizer as a folder."""
    folder = tmp_path_factory.mktemp("toy")
    model().save_pretrained(folder)
    CHAT.save_pretrained(folder)
    return folder


_load_once = cache(load_model)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models lose more by sharing out their work than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _models_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("constrain.models.load_model", _load_once)


@pytest.fixture(scope="session")
def embedded() -> str:
    try:
        _load_once(DEFAULT_MODEL)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    return DEFAULT_MODEL


def failed(result: Result, *parts: str) -> None:
    """Could not run: status 2, one message on standard error, nothing on standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("gramma: ") or "gramma: loading" in result.stderr
    for part in parts:
        assert part in result.stderr, f"{part!r} is not in: {result.stderr}"


# --- help -----------------------------------------------------------------------------------------


def subcommands() -> list[list[str]]:
    """Every command there is, groups gone into."""
    found: list[list[str]] = []

    def visit(command: Any, path: list[str]) -> None:
        inner = getattr(command, "commands", None)
        if not inner:
            found.append(path)
        for name, command_inside in (inner or {}).items():
            visit(command_inside, [*path, name])

    visit(get_command(app), [])
    return found


@pytest.mark.parametrize("path", subcommands(), ids=" ".join)
def test_help_has_an_example(path: list[str]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "Example: gramma " + " ".join(path) in shown
    assert "`" not in shown


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in (*COMMANDS, "choose", "model"):
        assert name in result.stdout
    listed = run("model", "--help").stdout
    assert "list" in listed
    assert "fetch" in listed
    assert "Usage" in run().output


@pytest.mark.parametrize("arguments", [
    ["nonsense"], ["check"], ["model", "nonsense"], ["check", "a.regex", "--nonsense"],
    ["sample", "a.regex", "-n", "0"], ["generate", "hello"], ["extract", "a.txt"],
], ids=" ".join)  # fmt: skip
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage" in result.stderr


# --- check ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["yesno.regex", "sum.gbnf", "list.lark", "invoice.schema.json"])
def test_check_a_grammar(files: Path, name: str) -> None:
    result = run("check", files / name)
    assert result.exit_code == 0
    assert result.stdout.startswith("compiles: ")
    assert repr(Grammar.from_file(files / name).sample(0).decode()) in result.stdout
    told = json.loads(run("check", files / name, "--json").stdout)
    assert told["compiles"] is True
    assert told["empty"] is False
    assert told["states"] > 0


def test_check_a_saved_grammar(files: Path) -> None:
    Grammar.from_regex("a+").save(files / "saved.gramma")
    assert run("check", files / "saved.gramma", "--text", "aaa").exit_code == 0
    assert run("check", files / "saved.gramma", "--text", "b").exit_code == 1


def test_check_an_empty_language(files: Path) -> None:
    result = run("check", files / "empty.gbnf")
    assert result.exit_code == 1
    assert "rule pair" in result.stdout
    as_json = run("check", files / "empty.gbnf", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["empty"] is True
    with_text = run("check", files / "empty.gbnf", "--text", "ab")
    assert with_text.exit_code == 1
    assert "rule pair" in with_text.stdout


def test_check_a_text(files: Path) -> None:
    result = run("check", files / "invoice.schema.json", files / "good.json")
    assert (result.exit_code, result.stdout) == (0, "accepted\n")
    result = run("check", files / "invoice.schema.json", files / "bad.json")
    assert result.exit_code == 1
    assert "line 2, column 11" in result.stdout
    assert "'false' or 'true'" in result.stdout


def test_check_answers_in_json(files: Path) -> None:
    result = run("check", files / "invoice.schema.json", files / "bad.json", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["accepted"] is False
    assert (told["offset"], told["line"], told["column"]) == (12, 2, 11)
    assert told["expected"] == ["'false'", "'true'"]
    assert told["message"].startswith("line 2, column 11")
    assert told["rule_path"]
    result = run("check", files / "invoice.schema.json", files / "good.json", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["accepted"] is True


def test_standard_input(files: Path) -> None:
    grammar = files / "yesno.regex"
    assert run("check", grammar, "-", stdin="yes").exit_code == 0
    assert run("check", grammar, "-", stdin="yes\n").exit_code == 0
    assert run("check", grammar, "-", stdin="maybe\n").exit_code == 1
    assert run("explain", grammar, "-", stdin=b"\xff").exit_code == 1


def test_final_line_breaks(files: Path) -> None:
    """One at the end of a file is not held against the text, and is kept where it is wanted."""
    text = files / "answer"
    (files / "lines.regex").write_text(r"(?:[a-z]+\n){2}" + "\n")

    def status(grammar: str, content: bytes) -> int:
        text.write_bytes(content)
        return run("check", files / grammar, text).exit_code

    for content, expected in [(b"yes", 0), (b"yes\n", 0), (b"yes\r\n", 0), (b"yes\n\n", 1),
                              (b"\nyes", 1), (b"yes ", 1), (b"yes\r", 1), (b"\n", 1)]:  # fmt: skip
        assert status("yesno.regex", content) == expected, content
    for content, expected in [(b"a\nb\n", 0), (b"a\nb", 1), (b"a\nb\n\n", 0), (b"a\n", 1)]:
        assert status("lines.regex", content) == expected, content


def test_a_final_line_break_that_belongs_to_the_text_counts(files: Path) -> None:
    """Where the grammar goes on behind it, the place of the error is behind it, too."""
    (files / "lines.regex").write_text(r"a\nb")
    told = json.loads(run("check", files / "lines.regex", "--text", "a\n", "--json").stdout)
    assert (told["offset"], told["line"], told["column"]) == (2, 2, 1)
    assert told["expected"] == ["'b'"]


def test_an_empty_text_is_a_text(files: Path) -> None:
    (files / "nothing").write_bytes(b"")
    (files / "maybe.regex").write_text("a?")
    for grammar, expected in [("maybe.regex", 0), ("yesno.regex", 1)]:
        assert run("check", files / grammar, files / "nothing").exit_code == expected
        assert run("check", files / grammar, "--text", "").exit_code == expected
        assert run("check", files / grammar, "-", stdin="").exit_code == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_short_help(command: str) -> None:
    assert run(command, "-h").stdout == run(command, "--help").stdout
    assert "Usage" in run("model", "-h").stdout


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"gramma {version('gramma')}\n")


# --- standard input, byte order marks, how a grammar is read --------------------------------------

TEXTS_OF_KINDS = {
    "regex": ("yes|no\n", "yes", "maybe"),
    "gbnf": (ARITHMETIC, "1+(2)", "1+"),
    "lark": ('start: "[" N "]"\nN: /[0-9]+/\n', "[1]", "[]"),
    "json": (json.dumps(INVOICE), '{"paid":true}', '{"paid":1}'),
}


@pytest.mark.parametrize("kind", [*TEXTS_OF_KINDS, "gramma"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_grammars_from_files_and_standard_input(
    files: Path, toy: Path, kind: str, mark: str
) -> None:
    """Every command reads ``-``, and a byte order mark is no part of a grammar or a text."""
    if kind == "gramma":
        Grammar.from_regex("yes|no").save(files / "saved.gramma")
        source, right, wrong = (files / "saved.gramma").read_text(), "yes", "maybe"
    else:
        source, right, wrong = TEXTS_OF_KINDS[kind]
    data = (mark + source).encode()
    path = files / f"marked.{kind}"
    path.write_bytes(data)
    for text, status in ((right, 0), (wrong, 1)):
        (files / "text").write_text(mark + text + "\n", "utf-8")
        for command in (["check"], ["explain"], ["trace", "-m", toy]):
            assert run(*command, path, files / "text").exit_code == status
            piped = run(*command, "-", files / "text", "--kind", kind, stdin=data)
            assert piped.exit_code == status
            assert run(*command, path, "-", stdin=mark + text + "\n").exit_code == status
    sampled = run("sample", "-", "--kind", kind, "--seed", "1", stdin=data)
    assert sampled.stdout == run("sample", path, "--seed", "1").stdout
    budget = ["-m", str(toy), "--max-new-tokens", "16"]
    written = run("generate", "Hi", "-g", "-", "--kind", kind, *budget, stdin=data)
    assert written.exit_code == 0, written.stderr
    assert written.stdout == run("generate", "Hi", "-g", path, *budget).stdout


def test_schemas_and_texts_of_extract(short: Path, toy: Path) -> None:
    options = ["-m", str(toy), "--max-new-tokens", "12"]
    plain = run("extract", "-s", short / "short.json", short / "text.txt", *options)
    (short / "marked.txt").write_text("\ufeff" + (short / "text.txt").read_text(), "utf-8")
    marked = "\ufeff" + SHORT
    for result in (
        run("extract", "-s", "-", short / "marked.txt", *options, stdin=marked),
        run("extract", "-s", short / "short.json", short / "marked.txt", *options),
    ):
        assert (result.exit_code, result.stdout) == (0, plain.stdout)


def test_a_mark_that_the_grammar_wants_is_kept(files: Path) -> None:
    (files / "marked.txt").write_text("\ufeffyes", "utf-8")
    (files / "mark.regex").write_text(r"\ufeffyes")
    assert run("check", files / "mark.regex", files / "marked.txt").exit_code == 0
    told = run("check", files / "yesno.regex", files / "marked.txt", "--json")
    assert json.loads(told.stdout)["accepted"] is True
    (files / "marked.txt").write_text("\ufeffyea", "utf-8")
    told = run("check", files / "yesno.regex", files / "marked.txt", "--json")
    assert json.loads(told.stdout)["offset"] == 2, "counted as an editor does"


def test_standard_input_is_read_once(files: Path) -> None:
    for arguments in (
        ["check", "-", "-", "--kind", "regex"],
        ["generate", "-", "-g", "-", "--kind", "regex"],
        ["extract", "-s", "-", "-"],
    ):
        failed(run(*arguments, stdin="yes"), "standard input", "once")
    failed(run("check", "-", stdin="yes"), "standard input", "--kind")
    failed(run("check", files / "grammar.txt"), "grammar.txt", "suffix", "--kind")
    assert run("check", files / "grammar.txt", "--kind", "regex", "-t", "yes").exit_code == 0
    assert run("check", "-", "--kind", "nonsense", stdin="yes").exit_code == 2
    failed(run("check", "-", "--kind", "gbnf", stdin=b"root ::= \xff"), "standard input", "0xFF")
    failed(run("check", "-", "--kind", "gbnf", stdin='root ::= "'), "standard input", "line 1")


def test_start_rule(files: Path) -> None:
    for name, rule, right in (("sum.gbnf", "term", "(1+2)"), ("list.lark", "start", "[1]")):
        assert run("check", files / name, "--start", rule, "-t", right).exit_code == 0
        failed(run("check", files / name, "--start", "absent"), "absent")
    assert run("check", files / "sum.gbnf", "--start", "term", "-t", "1+2").exit_code == 1
    for name in ("yesno.regex", "invoice.schema.json"):
        failed(run("check", files / name, "--start", "a"), name, "--start", ".gbnf")
    mixed = run("check", files / "sum.gbnf", "--start", "a", "--whitespace", "compact")
    failed(mixed, "--whitespace can be said of a JSON Schema")
    assert "--start" not in mixed.stderr


def test_lexers_and_dialects_are_options(files: Path) -> None:
    conflict = files / "conflict.lark"
    conflict.write_text(
        'start: e ";" NL\nA_WS: /\\s+/\nNL: /\\n+/\nN: /[0-9]+/\ne: e A_WS "+" A_WS e | N\n'
    )
    text = files / "sum.txt"
    text.write_bytes(b"1 + 2;\n")
    assert run("check", conflict, text).exit_code == 0
    assert run("check", conflict, text, "--lexer", "basic").exit_code != 0
    counted = files / "counted.lark"
    counted.write_text('start: "a"{2,3}\n')
    text.write_bytes(b"aaa")
    assert run("check", counted, text, "--dialect", "llguidance").exit_code == 0
    failed(run("check", files / "yesno.regex", "--dialect", "llguidance"), "--dialect", ".lark")
    failed(run("check", counted, text, "--dialect", "xgrammar"), "llguidance")


def test_imports_of_a_lark_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "far").mkdir()
    (files / "near.lark").write_text("start: X\n%import .far.words.X\n")
    (files / "named.lark").write_text("start: X\n%import words.X\n")
    (files / "far" / "words.lark").write_text("X: /x+/\n")
    monkeypatch.chdir(files / "folder.gbnf")
    assert run("check", files / "near.lark", "-t", "xx").exit_code == 0
    failed(run("check", files / "named.lark", "-t", "xx"), "named.lark", "words")
    options = ["--import-path", str(files / "folder.gbnf"), "--import-path", str(files / "far")]
    assert run("check", files / "named.lark", "-t", "xx", *options).exit_code == 0
    failed(run("check", files / "yesno.regex", *options), "--import-path", ".lark")


@pytest.mark.parametrize("command", ["sample", "explain", "model list"])
@pytest.mark.skipif(os.name != "posix", reason="a pipe that is closed")
def test_nobody_reads(files: Path, command: str) -> None:
    """As other tools behind ``| head``: no message, and a status that is no verdict."""
    (files / "many.regex").write_text("[ab]{9000}")
    arguments: dict[str, list[str | Path]] = {
        "sample": ["sample", files / "many.regex", "-n", "40"],
        "explain": ["explain", files / "many.regex", "-t", "abc"],
        "model list": ["model", "list"],
    }
    own = [sys.executable, "-m", "samplers.cli", *map(str, arguments[command])]
    with subprocess.Popen(own, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        if command == "sample":
            assert len(running.stdout.read(3)) == 3
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141


# --- how a JSON Schema is read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ([], '{"total": 1,"paid":true}', 1),
        (["--property-order", "schema"], '{"total": 1,"paid":true}', 1),
        (["--property-order", "any"], '{"total": 1,"paid":true}', 0),
        (["--property-order", "any", "--whitespace", "compact"], '{"total": 1,"paid":true}', 1),
        (["--property-order", "any", "--whitespace", "compact"], '{"total":1,"paid":true}', 0),
        (["--whitespace", "flexible"], '{"paid": true}', 0),
        ([], '{"paid":true,"on":"today"}', 1),
        (["--formats", "assert"], '{"paid":true,"on":"today"}', 1),
        (["--formats", "annotate"], '{"paid":true,"on":"today"}', 0),
    ],
)
def test_options_for_schemas(
    files: Path, toy: Path, options: list[str], text: str, expected: int
) -> None:
    properties = {**INVOICE["properties"], "on": {"format": "date"}}  # type: ignore[dict-item]
    (files / "dated.json").write_text(json.dumps({**INVOICE, "properties": properties}))
    for command in ("check", "explain"):
        assert run(command, files / "dated.json", "-t", text, *options).exit_code == expected
    traced = run("trace", files / "dated.json", "-t", text, "-m", toy, *options)
    assert traced.exit_code == expected


def test_written_as_the_options_say(files: Path, toy: Path) -> None:
    schema = '{"type":"array","items":{"const":""},"minItems":2,"maxItems":2}'
    (files / "two.json").write_text(schema)
    compact = ["--whitespace", "compact"]
    assert run("sample", files / "two.json", *compact).stdout == '["",""]\n'
    written = answer(files, toy, "two.json", *compact, "--max-new-tokens", "8")
    assert written.stdout == '["",""]\n'
    told = extracted(
        files,
        toy,
        files / "text.txt",
        *compact,
        "--max-new-tokens",
        "8",
        "--json",
        schema="two.json",
    )
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["text"] == '["",""]', told.stderr


SAYINGS = [
    ["--property-order", "any"],
    ["--formats", "annotate"],
    ["--whitespace", "flexible"],
    ["--numbers", "any"],
]


@pytest.mark.parametrize("options", SAYINGS, ids=lambda options: options[0])
@pytest.mark.parametrize("command", COMMANDS)
def test_options_for_what_is_no_schema(files: Path, command: str, options: list[str]) -> None:
    Grammar.from_json_schema(INVOICE).save(files / "saved.json")
    Grammar.from_json_schema(INVOICE).save(files / "saved.gramma")
    names = ["saved.json"]
    if command != "extract":
        names += ["yesno.regex", "sum.gbnf", "list.lark", "saved.gramma", "grammar.txt"]
    for name in names:
        arguments: dict[str, list[str | Path]] = {
            "check": ["check", files / name],
            "sample": ["sample", files / name],
            "generate": ["generate", "hello", "--grammar", files / name],
            "extract": ["extract", files / "text.txt", "--schema", files / name],
        }
        asked = arguments.get(command, [command, files / name, "--text", "a"])
        failed(run(*asked, *options), name, options[0], "JSON Schema")


def test_options_are_named_together_and_checked(files: Path) -> None:
    said = [word for options in SAYINGS for word in options]
    names = "--property-order and --formats and --whitespace and --numbers"
    failed(run("check", files / "sum.gbnf", *said), names)
    for option, _ in SAYINGS:
        wrong = run("check", files / "invoice.schema.json", option, "nonsense")
        assert wrong.exit_code == 2
        assert "nonsense" in wrong.stderr
    for name, part in [
        ("broken.schema.json", "line 1, column 10"),
        ("absent.json", "No such file"),
    ]:
        failed(run("check", files / name, *SAYINGS[0]), name, part)
    (files / "latin.json").write_bytes('{"const": "é"}'.encode("latin-1"))
    failed(run("check", files / "latin.json", *SAYINGS[0]), "latin.json", "UTF-8")


# --- what cannot be run ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "explain", "sample", "trace", "generate"])
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("absent.gbnf", ["absent.gbnf", "No such file"]),
        ("folder.gbnf", ["folder.gbnf", "directory"]),
        ("latin.gbnf", ["latin.gbnf", "0xE9", "UTF-8"]),
        ("broken.gbnf", ["broken.gbnf", "line 1, column 10", "never closed"]),
        ("broken.schema.json", ["broken.schema.json", "line 1, column 10"]),
        ("grammar.txt", ["grammar.txt", "suffix", ".gbnf"]),
    ],
)
def test_grammars_that_cannot_be_read(
    files: Path, command: str, name: str, parts: list[str]
) -> None:
    arguments: dict[str, list[str | Path]] = {
        "check": ["check", files / name],
        "sample": ["sample", files / name],
        "generate": ["generate", "hello", "--grammar", files / name],
    }
    failed(run(*arguments.get(command, [command, files / name, "--text", "a"])), *parts)


@pytest.mark.parametrize("command", ["check", "explain", "trace"])
def test_texts_that_cannot_be_read(files: Path, command: str) -> None:
    grammar = files / "yesno.regex"
    failed(run(command, grammar, files / "absent.txt"), "absent.txt", "No such file")
    failed(run(command, grammar, files / "folder.gbnf"), "folder.gbnf", "directory")
    failed(run(command, grammar, files / "good.json", "--text", "yes"), "not both")
    if command != "check":
        failed(run(command, grammar), "TEXT-FILE", "--text")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads anything")
def test_files_without_permission(files: Path) -> None:
    (files / "yesno.regex").chmod(0)
    failed(run("check", files / "yesno.regex"), "yesno.regex", "Permission denied")


def test_a_text_that_is_not_utf8_does_not_match(files: Path) -> None:
    (files / "latin.txt").write_bytes(b"caf\xe9")
    (files / "word.regex").write_text("[a-zé]+")
    for command in ("check", "explain"):
        result = run(command, files / "word.regex", files / "latin.txt")
        assert result.exit_code == 1
        assert "byte 0xE9" in result.stdout
    told = run("check", files / "word.regex", files / "latin.txt", "--json")
    assert json.loads(told.stdout)["offset"] == 3


# --- explain --------------------------------------------------------------------------------------


def test_explain(files: Path) -> None:
    result = run("explain", files / "sum.gbnf", "--text", "1+(2+x")
    assert result.exit_code == 1
    assert "line 1, column 6 (byte 5): unexpected 'x'" in result.stdout
    assert "1+(2+x" in result.stdout
    assert "of the grammar" in result.stdout
    told = json.loads(run("explain", files / "sum.gbnf", "--text", "1+(2+x", "--json").stdout)
    assert told["rule_path"]
    assert set(told["rule_path"]) <= {"root", "term"}
    assert (told["offset"], told["accepted"]) == (5, False)
    for name in told["rule_path"]:
        assert f"{name}: line {2 if name == 'term' else 1} of the grammar" in result.stdout


def test_explain_a_text_that_matches(files: Path) -> None:
    result = run("explain", files / "sum.gbnf", "--text", "1+(2+3)")
    assert (result.exit_code, result.stdout) == (0, "accepted\n")
    told = json.loads(run("explain", files / "sum.gbnf", "--text", "1", "--json").stdout)
    assert (told["accepted"], told["expected"], told["rule_path"]) == (True, [], [])


# --- sample ---------------------------------------------------------------------------------------


def test_sample(files: Path) -> None:
    grammar = files / "sum.gbnf"
    result = run("sample", grammar, "-n", "6", "--seed", "3")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 6
    assert all(Grammar.from_gbnf(ARITHMETIC).accepts(line) for line in lines)
    assert run("sample", grammar, "-n", "6", "--seed", "3").stdout == result.stdout
    assert json.loads(run("sample", grammar, "-n", "6", "--seed", "3", "--json").stdout) == lines
    assert json.loads(run("sample", grammar, "--json").stdout)


def test_sample_keeps_to_max_bytes(files: Path) -> None:
    for seed in range(20):
        result = run("sample", files / "sum.gbnf", "--max-bytes", "3", "--seed", str(seed))
        assert result.exit_code == 0
        assert len(result.stdout.removesuffix("\n")) <= 3
    failed(run("sample", files / "yesno.regex", "--max-bytes", "1"), "max_bytes")


def test_sample_of_an_empty_language(files: Path) -> None:
    failed(run("sample", files / "empty.gbnf"), "rule pair")


def test_samples_with_line_breaks_and_beyond_ascii(files: Path) -> None:
    (files / "odd.gbnf").write_text('root ::= "a\\nb\\t\\"é"', "utf-8")
    assert run("sample", files / "odd.gbnf").stdout == 'a\nb\t"é\n'
    assert json.loads(run("sample", files / "odd.gbnf", "--json").stdout) == ['a\nb\t"é']


def test_open_rules_of_a_deep_text(files: Path) -> None:
    result = run("explain", files / "sum.gbnf", "--text", "(" * 40)
    assert result.exit_code == 1
    assert "  ...\n" in result.stdout
    assert "\n  root: line 1 of the grammar\n" in result.stdout


# --- trace ----------------------------------------------------------------------------------------

STEP = {
    "token",
    "token_id",
    "allowed",
    "may_end",
    "forced",
    "to_end",
    "allowed_here",
    "begin",
    "end",
}


def test_trace(files: Path, toy: Path) -> None:
    result = run("trace", files / "yesno.regex", "--text", "yes", "-m", toy, "--json")
    assert result.exit_code == 0
    steps = json.loads(result.stdout)
    assert all(set(step) == STEP for step in steps)
    assert "".join(step["token"] for step in steps) == "yes"
    assert steps[0]["allowed"] == 2
    assert [step["to_end"] for step in steps] == [2, 2, 1, 0]  # no is shorter than yes
    assert [step["forced"] for step in steps] == ["", "es", "s", ""]
    assert [step["may_end"] for step in steps] == [False, False, False, True]
    assert steps[-1]["token_id"] == -1
    assert all(step["allowed_here"] for step in steps)


def test_trace_stops_at_the_first_token_that_is_not_allowed(files: Path, toy: Path) -> None:
    for text, count, last in [("yea", 3, "a"), ("ye", 3, ""), ("", 1, ""), ("yess", 4, "s")]:
        result = run("trace", files / "yesno.regex", "--text", text, "-m", toy, "--json")
        assert result.exit_code == 1
        steps = json.loads(result.stdout)
        assert len(steps) == count
        assert (steps[-1]["token"], steps[-1]["allowed_here"]) == (last, False)
        assert all(step["allowed_here"] for step in steps[:-1])


def test_trace_as_a_table(files: Path, toy: Path) -> None:
    result = run("trace", files / "yesno.regex", "-m", toy, "-", stdin="yes\n")
    assert result.exit_code == 0
    assert "(end)" in result.stdout
    assert "NOT ALLOWED" not in result.stdout
    result = run("trace", files / "yesno.regex", "-m", toy, "-t", "yea")
    assert result.exit_code == 1
    assert "NOT ALLOWED" in result.stdout
    assert "line 1, column 3" in result.stdout


@pytest.mark.parametrize("text", ["[b]", "[/]", "\\[x]", "a\\", "\\"])
def test_trace_shows_what_looks_like_markup(files: Path, toy: Path, text: str) -> None:
    (files / "any.regex").write_text(r"[\[\]\\/abx]+")
    result = run("trace", files / "any.regex", "-m", toy, "-t", text)
    assert result.exit_code == 0
    cells = [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line]
    assert cells[: len(text)] == list(text)


def test_trace_shows_forced_text_that_looks_like_markup(files: Path, toy: Path) -> None:
    (files / "forced.regex").write_text(r"x\\\[b\]")
    result = run("trace", files / "forced.regex", "-m", toy, "-t", "x\\[b]")
    assert result.exit_code == 0
    first = next(line for line in result.stdout.splitlines() if "│" in line)
    assert first.split("│")[5].strip() == "x\\[b]"


def test_trace_of_bytes_that_are_no_text(files: Path, toy: Path) -> None:
    (files / "raw").write_bytes(b"a\xff")
    (files / "letters.regex").write_text("[a-z]+")
    result = run("trace", files / "letters.regex", files / "raw", "-m", toy, "--json")
    assert result.exit_code == 1
    steps = json.loads(result.stdout)
    assert (steps[-1]["token"], steps[-1]["allowed_here"]) == ("\\xff", False)


def test_trace_of_an_empty_language(files: Path, toy: Path) -> None:
    failed(run("trace", files / "empty.gbnf", "-t", "a", "-m", toy), "rule pair")


# --- generate -------------------------------------------------------------------------------------


def answer(files: Path, toy: Path, grammar: str, *more: str, prompt: str = "Hello?") -> Result:
    return run("generate", prompt, "-g", files / grammar, "-m", toy, *more)


def test_generate(files: Path, toy: Path) -> None:
    result = answer(files, toy, "invoice.schema.json", "--max-new-tokens", "16")
    assert result.exit_code == 0
    assert Grammar.from_json_schema(INVOICE).accepts(result.stdout.removesuffix("\n"))
    assert "loading" in result.stderr
    as_json = answer(files, toy, "invoice.schema.json", "--max-new-tokens", "16", "--json")
    told = json.loads(as_json.stdout)
    assert told["text"] + "\n" == result.stdout
    assert told["complete"] is True
    assert 0 < len(told["tokens"]) <= 16


@pytest.mark.parametrize("grammar", ["yesno.regex", "sum.gbnf", "list.lark"])
def test_generate_texts_that_are_not_json(files: Path, toy: Path, grammar: str) -> None:
    """The example of ``--help`` is one of them."""
    result = answer(files, toy, grammar, "--max-new-tokens", "16")
    assert result.exit_code == 0, result.stderr
    assert Grammar.from_file(files / grammar).accepts(result.stdout.removesuffix("\n"))


def test_generate_again_with_a_seed(files: Path, toy: Path) -> None:
    (files / "long.schema.json").write_text('{"type": "string", "minLength": 3, "maxLength": 4}')
    options = ["--max-new-tokens", "14", "--temperature", "1.0", "--seed"]
    texts = [answer(files, toy, "long.schema.json", *options, s).stdout for s in "112"]
    assert texts[0] == texts[1] != texts[2]


def test_generate_from_standard_input(files: Path, toy: Path) -> None:
    arguments = ["-g", str(files / "invoice.schema.json"), "-m", str(toy), "--max-new-tokens", "12"]
    result = run("generate", "-", *arguments, stdin="Hello?")
    assert result.exit_code == 0
    assert result.stdout == run("generate", "Hello?", *arguments).stdout


def test_generate_within_a_budget_that_is_too_small(files: Path, toy: Path) -> None:
    failed(answer(files, toy, "invoice.schema.json", "--max-new-tokens", "3"), "at least")
    failed(answer(files, toy, "empty.gbnf"), "rule pair")
    too_long = answer(files, toy, "invoice.schema.json", prompt="a" * 1_000)
    failed(too_long, "context", "shorten")


def test_generate_what_goes_on_with_the_prompt(files: Path, toy: Path) -> None:
    """``{"`` is a token, so that a brace is taken back where a quote follows."""
    (files / "quoted.regex").write_text('"(true|12)"')
    options = ["--raw", "--max-new-tokens", "10", "--json"]
    told = json.loads(answer(files, toy, "quoted.regex", *options, prompt="x: {").stdout)
    healed = json.loads(
        answer(files, toy, "quoted.regex", *options, "--heal", prompt="x: {").stdout
    )
    assert CHAT.decode(told["tokens"], skip_special_tokens=True) == told["text"]
    assert CHAT.decode(healed["tokens"], skip_special_tokens=True) == "{" + healed["text"]
    for found in (told, healed):
        assert found["complete"]
        assert found["text"] in ('"true"', '"12"')


def test_written_as_the_tokenizer_writes(files: Path, toy: Path) -> None:
    options = ["--canonical", "--max-new-tokens", "16", "--temperature", "1.0", "--json", "--seed"]
    for seed in "123":
        told = json.loads(answer(files, toy, "invoice.schema.json", *options, seed).stdout)
        assert told["tokens"][:-1] == CHAT(told["text"]).input_ids
    (files / "tea.json").write_text('{"enum": ["tea", "true"]}')
    read = extracted(files, toy, files / "text.txt", *options, "1", "--heal", schema="tea.json")
    assert read.exit_code == 0, read.stderr
    told = json.loads(read.stdout)
    assert told["tokens"][:-1] == CHAT(told["text"]).input_ids


def test_choose(toy: Path) -> None:
    result = run("choose", "-m", toy, "Is water wet?", "yes", "no", "--", "-maybe")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {choice for _, choice in lines} == {"yes", "no", "-maybe"}
    shares = [float(share) for share, _ in lines]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=2e-4)
    assert "one of these with probability" in result.stderr
    told = json.loads(
        run("choose", "-m", toy, "-", "yes", "no", "--json", stdin="Is water wet?").stdout
    )
    expected = choose(model(), CHAT, [{"role": "user", "content": "Is water wet?"}], ["yes", "no"])
    assert told["probabilities"] == pytest.approx(expected, rel=0.05)  # of bfloat16
    assert told["mass"] == pytest.approx(expected.mass, rel=0.05)
    raw = json.loads(run("choose", "-m", toy, "--raw", "--begins", "a", "b", "c", "--json").stdout)
    begun = choose(model(), CHAT, "a", ["b", "c"], ends=False)
    assert raw["probabilities"] == pytest.approx(begun, rel=0.05)
    failed(run("choose", "-m", toy, "a", "b", "b"), "'b' is there twice")


def test_generate_with_a_folder_that_is_no_model(files: Path) -> None:
    failed(answer(files, files / "folder.gbnf", "invoice.schema.json"), "folder.gbnf")


# --- extract --------------------------------------------------------------------------------------


def extracted(files: Path, toy: Path, text: str | Path, *more: str, **rest: Any) -> Result:
    schema = files / rest.pop("schema", "invoice.schema.json")
    return run("extract", "--schema", schema, "-m", toy, text, *more, **rest)


#: the prompt quotes the schema, and the toy reads a few hundred bytes only
SHORT = '{"type":"array","items":{"enum":["tea",1]},"minItems":1}'


@pytest.fixture
def short(files: Path) -> Path:
    (files / "short.json").write_text(SHORT)
    return files


def test_extract(short: Path, toy: Path) -> None:
    arguments = ["--max-new-tokens", "12"]
    result = extracted(short, toy, short / "text.txt", *arguments, schema="short.json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert set(value) <= {"tea", 1}
    assert value
    told = extracted(short, toy, short / "text.txt", *arguments, "--json", schema="short.json")
    assert told.exit_code == 0
    told_value = json.loads(told.stdout)
    assert told_value["value"] == value
    assert json.loads(told_value["text"]) == value
    assert told_value["complete"] is True


def test_extract_shows_where_values_stand(short: Path, toy: Path) -> None:
    (short / "tea.json").write_text('{"const": ["tea", 1, true]}')
    (short / "tea.txt").write_text("Green <tea>\n1 tea, please", "utf-8")
    page = short / "page.html"
    options = ["--max-new-tokens", "30", "--show", "--html", page]
    result = extracted(short, toy, short / "tea.txt", *options, schema="tea.json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == ["tea", 1, True]
    assert "[tea]{/0}" in result.stderr
    assert "[1]{/1}" in result.stderr
    assert "line 2, column 1" in result.stderr
    assert "Values of tea.txt" in page.read_text("utf-8")
    told = json.loads(
        extracted(short, toy, short / "tea.txt", *options[:2], "--json", schema="tea.json").stdout
    )
    assert told["sources"]["/1"] == [12, 13]
    assert told["ambiguous"] == {"/0": [[7, 10], [14, 17]]}
    assert told["sources"]["/0"] in told["ambiguous"]["/0"]
    assert told["confidence"].keys() == {"", "/0", "/1", "/2"}
    assert 0 < told["confidence"]["/2"] < 1
    away = extracted(
        short, toy, short / "tea.txt", "--html", short / "no" / "p.html", schema="short.json"
    )
    assert away.exit_code == 2
    assert "No such file" in away.stderr


def test_extract_from_a_part_of_the_text(short: Path, toy: Path) -> None:
    (short / "tea.json").write_text('{"const": ["tea"]}')
    text = "one tea\ntwo teas\nthree teas\n"
    options = ["--max-new-tokens", "30", "--json"]
    less = extracted(short, toy, "-", "--keep", "12", *options, schema="tea.json", stdin=text)
    told = json.loads(less.stdout)["shortened"]
    assert 0 < told["kept"] <= 12 < told["tokens"]
    assert "".join(text[a:b] for a, b in told["spans"]) in text
    assert f"Read {told['kept']} of the text's {told['tokens']} tokens" in less.stderr
    whole = extracted(short, toy, "-", "--keep", "99", *options, schema="tea.json", stdin=text)
    assert json.loads(whole.stdout)["shortened"]["spans"] == [[0, len(text) - 1]]
    assert "Read" not in whole.stderr
    plain = extracted(short, toy, "-", *options, schema="tea.json", stdin=text)
    assert "shortened" not in json.loads(plain.stdout)


def test_extract_what_stands_in_the_text(short: Path, toy: Path) -> None:
    (short / "word.json").write_text('{"type": "array", "items": {"type": "string", "minLength": 1}, '
                                     '"minItems": 1, "maxItems": 2}')  # fmt: skip
    (short / "source.txt").write_text("Ann met Bea Lee", "utf-8")
    options = ["--grounded", "--max-new-tokens", "40", "--json", "--seed", "1"]
    told = json.loads(
        extracted(short, toy, short / "source.txt", *options, schema="word.json").stdout
    )
    for number, word in enumerate(told["value"]):
        begin, end = told["sources"][f"/{number}"]
        assert "Ann met Bea Lee"[begin:end] == word
    (short / "mark.json").write_text(
        '{"type": "string", "minLength": 3, "x-gramma-source": "verbatim"}'
    )
    piped = extracted(
        short, toy, "-", "--max-new-tokens", "40", schema="mark.json", stdin="Ann Lee"
    )
    assert json.loads(piped.stdout) in ("Ann", "Lee", "Ann Lee")
    (short / "none.json").write_text('{"type": "string", "minLength": 30}')
    failed(extracted(short, toy, "-", "--grounded", schema="none.json", stdin="Ann"), "no text")


def test_extract_from_standard_input(short: Path, toy: Path) -> None:
    arguments = ["--max-new-tokens", "12"]
    from_file = extracted(short, toy, short / "text.txt", *arguments, schema="short.json")
    text = (short / "text.txt").read_text()
    piped = extracted(short, toy, "-", *arguments, schema="short.json", stdin=text)
    assert piped.exit_code == 0
    assert piped.stdout == from_file.stdout


def test_extract_from_bytes_that_are_no_text(short: Path, toy: Path) -> None:
    """What a text says does not depend on a byte that got lost."""
    result = extracted(
        short, toy, "-", "--max-new-tokens", "12", schema="short.json", stdin=b"caf\xe9 paid"
    )
    assert result.exit_code == 0


def test_extract_what_cannot_be_run(short: Path, toy: Path) -> None:
    text = short / "text.txt"
    failed(extracted(short, toy, short / "absent.txt"), "absent.txt", "No such file")
    failed(extracted(short, toy, text, schema="absent.json"), "absent.json", "No such file")
    failed(extracted(short, toy, short / "folder.gbnf"), "folder.gbnf", "directory")
    failed(extracted(short, toy, text, schema="broken.schema.json"), "line 1, column 10")
    failed(extracted(short, toy, text, "--max-new-tokens", "2", schema="short.json"), "at least")


def test_extract_with_a_schema_that_is_not_utf8(short: Path, toy: Path) -> None:
    (short / "latin.json").write_bytes('{"const": "é"}'.encode("latin-1"))
    failed(extracted(short, toy, short / "text.txt", schema="latin.json"), "latin.json", "UTF-8")


# --- models ---------------------------------------------------------------------------------------


def test_model_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    result = run("model", "list", "--json")
    assert result.exit_code == 0
    (info,) = json.loads(result.stdout)
    assert (info["name"], info["licence"], info["path"]) == (DEFAULT_MODEL, "Apache-2.0", None)
    result = run("model", "list")
    assert result.exit_code == 0
    assert "smollm2" in result.stdout
    for value in (info["name"], info["package"], info["licence"], info["description"]):
        assert value in result.stdout


def shown(text: str, width: int | None) -> str:
    """What :func:`samplers.output.show` writes to a terminal of a width, or to a pipe."""
    code = (
        "from rich.table import Table; from rich.text import Text; from samplers.output import show\n"
        "import sys; table = Table()\n"
        "for _ in range(3): table.add_column('name', overflow='fold')\n"
        "table.add_row(*(Text(sys.argv[1]) for _ in range(3))); show(table)"
    )
    environment = {**os.environ, "COLUMNS": str(width or 80)}
    environment |= {"TTY_COMPATIBLE": "0" if width is None else "1", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, text], capture_output=True, text=True, check=True,
        env=environment, timeout=PATIENCE,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("width", [None, 200, 80, 40])
def test_tables_lose_nothing(width: int | None) -> None:
    word = "".join(chr(33 + i % 90) for i in range(60)).replace("[", "(")
    lines = [line for line in shown(word, width).splitlines() if "│" in line]
    columns = ["".join(line.split("│")[i].strip() for line in lines) for i in (1, 2, 3)]
    assert columns == [word] * 3
    assert (len(lines) == 1) == (width in (None, 200))


def test_model_fetch_of_an_unknown_name() -> None:
    failed(run("model", "fetch", "smollm9"), "'smollm9'", DEFAULT_MODEL)


@pytest.mark.model
def test_model_fetch(embedded: str) -> None:
    result = run("model", "fetch")
    assert result.exit_code == 0
    folder = Path(result.stdout.strip())
    assert (folder / "config.json").is_file()
    (info,) = json.loads(run("model", "list", "--json").stdout)
    assert info["path"] == str(folder)


# --- the embedded model ---------------------------------------------------------------------------


@pytest.mark.model
def test_trace_with_the_embedded_tokenizer(files: Path, embedded: str) -> None:
    result = run("trace", files / "invoice.schema.json", files / "good.json", "--json")
    assert result.exit_code == 0
    steps = json.loads(result.stdout)
    assert "".join(step["token"] for step in steps) == '{"paid": true, "total": 12}'
    assert len(steps) < 20


@pytest.mark.model
def test_generate_with_the_embedded_model(files: Path, embedded: str) -> None:
    question = "Is water wet? Answer yes or no."
    result = run("generate", question, "-g", files / "yesno.regex", "--max-new-tokens", "4")
    assert result.exit_code == 0, result.stderr
    assert result.stdout in ("yes\n", "no\n")


@pytest.mark.model
def test_extract_with_the_embedded_model(files: Path, embedded: str) -> None:
    (files / "state.json").write_text('{"enum": ["paid", "open"]}')
    text = files / "text.txt"
    result = run("extract", "-s", files / "state.json", text, "--max-new-tokens", "5")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) in ("paid", "open")


# --- as a program ---------------------------------------------------------------------------------


def test_check_as_a_program(files: Path) -> None:
    done = program("check", files / "invoice.schema.json", files / "good.json")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"accepted"], b"")
    done = program("check", files / "yesno.regex", "-", stdin=b"maybe\r\n")
    assert done.returncode == 1
    assert b"unexpected 'm'" in done.stdout
    done = program("check", files / "absent.regex")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"absent.regex" in done.stderr
    assert b"Traceback" not in done.stderr


def test_sample_as_a_program(files: Path) -> None:
    (files / "odd.regex").write_text("é€\U0001f600", "utf-8")
    done = program("sample", files / "odd.regex", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == ["é€\U0001f600"]
    assert program("sample", files / "empty.gbnf").returncode == 2


def test_an_output_that_lacks_a_character_is_no_error(files: Path) -> None:
    (files / "odd.regex").write_text("é€", "utf-8")
    command = [sys.executable, "-m", "samplers.cli", "sample", str(files / "odd.regex")]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        command, capture_output=True, timeout=PATIENCE, check=True, env=environment
    )
    assert done.stdout.strip() == b"\xe9\\u20ac"


def test_checking_a_grammar_does_not_load_torch(files: Path) -> None:
    code = (
        "import sys; from samplers.cli import app\n"
        f"try: app(['check', {str(files / 'yesno.regex')!r}])\n"
        "except SystemExit as end: print(end.code, {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_the_entry_point_is_the_app() -> None:
    runs: Callable[[], None] = main
    assert callable(runs)


# --- limits ---------------------------------------------------------------------------------------


def test_limits_are_options(files: Path) -> None:
    grammar = files / "sum.gbnf"
    told = run("check", grammar, "--limit", "max_work=1")
    failed(told, "Limits.max_work = 1", "(--limit max_work=...)")
    assert (
        run("check", grammar, "--limit", "max_work=100_000", "--limit", "max_items=50").exit_code
        == 0
    )
    failed(
        run("check", grammar, "--limit", "max_wrok=1"),
        "no limit 'max_wrok'",
        "did you mean 'max_work'?",
    )
    failed(run("check", grammar, "--limit", "max_work=many"), "write --limit max_work=NUMBER")
