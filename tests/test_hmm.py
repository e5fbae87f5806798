"""Hidden Markov models: against sums over all paths of states, in plain Python."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from constrain.vocabulary import Vocabulary
from samplers import HMM
from samplers.deco_g.hmm import TokenizerMismatch, fingerprint_of

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
    return HMM(*(torch.tensor(part, dtype=dtype) for part in plain))


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
        [1.0 - tiny, tiny],
        [[1.0, 0.0], [0.0, 1.0]],
        [[1.0 - tiny, tiny], [1.0, 0.0]],
    )
    hmm = hmm_of(plain, torch.float32)
    ids = [1, 1, 0]
    assert hmm.log_likelihood(ids) == pytest.approx(2 * math.log(tiny), rel=1e-6)
    assert hmm.posterior(ids)[:, 0].tolist() == [1.0, 1.0, 1.0]


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


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, tensors = tmp_path / "a.txt", tmp_path / "b.safetensors"
    text.write_text("no model")
    save_file({"initial": torch.ones(1)}, tensors)
    for path in (text, tensors):
        with pytest.raises(ValueError, match="no HMM of gramma"):
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
