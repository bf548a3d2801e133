"""Vectors of channels: the few things the kernels do to `LANE_BYTES` of channels at once.

A `Lanes` value is one LLVM vector that lives in registers, where the same loop written over
slices of scratch memory pays a load, a store and LLVM's run-time alias checks for every tap.
Transposing tiles in registers packs c4-head in 1.6 ms; the plain double loop took 5.1-9 ms
(2.5 GHz AVX-512 Xeon, one thread).

Arrays hold their own format (`formats`); lanes and scalars in the kernels are always of the
accumulation dtype, that of the array `like`.
"""

from contextlib import contextmanager

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vectors import INT32, Lanes, address, emit_load, emit_splat, emit_store, lanes_like


@intrinsic
def item(typingctx, array, index):
    """array[index] for index >= 0: without the selects by which Numba wraps negative ones."""

    def codegen(context, builder, signature, args):
        storage = context.get_data_type(array.dtype)
        pointer = address(context, builder, array, args[0], args[1], storage)
        return builder.load(pointer, align=1)

    return array.dtype(array, types.intp), codegen


@intrinsic
def read(typingctx, array, index, like):
    """One element, in the dtype of `like`."""

    def codegen(context, builder, signature, args):
        value_type = context.get_value_type(like.dtype)
        return emit_load(context, builder, array, args[0], args[1], value_type)

    return like.dtype(array, types.intp, like), codegen


@intrinsic
def write(typingctx, array, index, value):
    """Store one accumulated value."""
    # A product with a weight of another dtype may be wider than the place it goes to.
    expected = types.float64 if array.dtype == types.float64 else types.float32
    if isinstance(value, types.Integer):  # a name
        expected = value

    def codegen(context, builder, signature, args):
        array_value, index, number = args
        number = context.cast(builder, number, value, expected)
        emit_store(context, builder, array, array_value, index, number)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def _prefetch(array, cache):
    """Signature and code of `prefetch` and `prefetch_near`."""

    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), cgutils.voidptr_t)
        call = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(builder.module, call, "llvm.prefetch.p0i8")
        # To be read; how near, of 0 to 3; data.
        builder.call(function, [pointer, INT32(0), INT32(4 - cache), INT32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of an element, which need not exist: into L2."""
    return _prefetch(array, 2)


@intrinsic
def prefetch_near(typingctx, array, index):
    """The same into L1, for what is read in a moment."""
    return _prefetch(array, 1)


@intrinsic
def load(typingctx, array, index, like):
    """Lanes from consecutive elements, in the dtype of `like`."""
    lanes = lanes_like(like)

    def codegen(context, builder, signature, args):
        return emit_load(context, builder, array, args[0], args[1], context.get_value_type(lanes))

    return lanes(array, types.intp, like), codegen


@intrinsic
def store(typingctx, array, index, lanes):
    """Store lanes into consecutive elements."""

    def codegen(context, builder, signature, args):
        emit_store(context, builder, array, *args)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def splat(typingctx, value, like):
    """Lanes that all hold `value`, as many as fit the dtype of `like`."""
    lanes = Lanes(value, lanes_like(like).count)

    def codegen(context, builder, signature, args):
        return emit_splat(builder, context.get_value_type(lanes), args[0])

    return lanes(value, like), codegen


def emit_added(builder, total, weight, value):
    """``total + weight * value``, rounded once where the CPU can; without a total the product."""
    if total is None:
        return builder.fmul(weight, value)
    product = builder.fmul(weight, value, flags=("contract",))
    return builder.fadd(total, product, flags=("contract",))


def emit_tap(context, builder, weights, indices, i, at, unit, vector):
    """The weight of entry i of a table, in all lanes, and its place, ``at + index * unit``.

    ``weights`` and ``indices`` are arrays, each its type and value.
    """
    weight = emit_load(context, builder, *weights, i, vector.element)
    pointer = address(context, builder, *indices, i, INT32)
    offset = builder.mul(builder.sext(builder.load(pointer, align=1), at.type), unit)
    return emit_splat(builder, vector, weight), builder.add(at, offset)


@intrinsic
def add_scaled(typingctx, total, weight, lanes):
    """Add: total + weight * lanes, with one rounding where the CPU has a fused multiply-add."""

    def codegen(context, builder, signature, args):
        total, weight, value = args
        return emit_added(builder, total, emit_splat(builder, value.type, weight), value)

    return total(total, weight, lanes), codegen


@intrinsic
def add_product(typingctx, total, one, other):
    """Add lane by lane: total + one * other."""

    def codegen(context, builder, signature, args):
        return emit_added(builder, *args)

    return total(total, one, other), codegen


@contextmanager
def strided(builder, count, first, second):
    """Loop over ``count`` places of two sequences, each `(start, step)`; the first step is not 0.

    The loop ends where the first sequence does.  LLVM does not unroll it, since it cannot count by
    a step that it does not know: for a dozen places that would cost more than it saves.
    """
    (start, step), (other_start, other_step) = first, second
    before = builder.block
    end = builder.add(start, builder.mul(count, step))
    body, after = builder.append_basic_block("strided"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", count, count.type(0)), body, after)
    builder.position_at_end(body)
    at, other = builder.phi(start.type), builder.phi(start.type)
    at.add_incoming(start, before)
    other.add_incoming(other_start, before)
    yield at, other
    following = builder.add(at, step)
    at.add_incoming(following, builder.block)
    other.add_incoming(builder.add(other, other_step), builder.block)
    builder.cbranch(builder.icmp_signed("!=", following, end), body, after)
    builder.position_at_end(after)


UNROLLED = 4
"""Taps for which `combine` keeps weights and offsets in registers; two samples have no more."""


def _combination(source, indices, weights, target, adding):
    """Signature and code of `combine` and `accumulate`."""
    lanes = lanes_like(target)

    def codegen(context, builder, signature, args):
        source_array, at, plane, step, index_array, unit, weight_array, first, last = args[:9]
        target_array, to, to_plane, to_step, count, blocks = args[9:]
        vector = context.get_value_type(lanes)
        intp = at.type
        taps = builder.sub(last, first)

        table = (weights, weight_array), (indices, index_array)

        def tap(i):
            return emit_tap(context, builder, *table, i, at, unit, vector)

        def added(total, moved, weight, place):
            where = builder.add(place, moved)
            value = emit_load(context, builder, source, source_array, where, vector)
            return emit_added(builder, total, weight, value)

        for n in range(UNROLLED + 1):
            with builder.if_then(
                builder.icmp_signed(">=" if n == UNROLLED else "==", taps, intp(n))
            ):
                kept = [tap(builder.add(first, intp(i))) for i in range(n)]
                with (
                    cgutils.for_range(builder, blocks) as block,
                    strided(
                        builder, count,
                        (builder.add(to, builder.mul(block.index, to_plane)), to_step),
                        (builder.mul(block.index, plane), step),
                    ) as (where, moved),
                ):  # fmt: skip
                    total = None if n else ir.Constant(vector, None)
                    if adding:
                        total = emit_load(context, builder, target, target_array, where, vector)
                    for weight, place in kept:
                        total = added(total, moved, weight, place)
                    if n == UNROLLED:
                        sum_so_far = cgutils.alloca_once_value(builder, total)
                        start = builder.add(first, intp(n))
                        with cgutils.for_range_slice(builder, start, last, intp(1)) as (i, _):
                            more = added(builder.load(sum_so_far), moved, *tap(i))
                            builder.store(more, sum_so_far)
                        total = builder.load(sum_so_far)
                    emit_store(context, builder, target, target_array, where, total)
        return context.get_dummy_value()

    intp = types.intp
    signature = types.void(
        source, intp, intp, intp, indices, intp, weights, intp, intp, target, intp, intp, intp,
        intp, intp,
    )  # fmt: skip
    return signature, codegen


@intrinsic
def combine(
    typingctx, source, at, plane, step, indices, unit, weights, first, last, target, to, to_plane,
    to_step, count, blocks,
):  # fmt: skip
    """Sum taps at ``count`` places of each of so many blocks.

    ``target[to + b * to_plane + j * to_step] =
    sum_i weights[i] * source[at + b * plane + j * step + indices[i] * unit]`` for b < blocks, j <
    count and first <= i < last: exactly the taps there are, in their order; ``to_step`` is not 0.
    """
    return _combination(source, indices, weights, target, adding=False)


@intrinsic
def accumulate(
    typingctx, source, at, plane, step, indices, unit, weights, first, last, target, to, to_plane,
    to_step, count, blocks,
):  # fmt: skip
    """Add taps to what ``target`` holds, one after the other; else as `combine`."""
    return _combination(source, indices, weights, target, adding=True)


def _transposed(builder, rows):
    """Transpose a square tile by log2(n) perfect shuffles of its two halves."""
    n = len(rows)
    indices = ir.VectorType(INT32, n)
    halves = [
        ir.Constant(indices, [start + i // 2 + i % 2 * n for i in range(n)])
        for start in (0, n // 2)
    ]
    for _ in range(n.bit_length() - 1):
        pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
        rows = [builder.shuffle_vector(a, b, half) for a, b in pairs for half in halves]
    return rows


@intrinsic
def gather_tile(typingctx, source, index, stride, channels, target, position):
    """Transpose a tile in: run i of `source`, `stride` apart, becomes lane i in `target`.

    Lanes from `channels` on repeat run 0: they are computed and never stored.
    """
    lanes = lanes_like(target)

    def codegen(context, builder, signature, args):
        source_array, index, stride, channels, target_array, position = args
        vector = context.get_value_type(lanes)
        runs = []
        run = index  # by steps: of products LLVM makes vectors of 64-bit ones, which are slow
        for i in range(lanes.count):
            there = builder.icmp_signed("<", index.type(i), channels)
            at = builder.select(there, run, index)
            runs.append(emit_load(context, builder, source, source_array, at, vector))
            run = builder.add(run, stride)
        for i, pixel in enumerate(_transposed(builder, runs)):
            at = builder.add(position, position.type(i * lanes.count))
            emit_store(context, builder, target, target_array, at, pixel)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, intp, intp, target, intp), codegen


@intrinsic
def scatter_tile(typingctx, source, position, target, index, stride):
    """Transpose a tile out: lane i of `source` becomes run i of `target`, `stride` apart."""
    lanes = lanes_like(source)

    def codegen(context, builder, signature, args):
        source_array, position, target_array, index, stride = args
        vector = context.get_value_type(lanes)
        pixels = [
            emit_load(
                context,
                builder,
                source,
                source_array,
                builder.add(position, position.type(i * lanes.count)),
                vector,
            )
            for i in range(lanes.count)
        ]
        for run in _transposed(builder, pixels):
            emit_store(context, builder, target, target_array, index, run)
            index = builder.add(index, stride)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, target, intp, intp), codegen
