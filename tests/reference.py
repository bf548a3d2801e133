"""The operators as their papers define them: what the tests hold to be right.

Loops over boxes, bins and samples (or cells), two-dimensional throughout, in float64. Only the
geometry up to a sample's position, a bin's first and last cell or an interval's ends is rounded
to the geometry dtype, operation by operation in torchvision's order, because there the rounding
decides: the number of adaptive samples, the side of a border, the cell of a rounded corner.
Everything stays fast for absurd boxes: samples beyond the map are counted by bisection.

A row of ``boxes`` with a non-finite coordinate or a bad batch index gives zeros and argmax -1.
"""

import math

import numpy as np


@np.errstate(all="ignore")
def roi_pool(
    input,
    boxes,
    output_size,
    spatial_scale=1.0,
    *,
    reduce="max",
    rounding="half_away",
    bins="exact",
    return_argmax=False,
):
    """Maximum or mean over the whole cells of each bin."""

    def pool(image, rows, columns, at):
        channels = image.shape[2]
        if not rows or not columns:
            return np.zeros(channels), np.full(channels, -1)
        if reduce == "max":
            width = image.shape[1]
            return _maximum(((i * width + j, image[i, j]) for i in rows for j in columns), at)
        total = sum(image[i, j] for i in rows for j in columns)
        return total / (len(rows) * len(columns)), np.full(channels, -1)

    cells = _cells_of(rounding, bins)
    axes = cells, cells
    return _each_bin(input, boxes, output_size, spatial_scale, axes, pool, return_argmax)


@np.errstate(all="ignore")
def roi_align(
    input,
    boxes,
    output_size,
    spatial_scale=1.0,
    sampling_ratio=-1,
    aligned=False,
    *,
    reduce="mean",
    return_argmax=False,
    at=None,
):
    """Mean or maximum of bilinear samples at the centres of a grid in each bin.

    Given ``at``, an argmax, the value is that of the sample (corner) it names.
    """

    def samples(z1, z2, s, p, n_bins, size, ratio):
        T = type(s)
        offset = T(0.5) if aligned else T(0)
        start, end = z1 * s - offset, z2 * s - offset
        extent = end - start
        if not _on_scale(start, end, extent):
            return 1, []
        if not aligned:
            extent = max(extent, T(1))
        width = extent / T(n_bins)
        count = ratio if ratio > 0 else math.ceil(width)

        def position(k):
            return (start + T(p) * width) + (T(k) + T(0.5)) * width / T(count)

        inside = _inside(position, count, -1, size) if size else ()
        return count, [(k, _clamped(float(position(k)), size)) for k in inside]

    axes, pool = _per_axis(samples, sampling_ratio), _SAMPLES[reduce]
    return _each_bin(input, boxes, output_size, spatial_scale, axes, pool, return_argmax, at)


@np.errstate(all="ignore")
def roi_warp(
    input,
    boxes,
    output_size,
    spatial_scale=1.0,
    sampling_ratio=1,
    *,
    reduce="max",
    quantize=True,
    return_argmax=False,
    at=None,
):
    """Mean or maximum of bilinear samples at the left edges of a grid of cells in each bin."""

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
            low, high, neighbours = -0.5, size - 0.5, _clamped
        else:  # open at both ends: there the weight is zero
            low, high, neighbours = math.nextafter(-1, 0), math.nextafter(size, 0), _faded
        inside = _inside(position, ratio, low, high) if size else ()
        return ratio, [(k, neighbours(float(position(k)), size)) for k in inside]

    axes, pool = _per_axis(samples, sampling_ratio), _SAMPLES[reduce]
    return _each_bin(input, boxes, output_size, spatial_scale, axes, pool, return_argmax, at)


@np.errstate(all="ignore")
def crop_pool(
    input, boxes, output_size, spatial_scale=1.0, *, border="zeros", return_argmax=False, at=None
):
    """Maximum over 2 x 2 bilinear samples of a grid that reaches from corner to corner."""

    def samples(z1, z2, s, p, n_bins, size):
        T = type(s)
        start, end = z1 * s, z2 * s
        if not _on_scale(start, end, end - start):
            return 1, []
        step = (end - start) / T(2 * n_bins - 1)
        inside = []
        for k in range(2):
            j = 2 * p + k
            t = float(end if j == 2 * n_bins - 1 else start + T(j) * step)
            if border == "zeros" and -1 < t < size:
                inside.append((k, _faded(t, size)))
            elif border == "cut" and 0 <= t <= size - 1:
                inside.append((k, _clamped(t, size)))
        return 2, inside

    axes, pool = (samples, samples), _max_sample
    return _each_bin(input, boxes, output_size, spatial_scale, axes, pool, return_argmax, at)


@np.errstate(all="ignore")
def prroi_pool(input, boxes, output_size, spatial_scale=1.0, *, aligned=False):
    """Exact mean of the bilinear interpolant, zero beyond the map, over each bin.

    The mean of a bilinear function over a rectangle is its value at the rectangle's centre, so
    each bin is cut along the pixel grid and the pieces' centres are weighted by their areas.
    """

    def pieces(z1, z2, s, p, n_bins, size):
        T = type(s)
        offset = T(0.5) if aligned else T(0)
        start, end = z1 * s - offset, z2 * s - offset
        if not _on_scale(start, end, end - start):
            return []
        width = max(end - start, T(0)) / T(n_bins)
        if width == 0:
            return []
        low, high = float(start + T(p) * width), float(start + T(p + 1) * width)
        if low == high:  # narrower than the spacing of numbers here: a point
            return [(1.0, _faded(low, size))]
        cuts = []
        for m in range(max(math.floor(low), -1), min(math.ceil(high), size)):
            left, right = max(low, m), min(high, m + 1)
            middle = ((left - m) + (right - m)) / 2
            neighbours = _valid(((m, 1 - middle), (m + 1, middle)), size)
            cuts.append(((right - left) / (high - low), neighbours))
        return cuts

    def pool(image, rows, columns, at):
        total = np.zeros(image.shape[2])
        for height, y in rows:
            for width, x in columns:
                total += height * width * _interpolate(image, y, x)
        return total, np.full(image.shape[2], -1)

    axes = pieces, pieces
    return _each_bin(input, boxes, output_size, spatial_scale, axes, pool, False)


def _each_bin(input, boxes, output_size, spatial_scale, axes, pool, return_argmax, at=None):
    """Call ``pool`` on every bin of every box, all channels at once, with what each axis says."""
    images = np.asarray(input).astype(np.float64).transpose(0, 2, 3, 1)
    n_images, height, width, channels = images.shape
    boxes = np.asarray(boxes)
    integral = np.issubdtype(boxes.dtype, np.integer)
    T = np.float64 if integral or boxes.dtype == np.float64 else np.float32
    boxes, s = boxes.astype(T), T(spatial_scale)
    n_rows, n_columns = (output_size, output_size) if np.ndim(output_size) == 0 else output_size

    output = np.zeros((len(boxes), channels, n_rows, n_columns))
    argmax = np.full(output.shape, -1)
    for k, (batch, x1, y1, x2, y2) in enumerate(boxes):
        if not np.isfinite(boxes[k]).all() or batch % 1 or not 0 <= batch < n_images:
            continue
        image = images[int(batch)]
        rows = [axes[0](y1, y2, s, p, n_rows, height) for p in range(n_rows)]
        columns = [axes[1](x1, x2, s, q, n_columns, width) for q in range(n_columns)]
        for p in range(n_rows):
            for q in range(n_columns):
                named = None if at is None else at[k, :, p, q]
                value, index = pool(image, rows[p], columns[q], named)
                output[k, :, p, q], argmax[k, :, p, q] = value, index
    return (output, argmax) if return_argmax else output


def _cells_of(rounding, bins):
    """The cells of bin ``p`` of ``n_bins`` between two corners that lie on an axis of the map."""

    def cells(z1, z2, s, p, n_bins, size):
        place = touched if rounding == "none" else dealt_out
        first, end = place(z1, z2, s, p, n_bins)
        return range(max(first, 0), min(end, size))

    def touched(z1, z2, s, p, n_bins):
        T = type(s)
        start, end = T(_clamp(z1 * s, 2**30)), T(_clamp((z2 + T(1)) * s, 2**30))
        if end <= start:
            return 0, 0
        width = (end - start) / T(n_bins)
        if bins == "truncate":
            width = T(max(math.floor(width), 1))
        last = T(p + 1) * width + start
        if bins == "truncate":
            last = min(last, end)
        return math.floor(T(p) * width + start), math.ceil(last)

    def dealt_out(z1, z2, s, p, n_bins):
        T = type(s)
        if rounding == "half_away":
            origin = _round_half_away(_clamp(z1 * s, 2**30))
            extent = max(_round_half_away(_clamp(z2 * s, 2**30)) - origin + 1, 1)
        else:
            origin = math.trunc(_clamp(z1 * s, 2**30))
            extent = max(math.trunc(_clamp((z2 - z1) * s, 2**31)), 1)
        if bins == "exact":
            first, end = p * extent // n_bins, -(-(p + 1) * extent // n_bins)
        elif bins == "float":
            width = T(extent) / T(n_bins)
            first, end = math.floor(T(p) * width), math.ceil(T(p + 1) * width)
        else:
            width = max(extent // n_bins, 1)
            first, end = min(p * width, extent), min((p + 1) * width, extent)
        return origin + first, origin + end

    return cells


def _per_axis(samples, ratio):
    """``samples`` with the sampling ratio of the rows, and with that of the columns."""
    pair = (ratio, ratio) if np.ndim(ratio) == 0 else ratio
    return tuple(lambda *geometry, r=int(r): samples(*geometry, r) for r in pair)


def _mean_sample(image, rows, columns, at):
    (gy, rows), (gx, columns) = rows, columns
    total = np.zeros(image.shape[2])
    for _, y in rows:
        for _, x in columns:
            total += _interpolate(image, y, x)
    return total / max(gy * gx, 1), np.full(image.shape[2], -1)


def _max_sample(image, rows, columns, at):
    (first_y, _), (first_x, pitch) = _numbering(*rows, 1), _numbering(*columns, 1)
    candidates = [
        (
            ky * columns[0] + kx,
            (ky - first_y) * pitch + kx - first_x,
            _interpolate(image, y, x),
        )
        for ky, y in rows[1]
        for kx, x in columns[1]
    ]
    return _max_with_outside(image, candidates, rows, columns, 1, at)


def _max_corner(image, rows, columns, at):
    (first_y, _), (first_x, pitch) = _numbering(*rows, 2), _numbering(*columns, 2)
    candidates = []
    zero = np.zeros(image.shape[2])
    for ky, y in rows[1]:
        for kx, x in columns[1]:
            for cy, (i, wy) in enumerate(y):
                for cx, (j, wx) in enumerate(x):
                    row, column = 2 * ky + cy, 2 * kx + cx
                    place = row * 2 * columns[0] + column
                    if wy * wx:
                        index = (row - first_y) * pitch + column - first_x
                        candidates.append((place, index, wy * wx * image[i, j]))
                    else:
                        candidates.append((place, -1, zero))
    return _max_with_outside(image, candidates, rows, columns, 2, at)


_SAMPLES = {"mean": _mean_sample, "max": _max_sample, "max_corner": _max_corner}


def _numbering(count, inside, corners):
    """The sample (corner) that argmax calls 0 on an axis, and how many it calls a row of them.

    A grid wider than 2**31 is numbered from the last sample before the map, or int64 would not do.
    """
    if corners * count <= 2**31 or not inside:
        return 0, corners * count
    return corners * max(inside[0][0] - 1, 0), 2**31


def _max_with_outside(image, candidates, rows, columns, corners, at):
    """Maximum over the samples inside and, at its place in the order, the first one outside.

    The samples inside are consecutive along each axis, and all those outside count as 0.
    """
    channels = image.shape[2]
    (gy, rows), (gx, columns) = rows, columns
    if gy <= 0 or gx <= 0:
        return np.zeros(channels), np.full(channels, -1)
    row = len(rows) if rows and rows[0][0] == 0 else 0
    column = len(columns) if columns and columns[0][0] == 0 else 0
    if row < gy or column < gx:
        if row == 0:
            place = 0
        elif column < gx:
            place = corners * column
        else:
            place = corners * row * corners * gx
        candidates = [*candidates, (place, -1, np.zeros(channels))]
    candidates = sorted(candidates, key=lambda candidate: candidate[0])
    return _maximum(((index, value) for _, index, value in candidates), at)


def _maximum(candidates, at):
    """First maximum of (index, values), NaN only if there is nothing else; or the values at."""
    best = index = None
    for place, value in candidates:
        if best is None:
            best, index = np.full(len(value), np.nan), np.full(len(value), -1)
            named = np.zeros(len(value))
        better = (value > best) | (np.isnan(best) & ~np.isnan(value))
        best, index = np.where(better, value, best), np.where(better, place, index)
        if at is not None and place >= 0:
            named = np.where(at == place, value, named)
    return (best if at is None else named), index


def _interpolate(image, y, x):
    """Bilinear value from two neighbours per axis; what has no weight is not looked at."""
    return sum(
        (wy * wx * image[i, j] for i, wy in y if wy for j, wx in x if wx),
        start=np.zeros(image.shape[2]),
    )


def _clamped(t, size):
    """Two neighbours of ``t`` and their weights, positions clamped to the map."""
    t = max(t, 0.0)
    i = int(t)
    if i >= size - 1:
        return (size - 1, 1.0), (size - 1, 0.0)
    return (i, 1 - (t - i)), (i + 1, t - i)


def _faded(t, size):
    """Two neighbours of ``t`` and their weights, the map followed by zeros."""
    i = math.floor(t)
    return _valid(((i, 1 - (t - i)), (i + 1, t - i)), size)


def _valid(neighbours, size):
    return tuple((i, w) if 0 <= i < size else (0, 0.0) for i, w in neighbours)


def _inside(position, count, low, high):
    """The k in 0..count-1 with low <= position(k) <= high; ``position`` is monotone."""

    def t(k):  # NumPy would round the bounds to the geometry dtype
        return float(position(k))

    if count <= 0:
        return range(0)
    if t(0) <= t(count - 1):
        first = _bisect(count, lambda k: t(k) >= low)
        return range(first, _bisect(count, lambda k: t(k) > high))
    first = _bisect(count, lambda k: t(k) <= high)
    return range(first, _bisect(count, lambda k: t(k) < low))


def _bisect(count, holds):
    """The first k in 0..count-1 where ``holds``, which then holds to the end; or ``count``."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _on_scale(*values):
    """Whether the geometry dtype still tells one pixel from the next at all these values."""
    limit = 2**24 if isinstance(values[0], np.float32) else 2**53
    return all(abs(float(v)) <= limit for v in values)


def _clamp(value, limit):
    return min(max(float(value), -limit), limit)


def _round_half_away(value):
    """C's round(), exact: adding a half first would round 0.49999997 up."""
    magnitude = abs(float(value))
    whole = math.floor(magnitude)
    return int(math.copysign(whole + (magnitude - whole >= 0.5), value))
