"""Scaling laws of drafts: a planted law is found again, intervals cover, and the benchmark runs on toys."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import draft_scaling  # noqa: E402

from samplers import SpeculativeBackend  # noqa: E402
from samplers.drafters.learned.answers import Answer  # noqa: E402
from samplers.drafters.learned.scaling import Run, fit_law, largest_left_out  # noqa: E402
from samplers.speculative.target import FreeText  # noqa: E402

GRID = list(itertools.product((1_000, 4_000, 30_000), (10_000, 900_000), (1, 2, 8)))
share = st.floats(-2, 2)


def planted(a: float, b: float, c: float, d: float, noise: float = 0.0, seed: int = 0) -> list[Run]:
    generator = np.random.default_rng(seed)
    return [
        Run(
            tokens,
            size,
            rows,
            a
            + b * np.log10(tokens)
            + c * np.log10(size)
            + d * np.log10(rows)
            + noise * float(generator.normal()),
        )
        for tokens, size, rows in GRID
    ]


# -- the fit ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(share, share, share, share)
def test_a_planted_law_is_found_again(a: float, b: float, c: float, d: float) -> None:
    law = fit_law(planted(a, b, c, d), draws=50)
    assert law.names == ("constant", "tokens", "parameters", "rows")
    assert law.coefficients == pytest.approx([a, b, c, d], abs=1e-9)
    said = law.predict(tokens=10**6, parameters=10**7, rows=16)
    assert said.value == pytest.approx(a + 6 * b + 7 * c + d * np.log10(16), abs=1e-8)
    assert said.high - said.low < 1e-8, "nothing is left over"


@settings(max_examples=40, deadline=None)
@given(share, share, share, share, st.integers(0, 10**6))
def test_least_squares_are_least(a: float, b: float, c: float, d: float, seed: int) -> None:
    """Any step away from the fit leaves more over."""
    runs = planted(a, b, c, d, 0.3, seed)
    law = fit_law(runs, draws=10)

    def left_over(k: np.ndarray) -> float:
        return sum(
            (r.acceptance - float(k @ [1, *np.log10([r.tokens, r.parameters, r.rows])])) ** 2
            for r in runs
        )

    best = left_over(law.coefficients)
    for direction in np.random.default_rng(seed).normal(size=(5, 4)):
        for step in (1e-2, -1e-2):
            assert left_over(law.coefficients + step * direction) > best


def test_intervals_cover_about_as_often_as_they_say() -> None:
    """Of coefficients, and of a run more."""
    truth, noise = (0.1, 0.4, 0.2, -0.5), 0.1
    hits = runs = 0
    for seed in range(150):
        law = fit_law(planted(*truth, noise, seed), draws=300, seed=seed)
        found = law.coefficient("tokens", 0.8)
        hits += found.low <= truth[1] <= found.high
        came = truth[0] + truth[1] * 5 + truth[2] * 6
        came += noise * float(np.random.default_rng(10_000 + seed).normal())
        said = law.predict(tokens=1e5, parameters=1e6, rows=1, coverage=0.8, seed=seed)
        runs += said.low <= came <= said.high
    assert 0.7 < hits / 150 < 0.9
    assert 0.7 < runs / 150 < 0.9


def test_what_never_varied_has_no_coefficient() -> None:
    runs = [r for r in planted(0.1, 0.4, 0.2, -0.5) if r.rows == 2 and r.parameters == 10_000]
    law = fit_law(runs)
    assert law.names == ("constant", "tokens")
    assert law.fixed == {"parameters": 10_000, "rows": 2}
    law.predict(tokens=7, parameters=10_000, rows=2)
    with pytest.raises(ValueError, match="all runs had rows=2"):
        law.predict(tokens=7, parameters=10_000, rows=1)
    with pytest.raises(ValueError, match="never varied"):
        law.coefficient("rows")


def test_runs_that_tell_nothing() -> None:
    with pytest.raises(ValueError, match="2 runs do not tell 2"):
        fit_law([Run(10, 5, 1, 0.1), Run(100, 5, 1, 0.2)])
    with pytest.raises(ValueError, match="vary together"):
        fit_law([Run(10**i, 10 ** (i + 1), 1, 0.1 * i) for i in range(1, 6)])
    with pytest.raises(ValueError, match="must be positive"):
        Run(0, 1, 1, 0.5)
    with pytest.raises(ValueError, match="no runs"):
        largest_left_out([])


@settings(max_examples=30, deadline=None)
@given(share, share, share, share, st.floats(-1, 1))
def test_the_largest_is_told_from_the_others(
    a: float, b: float, c: float, d: float, moved: float
) -> None:
    """A law that ends before the largest draft is wrong there by as much as it ends."""
    runs = [
        Run(r.tokens, r.parameters, r.rows, r.acceptance + moved)
        if (r.tokens, r.parameters) == (30_000, 900_000)
        else r
        for r in planted(a, b, c, d)
    ]
    law, forecasts = largest_left_out(runs, draws=50)
    assert law.coefficients == pytest.approx([a, b, c, d], abs=1e-9)
    assert [f.run.rows for f in forecasts] == [1, 2, 8]
    assert [f.error for f in forecasts] == pytest.approx([moved] * 3, abs=1e-8)
    if abs(moved) > 1e-6:
        assert not any(f.inside for f in forecasts)


# -- the benchmark ---------------------------------------------------------------------------------


def test_subsets_of_answers_are_nested_and_keep_no_prompt_that_is_measured() -> None:
    answers = [Answer([p, p, *range(5)], 2) for p in range(20) for _ in range(2)]
    learned, aside = draft_scaling.parted(answers)
    assert {a.tokens[0] for a in aside} == {9, 19}
    assert not {a.tokens[0] for a in aside} & {a.tokens[0] for a in learned}
    small, large = (draft_scaling.some(learned, tokens) for tokens in (20, 60))
    assert large[: len(small)] == small
    assert [sum(len(a.tokens) - a.given for a in part) for part in (small, large)] == [20, 60]


def test_from_training_to_the_picture_on_a_toy(tmp_path: Path) -> None:
    model = toys.model()
    backend = SpeculativeBackend(model, drafters=[])
    answers = []
    for number in range(20):
        prompt = [toys.BOS, 3 + number, 5]
        made = backend.generate(prompt, FreeText((toys.EOS,)), n=2, max_new_tokens=10, seed=number)
        answers += [Answer([*prompt, *s.token_ids], len(prompt)) for s in made]
    path = tmp_path / "runs.jsonl"
    plan = draft_scaling.Plan(
        tokens=(60, 240), sizes=(16, 48), layers=(1,), rows=(1, 2), seconds=20, epochs=1, prompts=2,
        new_tokens=8, nodes=8,
    )  # fmt: skip
    for systems in (
        ["chimera"],
        ["chimera", "aligned"],
    ):  # the second goes on where the first ended
        draft_scaling.collect(path, model, answers, (toys.EOS,), systems, plan)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["system"] for line in lines] == ["chimera"] * 8 + ["aligned"] * 4
    for line in lines:
        assert 0 < line["tokens"] <= line["asked"] + 20
        assert line["parameters"] > 0
        assert 0 <= line["acceptance"] <= 8
    sizes = {line["size"]: line["parameters"] for line in lines[:8]}
    assert sizes[48] - sizes[16] == 32 * 32 * 3, "the gated unit alone is wider"
    runs = draft_scaling.kept(path)
    assert {name: len(found) for name, found in runs.items()} == {"chimera": 8, "aligned": 4}
    text = draft_scaling.report("chimera", runs["chimera"])
    assert "| tokens |" in text
    assert "| rows |" in text
    picture = tmp_path / "scaling.svg"
    draft_scaling.plot(runs, picture)
    drawn = picture.read_text("utf-8")
    assert drawn.startswith("<svg")
    assert drawn.count("<circle") == 12
