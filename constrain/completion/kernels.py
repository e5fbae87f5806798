"""Kernels: the shortest way to the end in bytes, and its spelling in the fewest tokens.

A *place* is a program state with its count (in a bag's rule: its residual).  Two questions are answered,
for what is asked and no more:

* how many bytes end the rule from a place, and by which byte or call such a way begins
  (:func:`_find_way`: Knuth's generalization of Dijkstra's algorithm, directed by counts);
* into how few tokens the way from a state of the pool to the end of the text can be cut
  (:func:`_spell`).

Arrays are reached through a context of their own (``F_`` fields), beside the pool's.  What is here
follows from the program alone: it can be forgotten at any time and comes out the same again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import int32, int64, njit, uint64

from constrain.engine import kernels as k
from constrain.engine.context import context_at as _context
from constrain.engine.context import i32 as _i32
from constrain.engine.context import i32_at as _i32_at
from constrain.engine.context import i64 as _i64
from constrain.engine.context import mix as _mix
from constrain.engine.context import u8 as _u8
from constrain.engine.context import u16 as _u16
from constrain.engine.context import u64 as _u64

(
    F_HASH, F_Q, F_N, F_COST, F_MOVE, F_TO, F_RUN, N_PLACES, N_PLACE_ROOM, N_HASH_SIZE,
    F_EDGE_OFFSET, F_EDGE_TARGET, F_EDGE_CLASS, F_LETTER, F_RANK, F_ENOUGH, F_LEAST, N_ROOM_FAR,
    F_BYTES, F_NEXT, F_STEP, F_TOKENS, N_STATE_ROOM, F_FIRST_CHILD, N_WORK, N_WORK_LIMIT, F_FORM,
    N_FORMS, F_LOOP,
) = range(29)  # fmt: skip
FIELD_COUNT: Final = 29

NEVER: Final = 1 << 30
"""No bytes, or tokens, end the rule or text."""
PLACES_FULL: Final = -20
"""More room for places is needed."""
STATES_FULL: Final = -21
"""The pool has more states than there is room for."""
TOO_FAR: Final = -22
"""The work that the context allows is used up."""
_ASTRAY: Final = -23
"""A way does not lead on: a defect."""

IN_STRING: Final = 1
"""The form of a way, if it is JSON: it begins within a string."""
HAS_COMMA: Final = 2
"""The same: it has a comma outside strings, so that it begins a further key or item."""
_UNKNOWN: Final = -1
_ENDS: Final = 1 << 24
"""Instead of a move: the rule ends here."""
_RUNS: Final = 4
"""Longest tokens of one letter that a state must count at least before it takes them one after the other."""
_BESIDE: Final = 32
"""Letters that must be left beside."""
_FURTHEST: Final = 1 << 22
"""Bytes beyond which nothing is looked for."""


@njit
def _grown(array):  # type: ignore[no-untyped-def]
    out = np.empty(2 * len(array), array.dtype)
    out[: len(array)] = array
    return out


_INTS: Final = "Array(int32, 1, 'C', readonly=True)"


@njit(
    f"int64({_INTS}, {_INTS}, {_INTS}, uint8[::1], int32[::1], int32[::1], int32[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def list_distinct_edges(  # type: ignore[no-untyped-def]
    offset, edge_class, target, is_byte, rank, out_offset, out_target, out_class
):
    """The distinct targets of each state's byte edges, each with the class of the best rank.

    Returns how many there are.
    """
    seen = np.full(2 * (len(offset) - 1), -1, np.int32)
    found = 0
    for q in range(len(offset) - 1):
        begin = found
        out_offset[q] = begin
        for e in range(offset[q], offset[q + 1]):
            c = edge_class[e]
            if not is_byte[c]:
                continue
            t = target[e]
            at = seen[t]
            if at >= begin:
                if rank[c] > rank[out_class[at]]:
                    out_class[at] = c
                continue
            seen[t] = found
            out_target[found] = t
            out_class[found] = c
            found += 1
    out_offset[len(offset) - 1] = found
    return found


@njit
def _place(ctx, own, q, n):  # type: ignore[no-untyped-def]
    """The number of a place, or PLACES_FULL.  Counts that are enough and far from too many are one."""
    if n > 0:
        enough = _i32(own, F_ENOUGH)[q]
        if n > enough and _i32(ctx, k.P_LIMIT)[q] - n >= own[N_ROOM_FAR]:
            n = int64(enough)
    table, size = _i32(own, F_HASH), own[N_HASH_SIZE]
    qs, ns = _i32(own, F_Q), _i32(own, F_N)
    slot = int64(_mix(_mix(uint64(0), q), n) & uint64(size - 1))
    while table[slot] != 0:
        p = int64(table[slot]) - 1
        if qs[p] == q and ns[p] == n:
            return p
        slot = (slot + 1) & (size - 1)
    p = own[N_PLACES]
    if p >= own[N_PLACE_ROOM]:
        return int64(PLACES_FULL)
    own[N_PLACES] = p + 1
    table[slot] = int32(p + 1)
    qs[p], ns[p] = q, n
    _i32(own, F_COST)[p] = _UNKNOWN
    _i32(own, F_RUN)[p] = -1
    return p


@njit
def _moved(ctx, n, target):  # type: ignore[no-untyped-def]
    """The count after an edge, or -1 where no end would be within bounds."""
    q = target >> 1
    m = n + (target & 1)
    cap = _i32(ctx, k.P_CAP)[q]
    if m > cap:
        m = int64(cap)
    if m > _i32(ctx, k.P_LIMIT)[q] or m < _i32(ctx, k.P_FLOOR)[q]:
        return int64(-1)
    return int64(m)


@njit
def _ahead(own, p):  # type: ignore[no-untyped-def]
    """No fewer bytes than this end the rule from a place: the cost if known, else what must be counted."""
    cost = int64(_i32(own, F_COST)[p])
    if cost >= 0:
        return cost
    return max(int64(0), int64(_i32(own, F_LEAST)[_i32(own, F_Q)[p]]) - int64(_i32(own, F_N)[p]))


@njit
def _still_to_count(own, q, n):  # type: ignore[no-untyped-def]
    """How much a state that counts letter after letter has to count yet; 0 if it does no such thing."""
    if _i32(own, F_LOOP)[q] < 0:
        return int64(0)
    return max(int64(0), int64(_i32(own, F_LEAST)[q]) - n)


@njit
def _run_from(ctx, own, state):  # type: ignore[no-untyped-def]
    """Letters of the longest token of one letter, where a state has to count many; else 0."""
    begin = int64(_i32(ctx, k.S_OFFSET)[state])
    if _i32(ctx, k.S_COUNT)[state] != 1:
        return int64(0)
    q, n = int64(_i32(ctx, k.S_Q)[begin]), int64(_i32(ctx, k.S_N)[begin])
    left = _still_to_count(own, q, n)
    if left == 0:
        return int64(0)
    run = int64(_i32(own, F_RANK)[_i32(own, F_LOOP)[q]])
    return run if left > _RUNS * run + _BESIDE else int64(0)


@njit
def _sift_up(keys, values, at):  # type: ignore[no-untyped-def]
    key, value = keys[at], values[at]
    while at > 0:
        above = (at - 1) >> 1
        if keys[above] <= key:
            break
        keys[at], values[at] = keys[above], values[above]
        at = above
    keys[at], values[at] = key, value


@njit
def _sift_down(keys, values, count):  # type: ignore[no-untyped-def]
    """Moves the first entry of a heap down to its place."""
    key, value = keys[0], values[0]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= count:
            break
        if below + 1 < count and keys[below + 1] < keys[below]:
            below += 1
        if keys[below] >= key:
            break
        keys[at], values[at] = keys[below], values[below]
        at = below
    keys[at], values[at] = key, value


@njit
def _see(table, key):  # type: ignore[no-untyped-def]
    """Puts a non-negative key into a hash table; whether it was there already."""
    size = len(table)
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while table[slot] != 0:
        if table[slot] == key + 1:
            return True
        slot = (slot + 1) & (size - 1)
    table[slot] = key + 1
    return False


@njit(cache=True)
def _find_way(ctx, own, start):  # type: ignore[no-untyped-def]
    """Finds how many bytes end the rule from a place, and keeps the way there.

    Each rule that is called on the way has a search of its own, a *run*, all in one queue by the least
    that a way from where the run began can cost.  A run ends where its rule does; who called it goes
    on then.  Returns 0 or a negative code (what is known by then stays, the rest is forgotten).
    """
    cost, move, to = _i32(own, F_COST), _i32(own, F_MOVE), _i32(own, F_TO)
    run_of = _i32(own, F_RUN)
    qs, ns = _i32(own, F_Q), _i32(own, F_N)
    accept_from = _i32(ctx, k.P_ACCEPT_FROM)
    b_offset, b_target, b_class = (
        _i32(own, F_EDGE_OFFSET),
        _i32(own, F_EDGE_TARGET),
        _i32(own, F_EDGE_CLASS),
    )
    rank = _i32(own, F_RANK)
    c_offset, c_start, c_return = (
        _i32(ctx, k.P_CALL_OFFSET),
        _i32(ctx, k.P_CALL_START),
        _i32(ctx, k.P_CALL_RETURN),
    )
    bag_of = _i32(ctx, k.P_BAG_OF)
    # entries: a place reached in a run
    e_run, e_place = np.empty(64, np.int32), np.empty(64, np.int32)
    e_done, e_before, e_via = np.empty(64, np.int32), np.empty(64, np.int32), np.empty(64, np.int32)
    entries = 0
    keys, values = np.empty(64, np.int64), np.empty(64, np.int32)
    queued = 0
    r_place, r_wait = np.empty(16, np.int32), np.empty(16, np.int32)
    runs = 0
    # who waits for a run: its entry, the place after the call, the next one who waits
    w_entry, w_after, w_next = (
        np.empty(16, np.int32),
        np.empty(16, np.int32),
        np.empty(16, np.int32),
    )
    waits = 0
    visited = np.zeros(256, np.int64)
    seen = 0
    code = int64(0)
    # what is to be added to the queue: up to one entry at a time
    new_run, new_place, new_done = int64(0), int64(start), int64(0)
    new_before, new_via = int64(-1), int64(0)
    run_of[start] = 0
    r_place[0], r_wait[0] = start, -1
    runs = 1
    pending = True
    # what an entry that is being expanded has still to do
    expanding = int64(-1)
    edge, call, member = int64(0), int64(0), int64(0)
    waking, waking_cost, waking_place = int64(-1), int64(0), int64(0)
    was_cut = False
    while True:
        if pending:
            pending = False
            ahead = _ahead(own, new_place)
            if ahead < NEVER and new_done + ahead >= _FURTHEST:
                was_cut = True
            elif ahead < NEVER:
                if entries == len(e_run):
                    e_run, e_place, e_done = _grown(e_run), _grown(e_place), _grown(e_done)
                    e_before, e_via = _grown(e_before), _grown(e_via)
                if queued == len(keys):
                    keys, values = _grown(keys), _grown(values)
                e_run[entries], e_place[entries], e_done[entries] = new_run, new_place, new_done
                e_before[entries], e_via[entries] = new_before, new_via
                best = 0 if new_via < 0 else min(int64(rank[new_via]), 255)
                # among equals what has got further, then what begins a long token
                keys[queued] = (
                    (int64(new_done + ahead) << 40)
                    | (int64(_FURTHEST - new_done) << 8)
                    | (255 - best)
                )
                values[queued] = entries
                _sift_up(keys, values, queued)
                queued += 1
                entries += 1
            continue
        if waking >= 0:
            # a called rule has ended: its callers go on
            w = waking
            waking = int64(w_next[w])
            e = int64(w_entry[w])
            caller_run = int64(e_run[e])
            if cost[r_place[caller_run]] < 0:
                new_run, new_place = caller_run, int64(w_after[w])
                new_done = int64(e_done[e]) + waking_cost
                new_before, new_via = e, -1 - waking_place
                pending = True
            continue
        if expanding >= 0:
            e = expanding
            p = int64(e_place[e])
            q, n = int64(qs[p]), int64(ns[p])
            if edge < b_offset[q + 1]:
                target = int64(b_target[edge])
                c = int64(b_class[edge])
                edge += 1
                m = _moved(ctx, n, target)
                if m >= 0:
                    after = _place(ctx, own, target >> 1, m)
                    if after < 0:
                        code = after
                        break
                    new_run, new_place = int64(e_run[e]), after
                    new_done, new_before, new_via = int64(e_done[e]) + 1, e, c
                    pending = True
                continue
            start_q = int64(-1)
            target, m = int64(0), int64(-1)
            if call < c_offset[q + 1]:
                start_q, target = int64(c_start[call]), int64(c_return[call])
                call += 1
                m = _moved(ctx, n, target)
            elif bag_of[q] >= 0:
                bag = int64(bag_of[q])
                begin = int64(_i32(ctx, k.P_BAG_OFFSET)[bag])
                place = n if n > 0 else bag
                rows = _i32(ctx, k.B_PLACE)
                if place >= ctx[k.N_PLACES] or rows[4 * place] == 0:
                    ctx[k.N_LACKING_BAG] = bag
                    ctx[k.N_LACKING] = n
                    code = int64(k.LACKING)
                    break
                head = int64(rows[4 * place]) - 1
                member = max(member, head)
                if member < rows[4 * place + 1]:
                    step = int64(rows[4 * place + 2])
                    if member > head:
                        step = int64(_i32(ctx, k.B_STEPS)[int64(rows[4 * place + 3]) + member])
                    start_q = int64(_i32(ctx, k.P_BAG_START)[begin + member])
                    member += 1
                    if step >= 0 and step & 4:
                        flags, m = step & 3, step >> 3
                        if flags & 1:  # a bag that may end does so
                            flags, m = int64(1), int64(0)
                        target = int64(_i32(ctx, k.P_BAG_RETURN)[4 * bag + flags]) << 1
                else:
                    expanding = -1
                    continue
            else:
                expanding = -1
                continue
            if m < 0:
                continue
            callee = _place(ctx, own, start_q, int64(0))
            after = _place(ctx, own, target >> 1, m)
            if callee < 0 or after < 0:
                code = min(callee, after)
                break
            if cost[callee] >= 0:
                if cost[callee] < NEVER:
                    new_run, new_place = int64(e_run[e]), after
                    new_done = int64(e_done[e]) + int64(cost[callee])
                    new_before, new_via = e, -1 - callee
                    pending = True
                continue
            if waits == len(w_entry):
                w_entry, w_after, w_next = _grown(w_entry), _grown(w_after), _grown(w_next)
            w_entry[waits], w_after[waits] = e, after
            if run_of[callee] < 0:
                if runs == len(r_place):
                    r_place, r_wait = _grown(r_place), _grown(r_wait)
                run_of[callee] = runs
                r_place[runs], r_wait[runs] = callee, -1
                new_run, new_place, new_done = int64(runs), callee, int64(0)
                new_before, new_via = int64(-1), int64(0)
                pending = True
                runs += 1
            run = int64(run_of[callee])
            w_next[waits] = r_wait[run]
            r_wait[run] = waits
            waits += 1
            continue
        if queued == 0 or cost[start] >= 0:
            break
        e = int64(values[0])
        queued -= 1
        if queued:
            keys[0], values[0] = keys[queued], values[queued]
            _sift_down(keys, values, queued)
        own[N_WORK] += 1
        if own[N_WORK] > own[N_WORK_LIMIT]:
            code = int64(TOO_FAR)
            break
        run, p = int64(e_run[e]), int64(e_place[e])
        if cost[r_place[run]] >= 0:
            continue
        if 2 * seen >= len(visited):
            old = visited
            visited = np.zeros(2 * len(old), np.int64)
            for i in range(len(old)):
                if old[i]:
                    _see(visited, old[i] - 1)
        if _see(visited, run << 32 | p):
            continue
        seen += 1
        q, n = int64(qs[p]), int64(ns[p])
        rest = int64(cost[p])
        if rest < 0 and (q == 0 or n >= accept_from[q]):
            rest = int64(0)
        if rest < 0 and _still_to_count(own, q, n) > 2 * own[N_ROOM_FAR]:
            # one letter, over and over, until the end matters
            end = int64(_i32(own, F_LEAST)[q]) - own[N_ROOM_FAR]
            after = _place(ctx, own, q, end)
            if after < 0:
                code = after
                break
            new_run, new_place, new_done = run, after, int64(e_done[e]) + end - n
            new_before, new_via = e, int64(_i32(own, F_LOOP)[q])
            pending = True
            continue
        if rest < 0:
            expanding = e
            edge, call, member = int64(b_offset[q]), int64(c_offset[q]), int64(0)
            continue
        # the run has found its end: note the way there
        at, child = e, int64(-1)
        while True:
            p = int64(e_place[at])
            if cost[p] >= 0:
                rest = int64(cost[p])
            else:
                cost[p] = int32(rest)
                if child >= 0:
                    move[p], to[p] = e_via[child], e_place[child]
                else:
                    move[p] = _ENDS
            before = int64(e_before[at])
            if before < 0:
                break
            rest += int64(e_done[at]) - int64(e_done[before])
            child = at
            at = before
        waking = int64(r_wait[run])
        waking_cost, waking_place = int64(cost[r_place[run]]), int64(r_place[run])
    for run in range(runs):
        run_of[r_place[run]] = -1
    if code == 0 and cost[start] < 0:
        if was_cut:
            return int64(TOO_FAR)
        cost[start] = NEVER
    return code


@njit
def _cost(ctx, own, q, n):  # type: ignore[no-untyped-def]
    """Bytes that end the rule from a program state with a count; negative: a code."""
    p = _place(ctx, own, q, n)
    if p < 0:
        return p
    cost = _i32(own, F_COST)
    if cost[p] < 0:
        code = _find_way(ctx, own, p)
        if code < 0:
            return code
    return int64(cost[p])


@njit(cache=True)
def _bytes_to_end(ctx, own, state):  # type: ignore[no-untyped-def]
    """Bytes that end the text from a state of the pool; negative: a code.

    Frames are ended before the states above them, with a stack of our own.
    """
    if state >= own[N_STATE_ROOM]:
        return int64(STATES_FULL)
    known = _i32(own, F_BYTES)
    if known[state] >= 0:
        return int64(known[state])
    s_q, s_n, s_f = _i32(ctx, k.S_Q), _i32(ctx, k.S_N), _i32(ctx, k.S_F)
    s_offset, s_count = _i32(ctx, k.S_OFFSET), _i32(ctx, k.S_COUNT)
    stack = np.empty(16, np.int32)
    stack[0] = state
    depth = 1
    while depth:
        at = int64(stack[depth - 1])
        begin = int64(s_offset[at])
        below = depth
        best = int64(NEVER)
        for i in range(begin, begin + s_count[at]):
            q, n, f = int64(s_q[i]), int64(s_n[i]), int64(s_f[i])
            if q == 0:
                best = int64(0)
                continue
            if f >= own[N_STATE_ROOM]:
                return int64(STATES_FULL)
            if known[f] < 0:
                if depth == len(stack):
                    stack = _grown(stack)
                stack[depth] = f
                depth += 1
                continue
            if depth > below:
                continue
            cost = _cost(ctx, own, q, n)
            if cost < 0:
                return cost
            best = min(best, cost + int64(known[f]))
        if depth == below:
            known[at] = int32(min(best, NEVER))
            depth -= 1
    return int64(known[state])


@njit
def _first_class(ctx, own, state):  # type: ignore[no-untyped-def]
    """The class of the byte with which the way from a state begins (it does not end there)."""
    s_q, s_n, s_f = _i32(ctx, k.S_Q), _i32(ctx, k.S_N), _i32(ctx, k.S_F)
    cost, known = _i32(own, F_COST), _i32(own, F_BYTES)
    move = _i32(own, F_MOVE)
    while True:
        begin = int64(_i32(ctx, k.S_OFFSET)[state])
        found, frame = int64(-1), int64(-1)
        for i in range(begin, begin + _i32(ctx, k.S_COUNT)[state]):
            if s_q[i] == 0:
                continue
            p = _place(ctx, own, int64(s_q[i]), int64(s_n[i]))
            if p < 0:
                return p
            if cost[p] < 0:
                code = _find_way(ctx, own, p)
                if code < 0:
                    return code
            if cost[p] < NEVER and cost[p] + known[s_f[i]] == known[state]:
                found, frame = p, int64(s_f[i])
                break
        if found < 0:
            return int64(_ASTRAY)
        if cost[found] > 0:
            break
        state = frame
    p = found
    while move[p] < 0:  # calls, down to the first byte
        p = -1 - int64(move[p])
    return int64(move[p])


@njit
def _child(ctx, own, node, byte):  # type: ignore[no-untyped-def]
    """The child of a trie node on a byte, or -1."""
    if node == 0:
        return int64(_i32(own, F_FIRST_CHILD)[byte])
    t_byte, t_skip = _u8(ctx, k.T_BYTE), _i32(ctx, k.T_SKIP)
    at, end = node + 1, int64(t_skip[node])
    while at < end:
        if t_byte[at] >= byte:
            return at if t_byte[at] == byte else int64(-1)
        at = int64(t_skip[at])
    return int64(-1)


@njit
def _form_before(byte, form):  # type: ignore[no-untyped-def]
    """The form of a way by its first byte and the form of the rest."""
    if byte == 0x22:
        return form ^ IN_STRING
    if byte == 0x5C:  # occurs in strings only: an escaped quote was taken for an end
        return form | IN_STRING
    if byte == 0x2C and form & IN_STRING == 0:
        return form | HAS_COMMA
    return form


@njit(cache=True)
def _spell(ctx, own, state):  # type: ignore[no-untyped-def]
    """The fewest tokens that write the way from a state to the end; negative: a code."""
    if state >= own[N_STATE_ROOM]:
        return int64(STATES_FULL)
    tokens = _i32(own, F_TOKENS)
    if tokens[state] >= 0:
        return int64(tokens[state])
    accept = _u8(ctx, k.S_ACCEPT)
    following, letter = _i32(own, F_NEXT), _i32(own, F_STEP)
    letters, form = _i32(own, F_LETTER), _i32(own, F_FORM)
    t_start = _i32(ctx, k.T_TOKEN_START)
    path = np.empty(64, np.int32)
    length = 0
    at = int64(state)
    while tokens[at] < 0:
        if accept[at]:
            tokens[at] = form[at] = 0
            break
        left = _bytes_to_end(ctx, own, at)
        if left < 0:
            return left
        if left >= NEVER:
            tokens[at], form[at] = NEVER, 0
            break
        run = _run_from(ctx, own, at) if following[at] == 0 else int64(0)
        if run:
            i = int64(_i32(ctx, k.S_OFFSET)[at])
            q = int64(_i32(ctx, k.S_Q)[i])
            after = int64(
                k.intern_one(ctx, q, int64(_i32(ctx, k.S_N)[i]) + run, int64(_i32(ctx, k.S_F)[i]))
            )
            if after < 0:
                return after
            following[at], letter[at] = -after, letters[_i32(own, F_LOOP)[q]]
        elif following[at] == 0:
            c = _first_class(ctx, own, at)
            if c < 0:
                return c
            after = k.step(ctx, at, c)
            if after < 0:
                return after
            rest = _bytes_to_end(ctx, own, after)
            if rest < 0:
                return rest
            if after == k.DEAD or rest >= left:
                return int64(_ASTRAY)
            following[at], letter[at] = after, letters[c]
        if length == len(path):
            path = _grown(path)
        path[length] = at
        length += 1
        at = abs(int64(following[at]))
        if at >= own[N_STATE_ROOM]:
            return int64(STATES_FULL)
    for i in range(length - 1, -1, -1):
        at = int64(path[i])
        here = at
        own[N_WORK] += 1
        if following[at] < 0:  # a token of one letter
            after = -int64(following[at])
            form[at] = form[after]
            tokens[at] = int32(min(1 + int64(tokens[after]), NEVER))
            continue
        form[at] = _form_before(int64(letter[at]), int64(form[following[at]]))
        best = int64(NEVER)
        node = int64(0)
        while not accept[at] and following[at] > 0:
            own[N_WORK] += 1
            node = _child(ctx, own, node, int64(letter[at]))
            if node < 0:
                break
            at = int64(following[at])
            if t_start[node] < t_start[node + 1] and tokens[at] >= 0:
                best = min(best, 1 + int64(tokens[at]))
        tokens[here] = int32(min(best, NEVER))
        if own[N_WORK] > own[N_WORK_LIMIT]:
            return int64(TOO_FAR)
    return int64(tokens[state])


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def bytes_from(address, own_address, state):  # type: ignore[no-untyped-def]
    """Bytes that end the text from a state; a negative code where room or work is lacking."""
    return _bytes_to_end(_context(address), _context(own_address), state)


@njit("int64(int64, int64, int64, int64, int64)", cache=True, nogil=True)
def tokens_from_each(address, own_address, states_address, count, out_address):  # type: ignore[no-untyped-def]
    """The fewest tokens that write the way from each of some states to the end, int32 to int32.

    Returns 0 or a negative code.
    """
    ctx, own = _context(address), _context(own_address)
    states = _i32_at(states_address)
    out = _i32_at(out_address)
    for i in range(count):
        found = _spell(ctx, own, int64(states[i]))
        if found < 0:
            return found
        out[i] = found
    return int64(0)


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def write_ways(address, own_address, states, count, offsets, out_address, room):  # type: ignore[no-untyped-def]
    """Writes the ways from states to the end, which are known: their bytes, or tokens that spell them.

    Args:
        states: int32[count].
        offsets: int32[count + 1], receives where each begins; 0: tokens are wanted.
        out: int32[room], receives the bytes or tokens one after the other.

    Returns how many there are; OUT_OF_FUEL if the room is too small.
    """
    ctx, own = _context(address), _context(own_address)
    tokens, following, letter = _i32(own, F_TOKENS), _i32(own, F_NEXT), _i32(own, F_STEP)
    t_start, t_tokens = _i32(ctx, k.T_TOKEN_START), _i32(ctx, k.T_TOKENS)
    given, begins, out = _i32_at(states), _i32_at(offsets), _i32_at(out_address)
    found = 0
    for i in range(count):
        if offsets:
            begins[i] = found
        at, node = int64(given[i]), int64(0)
        left = int64(tokens[at])
        while (tokens[at] or node) and left < NEVER:
            if found == room:
                return int64(k.OUT_OF_FUEL)
            byte = int64(letter[at])
            run = _run_from(ctx, own, at) if following[at] < 0 else int64(1)
            at = abs(int64(following[at]))
            if offsets:
                if found + run > room:
                    return int64(k.OUT_OF_FUEL)
                for _ in range(run):
                    out[found] = byte
                    found += 1
                continue
            for _ in range(run):
                node = _child(ctx, own, node, byte)
            if t_start[node] < t_start[node + 1] and tokens[at] == left - 1:
                out[found] = t_tokens[t_start[node]]
                found += 1
                left -= 1
                node = int64(0)
    if offsets:
        begins[count] = found
    return int64(found)


@njit("void(int64)", cache=True)
def rebuild_places(own_address):  # type: ignore[no-untyped-def]
    """Fills a cleared hash table with all places."""
    own = _context(own_address)
    table, size = _i32(own, F_HASH), own[N_HASH_SIZE]
    qs, ns = _i32(own, F_Q), _i32(own, F_N)
    for p in range(own[N_PLACES]):
        slot = int64(_mix(_mix(uint64(0), qs[p]), ns[p]) & uint64(size - 1))
        while table[slot] != 0:
            slot = (slot + 1) & (size - 1)
        table[slot] = int32(p + 1)


@njit
def _close(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """A configuration as a state."""
    return f if q == k.SET else k.intern_one(ctx, q, n, f)


@njit
def _ends_text(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """Whether the text may end here."""
    if q == k.SET:
        return _u8(ctx, k.S_ACCEPT)[f] != 0
    return q == 0 or (n >= _i32(ctx, k.P_ACCEPT_FROM)[q] and _u8(ctx, k.S_ACCEPT)[f] != 0)


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def ends_within(address, state, narrow, node, ends, exits, fuel):  # type: ignore[no-untyped-def]
    """Where tokens lead that go on below a trie node, if few nodes have to be visited.

    Args:
        narrow: if not ``DEAD``, the state of some of the configurations alone: the trie is walked only as
            far as it lives.
        ends: int32 pairs (trie node at which a token ends, state there), behind their number; room for
            ``fuel`` of them.
        exits: int32 nodes at which the text may end, the given node included, behind their number.

    Returns the number of nodes visited, ``OUT_OF_FUEL`` or what a step answers.
    """
    ctx = _context(address)
    byte_class = _u8(ctx, k.P_BYTE_CLASS)
    t_byte, t_depth, t_skip = _u8(ctx, k.T_BYTE), _u16(ctx, k.T_DEPTH), _i32(ctx, k.T_SKIP)
    t_start = _i32(ctx, k.T_TOKEN_START)
    out = _i32_at(ends)
    left = _i32_at(exits)
    path = _i64(ctx, k.S_PATH)
    beside = np.empty(3 * 70, np.int64)
    base = int64(t_depth[node])
    q, n, f = k.unpack(ctx, narrow)
    beside[0], beside[1], beside[2] = q, n, f
    q, n, f = k.unpack(ctx, state)
    path[0], path[1], path[2] = q, n, f
    ended, exited, visited = 0, 0, 0
    if _ends_text(ctx, q, n, f):
        exited = 1
        left[1] = node
    i, end = int64(node) + 1, int64(t_skip[node])
    while i < end:
        visited += 1
        if visited > fuel:
            return int64(k.OUT_OF_FUEL)
        at = 3 * (int64(t_depth[i]) - base - 1)
        c = int64(byte_class[t_byte[i]])
        if narrow != k.DEAD:
            if at + 6 > len(beside):
                beside = _grown(beside)
            q, n, f = k.step_configuration(ctx, beside[at], beside[at + 1], beside[at + 2], c)
            beside[at + 3], beside[at + 4], beside[at + 5] = q, n, f
        if narrow == k.DEAD or q != k.SET or f > k.DEAD:
            q, n, f = k.step_configuration(ctx, path[at], path[at + 1], path[at + 2], c)
        if q == k.SET and f <= k.DEAD:
            if f < k.DEAD:
                return f
            i = int64(t_skip[i])
            continue
        path[at + 3], path[at + 4], path[at + 5] = q, n, f
        if t_start[i] < t_start[i + 1]:
            after = _close(ctx, q, n, f)
            if after < 0:
                return after
            out[1 + 2 * ended], out[2 + 2 * ended] = i, after
            ended += 1
        if _ends_text(ctx, q, n, f):
            exited += 1
            left[exited] = i
        i += 1
    out[0] = ended
    left[0] = exited
    return int64(visited)


@njit(cache=True)
def _dearest(ctx, own, state, node, enter, fuel, out, room, owner):  # type: ignore[no-untyped-def]
    """The most tokens that are needed after any token that goes on below a trie node.

    Those of chosen spellings, see :func:`_spell`; 0 if there is no such token.  ``out`` receives, as long
    as there is room, int32 triples (node at which a token ends, ``owner``, state there) behind their number.
    Negative: OUT_OF_FUEL or another code.
    """
    byte_class = _u8(ctx, k.P_BYTE_CLASS)
    t_byte, t_depth, t_skip = _u8(ctx, k.T_BYTE), _u16(ctx, k.T_DEPTH), _i32(ctx, k.T_SKIP)
    t_start = _i32(ctx, k.T_TOKEN_START)
    path = _i64(ctx, k.S_PATH)
    base = int64(t_depth[node]) - enter
    q, n, f = k.unpack(ctx, state)
    path[0], path[1], path[2] = q, n, f
    i, end = int64(node) + 1 - enter, int64(t_skip[node])
    visited = 0
    most = int64(0)
    last_q, last_n, last_f = int64(-2), int64(0), int64(0)
    after = int64(k.DEAD)
    while i < end:
        visited += 1
        if visited > fuel:
            return int64(k.OUT_OF_FUEL)
        at = 3 * (int64(t_depth[i]) - base - 1)
        q, n, f = k.step_configuration(
            ctx, path[at], path[at + 1], path[at + 2], int64(byte_class[t_byte[i]])
        )
        if q == k.SET and f <= k.DEAD:
            if f < k.DEAD:
                return f
            i = int64(t_skip[i])
            continue
        path[at + 3], path[at + 4], path[at + 5] = q, n, f
        if t_start[i] < t_start[i + 1]:
            if q != last_q or n != last_n or f != last_f:
                after = int64(_close(ctx, q, n, f))
                if after < 0:
                    return after
                needed = _spell(ctx, own, after)
                if needed < 0:
                    return needed
                own[N_FORMS] |= _i32(own, F_FORM)[after]
                most = max(most, needed)
                last_q, last_n, last_f = q, n, f
            if room:
                found = int64(out[0])
                if found == room:
                    return int64(k.OUT_OF_FUEL)
                out[0] = found + 1
                out[3 * found + 1], out[3 * found + 2], out[3 * found + 3] = i, owner, after
        i += 1
    return most


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def dearest_token(address, own_address, state, groups, fuel, out_address, room):  # type: ignore[no-untyped-def]
    """The most tokens that chosen spellings need after any allowed token of a state.

    Unless ``groups`` is 0, after tokens that go on in the state below the nodes of groups
    (``Positions.group``).

    Args:
        out: unless ``room`` is 0, receives as many int32 triples, behind their number: the node at which
            a token ends (in a group: below its first node), where its group begins in ``groups``, the state.

    Returns OUT_OF_FUEL if more than ``fuel`` trie nodes below one node have to be visited, or the room
    is too small; or another code.
    """
    ctx, own = _context(address), _context(own_address)
    data, out = _i32_at(groups), _i32_at(out_address)
    if room:
        out[0] = 0
    can, byte_class, t_byte = _u64(ctx, k.S_CAN), _u8(ctx, k.P_BYTE_CLASS), _u8(ctx, k.T_BYTE)
    most = int64(0)
    cursor = 1
    for _ in range(int64(data[0]) if groups else int64(1)):
        node, enter, owner = int64(0), int64(0), int64(cursor)
        if groups:
            node, enter = int64(data[cursor + 1]), int64(1)
            cursor += 1 + int64(data[cursor])
            if not k.can_take(can, state, int64(byte_class[t_byte[node]])):
                continue
        found = _dearest(ctx, own, state, node, enter, fuel, out, room, owner)
        if found < 0:
            return found
        most = max(most, found)
    return most


@njit("int64(int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def dearest_of(address, own_address, qs_address, ns_address, count, frame):  # type: ignore[no-untyped-def]
    """The most tokens that chosen spellings need from configurations (q, n) on one frame."""
    ctx, own = _context(address), _context(own_address)
    qs = _i32_at(qs_address)
    ns = _i32_at(ns_address)
    most = int64(0)
    for i in range(count):
        state = k.intern_one(ctx, int64(qs[i]), int64(ns[i]), frame)
        if state < 0:
            return int64(state)
        needed = _spell(ctx, own, int64(state))
        if needed < 0:
            return needed
        own[N_FORMS] |= _i32(own, F_FORM)[state]
        most = max(most, needed)
    return most


@njit(
    f"void(int64, {_INTS}, {_INTS}, Array(bool, 1, 'C', readonly=True), {_INTS}, int32[::1])",
    cache=True,
    nogil=True,
)
def fill_ends(address, ends, owners, fits, groups, row):  # type: ignore[no-untyped-def]
    """Sets or clears the bits of tokens, by whether they fit.

    Args:
        ends, owners: int32[n], see :func:`dearest_token`.
        fits: bool[n].
        groups: int32, see ``Positions.group``.
        row: int32, the mask that is changed.
    """
    ctx = _context(address)
    t_start, t_tokens = _i32(ctx, k.T_TOKEN_START), _i32(ctx, k.T_TOKENS)
    for i in range(len(ends)):
        at = int64(owners[i])
        below = int64(ends[i]) - int64(groups[at + 1])
        for j in range(at + 1, at + 1 + int64(groups[at])):
            node = int64(groups[j]) + below
            for m in range(t_start[node], t_start[node + 1]):
                token = t_tokens[m]
                bit = int32(1) << int32(token & 31)
                if fits[i]:
                    row[token >> 5] |= bit
                else:
                    row[token >> 5] &= ~bit


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def any_token_below(address, mask_address, groups):  # type: ignore[no-untyped-def]
    """Whether a mask has a token below the nodes of groups (``Positions.group``): 1 or 0."""
    ctx = _context(address)
    row = _i32_at(mask_address)
    data = _i32_at(groups)
    t_start, t_tokens, t_skip = (
        _i32(ctx, k.T_TOKEN_START),
        _i32(ctx, k.T_TOKENS),
        _i32(ctx, k.T_SKIP),
    )
    cursor = 1
    for _ in range(data[0]):
        members = int64(data[cursor])
        for j in range(cursor + 1, cursor + 1 + members):
            node = int64(data[j])
            for i in range(t_start[node], t_start[t_skip[node]]):
                token = t_tokens[i]
                if (row[token >> 5] >> (token & 31)) & 1:
                    return int64(1)
        cursor += 1 + members
    return int64(0)


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def list_reachable(address, q, out_address):  # type: ignore[no-untyped-def]
    """The states of a call-free, deterministic rule that bytes lead to from one of them, itself first.

    ``out``: int32 with room for the rule's states.  Returns how many there are.
    """
    ctx = _context(address)
    table, classes = _i32(ctx, k.P_TABLE), ctx[k.N_CLASSES]
    out = _i32_at(out_address)
    seen = np.zeros(64, np.int64)
    _see(seen, q)
    out[0] = q
    found, i = 1, 0
    while i < found:
        row = int64(out[i]) * classes
        for c in range(classes):
            t = int64(table[row + c])
            if t < 0:
                continue
            if 2 * found >= len(seen):
                seen = np.zeros(2 * len(seen), np.int64)
                for j in range(found):
                    _see(seen, int64(out[j]))
            if not _see(seen, t >> 1):
                out[found] = t >> 1
                found += 1
        i += 1
    return int64(found)
