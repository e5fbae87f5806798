"""Hostile grammars and texts one by one: what becomes of each, its processor time and its memory.

What strangers have sent, or could: grammars that multiply, numbers without end, brackets by the hundred
thousand, texts and objects that are long where work is squared.  Each case runs in a process of its own
with 8 GB of address space: it compiles, asks for the first mask and the distance to an end, and reads a
text where there is one.  It must be fine or end in a named error.

``seconds`` is processor time from a process that is ready (imports and the vocabulary's trie aside) and
``MB`` what its peak grew by.

Usage: ``python benchmarks/hostile_cases.py [--tokenizer smollm2] [--only WORD]``
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from reporting import say, table
from schema_coverage import load

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError, Limits

MEMORY: Final = 8 << 30
PATIENCE: Final = 300.0

schema = Grammar.from_json_schema
gbnf = Grammar.from_gbnf
lark = Grammar.from_lark


def keys(count: int) -> str:
    """An object of so many keys."""
    return json.dumps({f"key {i}": i for i in range(count)})


def required(pairs: int) -> dict[str, Any]:
    """An ``allOf`` of choices between two required keys each."""
    choices = [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(pairs)]
    return {"type": "object", "allOf": choices}


def doubling(levels: int) -> str:
    """Rules that each stand for the next one twice."""
    rules = [f"r{i} ::= r{i + 1} r{i + 1}" for i in range(levels)]
    return "\n".join(["root ::= r0", *rules, f'r{levels} ::= "a"'])


def nested_choice(depth: int) -> dict[str, Any]:
    """A ``oneOf`` of one definition twice, which holds another such one, and so on."""
    both = {f"d{i}": {"oneOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**both, f"d{depth}": {"type": "integer"}}}


Case = tuple[Callable[[], Grammar], str | None]
"""A grammar, and a text that it is asked about."""

CASES: Final[dict[str, Case]] = {
    "GBNF: x ::= x x, a search that was stopped": (
        lambda: gbnf(
            'root ::= x*\nx ::= [^\\x00]+ | [a-z ]+ | [^0-9]* "." | x x', limits=Limits(max_items=3)
        ),
        "abc",
    ),
    "GBNF: s ::= s s s | s s | a": (lambda: gbnf('root ::= root root root | root root | "a"'), "a" * 200),
    "GBNF: doubled 18 times": (lambda: gbnf(doubling(18)), "a" * 50),
    "GBNF: 20,000 groups": (lambda: gbnf("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000), None),
    "Lark: 200,000 brackets": (lambda: lark("start: " + "(" * 200_000 + '"a"' + ")" * 200_000), None),
    "Lark: a template of itself": (lambda: lark("start: t{start}\nt{x}: x | t{t{x}}"), None),
    "Lark: a rule of 600 symbols": (lambda: lark("start:" + " x" * 600 + '\nx: "a"'), None),
    "Lark: 200 keywords beside a name": (
        lambda: lark("start: (NAME | " + " | ".join(f'"word{i}"' for i in range(200)) + ")*\n"
                     "NAME: /[a-z][a-z0-9]*/\n%ignore \" \""),
        "word1 other word199",
    ),
    "schema: an object of 20,000 keys": (lambda: schema({"type": "object"}), keys(20_000)),
    "schema: uniqueItems, 20,000 items": (
        lambda: schema({"type": "array", "uniqueItems": True}), json.dumps(list(range(20_000)))
    ),
    "schema: maxLength of 10**100": (lambda: schema({"type": "string", "maxLength": 10**100}), '"a"'),
    "schema: minItems of 10**9, a sample": (lambda: _sampled({"type": "array", "minItems": 10**9}), None),
    "schema: minItems of 10**6, a sample": (lambda: _sampled({"type": "array", "minItems": 10**6}), None),
    "schema: oneOf of references, 6 deep": (lambda: schema(nested_choice(6)), "1"),
    "schema: enum of 1,000 integers": (lambda: schema({"enum": [i * 7919 for i in range(1000)]}), "7919"),
    "schema: 8 patternProperties that overlap": (
        lambda: schema({"type": "object", "patternProperties": {
            f"[{chr(97 + i)}-z]{{1,{9 + i}}}{i}?": {"type": "integer", "minimum": i} for i in range(8)
        }}),
        '{"zz": 9}',
    ),
    "schema: allOf of 6 required choices": (lambda: schema(required(6)), None),
    "schema: allOf of 11 required choices": (lambda: schema(required(11)), None),
    "schema: 100,000 levels": (lambda: schema("[" * 100_000), None),
    "regex: [ab]*a[ab]{60}": (lambda: Grammar.from_regex("[ab]*a[ab]{60}"), "a" * 61),
    "regex: 20,000 groups": (lambda: Grammar.from_regex("(" * 20_000 + "a" + ")" * 20_000), None),
    "regex: ((a{1,99}){1,99}){1,99}": (lambda: Grammar.from_regex("((a{1,99}){1,99}){1,99}"), "a" * 99),
}  # fmt: skip


def _sampled(wanted: dict[str, Any]) -> Grammar:
    grammar = schema(wanted)
    grammar.sample(seed=1)
    return grammar


def run(name: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """One case in this process."""
    make, text = CASES[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = _used(make(), text, vocabulary)
    except (GrammarError, TypeError, ValueError) as error:
        told = type(error).__name__
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "case": name,
        "outcome": told,
        "seconds": round(time.process_time() - began, 2),
        "MB": round(grown / 1024),
    }


def _used(grammar: Grammar, text: str | None, vocabulary: Vocabulary) -> str:
    """Asks for what every text needs; says what the text was found to be."""
    automaton = TokenAutomaton(grammar, vocabulary)
    row = np.zeros(-(-vocabulary.size // 32), np.int32)
    automaton.fill_mask(automaton.start, row)
    automaton.min_tokens(automaton.start)
    if text is None:
        return "fine"
    return "fine, accepted" if grammar.accepts(text) else "fine, not accepted"


def apart(name: str, tokenizer: str) -> dict[str, Any]:
    """One case in a process of its own."""
    command = [sys.executable, __file__, "--tokenizer", tokenizer, "--case", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return {"case": name, "outcome": f"NOT ENDED after {PATIENCE:.0f} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return {"case": name, "outcome": f"FAILED: {last[0][:80]}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs all cases, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokenizer", default="smollm2")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="cases that have it in their names"
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        _, vocabulary = load(options.tokenizer)
        TokenAutomaton(Grammar.from_regex("[a-z]+"), vocabulary)  # trie and kernels are there
        schema({"type": "object"}).accepts("{}")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        print(json.dumps(run(options.case, vocabulary)))
        return
    found = []
    for name in CASES:
        if options.only in name:
            found.append(apart(name, options.tokenizer))
            say(str(found[-1]))
    print(table(found))


if __name__ == "__main__":
    main()
