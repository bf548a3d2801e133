"""Bands turned around: for every row and column of the map, the bins that weigh it.

The gradient to the map is ``weights_y.T @ grad @ weights_x``, the forward with its bands
transposed.
"""

from collections import namedtuple

import numpy as np

from .compile import kernel

Turned = namedtuple("Turned", "first pixel begin index weight")
Turned.__doc__ = """Line l is row or column ``pixel[l]`` of the map.

Taps ``begin[l]`` up to ``begin[l + 1]`` of it belong to bin ``index / unit`` of their axis, in
order.  Box k has lines ``first[2 * k]`` up to ``first[2 * k + 1]`` along y and from there up to
``first[2 * k + 2]`` along x, pixels ascending.
"""


def turn(bands, boxes, bins, sizes, units):
    """Turn the first ``boxes`` boxes of a table of pixels around.

    ``units``: what a step of one bin counts in ``index``, for y and x.
    """
    taps = int(bands.begin[boxes * sum(bins)])
    turned = Turned(
        np.empty(2 * boxes + 1, np.int64),
        np.empty(taps, np.int32),
        np.empty(taps + 1, np.int64),
        np.empty(taps, np.int32),
        np.empty(taps, bands.weight.dtype),
    )
    next_tap = np.zeros(max(sizes) + 1, np.int64)
    _turn(bands.begin, bands.index, bands.weight, boxes, bins, sizes, units, turned, next_tap)
    return turned


@kernel
def _turn(begin, index, weight, boxes, bins, sizes, units, turned, next_tap):
    line, tap, bin_number = 0, 0, 0
    turned.begin[0] = 0
    for number in range(2 * boxes):
        n, size, unit = bins[number % 2], sizes[number % 2], units[number % 2]
        turned.first[number] = line
        first, last = begin[bin_number], begin[bin_number + n]
        low, high = size, 0
        for e in range(first, last):
            next_tap[index[e]] += 1
            low, high = min(low, index[e]), max(high, index[e] + 1)
        for pixel in range(low, high):
            taps = next_tap[pixel]
            next_tap[pixel] = tap
            if taps > 0:
                tap += taps
                turned.pixel[line] = pixel
                line += 1
                turned.begin[line] = tap
        for p in range(n):
            for e in range(begin[bin_number + p], begin[bin_number + p + 1]):
                turned.index[next_tap[index[e]]] = p * unit
                turned.weight[next_tap[index[e]]] = weight[e]
                next_tap[index[e]] += 1
        for pixel in range(low, high):
            next_tap[pixel] = 0
        bin_number += n
    turned.first[2 * boxes] = line
