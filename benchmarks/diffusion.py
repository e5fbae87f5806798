"""Infilling with masked diffusion models: validity, quality, and what grammars and schedules cost.

The models are those of ``examples/train_mask_diffusion.py``, one folder for each task of
``examples/diffusion_data.py``: ``json`` (records under schemas), ``lists`` (list operations in the
manner of ParallelBench), ``smiles`` (molecules), ``code`` (functions with 1, 2 or 3 regions cut out).

``--what validity``: each task without and with its grammar: texts that parse, that are valid (schema,
names, rings), that say what was asked; forwards; time; *grammar*, the time spent on it beside all other, at
median; *wall*, how much longer a text took than the same canvas without a grammar just before, at median
(fewer or more forwards count).  There is no recovery step to report on: with a grammar a text is whole
when its last mask is filled.

``--what schedules``: the same for every schedule, with the grammar.  ``--what identity``: FreeDave
against one token a forward and against steps of several tokens, token by token.  ``--what padding``: what
is saved on canvases much longer than the answers when the end of the text is foreseen; seconds are of the
processor.  ``--what rxn``: the masked model of ``rxnmapper``, which
writes nonsense from masks alone, under a grammar of SMILES.

Published, for models of 7 to 8 billion parameters (Mündler et al. 2025): syntactic validity with
constraint and recovery: JSON 100, SMILES 99.4, C++ in 1 / 2 / 3 regions 98.7-100 / 93-99 / 83-96 %;
overhead +23 %, 4.2 ms a token at median; EPIC +0.2 %.

Usage: ``python benchmarks/diffusion.py --models DIR --what validity [--task json,lists] [--count 1000]``
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import diffusion_data
from diffusion_data import Example, Score
from parallel_tasks import TASKS
from reporting import say, shown, table
from transformers import AlbertForMaskedLM, AutoModelForMaskedLM, AutoTokenizer

from constrain import TokenAutomaton, Vocabulary
from constrain.models import fetch_data
from grammars import Grammar, library
from samplers import DiffusionInfiller, MaskedModel, Masks, Sample
from samplers.diffusion import (
    Dream,
    Frame,
    FreeDave,
    Learn2PD,
    LocalLeap,
    Schedule,
    Static,
    Threshold,
)
from samplers.diffusion.canvas import Part

REGIONS = (1, 2, 3)
BLOCK = 32
FILTER_TEXTS = 60
"""Canvases from which the learned schedule learns."""


@dataclass(frozen=True)
class Case:
    """One canvas.

    Attributes:
        name: of the task, with the number of regions.
        example: what is wanted.
        prompt, canvas, padded: what is filled.
    """

    name: str
    example: Example
    prompt: str | Frame
    canvas: Sequence[Part]
    padded: bool

    @property
    def task(self) -> diffusion_data.Task:
        """The task it is of."""
        return TASKS[self.name.split()[0]]

    def score(self, text: str) -> Score:
        """What a text is worth."""
        return self.task.score(self.example, text)


def cases(name: str, model: MaskedModel, *, held_out: bool = True) -> Iterator[Case]:
    """Endless canvases of a task; ``code 2`` has two regions."""
    kind, _, regions = name.partition(" ")
    task = TASKS[kind]
    rng = random.Random(name)
    for example in task.examples(seed=1, held_out=held_out):
        if regions:
            canvas = diffusion_data.regions(example, model.tokenizer, int(regions), rng)
            if canvas is not None:
                yield Case(name, example, frame_of(model, example.prompt), canvas, False)
        else:
            canvas = [Masks(task.canvases[-1])]
            yield Case(name, example, frame_of(model, example.prompt), canvas, True)


def frame_of(model: MaskedModel, prompt: str) -> Frame:
    """The prompt and the separator, as in training."""
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return Frame((*ids, model.tokenizer.sep_token_id), ())


# -- runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fill:
    """One text.

    Attributes:
        sample: as it came.
        score: of its text.
        seconds: it took, without compiling the grammar.
        accepted: whether the grammar accepts it.
    """

    sample: Sample
    score: Score
    seconds: float
    accepted: bool


@lru_cache(maxsize=256)
def automaton_of(grammar: Grammar, vocabulary: Vocabulary) -> TokenAutomaton:
    """One automaton for all texts of a grammar."""
    return TokenAutomaton(grammar, vocabulary)


class Runner:
    """Fills canvases of one task with one model."""

    def __init__(self, model: MaskedModel, block: int | None, temperature: float) -> None:
        self.model = model
        self.block = block
        self.temperature = temperature
        self._infillers: dict[tuple[Any, ...], DiffusionInfiller] = {}

    def infiller(self, grammar: Grammar | None, schedule: Schedule, **options: Any) -> Any:
        """An infiller, kept for the next text of the same grammar."""
        key = (grammar, id(schedule), tuple(options.items()))
        if key not in self._infillers:
            if len(self._infillers) > 256:
                self._infillers.clear()
            rules = None if grammar is None else automaton_of(grammar, self.model.vocabulary)
            self._infillers[key] = DiffusionInfiller(
                self.model, None, rules, schedule=schedule, block_length=self.block, **options
            )
        return self._infillers[key]

    def fill(self, case: Case, schedule: Schedule, constrained: bool, **options: Any) -> Fill:
        """One text, timed."""
        grammar = case.task.grammar(case.example)
        infiller = self.infiller(grammar if constrained else None, schedule, **options)
        began = time.perf_counter()
        (sample,) = infiller.fill(case.prompt, case.canvas, seed=0, eos_padding=case.padded)
        seconds = time.perf_counter() - began
        return Fill(sample, case.score(sample.text), seconds, grammar.accepts(sample.text))


def summarise(name: str, how: str, fills: Sequence[Fill]) -> dict[str, Any]:
    """One line of a table."""
    seconds = sorted(f.seconds for f in fills)
    shares = [
        f.sample.stats.mask_seconds / (f.seconds - f.sample.stats.mask_seconds) for f in fills
    ]
    tokens = [1e3 * f.sample.stats.mask_seconds / max(f.sample.stats.tokens, 1) for f in fills]
    record = {
        "task": name,
        "how": how,
        "texts": len(fills),
        "parses %": _percent(f.score.parses for f in fills),
        "valid %": _percent(f.score.valid for f in fills),
        "in grammar %": _percent(f.accepted for f in fills),
        "right %": _percent(f.score.correct for f in fills),
        "forwards": statistics.mean(f.sample.stats.forwards for f in fills),
        "refused": statistics.mean(f.sample.stats.rejected for f in fills),
        "ms": 1e3 * statistics.median(seconds),
        "p95 ms": 1e3 * seconds[int(0.95 * (len(seconds) - 1))],
        "grammar + %": 100 * statistics.median(shares),
        "grammar ms a token": statistics.median(tokens),
    }
    say(", ".join(f"{key} {shown(value)}" for key, value in record.items()))
    return record


def _percent(values: Iterator[bool]) -> float:
    found = list(values)
    return 100 * sum(found) / len(found)


# -- what is measured ----------------------------------------------------------------------------------


def validity(name: str, runner: Runner, count: int) -> Iterator[dict[str, Any]]:
    """Without and with the grammar, side by side."""
    schedule = Threshold()
    plain: list[Fill] = []
    held: list[Fill] = []
    for case in itertools.islice(cases(name, runner.model), count):
        hot = {"temperature": runner.temperature}
        plain.append(runner.fill(case, schedule, False, **hot))
        held.append(runner.fill(case, schedule, True, **hot))
        if not held[-1].accepted:
            raise SystemExit(f"not in the language: {held[-1].sample.text!r}")
    longer = [
        with_it.seconds / alone.seconds - 1 for with_it, alone in zip(held, plain, strict=True)
    ]
    yield summarise(name, "free", plain) | {"wall + %": 0.0}
    yield summarise(name, "grammar", held) | {"wall + %": 100 * statistics.median(longer)}


def schedules(name: str, runner: Runner, count: int) -> Iterator[dict[str, Any]]:
    """Every schedule with the grammar, and the learned one with what it learned."""
    for how, schedule, options in named_schedules(name, runner):
        fills = [
            runner.fill(case, schedule, True, **options)
            for case in itertools.islice(cases(name, runner.model), count)
        ]
        yield summarise(name, how, fills)


def named_schedules(name: str, runner: Runner) -> Iterator[tuple[str, Schedule, dict[str, Any]]]:
    """Schedules to compare."""
    yield "one token a forward", Static(), {}
    yield "LLaDA, 8 steps a block", Static(8), {}
    yield "Dream, 16 steps", Dream(16), {}
    yield "threshold 0.9", Threshold(), {}
    yield "LocalLeap", LocalLeap(), {}
    yield "LocalLeap, decay", LocalLeap(decay=1.0), {}
    yield "FreeDave, 4 drafts", FreeDave(4), {}
    yield "FreeDave, 4 drafts of LLaDA's steps", FreeDave(4, Static(8)), {}
    yield "Learn2PD", learned(name, runner, truncates=False), {}
    yield "Learn2PD with EoTP", learned(name, runner, truncates=True), {}
    if name in ("lists", "json"):
        yield "threshold 0.9, DINGO", Threshold(), {"solver": "dingo"}


@lru_cache(maxsize=8)
def trained_filter(name: str, runner: Runner) -> Any:
    """A filter trained on texts that are not measured, without a grammar (as published)."""
    found = itertools.islice(cases(name, runner.model, held_out=False), FILTER_TEXTS)
    padded = not name.startswith("code")
    began = time.perf_counter()
    made = runner.infiller(None, Static()).train_filter(
        [(case.prompt, case.canvas) for case in found], block=BLOCK, eos_padding=padded
    )
    say(
        f"filter for {name}: {made.examples} blocks, {made.final / made.places:.0%} of the places final, "
        f"loss {made.losses[0]:.3f} to {made.losses[-1]:.3f}, {time.perf_counter() - began:.0f} s"
    )
    return made.filter


def learned(name: str, runner: Runner, truncates: bool) -> Learn2PD:
    """The learned schedule."""
    return Learn2PD(trained_filter(name, runner), truncates=truncates)


IDENTITIES: dict[str, Schedule] = {
    "one token a step": Static(),
    "16 steps a block": Static(16),
    "8 steps a block": Static(8),
    "4 steps a block": Static(4),
    "threshold 0.9": Threshold(),
}
"""What FreeDave speeds up."""


def identity(name: str, runner: Runner, count: int) -> Iterator[dict[str, Any]]:
    """FreeDave and the schedule that it drafts, with and without the grammar."""
    for (how, slow), constrained in itertools.product(IDENTITIES.items(), (False, True)):
        fast = FreeDave(4, slow)
        same = forwards = saved = 0
        for case in itertools.islice(cases(name, runner.model), count):
            a = runner.fill(case, slow, constrained).sample
            b = runner.fill(case, fast, constrained).sample
            same += a.token_ids == b.token_ids
            forwards += a.stats.forwards
            saved += a.stats.forwards - b.stats.forwards
        record = {
            "task": name,
            "how": "grammar" if constrained else "free",
            "drafted": how,
            "texts": count,
            "equal": same,
            "forwards": forwards / count,
            "forwards saved %": 100 * saved / forwards,
        }
        say(str(record))
        yield record


PADDED = (256, 512, 1024)
"""Lengths of canvases for short answers."""
FORESEEN = 0.9
LONG_FILTER = 64
"""Canvases of which the learned schedule learns, for longer ones."""


def padding(
    name: str, runner: Runner, count: int, lengths: Sequence[int] = PADDED
) -> Iterator[dict[str, Any]]:
    """Canvases much longer than the answers: each schedule with and without an end that is foreseen."""
    found = itertools.islice(cases(name, runner.model, held_out=False), FILTER_TEXTS)
    made = runner.infiller(None, Static()).train_filter(
        [(case.prompt, [Masks(LONG_FILTER)]) for case in found], block=BLOCK, eos_padding=True
    )
    say(f"filter: {made.final / made.places:.0%} of the places final")
    plain = Learn2PD(made.filter, truncates=False)
    ways: list[tuple[str, Schedule, dict[str, Any]]] = [
        ("LLaDA, 8 steps a block", Static(8), {}),
        ("threshold 0.9", Threshold(), {}),
        ("Learn2PD", plain, {}),
        ("Learn2PD, nothing behind an EOS", Learn2PD(made.filter), {}),
        ("one token a forward, end foreseen", Static(), {"end_of_text": FORESEEN}),
        ("LLaDA, 8 steps a block, end foreseen", Static(8), {"end_of_text": FORESEEN}),
        ("threshold 0.9, end foreseen", Threshold(), {"end_of_text": FORESEEN}),
        ("Learn2PD, end foreseen", plain, {"end_of_text": FORESEEN}),
    ]
    for length, (how, schedule, options) in itertools.product(lengths, ways):
        right = forwards = tokens = 0
        seconds = 0.0
        # Without an end these take minutes of a long canvas.
        slow = not options and schedule in (plain, ways[0][1])
        texts = max(1, count // 5) if slow else count
        for case in itertools.islice(cases(name, runner.model), texts):
            infiller = runner.infiller(None, schedule, **options)
            began = time.process_time()
            (sample,) = infiller.fill(case.prompt, [Masks(length)], eos_padding=True)
            seconds += time.process_time() - began
            right += case.score(sample.text).correct
            forwards += sample.stats.forwards
            tokens += len(sample.token_ids)
        record = {
            "task": name,
            "canvas": length,
            "how": how,
            "texts": texts,
            "right %": 100 * right / texts,
            "tokens": tokens / texts,
            "forwards": forwards / texts,
            "ms": 1e3 * seconds / texts,
        }
        say(", ".join(f"{key} {shown(value)}" for key, value in record.items()))
        yield record


def reactions(count: int) -> Iterator[dict[str, Any]]:
    """The masked model of rxnmapper, from masks alone and with half of a molecule given."""
    folder = fetch_data("rxnmapper")
    words = (folder / "vocab.txt").read_text().splitlines()
    special = [word.startswith("[") and word[1:].rstrip("]").isupper() for word in words]
    special = [s or word.startswith("[unused") for s, word in zip(special, words, strict=True)]
    texts = [None if s else word.encode() for s, word in zip(special, words, strict=True)]
    network = AlbertForMaskedLM.from_pretrained(folder).eval()
    texts += [None] * (network.config.vocab_size - len(texts))
    vocabulary = Vocabulary.from_tokens(texts, [words.index("[SEP]")])
    model = MaskedModel(network, vocabulary=vocabulary, mask_token_id=words.index("[MASK]"))
    frame = Frame((words.index("[CLS]"),), (words.index("[SEP]"),))
    grammar = library.load("smiles")
    for how, canvas in (
        ("24 masks", [Masks(24)]),
        ("two regions", ["CC(=O)N", Masks(8), "c1ccc(", Masks(6), ")cc1"]),
    ):
        for rules in (None, grammar):
            infiller = DiffusionInfiller(model, None, rules, temperature=1.0)
            began = time.perf_counter()
            samples = infiller.fill(frame, canvas, count, seed=0)
            seconds = time.perf_counter() - began
            yield {
                "canvas": how,
                "how": "free" if rules is None else "grammar",
                "texts": count,
                "in grammar %": _percent(grammar.accepts(s.text) for s in samples),
                "distinct": len({s.text for s in samples}),
                "forwards": statistics.mean(s.stats.forwards for s in samples),
                "refused": statistics.mean(s.stats.rejected for s in samples),
                "s": seconds,
                "grammar s": sum(s.stats.mask_seconds for s in samples),
                "one of them": samples[0].text,
            }


# -- the program ---------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[str, Runner, int], Iterator[dict[str, Any]]]] = {
    "validity": validity,
    "schedules": schedules,
    "identity": identity,
    "padding": padding,
}


def load(folder: Path) -> MaskedModel:
    """A model of ``examples/train_mask_diffusion.py``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return MaskedModel(AutoModelForMaskedLM.from_pretrained(folder).eval(), tokenizer)


def main() -> None:
    """Measures, keeps what there is so far, prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", type=Path, help="folder with a model for each task")
    parser.add_argument("--what", choices=(*MEASURES, "rxn"), required=True)
    parser.add_argument(
        "--task", default="json,lists,smiles,code 1,code 2,code 3", help="with commas"
    )
    parser.add_argument("--count", type=int, default=1000, help="texts of each task")
    parser.add_argument("--block", type=int, default=BLOCK, help="block length; 0 for none")
    parser.add_argument(
        "--temperature", type=float, default=0.2, help="for validity; schedules are compared at 0"
    )
    parser.add_argument(
        "--lengths",
        help="of canvases, for padding, with commas",
        default=",".join(map(str, PADDED)),
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="records, written after each of them")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    lengths = [int(part) for part in given.lengths.split(",")]
    measures = MEASURES | {"padding": partial(padding, lengths=lengths)}
    records: list[dict[str, Any]] = []

    def found() -> Iterator[dict[str, Any]]:
        if given.what == "rxn":
            yield from reactions(given.count)
            return
        for name in given.task.split(","):
            runner = Runner(
                load(given.models / name.split()[0]), given.block or None, given.temperature
            )
            yield from measures[given.what](name, runner, given.count)

    for record in found():
        records.append(record)
        if given.json:
            given.json.write_text(json.dumps(records, indent=1))
    print(table(records))


if __name__ == "__main__":
    main()
