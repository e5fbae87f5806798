"""Array types by element, whose shapes are said where arrays are described; large arrays of zeros."""

from __future__ import annotations

import mmap
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Int32: TypeAlias = npt.NDArray[np.int32]
Int64: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_LARGE: Final = 1 << 18
_PRIVATE: Final = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)


def zeros_on_demand(size: int) -> npt.NDArray[np.uint8]:
    """Zeros, uint8[size], of which large ones take neither time nor memory before they are used.

    ``numpy.zeros`` writes them where it gets memory that was in use before, a megabyte in 0.1 ms.
    """
    if size < _LARGE:
        return np.zeros(size, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size, **_PRIVATE), np.uint8)
