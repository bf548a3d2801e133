"""Means: every bin adds up what its two bands weigh."""

from functools import cache

import numpy as np

from .compile import Kernel, block, cuda
from .formats import accumulator, loader, saver
from .integers import divided, groups_of, unit_of

THREADS = block(128)

AT_ONCE = 4
"""Channels of a thread, so that bands are read and offsets computed once for four loads."""


@cache
def contract_of(stored: str, result: str, offsets: str) -> Kernel:
    """The kernel that pools maps stored as `stored` into `result`.

    A block pools a share of the channels of one box, a thread one bin of four channels at a time:
    neighbouring channels for channels first, where neighbouring threads take neighbouring bins; for
    channels last (`inner`) neighbouring threads take neighbouring channels, so that what they read
    is adjacent either way.  ``offsets``: int32 where no array is longer than it can count.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, save = loader(stored), saver(result)

    def contract(
        source, image_stride, channel_stride, row_stride, column_stride, channels,
        begin, end, index, weight, image, bins_y, bins_x,
        target, start, box_stride, target_channel_stride, bin_row_stride, bin_column_stride,
        share, inner,
    ):  # fmt: skip
        k = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        groups = groups_of(min(share, channels - first_channel), AT_ONCE)
        bins = np.int32(bins_y * bins_x)
        number = image[k]
        plane = N(0)
        if number >= 0:
            plane = N(number * image_stride)
        out = N((start + k) * box_stride)
        for unit in range(cuda.threadIdx.x, np.int32(bins * groups), THREADS):
            cell, channel, step = unit_of(unit, bins, groups, inner, first_channel, AT_ONCE)
            p, q = divided(cell, bins_x)
            last = channels - 1
            # Beyond the last channel it is loaded again, and nothing stored.
            c1, c2 = np.int32(channel + step), np.int32(channel + 2 * step)
            c3 = np.int32(channel + 3 * step)
            o0 = N(channel * channel_stride)
            o1 = N(min(c1, last) * channel_stride)
            o2 = N(min(c2, last) * channel_stride)
            o3 = N(min(c3, last) * channel_stride)
            b = k * (bins_y + bins_x)
            begin_y, end_y = begin[b + p], end[b + p]
            begin_x, end_x = begin[b + bins_y + q], end[b + bins_y + q]
            s0, s1, s2, s3 = A(0), A(0), A(0), A(0)
            for i in range(begin_y, end_y):
                row = N(plane + N(index[i] * row_stride))
                r0, r1, r2, r3 = A(0), A(0), A(0), A(0)
                for j in range(begin_x, end_x):
                    at = N(row + N(index[j] * column_stride))
                    w = weight[j]
                    r0 += w * load(source, N(at + o0))
                    r1 += w * load(source, N(at + o1))
                    r2 += w * load(source, N(at + o2))
                    r3 += w * load(source, N(at + o3))
                w = weight[i]
                s0 += w * r0
                s1 += w * r1
                s2 += w * r2
                s3 += w * r3
            at = N(out + N(p * bin_row_stride) + N(q * bin_column_stride))
            limit = min(first_channel + share, channels)
            save(target, N(at + N(channel * target_channel_stride)), s0)
            if c1 < limit:
                save(target, N(at + N(c1 * target_channel_stride)), s1)
            if c2 < limit:
                save(target, N(at + N(c2 * target_channel_stride)), s2)
            if c3 < limit:
                save(target, N(at + N(c3 * target_channel_stride)), s3)

    A_pointer = f"{np.dtype(A).name}*"
    parameters = (
        f"{stored}*", *[offsets] * 4, "int32",
        "int32*", "int32*", "int32*", A_pointer, "int32*", "int32", "int32",
        f"{result}*", "int32", *[offsets] * 4, "int32", "int32",
    )  # fmt: skip
    return Kernel(contract, f"contract_{stored}_{offsets}", parameters, THREADS)
