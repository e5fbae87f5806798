"""What writing many tokens at once costs, and what a grammar gives back, in the manner of ParallelBench.

Tasks of ``examples/parallel_tasks.py``: operations on waiting lines, and sentences of given nouns.  Each
policy of unmasking writes the same held-out responses; the figures are right responses and tokens of a
response for each forward, apart for kinds with one right answer and for kinds with several (whose tokens
depend on each other).

Three ways: *free*; *form*, a grammar of the length and the names of the prompt; *distinct*, a grammar that
also says that no name comes twice, which is most of what the tokens of these tasks owe each other.

Two models.  ``--model exact`` is no network: it knows all right answers to a prompt and says of each open
place what they have there, given what is written (exact marginals).  It makes no mistake of its own, so
that what is wrong is the fault of the policy.  Otherwise the folder of a model of
``examples/train_mask_diffusion.py``.

Published (ParallelBench, Kang et al. 2025): models that are right one token at a time lose accuracy as more
tokens are written at once, most where tokens depend on each other.

Usage: ``python benchmarks/parallel.py --model exact [--task lines,sentences] [--count 100] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from diffusion_data import Example, Task
from parallel_tasks import DEPENDENT, TASKS, answers, distinct_grammar
from reporting import say, shown, table
from train_mask_diffusion import trained_tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer

from grammars import Grammar
from samplers import DiffusionInfiller, MaskedModel, Masks
from samplers.diffusion import Dream, Frame, FreeDave, LocalLeap, Schedule, Static, Threshold
from samplers.diffusion.canvas import Part

WRONG = 12.0
"""Nats that an answer loses for each written token that it does not have, in the exact model."""
MOST_ANSWERS = 20_000
WAYS: dict[str, Callable[[Task, Example], Grammar | None]] = {
    "free": lambda task, example: None,
    "form": lambda task, example: task.grammar(example),
    "distinct": lambda task, example: distinct_grammar(example),
}


class ExactModel(torch.nn.Module):
    """A denoiser that knows all right answers: log of the share of them that has a token at a place.

    Answers are weighed by exp(-``WRONG`` m) for m written tokens that they do not have, so that it has
    something to say of canvases that have gone wrong, too.

    Attributes:
        answers: int64[n, T], token ids, ends of text behind each.
    """

    def __init__(self, size: int, mask: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=size, model_type="exact")
        self.answers = np.zeros((0, 0), np.int64)
        self._size, self._mask = size, mask

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """int64[B, L] to float32[B, L, V]; the canvas is the last T places."""
        length = self.answers.shape[1]
        out = torch.full((*input_ids.shape, self._size), -30.0)
        for row, ids in enumerate(input_ids[:, -length:].numpy()):
            written = ids != self._mask
            missed = (self.answers[:, written] != ids[written]).sum(1)
            weights = np.exp(-WRONG * (missed - missed.min()))
            law = np.zeros((length, self._size))
            for place in range(length):
                np.add.at(law[place], self.answers[:, place], weights)
            law /= weights.sum()
            out[row, -length:] = torch.from_numpy(np.log(np.maximum(law, 1e-13))).float()
        return out


@dataclass(frozen=True)
class Speaker:
    """A model and how it is asked.

    Attributes:
        model: of either kind.
        tell: called before a text is written.
    """

    model: MaskedModel
    tell: Callable[[Example, int], None]

    def frame(self, example: Example) -> Frame:
        """The prompt and the separator, as in training."""
        tokenizer = self.model.tokenizer
        ids = tokenizer(example.prompt, add_special_tokens=False)["input_ids"]
        return Frame((*ids, tokenizer.sep_token_id), ())


def exact_speaker(task: Task) -> Speaker:
    """The model that knows all answers, with a vocabulary as training would make it."""
    texts = [t for e in islice(task.examples(0), 5000) for t in (e.prompt, e.response)]
    tokenizer = trained_tokenizer(texts, task.vocabulary, task.words)
    network = ExactModel(len(tokenizer), tokenizer.mask_token_id)

    def tell(example: Example, length: int) -> None:
        rows = tokenizer(answers(example)[:MOST_ANSWERS]).input_ids
        end = tokenizer.eos_token_id
        network.answers = np.array([(row + [end] * length)[:length] for row in rows])

    return Speaker(MaskedModel(network, tokenizer), tell)


def trained_speaker(folder: Path) -> Speaker:
    """A model of ``examples/train_mask_diffusion.py``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForMaskedLM.from_pretrained(folder).eval()
    return Speaker(MaskedModel(network, tokenizer), lambda example, length: None)


# -- policies ----------------------------------------------------------------------------------------


def policies() -> dict[str, Callable[[int], Schedule]]:
    """By name: from the number of tokens of a response to a schedule."""

    def share(count: int) -> Callable[[int], Schedule]:
        return lambda tokens: Static(math.ceil(tokens / count))

    found: dict[str, Callable[[int], Schedule]] = {
        "1 token a step": share(1),
        "2 tokens a step": share(2),
        "3 tokens a step": share(3),
        "4 tokens a step": share(4),
        "all at once": lambda tokens: Static(1),
        "Dream, 4 steps": lambda tokens: Dream(4),
    }
    for threshold in (0.9, 0.6, 0.3):
        found[f"threshold {threshold}"] = lambda tokens, t=threshold: Threshold(t)  # type: ignore[misc]
    found["LocalLeap"] = lambda tokens: LocalLeap()
    found["LocalLeap 0.9/0.3"] = lambda tokens: LocalLeap(near=0.3)
    found["LocalLeap 0.9/0.3, decay"] = lambda tokens: LocalLeap(near=0.3, decay=1.0)
    found["FreeDave, 4 drafts"] = lambda tokens: FreeDave(4)
    found["FreeDave, 4 drafts of 2 tokens"] = lambda tokens: FreeDave(4, share(2)(tokens))
    return found


# -- measuring ---------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Of one policy and kind."""

    texts: int = 0
    right: int = 0
    valid: int = 0
    tokens: int = 0
    forwards: int = 0


def fill(
    speaker: Speaker, example: Example, room: int, schedule: Schedule, grammar: Grammar | None
) -> tuple[str, int, int]:
    """The text, its tokens and the forwards it took; as many places are open as the response has tokens."""
    tokenizer = speaker.model.tokenizer
    size = len(tokenizer(example.response, add_special_tokens=False)["input_ids"])
    canvas: list[Part] = [Masks(size), *[tokenizer.eos_token_id] * (room - size)]
    speaker.tell(example, room)
    infiller = DiffusionInfiller(speaker.model, None, grammar, schedule=schedule)
    (sample,) = infiller.fill(speaker.frame(example), canvas, eos_padding=True)
    return sample.text, size, sample.stats.forwards


def measured(
    name: str, speaker: Speaker, count: int, ways: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One record for each way, policy and kind of kinds."""
    task = TASKS[name]
    found = list(islice(task.examples(seed=1, held_out=True), count))
    room = task.canvases[-1]
    for way in ways:
        grammars = [WAYS[way](task, example) for example in found]
        for policy, make in policies().items():
            tallies: dict[str, Tally] = {}
            for example, grammar in zip(found, grammars, strict=True):
                size = len(speaker.model.tokenizer(example.response)["input_ids"])
                text, tokens, forwards = fill(speaker, example, room, make(size), grammar)
                score = task.score(example, text)
                group = "several answers" if example.kind in DEPENDENT else "one answer"
                for key in (group, example.kind):
                    tally = tallies.setdefault(key, Tally())
                    tally.texts += 1
                    tally.right += score.correct
                    tally.valid += score.valid
                    tally.tokens += tokens
                    tally.forwards += forwards
            for key in sorted(tallies):
                yield recorded(name, way, policy, key, tallies[key])


def recorded(name: str, way: str, policy: str, kind: str, tally: Tally) -> dict[str, Any]:
    """One line of a table."""
    record = {
        "task": name,
        "way": way,
        "policy": policy,
        "kind": kind,
        "texts": tally.texts,
        "right %": 100 * tally.right / tally.texts,
        "valid %": 100 * tally.valid / tally.texts,
        "tokens a forward": tally.tokens / tally.forwards,
    }
    say(", ".join(f"{key} {shown(value)}" for key, value in record.items()))
    return record


def main() -> None:
    """Measures, keeps what there is so far, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--model", default="exact", help="exact, or a folder with a model for each task"
    )
    parser.add_argument("--task", default="lines,sentences", help="with commas")
    parser.add_argument("--way", default=",".join(WAYS), help="with commas")
    parser.add_argument("--count", type=int, default=100, help="texts of each task")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="records, written after each of them")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    records: list[dict[str, Any]] = []
    for name in given.task.split(","):
        exact = given.model == "exact"
        speaker = exact_speaker(TASKS[name]) if exact else trained_speaker(Path(given.model) / name)
        for record in measured(name, speaker, given.count, given.way.split(",")):
            records.append(record)
            if given.json:
                given.json.write_text(json.dumps(records, indent=1))
    print(table([r for r in records if r["kind"] in ("one answer", "several answers")]))


if __name__ == "__main__":
    main()
