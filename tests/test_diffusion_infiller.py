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
from grammars import Grammar, GrammarError
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
from samplers.diffusion.draft import Judgement
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
    Dream(steps=4),
    FreeDave(drafts=3),
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


@anything
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

    class Fixed(Toy):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.zeros_like(input_ids), attention_mask)

    made = DiffusionInfiller(
        Fixed(), None, None, vocabulary=VOCABULARY, mask_token_id=MASK, schedule=Static()
    )
    trained = made.train_filter([([0], [Masks(8)])], block=4, epochs=1)
    assert trained.examples == 2
    assert trained.final == trained.places == 8


def test_a_filter_file_must_hold_a_filter(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no filter"):
        Filter.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="threshold"):
        Learn2PD(Filter(4), threshold=1.0)


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
        lambda: FreeDave(0),
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
