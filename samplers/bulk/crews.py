"""Workers, each with a model of its own: in this process, or in others.

A crew is told which worker gets which documents, and is asked what happened next.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Protocol, TypeAlias

from samplers.bulk.documents import Document
from samplers.bulk.extractors import Extract, MakeExtract, rows_of
from samplers.bulk.rows import Row, told

_PATIENCE: Final = 5.0
"""Seconds that a worker is given to end by itself."""


@dataclass(frozen=True)
class Ready:
    """A worker has its model, and takes documents."""


@dataclass(frozen=True)
class Done:
    """A worker has read what it was given, and takes more."""

    rows: list[Row]


@dataclass(frozen=True)
class Died:
    """A worker ended, for a reason; another one has been begun in its place."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """A worker cannot go on, and none could."""

    message: str


Event: TypeAlias = Ready | Done | Died | Failed


class Crew(Protocol):
    """Some workers, by number."""

    def give(self, worker: int, documents: Sequence[Document]) -> None:
        """Gives documents to a worker that is ready and has none."""
        ...

    def next(self) -> tuple[int, Event]:
        """Waits for what happens next, and says to which worker."""
        ...

    def close(self) -> None:
        """Ends all workers, whatever they do."""
        ...


class Alone:
    """One worker: the process itself."""

    def __init__(self, make: MakeExtract) -> None:
        self._make = make
        self._extract: Extract | None = None
        self._given: Sequence[Document] = ()

    def give(self, worker: int, documents: Sequence[Document]) -> None:
        self._given = documents

    def next(self) -> tuple[int, Event]:
        if self._extract is None:
            self._extract = self._make(0)
            return 0, Ready()
        return 0, Done(rows_of(self._extract, self._given))

    def close(self) -> None:
        self._extract = None


# -- processes -------------------------------------------------------------------------------------


class Processes:
    """Processes of this machine, which begin anew (spawn) and are connected by pipes."""

    def __init__(self, make: MakeExtract, workers: int) -> None:
        self._make = make
        self._context = multiprocessing.get_context("spawn")
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._workers: list[tuple[BaseProcess, Connection]] = []
        try:
            for number in range(workers):
                self._workers.append(self._begun(number))
        except BaseException:
            self.close()
            raise

    def _begun(self, number: int) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve,
            args=(theirs, self._make, number, self._threads),
            name=f"gramma-worker-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return process, ours

    def give(self, worker: int, documents: Sequence[Document]) -> None:
        with contextlib.suppress(OSError):  # it has ended, which next() will tell
            self._workers[worker][1].send(list(documents))

    def next(self) -> tuple[int, Event]:
        numbers = {pipe: number for number, (_, pipe) in enumerate(self._workers)}
        pipe: Any = wait(list(numbers))[0]
        number = numbers[pipe]
        try:
            event: Event = pipe.recv()
        except (EOFError, OSError):
            process, _ = self._workers[number]
            pipe.close()
            process.join(_PATIENCE)
            reason = f"its process ended with status {process.exitcode}"
            self._workers[number] = self._begun(number)
            return number, Died(reason)
        return number, event

    def close(self) -> None:
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(pipe: Connection, make: MakeExtract, number: int, threads: int) -> None:
    """The life of a worker's process; it ends with the process that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that reads and writes
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with contextlib.suppress(EOFError, OSError):
        try:
            extract = make(number)
            pipe.send(Ready())
            while True:
                pipe.send(Done(rows_of(extract, pipe.recv())))
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:
            pipe.send(Failed(told(error)))
