"""A line of channels as one LLVM vector: its type, and the instructions for it in memory.

Arrays hold their own format (`formats`); vectors and scalars are of the accumulation dtype.
"""

from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import models, register_model

from .formats import decoded, encoded, resized, storage_type

LANE_BYTES = 64
"""One cache line; one AVX-512 register, two of AVX2, four of NEON."""

INT32 = ir.IntType(32)


class Lanes(types.Type):
    """`count` neighbouring channels of one pixel."""

    def __init__(self, dtype, count):
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        scalar = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(scalar, fe_type.count))


def lanes_like(array):
    """As many lanes of the dtype of `array` as are a line."""
    return Lanes(array.dtype, LANE_BYTES * 8 // array.dtype.bitwidth)


def emit_splat(builder, vector, scalar):
    """A vector that holds a scalar in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    zeros = ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, first, zeros)


def address(context, builder, array_type, array, index, storage, count=1):
    """Address of element `index`; with NUMBA_BOUNDSCHECK=1, `count` elements must exist there."""
    array = context.make_array(array_type)(context, builder, array)
    if config.BOUNDSCHECK:
        end = builder.add(index, index.type(count))
        outside = builder.or_(
            builder.icmp_signed("<", index, index.type(0)),
            builder.icmp_signed(">", end, array.nitems),
        )
        with cgutils.if_unlikely(builder, outside):
            context.call_conv.return_user_exc(builder, IndexError, ("lanes out of bounds",))
    pointer = builder.gep(array.data, [index])
    return builder.bitcast(pointer, ir.PointerType(storage))


def emit_load(context, builder, array_type, array, index, value_type):
    """A scalar or vector of elements from `index` on, decoded."""
    storage = resized(value_type, storage_type(context, array_type.dtype))
    count = value_type.count if isinstance(value_type, ir.VectorType) else 1
    pointer = address(context, builder, array_type, array, index, storage, count)
    return decoded(builder, array_type.dtype, builder.load(pointer, align=1), value_type)


def emit_store(context, builder, array_type, array, index, value):
    """Encode a scalar or vector into the elements from `index` on."""
    stored = encoded(builder, array_type.dtype, value)
    count = value.type.count if isinstance(value.type, ir.VectorType) else 1
    pointer = address(context, builder, array_type, array, index, stored.type, count)
    builder.store(stored, pointer, align=1)
