"""Maxima: the largest of a bin's candidates, and which one it was."""

import numpy as np

from .blocks import pack, unpack
from .compile import inline, kernel
from .lanes import LANE_BYTES, add_scaled, beats, choose, item, largest, load, scaled, splat, store
from .plan import CHUNK, FIRST, IMAGE, LAST, X0, X1, Y0, Y1, item_at, next_chunk, scratch_pixels
from .streams import fence


@inline
def _begin(empty, cells, rows, columns, cell, places):
    """Set one bin to what holds before any entry: nobody has won."""
    store(cells, cell, splat(cells.dtype.type(0 if empty else np.nan), cells))
    store(rows, cell, splat(places.dtype.type(-1), places))
    store(columns, cell, splat(places.dtype.type(-1), places))


@inline
def _compete(
    scratch, at, step_y, step_x, pitch, table, iy, end_y, ix, end_x, bin_y, bin_x, cells, rows,
    columns, cell, places,
):  # fmt: skip
    """Let the entries [iy, end_y) x [ix, end_x) compete for one bin.

    Entry (i, j) lies at ``at + index[i] * step_y + index[j] * step_x``.  ``rows`` and ``columns``
    hold each lane's winner, counted from entries ``bin_y`` and ``bin_x``; -1 for none.
    """
    # Out of the loops, which would count references to the arrays at every step.
    index, weight, next_weight = table.index, table.weight, table.next_weight
    lanes = LANE_BYTES // cells.itemsize
    best = load(cells, cell, cells)
    row = load(rows, cell, rows)
    column = load(columns, cell, columns)
    for i in range(iy, end_y):
        u0, u1 = item(weight, i), item(next_weight, i)
        at_y = at + item(index, i) * step_y
        for j in range(ix, end_x):
            v0, v1 = item(weight, j), item(next_weight, j)
            value = splat(scratch.dtype.type(0), scratch)
            if u0 != 0 and v0 != 0:
                pixel = at_y + item(index, j) * step_x
                value = scaled(u0 * v0, load(scratch, pixel, scratch))
                if v1 != 0:
                    value = add_scaled(value, u0 * v1, load(scratch, pixel + lanes, scratch))
                if u1 != 0:
                    pixel += pitch
                    value = add_scaled(value, u1 * v0, load(scratch, pixel, scratch))
                    if v1 != 0:
                        value = add_scaled(value, u1 * v1, load(scratch, pixel + lanes, scratch))
            better = beats(value, best)
            best = choose(better, value, best)
            row = choose(better, splat(places.dtype.type(i - bin_y), places), row)
            column = choose(better, splat(places.dtype.type(j - bin_x), places), column)
    store(cells, cell, best)
    store(rows, cell, row)
    store(columns, cell, column)


@inline
def _name_winners(labels, layout, box, channel, lanes, bins, table, k, rows, columns):
    """Write argmax of one box."""
    begin, label = table.begin, table.label
    stride = table.stride[k]
    first_bin = k * (bins[0] + bins[1])
    at = layout.origin + box * layout.stride + channel * layout.channel_stride
    for number in range(bins[0] * bins[1]):
        p, q = number // bins[1], number % bins[1]
        first_y, first_x = begin[first_bin + p], begin[first_bin + bins[0] + q]
        cell = number * lanes
        for c in range(min(lanes, layout.channels - channel)):
            name = -1
            if rows[cell + c] >= 0:
                y = label[first_y + rows[cell + c]]
                x = label[first_x + columns[cell + c]]
                if y >= 0 and x >= 0:
                    name = y * stride + x
            offset = p * layout.height_stride + q * layout.width_stride
            labels[at + offset + c * layout.channel_stride] = name


@kernel
def maximum(
    source, source_layout, target, target_layout, numbers, sizes, bins, table, order, groups,
    whole, labels, labels_layout, like, places, first_item, last_item,
):  # fmt: skip
    """Pool the items (group, channel block) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``numbers[k]`` of the target.  The region of every group fits scratch.
    ``whole``: all entries are whole pixels.  ``labels`` is empty if argmax is not wanted.
    """
    lanes = LANE_BYTES // like.itemsize
    pixels = scratch_pixels(groups)
    scratch = np.empty((pixels + lanes) * lanes, like.dtype)
    cells = np.empty(2 * bins[0] * bins[1] * lanes, like.dtype)
    rows = np.empty(len(cells) // 2, places.dtype)
    columns = np.empty(len(cells) // 2, places.dtype)
    begin, index = table.begin, table.index
    for number in range(first_item, last_item):
        group, channel = item_at(number, groups, source_layout, lanes)
        y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
        pitch = (x1 - x0) * lanes
        image = groups[group, IMAGE]
        pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            first_bin = k * (bins[0] + bins[1])
            for bin_number in range(bins[0] * bins[1]):
                cell = bin_number * lanes
                bin_y = first_bin + bin_number // bins[1]
                bin_x = first_bin + bins[0] + bin_number % bins[1]
                iy, end_y = begin[bin_y], begin[bin_y + 1]
                ix, end_x = begin[bin_x], begin[bin_x + 1]
                empty = iy == end_y or ix == end_x
                if whole and not empty and len(labels) == 0:
                    at = index[iy] + index[ix]
                    store(cells, cell, largest(scratch, at, pitch, end_y - iy, end_x - ix))
                    continue
                _begin(empty, cells, rows, columns, cell, places)
                _compete(
                    scratch, 0, 1, 1, pitch, table, iy, end_y, ix, end_x, iy, ix, cells, rows,
                    columns, cell, places,
                )  # fmt: skip
            unpack(cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1])
            if len(labels):
                _name_winners(
                    labels, labels_layout, numbers[k], channel, lanes, bins, table, k, rows, columns
                )
    fence()


@kernel
def maximum_large(
    source, layout, target, target_layout, numbers, sizes, bins, table, order, groups, whole,
    labels, labels_layout, like, places, first_item, last_item,
):  # fmt: skip
    """`maximum` for single boxes whose region is too large for scratch: bin by bin, in chunks."""
    lanes = LANE_BYTES // like.itemsize
    scratch = np.empty((CHUNK * CHUNK + lanes) * lanes, like.dtype)
    cells = np.empty(2 * bins[0] * bins[1] * lanes, like.dtype)
    rows = np.empty(len(cells) // 2, places.dtype)
    columns = np.empty(len(cells) // 2, places.dtype)
    begin, index, weight = table.begin, table.index, table.weight
    for number in range(first_item, last_item):
        group, channel = item_at(number, groups, layout, lanes)
        k, image = order[groups[group, FIRST]], groups[group, IMAGE]
        for bin_number in range(bins[0] * bins[1]):
            cell = bin_number * lanes
            bin_y = k * (bins[0] + bins[1]) + bin_number // bins[1]
            bin_x = k * (bins[0] + bins[1]) + bins[0] + bin_number % bins[1]
            first_y, last_y, first_x, last_x = (
                begin[bin_y], begin[bin_y + 1], begin[bin_x], begin[bin_x + 1]
            )  # fmt: skip
            empty = first_y == last_y or first_x == last_x
            _begin(empty, cells, rows, columns, cell, places)
            iy = first_y
            while iy < last_y:
                end_y, y0, y1 = next_chunk(index, weight, iy, last_y, 2, sizes[0])
                ix = first_x
                while ix < last_x:
                    end_x, x0, x1 = next_chunk(index, weight, ix, last_x, 2, sizes[1])
                    pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch)
                    pitch = (x1 - x0) * lanes
                    _compete(
                        scratch, -y0 * pitch - x0 * lanes, pitch, lanes, pitch, table, iy, end_y,
                        ix, end_x, first_y, first_x, cells, rows, columns, cell, places,
                    )  # fmt: skip
                    ix = end_x
                iy = end_y
        unpack(cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1])
        if len(labels):
            _name_winners(
                labels, labels_layout, numbers[k], channel, lanes, bins, table, k, rows, columns
            )
    fence()
