"""From boxes to tables on the device: what every bin of every box reads, axis by axis.

A table has room for `capacity` entries a box and axis: bins follow each other along an axis and two
neighbours share at most two pixels, so that ``size + 2 * bins`` pixels, each once a bin, are
enough.  Hence nobody on the host needs to know the boxes.

Bin p along y of box k is number ``k * (bins_y + bins_x) + p``, along x it is ``bins_y`` further;
bin b owns the entries from ``begin[b]`` up to, not including, ``end[b]``.  Where in its box's room
a bin lies depends on which thread came first; what it holds does not.
"""

from functools import cache

import numpy as np

from .compile import Kernel, block, cuda, device
from .levels import checker, picker, scaler
from .rules import DeviceRule, at_rate, checked_box

THREADS = block(64)


@cache
def bands_of(
    rule: DeviceRule, geometry: str, numbers: str, weights: str, what: str, several: bool = False
) -> Kernel:
    """The kernel that fills a table for means, one block for each box.

    ``what``: "weights"; or "rates" of change along one axis, ``moved``, as the corners of box k
    move by ``motion[k]``; or "reach", nonzero where an entry weighs a pixel or is about to.
    """
    T, A = np.dtype(geometry).type, np.dtype(weights).type
    span, entries, entry, slope, pack = rule.span, rule.entries, rule.entry, rule.slope, rule.pack
    pick, scales_of, on_level = picker(several, "int64"), scaler(several), checker(several)

    if what == "weights" or slope is None:

        @device
        def weigh(box, p, k, bins, size, option, moves, by_low, by_high):
            return entry(box, p, k, bins, size, option)

    elif what == "rates":

        @device
        def weigh(box, p, k, bins, size, option, moves, by_low, by_high):
            pixel, one, two = entry(box, p, k, bins, size, option)
            if moves:
                pixel, one, two, low, high = slope(box, p, k, bins, size, option)
                rate = by_low * low + by_high * high
                one, two = at_rate(one, rate), at_rate(two, rate)
            return pixel, one, two

    else:

        @device
        def weigh(box, p, k, bins, size, option, moves, by_low, by_high):
            pixel, one, two = entry(box, p, k, bins, size, option)
            place, change, next_change, _, _ = slope(box, p, k, bins, size, option)
            if change != 0 or next_change != 0:
                pixel, one, two = place, one + abs(change), two + abs(next_change)
            return pixel, one, two

    def bands(
        corners, corner_row, corner_column, numbers, number_stride, motion, motion_stride,
        moved, scale_y, scale_x, y_first, y_second, x_first, x_second, bins_y, bins_x, height,
        width, images, start, capacity_y, capacity_x, begin, end, index, weight, image, windows,
        levels, places, scales,
    ):  # fmt: skip
        used = cuda.shared.array(2, np.int32)
        window = cuda.shared.array(4, np.int32)
        k, thread = cuda.blockIdx.x, cuda.threadIdx.x
        _, _, _, _, _, height, width = pick(levels, places, start + k, 0, 0, 0, 0, height, width)
        scale_y, scale_x = scales_of(levels, places, scales, start + k, scale_y, scale_x)
        if thread < 2:
            used[thread] = 0
            window[2 * thread] = width if thread else height
            window[2 * thread + 1] = 0
        cuda.syncthreads()
        of_image, x1, y1, x2, y2 = checked_box(
            corners, (start + k) * corner_row, corner_column, numbers,
            (start + k) * number_stride, images,
        )  # fmt: skip
        of_image = on_level(of_image, levels, places, start + k)
        move = (start + k) * motion_stride
        for b in range(thread, bins_y + bins_x, THREADS):
            axis, p, n, size, low, high = 0, b, bins_y, height, y1, y2
            option = pack(scale_y, y_first, y_second)
            room, capacity = k * (capacity_y + capacity_x), capacity_y
            if b >= bins_y:
                axis, p, n, size, low, high = 1, b - bins_y, bins_x, width, x1, x2
                option = pack(scale_x, x_first, x_second)
                room, capacity = room + capacity_y, capacity_x
            moves = axis == moved
            by_low, by_high = T(0), T(0)
            if moves:
                by_low, by_high = motion[move + 1 - axis], motion[move + 3 - axis]
            box = span(low, high, n, option)
            first, last, divisor = entries(box, p, n, size, option)
            if of_image < 0:
                last = first
            # Entries follow each other up or down the axis, so that two sums are enough: those of
            # pixel `at` and of the next.  The first time around only counts.
            place, found = 0, 0
            for filling in range(2):
                if filling:
                    place = cuda.atomic.add(used, axis, found)
                    found = max(min(found, capacity - place), 0)
                    begin[k * (bins_y + bins_x) + b] = room + place
                    end[k * (bins_y + bins_x) + b] = room + place + found
                at, this, following, count = 0, T(0), T(0), 0
                for e in range(first, last + 1):
                    pixel, one, two = at + 2, T(0), T(0)
                    if e < last:
                        pixel, one, two = weigh(box, p, e, n, size, option, moves, by_low, by_high)
                        if one == 0 and two == 0:
                            continue
                    while at != pixel and (this != 0 or following != 0):
                        done, total = at, this
                        if pixel > at:
                            at, this, following = at + 1, following, T(0)
                        else:
                            done, total = at + 1, following
                            at, this, following = at - 1, T(0), this
                        mean = A(total / divisor)
                        if mean != 0:
                            if filling and count < found:
                                index[room + place + count] = done
                                weight[room + place + count] = mean
                                cuda.atomic.min(window, 2 * axis, done)
                                cuda.atomic.max(window, 2 * axis + 1, done + 1)
                            count += 1
                    at, this, following = pixel, this + one, following + two
                found = count if not filling else found
        cuda.syncthreads()
        if thread < 4:
            windows[4 * k + thread] = window[thread]
        if thread == 0:
            image[k] = of_image

    g = f"{geometry}*"
    parameters = (
        g, "int64", "int64", f"{numbers}*", "int64", g, "int64",
        "int32", geometry, geometry, *["int64"] * 4, "int32", "int32", "int32",
        "int32", "int32", "int64", "int32", "int32", "int32*", "int32*", "int32*", f"{weights}*",
        "int32*", "int32*", "int64*", "int64*", g,
    )  # fmt: skip
    name = f"bands_{rule.name}_{geometry}_{numbers}_{weights}_{what}" + "_levels" * several
    return Kernel(bands, name, parameters, THREADS, contract=False)
