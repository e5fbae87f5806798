"""The one folder on disk where gramma keeps what is dear to compute or to fetch.

The folder is the user's cache directory for ``gramma``; the environment variable ``GRAMMA_CACHE``
names another.  Everything in it can be deleted at any time.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

ENVIRONMENT_VARIABLE: Final = "GRAMMA_CACHE"

_warned: set[str] = set()
_warned_lock = threading.Lock()


def cache_folder(*parts: str) -> Path:
    """The cache folder, or a place below it.  Nothing is created."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().joinpath(*parts)
    import platformdirs  # not needed where programs are small

    return Path(platformdirs.user_cache_dir("gramma")).joinpath(*parts)


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to be written that appears under its name all at once, when it is complete.

    Raises:
        OSError: if it cannot be written; then there is nothing, or what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def warn_once(message: str, stacklevel: int = 3) -> None:
    """A ``RuntimeWarning`` that is given at most once for each text in a process."""
    with _warned_lock:
        if message in _warned:
            return
        _warned.add(message)
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)


def warn_unwritable(path: Path, error: OSError) -> None:
    """Says that results are not kept: once for a folder, since cause and remedy are the same."""
    warn_once(
        f"the cache folder {path.parent} cannot be written ({error.strerror or error}); results "
        f"are not kept between runs.  Set {ENVIRONMENT_VARIABLE} to a folder that can be",
        stacklevel=4,
    )
