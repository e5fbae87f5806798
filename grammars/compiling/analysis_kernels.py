"""Facts about the rules of an encoded grammar: the numbers behind ``compiler.Analysis``."""

from __future__ import annotations

from typing import Final

import numpy as np

from grammars.compiling.graphs import strong_components
from grammars.compiling.jit import inner, kernel
from grammars.compiling.kinds import (
    ALT,
    AND,
    BAG,
    CHARS,
    LITERAL,
    MACHINE,
    NOT,
    REF,
    REPEAT,
    SEQ,
)
from grammars.compiling.sorting import longer, longer_rows, sort

WIDE: Final = 1
"""Flag of a node: a wide class or a complement is in it."""
LOOP: Final = 2
"""Free text can run on in it."""
CALLS: Final = 4
"""It refers to a rule, or has a bag."""
LONG: Final = 8
"""A repetition that is counted instead of copied."""
LEXEMES: Final = 16
"""A sequence with free text in it."""

SIMPLE: Final = 32
"""Kernels build it as a regular expression: nothing special is in it, nor a recursive rule."""

RECURSIVE: Final = 0
NULLABLE: Final = 1
INLINED: Final = 2
EXTRACTS: Final = 3
"""Columns of what is known of the rules; the last: free text in it is kept apart."""

_MANY: Final = float(1 << 52)


@inner
def _rows_of_rules(table, kids, roots):  # type: ignore[no-untyped-def]
    """The rows of each rule's body, ascending: offsets and rows."""
    count = len(table)
    mark = np.full(count, -1, np.int32)
    stack = np.empty(count + 1, np.int32)
    offset = np.zeros(len(roots) + 1, np.int64)
    rows = np.empty(count + 16, np.int32)
    used = 0
    for r in range(len(roots)):
        begin = used
        stack[0] = roots[r]
        mark[roots[r]] = r
        height = 1
        while height:
            height -= 1
            i = stack[height]
            if used == len(rows):
                rows = longer(rows)
            rows[used] = i
            used += 1
            for k in range(table[i, 3], table[i, 4]):
                j = kids[k]
                if mark[j] != r:
                    mark[j] = r
                    stack[height] = j
                    height += 1
        sort(rows, begin, used)
        offset[r + 1] = used
    return offset, rows


@inner
def _measure(table, kids, flags, size, depth):  # type: ignore[no-untyped-def]
    for i in range(len(table)):
        kind, a, b = table[i, 0], table[i, 1], table[i, 2]
        own = 1.0
        flag = 0
        if kind == LITERAL:
            own = float(b)
        elif kind == MACHINE:
            own = float(a)
        elif kind == CHARS:
            flag = WIDE if b & 1 else 0
        elif kind == NOT:
            flag = WIDE
        elif kind == REF or kind == BAG:  # noqa: SIM109
            flag = CALLS
        deepest = 0
        for k in range(table[i, 3], table[i, 4]):
            j = kids[k]
            own += size[j]
            deepest = max(deepest, depth[j])
            flag |= flags[j] & (WIDE | LOOP | CALLS)
        if kind == REPEAT and (b < 0 or b > 8) and flag & WIDE:
            flag |= LOOP
        size[i] = min(own, _MANY)
        depth[i] = deepest + 1
        flags[i] = flag


@inner
def _call_graph(table, kids, roots, offset, rows):  # type: ignore[no-untyped-def]
    """Callees of each rule, how often it refers to them, counted wherever a shared part stands."""
    rules = len(roots)
    times = np.zeros(len(table), np.float64)
    total = np.zeros(rules, np.float64)
    mark = np.full(rules, -1, np.int32)
    begin = np.zeros(rules + 1, np.int32)
    callee = np.empty(64, np.int32)
    count = np.empty(64, np.float64)
    used = 0
    for r in range(rules):
        first = used
        for p in range(offset[r], offset[r + 1]):
            times[rows[p]] = 0.0
        times[roots[r]] = 1.0
        for p in range(offset[r + 1] - 1, offset[r] - 1, -1):
            i = rows[p]
            for k in range(table[i, 3], table[i, 4]):
                times[kids[k]] = min(times[kids[k]] + times[i], _MANY)
            if table[i, 0] != REF:
                continue
            c = table[i, 1]
            if mark[c] != r:
                mark[c] = r
                if used == len(callee):
                    callee = longer(callee)
                    count = longer(count)
                callee[used] = c
                count[used] = 0.0
                used += 1
            for e in range(first, used):
                if callee[e] == c:
                    count[e] += times[i]
                    break
            total[c] += times[i]
        begin[r + 1] = used
    total[0] += 1.0
    return begin, callee[:used], count[:used], total


@inner
def _is_nullable(table, kids, value, nullable, i):  # type: ignore[no-untyped-def]
    kind, a, b = table[i, 0], table[i, 1], table[i, 2]
    if kind == LITERAL:
        return b == 0
    if kind == SEQ or kind == AND:  # noqa: SIM109
        for k in range(table[i, 3], table[i, 4]):  # noqa: SIM110
            if not value[kids[k]]:
                return False
        return True
    if kind == ALT:
        for k in range(table[i, 3], table[i, 4]):  # noqa: SIM110
            if value[kids[k]]:
                return True
        return False
    if kind == REPEAT:
        return a == 0 or value[kids[table[i, 3]]]
    if kind == REF:
        return nullable[a] == 1
    if kind == NOT:
        return not value[kids[table[i, 3]]]
    return kind == MACHINE and b == 1


@kernel
def analyse(table, kids, roots, shared, bounds):  # type: ignore[no-untyped-def]
    """What ``Analysis`` finds out.

    Args:
        table, kids: of an ``Encoding``.
        roots: int32[rules], rows of the bodies; rule 0 is the start.
        shared: uint8[rules].
        bounds: levels and nodes allowed; sizes of rules inlined, used several times and once, with
            all that is inlined into them, their levels; states of copies.

    Returns:
        Whether the bounds hold; uint8[rules, 4] (``RECURSIVE``, ...); uint8[rows] flags of the rows;
        uint8[rows], whether the row may be empty.
    """
    n, rules = len(table), len(roots)
    flags = np.zeros(n, np.uint8)
    facts = np.zeros((rules, 4), np.uint8)
    empty = np.zeros(n, np.uint8)
    size = np.zeros(n, np.float64)
    depth = np.zeros(n, np.int32)
    _measure(table, kids, flags, size, depth)
    total_size = 0.0
    for r in range(rules):
        total_size += size[roots[r]]
        if depth[roots[r]] > bounds[0]:
            return False, facts, flags, empty
    if total_size > bounds[1]:
        return False, facts, flags, empty
    offset, rows = _rows_of_rules(table, kids, roots)
    begin, callee, count, uses = _call_graph(table, kids, roots, offset, rows)
    order, component = strong_components(begin, callee)
    for p in range(rules):
        r = order[p]
        near = (p and component[order[p - 1]] == component[r]) or (
            p + 1 < rules and component[order[p + 1]] == component[r]
        )
        for e in range(begin[r], begin[r + 1]):
            near = near or callee[e] == r
        facts[r, RECURSIVE] = near
    nullable = np.zeros(rules, np.uint8)
    changed = True
    while changed:
        changed = False
        for p in range(rules):
            r = order[p]
            if nullable[r]:
                continue
            for s in range(offset[r], offset[r + 1]):
                i = rows[s]
                empty[i] = _is_nullable(table, kids, empty, nullable, i)
            if empty[roots[r]]:
                nullable[r] = 1
                changed = True
    for r in range(rules):
        facts[r, NULLABLE] = nullable[r]
        for s in range(offset[r], offset[r + 1]):
            empty[rows[s]] = _is_nullable(table, kids, empty, nullable, rows[s])
    whole = np.zeros(rules, np.float64)
    levels = np.zeros(rules, np.int64)
    weight = np.zeros(n, np.float64)
    for p in range(rules):
        r = order[p]
        root = roots[r]
        whole[r] = size[root]
        deepest = 0
        for e in range(begin[r], begin[r + 1]):
            c = callee[e]
            if facts[c, INLINED]:
                whole[r] = min(whole[r] + count[e] * whole[c], _MANY)
                deepest = max(deepest, levels[c])
        levels[r] = depth[root] + deepest
        often = uses[r] > 1.0
        small = (
            not facts[r, RECURSIVE]
            and not shared[r]
            and not (often and flags[root] & LOOP)
            and size[root] <= (bounds[2] if often else bounds[3])
        )
        facts[r, INLINED] = (
            small and levels[r] <= bounds[5] and (not often or whole[r] <= bounds[4])
        )
        wants = False
        for s in range(offset[r], offset[r + 1]):
            i = rows[s]
            kind, a, b = table[i, 0], table[i, 1], table[i, 2]
            own = 1.0
            simple = kind != AND and kind != NOT and kind != MACHINE and kind != BAG
            if kind == REF:
                simple = not facts[a, RECURSIVE] and flags[roots[a]] & SIMPLE != 0
            if kind == LITERAL:
                own = float(b)
            elif kind == CHARS:
                own = 8.0 if b & 2 else 1.0
            elif kind == REF and facts[a, INLINED]:
                own = weight[roots[a]]
            elif kind == REPEAT:
                own = 4.0 * (a if b < 0 else min(b, 1000))
            for k in range(table[i, 3], table[i, 4]):
                own += weight[kids[k]]
                simple = simple and flags[kids[k]] & SIMPLE != 0
            weight[i] = min(own, _MANY)
            if kind == REPEAT:
                copies = float(a if b < 0 else b)
                if copies > 1 and copies * weight[kids[table[i, 3]]] > bounds[6]:
                    flags[i] |= LONG
                    wants = True
                    simple = False
            elif kind == BAG:
                wants = True
            elif kind == REF:
                wants = wants or not facts[a, INLINED] or facts[a, EXTRACTS] == 1
            if simple:
                flags[i] |= SIMPLE
        facts[r, EXTRACTS] = wants
    for i in range(n):
        if table[i, 0] == SEQ:
            for k in range(table[i, 3], table[i, 4]):
                if is_lexeme(table, flags, kids[k]):
                    flags[i] |= LEXEMES
    return True, facts, flags, empty


@inner
def is_lexeme(table, flags, i):  # type: ignore[no-untyped-def]
    """Whether a row is free text that a sequence gives a rule of its own."""
    return table[i, 0] == REPEAT and flags[i] & (LONG | LOOP) and not flags[i] & CALLS


@kernel
def special_rows(table, kids, roots, facts, flags, visited, seen, todo, bodies):  # type: ignore[no-untyped-def]
    """Rows that rules need and that kernels do not build: row, in a rule that extracts, rule.

    Args:
        facts, flags: of :func:`analyse`.
        visited: uint8[rows], changed in place: bit 1 and 2 for rows seen in rules that do not
            extract free text, and that do.
        seen: uint8[rules], the rules looked at, changed in place.
        todo: the rules to look at.
        bodies: int32[n, 3], rows to look at beside those: row, in a rule that extracts, rule.
    """
    out = np.empty((64, 3), np.int32)
    found = 0
    queue = np.empty(len(roots) + len(todo), np.int32)
    queued = 0
    for r in todo:
        if not seen[r]:
            seen[r] = 1
            queue[queued] = r
            queued += 1
    stack = np.empty(2 * len(table) + 2, np.int32)
    at = 0
    while at < queued + len(bodies):
        if at < len(bodies):
            root, extracts, outer = bodies[at, 0], bodies[at, 1], bodies[at, 2]
        else:
            outer = queue[at - len(bodies)]
            root, extracts = roots[outer], np.int32(facts[outer, EXTRACTS])
        at += 1
        bit = np.uint8(1 << extracts)
        height = 0
        if not visited[root] & bit:
            visited[root] |= bit
            stack[0] = root
            height = 1
        while height:
            height -= 1
            i = stack[height]
            kind = table[i, 0]
            special = (
                kind in (AND, NOT, MACHINE, BAG)
                or (kind == REPEAT and flags[i] & LONG)
                or (kind == SEQ and extracts and flags[i] & LEXEMES)
            )
            if special:
                if found == len(out):
                    out = longer_rows(out)
                out[found, 0], out[found, 1], out[found, 2] = i, extracts, outer
                found += 1
            if kind == REF:
                c = table[i, 1]
                if not facts[c, INLINED]:
                    if not seen[c]:
                        seen[c] = 1
                        queue[queued] = c
                        queued += 1
                elif not visited[roots[c]] & bit:
                    visited[roots[c]] |= bit
                    stack[height] = roots[c]
                    height += 1
                continue
            if special and kind != SEQ and kind != BAG:
                continue
            for k in range(table[i, 3], table[i, 4]):
                j = kids[k]
                if visited[j] & bit or (special and kind == SEQ and is_lexeme(table, flags, j)):
                    continue
                visited[j] |= bit
                stack[height] = j
                height += 1
    return out[:found]
