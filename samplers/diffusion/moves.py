"""Where one token leads a rule that is looked at alone.

A token may end one rule and begin others.  So a move is worked out for a rule alone (its frame is
the pool's ``END``): where a whole token leads inside the rule and the rules it calls, and at which
positions inside tokens the rule can be over.  The frames below take over at exactly these positions.
Positions with equal subtrees of the trie are one, and only those with a byte that the frame takes
are entered.  Moves depend on neither canvas nor layer: all canvases of one automaton share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32
from constrain.automaton import TokenAutomaton
from constrain.engine.pool import END, StatePool
from constrain.masks.trie_positions import Positions
from constrain.masks.wide import Lexeme, LexemeShape, counted, lexeme_of, tokens_at
from grammars.program import UNBOUNDED

NOWHERE: Final = -1
ROOT: Final = 0
"""The set of positions that holds the beginning of a token alone."""


@dataclass(frozen=True)
class Move:
    """What one cell does to a state whose frame is ``END``.

    Attributes:
        ends: at the cell's end: pairs of a head and the frame above ``END`` that it has.
        exits: positions inside at which the rule may be over, ``NOWHERE`` for none.
    """

    ends: tuple[tuple[int, int], ...]
    exits: int


class Moves:
    """Moves of the states of one program, worked out when they are first asked for."""

    def __init__(self, automaton: TokenAutomaton) -> None:
        self.vocabulary: Final = automaton.vocabulary
        self.limits: Final = automaton.limits
        self._shape_of = automaton.shape
        self._positions: Positions = automaton.positions
        self._trie = automaton.trie
        self.pool: Final = StatePool(automaton.program, automaton.vocabulary, automaton.limits)
        self._heads: dict[tuple[int, int], int] = {}
        self._sets: list[Int32] = [np.zeros(1, np.int32)]
        self._numbers: dict[bytes, int] = {self._sets[0].tobytes(): ROOT}
        self._first: dict[int, Flags] = {}
        has_children = self._trie.skip > np.arange(1, self._trie.node_count + 1)
        self._goes_on: Flags = np.asarray(has_children)

    # -- states --------------------------------------------------------------------------------

    @property
    def start(self) -> int:
        """The head of the empty text."""
        return self.head(self.pool.program.start, 0)

    def head(self, q: int, n: int) -> int:
        """The state of one configuration alone in its frame."""
        known = self._heads.get((q, n))
        if known is None:
            known = self._heads[q, n] = self.pool.intern([(q, n, END)])
        return known

    def heads(self, state: int) -> list[tuple[int, int]]:
        """The configurations of a state: pairs of a head and its frame."""
        return [(self.head(q, n), frame) for q, n, frame in self.pool.items(state) if q]

    def may_end(self, state: int) -> bool:
        """Whether a state, a frame too, can be over."""
        return self.pool.accepting(state)

    # -- moves ---------------------------------------------------------------------------------

    def by_token(self, state: int, positions: int) -> Move:
        """The move through any one token, from a head that takes over at a set of positions."""
        nodes = self._sets[positions]
        counting = self._counting(state) if positions == ROOT else None
        if counting is not None:
            return self._through_lexeme(*counting)
        reached: list[Int32] = []
        exits: list[Int32] = [nodes] if self.pool.accepting(state) else []
        for begin, enter in self._beginnings(state, nodes):
            _, states, left = self.pool.walk_from(self._trie, state, begin, enter)
            reached.append(states)
            exits.append(left)
        distinct = _distinct(reached)
        ends = {pair for s in distinct for pair in self.heads(s)}
        return Move(tuple(ends), self._position_set(exits))

    def _beginnings(self, state: int, nodes: Int32) -> Iterator[tuple[int, bool]]:
        """Trie nodes to walk from: the root, or nodes to be entered, one of those that are alike."""
        if not len(nodes):
            return
        if nodes[0] == 0:
            yield 0, False
            nodes = nodes[1:]
        if not len(nodes):
            return
        children, _ = self._positions.entries(nodes, self._first_bytes(state))
        keys = self._positions.entry_keys(children)
        _, firsts = np.unique(keys, return_index=True)
        for child in children[firsts].tolist():
            yield child, True

    def _first_bytes(self, state: int) -> Flags:
        """bool[256]: the bytes that a state may take."""
        known = self._first.get(state)
        if known is None:
            bits = np.unpackbits(self.pool.first_classes(state).view(np.uint8), bitorder="little")
            known = bits[self.pool.program.byte_class[:256]].astype(np.bool_)
            self._first[state] = known
        return known

    def _position_set(self, parts: Sequence[Int32]) -> int:
        """The number of a set of positions: those that go on, one of those that are alike."""
        if not parts:
            return NOWHERE
        nodes = np.unique(np.concatenate(parts)) if len(parts) > 1 else parts[0]
        if not len(nodes):
            return NOWHERE
        inner = nodes[self._goes_on[nodes] & (nodes > 0)]
        _, firsts = np.unique(self._trie.suffix_class[inner], return_index=True)
        kept = np.concatenate([nodes[nodes == 0], np.sort(inner[firsts])]).astype(np.int32)
        if not len(kept):
            return NOWHERE
        key = kept.tobytes()
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._sets)
            self._sets.append(kept)
        return known

    # -- counted lexemes: one walk for all counts ----------------------------------------------

    def _counting(self, state: int) -> tuple[LexemeShape, int] | None:
        """The automaton and count of a head in a counted repetition without calls."""
        items = self.pool.items(state)
        q, n, frame = items[0]
        if len(items) > 1 or frame != END:
            return None
        if n == 0 and self.pool.program.count_limit[q] == UNBOUNDED:
            return None
        shape = self._shape_of(q)
        return None if shape is None else (shape, n)

    def _through_lexeme(self, shape: LexemeShape, n: int) -> Move:
        program = self.pool.program
        lexeme = lexeme_of(self.vocabulary, shape)
        states = np.array(shape.states)
        pairs = lexeme.ends.groups
        left, fits = counted(program, states[pairs[:, 0]], n + pairs[:, 1])
        ends = {
            (self.head(q, m), END)
            for q, m in zip(states[pairs[fits, 0]].tolist(), left[fits].tolist(), strict=True)
        }
        return Move(tuple(ends), self._position_set([self._lexeme_exits(shape, lexeme, n)]))

    def _lexeme_exits(self, shape: LexemeShape, lexeme: Lexeme, n: int) -> Int32:
        program = self.pool.program
        at = np.array(shape.states)[lexeme.exit_state]
        out, fits = counted(program, at, n + lexeme.exit_count)
        nodes: Int32 = lexeme.exit_nodes[fits & (out >= program.accept_from[at])]
        return nodes

    # -- which tokens --------------------------------------------------------------------------

    def spread(self, state: int, nodes: Int32) -> tuple[list[tuple[int, Int32]], Int32]:
        """Where the tokens below some nodes lead: (end state, token ids) pairs; and all exits.

        Unlike moves, which have one position for all that are alike.
        """
        ends: list[tuple[int, Int32]] = []
        exits = [nodes] if self.pool.accepting(state) else []
        for begin, enter, members in self._families(state, nodes):
            at, states, left = self.pool.walk_from(self._trie, state, begin, enter)
            exits.append(_moved(left, begin, members))
            for reached in _distinct([states]):
                alike = _moved(at[states == reached], begin, members)
                ends.append((reached, tokens_at(self._trie, alike)[0]))
        return ends, np.unique(np.concatenate(exits)) if exits else nodes[:0]

    def _families(self, state: int, nodes: Int32) -> Iterator[tuple[int, bool, Int32]]:
        """Like ``_beginnings``, with all the nodes that are like each."""
        if len(nodes) and nodes[0] == 0:
            yield 0, False, nodes[:1]
            nodes = nodes[1:]
        children, _ = self._positions.entries(nodes, self._first_bytes(state))
        keys = self._positions.entry_keys(children)
        _, groups = np.unique(keys, return_inverse=True)
        for group in range(int(groups.max(initial=-1)) + 1):
            members = children[groups == group]
            yield int(members[0]), True, members


def _moved(nodes: Int32, begin: int, members: Int32) -> Int32:
    """Nodes below one of several nodes with equal subtrees, and the same below the others."""
    out: Int32 = ((nodes - begin)[None, :] + members[:, None]).ravel().astype(np.int32)
    return out


def _distinct(parts: Sequence[npt.NDArray[np.integer[Any]]]) -> list[int]:
    """The distinct numbers in some arrays of small non-negative numbers."""
    found = [np.flatnonzero(np.bincount(part)) for part in parts if len(part)]
    if len(found) == 1:
        numbers: list[int] = found[0].tolist()
        return numbers
    return sorted({int(x) for part in found for x in part})
