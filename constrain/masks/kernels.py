"""Kernels that walk a finite automaton over the vocabulary's trie, and make masks of what they find.

Most of a trie need not be walked.  Where an automaton stays in one state on every byte of a subtree,
all tokens below are allowed at once.  So that this can be told by one comparison, each node knows
which ASCII bytes occur below it, and from which positions within a UTF-8 character the bytes below
are well-formed (:func:`summarize`); each state, which ASCII bytes and whether all other characters
lead back to it (:func:`find_loop`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import int16, int32, int64, njit, uint8, uint64

from grammars.program import UNBOUNDED

_BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"
_SHORTS: Final = "Array(uint16, 1, 'C', readonly=True)"
_INTS: Final = "Array(int32, 1, 'C', readonly=True)"
_INTS2: Final = "Array(int32, 2, 'C', readonly=True)"
_LONGS: Final = "Array(uint64, 1, 'C', readonly=True)"
_LONGS2: Final = "Array(uint64, 2, 'C', readonly=True)"

HIGH_BELOW: Final = 1 << 8
"""Flag of a node: bytes from 0x80 occur below."""
LINES_BELOW: Final = 1 << 9
"""Flag of a node: so does E2, with which the separators of lines and paragraphs begin."""
_LINES: Final = 0xE2
NO_LOOP: Final = 0
ASCII_LOOP: Final = 1
"""Only ASCII bytes are known to lead back."""
LINE_LOOP: Final = 2
"""So do all characters beyond ASCII that do not begin with E2: what a dot stands for leaves out the
separators U+2028 and U+2029."""
TEXT_LOOP: Final = 3
"""So do all characters beyond ASCII."""
LOOKED: Final = 1
"""What is added to a kind of loop that is known."""
_MOST_CLOSED: Final = 128
"""States of an automaton up to which closed ones are looked for (some 50 microseconds)."""
_MIDDLES: Final = 32
"""Pairs of states that :func:`find_loop` looks at within characters before it gives up."""

# Positions within a UTF-8 character: 0 between two; 1, 2, 3 so many continuation bytes to come; 4 to 7
# behind E0, ED, F0, F4, after which not every continuation byte can come.


@njit
def after_byte(position, byte):  # type: ignore[no-untyped-def]
    """The position within a UTF-8 character after a byte, -1 if it cannot stand there."""
    if position == 0:
        if byte < 0x80:
            return 0
        if byte < 0xC2 or byte > 0xF4:
            return -1
        if byte < 0xE0:
            return 1
        if byte < 0xF0:
            return 4 if byte == 0xE0 else 5 if byte == 0xED else 2
        return 6 if byte == 0xF0 else 7 if byte == 0xF4 else 3
    if byte < 0x80 or byte > 0xBF:
        return -1
    if position <= 3:
        return position - 1
    if position == 4:
        return 1 if byte >= 0xA0 else -1
    if position == 5:
        return 1 if byte < 0xA0 else -1
    if position == 6:
        return 2 if byte >= 0x90 else -1
    return 2 if byte < 0x90 else -1


@njit(
    f"void({_BYTES}, {_SHORTS}, {_INTS}, uint64[::1], uint16[::1], uint16[::1])",
    cache=True,
    nogil=True,
)
def summarize(t_byte, t_depth, t_skip, ascii_below, below, deepest):  # type: ignore[no-untyped-def]
    """What occurs below each trie node.

    Args:
        t_byte, t_depth, t_skip: of the trie, N nodes.
        ascii_below: uint64[2N], receives the set of ASCII bytes below each node.
        below: uint16[N], receives ``HIGH_BELOW``, ``LINES_BELOW`` and, as bits 0 to 7, the positions
            within a character from which all that is below is well-formed (or the beginning of it).
        deepest: uint16[N], receives the depth of the deepest node below.
    """
    for i in range(len(t_byte) - 1, -1, -1):
        low, high = uint64(0), uint64(0)
        fine, beyond = 0xFF, 0
        depth = t_depth[i]
        child = i + 1
        while child < t_skip[i]:
            byte = int64(t_byte[child])
            good = 0
            if byte < 64:
                low |= uint64(1) << uint64(byte)
            elif byte < 128:
                high |= uint64(1) << uint64(byte - 64)
            else:
                beyond |= HIGH_BELOW | (LINES_BELOW if byte == _LINES else 0)
            for position in range(8):
                after = after_byte(position, byte)
                if after >= 0 and (below[child] >> after) & 1:
                    good |= 1 << position
            fine &= good
            beyond |= below[child] & (HIGH_BELOW | LINES_BELOW)
            low |= ascii_below[2 * child]
            high |= ascii_below[2 * child + 1]
            depth = max(depth, deepest[child])
            child = int64(t_skip[child])
        ascii_below[2 * i] = low
        ascii_below[2 * i + 1] = high
        below[i] = fine | beyond
        deepest[i] = depth


@njit
def _stays_closed(positions, loop, low, high, ascii_low, ascii_high, flags):  # type: ignore[no-untyped-def]
    """Whether all that is below a node stays where a loop or closed states lead on, through no other end.

    Args:
        positions: within a character, as bits, from which the state is closed (see :func:`find_closed`).
        loop, low, high: the kind of loop, and its ASCII bytes as two words.
        ascii_low, ascii_high, flags: of the node, see :func:`summarize`.
    """
    if positions & flags & 0xFF == 0 or ascii_low & ~low or ascii_high & ~high:
        return False
    if flags & HIGH_BELOW == 0:
        return True
    return loop == TEXT_LOOP or (loop == LINE_LOOP and flags & LINES_BELOW == 0)


@njit
def stays(loop, low, high, i, ascii_below, below):  # type: ignore[no-untyped-def]
    """Whether all that is below node i leads back to a state with this loop, through no other end."""
    return _stays_closed(1, loop, low, high, ascii_below[2 * i], ascii_below[2 * i + 1], below[i])


# Walks that leave most of the trie out wait for memory more than for anything else.  So they read records
# (:func:`write_records`) in which the children of a node stand side by side, those of the next node behind
# them: siblings are met in order, and where they end is where those of the next record begin.


@njit(
    f"void({_BYTES}, {_SHORTS}, {_INTS}, {_INTS}, {_LONGS}, {_SHORTS}, {_SHORTS}, uint64[:, ::1], "
    "int32[::1])",
    cache=True,
    nogil=True,
)
def write_records(  # type: ignore[no-untyped-def]
    t_byte, t_depth, t_skip, t_start, ascii_below, below, deepest, records, nodes
):
    """Writes what walks need of each trie node, level by level.

    Args:
        t_byte to t_start: of the trie, N nodes.
        ascii_below, below, deepest: see :func:`summarize`.
        records: uint64[N + 1, 4], receives for each node ``byte | height << 8 | flags << 24``, where
            height is the depth of the deepest node below less its own; ``first child | first token << 32``,
            where the former is a record, and all up to the next record's first child are its children; the
            ASCII bytes below as two words.  The last one only says where the children of the others end.
        nodes: int32[N], receives the node of each record.
    """
    nodes[0] = 0
    found = 1
    for k in range(len(t_byte)):
        i = nodes[k]
        records[k, 0] = (
            uint64(t_byte[i])
            | uint64(deepest[i] - t_depth[i]) << uint64(8)
            | uint64(below[i]) << uint64(24)
        )
        records[k, 1] = uint64(found) | uint64(t_start[i]) << uint64(32)
        records[k, 2], records[k, 3] = ascii_below[2 * i], ascii_below[2 * i + 1]
        child = i + 1
        while child < t_skip[i]:
            nodes[found] = child
            found += 1
            child = t_skip[child]
    records[len(t_byte), 1] = uint64(found)


@njit
def _byte(records, k):  # type: ignore[no-untyped-def]
    return int64(records[k, 0] & uint64(0xFF))


@njit
def _height(records, k):  # type: ignore[no-untyped-def]
    return int64((records[k, 0] >> uint64(8)) & uint64(0xFFFF))


@njit
def _flags(records, k):  # type: ignore[no-untyped-def]
    return int64(records[k, 0] >> uint64(24))


@njit
def _first_child(records, k):  # type: ignore[no-untyped-def]
    return int64(records[k, 1] & uint64(0xFFFFFFFF))


@njit
def _first_token(records, k):  # type: ignore[no-untyped-def]
    return int64(records[k, 1] >> uint64(32))


@njit
def _stays(positions, loop, low, high, records, k):  # type: ignore[no-untyped-def]
    """:func:`_stays_closed` by records."""
    return _stays_closed(
        positions, loop, low, high, records[k, 2], records[k, 3], _flags(records, k)
    )


@njit
def find_loop(table, classes, byte_class, ends, never, q, inc):  # type: ignore[no-untyped-def]
    """Which characters lead from a state back to it: (kind, ASCII bytes as two words of bits).

    Args:
        table: rows of ``classes`` entries, ``state << 1 | inc`` or negative.
        byte_class: the column of each byte.
        ends, never: ``ends[q] == never`` for states that do not end their rule.  The state itself may;
            within characters none does.
        inc: how much each character has to count, 0 or 1.
    """
    low, high = uint64(0), uint64(0)
    back = q << 1 | inc
    for byte in range(128):
        if table[q * classes + byte_class[byte]] == back:
            if byte < 64:
                low |= uint64(1) << uint64(byte)
            else:
                high |= uint64(1) << uint64(byte - 64)
    if low == uint64(0) and high == uint64(0):
        return NO_LOOP, low, high
    for kind in (TEXT_LOOP, LINE_LOOP):
        if _loops_beyond(table, classes, byte_class, ends, never, q, inc, kind):
            return kind, low, high
    return ASCII_LOOP, low, high


@njit
def _loops_beyond(table, classes, byte_class, ends, never, q, inc, kind):  # type: ignore[no-untyped-def]
    """Whether the characters beyond ASCII of a kind of loop lead from a state back to it."""
    # all ways through the bytes of one, in pairs (state, position)
    states = np.empty(_MIDDLES, np.int64)
    places = np.empty(_MIDDLES, np.int64)
    counts = np.empty(_MIDDLES, np.int64)
    states[0], places[0], counts[0] = q, 0, 0
    found = 1
    i = 0
    while i < found:
        for byte in range(0x80, 0x100):
            place = after_byte(places[i], byte)
            if place < 0 or (kind == LINE_LOOP and byte == _LINES):
                continue
            target = int64(table[states[i] * classes + byte_class[byte]])
            if target < 0:
                return False
            state, count = target >> 1, counts[i] + (target & 1)
            if place == 0:
                if state != q or count != inc:
                    return False
                continue
            if ends[state] != never or count > inc:
                return False
            known = False
            for j in range(found):
                if states[j] == state and places[j] == place and counts[j] == count:
                    known = True
                    break
            if not known:
                if found == _MIDDLES:
                    return False
                states[found], places[found], counts[found] = state, place, count
                found += 1
        i += 1
    return True


@njit
def _ordinary_bytes(table, start):  # type: ignore[no-untyped-def]
    """bool[128]: ASCII bytes after which a state of a lexeme's automaton can be left as before."""
    out = np.zeros(128, np.bool_)
    for byte in range(0x20, 0x7F):
        target = int64(table[256 * start + byte])
        out[byte] = target >= 0
        for other in (0x20, 0x30, 0x5A, 0x61):  # a blank, a digit, letters
            if (
                target >= 0
                and table[256 * start + other] >= 0
                and table[256 * (target >> 1) + other] < 0
            ):
                out[byte] = False
    return out


@njit
def find_closed(table, accepts, ordinary, kind, closed):  # type: ignore[no-untyped-def]
    """States that ordinary characters never lead out of, whatever is written: no end, no refusal.

    The greatest fixed point, by taking states out until none is wrong.

    Args:
        table, accepts: see :func:`read_shape`.
        ordinary: bool[128].
        kind: of loop, whose characters beyond ASCII are ordinary.
        closed: uint8[L], receives bit 0 for such states, bits 1 to 7 for those that are so within a
            character (see :func:`after_byte`).
    """
    beyond = kind != ASCII_LOOP
    for q in range(len(accepts)):
        closed[q] = 0 if accepts[q] else 0xFF if beyond else 1
    changed = True
    while changed:
        changed = False
        for q in range(len(accepts)):
            for byte in range(256):
                if closed[q] == 0:
                    break
                if byte < 128 and not ordinary[byte]:
                    continue
                if byte == _LINES and kind == LINE_LOOP:
                    continue
                target = int64(table[256 * q + byte])
                there = uint8(0) if target < 0 else closed[target >> 1]
                for position in range(8 if beyond else 1):
                    after = after_byte(position, byte)
                    if after < 0 or (byte >= 128 and not beyond):
                        continue
                    if (closed[q] >> position) & 1 and (there >> after) & 1 == 0:
                        closed[q] &= ~(uint8(1) << uint8(position))
                        changed = True


@njit
def _is_letter(byte):  # type: ignore[no-untyped-def]
    """Whether an ASCII byte is a letter or a digit."""
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A


@njit
def _lasting_bytes(table, start):  # type: ignore[no-untyped-def]
    """bool[128]: printable bytes after which all of them can come that can come at a state.

    Where these are few, letters and digits after which all such can come.
    """
    out = np.zeros(128, np.bool_)
    for letters in range(2):
        last, fine, found = int64(-1), False, 0
        for byte in range(0x20, 0x7F):
            target = int64(table[256 * start + byte]) >> 1
            if target < 0 or (letters and not _is_letter(byte)):
                continue
            if target != last:
                last, fine = target, True
                for other in range(0x20, 0x7F):
                    if letters and not _is_letter(other):
                        continue
                    if table[256 * start + other] >= 0 and table[256 * target + other] < 0:
                        fine = False
                        break
            out[byte] = fine
            found += fine
        if found >= _FEW_LASTING:
            break
    return out


_FEW_LASTING: Final = 10
"""Bytes below which :func:`_lasting_bytes` looks at letters and digits alone."""


_PASSES: Final = 40
"""How often states are gone over to find how long a text stays within them; and the bytes known of then."""
_ALWAYS: Final = 255


@njit
def find_lasting(table, stops, chosen, byte_class, lasting):  # type: ignore[no-untyped-def]
    """Finds how many bytes, whichever of some they are, lead from each state to no end and no refusal.

    Args:
        table: see :func:`read_shape`.
        stops: uint8[L], the states that are to be avoided.
        chosen: bool[128], the bytes.
        byte_class: uint8[256], equal for bytes that are alike.
        lasting: uint8[L], receives one more than that number, or less, ``_ALWAYS`` for any number; 0 for
            states to be avoided.
    """
    bytes_ = np.empty(128, np.int64)
    seen = np.zeros(256, np.bool_)
    count = 0
    for byte in range(128):
        if chosen[byte] and not seen[byte_class[byte]]:
            seen[byte_class[byte]] = True
            bytes_[count] = byte
            count += 1
    size = len(stops)
    for q in range(size):
        lasting[q] = 0 if stops[q] else _ALWAYS
    passes, changed = 0, True
    while changed and passes < _PASSES:
        changed = False
        passes += 1
        for q in range(size - 1, -1, -1):  # automata are numbered onward
            least = int64(lasting[q])
            for b in range(count):
                if least <= 1:
                    break
                target = int64(table[256 * q + bytes_[b]])
                there = int64(0) if target < 0 else int64(lasting[target >> 1])
                if there < _ALWAYS:
                    least = min(least, there + 1)
            if least < lasting[q]:
                lasting[q] = least
                changed = True
    if changed:  # so many passes find all that goes wrong within so many bytes
        for q in range(size):
            lasting[q] = min(int64(lasting[q]), _PASSES)


UNREAD: Final = -2
"""In place of an edge of a lexeme's automaton: it leads to a state that was not read."""
CALLING: Final = 1
"""Flag of a rule: it calls others, or is a bag."""
COUNTING: Final = 2
"""Flag of a rule: something is counted in it."""
SPLITTING: Final = 4
"""Flag of a rule: some state has several edges by one byte."""


@njit
def _add_follow(follow, called, words, at):  # type: ignore[no-untyped-def]
    """Adds a set of byte classes to those that can follow a rule; returns whether some were new."""
    grown = False
    for w in range(4):
        more = words[at, w] & ~follow[called, w]
        if more:
            follow[called, w] |= more
            grown = True
    return grown


@njit
def _has_twice(edge_class, begin, end):  # type: ignore[no-untyped-def]
    """Whether several edges are by one class."""
    if end - begin < 2:
        return False
    seen0, seen1, seen2, seen3 = uint64(0), uint64(0), uint64(0), uint64(0)
    for e in range(begin, end):
        bit = uint64(1) << uint64(edge_class[e] & 63)
        word = edge_class[e] >> 6
        if word == 0:
            if seen0 & bit:
                return True
            seen0 |= bit
        elif word == 1:
            if seen1 & bit:
                return True
            seen1 |= bit
        elif word == 2:
            if seen2 & bit:
                return True
            seen2 |= bit
        else:
            if seen3 & bit:
                return True
            seen3 |= bit
    return False


@njit(
    f"int64({_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, int64)",
    cache=True,
    nogil=True,
)
def rule_kind(  # type: ignore[no-untyped-def]
    rule_of, edge_offset, edge_class, call_offset, bag_of, accept_from, count_limit, count_cap, q
):
    """What kind the rule of a program state is: ``CALLING``, ``COUNTING`` and ``SPLITTING``.

    Args:
        rule_of to count_cap: of the program, see ``grammars.program``; states of a rule stand together.
    """
    rule = rule_of[q]
    first, last = q, q + 1
    while first > 0 and rule_of[first - 1] == rule:
        first -= 1
    while last < len(rule_of) and rule_of[last] == rule:
        last += 1
    kind = 0
    if call_offset[last] > call_offset[first]:
        kind = CALLING
    for state in range(first, last):
        if bag_of[state] >= 0:
            kind |= CALLING
        if kind & (CALLING | SPLITTING) == 0 and _has_twice(
            edge_class, edge_offset[state], edge_offset[state + 1]
        ):
            kind |= SPLITTING
        accepts = accept_from[state]
        if (
            count_limit[state] != UNBOUNDED
            or count_cap[state] != UNBOUNDED
            or (accepts != 0 and accepts != UNBOUNDED)
        ):
            kind |= COUNTING
        if kind & CALLING and kind & COUNTING:
            break
    return kind


@njit(
    f"void({_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, "
    "Array(uint64, 2, 'C', readonly=True), uint64[:, ::1])",
    cache=True,
    nogil=True,
)
def follow_sets(  # type: ignore[no-untyped-def]
    rule_of, call_offset, call_start, call_return, bag_offset, bag_start, bag_return, accept_from,
    first, follow,
):  # fmt: skip
    """Which byte classes can come after each rule of a program.

    Args:
        rule_of to first: of the program, see ``grammars.program``.
        follow: uint64[R, 4] of zeros; receives the sets of classes.
    """
    for e in range(len(call_start)):
        _add_follow(follow, rule_of[call_start[e]], first, call_return[e] >> 1)
    # a bag, too, is followed by its separators: costs are worked out item by item
    bags = len(bag_return) // 4
    for bag in range(bags):
        calling = rule_of[bag_return[4 * bag + 1]]
        for flag in range(1, 4):
            after = bag_return[4 * bag + flag]
            _add_follow(follow, calling, first, after)
            for i in range(bag_offset[bag], bag_offset[bag + 1]):
                _add_follow(follow, rule_of[bag_start[i]], first, after)
    # where a rule may end behind a call, what comes after it comes after the called one: there and back,
    # as chains of calls go through rules upwards or downwards
    passing = len(call_start) + 3 * bag_offset[bags] if bags else len(call_start)
    callers, called = np.empty(passing, np.int32), np.empty(passing, np.int32)
    latest = np.full(len(follow), -1, np.int32)  # the rule that was last noted to call each
    found = 0
    for q in range(len(rule_of)):
        for e in range(call_offset[q], call_offset[q + 1]):
            rule = rule_of[call_start[e]]
            if latest[rule] != rule_of[q] and accept_from[call_return[e] >> 1] != UNBOUNDED:
                callers[found], called[found] = rule_of[q], rule
                latest[rule] = rule_of[q]
                found += 1
    for bag in range(bags):
        for flag in range(1, 4):
            if accept_from[bag_return[4 * bag + flag]] == UNBOUNDED:
                continue
            for i in range(bag_offset[bag], bag_offset[bag + 1]):
                callers[found] = rule_of[bag_return[4 * bag + 1]]
                called[found] = rule_of[bag_start[i]]
                found += 1
    changed = True
    backwards = False
    while changed:
        changed = False
        for j in range(found):
            i = found - 1 - j if backwards else j
            changed |= _add_follow(follow, called[i], follow, callers[i])
        backwards = not backwards


@njit(
    f"int64({_INTS}, int64, {_BYTES}, {_INTS}, int64, boolean, int32[::1], int32[::1], int16[::1], "
    "uint8[::1])",
    cache=True,
    nogil=True,
)
def read_shape(  # type: ignore[no-untyped-def]
    table, classes, byte_class, accept_from, q, whole, numbers, states, out, accepts
):
    """The part of a call-free rule's automaton that a state reaches, in canonical numbering.

    States are numbered as bytes 0 to 255, state by state, lead to them: the nearest first.

    Args:
        table, classes, byte_class, accept_from: of the program.
        q: a program state of a call-free, deterministic rule.
        whole: whether nothing is wanted if there are more states than there is room for.
        numbers: int32[Q] of zeros; left so.
        states: int32[L], room for L states; receives the program states.
        out: int16[256 * L], receives ``number << 1 | inc`` by state and byte, -1 for none, ``UNREAD``
            where there was no room for the state.
        accepts: uint8[L], receives whether a state ends the rule at some count.

    Returns:
        How many states there are, or -1 if more than there is room for.
    """
    most = len(states)
    states[0] = q
    numbers[q] = 1
    found = 1
    fits = True
    i = 0
    while i < found and (fits or not whole):
        row = int64(states[i]) * classes
        accepts[i] = accept_from[states[i]] != UNBOUNDED
        for byte in range(256):
            target = int64(table[row + byte_class[byte]])
            if target < 0:
                out[256 * i + byte] = int16(-1)
                continue
            state = target >> 1
            if numbers[state] == 0:
                if found == most:
                    fits = False
                    out[256 * i + byte] = int16(UNREAD)
                    continue
                states[found] = state
                found += 1
                numbers[state] = found
            out[256 * i + byte] = int16((numbers[state] - 1) << 1 | (target & 1))
        i += 1
    for j in range(found):
        numbers[states[j]] = 0
    return found if fits or not whole else -1


_MANY_BYTES: Final = 10
"""Bytes that lead on from a state from which on it may be one that text stays among."""
_MOST_BESIDE: Final = 256
"""States beside these that are looked at."""
_FAR_BESIDE: Final = 16
"""How many bytes from them (a pair of escaped surrogates takes twelve)."""
_PROPER: Final = 1
_MANY: Final = 2


@njit
def _kind_of_state(  # type: ignore[no-untyped-def]
    edge_offset, edge_class, call_offset, bag_of, accept_from, class_size, q, strict
):
    """Flags: whether a state is as :func:`read_inner` wants it, and whether many bytes lead on."""
    begin, end = edge_offset[q], edge_offset[q + 1]
    if begin == end:
        return 0
    if strict and (
        call_offset[q] != call_offset[q + 1]
        or bag_of[q] >= 0
        or accept_from[q] != UNBOUNDED
        or _has_twice(edge_class, begin, end)
    ):
        return 0
    size = 0
    for e in range(begin, end):
        size += class_size[edge_class[e]]
    return _PROPER | _MANY if size >= _MANY_BYTES else _PROPER


@njit
def _number_inner(  # type: ignore[no-untyped-def]
    edge_offset, edge_class, edge_target, byte_class, classes, q, near, steps, numbers, merged, states,
    out, leaves,
):  # fmt: skip
    """Writes what :func:`read_inner` found in canonical numbering; its size, or -1 without room.

    With ``merged`` one state stands for all behind.
    """
    most = len(states)
    place = np.full(len(near), -1, np.int32)
    by_class = np.empty(classes, np.int32)
    states[0], leaves[0], place[numbers[q] - 1] = q, 0, 0
    size, behind, leaf = 1, 0, -1
    i = 0
    while i < size:
        if leaves[i]:
            out[256 * i : 256 * i + 256] = int16(-1)
            i += 1
            continue
        by_class[:] = -1
        for e in range(edge_offset[states[i]], edge_offset[states[i] + 1]):
            c = edge_class[e]
            target = edge_target[e] >> 1
            at = numbers[target] - 1
            if by_class[c] < 0 or (at >= 0 and steps[at] >= 0):  # one that is kept goes first
                by_class[c] = target
        for byte in range(256):
            target = by_class[byte_class[byte]]
            if target < 0:
                out[256 * i + byte] = int16(-1)
                continue
            at = numbers[target] - 1
            kept = at >= 0 and steps[at] >= 0
            number = -1
            if merged and not kept:
                number = leaf
            elif at >= 0:
                number = place[at]
            else:  # not looked at: there are few of these
                for j in range(size):
                    if states[j] == target:
                        number = j
            if number < 0:
                if size == most:
                    return -1
                number = size
                size += 1
                states[number], leaves[number] = target, 0
                if at >= 0:
                    place[at] = number
                if not kept:
                    leaf = number
                    behind += 1
                    leaves[number] = min(behind, 255)
            out[256 * i + byte] = int16(number << 1)
        i += 1
    return size


@njit(
    f"int64({_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, {_BYTES}, {_INTS}, int64, boolean, "
    "int32[::1], int32[::1], int16[::1], uint8[::1])",
    cache=True,
    nogil=True,
)
def read_inner(  # type: ignore[no-untyped-def]
    edge_offset, edge_class, edge_target, call_offset, bag_of, accept_from, byte_class, class_size, q,
    strict, numbers, states, out, leaves,
):  # fmt: skip
    """The states among which a text stays that goes on from one, and the first behind them.

    Those that can be reached along states from which many bytes lead on, and detours that only lead back
    to these, as escapes do.  What is behind, such as the rest of an object after a string in it, is left
    out: so all strings are alike, whatever they stand in.  Numbered as bytes 0 to 255 lead to them.

    Args:
        edge_offset to accept_from: of the program; the state's rule does not count.
        byte_class, class_size: the class of each byte, and how many bytes each has.
        q: the program state.
        strict: whether states are left out that call rules, end theirs, or have several edges by one byte.
            Else what is found is a part of what they do, and one state stands for all behind.
        numbers: int32[Q] of zeros; left so.
        states: int32[L], room for L states; receives the program states.
        out: int16[256 * L], receives ``number << 1`` by state and byte, -1 for none.
        leaves: uint8[L], receives 0 for the states found, numbers from 1 for those behind, of which no
            edges are given.

    Returns:
        How many states there are, or -1 if more than there is room for, or if the state itself is left out.
    """
    most = len(states)
    near = np.empty(most + _MOST_BESIDE, np.int32)
    # steps from a state with many bytes; -1 once it is left out
    steps = np.zeros(most + _MOST_BESIDE, np.int32)
    if not _kind_of_state(
        edge_offset, edge_class, call_offset, bag_of, accept_from, class_size, q, strict
    ):
        return -1
    near[0] = q
    numbers[q] = 1
    inner = 1
    i = 0
    while i < inner:
        for e in range(edge_offset[near[i]], edge_offset[near[i] + 1]):
            target = edge_target[e] >> 1
            if numbers[target] == 0 and inner < most:
                kind = _kind_of_state(
                    edge_offset, edge_class, call_offset, bag_of, accept_from, class_size, target,
                    strict,
                )  # fmt: skip
                if kind & _MANY:
                    near[inner] = target
                    inner += 1
                    numbers[target] = inner
        i += 1
    found = inner
    i = 0
    while i < found:  # detours
        if i < inner or (
            steps[i] < _FAR_BESIDE
            and _kind_of_state(
                edge_offset, edge_class, call_offset, bag_of, accept_from, class_size, near[i],
                strict,
            )
        ):  # fmt: skip
            for e in range(edge_offset[near[i]], edge_offset[near[i] + 1]):
                target = edge_target[e] >> 1
                if numbers[target] == 0 and found < len(near):
                    near[found], steps[found] = target, steps[i] + 1
                    found += 1
                    numbers[target] = found
        else:
            steps[i] = -1
        i += 1
    changed = True
    while changed:
        changed = False
        for i in range(found - 1, inner - 1, -1):
            if steps[i] < 0:
                continue
            for e in range(edge_offset[near[i]], edge_offset[near[i] + 1]):
                at = numbers[edge_target[e] >> 1] - 1
                if at < 0 or steps[at] < 0:
                    steps[i] = -1
                    changed = True
                    break
    size = _number_inner(
        edge_offset, edge_class, edge_target, byte_class, len(class_size), q, near[:found],
        steps, numbers, not strict, states, out, leaves,
    )  # fmt: skip
    for i in range(found):
        numbers[near[i]] = 0
    return size


@njit(
    f"int64({_INTS}, int64, {_BYTES}, int64, int32[::1], int64)",
    cache=True,
    nogil=True,
)
def usual_state(table, classes, byte_class, q, numbers, steps):  # type: ignore[no-untyped-def]
    """The state that most bytes lead to, over and over, until it leads to itself.

    Args:
        table, classes, byte_class: of the program.
        q: a program state of a call-free, deterministic rule.
        numbers: int32[Q] of zeros; left so.
        steps: how often to go on at most.

    Returns:
        The state; -1 if there is none, or none but q.
    """
    at = q
    for _ in range(steps):
        best = int64(-1)
        for byte in range(256):
            target = int64(table[at * classes + byte_class[byte]])
            if target >= 0:
                numbers[target >> 1] += 1
                if best < 0 or numbers[target >> 1] > numbers[best]:
                    best = target >> 1
        for byte in range(256):
            target = int64(table[at * classes + byte_class[byte]])
            if target >= 0:
                numbers[target >> 1] = 0
        if best < 0 or best == at:
            return -1 if best < 0 or at == q else at
        at = best
    return -1


@njit
def _set_tokens(row, tokens, begin, end):  # type: ignore[no-untyped-def]
    for k in range(begin, end):
        token = tokens[k]
        row[token >> 5] |= int32(1) << int32(token & 31)


@njit
def _clear_tokens(row, tokens, begin, end):  # type: ignore[no-untyped-def]
    for k in range(begin, end):
        token = tokens[k]
        row[token >> 5] &= ~(int32(1) << int32(token & 31))


ACCEPTS: Final = 0
"""Row of a lexeme's bounds, by state: least count at which it ends the rule; ``UNBOUNDED`` if never."""
LEAST: Final = 1
"""Count below which the state is dead."""
MOST: Final = 2
"""Count above which it is dead."""
CAP: Final = 3
"""Count that all larger ones are taken for."""


_LOOK_AT: Final = 512
"""Trie nodes after which a walk that begins with another is looked at as one that does not."""


@njit
def _stops(bounds, listing):  # type: ignore[no-untyped-def]
    """uint8[L]: states at which something is to be noted or counts matter, whatever comes."""
    size = bounds.shape[1]
    out = np.zeros(size, np.uint8)
    for q in range(size):
        out[q] = (listing and bounds[ACCEPTS, q] != UNBOUNDED) or bounds[LEAST, q] > 0
    return out


@njit
def _find_closed_states(table, stops, start, ordinary, closed):  # type: ignore[no-untyped-def]
    """Finds states that a text stays among, whatever ordinary characters it has: of which kind of loop.

    Most patterns only wait for something within a text: whatever is written, they go on.
    """
    if len(closed) <= _MOST_CLOSED:
        for kind in (TEXT_LOOP, LINE_LOOP):
            find_closed(table, stops, ordinary, kind, closed)
            if closed[start] & 1:
                return kind
    closed[:] = 0
    return NO_LOOP


@njit
def _as_words(flags):  # type: ignore[no-untyped-def]
    """Flags of ASCII bytes as two words of bits."""
    low, high = uint64(0), uint64(0)
    for byte in range(128):
        if flags[byte] and byte < 64:
            low |= uint64(1) << uint64(byte)
        elif flags[byte]:
            high |= uint64(1) << uint64(byte - 64)
    return low, high


@njit
def _note_lacking(path, depth, node, ends, entries, found):  # type: ignore[no-untyped-def]
    """Notes a node that the automaton does not enter, and nodes above it, where the rule may end before.

    Args:
        path: int32[D, 7], among them the state, node, whether the rule may end there, whether that was noted
            as 0 and 2 to 4.
        ends: uint8[L], numbers of states that end.
        entries: int32[2, E], receives the nodes, and the number of the state where the rule ends.

    Returns:
        How many entries there are now.
    """
    if path[depth - 1, 3]:
        entries[0, found], entries[1, found] = node, ends[path[depth - 1, 0]]
        found += 1
    at = depth - 1
    while at > 0 and not path[at, 4]:
        path[at, 4] = 1
        if path[at - 1, 3]:
            entries[0, found], entries[1, found] = path[at, 2], ends[path[at - 1, 0]]
            found += 1
        at -= 1
    return found


@njit
def _awaits_lacking(path, depth):  # type: ignore[no-untyped-def]
    """Whether :func:`_note_lacking` would note a node."""
    if path[depth - 1, 3]:
        return True
    at = depth - 1
    while at > 0 and not path[at, 4]:
        if path[at - 1, 3]:
            return True
        at -= 1
    return False


@njit
def _any_lacking(row, tokens, begin, end):  # type: ignore[no-untyped-def]
    """Whether a mask lacks any of some tokens."""
    for k in range(begin, end):
        token = tokens[k]
        if (row[token >> 5] >> int32(token & 31)) & int32(1) == 0:
            return True
    return False


NO_STATE: Final = -1
"""In place of a state of a lexeme's automaton: none."""
_MOST_PAIRS: Final = 1_024
"""Pairs of states that are looked at to tell two of them apart."""
_MOST_PASSES: Final = 32
"""How often these are gone over."""
_USEFUL: Final = 16
"""What makes a number worth keeping that is too small where not all pairs behind were looked at."""
EQUAL: Final = 255
"""What :func:`tell_apart` writes for states that no text tells apart; one less stands for more, too."""


@njit
def _bytes_to_tell(table, accepts, bytes_, a, b, apart):  # type: ignore[no-untyped-def]
    """One more than the bytes that tell two states apart, by what is known of those behind them."""
    size = len(accepts)
    if accepts[a] != accepts[b]:
        return 1
    best = EQUAL
    for byte in bytes_:
        to_a, to_b = int64(table[256 * a + byte]), int64(table[256 * b + byte])
        if to_a == to_b and to_a != UNREAD:
            continue
        if to_a < 0 or to_b < 0 or (to_a ^ to_b) & 1:
            return 2
        known = int64(apart[(to_a >> 1) * size + (to_b >> 1)])
        if known != EQUAL:
            # 0 for pairs that were not looked at, which may differ at once
            best = min(best, min(max(known, 1) + 1, EQUAL - 1))
    return best


@njit(f"int64(int16[::1], uint8[::1], {_BYTES}, int64, int64, uint8[::1])", cache=True, nogil=True)
def tell_apart(table, accepts, bytes_, first, second, apart):  # type: ignore[no-untyped-def]
    """Finds by how many bytes two states of a lexeme's automaton are told apart, and all pairs behind them.

    Args:
        table, accepts: see :func:`read_shape`.
        bytes_: uint8, one byte of each class that the automaton tells apart.
        first, second: different states.
        apart: uint8[L * L], by two states one more than the fewest bytes of a text that one of them
            goes on with, ends after, or counts otherwise than the other; ``EQUAL`` if there is none; 0
            where it was not looked for.  Only the latter are written.  Where that takes too much work, or
            there are states that were not read, it is a lower bound.

    Returns:
        What stands there for the two.
    """
    size = len(accepts)
    if apart[first * size + second]:
        return int64(apart[first * size + second])
    one, other = np.empty(_MOST_PAIRS, np.int32), np.empty(_MOST_PAIRS, np.int32)
    one[0], other[0] = first, second
    apart[first * size + second] = EQUAL
    found = 1
    i = 0
    fits = True
    while i < found:
        a, b = int64(one[i]), int64(other[i])
        for byte in bytes_:
            to_a, to_b = int64(table[256 * a + byte]), int64(table[256 * b + byte])
            if to_a < 0 or to_b < 0:
                continue
            to_a, to_b = to_a >> 1, to_b >> 1
            if to_a == to_b or apart[to_a * size + to_b]:
                continue
            if found == _MOST_PAIRS:
                fits = False
                continue
            one[found], other[found] = to_a, to_b
            apart[to_a * size + to_b] = EQUAL
            found += 1
        i += 1
    changed = True
    passes = 0
    while changed and passes < _MOST_PASSES:
        changed = False
        passes += 1
        for j in range(found - 1, -1, -1):
            at = int64(one[j]) * size + other[j]
            known = _bytes_to_tell(table, accepts, bytes_, int64(one[j]), int64(other[j]), apart)
            if known != apart[at]:
                apart[at] = known
                changed = True
    for j in range(found):
        at = int64(one[j]) * size + other[j]
        if changed:  # so many passes find all that differ by so many bytes
            apart[at] = min(int64(apart[at]), passes + 1)
        if not fits and j > 0 and apart[at] < _USEFUL:
            apart[at] = 0
    return int64(apart[first * size + second])


@njit
def _margins(bounds):  # type: ignore[no-untyped-def]
    """Counts between which bounds do not matter: (largest, from where on all may end, below which none).

    The second is ``UNBOUNDED`` if counts are capped before.  Below the third states with a least count are
    dead, too.
    """
    most, need, cap, never = int64(UNBOUNDED), int64(0), int64(UNBOUNDED), int64(UNBOUNDED)
    for q in range(bounds.shape[1]):
        accepts, least = int64(bounds[ACCEPTS, q]), int64(bounds[LEAST, q])
        most, cap = min(most, int64(bounds[MOST, q])), min(cap, int64(bounds[CAP, q]))
        need = max(need, least)
        if accepts != UNBOUNDED:
            need, never = max(need, accepts), min(never, accepts)
        if least > 0:
            never = min(never, least)
    return most, need if need <= cap else int64(UNBOUNDED), never


@njit
def _least_counts(bounds, other_bounds):  # type: ignore[no-untyped-def]
    """Whether any state of two walks has a least count, and whether the same ones have in both."""
    some, alike = False, True
    for q in range(bounds.shape[1]):
        here, there = bounds[LEAST, q] > 0, other_bounds[LEAST, q] > 0
        some |= here or there
        alike &= here == there
    return some, alike


@njit
def _are_bounded(bounds):  # type: ignore[no-untyped-def]
    """Whether any count is dead or taken for another."""
    for q in range(bounds.shape[1]):
        if bounds[LEAST, q] > 0 or bounds[MOST, q] != UNBOUNDED or bounds[CAP, q] != UNBOUNDED:
            return True
    return False


@njit
def _is_free(n, height, most, need, never):  # type: ignore[no-untyped-def]
    """Whether bounds make no difference to so many more bytes: 1 if all may end, 2 if none, 0 if they do."""
    if n + height > most:
        return 0
    if n >= need:
        return 1
    return 2 if n + height < never else 0


@njit
def _look_for_loop(table, accepts, q, loops):  # type: ignore[no-untyped-def]
    """Writes what is known of a state's loop, see :func:`walk_lexeme`."""
    same = np.empty(256, np.uint8)
    for byte in range(256):
        same[byte] = byte
    for inc in range(2):
        kind, low, high = find_loop(table, 256, same, accepts, UNBOUNDED, q, int64(inc))
        loops[q, 1], loops[q, 2], loops[q, 3] = low, high, uint64(inc)
        loops[q, 0] = uint64(LOOKED + kind)
        if kind != NO_LOOP:
            break


@njit(
    f"void(int16[::1], {_INTS2}, int64, {_LONGS2}, {_INTS}, {_INTS}, {_INTS}, "
    f"int64, {_INTS2}, {_INTS2}, {_BYTES}, {_BYTES}, {_BYTES}, uint64[:, ::1], int32[::1], "
    "int32[:, ::1], int32[:, ::1], int64[::1])",
    cache=True,
    nogil=True,
)
def walk_lexeme(  # type: ignore[no-untyped-def]
    table, bounds, start, records, nodes, t_skip, t_tokens, other, other_bounds, other_entries, apart,
    ends_as, byte_class, loops, row, exits, entries, counts,
):  # fmt: skip
    """A plain automaton over the whole trie: the mask of what stays inside, and where it may end.

    What is known of another state, or of the same with other bounds, is taken over where no text that is
    short enough for what is left of the trie tells the two apart.

    Args:
        table: see :func:`read_shape`.
        bounds: int32[4, L], see ``ACCEPTS``, ``LEAST``, ``MOST`` and ``CAP``.
        start: the state where it begins, with a count of 0.
        records, nodes: see :func:`write_records`.
        t_skip, t_tokens: of the trie.
        other: a state that was walked from before; ``NO_STATE`` for none.
        other_bounds, other_entries: of that walk, the entries ascending by node.
        apart: uint8[L * L], see :func:`tell_apart`.
        ends_as: uint8[L], numbers of states that end the rule.
        byte_class: uint8[256], equal for bytes that are alike.
        loops: uint64[L, 4], by state what is known of its loop: ``LOOKED`` or 0, plus its kind; ASCII bytes
            as two words; how much a character counts.  Zeros at first; what is found is added.
        row: int32[W], the mask of that walk or zeros; receives the bits of the tokens that stay inside.
        exits: int32[5, N], receives where it may end: first node, end, state, count, step.  That is the
            first node and all up to the end (not included) at which a character ends, where each
            character counts one step.  If N is 0 they are not listed; with another state some are lacking.
        entries: int32[2, N], receives the nodes above which the rule may end (right above) and below
            which, or at which, a token does not stay inside; and the number of the state where it ends.
        counts: int64[4], receives the number of exits, the most that one token counts (or more; with another
            state nothing), and the number of entries; the latter is ``UNREAD`` where the walk came upon a
            state that was not read.  Last, the number of trie nodes visited.
    """
    size = bounds.shape[1]
    # where most texts stay: found at once, or, where another walk may soon say all, after a while
    closed, lasting = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    closed_kind, usual_low, usual_high = NO_LOOP, uint64(0), uint64(0)
    look_at = 1 if other < 0 else _LOOK_AT
    alike = other >= 0
    other_most, other_need, other_never, floored = int64(0), int64(0), int64(0), False
    other_entry = 0
    listing = exits.shape[1] > 0
    most_free, need, never = _margins(bounds)
    bounded = _are_bounded(bounds)
    if other >= 0:
        other_most, other_need, other_never = _margins(other_bounds)
        floored, floored_alike = _least_counts(bounds, other_bounds)
        if floored and not floored_alike:
            never, other_never = int64(0), int64(0)
        for column in range(size):
            for line in range(4):
                if bounds[line, column] != other_bounds[line, column]:
                    alike = False
    accepts = bounds[ACCEPTS]
    levels = _height(records, 0) + 2
    path = np.zeros((levels, 7), np.int32)
    # by depth the next record, where its siblings end, and where their tokens do
    ahead = np.zeros((levels, 3), np.int64)
    ahead[1, 0], ahead[1, 1], ahead[1, 2] = 1, _first_child(records, 1), len(t_tokens)
    depth = 1
    path[0, 0], path[0, 5] = start, other
    exited, found, longest = 0, 0, int64(0)
    if accepts[start] <= 0:
        path[0, 3] = 1
        if listing:
            exits[0, 0], exits[1, 0], exits[2, 0], exits[3, 0], exits[4, 0] = 0, 1, start, 0, 0
            exited = 1
    visited = 0
    while True:
        while depth > 0 and ahead[depth, 0] == ahead[depth, 1]:
            depth -= 1
        if depth == 0:
            break
        k = ahead[depth, 0]
        ahead[depth, 0] = k + 1
        visited += 1
        if visited == look_at:
            stops, chosen = _stops(bounds, listing), _ordinary_bytes(table, start)
            find_lasting(table, stops, chosen, byte_class, lasting)
            if lasting[start] == _ALWAYS:
                closed_kind = _find_closed_states(table, stops, start, chosen, closed)
            else:
                chosen = _lasting_bytes(table, start)
                find_lasting(table, stops, chosen, byte_class, lasting)
            usual_low, usual_high = _as_words(chosen)
        byte, first = _byte(records, k), _first_token(records, k)
        last = _first_token(records, k + 1) if k + 1 < ahead[depth, 1] else ahead[depth, 2]
        target = int64(table[256 * path[depth - 1, 0] + byte])
        q = target >> 1
        n = int64(0)
        if target >= 0:
            n = path[depth - 1, 1] + (target & 1)
            if bounded:
                n = min(n, int64(bounds[CAP, q]))
        before, m = int64(path[depth - 1, 5]), int64(0)
        if before >= 0:
            step = int64(table[256 * before + byte])
            before = step >> 1
            if step == UNREAD:  # what that walk set below is not known
                _clear_tokens(row, t_tokens, first, last)
                before = int64(NO_STATE)
            elif step >= 0:
                m = min(path[depth - 1, 6] + (step & 1), int64(other_bounds[CAP, before]))
                if m < other_bounds[LEAST, before] or m > other_bounds[MOST, before]:
                    before = int64(NO_STATE)
        if target == UNREAD:
            counts[2], counts[3] = UNREAD, visited
            return
        if target < 0 or (bounded and (n < bounds[LEAST, q] or n > bounds[MOST, q])):
            found = _note_lacking(path, depth, nodes[k], ends_as, entries, found)
            if before >= 0:
                _clear_tokens(row, t_tokens, first, last)
            continue
        height = _height(records, k)
        if before >= 0:
            free = _is_free(n, height, most_free, need, never)
            free_there = _is_free(m, height, other_most, other_need, other_never)
            if floored and (free != free_there or (free == 2 and before != q)):
                free = 0  # what is dead below its least count here may be alive there
            known = int64(EQUAL) if before == q else int64(apart[q * size + before])
            if (known == EQUAL or known > height + 1) and (
                (alike and n == m) or (free and free >= free_there > 0)
            ):
                if _awaits_lacking(path, depth) and _any_lacking(row, t_tokens, first, last):
                    found = _note_lacking(path, depth, nodes[k], ends_as, entries, found)
                i = int64(nodes[k])
                skip = int64(t_skip[i])
                while other_entry < other_entries.shape[1] and other_entries[0, other_entry] <= i:
                    other_entry += 1
                while other_entry < other_entries.shape[1] and other_entries[0, other_entry] < skip:
                    if free != 2:  # then nothing ends here, though it may for the other
                        entries[0, found] = other_entries[0, other_entry]
                        entries[1, found] = other_entries[1, other_entry]
                        found += 1
                    other_entry += 1
                continue
        longest = max(longest, n)
        most = n + height
        if most <= most_free and (
            _stays(closed[q], closed_kind, usual_low, usual_high, records, k)
            or (height < lasting[q] and _stays(1, ASCII_LOOP, usual_low, usual_high, records, k))
        ):
            longest = max(longest, most)
            _set_tokens(row, t_tokens, first, last)
            continue
        if loops[q, 0] == uint64(0):
            _look_for_loop(table, accepts, q, loops)
        ends = n >= accepts[q]
        loop, step = int64(loops[q, 0]) - LOOKED, int64(loops[q, 3])
        if (
            loop != NO_LOOP
            and (ends or accepts[q] == UNBOUNDED)
            and (step == 0 or most <= bounds[MOST, q])
            and _stays(1, loop, loops[q, 1], loops[q, 2], records, k)
        ):
            longest = max(longest, most if step else n)
            _set_tokens(row, t_tokens, first, last)
            if ends and listing:
                i = nodes[k]
                exits[0, exited], exits[1, exited], exits[2, exited] = i, t_skip[i], q
                exits[3, exited], exits[4, exited] = n, step
                exited += 1
            continue
        i = int64(nodes[k])
        path[depth, 0], path[depth, 1], path[depth, 2] = q, n, i
        path[depth, 3], path[depth, 4], path[depth, 5], path[depth, 6] = ends, 0, before, m
        child, end = _first_child(records, k), _first_child(records, k + 1)
        _set_tokens(row, t_tokens, first, _first_token(records, child) if child < end else last)
        if ends and listing:
            exits[0, exited], exits[1, exited], exits[2, exited] = i, i + 1, q
            exits[3, exited], exits[4, exited] = n, 0
            exited += 1
        depth += 1
        ahead[depth, 0], ahead[depth, 1], ahead[depth, 2] = child, end, last
    counts[0], counts[1], counts[2], counts[3] = exited, longest, found, visited


@njit(f"void({_BYTES}, {_SHORTS}, {_SHORTS}, uint16[::1], uint8[::1])", cache=True, nogil=True)
def count_characters(t_byte, t_depth, deepest, characters, ends):  # type: ignore[no-untyped-def]
    """How many UTF-8 characters end on the way to each trie node, and whether one ends there.

    A byte that cannot go on with the character begun begins another.

    Args:
        characters: uint16[N], receives the numbers.
        ends: uint8[N], receives the truth values.
    """
    positions = np.zeros(int64(deepest[0]) + 2, np.int64)
    numbers = np.zeros(int64(deepest[0]) + 2, np.int64)
    ends[0] = 1
    for i in range(1, len(t_byte)):
        depth = int64(t_depth[i])
        byte = int64(t_byte[i])
        position = after_byte(positions[depth - 1], byte)
        if position < 0:
            position = max(after_byte(int64(0), byte), 0)
        positions[depth] = position
        numbers[depth] = numbers[depth - 1] + (position == 0)
        characters[i] = numbers[depth]
        ends[i] = position == 0


@njit(
    f"int64({_INTS2}, Array(uint16, 1, 'C', readonly=True), {_BYTES}, int32[:, ::1])",
    cache=True,
    nogil=True,
)
def list_exits(exits, characters, ends, out):  # type: ignore[no-untyped-def]
    """All nodes of exits, one by one.

    Args:
        exits: int32[5, E], see :func:`walk_lexeme`.
        characters, ends: see :func:`count_characters`.
        out: int32[3, M], receives node, state and count of each.

    Returns:
        How many nodes there are.
    """
    found = 0
    for e in range(exits.shape[1]):
        first, state, count, step = exits[0, e], exits[2, e], exits[3, e], exits[4, e]
        for i in range(first, exits[1, e]):
            if i == first or ends[i]:
                out[0, found], out[1, found] = i, state
                out[2, found] = count + step * (int64(characters[i]) - int64(characters[first]))
                found += 1
    return found


@njit(
    f"int64(int16[::1], {_INTS}, {_LONGS2}, {_INTS}, {_SHORTS}, uint64[:, ::1], int32[:, ::1])",
    cache=True,
    nogil=True,
)
def list_lexeme_ends(table, accepts, records, t_tokens, token_depth, loops, ends):  # type: ignore[no-untyped-def]
    """Where a plain automaton is after each token that stays inside, and how much the token counts.

    Args:
        table, accepts: see :func:`read_shape` and ``ACCEPTS``.
        records: see :func:`write_records`.
        t_tokens: of the trie.
        token_depth: uint16[T], bytes of each of these.
        loops: see :func:`walk_lexeme`.
        ends: int32[3, M], receives token, state and count, in trie order.

    Returns:
        How many tokens there are.
    """
    levels = _height(records, 0) + 2
    path = np.zeros((levels, 2), np.int64)
    ahead = np.zeros((levels, 3), np.int64)
    ahead[1, 0], ahead[1, 1], ahead[1, 2] = 1, _first_child(records, 1), len(t_tokens)
    depth, found = 1, 0
    while True:
        while depth > 0 and ahead[depth, 0] == ahead[depth, 1]:
            depth -= 1
        if depth == 0:
            return found
        k = ahead[depth, 0]
        ahead[depth, 0] = k + 1
        target = int64(table[256 * path[depth - 1, 0] + _byte(records, k)])
        if target < 0:
            continue
        q, n = target >> 1, path[depth - 1, 1] + (target & 1)
        first = _first_token(records, k)
        last = _first_token(records, k + 1) if k + 1 < ahead[depth, 1] else ahead[depth, 2]
        if loops[q, 0] == uint64(0):
            _look_for_loop(table, accepts, q, loops)
        if loops[q, 0] != uint64(LOOKED + NO_LOOP) and _stays(
            1, ASCII_LOOP, loops[q, 1], loops[q, 2], records, k
        ):
            step = int64(loops[q, 3])
            for t in range(first, last):
                ends[0, found], ends[1, found] = t_tokens[t], q
                ends[2, found] = n + step * (int64(token_depth[t]) - depth)
                found += 1
            continue
        child, end = _first_child(records, k), _first_child(records, k + 1)
        for t in range(first, _first_token(records, child) if child < end else last):
            ends[0, found], ends[1, found], ends[2, found] = t_tokens[t], q, n
            found += 1
        path[depth, 0], path[depth, 1] = q, n
        depth += 1
        ahead[depth, 0], ahead[depth, 1], ahead[depth, 2] = child, end, last


@njit(
    "int64(int32[:, ::1], int64, int64, int64, int32[:, ::1], int32[::1], int32[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def group_ends(ends, count, states, longest, groups, group, by_group, starts):  # type: ignore[no-untyped-def]
    """Groups tokens by the state they lead to and how much they count.

    Args:
        ends, count: from :func:`list_lexeme_ends`.
        states, longest: bounds: states are below, counts at most so large.
        groups: int32[states * (longest + 1), 2], receives the distinct (state, count), ascending.
        group: int32[T], receives the row of ``groups`` for each token.
        by_group: int32[T], receives the tokens, group by group.
        starts: int32[states * (longest + 1) + 1], receives where each group begins in ``by_group``.

    Returns:
        How many groups there are.
    """
    width = longest + 1
    sizes = np.zeros(states * width, np.int32)
    for i in range(count):
        sizes[ends[1, i] * width + ends[2, i]] += 1
    found = 0
    at = 0
    for code in range(states * width):
        if sizes[code]:
            groups[found, 0], groups[found, 1] = code // width, code % width
            starts[found] = at
            at += sizes[code]
            sizes[code] = found
            found += 1
    starts[found] = at
    following = starts[:found].copy()
    for i in range(count):
        g = sizes[ends[1, i] * width + ends[2, i]]
        group[i] = g
        by_group[following[g]] = ends[0, i]
        following[g] += 1
    return found


@njit(
    f"void({_INTS}, {_INTS}, {_INTS}, uint8[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def select_groups(mask, tokens, starts, fits, row):  # type: ignore[no-untyped-def]
    """The mask of the tokens of some groups, from the mask of all or from none, whichever is nearer.

    Args:
        mask: int32[W], all tokens.
        tokens, starts: tokens of group g are ``tokens[starts[g]:starts[g + 1]]``.
        fits: uint8[G], the groups to keep.
        row: int32[W], receives the mask.
    """
    kept = 0
    for g in range(len(fits)):
        if fits[g]:
            kept += starts[g + 1] - starts[g]
    whole = 2 * kept > len(tokens)
    for w in range(len(row)):
        row[w] = mask[w] if whole else int32(0)
    for g in range(len(fits)):
        if whole and not fits[g]:
            _clear_tokens(row, tokens, starts[g], starts[g + 1])
        elif fits[g] and not whole:
            _set_tokens(row, tokens, starts[g], starts[g + 1])


@njit
def meets(ascii_below, below, i, low, high, beyond):  # type: ignore[no-untyped-def]
    """Whether some of the bytes occur below a trie node."""
    if ascii_below[2 * i] & low or ascii_below[2 * i + 1] & high:
        return True
    return beyond and below[i] & HIGH_BELOW != 0


@njit(f"void({_INTS}, {_INTS}, int32[::1])", cache=True, nogil=True)
def count_lacking(mask, t_tokens, out):  # type: ignore[no-untyped-def]
    """How many tokens, in the order of the trie, a mask lacks up to each.

    Args:
        mask: int32[W].
        t_tokens: int32[T].
        out: int32[T + 1], receives the numbers, 0 first.
    """
    out[0] = 0
    for k in range(len(t_tokens)):
        token = t_tokens[k]
        out[k + 1] = out[k] + 1 - ((mask[token >> 5] >> int32(token & 31)) & int32(1))


@njit(
    f"int64({_BYTES}, {_INTS}, {_LONGS}, {_SHORTS}, {_INTS}, Array(boolean, 1, 'C'), int32[::1], "
    "int32[::1])",
    cache=True,
    nogil=True,
)
def list_entries(t_byte, t_skip, ascii_below, below, nodes, follow, children, owner):  # type: ignore[no-untyped-def]
    """Children of trie nodes by some bytes.

    Args:
        t_byte, t_skip, ascii_below, below: of the trie and :func:`summarize`.
        nodes: int32[M].
        follow: bool[256].
        children, owner: int32[R], receive each child and the place of its parent in ``nodes``.

    Returns:
        How many there are; if more than R, the first R were written.
    """
    low, high, beyond = uint64(0), uint64(0), False
    for byte in range(256):
        if follow[byte]:
            if byte < 64:
                low |= uint64(1) << uint64(byte)
            elif byte < 128:
                high |= uint64(1) << uint64(byte - 64)
            else:
                beyond = True
    found = 0
    for place in range(len(nodes)):
        node = int64(nodes[place])
        if not meets(ascii_below, below, node, low, high, beyond):
            continue
        i = node + 1
        end = int64(t_skip[node])
        while i < end:
            if follow[t_byte[i]]:
                if found < len(children):
                    children[found] = i
                    owner[found] = place
                found += 1
            i = int64(t_skip[i])
    return found


@njit(
    "int64(Array(int32, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), "
    "Array(int32, 1, 'C', readonly=True), uint8[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def list_groups(children, keys, parents, keep, out):  # type: ignore[no-untyped-def]
    """Trie nodes in groups of equal keys, as ``kernels.fill_after`` reads them.

    Args:
        children, keys: int32[E], int64[E], nodes and what those that are alike have in common,
            sorted by key.
        parents: int32[E], index of each into ``keep``.
        keep: uint8, which to keep.
        out: int32[1 + 2 * E], receives the number of groups; then per group the number of members
            and the members.

    Returns:
        How much of ``out`` was written.
    """
    groups = 0
    at = 1
    size_at = 0
    last = int64(-1)
    for e in range(len(children)):
        if not keep[parents[e]]:
            continue
        if groups == 0 or keys[e] != last:
            last = keys[e]
            groups += 1
            size_at = at
            out[size_at] = 0
            at += 1
        out[size_at] += 1
        out[at] = children[e]
        at += 1
    out[0] = groups
    return at


_FEW_NODES: Final = 256
"""Nodes up to which the tokens below each are looked at one by one."""


@njit(f"int64({_INTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, int32[::1])", cache=True, nogil=True)
def list_groups_beyond(groups, mask, t_skip, t_start, t_tokens, out):  # type: ignore[no-untyped-def]
    """Of trie nodes in groups those below which a mask lacks a token.

    Args:
        groups: see :func:`list_groups`.
        mask: int32[W].
        out: int32, as long as ``groups``; receives the same form.

    Returns:
        How much of ``out`` was written.
    """
    many = len(groups) > _FEW_NODES
    lacking = np.empty(len(t_tokens) + 1 if many else 1, np.int32)
    if many:
        count_lacking(mask, t_tokens, lacking)
    kept_groups = 0
    written = 1
    at = 1
    for _ in range(groups[0]):
        members = groups[at]
        size_at = written
        written += 1
        for j in range(at + 1, at + 1 + members):
            begin, end = int64(t_start[groups[j]]), int64(t_start[t_skip[groups[j]]])
            if many:
                lacks = lacking[end] > lacking[begin]
            else:
                lacks = False
                for k in range(begin, end):
                    token = t_tokens[k]
                    if (mask[token >> 5] >> int32(token & 31)) & int32(1) == 0:
                        lacks = True
                        break
            if lacks:
                out[written] = groups[j]
                written += 1
        at += 1 + members
        out[size_at] = written - size_at - 1
        if out[size_at] == 0:
            written = size_at
        else:
            kept_groups += 1
    out[0] = kept_groups
    return written


@njit
def _first_from(values, least):  # type: ignore[no-untyped-def]
    """The place of the first of ascending values that is at least so large."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < least:
            low = middle + 1
        else:
            high = middle
    return low


LOST: Final = 0
"""What a comparison finds at a node: only the other state goes on."""
NO_EXIT: Final = 1
"""Only the other state may end here."""
LACKING_BELOW: Final = 2
"""The state may end right above, and something is lost at or below the node."""


@njit
def _sort_nodes(nodes, keys, count):  # type: ignore[no-untyped-def]
    """Sorts nodes by key and number in place."""
    gap = 1
    while gap * 3 + 1 < count:
        gap = gap * 3 + 1
    while gap >= 1:
        for i in range(gap, count):
            node, key = nodes[i], keys[i]
            j = i
            while j >= gap and (
                keys[j - gap] > key or (keys[j - gap] == key and nodes[j - gap] > node)
            ):
                nodes[j], keys[j] = nodes[j - gap], keys[j - gap]
                j -= gap
            nodes[j], keys[j] = node, key
        gap //= 3


@njit(
    f"int64({_INTS}, int64, {_BYTES}, {_SHORTS}, {_INTS}, {_INTS}, {_INTS}, {_INTS}, "
    f"Array(boolean, 1, 'C', readonly=True), {_INTS}, int32[::1], int32[::1])",
    cache=True,
    nogil=True,
)
def apply_difference(  # type: ignore[no-untyped-def]
    found, count, t_byte, t_depth, t_skip, t_start, t_tokens, t_class, follow, beyond, row, out
):
    """Takes from a mask, and from what is entered behind it, what one state lacks and the other has.

    Args:
        found, count: pairs (trie node, what), see ``kernels.difference_walk``.
        t_byte to t_class: of the trie, the last by equal subtrees.
        follow: bool[256], by which bytes nodes are entered that matter.
        beyond: int32[M], the entries of :func:`walk_lexeme` from the other state, ascending.
        row: int32[W], the other's mask, changed in place.
        out: int32[1 + 2 * (M + count)], receives those entries in groups, see :func:`list_groups`.

    Returns:
        How much of ``out`` was written.
    """
    nodes = np.empty(len(beyond) + count, np.int32)
    kept = 0
    keep = np.ones(len(beyond), np.uint8)
    for i in range(count):
        node, what = int64(found[2 * i]), found[2 * i + 1]
        if what == LACKING_BELOW:
            if follow[t_byte[node]]:
                nodes[kept] = node
                kept += 1
            continue
        end = int64(t_skip[node])
        if what == LOST:
            _clear_tokens(row, t_tokens, t_start[node], t_start[end])
        at = _first_from(beyond, node + 1)
        while at < len(beyond) and beyond[at] < end:
            if what == LOST or t_depth[beyond[at]] == t_depth[node] + 1:
                keep[at] = 0
            at += 1
    for i in range(len(beyond)):
        if keep[i] and follow[t_byte[beyond[i]]]:
            nodes[kept] = beyond[i]
            kept += 1
    keys = np.empty(kept, np.int64)
    for i in range(kept):
        keys[i] = int64(t_class[nodes[i]]) << 8 | int64(t_byte[nodes[i]])
    _sort_nodes(nodes, keys, kept)
    groups, at, size_at = 0, 1, 0
    for i in range(kept):
        if i > 0 and nodes[i] == nodes[i - 1]:  # noted twice
            continue
        if i == 0 or keys[i] != keys[i - 1]:
            groups += 1
            size_at = at
            out[size_at] = 0
            at += 1
        out[size_at] += 1
        out[at] = nodes[i]
        at += 1
    out[0] = groups
    return at
