"""Which boxes share scratch memory, and how much of it.

A group of boxes shares one region of the map, packed once for all of them.  No bit of a result
depends on the groups.
"""

from .compile import inline

SCRATCH_PIXELS = 8192
"""Largest region packed at once: 512 KiB, half of the smallest L2 cache in use."""

ROWS_PIXELS = 512
"""Reduced rows kept between the two passes, at least one: 32 KiB."""

FIRST, LAST, IMAGE, Y0, Y1, X0, X1, COST = range(8)
"""Columns of a group.

Its boxes are ``order[FIRST:LAST]``; its region is empty off the map; its cost counts operations on
64 bytes per block of channels, roughly."""

SPREAD_PIXELS = 1024
"""Largest region that boxes share with no more reason where blocks of channels are packed together:
four of them are 256 KiB; larger ones leave L2 (channels-last fpn-box, one thread, with a CROWD of
16: 51 -> 41 ms)."""

APART = 2
"""How many times as large as a region boxes' own windows must be for them to share it: what lies
between boxes is packed for nobody, and a box alone may not need to be packed (`narrow`).  Of once
and twice, twice takes 7 to 10 % fewer instructions for small calls of maxima, which are packed, and
c4-head-10 as long; of three and four times images of c4-head-batch are parted (19.8 -> 26.6 ms)."""

CROWD = 4
"""The same for regions of over SPREAD_PIXELS, where blocks are packed together: ten boxes that
are nearly the whole map must not pack it ten times (38x57, 1024 channels: 16 -> 2.4 ms)."""

WAIT_FIRST, WAIT_LAST = 4, 5
"""Columns of windows, after y0, y1, x0 and x1 of a box: a stack of boxes to be parted."""


@inline
def arrange(windows, images, start, n, order, groups, cells, together=1):
    """Order boxes into groups: fills the order and the groups.

    A group is one box, or boxes of one image whose common region is no larger than
    SCRATCH_PIXELS and wanted APART times; where blocks of channels are packed ``together``, one of
    over SPREAD_PIXELS must be wanted CROWD times.  Other boxes are parted by image, then by place.
    Groups that fit scratch come first, boxes that do not are the last ``large`` rows: returns the
    number of the first, what they cost, and ``large``.
    """
    spare = 15 if together == 1 else 0  # rows may be packed in tiles of 16 pixels
    for k in range(n):
        order[k] = k
    count, cost, large = 0, 0, 0
    windows[0, WAIT_FIRST] = 0
    windows[0, WAIT_LAST] = n
    top = 1 if n else 0
    while top:
        top -= 1
        first = windows[top, WAIT_FIRST]
        last = windows[top, WAIT_LAST]
        k = order[first]
        low_image = high_image = images[start + k]
        region_y0, region_y1, region_x0, region_x1 = 0, 0, 0, 0
        # Centres of windows, doubled.
        low_y = high_y = windows[k, 0] + windows[k, 1]
        low_x = high_x = windows[k, 2] + windows[k, 3]
        own = 0
        for i in range(first, last):
            k = order[i]
            y0, y1, x0, x1 = windows[k, 0], windows[k, 1], windows[k, 2], windows[k, 3]
            low_image = min(low_image, images[start + k])
            high_image = max(high_image, images[start + k])
            low_y, high_y = min(low_y, y0 + y1), max(high_y, y0 + y1)
            low_x, high_x = min(low_x, x0 + x1), max(high_x, x0 + x1)
            if y0 == y1 or x0 == x1:
                continue
            if own == 0:
                region_y0, region_y1, region_x0, region_x1 = y0, y1, x0, x1
            own += (y1 - y0) * (x1 - x0 + spare)
            region_y0, region_y1 = min(region_y0, y0), max(region_y1, y1)
            region_x0, region_x1 = min(region_x0, x0), max(region_x1, x1)
        area = (region_y1 - region_y0) * (region_x1 - region_x0)
        shared = low_image == high_image and APART * area <= own and area <= SCRATCH_PIXELS
        if together > 1 and area > SPREAD_PIXELS:
            shared = shared and CROWD * area <= own
        if shared or last - first == 1:
            if area <= SCRATCH_PIXELS:
                group = count
                count += 1
                cost += area + own + 4 * (last - first) * cells
            else:
                large += 1
                group = len(groups) - large
            groups[group, FIRST] = first
            groups[group, LAST] = last
            groups[group, IMAGE] = low_image
            groups[group, Y0] = region_y0
            groups[group, Y1] = region_y1
            groups[group, X0] = region_x0
            groups[group, X1] = region_x1
            groups[group, COST] = area + own + 4 * (last - first) * cells
            continue
        by_y = high_y - low_y >= high_x - low_x
        pivot = (low_y + high_y) // 2 if by_y else (low_x + high_x) // 2
        middle, right = first, last
        while middle < right:
            k = order[middle]
            if low_image < high_image:
                before = images[start + k] <= (low_image + high_image) // 2
            elif by_y:
                before = windows[k, 0] + windows[k, 1] <= pivot
            else:
                before = windows[k, 2] + windows[k, 3] <= pivot
            if before:
                middle += 1
            else:
                right -= 1
                order[middle] = order[right]
                order[right] = k
        if middle == last:  # all at one place and too large to share: one by one
            middle = first + 1
        windows[top, WAIT_FIRST] = middle
        windows[top, WAIT_LAST] = last
        windows[top + 1, WAIT_FIRST] = first
        windows[top + 1, WAIT_LAST] = middle
        top += 2
    return count, cost, large


@inline
def place(begin, index, bins, order, groups, count, lanes):
    """Turn the pixels of a table into offsets in scratch, where the group's region lies.

    Boxes too large for scratch keep their pixels.
    """
    for group in range(count):
        pitch = (groups[group, X1] - groups[group, X0]) * lanes
        x0 = groups[group, X0]
        for i in range(groups[group, FIRST], groups[group, LAST]):
            bin_y = order[i] * (bins[0] + bins[1])
            bin_x = bin_y + bins[0]
            for e in range(begin[bin_y], begin[bin_x]):
                index[e] = (index[e] - groups[group, Y0]) * pitch
            for e in range(begin[bin_x], begin[bin_x + bins[1]]):
                index[e] = (index[e] - x0) * lanes


FEW_GROUPS = 16
"""So few groups, of no more than `FEW_PIXELS` together, share too little of a map for its planes to
be kept for them.  With 48 nothing was clearly faster or slower; fpn-box, a thousand boxes, takes 25
ms so, not 20."""

FEW_PIXELS = 2048
"""Boxes that are the whole map, in few groups, took 130 ms, not 75, without this bound."""


@inline
def by_group(groups, layout):
    """Whether all channels of a group come before the next group's.

    They do where they lie next to each other (channels-last fpn-box, one thread: 55 -> 42 ms of
    CPU, before blocks went together), and where groups are few and small: a narrow box is then
    pooled several blocks at a time.
    """
    if layout.channel_stride == 1:
        return True
    if len(groups) > FEW_GROUPS:
        return False
    pixels = 0
    for group in range(len(groups)):
        height = groups[group, Y1] - groups[group, Y0]
        pixels += height * (groups[group, X1] - groups[group, X0])
    return pixels <= FEW_PIXELS


@inline
def item_at(number, groups, layout, channels):
    """Group and first channel of a work item, which has so many channels.

    Unless they go `by_group` all groups of a block of channels come before the next block: its
    planes stay in cache, where neighbouring boxes find what they share.
    """
    if by_group(groups, layout):
        items = (layout.channels + channels - 1) // channels
        return number // items, number % items * channels
    return number % len(groups), number // len(groups) * channels


MAX_GAP = 8
"""Unread pixels that end a run: fewer cost less than starting another."""


@inline
def list_runs(index, first, last, low, high, position, runs, count, number):
    """List the runs of pixels that entries from ``first`` up to ``last`` read: (pixel, length).

    ``runs`` holds ``count`` already, of other boxes.  Entry i reads pixel ``index[i]``, from low
    up to, not including, high; ``number[i]``, which may be ``index[i]``, counts within the runs.
    ``position`` is all zeros.  Returns how many runs there are now.
    """
    for i in range(first, last):
        position[index[i]] = 1
    pixels, previous = 0, low - 1 - MAX_GAP
    for pixel in range(low, high):
        if position[pixel] == 0:
            continue
        gap = pixel - previous - 1
        if gap >= MAX_GAP:
            runs[count, 0] = pixel
            runs[count, 1] = 0
            count += 1
            gap = 0
        pixels += gap
        position[pixel] = pixels
        pixels += 1
        runs[count - 1, 1] += gap + 1
        previous = pixel
    for i in range(first, last):
        number[i] = position[index[i]]
    for pixel in range(low, high):
        position[pixel] = 0
    return count


CHUNK = 64
"""Rows and columns of the chunks in which a region too large for scratch is read."""

CHUNK_GAP = 8
"""Unread rows or columns that end a chunk."""


@inline
def scratch_pixels(groups):
    """Scratch for any of the groups, which fit."""
    pixels = 0
    for group in range(len(groups)):
        height = groups[group, Y1] - groups[group, Y0]
        pixels = max(pixels, height * (groups[group, X1] - groups[group, X0]))
    return pixels


@inline
def next_chunk(index, weight, first, last, reach, size):
    """Entries from ``first`` on that lie close together: (end, low, high).

    Each reads ``reach`` pixels from its index on, unless its weight is zero; without ``weight``
    all do.  Together they span the pixels from low up to, not including, high.
    """
    low, high = size, 0
    end = first
    while end < last:
        if weight is None or weight[end] != 0:
            begin, stop = index[end], min(index[end] + reach, size)
            if low < high:
                apart = begin > high + CHUNK_GAP or stop < low - CHUNK_GAP
                if apart or max(high, stop) - min(low, begin) > CHUNK:
                    break
            low, high = min(low, begin), max(high, stop)
        end += 1
    return end, min(low, high), high
