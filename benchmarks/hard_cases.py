"""Hard cases for masks, engine beside engine: stalls, tails, memory; batches and trees of drafts.

Cases come from ``hard_grammars.py``.  Every engine runs in a process of its own, case by case in
turn, so that nothing runs beside the engine that is being timed.  A case that takes longer than
``--seconds`` stops at the next token; a single call that does not come back within as much again
costs the process its life, as does more than ``--gigabytes`` of memory.  What was measured until
then is kept (it lies in shared memory), and the table says what was running.

Each case is compiled anew; what an engine keeps for a vocabulary stays, as in a server.  Measured,
on one thread, garbage collector off:

* first mask: milliseconds from the grammar's text to its first mask;
* mask, advance: microseconds at each token of the text;
* min_tokens (gramma only): ``min_tokens_to_accept(start)`` of a fresh automaton after the walk, then
  the largest of 16 states spread over the text, milliseconds;
* memory: growth of anonymous resident memory over the case, in MiB;
* outcome: done, refused (with the message), wrong (a token of the text is not allowed),
  out of time, lost (slow, died, memory) with what was running.

The serving shape: batches of 1, 8 and 64 rows, each with its own grammar (calls of a tool with 12
parameters) at its own place, on 1 and 2 cores (the process is bound to so many, and engines that take
a number of threads get it); microseconds a row for filling all masks of the batch in one call, first
with fresh grammars, then again with known ones.  Drafts: from a state within a string, 16 tokens,
for each advance and mask; microseconds for all 16.

Usage: ``python benchmarks/hard_cases.py [--engines gramma,llguidance,xgrammar] [--only NAME]``
``[--seconds 60] [--gigabytes 8] [--clock wall|cpu] [--tokenizer llama3] [--json FILE]``
``[--profile]``; ``--clock cpu`` counts the process's own time, for machines with other work;
``--profile`` prints for gramma what the slowest calls of each case spend their time on.
"""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import gc
import json
import math
import os
import pstats
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hard_grammars import Case, Source, cases, tool
from reporting import say
from schema_coverage import (
    Gramma,
    GrammaRun,
    LLGuidance,
    LLGuidanceRun,
    XGrammar,
    XGrammarRun,
    load,
)
from schema_suite import reason
from workers import LostError, Worker, memory

from constrain import TokenAutomaton, fill_masks
from constrain.models import load_tokenizer
from grammars import Grammar, library

os.environ["GRAMMA_PROGRAMS"] = "off"  # compiling is measured, not reading what was compiled before
MAX_TOKENS: Final = 2_500_000
"""Of one text whose times are kept."""

SAMPLES: Final = 16
"""States whose distance is asked for."""

BATCHES: Final = (1, 8, 64)
CORES: Final = (1, 2)
STEPS: Final = 40
DRAFTS: Final = 16
TREES: Final = 20
STALL_MS: Final = 5.0
"""What a single call should stay below."""

PHASES: Final = ("compile", "first mask", "mask", "advance", "min_tokens", "min_tokens within")
FIGURES: Final = ("phase", "tokens", "compile", "first", "distance", "distances", "grown")


# -- what an engine's process and its parent share -------------------------------------------------


class Board:
    """Times in shared memory: written by an engine's process, read also when that was killed."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._figures = context.RawArray("d", len(FIGURES))
        self._times = context.RawArray("f", 2 * MAX_TOKENS)

    def clear(self) -> None:
        """Before a case."""
        for i in range(len(FIGURES)):
            self._figures[i] = 0 if i < 2 else math.nan

    def set(self, name: str, value: float) -> None:
        """Notes a figure."""
        self._figures[FIGURES.index(name)] = value

    def get(self, name: str) -> float:
        """A figure; not a number where it was not measured."""
        value: float = self._figures[FIGURES.index(name)]
        return value

    def enter(self, phase: str) -> None:
        """Notes what is running."""
        self._figures[0] = PHASES.index(phase)

    def note(self, token: int, mask: float, advance: float) -> None:
        """The times of one token."""
        self._times[2 * token] = mask
        self._times[2 * token + 1] = advance
        self._figures[1] = token + 1

    def times(self) -> npt.NDArray[np.float64]:
        """[tokens, 2]: microseconds for the mask and for advancing."""
        count = int(self.get("tokens"))
        return np.array(self._times[: 2 * count], np.float64).reshape(count, 2)

    def running(self) -> str:
        """What was running last."""
        phase = PHASES[int(self.get("phase"))]
        place = f" at token {int(self.get('tokens')):,}" if phase in ("mask", "advance") else ""
        return phase + place


# -- engines: grammars of every kind, mask and advance apart ---------------------------------------


class OurRun(GrammaRun):
    """A text along an automaton."""

    def fill(self) -> None:
        self.automaton.fill_mask(self.state, self.row)

    def advance(self, token: int) -> bool:
        self.state = self.automaton.advance(self.state, token)
        return bool(self.state != self.automaton.DEAD)

    def complaint(self) -> str:
        """Why the run has ended early, if it has."""
        return ""

    def branch(self, tokens: Sequence[int]) -> None:
        """For each token advances, fills a mask and goes back."""
        for token in tokens:
            self.automaton.fill_mask(self.automaton.advance(self.state, token), self.row)


class Ours(Gramma):
    """gramma, for grammars of every kind."""

    def compile_source(self, source: Source) -> TokenAutomaton:
        return TokenAutomaton(grammar_of(source), self.vocabulary)

    def start(self, compiled: Any) -> OurRun:
        return OurRun(compiled, self.row)

    def filler(self, runs: Sequence[Any], cores: int) -> Callable[[], None]:
        """Fills the masks of all runs in one call."""
        rows = np.zeros((len(runs), len(self.row)), np.int32)

        def fill() -> None:
            fill_masks([(run.automaton, run.state) for run in runs], rows)

        return fill


def grammar_of(source: Source) -> Grammar:
    """A grammar of the project."""
    if source.kind == "schema":
        return Grammar.from_json_schema(source.text)
    if source.kind == "regex":
        return Grammar.from_regex(source.text)
    if source.kind == "gbnf":
        return Grammar.from_gbnf(source.text)
    return library.load(source.text)


class MatcherRun(LLGuidanceRun):
    """A text along a matcher."""

    def fill(self) -> None:
        self.masks.fill_next_token_bitmask(self.matcher, self.rows, 0)

    def advance(self, token: int) -> bool:
        return bool(self.matcher.consume_token(token))

    def complaint(self) -> str:
        return (
            f"({' '.join(str(self.matcher.get_error()).split())})"
            if self.matcher.is_error()
            else ""
        )

    def branch(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.matcher.consume_token(token)
            self.masks.fill_next_token_bitmask(self.matcher, self.rows, 0)
            self.matcher.rollback(1)


class Matchers(LLGuidance):
    """llguidance; its slices for JSON with schemas, else its general ones."""

    def __init__(self, tokenizer: Any, vocabulary: Any) -> None:
        super().__init__(tokenizer, vocabulary)
        self.general = self.tokenizer.with_slices(self.lib.LLTokenizer.general_slices())

    def compile_source(self, source: Source) -> Any:
        if source.kind == "schema":
            return self.compile(json.loads(source.text), "schema")
        grammar = self.lib.grammar_from(source.kind, source.text)
        matcher = self.lib.LLMatcher(self.general, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def start(self, compiled: Any) -> MatcherRun:
        return MatcherRun(self.masks, compiled.deep_copy(), self.rows)

    def filler(self, runs: Sequence[Any], cores: int) -> Callable[[], None]:
        executor = self.lib.LLExecutor(cores)
        rows = self.masks.allocate_token_bitmask(len(runs), self.tokenizer.vocab_size)

        def fill() -> None:
            pairs = [(run.matcher, i) for i, run in enumerate(runs)]
            self.masks.fill_next_token_bitmask_par(executor, pairs, rows)

        return fill


class CompiledRun(XGrammarRun):
    """A text along a matcher."""

    def advance(self, token: int) -> bool:
        return bool(self.matcher.accept_token(token))

    def complaint(self) -> str:
        return ""

    def branch(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self.matcher.accept_token(token)
            self.fill()
            self.matcher.rollback(1)


class Compiled(XGrammar):
    """xgrammar, for grammars of every kind."""

    def compile_source(self, source: Source) -> Any:
        if source.kind == "schema":
            return self.compile(json.loads(source.text), "schema")
        if source.kind == "regex":
            return self.compiler.compile_regex(source.text)
        return self.compiler.compile_grammar(self.lib.Grammar.from_ebnf(source.text))

    def start(self, compiled: Any) -> CompiledRun:
        return CompiledRun(self.lib.GrammarMatcher(compiled), self.rows, self.eos)

    def filler(self, runs: Sequence[Any], cores: int) -> Callable[[], None]:
        batch = self.lib.BatchGrammarMatcher(max_threads=cores)
        rows = self.lib.allocate_token_bitmask(len(runs), self.rows.shape[1] * 32)

        def fill() -> None:
            batch.batch_fill_next_token_bitmask([run.matcher for run in runs], rows)

        return fill


ENGINES: Final[dict[str, Any]] = {"gramma": Ours, "llguidance": Matchers, "xgrammar": Compiled}


# -- in the process of an engine -------------------------------------------------------------------


@dataclass
class CaseTask:
    """A case for one engine."""

    source: Source
    tokens: npt.NDArray[np.int32]


@dataclass
class ServingTask:
    """The serving shape."""

    sources: list[Source]
    tokens: list[list[int]]
    drafts: list[int]
    place: int
    """Where in the first text a string is being written."""
    rows: int = 0
    """Of the batch; none for the tree of drafts."""
    cores: int = 1


def serve(name: str, tokenizer: str, clock: str, seconds: float, board: Board, pipe: Any) -> None:
    """Answers tasks until it is told to stop."""
    engine = ENGINES[name](*load(tokenizer))
    now = time.process_time if clock == "cpu" else time.perf_counter
    warm_up(engine)
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        gc.collect()
        gc.disable()
        try:
            if isinstance(task, CaseTask):
                pipe.send(measure(engine, task, board, now, seconds))
            else:
                pipe.send(serving(engine, task))
        except Exception as error:
            pipe.send(f"failed: {reason(error)}")
        finally:
            gc.enable()


def warm_up(engine: Any) -> None:
    """Loads what every kind of grammar needs."""
    sources = [Source("regex", "a+b"), Source("gbnf", 'root ::= "a" root | "b"\n')]
    sources.append(Source("schema", '{"type": "array", "uniqueItems": true}'))
    for source in sources[: 3 if isinstance(engine, Ours) else 2]:
        compiled = engine.compile_source(source)
        engine.start(compiled).fill()
        if isinstance(engine, Ours):
            compiled.min_tokens_to_accept(compiled.start)


def settle() -> None:
    """Gives unused memory back, so that what is resident is what is used."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def measure(
    engine: Any, task: CaseTask, board: Board, now: Callable[[], float], seconds: float
) -> str:
    """One case; its outcome."""
    settle()
    before = memory("RssAnon")
    board.enter("compile")
    began = now()
    try:
        compiled = engine.compile_source(task.source)
        board.set("compile", (now() - began) * 1e3)
        board.enter("first mask")
        engine.start(compiled).fill()
    except Exception as error:
        return f"refused: {reason(error)}"
    board.set("first", (now() - began) * 1e3)
    run = engine.start(compiled)
    states: list[int] = []
    outcome = walk(run, task.tokens, board, now, seconds, states)
    settle()
    board.set("grown", max(0, memory("RssAnon") - before) / 2**20)
    if isinstance(engine, Ours) and not outcome.startswith("failed"):
        try:
            distances(engine, run.automaton, states, board, now, seconds)
        except Exception as error:
            outcome += f"; min_tokens: {reason(error)}"
    return outcome


def walk(
    run: Any,
    tokens: npt.NDArray[np.int32],
    board: Board,
    now: Callable[[], float],
    seconds: float,
    states: list[int],
) -> str:
    """Reads a text, mask by mask; keeps some of the states of an automaton."""
    every = max(1, len(tokens) // SAMPLES)
    until = now() + seconds
    for place, token in enumerate(tokens.tolist()):
        board.enter("mask")
        try:
            began = now()
            run.fill()
            filled = now()
            allowed = bool(run.row[token >> 5] >> (token & 31) & 1)
            if not allowed:
                return f"wrong: token {place:,} is not allowed {run.complaint()}".rstrip()
            board.enter("advance")
            again = now()
            moved = run.advance(token)
            done = now()
        except Exception as error:
            return f"failed at token {place:,}: {reason(error)}"
        board.note(place, (filled - began) * 1e6, (done - again) * 1e6)
        if not moved:
            return f"wrong: token {place:,} is not taken"
        if place % every == 0 and isinstance(run, OurRun):
            states.append(run.state)
        if now() > until:
            return f"out of time at token {place + 1:,} of {len(tokens):,}"
    return "done" if run.ends() else "wrong: the text may not end"


def distances(
    engine: Ours,
    walked: TokenAutomaton,
    states: list[int],
    board: Board,
    now: Callable[[], float],
    seconds: float,
) -> None:
    """Fewest tokens from the start of a fresh automaton, then from states of the text."""
    until = now() + seconds
    board.enter("min_tokens")
    fresh = TokenAutomaton(walked.grammar, engine.vocabulary)
    began = now()
    fresh.min_tokens_to_accept(fresh.start)
    board.set("distance", (now() - began) * 1e3)
    walked.min_tokens_to_accept(walked.start)
    board.enter("min_tokens within")
    most = 0.0
    for state in states:
        began = now()
        walked.min_tokens_to_accept(state)
        most = max(most, (now() - began) * 1e3)
        board.set("distances", most)
        if now() > until:
            return


# -- batches and drafts ----------------------------------------------------------------------------


def serving(engine: Any, task: ServingTask) -> dict[str, float]:
    """Microseconds a row of a batch, or for a tree of drafts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[: task.cores])
    try:
        return batch(engine, task) if task.rows else tree(engine, task)
    finally:
        os.sched_setaffinity(0, allowed)


def batch(engine: Any, task: ServingTask) -> dict[str, float]:
    """Microseconds a row, cold and warm."""
    now, size = time.perf_counter, task.rows
    compiled = [engine.compile_source(source) for source in task.sources[:size]]
    figures: dict[str, float] = {}
    for kind in ("cold", "warm"):
        runs = [engine.start(one) for one in compiled]
        fill = engine.filler(runs, task.cores)
        times = []
        for step in range(STEPS):
            began = now()
            fill()
            times.append((now() - began) * 1e6 / size)
            for run, ids in zip(runs, task.tokens, strict=False):
                if not run.advance(ids[step]):
                    raise ValueError("a text of the serving shape is refused")
        figures |= {f"{kind} p50": float(np.median(times)), f"{kind} max": max(times)}
    return figures


def tree(engine: Any, task: ServingTask) -> dict[str, float]:
    """Microseconds for 16 drafts from one state: all advanced, all masked."""
    now = time.perf_counter
    figures: dict[str, float] = {}
    compiled = engine.compile_source(task.sources[0])
    for kind in ("cold", "warm"):
        run = engine.start(compiled)
        times = []
        for place, token in enumerate(task.tokens[0][: task.place + TREES]):
            if place >= task.place:
                drafts = task.drafts[:DRAFTS]
                began = now()
                run.branch(drafts)
                times.append((now() - began) * 1e6)
            run.fill()
            if not run.advance(token):
                raise ValueError("a text of the serving shape is refused")
        figures |= {f"{kind} p50": float(np.median(times)), f"{kind} max": max(times)}
    return figures


def serving_task(tokenizer: Any) -> ServingTask:
    """Calls of tools; the first is one long string, where 16 drafts of a word each may follow."""
    sources, tokens = [], []
    draft_words = [" the", " of", " and", " to", " in", " is", " for", " on", " that", " by"]
    draft_words += [" with", " as", " at", " from", " it", " was"]
    text = json.dumps({"note": " ".join(word.strip() for word in draft_words * 4)})
    sources.append(Source("schema", '{"properties": {"note": {"type": "string"}}}'))
    tokens.append(encode(tokenizer, text).tolist())
    number = 0
    while len(sources) < max(BATCHES):
        schema, call = tool(number)
        ids = encode(tokenizer, json.dumps(call)).tolist()
        if len(ids) >= STEPS:
            sources.append(Source("schema", json.dumps(schema)))
            tokens.append(ids)
        number += 1
    drafts = [int(encode(tokenizer, word)[0]) for word in draft_words]
    return ServingTask(sources, tokens, drafts, place=6)


def encode(tokenizer: Any, text: str) -> npt.NDArray[np.int32]:
    """Token ids."""
    return np.array(tokenizer.encode(text, add_special_tokens=False), np.int32)


# -- in the parent ---------------------------------------------------------------------------------


@dataclass
class Row:
    """What an engine did with a case: milliseconds, microseconds for single masks and advances.

    Attributes:
        slowest: number of the token whose mask took longest.
        over: calls of masks and advances that took longer than ``STALL_MS``.
    """

    case: str
    engine: str
    outcome: str
    tokens: int = 0
    compile_ms: float = math.nan
    first_ms: float = math.nan
    mask_p50: float = math.nan
    mask_p99: float = math.nan
    mask_max: float = math.nan
    advance_max: float = math.nan
    distance_ms: float = math.nan
    distances_ms: float = math.nan
    tokens_per_second: float = math.nan
    grown: float = math.nan
    slowest: int = -1
    over: int = 0


def row_of(case: str, engine: str, outcome: str, board: Board) -> Row:
    """Figures of a case, from the board."""
    row = Row(case, engine, outcome, int(board.get("tokens")))
    row.compile_ms, row.first_ms = board.get("compile"), board.get("first")
    row.distance_ms, row.distances_ms = board.get("distance"), board.get("distances")
    row.grown = board.get("grown")
    times = board.times()
    if len(times):
        masks, advances = times.T
        row.mask_p50, row.mask_p99 = (float(v) for v in np.percentile(masks, [50, 99]))
        row.mask_max, row.advance_max = float(masks.max()), float(advances.max())
        row.slowest = int(masks.argmax())
        row.over = int((times > STALL_MS * 1e3).sum())
        row.tokens_per_second = len(times) / float(times.sum() / 1e6)
    return row


def run_case(
    case: Case, tokens: npt.NDArray[np.int32], workers: dict[str, Worker], boards: dict[str, Board]
) -> list[Row]:
    """A case by all engines, one after another."""
    rows = []
    for name, worker in workers.items():
        boards[name].clear()
        try:
            worker.begin()
            outcome = worker.ask(CaseTask(case.source_of(name), tokens))
        except LostError as lost:
            outcome = f"lost ({lost}) in {boards[name].running()}"
        rows.append(row_of(case.name, name, outcome, boards[name]))
        say(f"{case.name}: {name}: {outcome[:200]}")
    return rows


def tokens_of(case: Case, tokenizer: Any) -> npt.NDArray[np.int32]:
    """The text of a case in tokens."""
    text = case.write()
    if case.letters:
        return np.concatenate([encode(tokenizer, letter) for letter in text])
    return encode(tokenizer, text)


# -- what is printed -------------------------------------------------------------------------------

COLUMNS: Final = {
    "tokens": "tokens",
    "first mask, ms": "first_ms",
    "mask p50, µs": "mask_p50",
    "p99": "mask_p99",
    "max": "mask_max",
    "advance max, µs": "advance_max",
    "min_tokens, ms": "distance_ms",
    "within": "distances_ms",
    "tokens/s": "tokens_per_second",
    "MiB": "grown",
}
COMPARED: Final = (
    "first_ms",
    "mask_p50",
    "mask_p99",
    "mask_max",
    "advance_max",
    "tokens_per_second",
    "grown",
)


def shown(value: float) -> str:
    """A figure in a table."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def lines(rows: Sequence[Row], reference: str) -> Iterator[str]:
    """Rows of one case; below each engine before the reference its ratios to that."""
    found = {row.engine: row for row in rows}
    for row in rows:
        cells = [shown(float(getattr(row, name))) for name in COLUMNS.values()]
        yield f"| {row.case} | {row.engine} | " + " | ".join(cells) + f" | {row.outcome[:120]} |"
    if reference in found:
        for row in rows:
            if row.engine != reference:
                yield ratio_line(row, found[reference])


def ratio_line(row: Row, reference: Row) -> str:
    """Figures of an engine divided by those of another."""
    cells = []
    for name in COLUMNS.values():
        value, other = float(getattr(row, name)), float(getattr(reference, name))
        known = name in COMPARED and other and not math.isnan(value / other)
        cells.append(f"{value / other:,.2f}" if known else "")
    same = row.tokens == reference.tokens
    why = "" if same else f"over {row.tokens:,} and {reference.tokens:,} tokens"
    return f"| | {row.engine} / {reference.engine} | " + " | ".join(cells) + f" | {why} |"


def header() -> str:
    """Of the table of cases."""
    names = ["case", "engine", *COLUMNS, "outcome"]
    return "| " + " | ".join(names) + " |\n|---|---|" + "---:|" * len(COLUMNS) + "---|"


SERVED: Final = ("cold p50", "cold max", "warm p50", "warm max")


def serve_all(tokenizer: Any, workers: dict[str, Worker]) -> Iterator[dict[str, Any]]:
    """Batches of every size on one core and two, then drafts: rows of a table."""
    task = serving_task(tokenizer)
    shapes = [(rows, cores) for cores in CORES for rows in BATCHES] + [(0, 1)]
    for rows, cores in shapes:
        for name, worker in workers.items():
            row: dict[str, Any] = {
                "rows": rows or f"{DRAFTS} drafts",
                "cores": cores,
                "engine": name,
            }
            try:
                found = worker.ask(replace(task, rows=rows, cores=cores))
            except LostError as lost:
                found = f"lost ({lost})"
            yield row | (found if isinstance(found, dict) else {"outcome": found})
            say(f"serving: {rows or 'drafts'} on {cores}: {name}")


def serving_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [shown(row.get(column, math.nan)) for column in SERVED]
    names = [str(row[name]) for name in ("rows", "cores", "engine")]
    return "| " + " | ".join([*names, *cells, row.get("outcome", "")]) + " |"


# -- profiles --------------------------------------------------------------------------------------


def profile(
    case: Case, tokens: npt.NDArray[np.int32], engine: Ours, seconds: float
) -> Iterator[str]:
    """What the slowest mask, the slowest advance and the first distance of a case spend their time on.

    The text is read twice by fresh automata: to find the calls, then to profile just these.
    """
    board = Board()
    board.clear()
    automaton = engine.compile_source(case.source)
    outcome = walk(engine.start(automaton), tokens, board, time.process_time, seconds, [])
    times = board.times()
    yield f"== {case.name}: {outcome}"
    calls: list[tuple[int, str]] = []
    for column, kind in enumerate(("mask", "advance")):
        if len(times) and times[:, column].max() > STALL_MS * 1e3:
            calls.append((int(times[:, column].argmax()), kind))
    if calls:
        yield from profiled_calls(
            TokenAutomaton(automaton.grammar, engine.vocabulary), tokens, sorted(calls), seconds
        )
    fresh = TokenAutomaton(automaton.grammar, engine.vocabulary)
    yield from profiled(
        "min_tokens_to_accept(start)", lambda: fresh.min_tokens_to_accept(fresh.start), seconds
    )


def profiled_calls(
    automaton: TokenAutomaton,
    tokens: npt.NDArray[np.int32],
    calls: list[tuple[int, str]],
    seconds: float,
) -> Iterator[str]:
    """Walks a text and profiles calls of it."""
    state = automaton.start
    wanted = set(calls)
    for place, token in enumerate(tokens[: calls[-1][0] + 1].tolist()):
        if (place, "mask") in wanted:
            yield from profiled(
                f"mask at token {place:,}", lambda s=state: automaton.mask(s), seconds
            )
        else:
            automaton.mask(state)
        if (place, "advance") in wanted:
            title = f"advance at token {place:,}"
            yield from profiled(title, lambda s=state, t=token: automaton.advance(s, t), seconds)
        state = automaton.advance(state, token)


def profiled(title: str, call: Callable[[], Any], seconds: float) -> Iterator[str]:
    """A call, given up after so many seconds, and where its time went if it took long."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"given up after {seconds:g} s")

    profiler, why = cProfile.Profile(), ""
    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    began = time.process_time()
    try:
        profiler.runcall(call)
    except Exception as error:
        why = f", {reason(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    taken = (time.process_time() - began) * 1e3
    yield f"-- {title}: {taken:,.1f} ms (with the profiler){why}"
    if taken > STALL_MS:
        out = StringIO()
        pstats.Stats(profiler, stream=out).strip_dirs().sort_stats("tottime").print_stats(12)
        yield "\n".join(line for line in out.getvalue().splitlines()[4:] if line.strip())


# -- the command -----------------------------------------------------------------------------------


def chosen(only: str) -> list[Case]:
    """Cases whose name contains one of the given parts."""
    parts = only.lower().split(";")
    return [case for case in cases() if any(part in case.name.lower() for part in parts)]


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engines", default="gramma,llguidance,xgrammar")
    parser.add_argument(
        "--only", default="", help="parts of names, between semicolons; 'serving' too"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for the text of a case")
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--tokenizer", default="llama3")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", action="store_true", help="gramma's slowest calls")
    options = parser.parse_args()
    names = options.engines.split(",")
    if unknown := set(names) - set(ENGINES):
        parser.error(f"unknown engines: {', '.join(sorted(unknown))}")
    found = chosen(options.only)
    serves = any(part in "serving" for part in options.only.lower().split(";"))
    if not found and not serves:
        parser.error(f"no case is named like {options.only!r}")
    if options.profile:
        engine = Ours(*load(options.tokenizer))
        warm_up(engine)
        for case in found:
            for text in profile(
                case, tokens_of(case, load_tokenizer(options.tokenizer)), engine, options.seconds
            ):
                print(text, flush=True)
        return
    compare(found, names, serves, options)


def compare(found: Sequence[Case], names: Sequence[str], serves: bool, options: Any) -> None:
    """All cases by all engines, printed as they are done."""
    tokenizer = load_tokenizer(options.tokenizer)
    boards = {name: Board() for name in names}
    workers = {
        name: Worker(
            serve,
            (name, options.tokenizer, options.clock, options.seconds, boards[name]),
            2 * options.seconds + 30,
            options.gigabytes,
        )
        for name in names
    }
    reference = "llguidance" if "llguidance" in names else names[-1]
    rows: list[Row] = []
    print(header(), flush=True)
    for case in found:
        rows += (made := run_case(case, tokens_of(case, tokenizer), workers, boards))
        print("\n".join(lines(made, reference)), flush=True)
    for case in found:
        if case.note:
            print(f"\n{case.name}: {case.note}")
    served: list[dict[str, Any]] = []
    if serves:
        print("\nMicroseconds a row (for all drafts)\n")
        print(
            f"| rows | cores | engine | {' | '.join(SERVED)} | |\n|---|---|---|"
            + "---:|" * 4
            + "---|"
        )
        for row in serve_all(tokenizer, workers):
            served.append(row)
            print(serving_line(row), flush=True)
    for worker in workers.values():
        worker.stop()
    if options.json:
        options.json.write_text(json.dumps({"cases": [asdict(r) for r in rows], "serving": served}))


if __name__ == "__main__":
    main()
