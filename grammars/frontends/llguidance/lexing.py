"""llguidance's lexer: the lexemes that are allowed in one place, read together.

The lexer reads one byte after another as long as any allowed lexeme can go on.  Where none can, those
that match what has been read are found, all of them; where a lazy one matches, reading ends at once,
and only lazy ones are found.  A lexeme that is found where others could go on may only be followed by
a byte with which none of them goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grammars.compiling.automata import ALL_BYTES, Dfa
from grammars.frontends.llguidance.networks import TooLargeError

Bytes: TypeAlias = int
"""A set of bytes, as a mask."""
Found: TypeAlias = tuple[frozenset[int], Bytes]
"""Lexemes that end together, and the bytes that may not follow."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """A lexeme's automaton, without states from which it cannot match.

    Attributes:
        edges: by state.
        accept: by state.
    """

    edges: list[list[tuple[Bytes, int]]]
    accept: list[bool]
    start: int

    @property
    def first(self) -> Bytes:
        """The bytes it may begin with."""
        out = 0
        for mask, _ in self.edges[self.start]:
            out |= mask
        return out


def automaton_of(dfa: Dfa) -> Automaton:
    """An automaton of the compiler, trimmed."""
    into: list[list[int]] = [[] for _ in dfa.edges]
    for state, row in enumerate(dfa.edges):
        for _, target, _ in row:
            into[target].append(state)
    useful = {state for state, accepts in enumerate(dfa.accept) if accepts}
    stack = list(useful)
    while stack:
        for source in into[stack.pop()]:
            if source not in useful:
                useful.add(source)
                stack.append(source)
    edges = [
        [(label & ALL_BYTES, target) for label, target, _ in row if target in useful]
        for row in dfa.edges
    ]
    return Automaton(edges, list(dfa.accept), dfa.start)


@dataclass
class Reading:
    """Some lexemes read together: the product of their automata.

    Attributes:
        edges: by state; state 0 is the start.
        found: by state, what may be found there.
        cut: lexemes that are cut off by lazy ones somewhere.
    """

    edges: list[list[tuple[Bytes, int]]] = field(default_factory=list)
    found: list[tuple[Found, ...]] = field(default_factory=list)
    cut: set[int] = field(default_factory=set)


_Place: TypeAlias = tuple[tuple[int, int], ...]


class Lexer:
    """Readings of sets of lexemes, each made once.

    Args:
        automata: of the lexemes.
        lazy, free: lexemes that are.
        limit: states of all readings together.
    """

    def __init__(
        self, automata: list[Automaton], lazy: frozenset[int], free: frozenset[int], limit: int
    ) -> None:
        self.automata: Final = automata
        self.lazy: Final = lazy
        self.free: Final = free
        self._left = limit
        self._known: dict[frozenset[int], Reading] = {}

    def reading(self, lexemes: frozenset[int]) -> Reading:
        """The lexemes read together.

        Raises:
            TooLargeError: for more states than allowed.
        """
        known = self._known.get(lexemes)
        if known is None:
            known = self._known[lexemes] = self._read(lexemes)
        return known

    def _read(self, lexemes: frozenset[int]) -> Reading:
        out = Reading()
        start = tuple((x, self.automata[x].start) for x in sorted(lexemes))
        index: dict[_Place, int] = {}  # the start is never entered again: nothing ends there
        order: list[_Place] = [start]
        for place in order:  # grows while we iterate
            self._left -= 1 + len(place)
            if self._left < 0:
                raise TooLargeError
            started = bool(out.edges)
            accepting = frozenset(x for x, q in place if started and self.automata[x].accept[q])
            lazy = accepting & self.lazy
            if lazy:
                out.cut |= {x for x, _ in place} - lazy
                out.found.append(((lazy, 0),))
                out.edges.append([])
                continue
            row = []
            onward = 0
            for mask, target in self._moves(place):
                onward |= mask
                if target not in index:
                    index[target] = len(order)
                    order.append(target)
                row.append((mask, index[target]))
            out.edges.append(row)
            out.found.append(self._ends(accepting, onward))
        return out

    def _ends(self, accepting: frozenset[int], onward: Bytes) -> tuple[Found, ...]:
        if not accepting:
            return ()
        free = accepting & self.free
        if not free or not onward:
            return ((accepting, onward),)
        greedy = accepting - free
        return ((free, 0), (greedy, onward)) if greedy else ((free, 0),)

    def _moves(self, place: _Place) -> list[tuple[Bytes, _Place]]:
        blocks: list[tuple[Bytes, tuple[tuple[int, int], ...]]] = [(ALL_BYTES, ())]
        for lexeme, state in place:
            split: list[tuple[Bytes, tuple[tuple[int, int], ...]]] = []
            for mask, reached in blocks:
                rest = mask
                for label, target in self.automata[lexeme].edges[state]:
                    common = rest & label
                    if common:
                        split.append((common, (*reached, (lexeme, target))))
                        rest ^= common
                if rest:
                    split.append((rest, reached))
            blocks = split
        merged: dict[_Place, Bytes] = {}
        for mask, reached in blocks:
            if reached:
                merged[reached] = merged.get(reached, 0) | mask
        return [(mask, reached) for reached, mask in merged.items()]
