"""The folder of the output: whose run it is, the rows that are finished, and the files at last.

``manifest.json`` says of which input, schema and settings the rows are.  Finished rows are in
``parts/``, a file for some rows that follow each other, named by them; each appears whole, under its
name, so that a run that is killed leaves either all of its rows or none.  What is there when a run
begins is not read again.  The files of the output are put together from the parts, in the order
of the input.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

from samplers.bulk.errors import BulkError
from samplers.bulk.rows import Row

Format: TypeAlias = Literal["jsonl", "parquet", "both"]
FORMATS: Final[tuple[Format, ...]] = ("jsonl", "parquet", "both")

_MANIFEST: Final = "manifest.json"
_PARTS: Final = "parts"
_LOCK: Final = ".lock"
_NAME: Final = re.compile(r"rows-(\d{12})-(\d{12})\.jsonl")
_HEAD: Final = {"format": "gramma-bulk", "version": 1}
_TOGETHER: Final = 256
"""Parts that follow each other until they are put together into one."""


@dataclass(frozen=True, order=True)
class Part:
    """Rows that follow each other: from ``first`` on, before ``end``."""

    first: int
    end: int

    @property
    def name(self) -> str:
        """That of its file."""
        return f"rows-{self.first:012}-{self.end:012}.jsonl"


class Store:
    """The folder of a run, to which one process at a time may write; see :func:`opened`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = list(self._whole_parts())
        self._large: list[Part] = []
        self._small: list[Part] = []

    def __contains__(self, row: int) -> bool:
        """Whether a row was finished before this run began."""
        at = bisect_right(self._before, row, key=lambda part: part.first) - 1
        return at >= 0 and row < self._before[at].end

    def __len__(self) -> int:
        """Rows that were finished before this run began."""
        return sum(part.end - part.first for part in self._before)

    def _whole_parts(self) -> Iterator[Part]:
        """The parts that are there, in order; what is left of writing and putting together goes away."""
        folder = self._folder / _PARTS
        folder.mkdir(exist_ok=True)
        found = []
        for path in folder.iterdir():
            named = _NAME.fullmatch(path.name)
            if named is None:
                if path.name.startswith("."):
                    path.unlink()
                continue
            part = Part(int(named[1]), int(named[2]))
            if _lines_in(path) == part.end - part.first:
                found.append(part)
            else:  # cut off, as by a machine that lost its power
                path.unlink()
        end = 0
        for part in sorted(found, key=lambda part: (part.first, -part.end)):
            if part.end <= end:  # it is in the one before
                (folder / part.name).unlink()
            elif part.first < end:
                raise BulkError(
                    f"{folder / part.name} has rows that are in another part; delete it"
                )
            else:
                end = part.end
                yield part

    def write(self, rows: Sequence[Row]) -> None:
        """Keeps rows that follow each other."""
        part = Part(rows[0].row, rows[-1].row + 1)
        if [one.row for one in rows] != list(range(part.first, part.end)):
            raise ValueError("rows of a part follow each other")
        with appearing(self._folder / _PARTS / part.name) as stream:
            stream.writelines(row.line() for row in rows)
        self._small.append(part)
        if len(self._small) >= 2 * _TOGETHER:
            runs, self._small = list(_runs(self._small)), []
            for run in runs:
                if len(run) >= _TOGETHER:
                    self._large.append(self._put_together(run))
                else:
                    self._small += run

    def _put_together(self, run: Sequence[Part]) -> Part:
        """One part of many that follow each other, so that a folder of millions of rows has few files."""
        folder = self._folder / _PARTS
        whole = Part(run[0].first, run[-1].end)
        with appearing(folder / whole.name) as stream:
            for part in run:
                stream.write((folder / part.name).read_bytes())
        for part in run:
            (folder / part.name).unlink()
        return whole

    def lines(self, total: int) -> Iterator[bytes]:
        """The lines of all rows in their order.

        Raises:
            BulkError: if one is not there, or a part is damaged.
        """
        folder, end = self._folder / _PARTS, 0
        for part in sorted([*self._before, *self._large, *self._small]):
            if part.first != end:
                break
            end = part.end
            with (folder / part.name).open("rb") as stream:
                yield from stream
        if end != total:
            raise BulkError(
                f"{self._folder}: row {end} of {total} is missing: the input changed while it was read, or "
                "a part was deleted; run the same command again"
            )

    def finish(self, total: int, format_: Format) -> tuple[list[Path], int]:
        """Writes the files of the output; they appear when they are complete.

        Returns:
            The files, and how many rows have an error.
        """
        errors = 0
        for number, record in enumerate(self.records(total)):
            if record.get("row") != number:
                raise BulkError(f"{self._folder}: row {number} is not where it should be")
            errors += record["error"] is not None
        made = []
        if format_ in ("jsonl", "both"):
            made.append(self._folder / "rows.jsonl")
            with appearing(made[-1]) as stream:
                stream.writelines(self.lines(total))
        if format_ in ("parquet", "both"):
            from samplers.bulk.tables import write_table

            made.append(self._folder / "rows.parquet")
            with appearing(made[-1]) as stream:
                write_table(stream, self.records(total))
        return made, errors

    def records(self, total: int) -> Iterator[dict[str, Any]]:
        """All rows in their order, as plain data."""
        for number, line in enumerate(self.lines(total)):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise BulkError(
                    f"{self._folder / _PARTS}: row {number} is damaged ({error}); delete the part that has "
                    "it, and run the same command again"
                ) from None


def _runs(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts that follow each other without a gap."""
    run: list[Part] = []
    for part in sorted(parts):
        if run and run[-1].end != part.first:
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def _lines_in(path: Path) -> int:
    """How many lines a file has; -1 if the last one is cut off."""
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
    return count if last == b"\n" else -1


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is complete and on disk.

    Its permissions are those of any new file.  One process at a time may write it.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# -- whose run it is -------------------------------------------------------------------------------


@contextmanager
def opened(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Store]:
    """The folder of a run, made if there is none.

    Args:
        folder: where.
        manifest: of which input, schema and settings its rows are, as JSON has it.

    Raises:
        BulkError: if it is another run's, has something else, or a run is writing there now.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BulkError(f"{folder}: another run is writing there now") from None
    try:
        _check(folder, manifest)
        yield Store(folder)
    finally:
        lock.release()


def _check(folder: Path, manifest: Mapping[str, Any]) -> None:
    path = folder / _MANIFEST
    wanted = json.loads(json.dumps({**_HEAD, **manifest}))
    if not path.exists():
        if {entry.name for entry in folder.iterdir()} - {_LOCK, f".{_MANIFEST}"}:
            raise BulkError(f"{folder} has files of something else; give an empty folder, or none")
        with appearing(path) as stream:
            stream.write(json.dumps(wanted, ensure_ascii=False, indent=1).encode() + b"\n")
        return
    try:
        there = json.loads(path.read_bytes())
    except ValueError:
        there = None
    anew = f"to start anew give another folder, or delete {folder}"
    if not isinstance(there, dict) or there.get("format") != _HEAD["format"]:
        raise BulkError(f"{path} is damaged; {anew}")
    different = list(_differences(there, wanted))
    if different:
        raise BulkError(f"{folder} has rows of another run: {'; '.join(different)}; {anew}")


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What two manifests differ in, in words."""
    for name in sorted(there.keys() | wanted.keys()):
        before, now = there.get(name), wanted.get(name)
        if json.dumps(before) == json.dumps(now):  # the order of keys counts
            continue
        if name in ("input", "schema"):
            yield f"the {name} has changed"
        else:
            yield f"{name} was {json.dumps(before)} and is {json.dumps(now)}"
