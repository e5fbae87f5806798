"""Loads the compiled kernels, and says so where that takes a while.

Numba compiles them once for a machine and keeps the result beside the source (or in
``NUMBA_CACHE_DIR``); the first use after an installation or an update takes a minute or more.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from grammars.numba_cache import forget_damaged, forget_stale, kept

_ROOT: Final = Path(__file__).parents[2]
_sources: list[Path] = [_ROOT / "constrain" / "engine" / "context.py"]
"""Sources that kernels loaded from now on may be compiled from."""
_announced: list[str] = []


def load(name: str) -> ModuleType:
    """Imports a module of kernels, by its full name; those that it imports come first."""
    path = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
    forget_stale(path, _sources)
    if forget_damaged(path):
        _say(f"what was kept of {name} is damaged")
    compiled_before = any(kept(path, "nbc"))
    began = time.perf_counter()
    if not compiled_before:
        _announce(name)
    module = import_module(name)
    _sources.append(path)
    if not compiled_before:
        taken = time.perf_counter() - began
        _say(f"ready after {taken:.0f} s")
    return module


def _announce(name: str) -> None:
    """Says what is compiled; why, and for how long, the first time only."""
    if _announced:
        _say(f"compiling {name} ...")
    else:
        _say(
            f"compiling kernels for this machine (first use only, one to four minutes in all): {name} ..."
        )
    _announced.append(name)


def _say(words: str) -> None:
    print(f"gramma: {words}", file=sys.stderr, flush=True)


mask_kernels = load("constrain.masks.kernels")
kernels = load("constrain.engine.kernels")
