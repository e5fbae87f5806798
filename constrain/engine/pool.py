"""The growing store of automaton states behind the kernels.

A pool belongs to one program and one trie.  It owns every array that the kernels reach through the
context, enlarges them when a kernel answers ``GROW``, and can forget states again.

Inside, a state is its place in the arrays, and places of forgotten states are used again.  What
leaves the engine is a *handle*: the place, and above it the generation in which it was handed out
(0 until states are forgotten, so that mostly a handle is its state).  An integer that was never
handed out is no handle, nor is that of a forgotten state, whoever has its place now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import zeros_on_demand
from constrain.engine.jit import kernels as k
from constrain.masks.subtrees import subtrees_of
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.compiling.bags import CANONICAL, MORE, Residuals, Row, Steps
from grammars.errors import LimitExceeded, UnknownStateError
from grammars.limits import Limits
from grammars.program import IntArray, Program

_FIRST_STATES: Final = 1 << 10
_FIRST_STEPS: Final = 1 << 12

DEAD: Final = 0
END: Final = 1
FINISHED: Final = 2
_RESERVED: Final = 3
_SLOT_BITS: Final[int] = k.SLOT_BITS
_STATES: Final = (1 << _SLOT_BITS) - 1
_UNLIMITED: Final = 1 << 62
_CODES: Final = frozenset((k.OUT_OF_FUEL, k.OUT_OF_WORK, k.NOT_KNOWN))
"""Negative answers of kernels that are for their callers."""

NO_STATE: Final = (
    "this integer is no state of this automaton: states come from start, advance and advance_bytes "
    "of the same automaton in the same process, and trim() forgets those that it is not told to keep"
)


_KEPT_STEPS: Final = 1 << 18
"""Room for steps, half of it used, that is filled anew rather than enlarged: moving so many takes 3 ms."""
_ROWS_AHEAD: Final = 256
"""Rows of a bag made ahead at most."""

_Fields: TypeAlias = tuple[tuple[int, Any, int], ...]
"""Fields of a context: each with its array's type and how many bytes a row takes; larger items first."""
_FOUND: Final[_Fields] = (
    (k.W_MASK, np.int64, 8),
    (k.W_GROUPS, np.int64, 8),
    (k.W_BEHIND, np.int64, 8),
    (k.P_LOOP, np.uint64, 16),
    (k.W_LOW, np.int32, 4),
    (k.W_HIGH, np.int32, 4),
    (k.P_WIDE, np.uint8, 1),
    (k.P_LOOP_KIND, np.uint8, 1),
)
"""What is found out of each state of the program."""
_STATES_HELD: Final[_Fields] = (
    (k.S_CAN, np.uint64, 32),
    (k.S_LOOP, np.uint64, 16),
    (k.S_OFFSET, np.int32, 4),
    (k.S_COUNT, np.int32, 4),
    (k.S_FREE, np.int32, 4),
    (k.S_MARK, np.int32, 4),
    (k.S_TAG, np.int32, 4),
    (k.S_ACCEPT, np.uint8, 1),
    (k.S_VISITS, np.uint8, 1),
)
_ITEMS: Final[_Fields] = ((k.S_Q, np.int32, 4), (k.S_N, np.int32, 4), (k.S_F, np.int32, 4))


def _address(array: npt.NDArray[Any]) -> int:
    """Where an array begins."""
    address: int = array.__array_interface__["data"][0]
    return address


def _put(
    arrays: dict[int, npt.NDArray[Any]],
    context: npt.NDArray[np.int64],
    field: int,
    array: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    """Sets a field of a context to an array's address, and keeps the array alive among ``arrays``."""
    array = np.ascontiguousarray(array)
    if array.size == 0:  # kernels may form, never follow, its address
        array = np.zeros(1, array.dtype)
    arrays[field] = array
    context[field] = _address(array)
    return array


class _Tables:
    """The part of a context that depends on the vocabulary alone."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.arrays: Final[dict[int, npt.NDArray[Any]]] = {}
        self.context: Final = np.zeros(k.FIELD_COUNT, np.int64)
        trie, below = vocabulary.trie, subtrees_of(vocabulary)
        offsets, data = vocabulary.flat
        for field, array in (
            (k.T_BYTE, trie.byte),
            (k.T_DEPTH, trie.depth),
            (k.T_SKIP, trie.skip),
            (k.T_TOKEN_START, trie.token_start),
            (k.T_TOKENS, trie.tokens),
            (k.T_TOKEN_OFFSET, offsets),
            (k.T_TOKEN_BYTES, data),
            (k.T_ASCII_BELOW, below.ascii_bytes),
            (k.T_BELOW, below.flags),
        ):
            _put(self.arrays, self.context, field, array)
        self.context[k.T_NODES] = trie.node_count
        self.context[k.N_WORDS] = (vocabulary.size + 31) // 32


_stored: WeakKeyDictionary[Vocabulary, _Tables] = WeakKeyDictionary()
_stored_lock = Lock()


def _tables_of(vocabulary: Vocabulary) -> _Tables:
    """The part of a context that all pools over a vocabulary share, made once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = _Tables(vocabulary)
        return known


class StatePool:
    """Hash-consed states of one program, addressed by integers.

    Args:
        canonical: bags take canonical items only and end as soon as they may, see
            :class:`grammars.compiling.bags.Residuals`.
        residuals: numbers of residuals shared with another pool of the same program.

    Attributes:
        wide: uint8[Q], ``kernels.WIDE`` for program states that direct walks are not to be tried on.
        tags: int32, for each state that was handed out one more than the generation; else 0.

    ``DEAD`` (0) has no reading, ``END`` (1) is the frame below the start rule, ``FINISHED`` (2) is
    kept for the automaton.  Methods are not thread-safe: the caller holds a lock.
    """

    def __init__(
        self,
        program: Program,
        vocabulary: Vocabulary,
        limits: Limits,
        *,
        canonical: bool = False,
        residuals: Residuals | None = None,
    ) -> None:
        self.program = program
        self.limits = limits
        self.canonical = canonical
        self.residuals = Residuals(program.bags, limits) if residuals is None else residuals
        self._scratch = (np.empty(1, np.int32), np.empty(1, np.int32))
        known = _tables_of(vocabulary)
        self._arrays: dict[int, npt.NDArray[Any]] = known.arrays.copy()
        self.context: npt.NDArray[np.int64] = known.context.copy()
        self.address = self.context.ctypes.data
        self._set_program(program)
        self._put(k.S_PATH, np.empty(3 * (vocabulary.trie.max_depth + 2), np.int64))
        self._put(k.S_LACKING, np.empty(len(vocabulary.trie.tokens) // 64 + 1, np.uint64))
        self._set_states()
        self.tags[DEAD] = self.tags[FINISHED] = 1
        self.context[k.N_CANONICAL] = canonical
        self.context[k.N_WORK_LIMIT] = self.context[k.N_MOVE_LIMIT] = _UNLIMITED
        self._may_forget = False
        self._steps_at: dict[Steps, int] = {}
        self._steps_used = 0

    # -- set-up --------------------------------------------------------------------------------

    def _put(self, field: int, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Makes an array reachable from the kernels (and keeps it alive)."""
        return _put(self._arrays, self.context, field, array)

    def _put_block(self, fields: _Fields, rows: int, kept: int = 0) -> None:
        """Puts arrays of zeros, all in one block, as each array of its own takes microseconds.

        Args:
            fields: what is put, see ``_Fields``.
            rows: length of each.
            kept: how much of the old arrays is copied.
        """
        block = zeros_on_demand(sum(each for _, _, each in fields) * rows)
        at, address = 0, _address(block)
        for field, dtype, each in fields:
            fresh = block[at : at + each * rows].view(dtype)
            if kept:
                old = self._arrays[field]
                fresh[: kept * each // fresh.itemsize] = old[: kept * each // old.itemsize]
            self._arrays[field] = fresh
            self.context[field] = address + at
            at += each * rows

    def _set_program(self, p: Program) -> None:
        put, arrays, context = _put, self._arrays, self.context
        for field, array in (
            (k.P_TABLE, p.table),
            (k.P_EDGE_OFFSET, p.edge_offset),
            (k.P_EDGE_CLASS, p.edge_class),
            (k.P_EDGE_TARGET, p.edge_target),
            (k.P_CALL_OFFSET, p.call_offset),
            (k.P_CALL_START, p.call_start),
            (k.P_CALL_RETURN, p.call_return),
            (k.P_CALL_TAIL, p.call_tail),
            (k.P_PUSH_OFFSET, p.push_offset),
            (k.P_PUSH_LINKS, p.push_links),
            (k.P_PUSH_TARGET, p.push_target),
            (k.P_PUSH_OUTER, p.push_outer),
            (k.P_ACCEPT_FROM, p.accept_from),
            (k.P_LIMIT, p.count_limit),
            (k.P_FLOOR, p.count_floor),
            (k.P_CAP, p.count_cap),
            (k.P_FIRST, p.first),
            (k.P_RANK, p.start_rank),
            (k.P_BYTE_CLASS, p.byte_class),
            (k.P_CLASS_SIZE, np.bincount(p.byte_class[:256], minlength=256).astype(np.int32)),
            (k.P_BAG_OF, p.bag_of),
            (k.P_BAG_OFFSET, p.bag_offset),
            (k.P_BAG_START, p.bag_start),
            (k.P_BAG_RETURN, p.bag_return),
            (k.B_PLACE, np.zeros(1, np.int32)),
            (k.B_STEPS, np.zeros(1, np.int32)),
        ):
            put(arrays, context, field, array)
        self._put_block(_FOUND, p.states)
        self.wide = arrays[k.P_WIDE]
        self._inner: dict[int, tuple[npt.NDArray[Any], ...]] = {}
        context[k.N_CLASSES] = p.classes

    @cached_property
    def _members(self) -> list[list[int]]:
        """The bytes of each class."""
        members: list[list[int]] = [[] for _ in range(256)]
        for byte, c in enumerate(self.program.byte_class[:256].tolist()):
            members[c].append(byte)
        return members

    def _set_states(self) -> None:
        self._put(k.S_BUFFER, np.empty(4 * 2 * self.limits.max_items, np.int32))
        self.context[k.N_BUFFER_ROOM] = 2 * self.limits.max_items
        self._put(k.S_STACK, np.empty(self.limits.max_items + 1, np.int32))
        self._room_states(_FIRST_STATES)
        # always room for one more state of the largest size: then doubling is enough
        self._room_items(4 * self.limits.max_items)
        self._room_memo(_FIRST_STEPS)
        # END holds the one item "state 0, end of the text"
        self._arrays[k.S_COUNT][END] = 1
        self._arrays[k.S_OFFSET][END] = 0
        self._arrays[k.S_ACCEPT][END] = 1
        self.context[k.N_ITEMS] = 1
        self.context[k.N_STATES] = _RESERVED
        self._rehash()

    # -- room ----------------------------------------------------------------------------------

    def _resize(self, field: int, size: int, dtype: Any) -> None:
        fresh = np.zeros(size, dtype)
        old = self._arrays.get(field)
        if old is not None:
            fresh[: len(old)] = old
        self._put(field, fresh)

    def _room_states(self, size: int) -> None:
        self._put_block(_STATES_HELD, size, int(self.context[k.N_STATE_ROOM]))
        self.tags = self._arrays[k.S_TAG]
        self._tag_of = memoryview(
            self.tags.data
        )  # single elements are read faster than from an array
        self.context[k.N_STATE_ROOM] = size

    def _room_items(self, size: int) -> None:
        self._put_block(_ITEMS, size, int(self.context[k.N_ITEM_ROOM]))
        self.context[k.N_ITEM_ROOM] = size

    def _room_memo(self, size: int) -> None:
        keys, values = np.zeros(size, np.int64), np.zeros(size, np.int32)
        if k.S_MEMO_KEY in self._arrays:
            k.rebuild_memo(self.address, keys.ctypes.data, values.ctypes.data, size)
        self._put(k.S_MEMO_KEY, keys)
        self._put(k.S_MEMO_VALUE, values)
        self.context[k.N_MEMO_SIZE] = size

    def _forget_steps(self) -> None:
        """Forgets all steps; they are found again."""
        self._arrays[k.S_MEMO_KEY][:] = 0
        self.context[k.N_MEMO] = 0

    def _rehash(self) -> None:
        size = 4 * int(self.context[k.N_STATE_ROOM])
        table = np.zeros(size, np.int32)
        k.rebuild_hash(self.address, table.ctypes.data, size)
        self._put(k.S_HASH, table)
        self.context[k.N_HASH_SIZE] = size

    def _grow(self) -> None:
        """Enlarges what is full: not all at once, as each is copied."""
        c = self.context
        memo_full = 2 * c[k.N_MEMO] >= c[k.N_MEMO_SIZE]
        states_full = c[k.N_FREE] == 0 and c[k.N_STATES] >= c[k.N_STATE_ROOM]
        if not memo_full and not states_full:
            self._room_items(2 * int(c[k.N_ITEM_ROOM]))
        if memo_full and c[k.N_MEMO_SIZE] >= _KEPT_STEPS and self._may_forget:
            self._forget_steps()
            self._may_forget = False
        elif memo_full:
            self._room_memo(2 * int(c[k.N_MEMO_SIZE]))
        if states_full:
            if c[k.N_STATE_ROOM] >= self.limits.max_states:
                raise LimitExceeded(
                    "max_states",
                    self.limits.max_states,
                    "this automaton (trim() releases states that are no longer needed)",
                )
            self._room_states(2 * int(c[k.N_STATE_ROOM]))
            self._rehash()

    def add_first_rows(self) -> None:
        """Makes the rows of all bags before their first item, and of their canonical completions."""
        for bag in range(len(self.program.bags)):
            if not self._has_row(bag):
                self._add_rows(bag, 0, _ROWS_AHEAD)

    def _add_rows(self, bag: int, residual: int, ahead: int) -> None:
        """The row of steps over items from a residual of a bag, and some after it.

        Args:
            bag, residual: of the row.
            ahead: how many rows further on along a canonical completion.
        """
        row = self._add_row(bag, residual)
        if self.residuals.is_conditional(bag):  # several members may complete it
            todo, seen = [row], {residual}
            for row in todo:  # grows while we iterate
                for _, step in row.steps():
                    if (
                        step & (CANONICAL | MORE) == CANONICAL | MORE
                        and step >> 3 not in seen
                        and len(todo) <= min(ahead, _ROWS_AHEAD)
                    ):
                        seen.add(step >> 3)
                        todo.append(self._add_row(bag, step >> 3))
            return
        for _ in range(min(ahead, _ROWS_AHEAD)):
            # a bag that may end does so in a canonical completion
            onward = (s >> 3 for _, s in row.steps() if s & 7 == CANONICAL | MORE)
            residual = next(onward, 0)
            if not residual or self._has_row(residual):
                break
            row = self._add_row(bag, residual)

    def _has_row(self, place: int) -> bool:
        known = place < self.context[k.N_PLACES]
        return bool(known and self._arrays[k.B_PLACE][4 * place])

    def _add_row(self, bag: int, residual: int) -> Row:
        row = self.residuals.row(bag, residual)
        place = residual or bag
        if place >= self.context[k.N_PLACES]:
            size = max(2 * int(self.context[k.N_PLACES]), place + 1, 64)
            self._resize(k.B_PLACE, 4 * size, np.int32)
            self.context[k.N_PLACES] = size
        begin = self._place_steps(row.behind) - row.behind.first
        self._arrays[k.B_PLACE][4 * place : 4 * place + 4] = row.first + 1, row.end, row.own, begin
        return row

    def _place_steps(self, steps: Steps) -> int:
        """Where the steps over members lie, which several rows may share."""
        known = self._steps_at.get(steps)
        if known is None:
            known = self._steps_at[steps] = self._steps_used
            self._steps_used = end = known + len(steps.numbers)
            if end > len(self._arrays[k.B_STEPS]):
                self._resize(k.B_STEPS, max(2 * len(self._arrays[k.B_STEPS]), end, 256), np.int32)
            self._arrays[k.B_STEPS][known:end] = steps.numbers
        return known

    def call(self, kernel: Callable[..., int], *args: int) -> int:
        """Runs a kernel, making room as often as it asks; returns its (non-negative) answer.

        ``OUT_OF_FUEL``, ``OUT_OF_WORK`` and ``NOT_KNOWN`` are returned as they are.

        Raises:
            LimitExceeded: for ``max_states`` or ``max_items``.
        """
        self.refresh()
        while True:
            out: int = kernel(self.address, *args)
            if out >= 0 or out in _CODES:
                return out
            self.make_room(out)

    def refresh(self) -> None:
        """To be called before a kernel: marks of old steps are not to be taken for new ones."""
        self._may_forget = (
            True  # once, or a kernel that takes more steps would never come to its end
        )
        if self.context[k.N_EPOCH] > 2**31 - 2**24:
            self._arrays[k.S_MARK][:] = 0
            self.context[k.N_EPOCH] = 0

    def make_room(self, answer: int, ahead: int = 0) -> None:
        """What a kernel asks for by a negative answer, before it is called again.

        Args:
            answer: of the kernel.
            ahead: rows of bags to make beside one that is lacking: for kernels that look far ahead
                and begin anew whenever they are called.

        Raises:
            LimitExceeded: for ``max_states`` or ``max_items``.
            ValueError: for a handle that is no state's.
        """
        if answer == k.UNKNOWN:
            raise UnknownStateError(NO_STATE)
        if answer == k.TOO_MANY_ITEMS:
            raise LimitExceeded("max_items", self.limits.max_items, "this ambiguous text")
        if answer == k.LACKING:
            bag, residual = self.context[k.N_LACKING_BAG], self.context[k.N_LACKING]
            self._add_rows(int(bag), int(residual), ahead)
        else:
            self._grow()

    def allow_work(self, amount: int | None) -> None:
        """Bounds the work of the kernels called from now on (``None``: no bound).

        Work is counted in units of some 15 ns: ``kernels.NODE_WORK`` for a trie node visited,
        ``SET_WORK`` more where the state there has several configurations, ``STEP_WORK`` for each of them
        that is stepped from, ``LINK_WORK`` for each that is sorted; where a lexeme is walked, a node's for
        each node there.
        """
        self.context[k.N_WORK] = 0
        self.context[k.N_WORK_LIMIT] = _UNLIMITED if amount is None else amount

    @contextmanager
    def canonical_bags(self) -> Iterator[None]:
        """Within it bags take canonical items only, so that few ways lead to the end of a text."""
        if self.canonical or not self.program.bags:
            yield
            return
        c, fields = self.context, (k.S_MEMO_KEY, k.S_MEMO_VALUE)
        # steps found meanwhile are not those of other times
        arrays = [self._arrays.pop(field) for field in fields]
        counts = int(c[k.N_MEMO]), int(c[k.N_MEMO_SIZE])
        self._room_memo(_FIRST_STEPS)
        c[k.N_MEMO] = 0
        c[k.N_CANONICAL] = 1
        try:
            yield
        finally:
            c[k.N_CANONICAL] = 0
            for field, array in zip(fields, arrays, strict=True):
                self._put(field, array)
            c[k.N_MEMO], c[k.N_MEMO_SIZE] = counts

    def bound_moves(self, amount: int) -> None:
        """Bounds the work of ``kernels.advance_handle``."""
        self.context[k.N_MOVE_LIMIT] = amount

    def set_wide(self, q: int, counts: tuple[int, int], mask: IntArray, groups: IntArray) -> None:
        """Says what a program state does with the whole vocabulary, for counts within a range.

        The caller keeps the arrays alive: int32[W] and see ``Positions.group``.
        """
        self._arrays[k.W_MASK][q] = mask.ctypes.data
        self._arrays[k.W_GROUPS][q] = groups.ctypes.data
        self._arrays[k.W_BEHIND][q] = 0
        self._arrays[k.W_LOW][q], self._arrays[k.W_HIGH][q] = counts

    def set_inner(
        self, q: int, counts: tuple[int, int], mask: IntArray, parts: Sequence[tuple[int, IntArray]]
    ) -> None:
        """The same for a state whose rule cannot end right behind what the mask stands for.

        Args:
            parts: program states of the rule that come next, and what goes on there.
        """
        behind = [len(parts)]
        for after, groups in parts:
            behind += [after, groups.ctypes.data]
        addresses = np.array(behind, np.int64)
        self._inner[q] = (mask, addresses, *(groups for _, groups in parts))  # kept alive
        self._arrays[k.W_MASK][q] = mask.ctypes.data
        self._arrays[k.W_BEHIND][q] = addresses.ctypes.data
        self._arrays[k.W_LOW][q], self._arrays[k.W_HIGH][q] = counts

    # -- moving --------------------------------------------------------------------------------

    def advance_symbol(self, state: int, symbol: int) -> int:
        """The state after one byte or mark; ``DEAD`` if no text of the language goes on so."""
        if symbol > 0xFF and symbol not in self.program.marks:
            return DEAD
        return self.call(k.advance_class, state, int(self.program.byte_class[symbol]))

    def wide_walk(
        self, trie: Trie, state: int, follow: npt.NDArray[np.bool_], row: IntArray
    ) -> IntArray | None:
        """Sets the bits of all tokens that a state allows; returns the trie nodes where it may end.

        Nodes below which nothing goes on may be missing, and those below which all bits were set before.

        Args:
            follow: bool[256], the bytes that matter behind the end.
            row: int32[W], changed in place.

        Returns:
            int32[M], ascending; ``None`` if that takes more work than is allowed: the bits are right
            then, not complete.
        """
        if len(self._scratch[1]) < trie.node_count + 2:
            self._scratch = (self._scratch[0], np.empty(trie.node_count + 2, np.int32))
        left = self._scratch[1]
        words = np.packbits(follow[:128], bitorder="little").view(np.uint64).tolist()
        out = self.call(k.wide_walk, state, row.ctypes.data, left.ctypes.data, *words)
        return None if out == k.OUT_OF_WORK else left[1 : 1 + int(left[0])].copy()

    def walk_from(
        self, trie: Trie, state: int, node: int, enter: bool = False
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Where tokens lead that go on below a trie node: (end nodes, states there, exit nodes).

        Exit nodes are those at which the text may end; the given node counts if it may end at once.
        With ``enter`` the node's own byte is still to be read.
        """
        size = int(trie.skip[node]) - node + 1
        if len(self._scratch[0]) < 2 * size + 1 or len(self._scratch[1]) < size + 1:
            self._scratch = (np.empty(2 * size + 1, np.int32), np.empty(size + 1, np.int32))
        ends, exits = self._scratch
        self.call(k.collect_walk, state, node, ends.ctypes.data, exits.ctypes.data, int(enter))
        pairs = ends[1 : 1 + 2 * int(ends[0])].reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy(), exits[1 : 1 + int(exits[0])].copy()

    # -- handles -------------------------------------------------------------------------------

    def state_of(self, handle: int) -> int:
        """The state of a handle.

        Raises:
            ValueError: if it is no state's, or that of a forgotten one.
        """
        try:
            if handle >= 0 and self._tag_of[handle] == 1:
                return handle  # of the first generation, as nearly always
        except IndexError:
            state = handle & _STATES
            if 0 <= state < len(self.tags) and self._tag_of[state] == (handle >> _SLOT_BITS) + 1:
                return state
        raise UnknownStateError(NO_STATE)

    def handle_of(self, state: int) -> int:
        """The handle of a state, which is handed out with it."""
        tag: int = self._tag_of[state]
        if not tag:
            tag = self.tags[state] = int(self.context[k.N_GENERATION]) + 1
        return (tag - 1) << _SLOT_BITS | state

    def handles_of(self, states: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """The handles of many states, int64."""
        tags = self.tags[states].astype(np.int64)
        tags[tags == 0] = self.context[k.N_GENERATION] + 1
        self.tags[states] = tags
        handles: npt.NDArray[np.int64] = (tags - 1) << _SLOT_BITS | states
        return handles

    def start_generation(self, number: int) -> None:
        """Handles given out from now on are not those of another pool with another number."""
        self.context[k.N_GENERATION] = number

    # -- states --------------------------------------------------------------------------------

    def intern(self, items: Iterable[tuple[int, int, int]]) -> int:
        """The state with these configurations ``(q, n, F)``."""
        ordered = sorted(set(items))
        room = int(self.context[k.N_BUFFER_ROOM])
        buffer = self._arrays[k.S_BUFFER]
        if 2 * len(ordered) > room:
            raise LimitExceeded("max_items", self.limits.max_items, "this ambiguous text")
        for i, (q, n, f) in enumerate(ordered):
            buffer[i], buffer[room + i], buffer[2 * room + i] = q, n, f
        return self.call(k.intern_buffer, len(ordered))

    def items(self, state: int) -> list[tuple[int, int, int]]:
        """The configurations of a state."""
        at = int(self._arrays[k.S_OFFSET][state])
        part = slice(at, at + int(self._arrays[k.S_COUNT][state]))
        a = self._arrays
        return list(
            zip(
                a[k.S_Q][part].tolist(),
                a[k.S_N][part].tolist(),
                a[k.S_F][part].tolist(),
                strict=True,
            )
        )

    def accepting(self, state: int) -> bool:
        """Whether the text may end here."""
        return bool(self._arrays[k.S_ACCEPT][state])

    def first_classes(self, state: int) -> npt.NDArray[np.uint64]:
        """uint64[4], the set of byte classes that may come next (a superset: counts are left out)."""
        return self._arrays[k.S_CAN][4 * state : 4 * state + 4]

    def classes(self, state: int) -> int:
        """The byte classes that may come next, bit c for class c."""
        words = self._arrays[k.S_CAN][4 * state : 4 * state + 4].tolist()
        found: int = words[0] | words[1] << 64 | words[2] << 128 | words[3] << 192
        return found

    def only_byte(self, state: int) -> tuple[int, int]:
        """The one byte that may come next and the state after it; ``(0, DEAD)`` if not just one."""
        possible = self.classes(state)
        found = (0, DEAD)
        byte = np.zeros(1, np.uint8)
        while possible:
            lowest = possible & -possible
            possible ^= lowest
            members = self._members[lowest.bit_length() - 1]
            byte[0] = members[0]
            after = self.call(k.advance, state, byte.ctypes.data, 1)
            if after == DEAD:
                continue
            if found[1] != DEAD or len(members) > 1:
                return 0, DEAD
            found = (members[0], after)
        return found

    @property
    def state_count(self) -> int:
        """States alive, the reserved ones included."""
        return int(self.context[k.N_STATES] - self.context[k.N_FREE])

    @property
    def state_room(self) -> int:
        """States that there is room for: their integers are below."""
        return int(self.context[k.N_STATE_ROOM])

    @property
    def nbytes(self) -> int:
        """Memory held by all arrays."""
        return sum(a.nbytes for a in self._arrays.values())

    def trim(self, keep: Iterable[int]) -> set[int]:
        """Forgets all states that ``keep`` does not need; returns those that remain.

        Integers of remaining states stay valid; those of forgotten ones will be used again.  Handles
        are valid of those in ``keep`` alone.
        """
        kept_states = {DEAD, FINISHED, *keep}
        needed = {DEAD, END, FINISHED}
        stack = [s for s in kept_states if s not in needed]
        needed.update(stack)
        while stack:
            for _, _, frame in self.items(stack.pop()):
                if frame not in needed:
                    needed.add(frame)
                    stack.append(frame)
        order = sorted(needed)
        kept = [(s, self.items(s)) for s in order]
        counts = self._arrays[k.S_COUNT]
        counts[:] = 0
        self._arrays[k.S_VISITS][:] = 0
        at = 0
        for s, items in kept:
            self._arrays[k.S_OFFSET][s] = at
            counts[s] = len(items)
            for q, n, f in items:
                for field, value in ((k.S_Q, q), (k.S_N, n), (k.S_F, f)):
                    self._arrays[field][at] = value
                at += 1
        self.context[k.N_ITEMS] = at
        free = [s for s in range(int(self.context[k.N_STATES])) if s not in needed]
        self._arrays[k.S_FREE][: len(free)] = free
        self.context[k.N_FREE] = len(free)
        places = list(kept_states)
        tags = self.tags[places]
        self.tags[:] = 0
        self.tags[places] = tags
        self.context[k.N_GENERATION] += 1
        self._forget_steps()
        self._rehash()
        return needed
