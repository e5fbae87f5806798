"""Products of a matrix with a few vectors, compiled by Numba.

All arrays are C-contiguous; nothing here allocates.  Sums are taken in any order, many numbers at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, njit, types, uint16, void
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator]
def _number(typingctx: Any, weight: Any) -> Any:
    """A weight as float32: itself, or the number of bfloat16 whose bits a uint16 has.

    The bits of a bfloat16 are the upper half of a float32's.
    """

    def same(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0]

    def widened(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(weight), same if weight == types.float32 else widened


@njit(
    [
        void(float32[:, ::1], float32[:, ::1], float32[:, ::1]),
        void(uint16[:, ::1], float32[:, ::1], float32[:, ::1]),
    ],
    cache=True,
    nogil=True,
    fastmath={"contract", "reassoc"},
)
def multiply(weight, x, out):  # type: ignore[no-untyped-def]
    """out[n, r] = sum over i of weight[r, i] x[n, i], two vectors at a time.

    Args:
        weight: float32[rows, inner], or the bits of bfloat16 as uint16.
        x: float32[count, inner].
        out: float32[count, rows].
    """
    rows, inner, count = weight.shape[0], weight.shape[1], x.shape[0]
    for r in range(rows):
        for n in range(0, count - 1, 2):
            one = two = np.float32(0.0)
            for i in range(inner):
                w = _number(weight[r, i])
                one += w * x[n, i]
                two += w * x[n + 1, i]
            out[n, r], out[n + 1, r] = one, two
        if count % 2:
            one = np.float32(0.0)
            for i in range(inner):
                one += _number(weight[r, i]) * x[count - 1, i]
            out[count - 1, r] = one
