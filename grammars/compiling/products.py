"""Intersections and complements of automata by kernels.

For a :class:`~grammars.compiling.building.RuleBuilder` whose automata are Python's own lists: they are
packed, at most once each, and only the last of several products is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from grammars.compiling.automata import ALL_BYTES, EMPTY, Dfa, expand, settle
from grammars.compiling.encoding import Int32, PackedDfa, Words
from grammars.compiling.regular_kernels import product
from grammars.errors import LimitExceeded
from grammars.ir import SYMBOLS
from grammars.work import spend

_PRODUCT: Final = 20
"""Work of a product, its states aside, see :mod:`grammars.work`."""
_ANYTHING: Final = PackedDfa.of(Dfa(0, [True], [[(ALL_BYTES, 0, 0)]]))


class Products:
    """Makes products, of which all together may have so many states.

    Args:
        limit: states of one intersection, all its steps together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._packed: dict[int, tuple[Dfa, PackedDfa]] = {}  # by identity, which the value keeps

    def know(self, dfa: Dfa, packed: PackedDfa) -> None:
        """Notes the arrays of an automaton."""
        self._packed[id(dfa)] = dfa, packed

    def of(self, within: Sequence[Dfa], without: Sequence[Dfa]) -> Dfa:
        """Texts that all of some automata accept and none of some others, over bytes if there are no first.

        Args:
            within: perhaps counted; the smallest that is stays so, where that is possible.
            without: uncounted.

        Raises:
            LimitExceeded: for ``max_dfa_states`` and ``max_work``.
        """
        counter = min((dfa for dfa in within if dfa.counted), key=len, default=None)
        flat = [expand(dfa, self._limit) for dfa in within if dfa is not counter]
        parts = [self._pack(dfa) for dfa in flat]
        taken = [self._pack(dfa) for dfa in without]
        if counter is None:
            return self._kept(self.packed(parts, taken))
        loop = self._pack(counter)
        if parts:  # what has no counter is less to read
            out = packed_product([loop, self.packed(parts, taken)], [], self._limit)
        else:
            out = self.packed([loop], taken)
        found = out.unpacked()
        if found.is_empty():
            return EMPTY
        low, high = counter.count_min, counter.count_max
        return settle(Dfa(found.start, found.accept, found.edges, True, low, high), self._limit)

    def packed(self, within: Sequence[PackedDfa], without: Sequence[PackedDfa]) -> PackedDfa:
        """The same of arrays, as arrays; the small automata first."""
        ordered = sorted(within, key=lambda dfa: len(dfa.accept))
        return packed_product(ordered, without, self._limit)

    def _pack(self, dfa: Dfa) -> PackedDfa:
        known = self._packed.get(id(dfa))
        if known is None:
            known = self._packed[id(dfa)] = dfa, PackedDfa.of(dfa)
        return known[1]

    def _kept(self, packed: PackedDfa) -> Dfa:
        dfa = packed.unpacked()
        self.know(dfa, packed)
        return dfa


def packed_product(
    within: Sequence[PackedDfa], without: Sequence[PackedDfa], limit: int
) -> PackedDfa:
    """Texts in the first and not in the others, step by step in this order.

    Raises:
        LimitExceeded: for ``max_dfa_states``, which holds for all steps together, and ``max_work``.
    """
    out = within[0] if within else _ANYTHING
    spent = 0
    for other, subtracted in [*((x, 0) for x in within[1:]), *((x, 1) for x in without)]:
        try:
            words, edges, begin, accept, start, _ = product(
                *(out.words, out.edges, out.begin, out.accept, out.start),
                *(other.words, other.edges, other.begin, other.accept, other.start),
                subtracted,
                limit - spent,
            )
        except ValueError:
            raise LimitExceeded("max_dfa_states", limit, "intersecting patterns") from None
        out = PackedDfa(words, edges, begin, accept, start)
        spent += len(accept)
        spend(_PRODUCT + 2 * len(accept))
    return out


_MOST_CALLS: Final = 320 - SYMBOLS
"""Bits of a set that stand for no symbol."""
_ALL: Final = (
    np.full((1, 5), -1, np.int64).view(np.uint64),
    np.zeros((1, 3), np.int32),
    np.array([0, 1], np.int32),
    np.ones(1, np.uint8),
    0,
)
"""An automaton of one state that goes on with every bit."""


def packed_reduction(dfa: PackedDfa) -> PackedDfa | None:
    """The automaton trimmed and equivalent states merged; all its states are reached from the start.

    ``None`` where it has many different calls: in the sets of symbols that kernels read each call is a bit
    that stands for no symbol.
    """
    calls = dfa.edges[:, 0] < 0
    labels = np.unique(dfa.edges[calls, 0])
    if len(labels) > _MOST_CALLS:
        return None
    spend(2 * len(dfa.accept))
    if not len(labels):
        return _with_all(dfa)
    edges = dfa.edges.copy()
    edges[calls, 0] = len(dfa.words) + np.searchsorted(labels, edges[calls, 0])
    words = np.concatenate((dfa.words, _bits(len(labels))))
    made = _with_all(PackedDfa(words, edges, dfa.begin, dfa.accept, dfa.start))
    return _with_calls(made, labels)


def _with_all(dfa: PackedDfa) -> PackedDfa:
    """The product with all texts: the same automaton, trimmed and reduced, as products are."""
    arrays = dfa.words, dfa.edges, dfa.begin, dfa.accept, dfa.start
    return PackedDfa(*product(*arrays, *_ALL, 0, len(dfa.accept) + 1)[:5])


def _bits(count: int) -> Words:
    """Sets of one bit each, those behind the symbols."""
    bits = np.arange(SYMBOLS, SYMBOLS + count)
    words = np.zeros((count, 5), np.uint64)
    words[np.arange(count), bits >> 6] = np.uint64(1) << (bits & 63).astype(np.uint64)
    return words


def _with_calls(dfa: PackedDfa, labels: Int32) -> PackedDfa:
    """The same with an edge for each bit behind the symbols that a set has, and one for the rest."""
    low = np.uint64(SYMBOLS & 63)
    last = dfa.words[:, SYMBOLS >> 6]
    words = dfa.words.copy()
    words[:, SYMBOLS >> 6] &= (np.uint64(1) << low) - np.uint64(1)
    some = [bool(row.any()) for row in words]
    into = [
        [label for i, label in enumerate(labels.tolist()) if bits >> i & 1] + [number] * rest
        for number, (bits, rest) in enumerate(zip((last >> low).tolist(), some, strict=True))
    ]  # by set: the labels of the edges that one edge with it becomes
    sizes = np.array([len(row) for row in into], np.int32)
    flat = np.array([label for row in into for label in row], np.int32)
    times = sizes[dfa.edges[:, 0]]
    ends = np.concatenate((np.zeros(1, np.int32), np.cumsum(times, dtype=np.int32)))
    place = np.arange(ends[-1]) - np.repeat(ends[:-1], times)  # among the edges that one becomes
    edges = np.repeat(dfa.edges, times, axis=0)
    edges[:, 0] = flat[(np.cumsum(sizes) - sizes)[edges[:, 0]] + place]
    return PackedDfa(words, edges, ends[dfa.begin], dfa.accept, dfa.start)


__all__ = ["Products", "packed_product", "packed_reduction"]
