"""The parts of a mask: stretches of tokens in which no line begins, each with the readings before it.

A token is judged by the rules alone as long as no newline in it counts.  Where one does, a line begins at
some node of the trie, and what is below the node is judged from there on, by other readings.  So a mask is
a union over *segments*: a trie node, a state of the rules there, and the levels that are open.  Lines begin

* at a place where a newline has been read: at once, and behind more blanks and line ends;
* elsewhere: behind a line end within a token, as rules say, or behind a comment with which a newline ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.engine.pool import DEAD, StatePool
from constrain.layout.places import Moves, Spot
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.ir import Layout
from grammars.layout.widths import NEWLINE, Stack, width_behind

_KEPT: Final = 4_096
"""States whose walks are remembered."""


class Segment(NamedTuple):
    """Tokens below a trie node that go on from a reading without a line that begins.

    Attributes:
        node: of the trie; tokens that end there are in another segment, but for the root.
        state: of the rules, there.
        stack: the levels that are open there.
        width: blanks since the last line end there.
    """

    node: int
    state: int
    stack: Stack
    width: int


class Segments:
    """Finds the segments of masks.

    Args:
        pool: of the rules; the caller holds its lock.
        moves: of the places.
        layout: how indentation is read.
        vocabulary: the tokens.
    """

    def __init__(
        self, pool: StatePool, moves: Moves, layout: Layout, vocabulary: Vocabulary
    ) -> None:
        self._pool = pool
        self._moves = moves
        self._tab = layout.tab_length
        self._trie: Final = vocabulary.trie
        self._lines: Final = lines_of(vocabulary, moves.closing)
        self._below: dict[tuple[int, int], list[tuple[int, int, int, bool]]] = {}

    def forget(self) -> None:
        """To be called when states were forgotten."""
        self._below.clear()

    def of(self, spot: Spot) -> list[Segment]:
        """All segments of a place, those of its readings at the root first."""
        out: list[Segment] = []
        seen: set[tuple[int, int, Stack]] = set()
        todo = [Segment(0, state, stack, spot.width) for state, stack in spot.readings]
        for segment in todo:  # grows while we iterate
            key = segment[:3]
            if key in seen:
                continue
            seen.add(key)
            out.append(segment)
            for node, state, width in self._beginnings(segment):
                begun = self._moves.begun(state, segment.stack, width)
                if begun is not None and self._goes_on(begun[0], node):
                    todo.append(Segment(node, begun[0], begun[1], width))
        return out

    def _goes_on(self, state: int, node: int) -> bool:
        """Whether some byte below a node can come next."""
        if node == 0:
            return True
        can, class_of = self._pool.classes(state), self._pool.program.byte_class
        return any(can >> int(class_of[byte]) & 1 for byte in self._lines.bytes_below(node))

    def _beginnings(self, segment: Segment) -> Iterator[tuple[int, int, int]]:
        """Nodes at and below a segment's at which a newline has been read: node, state, width there."""
        if self._moves.may_begin(segment.state):
            yield segment.node, segment.state, segment.width
        for node, state, blanks, anew in self._found_below(segment.node, segment.state):
            yield node, state, blanks if anew else segment.width + blanks

    def _found_below(self, node: int, state: int) -> list[tuple[int, int, int, bool]]:
        """Those below a node: node, state, blanks read since, and whether since a line end."""
        key = (node, state)
        known = self._below.get(key)
        if known is None:
            known = self._below[key] = list(self._walk(node, state))
            if len(self._below) > _KEPT:
                self._below.pop(next(iter(self._below)))
        return known

    def _walk(self, node: int, state: int) -> Iterator[tuple[int, int, int, bool]]:
        trie, lines, move = self._trie, self._lines, self._pool.advance_symbol
        stack = [(node, state, 0, False)]
        while stack:
            at, state, blanks, anew = stack.pop()
            # a mark that is possible stays possible, without a line end, by bytes of the newline alone
            every = self._moves.may_begin(state)
            for child in lines.children(at) if every else lines.children_to_lines(at):
                byte = int(trie.byte[child])
                after = move(state, byte)
                if after == DEAD:
                    continue
                begins = self._moves.may_begin(after)
                if every and not begins and not lines.holds_line(child):
                    continue
                fresh = anew or byte == NEWLINE
                count = width_behind(blanks, bytes((byte,)), self._tab)
                if begins and lines.has_children(child):
                    yield child, after, count, fresh
                if lines.has_children(child):
                    stack.append((child, after, count, fresh))


class Lines:
    """Where in a vocabulary's trie newlines may end.

    Args:
        trie: of the vocabulary.
        closing: the bytes by which they may end beside line ends.
    """

    def __init__(self, trie: Trie, closing: frozenset[int]) -> None:
        self._trie = trie
        self._onward: dict[int, list[int]] = {}
        self._to_lines: dict[int, list[int]] = {}
        self._bytes: dict[int, list[int]] = {}
        skip = np.asarray(trie.skip, np.int64)
        nodes = np.arange(trie.node_count)
        self._inner: npt.NDArray[np.bool_] = skip > nodes + 1
        ends = np.isin(trie.byte, [NEWLINE, *closing]) & (nodes > 0) & self._inner
        before = np.concatenate([[0], np.cumsum(ends)])
        self._holds: npt.NDArray[np.bool_] = before[skip] > before[nodes]

    def has_children(self, node: int) -> bool:
        """Whether tokens go on below a node."""
        return bool(self._inner[node])

    def holds_line(self, node: int) -> bool:
        """Whether a newline may end at or below a node and some token goes on behind it."""
        return bool(self._holds[node])

    def children(self, node: int) -> list[int]:
        """The nodes right below one."""
        known = self._onward.get(node)
        if known is None:
            known = []
            child, end = node + 1, int(self._trie.skip[node])
            while child < end:
                known.append(child)
                child = int(self._trie.skip[child])
            self._onward[node] = known
        return known

    def children_to_lines(self, node: int) -> list[int]:
        """Those of them at or below which a newline may end."""
        known = self._to_lines.get(node)
        if known is None:
            known = self._to_lines[node] = [c for c in self.children(node) if self._holds[c]]
        return known

    def bytes_below(self, node: int) -> list[int]:
        """The bytes by which tokens go on below a node."""
        known = self._bytes.get(node)
        if known is None:
            known = self._bytes[node] = [int(self._trie.byte[c]) for c in self.children(node)]
        return known


_known: WeakKeyDictionary[Vocabulary, dict[frozenset[int], Lines]] = WeakKeyDictionary()


def lines_of(vocabulary: Vocabulary, closing: frozenset[int]) -> Lines:
    """The ends of newlines in a vocabulary, found once."""
    known = _known.setdefault(vocabulary, {})
    if closing not in known:
        known[closing] = Lines(vocabulary.trie, closing)
    return known[closing]
