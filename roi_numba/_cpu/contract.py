"""Means: ``output = weights_y @ map @ weights_x.T`` for every box and channel."""

import numpy as np
from numba.extending import register_jitable

from .blocks import pack, unpack
from .compile import kernel
from .lanes import LANE_BYTES, add_scaled, item, load, scaled, splat, store
from .plan import (
    FIRST,
    IMAGE,
    LAST,
    SCRATCH_PIXELS,
    X0,
    X1,
    Y0,
    Y1,
    fits,
    next_chunk,
    scratch_pixels,
)

ROWS_PIXELS = 512
"""Reduced rows kept between the two passes, at least one: 32 KiB."""


@register_jitable
def _combine(source, at, step, offsets, weights, first, last, target, to, to_step, count):
    """target[to + j to_step] = sum_i weights[i] source[at + j step + offsets[i]], j < count.

    Bodies for 1 to 4 taps keep weights and offsets in registers; further taps are added after.
    """
    taps = last - first
    if taps == 0:
        zero = splat(source.dtype.type(0), source)
        for _ in range(count):
            store(target, to, zero)
            to += to_step
        return
    w0 = item(weights, first)
    at += item(offsets, first)
    if taps == 1:
        for _ in range(count):
            store(target, to, scaled(w0, load(source, at, source)))
            at += step
            to += to_step
        return
    w1, o1 = item(weights, first + 1), item(offsets, first + 1) - item(offsets, first)
    if taps == 2:
        for _ in range(count):
            total = scaled(w0, load(source, at, source))
            store(target, to, add_scaled(total, w1, load(source, at + o1, source)))
            at += step
            to += to_step
        return
    w2, o2 = item(weights, first + 2), item(offsets, first + 2) - item(offsets, first)
    if taps == 3:
        for _ in range(count):
            total = scaled(w0, load(source, at, source))
            total = add_scaled(total, w1, load(source, at + o1, source))
            store(target, to, add_scaled(total, w2, load(source, at + o2, source)))
            at += step
            to += to_step
        return
    w3, o3 = item(weights, first + 3), item(offsets, first + 3) - item(offsets, first)
    for _ in range(count):
        total = scaled(w0, load(source, at, source))
        total = add_scaled(total, w1, load(source, at + o1, source))
        total = add_scaled(total, w2, load(source, at + o2, source))
        total = add_scaled(total, w3, load(source, at + o3, source))
        for i in range(first + 4, last):
            tap = load(source, at + item(offsets, i) - item(offsets, first), source)
            total = add_scaled(total, item(weights, i), tap)
        store(target, to, total)
        at += step
        to += to_step


@register_jitable
def _pool_packed(scratch, x0, bins, table, k, rows, cells, lanes):
    """One box whose region lies in scratch: all rows first, then columns."""
    begin, offsets, weights, runs = table.begin, table.index, table.weight, table.runs
    height, width = bins
    bin_y = k * (height + width)
    bin_x = bin_y + height
    columns = 0
    for run in range(table.runs_begin[k], table.runs_begin[k + 1]):
        columns += runs[run, 1]
    share = max(1, ROWS_PIXELS // max(1, columns))
    for p0 in range(0, height, share):
        p1 = min(height, p0 + share)
        for p in range(p0, p1):
            to = (p - p0) * columns * lanes
            for run in range(table.runs_begin[k], table.runs_begin[k + 1]):
                _combine(
                    scratch, (runs[run, 0] - x0) * lanes, lanes,
                    offsets, weights, begin[bin_y + p], begin[bin_y + p + 1],
                    rows, to, lanes, runs[run, 1],
                )  # fmt: skip
                to += runs[run, 1] * lanes
        for q in range(width):
            _combine(
                rows, 0, columns * lanes,
                offsets, weights, begin[bin_x + q], begin[bin_x + q + 1],
                cells, (p0 * width + q) * lanes, width * lanes, p1 - p0,
            )  # fmt: skip


@register_jitable
def _pool_chunked(source, layout, image, channel, sizes, bins, table, k, scratch, cells, lanes):
    """One box whose region is too large for scratch: bin by bin, chunk by chunk."""
    begin, index, weight = table.begin, table.index, table.weight
    height, width = bins
    bin_y = k * (height + width)
    bin_x = bin_y + height
    for p in range(height):
        for q in range(width):
            total = splat(scratch.dtype.type(0), scratch)
            iy = begin[bin_y + p]
            while iy < begin[bin_y + p + 1]:
                end_y, y0, y1 = next_chunk(index, weight, iy, begin[bin_y + p + 1], 1, sizes[0])
                ix = begin[bin_x + q]
                while ix < begin[bin_x + q + 1]:
                    end_x, x0, x1 = next_chunk(
                        index, weight, ix, begin[bin_x + q + 1], 1, sizes[1]
                    )
                    pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch)
                    for i in range(iy, end_y):
                        row = (index[i] - y0) * (x1 - x0) - x0
                        line = splat(scratch.dtype.type(0), scratch)
                        for j in range(ix, end_x):
                            pixel = load(scratch, (row + index[j]) * lanes, scratch)
                            line = add_scaled(line, weight[j], pixel)
                        total = add_scaled(total, weight[i], line)
                    ix = end_x
                iy = end_y
            store(cells, (p * width + q) * lanes, total)


@kernel
def contract(
    source, source_layout, target, target_layout, start, sizes, bins, table, order, groups,
    first_item, last_item, like,
):  # fmt: skip
    """Pool the items (group, channel block) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``start + k`` of the target.
    """
    lanes = LANE_BYTES // like.itemsize
    blocks = (source_layout.channels + lanes - 1) // lanes
    pixels = scratch_pixels(groups, first_item // blocks, (last_item - 1) // blocks + 1)
    scratch = np.empty((pixels + lanes) * lanes, like.dtype)
    rows = np.empty(max(ROWS_PIXELS, min(sizes[1], SCRATCH_PIXELS)) * lanes, like.dtype)
    cells = np.empty(bins[0] * bins[1] * lanes, like.dtype)
    for item_number in range(first_item, last_item):
        group = item_number // blocks
        channel = item_number % blocks * lanes
        image = groups[group, IMAGE]
        packed = fits(groups, group)
        x0 = groups[group, X0]
        if packed:
            y0, y1, x1 = groups[group, Y0], groups[group, Y1], groups[group, X1]
            pack(source, source_layout, image, channel, lanes, y0, y1, x0, x1, scratch)
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            if packed:
                _pool_packed(scratch, x0, bins, table, k, rows, cells, lanes)
            else:
                _pool_chunked(
                    source, source_layout, image, channel, sizes, bins, table, k, scratch, cells,
                    lanes,
                )  # fmt: skip
            unpack(cells, target, target_layout, start + k, channel, lanes, bins[0], bins[1])
