"""Means, the way back to the boxes: a rate of change, pooled and multiplied with the gradient.

A block adds up all bins and channels of one box, in an order that depends on their numbers alone.
"""

from functools import cache

import numpy as np

from .compile import Kernel, block, cuda
from .formats import accumulator, loader
from .integers import divided, unit_of

THREADS = block(128)


@cache
def project_of(stored: str, bins_stored: str, result: str, offsets: str) -> Kernel:
    """The kernel that writes column `column` of the gradient to the boxes.

    ``begin`` … ``weight`` are bands of which those of one axis hold rates of change.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, load_bin = loader(stored), loader(bins_stored)

    def project(
        source, image_stride, channel_stride, row_stride, column_stride, channels,
        begin, end, index, weight, image, bins_y, bins_x,
        grad, start, box_stride, grad_channel_stride, bin_row_stride, bin_column_stride,
        target, column, inner,
    ):  # fmt: skip
        sums = cuda.shared.array(THREADS, A)
        k, thread = cuda.blockIdx.x, cuda.threadIdx.x
        bins = np.int32(bins_y * bins_x)
        number = image[k]
        total = A(0)
        if number >= 0:
            plane = N(number * image_stride)
            box = N((start + k) * box_stride)
            b = k * (bins_y + bins_x)
            for unit in range(thread, np.int32(bins * channels), THREADS):
                cell, channel, _ = unit_of(unit, bins, channels, inner, 0, 1)
                p, q = divided(cell, bins_x)
                begin_x, end_x = begin[b + bins_y + q], end[b + bins_y + q]
                line = N(plane + N(channel * channel_stride))
                rate, felt = A(0), False
                for i in range(begin[b + p], end[b + p]):
                    row = N(line + N(index[i] * row_stride))
                    part = A(0)
                    for j in range(begin_x, end_x):
                        part += weight[j] * load(source, N(row + N(index[j] * column_stride)))
                        felt = True
                    rate += weight[i] * part
                if felt:  # or else a NaN in the gradient would reach a box that feels nothing
                    at = N(box + N(channel * grad_channel_stride))
                    at = N(at + N(p * bin_row_stride) + N(q * bin_column_stride))
                    total += rate * load_bin(grad, at)
        sums[thread] = total
        half = THREADS // 2
        while half > 0:
            cuda.syncthreads()
            if thread < half:
                sums[thread] += sums[thread + half]
            half //= 2
        if thread == 0:
            target[4 * (start + k) + column] = sums[0]

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32",
        "int32*", "int32*", "int32*", f"{np.dtype(A).name}*", "int32*", "int32", "int32",
        f"{bins_stored}*", "int32", *[offsets] * 4, f"{result}*", "int32", "int32",
    )  # fmt: skip
    return Kernel(project, f"project_{stored}_{result}_{offsets}", parameters, THREADS)
