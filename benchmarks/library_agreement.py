"""Agreement of the library's grammars with reference parsers, grammar by grammar.

Texts are those of the grammar's case table, samples of the grammar, texts that a generator of the
reference's own makes (:mod:`benchmarks.library_references`), and mutations of them all.  Each is read by
the grammar and by the reference.  What differs is counted: accepted by ours only, or by theirs only.
Where a reference says why a text is one that the grammar leaves out (or that the reference itself reads
otherwise than the standard), it counts as ``left out`` instead, and the reasons are printed.

    python benchmarks/library_agreement.py --samples 300 --mutations 600 --packages FOLDER --node FOLDER

``--packages`` is a folder of installed packages (``pip install --target``), looked in last; ``--node`` one
with ``node_modules``.  References that are not there are skipped, and the table says so.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.library_references import REFERENCES, MissingReferenceError, Reference
from benchmarks.reporting import say, table
from grammars import BudgetError, Grammar, GrammarError, library

_PIECES: Final = re.compile(r"\w+|\s+|.", re.DOTALL)
_ODD: Final = (
    '"',
    "'",
    "\\",
    "\n",
    "\r\n",
    "\t",
    " ",
    "é",
    "\0",
    "0",
    "-",
    ".",
    ",",
    "_",
    "#",
    "/",
)


@dataclass
class Tally:
    """Counts of one grammar beside one reference."""

    texts: int = 0
    both: int = 0
    neither: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    ours: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)

    @property
    def differ(self) -> int:
        """Texts that are read otherwise, without a reason that is known."""
        return len(self.ours) + len(self.theirs)


def mutated(rng: random.Random, text: str, others: Sequence[str]) -> str:
    """The text with one to three pieces dropped, doubled, moved, replaced or put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        pieces = _PIECES.findall(text) if rng.random() < 0.6 else list(text)
        if not pieces:
            return rng.choice(_ODD)
        i, j = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        match rng.randrange(7):
            case 0:
                del pieces[i]
            case 1:
                pieces.insert(i, pieces[i])
            case 2:
                pieces[i], pieces[j] = pieces[j], pieces[i]
            case 3:
                pieces[i] = rng.choice(_ODD)
            case 4:
                pieces.insert(i, rng.choice(_ODD))
            case 5:
                pieces[i] = rng.choice(_PIECES.findall(rng.choice(others)) or [""])
            case _:
                pieces.insert(i, rng.choice(_PIECES.findall(rng.choice(others)) or [""]))
        text = "".join(pieces)
    return text


def texts_of(
    name: str,
    grammar: Grammar,
    reference: Reference,
    rng: random.Random,
    samples: int,
    longest: int,
) -> list[str]:
    """Texts of the case table, samples, and what the reference's generator makes."""
    found: list[str] = []
    try:
        cases = library.cases(name)
    except GrammarError:
        cases = None
    if cases is not None:
        found += [case.text for case in cases.cases]
    found += [_sample(grammar, rng, longest) for _ in range(samples)]
    if reference.texts is not None:
        found += [reference.texts(rng) for _ in range(samples)]
    return found


def _sample(grammar: Grammar, rng: random.Random, longest: int) -> str:
    most: int | None = rng.randint(longest // 8, longest)
    seed = rng.randrange(1 << 30)
    try:
        return grammar.sample(seed, max_bytes=most).decode()
    except BudgetError:  # its shortest text is longer
        return grammar.sample(seed, max_bytes=2 * longest).decode()


def compared(grammar: Grammar, reference: Reference, texts: Sequence[str]) -> Tally:
    """How ours and theirs read texts."""
    reads = reference.reader()
    tally = Tally()
    for text in texts:
        ours, theirs = grammar.accepts(text), reads(text)
        tally.texts += 1
        if ours == theirs:
            tally.both += ours
            tally.neither += not ours
            continue
        why = reference.left_out(text, ours) if reference.left_out is not None else None
        if why is not None:
            tally.left_out[f"{'ours' if ours else 'theirs'}: {why}"] += 1
        elif ours:
            tally.ours.append(text)
        else:
            tally.theirs.append(text)
    return tally


def run(
    name: str, reference: Reference, *, samples: int, mutations: int, longest: int, seed: int
) -> Tally:
    """Compares one grammar with one reference."""
    rng = random.Random(f"{name} {seed}")
    grammar = Grammar.from_library(name, **reference.parameters)
    whole = texts_of(name, grammar, reference, rng, samples, longest)
    changed = [mutated(rng, rng.choice(whole), whole) for _ in range(mutations)]
    return compared(grammar, reference, [*whole, *changed])


def main() -> int:
    """Prints the table; the status is 1 where anything differs for no reason that is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="grammars; all that have a reference by default")
    parser.add_argument("--samples", type=int, default=300, help="texts sampled of each grammar")
    parser.add_argument("--mutations", type=int, default=600, help="mutated texts of each")
    parser.add_argument("--longest", type=int, default=160, help="bytes of a sample")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="how many texts that differ to print")
    parser.add_argument(
        "--packages", type=Path, help="a folder of installed packages, looked in last"
    )
    parser.add_argument("--node", type=Path, help="a folder with node_modules")
    chosen = parser.parse_args()
    if chosen.packages:
        sys.path.append(str(chosen.packages))
    rows: list[dict[str, Any]] = []
    wrong = 0
    for name, reference in REFERENCES:
        if chosen.names and name not in chosen.names:
            continue
        reference.node = chosen.node
        began = time.perf_counter()
        try:
            reference.reader()
        except MissingReferenceError as error:
            rows.append({"grammar": name, "reference": reference.name, "texts": str(error)})
            continue
        tally = run(
            name,
            reference,
            samples=chosen.samples,
            mutations=chosen.mutations,
            longest=chosen.longest,
            seed=chosen.seed,
        )
        wrong += len(tally.ours) if reference.wider else tally.differ
        for side, texts in (("ours", tally.ours), ("theirs", tally.theirs)):
            for text in sorted(texts, key=len)[: chosen.show]:
                say(f"{name}: {side} only, beside {reference.name}: {text!r}")
        rows.append(
            {
                "grammar": name,
                "reference": reference.name,
                "texts": tally.texts,
                "both accept": tally.both,
                "both refuse": tally.neither,
                "ours only": len(tally.ours),
                "theirs only": len(tally.theirs),
                "left out": tally.left_out.total(),
                "why": "; ".join(f"{why} {n}" for why, n in tally.left_out.most_common()),
            }
        )
        say(f"{name} beside {reference.name}: {time.perf_counter() - began:.1f} s")
    print(table(rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
