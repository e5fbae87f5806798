"""Suffix automata and their spelling in bytes, as kernels.

The suffix automaton (A. Blumer et al., "The smallest automaton recognizing the subwords of a text", 1985)
reads all contiguous parts of a sequence; it has less than twice as many states as the sequence symbols, and
less than three times as many edges, and is made in one pass.
"""

from __future__ import annotations

import numpy as np

from grammars.compiling.jit import inner, kernel


@inner
def _find(at, symbol, first, following, label):  # type: ignore[no-untyped-def]
    """The edge of a state that reads a symbol, or -1."""
    edge = first[at]
    while edge >= 0 and label[edge] != symbol:
        edge = following[edge]
    return edge


@kernel
def suffix_automaton(symbols, alphabet):  # type: ignore[no-untyped-def]
    """The suffix automaton of a sequence.

    Args:
        symbols: int32[n], below ``alphabet``.
        alphabet: how many there are.

    Returns:
        root: int32[alphabet], by symbol: where the start state leads, or -1.
        first: int32[states], by state (0 is the start, which has none here): its first edge or -1.
        following, label, target: int32[edges]: the next edge of the same state or -1, the symbol, the state.
    """
    n = len(symbols)
    length = np.zeros(2 * n + 2, np.int32)
    link = np.full(2 * n + 2, -1, np.int32)
    first = np.full(2 * n + 2, -1, np.int32)
    following = np.empty(3 * n + 4, np.int32)
    label = np.empty(3 * n + 4, np.int32)
    target = np.empty(3 * n + 4, np.int32)
    root = np.full(alphabet, -1, np.int32)
    states, edges, last = 1, 0, 0
    for i in range(n):
        symbol = symbols[i]
        here = states
        states += 1
        length[here] = length[last] + 1
        at = last
        found = -1
        while at > 0:
            edge = _find(at, symbol, first, following, label)
            if edge >= 0:
                found = target[edge]
                break
            label[edges], target[edges], following[edges] = symbol, here, first[at]
            first[at] = edges
            edges += 1
            at = link[at]
        if at == 0:
            found = root[symbol]
            if found < 0:
                root[symbol] = here
                at = -1
        if at < 0:
            link[here] = 0
        elif length[at] + 1 == length[found]:
            link[here] = found
        else:
            copy = states
            states += 1
            length[copy] = length[at] + 1
            link[copy] = link[found]
            edge = first[found]
            while edge >= 0:
                label[edges], target[edges], following[edges] = (
                    label[edge],
                    target[edge],
                    first[copy],
                )
                first[copy] = edges
                edges += 1
                edge = following[edge]
            while at > 0:
                edge = _find(at, symbol, first, following, label)
                if edge < 0 or target[edge] != found:
                    break
                target[edge] = copy
                at = link[at]
            if at == 0 and root[symbol] == found:
                root[symbol] = copy
            link[found] = copy
            link[here] = copy
        last = here
    return root, first[:states], following[:edges], label[:edges], target[:edges]


@kernel
def read_spans(root, first, following, label, target, marked):  # type: ignore[no-untyped-def]
    """The automaton of spans: the suffix automaton without its marks.

    The last two symbols of the alphabet mark where a span may end and begin, if ``marked``: a span begins
    behind the one, and may end where the other could be read.  Within a span they are read on the way.

    Returns:
        begin: int32[states + 1], edges by state; 0 is the start.
        symbol, reached: int32[edges].
        accept: uint8[states]; the start accepts: the empty span.
    """
    characters = len(root) - 2 if marked else len(root)
    ends, begins = characters, characters + 1
    number = np.full(len(first), -1, np.int32)
    order = np.empty(len(first), np.int32)
    begin = np.zeros(len(first) + 1, np.int32)
    size = len(label) + len(root)
    symbol = np.empty(size, np.int32)
    reached = np.empty(size, np.int32)
    accept = np.zeros(len(first), np.uint8)
    start = root[begins] if marked else 0
    count, used, done = 0, 0, 0
    if start >= 0:
        number[start], order[0] = 0, start
        count = 1
    from_marks = np.empty(3, np.int32)
    while done < count:
        q = order[done]
        if not marked:
            accept[done] = 1
        if q == 0:
            for c in range(characters):
                t = root[c]
                if t >= 0:
                    if number[t] < 0:
                        number[t], order[count] = count, t
                        count += 1
                    symbol[used], reached[used] = c, number[t]
                    used += 1
        else:
            from_marks[0] = q
            places = 1
            k = 0
            while k < places:  # the state itself, and those behind marks: an end, a beginning, both
                edge = first[from_marks[k]]
                while edge >= 0:
                    c, t = label[edge], target[edge]
                    if c >= characters:
                        if c == ends and k == 0:
                            accept[done] = 1
                        from_marks[places] = t
                        places += 1
                    else:
                        if number[t] < 0:
                            number[t], order[count] = count, t
                            count += 1
                        if used == len(symbol):
                            raise IndexError
                        symbol[used], reached[used] = c, number[t]
                        used += 1
                    edge = following[edge]
                k += 1
        done += 1
        begin[done] = used
    accept[0] = 1
    count = max(count, 1)
    return begin[: count + 1], symbol[:used], reached[:used], accept[:count]


@kernel
def spell(begin, symbol, reached, accept, ways_begin, rank, spelling, length):  # type: ignore[no-untyped-def]
    """The automaton over bytes of one over symbols, each written in some ways of which none begins another.

    Args:
        begin, symbol, reached, accept: see :func:`read_spans`.
        ways_begin: int32[symbols + 1]: the ways to write a symbol, in ``rank``.
        rank: int32[ways]: rows of ``spelling``.
        spelling: uint8[rows, 6], sorted; ``length``: uint8[rows], of each.

    Returns:
        int32[states + 1], edges by state; uint8[edges], their bytes; int32[edges], their targets;
        uint8[edges], whether a symbol ends there; uint8[states], which accept.  The first states are
        the same.
    """
    states = len(accept)
    inside, widest = 0, 0  # states within spellings, at most
    for q in range(states):
        row = 0
        for e in range(begin[q], begin[q + 1]):
            for w in range(ways_begin[symbol[e]], ways_begin[symbol[e] + 1]):
                inside += length[rank[w]] - 1
                row += 1
        widest = max(widest, row)
    total = 0
    for q in range(states):
        for e in range(begin[q], begin[q + 1]):
            for w in range(ways_begin[symbol[e]], ways_begin[symbol[e] + 1]):
                total += length[rank[w]]
    out_begin = np.zeros(states + inside + 1, np.int32)
    byte = np.empty(total, np.uint8)
    target = np.empty(total, np.int32)
    whole = np.empty(total, np.uint8)
    # rows of states within spellings lie behind those of all others, in arrays of their own until then
    more_begin = np.zeros(inside + 1, np.int32)
    more_byte = np.empty(total, np.uint8)
    more_target = np.empty(total, np.int32)
    more_whole = np.empty(total, np.uint8)
    rows = np.empty(widest, np.int64)
    wanted = np.empty(
        (widest * 6 + 1, 3), np.int32
    )  # states within: first and last row, bytes read
    used, more, made = 0, 0, 0
    for q in range(states):
        k = 0
        for e in range(begin[q], begin[q + 1]):
            for w in range(ways_begin[symbol[e]], ways_begin[symbol[e] + 1]):
                rows[k] = (np.int64(rank[w]) << 32) | np.int64(reached[e])
                k += 1
        _sort(rows, k)
        used_before = made
        wanted[0, 0], wanted[0, 1], wanted[0, 2] = 0, k, 0
        todo, at = 1, 0
        while at < todo:
            low, high, depth = wanted[at, 0], wanted[at, 1], wanted[at, 2]
            i = low
            while i < high:
                here = spelling[rows[i] >> 32, depth]
                j = i
                while j < high and spelling[rows[j] >> 32, depth] == here:
                    j += 1
                ended = j == i + 1 and length[rows[i] >> 32] == depth + 1
                if ended:
                    goal = np.int32(rows[i] & 0xFFFFFFFF)
                else:
                    goal = np.int32(states + used_before + todo - 1)
                    wanted[todo, 0], wanted[todo, 1], wanted[todo, 2] = i, j, depth + 1
                    todo += 1
                if at == 0:
                    byte[used], target[used], whole[used] = here, goal, ended
                    used += 1
                else:
                    more_byte[more], more_target[more], more_whole[more] = here, goal, ended
                    more += 1
                i = j
            if at > 0:
                made += 1
                more_begin[made] = more
            at += 1
        out_begin[q + 1] = used
    for q in range(made):
        out_begin[states + q + 1] = used + more_begin[q + 1]
    byte[used : used + more] = more_byte[:more]
    target[used : used + more] = more_target[:more]
    whole[used : used + more] = more_whole[:more]
    accepting = np.zeros(states + made, np.uint8)
    accepting[:states] = accept
    used += more
    return out_begin[: states + made + 1], byte[:used], target[:used], whole[:used], accepting


@inner
def _sort(rows, count):  # type: ignore[no-untyped-def]
    """Sorts the first numbers of an array in place."""
    if count > 24:
        rows[:count] = np.sort(rows[:count])
        return
    for i in range(1, count):
        value = rows[i]
        j = i
        while j > 0 and rows[j - 1] > value:
            rows[j] = rows[j - 1]
            j -= 1
        rows[j] = value
