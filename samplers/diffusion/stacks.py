"""Layers: the sets of all configurations that some filling of a canvas leads to.

**Stacks.**  With recursive rules the stacks of calls in a layer are exponentially many.  What the
rule on top does next depends on its own state and the cell alone, never on the stack below.  So the
stacks with the same innermost call, made at the same boundary, are one *node* with many nodes below
it (the graph-structured stack of Tomita 1985): a layer has as many nodes as there are ways to leave
a token, whatever the depth.  Nodes are numbered.  So are sets of nodes: most heads of a layer share a
few hundred sets, and what two sets are together is looked up more often than worked out.

A frame made within one token may be many calls deep.  Kept whole, each would be a thing of its own, and
what is left of one under the calls of the next token yet another; level by level there are no more
kinds of nodes than states of the program.

All of it lies in flat arrays; the steps themselves are compiled (:mod:`samplers.diffusion._kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain.engine.jit import load
from constrain.engine.pool import END
from grammars.errors import LimitExceeded
from samplers.diffusion.canvas import EMPTY, Cell, Kind
from samplers.diffusion.moves import Moves

k = load("samplers.diffusion._kernels")

Pair: TypeAlias = tuple[int, int, int]
"""A state of the innermost rule, alone in its frame; the frame above the stacks; the set of stacks."""

Fields: TypeAlias = dict[type[Any], tuple[int, ...]]
"""Fields of the kernels' table that have one length, by type."""

NO_LAYER: Final = 0
"""The layer without configurations."""
_DOING: Final = "completing this canvas"
_FIRST: Final = 64
"""Room to begin with."""
_BOUNDED: Final = [k.N_ROWS, k.N_SETS, k.N_NODES, k.N_LAYERS]
"""What ``max_search_states`` bounds."""
_EACH: Final = 150
"""Bytes of an entry of the table of steps."""

_ROWS: Final[Fields] = {
    np.int64: (k.ROW_KEY, k.ROW_AT, k.ROW_PART_FIRST, k.ROW_TOUCHED_AT),
    np.int32: (
        *(k.ROW_SET, k.ROW_AFTER, k.ROW_ATOM, k.ROW_PART_COUNT),
        *(k.ROW_FRAME, k.ROW_TOUCHED),
    ),
    np.uint8: (k.ROW_QUEUED,),
}
_ROW_SLOTS: Final[Fields] = {
    np.int32: (k.ROW_SLOTS, k.ROW_ATOM_SLOTS, k.ROW_FRAME_SLOTS, k.ROW_SAME),
    np.int64: (k.ROW_STAMPS, k.ROW_ATOM_STAMPS, k.ROW_FRAME_STAMPS, k.ROW_SAME_STAMPS),
}
_LINES: Final[Fields] = {np.int32: (k.ROW_FIRST, k.ROW_LAST)}
_BITS: Final[Fields] = {np.uint64: (k.ROW_BITS, k.ROW_DONE)}
_PARTS: Final[Fields] = {
    np.int32: (k.ROW_PART_FRAME, k.ROW_PART_ATOM),
    np.uint64: (k.ROW_GATHERED,),
}
_FRAMES: Final[Fields] = {np.int32: (k.ROW_FRAMES, k.ROW_OVER)}
_SETS: Final[Fields] = {
    np.int64: (k.SET_OFFSET, k.SET_GROUP_OFFSET),
    np.int32: (k.SET_SIZE, k.SET_GROUP_SIZE),
    np.uint8: (k.SET_ENDS,),
}
_MEMBERS: Final[Fields] = {np.int32: (k.SET_MEMBER,)}
_GROUPS: Final[Fields] = {np.int32: (k.SET_GROUP_FRAME, k.SET_GROUP_SET)}
_NODES: Final[Fields] = {
    np.int32: (k.NODE_HEAD, k.NODE_BELOW, k.NODE_ALONE),
    np.int64: (k.ROW_MARK,),
}
_LAYERS: Final[Fields] = {
    np.int64: (k.LAYER_OFFSET,),
    np.int32: (k.LAYER_SIZE,),
    np.uint8: (k.LAYER_ENDS,),
    np.uint64: (k.LAYER_HASH,),
}
_LAYER_ROWS: Final[Fields] = {np.int32: (k.LAYER_HEAD, k.LAYER_SET)}
_MOVE_FIRSTS: Final[Fields] = {np.int64: (k.MOVE_FIRST,), np.int32: (k.MOVE_EXITS,)}
_MOVE_PAIRS: Final[Fields] = {np.int32: (k.MOVE_HEAD, k.MOVE_FRAME)}
_MOVES: Final = (k.MOVE_KEYS, k.MOVE_NUMBER, k.MOVE_FIRST, k.MOVE_EXITS, k.MOVE_HEAD, k.MOVE_FRAME)


class _Table:
    """Arrays that the kernels reach through one address, by field; and numbers."""

    def __init__(self) -> None:
        self.values: Final = np.zeros(k.TABLE_SIZE, np.int64)
        self.address: Final = int(self.values.ctypes.data)
        self.arrays: dict[int, npt.NDArray[Any]] = {}

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def put(self, field: int, array: npt.NDArray[Any]) -> None:
        """Makes an array that of a field."""
        self.arrays[field] = array
        self.values[field] = array.ctypes.data
        self.values[k.FIELDS + field] = len(array)

    def clear(self, fields: Fields, size: int) -> None:
        """Gives fields zeros."""
        for dtype, members in fields.items():
            for field in members:
                self.put(field, np.zeros(size, dtype))

    def lengthen(self, fields: Fields) -> int:
        """Doubles fields, zeros behind what is there; returns the new length."""
        size = 0
        for members in fields.values():
            for field in members:
                old = self.arrays[field]
                size = 2 * len(old)
                new = np.zeros(size, old.dtype)
                new[: len(old)] = old
                self.put(field, new)
        return size

    def enlarge(self, keys: int, values: int) -> None:
        """Doubles a hash table of keys."""
        old = self.arrays[keys], self.arrays[values]
        for field, array in zip((keys, values), old, strict=True):
            self.put(field, np.zeros(2 * len(array), array.dtype))
        addresses = (int(array.ctypes.data) for array in old)
        k.rebuild_table(self.address, keys, values, *addresses)


class MoveStore:
    """Moves through any one token, laid out for the kernels; all stacks of one automaton share it."""

    def __init__(self, moves: Moves) -> None:
        self.moves: Final = moves
        self._count = 0
        self._pairs = 0
        self._table = table = _Table()
        table.clear({np.int64: (k.MOVE_KEYS,), np.int32: (k.MOVE_NUMBER,)}, 1 << 12)
        table.clear(_MOVE_FIRSTS, 1 << 10)
        table.clear(_MOVE_PAIRS, 1 << 14)

    def lend(self, table: _Table) -> None:
        """Makes the moves part of another table; again after each that is added."""
        for field in _MOVES:
            table.values[field] = self._table.values[field]
            table.values[k.FIELDS + field] = self._table.values[k.FIELDS + field]

    def add(self, key: int) -> None:
        """Works out the move of a place and enters it."""
        move = self.moves.by_token(*k.place_of(key))
        table, number, end = self._table, self._count, self._pairs + len(move.ends)
        while end > len(table.arrays[k.MOVE_HEAD]):
            table.lengthen(_MOVE_PAIRS)
        if number + 2 > len(table.arrays[k.MOVE_FIRST]):
            table.lengthen(_MOVE_FIRSTS)
        if 2 * number >= len(table.arrays[k.MOVE_KEYS]):
            table.enlarge(k.MOVE_KEYS, k.MOVE_NUMBER)
        if move.ends:
            heads, frames = zip(*move.ends, strict=True)
            table.arrays[k.MOVE_HEAD][self._pairs : end] = heads
            table.arrays[k.MOVE_FRAME][self._pairs : end] = frames
        table.arrays[k.MOVE_EXITS][number] = move.exits
        table.arrays[k.MOVE_FIRST][number + 1] = end
        self._count, self._pairs = number + 1, end
        k.note_move(table.address, key, number)


class Stacks:
    """Nodes of stacks, layers, and where cells lead from them.

    Args:
        store: of the moves.

    Attributes:
        steps: layers worked out so far, those found to be known from another way included.

    Methods are not thread-safe: the caller holds a lock.
    """

    def __init__(self, store: MoveStore) -> None:
        self.moves: Final = store.moves
        self._store = store
        self._room = self.moves.limits.max_search_states
        self._after: dict[tuple[int, Cell], int] = {}
        self.steps = 0
        self._table = _new_table()
        store.lend(self._table)
        self._bytes = self._table.nbytes
        self.start: Final = self.layer([(self.moves.start, END, k.BOTTOM)])

    @property
    def nbytes(self) -> int:
        """Memory of layers, nodes and how they follow each other."""
        return self._bytes + _EACH * len(self._after)

    @property
    def is_crowded(self) -> bool:
        """Whether what earlier canvases left takes up half of what ``max_search_states`` allows."""
        return bool(2 * self._table.values[_BOUNDED].max() > self._room)

    def may_end(self, layer: int) -> bool:
        """Whether the text may end at a layer."""
        return bool(self._table.arrays[k.LAYER_ENDS][layer])

    def heads(self, layer: int) -> list[tuple[int, int]]:
        """The configurations of a layer: states of innermost rules with the set of stacks below."""
        arrays = self._table.arrays
        return self._part(
            int(arrays[k.LAYER_OFFSET][layer]),
            int(arrays[k.LAYER_SIZE][layer]),
            (k.LAYER_HEAD, k.LAYER_SET),
        )

    def below(self, nodes: int) -> list[tuple[int, int]]:
        """The frames on top of a set of stacks, each with the set of what lies below it."""
        count = self._run(lambda: int(k.groups_of(self._table.address, nodes)))
        begin = int(self._table.arrays[k.SET_GROUP_OFFSET][nodes])
        return self._part(begin, count, (k.SET_GROUP_FRAME, k.SET_GROUP_SET))

    def _part(self, begin: int, count: int, fields: tuple[int, int]) -> list[tuple[int, int]]:
        first, second = (self._table.arrays[field][begin : begin + count] for field in fields)
        return list(zip(first.tolist(), second.tolist(), strict=True))

    def after(self, layer: int, cell: Cell) -> int:
        """The layer after a cell."""
        if layer == NO_LAYER or cell == EMPTY:
            return layer
        known = self._after.get((layer, cell))
        if known is None:
            self.steps += 1
            known = self._after[layer, cell] = self._step(layer, cell)
        return known

    def layer(self, pairs: Iterable[Pair]) -> int:
        """The layer of some configurations."""
        columns = np.array(list(pairs), np.int32)
        address, count = int(columns.ctypes.data), len(columns)
        return self._run(lambda: int(k.layer_of(*self._addresses(), address, count)))

    def layer_of_state(self, state: int) -> int:
        """The layer of one state of the moves' pool, with its whole stack."""
        return self.layer((head, frame, k.BOTTOM) for head, frame in self.moves.heads(state))

    # -- steps ---------------------------------------------------------------------------------

    def _step(self, layer: int, cell: Cell) -> int:
        match cell.kind:
            case Kind.TEXT:
                return self._after_text(layer, cell.data)
            case Kind.MASK | Kind.SLOT:
                or_none = int(cell.kind is Kind.SLOT)
                return self._run(lambda: int(k.after_token(*self._addresses(), layer, or_none)))
        return NO_LAYER

    def _after_text(self, layer: int, data: bytes) -> int:
        if len(data) >= len(self._table.arrays[k.ROW_FIRST]):
            self._table.clear(_LINES, 2 * len(data))
        text = np.frombuffer(data, np.uint8)
        address, length = int(text.ctypes.data), len(text)
        return self._run(lambda: int(k.after_text(*self._addresses(), layer, address, length)))

    def _addresses(self) -> tuple[int, int]:
        return self.moves.pool.address, self._table.address

    def _run(self, kernel: Callable[[], int]) -> int:
        """Calls a kernel as often as it asks for something.

        Raises:
            LimitExceeded: where more than ``max_search_states`` would be needed, or a limit of states.
        """
        self.moves.pool.refresh()
        while True:
            out = kernel()
            if self._table.values[_BOUNDED].max() > self._room:
                raise LimitExceeded("max_search_states", self._room, _DOING)
            if out >= 0:
                return out
            self._make_room(out)
            self._bytes = self._table.nbytes

    def _make_room(self, answer: int) -> None:
        table = self._table
        match answer:
            case k.MOVES_LACKING:
                lacking = table.arrays[k.ROW_LACKING][: table.values[k.N_LACKING]]
                for key in np.unique(lacking).tolist():  # a place may have been met twice
                    self._store.add(key)
                self._store.lend(table)
            case k.ROOM_FOR_ROWS:
                size = 2 * len(table.arrays[k.ROW_KEY])
                table.clear(_ROWS, size)
                table.clear(_ROW_SLOTS, 4 * size)
            case k.ROOM_FOR_SETS:
                size = table.lengthen(_SETS)
                table.lengthen(_MEMBERS)
                table.put(k.SET_SLOTS, np.zeros(4 * size, np.int32))
                k.rehash_sets(table.address)
            case k.ROOM_FOR_NODES:
                size = table.lengthen(_NODES)
                table.put(k.NODE_SLOTS, np.zeros(4 * size, np.int32))
                k.rehash_nodes(table.address)
            case k.ROOM_FOR_LAYERS:
                size = table.lengthen(_LAYERS)
                table.lengthen(_LAYER_ROWS)
                table.put(k.LAYER_SLOTS, np.zeros(4 * size, np.int32))
                k.rehash_layers(table.address)
            case k.ROOM_FOR_UNIONS:
                table.enlarge(k.SET_UNION_KEY, k.SET_UNION_SET)
            case k.ROOM_FOR_PUSHES:
                table.enlarge(k.NODE_PUSH_KEY, k.NODE_PUSH_SET)
            case _ if answer in _SIMPLE:
                table.lengthen(_SIMPLE[answer])
            case _:
                self.moves.pool.make_room(answer)


_SIMPLE: Final[dict[int, Fields]] = {
    k.ROOM_FOR_BITS: _BITS,
    k.ROOM_FOR_PARTS: _PARTS,
    k.ROOM_FOR_FRAMES: _FRAMES,
    k.ROOM_FOR_GROUPS: _GROUPS,
}
"""What is only made longer."""


def _new_table() -> _Table:
    """Tables without layers and nodes but the bottom, and the set of it."""
    table = _Table()
    table.clear(_ROWS, 16 * _FIRST)
    table.clear(_ROW_SLOTS, 64 * _FIRST)
    for fields in (_LINES, _FRAMES, _SETS, _NODES, _LAYERS):
        table.clear(fields, _FIRST)
    for fields in (_BITS, _PARTS, _MEMBERS, _GROUPS, _LAYER_ROWS):
        table.clear(fields, 64 * _FIRST)
    table.put(k.ROW_FRESH, np.zeros(1 << 12, np.uint64))
    table.put(k.ROW_LACKING, np.zeros(1 << 12, np.int64))
    for field in (k.SET_SLOTS, k.NODE_SLOTS, k.LAYER_SLOTS, k.SET_UNION_SET, k.NODE_PUSH_SET):
        table.put(field, np.zeros(4 * _FIRST, np.int32))
    for field in (k.SET_UNION_KEY, k.NODE_PUSH_KEY):
        table.put(field, np.zeros(4 * _FIRST, np.int64))
    # node 0 and the set of it alone, where texts end; no layer and the empty set
    table.values[[k.N_NODES, k.N_LAYERS, k.N_MEMBERS]] = 1
    table.values[k.N_SETS] = 2
    table.arrays[k.SET_SIZE][k.BOTTOM] = table.arrays[k.SET_ENDS][k.BOTTOM] = 1
    table.arrays[k.SET_GROUP_OFFSET][:2] = -1
    k.rehash_sets(table.address)
    return table
