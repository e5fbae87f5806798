"""What engines make of real schemas and their instances, token by token.

Each schema comes with instances that are valid or not.  An instance is written as
``json.dumps(data, ensure_ascii=False)`` and spelled by the tokenizer; at every token the mask's bit
must be set, and at the end EOS must be allowed; for an invalid instance one of these must fail.
Known formats are asserted.  For each schema:

* right: it compiles, every instance is judged as labelled, no dead end;
* refused: a compile error;
* wrongly rejects / wrongly accepts: an instance is judged otherwise than labelled;
* dead end: a state is reached whose mask is empty;
* failed: an error while masks were computed;
* died: the process ended, grew beyond 6 GB, or took longer than 40 s.

Every engine runs in processes of its own.  Schemas of one process share what an engine keeps for a
vocabulary (as in a server), nothing else.  Times: milliseconds to compile a schema until the first
mask can be asked for; microseconds a token for fill, test and advance.  For ``gramma`` every schema
that is not right is listed with its reason, instances wrongly rejected in the order of the schema
with the verdict in any order.  Labels are compared with jsonschema-rs.

Usage: ``python benchmarks/schema_coverage.py --data PATH [--engine gramma,llguidance,xgrammar]``
``[--order schema,any] [--limit 100] [--seed 0] [--jobs 2] [--json FILE]``

PATH is a file of JSON lines, compressed or not, or a folder of such files: {id, schema, tests:
[{valid, data}]}; of the folder only files named ``maskbench*`` if there are any.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import jsonschema
import jsonschema_rs
import jsonschema_specifications
import numpy as np
from schema_suite import DRAFTS, Answer, gist, read_lines, reason, run_all

from constrain import TokenAutomaton, Vocabulary
from constrain.models import load_tokenizer
from grammars import Grammar

os.environ["GRAMMA_PROGRAMS"] = "off"  # compiling is measured, not reading what was compiled before
SECONDS = 40.0
"""For one schema with all its instances."""

COLUMNS = ("right", "refused", "wrongly rejects", "wrongly accepts", "dead end", "failed", "died")


# --- the data ------------------------------------------------------------------------------------


@dataclass
class Instance:
    """A value as text and tokens, with the label."""

    valid: bool
    text: str
    ids: list[int] = field(default_factory=list)
    verdict: bool | None = None
    """Of the reference validator."""


@dataclass
class Example:
    """A schema with its instances."""

    id: str
    schema: Any
    instances: list[Instance]
    complaint: str = ""
    """Why the reference validator cannot use the schema."""


def read_examples(path: Path, limit: int, seed: int, named: str = "") -> list[Example]:
    """Schemas in the order of the files; a random choice of ``limit`` of them if that is not 0."""
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("maskbench*.jsonl*")) or [path]
    lines = [line for file in files for line in read_lines(file) if named in line["id"]]
    if 0 < limit < len(lines):
        lines = [lines[i] for i in sorted(random.Random(seed).sample(range(len(lines)), limit))]
    return [
        Example(
            line["id"],
            line["schema"],
            [
                Instance(test["valid"], json.dumps(test["data"], ensure_ascii=False))
                for test in line["tests"]
            ],
        )
        for line in lines
    ]


class PythonValidator:
    """The package jsonschema, behind the methods of jsonschema-rs that are used here.

    It shares no code with jsonschema-rs and does not check the schema itself first.
    """

    def __init__(self, schema: Any) -> None:
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        self._validator = kind(
            schema, format_checker=kind.FORMAT_CHECKER, registry=jsonschema_specifications.REGISTRY
        )

    def is_valid(self, value: Any) -> bool:
        return bool(self._validator.is_valid(value))

    def iter_errors(self, value: Any) -> Iterator[Any]:
        for error in self._validator.iter_errors(value):
            yield SimpleNamespace(instance_path=error.absolute_path, message=error.message)


def validator_of(schema: Any) -> Any:
    """A validator by ``$schema``, formats asserted, nothing fetched: jsonschema-rs.

    Without a usable ``$schema`` it is that of 2020-12, or of the newest draft that knows the schema's
    forms.  Where jsonschema-rs refuses the schema, the package jsonschema stands in.
    """
    options: dict[str, Any] = {"validate_formats": True, "offline": True}
    with suppress(ValueError):
        return jsonschema_rs.validator_for(schema, **options)
    bare = schema
    if isinstance(schema, dict) and schema.get("$schema") not in DRAFTS.values():
        bare = {key: value for key, value in schema.items() if key != "$schema"}
        for kind in ("Draft202012", "Draft7", "Draft4"):
            with suppress(ValueError):
                return getattr(jsonschema_rs, f"{kind}Validator")(bare, **options)
    return PythonValidator(bare)


def prepare(example: Example, tokenizer: Any) -> Example:
    """With tokens and the validator's verdicts."""
    for instance in example.instances:
        instance.ids = tokenizer.encode(instance.text, add_special_tokens=False)
    try:
        validator = validator_of(example.schema)
        for instance in example.instances:
            instance.verdict = validator.is_valid(json.loads(instance.text))
    except Exception as error:
        example.complaint = reason(error)
    return example


# --- engines -------------------------------------------------------------------------------------


class Run(Protocol):
    """One text being written."""

    row: Any
    """The mask at the last step, int32 words."""

    def step(self, token: int) -> bool:
        """Fills the mask, tests the token's bit, advances; whether the token was allowed."""

    def ends(self) -> bool:
        """Whether the text may end here; fills the mask."""


class Engine(Protocol):
    """What compiles schemas."""

    def compile(self, schema: Any, order: str) -> Any:
        """Raises an error if the schema is refused."""

    def start(self, compiled: Any) -> Run:
        """A text not yet begun."""


class GrammaRun:
    """A text along an automaton; none for an empty language, which allows nothing."""

    def __init__(self, automaton: Any, row: Any) -> None:
        self.automaton, self.row = automaton, row
        self.state = automaton.start if automaton else 0

    def step(self, token: int) -> bool:
        if self.automaton is None:
            return False
        self.automaton.fill_mask(self.state, self.row)
        allowed = bool(self.row[token >> 5] >> (token & 31) & 1)
        self.state = self.automaton.advance(self.state, token)
        return allowed and self.state != self.automaton.DEAD

    def ends(self) -> bool:
        if self.automaton is None:
            return False
        self.automaton.fill_mask(self.state, self.row)
        return any(
            self.row[token >> 5] >> (token & 31) & 1
            for token in self.automaton.vocabulary.eos_token_ids
        )


class Gramma:
    """The engine of the project."""

    orders = ("schema", "any")

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.row = np.zeros((vocabulary.size + 31) // 32, np.int32)

    def compile(self, schema: Any, order: str) -> Any:
        grammar = Grammar.from_json_schema(
            schema, property_order="any" if order == "any" else "schema"
        )
        return None if grammar.is_empty else TokenAutomaton(grammar, self.vocabulary)

    def start(self, compiled: Any) -> GrammaRun:
        self.row[:] = -1
        return GrammaRun(compiled, self.row)


class LLGuidanceRun:
    """A text along a matcher."""

    def __init__(self, masks: Any, matcher: Any, rows: Any) -> None:
        self.masks, self.matcher, self.rows, self.row = masks, matcher, rows, rows[0]

    def step(self, token: int) -> bool:
        self.masks.fill_next_token_bitmask(self.matcher, self.rows, 0)
        allowed = bool(self.row[token >> 5] >> (token & 31) & 1)
        return allowed and bool(self.matcher.consume_token(token))

    def ends(self) -> bool:
        self.masks.fill_next_token_bitmask(self.matcher, self.rows, 0)
        return bool(self.matcher.is_accepting())


class LLGuidance:
    """llguidance through its Python bindings, with the slices it recommends for JSON."""

    orders = ("schema",)

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        import llguidance
        import llguidance.numpy as masks

        self.lib, self.masks = llguidance, masks
        slices = llguidance.LLTokenizer.json_slices()
        text = tokenizer.backend_tokenizer.to_str()
        self.tokenizer = llguidance.LLTokenizer(text, slices=slices)
        self.rows = masks.allocate_token_bitmask(1, self.tokenizer.vocab_size)

    def compile(self, schema: Any, order: str) -> Any:
        text = json.dumps(schema)
        grammar = self.lib.LLMatcher.grammar_from_json_schema(
            text, overrides={"whitespace_flexible": True}
        )
        matcher = self.lib.LLMatcher(self.tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def start(self, compiled: Any) -> LLGuidanceRun:
        return LLGuidanceRun(self.masks, compiled.deep_copy(), self.rows)


class XGrammarRun:
    """A text along a matcher."""

    def __init__(self, matcher: Any, rows: Any, eos: tuple[int, ...]) -> None:
        self.matcher, self.rows, self.eos = matcher, rows, eos
        self.row = rows.numpy()[0]

    def fill(self) -> None:
        if not self.matcher.fill_next_token_bitmask(self.rows, 0):
            self.row[:] = -1

    def step(self, token: int) -> bool:
        self.fill()
        allowed = bool(self.row[token >> 5] >> (token & 31) & 1)
        return allowed and bool(self.matcher.accept_token(token))

    def ends(self) -> bool:
        self.fill()
        return any(self.row[token >> 5] >> (token & 31) & 1 for token in self.eos)


class XGrammar:
    """xgrammar: any whitespace, not strict (absent ``additionalProperties`` allows others)."""

    orders = ("schema", "any")

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        import xgrammar

        self.lib = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, stop_token_ids=list(vocabulary.eos_token_ids)
        )
        self.eos = vocabulary.eos_token_ids
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.rows = xgrammar.allocate_token_bitmask(1, info.vocab_size)

    def compile(self, schema: Any, order: str) -> Any:
        options = {"any_order": True} if order == "any" else {}
        return self.compiler.compile_json_schema(
            json.dumps(schema), any_whitespace=True, strict_mode=False, **options
        )

    def start(self, compiled: Any) -> XGrammarRun:
        return XGrammarRun(self.lib.GrammarMatcher(compiled), self.rows, self.eos)


class OutlinesRun:
    """A text along a guide."""

    def __init__(self, guide: Any, row: Any) -> None:
        self.guide, self.row = guide, row

    def fill(self) -> None:
        row = self.row
        self.guide.write_mask_into(row.ctypes.data, row.size, row.itemsize)

    def step(self, token: int) -> bool:
        self.fill()
        allowed = bool(self.row[token >> 5] >> (token & 31) & 1)
        if allowed:
            self.guide.advance(token, return_tokens=False)
        return allowed

    def ends(self) -> bool:
        self.fill()
        return bool(self.guide.is_finished())


class Outlines:
    """outlines-core: a regular expression and an index over the vocabulary."""

    orders = ("schema",)

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        import outlines_core
        import outlines_core.json_schema

        self.lib = outlines_core
        ids: dict[bytes, list[int]] = {}
        for i in range(vocabulary.size):
            data = vocabulary.token_bytes(i)
            if data:
                ids.setdefault(data, []).append(i)
        self.vocabulary = outlines_core.Vocabulary(vocabulary.eos_token_ids[0], ids)
        self.row = np.zeros((vocabulary.size + 31) // 32, np.int32)

    def compile(self, schema: Any, order: str) -> Any:
        pattern = self.lib.json_schema.build_regex_from_schema(json.dumps(schema))
        return self.lib.Index(pattern, self.vocabulary)

    def start(self, compiled: Any) -> OutlinesRun:
        return OutlinesRun(self.lib.Guide(compiled), self.row)


ENGINES: dict[str, Any] = {
    "gramma": Gramma,
    "llguidance": LLGuidance,
    "xgrammar": XGrammar,
    "outlines": Outlines,
}


# --- one schema ----------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What an engine makes of a schema."""

    id: str
    error: str | None = None
    """Why it does not compile."""
    died: str | None = None
    tests: str = ""
    """For each instance: right ``.``, wrongly rejected ``R`` or accepted ``A``, dead end ``D``,
    failed ``F``."""
    why: list[str] = field(default_factory=list)
    compile_ms: float = 0.0
    microseconds: Any = field(default_factory=lambda: np.zeros(0, np.float32))

    def kinds(self) -> set[str]:
        """The columns of the table it counts in."""
        found = {
            "refused": self.error is not None,
            "died": self.died is not None,
            "wrongly rejects": "R" in self.tests,
            "wrongly accepts": "A" in self.tests,
            "dead end": "D" in self.tests,
            "failed": "F" in self.tests,
        }
        return {kind for kind, holds in found.items() if holds} or {"right"}


def examine(example: Example, name: str, order: str) -> Outcome:
    """One schema with all its instances."""
    engine = engine_of(name)
    outcome = Outcome(example.id)
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    try:
        compiled = engine.compile(example.schema, order)
        engine.start(compiled)
    except Exception as error:
        outcome.error = reason(error)
        return outcome
    finally:
        gc.enable()
    outcome.compile_ms = (time.perf_counter() - began) * 1e3
    seconds: list[float] = []
    for number, instance in enumerate(example.instances):
        letter, place = follow(engine, compiled, instance, seconds)
        outcome.tests += letter
        if letter != ".":
            why = f"instance {number}: {place}"
            if name == "gramma":
                why += explained(example.schema, instance, letter, order)
            outcome.why.append(why)
    outcome.microseconds = np.array(seconds, np.float32) * 1e6
    return outcome


def follow(
    engine: Engine, compiled: Any, instance: Instance, seconds: list[float]
) -> tuple[str, str]:
    """The letter of an instance, and where what is wrong was seen."""
    run = engine.start(compiled)
    gc.disable()
    try:
        for at, token in enumerate(instance.ids):
            began = time.perf_counter()
            allowed = run.step(token)
            seconds.append(time.perf_counter() - began)
            if not run.row.any():
                return "D", f"empty mask before token {at} of {len(instance.ids)}"
            if not allowed:
                place = f"refused at token {at} of {len(instance.ids)}"
                return ("R", place) if instance.valid else (".", "")
        ends = run.ends()
        if not run.row.any():
            return "D", "empty mask at the end"
    except Exception as error:
        return "F", reason(error)
    finally:
        gc.enable()
    if ends == instance.valid:
        return ".", ""
    return ("A", "accepted to its end") if ends else ("R", "may not end")


def explained(schema: Any, instance: Instance, letter: str, order: str) -> str:
    """More about an instance that gramma misjudged."""
    try:
        if letter == "R" and order == "schema":
            loose = Grammar.from_json_schema(schema, property_order="any")
            if loose.accepts(instance.text):
                return "; the order of keys: accepted in any order"
        if letter != "A":
            grammar = Grammar.from_json_schema(
                schema, property_order="any" if order == "any" else "schema"
            )
            return "; " + " ".join(str(grammar.explain(instance.text)).split())[:300]
    except Exception as error:
        return f"; {reason(error)}"
    return f": {instance.text[:200]!a}"


_engines: dict[str, Any] = {}
_loaded: list[Any] = []


def engine_of(name: str) -> Any:
    """The engine of this process, made when it is first asked for."""
    if name not in _engines:
        _engines[name] = ENGINES[name](*_loaded)
    return _engines[name]


def load(name: str) -> tuple[Any, Vocabulary]:
    """Tokenizer and vocabulary, with compiled code and the vocabulary's tables made once."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = load_tokenizer(name)
    vocabulary = Vocabulary.from_huggingface(tokenizer)
    automaton = TokenAutomaton(Grammar.from_json_schema({"type": "object"}), vocabulary)
    state = automaton.start
    for token in tokenizer.encode('{"a": [1, "b"]}', add_special_tokens=False):
        automaton.mask(state)
        state = automaton.advance(state, token)
    automaton.mask(state)
    return tokenizer, vocabulary


# --- the report ----------------------------------------------------------------------------------


def survey(examples: list[Example], name: str, order: str, jobs: int) -> list[Outcome] | None:
    """Outcomes of one engine; ``None`` if it is not installed."""
    probe = run_all(
        lambda name: _probe(name), [name], jobs=1, seconds=600, label=f"loading {name}"
    )[0]
    if probe.lost or probe.value:
        print(f"{name} cannot be used: {probe.lost or probe.value}", file=sys.stderr)
        return None
    answers = run_all(
        lambda example: examine(example, name, order),
        examples,
        jobs=jobs,
        seconds=SECONDS,
        label=f"{name} ({order})",
    )
    return [outcome_of(e, answer) for e, answer in zip(examples, answers, strict=True)]


def outcome_of(example: Example, answer: Answer) -> Outcome:
    """The outcome, also where the process was lost."""
    if answer.lost is None:
        outcome: Outcome = answer.value
        return outcome
    return Outcome(example.id, died=answer.lost)


def _probe(name: str) -> str | None:
    try:
        engine_of(name)
    except Exception as error:
        return reason(error)
    return None


def outcome_row(name: str, order: str, outcomes: list[Outcome]) -> str:
    """A row of the first table."""
    counts = Counter(kind for outcome in outcomes for kind in outcome.kinds())
    cells = " | ".join(f"{counts[column]:,}" for column in COLUMNS)
    return f"| {name} | {order} | {len(outcomes):,} | {cells} | {share(counts, outcomes)} |"


def share(counts: Counter[str], outcomes: list[Outcome]) -> str:
    """Of all schemas those that are right."""
    return f"{counts['right'] / max(1, len(outcomes)):.2%}"


def time_row(name: str, order: str, outcomes: list[Outcome]) -> str:
    """A row of the second table."""
    us = np.concatenate([np.zeros(0), *(outcome.microseconds for outcome in outcomes)])
    ms = np.array([outcome.compile_ms for outcome in outcomes if outcome.compile_ms])
    if not len(us) or not len(ms):
        return f"| {name} | {order} | nothing to measure " + "| " * 11 + "|"
    cells = [us.mean(), *np.percentile(us, [25, 50, 90, 99, 99.9]), us.max()]
    cells += [ms.mean(), *np.percentile(ms, [50, 99]), ms.max()]
    return f"| {name} | {order} | {len(us):,} | " + " | ".join(f"{c:,.1f}" for c in cells) + " |"


def list_labels(examples: list[Example]) -> None:
    """Prints where the reference validator disagrees with the labels."""
    apart = 0
    for example in examples:
        wrong = [
            f"{number} (labelled {'valid' if instance.valid else 'invalid'})"
            for number, instance in enumerate(example.instances)
            if instance.verdict not in (None, instance.valid)
        ]
        if wrong or example.complaint:
            apart += 1
            print(f"{example.id}: {example.complaint or 'instances ' + ', '.join(wrong)}")
    count = len(examples)
    print(f"jsonschema-rs agrees with the labels of {count - apart:,} of {count:,} schemas\n")


def list_reasons(name: str, order: str, outcomes: list[Outcome]) -> None:
    """Prints every schema that is not right, and causes of refusals counted."""
    causes: Counter[str] = Counter()
    print(f"{name}, order {order!r}: what is not right")
    for outcome in outcomes:
        kinds = outcome.kinds()
        if kinds == {"right"}:
            continue
        print(f"{outcome.id}: {', '.join(sorted(kinds))}")
        for why in [outcome.error, outcome.died, *outcome.why]:
            if why:
                print(f"    {why}")
        if outcome.error:
            causes[gist(outcome.error)] += 1
    if causes:
        print("Refused, by cause:")
        for cause, number in causes.most_common():
            print(f"{number:6,}  {cause}")
    print()


def main() -> None:
    """Prints reasons and two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--engine", default="gramma", help="of " + ",".join(ENGINES))
    parser.add_argument("--order", default="schema", help="of schema,any")
    parser.add_argument("--limit", type=int, default=0, help="a random choice of so many schemas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--id", default="", help="only schemas with this in their ids")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tokenizer", default="llama3")
    parser.add_argument("--json", type=Path, help="write the outcome of every schema there")
    options = parser.parse_args()
    names, orders = options.engine.split(","), options.order.split(",")
    if unknown := (set(names) - set(ENGINES)) | (set(orders) - {"schema", "any"}):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")

    examples = read_examples(options.data, options.limit, options.seed, options.id)
    tokenizer, vocabulary = load(options.tokenizer)
    _loaded[:] = [tokenizer, vocabulary]
    prepared = run_all(
        lambda example: prepare(example, tokenizer),
        examples,
        jobs=options.jobs,
        seconds=SECONDS,
        label="labels and tokens",
    )
    for i, answer in enumerate(prepared):
        if answer.lost is None:
            examples[i] = answer.value
        else:
            examples[i].complaint = f"jsonschema-rs: {answer.lost}"
            for instance in examples[i].instances:
                instance.ids = tokenizer.encode(instance.text, add_special_tokens=False)
    list_labels(examples)

    first, second, record = [], [], []
    for name in names:
        for order in orders:
            if order not in ENGINES[name].orders and len(orders) > 1:
                continue
            outcomes = survey(examples, name, order, options.jobs)
            if outcomes is None:
                continue
            if name == "gramma":
                list_reasons(name, order, outcomes)
            first.append(outcome_row(name, order, outcomes))
            second.append(time_row(name, order, outcomes))
            for outcome in outcomes:
                us = outcome.microseconds
                entry = {"engine": name, "order": order, "kinds": sorted(outcome.kinds())}
                entry |= asdict(outcome) | {"microseconds": round(float(us.sum()), 1)}
                record.append(entry | {"tokens": len(us)})

    tokens = sum(len(instance.ids) for example in examples for instance in example.instances)
    print(f"{len(examples):,} schemas, {tokens:,} tokens of instances ({options.tokenizer})\n")
    print("| engine | order | schemas | " + " | ".join(COLUMNS) + " | right |")
    print("|---|---|" + "---:|" * (len(COLUMNS) + 2))
    print("\n".join(first))
    print("\nMicroseconds a token, milliseconds a schema:\n")
    print(
        "| engine | order | tokens | avg | p25 | p50 | p90 | p99 | p99.9 | max "
        "| compile avg | p50 | p99 | max |"
    )
    print("|---|---|" + "---:|" * 12)
    print("\n".join(second))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1), "utf-8")


if __name__ == "__main__":
    main()
