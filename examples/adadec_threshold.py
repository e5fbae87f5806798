"""Learns AdaDec's threshold for a model from the reference solutions of MBPP.

    python examples/adadec_threshold.py --count 100

Each solution is read token by token after its task.  Where the entropy of the model's law is low, the
solution's token is nearly always the likeliest; the threshold is the entropy at which, right and wrong
tokens counting equally, that has become a matter of chance (``--cutoff``).

The tasks are those of MBPP's test split, in the order of their numbers: to measure AdaDec with the
threshold found, use tasks that come later.

Source: He et al. 2025, "AdaDec: Towards Improved Code Generation with Adaptive Decoding", section 3.2.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from constrain.models import DEFAULT_MODEL, fetch_data, load_model
from samplers.adadec import fit_threshold, teacher_forced

BIN = 0.5
"""Nats."""
WIDTH = 40
"""Columns of the longest bar."""


def references(file: Path, count: int) -> list[tuple[str, str]]:
    """(prompt, solution) of the first tasks, by number.

    Args:
        file: JSON, one task a line, packed with gzip: ``doc`` with ``task_id`` and ``code``,
            ``request`` with ``context``.
        count: how many.
    """
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        tasks = [json.loads(line) for line in lines]
    tasks.sort(key=lambda task: task["doc"]["task_id"])
    return [
        (task["request"]["context"], task["doc"]["code"].replace("\r\n", "\n").strip() + "\n")
        for task in tasks[:count]
    ]


def measured(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> tuple[Any, Any]:
    """Entropy before every token of the solutions, and whether the token was the likeliest."""
    console = Console(stderr=True)
    entropies: list[float] = []
    right: list[bool] = []
    for prompt, solution in track(
        pairs, "reading", console=console, disable=not console.is_terminal
    ):
        before = tokenizer(prompt)["input_ids"]
        after = tokenizer(solution, add_special_tokens=False)["input_ids"]
        h, hits = teacher_forced(model, before, after)
        entropies += h
        right += hits
    return np.array(entropies), np.array(right)


def histogram(entropies: Any, right: Any) -> str:
    """How many tokens there are at each entropy, and which share of them was the likeliest."""
    bins = np.floor(entropies / BIN).astype(int)
    counts = np.bincount(bins)
    hits = np.bincount(bins, weights=right)
    lines = ["entropy      tokens   likeliest"]
    for i, (count, hit) in enumerate(zip(counts, hits, strict=True)):
        bar = "#" * round(WIDTH * count / counts.max())
        share = f"{hit / count:.0%}" if count else "-"
        lines.append(f"{i * BIN:.1f} to {(i + 1) * BIN:.1f}   {count:6,}   {share:>9}  {bar}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the tasks, fits, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--dtype", default="bfloat16", help="of the model")
    parser.add_argument("--count", type=int, default=100, help="tasks")
    parser.add_argument("--cutoff", type=float, default=0.5, help="probability of being right")
    parser.add_argument("--data", type=Path, help="requests.jsonl.gz; fetched if not given")
    parser.add_argument("--threads", type=int, help="of torch")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    file = options.data or fetch_data("mbpp") / "requests.jsonl.gz"
    pairs = references(file, options.count)
    model, tokenizer = load_model(options.model, options.dtype)
    entropies, right = measured(model, tokenizer, pairs)
    print(histogram(entropies, right))
    found = fit_threshold(entropies, right, options.cutoff)
    print(
        f"\n{found.tokens:,} tokens of {len(pairs)} solutions, {found.right / found.tokens:.1%} the "
        f"likeliest; log-odds {found.weight:.3f} H {found.bias:+.3f}, right on {found.accuracy:.1%} "
        f"of balanced tokens\nthreshold {found.value:.3f} nats"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
