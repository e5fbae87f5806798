"""The input as a stream of documents: lines of JSON, a folder of texts, a Parquet file.

A document that cannot be read is one all the same, with the reason in place of the text: every
document of the input becomes a row of the output.  Only a few documents are in memory at a time.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from constrain.extras import require
from samplers.bulk.errors import BulkError

LARGEST: Final = 1 << 24
"""Bytes of the largest line or file that is read; larger ones become rows that say so."""
_LINES: Final = (".jsonl", ".ndjson")
_ROWS_AT_ONCE: Final = 64
"""Rows of a Parquet file that are in memory."""


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        row: its number in the input, from 0.
        id: what it is called there; its number where it has no name.
        text: what is read; ``None`` where that cannot be.
        error: why there is no text.
    """

    row: int
    id: str | int
    text: str | None
    error: str | None = None


class Source(Protocol):
    """A file or a folder of documents.

    Attributes:
        kind: ``jsonl``, ``folder`` or ``parquet``.
    """

    kind: str

    def count(self) -> int:
        """How many documents there are."""
        ...

    def digest(self) -> str:
        """SHA-256, in hex, of all that is read."""
        ...

    def documents(self, wanted: Callable[[int], bool]) -> Iterator[Document]:
        """The documents in their order, those left out whose row is not wanted."""
        ...


def source_of(path: Path, text_field: str, id_field: str, largest: int = LARGEST) -> Source:
    """What reads an input.

    Args:
        path: a ``.jsonl`` or ``.ndjson`` file, a ``.parquet`` file, or a folder of text files.
        text_field: the field or column of the text.
        id_field: that of the name, if there is one.
        largest: bytes of the largest document that is read.

    Raises:
        BulkError: for anything else.
    """
    if path.is_dir():
        return Folder(path, largest)
    if not path.exists():
        raise BulkError(f"{path}: no such file or folder")
    if path.suffix in _LINES:
        return Lines(path, text_field, id_field, largest)
    if path.suffix == ".parquet":
        return Parquet(path, text_field, id_field, largest)
    raise BulkError(
        f"{path}: give documents as .jsonl (one JSON object a line), .parquet, or a folder of text files"
    )


# -- lines of JSON ---------------------------------------------------------------------------------


class Lines:
    """Lines of JSON, one object each; blank lines are no documents."""

    kind = "jsonl"

    def __init__(self, path: Path, text_field: str, id_field: str, largest: int) -> None:
        self._path, self._text, self._id, self._largest = path, text_field, id_field, largest

    def count(self) -> int:
        return sum(1 for _ in self._lines())

    def digest(self) -> str:
        return _digest(self._path)

    def documents(self, wanted: Callable[[int], bool]) -> Iterator[Document]:
        for row, (number, line) in enumerate(self._lines()):
            if wanted(row):
                yield self._document(row, number, line)

    def _lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Line numbers, from 1, and lines; ``None`` for one that is too long."""
        with self._path.open("rb") as stream:
            for number, line in enumerate(_bounded(stream, self._largest), 1):
                if line is None or line.strip():
                    yield number, line.removeprefix(codecs.BOM_UTF8) if line else line

    def _document(self, row: int, number: int, line: bytes | None) -> Document:
        def bad(why: str, name: str | int = row) -> Document:
            return Document(row, name, None, f"line {number}: {why}")

        if line is None:
            return bad(_too_large(self._largest))
        try:
            record = json.loads(line.decode().strip())
        except UnicodeDecodeError as error:
            return bad(f"no UTF-8, from byte {error.start} of the line on")
        except json.JSONDecodeError as error:
            return bad(f"no JSON, at column {error.colno}: {error.msg}")
        except (ValueError, RecursionError) as error:  # numbers too long, arrays too deep
            return bad(f"no JSON that can be read: {error}")
        if not isinstance(record, dict):
            return bad(f"no JSON object, which has the text as its field {self._text!r}")
        name = _name(record.get(self._id), row)
        if self._text not in record:
            there = ", ".join(map(repr, list(record)[:8])) or "none at all"
            return bad(f"no field {self._text!r} (text_field); there are {there}", name)
        text = record[self._text]
        if not isinstance(text, str):
            return bad(f"{self._text!r} is no text", name)
        return _whole(row, name, text, f"line {number}: ")


def _bounded(stream: BinaryIO, largest: int) -> Iterator[bytes | None]:
    """Lines, without reading more of one than is allowed."""
    while line := stream.readline(largest + 1):
        fits = len(line) <= largest or line.endswith(b"\n")
        rest = line
        while not rest.endswith(b"\n") and (rest := stream.readline(largest + 1)):
            pass
        yield line if fits else None


# -- folders ---------------------------------------------------------------------------------------


class Folder:
    """The files of a folder and of those in it, each a text, in the order of their names.

    What begins with a point is left out, and links to folders are not followed.
    """

    kind = "folder"

    def __init__(self, path: Path, largest: int) -> None:
        self._path, self._largest = path, largest

    def count(self) -> int:
        return sum(1 for _ in self._files(self._path))

    def digest(self) -> str:
        made = hashlib.sha256()
        for path in self._files(self._path):
            try:
                one = _digest(path) if path.is_file() else "no file"
            except OSError:  # its row will say so
                one = "not read"
            name = os.fsencode(path.relative_to(self._path))
            made.update(f"{one} {len(name)} ".encode() + name)
        return made.hexdigest()

    def documents(self, wanted: Callable[[int], bool]) -> Iterator[Document]:
        for row, path in enumerate(self._files(self._path)):
            if wanted(row):
                yield self._document(row, path)

    def _files(self, folder: Path) -> Iterator[Path]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(Path(entry.path))
            elif not entry.is_dir():
                yield Path(entry.path)

    def _document(self, row: int, path: Path) -> Document:
        raw = os.fsencode(path.relative_to(self._path).as_posix())
        name = raw.decode("utf-8", "backslashreplace")
        try:
            if not path.is_file():
                return Document(row, name, None, "no file of texts")
            with path.open("rb") as stream:
                data = stream.read(self._largest + 1)
            if len(data) > self._largest:
                return Document(row, name, None, _too_large(self._largest))
            return Document(row, name, data.removeprefix(codecs.BOM_UTF8).decode())
        except UnicodeDecodeError as error:
            return Document(row, name, None, f"no UTF-8, from byte {error.start} on")
        except OSError as error:
            return Document(row, name, None, f"cannot be read: {error.strerror}")


# -- Parquet ---------------------------------------------------------------------------------------


class Parquet:
    """A Parquet file with a column of texts."""

    kind = "parquet"

    def __init__(self, path: Path, text_field: str, id_field: str, largest: int) -> None:
        require("a Parquet file", "pyarrow")
        self._path, self._text, self._id, self._largest = path, text_field, id_field, largest
        with self._opened() as file:
            names = file.schema_arrow.names
            if text_field not in names:
                raise BulkError(
                    f"{path}: no column {text_field!r} (text_field); there are {', '.join(names)}"
                )
            kind = str(file.schema_arrow.field(text_field).type)
        if "string" not in kind and "binary" not in kind:
            raise BulkError(f"{path}: the column {text_field!r} has no texts, but {kind}")
        self._columns = [name for name in (text_field, id_field) if name in names]

    def _opened(self) -> Any:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            return ParquetFile(self._path)
        except pyarrow.ArrowException as error:
            raise BulkError(f"{self._path}: no Parquet file: {error}") from None

    def count(self) -> int:
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def digest(self) -> str:
        return _digest(self._path)

    def documents(self, wanted: Callable[[int], bool]) -> Iterator[Document]:
        import pyarrow

        row = 0
        with self._opened() as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=self._columns):
                column = batch.column(self._text)
                if pyarrow.types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                texts = column.cast(pyarrow.large_binary())  # bytes that are no UTF-8 are kept
                names = batch.column(self._id) if self._id in self._columns else None
                for i in range(len(texts)):
                    if wanted(row):
                        name = row if names is None else _name(names[i].as_py(), row)
                        yield self._document(row, name, texts[i].as_py())
                    row += 1

    def _document(self, row: int, name: str | int, data: bytes | None) -> Document:
        if data is None:
            return Document(row, name, None, f"{self._text!r} is null")
        if len(data) > self._largest:
            return Document(row, name, None, _too_large(self._largest))
        try:
            return Document(row, name, data.decode())
        except UnicodeDecodeError as error:
            return Document(row, name, None, f"no UTF-8, from byte {error.start} on")


# -- common ----------------------------------------------------------------------------------------


def _whole(row: int, name: str | int, text: str, place: str) -> Document:
    """A document whose text has no halves of signs, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        why = f"{place}half of a surrogate pair at character {error.start}"
        return Document(row, name, None, why)
    return Document(row, name, text)


def _name(given: Any, row: int) -> str | int:
    """What a document is called: its text or number, other values as JSON."""
    if given is None:
        return row
    if isinstance(given, str) or type(given) is int:
        return given
    return json.dumps(given, default=str)


def _too_large(largest: int) -> str:
    return f"larger than {largest:,} bytes, which is the most that is read of one document"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
