"""Products of a matrix with few states are those of float64, whatever computes them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_thread import one_thread  # noqa: F401 - a fixture
from test_learned_sequences import KINDS, drafter
from test_neural_drafters import PROMPT, context_of, llama

from samplers.drafters.learned import products
from samplers.drafters.learned.products import FEW, Linear, Matrix, is_few
from samplers.speculative.choices import Drawn
from samplers.speculative.target import FreeText

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def exact(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.double() @ weight.double().T


def bound(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How far sums in float32 may be from exact ones; PyTorch rounds states and sums to a half dtype."""
    ours = weight.dtype == torch.bfloat16 and len(x) <= FEW
    half = weight.dtype in (torch.float16, torch.bfloat16) and not ours
    eps = 3 * torch.finfo(weight.dtype).eps if half else x.shape[1] * torch.finfo(torch.float32).eps
    return x.double().abs() @ weight.double().abs().T * eps + 1e-30


@given(
    st.sampled_from(DTYPES),
    st.integers(0, 2 * FEW),
    st.integers(1, 70),
    st.integers(1, 9),
    st.integers(0, 2**31),
)
@settings(max_examples=300)
def test_products_are_exact_up_to_rounding(
    dtype: torch.dtype, count: int, inner: int, outer: int, seed: int
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    weight = torch.randn(outer, inner, generator=drawn).to(dtype)
    x = torch.randn(count, inner, generator=drawn)
    found = Matrix(weight)(x)
    assert found.dtype == torch.float32
    assert found.shape == (count, outer)
    assert bool(((found.double() - exact(weight, x)).abs() <= bound(weight, x)).all())


@given(st.integers(0, 2**16 - 1), st.floats(width=32, allow_subnormal=False))
@settings(max_examples=500)
def test_every_number_of_bfloat16_is_read(bits: int, number: float) -> None:
    weight = torch.from_numpy(np.array([[bits]], np.uint16).view(np.int16)).view(torch.bfloat16)
    x = torch.tensor([[number]])
    wanted = weight.float() * x
    assert torch.equal(Matrix(weight)(x).nan_to_num(7.0), wanted.nan_to_num(7.0))


def test_what_is_written_later_counts() -> None:
    """To the weight that was given, and to that of a copy."""
    weight = torch.ones(2, 3)
    made = Matrix(weight)
    weight[1] = 5
    assert made(torch.ones(1, 3)).tolist() == [[3, 15]]
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        other.weight[0] = 0
        assert other(torch.ones(1, 3)).tolist() == [[0, 15]]
    assert made(torch.ones(1, 3)).tolist() == [[3, 15]]


@pytest.mark.parametrize("inner", [1, 7, 9, 300])
@pytest.mark.parametrize("count", [1, FEW + 1])
def test_states_of_another_width_are_refused(count: int, inner: int) -> None:
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|size"):
        Matrix(torch.ones(4, 8))(torch.ones(count, inner))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|size"):
        Linear(8, 4)(torch.ones(count, inner))


@pytest.mark.parametrize("dtype", DTYPES)
def test_defaults_of_others_do_not_count(dtype: torch.dtype) -> None:
    made, x = Matrix(torch.ones(2, 3)), torch.ones(1, 3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            found = made(x)
    finally:
        torch.set_default_dtype(before)
    assert found.tolist() == [[3, 3]]


@pytest.mark.parametrize("columns", [slice(None, None, 2), slice(1, None)])
def test_states_and_weights_that_are_parts_of_others(columns: slice) -> None:
    weight, x = torch.arange(24.0).view(4, 6)[:, columns], torch.arange(12.0).view(2, 6)[:, columns]
    assert torch.equal(Matrix(weight)(x), exact(weight, x).float())


def test_gradients_are_not_lost() -> None:
    weight, x = torch.randn(4, 3), torch.randn(2, 3, requires_grad=True)
    Matrix(weight)(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, weight.sum(0).expand(2, 3))
    made = Linear(3, 4)
    made(x.detach()).sum().backward()
    assert made.weight.grad is not None
    assert bool(made.weight.grad.any())


def test_more_threads_than_pay_are_pytorchs() -> None:
    assert is_few(torch.zeros(1, 2))
    torch.set_num_threads(3)
    assert not is_few(torch.zeros(1, 2))
    assert torch.equal(Matrix(torch.ones(2, 2))(torch.ones(1, 2)), torch.full((1, 2), 2.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_follow_their_weights(dtype: torch.dtype) -> None:
    """After a step of training, after loading, in copies, after moves, and in float64."""
    made = Linear(5, 4)
    made.drafts_in = dtype
    x = torch.randn(2, 5)

    def holds(layer: Linear) -> bool:
        weight = layer.weight.detach().to(dtype)
        with torch.no_grad():
            found = layer(x)
        return torch.allclose(found.double(), exact(weight, x), rtol=1e-5, atol=1e-5)

    assert holds(made)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.5)
    made(torch.randn(9, 5)).square().sum().backward()
    optimizer.step()
    assert holds(made)
    made.load_state_dict({"weight": torch.randn(4, 5)})
    assert holds(made)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        with torch.no_grad():
            other.weight += 1
        other.forget()
        assert holds(other)
    assert holds(made)
    made.weight = torch.nn.Parameter(torch.randn(4, 5))
    assert holds(made)
    for _ in range(20):
        made.weight.data = torch.randn(4, 5)
        assert holds(made)
    with torch.no_grad():
        found = made.double()(x.double())
    assert found.dtype == torch.float64
    assert torch.allclose(found, exact(made.weight, x))
    assert holds(made.float())
    assert list(made.state_dict()) == ["weight"]
    with torch.inference_mode():
        inside = Linear(5, 4)
        inside.drafts_in = dtype
        assert holds(inside)


def test_kernels_are_those_of_few_states(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Kernels:
        @staticmethod
        def multiply(weight: object, x: np.ndarray, out: np.ndarray) -> None:
            asked.append(len(x))
            out[:] = 0

    monkeypatch.setattr(products, "_kernels", lambda: Kernels)
    made = Linear(3, 2)
    with torch.no_grad():
        for count in range(2 * FEW):
            made(torch.ones(count, 3))
        made(torch.ones(1, 1, 3))
    made(torch.ones(1, 3))
    assert asked == list(range(1, FEW + 1))


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_multiply_in_the_dtype_of_their_model(
    kind: str, dtype: torch.dtype, wanted: torch.dtype, tmp_path: Path
) -> None:
    """Whether made or loaded; trees are those that PyTorch's products make, up to rounding."""
    model = copy.deepcopy(llama()).to(dtype)
    made = drafter(kind, model)
    made.save(tmp_path / "saved.safetensors")
    other = type(made).load(tmp_path / "saved.safetensors", model, growth=made.growth)
    hidden = torch.randn(len(PROMPT) - 1, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = []
    for one in (made, other):
        layers = [module for module in one.network.modules() if isinstance(module, Linear)]
        assert len(layers) >= 7
        assert {layer.drafts_in for layer in layers} == {wanted}
        for threads in (1, 3):
            torch.set_num_threads(threads)
            one.reset()
            context = context_of(FreeText((0,)), Drawn(0))
            with torch.no_grad():
                one.draft(context, hidden)
            assert len(context.tree)
            found.append([(n.parent, n.token, n.scores) for n in context.tree.nodes])
    kernel, plain, *loaded = found
    assert [kernel, plain] == loaded
    close = 0.1 if dtype == torch.bfloat16 else 1e-3
    for one, two in zip(kernel, plain, strict=False):
        if one[:2] != two[:2]:
            break  # two of nearly the same score changed places
        assert one[2] == pytest.approx(two[2], abs=close)
    assert kernel[0][:2] == plain[0][:2]
