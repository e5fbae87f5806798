"""Arrays in the folder where gramma keeps what is dear to compute or to fetch.

See :mod:`grammars.cache_folder` for where it is.  Files appear atomically (written
under a temporary name, then renamed), so that a reader never sees half a file, and a cache that
cannot be read or written only costs time: it is reported once and the work is done again.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grammars.cache_folder import (
    ENVIRONMENT_VARIABLE,
    appearing,
    cache_folder,
    is_trusted,
    warn_once,
    warn_unwritable,
)

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "cache_folder",
    "is_trusted",
    "load_arrays",
    "save_arrays",
    "warn_once",
]


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Reads arrays written by :func:`save_arrays`.

    Returns:
        The arrays by name, or ``None`` where the file is absent, damaged (the archive's own
        checksums are verified first, of whole members), unreadable, or in a folder that others can
        write.  Pickled objects are never loaded.
    """
    if not is_trusted(path.parent):
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # links may lead to devices, which have no end
            raise OSError(errno.EINVAL, "it is no file")
        with np.load(path, allow_pickle=False) as archive:
            # An array's header may be damaged, so that less is read than there is: look at all first.
            if archive.zip.testzip() is not None:
                raise ValueError("its content does not match its checksums")
            return {name: np.ascontiguousarray(archive[name]) for name in archive.files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (
        Exception
    ) as error:  # what damage raises in zipfile, zlib, ast and NumPy has no common name
        warn_once(
            f"the cache file {path} cannot be read ({error}); it is computed again",
            about=(path.parent,),
        )
        return None


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Writes arrays so that they appear under ``path`` all at once.

    Returns:
        Whether the file is there now.  A folder that cannot be written, or that others can write, is
        reported once.
    """
    if not is_trusted(path.parent):
        return False
    try:
        with appearing(path) as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    except OSError as error:
        warn_unwritable(path, error)
        return False
    return True
