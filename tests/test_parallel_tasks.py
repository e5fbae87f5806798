"""Tasks whose tokens depend on each other, and the benchmark that writes many of them at once."""

from __future__ import annotations

import itertools
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import parallel as benchmark
import parallel_tasks
import train_mask_diffusion as training
from diffusion_data import Example, Score
from parallel_tasks import DEPENDENT, LINE_KINDS, SENTENCE_KINDS, TASKS, answers, distinct_grammar
from transformers import AutoModelForMaskedLM

from samplers.diffusion import Static

RIGHT = Score(True, True, True)


def drawn(name: str, count: int, **options: Any) -> list[Example]:
    return list(islice(TASKS[name].examples(**options), count))


@pytest.mark.parametrize(("name", "kinds"), [("lines", LINE_KINDS), ("sentences", SENTENCE_KINDS)])
def test_responses_are_right_and_of_both_grammars(name: str, kinds: tuple[str, ...]) -> None:
    task = TASKS[name]
    found = drawn(name, 300, seed=2)
    assert found == drawn(name, 300, seed=2)
    assert found != drawn(name, 300, seed=3)
    assert {each.kind for each in found} == set(kinds)
    for each in found:
        assert each.response in answers(each)
        assert task.score(each, each.response) == RIGHT
    for each in {each.kind: each for each in found}.values():
        for grammar in (task.grammar(each), distinct_grammar(each)):
            assert grammar.accepts(each.response)
            assert not grammar.accepts(each.response + "x")
    aside = {(e.prompt, e.response) for e in drawn(name, 100, seed=2, held_out=True)}
    assert not aside & {(e.prompt, e.response) for e in found}


@pytest.mark.parametrize("name", ["lines", "sentences"])
def test_scores_and_grammars_beside_all_answers(name: str) -> None:
    """Of each text with two words of it exchanged or one of them doubled: right if it is an answer."""
    task = TASKS[name]
    joint = ", " if name == "lines" else " "
    for each in drawn(name, 60, seed=5):
        right = set(answers(each))
        assert len(right) > 1 or each.kind not in DEPENDENT or len(each.prompt.split(", ")) == 1
        narrow, wide = distinct_grammar(each), task.grammar(each)
        words = each.response.split(joint)
        for i, j in itertools.product(range(len(words)), repeat=2):
            swapped, doubled = list(words), list(words)
            swapped[i], swapped[j] = words[j], words[i]
            doubled[i] = words[j]
            for text in (joint.join(swapped), joint.join(doubled)):
                score = task.score(each, text)
                assert score.correct == (text in right)
                assert score.valid == wide.accepts(text)
                if score.correct:
                    assert narrow.accepts(text)
                if narrow.accepts(text):
                    assert score.valid
                    if name == "sentences" or each.kind == "shuffle":
                        assert score.correct


@pytest.mark.parametrize(
    ("kind", "prompt", "right", "wrong"),
    [
        ("insert at", "insert at dan 2: ann, bob", ["ann, dan, bob"], ["dan, ann, bob"]),
        ("insert", "insert dan: ann, bob", ["ann, dan, bob", "ann, bob, dan"], ["ann, bob, bob"]),
        ("remove at", "remove at 1: ann, bob, cleo", ["bob, cleo"], ["ann, bob"]),
        ("remove", "remove: ann, bob, cleo", ["bob, cleo", "ann, bob"], ["bob, ann"]),
        ("replace at", "replace at dan 1: ann, bob", ["dan, bob"], ["ann, dan"]),
        ("sort", "sort: cleo, ann, bob", ["ann, bob, cleo"], ["cleo, ann, bob"]),
        ("short", "write: owl, cat", ["an owl sees the cat.", "a cat finds an owl."],
         ["a owl sees the cat.", "the owl sees the owl.", "an owl near the cat."]),
    ],
)  # fmt: skip
def test_answers_by_hand(kind: str, prompt: str, right: list[str], wrong: list[str]) -> None:
    task = TASKS["sentences" if kind in SENTENCE_KINDS else "lines"]
    each = Example(kind, prompt, right[0])
    for text in right:
        assert task.score(each, text) == RIGHT
    for text in wrong:
        assert not task.score(each, text).correct
    assert not task.score(each, right[0].replace(" ", "  ", 1)).parses


# -- the model that knows all answers ----------------------------------------------------------------


def test_marginals_beside_counting() -> None:
    network = benchmark.ExactModel(6, 5)
    network.answers = np.array([[1, 2, 0], [2, 1, 0], [1, 3, 0]])
    ids = torch.tensor([[4, 5, 5, 5], [4, 1, 5, 5], [4, 3, 5, 5]])
    law = network(ids, torch.ones_like(ids)).exp()[:, 1:]
    assert law.shape == (3, 3, 6)
    assert law[0, 0].tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0, 0, 0], abs=1e-6)
    assert law[1, 1].tolist() == pytest.approx([0, 0, 0.5, 0.5, 0, 0], abs=1e-4)
    assert law[2, 1].sum() == pytest.approx(1.0)  # 3 begins no answer: all are equally far


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lines", "sentences"])
def test_it_is_right_one_token_at_a_time_and_where_there_is_one_answer_at_once(name: str) -> None:
    task = TASKS[name]
    speaker = benchmark.exact_speaker(task)
    room = task.canvases[-1]
    wrong = 0
    for each in drawn(name, 20, seed=4, held_out=True):
        text, tokens, forwards = benchmark.fill(speaker, each, room, Static(), None)
        assert text in answers(each)
        assert forwards == tokens
        text, _, forwards = benchmark.fill(speaker, each, room, Static(1), None)
        assert forwards == 1
        if each.kind not in DEPENDENT:
            assert text == each.response
        wrong += text not in answers(each)
    assert wrong > 0  # several answers, all places at once: what is measured


def test_the_benchmark_counts_right_texts_and_forwards() -> None:
    speaker = benchmark.exact_speaker(TASKS["lines"])
    found = {
        (r["way"], r["policy"], r["kind"]): r
        for r in benchmark.measured("lines", speaker, 12, ["free", "distinct"])
    }
    slow = found["free", "1 token a step", "several answers"]
    assert slow["right %"] == 100.0
    assert slow["tokens a forward"] == 1.0
    fast = found["free", "all at once", "several answers"]
    assert fast["right %"] < 100.0
    assert fast["tokens a forward"] > 3.0
    drafted = found["free", "FreeDave, 4 drafts", "several answers"]
    assert drafted["right %"] == 100.0
    assert drafted["tokens a forward"] >= 1.0
    held = found["distinct", "all at once", "several answers"]
    assert held["valid %"] == 100.0
    assert held["right %"] >= fast["right %"]


# -- a model that learns places ----------------------------------------------------------------------


def test_learned_positions_train_and_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.main(
        ["--data", "lines", "--out", str(tmp_path), "--positions", "learned", "--hidden", "32",
         "--layers", "1", "--heads", "2", "--prompts", "2", "--steps", "30", "--canvas", "12", "20",
         "--threads", "1"]
    )  # fmt: skip
    assert "held-out loss" in capsys.readouterr().out
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert model.config.max_position_embeddings == training.LEARNED_POSITIONS
    assert '"canvases": [\n    12,\n    20\n  ]' in (tmp_path / "training.json").read_text()
    assert (
        parallel_tasks.TASKS["lists"].canvases[-1] == 32
    )  # those of diffusion_data are there, too
