"""Many documents in one process, in several and on a local Ray cluster; a worker is killed in the middle.

Made notices (``extraction_documents``), each with its number in the input, are read by the embedded
model with a small budget.  For each way of running: rows, rows with a value, documents a second over all
(models are loaded once more in each worker) and between the first and the last batch, and resident memory,
that of this process at the end and the largest of a worker.  In the last two runs a worker is killed
(SIGKILL) when a third of the documents is done; rows that are lost or doubled end the benchmark with an
error, and how many values are those of the first run is counted (batches are others then, and sums in
bfloat16 with them).

Usage: ``python benchmarks/bulk.py [--documents 200] [--workers 2] [--max-new-tokens 24] [--batch-size 8]
[--dtype bfloat16] [--ways "this process" ...] [--json]``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from extraction_documents import KINDS
from reporting import say, table
from workers import memory

from samplers.bulk.extractors import Extract, Settings
from samplers.bulk.run import DEFAULT_MODEL, checked_schema, extract_files

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "date": {"type": "string", "format": "date"},
        "kind": {"enum": ["event", "maintenance", "recall", "job"]},
    },
    "required": ["date", "kind"],
    "additionalProperties": False,
}
_TICK: Final = 0.2
"""Seconds between two looks at workers."""


@dataclass(frozen=True)
class Way:
    """How documents are read."""

    workers: int
    ray: bool = False
    killed: bool = False


@dataclass(frozen=True)
class Known:
    """Settings of a model whose workers leave their process's number in a folder."""

    settings: Settings
    folder: Path

    def __call__(self, worker: int) -> Extract:
        (self.folder / str(os.getpid())).touch()
        return self.settings(worker)


def ways(workers: int) -> dict[str, Way]:
    """By name; this process alone comes last, as it has a model from then on."""
    return {
        f"{workers} processes": Way(workers),
        "Ray, 1 actor": Way(1, ray=True),
        f"Ray, {workers} actors": Way(workers, ray=True),
        f"Ray, {workers} actors, one killed": Way(workers, ray=True, killed=True),
        f"{workers} processes, one killed": Way(workers, killed=True),
        "this process": Way(1),
    }


def write_documents(path: Path, count: int) -> None:
    """Lines of JSON with made notices."""
    with path.open("w") as stream:
        for number in range(count):
            text, _ = KINDS["notice"].make(number, random.Random(f"bulk {number}"))
            stream.write(json.dumps({"id": f"notice-{number}", "text": text}) + "\n")


class Watch:
    """Looks at workers: the largest memory of each, and kills one when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self.largest = 0
        self.killed: list[int] = []

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def kill(self) -> None:
        """Kills a worker that lives, once."""
        for pid in self._workers():
            if not self.killed:
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)

    def _workers(self) -> list[int]:
        pids = [int(path.name) for path in self._folder.iterdir()]
        return [pid for pid in pids if pid != os.getpid() and Path(f"/proc/{pid}").exists()]

    def _look(self) -> None:
        while not self._over.wait(_TICK):
            for pid in self._workers():
                self.largest = max(self.largest, memory("VmHWM", pid))


def measured(
    source: Path, way: Way, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], list[Any]]:
    """A record of one run, and its values.

    Raises:
        RuntimeError: if a row is missing, or there twice.
    """
    notes = folder / "workers"
    notes.mkdir(parents=True)
    watch = Watch(notes)
    told: list[tuple[float, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((time.monotonic(), done))
        if way.killed and done >= total // 3:
            watch.kill()

    _, wanted = checked_schema(SCHEMA, False)
    settings = Settings(
        wanted, DEFAULT_MODEL, max_new_tokens=options.max_new_tokens, dtype=options.dtype
    )
    with watch.watching():
        found = extract_files(
            source,
            SCHEMA,
            folder / "out",
            max_new_tokens=options.max_new_tokens,
            dtype=options.dtype,
            batch_size=options.batch_size,
            workers=way.workers,
            ray="local" if way.ray else None,
            progress=progress,
            extractor=Known(settings, notes),
        )
    rows = [json.loads(line) for line in (folder / "out" / "rows.jsonl").read_bytes().splitlines()]
    if [row["row"] for row in rows] != list(range(options.documents)):
        raise RuntimeError(f"{len(rows)} rows of {options.documents} documents")
    if way.killed and not watch.killed:
        raise RuntimeError("no worker was killed")
    (first, before), (last, after) = told[1], told[-1]
    record = {
        "rows": found.rows,
        "values": found.values,
        "s": round(found.seconds, 1),
        "documents/s": found.rows / found.seconds,
        "from first to last batch": (after - before) / (last - first) if last > first else None,
        "this process MiB": memory("VmRSS") >> 20,
        "largest worker MiB": watch.largest >> 20 or None,
    }
    return record, [row["value"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--ways", nargs="*", help="those that are run; by default all")
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    options = parser.parse_args()
    known = ways(options.workers)
    if unknown := [name for name in options.ways or () if name not in known]:
        parser.error(f"no way {unknown[0]!r}; there are {', '.join(known)}")
    records, first = [], None
    with tempfile.TemporaryDirectory() as made:
        source = Path(made) / "docs.jsonl"
        write_documents(source, options.documents)
        for number, name in enumerate(options.ways or known):
            record, values = measured(source, known[name], options, Path(made) / str(number))
            first = first or values
            same = sum(a == b for a, b in zip(first, values, strict=True))
            records.append({"way": name, **record, "values of the first": same})
            say(str(records[-1]))
    print(json.dumps(records) if options.json else table(records))


if __name__ == "__main__":
    main()
