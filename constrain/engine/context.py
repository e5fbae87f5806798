"""Arrays behind addresses: what kernels read their context and its fields with."""

from __future__ import annotations

from typing import Any, Final

from numba import njit, types, uint64
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_ENDLESS: Final = 1 << 40
_MOST_FIELDS: Final = 1 << 10
"""More fields than any context has; bounds are not checked."""


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer that ``carray`` accepts."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


def _array_at(element: Any, elements: int) -> Any:
    """Code that makes an array of so many elements of an address; its bounds are not checked."""
    array = types.Array(element, 1, "C")

    def build(context: Any, builder: Any, address: Any) -> Any:
        out = make_array(array)(context, builder)
        size = context.get_abi_sizeof(context.get_data_type(element))
        count, stride = (context.get_constant(types.intp, n) for n in (elements, size))
        populate_array(
            out,
            data=builder.inttoptr(address, context.get_data_type(element).as_pointer()),
            shape=cgutils.pack_array(builder, [count]),
            strides=cgutils.pack_array(builder, [stride]),
            itemsize=stride,
            meminfo=None,
        )
        return out._getvalue()

    return array, build


def _field_reader(element: Any) -> Any:
    """An intrinsic function ``(ctx, field)``: the array whose address a field of the context holds.

    As a compiled function it would be compiled anew for each field, since those are constants: that
    is an eighth of what compiling all kernels takes.
    """
    array, build = _array_at(element, _ENDLESS)

    def read(typingctx: Any, ctx: Any, field: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            fields = make_array(signature.args[0])(context, builder, args[0])
            place = context.cast(builder, args[1], signature.args[1], types.intp)
            return build(context, builder, builder.load(builder.gep(fields.data, [place])))

        return array(ctx, field), codegen

    return intrinsic(read)


i32: Final = _field_reader(types.int32)
i64: Final = _field_reader(types.int64)
u8: Final = _field_reader(types.uint8)
u16: Final = _field_reader(types.uint16)
u64: Final = _field_reader(types.uint64)


def _address_reader(element: Any, elements: int = _ENDLESS) -> Any:
    """An intrinsic function ``(address)``: the array at an address, an int64."""
    array, build = _array_at(element, elements)

    def read(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return build(context, builder, args[0])

        return array(types.int64), codegen

    return intrinsic(read)


i32_at: Final = _address_reader(types.int32)
i64_at: Final = _address_reader(types.int64)
u8_at: Final = _address_reader(types.uint8)
context_at: Final = _address_reader(types.int64, _MOST_FIELDS)
"""The context, int64 fields, at an address."""


@njit
def mix(h, x):  # type: ignore[no-untyped-def]
    """A hash with one more number mixed in, uint64."""
    h = (h ^ uint64(x)) * uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> uint64(29))
