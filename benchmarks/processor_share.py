"""How much of a decoding step does the processor take?

Greedy extraction with the embedded model on the example invoice: seconds of ``generate`` with and
without the processor, and the processor's own time, per token; the first call (fresh automaton) and
the second.

Usage: ``python benchmarks/processor_share.py [--tokens 128]``
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from constrain import GrammarLogitsProcessor, TokenAutomaton, Vocabulary, load_model
from constrain.huggingface.extraction import default_prompt
from grammars import Grammar

EXAMPLES = Path(__file__).parent.parent / "examples"


def timed(model: Any, ids: torch.Tensor, tokens: int, processors: list[Any]) -> tuple[float, int]:
    """Seconds and number of new tokens."""
    began = time.perf_counter()
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=processors,
            max_new_tokens=tokens,
            do_sample=False,
        )
    return time.perf_counter() - began, out.shape[1] - ids.shape[1]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=256)
    options = parser.parse_args()
    model, tokenizer = load_model()
    schema = (EXAMPLES / "invoice.schema.json").read_text("utf-8")
    text = (EXAMPLES / "invoice.txt").read_text("utf-8")
    ids = tokenizer.apply_chat_template(
        list(default_prompt(text, schema)),
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )["input_ids"]
    vocabulary = Vocabulary.from_huggingface(tokenizer, model=model)
    timed(model, ids, 8, [])  # warm up
    print("| run | new tokens | s | ms per token | processor, ms per token | share |")
    print("|---|---:|---:|---:|---:|---:|")
    taken, count = timed(model, ids, options.tokens, [])
    print(f"| without grammar | {count} | {taken:.1f} | {taken / count * 1e3:.1f} | | |")
    grammar = Grammar.from_json_schema(schema)
    automaton = TokenAutomaton(grammar, vocabulary)
    for label in ("first document", "second document"):
        for budget in (options.tokens, None):
            processor = GrammarLogitsProcessor(automaton, max_new_tokens=budget)
            processor._warned = budget is None  # the table says which run has no budget
            taken, count = timed(model, ids, options.tokens, [processor])
            own = processor.mask_seconds
            name = f"{label}, {'with' if budget else 'no'} budget"
            print(
                f"| {name} | {count} | {taken:.1f} | {taken / count * 1e3:.1f} | "
                f"{own / count * 1e3:.2f} | {own / taken:.1%} |"
            )


if __name__ == "__main__":
    main()
