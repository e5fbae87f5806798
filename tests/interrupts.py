"""Ctrl-C for commands that a test runs."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Undoes, in a child before its command, that Ctrl-C is ignored, as shells have it in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
