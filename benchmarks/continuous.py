"""Continuous batching of transformers: a grammar for each request, beside free text and ``generate``.

The requests are extraction tasks of ``tasks.py``, each with the schema of its kind; half of them join
once a quarter of the results is there.  Greedy, on the CPU.  Engines:

* ``free``: continuous batching without grammars; as many new tokens for each request as with one;
* ``grammars``: continuous batching, each request with its own automaton;
* ``one by one``: ``generate`` with ``GrammarLogitsProcessor``, request after request.

Reports tokens a second, whether all texts are complete and of their grammars, and how many are the very
texts of ``one by one`` (in float32: shapes of batches round differently).  Automata are made before the
clock starts.

Usage: ``python benchmarks/continuous.py [--requests 16] [--tokens 96] [--dtype float32] [--threads 1]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from reporting import say, table
from tasks import load
from transformers import ContinuousBatchingConfig, GenerationConfig

from constrain import (
    ContinuousBatch,
    GrammarLogitsProcessor,
    TokenAutomaton,
    continuous_batching,
    load_model,
)
from constrain.huggingface.extraction import vocabulary_for
from constrain.huggingface.prompts import prompt_ids
from grammars import Grammar

_PAGE = 64


@dataclass(frozen=True)
class Request:
    """A prompt, the automaton of its answer, and how many tokens that may have."""

    prompt: list[int]
    automaton: TokenAutomaton
    budget: int


def requests(model: Any, tokenizer: Any, count: int, tokens: int) -> list[Request]:
    """Of tasks of all kinds in turn."""
    vocabulary = vocabulary_for(tokenizer, model)
    made = []
    for task in load("extraction", count):
        automaton = TokenAutomaton(Grammar.from_json_schema(task.schema), vocabulary)
        fewest = automaton.min_tokens_to_accept(automaton.start) + 1
        made.append(
            Request(prompt_ids(tokenizer, task.messages), automaton, max(tokens, 2 * fewest))
        )
    return made


class Runner:
    """A model that answers requests."""

    def __init__(self, model: Any, end: int) -> None:
        self._model = model
        self._config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)

    def one_by_one(self, asked: Sequence[Request]) -> list[list[int]]:
        """By ``generate``."""
        out = []
        for request in asked:
            ids = torch.tensor([request.prompt])
            found = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=self._config,
                max_new_tokens=request.budget,
                logits_processor=[
                    GrammarLogitsProcessor(request.automaton, max_new_tokens=request.budget)
                ],
            )
            out.append(found[0, ids.shape[1] :].tolist())
        return out

    def together(
        self, asked: Sequence[Request], lengths: Sequence[int] | None = None
    ) -> list[list[int]]:
        """By continuous batching: with grammars, or without and so many tokens each."""
        with self._batch(asked) as batch:
            half = (len(asked) + 1) // 2
            names = [self._add(batch, asked, i, lengths) for i in range(half)]
            found: dict[str, list[int]] = {}
            while len(found) < len(asked):
                if len(names) == half and 4 * len(found) >= half:
                    names += [self._add(batch, asked, i, lengths) for i in range(half, len(asked))]
                result = batch.result()
                if result is None or result.error:
                    raise RuntimeError(f"a request failed: {result and result.error}")
                found[result.request_id] = result.generated_tokens
        return [found[name] for name in names]

    @contextmanager
    def _batch(self, asked: Sequence[Request]) -> Iterator[ContinuousBatch]:
        room = sum(-(-(len(r.prompt) + r.budget) // _PAGE) + 1 for r in asked)
        config = ContinuousBatchingConfig(page_size=_PAGE, num_blocks=room, max_batch_tokens=1024)
        # without grammars nothing but the number of tokens ends a text
        with continuous_batching(
            self._model, generation_config=self._config, continuous_batching_config=config
        ) as batch:
            yield batch

    @staticmethod
    def _add(
        batch: ContinuousBatch, asked: Sequence[Request], i: int, lengths: Sequence[int] | None
    ) -> str:
        request = asked[i]
        if lengths is None:
            return batch.add(request.prompt, request.automaton, max_new_tokens=request.budget)
        return batch.add(request.prompt, max_new_tokens=lengths[i], eos_token_id=-1)


def main() -> None:
    """Runs the engines and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model, tokenizer = load_model(dtype=given.dtype)
    asked = requests(model, tokenizer, given.requests, given.tokens)
    runner = Runner(model, tokenizer.eos_token_id)
    runner.together(asked[:2])  # what is made on first use is not counted
    rows = []

    def timed(name: str, answer: Callable[[], list[list[int]]]) -> list[list[int]]:
        began, used = time.perf_counter(), time.process_time()
        texts = answer()
        seconds, used = time.perf_counter() - began, time.process_time() - used
        tokens = sum(map(len, texts))
        rows.append(
            {
                "engine": name,
                "tokens": tokens,
                "seconds": round(seconds, 1),
                "CPU s": round(used, 1),
            }
            | {"tokens a CPU s": round(tokens / used, 1)}
        )
        say(f"{name}: {tokens} tokens, {seconds:.1f} s")
        return texts

    together = timed("grammars", lambda: runner.together(asked))
    timed("free", lambda: runner.together(asked, [len(text) for text in together]))
    alone = timed("one by one", lambda: runner.one_by_one(asked))
    held = sum(
        text[-1] in request.automaton.vocabulary.eos_token_ids
        and request.automaton.grammar.accepts(tokenizer.decode(text[:-1]))
        for request, text in zip(asked, together, strict=True)
    )
    same = sum(a == b for a, b in zip(together, alone, strict=True))
    print(table(rows))
    print(f"complete and of their grammars: {held} of {len(asked)}; as one by one: {same}")


if __name__ == "__main__":
    main()
