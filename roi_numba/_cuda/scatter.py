"""Means, the way back to the map: every pixel gathers from the boxes that reach it, in order.

Nothing is added by two threads, so no atomics, and the same bits in every run: a pixel is the plain
sum over its boxes; in a box, over bin rows, of sums over bins.  `spread_of` is for those who would
rather have atomics.
"""

from functools import cache

import numpy as np

from .bits import add_atomically
from .compile import Kernel, cuda
from .contract import AT_ONCE
from .formats import accumulator, loader, saver
from .integers import divided, groups_of, tile_of, unit_of
from .turned import PIXELS, THREADS, TILE_HEIGHT, TILE_WIDTH


@cache
def scatter_of(stored: str, result: str, offsets: str) -> Kernel:
    """The kernel that spreads gradients stored as `stored` over a map of `result`.

    A block owns a tile and a share of the channels, a thread one pixel of four channels at a time,
    arranged as in `contract`.  ``adding``: from what earlier rounds left there
    it goes on, so that the sum is the same however many rounds there are.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, load_result, save = loader(stored), loader(result), saver(result)

    def scatter(
        source, box_stride, channel_stride, bin_row_stride, bin_column_stride, channels,
        line_begin, line_end, line_bin, line_weight, windows, count, touched, boxes, start,
        target, image_stride, target_channel_stride, row_stride, column_stride, height, width,
        tiles_y, tiles_x, share, inner, adding,
    ):  # fmt: skip
        tile = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        groups = groups_of(min(share, channels - first_channel), AT_ONCE)
        image, tile_y, tile_x = tile_of(tile, tiles_y, tiles_x)
        plane = N(image * image_stride)
        first = np.int64(tile) * boxes
        for unit in range(cuda.threadIdx.x, np.int32(PIXELS * groups), THREADS):
            pixel, channel, step = unit_of(unit, PIXELS, groups, inner, first_channel, AT_ONCE)
            y, x = divided(pixel, TILE_WIDTH)
            y, x = np.int32(y + tile_y * TILE_HEIGHT), np.int32(x + tile_x * TILE_WIDTH)
            if y >= height or x >= width:
                continue
            last = channels - 1
            c1, c2 = np.int32(channel + step), np.int32(channel + 2 * step)
            c3 = np.int32(channel + 3 * step)
            o0 = N(channel * channel_stride)
            o1 = N(min(c1, last) * channel_stride)
            o2 = N(min(c2, last) * channel_stride)
            o3 = N(min(c3, last) * channel_stride)
            place = N(plane + N(y * row_stride) + N(x * column_stride))
            s0, s1, s2, s3 = A(0), A(0), A(0), A(0)
            if adding:
                s0 = load_result(target, N(place + N(channel * target_channel_stride)))
                s1 = load_result(target, N(place + N(min(c1, last) * target_channel_stride)))
                s2 = load_result(target, N(place + N(min(c2, last) * target_channel_stride)))
                s3 = load_result(target, N(place + N(min(c3, last) * target_channel_stride)))
            for t in range(count[tile]):
                k = touched[first + t]
                if (
                    y < windows[4 * k]
                    or y >= windows[4 * k + 1]
                    or x < windows[4 * k + 2]
                    or x >= windows[4 * k + 3]
                ):
                    continue
                box = N((start + k) * box_stride)
                line = k * (height + width)
                begin_x, end_x = line_begin[line + height + x], line_end[line + height + x]
                for i in range(line_begin[line + y], line_end[line + y]):
                    row = N(box + N(line_bin[i] * bin_row_stride))
                    r0, r1, r2, r3 = A(0), A(0), A(0), A(0)
                    for j in range(begin_x, end_x):
                        at = N(row + N(line_bin[j] * bin_column_stride))
                        w = line_weight[j]
                        r0 += w * load(source, N(at + o0))
                        r1 += w * load(source, N(at + o1))
                        r2 += w * load(source, N(at + o2))
                        r3 += w * load(source, N(at + o3))
                    w = line_weight[i]
                    s0 += w * r0
                    s1 += w * r1
                    s2 += w * r2
                    s3 += w * r3
            limit = min(first_channel + share, channels)
            for c, s in ((channel, s0), (c1, s1), (c2, s2), (c3, s3)):
                if c < limit:
                    save(target, N(place + N(c * target_channel_stride)), s)

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32",
        "int32*", "int32*", "int32*", f"{np.dtype(A).name}*", "int32*", "int32*", "int32*", "int32",
        "int32", f"{result}*", *[offsets] * 4, "int32", "int32", "int32", "int32", "int32",
        "int32", "int32",
    )  # fmt: skip
    return Kernel(scatter, f"scatter_{stored}_{result}_{offsets}", parameters, THREADS)


@cache
def spread_of(stored: str, result: str, offsets: str) -> Kernel:
    """The kernel that does it from the other side: every bin adds to what it has weighed.

    By atomics, in an order that is nobody's, to a map of zeros; arranged as `contract`.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load = loader(stored)

    def spread(
        target, image_stride, target_channel_stride, row_stride, column_stride, channels,
        begin, end, index, weight, image, bins_y, bins_x,
        source, start, box_stride, channel_stride, bin_row_stride, bin_column_stride,
        share, inner,
    ):  # fmt: skip
        k = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        mine = np.int32(min(share, channels - first_channel))
        bins = np.int32(bins_y * bins_x)
        number = image[k]
        if number < 0:
            return
        b = k * (bins_y + bins_x)
        for unit in range(cuda.threadIdx.x, np.int32(bins * mine), THREADS):
            cell, channel, _ = unit_of(unit, bins, mine, inner, first_channel, 1)
            p, q = divided(cell, bins_x)
            begin_x, end_x = begin[b + bins_y + q], end[b + bins_y + q]
            at = N(N((start + k) * box_stride) + N(channel * channel_stride))
            value = load(source, N(at + N(p * bin_row_stride) + N(q * bin_column_stride)))
            plane = N(N(number * image_stride) + N(channel * target_channel_stride))
            for i in range(begin[b + p], end[b + p]):
                row = N(plane + N(index[i] * row_stride))
                part = weight[i] * value
                for j in range(begin_x, end_x):
                    at = N(row + N(index[j] * column_stride))
                    add_atomically(target, at, weight[j] * part)

    parameters = (
        f"{result}*", *[offsets] * 4, "int32",
        "int32*", "int32*", "int32*", f"{np.dtype(A).name}*", "int32*", "int32", "int32",
        f"{stored}*", "int32", *[offsets] * 4, "int32", "int32",
    )  # fmt: skip
    return Kernel(spread, f"spread_{stored}_{result}_{offsets}", parameters, THREADS)
