"""What Numba keeps of compiled kernels beside their sources: what of it is out of date, or damaged.

Numba believes what it has kept: an index that was cut ends every start with an error, and machine code with
a flipped bit runs.  So a checksum of each file of code is kept beside them, since the first start that
finds it; and indices are looked at, which change as kernels are added.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from grammars.cache_folder import appearing


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
                _sums(source).unlink(missing_ok=True)  # code is written anew under the old names


def forget_damaged(source: Path) -> bool:
    """Drops what Numba keeps of a module if any of it is damaged; it is compiled again then.

    Returns:
        Whether it was.
    """
    try:
        codes = {path.name: zlib.crc32(path.read_bytes()) for path in kept(source, "nbc")}
        heads = [_head(path.read_bytes()) for path in kept(source, "nbi")]
        found = source.stat()
    except OSError:
        return False  # nothing can be said, nor could it be dropped
    stamp = [found.st_mtime_ns, found.st_size, sorted({head for head in heads if head is not None})]
    known = _known(source, stamp)
    damaged = None in heads or any(
        (known or {}).get(name, code) != code for name, code in codes.items()
    )
    if damaged or known is None:
        for path in [*kept(source, "nbi"), *kept(source, "nbc"), _sums(source)]:
            with suppress(OSError):
                path.unlink()
    elif codes != known and _are_younger(source):
        with suppress(OSError), appearing(_sums(source)) as stream:
            stream.write(json.dumps({"stamp": stamp, "codes": codes}).encode())
    return damaged


def _sums(source: Path) -> Path:
    return folder(source) / f"{source.stem}.gramma-sums.json"


def _are_younger(source: Path) -> bool:
    """Whether what is kept was compiled since the source changed; else Numba writes it anew."""
    with suppress(OSError):
        changed = source.stat().st_mtime
        return all(path.stat().st_mtime >= changed for path in kept(source, "nbi"))
    return False


def _known(source: Path, stamp: list[Any]) -> dict[str, int] | None:
    """Checksums of code; ``None`` if it was compiled of another source, or by another Numba."""
    try:
        written = json.loads(_sums(source).read_bytes())
        return dict(written["codes"]) if written["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


class _Plain(pickle.Unpickler):
    """Of texts, numbers and containers of them: nothing is looked up, so that nothing can run."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise _Unknown(f"{module_name}.{global_name}")


class _Unknown(Exception):  # noqa: N818
    """An index of another kind, of which nothing can be said."""


def _head(index: bytes) -> str | None:
    """By which Numba an index was written; ``None`` if it is damaged."""
    stream = io.BytesIO(index)
    try:
        version = _Plain(stream).load()
        _Plain(io.BytesIO(stream.read())).load()
    except _Unknown:
        return ""
    except Exception:  # what damage raises has no common name
        return None
    return str(version)
