"""A bounded memory of parts that many grammars have."""

from __future__ import annotations

from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """Values by content; the oldest give way.

    Args:
        room: the size of all of them together.
    """

    def __init__(self, room: int) -> None:
        self._most = room
        self._room = room
        self._known: dict[object, tuple[T, int]] = {}
        self._lock = Lock()

    def get(self, key: object) -> T | None:
        """What was kept; it must not be changed."""
        known = self._known.get(key)
        return None if known is None else known[0]

    def keep(self, key: object, value: T, size: int) -> None:
        """Keeps a value, unless it is more than an eighth of all."""
        if 8 * size > self._most:
            return
        with self._lock:
            old = self._known.pop(key, None)
            self._known[key] = value, size
            self._room -= size - (old[1] if old is not None else 0)
            while self._room < 0:
                _, size = self._known.pop(next(iter(self._known)))
                self._room += size
