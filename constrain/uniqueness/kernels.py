"""Kernels that follow keys and items of a JSON text while the vocabulary's trie is walked.

They work on two contexts (arrays of addresses, see :mod:`constrain.engine.kernels`): that of the rules'
pool, and one of their own, which holds

* a byte trie of the texts that occurred: keys and strings as UTF-8 without escapes; behind the byte
  0xFF, which UTF-8 has not, other scalars: literals as they stand, numbers as sign, digits, ``e``,
  exponent, without zeros at either end.  It is a hash table from (node, byte) to node, lists of children,
  and for each node the number of the text that ends there;
* the containers: parent, kind, a bitset over the numbers of an object's keys or an array's items so far,
  and one of its *rivals*: texts that what is read next there must not be, lest something may repeat;
* steps from container to container (a hash table) where what has been read may still be part of an item
  that is there already; the caller adds them when a kernel asks;
* scratch space.

A *place* in a text is (mode, node, escape, frame, closed):

* mode: what is being read, as in :mod:`grammars.uniqueness.memory`;
* node: of the key or string so far (``NO_NODE`` once it differs from all known ones); behind a value that
  matters its number (``NO_NODE`` if it is new);
* escape: an unfinished escape in a string; in another scalar, the depth at which it began (0: before
  the walk);
* frame: the innermost container.  Those that are opened during a walk and cannot become equal to anything
  live on its path: number ``-2 - depth``;
* closed: three bits for every container around the place, the innermost lowest: ``ENDED`` once a key or
  item that is not known has ended there since the walk began, ``NEXT`` while another key is read, and
  ``INSIDE`` in what may become equal to such an item.  From then on one more text must be avoided.  The
  latest of them is noted (``N_ENDED``): a key or string that ends behind it in the same container is
  compared with it; else whatever it is must be avoided.

**Items that are arrays or objects.**  Where one is read a container is *deep* as long as it may become equal
to an item that is there.  It stops being so with the first key or value that no such item has in this
place: then its *safe* twin takes its place, which remembers its own keys or items only and closes as
something new.  Otherwise the step leads to another deep container, described as text read before the
walk would be.

Nothing here allocates or raises; whatever cannot be decided is handed back to the caller.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, int32, int64, njit, types, uint64
from numba.extending import intrinsic

from constrain.engine.context import context_at as _context
from constrain.engine.context import i32 as _i32
from constrain.engine.context import i64 as _i64
from constrain.engine.context import mix as _mix
from constrain.engine.context import pointer as _pointer
from constrain.engine.context import u8 as _u8
from constrain.engine.context import u16 as _u16
from constrain.engine.context import u64 as _u64
from constrain.engine.kernels import (
    N_CLASSES,
    N_WORDS,
    OUT_OF_FUEL,
    P_ACCEPT_FROM,
    P_BYTE_CLASS,
    P_FIRST,
    P_FLOOR,
    P_LOOP,
    P_TABLE,
    S_ACCEPT,
    S_CAN,
    S_COUNT,
    S_N,
    S_OFFSET,
    S_Q,
    T_ASCII_BELOW,
    T_BELOW,
    T_BYTE,
    T_SKIP,
    T_TOKEN_START,
    T_TOKENS,
    loop_of,
)
from constrain.engine.kernels import SET as _SET
from constrain.engine.kernels import step_configuration as _move
from constrain.engine.kernels import unpack as _open
from constrain.masks.kernels import ASCII_LOOP, NO_LOOP, stays
from grammars.ir import REPEATED_CLOSE, REPEATED_COMMA
from grammars.uniqueness.memory import (
    COLON,
    DONE,
    ESCAPE,
    KEY,
    KEY_ESCAPE,
    KEY_STRING,
    SCALAR,
    STRING,
    VALUE,
)

# Fields of the context of keys and items.
(
    K_HASH_KEY, K_HASH_VALUE, K_NODE_KEY, F_PARENT, F_KIND, NOWHERE, F_OFFSET, F_WORDS,
    F_RIVAL_OFFSET, F_RIVAL_WORDS, F_VALUE, F_SAFE, F_STEP_KEY, F_STEP_VALUE,
    N_STEPS, N_MISS, N_MISS_EVENT, N_FULL, W_TURNS, W_SIGN_TURNS, N_WORK, N_GIVEN_UP,
    W_PATH, W_STACK, W_ORDER, W_SIGNS, W_ZEROS, W_TEMP_PARENT, W_TEMP_KIND, W_BYTES, W_RAW, W_ROW, N_HASH,
    N_STACK_ROOM, N_RAW, N_COMPARES, N_MARK_COMMA, N_MARK_CLOSE, N_CHANGED,
    T_SIGNS, T_SIGN_OFFSET, T_SIGN_TEXT, T_SIGN_QUOTE, T_SIGN_ENDING, N_OUTSIDE, N_INSIDE, N_ESCAPED,
    N_ENDINGS, W_MEMO, W_ENDINGS, T_CHILD_OFFSET, T_CHILDREN, T_CHILD_BYTE,
    K_NODE_FIRST, K_NODE_NEXT, K_NODE_BYTE, N_ENDED, N_ENDED_FROM, N_ENDED_TO, N_COMPARED,
    N_SEVERAL, W_SEEN, W_SEEN_SLOTS, W_OPENED, N_SEEN, N_OPENED, N_EXPLORED, N_FORGETS,
    N_RESUME, K_OLD_KEY, K_OLD_VALUE, N_OLD, N_MOVED,
) = range(73)  # fmt: skip
KEY_FIELDS: Final = 73

NO_NODE: Final = -1
NO_FRAME: Final = -1
IS_OBJECT: Final = 1
HAS_TEXTS: Final = 2
"""Kind of a container: it has keys, or items that are compared."""
KEEPS: Final = 4
"""Kind of an array: its items are compared here."""
HAS_BOXES: Final = 8
"""Kind of a container: some of its rivals are arrays or objects."""
DEEP: Final = 16
"""Kind of a container that may become equal to, or a part of, an item that is there."""
ENDED: Final = 1
"""Of ``closed``: a key or item that is not known has ended in the container."""
NEXT: Final = 2
"""Of ``closed``: another key is being read behind it."""
INSIDE: Final = 4
"""Of ``closed``: the container, or one around it, is an item behind such an item."""
_GROUP: Final = 7
_ENDED_HERE: Final = 3
_DEEPEST: Final = 1 << 55
OPEN_OBJECT: Final = 0
OPEN_ARRAY: Final = 1
TEXTS: Final = 2
"""Events of steps from container to container: number of a text and this."""
OUTSIDE: Final = 0
INSIDE_STRING: Final = 1
BEHIND_BACKSLASH: Final = 2
"""Where a token begins, for ``list_signs``."""

FINE: Final = 0
"""Verdict on a place: nothing repeats, or it can be completed."""
REPEATED: Final = 1
"""A key or an item repeats, or can only do so."""
UNKNOWN: Final = 2
"""The kernel cannot tell."""
MISSING: Final = 3
"""A step from container to container is to be added by the caller first."""
BUT_ONE: Final = 4
"""Fine, unless it is the text that ended since the walk began."""
APART: Final = 5
"""Of a key or item: it is neither known nor the one that ended since the walk began."""
GIVEN_UP: Final = 6
"""Looking ahead has cost ``MOST_WORK``."""
_TOO_LONG: Final = -9

CHANGED: Final = 1
"""Of the answer of ``restrict_mask``: the mask is not the rules' own."""
LEFT: Final = 2
"""Of the same: there are tokens that the caller has to try."""
GAVE_UP: Final = 4
"""Of the same: some tokens stay as looking ahead had cost ``MOST_WORK``."""
STEP_MISSING: Final = 8
"""Of the same, and nothing else counts then: a step is to be added first."""
READ_RAW: Final = -2
"""Instead of the node of a key or string: its bytes so far are to be read."""
MOST_WORK: Final = 8_000
"""Places that all looks ahead of one question may visit: a few milliseconds; what is in doubt then stays."""
MOST_ZEROS: Final = 64
_EXPANSIONS: Final = 250
"""Places one look ahead may visit before it is left to the caller."""
_TWO: Final = -2
_MOVED_AT_ONCE: Final = 8
"""Slots of the old hash table that are taken over with every new node: all, before the next one is old."""
WALK_COLUMNS: Final = 11
"""Numbers by place on the path of a walk."""
MEMO_COLUMNS: Final = 9
MEMO_SIZE: Final = 16
"""Looks ahead that one mask remembers."""
WHOLE: Final = 1
"""Behind a trie node in a list of what the caller has to try: all tokens below are meant."""
TOKEN: Final = 2
"""Instead of a trie node it is a token."""
STACK_COLUMNS: Final = 15
"""Numbers by place on the stack of a look ahead."""
SEEN_COLUMNS: Final = 5
"""Numbers by place that looks ahead remember: four that name it, and what is known of it."""
SEEN_ROOM: Final = 1 << 13
"""Places, and beginnings of numbers and literals, that are remembered at most."""
SEEN_SLOTS: Final = 1 << 14

# What looks ahead know of a place, in the lowest bits; above them flags, or the depth of an open one.
_FRESH: Final = 0
_OPEN: Final = 1
_LEFT_OPEN: Final = 2
_DEAD: Final = 3
_LIVE: Final = 4
_STATE: Final = 7
_ABOVE: Final = 3
# Flags of what was explored: a zero was left out; a number other than zero repeats; all is uncertain.
_ZERO_LEFT_OUT: Final = 1
_NUMBER_REPEATS: Final = 2
_UNSURE: Final = 4
_INCOMPLETE: Final = -1
_TEXT_MODE: Final = 15
"""Instead of a mode: no place, but a beginning of a number or literal."""
_RULES_MODE: Final = 14
"""The same: a place of the rules alone."""
_WAY_COLUMNS: Final = 6
"""Numbers by place on the stack of ``find_text``."""

# an unfinished escape: phase (1: behind the backslash, 2 to 5: that many less one hex digits to
# come), the digits so far, the first half of a surrogate pair
_PHASE: Final = 7
_DIGITS: Final = 3
_HIGH: Final = 19


@njit
def _child(u, node, byte):  # type: ignore[no-untyped-def]
    """The node behind a byte, ``NO_NODE`` if no known key goes on so."""
    wanted = node * 256 + byte + 1
    child = _found(_i64(u, K_HASH_KEY), _i32(u, K_HASH_VALUE), u[N_HASH], wanted)
    if child >= 0 or u[N_OLD] == 0:
        return child
    return _found(_i64(u, K_OLD_KEY), _i32(u, K_OLD_VALUE), u[N_OLD], wanted)


@njit
def _found(keys, values, size, wanted):  # type: ignore[no-untyped-def]
    """What a hash table has for a key, ``NO_NODE`` if it has none."""
    slot = int64(_mix(uint64(0), wanted) & uint64(size - 1))
    while keys[slot] != 0:
        if keys[slot] == wanted:
            return int64(values[slot])
        slot = (slot + 1) & (size - 1)
    return int64(NO_NODE)


@njit
def _child_of_character(u, node, code):  # type: ignore[no-untyped-def]
    """The node behind the UTF-8 form of a character."""
    if code < 0x80:
        return _child(u, node, code)
    if code < 0x800:
        node = _child(u, node, int64(0xC0 | (code >> 6)))
    else:
        if code < 0x10000:
            node = _child(u, node, int64(0xE0 | (code >> 12)))
        else:
            node = _child(u, node, int64(0xF0 | (code >> 18)))
            if node >= 0:
                node = _child(u, node, int64(0x80 | ((code >> 12) & 0x3F)))
        if node >= 0:
            node = _child(u, node, int64(0x80 | ((code >> 6) & 0x3F)))
    if node >= 0:
        node = _child(u, node, int64(0x80 | (code & 0x3F)))
    return node


@njit
def _hex(byte):  # type: ignore[no-untyped-def]
    if byte <= 0x39:
        return byte - 0x30
    return (byte | 0x20) - 0x61 + 10


@njit
def _settled(u, node, escape):  # type: ignore[no-untyped-def]
    """The node once it is clear that the first half of a surrogate pair stays alone."""
    high = escape >> _HIGH
    return _child_of_character(u, node, high) if high and node >= 0 else node


@njit
def _in_escape(u, node, escape, byte):  # type: ignore[no-untyped-def]
    """(node, escape) after a byte of an unfinished escape (rules allow right ones only)."""
    phase = escape & _PHASE
    high = escape >> _HIGH
    if phase == 1:
        if byte == 0x75:  # u
            return node, (high << _HIGH) | 5
        node = _settled(u, node, escape)
        code = byte
        if byte == 0x62:
            code = int64(8)
        elif byte == 0x66:
            code = int64(12)
        elif byte == 0x6E:
            code = int64(10)
        elif byte == 0x72:
            code = int64(13)
        elif byte == 0x74:
            code = int64(9)
        return (_child(u, node, code) if node >= 0 else node), int64(0)
    digits = (((escape >> _DIGITS) & 0xFFFF) << 4 | _hex(byte)) & 0xFFFF
    if phase > 2:
        return node, (high << _HIGH) | (digits << _DIGITS) | (phase - 1)
    if high and digits & 0xFC00 == 0xDC00:
        code = 0x10000 + ((high & 0x3FF) << 10) + (digits & 0x3FF)
        return _child_of_character(u, node, int64(code)), int64(0)
    node = _settled(u, node, escape)
    if digits & 0xFC00 == 0xD800:
        return node, digits << _HIGH
    return (_child_of_character(u, node, int64(digits)) if node >= 0 else node), int64(0)


@njit
def _kind(u, frame):  # type: ignore[no-untyped-def]
    if frame >= 0:
        return int64(_u8(u, F_KIND)[frame])
    if frame == NO_FRAME:
        return int64(0)
    return int64(_u8(u, W_TEMP_KIND)[-2 - frame])


@njit
def _parent(u, frame):  # type: ignore[no-untyped-def]
    if frame >= 0:
        return int64(_i32(u, F_PARENT)[frame])
    if frame == NO_FRAME:
        return frame
    return int64(_i32(u, W_TEMP_PARENT)[-2 - frame])


@njit
def _has(u, frame, text):  # type: ignore[no-untyped-def]
    """Whether a text, by its number, is one of a container's keys or items."""
    if text < 0 or frame < 0 or (text >> 6) >= _i32(u, F_WORDS)[frame]:
        return False
    word = _u64(u, NOWHERE)[_i64(u, F_OFFSET)[frame] + (text >> 6)]
    return (word >> uint64(text & 63)) & uint64(1) != uint64(0)


@njit
def _is_rival(u, frame, text):  # type: ignore[no-untyped-def]
    """Whether a text, by its number, is one of those that what is read next must not be."""
    if text < 0 or frame < 0 or (text >> 6) >= _i32(u, F_RIVAL_WORDS)[frame]:
        return False
    word = _u64(u, NOWHERE)[_i64(u, F_RIVAL_OFFSET)[frame] + (text >> 6)]
    return (word >> uint64(text & 63)) & uint64(1) != uint64(0)


@njit
def _stepped(u, frame, event):  # type: ignore[no-untyped-def]
    """(container, verdict) after an event in one."""
    keys, values = _i64(u, F_STEP_KEY), _i32(u, F_STEP_VALUE)
    size = u[N_STEPS]
    wanted = (frame << 32 | event) + 1
    slot = int64(_mix(uint64(0), wanted) & uint64(size - 1))
    while keys[slot] != 0:
        if keys[slot] == wanted:
            after = int64(values[slot])
            return max(after, int64(0)), int64(FINE if after >= 0 else UNKNOWN)
        slot = (slot + 1) & (size - 1)
    if u[N_FULL]:
        return frame, int64(UNKNOWN)
    u[N_MISS] = frame
    u[N_MISS_EVENT] = event
    return frame, int64(MISSING)


@njit
def _safe_twin(u, frame):  # type: ignore[no-untyped-def]
    """The container that cannot become equal to anything any more."""
    if frame >= 0 and _u8(u, F_KIND)[frame] & DEEP:
        return int64(_i32(u, F_SAFE)[frame])
    return frame


@njit
def _text_at(u, node):  # type: ignore[no-untyped-def]
    """The number of the text that ends at a node, or ``NO_NODE``."""
    return int64(_i32(u, K_NODE_KEY)[node]) if node >= 0 else int64(NO_NODE)


@njit
def _scalar_byte(u, begin, at):  # type: ignore[no-untyped-def]
    """Byte number ``at`` of a scalar that began at a depth (0: before the walk)."""
    if begin > 0:
        return int64(_u8(u, W_BYTES)[begin + at])
    if at < u[N_RAW]:
        return int64(_u8(u, W_RAW)[at])
    return int64(_u8(u, W_BYTES)[1 + at - u[N_RAW]])


@njit
def _exponent(u, begin, at, length):  # type: ignore[no-untyped-def]
    """The exponent written from ``at`` on; ``_TOO_LONG`` if it has too many digits."""
    negative = False
    value = int64(0)
    digits = 0
    for i in range(at, length):
        byte = _scalar_byte(u, begin, i)
        if byte == 0x2D:
            negative = True
        elif byte != 0x2B:
            value = value * 10 + byte - 0x30
            digits += 1
    if digits > 15:
        return int64(_TOO_LONG)
    return -value if negative else value


@njit
def _number_at(u, node, begin, length):  # type: ignore[no-untyped-def]
    """The number of a JSON number's text in canonical form, ``NO_NODE`` or ``_TOO_LONG``."""
    negative = _scalar_byte(u, begin, 0) == 0x2D
    mantissa = length
    first, last = length, int64(-1)
    shift = int64(0)
    behind_point = False
    for i in range(length):
        byte = _scalar_byte(u, begin, i)
        if byte | 0x20 == 0x65:
            mantissa = i
            break
        if byte == 0x2E:
            behind_point = True
        elif byte != 0x2D:
            shift += behind_point
            if byte != 0x30:
                first = min(first, i)
                last = i
    if last < 0:
        negative = False
        power = int64(0)
    else:
        power = _exponent(u, begin, mantissa + 1, length)
        if power == _TOO_LONG:
            return power
        power -= shift
        for i in range(last + 1, mantissa):  # zeros at the end move the point
            power += _scalar_byte(u, begin, i) != 0x2E
    node = _child(u, node, int64(0x2D if negative else 0x2B))
    for i in range(first, last + 1):
        byte = _scalar_byte(u, begin, i)
        if byte != 0x2E and node >= 0:
            node = _child(u, node, byte)
    if node >= 0:
        node = _child(u, node, int64(0x65))
    if power < 0 and node >= 0:
        node = _child(u, node, int64(0x2D))
        power = -power
    unit = int64(1)
    while unit <= power // 10:
        unit *= 10
    while unit > 0 and node >= 0:
        node = _child(u, node, 0x30 + (power // unit) % 10)
        unit //= 10
    return _text_at(u, node)


@njit
def _scalar_at(u, frame, begin, depth):  # type: ignore[no-untyped-def]
    """The number of the scalar that ended before the byte at ``depth``; see ``_number_at``."""
    if frame < 0:
        return int64(NO_NODE)
    node = _child(u, int64(0), int64(0xFF))
    if node < 0:
        return node
    length = depth - begin if begin > 0 else depth - 1 + u[N_RAW]
    byte = _scalar_byte(u, begin, 0)
    if byte == 0x2D or 0x30 <= byte <= 0x39:
        return _number_at(u, node, begin, length)
    for i in range(length):
        node = _child(u, node, _scalar_byte(u, begin, i))
        if node < 0:
            break
    return _text_at(u, node)


@njit
def _may_be_known(u, begin, depth):  # type: ignore[no-untyped-def]
    """Whether a scalar that has come up to a depth may become one that is known.

    Of a number the digits between the zeros at either end tell: an exponent may yet shift the point
    anywhere, and zeros may follow.
    """
    node = _child(u, int64(0), int64(0xFF))
    if node < 0:
        return False
    length = depth + 1 - begin if begin > 0 else depth + u[N_RAW]
    first_byte = _scalar_byte(u, begin, 0)
    if first_byte != 0x2D and not 0x30 <= first_byte <= 0x39:
        for i in range(length):
            node = _child(u, node, _scalar_byte(u, begin, i))
            if node < 0:
                return False
        return True
    nothing = True
    zeros = 0
    node = _child(u, node, int64(0x2D if first_byte == 0x2D else 0x2B))
    for i in range(length):
        byte = _scalar_byte(u, begin, i)
        if byte | 0x20 == 0x65:
            break
        if byte == 0x30:
            zeros += 1
        elif byte != 0x2E and byte != 0x2D:
            while zeros > 0 and not nothing and node >= 0:
                node = _child(u, node, int64(0x30))
                zeros -= 1
            nothing = False
            zeros = 0
            if node >= 0:
                node = _child(u, node, byte)
    return nothing or node >= 0


@njit
def _in_danger(u, mode, node, escape, frame, closed, depth):  # type: ignore[no-untyped-def]
    """Whether what is being written, or is to begin, may repeat a key or an item."""
    kind = _kind(u, frame)
    here = closed & _ENDED_HERE
    if closed & INSIDE:
        return True
    if kind & DEEP:
        if STRING <= mode <= KEY_ESCAPE:
            return node >= 0
        if mode == SCALAR:
            return _may_be_known(u, escape, depth)
        return _is_rival(u, frame, node) if mode == DONE else True
    if kind & KEEPS:
        if here:
            return True
        if frame < 0 or kind & HAS_TEXTS == 0:
            return False
        if mode in (STRING, ESCAPE):
            return node >= 0
        if mode == SCALAR:
            return _may_be_known(u, escape, depth)
        return _has(u, frame, node) if mode == DONE else True
    if here and (mode == KEY or (here & NEXT and KEY_STRING <= mode <= KEY_ESCAPE)):
        return True
    if frame < 0 or kind & (HAS_TEXTS | IS_OBJECT) != HAS_TEXTS | IS_OBJECT:
        return False
    return mode == KEY or (KEY_STRING <= mode <= KEY_ESCAPE and node >= 0)


@njit
def _text_begin(u, end):  # type: ignore[no-untyped-def]
    """Where a string begins whose quote is at depth ``end``; 0: before the walk; -1: it has escapes."""
    bytes_on_path, raw = _u8(u, W_BYTES), _u8(u, W_RAW)
    at = end - 1
    while at > 0 and bytes_on_path[at] != 0x22:
        if bytes_on_path[at] == 0x5C:
            return int64(-1)
        at -= 1
    if at > 1:
        return int64(-1) if bytes_on_path[at - 1] == 0x5C else int64(at + 1)
    if at == 1:
        return int64(-1) if u[N_RAW] > 0 and raw[u[N_RAW] - 1] == 0x5C else int64(2)
    for i in range(u[N_RAW]):
        if raw[i] == 0x5C:
            return int64(-1)
    return int64(0)


@njit
def _string_end(u, depth):  # type: ignore[no-untyped-def]
    """The depth of the quote that ends the item before a separator; 0 if it is no string of this walk."""
    bytes_on_path = _u8(u, W_BYTES)
    at = depth - 1
    while at > 0 and (
        bytes_on_path[at] == 0x20 or bytes_on_path[at] == 0x0A or bytes_on_path[at] == 0x0D
        or bytes_on_path[at] == 0x09
    ):  # fmt: skip
        at -= 1
    return int64(at) if at > 0 and bytes_on_path[at] == 0x22 else int64(0)


@njit
def _note_ended(u, frame, end):  # type: ignore[no-untyped-def]
    """Notes the key or item, not known, that has ended in a container; ``end``: its quote's depth or 0.

    One is noted at a time: that of another container is forgotten, and then not compared.
    """
    u[N_ENDED], u[N_ENDED_TO] = frame, end
    u[N_ENDED_FROM] = _text_begin(u, end) if end > 0 else int64(-1)


@njit
def _beside_ended(u, frame, end):  # type: ignore[no-untyped-def]
    """The verdict on a key or item that ends behind another in a container: ``APART`` or ``REPEATED``.

    ``BUT_ONE`` where one of them is no string without escapes, or the other one is not noted.
    """
    if end <= 0 or u[N_ENDED] != frame or u[N_ENDED_FROM] < 0:
        return int64(BUT_ONE)
    begin = _text_begin(u, end)
    if begin <= 0:
        return int64(BUT_ONE)
    u[N_COMPARED] = 1
    bytes_on_path, raw = _u8(u, W_BYTES), _u8(u, W_RAW)
    first = u[N_RAW] if u[N_ENDED_FROM] == 0 else int64(0)
    start = max(u[N_ENDED_FROM], int64(1))
    if first + u[N_ENDED_TO] - start != end - begin:
        return int64(APART)
    for i in range(end - begin):
        byte = raw[i] if i < first else bytes_on_path[start + i - first]
        if byte != bytes_on_path[begin + i]:
            return int64(APART)
    return int64(REPEATED)


@njit
def _end_value(u, mode, node, escape, frame, closed, depth):  # type: ignore[no-untyped-def]
    """Behind a value that matters: (whether it repeats an item, frame, closed, verdict)."""
    if mode == SCALAR:
        node = _scalar_at(u, frame, escape, depth)
    elif mode != DONE:
        return False, frame, closed, int64(FINE)  # none: an empty container
    kind = _kind(u, frame)
    if node == _TOO_LONG:
        return False, frame, closed | ENDED, int64(UNKNOWN)
    if kind & KEEPS and closed & _ENDED_HERE:
        verdict = _beside_ended(u, frame, _string_end(u, depth) if mode == DONE else int64(0))
        if verdict == REPEATED:
            return True, frame, closed, int64(FINE)
        return _has(u, frame, node), frame, closed, verdict
    repeats = kind & KEEPS != 0 and _has(u, frame, node)
    if kind & DEEP and _is_rival(u, frame, node):
        after, verdict = _stepped(u, frame, TEXTS + node)
        return repeats, after, closed, verdict
    after = _safe_twin(u, frame)
    if kind & KEEPS:
        closed |= ENDED
        _note_ended(u, after, _string_end(u, depth) if mode == DONE else int64(0))
    return repeats, after, closed, int64(FINE)


@njit
def _opened(u, frame, closed, byte, depth):  # type: ignore[no-untyped-def]
    """(frame, closed, verdict) of a container that a byte opens."""
    outer = _kind(u, frame)
    inside = closed & INSIDE
    if outer & KEEPS and closed & _ENDED_HERE:
        inside = int64(INSIDE)
    verdict = int64(FINE)
    if closed >= _DEEPEST:
        verdict = int64(UNKNOWN)
    closed = closed << 3 | inside
    if frame >= 0 and outer & HAS_BOXES and outer & (KEEPS | DEEP):
        event = OPEN_OBJECT if byte == 0x7B else OPEN_ARRAY
        after, missing = _stepped(u, frame, int64(event))
        return after, closed, max(verdict, missing)
    kind = IS_OBJECT if byte == 0x7B else (KEEPS if u[N_COMPARES] else 0)
    _i32(u, W_TEMP_PARENT)[depth] = _safe_twin(u, frame)
    _u8(u, W_TEMP_KIND)[depth] = kind
    return int64(-2 - depth), closed, verdict


@njit
def _left(u, frame, closed):  # type: ignore[no-untyped-def]
    """(frame, number of its value, closed) once a container has ended."""
    deep = frame >= 0 and _u8(u, F_KIND)[frame] & DEEP
    node = int64(_i32(u, F_VALUE)[frame]) if deep else int64(NO_NODE)
    return _parent(u, frame), node, closed >> 3


@njit
def _outside(u, mode, node, escape, frame, closed, byte, depth):  # type: ignore[no-untyped-def]
    """The place after a byte outside strings; see ``_track``."""
    verdict, symbol = int64(FINE), byte
    kind = _kind(u, frame)
    if byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D:
        if mode == SCALAR:
            node = _scalar_at(u, frame, escape, depth) if kind & (KEEPS | DEEP) else int64(NO_NODE)
            if node == _TOO_LONG:
                verdict = int64(UNKNOWN)
            mode = int64(DONE)
        return mode, node, int64(0), frame, closed, verdict, symbol
    if byte == 0x22:
        if mode == KEY:
            mode = int64(KEY_STRING)
            if closed & ENDED:
                closed ^= ENDED | NEXT
            node = int64(0) if frame >= 0 else int64(NO_NODE)
        else:
            mode = int64(STRING)
            node = int64(0) if frame >= 0 and kind & (KEEPS | DEEP) else int64(NO_NODE)
        return mode, node, int64(0), frame, closed, verdict, symbol
    if byte == 0x7B or byte == 0x5B:
        frame, closed, verdict = _opened(u, frame, closed, byte, depth)
        mode = int64(KEY) if byte == 0x7B else int64(VALUE)
        return mode, int64(NO_NODE), int64(0), frame, closed, verdict, symbol
    if (byte == 0x2C or byte == 0x5D or byte == 0x7D) and kind & (KEEPS | DEEP):
        repeats, frame, closed, verdict = _end_value(u, mode, node, escape, frame, closed, depth)
        if repeats:
            symbol = int64(REPEATED_COMMA if byte == 0x2C else REPEATED_CLOSE)
    if byte == 0x2C:
        mode = int64(KEY) if kind & IS_OBJECT else int64(VALUE)
        return mode, int64(NO_NODE), int64(0), frame, closed, verdict, symbol
    if byte == 0x7D or byte == 0x5D:
        if verdict != MISSING:
            frame, node, closed = _left(u, frame, closed)
        return int64(DONE), node, int64(0), frame, closed, verdict, symbol
    if byte == 0x3A:
        return int64(VALUE), int64(NO_NODE), int64(0), frame, closed, verdict, symbol
    if mode != SCALAR:
        escape = depth
    return int64(SCALAR), int64(NO_NODE), escape, frame, closed, verdict, symbol


@njit
def _track(u, mode, node, escape, frame, closed, byte, depth):  # type: ignore[no-untyped-def]
    """A place after a byte: (mode, node, escape, frame, closed, verdict, symbol).

    The verdict is ``FINE``, ``REPEATED`` for a key that its object has, ``UNKNOWN``, ``BUT_ONE``,
    ``APART`` or ``MISSING`` (nothing else counts then); the symbol is what the rules read: the byte,
    or a mark behind a repeated item.  ``depth`` is that of the byte on the path; it numbers a container
    that the byte opens.
    """
    fine = int64(FINE)
    if mode < STRING or mode > KEY_ESCAPE:
        return _outside(u, mode, node, escape, frame, closed, byte, depth)
    if mode & 1:
        if node >= 0:
            node, escape = _in_escape(u, node, escape, byte)
        return mode - 1, node, escape, frame, closed, fine, byte
    if node >= 0 and escape & _PHASE:
        node, escape = _in_escape(u, node, escape, byte)
        return mode, node, escape, frame, closed, fine, byte
    if byte == 0x5C:
        if node >= 0:
            escape |= 1
        return mode + 1, node, escape, frame, closed, fine, byte
    node = _settled(u, node, escape)
    escape = int64(0)
    if byte != 0x22:
        if node >= 0:
            node = _child(u, node, byte)
        return mode, node, escape, frame, closed, fine, byte
    text = _text_at(u, node)
    if mode == STRING:
        return int64(DONE), text, escape, frame, closed, fine, byte
    if _has(u, frame, text):
        return int64(COLON), int64(NO_NODE), escape, frame, closed, int64(REPEATED), byte
    if _kind(u, frame) & DEEP and _is_rival(u, frame, text):
        frame, verdict = _stepped(u, frame, TEXTS + text)
        return int64(COLON), int64(NO_NODE), escape, frame, closed, verdict, byte
    verdict = fine
    if closed & _ENDED_HERE:
        verdict = _beside_ended(u, frame, depth)
    frame = _safe_twin(u, frame)
    if verdict == fine:
        _note_ended(u, frame, depth)
    closed = (closed & ~NEXT) | ENDED
    return int64(COLON), int64(NO_NODE), escape, frame, closed, verdict, byte


@njit
def _read_raw(u):  # type: ignore[no-untyped-def]
    """(node, escape) to which the bytes of a string so far, ``W_RAW``, lead."""
    text = _u8(u, W_RAW)
    mode, node, escape = int64(KEY_STRING), int64(0), int64(0)
    frame, closed = int64(NO_FRAME), int64(0)
    for i in range(u[N_RAW]):
        mode, node, escape, frame, closed, _, _ = _track(
            u, mode, node, escape, frame, closed, int64(text[i]), int64(0)
        )
        if node < 0:
            return int64(NO_NODE), int64(0)
    return node, escape


@njit
def _begun(u, mode, node):  # type: ignore[no-untyped-def]
    """(node, escape) where a walk begins; no bytes so far count where none are given."""
    if node == READ_RAW:
        return _read_raw(u)
    if mode != SCALAR:
        u[N_RAW] = 0
    return int64(node), int64(0)


@njit
def _put_child(u, wanted, child):  # type: ignore[no-untyped-def]
    """Notes (node, byte) -> node, which is not there; there is room."""
    keys = _i64(u, K_HASH_KEY)
    size = u[N_HASH]
    slot = int64(_mix(uint64(0), wanted) & uint64(size - 1))
    while keys[slot] != 0:
        slot = (slot + 1) & (size - 1)
    keys[slot] = wanted
    _i32(u, K_HASH_VALUE)[slot] = child


@njit
def _move_children(u, slots):  # type: ignore[no-untyped-def]
    """Takes over some slots of the smaller hash table from which children are being moved."""
    keys, values = _i64(u, K_OLD_KEY), _i32(u, K_OLD_VALUE)
    end = min(u[N_MOVED] + slots, u[N_OLD])
    for slot in range(u[N_MOVED], end):
        if keys[slot] != 0:
            _put_child(u, keys[slot], values[slot])
    u[N_MOVED] = end
    if end == u[N_OLD]:
        u[N_OLD] = 0


@njit("void(int64)", cache=True, nogil=True)
def move_all_children(keys):  # type: ignore[no-untyped-def]
    """Takes over what is left of the smaller hash table."""
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    _move_children(u, u[N_OLD])


@njit
def _put_step(u, key, frame):  # type: ignore[no-untyped-def]
    table = _i64(u, F_STEP_KEY)
    size = u[N_STEPS]
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while table[slot] != 0:
        slot = (slot + 1) & (size - 1)
    table[slot] = key
    _i32(u, F_STEP_VALUE)[slot] = frame


@njit(
    "void(int64, Array(int64, 1, 'C', readonly=True), Array(int32, 1, 'C', readonly=True))",
    cache=True,
    nogil=True,
)
def rebuild_steps(keys, old_keys, old_values):  # type: ignore[no-untyped-def]
    """Puts the steps of a smaller hash table into the present, cleared one."""
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    for slot in range(len(old_keys)):
        if old_keys[slot] != 0:
            _put_step(u, old_keys[slot], old_values[slot])


@njit("void(int64, int64, int64)", cache=True, nogil=True)
def add_step(keys, key, frame):  # type: ignore[no-untyped-def]
    """Notes a step between containers, see ``_stepped``; there is room."""
    _put_step(carray(_pointer(keys), (KEY_FIELDS,), np.int64), key, frame)


@njit(
    "int64(int64, Array(uint8, 1, 'C', readonly=True), int64, int64)",
    cache=True,
    nogil=True,
)
def add_key(keys, text, nodes, number):  # type: ignore[no-untyped-def]
    """Adds a text; its nodes are made where they are missing: number ``nodes`` and up; see ``UsedTexts``.

    The caller provides room for as many more nodes as there are bytes.  Returns how many nodes there are.
    """
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    node = int64(0)
    for i in range(len(text)):
        after = _child(u, node, int64(text[i]))
        if after < 0:
            _put_child(u, node * 256 + int64(text[i]) + 1, nodes)
            if u[N_OLD] != 0:
                _move_children(u, _MOVED_AT_ONCE)
            _i32(u, K_NODE_KEY)[nodes] = -1
            _u8(u, K_NODE_BYTE)[nodes] = text[i]
            _i32(u, K_NODE_FIRST)[nodes] = 0
            _i32(u, K_NODE_NEXT)[nodes] = _i32(u, K_NODE_FIRST)[node]
            _i32(u, K_NODE_FIRST)[node] = nodes
            after = int64(nodes)
            nodes += 1
        node = after
    _i32(u, K_NODE_KEY)[node] = number
    return int64(nodes)


@njit
def _class_of(ctx, u, symbol):  # type: ignore[no-untyped-def]
    """The class of a byte or mark; -1 for a mark that no rule reads."""
    if symbol < 256:
        return int64(_u8(ctx, P_BYTE_CLASS)[symbol])
    return u[N_MARK_COMMA if symbol == REPEATED_COMMA else N_MARK_CLOSE]


@njit
def _tells_apart(mode, byte, inside):  # type: ignore[no-untyped-def]
    """Whether texts of which one goes on with this byte and another otherwise differ as values.

    Blanks and escapes do not tell, as the same can be written without them, nor do zeros and signs before
    a number.  ``inside``: what must differ is an item around the place, or else a key or string here.
    """
    if mode == STRING:
        return byte != 0x5C
    if mode == KEY_STRING:
        return byte != 0x5C and not inside
    blank = byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D
    return mode == VALUE and not blank and byte != 0x30 and byte != 0x2D


@njit
def _is_nothing_yet(u, begin, depth):  # type: ignore[no-untyped-def]
    """Whether a scalar that goes on up to a depth is a number without a digit but zeros so far."""
    length = depth + 1 - begin if begin > 0 else depth + u[N_RAW]
    for i in range(length):
        byte = _scalar_byte(u, begin, i)
        if byte != 0x30 and byte != 0x2E and byte != 0x2D:
            return byte | 0x20 == 0x65 and i > 0  # whatever the exponent
    return True


@njit
def _was_seen(u, count, q, n, f, mode, node, frame, closed):  # type: ignore[no-untyped-def]
    """Whether a zero or blank that leads to the same place was followed; else notes it if it can."""
    seen = _i64(u, W_ZEROS)
    for i in range(0, 7 * count, 7):
        same = seen[i] == q and seen[i + 1] == n and seen[i + 2] == f and seen[i + 3] == mode
        if same and seen[i + 4] == node and seen[i + 5] == frame and seen[i + 6] == closed:
            return True
    if count < MOST_ZEROS:
        at = 7 * count
        seen[at], seen[at + 1], seen[at + 2], seen[at + 3] = q, n, f, mode
        seen[at + 4], seen[at + 5], seen[at + 6] = node, frame, closed
    return False


@njit
def _is_sign(u, begin, depth):  # type: ignore[no-untyped-def]
    """Whether a scalar that has come up to a depth is nothing but a minus sign."""
    length = depth + 1 - begin if begin > 0 else depth + u[N_RAW]
    return length == 1 and _scalar_byte(u, begin, 0) == 0x2D


@njit
def _note_find(u, stack, depth, base, inside):  # type: ignore[no-untyped-def]
    """Notes a find in the present branch of all places on the stack.

    Column 9 of a place: one more than the branch that leads to a find.  Returns ``_TWO`` if some place has
    two of them that tell values apart, else the depth of the deepest place that tells, if this is
    its first, or -1.
    """
    bytes_on_path = _u8(u, W_BYTES)
    first = int64(-1)
    told = False
    while depth >= 0:
        at = STACK_COLUMNS * depth
        branch = ((stack[at + 6] - 1) & 255) + 1
        byte = int64(bytes_on_path[base + 1 + depth])
        tells = _tells_apart(stack[at + 3], byte, inside)
        if stack[at + 3] == SCALAR and 0x31 <= byte <= 0x39:
            tells = _is_sign(u, stack[at + 5], base + depth)
        if tells:
            if stack[at + 9] == 0:
                stack[at + 9] = branch
                if not told:
                    first = int64(depth)
            elif stack[at + 9] != branch:
                return int64(_TWO)
            told = True
        depth -= 1
    return first


@njit
def _put(stack, depth, q, n, f, mode, node, escape, frame, closed):  # type: ignore[no-untyped-def]
    """A place on the stack of ``_look_ahead``."""
    at = STACK_COLUMNS * depth
    stack[at], stack[at + 1], stack[at + 2] = q, n, f
    stack[at + 3], stack[at + 4], stack[at + 5] = mode, node, escape
    stack[at + 6], stack[at + 7] = 0, frame
    stack[at + 8], stack[at + 9] = closed, 0
    stack[at + 10], stack[at + 11] = 0, 0


@intrinsic  # type: ignore[untyped-decorator]
def _lowest_bit(typingctx: Any, word: Any) -> Any:
    """The number of the lowest bit that is set (some is)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), codegen


@njit
def _takes(ctx, q, n, f, word):  # type: ignore[no-untyped-def]
    """One word of the classes of bytes that the rules may take (a superset: counts are left out)."""
    can, first = _u64(ctx, S_CAN), _u64(ctx, P_FIRST)
    if q == _SET:
        return can[4 * f + word]
    takes = first[4 * q + word]
    if n >= _i32(ctx, P_ACCEPT_FROM)[q]:
        takes |= can[4 * f + word]
    return takes


@njit
def _next_way(ctx, q, n, f, turns, turn):  # type: ignore[no-untyped-def]
    """The next turn whose byte the rules may take, or behind whose byte a mark may stand; -1.

    ``turns``: as four words each, the turns of the bytes of every class, and behind them of separators.
    """
    classes = ctx[N_CLASSES]
    part = turn >> 6
    mask = uint64(0xFFFF_FFFF_FFFF_FFFF) << uint64(turn & 63)
    while part < 4:
        found = turns[4 * classes + part]
        for word in range(4):
            taken = _takes(ctx, q, n, f, word)
            while taken != uint64(0):
                found |= turns[4 * (64 * word + int64(_lowest_bit(taken))) + part]
                taken &= taken - uint64(1)
        found &= mask
        if found != uint64(0):
            return 64 * part + int64(_lowest_bit(found))
        mask = uint64(0xFFFF_FFFF_FFFF_FFFF)
        part += 1
    return int64(-1)


@njit
def _note_way(stack, at, turn):  # type: ignore[no-untyped-def]
    """Counts the bytes that are to be followed from a place, and notes the first."""
    if stack[at + 11] == 0:
        stack[at + 10] = turn
    stack[at + 11] += 1


@njit
def _avoids_two(u, mode, frame, closed):  # type: ignore[no-untyped-def]
    """Whether a key or item that ended here must be avoided besides an item around the place."""
    in_key = mode in (KEY, KEY_STRING, KEY_ESCAPE)
    return closed & _ENDED_HERE and (in_key or _kind(u, frame) & KEEPS)


_LETTERS: Final = uint64(0xFFFF_FFFF_FFFF_FFFF ^ (1 << (0x5C - 64)))
"""ASCII bytes from 0x40 on but the backslash, as bits."""
_DIGITS_ASCII: Final = uint64(0x3FF << 0x30)
_QUOTE: Final = uint64(1 << 0x22)


_SAMPLES: Final = np.frombuffer(b"zqX_a0", np.uint8).copy()
"""Bytes by one of which most rules of strings lead to where anything can follow."""


@njit
def _loops_on(ctx, q, in_string):  # type: ignore[no-untyped-def]
    """Whether letters, or digits outside strings, lead from a program state back to it."""
    if loop_of(ctx, q) == NO_LOOP:
        return False
    loops = _u64(ctx, P_LOOP)
    if in_string:
        return loops[2 * q + 1] & _LETTERS != uint64(0)
    return loops[2 * q] & _DIGITS_ASCII != uint64(0)


@njit
def _item_grows(ctx, q, n, in_string):  # type: ignore[no-untyped-def]
    """Whether a configuration goes on without end, at once or behind one letter."""
    if n != 0:
        return False
    if _loops_on(ctx, q, in_string):
        return True
    if in_string:
        table, byte_class, floor = _i32(ctx, P_TABLE), _u8(ctx, P_BYTE_CLASS), _i32(ctx, P_FLOOR)
        for byte in _SAMPLES:
            target = int64(table[q * ctx[N_CLASSES] + byte_class[byte]])
            same_count = target >= 0 and target & 1 == 0 and floor[target >> 1] <= 0
            if same_count and _loops_on(ctx, target >> 1, in_string):
                return True
    return False


@njit
def _can_grow(ctx, u, q, n, f, mode, escape, depth):  # type: ignore[no-untyped-def]
    """Whether the rules let a key, string or number go on without end, so that some differ from all known.

    Says no where it is not plain to see.
    """
    if mode == SCALAR:
        if _is_nothing_yet(u, escape, depth):
            return False
    elif mode < STRING or mode > KEY_ESCAPE:
        return False
    else:  # an escape that has begun is finished first, in one way
        digits = int64(0)
        if mode & 1:
            q, n, f = _move(ctx, q, n, f, int64(_u8(ctx, P_BYTE_CLASS)[0x6E]))
        elif escape & _PHASE:
            digits = (escape & _PHASE) - 1
        for _ in range(digits):
            if q != _SET or f > 0:
                q, n, f = _move(ctx, q, n, f, int64(_u8(ctx, P_BYTE_CLASS)[0x30]))
        if q == _SET and f <= 0:  # refused, or no room: the search will tell
            return False
    if q != _SET:
        return _item_grows(ctx, q, n, mode != SCALAR)
    begin = int64(_i32(ctx, S_OFFSET)[f])
    for item in range(begin, begin + _i32(ctx, S_COUNT)[f]):
        if _item_grows(
            ctx, int64(_i32(ctx, S_Q)[item]), int64(_i32(ctx, S_N)[item]), mode != SCALAR
        ):
            return True
    return False


@njit
def _grows_below(ctx, u, q, n, mode, escape, closed, depth, i):  # type: ignore[no-untyped-def]
    """Whether all tokens at and below a trie node end where a key, string or number goes on without end.

    Says no where it is not plain to see.
    """
    if q == _SET or n != 0 or closed & INSIDE or loop_of(ctx, q) == NO_LOOP:
        return False
    loops = _u64(ctx, P_LOOP)
    if mode in (STRING, KEY_STRING):
        low, high = loops[2 * q] & ~_QUOTE, loops[2 * q + 1] & _LETTERS
        if escape & _PHASE or high == uint64(0):
            return False
        kind = loop_of(ctx, q)
    elif mode == SCALAR:
        low, high = loops[2 * q] & _DIGITS_ASCII, uint64(0)
        if low == uint64(0) or _is_nothing_yet(u, escape, depth):
            return False
        kind = int64(ASCII_LOOP)
    else:
        return False
    return stays(kind, low, high, i, _u64(ctx, T_ASCII_BELOW), _u16(ctx, T_BELOW))


@njit
def _slot_of(a, b, c, d):  # type: ignore[no-untyped-def]
    """Where the search for what four numbers name begins."""
    return int64(_mix(_mix(_mix(_mix(uint64(0), a), b), c), d) & uint64(SEEN_SLOTS - 1))


@njit
def _entry_of(u, a, b, c, d):  # type: ignore[no-untyped-def]
    """The number of what four numbers name among all that looks ahead remember; -1 if there is no room."""
    slots, seen = _i32(u, W_SEEN_SLOTS), _i64(u, W_SEEN)
    slot = _slot_of(a, b, c, d)
    while slots[slot] != 0:
        at = SEEN_COLUMNS * (int64(slots[slot]) - 1)
        if seen[at] == a and seen[at + 1] == b and seen[at + 2] == c and seen[at + 3] == d:
            return int64(slots[slot]) - 1
        slot = (slot + 1) & (SEEN_SLOTS - 1)
    entry = u[N_SEEN]
    if entry >= SEEN_ROOM:
        return int64(-1)
    at = SEEN_COLUMNS * entry
    seen[at], seen[at + 1], seen[at + 2], seen[at + 3], seen[at + 4] = a, b, c, d, _FRESH
    slots[slot] = entry + 1
    u[N_SEEN] = entry + 1
    return entry


@njit
def _scalar_entry(u, begin, depth):  # type: ignore[no-untyped-def]
    """The number of a scalar's bytes up to a depth, as ``_entry_of`` names them."""
    length = depth + 1 - begin if begin > 0 else depth + u[N_RAW]
    entry = int64(-2)
    for i in range(length):
        entry = _entry_of(u, entry, int64(_scalar_byte(u, begin, i)), int64(0), int64(_TEXT_MODE))
        if entry < 0:
            break
    return entry


@njit
def _place_entry(u, q, n, f, mode, node, escape, frame, depth):  # type: ignore[no-untyped-def]
    """The number of a place in what looks ahead remember; -1 if it is not remembered.

    All that matters behind it names it, whatever led there: of a scalar its bytes so far, too.  Containers
    on the path of a walk are not the same in another one.
    """
    if frame < NO_FRAME or u[N_FORGETS] or u[N_FULL]:
        return int64(-1)
    if mode == SCALAR:
        escape = _scalar_entry(u, escape, depth)
        if escape < 0:
            return int64(-1)
    low = int64(0xFFFF_FFFF)
    return _entry_of(
        u, (q << 32) | (n & low), (f << 32) | (node & low), (frame << 32) | mode, int64(escape)
    )


@njit
def _open_place(u, stack, depth, entry):  # type: ignore[no-untyped-def]
    """Notes that a look ahead explores a place, which is on its stack."""
    at = STACK_COLUMNS * depth
    stack[at + 12], stack[at + 13], stack[at + 14] = entry, depth, 0
    if entry >= 0:
        _i64(u, W_SEEN)[SEEN_COLUMNS * entry + 4] = _OPEN | depth << _ABOVE
        _i32(u, W_OPENED)[u[N_OPENED]] = entry
        u[N_OPENED] += 1


@njit
def _close_place(u, stack, depth):  # type: ignore[no-untyped-def]
    """Notes that all ways from the top of the stack have been explored, in vain."""
    at = STACK_COLUMNS * depth
    entry, low, flags = stack[at + 12], stack[at + 13], stack[at + 14]
    if entry >= 0:  # ways to places that are still open count for nothing yet
        known = int64(_DEAD) if low >= depth else int64(_LEFT_OPEN)
        _i64(u, W_SEEN)[SEEN_COLUMNS * entry + 4] = known | flags << _ABOVE
    if depth == 0:
        u[N_EXPLORED] = flags
        return
    above = at - STACK_COLUMNS
    stack[above + 13] = min(stack[above + 13], low)
    stack[above + 14] |= flags


@njit
def _in_vain(flags):  # type: ignore[no-untyped-def]
    """The verdict on a place from which all ways were explored in vain, or so it seems."""
    powers = _ZERO_LEFT_OUT | _NUMBER_REPEATS
    unsure = flags & _UNSURE or flags & powers == powers
    return int64(UNKNOWN) if unsure else int64(REPEATED)


@njit
def _settle(u, answer):  # type: ignore[no-untyped-def]
    """Turns what a look ahead has explored into what is known of places."""
    opened, seen = _i32(u, W_OPENED), _i64(u, W_SEEN)
    for i in range(u[N_OPENED]):
        at = SEEN_COLUMNS * int64(opened[i]) + 4
        known = seen[at] & _STATE
        if known == _OPEN:
            seen[at] = _LIVE if answer == FINE else _FRESH
        elif known == _LEFT_OPEN:
            explored = u[N_EXPLORED] != _INCOMPLETE
            seen[at] = _DEAD | u[N_EXPLORED] << _ABOVE if explored else _FRESH
    u[N_OPENED] = 0


@njit
def _forget(u):  # type: ignore[no-untyped-def]
    """Forgets all that looks ahead remember."""
    slots, seen = _i32(u, W_SEEN_SLOTS), _i64(u, W_SEEN)
    if 16 * u[N_SEEN] > SEEN_SLOTS:
        for slot in range(SEEN_SLOTS):
            slots[slot] = 0
        u[N_SEEN] = 0
    while u[N_SEEN] > 0:  # the latest first, as what came earlier is found before it
        u[N_SEEN] -= 1
        at = SEEN_COLUMNS * u[N_SEEN]
        slot = _slot_of(seen[at], seen[at + 1], seen[at + 2], seen[at + 3])
        while slots[slot] != u[N_SEEN] + 1:
            slot = (slot + 1) & (SEEN_SLOTS - 1)
        slots[slot] = 0


@njit("void(int64)", cache=True, nogil=True)
def forget_places(keys):  # type: ignore[no-untyped-def]
    """Forgets all that looks ahead remember, as the containers that name places are no longer those."""
    _forget(carray(_pointer(keys), (KEY_FIELDS,), np.int64))


@njit
def _forget_old(u):  # type: ignore[no-untyped-def]
    """Makes room for what looks ahead remember, where a question begins."""
    if 2 * u[N_SEEN] > SEEN_ROOM:
        _forget(u)


@njit
def _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, closed, base):  # type: ignore[no-untyped-def]
    """Whether keys or items that differ from those there are can be begun from a place.

    What it has found out of places is remembered for the looks ahead that follow: each is explored once.
    """
    u[N_OPENED], u[N_EXPLORED] = 0, _INCOMPLETE
    answer = _explore(ctx, u, q, n, f, mode, node, escape, frame, closed, base)
    _settle(u, answer)
    return answer


@njit
def _explore(ctx, u, q, n, f, mode, node, escape, frame, closed, base):  # type: ignore[no-untyped-def]
    """The same; the caller settles what is then known.

    Depth first over bytes.  Every byte that leaves the known texts, or ends one that is not there, is
    a find; what stays among them is followed.  Zeros can be written without end (0.0, 0.00), so of those
    that lead to one configuration one is followed.  The others could only add numbers of other
    powers, which matters where a number that is not zero was found to repeat: then the answer is
    ``UNKNOWN``, as it is where a verdict is or where there is no room.

    If one more text that is not known must be avoided (``closed``), two finds are needed that tell values
    apart (``_tells_apart``), whatever it is: or one that was compared with it, or a text that goes on
    without end.  If several must be (``N_SEVERAL``), only the latter is an answer.  Nothing is remembered
    then, blanks are treated like zeros, and after ``_EXPANSIONS`` places the answer is ``UNKNOWN``.
    ``base``: depth of the place on the path.
    """
    # behind a repeated item only a mark can come, if blanks before it are left out of account
    no_marks = u[N_MARK_COMMA] < 0 and u[N_MARK_CLOSE] < 0
    wanted = 2 if closed & _GROUP else 1
    inside = closed & INSIDE != 0
    if mode == DONE and no_marks and _kind(u, frame) & KEEPS:
        if _has(u, frame, node):
            return int64(REPEATED)
        if wanted == 2 and not inside:
            return int64(UNKNOWN)
    if inside and _avoids_two(u, mode, frame, closed):
        return int64(UNKNOWN)
    if not inside and _can_grow(ctx, u, q, n, f, mode, escape, base):
        return int64(FINE)
    order, signs = _u8(u, W_ORDER), _u8(u, W_SIGNS)
    turns, sign_turns = _u64(u, W_TURNS), _u64(u, W_SIGN_TURNS)
    stack = _i64(u, W_STACK)
    bytes_on_path = _u8(u, W_BYTES)
    room = u[N_STACK_ROOM]
    remembers = wanted == 1 and u[N_SEVERAL] == 0
    entry = int64(-1)
    if remembers and closed == 0:
        entry = _place_entry(u, q, n, f, mode, node, escape, frame, base)
        known = _i64(u, W_SEEN)[SEEN_COLUMNS * entry + 4] if entry >= 0 else int64(_FRESH)
        if known & _STATE == _LIVE:
            return int64(FINE)
        if known & _STATE == _DEAD:
            return _in_vain(known >> _ABOVE)
    if u[N_WORK] > MOST_WORK:
        return int64(GIVEN_UP)
    _put(stack, int64(0), q, n, f, mode, node, escape, frame, closed)
    _open_place(u, stack, int64(0), entry)
    depth = int64(0)
    visited = 0
    zeros = 0
    while depth >= 0:
        at = STACK_COLUMNS * depth
        turn = stack[at + 6]
        before = stack[at + 3]
        # all bytes of a place are tried before any is followed
        if turn >= 256 and stack[at + 11] == 0:
            _close_place(u, stack, depth)
            depth -= 1
            continue
        if turn == 256:  # on to the first byte that is to be followed
            turn = 256 + stack[at + 10]
        in_string = STRING <= before <= KEY_ESCAPE
        follows = turn >= 256
        skipped_to = _next_way(
            ctx,
            stack[at],
            stack[at + 1],
            stack[at + 2],
            turns if in_string else sign_turns,
            turn & 255,
        )
        if skipped_to < 0:
            stack[at + 6] = (turn | 255) + 1
            continue
        turn = (turn & 256) | skipped_to
        stack[at + 6] = turn + 1
        byte = int64(order[turn & 255]) if in_string else int64(signs[turn & 255])
        q, n, f = int64(_SET), int64(0), int64(0)
        separates = byte == 0x2C or byte == 0x5D
        if not separates:  # no mark can stand for it: mostly the rules refuse it
            q, n, f = _move(ctx, stack[at], stack[at + 1], stack[at + 2], _class_of(ctx, u, byte))
            if q == _SET and f <= 0:
                if f < 0:
                    return f
                continue
        closed = stack[at + 8]
        here = base + 1 + depth
        bytes_on_path[here] = byte
        outer = stack[at + 7]
        mode, node, escape, frame, after, verdict, symbol = _track(
            u, before, stack[at + 4], stack[at + 5], outer, closed, byte, here
        )
        if verdict == MISSING:
            if follows:
                return int64(MISSING)
            u[N_MISS] = -1
            _note_way(stack, at, turn)
            continue
        if verdict == REPEATED:
            continue
        c = _class_of(ctx, u, symbol)
        if before == SCALAR and mode != SCALAR:
            known = (
                symbol != byte or _kind(u, outer) & DEEP or (mode == DONE and _has(u, frame, node))
            )
            if known and not _is_nothing_yet(u, stack[at + 5], here - 1):
                stack[at + 14] |= _NUMBER_REPEATS
        if c < 0:
            continue
        if separates:
            q, n, f = _move(ctx, stack[at], stack[at + 1], stack[at + 2], c)
            if q == _SET and f <= 0:
                if f < 0:
                    return f
                continue
        if follows:
            stack[at + 11] -= 1
        else:
            _note_way(stack, at, turn)
            if verdict == FINE and not inside and _can_grow(ctx, u, q, n, f, mode, escape, here):
                return int64(FINE)
            if u[N_SEVERAL]:
                continue
            if verdict == APART and not inside and closed & INSIDE == 0:
                return int64(FINE)
            safe = not _in_danger(u, mode, node, escape, frame, int64(0), here)
            if wanted == 1:
                if verdict == FINE and (safe or after & ENDED):
                    return int64(FINE)
                continue
            but_one = verdict in (BUT_ONE, APART) and symbol == byte and not inside
            if but_one or (verdict == FINE and safe):
                spot = _note_find(u, stack, depth, base, inside)
                if spot == _TWO:
                    return int64(FINE)
                if before == SCALAR and spot >= 0:
                    depth = spot  # all that begins with this number is one branch
            continue
        if verdict != FINE or (inside and _avoids_two(u, mode, frame, after)):
            stack[at + 14] |= _UNSURE
            continue
        if mode == DONE and no_marks and _kind(u, frame) & KEEPS and _has(u, frame, node):
            continue
        stays = mode == before and q == stack[at] and n == stack[at + 1] and f == stack[at + 2]
        if stays and mode == SCALAR and byte == 0x30:
            stack[at + 14] |= _ZERO_LEFT_OUT
            continue
        further = mode == SCALAR and before == SCALAR and wanted == 2
        if further and not _may_be_known(u, stack[at + 5], here - 1):
            continue  # more digits are of the same branch
        blank = byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D
        blank = blank and (mode < STRING or mode == DONE)
        entry = int64(-1)
        if remembers:
            entry = _place_entry(u, q, n, f, mode, node, escape, frame, here)
        if entry >= 0:
            known = _i64(u, W_SEEN)[SEEN_COLUMNS * entry + 4]
            state = known & _STATE
            if state == _LIVE:
                return int64(FINE)
            if state == _DEAD:
                stack[at + 14] |= known >> _ABOVE
                continue
            if state != _FRESH:  # it was left with ways to places that are open: to any of them
                stack[at + 13] = min(stack[at + 13], known >> _ABOVE if state == _OPEN else 0)
                continue
        if (blank and entry < 0) or (mode == SCALAR and _is_nothing_yet(u, escape, here)):
            if _was_seen(u, zeros, q, n, f, mode, node, frame, after):
                stack[at + 13] = 0
                if not blank:
                    stack[at + 14] |= _ZERO_LEFT_OUT
                continue
            zeros = min(zeros + 1, int64(MOST_ZEROS))
        visited += 1
        u[N_WORK] += 1
        depth += 1
        if depth >= room or (not remembers and visited > _EXPANSIONS):
            return int64(UNKNOWN)
        if u[N_WORK] > MOST_WORK:
            return int64(GIVEN_UP)
        _put(stack, depth, q, n, f, mode, node, escape, frame, after if wanted > 1 else int64(0))
        _open_place(u, stack, depth, entry)
    return int64(UNKNOWN) if wanted > 1 or u[N_SEVERAL] else _in_vain(u[N_EXPLORED])


@njit("int64(int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def is_live(address, keys, state, mode, node, frame):  # type: ignore[no-untyped-def]
    """``FINE``, ``REPEATED``, ``UNKNOWN``, ``GIVEN_UP`` or ``MISSING`` for a state and a place.

    ``MISSING``: ``N_MISS`` and ``N_MISS_EVENT`` say which step from container to container is lacking.
    Negative: what a step answers.
    """
    ctx = _context(address)
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    u[N_MISS], u[N_WORK], u[N_ENDED], u[N_SEVERAL] = -1, 0, NO_FRAME, 0
    _forget_old(u)
    node, escape = _begun(u, mode, node)
    if not _in_danger(u, mode, node, escape, frame, int64(0), int64(0)):
        return int64(FINE)
    q, n, f = _open(ctx, state)
    return _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, int64(0), int64(0))


@njit
def _put_way(u, depth, q, n, f, nested, string):  # type: ignore[no-untyped-def]
    """A place of the rules on the stack of ``find_text``; False if it was there before, or without room."""
    entry = _entry_of(u, (q << 32) | (n & int64(0xFFFF_FFFF)), f, int64(0), int64(_RULES_MODE))
    if entry < 0 or _WAY_COLUMNS * (depth + 1) >= STACK_COLUMNS * u[N_STACK_ROOM]:
        return False
    seen, stack = _i64(u, W_SEEN), _i64(u, W_STACK)
    if seen[SEEN_COLUMNS * entry + 4] != _FRESH:
        return False
    seen[SEEN_COLUMNS * entry + 4] = _OPEN
    at = _WAY_COLUMNS * depth
    stack[at], stack[at + 1], stack[at + 2], stack[at + 3] = q, n, f, 0
    stack[at + 4], stack[at + 5] = nested, string
    return True


@njit
def _after_sign(nested, string, byte):  # type: ignore[no-untyped-def]
    """(depth of open brackets, 0 outside strings, 1 in one, 2 there behind a backslash) after a byte."""
    if string == 2:
        return nested, int64(1)
    if byte == 0x22:
        return nested, 1 - string
    if string == 1:
        return nested, int64(2) if byte == 0x5C else string
    if byte == 0x7B or byte == 0x5B:
        nested += 1
    elif byte == 0x7D or byte == 0x5D:
        nested -= 1
    return nested, string


@njit
def _may_end(ctx, q, n, f):  # type: ignore[no-untyped-def]
    """Whether the text may end at a configuration."""
    accepts = _u8(ctx, S_ACCEPT)[f] != 0
    return accepts if q == _SET else q == 0 or (accepts and n >= _i32(ctx, P_ACCEPT_FROM)[q])


@njit(
    "int64(int64, int64, int64, int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)
def find_text(address, keys, state, order_address, out_address, fuel, deepest):  # type: ignore[no-untyped-def]
    """Looks for a text by which the rules come to an end: depth first, bytes in a given order.

    A kernel that asks for room goes on from where it was (``N_RESUME``, -1 to begin with).

    Args:
        state: of the rules.
        order_address: of uint8[512], all bytes outside strings, the best first, then those within.
        out_address: of uint8[fuel], receives the text.
        fuel: places that may be visited.
        deepest: brackets that may be open at once.

    Returns:
        Its length, ``OUT_OF_FUEL`` if none was found, or what a step answers.
    """
    ctx = _context(address)
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    orders = carray(_pointer(order_address), (512,), np.uint8)
    out = carray(_pointer(out_address), (1 << 40,), np.uint8)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    stack = _i64(u, W_STACK)
    depth = u[N_RESUME]
    u[N_RESUME] = -1
    if depth < 0:
        _forget(u)
        q, n, f = _open(ctx, state)
        _put_way(u, int64(0), q, n, f, int64(0), int64(0))
        depth = int64(0)
    found = int64(OUT_OF_FUEL)
    while depth >= 0:
        at = _WAY_COLUMNS * depth
        q, n, f, turn = stack[at], stack[at + 1], stack[at + 2], stack[at + 3]
        if turn == 0 and _may_end(ctx, q, n, f):
            found = depth
            break
        if turn >= 256:
            depth -= 1
            continue
        stack[at + 3] = turn + 1
        byte = int64(orders[turn if stack[at + 5] == 0 else 256 + turn])
        c = int64(byte_class[byte])
        if (_takes(ctx, q, n, f, c >> 6) >> uint64(c & 63)) & uint64(1) == uint64(0):
            continue
        nested, string = _after_sign(stack[at + 4], stack[at + 5], byte)
        if nested > deepest:
            continue
        q, n, f = _move(ctx, q, n, f, c)
        if q == _SET and f <= 0:
            if f < 0:
                stack[at + 3] = turn
                u[N_RESUME] = depth
                return f
            continue
        if u[N_SEEN] >= fuel:
            break
        if _put_way(u, depth + 1, q, n, f, nested, string):
            out[depth] = byte
            depth += 1
    _forget(u)
    return int64(found)


@njit
def _own_row(ctx, u, row):  # type: ignore[no-untyped-def]
    """The mask to be changed: a copy of the rules' own, made when first asked for."""
    out = _i32(u, W_ROW)
    if u[N_CHANGED] == 0:
        u[N_CHANGED] = 1
        for word in range(ctx[N_WORDS]):
            out[word] = row[word]
    return out


@njit
def _clear_tokens(ctx, u, row, begin, end):  # type: ignore[no-untyped-def]
    """Clears the bits of the tokens that end at nodes from ``begin`` up to ``end``."""
    t_start, t_tokens = _i32(ctx, T_TOKEN_START), _i32(ctx, T_TOKENS)
    if t_start[begin] == t_start[end]:
        return
    out = _own_row(ctx, u, row)
    for k in range(t_start[begin], t_start[end]):
        token = t_tokens[k]
        out[token >> 5] &= ~(int32(1) << int32(token & 31))


@njit
def _note(left, room, entry, what):  # type: ignore[no-untyped-def]
    """Adds to the list of what the caller has to try; whether there was room."""
    entries = left[0]
    if 2 * entries + 3 > room:
        return False
    left[1 + 2 * entries] = entry
    left[2 + 2 * entries] = what
    left[0] = entries + 1
    return True


@njit
def _vocabulary_child(u, node, byte):  # type: ignore[no-untyped-def]
    """The node of the vocabulary's trie behind a byte, ``NO_NODE`` if there is none."""
    offset, child_byte = _i32(u, T_CHILD_OFFSET), _u8(u, T_CHILD_BYTE)
    low, end = int64(offset[node]), int64(offset[node + 1])
    high = end
    while low < high:
        middle = (low + high) >> 1
        if child_byte[middle] < byte:
            low = middle + 1
        else:
            high = middle
    if low < end and child_byte[low] == byte:
        return int64(_i32(u, T_CHILDREN)[low])
    return int64(NO_NODE)


@njit
def _remembered(u, known, q, n, f, mode, node, escape, frame, closed):  # type: ignore[no-untyped-def]
    """The answer of an equal look ahead before, -1 if there was none."""
    memo = _i64(u, W_MEMO)
    for i in range(known):
        at = MEMO_COLUMNS * i
        if (
            memo[at] == q and memo[at + 1] == n and memo[at + 2] == f and memo[at + 3] == mode
            and memo[at + 4] == node and memo[at + 5] == escape and memo[at + 6] == frame
            and memo[at + 7] == closed
        ):  # fmt: skip
            return int64(memo[at + 8])
    return int64(-1)


@njit
def _remember(u, known, q, n, f, mode, node, escape, frame, closed, live):  # type: ignore[no-untyped-def]
    memo = _i64(u, W_MEMO)
    at = MEMO_COLUMNS * known
    memo[at], memo[at + 1], memo[at + 2], memo[at + 3] = q, n, f, mode
    memo[at + 4], memo[at + 5], memo[at + 6], memo[at + 7] = node, escape, frame, closed
    memo[at + 8] = live


@njit
def _judge_place(ctx, u, known, q, n, f, mode, node, escape, frame, closed, depth):  # type: ignore[no-untyped-def]
    """(whether a place in danger can be completed, places remembered); or (what a step answers, ...)."""
    # else what was read matters, too
    lasting = frame >= NO_FRAME and mode != SCALAR and u[N_SEVERAL] == 0
    if lasting:
        live = _remembered(u, known, q, n, f, mode, node, escape, frame, closed)
        if live >= 0:
            return live, known
    live = _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, closed, depth)
    lasting = lasting and u[N_COMPARED] == 0
    if lasting and known < MEMO_SIZE and live >= 0 and live != MISSING:
        _remember(u, known, q, n, f, mode, node, escape, frame, closed, live)
        known += 1
    return live, known


@njit
def _judge_end(ctx, u, known, q, n, f, mode, node, escape, frame, closed, depth):  # type: ignore[no-untyped-def]
    """(verdict on a place at the end of a token, places remembered); or (what a step answers, ...)."""
    if not _in_danger(u, mode, node, escape, frame, closed, depth):
        return int64(FINE), known
    if mode == KEY:  # many blanks may come first: behind the quote they are mostly one place
        a, b, c = _move(ctx, q, n, f, int64(_u8(ctx, P_BYTE_CLASS)[0x22]))
        if a != _SET or c > 0:
            _u8(u, W_BYTES)[depth + 1] = 0x22
            begun = closed ^ (ENDED | NEXT) if closed & ENDED else closed
            live, known = _judge_place(
                ctx, u, known, a, b, c, int64(KEY_STRING), int64(0 if frame >= 0 else NO_NODE), int64(0),
                frame, begun, depth + 1,
            )  # fmt: skip
            if live == FINE or live < 0:
                return live, known
            u[N_MISS] = -1
        elif c < 0:
            return c, known
    return _judge_place(ctx, u, known, q, n, f, mode, node, escape, frame, closed, depth)


_QUOTE_NEXT: Final = -1
_BACKSLASH_NEXT: Final = -2


@njit
def _enter(u, path, depth, i, q, n, f, mode, node, escape, frame, closed):  # type: ignore[no-untyped-def]
    """A place on the path of ``_walk_known``: at trie node i, whose children are to be looked at.

    Column 9: the turn of the next byte.  Column 10: whether only bytes that known texts go on with, quotes
    and backslashes matter, as with all others the text differs from what is known and nothing can repeat;
    then column 9 is a node of the known texts' trie (0: no more), ``_QUOTE_NEXT`` or ``_BACKSLASH_NEXT``.
    """
    at = WALK_COLUMNS * depth
    path[at], path[at + 1], path[at + 2] = q, n, f
    path[at + 3], path[at + 4], path[at + 5] = mode, node, escape
    path[at + 6], path[at + 7], path[at + 8] = frame, closed, i
    narrow = mode in (STRING, KEY_STRING) and node >= 0 and escape == 0
    narrow = narrow and not _in_danger(
        u, mode, int64(NO_NODE), int64(0), frame, closed, int64(depth)
    )
    path[at + 9] = _QUOTE_NEXT if narrow else 0
    path[at + 10] = narrow


@njit
def _next_known(u, path, at):  # type: ignore[no-untyped-def]
    """The next child of a place on the path that known texts may lead to, ``NO_NODE`` at the end."""
    i, turn = path[at + 8], path[at + 9]
    while turn != 0:
        if turn == _QUOTE_NEXT:
            byte = int64(0x22)
            turn = int64(_BACKSLASH_NEXT)
        elif turn == _BACKSLASH_NEXT:
            byte = int64(0x5C)
            turn = int64(_i32(u, K_NODE_FIRST)[path[at + 4]])
        else:
            byte = int64(_u8(u, K_NODE_BYTE)[turn])
            turn = int64(_i32(u, K_NODE_NEXT)[turn])
        child = _vocabulary_child(u, i, byte)
        if child >= 0:
            path[at + 9] = turn
            return child
    path[at + 9] = 0
    return int64(NO_NODE)


@njit
def _next_taken(ctx, u, path, at):  # type: ignore[no-untyped-def]
    """The next child of a place on the path whose byte the rules may take; ``NO_NODE`` at the end."""
    in_string = path[at + 3] >= STRING and path[at + 3] <= KEY_ESCAPE
    order = _u8(u, W_ORDER if in_string else W_SIGNS)
    turns = _u64(u, W_TURNS if in_string else W_SIGN_TURNS)
    turn = path[at + 9]
    while True:
        turn = _next_way(ctx, path[at], path[at + 1], path[at + 2], turns, turn)
        if turn < 0:
            path[at + 9] = 256
            return int64(NO_NODE)
        child = _vocabulary_child(u, path[at + 8], int64(order[turn]))
        turn += 1
        if child >= 0:
            path[at + 9] = turn
            return child


@njit(cache=True)
def _walk_known(ctx, u, state, mode, node, escape, frame, row, left, room):  # type: ignore[no-untyped-def]
    """Judges tokens along the trie as long as a known text may be written; see ``restrict_mask``.

    Tokens are left out that differ from all that is known, or go on behind the text that is being written.
    """
    t_byte, t_skip, t_start = _u8(ctx, T_BYTE), _i32(ctx, T_SKIP), _i32(ctx, T_TOKEN_START)
    bytes_on_path = _u8(u, W_BYTES)
    path = _i64(u, W_PATH)
    q, n, f = _open(ctx, state)
    _enter(u, path, int64(0), int64(0), q, n, f, mode, node, escape, frame, int64(0))
    depth = int64(0)
    known = 0
    while depth >= 0:
        at = WALK_COLUMNS * depth
        i = _next_known(u, path, at) if path[at + 10] else _next_taken(ctx, u, path, at)
        if i < 0:
            depth -= 1
            continue
        here = depth + 1
        byte = int64(t_byte[i])
        bytes_on_path[here] = byte
        mode, node, escape, frame, closed, verdict, symbol = _track(
            u, path[at + 3], path[at + 4], path[at + 5], path[at + 6], path[at + 7], byte, here
        )
        if verdict == MISSING:
            return int64(0)
        if verdict in (BUT_ONE, APART):
            verdict = int64(UNKNOWN)
        threatened = verdict == FINE and _in_danger(u, mode, node, escape, frame, closed, here)
        if verdict == FINE and symbol == byte and not threatened:
            continue
        c = _class_of(ctx, u, symbol)
        if c < 0:
            verdict = int64(REPEATED)
        else:
            q, n, f = _move(ctx, path[at], path[at + 1], path[at + 2], c)
            if q == _SET and f <= 0:
                if f < 0:
                    return f
                if symbol == byte:
                    continue
                verdict = int64(REPEATED)
        if verdict == REPEATED:
            _clear_tokens(ctx, u, row, i, int64(t_skip[i]))
            continue
        if threatened and _grows_below(ctx, u, q, n, mode, escape, closed, here, i):
            continue
        whole = WHOLE
        if threatened and t_start[i] < t_start[i + 1]:
            if mode == KEY:
                live, known = _judge_end(
                    ctx, u, known, q, n, f, mode, node, escape, frame, closed, here
                )
            else:
                live = _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, closed, here)
            if live < 0:
                return live
            if live == MISSING:
                return int64(0)
            if live == REPEATED:
                _clear_tokens(ctx, u, row, i, i + 1)
            elif live == GIVEN_UP:
                u[N_GIVEN_UP] += 1
            elif live == UNKNOWN:
                verdict = int64(UNKNOWN)
                whole = 0
        if verdict == UNKNOWN:
            if not _note(left, room, i, whole):
                return int64(OUT_OF_FUEL)
            if whole:
                continue
        depth = here
        _enter(u, path, depth, i, q, n, f, mode, node, escape, frame, closed)
    return int64(0)


ENDING_COLUMNS: Final = 6
"""Numbers that one mask remembers of an ending of tokens."""
_UNUSED: Final = -3


@njit
def _known_ending(u, ending, q, n, f, node, escape):  # type: ignore[no-untyped-def]
    """The verdict on an ending behind an equal place, -1 if there was none; notes the place."""
    memo = _i64(u, W_ENDINGS)
    at = ENDING_COLUMNS * ending
    if (
        memo[at] == q and memo[at + 1] == n and memo[at + 2] == f and memo[at + 3] == node
        and memo[at + 4] == escape
    ):  # fmt: skip
        return memo[at + 5]
    memo[at], memo[at + 1], memo[at + 2], memo[at + 3], memo[at + 4] = q, n, f, node, escape
    return int64(-1)


@njit(cache=True)
def _try_signs(ctx, u, state, mode, node, escape, frame, row, left, room):  # type: ignore[no-untyped-def]
    """Judges, one by one, the allowed tokens with a comma or an array's end outside strings.

    From a string many end it alike: what their endings from the quote on lead to is found once.
    """
    first, last = int64(0), u[N_OUTSIDE]
    if mode >= STRING and mode <= KEY_ESCAPE:
        first, last = last, last + u[N_INSIDE]
        if mode in (ESCAPE, KEY_ESCAPE):
            first, last = last, last + u[N_ESCAPED]
    inside = mode in (STRING, KEY_STRING)
    signs, offset, text = _i32(u, T_SIGNS), _i32(u, T_SIGN_OFFSET), _u8(u, T_SIGN_TEXT)
    quotes, endings = _i32(u, T_SIGN_QUOTE), _i32(u, T_SIGN_ENDING)
    memo = _i64(u, W_ENDINGS)
    for ending in range(u[N_ENDINGS] if inside else 0):
        memo[ENDING_COLUMNS * ending] = _UNUSED
    bytes_on_path = _u8(u, W_BYTES)
    q0, n0, f0 = _open(ctx, state)
    known = 0
    for k in range(first, last):
        token = int64(signs[k])
        if (row[token >> 5] >> int32(token & 31)) & int32(1) == 0:
            continue
        u[N_ENDED], u[N_COMPARED], u[N_SEVERAL] = NO_FRAME, 0, 0
        q, n, f = q0, n0, f0
        m, d, e, inner, closed = mode, node, escape, frame, int64(0)
        begin, size = int64(offset[k]), int64(offset[k + 1] - offset[k])
        quote = int64(quotes[k]) if inside else int64(-1)
        ending = int64(-1)
        verdict = int64(-1)
        for i in range(size):
            if i == quote:
                ending = int64(endings[k])
                verdict = _known_ending(u, ending, q, n, f, d, e)
                if verdict >= 0:
                    break
            byte = int64(text[begin + i])
            bytes_on_path[i + 1] = byte
            m, d, e, inner, closed, verdict, symbol = _track(
                u, m, d, e, inner, closed, byte, int64(i + 1)
            )
            if verdict == MISSING:
                return int64(0)
            c = _class_of(ctx, u, symbol)
            if c < 0:
                verdict = int64(REPEATED)
            else:
                q, n, f = _move(ctx, q, n, f, c)
                if q == _SET and f <= 0:
                    if f < 0:
                        return f
                    verdict = int64(REPEATED)
            if verdict == APART:  # the next one must avoid both: there has to be no end of others
                u[N_SEVERAL], u[N_ENDED_FROM] = 1, -1
            elif verdict != FINE:
                break
            verdict = int64(-1)
        if verdict < 0:
            verdict, known = _judge_end(ctx, u, known, q, n, f, m, d, e, inner, closed, size)
            if verdict < 0:
                return verdict
            if verdict == MISSING:
                return int64(0)
        if ending >= 0:
            memo[ENDING_COLUMNS * ending + 5] = verdict
            if u[N_COMPARED]:  # with what stood before the quote
                memo[ENDING_COLUMNS * ending] = _UNUSED
        if verdict == REPEATED:
            _own_row(ctx, u, row)[token >> 5] &= ~(int32(1) << int32(token & 31))
        elif verdict == GIVEN_UP:
            u[N_GIVEN_UP] += 1
        elif verdict != FINE and not _note(left, room, token, TOKEN):
            return int64(OUT_OF_FUEL)
    return int64(0)


@njit("void(int64, int64, int64, int64)", cache=True, nogil=True)
def list_turns(address, order_address, count, out_address):  # type: ignore[no-untyped-def]
    """The turns of the bytes of every class, and behind them of comma and array's end, as sets of bits.

    Args:
        order_address: of uint8[count], the bytes by turn, at most 256.
        out_address: of uint64[4 * (classes + 1)], cleared, receives four words each.
    """
    ctx = _context(address)
    byte_class = _u8(ctx, P_BYTE_CLASS)
    order = carray(_pointer(order_address), (256,), np.uint8)
    out = carray(_pointer(out_address), (1 << 40,), np.uint64)
    for turn in range(count):
        byte = order[turn]
        part, bit = turn >> 6, uint64(1) << uint64(turn & 63)
        out[4 * int64(byte_class[byte]) + part] |= bit
        if byte == 0x2C or byte == 0x5D:
            out[4 * ctx[N_CLASSES] + part] |= bit


@njit(
    "int64(int64, int64, int64, int64, int64, int64, Array(int32, 1, 'C', readonly=True), int64, "
    "int64)",
    cache=True,
    nogil=True,
)
def restrict_mask(address, keys, state, mode, node, frame, row, out, out_room):  # type: ignore[no-untyped-def]
    """Takes from the rules' mask the tokens that repeat a key or an item, or can only lead there.

    Two kinds of tokens matter: those that go along a known text, for which known texts and the
    vocabulary's trie are walked together, and those with a comma or an array's end, behind which
    something is repeated or is to begin.  Of the latter the rules allow some dozens at most, which are
    tried one by one.

    The row given is not changed: ``W_ROW`` receives the mask if it is another.

    ``out`` receives int32 pairs of what the caller has to try, behind their number: a trie node and 0
    for the tokens that end there, ``WHOLE`` for all below; or a token and ``TOKEN``.

    Returns a sum of ``CHANGED``, ``LEFT`` and ``GAVE_UP``; ``STEP_MISSING`` if a step from container to
    container is lacking (``N_MISS``; call again once it is there); ``OUT_OF_FUEL`` if ``out`` is too
    small; or what a step answers.
    """
    ctx = _context(address)
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    left = carray(_pointer(out), (1 << 40,), np.int32)
    left[0] = 0
    u[N_MISS], u[N_WORK], u[N_GIVEN_UP], u[N_CHANGED] = -1, 0, 0, 0
    u[N_ENDED], u[N_SEVERAL] = NO_FRAME, 0
    _forget_old(u)
    node, escape = _begun(u, mode, node)
    if _in_danger(u, mode, node, escape, frame, int64(0), int64(0)):
        answer = _walk_known(ctx, u, state, mode, node, escape, frame, row, left, out_room)
        if answer != 0:
            return answer
        if u[N_MISS] >= 0:
            return int64(STEP_MISSING)
    answer = _try_signs(ctx, u, state, mode, node, escape, frame, row, left, out_room)
    if answer != 0:
        return answer
    if u[N_MISS] >= 0:
        return int64(STEP_MISSING)
    if u[N_CHANGED]:
        answer |= CHANGED
    if left[0]:
        answer |= LEFT
    if u[N_GIVEN_UP]:
        answer |= GAVE_UP
    return int64(answer)


@njit(
    "int64(Array(int32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), int64, "
    "int32[::1])",
    cache=True,
    nogil=True,
)
def list_signs(offset, text, where, out):  # type: ignore[no-untyped-def]
    """Lists the tokens with a comma, or the end of an array, outside strings.

    Args:
        offset, text: the tokens' bytes, see ``Vocabulary.flat``.
        where: ``OUTSIDE``, ``INSIDE_STRING`` or ``BEHIND_BACKSLASH``: where they begin.
        out: int32[V], receives the tokens, ascending.

    Returns:
        How many there are.
    """
    found = 0
    for token in range(len(offset) - 1):
        within, escaped = where != OUTSIDE, where == BEHIND_BACKSLASH
        for i in range(offset[token], offset[token + 1]):
            byte = text[i]
            if escaped:
                escaped = False
            elif within and byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                within = not within
            elif not within and (byte == 0x2C or byte == 0x5D):
                out[found] = token
                found += 1
                break
    return found


@njit(
    "void(Array(uint8, 1, 'C', readonly=True), Array(int32, 1, 'C', readonly=True), int32[::1], "
    "int32[::1], uint8[::1])",
    cache=True,
    nogil=True,
)
def list_children(t_byte, t_skip, offset, children, child_byte):  # type: ignore[no-untyped-def]
    """The children of each node of a trie side by side, ascending by byte.

    Args:
        t_byte, t_skip: of the trie, N nodes.
        offset: int32[N + 1], receives where the children of each node begin.
        children, child_byte: int32[N], uint8[N], receive the nodes and their bytes.
    """
    at = 0
    for i in range(len(t_byte)):
        offset[i] = at
        child = i + 1
        while child < t_skip[i]:
            children[at] = child
            child_byte[at] = t_byte[child]
            at += 1
            child = int64(t_skip[child])
    offset[len(t_byte)] = at
