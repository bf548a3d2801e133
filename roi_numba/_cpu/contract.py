"""Means: ``output = weights_y @ map @ weights_x.T`` for every box and channel."""

from .blocks import blocks_from, complete_blocks, expect_item, pack, start_of
from .compile import inline, kernel
from .lanes import add_scaled, combine, load, splat, store
from .narrow import PICKS, is_there, items_at_once, list_picks, pool_narrow, suits
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
from .streams import fence
from .unpack import Waiting, cells_for, go_on, hold, unpack
from .vectors import LANE_BYTES


@inline
def pool_box(
    source, at, plane, unit, pitch, bins, table, k, rows, cells, lanes, together, blocks, target,
    waiting,
):  # fmt: skip
    """One box of blocks of channels whose pixels are lanes: rows first, then columns.

    Row and column 0 of the map would begin at ``source[at]``, pixels ``unit`` apart, rows ``pitch``
    and blocks ``plane``; the bins go to ``cells``, block after block.  What is ``waiting`` of
    another box is written to the target, a row with every row.
    """
    if together is None:
        blocks = 1
    begin, index, weights, runs = table.begin, table.index, table.weight, table.runs
    height, width = bins
    bin_y = k * (height + width)
    bin_x = bin_y + height
    columns = 0
    for run in range(table.runs_begin[k], table.runs_begin[k + 1]):
        columns += runs[run, 1]
    share = max(1, ROWS_PIXELS // max(1, blocks * columns))
    for p0 in range(0, height, share):
        p1 = min(height, p0 + share)
        rows_plane = (p1 - p0) * columns * lanes
        for p in range(p0, p1):
            row = (p - p0) * columns * lanes
            for run in range(table.runs_begin[k], table.runs_begin[k + 1]):
                combine(
                    source, at + runs[run, 0] * unit, plane, unit,
                    index, pitch, weights, begin[bin_y + p], begin[bin_y + p + 1],
                    rows, row, rows_plane, lanes, runs[run, 1], blocks,
                )  # fmt: skip
                row += runs[run, 1] * lanes
            if waiting.done < waiting.count:
                waiting = go_on(cells, target, waiting, width * lanes)
        for q in range(width):
            combine(
                rows, 0, rows_plane, columns * lanes,
                index, lanes, weights, begin[bin_x + q], begin[bin_x + q + 1],
                cells, (p0 * width + q) * lanes, height * width * lanes, width * lanes, p1 - p0,
                blocks,
            )  # fmt: skip


NEAR = 1024
"""Bytes from pixel to pixel, at most, for boxes to be read where they lie.  With pixels 4 KB apart,
which share a set of L1, c4-head-50 took 2.6 ms in some processes and 5.6 in others."""

TIMES_READ = 1.5
"""How often such boxes read a row, at most, on average: to be read more often they are packed
(fpn-mask: 4.8 to 5.2 ms so, 5.2 to 5.5 with 3 times, 4.8 to 5.3 if all are packed)."""


@inline
def is_at_hand(source, layout, channel, lanes, blocks, table, k, bins, height):
    """Whether a box, alone in its group, is read where it lies.

    Its pixels must be lanes there, `NEAR` each other, and read no more than `TIMES_READ`.
    """
    if complete_blocks(layout, channel, lanes, blocks) < blocks:
        return False
    bin_y = k * (bins[0] + bins[1])
    rows = table.begin[bin_y + bins[0]] - table.begin[bin_y]
    return abs(layout.width_stride) * source.itemsize <= NEAR and rows <= TIMES_READ * height


@kernel
def contract(
    source, source_layout, target, target_layout, numbers, sizes, bins, table, order, groups,
    together, picking, first_item, last_item, memory,
):  # fmt: skip
    """Pool the items (group, blocks of channels) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``numbers[k]`` of the target.  The region of every group fits scratch.
    ``together``: the blocks of channels of an item, None if it is one: code that knows so is up to
    5 % faster.  ``picking``: None where the processor cannot pick pixels (`narrow`).
    """
    lanes = LANE_BYTES // memory.itemsize
    most = 1
    if together is not None:
        most = together
    pixels = scratch_pixels(groups)
    plane, box_cells = pixels * lanes, bins[0] * bins[1] * lanes
    scratch, memory = take(memory, most * plane + lanes * lanes)
    picks = max(ROWS_PIXELS, most * min(sizes[1], SCRATCH_PIXELS)) * lanes
    rows, memory = take(memory, picks + PICKS * lanes)
    cells, _ = take(memory, max(cells_for(bins[0] * bins[1]) * lanes, most * box_cells))
    waiting = Waiting(0, 0, 0, 0)
    if picking is not None:
        suited = suits(source_layout, target_layout, bins, lanes)
        listed, taps, at_a_time = -1, 0, 1
    item = first_item
    while item < last_item:
        if picking is not None and suited:
            group, channel = item_at(item, groups, source_layout, lanes)
            k = order[groups[group, FIRST]]
            alone = groups[group, FIRST] + 1 == groups[group, LAST]
            if alone and k != listed:
                listed = k
                taps, at_a_time = list_picks(table, k, bins, lanes, rows, picks)
            if k == listed and taps > 0:
                run = table.runs_begin[k]
                x0, columns = table.runs[run, 0], table.runs[run, 1]
                y0, y1 = groups[group, Y0], groups[group, Y1]
                vectors = 1 if columns <= lanes else 2
                items = items_at_once(
                    item, last_item, groups, source_layout, target, y1 - y0, vectors, lanes
                )
                channels = min(items * lanes, source_layout.channels - channel)
                at = start_of(source_layout, groups[group, IMAGE], channel) + x0
                if is_there(source, source_layout, at, channels, y0, y1, vectors * lanes):
                    to = start_of(target_layout, numbers[k], channel)
                    waiting = pool_narrow(
                        source, source_layout, at, channels, vectors, taps, at_a_time, bins, table,
                        k, rows, picks, cells, lanes, target, target_layout, to, waiting,
                    )  # fmt: skip
                    item += items
                    continue
        group, channel = item_at(item, groups, source_layout, most * lanes)
        blocks = blocks_from(source_layout, channel, lanes, most)
        first, last = groups[group, FIRST], groups[group, LAST]
        y0, y1, x0, x1 = groups[group, Y0], groups[group, Y1], groups[group, X0], groups[group, X1]
        at_hand = first + 1 == last and is_at_hand(
            source, source_layout, channel, lanes, blocks, table, order[first], bins, y1 - y0
        )
        if not at_hand:
            pack(
                source, source_layout, groups[group, IMAGE], channel, lanes, y0, y1, x0, x1,
                scratch, blocks, plane,
            )  # fmt: skip
        expect_item(item + 1, last_item, groups, source, source_layout, lanes, most)
        pitch = (x1 - x0) * lanes
        for i in range(first, last):
            k = order[i]
            if at_hand:
                at = start_of(source_layout, groups[group, IMAGE], channel)
                pool_box(
                    source, at, lanes, source_layout.width_stride, source_layout.height_stride,
                    bins, table, k, rows, cells, lanes, together, blocks, target, waiting,
                )  # fmt: skip
            else:
                pool_box(
                    scratch, -y0 * pitch - x0 * lanes, plane, lanes, pitch, bins, table, k, rows,
                    cells, lanes, together, blocks, target, waiting,
                )  # fmt: skip
            waiting = hold(
                cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1], blocks
            )
        item += 1
    go_on(cells, target, waiting, waiting.count)
    fence()


@inline
def pool_large(source, layout, image, channel, sizes, bins, table, k, scratch, cells, lanes):
    """One box whose region is too large for scratch: bin by bin, in chunks."""
    begin, index, weight = table.begin, table.index, table.weight
    for cell in range(bins[0] * bins[1]):
        bin_y = k * (bins[0] + bins[1]) + cell // bins[1]
        bin_x = k * (bins[0] + bins[1]) + bins[0] + cell % bins[1]
        total = splat(scratch.dtype.type(0), scratch)
        iy = begin[bin_y]
        while iy < begin[bin_y + 1]:
            end_y, y0, y1 = next_chunk(index, weight, iy, begin[bin_y + 1], 1, sizes[0])
            ix = begin[bin_x]
            while ix < begin[bin_x + 1]:
                end_x, x0, x1 = next_chunk(index, weight, ix, begin[bin_x + 1], 1, sizes[1])
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
        store(cells, cell * lanes, total)


@kernel
def contract_large(
    source, source_layout, target, target_layout, numbers, sizes, bins, table, order, groups,
    first_item, last_item, memory,
):  # fmt: skip
    """`contract` for boxes whose region is too large for scratch, one in each group."""
    lanes = LANE_BYTES // memory.itemsize
    scratch, memory = take(memory, (CHUNK * CHUNK + lanes) * lanes)
    cells, _ = take(memory, cells_for(bins[0] * bins[1]) * lanes)
    for item in range(first_item, last_item):
        group, channel = item_at(item, groups, source_layout, lanes)
        k = order[groups[group, FIRST]]
        pool_large(
            source, source_layout, groups[group, IMAGE], channel, sizes, bins, table, k, scratch,
            cells, lanes,
        )  # fmt: skip
        unpack(cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1])
    fence()
