"""The one folder on disk where gramma keeps what is dear to compute or to fetch.

The folder is the user's cache directory for ``gramma``; the environment variable ``GRAMMA_CACHE``
names another.  Everything in it can be deleted at any time.  What others could have written into it
is not read (:func:`is_trusted`): it is taken for one's own later on, masks and compiled grammars among it.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

ENVIRONMENT_VARIABLE: Final = "GRAMMA_CACHE"
_PART: Final = (".writing-", ".part")
"""How the names of files begin and end that are being written."""
_NOWHERE: Final = Path(os.devnull, "no-home")
"""A folder that is not there and cannot be made."""
_FORGOTTEN: Final = 3_600
"""Seconds after which nobody is writing them any more."""

_warned: set[str] = set()
_warned_lock = threading.Lock()


def cache_folder(*parts: str) -> Path:
    """The cache folder, or a place below it.  Nothing is created."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().joinpath(*parts)
    import platformdirs  # not needed where programs are small

    try:
        found = Path(platformdirs.user_cache_dir("gramma"))
    except RuntimeError:  # a user without a home
        found = _NOWHERE
    if not found.is_absolute():  # as earlier versions have it: a folder "~" wherever one is
        found = _NOWHERE
    return found.joinpath(*parts)


def is_trusted(folder: Path, owned: bool = True) -> bool:
    """Whether only this user and the administrator can have written a folder; says so once if not.

    Args:
        folder: within the cache folder; one that is not there yet is trusted.
        owned: whether a folder of another user is refused, too; one that everybody may write always is.
    """
    if not hasattr(os, "getuid"):  # permissions mean something else there
        return True
    try:
        found = folder.stat()
    except OSError:
        return True
    if found.st_mode & stat.S_IWOTH:
        what, help_ = "can be written by everybody", f"chmod o-w {folder}"
    elif owned and found.st_uid not in (os.getuid(), 0):
        what, help_ = "belongs to another user", f"delete {folder}"
    else:
        return True
    warn_once(
        f"the cache folder {folder} {what}; it is not used, so that nobody else's results are taken for "
        f"your own.  {help_}, or set {ENVIRONMENT_VARIABLE} to another folder",
        stacklevel=4,
        about=(folder,),
    )
    return False


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to be written that appears under its name all at once, when it is complete.

    Raises:
        OSError: if it cannot be written; then there is nothing, or what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_PART[0], suffix=_PART[1])
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed had begun to write."""
    begin, end = _PART
    with suppress(OSError):
        for left in folder.glob(f"{begin}*{end}"):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - _FORGOTTEN:
                    left.unlink()


def warn_once(message: str, stacklevel: int = 3, *, about: tuple[Path, ...] = ()) -> None:
    """A ``RuntimeWarning`` that is given at most once in a process.

    Args:
        message: the warning.
        stacklevel: of the caller to be named.
        about: folders that it is about, of any of which one warning is enough; none: this text is.
    """
    keys = {str(folder) for folder in about} or {message}
    with _warned_lock:
        known = not _warned.isdisjoint(keys)
        _warned.update(keys)
    if known:
        return
    warnings.warn(message, RuntimeWarning, stacklevel=stacklevel)


def warn_unwritable(path: Path, error: OSError) -> None:
    """Says that results are not kept: once, since cause and remedy are the same for all."""
    warn_once(
        f"the cache folder {path.parent} cannot be written ({error.strerror or error}); results "
        f"are not kept between runs.  Set {ENVIRONMENT_VARIABLE} to a folder that can be",
        stacklevel=4,
        about=(path.parent, cache_folder()),
    )
