"""The gradient of means to the map: ``weights_y.T @ grad @ weights_x``, added over the boxes.

A work item is an image, a tile of its map and a block of channels, or up to four blocks where they
lie side by side: it alone writes there, and adds box after box, so the sum is the same for any
number of threads, and needs no atomics.
"""

from .blocks import Layout, blocks_from, expect_pieces, lines_of, pack, start_of
from .compile import inline, inline_here, kernel
from .lanes import accumulate, combine, splat, store
from .plan import SCRATCH_PIXELS
from .scratch import take
from .streams import fence
from .unpack import unpack
from .vectors import LANE_BYTES

TILE_WIDTH = 128
"""Columns of a tile, at most; it has as many rows as scratch holds."""

MOST_VECTORS = 3 * SCRATCH_PIXELS
"""Scratch for blocks of channels that go together, at most: three quarters of what is kept.  Beyond
it they gain nothing (a map of 256x256, 28x28 bins: two took 5 % longer than one, three 23 %)."""


def tiling(sizes):
    """Rows and columns of a tile, and how many tiles there are along y and x."""
    width = max(1, min(sizes[1], TILE_WIDTH))
    height = max(1, min(sizes[0], SCRATCH_PIXELS // width))
    return height, width, -(-sizes[0] // height), -(-sizes[1] // width)


def fitting(tiles, bins):
    """How many blocks of channels fit `MOST_VECTORS`."""
    height, width, *_ = tiles
    return max(1, MOST_VECTORS // (height * width + bins[0] * width + bins[0] * bins[1]))


@inline
def _clip(pixel, first, last, low, high):
    """The lines from ``first`` up to ``last`` whose pixels lie from ``low`` up to ``high``."""
    while first < last and pixel[first] < low:
        first += 1
    while last > first and pixel[last - 1] >= high:
        last -= 1
    return first, last


@inline_here
def _reduce_columns(
    cells, plane, width, turned, first_y, last_y, first_x, last_x, bin_rows, pitch, rows_plane,
    lanes, blocks, grad, coming, lines,
):  # fmt: skip
    """Sum bins of a box, whose gradient lies in ``cells``, for every column [first_x, last_x).

    Rows of bins that rows [first_y, last_y) weigh become lines of ``bin_rows``, ``pitch`` long.
    Blocks lie ``plane`` and ``rows_plane`` apart.  Meanwhile ``grad[coming:]`` is asked for.
    """
    begin, index, weight = turned.begin, turned.index, turned.weight
    low, high = index[begin[first_y]], 0
    for line in range(first_y, last_y):
        low = min(low, index[begin[line]])
        high = max(high, index[begin[line + 1] - 1])
    unit = pitch * lanes
    p, count = low // unit, (high - low) // unit + 1
    share = (lines.pieces + last_x - first_x - 1) // (last_x - first_x)
    asked = 0
    for line in range(first_x, last_x):
        combine(
            cells, p * width * lanes, plane, width * lanes,
            index, 1, weight, begin[line], begin[line + 1],
            bin_rows, low + (line - first_x) * lanes, rows_plane, unit, count, blocks,
        )  # fmt: skip
        expect_pieces(grad, coming, lines, asked, asked + share, lanes)
        asked += share


@inline_here
def _add_rows(
    bin_rows, rows_plane, turned, first_y, last_y, first_x, last_x, tile, plane, y0, x0,
    tile_pitch, lanes, blocks,
):  # fmt: skip
    """Add sums of these lines to the rows [first_y, last_y) of the tile, blocks ``plane`` apart."""
    pixel, begin, index, weight = turned.pixel, turned.begin, turned.index, turned.weight
    run = first_x
    while run < last_x:
        end = run + 1
        while end < last_x and pixel[end] == pixel[end - 1] + 1:
            end += 1
        for line in range(first_y, last_y):
            to = (pixel[line] - y0) * tile_pitch + pixel[run] - x0
            accumulate(
                bin_rows, (run - first_x) * lanes, rows_plane, lanes,
                index, 1, weight, begin[line], begin[line + 1],
                tile, to * lanes, plane, lanes, end - run, blocks,
            )  # fmt: skip
        run = end


@kernel
def scatter(
    grad, grad_layout, grad_shape, target, target_layout, start, sizes, bins, tiles, turned, order,
    first_box, fresh, together, first_item, last_item, memory,
):  # fmt: skip
    """Add the boxes of a table to the items (image, tile, blocks) from first up to last.

    Box k of the table is box ``start + k`` of ``grad``; those of image i are
    ``order[first_box[i]:first_box[i + 1]]``.  ``fresh``: the target holds nothing yet.
    ``together``: the blocks of channels of an item.
    """
    lanes = LANE_BYTES // memory.itemsize
    channels = together * lanes
    items = (target_layout.channels + channels - 1) // channels
    tile_height, tile_width, tiles_y, tiles_x = tiles
    first, pixel = turned.first, turned.pixel
    box_cells = bins[0] * bins[1] * lanes
    tile, memory = take(memory, (together * tile_height * tile_width + lanes) * lanes)
    rows_plane = bins[0] * tile_width * lanes
    bin_rows, memory = take(memory, together * rows_plane)
    cells, _ = take(memory, together * box_cells + lanes * lanes)
    lines = lines_of(grad, grad_layout, grad_shape, lanes, together)
    zero = splat(tile.dtype.type(0), tile)
    for item in range(first_item, last_item):
        channel = item % items * channels
        blocks = blocks_from(target_layout, channel, lanes, together)
        image, number = item // items // (tiles_y * tiles_x), item // items % (tiles_y * tiles_x)
        top, left = number // tiles_x * tile_height, number % tiles_x * tile_width
        bottom, right = min(top + tile_height, sizes[0]), min(left + tile_width, sizes[1])
        # What the boxes touch of the tile.
        y0, y1, x0, x1 = bottom, top, right, left
        for i in range(first_box[image], first_box[image + 1]):
            k = order[i]
            fy, ly = _clip(pixel, first[2 * k], first[2 * k + 1], top, bottom)
            fx, lx = _clip(pixel, first[2 * k + 1], first[2 * k + 2], left, right)
            if fy < ly and fx < lx:
                y0, y1 = min(y0, pixel[fy]), max(y1, pixel[ly - 1] + 1)
                x0, x1 = min(x0, pixel[fx]), max(x1, pixel[lx - 1] + 1)
        if y0 >= y1:
            continue
        plane = (y1 - y0) * (x1 - x0) * lanes
        if fresh:
            for at in range(0, blocks * plane, lanes):
                store(tile, at, zero)
        else:
            pack(target, target_layout, image, channel, lanes, y0, y1, x0, x1, tile, blocks, plane)
        for i in range(first_box[image], first_box[image + 1]):
            k = order[i]
            fy, ly = _clip(pixel, first[2 * k], first[2 * k + 1], y0, y1)
            fx, lx = _clip(pixel, first[2 * k + 1], first[2 * k + 2], x0, x1)
            if fy >= ly or fx >= lx:
                continue
            pack(
                grad, grad_layout, start + k, channel, lanes, 0, grad_shape[0], 0, grad_shape[1],
                cells, blocks, box_cells,
            )  # fmt: skip
            following = start + order[min(i + 1, len(order) - 1)]
            coming = start_of(grad_layout, following, channel)
            _reduce_columns(
                cells, box_cells, bins[1], turned, fy, ly, fx, lx, bin_rows, tile_width,
                rows_plane, lanes, blocks, grad, coming, lines,
            )  # fmt: skip
            _add_rows(
                bin_rows, rows_plane, turned, fy, ly, fx, lx, tile, plane, y0, x0, x1 - x0, lanes,
                blocks,
            )  # fmt: skip
        region = Layout(
            target_layout.origin
            + y0 * target_layout.height_stride
            + x0 * target_layout.width_stride,
            target_layout.stride,
            target_layout.channels,
            target_layout.channel_stride,
            target_layout.height_stride,
            target_layout.width_stride,
        )
        unpack(tile, target, region, image, channel, lanes, y1 - y0, x1 - x0, blocks)
    fence()
