"""Kernels that follow keys and items of a JSON text while the vocabulary's trie is walked.

They work on two contexts (arrays of addresses, see :mod:`constrain.engine.kernels`): that of the rules'
pool, and one of their own, which holds

* a byte trie of the texts that occurred: keys and strings as UTF-8 without escapes; behind the byte
  0xFF, which UTF-8 has not, other scalars: literals as they stand, numbers as sign, digits, ``e``,
  exponent, without zeros at either end.  It is a hash table from (node, byte) to node, and for each
  node the number of the text that ends there;
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
  ``INSIDE`` in what may become equal to such an item.  What ends during a walk is not noted, so from then
  on one more text must be avoided, whatever it is.

**Items that are arrays or objects.**  Where one is read a container is *deep* as long as it may become equal
to an item that is there.  It stops being so with the first key or value that no such item has in this
place: then its *safe* twin takes its place, which remembers its own keys or items only and closes as
something new.  Otherwise the step leads to another deep container, described as text read before the
walk would be.

Nothing here allocates or raises; whatever cannot be decided is handed back to the caller.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray, int32, int64, njit, uint8, uint64

from constrain.engine.context import context_at as _context
from constrain.engine.context import i32 as _i32
from constrain.engine.context import i64 as _i64
from constrain.engine.context import mix as _mix
from constrain.engine.context import pointer as _pointer
from constrain.engine.context import u8 as _u8
from constrain.engine.context import u16 as _u16
from constrain.engine.context import u64 as _u64
from constrain.engine.kernels import (
    OUT_OF_FUEL,
    P_ACCEPT_FROM,
    P_BYTE_CLASS,
    P_FIRST,
    P_LOOP,
    S_CAN,
    T_BYTE,
    T_DEPTH,
    T_SKIP,
    T_TOKEN_BYTES,
    T_TOKEN_OFFSET,
    T_TOKEN_START,
    T_TOKENS,
    loop_of,
)
from constrain.engine.kernels import SET as _SET
from constrain.engine.kernels import step_configuration as _move
from constrain.engine.kernels import unpack as _open
from constrain.masks.kernels import NO_LOOP
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
    K_HASH_KEY, K_HASH_VALUE, K_NODE_KEY, F_PARENT, F_KIND, F_BITS, F_OFFSET, F_WORDS,
    F_RIVAL_OFFSET, F_RIVAL_WORDS, F_VALUE, F_SAFE, F_STEP_KEY, F_STEP_VALUE,
    N_STEPS, N_MISS, N_MISS_EVENT, N_FULL, N_SIGNS, N_WORK, N_GIVEN_UP,
    W_PATH, W_STACK, W_ORDER, W_SIGNS, W_ZEROS, W_TEMP_PARENT, W_TEMP_KIND, W_BYTES, W_RAW, T_FLAGS, N_HASH,
    N_STACK_ROOM, N_RAW, N_COMPARES, N_MARK_COMMA, N_MARK_CLOSE,
    T_INSIDE, N_INSIDE, T_OUTSIDE, N_OUTSIDE, W_MEMO, T_ROOTS,
) = range(43)  # fmt: skip
KEY_FIELDS: Final = 43

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
SIGN_BELOW: Final = 1
"""Flag of a trie node: some byte below it is a comma or closes an array."""
QUOTE_BELOW: Final = 2
"""Flag of a trie node: below it stands a quote and, behind that, one of these."""

_FINE: Final = 0
_REPEATED: Final = 1
_UNSURE: Final = 2
_MISSING: Final = 3
"""Verdict: a step that the caller has to add."""
_BUT_ONE: Final = 4
"""Verdict: fine, unless it is the text that ended since the walk began."""
_TOO_LONG: Final = -9

DEAD_END: Final = 0
LIVE: Final = 1
UNKNOWN: Final = 2
MISSING: Final = 3
GIVEN_UP: Final = 4
MOST_WORK: Final = 2_000
"""Places that all looks ahead of one question may visit: a few milliseconds; what is in doubt then stays."""
MOST_ZEROS: Final = 64
_EXPANSIONS: Final = 250
"""Places one look ahead may visit before it is left to the caller."""
_TWO: Final = -2
_COLUMNS: Final = 8
_MEMO_COLUMNS: Final = 9
MEMO_SIZE: Final = 16
"""Looks ahead that one mask remembers."""
WHOLE: Final = 1
"""Behind a trie node in a list of what the caller has to try: all tokens below are meant."""
TOKEN: Final = 2
"""Instead of a trie node it is a token."""
STACK_COLUMNS: Final = 12
"""Numbers by place on the stack of a look ahead."""

# an unfinished escape: phase (1: behind the backslash, 2 to 5: that many less one hex digits to
# come), the digits so far, the first half of a surrogate pair
_PHASE: Final = 7
_DIGITS: Final = 3
_HIGH: Final = 19


@njit
def _child(u, node, byte):  # type: ignore[no-untyped-def]
    """The node behind a byte, ``NO_NODE`` if no known key goes on so."""
    keys, values = _i64(u, K_HASH_KEY), _i32(u, K_HASH_VALUE)
    size = u[N_HASH]
    wanted = node * 256 + byte + 1
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
    word = _u64(u, F_BITS)[_i64(u, F_OFFSET)[frame] + (text >> 6)]
    return (word >> uint64(text & 63)) & uint64(1) != uint64(0)


@njit
def _is_rival(u, frame, text):  # type: ignore[no-untyped-def]
    """Whether a text, by its number, is one of those that what is read next must not be."""
    if text < 0 or frame < 0 or (text >> 6) >= _i32(u, F_RIVAL_WORDS)[frame]:
        return False
    word = _u64(u, F_BITS)[_i64(u, F_RIVAL_OFFSET)[frame] + (text >> 6)]
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
            return max(after, int64(0)), int64(_FINE if after >= 0 else _UNSURE)
        slot = (slot + 1) & (size - 1)
    if u[N_FULL]:
        return frame, int64(_UNSURE)
    u[N_MISS] = frame
    u[N_MISS_EVENT] = event
    return frame, int64(_MISSING)


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
def _end_value(u, mode, node, escape, frame, closed, depth):  # type: ignore[no-untyped-def]
    """Behind a value that matters: (whether it repeats an item, frame, closed, verdict)."""
    if mode == SCALAR:
        node = _scalar_at(u, frame, escape, depth)
    elif mode != DONE:
        return False, frame, closed, int64(_FINE)  # none: an empty container
    kind = _kind(u, frame)
    if node == _TOO_LONG:
        return False, frame, closed | ENDED, int64(_UNSURE)
    if kind & KEEPS and closed & _ENDED_HERE:
        return _has(u, frame, node), frame, closed, int64(_BUT_ONE)
    repeats = kind & KEEPS != 0 and _has(u, frame, node)
    if kind & DEEP and _is_rival(u, frame, node):
        after, verdict = _stepped(u, frame, TEXTS + node)
        return repeats, after, closed, verdict
    if kind & KEEPS:
        closed |= ENDED
    return repeats, _safe_twin(u, frame), closed, int64(_FINE)


@njit
def _opened(u, frame, closed, byte, depth):  # type: ignore[no-untyped-def]
    """(frame, closed, verdict) of a container that a byte opens."""
    outer = _kind(u, frame)
    inside = closed & INSIDE
    if outer & KEEPS and closed & _ENDED_HERE:
        inside = int64(INSIDE)
    verdict = int64(_FINE)
    if closed >= _DEEPEST:
        verdict = int64(_UNSURE)
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
    verdict, symbol = int64(_FINE), byte
    kind = _kind(u, frame)
    if byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D:
        if mode == SCALAR:
            node = _scalar_at(u, frame, escape, depth) if kind & (KEEPS | DEEP) else int64(NO_NODE)
            if node == _TOO_LONG:
                verdict = int64(_UNSURE)
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
        if verdict != _MISSING:
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

    The verdict is ``_FINE``, ``_REPEATED`` for a key that its object has, ``_UNSURE``, ``_BUT_ONE`` or
    ``_MISSING`` (nothing else counts then); the symbol is what the rules read: the byte, or a mark
    behind a repeated item.  ``depth`` is that of the byte on the path; it numbers a container that the
    byte opens.
    """
    fine = int64(_FINE)
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
        return int64(COLON), int64(NO_NODE), escape, frame, closed, int64(_REPEATED), byte
    if _kind(u, frame) & DEEP and _is_rival(u, frame, text):
        frame, verdict = _stepped(u, frame, TEXTS + text)
        return int64(COLON), int64(NO_NODE), escape, frame, closed, verdict, byte
    verdict = int64(_BUT_ONE) if closed & _ENDED_HERE else fine
    closed = (closed & ~NEXT) | ENDED
    return int64(COLON), int64(NO_NODE), escape, _safe_twin(u, frame), closed, verdict, byte


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def read_key(keys, data, length):  # type: ignore[no-untyped-def]
    """Where the bytes of a string so far lead: ``node << 36 | escape``; -1 if to no known one."""
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    text = carray(_pointer(data), (1 << 40,), np.uint8)
    mode, node, escape = int64(KEY_STRING), int64(0), int64(0)
    frame, closed = int64(NO_FRAME), int64(0)
    for i in range(length):
        mode, node, escape, frame, closed, _, _ = _track(
            u, mode, node, escape, frame, closed, int64(text[i]), int64(0)
        )
        if node < 0:
            return int64(-1)
    return (node << 36) | escape


@njit("void(int64, int64, int64)", cache=True, nogil=True)
def rebuild_children(keys, old_keys, old_values):  # type: ignore[no-untyped-def]
    """Moves (node, byte) -> node from smaller arrays into the present, cleared ones (half as large)."""
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    size = u[N_HASH]
    from_keys = carray(_pointer(old_keys), (1 << 40,), np.int64)
    from_values = carray(_pointer(old_values), (1 << 40,), np.int32)
    to_keys, to_values = _i64(u, K_HASH_KEY), _i32(u, K_HASH_VALUE)
    for i in range(size // 2):
        if from_keys[i] != 0:
            slot = int64(_mix(uint64(0), from_keys[i]) & uint64(size - 1))
            while to_keys[slot] != 0:
                slot = (slot + 1) & (size - 1)
            to_keys[slot] = from_keys[i]
            to_values[slot] = from_values[i]


@njit("void(int64, int64, int64)", cache=True, nogil=True)
def add_step(keys, key, frame):  # type: ignore[no-untyped-def]
    """Notes a step between containers, see ``_stepped``; there is room."""
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    table = _i64(u, F_STEP_KEY)
    size = u[N_STEPS]
    slot = int64(_mix(uint64(0), key) & uint64(size - 1))
    while table[slot] != 0:
        slot = (slot + 1) & (size - 1)
    table[slot] = key
    _i32(u, F_STEP_VALUE)[slot] = frame


@njit("int64(int64, int64, int64, int64)", cache=True, nogil=True)
def add_key(keys, data, length, nodes):  # type: ignore[no-untyped-def]
    """The node of a key, made where it is missing: number ``nodes`` and up; see ``UsedTexts``.

    The caller provides room for ``length`` more nodes.
    """
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    text = carray(_pointer(data), (1 << 40,), np.uint8)
    table, values = _i64(u, K_HASH_KEY), _i32(u, K_HASH_VALUE)
    size = u[N_HASH]
    node = int64(0)
    for i in range(length):
        after = _child(u, node, int64(text[i]))
        if after < 0:
            wanted = node * 256 + int64(text[i]) + 1
            slot = int64(_mix(uint64(0), wanted) & uint64(size - 1))
            while table[slot] != 0:
                slot = (slot + 1) & (size - 1)
            table[slot] = wanted
            values[slot] = nodes
            _i32(u, K_NODE_KEY)[nodes] = -1
            after = int64(nodes)
            nodes += 1
        node = after
    return node


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


@njit
def _next_way(ctx, q, n, f, order, turn, count):  # type: ignore[no-untyped-def]
    """The next of the bytes in an order that the rules may take, or behind which a mark may stand; -1."""
    byte_class = _u8(ctx, P_BYTE_CLASS)
    can, first = _u64(ctx, S_CAN), _u64(ctx, P_FIRST)
    ends = q != _SET and n >= _i32(ctx, P_ACCEPT_FROM)[q]
    while turn < count:
        byte = int64(order[turn])
        c = int64(byte_class[byte])
        word, bit = c >> 6, uint64(1) << uint64(c & 63)
        if q == _SET:
            takes = can[4 * f + word] & bit
        else:
            takes = first[4 * q + word] & bit
            if ends:
                takes |= can[4 * f + word] & bit
        if takes or byte == 0x2C or byte == 0x5D:
            return int64(turn)
        turn += 1
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


@njit
def _can_grow(ctx, u, q, n, mode, escape, frame, depth):  # type: ignore[no-untyped-def]
    """Whether the rules let a key, string or number go on without end, so that some differ from all known.

    Says no where it is not plain to see.
    """
    if q == _SET or n != 0 or _kind(u, frame) & DEEP or loop_of(ctx, q) == NO_LOOP:
        return False
    loops = _u64(ctx, P_LOOP)
    if mode in (STRING, KEY_STRING):
        return escape & _PHASE == 0 and loops[2 * q + 1] & _LETTERS != uint64(0)
    if mode == SCALAR:
        digits = loops[2 * q] & _DIGITS_ASCII != uint64(0)
        return digits and not _is_nothing_yet(u, escape, depth)
    return False


@njit
def _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, closed, base):  # type: ignore[no-untyped-def]
    """Whether keys or items that differ from those there are can be begun from a place.

    Depth first over bytes.  Every byte that leaves the known texts, or ends one that is not there, is
    a find; what stays among them is followed.  Blanks and zeros can be written without end (0.0, 0.00),
    so of those that lead to one configuration one is followed.  The others could only add numbers of other
    powers, which matters where a number that is not zero was found to repeat: then the answer is
    ``UNKNOWN``, as it is where a verdict is, where there is no room, or after ``_EXPANSIONS`` places.

    If one more text that is not known must be avoided (``closed``), two finds are needed that tell
    values apart (``_tells_apart``): whatever it is, there is a way around it.  ``base``: depth of the
    place on the path.
    """
    # behind a repeated item only a mark can come, if blanks before it are left out of account
    no_marks = u[N_MARK_COMMA] < 0 and u[N_MARK_CLOSE] < 0
    wanted = 2 if closed & _GROUP else 1
    inside = closed & INSIDE != 0
    if mode == DONE and no_marks and _kind(u, frame) & KEEPS:
        if _has(u, frame, node):
            return int64(DEAD_END)
        if wanted == 2 and not inside:
            return int64(UNKNOWN)
    if inside and _avoids_two(u, mode, frame, closed):
        return int64(UNKNOWN)
    if not inside and _can_grow(ctx, u, q, n, mode, escape, frame, base):
        return int64(LIVE)
    order, signs = _u8(u, W_ORDER), _u8(u, W_SIGNS)
    stack = _i64(u, W_STACK)
    bytes_on_path = _u8(u, W_BYTES)
    room = u[N_STACK_ROOM]
    _put(stack, int64(0), q, n, f, mode, node, escape, frame, closed)
    if u[N_WORK] > MOST_WORK:
        return int64(GIVEN_UP)
    depth = int64(0)
    visited = 0
    zeros = 0
    skipped = False
    repeats = False
    unsure = wanted > 1
    while depth >= 0:
        at = STACK_COLUMNS * depth
        turn = stack[at + 6]
        before = stack[at + 3]
        # all bytes of a place are tried before any is followed
        if turn >= 256 and stack[at + 11] == 0:
            depth -= 1
            continue
        if turn == 256:  # on to the first byte that is to be followed
            turn = 256 + stack[at + 10]
        in_string = STRING <= before <= KEY_ESCAPE
        follows = turn >= 256
        skipped_to = _next_way(
            ctx, stack[at], stack[at + 1], stack[at + 2], order if in_string else signs, turn & 255,
            int64(256) if in_string else u[N_SIGNS],
        )  # fmt: skip
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
        if verdict == _MISSING:
            if follows:
                return int64(MISSING)
            u[N_MISS] = -1
            _note_way(stack, at, turn)
            continue
        if verdict == _REPEATED:
            continue
        c = _class_of(ctx, u, symbol)
        if before == SCALAR and mode != SCALAR:
            known = (
                symbol != byte or _kind(u, outer) & DEEP or (mode == DONE and _has(u, frame, node))
            )
            repeats |= known and not _is_nothing_yet(u, stack[at + 5], here - 1)
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
            safe = not _in_danger(u, mode, node, escape, frame, int64(0), here)
            if wanted == 1:
                if verdict == _FINE and (safe or after & ENDED):
                    return int64(LIVE)
                continue
            but_one = verdict == _BUT_ONE and symbol == byte and not inside
            if but_one or (verdict == _FINE and safe):
                spot = _note_find(u, stack, depth, base, inside)
                if spot == _TWO:
                    return int64(LIVE)
                if before == SCALAR and spot >= 0:
                    depth = spot  # all that begins with this number is one branch
            continue
        if verdict != _FINE or (inside and _avoids_two(u, mode, frame, after)):
            unsure = True
            continue
        if mode == DONE and no_marks and _kind(u, frame) & KEEPS and _has(u, frame, node):
            continue
        stays = mode == before and q == stack[at] and n == stack[at + 1] and f == stack[at + 2]
        if stays and mode == SCALAR and byte == 0x30:
            skipped = True  # one zero more
            continue
        further = mode == SCALAR and before == SCALAR and wanted == 2
        if further and not _may_be_known(u, stack[at + 5], here - 1):
            continue  # more digits are of the same branch
        blank = byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D
        blank = blank and (mode < STRING or mode == DONE)
        if blank or (mode == SCALAR and _is_nothing_yet(u, escape, here)):
            if _was_seen(u, zeros, q, n, f, mode, node, frame, after):
                skipped |= not blank
                continue
            zeros = min(zeros + 1, int64(MOST_ZEROS))
        visited += 1
        u[N_WORK] += 1
        depth += 1
        if depth >= room or visited > _EXPANSIONS:
            return int64(UNKNOWN)
        _put(stack, depth, q, n, f, mode, node, escape, frame, after if wanted > 1 else int64(0))
    unsure |= skipped and repeats
    return int64(UNKNOWN) if unsure else int64(DEAD_END)


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, nogil=True)
def is_live(address, keys, state, mode, node, escape, frame):  # type: ignore[no-untyped-def]
    """``LIVE``, ``DEAD_END``, ``UNKNOWN`` or ``MISSING`` for a state and a place; or what a step answers.

    ``MISSING``: ``N_MISS`` and ``N_MISS_EVENT`` say which step from container to container is lacking.
    """
    ctx = _context(address)
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    if not _in_danger(u, mode, node, escape, frame, int64(0), int64(0)):
        return int64(LIVE)
    q, n, f = _open(ctx, state)
    return _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, int64(0), int64(0))


@njit
def _clear_tokens(ctx, row, begin, end):  # type: ignore[no-untyped-def]
    """Clears the bits of the tokens that end at nodes from ``begin`` up to ``end``."""
    t_start, t_tokens = _i32(ctx, T_TOKEN_START), _i32(ctx, T_TOKENS)
    for k in range(t_start[begin], t_start[end]):
        token = t_tokens[k]
        row[token >> 5] &= ~(int32(1) << int32(token & 31))


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


@njit(cache=True)
def _walk_threatened(ctx, u, state, mode, node, escape, frame, row, left, room, texts_only):  # type: ignore[no-untyped-def]
    """Judges tokens along the trie, where a known text may be written; see ``restrict_mask``.

    With ``texts_only`` tokens are left out that go on behind the text that is being written.
    """
    t_byte, t_depth, t_skip = _u8(ctx, T_BYTE), _u16(ctx, T_DEPTH), _i32(ctx, T_SKIP)
    t_start = _i32(ctx, T_TOKEN_START)
    bytes_on_path = _u8(u, W_BYTES)
    flags = _u8(u, T_FLAGS)
    path = _i64(u, W_PATH)
    q, n, f = _open(ctx, state)
    path[0], path[1], path[2] = q, n, f
    path[3], path[4], path[5], path[6], path[7] = mode, node, escape, frame, 0
    mode0, node0, escape0, frame0 = mode, node, escape, frame
    roots = _i32(u, T_ROOTS)
    for first in range(256):
        if roots[first] < 0:
            continue
        if texts_only:  # most nodes below the root need not even be fetched from memory
            m, d, _, inner, closed, verdict, _ = _track(
                u, mode0, node0, escape0, frame0, int64(0), int64(first), int64(1)
            )
            if verdict == _FINE and not _in_danger(u, m, d, int64(0), inner, closed, int64(1)):
                continue
        i = int64(roots[first])
        end = int64(t_skip[i])
        while i < end:
            depth = int64(t_depth[i])
            at = _COLUMNS * (depth - 1)
            byte = int64(t_byte[i])
            bytes_on_path[depth] = byte
            mode, node, escape, frame, closed, verdict, symbol = _track(
                u, path[at + 3], path[at + 4], path[at + 5], path[at + 6], path[at + 7], byte, depth
            )
            if verdict == _MISSING:
                return int64(0)
            if verdict == _BUT_ONE:
                verdict = int64(_UNSURE)
            threatened = verdict == _FINE and _in_danger(
                u, mode, node, escape, frame, closed, depth
            )
            if verdict == _FINE and symbol == byte and not threatened:
                if mode >= STRING and mode <= KEY_ESCAPE:
                    ahead = flags[i] & QUOTE_BELOW
                else:
                    ahead = flags[i] & SIGN_BELOW
                if ahead == 0 or texts_only:
                    i = int64(t_skip[i])
                    continue
            c = _class_of(ctx, u, symbol)
            if c < 0:
                verdict = int64(_REPEATED)
            else:
                q, n, f = _move(ctx, path[at], path[at + 1], path[at + 2], c)
                if q == _SET and f <= 0:
                    if f < 0:
                        return f
                    if symbol == byte:
                        i = int64(t_skip[i])
                        continue
                    verdict = int64(_REPEATED)
            if verdict == _REPEATED:
                _clear_tokens(ctx, row, i, int64(t_skip[i]))
                i = int64(t_skip[i])
                continue
            whole = WHOLE
            if threatened and t_start[i] < t_start[i + 1]:
                live = _look_ahead(ctx, u, q, n, f, mode, node, escape, frame, closed, depth)
                if live < 0:
                    return live
                if live == MISSING:
                    return int64(0)
                if live == DEAD_END:
                    _clear_tokens(ctx, row, i, i + 1)
                elif live == GIVEN_UP:
                    u[N_GIVEN_UP] += 1
                elif live == UNKNOWN:
                    verdict = int64(_UNSURE)
                    whole = 0
            if verdict == _UNSURE:
                if not _note(left, room, i, whole):
                    return int64(OUT_OF_FUEL)
                if whole:
                    i = int64(t_skip[i])
                    continue
            at += _COLUMNS
            path[at], path[at + 1], path[at + 2] = q, n, f
            path[at + 3], path[at + 4], path[at + 5] = mode, node, escape
            path[at + 6], path[at + 7] = frame, closed
            i += 1
    return int64(0)


@njit
def _remembered(u, known, q, n, f, mode, node, escape, frame, closed):  # type: ignore[no-untyped-def]
    """The answer of an equal look ahead before, -1 if there was none."""
    memo = _i64(u, W_MEMO)
    for i in range(known):
        at = _MEMO_COLUMNS * i
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
    at = _MEMO_COLUMNS * known
    memo[at], memo[at + 1], memo[at + 2], memo[at + 3] = q, n, f, mode
    memo[at + 4], memo[at + 5], memo[at + 6], memo[at + 7] = node, escape, frame, closed
    memo[at + 8] = live


@njit(cache=True)
def _try_signs(ctx, u, state, mode, node, escape, frame, row, left, room, signs, count):  # type: ignore[no-untyped-def]
    """Judges, one by one, the allowed tokens of a list: those with a comma or an array's end."""
    offset = _i32(ctx, T_TOKEN_OFFSET)
    text = carray(_pointer(ctx[T_TOKEN_BYTES]), (1 << 40,), np.uint8)
    bytes_on_path = _u8(u, W_BYTES)
    q0, n0, f0 = _open(ctx, state)
    known = 0
    for k in range(count):
        token = int64(signs[k])
        if (row[token >> 5] >> int32(token & 31)) & int32(1) == 0:
            continue
        q, n, f = q0, n0, f0
        m, d, e, inner, closed = mode, node, escape, frame, int64(0)
        verdict = int64(_FINE)
        begin, size = int64(offset[token]), int64(offset[token + 1] - offset[token])
        for i in range(size):
            byte = int64(text[begin + i])
            bytes_on_path[i + 1] = byte
            m, d, e, inner, closed, verdict, symbol = _track(
                u, m, d, e, inner, closed, byte, int64(i + 1)
            )
            if verdict == _MISSING:
                return int64(0)
            c = _class_of(ctx, u, symbol)
            if c < 0:
                verdict = int64(_REPEATED)
            else:
                q, n, f = _move(ctx, q, n, f, c)
                if q == _SET and f <= 0:
                    if f < 0:
                        return f
                    verdict = int64(_REPEATED)
            if verdict != _FINE:
                break
        if verdict == _FINE and _in_danger(u, m, d, e, inner, closed, size):
            lasting = inner >= NO_FRAME and m != SCALAR  # else what was read matters, too
            live = int64(-1)
            if lasting:
                live = _remembered(u, known, q, n, f, m, d, e, inner, closed)
            if live < 0:
                live = _look_ahead(ctx, u, q, n, f, m, d, e, inner, closed, size)
                if live < 0:
                    return live
                if live == MISSING:
                    return int64(0)
                if lasting and known < MEMO_SIZE:
                    _remember(u, known, q, n, f, m, d, e, inner, closed, live)
                    known += 1
            if live == GIVEN_UP:
                u[N_GIVEN_UP] += 1
            elif live == DEAD_END:
                verdict = int64(_REPEATED)
            elif live == UNKNOWN:
                verdict = int64(_UNSURE)
        if verdict == _REPEATED:
            row[token >> 5] &= ~(int32(1) << int32(token & 31))
        elif verdict in (_UNSURE, _BUT_ONE) and not _note(left, room, token, TOKEN):
            return int64(OUT_OF_FUEL)
    return int64(0)


@njit(
    "int64(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)",
    cache=True,
    nogil=True,
)
def restrict_mask(address, keys, state, mode, node, escape, frame, row_address, out, out_room):  # type: ignore[no-untyped-def]
    """Clears the bits of tokens that repeat a key or an item, or can only lead there.

    The rules' mask is given in the row.  Two kinds of tokens matter: those that go along a known
    text, which the trie is walked for, and those with a comma or bracket behind which something is
    repeated or is to begin.  Of the latter the rules allow some dozens at most, which are tried one by
    one.  Where items are compared both kinds are looked for along the trie.

    ``out`` receives int32 pairs of what the caller has to try, behind their number: a trie node and 0
    for the tokens that end there, ``WHOLE`` for all below; or a token and ``TOKEN``.

    Returns 0, ``OUT_OF_FUEL`` if ``out`` is too small, or what a step answers (call again, as where
    ``N_MISS`` is set: a step from container to container is lacking).
    """
    ctx = _context(address)
    u = carray(_pointer(keys), (KEY_FIELDS,), np.int64)
    row = carray(_pointer(row_address), (1 << 40,), np.int32)
    left = carray(_pointer(out), (1 << 40,), np.int32)
    left[0] = 0
    kind = _kind(u, frame)
    if kind & (KEEPS | DEEP) or mode in (ESCAPE, KEY_ESCAPE):
        return _walk_threatened(
            ctx, u, state, mode, node, escape, frame, row, left, out_room, False
        )
    if _in_danger(u, mode, node, escape, frame, int64(0), int64(0)):
        answer = _walk_threatened(
            ctx, u, state, mode, node, escape, frame, row, left, out_room, True
        )
        if answer != 0:
            return answer
    inside = STRING <= mode <= KEY_ESCAPE
    signs = _i32(u, T_INSIDE if inside else T_OUTSIDE)
    count = u[N_INSIDE if inside else N_OUTSIDE]
    return _try_signs(ctx, u, state, mode, node, escape, frame, row, left, out_room, signs, count)


@njit(
    "int64(Array(int32, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), boolean, "
    "int32[::1])",
    cache=True,
    nogil=True,
)
def list_signs(offset, text, inside, out):  # type: ignore[no-untyped-def]
    """Lists the tokens with a comma, or the end of an array, outside strings.

    Args:
        offset, text: the tokens' bytes, see ``Vocabulary.flat``.
        inside: whether they begin within a string.
        out: int32[V], receives the tokens, ascending.

    Returns:
        How many there are.
    """
    found = 0
    for token in range(len(offset) - 1):
        within, escaped = inside, False
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
    "void(Array(uint8, 1, 'C', readonly=True), Array(int32, 1, 'C', readonly=True), uint8[::1])",
    cache=True,
    nogil=True,
)
def find_signs(t_byte, t_skip, flags):  # type: ignore[no-untyped-def]
    """Sets ``SIGN_BELOW`` and ``QUOTE_BELOW`` for every node of a trie."""
    for i in range(len(t_byte) - 1, -1, -1):
        found = uint8(0)
        child = i + 1
        while child < t_skip[i]:
            found |= flags[child]
            if t_byte[child] == 0x2C or t_byte[child] == 0x5D:
                found |= uint8(SIGN_BELOW)
            if t_byte[child] == 0x22 and flags[child] & SIGN_BELOW:
                found |= uint8(QUOTE_BELOW)
            child = int64(t_skip[child])
        flags[i] = found
