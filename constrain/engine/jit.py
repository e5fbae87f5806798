"""Loads the compiled kernels, and says so where that takes a while.

Numba compiles them once for a machine and keeps the result beside the source (or in
``NUMBA_CACHE_DIR``); the first import after an installation or an update takes some seconds.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_sources: list[Path] = [_ROOT / "constrain" / "engine" / "context.py"]
"""Sources that kernels loaded from now on may be compiled from."""


def load(name: str) -> ModuleType:
    """Imports a module of kernels, by its full name; those that it imports come first."""
    path = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
    _forget_stale(path)
    compiled_before = any(_compiled(path, "nbc"))
    began = time.perf_counter()
    if not compiled_before:
        print(
            f"gramma: compiling {name} for this machine (once, ten to twenty seconds) ...",
            file=sys.stderr,
            flush=True,
        )
    module = import_module(name)
    _sources.append(path)
    if not compiled_before:
        taken = time.perf_counter() - began
        print(f"gramma: kernels ready after {taken:.0f} s", file=sys.stderr, flush=True)
    return module


def _compiled(path: Path, ending: str) -> list[Path]:
    """What Numba keeps beside a source."""
    return list((path.parent / "__pycache__").glob(f"{path.stem}.*.{ending}"))


def _forget_stale(path: Path) -> None:
    """Drops what was compiled before a source that it is made from changed.

    Numba looks at a module's own source only, but functions and constants of other modules are
    compiled into its kernels.
    """
    with suppress(OSError):
        newest = max(source.stat().st_mtime for source in _sources)
        for index in _compiled(path, "nbi"):
            if index.stat().st_mtime < newest:
                index.unlink()


mask_kernels = load("constrain.masks.kernels")
kernels = load("constrain.engine.kernels")
