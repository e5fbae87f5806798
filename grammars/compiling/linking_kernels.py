"""From automata of rules to the tables of a program, as kernels.

What :mod:`grammars.compiling.compiler` does in ``_Flattener`` and ``_Chains``, on arrays.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import uint64

from grammars.compiling.graphs import strong_components
from grammars.compiling.jit import inner, kernel
from grammars.ir import SYMBOLS
from grammars.program import FIRST_PUSH as _FIRST_PUSH
from grammars.program import MANY as _MANY
from grammars.program import NO_EDGE as _NO_EDGE

_GOLDEN = uint64(0x9E3779B97F4A7C15)
_SEVERAL: Final = -2
"""A class with which several ways into a rule begin."""
_NONE: Final = -1


@inner
def _calls(edges, begin, rules, number, members_begin, members):  # type: ignore[no-untyped-def]
    """Edges of each rule that are calls, as a graph of the rules used: offsets, callees."""
    used = len(rules)
    offset = np.zeros(used + 1, np.int32)
    total = 0
    for e in range(len(edges)):
        total += edges[e, 0] < 0
    callee = np.empty(total + len(members), np.int32)
    mark = np.full(used, -1, np.int32)
    at = 0
    for i in range(used):
        end = rules[i + 1, 1] if i + 1 < used else len(begin) - 1
        for e in range(begin[rules[i, 1]], begin[end]):
            if edges[e, 0] < 0:
                c = number[-1 - edges[e, 0]]
                if mark[c] != i:
                    mark[c] = i
                    callee[at] = c
                    at += 1
        if i:
            for m in range(members_begin[rules[i, 0]], members_begin[rules[i, 0] + 1]):
                callee[at] = number[members[m]]
                at += 1
        offset[i + 1] = at
    return offset, callee[:at]


@inner
def _all_productive(  # type: ignore[no-untyped-def]
    edges, begin, accept, rules, number, offset, callee, members_begin, members
):  # fmt: skip
    """Whether every rule has a text, and every member of a bag."""
    used = len(rules)
    order, _ = strong_components(offset, callee)
    alive = np.zeros(used, np.uint8)
    stamp = np.zeros(len(accept), np.int32)
    stack = np.empty(len(accept) + 1, np.int32)
    missing = used
    clock = 0
    while missing:
        before = missing
        for p in range(used):
            r = order[p]
            if alive[r]:
                continue
            low = high = 0
            if r:
                low, high = members_begin[rules[r, 0]], members_begin[rules[r, 0] + 1]
            if high > low:
                whole = True
                for m in range(low, high):
                    whole = whole and alive[number[members[m]]] != 0
                if whole:
                    alive[r] = 1
                    missing -= 1
                continue
            clock += 1
            stack[0] = rules[r, 2]
            stamp[rules[r, 2]] = clock
            height = 1
            while height:
                height -= 1
                q = stack[height]
                if accept[q]:
                    alive[r] = 1
                    missing -= 1
                    break
                for e in range(begin[q], begin[q + 1]):
                    t = edges[e, 1]
                    label = edges[e, 0]
                    if stamp[t] != clock and (label >= 0 or alive[number[-1 - label]]):
                        stamp[t] = clock
                        stack[height] = t
                        height += 1
        if missing == before:
            return False
    return True


@inner
def _classify(words, used_masks):  # type: ignore[no-untyped-def]
    """Classes of symbols that no mask tells apart, numbered as they first appear.

    The first masks are those of single symbols.

    Returns:
        int32[symbols] (0 for marks that no mask has), how many there are, uint8[symbols] whether any
        mask has the symbol.
    """
    of = np.zeros(SYMBOLS, np.int32)
    read = np.zeros(SYMBOLS, np.uint8)
    count = 1
    size = np.zeros(2 * SYMBOLS + 2, np.int32)
    size[0] = SYMBOLS
    inside = np.empty(2 * SYMBOLS + 2, np.int32)
    for m in range(min(len(words), SYMBOLS)):  # the symbol m alone
        if used_masks[m]:
            read[m] = 1
            if size[of[m]] > 1:
                size[of[m]] -= 1
                of[m], size[count] = count, 1
                count += 1
    for m in range(SYMBOLS, len(words)):
        if not used_masks[m]:
            continue
        inside[:count] = 0
        for s in range(SYMBOLS):
            if words[m, s >> 6] >> uint64(s & 63) & uint64(1):
                inside[of[s]] += 1
                read[s] = 1
        before = count
        for c in range(before):
            if 0 < inside[c] < size[c]:
                size[count] = inside[c]
                size[c] -= inside[c]
                inside[c] = count  # the new class of those inside
                count += 1
            else:
                inside[c] = -1
        if count > before:
            for s in range(SYMBOLS):
                c = of[s]
                if inside[c] >= 0 and words[m, s >> 6] >> uint64(s & 63) & uint64(1):
                    of[s] = inside[c]
    names = np.full(count, -1, np.int32)
    found = 0
    out = np.zeros(SYMBOLS, np.int32)
    for s in range(SYMBOLS):
        if s >= 256 and not read[s]:
            continue
        if names[of[s]] < 0:
            names[of[s]] = found
            found += 1
        out[s] = names[of[s]]
    return out, found, read


@inner
def _hash(a, b, c):  # type: ignore[no-untyped-def]
    h = (uint64(a) ^ uint64(0x51ED27)) * _GOLDEN
    h = (h ^ (h >> uint64(29)) ^ uint64(b)) * _GOLDEN
    h = (h ^ (h >> uint64(29)) ^ uint64(c)) * _GOLDEN
    return h ^ (h >> uint64(31))


@inner
def _intern(rows, table, a, b, c):  # type: ignore[no-untyped-def]
    """The number of three numbers.  ``table[-1]`` says how many there are.

    Raises:
        OverflowError: if the rows run out, of which there are half as many as places in the table.
    """
    size = len(table) - 1
    slot = np.int64(_hash(a, b, c) & uint64(size - 1))
    while table[slot] >= 0:
        i = np.int64(table[slot])
        if rows[i, 0] == a and rows[i, 1] == b and rows[i, 2] == c:
            return i
        slot = (slot + 1) & (size - 1)
    count = np.int64(table[size])
    if count >= len(rows):
        raise OverflowError
    rows[count, 0], rows[count, 1], rows[count, 2] = a, b, c
    table[slot] = count
    table[size] = count + 1
    return count


@inner
def _empty_table(room):  # type: ignore[no-untyped-def]
    table = np.full(2 * room + 1, -1, np.int32)
    table[2 * room] = 0
    return table


@kernel
def link(  # type: ignore[no-untyped-def]
    words,
    edges,
    begin,
    accept,
    rules,
    rule_count,
    ends,
    members_begin,
    members,
    bag_of,
    bag_rule,
    room,
):
    """The tables of a program.

    Args:
        words, edges, begin, accept, rules: of ``assemble``.
        rule_count: how many rules have numbers.
        ends: uint8[states], whether the state ends its rule at any count.
        members_begin, members: the members of each rule that is a bag.
        bag_of: int32[states], the bag whose items the state takes; -1 for none.
        bag_rule: int32[bags], the bags' rules.
        room: for how many chains of calls there is room; a power of two.

    Returns:
        Whether all went well: it does not where a rule has no text, calls itself before it has read
        anything, or symbols fall into too many classes.  Then, named as in ``Program``: byte_class,
        classes, uint8[symbols] whether a symbol is read, edge_offset, edge_class, edge_target,
        call_offset, call_start, call_return, call_tail, push_offset, push_links, push_target,
        push_outer, table, first, start_rank.

    Raises:
        OverflowError: if there is not enough room.
    """
    states = len(accept)
    used = len(rules)
    number = np.zeros(rule_count, np.int32)
    for i in range(1, used):
        number[rules[i, 0]] = i
    offset, callee = _calls(edges, begin, rules, number, members_begin, members)
    fine = _all_productive(
        edges, begin, accept, rules, number, offset, callee, members_begin, members
    )
    # calls with which rules begin
    left_offset = np.zeros(used + 1, np.int32)
    left = np.empty(len(edges) + len(members) + 1, np.int32)
    at = 0
    for i in range(used):
        for e in range(begin[rules[i, 2]], begin[rules[i, 2] + 1]):
            if edges[e, 0] < 0:
                left[at] = number[-1 - edges[e, 0]]
                fine = fine and left[at] != i
                at += 1
        if bag_of[rules[i, 2]] >= 0:
            for m in range(members_begin[rules[i, 0]], members_begin[rules[i, 0] + 1]):
                left[at] = number[members[m]]
                fine = fine and left[at] != i
                at += 1
        left_offset[i + 1] = at
    order, component = strong_components(left_offset, left[:at])
    for p in range(1, used):
        fine = fine and component[order[p]] != component[order[p - 1]]
    used_masks = np.zeros(len(words), np.uint8)
    call_total = 0
    for e in range(len(edges)):
        if edges[e, 0] >= 0:
            used_masks[edges[e, 0]] = 1
        else:
            call_total += 1
    class_of, classes, read = _classify(words, used_masks)
    fine = fine and classes <= 256
    if not fine:
        states = classes = call_total = 0
    symbol_of = np.zeros(classes, np.int32)
    if fine:
        for s in range(SYMBOLS - 1, -1, -1):
            if s < 256 or read[s]:
                symbol_of[class_of[s]] = s
    # classes of each mask
    mask_begin = np.zeros(len(words) + 1, np.int32)
    for m in range(len(words)):
        count = 0
        if used_masks[m] and m < SYMBOLS:
            count = 1 if fine else 0
        elif used_masks[m]:
            for c in range(classes):
                s = symbol_of[c]
                if words[m, s >> 6] >> uint64(s & 63) & uint64(1):
                    count += 1
        mask_begin[m + 1] = mask_begin[m] + count
    mask_class = np.empty(mask_begin[len(words)], np.int32)
    at = 0
    for m in range(len(words)):
        if used_masks[m] and m < SYMBOLS:
            if fine:
                mask_class[at] = class_of[m]
                at += 1
        elif used_masks[m]:
            for c in range(classes):
                s = symbol_of[c]
                if words[m, s >> 6] >> uint64(s & 63) & uint64(1):
                    mask_class[at] = c
                    at += 1
    # edges and calls
    edge_total = 0
    for q in range(states):
        for e in range(begin[q], begin[q + 1]):
            label = edges[e, 0]
            if label >= 0:
                edge_total += mask_begin[label + 1] - mask_begin[label]
    edge_offset = np.zeros(states + 1, np.int32)
    edge_class = np.empty(edge_total, np.int32)
    edge_target = np.empty(edge_total, np.int32)
    call_offset = np.zeros(states + 1, np.int32)
    call_rule = np.empty(call_total, np.int32)
    call_start = np.empty(call_total, np.int32)
    call_return = np.empty(call_total, np.int32)
    call_tail = np.zeros(call_total, np.uint8)
    table = np.full((states, classes), _NO_EDGE, np.int32)
    at = call_at = 0
    for q in range(states):
        for e in range(begin[q], begin[q + 1]):
            label = edges[e, 0]
            target = edges[e, 1] << 1 | edges[e, 2]
            if label < 0:
                call_rule[call_at] = number[-1 - label]
                call_start[call_at] = rules[number[-1 - label], 2]
                call_return[call_at] = target
                call_at += 1
                continue
            for k in range(mask_begin[label], mask_begin[label + 1]):
                c = mask_class[k]
                edge_class[at], edge_target[at] = c, target
                at += 1
                table[q, c] = target if table[q, c] == _NO_EDGE else _MANY
        edge_offset[q + 1] = at
        call_offset[q + 1] = call_at
    tail = np.zeros(states, np.uint8)
    for q in range(states):
        tail[q] = ends[q] and begin[q + 1] == begin[q] and bag_of[q] < 0
    for k in range(call_total):
        call_tail[k] = tail[call_return[k] >> 1]
    # ways into rules: how a class begins them, callees first
    entry = np.full((used, classes), _NONE, np.int32)
    links = np.empty((room, 3), np.int32)
    link_table = _empty_table(room)
    chains = np.empty((room, 3), np.int32)
    chain_table = _empty_table(room)
    ways = np.empty((room, 3), np.int32)
    way_table = _empty_table(room)
    start_rank = np.full(states, -1, np.int32)
    for p in range(used if fine else 0):
        r = order[p]
        q = rules[r, 2]
        start_rank[q] = used - 1 - p
        for e in range(edge_offset[q], edge_offset[q + 1]):
            c = edge_class[e]
            if entry[r, c] != _NONE:
                entry[r, c] = _SEVERAL
                continue
            way = _intern(ways, way_table, -1, edge_target[e], 0)
            entry[r, c] = way
        for k in range(call_offset[q], call_offset[q + 1]):
            for c in range(classes):
                inner = entry[call_rule[k], c]
                if inner == _NONE:
                    continue
                if entry[r, c] != _NONE or inner == _SEVERAL:
                    entry[r, c] = _SEVERAL
                    continue
                link = np.int64(ways[inner, 0])
                if not call_tail[k]:
                    link = _intern(links, link_table, call_return[k], link, 0)
                way = _intern(ways, way_table, link, ways[inner, 1], 0)
                entry[r, c] = way
        if bag_of[q] >= 0:  # which items are available only the residual says
            for m in range(members_begin[rules[r, 0]], members_begin[rules[r, 0] + 1]):
                for c in range(classes):
                    if entry[number[members[m]], c] != _NONE:
                        entry[r, c] = _SEVERAL
    # states with calls
    for q in range(states):
        if bag_of[q] >= 0:
            r = np.int64(bag_rule[bag_of[q]])
            for m in range(members_begin[r], members_begin[r + 1]):
                for c in range(classes):
                    if entry[number[members[m]], c] != _NONE:
                        table[q, c] = _MANY
        if call_offset[q] == call_offset[q + 1]:
            continue
        for k in range(call_offset[q], call_offset[q + 1]):
            for c in range(classes):
                inner = entry[call_rule[k], c]
                if inner == _NONE:
                    continue
                if table[q, c] != _NO_EDGE or inner == _SEVERAL:
                    table[q, c] = _MANY
                    continue
                link = np.int64(ways[inner, 0])
                outer = 0
                if not call_tail[k]:
                    outer = 1
                    link = _intern(links, link_table, call_return[k], link, 0)
                chain = _intern(chains, chain_table, link, ways[inner, 1], outer)
                table[q, c] = _FIRST_PUSH - chain
    chain_count = np.int64(chain_table[2 * room])
    push_offset = np.zeros(chain_count + 1, np.int32)
    for i in range(chain_count):
        length = 0
        link = np.int64(chains[i, 0])
        while link >= 0:
            length += 1
            link = np.int64(links[link, 1])
        push_offset[i + 1] = push_offset[i] + length
    push_links = np.empty(push_offset[chain_count], np.int32)
    push_target = np.empty(chain_count, np.int32)
    push_outer = np.empty(chain_count, np.uint8)
    at = 0
    for i in range(chain_count):
        link = np.int64(chains[i, 0])
        while link >= 0:
            push_links[at] = links[link, 0]
            at += 1
            link = np.int64(links[link, 1])
        push_target[i], push_outer[i] = chains[i, 1], chains[i, 2]
    first = np.zeros((states, 4), np.uint64)
    for q in range(states):
        for c in range(classes):
            if table[q, c] != _NO_EDGE:
                first[q, c >> 6] |= uint64(1) << uint64(c & 63)
    return (
        fine, class_of.astype(np.uint8), classes, read, edge_offset, edge_class, edge_target,
        call_offset, call_start, call_return, call_tail,
        push_offset, push_links, push_target, push_outer, table, first, start_rank,
    )  # fmt: skip
