"""Results written past the caches, where a whole line of 64 bytes is written.

An ordinary store reads the line it writes to before, and evicts another: of c4-head's 60 MB that is
a quarter of the time (one thread, into an `out`: 24 -> 17 ms; channels-last 55 -> 25).
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .formats import encoded, storage_type
from .vectors import INT32, LANE_BYTES, address, emit_load, emit_store

STREAMED = 1 << 20
"""Elements of results that are streamed; smaller ones are soon read again, from a cache."""


def _bytes(array):
    """Bytes of an element."""
    return 2 if isinstance(array.dtype, types.Record) else array.dtype.bitwidth // 8


def _integer_address(context, builder, array_type, array, index):
    storage = storage_type(context, array_type.dtype)
    pointer = address(context, builder, array_type, array, index, storage, 0)
    return builder.ptrtoint(pointer, index.type)


def _stream(context, builder, array_type, array, index, value):
    """Store a whole line at the address of a line."""
    stored = encoded(builder, array_type.dtype, value)
    pointer = address(context, builder, array_type, array, index, stored.type, stored.type.count)
    line = builder.store(stored, pointer, align=LANE_BYTES)
    line.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))


@intrinsic
def stream_lanes(typingctx, array, index, lanes):
    """`store`, past the caches if the lanes are a whole line there; see `stream`."""

    def codegen(context, builder, signature, args):
        array_value, index, _ = args
        if _bytes(array) * lanes.count != LANE_BYTES:
            emit_store(context, builder, array, *args)
            return context.get_dummy_value()
        byte = _integer_address(context, builder, array, array_value, index)
        within = builder.and_(byte, byte.type(LANE_BYTES - 1))
        on_line = builder.icmp_unsigned("==", within, within.type(0))
        with builder.if_else(on_line) as (then, otherwise):
            with then:
                _stream(context, builder, array, *args)
            with otherwise:
                emit_store(context, builder, array, *args)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def stream(typingctx, source, position, target, index, count):
    """Copy `count` elements, whole lines past the caches; needs a `fence` before others look."""
    size = _bytes(target)
    of_line = LANE_BYTES // size

    def codegen(context, builder, signature, args):
        source_array, position, target_array, index, count = args
        intp = index.type
        scalar = context.get_value_type(source.dtype)
        vector = ir.VectorType(scalar, of_line)

        def copy(i, value_type, put):
            at = builder.add(position, i)
            value = emit_load(context, builder, source, source_array, at, value_type)
            put(context, builder, target, target_array, builder.add(index, i), value)

        before = builder.neg(_integer_address(context, builder, target, target_array, index))
        before = builder.and_(before, intp(LANE_BYTES - 1))
        head = builder.udiv(before, intp(size))
        # An array at an odd address has no element at the start of a line.
        odd = builder.icmp_unsigned("!=", builder.mul(head, intp(size)), before)
        short = builder.icmp_signed(">", head, count)
        head = builder.select(builder.or_(odd, short), count, head)
        lines = builder.udiv(builder.sub(count, head), intp(of_line))
        tail = builder.add(head, builder.mul(lines, intp(of_line)))
        with cgutils.for_range(builder, head) as element:
            copy(element.index, scalar, emit_store)
        with cgutils.for_range(builder, lines) as line:
            first = builder.add(head, builder.mul(line.index, intp(of_line)))
            copy(first, vector, _stream)
        with cgutils.for_range_slice(builder, tail, count, intp(1)) as (i, _):
            copy(i, scalar, emit_store)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, target, intp, intp), codegen


@intrinsic
def short_of_line(typingctx, array, index):
    """How many elements it is from ``array[index]`` to the next start of a line."""

    def codegen(context, builder, signature, args):
        byte = _integer_address(context, builder, array, *args)
        before = builder.and_(builder.neg(byte), byte.type(LANE_BYTES - 1))
        return builder.udiv(before, byte.type(_bytes(array)))

    return types.intp(array, types.intp), codegen


@intrinsic
def fence(typingctx):
    """Let others see what was streamed, before whatever tells them of it."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen
