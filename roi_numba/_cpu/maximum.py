"""Maxima: the largest of a bin's candidates, and which one it was."""

import numpy as np

from .blocks import pack, unpack
from .compile import inline, kernel
from .lanes import LANE_BYTES, add_scaled, beats, choose, item, largest, load, scaled, splat, store
from .plan import FIRST, IMAGE, LAST, X0, X1, Y0, Y1, fits, next_chunk, scratch_pixels


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
def _compete_chunked(
    source, layout, image, channel, sizes, table, bin_y, bin_x, scratch, cells, rows, columns,
    cell, places, lanes,
):  # fmt: skip
    """Let all entries of a bin compete that is too large for scratch, chunk by chunk."""
    begin, index, weight = table.begin, table.index, table.weight
    first_y, last_y, first_x, last_x = (
        begin[bin_y], begin[bin_y + 1], begin[bin_x], begin[bin_x + 1]
    )  # fmt: skip
    iy = first_y
    while iy < last_y:
        end_y, y0, y1 = next_chunk(index, weight, iy, last_y, 2, sizes[0])
        ix = first_x
        while ix < last_x:
            end_x, x0, x1 = next_chunk(index, weight, ix, last_x, 2, sizes[1])
            pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch)
            pitch = (x1 - x0) * lanes
            _compete(
                scratch, -y0 * pitch - x0 * lanes, pitch, lanes, pitch, table, iy, end_y, ix,
                end_x, first_y, first_x, cells, rows, columns, cell, places,
            )  # fmt: skip
            ix = end_x
        iy = end_y


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


@inline
def _pool_group(
    source, source_layout, target, target_layout, labels, labels_layout, start, sizes, bins, table,
    whole, order, groups, group, channel, scratch, cells, rows, columns, places, lanes,
):  # fmt: skip
    """One group and one block of channels."""
    begin, index = table.begin, table.index
    image = groups[group, IMAGE]
    y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
    pitch = (x1 - x0) * lanes
    packed = fits(groups, group)
    if packed:
        pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
    for i in range(groups[group, FIRST], groups[group, LAST]):
        k = order[i]
        first_bin = k * (bins[0] + bins[1])
        for number in range(bins[0] * bins[1]):
            cell = number * lanes
            bin_y = first_bin + number // bins[1]
            bin_x = first_bin + bins[0] + number % bins[1]
            iy, ix = begin[bin_y], begin[bin_x]
            end_y, end_x = begin[bin_y + 1], begin[bin_x + 1]
            empty = iy == end_y or ix == end_x
            if whole and packed and not empty and len(labels) == 0:
                at = index[iy] + index[ix]
                store(cells, cell, largest(scratch, at, pitch, end_y - iy, end_x - ix))
                continue
            store(cells, cell, splat(cells.dtype.type(0 if empty else np.nan), cells))
            store(rows, cell, splat(places.dtype.type(-1), places))
            store(columns, cell, splat(places.dtype.type(-1), places))
            if packed:
                _compete(
                    scratch, 0, 1, 1, pitch, table, iy, end_y, ix, end_x, iy, ix, cells, rows,
                    columns, cell, places,
                )  # fmt: skip
            else:
                _compete_chunked(
                    source, source_layout, image, channel, sizes, table, bin_y, bin_x, scratch,
                    cells, rows, columns, cell, places, lanes,
                )  # fmt: skip
        unpack(cells, target, target_layout, start + k, channel, lanes, bins[0], bins[1])
        if len(labels):
            _name_winners(
                labels, labels_layout, start + k, channel, lanes, bins, table, k, rows, columns
            )


@kernel
def maximum(
    source, source_layout, target, target_layout, start, sizes, bins, table, whole, labels,
    labels_layout, order, groups, like, places, first_item, last_item,
):  # fmt: skip
    """Pool the items (group, channel block) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``start + k`` of the target.  ``whole``: all entries are whole
    pixels.  ``labels`` is empty if argmax is not wanted.
    """
    lanes = LANE_BYTES // like.itemsize
    blocks = (source_layout.channels + lanes - 1) // lanes
    pixels = scratch_pixels(groups, first_item // blocks, (last_item - 1) // blocks + 1)
    scratch = np.empty((pixels + lanes) * lanes, like.dtype)
    cells = np.empty(bins[0] * bins[1] * lanes, like.dtype)
    rows = np.empty(len(cells), places.dtype)
    columns = np.empty(len(cells), places.dtype)
    for number in range(first_item, last_item):
        _pool_group(
            source, source_layout, target, target_layout, labels, labels_layout, start, sizes, bins,
            table, whole, order, groups, number // blocks, number % blocks * lanes, scratch, cells,
            rows, columns, places, lanes,
        )  # fmt: skip
