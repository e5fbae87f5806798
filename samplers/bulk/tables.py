"""Rows as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO, Final

from constrain.extras import require
from samplers.bulk.rows import json_of

_GROUP: Final = 4096
"""Rows of a group, which are in memory together."""


def write_table(stream: BinaryIO, records: Iterable[dict[str, Any]]) -> None:
    """Writes rows as Parquet; values, sources and confidences are JSON text.

    Columns: ``row`` int64, ``id`` string, ``value`` string or null, ``complete`` bool, ``error`` string or
    null, ``seconds`` double, ``tokens`` int64, ``sources`` string, ``confidence`` string.

    Raises:
        MissingExtra: if pyarrow is not installed.
    """
    require("a Parquet file", "pyarrow")
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = pyarrow.schema(
        [
            pyarrow.field("row", pyarrow.int64(), nullable=False),
            pyarrow.field("id", pyarrow.string(), nullable=False),
            pyarrow.field("value", pyarrow.string()),
            pyarrow.field("complete", pyarrow.bool_(), nullable=False),
            pyarrow.field("error", pyarrow.string()),
            pyarrow.field("seconds", pyarrow.float64(), nullable=False),
            pyarrow.field("tokens", pyarrow.int64(), nullable=False),
            pyarrow.field("sources", pyarrow.string(), nullable=False),
            pyarrow.field("confidence", pyarrow.string(), nullable=False),
        ]
    )
    with ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(map(_flat, records)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))


def _groups(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(records, _GROUP)):
        yield group


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    return record | {
        "id": _plain(str(record["id"])),
        "value": json_of(record["value"]) if record["complete"] else None,
        "error": None if record["error"] is None else _plain(record["error"]),
        "sources": json_of(record["sources"]),
        "confidence": json_of(record["confidence"]),
    }


def _plain(text: str) -> str:
    """Text that UTF-8 can write; halves of signs are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
