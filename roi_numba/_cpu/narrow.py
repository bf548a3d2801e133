"""Means of boxes no wider than two vectors, channels first: read where the map lies.

Elsewhere channels are lanes, for which pixels are transposed into scratch and bins out of it.  Here
pixels are: the rows of a bin are added up as they lie in the map, and the pixels of all bins of a
row, or of two, are picked out of the sums by one instruction a tap, `vpermt2ps` or `vpermps`;
nothing between leaves the registers.  It does the same sums in the same order, so no bit depends on
which of the two is taken.
"""

from functools import cache

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .compile import inline
from .formats import assembly, encoded, kernels_processor
from .lanes import emit_added, emit_tap, splat, store, strided
from .plan import by_group
from .streams import STREAMED
from .unpack import Waiting, go_on, waits
from .vectors import INT32, address, emit_load, emit_splat, lanes_like

MOST_TAPS = 8
"""Pixels of a row that a bin weighs, at most: a bin of more is better off with lanes."""

KEPT = 3
"""Taps whose weights and places are kept in registers."""

KEPT_ROWS = 4
"""Rows whose weights and places are; two samples a bin have no more."""

AT_ONCE = 4
"""Blocks of a box's channels that are pooled at once, at most, with what is looked up for one (7x7
bins of 7x4 pixels, 1024 channels: 17.3 -> 14.7 µs; all of them: 14.6)."""

AT_ONCE_LINES = 1024
"""Lines of the map that they may have.  Of 512 to 4096 none was clearly better."""

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
def pick_sums(
    typingctx, source, at, step, indices, unit, weights, one, other, taps, rows, picks, target, to,
    to_step, bins, count,
):  # fmt: skip
    """Add up rows of pixels and pick out of the sums what ``bins`` weigh, for ``count`` channels.

    ``one`` and ``other`` are ``(first, last)``: for channel c the vector of pixels
    ``sum_i weights[i] * source[at + c * step + indices[i] * unit:]`` of first <= i < last.
    ``other`` may also be how far beside the pixels of the one, in the same rows, its own lie, or
    None.  Bin b goes to ``target[to + c * to_step + b]``: what it picks of the vectors, and how it
    weighs that, `list_picks` lists in ``rows[picks:]``.
    """
    lanes = lanes_like(rows)
    beside = isinstance(other, types.Integer)
    spans = 2 if isinstance(other, types.BaseTuple) else 1

    def codegen(context, builder, signature, args):
        source_array, at, step, index_array, unit, weight_array, one, other = args[:8]
        taps, rows_array, picks, target_array, to, to_step, bins, count = args[8:]
        intp = at.type
        vector = context.get_value_type(lanes)
        places = ir.VectorType(ir.IntType(lanes.dtype.bitwidth), lanes.count)
        zero = ir.Constant(vector, None)
        table = (weights, weight_array), (indices, index_array)
        ranges = [cgutils.unpack_tuple(builder, each, 2) for each in (one, other)[:spans]]
        lengths = [builder.sub(last, first) for first, last in ranges]
        shifts = [intp(0), other] if beside else [intp(0)]

        def row(i):
            return emit_tap(context, builder, *table, i, at, unit, vector)

        def everywhere(condition):
            return emit_splat(builder, ir.VectorType(ir.IntType(1), lanes.count), condition)

        def more(totals, moved, weight, place, counts=None):
            """Add a row to each total, if it counts."""
            for total, shift in zip(totals, shifts, strict=True):
                where = builder.add(builder.add(place, moved), shift)
                pixels = emit_load(context, builder, source, source_array, where, vector)
                longer = emit_added(builder, total, weight, pixels)
                yield longer if counts is None else builder.select(counts, longer, total)

        def kept(n, span, length):
            """``n`` rows, of which the last may not be there: the first stands for it."""
            first, _ = span
            there = builder.icmp_signed(">=", length, intp(n))
            last = builder.select(there, builder.add(first, intp(n - 1)), first)
            some = [row(builder.add(first, intp(i))) for i in range(n - 1)]
            return [*some, (*row(last), everywhere(there))] if 1 < n else [row(first)]

        def sums_of_kept(some, moved):
            totals = [None for _ in shifts]
            for each in some:
                totals = list(more(totals, moved, *each))
            return totals

        def sums_of_any(span, moved):
            """The same of however many rows."""
            first, last = span
            so_far = [cgutils.alloca_once_value(builder, zero) for _ in shifts]
            with builder.if_then(builder.icmp_signed("<", first, last)):
                totals = more([None for _ in shifts], moved, *row(first))
                for total, place in zip(totals, so_far, strict=True):
                    builder.store(total, place)
            second = builder.add(first, intp(1))
            with cgutils.for_range_slice(builder, second, last, intp(1)) as (i, _):
                totals = more([builder.load(each) for each in so_far], moved, *row(i))
                for total, place in zip(totals, so_far, strict=True):
                    builder.store(total, place)
            return [builder.load(each) for each in so_far]

        def tap(i):
            """Weights and places of what bins pick, and whether they weigh anything."""
            at = builder.add(picks, builder.mul(i, intp(lanes.count)))
            weighing = emit_load(context, builder, rows, rows_array, at, vector)
            at = builder.add(at, intp(MOST_TAPS * lanes.count))
            picked = emit_load(context, builder, rows, rows_array, at, vector)
            counts = builder.fcmp_unordered("!=", weighing, zero)
            return weighing, builder.fptosi(picked, places), counts

        def pick(total, vectors, tap):
            weighing, picked, counts = tap
            longer = emit_added(builder, total, weighing, _picked(builder, vectors, picked))
            return builder.select(counts, longer, zero if total is None else total)

        ids = ir.Constant(places, list(range(lanes.count)))
        end = emit_splat(builder, places, builder.trunc(bins, places.element))
        written = builder.icmp_signed("<", ids, end)

        def put(index, total):
            stored = encoded(builder, target.dtype, total)
            pointer = address(context, builder, target, target_array, index, stored.type, 0)
            last = builder.sub(builder.add(index, bins), intp(1))
            address(context, builder, target, target_array, last, stored.type.element)  # is checked
            _store_some(builder, stored, pointer, written)

        def pool(n):
            """All channels, of sums of ``n`` rows or one less; of 0: of any."""
            some = [kept(n, *each) for each in zip(ranges, lengths, strict=True)] if n else ranges
            sums = sums_of_kept if n else sums_of_any
            with strided(builder, count, (to, to_step), (intp(0), step)) as (index, moved):
                vectors = [total for each in some for total in sums(each, moved)]
                total = None
                for each in taps_kept:
                    total = pick(total, vectors, each)
                so_far = cgutils.alloca_once_value(builder, total)
                with cgutils.for_range_slice(builder, intp(KEPT), taps, intp(1)) as (i, _):
                    builder.store(pick(builder.load(so_far), vectors, tap(i)), so_far)
                put(index, builder.load(so_far))

        taps_kept = [tap(intp(i)) for i in range(KEPT)]
        after = builder.append_basic_block("after")
        for n in range(1, KEPT_ROWS + 1):
            fits = cgutils.true_bit
            for length in lengths:
                enough = builder.icmp_signed(">=", length, intp(max(n - 1, 1)))
                fits = builder.and_(fits, enough)
                fits = builder.and_(fits, builder.icmp_signed("<=", length, intp(n)))
            with builder.if_then(fits):
                pool(n)
                builder.branch(after)
        pool(0)
        builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    intp = types.intp
    signature = types.void(
        source, intp, intp, indices, intp, weights, one, other, intp, rows, intp, target, intp,
        intp, intp, intp,
    )  # fmt: skip
    return signature, codegen


def _mangled(scalar):
    """What LLVM calls a type within the name of an intrinsic."""
    if isinstance(scalar, ir.IntType):
        return f"i{scalar.width}"
    return "f32" if scalar == ir.FloatType() else "f64"


def _call(builder, name, result, arguments):
    """Call one of LLVM's intrinsics."""
    types_of = ir.FunctionType(result, [each.type for each in arguments])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, types_of, f"llvm.{name}"), arguments
    )


def _picked(builder, vectors, places):
    """A vector of the lanes that ``places`` say, of one vector or of two after each other."""
    single = vectors[0].type.element == ir.FloatType()
    if len(vectors) == 1:
        name = f"x86.avx512.permvar.{'sf' if single else 'df'}.512"
        return _call(builder, name, vectors[0].type, [*vectors, places])
    name = f"x86.avx512.vpermi2var.{'ps' if single else 'pd'}.512"
    return _call(builder, name, vectors[0].type, [vectors[0], places, vectors[1]])


def _store_some(builder, vector, pointer, lanes):
    """Store some lanes."""
    suffix = f"v{vector.type.count}{_mangled(vector.type.element)}"
    _call(
        builder, f"masked.store.{suffix}.p0{suffix}", ir.VoidType(),
        [vector, pointer, INT32(1), lanes],
    )  # fmt: skip


@inline
def list_picks(table, k, bins, lanes, rows, picks):
    """List what bins pick of a row of one vector, or two, and of the next row; see `pick_sums`.

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
    )


@inline
def is_there(source, layout, at, channels, y0, y1, pixels):
    """Whether so many pixels from ``source[at]`` on are memory of the map, of rows y0 up to y1."""
    at += max(0, (channels - 1) * layout.channel_stride)
    at += max(y0 * layout.height_stride, (y1 - 1) * layout.height_stride)
    return at + pixels <= source.size


@inline
def items_at_once(item, last, groups, layout, target, height, vectors, lanes):
    """How many items, blocks of channels of one box of so many rows, are pooled at once.

    The bins of large results wait block by block.
    """
    if not by_group(groups, layout) or target.size >= STREAMED:
        return 1
    items = (layout.channels + lanes - 1) // lanes
    fitting = AT_ONCE_LINES // ((vectors + 1) * max(height, 1) * lanes)
    return max(1, min(AT_ONCE, fitting, last - item, items - item % items))


@inline
def pool_rows(
    source, layout, at, channels, vectors, taps, at_a_time, bins, table, k, rows, picks, place, to,
    to_step, cells, target, waiting, lanes,
):  # fmt: skip
    """`pool_narrow` into ``place[to:]``, channels ``to_step`` apart.

    Meanwhile all that is ``waiting`` in ``cells`` goes to the ``target``.
    """
    height, width = bins
    bin_y = k * (height + width)
    for p in range(0, height, at_a_time):
        after = min(p + at_a_time, height)
        one = table.begin[bin_y + p], table.begin[bin_y + p + 1]
        there = (after - p) * width
        # Three calls: each type of the other sum compiles to code of its own.
        if vectors == 2:
            pick_sums(
                source, at, layout.channel_stride, table.index, layout.height_stride, table.weight,
                one, lanes, taps, rows, picks, place, to + p * width, to_step, there, channels,
            )  # fmt: skip
        elif at_a_time == 2:
            other = table.begin[bin_y + after - 1], table.begin[bin_y + after]
            pick_sums(
                source, at, layout.channel_stride, table.index, layout.height_stride, table.weight,
                one, other, taps, rows, picks, place, to + p * width, to_step, there, channels,
            )  # fmt: skip
        else:
            pick_sums(
                source, at, layout.channel_stride, table.index, layout.height_stride, table.weight,
                one, None, taps, rows, picks, place, to + p * width, to_step, there, channels,
            )  # fmt: skip
        if waiting.done < waiting.count:
            waiting = go_on(cells, target, waiting, there * lanes)


@inline
def pool_narrow(
    source, layout, at, channels, vectors, taps, at_a_time, bins, table, k, rows, picks, cells,
    lanes, target, target_layout, to, waiting,
):  # fmt: skip
    """One box that is narrow, of so many channels: rows first, then columns.

    Its first column of row 0 and its first channel are ``source[at]``, its bins begin with
    ``target[to]``.  What is ``waiting`` of another box is written meanwhile; returns what waits
    then.
    """
    if waits(cells, target, target_layout, channels, bins, lanes):
        count = bins[0] * bins[1]
        free = (2 if waiting.at == count * lanes else 1) * count * lanes
        pool_rows(
            source, layout, at, channels, vectors, taps, at_a_time, bins, table, k, rows, picks,
            cells, free, count, cells, target, waiting, lanes,
        )  # fmt: skip
        return Waiting(to, free, 0, count * lanes)
    pool_rows(
        source, layout, at, channels, vectors, taps, at_a_time, bins, table, k, rows, picks,
        target, to, target_layout.channel_stride, cells, target, waiting, lanes,
    )  # fmt: skip
    return Waiting(0, 0, 0, 0)
