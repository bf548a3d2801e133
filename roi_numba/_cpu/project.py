"""The gradient of means to the boxes: inner products of ``grad`` with pooled rates of change."""

import numpy as np

from .blocks import pack
from .compile import inline, kernel
from .contract import ROWS_PIXELS, pool_box, pool_large
from .lanes import LANE_BYTES, add_product, load, splat, store
from .plan import (
    CHUNK,
    FIRST,
    IMAGE,
    LAST,
    SCRATCH_PIXELS,
    X0,
    X1,
    Y0,
    Y1,
    scratch_pixels,
)


@inline
def _product(
    cells, begin, k, bins, grad, layout, shape, box, channel, lanes, grad_cells, line
):  # fmt: skip
    """The inner product of one box's cells with its gradient, over one block of channels.

    A cell without entries has no part in it, whatever its gradient is: NaN, say.
    """
    bin_y = k * (bins[0] + bins[1])
    bin_x = bin_y + bins[0]
    pack(grad, layout, box, channel, lanes, 0, shape[0], 0, shape[1], grad_cells)
    total = splat(cells.dtype.type(0), cells)
    for cell in range(bins[0] * bins[1]):
        y, x = bin_y + cell // bins[1], bin_x + cell % bins[1]
        if begin[y] == begin[y + 1] or begin[x] == begin[x + 1]:
            continue
        value = load(cells, cell * lanes, cells)
        total = add_product(total, value, load(grad_cells, cell * lanes, cells))
    store(line, 0, total)
    result = 0.0
    for c in range(min(lanes, layout.channels - channel)):
        result += line[c]
    return result


@kernel
def project(
    source, source_layout, grad, grad_layout, grad_shape, start, sizes, bins, table, order, groups,
    large, like, products, first_item, last_item,
):  # fmt: skip
    """Fill ``products[box, block]`` for the items (group, channel block) from first up to last.

    Box k of the table is box ``start + k`` of ``grad`` and of ``products``.  ``large``: no group
    fits scratch.
    """
    lanes = LANE_BYTES // like.itemsize
    pixels = CHUNK * CHUNK
    if not large:
        pixels = scratch_pixels(groups)
    scratch = np.empty((pixels + lanes) * lanes, like.dtype)
    rows = np.empty(max(ROWS_PIXELS, min(sizes[1], SCRATCH_PIXELS)) * lanes, like.dtype)
    count = bins[0] * bins[1]
    cells = np.empty(count * lanes, like.dtype)
    grad_cells = np.empty((count + lanes) * lanes, like.dtype)
    line = np.empty(lanes, like.dtype)
    for item in range(first_item, last_item):
        group, block = item % len(groups), item // len(groups)
        channel = block * lanes
        y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
        image = groups[group, IMAGE]
        if not large:
            pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            if large:
                pool_large(
                    source, source_layout, image, channel, sizes, bins, table, k, scratch, cells,
                    lanes,
                )  # fmt: skip
            else:
                pool_box(scratch, x0, bins, table, k, rows, cells, lanes)
            products[start + k, block] = _product(
                cells, table.begin, k, bins, grad, grad_layout, grad_shape, start + k, channel,
                lanes, grad_cells, line,
            )  # fmt: skip
