"""Masks under a budget that were made before."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from constrain.masks.cache import MaskCache, Row

_SHARE: Final = 4
"""Masks without a budget that may be kept, by those kept that a budget made smaller."""
_NOT_YET: Final = 1 << 62


class BudgetRows:
    """Read-only masks under a budget by state: from how many tokens on it makes no difference, and others.

    ``get`` needs no lock; the others are called with the automaton's lock held.

    Args:
        whole: the masks without a budget.
        most: of those that it may keep.
    """

    def __init__(self, whole: MaskCache, most: int) -> None:
        self._whole = whole
        self._enough: dict[int, int] = {}
        self._tight: OrderedDict[tuple[int, int], Row] = OrderedDict()
        self._most = max(1, most // _SHARE)

    def get(self, state: int, tokens_left: int) -> Row | None:
        """The mask of a state with so many tokens left, if it is known."""
        if tokens_left >= self._enough.get(state, _NOT_YET):
            return self._whole.get(state)
        return self._tight.get((state, tokens_left))

    def keep(self, state: int, tokens_left: int, row: Row, whole: Row, enough: int) -> None:
        """Stores a mask.

        Args:
            row: the mask of the state with so many tokens left.
            whole: its mask without a budget; the same object where the budget makes no difference.
            enough: where it makes none, tokens from which on it never does.
        """
        if row is not whole:
            self._tight[state, tokens_left] = row
            if len(self._tight) > self._most:
                self._tight.popitem(last=False)
            return
        if len(self._enough) >= _MOST_STATES:
            self._enough.clear()
        if self._whole.get(state) is None:
            self._whole.keep(state, whole)
        self._enough[state] = min(enough, self._enough.get(state, _NOT_YET))

    def clear(self) -> None:
        """Forgets all."""
        self._enough.clear()
        self._tight.clear()

    @property
    def nbytes(self) -> int:
        """Memory of the rows that are kept nowhere else."""
        return sum(row.nbytes for row in self._tight.values())


_MOST_STATES: Final = 1 << 17
