"""The engine's inner loops, compiled by Numba.

The semantics are those of :mod:`grammars.recognizer`; here they run on flat arrays.  All arrays are
reached through one *context*: an int64 array that holds their addresses and the few numbers that
change.  A compiled function then takes one integer instead of thirty arrays, which cuts the cost of
a call from microseconds to a quarter of one.

Nothing here allocates.  Where room runs out a function returns ``GROW``, where a bag's residual has no
row yet ``LACKING``; the caller (:mod:`constrain.engine.pool`) enlarges the arrays or adds the row and calls
again, which is safe because everything already made is found again by content.
"""

from __future__ import annotations

from typing import Final

from numba import int32, int64, njit, uint8, uint64

from constrain.engine.context import context_at as _context
from constrain.engine.context import i32 as _i32
from constrain.engine.context import i32_at as _i32_at
from constrain.engine.context import i64 as _i64
from constrain.engine.context import i64_at as _i64_at
from constrain.engine.context import mix as _mix
from constrain.engine.context import u8 as _u8
from constrain.engine.context import u8_at as _u8_at
from constrain.engine.context import u16 as _u16
from constrain.engine.context import u64 as _u64
from constrain.masks.kernels import (
    ASCII_LOOP,
    LACKING_BELOW,
    LOST,
    NO_EXIT,
    NO_LOOP,
    find_loop,
    meets,
    stays,
)
from grammars.program import FIRST_PUSH as _FIRST_PUSH
from grammars.program import MANY, NO_EDGE, UNBOUNDED

# Fields of the context.  P_: program, S_: pool of states, T_: trie, B_: rows of residuals,
# W_: what is known of wide states, N_: numbers.
(
    P_TABLE, P_EDGE_OFFSET, P_EDGE_CLASS, P_EDGE_TARGET, P_CALL_OFFSET, P_CALL_START,
    P_CALL_RETURN, P_CALL_TAIL, P_PUSH_OFFSET, P_PUSH_LINKS, P_PUSH_TARGET, P_PUSH_OUTER,
    P_ACCEPT_FROM, P_LIMIT, P_FLOOR, P_CAP, P_FIRST, P_RANK,
    P_BYTE_CLASS, P_WIDE, N_CLASSES, S_Q, S_N, S_F, S_OFFSET,
    S_COUNT, S_ACCEPT, S_CAN, S_HASH, S_MEMO_KEY, S_MEMO_VALUE,
    S_FREE, S_MARK, S_BUFFER, S_STACK, S_PATH, N_STATES, N_STATE_ROOM,
    N_ITEMS, N_ITEM_ROOM, N_HASH_SIZE, N_MEMO, N_MEMO_SIZE, N_FREE,
    N_EPOCH, N_BUFFER_ROOM, T_BYTE, T_DEPTH, T_SKIP, T_TOKEN_START,
    T_TOKENS, T_TOKEN_OFFSET, T_TOKEN_BYTES, T_NODES,
    P_BAG_OF, P_BAG_OFFSET, P_BAG_START, P_BAG_RETURN, B_PLACE, B_STEPS, N_PLACES, N_CANONICAL,
    N_LACKING_BAG, N_LACKING, S_TAG, N_GENERATION, N_WORK, N_WORK_LIMIT, P_LOOP_KIND, P_LOOP,
    T_ASCII_BELOW, T_BELOW, W_MASK, W_GROUPS, W_LOW, W_HIGH, N_WORDS, N_WIDE_STATE, N_WIDE_COUNT,
    P_CLASS_SIZE, N_MOVE_LIMIT, N_MOST_COUNT, S_LOOP, S_VISITS, S_LACKING, N_LACKS, N_EDGES_DONE,
    W_BEHIND,
) = range(88)  # fmt: skip
FIELD_COUNT: Final = 88

GROW: Final = -1
"""Room ran out: enlarge the pool and call again."""
OUT_OF_FUEL: Final = -2
"""The walk visited more nodes than allowed."""
TOO_MANY_ITEMS: Final = -3
"""One state would hold more configurations than the scratch space holds."""
LACKING: Final = -4
"""The row of the residual named in the context is not there yet: add it and call again."""
UNKNOWN: Final = -5
"""The handle is of no state that was handed out, or of one that was forgotten."""

OUT_OF_WORK: Final = -6
"""The work that the context allows is used up."""
NODE_WORK: Final = 1
"""Units of work for a trie node visited; a unit is some 15 ns."""
SET_WORK: Final = 2
"""Units more where the state there has several configurations, and the step is known."""
STEP_WORK: Final = 5
"""Units of work for a configuration stepped from where there are several."""
LINK_WORK: Final = 1
"""Units of work for a configuration reached, or a frame's, that is sorted among others."""
NOT_KNOWN: Final = -7
"""What a configuration does with the whole vocabulary is to be found out first."""

SLOT_BITS: Final = 32
"""A handle is ``generation << SLOT_BITS | state``; see :mod:`constrain.engine.pool`."""

DEAD: Final = 0
END: Final = 1

SET: Final = -1
"""In place of a program state on the walk's path: the third number is a state of several items."""


@njit
def can_take(can, state, c):  # type: ignore[no-untyped-def]
    return (can[state * 4 + (c >> 6)] >> uint64(c & 63)) & uint64(1) != uint64(0)


@njit(cache=True)
def _insert_hash(ctx, hash_table, size, state):  # type: ignore[no-untyped-def]
    """Puts a state into the hash table without looking for an equal one."""
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    offset, count = _i32(ctx, S_OFFSET)[state], _i32(ctx, S_COUNT)[state]
    h = uint64(count)
    for i in range(offset, offset + count):
        h = _mix(_mix(_mix(h, s_q[i]), s_n[i]), s_f[i])
    slot = int64(h & uint64(size - 1))
    while hash_table[slot] != 0:
        slot = (slot + 1) & (size - 1)
    hash_table[slot] = state + 1


@njit("int64(int64[::1], int64)", cache=True)
def _intern(ctx, k):  # type: ignore[no-untyped-def]
    """The state whose (sorted, distinct) items are the first k of the buffer."""
    if k == 0:
        return DEAD
    room = ctx[N_BUFFER_ROOM]
    b_q = _i32(ctx, S_BUFFER)
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    s_offset, s_count = _i32(ctx, S_OFFSET), _i32(ctx, S_COUNT)
    table = _i32(ctx, S_HASH)
    size = ctx[N_HASH_SIZE]
    h = uint64(k)
    for i in range(k):
        h = _mix(_mix(_mix(h, b_q[i]), b_q[room + i]), b_q[2 * room + i])
    slot = int64(h & uint64(size - 1))
    while table[slot] != 0:
        state = table[slot] - 1
        if s_count[state] == k:
            at = s_offset[state]
            same = True
            for i in range(k):
                if (
                    s_q[at + i] != b_q[i]
                    or s_n[at + i] != b_q[room + i]
                    or s_f[at + i] != b_q[2 * room + i]
                ):
                    same = False
                    break
            if same:
                return int64(state)
        slot = (slot + 1) & (size - 1)
    if ctx[N_STATES] * 2 >= size or ctx[N_ITEMS] + k > ctx[N_ITEM_ROOM]:
        return GROW
    if ctx[N_FREE] > 0:
        ctx[N_FREE] -= 1
        new = int64(_i32(ctx, S_FREE)[ctx[N_FREE]])
    else:
        if ctx[N_STATES] >= ctx[N_STATE_ROOM]:
            return GROW
        new = ctx[N_STATES]
        ctx[N_STATES] += 1
    table[slot] = new + 1
    at = ctx[N_ITEMS]
    ctx[N_ITEMS] += k
    s_offset[new] = at
    s_count[new] = k
    accept_from = _i32(ctx, P_ACCEPT_FROM)
    first = _u64(ctx, P_FIRST)
    can, accept = _u64(ctx, S_CAN), _u8(ctx, S_ACCEPT)
    c0 = uint64(0)
    c1 = uint64(0)
    c2 = uint64(0)
    c3 = uint64(0)
    accepting = uint8(0)
    for i in range(k):
        q, n, f = b_q[i], b_q[room + i], b_q[2 * room + i]
        s_q[at + i] = q
        s_n[at + i] = n
        s_f[at + i] = f
        c0 |= first[q * 4]
        c1 |= first[q * 4 + 1]
        c2 |= first[q * 4 + 2]
        c3 |= first[q * 4 + 3]
        if n >= accept_from[q]:
            if q == 0 or accept[f]:
                accepting = uint8(1)
            c0 |= can[f * 4]
            c1 |= can[f * 4 + 1]
            c2 |= can[f * 4 + 2]
            c3 |= can[f * 4 + 3]
    can[new * 4] = c0
    can[new * 4 + 1] = c1
    can[new * 4 + 2] = c2
    can[new * 4 + 3] = c3
    accept[new] = accepting
    return new


@njit("int64(int64[::1], int64, int64, int64)", cache=True)
def intern_one(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """The state with one item."""
    room = ctx[N_BUFFER_ROOM]
    buffer = _i32(ctx, S_BUFFER)
    buffer[0] = q
    buffer[room] = n
    buffer[2 * room] = f
    return _intern(ctx, 1)


@njit("int64(int64[::1], int64, int64)", cache=True)
def _sort_items(ctx, base, k):  # type: ignore[no-untyped-def]
    """Sorts items base..base+k of the buffer and drops repeated ones; returns how many stay."""
    room = ctx[N_BUFFER_ROOM]
    buffer = _i32(ctx, S_BUFFER)
    gap = 1
    while gap * 3 + 1 < k:
        gap = gap * 3 + 1
    while gap >= 1:  # Shell sort: short lists, no allocation
        for i in range(gap, k):
            q, n, f = buffer[base + i], buffer[room + base + i], buffer[2 * room + base + i]
            j = i
            while j >= gap:
                o = base + j - gap
                oq, on, of = buffer[o], buffer[room + o], buffer[2 * room + o]
                if oq < q or (oq == q and (on < n or (on == n and of <= f))):
                    break
                buffer[base + j] = oq
                buffer[room + base + j] = on
                buffer[2 * room + base + j] = of
                j -= gap
            buffer[base + j] = q
            buffer[room + base + j] = n
            buffer[2 * room + base + j] = f
        gap //= 3
    kept = 0
    for i in range(k):
        a, b = base + i, base + kept - 1
        if kept and (
            buffer[a] == buffer[b]
            and buffer[room + a] == buffer[room + b]
            and buffer[2 * room + a] == buffer[2 * room + b]
        ):
            continue
        w = base + kept
        buffer[w] = buffer[a]
        buffer[room + w] = buffer[room + a]
        buffer[2 * room + w] = buffer[2 * room + a]
        kept += 1
    return kept


@njit
def _moved(ctx, n, target):  # type: ignore[no-untyped-def]
    """The count after an edge, or -1 where no end would be within bounds."""
    q = target >> 1
    m = n + (target & 1)
    cap = _i32(ctx, P_CAP)[q]
    if m > cap:
        m = int64(cap)
    if m > _i32(ctx, P_LIMIT)[q] or m < _i32(ctx, P_FLOOR)[q]:
        return int64(-1)
    return int64(m)


@njit("int64(int64[::1], int64, int64, int64, int64, int64)", cache=True)
def _take(ctx, bag, n, f, c, links):  # type: ignore[no-untyped-def]
    """Adds links to the rules of items that a bag takes at residual n; returns how many there are.

    Only canonical items if the context says so; then nothing is left to do in a complete bag.
    """
    place = n if n > 0 else bag  # numbers below that of bags are no residuals
    rows = _i32(ctx, B_PLACE)
    if place >= ctx[N_PLACES] or rows[4 * place] == 0:
        ctx[N_LACKING_BAG] = bag
        ctx[N_LACKING] = n
        return int64(LACKING)
    head = int64(rows[4 * place]) - 1
    own, at = rows[4 * place + 2], int64(rows[4 * place + 3])
    steps = _i32(ctx, B_STEPS)
    offset, start = _i32(ctx, P_BAG_OFFSET), _i32(ctx, P_BAG_START)
    after = _i32(ctx, P_BAG_RETURN)
    first = _u64(ctx, P_FIRST)
    canonical = ctx[N_CANONICAL] != 0
    room = ctx[N_BUFFER_ROOM]
    half = room // 2
    buffer = _i32(ctx, S_BUFFER)
    begin = int64(offset[bag])
    for i in range(head, int64(rows[4 * place + 1])):
        step = own if i == head else steps[at + i]
        rule = int64(start[begin + i])
        if step < 0 or not can_take(first, rule, c) or (canonical and step & 4 == 0):
            continue
        flags = step & 3
        residual = step >> 3
        if canonical and flags & 1:
            flags = 1
            residual = 0
        if links >= half:
            return int64(TOO_MANY_ITEMS)
        w = half + links
        links += 1
        buffer[w] = after[4 * bag + flags]
        buffer[room + w] = residual
        buffer[2 * room + w] = f
        buffer[3 * room + w] = rule
    return int64(links)


@njit("int64(int64[::1], int64, int64)", cache=True)
def _intern_part(ctx, base, k):  # type: ignore[no-untyped-def]
    """``_intern`` of the items base..base+k: brings them to the front of the buffer meanwhile."""
    room = ctx[N_BUFFER_ROOM]
    buffer = _i32(ctx, S_BUFFER)
    if base > 0:
        for i in range(k):
            for column in range(3):
                a = column * room + i
                b = column * room + base + i
                buffer[a], buffer[b] = buffer[b], buffer[a]
    state = _intern(ctx, k)
    if base > 0:
        for i in range(k - 1, -1, -1):
            for column in range(3):
                a = column * room + i
                b = column * room + base + i
                buffer[a], buffer[b] = buffer[b], buffer[a]
    return state


@njit("int64(int64[::1], int64, int64)", cache=True)
def _step_set(ctx, state, c):  # type: ignore[no-untyped-def]
    """The general step: any number of readings.  See ``Recognizer._step``."""
    # The buffer holds, in three columns, the items reached (from 0) and, in a second part (from
    # half), the links of calls that are still to be made; a fourth column names the called rule.
    room = ctx[N_BUFFER_ROOM]
    half = room // 2
    buffer = _i32(ctx, S_BUFFER)
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    s_offset, s_count = _i32(ctx, S_OFFSET), _i32(ctx, S_COUNT)
    can = _u64(ctx, S_CAN)
    mark = _i32(ctx, S_MARK)
    stack = _i32(ctx, S_STACK)
    accept_from = _i32(ctx, P_ACCEPT_FROM)
    first = _u64(ctx, P_FIRST)
    rank = _i32(ctx, P_RANK)
    e_offset, e_class, e_target = (
        _i32(ctx, P_EDGE_OFFSET),
        _i32(ctx, P_EDGE_CLASS),
        _i32(ctx, P_EDGE_TARGET),
    )
    c_offset, c_start, c_return = (
        _i32(ctx, P_CALL_OFFSET),
        _i32(ctx, P_CALL_START),
        _i32(ctx, P_CALL_RETURN),
    )
    c_tail = _u8(ctx, P_CALL_TAIL)
    bag_of = _i32(ctx, P_BAG_OF)
    ctx[N_EPOCH] += 1
    epoch = int32(ctx[N_EPOCH])
    reached = 0
    links = 0
    depth = 1
    stack[0] = state
    mark[state] = epoch
    # items still to follow: those of the states on the stack, then the start states of called rules
    while True:
        if depth > 0:
            depth -= 1
            current = stack[depth]
            begin = s_offset[current]
            end = begin + s_count[current]
            started = False
        else:
            # the called rule that comes first in call order gets its frame now
            best = -1
            for i in range(links):
                r = buffer[3 * room + half + i]
                if best < 0 or rank[r] < rank[best]:
                    best = r
            if best < 0:
                break
            kept = 0
            mine = 0
            # gather its links behind the reached items, remove them from the list
            for i in range(links):
                o = half + i
                if buffer[3 * room + o] == best:
                    w = reached + mine
                    if w >= half:
                        return TOO_MANY_ITEMS
                    mine += 1
                    buffer[w] = buffer[o]
                    buffer[room + w] = buffer[room + o]
                    buffer[2 * room + w] = buffer[2 * room + o]
                else:
                    w = half + kept
                    kept += 1
                    if w != o:
                        buffer[w] = buffer[o]
                        buffer[room + w] = buffer[room + o]
                        buffer[2 * room + w] = buffer[2 * room + o]
                        buffer[3 * room + w] = buffer[3 * room + o]
            ctx[N_WORK] += (links >> 3) + LINK_WORK * mine
            links = kept
            mine = _sort_items(ctx, reached, mine)
            # _intern reads from the front of the buffer: swap the links there and back
            frame = _intern_part(ctx, reached, mine)
            if frame < 0:
                return frame
            begin = 0
            end = 1
            started = True
        ctx[N_WORK] += STEP_WORK * (end - begin)
        for i in range(begin, end):
            if started:
                q = int64(best)
                n = int64(0)
                f = int64(frame)
            else:
                q = int64(s_q[i])
                n = int64(s_n[i])
                f = int64(s_f[i])
            if n >= accept_from[q] and q != 0 and mark[f] != epoch and can_take(can, f, c):
                mark[f] = epoch
                stack[depth] = f
                depth += 1
            for e in range(e_offset[q], e_offset[q + 1]):
                if e_class[e] == c:
                    target = int64(e_target[e])
                    m = _moved(ctx, n, target)
                    if m >= 0:
                        if reached >= half:
                            return TOO_MANY_ITEMS
                        buffer[reached] = target >> 1
                        buffer[room + reached] = m
                        buffer[2 * room + reached] = f
                        reached += 1
            for e in range(c_offset[q], c_offset[q + 1]):
                rule = int64(c_start[e])
                if not can_take(first, rule, c):
                    continue
                if c_tail[e]:
                    for j in range(s_offset[f], s_offset[f] + s_count[f]):
                        if links >= half:
                            return TOO_MANY_ITEMS
                        w = half + links
                        links += 1
                        buffer[w] = s_q[j]
                        buffer[room + w] = s_n[j]
                        buffer[2 * room + w] = s_f[j]
                        buffer[3 * room + w] = rule
                    continue
                target = int64(c_return[e])
                m = _moved(ctx, n, target)
                if m >= 0:
                    if links >= half:
                        return TOO_MANY_ITEMS
                    w = half + links
                    links += 1
                    buffer[w] = target >> 1
                    buffer[room + w] = m
                    buffer[2 * room + w] = f
                    buffer[3 * room + w] = rule
            if bag_of[q] >= 0 and can_take(first, q, c):
                links = _take(ctx, int64(bag_of[q]), n, f, c, links)
                if links < 0:
                    return links
    ctx[N_WORK] += LINK_WORK * reached
    reached = _sort_items(ctx, 0, reached)
    return _intern(ctx, reached)


@njit("int64(int64[::1], int64, int64)", cache=True)
def step(ctx, state, c):  # type: ignore[no-untyped-def]
    """The state after a symbol of class c, memoised; negative: GROW, TOO_MANY_ITEMS, LACKING."""
    if not can_take(_u64(ctx, S_CAN), state, c):
        return int64(DEAD)
    keys, values = _i64(ctx, S_MEMO_KEY), _i32(ctx, S_MEMO_VALUE)
    size = ctx[N_MEMO_SIZE]
    key = state * 256 + c + 1
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while keys[slot] != 0:
        if keys[slot] == key:
            return int64(values[slot])
        slot = (slot + 1) & (size - 1)
    if ctx[N_MEMO] * 2 >= size:
        return int64(GROW)
    out = _step_set(ctx, state, c)
    if out >= 0:
        keys[slot] = key
        values[slot] = out
        ctx[N_MEMO] += 1
    return out


@njit
def step_configuration(ctx, q, n, f, c):  # type: ignore[no-untyped-def]
    """One byte from a configuration: ``(q, n, F)``, or ``(SET, 0, state)``, or state <= 0.

    The fast path needs a table look-up; frames are interned only where a rule is called, and looked
    into only where one ends.
    """
    table = _i32(ctx, P_TABLE)
    accept_from = _i32(ctx, P_ACCEPT_FROM)
    can = _u64(ctx, S_CAN)
    classes = ctx[N_CLASSES]
    while True:
        if q == SET:
            s = step(ctx, f, c)
            return unpack(ctx, s)
        t = int64(table[q * classes + c])
        ends = n >= accept_from[q] and can_take(can, f, c)
        if t >= 0 and not ends:
            m = _moved(ctx, n, t)
            if m < 0:
                return int64(SET), int64(0), int64(DEAD)
            return t >> 1, m, f
        if t == -1:
            if not ends:
                return int64(SET), int64(0), int64(DEAD)
            q, n, f = unpack(ctx, f)
            continue
        if t <= _FIRST_PUSH and not ends:
            k = _FIRST_PUSH - t
            links = _i32(ctx, P_PUSH_LINKS)
            begin, end = _i32(ctx, P_PUSH_OFFSET)[k], _i32(ctx, P_PUSH_OFFSET)[k + 1]
            m = n if _u8(ctx, P_PUSH_OUTER)[k] else int64(0)
            for j in range(begin, end):
                target = int64(links[j])
                m = _moved(ctx, m, target)
                if m < 0:
                    return int64(SET), int64(0), int64(DEAD)
                f = intern_one(ctx, target >> 1, m, f)
                if f < 0:
                    return int64(SET), int64(0), f
                m = int64(0)
            target = int64(_i32(ctx, P_PUSH_TARGET)[k])
            m = _moved(ctx, int64(0), target)
            if m < 0:
                return int64(SET), int64(0), int64(DEAD)
            return target >> 1, m, f
        s = intern_one(ctx, q, n, f)
        if s < 0:
            return int64(SET), int64(0), s
        return unpack(ctx, step(ctx, s, c))


@njit
def _move(ctx, q, n, f, c):  # type: ignore[no-untyped-def]
    """``step_configuration``, short where one edge is all there is."""
    if q != SET:
        t = int64(_i32(ctx, P_TABLE)[q * ctx[N_CLASSES] + c])
        if t >= 0 and n < _i32(ctx, P_ACCEPT_FROM)[q]:
            m = _moved(ctx, n, t)
            if m < 0:
                return int64(SET), int64(0), int64(DEAD)
            return t >> 1, m, f
    return step_configuration(ctx, q, n, f, c)


@njit
def unpack(ctx, state):  # type: ignore[no-untyped-def]
    """A state as a configuration: its item if it has just one."""
    if state > DEAD and _i32(ctx, S_COUNT)[state] == 1:
        at = _i32(ctx, S_OFFSET)[state]
        return (
            int64(_i32(ctx, S_Q)[at]),
            int64(_i32(ctx, S_N)[at]),
            int64(_i32(ctx, S_F)[at]),
        )
    return int64(SET), int64(0), int64(state)


@njit
def _close(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """A configuration as a state."""
    return f if q == SET else intern_one(ctx, q, n, f)


@njit
def _ends_text(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """Whether the text may end here."""
    if q == SET:
        return _u8(ctx, S_ACCEPT)[f] != 0
    return q == 0 or (n >= _i32(ctx, P_ACCEPT_FROM)[q] and _u8(ctx, S_ACCEPT)[f] != 0)


@njit("int64(int64, int64, int64, int64)", cache=True, nogil=True)
def advance(address, state, data, length):  # type: ignore[no-untyped-def]
    """The state after ``length`` bytes at address ``data``; negative where a step is, or OUT_OF_WORK."""
    ctx = _context(address)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    text = _u8_at(data)
    q, n, f = unpack(ctx, state)
    for i in range(length):
        q, n, f = step_configuration(ctx, q, n, f, int64(byte_class[text[i]]))
        if q == SET and f <= DEAD:
            return f
        if ctx[N_WORK] > ctx[N_WORK_LIMIT]:
            return int64(OUT_OF_WORK)
    return _close(ctx, q, n, f)


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def advance_class(address, state, c):  # type: ignore[no-untyped-def]
    """The state after a symbol of class c."""
    return step(_context(address), state, c)


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def advance_token(address, state, token):  # type: ignore[no-untyped-def]
    """The state after a token's bytes (DEAD for tokens without bytes)."""
    ctx = _context(address)
    offset = _i32(ctx, T_TOKEN_OFFSET)
    begin, length = offset[token], offset[token + 1] - offset[token]
    if length == 0:
        return int64(DEAD)
    return advance(address, state, ctx[T_TOKEN_BYTES] + begin, int64(length))


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def advance_handle(address, handle, token):  # type: ignore[no-untyped-def]
    """``advance_token`` from handle to handle within ``N_MOVE_LIMIT``; UNKNOWN for what is no state's."""
    ctx = _context(address)
    tags = _i32(ctx, S_TAG)
    state = handle & ((int64(1) << SLOT_BITS) - 1)
    if handle < 0 or state >= ctx[N_STATES] or tags[state] != (handle >> SLOT_BITS) + 1:
        return int64(UNKNOWN)
    ctx[N_WORK], ctx[N_WORK_LIMIT] = int64(0), ctx[N_MOVE_LIMIT]
    out = advance_token(address, state, token)
    ctx[N_WORK_LIMIT] = int64(1) << 62
    if out <= DEAD:
        return out
    if tags[out] == 0:
        tags[out] = int32(ctx[N_GENERATION] + 1)
    return (int64(tags[out]) - 1) << SLOT_BITS | out


_LOOP_UNKNOWN: Final = 0
"""In ``P_LOOP_KIND``; else one more than the kind."""
_MANY_BYTES: Final = 128
"""Bytes from which on direct walks are not even tried."""
_EDGES_WORK: Final = 12_000
"""Work that may be done for them."""
_LONG_WALK: Final = 2_048
"""Trie nodes visited from which on it pays to note which tokens a mask lacks."""
_MOST_LOOKED: Final = 32
"""Tokens below a trie node up to which it is worth a look whether all are allowed already."""
_MOST_CALLS: Final = 16
"""Rules that call rules at once, one in another, up to which masks are made at the innermost start."""
_NONE: Final = uint64(0)
_UNTRIED, _NARROW, WIDE, WHOLE = 0, 1, 2, 3
"""What is known of a program state; the last: wide, and not to be split into what it calls."""
_NOTED: Final = 62
"""Configurations of a state of which it is noted in ``N_EDGES_DONE``, a bit each, that their edges were
walked: a mask is begun again whenever something is found out."""
_EDGES_FUEL: Final = 10_000
"""Trie nodes that may be visited for the edges of a program state beside the rules that it calls."""


@njit("int64(int64[::1], int64)", cache=True)
def loop_of(ctx, q):  # type: ignore[no-untyped-def]
    """Which characters lead from a program state back to it, see ``find_loop``; found once."""
    known, loops = _u8(ctx, P_LOOP_KIND), _u64(ctx, P_LOOP)
    if known[q] == _LOOP_UNKNOWN:
        kind, low, high = find_loop(
            _i32(ctx, P_TABLE), ctx[N_CLASSES], _u8(ctx, P_BYTE_CLASS),
            _i32(ctx, P_ACCEPT_FROM), int32(UNBOUNDED), q, 0,
        )  # fmt: skip
        loops[2 * q], loops[2 * q + 1] = low, high
        known[q] = kind + 1
    return int64(known[q]) - 1


@njit
def _bytes_of(ctx, state):  # type: ignore[no-untyped-def]
    """The bytes that can come at a state: ASCII as two words, and whether there are others."""
    can, byte_class = _u64(ctx, S_CAN), _u8(ctx, P_BYTE_CLASS)
    low, high, beyond = uint64(0), uint64(0), False
    for byte in range(256):
        if can_take(can, state, int64(byte_class[byte])):
            if byte < 64:
                low |= uint64(1) << uint64(byte)
            elif byte < 128:
                high |= uint64(1) << uint64(byte - 64)
            else:
                beyond = True
    return low, high, beyond


@njit
def _loops_below(ctx, q, i):  # type: ignore[no-untyped-def]
    """Whether all that is below a trie node leads from a program state back to it, counting nothing."""
    known = _u8(ctx, P_LOOP_KIND)[q]
    if known == NO_LOOP + 1:
        return False
    kind = int64(known) - 1 if known != _LOOP_UNKNOWN else loop_of(ctx, q)
    if kind == NO_LOOP:
        return False
    loops = _u64(ctx, P_LOOP)
    low, high = loops[2 * q], loops[2 * q + 1]
    return stays(kind, low, high, i, _u64(ctx, T_ASCII_BELOW), _u16(ctx, T_BELOW))


_FEW_VISITS: Final = 24
"""How often a state of several configurations is come upon before it is looked what leads back to it."""
_LOOK_WORK: Final = 256
"""Work for that, beside the steps that were not known."""
_LOOKED: Final = 255
"""In place of that number: they are known."""
_MOST_LOOPS: Final = 8
"""Configurations of a state up to which that is looked at."""


@njit("int64(int64[::1], int64)", cache=True)
def _find_set_loop(ctx, state):  # type: ignore[no-untyped-def]
    """Finds the ASCII bytes that lead from a state of several configurations back to it.

    Returns 0, OUT_OF_WORK, or what a step answers.
    """
    byte_class, can = _u8(ctx, P_BYTE_CLASS), _u64(ctx, S_CAN)
    low, high = uint64(0), uint64(0)
    for byte in range(128):
        c = int64(byte_class[byte])
        if not can_take(can, state, c):
            continue
        if ctx[N_WORK] > ctx[N_WORK_LIMIT]:
            return int64(OUT_OF_WORK)
        after = step(ctx, state, c)
        if after < 0:
            return after
        if after == state and byte < 64:
            low |= uint64(1) << uint64(byte)
        elif after == state:
            high |= uint64(1) << uint64(byte - 64)
    ctx[N_WORK] += _LOOK_WORK
    loops = _u64(ctx, S_LOOP)
    loops[2 * state], loops[2 * state + 1] = low, high
    _u8(ctx, S_VISITS)[state] = _LOOKED
    return int64(0)


@njit
def _set_loops_below(ctx, state, i):  # type: ignore[no-untyped-def]
    """Whether all that is below a trie node leads from a state of several configurations back to it.

    1 if so, 0 if it is not known to, OUT_OF_WORK, or what a step answers.
    """
    visits = _u8(ctx, S_VISITS)
    if visits[state] < _FEW_VISITS:
        visits[state] += 1
        return int64(0)
    # with canonical bags steps are others
    if ctx[N_CANONICAL] != 0 or _i32(ctx, S_COUNT)[state] > _MOST_LOOPS:
        return int64(0)
    if visits[state] != _LOOKED:
        out = _find_set_loop(ctx, state)
        if out < 0:
            return out
    loops = _u64(ctx, S_LOOP)
    low, high = loops[2 * state], loops[2 * state + 1]
    if low == uint64(0) and high == uint64(0):
        return int64(0)
    return int64(stays(ASCII_LOOP, low, high, i, _u64(ctx, T_ASCII_BELOW), _u16(ctx, T_BELOW)))


@njit
def _avoids(ctx, i, low, high, beyond):  # type: ignore[no-untyped-def]
    """Whether none of some bytes occurs below a trie node."""
    return not meets(_u64(ctx, T_ASCII_BELOW), _u16(ctx, T_BELOW), i, low, high, beyond)


@njit
def _set_tokens(ctx, row, begin, end):  # type: ignore[no-untyped-def]
    """Sets the bits of the tokens that end at nodes from ``begin`` up to ``end``."""
    t_start, t_tokens = _i32(ctx, T_TOKEN_START), _i32(ctx, T_TOKENS)
    for k in range(t_start[begin], t_start[end]):
        token = t_tokens[k]
        row[token >> 5] |= int32(1) << int32(token & 31)


@njit
def _nodes_allowed(ctx):  # type: ignore[no-untyped-def]
    """How many nodes the walk under way may visit in all."""
    return (ctx[N_WORK_LIMIT] - ctx[N_WORK]) // NODE_WORK


@njit
def _count_bits(word):  # type: ignore[no-untyped-def]
    """How many bits of a word of 32 are set."""
    x = uint64(word) & uint64(0xFFFFFFFF)
    x -= (x >> uint64(1)) & uint64(0x55555555)
    x = (x & uint64(0x33333333)) + ((x >> uint64(2)) & uint64(0x33333333))
    x = (x + (x >> uint64(4))) & uint64(0x0F0F0F0F)
    return int64((x * uint64(0x01010101) & uint64(0xFFFFFFFF)) >> uint64(24))


@njit("void(int64[::1], int32[::1])", cache=True)
def _list_lacking(ctx, row):  # type: ignore[no-untyped-def]
    """Notes which tokens a mask lacks, in the order of the trie, unless they are most of all.

    A walk that takes long then leaves out at once what lies below a node if nothing is lacking there.
    Bits that are set later are not taken account of: what is noted is a superset.
    """
    total = int64(_i32(ctx, T_TOKEN_START)[ctx[T_NODES]])
    held = int64(0)
    for w in range(ctx[N_WORDS]):
        held += _count_bits(row[w])
    if 2 * held < total:
        return
    t_tokens, lacking = _i32(ctx, T_TOKENS), _u64(ctx, S_LACKING)
    word = uint64(0)
    for i in range(total):
        token = t_tokens[i]
        if (row[token >> 5] >> int32(token & 31)) & int32(1) == 0:
            word |= uint64(1) << uint64(i & 63)
        if i & 63 == 63 or i == total - 1:
            lacking[i >> 6] = word
            word = uint64(0)
    ctx[N_LACKS] = 1
    ctx[N_WORK] += total >> 4


@njit
def _any_listed(ctx, first, last):  # type: ignore[no-untyped-def]
    """Whether :func:`_list_lacking` noted a token of those with numbers from ``first`` up to ``last``."""
    if first >= last:
        return False
    lacking = _u64(ctx, S_LACKING)
    at, end = int64(first) >> 6, (int64(last) - 1) >> 6
    low, high = uint64(first & 63), uint64((last - 1) & 63)
    if at == end:
        return (lacking[at] >> low) << (uint64(63) - high + low) != uint64(0)
    if lacking[at] >> low != uint64(0) or lacking[end] << (uint64(63) - high) != uint64(0):
        return True
    at += 1
    while at < end and lacking[at] == uint64(0):
        at += 1
    return at < end


@njit
def _lacks(ctx, row, begin, end):  # type: ignore[no-untyped-def]
    """Whether a mask may lack a token of those that end at nodes from ``begin`` up to ``end``.

    Of many tokens only the first are looked at, and what was noted of them before: a walk comes to those
    below each node again.
    """
    t_start, t_tokens = _i32(ctx, T_TOKEN_START), _i32(ctx, T_TOKENS)
    first, last = t_start[begin], t_start[end]
    if ctx[N_LACKS] != 0 and not _any_listed(ctx, first, last):
        return False
    for k in range(first, min(last, first + _MOST_LOOKED)):
        token = t_tokens[k]
        if (row[token >> 5] >> int32(token & 31)) & int32(1) == 0:
            return True
    return last - first > _MOST_LOOKED


@njit
def _same_below(ctx, q, n, f, i, frame, low, high, beyond):  # type: ignore[no-untyped-def]
    """Whether all that is below a trie node is allowed and leads from a configuration back to it.

    Returns that, and the bytes that can come at the latest frame asked for, to be given again.
    """
    if not _loops_below(ctx, q, i):
        return False, frame, low, high, beyond
    if _i32(ctx, P_ACCEPT_FROM)[q] == UNBOUNDED:
        return True, frame, low, high, beyond
    # the rule may end at every node below: nothing may go on from there
    if f != frame:
        frame = f
        low, high, beyond = _bytes_of(ctx, f)
    return _avoids(ctx, i, low, high, beyond), frame, low, high, beyond


@njit
def _largest_count(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """The largest count of a configuration, or of those of a state of several."""
    if q != SET:
        return n
    counts = _i32(ctx, S_N)
    begin = int64(_i32(ctx, S_OFFSET)[f])
    most = int64(0)
    for i in range(begin, begin + _i32(ctx, S_COUNT)[f]):
        most = max(most, int64(counts[i]))
    return most


@njit(cache=True)
def _walk_below(  # type: ignore[no-untyped-def]
    ctx, state, node, row_address, fuel, deepest, left_address, follow_low, follow_high
):
    """Sets the bits of all tokens in a trie node's subtree that ``state`` allows.

    The node itself is not entered, and nothing deeper than ``deepest``, nor what is below a node if all
    bits there are set.  Unless ``left_address`` is 0 int32 data at the address receive the nodes entered
    at which the text may end, behind their number; of those below which no byte of ``follow_low``,
    ``follow_high`` or beyond ASCII occurs some may be missing.  ``N_MOST_COUNT`` is then the largest count
    of a configuration entered.  Returns the number of nodes visited, OUT_OF_FUEL, OUT_OF_WORK or what a
    step answers.
    """
    byte_class, classes = _u8(ctx, P_BYTE_CLASS), ctx[N_CLASSES]
    table, accept_from = _i32(ctx, P_TABLE), _i32(ctx, P_ACCEPT_FROM)
    loop_kind = _u8(ctx, P_LOOP_KIND)
    t_byte, t_depth, t_skip = _u8(ctx, T_BYTE), _u16(ctx, T_DEPTH), _i32(ctx, T_SKIP)
    row, left = _i32_at(row_address), _i32_at(left_address)
    path = _i64(ctx, S_PATH)
    base = int64(t_depth[node])
    path[0], path[1], path[2] = unpack(ctx, state)
    exited = 0
    most = int64(0)
    i = int64(node) + 1
    end = int64(t_skip[node])
    allowed = min(int64(fuel), _nodes_allowed(ctx))
    visited = int64(0)
    # bytes that can come at the latest frame of a rule that may end
    frame, low, high, beyond = int64(-1), uint64(0), uint64(0), False
    while i < end:
        depth = int64(t_depth[i])
        if depth > deepest:
            i = int64(t_skip[i])
            continue
        visited += 1
        if visited == _LONG_WALK and ctx[N_LACKS] == 0:
            _list_lacking(ctx, row)
            allowed = min(int64(fuel), _nodes_allowed(ctx))
        if visited > allowed:
            if visited > fuel:
                return int64(OUT_OF_FUEL)
            ctx[N_WORK] += NODE_WORK * visited
            return int64(OUT_OF_WORK)
        at = 3 * (depth - base - 1)
        q, n, f = path[at], path[at + 1], path[at + 2]
        c = int64(byte_class[t_byte[i]])
        t = int64(MANY)
        if q != SET and n < accept_from[q]:  # then the table says all
            t = int64(table[q * classes + c])
        if t == NO_EDGE or not _lacks(ctx, row, i, int64(t_skip[i])):
            i = int64(t_skip[i])
            continue
        if t >= 0:
            n = _moved(ctx, n, t)
            q = t >> 1
            if n < 0:
                i = int64(t_skip[i])
                continue
        else:
            ctx[N_WORK] += SET_WORK
            q, n, f = step_configuration(ctx, q, n, f, c)
            allowed = min(int64(fuel), _nodes_allowed(ctx))  # steps are work, too
            if q == SET and f <= DEAD:
                if f < DEAD:
                    return f
                i = int64(t_skip[i])
                continue
        ends_text = False
        if left_address != 0:
            most = max(most, _largest_count(ctx, q, n, f))
            ends_text = _ends_text(ctx, q, n, f)
        if ends_text:
            exited += 1
            left[exited] = i
        same = False
        if q == SET:
            out = _set_loops_below(ctx, f, i)
            if out < 0:
                return out
            allowed = min(int64(fuel), _nodes_allowed(ctx))
            same = out == 1
        elif loop_kind[q] != NO_LOOP + 1:
            same, frame, low, high, beyond = _same_below(ctx, q, n, f, i, frame, low, high, beyond)
        if same and (not ends_text or _avoids(ctx, i, follow_low, follow_high, True)):
            _set_tokens(ctx, row, i, int64(t_skip[i]))
            i = int64(t_skip[i])
            continue
        path[at + 3], path[at + 4], path[at + 5] = q, n, f
        _set_tokens(ctx, row, i, i + 1)
        i += 1
    ctx[N_WORK] += NODE_WORK * visited
    if left_address:
        left[0] = exited
        ctx[N_MOST_COUNT] = most
    return int64(visited)


@njit("int64(int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def fill_walk(address, state, node, row_address, fuel, deepest):  # type: ignore[no-untyped-def]
    """Sets the bits of all tokens in a trie node's subtree that ``state`` allows.

    The node itself is not entered: its bytes lead up to ``state``.  Nodes deeper than ``deepest`` are
    left out.  Returns the number of nodes visited, or OUT_OF_FUEL, OUT_OF_WORK, or what a step
    answers (bits set until then are right, not complete).
    """
    ctx = _context(address)
    ctx[N_LACKS] = 0
    return _walk_below(ctx, state, node, row_address, fuel, deepest, int64(0), _NONE, _NONE)


@njit("int64(int64, int64, int64, int64, uint64, uint64)", cache=True, nogil=True)
def wide_walk(address, state, row_address, left_address, follow_low, follow_high):  # type: ignore[no-untyped-def]
    """Sets the bits of all tokens that ``state`` allows, and lists where the text may end.

    ``left_address``: of int32[N + 1], receives the number of trie nodes at which the text may end, and
    the nodes, ascending; those below which none of the bytes ``follow`` (ASCII, as two words, and all
    others) occurs may be left out, or no token whose bit was not set before.  Returns what
    :func:`fill_walk` does.
    """
    ctx = _context(address)
    ctx[N_LACKS] = 0
    q, n, f = unpack(ctx, state)
    at_once = _ends_text(ctx, q, n, f)
    out = _walk_below(
        ctx, state, int64(0), row_address, int64(1) << 62, int64(1) << 30,
        left_address + 4 if at_once else left_address, follow_low, follow_high,
    )  # fmt: skip
    if at_once:
        left = _i32_at(left_address)
        left[0] = left[1] + 1
        left[1] = 0
    return out


@njit
def _any_lacks(ctx, row, data, first, members, distance):  # type: ignore[no-untyped-def]
    """Whether a mask lacks a token at or below a node so far behind one of the members of a group."""
    t_skip = _i32(ctx, T_SKIP)
    for k in range(first, first + members):
        x = int64(data[k]) + distance
        if _lacks(ctx, row, x, int64(t_skip[x])):
            return True
    return False


@njit("int64(int64[::1], int64, int64, int32[::1])", cache=True)
def _after(ctx, state, groups, row):  # type: ignore[no-untyped-def]
    """Sets the bits of tokens that leave a rule and go on in ``state``.

    ``groups`` is the address of int32 data (``Positions.group``): number of groups; then per group
    the number of members and the members: trie nodes, entered by the same byte, with equal
    subtrees.  The first one is walked; what is found at some distance from it stands at the same
    distance from the others.  A mask is a union: where all bits are set nothing is walked.
    """
    byte_class, classes = _u8(ctx, P_BYTE_CLASS), ctx[N_CLASSES]
    table, accept_from = _i32(ctx, P_TABLE), _i32(ctx, P_ACCEPT_FROM)
    loop_kind = _u8(ctx, P_LOOP_KIND)
    t_byte, t_depth, t_skip = _u8(ctx, T_BYTE), _u16(ctx, T_DEPTH), _i32(ctx, T_SKIP)
    data = _i32_at(groups)
    path = _i64(ctx, S_PATH)
    can = _u64(ctx, S_CAN)
    path[0], path[1], path[2] = unpack(ctx, state)
    allowed = _nodes_allowed(ctx)
    visited, noting = int64(0), int64(_LONG_WALK)
    frame, low, high, beyond = int64(-1), uint64(0), uint64(0), False
    cursor = 1
    for _ in range(data[0]):
        members = int64(data[cursor])
        node = int64(data[cursor + 1])
        first_member = cursor + 1
        cursor += 1 + members
        if not can_take(can, state, int64(byte_class[t_byte[node]])):
            continue
        base = int64(t_depth[node]) - 1
        i = node
        end = int64(t_skip[node])
        each = 1 + members  # which are looked at one by one
        while i < end:
            visited += each
            if visited >= noting:
                noting = allowed + 1  # once
                if ctx[N_LACKS] == 0:
                    _list_lacking(ctx, row)
                    allowed = _nodes_allowed(ctx)
            if visited > allowed:
                ctx[N_WORK] += NODE_WORK * visited
                return int64(OUT_OF_WORK)
            at = 3 * (int64(t_depth[i]) - base - 1)
            q, n, f = path[at], path[at + 1], path[at + 2]
            c = int64(byte_class[t_byte[i]])
            t = int64(MANY)
            if q != SET and n < accept_from[q]:  # then the table says all
                t = int64(table[q * classes + c])
            if t == NO_EDGE or not _any_lacks(ctx, row, data, first_member, members, i - node):
                i = int64(t_skip[i])
                continue
            if t >= 0:
                n = _moved(ctx, n, t)
                q = t >> 1
                if n < 0:
                    i = int64(t_skip[i])
                    continue
            else:
                ctx[N_WORK] += SET_WORK
                q, n, f = step_configuration(ctx, q, n, f, c)
                allowed = _nodes_allowed(ctx)  # steps are work, too
                if q == SET and f <= DEAD:
                    if f < DEAD:
                        return f
                    i = int64(t_skip[i])
                    continue
            next_i = i + 1
            same = False
            if q == SET:
                out = _set_loops_below(ctx, f, i)
                if out < 0:
                    return out
                allowed = _nodes_allowed(ctx)
                same = out == 1
            elif loop_kind[q] != NO_LOOP + 1:
                same, frame, low, high, beyond = _same_below(
                    ctx, q, n, f, i, frame, low, high, beyond
                )
            if same:
                next_i = int64(t_skip[i])
            path[at + 3], path[at + 4], path[at + 5] = q, n, f
            for k in range(members):
                x = int64(data[first_member + k]) + i - node
                _set_tokens(ctx, row, x, x + next_i - i)
            i = next_i
    ctx[N_WORK] += NODE_WORK * visited
    return int64(visited)


@njit
def _bytes_on(ctx, q):  # type: ignore[no-untyped-def]
    """How many bytes lead on from a program state."""
    sizes = _i32(ctx, P_CLASS_SIZE)
    bytes_on = int64(0)
    calls = _i32(ctx, P_CALL_OFFSET)
    if calls[q] == calls[q + 1] and _i32(ctx, P_BAG_OF)[q] < 0:  # states of literals have one edge
        for e in range(_i32(ctx, P_EDGE_OFFSET)[q], _i32(ctx, P_EDGE_OFFSET)[q + 1]):
            bytes_on += sizes[_i32(ctx, P_EDGE_CLASS)[e]]
        return bytes_on
    first = _u64(ctx, P_FIRST)
    for c in range(ctx[N_CLASSES]):
        if can_take(first, q, c):
            bytes_on += sizes[c]
    return bytes_on


@njit
def _is_wide(ctx, q):  # type: ignore[no-untyped-def]
    """Whether direct walks from a program state are not to be tried."""
    wide = _u8(ctx, P_WIDE)
    if wide[q] == _UNTRIED:
        wide[q] = WIDE if _bytes_on(ctx, q) >= _MANY_BYTES else _NARROW
    return wide[q] >= WIDE


@njit
def _narrow_part(ctx, state):  # type: ignore[no-untyped-def]
    """The state of those of a state's configurations that are not wide."""
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    begin, count = int64(_i32(ctx, S_OFFSET)[state]), int64(_i32(ctx, S_COUNT)[state])
    room = ctx[N_BUFFER_ROOM]
    buffer = _i32(ctx, S_BUFFER)
    kept = 0
    for i in range(begin, begin + count):
        if not _is_wide(ctx, int64(s_q[i])):
            buffer[kept], buffer[room + kept], buffer[2 * room + kept] = s_q[i], s_n[i], s_f[i]
            kept += 1
    return int64(state) if kept == count else _intern(ctx, kept)


@njit("int64(int64[::1], int64, int64, int64)", cache=True)
def _walk_narrow(ctx, state, row_address, fuel):  # type: ignore[no-untyped-def]
    """Sets the bits of all tokens that the configurations of a state allow that are not wide.

    Returns what a walk answers; after OUT_OF_FUEL some of them turned out to be wide.
    """
    together = _narrow_part(ctx, state)
    if together < 0:
        return int64(together)
    deepest = int64(1) << 30
    out = _walk_below(ctx, together, int64(0), row_address, fuel, deepest, int64(0), _NONE, _NONE)
    if out != OUT_OF_FUEL:
        return out
    begin = int64(_i32(ctx, S_OFFSET)[together])
    found = int64(0)
    for i in range(begin, begin + _i32(ctx, S_COUNT)[together]):
        q = int64(_i32(ctx, S_Q)[i])
        alone = intern_one(ctx, q, int64(_i32(ctx, S_N)[i]), int64(_i32(ctx, S_F)[i]))
        if alone < 0:
            return int64(alone)
        out = _walk_below(ctx, alone, int64(0), row_address, fuel, deepest, int64(0), _NONE, _NONE)
        if out == OUT_OF_FUEL:
            _u8(ctx, P_WIDE)[q] = WIDE
            found = int64(OUT_OF_FUEL)
        elif out < 0:
            return out
    return found


@njit
def _is_split(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """Whether a configuration is wide for the rules that it calls, which are looked at on their own.

    Not where its rule may end and something may follow: that is no call of it.
    """
    calls = _i32(ctx, P_CALL_OFFSET)
    return (
        _is_wide(ctx, q)
        and _u8(ctx, P_WIDE)[q] != WHOLE
        and calls[q + 1] > calls[q]
        and _i32(ctx, P_BAG_OF)[q] < 0
        and (n < _i32(ctx, P_ACCEPT_FROM)[q] or f == END)
    )


@njit
def _put(ctx, w, q, n, f):  # type: ignore[no-untyped-def]
    """Puts a configuration into the buffer."""
    room = ctx[N_BUFFER_ROOM]
    buffer = _i32(ctx, S_BUFFER)
    buffer[w], buffer[room + w], buffer[2 * room + w] = q, n, f


@njit
def _link_calls(ctx, q, n, f, links):  # type: ignore[no-untyped-def]
    """Notes in the second part of the buffer which rules are called, and where each returns to.

    Returns how many such links there are then, or TOO_MANY_ITEMS.
    """
    room = ctx[N_BUFFER_ROOM]
    half = room // 2
    called = _i32(ctx, S_BUFFER)[3 * room :]
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    begin, end = _i32(ctx, S_OFFSET)[f], _i32(ctx, S_OFFSET)[f] + _i32(ctx, S_COUNT)[f]
    c_offset, c_tail = _i32(ctx, P_CALL_OFFSET), _u8(ctx, P_CALL_TAIL)
    for e in range(c_offset[q], c_offset[q + 1]):
        rule = _i32(ctx, P_CALL_START)[e]
        if links + end - begin >= half:
            return int64(TOO_MANY_ITEMS)
        if c_tail[e]:
            for j in range(begin, end):
                _put(ctx, half + links, s_q[j], s_n[j], s_f[j])
                called[half + links] = rule
                links += 1
            continue
        target = int64(_i32(ctx, P_CALL_RETURN)[e])
        m = _moved(ctx, n, target)
        if m >= 0:
            _put(ctx, half + links, target >> 1, m, f)
            called[half + links] = rule
            links += 1
    return int64(links)


@njit("int64(int64[::1], int64)", cache=True)
def _call_rules(ctx, state):  # type: ignore[no-untyped-def]
    """The state with wide configurations that call rules replaced by those at the rules' starts.

    What a rule does with the vocabulary is known once for all its callers.  Answers the state itself if
    there are none, else a state with the same continuations but for :func:`_walk_edges`.
    """
    room = ctx[N_BUFFER_ROOM]
    half = room // 2
    buffer = _i32(ctx, S_BUFFER)
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    begin = int64(_i32(ctx, S_OFFSET)[state])
    end = begin + _i32(ctx, S_COUNT)[state]
    reached, links = int64(0), int64(0)
    for i in range(begin, end):
        q, n = int64(s_q[i]), int64(s_n[i])
        f = int64(s_f[i])
        if _is_split(ctx, q, n, f):
            links = _link_calls(ctx, q, n, f, links)
            if links < 0:
                return links
        else:
            _put(ctx, reached, q, n, f)
            reached += 1
    if reached == end - begin:
        return state
    while links > 0:
        rule = int64(buffer[3 * room + half])
        kept, mine = int64(0), int64(0)
        for i in range(half, half + links):
            own = buffer[3 * room + i] == rule
            if reached + mine >= half:
                return int64(TOO_MANY_ITEMS)
            w = reached + mine if own else half + kept
            for column in range(4):
                buffer[column * room + w] = buffer[column * room + i]
            mine += own
            kept += not own
        links = kept
        frame = _intern_part(ctx, reached, _sort_items(ctx, reached, mine))
        if frame < 0:
            return frame
        _put(ctx, reached, rule, 0, frame)
        reached += 1
    return _intern(ctx, _sort_items(ctx, 0, reached))


@njit("int64(int64[::1], int64, int64, boolean)", cache=True)
def _walk_edges(ctx, state, row_address, noting):  # type: ignore[no-untyped-def]
    """Sets the bits of tokens by the edges of configurations that :func:`_call_rules` replaces.

    With ``noting``, those of the first configurations are walked once, see ``N_EDGES_DONE``.  Returns 0,
    or what a walk answers; after OUT_OF_FUEL the program state is no longer one of those.
    """
    byte_class, t_byte, t_skip = _u8(ctx, P_BYTE_CLASS), _u8(ctx, T_BYTE), _i32(ctx, T_SKIP)
    e_offset, e_class = _i32(ctx, P_EDGE_OFFSET), _i32(ctx, P_EDGE_CLASS)
    e_target = _i32(ctx, P_EDGE_TARGET)
    begin, count = int64(_i32(ctx, S_OFFSET)[state]), int64(_i32(ctx, S_COUNT)[state])
    row = _i32_at(row_address)
    for j in range(begin, begin + count):
        q, n = int64(_i32(ctx, S_Q)[j]), int64(_i32(ctx, S_N)[j])
        f = int64(_i32(ctx, S_F)[j])
        if e_offset[q] == e_offset[q + 1] or not _is_split(ctx, q, n, f):
            continue
        once = noting and j - begin < _NOTED
        if once and (ctx[N_EDGES_DONE] >> (j - begin)) & 1:
            continue
        fuel = int64(_EDGES_FUEL)
        ends_at = ctx[N_WORK] + _EDGES_WORK
        i = int64(1)
        while i < t_skip[0]:
            for e in range(e_offset[q], e_offset[q + 1]):
                if e_class[e] != byte_class[t_byte[i]]:
                    continue
                target = int64(e_target[e])
                m = _moved(ctx, n, target)
                if m < 0:
                    continue
                after = intern_one(ctx, target >> 1, m, f)
                if after < 0:
                    return after
                _set_tokens(ctx, row, i, i + 1)
                limit = ctx[N_WORK_LIMIT]
                ctx[N_WORK_LIMIT] = min(limit, ends_at)
                out = _walk_below(
                    ctx, after, i, row_address, fuel, int64(1) << 30, int64(0), _NONE, _NONE
                )
                ctx[N_WORK_LIMIT] = limit
                if out == OUT_OF_WORK and ends_at < limit:
                    out = int64(OUT_OF_FUEL)
                if out == OUT_OF_FUEL:
                    _u8(ctx, P_WIDE)[q] = WHOLE
                if out < 0:
                    return out
                fuel -= out
            i = int64(t_skip[i])
        if once:
            ctx[N_EDGES_DONE] |= int64(1) << (j - begin)
    return int64(0)


@njit
def _knows(ctx, q, n):  # type: ignore[no-untyped-def]
    """Whether the mask of a wide configuration is known."""
    return _i64(ctx, W_MASK)[q] != 0 and _i32(ctx, W_LOW)[q] <= n and n <= _i32(ctx, W_HIGH)[q]


@njit
def _add_mask(ctx, row, q):  # type: ignore[no-untyped-def]
    """Sets the bits of the mask of a wide configuration."""
    words = _i32_at(_i64(ctx, W_MASK)[q])
    for w in range(ctx[N_WORDS]):
        row[w] |= words[w]


@njit
def _after_inner(ctx, parts_address, n, f, row):  # type: ignore[no-untyped-def]
    """Sets the bits of tokens that go on in other states of the rule, see ``StatePool.set_inner``."""
    parts = _i64_at(parts_address)
    for i in range(parts[0]):
        after = intern_one(ctx, parts[1 + 2 * i], n, f)
        if after < 0:
            return after
        out = _after(ctx, after, parts[2 + 2 * i], row)
        if out < 0:
            return out
    return int64(0)


@njit("int64(int64, int64, int64, int64, int64)", cache=True, nogil=True)
def fill_state(address, state, item, row_address, fuel):  # type: ignore[no-untyped-def]
    """Sets the bits of all tokens that ``state`` allows, with what is known of wide states.

    All masks of wide configurations come first, then the other configurations, walked together; at
    last, from number ``item`` on, what goes on behind the wide ones.  Returns NOT_KNOWN where one is
    wide and its mask (``W_MASK``, valid for counts from ``W_LOW`` to ``W_HIGH``) is not known: its
    program state and count are in ``N_WIDE_STATE`` and ``N_WIDE_COUNT``, the number to go on from is in
    ``N_LACKING``.  ``N_EDGES_DONE`` is 0 at the first call for a mask.
    """
    ctx = _context(address)
    ctx[N_LACKS] = 0
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    s_offset, s_count = _i32(ctx, S_OFFSET), _i32(ctx, S_COUNT)
    row = _i32_at(row_address)
    outer = state
    while True:
        state = outer
        for _ in range(_MOST_CALLS):
            before = state
            state = _call_rules(ctx, before)
            if state < 0:
                return state
            if state == before:
                break
        begin, count = int64(s_offset[state]), int64(s_count[state])
        wide = 0
        for i in range(begin, begin + count):
            q, n = int64(s_q[i]), int64(s_n[i])
            if not _is_wide(ctx, q):
                continue
            wide += 1
            if _knows(ctx, q, n):
                _add_mask(ctx, row, q)
            elif _i64(ctx, W_MASK)[q] == 0:
                ctx[N_WIDE_STATE], ctx[N_WIDE_COUNT], ctx[N_LACKING] = q, n, item
                return int64(NOT_KNOWN)
        out = int64(0)
        before = outer
        while before != state and out >= 0:
            out = _walk_edges(ctx, before, row_address, before == outer)
            before = _call_rules(ctx, before)
        if out >= 0 and wide < count:
            out = _walk_narrow(ctx, state, row_address, fuel)
        if out == OUT_OF_FUEL:  # what is wide is known better now
            item = 0
            continue
        if out < 0:
            return out
        for i in range(begin + item, begin + count):
            q, n, f = int64(s_q[i]), int64(s_n[i]), int64(s_f[i])
            if not _is_wide(ctx, q):
                continue
            if not _knows(ctx, q, n):
                ctx[N_WIDE_STATE], ctx[N_WIDE_COUNT], ctx[N_LACKING] = q, n, i - begin
                return int64(NOT_KNOWN)
            if _i64(ctx, W_BEHIND)[q] != 0:
                out = _after_inner(ctx, _i64(ctx, W_BEHIND)[q], n, f, row)
            elif f != END:
                out = _after(ctx, f, _i64(ctx, W_GROUPS)[q], row)
            if out < 0:
                return out
        return int64(0)


@njit("int64(int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def collect_walk(address, state, node, ends, exits, enter):  # type: ignore[no-untyped-def]
    """Like ``fill_walk``, but records where it gets.

    ``ends``: int32 pairs (trie node at which a token ends, state there), ``exits``: int32 nodes at
    which the text may end, the given node included.  Both start with their number of entries; the
    caller provides room for every node.  With ``enter`` the walk begins before the node's byte,
    else after it.  Returns the number of nodes visited or a negative code.
    """
    ctx = _context(address)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    t_byte, t_depth, t_skip = _u8(ctx, T_BYTE), _u16(ctx, T_DEPTH), _i32(ctx, T_SKIP)
    t_start = _i32(ctx, T_TOKEN_START)
    out = _i32_at(ends)
    left = _i32_at(exits)
    path = _i64(ctx, S_PATH)
    base = int64(t_depth[node]) - enter
    q, n, f = unpack(ctx, state)
    path[0] = q
    path[1] = n
    path[2] = f
    ended = 0
    exited = 0
    if not enter and _ends_text(ctx, q, n, f):
        exited += 1
        left[exited] = node
    i = int64(node) + 1 - enter
    end = int64(t_skip[node])
    visited = 0
    last_q, last_n, last_f, last_state = int64(-2), int64(0), int64(0), int64(0)
    while i < end:
        visited += 1
        at = 3 * (int64(t_depth[i]) - base - 1)
        q, n, f = _move(ctx, path[at], path[at + 1], path[at + 2], int64(byte_class[t_byte[i]]))
        if q == SET and f <= DEAD:
            if f < DEAD:
                return f
            i = int64(t_skip[i])
            continue
        path[at + 3] = q
        path[at + 4] = n
        path[at + 5] = f
        if t_start[i] < t_start[i + 1]:
            if q != last_q or n != last_n or f != last_f:
                last_state = _close(ctx, q, n, f)
                if last_state < 0:
                    return last_state
                last_q = q
                last_n = n
                last_f = f
            out[1 + 2 * ended] = i
            out[2 + 2 * ended] = last_state
            ended += 1
        if _ends_text(ctx, q, n, f):
            exited += 1
            left[exited] = i
        i += 1
    out[0] = ended
    left[0] = exited
    return visited


@njit("int64(int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def difference_walk(address, first, second, out_address, room, fuel):  # type: ignore[no-untyped-def]
    """What one state of a call-free, uncounted rule lacks that another has.

    The trie is walked with both at once and left where they have become the same.  ``out`` receives
    int32 pairs (trie node, what), see ``masks.kernels``: LOST, NO_EXIT, and LACKING_BELOW for nodes right
    below which the first may end and below which it loses something.  Returns the number of pairs, or
    OUT_OF_FUEL if there are more than ``room``, or more than ``fuel`` nodes were visited, or if the
    first has something that the second lacks.
    """
    ctx = _context(address)
    table = _i32(ctx, P_TABLE)
    accept_from = _i32(ctx, P_ACCEPT_FROM)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    t_byte, t_depth, t_skip = _u8(ctx, T_BYTE), _u16(ctx, T_DEPTH), _i32(ctx, T_SKIP)
    classes = ctx[N_CLASSES]
    out = _i32_at(out_address)
    path = _i64(
        ctx, S_PATH
    )  # by depth: states; node, whether that was noted, whether the first may end
    path[0], path[1], path[2] = first, second, int64(accept_from[first] == 0)
    found = 0
    visited = 0
    i = 1
    end = int64(t_skip[0])
    while i < end:
        visited += 1
        depth = int64(t_depth[i])
        if visited > fuel or found + depth + 2 > room:
            return int64(OUT_OF_FUEL)
        at = 3 * (depth - 1)
        c = int64(byte_class[t_byte[i]])
        a = int64(table[path[at] * classes + c])
        b = int64(table[path[at + 1] * classes + c])
        if a < 0:
            if b >= 0:
                out[2 * found], out[2 * found + 1] = i, LOST
                found += 1
                below = int64(i)
                while True:
                    if path[at + 2] & 1:
                        out[2 * found], out[2 * found + 1] = below, LACKING_BELOW
                        found += 1
                    if at == 0 or path[at + 2] & 2:
                        break
                    path[at + 2] |= 2
                    below = path[at + 2] >> 2
                    at -= 3
            i = int64(t_skip[i])
            continue
        if b < 0:
            return int64(OUT_OF_FUEL)
        a >>= 1
        b >>= 1
        ends_a, ends_b = accept_from[a] == 0, accept_from[b] == 0
        if ends_a and not ends_b:
            return int64(OUT_OF_FUEL)
        if ends_b and not ends_a:
            out[2 * found], out[2 * found + 1] = i, NO_EXIT
            found += 1
        if a == b:
            i = int64(t_skip[i])
            continue
        path[at + 3], path[at + 4], path[at + 5] = a, b, int64(i) << 2 | int64(ends_a)
        i += 1
    return int64(found)


@njit("void(int64, int64, int64)", cache=True)
def rebuild_hash(address, table_address, size):  # type: ignore[no-untyped-def]
    """Fills a cleared hash table with all states that have items."""
    ctx = _context(address)
    table = _i32_at(table_address)
    count = _i32(ctx, S_COUNT)
    for state in range(1, ctx[N_STATES]):
        if count[state] > 0:
            _insert_hash(ctx, table, size, state)


@njit("void(int64, int64, int64, int64)", cache=True)
def rebuild_memo(address, keys_address, values_address, size):  # type: ignore[no-untyped-def]
    """Moves the memo into larger, cleared arrays."""
    ctx = _context(address)
    old_keys, old_values = _i64(ctx, S_MEMO_KEY), _i32(ctx, S_MEMO_VALUE)
    keys = _i64_at(keys_address)
    values = _i32_at(values_address)
    for i in range(ctx[N_MEMO_SIZE]):
        key = old_keys[i]
        if key != 0:
            slot = int64(_mix(uint64(0), key) & uint64(size - 1))
            while keys[slot] != 0:
                slot = (slot + 1) & (size - 1)
            keys[slot] = key
            values[slot] = old_values[i]


@njit("int64(int64, int64)", cache=True)
def intern_buffer(address, count):  # type: ignore[no-untyped-def]
    """The state whose (sorted, distinct) items the caller has put into the buffer."""
    return _intern(_context(address), count)


_BYTES = "Array(uint8, 1, 'C', readonly=True)"
