"""A process for tests of ``benchmarks/workers.py``: answers, stalls, dies or grows as it is told."""

from __future__ import annotations

import os
import time
from typing import Any


def obey(shared: Any, pipe: Any) -> None:
    """Repeats each order, unless that is to be lost."""
    pipe.send("ready")
    while (order := pipe.recv()) is not None:
        shared[0] += 1
        if order == "die":
            os._exit(1)
        kept = b"x" * (600 << 20) if order == "grow" else b""
        if order in ("grow", "stall"):
            time.sleep(60)
        pipe.send((order, len(kept)))
