"""Tokens per forward and time per token, engine beside engine, on real tasks with JSON answers.

The baseline is ``generate`` with a ``GrammarLogitsProcessor``.  Beside it, on the same prompts and one
after the other for each prompt, so that what else the machine does falls on all of them alike:

* ``backend``: the speculative backend without drafters;
* each drafter alone, by its name, and ``default``: the default set;
* ``hf_lookup``: ``generate`` with its own prompt lookup and the same processor;
* ``xgrammar`` and ``llguidance``: ``generate`` with their masks, which know of no budget.

Speed-up is the baseline's time divided by the engine's, prompt by prompt; the table has its median and
the 10th and 90th percentile.  "In all" compares whole answers, "per token" is fair where answers differ
in length.  Prefill and masks are in the times, compiling the grammar is not.  Work on the vocabulary that
our automata share falls to the first that meets a new kind of string; which engine comes first changes
from prompt to prompt.  Each engine keeps its automata for schemas it met, and its drafters keep what they
learned within one set of tasks.  A short run before the first prompt is not counted.  At temperature 0 in
float32 all texts of ours must be the baseline's; in bfloat16 rounding may tell a forward of one token from
one of several.

``--identity N`` checks just that, in float32, on N prompts of all sets, and shows the difference between
the two best logits where a text departs.

Usage: ``python benchmarks/speculative.py [--set calls] [--engine generate,backend,default] [--limit 20]
[--dtype bfloat16,float32] [--temperature 0,1] [--seed 0] [--json FILE]``,
``python benchmarks/speculative.py --identity 60``; on a busy machine ``--threads 1``; and
``--show FILE`` for the tables of an earlier run.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import inspect
import json
import os
import pkgutil
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import tasks
import torch
import transformers
from tasks import Task

import samplers.drafters
from constrain import (
    GrammarLogitsProcessor,
    TokenAutomaton,
    Vocabulary,
    load_model,
)
from constrain.bitmask import apply_bitmask_
from constrain.models import DEFAULT_MODEL, ModelUnavailable
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.constrained import GrammarConstrained
from samplers.drafters.base import Drafter
from samplers.speculative.target import Constrained

BASELINE = "generate"
DEFAULT = "default"
KEPT_GRAMMARS = 16
"""Compiled grammars each engine keeps."""
WARM_UP = Task(
    "warm-up",
    "warm-up",
    [{"role": "user", "content": "Name a fruit and its price. Name a fruit and its colour."}],
    tasks.record(fruit=tasks.text(20), price=tasks.AMOUNT, fresh=tasks.YES_NO),
    24,
)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


# -- what is measured ------------------------------------------------------------------------------


@dataclass
class Answer:
    """What an engine wrote and what it cost.

    Attributes:
        tokens: new tokens, EOS included.
        forwards: calls of the model, prefill included.
        drafted: drafter -> drafted tokens that the model scored.
        accepted: drafter -> those that became text.
    """

    tokens: list[int]
    forwards: int
    mask_seconds: float | None = None
    drafted: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)


@dataclass
class Record:
    """One answer of one engine."""

    dtype: str
    temperature: float
    set: str
    task: str
    engine: str
    prompt_tokens: int
    seconds: float = 0.0
    complete: bool = False
    answer: Answer | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, float, str, str]:
        """What records of the same prompt have in common."""
        return self.dtype, self.temperature, self.set, self.task

    @staticmethod
    def of(plain: dict[str, Any]) -> Record:
        """The record that ``asdict`` made plain."""
        answer = plain.pop("answer")
        return Record(**plain, answer=Answer(**answer) if answer else None)


@dataclass
class Setting:
    """The model and all that engines share."""

    model: Any
    tokenizer: Any
    dtype: str
    draft_model: str | None = None
    heads: Path | None = None
    forwards: int = 0

    def __post_init__(self) -> None:
        self.vocabulary = Vocabulary.from_huggingface(self.tokenizer, model=self.model)
        self.model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    @property
    def eos(self) -> list[int]:
        """The tokens that end a text."""
        return list(self.vocabulary.eos_token_ids)

    @property
    def columns(self) -> int:
        """Width of the logits."""
        return int(self.model.config.vocab_size)


# -- engines ---------------------------------------------------------------------------------------


class Engine:
    """Writes answers; keeps the grammars it compiled last."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        self.setting = setting
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def compiled(self, task: Task) -> Any:
        """The compiled grammar of a task."""
        schema = task.schema_text
        if schema not in self._compiled:
            self._compiled[schema] = self.compile(schema)
        self._compiled.move_to_end(schema)
        while len(self._compiled) > KEPT_GRAMMARS:
            self._compiled.popitem(last=False)
        return self._compiled[schema]

    def compile(self, schema: str) -> Any:
        """Our automaton; peers have their own."""
        return TokenAutomaton(Grammar.from_json_schema(schema), self.setting.vocabulary)

    def write(
        self, ids: list[int], compiled: Any, budget: int, temperature: float, seed: int
    ) -> Answer:
        """One answer."""
        raise NotImplementedError

    def forget(self) -> None:
        """What was learned from earlier prompts."""
        self._compiled.clear()


class Plain(Engine):
    """``generate`` with a processor."""

    options: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def processor(self, compiled: Any, budget: int) -> Any:
        """The processor of one call."""
        return GrammarLogitsProcessor(compiled, max_new_tokens=budget)

    def write(
        self, ids: list[int], compiled: Any, budget: int, temperature: float, seed: int
    ) -> Answer:
        """The answer of ``generate``."""
        setting = self.setting
        processor = self.processor(compiled, budget)
        before = setting.forwards
        prompt = torch.tensor([ids])
        torch.manual_seed(seed)
        drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        with torch.no_grad():
            out = setting.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                logits_processor=[processor],
                max_new_tokens=budget,
                eos_token_id=setting.eos,
                pad_token_id=setting.eos[0],
                **(drawing if temperature else {"do_sample": False}),
                **self.options,
            )
        tokens = _until_end(out[0, len(ids) :].tolist(), setting.eos)
        masks = getattr(processor, "mask_seconds", None)
        return Answer(tokens, setting.forwards - before, masks)


class Lookup(Plain):
    """The prompt lookup of ``transformers``."""

    options = {"prompt_lookup_num_tokens": 10}  # noqa: RUF012


def _until_end(tokens: list[int], eos: Sequence[int]) -> list[int]:
    first = next((i for i, token in enumerate(tokens) if token in eos), len(tokens) - 1)
    return tokens[: first + 1]


class Backend(Engine):
    """The speculative backend with some drafters."""

    def __init__(self, name: str, setting: Setting, drafters: Sequence[Drafter] | None) -> None:
        super().__init__(name, setting)
        self.backend = SpeculativeBackend(setting.model, setting.tokenizer, drafters)

    def write(
        self, ids: list[int], compiled: Any, budget: int, temperature: float, seed: int
    ) -> Answer:
        """The answer of the backend."""
        sampler = GrammarConstrained(self.backend, compiled)
        (sample,) = sampler.sample(ids, max_new_tokens=budget, temperature=temperature, seed=seed)
        stats = sample.stats
        return Answer(
            sample.token_ids,
            stats.forwards,
            stats.mask_seconds,
            {name: count.drafted for name, count in stats.by_drafter.items()},
            {name: count.accepted for name, count in stats.by_drafter.items()},
        )

    def forget(self) -> None:
        """Drafters and schedule start afresh."""
        super().forget()
        self.backend.reset()


class XGrammar(Plain):
    """xgrammar's own processor."""

    def __init__(self, name: str, setting: Setting) -> None:
        super().__init__(name, setting)
        import xgrammar
        import xgrammar.contrib.hf

        self.lib = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(
            setting.tokenizer, vocab_size=setting.columns, stop_token_ids=setting.eos
        )
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def compile(self, schema: str) -> Any:
        """A compiled grammar."""
        return self.compiler.compile_json_schema(schema, any_whitespace=True, strict_mode=False)

    def processor(self, compiled: Any, budget: int) -> Any:
        """Good for one call."""
        return self.lib.contrib.hf.LogitsProcessor(compiled)


class LLGuidance(Plain):
    """llguidance's matcher in a thin processor."""

    def __init__(self, name: str, setting: Setting) -> None:
        super().__init__(name, setting)
        import llguidance
        import llguidance.hf

        self.matcher = llguidance.LLMatcher
        self.llguidance_tokenizer = llguidance.hf.from_tokenizer(
            setting.tokenizer,
            n_vocab=setting.columns,
            eos_token=setting.eos,
            slices=llguidance.LLTokenizer.json_slices(),
        )

    def compile(self, schema: str) -> Any:
        """A matcher at the start."""
        grammar = self.matcher.grammar_from_json_schema(
            schema, overrides={"whitespace_flexible": True}
        )
        matcher = self.matcher(self.llguidance_tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def processor(self, compiled: Any, budget: int) -> Any:
        """Good for one call."""
        return LLGuidanceProcessor(compiled.deep_copy(), self.setting.columns)


class LLGuidanceProcessor(transformers.LogitsProcessor):  # type: ignore[misc]
    """Masks of one matcher for one row."""

    def __init__(self, matcher: Any, columns: int) -> None:
        import llguidance.numpy as masks

        self.matcher = matcher
        self.fill = masks.fill_next_token_bitmask
        self.rows = masks.allocate_token_bitmask(1, columns)
        self.length: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Takes the last token, masks the next."""
        if self.length is not None and not self.matcher.consume_token(int(input_ids[0, -1])):
            raise RuntimeError(self.matcher.get_error() or "the last token is not allowed")
        self.length = input_ids.shape[1]
        self.fill(self.matcher, self.rows, 0)
        return apply_bitmask_(scores, torch.from_numpy(self.rows))


# -- which engines there are -----------------------------------------------------------------------


def drafter_classes() -> list[type[Drafter]]:
    """All drafters that the package has, one for each name."""
    found: dict[str, type[Drafter]] = {}
    for info in pkgutil.iter_modules(samplers.drafters.__path__, "samplers.drafters."):
        try:
            module = importlib.import_module(info.name)
        except Exception as error:
            say(f"{info.name} cannot be imported: {error!r}")
            continue
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, Drafter) and not inspect.isabstract(cls):
                found.setdefault(cls.name, cls)
    return [found[name] for name in sorted(found)]


def made(cls: type[Drafter], setting: Setting) -> Drafter:
    """A drafter with its defaults; ``SPECIAL`` says what some of them need.

    Raises:
        LookupError: if it needs what is not there.
    """
    if cls.name in SPECIAL:
        return SPECIAL[cls.name](cls, setting)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.default is parameter.empty and parameter.kind not in kinds:
            raise LookupError(f"it needs {name!r}, and nobody told this script how to make that")
    return cls()


def _small(setting: Setting, dtype: str) -> Any:
    """A draft model of its own."""
    if setting.draft_model is None:
        raise LookupError("it needs a smaller model; see --draft-model")
    return load_model(setting.draft_model, dtype)[0]


def _with_heads(cls: Any, setting: Setting) -> Drafter:
    if setting.heads is None:
        raise LookupError("it needs trained heads; see --heads")
    loaded: Drafter = cls.load(setting.heads, setting.model)
    return loaded


SPECIAL: dict[str, Callable[[Any, Setting], Drafter]] = {
    "layer_skip": lambda cls, setting: cls(setting.model),
    "draft_model": lambda cls, setting: cls(_small(setting, setting.dtype)),
    "online_distilled": lambda cls, setting: cls(_small(setting, "float32")),
    "medusa": _with_heads,
}


def makers(setting: Setting) -> dict[str, Callable[[], Engine]]:
    """How each engine is made, the baseline first."""

    def alone(cls: type[Drafter]) -> Callable[[], Engine]:
        return lambda: Backend(cls.name, setting, [made(cls, setting)])

    return {
        BASELINE: lambda: Plain(BASELINE, setting),
        "backend": lambda: Backend("backend", setting, []),
        **{cls.name: alone(cls) for cls in drafter_classes()},
        DEFAULT: lambda: Backend(DEFAULT, setting, None),
        "hf_lookup": lambda: Lookup("hf_lookup", setting),
        "xgrammar": lambda: XGrammar("xgrammar", setting),
        "llguidance": lambda: LLGuidance("llguidance", setting),
    }


def engines_of(setting: Setting, wanted: Sequence[str] | None) -> list[Engine]:
    """The engines asked for (all if ``None``), as far as they are there; always the baseline."""
    known = makers(setting)
    if wanted is not None:
        names = {_plain(name): name for name in known}
        missing = [name for name in wanted if _plain(name) not in names]
        if missing:
            raise SystemExit(f"no engine {', '.join(missing)}; there are: {', '.join(known)}")
        asked = {BASELINE, *(names[_plain(name)] for name in wanted)}
        known = {name: make for name, make in known.items() if name in asked}
    found = []
    for name, make in known.items():
        try:
            found.append(make())
        except (ImportError, LookupError, ValueError) as error:
            say(f"{name} is left out: {error}")
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


# -- running ---------------------------------------------------------------------------------------


@dataclass
class Options:
    """What the command line says about a run."""

    sets: list[str]
    engines: list[str] | None
    limit: int
    seed: int
    model: str
    draft_model: str | None
    heads: Path | None
    json: Path | None
    budget: int | None


class Run:
    """Records, written after every answer."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.records: list[Record] = []
        self.load = os.getloadavg() if hasattr(os, "getloadavg") else None

    def setting(self, dtype: str) -> Setting:
        """The model in one type."""
        model, tokenizer = load_model(self.options.model, dtype)
        return Setting(model, tokenizer, dtype, self.options.draft_model, self.options.heads)

    def measure(self, dtype: str, temperatures: Sequence[float]) -> None:
        """All sets with all engines in one type."""
        setting = self.setting(dtype)
        engines = engines_of(setting, self.options.engines)
        say(f"{dtype}: {', '.join(engine.name for engine in engines)}")
        self.warm_up(engines, dtype)
        for temperature in temperatures:
            for name in self.options.sets:
                found = loaded(name, self.options.limit, self.options.seed)
                self._set(engines, found, dtype, temperature)

    def warm_up(self, engines: Sequence[Engine], dtype: str) -> None:
        """Each engine once, for what only the first call does; not recorded."""
        for engine in engines:
            record = self.one(engine, WARM_UP, dtype, 0.0, 0)
            say(f"warm-up, {engine.name}: {record.seconds:.1f} s")

    def _set(
        self, engines: list[Engine], found: list[Task], dtype: str, temperature: float
    ) -> None:
        for engine in engines:
            engine.forget()
        for number, task in enumerate(found):
            first = number % len(engines)  # none has the advantage of always coming later
            began = time.perf_counter()
            made_now = []
            for engine in engines[first:] + engines[:first]:
                made_now.append(
                    self.one(engine, task, dtype, temperature, self.options.seed + number)
                )
                self.records.append(made_now[-1])
                self.save()
            say(
                f"{dtype} t={temperature:g} {task.set} {number + 1}/{len(found)} {task.name}: "
                f"{time.perf_counter() - began:.0f} s; {_brief(made_now)}"
            )

    def one(self, engine: Engine, task: Task, dtype: str, temperature: float, seed: int) -> Record:
        """One answer; what goes wrong is part of the record."""
        ids = task.prompt_ids(engine.setting.tokenizer)
        record = Record(dtype, temperature, task.set, task.name, engine.name, len(ids))
        try:
            compiled = engine.compiled(task)
            gc.collect()
            began = time.perf_counter()
            answer = engine.write(ids, compiled, task.budget, temperature, seed)
            record.seconds = time.perf_counter() - began
            record.answer = answer
            record.complete = answer.tokens[-1] in engine.setting.eos
        except Exception as error:  # an engine that fails is a result as well
            record.error = f"{type(error).__name__}: {error}"[:300]
            say(f"{engine.name} on {task.name}: {record.error}")
        return record

    def save(self) -> None:
        """Writes all records, at once or not at all."""
        file = self.options.json
        if file is None:
            return
        content = {
            "versions": versions(),
            "threads": torch.get_num_threads(),
            "load_before": self.load,
            "seed": self.options.seed,
            "model": self.options.model,
            "records": [asdict(record) for record in self.records],
        }
        temporary = file.with_name(f".{file.name}.part")
        temporary.write_text(json.dumps(content), "utf-8")
        temporary.replace(file)


def loaded(name: str, limit: int, seed: int) -> list[Task]:
    """A set's tasks; none, and a line that says why, where its data cannot be had."""
    try:
        return tasks.load(name, limit, seed)
    except ModelUnavailable as error:
        say(f"{name} is left out: {error}")
        return []


def versions() -> dict[str, str]:
    """What took part."""
    found = {}
    for package in ("torch", "transformers", "xgrammar", "llguidance"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _brief(records: Sequence[Record]) -> str:
    """Speed-ups over the baseline, per token."""
    base = next((r for r in records if r.engine == BASELINE), None)
    if base is None or base.answer is None:
        return "no baseline"
    mine = per_token(base)
    return " ".join(
        f"{r.engine} {mine / per_token(r):.2f}" for r in records if r.answer and r is not base
    )


# -- tables ----------------------------------------------------------------------------------------


def per_token(record: Record) -> float:
    """Seconds."""
    assert record.answer is not None
    return record.seconds / len(record.answer.tokens)


def groups(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """(title, records) of each type, temperature and set; then of all sets together."""
    runs = dict.fromkeys((r.dtype, r.temperature) for r in records)
    for dtype, temperature in runs:
        mine = [r for r in records if (r.dtype, r.temperature) == (dtype, temperature)]
        sets = list(dict.fromkeys(r.set for r in mine))
        for name in sets:
            yield (
                f"{dtype}, temperature {temperature:g}, {name}",
                [r for r in mine if r.set == name],
            )
        if len(sets) > 1:
            yield f"{dtype}, temperature {temperature:g}, all sets", mine


def tables(records: Sequence[Record]) -> str:
    """Markdown."""
    lines: list[str] = []
    for title, mine in groups(records):
        lines += [f"\n### {title}\n", *_engine_table(mine), "", *_drafter_table(mine)]
    return "\n".join(lines)


def _by_engine(records: Sequence[Record]) -> dict[str, list[Record]]:
    """In the order in which the first prompt had them."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.engine, []).append(record)
    return found


def _engine_table(records: Sequence[Record]) -> list[str]:
    lines = [
        "| engine | prompts | failed | complete | same text | tokens per forward | ms per token | s "
        "| speed-up in all: median (p10 to p90) | per token: median (p10 to p90) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    base = {r.key: r for r in records if r.engine == BASELINE and r.answer}
    for name, mine in _by_engine(records).items():
        done = [r for r in mine if r.answer]
        failed = len(mine) - len(done)
        if not done:
            lines.append(f"| {name} | {len(mine)} | {failed} | | | | | | | |")
            continue
        tokens = sum(len(r.answer.tokens) for r in done if r.answer)
        forwards = sum(r.answer.forwards for r in done if r.answer)
        seconds = sum(r.seconds for r in done)
        pairs = [(base[r.key], r) for r in done if r.key in base]
        same = sum(a.answer.tokens == b.answer.tokens for a, b in pairs if a.answer and b.answer)
        lines.append(
            f"| {name} | {len(mine)} | {failed} | {sum(r.complete for r in done)} "
            f"| {same}/{len(pairs)} | {tokens / forwards:.2f} | {1e3 * seconds / tokens:.1f} "
            f"| {seconds:.1f} | {_spread([a.seconds / b.seconds for a, b in pairs])} "
            f"| {_spread([per_token(a) / per_token(b) for a, b in pairs])} |"
        )
    return lines


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _drafter_table(records: Sequence[Record]) -> list[str]:
    lines = ["| engine | drafter | drafted | accepted | share |", "|---|---|---:|---:|---:|"]
    for name, mine in _by_engine(records).items():
        answers = [r.answer for r in mine if r.answer]
        for drafter in sorted({d for a in answers for d in a.drafted}):
            drafted = sum(a.drafted.get(drafter, 0) for a in answers)
            accepted = sum(a.accepted.get(drafter, 0) for a in answers)
            share = f"{accepted / drafted:.0%}" if drafted else ""
            lines.append(f"| {name} | {drafter} | {drafted} | {accepted} | {share} |")
    return lines if len(lines) > 2 else []


# -- identity --------------------------------------------------------------------------------------


@dataclass
class Departure:
    """Where a text is not the baseline's."""

    engine: str
    task: Task
    at: int
    expected: str
    found: str
    gap: float


def identity(run: Run, count: int) -> list[Departure]:
    """Compares greedy texts in float32, token by token."""
    setting = run.setting("float32")
    wanted = run.options.engines or [DEFAULT]
    base, *others = engines_of(setting, wanted)
    compared = dict.fromkeys([e.name for e in others], 0)
    departures: list[Departure] = []
    chosen = mixed(run.options.sets, count, run.options.seed)
    for number, full in enumerate(chosen):
        task = shortened(full, base.compiled(full), run.options.budget)
        made_now = [run.one(e, task, "float32", 0.0, 0) for e in (base, *others)]
        run.records += made_now
        run.save()
        expected, *found = made_now
        for engine, record in zip(others, found, strict=True):
            if expected.answer and record.answer:
                compared[engine.name] += 1
                departure = departs(setting, base, task, expected.answer, record)
                departures += [departure] if departure else []
        say(f"identity {number + 1}/{len(chosen)} {task.set} {task.name}; {_brief(made_now)}")
        print_departures(departures, sum(compared.values()), sys.stderr)
    print(f"{len(chosen)} prompts, float32, temperature 0; compared with {BASELINE}:\n")
    print("| engine | prompts compared | identical |\n|---|---:|---:|")
    for name, total in compared.items():
        print(f"| {name} | {total} | {total - sum(d.engine == name for d in departures)} |")
    return departures


def shortened(task: Task, automaton: TokenAutomaton, budget: int | None) -> Task:
    """The task with a smaller budget, if a text fits it."""
    if budget is None:
        return task
    needed = automaton.min_tokens_to_accept(automaton.start) + 1
    return replace(task, budget=min(task.budget, max(budget, needed)))


def mixed(sets: Sequence[str], count: int, seed: int) -> list[Task]:
    """Tasks of all sets in turn."""
    found = [loaded(name, count, seed) for name in sets]
    turns = [t[i] for i in range(count) for t in found if i < len(t)]
    return turns[:count]


def departs(
    setting: Setting, base: Engine, task: Task, expected: Answer, record: Record
) -> Departure | None:
    """The first difference, if there is one."""
    assert record.answer is not None
    a, b = expected.tokens, record.answer.tokens
    if a == b:
        return None
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    ids = task.prompt_ids(setting.tokenizer)
    gap = top_gap(setting, base.compiled(task), ids, a[:at], task.budget)
    words = [_shown(setting, tokens, at) for tokens in (a, b)]
    return Departure(record.engine, task, at, words[0], words[1], gap)


def _shown(setting: Setting, tokens: Sequence[int], at: int) -> str:
    return repr(setting.tokenizer.decode([tokens[at]])) if at < len(tokens) else "(end)"


def top_gap(
    setting: Setting, automaton: TokenAutomaton, ids: list[int], common: list[int], budget: int
) -> float:
    """Difference between the two best logits that the grammar allows after a common beginning."""
    target = Constrained(automaton)
    state: int | None = target.start()
    for token in common:
        state = target.advance(state, token) if state is not None else None
    if state is None:
        return float("nan")
    with torch.no_grad():
        logits = setting.model(torch.tensor([ids + common])).logits[0, -1].double()
    allowed = target.weighting(state, budget - len(common)).ids
    assert allowed is not None
    best = logits[torch.from_numpy(allowed)].topk(min(2, len(allowed))).values
    return float(best[0] - best[-1]) if len(best) == 2 else float("inf")


def print_departures(departures: Sequence[Departure], total: int, stream: Any) -> None:
    """A table, nothing if there are none."""
    if not departures:
        return
    print(f"\n{len(departures)} of {total} texts depart:\n", file=stream)
    print("| engine | set | task | token | baseline | found | gap of the two best |", file=stream)
    print("|---|---|---|---:|---|---|---:|", file=stream)
    for d in departures:
        print(
            f"| {d.engine} | {d.task.set} | {d.task.name} | {d.at} | {d.expected} | {d.found} "
            f"| {d.gap:.2g} |",
            file=stream,
        )


# -- the command -----------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", default=",".join(tasks.SETS), help="sets of tasks, with commas")
    parser.add_argument("--engine", help="engines, with commas; default: all there are")
    parser.add_argument("--dtype", default="bfloat16,float32")
    parser.add_argument("--temperature", default="0", help="0, or 0,1")
    parser.add_argument("--limit", type=int, default=20, help="prompts of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--draft-model", help="a smaller model, for drafters that need one")
    parser.add_argument("--heads", type=Path, help="trained heads, for the drafter that needs them")
    parser.add_argument("--json", type=Path, help="records, written after every answer")
    parser.add_argument("--identity", type=int, metavar="N", help="compare texts of N prompts")
    parser.add_argument("--budget", type=int, help="of each answer, at most, with --identity")
    parser.add_argument("--show", type=Path, metavar="FILE", help="tables of such records")
    return parser.parse_args()


def main() -> None:
    """Prints Markdown tables."""
    given = parsed()
    if given.show:
        records = json.loads(given.show.read_text("utf-8"))["records"]
        print(tables([Record.of(plain) for plain in records]))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    transformers.logging.set_verbosity_error()
    if given.threads:
        torch.set_num_threads(given.threads)
    options = Options(
        sets=given.set.split(","),
        engines=given.engine.split(",") if given.engine else None,
        limit=given.limit,
        seed=given.seed,
        model=given.model,
        draft_model=given.draft_model,
        heads=given.heads,
        json=given.json,
        budget=given.budget,
    )
    run = Run(options)
    if given.identity:
        departures = identity(run, given.identity)
        print_departures(departures, len(run.records) - given.identity, sys.stdout)
        raise SystemExit(1 if departures else 0)
    try:
        for dtype in given.dtype.split(","):
            run.measure(dtype, [float(t) for t in given.temperature.split(",")])
    except KeyboardInterrupt:
        say("interrupted; the tables show what there is")
    print(" ".join(f"{k} {v}" for k, v in versions().items()), f"load before: {run.load}")
    print(tables(run.records))


if __name__ == "__main__":
    main()
