"""How many counting edges lie before acceptance, as a kernel."""

from __future__ import annotations

import numpy as np

from grammars.compiling.jit import kernel


@kernel
def fewest_counts(edges, begin, accept):  # type: ignore[no-untyped-def]
    """The fewest counting edges from each state to acceptance; 0 where there is no way.

    Args:
        edges: int32[n, 3] (label, target, whether it counts); ``begin`` int32[states + 1], edges by state.
        accept: uint8[states].

    Returns:
        int32[states].
    """
    states, n = len(accept), len(edges)
    first = np.full(states, -1, np.int32)  # edges by target
    following = np.empty(n, np.int32)
    source = np.empty(n, np.int32)
    for q in range(states):
        for e in range(begin[q], begin[q + 1]):
            t = edges[e, 1]
            source[e] = q
            following[e] = first[t]
            first[t] = e
    out = np.full(states, -1, np.int32)
    now = np.empty(n + states, np.int32)
    later = np.empty(n + states, np.int32)
    size = 0
    for q in range(states):
        if accept[q]:
            now[size] = q
            size += 1
    count = 0
    while size:
        after = 0
        while size:
            size -= 1
            q = now[size]
            if out[q] >= 0:
                continue
            out[q] = count
            e = first[q]
            while e >= 0:
                p = source[e]
                if out[p] < 0:
                    if edges[e, 2]:
                        later[after] = p
                        after += 1
                    else:
                        now[size] = p
                        size += 1
                e = following[e]
        now, later = later, now
        size = after
        count += 1
    return np.maximum(out, 0)
