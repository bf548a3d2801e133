"""The gradient of means to the boxes: the map's weights on one axis, their rates on the other.

``sum(grad * (rates_y @ map @ weights_x.T))`` for either end along y, and the same along x.
"""

import numpy as np

from .blocks import expect_pieces, lines_of, pack, start_of
from .compile import inline, kernel
from .lanes import add_product, add_scaled, combine, item, load, splat, store
from .plan import (
    CHUNK,
    FIRST,
    IMAGE,
    LAST,
    ROWS_PIXELS,
    SCRATCH_PIXELS,
    X0,
    X1,
    Y0,
    Y1,
    item_at,
    next_chunk,
    scratch_pixels,
)
from .scratch import take
from .vectors import LANE_BYTES


@inline
def _project_along(
    scratch, start, step, table, runs_of, first_bin, bins, across_bin, across, rows, cells,
    cell_step, across_step, kept, ends, to, lanes,
):  # fmt: skip
    """One box whose region lies in scratch, along one axis: reduce the other, then project.

    ``runs_of`` is the axis' number in ``runs_begin``; its bins begin with ``first_bin``, those of
    the axis across with ``across_bin``.  Lanes of the gradient to the low and the high end go to
    ``ends``.  A bin across that weighs nothing has no part, whatever its gradient is: NaN, say.
    """
    begin, weighed, index, weight = table.begin, table.weighed, table.index, table.weight
    by_low, by_high, pixel, runs = table.by_low, table.by_high, table.number, table.runs
    first_run, last_run = table.runs_begin[runs_of], table.runs_begin[runs_of + 1]
    low_end = splat(ends.dtype.type(0), ends)
    high_end = low_end
    columns = 0
    for run in range(first_run, last_run):
        columns += runs[run, 1]
    share = max(1, ROWS_PIXELS // max(1, columns))
    for o0 in range(0, across, share):
        n = 0
        for o in range(o0, min(across, o0 + share)):
            begins, ends_at = begin[across_bin + o], weighed[across_bin + o]
            if begins == ends_at:
                continue
            to_row = n * columns * lanes
            for run in range(first_run, last_run):
                combine(
                    scratch, start + runs[run, 0] * step, 0, step,
                    index, 1, weight, begins, ends_at, rows, to_row, 0, lanes, runs[run, 1], 1,
                )  # fmt: skip
                to_row += runs[run, 1] * lanes
            kept[n] = o * across_step
            n += 1
        for p in range(bins):
            for e in range(begin[first_bin + p], begin[first_bin + p + 1]):
                low, high = item(by_low, e), item(by_high, e)
                if low == 0 and high == 0:
                    continue
                total = splat(ends.dtype.type(0), ends)
                at = item(pixel, e) * lanes
                for i in range(n):
                    value = load(rows, at + i * columns * lanes, rows)
                    gradient = load(cells, p * cell_step + item(kept, i), cells)
                    total = add_product(total, value, gradient)
                if low != 0:
                    low_end = add_scaled(low_end, low, total)
                if high != 0:
                    high_end = add_scaled(high_end, high, total)
    store(ends, to, low_end)
    store(ends, to + 2 * lanes, high_end)


@inline
def _project_large(
    source, layout, image, channel, sizes, bins, table, k, scratch, cells, ends, lanes
):  # fmt: skip
    """One box whose region is too large for scratch: bin by bin, in chunks."""
    begin, index, weight = table.begin, table.index, table.weight
    by_low, by_high = table.by_low, table.by_high
    x1_end = splat(ends.dtype.type(0), ends)
    y1_end, x2_end, y2_end = x1_end, x1_end, x1_end
    for cell in range(bins[0] * bins[1]):
        bin_y = k * (bins[0] + bins[1]) + cell // bins[1]
        bin_x = k * (bins[0] + bins[1]) + bins[0] + cell % bins[1]
        gradient = load(cells, cell * lanes, cells)
        iy = begin[bin_y]
        while iy < begin[bin_y + 1]:
            end_y, y0, y1 = next_chunk(index, None, iy, begin[bin_y + 1], 1, sizes[0])
            ix = begin[bin_x]
            while ix < begin[bin_x + 1]:
                end_x, x0, x1 = next_chunk(index, None, ix, begin[bin_x + 1], 1, sizes[1])
                pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch)
                for i in range(iy, end_y):
                    row = (index[i] - y0) * (x1 - x0) - x0
                    for j in range(ix, end_x):
                        pixel = load(scratch, (row + index[j]) * lanes, scratch)
                        value = add_product(splat(ends.dtype.type(0), ends), pixel, gradient)
                        if weight[j] != 0:
                            if by_low[i] != 0:
                                y1_end = add_scaled(y1_end, by_low[i] * weight[j], value)
                            if by_high[i] != 0:
                                y2_end = add_scaled(y2_end, by_high[i] * weight[j], value)
                        if weight[i] != 0:
                            if by_low[j] != 0:
                                x1_end = add_scaled(x1_end, by_low[j] * weight[i], value)
                            if by_high[j] != 0:
                                x2_end = add_scaled(x2_end, by_high[j] * weight[i], value)
                ix = end_x
            iy = end_y
    store(ends, 0, x1_end)
    store(ends, lanes, y1_end)
    store(ends, 2 * lanes, x2_end)
    store(ends, 3 * lanes, y2_end)


@kernel
def project(
    source, source_layout, grad, grad_layout, grad_shape, start, sizes, bins, table, order, groups,
    large, products, first_item, last_item, memory,
):  # fmt: skip
    """Fill ``products[block, box]``, (x1, y1, x2, y2), for the items (group, channel block).

    Box k of the table is box ``start + k`` of ``grad`` and of ``products``.  ``large`` is None
    if all groups fit scratch, and anything else if none does.
    """
    lanes = LANE_BYTES // memory.itemsize
    # What is not for None is not compiled with it: a box too large for scratch is rare, and code
    # for it took a sixth of the first call (CPU time: 5.65 -> 4.68 s).
    pixels = scratch_pixels(groups) if large is None else CHUNK * CHUNK
    scratch, memory = take(memory, (pixels + lanes) * lanes)
    columns = max(ROWS_PIXELS, min(max(sizes[0], sizes[1]), SCRATCH_PIXELS))
    rows, memory = take(memory, columns * lanes)
    # Out of the same memory as rows it took longer (18.6 -> 21.4 ms), wherever in it they lay:
    # perhaps LLVM cannot tell them from rows then.
    cells = np.empty((bins[0] * bins[1] + lanes) * lanes, memory.dtype)
    ends = np.empty(4 * lanes, memory.dtype)
    kept = np.empty(max(bins[0], bins[1]), np.int64)
    lines = lines_of(grad, grad_layout, grad_shape, lanes, 1)
    down, right = bins[1] * lanes, lanes
    for number in range(first_item, last_item):
        group, channel = item_at(number, groups, source_layout, lanes)
        y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
        image = groups[group, IMAGE]
        if image < 0:
            continue
        pitch = (x1 - x0) * lanes
        if large is None:
            pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            box = start + k
            pack(grad, grad_layout, box, channel, lanes, 0, grad_shape[0], 0, grad_shape[1], cells)
            following = start + order[min(i + 1, len(order) - 1)]
            coming = start_of(grad_layout, following, channel)
            if large is not None:
                _project_large(
                    source, source_layout, image, channel, sizes, bins, table, k, scratch, cells,
                    ends, lanes,
                )  # fmt: skip
            else:
                bin_y = k * (bins[0] + bins[1])
                bin_x = bin_y + bins[0]
                expect_pieces(grad, coming, lines, 0, lines.pieces // 2, lanes)
                _project_along(
                    scratch, -x0 * lanes, lanes, table, 2 * k + 1, bin_x, bins[1], bin_y, bins[0],
                    rows, cells, right, down, kept, ends, 0, lanes,
                )  # fmt: skip
                expect_pieces(grad, coming, lines, lines.pieces // 2, lines.pieces, lanes)
                _project_along(
                    scratch, -y0 * pitch, pitch, table, 2 * k, bin_y, bins[0], bin_x, bins[1],
                    rows, cells, down, right, kept, ends, lanes, lanes,
                )  # fmt: skip
            for corner in range(4):
                total = 0.0
                for c in range(min(lanes, source_layout.channels - channel)):
                    total += ends[corner * lanes + c]
                products[channel // lanes, box, corner] = total
