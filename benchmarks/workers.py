"""Processes that engines run in, one each: begun anew where they stall, die or grow too large."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_PAUSE: Final = 0.1
"""Seconds between two looks at a process that has not answered."""


class LostError(Exception):
    """A process gave no answer; the message says why: "slow", "died" or "memory"."""


class Worker:
    """The process of an engine, begun anew where it is lost.

    Args:
        serve: what runs in the process: it gets ``args`` and then its end of a pipe, sends
            something once it is ready, and answers tasks until it receives ``None``.
        args: what ``serve`` gets first; picklable, or shared memory.
        seconds: for one task.
        gigabytes: resident, beyond which a process is given up.
    """

    def __init__(
        self,
        serve: Callable[..., None],
        args: tuple[Any, ...],
        seconds: float,
        gigabytes: float = float("inf"),
    ) -> None:
        self._serve = serve
        self._args = args
        self._seconds = seconds
        self._bytes = gigabytes * 1e9
        self._process: Any = None
        self._pipe: Any = None

    def begin(self) -> None:
        """Starts the process, if there is none, and waits until it is ready.

        Raises:
            LostError: if it dies before.
        """
        if self._process is not None:
            return
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(*self._args, theirs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._pipe.recv()
        except EOFError:
            self.stop()
            raise LostError("died") from None

    def ask(self, task: Any) -> Any:
        """The answer to a task.

        Raises:
            LostError: if there is none; the next task gets a new process.
        """
        self.begin()
        self._pipe.send(task)
        until = time.monotonic() + self._seconds
        why = "slow"
        while time.monotonic() < until:
            try:
                if self._pipe.poll(_PAUSE):
                    return self._pipe.recv()
            except (EOFError, ConnectionError):
                why = "died"
                break
            if memory("VmRSS", self._process.pid) > self._bytes:
                why = "memory"
                break
        self.stop()
        raise LostError(why)

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def memory(kind: str, process: int | str = "self") -> int:
    """Bytes of a process: ``VmRSS`` now, ``RssAnon`` without files and shared memory, ``VmHWM`` at its peak.

    0 if there is no such process any more.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(kind)), 0)
