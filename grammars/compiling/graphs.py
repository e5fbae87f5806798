"""Strongly connected components, for kernels."""

from __future__ import annotations

import numpy as np

from grammars.compiling.jit import inner


@inner
def strong_components(offset, target):  # type: ignore[no-untyped-def]
    """Components of a graph in compressed rows, targets before sources (Tarjan, no recursion).

    Returns:
        int32[n] the nodes, component by component, and int32[n] the component of each node.
    """
    n = len(offset) - 1
    seen = np.zeros(n, np.int32)
    low = np.zeros(n, np.int32)
    component = np.full(n, -1, np.int32)
    order = np.empty(n, np.int32)
    stack = np.empty(n, np.int32)
    work = np.empty(n, np.int32)
    at = np.empty(n, np.int32)
    clock = filled = found = height = 0
    for root in range(n):
        if seen[root]:
            continue
        depth = 1
        work[0] = root
        at[0] = offset[root]
        clock += 1
        seen[root] = low[root] = clock
        stack[height] = root
        height += 1
        while depth:
            q = work[depth - 1]
            i = at[depth - 1]
            if i < offset[q + 1]:
                at[depth - 1] = i + 1
                t = target[i]
                if not seen[t]:
                    clock += 1
                    seen[t] = low[t] = clock
                    stack[height] = t
                    height += 1
                    work[depth] = t
                    at[depth] = offset[t]
                    depth += 1
                elif component[t] < 0:
                    low[q] = min(low[q], seen[t])
                continue
            if low[q] == seen[q]:
                while True:
                    height -= 1
                    t = stack[height]
                    component[t] = found
                    order[filled] = t
                    filled += 1
                    if t == q:
                        break
                found += 1
            depth -= 1
            if depth:
                p = work[depth - 1]
                low[p] = min(low[p], low[q])
    return order, component
