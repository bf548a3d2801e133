"""From arrays in the caller's layout into scratch memory, `[pixel][lane]`; back: `unpack`."""

from collections import namedtuple

from .compile import inline, inline_here
from .lanes import gather_tile, load, prefetch, read, splat, store
from .plan import IMAGE, X0, X1, Y0, Y1, item_at
from .streams import short_of_line

Layout = namedtuple("Layout", "origin stride channels channel_stride height_stride width_stride")
Layout.__doc__ = """Where element (i, c, y, x) of a 4-D array lies in its flat memory.

``origin + i * stride + c * channel_stride + y * height_stride + x * width_stride``
"""


@inline
def start_of(layout, number, channel):
    """Where a channel of a map or box begins."""
    return layout.origin + number * layout.stride + channel * layout.channel_stride


@inline
def complete_blocks(layout, channel, lanes, blocks):
    """How many of so many blocks from `channel` on lie next to each other and lack no channel."""
    if layout.channel_stride != 1:
        return 0
    return min(blocks, (layout.channels - channel) // lanes)


@inline
def pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch, blocks=1, plane=0):
    """Copy a region of `lanes` channels from `channel` on into scratch.

    More `blocks`, if channels lie next to each other, follow ``plane`` elements apart; the last may
    have fewer channels.
    """
    at = start_of(layout, image, channel)
    complete = complete_blocks(layout, channel, lanes, blocks)
    if complete:
        position = 0
        for y in range(y0, y1):
            index = at + y * layout.height_stride + x0 * layout.width_stride
            if complete == 1:  # the other loop is a third slower there
                for _ in range(x0, x1):
                    store(scratch, position, load(source, index, scratch))
                    index += layout.width_stride
                    position += lanes
                continue
            for _ in range(x0, x1):
                for block in range(complete):
                    line = load(source, index + block * lanes, scratch)
                    store(scratch, position + block * plane, line)
                index += layout.width_stride
                position += lanes
    if complete == blocks:
        return
    at += complete * lanes
    channel += complete * lanes
    start = complete * plane
    channels = min(lanes, layout.channels - channel)
    zero = splat(scratch.dtype.type(0), scratch)
    for y in range(y0, y1):
        for x in range(x0, x1, lanes):
            index = at + y * layout.height_stride + x * layout.width_stride
            position = start + ((y - y0) * (x1 - x0) + x - x0) * lanes
            # A tile may read past the region and write past its row of scratch, as long as
            # there is memory: the next row, or the spare tile at the end, takes the overflow.
            # Strides may be negative, so the run that ends last may be the first.
            last = max(index, index + (channels - 1) * layout.channel_stride)
            if layout.width_stride == 1 and last + lanes <= source.size:
                gather_tile(source, index, layout.channel_stride, channels, scratch, position)
                continue
            for _ in range(min(lanes, x1 - x)):
                store(scratch, position, zero)
                for c in range(channels):
                    value = read(source, index + c * layout.channel_stride, scratch)
                    scratch[position + c] = value
                index += layout.width_stride
                position += lanes


@inline
def expect(source, layout, image, channel, lanes, y0, y1, x0, x1, blocks=1):
    """Ask for a region that is packed soon, if channels lie next to each other.

    Its pixels are lines far apart, which the CPU does not foresee (a map of 17 MB, 1024 channels:
    packed in 2.4 ms, not 4.5).
    """
    if layout.channel_stride == 1 and channel < layout.channels:
        at = start_of(layout, image, channel)
        for y in range(y0, y1):
            for block in range(blocks):
                index = at + y * layout.height_stride + x0 * layout.width_stride + block * lanes
                for _ in range(x0, x1):
                    prefetch(source, index)
                    prefetch(source, index + lanes - 1)  # on the next line, unless both are one
                    index += layout.width_stride


FAR = 1 << 20
"""Bytes of a gradient that may not be in a cache near by: asking for less only costs time."""

Lines = namedtuple("Lines", "pieces step length")
Lines.__doc__ = """Where a box's gradient lies: in pieces a step apart, each of so many lines."""


@inline
def lines_of(grad, layout, shape, lanes, blocks):
    """What `expect_pieces` asks for: of so many blocks where channels lie side by side, or one.

    Bins that are no single row, as `gradients._flat_bins` makes of nearly all, are not asked for.
    """
    rows, bins = shape
    if rows == 1 and grad.size * grad.itemsize >= FAR:
        if layout.channel_stride == 1:
            spread = 1 if short_of_line(grad, layout.origin) else 0
            return Lines(bins, layout.width_stride, blocks + spread)
        if layout.width_stride == 1 and layout.channel_stride == bins:
            return Lines(bins, lanes, 1)
    return Lines(0, 0, 0)


@inline_here
def expect_pieces(grad, at, lines, first, last, lanes):
    """Ask for pieces of a box's gradient, ``grad[at:]``, while another box is worked on.

    No CPU foresees where it begins (c4-head, one thread: `roi_align`'s gradient to the map 15.0 ->
    11.3 ms, to the boxes 18.9 -> 14.9).  Some at a time, because a CPU that is asked for many lines
    at once stops (channels last, all for four blocks at once: 14.1 ms, an eighth each time 11.7).
    """
    at += first * lines.step
    for _ in range(first, min(last, lines.pieces)):
        for line in range(lines.length):
            prefetch(grad, at + line * lanes)
        at += lines.step


@inline
def blocks_from(layout, channel, lanes, together):
    """How many blocks there are from `channel` on, of those that go together."""
    return min(together, (layout.channels - channel + lanes - 1) // lanes)


@inline
def expect_item(number, last, groups, source, layout, lanes, together):
    """Ask for the region of a work item, if there is one before ``last``."""
    if number < last:
        group, channel = item_at(number, groups, layout, together * lanes)
        expect(
            source, layout, groups[group, IMAGE], channel, lanes, groups[group, Y0],
            groups[group, Y1], groups[group, X0], groups[group, X1],
            blocks_from(layout, channel, lanes, together),
        )  # fmt: skip


@inline
def pack_item(number, last, groups, source, layout, lanes, together, scratch, plane):
    """Pack the region of a work item and ask for the next one's, if that is before ``last``.

    An item has ``together`` blocks of channels, or those there are.  Returns its group, its first
    channel and how many blocks it has.
    """
    group, channel = item_at(number, groups, layout, together * lanes)
    blocks = blocks_from(layout, channel, lanes, together)
    pack(
        source, layout, groups[group, IMAGE], channel, lanes, groups[group, Y0], groups[group, Y1],
        groups[group, X0], groups[group, X1], scratch, blocks, plane,
    )  # fmt: skip
    expect_item(number + 1, last, groups, source, layout, lanes, together)
    return group, channel, blocks
