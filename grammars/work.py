"""Counting of work: what ends a call on a stranger's input in time, the same on every machine.

States and nodes have limits of their own, but a search may visit the same few for ever.  So loops
that can grow say what they do, in units of about a microsecond, to a counter that belongs to the
public call they run under; where it has none left the call ends in ``LimitExceeded`` with the place
that was being worked on.  Work that is linear in the input is allowed beside the limit, which is for what
grows faster.  The counter is a context variable, so that calls in other threads and
tasks have their own, and so that functions between need not hand it on.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from grammars.errors import LimitExceeded
from grammars.limits import Limits


class _Counter:
    """The work that a public call has left."""

    __slots__ = ("doing", "left", "limit")

    def __init__(self, limit: int, left: int, doing: str) -> None:
        self.limit = limit
        self.left = left
        self.doing = doing


_current: ContextVar[_Counter | None] = ContextVar("work", default=None)


@contextmanager
def counted_work(limits: Limits, doing: str, more: int = 0) -> Iterator[None]:
    """Counts the work within against ``limits.max_work``; within another count that one goes on.

    Args:
        limits: whose ``max_work`` counts.
        doing: what is done, for the error: "compiling this grammar".
        more: units beside those of the limit, for what has to read a long input.

    Raises:
        LimitExceeded: for ``max_work``, from :func:`spend`.
    """
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be Limits(...), not {limits!r:.80}")
    if _current.get() is not None:
        yield
        return
    token = _current.set(_Counter(limits.max_work, limits.max_work + more, doing))
    try:
        yield
    finally:
        _current.reset(token)


def spend(units: int = 1) -> None:
    """Counts work done, in units of about a microsecond; nothing where no call counts.

    Raises:
        LimitExceeded: for ``max_work``.
    """
    counter = _current.get()
    if counter is not None:
        counter.left -= units
        if counter.left < 0:
            raise LimitExceeded("max_work", counter.limit, counter.doing)


def allow(units: int) -> None:
    """Gives the call that counts more work: what a larger input needs to be read at all."""
    counter = _current.get()
    if counter is not None:
        counter.left += units


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps Python's collector of circular garbage from running.

    Compiling makes many objects that stay until its end and hardly any circles.  Looking through them
    again and again would take a tenth of the time, and a look through all of the process, which may
    be in the middle of it, as long as compiling a large schema.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
