"""Packed masks against a loop over single bits."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from constrain import allocate_bitmask, apply_bitmask_
from constrain.bitmask import apply_bitmask_and_look_, unpack_bitmask

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def packed(allowed: list[list[bool]], words: int) -> torch.Tensor:
    """Rows of booleans as a bitmask, one bit at a time."""
    out = [[0] * words for _ in allowed]
    for row, flags in zip(out, allowed, strict=True):
        for i, flag in enumerate(flags):
            row[i // 32] |= flag << i % 32
    values = np.array(out, np.uint32).reshape(len(allowed), words)
    return torch.from_numpy(values.view(np.int32).copy())


@st.composite
def masks(draw: st.DrawFn) -> list[list[bool]]:
    size = draw(st.integers(1, 100))
    row = st.lists(st.booleans(), min_size=size, max_size=size)
    rows: list[list[bool]] = draw(st.lists(row, min_size=1, max_size=3))
    return rows


# --- allocate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "words"), [(1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (65, 3), (262_145, 8_193)]
)
def test_room_for_every_token(size: int, words: int) -> None:
    made = allocate_bitmask(3, size)
    assert made.shape == (3, words)
    assert made.dtype == torch.int32
    assert made.device.type == "cpu"
    assert not made.any()


def test_no_rows() -> None:
    made = allocate_bitmask(0, 40)
    assert made.shape == (0, 2)
    assert apply_bitmask_(torch.zeros(0, 40), made).shape == (0, 40)


def test_numpy_shares_its_memory() -> None:
    # fill_mask writes into rows through numpy.
    made = allocate_bitmask(1, 40)
    made.numpy()[0, 1] = 1
    assert unpack_bitmask(made, 40)[0].nonzero().tolist() == [[32]]


# --- unpack --------------------------------------------------------------------------------------


@given(masks(), st.integers(0, 40))
@example([[False] * 31 + [True]], 0)  # the sign bit of an int32
@example([[True] * 64], 33)
def test_unpack(allowed: list[list[bool]], more: int) -> None:
    size = len(allowed[0])
    words = -(-size // 32)
    bits = unpack_bitmask(packed(allowed, words), size + more)
    assert bits.dtype == torch.bool
    assert bits.tolist() == [row + [False] * more for row in allowed]


@given(masks())
def test_unpack_fewer_than_there_are(allowed: list[list[bool]]) -> None:
    bits = unpack_bitmask(packed(allowed, 5), 1)
    assert bits.tolist() == [row[:1] for row in allowed]


def test_unpack_one_row() -> None:
    assert unpack_bitmask(torch.tensor([5], dtype=torch.int32), 4).tolist() == [1, 0, 1, 0]


def test_unpack_leaves_the_mask_alone() -> None:
    mask = torch.tensor([[-1, 7]], dtype=torch.int32)
    unpack_bitmask(mask, 64)
    assert mask.tolist() == [[-1, 7]]


# --- apply ---------------------------------------------------------------------------------------


@given(masks(), st.integers(-99, 70), st.sampled_from(DTYPES))
def test_apply(allowed: list[list[bool]], change: int, dtype: torch.dtype) -> None:
    """Wider logits are refused behind the mask, narrower ones read its first bits."""
    width = max(1, len(allowed[0]) + change)
    logits = torch.arange(len(allowed) * width).reshape(len(allowed), width).to(dtype)
    expected = logits.tolist()
    for row, flags in zip(expected, allowed, strict=True):
        for i in range(width):
            if i >= len(flags) or not flags[i]:
                row[i] = -float("inf")
    result = apply_bitmask_(logits, packed(allowed, 4))
    assert result is logits
    assert result.dtype == dtype
    assert logits.tolist() == expected


@pytest.mark.parametrize("device", DEVICES)
def test_apply_on_a_device(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    flags = torch.rand(4, 1_000, generator=generator) < 0.5
    mask = allocate_bitmask(4, 1_000)
    mask.copy_(packed(flags.tolist(), 32))
    logits = torch.randn(4, 1_024, generator=generator)
    expected = logits.clone()
    expected[:, :1_000][~flags] = -torch.inf
    expected[:, 1_000:] = -torch.inf
    for on in {"cpu", device}:
        moved = logits.to(device)
        assert apply_bitmask_(moved, mask.to(on)) is moved
        assert moved.device.type == device
        assert torch.equal(moved.cpu(), expected)


def test_apply_to_one_row() -> None:
    logits = torch.ones(3)
    apply_bitmask_(logits, torch.tensor([2], dtype=torch.int32))
    assert logits.tolist() == [-torch.inf, 1, -torch.inf]


def test_apply_to_more_dimensions() -> None:
    logits = torch.zeros(2, 1, 3)
    apply_bitmask_(logits, torch.tensor([[[1]], [[4]]], dtype=torch.int32))
    assert logits.isfinite().tolist() == [[[True, False, False]], [[False, False, True]]]


def test_apply_through_a_view() -> None:
    """Logits of the last position are usually a slice of a larger tensor."""
    whole = torch.zeros(2, 5, 4)
    apply_bitmask_(whole[:, -1], torch.tensor([[1], [2]], dtype=torch.int32))
    assert whole[:, :-1].eq(0).all()
    assert whole[:, -1].isfinite().tolist() == [
        [True, False, False, False],
        [False, True, False, False],
    ]


def test_infinities_and_nan_of_allowed_tokens_stay() -> None:
    logits = torch.tensor([[torch.nan, torch.inf, -torch.inf, torch.nan]])
    apply_bitmask_(logits, torch.tensor([[7]], dtype=torch.int32))
    assert logits[0, 0].isnan()
    assert logits[0, 1:].tolist() == [torch.inf, -torch.inf, -torch.inf]


@given(masks(), st.integers(-99, 70), st.sampled_from(DTYPES), st.randoms(use_true_random=False))
def test_whether_something_is_left(
    allowed: list[list[bool]], change: int, dtype: torch.dtype, rng: random.Random
) -> None:
    """By the kernel and by tensors, with numbers that are not finite among the allowed."""
    width = max(1, len(allowed[0]) + change)
    odd = (torch.nan, torch.inf, -torch.inf)
    rows = [[rng.choice((*odd, 1.5)) if rng.random() < 0.9 else -2.0 for _ in range(width)]]
    logits = torch.tensor(rows * len(allowed), dtype=dtype)
    strided = torch.stack([logits, logits], dim=-1)[..., 0]
    mask = packed(allowed, 4)
    left = apply_bitmask_and_look_(logits, mask)
    assert left.tolist() == logits.isfinite().any(-1).tolist()
    assert left.tolist() == apply_bitmask_and_look_(strided, mask).tolist()
    assert torch.equal(logits.nan_to_num(7.0), strided.nan_to_num(7.0))


def test_gradients_pass_what_is_allowed() -> None:
    weights = torch.ones(1, 3, requires_grad=True)
    apply_bitmask_(weights * 2, torch.tensor([[5]], dtype=torch.int32)).exp().sum().backward()
    assert weights.grad is not None
    assert weights.grad.ne(0).tolist() == [[True, False, True]]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float32])
def test_mask_of_another_dtype(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 8)
    with pytest.raises(ValueError, match="int32"):
        apply_bitmask_(logits, torch.zeros(1, 1, dtype=dtype))
    assert not logits.any()


@pytest.mark.parametrize(("logits", "mask"), [((2, 8), (1, 1)), ((8,), (1, 1)), ((2, 8), (1,))])
def test_batches_that_differ(logits: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="differ in batch"):
        apply_bitmask_(torch.zeros(logits), torch.zeros(mask, dtype=torch.int32))
