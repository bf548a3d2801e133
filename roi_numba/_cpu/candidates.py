"""Vectors of channels that compete: in every lane the largest candidate wins, the first of equals.

Whole loops over a bin are one instruction stream here: a call for every candidate, even of a
compiled function, costs more than to interpolate it.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .formats import broadcast
from .vectors import INT32, address, emit_load, emit_splat, emit_store, lanes_like


def _beats(builder, value, best):
    """Where `value` replaces `best` as the maximum: NaN never does, anything replaces NaN."""
    not_below = builder.fcmp_unordered(">", value, best)
    return builder.and_(not_below, builder.fcmp_ordered("ord", value, value))


def _above(builder, value, best):
    """Where `value` is above `best`, neither of them NaN: with a select, one instruction."""
    return builder.fcmp_ordered(">", value, best)


def _lowest(builder, best):
    """Whether any lane is -inf, as it also is where `_above` has seen nothing but NaN."""
    bottom = builder.fcmp_ordered("==", best, broadcast(best.type, float("-inf")))
    bits = builder.bitcast(bottom, ir.IntType(best.type.count))
    return builder.icmp_unsigned("!=", bits, bits.type(0))


@intrinsic
def largest(typingctx, source, at, pitch, height, width):
    """The maximum over a rectangle of at least one pixel in scratch; NaN only if all are."""
    lanes = lanes_like(source)

    def codegen(context, builder, signature, args):
        source_array, at, pitch, height, width = args
        vector = context.get_value_type(lanes)

        def maximum(start, wins):
            best = cgutils.alloca_once_value(builder, start)
            with cgutils.for_range(builder, height) as row:
                line = builder.add(at, builder.mul(row.index, pitch))
                with cgutils.for_range(builder, width) as column:
                    pixel = builder.add(line, builder.mul(column.index, at.type(lanes.count)))
                    value = emit_load(context, builder, source, source_array, pixel, vector)
                    so_far = builder.load(best)
                    won = wins(builder, value, so_far)
                    builder.store(builder.select(won, value, so_far), best)
            return builder.load(best)

        quick = maximum(broadcast(vector, float("-inf")), _above)
        result = cgutils.alloca_once_value(builder, quick)
        with cgutils.if_unlikely(builder, _lowest(builder, quick)):
            builder.store(maximum(broadcast(vector, float("nan")), _beats), result)
        return builder.load(result)

    intp = types.intp
    return lanes(source, intp, intp, intp, intp), codegen


def _each_sample(context, builder, lanes, arrays, place, ranges, visit):
    """Visit a bin's samples, first those of its first entry along y.

    ``arrays``: the types and values of scratch, index, weight and next_weight; ``place``: where
    pixel (0, 0) lies in scratch, and how far apart rows' and columns' indices and rows lie;
    ``visit(i, j, value)``.  A sample is interpolated along y, then along x; what weighs nothing
    is not read.  Neighbours could share columns that are interpolated along y first, for a whole
    row of samples: 28 ms instead of 25 (c4-head, roi_warp, two samples a bin).
    """
    (source, source_array), (indices, index_array), *weights = arrays
    at, step_y, step_x, pitch = place
    first_y, last_y, first_x, last_x = ranges
    vector = context.get_value_type(lanes)
    one = at.type(1)

    def pixel(i, step):
        pointer = address(context, builder, indices, index_array, i, INT32)
        return builder.mul(builder.sext(builder.load(pointer, align=1), at.type), step)

    def both_weights(i):
        return [emit_load(context, builder, *each, i, vector.element) for each in weights]

    def weighs(weight):
        return builder.fcmp_unordered("!=", weight, weight.type(0))

    def times(weight, value):
        return builder.fmul(weight, value)

    def plus(total, weight, value):
        product = builder.fmul(weight, value, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    value = cgutils.alloca_once(builder, vector)

    def along_x(i, line, rows):
        def column(where):
            total = None
            for n, weight in enumerate(rows):
                here = builder.add(where, pitch) if n else where
                pixels = emit_load(context, builder, source, source_array, here, vector)
                total = plus(total, weight, pixels) if n else times(weight, pixels)
            return total

        with cgutils.for_range_slice(builder, first_x, last_x, one) as (j, _):
            v0, v1 = both_weights(j)
            builder.store(ir.Constant(vector, None), value)
            if rows:
                with builder.if_then(weighs(v0), likely=True):
                    where = builder.add(line, pixel(j, step_x))
                    left = times(emit_splat(builder, vector, v0), column(where))
                    builder.store(left, value)
                    with builder.if_then(weighs(v1), likely=True):
                        right = column(builder.add(where, at.type(lanes.count)))
                        builder.store(plus(left, emit_splat(builder, vector, v1), right), value)
            visit(i, j, builder.load(value))

    with cgutils.for_range_slice(builder, first_y, last_y, one) as (i, _):
        u0, u1 = both_weights(i)
        line = builder.add(at, pixel(i, step_y))
        upper, lower = emit_splat(builder, vector, u0), emit_splat(builder, vector, u1)
        with builder.if_else(weighs(u0), likely=True) as (some, none):
            with some, builder.if_else(weighs(u1), likely=True) as (both, alone):
                with both:
                    along_x(i, line, [upper, lower])
                with alone:
                    along_x(i, line, [upper])
            with none:
                along_x(i, line, [])


@intrinsic
def highest(
    typingctx, source, at, index, weight, next_weight, pitch, first_y, last_y, first_x, last_x
):  # fmt: skip
    """The largest of a bin's samples, of which there are some; -inf also where all are NaN.

    Pixel (0, 0) lies at ``at``.
    """
    lanes = lanes_like(source)

    def codegen(context, builder, signature, args):
        source_array, at, *tables, pitch, first_y, last_y, first_x, last_x = args
        arrays = list(
            zip((source, index, weight, next_weight), (source_array, *tables), strict=True)
        )
        ranges = first_y, last_y, first_x, last_x
        place = at, pitch.type(1), pitch.type(1), pitch
        vector = context.get_value_type(lanes)
        best = cgutils.alloca_once_value(builder, broadcast(vector, float("-inf")))

        def visit(i, j, value):
            so_far = builder.load(best)
            builder.store(builder.select(_above(builder, value, so_far), value, so_far), best)

        _each_sample(context, builder, lanes, arrays, place, ranges, visit)
        return builder.load(best)

    intp = types.intp
    signature = lanes(source, intp, index, weight, next_weight, intp, intp, intp, intp, intp)
    return signature, codegen


@intrinsic
def lowest(typingctx, best):
    """Whether any lane is -inf."""

    def codegen(context, builder, signature, args):
        return _lowest(builder, *args)

    return types.boolean(best), codegen


@intrinsic
def compete(
    typingctx, source, at, step_y, step_x, pitch, index, weight, next_weight, label, whole,
    first_y, last_y, first_x, last_x, best, row, column,
):  # fmt: skip
    """Let the entries [first_y, last_y) x [first_x, last_x) of a bin compete, row by row.

    Entry (i, j) lies at ``at + index[i] * step_y + index[j] * step_x``, and is one pixel if
    ``whole``.  Takes and returns each lane's maximum so far, and what the winner is called along
    y and along x.
    """
    lanes = lanes_like(source)

    def codegen(context, builder, signature, args):
        source_array, *place, index_array, weight_array, next_array, label_array, whole = args[:10]
        ranges, states = args[10:14], args[14:]
        arrays = [
            (source, source_array), (index, index_array), (weight, weight_array),
            (next_weight, next_array),
        ]  # fmt: skip
        vector = context.get_value_type(lanes)
        names = states[1].type
        best, *winner = [cgutils.alloca_once_value(builder, state) for state in states]

        def visit(i, j, value):
            so_far = builder.load(best)
            won = _beats(builder, value, so_far)
            builder.store(builder.select(won, value, so_far), best)
            for entry, kept in zip((i, j), winner, strict=True):
                called = emit_load(context, builder, label, label_array, entry, entry.type)
                if called.type != names.element:
                    called = builder.trunc(called, names.element)
                called = emit_splat(builder, names, called)
                builder.store(builder.select(won, called, builder.load(kept)), kept)

        def offset(i, step):
            pointer = address(context, builder, index, index_array, i, INT32)
            return builder.mul(builder.sext(builder.load(pointer, align=1), step.type), step)

        with builder.if_else(whole) as (pixels, samples):
            with pixels:
                first_y, last_y, first_x, last_x = ranges
                one = last_y.type(1)
                with cgutils.for_range_slice(builder, first_y, last_y, one) as (i, _):
                    line = builder.add(place[0], offset(i, place[1]))
                    with cgutils.for_range_slice(builder, first_x, last_x, one) as (j, _):
                        where = builder.add(line, offset(j, place[2]))
                        value = emit_load(context, builder, source, source_array, where, vector)
                        visit(i, j, value)
            with samples:
                _each_sample(context, builder, lanes, arrays, place, ranges, visit)
        results = [builder.load(state) for state in (best, *winner)]
        return context.make_tuple(builder, signature.return_type, results)

    intp = types.intp
    signature = types.Tuple((best, row, column))(
        source, intp, intp, intp, intp, index, weight, next_weight, label, types.boolean, intp,
        intp, intp, intp, best, row, column,
    )  # fmt: skip
    return signature, codegen


@intrinsic
def store_names(typingctx, target, at, step, rows, columns, stride):
    """Store ``rows * stride + columns``, -1 where either is negative.

    As many as are lanes of `target` at ``at``, as many again at ``at + step``, and so on.
    """

    def codegen(context, builder, signature, args):
        array, at, step, rows, columns, stride = args
        count = rows.type.count
        vector = ir.VectorType(step.type, count)
        none = builder.icmp_signed("<", builder.or_(rows, columns), broadcast(rows.type, 0))
        if rows.type != vector:
            rows, columns = builder.sext(rows, vector), builder.sext(columns, vector)
        names = builder.add(builder.mul(rows, emit_splat(builder, vector, stride)), columns)
        names = builder.select(none, broadcast(vector, -1), names)
        some = lanes_like(target).count
        for first in range(0, count, some):
            part = ir.Constant(ir.VectorType(INT32, some), list(range(first, first + some)))
            lanes = builder.shuffle_vector(names, names, part)
            emit_store(context, builder, target, array, at, lanes)
            at = builder.add(at, step)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(target, intp, intp, rows, columns, intp), codegen
