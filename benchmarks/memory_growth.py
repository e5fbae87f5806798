"""Resident memory of one long text: how it grows with the tokens read, engine beside engine.

A JSON text is read token by token, a mask each, under a schema that says little: a list of documents of one
kind, a list of distinct strings (``uniqueItems``, which the others do not hold), an object of ever new
keys.  Every engine runs in a process of its own; gramma once as it is, once with ``trim`` after every
``--every`` tokens, as a server that runs for months would.  Printed is the growth of anonymous resident
memory in MiB since the first mask.

Usage: ``python benchmarks/memory_growth.py [--tokens 100000] [--every 1000]
[--seconds 120] [--tokenizer llama3] [--json]``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from hard_grammars import megabytes
from reporting import say, table
from schema_coverage import ENGINES, load
from workers import LostError, Worker, memory

_POINTS: Final = 5
TEXTS: Final[dict[str, tuple[dict[str, Any], Callable[[int], str]]]] = {
    "documents": ({}, lambda tokens: megabytes(4e-6 * tokens)),
    "distinct strings": (
        {"type": "array", "uniqueItems": True},
        lambda tokens: json.dumps([f"{i}-{i * i:x}" for i in range(tokens // 4)]),
    ),
    "new keys": (
        {"type": "object"},
        lambda tokens: json.dumps({f"k{i}-{i * i:x}": i for i in range(tokens // 6)}),
    ),
}
"""By name: the schema, and a text of at least so many tokens."""
NAMES: Final = ("gramma", "gramma, trimmed", "llguidance", "xgrammar")


def serve(name: str, tokenizer_name: str, pipe: Any) -> None:
    """Answers (text, tokens, every) with the growth, in MiB, at some points of the text."""
    tokenizer, vocabulary = load(tokenizer_name)
    engine = ENGINES[name.split(",")[0]](tokenizer, vocabulary)
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        text, tokens, every = task
        schema, made = TEXTS[text]
        ids = tokenizer.encode(made(tokens), add_special_tokens=False)[:tokens]
        run = engine.start(engine.compile(loosened(schema, name), "schema"))
        pipe.send(growth(run, ids, every if "trimmed" in name else 0))


def loosened(schema: dict[str, Any], engine: str) -> dict[str, Any]:
    """Without what the others refuse."""
    if engine.startswith("gramma"):
        return schema
    return {key: value for key, value in schema.items() if key != "uniqueItems"}


def growth(run: Any, ids: Sequence[int], every: int) -> list[float]:
    """MiB grown after a fifth of the tokens, two fifths and so on."""
    run.step(ids[0])
    before = memory("RssAnon")
    found = []
    for number, token in enumerate(ids[1:], 2):
        if not run.step(token):
            raise RuntimeError(f"token {number} is refused")
        if every and number % every == 0:
            run.automaton.trim([run.state])
        if number % (len(ids) // _POINTS) == 0:
            found.append((memory("RssAnon") - before) / 2**20)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=1_000)
    parser.add_argument("--tokenizer", default="llama3")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    options = parser.parse_args()
    records = []
    for text in TEXTS:
        for name in NAMES:
            worker = Worker(serve, (name, options.tokenizer), options.seconds)
            record: dict[str, Any] = {"text": text, "engine": name}
            try:
                found = worker.ask((text, options.tokens, options.every))
                for i, grown in enumerate(found, 1):
                    record[f"{options.tokens * i // _POINTS:,}"] = round(grown, 1)
            except LostError as error:
                record["outcome"] = str(error)
            finally:
                worker.stop()
            say(str(record))
            records.append(record)
    print(json.dumps(records) if options.json else table(records))


if __name__ == "__main__":
    main()
