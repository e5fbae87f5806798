"""Folders that appear whole: made under a temporary name by one process, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from constrain.cache import ENVIRONMENT_VARIABLE
from constrain.models.progress import step

_SWEEPS: Final = 20
_SWEEP_SECONDS: Final = 0.1


def install(
    target: Path, build: Callable[[Path], None], is_there: Callable[[Path], bool], force: bool
) -> Path:
    """Builds a folder under a temporary name and renames it to ``target`` when it is finished."""
    if not force and is_there(target):
        return target
    with _only_one(target):
        if not force and is_there(target):  # another process made it while this one waited
            return target
        _sweep(target)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
            made = Path(work, "made")
            made.mkdir()
            build(made)
            if os.path.lexists(
                target
            ):  # no folder can be renamed over a filled one, or over a link
                target.rename(Path(work, "old"))
            made.rename(target)
        _sweep(target)
    return target


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Holds the lock for a folder, so that one process builds it and the others wait."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".{target.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with step(f"Waiting for another process that prepares {target.name}"):
                lock.acquire()
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"the cache folder {target.parent} cannot be written ({error.strerror or error}); set "
            f"{ENVIRONMENT_VARIABLE} to a folder that can be",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(target: Path) -> None:
    # The lock is held, so whatever lies here was left by a run that was killed.  The package manager that it
    # had started may live on and write for a while: until it finds its folder gone, or has made it again.
    for left in target.parent.glob(f".{target.name}-*"):
        for _ in range(_SWEEPS):
            shutil.rmtree(left, ignore_errors=True)
            if not left.exists():
                break
            time.sleep(_SWEEP_SECONDS)
