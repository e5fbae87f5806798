"""The benchmark of AdaDec: where it cuts texts, how it judges programs, what it counts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from patience import PATIENCE

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import adadec as benchmark

MBPP = {
    "doc": {
        "task_id": 7,
        "code": "def twice(n):\r\n    return 2 * n \r\n",
        "test_setup_code": "one = 1\r\nfour = 4",
        "test_list": ["assert twice(one) == 2", "assert twice(four) == 8"],
    },
    "request": {"context": "Double a number.\n```python\n"},
}
HUMANEVAL = {
    "doc": {
        "task_id": "HumanEval/7",
        "prompt": 'def twice(n):\n    """Doubles."""\n',
        "canonical_solution": "    return 2 * n\n",
        "test": "def check(candidate):\n    assert candidate(4) == 8\n",
        "entry_point": "twice",
    },
}


def task(name: str) -> benchmark.Task:
    """A function f to write."""
    return benchmark.Task(name, "one", "", "", "", "f", "")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("def f():\n    return 1\n```\nIt works.", "def f():\n    return 1\n"),
        ("def f():\n    return 1\n\nprint(f())", "def f():\n    return 1\n"),
        ("def f():\n    return 1\n\nif f():", "def f():\n    return 1\n"),
        ("def f():\n    return 1\nassert f()", "def f():\n    return 1"),
        ("import re\n\ndef f():\n    if 1:\n        return 1", None),
        ("def f():\n    return 1\n\ndef f():\n    return 2", "def f():\n    return 1\n"),
        ("def f():\n    return 1\n```\n\ndef f():", "def f():\n    return 1\n"),
        ("def g():\n    return 1\n\ndef f():\n    return g()\n\nd", None),
        ("def ff():\n    return 1\n\ndef f():\n    return ff()", None),
        ("# it is easy\ndef f():\n    # one\n    return 1", None),
    ],
)
def test_answers_in_a_block_end(text: str, kept: str | None) -> None:
    assert text[: task("mbpp").end(text)] == (text if kept is None else kept)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\n    return 1\n\n\ndef g():\n    return 2", "\n    return 1\n\n"),
        ("\n    return 1\n\nThis is it.", "\n    return 1\n"),
        ("\n    return 1\n# done", "\n    return 1"),
        ("\n    return [\n        1,\n]\n\nf()", "\n    return [\n        1,\n]\n"),
        ("\n    a = 1\n\n    return a\n", None),
        ("\n    a = 1\n\n", None),
    ],
)
def test_answers_within_a_function_end(text: str, kept: str | None) -> None:
    assert text[: task("humaneval").end(text)] == (text if kept is None else kept)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("assert 1 + 1 == 2", "passed"),
        ("print(open('answer.py').read())", "passed"),
        ("assert 1 + 1 == 3", "wrong"),
        ("def f(:", "syntax"),
        ("f()", "error"),
        ("raise SystemExit(0)", "error"),
        ("input()", "error"),
        ("x = bytearray(1 << 31)", "error"),
        ("import os\nos.system('true')", "error"),
        ("import os\nos._exit(0)", "crashed"),
        ("import os\nos.abort()", "crashed"),
    ],
)
def test_outcomes(program: str, outcome: str) -> None:
    assert benchmark.judge(program) == outcome


@pytest.mark.parametrize("program", ["while True:\n    pass", "import time\ntime.sleep(600)"])
def test_time_is_bounded(program: str) -> None:
    began = time.monotonic()
    assert benchmark.judge(program, timeout=1.0) == "timeout"
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    ("make", "entry"), [(benchmark.mbpp_task, MBPP), (benchmark.humaneval_task, HUMANEVAL)]
)
def test_references_pass_and_nothing_else(
    make: Callable[[dict[str, Any]], benchmark.Task], entry: dict[str, Any]
) -> None:
    made = make(entry)
    assert made.function == "twice"
    assert "\r" not in made.program(made.reference)
    assert made.end(made.reference) is None
    assert benchmark.judge(made.program(made.reference)) == "passed"
    assert benchmark.judge(made.program(made.reference.replace("2", "3"))) == "wrong"
    assert benchmark.judge(made.program("")) in ("wrong", "error")


def test_rows_end_one_by_one() -> None:
    class Letters:
        """A setting whose tokens are characters."""

        def text(self, tokens: list[int]) -> str:
            return "".join(map(chr, tokens))

    setting: Any = Letters()
    at_end = benchmark.AtEnd(setting, task("humaneval"), prompt=2)
    rows = [[ord(c) for c in text] for text in ("\nx    \n  x", "ab x = 1\nx", "abc```def\n")]
    assert at_end(torch.tensor(rows), torch.empty(0)).tolist() == [False, True, True]


def test_the_exact_test_of_a_split() -> None:
    assert benchmark.sign_test(0, 0) == 1.0
    assert benchmark.sign_test(3, 3) == 1.0
    assert benchmark.sign_test(0, 5) == pytest.approx(2 / 32)
    assert benchmark.sign_test(6, 1) == pytest.approx(2 * 8 / 128)
    assert benchmark.sign_test(1, 6) == benchmark.sign_test(6, 1)


def record(name: str, method: str, outcome: str, seconds: float) -> benchmark.Record:
    answer = benchmark.Answer(f"{name} {outcome}", 10, 15, 2, True)
    return benchmark.Record("mbpp", name, method, 50, seconds, outcome, answer)


def test_tables_survive_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        record("a", "greedy", "passed", 1.0),
        record("a", "beam", "passed", 2.0),
        record("b", "greedy", "wrong", 3.0),
        record("b", "beam", "passed", 9.0),
    ]
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, some in zip(files, (records[:2], records[2:]), strict=True):
        benchmark.write_json(file, {}, some)
        assert len(json.loads(file.read_text())["records"]) == 2
    assert benchmark.main(["--show", *map(str, files)]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == benchmark.tables(records).strip()
    assert (
        "| greedy | 2 | 1 (50.0%) | 2.00 | 2.00 | 200.0 | 10.0 | 1.50 | 2.00 | 2 | wrong 1 |"
        in printed
    )
    assert "| greedy | beam | 1 | 0 | 1 | 1.000 | 1/2 | 2.50 |" in printed


def test_methods_have_names() -> None:
    setting: Any = None
    with pytest.raises(ValueError, match="no method is called 'best'"):
        benchmark.methods(setting, ["best"], None)
