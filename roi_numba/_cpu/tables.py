"""From boxes to tables: what every bin of every box reads, axis by axis.

`Bands` serve means: the pixels of a bin and their weights, each pixel once, none of weight zero.
`Items` serve maxima: the candidates of a bin, each one or two neighbouring pixels with weights.
Both are filled from the operator's rule (`_op.Rule`) and know nothing else about it.

Bin p along y of box k is number ``k * (bins_y + bins_x) + p``, along x it is ``bins_y`` further;
bin b owns the entries from ``begin[b]`` up to, not including, ``begin[b + 1]``.
"""

from collections import namedtuple
from functools import cache

import numpy as np

from .._scalar import MANY_SAMPLES, at_rate
from .compile import inline, kernel, named_after
from .plan import SCRATCH_PIXELS, arrange, list_runs, place
from .rates import Rates, rates_of
from .vectors import LANE_BYTES

ROUND_ENTRIES = 2**16
"""Table entries after which the remaining boxes wait for the next round: 2 MiB in all."""

Bands = namedtuple("Bands", "begin index weight runs_begin runs")
Bands.__doc__ = """Entry i weighs pixel ``index[i]`` by ``weight[i]``.

On the x axis ``index`` counts within the columns the box uses, which are listed as runs
``(first column, length)``: few samples on a wide box leave most columns unread.  A box too large
for scratch has no runs and keeps its pixels.
"""

Items = namedtuple("Items", "begin index weight next_weight label stride")
Items.__doc__ = """Entry i: ``weight[i] * pixel[index[i]] + next_weight[i] * pixel[index[i] + 1]``.

A pair of entries is called ``label_y * stride[box] + label_x`` in argmax, -1 if either is -1.
"""

Steep = namedtuple(
    "Steep",
    "begin index weight next_weight label stride change next_change by_low by_high",
)
Steep.__doc__ = """`Items`, and how their weights change with the box (`_op.Rule.slope`)."""


@cache
def bands_of(rule, moving):
    """The kernel that fills `Bands` and arranges groups for as many boxes as fit.

    It returns the box to go on with, ``start`` if the table cannot even hold one, and what
    `plan.arrange` returns.  If ``lanes`` is 0 nothing is arranged and there are no runs.
    ``sums`` and ``position`` are zeros, for every pixel along an axis; they are zeros again.

    ``moving``: along one axis, ``moved``, the weights are rates of change, as the corners of box k
    move by ``motion[k]``.
    """
    span, entries, entry, slope = rule.span, rule.entries, rule.entry, rule.slope
    name = f"{rule.name}_moving" if moving else rule.name

    if moving:

        @inline
        @named_after(name)
        def weigh(box, p, k, bins, size, option, moved, by_low, by_high):
            if not moved:
                return entry(box, p, k, bins, size, option)
            pixel, change, next_change, low, high = slope(box, p, k, bins, size, option)
            rate = by_low * low + by_high * high
            return pixel, at_rate(change, rate), at_rate(next_change, rate)
    else:

        @inline
        @named_after(name)
        def weigh(box, p, k, bins, size, option, moved, by_low, by_high):
            return entry(box, p, k, bins, size, option)

    @inline
    @named_after(name)
    def fill(
        corners, motion, moved, images, start, bins, sizes, options, table, windows, sums, position,
        compact,
    ):  # fmt: skip
        index, weight = table.index, table.weight
        at, runs, bin_number = 0, 0, 0
        table.begin[0] = 0
        table.runs_begin[0] = 0
        count = min(len(images) - start, len(windows) - 1)
        for k in range(count):
            height = 0
            for axis in range(2):
                n, size, option = bins[axis], sizes[axis], options[axis]
                box = span(corners[start + k, 1 - axis], corners[start + k, 3 - axis], n, option)
                by_low, by_high = motion[start + k, 1 - axis], motion[start + k, 3 - axis]
                axis_begin = at
                low, high = size, 0
                for p in range(n):
                    first, last, divisor = entries(box, p, n, size, option)
                    if images[start + k] < 0 or (axis == 1 and height == 0):
                        last = first  # off the map along y it reads no column
                    if at + min(2 * (last - first), size) > len(index):
                        return start + k
                    begin, end = size, 0
                    for e in range(first, last):
                        pixel, one, two = weigh(
                            box, p, e, n, size, option, axis == moved, by_low, by_high
                        )
                        if one != 0:
                            sums[pixel] += one
                            begin, end = min(begin, pixel), max(end, pixel + 1)
                        if two != 0:
                            sums[pixel + 1] += two
                            begin, end = min(begin, pixel + 1), max(end, pixel + 2)
                    for pixel in range(begin, end):
                        weight[at] = sums[pixel] / divisor
                        sums[pixel] = 0
                        if weight[at] != 0:  # rounded: of boxes in float64 it may have been more
                            index[at] = pixel
                            at += 1
                            low, high = min(low, pixel), max(high, pixel + 1)
                    bin_number += 1
                    table.begin[bin_number] = at
                low = min(low, high)
                windows[k, 2 * axis] = low
                windows[k, 2 * axis + 1] = high
                if axis == 0:
                    height = high - low
                elif compact and height * (high - low) <= SCRATCH_PIXELS:
                    runs = list_runs(
                        index, axis_begin, at, low, high, position, table.runs, runs, index
                    )
            table.runs_begin[k + 1] = runs
        return start + count

    @kernel
    @named_after(name)
    def bands(
        corners, motion, moved, images, start, bins, sizes, options, table, order, groups, windows,
        sums, position, lanes, together,
    ):  # fmt: skip
        stop = fill(
            corners, motion, moved, images, start, bins, sizes, options, table, windows, sums,
            position, lanes > 0,
        )  # fmt: skip
        if lanes == 0:
            return stop, 0, 0, 0
        n, cost, large = arrange(
            windows, images, start, stop - start, order, groups, bins[0] * bins[1], together
        )
        return stop, n, cost, large

    return bands


@cache
def items_of(rule, steep):
    """The kernel that fills `Items`, or `Steep`; as `bands_of`.

    ``apart`` is 2 for "max_corner", where the two pixels of an entry compete, each with its own
    weight, else 1.
    """
    span, entries, entry, slope = rule.span, rule.entries, rule.entry, rule.slope
    cells = rule.argmax == "cell"
    name = f"{rule.name}_steep" if steep else rule.name

    if steep:

        @inline
        @named_after(name)
        def note_slope(table, at, box, p, k, bins, size, option, corner, turned):
            _, change, next_change, by_low, by_high = slope(box, p, k, bins, size, option)
            if corner == 1:
                change = next_change
            if corner >= 0:
                next_change *= 0
            if turned:
                change, next_change = next_change, change
            table.change[at] = change
            table.next_change[at] = next_change
            table.by_low[at] = by_low
            table.by_high[at] = by_high
    else:

        @inline
        @named_after(name)
        def note_slope(table, at, box, p, k, bins, size, option, corner, turned):
            pass

    @inline
    @named_after(name)
    def fill(corners, images, start, bins, sizes, options, apart, table, windows):
        at = 0
        table.begin[0] = 0
        count = min(len(images) - start, len(windows) - 1)
        for k in range(count):
            bin_number = k * (bins[0] + bins[1])
            for axis in range(2):
                n, size = bins[axis], sizes[axis]
                box = span(
                    corners[start + k, 1 - axis], corners[start + k, 3 - axis], n, options[axis]
                )
                stride = size
                window_begin, window_end = size, 0
                for p in range(n):
                    first, last, divisor = entries(box, p, n, size, options[axis])
                    if images[start + k] < 0:
                        last = first
                    if at + 2 * (last - first) > len(table.index):
                        return start + k
                    base = 0
                    if not cells:
                        stride = int(divisor) * apart
                        if stride > MANY_SAMPLES:
                            stride, base = MANY_SAMPLES, first * apart
                    for e in range(first * apart, last * apart):
                        pixel, one, two = entry(box, p, e // apart, n, size, options[axis])
                        if apart == 2:
                            if e % 2 == 1:
                                pixel += 1
                                one = two
                            two *= 0
                        turned = one == 0
                        if turned:  # only the next pixel counts, or nothing does
                            pixel += 1
                            one, two = two, one
                        label = pixel if cells else e - base
                        if one == 0:
                            pixel, label = 0, -1
                        else:
                            window_begin = min(window_begin, pixel)
                            window_end = max(window_end, pixel + (2 if two != 0 else 1))
                        table.weight[at] = one
                        table.next_weight[at] = two
                        table.index[at] = pixel
                        table.label[at] = label
                        corner = e % 2 if apart == 2 else -1
                        note_slope(
                            table, at, box, p, e // apart, n, size, options[axis], corner, turned
                        )
                        at += 1
                    bin_number += 1
                    table.begin[bin_number] = at
                table.stride[k] = stride
                windows[k, 2 * axis] = min(window_begin, window_end)
                windows[k, 2 * axis + 1] = window_end
        return start + count

    @kernel
    @named_after(name)
    def items(
        corners, images, start, bins, sizes, options, apart, table, order, groups, windows, lanes,
        together,
    ):  # fmt: skip
        stop = fill(corners, images, start, bins, sizes, options, apart, table, windows)
        if lanes == 0:
            return stop, 0, 0, 0
        n, cost, large = arrange(
            windows, images, start, stop - start, order, groups, bins[0] * bins[1], together
        )
        place(table.begin, table.index, bins, order, groups, n, lanes)
        return stop, n, cost, large

    return items


def tabulate(
    rule, reduce, corners, images, start, bins, sizes, options, like, motion=None, placed=True,
    rates=False, together=1,
):  # fmt: skip
    """Tabulate as many boxes from ``start`` on as fit.

    ``motion``: an axis and how the corners move along it (`bands_of`).  Unless ``placed``, all
    pixels stay pixels, nothing is grouped, and maxima have slopes.  ``rates``: means have `Rates`.
    ``together``: blocks of channels that are packed together (`plan.arrange`).  Returns the box to
    go on with, the table, the order of its boxes, their groups and what those cost, and the groups
    that are too large for scratch.
    """
    lanes = LANE_BYTES // like.itemsize if placed else 0
    both = sum(bins)
    count = min(len(images) - start, max(1, ROUND_ENTRIES // both))
    capacity = min(ROUND_ENTRIES, 1024 + 8 * count * both)
    begin = np.empty(count * both + 1, np.int64)
    per_box = np.empty((2 if rates else 1) * count + 1, np.int64)
    order, groups = np.empty(count, np.int64), np.empty((count, 8), np.int64)
    # Scratch is made here: what makes an array in a kernel takes 0.1 s to compile.
    windows = np.empty((count + 1, 6), np.int64)
    longest = max(sizes)
    moved, velocity = motion or (-1, corners)
    types = corners.dtype, like.dtype
    stop = start
    while stop == start:
        index, weight = np.empty(capacity, np.int32), np.empty(capacity, like.dtype)
        if rates:
            runs = np.empty((capacity, 2), np.int32)
            by_low, by_high = np.empty((2, capacity), like.dtype)
            table = Rates(
                begin, np.empty_like(begin), index, weight, by_low, by_high, np.empty_like(index),
                per_box, runs,
            )  # fmt: skip
            sums, position = np.zeros((3, longest), corners.dtype), np.zeros(longest, np.int32)
            stop, n, cost, large = rates_of(rule).typed(types)(
                corners, images, start, bins, sizes, options, table, order, groups, windows, sums,
                position, lanes,
            )  # fmt: skip
        elif reduce == "mean":
            table = Bands(begin, index, weight, per_box, np.empty((capacity, 2), np.int32))
            sums, position = np.zeros(longest, corners.dtype), np.zeros(longest, np.int32)
            stop, n, cost, large = bands_of(rule, motion is not None).typed(types)(
                corners, velocity, moved, images, start, bins, sizes, options, table, order,
                groups, windows, sums, position, lanes, together,
            )  # fmt: skip
        else:
            next_weight, label = np.empty_like(weight), np.empty(capacity, np.int64)
            table = Items(begin, index, weight, next_weight, label, per_box)
            if not placed:
                table = Steep(*table, *np.empty((4, capacity), like.dtype))
            apart = 2 if reduce == "max_corner" else 1
            stop, n, cost, large = items_of(rule, not placed).typed(types)(
                corners, images, start, bins, sizes, options, apart, table, order, groups, windows,
                lanes, together,
            )  # fmt: skip
        capacity *= 2
    return stop, table, order[: stop - start], groups[:n], cost, groups[len(groups) - large :]
