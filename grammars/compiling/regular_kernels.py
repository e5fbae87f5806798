"""Products of deterministic automata and their reduction, as kernels.

The same as ``intersect``, ``subtract``, ``trim`` and ``reduce`` of :mod:`grammars.compiling.automata`, for
automata without calls, on arrays: ``words`` uint64[masks, 5], ``edges`` int32[n, 3] (mask, target, whether
it counts), ``begin`` int32[states + 1], ``accept`` uint8[states].
"""

from __future__ import annotations

import numpy as np
from numba import uint64

from grammars.compiling.graphs import strong_components
from grammars.compiling.jit import inner, kernel
from grammars.compiling.sorting import longer, longer_rows, sort
from grammars.compiling.symbol_sets import MASKS, intern_mask, mix

_ROUNDS_LEAST = 8
_ROUNDS_WORK = 400_000


@inner
def _find_pair(keys, numbers, key):  # type: ignore[no-untyped-def]
    size = len(keys)
    slot = np.int64(mix(uint64(0), key) & uint64(size - 1))
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & (size - 1)
    return slot


@kernel
def product(  # type: ignore[no-untyped-def]
    a_words, a_edges, a_begin, a_accept, a_start,
    b_words, b_edges, b_begin, b_accept, b_start, subtracted, limit,
):  # fmt: skip
    """Texts of ``a`` that are in ``b``, or that are not if ``subtracted``; trimmed and reduced.

    An edge counts if one of those does that it is made of; of ``a`` and ``b`` one at most has such edges,
    and not ``b`` if it is subtracted.

    Returns:
        words, edges, begin, accept, the start state, and how many states the product had.

    Raises:
        ValueError: if the product has more than ``limit`` states.
    """
    outside = len(b_accept)
    width = outside + 1
    size = 1024
    keys = np.full(size, -1, np.int64)
    numbers = np.empty(size, np.int32)
    first = np.empty(64, np.int32)
    second = np.empty(64, np.int32)
    first[0], second[0] = a_start, b_start
    count = 1
    slot = _find_pair(keys, numbers, np.int64(a_start) * width + b_start)
    keys[slot], numbers[slot] = np.int64(a_start) * width + b_start, 0
    edges = np.empty((256, 3), np.int32)
    begin = np.zeros(65, np.int32)
    used = 0
    words = np.empty((512, 5), np.uint64)
    table = np.full(1024, -1, np.int32)
    n = np.zeros(8, np.int64)
    rest = np.empty(5, np.uint64)
    at = 0
    while at < count:
        p, q = np.int64(first[at]), np.int64(second[at])
        low = high = np.int64(0)
        if q != outside:
            low, high = np.int64(b_begin[q]), np.int64(b_begin[q + 1])
        for e in range(a_begin[p], a_begin[p + 1]):
            mask = a_edges[e, 0]
            for w in range(5):
                rest[w] = a_words[mask, w]
            if subtracted:
                rest[4] = 0  # marks aside
            for f in range(low, high + 1):
                target = np.int64(outside)
                if 2 * (n[MASKS] + 4) > len(table):
                    more = np.empty((2 * len(words), 5), np.uint64)
                    more[: len(words)] = words
                    words = more
                    table = np.full(2 * len(table), -1, np.int32)
                    total = n[MASKS]
                    for m in range(total):
                        n[MASKS] = m
                        intern_mask(words, table, n)
                here = n[MASKS]
                some = False
                if f < high:
                    target = np.int64(b_edges[f, 1])
                    for w in range(5):
                        words[here, w] = a_words[mask, w] & b_words[b_edges[f, 0], w]
                        some = some or words[here, w] != 0
                        rest[w] &= ~words[here, w]
                elif subtracted:
                    for w in range(5):
                        words[here, w] = rest[w]
                        some = some or rest[w] != 0
                if not some:
                    continue
                label = intern_mask(words, table, n)
                key = np.int64(a_edges[e, 1]) * width + target
                slot = _find_pair(keys, numbers, key)
                if keys[slot] == -1:
                    if count >= limit:
                        raise ValueError
                    if count == len(first):
                        first = longer(first)
                        second = longer(second)
                        begin = longer(begin)
                    if 2 * count > len(keys):
                        old, values = keys, numbers
                        keys = np.full(4 * len(old), -1, np.int64)
                        numbers = np.empty(4 * len(old), np.int32)
                        for i in range(len(old)):
                            if old[i] != -1:
                                slot = _find_pair(keys, numbers, old[i])
                                keys[slot], numbers[slot] = old[i], values[i]
                        slot = _find_pair(keys, numbers, key)
                    keys[slot], numbers[slot] = key, count
                    first[count], second[count] = a_edges[e, 1], target
                    count += 1
                if used == len(edges):
                    edges = longer_rows(edges)
                edges[used, 0], edges[used, 1] = label, numbers[slot]
                edges[used, 2] = a_edges[e, 2]
                if f < high:
                    edges[used, 2] |= b_edges[f, 2]
                used += 1
        at += 1
        begin[at] = used
    accept = np.empty(count, np.uint8)
    for i in range(count):
        other = second[i] != outside and b_accept[second[i]] != 0
        accept[i] = a_accept[first[i]] != 0 and other != (subtracted != 0)
    words, edges, begin, accept, start = reduced(
        words[: n[MASKS]].copy(), edges[:used].copy(), begin[: count + 1].copy(), accept, 0
    )
    return words, edges, begin, accept, start, count


@inner
def _trimmed(edges, begin, accept, start):  # type: ignore[no-untyped-def]
    """Only states that reach acceptance (all are reached from the start)."""
    states = len(accept)
    into = np.zeros(states + 1, np.int32)
    for e in range(len(edges)):
        into[edges[e, 1] + 1] += 1
    for q in range(states):
        into[q + 1] += into[q]
    fill = into.copy()
    source = np.empty(len(edges), np.int32)
    for q in range(states):
        for e in range(begin[q], begin[q + 1]):
            source[fill[edges[e, 1]]] = q
            fill[edges[e, 1]] += 1
    live = np.zeros(states, np.uint8)
    stack = np.empty(states, np.int32)
    height = 0
    for q in range(states):
        if accept[q]:
            live[q] = 1
            stack[height] = q
            height += 1
    alive = height
    while height:
        height -= 1
        q = stack[height]
        for i in range(into[q], into[q + 1]):
            p = source[i]
            if not live[p]:
                live[p] = 1
                alive += 1
                stack[height] = p
                height += 1
    if alive == states:
        return edges, begin, accept, start
    if not live[start]:
        return edges[:0].copy(), np.zeros(2, np.int32), np.zeros(1, np.uint8), 0
    number = np.full(states, -1, np.int32)
    count = 0
    for q in range(states):
        if live[q]:
            number[q] = count
            count += 1
    out_edges = np.empty((len(edges), 3), np.int32)
    out_begin = np.zeros(count + 1, np.int32)
    out_accept = np.empty(count, np.uint8)
    used = 0
    for q in range(states):
        if not live[q]:
            continue
        for e in range(begin[q], begin[q + 1]):
            t = number[edges[e, 1]]
            if t >= 0:
                out_edges[used, 0], out_edges[used, 1] = edges[e, 0], t
                out_edges[used, 2] = edges[e, 2]
                used += 1
        out_accept[number[q]] = accept[q]
        out_begin[number[q] + 1] = used
    return out_edges[:used].copy(), out_begin, out_accept, number[start]


@inner
def _signature(words, table, n, edges, begin, q, names, local, out, at):  # type: ignore[no-untyped-def]
    """Edges of a state with one mask for each target, sorted by target, from ``out[at]`` on.

    Targets are twice their names, which are ``local[t]`` where that is not 0, else ``names[t]``; and one
    more if the edge counts.
    """
    low, high = begin[q], begin[q + 1]
    count = high - low
    key = np.empty(count, np.int64)
    for i in range(count):
        t = edges[low + i, 1]
        name = np.int64(local[t]) if local[t] != 0 else np.int64(names[t])
        # labels of one target in order, so that equal rows are equal before masks are joined
        name = 2 * name + edges[low + i, 2]
        key[i] = (name + (1 << 30)) << 31 | edges[low + i, 0]
    sort(key, 0, count)
    i = 0
    while i < count:
        name = key[i] >> 31
        label = np.int64(key[i] & ((1 << 31) - 1))
        j = i + 1
        if j < count and key[j] >> 31 == name:
            here = n[MASKS]
            for w in range(5):
                words[here, w] = words[label, w]
            while j < count and key[j] >> 31 == name:
                other = np.int64(key[j] & ((1 << 31) - 1))
                for w in range(5):
                    words[here, w] |= words[other, w]
                j += 1
            label = np.int64(intern_mask(words, table, n))
        out[at, 0] = label
        out[at, 1] = name - (1 << 30)
        at += 1
        i = j
    return at


@inner
def _same_class(rows, row_begin, row_end, accept, table, q):  # type: ignore[no-untyped-def]
    """The slot of a state with the signature of state q."""
    h = uint64(accept[q])
    for i in range(row_begin[q], row_end[q]):
        h = mix(mix(h, rows[i, 0]), rows[i, 1] + (1 << 40))
    size = len(table)
    slot = np.int64(h & uint64(size - 1))
    length = row_end[q] - row_begin[q]
    while table[slot] >= 0:
        p = table[slot]
        if accept[p] == accept[q] and row_end[p] - row_begin[p] == length:
            same = True
            for i in range(length):
                if (
                    rows[row_begin[p] + i, 0] != rows[row_begin[q] + i, 0]
                    or rows[row_begin[p] + i, 1] != rows[row_begin[q] + i, 1]
                ):
                    same = False
                    break
            if same:
                break
        slot = (slot + 1) & (size - 1)
    return slot


@inner
def reduced(words, edges, begin, accept, start):  # type: ignore[no-untyped-def]
    """The automaton trimmed, equivalent states merged (see ``automata.reduce``)."""
    edges, begin, accept, start = _trimmed(edges, begin, accept, start)
    states = len(accept)
    masks = len(words)
    size = 64
    while size < 4 * (masks + len(edges) + 8):
        size *= 2
    more = np.empty((size // 2 + 8, 5), np.uint64)
    table = np.full(size, -1, np.int32)
    n = np.zeros(8, np.int64)
    for m in range(masks):
        for w in range(5):
            more[m, w] = words[m, w]
        n[MASKS] = m
        intern_mask(more, table, n)
    words = more
    order, component = strong_components(begin, edges[:, 1].copy())
    canon = np.arange(states).astype(np.int32)
    local = np.zeros(states, np.int64)
    rows = np.empty((len(edges) + 1, 2), np.int64)
    row_begin = np.zeros(states, np.int32)
    row_end = np.zeros(states, np.int32)
    begins = np.zeros(states, np.int32)
    ends = np.zeros(states, np.int32)
    fresh = np.zeros(states, np.int64)
    size = 64
    while size < 2 * states + 2:
        size *= 2
    known = np.full(size, -1, np.int32)
    used = 0
    i = 0
    while i < states:
        j = i + 1
        while j < states and component[order[j]] == component[order[i]]:
            j += 1
        if j - i == 1:
            q = order[i]
            local[q] = -1
            row_begin[q] = used
            used = row_end[q] = _signature(
                words, table, n, edges, begin, q, canon, local, rows, used
            )
            local[q] = 0
            slot = _same_class(rows, row_begin, row_end, accept, known, q)
            if known[slot] < 0:
                known[slot] = q
            else:
                used = row_begin[q]
                canon[q] = known[slot]
            i = j
            continue
        # a larger component: a partition is refined until it is stable
        for p in range(i, j):
            local[order[p]] = -1
        count = 1
        size = 64
        while size < 2 * (j - i) + 2:
            size *= 2
        stable = False
        blocks = np.empty(size, np.int32)
        part = rows[used:]
        for _ in range(max(_ROUNDS_LEAST, _ROUNDS_WORK // (j - i))):
            blocks[:] = -1
            at = 0
            found = 0
            for p in range(i, j):
                q = order[p]
                begins[q] = at
                end = _signature(words, table, n, edges, begin, q, canon, local, part, at)
                ends[q] = end
                slot = _same_class(part, begins, ends, accept, blocks, q)
                if blocks[slot] < 0:
                    blocks[slot] = q
                    found += 1
                    fresh[q] = -1 - found
                    at = end
                else:
                    fresh[q] = fresh[blocks[slot]]
            for p in range(i, j):
                local[order[p]] = fresh[order[p]]
            if found == count:
                stable = True
                break
            count = found
        if stable:
            leaders = np.full(count + 3, -1, np.int32)
            for p in range(i, j):
                q = order[p]
                block = -1 - local[q]
                if leaders[block] < 0:
                    leaders[block] = q
                canon[q] = leaders[block]
        for p in range(i, j):
            local[order[p]] = 0
        i = j
    number = np.full(states, -1, np.int32)
    count = 0
    for q in range(states):
        if canon[q] == q:
            number[q] = count
            count += 1
    if count == states:
        return words[: n[MASKS]].copy(), edges, begin, accept, start
    names = np.empty(states, np.int32)
    for q in range(states):
        names[q] = number[canon[q]]
    out_edges = np.empty((len(edges), 3), np.int32)
    out_begin = np.zeros(count + 1, np.int32)
    out_accept = np.empty(count, np.uint8)
    used = 0
    for q in range(states):
        if canon[q] != q:
            continue
        end = _signature(words, table, n, edges, begin, q, names, local, rows, 0)
        for k in range(end):
            out_edges[used, 0] = rows[k, 0]
            out_edges[used, 1], out_edges[used, 2] = rows[k, 1] >> 1, rows[k, 1] & 1
            used += 1
        out_accept[number[q]] = accept[q]
        out_begin[number[q] + 1] = used
    return (
        words[: n[MASKS]].copy(),
        out_edges[:used].copy(),
        out_begin,
        out_accept,
        np.int64(names[start]),
    )
