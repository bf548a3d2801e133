"""Which boxes share scratch memory, and how much of it.

A group of boxes shares one region of the map, packed once for all of them.  Groups depend on the
boxes and on constants alone, never on the number of threads.
"""

import numpy as np

from .compile import inline

SCRATCH_PIXELS = 8192
"""Largest region packed at once: 512 KiB, half of the smallest L2 cache in use."""

FIRST, LAST, IMAGE, Y0, Y1, X0, X1, COST = range(8)
"""Columns of a group.

Its boxes are ``order[FIRST:LAST]``; its region is empty off the map; its cost counts operations on
64 bytes per block of channels, roughly."""


@inline
def arrange(windows, images, start, n, order, groups, cells):
    """Order boxes into groups: fills the order and the groups, returns their number.

    A group is one box, or boxes of one image whose common region is no larger than
    SCRATCH_PIXELS nor than their own windows together; other boxes are parted by image, then by
    place.
    """
    # What to part by: image, then the centre of the window, doubled.
    keys = np.empty((n, 3), np.int64)
    for k in range(n):
        order[k] = k
        keys[k, 0] = images[start + k]
        keys[k, 1] = windows[k, 0] + windows[k, 1]
        keys[k, 2] = windows[k, 2] + windows[k, 3]
    count = 0
    waiting = np.empty((n + 1, 2), np.int64)
    waiting[0, 0] = 0
    waiting[0, 1] = n
    top = 1 if n else 0
    while top:
        top -= 1
        first = waiting[top, 0]
        last = waiting[top, 1]
        region_y0, region_y1, region_x0, region_x1 = 0, 0, 0, 0
        own = 0
        for i in range(first, last):
            k = order[i]
            y0, y1, x0, x1 = windows[k, 0], windows[k, 1], windows[k, 2], windows[k, 3]
            if y0 == y1 or x0 == x1:
                continue
            if own == 0:
                region_y0, region_y1, region_x0, region_x1 = y0, y1, x0, x1
            own += (y1 - y0) * (x1 - x0 + 15)  # rows are packed in tiles of 16 pixels
            region_y0, region_y1 = min(region_y0, y0), max(region_y1, y1)
            region_x0, region_x1 = min(region_x0, x0), max(region_x1, x1)
        area = (region_y1 - region_y0) * (region_x1 - region_x0)
        part_by, extent, pivot = 0, 0, 0
        for key in range(3):
            low = high = keys[order[first], key]
            for i in range(first, last):
                low = min(low, keys[order[i], key])
                high = max(high, keys[order[i], key])
            if high - low > extent and not (key > 0 and part_by == 0 and extent > 0):
                part_by, extent, pivot = key, high - low, (low + high) // 2
        one_image = part_by > 0 or extent == 0
        if last - first == 1 or (one_image and area <= min(own, SCRATCH_PIXELS)):
            groups[count, FIRST] = first
            groups[count, LAST] = last
            groups[count, IMAGE] = keys[order[first], 0]
            groups[count, Y0] = region_y0
            groups[count, Y1] = region_y1
            groups[count, X0] = region_x0
            groups[count, X1] = region_x1
            groups[count, COST] = area + own + 4 * (last - first) * cells
            count += 1
            continue
        middle, right = first, last
        while middle < right:
            k = order[middle]
            if keys[k, part_by] <= pivot:
                middle += 1
            else:
                right -= 1
                order[middle] = order[right]
                order[right] = k
        if middle == last:  # all at one place and too large to share: one by one
            middle = first + 1
        waiting[top, 0] = middle
        waiting[top, 1] = last
        waiting[top + 1, 0] = first
        waiting[top + 1, 1] = middle
        top += 2
    return count


@inline
def fits(groups, group):
    """Whether the region of a group is packed as a whole."""
    height = groups[group, Y1] - groups[group, Y0]
    return height * (groups[group, X1] - groups[group, X0]) <= SCRATCH_PIXELS


@inline
def place(begin, index, bins, order, groups, count, lanes, by_column):
    """Turn the pixels of a table into offsets in scratch, where the group's region lies.

    ``by_column``: on the x axis the table already counts within the columns a box uses.  Groups
    that do not fit in scratch keep their pixels.
    """
    for group in range(count):
        if not fits(groups, group):
            continue
        pitch = (groups[group, X1] - groups[group, X0]) * lanes
        x0 = 0 if by_column else groups[group, X0]
        for i in range(groups[group, FIRST], groups[group, LAST]):
            bin_y = order[i] * (bins[0] + bins[1])
            bin_x = bin_y + bins[0]
            for e in range(begin[bin_y], begin[bin_x]):
                index[e] = (index[e] - groups[group, Y0]) * pitch
            for e in range(begin[bin_x], begin[bin_x + bins[1]]):
                index[e] = (index[e] - x0) * lanes


CHUNK = 64
"""Rows and columns of the chunks in which a region too large for scratch is read."""

CHUNK_GAP = 8
"""Unread rows or columns that end a chunk."""


@inline
def scratch_pixels(groups, first, last):
    """Scratch for the groups from ``first`` up to ``last``."""
    pixels = 0
    for group in range(first, last):
        height = groups[group, Y1] - groups[group, Y0]
        area = height * (groups[group, X1] - groups[group, X0])
        pixels = max(pixels, area if fits(groups, group) else CHUNK * CHUNK)
    return pixels


@inline
def next_chunk(index, weight, first, last, reach, size):
    """Entries from ``first`` on that lie close together: (end, low, high).

    Each reads ``reach`` pixels from its index on, unless its weight is zero; together they span
    the pixels from low up to, not including, high.
    """
    low, high = size, 0
    end = first
    while end < last:
        if weight[end] != 0:
            begin, stop = index[end], min(index[end] + reach, size)
            if low < high:
                apart = begin > high + CHUNK_GAP or stop < low - CHUNK_GAP
                if apart or max(high, stop) - min(low, begin) > CHUNK:
                    break
            low, high = min(low, begin), max(high, stop)
        end += 1
    return end, min(low, high), high
