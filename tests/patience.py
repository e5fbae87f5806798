"""How long tests wait for other threads and processes before they call them lost: no measure of speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 300.0
"""Seconds: far more than anything takes on a busy machine, as only what hangs is to fail by it."""


def wait_until(holds: Callable[[], object], state: Callable[[], object] = str) -> None:
    """Waits for a condition of other threads or processes, asked every 10 ms.

    Args:
        holds: the condition.
        state: what is shown where it does not come about.

    Raises:
        AssertionError: it does not hold within :data:`PATIENCE`.
    """
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"it did not come about in time: {state()}"
        time.sleep(0.01)
