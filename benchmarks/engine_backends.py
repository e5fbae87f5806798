"""Microseconds per token of vLLM's backends of structured outputs: gramma, xgrammar and guidance.

All three are vLLM's own classes, asked as its manager asks them: the mask of a request is filled into a
row of the table, then the token is accepted.  Documents are texts of the invoices' schema; the first of
them meets a new grammar, the others one that is known.  No model runs, and no engine.

Usage, in the environment that ``make test-engines`` makes:
``NUMBA_CACHE_DIR=.venv-engines/numba .venv-engines/bin/python benchmarks/engine_backends.py``
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from vllm.v1.structured_output.backend_guidance import GuidanceBackend
from vllm.v1.structured_output.backend_types import StructuredOutputOptions
from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

from constrain.engines.vllm_backend import GrammaBackend
from constrain.models.loading import load_tokenizer

WORDS = ["Mill", "Lane", "paper", "Harbour", "steel", "garden", "Nord", "tiles", "oak", "Fuchs"]
SCHEMA = Path(__file__).parent.parent / "examples" / "invoice.schema.json"


def config() -> Any:
    """What the backends read of vLLM's configuration."""
    return SimpleNamespace(
        structured_outputs_config=SimpleNamespace(
            disable_any_whitespace=False, disable_additional_properties=False
        ),
        model_config=SimpleNamespace(hf_config=SimpleNamespace(model_type="llama")),
        speculative_config=None,
    )


def invoice(draw: random.Random) -> dict[str, Any]:
    """A made invoice of the schema."""

    def name(words: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(words))

    items = [
        {
            "description": name(draw.randint(1, 4)),
            "quantity": draw.randint(1, 40),
            "unit_price": draw.randint(100, 9_900) / 100,
            "amount": draw.randint(1_000, 99_000) / 100,
        }
        for _ in range(draw.randint(1, 5))
    ]
    return {
        "invoice_number": f"{draw.choice(['AB', 'KX'])}-{draw.randint(10_000, 99_999)}",
        "date": f"202{draw.randint(0, 9)}-{draw.randint(10, 12)}-{draw.randint(10, 28)}",
        "vendor": name(2),
        "customer": name(3),
        "currency": draw.choice(["EUR", "GBP", "USD"]),
        "items": items,
        "total": draw.randint(1_000, 99_000) / 100,
        "paid": draw.random() < 0.5,
    }


def documents(count: int, tokenizer: Any) -> list[list[int]]:
    """Texts of the schema, as tokens, with the token that ends each."""
    texts = [json.dumps(invoice(random.Random(seed))) for seed in range(count)]
    return [
        [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        for text in texts
    ]


def measure(make: Callable[[], Any], texts: list[list[int]], ends: set[int]) -> dict[str, Any]:
    """Times of one backend: its start, grammars, masks and steps."""
    schema = SCHEMA.read_text("utf-8")
    began = time.perf_counter()
    backend = make()
    out: dict[str, Any] = {"start_ms": 1e3 * (time.perf_counter() - began), "compile_ms": []}
    table = backend.allocate_token_bitmask(1)
    for name in ("new", "known"):
        fills, accepts, refused = [], [], 0
        for tokens in texts[:1] if name == "new" else texts[1:]:
            began = time.perf_counter()
            grammar = backend.compile_grammar(StructuredOutputOptions.JSON, schema, ends)
            out["compile_ms"].append(1e3 * (time.perf_counter() - began))
            for token in tokens:
                began = time.perf_counter()
                grammar.fill_bitmask(table, 0)
                filled = time.perf_counter()
                taken = grammar.accept_tokens("r", [token])
                ended = time.perf_counter()
                if not taken:
                    refused += 1
                    break
                fills.append(1e6 * (filled - began))
                accepts.append(1e6 * (ended - filled))
        fills.sort()
        out[name] = {
            "tokens": len(fills),
            "fill_us": statistics.median(fills),
            "fill_mean_us": statistics.fmean(fills),
            "fill_p99_us": fills[int(0.99 * len(fills))],
            "accept_us": statistics.median(accepts),
            "refused": refused,
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokenizer", default="smollm2")
    arguments = parser.parse_args()
    tokenizer = cast(Any, load_tokenizer(arguments.tokenizer))
    size = len(tokenizer)
    texts = documents(arguments.documents, tokenizer)
    row = "{:9} {:6} {:>7} {:>8} {:>8} {:>8} {:>9} {:>10} {:>8}"
    head = ("backend", "masks", "tokens", "fill", "mean", "p99", "accept", "compile", "refused")
    print(row.format(*head), "  (µs; compile: ms)")
    for backend in (GrammaBackend, XgrammarBackend, GuidanceBackend):
        found = measure(
            lambda make=backend: make(config(), tokenizer=tokenizer, vocab_size=size),
            texts,
            {tokenizer.eos_token_id},
        )
        first, *others = found["compile_ms"]
        for name, compiling in (("new", first), ("known", statistics.median(others))):
            now = found[name]
            numbers = [now[k] for k in ("fill_us", "fill_mean_us", "fill_p99_us", "accept_us")]
            shown = [f"{value:.1f}" for value in [*numbers, compiling]]
            label = backend.__name__.removesuffix("Backend").lower()
            print(row.format(label, name, now["tokens"], *shown, now["refused"]))


if __name__ == "__main__":
    main()
