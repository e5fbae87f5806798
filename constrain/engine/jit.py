"""Loads the compiled kernels, and says so where that takes a while.

Numba compiles them once for a machine and keeps the result beside the source (or in
``NUMBA_CACHE_DIR``); the first import after an installation or an update takes some seconds.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType


def load(name: str) -> ModuleType:
    """A module of kernels, by its full name."""
    path, stem = Path(__file__).parents[2], name.rsplit(".", 1)[-1]
    folder = path.joinpath(*name.split(".")[:-1], "__pycache__")
    compiled_before = any(folder.glob(f"{stem}.*.nbc"))
    began = time.perf_counter()
    if not compiled_before:
        print(
            f"gramma: compiling {name} for this machine (once, ten to twenty seconds) ...",
            file=sys.stderr,
            flush=True,
        )
    module = import_module(name)
    if not compiled_before:
        taken = time.perf_counter() - began
        print(f"gramma: kernels ready after {taken:.0f} s", file=sys.stderr, flush=True)
    return module


mask_kernels = load("constrain.masks.kernels")
kernels = load("constrain.engine.kernels")
