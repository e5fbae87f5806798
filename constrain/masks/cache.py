"""Masks by place, the oldest forgotten first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Row: TypeAlias = npt.NDArray[np.int32]


class MaskCache:
    """Read-only rows int32[ceil(V/32)] by place, at most so many.

    ``get`` needs no lock; the others are called with the automaton's lock held.
    """

    def __init__(self, most: int) -> None:
        self._rows: dict[int, Row] = {}
        self._order: deque[int] = deque()
        self._most = most
        self.get: Final[Callable[[int], Row | None]] = self._rows.get

    def keep(self, place: int, row: Row, *, only_once: bool = False) -> Row:
        """Stores a row, unless it is good only once, and returns it; it becomes read-only."""
        row.setflags(write=False)
        if only_once:
            return row
        if place not in self._rows:
            self._order.append(place)
        self._rows[place] = row
        if len(self._order) > self._most:
            self._rows.pop(self._order.popleft(), None)
        return row

    def clear(self) -> None:
        """Forgets all rows."""
        self._rows.clear()
        self._order.clear()

    @property
    def nbytes(self) -> int:
        """Memory of the rows."""
        return sum(row.nbytes for row in self._rows.values())

    def nbytes_beside(self, other: MaskCache) -> int:
        """Memory of the rows that another cache does not hold."""
        shared = set(map(id, other._rows.values()))
        return sum(row.nbytes for row in self._rows.values() if id(row) not in shared)
