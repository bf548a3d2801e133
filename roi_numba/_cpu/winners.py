"""The gradients of maxima: each bin's goes to its winner, and to the box through the winner."""

import numpy as np

from .._scalar import at_rate
from .blocks import Layout, start_of
from .compile import inline, inline_owner, kernel
from .lanes import item, load, prefetch_near, read, splat, store, write
from .scratch import take
from .streams import fence
from .unpack import unpack
from .vectors import LANE_BYTES

SUMMED_PIXELS = 1 << 15
"""Largest map whose sums a thread has in scratch memory: 2 MiB for a line of channels."""


AHEAD = 3
"""Bins from what is read to what is asked for where channels lie side by side; elsewhere it is a
box (c4-head, channels-last, two threads: a box 14.1 ms, 3 bins 12.6, 8 12.8).  Into L1 one thread
takes 18.2 ms, into L2 21.5, and of 1 to 4 bins none is clearly better."""


@inline
def _add(target, at, value, like):
    write(target, at, read(target, at, like) + value)


@inline
def _steps(layout, by_bin):
    """From element to element of the inner loop, and of the outer one."""
    if by_bin:
        return layout.channel_stride, layout.width_stride
    return layout.width_stride, layout.channel_stride


@inline
def _first_names(label, begin, first_bin, called):
    """For every bin of a box, what its entries are called less their numbers.

    They are called by consecutive numbers, except where they weigh nothing.
    """
    for b in range(len(called)):
        e, last = item(begin, first_bin + b), item(begin, first_bin + b + 1)
        while e < last and item(label, e) < 0:
            e += 1
        called[b] = item(label, e) - e if e < last else 0


@inline_owner
def _summed_in(sums, target, layout, source, source_layout, sizes, parts, lanes, memory):
    """Where winners lie, and its layout: ``sums``, scratch memory for ``target``, or ``source``.

    Scratch has so many parts of ``lanes`` channels, each ``[pixel][lane]``.
    """
    if target is None:
        # Arrays of two formats in one name do not compile, and only what is None is pruned.
        place = source if sums is None else sums
        layout = source_layout if sums is None else layout
    else:
        place, _ = take(memory, (parts * sizes[0] * sizes[1] + lanes) * lanes)
        layout = Layout(0, 0, layout.channels, 1, sizes[1] * lanes, lanes)
    return place, layout


@inline
def _clear(scratch, pixels, lanes):
    zero = splat(scratch.dtype.type(0), scratch)
    for pixel in range(pixels):
        store(scratch, pixel * lanes, zero)


@inline
def _write_sums(scratch, target, layout, image, channel, parts, lanes, sizes):
    size = sizes[0] * sizes[1] * lanes
    # From the last on: they may be transposed to where those after them were.
    for part in range(parts - 1, -1, -1):
        first = channel + part * lanes
        if first < layout.channels:
            some = scratch[part * size :]
            unpack(some, target, layout, image, first, lanes, sizes[0], sizes[1])


@inline
def _decode(source, index, step, count, lanes, values):
    """Copy elements; 16-bit floats are decoded by lines (c4-head, float16: 40 -> 30 ms of CPU)."""
    if step == 1 and count >= lanes:
        for i in range(0, count, lanes):
            i = min(i, count - lanes)  # the last line overlaps the one before
            store(values, i, load(source, index + i, values))
    else:
        for i in range(count):
            values[i] = read(source, index + i * step, values)


@kernel
def at_cells(
    source, source_layout, sums, target, target_layout, parts, names, names_layout, grad,
    grad_layout, pooled, pooled_layout, sizes, bins, order, first_box, first_item, last_item,
    memory,
):  # fmt: skip
    """Go through the pixels that won, for items (image, block of channels) from first to last.

    The bins' gradients are added to the map ``sums``, which holds zeros, or in scratch memory that
    goes to the map ``target``; or ``pooled`` takes the pixels' values in ``source``.  Two of the
    three are None.  A block has so many ``parts`` of one line of channels: one, unless those of
    ``names`` lie side by side.  The boxes of image i are ``order[first_box[i]:first_box[i + 1]]``.
    Returns a box whose winner is no pixel of the map, or -1.
    """
    lanes = LANE_BYTES // memory.itemsize
    block = parts * lanes
    pixels, width = sizes[0] * sizes[1], sizes[1]
    place, layout = _summed_in(
        sums, target, target_layout, source, source_layout, sizes, parts, lanes, memory
    )
    step, row_step = layout.width_stride, layout.height_stride
    blocks = (layout.channels + block - 1) // block
    # Innermost is what lies side by side: the bins of a channel, or the channels of a bin.
    by_bin = names_layout.channel_stride == 1
    name_step, name_jump = _steps(names_layout, by_bin)
    grad_step, grad_jump = _steps(grad_layout, by_bin)
    pooled_step, pooled_jump = _steps(pooled_layout, by_bin)
    plane_step, plane_jump = (layout.channel_stride, 0) if by_bin else (0, layout.channel_stride)
    values = np.empty(max(bins[1], block), memory.dtype)
    for number in range(first_item, last_item):
        image, channel = number // blocks, number % blocks * block
        channels = min(block, layout.channels - channel)
        run = channels if by_bin else bins[1]
        part = run  # of which what is added to lies side by side
        if by_bin and target is not None:
            part = min(run, lanes)
        first_plane = start_of(layout, image, channel)
        if target is not None:
            first_plane = 0
            _clear(place, parts * pixels, lanes)
        for i in range(first_box[image], first_box[image + 1]):
            box = order[i]
            if by_bin:  # boxes follow each other in memory, nearly always
                name_ahead, grad_ahead = AHEAD * name_jump, AHEAD * grad_jump
            else:
                ahead = order[min(i + 1, first_box[image + 1] - 1)] - box
                name_ahead, grad_ahead = ahead * names_layout.stride, ahead * grad_layout.stride
            for p in range(bins[0]):
                name_line = start_of(names_layout, box, channel) + p * names_layout.height_stride
                grad_line = start_of(grad_layout, box, channel) + p * grad_layout.height_stride
                pooled_line = (
                    start_of(pooled_layout, box, channel) + p * pooled_layout.height_stride
                )
                plane_line = first_plane
                for _ in range(bins[1] if by_bin else channels):
                    # What comes is elsewhere in memory, where no CPU looks for it by itself.
                    for cell in range(0, run, 8):
                        prefetch_near(names, name_line + name_ahead + cell * name_step)
                    at_name, at_value, at_pooled = name_line, 0, pooled_line
                    if pooled is None:
                        for cell in range(0, run, 16):
                            prefetch_near(grad, grad_line + grad_ahead + cell * grad_step)
                        _decode(grad, grad_line, grad_step, run, lanes, values)
                    for first in range(0, run, part):
                        plane = plane_line + first * pixels
                        for _ in range(first, min(first + part, run)):
                            name = item(names, at_name)
                            if name < 0 or name >= pixels:
                                if name != -1:
                                    return box
                            elif pooled is None:  # rows follow each other, as we made the place
                                _add(place, plane + name * step, item(values, at_value), memory)
                            else:
                                at = plane + name // width * row_step + name % width * step
                                write(pooled, at_pooled, read(place, at, memory))
                            at_name += name_step
                            at_value += 1
                            at_pooled += pooled_step
                            plane += plane_step
                    name_line += name_jump
                    grad_line += grad_jump
                    pooled_line += pooled_jump
                    plane_line += plane_jump
        if target is not None:
            _write_sums(place, target, target_layout, image, channel, parts, lanes, sizes)
    fence()
    return -1


@inline
def _times(weight, array, at, like):
    """``weight * array[at]``, which is not looked at if it weighs nothing."""
    if weight == 0:
        return like.dtype.type(0)
    return weight * read(array, at, like)


@inline
def _add_times(target, at, weight, g, like):
    if weight != 0:
        write(target, at, read(target, at, like) + weight * g)


@kernel
def at_samples(
    source, source_layout, sums, target, target_layout, names, names_layout, grad, grad_layout,
    pooled, pooled_layout, start, sizes, bins, table, motion, products, order, first_box,
    first_item, last_item, memory,
):  # fmt: skip
    """The same where samples won; or ``products[block, box]`` takes the gradient to the box.

    Box k of the table, which is `Steep`, is box ``start + k`` elsewhere.  Unless ``motion`` is
    None, a sample's weights are rates of change, as the corners of box k move by ``motion[k]``.
    """
    # Out of the loops, which would count references to the arrays at every step.
    begin, index, label, strides = table.begin, table.index, table.label, table.stride
    weight, next_weight = table.weight, table.next_weight
    change, next_change = table.change, table.next_change
    by_low, by_high = table.by_low, table.by_high
    lanes = LANE_BYTES // memory.itemsize
    place, layout = _summed_in(
        sums, target, target_layout, source, source_layout, sizes, 1, lanes, memory
    )
    down, right = layout.height_stride, layout.width_stride
    channels = names_layout.channels
    blocks = (channels + lanes - 1) // lanes
    called = np.empty(bins[0] + bins[1], np.int64)
    for number in range(first_item, last_item):
        image, block = number // blocks, number % blocks
        channel = block * lanes
        first_plane = start_of(layout, image, channel)
        if target is not None:
            first_plane = 0
            _clear(place, sizes[0] * sizes[1], lanes)
        for i in range(first_box[image], first_box[image + 1]):
            k = order[i]
            box, stride = start + k, max(strides[k], 1)
            bin_y = k * (bins[0] + bins[1])
            bin_x = bin_y + bins[0]
            _first_names(label, begin, bin_y, called)
            x1, y1, x2, y2 = 0.0, 0.0, 0.0, 0.0
            for c in range(min(lanes, channels - channel)):
                name_line = start_of(names_layout, box, channel + c)
                grad_line = start_of(grad_layout, box, channel + c)
                pooled_line = start_of(pooled_layout, box, channel + c)
                plane = first_plane + c * layout.channel_stride
                p, q = 0, -1
                for _ in range(bins[0] * bins[1]):
                    q += 1
                    if q == bins[1]:
                        p, q = p + 1, 0
                    at = name_line + p * names_layout.height_stride + q * names_layout.width_stride
                    name = item(names, at)
                    if name == -1:
                        continue
                    if name < 0:
                        return box
                    name_y = name // stride
                    name_x = name - name_y * stride
                    y, x = name_y - item(called, p), name_x - item(called, bins[0] + q)
                    if y < item(begin, bin_y + p) or y >= item(begin, bin_y + p + 1):
                        return box
                    if x < item(begin, bin_x + q) or x >= item(begin, bin_x + q + 1):
                        return box
                    if item(label, y) != name_y or item(label, x) != name_x:
                        return box
                    u0, u1 = item(weight, y), item(next_weight, y)
                    v0, v1 = item(weight, x), item(next_weight, x)
                    d0, d1 = item(change, y), item(next_change, y)
                    e0, e1 = item(change, x), item(next_change, x)
                    at = plane + item(index, y) * down + item(index, x) * right
                    if pooled is None:
                        at_grad = grad_line + p * grad_layout.height_stride
                        g = read(grad, at_grad + q * grad_layout.width_stride, memory)
                    if products is not None:
                        rise_y = _times(d0 * v0, place, at, memory)
                        rise_y += _times(d0 * v1, place, at + right, memory)
                        rise_y += _times(d1 * v0, place, at + down, memory)
                        rise_y += _times(d1 * v1, place, at + down + right, memory)
                        rise_x = _times(u0 * e0, place, at, memory)
                        rise_x += _times(u0 * e1, place, at + right, memory)
                        rise_x += _times(u1 * e0, place, at + down, memory)
                        rise_x += _times(u1 * e1, place, at + down + right, memory)
                        if by_low[y] != 0:
                            y1 += g * rise_y * by_low[y]
                        if by_high[y] != 0:
                            y2 += g * rise_y * by_high[y]
                        if by_low[x] != 0:
                            x1 += g * rise_x * by_low[x]
                        if by_high[x] != 0:
                            x2 += g * rise_x * by_high[x]
                        continue
                    w00, w01, w10, w11 = u0 * v0, u0 * v1, u1 * v0, u1 * v1
                    if motion is not None:
                        rate_y = by_low[y] * motion[box, 1] + by_high[y] * motion[box, 3]
                        rate_x = by_low[x] * motion[box, 0] + by_high[x] * motion[box, 2]
                        w00 = at_rate(d0 * v0, rate_y) + at_rate(u0 * e0, rate_x)
                        w01 = at_rate(d0 * v1, rate_y) + at_rate(u0 * e1, rate_x)
                        w10 = at_rate(d1 * v0, rate_y) + at_rate(u1 * e0, rate_x)
                        w11 = at_rate(d1 * v1, rate_y) + at_rate(u1 * e1, rate_x)
                    if pooled is None:
                        _add_times(place, at, w00, g, memory)
                        _add_times(place, at + right, w01, g, memory)
                        _add_times(place, at + down, w10, g, memory)
                        _add_times(place, at + down + right, w11, g, memory)
                    else:
                        value = _times(w00, place, at, memory)
                        value += _times(w01, place, at + right, memory)
                        value += _times(w10, place, at + down, memory)
                        value += _times(w11, place, at + down + right, memory)
                        at = pooled_line + p * pooled_layout.height_stride
                        write(pooled, at + q * pooled_layout.width_stride, value)
            if products is not None:
                for corner, total in enumerate((x1, y1, x2, y2)):
                    products[block, box, corner] = total
        if target is not None:
            _write_sums(place, target, target_layout, image, channel, 1, lanes, sizes)
    fence()
    return -1
