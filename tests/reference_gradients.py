"""The gradients of the operators in ``reference.py``: what the tests hold to be right.

Each function takes the gradient of a pooled output and returns that of the map and that of the
boxes, both in float64; the column of batch indices has none.  Positions are those of the forward
reference, rounded as there; from then on everything is float64.

A pooled value is made of *entries* along either axis: a cell, a sample, the part of a bin in one
unit cell.  An entry is ``(k, nodes, by_low, by_high)``: its number, the pixels it reads as
``(pixel, weight, slope)``, slope being the weight's change as the entry moves by one pixel, and
how far the entry moves with either end of the box.  A weight or slope of exactly zero is never
multiplied: a NaN reaches only what uses it.

A row of ``boxes`` with a non-finite coordinate or a bad batch index has no gradient.
"""

import math

import numpy as np

import reference
from reference import (
    _cells_of,
    _clamped,
    _inside,
    _numbering,
    _on_scale,
    _per_axis,
    _round_half_away,
)


@np.errstate(all="ignore")
def roi_pool_backward(
    grad_output,
    input,
    boxes,
    spatial_scale=1.0,
    *,
    reduce="max",
    rounding="half_away",
    bins="exact",
    argmax=None,
):
    """Whole cells do not move with the box: its gradient is zero."""

    cells_of_bin = _cells_of(rounding, bins)

    def cells(*geometry):
        on_map = cells_of_bin(*geometry)
        return len(on_map), [(i, ((i, 1.0, 0.0),), 0.0, 0.0) for i in on_map]

    def forward(output_size):
        options = {"rounding": rounding, "bins": bins, "return_argmax": True}
        return reference.roi_pool(input, boxes, output_size, spatial_scale, **options)

    winner = _winner(reduce, grad_output, argmax, forward, _each_cell)
    return _each_bin(grad_output, input, boxes, spatial_scale, (cells, cells), winner)


@np.errstate(all="ignore")
def roi_align_backward(
    grad_output,
    input,
    boxes,
    spatial_scale=1.0,
    sampling_ratio=-1,
    aligned=False,
    *,
    reduce="mean",
    argmax=None,
):
    """The number of adaptive samples counts as constant."""

    def samples(z1, z2, s, p, n_bins, size, ratio):
        T = type(s)
        offset = T(0.5) if aligned else T(0)
        start, end = z1 * s - offset, z2 * s - offset
        extent = end - start
        if not _on_scale(start, end, extent):
            return 1, []
        smallest = not aligned and extent < 1
        width = (T(1) if smallest else extent) / T(n_bins)
        count = ratio if ratio > 0 else math.ceil(width)

        def position(k):
            return (start + T(p) * width) + (T(k) + T(0.5)) * width / T(count)

        entries = []
        for k in _inside(position, count, -1, size) if size else ():
            along = 0.0 if smallest else (p + (k + 0.5) / count) / n_bins
            nodes = _clamped_nodes(float(position(k)), size, at_zero=0.0)
            entries.append((k, nodes, *_moves(s, along)))
        return count, entries

    def forward(output_size):
        options = {"reduce": reduce, "return_argmax": True}
        arguments = spatial_scale, sampling_ratio, aligned
        return reference.roi_align(input, boxes, output_size, *arguments, **options)

    axes = _per_axis(samples, sampling_ratio)
    each = _each_corner if reduce == "max_corner" else _each_sample
    winner = _winner(reduce, grad_output, argmax, forward, each)
    return _each_bin(grad_output, input, boxes, spatial_scale, axes, winner)


@np.errstate(all="ignore")
def roi_warp_backward(
    grad_output,
    input,
    boxes,
    spatial_scale=1.0,
    sampling_ratio=1,
    *,
    reduce="max",
    quantize=True,
    argmax=None,
):
    """The gradient of a quantized box is that of the rounded one, as if nothing were rounded."""

    def samples(z1, z2, s, p, n_bins, size, ratio):
        T = type(s)
        start, end = z1 * s, z2 * s
        if not _on_scale(start, end, end - start):
            return 1, []
        if quantize:
            start, end = T(_round_half_away(start)), T(_round_half_away(end))
        width = max(end - start, T(0)) / T(ratio * n_bins)

        def position(k):
            return start + T(p * ratio + k) * width

        if quantize:
            low, high, nodes = -0.5, size - 0.5, _clamped_nodes
        else:  # open at both ends, as in the forward reference
            low, high, nodes = math.nextafter(-1, 0), math.nextafter(size, 0), _faded_nodes
        entries = []
        for k in _inside(position, ratio, low, high) if size else ():
            along = 0.0 if end < start else (p * ratio + k) / (ratio * n_bins)
            entries.append((k, nodes(float(position(k)), size), *_moves(s, along)))
        return ratio, entries

    def forward(output_size):
        options = {"reduce": reduce, "quantize": quantize, "return_argmax": True}
        arguments = spatial_scale, sampling_ratio
        return reference.roi_warp(input, boxes, output_size, *arguments, **options)

    axes = _per_axis(samples, sampling_ratio)
    winner = _winner(reduce, grad_output, argmax, forward, _each_sample)
    return _each_bin(grad_output, input, boxes, spatial_scale, axes, winner)


@np.errstate(all="ignore")
def crop_pool_backward(
    grad_output, input, boxes, spatial_scale=1.0, *, border="zeros", argmax=None
):
    """A sample moves with the ends of the box by its share of the way between them."""

    def samples(z1, z2, s, p, n_bins, size):
        T = type(s)
        start, end = z1 * s, z2 * s
        if not _on_scale(start, end, end - start):
            return 1, []
        step = (end - start) / T(2 * n_bins - 1)
        entries = []
        for k in range(2):
            j = 2 * p + k
            t = float(end if j == 2 * n_bins - 1 else start + T(j) * step)
            moves = _moves(s, j / (2 * n_bins - 1))
            if border == "zeros" and -1 < t < size:
                entries.append((k, _faded_nodes(t, size), *moves))
            elif border == "cut" and 0 <= t <= size - 1:
                entries.append((k, _clamped_nodes(t, size), *moves))
        return 2, entries

    def forward(output_size):
        options = {"border": border, "return_argmax": True}
        return reference.crop_pool(input, boxes, output_size, spatial_scale, **options)

    winner = _winner("max", grad_output, argmax, forward, _each_sample)
    return _each_bin(grad_output, input, boxes, spatial_scale, (samples, samples), winner)


@np.errstate(all="ignore")
def prroi_pool_backward(grad_output, input, boxes, spatial_scale=1.0, *, aligned=False):
    """A bin is all the points at ``low + x * (high - low)``, x from 0 to 1, which move with it.

    How far a point moves is linear in x, and how its value changes is constant within a unit cell:
    the middle of each piece of the bin stands for the piece.
    """

    def pieces(z1, z2, s, p, n_bins, size):
        T = type(s)
        offset = T(0.5) if aligned else T(0)
        start, end = z1 * s - offset, z2 * s - offset
        if not _on_scale(start, end, end - start):
            return 1, []
        width = max(end - start, T(0)) / T(n_bins)
        if width == 0:
            return 1, []
        low, high = float(start + T(p) * width), float(start + T(p + 1) * width)
        if low == high:  # narrower than the spacing of numbers here: a point
            return 1, [(0, _faded_nodes(low, size), *_moves(s, (p + 0.5) / n_bins))]
        entries = []
        for m in range(max(math.floor(low), -1), min(math.ceil(high), size)):
            left, right = max(low, m), min(high, m + 1)
            middle = ((left - m) + (right - m)) / 2
            near, far = max(m - low, 0.0), min(m + 1 - low, high - low)
            along = (near + far) / 2 / (high - low)
            part = (right - left) / (high - low)
            nodes = (m, part * (1 - middle), -part), (m + 1, part * middle, part)
            entries.append((m, _on_map(nodes, size), *_moves(s, (p + along) / n_bins)))
        return 1, entries

    return _each_bin(grad_output, input, boxes, spatial_scale, (pieces, pieces), None)


def _moves(s, along):
    """How far a point moves with either end of its box, ``along`` from 0 at one to 1."""
    return float(s) * (1 - along), float(s) * along


def _clamped_nodes(t, size, at_zero=1.0):
    """Two neighbours of ``t``; one that is moved to the edge of the map stays there.

    ``at_zero``: the slope on the first pixel, where operators differ in what they call clamped.
    """
    slope = (1.0 if t else at_zero) if 0 <= t < size - 1 else 0.0
    (i, weight), (j, next_weight) = _clamped(t, size)
    return (i, weight, -slope), (j, next_weight, slope)


def _faded_nodes(t, size):
    """Those neighbours of ``t`` that are on the map, which is followed by zeros."""
    i = math.floor(t)
    return _on_map(((i, 1 - (t - i), -1.0), (i + 1, t - i, 1.0)), size)


def _on_map(nodes, size):
    return tuple(node for node in nodes if 0 <= node[0] < size)


def _each_cell(rows, columns, width):
    return [(y[0] * width + x[0], y, x) for y in rows[1] for x in columns[1]]


def _each_sample(rows, columns, width):
    (first_y, _), (first_x, pitch) = _numbering(*rows, 1), _numbering(*columns, 1)
    return [((y[0] - first_y) * pitch + x[0] - first_x, y, x) for y in rows[1] for x in columns[1]]


def _each_corner(rows, columns, width):
    """Single corners of the samples, without those of weight zero, which have no name."""
    (first_y, _), (first_x, pitch) = _numbering(*rows, 2), _numbering(*columns, 2)
    corners = []
    for ky, y, *y_moves in rows[1]:
        for kx, x, *x_moves in columns[1]:
            for cy, node_y in enumerate(y):
                for cx, node_x in enumerate(x):
                    place = (2 * ky + cy - first_y) * pitch + 2 * kx + cx - first_x
                    if node_y[1] * node_x[1]:
                        corner = (ky, (node_y,), *y_moves), (kx, (node_x,), *x_moves)
                        corners.append((place, *corner))
    return corners


def _winner(reduce, grad_output, argmax, forward, each):
    """Nothing for a mean; for a maximum what takes part in it, and its argmax."""
    if reduce == "mean":
        return None
    return each, forward(np.shape(grad_output)[2:])[1] if argmax is None else np.asarray(argmax)


def _each_bin(grad_output, input, boxes, spatial_scale, axes, winner):
    """Give every bin's gradient to all its entries, or to the winner alone."""
    images = np.asarray(input).astype(np.float64).transpose(0, 2, 3, 1)
    n_images, height, width, _ = images.shape
    gradients = np.asarray(grad_output).astype(np.float64).transpose(0, 2, 3, 1)
    _, n_rows, n_columns, _ = gradients.shape
    boxes = np.asarray(boxes)
    integral = np.issubdtype(boxes.dtype, np.integer)
    T = np.float64 if integral or boxes.dtype == np.float64 else np.float32
    boxes, s = boxes.astype(T), T(spatial_scale)

    grad_images, grad_boxes = np.zeros(images.shape), np.zeros(boxes.shape)
    for k, (batch, x1, y1, x2, y2) in enumerate(boxes):
        if not np.isfinite(boxes[k]).all() or batch % 1 or not 0 <= batch < n_images:
            continue
        image, grad_image = images[int(batch)], grad_images[int(batch)]
        rows = [axes[0](y1, y2, s, p, n_rows, height) for p in range(n_rows)]
        columns = [axes[1](x1, x2, s, q, n_columns, width) for q in range(n_columns)]
        for p in range(n_rows):
            for q in range(n_columns):
                gradient = gradients[k, p, q]
                if winner is None:
                    share = gradient / max(rows[p][0] * columns[q][0], 1)
                    for y in rows[p][1]:
                        for x in columns[q][1]:
                            _add(share, y, x, image, grad_image, grad_boxes[k], slice(None))
                    continue
                each, argmax = winner
                for place, y, x in each(rows[p], columns[q], width):
                    won = np.flatnonzero(argmax[k, :, p, q] == place)
                    if len(won):
                        _add(gradient[won], y, x, image, grad_image, grad_boxes[k], won)
    return grad_images.transpose(0, 3, 1, 2), grad_boxes


def _add(gradient, y, x, image, grad_image, grad_box, channels):
    """Add what ``gradient`` of one entry of each axis gives the map and the box."""
    (_, y_nodes, y_low, y_high), (_, x_nodes, x_low, x_high) = y, x
    for i, wy, slope_y in y_nodes:
        for j, wx, slope_x in x_nodes:
            if wy * wx:
                grad_image[i, j, channels] += gradient * (wy * wx)
            by_x, by_y = wy * slope_x, slope_y * wx
            changes = by_x * x_low, by_y * y_low, by_x * x_high, by_y * y_high
            for column, change in enumerate(changes, 1):
                if change:
                    grad_box[column] += (gradient * image[i, j, channels] * change).sum()
