"""`chainer.functions`: pooling over boxes (y1, x1, y2, x2), each with the number of its image.

Boxes are computed in float64, as Chainer does on the CPU. There a pooled box goes from nearest cell
to nearest cell, halves to even (on a GPU away from zero), and does not include its end.
"""

import math
from typing import Any

from .. import _arrays, _checks
from .._docstrings import like
from . import Row
from ._arrays import converted, corners, library, operators

__all__ = [
    "roi_average_align_2d",
    "roi_average_pooling_2d",
    "roi_max_align_2d",
    "roi_max_pooling_2d",
]

PEER = "chainer.functions"

TABLE = (
    Row(
        "roi_average_align_2d(input, yxyx, indices, 7, 1/16, 2)",
        "roi_numba.roi_align(input, xyxy.astype(float), 7, 1/16, 2, batch_indices=indices)",
        "Boxes begin with y; `sampling_ratio=None` is adaptive.",
    ),
    Row(
        "np.maximum(roi_max_align_2d(input, yxyx, indices, 7, 1/16, 2), 0)",
        'np.maximum(roi_numba.roi_align(input, xyxy.astype(float), 7, 1/16, 2, reduce="max", '
        "batch_indices=indices), 0)",
        "Samples off the map do not take part, and a bin without samples on it is -inf; here they "
        "count as 0. Equal where positive.",
    ),
    Row(
        "roi_average_pooling_2d(input, yxyx, indices, 7, 1/16)",
        "roi_numba.roi_pool(input, np.rint(xyxy / np.float64(16)) - [0, 0, 1, 1], 7, "
        'reduce="mean", bins="float", batch_indices=indices)',
        "The end of a box is not included: a box is one cell smaller than elsewhere.",
    ),
    Row(
        "np.nan_to_num(roi_max_pooling_2d(input, yxyx, indices, 7, 1/16), neginf=0)",
        "roi_numba.roi_pool(input, np.rint(xyxy / np.float64(16)) - [0, 0, 1, 1], 7, "
        'bins="float", batch_indices=indices)',
        "The same, and an empty bin is -inf; here it is 0. One NaN makes its bin NaN in Chainer, "
        "here it never wins.",
    ),
)

MOST_SAMPLES = 2**20
"""Of a box that reaches off the map and is sampled adaptively: of 1024 cells each way."""

Pair = int | tuple[int, int]
Ratio = int | None | tuple[int | None, int | None]


@like("roi_align")
def roi_average_align_2d(
    x: Any,
    rois: Any,
    roi_indices: Any,
    outsize: Pair,
    spatial_scale: float,
    sampling_ratio: Ratio = None,
) -> Any:
    """`chainer.functions.roi_average_align_2d`: the mean of bilinear samples in each bin.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, in image pixels.
    roi_indices : array of int, shape (K,)
        The image of each box.
    outsize : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), optional
        Samples per bin and axis, (height, width).  Default: as many as the bin has feature pixels,
        rounded up.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import chainer
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> chainer.roi_average_align_2d(ramp, box, image, 2, 1.0)
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """
    return operators(x).roi_align(
        x,
        _boxes(rois),
        outsize,
        spatial_scale,
        _adaptive(sampling_ratio),
        batch_indices=roi_indices,
    )


@like("roi_align")
def roi_max_align_2d(
    x: Any,
    rois: Any,
    roi_indices: Any,
    outsize: Pair,
    spatial_scale: float,
    sampling_ratio: Ratio = None,
) -> Any:
    """`chainer.functions.roi_max_align_2d`: the largest of bilinear samples in each bin.

    Where samples may lie off the map, each is pooled by itself first: that takes as much room as
    there are samples.  Adaptive ones must be known for that: not from traced `rois`.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, in image pixels.
    roi_indices : array of int, shape (K,)
        The image of each box.
    outsize : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), optional
        Samples per bin and axis, (height, width).  Default: as many as the bin has feature pixels,
        rounded up.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Notes
    -----
    Of samples off the map none takes part; a bin of such alone is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import chainer
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> chainer.roi_max_align_2d(ramp, box, image, 2, 1.0, 2)
    array([[[[23.375, 24.875],
             [38.375, 39.875]]]])
    """
    bins, ratio = _checks.int_pair("outsize", outsize, minimum=1), _adaptive(sampling_ratio)
    scale = _checks.scale("spatial_scale", spatial_scale)
    boxes = _boxes(rois)
    if min(ratio) > 0:
        return _largest_on_map(x, boxes, roi_indices, bins, scale, ratio)
    if _arrays.is_traced(rois):
        raise TypeError("rois must not be traced with an adaptive sampling_ratio, got a tracer")
    found = _largest(x, boxes, roi_indices, bins, scale, ratio)
    alike: dict[tuple[int, int], list[int]] = {}
    for k, row in enumerate(rois.tolist()):
        box = [corner * scale for corner in row]
        if not _on_map(box, x.shape[2:]):
            alike.setdefault(_grid(k, box, bins, ratio), []).append(k)
    if not alike:
        return found
    xp, parts, place = library("x", found), [found], list(range(len(boxes)))
    beyond = len(boxes)
    for grid, rows in alike.items():
        some, images = (
            array[library(name, array).asarray(rows)]
            for name, array in (("rois", boxes), ("roi_indices", roi_indices))
        )
        parts.append(_largest_on_map(x, some, images, bins, scale, grid))
        for k in rows:
            place[k], beyond = beyond, beyond + 1
    return xp.concatenate(parts)[xp.asarray(place)]


@like("roi_pool")
def roi_average_pooling_2d(
    x: Any, rois: Any, roi_indices: Any, outsize: Pair, spatial_scale: float
) -> Any:
    """`chainer.functions.roi_average_pooling_2d`: the mean of the cells of each bin.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, in image pixels.
    roi_indices : array of int, shape (K,)
        The image of each box.
    outsize : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"`` over the cells from ``round(z1 * s)`` up to, not
    including, ``round(z2 * s)``, halves to even; where the formula below rounds, nothing is left
    to be rounded.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import chainer
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> chainer.roi_average_pooling_2d(ramp, box, image, 2, 1.0)
    array([[[[16.5, 17.5],
             [26.5, 27.5]]]])
    """
    boxes = _cells(rois, spatial_scale)
    return operators(x).roi_pool(
        x, boxes, outsize, reduce="mean", bins="float", batch_indices=roi_indices
    )


@like("roi_pool")
def roi_max_pooling_2d(
    x: Any, rois: Any, roi_indices: Any, outsize: Pair, spatial_scale: float
) -> Any:
    """`chainer.functions.roi_max_pooling_2d`: the largest cell of each bin.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, in image pixels.
    roi_indices : array of int, shape (K,)
        The image of each box.
    outsize : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"`` over the cells from ``round(z1 * s)`` up to, not
    including, ``round(z2 * s)``, halves to even; where the formula below rounds, nothing is left
    to be rounded.  An empty bin is -inf.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import chainer
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> chainer.roi_max_pooling_2d(ramp, box, image, 2, 1.0)
    array([[[[22., 23.],
             [32., 33.]]]])
    """
    xp, boxes = library("x", x), _cells(rois, spatial_scale)
    pooled, winner = operators(x).roi_pool(
        x, boxes, outsize, bins="float", return_argmax=True, batch_indices=roi_indices
    )
    # Nobody wins in a bin of NaN either, which is NaN.
    empty = (winner < 0) & (pooled == 0)
    return xp.where(empty, xp.full_like(pooled, -math.inf), pooled)


def _adaptive(sampling_ratio: Ratio) -> tuple[int, int]:
    """None as -1, also in a pair."""
    pair = isinstance(sampling_ratio, (tuple, list))
    ratios = sampling_ratio if pair else (sampling_ratio, sampling_ratio)
    known = tuple(-1 if ratio is None else ratio for ratio in ratios)  # type: ignore[union-attr]
    return _checks.int_pair("sampling_ratio", known)


def _largest(x: Any, boxes: Any, images: Any, bins: Pair, scale: float, ratio: Pair) -> Any:
    """The largest sample of each bin, -inf if it is off the map or all are NaN."""
    pooled, winner = operators(x).roi_align(
        x, boxes, bins, scale, ratio, reduce="max", return_argmax=True, batch_indices=images
    )
    xp = library("x", pooled)
    return xp.where(winner < 0, xp.full_like(pooled, -math.inf), pooled)


def _largest_on_map(
    x: Any, boxes: Any, images: Any, bins: tuple[int, int], scale: float, grid: tuple[int, int]
) -> Any:
    """The largest sample of each bin that is on the map, -inf if none is."""
    fine = bins[0] * grid[0], bins[1] * grid[1]
    samples = _largest(x, boxes, images, fine, scale, 1)
    xp = library("x", samples)
    samples = samples.reshape(*samples.shape[:2], bins[0], grid[0], bins[1], grid[1])
    samples = xp.moveaxis(samples, 3, 4).reshape(*samples.shape[:3], bins[1], grid[0] * grid[1])
    # A gradient goes to one of equal samples.
    take = xp.take_along_dim if hasattr(xp, "take_along_dim") else xp.take_along_axis
    return take(samples, xp.argmax(samples, -1)[..., None], -1)[..., 0]


def _on_map(box: list[float], size: tuple[int, int]) -> bool:
    """Whether all samples of a box, in cells, lie on the map; bad ones are said to."""
    if not all(map(math.isfinite, box)):
        return True
    y1, x1, y2, x2 = box
    low, high = min(x1, y1), (max(x2, x1 + 1), max(y2, y1 + 1))
    return low >= -1 and high[0] <= size[1] and high[1] <= size[0]


def _grid(k: int, box: list[float], bins: tuple[int, int], ratio: Pair) -> tuple[int, int]:
    """Samples per bin and axis of box ``k``, in cells."""
    y1, x1, y2, x2 = box
    lengths = max(y2 - y1, 1), max(x2 - x1, 1)
    height, width = (
        given if given > 0 else math.ceil(length / n)
        for given, length, n in zip(ratio, lengths, bins, strict=True)  # type: ignore[arg-type]
    )
    samples = height * width * bins[0] * bins[1]
    if samples > MOST_SAMPLES:
        raise ValueError(
            f"rois that reach off the map must have at most {MOST_SAMPLES} samples each, "
            f"got {samples} for box {k}"
        )
    return height, width


def _boxes(rois: Any) -> Any:
    """Boxes (x1, y1, x2, y2) in float64."""
    return converted(corners("rois", rois, (1, 0, 3, 2)), float)


def _cells(rois: Any, spatial_scale: float) -> Any:
    """The first and the last cell of each box, (x1, y1, x2, y2), in float64."""
    xp, boxes = library("rois", rois), _boxes(rois)
    cells = xp.round(boxes * _checks.scale("spatial_scale", spatial_scale))
    return xp.stack([cells[:, 0], cells[:, 1], cells[:, 2] - 1, cells[:, 3] - 1], 1)
