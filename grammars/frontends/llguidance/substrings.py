"""Contiguous parts of a text (``%regex {"substring_...": ...}``) as deterministic automata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grammars.errors import LimitExceeded
from grammars.ir import EPSILON, Expr, Machine
from grammars.limits import Limits
from grammars.work import spend


def words_of(text: str) -> list[str]:
    """Runs of blanks, of letters, digits and ``_``, and of anything else."""
    out: list[str] = []
    last = ""
    for character in text:
        if character.isspace():
            kind = "blank"
        elif character.isalnum() or character == "_":
            kind = "word"
        else:
            kind = "other"
        if kind == last:
            out[-1] += character
        else:
            out.append(character)
        last = kind
    return out


class _SuffixAutomaton:
    """The smallest automaton that reads all contiguous parts of a sequence of chunks.

    Attributes:
        next: by state, the state behind each chunk; state 0 is the start and all states accept.
    """

    def __init__(self, chunks: Sequence[str]) -> None:
        self.next: Final[list[dict[str, int]]] = [{}]
        self._length: Final = [0]
        self._link: Final = [-1]
        self._last = 0
        for chunk in chunks:
            self._extend(chunk)

    def _state(self, length: int, link: int, following: dict[str, int]) -> int:
        self.next.append(following)
        self._length.append(length)
        self._link.append(link)
        return len(self.next) - 1

    def _extend(self, chunk: str) -> None:
        spend(4)
        here = self._state(self._length[self._last] + 1, 0, {})
        at = self._last
        while at >= 0 and chunk not in self.next[at]:
            self.next[at][chunk] = here
            at = self._link[at]
        if at >= 0:
            found = self.next[at][chunk]
            if self._length[at] + 1 != self._length[found]:
                copied = dict(self.next[found])
                copy = self._state(self._length[at] + 1, self._link[found], copied)
                while at >= 0 and self.next[at].get(chunk) == found:
                    self.next[at][chunk] = copy
                    at = self._link[at]
                self._link[found] = copy
                found = copy
            self._link[here] = found
        self._last = here


def substring_of(chunks: Sequence[str], limits: Limits) -> Expr:
    """Any number of neighbouring chunks, in order, or none.

    Raises:
        LimitExceeded: for ``max_dfa_states``.
    """
    automaton = _SuffixAutomaton([chunk for chunk in chunks if chunk])
    if not automaton.next[0]:
        return EPSILON
    # a place: a state, and the chunks that may have been begun there, with what was read of them
    tries = [_trie(row) for row in automaton.next]
    place = tuple[int, int]  # of a state's trie
    start = frozenset({(0, 0)})
    index: dict[frozenset[place], int] = {start: 0}
    order = [start]
    edges: list[tuple[tuple[int, int, int], ...]] = []
    accept: list[bool] = []
    for current in order:  # grows while we iterate
        spend(2 + len(current))
        accept.append(any(node == 0 for _, node in current))
        targets: dict[int, set[place]] = {}
        for state, node in current:
            for byte, after in tries[state][node][0].items():
                reached = targets.setdefault(byte, set())
                ends = tries[state][after][1]
                if ends is not None:
                    reached.add((ends, 0))
                if tries[state][after][0]:
                    reached.add((state, after))
        row = []
        for byte, reached in sorted(targets.items()):
            key = frozenset(reached)
            if key not in index:
                if len(order) >= limits.max_dfa_states:
                    raise LimitExceeded("max_dfa_states", limits.max_dfa_states, "this substring")
                index[key] = len(order)
                order.append(key)
            row.append((byte, byte, index[key]))
        edges.append(tuple(row))
    return Machine(tuple(edges), tuple(accept))


_Node = tuple[dict[int, int], "int | None"]


def _trie(words: dict[str, int]) -> list[_Node]:
    """The chunks that may come next, as a trie of bytes whose ends name the states behind them."""
    nodes: list[_Node] = [({}, None)]
    for word, target in words.items():
        at = 0
        for byte in word.encode():
            if byte not in nodes[at][0]:
                nodes[at][0][byte] = len(nodes)
                nodes.append(({}, None))
            at = nodes[at][0][byte]
        nodes[at] = (nodes[at][0], target)
    return nodes
