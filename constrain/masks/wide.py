"""Wide states: what a lexeme's automaton does with the whole vocabulary, computed once.

Inside a string, a number or free text, most of the vocabulary stays inside.  Which tokens do depends
on the lexeme's own finite automaton alone, not on what surrounds it, so one walk over the trie
serves every place in every grammar where the same residual automaton occurs; it is kept with the
vocabulary under the automaton's content.  What depends on the surroundings are tokens that leave
the lexeme: the walk records the trie nodes where that can happen, grouped by equal subtrees, and
only one subtree of each group is ever walked again.

States of one automaton are much alike: behind one more letter of a name of at most 64, with one more
character of a ``maxLength`` counted, only tokens that come near the bound are treated otherwise.  So a walk
takes over from an earlier one whatever lies below a trie node that is too shallow to tell the two apart
(:meth:`Lexeme.answer`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from threading import Lock, local
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32
from constrain.engine.jit import mask_kernels as m
from constrain.masks.rule_survey import RuleSurvey
from constrain.masks.subtrees import Subtrees, subtrees_of
from constrain.masks.trie_positions import Positions
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.program import UNBOUNDED, Program

_KEPT_ANSWERS: Final = 512
"""Masks kept per lexeme for its other states and counts near their bounds (V/8 bytes each)."""
_NEAR: Final = 16
"""Distance from a largest count below which most tokens count too much: then what each token counts is
listed, which takes as long as two or three walks but serves all answers.  Else a walk that begins with
another takes less."""
_KEPT_WALKS: Final = 4
"""Walks kept per lexeme for later ones to begin with."""
_FAR_APART: Final = 12
"""Bytes that tell two states apart from which on a walk is not worth looking for a nearer one."""


def pack_bits(tokens: npt.NDArray[np.integer], size: int) -> Int32:
    """A mask row, int32[ceil(size/32)], with the bits of the given tokens set."""
    flags = np.zeros((size + 31) // 32 * 32, np.bool_)
    flags[tokens] = True
    return np.packbits(flags, bitorder="little").view(np.int32)


def tokens_at(trie: Trie, nodes: Int32) -> tuple[Int32, npt.NDArray[np.int64]]:
    """All tokens that end at the nodes, and for each the position of its node in ``nodes``."""
    begin = trie.token_start[nodes]
    count = trie.token_start[nodes + 1] - begin
    owner = np.repeat(np.arange(len(nodes)), count)
    ends = np.cumsum(count)
    within = np.arange(len(owner)) - np.repeat(ends - count, count)
    return trie.tokens[np.repeat(begin, count) + within], owner


class Wide:
    """What a state of a rule allows, without and with regard to what follows the rule.

    Args:
        mask: int32[W], tokens that stay inside the rule (or end with it).
        groups: makes :attr:`groups`.
        groups_beyond: makes those of them below which some token is not in the mask, if that takes less;
            they are taken from :attr:`groups` else.
    """

    def __init__(
        self,
        mask: Int32,
        groups: Callable[[], Int32],
        groups_beyond: Callable[[], Int32] | None = None,
    ) -> None:
        self.mask: Final = mask
        self._make_groups = groups
        self._make_beyond = groups_beyond
        self._beyond: Int32 | None = None

    @cached_property
    def groups(self) -> Int32:
        """How tokens go on after the rule, see :meth:`Positions.group`."""
        return self._make_groups()

    def groups_beyond(self, trie: Trie) -> Int32:
        """Those of :attr:`groups` below which some token is not in the mask.

        A mask is a union: what goes on after the rule matters only for other tokens.
        """
        if self._beyond is None:
            self._beyond = (
                groups_lacking(self.groups, self.mask, trie)
                if self._make_beyond is None
                else self._make_beyond()
            )
            self._make_beyond = None  # and what it was to be made from
        return self._beyond


def groups_lacking(groups: Int32, mask: Int32, trie: Trie) -> Int32:
    """Of trie nodes in groups, see :meth:`Positions.group`, those below which a mask lacks a token."""
    out = np.empty_like(groups)
    written = m.list_groups_beyond(groups, mask, trie.skip, trie.token_start, trie.tokens, out)
    return out[:written].copy()


def entered(trie: Trie, nodes: Int32, follow: Flags) -> Int32:
    """Those trie nodes that are entered by a byte of a set."""
    return nodes[follow[trie.byte[nodes]]]


@dataclass(frozen=True, eq=False)
class Ends:
    """Where a lexeme's automaton is after each token that stays inside.

    Attributes:
        tokens, state, count: int32[T]: token id, the (local) state it leads to, how much it counts.
        groups: int32[G, 2], the distinct (state, count).
        group: int32[T], the row of ``groups`` for each token.
        by_group, starts: int32[T], int32[G + 1]: the tokens of group g are
            ``by_group[starts[g]:starts[g + 1]]``.
    """

    tokens: Int32
    state: Int32
    count: Int32
    groups: Int32
    group: Int32
    by_group: Int32
    starts: Int32

    @staticmethod
    def of(found: Int32, count: int, states: int, longest: int) -> Ends:
        """Tokens in groups of equal state and count.

        Args:
            found: int32[3, M], of which ``count`` columns are used: token, state and count.
            states, longest: states are below, counts at most so large.
        """
        most = states * (longest + 1)
        groups, starts = np.empty((most, 2), np.int32), np.empty(most + 1, np.int32)
        group, by_group = np.empty(count, np.int32), np.empty(count, np.int32)
        size = m.group_ends(found, count, states, longest, groups, group, by_group, starts)
        tokens, state, counts = (found[i, :count] for i in range(3))
        return Ends(
            tokens, state, counts, groups[:size].copy(), group, by_group, starts[: size + 1].copy()
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        return 5 * self.tokens.nbytes + 3 * self.starts.nbytes


@dataclass(frozen=True, eq=False)
class Walk:
    """What a state of a lexeme's automaton does with the vocabulary, within bounds of counts.

    Attributes:
        start: the (local) state.
        bounds: int32[4, L], see ``mask_kernels.walk_lexeme``.
        mask: int32[W], the tokens that stay inside.
        exits: int32[5, E], where the lexeme may end; none if they were not asked for.
        entries: int32[2, M], what is entered there by tokens that do not stay inside, ascending, and behind
            which state: its number among those that end the lexeme.
        longest: the most that one token counts, or more; nothing if another walk was begun with.
    """

    start: int
    bounds: Int32
    mask: Int32
    exits: Int32
    entries: Int32
    longest: int

    @property
    def beyond(self) -> Int32:
        """int32[M], what is entered behind its end by tokens that do not stay inside, ascending."""
        nodes: Int32 = self.entries[0]
        return nodes


@dataclass(eq=False)
class Lexeme:
    """A walk of one automaton state over the whole trie.

    Attributes:
        table: int16[256 * L], the automaton, see ``mask_kernels.read_shape``.
        mask: int32[W], the tokens that stay inside, whatever is counted.
        behind: int32[2, M], what is entered where the lexeme may end by tokens that do not stay inside, see
            :attr:`Walk.entries`.
        longest: the most that one token counts, or more.
        nbytes: memory of the walk and of what was derived from it, in bytes (about).
    """

    trie: Trie
    table: npt.NDArray[np.int16]
    mask: Int32
    behind: Int32
    longest: int
    _shape: LexemeShape
    _below: Subtrees
    _loops: npt.NDArray[np.uint64]
    nbytes: int = 0
    _free: dict[bytes, Wide] = field(default_factory=dict)
    _exits: WeakKeyDictionary[Positions, dict[bytes, Int32]] = field(
        default_factory=WeakKeyDictionary
    )
    _entries: dict[bytes, tuple[Int32, npt.NDArray[np.int64], Int32]] = field(default_factory=dict)
    _answers: dict[tuple[int, bytes, bytes], Wide] = field(default_factory=dict)
    _walks: list[Walk] = field(default_factory=list)
    _inner: dict[int, Walk] = field(default_factory=dict)
    _behind: dict[tuple[int, int, bytes], Int32] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        own = (self.table, self.mask, self.behind, self._loops)
        self.nbytes += sum(array.nbytes for array in own)

    @property
    def beyond(self) -> Int32:
        """int32[M], the nodes of :attr:`behind`."""
        nodes: Int32 = self.behind[0]
        return nodes

    @cached_property
    def exits(self) -> Int32:
        """int32[5, E], where the lexeme may end, see ``mask_kernels.walk_lexeme``.

        By a walk of its own: masks do without, and one that lists them gets to more of the trie.
        """
        bounds, words = self.free_bounds, len(self.mask)
        exits = self._shape.walk_from(0, bounds, self.trie, self._below, words).exits
        self.nbytes += exits.nbytes
        return exits

    @cached_property
    def free_bounds(self) -> Int32:
        """Bounds of counts that are far away, see ``mask_kernels.walk_lexeme``."""
        return self._shape.free_bounds()

    @cached_property
    def _apart(self) -> npt.NDArray[np.uint8]:
        """uint8[L * L], by how many bytes states are told apart, see ``mask_kernels.tell_apart``."""
        size = len(self._shape.states)
        self.nbytes += size * size
        return np.zeros(size * size, np.uint8)

    def answer(self, start: int, bounds: Int32, positions: Positions, follow: Flags) -> Wide:
        """The answer for any state and any bounds of counts.

        Args:
            start: the (local) state.
            bounds: int32[4, L], see ``mask_kernels.walk_lexeme``.
            follow: bool[256], what can come after the rule.
        """
        near = b"" if bounds is self.free_bounds else bounds.tobytes()
        key = (start, near, follow.tobytes())
        with self._lock:
            known = self._answers.get(key)
            if known is None:
                if len(self._answers) >= _KEPT_ANSWERS:
                    del self._answers[next(iter(self._answers))]
                known = self._answers[key] = self._answered(start, bounds, positions, follow)
                self.nbytes += known.mask.nbytes
            return known

    def _answered(self, start: int, bounds: Int32, positions: Positions, follow: Flags) -> Wide:
        near = bounds[m.MOST].min() < _NEAR or "ends" in self.__dict__
        if start == 0 and near and self._shape.whole:
            return self._selected(bounds, positions, follow)
        walk = self.walk(start, bounds)
        beyond = positions.group_entries(entered(self.trie, walk.beyond, follow))

        def groups() -> Int32:
            words = len(self.mask)
            exits = self._shape.walk_from(start, bounds, self.trie, self._below, words).exits
            return positions.group(self._listed(exits)[0], follow)

        return Wide(walk.mask, groups, lambda: beyond)

    def _selected(self, bounds: Int32, positions: Positions, follow: Flags) -> Wide:
        """The answer from the start within bounds, by comparing what each token counts."""
        ends = self.ends
        fits = _within(bounds, m.LEAST, ends.groups[:, 0], ends.groups[:, 1])
        row = np.empty(len(self.mask), np.int32)
        m.select_groups(self.mask, ends.by_group, ends.starts, fits, row)
        exits = _within(bounds, m.ACCEPTS, self.exit_state, self.exit_count)
        groups = self.groups(positions, follow, exits)
        self.nbytes += groups.nbytes
        return Wide(row, lambda: groups)

    @property
    def _first_walk(self) -> Walk:
        """The walk that the lexeme was made by."""
        return Walk(0, self.free_bounds, self.mask, _NO_EXITS, self.behind, self.longest)

    def walk(self, start: int, bounds: Int32) -> Walk:
        """A walk from any state, which takes over what it can from earlier ones; the lock is held."""
        if not self._walks:
            self._walks.append(self._first_walk)
        nearest = self._nearest(start)
        walk = self._shape.walk_from(
            start,
            bounds,
            self.trie,
            self._below,
            len(self.mask),
            nearest,
            self._apart,
            self._loops,
            listing=False,
        )
        if len(self._walks) > _KEPT_WALKS:
            del self._walks[1]
        self._walks.append(walk)
        return walk

    def inner_walk(self, start: int) -> Walk:
        """A walk from any state, whatever is counted, which is kept."""
        if start == 0:
            return self._first_walk
        with self._lock:
            known = self._inner.get(start)
            if known is None:
                if len(self._inner) >= _KEPT_ANSWERS:
                    del self._inner[next(iter(self._inner))]
                known = self._inner[start] = self.walk(start, self.free_bounds)
                self.nbytes += known.mask.nbytes + known.entries.nbytes
            return known

    def entered_behind(self, walk: Walk, number: int, positions: Positions, follow: Flags) -> Int32:
        """What is entered behind one of the states that end the lexeme, see :meth:`Positions.group`.

        Args:
            walk: from where.
            number: of that state.
            follow: bool[256], what can come there.
        """
        key = (walk.start, number, follow.tobytes())
        known = self._behind.get(key)
        if known is None:
            nodes, numbers = walk.entries
            chosen = nodes[numbers == number]
            known = positions.group_entries(entered(self.trie, chosen, follow))
            if len(self._behind) >= _KEPT_ANSWERS:
                self._behind.clear()
            self._behind[key] = known
            self.nbytes += known.nbytes
        return known

    def _nearest(self, start: int) -> Walk | None:
        """The latest walk from the state that it takes most bytes to tell from another, if any are alike."""
        best, found = 2, None
        size = len(self._shape.states)
        for walk in reversed(self._walks):
            if walk.start == start:
                return walk
            apart = int(self._apart[start * size + walk.start]) or m.tell_apart(
                self.table,
                self._shape.accepts,
                self._shape.alphabet,
                start,
                walk.start,
                self._apart,
            )
            if apart > best:
                best, found = apart, walk
            if best >= _FAR_APART:
                break
        return found

    @cached_property
    def _each_exit(self) -> Int32:
        """int32[3, E], per trie node at which the lexeme may end node, state and count."""
        listed = self._listed(self.exits)
        self.nbytes += listed.nbytes
        return listed

    def _listed(self, exits: Int32) -> Int32:
        """Exits one by one."""
        most = int((exits[1] - exits[0]).sum())
        out = np.empty((3, most), np.int32)
        found = m.list_exits(exits, *self._below.characters, out)
        return out[:, :found].copy()

    @property
    def exit_nodes(self) -> Int32:
        """int32[E], the trie nodes at which the lexeme may end, ascending."""
        found: Int32 = self._each_exit[0]
        return found

    @property
    def exit_state(self) -> Int32:
        """int32[E], the (local) state at each."""
        found: Int32 = self._each_exit[1]
        return found

    @property
    def exit_count(self) -> Int32:
        """int32[E], how much was counted up to each."""
        found: Int32 = self._each_exit[2]
        return found

    def entries(
        self, positions: Positions, follow: Flags
    ) -> tuple[Int32, npt.NDArray[np.int64], Int32]:
        """Entries below the exits, sorted by key, their keys, and the exit each belongs to."""
        key = follow.tobytes()
        known = self._entries.get(key)
        if known is None:
            children, parents = positions.entries(self.exit_nodes, follow)
            keys = positions.entry_keys(children)
            order = np.argsort(keys, kind="stable")
            known = self._entries[key] = (children[order], keys[order], parents[order])
            self.nbytes += sum(array.nbytes for array in known)
        return known

    def free(self, positions: Positions, follow: Flags) -> Wide:
        """The answer where no count is near its bounds."""
        key = follow.tobytes()
        known = self._free.get(key)
        if known is None:
            known = self._free[key] = Wide(
                self.mask,
                lambda: self.groups(positions, follow, np.ones(len(self.exit_nodes), np.uint8)),
                lambda: positions.group_entries(entered(self.trie, self.beyond, follow)),
            )
        return known

    def groups(self, positions: Positions, follow: Flags, exits: npt.NDArray[np.uint8]) -> Int32:
        """Entries below some exits in groups, see :attr:`Wide.groups`.

        Args:
            exits: uint8[E], which exits there are.
        """
        children, keys, parents = self.entries(positions, follow)
        out = np.empty(2 * len(children) + 1, np.int32)
        return out[: m.list_groups(children, keys, parents, exits, out)].copy()

    @cached_property
    def ends(self) -> Ends:
        """Where the automaton is after each token."""
        trie, below = self.trie, self._below
        found = np.empty((3, len(trie.tokens)), np.int32)
        count = m.list_lexeme_ends(
            self.table, self.free_bounds[m.ACCEPTS], below.records[0], trie.tokens, below.token_depth,
            self._loops, found,
        )  # fmt: skip
        ends = Ends.of(found, count, len(self.table) // 256, self.longest)
        self.nbytes += ends.nbytes
        return ends

    def exit_groups(self, positions: Positions, follow: Flags) -> Int32:
        """int32[groups, 3]: the distinct (kind, state, count) of exits (see ``Positions.kinds``).

        Kinds are numbers that these positions gave.  Those of an equal vocabulary may have been made
        anew since, with other numbers, while the walk was kept.
        """
        key = follow.tobytes()
        own = self._exits.setdefault(positions, {})
        known = own.get(key)
        if known is None:
            kinds = positions.kinds(self.exit_nodes, follow)
            some = kinds != -1
            columns = (kinds[some] + 2, self.exit_state[some], self.exit_count[some])
            rows, _ = distinct_rows(*columns)
            known = own[key] = rows - np.array([2, 0, 0], np.int32)
            self.nbytes += known.nbytes
        return known


def _within(bounds: Int32, least: int, state: Int32, count: Int32) -> npt.NDArray[np.uint8]:
    """uint8[M]: whether counts at states are within bounds, the row ``least`` and ``MOST`` of them."""
    kept = np.minimum(count, bounds[m.CAP, state])
    fits = (kept <= bounds[m.MOST, state]) & (kept >= bounds[least, state])
    out: npt.NDArray[np.uint8] = fits.view(np.uint8)
    return out


_COUNTABLE: Final = 1 << 22
"""Numbers up to which counting beats sorting."""

MAX_SHAPE: Final = 64
"""States of an automaton up to which its walk over the vocabulary is shared between grammars.

Strings, numbers, names and blanks have fewer; for larger ones finding the canonical form of every
state would cost more than walking from it.
"""
MAX_LARGE_SHAPE: Final = 1_024
"""The same where a mask needs the walk: then whoever comes next to an equal state is spared it.

Of larger automata so many states are read, the nearest: tokens hardly get further.
"""


_HASHED: Final = 4_096
"""Entries of a table that its hash is made of."""
_MOST_INNER: Final = 256
"""States of the part of a rule that a text stays within up to which it is looked at."""
_MOST_BEHIND: Final = 16
"""States behind it up to which what goes on there is walked for each."""


class UnreadError(Exception):
    """A walk came upon a state of a lexeme's automaton that was not read."""


def distinct_rows(*columns: Int32) -> tuple[Int32, Int32]:
    """Distinct rows of columns of small non-negative numbers: (rows, index of each given one).

    ``np.unique`` of rows compares them as records, which takes tens of milliseconds here; as one
    number each they can be counted.
    """
    sizes = [int(c.max(initial=0)) + 1 for c in columns]
    code = np.zeros(len(columns[0]), np.int64)
    for column, size in zip(columns, sizes, strict=True):
        code = code * size + column
    found: npt.NDArray[np.integer[Any]]
    if prod(sizes) <= _COUNTABLE:
        found = np.flatnonzero(np.bincount(code))
        place = np.zeros(prod(sizes), np.int32)
        place[found] = np.arange(len(found), dtype=np.int32)
        index = place[code]
    else:
        found, inverse = np.unique(code, return_inverse=True)
        index = inverse.astype(np.int32)
    rows = np.stack(np.unravel_index(found, sizes), axis=1).astype(np.int32)
    return rows, index


class ShapeKey:
    """What two equal automata share, to find the walk of one by the other.

    A part of the table is hashed, as a large one takes as long as its walk; all of it is compared.
    """

    __slots__ = ("_accepts", "_hash", "_table")

    def __init__(self, table: npt.NDArray[np.int16], accepts: npt.NDArray[np.uint8]) -> None:
        self._table, self._accepts = table, accepts
        part = table[:: len(table) // _HASHED + 1]
        self._hash = hash((len(table), part.tobytes(), accepts.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ShapeKey)
            and self._hash == other._hash
            and np.array_equal(self._accepts, other._accepts)
            and np.array_equal(self._table, other._table)
        )


@dataclass(frozen=True, eq=False)
class LexemeShape:
    """The automaton reachable from one state of a call-free rule, in canonical numbering.

    Attributes:
        states: the program state of each local one.
        table: int16[256 * L], by local state and byte ``state << 1 | inc``, or -1.
        accepts: uint8[L], whether a state ends the rule at some count.
        byte_class: uint8[256], equal for bytes that are alike.
        whole: whether all states that can be reached were read, not only the nearest.
    """

    states: list[int]
    table: npt.NDArray[np.int16]
    accepts: npt.NDArray[np.uint8]
    byte_class: npt.NDArray[np.uint8]
    whole: bool = True

    @cached_property
    def key(self) -> ShapeKey:
        """Content that two equal automata share (counts' bounds are not part of it)."""
        return ShapeKey(self.table, self.accepts)

    @cached_property
    def number(self) -> dict[int, int]:
        """The local state of each program state."""
        return {q: i for i, q in enumerate(self.states)}

    @cached_property
    def places(self) -> Int32:
        """int32[L], the program states."""
        return np.array(self.states, np.int32)

    @cached_property
    def alphabet(self) -> npt.NDArray[np.uint8]:
        """uint8, one byte of each class of bytes that are alike."""
        return np.unique(self.byte_class, return_index=True)[1].astype(np.uint8)

    def is_far(self, number: int) -> bool:
        """Whether a local state is so far from the first that walks from there may get to unread ones."""
        return not self.whole and 2 * number > len(self.states)

    def free_bounds(self) -> Int32:
        """Bounds of counts that are far away, see ``mask_kernels.walk_lexeme``."""
        bounds = np.full((4, len(self.states)), UNBOUNDED, np.int32)
        bounds[m.LEAST] = 0
        bounds[m.ACCEPTS, self.accepts != 0] = 0
        return bounds

    def walk(self, vocabulary: Vocabulary) -> Lexeme:
        """Runs the automaton over the vocabulary's trie, whatever is counted."""
        words = (vocabulary.size + 31) // 32
        trie, below, loops = vocabulary.trie, subtrees_of(vocabulary), self.no_loops()
        walk = self.walk_from(0, self.free_bounds(), trie, below, words, loops=loops, listing=False)
        return Lexeme(trie, self.table, walk.mask, walk.entries, walk.longest, self, below, loops)

    def no_loops(self) -> npt.NDArray[np.uint64]:
        """What is known of loops at first, see ``mask_kernels.walk_lexeme``."""
        return np.zeros((len(self.states), 4), np.uint64)

    def walk_within(self, vocabulary: Vocabulary, bounds: Int32, start: int = 0) -> Walk:
        """The same from any state and within bounds of counts.

        Args:
            bounds: int32[4, L], see ``mask_kernels.walk_lexeme``.
        """
        words = (vocabulary.size + 31) // 32
        return self.walk_from(start, bounds, vocabulary.trie, subtrees_of(vocabulary), words)

    def walk_from(
        self,
        start: int,
        bounds: Int32,
        trie: Trie,
        below: Subtrees,
        words: int,
        other: Walk | None = None,
        apart: npt.NDArray[np.uint8] | None = None,
        loops: npt.NDArray[np.uint64] | None = None,
        listing: bool = True,
    ) -> Walk:
        """The same, beginning with another walk, if there is one.

        Args:
            words: length of the mask.
            apart: see ``mask_kernels.tell_apart``.
            loops: what is known of loops, which is added to; see ``mask_kernels.walk_lexeme``.
            listing: whether exits are wanted, which another walk does not help with.

        Raises:
            UnreadError: if not all states were read, and a token leads to one that was not.
        """
        room = _room(trie.node_count)
        counts = np.zeros(4, np.int64)
        known = _NO_WALK if other is None else other
        row = np.zeros(words, np.int32) if other is None else other.mask.copy()
        m.walk_lexeme(
            self.table, bounds, start, *below.records, trie.skip, trie.tokens, known.start, known.bounds,
            known.entries,
            _UNKNOWN if apart is None else apart, self.accepts, self.byte_class,
            self.no_loops() if loops is None else loops, row,
            room.exits if listing else _NO_EXITS, room.entries, counts,
        )  # fmt: skip
        row.setflags(write=False)
        exited, longest, found, visited = counts.tolist()
        _rooms.visited += visited
        if found == m.UNREAD:
            raise UnreadError
        entries = room.entries[:, :found]
        entries = np.take(entries, np.argsort(entries[0]), axis=1)
        return Walk(start, bounds, row, room.exits[:, :exited].copy(), entries, longest)


_UNKNOWN: Final = np.zeros(1, np.uint8)
_NO_INTS: Final = np.zeros(0, np.int32)
_NO_EXITS: Final = np.zeros((5, 0), np.int32)
_NO_ENTRIES: Final = np.zeros((2, 0), np.int32)
_NO_WALK: Final = Walk(m.NO_STATE, np.zeros((4, 0), np.int32), _NO_INTS, _NO_EXITS, _NO_ENTRIES, 0)


class _Room(local):
    """Where a thread's walks write what they find: some megabytes that would be mapped anew each time."""

    def __init__(self) -> None:
        self.exits = np.empty((5, 0), np.int32)
        self.entries = np.empty((2, 0), np.int32)
        self.visited = 0


_rooms = _Room()


def nodes_visited() -> int:
    """How many trie nodes the walks of this thread have visited so far."""
    return _rooms.visited


def _room(nodes: int) -> _Room:
    """Room for a walk over a trie of so many nodes."""
    if _rooms.entries.shape[1] < nodes:
        _rooms.exits, _rooms.entries = (
            np.empty((5, nodes), np.int32),
            np.empty((2, nodes), np.int32),
        )
    return _rooms


@dataclass(frozen=True, eq=False)
class Inner:
    """The part of a rule that a text stays within.

    Attributes:
        shape: the automaton, in which the states behind end, with numbers from 1.
        lexeme: its walk.
        behind: the program states behind, by number less 1.
    """

    shape: LexemeShape
    lexeme: Lexeme
    behind: list[int]

    def answer(
        self, q: int, positions: Positions, follow: Callable[[int], Flags]
    ) -> tuple[Int32, list[tuple[int, Int32]]]:
        """What one of its program states does: the tokens that stay within, and what goes on behind.

        Args:
            follow: gives the bytes that can come at a program state.

        Returns:
            int32[W], and for program states behind what is entered there, see :meth:`Positions.group`.
        """
        start = self.shape.number[q]
        walk = self.lexeme.inner_walk(start)
        parts = [
            (after, self.lexeme.entered_behind(walk, number, positions, follow(after)))
            for number, after in enumerate(self.behind, 1)
        ]
        return walk.mask, [(after, groups) for after, groups in parts if groups[0]]


class Shapes:
    """Automata of a program's call-free rules, read from given states on.

    Args:
        program: the program.

    Attributes:
        survey: what each rule is like.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.survey: Final = RuleSurvey(program)
        self._numbers = np.zeros(program.states, np.int32)
        self._states = np.zeros(MAX_SHAPE, np.int32)
        self._table = np.zeros(256 * MAX_SHAPE, np.int16)
        self._accepts = np.zeros(MAX_SHAPE, np.uint8)
        self._known: dict[int, LexemeShape | None] = {}
        self._latest: dict[int, tuple[LexemeShape, Lexeme]] = {}
        self._large: dict[int, LexemeShape | None] = {}
        self._unread: set[int] = set()
        self._inner: dict[tuple[int, bool], LexemeShape | None] = {}
        self._latest_inner: dict[int, Inner] = {}
        self._class_size = np.bincount(program.byte_class[:256], minlength=program.classes)
        self._class_size = self._class_size.astype(np.int32)

    def of(self, q: int) -> LexemeShape | None:
        """The automaton from a program state on, if it is call-free and small."""
        if q not in self._known:
            self._known[q] = self._read(q, MAX_SHAPE) if self.survey.is_plain(q) else None
        return self._known[q]

    def large(self, q: int) -> LexemeShape | None:
        """The same, or the ``MAX_LARGE_SHAPE`` states that are nearest if there are more."""
        small = self.of(q)
        if small is not None or not self.survey.is_plain(q):
            return small
        if q not in self._large:
            self._large[q] = self._read(q, MAX_LARGE_SHAPE, whole=False)
        return self._large[q]

    def walked(self, vocabulary: Vocabulary, q: int) -> tuple[LexemeShape, Lexeme] | None:
        """An automaton with a program state, which may begin elsewhere in the rule, and its walk.

        Of those of the rule the latest that was walked; else that of the state.  ``None`` if walks from
        states of the rule came upon states that were not read.
        """
        small = self.of(q)
        known = None if small is None else known_lexeme(vocabulary, small)
        if small is not None and known is not None:
            return small, known
        rule = int(self._program.rule_of[q])
        if rule in self._unread:
            return None
        latest = self._latest.get(rule)
        number = None if latest is None else latest[0].number.get(q)
        if latest is not None and number is not None and not latest[0].is_far(number):
            return latest
        shape = self.large(q)
        if shape is None:
            return None
        latest = self._latest[rule] = (shape, lexeme_of(vocabulary, shape))
        return latest

    def note_unread(self, q: int) -> None:
        """Notes that walks from states of a program state's rule come upon states that were not read."""
        self._unread.add(int(self._program.rule_of[q]))

    def inner(self, q: int, *, strict: bool = True) -> LexemeShape | None:
        """The states of a rule among which a text stays that goes on from one, if they are few.

        Those behind end it, see ``mask_kernels.read_inner``.

        Args:
            strict: whether it says all that they do, or only a part; then nothing ends it.
        """
        key = (q, strict)
        if key not in self._inner:
            self._inner[key] = self._read_inner(q, strict)
        return self._inner[key]

    def inner_walked(self, vocabulary: Vocabulary, q: int) -> Inner | None:
        """The same, of the latest state of the rule that has this one around it, with its walk.

        ``None`` if there is none, or if there are many states behind.
        """
        rule = int(self._program.rule_of[q])
        latest = self._latest_inner.get(rule)
        if latest is None or q not in latest.shape.number or q in latest.behind:
            shape = self.inner(q)
            if shape is None or shape.accepts.max() > _MOST_BEHIND:
                return None
            behind = shape.places[shape.accepts != 0].tolist()
            latest = Inner(shape, lexeme_of(vocabulary, shape), behind)
            self._latest_inner[rule] = latest
        return latest

    def _read_inner(self, q: int, strict: bool) -> LexemeShape | None:
        p = self._program
        self._make_room(_MOST_INNER)
        size = m.read_inner(
            p.edge_offset, p.edge_class, p.edge_target, p.call_offset, p.bag_of, p.accept_from,
            p.byte_class, self._class_size, q, strict, self._numbers, self._states, self._table,
            self._accepts,
        )  # fmt: skip
        if size < 0:
            return None
        table, accepts = self._table[: 256 * size].copy(), self._accepts[:size].copy()
        if not strict:
            accepts[:] = 0
        states = self._states[:size].tolist()
        return LexemeShape(states, table, accepts, p.byte_class[:256])

    def _make_room(self, states: int) -> None:
        """Makes room for so many states to be read."""
        if states > len(self._states):
            self._states = np.zeros(states, np.int32)
            self._table, self._accepts = (
                np.zeros(256 * states, np.int16),
                np.zeros(states, np.uint8),
            )

    def _read(self, q: int, most: int, *, whole: bool = True) -> LexemeShape | None:
        """The automaton from a state of a plain rule on; ``None`` if it is to be whole and is too large."""
        self._make_room(most)
        p = self._program
        size = m.read_shape(
            p.table.reshape(-1), p.classes, p.byte_class, p.accept_from, q, whole, self._numbers,
            self._states[:most], self._table, self._accepts,
        )  # fmt: skip
        if size < 0:
            return None
        table, accepts = self._table[: 256 * size].copy(), self._accepts[:size].copy()
        whole = whole or size < most or not (table == m.UNREAD).any()
        states = self._states[:size].tolist()
        return LexemeShape(states, table, accepts, p.byte_class[:256], whole)


_KEPT_LEXEMES: Final = 160
"""Walks kept per vocabulary (0.1 to 3 MB each for 128k tokens), the least recently used go first."""
_KEPT_BYTES: Final = 256 << 20
"""Memory of the walks kept per vocabulary, with what is derived from them."""

_stored: WeakKeyDictionary[Vocabulary, OrderedDict[ShapeKey, Lexeme]] = WeakKeyDictionary()
_stored_lock = Lock()


def known_lexeme(vocabulary: Vocabulary, shape: LexemeShape) -> Lexeme | None:
    """The walk of an automaton over a vocabulary, if there was one."""
    with _stored_lock:
        known = _stored.setdefault(vocabulary, OrderedDict())
        lexeme = known.get(shape.key)
        if lexeme is not None:
            known.move_to_end(shape.key)
        return lexeme


def lexeme_of(vocabulary: Vocabulary, shape: LexemeShape) -> Lexeme:
    """The walk of an automaton over a vocabulary, made once for all grammars."""
    lexeme = known_lexeme(vocabulary, shape)
    if lexeme is not None:
        return lexeme
    lexeme = shape.walk(vocabulary)
    with _stored_lock:
        known = _stored.setdefault(vocabulary, OrderedDict())
        known[shape.key] = lexeme
        held = sum(walk.nbytes for walk in known.values())
        while len(known) > 1 and (len(known) > _KEPT_LEXEMES or held > _KEPT_BYTES):
            _, oldest = known.popitem(last=False)
            held -= oldest.nbytes
    return lexeme


def answered(
    shapes: Shapes,
    vocabulary: Vocabulary,
    program: Program,
    q: int,
    n: int,
    positions: Positions,
    follow: Flags,
    groups: Callable[[], Int32],
) -> tuple[Wide, tuple[int, int]] | None:
    """The answer for a program state with a count of n, and the counts that it is valid for.

    ``None`` if its rule is no plain automaton, or too large.  Near bounds the answer depends on the
    distance to them only, and only while that is within one token's reach: so it is kept with the
    lexeme, for all lengths and grammars.

    Args:
        groups: makes :attr:`Wide.groups`, where the lexeme's automaton was not read as a whole.
    """
    try:
        found = shapes.walked(vocabulary, q)
        if found is None:
            return None
        answer, counts = _answer(shapes, vocabulary, program, q, n, positions, follow, found)
    except UnreadError:
        shapes.note_unread(q)
        return None
    if not found[0].whole:
        answer = Wide(answer.mask, groups, partial(answer.groups_beyond, vocabulary.trie))
    return answer, counts


def _answer(
    shapes: Shapes,
    vocabulary: Vocabulary,
    program: Program,
    q: int,
    n: int,
    positions: Positions,
    follow: Flags,
    found: tuple[LexemeShape, Lexeme],
) -> tuple[Wide, tuple[int, int]]:
    """The answer from a walk of an automaton with the state."""
    shape, lexeme = found
    start = shape.number[q]
    # how much a token counts is known from where the walk began
    longest = lexeme.longest if start == 0 else vocabulary.trie.max_depth
    counts, bounds = (0, UNBOUNDED), lexeme.free_bounds
    if not shapes.survey.is_uncounted(q):
        counts = unbounded_counts(program, shape.places, longest)
        if not counts[0] <= n <= counts[1]:
            bounds, counts = near_bounds(program, shape.places, n, longest + 1), (n, n)
    if start == 0 and bounds is lexeme.free_bounds:
        return lexeme.free(positions, follow), counts
    return lexeme.answer(start, bounds, positions, follow), counts


def near_bounds(
    program: Program, states: npt.NDArray[np.integer[Any]], n: int, reach: int
) -> Int32:
    """int32[4, L], the distances from a count of n to the bounds of states, at most ``reach``."""
    cap = program.count_cap[states].astype(np.int64)
    accept = program.accept_from[states].astype(np.int64)
    limit = np.clip(program.count_limit[states].astype(np.int64) - n, -1, reach)
    floor = np.clip(program.count_floor[states].astype(np.int64) - n, 0, reach)
    need = np.where(accept == UNBOUNDED, UNBOUNDED, np.clip(accept - n, 0, reach))
    capped = np.clip(cap - n, 0, reach)
    return np.stack([need, floor, limit, capped]).astype(np.int32)


def counted(
    program: Program, states: npt.NDArray[np.integer[Any]], counts: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.integer[Any]], Flags]:
    """Counts as the states keep them, and whether they can still end within bounds."""
    kept = np.minimum(counts, program.count_cap[states])
    fits = (kept <= program.count_limit[states]) & (kept >= program.count_floor[states])
    return kept, fits


def unbounded_counts(
    program: Program, states: npt.NDArray[np.integer[Any]], longest: int
) -> tuple[int, int]:
    """The least and the largest count from which no token, which counts so much, can come near a bound."""
    limit = int(program.count_limit[states].min())
    accept = program.accept_from[states]
    need = max(
        int(program.count_floor[states].max()),
        int(accept[accept != UNBOUNDED].max(initial=0)),
    )
    return need, limit if limit == UNBOUNDED else limit - longest
