"""Tables turned around: which bins weigh a line of the map, and which boxes reach a tile of it."""

from functools import cache

import numpy as np

from .compile import Kernel, block, cuda
from .integers import tile_of

THREADS = block(128)

TILE_HEIGHT, TILE_WIDTH = 8, 16
"""Pixels of a tile, one for each thread of a block."""

PIXELS = TILE_HEIGHT * TILE_WIDTH


@cache
def turned_of(weights: str) -> Kernel:
    """The kernel that lists the bins of every row and column a box weighs, in order.

    Line z along y of box k is number ``k * (height + width) + z``, along x it is ``height``
    further; lines outside the box's window are not written.  One block for each box.
    """

    def turned(
        begin, end, index, weight, windows, bins_y, bins_x, height, width, capacity_y, capacity_x,
        line_begin, line_end, line_bin, line_weight,
    ):  # fmt: skip
        used = cuda.shared.array(2, np.int32)
        k, thread = cuda.blockIdx.x, cuda.threadIdx.x
        if thread < 2:
            used[thread] = 0
        cuda.syncthreads()
        y0, x0 = windows[4 * k], windows[4 * k + 2]
        rows = max(windows[4 * k + 1] - y0, 0)
        columns = max(windows[4 * k + 3] - x0, 0)
        for number in range(thread, rows + columns, THREADS):
            axis, first_bin, n, pixel = 0, k * (bins_y + bins_x), bins_y, y0 + number
            line, room = k * (height + width) + pixel, k * (capacity_y + capacity_x)
            if number >= rows:
                axis, first_bin, n, pixel = 1, first_bin + bins_y, bins_x, x0 + number - rows
                line, room = k * (height + width) + height + pixel, room + capacity_y
            place, found = 0, 0
            for filling in range(2):
                if filling:
                    place = room + cuda.atomic.add(used, axis, found)
                    line_begin[line] = place
                    line_end[line] = place + found
                count = 0
                for p in range(n):
                    for e in range(begin[first_bin + p], end[first_bin + p]):
                        if index[e] == pixel:
                            if filling:
                                line_bin[place + count] = p
                                line_weight[place + count] = weight[e]
                            count += 1
                found = count

    w = f"{weights}*"
    parameters = (
        "int32*", "int32*", "int32*", w, "int32*", "int32", "int32", "int32", "int32", "int64",
        "int64", "int32*", "int32*", "int32*", w,
    )  # fmt: skip
    return Kernel(turned, f"turned_{weights}", parameters, THREADS)


@cache
def touching() -> Kernel:
    """The kernel that lists, for every tile of every image, the boxes that reach it, in order.

    Tile ``(image * tiles_y + ty) * tiles_x + tx`` owns ``count`` entries of `boxes` from its number
    times the number of boxes.  One thread for each tile.
    """

    def touching(images, windows, boxes, tiles, tiles_y, tiles_x, count, touched):
        tile = np.int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if tile >= tiles:
            return
        image, y, x = tile_of(tile, tiles_y, tiles_x)
        y, x = np.int32(y * TILE_HEIGHT), np.int32(x * TILE_WIDTH)
        found = 0
        for k in range(boxes):
            if (
                images[k] == image
                and windows[4 * k] < y + TILE_HEIGHT
                and windows[4 * k + 1] > y
                and windows[4 * k + 2] < x + TILE_WIDTH
                and windows[4 * k + 3] > x
            ):
                touched[np.int64(tile) * boxes + found] = k
                found += 1
        count[tile] = found

    parameters = (
        "int32*", "int32*", "int32", "int32", "int32", "int32", "int32*", "int32*",
    )  # fmt: skip
    return Kernel(touching, "touching", parameters, THREADS)
