"""Every test of the JSON Schema Test Suite, judged by a grammar without a model.

Each case is a schema and its tests; a test is a value that is valid or not.  The schema becomes
``Grammar.from_json_schema(schema, property_order="any", formats="annotate", numbers="any",
registry=remotes)``, and ``accepts(json.dumps(value, ensure_ascii=False))`` must say what the test
says.  The same with the default, ``numbers="shortest"``, which writes integers as ``1`` and not
``1.0``, is counted in a line of its own.  A schema without
``$schema`` gets its draft's, a remote schema without one the referrer's.  Optional tests of formats
are run with formats asserted.  Outcomes:

* right,
* wrong accept, wrong reject: the grammar says something else,
* error: the schema is refused with a ``GrammarError`` (a keyword, a limit, ...), never in silence,
* crash: any other exception, or the end of the process,
* timeout: more than ten seconds for a schema.

``--ratchet`` compares with ``benchmarks/suite_outcomes.json``, which holds what was not right (ids
only): exit status 1 if anything got worse, and the file is rewritten if things only got better.

Usage: ``python benchmarks/schema_suite.py --data FOLDER [--ratchet] [--draft draft7] [--jobs 2]``

FOLDER holds ``json-schema-test-suite.jsonl.gz``, one case a line: {draft, file, optional,
description, schema, tests: [{description, data, valid}]}, and
``json-schema-test-suite-remotes.json.gz``, schemas by URI.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from grammars import Grammar, GrammarError, LimitExceeded, UnsupportedSchemaError

RATCHET = Path(__file__).with_name("suite_outcomes.json")
SECONDS = 10.0
"""For one schema with all its tests."""

Kind: TypeAlias = Literal["required", "optional", "format"]
Numbers: TypeAlias = Literal["any", "shortest"]

DRAFTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}

LETTERS = {
    ".": "right",
    "E": "error",
    "T": "timeout",
    "R": "wrong reject",
    "A": "wrong accept",
    "C": "crash",
}
"""How outcomes are written in the ratchet file, from best to worst."""
RANK = {letter: rank for rank, letter in enumerate(LETTERS)}


# --- work in processes that may be killed --------------------------------------------------------


@dataclass
class Answer:
    """What became of a task: its value, or why there is none."""

    value: Any = None
    lost: str | None = None
    """``"timeout"``, ``"memory"`` or ``"exit status N"``."""
    seconds: float = 0.0


class _Worker:
    """A forked process that does one task after another."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.index = -1
        self.began = 0.0

    def give(self, index: int, task: Any) -> None:
        self.index, self.began = index, time.monotonic()
        self.pipe.send(task)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def memory(self) -> int:
        """Bytes resident now; 0 where that is not known."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(function(task))


def run_all(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    *,
    jobs: int,
    seconds: float,
    label: str,
    gigabytes: float = 6.0,
) -> list[Answer]:
    """``function`` of every task, in worker processes; the answers in the order of the tasks.

    A task that takes longer than ``seconds``, or whose process dies or grows beyond ``gigabytes``,
    is given up, and a new process takes the rest.  Processes are forked: what the caller has loaded
    is there already.
    """
    answers = [Answer() for _ in tasks]
    waiting = list(reversed(range(len(tasks))))
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    shown = console.is_terminal
    busy: list[_Worker] = []
    idle: list[_Worker] = []
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        bar = progress.add_task(label, total=len(tasks))

        def done(worker: _Worker, answer: Answer) -> None:
            answer.seconds = time.monotonic() - worker.began
            answers[worker.index] = answer
            busy.remove(worker)
            if answer.lost:
                worker.stop()
            else:
                idle.append(worker)
            progress.advance(bar)

        try:
            while waiting or busy:
                while waiting and len(busy) < jobs:
                    worker = idle.pop() if idle else _Worker(function)
                    busy.append(worker)
                    index = waiting.pop()
                    worker.give(index, tasks[index])
                ready = set(wait([w.pipe for w in busy], timeout=0.1))
                for worker in list(busy):
                    if worker.pipe in ready:
                        done(worker, _receive(worker))
                    elif time.monotonic() - worker.began > seconds:
                        done(worker, Answer(lost="timeout"))
                    elif worker.memory() > gigabytes * 1e9:
                        done(worker, Answer(lost="memory"))
        finally:
            for worker in busy + idle:
                worker.stop()
    return answers


def _receive(worker: _Worker) -> Answer:
    try:
        return Answer(worker.pipe.recv())
    except (EOFError, OSError):
        worker.process.join(1)
        return Answer(lost=f"exit status {worker.process.exitcode}")


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines, compressed or not; of all such files of a folder."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz")))
        return [value for file in files for value in read_lines(file)]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def reason(error: BaseException) -> str:
    """An error in one line: its kind, the keyword or the limit, and the place."""
    kind = type(error).__name__
    if not isinstance(error, GrammarError):
        return f"{kind}: {' '.join(str(error).split())}"
    place = "" if error.pointer is None else f" at {error.pointer or '(root)'}"
    if isinstance(error, UnsupportedSchemaError):
        return f"{kind} {error.keyword}{place}: {error.message}"
    if isinstance(error, LimitExceeded):
        return f"{kind} {error.limit}{place}"
    return f"{kind}{place}: {error.message}"


def gist(text: str) -> str:
    """What errors of one cause have in common: no place, and only the name where there is one."""
    short = re.sub(r" at (/\S*|\(root\))(?=: |$)", "", text)
    if short.startswith(("UnsupportedSchemaError", "LimitExceeded")):
        return short.partition(":")[0]
    return short[:100]


# --- the cases -----------------------------------------------------------------------------------


@dataclass
class Case:
    """A schema of the suite with its tests."""

    draft: str
    file: str
    description: str
    schema: Any
    tests: list[dict[str, Any]]
    kind: Kind
    id: str = field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps([self.description, self.schema], sort_keys=True)
        self.id = f"{self.draft}/{self.file}/{hashlib.sha1(text.encode()).hexdigest()[:10]}"


@dataclass
class Verdict:
    """What became of a case: a letter for every test, and why those that are not right are not."""

    letters: str
    why: str = ""


def read_cases(folder: Path) -> list[Case]:
    """All cases, with ``$schema`` where it was missing."""
    cases = []
    for line in read_lines(folder / "json-schema-test-suite.jsonl.gz"):
        kind: Kind = "required"
        if line["optional"]:
            kind = "format" if "format" in line["file"] else "optional"
        schema = with_draft(line["schema"], line["draft"])
        cases.append(
            Case(line["draft"], line["file"], line["description"], schema, line["tests"], kind)
        )
    if len({case.id for case in cases}) != len(cases):
        raise ValueError("two cases have the same id")
    return cases


def with_draft(schema: Any, draft: str) -> Any:
    """The schema with ``$schema``, where it is an object and has none."""
    if isinstance(schema, dict) and "$schema" not in schema:
        return {"$schema": DRAFTS[draft], **schema}
    return schema


def registries(folder: Path) -> dict[str, dict[str, Any]]:
    """For each draft the remote schemas as a schema of that draft sees them."""
    path = folder / "json-schema-test-suite-remotes.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        remotes = json.load(stream)
    return {
        draft: {uri: with_draft(schema, draft) for uri, schema in remotes.items()}
        for draft in DRAFTS
    }


def judge(case: Case, registry: dict[str, Any], numbers: Numbers) -> Verdict:
    """The outcome of every test of a case."""
    letters = ""
    why = ""
    try:
        grammar = Grammar.from_json_schema(
            case.schema,
            property_order="any",
            formats="assert" if case.kind == "format" else "annotate",
            numbers=numbers,
            registry=registry,
        )
    except GrammarError as error:
        return Verdict("E" * len(case.tests), reason(error))
    except BaseException as error:
        return Verdict("C" * len(case.tests), reason(error))
    for test in case.tests:
        try:
            accepted = grammar.accepts(json.dumps(test["data"], ensure_ascii=False))
        except GrammarError as error:
            letters, why = letters + "E", why or reason(error)
        except BaseException as error:
            letters, why = letters + "C", why or reason(error)
        else:
            letters += "." if accepted == test["valid"] else "A" if accepted else "R"
    return Verdict(letters, why)


def judge_all(cases: list[Case], folder: Path, jobs: int, numbers: Numbers) -> list[Verdict]:
    """A verdict for every case."""
    registry = registries(folder)
    Grammar.from_json_schema({"type": "object"}).accepts("{}")  # imports and compiled code
    answers = run_all(
        lambda case: judge(case, registry[case.draft], numbers),
        cases,
        jobs=jobs,
        seconds=SECONDS,
        label=f"cases, numbers={numbers}",
    )
    verdicts = []
    for case, answer in zip(cases, answers, strict=True):
        verdict = answer.value
        if answer.lost:
            letter = "T" if answer.lost == "timeout" else "C"
            verdict = Verdict(letter * len(case.tests), answer.lost)
        verdicts.append(verdict)
    return verdicts


# --- the report ----------------------------------------------------------------------------------


def count(cases: Iterable[Case], verdicts: Iterable[Verdict]) -> dict[str, Counter[str]]:
    """Letters counted by kind and draft, ``"required draft4"`` for example."""
    counts: dict[str, Counter[str]] = {}
    for case, verdict in zip(cases, verdicts, strict=True):
        counts.setdefault(f"{case.kind} {case.draft}", Counter()).update(verdict.letters)
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """A Markdown table with a row for each kind of tests and draft, and sums."""
    rows = [
        "| tests | draft | cases | " + " | ".join(LETTERS.values()) + " | right |",
        "|---|---|" + "---:|" * (len(LETTERS) + 2),
    ]
    for kind in ("required", "optional", "format"):
        parts = {d: counts[f"{kind} {d}"] for d in DRAFTS if f"{kind} {d}" in counts}
        parts["all"] = sum(parts.values(), Counter())
        for draft, letters in parts.items():
            total = letters.total()
            if total:
                cells = " | ".join(f"{letters[letter]:,}" for letter in LETTERS)
                share = f"{letters['.'] / total:.2%}"
                rows.append(f"| {kind} | {draft} | {total:,} | {cells} | {share} |")
    return "\n".join(rows)


def listing(cases: list[Case], verdicts: list[Verdict]) -> None:
    """Prints every case that has a test not judged right, then the causes of errors, counted."""
    causes: Counter[str] = Counter()
    for case, verdict in zip(cases, verdicts, strict=True):
        if not verdict.letters.strip("."):
            continue
        print(f"{case.id}  {verdict.letters}  {case.description}")
        if verdict.why:
            print(f"    {verdict.why}")
            causes[gist(verdict.why)] += sum(letter in "ECT" for letter in verdict.letters)
        for i, (letter, test) in enumerate(zip(verdict.letters, case.tests, strict=True)):
            if letter in "AR":
                text = json.dumps(test["data"], ensure_ascii=True)
                print(f"    {i}: {LETTERS[letter]} of {text[:120]}: {test['description']}")
    if causes:
        print("\nErrors by cause, in tests:")
        for cause, number in causes.most_common():
            print(f"{number:6,}  {cause}")


# --- the ratchet ---------------------------------------------------------------------------------


def outcomes(cases: list[Case], verdicts: list[Verdict]) -> dict[str, dict[str, str]]:
    """What is not right: for every file, letters by the hash of the case, one if all are equal."""
    found: dict[str, dict[str, str]] = {}
    for case, verdict in zip(cases, verdicts, strict=True):
        if verdict.letters.strip("."):
            file, _, key = case.id.rpartition("/")
            same = len(set(verdict.letters)) == 1
            found.setdefault(file, {})[key] = verdict.letters[0] if same else verdict.letters
    return {file: dict(sorted(found[file].items())) for file in sorted(found)}


def ratchet(cases: list[Case], verdicts: list[Verdict], path: Path) -> bool:
    """Whether nothing got worse than the file says; rewrites it if something got better."""
    now = {
        "counts": {
            key: {LETTERS[letter]: letters[letter] for letter in LETTERS if letters[letter]}
            for key, letters in sorted(count(cases, verdicts).items())
        },
        "not right": outcomes(cases, verdicts),
    }
    if not path.exists():
        write(now, path)
        print(f"\n{path.name}: written for the first time")
        return True
    before_all = json.loads(path.read_text("utf-8"))
    known = before_all["not right"]
    worse = better = 0
    for case, verdict in zip(cases, verdicts, strict=True):
        file, _, key = case.id.rpartition("/")
        before = known.get(file, {}).get(key, ".")
        before = before * len(verdict.letters) if len(before) == 1 else before
        for i, (old, new) in enumerate(zip(before, verdict.letters, strict=True)):
            better += RANK[new] < RANK[old]
            if RANK[new] > RANK[old]:
                worse += 1
                print(f"worse: {case.id}/{i}: {LETTERS[old]} before, {LETTERS[new]} now")
    print(f"\n{path.name}: {better:,} better, {worse:,} worse")
    if worse:
        return False
    if any(now[key] != before_all[key] for key in now):
        write(now, path)
        print(f"{path.name}: rewritten")
    return True


def write(now: dict[str, Any], path: Path) -> None:
    """A file of the suite on each line, so that changes can be read."""
    lines = [f"  {json.dumps(file)}: {json.dumps(keys)}" for file, keys in now["not right"].items()]
    counts = [f"  {json.dumps(key)}: {json.dumps(of)}" for key, of in now["counts"].items()]
    path.write_text(
        '{\n "letters": '
        + json.dumps(LETTERS)
        + ',\n "counts": {\n'
        + ",\n".join(counts)
        + '\n },\n "not right": {\n'
        + ",\n".join(lines)
        + "\n }\n}\n",
        "utf-8",
    )


def main() -> int:
    """Prints what is not right and a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with the suite")
    parser.add_argument("--ratchet", action="store_true", help="compare with what was reached")
    parser.add_argument("--draft", choices=list(DRAFTS), help="only this draft")
    parser.add_argument("--file", default="", help="only files with this in their names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--any-only", action="store_true", help="leave the default out")
    parser.add_argument("--quiet", action="store_true", help="only the table")
    options = parser.parse_args()
    if options.ratchet and (options.draft or options.file):
        parser.error("the ratchet needs every case: leave out --draft and --file")
    cases = [
        case
        for case in read_cases(options.data)
        if options.draft in (None, case.draft) and options.file in case.file
    ]
    verdicts = judge_all(cases, options.data, options.jobs, "any")
    if not options.quiet:
        listing(cases, verdicts)
        print()
    print(table(count(cases, verdicts)))
    if not options.any_only:
        shortest = judge_all(cases, options.data, options.jobs, "shortest")
        letters = sum(count(cases, shortest).values(), Counter())
        named = ", ".join(f"{letters[x]:,} {LETTERS[x]}" for x in LETTERS if letters[x])
        print(f"\nWith the default, numbers=shortest, of {letters.total():,} tests: {named}")
    return 0 if not options.ratchet or ratchet(cases, verdicts, RATCHET) else 1


if __name__ == "__main__":
    sys.exit(main())
