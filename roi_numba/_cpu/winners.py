"""The gradients of maxima: each bin's goes to its winner, and to the box through the winner."""

import numpy as np

from .compile import inline, kernel
from .lanes import item, prefetch, read, write

BLOCK = 16
"""Channels of a work item: so many planes of a small map fit L2 while all boxes are added."""


@inline
def _add(target, at, value, like):
    write(target, at, read(target, at, like) + value)


@inline
def _line(layout, number, channel):
    """Where channel ``channel`` of map or box ``number`` begins."""
    return layout.origin + number * layout.stride + channel * layout.channel_stride


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


@kernel
def at_cells(
    source, source_layout, names, names_layout, grad, grad_layout, target, target_layout, pooled,
    pooled_layout, sizes, bins, order, first_box, like, first_item, last_item,
):  # fmt: skip
    """Go through the pixels that won, for items (image, block of channels) from first to last.

    ``target``, a map, takes the bins' gradients, ``pooled`` the pixels' values in ``source``;
    either may be empty.  The boxes of image i are ``order[first_box[i]:first_box[i + 1]]``.
    Returns a box whose winner is no pixel of the map, or -1.
    """
    pixels, width = sizes[0] * sizes[1], sizes[1]
    scattering = len(target) > 0
    layout = target_layout if scattering else source_layout
    step, row_step = layout.width_stride, layout.height_stride
    in_order = row_step == width * step
    name_step, grad_step = names_layout.width_stride, grad_layout.width_stride
    blocks = (layout.channels + BLOCK - 1) // BLOCK
    for number in range(first_item, last_item):
        image, channel = number // blocks, number % blocks * BLOCK
        for i in range(first_box[image], first_box[image + 1]):
            box = order[i]
            ahead = order[min(i + 1, first_box[image + 1] - 1)] - box
            for c in range(channel, min(channel + BLOCK, layout.channels)):
                plane = _line(layout, image, c)
                name_line = _line(names_layout, box, c)
                grad_line = _line(grad_layout, box, c)
                pooled_line = _line(pooled_layout, box, c)
                # The next box's are elsewhere in memory, where no CPU looks for them by itself.
                for cell in range(0, bins[0] * bins[1], 8):
                    prefetch(names, name_line + ahead * names_layout.stride + cell * name_step)
                for cell in range(0, bins[0] * bins[1], 16):
                    prefetch(grad, grad_line + ahead * grad_layout.stride + cell * grad_step)
                for _ in range(bins[0]):
                    at_name, at_grad, at_pooled = name_line, grad_line, pooled_line
                    if scattering and in_order:  # what is usual, in a loop that fits registers
                        for _ in range(bins[1]):
                            name = item(names, at_name)
                            if name < 0 or name >= pixels:
                                if name != -1:
                                    return box
                            else:
                                _add(target, plane + name * step, read(grad, at_grad, like), like)
                            at_name += name_step
                            at_grad += grad_step
                    for _ in range(0 if scattering and in_order else bins[1]):
                        name = item(names, at_name)
                        if name >= 0 and name < pixels:
                            at = plane + name * step
                            if not in_order:
                                at = plane + name // width * row_step + name % width * step
                            if scattering:
                                _add(target, at, read(grad, at_grad, like), like)
                            else:
                                write(pooled, at_pooled, read(source, at, like))
                        elif name != -1:
                            return box
                        at_name += name_step
                        at_grad += grad_step
                        at_pooled += pooled_layout.width_stride
                    name_line += names_layout.height_stride
                    grad_line += grad_layout.height_stride
                    pooled_line += pooled_layout.height_stride
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
    source, source_layout, names, names_layout, grad, grad_layout, target, target_layout, pooled,
    pooled_layout, start, bins, table, motion, products, order, first_box, like, first_item,
    last_item,
):  # fmt: skip
    """The same where samples won; ``products[box, block]`` takes the gradient to the box.

    Box k of the table, which is `Steep`, is box ``start + k`` elsewhere.  What is empty of
    ``target``, ``pooled`` and ``products`` is not wanted.  Unless ``motion`` is empty, a sample's
    weights are rates of change, as the corners of box k move by ``motion[k]``.
    """
    # Out of the loops, which would count references to the arrays at every step.
    begin, index, label, strides = table.begin, table.index, table.label, table.stride
    weight, next_weight = table.weight, table.next_weight
    change, next_change = table.change, table.next_change
    by_low, by_high = table.by_low, table.by_high
    moving, projecting = len(motion) > 0, products.size > 0
    scattering, gathering = len(target) > 0, len(pooled) > 0
    channels = names_layout.channels
    blocks = (channels + BLOCK - 1) // BLOCK
    down, right = source_layout.height_stride, source_layout.width_stride
    if scattering:
        down, right = target_layout.height_stride, target_layout.width_stride
    zero = like.dtype.type(0)
    called = np.empty(bins[0] + bins[1], np.int64)
    for number in range(first_item, last_item):
        image, block = number // blocks, number % blocks
        for i in range(first_box[image], first_box[image + 1]):
            k = order[i]
            box, stride = start + k, max(strides[k], 1)
            bin_y = k * (bins[0] + bins[1])
            bin_x = bin_y + bins[0]
            _first_names(label, begin, bin_y, called)
            x1, y1, x2, y2 = 0.0, 0.0, 0.0, 0.0
            for c in range(block * BLOCK, min(block * BLOCK + BLOCK, channels)):
                name_line = _line(names_layout, box, c)
                grad_line = _line(grad_layout, box, c)
                pooled_line = _line(pooled_layout, box, c)
                plane = _line(target_layout if scattering else source_layout, image, c)
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
                    g = zero
                    if len(grad):
                        at = grad_line + p * grad_layout.height_stride
                        g = read(grad, at + q * grad_layout.width_stride, like)
                    u0, u1 = item(weight, y), item(next_weight, y)
                    v0, v1 = item(weight, x), item(next_weight, x)
                    d0, d1 = item(change, y), item(next_change, y)
                    e0, e1 = item(change, x), item(next_change, x)
                    at = plane + item(index, y) * down + item(index, x) * right
                    if projecting:
                        rise_y = _times(d0 * v0, source, at, like)
                        rise_y += _times(d0 * v1, source, at + right, like)
                        rise_y += _times(d1 * v0, source, at + down, like)
                        rise_y += _times(d1 * v1, source, at + down + right, like)
                        rise_x = _times(u0 * e0, source, at, like)
                        rise_x += _times(u0 * e1, source, at + right, like)
                        rise_x += _times(u1 * e0, source, at + down, like)
                        rise_x += _times(u1 * e1, source, at + down + right, like)
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
                    if moving:
                        rate_y = by_low[y] * motion[box, 1] + by_high[y] * motion[box, 3]
                        rate_x = by_low[x] * motion[box, 0] + by_high[x] * motion[box, 2]
                        w00 = d0 * rate_y * v0 + u0 * e0 * rate_x
                        w01 = d0 * rate_y * v1 + u0 * e1 * rate_x
                        w10 = d1 * rate_y * v0 + u1 * e0 * rate_x
                        w11 = d1 * rate_y * v1 + u1 * e1 * rate_x
                    if scattering:
                        _add_times(target, at, w00, g, like)
                        _add_times(target, at + right, w01, g, like)
                        _add_times(target, at + down, w10, g, like)
                        _add_times(target, at + down + right, w11, g, like)
                    if gathering:
                        value = _times(w00, source, at, like)
                        value += _times(w01, source, at + right, like)
                        value += _times(w10, source, at + down, like)
                        value += _times(w11, source, at + down + right, like)
                        at = pooled_line + p * pooled_layout.height_stride
                        write(pooled, at + q * pooled_layout.width_stride, value)
            if projecting:
                products[box, block, 0] = x1
                products[box, block, 1] = y1
                products[box, block, 2] = x2
                products[box, block, 3] = y2
    return -1
