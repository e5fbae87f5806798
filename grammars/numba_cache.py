"""What Numba keeps of compiled kernels beside their sources, and which of it is out of date."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def folder(source: Path) -> Path:
    """The folder in which Numba keeps kernels of a module: beside it, or in ``NUMBA_CACHE_DIR``.

    Numba is not asked, since to import it takes longer than what this is wanted for.
    """
    root = os.environ.get("NUMBA_CACHE_DIR")
    if not root:
        return source.parent / "__pycache__"
    beside = os.path.abspath(source.parent)  # as Numba names it, links not followed
    return Path(root) / f"{source.parent.name}_{hashlib.sha1(beside.encode()).hexdigest()}"


def kept(source: Path, ending: str) -> list[Path]:
    """Files that Numba keeps of a module: indices (``"nbi"``) or code (``"nbc"``)."""
    return list(folder(source).glob(f"{source.stem}.*.{ending}"))


def forget_stale(source: Path, made_from: Iterable[Path]) -> None:
    """Drops what was compiled of a module before another source changed that it is made from.

    Numba looks at a module's own source only, but functions and constants of other modules are
    compiled into its kernels.
    """
    with suppress(OSError):
        newest = max(other.stat().st_mtime for other in made_from)
        for index in kept(source, "nbi"):
            if index.stat().st_mtime < newest:
                index.unlink()
