"""Hidden Markov models: against sums over all paths of states, in plain Python."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from constrain.vocabulary import Vocabulary
from samplers import HMM
from samplers.deco_g.distil import (
    Corpus,
    Prompt,
    collect,
    distil,
    fit_corpus,
    head_of,
    initial_hmm,
    kmeans,
    nearest,
)
from samplers.deco_g.em import Epoch, expected_counts, fit_em
from samplers.deco_g.hmm import MISSING, TokenizerMismatch, fingerprint_of

VOCABULARY = Vocabulary.from_tokens([b"a", b"b", b"ab", None], [3])
Rows = list[list[float]]
Plain = tuple[list[float], Rows, Rows]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- by enumeration --------------------------------------------------------------------------------


def row(rng: random.Random, width: int, zeros: float) -> list[float]:
    weights = [0.0 if rng.random() < zeros else rng.random() + 0.05 for _ in range(width)]
    weights[rng.randrange(width)] += 0.3
    total = sum(weights)
    return [w / total for w in weights]


def plain_of(seed: int, states: int, tokens: int, zeros: float = 0.2) -> Plain:
    rng = random.Random(seed)
    return (
        row(rng, states, zeros),
        [row(rng, states, zeros) for _ in range(states)],
        [row(rng, tokens, zeros) for _ in range(states)],
    )


def hmm_of(plain: Plain, dtype: torch.dtype = torch.float64) -> HMM:
    initial, transition, emission = (torch.tensor(part, dtype=dtype) for part in plain)
    return HMM(initial, transition, emission)


def paths_of(plain: Plain, ids: list[int | None]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every path of states with its probability together with the tokens; ``None`` is any token."""
    initial, transition, emission = plain
    for path in itertools.product(range(len(initial)), repeat=len(ids)):
        p = 1.0
        for t, (state, token) in enumerate(zip(path, ids, strict=True)):
            p *= initial[state] if t == 0 else transition[path[t - 1]][state]
            p *= 1.0 if token is None else emission[state][token]
        yield path, p


def probability_of(plain: Plain, ids: list[int]) -> float:
    return math.fsum(p for _, p in paths_of(plain, list(ids)))


def log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


@st.composite
def cases(draw: st.DrawFn) -> tuple[Plain, list[int]]:
    states, tokens = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    plain = plain_of(draw(st.integers(0, 10**6)), states, tokens, draw(st.sampled_from([0.0, 0.4])))
    return plain, draw(st.lists(st.integers(0, tokens - 1), max_size=5))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_likelihood_filter_and_next_token_equal_sums_over_paths(
    case: tuple[Plain, list[int]],
) -> None:
    plain, ids = case
    hmm = hmm_of(plain)
    p = probability_of(plain, ids)
    assert hmm.log_likelihood(ids) == pytest.approx(log(p), abs=1e-9)
    vector, total = hmm.start(), 0.0
    for t, token in enumerate(ids):
        before = probability_of(plain, ids[:t])
        expected = [probability_of(plain, [*ids[:t], v]) for v in range(hmm.vocabulary_size)]
        if before > 0:
            wanted = [e / before for e in expected]
            assert hmm.next_token(vector).tolist() == pytest.approx(wanted, abs=1e-9)
        else:
            assert not hmm.next_token(vector).any()
        vector, logp = hmm.observe(vector, token)
        total += logp
        assert total == pytest.approx(log(expected[token]), abs=1e-9)
    if p > 0:  # the vector is that of the state to come
        after = [0.0] * hmm.states
        for path, q in paths_of(plain, [*ids, None]):
            after[path[-1]] += q / p
        assert vector.tolist() == pytest.approx(after, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_posterior_equals_sums_over_paths(case: tuple[Plain, list[int]]) -> None:
    plain, ids = case
    p = probability_of(plain, ids)
    if p == 0:
        with pytest.raises(ValueError, match="probability zero"):
            hmm_of(plain).posterior(ids)
        return
    wanted = torch.zeros(len(ids), len(plain[0]), dtype=torch.float64)
    for path, q in paths_of(plain, list(ids)):
        for t, state in enumerate(path):
            wanted[t, state] += q / p
    found = hmm_of(plain).posterior(ids)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-9, rtol=0)


def test_many_at_once_equal_one_by_one() -> None:
    plain = plain_of(1, 3, 4)
    rng = random.Random(1)
    texts = [[rng.randrange(4) for _ in range(n)] for n in (5, 0, 1, 7, 3, 3, 1)]
    hmm = hmm_of(plain)
    for batch in (1, 2, 64):
        found = hmm.log_likelihoods(texts, batch=batch)
        assert found.tolist() == pytest.approx([log(probability_of(plain, t)) for t in texts])
    assert hmm.log_likelihoods([]).shape == (0,)


def test_probabilities_of_all_texts_of_a_length_sum_to_one() -> None:
    hmm = hmm_of(plain_of(2, 3, 3))
    texts = [list(t) for t in itertools.product(range(3), repeat=4)]
    assert float(hmm.log_likelihoods(texts).exp().sum()) == pytest.approx(1.0, abs=1e-12)


# -- long texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_texts_do_not_underflow(dtype: torch.dtype) -> None:
    plain = plain_of(3, 4, 50, 0.0)
    hmm = hmm_of(plain, dtype)
    ids = hmm.sample(5000, torch.Generator().manual_seed(0))
    initial, transition, emission = plain
    vector, wanted = initial, 0.0
    for token in ids:
        joint = [v * emission[z][token] for z, v in enumerate(vector)]
        total = math.fsum(joint)
        wanted += math.log(total)
        vector = [
            math.fsum(j * transition[y][z] for y, j in enumerate(joint)) / total for z in range(4)
        ]
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    assert wanted < -10_000  # far below what a float can hold
    assert hmm.log_likelihood(ids) == pytest.approx(wanted, rel=tolerance)
    state, total = hmm.start(), 0.0
    for token in ids:
        state, logp = hmm.observe(state, token)
        total += logp
    assert total == pytest.approx(wanted, rel=tolerance)
    found = hmm.posterior(ids)
    assert torch.allclose(found.sum(1), torch.ones(5000, dtype=dtype), atol=1e-5)


def test_what_is_too_small_for_float32_is_not_impossible() -> None:
    tiny = 1e-30
    plain = (
        [1.0 - tiny, tiny, 0.0],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0], [1.0 - tiny, tiny], [0.0, 1.0]],  # the last is likeliest but out of reach
    )
    hmm = hmm_of(plain, torch.float32)
    ids = [1, 1, 0]
    assert hmm.log_likelihood(ids) == pytest.approx(3 * math.log(tiny), rel=1e-6)
    assert hmm.posterior(ids)[:, 1].tolist() == [1.0, 1.0, 1.0]


def test_impossible_tokens_give_minus_infinity_for_good() -> None:
    hmm = hmm_of(([1.0, 0.0], [[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert hmm.log_likelihood([0, 1, 1]) == 0.0
    assert hmm.log_likelihood([0, 0]) == -math.inf
    assert hmm.log_likelihood([0, 2, 1]) == -math.inf
    vector, logp = hmm.observe(hmm.start(), 1)
    assert logp == -math.inf
    assert hmm.next_token(vector).tolist() == [0.0, 0.0, 0.0]
    assert hmm.observe(vector, 0)[1] == -math.inf


# -- samples, places, files ------------------------------------------------------------------------


def test_samples_follow_the_probabilities_and_the_seed() -> None:
    plain = plain_of(4, 2, 2, 0.0)
    hmm = hmm_of(plain)
    generator = torch.Generator().manual_seed(5)
    drawn = [tuple(hmm.sample(2, generator)) for _ in range(3000)]
    for text in itertools.product(range(2), repeat=2):
        p = probability_of(plain, list(text))
        assert abs(drawn.count(text) / 3000 - p) < 5 * math.sqrt(p * (1 - p) / 3000)
    again = torch.Generator().manual_seed(5)
    assert [tuple(hmm.sample(2, again)) for _ in range(20)] == drawn[:20]


def test_other_precision() -> None:
    hmm = hmm_of(plain_of(6, 3, 4))
    single = hmm.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    assert single.log_likelihood([0, 1, 2]) == pytest.approx(
        hmm.log_likelihood([0, 1, 2]), rel=1e-5
    )
    with pytest.raises(ValueError, match="float32 or float64"):
        hmm.to(dtype=torch.float16)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    hmm = hmm_of(plain_of(7, 3, 4))
    hmm.save(path, fingerprint_of(VOCABULARY))
    for tokenizer in (None, VOCABULARY):
        loaded = HMM.load(path, tokenizer)
        assert loaded.fingerprint == fingerprint_of(VOCABULARY)
        for name in ("initial", "transition", "emission"):
            assert torch.equal(getattr(loaded, name), getattr(hmm, name))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    loaded.save(path)  # it keeps what it knows
    HMM.load(path, VOCABULARY)


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    hmm = hmm_of(plain_of(7, 3, 4))
    hmm.save(path, fingerprint_of(VOCABULARY))
    other = Vocabulary.from_tokens([b"a", b"b", b"ba", None], [3])
    with pytest.raises(TokenizerMismatch, match="another tokenizer"):
        HMM.load(path, other)
    hmm.save(path)
    with pytest.raises(TokenizerMismatch, match="does not say"):
        HMM.load(path, VOCABULARY)
    assert HMM.load(path).fingerprint is None


def test_fingerprints_look_at_tokens_only() -> None:
    padded = Vocabulary.from_tokens([b"a", b"b", b"ab", None], [3], size=8)
    assert fingerprint_of(padded) == fingerprint_of(VOCABULARY)
    shifted = Vocabulary.from_tokens([b"a", None, b"b", b"ab"], [1])
    joined = Vocabulary.from_tokens([b"ab", b"", b"ab", None], [3])
    assert len({fingerprint_of(v) for v in (VOCABULARY, shifted, joined)}) == 3
    one = Vocabulary.from_tokens([b"a1 b", b"", None], [2])
    two = Vocabulary.from_tokens([b"a", b"b", None], [2])
    assert fingerprint_of(one) != fingerprint_of(two)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, tensors = tmp_path / "a.txt", tmp_path / "b.safetensors"
    text.write_text("no model")
    save_file({"initial": torch.ones(1)}, tensors)
    for path in (text, tensors):
        with pytest.raises(ValueError, match="does not hold an HMM of gramma"):
            HMM.load(path)


ONE = torch.ones(1)
HALF = torch.full((2,), 0.5)
SQUARE = torch.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((SQUARE, SQUARE, SQUARE), "initial has the shape"),
        ((HALF, ONE[None], SQUARE), "transition has the shape"),
        ((HALF, SQUARE, ONE[None]), "emission has the shape"),
        ((HALF, SQUARE.double(), SQUARE), "must be alike"),
        ((HALF.half(), SQUARE.half(), SQUARE.half()), "float32 or float64"),
        ((HALF, SQUARE * 1.01, SQUARE), "row 0 of transition sums to 1.01"),
        ((HALF * torch.nan, SQUARE, SQUARE), "initial sums to nan"),
        ((torch.tensor([1.5, -0.5]), SQUARE, SQUARE), "negative"),
    ],
)
def test_bad_tensors_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HMM(*parts)


def test_bad_tokens_are_refused() -> None:
    hmm = hmm_of(plain_of(8, 2, 3))
    with pytest.raises(ValueError, match="token 3 at place 1 of sequence 1"):
        hmm.log_likelihoods([[0], [0, 3]])
    with pytest.raises(ValueError, match="token -1 is outside"):
        hmm.observe(hmm.start(), -1)
    with pytest.raises(AttributeError):
        hmm.initial = ONE  # type: ignore[misc]


# -- EM --------------------------------------------------------------------------------------------


def counts_of(plain: Plain, texts: list[list[int | None]]) -> tuple[list[float], Rows, Rows]:
    """Expected counts, by enumeration."""
    states, tokens = len(plain[0]), len(plain[2][0])
    initial = [0.0] * states
    transition = [[0.0] * states for _ in range(states)]
    emission = [[0.0] * tokens for _ in range(states)]
    for ids in texts:
        total = math.fsum(p for _, p in paths_of(plain, ids))
        for path, p in paths_of(plain, ids):
            share = p / total
            for t, state in enumerate(path):
                if t == 0:
                    initial[state] += share
                else:
                    transition[path[t - 1]][state] += share
                token = ids[t]
                if token is not None:
                    emission[state][token] += share
    return initial, transition, emission


def texts_from(plain: Plain, lengths: list[int], seed: int) -> list[list[int]]:
    """Texts that are possible."""
    generator = torch.Generator().manual_seed(seed)
    return [hmm_of(plain).sample(n, generator) for n in lengths]


LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), LENGTHS, st.sampled_from([1, 2, 64]))
def test_expected_counts_equal_sums_over_paths(
    seed: int, states: int, lengths: list[int], batch: int
) -> None:
    plain, rng = plain_of(seed, states, 3), random.Random(seed)
    texts = texts_from(plain, lengths, seed)
    gaps: list[list[int | None]] = [
        [None if rng.random() < 0.3 else token for token in text] for text in texts
    ]
    given_ = [[MISSING if token is None else token for token in text] for text in gaps]
    found = expected_counts(hmm_of(plain), given_, batch=batch)
    initial, transition, emission = counts_of(plain, gaps)
    assert torch.allclose(found.initial, torch.tensor(initial, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(
        found.transition, torch.tensor(transition, dtype=torch.float64), atol=1e-9
    )
    assert torch.allclose(found.emission, torch.tensor(emission, dtype=torch.float64), atol=1e-9)
    wanted = math.fsum(log(math.fsum(p for _, p in paths_of(plain, g))) for g in gaps)
    assert found.log_likelihood == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), LENGTHS.filter(any), st.sampled_from([0.0, 0.7]))
def test_a_step_gives_normalised_counts(seed: int, lengths: list[int], pseudocount: float) -> None:
    plain = plain_of(seed, 2, 3)
    texts = texts_from(plain, lengths, seed)
    made, history = fit_em(
        hmm_of(plain), texts, epochs=1, pseudocount=pseudocount, dropout=0, held_out=texts
    )
    wanted = counts_of(plain, [list(t) for t in texts])
    rows = [(wanted[0], plain[0], made.initial)]
    for counts, before, after in (
        (wanted[1], plain[1], made.transition),
        (wanted[2], plain[2], made.emission),
    ):
        rows += list(zip(counts, before, after, strict=True))
    for counts_row, old, new in rows:
        allowed = sum(p > 0 for p in old)
        smooth = [c + pseudocount / allowed * (p > 0) for c, p in zip(counts_row, old, strict=True)]
        expected = [s / sum(smooth) for s in smooth] if sum(smooth) > 0 else old
        assert new.tolist() == pytest.approx(expected, abs=1e-9)
    tokens = sum(lengths)
    before_step = math.fsum(log(probability_of(plain, t)) for t in texts)
    assert history[0].train == pytest.approx(before_step / tokens)
    assert history[0].held_out == pytest.approx(float(made.log_likelihoods(texts).sum()) / tokens)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
def test_likelihood_never_falls(seed: int, zeros: float) -> None:
    source = plain_of(seed, 3, 5)
    texts = texts_from(source, [8, 3, 12, 1, 0, 8], seed)
    start = hmm_of(plain_of(seed + 1, 4, 5, zeros))
    if math.isinf(float(start.log_likelihoods(texts).sum())):
        with pytest.raises(ValueError, match="probability zero"):
            fit_em(start, texts, pseudocount=0, dropout=0)
        return
    made, history = fit_em(start, texts, epochs=15, pseudocount=0, dropout=0)
    trained = [e.train for e in history]
    trained.append(float(made.log_likelihoods(texts).sum()) / sum(map(len, texts)))
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(trained))
    assert math.isnan(history[0].held_out)


def test_a_prior_is_added_to_the_counts() -> None:
    plain = plain_of(3, 2, 3, 0.0)
    texts = texts_from(plain, [4, 2], 3)
    prior = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64)
    made, _ = fit_em(hmm_of(plain), texts, epochs=1, pseudocount=0, dropout=0, prior=prior)
    counts = (
        torch.tensor(counts_of(plain, [list(t) for t in texts])[2], dtype=torch.float64) + prior
    )
    assert torch.allclose(made.emission, counts / counts.sum(1, keepdim=True), atol=1e-9, rtol=0)
    for wrong in (prior[:1], -prior):
        with pytest.raises(ValueError, match="prior has the shape"):
            fit_em(hmm_of(plain), texts, prior=wrong)


SOURCE: Plain = (
    [0.8, 0.1, 0.1],
    [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.85, 0.1, 0.05]],
    [
        [0.45, 0.45, 0.02, 0.02, 0.03, 0.03],
        [0.02, 0.02, 0.6, 0.3, 0.03, 0.03],
        [0.02, 0.02, 0.03, 0.03, 0.2, 0.7],
    ],
)


def test_a_model_is_recovered() -> None:
    source = hmm_of(SOURCE, torch.float32)
    generator = torch.Generator().manual_seed(0)
    texts = [source.sample(5 + i % 11, generator) for i in range(500)]
    train, held = texts[:400], texts[400:]
    tokens = sum(map(len, held))
    wanted = float(source.log_likelihoods(held).sum()) / tokens
    start = hmm_of(plain_of(5, 3, 6, 0.0), torch.float32)
    before = float(start.log_likelihoods(held).sum()) / tokens
    _, history = fit_em(start, train, epochs=60, batch=128, held_out=held)
    assert before < wanted - 0.2
    assert abs(history[-1].held_out - wanted) < 0.02


def test_zeros_stay_zero_and_nothing_else_becomes_one() -> None:
    plain = plain_of(11, 3, 4, 0.5)
    made, _ = fit_em(hmm_of(plain), texts_from(plain, [5, 5, 5], 1), epochs=3)
    for name, before in zip(("initial", "transition", "emission"), plain, strict=True):
        assert torch.equal(getattr(made, name) > 0, torch.tensor(before) > 0)


def test_float32_counts_where_only_float64_can_hold_them() -> None:
    tiny = 1e-30
    plain = (
        [1.0 - tiny, tiny],
        [[1.0, 0.0], [0.0, 1.0]],
        [[1.0 - tiny, tiny], [1e-38, 1.0]],
    )
    texts = [[1, 1, 0, 0], [0, 1]]
    single = expected_counts(hmm_of(plain, torch.float32), texts)
    double = expected_counts(hmm_of(plain), texts)
    assert single.log_likelihood == pytest.approx(double.log_likelihood, rel=1e-6)
    assert torch.allclose(single.transition.double(), double.transition, atol=1e-6)
    assert torch.allclose(single.emission.double(), double.emission, atol=1e-6)


def test_float32_counts_where_many_small_numbers_are_divided_by() -> None:
    tiny = 1e-37
    plain = ([1.0 - tiny, tiny], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]])
    found = expected_counts(hmm_of(plain, torch.float32), [[0, 1]] * 100)
    assert found.transition.tolist() == [[0.0, 0.0], [0.0, 100.0]]
    assert found.emission.tolist() == [[0.0, 0.0], [100.0, 100.0]]


class Interrupted(Exception):  # noqa: N818 - what it stands for
    """As if the process had been ended."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fit_that_was_interrupted_goes_on(tmp_path: Path, dtype: torch.dtype) -> None:
    texts = texts_from(SOURCE, [9, 4, 0, 7, 7, 2], 3)
    start = hmm_of(plain_of(5, 3, 6, 0.0), dtype)
    options: dict[str, Any] = {"dropout": 0.2, "batch": 2, "held_out": texts[:2], "seed": 4}
    whole, history = fit_em(start, texts, epochs=5, **options)
    path = tmp_path / "em.safetensors"

    def stop(epoch: Epoch, _: HMM) -> None:
        if epoch.number == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit_em(start, texts, epochs=5, checkpoint=path, on_epoch=stop, **options)
    seen: list[int] = []
    resumed, again = fit_em(
        start,
        texts,
        epochs=5,
        checkpoint=path,
        on_epoch=lambda e, _: seen.append(e.number),
        **options,
    )
    assert seen == [3, 4, 5]
    assert again == history
    for name in ("initial", "transition", "emission"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name))
    assert fit_em(start, texts, epochs=5, checkpoint=path, **options)[1] == history  # all done
    with pytest.raises(ValueError, match="another dropout, sequences"):
        fit_em(start, texts[1:], epochs=5, checkpoint=path, **(options | {"dropout": 0.1}))


def test_dropout_follows_its_seed() -> None:
    texts = texts_from(SOURCE, [30, 30], 3)
    start = hmm_of(plain_of(5, 3, 6, 0.0))
    first, second, other = (
        fit_em(start, texts, epochs=2, dropout=0.3, seed=s)[0].emission for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    # With one state, emissions are the frequencies of the tokens that the last epoch did not drop.
    seen: list[list[float]] = []
    single = hmm_of(plain_of(1, 1, 6, 0.0))
    fit_em(
        single,
        texts,
        epochs=4,
        dropout=0.3,
        on_epoch=lambda _, h: seen.append(h.emission[0].tolist()),
    )
    assert len({tuple(e) for e in seen}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"pseudocount": -1.0}, "pseudocount=-1.0"),
        ({"batch": 0}, "batch=0"),
        ({"sequences": [[], []]}, "no sequence has a token"),
        ({"sequences": [[6]]}, "token 6 at place 0"),
        ({"sequences": [[MISSING]]}, "token -1 at place 0"),
    ],
)
def test_bad_options_of_em_are_refused(options: dict[str, Any], message: str) -> None:
    options = {"sequences": [[0, 1]]} | options
    with pytest.raises(ValueError, match=message):
        fit_em(hmm_of(SOURCE), options.pop("sequences"), **options)


# -- distilling ------------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS:"
TEMPLATE = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
)


def tokenizer_of(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """48 tokens: letters and two special ones."""
    ids = {piece: i for i, piece in enumerate(["<|begin|>", "<|end|>", *LETTERS])}
    bpe = Tokenizer(models.BPE(vocab=ids, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|begin|>", eos_token="<|end|>")
    made.chat_template = template
    return made


TOKENIZER = tokenizer_of()
END = 1
LENGTH = 12


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """A small random model that is sure of itself; 50 rows for 48 tokens."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=END,
        pad_token_id=None,
        initializer_range=0.6,
    )
    made = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # texts shall end now and then
        made.lm_head.weight[END] *= 1.5
    # Defaults that must not touch what is drawn.
    made.generation_config.top_k = 1
    made.generation_config.repetition_penalty = 5.0
    return made


@pytest.fixture(scope="module")
def corpus(model: LlamaForCausalLM) -> Corpus:
    prompts: list[Prompt] = ["ab", "Hello", [{"role": "user", "content": "hi"}], [5, 6, 7]]
    return collect(model, TOKENIZER, prompts, count=320, length=LENGTH, batch=64, seed=3)


def test_a_corpus_holds_what_the_model_says(model: LlamaForCausalLM, corpus: Corpus) -> None:
    assert len(corpus.sequences) == 320
    assert corpus.vocabulary_size == 50
    assert sum(corpus.held_out) == 32
    assert len(corpus.train) == 288
    assert len(corpus.measured) == 32
    assert 0 < corpus.ended < 1
    assert all(len(ids) == LENGTH or ids[-1] == END for ids in corpus.sequences)
    spans = list(itertools.pairwise([0, *itertools.accumulate(map(len, corpus.sequences))]))
    prompts = [[2, 3], TOKENIZER("Hello")["input_ids"], TOKENIZER("hi:")["input_ids"], [5, 6, 7]]
    for number, prompt in zip((0, 80, 160, 240), prompts, strict=True):
        ids = corpus.sequences[number]
        text = torch.tensor([[*prompt, *ids]])
        with torch.no_grad():
            hidden = model.model(text).last_hidden_state[0, len(prompt) - 1 : -1]
        found = corpus.hidden[slice(*spans[number])].float()
        assert torch.allclose(found, hidden, atol=0.01)
    # The first tokens are drawn from the model's own distribution, whatever its defaults say.
    for number, prompt in zip((0, 80, 160, 240), prompts, strict=True):
        with torch.no_grad():
            p = model(torch.tensor([prompt])).logits[0, -1].double().softmax(-1)
        firsts = torch.tensor([ids[0] for ids in corpus.sequences[number : number + 80]])
        seen = torch.bincount(firsts, minlength=50) / 80
        assert float((seen - p).abs().max()) < 5 * 0.5 / math.sqrt(80)
        expected = float((p * p.log()).sum())
        spread = float((p * p.log().square()).sum() - expected**2) ** 0.5
        assert abs(float(p[firsts].log().mean()) - expected) < 5 * spread / math.sqrt(80) + 1e-9


def test_draws_follow_the_model_at_the_temperature(model: LlamaForCausalLM) -> None:
    found = collect(model, TOKENIZER, [[5, 6]], count=1500, length=1, temperature=3.0, batch=500)
    with torch.no_grad():
        p = (model(torch.tensor([[5, 6]])).logits[0, -1].double() / 3).softmax(-1)
    seen = torch.bincount(torch.tensor(found.sequences)[:, 0], minlength=50) / 1500
    assert bool(((seen - p).abs() < 5 * (p * (1 - p) / 1500).sqrt() + 1e-3).all())
    assert float(p.topk(10).values.sum()) < 0.9  # the tail is seen


def test_drawing_leaves_the_model_and_the_seed_alone(model: LlamaForCausalLM) -> None:
    before, state = model.generation_config, torch.get_rng_state()
    first, second, other = (
        collect(model, TOKENIZER, None, count=5, length=6, seed=s).sequences for s in (1, 1, 2)
    )
    assert first == second != other
    assert model.generation_config is before
    assert before.top_k == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_whole_prompts_are_held_out_where_there_are_many(model: LlamaForCausalLM) -> None:
    prompts = [[i + 2] for i in range(20)]
    found = collect(model, TOKENIZER, prompts, samples_per_prompt=3, length=2, held_out=0.2)
    groups = [found.held_out[i : i + 3] for i in range(0, 60, 3)]
    assert sum(map(all, groups)) == 4
    assert not any(any(g) and not all(g) for g in groups)


def test_the_first_model_counts_clusters() -> None:
    texts = ((1, 2, 0), (2, 1, 1), (1,), (2, 2))
    middles = {0: [5.0, 5.0], 1: [9.0, 0.0], 2: [0.0, 9.0]}  # each token a cluster of its own
    hidden = torch.tensor([middles[i] for ids in texts for i in ids]).half()
    made = Corpus(texts, hidden, (False, False, False, True), (0,), 4)
    hmm = initial_hmm(made, states=3, pseudocount=1e-9)
    one, two = int(hmm.emission[:, 1].argmax()), int(hmm.emission[:, 2].argmax())
    assert torch.allclose(hmm.initial[[one, two, 2]], torch.tensor([2 / 3, 1 / 3, 0.0]))
    wanted = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    assert torch.allclose(hmm.transition[[one, two, 2]][:, [one, two, 2]], wanted)
    assert torch.allclose(hmm.emission[[one, two, 2]], torch.eye(4)[[1, 2, 0]], atol=1e-6)


def test_the_first_model_and_the_last_know_their_end(corpus: Corpus) -> None:
    first = initial_hmm(corpus, states=9)
    last, history = fit_corpus(corpus, states=9, epochs=4)
    for hmm in (first, last):
        assert hmm.transition[-1].tolist() == [0.0] * 8 + [1.0]
        assert hmm.emission[-1].tolist() == [float(i == END) for i in range(50)]
        assert not hmm.emission[:-1, END].any()
        assert bool((hmm.emission[:-1, torch.arange(50) != END] > 0).all())
        assert bool((hmm.transition[:-1] > 0).all())
        assert hmm.log_likelihood([END, 5]) == -math.inf
    assert len(history) == 4


def test_emissions_begin_with_the_models_own(model: LlamaForCausalLM, corpus: Corpus) -> None:
    texts = collect(model, TOKENIZER, [[5, 6], [7]], count=12, length=6, temperature=1.5)
    hmm = initial_hmm(texts, states=2, head=head_of(model, 1.5))
    seen = []
    for number, ids in enumerate(texts.sequences):
        prompt = [5, 6] if number < 6 else [7]
        with torch.no_grad():
            p = (model(torch.tensor([[*prompt, *ids]])).logits[0] / 1.5).softmax(-1)
        if not texts.held_out[number]:
            seen += [p[len(prompt) - 1 + i] for i, token in enumerate(ids) if token != END]
    mean = torch.stack(seen)
    mean[:, END] = 0
    mean = (mean / mean.sum(1, keepdim=True)).mean(0)
    assert torch.allclose(hmm.emission[0], mean, atol=2e-3)
    # They know tokens that nobody drew: better where draws are few.
    few = replace(corpus, held_out=tuple(i % 16 > 0 for i in range(len(corpus.sequences))))
    measured = {}
    for head in (None, head_of(model)):
        last, history = fit_corpus(few, states=6, epochs=2, head=head)
        assert not last.emission[:-1, END].any()
        assert last.emission[-1].tolist() == [float(i == END) for i in range(50)]
        measured[head is None] = history[-1].held_out
    assert measured[False] > measured[True] + 0.1


def test_heads_that_are_more_than_a_matrix_are_noticed(model: LlamaForCausalLM) -> None:
    class Capped(LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, *args: Any, **options: Any) -> Any:
            out = super().forward(*args, **options)
            out.logits = 2 * torch.tanh(out.logits / 2)
            return out

    capped = Capped(model.config).eval()
    capped.load_state_dict(model.state_dict())
    assert head_of(capped) is None
    made = distil(capped, TOKENIZER, None, states=4, count=20, length=6, epochs=1)
    assert not made.soft
    assert distil(model, TOKENIZER, None, states=4, count=20, length=6, epochs=1).soft


def test_a_distilled_model_beats_a_uniform_one(model: LlamaForCausalLM, tmp_path: Path) -> None:
    made = distil(
        model, TOKENIZER, ["ab", "c"], states=12, samples_per_prompt=150, length=LENGTH, epochs=8
    )
    assert len(made.history) == 8
    assert made.history[-1].held_out > -math.log(50) + 0.3
    assert made.history[-1].train > made.history[0].train
    made.hmm.save(tmp_path / "hmm.safetensors")
    HMM.load(tmp_path / "hmm.safetensors", TOKENIZER)
    HMM.load(tmp_path / "hmm.safetensors", Vocabulary.from_huggingface(TOKENIZER, model=model))


def test_fit_is_distil(model: LlamaForCausalLM, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"states": 4, "count": 20, "length": 6, "epochs": 2}
    one = HMM.fit(model, TOKENIZER, progress=True, **options)
    assert "responses" in capsys.readouterr().err
    two = distil(model, TOKENIZER, None, **options).hmm
    assert torch.equal(one.emission, two.emission)
    assert capsys.readouterr().err == ""
    assert one.fingerprint == fingerprint_of(TOKENIZER)


def test_a_vocabulary_is_enough_for_ids(model: LlamaForCausalLM) -> None:
    vocabulary = Vocabulary.from_huggingface(TOKENIZER, model=model)
    found = collect(model, vocabulary, [[4, 5]], samples_per_prompt=3, length=4)
    assert found.fingerprint == fingerprint_of(TOKENIZER)
    with pytest.raises(ValueError, match="cannot read strings"):
        collect(model, vocabulary, ["ab"])


def test_a_corpus_can_be_kept(corpus: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "corpus.safetensors"
    corpus.save(path)
    loaded = Corpus.load(path, TOKENIZER)
    for name in ("sequences", "held_out", "eos_token_ids", "vocabulary_size", "fingerprint"):
        assert getattr(loaded, name) == getattr(corpus, name)
    assert torch.equal(loaded.hidden, corpus.hidden)
    with pytest.raises(TokenizerMismatch):
        Corpus.load(path, VOCABULARY)
    with pytest.raises(ValueError, match="does not hold an HMM of gramma"):
        HMM.load(path)


def test_bad_corpora_and_options_are_refused(model: LlamaForCausalLM, corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="must be \\[3, D\\]"):
        Corpus(((1, 2), (3,)), torch.zeros(2, 4), (False, True), (0,), 5)
    with pytest.raises(ValueError, match="sequence 1 goes on behind an EOS id"):
        Corpus(((1, 0), (0, 3)), torch.zeros(4, 4), (False, True), (0,), 5)
    with pytest.raises(ValueError, match="too few for 5000 states"):
        initial_hmm(corpus, states=5000)
    with pytest.raises(ValueError, match="count must say"):
        collect(model, TOKENIZER, None)
    with pytest.raises(ValueError, match="no chat template"):
        collect(model, tokenizer_of(None), [[{"role": "user", "content": "hi"}]])
    for options in ({"length": 0}, {"temperature": 0.0}, {"held_out": 1.0}, {"count": 0}):
        with pytest.raises(ValueError, match="must be"):
            collect(model, TOKENIZER, ["a"], **options)
    with pytest.raises(ValueError, match="states=1"):
        distil(model, TOKENIZER, ["a"], states=1)


def test_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    points = middles.repeat(100, 1) + 0.1 * torch.randn(400, 2, generator=generator)
    centroids = kmeans(points.half(), 4, generator=generator)
    found = nearest(points, centroids)
    assert len(set(found[:4].tolist())) == 4
    assert torch.equal(found, found[:4].repeat(100))
    assert float(torch.cdist(middles, centroids).amin(1).max()) < 0.1
    copies = torch.ones(5, 3)
    assert kmeans(copies, 4, generator=generator).tolist() == [[1.0] * 3] * 4
    with pytest.raises(ValueError, match="too few"):
        kmeans(copies, 6, generator=generator)
