"""Grammars written as GBNF and as Lark, sampled and read both ways.

::

    python benchmarks/conversions.py --data PATH --samples 1000

The grammars are those of the library that have no parameters, examples, and the first schemas of the
development split (``maskbench-dev.jsonl.gz`` in the folder PATH) that plain rules can say, up to
``--grammars`` in all.  Each is written, the text is read again, and each of the two reads ``--samples``
random texts of the other.  Of the Lark text lark's own Earley parser reads some too, of short texts.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reporting import say, table

from grammars import BudgetError, Grammar, GrammarError

_EXAMPLES: Final = Path(__file__).parent.parent / "examples"
_SHORT: Final = 60
"""Bytes of texts that lark's Earley parser reads in reasonable time."""
_BY_LARK: Final = 30


@dataclass
class Tally:
    """What came of one notation.

    Attributes:
        grammars, refused: how many were written, and how many cannot be.
        samples, differences: texts read by the other grammar, and those that it refused.
        by_lark, lark_differs: texts that lark read, and those of which it thinks otherwise.
        bytes: of all texts of grammars.
    """

    grammars: int = 0
    refused: int = 0
    samples: int = 0
    differences: int = 0
    by_lark: int = 0
    lark_differs: int = 0
    bytes: int = 0


def main() -> int:
    """Prints the table; the status is 1 where a text differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of maskbench-dev.jsonl.gz")
    parser.add_argument("--grammars", type=int, default=40)
    parser.add_argument("--samples", type=int, default=1_000)
    options = parser.parse_args()
    tallies = {"gbnf": Tally(), "lark": Tally()}
    for name, grammar in itertools.islice(_grammars(options.data), options.grammars):
        for notation, tally in tallies.items():
            _convert(name, grammar, notation, tally, options.samples)
    print(table([{"notation": name, **vars(tally)} for name, tally in tallies.items()]))
    return int(any(t.differences or t.lark_differs for t in tallies.values()))


def _grammars(data: Path | None) -> Iterator[tuple[str, Grammar]]:
    from grammars import library

    for name in library.names():
        if not library.entry(name).parameters:
            grammar = Grammar.from_library(name)
            if grammar.layout is None:
                yield name, grammar
    for path in sorted(_EXAMPLES.iterdir()):
        if path.suffix in (".gbnf", ".lark", ".regex") or path.name.endswith(".schema.json"):
            yield path.name, Grammar.from_file(path)
    if data is not None:
        yield from _schemas(data)


def _schemas(data: Path) -> Iterator[tuple[str, Grammar]]:
    """Schemas whose keys the rules themselves keep apart."""
    with gzip.open(data / "maskbench-dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            try:
                grammar = Grammar.from_json_schema(row["schema"])
                grammar.to_gbnf()
            except (GrammarError, ValueError):
                continue
            yield str(row.get("id", "schema")), grammar


def _convert(name: str, grammar: Grammar, notation: str, tally: Tally, samples: int) -> None:
    try:
        text = grammar.to_gbnf() if notation == "gbnf" else grammar.to_lark()
    except GrammarError as error:
        tally.refused += 1
        say(f"{name}, {notation}: {error.message[:90]}")
        return
    try:
        other = Grammar.from_gbnf(text) if notation == "gbnf" else Grammar.from_lark(text)
    except GrammarError as error:
        tally.refused += 1
        say(f"{name}, {notation}, read again: {error.message[:90]}")
        return
    tally.grammars += 1
    tally.bytes += len(text)
    short: list[bytes] = []
    for by, reader in ((grammar, other), (other, grammar)):
        for seed in range(samples):
            sample = _sampled(by, seed)
            tally.samples += 1
            if not reader.accepts(sample):
                tally.differences += 1
                say(f"DIFFERENCE {name}, {notation}: {sample!r}")
            if len(sample) <= _SHORT and len(short) < _BY_LARK:
                short.append(sample)
    if notation == "lark":
        _ask_lark(name, grammar, text, short, tally)
    say(f"{name}, {notation}: {len(text):,} bytes")


def _sampled(grammar: Grammar, seed: int) -> bytes:
    """A text that is short, if the grammar has such."""
    try:
        return grammar.sample(seed, 120)
    except BudgetError:
        return grammar.sample(seed)


def _ask_lark(name: str, grammar: Grammar, text: str, samples: list[bytes], tally: Tally) -> None:
    """Texts, and the same with a character left out, read by lark itself."""
    import lark

    parser = lark.Lark(text, parser="earley")
    for sample in samples:
        read = sample.decode()
        for each in (read, read[: len(read) // 2] + read[len(read) // 2 + 1 :]):
            try:
                parser.parse(each)
                accepted = True
            except lark.exceptions.LarkError:
                accepted = False
            tally.by_lark += 1
            if accepted != grammar.accepts(each):
                tally.lark_differs += 1
                say(f"DIFFERENCE {name}, lark itself: {each!r}")


if __name__ == "__main__":
    raise SystemExit(main())
