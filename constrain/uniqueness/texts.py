"""Keys and items of open JSON containers, as the kernels see them: which tokens would repeat one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import zeros_on_demand
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
    Memory,
    Tracker,
    Value,
)
from grammars.uniqueness.persistent import SharedSet, difference

u = load("constrain.uniqueness.kernels")

_Row = npt.NDArray[np.int32]

MAX_BYTES: Final = 64 << 20
"""Bytes that all arrays may take before everything is begun anew."""
MAX_CONTAINER_BYTES = 8 << 20
"""Bytes that containers and their sets may take before they are begun anew (those in use return at once)."""
_CONTAINER_BYTES: Final = 64
"""About what a container takes without its sets."""
_OUT: Final = 1 << 14
"""Entries of the list of tokens that kernels leave to the caller."""
_CHUNK: Final = 1 << 13
"""Words of sets that are reserved together, once there are many."""
_STACK_ROOM: Final = 4_096
_SEARCHES: Final = (
    (512, 8),
    (2_048, 8),
    (2_048, 2),
    (2_048, 1),
    (8_192, 8),
    (8_192, 4),
    (8_192, 1 << 30),
)
"""Places visited (some 0.3 us each) and brackets open at once, at most, in searches for a text, in turn.

Brackets close as soon as they may, so what is nested is soon read; few brackets at once are tried where
the rules go on opening them.
"""
_IN_KEYS: Final = frozenset((KEY, KEY_STRING, KEY_ESCAPE))
_MOST_STEPS: Final = 400
"""Steps between containers that one question may add before the rest is left to the caller."""
_NO_TOKENS: Final[list[int]] = []
_TO_QUOTE: Final = re.compile(rb'(?:[^"\\]|\\.)*(?=")', re.DOTALL)
"""What stands before the quote that ends a string."""
_MOST_POWER: Final = 10**15
"""Exponents from which on kernels do not compare numbers."""
_ORDER: Final = np.frombuffer(
    bytes(dict.fromkeys(b'"abcdefghijklmnopqrstuvwxyz_0123456789' + bytes(range(256)))), np.uint8
).copy()
"""Bytes of strings in the order in which looking ahead tries them."""
_TO_END: Final = np.frombuffer(
    bytes(dict.fromkeys(b']},":01234567890tfn{[ ' + bytes(range(256))))
    + bytes(dict.fromkeys(b'"' + bytes(range(256)))),
    np.uint8,
).copy()
"""Bytes outside strings, then those within, in the order in which a text that ends is looked for."""
_JSON_SIGNS: Final = b'"1234567890,]}tfnraeuls:.-+E[{\n \t\r'
_SIGNS: Final = np.frombuffer(
    bytes(dict.fromkeys(_JSON_SIGNS + bytes(range(256)))), np.uint8
).copy()
"""The same outside strings."""


class UsedTexts:
    """Keys and items that occurred, and the open containers that have them, in arrays for kernels.

    Everything here is derived from trackers and may be dropped at any time.  The caller holds the
    lock of the automaton.

    Args:
        pool: of the rules' automaton.
        vocabulary: its tokens.
        memory: whose trackers are asked about.
    """

    def __init__(self, pool: StatePool, vocabulary: Vocabulary, memory: Memory) -> None:
        self._pool = pool
        self._memory = memory
        self.given_up = 0
        """Tokens that stayed allowed as looking ahead had cost ``MOST_WORK``."""
        self._trie: Trie = vocabulary.trie
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._chunks: list[npt.NDArray[np.uint64]] = []
        self._chunk_at = 0
        self._nbytes = 0
        self._context = np.zeros(u.KEY_FIELDS, np.int64)
        self._address = self._context.ctypes.data
        tables = _tables_of(vocabulary)
        self._set_scratch(tables)
        self._put(u.W_ORDER, _ORDER)
        self._put(u.W_SIGNS, _SIGNS)
        self._room_raw(64)
        context = self._context
        self._set_tables(tables)
        context[u.N_STACK_ROOM] = _STACK_ROOM
        context[u.N_COMPARES] = memory.compare_items
        program = pool.program
        marks, byte_class = program.marks, program.byte_class
        signs = len(_JSON_SIGNS) if memory.is_json else 256
        turns = np.zeros((2, 4 * (program.classes + 1)), np.uint64)
        for i, (field, order, count) in enumerate(
            ((u.W_TURNS, u.W_ORDER, 256), (u.W_SIGN_TURNS, u.W_SIGNS, signs))
        ):
            self._put(field, turns[i])
            u.list_turns(pool.address, context[order], count, context[field])
        for field, mark in ((u.N_MARK_COMMA, REPEATED_COMMA), (u.N_MARK_CLOSE, REPEATED_CLOSE)):
            context[field] = byte_class[mark] if mark in marks else -1
        self._out = np.zeros(2 * _OUT + 1, np.int32)
        self._restrict_rest = (self._out.ctypes.data, 2 * _OUT + 1)
        self.clear()

    def _set_tables(self, tables: _Tables) -> None:
        for field, array in (
            (u.T_SIGNS, tables.signs),
            (u.T_SIGN_OFFSET, tables.sign_offset),
            (u.T_SIGN_TEXT, tables.sign_text),
            (u.T_SIGN_QUOTE, tables.sign_quote),
            (u.T_SIGN_ENDING, tables.sign_ending),
        ):
            self._put(field, array)
        for field, count in zip(
            (u.N_OUTSIDE, u.N_INSIDE, u.N_ESCAPED), tables.sign_counts, strict=True
        ):
            self._context[field] = count
        self._context[u.N_ENDINGS] = tables.endings
        self._put(u.T_CHILD_OFFSET, tables.child_offset)
        self._put(u.T_CHILDREN, tables.children)
        self._put(u.T_CHILD_BYTE, tables.child_byte)

    def _set_scratch(self, tables: _Tables) -> None:
        """What only kernels write and read, in one array; pages that are never used take no memory."""
        block = zeros_on_demand(tables.scratch_bytes)
        self._scratch = block
        self._nbytes += block.nbytes
        self._context[tables.scratch_fields] = block.ctypes.data + tables.scratch_offsets
        at, size = tables.row_at
        self._row = block[at : at + size].view(np.int32)

    def clear(self) -> None:
        """Forgets all texts and containers."""
        self._texts: dict[bytes | Value, int] = {}
        self._numbers: dict[str | Value, int] = {}
        self._values: list[str | Value] = []
        self._latest: dict[bool, tuple[SharedSet, int, int]] = {}
        self._latest_rivals: dict[str | None, tuple[frozenset[str | Value], int, int]] = {}
        self._nodes = 1
        self._put_hash(1 << 8)
        self._put(u.K_OLD_KEY, np.zeros(1, np.int64))
        self._put(u.K_OLD_VALUE, np.zeros(1, np.int32))
        self._context[u.N_OLD] = 0
        self._put(u.K_NODE_KEY, np.full(1 << 7, -1, np.int32))
        self._put(u.K_NODE_FIRST, np.zeros(1 << 7, np.int32))
        self._put(u.K_NODE_NEXT, np.zeros(1 << 7, np.int32))
        self._put(u.K_NODE_BYTE, np.zeros(1 << 7, np.uint8))
        for field, dtype in (
            (u.F_PARENT, np.int32),
            (u.F_KIND, np.uint8),
            (u.F_OFFSET, np.int64),
            (u.F_WORDS, np.int32),
            (u.F_RIVAL_OFFSET, np.int64),
            (u.F_RIVAL_WORDS, np.int32),
            (u.F_VALUE, np.int32),
            (u.F_SAFE, np.int32),
        ):
            self._put(field, np.zeros(16, dtype))
        self._forget_containers()

    def _forget_containers(self) -> None:
        """Forgets all containers; the texts stay, so that those still in use are soon there again."""
        self._frames: dict[tuple[Frame, bool], int] = {}
        self._by_number: list[tuple[Frame, bool]] = []
        self._number_of: dict[Frame | None, int] = {None: int(u.NO_FRAME)}
        self._nbytes -= sum(chunk.nbytes for chunk in self._chunks)
        self._chunks = []
        self._chunk_used = 0
        self._words = 0
        self._steps = 0
        self._put_steps(1 << 6)
        # places are named by containers: what looks ahead remember of them is forgotten, too
        u.forget_places(self._address)

    @property
    def nbytes(self) -> int:
        """Memory held by all arrays."""
        return self._nbytes

    # -- questions -----------------------------------------------------------------------------

    def restrict(self, state: int, tracker: Tracker, row: _Row) -> tuple[_Row, list[int]] | None:
        """The rules' mask without the tokens that repeat a key or an item, or can only lead there.

        Args:
            state: of the rules.
            tracker: what goes with it.
            row: the rules' mask; it is not changed.

        Returns:
            The mask, which is ``row`` itself where nothing is taken from it, else an array of its own,
            and the tokens whose bits the caller has to judge; ``None``: it has to judge all of them.
        """
        place = self._place(tracker)
        if place is None:
            return None
        out = self._ask(u.restrict_mask, state, *place, row, *self._restrict_rest)
        if out == 0:
            return row, _NO_TOKENS
        if out == k.OUT_OF_FUEL:
            return None
        if out & u.GAVE_UP:
            self.given_up += int(self._context[u.N_GIVEN_UP])
        if out & u.CHANGED:
            row = self._row.copy()
        if not out & u.LEFT:
            return row, _NO_TOKENS
        entries = self._out[1 : 1 + 2 * int(self._out[0])].reshape(-1, 2).tolist()
        return row, [token for node, what in entries for token in self._tokens(node, what, row)]

    def find_text(self, state: int) -> bytes | None:
        """Bytes that lead from a state of the rules to the end of a text.

        ``None`` if the search was given up, for texts of thousands of bytes.  Depth first, so it is
        neither the shortest nor sure to repeat nothing.
        """
        out = np.empty(_SEARCHES[-1][0], np.uint8)
        addresses = _TO_END.ctypes.data, out.ctypes.data
        with self._pool.canonical_bags():
            for bounds in _SEARCHES:
                self._context[u.N_RESUME] = -1
                size = self._pool.call(u.find_text, self._address, state, *addresses, *bounds)
                if size != k.OUT_OF_FUEL:
                    return out[:size].tobytes()
        return None

    def is_live(self, state: int, tracker: Tracker) -> bool | None:
        """Whether a pair can be completed as far as texts go; ``None``: the kernel cannot tell."""
        frame = tracker.frame
        if frame is None or not (frame.keep or (frame.keys and tracker.mode in _IN_KEYS)):
            return True
        place = self._place(tracker)
        if place is None:
            return None
        found = self._ask(u.is_live, state, *place)
        return None if found in (u.UNKNOWN, u.GIVEN_UP) else bool(found == u.FINE)

    def _ask(self, kernel: Callable[..., int], *args: Any) -> int:
        """A kernel's answer, with the steps between containers that it asks for."""
        out = self._pool.call(kernel, self._address, *args)
        if self._context[u.N_MISS] < 0:
            return out
        context = self._context
        for added in range(_MOST_STEPS):
            self._add_step(int(context[u.N_MISS]), int(context[u.N_MISS_EVENT]))
            context[u.N_FULL] = added == _MOST_STEPS - 1
            out = self._pool.call(kernel, self._address, *args)
            if context[u.N_MISS] < 0:
                break
        context[u.N_FULL] = 0
        return out

    def _tokens(self, node: int, what: int, row: _Row) -> list[int]:
        if what == u.TOKEN:
            return [node]
        trie = self._trie
        end = trie.skip[node] if what == u.WHOLE else node + 1
        tokens = trie.tokens[trie.token_start[node] : trie.token_start[end]]
        allowed: list[int] = tokens[(row[tokens >> 5] >> (tokens & 31)) & 1 == 1].tolist()
        return allowed

    # -- trackers as places ----------------------------------------------------------------------

    def _place(self, tracker: Tracker) -> tuple[int, int, int] | None:
        """(mode, node, frame) as the kernels take them; ``None`` within compared items."""
        frame, mode, node = tracker.frame, tracker.mode, u.NO_NODE
        keeps = frame is not None and frame.keep
        if keeps and not self._memory.keys_differ:
            return None
        number = self._number_of.get(frame)
        if number is None:
            number = self._number(frame)
        if mode in (KEY_STRING, KEY_ESCAPE) or (keeps and mode in (STRING, ESCAPE)):
            node = u.READ_RAW
            self._set_raw(tracker.raw)
        elif keeps and mode == SCALAR:
            self._set_raw(tracker.raw)
        elif keeps and mode == DONE and tracker.value is not None:
            node = self._texts.get(_content(tracker.value), u.NO_NODE)
        return mode, node, number

    def _set_raw(self, raw: bytes) -> None:
        """The bytes of the key, string, number or literal so far."""
        size = len(raw)
        if size > len(self._raw):
            self._room_raw(2 * size)
        self._raw[:size] = raw
        self._context[u.N_RAW] = size

    def _room_raw(self, size: int) -> None:
        array = np.zeros(size, np.uint8)
        self._put(u.W_RAW, array)
        self._raw = memoryview(array.data)  # a slice of it is written faster than one of an array

    def _number(self, frame: Frame | None) -> int:
        """The number of the innermost container of a text; those around it get theirs first."""
        if frame is None:
            return int(u.NO_FRAME)
        if self._nbytes > MAX_BYTES:
            self.clear()
        elif 8 * self._words + _CONTAINER_BYTES * len(self._by_number) > MAX_CONTAINER_BYTES:
            self._forget_containers()
        number = self._number_of[frame] = self._add(frame, not self._is_deep(frame))
        return number

    def _is_deep(self, frame: Frame) -> bool:
        """Whether a container may become equal to, or a part of, an item that is there."""
        inside = frame.parent is not None and frame.parent.keep
        return inside and bool(self._memory.candidates(frame))

    def _add(self, frame: Frame, safe: bool) -> int:
        """The number of a container, or of its safe twin."""
        known = self._frames.get((frame, safe))
        if known is not None:
            return known
        chain: list[Frame] = []
        at: Frame | None = frame
        while at is not None and (at, safe) not in self._frames:
            chain.append(at)
            at = at.parent
        for one in reversed(chain):
            self._add_frame(one, safe)
        return self._frames[frame, safe]

    def _add_frame(self, frame: Frame, safe: bool) -> None:
        """Adds a container whose parent is there, if it has one; ``safe`` or as it is."""
        deep = not safe and self._is_deep(frame)
        if not safe and not deep:
            self._frames[frame, False] = self._add(frame, True)
            return
        parent = u.NO_FRAME if frame.parent is None else self._frames[frame.parent, safe]
        value = self._memory.closed_value(frame) if deep else None
        twin = self._add(frame, True) if deep else 0
        compared = frame.keep and not frame.is_object
        bits, boxes = self._bits(frame.seen if compared else frame.keys, compared)
        rivals, more_boxes = self._rivals(frame) if deep else (bits, False)
        kind = u.IS_OBJECT if frame.is_object else u.KEEPS if compared else 0
        kind |= u.DEEP if deep else 0
        if bits:
            kind |= u.HAS_TEXTS
        if boxes or more_boxes:
            kind |= u.HAS_BOXES
        number = len(self._by_number)
        self._room(
            (u.F_PARENT, u.F_KIND, u.F_OFFSET, u.F_WORDS, u.F_RIVAL_OFFSET, u.F_RIVAL_WORDS,
             u.F_VALUE, u.F_SAFE),
            number + 1,
        )  # fmt: skip
        arrays = self._arrays
        arrays[u.F_PARENT][number] = parent
        arrays[u.F_KIND][number] = kind
        arrays[u.F_SAFE][number] = twin
        arrays[u.F_VALUE][number] = (
            u.NO_NODE if value is None else self._texts.get(value, u.NO_NODE)
        )
        arrays[u.F_OFFSET][number], arrays[u.F_WORDS][number] = self._put_bits(bits)
        same = rivals == bits
        offset, words = arrays[u.F_OFFSET][number], arrays[u.F_WORDS][number]
        arrays[u.F_RIVAL_OFFSET][number], arrays[u.F_RIVAL_WORDS][number] = (
            (offset, words) if same else self._put_bits(rivals)
        )
        self._by_number.append((frame, safe))
        self._frames[frame, safe] = number

    def _put_bits(self, bits: int) -> tuple[int, int]:
        """Where a set stands (its address in words), and how many words it has.

        Sets lie in chunks that stay where they are, as copying all when there are more would be a stall.
        """
        words = -(-bits.bit_length() // 64)
        begin = self._chunk_used
        if not self._chunks or begin + words > len(self._chunks[-1]):
            chunk = np.zeros(max(words, min(_CHUNK, 4 * self._words), 64), np.uint64)
            self._chunks.append(chunk)
            self._nbytes += chunk.nbytes
            self._chunk_at = chunk.ctypes.data // 8
            begin = 0
        if words == 1:
            self._chunks[-1][begin] = bits
        else:
            self._chunks[-1][begin : begin + words] = np.frombuffer(
                bits.to_bytes(8 * words, "little"), np.uint64
            )
        self._chunk_used = begin + words
        self._words += words
        return self._chunk_at + begin, words

    def _rivals(self, frame: Frame) -> tuple[int, bool]:
        """Numbers, as bits, of what must not be read next in a deep container, lest something repeats.

        And whether an array or object is among the values.  They are mostly those of the container asked
        for before that is at the same key, and one more.
        """
        texts: frozenset[str | Value] = frozenset((*frame.seen, *self._memory.missing(frame)))
        if frame.is_object and frame.key is None:
            texts = texts.union(self._memory.names(frame))
        before, bits, boxes = self._latest_rivals.get(frame.key, (frozenset(), 0, 0))
        more, gone = texts - before, before - texts
        if len(more) + len(gone) > len(texts):
            more, gone, bits, boxes = texts, frozenset(), 0, 0
        for text in more:
            bits |= 1 << self._text(text)
            boxes += _is_box(text)
        for text in gone:
            bits ^= 1 << self._text(text)
            boxes -= _is_box(text)
        self._latest_rivals[frame.key] = texts, bits, boxes
        return bits, boxes > 0

    def _add_step(self, number: int, event: int) -> None:
        """Notes to which container an event in another one leads."""
        frame, safe = self._by_number[number]
        memory = self._memory
        if event < u.TEXTS:
            after = memory.frame(frame, event == u.OPEN_OBJECT)
        else:
            value = self._values[event - u.TEXTS]
            if frame.is_object and frame.key is None:
                assert isinstance(value, str), "a key"
                after = memory.after_key(frame, value)
            else:
                after = memory.after_value(
                    frame, memory.value(TEXT, value) if isinstance(value, str) else value
                )
        self._steps += 1
        if 2 * self._steps > self._context[u.N_STEPS]:
            keys, values = self._arrays[u.F_STEP_KEY], self._arrays[u.F_STEP_VALUE]
            self._put_steps(2 * len(keys))
            u.rebuild_steps(self._address, keys, values)
        # steps within a container that has become safe since the walk began are left to the caller
        step = -1 if safe and self._is_deep(frame) else self._add(after, False)
        u.add_step(self._address, (number << 32 | event) + 1, step)

    def _put_steps(self, size: int) -> None:
        self._put(u.F_STEP_KEY, np.zeros(size, np.int64))
        self._put(u.F_STEP_VALUE, np.zeros(size, np.int32))
        self._context[u.N_STEPS] = size

    def _bits(self, texts: SharedSet, items: bool) -> tuple[int, bool]:
        """The numbers of keys or items as bits, and whether arrays or objects are among them.

        Mostly they differ by one or two from those of the container of its kind that was asked for before.
        """
        before, bits, boxes = self._latest.get(items, (frozenset(), 0, 0))
        more: Collection[str | Value]
        gone: Collection[str | Value]
        if isinstance(texts, frozenset) and isinstance(before, frozenset):
            more, gone = texts - before, before - texts
        else:
            more, gone = list(difference(texts, before)), list(difference(before, texts))
        if len(more) + len(gone) > len(texts):
            more, gone, bits, boxes = list(texts), (), 0, 0
        for text in more:
            bits |= 1 << self._text(text)
            boxes += _is_box(text)
        for text in gone:
            bits ^= 1 << self._text(text)
            boxes -= _is_box(text)
        self._latest[items] = texts, bits, boxes
        return bits, boxes > 0

    def _text(self, value: str | Value) -> int:
        """The number of a text, which is put into the trie; arrays and objects have numbers only."""
        known = self._numbers.get(value)
        if known is None:
            text = _content(value)
            known = self._texts.get(text)
            if known is None:
                known = self._add_text(text, value)
            self._numbers[value] = known
        return known

    def _add_text(self, text: bytes | Value, value: str | Value) -> int:
        number = self._texts[text] = len(self._texts)
        if isinstance(value, Value) and value.kind == TEXT:
            self._values.append(str(value.content))
        else:
            self._values.append(value)
        if isinstance(text, bytes):
            self._room(
                (u.K_NODE_KEY, u.K_NODE_FIRST, u.K_NODE_NEXT, u.K_NODE_BYTE),
                self._nodes + len(text),
            )
            while 2 * (self._nodes + len(text)) > self._context[u.N_HASH]:
                self._grow_hash()
            data = np.frombuffer(text, np.uint8)
            self._nodes = int(u.add_key(self._address, data, self._nodes, number))
        return number

    # -- room ------------------------------------------------------------------------------------

    def _put(self, field: int, array: npt.NDArray[Any]) -> None:
        before = self._arrays.get(field)
        self._nbytes += array.nbytes - (0 if before is None else before.nbytes)
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
        """Begins a larger hash table; what the old one has is moved little by little."""
        context = self._context
        if context[u.N_OLD]:
            u.move_all_children(self._address)
        size = int(context[u.N_HASH])
        for field, old in ((u.K_HASH_KEY, u.K_OLD_KEY), (u.K_HASH_VALUE, u.K_OLD_VALUE)):
            array = self._arrays.pop(field)
            self._nbytes -= array.nbytes
            self._put(old, array)
        context[u.N_OLD], context[u.N_MOVED] = size, 0
        self._put_hash(2 * size)

    def _put_hash(self, size: int) -> None:
        self._put(u.K_HASH_KEY, np.zeros(size, np.int64))
        self._put(u.K_HASH_VALUE, np.zeros(size, np.int32))
        self._context[u.N_HASH] = size


def _is_box(value: str | Value) -> bool:
    return isinstance(value, Value) and value.kind in (ARRAY, OBJECT)


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


@dataclass(frozen=True, eq=False)
class _Tables:
    """What kernels of keys and items know of a vocabulary's tokens.

    Attributes:
        signs: int32[S], the tokens with a comma or an array's end outside strings: first those that have
            some if they begin outside strings, then if within one, then if behind a backslash.
        sign_counts: how many of each there are.
        sign_offset, sign_text: int32[S + 1], uint8, their bytes.
        sign_quote, sign_ending: int32[S], of those that begin within a string: where the quote is
            that ends it, and the number of their bytes from there on, equal for equal bytes; else -1.
        endings: how many numbers there are.
        child_offset, children, child_byte: int32[N + 1], int32[N], uint8[N], the trie's children.
        scratch_bytes: what kernels need beside, as one array.
        scratch_fields, scratch_offsets: int64, where each part begins there.
        row_at: where the row of a mask lies there, and its size.
    """

    signs: _Row
    sign_counts: tuple[int, ...]
    sign_offset: _Row
    sign_text: npt.NDArray[np.uint8]
    sign_quote: _Row
    sign_ending: _Row
    endings: int
    child_offset: _Row
    children: _Row
    child_byte: npt.NDArray[np.uint8]
    scratch_bytes: int
    scratch_fields: npt.NDArray[np.int64]
    scratch_offsets: npt.NDArray[np.int64]
    row_at: tuple[int, int]

    @staticmethod
    def of(vocabulary: Vocabulary) -> _Tables:
        """The tables of a vocabulary (some milliseconds for 128k tokens)."""
        offset, text = vocabulary.flat
        out = np.empty(vocabulary.size, np.int32)
        lists = [
            out[: u.list_signs(offset, text, where, out)].copy()
            for where in (u.OUTSIDE, u.INSIDE_STRING, u.BEHIND_BACKSLASH)
        ]
        signs = np.concatenate(lists)
        texts = [bytes(text[offset[t] : offset[t + 1]]) for t in signs.tolist()]
        quotes, endings = np.full(len(signs), -1, np.int32), np.full(len(signs), -1, np.int32)
        numbers: dict[bytes, int] = {}
        for i in range(len(lists[0]), len(lists[0]) + len(lists[1])):
            found = _TO_QUOTE.match(texts[i])
            assert found is not None, "a sign outside strings stands behind a quote"
            quotes[i] = found.end()
            endings[i] = numbers.setdefault(texts[i][found.end() :], len(numbers))
        trie = vocabulary.trie
        children = np.zeros(trie.node_count, np.int32)
        child_offset = np.zeros(trie.node_count + 1, np.int32)
        child_byte = np.zeros(trie.node_count, np.uint8)
        u.list_children(trie.byte, trie.skip, child_offset, children, child_byte)
        depth = trie.max_depth + 2
        deepest = depth + _STACK_ROOM + 2
        row_bytes = 4 * ((vocabulary.size + 31) // 32)
        parts = {
            u.W_ROW: row_bytes,
            u.W_PATH: 8 * u.WALK_COLUMNS * depth,
            u.W_ZEROS: 8 * 7 * u.MOST_ZEROS,
            u.W_MEMO: 8 * u.MEMO_COLUMNS * u.MEMO_SIZE,
            u.W_ENDINGS: 8 * u.ENDING_COLUMNS * max(1, len(numbers)),
            u.W_TEMP_PARENT: 4 * deepest,
            u.W_TEMP_KIND: deepest,
            u.W_BYTES: deepest,
            u.W_SEEN_SLOTS: 4 * u.SEEN_SLOTS,
            u.W_SEEN: 8 * u.SEEN_COLUMNS * u.SEEN_ROOM,
            u.W_OPENED: 4 * u.SEEN_ROOM,
            u.W_STACK: 8 * u.STACK_COLUMNS * (_STACK_ROOM + 1),
        }
        ends = np.cumsum([-(-size // 64) * 64 for size in parts.values()])
        return _Tables(
            signs,
            tuple(len(part) for part in lists),
            np.cumsum([0, *map(len, texts)]).astype(np.int32),
            np.frombuffer(b"".join(texts) + b"\0", np.uint8),
            quotes,
            endings,
            len(numbers),
            child_offset,
            children,
            child_byte,
            int(ends[-1]),
            np.array(list(parts), np.int64),
            np.concatenate(([0], ends[:-1])).astype(np.int64),
            (0, row_bytes),
        )


_stored: WeakKeyDictionary[Vocabulary, _Tables] = WeakKeyDictionary()
_stored_lock = Lock()


def _tables_of(vocabulary: Vocabulary) -> _Tables:
    """The tables of a vocabulary, made once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = _Tables.of(vocabulary)
        return known
