"""Means of boxes no wider than two vectors, channels first: read where the map lies.

Elsewhere channels are lanes, for which pixels are transposed into scratch and bins out of it.  Here
pixels are: the rows of a bin are added up as they lie in the map, and the pixels of all bins of a
row are then picked out of them by one instruction a tap, `vpermt2ps`.  It does the same sums in the
same order, so no bit depends on which of the two is taken.
"""

from functools import cache

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .compile import inline
from .formats import assembly, encoded, kernels_processor
from .lanes import combine, splat, store, strided
from .plan import ROWS_PIXELS
from .unpack import Waiting, go_on, waits
from .vectors import INT32, address, emit_load, emit_splat, lanes_like

MOST_TAPS = 8
"""Pixels of a row that a bin weighs, at most: a bin of more is better off with lanes."""

KEPT = 3
"""Taps whose weights and places are kept in registers."""

PICKS = 2 * MOST_TAPS
"""Vectors that `list_picks` fills."""

WIDE = """
define <32 x i16> @wide(<32 x i16> %x) {
    %y = add <32 x i16> %x, %x
    ret <32 x i16> %y
}
"""


def picked_by(triple, processor, features):
    """Whether a processor has AVX-512 (BW).

    Its instructions pick from two vectors of 64 bytes and store a part of one; of a vector of
    32 bytes those of VL do, which every processor with BW has had.
    """
    return "vpaddw\t%zmm" in assembly(WIDE, triple, processor, features)


@cache
def picks_pixels():
    """`picked_by` the processor that kernels are compiled for: as they take it, True or None."""
    return True if picked_by(*kernels_processor()) else None


@intrinsic
def spread(
    typingctx, rows, row, step, taps, picks, target, to, to_step, of_step, bins, count
):  # fmt: skip
    """Pick what ``bins`` weigh out of reduced rows, for ``count`` channels.

    ``target[to + c * to_step + b] = sum_i weights[i, b] * pair[picked[i, b]]``, without taps that
    weigh nothing.  The first ``of_step`` bins of channel c pick from the pair of vectors
    ``rows[c * row:]``, as many others from that ``step`` elements further on.  ``rows[picks:]``
    are weights and what they weigh, as `list_picks` lists them.
    """
    lanes = lanes_like(rows)

    def codegen(context, builder, signature, args):
        rows_array, row, step, taps, picks = args[:5]
        target_array, to, to_step, of_step, bins, count = args[5:]
        intp = row.type
        vector = context.get_value_type(lanes)
        bits = ir.IntType(lanes.dtype.bitwidth)
        places = ir.VectorType(bits, lanes.count)
        ids = ir.Constant(places, list(range(lanes.count)))
        kind = {32: "ps", 64: "pd"}[bits.width]
        pick = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector, places, vector]),
            f"llvm.x86.avx512.vpermi2var.{kind}.512",
        )

        def line(i):
            return emit_load(context, builder, rows, rows_array, i, vector)

        def tap(i):
            at = builder.add(picks, builder.mul(i, intp(lanes.count)))
            weights = line(at)
            picked = line(builder.add(at, intp(MOST_TAPS * lanes.count)))
            weighs = builder.fcmp_unordered("!=", weights, ir.Constant(vector, None))
            return weights, builder.fptosi(picked, places), weighs

        def added(total, pair, weights, picked, weighs):
            product = builder.call(pick, [pair[0], picked, pair[1]])
            if total is None:
                product = builder.fmul(weights, product)
                return builder.select(weighs, product, ir.Constant(vector, None))
            product = builder.fmul(weights, product, flags=("contract",))
            return builder.select(weighs, builder.fadd(total, product, flags=("contract",)), total)

        def put(index, total, there):
            stored = encoded(builder, target.dtype, total)
            pointer = address(context, builder, target, target_array, index, stored.type, 0)
            last = builder.sub(builder.add(index, there), intp(1))
            address(context, builder, target, target_array, last, stored.type.element)  # is checked
            few = builder.trunc(there, bits)
            mask = builder.icmp_signed("<", ids, emit_splat(builder, places, few))
            suffix = f"v{lanes.count}{_mangled(stored.type.element)}"
            masked = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [stored.type, pointer.type, INT32, mask.type]),
                f"llvm.masked.store.{suffix}.p0{suffix}",
            )
            builder.call(masked, [stored, pointer, INT32(1), mask])

        kept = [tap(intp(i)) for i in range(KEPT)]
        steps = builder.udiv(builder.add(bins, builder.sub(of_step, intp(1))), of_step)
        with strided(builder, count, (intp(0), row), (to, to_step)) as (first, there):
            with strided(builder, steps, (first, step), (intp(0), of_step)) as (at, done):
                pair = line(at), line(builder.add(at, intp(lanes.count)))
                total = None
                for each in kept:
                    total = added(total, pair, *each)
                so_far = cgutils.alloca_once_value(builder, total)
                with cgutils.for_range_slice(builder, intp(KEPT), taps, intp(1)) as (i, _):
                    builder.store(added(builder.load(so_far), pair, *tap(i)), so_far)
                left = builder.sub(bins, done)
                left = builder.select(builder.icmp_signed("<", left, of_step), left, of_step)
                put(builder.add(there, done), builder.load(so_far), left)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(rows, intp, intp, intp, intp, target, intp, intp, intp, intp, intp), codegen


def _mangled(scalar):
    """What LLVM calls a type within the name of an intrinsic."""
    if isinstance(scalar, ir.IntType):
        return f"i{scalar.width}"
    return "f32" if scalar == ir.FloatType() else "f64"


@inline
def list_picks(table, k, bins, lanes, rows, picks):
    """List what bins pick of a row of one vector, or two, and of the next row; see `spread`.

    A row of bins fits a vector.  Returns how many taps a bin has, at most, and how many rows of
    bins are picked at a time: two if their pixels and they fit one vector each.  No taps: the box
    is not narrow.
    """
    begin, index, weight, runs = table.begin, table.index, table.weight, table.runs
    run, width = table.runs_begin[k], bins[1]
    bin_x = k * (bins[0] + width) + bins[0]
    taps, at_a_time = 0, 1
    if table.runs_begin[k + 1] == run + 1 and runs[run, 1] <= 2 * lanes:
        for q in range(bin_x, bin_x + width):
            taps = max(taps, begin[q + 1] - begin[q])
        if runs[run, 1] <= lanes and 2 * width <= lanes:
            at_a_time = 2
    if taps == 0 or taps > MOST_TAPS:
        return 0, at_a_time
    zero = splat(rows.dtype.type(0), rows)
    for tap in range(max(KEPT, taps)):
        store(rows, picks + tap * lanes, zero)
        store(rows, picks + (MOST_TAPS + tap) * lanes, zero)
    for q in range(width):
        to = picks + q
        for e in range(begin[bin_x + q], begin[bin_x + q + 1]):
            for row in range(at_a_time):
                rows[to + row * width] = weight[e]
                rows[to + row * width + MOST_TAPS * lanes] = index[e] + row * lanes
            to += lanes
    return taps, at_a_time


@inline
def suits(layout, target_layout, bins, lanes):
    """Whether rows of the map and of bins lie so that `pool_narrow` can read and write them."""
    return (
        layout.channel_stride != 1
        and layout.width_stride == 1
        and target_layout.width_stride == 1
        and target_layout.height_stride == bins[1]
        and bins[1] <= lanes
        and 2 * bins[0] * lanes <= ROWS_PIXELS
    )


@inline
def is_there(source, layout, at, channels, y0, y1, pixels):
    """Whether so many pixels from ``source[at]`` on are memory of the map, of rows y0 up to y1."""
    at += max(0, (channels - 1) * layout.channel_stride)
    at += max(y0 * layout.height_stride, (y1 - 1) * layout.height_stride)
    return at + pixels <= source.size


@inline
def pool_narrow(
    source, layout, at, channels, taps, at_a_time, bins, table, k, rows, picks, cells, lanes,
    target, target_layout, to, waiting,
):  # fmt: skip
    """One box that is narrow, of so many channels: rows first, then columns.

    Its first column of row 0 and its first channel are ``source[at]``, its bins begin with
    ``target[to]``.  What is ``waiting`` of another box is written before; returns what waits then.
    """
    height, width = bins
    vectors = 2 if table.runs[table.runs_begin[k], 1] > lanes else 1
    row = height * vectors * lanes
    bin_y = k * (height + width)
    for p in range(height):
        for vector in range(vectors):
            combine(
                source, at + vector * lanes, layout.channel_stride,
                table.index, layout.height_stride, table.weight,
                table.begin[bin_y + p], table.begin[bin_y + p + 1],
                rows, (p * vectors + vector) * lanes, row, channels,
            )  # fmt: skip
        if waiting.done < waiting.count:
            waiting = go_on(cells, target, waiting, width * lanes)
    step = max(vectors, at_a_time) * lanes
    count = height * width
    if waits(cells, target, target_layout, channels, bins, lanes):
        spread(
            rows, row, step, taps, picks, cells, count * lanes, count, at_a_time * width, count,
            channels,
        )  # fmt: skip
        return Waiting(to, 0, count * lanes)
    spread(
        rows, row, step, taps, picks, target, to, target_layout.channel_stride, at_a_time * width,
        count, channels,
    )  # fmt: skip
    return Waiting(0, 0, 0)
