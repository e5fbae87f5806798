"""The benchmark of Deco-G and the script that distils for it: tasks, scores, figures, resumed draws."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys

sys.path += [str(Path(__file__).parent.parent / name) for name in ("benchmarks", "examples")]

import deco_g as benchmark
import distil_hmm
from deco_g_tasks import SETS, VERBS

from constrain import TokenAutomaton
from constrain.models import ModelUnavailable
from grammars import Grammar
from samplers import DecoG, SpeculativeBackend
from samplers.deco_g.distil import Corpus, fit_corpus
from samplers.speculative.target import Weighting

# -- tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "expected", "kept", "score"),
    [
        ("gsm8k", "4 and 5.\nThe answer is 9.", "9", True, 1),
        ("gsm8k", "The answer is 1,009. So the answer is 7", "1009", False, 1),
        ("gsm8k", "It costs $1,200.50, or 9.0", "9", False, 1),
        ("gsm8k", "The answer is 8. The answer is 9.", "9", False, 1),
        ("gsm8k", "The answer is nine.", "9", False, 0),
        ("gsm8k", "I think 8", "9", False, 0),
        ("judge", '{"score": 4, "reason": "It is."}', "right", True, 1),
        ("judge", '{"score": 3, "reason": "Hm."}', "right", True, 0),
        ("judge", '{"score": 3, "reason": "Hm."}', "wrong", True, 0),
        ("judge", '{"score":"2"}', "wrong", False, 1),
        ("judge", "In 2020 and 3.5 of 12: 5/5", "right", False, 1),
        ("judge", "good", "right", False, 0),
        ("events", "sale(sold; Ann Lee; red rug)", "sale(sold; Ann Lee; red rug)", True, 1),
        ("events", "A sale(sold; ann lee; The red rug).", "sale(sold; Ann Lee; red rug)", False, 1),
        ("events", "sale(bought; Ann; red rug)", "sale(sold; Ann Lee; red rug)", True, 0.5),
        ("events", "Ann Lee sold a red rug.", "sale(sold; Ann Lee; red rug)", False, 0),
    ],
)
def test_scores(name: str, text: str, expected: str, kept: bool, score: float) -> None:
    task = SETS[name]
    found = task.find(text)
    assert (0.0 if found is None else task.score(found, expected)) == score
    assert task.make().accepts(text) == kept


def test_events_are_of_their_format_and_of_their_sentence() -> None:
    learned, measured = (SETS["events"].draw(learn) for learn in (True, False))
    assert not {q.task for q in learned} & {q.task for q in measured}
    grammar = SETS["events"].make()
    for question in measured[:100]:
        assert grammar.accepts(question.expected)
        assert SETS["events"].worth(question.expected, question) == 1
        kind, _, rest = question.expected.rstrip(")").partition("(")
        verb, *names = rest.split("; ")
        assert verb in VERBS[kind]
        assert all(name in question.task for name in (verb, *names))


@pytest.mark.model
def test_sums_are_parted() -> None:
    try:
        learned, measured = (SETS["gsm8k"].draw(learn) for learn in (True, False))
        judged = [SETS["judge"].draw(learn) for learn in (True, False)]
    except ModelUnavailable as error:
        pytest.skip(str(error))
    assert (len(learned), len(measured)) == (1000, 319)
    assert not {q.task for q in learned} & {q.task for q in measured}
    assert all(math.isfinite(float(q.expected)) for q in learned + measured)
    assert {q.expected for q in judged[1]} == {"right", "wrong"}
    assert not {q.name for q in judged[0]} & {q.name for q in judged[1]}
    format = SETS["gsm8k"].format
    plain, told = (SETS["gsm8k"].prompt(measured[0], format=f)[0]["content"] for f in (False, True))
    assert told == f"{plain}\n\n{format}"


# -- figures ---------------------------------------------------------------------------------------

TEXTS = [(3, 4, 1), (3, 3, 1), (4, 1)]


def test_n_grams_are_laws() -> None:
    size = 6
    unigrams = benchmark.Unigrams(TEXTS, size, 2.0)
    assert sum(unigrams.probability(token) for token in range(size)) == pytest.approx(1)
    assert unigrams.probability(3) == pytest.approx((3 + 2 / 6) / (8 + 2))
    bigrams = benchmark.Bigrams(TEXTS, unigrams, 0.5)
    for first in (3, 5):
        laws = [math.exp(2 * bigrams.log_likelihood([(first, t)])) for t in range(size)]
        begin = math.exp(bigrams.log_likelihood([(first,)]))
        assert sum(laws) / begin == pytest.approx(1)
    begins = (2 + 0.5 * unigrams.probability(3)) / 3.5
    assert bigrams.log_likelihood([(3,)]) == pytest.approx(math.log(begins))


def test_variation_of_weightings() -> None:
    law = np.log(np.array([0.5, 0.25, 0.25]))
    every = Weighting(np.array([0, 1, 2]), np.zeros(3))
    some = Weighting(np.array([1, 2]), np.log(np.array([3.0, 1.0])))
    assert benchmark._variation(law, every, every) == 0
    assert benchmark._variation(law, every, some) == pytest.approx(0.5)


def toy_corpus() -> Corpus:
    model = toys.model(rows=len(toys.TOKENS))
    last = None
    for last in distil_hmm.rounds(  # noqa: B007
        model, toys.vocabulary(), None, None, sequences=24, batch=8, length=10, seed=1
    ):
        pass
    assert last is not None
    return last


def test_weights_of_pruned_laws(tmp_path: Path) -> None:
    model, vocabulary = toys.model(rows=len(toys.TOKENS)), toys.vocabulary()
    hmm, _ = fit_corpus(toy_corpus(), states=6, epochs=1, pseudocount=1.0)
    automaton = TokenAutomaton(Grammar.from_regex(r"(?s:.*)\[[0-9]\]"), vocabulary)
    sampler = DecoG(SpeculativeBackend(model, None, []), automaton, hmm, top_mass=1.0)
    (sample,) = sampler.sample([3, 4], max_new_tokens=12, seed=0)
    law = np.log(np.full(64, 1 / 64))
    whole, retained, states, ms = benchmark._walked(sampler, 1.0, 12, sample.token_ids)
    assert states == 6
    assert len(whole) == len(sample.token_ids)
    assert set(retained) == {1.0}
    assert ms > 0
    records: list[dict[str, Any]] = []
    for kept in (1, 3, 6, 0.8):
        weights, retained, states, ms = benchmark._walked(sampler, kept, 12, sample.token_ids)
        assert kept > 0.8 or min(retained) >= 0.8
        tv = [benchmark._variation(law, a, b) for a, b in zip(whole, weights, strict=True)]
        one = {"set": "toys", "item": "1", "states": 6, "kept": kept, "tv": tv}
        records.append(one | {"retained": retained, "ms": ms, "mean_states": states})
    rows = benchmark.pruning_rows(records)
    assert [row["kept"] for row in rows] == ["1", "3", "6", "80%"]
    assert rows[2]["TV, max"] < 1e-6
    assert rows[2]["retained, min"] == 1
    assert rows[0]["TV, mean"] >= rows[1]["TV, mean"]
    assert (sampler.top_mass, sampler.top_states) == (1.0, None)
    benchmark.plot(rows, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


def test_likelihood_of_the_model_is_that_of_its_head() -> None:
    corpus = toy_corpus()
    head = distil_hmm.head_of(toys.model(rows=len(toys.TOKENS)))
    assert head is not None
    found = benchmark.own_likelihood(corpus, head)
    logs = []
    for text in corpus.measured:
        ids = torch.tensor([[toys.BOS, *text[:-1]]])
        law = torch.log_softmax(toys.model(rows=len(toys.TOKENS))(ids).logits[0], -1)
        logs += law.gather(1, torch.tensor(text)[:, None]).flatten().tolist()
    assert found == pytest.approx(
        sum(logs) / len(logs), abs=0.01
    )  # hidden states are kept as float16


def test_smoothing_is_chosen_apart() -> None:
    corpus = toy_corpus()
    part, apart = benchmark.halves(corpus)
    assert len(part.train) + len(apart) == len(corpus.train)
    assert set(apart) <= set(corpus.train)
    hmm, smoothing = benchmark.from_counts(corpus, 4, 0)
    assert hmm.states == 4
    assert smoothing in benchmark._STRENGTHS


def record(method: str, item: int, **facts: Any) -> dict[str, Any]:
    made = benchmark.Record(
        set="gsm8k",
        item=f"gsm8k-{item}",
        method=method,
        text="The answer is 9.",
        found="9",
        score=1.0,
        kept=True,
        ended=True,
        tokens=4,
        logprob=-8.0,
        lowest=-5.0,
        seconds=1.0,
        step_ms=20.0,
        weights_ms=0.5,
    )
    return {"kind": "answer", **asdict(made), **facts}


def test_tables_of_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"kind": "build", **asdict(benchmark.Build("gsm8k", "deco-g", 1.0, 6.0, 64))}]
    for item in (1, 2):
        facts = {"retained": 0.9 + item / 100, "least": 0.5, "fallbacks": 1, "step_ms": 25.0}
        records.append(record("deco-g", item, **facts, logprob=-4.0 * item))
        records.append(record("prompt", item, kept=False, score=float(item == 1)))
    benchmark.write_json(tmp_path / "a.json", {"what": "answers"}, records)
    assert benchmark.main(["--show", str(tmp_path / "a.json")]) == 0
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    header = next(row for row in rows if row and row[0] == "method")
    own = dict(zip(header, next(r for r in rows if r and r[0] == "deco-g"), strict=True))
    other = dict(zip(header, next(r for r in rows if r and r[0] == "prompt"), strict=True))
    assert (own["score"], own["kept"], own["a token"]) == ("1.000", "100%", "-1.500")
    assert (own["overhead"], own["retained"], own["fallbacks"]) == ("+25.0%", "0.9150", "2")
    assert (other["score"], other["in format"], other["kept"]) == ("0.500", "0.000", "0%")
    pair = next(row for row in rows if row and row[0] == "prompt" and len(row) == 7)
    assert pair[1:3] == ["2", "+0.500 ± 0.500"]
    assert json.loads((tmp_path / "a.json").read_text())["about"]["what"] == "answers"


# -- distilling ------------------------------------------------------------------------------------


def test_drawing_goes_on_where_it_stopped(tmp_path: Path) -> None:
    model, vocabulary = toys.model(rows=len(toys.TOKENS)), toys.vocabulary()
    prompts = [[3, 4], [5], [6, 7, 8]]
    options = argparse.Namespace(
        corpus=tmp_path / "c", sequences=12, batch=4, length=6, seed=3, seconds=60.0
    )
    whole = distil_hmm.draw(model, vocabulary, prompts, options)
    assert len(whole.sequences) == 12
    (tmp_path / "c").unlink()
    more = distil_hmm.rounds(
        model, vocabulary, prompts, None, sequences=12, batch=4, length=6, seed=3
    )
    first = next(itertools.islice(more, 1))
    first.save(tmp_path / "c")
    again = distil_hmm.draw(model, vocabulary, prompts, options)
    assert again.sequences == whole.sequences
    assert torch.equal(again.hidden, whole.hidden)
    assert len(Corpus.load(tmp_path / "c").sequences) == 12
    options.seconds = 0.0
    assert distil_hmm.draw(model, vocabulary, prompts, options).sequences == whole.sequences
    options.corpus = tmp_path / "none"
    with pytest.raises(ValueError, match="draw nothing"):
        distil_hmm.draw(model, vocabulary, prompts, options)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "asked.txt"
    file.write_text("Say one.\n\nSay two.\n")
    assert distil_hmm.prompts_of(str(file), 2) == [
        [{"role": "user", "content": "Say one."}],
        [{"role": "user", "content": "Say two."}],
    ]
    assert distil_hmm.prompts_of("none", 2) is None
    with pytest.raises(ValueError, match="neither a file nor one of gsm8k"):
        distil_hmm.prompts_of("events,other", 2)
    found = distil_hmm.prompts_of("events", 4)
    assert found is not None
    assert len(found) == 1000
