"""Arguments as the public methods take them: integers, budgets, bytes, rows of masks.

Kernels work on bare addresses, so whatever reaches them has been through here.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_INT32: Final = np.dtype(np.int32)
_UINT32: Final = np.dtype(np.uint32)
_UNLIMITED: Final = 1 << 40


def integer(value: Any, what: str) -> int:
    """A Python integer from one of any kind (Python, numpy, tensors of one element).

    Raises:
        TypeError: for truth values, floats and whatever else is no integer.
    """
    if not isinstance(value, bool | np.bool_):
        try:
            return index(value)
        except TypeError:
            pass
    raise TypeError(f"{what} must be an integer, not {_named(value)}")


def size(value: Any, what: str, least: int = 0) -> int:
    """An integer that is not below ``least``.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is too small.
    """
    number = integer(value, what)
    if number < least:
        raise ValueError(f"{what} must be at least {least}, not {number}")
    return number


def instance(value: Any, kind: type, what: str) -> None:
    """Raises a ``TypeError`` for an object of another kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {_named(value)}")


def octets(data: Any, what: str = "data") -> bytes:
    """Bytes from what holds them.

    Raises:
        TypeError: for text and anything else.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    hint = "; encode text as UTF-8 first" if isinstance(data, str) else ""
    raise TypeError(f"{what} must be bytes, not {_named(data)}{hint}")


def budget(tokens_left: Any) -> int | None:
    """Tokens left, ``None`` where there are plenty.

    Raises:
        TypeError: if it is neither an integer nor ``None``.
    """
    if tokens_left is None:
        return None
    left = integer(tokens_left, "tokens_left")
    return left if left < _UNLIMITED else None


def budgets(tokens_left: Any, count: int) -> list[int | None]:
    """One budget for each of several rows.

    Raises:
        TypeError: for anything but integers and ``None``.
        ValueError: if there are more or fewer than rows.
    """
    if tokens_left is None or not isinstance(tokens_left, Iterable) or _is_scalar(tokens_left):
        return [budget(tokens_left)] * count
    found = [budget(left) for left in tokens_left]
    if len(found) != count:
        raise ValueError(f"{count} states need as many entries of tokens_left, not {len(found)}")
    return found


def mask_row(row: Any, words: int) -> npt.NDArray[np.int32]:
    """A row of a mask as the array to write to.

    Raises:
        TypeError: if it is no numpy array or CPU tensor of int32 or uint32.
        ValueError: if it has another shape or cannot be written to.
    """
    array = _words(row, "a mask row")
    if array.shape != (words,):
        raise ValueError(f"a mask row of this vocabulary has shape ({words},), not {array.shape}")
    return array


def mask_rows(rows: Any, count: int) -> npt.NDArray[np.int32]:
    """Rows of a mask as the array to write to; more than ``count`` are fine.

    Raises:
        TypeError: if it is no numpy array or CPU tensor of int32 or uint32.
        ValueError: if there are too few, or they cannot be written to.
    """
    array = _words(rows, "rows of masks")
    if array.ndim != 2:
        raise ValueError(f"rows of masks have two dimensions, not {array.ndim}")
    if len(array) < count:
        raise ValueError(f"{count} states need as many rows, but there are {len(array)}")
    return array


def _words(rows: Any, what: str) -> npt.NDArray[np.int32]:
    array = rows if isinstance(rows, np.ndarray) else _from_tensor(rows)
    if array is None or (array.dtype != _INT32 and array.dtype != _UINT32):
        raise TypeError(
            f"{what} must be an int32 or uint32 numpy array or CPU tensor, not {_described(rows)}"
        )
    if not array.flags.writeable:
        raise ValueError(f"{what} cannot be written to: the array is read-only")
    return array if array.dtype == _INT32 else array.view(np.int32)


def _from_tensor(rows: Any) -> npt.NDArray[Any] | None:
    """A CPU tensor as an array of the same memory."""
    if not hasattr(rows, "numpy"):
        return None
    try:
        array = rows.numpy()
    except (TypeError, RuntimeError, NotImplementedError):  # on a device, or without memory
        return None
    return array if isinstance(array, np.ndarray) else None


def _is_scalar(value: Any) -> bool:
    return getattr(value, "ndim", 1) == 0


def _described(value: Any) -> str:
    kind, dtype, device = (getattr(value, n, None) for n in ("__class__", "dtype", "device"))
    name = type(value).__name__ if kind is None else kind.__name__
    where = "" if device is None or isinstance(value, np.ndarray) else f" on {device}"
    return name if dtype is None else f"{name} of {dtype}{where}"


def _named(value: Any) -> str:
    shown = repr(value)
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} ({type(value).__name__})"
