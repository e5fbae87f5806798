"""What rows that share a prompt's keys and values save beside rows with copies of them.

* ``forwards``: one forward of so many rows behind a prompt of so many tokens, each row with one token, or
  with one token and a chain of eight drafts: memory of keys and values, time, and the largest
  difference of logits.  The two ways take turns.
* ``rule``: the same for few rows and short prompts, where the second product costs as much as it saves:
  where ``samplers.speculative.shared_prefix.SHARED_TOKENS`` comes from.
* ``rows``: texts of one prompt through the backend with the default drafters, so many side by side: tokens
  a second with a shared prompt and with copies.  Texts must be the same.

Times are of the processor, not of the clock, so that what else the machine does weighs less; torch has one
thread.  A case whose copies take more than ``--gigabytes`` is not copied: its memory is computed, its
time left out.

Usage: ``python benchmarks/shared_prefix.py [--what forwards,rule,rows] [--rows 4,16,64]
[--prompts 256,1024,4096] [--side 1,4,16] [--dtype float32] [--limit 3] [--seconds 20] [--gigabytes 6]``
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tasks
import torch
from reporting import say, table

from constrain import TokenAutomaton, Vocabulary, load_model
from grammars import Grammar
from samplers import GrammarConstrained, SpeculativeBackend
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import Tree

ROOM = 64
"""Tokens that each row has room for behind the prompt."""
DRAFTS = 8
LEAST, MOST = 2, 15
"""Forwards of each kind that are measured, the first apart."""


class Copying(SpeculativeBackend):
    """The backend as it is where nothing can be shared."""

    def shares(self, prefix: int, rows: int) -> bool:
        """Never."""
        return False


def chain(drafts: int) -> Tree:
    """Drafts one below the other."""
    tree = Tree(None)
    for i in range(drafts):
        tree.add(i - 1, 100 + i, None, "chain", 0.5)
    return tree


def prompt_of(tokens: int) -> list[int]:
    """Some ids, the same each time."""
    generator = torch.Generator().manual_seed(tokens)
    return [int(i) for i in torch.randint(3, 40_000, (tokens,), generator=generator)]


def read(model: Any, tokens: int) -> TreeScorer:
    """One row that has read a prompt, as a prefix."""
    scorer = TreeScorer(model, 1, tokens)
    scorer.score([Request(prompt_of(tokens), Tree(None))])
    scorer.commit([[]])
    scorer.share(ROOM)
    return scorer


def made(prompt: TreeScorer, rows: int, *, shared: bool) -> TreeScorer:
    """Rows that go on from it."""
    scorer = prompt.fork(prompt.length(0) + ROOM)
    if not shared:
        scorer.cache.unshare()
    scorer.cache.expand(rows)
    return scorer


def forward(scorer: TreeScorer, drafts: int) -> tuple[float, torch.Tensor]:
    """Milliseconds of the processor and logits; keeps nothing."""
    tokens = [200 + row for row in range(scorer.rows)]
    requests = [Request([token], chain(drafts)) for token in tokens]
    began = time.process_time()
    logits = scorer.score(requests).logits
    return 1e3 * (time.process_time() - began), logits


def measured(scorers: Sequence[TreeScorer], drafts: int, seconds: float) -> list[float]:
    """Median milliseconds of each, taking turns."""
    times: list[list[float]] = [[] for _ in scorers]
    began = time.perf_counter()
    while len(times[0]) < MOST:
        if len(times[0]) >= LEAST and time.perf_counter() - began > seconds:
            break
        for scorer, own in zip(scorers, times, strict=True):
            own.append(forward(scorer, drafts)[0])
    return [statistics.median(own) for own in times]


def forwards(model: Any, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record for each size."""
    each = TreeScorer(model).bytes_per_token
    for prompt in options.prompts:
        first = read(model, prompt)
        for rows in options.rows:
            copied = rows * (prompt + ROOM) * each
            kinds = [True, False] if copied < 1e9 * options.gigabytes else [True]
            scorers = [made(first, rows, shared=shared) for shared in kinds]
            for drafts in (0, DRAFTS):
                logits = [forward(scorer, drafts)[1] for scorer in scorers]
                times = measured(scorers, drafts, options.seconds)
                both = len(scorers) == 2
                yield {
                    "prompt": prompt,
                    "rows": rows,
                    "drafts": drafts,
                    "copied, MB": copied / 1e6,
                    "shared, MB": scorers[0].cache.nbytes / 1e6,
                    "copied, ms": times[1] if both else None,
                    "shared, ms": times[0],
                    "times faster": times[1] / times[0] if both else None,
                    "logits differ by": float((logits[0] - logits[1]).abs().max())
                    if both
                    else None,
                }
            scorers.clear()
            gc.collect()


def rule(model: Any, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Copied tokens that sharing saves, and what it gains."""
    for prompt in (32, 64, 128, 256, 512):
        first = read(model, prompt)
        for rows in (2, 4, 8):
            scorers = [made(first, rows, shared=shared) for shared in (True, False)]
            found: dict[str, Any] = {
                "(rows - 1) * prompt": (rows - 1) * prompt,
                "prompt": prompt,
                "rows": rows,
            }
            for drafts in (0, DRAFTS):
                for scorer in scorers:
                    forward(scorer, drafts)
                shared, copied = measured(scorers, drafts, options.seconds)
                found[f"times faster, {drafts} drafts"] = copied / shared
            yield found


def rows_side_by_side(
    model: Any, tokenizer: Any, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Tokens a second of the default drafters, for some rows."""
    vocabulary = Vocabulary.from_huggingface(tokenizer, model=model)
    chosen = tasks.load("extraction", options.limit, 0)
    automata = [TokenAutomaton(Grammar.from_json_schema(t.schema_text), vocabulary) for t in chosen]
    kinds: list[tuple[str, Callable[..., SpeculativeBackend], Any]] = [
        ("shared, default drafters", SpeculativeBackend, None),
        ("copied, default drafters", Copying, None),
        ("shared, no drafters", SpeculativeBackend, []),
    ]
    for rows in options.side:
        texts: dict[str, list[list[int]]] = {}
        for name, make, drafters in kinds:
            if rows == 1 and name.startswith("copied"):
                continue  # the same thing
            tokens, forwards, cpu, clock = 0, 0, 0.0, 0.0
            for task, automaton in zip(chosen, automata, strict=True):
                backend = make(model, tokenizer, drafters, max_rows=16)
                sampler = GrammarConstrained(backend, automaton)
                began = time.process_time(), time.perf_counter()
                samples = sampler.sample(
                    task.prompt_ids(tokenizer),
                    rows,
                    max_new_tokens=task.budget,
                    temperature=0.7,
                    seed=1,
                )
                cpu += time.process_time() - began[0]
                clock += time.perf_counter() - began[1]
                tokens += sum(len(s.token_ids) for s in samples)
                forwards += backend.forwards
                texts.setdefault(name, []).extend(s.token_ids for s in samples)
                say(f"rows {rows} {name} {task.name}: {tokens} tokens, {cpu:.0f} s")
            yield {
                "rows": rows,
                "": name,
                "tokens": tokens,
                "tokens a forward": tokens / forwards,
                "tokens a second": tokens / cpu,
                "by the clock": tokens / clock,
                "same texts": f"{_same(texts, name)} of {len(texts[name])}",
            }


def _same(texts: dict[str, list[list[int]]], name: str) -> int:
    first = next(iter(texts.values()))
    return sum(a == b for a, b in zip(first, texts[name], strict=True))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", default="forwards,rule,rows")
    parser.add_argument("--rows", type=_numbers, default=[4, 16, 64])
    parser.add_argument("--prompts", type=_numbers, default=[256, 1024, 4096])
    parser.add_argument("--side", type=_numbers, default=[1, 4, 16], help="rows, of rows")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--limit", type=int, default=3, help="prompts, of rows")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="for one case, at least two turns"
    )
    parser.add_argument("--gigabytes", type=float, default=6.0, help="of copies, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(dtype=options.dtype)
    parts: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "rule": lambda: rule(model, options),
        "forwards": lambda: forwards(model, options),
        "rows": lambda: rows_side_by_side(model, tokenizer, options),
    }
    for what in options.what.split(","):
        records = []
        for record in parts[what]():
            say(f"{what}: {record}")
            records.append(record)
        print(f"## {what}\n\n{table(records)}\n", flush=True)


if __name__ == "__main__":
    main()
