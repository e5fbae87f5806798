"""Learned drafters: what they are given, how they are trained, what becomes of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from one_thread import one_thread  # noqa: F401 - a fixture
from test_neural_drafters import COLUMNS, EOS, PROMPT, Endless, llama, made

from samplers.backend import SpeculativeBackend
from samplers.drafters.base import Context, Drafter
from samplers.drafters.learned import MedusaHeads, Training, evaluate
from samplers.drafters.learned.base import lesson
from samplers.drafters.learned.training import (
    Clock,
    Reading,
    Report,
    Step,
    accepted,
    bar_of,
    read,
    run,
    split,
)
from samplers.speculative.target import FreeText
from samplers.speculative.tree import ROOT

# -- hidden states of a row ------------------------------------------------------------------------


class Watcher(Drafter):
    """Checks the hidden states that it is given against a plain forward, and drafts something."""

    name = "watcher"
    wants_hidden: ClassVar[bool] = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self.lengths: list[tuple[int, int]] = []

    def propose(self, context: Context) -> None:
        hidden = context.hidden
        read_before = context.tokens[: len(context.tokens) - len(context.pending)]
        self.lengths.append((0 if hidden is None else len(hidden), len(context.tokens)))
        if hidden is None:
            assert not read_before
        else:
            assert len(hidden) == len(read_before)
            if read_before:
                with torch.no_grad():
                    ids = torch.tensor([list(read_before)])
                    out = self.model(ids, output_hidden_states=True, use_cache=False)
                assert torch.allclose(hidden, out.hidden_states[-1][0], atol=1e-9)
        for token in range(COLUMNS):
            node = context.add(ROOT, token, self.name, 0.5)
            if node is not None:
                context.add(node, 2, self.name, 0.5)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_hidden_states_are_those_of_the_row(rows: int, count: int) -> None:
    """Rows side by side, of different lengths, replaced and moved when others end."""
    watcher = Watcher(llama())
    backend = SpeculativeBackend(llama(), drafters=[watcher], max_rows=rows, adaptive=False)
    samples = backend.generate(PROMPT, FreeText((EOS,)), n=count, max_new_tokens=12, seed=3)
    assert len({len(s.token_ids) for s in samples}) > 1 or count == 1
    assert watcher.lengths
    plain = SpeculativeBackend(llama(), drafters=[]).generate(
        PROMPT, FreeText((EOS,)), n=count, max_new_tokens=12, seed=3
    )
    assert [s.token_ids for s in samples] == [s.token_ids for s in plain]


def test_hidden_states_of_prompts_that_are_kept() -> None:
    """A prompt read once serves several calls: its states come with its keys and values."""
    watcher = Watcher(llama())
    backend = SpeculativeBackend(llama(), drafters=[watcher], adaptive=False)
    with backend.same_prompt():
        for seed in range(3):
            backend.generate(PROMPT * 3, Endless(), max_new_tokens=6, seed=seed)
    firsts = [lengths for lengths in watcher.lengths if lengths[1] == len(PROMPT * 3)]
    assert firsts == [(len(PROMPT * 3) - 1, len(PROMPT * 3))] * 3


def test_nothing_is_kept_where_nobody_asks() -> None:
    backend = SpeculativeBackend(llama(), drafters=[])
    backend.generate(PROMPT, Endless(), max_new_tokens=4, seed=0)
    assert backend.last_scorer is not None
    assert not backend.last_scorer.keep_hidden
    assert len(backend.last_scorer.cache.layers) == 3


# -- texts to learn from ---------------------------------------------------------------------------


@dataclass
class Answer:
    tokens: list[int]
    given: int


def test_lessons_are_texts_pairs_or_answers() -> None:
    assert lesson(None, [3, 4, 5]) == ([3, 4, 5], 1)
    assert lesson(None, (3, 4)) == ([3, 4], 1)
    assert lesson(None, ([3, 4, 5], 2)) == ([3, 4, 5], 2)
    assert lesson(None, Answer([3, 4, 5], 3)) == ([3, 4, 5], 3)
    assert lesson(lambda text: {"input_ids": [len(text)]}, ("four", 0)) == ([4], 0)
    with pytest.raises(ValueError, match="4 tokens of a text of 3"):
        lesson(None, ([3, 4, 5], 4))
    with pytest.raises(ValueError, match="need a tokenizer"):
        lesson(None, "text")


def readings(prompts: int, each: int) -> list[Reading]:
    return [Reading([p, 9, i], 2, torch.zeros(3, 2)) for p in range(prompts) for i in range(each)]


def test_no_prompt_is_on_both_sides() -> None:
    kept, aside = split(readings(20, 3), 0.1)
    assert len(kept) == 54
    assert len(aside) == 6
    assert not {tuple(r.tokens[:2]) for r in kept} & {tuple(r.tokens[:2]) for r in aside}
    assert split(readings(3, 3), 0.1)[1] == []
    assert split(readings(3, 3), 0.0)[1] == []


def test_reading_stops_when_its_share_of_the_time_is_over() -> None:
    model = made(1).float()
    texts = [([0, 2, 3, 2], 1)] * 50
    assert len(list(read(model, texts, torch.float16))) == 50
    assert list(read(model, texts, torch.float16, None, Clock(1e-9))) == []
    (first,) = read(model, texts[:1], torch.float64)
    with torch.no_grad():
        out = model(torch.tensor([[0, 2, 3, 2]]), output_hidden_states=True, use_cache=False)
    assert torch.equal(first.hidden, out.hidden_states[-1][0].double())


def test_accepted_counts_what_comes_before_the_first_error() -> None:
    right = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]]).bool()
    assert accepted(right) == pytest.approx((2 + 0 + 4) / 3)
    assert accepted(right[:0]) == 0.0


# -- the loop --------------------------------------------------------------------------------------


class Told:
    """A course whose acceptance is told beforehand; each step moves the one weight up by its rate."""

    def __init__(self, network: torch.nn.Linear, acceptance: Sequence[float]) -> None:
        self.network, self._told = network, list(acceptance)
        self.weights: list[float] = []

    def __len__(self) -> int:
        return 2

    def steps(self) -> Iterator[Step]:
        def step() -> tuple[float, int]:
            loss = -self.network.weight.sum()
            loss.backward()
            return float(loss.detach()), 1

        yield step
        yield step

    def acceptance(self) -> float | None:
        self.weights.append(float(self.network.weight.detach()))
        return self._told.pop(0)


@pytest.mark.parametrize(
    ("acceptance", "passes", "best"),
    [([1, 3, 2, 1, 5], 4, 1), ([1, 2, 3, 4, 5], 5, 4), ([2, 1, 2.5, 0, 1], 5, 2)],
)
def test_training_stops_early_and_keeps_the_best(
    acceptance: list[float], passes: int, best: int
) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    course, report = Told(network, acceptance), Report()
    options = Training(epochs=5, patience=2, learning_rate=0.1)
    with bar_of(False) as bar:
        run(network, course, options, Clock(), bar, report)
    assert report.acceptance == acceptance[:passes]
    assert course.weights == sorted(course.weights)
    assert float(network.weight.detach()) == course.weights[best]


def test_training_stops_when_its_time_is_over() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    course, report = Told(network, [1.0] * 10**6), Report()
    options = Training(epochs=10**6, patience=10**6, max_seconds=0.2)
    with bar_of(False) as bar:
        run(network, course, options, Clock(0.2), bar, report)
    assert 1 < len(report.losses) < 10**6
    assert 0.2 <= report.seconds < 2


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0}, {"max_seconds": 0}, {"held_out": 1}],
)
def test_wrong_numbers_of_a_training(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Training(**options)


def test_heads_are_fitted_with_texts_held_out() -> None:
    """On texts that go round, chains of a prompt that was not seen are accepted in the end."""
    model = made(1, layers=2, columns=6, size=16).float()
    cycle = [2, 3, 4, 5] * 5
    texts = [([0] * (i % 7) + [i % 4 + 1, *cycle[i % 4 :]], 1 + i % 7) for i in range(28)]
    drafters = [
        MedusaHeads.fit(
            model, None, texts, heads=2,
            training=Training(epochs=60, learning_rate=0.02, batch=16, held_out=0.2, patience=60),
        )
        for _ in range(2)
    ]  # fmt: skip
    report = drafters[0].report
    assert report.acceptance == drafters[1].report.acceptance
    assert max(report.acceptance) > report.acceptance[0]
    assert max(report.acceptance) > 1.5
    assert report.losses[-1] < report.losses[0]
    assert report.positions > 100


# -- evaluation ------------------------------------------------------------------------------------


class Oracle(Drafter):
    """Drafts the text that will come as a chain; every third chain is wrong at its second token."""

    name = "oracle"

    def __init__(self, text: Sequence[int]) -> None:
        self.text, self.calls = list(text), 0

    def propose(self, context: Context) -> None:
        self.calls += 1
        at = len(context.new_tokens)
        chain = self.text[at : at + 3]
        if self.calls % 3 == 0 and len(chain) > 1:
            chain[1] = next(t for t in (2, 3) if t != chain[1])
        context.chain(ROOT, chain, self.name, 0.9)


def test_what_an_evaluation_counts() -> None:
    asked = [(PROMPT, FreeText(()))]
    plain = SpeculativeBackend(llama(), drafters=[])
    base = evaluate(plain, asked, max_new_tokens=20)
    assert base.tokens == base.forwards == 20
    assert base.tokens_per_forward == 1
    assert base.depths == []
    ticks = iter(range(100))
    backend = SpeculativeBackend(llama(), drafters=[Oracle(base.texts[0])], adaptive=False)
    found = evaluate(backend, asked, max_new_tokens=20, clock=lambda: float(next(ticks)))
    assert found.texts == base.texts
    # chains of four, four and two tokens in turn, and what is left: 4 4 2 4 4 2
    assert found.forwards == 6
    assert found.seconds == 1
    assert found.ms_per_token == 50
    assert found.drafting_seconds > 0
    assert [(d.asked, d.accepted) for d in found.depths] == [(6, 6), (6, 4), (4, 4)]
    assert evaluate(backend, asked, max_new_tokens=9, source="another").depths == []
    with pytest.raises(ValueError, match="at least one prompt"):
        evaluate(backend, [], max_new_tokens=3)
