"""The inner loops of tables and weights, compiled by Numba for float32 and float64.

All arrays are C-contiguous; nothing here allocates more than a row.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_BLOCK = 2048
"""Tokens whose sums stay in the innermost cache while the hidden states go by."""


@njit(cache=True, nogil=True)
def sum_letters(rows, tokens, offsets, out):  # type: ignore[no-untyped-def]
    """Emissions summed over token sets, for some hidden states.

    Args:
        rows: [V, B], emissions of B hidden states, transposed.
        tokens, offsets: int32[n] and int64[L + 1], the sets in a row.
        out: float64[L, B].
    """
    size, width = rows.shape
    for letter in range(len(offsets) - 1):
        for z in range(width):
            out[letter, z] = 0.0
        for i in range(offsets[letter], offsets[letter + 1]):
            token = tokens[i]
            if token < size:  # the hidden Markov model may know fewer tokens
                for z in range(width):
                    out[letter, z] += rows[token, z]


@njit(cache=True, nogil=True)
def backward(offsets, letter, target, sums, values, logs, ends, end_sum, out, out_logs):  # type: ignore[no-untyped-def]
    """One step backwards through the automaton; the hidden states' own step is left to BLAS.

    Args:
        offsets, letter, target: int64[S + 1], int64[E], int64[E], edges by state.
        sums: [L, H], emissions of the letters.
        values, logs: [S + 1, H] and float64[S + 1], the table with one token less, divided by
            exp(logs).
        ends: bool[S], where EOS may come now.
        end_sum: [H], its emissions.
        out, out_logs: likewise for this step; rows are divided by their largest entry.
    """
    width = values.shape[1]
    total = np.empty(width, np.float64)
    for s in range(len(offsets) - 1):
        begin, end = offsets[s], offsets[s + 1]
        top = 0.0 if ends[s] else -math.inf
        for e in range(begin, end):
            top = max(top, logs[target[e]])
        out_logs[s] = -math.inf
        out[s] = 0
        if top == -math.inf:
            continue
        total[:] = 0.0
        if ends[s]:
            scale = math.exp(-top)
            for z in range(width):
                total[z] = scale * end_sum[z]
        for e in range(begin, end):
            if logs[target[e]] > -math.inf:
                scale = math.exp(logs[target[e]] - top)
                row, ahead = sums[letter[e]], values[target[e]]
                for z in range(width):
                    total[z] += scale * row[z] * ahead[z]
        largest = total.max()
        if largest > 0:
            out_logs[s] = top + math.log(largest)
            for z in range(width):
                out[s, z] = total[z] / largest


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def dense(emission, kept, weights, ratios, num, den):  # type: ignore[no-untyped-def]
    """Of every token: its probability, and that of it and what is to follow.

    Args:
        emission: [H, V].
        kept: int64[m], the hidden states that count.
        weights: [m], their probabilities.
        ratios: [m], what is to follow, from each.
        num, den: [V], sum of weights x ratios x emission, and of weights x emission.
    """
    size = emission.shape[1]
    for begin in range(0, size, _BLOCK):
        end = min(begin + _BLOCK, size)
        n, d = num[begin:end], den[begin:end]
        n[:] = 0
        d[:] = 0
        for j in range(len(kept)):
            row = emission[kept[j], begin:end]
            a, w = weights[j], weights[j] * ratios[j]
            for v in range(end - begin):
                d[v] += a * row[v]
                n[v] += w * row[v]


@njit(cache=True, nogil=True)
def gather(emission, kept, weights, ratios, tokens, group, num, den):  # type: ignore[no-untyped-def]
    """The same for some tokens, of several groups; tokens that the model does not know get zeros.

    Args:
        emission, kept, weights: see :func:`dense`.
        ratios: [g, m], by group.
        tokens, group: int32[n] and integers [n].
        num, den: [n].
    """
    size = emission.shape[1]
    num[:] = 0
    den[:] = 0
    for begin in range(0, len(tokens), _BLOCK):
        end = min(begin + _BLOCK, len(tokens))
        for j in range(len(kept)):
            row, a = emission[kept[j]], weights[j]
            for i in range(begin, end):
                if tokens[i] < size:
                    p = a * row[tokens[i]]
                    den[i] += p
                    num[i] += p * ratios[group[i], j]
