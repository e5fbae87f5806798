"""Sorting and growing, for kernels: NumPy's own take seconds to compile."""

from __future__ import annotations

import numpy as np

from grammars.compiling.jit import inner


@inner
def sort(values, begin, end):  # type: ignore[no-untyped-def]
    """Sorts ``values[begin:end]`` in place (insertions with falling gaps)."""
    gap = 1
    while 3 * gap + 1 < end - begin:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(begin + gap, end):
            x = values[i]
            j = i
            while j >= begin + gap and values[j - gap] > x:
                values[j] = values[j - gap]
                j -= gap
            values[j] = x
        gap //= 3


@inner
def longer(values):  # type: ignore[no-untyped-def]
    """A copy with room for twice as many."""
    out = np.empty(2 * len(values), values.dtype)
    for i in range(len(values)):
        out[i] = values[i]
    return out


@inner
def longer_rows(rows):  # type: ignore[no-untyped-def]
    """A copy with room for twice as many rows of three."""
    out = np.empty((2 * len(rows), 3), np.int32)
    for i in range(len(rows)):
        out[i, 0], out[i, 1], out[i, 2] = rows[i, 0], rows[i, 1], rows[i, 2]
    return out
