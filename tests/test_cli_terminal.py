"""The command in a pseudo-terminal: lines fit, messages break between words; pipes get plain text."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals", allow_module_level=True)

import fcntl
import pty
import termios

from interrupts import heed_interrupts

from samplers.output import wrapped

ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")
LONG = "a" * 60
FILES: dict[str, str] = {
    "sum.gbnf": 'root ::= e\ne ::= e "+" e | [0-9]\nunused ::= "x"\n',
    "day.regex": r"\d{4}-(0[1-9]|1[0-2])" + "\n",
    "list.lark": 'start: "[" NUMBER ("," NUMBER)* "]"\nNUMBER: /[0-9]+/\n',
    "broken.gbnf": 'root ::= greeting " " nmae\ngreeting ::= "hello"\nname ::= [a-z]+\n',
    "person.json": json.dumps(
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer", "maximum": 99}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    ),
    "bad.txt": f'{{"name": "{LONG}", "age": "{LONG}"}}\n',
    "cases.toml": 'grammar = "day.regex"\naccept = ["2024-12"]\nreject = ["2024-13", "2024-01"]\n',
}
# arguments, exit status
COMMANDS: list[tuple[str, int]] = [
    ("--version", 0),
    ("check list.lark", 0),
    ("check broken.gbnf", 2),
    ("check absent.gbnf", 2),
    ("check person.json bad.txt", 1),
    ("check day.regex --text 2024-1x --json", 1),
    ("explain person.json bad.txt", 1),
    ("explain sum.gbnf --text 1+x", 1),
    ("sample day.regex -n 3 --seed 1", 0),
    ("test cases.toml", 1),
    ("list", 0),
    ("lint sum.gbnf", 1),
    ("convert list.lark --to gbnf", 0),
    ("fmt sum.gbnf", 0),
    ("nonsense", 2),
]
HELP = ["", "check", "explain", "sample", "trace", "generate", "extract", "play", "test", "list",
        "lint", "convert", "fmt", "bench", "model", "model list", "model fetch"]  # fmt: skip
_ROOT = str(Path(__file__).parents[1])
_RUN = [sys.executable, "-m", "samplers.cli"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("terminal")
    for name, content in FILES.items():
        (made / name).write_text(content)
    return made


def in_terminal(
    arguments: list[str], folder: Path, width: int, interrupt_after: str = ""
) -> tuple[str, int]:
    """What a command writes to a terminal of a width, and its exit status.

    Args:
        arguments: of the command.
        folder: where it runs.
        width: columns.
        interrupt_after: Ctrl-C is pressed when this has been written.
    """
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*_RUN, *arguments], stdin=other, stdout=other, stderr=other, cwd=folder, close_fds=True,
        env={**environment, "TERM": "xterm-256color", "PYTHONPATH": _ROOT}, start_new_session=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    os.close(other)
    out, end = b"", time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not select.select([main], [], [], 0.1)[0]:
            continue
        try:
            found = os.read(main, 65536)
        except OSError:
            break
        if not found:
            break
        out += found
        if interrupt_after and interrupt_after.encode() in out:
            os.killpg(process.pid, signal.SIGINT)
            interrupt_after = ""
    os.close(main)
    return out.decode("utf-8", "replace").replace("\r\n", "\n"), process.wait(PATIENCE)


def piped(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """What a command writes to pipes."""
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": _ROOT}
    return subprocess.run(
        [*_RUN, *arguments], cwd=folder, capture_output=True, env=environment, check=False
    )


def plain(written: str) -> list[str]:
    """The lines without escape codes."""
    return ESCAPE.sub("", written).rstrip("\n").split("\n")


@pytest.mark.parametrize(("command", "status"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_lines_fit_into_80_columns(folder: Path, command: str, status: int) -> None:
    written, found = in_terminal(command.split(), folder, 80)
    assert found == status, written
    assert "Traceback" not in written
    wide = [] if "--json" in command else [line for line in plain(written) if len(line) > 80]
    assert not wide
    assert "\r" not in written


@pytest.mark.slow
def test_lines_fit_into_120_columns(folder: Path) -> None:
    for command in ("list", "lint sum.gbnf", "check --help"):
        lines = plain(in_terminal(command.split(), folder, 120)[0])
        assert 80 < max(map(len, lines)) <= 120


@pytest.mark.parametrize("command", HELP)
def test_help_fits(folder: Path, command: str) -> None:
    """In one process, as what is shown is all that matters."""
    from typer.testing import CliRunner

    from samplers.cli import app

    for width in (80, 120):
        environment = {"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)}
        shown = CliRunner().invoke(app, [*command.split(), "--help"], env=environment).output
        assert max(map(len, plain(shown))) <= width
        assert "\u2022" not in shown  # a hyphen at the beginning becomes an item of a list


@pytest.mark.slow
@pytest.mark.parametrize(("command", "status"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_piped_there_are_no_escape_codes(folder: Path, command: str, status: int) -> None:
    found = piped(command.split(), folder)
    assert found.returncode == status
    assert b"\x1b" not in found.stdout + found.stderr
    assert b"\r" not in found.stdout + found.stderr


def test_piped_messages_are_not_broken(folder: Path) -> None:
    assert piped(["check", "broken.gbnf"], folder).stderr.count(b"\n") == 1


@pytest.mark.parametrize(("command", "sign"), [
    ("lint sum.gbnf --watch", "unreachable"), ("play sum.gbnf --no-browser", "http://"),
], ids=["lint", "play"])  # fmt: skip
def test_ctrl_c_ends_quietly(folder: Path, command: str, sign: str) -> None:
    written, status = in_terminal(command.split(), folder, 80, interrupt_after=sign)
    assert status == 0
    assert "Traceback" not in written


def test_wrapping_keeps_what_fits_and_indents_the_rest() -> None:
    assert wrapped("a b\n  c", 20) == "a b\n  c"
    assert wrapped("one two three four five six", 20) == "one two three four\n  five six"
    assert wrapped("  one two three four five", 20) == "  one two three four\n    five"
    assert wrapped("x" * 45, 20).replace("\n", "").replace(" ", "") == "x" * 45
