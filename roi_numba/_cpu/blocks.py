"""Between arrays in the caller's layout and scratch memory `[pixel][lane]`."""

from collections import namedtuple

from .compile import inline
from .lanes import gather_tile, load, read, scatter_tile, splat, store, write
from .streams import LARGE, stream, stream_lanes

Layout = namedtuple("Layout", "origin stride channels channel_stride height_stride width_stride")
Layout.__doc__ = """Where element (i, c, y, x) of a 4-D array lies in its flat memory.

``origin + i * stride + c * channel_stride + y * height_stride + x * width_stride``
"""


@inline
def pack(source, layout, image, channel, lanes, y0, y1, x0, x1, scratch):
    """Copy a region of `lanes` channels from `channel` on into scratch."""
    channels = min(lanes, layout.channels - channel)
    at = layout.origin + image * layout.stride + channel * layout.channel_stride
    zero = splat(scratch.dtype.type(0), scratch)
    position = 0
    if layout.channel_stride == 1 and channels == lanes:
        for y in range(y0, y1):
            index = at + y * layout.height_stride + x0 * layout.width_stride
            for _ in range(x0, x1):
                store(scratch, position, load(source, index, scratch))
                index += layout.width_stride
                position += lanes
        return
    for y in range(y0, y1):
        for x in range(x0, x1, lanes):
            index = at + y * layout.height_stride + x * layout.width_stride
            position = ((y - y0) * (x1 - x0) + x - x0) * lanes
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
def unpack(cells, target, layout, box, channel, lanes, height, width):
    """Copy the bins of one box out of scratch, the first half of ``cells``."""
    channels = min(lanes, layout.channels - channel)
    at = layout.origin + box * layout.stride + channel * layout.channel_stride
    if layout.width_stride == 1 and layout.height_stride == width:
        height, width = 1, height * width
    if layout.width_stride == 1 and channels == lanes and width >= lanes:
        if height == 1 and layout.channel_stride == width and target.size >= LARGE:
            half = width * lanes
            for x in range(0, width, lanes):
                x = min(x, width - lanes)
                scatter_tile(cells, x * lanes, cells, half + x, width)
            stream(cells, half, target, at, half)
            return
        for y in range(height):
            for x in range(0, width, lanes):
                x = min(x, width - lanes)  # the last tile overlaps the one before
                index = at + y * layout.height_stride + x
                scatter_tile(cells, (y * width + x) * lanes, target, index, layout.channel_stride)
        return
    for y in range(height):
        for x in range(width):
            position = (y * width + x) * lanes
            index = at + y * layout.height_stride + x * layout.width_stride
            if layout.channel_stride == 1 and channels == lanes:
                if target.size >= LARGE:
                    stream_lanes(target, index, load(cells, position, cells))
                else:
                    store(target, index, load(cells, position, cells))
            else:
                for c in range(channels):
                    write(target, index + c * layout.channel_stride, cells[position + c])
