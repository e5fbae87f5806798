"""Deterministic automata put together from their ends, as kernels.

The same construction as :mod:`grammars.compiling.assembly`, on the table of an ``Encoding``: nodes with
equal edges are one node as they are made, unions of nodes are noted and worked out when a text gets
there.  The nodes serve all rules of a grammar, so ends that rules share are made once.

Room is fixed for one run.  ``OverflowError`` says that it does not suffice: run again with more.
``ValueError`` says that a limit is reached: the plain builder finds out which, and where.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import uint64

from grammars.compiling.jit import inner, kernel
from grammars.compiling.kinds import (
    ALT,
    CALL,
    CHARS,
    EDGE,
    EMBED,
    LITERAL,
    NOTHING,
    REF,
    REPEAT,
    SEQ,
)
from grammars.compiling.sorting import sort
from grammars.compiling.symbol_sets import MASKS, intern_mask, mix
from grammars.ir import SYMBOLS

FINISH: Final = 1

# columns of a node: its edges; for a union its members, else -1; for one that stands for all unions of
# the same plain nodes those, else -1; what it stands for, if that is known; whether edges were merged;
# in which automaton it has which number
EB, EE, MB, ME, CB, CE, CANON, MERGED, STAMP, RULE, NUMBER = range(11)
COLUMNS: Final = 11
# counters
NODES, EDGES, LISTED, _, EPOCH, MEMOS = range(6)
# hash tables of nodes: by edges, by members, by plain nodes
_BY_EDGES, _BY_MEMBERS, _BY_CORE = range(3)


@inner
def _new_node(nodes, n):  # type: ignore[no-untyped-def]
    at = n[NODES]
    if at >= len(nodes):
        raise OverflowError
    n[NODES] = at + 1
    row = nodes[at]
    row[EB] = row[EE] = 0
    row[MB] = row[CB] = row[CANON] = -1
    row[MERGED] = row[STAMP] = row[RULE] = 0
    return at


@inner
def _add_edge(edges, n, label, to, inc):  # type: ignore[no-untyped-def]
    at = n[EDGES]
    if at >= len(edges):
        raise OverflowError
    edges[at, 0] = label
    edges[at, 1] = to
    edges[at, 2] = inc
    n[EDGES] = at + 1


@inner
def _node(nodes, edges, hashes, n, begin):  # type: ignore[no-untyped-def]
    """The node with the edges from ``begin`` on, which are dropped if there is one already."""
    end = n[EDGES]
    if begin == end:
        return 0
    h = uint64(end - begin)
    for e in range(begin, end):
        h = mix(mix(h, edges[e, 0]), edges[e, 1] * 2 + edges[e, 2])
    size = hashes.shape[1]
    slot = np.int64(h & uint64(size - 1))
    while hashes[_BY_EDGES, slot] >= 0:
        other = hashes[_BY_EDGES, slot]
        first = nodes[other, EB]
        if nodes[other, EE] - first == end - begin:
            same = True
            for e in range(end - begin):
                if (
                    edges[first + e, 0] != edges[begin + e, 0]
                    or edges[first + e, 1] != edges[begin + e, 1]
                    or edges[first + e, 2] != edges[begin + e, 2]
                ):
                    same = False
                    break
            if same:
                n[EDGES] = begin
                return other
        slot = (slot + 1) & (size - 1)
    node = _new_node(nodes, n)
    nodes[node, EB], nodes[node, EE] = begin, end
    hashes[_BY_EDGES, slot] = node
    return node


@inner
def _edge(nodes, edges, hashes, n, label, to):  # type: ignore[no-untyped-def]
    if to == 0:
        return 0
    begin = n[EDGES]
    _add_edge(edges, n, label, to, 0)
    return _node(nodes, edges, hashes, n, begin)


@inner
def _listed(nodes, lists, hashes, n, which, begin):  # type: ignore[no-untyped-def]
    """The slot of the node whose members (or plain nodes) are the numbers from ``begin`` on."""
    end = n[LISTED]
    low, high = (MB, ME) if which == _BY_MEMBERS else (CB, CE)
    h = uint64(which)
    for p in range(begin, end):
        h = mix(h, lists[p])
    size = hashes.shape[1]
    slot = np.int64(h & uint64(size - 1))
    while hashes[which, slot] >= 0:
        other = hashes[which, slot]
        first = nodes[other, low]
        if nodes[other, high] - first == end - begin:
            same = True
            for p in range(end - begin):
                if lists[first + p] != lists[begin + p]:
                    same = False
                    break
            if same:
                break
        slot = (slot + 1) & (size - 1)
    return slot


@inner
def _joint(nodes, lists, hashes, n, first, end):  # type: ignore[no-untyped-def]
    """The union of the ascending nodes at the end of the lists."""
    n[LISTED] = end
    slot = _listed(nodes, lists, hashes, n, _BY_MEMBERS, first)
    known = np.int64(hashes[_BY_MEMBERS, slot])
    if known >= 0:
        n[LISTED] = first
        return known
    node = np.int64(_new_node(nodes, n))
    nodes[node, MB], nodes[node, ME] = first, end
    hashes[_BY_MEMBERS, slot] = node
    return node


@inner
def _union(nodes, lists, hashes, n, values, begin, end):  # type: ignore[no-untyped-def]
    """Whichever of some nodes; changes their order."""
    sort(values, begin, end)
    first = n[LISTED]
    if first + end - begin > len(lists):
        raise OverflowError
    at = first
    last = np.int64(0)
    for i in range(begin, end):
        if values[i] != last:
            last = np.int64(values[i])
            lists[at] = last
            at += 1
    if at - first < 2:
        return last
    return _joint(nodes, lists, hashes, n, first, at)


@inner
def _pair(nodes, lists, hashes, n, a, b):  # type: ignore[no-untyped-def]
    if a == 0 or a == b:
        return np.int64(b)
    if b == 0:
        return np.int64(a)
    first = n[LISTED]
    if first + 2 > len(lists):
        raise OverflowError
    lists[first], lists[first + 1] = min(a, b), max(a, b)
    return _joint(nodes, lists, hashes, n, first, first + 2)


@inner
def _canonical(nodes, lists, hashes, n, scratch, node):  # type: ignore[no-untyped-def]
    """The node that stands for all unions of the same plain nodes."""
    if nodes[node, MB] < 0:
        return node
    known = nodes[node, CANON]
    if known >= 0:
        return known
    n[EPOCH] += 1
    epoch = n[EPOCH]
    first = n[LISTED]
    at = first
    scratch[0] = node
    height = 1
    nodes[node, STAMP] = epoch
    while height:
        height -= 1
        q = scratch[height]
        for p in range(nodes[q, MB], nodes[q, ME]):
            t = lists[p]
            if t == 0 or nodes[t, STAMP] == epoch:
                continue
            nodes[t, STAMP] = epoch
            if nodes[t, MB] >= 0:
                if height >= len(scratch):
                    raise OverflowError
                scratch[height] = t
                height += 1
            else:
                if at >= len(lists):
                    raise OverflowError
                lists[at] = t
                at += 1
    if at - first == 1:
        nodes[node, CANON] = lists[first]
        return lists[first]
    sort(lists, first, at)
    n[LISTED] = at
    slot = _listed(nodes, lists, hashes, n, _BY_CORE, first)
    known = hashes[_BY_CORE, slot]
    if known >= 0:
        n[LISTED] = first
    else:
        known = hashes[_BY_CORE, slot] = node
        nodes[node, CB], nodes[node, CE] = first, at
        nodes[node, EB] = -1
    nodes[node, CANON] = known
    return known


@inner
def _split(words, blocks, masks, count):  # type: ignore[no-untyped-def]
    """The coarsest partition of which all masks are unions: into ``blocks``, returns how many."""
    used = 0
    rest = np.empty(5, np.uint64)
    for i in range(count):
        for w in range(5):
            rest[w] = words[masks[i], w]
        before = used
        for b in range(before):
            inside = outside = False
            for w in range(5):
                inside = inside or (blocks[b, w] & rest[w]) != 0
                outside = outside or (blocks[b, w] & ~rest[w]) != 0
            if not inside:
                continue
            if outside:
                for w in range(5):
                    blocks[used, w] = blocks[b, w] & ~rest[w]
                    blocks[b, w] &= rest[w]
                used += 1
            for w in range(5):
                rest[w] &= ~blocks[b, w]
        some = False
        for w in range(5):
            some = some or rest[w] != 0
        if some:
            for w in range(5):
                blocks[used, w] = rest[w]
            used += 1
    return used


_INDEX_BITS: Final = 24
_INDEX: Final = (1 << _INDEX_BITS) - 1


@inner
def _ordered(edges, column):  # type: ignore[no-untyped-def]
    """Edges by label or target, and count: that in the upper bits, their places in the lower."""
    count = len(edges)
    if count > _INDEX:
        raise OverflowError
    out = np.empty(count, np.int64)
    for i in range(count):
        key = np.int64(edges[i, column]) * 2 + edges[i, 2]
        out[i] = key << _INDEX_BITS | i
    sort(out, 0, count)
    return out


@inner
def _overlap(words, edges, order):  # type: ignore[no-untyped-def]
    """Whether edges share a symbol; whether they do without being on the same mask; or share a call."""
    seen = np.zeros(5, np.uint64)
    shared = partly = False
    for i in range(len(edges)):
        label = edges[order[i] & _INDEX, 0]
        if i and label == edges[order[i - 1] & _INDEX, 0]:
            shared = True
            continue
        if label < 0:
            continue
        for w in range(5):
            if seen[w] & words[label, w]:
                shared = partly = True
            seen[w] |= words[label, w]
    return shared, partly


@inner
def _merge(nodes, edges, lists, hashes, words, mask_table, n, scratch, node):  # type: ignore[no-untyped-def]
    """Works out the edges of a union of plain nodes."""
    total = 0
    for p in range(nodes[node, CB], nodes[node, CE]):
        total += nodes[lists[p], EE] - nodes[lists[p], EB]
    part = np.empty((total, 3), np.int32)
    at = 0
    for p in range(nodes[node, CB], nodes[node, CE]):
        for e in range(nodes[lists[p], EB], nodes[lists[p], EE]):
            part[at] = edges[e]
            at += 1
    order = _ordered(part, 0)
    shared, partly = _overlap(words, part, order)
    if shared:
        nodes[node, MERGED] = 1
        out = np.empty((2 * total + 2 * SYMBOLS, 3), np.int32)
        count = 0
        values = np.empty(total, np.int32)
        i = 0
        while i < total:
            j = i
            while j < total and order[j] >> _INDEX_BITS == order[i] >> _INDEX_BITS:
                values[j - i] = part[order[j] & _INDEX, 1]
                j += 1
            label = part[order[i] & _INDEX, 0]
            if label < 0 or not partly:
                out[count, 0] = label
                out[count, 1] = _union(nodes, lists, hashes, n, values, 0, j - i)
                out[count, 2] = part[order[i] & _INDEX, 2]
                count += 1
            i = j
        if partly:
            masks = np.empty(total, np.int32)
            held = 0
            for i in range(total):
                label = part[order[i] & _INDEX, 0]
                if label >= 0 and (held == 0 or masks[held - 1] != label):
                    masks[held] = label
                    held += 1
            blocks = np.empty((SYMBOLS + 1, 5), np.uint64)
            used = _split(words, blocks, masks, held)
            for b in range(used):
                for w in range(5):
                    words[n[MASKS], w] = blocks[b, w]
                label = intern_mask(words, mask_table, n)
                for inc in range(2):
                    held = 0
                    for e in range(total):
                        if part[e, 0] < 0 or part[e, 2] != inc:
                            continue
                        for w in range(5):
                            if words[part[e, 0], w] & blocks[b, w]:
                                values[held] = part[e, 1]
                                held += 1
                                break
                    if held:
                        out[count, 0] = label
                        out[count, 1] = _union(nodes, lists, hashes, n, values, 0, held)
                        out[count, 2] = inc
                        count += 1
        part = out[:count]
    # one edge for all symbols with the same target
    for e in range(len(part)):
        part[e, 1] = _canonical(nodes, lists, hashes, n, scratch, part[e, 1])
    begin = n[EDGES]
    order = _ordered(part, 1)
    i = 0
    while i < len(part):
        first = order[i] & _INDEX
        held = 0
        mask = -1
        j = i
        while j < len(part) and order[j] >> _INDEX_BITS == order[i] >> _INDEX_BITS:
            label = part[order[j] & _INDEX, 0]
            if label < 0:
                _add_edge(edges, n, label, part[first, 1], part[first, 2])
            else:
                if held == 0:
                    mask = label
                    for w in range(5):
                        words[n[MASKS], w] = words[label, w]
                else:
                    for w in range(5):
                        words[n[MASKS], w] |= words[label, w]
                held += 1
            j += 1
        if held:
            if held > 1:
                mask = intern_mask(words, mask_table, n)
            _add_edge(edges, n, mask, part[first, 1], part[first, 2])
        i = j
    nodes[node, EB], nodes[node, EE] = begin, n[EDGES]


@inner
def _close(nodes, edges, lists, hashes, words, mask_table, n, stack, begin, end, ends, then):  # type: ignore[no-untyped-def]
    """A node of a trie from its (node, byte) pairs."""
    first = n[EDGES]
    if end - begin == 1:
        _add_edge(edges, n, stack[begin] & 0xFF, stack[begin] >> 8, 0)
    elif end > begin:
        sort(stack, begin, end)
        i = begin
        while i < end:
            target = stack[i] >> 8
            for w in range(5):
                words[n[MASKS], w] = 0
            while i < end and stack[i] >> 8 == target:
                byte = stack[i] & 0xFF
                words[n[MASKS], byte >> 6] |= uint64(1) << uint64(byte & 63)
                i += 1
            _add_edge(edges, n, intern_mask(words, mask_table, n), target, 0)
    node = _node(nodes, edges, hashes, n, first)
    return _pair(nodes, lists, hashes, n, node, then) if ends else node


@inner
def _words(nodes, edges, lists, hashes, words, mask_table, n, table, rows, text, then):  # type: ignore[no-untyped-def]
    """One of some sorted texts: their minimal automaton in one pass."""
    longest = total = 0
    for i in rows:
        longest = max(longest, table[i, 2])
        total += table[i, 2]
    stack = np.empty(total + 1, np.int64)
    count = np.zeros(longest + 1, np.int32)
    ends = np.zeros(longest + 1, np.uint8)
    depth = top = last = length = 0
    for w in range(len(rows) + 1):
        shared = -1
        at = size = 0
        if w < len(rows):
            at, size = table[rows[w], 1], table[rows[w], 2]
            shared = 0
            while shared < length and shared < size and text[last + shared] == text[at + shared]:
                shared += 1
        while depth > shared:
            node = _close(
                nodes, edges, lists, hashes, words, mask_table, n,
                stack, top - count[depth], top, ends[depth], then,
            )  # fmt: skip
            top -= count[depth]
            depth -= 1
            if depth < 0:
                return node
            stack[top] = np.int64(node) << 8 | text[last + depth]
            top += 1
            count[depth] += 1
        while depth < size:
            depth += 1
            count[depth] = 0
            ends[depth] = 0
        ends[depth] = 1
        last, length = at, size
    return 0


@inner
def _literal(nodes, edges, hashes, n, text, at, size, then):  # type: ignore[no-untyped-def]
    for i in range(at + size - 1, at - 1, -1):
        then = _edge(nodes, edges, hashes, n, np.int32(text[i]), then)
    return then


@inner
def _characters(nodes, edges, hashes, n, char_edges, char_begin, first, end, then):  # type: ignore[no-untyped-def]
    made = np.empty(end - first, np.int32)
    for r in range(first, end):
        begin = n[EDGES]
        for e in range(char_begin[r], char_begin[r + 1]):
            t = char_edges[e, 1]
            _add_edge(edges, n, char_edges[e, 0], then if t < 0 else made[t - first], 0)
        made[r - first] = _node(nodes, edges, hashes, n, begin)
    return made[end - first - 1]


@inner
def _embed(nodes, edges, lists, hashes, n, dfa_edges, dfa_begin, accept, first, end, start, then):  # type: ignore[no-untyped-def]
    base = n[NODES]
    some = False
    for q in range(first, end):
        _new_node(nodes, n)
        some = some or accept[q] != 0
    if not some:
        return 0
    for q in range(first, end):
        own = n[EDGES]
        for e in range(dfa_begin[q], dfa_begin[q + 1]):
            _add_edge(edges, n, dfa_edges[e, 0], base + dfa_edges[e, 1], dfa_edges[e, 2])
        node = base + q - first
        if accept[q]:
            plain = _node(nodes, edges, hashes, n, own)
            at = n[LISTED]
            if at + 2 > len(lists):
                raise OverflowError
            lists[at], lists[at + 1] = plain, then
            n[LISTED] = at + 2
            nodes[node, MB], nodes[node, ME] = at, at + 2
        else:
            nodes[node, EB], nodes[node, EE] = own, n[EDGES]
    return base + start


@inner
def _memo_slot(keys, key):  # type: ignore[no-untyped-def]
    size = len(keys)
    slot = np.int64(mix(uint64(0), key) & uint64(size - 1))
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & (size - 1)
    return slot


@inner
def _remember(keys, values, n, key, value):  # type: ignore[no-untyped-def]
    slot = _memo_slot(keys, key)
    if keys[slot] == -1:
        n[MEMOS] += 1
        if 2 * n[MEMOS] > len(keys):
            raise OverflowError
    keys[slot] = key
    values[slot] = value


@inner
def _build(  # type: ignore[no-untyped-def]
    nodes, edges, lists, hashes, words, mask_table, n, keys, memo, frames, values,
    table, kids, text, roots, inlined, nullable, empty, instead, extracts,
    char_edges, char_begin, char_end, dfa_edges, dfa_begin, dfa_accept, dfa_at, dfa_start,
    root,
):  # fmt: skip
    """The node at which a row's expression is read, and then the text ends.

    A frame: row, node that follows, place (or optional copies left), node so far, first value (or
    copies left), what a repetition is at; and the key to remember the answer by.
    """
    depth = held = 0
    i, then = root, FINISH
    result = 0
    asking = True
    while True:
        if asking:
            if extracts and instead[i] >= 0:
                i = instead[i]
            kind, a, b = table[i, 0], table[i, 1], table[i, 2]
            asking = False
            number = -1
            if (kind == REF and not inlined[a]) or kind == CALL:
                number = a
            if then == 0:
                result = 0
            elif kind == LITERAL:
                result = _literal(nodes, edges, hashes, n, text, a, b, then)
            elif kind == EDGE:
                result = _edge(nodes, edges, hashes, n, a, then)
            elif kind == CHARS:
                result = _characters(
                    nodes, edges, hashes, n,
                    char_edges, char_begin, char_end[a], char_end[a + 1], then,
                )  # fmt: skip
            elif number >= 0:
                called = _edge(nodes, edges, hashes, n, np.int32(-1 - number), then)
                result = (
                    _pair(nodes, lists, hashes, n, called, then) if nullable[number] else called
                )
            elif kind == EMBED or kind == SEQ or kind == ALT or kind == REPEAT or kind == REF:  # noqa: SIM109
                if kind == REF:
                    i = roots[a]
                    asking = True
                    continue
                key = (np.int64(i) * 2 + extracts) << 32 | np.int64(then)
                slot = _memo_slot(keys, key)
                if keys[slot] == key:
                    result = memo[slot]
                elif kind == EMBED:
                    result = _embed(
                        nodes, edges, lists, hashes, n, dfa_edges, dfa_begin, dfa_accept,
                        dfa_at[a], dfa_at[a + 1], dfa_start[a], then,
                    )  # fmt: skip
                    _remember(keys, memo, n, key, result)
                else:
                    if depth >= len(frames):
                        raise OverflowError
                    frame = frames[depth]
                    depth += 1
                    frame[0], frame[1], frame[6] = i, then, key
                    if kind == SEQ:
                        frame[2], frame[3] = table[i, 4], then
                        result = then
                    elif kind == ALT:
                        frame[2], frame[4] = table[i, 3] + a - 1, held
                        result = 0
                        if a > 1:
                            result = _words(
                                nodes, edges, lists, hashes, words, mask_table, n,
                                table, kids[table[i, 3] : table[i, 3] + a], text, then,
                            )  # fmt: skip
                        elif a == 1:
                            j = kids[table[i, 3]]
                            result = _literal(
                                nodes, edges, hashes, n, text, table[j, 1], table[j, 2], then
                            )
                    else:
                        low = 0 if empty[kids[table[i, 3]]] else a
                        frame[3] = then
                        frame[4] = low
                        if b >= 0:  # optional copies come last, so they are made first
                            frame[2], frame[5] = b - low, 2
                            result = then
                        else:
                            frame[2], frame[5] = 0, 0
                            # rows and their loops share the memo: loops have keys of their own
                            of_loop = -2 - (
                                (np.int64(kids[table[i, 3]]) * 2 + extracts) << 32 | then
                            )
                            slot = _memo_slot(keys, of_loop)
                            if keys[slot] == of_loop:
                                result = memo[slot]
                                frame[5] = 2
                            else:
                                loop = _new_node(nodes, n)
                                at = n[LISTED]
                                if at + 2 > len(lists):
                                    raise OverflowError
                                lists[at], lists[at + 1] = 0, then
                                n[LISTED] = at + 2
                                nodes[loop, MB], nodes[loop, ME] = at, at + 2
                                _remember(keys, memo, n, of_loop, loop)
                                frame[3] = loop
                                i, then = kids[table[i, 3]], loop
                                asking = True
                                continue
            elif kind == NOTHING:
                result = 0
            else:  # a row that was to be resolved before
                raise ValueError
            continue
        if depth == 0:
            return result
        frame = frames[depth - 1]
        row = np.int64(frame[0])
        kind = table[row, 0]
        if kind == SEQ:
            frame[2] -= 1
            if frame[2] >= table[row, 3]:
                i, then = kids[frame[2]], result
                asking = True
                continue
        elif kind == ALT:
            if held >= len(values):
                raise OverflowError
            values[held] = result
            held += 1
            frame[2] += 1
            if frame[2] < table[row, 4]:
                i, then = kids[frame[2]], frame[1]
                asking = True
                continue
            first = np.int64(frame[4])
            result = _union(nodes, lists, hashes, n, values, first, held)
            held = int(first)
        else:
            item = kids[table[row, 3]]
            if frame[5] == 0:  # the body of a loop
                loop = frame[3]
                lists[nodes[loop, MB]] = result
                result = loop
                frame[5] = 2
            elif frame[5] == 1:  # an optional copy
                result = _pair(nodes, lists, hashes, n, result, frame[1])
            if frame[2] > 0:
                frame[2] -= 1
                frame[5] = 1
                i, then = item, result
                asking = True
                continue
            frame[5] = 2
            if frame[4] > 0:
                frame[4] -= 1
                i, then = item, result
                asking = True
                continue
        depth -= 1
        _remember(keys, memo, n, frame[6], result)


# -- rules -------------------------------------------------------------------------------------------

TIDY: Final = 1
"""Flag of a rule: edges were merged so often that equal states are likely."""


@inner
def _emit(  # type: ignore[no-untyped-def]
    nodes, edges, lists, hashes, words, mask_table, n, scratch, order, limit,
    start, tag, accepting, plain, out_edges, out_begin, out_accept, used,
):  # fmt: skip
    """Writes the automaton that begins at a node, behind ``used`` states.

    Args:
        accepting: whether the start state accepts; -1 for as it is.
        plain: edges may enter the start state.

    Returns:
        How many states there are then, the start state, and flags.
    """
    start = _canonical(nodes, lists, hashes, n, scratch, start)
    order[0] = start
    nodes[start, RULE], nodes[start, NUMBER] = tag, 0
    count = 1
    merged = 0
    entered = False
    edge = out_begin[used]
    at = 0
    while at < count:
        node = order[at]
        at += 1
        core = nodes[node, MB] >= 0
        if core and nodes[node, EB] < 0:
            _merge(nodes, edges, lists, hashes, words, mask_table, n, scratch, node)
        merged += nodes[node, MERGED]
        if used + count + 1 >= len(out_accept):
            raise OverflowError
        final = node == FINISH
        if core:
            final = nodes[node, CE] > nodes[node, CB] and lists[nodes[node, CB]] == FINISH
        out_accept[used + at - 1] = final
        for e in range(nodes[node, EB], nodes[node, EE]):
            t = _canonical(nodes, lists, hashes, n, scratch, edges[e, 1])
            if nodes[t, RULE] != tag:
                if count >= limit:
                    raise ValueError
                nodes[t, RULE], nodes[t, NUMBER] = tag, count
                if count >= len(order):
                    raise OverflowError
                order[count] = t
                count += 1
            to = nodes[t, NUMBER]
            entered = entered or to == 0
            if edge >= len(out_edges):
                raise OverflowError
            out_edges[edge, 0], out_edges[edge, 1] = edges[e, 0], used + to
            out_edges[edge, 2] = edges[e, 2]
            edge += 1
        out_begin[used + at] = edge
    flags = TIDY if 2 * merged > count else 0
    first = used
    used += count
    if accepting < 0:
        accepting = out_accept[first]
    if plain or not entered:
        out_accept[first] = accepting
        return used, first, flags
    for e in range(out_begin[first], out_begin[first + 1]):
        if edge >= len(out_edges):
            raise OverflowError
        out_edges[edge] = out_edges[e]
        edge += 1
    out_accept[used] = accepting
    out_begin[used + 1] = edge
    return used + 1, used, flags


@kernel
def assemble(  # type: ignore[no-untyped-def]
    table, kids, text, roots, inlined, extracts, nullable, empty, instead, body,
    char_edges, char_begin, char_end, dfa_edges, dfa_begin, dfa_accept, dfa_at, dfa_start,
    dfa_words, dfa_word_at, mask_words, ready, top, members_begin, members, wanted, limit, room,
):  # fmt: skip
    """The automata of the start rule and of all rules that it calls, in that order.

    Args:
        table, kids, text: of an ``Encoding``.
        roots: int32[names], rows of the bodies of named rules.
        inlined: uint8[names].
        extracts: uint8[rules], whether free text is kept apart in the rule.
        nullable: uint8[rules].
        empty: uint8[rows], whether the row may be empty.
        instead: int32[rows], the row to take in rules that keep free text apart; -1 for the same.
        body: int32[rules], rows of the bodies of all rules.
        char_edges, char_begin, char_end: automata of classes of characters.
        dfa_edges, dfa_begin, dfa_accept, dfa_at, dfa_start: automata made elsewhere; automaton d has
            the states ``dfa_at[d]:dfa_at[d + 1]``, targets count from the first of them.
        dfa_words, dfa_word_at: the masks of automata made elsewhere, which their edges number.
        mask_words: uint64[masks, 5].
        ready: int32[rules], the automaton that is the rule's; -1 to build it.
        top: an automaton that is the start rule's; -1 to build it.
        members_begin, members: rules that a rule calls otherwise than by edges (of a bag).
        wanted: rows; if there are any, these alone are built, as they are.
        limit: states of one rule.
        room: how many nodes there is room for.

    Returns:
        masks; edges int32[n, 3] (mask or negative label, target, count) and their offsets by state;
        uint8[states]; and int32[rules used, 4]: the rule (-1: start), first state, start state, flags.
        States count from 1, state 0 is that of the end.
    """
    size = 16
    while size < 2 * room:
        size *= 2
    nodes = np.empty((room, COLUMNS), np.int32)
    edges = np.empty((4 * room, 3), np.int32)
    lists = np.empty(4 * room, np.int32)
    hashes = np.full((3, size), -1, np.int32)
    keys = np.full(2 * size, -1, np.int64)
    memo = np.empty(2 * size, np.int32)
    scratch = np.empty(room, np.int32)
    order = np.empty(room, np.int32)
    values = np.empty(room, np.int32)
    frames = np.empty((room, 7), np.int64)
    masks = len(mask_words)
    mask_size = 1024
    while mask_size < 4 * (masks + len(dfa_words)) + room // 4:
        mask_size *= 2
    words = np.empty((mask_size // 2 + 4, 5), np.uint64)
    mask_table = np.full(mask_size, -1, np.int32)
    n = np.zeros(8, np.int64)
    for m in range(masks):
        for w in range(5):
            words[m, w] = mask_words[m, w]
        n[MASKS] = m
        if intern_mask(words, mask_table, n) != m:
            raise ValueError
    dfa_edges = dfa_edges.copy()
    for d in range(len(dfa_at) - 1):
        low, high = dfa_word_at[d], dfa_word_at[d + 1]
        renamed = np.empty(high - low, np.int32)
        for m in range(low, high):
            for w in range(5):
                words[n[MASKS], w] = dfa_words[m, w]
            renamed[m - low] = intern_mask(words, mask_table, n)
        for e in range(dfa_begin[dfa_at[d]], dfa_begin[dfa_at[d + 1]]):
            if dfa_edges[e, 0] >= 0:
                dfa_edges[e, 0] = renamed[dfa_edges[e, 0]]
    _new_node(nodes, n)
    _new_node(nodes, n)
    rules = len(body)
    out_edges = np.empty((8 * room, 3), np.int32)
    out_begin = np.zeros(2 * room + 2, np.int32)
    out_accept = np.zeros(2 * room + 2, np.uint8)
    out_rules = np.empty((max(rules + 1, len(wanted)), 4), np.int32)
    seen = np.zeros(rules, np.uint8)
    out_rules[:, 0] = -1
    queued = max(1, len(wanted))
    used = 1
    at = 0
    while at < queued:
        r = np.int64(out_rules[at, 0])
        d = top if r < 0 else ready[r]
        first = used
        if d >= 0:
            begin, end = dfa_at[d], dfa_at[d + 1]
            edge = out_begin[used]
            for q in range(begin, end):
                if used + 1 >= len(out_accept):
                    raise OverflowError
                for e in range(dfa_begin[q], dfa_begin[q + 1]):
                    if edge >= len(out_edges):
                        raise OverflowError
                    out_edges[edge] = dfa_edges[e]
                    out_edges[edge, 1] += first
                    edge += 1
                out_accept[used] = dfa_accept[q]
                used += 1
                out_begin[used] = edge
            start, flags = first + dfa_start[d], 0
        else:
            named = 0 if r < 0 else r
            root = np.int64(wanted[at]) if len(wanted) else np.int64(body[named])
            before = n[NODES]
            node = _build(
                nodes, edges, lists, hashes, words, mask_table, n, keys, memo, frames, values,
                table, kids, text, roots, inlined, nullable, empty, instead, extracts[named],
                char_edges, char_begin, char_end, dfa_edges, dfa_begin, dfa_accept, dfa_at,
                dfa_start, root,
            )  # fmt: skip
            if n[NODES] - before > 4 * limit:
                raise ValueError
            used, start, flags = _emit(
                nodes, edges, lists, hashes, words, mask_table, n, scratch, order, limit,
                node, at + 1, -1 if r < 0 else 0, len(wanted) > 0, out_edges, out_begin, out_accept, used,
            )  # fmt: skip
        out_rules[at, 1], out_rules[at, 2], out_rules[at, 3] = first, start, flags
        at += 1
        for e in range(out_begin[first], out_begin[used]):
            if out_edges[e, 0] < 0:
                c = -1 - out_edges[e, 0]
                if not seen[c]:
                    seen[c] = 1
                    out_rules[queued, 0] = c
                    queued += 1
        if r >= 0:
            for m in range(members_begin[r], members_begin[r + 1]):
                c = members[m]
                if not seen[c]:
                    seen[c] = 1
                    out_rules[queued, 0] = c
                    queued += 1
    total = out_begin[used]
    return (
        words[: n[MASKS]].copy(),
        out_edges[:total].copy(),
        out_begin[: used + 1].copy(),
        out_accept[:used].copy(),
        out_rules[:queued].copy(),
    )
