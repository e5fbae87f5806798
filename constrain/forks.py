"""Locks in processes that fork: a fork waits until what they guard is whole.

A forked process has one thread, the one that forked.  A lock that another thread held stays locked in it for
ever, and what it guards is left as it was in the middle of a change.  So before a fork the locks that are
known here are taken, and given back on both sides.  A program that is started anew (``subprocess``,
``spawn``) waits for nothing.

They are the locks of automata, taken by whoever makes one or asks it.  Nobody who holds one waits for
another, so that they may be taken in any order; what automata of one vocabulary share has locks of its own,
which are taken, for moments, by threads that hold one of these.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final
from weakref import WeakSet

_known: WeakSet[Guarded] = WeakSet()
_listing = threading.Lock()
_held: list[Any] = []


class Guarded:
    """A lock that forks wait for.

    Attributes:
        lock: an ``RLock``.
    """

    def __init__(self) -> None:
        self.lock: Final = threading.RLock()
        with _listing:
            _known.add(self)


def _locks() -> list[Any]:
    with _listing:
        return [guarded.lock for guarded in _known]


def _take_all() -> None:
    """Waits for all locks, those that are made meanwhile too; called by the thread that forks."""
    while fresh := [lock for lock in _locks() if not any(lock is known for known in _held)]:
        for lock in fresh:
            lock.acquire()
            _held.append(lock)


def _give_back() -> None:
    """Called by the thread that forked, in the parent."""
    while _held:
        _held.pop().release()


def _begin_anew() -> None:
    """Called by it in the child, where no other thread is left."""
    global _listing
    _listing = threading.Lock()
    _give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all, after_in_parent=_give_back, after_in_child=_begin_anew)
