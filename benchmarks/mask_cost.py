"""Microseconds per token for masks on a real vocabulary, beside llguidance in the same run.

For a schema of twenty properties and documents that satisfy it, each token costs: fill the mask,
test the token's bit, advance.  Three situations:

* cold: a fresh automaton for every document, and a fresh vocabulary object once (the first run pays
  for what is shared between grammars, such as the walk of a free string over the vocabulary),
* new grammar: a fresh automaton, shared work already done (a server that sees a new schema),
* warm: the same automaton again (a server that sees the same schema).

Usage: ``python benchmarks/mask_cost.py [--documents 20] [--tokenizer llama3]``
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from constrain import TokenAutomaton, Vocabulary
from constrain.models import load_tokenizer
from grammars import Grammar

WORDS = [
    "alpha",
    "Bravo",
    "naïve",
    "delta",
    "北京",
    "echo",
    '"quoted"',
    "foxtrot",
    "golf-hotel",
    "india\\juliet",
    "kilo",
]


def schema() -> dict[str, Any]:
    """Twenty properties of the kinds that extraction schemas have."""
    text = {"type": "string"}
    properties: dict[str, Any] = {
        "id": {"type": "integer", "minimum": 1},
        "name": text,
        "email": {"type": "string", "minLength": 3, "maxLength": 80},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "active": {"type": "boolean"},
        "score": {"type": "number"},
        "status": {"enum": ["new", "open", "in progress", "closed"]},
        "created": {"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"},
        "tags": {"type": "array", "items": text, "maxItems": 8},
        "address": {
            "type": "object",
            "properties": {
                "street": text,
                "city": text,
                "zip": {"type": "string", "maxLength": 10},
            },
            "required": ["street", "city", "zip"],
            "additionalProperties": False,
        },
        "phone": {"type": "string", "pattern": "^\\+?[0-9 -]{5,20}$"},
        "company": {"type": ["string", "null"]},
        "title": {"type": "string", "maxLength": 40},
        "salary": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "USD", "GBP", "JPY"]},
        "notes": {"type": "string", "maxLength": 500},
        "parent": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
        "matrix": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "language": {"const": "en"},
        "meta": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def document(rng: random.Random) -> dict[str, Any]:
    """A document of that schema."""

    def words(n: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(n))

    return {
        "id": rng.randrange(1, 10**6),
        "name": words(2),
        "email": "someone@example.org",
        "age": rng.randrange(151),
        "active": rng.random() < 0.5,
        "score": round(rng.uniform(-5, 5), 3),
        "status": rng.choice(["new", "open", "in progress", "closed"]),
        "created": f"20{rng.randrange(10, 30)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}",
        "tags": [words(1) for _ in range(rng.randrange(5))],
        "address": {"street": words(3), "city": words(1), "zip": str(rng.randrange(10**5))},
        "phone": "+49 30 1234567",
        "company": rng.choice([None, "Acme"]),
        "title": words(2)[:40],
        "salary": rng.randrange(10**5),
        "currency": rng.choice(["EUR", "USD", "GBP", "JPY"]),
        "notes": words(rng.randrange(5, 30))[:500],
        "parent": rng.choice([None, 7]),
        "matrix": [[rng.randrange(100) for _ in range(3)] for _ in range(2)],
        "language": "en",
        "meta": {"k" + str(i): words(2) for i in range(rng.randrange(3))},
    }


Step = Callable[[int], bool]
"""Fills a mask, tests the token's bit, advances; whether the token was allowed."""


class Ours:
    """The automaton of the project itself."""

    name = "gramma"

    def __init__(self, tokenizer: Any) -> None:
        self.vocabulary = Vocabulary.from_huggingface(tokenizer)
        self.row = np.zeros((self.vocabulary.size + 31) // 32, np.int32)

    def compile(self, text: str) -> Any:
        grammar = Grammar.from_json_schema(text)
        return TokenAutomaton(grammar, self.vocabulary)

    def start(self, compiled: Any) -> Step:
        row, state = self.row, compiled.start

        def step(token: int) -> bool:
            nonlocal state
            compiled.fill_mask(state, row)
            allowed = bool(row[token >> 5] >> (token & 31) & 1)
            state = compiled.advance(state, token)
            return allowed

        return step


class LLGuidance:
    """llguidance through its Python bindings, with the slices it recommends for JSON."""

    name = "llguidance"

    def __init__(self, tokenizer: Any) -> None:
        import llguidance
        import llguidance.numpy as masks

        self.lib, self.masks = llguidance, masks
        text = tokenizer.backend_tokenizer.to_str()
        slices = llguidance.LLTokenizer.json_slices()
        self.tokenizer = llguidance.LLTokenizer(text, slices=slices)
        self.rows = masks.allocate_token_bitmask(1, self.tokenizer.vocab_size)

    def compile(self, text: str) -> Any:
        overrides = {"whitespace_flexible": True}
        return self.lib.LLMatcher.grammar_from_json_schema(text, overrides=overrides)

    def start(self, compiled: Any) -> Step:
        matcher = self.lib.LLMatcher(self.tokenizer, compiled)
        if matcher.is_error():
            raise RuntimeError(matcher.get_error())
        row = self.rows[0]

        def step(token: int) -> bool:
            self.masks.fill_next_token_bitmask(matcher, self.rows, 0)
            allowed = bool(row[token >> 5] >> (token & 31) & 1)
            return allowed and bool(matcher.consume_token(token))

        return step


def run(engine: Any, compiled: Any, documents: list[list[int]]) -> list[float]:
    """Seconds per token over all documents."""
    seconds: list[float] = []
    for ids in documents:
        step = engine.start(compiled() if callable(compiled) else compiled)
        for token in ids:
            began = time.perf_counter()
            allowed = step(token)
            seconds.append(time.perf_counter() - began)
            if not allowed:
                raise RuntimeError(f"{engine.name} refuses token {token} of a valid document")
    return seconds


def line(engine: str, situation: str, seconds: list[float]) -> str:
    """A row of the table."""
    us = np.array(seconds) * 1e6
    cells = [us.mean(), *np.percentile(us, [25, 50, 90, 99, 99.9]), us.max()]
    return f"| {engine} | {situation} | " + " | ".join(f"{c:,.1f}" for c in cells) + " |"


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokenizer", default="llama3")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.tokenizer)
    rng = random.Random(0)
    texts = [json.dumps(document(rng), ensure_ascii=False) for _ in range(options.documents)]
    documents = [tokenizer.encode(t, add_special_tokens=False) for t in texts]
    count = sum(map(len, documents))
    print(
        f"{options.tokenizer}: {len(documents)} documents, {count} tokens; microseconds per token"
    )
    print("\n| engine | situation | avg | p25 | p50 | p90 | p99 | p99.9 | max |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    text = json.dumps(schema())
    gc.disable()
    for kind in (Ours, LLGuidance):
        try:
            engine = kind(tokenizer)
        except ImportError:
            print(f"| {kind.name} | not installed | | | | | | | |")
            continue
        began = time.perf_counter()
        compiled = engine.compile(text)
        engine.start(compiled)
        first = time.perf_counter() - began
        print(line(engine.name, "first grammar", run(engine, compiled, documents[:1])))
        again = []
        for _ in range(5):
            began = time.perf_counter()
            engine.start(engine.compile(text))
            again.append(time.perf_counter() - began)
        fresh = run(engine, lambda e=engine: e.compile(text), documents)
        print(line(engine.name, "new grammar", fresh))
        print(line(engine.name, "warm", run(engine, compiled, documents)))
        print(
            f"| {engine.name} | compile: first {first * 1e3:.1f} ms, then {np.median(again) * 1e3:.1f} ms |"
        )


if __name__ == "__main__":
    main()
