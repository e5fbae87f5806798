"""Latency of masks over real schemas, engine beside engine: tails, compile time, memory.

Every engine runs in one process of its own; the parent hands them the same schema one after the
other, so that all meet the same state of the machine, and nothing runs beside the engine that is
being timed.  Every schema is *cold*: it is compiled anew, and what an engine keeps for a vocabulary
(as a server would) is all that is shared.  For each instance of the schema, written as
``json.dumps(data, ensure_ascii=False)``, every token costs: fill the mask, test the token's bit,
advance.  With ``--warm`` all instances are read a second time with the same compiled schema.
With ``--budget SHARE`` an engine ``gramma+budget`` goes first and reads the same with a token budget: the
instance's own tokens, EOS included, times SHARE (1: not a token to spare), or the fewest that it knows of
if those are more.

Measured, in the process of the engine (one thread, garbage collector off within a schema):

* mask: microseconds for fill, test and advance, token by token;
* compile: milliseconds from the schema's text to an object that masks can be asked for;
* first mask: the same until the first mask is filled;
* distance (gramma only): ``min_tokens_to_accept(start)`` of a fresh automaton, after its first mask;
* memory: growth of the resident set over the schema, in MiB.

An instance is judged right if every token is allowed and the text may end where it is labelled
valid, and not otherwise.  A schema on which an engine takes longer than ``--seconds`` counts as
"slow" and its process is begun anew; times of tokens read until then are lost.  ``--clock cpu`` counts
the thread's own time, for machines with other work: there the tails of a wall clock are preemptions.

Usage: ``python benchmarks/maskbench.py --data PATH [--engines gramma,llguidance,xgrammar]``
``[--order schema] [--limit 100] [--seed 0] [--warm] [--distance] [--budget 1.1] [--tokenizer llama3]``
``[--clock wall|cpu] [--plot FILE.svg] [--json FILE]``; PATH as for ``schema_coverage.py``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from reporting import say, svg_words
from schema_coverage import ENGINES, Example, Gramma, GrammaRun, load, read_examples
from schema_suite import reason
from workers import LostError, Worker, memory

QUANTILES: Final = (25, 50, 75, 90, 99, 99.9)
_BUDGETED: Final = "gramma+budget"


@dataclass
class Record:
    """What an engine did with one schema.

    Attributes:
        id: of the schema.
        error: why it was refused, or "slow".
        right: whether every instance was judged as labelled.
        compile_ms, first_ms, distance_ms: see the module.
        cold, warm: microseconds of every token.
        slowest: (microseconds, instance, token number) of the slowest cold token.
        grown: MiB.
    """

    id: str
    error: str = ""
    right: bool = False
    compile_ms: float = math.nan
    first_ms: float = math.nan
    distance_ms: float = math.nan
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    slowest: tuple[float, int, int] = (0.0, 0, 0)
    grown: float = 0.0


# -- in the process of an engine -------------------------------------------------------------------


class BudgetRun(GrammaRun):
    """A text along an automaton, each mask with what is left of a budget.

    Args:
        tokens: of the text, EOS included.
        share: the budget by these tokens.
    """

    def __init__(self, automaton: Any, row: Any, tokens: int, share: float) -> None:
        super().__init__(automaton, row)
        self.left = 0
        if automaton is not None:
            fewest = automaton.min_tokens_to_accept(automaton.start) + 1
            self.left = max(math.ceil(tokens * share), fewest)

    def step(self, token: int) -> bool:
        if self.automaton is None:
            return False
        self.automaton.fill_mask(self.state, self.row, self.left)
        allowed = bool(self.row[token >> 5] >> (token & 31) & 1)
        self.state = self.automaton.advance(self.state, token)
        self.left -= 1
        return allowed and self.state != self.automaton.DEAD


class Budgeted(Gramma):
    """The engine of the project with a budget for each instance."""

    def __init__(self, tokenizer: Any, vocabulary: Any, share: float) -> None:
        super().__init__(tokenizer, vocabulary)
        self.share = share

    def start(self, compiled: Any, tokens: int = 0) -> BudgetRun:
        self.row[:] = -1
        return BudgetRun(compiled, self.row, tokens, self.share)


def begun(engine: Any, compiled: Any, instance: Any) -> Any:
    """A run over an instance."""
    if isinstance(engine, Budgeted):
        return engine.start(compiled, len(instance.ids) + 1)
    return engine.start(compiled)


def serve(name: str, tokenizer_name: str, order: str, clock: str, share: float, pipe: Any) -> None:
    """Answers examples with records until it is told to stop."""
    tokenizer, vocabulary = load(tokenizer_name)
    engine: Any
    if name == _BUDGETED:
        engine = Budgeted(tokenizer, vocabulary, share)
    else:
        engine = ENGINES[name](tokenizer, vocabulary)
    now = time.thread_time if clock == "cpu" else time.perf_counter
    warm_up(engine, tokenizer, order)
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        example, warm, distance = task
        for instance in example.instances:
            instance.ids = tokenizer.encode(instance.text, add_special_tokens=False)
        pipe.send(measure(engine, example, order, warm, distance, now))


def warm_up(engine: Any, tokenizer: Any, order: str) -> None:
    """Compiles and reads something small, so that imports and kernels are loaded."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    run = engine.start(engine.compile(schema, order))
    for token in tokenizer.encode('{"a": "x", "b": 12}', add_special_tokens=False):
        run.step(token)


def measure(
    engine: Any,
    example: Example,
    order: str,
    warm: bool,
    distance: bool,
    now: Callable[[], float],
) -> Record:
    """One schema: compiled, its instances read, once or twice."""
    record = Record(example.id)
    before = memory("VmRSS")
    gc.collect()
    gc.disable()
    try:
        began = now()
        compiled = engine.compile(example.schema, order)
        record.compile_ms = (now() - began) * 1e3
        first = engine.start(compiled)
        first.ends()
        record.first_ms = (now() - began) * 1e3
        if distance and hasattr(compiled, "min_tokens_to_accept"):
            began = now()
            compiled.min_tokens_to_accept(compiled.start)
            record.distance_ms = (now() - began) * 1e3
        record.right = True
        for number, instance in enumerate(example.instances):
            run = begun(engine, compiled, instance)
            good = read(run, instance.ids, record.cold, now, record, number)
            record.right &= good == instance.valid
        for instance in example.instances if warm else ():
            read(begun(engine, compiled, instance), instance.ids, record.warm, now)
    except Exception as error:
        record.error = reason(error)
        record.right = False
    finally:
        gc.enable()
    record.grown = max(0, memory("VmRSS") - before) / 2**20
    return record


def read(
    run: Any,
    ids: Sequence[int],
    times: list[float],
    now: Callable[[], float],
    record: Record | None = None,
    number: int = 0,
) -> bool:
    """Reads a text; whether it is allowed as a whole."""
    for place, token in enumerate(ids):
        began = now()
        allowed = run.step(token)
        taken = (now() - began) * 1e6
        times.append(taken)
        if record is not None and taken > record.slowest[0]:
            record.slowest = (taken, number, place)
        if not allowed:
            return False
    return bool(run.ends())


# -- in the parent ---------------------------------------------------------------------------------


def run(
    examples: Sequence[Example], workers: dict[str, Worker], warm: bool, distance: bool
) -> dict[str, list[Record]]:
    """All schemas by all engines, schema by schema."""
    records: dict[str, list[Record]] = {name: [] for name in workers}
    for number, example in enumerate(examples):
        for name in workers:
            try:
                record = workers[name].ask((example, warm, distance))
            except LostError as lost:
                record = Record(example.id, error=str(lost))
            records[name].append(record)
        if number % 50 == 49:
            say(f"{number + 1} of {len(examples)} schemas")
    return records


# -- what is printed -------------------------------------------------------------------------------


def summary(values: Sequence[float]) -> list[float]:
    """Mean, the quantiles, the largest."""
    found = np.array(values)
    return [found.mean(), *np.percentile(found, QUANTILES), found.max()]


def rows(records: dict[str, list[Record]], title: str, what: str, first: str) -> Iterator[str]:
    """A table of one figure, and its ratios of the first engine to each other one."""
    lines: dict[str, list[float]] = {}
    for name, found in records.items():
        values: list[float] = []
        for record in found:
            value = getattr(record, what)
            values += value if isinstance(value, list) else [value]
        values = [v for v in values if not math.isnan(v)]
        if values:
            lines[name] = summary(values)
    if not lines:
        return
    yield f"\n{title}\n"
    yield "| engine | avg | " + " | ".join(f"p{q}" for q in QUANTILES) + " | max |"
    yield "|---|" + "---:|" * (len(QUANTILES) + 2)
    for name, cells in lines.items():
        yield (
            f"| {name} | " + " | ".join(f"{c:,.3g}" if c < 1 else f"{c:,.1f}" for c in cells) + " |"
        )
    for name, cells in lines.items():
        if name != first and first in lines:
            ratios = [a / b if b else math.nan for a, b in zip(lines[first], cells, strict=True)]
            yield f"| {first} / {name} | " + " | ".join(f"{r:,.2f}" for r in ratios) + " |"


def verdicts(records: dict[str, list[Record]]) -> Iterator[str]:
    """How many schemas were judged right, refused, too slow."""
    yield "\n| engine | schemas | right | refused | slow or died | tokens |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, found in records.items():
        lost = sum(r.error in ("slow", "died") for r in found)
        refused = sum(bool(r.error) for r in found) - lost
        right = sum(r.right for r in found)
        tokens = sum(len(r.cold) for r in found)
        yield f"| {name} | {len(found)} | {right} | {refused} | {lost} | {tokens:,} |"


def worst(records: Sequence[Record], count: int) -> Iterator[str]:
    """The slowest tokens of an engine, at most one a schema."""
    for record in sorted(records, key=lambda r: -r.slowest[0])[:count]:
        taken, number, place = record.slowest
        yield f"| {record.id} | instance {number}, token {place} | {taken:,.0f} |"


_WIDTH: Final = 720
_HEIGHT: Final = 400
_MARGIN: Final = 56
_INKS: Final = ("#1b6ca8", "#c2571a", "#3f8f3f", "#7a3fa0")


def plot(curves: dict[str, Sequence[float]], path: Path) -> None:
    """Draws the share of tokens within a time, over the logarithm of that time, as SVG.

    The share is drawn as minus the logarithm of what lies above it, so that each step up is one more
    nine: 90, 99, 99.9, 99.99 %.
    """
    low = math.floor(math.log10(min(min(v) for v in curves.values())))
    high = math.ceil(math.log10(max(max(v) for v in curves.values())))
    nines = max(math.log10(len(v)) for v in curves.values())

    def x(micros: float) -> float:
        return _MARGIN + (math.log10(micros) - low) / (high - low) * (_WIDTH - 2 * _MARGIN)

    def y(above: float) -> float:
        return _HEIGHT - _MARGIN + math.log10(above) / nines * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        svg_words(
            _WIDTH / 2, 20, "middle", "share of tokens whose mask, test and advance took at most"
        ),
    ]
    for exponent in range(low, high + 1):
        at = x(10.0**exponent)
        unit = f"{10**exponent:g} µs" if exponent < 3 else f"{10 ** (exponent - 3):g} ms"
        parts.append(f'<path d="M{at:.1f} {_MARGIN}V{_HEIGHT - _MARGIN}" stroke="#ddd"/>')
        parts.append(svg_words(at, _HEIGHT - _MARGIN + 18, "middle", unit))
    for exponent in range(int(nines) + 1):
        at = y(10.0**-exponent)
        share = 100 * (1 - 10.0**-exponent)
        parts.append(f'<path d="M{_MARGIN} {at:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
        parts.append(svg_words(_MARGIN - 6, at + 4, "end", f"{share:.6g} %"))
    for (name, values), ink in zip(curves.items(), _INKS, strict=False):
        ordered = np.sort(np.array(values))
        above = 1 - np.arange(len(ordered)) / len(ordered)
        keep = np.unique(np.geomspace(1, len(ordered), 400).astype(int)) - 1
        keep = np.unique(np.concatenate([keep, len(ordered) - 1 - keep]))
        points = " ".join(f"{x(ordered[i]):.1f},{y(above[i]):.1f}" for i in keep)
        parts.append(f'<polyline fill="none" stroke="{ink}" stroke-width="2" points="{points}"/>')
        parts.append(svg_words(_MARGIN + 110 * list(curves).index(name), 42, "start", name, ink))
    path.write_text("\n".join([*parts, "</svg>"]), "utf-8")


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--engines", default="gramma,llguidance")
    parser.add_argument("--order", choices=["schema", "any"], default="schema")
    parser.add_argument("--limit", type=int, default=0, help="a random choice of so many schemas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--distance", action="store_true")
    parser.add_argument("--budget", type=float, default=0.0, help="by the tokens of an instance")
    parser.add_argument("--tokenizer", default="llama3")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--worst", type=int, default=10, help="slowest tokens to list")
    parser.add_argument("--named", default="", help="only schemas whose id contains this")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.engines.split(",")
    if options.budget:
        names.insert(0, _BUDGETED)
    examples = read_examples(options.data, options.limit, options.seed, options.named)
    workers = {
        name: Worker(
            serve,
            (name, options.tokenizer, options.order, options.clock, options.budget),
            options.seconds,
        )
        for name in names
    }
    records = run(examples, workers, options.warm, options.distance)
    for worker in workers.values():
        worker.stop()
    print(f"{options.tokenizer}, order {options.order!r}, {len(examples)} schemas, each cold")
    for text in verdicts(records):
        print(text)
    tables = [
        ("Fill, test, advance; microseconds a token, cold", "cold"),
        ("The same, warm", "warm"),
        ("Schema to compiled object, ms", "compile_ms"),
        ("Schema to first mask, ms", "first_ms"),
        ("Fewest tokens from the start, ms", "distance_ms"),
        ("Memory a schema, MiB", "grown"),
    ]
    for title, what in tables:
        for text in rows(records, title, what, names[0]):
            print(text)
    print(f"\nSlowest tokens of {names[0]}, microseconds\n")
    for text in worst(records[names[0]], options.worst):
        print(text)
    if options.plot:
        plot(
            {name: [t for r in found for t in r.cold] for name, found in records.items()},
            options.plot,
        )
    if options.json:
        options.json.write_text(
            json.dumps({name: [vars(r) for r in found] for name, found in records.items()})
        )


if __name__ == "__main__":
    main()
