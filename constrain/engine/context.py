"""Arrays behind addresses: what kernels read their context and its fields with."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, njit, types, uint64
from numba.extending import intrinsic

_MOST_FIELDS: Final = 1 << 10
"""More fields than any context has; bounds are not checked."""


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer that ``carray`` accepts."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


@njit
def i32(ctx, field):  # type: ignore[no-untyped-def]
    """The int32 array whose address a field holds; its bounds are not checked."""
    return carray(pointer(ctx[field]), (1 << 40,), np.int32)


@njit
def i64(ctx, field):  # type: ignore[no-untyped-def]
    """The int64 array whose address a field holds."""
    return carray(pointer(ctx[field]), (1 << 40,), np.int64)


@njit
def u8(ctx, field):  # type: ignore[no-untyped-def]
    """The uint8 array whose address a field holds."""
    return carray(pointer(ctx[field]), (1 << 40,), np.uint8)


@njit
def u16(ctx, field):  # type: ignore[no-untyped-def]
    """The uint16 array whose address a field holds."""
    return carray(pointer(ctx[field]), (1 << 40,), np.uint16)


@njit
def u64(ctx, field):  # type: ignore[no-untyped-def]
    """The uint64 array whose address a field holds."""
    return carray(pointer(ctx[field]), (1 << 40,), np.uint64)


@njit
def context_at(address):  # type: ignore[no-untyped-def]
    """The context, int64 fields, at an address."""
    return carray(pointer(address), (_MOST_FIELDS,), np.int64)


@njit
def mix(h, x):  # type: ignore[no-untyped-def]
    """A hash with one more number mixed in, uint64."""
    h = (h ^ uint64(x)) * uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> uint64(29))
