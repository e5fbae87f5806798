"""The one folder on disk where gramma keeps what is dear to compute or to fetch.

The folder is the user's cache directory for ``gramma``; the environment variable ``GRAMMA_CACHE``
names another.  Everything in it can be deleted at any time.  Files appear atomically (written
under a temporary name, then renamed), so that a reader never sees half a file, and a cache that
cannot be read or written only costs time: it is reported once and the work is done again.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import platformdirs

ENVIRONMENT_VARIABLE: Final = "GRAMMA_CACHE"

_warned: set[str] = set()
_warned_lock = threading.Lock()


def cache_folder(*parts: str) -> Path:
    """The cache folder, or a place below it.  Nothing is created."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    root = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("gramma"))
    return root.joinpath(*parts)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Reads arrays written by :func:`save_arrays`.

    Returns:
        The arrays by name, or ``None`` where the file is absent, damaged (the archive's own
        checksums are verified) or unreadable.  Pickled objects are never loaded.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.ascontiguousarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        warn_once(f"the cache file {path} cannot be read ({error}); it is computed again")
        return None


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Writes arrays so that they appear under ``path`` all at once.

    Returns:
        Whether the file is there now.  A folder that cannot be written is reported once.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".npz")
    except OSError as error:
        _warn_unwritable(path, error)
        return False
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        _warn_unwritable(path, error)
        Path(temporary).unlink(missing_ok=True)
        return False
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def warn_once(message: str) -> None:
    """A ``RuntimeWarning`` that is given at most once for each text in a process."""
    with _warned_lock:
        if message in _warned:
            return
        _warned.add(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _warn_unwritable(path: Path, error: OSError) -> None:
    # One message for the folder, not one for each file: the cause and the remedy are the same.
    warn_once(
        f"the cache folder {path.parent} cannot be written ({error.strerror or error}); results "
        f"are not kept between runs.  Set {ENVIRONMENT_VARIABLE} to a folder that can be"
    )
