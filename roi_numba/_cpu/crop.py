"""Crops: one interpolated sample a bin, written into float32 whatever the map holds.

The general engine makes vectors of channels, and images have three; here neighbouring pixels of a
row fill them.  A row of bins is two rows of the map interpolated along x, then between them.  In
this order, and without fused multiply-add, the bits are TensorFlow's.
"""

from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compile import inline, kernel, named_after, unrolled
from .engine import flat
from .formats import broadcast, decoded, storage_type
from .lanes import read, store
from .streams import STREAMED, fence, stream_lanes
from .threads import run
from .vectors import Lanes, address, emit_load, emit_splat, emit_store

ROUND_ENTRIES = 2**17
"""Table entries after which the remaining boxes wait for the next round: 1 MiB."""

PORTION = 2**20
"""Numbers written at a time by a thread: 1 to 4 ms."""

FEW, MANY = 4, 16
"""Elements of one vector: the channels of a pixel, and more."""


def _between(builder, a, b, share):
    """``a + (b - a) * share``, and where the share is zero a, whatever b is."""
    part = builder.fmul(builder.fsub(b, a), share)
    none = builder.fcmp_ordered("==", share, ir.Constant(share.type, None))
    return builder.select(none, a, builder.fadd(a, part))


@intrinsic
def blend(typingctx, source, first, second, share):
    """Interpolate ``MANY`` elements from two places on; the second is not read for a share of 0."""

    def codegen(context, builder, signature, args):
        source_array, first, second, share = args
        vector = ir.VectorType(ir.FloatType(), MANY)
        some = builder.fcmp_ordered("!=", share, share.type(0))
        second = builder.select(some, second, first)
        a = emit_load(context, builder, source, source_array, first, vector)
        b = emit_load(context, builder, source, source_array, second, vector)
        return _between(builder, a, b, emit_splat(builder, vector, share))

    intp = types.intp
    return Lanes(types.float32, MANY)(source, intp, intp, types.float32), codegen


@intrinsic
def stretch_few(typingctx, source, at, near, far, share, inner, row, to):
    """As `stretch`, pixels of up to ``FEW`` channels: as many are read and written for each."""

    def codegen(context, builder, signature, args):
        source_array, at, near_array, far_array, share_array, inner, row_array, to = args
        vector = ir.VectorType(ir.FloatType(), FEW)
        count = context.make_array(near)(context, builder, near_array).nitems
        with cgutils.for_range(builder, count) as loop:
            q = loop.index

            def pixel(array_type, array):
                offset = emit_load(context, builder, array_type, array, q, at.type)
                place = builder.add(at, offset)
                return emit_load(context, builder, source, source_array, place, vector)

            part = emit_load(context, builder, share, share_array, q, vector.element)
            a, b = pixel(near, near_array), pixel(far, far_array)
            value = _between(builder, a, b, emit_splat(builder, vector, part))
            place = builder.add(to, builder.mul(q, inner))
            emit_store(context, builder, row, row_array, place, value)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, near, far, share, intp, row, intp), codegen


@intrinsic
def stretch_one(typingctx, source, at, near, far, share, q, row, to):
    """As `stretch`, ``MANY`` pixels of one channel from number q on."""

    def codegen(context, builder, signature, args):
        source_array, at, near_array, far_array, share_array, q, row_array, to = args
        vector = ir.VectorType(ir.FloatType(), MANY)
        stored = ir.VectorType(storage_type(context, source.dtype), MANY)

        def pixels(array_type, array):
            gathered = ir.Constant(stored, ir.Undefined)
            for i in range(MANY):
                number = builder.add(q, q.type(i))
                offset = emit_load(context, builder, array_type, array, number, at.type)
                place = builder.add(at, offset)
                pointer = address(context, builder, source, source_array, place, stored.element)
                value = builder.load(pointer, align=1)
                gathered = builder.insert_element(gathered, value, ir.IntType(32)(i))
            return decoded(builder, source.dtype, gathered, vector)

        parts = emit_load(context, builder, share, share_array, q, vector)
        value = _between(builder, pixels(near, near_array), pixels(far, far_array), parts)
        emit_store(context, builder, row, row_array, builder.add(to, q), value)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, near, far, share, intp, row, intp), codegen


@intrinsic
def stretch_pairs(typingctx, source, at, near, share, q, row, to):
    """As `stretch_one` where every pixel's next lies beside it: both are read at once."""

    def codegen(context, builder, signature, args):
        source_array, at, near_array, share_array, q, row_array, to = args
        vector = ir.VectorType(ir.FloatType(), MANY)
        element = storage_type(context, source.dtype)
        pair = ir.IntType(2 * context.get_abi_sizeof(element) * 8)
        pairs = ir.Constant(ir.VectorType(pair, MANY), ir.Undefined)
        for i in range(MANY):
            offset = emit_load(
                context, builder, near, near_array, builder.add(q, q.type(i)), at.type
            )
            place = builder.add(at, offset)
            pointer = address(context, builder, source, source_array, place, pair, 2)
            value = builder.load(pointer, align=1)
            pairs = builder.insert_element(pairs, value, ir.IntType(32)(i))
        one = ir.VectorType(ir.IntType(pair.width // 2), MANY)

        # Not a shuffle of both: LLVM would make it one of half floats, which it takes apart
        # (float16, channels first: 107 ms, so 45).
        def pixels(first):
            shifted = builder.lshr(pairs, broadcast(pairs.type, first * one.element.width))
            stored = builder.bitcast(builder.trunc(shifted, one), ir.VectorType(element, MANY))
            return decoded(builder, source.dtype, stored, vector)

        parts = emit_load(context, builder, share, share_array, q, vector)
        value = _between(builder, pixels(0), pixels(1), parts)
        emit_store(context, builder, row, row_array, builder.add(to, q), value)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, near, share, intp, row, intp), codegen


@cache
def places_of(rule):
    """The kernel that fills a table: the pixel of every bin, -1 off the map, and the next's share.

    Bin p along y of box k is ``[k, p]``, along x it is ``bins_y`` further.
    """
    span, entry = rule.span, rule.entry

    @kernel
    @named_after(rule.name)
    @unrolled
    def places(corners, images, start, bins, sizes, options, pixel, share):
        for k in range(len(pixel)):
            for axis in range(2):
                n, size, option = bins[axis], sizes[axis], options[axis]
                box = span(corners[start + k, 1 - axis], corners[start + k, 3 - axis], n, option)
                first = axis * bins[0]
                for p in range(n):
                    where, weight, next_weight = entry(box, p, 0, n, size, option)
                    if weight == 0 or images[start + k] < 0:
                        where = -1
                    pixel[k, first + p] = where
                    share[k, first + p] = next_weight

    return places


@inline
@unrolled
def stretch(source, at, near, far, share, inner, beside, roomy, row, to):
    """Interpolate a row of the map along x, between ``at + near[q]`` and ``at + far[q]``.

    ``beside``: each pixel's next is the next in memory.  ``roomy``: there is memory for a vector
    beyond each of its pixels.
    """
    width = len(near)
    if roomy and beside and inner == 1 and width >= MANY:
        for q in range(0, width, MANY):
            stretch_pairs(source, at, near, share, min(q, width - MANY), row, to)
    elif roomy and inner == 1 and width >= MANY:
        for q in range(0, width, MANY):
            stretch_one(source, at, near, far, share, min(q, width - MANY), row, to)
    elif roomy and 1 < inner <= FEW:
        stretch_few(source, at, near, far, share, inner, row, to)
    elif roomy and inner > FEW:
        for q in range(width):
            for c in range(0, inner, MANY):
                first, second = at + near[q] + c, at + far[q] + c
                store(row, to + q * inner + c, blend(source, first, second, share[q]))
    else:
        for q in range(width):
            for c in range(inner):
                a = read(source, at + near[q] + c, row)
                if share[q] != 0:
                    a += (read(source, at + far[q] + c, row) - a) * share[q]
                row[to + q * inner + c] = a


@kernel
@unrolled
def crop(
    source, layout, images, start, order, target, target_layout, bins, pixel, share, fill,
    first_item, last_item,
):  # fmt: skip
    """Fill the rows of bins (plane, box in `order`, bin along y) from the first up to the last.

    A plane is a channel, or all of them where they lie next to each other.
    """
    height, width = bins
    inner = layout.channels if layout.channel_stride == 1 else 1
    count = len(order)
    step = layout.width_stride
    length = width * inner
    pitch = length + MANY
    packed = target_layout.width_stride == inner and (
        inner == 1 or target_layout.channel_stride == 1
    )
    rows = np.empty(2 * pitch + MANY, np.float32)
    line = np.empty(length + MANY, np.float32)
    near, far = np.empty(width, np.int64), np.empty(width, np.int64)
    part = np.empty(width, np.float32)
    outside = np.empty(width, np.int64)
    streamed = target.size >= STREAMED and length % MANY == 0  # or rows share lines
    current, missing, reach = -1, 0, 0
    upper, lower = 0, pitch
    in_upper, in_lower = -1, -1
    for item in range(first_item, last_item):
        unit, p = item // height, item % height
        k, plane = order[unit % count], unit // count
        if unit != current:
            current, missing, reach = unit, 0, 0
            in_upper, in_lower = -1, -1
            for q in range(width):
                x = pixel[k, height + q]
                part[q] = share[k, height + q]
                if x < 0:
                    outside[missing] = q
                    missing += 1
                    x = 0
                    part[q] = 0
                near[q] = x * step
                far[q] = (x + 1) * step if part[q] != 0 else near[q]
                reach = max(reach, near[q], far[q])
        to = (
            target_layout.origin
            + (start + k) * target_layout.stride
            + plane * target_layout.channel_stride
            + p * target_layout.height_stride
        )
        y, below = pixel[k, p], share[k, p]
        if y < 0 or missing == width:
            for i in range(length):
                line[i] = fill
        else:
            at = (
                layout.origin
                + images[start + k] * layout.stride
                + plane * layout.channel_stride
                + y * layout.height_stride
            )
            if in_lower == y or in_upper == y + 1:
                upper, lower = lower, upper
                in_upper, in_lower = in_lower, in_upper
            if in_upper != y:
                roomy = at + reach + inner + MANY <= source.size
                stretch(source, at, near, far, part, inner, step == 1, roomy, rows, upper)
                in_upper = y
            if below != 0 and in_lower != y + 1:
                at += layout.height_stride
                roomy = at + reach + inner + MANY <= source.size
                stretch(source, at, near, far, part, inner, step == 1, roomy, rows, lower)
                in_lower = y + 1
            if packed and missing == 0 and length >= MANY:
                for i in range(0, length, MANY):
                    i = min(i, length - MANY)
                    values = blend(rows, upper + i, lower + i, below)
                    if streamed:
                        stream_lanes(target, to + i, values)
                    else:
                        store(target, to + i, values)
                continue
            for i in range(0, length, MANY):
                store(line, i, blend(rows, upper + i, lower + i, below))
            for j in range(missing):
                for c in range(inner):
                    line[outside[j] * inner + c] = fill
        if packed:
            for i in range(length):
                target[to + i] = line[i]
        else:
            for q in range(width):
                for c in range(inner):
                    place = to + q * target_layout.width_stride + c * target_layout.channel_stride
                    target[place] = line[q * inner + c]
    fence()


def sample(
    rule: Any,
    options: Any,
    features: NDArray[Any],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    fill: float,
    output: NDArray[np.float32],
    channel_axis: int,
) -> None:
    """Write into `output` what the only sample of each bin finds, `fill` where it is off the map.

    So it is of all bins of a box of image -1.  A sample's pixels must lie on the map.
    """
    source, source_layout = flat(features, channel_axis)
    target, target_layout = flat(output, channel_axis)
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = features.shape[y_axis], features.shape[x_axis]
    bins = output.shape[y_axis], output.shape[x_axis]
    channels = source_layout.channels
    planes = 1 if source_layout.channel_stride == 1 else channels
    most = max(1, ROUND_ENTRIES // sum(bins))
    for start in range(0, len(corners), most):
        count = min(most, len(corners) - start)
        pixel = np.empty((count, sum(bins)), np.int32)
        share = np.empty((count, sum(bins)), np.float32)
        places_of(rule)(corners, images, start, bins, sizes, options, pixel, share)
        # Half the time goes into waiting for memory: crops near each other find it in the cache.
        order = np.lexsort((pixel[:, 0], images[start : start + count]))
        work = partial(
            crop, source, source_layout, images, start, order, target, target_layout, bins, pixel,
            share, np.float32(fill),
        )  # fmt: skip
        items = count * planes * bins[0]
        portion = max(1, PORTION // (bins[1] * (channels // planes)))
        run(work, pairwise([*range(0, items, portion), items]))
