"""What a draft model is worth, trees and kinds of drafts beside each other, on prompts not trained on.

Two sets: ``extraction`` of ``benchmarks/tasks.py``, and ``free``, questions of a chat, which share no
template and no topic with those of ``examples/align_draft.py``.  Every step drafts, whether
or not that pays.

* *first*: of the tokens drafted first, those that were accepted; *accepted*: of all that were drafted.
  A tree of three a level has at most a third of its nodes accepted.
* *ms a token*: processor time of this process, prefill and drafts included, so that other programs on
  the machine do not count; one thread.

Usage::

    python benchmarks/aligned_draft.py --draft draft --limit 4 --tokens 64
    python benchmarks/aligned_draft.py --first-layers 10 --engine chain     # examples/draft_from_layers.py
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import tasks
from draft_from_layers import first_layers

from constrain import load_model
from constrain.huggingface.automata import automaton_for, vocabulary_for
from grammars import Grammar
from samplers import DraftModel, OnlineDistilled, SpeculativeBackend
from samplers.drafters.base import Drafter, Observation
from samplers.drafters.learned.short_output import load_draft
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target
from samplers.speculative.tree import ROOT

ENGINES: Final[dict[str, Callable[[Any], list[Drafter]]]] = {
    "no drafts": lambda _: [],
    "chain": lambda draft: [DraftModel(draft, tree="chain", depth=3)],
    "rsd-c": lambda draft: [DraftModel(draft, tree="rsd-c", branching=(2, 1, 1))],
    "rsd-s": lambda draft: [DraftModel(draft, tree="rsd-s", width=3, depth=3)],
    "online": lambda draft: [
        OnlineDistilled(
            copy.deepcopy(draft), tree="chain", depth=3, every_steps=16, learning_rate=2e-5
        )
    ],
}
QUESTIONS: Final = [
    "I have two days in a city by the sea. What should I do?",
    "Please write a short letter that thanks my neighbour for feeding the cat.",
    "What happens in the body when we sleep?",
    "List three ways to save water at home and explain each.",
    "Write the opening of a detective novel set on a ferry.",
    "How do I choose a good melon at the market?",
    "Explain how a refrigerator keeps food cold.",
    "Give me a plan for learning to play the guitar in one month.",
]


@dataclass
class Figures:
    """Sums over the answers of one engine to one set."""

    tokens: int = 0
    forwards: int = 0
    drafted: int = 0
    accepted: int = 0
    steps: int = 0
    first: int = 0
    seconds: float = 0.0

    def see(self, seen: Observation) -> None:
        """One step; counts whether the first drafted token became text."""
        children = seen.tree.children(ROOT)
        if children:
            self.steps += 1
            self.first += bool(seen.path) and seen.path[0] == children[0]

    def row(self) -> str:
        """Cells of a table."""
        first = f"{self.first / self.steps:.0%} of {self.steps}" if self.steps else ""
        share = f"{self.accepted / self.drafted:.0%} of {self.drafted}" if self.drafted else ""
        return (
            f"{self.tokens} | {first} | {share} | {self.tokens / self.forwards:.2f} "
            f"| {1e3 * self.seconds / self.tokens:.0f}"
        )


def prompts(name: str, model: Any, tokenizer: Any, limit: int) -> Iterator[tuple[Any, Target]]:
    """Prompts of a set with what is drawn from."""
    if name == "extraction":
        for task in tasks.load("extraction", limit, 0):
            automaton = automaton_for(Grammar.from_json_schema(task.schema_text), tokenizer, model)
            yield task.prompt_ids(tokenizer), Constrained(automaton, budget=False)
        return
    free = FreeText(tuple(vocabulary_for(tokenizer, model).eos_token_ids))
    for question in QUESTIONS[:limit]:
        yield [{"role": "user", "content": question}], free


def measured(
    backend: SpeculativeBackend,
    asked: Sequence[tuple[Any, Target]],
    tokens: int,
    temperature: float,
) -> Figures:
    """One engine's answers to all prompts of a set."""
    found = Figures()
    for number, (prompt, target) in enumerate(asked):
        began = time.process_time()
        (sample,) = backend.generate(
            prompt,
            target,
            max_new_tokens=tokens,
            sampling=Sampling(temperature),
            seed=number,
            observers=[found.see],
        )
        found.seconds += time.process_time() - began
        found.tokens += sample.stats.tokens
        found.forwards += sample.stats.forwards
        found.drafted += sample.stats.drafted
        found.accepted += sample.stats.accepted
    return found


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draft", type=Path, help="a folder that examples/align_draft.py wrote")
    parser.add_argument("--first-layers", type=int, help="instead: so many first layers, untrained")
    parser.add_argument("--set", default="extraction,free")
    parser.add_argument("--engine", default=",".join(ENGINES))
    parser.add_argument("--limit", type=int, default=4, help="prompts of each set")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer, at most")
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args()
    if (options.draft is None) == (options.first_layers is None):
        parser.error("give --draft or --first-layers")
    torch.set_num_threads(1)
    model, tokenizer = load_model(dtype="float32")
    draft = (
        first_layers(model, options.first_layers)
        if options.draft is None
        else load_draft(options.draft)
    )
    print("| set | drafts | tokens | first | accepted | tokens per forward | ms a token |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in options.set.split(","):
        asked = list(prompts(name, model, tokenizer, options.limit))
        for engine in options.engine.split(","):
            backend = SpeculativeBackend(model, tokenizer, ENGINES[engine](draft), adaptive=False)
            found = measured(backend, asked, options.tokens, options.temperature)
            print(f"| {name} | {engine} | {found.row()} |", flush=True)


if __name__ == "__main__":
    main()
