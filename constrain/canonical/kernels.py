"""Kernels that follow the edges of byte-pair derivations, see :mod:`constrain.canonical.merges`."""

from __future__ import annotations

from typing import Final

from numba import njit

NEVER: Final = 2**31 - 1


@njit(cache=True, nogil=True)
def rank_of(a, b, begin, other, order):  # type: ignore[no-untyped-def]
    """The lowest rank of the merge of two pieces; ``NEVER`` if there is none.

    Merges of a left part lie in the order of their right parts, then of their ranks.
    """
    low, high = begin[a], begin[a + 1]
    while low < high:
        middle = (low + high) >> 1
        if other[middle] < b:
            low = middle + 1
        else:
            high = middle
    return order[low] if low < begin[a + 1] and other[low] == b else NEVER


@njit(cache=True, nogil=True)
def meets(u, v, last, left, right, rank, time, begin, other, order):  # type: ignore[no-untyped-def]
    """Whether pieces of ``u`` and ``v`` are merged across the border, the merge ``last`` of both aside."""
    a, a_time, a_rank = u, NEVER, NEVER
    while a >= 0:
        b, b_time, b_rank = v, NEVER, NEVER
        while b >= 0:
            r = rank_of(a, b, begin, other, order)
            if r < NEVER and not (a == u and b == v and r == last):
                t = max(r, max(time[a], time[b]))
                before_a = t < a_time or (t == a_time and r < a_rank)
                before_b = t < b_time or (t == b_time and r <= b_rank)
                if before_a and before_b:
                    return True
            b_time, b_rank = time[b], rank[b]
            b = left[b]
        a_time, a_rank = time[a], rank[a]
        a = right[a]
    return False


@njit(cache=True, nogil=True)
def derive(  # type: ignore[no-untyped-def]
    todo, first, second, made, ranks, begin, other, order, left, right, rank, time,
    derived,
):  # fmt: skip
    """Finds for each token the merge that makes it when its own text is encoded."""
    for i in todo:
        token, u, v = made[i], first[i], second[i]
        if derived[token] or not derived[u] or not derived[v]:
            continue
        if meets(u, v, ranks[i], left, right, rank, time, begin, other, order):
            continue
        derived[token] = True
        left[token], right[token], rank[token] = u, v, ranks[i]
        time[token] = max(ranks[i], max(time[u], time[v]))


@njit(cache=True, nogil=True)
def refuse(  # type: ignore[no-untyped-def]
    u, left, right, rank, time, begin, other, order, edge_begin, edge_token, edge_time,
    edge_rank, out,
):  # fmt: skip
    """Sets the flags of tokens that may not follow ``u``, see :meth:`Merges.refused_after`."""
    a, a_time, a_rank = u, NEVER, NEVER
    while a >= 0:
        for e in range(begin[a], begin[a + 1]):
            b, r = other[e], order[e]
            t = max(r, max(time[a], time[b]))
            if t > a_time or (t == a_time and r >= a_rank):
                continue
            for x in range(edge_begin[b], edge_begin[b + 1]):
                if t < edge_time[x] or (t == edge_time[x] and r <= edge_rank[x]):
                    out[edge_token[x]] = True
        a_time, a_rank = time[a], rank[a]
        a = right[a]
