"""One writer at a time for what threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_lock: Final = threading.Lock()


@contextmanager
def exclusive(shared: Any) -> Iterator[None]:
    """Waits until no other thread is inside such a block of the same object.

    Args:
        shared: an object that can be referenced weakly.
    """
    with _lock:
        own = _locks.setdefault(shared, threading.RLock())
    with own:
        yield
