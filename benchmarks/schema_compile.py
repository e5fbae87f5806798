"""What compiling schemas costs: the largest of a collection, and shapes that are known to be hard.

Each schema is compiled in a process of its own, after one that loads everything: milliseconds for
``Grammar.from_json_schema``, for ``TokenAutomaton`` with its first mask over the vocabulary, and
peak memory beyond what the process began with.  Exploding schemas have to finish or to be stopped by
a limit with its name, within 2 seconds and 2 GiB.  A schema that takes 120 s is given up.

Usage: ``python benchmarks/schema_compile.py [--data PATH] [--largest 10] [--order schema]``

PATH: see ``schema_coverage.py``; without it only the shapes made here are compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from schema_coverage import load, read_examples
from schema_suite import gist, reason, run_all
from workers import memory

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, LimitExceeded

Schema: TypeAlias = dict[str, Any]

os.environ["GRAMMA_PROGRAMS"] = "off"  # compiling is measured, not reading what was compiled before
SECONDS = 120.0
EXPLODING_SECONDS = 2.0
EXPLODING_BYTES = 2 << 30


# --- shapes that have to compile -----------------------------------------------------------------


def object_of(properties: Schema, **more: Any) -> Schema:
    """An object with all its properties required and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def any_of_constants(count: int) -> Schema:
    """Objects told apart by a constant in their first property."""
    return {
        "anyOf": [
            object_of({"kind": {"const": f"kind-{i}"}, f"value{i}": {"type": "integer"}})
            for i in range(count)
        ]
    }


def any_of_types(count: int) -> Schema:
    """Objects that overlap: none requires anything."""
    return {
        "anyOf": [
            {"type": "object", "properties": {f"key{i}": {"type": "string", "maxLength": i + 1}}}
            for i in range(count)
        ]
    }


def long_enum(count: int) -> Schema:
    """Strings without much in common."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    return {
        "enum": sorted(
            {"".join(rng.choices(letters, k=rng.randrange(6, 30))) for _ in range(count)}
        )
    }


def nested_all_of(depth: int) -> Schema:
    """``allOf`` within ``allOf``, each with a property and a sibling."""
    schema: Schema = {"type": "object"}
    for i in range(depth):
        schema = {
            "allOf": [schema, {"required": [f"p{i}"]}],
            "properties": {f"p{i}": {"type": "integer"}},
        }
    return schema


def nested_objects(depth: int) -> Schema:
    """Objects within objects."""
    schema: Schema = {"type": "string"}
    for i in range(depth):
        schema = object_of({f"inner{i}": schema})
    return schema


def tool(number: int) -> Schema:
    """A call of a tool with a few arguments of several kinds."""
    rng = random.Random(number)
    kinds: list[Callable[[], Schema]] = [
        lambda: {"type": "string"},
        lambda: {"type": "string", "maxLength": rng.randrange(10, 500)},
        lambda: {"type": "integer", "minimum": 0, "maximum": rng.randrange(10, 10**6)},
        lambda: {"type": "number"},
        lambda: {"type": "boolean"},
        lambda: {"enum": [f"choice-{rng.randrange(1000)}" for _ in range(rng.randrange(2, 12))]},
        lambda: {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        lambda: {"type": ["string", "null"], "pattern": "^[a-z]+(-[a-z]+)*$"},
        lambda: {"type": "object", "additionalProperties": {"type": "string"}},
    ]
    arguments = {f"argument_{i}": rng.choice(kinds)() for i in range(rng.randrange(1, 9))}
    required = [name for name in arguments if rng.random() < 0.6]
    return object_of(
        {
            "name": {"const": f"tool_{number}"},
            "arguments": object_of(arguments) | {"required": required},
        }
    )


def tools(count: int) -> Schema:
    """A call of one of many tools."""
    return {"anyOf": [tool(i) for i in range(count)]}


def shapes() -> Iterator[tuple[str, Schema]]:
    """Schemas that have to compile."""
    yield "anyOf of 1,000 objects with a constant", any_of_constants(1_000)
    yield "anyOf of 1,000 numbers", {"anyOf": [{"const": i * i} for i in range(1_000)]}
    yield "oneOf of 1,000 objects with a constant", {"oneOf": any_of_constants(1_000)["anyOf"]}
    yield "enum of 10,000 strings", long_enum(10_000)
    yield "maxLength 1,000,000", {"type": "string", "maxLength": 1_000_000}
    yield "maxItems 1,000,000", {"type": "array", "maxItems": 1_000_000}
    yield "allOf nested 50 deep", nested_all_of(50)
    yield "objects nested 200 deep", nested_objects(200)
    yield "64 tools in anyOf", tools(64)
    yield "128 tools in anyOf", tools(128)
    yield "256 tools in anyOf", tools(256)
    yield (
        "500 properties, all optional",
        object_of({f"property{i}": {"type": "integer"} for i in range(500)}, required=[]),
    )


# --- shapes that would explode -------------------------------------------------------------------


def exploding() -> Iterator[tuple[str, Schema]]:
    """Schemas whose exact automata are huge, or seem so."""
    rng = random.Random(0)
    words = [f"^[a-z]*{rng.choice('abcdef')}[a-z]{{{rng.randrange(1, 9)}}}" for _ in range(400)]
    yield (
        "allOf of 20 anyOfs of 20 patterns",
        {
            "type": "string",
            "allOf": [
                {"anyOf": [{"pattern": words[20 * i + j]} for j in range(20)]} for i in range(20)
            ],
        },
    )
    yield (
        "allOf of 20 anyOfs of 20 objects",
        {
            "type": "object",
            "allOf": [
                {
                    "anyOf": [
                        {
                            "properties": {
                                f"p{(7 * i + 3 * j) % 31}": {"minimum": i, "maximum": 50 + j}
                            }
                        }
                        for j in range(20)
                    ]
                }
                for i in range(20)
            ],
        },
    )
    yield "oneOf of 60 overlapping objects", {"oneOf": any_of_types(60)["anyOf"]}
    yield (
        "multipleOf 1000003 and 999983",
        {
            "type": "integer",
            "allOf": [{"multipleOf": 1_000_003}, {"multipleOf": 999_983}],
        },
    )
    yield "multipleOf 1e-9, decimals", {"type": "number", "multipleOf": 1.000000007e-9}
    yield (
        "counted patterns that intersect",
        {
            "type": "string",
            "allOf": [
                {"pattern": f"^([ab]{{{n}}})*a[ab]{{{n}}}$"} for n in (7, 11, 13, 17, 19, 23)
            ],
        },
    )
    yield "[ab]*a[ab]{40}", {"type": "string", "pattern": "^[ab]*a[ab]{40}$"}
    yield (
        "uniqueItems of an enum of 40",
        {
            "type": "array",
            "items": {"enum": list(range(40))},
            "uniqueItems": True,
        },
    )
    yield (
        "contains, 6 times, 20 of each",
        {
            "type": "array",
            "allOf": [
                {"contains": {"multipleOf": n}, "minContains": 20, "maxContains": 40}
                for n in (2, 3, 5, 7, 11, 13)
            ],
        },
    )
    yield (
        "30 dependencies in a ring",
        {
            "type": "object",
            "properties": {f"p{i}": {"type": "integer"} for i in range(30)},
            "dependentRequired": {f"p{i}": [f"p{(i + 7) % 30}"] for i in range(30)},
        },
    )
    yield (
        "if/then/else, 24 of them",
        {
            "type": "object",
            "allOf": [
                {
                    "if": {"properties": {f"p{i}": {"const": 1}}, "required": [f"p{i}"]},
                    "then": {"required": [f"p{(i + 1) % 24}"]},
                    "else": {"properties": {f"p{(i + 5) % 24}": {"type": "string"}}},
                }
                for i in range(24)
            ],
        },
    )


# --- measuring -----------------------------------------------------------------------------------


@dataclass
class Cost:
    """What a schema cost, or why it was refused."""

    error: str = ""
    limit: str = ""
    grammar_ms: float = 0.0
    mask_ms: float = 0.0
    bytes: int = 0
    program_states: int = 0


def measure(schema: Any, order: str, vocabulary: Vocabulary) -> Cost:
    """Compiles a schema and fills the first mask."""
    cost = Cost()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    row = np.zeros((vocabulary.size + 31) // 32, np.int32)
    began = time.perf_counter()
    try:
        grammar = Grammar.from_json_schema(
            schema, property_order="any" if order == "any" else "schema"
        )
        cost.grammar_ms = (time.perf_counter() - began) * 1e3
        cost.program_states = grammar.program.states
        if grammar.is_empty:
            cost.error = "empty"
        else:
            began = time.perf_counter()
            automaton = TokenAutomaton(grammar, vocabulary)
            automaton.fill_mask(automaton.start, row)
            cost.mask_ms = (time.perf_counter() - began) * 1e3
    except Exception as error:
        taken = (time.perf_counter() - began) * 1e3
        cost.error = reason(error)
        if isinstance(error, LimitExceeded):
            cost.limit = error.limit
        if cost.grammar_ms:
            cost.mask_ms = taken
        else:
            cost.grammar_ms = taken
    cost.bytes = max(0, memory("VmHWM") - before)
    return cost


def rows(
    cases: list[tuple[str, Any]], order: str, vocabulary: Vocabulary, bounded: bool
) -> Iterator[str]:
    """Rows of a table, every schema in a fresh process, one after the other.

    With ``bounded``: whether it was compiled or stopped by a limit within the bounds.
    """
    for name, schema in cases:
        answer = run_all(
            lambda schema: measure(schema, order, vocabulary),
            [schema],
            jobs=1,
            seconds=SECONDS,
            gigabytes=8,
            label=name,
        )[0]
        size = len(json.dumps(schema))
        cost = answer.value or Cost(error=f"died: {answer.lost} after {answer.seconds:.0f} s")
        outcome = gist(cost.error) or "compiled"
        if bounded:
            seconds = (cost.grammar_ms + cost.mask_ms) / 1e3
            if seconds > EXPLODING_SECONDS or cost.bytes > EXPLODING_BYTES or answer.lost:
                outcome += " | **no**"
            else:
                outcome += " | " + ("yes" if cost.limit or not cost.error else "refused")
        yield (
            f"| {name} | {size / 1e3:,.1f} | {cost.grammar_ms:,.1f} | {cost.mask_ms:,.1f} "
            f"| {cost.bytes / 2**20:,.0f} | {cost.program_states:,} | {outcome} |"
        )


def main() -> None:
    """Prints two or three Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="schemas whose largest are compiled")
    parser.add_argument("--largest", type=int, default=10, help="how many of them")
    parser.add_argument("--order", choices=["schema", "any"], default="schema")
    parser.add_argument("--tokenizer", default="llama3")
    options = parser.parse_args()
    _, vocabulary = load(options.tokenizer)
    head = "| schema | kB | grammar, ms | automaton and mask, ms | MiB | states | outcome |"

    groups = [
        ("Shapes", list(shapes()), False),
        ("Exploding schemas", list(exploding()), True),
    ]
    if options.data:
        examples = read_examples(options.data, 0, 0)
        examples.sort(key=lambda example: -len(json.dumps(example.schema)))
        largest = [(e.id, e.schema) for e in examples[: options.largest]]
        groups.insert(0, ("The largest schemas", largest, False))
    print(f"{options.tokenizer}, order {options.order!r}, {os.cpu_count()} cores")
    for title, cases, bounded in groups:
        print(f"\n{title}\n")
        print(head + (" within 2 s and 2 GiB |" if bounded else ""))
        print("|---|" + "---:|" * 5 + "---|" + ("---|" if bounded else ""))
        for row in rows(cases, options.order, vocabulary, bounded):
            print(row, flush=True)


if __name__ == "__main__":
    main()
