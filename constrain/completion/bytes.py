"""Shortest texts and their spelling: an upper bound for the fewest tokens that is there at once.

From every state one text of the fewest bytes to the end is chosen, always the same; its fewest tokens
are found by dynamic programming from its end.  Each token of that spelling leads to a state whose own
shortest text is what is left.  So whoever follows these numbers arrives, which is what a budget needs.

Nothing is looked at but what lies on the way (:mod:`constrain.completion.kernels`), and what is found
for one state serves all others.  Numbers follow from the program alone: forgotten ones come out the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int32
from constrain.engine.jit import kernels as k
from constrain.engine.jit import load
from constrain.engine.pool import DEAD, StatePool
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.errors import LimitExceeded
from grammars.program import UNBOUNDED, Program

c = load("constrain.completion.kernels")

NEVER: Final[int] = c.NEVER
"""No bytes, or no tokens, end the text."""
IN_STRING: Final[int] = c.IN_STRING
"""A JSON text begins within a string."""
HAS_COMMA: Final[int] = c.HAS_COMMA
"""A JSON text has a comma outside strings, so that it begins a further key or item."""
_LONG_TOKENS: Final = 2
"""Longest tokens for which a counted repetition must have room before its end counts as far."""
_ENDLESS: Final = 1 << 40
_FIRST_ENDS: Final = 1 << 12
_FIRST_PLACES: Final = 1 << 8
_ASKED_OFTEN: Final = 8
"""Rows of bags asked for by one search before those of all bags are made."""
_SHARE: Final = 15
"""Places looked at, and bytes spelled, for one answer, by the unit of ``Limits.max_distance_work``."""
_ITEM_WORK: Final = 64
"""Less work than one item of a bag takes: places on its way, bytes spelled, both anew as rows are added."""
_WORK: Final = 3_000_000
"""The least that is allowed of them: far more than any text in use has."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Ends of tokens.

    Attributes:
        nodes: int32[n], trie nodes at which tokens end; in a group: those below its first node.
        owners: int32[n], where the group begins in ``groups``.
        states: int32[n], the states there.
        groups: see ``Positions.group``.
    """

    nodes: Int32
    owners: Int32
    states: Int32
    groups: Int32

    def fill(self, pool: StatePool, fits: npt.NDArray[np.bool_], row: Int32) -> None:
        """Sets the bits of the tokens that fit, bool[n], and clears those of the others."""
        c.fill_ends(pool.address, self.nodes, self.owners, fits, self.groups, row)

    def tokens(self, trie: Trie, i: int) -> Int32:
        """The tokens of the i-th end, those of the first node of its group."""
        node = int(self.nodes[i])
        found: Int32 = trie.tokens[trie.token_start[node] : trie.token_start[node + 1]]
        return found


def ends_at(nodes: Int32, states: Int32) -> Ends:
    """Ends of tokens at nodes, in no groups."""
    return Ends(nodes, np.ones(len(nodes), np.int32), states, _WHOLE_TRIE)


_WHOLE_TRIE: Final = np.array([1, 1, 0], np.int32)
"""One group, of the root."""


class ShortestTexts:
    """Bytes, and tokens that write them, to the end of the text from the states of one pool.

    Args:
        pool: the states; the caller holds its lock.
        vocabulary: the tokens.
    """

    def __init__(self, pool: StatePool, vocabulary: Vocabulary) -> None:
        self._pool = pool
        self._vocabulary = vocabulary
        self._scratch: Int32 = np.empty(0, np.int32)
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._context: npt.NDArray[np.int64] = np.zeros(c.FIELD_COUNT, np.int64)
        self._address = self._context.ctypes.data
        self._set_program(pool.program, vocabulary)
        self._context[c.N_WORK_LIMIT] = max(_WORK, _SHARE * pool.limits.max_distance_work)
        self._room_places(_FIRST_PLACES)
        self._room_states()

    def tokens(self, state: int) -> int:
        """Tokens that write the chosen text from a state (``NEVER`` if none do).

        Raises:
            LimitExceeded: if the shortest text has millions of bytes.
        """
        known = (
            int(self._arrays[c.F_TOKENS][state]) if state < self._context[c.N_STATE_ROOM] else -1
        )
        return known if known >= 0 else int(self.tokens_of(np.array([state], np.int32))[0])

    def spelling(self, state: int) -> list[int] | None:
        """The tokens that :meth:`tokens` counts; ``None`` if the text cannot be written."""
        if self.tokens(state) >= NEVER:
            return None
        found: list[int] = self._ways(np.array([state], np.int32), None).tolist()
        return found

    def texts_of(self, states: npt.NDArray[np.integer[Any]]) -> list[bytes]:
        """The chosen texts from states; empty for those that cannot be written in tokens."""
        self.tokens_of(states)
        offsets = np.empty(len(states) + 1, np.int32)
        data = self._ways(np.ascontiguousarray(states, np.int32), offsets).astype(np.uint8)
        text, begins = data.tobytes(), offsets.tolist()
        return [text[a:b] for a, b in pairwise(begins)]

    def _ways(self, states: Int32, offsets: Int32 | None) -> Int32:
        room = _FIRST_ENDS
        where = 0 if offsets is None else offsets.ctypes.data
        while True:
            if len(self._scratch) < room:
                self._scratch = np.empty(room, np.int32)
            found = self._call(
                c.write_ways,
                states.ctypes.data,
                len(states),
                where,
                self._scratch.ctypes.data,
                len(self._scratch),
            )
            if found >= 0:
                return self._scratch[:found]
            room = 2 * len(self._scratch)

    def forms_of(self, states: npt.NDArray[np.integer[Any]]) -> Int32:
        """By state, what :data:`IN_STRING` and :data:`HAS_COMMA` say of the chosen text, if it is JSON."""
        self.tokens_of(states)
        found: Int32 = self._arrays[c.F_FORM][states]
        return found

    def tokens_of(self, states: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """The same for many states, int64."""
        given = np.ascontiguousarray(states, np.int32)
        out = np.empty(len(given), np.int32)
        self._call(c.tokens_from_each, given.ctypes.data, len(given), out.ctypes.data)
        return out.astype(np.int64)

    def bytes(self, state: int) -> int:
        """The fewest bytes that end the text from a state (``NEVER`` if none do)."""
        return self._call(c.bytes_from, state)

    def walk_within(
        self, pool: StatePool, state: int, node: int, fuel: int, narrow: int = DEAD
    ) -> tuple[Int32, Int32, Int32] | None:
        """What ``StatePool.walk_from`` answers, if at most ``fuel`` trie nodes have to be visited.

        Args:
            narrow: if not ``DEAD``, the state of some of the configurations alone; then only nodes that
                these lead to.
        """
        room = 2 * fuel + 3
        if len(self._scratch) < 2 * room:
            self._scratch = np.empty(2 * room, np.int32)
        ends, exits = self._scratch[:room], self._scratch[room:]
        out = pool.call(
            c.ends_within, state, narrow, node, ends.ctypes.data, exits.ctypes.data, fuel
        )
        if out < 0:
            return None
        pairs = ends[1 : 1 + 2 * int(ends[0])].reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy(), exits[1 : 1 + int(exits[0])].copy()

    @property
    def forms(self) -> int:
        """The sum of the forms (see :meth:`forms_of`) of texts that the ``dearest`` methods met."""
        return int(self._context[c.N_FORMS])

    @forms.setter
    def forms(self, value: int) -> None:
        self._context[c.N_FORMS] = value

    def dearest_token(self, state: int, fuel: int) -> int | None:
        """The most tokens of :meth:`tokens` after any token that a state allows.

        ``None`` if more than ``fuel`` trie nodes have to be visited.
        """
        out = self._call(c.dearest_token, state, 0, fuel, 0, 0)
        return None if out < 0 else out

    def dearest_token_after(self, state: int, groups: Int32) -> int:
        """The same for tokens that go on in a state below the nodes of groups, see ``Positions.group``."""
        return self._call(c.dearest_token, state, groups.ctypes.data, _ENDLESS, 0, 0)

    def ends(self, state: int, fuel: int, groups: Int32 | None = None) -> Ends | None:
        """Where the tokens lead that a state allows, or those of them below the nodes of groups.

        ``None`` if more than ``fuel`` trie nodes have to be visited, below one node of groups.
        """
        room = _FIRST_ENDS
        where = 0 if groups is None else groups.ctypes.data
        while True:
            if len(self._scratch) < 3 * room + 1:
                self._scratch = np.empty(3 * room + 1, np.int32)
            data = self._scratch.ctypes.data
            out = self._call(c.dearest_token, state, where, fuel, data, room)
            found = int(self._scratch[0])
            if out >= 0:
                break
            if found < room:
                return None
            room *= 4
        nodes, owners, states = self._scratch[1 : 1 + 3 * found].reshape(-1, 3).T.copy()
        return Ends(nodes, owners, states, _WHOLE_TRIE if groups is None else groups)

    def dearest_state(self, states: Int32) -> int:
        """The most tokens of :meth:`tokens` from some states."""
        most = int(self.tokens_of(states).max(initial=0))
        self.forms |= int(np.bitwise_or.reduce(self._arrays[c.F_FORM][states]))
        return most

    def dearest_of(self, qs: Int32, ns: Int32, frame: int) -> int:
        """The most tokens of :meth:`tokens` from program states with counts on one frame."""
        return self._call(c.dearest_of, qs.ctypes.data, ns.ctypes.data, len(qs), frame)

    def reachable(self, q: int) -> Int32:
        """The states that bytes lead to from one of a call-free, deterministic rule, itself among them."""
        known = self._reachable.get(q)
        if known is None:
            rule_of = self._pool.program.rule_of
            known = np.empty(int(np.count_nonzero(rule_of == rule_of[q])), np.int32)
            known = known[: c.list_reachable(self._pool.address, q, known.ctypes.data)].copy()
            self._reachable[q] = known
        return known

    def is_far(self, q: int, n: int, longest: int) -> bool:
        """Whether no count matters to how a rule ends from a state, nor will it within a token."""
        if n == 0 and not self._counts[q]:
            return True
        far = self._limits[q] - n - longest >= self._context[c.N_ROOM_FAR]
        return bool(far and n >= self._arrays[c.F_ENOUGH][q])

    def forget_states(self) -> None:
        """To be called when integers of the pool's states are about to be used again."""
        for field in (c.F_BYTES, c.F_NEXT, c.F_STEP, c.F_TOKENS, c.F_FORM):
            self._arrays.pop(field)
        self._context[c.N_STATE_ROOM] = 0
        self._room_states()

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return sum(array.nbytes for array in self._arrays.values())

    # -- kernels -------------------------------------------------------------------------------

    def _call(self, kernel: Callable[..., int], *args: int) -> int:
        pool = self._pool
        pool.refresh()
        self._context[c.N_WORK] = 0
        ahead = 1  # a text through many items would ask for them one by one, each time anew
        asked = 0
        while True:
            out: int = kernel(pool.address, self._address, *args)
            if out >= 0 or out == k.OUT_OF_FUEL:
                return out
            if out == c.PLACES_FULL:
                self._room_places(2 * int(self._context[c.N_PLACE_ROOM]))
            elif out == c.STATES_FULL:
                self._room_states()
            elif out == c.TOO_FAR:
                raise LimitExceeded(
                    "max_distance_work", pool.limits.max_distance_work, "finding the shortest text"
                )
            else:
                if out == k.LACKING and self._asks_for_many(int(pool.context[k.N_LACKING_BAG])):
                    raise LimitExceeded(
                        "max_distance_work",
                        pool.limits.max_distance_work,
                        "finding the shortest text",
                    )
                pool.make_room(out, ahead)
                ahead *= 2
                asked += 1
                if asked == _ASKED_OFTEN:  # every call begins anew: far ways lead through many bags
                    pool.add_first_rows()
                    self._context[c.N_WORK] = 0

    def _asks_for_many(self, bag: int) -> bool:
        """Whether a bag needs more items than the work allowed would ever suffice for."""
        most = int(self._context[c.N_WORK_LIMIT]) // _ITEM_WORK
        return self._pool.program.bags[bag].low > most

    def _put(self, field: int, array: npt.NDArray[Any]) -> None:
        array = np.ascontiguousarray(array)
        if array.size == 0:  # kernels may form, never follow, its address
            array = np.zeros(1, array.dtype)
        self._arrays[field] = array
        self._context[field] = array.ctypes.data

    def _resize(self, field: int, size: int, fill: int) -> None:
        fresh = np.full(size, fill, np.int32)
        old = self._arrays.get(field)
        if old is not None:
            fresh[: len(old)] = old
        self._put(field, fresh)

    def _room_states(self) -> None:
        size = self._pool.state_room
        for field in (c.F_BYTES, c.F_TOKENS):
            self._resize(field, size, -1)
        for field in (c.F_NEXT, c.F_STEP, c.F_FORM):
            self._resize(field, size, 0)
        self._context[c.N_STATE_ROOM] = size

    def _room_places(self, size: int) -> None:
        for field in (c.F_Q, c.F_N, c.F_COST, c.F_MOVE, c.F_TO, c.F_RUN):
            self._resize(field, size, -1)
        self._context[c.N_PLACE_ROOM] = size
        self._put(c.F_HASH, np.zeros(4 * size, np.int32))
        self._context[c.N_HASH_SIZE] = 4 * size
        c.rebuild_places(self._address)

    # -- set-up --------------------------------------------------------------------------------

    def _set_program(self, p: Program, vocabulary: Vocabulary) -> None:
        runs, first_child = _letters_of(vocabulary)
        rank = np.zeros(p.classes, np.int32)
        letter = np.zeros(p.classes, np.int32)
        is_byte = np.zeros(p.classes, np.uint8)
        for byte, cls in enumerate(p.byte_class[:256].tolist()):
            if not is_byte[cls] or runs[byte] > rank[cls]:
                rank[cls], letter[cls] = runs[byte], byte
            is_byte[cls] = 1
        offset = np.empty(p.states + 1, np.int32)
        target = np.empty(max(1, len(p.edge_target)), np.int32)
        edge_class = np.empty(len(target), np.int32)
        count = c.list_distinct_edges(
            p.edge_offset, p.edge_class, p.edge_target, is_byte, rank, offset, target, edge_class
        )
        enough, least = _counts(p)
        for field, array in (
            (c.F_EDGE_OFFSET, offset),
            (c.F_EDGE_TARGET, target[:count].copy()),
            (c.F_EDGE_CLASS, edge_class[:count].copy()),
            (c.F_RANK, rank),
            (c.F_LETTER, letter),
            (c.F_FIRST_CHILD, first_child),
            (c.F_ENOUGH, enough),
            (c.F_LEAST, least),
            (c.F_LOOP, _loops(offset, target, edge_class, p.states)),
        ):
            self._put(field, array)
        self._reachable: dict[int, Int32] = {}
        self._limits = p.count_limit
        self._counts = counts_something(p)
        self._context[c.N_ROOM_FAR] = room_for_tokens(vocabulary.trie)


def is_token_below(pool: StatePool, mask: Int32, groups: Int32) -> bool:
    """Whether a mask has a token below the nodes of groups (see ``Positions.group``)."""
    return bool(c.any_token_below(pool.address, mask.ctypes.data, groups.ctypes.data))


def room_for_tokens(trie: Trie) -> int:
    """From a bound, so many counts away, finishing a counted repetition does not depend on it."""
    return _LONG_TOKENS * (trie.max_depth + 1)


def enough_counts(program: Program) -> npt.NDArray[np.int64]:
    """By rule, the count from which it may end; ``NEVER`` where nothing with an end is counted.

    A rule without an upper bound has its counts capped there already.
    """
    out = np.full(len(program.rule_names), NEVER, np.int64)
    bounded = program.count_limit < UNBOUNDED
    ends = bounded & (program.accept_from < UNBOUNDED)
    np.minimum.at(out, program.rule_of[ends], program.accept_from[ends])
    return out


def counts_something(program: Program) -> npt.NDArray[np.bool_]:
    """By state, whether some edge of its rule counts."""
    counting = np.zeros(len(program.rule_names), np.bool_)
    counting[program.rule_of[program.edge_target[program.edge_target & 1 > 0] >> 1]] = True
    return counting[program.rule_of]


def _counts(p: Program) -> tuple[Int32, Int32]:
    """By state, the count from which its rule may end, and the least with which it ends at all.

    Both say nothing where the count is a bag's residual.
    """
    rules = len(p.rule_names)
    least = np.full(rules, UNBOUNDED, np.int64)
    np.minimum.at(least, p.rule_of, p.accept_from)
    is_bag = np.zeros(rules, np.bool_)
    is_bag[p.rule_of[p.bag_return]] = True
    least[is_bag | (least == UNBOUNDED)] = 0
    enough = enough_counts(p)
    enough[is_bag] = NEVER
    return (
        np.minimum(enough, NEVER - 1)[p.rule_of].astype(np.int32),
        np.minimum(least, NEVER - 1)[p.rule_of].astype(np.int32),
    )


def _loops(offset: Int32, target: Int32, edge_class: Int32, states: int) -> Int32:
    """By state, the class of a byte that leads back to it and is counted; -1 for none."""
    out = np.full(states, -1, np.int32)
    state = np.repeat(np.arange(states, dtype=np.int32), np.diff(offset))
    edges = np.flatnonzero(target[: len(state)] == state << 1 | 1)
    out[state[edges]] = edge_class[edges]
    return out


_stored: WeakKeyDictionary[Vocabulary, tuple[list[int], Int32]] = WeakKeyDictionary()
_stored_lock = Lock()


def _letters_of(vocabulary: Vocabulary) -> tuple[list[int], Int32]:
    """By byte, the longest token that repeats it, and the trie's node for it (-1 for none)."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = _find_letters(vocabulary.trie)
        return known


def _find_letters(trie: Trie) -> tuple[list[int], Int32]:
    first = np.full(256, -1, np.int32)
    runs = [0] * 256
    at = 1
    while at < trie.node_count:
        byte = int(trie.byte[at])
        first[byte] = node = at
        length = 1
        while node >= 0:
            if trie.token_start[node] < trie.token_start[node + 1]:
                runs[byte] = length
            node = trie.child(node, byte)
            length += 1
        at = int(trie.skip[at])
    return runs, first
