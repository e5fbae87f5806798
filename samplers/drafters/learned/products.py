"""Products of a matrix with the states of a few nodes, at the speed of memory.

A drafter multiplies one or two states at a time by matrices that no cache holds: the model's forward in
between has read hundreds of megabytes.  What counts then is how fast weights are read.  PyTorch hands
products in bfloat16 to a library that prepares the matrix anew each time: 8,192 rows of 576 numbers and one
state take 1.3 ms, in a kernel that reads the rows once 0.7 ms (`docs/benchmarks/sampling.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import linear

from constrain.engine.jit import load

FEW: Final = 4
"""States at most that a kernel of ours multiplies; with eight of them PyTorch is as fast."""
_THREADS: Final = 2
"""Threads of PyTorch at most, as the kernel has one; with three of them PyTorch would be as fast."""


class Matrix:
    """A matrix for products with few states.

    Args:
        weight: floating[outer, inner].  It is shared, so that what is written to it later counts; it gets
            no gradient.

    Weights in float32 and bfloat16 on a processor are multiplied by a kernel, unless states have a gradient;
    it adds in float32.  All else is left to PyTorch, which multiplies in the dtype of the weights.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self._hold(weight)

    def _hold(self, weight: torch.Tensor) -> None:
        self.weight = weight.detach()
        self._array = _array(self.weight)

    def __getstate__(self) -> torch.Tensor:
        """The weight: an array of the same memory can neither be copied nor pickled."""
        return self.weight

    def __setstate__(self, weight: torch.Tensor) -> None:
        self._hold(weight)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Products float32[n, outer] with states floating[n, inner]."""
        array = self._array
        if array is None or not is_few(x) or x.shape[1] != array.shape[1]:
            return linear(x.to(self.weight.dtype), self.weight).float()
        made = torch.empty(len(x), len(array), dtype=torch.float32, device="cpu")
        _kernels().multiply(array, x.detach().float().contiguous().numpy(), made.numpy())
        return made


class Linear(torch.nn.Linear):
    """A layer without bias that drafts go through a few states at a time.

    Args:
        inner: numbers of a state.
        outer: numbers of what is made of it.

    Attributes:
        drafts_in: dtype in which few states are multiplied by weights in float32 without gradients, float32
            or bfloat16.

    Weights are rounded to it once, and again after a forward with gradients, as training makes them, or
    ``load_state_dict``.  Whoever writes to them otherwise calls :meth:`forget`.
    """

    drafts_in: torch.dtype = torch.float32

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, bias=False)
        self.forget()
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Has weights be rounded again."""
        self._rounded: _Rounded | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the rounded weights, which a copy makes of its own."""
        return {**self.__dict__, "_rounded": None}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """floating[..., outer] of states floating[..., inner]."""
        if torch.is_grad_enabled():
            self.forget()
        elif self.weight.dtype == torch.float32 and self.weight.device.type == "cpu" and is_few(x):
            return self._matrix()(x)
        return super().forward(x)

    def _matrix(self) -> Matrix:
        weight, rounded = self.weight.detach(), self._rounded
        if rounded is None or not rounded.is_of(weight, self.drafts_in):
            self._rounded = rounded = _Rounded(weight, Matrix(weight.to(self.drafts_in)))
        return rounded.matrix


@dataclass(frozen=True)
class _Rounded:
    """What was rounded, whose memory is kept so that nothing else lies there, and what came of it."""

    source: torch.Tensor
    matrix: Matrix

    def is_of(self, weight: torch.Tensor, dtype: torch.dtype) -> bool:
        same = self.source.data_ptr() == weight.data_ptr()
        return same and self.matrix.weight.dtype == dtype


def _forget(module: Any, keys: Any) -> None:
    module.forget()


def is_few(x: torch.Tensor) -> bool:
    """Whether a kernel multiplies these states faster than PyTorch would, and they have no gradient."""
    few = x.ndim == 2 and 0 < len(x) <= FEW and x.device.type == "cpu"
    return few and not x.requires_grad and torch.get_num_threads() <= _THREADS


def _array(weight: torch.Tensor) -> npt.NDArray[Any] | None:
    """What a kernel reads: float32, or the bits of bfloat16 as uint16; ``None`` if it cannot."""
    if weight.device.type != "cpu" or not weight.is_contiguous():
        return None
    if weight.dtype == torch.float32:
        return weight.numpy()
    if weight.dtype == torch.bfloat16:
        return weight.view(torch.int16).numpy().view(np.uint16)
    return None


@cache
def _kernels() -> Any:
    return load("samplers.drafters.learned._kernels")
