"""Deco-G beside regular prompting, masking and Ctrl-G: right answers, formats kept, likelihood, time.

``--what answers`` (the tasks of ``deco_g_tasks.py``).  Methods:

* ``free``: the model as it is, asked for the task alone: how likely its own answers are;
* ``prompt``: regular prompting, the format described in the prompt, nothing enforced;
* ``mask-format``, ``mask``: ``GrammarConstrained``, with the format in the prompt and without;
* ``ctrl-g-format``, ``ctrl-g``: ``CtrlG`` with a hidden Markov model of texts drawn without prompts
  (``--text-hmm``), all its states, with the format in the prompt (as in its paper) and without;
* ``deco-g``: ``DecoG`` with a model of answers to instructions (``--hmm``), the task alone in the prompt;
* ``deco-g-all``: the same with all hidden states; not among the defaults.

Columns: *score*, mean over items of what the answer found is worth: as far as an answer can be told, in the
format or not (the last number, the first digit from 1 to 5), and *in format*, where only texts of the
format count; *kept*, texts that are complete and of the grammar (white space around them aside); *log p*,
of a text and of a token (EOS included), under the model given the prompt with the task alone,
temperature 1, for all methods alike, and *lowest*, that of a text's least likely token, which tells of
formats forced upon a text; *ms a token*, of decoding without reading the prompt, *overhead*
over the methods without a constraint on the same item (medians, as others may use the machine),
*weights*, the part of it spent on masks or the hidden Markov model; *MB* and *build*, of automata and
tables, made once for a task; *retained*, the mass of the hidden states kept, over tokens, and the least of
any token; *fallbacks*, tokens at which the mask alone decided.  Methods take turns item by item, another
one first each time.  All take the likeliest tokens unless ``--temperature`` says otherwise.

``--what pruning``: how far the law of the next token moves when only the likeliest hidden states are kept,
so many or as many as hold a share of the mass (total variation to that with all, at the prefixes of texts
drawn with all), what mass and how many they are and how long weights take; a table and a picture
(``--plot``).

``--what likelihood``: natural log-likelihood per token of the held-out answers of ``--corpus`` (of
``examples/distil_hmm.py``) under unigrams, bigrams, hidden Markov models of ``--states`` fitted here,
those of ``--hmm`` and ``--text-hmm``, and the language model itself.  Smoothing of n-grams and of models
from counts alone is chosen on a tenth of the training part; models from the language model's own laws
are fitted as ``examples/distil_hmm.py`` does, with its defaults.

Usage: ``python benchmarks/deco_g.py --hmm answers.hmm.safetensors --text-hmm free.hmm.safetensors
[--task gsm8k] [--method mask,deco-g] [--limit 50] [--offset 0] [--threads 1] [--json FILE]``
``python benchmarks/deco_g.py --what pruning --hmm answers.hmm.safetensors --plot pruning.svg
[--limit 10] [--temperature 1]``
``python benchmarks/deco_g.py --what likelihood --corpus answers.corpus.safetensors [--states 64,128,256]``
``--hmm`` is better given for each task: ``--hmm gsm8k=FILE --hmm judge=FILE --hmm events=FILE``.  ``--show
FILE...`` prints the tables of earlier runs.

Sources: Deng, Kung and Peng 2025, "Decoupling Task-Solving and Output Formatting in LLM Generation"
(Deco-G); Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from deco_g_tasks import SETS, Question, TaskSet
from reporting import say, svg_words, table

from constrain import TokenAutomaton
from constrain.huggingface.extraction import automaton_for, vocabulary_for
from constrain.models import DEFAULT_MODEL, load_model
from grammars import Grammar
from samplers import HMM, CtrlG, DecoG, GrammarConstrained, Sample, SpeculativeBackend
from samplers.deco_g.decoder import TOP_MASS, FormatTarget
from samplers.deco_g.distil import Corpus, Head, fit_corpus, head_of, initial_hmm
from samplers.deco_g.em import fit_em
from samplers.deco_g.tables import Doubles
from samplers.report import FormatGuidance
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText, Weighting

EPOCHS: Final = 5
PSEUDOCOUNT: Final = 1.0
PRIOR: Final = 300.0
KEPT: Final = "8,16,32,64,128,all,0.9,0.95,0.97,0.99"
_CHUNK: Final = 256


@dataclass(frozen=True)
class Method:
    """One way to an answer.

    Attributes:
        kind: ``free``, ``mask``, ``ctrl-g``, ``deco-g`` or ``deco-g-all``.
        format: whether the prompt describes the format.
    """

    kind: str
    format: bool = False


METHODS: Final = {
    "free": Method("free"),
    "prompt": Method("free", format=True),
    "mask-format": Method("mask", format=True),
    "mask": Method("mask"),
    "ctrl-g-format": Method("ctrl-g", format=True),
    "ctrl-g": Method("ctrl-g"),
    "deco-g": Method("deco-g"),
    "deco-g-all": Method("deco-g-all"),
}
DEFAULT: Final = tuple(name for name in METHODS if name != "deco-g-all")


@dataclass(frozen=True)
class Setting:
    """The model and what all methods share.

    Attributes:
        model, tokenizer: of ``transformers``.
        backend: without drafters, so that times are those of the methods.
        hmms: of answers, by task; ``""`` for those not named.
        text_hmm: of texts without prompts.
        temperature: of the model's law; 0 takes the likeliest tokens.
        seed: of the first item.
        min_new_tokens: of texts drawn with a hidden Markov model.
    """

    model: Any
    tokenizer: Any
    backend: SpeculativeBackend
    hmms: dict[str, HMM]
    text_hmm: HMM | None
    temperature: float
    seed: int
    min_new_tokens: int = 1

    def hmm(self, task: TaskSet) -> HMM:
        """The model of answers of a task."""
        return self.hmms[task.name if task.name in self.hmms else ""]

    def ids(self, task: TaskSet, question: Question, *, format: bool) -> list[int]:
        """Of a prompt."""
        made = self.tokenizer.apply_chat_template(
            task.prompt(question, format=format), add_generation_prompt=True, return_dict=True
        )
        return [int(i) for i in made["input_ids"]]

    @torch.no_grad()
    def log_law(self, prompt: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
        """float64[T, V], log-probabilities before each new token."""
        ids = torch.tensor([[*prompt, *tokens[:-1]]], device=self.model.device)
        logits = self.model(ids, logits_to_keep=len(tokens)).logits[0]
        return torch.log_softmax(logits.double(), -1).cpu()

    def log_probabilities(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Of new tokens, at temperature 1."""
        chosen = torch.tensor(list(tokens))[:, None]
        found: list[float] = self.log_law(prompt, tokens).gather(1, chosen).flatten().tolist()
        return found


# -- answers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Build:
    """What a method made for a task before the first answer.

    Attributes:
        seconds: of automata and tables.
        megabytes: of tables and the format's automaton; the hidden Markov model's own aside.
        hidden: states of the hidden Markov model.
    """

    set: str
    method: str
    seconds: float
    megabytes: float = 0.0
    hidden: int = 0


@dataclass(frozen=True)
class Record:
    """One answer of one method; see the module.

    Attributes:
        found: the answer found in the text.
        score: what it is worth.
        kept: whether the text is of the format.
        logprob, lowest: under the model, given the task alone: of the text, of its least likely token.
        seconds: prompt included.
        step_ms, weights_ms: for each token but the first; for each token.
        log_format, retained, least, fallbacks: of the sampler's report.
    """

    set: str
    item: str
    method: str
    text: str
    found: str | None
    score: float
    kept: bool
    ended: bool
    tokens: int
    logprob: float
    lowest: float
    seconds: float
    step_ms: float
    weights_ms: float
    log_format: float | None = None
    retained: float | None = None
    least: float | None = None
    fallbacks: int | None = None


class Clock:
    """Notes when tokens come."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.stamps: list[float] = []

    def __call__(self, number: int, tokens: Sequence[int]) -> None:
        """Called by the backend."""
        self.stamps.append(time.perf_counter())

    @property
    def step_ms(self) -> float:
        """Of a token behind the first one, with which the prompt is read."""
        steps = len(self.stamps) - 1
        return 1e3 * (self.stamps[-1] - self.stamps[0]) / steps if steps > 0 else math.nan


Draw = Callable[[Sequence[int], int, Clock], tuple[Sample, FormatGuidance | None]]
"""(prompt, seed, clock) -> an answer."""


class Case:
    """One task with its methods ready."""

    def __init__(self, setting: Setting, task: TaskSet, names: Sequence[str]) -> None:
        self.setting = setting
        self.task = task
        self.grammar: Grammar = task.make()
        began = time.perf_counter()
        self.automaton: TokenAutomaton = automaton_for(
            self.grammar, setting.tokenizer, setting.model
        )
        self.automaton.mask(self.automaton.start, task.budget)
        self._compiled = time.perf_counter() - began
        self.builds: list[Build] = []
        self._made: dict[str, Draw] = {}
        self.draws = {name: self._draw(name) for name in names}

    def _draw(self, name: str) -> Draw:
        kind = METHODS[name].kind
        if kind not in self._made:
            self._made[kind] = self._sampler(name, kind)
        return self._made[kind]

    def _sampler(self, name: str, kind: str) -> Draw:
        setting, budget = self.setting, self.task.budget
        options: dict[str, Any] = {"max_new_tokens": budget, "temperature": setting.temperature}
        if kind == "free":
            target = FreeText(vocabulary_for(setting.tokenizer, setting.model).eos_token_ids)
            sampling = Sampling(setting.temperature)

            def free(ids: Sequence[int], seed: int, clock: Clock) -> tuple[Sample, None]:
                (sample,) = setting.backend.generate(
                    ids,
                    target,
                    max_new_tokens=budget,
                    sampling=sampling,
                    seed=seed,
                    on_tokens=clock,
                )
                return sample, None

            return free
        if kind == "mask":
            masking = GrammarConstrained(setting.backend, self.automaton)
            self.builds.append(Build(self.task.name, kind, self._compiled))

            def mask(ids: Sequence[int], seed: int, clock: Clock) -> tuple[Sample, None]:
                return masking.sample(ids, seed=seed, on_tokens=clock, **options)[0], None

            return mask
        sampler = self._guided(kind)

        def guided(ids: Sequence[int], seed: int, clock: Clock) -> tuple[Sample, FormatGuidance]:
            (sample,) = sampler.sample(ids, seed=seed, on_tokens=clock, **options)
            return sample, sampler.report.guidance[0]

        return guided

    def _guided(self, kind: str) -> DecoG:
        """Deco-G or Ctrl-G with its tables."""
        setting = self.setting
        least = setting.min_new_tokens
        if kind == "ctrl-g":
            assert setting.text_hmm is not None
            sampler: DecoG = CtrlG(
                setting.backend, self.automaton, setting.text_hmm, min_new_tokens=least
            )
        else:
            sampler = DecoG(
                setting.backend,
                self.automaton,
                setting.hmm(self.task),
                top_mass=TOP_MASS if kind == "deco-g" else 1.0,
                min_new_tokens=least,
            )
        began = time.perf_counter()
        sampler.target(self.task.budget)
        seconds = self._compiled + time.perf_counter() - began
        size = (sampler.nbytes / 1e6, sampler.hmm.states)
        self.builds.append(Build(self.task.name, kind, seconds, *size))
        return sampler

    def answer(self, name: str, question: Question, seed: int) -> Record:
        """One answer, measured."""
        task, setting = self.task, self.setting
        ids = setting.ids(task, question, format=METHODS[name].format)
        clock = Clock()
        sample, report = self.draws[name](ids, seed, clock)
        seconds = time.perf_counter() - clock.began
        plain = setting.ids(task, question, format=False)
        logprobs = setting.log_probabilities(plain, sample.token_ids)
        text = sample.text.strip()
        return Record(
            set=task.name,
            item=question.name,
            method=name,
            text=text,
            found=task.find(text),
            score=task.worth(text, question),
            kept=sample.complete and self.grammar.accepts(text),
            ended=sample.complete,
            tokens=len(sample.token_ids),
            logprob=math.fsum(logprobs),
            lowest=min(logprobs),
            seconds=seconds,
            step_ms=clock.step_ms,
            weights_ms=1e3 * sample.stats.mask_seconds / len(sample.token_ids),
            log_format=None if report is None else report.log_format,
            retained=None if report is None else report.mean_retained,
            least=None if report is None else report.min_retained,
            fallbacks=None if report is None else report.fallbacks,
        )


def answers(setting: Setting, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a task and build, and one an item and method."""
    names: list[str] = given.methods
    for task in given.tasks:
        case = Case(setting, task, names)
        for build in case.builds:
            say(f"{task.name}, {build.method}: {build.megabytes:.0f} MB in {build.seconds:.1f} s")
            yield {"kind": "build", **asdict(build)}
        questions = chosen(task, given)
        for name in names:  # what is only made at first is not measured
            case.answer(name, questions[0], setting.seed)
        for number, question in enumerate(questions):
            first = number % len(names)
            mine = {}
            for name in [*names[first:], *names[:first]]:
                mine[name] = case.answer(name, question, setting.seed + given.offset + number)
            brief = ", ".join(
                f"{n} {r.score:.2g}{'' if r.kept else '!'} {r.seconds:.1f} s"
                for n, r in mine.items()
            )
            say(f"{task.name} {number + 1}/{len(questions)}: {brief}")
            yield from ({"kind": "answer", **asdict(mine[name])} for name in names)


def chosen(task: TaskSet, given: argparse.Namespace) -> list[Question]:
    """The questions to measure."""
    return task.draw(False)[given.offset :][: given.limit]


def answers_tables(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: methods of each task, and Deco-G beside each of them item by item."""
    kinds: dict[str, list[dict[str, Any]]] = {"build": [], "answer": []}
    for record in records:
        kinds[record["kind"]].append({k: v for k, v in record.items() if k != "kind"})
    builds = {(b["set"], b["method"]): Build(**b) for b in kinds["build"]}
    lines = []
    found = [Record(**a) for a in kinds["answer"]]
    for name in dict.fromkeys(r.set for r in found):
        mine: dict[str, list[Record]] = {}
        for answer in found:
            if answer.set == name:
                mine.setdefault(answer.method, []).append(answer)
        plain = _plain_ms(mine)
        rows = [
            _row(method, rs, builds.get((name, METHODS[method].kind)), plain)
            for method, rs in mine.items()
        ]
        lines += [f"### {name}", "", table(rows), ""]
        if pairs := _pairs(mine):
            lines += [table(pairs), ""]
    return "\n".join(lines)


def _plain_ms(mine: dict[str, list[Record]]) -> dict[str, float]:
    """For each item, milliseconds of a token without any constraint."""
    found: dict[str, list[float]] = {}
    for method in ("free", "prompt"):
        for record in mine.get(method, []):
            found.setdefault(record.item, []).append(record.step_ms)
    return {item: _mean(steps) for item, steps in found.items()}


def _row(
    method: str, mine: list[Record], build: Build | None, plain: dict[str, float]
) -> dict[str, Any]:
    retained = [r.retained for r in mine if r.retained is not None]
    least = [r.least for r in mine if r.least is not None]
    slower = _median([r.step_ms / plain[r.item] - 1 for r in mine if r.item in plain])
    tokens = sum(r.tokens for r in mine)
    has_tables = build is not None and build.hidden
    return {
        "method": method,
        "items": len(mine),
        "score": f"{_mean([r.score for r in mine]):.3f}",
        "in format": f"{_mean([r.score * r.kept for r in mine]):.3f}",
        "kept": f"{_mean([float(r.kept) for r in mine]):.0%}",
        "log p a text": f"{_mean([r.logprob for r in mine]):.1f}",
        "a token": f"{sum(r.logprob for r in mine) / tokens:.3f}",
        "lowest": f"{_mean([r.lowest for r in mine]):.1f}",
        "tokens": f"{tokens / len(mine):.1f}",
        "ms a token": f"{_median([r.step_ms for r in mine]):.1f}",
        "overhead": None if math.isnan(slower) else f"{slower:+.1%}",
        "weights, ms": f"{_mean([r.weights_ms for r in mine]):.2f}",
        "MB": f"{build.megabytes:.1f}" if build is not None and has_tables else None,
        "build, s": f"{build.seconds:.2f}" if build is not None else None,
        "retained": f"{_mean(retained):.4f}" if retained else None,
        "least": f"{min(least):.3f}" if least else None,
        "fallbacks": sum(r.fallbacks or 0 for r in mine) if retained else None,
    }


def _pairs(mine: dict[str, list[Record]]) -> list[dict[str, Any]]:
    """``deco-g`` less each other method, item by item."""
    own = {r.item: r for r in mine.get("deco-g", [])}
    rows = []
    for method, others in mine.items():
        pairs = [(own[r.item], r) for r in others if r.item in own and method != "deco-g"]
        if pairs:
            token = [a.logprob / a.tokens - b.logprob / b.tokens for a, b in pairs]
            rows.append(
                {
                    "deco-g less": method,
                    "items": len(pairs),
                    "score": _spread([a.score - b.score for a, b in pairs]),
                    "in format": _spread([a.score * a.kept - b.score * b.kept for a, b in pairs]),
                    "log p a text": _spread([a.logprob - b.logprob for a, b in pairs]),
                    "log p a token": _spread(token),
                    "lowest": _spread([a.lowest - b.lowest for a, b in pairs]),
                }
            )
    return rows


def _mean(values: Sequence[float]) -> float:
    """Without what could not be measured; NaN for nothing."""
    known = [v for v in values if not math.isnan(v)]
    return math.fsum(known) / len(known) if known else math.nan


def _median(values: Sequence[float]) -> float:
    """Likewise."""
    known = [v for v in values if not math.isnan(v)]
    return float(np.median(known)) if known else math.nan


def _spread(values: Sequence[float]) -> str:
    """A mean and its standard error."""
    mean = _mean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    return f"{mean:+.3f} ± {float(np.std(values, ddof=1)) / math.sqrt(len(values)):.3f}"


# -- pruning ---------------------------------------------------------------------------------------


def pruning(setting: Setting, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record an item and number of hidden states kept, with what happened at each token."""
    for task in given.tasks:
        hmm = setting.hmm(task)
        automaton = automaton_for(task.make(), setting.tokenizer, setting.model)
        sampler = DecoG(setting.backend, automaton, hmm, top_mass=1.0)
        ways = list(dict.fromkeys(n if n < 1 else min(n, hmm.states) for n in given.kept))
        questions = chosen(task, given)
        for number, question in enumerate(questions):
            ids = setting.ids(task, question, format=False)
            (sample,) = sampler.sample(
                ids,
                max_new_tokens=task.budget,
                temperature=setting.temperature,
                seed=setting.seed + given.offset + number,
            )
            law = setting.log_law(ids, sample.token_ids).numpy()
            if number == 0:  # what is only made at first is not measured
                _walked(sampler, hmm.states - 1, task.budget, sample.token_ids)
            whole, *_ = _walked(sampler, 1.0, task.budget, sample.token_ids)
            for kept in ways:
                weights, retained, states, ms = _walked(
                    sampler, kept, task.budget, sample.token_ids
                )
                yield {
                    "set": task.name,
                    "item": question.name,
                    "states": hmm.states,
                    "kept": kept,
                    "mean_states": states,
                    "tv": [_variation(*each) for each in zip(law, whole, weights, strict=True)],
                    "retained": retained,
                    "ms": ms,
                }
            say(f"{task.name} {number + 1}/{len(questions)}: {len(sample.token_ids)} tokens")


def _walked(
    sampler: DecoG, kept: float, budget: int, tokens: Sequence[int]
) -> tuple[list[Weighting], list[float], float, float]:
    """Weights before each token of a text, the mass kept there, states kept and ms for each, at mean.

    Args:
        kept: hidden states, or their share of the probability if it is a ``float``.
    """
    if isinstance(kept, float):
        sampler.top_mass = kept
    else:
        sampler.top_states = kept
    target: FormatTarget = sampler.target(budget)
    sampler.top_mass, sampler.top_states = 1.0, None
    state = target.start()
    weights, retained, states = [], [], 0
    began = time.perf_counter()
    for at, token in enumerate(tokens):
        weights.append(target.weighting(state, budget - at))
        retained.append(state.note.retained)
        states += state.note.states
        after = target.advance(state, token)
        assert after is not None
        state = after
    seconds = time.perf_counter() - began
    return weights, retained, states / len(tokens), 1e3 * seconds / len(tokens)


def _kept(text: str) -> float:
    """A number of hidden states, or a share of the probability."""
    if text == "all":
        return 1 << 30
    return float(text) if "." in text else int(text)


def _variation(law: Doubles, a: Weighting, b: Weighting) -> float:
    """Total variation of the laws that two weightings make of the model's."""
    return float(0.5 * np.abs(_tilted(law, a) - _tilted(law, b)).sum())


def _tilted(law: Doubles, weighting: Weighting) -> Doubles:
    assert weighting.ids is not None
    logs = law[weighting.ids]
    if weighting.log_weights is not None:
        logs = logs + weighting.log_weights
    out: Doubles = np.zeros(len(law))
    out[weighting.ids] = np.exp(logs - logs.max())
    out /= out.sum()
    return out


def pruning_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and number of states; over all tasks where there are several."""
    sets = list(dict.fromkeys(r["set"] for r in records))
    rows = []
    for name in [*sets, "all"] if len(sets) > 1 else sets:
        mine = [r for r in records if name in (r["set"], "all")]
        for kept in dict.fromkeys(r["kept"] for r in mine):
            some = [r for r in mine if r["kept"] == kept]
            tv = np.concatenate([r["tv"] for r in some])
            retained = np.concatenate([r["retained"] for r in some])
            rows.append(
                {
                    "task": name,
                    "of": max(r["states"] for r in some),
                    "kept": f"{kept:.0%}" if kept < 1 else str(kept),
                    "states": float(
                        np.average([r["mean_states"] for r in some], weights=_sizes(some))
                    ),
                    "tokens": len(tv),
                    "TV, mean": float(tv.mean()),
                    "TV, 99 %": float(np.quantile(tv, 0.99)),
                    "TV, max": float(tv.max()),
                    "retained, mean": float(retained.mean()),
                    "retained, min": float(retained.min()),
                    "ms a token": float(np.average([r["ms"] for r in some], weights=_sizes(some))),
                }
            )
    return rows


def _sizes(records: Sequence[dict[str, Any]]) -> list[int]:
    return [len(r["tv"]) for r in records]


_WIDTH: Final = 640
_HEIGHT: Final = 320
_MARGIN: Final = 56
_INK: Final = {"TV, mean": "#1b6ca8", "TV, max": "#7fb2d9", "ms a token": "#c2571a"}


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws error (logarithmic, left) and time (right) over the states kept, as an SVG file.

    Numbers of states are dots, shares of the mass circles at the number of states that they kept at mean.

    Args:
        rows: of :func:`pruning_rows`; the last task's are drawn.
        path: of the file.
    """
    mine = sorted((r for r in rows if r["task"] == rows[-1]["task"]), key=lambda r: r["states"])
    errors = [r[name] for r in mine for name in ("TV, mean", "TV, max") if r[name] > 0]
    low = math.floor(math.log10(min(errors, default=1e-6)))
    slowest = max(r["ms a token"] for r in mine)
    parts = _axes(mine, low, slowest)
    for number, (name, ink) in enumerate(_INK.items()):
        points = []
        for x, row in zip(_xs(mine), mine, strict=True):
            value = row[name]
            if name == "ms a token":
                points.append((x, _y(value / slowest), row))
            elif value > 0:
                points.append((x, _y(1 - math.log10(value) / low), row))
        where = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        parts.append(f'<polyline fill="none" stroke="{ink}" stroke-width="1.5" points="{where}"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke="{ink}" '
            f'fill="{"#fff" if row["kept"].endswith("%") else ink}"/>'
            for x, y, row in points
        ]
        parts.append(svg_words(_MARGIN + number * 110, _MARGIN - 14, "start", name, ink))
    path.write_text("\n".join([*parts, "</svg>"]), "utf-8")


def _axes(rows: Sequence[dict[str, Any]], low: int, slowest: float) -> list[str]:
    """The frame of a plot: scales, lines across at each power of ten."""
    title = f"hidden states kept, of {rows[-1]['of']}; circles: as many as hold a share of the mass"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        svg_words(_WIDTH / 2, 20, "middle", title),
    ]
    for exponent in range(low, 1):
        y = _y(1 - exponent / low)
        parts.append(svg_words(_MARGIN - 8, y + 4, "end", f"1e{exponent}"))
        parts.append(f'<path d="M{_MARGIN} {y:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
    for share in (0.0, 0.5, 1.0):
        words = f"{share * slowest:.1f} ms"
        parts.append(svg_words(_WIDTH - _MARGIN + 8, _y(share) + 4, "start", words))
    for x, row in zip(_xs(rows), rows, strict=True):
        line = 14 if row["kept"].endswith("%") else 32  # they would lie over each other
        parts.append(svg_words(x, _HEIGHT - line, "middle", row["kept"]))
    return parts


def _xs(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Where rows are, by the logarithm of the states kept."""
    logs = [math.log(row["states"]) for row in rows]
    span = max(logs) - min(logs) or 1.0
    return [_MARGIN + (log - min(logs)) / span * (_WIDTH - 2 * _MARGIN) for log in logs]


def _y(height: float) -> float:
    return _HEIGHT - _MARGIN - height * (_HEIGHT - 2 * _MARGIN)


# -- likelihood ------------------------------------------------------------------------------------

Texts = Sequence[Sequence[int]]
_GRID: Final = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
_STRENGTHS: Final = (1.0, 10.0, 100.0, 1000.0)
_BEGIN: Final = -1


class Unigrams:
    """Counts of tokens, with a uniform law worth ``strength`` draws."""

    def __init__(self, texts: Texts, size: int, strength: float) -> None:
        self._counts = Counter(token for text in texts for token in text)
        self._total = self._counts.total() + strength
        self._floor = strength / size

    def probability(self, token: int) -> float:
        """Of a token anywhere."""
        return (self._counts[token] + self._floor) / self._total

    def log_likelihood(self, texts: Texts) -> float:
        """For each token."""
        logs = [math.log(self.probability(token)) for text in texts for token in text]
        return math.fsum(logs) / len(logs)


class Bigrams:
    """Counts of pairs, with a unigram law worth ``strength`` draws behind each token."""

    def __init__(self, texts: Texts, before: Unigrams, strength: float) -> None:
        self._before = before
        self._strength = strength
        self._pairs = Counter(pair for text in texts for pair in self._in(text))
        self._totals = Counter[int]()
        for (first, _), count in self._pairs.items():
            self._totals[first] += count

    @staticmethod
    def _in(text: Sequence[int]) -> Iterator[tuple[int, int]]:
        return zip([_BEGIN, *text], text, strict=False)

    def log_likelihood(self, texts: Texts) -> float:
        """For each token."""
        logs = []
        for text in texts:
            for first, second in self._in(text):
                back = self._strength * self._before.probability(second)
                total = self._totals[first] + self._strength
                logs.append(math.log((self._pairs[first, second] + back) / total))
        return math.fsum(logs) / len(logs)


def halves(corpus: Corpus) -> tuple[Corpus, Texts]:
    """The corpus without a tenth of what is to be learned from, and that tenth: to choose smoothing."""
    order = itertools.count()
    apart = [not held and next(order) % 10 == 9 for held in corpus.held_out]
    held = tuple(a or h for a, h in zip(apart, corpus.held_out, strict=True))
    texts = [text for a, text in zip(apart, corpus.sequences, strict=True) if a]
    return replace(corpus, held_out=held), texts or corpus.train


def n_grams(corpus: Corpus) -> Iterator[tuple[str, float]]:
    """Name and held-out log-likelihood per token."""
    train, size = corpus.train, corpus.vocabulary_size
    part, apart = halves(corpus)
    one = max(_GRID, key=lambda s: Unigrams(part.train, size, s).log_likelihood(apart))
    inner = Unigrams(part.train, size, one)
    two = max(_GRID, key=lambda s: Bigrams(part.train, inner, s).log_likelihood(apart))
    unigrams = Unigrams(train, size, one)
    yield f"unigrams, smoothing {one:g}", unigrams.log_likelihood(corpus.measured)
    yield (
        f"bigrams, smoothing {two:g}",
        Bigrams(train, unigrams, two).log_likelihood(corpus.measured),
    )


def from_counts(corpus: Corpus, states: int, seed: int) -> tuple[HMM, float]:
    """A hidden Markov model that knows what was drawn alone, and its smoothing."""

    def fitted(part: Corpus, strength: float) -> HMM:
        first = initial_hmm(part, states=states, pseudocount=PSEUDOCOUNT, seed=seed)
        even = (first.emission > 0).to(first.dtype)
        prior = strength * even / even.sum(1, keepdim=True)
        texts = part.train
        return fit_em(first, texts, epochs=EPOCHS, pseudocount=PSEUDOCOUNT, prior=prior, seed=seed)[
            0
        ]

    part, apart = halves(corpus)
    best = max(_STRENGTHS, key=lambda s: float(fitted(part, s).log_likelihoods(apart).sum()))
    return fitted(corpus, best), best


@torch.no_grad()
def own_likelihood(corpus: Corpus, head: Head) -> float:
    """The language model's, per held-out token, from the hidden states that the corpus keeps."""
    lengths = torch.tensor([len(ids) for ids in corpus.sequences])
    held = torch.tensor(corpus.held_out).repeat_interleave(lengths)
    tokens = torch.tensor([i for ids in corpus.measured for i in ids])
    total = 0.0
    for some, ids in zip(
        torch.split(corpus.hidden[held], _CHUNK), torch.split(tokens, _CHUNK), strict=True
    ):
        logs = torch.log_softmax(head(some).cpu(), -1)
        total += float(logs.gather(1, ids[:, None]).double().sum())
    return total / len(tokens)


def likelihood(setting: Setting, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a model."""
    corpus = Corpus.load(given.corpus, setting.tokenizer)
    held = sum(map(len, corpus.measured))
    say(f"{sum(map(len, corpus.train)):,} tokens to learn from, {held:,} held out")

    def record(model: str, found: float, seconds: float | None = None) -> dict[str, Any]:
        say(f"{model}: {found:.3f}")
        row = {"model": model, "log-likelihood a token": round(found, 3)}
        return row | {"perplexity": math.exp(-found), "fitting, s": seconds}

    def measured(hmm: HMM) -> float:
        return float(hmm.log_likelihoods(corpus.measured).sum()) / held

    for name, found in n_grams(corpus):
        yield record(name, found)
    head = head_of(setting.model)
    for states in given.states:
        began = time.perf_counter()
        hmm, smoothing = from_counts(corpus, states, setting.seed)
        name = f"HMM, {states} states, from counts, smoothing {smoothing:g}"
        yield record(name, measured(hmm), time.perf_counter() - began)
    for states in given.states if head is not None else ():
        began = time.perf_counter()
        hmm, _ = fit_corpus(
            corpus,
            states=states,
            epochs=EPOCHS,
            pseudocount=PSEUDOCOUNT,
            head=head,
            prior=PRIOR,
            seed=setting.seed,
        )
        name = f"HMM, {states} states, from the model's own laws"
        yield record(name, measured(hmm), time.perf_counter() - began)
    others = [(f"HMM of {name or 'answers'}", hmm) for name, hmm in setting.hmms.items()]
    if setting.text_hmm is not None:
        others.append(("HMM of texts without prompts", setting.text_hmm))
    for name, hmm in others:
        yield record(f"{name}, {hmm.states} states, as given", measured(hmm))
    if head is not None:
        yield record("the language model", own_likelihood(corpus, head))


# -- the program -----------------------------------------------------------------------------------

WHAT: Final[dict[str, Callable[[Setting, argparse.Namespace], Iterator[dict[str, Any]]]]] = {
    "answers": answers,
    "pruning": pruning,
    "likelihood": likelihood,
}


def tables(what: str, records: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    if what == "answers":
        return answers_tables(records)
    return table(pruning_rows(records) if what == "pruning" else records)


def write_json(file: Path, about: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
    """Writes a file that is whole at any time."""
    made = file.with_name(f".{file.name}.part")
    made.write_text(json.dumps({"about": about, "records": records}, indent=1))
    made.replace(file)


def show(files: Sequence[Path], picture: Path | None) -> None:
    """The tables of earlier runs of one kind, put together."""
    stored = [json.loads(file.read_text()) for file in files]
    what = stored[0]["about"]["what"]
    records = [record for one in stored for record in one["records"]]
    print(tables(what, records))
    if picture is not None and what == "pruning":
        plot(pruning_rows(records), picture)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", choices=WHAT, default="answers")
    parser.add_argument("--task", choices=SETS, action="append", help="default: all")
    parser.add_argument("--method", default=",".join(DEFAULT), help="names, with commas between")
    parser.add_argument("--hmm", action="append", default=[], help="of answers: FILE or TASK=FILE")
    parser.add_argument("--text-hmm", type=Path, help="of texts without prompts")
    parser.add_argument("--corpus", type=Path, help="of likelihood")
    parser.add_argument("--states", default="2,64,128,256", help="of likelihood")
    parser.add_argument(
        "--kept", default=KEPT, help="of pruning: hidden states, or shares of the mass"
    )
    parser.add_argument("--plot", type=Path, help="an SVG file, of pruning")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--dtype", default="bfloat16", help="of the model")
    parser.add_argument("--limit", type=int, default=50, help="items of each task")
    parser.add_argument("--offset", type=int, default=0, help="items of each task left out")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--min-new-tokens", type=int, default=1, help="of ctrl-g and deco-g")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--json", type=Path, help="records, written after each of them")
    parser.add_argument("--show", type=Path, nargs="+", help="records of earlier runs")
    given = parser.parse_args(arguments)
    given.methods = given.method.split(",")
    if unknown := [name for name in given.methods if name not in METHODS]:
        parser.error(f"{unknown[0]!r} is none of {', '.join(METHODS)}")
    given.tasks = [SETS[name] for name in given.task or SETS]
    given.states = [int(n) for n in given.states.split(",")]
    given.kept = [_kept(n) for n in given.kept.split(",")]
    if given.limit < 1 or given.offset < 0:
        parser.error("--limit must be at least 1, --offset at least 0")
    if not given.show and (missing := _missing(given)):
        parser.error(missing)
    return given


def _missing(given: argparse.Namespace) -> str | None:
    """What the options lack for what they ask."""
    named = {entry.rpartition("=")[0] for entry in given.hmm}
    if unknown := sorted(named - SETS.keys() - {""}):
        return f"--hmm {unknown[0]}=...: there is no such task"
    if given.what == "likelihood":
        return None if given.corpus is not None else "likelihood needs --corpus"
    kinds = (
        {METHODS[name].kind for name in given.methods} if given.what == "answers" else {"deco-g"}
    )
    if kinds & {"deco-g", "deco-g-all"} and "" not in named:
        for task in given.tasks:
            if task.name not in named:
                return f"deco-g needs --hmm for {task.name} (see examples/distil_hmm.py)"
    if "ctrl-g" in kinds and given.text_hmm is None:
        return "ctrl-g needs --text-hmm (see examples/distil_hmm.py)"
    return None


def setting_of(given: argparse.Namespace) -> Setting:
    """Loads what the options name."""
    model, tokenizer = load_model(given.model, given.dtype)
    hmms = {}
    for entry in given.hmm:
        name, equals, file = entry.rpartition("=")
        hmms[name if equals else ""] = HMM.load(file, tokenizer)
    text_hmm = None if given.text_hmm is None else HMM.load(given.text_hmm, tokenizer)
    backend = SpeculativeBackend(model, tokenizer, [])
    return Setting(
        model,
        tokenizer,
        backend,
        hmms,
        text_hmm,
        given.temperature,
        given.seed,
        given.min_new_tokens,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, keeps what there is so far, prints the tables."""
    given = _options(arguments)
    if given.show:
        show(given.show, given.plot)
        return 0
    if given.threads:
        torch.set_num_threads(given.threads)
    about = {
        "what": given.what,
        "model": given.model,
        "dtype": given.dtype,
        "threads": torch.get_num_threads(),
        "temperature": given.temperature,
        "seed": given.seed,
        "min_new_tokens": given.min_new_tokens,
        "hmm": given.hmm,
        "text_hmm": str(given.text_hmm or ""),
        "torch": torch.__version__,
    }
    records: list[dict[str, Any]] = []
    for record in WHAT[given.what](setting_of(given), given):
        records.append(record)
        if given.json is not None:
            write_json(given.json, about, records)
    print(tables(given.what, records))
    if given.what == "pruning" and given.plot is not None:
        plot(pruning_rows(records), given.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
