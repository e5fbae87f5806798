"""What a budget of memory buys in rows, context and trees, and what it costs in speed (SpecMemo's question).

* ``model``: by :class:`samplers.speculative.memory.GenerationMemory`, for some budgets: texts side by side
  behind a prompt, with its keys and values once or for each; tokens of prompt for one text; nodes of a tree.
* ``speed``: eight answers to extraction tasks with the default drafters, within shares of the keys and
  values that they take unbounded.  Rows go first, then trees; texts are the same up to rounding.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/draft_memory.py [--what model,speed] [--limit 2] [--rows 8]
[--dtype float32]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final

import tasks
import torch
from reporting import say, table

from constrain import TokenAutomaton, Vocabulary, load_model
from grammars import Grammar
from samplers import GrammarConstrained, SpeculativeBackend
from samplers.speculative.memory import GenerationMemory, Load

BUDGETS: Final = (32, 64, 128, 256, 512, 1024)
"""In MiB."""
SHARES: Final = (1.0, 0.7, 0.5, 0.35, 0.2)
MIB: Final = 1 << 20


def bought(model: Any) -> Iterator[dict[str, Any]]:
    """The table of the model of memory."""
    memory = GenerationMemory.of(model)
    text = Load(prompt=512, new=256, nodes=16)
    for budget in BUDGETS:
        room = budget * MIB
        yield {
            "MiB": budget,
            "rows": memory.most("rows", room, text),
            "rows, prompt shared": memory.most(
                "rows", room, Load(prompt=512, new=256, nodes=16, shared=True)
            ),
            "prompt tokens, one text": memory.most("prompt", room, text),
            "nodes, one text": memory.most("nodes", room, text),
            "nodes, eight texts": memory.most(
                "nodes", room, Load(8, prompt=512, new=256, shared=True)
            ),
        }


def speeds(model: Any, tokenizer: Any, limit: int, rows: int) -> Iterator[dict[str, Any]]:
    """Tokens a second within shares of the memory."""
    vocabulary = Vocabulary.from_huggingface(tokenizer, model=model)
    chosen = tasks.load("extraction", limit, 0)
    automata = [TokenAutomaton(Grammar.from_json_schema(t.schema_text), vocabulary) for t in chosen]
    first: list[list[int]] = []
    for share in SHARES:
        tokens, forwards, seconds, held = 0, 0, 0.0, 0
        texts: list[list[int]] = []
        for task, automaton in zip(chosen, automata, strict=True):
            ids = task.prompt_ids(tokenizer)
            budget = task.budget or 128
            whole = GenerationMemory.of(model).cache(Load(rows, len(ids), budget, 16))
            backend = SpeculativeBackend(
                model, tokenizer, max_rows=rows, max_kv_bytes=int(share * whole)
            )
            began = time.process_time()
            samples = GrammarConstrained(backend, automaton).sample(
                ids, rows, max_new_tokens=budget, temperature=0.7, seed=1
            )
            seconds += time.process_time() - began
            tokens += sum(len(s.token_ids) for s in samples)
            forwards += backend.forwards
            assert backend.last_scorer is not None
            held = max(held, backend.last_scorer.cache.nbytes)
            texts += [list(s.token_ids) for s in samples]
            say(f"{share:.0%} {task.name}: {tokens} tokens, {seconds:.0f} s")
        first = first or texts
        yield {
            "memory": f"{share:.0%}",
            "MiB held": held / MIB,
            "tokens a forward": tokens / forwards,
            "tokens a second": tokens / seconds,
            "same texts": f"{sum(a == b for a, b in zip(first, texts, strict=True))} of {len(texts)}",
        }


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", default="model,speed")
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load_model(dtype=options.dtype)
    parts = options.what.split(",")
    if "model" in parts:
        print(table(list(bought(model))), end="\n\n")
    if "speed" in parts:
        print(table(list(speeds(model, tokenizer, options.limit, options.rows))))


if __name__ == "__main__":
    main()
