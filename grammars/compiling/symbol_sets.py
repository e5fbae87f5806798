"""Sets of symbols as rows of five words, each kept once, for kernels."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import uint64

from grammars.compiling.jit import inner

MASKS: Final = 3
"""Which counter says how many sets there are."""
_GOLDEN = uint64(0x9E3779B97F4A7C15)


@inner
def mix(h, x):  # type: ignore[no-untyped-def]
    """A hash with one more number mixed in."""
    h = (h ^ uint64(x)) * _GOLDEN
    return h ^ (h >> uint64(29))


@inner
def intern_mask(words, table, n):  # type: ignore[no-untyped-def]
    """The number of the set in the first free row.

    Raises:
        OverflowError: if rows or the hash table, which is to be twice as long, run out.
    """
    at = n[MASKS]
    h = uint64(0)
    for w in range(5):
        h = mix(h, words[at, w])
    size = len(table)
    slot = np.int64(h & uint64(size - 1))
    while table[slot] >= 0:
        other = table[slot]
        same = True
        for w in range(5):
            if words[other, w] != words[at, w]:
                same = False
                break
        if same:
            return np.int64(other)
        slot = (slot + 1) & (size - 1)
    if at + 2 >= len(words) or 2 * at >= size:
        raise OverflowError
    table[slot] = at
    n[MASKS] = at + 1
    return at
