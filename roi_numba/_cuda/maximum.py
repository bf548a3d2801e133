"""Maxima: the largest of a bin's candidates, and which one it was.

No table: each thread asks the rule, for four channels at a time.
"""

from functools import cache

import numpy as np

from .._scalar import MANY_SAMPLES
from .compile import Kernel, block, cuda, device
from .formats import accumulator, loader, saver
from .integers import divided, groups_of, unit_of
from .levels import checker, picker, scaler
from .rules import DeviceRule, checked_box

THREADS = block(128)

AT_ONCE = 4
"""Channels of a thread, so that a candidate's pixels and weights are found once for all."""


@device
def candidate(pixel, one, two, corner):
    """An entry that competes, or one of its two corners: a pixel, its weight, that of the next.

    An entry of which only the next pixel weighs anything becomes that pixel alone.
    """
    T = type(one)
    if corner == 1:
        pixel, one = pixel + 1, two
    if corner >= 0:
        two = T(0)
    if one == T(0):
        pixel, one, two = pixel + 1, two, one
    return pixel, one, two


@device
def better(value, best):
    """Whether a value beats the best so far: anything beats NaN but NaN."""
    return value > best or (best != best and value == value)


@cache
def maximum_of(
    rule: DeviceRule, geometry: str, numbers: str, stored: str, result: str, offsets: str,
    named: bool, several: bool = False,
) -> Kernel:  # fmt: skip
    """The kernel that pools maxima; blocks and threads as in `contract`.

    ``apart`` is 2 where the two pixels of an entry compete, each with its own weight, else 1.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, save = loader(stored), saver(result)
    span, entries, entry, pack = rule.span, rule.entries, rule.entry, rule.pack
    pick, scales_of, on_level = picker(several, offsets), scaler(several), checker(several)
    cells = rule.argmax == "cell"

    @device
    def sample(source, at, row_stride, column_stride, u0, u1, v0, v1):
        """What two pairs of pixels weigh; those that weigh nothing are not looked at."""
        value = A(0)
        if u0 != 0 and v0 != 0:
            value = u0 * v0 * load(source, at)
            if v1 != 0:
                value += u0 * v1 * load(source, N(at + column_stride))
            if u1 != 0:
                value += u1 * v0 * load(source, N(at + row_stride))
                if v1 != 0:
                    value += u1 * v1 * load(source, N(at + row_stride + column_stride))
        return value

    def maximum(
        source, image_stride, channel_stride, row_stride, column_stride, channels, images, height,
        width, corners, corner_row, corner_column, numbers, number_stride, scale_y, scale_x,
        y_first, y_second, x_first, x_second, apart, bins_y, bins_x, target, box_stride,
        target_channel_stride, bin_row_stride, bin_column_stride, names, name_box_stride,
        name_channel_stride, name_row_stride, name_column_stride, share, inner, levels, maps,
        scales,
    ):  # fmt: skip
        k = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        groups = groups_of(min(share, channels - first_channel), AT_ONCE)
        bins = np.int32(bins_y * bins_x)
        number, x1, y1, x2, y2 = checked_box(
            corners, k * corner_row, corner_column, numbers, k * number_stride, images
        )
        number = on_level(number, levels, maps, k)
        plane, image_stride, channel_stride, row_stride, column_stride, height, width = pick(
            levels, maps, k, image_stride, channel_stride, row_stride, column_stride, height, width
        )
        scale_y, scale_x = scales_of(levels, maps, scales, k, scale_y, scale_x)
        option_y, option_x = pack(scale_y, y_first, y_second), pack(scale_x, x_first, x_second)
        box_y, box_x = span(y1, y2, bins_y, option_y), span(x1, x2, bins_x, option_x)
        if number >= 0:
            plane += N(number * image_stride)
        for unit in range(cuda.threadIdx.x, np.int32(bins * groups), THREADS):
            cell, channel, step = unit_of(unit, bins, groups, inner, first_channel, AT_ONCE)
            p, q = divided(cell, bins_x)
            p, q = int(p), int(q)  # a rule's products may need 64 bits
            limit = min(first_channel + share, channels)
            c1, c2 = np.int32(channel + step), np.int32(channel + 2 * step)
            c3 = np.int32(channel + 3 * step)
            o0 = N(channel * channel_stride)
            o1 = N(min(c1, channels - 1) * channel_stride)
            o2 = N(min(c2, channels - 1) * channel_stride)
            o3 = N(min(c3, channels - 1) * channel_stride)
            first_y, last_y, count_y = entries(box_y, p, bins_y, height, option_y)
            first_x, last_x, count_x = entries(box_x, q, bins_x, width, option_x)
            empty = A(np.nan)
            if number < 0 or first_y >= last_y or first_x >= last_x:
                first_y, last_y, empty = 0, 0, A(0)
            s0, s1, s2, s3 = empty, empty, empty, empty
            n0, n1, n2, n3 = np.int64(-1), np.int64(-1), np.int64(-1), np.int64(-1)
            pitch, base_y, base_x = np.int64(width), 0, 0
            if not cells:
                pitch = np.int64(count_x) * apart
                if pitch > MANY_SAMPLES:
                    pitch, base_x = np.int64(MANY_SAMPLES), first_x * apart
                if np.int64(count_y) * apart > MANY_SAMPLES:
                    base_y = first_y * apart
            for i in range(first_y * apart, last_y * apart):
                e, side = i, -1
                if apart == 2:
                    e, side = i >> 1, i & 1
                pixel, one, two = entry(box_y, p, e, bins_y, height, option_y)
                y, one, two = candidate(pixel, one, two, side)
                u0, u1 = A(one), A(two)
                row = N(plane + N(y * row_stride))
                for j in range(first_x * apart, last_x * apart):
                    e, side = j, -1
                    if apart == 2:
                        e, side = j >> 1, j & 1
                    pixel, one, two = entry(box_x, q, e, bins_x, width, option_x)
                    x, one, two = candidate(pixel, one, two, side)
                    v0, v1 = A(one), A(two)
                    at = N(row + N(x * column_stride))
                    name = np.int64(-1)
                    if u0 != 0 and v0 != 0:
                        name = (y if cells else i - base_y) * pitch + (x if cells else j - base_x)
                    value = sample(source, N(at + o0), row_stride, column_stride, u0, u1, v0, v1)
                    if better(value, s0):
                        s0, n0 = value, name
                    value = sample(source, N(at + o1), row_stride, column_stride, u0, u1, v0, v1)
                    if better(value, s1):
                        s1, n1 = value, name
                    value = sample(source, N(at + o2), row_stride, column_stride, u0, u1, v0, v1)
                    if better(value, s2):
                        s2, n2 = value, name
                    value = sample(source, N(at + o3), row_stride, column_stride, u0, u1, v0, v1)
                    if better(value, s3):
                        s3, n3 = value, name
            out = N(N(k * box_stride) + N(p * bin_row_stride) + N(q * bin_column_stride))
            mark = N(N(k * name_box_stride) + N(p * name_row_stride) + N(q * name_column_stride))
            for c, s, n in ((channel, s0, n0), (c1, s1, n1), (c2, s2, n2), (c3, s3, n3)):
                if c < limit:
                    save(target, N(out + N(c * target_channel_stride)), s)
                    if named:
                        names[N(mark + N(c * name_channel_stride))] = n

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32", "int32", "int32", "int32",
        f"{geometry}*", "int64", "int64", f"{numbers}*", "int64", geometry, geometry,
        "int64", "int64", "int64", "int64", "int32", "int32", "int32",
        f"{result}*", *[offsets] * 4, "int64*" if named else f"{result}*", *[offsets] * 4,
        "int32", "int32", "int64*", "int64*", f"{geometry}*",
    )  # fmt: skip
    name = f"maximum_{rule.name}_{geometry}_{numbers}_{stored}_{offsets}"
    name += "_named" * named + "_levels" * several
    return Kernel(maximum, name, parameters, THREADS, contract=False)
