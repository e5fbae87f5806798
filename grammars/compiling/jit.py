"""How kernels are compiled: those that Python calls, and those that kernels alone call."""

from __future__ import annotations

from typing import Final

from numba import njit

inner: Final = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions of kernels: without the code that takes Python's objects apart."""
kernel: Final = njit(cache=True, no_cfunc_wrapper=True)
"""For what Python calls: kept on disk."""
