"""Infilling: every fill is in the language, whatever the model says; schedules and DINGO do as told."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from strategies import bag_grammars, grammars, memory_grammars
from test_completability import JSON_PIECES, NAMED, PIECES, SEEDS, Cases, case, fillings

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError, Limits
from grammars.ir import GrammarIR
from samplers import DiffusionInfiller, Gap, Masks, NoCompletion, Sample
from samplers.diffusion import (
    Completability,
    Dream,
    Filter,
    FreeDave,
    Learn2PD,
    LocalLeap,
    MaskedModel,
    Schedule,
    Static,
    Threshold,
)
from samplers.diffusion.canvas import Part
from samplers.diffusion.dingo import Dingo
from samplers.diffusion.draft import Draft, Judgement, Rules
from samplers.diffusion.model import Frame
from samplers.diffusion.schedule import View

TOKENS = [b"a", b"b", b"ab", b"ba", b"(", b")", b"c", None, None]
EOS, MASK = 7, 8
VOCABULARY = Vocabulary.from_tokens(TOKENS, [EOS])

anything = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Toy(torch.nn.Module):
    """Logits that depend on the whole canvas, and on nothing else."""

    def __init__(self, seed: int = 0, size: int = len(TOKENS), sharpness: float = 0.7) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = torch.randn(size, 16, generator=generator)
        self.mix = torch.randn(16, 16, generator=generator)
        self.out = torch.randn(16, size, generator=generator) * sharpness
        self.calls: list[tuple[int, ...]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        self.calls.append(tuple(input_ids.shape))
        hidden = self.embed[input_ids]
        places = torch.arange(hidden.shape[1], dtype=torch.float32)
        near = torch.exp(-(places[:, None] - places[None, :]).abs())
        wave = torch.sin(places[:, None] * torch.arange(1, 17) * 0.7)
        return torch.tanh(near @ hidden @ self.mix + wave) @ self.out


def infiller(grammar: Grammar | None, seed: int = 0, **options: Any) -> DiffusionInfiller:
    return DiffusionInfiller(
        Toy(seed), None, grammar, vocabulary=VOCABULARY, mask_token_id=MASK, **options
    )


SCHEDULES: list[Schedule] = [
    Static(),
    Static(steps=3),
    Threshold(0.5),
    LocalLeap(anchor=0.5, near=0.2, radius=2),
    LocalLeap(anchor=0.5, near=0.1, radius=3, decay=1.0),
    Dream(steps=4),
    FreeDave(drafts=3),
    FreeDave(drafts=3, schedule=Static(steps=3)),
]


# -- every fill is in the language -----------------------------------------------------------------


def fill_and_check(cases: Cases, schedule: Schedule, rng: random.Random) -> None:
    """One canvas near the grammar's texts: filled, or refused before the model is called."""
    plain, spelled = cases.vocabulary()
    texts = [*(plain.token_bytes(i) for i in range(plain.size)), None]
    vocabulary = Vocabulary.from_tokens(texts, list(plain.eos_token_ids))
    canvas = cases.canvas(plain, spelled) or [None]
    padded = rng.random() < 0.4
    hot = not isinstance(schedule, FreeDave) and rng.random() < 0.5
    try:
        made = DiffusionInfiller(
            Toy(rng.randrange(1000), vocabulary.size),
            None,
            cases.grammar,
            vocabulary=vocabulary,
            mask_token_id=vocabulary.size - 1,
            schedule=schedule,
            block_length=rng.choice([None, 1, 2, 4]),
            temperature=1.0 if hot else 0.0,
            end_of_text=rng.choice([None, None, 0.2, 0.5]),
        )
    except GrammarError:  # no text can be written in these tokens
        return
    engine = Completability(made.automaton)  # type: ignore[arg-type]
    if not engine.is_completable(canvas, eos_padding=padded):
        with pytest.raises(NoCompletion):
            made.fill([0], canvas, eos_padding=padded)
        assert made.model.forwards == 0
        return
    for sample in made.fill([0], canvas, 2, seed=rng.randrange(100), eos_padding=padded):
        check(sample, cases.grammar, vocabulary, canvas, padded)


def check(
    sample: Sample, grammar: Grammar, vocabulary: Vocabulary, canvas: Sequence[Part], padded: bool
) -> None:
    """The text is in the language, and it is one of the canvas's fillings."""
    data = vocabulary.decode(sample.token_ids)
    assert grammar.accepts(data)
    assert data.decode("utf-8", "replace") == sample.text
    assert vocabulary.size - 1 not in sample.token_ids
    found = fillings(vocabulary, canvas, padded)
    assert found is None or data in {text for text, _ in found}
    assert sample.logprob <= 1e-6
    assert len(sample.token_logprobs) == sample.stats.tokens


@anything
@given(
    st.one_of(
        grammars().map(lambda ir: (ir, PIECES)),
        bag_grammars().map(lambda ir: (ir, PIECES)),
        memory_grammars().map(lambda ir: (ir, JSON_PIECES)),
    ),
    st.sampled_from(SCHEDULES),
    SEEDS,
)
def test_every_fill_is_in_the_language(
    drawn: tuple[GrammarIR, tuple[bytes, ...]], schedule: Schedule, seed: int
) -> None:
    ir, pieces = drawn
    cases = case(ir, seed, pieces, 14)
    for _ in range(4):
        fill_and_check(cases, schedule, cases.rng)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_fill_of_named_grammars(name: str) -> None:
    pieces, grammar, max_bytes = NAMED[name]
    for seed in range(6):
        cases = Cases(grammar, pieces, random.Random(seed), max_bytes)
        for schedule in SCHEDULES:
            fill_and_check(cases, schedule, cases.rng)


# -- the pieces ------------------------------------------------------------------------------------


def test_without_a_grammar_the_most_confident_token_goes_first() -> None:
    made = infiller(None, schedule=Static())
    steps: list[list[int]] = []
    (sample,) = made.fill([0, 1], [Masks(4)], on_step=lambda _, ids: steps.append(list(ids)))
    ids = [MASK] * 4
    for step in steps:
        logits = Toy()(torch.tensor([[0, 1, *ids]]), torch.ones(1, 6))[0, 2:]
        logits[:, [EOS, MASK]] = -torch.inf
        p = torch.softmax(logits, -1)
        p[[i for i, token in enumerate(ids) if token != MASK]] = 0
        place, token = divmod(int(p.argmax()), p.shape[1])
        ids[place] = token
        assert step == ids
    assert sample.token_ids == ids
    assert sample.stats.forwards == 4 == len(steps)


def test_free_draft_and_verify_writes_what_one_token_a_forward_writes() -> None:
    grammar = Grammar.from_gbnf('root ::= "(" root ")" root | [abc]*')
    saved = 0
    for seed in range(30):
        for rules in (None, grammar):
            slow = infiller(rules, seed, schedule=Static(), block_length=4)
            (a,) = slow.fill([0], [Masks(6), "c", Masks(6)], eos_padding=True)
            for drafts in (1, 2, 4, 16):
                fast = infiller(rules, seed, schedule=FreeDave(drafts), block_length=4)
                (b,) = fast.fill([0], [Masks(6), "c", Masks(6)], eos_padding=True)
                assert a.token_ids == b.token_ids
                assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
                assert b.stats.forwards <= a.stats.forwards
                saved += a.stats.forwards - b.stats.forwards
    assert saved > 0


PLAIN = st.one_of(
    st.builds(Static, st.one_of(st.none(), st.integers(1, 6))),
    st.builds(Dream, st.integers(1, 8)),
    st.builds(Threshold, st.floats(0.15, 0.9)),
    st.builds(LocalLeap, st.floats(0.4, 0.8), st.floats(0.1, 0.4), st.integers(0, 3)),
)
"""Schedules to speed up: of few and of many tokens a step, of a fixed number and of one that depends."""
RULES = (
    None,
    Grammar.from_regex("[abc]*(c|ab)[abc()]*"),
    Grammar.from_gbnf('root ::= "(" root ")" root | [abc]*'),
)


@anything
@given(
    PLAIN,
    st.integers(1, 9),
    st.sampled_from(RULES),
    st.sampled_from([None, 1, 3, 5]),
    st.sampled_from([0.3, 0.7, 2.0]),
    st.integers(0, 10_000),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([None, 0.2, 0.5]),
)
def test_drafts_of_any_schedule_change_nothing(
    schedule: Schedule,
    drafts: int,
    rules: Grammar | None,
    block: int | None,
    sharpness: float,
    seed: int,
    lengths: list[int],
    padded: bool,
    end: float | None,
) -> None:
    """Texts, their probabilities, and never more forwards: lossless against the schedule that is drafted."""
    canvas: list[Part] = [Masks(2)]
    for length in lengths:
        canvas += ["c", Masks(length)]
    made = [
        DiffusionInfiller(
            Toy(seed, sharpness=sharpness), None, rules, vocabulary=VOCABULARY, mask_token_id=MASK,
            schedule=how, block_length=block, end_of_text=end,
        )
        for how in (schedule, FreeDave(drafts, schedule))
    ]  # fmt: skip
    (a,), (b,) = (each.fill([0, seed % 4], canvas, eos_padding=padded) for each in made)
    assert b.token_ids == a.token_ids
    assert b.token_logprobs == pytest.approx(a.token_logprobs, abs=1e-4)
    assert b.stats.rejected == a.stats.rejected
    assert b.stats.forwards <= a.stats.forwards
    assert all(shape[0] <= drafts for shape in made[1].model.model.calls)


@anything
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10_000))
def test_drafts_of_static_steps_beside_a_plain_loop(
    masks: int, share: int, drafts: int, seed: int
) -> None:
    """The same text as a loop that knows nothing of drafts: the surest places, so many at a step."""
    steps = -(-masks // share)
    ids = [MASK] * masks
    toy = Toy(seed)
    for step in range(steps):
        logits = toy(torch.tensor([[2, *ids]]), torch.ones(1, masks + 1))[0, 1:]
        logits[:, [EOS, MASK]] = -torch.inf
        sure, tokens = torch.softmax(logits.double(), -1).max(-1)
        open_ = [i for i in range(masks) if ids[i] == MASK]
        count = masks // steps + (step < masks % steps)
        for place in sorted(open_, key=lambda i: (-float(sure[i]), i))[:count]:
            ids[place] = int(tokens[place])
    (sample,) = infiller(None, seed, schedule=FreeDave(drafts, Static(steps))).fill(
        [2], [Masks(masks)]
    )
    assert sample.token_ids == ids


class Fixed(Toy):
    """What it says does not depend on the canvas."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.zeros_like(input_ids), attention_mask)


@pytest.mark.parametrize("drafts", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("steps", [1, 2, 5, 12, None])
def test_forwards_of_drafts_that_all_come_true(drafts: int, steps: int | None) -> None:
    """One forward, and one more for each chain that has something left to verify."""
    made = DiffusionInfiller(
        Fixed(), None, None, vocabulary=VOCABULARY, mask_token_id=MASK,
        schedule=FreeDave(drafts, Static(steps)),
    )  # fmt: skip
    (sample,) = made.fill([0], [Masks(24)])
    left, forwards = steps or 24, 1
    while left > 1:  # the first step of a chain is sure, its last forward begins the next chain
        left, forwards = left - drafts, forwards + 1
    assert sample.stats.forwards == forwards


def test_a_step_of_many_tokens_may_lead_past_several_drafts() -> None:
    """The first forward is sure of two places, the second one of all that are left."""

    class Sudden(Toy):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            begun = (input_ids != MASK).sum(1) > 1
            logits = torch.zeros(*input_ids.shape, len(TOKENS))
            sharp = 1.0 + 9.0 * (begun[:, None] | (torch.arange(input_ids.shape[1]) < 3))
            logits[..., 0] = sharp - 0.01 * torch.arange(input_ids.shape[1])
            return logits

    forwards = []
    for schedule in (Threshold(0.9), FreeDave(9, Threshold(0.9))):
        made = DiffusionInfiller(
            Sudden(), None, None, vocabulary=VOCABULARY, mask_token_id=MASK, schedule=schedule
        )
        (sample,) = made.fill([0], [Masks(6)])
        assert sample.token_ids == [0] * 6
        forwards.append(sample.stats.forwards)
    assert forwards == [2, 2]


def test_shares_of_llada() -> None:
    chosen: list[int] = []
    for step in range(4):
        left = 10 - sum(chosen)
        confidence = np.full(10, -np.inf)
        confidence[:left] = np.linspace(0.9, 0.1, left)
        chosen.append(len(Static(4).choose(View(confidence, range(10), 10, step))))
    assert chosen == [3, 3, 2, 2]


def test_dream_takes_everything_at_the_last_step() -> None:
    left, counts = 16, []
    for step in range(4):
        confidence = np.full(16, -np.inf)
        confidence[:left] = 0.5
        counts.append(len(Dream(4).choose(View(confidence, range(16), 16, step))))
        left -= counts[-1]
    assert left == 0
    assert counts == [3, 4, 4, 5]  # a little less than a quarter, rounded down; then the rest


def test_thresholds() -> None:
    confidence = np.array([0.95, 0.8, -np.inf, 0.7, 0.91, 0.76, 0.1])
    view = View(confidence, range(7), 7, 0)
    assert Threshold(0.9).choose(view) == [0, 4]
    assert Threshold(0.99).choose(view) == [0]
    assert LocalLeap(0.9, 0.75, 4).choose(view) == [0, 4, 1, 5]
    assert LocalLeap(0.9, 0.75, 0).choose(view) == [0, 4]
    assert LocalLeap(0.99, 0.5, 4).choose(view) == [0]


CONFIDENCES = st.lists(
    st.one_of(st.just(-math.inf), st.floats(0.01, 1.0)), min_size=1, max_size=14
).filter(lambda values: max(values) > -math.inf)


@given(
    CONFIDENCES, st.floats(0.5, 1.0), st.floats(0.05, 0.5), st.integers(0, 5), st.floats(0.0, 1.0)
)
def test_what_is_asked_near_anchors_place_by_place(
    values: list[float], anchor: float, near: float, radius: int, decay: float
) -> None:
    """Beside a loop over all pairs: a place is taken if some anchor near enough lets it."""
    view = View(np.array(values), range(len(values)), len(values), 0)
    taken = set()
    for i, own in enumerate(values):
        for j, other in enumerate(values):
            gap = abs(i - j)
            if other >= anchor and gap <= radius:
                slope = (anchor - near) * decay / radius if radius else 0.0
                taken |= {i} if own >= (anchor if gap == 0 else near + slope * (gap - 1)) else set()
    if not taken:
        taken = {values.index(max(values))}
    chosen = LocalLeap(anchor, near, radius, decay).choose(view)
    assert set(chosen) == taken
    assert chosen == [i for i in view.ranked() if i in taken]


@given(CONFIDENCES, st.integers(0, 5), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_decay_takes_less_and_never_less_than_the_threshold(
    values: list[float], radius: int, one: float, other: float
) -> None:
    view = View(np.array(values), range(len(values)), len(values), 0)
    less, more = sorted((one, other))
    most, fewer, fewest = (
        set(schedule.choose(view))
        for schedule in (
            LocalLeap(0.8, 0.3, radius, less),
            LocalLeap(0.8, 0.3, radius, more),
            Threshold(0.8),
        )
    )
    assert fewest <= fewer <= most


def test_decay_by_hand() -> None:
    leap = LocalLeap(anchor=0.9, near=0.7, radius=4, decay=1.0)
    assert [leap.asked(d) for d in range(1, 6)] == pytest.approx([0.7, 0.75, 0.8, 0.85, 0.9])
    assert [LocalLeap(radius=2).asked(d) for d in (1, 2, 3)] == [0.75, 0.75, 0.9]
    view = View(np.array([0.95, 0.72, 0.74, 0.76, 0.86, 0.86]), range(6), 6, 0)
    assert leap.choose(view) == [0, 4, 1]
    assert LocalLeap(0.9, 0.7, 4).choose(view) == [0, 4, 3, 2, 1]


def test_refused_tokens_are_not_proposed_again() -> None:
    logits = np.array([[3.0, 2.0, 1.0], [0.0, 5.0, 0.0]], np.float32)
    judged = Judgement([4, 7], logits.copy(), None, np.zeros((8, 3), np.float32))
    assert judged.tokens == {4: 0, 7: 1}
    assert judged.best() == 7
    judged.ban(7, [1])
    assert judged.tokens[7] in (0, 2)
    assert judged.confidence[7] == pytest.approx(0.5)
    assert judged.best() == 4
    judged.ban(7, [0, 2])
    assert judged.confidence[7] == -math.inf


# -- DINGO -----------------------------------------------------------------------------------------


@settings(anything, max_examples=30)
@given(grammars(), st.integers(0, 1000), st.booleans(), st.data())
def test_dingo_finds_the_likeliest_block(
    ir: GrammarIR, seed: int, padded: bool, data: st.DataObject
) -> None:
    grammar = Grammar(ir)
    assume(not grammar.is_empty)
    try:
        automaton = TokenAutomaton(grammar, VOCABULARY)
    except GrammarError:
        assume(False)
    ids = data.draw(st.lists(st.sampled_from([MASK, MASK, 0, 1, 4, 5]), min_size=1, max_size=4))
    open_ = [i for i, token in enumerate(ids) if token == MASK]
    block = open_[: data.draw(st.integers(0, len(open_)))]
    assume(block)
    logits = np.random.default_rng(seed).normal(size=(len(block), VOCABULARY.size))
    logits[:, MASK] = -np.inf
    wide = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    best = -math.inf
    choices = [i for i in range(VOCABULARY.size) if i != MASK and (padded or i != EOS)]
    for filling in itertools.product(choices, repeat=len(open_)):
        whole = list(ids)
        for place, token in zip(open_, filling, strict=True):
            whole[place] = token
        if ends_well(whole, grammar):
            best = max(best, sum(wide[i, whole[place]] for i, place in enumerate(block)))
    solver = Dingo(automaton, MASK, padded)
    if best == -math.inf:
        with pytest.raises(ValueError, match="no text"):
            solver(ids, block, logits.astype(np.float32))
        return
    found = solver(ids, block, logits.astype(np.float32))
    assert sorted(found) == block
    score = sum(wide[i, found[place]] for i, place in enumerate(block))
    assert score == pytest.approx(best, abs=1e-4)
    filled = [found.get(i, None if token == MASK else token) for i, token in enumerate(ids)]
    assert Completability(automaton).is_completable(filled, eos_padding=padded)


def ends_well(ids: Sequence[int], grammar: Grammar) -> bool:
    """Whether tokens are a text of the language and then nothing but EOS."""
    ends = list(ids).index(EOS) if EOS in ids else len(ids)
    if any(token != EOS for token in ids[ends:]):
        return False
    return grammar.accepts(VOCABULARY.decode(ids[:ends]))


def test_with_dingo_nothing_is_refused() -> None:
    grammar = Grammar.from_regex("(ab|ba)*c(a|b)*")
    for seed in range(20):
        made = infiller(grammar, seed, schedule=Threshold(0.3), solver="dingo", block_length=4)
        (sample,) = made.fill([0], [Masks(3), "c", Masks(4)])
        assert grammar.accepts(sample.text)
        assert sample.stats.rejected == 0


# -- models ----------------------------------------------------------------------------------------


def test_shifted_models_are_read_one_place_back() -> None:
    plain = MaskedModel(Toy(), vocabulary=VOCABULARY, mask_token_id=MASK)
    shifted = MaskedModel(Toy(), vocabulary=VOCABULARY, mask_token_id=MASK, shifted=True)
    canvas, frame = [MASK, 1, MASK], Frame((0, 2), (3,))
    a, b = plain.logits([frame], [canvas]), shifted.logits([frame], [canvas])
    assert a.shape == b.shape == (1, 3, VOCABULARY.size)
    assert torch.equal(a[0, :2], b[0, 1:])
    whole = Toy()(torch.tensor([[0, 2, *canvas, 3]]), torch.ones(1, 6))
    assert torch.equal(b[0, 0], whole[0, 1])


def test_guidance_moves_away_from_what_the_model_says_without_the_prompt() -> None:
    (without,) = infiller(None, schedule=Static()).fill([0, 1, 2], [Masks(3)])
    made = infiller(None, schedule=Static(), guidance=2.0)
    (sample,) = made.fill([0, 1, 2], [Masks(3)])
    assert made.model.forwards == 6
    assert sample.token_ids != without.token_ids or sample.logprob != without.logprob


def test_a_gap_gets_a_length_that_the_grammar_can_use() -> None:
    grammar = Grammar.from_regex("a{3}b?(ab){2}c")
    made = infiller(grammar)
    (sample,) = made.fill([0], ["a", Gap(8), "c"])
    assert grammar.accepts(sample.text)
    (empty,) = infiller(Grammar.from_regex("ac")).fill([0], ["a", Gap(5), "c"])
    assert empty.text == "ac"


# -- the learned schedule --------------------------------------------------------------------------


def test_a_filter_learns_what_is_final(tmp_path: Path) -> None:
    grammar = Grammar.from_regex("[abc()]*")
    slow = infiller(grammar, 3, schedule=Static(), block_length=4)
    tasks = [([0, i % 3], [Masks(3 + i % 4), "c", Masks(4)]) for i in range(12)]
    trained = slow.train_filter(tasks, block=4, epochs=150, eos_padding=True)
    assert trained.losses[-1] < trained.losses[0]
    assert 0 < trained.final <= trained.places
    trained.filter.save(tmp_path / "filter.safetensors")
    loaded = Filter.load(tmp_path / "filter.safetensors")
    schedule = Learn2PD(loaded, threshold=0.5)
    fast = infiller(grammar, 3, schedule=schedule, block_length=4)
    (sample,) = fast.fill(*tasks[0], eos_padding=True)
    (reference,) = slow.fill(*tasks[0], eos_padding=True)
    assert grammar.accepts(sample.text)
    assert sample.stats.forwards < reference.stats.forwards
    with pytest.raises(ValueError, match="block_length=4"):
        infiller(grammar, schedule=schedule).fill([0], [Masks(9)])
    with pytest.raises(ValueError, match="without gaps"):
        slow.train_filter([([0], [Gap(2)])])
    with pytest.raises(ValueError, match="nothing to learn"):
        slow.train_filter([])


def test_an_oracle_with_a_perfect_model_needs_one_forward_a_block() -> None:
    """Proposals that do not depend on the canvas are all final at once."""
    made = DiffusionInfiller(
        Fixed(), None, None, vocabulary=VOCABULARY, mask_token_id=MASK, schedule=Static()
    )
    trained = made.train_filter([([0], [Masks(8)])], block=4, epochs=1)
    assert trained.examples == 2
    assert trained.final == trained.places == 8


def test_a_filter_file_must_hold_a_filter(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold a filter"):
        Filter.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="threshold"):
        Learn2PD(Filter(4), threshold=1.0)


# -- the end of the text ---------------------------------------------------------------------------


class Short(torch.nn.Module):
    """Writes ``count`` letters and ends of text behind them, the surer the farther left; keeps its calls."""

    def __init__(self, count: int, sureness: float = 8.0) -> None:
        super().__init__()
        self.count, self.sureness = count, sureness
        self.lengths: list[int] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        self.lengths.append(length)
        logits = torch.zeros(*input_ids.shape, len(TOKENS))
        places = torch.arange(length)
        sure = self.sureness - 0.01 * places
        logits[:, places, torch.where(places < self.count, 0, EOS)] = sure
        return logits


@pytest.mark.parametrize("schedule", [Static(), FreeDave(3), Static(8), Threshold(0.9)])
@pytest.mark.parametrize("rules", [None, Grammar.from_regex("a*")])
def test_nothing_behind_a_foreseen_end_is_written_or_shown(
    schedule: Schedule, rules: Grammar | None
) -> None:
    found = []
    for end in (None, 0.9):
        toy = Short(5)
        made = DiffusionInfiller(
            toy, None, rules, vocabulary=VOCABULARY, mask_token_id=MASK, schedule=schedule,
            block_length=16, end_of_text=end,
        )  # fmt: skip
        (sample,) = made.fill([], [Masks(96)], eos_padding=True)
        assert sample.text == "aaaaa"
        found.append((sample.stats.forwards, toy.lengths))
    (plain, long), (cut, short) = found
    assert cut <= plain
    assert set(long) == {96}
    assert short[0] == 96
    assert all(
        length == 7 for length in short[1:]
    )  # the letters, the end foreseen, one end behind it
    if rules is None and schedule == Static():
        assert (plain, cut) == (96, 6)


@pytest.mark.parametrize("rules", [None, Grammar.from_regex("a*")])
def test_nothing_is_open_behind_an_end_that_is_given(rules: Grammar | None) -> None:
    toy = Short(5)
    made = DiffusionInfiller(
        toy, None, rules, vocabulary=VOCABULARY, mask_token_id=MASK, end_of_text=0.9
    )
    (sample,) = made.fill([], [Masks(2), EOS, Masks(9)], eos_padding=True)
    assert sample.token_ids == [0, 0, EOS]
    assert toy.lengths == [3]


def test_an_end_is_foreseen_from_the_probability_told_on() -> None:
    made = []
    for end in (0.2, 0.99):
        toy = Short(5, sureness=2.0)  # EOS has e^2 / (e^2 + 7) = 0.51 of what is left
        infill = DiffusionInfiller(
            toy, None, None, vocabulary=VOCABULARY, mask_token_id=MASK, schedule=Static(),
            block_length=8, end_of_text=end,
        )  # fmt: skip
        infill.fill([], [Masks(24)], eos_padding=True)
        made.append(toy.lengths)
    assert made[0][1] == 7
    assert made[1][:6] == [24] * 6
    plain = DiffusionInfiller(
        Short(5), None, None, vocabulary=VOCABULARY, mask_token_id=MASK, end_of_text=0.5
    )
    (sample,) = plain.fill([], [Masks(8)])  # without padding there is no end to foresee
    assert len(sample.text) >= 8
    with pytest.raises(ValueError, match="end_of_text"):
        infiller(None, end_of_text=0.0)


@anything
@given(
    st.sampled_from(RULES),
    st.lists(st.sampled_from([MASK, MASK, MASK, 0, 1, 6]), min_size=1, max_size=6),
    st.integers(0, 10_000),
    st.sampled_from([0.15, 0.3, 0.6]),
    st.sampled_from([None, 1, 3]),
)
def test_the_end_that_is_foreseen_is_the_first_one_that_the_grammar_allows(
    rules: Grammar | None, ids: list[int], seed: int, sure: float, block: int | None
) -> None:
    """One step beside the same step without foresight, and a loop over places."""
    ids = [*ids, MASK, MASK, MASK]
    engine = None if rules is None else Completability(TokenAutomaton(rules, VOCABULARY))
    parts = [None if token == MASK else token for token in ids]
    assume(engine is None or engine.is_completable(parts, eos_padding=True))
    logits = np.random.default_rng(seed).normal(size=(len(ids), len(TOKENS))).astype(np.float32)
    logits[:, EOS] += 1.5
    barred = np.array([not text and i != EOS for i, text in enumerate(TOKENS)])
    drafts = []
    for end in (None, sure):
        canvas = None if engine is None else engine.open(parts, eos_padding=True)
        draft = Draft(ids, canvas, Rules(barred, (EOS,), MASK, 0.0, block, True, end))
        draft.advance(logits, Static())
        drafts.append(draft.ids)
    want = list(drafts[0])
    law = np.where(barred, 0, np.exp(logits.astype(np.float64)))
    law /= law.sum(1, keepdims=True)
    for place in range(len(ids) - 1):
        behind = want[place + 1 :]
        if want[place] != MASK or MASK not in behind or set(behind) - {MASK, EOS}:
            continue
        if law[place].argmax() != EOS or law[place, EOS] < sure:
            continue
        cut = [*want[: place + 1], *[EOS] * len(behind)]
        cells = [None if token == MASK else token for token in cut]
        if engine is None or engine.is_completable(cells, eos_padding=True):
            want = cut
            break
    assert drafts[1] == want


# -- what is refused -------------------------------------------------------------------------------


def test_what_does_not_fit_is_named() -> None:
    made = infiller(Grammar.from_regex("a+b"))
    with pytest.raises(NoCompletion, match="the fixed text 'c' cannot follow"):
        made.fill([0], [Masks(2), "c", Masks(1)])
    with pytest.raises(NoCompletion, match="'c' at byte 2 of the fixed text 'aac' cannot follow"):
        made.fill([0], ["aac", Masks(1)])
    with pytest.raises(NoCompletion, match="no text can end where the canvas ends"):
        made.fill([0], ["a", Masks(0)])
    assert made.model.forwards == 0
    with pytest.raises(TypeError, match="not float"):
        made.fill([0], [1.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="list of parts"):
        made.fill([0], "ab")
    with pytest.raises(ValueError, match="empty canvas"):
        made.fill([0], [])
    with pytest.raises(ValueError, match="cannot be written"):
        made.fill([0], ["x"])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        made.fill([0], [99])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"block_length": 0}, "block_length"),
        ({"solver": "x"}, "solver"),
        ({"solver": "dingo"}, "give one"),
        ({"guidance": -1.0}, "guidance"),
        ({"batch": 0}, "batch"),
        ({"schedule": FreeDave(), "temperature": 1.0}, "FreeDave"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infiller(None, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Static(0),
        lambda: Threshold(0.0),
        lambda: Threshold(1.5),
        lambda: LocalLeap(radius=-1),
        lambda: LocalLeap(decay=1.5),
        lambda: LocalLeap(decay=-0.1),
        lambda: FreeDave(0),
        lambda: FreeDave(2, FreeDave()),
        lambda: Dream(0),
    ],
)
def test_bad_schedules(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must|least"):
        make()


def test_texts_are_the_same_again_with_a_seed() -> None:
    grammar = Grammar.from_regex("[abc]*")
    made = infiller(grammar, temperature=1.0)
    a = made.fill([0], [Masks(6)], 4, seed=5)
    b = made.fill([0], [Masks(6)], 4, seed=5)
    assert [s.token_ids for s in a] == [s.token_ids for s in b]
    assert len({tuple(s.token_ids) for s in a}) > 1


def test_names_compile_no_kernels() -> None:
    """Kernels of infilling are for those who infill."""
    code = """
import sys
from gramma import *
from samplers.diffusion import Masks, NoCompletion
assert DiffusionInfiller.__name__ == "DiffusionInfiller"
print("samplers.diffusion._kernels" in sys.modules)
from samplers import is_completable
print("samplers.diffusion._kernels" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\nTrue\n", done.stderr


# -- where the automaton forgets states ------------------------------------------------------------

NESTED = Grammar.from_gbnf('root ::= "(" root ")" | "a" | "b" | root "c" root')
UNIQUE = Grammar.from_json_schema(
    {"type": "array", "items": {"enum": [1, 2, 3, 12]}, "uniqueItems": True}
)
ITEMS = Vocabulary.from_tokens([b"[", b"]", b",", b"1", b"2", b"3", b", ", b"12", None, None], [8])


def written(made: DiffusionInfiller, canvas: Sequence[Part], seed: int) -> list[list[int]] | None:
    """Tokens of two texts; ``None`` where nothing fits."""
    try:
        return [one.token_ids for one in made.fill([0], canvas, 2, seed=seed)]
    except NoCompletion:
        return None


def forgetting(
    grammar: Grammar,
    words: Vocabulary,
    states: int,
    monkeypatch: pytest.MonkeyPatch,
    **options: Any,
) -> tuple[DiffusionInfiller, DiffusionInfiller]:
    """One with room for some states, and one with room for all."""
    monkeypatch.setattr("constrain.engine.pool._FIRST_STATES", 8)
    few, many = (
        DiffusionInfiller(
            Toy(3, words.size),
            None,
            TokenAutomaton(grammar, words, Limits(max_states=room)),
            vocabulary=words,
            mask_token_id=words.size - 1,
            schedule=Threshold(0.3),
            **options,
        )
        for room in (states, 1_000_000)
    )
    return few, many


@pytest.mark.parametrize(
    "options", [{}, {"solver": "dingo", "block_length": 4}], ids=["plain", "dingo"]
)
def test_room_for_few_states(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trims: list[int]
) -> None:
    """Fill after fill, what was left behind makes room."""
    few, many = forgetting(NESTED, VOCABULARY, 60, monkeypatch, **options)
    for fill in range(24):
        depth = 5 * fill % 16
        canvas = ["(" * depth, Masks(fill % 3 + 1), ")" * depth]
        assert written(few, canvas, fill) == written(many, canvas, fill)
    assert trims


def test_room_for_few_states_with_memory(monkeypatch: pytest.MonkeyPatch, trims: list[int]) -> None:
    """Items that must not repeat, for which whole texts are read by the caller's automaton."""
    few, many = forgetting(UNIQUE, ITEMS, 50, monkeypatch)
    for fill in range(16):
        canvas = ["[", Masks(2 * (fill % 4) + 1), "]"]
        assert written(few, canvas, fill) == written(many, canvas, fill)
    assert trims
