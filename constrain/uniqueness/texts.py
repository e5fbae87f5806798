"""Keys and items of open JSON containers, as the kernels see them: which tokens would repeat one."""

from __future__ import annotations

from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.engine.jit import kernels as k
from constrain.engine.jit import load
from constrain.engine.pool import StatePool
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.ir import REPEATED_CLOSE, REPEATED_COMMA
from grammars.uniqueness.memory import (
    ARRAY,
    DONE,
    ESCAPE,
    KEY,
    KEY_ESCAPE,
    KEY_STRING,
    LITERAL,
    NUMBER,
    OBJECT,
    SCALAR,
    STRING,
    TEXT,
    Frame,
    Tracker,
    Value,
)

u = load("constrain.uniqueness.kernels")

_Row = npt.NDArray[np.int32]

MAX_BYTES: Final = 64 << 20
"""Bytes that tries and sets of keys may take before they are begun anew."""
_OUT: Final = 1 << 14
"""Entries of the list of tokens that kernels leave to the caller."""
_STACK_ROOM: Final = 4_096
_IN_KEYS: Final = frozenset((KEY, KEY_STRING, KEY_ESCAPE))
_MOST_POWER: Final = 10**15
"""Exponents from which on kernels do not compare numbers."""
_ORDER: Final = np.frombuffer(
    bytes(dict.fromkeys(b'"abcdefghijklmnopqrstuvwxyz_0123456789' + bytes(range(256)))), np.uint8
).copy()
"""Bytes of strings in the order in which looking ahead tries them."""
_SIGNS: Final = np.frombuffer(
    bytes(dict.fromkeys(b'",]1234567890tfnraeuls}:.-+E[{\n \t\r' + bytes(range(256)))), np.uint8
).copy()
"""The same outside strings."""


class UsedTexts:
    """Keys and items that occurred, and the open containers that have them, in arrays for kernels.

    Everything here is derived from trackers and may be dropped at any time.  The caller holds the
    lock of the automaton.

    Args:
        pool: of the rules' automaton.
        vocabulary: its tokens.
        compares: whether items of arrays are compared.
    """

    def __init__(self, pool: StatePool, vocabulary: Vocabulary, compares: bool) -> None:
        self._pool = pool
        self._trie: Trie = vocabulary.trie
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._context = np.zeros(u.KEY_FIELDS, np.int64)
        self._address = self._context.ctypes.data
        depth = self._trie.max_depth + 2
        deepest = depth + _STACK_ROOM + 2
        self._put(u.W_PATH, np.zeros(8 * depth, np.int64))
        self._put(u.W_STACK, np.zeros(7 * (_STACK_ROOM + 1), np.int64))
        self._put(u.W_ORDER, _ORDER)
        self._put(u.W_SIGNS, _SIGNS)
        self._put(u.W_ZEROS, np.zeros(3 * u.MOST_ZEROS, np.int64))
        self._put(u.W_TEMP_PARENT, np.zeros(deepest, np.int32))
        self._put(u.W_TEMP_KIND, np.zeros(deepest, np.uint8))
        self._put(u.W_BYTES, np.zeros(deepest, np.uint8))
        self._put(u.W_RAW, np.zeros(64, np.uint8))
        flags, inside, outside, roots = _signs_of(vocabulary)
        self._put(u.T_ROOTS, roots)
        self._put(u.T_FLAGS, flags)
        self._put(u.T_INSIDE, inside)
        self._put(u.T_OUTSIDE, outside)
        self._put(u.W_MEMO, np.zeros(9 * u.MEMO_SIZE, np.int64))
        context = self._context
        context[u.N_INSIDE], context[u.N_OUTSIDE] = len(inside), len(outside)
        context[u.N_STACK_ROOM] = _STACK_ROOM
        context[u.N_COMPARES] = compares
        marks, byte_class = pool.program.marks, pool.program.byte_class
        for field, mark in ((u.N_MARK_COMMA, REPEATED_COMMA), (u.N_MARK_CLOSE, REPEATED_CLOSE)):
            context[field] = byte_class[mark] if mark in marks else -1
        self._out = np.zeros(2 * _OUT + 1, np.int32)
        self.clear()

    def clear(self) -> None:
        """Forgets all texts and containers."""
        self._texts: dict[bytes | Value, int] = {}
        self._frames: dict[Frame, int] = {}
        self._latest: tuple[frozenset[Any], int, int] = (frozenset(), 0, 0)
        self._nodes = 1
        self._words = 0
        self._put(u.K_HASH_KEY, np.zeros(1 << 8, np.int64))
        self._put(u.K_HASH_VALUE, np.zeros(1 << 8, np.int32))
        self._context[u.N_HASH] = 1 << 8
        self._put(u.K_NODE_KEY, np.full(1 << 7, -1, np.int32))
        for field, dtype in (
            (u.F_PARENT, np.int32),
            (u.F_KIND, np.uint8),
            (u.F_OFFSET, np.int64),
            (u.F_WORDS, np.int32),
        ):
            self._put(field, np.zeros(16, dtype))
        self._put(u.F_BITS, np.zeros(64, np.uint64))

    @property
    def nbytes(self) -> int:
        """Memory held by all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    # -- questions -----------------------------------------------------------------------------

    def restrict(self, state: int, tracker: Tracker, row: _Row) -> list[int] | None:
        """Clears the bits of tokens that repeat a key or an item, or can only lead there.

        Args:
            state: of the rules.
            tracker: what goes with it.
            row: the rules' mask, changed in place.

        Returns:
            Tokens whose bits the caller has to judge; ``None``: it has to judge all of them.
        """
        place = self._place(tracker)
        if place is None:
            return None
        out = self._pool.call(
            u.restrict_mask,
            self._address,
            state,
            *place,
            row.ctypes.data,
            self._out.ctypes.data,
            2 * _OUT + 1,
        )
        if out == k.OUT_OF_FUEL:
            return None
        entries = self._out[1 : 1 + 2 * int(self._out[0])].reshape(-1, 2).tolist()
        return [token for node, what in entries for token in self._tokens(node, what, row)]

    def is_live(self, state: int, tracker: Tracker) -> bool | None:
        """Whether a pair can be completed as far as texts go; ``None``: the kernel cannot tell."""
        frame = tracker.frame
        if frame is None or not (frame.keep or (frame.keys and tracker.mode in _IN_KEYS)):
            return True
        place = self._place(tracker)
        if place is None:
            return None
        found = self._pool.call(u.is_live, self._address, state, *place)
        return None if found == u.UNKNOWN else bool(found == u.LIVE)

    def _tokens(self, node: int, what: int, row: _Row) -> list[int]:
        if what == u.TOKEN:
            return [node]
        trie = self._trie
        end = trie.skip[node] if what == u.WHOLE else node + 1
        tokens = trie.tokens[trie.token_start[node] : trie.token_start[end]]
        allowed: list[int] = tokens[(row[tokens >> 5] >> (tokens & 31)) & 1 == 1].tolist()
        return allowed

    # -- trackers as places ----------------------------------------------------------------------

    def _place(self, tracker: Tracker) -> tuple[int, int, int, int] | None:
        """(mode, node, escape, frame) as the kernels take them; ``None`` within compared items."""
        frame, mode, node, escape = tracker.frame, tracker.mode, u.NO_NODE, 0
        keeps = frame is not None and frame.keep
        if keeps and not _is_outermost_array(frame):
            return None
        number = self._frame(frame)
        if mode in (KEY_STRING, KEY_ESCAPE) or (keeps and mode in (STRING, ESCAPE)):
            raw = np.frombuffer(tracker.raw or b"\0", np.uint8)
            found = int(u.read_key(self._address, raw.ctypes.data, len(tracker.raw)))
            if found >= 0:
                node, escape = found >> 36, found & ((1 << 36) - 1)
        elif keeps and mode == SCALAR:
            self._set_raw(tracker.raw)
        elif keeps and mode == DONE and tracker.value is not None:
            node = self._texts.get(_content(tracker.value), u.NO_NODE)
        return mode, node, escape, number

    def _set_raw(self, raw: bytes) -> None:
        """The bytes of the number or literal so far."""
        if len(raw) > len(self._arrays[u.W_RAW]):
            self._put(u.W_RAW, np.zeros(2 * len(raw), np.uint8))
        self._arrays[u.W_RAW][: len(raw)] = np.frombuffer(raw, np.uint8)
        self._context[u.N_RAW] = len(raw)

    def _frame(self, frame: Frame | None) -> int:
        """The number of a container; those around it get theirs first."""
        if frame is None:
            return int(u.NO_FRAME)
        known = self._frames.get(frame)
        if known is not None:
            return known
        if self.nbytes > MAX_BYTES:
            self.clear()
        chain: list[Frame] = []
        at: Frame | None = frame
        while at is not None and at not in self._frames:
            chain.append(at)
            at = at.parent
        for one in reversed(chain):
            self._add_frame(one)
        return self._frames[frame]

    def _add_frame(self, frame: Frame) -> None:
        number = len(self._frames)
        flat = _is_outermost_array(frame)
        bits, boxes = self._bits(frame.seen if flat else frame.keys)
        words = -(-bits.bit_length() // 64)
        self._room((u.F_PARENT, u.F_KIND, u.F_OFFSET, u.F_WORDS), number + 1)
        self._room((u.F_BITS,), self._words + words)
        arrays = self._arrays
        arrays[u.F_BITS][self._words : self._words + words] = np.frombuffer(
            bits.to_bytes(8 * words, "little"), np.uint64
        )
        kind = u.IS_OBJECT if frame.is_object else u.KEEPS if flat else 0
        if bits:
            kind |= u.HAS_TEXTS
        if boxes:
            kind |= u.HAS_BOXES
        arrays[u.F_PARENT][number] = (
            u.NO_FRAME if frame.parent is None else self._frames[frame.parent]
        )
        arrays[u.F_KIND][number] = kind
        arrays[u.F_OFFSET][number] = self._words
        arrays[u.F_WORDS][number] = words
        self._words += words
        self._frames[frame] = number

    def _bits(self, texts: frozenset[Any]) -> tuple[int, bool]:
        """The numbers of keys or items as bits, and whether arrays or objects are among them.

        Mostly they differ by one or two from those of the container that was asked for before.
        """
        before, bits, boxes = self._latest
        more, gone = texts - before, before - texts
        if len(more) + len(gone) > len(texts):
            more, gone, bits, boxes = texts, frozenset(), 0, 0
        for text in more:
            content = _content(text)
            bits |= 1 << self._text(content)
            boxes += _is_box(content)
        for text in gone:
            content = _content(text)
            bits ^= 1 << self._text(content)
            boxes -= _is_box(content)
        self._latest = texts, bits, boxes
        return bits, boxes > 0

    def _text(self, text: bytes | Value) -> int:
        """The number of a text, which is put into the trie; arrays and objects have numbers only."""
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = len(self._texts)
            if isinstance(text, bytes):
                data = np.frombuffer(text or b"\0", np.uint8)
                self._room((u.K_NODE_KEY,), self._nodes + len(text))
                while 2 * (self._nodes + len(text)) > self._context[u.N_HASH]:
                    self._grow_hash()
                node = int(u.add_key(self._address, data.ctypes.data, len(text), self._nodes))
                self._nodes = max(self._nodes, node + 1)
                self._arrays[u.K_NODE_KEY][node] = known
        return known

    # -- room ------------------------------------------------------------------------------------

    def _put(self, field: int, array: npt.NDArray[Any]) -> None:
        self._arrays[field] = array
        self._context[field] = array.ctypes.data

    def _room(self, fields: tuple[int, ...], size: int) -> None:
        """Enlarges arrays of equal length."""
        if size <= len(self._arrays[fields[0]]):
            return
        for field in fields:
            old = self._arrays[field]
            fresh = np.zeros(max(size, 2 * len(old)), old.dtype)
            fresh[: len(old)] = old
            self._put(field, fresh)

    def _grow_hash(self) -> None:
        keys, values = self._arrays[u.K_HASH_KEY], self._arrays[u.K_HASH_VALUE]
        size = 2 * len(keys)
        self._put(u.K_HASH_KEY, np.zeros(size, np.int64))
        self._put(u.K_HASH_VALUE, np.zeros(size, np.int32))
        self._context[u.N_HASH] = size
        u.rebuild_children(self._address, keys.ctypes.data, values.ctypes.data)


def _is_outermost_array(frame: Frame | None) -> bool:
    """Whether items are compared here, and the array itself is no part of an item."""
    if frame is None or frame.is_object or not frame.keep:
        return False
    return frame.parent is None or not frame.parent.keep


def _is_box(content: bytes | Value) -> bool:
    return isinstance(content, Value) and content.kind in (ARRAY, OBJECT)


def _content(value: str | Value) -> bytes | Value:
    """A key's or scalar's text as it stands in the trie; an array or object is its own."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if value.kind == TEXT:
        return str(value.content).encode("utf-8", "surrogatepass")
    if value.kind == LITERAL:
        return b"\xff" + bytes(value.content)
    if value.kind == NUMBER:
        negative, digits, power = value.content
        if abs(power) < _MOST_POWER:
            return b"\xff%c%be%d" % (b"-" if negative else b"+", digits, power)
    return value


_stored: WeakKeyDictionary[Vocabulary, tuple[npt.NDArray[np.uint8], _Row, _Row, _Row]] = (
    WeakKeyDictionary()
)
_stored_lock = Lock()


def _signs_of(vocabulary: Vocabulary) -> tuple[npt.NDArray[np.uint8], _Row, _Row, _Row]:
    """Where a vocabulary has commas and ends of arrays, found once.

    Returns:
        uint8[N], ``SIGN_BELOW`` and ``QUOTE_BELOW`` of every trie node; int32: the tokens that have
        some outside strings if they begin within one, and if they do not; int32[256], the child of
        the root by byte, -1 if there is none.
    """
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            trie = vocabulary.trie
            flags = np.zeros(trie.node_count, np.uint8)
            u.find_signs(trie.byte, trie.skip, flags)
            offset, text = vocabulary.flat
            out = np.empty(vocabulary.size, np.int32)
            lists = [
                out[: u.list_signs(offset, text, inside, out)].copy() for inside in (True, False)
            ]
            roots = np.full(256, -1, np.int32)
            at = 1
            while at < trie.node_count:
                roots[trie.byte[at]] = at
                at = int(trie.skip[at])
            known = _stored[vocabulary] = (flags, lists[0], lists[1], roots)
        return known
