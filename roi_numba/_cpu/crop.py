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
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compile import inline, kernel, named_after
from .engine import flat
from .lanes import _load, _splat, _store, read, write
from .threads import run

ROUND_ENTRIES = 2**17
"""Table entries after which the remaining boxes wait for the next round: 1 MiB."""

PORTION = 2**20
"""Numbers written at a time by a thread: 1 to 4 ms."""

FEW, MANY = 4, 16
"""Elements of one vector: the channels of a pixel, and more."""


def _blend(count):
    """``target[to + i] = a + (b - a) * share`` for i < count, a and b from either place on."""

    @intrinsic
    def blend(typingctx, source, first, second, share, target, to):
        def codegen(context, builder, signature, args):
            source_array, first, second, share, target_array, to = args
            vector = ir.VectorType(ir.FloatType(), count)
            a = _load(context, builder, source, source_array, first, vector)
            b = _load(context, builder, source, source_array, second, vector)
            part = builder.fmul(builder.fsub(b, a), _splat(builder, vector, share))
            _store(context, builder, target, target_array, to, builder.fadd(a, part))
            return context.get_dummy_value()

        intp = types.intp
        return types.void(source, intp, intp, types.float32, target, intp), codegen

    return blend


def _copy(count):
    """``target[to + i] = source[first + i]`` for i < count."""

    @intrinsic
    def copy(typingctx, source, first, target, to):
        def codegen(context, builder, signature, args):
            source_array, first, target_array, to = args
            vector = ir.VectorType(ir.FloatType(), count)
            value = _load(context, builder, source, source_array, first, vector)
            _store(context, builder, target, target_array, to, value)
            return context.get_dummy_value()

        return types.void(source, types.intp, target, types.intp), codegen

    return copy


blend_few, blend_many = _blend(FEW), _blend(MANY)
copy_few, copy_many = _copy(FEW), _copy(MANY)


@cache
def places_of(rule):
    """The kernel that fills a table: the pixel of every bin, -1 off the map, and the next's share.

    Bin p along y of box k is ``[k, p]``, along x it is ``bins_y`` further.
    """
    span, entry = rule.span, rule.entry

    @kernel
    @named_after(rule.name)
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
def stretch(source, at, offset, step, share, inner, roomy, row, to):
    """Interpolate a row of the map along x, at ``at + offset[q]`` and a ``step`` further."""
    for q in range(len(offset)):
        first, part = at + offset[q], share[q]
        second = first + step
        if not roomy:
            for c in range(inner):
                a = read(source, first + c, row)
                if part != 0:
                    a += (read(source, second + c, row) - a) * part
                row[to + c] = a
        elif part == 0:
            for c in range(0, inner, MANY):
                copy_many(source, first + c, row, to + c)
        elif inner <= FEW:
            blend_few(source, first, second, part, row, to)
        else:
            for c in range(0, inner, MANY):
                blend_many(source, first + c, second + c, part, row, to + c)
        to += inner


@kernel
def crop(
    source, layout, images, start, target, target_layout, bins, pixel, share, fill, first_item,
    last_item,
):  # fmt: skip
    """Fill the rows of bins (box, plane, bin along y) from the first up to the last.

    A plane is a channel, or all of them where they lie next to each other.
    """
    height, width = bins
    inner = layout.channels if layout.channel_stride == 1 else 1
    planes = layout.channels // inner
    step = layout.width_stride
    length = width * inner
    pitch = length + MANY
    packed = target_layout.width_stride == inner and (
        inner == 1 or target_layout.channel_stride == 1
    )
    rows = np.empty(2 * pitch + MANY, np.float32)
    line = np.empty(length + MANY, np.float32)
    offset, part = np.empty(width, np.int64), np.empty(width, np.float32)
    outside = np.empty(width, np.int64)
    current, missing, reach = -1, 0, 0
    upper, lower = 0, pitch
    in_upper, in_lower = -1, -1
    for item in range(first_item, last_item):
        unit, p = item // height, item % height
        k, plane = unit // planes, unit % planes
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
                offset[q] = x * step
                reach = max(reach, offset[q], offset[q] + (step if part[q] != 0 else 0))
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
                stretch(source, at, offset, step, part, inner, roomy, rows, upper)
                in_upper = y
            if below != 0 and in_lower != y + 1:
                at += layout.height_stride
                roomy = at + reach + inner + MANY <= source.size
                stretch(source, at, offset, step, part, inner, roomy, rows, lower)
                in_lower = y + 1
            if packed and missing == 0 and length >= MANY:
                for i in range(0, length, MANY):
                    i = min(i, length - MANY)
                    if below == 0:
                        copy_many(rows, upper + i, target, to + i)
                    else:
                        blend_many(rows, upper + i, lower + i, below, target, to + i)
                continue
            for i in range(0, length, MANY):
                if below == 0:
                    copy_many(rows, upper + i, line, i)
                else:
                    blend_many(rows, upper + i, lower + i, below, line, i)
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
        work = partial(
            crop, source, source_layout, images, start, target, target_layout, bins, pixel, share,
            np.float32(fill),
        )  # fmt: skip
        items = count * planes * bins[0]
        portion = max(1, PORTION // (bins[1] * (channels // planes)))
        run(work, pairwise([*range(0, items, portion), items]))
