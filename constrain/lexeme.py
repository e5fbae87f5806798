"""Wide states: what a lexeme's automaton does with the whole vocabulary, computed once.

Inside a string, a number or free text, most of the vocabulary stays inside.  Which tokens do depends
on the lexeme's own finite automaton alone, not on what surrounds it, so one walk over the trie
serves every place in every grammar where the same residual automaton occurs; it is kept with the
vocabulary under the automaton's content.  What depends on the surroundings are tokens that leave
the lexeme: the walk records the trie nodes where that can happen, grouped by equal subtrees, and
only one subtree of each group is ever walked again.

Counted lexemes (``maxLength``) record how much each token counts: then any count's mask follows by
comparing numbers.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain._jit import kernels as k
from constrain.positions import Flags, Positions
from constrain.trie import Trie
from constrain.vocabulary import Vocabulary
from grammars.program import UNBOUNDED, Program

Int32 = npt.NDArray[np.int32]

_KEPT_NEAR_BOUNDS: Final = 512
"""Masks kept per lexeme for counts near their bounds (V/8 bytes each)."""


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


@dataclass(frozen=True, eq=False)
class Wide:
    """What a state of a rule allows, without and with regard to what follows the rule.

    Attributes:
        mask: int32[W], tokens that stay inside the rule (or end with it).
        groups: how tokens go on after the rule, see :meth:`Positions.group`.
    """

    mask: Int32
    groups: Int32


@dataclass(frozen=True, eq=False)
class Lexeme:
    """A walk of one automaton state over the whole trie.

    Attributes:
        tokens, token_state, token_count: per token that stays inside: its id, the (local) state
            it leads to and how much it counts.
        exit_nodes, exit_state, exit_count: the same per trie node at which the lexeme may end.
    """

    trie: Trie
    size: int
    tokens: Int32
    token_state: Int32
    token_count: Int32
    exit_nodes: Int32
    exit_state: Int32
    exit_count: Int32
    _free: dict[bytes, Wide] = field(default_factory=dict)
    _exits: WeakKeyDictionary[Positions, dict[bytes, Int32]] = field(
        default_factory=WeakKeyDictionary
    )
    _entries: dict[bytes, tuple[Int32, npt.NDArray[np.int64], Int32]] = field(default_factory=dict)
    near_bounds: dict[bytes, Wide] = field(default_factory=dict)

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
        return known

    def free(self, positions: Positions, follow: Flags) -> Wide:
        """The answer where no count is near its bounds."""
        key = follow.tobytes()
        known = self._free.get(key)
        if known is None:
            children, keys, _ = self.entries(positions, follow)
            groups = positions.grouped(children, keys)
            known = self._free[key] = Wide(pack_bits(self.tokens, self.size), groups)
        return known

    @cached_property
    def _grouped(self) -> tuple[Int32, Int32]:
        return distinct_rows(self.token_state, self.token_count)

    @property
    def end_groups(self) -> Int32:
        """int32[groups, 2]: the distinct (state, count) that tokens lead to."""
        return self._grouped[0]

    @property
    def token_group(self) -> Int32:
        """int32[tokens], row of :attr:`end_groups` for each token."""
        return self._grouped[1]

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
        return known

    @property
    def nbytes(self) -> int:
        """Memory of the walk and of what was derived from it, in bytes (about)."""
        own = (
            self.tokens, self.token_state, self.token_count,
            self.exit_nodes, self.exit_state, self.exit_count,
        )  # fmt: skip
        wide = next(iter(self.near_bounds.values()), None)
        near = 0 if wide is None else wide.mask.nbytes + wide.groups.nbytes
        return (
            sum(array.nbytes for array in own)
            + 4 * len(self.tokens)  # rows of end_groups
            + sum(w.mask.nbytes + w.groups.nbytes for w in self._free.values())
            + sum(array.nbytes for entry in self._entries.values() for array in entry)
            + sum(array.nbytes for own in self._exits.values() for array in own.values())
            + near * len(self.near_bounds)
        )

    @cached_property
    def longest(self) -> int:
        """The most that one token counts."""
        counts = [int(c.max()) for c in (self.token_count, self.exit_count) if len(c)]
        return max(counts, default=0)


_COUNTABLE: Final = 1 << 22
"""Numbers up to which counting beats sorting."""

MAX_SHAPE: Final = 64
"""States of an automaton up to which its walk over the vocabulary is shared between grammars.

Strings, numbers, names and blanks have fewer; for larger ones finding the canonical form of every
state would cost more than walking from it.
"""


def reachable(program: Program, state: int, most: int) -> list[int] | None:
    """Program states reachable within the rule, in order of discovery; ``None`` if too many."""
    found = [state]
    seen = {state}
    for q in found:  # grows while we iterate
        row = program.edge_target[program.edge_offset[q] : program.edge_offset[q + 1]] >> 1
        for t in row.tolist():
            if t not in seen:
                if len(found) >= most:
                    return None
                seen.add(t)
                found.append(t)
    return found


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


class LexemeShape:
    """The automaton reachable from one state of a call-free rule, in canonical numbering.

    Attributes:
        states: program states in order of discovery; position = local number.
        key: content that two equal automata share (counts' bounds are not part of it).
    """

    def __init__(self, program: Program, state: int) -> None:
        self.states = reachable(program, state, MAX_SHAPE) or [state]
        number = {q: i for i, q in enumerate(self.states)}
        accepts: list[bool] = []
        byte_class = program.byte_class[:256]
        tables: list[Int32] = []
        for q in self.states:
            accepts.append(int(program.accept_from[q]) != UNBOUNDED)
            by_class = np.full(program.classes, -1, np.int32)
            for e in range(int(program.edge_offset[q]), int(program.edge_offset[q + 1])):
                target = int(program.edge_target[e])
                by_class[program.edge_class[e]] = number[target >> 1] << 1 | (target & 1)
            tables.append(by_class[byte_class])
        self.table = np.stack(tables)
        self.accepts = np.array(accepts, np.uint8)
        self.key = (self.table.tobytes(), self.accepts.tobytes())

    def walk(self, trie: Trie, size: int) -> Lexeme:
        """Runs the automaton over the trie."""
        n = trie.node_count
        ends = np.zeros((3, n), np.int32)
        exits = np.zeros((3, n), np.int32)
        counts = np.zeros(2, np.int64)
        path = np.zeros(2 * (trie.max_depth + 2), np.int32)
        k.lexeme_walk(
            self.table, self.accepts, trie.byte, trie.depth, trie.skip, trie.token_start,
            ends, exits, counts, path,
        )  # fmt: skip
        e, x = int(counts[0]), int(counts[1])
        tokens, owner = tokens_at(trie, ends[0, :e])
        return Lexeme(
            trie, size, tokens, ends[1, :e][owner], ends[2, :e][owner],
            exits[0, :x].copy(), exits[1, :x].copy(), exits[2, :x].copy(),
        )  # fmt: skip


_KEPT_LEXEMES: Final = 160
"""Walks kept per vocabulary (about 2 MB each for 128k tokens), the least recently used go first."""
_KEPT_BYTES: Final = 256 << 20
"""Memory of the walks kept per vocabulary, with what is derived from them."""

_stored: WeakKeyDictionary[Vocabulary, OrderedDict[tuple[bytes, bytes], Lexeme]] = (
    WeakKeyDictionary()
)
_stored_lock = Lock()


def lexeme_of(vocabulary: Vocabulary, shape: LexemeShape) -> Lexeme:
    """The walk of an automaton over a vocabulary, made once for all grammars."""
    with _stored_lock:
        known = _stored.setdefault(vocabulary, OrderedDict())
        lexeme = known.get(shape.key)
        if lexeme is not None:
            known.move_to_end(shape.key)
            return lexeme
    lexeme = shape.walk(vocabulary.trie, vocabulary.size)
    with _stored_lock:
        known[shape.key] = lexeme
        held = sum(walk.nbytes for walk in known.values())
        while len(known) > 1 and (len(known) > _KEPT_LEXEMES or held > _KEPT_BYTES):
            _, oldest = known.popitem(last=False)
            held -= oldest.nbytes
    return lexeme


def plain_states(program: Program) -> Flags:
    """bool[Q]: states whose rule is a deterministic automaton without calls."""
    calls = (np.diff(program.call_offset) > 0) | (program.bag_of >= 0)
    several = (program.table < -1).any(axis=1)
    rules = len(program.rule_names)
    impure = np.bincount(program.rule_of, weights=calls | several, minlength=rules) > 0
    return ~impure[program.rule_of]


def bounded(
    program: Program,
    shape: LexemeShape,
    lexeme: Lexeme,
    n: int,
    positions: Positions,
    follow: Flags,
) -> Wide:
    """The answer for a count of n, where some tokens or exits may break a bound.

    It depends on the distance to the bounds only, and only while that is within one token's reach:
    so it is kept with the lexeme, for all lengths and grammars.
    """
    states = np.array(shape.states)
    reach = lexeme.longest + 1
    cap = program.count_cap[states].astype(np.int64)
    accept = program.accept_from[states].astype(np.int64)
    limit = np.clip(program.count_limit[states].astype(np.int64) - n, -1, reach)
    floor = np.clip(program.count_floor[states].astype(np.int64) - n, 0, reach)
    need = np.where(accept == UNBOUNDED, UNBOUNDED, np.clip(accept - n, 0, reach))
    capped = np.clip(cap - n, 0, reach)
    key = b"".join(a.tobytes() for a in (limit, floor, need, capped)) + follow.tobytes()
    known = lexeme.near_bounds.get(key)
    if known is None:
        if len(lexeme.near_bounds) >= _KEPT_NEAR_BOUNDS:
            lexeme.near_bounds.pop(next(iter(lexeme.near_bounds)))
        pairs = lexeme.end_groups
        after = np.minimum(pairs[:, 1], capped[pairs[:, 0]])
        fits = (after <= limit[pairs[:, 0]]) & (after >= floor[pairs[:, 0]])
        children, keys, parents = lexeme.entries(positions, follow)
        state, count = lexeme.exit_state[parents], lexeme.exit_count[parents]
        left = np.minimum(count, capped[state])
        out = (left <= limit[state]) & (left >= need[state])
        known = lexeme.near_bounds[key] = Wide(
            pack_bits(lexeme.tokens[fits[lexeme.token_group]], lexeme.size),
            positions.grouped(children[out], keys[out]),
        )
    return known


def counted(
    program: Program, states: npt.NDArray[np.integer[Any]], counts: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.integer[Any]], Flags]:
    """Counts as the states keep them, and whether they can still end within bounds."""
    kept = np.minimum(counts, program.count_cap[states])
    fits = (kept <= program.count_limit[states]) & (kept >= program.count_floor[states])
    return kept, fits


def is_unbounded(program: Program, shape: LexemeShape, lexeme: Lexeme, n: int) -> bool:
    """Whether no token can bring a count of n near a bound."""
    states = np.array(shape.states)
    limit = int(program.count_limit[states].min())
    accept = program.accept_from[states]
    need = max(
        int(program.count_floor[states].max()),
        int(accept[accept != UNBOUNDED].max(initial=0)),
    )
    return need <= n and n + lexeme.longest <= limit
