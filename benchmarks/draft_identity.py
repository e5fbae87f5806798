"""Greedy texts with trained drafters beside those of plain decoding: they must be the same tokens.

Each drafter is alone, and drafts at every step.
Half of the prompts are chats in free text, half extraction within a grammar.  In float32 what is drafted
may change which of two equally likely tokens comes (sums of another order), and nothing else; a text that
differs is printed with the two tokens and the distance of their logits, so that a tie can be told from a
mistake.

Usage::

    python benchmarks/draft_identity.py --folder drafters --limit 200 --tokens 24
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from learned_drafts import SYSTEMS, asked_of, engines_of, prompt_of
from learned_prompts import training_prompts

from constrain import load_model
from constrain.huggingface.extraction import vocabulary_for
from constrain.models import DEFAULT_MODEL
from samplers import SpeculativeBackend
from samplers.speculative.common import common_length
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText, Target


def prompts(limit: int, model: Any, tokenizer: Any) -> list[tuple[list[int], Target]]:
    """Chats and extraction by turns, as long as there is extraction."""
    free = FreeText(tuple(vocabulary_for(tokenizer, model).eos_token_ids))
    bound = [(ids, t) for ids, t, _ in asked_of("extraction", limit // 2, model, tokenizer)]
    chats = training_prompts(limit - len(bound), seed=11)
    return bound + [(prompt_of(tokenizer, chat), free) for chat in chats]


def written(
    backend: SpeculativeBackend, ids: Sequence[int], target: Target, tokens: int
) -> list[int]:
    """A greedy text of so many tokens, or of as many as the grammar asks for."""
    automaton = target.automaton
    if automaton is not None:
        tokens = max(tokens, automaton.min_tokens_to_accept(automaton.start) + 1)
    (sample,) = backend.generate(ids, target, max_new_tokens=tokens, sampling=Sampling(0.0), seed=0)
    return list(sample.token_ids)


def difference(model: Any, ids: Sequence[int], plain: list[int], other: list[int]) -> str:
    """Where two texts part, and how far the logits of the two tokens are from each other."""
    at = common_length(plain, other)
    a, b = ([*text, -1][at] for text in (plain, other))
    with torch.no_grad():
        logits = model(torch.tensor([[*ids, *plain[:at]]]), use_cache=False).logits[0, -1]
    apart = f"{float(logits[a] - logits[b]):.2e}" if min(a, b) >= 0 else "one text is over"
    return f"token {at}: {a} and {b}, logits apart by {apart}"


def main() -> None:
    """Prints a line for each drafter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("drafters"), help="of trained drafters")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--limit", type=int, default=200, help="prompts")
    parser.add_argument("--tokens", type=int, default=24, help="of each text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    model, tokenizer = load_model(DEFAULT_MODEL, "float32")
    drafters = engines_of(options.folder, model, options.systems.split(","))
    backends = {  # every step drafts, whether or not that pays
        name: SpeculativeBackend(model, tokenizer, own, adaptive=False)
        for name, (target, own) in drafters.items()
        if target is model  # Medusa-2's texts are those of another model
        and not name.startswith("default")  # whose drafts would hide the drafter's own
    }
    asked = prompts(options.limit, model, tokenizer)
    same = dict.fromkeys(backends, 0)
    for number, (ids, target) in enumerate(asked, 1):
        texts = {name: written(b, ids, target, options.tokens) for name, b in backends.items()}
        for name, text in texts.items():
            same[name] += text == texts["plain"]
            if text != texts["plain"]:
                print(f"{name}, prompt {number}: {difference(model, ids, texts['plain'], text)}")
        if number % 10 == 0:
            print(f"{number} of {len(asked)}", file=sys.stderr, flush=True)
    for name, count in same.items():
        print(f"{name}: {count} of {len(asked)} texts as plain decoding writes them")


if __name__ == "__main__":
    main()
