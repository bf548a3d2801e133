"""Maxima: the largest of a bin's candidates, and which one it was."""

import numpy as np
from numba.extending import register_jitable

from .blocks import pack, unpack
from .compile import kernel
from .lanes import LANE_BYTES, add_scaled, beats, choose, item, load, scaled, splat, store
from .plan import FIRST, IMAGE, LAST, X0, X1, Y0, Y1, fits, next_chunk, scratch_pixels


@register_jitable
def _candidate(scratch, at, pitch, lanes, u0, u1, v0, v1):
    """The value of two entries, of weights u along y and v along x, at offset ``at``."""
    value = scaled(u0 * v0, load(scratch, at, scratch))
    if v1 != 0:
        value = add_scaled(value, u0 * v1, load(scratch, at + lanes, scratch))
    if u1 != 0:
        value = add_scaled(value, u1 * v0, load(scratch, at + pitch, scratch))
        if v1 != 0:
            value = add_scaled(value, u1 * v1, load(scratch, at + pitch + lanes, scratch))
    return value


@register_jitable
def _compete(
    scratch, at, step_y, step_x, pitch, lanes, table, iy, end_y, ix, end_x, bin_y, bin_x,
    cells, rows, columns, cell, places,
):  # fmt: skip
    """Let the entries [iy, end_y) x [ix, end_x) compete for one bin.

    Entry (i, j) lies at ``at + index[i] * step_y + index[j] * step_x``.  ``rows`` and ``columns``
    hold each lane's winner, counted from entry ``bin_y`` and ``bin_x``; -1 for none.
    """
    best = load(cells, cell, cells)
    row = load(rows, cell, rows)
    column = load(columns, cell, columns)
    for i in range(iy, end_y):
        u0, u1 = item(table.weight, i), item(table.next_weight, i)
        at_y = at + item(table.index, i) * step_y
        for j in range(ix, end_x):
            v0, v1 = item(table.weight, j), item(table.next_weight, j)
            if u0 == 0 or v0 == 0:
                value = splat(scratch.dtype.type(0), scratch)
            else:
                at_x = at_y + item(table.index, j) * step_x
                value = _candidate(scratch, at_x, pitch, lanes, u0, u1, v0, v1)
            better = beats(value, best)
            best = choose(better, value, best)
            row = choose(better, splat(places.dtype.type(i - bin_y), places), row)
            column = choose(better, splat(places.dtype.type(j - bin_x), places), column)
    store(cells, cell, best)
    store(rows, cell, row)
    store(columns, cell, column)


@register_jitable
def _name_winners(
    labels, layout, box, channel, lanes, bins, table, k, cells_y, cells_x, rows, columns
):
    """Write argmax of one box."""
    for p in range(bins[0]):
        for q in range(bins[1]):
            cell = (p * bins[1] + q) * lanes
            for c in range(min(lanes, layout.channels - channel)):
                label = -1
                if rows[cell + c] >= 0:
                    y = table.label[table.begin[cells_y + p] + rows[cell + c]]
                    x = table.label[table.begin[cells_x + q] + columns[cell + c]]
                    if y >= 0 and x >= 0:
                        label = y * table.stride[k] + x
                at = layout.origin + box * layout.stride + (channel + c) * layout.channel_stride
                labels[at + p * layout.height_stride + q * layout.width_stride] = label


@kernel
def maximum(
    source, source_layout, target, target_layout, labels, labels_layout, start, sizes, bins, table,
    order, groups, first_item, last_item, like, places,
):  # fmt: skip
    """Pool the items (group, channel block) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``start + k`` of the target.  ``labels`` is empty if argmax is not
    wanted.
    """
    begin, index, weight = table.begin, table.index, table.weight
    lanes = LANE_BYTES // like.itemsize
    blocks = (source_layout.channels + lanes - 1) // lanes
    pixels = scratch_pixels(groups, first_item // blocks, (last_item - 1) // blocks + 1)
    scratch = np.empty((pixels + lanes) * lanes, like.dtype)
    cells = np.empty(bins[0] * bins[1] * lanes, like.dtype)
    rows = np.empty(len(cells), places.dtype)
    columns = np.empty(len(cells), places.dtype)
    for item_number in range(first_item, last_item):
        group = item_number // blocks
        channel = item_number % blocks * lanes
        image = groups[group, IMAGE]
        packed = fits(groups, group)
        y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
        if packed:
            pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            bin_y = k * (bins[0] + bins[1])
            bin_x = bin_y + bins[0]
            for p in range(bins[0]):
                for q in range(bins[1]):
                    iy, last_y = begin[bin_y + p], begin[bin_y + p + 1]
                    ix, last_x = begin[bin_x + q], begin[bin_x + q + 1]
                    cell = (p * bins[1] + q) * lanes
                    empty = iy == last_y or ix == last_x
                    identity = like.dtype.type(0 if empty else np.nan)
                    store(cells, cell, splat(identity, like))
                    store(rows, cell, splat(places.dtype.type(-1), places))
                    store(columns, cell, splat(places.dtype.type(-1), places))
                    if packed:
                        _compete(
                            scratch, 0, 1, 1, (x1 - x0) * lanes, lanes, table, iy, last_y, ix,
                            last_x, iy, ix, cells, rows, columns, cell, places,
                        )  # fmt: skip
                        continue
                    while iy < last_y:
                        end_y, y0, y1 = next_chunk(index, weight, iy, last_y, 2, sizes[0])
                        ix = begin[bin_x + q]
                        while ix < last_x:
                            end_x, x0, x1 = next_chunk(index, weight, ix, last_x, 2, sizes[1])
                            pack(
                                source, source_layout, image, channel, lanes, y0, y1, x0, x1,
                                scratch,
                            )  # fmt: skip
                            pitch = (x1 - x0) * lanes
                            _compete(
                                scratch, -y0 * pitch - x0 * lanes, pitch, lanes, pitch, lanes,
                                table, iy, end_y, ix, end_x, begin[bin_y + p], begin[bin_x + q],
                                cells, rows, columns, cell, places,
                            )  # fmt: skip
                            ix = end_x
                        iy = end_y
            unpack(cells, target, target_layout, start + k, channel, lanes, bins[0], bins[1])
            if len(labels):
                _name_winners(
                    labels, labels_layout, start + k, channel, lanes, bins, table, k, bin_y, bin_x,
                    rows, columns,
                )  # fmt: skip
