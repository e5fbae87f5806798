"""Kernels that Numba keeps: damage is told before it is run, and compiled away."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE

from grammars.numba_cache import folder, forget_damaged, forget_stale, kept

KERNEL = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x
"""
PROGRAM = """
import sys
from pathlib import Path
from grammars.numba_cache import forget_damaged
print(forget_damaged(Path(sys.argv[1])))
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from small import twice
print(twice(21), sum(twice.stats.cache_hits.values()))
"""


def start(source: Path) -> list[str]:
    """Whether there was damage, the kernel's result, and how often it came from the cache."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-1_500:]
    return done.stdout.split()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with a kernel that is compiled and sealed."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    path = tmp_path / "small" / "small.py"
    path.parent.mkdir()
    path.write_text(KERNEL)
    assert start(path) == ["False", "42", "0"]
    assert not forget_damaged(path)
    return path


@pytest.mark.slow
def test_damage_is_compiled_away(source: Path) -> None:
    """Anywhere in code; of an index, where it cannot be read any more."""
    (code,), (index,) = kept(source, "nbc"), kept(source, "nbi")
    whole = {
        path: path.read_bytes() for path in (code, index, folder(source) / "small.gramma-sums.json")
    }
    r = random.Random(0)
    for number in range(60):
        for path, data in whole.items():
            path.write_bytes(data)
        assert not forget_damaged(source)
        damaged = bytearray(whole[code])
        damaged[r.randrange(len(damaged))] ^= 1 << r.randrange(8)
        code.write_bytes(damaged if number % 2 else damaged[: r.randrange(len(damaged))])
        assert forget_damaged(source)
        assert not kept(source, "nbc")
        assert not kept(source, "nbi")
    for cut in range(0, len(whole[index]), 97):
        index.write_bytes(whole[index][:cut])
        assert forget_damaged(source)
        assert not index.exists()
    assert start(source) == ["False", "42", "0"]
    assert start(source) == ["False", "42", "1"]


@pytest.mark.slow
def test_starts_with_damage(source: Path) -> None:
    (code,) = kept(source, "nbc")
    data = bytearray(code.read_bytes())
    data[len(data) // 2] ^= 4
    code.write_bytes(data)
    assert start(source) == ["True", "42", "0"]
    assert start(source) == ["False", "42", "1"]
    (index,) = kept(source, "nbi")
    index.write_bytes(b"\x80")
    assert start(source) == ["True", "42", "0"]


@pytest.mark.slow
def test_changes_are_no_damage(source: Path) -> None:
    """Of the source, and of others that it is made from."""
    source.write_text(KERNEL.replace("2 *", "3 *"))
    assert start(source)[:2] == ["False", "63"]
    assert not forget_damaged(source)
    other = source.with_name("other.py")
    other.write_text("")
    os.utime(other, (2**31, 2**31))
    forget_stale(source, [other])
    assert start(source) == ["False", "63", "0"]
    assert not forget_damaged(source)


def test_sums_that_are_none(source: Path) -> None:
    sums = folder(source) / "small.gramma-sums.json"
    whole = sums.read_bytes()
    for damaged in (b"", b"[]", b"{}", b"[" * 100_000, whole[:-3]):
        sums.write_bytes(damaged)
        assert not forget_damaged(source)
        assert sums.read_bytes() == whole
