"""Products of a matrix with a few vectors, compiled by Numba.

All arrays are C-contiguous; nothing here allocates.  Sums are taken in any order, many numbers at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, njit, types, uint16, uint32, void
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(typingctx: Any, bits: Any) -> Any:
    """The float32 of some bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@njit(
    void(float32[:, ::1], float32[:, ::1], float32[:, ::1]),
    cache=True,
    nogil=True,
    fastmath={"contract", "reassoc"},
)
def multiply(weight, x, out):  # type: ignore[no-untyped-def]
    """out[n, r] = sum over i of weight[r, i] x[n, i], all of them float32; two vectors at a time."""
    rows, inner, count = weight.shape[0], weight.shape[1], x.shape[0]
    for r in range(rows):
        for n in range(0, count - 1, 2):
            one = two = np.float32(0.0)
            for i in range(inner):
                w = weight[r, i]
                one += w * x[n, i]
                two += w * x[n + 1, i]
            out[n, r], out[n + 1, r] = one, two
        if count % 2:
            one = np.float32(0.0)
            for i in range(inner):
                one += weight[r, i] * x[count - 1, i]
            out[count - 1, r] = one


@njit(
    void(uint16[:, ::1], float32[:, ::1], float32[:, ::1]),
    cache=True,
    nogil=True,
    fastmath={"contract", "reassoc"},
)
def multiply_halves(weight, x, out):  # type: ignore[no-untyped-def]
    """The same with the bits of a weight in bfloat16, which are the upper half of a float32's."""
    rows, inner, count = weight.shape[0], weight.shape[1], x.shape[0]
    for r in range(rows):
        for n in range(0, count - 1, 2):
            one = two = np.float32(0.0)
            for i in range(inner):
                w = _as_float(uint32(weight[r, i]) << uint32(16))
                one += w * x[n, i]
                two += w * x[n + 1, i]
            out[n, r], out[n + 1, r] = one, two
        if count % 2:
            one = np.float32(0.0)
            for i in range(inner):
                one += _as_float(uint32(weight[r, i]) << uint32(16)) * x[count - 1, i]
            out[count - 1, r] = one
