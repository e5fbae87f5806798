"""Agreement with lark on ``python.lark``: modules of the standard library, and mutations of them.

The reference is ``Lark(parser="lalr", postlex=PythonIndenter())`` with the grammar in lark's own wheel.  Its
LALR table has conflicts (``match`` may be a name), which lark settles by shifting; ours keeps every reading,
so it may accept a text that lark refuses for that alone.  Such texts are counted apart: lark accepts them
once every ``match`` and ``case`` that stands as a name is called otherwise.

    python benchmarks/python_agreement.py --modules 500 --mutations 500

With ``--masks N`` it makes the masks of a tokenizer's vocabulary along N modules instead.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import lark
import numpy as np
from lark.indenter import PythonIndenter

from benchmarks.reporting import say, table
from constrain import TokenAutomaton, Vocabulary
from constrain.models import load_tokenizer
from grammars import Grammar

_PIECES: Final = (
    " ", "  ", "\t", "\n", "\n\n", "\n    ", "    ", "(", ")", "[", "]", "{", "}", ":", ",", "=", ".",
    "'", '"', "#", "\\\n", "if", "else:", "x", "0", "not ", "pass", ";", "lambda", "\f",
    '"""', "def ", "é", "return",
)  # fmt: skip
_SOFT: Final = re.compile(r"\b(match|case)\b(?=\s*[-+(\[]|\s+not\b)")


def python_lark() -> str:
    """The grammar in lark's wheel."""
    return (Path(lark.__file__).parent / "grammars" / "python.lark").read_text("utf-8")


def modules(least: int, most: int) -> list[Path]:
    """Modules of the standard library of so many bytes, in an order that mixes packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [
        path
        for path in sorted(root.rglob("*.py"))
        if "site-packages" not in path.parts and least <= path.stat().st_size <= most
    ]
    random.Random(0).shuffle(found)
    return found


def texts(paths: list[Path]) -> Iterator[str]:
    """Their texts, those that are no UTF-8 left out; line ends as they stand in the file."""
    for path in paths:
        try:
            yield path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue


def mutated(text: str, rng: random.Random) -> str:
    """The text with one to three small changes, in its widths most of all."""
    for _ in range(rng.randint(1, 3)):
        lines = text.split("\n")
        i = rng.randrange(len(lines))
        match rng.randrange(7):
            case 0:
                lines[i] = " " * rng.randint(1, 4) + lines[i]
            case 1:
                lines[i] = lines[i][rng.randint(1, 4) :]
            case 2:
                del lines[i]
            case 3:
                lines[i : i + 2] = [" ".join(lines[i : i + 2])]
            case 4:
                lines.insert(
                    i, " " * rng.randint(0, 9) + rng.choice(("", "x", "# y", "pass", "if x:"))
                )
            case _:
                at = rng.randint(0, len(text))
                cut = at + rng.choice((0, 0, 1, 3))
                text = text[:at] + rng.choice(_PIECES) + text[cut:]
                continue
        text = "\n".join(lines)
    return text


def reader(parser: lark.Lark) -> Callable[[str], bool]:
    """Whether lark parses a text; all that leaves it counts as a refusal, failed assertions too."""

    def reads(text: str) -> bool:
        try:
            parser.parse(text)
        except RecursionError:
            raise
        except Exception:
            return False
        return True

    return reads


def compared(
    name: str, grammar: Grammar, reads: Callable[[str], bool], found: list[str]
) -> dict[str, Any]:
    """How lark and ours judge texts."""
    counts = dict.fromkeys(("texts", "both accept", "both refuse", "lark's conflict", "differ"), 0)
    ours = theirs = 0.0
    size = 0
    for text in found:
        began = time.perf_counter()
        mine = grammar.accepts(text)
        between = time.perf_counter()
        its = reads(text)
        theirs += time.perf_counter() - between
        ours += between - began
        size += len(text.encode())
        counts["texts"] += 1
        if mine == its:
            counts["both accept" if mine else "both refuse"] += 1
        elif mine and reads(_SOFT.sub(lambda word: word[1] + "_", text)):
            counts["lark's conflict"] += 1
        else:
            counts["differ"] += 1
            say(
                f"{name}: lark {its}, ours {mine}, Python {_python(text)}: {_beginning(text, grammar)}"
            )
    speed = {"MB": size / 1e6, "MB/s": size / 1e6 / ours, "lark's MB/s": size / 1e6 / theirs}
    return {"set": name, **counts, **speed}


def _python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _beginning(text: str, grammar: Grammar) -> str:
    found = grammar.explain(text)
    return str(found) if not found.accepted else repr(text[:200])


def masks(grammar: Grammar, tokenizer: Any, found: list[str]) -> dict[str, Any]:
    """Processor time of the mask before each token of some texts, a state's again where it comes again."""
    automaton = TokenAutomaton(grammar, Vocabulary.from_huggingface(tokenizer))
    row = np.zeros((automaton.vocabulary.size + 31) // 32, np.int32)
    taken: list[float] = []
    missing = 0
    for text in found:
        state = automaton.start
        for token in tokenizer.encode(text, add_special_tokens=False):
            began = time.process_time()
            automaton.fill_mask(state, row)
            taken.append(1e3 * (time.process_time() - began))
            missing += not row[token >> 5] >> (token & 31) & 1
            state = automaton.advance(state, token)
            if state == automaton.DEAD:
                break
    for line in automaton.approximations:
        say(line)
    shares = {f"p{p:g}": float(np.percentile(taken, p)) for p in (50, 90, 95, 99, 99.9, 100)}
    slow = 100 * float(np.mean(np.array(taken) > 5))
    return {"masks": len(taken), "ms": float(np.mean(taken)), **shares, "% > 5 ms": slow,
            "tokens missing": missing}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modules", type=int, default=500)
    parser.add_argument("--mutations", type=int, default=500)
    parser.add_argument("--largest", type=int, default=20_000, help="bytes of a module at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--grammar", type=Path, help="a saved grammar instead of reading python.lark"
    )
    parser.add_argument("--masks", type=int, help="make masks along so many modules instead")
    parser.add_argument("--tokenizer", default="gpt2", help="of these masks")
    chosen = parser.parse_args()
    began = time.perf_counter()
    if chosen.grammar:
        grammar = Grammar.load(chosen.grammar)
    else:
        grammar = Grammar.from_lark(python_lark(), "file_input")
    say(f"{grammar} in {time.perf_counter() - began:.1f} s")
    if chosen.masks:
        whole = list(texts(modules(2_000, 8_000)[: chosen.masks]))
        print(table([masks(grammar, load_tokenizer(chosen.tokenizer), whole)]))
        return
    options: dict[str, Any] = {"parser": "lalr", "start": "file_input"}
    reads = reader(lark.Lark(python_lark(), postlex=PythonIndenter(), **options))
    rng = random.Random(chosen.seed)
    whole = list(texts(modules(200, chosen.largest)[: chosen.modules]))
    small = list(texts(modules(200, chosen.largest // 3)))
    changed = [mutated(rng.choice(small), rng) for _ in range(chosen.mutations)]
    rows = [
        compared("modules", grammar, reads, whole),
        compared("mutated modules", grammar, reads, changed),
    ]
    print(table(rows))


if __name__ == "__main__":
    main()
