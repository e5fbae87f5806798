"""The benchmark of hard cases: texts belong to their grammars, stalls end, times survive a lost process."""

from __future__ import annotations

import json
import math
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import toys

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import hard_cases as benchmark
import hard_grammars
from hard_grammars import Case, Source
from obedient import obey
from workers import LostError, Worker

SLOW = {
    "[ab]*a[ab]{13}",
    "(?i)\\w{1000}",
    "5 MB of JSON",
    "100,000 items by right recursion",
    "200 alternatives any a any b any",
    "any text, ambiguous",
    's: s s | "a", 1,000 letters',
}
"""Compiling or reading these takes a second and more."""

CASES = {case.name: case for case in hard_grammars.cases()}


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_text_belongs_to_its_grammar(name: str) -> None:
    case = CASES[name]
    text = case.write()
    if name == "128 tools":  # one of them will do
        case = Case(name, hard_grammars.schema(hard_grammars.tool(77)[0]), case.write)
    grammar = benchmark.grammar_of(case.source)
    assert grammar.accepts(text)
    assert not grammar.accepts(text + "\0")


def test_tools_take_their_calls() -> None:
    for number in range(6):
        schema, call = hard_grammars.tool(number)
        assert len(schema["properties"]["arguments"]["properties"]) == 12
        assert benchmark.grammar_of(hard_grammars.schema(schema)).accepts(json.dumps(call))


def test_names_of_cases_are_found() -> None:
    assert len(CASES) == len(list(hard_grammars.cases()))
    assert [case.name for case in benchmark.chosen("128;DEEP")] == [
        "128 tools",
        "200 deep, any JSON",
        "200 deep, schema",
    ]


def engine() -> benchmark.Ours:
    """An engine over a toy vocabulary."""
    return benchmark.Ours(None, toys.vocabulary())


def spelled(text: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Longest token first."""
    ids: list[int] = []
    while text:
        found = [i for i, t in enumerate(toys.TOKENS) if t and text.encode().startswith(t)]
        ids.append(max(found, key=lambda i: len(toys.TOKENS[i] or b"")))
        text = text[len((toys.TOKENS[ids[-1]] or b"").decode()) :]
    return np.array(ids, np.int32)


def measured(source: Source, text: str, seconds: float = 60) -> benchmark.Row:
    board = benchmark.Board()
    board.clear()
    task = benchmark.CaseTask(source, spelled(text))
    outcome = benchmark.measure(engine(), task, board, time.perf_counter, seconds)
    return benchmark.row_of("toy", "gramma", outcome, board)


def test_figures_of_a_case() -> None:
    text = '{"a": [1, 12, 3]}'
    row = measured(Source("schema", "true"), text)
    assert (row.outcome, row.tokens) == ("done", len(spelled(text)))
    assert 0 < row.mask_p50 <= row.mask_p99 <= row.mask_max
    assert row.first_ms > row.compile_ms > 0
    assert not math.isnan(row.distance_ms + row.distances_ms + row.grown)
    assert 0 <= row.slowest < row.tokens


@pytest.mark.slow
def test_outcomes() -> None:
    assert measured(Source("regex", "a+"), "aab").outcome.startswith("wrong: token 2")
    assert measured(Source("regex", "a+b"), "aa").outcome == "wrong: the text may not end"
    assert measured(Source("regex", "a(("), "a").outcome.startswith("refused: GrammarError")
    late = measured(Source("regex", "a+"), "aaaa", seconds=0)
    assert (late.outcome, late.tokens) == ("out of time at token 1 of 4", 1)


def test_batches_and_drafts() -> None:
    ids = spelled("[" + ", ".join(["12"] * 60) + "]").tolist()
    sources = [Source("schema", "true"), Source("schema", '{"type": "array"}')]
    task = benchmark.ServingTask(sources, [ids, ids], spelled("12345").tolist(), place=3, rows=2)
    for rows in (2, 0):
        figures = benchmark.serving(engine(), benchmark.replace(task, rows=rows))
        assert list(figures) == list(benchmark.SERVED)
        assert min(figures.values()) > 0


def test_profile_names_the_distance() -> None:
    case = Case("toy", Source("regex", "a+b"), lambda: "aab")
    printed = list(benchmark.profile(case, spelled("aab"), engine(), 60))
    assert printed[0] == "== toy: done"
    assert printed[-1].startswith("-- min_tokens_to_accept(start)")


def test_ratios_are_given_where_both_were_measured() -> None:
    ours = benchmark.Row("c", "gramma", "done", 4, mask_max=2.0, mask_p50=1.0)
    theirs = benchmark.Row("c", "llguidance", "done", 4, mask_max=4.0)
    *_, last = benchmark.lines([ours, theirs], "llguidance")
    cells = [cell.strip() for cell in last.split("|")][3:-1]
    assert cells[list(benchmark.COLUMNS).index("max")] == "0.50"
    assert [cell for cell in cells if cell] == ["0.50"]
    refused = benchmark.Row("c", "llguidance", "refused: no", 0)
    *_, last = benchmark.lines([ours, refused], "llguidance")
    assert "over 4 and 0 tokens" in last


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "why"), [("die", "died"), ("stall", "slow"), ("grow", "memory")])
def test_a_lost_process_is_begun_anew(order: str, why: str) -> None:
    shared = get_context("spawn").RawArray("d", 1)
    seconds = 0.5 if order == "stall" else 60.0
    worker = Worker(obey, (shared,), seconds, gigabytes=0.5)
    try:
        worker.begin()
        with pytest.raises(LostError, match=why):
            worker.ask(order)
        assert shared[0] == 1  # what it wrote outlives it
        assert worker.ask("again") == ("again", 0)
    finally:
        worker.stop()


def test_a_stall_is_a_row() -> None:
    board = benchmark.Board()

    class Stalled:
        def begin(self) -> None:
            board.clear()

        def ask(self, task: Any) -> str:
            board.note(0, 7.0, 1.0)
            board.enter("mask")
            raise LostError("slow")

    case = SimpleNamespace(name="toy", source_of=lambda engine: None)
    (row,) = benchmark.run_case(case, spelled("aa"), {"gramma": Stalled()}, {"gramma": board})  # type: ignore[arg-type,dict-item]
    assert row.outcome == "lost (slow) in mask at token 1"
    assert row.mask_max == 7
