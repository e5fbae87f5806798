"""Places of a core whose states are the places themselves: what is kept there, by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.engine.jit import kernels as k
from constrain.engine.pool import DEAD, FINISHED, NO_STATE
from grammars.errors import LimitExceeded, UnknownStateError
from grammars.limits import Limits

FIRST_PLACE: Final = 3
"""The integers below are reserved, as in the pool."""
_What = TypeVar("_What")


class Places(Generic[_What]):
    """Numbers given to hashable things in the order in which they are come upon; none is given twice.

    Args:
        limits: ``max_states`` bounds how many there are.

    Attributes:
        at: what has each number.
        numbers: the number of each.
    """

    def __init__(self, limits: Limits) -> None:
        self._most: Final = limits.max_states
        self.at: dict[int, _What] = {}
        self.numbers: dict[_What, int] = {}
        self._next = FIRST_PLACE

    def number(self, what: _What) -> int:
        """The number of a thing; a new one if it has none.

        Raises:
            LimitExceeded: for ``max_states``.
        """
        known = self.numbers.get(what)
        if known is None:
            if len(self.numbers) >= self._most:
                raise LimitExceeded(
                    "max_states",
                    self._most,
                    "this automaton (trim() releases states that are no longer needed)",
                )
            known = self.numbers[what] = self._next
            self.at[known] = what
            self._next += 1
        return known

    def place_of(self, state: int) -> int:
        """The state itself.

        Raises:
            ValueError: if it is none of this automaton's, or was forgotten.
        """
        if state in self.at or state in (DEAD, FINISHED):
            return state
        raise UnknownStateError(NO_STATE)

    def states_at(self, places: npt.NDArray[np.integer]) -> Int64:
        """The places themselves, int64[n]."""
        return places.astype(np.int64)

    def start_generation(self, number: int) -> None:
        """Numbers given from now on are not those of another copy (the start aside)."""
        self._next = number << k.SLOT_BITS

    def keep(self, places: Iterable[int]) -> Mapping[int, _What]:
        """Forgets all but the given places; returns what is left, by number."""
        self.at = {place: self.at[place] for place in places if place >= FIRST_PLACE}
        self.numbers = {what: place for place, what in self.at.items()}
        return self.at
