"""`chainer.functions`: pooling over boxes (y1, x1, y2, x2), each with the number of its image.

Boxes are computed in float64, as Chainer does on the CPU. There a pooled box goes from nearest cell
to nearest cell, halves to even (on a GPU away from zero), and does not include its end.
"""

import math
from typing import Any

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
        "The same, and an empty bin is -inf; here it is 0.",
    ),
)

Pair = int | tuple[int, int]
Ratio = int | None | tuple[int | None, int | None]


def roi_average_align_2d(
    x: Any,
    rois: Any,
    roi_indices: Any,
    outsize: Pair,
    spatial_scale: float,
    sampling_ratio: Ratio = None,
) -> Any:
    """`chainer.functions.roi_average_align_2d`."""
    return operators(x).roi_align(
        x,
        _boxes(rois),
        outsize,
        spatial_scale,
        _adaptive(sampling_ratio),
        batch_indices=roi_indices,
    )


def roi_max_align_2d(
    x: Any,
    rois: Any,
    roi_indices: Any,
    outsize: Pair,
    spatial_scale: float,
    sampling_ratio: Ratio = None,
) -> Any:
    """`chainer.functions.roi_max_align_2d`, on a copy of `x` in float64."""
    xp = library("x", x)
    # Of a map above zero no maximum is a sample outside, which is 0; float64 keeps all its digits.
    values = converted(x, float)
    finite = xp.where(xp.isfinite(values), values, xp.zeros_like(values))
    floor = finite.min() - 1 if math.prod(x.shape) else 0
    pooled, winner = operators(x).roi_align(
        values - floor,
        _boxes(rois),
        outsize,
        spatial_scale,
        _adaptive(sampling_ratio),
        reduce="max",
        return_argmax=True,
        batch_indices=roi_indices,
    )
    nothing = xp.full_like(pooled, -math.inf)
    return converted(xp.where(winner < 0, nothing, pooled + floor), x.dtype)


def roi_average_pooling_2d(
    x: Any, rois: Any, roi_indices: Any, outsize: Pair, spatial_scale: float
) -> Any:
    """`chainer.functions.roi_average_pooling_2d`."""
    boxes = _cells(rois, spatial_scale)
    return operators(x).roi_pool(
        x, boxes, outsize, reduce="mean", bins="float", batch_indices=roi_indices
    )


def roi_max_pooling_2d(
    x: Any, rois: Any, roi_indices: Any, outsize: Pair, spatial_scale: float
) -> Any:
    """`chainer.functions.roi_max_pooling_2d`."""
    xp, boxes = library("x", x), _cells(rois, spatial_scale)
    pooled, winner = operators(x).roi_pool(
        x, boxes, outsize, bins="float", return_argmax=True, batch_indices=roi_indices
    )
    # Nobody wins in a bin of NaN either, which is NaN.
    empty = (winner < 0) & (pooled == 0)
    return xp.where(empty, xp.full_like(pooled, -math.inf), pooled)


def _adaptive(sampling_ratio: Ratio) -> Pair:
    """None as -1, also in a pair."""
    if isinstance(sampling_ratio, tuple):
        return tuple(-1 if ratio is None else ratio for ratio in sampling_ratio)  # type: ignore
    return -1 if sampling_ratio is None else sampling_ratio


def _boxes(rois: Any) -> Any:
    """Boxes (x1, y1, x2, y2) in float64."""
    return converted(corners("rois", rois, (1, 0, 3, 2)), float)


def _cells(rois: Any, spatial_scale: float) -> Any:
    """The first and the last cell of each box, (x1, y1, x2, y2), in float64."""
    xp, boxes = library("rois", rois), _boxes(rois)
    cells = xp.round(boxes * spatial_scale)
    return xp.stack([cells[:, 0], cells[:, 1], cells[:, 2] - 1, cells[:, 3] - 1], 1)
