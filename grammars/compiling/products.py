"""Intersections and complements of automata by kernels.

For a :class:`~grammars.compiling.building.RuleBuilder` whose automata are Python's own lists: they are
packed, at most once each, and only the last of several products is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grammars.compiling.automata import ALL_BYTES, EMPTY, Dfa, expand, settle
from grammars.compiling.encoding import PackedDfa
from grammars.compiling.regular_kernels import product
from grammars.errors import LimitExceeded
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


__all__ = ["Products", "packed_product"]
