"""Campaigns of hostile input: ``python tests/fuzz.py --seconds 120 --target all --seed 1``.

Cases are run in child processes with limited memory and processor time each, so that a crash, a
full memory or an endless loop ends one child and not the campaign.  Distinct failures (by error and
place) are printed with the smallest input found.  Exit status 1 if there are any.  Cases that take
too long are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hostile_files
import torch
from hostile import (
    SEEDS,
    TARGETS,
    SlowCase,
    cpu_limit,
    make_case,
    run_case,
    saved_seeds,
    vocabulary,
)

FILES = "tensors"
EVERY = (*TARGETS, FILES)
BATCH = 40
"""Cases of one child, unless one of them ends it."""
GRACE = 180
"""Seconds of silence behind the limit after which a child is killed."""


def describe(error: BaseException) -> str:
    """An error and the innermost place in this project, which together tell failures apart."""
    root = str(Path(__file__).parent.parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(root)]
    frames = [f for f in frames if "site-packages" not in f.filename] or frames
    last = frames[-1]
    place = f"{Path(last.filename).relative_to(root)}:{last.lineno}"
    message = str(error)[:100] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {message} at {place}"


def case_of(rng: random.Random, target: str) -> str:
    """A text for a target; of files of tensors a character for each byte."""
    return hostile_files.make_case(rng) if target == FILES else make_case(rng, target)


def outcome_of(target: str, text: str, seconds: float) -> str:
    """What comes of a case, failures with ``!`` before them."""
    try:
        with cpu_limit(seconds):
            return hostile_files.run_case(text) if target == FILES else run_case(target, text)
    except SlowCase:
        return "slow"
    except BaseException as error:
        return f"!{describe(error)}"


def in_child(cases: list[tuple[str, str]], args: argparse.Namespace) -> Iterator[str]:
    """Outcomes of cases from one child; fewer than there are cases if it died."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        memory = args.memory << 20
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for target, text in cases:
            outcome = outcome_of(target, text, args.case_seconds)
            os.write(write, json.dumps(outcome).encode() + b"\n")
        os._exit(0)
    os.close(write)
    try:
        yield from _lines(read, args.case_seconds + GRACE)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        in_child.status = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0  # type: ignore[attr-defined]


def _lines(read: int, silence: float) -> Iterator[str]:
    buffer = b""
    while select.select([read], [], [], silence)[0]:
        more = os.read(read, 65_536)
        if not more:
            return
        *lines, buffer = (buffer + more).split(b"\n")
        for line in lines:
            yield json.loads(line)


def one(target: str, text: str, args: argparse.Namespace) -> str:
    """The outcome of a case in a child of its own."""
    for outcome in in_child([(target, text)], args):
        return outcome
    return f"!died (signal {in_child.status})"  # type: ignore[attr-defined]


def minimise(target: str, text: str, failure: str, args: argparse.Namespace) -> str:
    """A smaller text with the same failure, by deleting ever smaller spans."""
    tries = 0
    size = max(1, len(text) // 2)
    while size and tries < args.tries:
        at = 0
        while at < len(text) and tries < args.tries:
            shorter = text[:at] + text[at + size :]
            tries += 1
            if one(target, shorter, args) == failure:
                text = shorter
            else:
                at += size
        size //= 2
    return text


def campaign(target: str, seconds: float, args: argparse.Namespace) -> dict[str, str]:
    """Runs cases of one target for a while; failures with a small input each."""
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    slow: list[str] = []
    number = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rngs = [random.Random(f"{args.seed}/{target}/{number + i}") for i in range(BATCH)]
        cases = [(target, case_of(rng, target)) for rng in rngs]
        done = 0
        for outcome in in_child(cases, args):
            _note(outcome, cases[done][1], counts, failures, slow)
            done += 1
        if done < len(cases):
            _note(one(*cases[done], args), cases[done][1], counts, failures, slow)
            done += 1
        number += done
    print(
        f"{target}: {number:,} cases; " + ", ".join(f"{k} {v:,}" for k, v in counts.most_common())
    )
    for text in slow[: args.show_slow]:
        print(f"  slow: {text[:300]!r}")
    for failure in failures:
        print(f"  {failure}, before it is made smaller", flush=True)
    small = {f: minimise(target, text, f, args) for f, text in failures.items()}
    for failure, text in small.items():
        print(f"  {failure}\n    {text[:500]!r}", flush=True)
    return small


def _note(
    outcome: str, text: str, counts: Counter[str], failures: dict[str, str], slow: list[str]
) -> None:
    counts["FAILED" if outcome.startswith("!") else outcome] += 1
    if outcome == "slow":
        slow.append(text)
    elif outcome.startswith("!") and len(text) < len(failures.get(outcome, text + ".")):
        failures[outcome] = text


def _warm_up() -> None:
    """Makes what is made once before there are children, so that each need not."""
    warnings.simplefilter("ignore")  # re warns of classes that may be sets one day
    vocabulary()
    saved_seeds()
    for target, seeds in SEEDS.items():
        for text in seeds:
            outcome_of(target, text, 20)
    torch.set_num_threads(1)
    hostile_files.warm_up()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--target", choices=[*EVERY, "all"], default="all")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--case-seconds", type=float, default=5, help="processor time of one case")
    parser.add_argument("--memory", type=int, default=3_000, help="MiB of address space of a child")
    parser.add_argument("--tries", type=int, default=150, help="to make one failure smaller")
    parser.add_argument("--show-slow", type=int, default=3)
    args = parser.parse_args()
    _warm_up()
    found = 0
    for target in EVERY if args.target == "all" else (args.target,):
        found += len(campaign(target, args.seconds, args))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
