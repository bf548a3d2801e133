"""From scratch memory `[bin][lane]` to arrays in the caller's layout.

A CPU buffers a few lines on their way to memory and stalls on more, and a box has dozens.  So those
of a large result, channels first, wait in scratch and go row by row while the next box is pooled
(c4-head, one thread, into an `out`: 15.6 -> 11.5 ms, `roi_pool` 14.7 -> 11.9, fpn-box 30.5 ->
26.6).  Channels last, lines far apart, gained nothing by it: they are written at once.
"""

from collections import namedtuple

from .blocks import complete_blocks, start_of
from .compile import inline, inline_here
from .lanes import load, scatter_tile, store, write
from .streams import STREAMED, short_of_line, stream, stream_lanes

FEW = 4
"""Bins beyond whole tiles that are copied one by one: of 7x7 one, and a tile costs as much as 8."""

TURNED = 4096
"""Bins that are transposed in scratch at most: 256 KiB."""

Waiting = namedtuple("Waiting", "index at done count")
Waiting.__doc__ = """Elements for a target, from ``index`` on: ``done`` of ``count`` are there.

They begin with ``cells[at]``, and nothing else is put there until they are gone: a box is pooled
into as many cells before them, or, if it is narrow, into as many after them or before.  Only bins
of a single block of channels wait.
"""


@inline
def cells_for(bins):
    """How many cells are wanted for so many bins.

    Three times as many: those of a box, those that wait, and those of `narrow` that wait next.
    """
    return 3 * bins if bins <= TURNED else bins


@inline
def _turn(cells, first, bins, target, at, stride, lanes):
    """Transpose bins, ``cells[first:]``: lane c of bin b to ``target[at + c * stride + b]``."""
    for b in range(0, bins - FEW, lanes):
        b = min(b, bins - lanes)  # the last tile overlaps the one before
        scatter_tile(cells, first + b * lanes, target, at + b, stride)
    for b in range((bins - FEW + lanes - 1) // lanes * lanes, bins):
        for c in range(lanes):
            write(target, at + c * stride + b, cells[first + b * lanes + c])


@inline
def waits(cells, target, layout, channels, bins, lanes):
    """Whether the bins of a box and of so many channels wait in scratch: see `Waiting`."""
    count = bins[0] * bins[1]
    one_run = layout.width_stride == 1 and layout.height_stride == bins[1]
    return (
        one_run
        and layout.channel_stride == count
        and channels == lanes <= count
        and target.size >= STREAMED
        and cells.size >= 2 * count * lanes
    )


@inline
def hold(cells, target, layout, box, channel, lanes, height, width, blocks=1):
    """Copy the bins of one box out of scratch, where they begin; return what waits to be copied.

    Bins wait only where ``cells`` have room for them twice.  Those of further `blocks`, if channels
    lie next to each other, follow in ``cells``; the last may have fewer channels.
    """
    at = start_of(layout, box, channel)
    complete = complete_blocks(layout, channel, lanes, blocks)
    plane = height * width * lanes
    large = target.size >= STREAMED
    waiting = Waiting(0, 0, 0, 0)
    if complete:
        for y in range(height):
            for block in range(complete):
                index = at + y * layout.height_stride + block * lanes
                position = y * width * lanes + block * plane
                for _ in range(width):
                    if large:
                        stream_lanes(target, index, load(cells, position, cells))
                    else:
                        store(target, index, load(cells, position, cells))
                    index += layout.width_stride
                    position += lanes
    if complete == blocks:
        return waiting
    at += complete * lanes
    channel += complete * lanes
    position = complete * plane
    channels = min(lanes, layout.channels - channel)
    if waits(cells, target, layout, channels, (height, width), lanes):  # never after complete ones
        _turn(cells, 0, height * width, cells, plane, height * width, lanes)
        return Waiting(at, plane, 0, plane)
    if layout.width_stride == 1 and layout.height_stride == width:
        height, width = 1, height * width
    if layout.width_stride == 1 and channels == lanes and width >= lanes:
        for y in range(height):
            row = position + y * width * lanes
            index = at + y * layout.height_stride
            _turn(cells, row, width, target, index, layout.channel_stride, lanes)
        return waiting
    for y in range(height):
        index = at + y * layout.height_stride
        for _ in range(width):
            for c in range(channels):
                write(target, index + c * layout.channel_stride, cells[position + c])
            index += layout.width_stride
            position += lanes
    return waiting


@inline_here
def go_on(cells, target, waiting, elements):
    """Write so many elements, and up to where a line begins; return what waits then."""
    index, at, done, count = waiting
    end = min(count, done + elements)
    end = min(count, end + short_of_line(target, index + end))
    stream(cells, at + done, target, index + done, end - done)
    return Waiting(index, at, end, count)


@inline
def unpack(cells, target, layout, box, channel, lanes, height, width, blocks=1):
    """Copy the bins of one box and its blocks out of scratch, all at once; see `hold`."""
    waiting = hold(cells, target, layout, box, channel, lanes, height, width, blocks)
    go_on(cells, target, waiting, waiting.count)
