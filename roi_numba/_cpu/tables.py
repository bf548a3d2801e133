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

from .compile import inline, kernel
from .lanes import LANE_BYTES
from .plan import SCRATCH_PIXELS, arrange, place

ROUND_ENTRIES = 2**17
"""Table entries after which the remaining boxes wait for the next round: about 1 MiB."""

MAX_GAP = 8
"""Unread columns that end a run: fewer cost less than starting another."""

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


Plan = namedtuple("Plan", "windows order groups")
Plan.__doc__ = """The pixels each box touches (y0, y1, x0, x1), and the boxes in groups (`plan`)."""


@cache
def bands_of(rule):
    """The kernel that fills `Bands` and their `Plan` for as many boxes as fit.

    It returns the box to go on with, ``start`` if the table cannot even hold one, and how many
    groups there are.
    """
    span, entries, entry = rule.span, rule.entries, rule.entry

    @inline
    def fill(corners, images, start, bins, sizes, options, table, windows):
        sums = np.zeros(max(sizes[0], sizes[1]), corners.dtype)
        position = np.zeros(sizes[1], np.int32)
        at, runs = 0, 0
        table.begin[0] = 0
        table.runs_begin[0] = 0
        for k in range(min(len(images) - start, len(windows))):
            bin_number = k * (bins[0] + bins[1])
            for axis in range(2):
                n, size = bins[axis], sizes[axis]
                box = span(
                    corners[start + k, 1 - axis], corners[start + k, 3 - axis], n, options[axis]
                )
                axis_begin = at
                window_begin, window_end = size, 0
                for p in range(n):
                    first, last, divisor = entries(box, p, n, size, options[axis])
                    if images[start + k] < 0:
                        last = first
                    if at + min(2 * (last - first), size) > len(table.index):
                        return start + k
                    begin, end = size, 0
                    for e in range(first, last):
                        pixel, weight, next_weight = entry(box, p, e, n, size, options[axis])
                        if weight != 0:
                            sums[pixel] += weight
                            begin, end = min(begin, pixel), max(end, pixel + 1)
                        if next_weight != 0:
                            sums[pixel + 1] += next_weight
                            begin, end = min(begin, pixel + 1), max(end, pixel + 2)
                    for pixel in range(begin, end):
                        table.weight[at] = sums[pixel] / divisor
                        sums[pixel] = 0
                        if table.weight[at] != 0:
                            table.index[at] = pixel
                            at += 1
                            window_begin = min(window_begin, pixel)
                            window_end = max(window_end, pixel + 1)
                    bin_number += 1
                    table.begin[bin_number] = at
                window_begin = min(window_begin, window_end)
                windows[k, 2 * axis] = window_begin
                windows[k, 2 * axis + 1] = window_end
                height = windows[k, 1] - windows[k, 0]
                if axis == 0 or height * (window_end - window_begin) > SCRATCH_PIXELS:
                    continue
                for i in range(axis_begin, at):
                    position[table.index[i]] = 1
                columns, previous = 0, -1 - MAX_GAP
                for column in range(window_begin, window_end):
                    if position[column] == 0:
                        continue
                    gap = column - previous - 1
                    if gap >= MAX_GAP:
                        table.runs[runs, 0] = column
                        table.runs[runs, 1] = 0
                        runs += 1
                        gap = 0
                    columns += gap
                    position[column] = columns
                    columns += 1
                    table.runs[runs - 1, 1] += gap + 1
                    previous = column
                for i in range(axis_begin, at):
                    table.index[i] = position[table.index[i]]
                for column in range(window_begin, window_end):
                    position[column] = 0
            table.runs_begin[k + 1] = runs
        return start + min(len(images) - start, len(windows))

    def bands(corners, images, start, bins, sizes, options, table, plan, lanes):
        stop = fill(corners, images, start, bins, sizes, options, table, plan.windows)
        groups = arrange(
            plan.windows, images, start, stop - start, plan.order, plan.groups, bins[0] * bins[1]
        )
        place(table.begin, table.index, bins, plan.order, plan.groups, groups, lanes, True)
        return stop, groups

    return kernel(bands, rule.span.__module__)


@cache
def items_of(rule):
    """The kernel that fills `Items` and their `Plan`; as `bands_of`.

    ``apart`` is 2 for "max_corner", where the two pixels of an entry compete, each with its own
    weight, else 1.
    """
    span, entries, entry = rule.span, rule.entries, rule.entry
    cells = rule.argmax == "cell"

    @inline
    def fill(corners, images, start, bins, sizes, options, apart, table, windows):
        at = 0
        table.begin[0] = 0
        for k in range(min(len(images) - start, len(windows))):
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
                    if not cells:
                        stride = int(divisor) * apart
                    for e in range(first * apart, last * apart):
                        pixel, one, two = entry(box, p, e // apart, n, size, options[axis])
                        if apart == 2:
                            if e % 2 == 1:
                                pixel += 1
                                one = two
                            two *= 0
                        if one == 0:  # only the next pixel counts, or nothing does
                            pixel += 1
                            one, two = two, one
                        label = pixel if cells else e
                        if one == 0:
                            pixel, label = 0, -1
                        else:
                            window_begin = min(window_begin, pixel)
                            window_end = max(window_end, pixel + (2 if two != 0 else 1))
                        table.weight[at] = one
                        table.next_weight[at] = two
                        table.index[at] = pixel
                        table.label[at] = label
                        at += 1
                    bin_number += 1
                    table.begin[bin_number] = at
                table.stride[k] = stride
                windows[k, 2 * axis] = min(window_begin, window_end)
                windows[k, 2 * axis + 1] = window_end
        return start + min(len(images) - start, len(windows))

    def items(corners, images, start, bins, sizes, options, apart, table, plan, lanes):
        stop = fill(corners, images, start, bins, sizes, options, apart, table, plan.windows)
        groups = arrange(
            plan.windows, images, start, stop - start, plan.order, plan.groups, bins[0] * bins[1]
        )
        place(table.begin, table.index, bins, plan.order, plan.groups, groups, lanes, False)
        return stop, groups

    return kernel(items, rule.span.__module__)


def tabulate(rule, reduce, corners, images, start, bins, sizes, options, like):
    """Tabulate as many boxes from ``start`` on as fit a round: (stop, table, order, groups)."""
    lanes = LANE_BYTES // like.itemsize
    both = sum(bins)
    count = min(len(images) - start, max(1, ROUND_ENTRIES // both))
    capacity = min(ROUND_ENTRIES, 1024 + 8 * count * both)
    begin = np.empty(count * both + 1, np.int64)
    per_box = np.empty(count + 1, np.int64)
    plan = Plan(
        np.empty((count, 4), np.int64), np.empty(count, np.int64), np.empty((count, 8), np.int64)
    )
    stop = start
    while stop == start:
        index, weight = np.empty(capacity, np.int32), np.empty(capacity, like.dtype)
        if reduce == "mean":
            table = Bands(begin, index, weight, per_box, np.empty((capacity, 2), np.int32))
            stop, groups = bands_of(rule)(
                corners, images, start, bins, sizes, options, table, plan, lanes
            )
        else:
            next_weight, label = np.empty_like(weight), np.empty(capacity, np.int64)
            table = Items(begin, index, weight, next_weight, label, per_box)
            apart = 2 if reduce == "max_corner" else 1
            stop, groups = items_of(rule)(
                corners, images, start, bins, sizes, options, apart, table, plan, lanes
            )
        capacity *= 2
    return stop, table, plan.order, plan.groups[:groups]
