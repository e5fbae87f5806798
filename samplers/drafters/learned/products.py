"""Products of a matrix with the states of a few nodes, at the speed of memory.

A drafter multiplies one or two states at a time by matrices that no cache holds: the model's forward in
between has read hundreds of megabytes.  What counts then is how fast weights are read.  PyTorch hands
products in bfloat16 to a library that prepares the matrix anew each time: 8,192 rows of 576 numbers and one
state take 1.4 ms, in a kernel that reads the rows once 0.4 ms (`docs/benchmarks/sampling.md`).
"""

from __future__ import annotations

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
        weight: floating[outer, inner].  It is shared, so that what is written to it later counts.

    Weights in float32 and bfloat16 on a processor are multiplied by a kernel, where no gradient is wanted;
    it adds in float32.  All else is left to PyTorch, which multiplies in the dtype of the weights.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight
        self._array = _array(weight.detach())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Products float32[n, outer] with states floating[n, inner]."""
        if self._array is None or not is_few(x):
            return linear(x.to(self.weight.dtype), self.weight).float()
        made = torch.empty(len(x), len(self._array))
        kernels = _kernels()
        multiply = kernels.multiply if self._array.dtype == np.float32 else kernels.multiply_halves
        multiply(self._array, x.detach().float().contiguous().numpy(), made.numpy())
        return made


class Linear(torch.nn.Linear):
    """A layer without bias that drafts go through a few states at a time.

    Args:
        inner: numbers of a state.
        outer: numbers of what is made of it.

    Attributes:
        drafts_in: dtype in which few states are multiplied without gradients, float32 or bfloat16.

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
        self._rounded: tuple[tuple[int, torch.dtype], Matrix] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """floating[..., outer] of states floating[..., inner]."""
        if torch.is_grad_enabled():
            self.forget()
        elif self.weight.device.type == "cpu" and is_few(x):
            return self._matrix()(x)
        return super().forward(x)

    def _matrix(self) -> Matrix:
        weight = self.weight.detach()
        now = weight.data_ptr(), self.drafts_in
        if self._rounded is None or self._rounded[0] != now:
            self._rounded = now, Matrix(weight.to(self.drafts_in))
        return self._rounded[1]


def _forget(module: Any, keys: Any) -> None:
    module.forget()


def is_few(x: torch.Tensor) -> bool:
    """Whether a kernel multiplies these states faster than PyTorch would, and no gradient is lost."""
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
