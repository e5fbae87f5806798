"""Typical acceptance: what it gains in tokens per forward, and how far it moves the law of texts.

* ``--toy``: the law of all texts of a random model over five tokens, by enumeration of every decision, in
  total variation from the exact one.  Drafts are trees of the likeliest tokens, either the model's own (the
  best guesses there are) or those of another random model.
* ``--free``: free chats of ``benchmarks/learned_prompts.py`` with the default drafters, exact and typical,
  same seeds: tokens per forward, and nats a token of the model's law at the temperature, which tells how
  much likelier than its own draws the texts have become.

Usage: ``python benchmarks/typical_acceptance.py --toy --free [--rules exact,0.09] [--tokens 96]``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from enumeration import runs, total_variation
from toys import tiny

from constrain import load_model
from constrain.huggingface.automata import vocabulary_for
from samplers import Drafter, SpeculativeBackend, Typical
from samplers.drafters.base import Context
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText
from samplers.speculative.tree import ROOT

ROWS, EOS, LENGTH = 5, 1, 4
SEEDS: Final = range(2)


class Likely(Drafter):
    """Drafts trees of a model's two likeliest tokens, three deep; the same after the same text."""

    name = "likely"

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[tuple[int, ...], list[int]] = {}

    def propose(self, context: Context) -> None:
        """Adds two children to each node, level by level."""
        level = [ROOT]
        for _ in range(3):
            level = [child for node in level for child in self._children(context, node)]

    def _children(self, context: Context, node: int) -> list[int]:
        text = (*context.tokens, *context.tree.tokens_to(node))
        if text not in self._known:
            with torch.no_grad():
                logits = self._model(torch.tensor([text]), use_cache=False).logits[0, -1]
            self._known[text] = logits.topk(2).indices.tolist()
        made = [context.add(node, token, self.name, 0.5) for token in self._known[text]]
        return [child for child in made if child is not None]


def toy_law(
    seed: int, drafts: int, rule: Typical | None, temperature: float
) -> tuple[dict[tuple[int, ...], float], float]:
    """The law of texts of four tokens, and tokens per forward in expectation."""
    backend = SpeculativeBackend(
        tiny(seed, ROWS, EOS), None, [Likely(tiny(drafts, ROWS, EOS))],
        adaptive=False, acceptance=rule,
    )  # fmt: skip

    def run(choices: Any) -> tuple[tuple[int, ...], int]:
        (sample,) = backend.generate(
            [0, 2],
            FreeText((EOS,)),
            max_new_tokens=LENGTH,
            sampling=Sampling(temperature),
            choices=lambda _: choices,
        )
        return tuple(sample.token_ids), sample.stats.forwards

    law: defaultdict[tuple[int, ...], float] = defaultdict(float)
    tokens = forwards = 0.0
    for (text, count), probability in runs(run):
        law[text] += probability
        tokens += probability * len(text)
        forwards += probability * count
    return dict(law), tokens / forwards


def toy(rules: Sequence[Typical | None], temperature: float) -> None:
    """Prints a table of total variations, means of some random models."""
    print(f"\n{ROWS} tokens, texts of {LENGTH}, temperature {temperature:g}\n")
    print("| acceptance | drafts | total variation | tokens per forward |\n|---|---|---:|---:|")
    for own in (True, False):
        exact = [toy_law(s, s if own else s + 10, None, temperature) for s in SEEDS]
        for rule in rules:
            made = (
                exact
                if rule is None
                else [toy_law(s, s if own else s + 10, rule, temperature) for s in SEEDS]
            )
            far = sum(total_variation(a[0], b[0]) for a, b in zip(made, exact, strict=True)) / len(
                made
            )
            rate = sum(r for _, r in made) / len(made)
            print(
                f"| {told(rule)} | {'own' if own else 'another'} | {far:.3f} | {rate:.2f} |",
                flush=True,
            )


def told(rule: Typical | None) -> str:
    """A rule in words."""
    return "exact" if rule is None else f"typical, {rule.epsilon:g}, {rule.delta:.2g}"


def rule_of(text: str) -> Typical | None:
    """A rule of a word: ``exact``, or epsilon, whose root is delta."""
    return None if text == "exact" else Typical(float(text), math.sqrt(float(text)))


def free(rules: Sequence[Typical | None], count: int, tokens: int, temperature: float) -> None:
    """Prints a table of free chats."""
    from learned_drafts import prompt_of
    from learned_prompts import measured_prompts

    model, tokenizer = load_model(dtype="float32")
    target = FreeText(tuple(vocabulary_for(tokenizer, model).eos_token_ids))
    print(f"\n{count} free chats, {tokens} tokens at most, temperature {temperature:g}\n")
    print("| acceptance | tokens | tokens per forward | nats a token |\n|---|---:|---:|---:|")
    for rule in rules:
        backend = SpeculativeBackend(model, tokenizer, acceptance=rule)
        made = [
            backend.generate(
                prompt_of(tokenizer, chat),
                target,
                max_new_tokens=tokens,
                sampling=Sampling(temperature),
                seed=seed,
            )[0]
            for seed, chat in enumerate(measured_prompts()[:count])
        ]
        new = sum(s.stats.tokens for s in made)
        rate = new / sum(s.stats.forwards for s in made)
        nats = -sum(s.logprob for s in made) / new
        print(f"| {told(rule)} | {new} | {rate:.2f} | {nats:.2f} |", flush=True)


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--rules", default="exact,0.25,0.09,0.01", help="exact, or epsilons")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--temperature", type=float, default=0.7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rules = [rule_of(word) for word in options.rules.split(",")]
    if options.toy:
        toy(rules, options.temperature)
    if options.free:
        free(rules, options.prompts, options.tokens, options.temperature)


if __name__ == "__main__":
    main()
