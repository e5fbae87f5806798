"""Scaling laws of drafts: acceptance by training tokens, draft size and rows; how wrong they predict.

Yan et al. 2025, "Scaling Laws for Speculative Decoding" (arXiv 2505.07858), for drafts a few minutes of one
core can train: :mod:`samplers.drafters.learned.scaling` has the law and its fit.

1. ``--collect``: trains each system (``aligned``, ``fspad``, ``chimera``) at every size of data and of draft
   on answers of ``benchmarks/learned_drafts.py --write``, decodes prompts that were kept aside with each
   number of rows, and appends a line of JSON for each to ``--runs``.  Run again it goes on where it stopped.
   Data are nested: a larger one begins with the smaller one's answers.
2. ``--fit``: coefficients with intervals, and what the law fitted without the largest draft said of it.
3. ``--plot FILE.svg``: acceptance over training tokens, the largest draft beside what was said of it.

*Tokens* are those of answers that were learned from (fewer than asked for where ``--seconds`` ended the
reading).  *Parameters* are those trained.  *Acceptance* is how many drafted tokens a forward accepts in each
row at temperature 0.7, where all rows together draft ``--nodes`` tokens: more rows leave fewer for each.

Usage: ``python benchmarks/draft_scaling.py --answers answers.jsonl --runs runs.jsonl --collect --systems
chimera --tokens 2000,8000,32000 --sizes 192,768 --rows 1,4 --seconds 300``, then
``... --runs runs.jsonl --fit --plot scaling.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from reporting import say, svg_words, table

from constrain import load_model
from constrain.huggingface.automata import vocabulary_for
from samplers import DraftModel, SpeculativeBackend, aligned_draft
from samplers.drafters import FSPAD, Chimera, Drafter, Observation
from samplers.drafters.learned import Training
from samplers.drafters.learned.answers import Answer
from samplers.drafters.learned.scaling import Run, fit_law, largest_left_out
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText

TEMPERATURE: Final = 0.7
KEPT_ASIDE: Final = 10
"""One prompt in so many is measured on and never trained on."""


@dataclass(frozen=True)
class Plan:
    """What is trained and measured.

    Attributes:
        tokens: of answers, for each size of the data.
        sizes: widths of the gated unit of ``fspad`` and ``chimera``.
        layers: of the drafts of ``aligned``.
        rows: texts side by side.
        seconds: processor time of each training.
        epochs: passes over the data, at most.
        prompts: that each draft is measured on.
        new_tokens: of each text.
        nodes: drafted tokens of a forward, all rows together.
    """

    tokens: Sequence[int]
    sizes: Sequence[int]
    layers: Sequence[int]
    rows: Sequence[int]
    seconds: float
    epochs: int
    prompts: int
    new_tokens: int = 48
    nodes: int = 16


@dataclass(frozen=True)
class Trained:
    """A draft that was trained.

    Attributes:
        drafter: with it.
        tokens: learned from.
        parameters: trained.
        acceptance: on answers held out within the training, in that training's own terms.
    """

    drafter: Drafter
    tokens: int
    parameters: int
    acceptance: float


# -- answers ---------------------------------------------------------------------------------------


def parted(answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """Answers to learn from, and those to every tenth prompt, which are kept aside."""
    prompts = list(dict.fromkeys(tuple(a.tokens[: a.given]) for a in answers))
    aside = set(prompts[KEPT_ASIDE - 1 :: KEPT_ASIDE])
    learned = [a for a in answers if tuple(a.tokens[: a.given]) not in aside]
    return learned, [a for a in answers if tuple(a.tokens[: a.given]) in aside]


def some(answers: Sequence[Answer], tokens: int) -> list[Answer]:
    """The first answers, until they have so many tokens."""
    found: list[Answer] = []
    for answer in answers:
        if new_tokens(found) >= tokens:
            break
        found.append(answer)
    return found


def new_tokens(answers: Iterable[Answer]) -> int:
    """Tokens of answers, prompts aside."""
    return sum(len(a.tokens) - a.given for a in answers)


# -- training --------------------------------------------------------------------------------------


def of_states(kind: type[FSPAD] | type[Chimera]) -> Callable[..., Trained]:
    """Trains a drafter that reads hidden states."""

    def train(model: Any, answers: Sequence[Answer], size: int, plan: Plan) -> Trained:
        training = Training(epochs=plan.epochs, batch=256, max_seconds=plan.seconds)
        made: Any = kind.fit(model, None, answers, training=training, inner=size)
        count = sum(p.numel() for p in made.network.parameters() if p.requires_grad)
        return Trained(made, made.report.positions, count, max(made.report.acceptance, default=0.0))

    return train


def of_layers(model: Any, answers: Sequence[Answer], size: int, plan: Plan) -> Trained:
    """Trains a draft of some of the model's layers."""
    made = aligned_draft(
        model,
        None,
        answers,
        layers=size,
        max_seconds=plan.seconds,
        max_epochs=plan.epochs,
        clock=time.process_time,
    )
    count = sum(p.numel() for p in made.model.parameters())
    drafter = DraftModel(made.model, tree="chain", depth=3)
    return Trained(drafter, min(max(made.tokens, 1), new_tokens(answers)), count, made.best)


SYSTEMS: Final[dict[str, Callable[..., Trained]]] = {
    "aligned": of_layers,
    "fspad": of_states(FSPAD),
    "chimera": of_states(Chimera),
}


def measured(
    model: Any, drafter: Drafter, prompts: Sequence[Sequence[int]], ends: Sequence[int], rows: int,
    plan: Plan,
) -> float:  # fmt: skip
    """Drafted tokens accepted of a forward and row, forwards without drafts aside."""
    backend = SpeculativeBackend(
        model, None, [drafter], adaptive=False, max_rows=rows,
        max_tree_nodes=max(plan.nodes // rows, 1),
    )  # fmt: skip
    accepted: list[int] = []

    def see(seen: Observation) -> None:
        if len(seen.tree):  # reading a prompt drafts nothing
            accepted.append(len(seen.path))

    for seed, prompt in enumerate(prompts):
        backend.generate(
            list(prompt),
            FreeText(tuple(ends)),
            n=rows,
            max_new_tokens=plan.new_tokens,
            sampling=Sampling(TEMPERATURE),
            seed=seed,
            observers=[see],
        )
    return sum(accepted) / max(len(accepted), 1)


def collect(
    path: Path,
    model: Any,
    answers: Sequence[Answer],
    ends: Sequence[int],
    systems: Sequence[str],
    plan: Plan,
) -> None:
    """Trains and measures what the file does not have yet.

    Raises:
        ValueError: if too few answers have prompts of their own to keep one aside.
    """
    learned, aside = parted(answers)
    prompts = list(dict.fromkeys(tuple(a.tokens[: a.given]) for a in aside))[: plan.prompts]
    if not prompts:
        raise ValueError(f"answers to fewer than {KEPT_ASIDE} prompts: none is kept aside")
    known = {(r["system"], r["asked"], r["size"], r["rows"]) for r in records(path)}
    with path.open("a", encoding="utf-8") as file:
        for name in systems:
            for size in plan.layers if name == "aligned" else plan.sizes:
                for tokens in plan.tokens:
                    missing = [r for r in plan.rows if (name, tokens, size, r) not in known]
                    if not missing:
                        continue
                    began = time.process_time()
                    made = SYSTEMS[name](model, some(learned, tokens), size, plan)
                    took = time.process_time() - began
                    for rows in missing:
                        line = {
                            "system": name,
                            "asked": tokens,
                            "size": size,
                            "tokens": made.tokens,
                            "parameters": made.parameters,
                            "rows": rows,
                            "acceptance": measured(model, made.drafter, prompts, ends, rows, plan),
                            "in_training": made.acceptance,
                            "seconds": took,
                        }
                        file.write(json.dumps(line) + "\n")
                        file.flush()
                        say(json.dumps(line))


def records(path: Path) -> list[dict[str, Any]]:
    """Lines of a file; none if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def kept(path: Path) -> dict[str, list[Run]]:
    """Runs of a file, by system."""
    found: dict[str, list[Run]] = {}
    for line in records(path):
        run = Run(line["tokens"], line["parameters"], line["rows"], line["acceptance"])
        found.setdefault(line["system"], []).append(run)
    return found


# -- what they say ---------------------------------------------------------------------------------


def report(name: str, runs: Sequence[Run]) -> str:
    """Markdown: coefficients, and the largest draft beside what the others said of it."""
    law = fit_law(runs)
    parts = [
        f"\n{name}: {len(runs)} runs; acceptance for each factor of ten, 95 % intervals\n",
        table(
            [
                {"quantity": n, "coefficient": x.value, "low": x.low, "high": x.high}
                for n in law.names
                for x in [law.coefficient(n)]
            ]
        ),
        f"\n{name}: the largest draft, from a law without it\n",
    ]
    try:
        _, forecasts = largest_left_out(runs)
    except ValueError as error:
        return "\n".join([*parts, f"not told: {error}"])
    told = [
        {
            "tokens": f.run.tokens,
            "parameters": f.run.parameters,
            "rows": f.run.rows,
            "said": f.said.value,
            "low": f.said.low,
            "high": f.said.high,
            "came": f.run.acceptance,
            "error": f.error,
            "inside": "yes" if f.inside else "no",
        }
        for f in forecasts
    ]
    return "\n".join([*parts, table(told)])


_WIDTH: Final = 640
_HEIGHT: Final = 360
_MARGIN: Final = 56
_INKS: Final = ("#1b6ca8", "#c2571a", "#3f8f3f", "#7a3fa0")


def plot(runs: dict[str, list[Run]], path: Path) -> None:
    """Draws acceptance over training tokens (logarithmic), as SVG.

    Dots are runs, larger for larger drafts and paler for more rows; bars are what the law without a
    system's largest draft said of it; lines are the law of each system at its largest draft and fewest rows.
    """
    every = [run for some in runs.values() for run in some]
    logs = [math.log10(run.tokens) for run in every]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    most = 1.2 * max(run.acceptance for run in every) or 1.0

    def x(tokens: float) -> float:
        return _MARGIN + (math.log10(tokens) - low) / span * (_WIDTH - 2 * _MARGIN)

    def y(acceptance: float) -> float:
        share = min(max(acceptance / most, 0.0), 1.0)
        return _HEIGHT - _MARGIN - share * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        svg_words(_WIDTH / 2, 20, "middle", "drafted tokens accepted of a forward and row"),
        svg_words(_WIDTH / 2, _HEIGHT - 14, "middle", "training tokens"),
    ]
    for tick in range(5):
        at = y(most * tick / 4)
        parts.append(f'<path d="M{_MARGIN} {at:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>')
        parts.append(svg_words(_MARGIN - 6, at + 4, "end", f"{most * tick / 4:.2f}"))
    for tokens in sorted({run.tokens for run in every}):
        parts.append(svg_words(x(tokens), _HEIGHT - _MARGIN + 18, "middle", f"{tokens:,}"))
    for number, (name, mine) in enumerate(runs.items()):
        ink = _INKS[number % len(_INKS)]
        parts.append(svg_words(_MARGIN + 110 * number, 42, "start", name, ink))
        parts += _dots(mine, ink, x, y)
        parts += _said(mine, ink, x, y)
    path.write_text("\n".join([*parts, "</svg>"]), "utf-8")


Scale = Callable[[float], float]


def _dots(runs: Sequence[Run], ink: str, x: Scale, y: Scale) -> list[str]:
    largest, most = max(r.parameters for r in runs), max(r.rows for r in runs)
    return [
        f'<circle cx="{x(r.tokens):.1f}" cy="{y(r.acceptance):.1f}" '
        f'r="{2 + 3 * r.parameters / largest:.1f}" fill="{ink}" '
        f'fill-opacity="{1 - 0.7 * (r.rows - 1) / max(most, 2):.2f}"/>'
        for r in runs
    ]


def _said(runs: Sequence[Run], ink: str, x: Scale, y: Scale) -> list[str]:
    """The line of the law, and bars of what was said of the largest draft; nothing if there is no law."""
    try:
        law = fit_law(runs)
    except ValueError:
        return []
    size, rows = max(r.parameters for r in runs), min(r.rows for r in runs)
    points = []
    for tokens in sorted({r.tokens for r in runs}):
        value = law.predict(tokens=tokens, parameters=size, rows=rows).value
        points.append(f"{x(tokens):.1f},{y(value):.1f}")
    parts = [f'<polyline points="{" ".join(points)}" fill="none" stroke="{ink}"/>']
    try:
        _, forecasts = largest_left_out(runs)
    except ValueError:
        return parts
    for number, forecast in enumerate(forecasts):
        at = x(forecast.run.tokens) + 8 + 5 * number
        low, high = y(forecast.said.low), y(forecast.said.high)
        parts.append(f'<path d="M{at:.1f} {low:.1f}V{high:.1f}" stroke="{ink}" stroke-width="2"/>')
    return parts


# -- the command -----------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    """Numbers between commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Does what is asked for, in the order of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs.jsonl"))
    parser.add_argument("--answers", type=Path, default=Path("answers.jsonl"))
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--systems", default="chimera", help=", ".join(SYSTEMS))
    parser.add_argument("--tokens", type=numbers, default=[2_000, 8_000, 32_000])
    parser.add_argument("--sizes", type=numbers, default=[192, 768], help="of fspad and chimera")
    parser.add_argument("--layers", type=numbers, default=[1, 3], help="of aligned")
    parser.add_argument("--rows", type=numbers, default=[1, 4])
    parser.add_argument("--seconds", type=float, default=300.0, help="of each training")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if options.collect:
        from learned_drafts import kept as answers_of

        model, tokenizer = load_model(dtype="float32")
        names = ("tokens", "sizes", "layers", "rows", "seconds", "epochs", "prompts")
        plan = Plan(**{name: getattr(options, name) for name in (*names, "new_tokens", "nodes")})
        ends = vocabulary_for(tokenizer, model).eos_token_ids
        answers, _, _ = answers_of(options.answers)
        collect(options.runs, model, answers, ends, options.systems.split(","), plan)
    found = kept(options.runs)
    if options.fit:
        for name, runs in found.items():
            print(report(name, runs), flush=True)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
