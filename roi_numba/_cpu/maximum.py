"""Maxima: the largest of a bin's candidates, and which one it was."""

import numpy as np

from .blocks import pack, pack_item
from .candidates import compete, highest, largest, lowest, store_names
from .compile import inline, kernel
from .lanes import item, splat, store
from .plan import CHUNK, FIRST, IMAGE, LAST, X0, X1, item_at, next_chunk, scratch_pixels
from .scratch import take
from .streams import fence
from .unpack import Waiting, cells_for, go_on, hold, unpack
from .vectors import LANE_BYTES

NAME_LANES = LANE_BYTES // 8
"""Names are int64: so many of them are lanes."""


@inline
def _unpack_names(names, labels, layout, box, channel, lanes, bins):
    """Write argmax of one box."""
    count = bins[0] * bins[1] * NAME_LANES
    # From the last on: they may be transposed to where those after them were.
    for first in range(lanes - NAME_LANES, -1, -NAME_LANES):
        some = names[first // NAME_LANES * count : (first // NAME_LANES + 2) * count]
        unpack(some, labels, layout, box, channel + first, NAME_LANES, bins[0], bins[1])


@kernel
def maximum(
    source, source_layout, target, target_layout, numbers, sizes, bins, table, order, groups,
    whole, labels, labels_layout, places, together, first_item, last_item, memory,
):  # fmt: skip
    """Pool the items (group, blocks of channels) from ``first_item`` up to ``last_item``.

    Box k of the table is box ``numbers[k]`` of the target.  The region of every group fits scratch.
    ``whole``: all entries are whole pixels.  ``labels`` is None if argmax is not wanted.
    """
    lanes = LANE_BYTES // memory.itemsize
    pixels = scratch_pixels(groups)
    plane = pixels * lanes
    scratch, memory = take(memory, together * plane + lanes * lanes)
    count = bins[0] * bins[1]
    cells, _ = take(memory, max(cells_for(count), together * count) * lanes)
    if labels is not None:  # what follows from None is not compiled
        names = np.empty(count * (lanes + NAME_LANES), np.int64)
    # Out of the loops, which would count references to the arrays at every step.
    begin, index, label, stride = table.begin, table.index, table.label, table.stride
    weight, next_weight = table.weight, table.next_weight
    T = scratch.dtype.type
    zero, unknown = splat(T(0), scratch), splat(T(np.nan), scratch)
    nobody = splat(places.dtype.type(-1), places)
    waiting = Waiting(0, 0, 0, 0)
    for number in range(first_item, last_item):
        group, channel, blocks = pack_item(
            number, last_item, groups, source, source_layout, lanes, together, scratch, plane
        )
        pitch = (groups[group, X1] - groups[group, X0]) * lanes
        for i in range(groups[group, FIRST], groups[group, LAST]):
            k = order[i]
            first_bin = k * (bins[0] + bins[1])
            cell = 0
            for block in range(blocks):
                for bin_y in range(first_bin, first_bin + bins[0]):
                    iy, end_y = item(begin, bin_y), item(begin, bin_y + 1)
                    for bin_x in range(first_bin + bins[0], first_bin + bins[0] + bins[1]):
                        ix, end_x = item(begin, bin_x), item(begin, bin_x + 1)
                        here = cell
                        cell += 1
                        some = iy < end_y and ix < end_x
                        if some and labels is None:
                            if whole:
                                at = block * plane + item(index, iy) + item(index, ix)
                                best = largest(scratch, at, pitch, end_y - iy, end_x - ix)
                                store(cells, here * lanes, best)
                                continue
                            best = highest(
                                scratch, block * plane, index, weight, next_weight, pitch, iy,
                                end_y, ix, end_x,
                            )  # fmt: skip
                            if not lowest(best):
                                store(cells, here * lanes, best)
                                continue
                        best, row, column = zero, nobody, nobody
                        if some:
                            best, row, column = compete(
                                scratch, block * plane, 1, 1, pitch, index, weight, next_weight,
                                label, whole, iy, end_y, ix, end_x, unknown, nobody, nobody,
                            )  # fmt: skip
                        store(cells, here * lanes, best)
                        if labels is not None:
                            at = (here - block * count) * NAME_LANES
                            store_names(names, at, count * NAME_LANES, row, column, stride[k])
                    if waiting.done < waiting.count:
                        waiting = go_on(cells, target, waiting, bins[1] * lanes)
                if labels is not None:
                    at = channel + block * lanes
                    _unpack_names(names, labels, labels_layout, numbers[k], at, lanes, bins)
            waiting = hold(
                cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1], blocks
            )
    go_on(cells, target, waiting, waiting.count)
    fence()


@kernel
def maximum_large(
    source, layout, target, target_layout, numbers, sizes, bins, table, order, groups, whole,
    labels, labels_layout, places, first_item, last_item, memory,
):  # fmt: skip
    """`maximum` for single boxes whose region is too large for scratch: bin by bin, in chunks."""
    lanes = LANE_BYTES // memory.itemsize
    scratch, memory = take(memory, (CHUNK * CHUNK + lanes) * lanes)
    count = bins[0] * bins[1]
    cells, _ = take(memory, cells_for(count) * lanes)
    if labels is not None:
        names = np.empty(count * (lanes + NAME_LANES), np.int64)
    # Out of the loops, which would count references to the arrays at every step.
    begin, index, label, stride = table.begin, table.index, table.label, table.stride
    weight, next_weight = table.weight, table.next_weight
    T = scratch.dtype.type
    zero, unknown = splat(T(0), scratch), splat(T(np.nan), scratch)
    nobody = splat(places.dtype.type(-1), places)
    for number in range(first_item, last_item):
        group, channel = item_at(number, groups, layout, lanes)
        k, image = order[groups[group, FIRST]], groups[group, IMAGE]
        for cell in range(count):
            bin_y = k * (bins[0] + bins[1]) + cell // bins[1]
            bin_x = k * (bins[0] + bins[1]) + bins[0] + cell % bins[1]
            iy, last_y = begin[bin_y], begin[bin_y + 1]
            first_x, last_x = begin[bin_x], begin[bin_x + 1]
            best, row, column = zero, nobody, nobody
            if iy < last_y and first_x < last_x:
                best = unknown
            while iy < last_y:
                end_y, y0, y1 = next_chunk(index, weight, iy, last_y, 2, sizes[0])
                ix = first_x
                while ix < last_x:
                    end_x, x0, x1 = next_chunk(index, weight, ix, last_x, 2, sizes[1])
                    pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch)
                    pitch = (x1 - x0) * lanes
                    best, row, column = compete(
                        scratch, -y0 * pitch - x0 * lanes, pitch, lanes, pitch, index, weight,
                        next_weight, label, whole, iy, end_y, ix, end_x, best, row, column,
                    )  # fmt: skip
                    ix = end_x
                iy = end_y
            store(cells, cell * lanes, best)
            if labels is not None:
                at = cell * NAME_LANES
                store_names(names, at, count * NAME_LANES, row, column, stride[k])
        unpack(cells, target, target_layout, numbers[k], channel, lanes, bins[0], bins[1])
        if labels is not None:
            _unpack_names(names, labels, labels_layout, numbers[k], channel, lanes, bins)
    fence()
