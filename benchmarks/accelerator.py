"""What a grammar costs beside a model on an accelerator.

A random model of a common shape (its weights do not matter for time) writes JSON with sampled tokens,
with and without the processor, in batches; the same kind of text for all rows, or a schema of its own
for each.  Everything is run twice; the second run is measured, with new automata ("new") and with the
first run's ("known").

Usage: ``python benchmarks/accelerator.py [--device cuda] [--tokens 128] [--batches 1,8,64]``
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from schema_coverage import load
from transformers import LlamaConfig, LlamaForCausalLM

from constrain import GrammarLogitsProcessor, TokenAutomaton, Vocabulary, apply_bitmask_
from grammars import Grammar

EOS = 128_009
SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}


def made(shape: str, rows: int, device: str) -> LlamaForCausalLM:
    """A random Llama in bfloat16, on the device."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        eos_token_id=EOS,
        pad_token_id=0,
        num_attention_heads=32,
        num_key_value_heads=8,
        **SHAPES[shape],
    )
    with torch.device(device):
        return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def schema(i: int) -> dict[str, Any]:
    """Some long documents: records of texts, numbers, lists."""
    record = {
        "type": "object",
        "properties": {
            f"name{i}": {"type": "string", "maxLength": 40},
            "price": {"type": "number"},
            "tags": {"type": "array", "items": {"enum": ["a", "b", f"c{i}"]}, "minItems": 2},
            "at": {"type": "string", "format": "date-time"},
        },
        "required": [f"name{i}", "price", "tags", "at"],
    }
    return {"type": "array", "items": record, "minItems": 50}


def timed(model: Any, rows: int, tokens: int, processors: list[Any]) -> float:
    """Milliseconds a step of one ``generate``."""
    ids = torch.full((rows, 16), 1000, device=model.device)
    torch.manual_seed(1)
    _wait(model.device)
    began = time.perf_counter()
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        logits_processor=processors,
        max_new_tokens=tokens,
        do_sample=True,
        eos_token_id=model.generation_config.eos_token_id if processors else [],
    )
    _wait(model.device)
    return (time.perf_counter() - began) / tokens * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def automata(rows: int, distinct: bool, vocabulary: Vocabulary) -> list[TokenAutomaton]:
    """One automaton for each row, or the same for all."""
    if not distinct:
        return [TokenAutomaton(Grammar.from_json_schema(schema(0)), vocabulary)] * rows
    return [TokenAutomaton(Grammar.from_json_schema(schema(i)), vocabulary) for i in range(rows)]


def applied(device: str, rows: int, size: int) -> float:
    """Microseconds of one call of ``apply_bitmask_`` with a mask on the CPU."""
    pinned = device == "cuda"
    mask = torch.zeros(rows, -(-size // 32), dtype=torch.int32, pin_memory=pinned)
    logits = torch.zeros(rows, size, device=device)
    taken = []
    for _ in range(30):
        _wait(logits.device)
        began = time.perf_counter()
        apply_bitmask_(logits, mask)
        _wait(logits.device)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e6


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batches", default="1,8,64")
    parser.add_argument("--shape", choices=SHAPES, default="1B")
    options = parser.parse_args()
    _, vocabulary = load("llama3")
    model = made(options.shape, vocabulary.size, options.device)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(
        f"{options.shape}, bfloat16, {where}; milliseconds a step of {options.tokens}\n", flush=True
    )
    print("| rows | grammars | plain | new | known | processor new | known | apply, µs |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    timed(model, 1, 8, [])
    for rows in map(int, options.batches.split(",")):
        timed(model, rows, options.tokens, [])  # each length loads kernels of its own once
        plain = timed(model, rows, options.tokens, [])
        for distinct in (False, True) if rows > 1 else (False,):
            fresh = automata(rows, distinct, vocabulary)
            taken, own = [], []
            for _ in range(2):
                processor = GrammarLogitsProcessor(fresh, max_new_tokens=100_000)
                taken.append(timed(model, rows, options.tokens, [processor]))
                own.append(processor.mask_seconds / options.tokens * 1e3)
            kinds = "one for each row" if distinct else "one"
            print(
                f"| {rows} | {kinds} | {plain:.2f} | {taken[0]:.2f} | {taken[1]:.2f} | {own[0]:.3f} | "
                f"{own[1]:.3f} | {applied(options.device, rows, vocabulary.size):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
