"""How a bin's weights change as either end of its box moves, axis by axis.

Filled from the operator's rule like the tables of `tables`, whose numbers of bins these have.
"""

from collections import namedtuple
from functools import cache

from .compile import inline, kernel, named_after
from .plan import SCRATCH_PIXELS, arrange, list_runs, place

Rates = namedtuple("Rates", "begin weighed index weight by_low by_high number runs_begin runs")
Rates.__doc__ = """Entry i weighs pixel ``index[i]`` by ``weight[i]``, each pixel of a bin once.

The weight changes by ``by_low[i]`` and ``by_high[i]`` as the ends of the box move.  Entries of bin
b from ``begin[b]`` up to ``weighed[b]`` have a weight, those from there up to ``begin[b + 1]`` but
a rate.  Axis a of box k has runs ``runs_begin[2 * k + a]`` up to ``runs_begin[2 * k + a + 1]``,
`(first pixel, length)`, in which the pixel of entry i is number ``number[i]``.  A box too large for
scratch has no runs.
"""


@cache
def rates_of(rule):
    """The kernel that fills `Rates`; as `tables.bands_of`, but for three lines of ``sums``."""
    span, entries, entry, slope = rule.span, rule.entries, rule.entry, rule.slope

    @inline
    @named_after(rule.name)
    def gather(corners, images, start, bins, sizes, options, table, windows, sums, position):
        index = table.index
        at, bin_number, runs = 0, 0, 0
        table.begin[0] = 0
        table.runs_begin[0] = 0
        count = min(len(images) - start, len(windows) - 1)
        for k in range(count):
            axis_begin = at
            for axis in range(2):
                n, size, option = bins[axis], sizes[axis], options[axis]
                box = span(corners[start + k, 1 - axis], corners[start + k, 3 - axis], n, option)
                low, high = size, 0
                for p in range(n):
                    first, last, divisor = entries(box, p, n, size, option)
                    if images[start + k] < 0:
                        last = first
                    if at + min(4 * (last - first), size) > len(index):
                        return start + k
                    begin, end = size, 0
                    for e in range(first, last):
                        pixel, one, two = entry(box, p, e, n, size, option)
                        if one != 0:
                            sums[0, pixel] += one
                            begin, end = min(begin, pixel), max(end, pixel + 1)
                        if two != 0:
                            sums[0, pixel + 1] += two
                            begin, end = min(begin, pixel + 1), max(end, pixel + 2)
                        pixel, one, two, by_low, by_high = slope(box, p, e, n, size, option)
                        if one != 0:
                            sums[1, pixel] += one * by_low
                            sums[2, pixel] += one * by_high
                            begin, end = min(begin, pixel), max(end, pixel + 1)
                        if two != 0:
                            sums[1, pixel + 1] += two * by_low
                            sums[2, pixel + 1] += two * by_high
                            begin, end = min(begin, pixel + 1), max(end, pixel + 2)
                    for weighed in range(2):
                        for pixel in range(begin, end):
                            mean = sums[0, pixel] / divisor
                            if (mean != 0) == (weighed == 1):
                                continue
                            rate, other = sums[1, pixel] / divisor, sums[2, pixel] / divisor
                            if mean != 0 or rate != 0 or other != 0:
                                index[at] = pixel
                                table.weight[at] = mean
                                table.by_low[at] = rate
                                table.by_high[at] = other
                                at += 1
                                low, high = min(low, pixel), max(high, pixel + 1)
                        if weighed == 0:
                            table.weighed[bin_number] = at
                    for pixel in range(begin, end):
                        sums[0, pixel], sums[1, pixel], sums[2, pixel] = 0, 0, 0
                    bin_number += 1
                    table.begin[bin_number] = at
                windows[k, 2 * axis] = min(low, high)
                windows[k, 2 * axis + 1] = high
            y0, y1, x0, x1 = windows[k, 0], windows[k, 1], windows[k, 2], windows[k, 3]
            along_x = table.begin[bin_number - bins[1]]
            fits = (y1 - y0) * (x1 - x0) <= SCRATCH_PIXELS
            if fits:
                runs = list_runs(
                    index, axis_begin, along_x, y0, y1, position, table.runs, runs, table.number
                )
            table.runs_begin[2 * k + 1] = runs
            if fits:
                runs = list_runs(
                    index, along_x, at, x0, x1, position, table.runs, runs, table.number
                )
            table.runs_begin[2 * k + 2] = runs
        return start + count

    @kernel
    @named_after(rule.name)
    def rates(
        corners, images, start, bins, sizes, options, table, order, groups, windows, sums, position,
        lanes,
    ):  # fmt: skip
        stop = gather(corners, images, start, bins, sizes, options, table, windows, sums, position)
        n, cost, large = arrange(
            windows, images, start, stop - start, order, groups, bins[0] * bins[1]
        )
        place(table.begin, table.index, bins, order, groups, n, lanes)
        return stop, n, cost, large

    return rates
