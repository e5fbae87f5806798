"""The benchmark of learned drafters: what is measured was not trained on, and its tables count rightly."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import learned_drafts  # noqa: E402
import learned_prompts  # noqa: E402
import tasks  # noqa: E402
import train_medusa  # noqa: E402

from samplers.drafters.learned import Evaluation  # noqa: E402
from samplers.drafters.learned.evaluation import Depth  # noqa: E402

COMMON = """the a an of in for to and or that is are me my do what how why which i can give write tell about
from it on with by after who would over up back at no please well help good say have short long parts there
if small new people night describe explain questions"""
"""Words that tell nothing of a subject."""


def words(text: str) -> set[str]:
    return {w.rstrip("s") for w in re.findall(r"[a-z]+", text.lower())} - {
        w.rstrip("s") for w in COMMON.split()
    }


def test_training_prompts_depend_on_the_seed_alone_and_none_comes_twice() -> None:
    made = learned_prompts.training_prompts(500, seed=3)
    assert made == learned_prompts.training_prompts(500, seed=3)
    assert made != learned_prompts.training_prompts(500, seed=4)
    assert len({chat[0]["content"] for chat in made}) == 500
    with pytest.raises(ValueError, match="there are"):
        learned_prompts.training_prompts(10**6)


def test_no_subject_that_is_measured_is_trained_on() -> None:
    trained = {text[0]["content"] for text in learned_prompts.training_prompts(2560)}
    measured = {chat[0]["content"] for chat in learned_prompts.measured_prompts()}
    assert len(measured) == len(learned_prompts.MEASURED)
    assert not trained & measured
    for subject in learned_prompts.SUBJECTS:
        told = words(subject)
        for prompt in learned_prompts.MEASURED:
            assert told - words(prompt) or not told, (subject, prompt)


def test_no_schema_that_is_measured_is_trained_on() -> None:
    measured = {json.dumps(schema) for _, schema in tasks.KINDS.values()}
    for request in train_medusa.requests(600, seed=7):
        assert json.dumps(request.schema) not in measured


def test_kept_answers_and_the_time_they_took(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    assert learned_drafts.kept(path) == ([], 0.0, 0)
    lines = [
        {"tokens": [1, 2, 3], "given": 2, "batch": 0, "seconds": 1.5},
        {"tokens": [1, 2, 4], "given": 2, "batch": 0, "seconds": 1.5},
        {"tokens": [5, 2, 4], "given": 1, "batch": 1, "seconds": 1.5},
    ]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    answers, seconds, batches = learned_drafts.kept(path)
    assert [(a.tokens, a.given) for a in answers] == [
        ([1, 2, 3], 2),
        ([1, 2, 4], 2),
        ([5, 2, 4], 1),
    ]
    assert (seconds, batches) == (3.0, 2)


def test_a_table_has_gains_beside_the_default_drafters() -> None:
    rows = {
        "plain": learned_drafts.Rows([Evaluation([[1] * 10], 10, 1.0)]),
        "default": learned_drafts.Rows([Evaluation([[1] * 10], 5, 0.8, 0.01)]),
        "default + eagle": learned_drafts.Rows(
            [Evaluation([[1] * 10], 4, 0.5, 0.1, [Depth(4, 3), Depth(3, 1)])]
        ),
    }
    *_, plain, default, learned = learned_drafts.table("free", rows).splitlines()
    assert [cell.strip() for cell in plain.split("|")][3:8] == [
        "1.00",
        "-50%",
        "100.0",
        "1.00",
        "0.80",
    ]
    assert [cell.strip() for cell in default.split("|")][3:8] == [
        "2.00",
        "+0%",
        "80.0",
        "1.25",
        "1.00",
    ]
    cells = [cell.strip() for cell in learned.split("|")]
    assert cells[3:8] == ["2.50", "+25%", "50.0", "2.00", "1.60"]
    assert cells[8:11] == ["10.0", "0.75 0.33", "1 of 1"]


def test_a_changed_model_is_compared_with_its_own_plain_decoding_too() -> None:
    def row(text: int, seconds: float) -> learned_drafts.Rows:
        return learned_drafts.Rows([Evaluation([[text] * 10], 5, seconds)])

    rows = {
        "plain": row(1, 1.0),
        "default": row(1, 0.8),
        "plain, medusa2's model": row(2, 1.2),
        "default, medusa2's model": row(2, 0.6),
        "default + medusa2": row(2, 0.3),
        "medusa2 alone": row(1, 0.4),
        "medusa alone": row(1, 0.5),
    }
    lines = learned_drafts.table("free", rows).splitlines()[-len(rows) :]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    assert [line[-3:-1] for line in cells] == [
        ["1 of 1", "1.00"],
        ["1 of 1", "1.25"],
        ["0 of 1", "0.83"],
        ["1 of 1", "2.00"],
        ["1 of 1", "4.00"],
        ["0 of 1", "3.00"],
        ["1 of 1", "2.00"],
    ]
    assert cells[4][6] == "3.33", "beside plain decoding of the original"


def test_a_changed_model_is_loaded_once_and_written_with_by_its_own_engines(tmp_path: Path) -> None:
    import toys

    from samplers import Medusa2, SpeculativeBackend
    from samplers.drafters.learned import Training, evaluate
    from samplers.speculative.target import FreeText

    model = toys.model()
    texts = [[toys.BOS, 3 + i, *range(5, 12)] for i in range(4)]
    made = Medusa2.fit(model, None, texts, heads=2, rank=2, training=Training(epochs=1))
    made.save(tmp_path / "medusa2.safetensors")
    engines = learned_drafts.engines_of(tmp_path, model, ["medusa2", "medusa"])
    assert list(engines) == [
        "plain",
        "default",
        "plain, medusa2's model",
        "default, medusa2's model",
        "default + medusa2",
        "medusa2 alone",
    ]
    targets = [target for target, _ in engines.values()]
    assert targets[:2] == [model] * 2
    assert len({id(target) for target in targets[2:]}) == 1
    assert targets[2] is not model
    rows = {}
    for name, (target, drafters) in engines.items():
        found = evaluate(
            SpeculativeBackend(target, None, drafters),
            [([toys.BOS, 5], FreeText((toys.EOS,)))],
            max_new_tokens=8,
        )
        rows[name] = learned_drafts.Rows([found])
    assert learned_drafts.table("toy", rows).count("1 of 1") >= 5
