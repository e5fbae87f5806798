"""Steps of layers, compiled by Numba; :mod:`samplers.diffusion.stacks` says what they mean.

Sets of nodes have numbers; equal sets have one.  A layer of a thousand heads has some fifty of them.  So
while a step is worked out, the sets it begins with are its *atoms*, and what has been gathered somewhere is
a row of bits, one for each atom: united is only what is left at the end, once for all rows that are
equal.  A row of the work table is found by a key: a place (a head and the position at which it takes over),
an exit (a position at which rules are over), a pair (a head at the cell's end with the frame above it),
or a head of the layer that is made.

Nothing here allocates.  Where room runs out or a move is not known yet, a function says so by a
negative number; the caller makes room and calls again, which is safe because all that is kept of a step
that did not end is found again by content.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray, int64, njit, uint64

from constrain.engine.context import context_at as _context
from constrain.engine.context import i32 as _i32
from constrain.engine.context import i64 as _i64
from constrain.engine.context import mix as _mix
from constrain.engine.context import pointer as _pointer
from constrain.engine.context import u8 as _u8
from constrain.engine.context import u64 as _u64
from constrain.engine.jit import kernels as _k  # noqa: F401 - compiled first, and announced
from constrain.engine.kernels import (
    DEAD,
    END,
    P_BYTE_CLASS,
    S_ACCEPT,
    S_CAN,
    S_COUNT,
    S_F,
    S_N,
    S_OFFSET,
    S_Q,
    advance,
    advance_token,
    step,
)
from constrain.engine.kernels import can_take as _can
from constrain.engine.kernels import intern_one as _intern_one

ROOM_FOR_ROWS: Final = -11
ROOM_FOR_FRAMES: Final = -12
ROOM_FOR_NODES: Final = -13
ROOM_FOR_LAYERS: Final = -14
ROOM_FOR_SETS: Final = -15
ROOM_FOR_GROUPS: Final = -16
ROOM_FOR_UNIONS: Final = -17
ROOM_FOR_PUSHES: Final = -18
ROOM_FOR_BITS: Final = -19
ROOM_FOR_PARTS: Final = -20
MOVES_LACKING: Final = -21
_MORE_ATOMS: Final = -22

# Fields of the table that a kernel is given: the address of an array each, then the length of each,
# then numbers.  ROW_: rows of a step, its atoms (ROW_ATOM, ROW_PART: their groups), frames that take over
# (ROW_FRAME, ROW_TOUCHED, ROW_GATHERED), rows by their bits (ROW_SAME), frames that are pushed and what they
# make (ROW_FRAMES, ROW_OVER), marks of nodes.  SET_: sets of nodes; the groups of one are the heads of
# its nodes, each with all nodes below.  NODE_: nodes, and what frames made on sets (NODE_PUSH).
# LAYER_: layers.  MOVE_: moves of places through any one token.
(
    ROW_KEY,
    ROW_AT,
    ROW_SET,
    ROW_QUEUED,
    ROW_AFTER,
    ROW_SLOTS,
    ROW_STAMPS,
    ROW_FIRST,
    ROW_LAST,
    ROW_BITS,
    ROW_DONE,
    ROW_FRESH,
    ROW_ATOM,
    ROW_ATOM_SLOTS,
    ROW_ATOM_STAMPS,
    ROW_PART_FIRST,
    ROW_PART_COUNT,
    ROW_PART_FRAME,
    ROW_PART_ATOM,
    ROW_FRAME,
    ROW_FRAME_SLOTS,
    ROW_FRAME_STAMPS,
    ROW_TOUCHED,
    ROW_TOUCHED_AT,
    ROW_GATHERED,
    ROW_SAME,
    ROW_SAME_STAMPS,
    ROW_FRAMES,
    ROW_OVER,
    ROW_LACKING,
    ROW_MARK,
    SET_OFFSET,
    SET_SIZE,
    SET_ENDS,
    SET_MEMBER,
    SET_SLOTS,
    SET_GROUP_OFFSET,
    SET_GROUP_SIZE,
    SET_GROUP_FRAME,
    SET_GROUP_SET,
    SET_UNION_KEY,
    SET_UNION_SET,
    NODE_HEAD,
    NODE_BELOW,
    NODE_ALONE,
    NODE_SLOTS,
    NODE_PUSH_KEY,
    NODE_PUSH_SET,
    LAYER_OFFSET,
    LAYER_SIZE,
    LAYER_ENDS,
    LAYER_HASH,
    LAYER_HEAD,
    LAYER_SET,
    LAYER_SLOTS,
    MOVE_KEYS,
    MOVE_NUMBER,
    MOVE_FIRST,
    MOVE_EXITS,
    MOVE_HEAD,
    MOVE_FRAME,
) = range(61)
FIELDS: Final = 61

(
    N_ROWS,
    N_EPOCH,
    N_NODES,
    N_LAYERS,
    N_LAYER_ROWS,
    N_LACKING,
    N_BY_OFFSET,
    N_SETS,
    N_MEMBERS,
    N_GROUPS,
    N_UNIONS,
    N_PUSHES,
    N_WIDTH,
    N_BITS,
    N_ATOMS,
    N_STAGE,
    N_MARK,
    N_FRAMES,
    N_PARTS,
    N_TOUCH,
) = range(2 * FIELDS, 2 * FIELDS + 20)
TABLE_SIZE: Final = 2 * FIELDS + 20

EMPTY_SET: Final = 0
BOTTOM: Final = 1
"""The set of node 0 alone, which lies below the start rule."""
_PLACE, _EXIT, _PAIR, _HEAD = range(4)
_NO_ROW: Final = -1
_NO_LINE: Final = -1


@njit
def _table(address):  # type: ignore[no-untyped-def]
    return carray(_pointer(address), (TABLE_SIZE,), np.int64)


# -- tables ----------------------------------------------------------------------------------------


@njit
def _slot(t, field, key):  # type: ignore[no-untyped-def]
    """Where a key, not zero, is in a hash table of keys, or would be."""
    keys, size = _i64(t, field), _len(t, field)
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & (size - 1)
    return slot


@njit
def _len(t, field):  # type: ignore[no-untyped-def]
    """The length of an array."""
    return t[FIELDS + field]


@njit
def _sort(array, begin, size):  # type: ignore[no-untyped-def]
    """Sorts a part of an array of integers: short ones, no allocation."""
    gap = 1
    while gap * 3 + 1 < size:
        gap = gap * 3 + 1
    while gap >= 1:
        for i in range(begin + gap, begin + size):
            value = array[i]
            j = i
            while j >= begin + gap and array[j - gap] > value:
                array[j] = array[j - gap]
                j -= gap
            array[j] = value
        gap //= 3


@njit("void(int64, int64, int64, int64, int64)", cache=True)
def rebuild_table(address, keys, values, old_keys, old_values):  # type: ignore[no-untyped-def]
    """Enters what is in a hash table of keys, at old addresses, into a larger one.

    Args:
        keys, values: fields.
        old_keys, old_values: addresses; how many there are is the first of the keys' lengths halved.
    """
    t = _table(address)
    count = _len(t, keys) // 2
    from_keys = carray(_pointer(old_keys), (1 << 40,), np.int64)
    from_values = carray(_pointer(old_values), (1 << 40,), np.int32)
    for i in range(count):
        if from_keys[i] != 0:
            slot = _slot(t, keys, from_keys[i])
            _i64(t, keys)[slot] = from_keys[i]
            _i32(t, values)[slot] = from_values[i]


# -- sets of nodes ---------------------------------------------------------------------------------


@njit
def _hash_of_set(t, begin, size):  # type: ignore[no-untyped-def]
    h = uint64(size)
    for i in range(begin, begin + size):
        h = _mix(h, _i32(t, SET_MEMBER)[i])
    return h


@njit
def _kept_set(t, size, ends):  # type: ignore[no-untyped-def]
    """The set of the ``size`` nodes that lie behind the members of all sets."""
    begin = t[N_MEMBERS]
    room = _len(t, SET_SLOTS)
    slot = int64(_hash_of_set(t, begin, size) & uint64(room - 1))
    while _i32(t, SET_SLOTS)[slot] != 0:
        known = int64(_i32(t, SET_SLOTS)[slot])
        if _i32(t, SET_SIZE)[known] == size:
            at = _i64(t, SET_OFFSET)[known]
            same = True
            for i in range(size):
                if _i32(t, SET_MEMBER)[at + i] != _i32(t, SET_MEMBER)[begin + i]:
                    same = False
                    break
            if same:
                return known
        slot = (slot + 1) & (room - 1)
    new = t[N_SETS]
    if new >= _len(t, SET_SIZE) or 2 * new >= room:
        return int64(ROOM_FOR_SETS)
    t[N_SETS] += 1
    t[N_MEMBERS] += size
    _i32(t, SET_SLOTS)[slot] = new
    _i64(t, SET_OFFSET)[new], _i32(t, SET_SIZE)[new], _u8(t, SET_ENDS)[new] = begin, size, ends
    _i64(t, SET_GROUP_OFFSET)[new] = -1
    return new


@njit
def _single(t, node, ends):  # type: ignore[no-untyped-def]
    """The set of one node."""
    if t[N_MEMBERS] >= _len(t, SET_MEMBER):
        return int64(ROOM_FOR_SETS)
    _i32(t, SET_MEMBER)[t[N_MEMBERS]] = node
    return _kept_set(t, 1, ends)


@njit
def _union(t, a, b):  # type: ignore[no-untyped-def]
    """The set of the nodes of two sets."""
    if a == b or b == EMPTY_SET:
        return int64(a)
    if a == EMPTY_SET:
        return int64(b)
    if a > b:
        a, b = b, a
    key = (int64(a) << 32) | int64(b)
    slot = _slot(t, SET_UNION_KEY, key)
    if _i64(t, SET_UNION_KEY)[slot] == key:
        return int64(_i32(t, SET_UNION_SET)[slot])
    if 2 * t[N_UNIONS] >= _len(t, SET_UNION_KEY):
        return int64(ROOM_FOR_UNIONS)
    out = _merged(t, a, b)
    if out >= 0:
        t[N_UNIONS] += 1
        _i64(t, SET_UNION_KEY)[slot] = key
        _i32(t, SET_UNION_SET)[slot] = out
    return out


@njit
def _merged(t, a, b):  # type: ignore[no-untyped-def]
    """``_union`` for sets whose union is not known."""
    i, i_end = _i64(t, SET_OFFSET)[a], _i64(t, SET_OFFSET)[a] + _i32(t, SET_SIZE)[a]
    j, j_end = _i64(t, SET_OFFSET)[b], _i64(t, SET_OFFSET)[b] + _i32(t, SET_SIZE)[b]
    begin = t[N_MEMBERS]
    at = begin
    if begin + _i32(t, SET_SIZE)[a] + _i32(t, SET_SIZE)[b] > _len(t, SET_MEMBER):
        return int64(ROOM_FOR_SETS)
    while i < i_end or j < j_end:
        if j == j_end or (i < i_end and _i32(t, SET_MEMBER)[i] < _i32(t, SET_MEMBER)[j]):
            _i32(t, SET_MEMBER)[at] = _i32(t, SET_MEMBER)[i]
            i += 1
        else:
            if i < i_end and _i32(t, SET_MEMBER)[i] == _i32(t, SET_MEMBER)[j]:
                i += 1
            _i32(t, SET_MEMBER)[at] = _i32(t, SET_MEMBER)[j]
            j += 1
        at += 1
    return _kept_set(t, at - begin, _u8(t, SET_ENDS)[a] | _u8(t, SET_ENDS)[b])


@njit
def _gather(t, size, added):  # type: ignore[no-untyped-def]
    """Puts the members of a set that are not marked behind the members of all sets; how many there are."""
    begin = t[N_MEMBERS]
    if begin + size + _i32(t, SET_SIZE)[added] > _len(t, SET_MEMBER):
        return int64(ROOM_FOR_SETS)
    for i in range(
        _i64(t, SET_OFFSET)[added], _i64(t, SET_OFFSET)[added] + _i32(t, SET_SIZE)[added]
    ):
        node = _i32(t, SET_MEMBER)[i]
        if _i64(t, ROW_MARK)[node] != t[N_MARK]:
            _i64(t, ROW_MARK)[node] = t[N_MARK]
            _i32(t, SET_MEMBER)[begin + size] = node
            size += 1
    return int64(size)


@njit
def _kept(t, size, ends):  # type: ignore[no-untyped-def]
    """The set of what was gathered."""
    if size == 0:
        return int64(EMPTY_SET)
    begin = t[N_MEMBERS]
    _sort(_i32(t, SET_MEMBER), begin, size)
    return _kept_set(t, size, ends)


@njit
def _groups(t, at):  # type: ignore[no-untyped-def]
    """Finds the groups of a set: the heads of its nodes, each with the nodes below; how many."""
    if _i64(t, SET_GROUP_OFFSET)[at] >= 0:
        return int64(_i32(t, SET_GROUP_SIZE)[at])
    begin = t[N_GROUPS]
    if begin + _i32(t, SET_SIZE)[at] > _len(t, SET_GROUP_FRAME):
        return int64(ROOM_FOR_GROUPS)
    members = range(_i64(t, SET_OFFSET)[at], _i64(t, SET_OFFSET)[at] + _i32(t, SET_SIZE)[at])
    end = begin
    for i in members:
        node = _i32(t, SET_MEMBER)[i]
        frame = _i32(t, NODE_HEAD)[node]
        group = begin
        while group < end and _i32(t, SET_GROUP_FRAME)[group] != frame:
            group += 1
        if group == end and node != 0:
            _i32(t, SET_GROUP_FRAME)[group] = frame
            end += 1
    for group in range(begin, end):
        t[N_MARK] += 1
        size, ends = int64(0), np.uint8(0)
        for i in members:
            node = _i32(t, SET_MEMBER)[i]
            if node != 0 and _i32(t, NODE_HEAD)[node] == _i32(t, SET_GROUP_FRAME)[group]:
                ends |= _u8(t, SET_ENDS)[_i32(t, NODE_BELOW)[node]]
                size = _gather(t, size, _i32(t, NODE_BELOW)[node])
                if size < 0:
                    return size
        out = _kept(t, size, ends)
        if out < 0:
            return out
        _i32(t, SET_GROUP_SET)[group] = out
    _i64(t, SET_GROUP_OFFSET)[at] = begin
    _i32(t, SET_GROUP_SIZE)[at] = end - begin
    t[N_GROUPS] = end
    return int64(end - begin)


@njit("int64(int64, int64)", cache=True, nogil=True)
def groups_of(table, at):  # type: ignore[no-untyped-def]
    """Finds the groups of a set; how many there are."""
    return _groups(_table(table), at)


# -- rows ------------------------------------------------------------------------------------------


@njit
def _key(a, b, tag):  # type: ignore[no-untyped-def]
    return (int64(a) << 32) | (int64(b) << 2) | tag


@njit
def _first_of(key):  # type: ignore[no-untyped-def]
    return key >> 32


@njit
def _second_of(key):  # type: ignore[no-untyped-def]
    return (key & 0xFFFFFFFF) >> 2


@njit
def _find(t, key):  # type: ignore[no-untyped-def]
    """The row of a key, or -1 less the slot of the hash table where it would be."""
    size = _len(t, ROW_SLOTS)
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while _i64(t, ROW_STAMPS)[slot] == t[N_EPOCH]:
        row = int64(_i32(t, ROW_SLOTS)[slot])
        if _i64(t, ROW_KEY)[row] == key:
            return row
        slot = (slot + 1) & (size - 1)
    return -1 - slot


@njit
def _made(t, key):  # type: ignore[no-untyped-def]
    """The row of a key, made if there is none."""
    row = _find(t, key)
    if row >= 0:
        return row
    slot, row = -1 - row, t[N_ROWS]
    at, width = t[N_BITS], t[N_WIDTH]
    if row >= _len(t, ROW_KEY):
        return int64(ROOM_FOR_ROWS)
    if at + width > _len(t, ROW_BITS):
        return int64(ROOM_FOR_BITS)
    t[N_ROWS] += 1
    t[N_BITS] += width
    _i64(t, ROW_STAMPS)[slot], _i32(t, ROW_SLOTS)[slot] = t[N_EPOCH], row
    _i64(t, ROW_KEY)[row], _i64(t, ROW_AT)[row], _u8(t, ROW_QUEUED)[row] = key, at, 0
    for i in range(at, at + width):
        _u64(t, ROW_BITS)[i] = uint64(0)
        _u64(t, ROW_DONE)[i] = uint64(0)
    return row


@njit
def _number_of(t, values, slots, stamps, value):  # type: ignore[no-untyped-def]
    """The number that a value has in this stage, or -1 less the slot where it would be."""
    size = _len(t, slots)
    slot = int64(_mix(uint64(0), value) & uint64(size - 1))
    while _i64(t, stamps)[slot] == t[N_STAGE]:
        number = int64(_i32(t, slots)[slot])
        if _i32(t, values)[number] == value:
            return number
        slot = (slot + 1) & (size - 1)
    return -1 - slot


@njit
def _give_number(t, values, slots, stamps, slot, number, value):  # type: ignore[no-untyped-def]
    """Enters a value at the slot that ``_number_of`` found."""
    _i64(t, stamps)[slot] = t[N_STAGE]
    _i32(t, slots)[slot] = number
    _i32(t, values)[number] = value


@njit
def _atom(t, at):  # type: ignore[no-untyped-def]
    """The atom of a set."""
    atom = _number_of(t, ROW_ATOM, ROW_ATOM_SLOTS, ROW_ATOM_STAMPS, at)
    if atom >= 0:
        return atom
    slot, new = -1 - atom, t[N_ATOMS]
    if new >= 64 * t[N_WIDTH]:
        return int64(_MORE_ATOMS)
    if new >= _len(t, ROW_ATOM):
        return int64(ROOM_FOR_ROWS)
    t[N_ATOMS] += 1
    _give_number(t, ROW_ATOM, ROW_ATOM_SLOTS, ROW_ATOM_STAMPS, slot, new, at)
    _i64(t, ROW_PART_FIRST)[new] = -1
    return new


@njit
def _put_set(t, key, line, added):  # type: ignore[no-untyped-def]
    """Adds a set to a row, which joins a line (if it is not ``_NO_LINE``) if it has something new."""
    if added == EMPTY_SET:
        return int64(0)
    atom = _atom(t, added)
    if atom < 0:
        return atom
    row = _made(t, key)
    if row < 0:
        return row
    i = _i64(t, ROW_AT)[row] + (atom >> 6)
    bit = uint64(1) << uint64(atom & 63)
    _u64(t, ROW_BITS)[i] |= bit
    if (
        line != _NO_LINE
        and _u64(t, ROW_DONE)[i] & bit == uint64(0)
        and _u8(t, ROW_QUEUED)[row] == 0
    ):
        _wait(t, line, row)
    return int64(0)


@njit
def _put_bits(t, key, line, bits, begin):  # type: ignore[no-untyped-def]
    """Adds a row of bits to another row, which joins a line if it has something new."""
    row = _made(t, key)
    if row < 0:
        return row
    at = _i64(t, ROW_AT)[row]
    fresh = uint64(0)
    for i in range(t[N_WIDTH]):
        _u64(t, ROW_BITS)[at + i] |= bits[begin + i]
        fresh |= _u64(t, ROW_BITS)[at + i] & ~_u64(t, ROW_DONE)[at + i]
    if line != _NO_LINE and fresh != uint64(0) and _u8(t, ROW_QUEUED)[row] == 0:
        _wait(t, line, row)
    return int64(0)


@njit
def _put_fresh(t, key, line):  # type: ignore[no-untyped-def]
    """Adds what is new of the row that is dealt with to another one."""
    return _put_bits(t, key, line, _u64(t, ROW_FRESH), 0)


@njit
def _wait(t, position, row):  # type: ignore[no-untyped-def]
    """Puts a row at the end of a line: what leads to it is met first."""
    line = int64(position) if t[N_BY_OFFSET] else int64(0)
    _u8(t, ROW_QUEUED)[row] = 1
    _i32(t, ROW_AFTER)[row] = _NO_ROW
    if _i32(t, ROW_FIRST)[line] == _NO_ROW:
        _i32(t, ROW_FIRST)[line] = row
    else:
        _i32(t, ROW_AFTER)[_i32(t, ROW_LAST)[line]] = row
    _i32(t, ROW_LAST)[line] = row


@njit
def _next(t, line):  # type: ignore[no-untyped-def]
    """The first row of a line, what is new in it put aside; ``_NO_ROW`` if there is none."""
    row = int64(_i32(t, ROW_FIRST)[line])
    if row == _NO_ROW:
        return row
    _i32(t, ROW_FIRST)[line] = _i32(t, ROW_AFTER)[row]
    _u8(t, ROW_QUEUED)[row] = 0
    at = _i64(t, ROW_AT)[row]
    for i in range(t[N_WIDTH]):
        _u64(t, ROW_FRESH)[i] = _u64(t, ROW_BITS)[at + i] & ~_u64(t, ROW_DONE)[at + i]
        _u64(t, ROW_DONE)[at + i] = _u64(t, ROW_BITS)[at + i]
    return row


@njit
def _begin(t, lines, width):  # type: ignore[no-untyped-def]
    """Forgets the rows of the last step; places wait at their offsets, or all in one line."""
    t[N_EPOCH] += 1
    t[N_BY_OFFSET] = lines > 1
    t[N_ROWS] = t[N_BITS] = t[N_LACKING] = 0
    t[N_WIDTH] = width
    _new_stage(t)
    for i in range(lines):
        _i32(t, ROW_FIRST)[i] = _NO_ROW


@njit
def _new_stage(t):  # type: ignore[no-untyped-def]
    """Forgets the atoms."""
    t[N_ATOMS] = t[N_FRAMES] = t[N_PARTS] = 0
    t[N_STAGE] += 1


@njit
def _united(t, row):  # type: ignore[no-untyped-def]
    """The set that the bits of a row are; rows with equal bits are united once."""
    at, width = _i64(t, ROW_AT)[row], t[N_WIDTH]
    h = uint64(0)
    for i in range(width):
        h = _mix(h, _u64(t, ROW_BITS)[at + i])
    size = _len(t, ROW_SAME)
    slot = int64(h & uint64(size - 1))
    while _i64(t, ROW_SAME_STAMPS)[slot] == t[N_STAGE]:
        other = _i64(t, ROW_AT)[_i32(t, ROW_SAME)[slot]]
        same = True
        for i in range(width):
            if _u64(t, ROW_BITS)[at + i] != _u64(t, ROW_BITS)[other + i]:
                same = False
                break
        if same:
            _i32(t, ROW_SET)[row] = _i32(t, ROW_SET)[_i32(t, ROW_SAME)[slot]]
            return int64(_i32(t, ROW_SET)[row])
        slot = (slot + 1) & (size - 1)
    out = _unite(t, at)
    if out >= 0:
        _i32(t, ROW_SET)[row] = out
        _i64(t, ROW_SAME_STAMPS)[slot], _i32(t, ROW_SAME)[slot] = t[N_STAGE], row
    return out


@njit
def _unite(t, at):  # type: ignore[no-untyped-def]
    """The union of the atoms whose bits are set."""
    t[N_MARK] += 1
    size, ends, count, last = int64(0), np.uint8(0), 0, int64(EMPTY_SET)
    for i in range(t[N_WIDTH]):
        word = _u64(t, ROW_BITS)[at + i]
        while word != uint64(0):
            bit = word & (~word + uint64(1))
            word ^= bit
            last = int64(_i32(t, ROW_ATOM)[64 * i + _log2(bit)])
            count += 1
            ends |= _u8(t, SET_ENDS)[last]
            size = _gather(t, size, last)
            if size < 0:
                return size
    return last if count == 1 else _kept(t, size, ends)


@njit
def _log2(bit):  # type: ignore[no-untyped-def]
    """The number of a bit."""
    n = int64(0)
    for shift in (32, 16, 8, 4, 2, 1):
        if bit >> uint64(shift) != uint64(0):
            bit >>= uint64(shift)
            n += shift
    return n


# -- the layer that is made ------------------------------------------------------------------------


@njit
def _node(ctx, t, head, below):  # type: ignore[no-untyped-def]
    """The set of the node of a head on some nodes."""
    size = _len(t, NODE_SLOTS)
    slot = int64(_mix(_mix(uint64(0), head), below) & uint64(size - 1))
    while _i32(t, NODE_SLOTS)[slot] != 0:
        node = int64(_i32(t, NODE_SLOTS)[slot])
        if _i32(t, NODE_HEAD)[node] == head and _i32(t, NODE_BELOW)[node] == below:
            return int64(_i32(t, NODE_ALONE)[node])
        slot = (slot + 1) & (size - 1)
    node = t[N_NODES]
    if node >= _len(t, NODE_HEAD) or 2 * node >= size:
        return int64(ROOM_FOR_NODES)
    ends = _u8(t, SET_ENDS)[below] if _u8(ctx, S_ACCEPT)[head] != 0 else np.uint8(0)
    alone = _single(t, node, ends)
    if alone < 0:
        return alone
    t[N_NODES] += 1
    _i32(t, NODE_SLOTS)[slot] = node
    _i32(t, NODE_HEAD)[node], _i32(t, NODE_BELOW)[node], _i32(t, NODE_ALONE)[node] = (
        head,
        below,
        alone,
    )
    return alone


@njit
def _frames_within(ctx, t, frame):  # type: ignore[no-untyped-def]
    """Lists a frame and those below it, ascending: those below come first, for they are older."""
    s_q, s_f = _i32(ctx, S_Q), _i32(ctx, S_F)
    s_offset, s_count = _i32(ctx, S_OFFSET), _i32(ctx, S_COUNT)
    _i32(t, ROW_FRAMES)[0] = frame
    count = 1
    at = 0
    while at < count:
        current = _i32(t, ROW_FRAMES)[at]
        at += 1
        for i in range(s_offset[current], s_offset[current] + s_count[current]):
            below = s_f[i]
            if s_q[i] == 0 or below == END:
                continue
            known = False
            for j in range(count):
                if _i32(t, ROW_FRAMES)[j] == below:
                    known = True
                    break
            if known:
                continue
            if count >= _len(t, ROW_FRAMES):
                return int64(ROOM_FOR_FRAMES)
            _i32(t, ROW_FRAMES)[count] = below
            count += 1
    _sort(_i32(t, ROW_FRAMES), 0, count)
    return int64(count)


@njit
def _over_of(t, frame, count):  # type: ignore[no-untyped-def]
    """What a listed frame was found to make."""
    frames = _i32(t, ROW_FRAMES)
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if frames[middle] < frame:
            low = middle + 1
        else:
            high = middle
    return int64(_i32(t, ROW_OVER)[low])


@njit
def _pushed(ctx, t, frame, below):  # type: ignore[no-untyped-def]
    """The set of nodes that a frame makes on some nodes, level by level."""
    if frame == END:
        return int64(below)
    key = (int64(frame) << 32) | int64(below)
    slot = _slot(t, NODE_PUSH_KEY, key)
    if _i64(t, NODE_PUSH_KEY)[slot] == key:
        return int64(_i32(t, NODE_PUSH_SET)[slot])
    if 2 * t[N_PUSHES] >= _len(t, NODE_PUSH_KEY):
        return int64(ROOM_FOR_PUSHES)
    count = _frames_within(ctx, t, frame)
    if count < 0:
        return count
    for at in range(count):
        out = _level(ctx, t, _i32(t, ROW_FRAMES)[at], count, below)
        if out < 0:
            return out
        _i32(t, ROW_OVER)[at] = out
    out = _over_of(t, frame, count)
    t[N_PUSHES] += 1
    _i64(t, NODE_PUSH_KEY)[slot] = key
    _i32(t, NODE_PUSH_SET)[slot] = out
    return out


@njit
def _level(ctx, t, frame, count, below):  # type: ignore[no-untyped-def]
    """One frame on some nodes, when those below it in the list are on them."""
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    begin = _i32(ctx, S_OFFSET)[frame]
    end = begin + _i32(ctx, S_COUNT)[frame]
    whole, rest = int64(EMPTY_SET), int64(EMPTY_SET)
    for i in range(begin, end):
        q, n = s_q[i], s_n[i]
        if q == 0:  # nothing is left to be done there
            whole = _union(t, whole, below)
            if whole < 0:
                return whole
            continue
        under = int64(below) if s_f[i] == END else _over_of(t, s_f[i], count)
        rest = _union(t, rest, under)
        if rest < 0:
            return rest
        if i + 1 < end and s_q[i + 1] == q and s_n[i + 1] == n:
            continue  # the same head on other frames
        head = _intern_one(ctx, q, n, END)
        if head < 0:
            return int64(head)
        alone = _node(ctx, t, head, rest)
        if alone < 0:
            return alone
        whole = _union(t, whole, alone)
        if whole < 0:
            return whole
        rest = int64(EMPTY_SET)
    return whole


@njit
def _finish(ctx, t):  # type: ignore[no-untyped-def]
    """Puts the frames of all pairs on their stacks and finds or keeps the layer."""
    rows = t[N_ROWS]
    for row in range(rows):
        if _i64(t, ROW_KEY)[row] & 3 == _PAIR:
            out = _united(t, row)
            if out < 0:
                return out
    _new_stage(t)  # from here on the atoms are what the pairs became
    for row in range(rows):
        key = _i64(t, ROW_KEY)[row]
        if key & 3 != _PAIR:
            continue
        out = _pushed(ctx, t, _second_of(key), _i32(t, ROW_SET)[row])
        if out >= 0:
            out = _put_set(t, _key(_first_of(key), 0, _HEAD), _NO_LINE, out)
        if out < 0:
            return out
    for row in range(rows, t[N_ROWS]):
        out = _united(t, row)
        if out < 0:
            return out
    return _layer(ctx, t, rows)


@njit
def _layer(ctx, t, begin):  # type: ignore[no-untyped-def]
    """The layer of the rows from ``begin`` on, which all are heads."""
    total = t[N_ROWS] - begin
    if total == 0:
        return int64(0)
    h = uint64(total)
    for row in range(begin, t[N_ROWS]):
        h += _mix(
            _mix(uint64(0), _i64(t, ROW_KEY)[row]), _i32(t, ROW_SET)[row]
        )  # whatever the order
    size = _len(t, LAYER_SLOTS)
    slot = int64(_mix(uint64(0), h) & uint64(size - 1))
    while _i32(t, LAYER_SLOTS)[slot] != 0:
        layer = int64(_i32(t, LAYER_SLOTS)[slot])
        alike = _u64(t, LAYER_HASH)[layer] == h and _i32(t, LAYER_SIZE)[layer] == total
        if alike and _is_layer(t, layer):
            return layer
        slot = (slot + 1) & (size - 1)
    layer, at = t[N_LAYERS], t[N_LAYER_ROWS]
    if layer >= _len(t, LAYER_SIZE) or 2 * layer >= size or at + total > _len(t, LAYER_HEAD):
        return int64(ROOM_FOR_LAYERS)
    t[N_LAYERS] += 1
    t[N_LAYER_ROWS] += total
    _i32(t, LAYER_SLOTS)[slot] = layer
    _u64(t, LAYER_HASH)[layer] = h
    _i64(t, LAYER_OFFSET)[layer], _i32(t, LAYER_SIZE)[layer], _u8(t, LAYER_ENDS)[layer] = (
        at,
        total,
        0,
    )
    accept = _u8(ctx, S_ACCEPT)
    for row in range(begin, t[N_ROWS]):
        head = _first_of(_i64(t, ROW_KEY)[row])
        _i32(t, LAYER_HEAD)[at], _i32(t, LAYER_SET)[at] = head, _i32(t, ROW_SET)[row]
        if _u8(t, SET_ENDS)[_i32(t, ROW_SET)[row]] != 0 and accept[head] != 0:
            _u8(t, LAYER_ENDS)[layer] = 1
        at += 1
    return layer


@njit
def _is_layer(t, layer):  # type: ignore[no-untyped-def]
    """Whether a layer has the heads and sets of the rows, of which there are as many."""
    begin = _i64(t, LAYER_OFFSET)[layer]
    for at in range(begin, begin + _i32(t, LAYER_SIZE)[layer]):
        row = _find(t, _key(_i32(t, LAYER_HEAD)[at], 0, _HEAD))
        if row < 0 or _i32(t, ROW_SET)[row] != _i32(t, LAYER_SET)[at]:
            return False
    return True


# -- through a cell --------------------------------------------------------------------------------


@njit
def _line_of(t, frame):  # type: ignore[no-untyped-def]
    """The number that a frame has in this step."""
    line = _number_of(t, ROW_FRAME, ROW_FRAME_SLOTS, ROW_FRAME_STAMPS, frame)
    if line >= 0:
        return line
    slot, new = -1 - line, t[N_FRAMES]
    if new >= _len(t, ROW_FRAME):
        return int64(ROOM_FOR_ROWS)
    t[N_FRAMES] += 1
    _give_number(t, ROW_FRAME, ROW_FRAME_SLOTS, ROW_FRAME_STAMPS, slot, new, frame)
    _i64(t, ROW_TOUCHED_AT)[new] = 0
    return new


@njit
def _expand(t, atom):  # type: ignore[no-untyped-def]
    """Notes the groups of an atom, with the numbers that frames and sets have in this step."""
    below = int64(_i32(t, ROW_ATOM)[atom])
    count = _groups(t, below)
    if count < 0:
        return count
    begin = t[N_PARTS]
    if begin + count > _len(t, ROW_PART_FRAME):
        return int64(ROOM_FOR_PARTS)
    for i in range(count):
        group = _i64(t, SET_GROUP_OFFSET)[below] + i
        line = _line_of(t, _i32(t, SET_GROUP_FRAME)[group])
        if line < 0:
            return line
        under = _atom(t, _i32(t, SET_GROUP_SET)[group])
        if under < 0:
            return under
        _i32(t, ROW_PART_FRAME)[begin + i], _i32(t, ROW_PART_ATOM)[begin + i] = line, under
    t[N_PARTS] += count
    _i64(t, ROW_PART_FIRST)[atom], _i32(t, ROW_PART_COUNT)[atom] = begin, count
    return int64(0)


@njit
def _hand_on(t, position):  # type: ignore[no-untyped-def]
    """Where rules are over: the frames below them take over, each gathered before it is put."""
    width = t[N_WIDTH]
    t[N_TOUCH] += 1
    touched = 0
    for i in range(width):
        word = _u64(t, ROW_FRESH)[i]
        while word != uint64(0):
            bit = word & (~word + uint64(1))
            word ^= bit
            atom = 64 * i + _log2(bit)
            if _i64(t, ROW_PART_FIRST)[atom] < 0:
                out = _expand(t, atom)
                if out < 0:
                    return out
            begin = _i64(t, ROW_PART_FIRST)[atom]
            for part in range(begin, begin + _i32(t, ROW_PART_COUNT)[atom]):
                line, under = (
                    int64(_i32(t, ROW_PART_FRAME)[part]),
                    int64(_i32(t, ROW_PART_ATOM)[part]),
                )
                at = line * width
                if _i64(t, ROW_TOUCHED_AT)[line] != t[N_TOUCH]:
                    if at + width > _len(t, ROW_GATHERED):
                        return int64(ROOM_FOR_PARTS)
                    _i64(t, ROW_TOUCHED_AT)[line] = t[N_TOUCH]
                    _i32(t, ROW_TOUCHED)[touched] = line
                    touched += 1
                    for j in range(width):
                        _u64(t, ROW_GATHERED)[at + j] = uint64(0)
                _u64(t, ROW_GATHERED)[at + (under >> 6)] |= uint64(1) << uint64(under & 63)
    for i in range(touched):
        line = int64(_i32(t, ROW_TOUCHED)[i])
        key = _key(_i32(t, ROW_FRAME)[line], position, _PLACE)
        out = _put_bits(t, key, position, _u64(t, ROW_GATHERED), line * width)
        if out < 0:
            return out
    return int64(0)


@njit
def _through_text(ctx, t, row, offset, text, length):  # type: ignore[no-untyped-def]
    """A place through the rest of a fixed text."""
    accept, can = _u8(ctx, S_ACCEPT), _u64(ctx, S_CAN)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    data = carray(_pointer(text), (1 << 40,), np.uint8)
    state = _first_of(_i64(t, ROW_KEY)[row])
    for at in range(offset, length):
        if accept[state] != 0:
            out = _put_fresh(t, _key(0, at, _EXIT), at)
            if out < 0:
                return out
        c = int64(byte_class[data[at]])
        if not _can(can, state, c):
            return int64(0)
        state = step(ctx, state, c)
        if state <= DEAD:
            return int64(state)
    begin = _i32(ctx, S_OFFSET)[state]
    s_q, s_n, s_f = _i32(ctx, S_Q), _i32(ctx, S_N), _i32(ctx, S_F)
    for i in range(begin, begin + _i32(ctx, S_COUNT)[state]):
        if s_q[i] == 0:
            continue
        head = _intern_one(ctx, s_q[i], s_n[i], END)
        if head < 0:
            return int64(head)
        out = _put_fresh(t, _key(head, s_f[i], _PAIR), _NO_LINE)
        if out < 0:
            return out
    return int64(0)


@njit
def _through_token(t, row):  # type: ignore[no-untyped-def]
    """A place through any one token; notes it where its move is not known."""
    place = _i64(t, ROW_KEY)[row] + 1  # no key of the table is zero
    slot = _slot(t, MOVE_KEYS, place)
    if _i64(t, MOVE_KEYS)[slot] == 0:
        if t[N_LACKING] < _len(t, ROW_LACKING):
            _i64(t, ROW_LACKING)[t[N_LACKING]] = _i64(t, ROW_KEY)[row]
            t[N_LACKING] += 1
        return int64(0)
    move = _i32(t, MOVE_NUMBER)[slot]
    for i in range(_i64(t, MOVE_FIRST)[move], _i64(t, MOVE_FIRST)[move + 1]):
        out = _put_fresh(t, _key(_i32(t, MOVE_HEAD)[i], _i32(t, MOVE_FRAME)[i], _PAIR), _NO_LINE)
        if out < 0:
            return out
    if _i32(t, MOVE_EXITS)[move] >= 0:
        return _put_fresh(
            t, _key(0, _i32(t, MOVE_EXITS)[move], _EXIT), int64(_i32(t, MOVE_EXITS)[move])
        )
    return int64(0)


@njit
def _enter(t, layer, or_none):  # type: ignore[no-untyped-def]
    """The heads of a layer as places at the beginning of a cell, and at its end if it may be empty."""
    begin = _i64(t, LAYER_OFFSET)[layer]
    for i in range(begin, begin + _i32(t, LAYER_SIZE)[layer]):
        out = _put_set(t, _key(_i32(t, LAYER_HEAD)[i], 0, _PLACE), 0, _i32(t, LAYER_SET)[i])
        if out >= 0 and or_none:
            pair = _key(_i32(t, LAYER_HEAD)[i], END, _PAIR)
            out = _put_set(t, pair, _NO_LINE, _i32(t, LAYER_SET)[i])
        if out < 0:
            return out
    return int64(0)


@njit
def _text_step(ctx, t, layer, text, length, width):  # type: ignore[no-untyped-def]
    """``after_text`` with room for so many words of atoms."""
    _begin(t, length + 1, width)
    out = _enter(t, layer, False)
    if out < 0:
        return out
    for offset in range(length):
        row = _next(t, offset)
        while row >= 0:
            if _i64(t, ROW_KEY)[row] & 3 == _EXIT:
                out = _hand_on(t, offset)
            else:
                out = _through_text(ctx, t, row, offset, text, length)
            if out < 0:
                return out
            row = _next(t, offset)
    return _finish(ctx, t)


@njit
def _token_step(ctx, t, layer, or_none, width):  # type: ignore[no-untyped-def]
    """``after_token`` with room for so many words of atoms."""
    _begin(t, 1, width)
    out = _enter(t, layer, or_none)
    if out < 0:
        return out
    row = _next(t, 0)
    while row >= 0:
        if _i64(t, ROW_KEY)[row] & 3 == _EXIT:
            out = _hand_on(t, _second_of(_i64(t, ROW_KEY)[row]))
        else:
            out = _through_token(t, row)
        if out < 0:
            return out
        row = _next(t, 0)
    if t[N_LACKING] > 0:
        return int64(MOVES_LACKING)
    return _finish(ctx, t)


@njit
def _pairs_step(ctx, t, pairs, count, width):  # type: ignore[no-untyped-def]
    """``layer_of`` with room for so many words of atoms."""
    _begin(t, 1, width)
    columns = carray(_pointer(pairs), (1 << 40,), np.int32)
    for i in range(0, 3 * count, 3):
        pair = _key(columns[i], columns[i + 1], _PAIR)
        out = _put_set(t, pair, _NO_LINE, columns[i + 2])
        if out < 0:
            return out
    return _finish(ctx, t)


_TEXT, _TOKEN, _PAIRS = range(3)


@njit
def _step(ctx, t, kind, heads, a, b, c):  # type: ignore[no-untyped-def]
    """A step with as many words of atoms as it needs: most layers have fewer atoms than heads."""
    width = 1
    while 64 * width < heads:
        width *= 2
    while True:
        if kind == _TEXT:
            out = _text_step(ctx, t, a, b, c, width)
        elif kind == _TOKEN:
            out = _token_step(ctx, t, a, b, width)
        else:
            out = _pairs_step(ctx, t, a, b, width)
        if out != _MORE_ATOMS or width >= _len(t, ROW_FRESH):
            return out
        width *= 2


@njit("int64(int64, int64, int64, int64, int64)", cache=True, nogil=True)
def after_text(address, table, layer, text, length):  # type: ignore[no-untyped-def]
    """The layer after a fixed text: uint8[length] at an address, with lines for one byte more."""
    t = _table(table)
    return _step(_context(address), t, _TEXT, _i32(t, LAYER_SIZE)[layer], layer, text, length)


@njit("int64(int64, int64, int64, int64)", cache=True, nogil=True)
def after_token(address, table, layer, or_none):  # type: ignore[no-untyped-def]
    """The layer after any one token, or after one or none."""
    t = _table(table)
    return _step(_context(address), t, _TOKEN, _i32(t, LAYER_SIZE)[layer], layer, or_none, 0)


@njit("int64(int64, int64, int64, int64)", cache=True, nogil=True)
def layer_of(address, table, pairs, count):  # type: ignore[no-untyped-def]
    """The layer of some configurations: int32[count, 3] of heads, frames above the stacks, sets."""
    return _step(_context(address), _table(table), _PAIRS, count, pairs, count, 0)


# -- connectors ------------------------------------------------------------------------------------

# Fields of the table of connectors: addresses of the ranking (int32[count]), the numbers of tokens (int32),
# where bytes begin (int64[count + 1]), the bytes (uint8), PAD_BYTES of each padding (uint8); counts.
(
    BOOK_ORDER,
    BOOK_TOKENS,
    BOOK_BEGIN,
    BOOK_BYTES,
    BOOK_FILLED,
    BOOK_COUNT,
    BOOK_PADDINGS,
) = range(7)
BOOK_SIZE: Final = 7
PAD_BYTES: Final = 64
"""Bytes of each padding that are laid out."""
_LOOK_BACK: Final = 32
"""Tokens before one among which ``read_behind`` looks for one that led to the same state."""


@njit
def _through_padding(address, state, filled, count):  # type: ignore[no-untyped-def]
    """The state after so many bytes of a padding."""
    while count > 0 and state > DEAD:
        size = min(count, PAD_BYTES)
        state = advance(address, state, filled, size)
        count -= size
    return state


@njit(
    "int64(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)
def joints(address, book, begin, state, room, is_gap, text, length, out, most):  # type: ignore[no-untyped-def]
    """Ways to join a state and a text by connectors that fill a room, which lead to different states.

    Args:
        book: address of the table of connectors, tried from rank ``begin`` on.
        is_gap: whether nothing is filled up.
        text, length: uint8[length] behind the run.
        out: int64[3 * most + 1]: the rank of the first connector that was not tried, then for each way the
            connector, the padding or -1, and the state behind the text.

    Returns:
        How many there are: at most ``most`` and the paddings of the last connector fit in.
    """
    t = carray(_pointer(book), (BOOK_SIZE,), np.int64)
    order, tokens = _i32(t, BOOK_ORDER), _i32(t, BOOK_TOKENS)
    begins = _i64(t, BOOK_BEGIN)
    found = carray(_pointer(out), (1 << 40,), np.int64)
    count, rank = int64(0), int64(begin)
    paddings = t[BOOK_PADDINGS]
    while rank < t[BOOK_COUNT] and count + max(paddings, 1) <= most:
        i = int64(order[rank])
        rank += 1
        missing = room - tokens[i]
        if missing < 0:
            continue
        inside = int64(state)
        if begins[i + 1] > begins[i]:
            inside = advance(address, inside, t[BOOK_BYTES] + begins[i], begins[i + 1] - begins[i])
        if inside < 0:
            return inside
        fills = missing > 0 and not is_gap
        for padding in range(paddings if fills else 1):
            after = inside
            if fills:
                filled = t[BOOK_FILLED] + PAD_BYTES * padding
                after = _through_padding(address, inside, filled, missing)
            if after > DEAD and length > 0:
                after = advance(address, after, text, length)
            if after < 0:
                return after
            known = after == DEAD
            for j in range(count):
                known = known or found[3 * j + 3] == after
            if not known:
                found[3 * count + 1] = i
                found[3 * count + 2] = padding if fills else -1
                found[3 * count + 3] = after
                count += 1
    found[0] = rank
    return count


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def read_behind(address, state, tokens, count, text, length, out):  # type: ignore[no-untyped-def]
    """Reads a text behind each of some tokens.

    Args:
        tokens: int64[count].
        text: uint8[length].
        out: int32[2 * count]: states behind the tokens, then behind the text.

    Returns:
        Nothing of use, or what is lacking.
    """
    ids = carray(_pointer(tokens), (count,), np.int64)
    states = carray(_pointer(out), (2 * count,), np.int32)
    for i in range(count):
        after = advance_token(address, state, ids[i])
        if after < 0:
            return after
        states[i] = after
        end = int64(DEAD)
        j = int64(i)
        if after != DEAD:  # few tokens lead to a state of their own
            j = max(i - _LOOK_BACK, 0)
            while j < i and states[j] != after:
                j += 1
        if j < i:
            end = int64(states[count + j])
        elif after != DEAD:
            end = advance(address, after, text, length)
            if end < 0:
                return end
        states[count + i] = end
    return int64(0)


# -- more room -------------------------------------------------------------------------------------


@njit("void(int64)", cache=True)
def rehash_sets(table):  # type: ignore[no-untyped-def]
    """Fills the empty hash table of sets."""
    t = _table(table)
    room = _len(t, SET_SLOTS)
    for at in range(1, t[N_SETS]):
        h = _hash_of_set(t, _i64(t, SET_OFFSET)[at], _i32(t, SET_SIZE)[at])
        slot = int64(h & uint64(room - 1))
        while _i32(t, SET_SLOTS)[slot] != 0:
            slot = (slot + 1) & (room - 1)
        _i32(t, SET_SLOTS)[slot] = at


@njit("void(int64)", cache=True)
def rehash_nodes(table):  # type: ignore[no-untyped-def]
    """Fills the empty hash table of nodes."""
    t = _table(table)
    size = _len(t, NODE_SLOTS)
    for node in range(1, t[N_NODES]):
        h = _mix(_mix(uint64(0), _i32(t, NODE_HEAD)[node]), _i32(t, NODE_BELOW)[node])
        slot = int64(h & uint64(size - 1))
        while _i32(t, NODE_SLOTS)[slot] != 0:
            slot = (slot + 1) & (size - 1)
        _i32(t, NODE_SLOTS)[slot] = node


@njit("void(int64)", cache=True)
def rehash_layers(table):  # type: ignore[no-untyped-def]
    """Fills the empty hash table of layers."""
    t = _table(table)
    size = _len(t, LAYER_SLOTS)
    for layer in range(1, t[N_LAYERS]):
        slot = int64(_mix(uint64(0), _u64(t, LAYER_HASH)[layer]) & uint64(size - 1))
        while _i32(t, LAYER_SLOTS)[slot] != 0:
            slot = (slot + 1) & (size - 1)
        _i32(t, LAYER_SLOTS)[slot] = layer


@njit("void(int64, int64, int64)", cache=True)
def note_move(table, place, number):  # type: ignore[no-untyped-def]
    """Enters the number of a place's move."""
    t = _table(table)
    slot = _slot(t, MOVE_KEYS, place + 1)
    _i64(t, MOVE_KEYS)[slot] = place + 1
    _i32(t, MOVE_NUMBER)[slot] = number


def place_of(key: int) -> tuple[int, int]:
    """The head and the position of a place's key."""
    return key >> 32, (key & 0xFFFFFFFF) >> 2
