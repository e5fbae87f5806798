"""Kernels that put packed masks on logits in the CPU's memory, thirty-two tokens at once."""

from __future__ import annotations

from typing import Final

from numba import njit

_SIGNATURES: Final = [f"boolean(int{bits}[::1], int32[::1], int64)" for bits in (16, 32, 64)]


@njit(_SIGNATURES, cache=True, nogil=True)
def forbid(row, words, minus_infinity):  # type: ignore[no-untyped-def]
    """Writes minus infinity over the logits of tokens that a mask does not allow.

    Numba knows no half precision, so that numbers are taken by their bits.

    Args:
        row: the bits of logits, int16, int32 or int64[V].
        words: a packed mask, int32[W]; tokens behind the last word are not allowed.
        minus_infinity: its bits; those of its exponent are all set only in what is not finite.

    Returns:
        Whether a finite number is left.
    """
    exponent = minus_infinity & ~(-1 << (row.itemsize * 8 - 1))
    size = len(row)
    found = False
    for w in range(-(-size // 32)):
        word = words[w] if w < len(words) else 0
        begin = w * 32
        end = min(begin + 32, size)
        if word == 0:
            row[begin:end] = minus_infinity
        elif not found or word != -1:
            for i in range(begin, end):
                if word >> (i - begin) & 1 == 0:
                    row[i] = minus_infinity
                elif row[i] & exponent != exponent:
                    found = True
    return found
