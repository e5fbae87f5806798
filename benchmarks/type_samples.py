"""Does pydantic validate whatever the grammar of a type writes?

For each type of ``tests/type_table.py``: ``Grammar.from_type`` and so many samples, each of which goes
through ``TypeAdapter(tp).validate_json``.  Types that no grammar keeps are listed with the error.

Usage: ``python benchmarks/type_samples.py [--samples 1000] [--only NAME ...]``

Exit status 1 if any sample was invalid, or a type was refused that should not be (or the reverse).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from reporting import say, table

from grammars import Grammar, GrammarError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from type_table import REFUSED, TYPES

_LONGEST = 160


def measured(name: str, tp: Any, samples: int) -> dict[str, Any]:
    """How one type fares."""
    start = time.perf_counter()
    grammar = Grammar.from_type(tp)
    compiled = time.perf_counter()
    adapter: TypeAdapter[Any] = TypeAdapter(tp)
    invalid = 0
    distinct = set()
    for seed in range(samples):
        text = grammar.sample(seed)
        distinct.add(text)
        try:
            adapter.validate_json(text)
        except Exception as error:
            invalid += 1
            say(f"{name}: {text!r}: {_first_lines(error)}")
    return {
        "type": name,
        "samples": samples,
        "distinct": len(distinct),
        "invalid": invalid,
        "compile s": round(compiled - start, 3),
    }


def refusal(name: str, tp: Any) -> dict[str, Any]:
    """What is said about a type that is refused."""
    try:
        Grammar.from_type(tp)
    except GrammarError as error:
        message = str(error).partition("; with Grammar.from_type(")[0]
        return {"type": name, "error": message[:_LONGEST].replace("|", "\\|")}
    return {"type": name, "error": "none"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000, help="for each type")
    parser.add_argument("--only", nargs="*", help="names of types")
    options = parser.parse_args(argv)
    records = []
    for name, tp in TYPES.items():
        if options.only and name not in options.only:
            continue
        say(name)
        records.append(measured(name, tp, options.samples))
    refused = [] if options.only else [refusal(name, tp) for name, (tp, _) in REFUSED.items()]
    invalid = sum(record["invalid"] for record in records)
    print(table(records))
    print(
        f"\n{len(records)} types, {options.samples * len(records):,} samples, {invalid} invalid\n"
    )
    if refused:
        print(table(refused))
    return int(invalid > 0 or any(record["error"] == "none" for record in refused))


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:3])


if __name__ == "__main__":
    sys.exit(main())
