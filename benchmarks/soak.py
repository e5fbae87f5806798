"""Months of a server in an hour: ever new schemas, then many tokens over a few of them.

1. ``schemas``: so many different JSON Schemas over one vocabulary, each compiled, walked by random allowed
   tokens with a mask each, and let go.  Printed for each tenth: resident memory, what a schema took from its
   text to its first mask, and masks.
2. ``tokens``: random walks over ``--automata`` of them in turns, a new text where one ends, with ``trim``
   after every ``--every`` tokens of an automaton.  Printed for each tenth: resident memory, states held,
   masks and steps.

All in one process, so that what leaks shows.  Times are processor time of the thread, which other programs
do not lengthen.  What Python's garbage collections took within a mask is told apart: they look through all
objects of the process, whoever made them.  The figure draws memory and the slowest percent of masks of both.

Usage: ``python benchmarks/soak.py [--schemas 10000] [--tokens 1000000] [--tokenizer smollm2]
[--plot FILE.svg] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from reporting import say, svg_words, table
from schema_coverage import load
from workers import memory

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar

_TENTHS: Final = 10
_WIDTH: Final = 720
_HEIGHT: Final = 300
_MARGIN: Final = 60
_PATTERNS: Final = ("[A-Z]{2,4}-[0-9]{3,6}", "\\d{4}-\\d{2}", "[a-z]+(\\.[a-z]+)*", "#[0-9a-f]{6}")
_FORMATS: Final = ("date", "date-time", "uuid", "ipv4", "email")


# -- schemas ---------------------------------------------------------------------------------------


def schema(r: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema as applications write them: records of records, lists, choices, formats and bounds."""
    kinds = ["string", "integer", "number", "boolean", "enum", "pattern", "format", "choice"]
    kind = r.choice(kinds if depth > 2 else [*kinds, "object", "object", "object", "array"])
    if depth == 0:
        kind = "object"
    match kind:
        case "object":
            names = [name(r) for _ in range(r.randint(1, 6))]
            return {
                "type": "object",
                "properties": {each: schema(r, depth + 1) for each in names},
                "required": r.sample(names, r.randint(0, len(names))),
                "additionalProperties": r.random() < 0.2,
            }
        case "array":
            return {"type": "array", "items": schema(r, depth + 1), "maxItems": r.randint(1, 9)}
        case "enum":
            return {"enum": [name(r) for _ in range(r.randint(2, 12))]}
        case "pattern":
            return {"type": "string", "pattern": f"^{r.choice(_PATTERNS)}$"}
        case "format":
            return {"type": "string", "format": r.choice(_FORMATS)}
        case "choice":
            return {"anyOf": [schema(r, depth + 1), {"type": "null"}]}
        case "string":
            return {"type": "string", "maxLength": r.randint(1, 60)}
        case "integer":
            low = r.randint(-1000, 1000)
            return {"type": "integer", "minimum": low, "maximum": low + r.randint(1, 10**6)}
    return {"type": kind}


def name(r: random.Random) -> str:
    """A made-up word."""
    return "".join(r.choice("bdfgklmnprst") + r.choice("aeiou") for _ in range(r.randint(2, 4)))


# -- walks -----------------------------------------------------------------------------------------


class Collections:
    """Processor time of garbage collections, by generation, from its making on.

    Attributes:
        seconds: of all of them so far.
        full: seconds of each full one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.full: list[float] = []
        self._began = 0.0
        gc.callbacks.append(self._told)

    def _told(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        took = time.thread_time() - self._began
        self.seconds += took
        if info["generation"] == 2:
            self.full.append(took)


@dataclass
class Window:
    """What was measured within a tenth of a part.

    Attributes:
        collections: of the process.
        compiled, masks, steps: seconds each.
        collected: seconds of garbage collections within each mask.
    """

    collections: Collections
    compiled: list[float] = field(default_factory=list)
    masks: list[float] = field(default_factory=list)
    collected: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)

    def record(self, **more: Any) -> dict[str, Any]:
        """A line of the table: milliseconds and microseconds."""
        found: dict[str, Any] = {**more, "MB": round(memory("VmRSS") / 1e6)}
        if self.compiled:
            for percent in (50, 99):
                found[f"schema p{percent}, ms"] = round(
                    1e3 * np.percentile(self.compiled, percent), 1
                )
        for kind, values in (("mask", self.masks), ("step", self.steps)):
            for percent in (50, 99):
                found[f"{kind} p{percent}, us"] = _rounded(1e6, values, percent)
        found["mask max, ms"] = round(1e3 * max(self.masks), 1)
        found["without collections"] = round(
            1e3 * max(m - c for m, c in zip(self.masks, self.collected, strict=True)), 1
        )
        full, self.collections.full = self.collections.full, []
        found["full collections"] = len(full)
        found["longest, ms"] = round(1e3 * max(full, default=0.0), 1)
        return found


def _rounded(scale: float, values: list[float], percent: int) -> float:
    return round(float(scale * np.percentile(values, percent)), 1)


class Walk:
    """A text of random allowed tokens, and another one where it ends."""

    def __init__(self, automaton: TokenAutomaton, seed: int) -> None:
        self.automaton = automaton
        self.state = automaton.start
        self._random = np.random.default_rng(seed)
        self._ends = np.array(automaton.vocabulary.eos_token_ids)

    def go(self, window: Window) -> None:
        """One token, with its mask."""
        collected = window.collections.seconds
        began = time.thread_time()
        allowed = self.automaton.allowed_tokens(self.state)
        between = time.thread_time()
        window.masks.append(between - began)
        window.collected.append(window.collections.seconds - collected)
        ends = allowed[np.isin(allowed, self._ends)]
        token = int(ends[0] if len(ends) else self._random.choice(allowed))
        between = time.thread_time()
        self.state = self.automaton.advance(self.state, token)
        window.steps.append(time.thread_time() - between)
        if self.state == self.automaton.FINISHED:
            self.state = self.automaton.start
        elif self.state == self.automaton.DEAD:
            raise RuntimeError(f"token {token} was allowed and leads nowhere")


def new_schemas(
    count: int, vocabulary: Vocabulary, tokens: int, seed: int, collections: Collections
) -> Iterator[dict[str, Any]]:
    """Compiles, walks and lets go of schema after schema."""
    r = random.Random(seed)
    window = Window(collections)
    for number in range(1, count + 1):
        began = time.thread_time()
        automaton = TokenAutomaton(Grammar.from_json_schema(schema(r)), vocabulary)
        automaton.mask(automaton.start)
        window.compiled.append(time.thread_time() - began)
        walk = Walk(automaton, number)
        for _ in range(tokens):
            walk.go(window)
        if number % max(count // _TENTHS, 1) == 0:
            yield window.record(schemas=number)
            window = Window(collections)


def many_tokens(
    count: int,
    vocabulary: Vocabulary,
    automata: int,
    every: int,
    seed: int,
    collections: Collections,
) -> Iterator[dict[str, Any]]:
    """Tokens over some automata in turns, which forget their states from time to time."""
    r = random.Random(seed)
    made = [
        TokenAutomaton(Grammar.from_json_schema(schema(r)), vocabulary) for _ in range(automata)
    ]
    walks = [Walk(automaton, number) for number, automaton in enumerate(made)]
    window = Window(collections)
    for number in range(1, count + 1):
        walk = walks[number % automata]
        walk.go(window)
        if number // automata % every == 0:
            walk.automaton.trim([walk.state])
        if number % max(count // _TENTHS, 1) == 0:
            yield window.record(tokens=number, states=sum(a.state_count for a in made))
            window = Window(collections)


# -- the picture -----------------------------------------------------------------------------------


def picture(parts: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Memory and the slowest percent of masks over both parts, as SVG."""
    height = _HEIGHT * len(parts)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for row, (title, records) in enumerate(parts.items()):
        lines += _panel(title, records, row * _HEIGHT)
    path.write_text("\n".join([*lines, "</svg>"]), "utf-8")


def _panel(title: str, records: list[dict[str, Any]], top: int) -> list[str]:
    counts = [float(record[title]) for record in records]
    lines = [svg_words(_WIDTH / 2, top + 20, "middle", f"after so many {title}")]
    for number, (column, ink) in enumerate((("MB", "#1b6ca8"), ("mask p99, us", "#b3541e"))):
        values = [float(record[column]) for record in records]
        most = max(values) or 1.0
        points = " ".join(
            f"{_MARGIN + (_WIDTH - 2 * _MARGIN) * count / counts[-1]:.1f},"
            f"{top + _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * value / most:.1f}"
            for count, value in zip(counts, values, strict=True)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="2"/>')
        words = f"{column}: {values[-1]:,.0f} at the end, {most:,.0f} at most"
        lines.append(svg_words(_MARGIN + 260 * number, top + 42, "start", words, ink))
    for count in (counts[0], counts[len(counts) // 2], counts[-1]):
        at = _MARGIN + (_WIDTH - 2 * _MARGIN) * count / counts[-1]
        lines.append(svg_words(at, top + _HEIGHT - _MARGIN + 20, "middle", f"{count:,.0f}"))
    return lines


def main() -> None:
    """Runs both parts and prints a table of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--schemas", type=int, default=10_000)
    parser.add_argument("--walk", type=int, default=20, help="tokens of each schema")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--automata", type=int, default=50)
    parser.add_argument(
        "--every", type=int, default=1_000, help="tokens of an automaton between trims"
    )
    parser.add_argument("--tokenizer", default="smollm2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    _, vocabulary = load(options.tokenizer)
    collections = Collections()
    running = {
        "schemas": new_schemas(
            options.schemas, vocabulary, options.walk, options.seed, collections
        ),
        "tokens": many_tokens(
            options.tokens,
            vocabulary,
            options.automata,
            options.every,
            options.seed + 1,
            collections,
        ),
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for part, records in running.items():
        found[part] = []
        for record in records:
            say(str(record))
            found[part].append(record)
        print(table(found[part]) + "\n", flush=True)
    if options.plot:
        picture(found, options.plot)
    if options.json:
        options.json.write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
