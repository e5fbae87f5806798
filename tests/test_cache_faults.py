"""Faults of caches on disk: rebuilt or gone without, one warning at most, and the same results.

Each cache meets each fault: its content damaged, its place taken by something else, a file system that is
full or fails, and what a killed process leaves.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patience import PATIENCE
from test_canonical import trained, vocabulary
from test_fragments import long_words

from constrain.canonical import rules
from constrain.vocabulary.trie import Trie
from grammars import Grammar, cache_folder, program_files
from grammars.compiling import fragments
from grammars.compiling.kernel_compiler import compile_by_kernels
from grammars.compiling.shelf import Shelf
from grammars.limits import DEFAULT_LIMITS

TEXTS = [bytes([i]) for i in range(256)] + [b"ab%d" % i for i in range(300)]
PROGRAM = {"enum": ["a", "b", 3]}


def _digest(*arrays: Any) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(repr((array.dtype, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _trie() -> str:
    trie = Trie.cached(TEXTS)
    return _digest(
        trie.byte, trie.depth, trie.skip, trie.token_start, trie.tokens, trie.suffix_class
    )


def _merges() -> str:
    arrays = rules._arrays(trained("gpt2").to_str(), vocabulary("gpt2"), False)
    return _digest(*(arrays[name] for name in sorted(arrays)))


def _program() -> str:
    grammar = Grammar.from_json_schema(PROGRAM)
    texts = [b'"a"', b'"b"', b"3", b'"c"', b"", b"33"]
    return f"{[grammar.accepts(text) for text in texts]} {grammar.sample(1)!r}"


def _rule() -> str:
    fragments._KEPT = Shelf(1_000_000)  # type: ignore[misc]  # as in another process
    made = compile_by_kernels(long_words(b"!"), DEFAULT_LIMITS)
    assert made is not None
    return _digest(*(value for value in vars(made).values() if isinstance(value, np.ndarray)))


CACHES: dict[str, tuple[str, Callable[[], str]]] = {
    "trie": ("trie", _trie),
    "merges": ("merges", _merges),
    "program": ("programs", _program),
    "rule": ("programs", _rule),
}
"""The folder of each cache, and what it is for."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The cache folder, in which all that is made is kept; warnings are given anew."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRAMMA_CACHE", str(folder))
    monkeypatch.setenv(program_files.SWITCH, "on")
    monkeypatch.setattr(program_files, "LEAST_STATES", 1)
    monkeypatch.setattr(cache_folder, "_warned", set())
    before = fragments._KEPT
    yield folder
    fragments._KEPT = before  # type: ignore[misc]


@cache
def wanted(name: str) -> str:
    """The result without a cache."""
    environment = dict(os.environ)
    os.environ["GRAMMA_CACHE"] = os.devnull
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CACHES[name][1]()
    finally:
        os.environ.clear()
        os.environ.update(environment)


def run(name: str) -> list[str]:
    """The warnings of a run, whose result must be the one without a cache."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert CACHES[name][1]() == wanted(name)
    return [str(w.message) for w in seen if issubclass(w.category, RuntimeWarning)]


def the_file(root: Path, name: str) -> Path:
    """The one file of a cache; parts of programs are kept beside them."""
    pattern = "*.rule" if name == "rule" else "*.bin" if name == "program" else "*.npz"
    (file,) = (root / CACHES[name][0]).glob(pattern)
    return file


# --- content --------------------------------------------------------------------------------------


def _flip(data: bytes, every: int, bit: int) -> bytes:
    out = bytearray(data)
    for at in range(every // 2, len(out), every):
        out[at] ^= 1 << bit
    return bytes(out)


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _another_version(data: bytes) -> bytes:
    if data.startswith(b"gramma program"):
        return data.replace(b"gramma program 3", b"gramma program 9", 1)
    with np.load(io.BytesIO(data)) as archive:
        return _npz(**{f"{name}_of_tomorrow": archive[name] for name in archive.files})


def _of_other_kinds(data: bytes) -> bytes:
    """Arrays of other numbers, with right checksums."""
    if data.startswith(b"gramma program"):
        return program_files.file_of({"plain": {}, "head": {}, "parts": [[1, 2, 3]]}, {})[0]
    with np.load(io.BytesIO(data)) as archive:
        return _npz(**{name: archive[name].astype(np.float64) for name in archive.files})


def _of_other_lengths(data: bytes) -> bytes:
    if data.startswith(b"gramma program"):
        return data + bytes(64)
    with np.load(io.BytesIO(data)) as archive:
        return _npz(**{name: archive[name][:-1] for name in archive.files})


def _leading_elsewhere(data: bytes) -> bytes:
    if data.startswith(b"gramma program"):
        return data[:-64]
    with np.load(io.BytesIO(data)) as archive:
        found = {name: archive[name].copy() for name in archive.files}
    for array in found.values():
        if array.dtype == np.int32 and len(array):
            array[len(array) // 2] = 2**30
    return _npz(**found)


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut to a half": lambda data: data[: len(data) // 2],
    "cut by a byte": lambda data: data[:-1],
    "cut behind its head": lambda data: data[:40],
    "zeros": lambda data: bytes(len(data)),
    "noise": lambda data: random.Random(0).randbytes(len(data)),
    **{
        f"bit {bit} of every {every}th byte": lambda data, every=every, bit=bit: _flip(
            data, every, bit
        )
        for every, bit in ((1, 7), (3, 0), (64, 3), (257, 4), (1_021, 1))
    },
    "another version": _another_version,
    "other kinds of numbers": _of_other_kinds,
    "other lengths": _of_other_lengths,
    "numbers that lead elsewhere": _leading_elsewhere,
}


@pytest.mark.parametrize("fault", CONTENTS)
@pytest.mark.parametrize("name", CACHES)
def test_damaged_content_is_made_again(name: str, fault: str, root: Path) -> None:
    assert run(name) == []
    file = the_file(root, name)
    whole = file.read_bytes()
    file.write_bytes(CONTENTS[fault](whole))
    assert len(run(name)) <= 1
    assert the_file(root, name).read_bytes() == whole, "written again"
    assert run(name) == []


@pytest.mark.parametrize("name", CACHES)
def test_single_bits(name: str, root: Path) -> None:
    """Sixty of them, half near the ends, where archives keep what they hold."""
    run(name)
    file = the_file(root, name)
    whole = file.read_bytes()
    r = random.Random(4)
    for number in range(60):
        at = r.randrange(len(whole))
        if number % 2:
            at = r.choice([r.randrange(min(400, len(whole))), len(whole) - 1 - r.randrange(400)])
        data = bytearray(whole)
        data[at] ^= 1 << r.randrange(8)
        file.write_bytes(data)
        cache_folder._warned.clear()
        assert len(run(name)) <= 1, at


# --- its place ------------------------------------------------------------------------------------


def _replaced(make: Callable[[Path], object]) -> Callable[[Path, Path], None]:
    def change(_: Path, file: Path) -> None:
        file.unlink()
        make(file)

    return change


def _folder_replaced(make: Callable[[Path], object]) -> Callable[[Path, Path], None]:
    def change(root: Path, file: Path) -> None:
        file.parent.rename(root / "aside")
        make(file.parent)

    return change


def _filled(folder: Path) -> None:
    folder.mkdir()
    (folder / "something").write_text("dear to somebody")


PLACES: dict[str, Callable[[Path, Path], object]] = {
    "a folder": _replaced(Path.mkdir),
    "a folder with files": _replaced(_filled),
    "a link to nowhere": _replaced(lambda file: file.symlink_to("/dev/null/place")),
    "a link to itself": _replaced(lambda file: file.symlink_to(file)),
    "a link to an endless file": _replaced(lambda file: file.symlink_to("/dev/full")),
    "a link to what cannot be read": _replaced(lambda file: file.symlink_to("/proc/self/mem")),
    "its folder a file": _folder_replaced(lambda folder: folder.write_text("")),
    "its folder a link to nowhere": _folder_replaced(
        lambda folder: folder.symlink_to("/dev/null/place")
    ),
    "its folder open to everybody": lambda root, file: file.parent.chmod(0o777),
    "the cache folder a file": lambda root, file: (
        root.rename(root.with_name("aside")),
        root.write_text(""),
    ),
    "the cache folder a link to itself": lambda root, file: (
        root.rename(root.with_name("aside")),
        root.symlink_to(root),
    ),
}


@pytest.mark.parametrize("fault", PLACES)
@pytest.mark.parametrize("name", CACHES)
def test_places_that_are_taken(name: str, fault: str, root: Path) -> None:
    run(name)
    PLACES[fault](root, the_file(root, name))
    assert len([*run(name), *run(name)]) <= 1
    aside = [path.read_text() for path in root.rglob("something")]
    assert aside in ([], ["dear to somebody"]), "nothing of others is deleted"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners")
@pytest.mark.parametrize("name", CACHES)
def test_folders_of_others(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(name)
    file = the_file(root, name)
    file.write_bytes(b"of others")
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 12_345)
    others = own != 0  # what root has written everybody trusts
    said = run(name)
    assert len(said) <= 1
    assert not others or "belongs to another user" in said[0]
    assert (file.read_bytes() == b"of others") == others


# --- file systems ---------------------------------------------------------------------------------


@contextmanager
def _small_files(root: Path) -> Iterator[None]:
    """A write that goes beyond 500 bytes fails, as it does where a quota ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _mounted(root: Path, options: str) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(root)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    filler = root / FILLER
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4_096))
        yield
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def _raising(code: int, what: str) -> Callable[[Path], Any]:
    @contextmanager
    def within(root: Path) -> Iterator[None]:
        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(code, os.strerror(code))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(what, fail)
            yield

    return within


FILLER = "filler"
DISKS: dict[str, Callable[[Path], Any]] = {
    "a quota": _small_files,
    "a full disk": lambda root: _mounted(root, "size=64k,mode=755"),
    "a disk without room for names": lambda root: _mounted(root, "nr_inodes=1,mode=755"),
    "read-only": lambda root: _mounted(root, "ro,mode=755"),
    "no room to begin": _raising(errno.ENOSPC, "tempfile.mkstemp"),
    "an error at the end": _raising(errno.EIO, "os.replace"),
    "no folder": _raising(errno.EROFS, "os.mkdir"),
}


@pytest.mark.parametrize("fault", DISKS)
@pytest.mark.parametrize("name", CACHES)
def test_disks_that_fail(name: str, fault: str, root: Path) -> None:
    wanted(name)
    if fault != "no folder":
        root.mkdir(parents=True, exist_ok=True)
    with DISKS[fault](root):
        said = [*run(name), *run(name)]
        assert len(said) == 1
        assert "cannot be written" in said[0]
        assert cache_folder.ENVIRONMENT_VARIABLE in said[0]
        assert {p.name for p in root.rglob("*") if p.is_file()} <= {FILLER}, (
            "nothing half written is left"
        )
    assert run(name) == []
    assert the_file(root, name).stat().st_size > 0


# --- interruptions --------------------------------------------------------------------------------

KILLED = """
import os, sys
import numpy as np
from constrain.cache import save_arrays
from pathlib import Path
os.replace = lambda *_: os.kill(os.getpid(), 9)
save_arrays(Path(sys.argv[1]), {"a": np.arange(1000)})
"""


def test_what_a_killed_process_leaves(root: Path) -> None:
    """Between the temporary file and its name: it is never read, and swept away an hour later."""
    run("trie")
    file = the_file(root, "trie")
    whole = file.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], timeout=PATIENCE)
    assert done.returncode == -9
    (left,) = (path for path in file.parent.iterdir() if path != file)
    assert file.read_bytes() == whole
    assert run("trie") == []
    file.unlink()
    run("trie")
    assert left.exists(), "perhaps somebody still writes it"
    os.utime(left, (time.time() - 4_000,) * 2)
    file.unlink()
    run("trie")
    assert list(file.parent.iterdir()) == [file]


def test_one_warning_for_all_caches(root: Path) -> None:
    """Where nothing can be kept the cause is said once, not once for each kind."""
    root.parent.mkdir(exist_ok=True)
    root.write_text("a file")
    said = Counter(text for name in CACHES for text in run(name))
    assert sum(said.values()) == 1, said


# --- homes ----------------------------------------------------------------------------------------

START = """
import json, os, sys, warnings
import platformdirs.unix
from constrain.vocabulary.trie import Trie
from grammars.cache_folder import cache_folder
user = int(sys.argv[1])
if user:
    os.setgid(user)
    os.setuid(user)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    Trie.cached([b"a", b"b"])
    Trie.cached([b"a", b"c"])
print(json.dumps([str(w.message) for w in seen if w.category is RuntimeWarning]))
"""
USER = 54_321
"""Who has no entry among the users of a machine."""


@pytest.mark.parametrize(
    ("home", "says"),
    [(None, "no-home"), ("/dev/null", "cannot be written"), ("/proc", "cannot be written")],
)
def test_homes_that_are_none(home: str | None, says: str, tmp_path: Path) -> None:
    """Nothing is kept, which is said once; no folder ``~`` appears."""
    if os.getuid() and home is None:
        pytest.skip("only root becomes somebody without a home")
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("HOME", "XDG_", "GRAMMA"))
    }
    environment |= {} if home is None else {"HOME": home}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    user = USER if os.getuid() == 0 and home is None else 0
    done = subprocess.run(
        [sys.executable, "-c", START, str(user)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-1_500:]
    said = json.loads(done.stdout)
    assert len(said) == 1
    assert says in said[0]
    assert cache_folder.ENVIRONMENT_VARIABLE in said[0]
    assert list(tmp_path.iterdir()) == []
