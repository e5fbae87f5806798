"""What grammars of spans of a source cost, beside free strings.

Sources are parts of the documents of this repository (or of a file); texts are spans of up to twelve
words from random places, in an object of one string and one number.  Each part of a source is compiled
anew, and its masks are computed for the first time.

Usage: ``python benchmarks/grounding.py [--source FILE] [--sizes 1000 10000 100000] [--texts 60]
[--vocabulary llama3]``
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from reporting import table
from schema_coverage import load

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from grammars.sources.numbers import numbers_of

ROOT = Path(__file__).parent.parent
SCHEMA = {
    "type": "object",
    "properties": {"quote": {"type": "string", "maxLength": 120}, "number": {"type": "number"}},
    "required": ["quote", "number"],
    "additionalProperties": False,
}
WARM = {"type": "object", "properties": {"warm": {"type": "string", "maxLength": 7}}}
Made = TypeVar("Made")


def documents() -> str:
    """The prose of this repository."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text("utf-8") for page in pages)


def texts(source: str, count: int, tokenizer: Any) -> Iterator[list[int]]:
    """Token ids of objects whose values stand in the source."""
    rng = random.Random(0)
    words = source.split()
    begins = [i for i, word in enumerate(words) if word.isalnum()]
    numbers = [one.text for one in numbers_of(source)]
    for _ in range(count):
        at = rng.choice(begins)
        length = 1 + next(
            (k for k in range(11) if not words[at + k : at + k + 1]), rng.randrange(12)
        )
        span = [*words[at : at + length]]
        while not span[-1].isalnum() and len(span) > 1:
            span.pop()
        text = {"quote": " ".join(span)[:120].rstrip()}
        head = json.dumps(text, ensure_ascii=False)[:-1]
        yield tokenizer.encode(
            f'{head}, "number": {rng.choice(numbers)}}}', add_special_tokens=False
        )


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What is made, and milliseconds."""
    began = time.perf_counter()
    made = make()
    return made, (time.perf_counter() - began) * 1e3


def measure(
    make: Callable[[], Grammar], written: list[list[int]], vocabulary: Vocabulary
) -> dict[str, Any]:
    """One row of the table."""
    grammar, compiling = timed(make)
    automaton, binding = timed(lambda: TokenAutomaton(grammar, vocabulary))
    row = np.zeros((vocabulary.size + 31) // 32, np.int32)
    _, first = timed(lambda: automaton.fill_mask(automaton.start, row))
    _, distance = timed(lambda: automaton.min_tokens_to_accept(automaton.start))
    taken: list[float] = []
    whole = 0
    for tokens in written:
        state = automaton.start
        for token in tokens:
            taken.append(timed(lambda s=state: automaton.fill_mask(s, row))[1] * 1e3)  # type: ignore[misc]
            state = automaton.advance(state, token)
            if state == automaton.DEAD:
                break
        else:
            whole += automaton.is_accepting(state)
    p50, p99 = np.percentile(taken, [50, 99])
    return {
        "grammar, ms": compiling + binding,
        "first mask, ms": first,
        "fewest tokens, ms": distance,
        "masks": len(taken),
        "p50, µs": p50,
        "p99, µs": p99,
        "largest, ms": max(taken) / 1e3,
        "texts whole": f"{whole} of {len(written)}",
    }


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--vocabulary", default="llama3")
    options = parser.parse_args()
    tokenizer, vocabulary = load(options.vocabulary)
    whole = options.source.read_text("utf-8") if options.source else documents()
    warm = Grammar.from_json_schema(WARM, source="a warm source, 1", grounded=True)
    TokenAutomaton(warm, vocabulary).mask(0)  # kernels are loaded
    records: list[dict[str, Any]] = []
    gc.collect()
    gc.disable()
    for size in options.sizes:
        source = whole[:size]
        written = [*texts(source, options.texts, tokenizer)]
        ways: dict[str, Callable[[], Grammar]] = {
            "grounded": lambda s=source: Grammar.from_json_schema(SCHEMA, source=s, grounded=True),  # type: ignore[misc]
            "free": lambda: Grammar.from_json_schema(SCHEMA),
        }
        for name, make in ways.items():
            row = {"source": f"{len(source):,}", "strings": name}
            records.append(row | measure(make, written, vocabulary))
    print(table(records))


if __name__ == "__main__":
    main()
