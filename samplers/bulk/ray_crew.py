"""Workers that are actors on a Ray cluster.

Actors, not a pipeline of Ray Data: its readers end at the first line that is no JSON, and what its
writers have finished cannot be told row by row, so that a run could not go on where it stopped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from constrain.extras import require
from samplers.bulk.crews import Died, Done, Event, Failed, Ready
from samplers.bulk.documents import Document
from samplers.bulk.errors import BulkError
from samplers.bulk.extractors import Extract, MakeExtract, rows_of
from samplers.bulk.rows import told

LOCAL: Final = "local"
_STORE: Final = 1 << 28
"""Bytes of the store of a cluster that is begun here: it holds a batch for each worker."""


@contextlib.contextmanager
def cluster(address: str, workers: int) -> Iterator[None]:
    """Connects to a cluster, or to the one there is already, and leaves it as it was.

    Args:
        address: ``local`` begins one on this machine, with a processor for each worker.
        workers: how many there will be.

    Raises:
        MissingExtra: if Ray is not installed.
        BulkError: if no cluster answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no reports to anybody
    require("a Ray cluster", "ray")
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    own: dict[str, Any] = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": _STORE,
    }
    try:
        ray.init(address=address, **quiet, **(own if address == LOCAL else {}))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BulkError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


class _Actor:
    """A worker; its model is loaded by a call, so that an error of it is that call's."""

    def __init__(self) -> None:
        self._extract: Extract | None = None

    def load(self, make: MakeExtract, number: int) -> Event:
        try:
            self._extract = make(number)
        except Exception as error:
            return Failed(told(error))
        return Ready()

    def read(self, documents: Sequence[Document]) -> Event:
        assert self._extract is not None
        try:
            return Done(rows_of(self._extract, documents))
        except Exception as error:
            return Failed(told(error))


class RayCrew:
    """Actors of a cluster that is connected, a processor each, and a GPU where models run on one.

    An actor that ends is not begun again by Ray, nor are its calls: that is told, and begun here, so that
    the documents it had can be counted.
    """

    def __init__(self, make: MakeExtract, workers: int, *, gpu: bool = False) -> None:
        import ray

        self._ray = ray
        self._made = ray.put(make)
        kind = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0, max_task_retries=0)
        self._kind: Any = kind(_Actor)
        self._gpu = gpu
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        for number in range(workers):
            self._begin(number)

    def _begin(self, number: int) -> None:
        # Ray shows an actor the one GPU that it has, which is number 0 there
        shown = 0 if self._gpu else number
        self._actors[number] = self._kind.remote()
        self._calls[self._actors[number].load.remote(self._made, shown)] = number

    def give(self, worker: int, documents: Sequence[Document]) -> None:
        self._calls[self._actors[worker].read.remote(list(documents))] = worker

    def next(self) -> tuple[int, Event]:
        (call,), _ = self._ray.wait(list(self._calls), num_returns=1)
        number = self._calls.pop(call)
        try:
            event: Event = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            return number, Failed(told(error.cause))
        except self._ray.exceptions.RayError as error:
            self._end(number)
            self._begin(number)
            return number, Died(_first_line(error))
        return number, event

    def _end(self, number: int) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actors.pop(number))

    def close(self) -> None:
        for number in list(self._actors):
            self._end(number)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
