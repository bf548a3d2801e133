"""`openvino.opset9`: roi_align and roi_pooling, on arrays instead of nodes of a graph.

`name`, which names a node, is ignored. An empty adaptive grid (an aligned box without area and
`sampling_ratio=0`) gives zeros, not NaN. A batch index of -1, after which OpenVINO's roi_pooling
reads no further, is refused as every other that has no image.
"""

from typing import Any

import numpy as np

from .. import _checks
from .._docstrings import like
from . import Row
from ._arrays import converted, corners, count_of, library, listed, operators, seen, size

__all__ = ["roi_align", "roi_pooling"]

PEER = "openvino.opset9"

TABLE = (
    Row(
        'roi_align(input, xyxy, indices, 7, 7, 2, 1/16, "avg")',
        "roi_numba.roi_align(input, xyxy, 7, 1/16, 2, batch_indices=indices)",
        "`asymmetric` is the default: not aligned.",
    ),
    Row(
        'roi_align(input, xyxy, indices, 7, 7, 2, 1/16, "avg", "half_pixel_for_nn")',
        "roi_numba.roi_align(input, xyxy, 7, 1/16, 2, True, batch_indices=indices)",
        "What all others call aligned, and ONNX `half_pixel`.",
    ),
    Row(
        'roi_align(input, xyxy, indices, 7, 7, 2, 1/16, "avg", "half_pixel")',
        "roi_numba.roi_align(input, xyxy + 0.5, 7, 1/16, 2, True, batch_indices=indices)",
        "Half an image pixel is added before scaling: `(x + 0.5) * spatial_scale - 0.5`.",
    ),
    Row(
        'roi_align(input, xyxy, indices, 7, 7, 2, 1/16, "max")',
        'np.maximum(roi_numba.roi_align(input, xyxy, 7, 1/16, 2, reduce="max", '
        "batch_indices=indices), 0)",
        "A maximum is never below zero.",
    ),
    Row(
        "roi_pooling(input, boxes, [7, 7], 1/16)",
        "roi_numba.roi_pool(input, boxes.astype(np.float64), 7, 1/16)",
        "Whole pixels are found from products that are not rounded to float32; bins are exact.",
    ),
    Row(
        'roi_pooling(input, unit_boxes, [7, 7], 1/16, "bilinear")',
        "roi_numba.crop_and_resize(input, normalized, 7, box_indices=indices, channel_axis=1)",
        "Boxes from 0 to 1, whatever `spatial_scale`; one sample a bin, from corner to corner; "
        "not hurt by TensorFlow's rounding at the last row.",
    ),
)

ALIGNED_MODES = ("asymmetric", "half_pixel", "half_pixel_for_nn")


@like("roi_align")
def roi_align(
    data: Any,
    rois: Any,
    batch_indices: Any,
    pooled_h: int,
    pooled_w: int,
    sampling_ratio: int,
    spatial_scale: float,
    mode: str,
    aligned_mode: str | None = "asymmetric",
    name: str | None = None,
) -> Any:
    """`openvino.opset9.roi_align`: the mean or the largest of bilinear samples in each bin.

    Parameters
    ----------
    data : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(x1, y1, x2, y2)``, in image pixels.
    batch_indices : array of int, shape (K,)
        The image of each box.
    pooled_h : int
        Bins per box along y.
    pooled_w : int
        Bins per box along x.
    sampling_ratio : int
        Samples per bin and axis; zero: as many as the bin has feature pixels, rounded up.
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    mode : {"avg", "max"}
        The mean or the largest of the samples of a bin; the latter never below zero.
    aligned_mode : {"asymmetric", "half_pixel", "half_pixel_for_nn"}, default "asymmetric"
        ``aligned=False`` of `roi_numba.roi_align`; ``aligned=True`` of boxes half an image pixel
        further; ``aligned=True``.
    name : str, optional
        Ignored.

    Returns
    -------
    output : array, shape (K, C, pooled_h, pooled_w)
        In the library and dtype of `data`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import openvino
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> openvino.roi_align(ramp, box, image, 2, 2, 0, 1.0, "avg", "half_pixel_for_nn")
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
    if aligned_mode is None:
        aligned_mode = "asymmetric"
    aligned_mode = _checks.choice("aligned_mode", aligned_mode, ALIGNED_MODES)
    largest = _checks.choice("mode", mode, ("avg", "max")) == "max"
    if aligned_mode == "half_pixel" and library("rois", rois):
        rois = rois + 0.5
    pooled = operators(data).roi_align(
        data,
        rois,
        (pooled_h, pooled_w),
        spatial_scale,
        sampling_ratio,
        aligned_mode != "asymmetric",
        reduce="max" if largest else "mean",
        batch_indices=batch_indices,
    )
    if not largest:
        return pooled
    home = library("data", pooled)
    return home.maximum(pooled, home.zeros_like(pooled))


@like("roi_pool")
def roi_pooling(
    input: Any,
    coords: Any,
    output_roi: Any = None,
    spatial_scale: Any = None,
    method: str = "max",
    name: str | None = None,
    *,
    output_size: Any = None,
) -> Any:
    """`openvino.opset9.roi_pooling`: the largest cell of each bin, or one sample.

    Parameters
    ----------
    coords : array, shape (K, 5)
        Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels; for "bilinear" from 0, the centre
        of the first feature pixel, to 1, that of the last one.
    output_roi : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel, rounded to float32; of no effect for "bilinear".
    method : {"max", "bilinear"}, default "max"
        `roi_numba.roi_pool`, or `roi_numba.crop_and_resize`.
    name : str, optional
        Ignored.
    output_size : int or (int, int), optional
        An old name of `output_roi`.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `input`, float32 for integers and bool.

    See Also
    --------
    roi_numba.roi_pool : What computes the maximum.
    roi_numba.crop_and_resize : What computes "bilinear", with its formula.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import openvino
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> openvino.roi_pooling(ramp, np.array([[0, 1.0, 1, 4, 4]]), [2, 2], 1.0)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    if output_roi is not None and output_size is not None:
        raise TypeError("output_size must be None with output_roi, got both")
    bins = size(output_size if output_roi is None else output_roi)
    if bins is None:
        raise TypeError("output_roi must be an int or (height, width), got None")
    scale = _checks.scale("spatial_scale", spatial_scale)
    listed("coords", coords, 5)
    largest = _checks.choice("method", method, ("max", "bilinear")) == "max"
    count = count_of("input", input)
    if seen(coords):
        _check_rows(np.asarray(coords.tolist()).reshape(-1, 5), count)
    if largest:
        with np.errstate(over="ignore"):
            scale = float(np.float32(scale))
        return operators(input).roi_pool(input, converted(coords, float), bins, scale)
    with np.errstate(invalid="ignore"):
        images = converted(coords[:, 0], int)
    return operators(input).crop_and_resize(
        input,
        corners("coords", coords[:, 1:], (1, 0, 3, 2)),
        bins,
        box_indices=images,
        channel_axis=1,
    )


def _check_rows(rows: Any, images: int) -> None:
    """Raise what the operators would of their own arguments."""
    for k, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise ValueError(f"coords must be finite, got {row.tolist()} for box {k}")
        if row[0] % 1:
            raise ValueError(f"batch index in coords must be whole, got {row[0]} for box {k}")
        if not 0 <= row[0] < images:
            raise IndexError(
                f"batch index in coords must be in [0, {images}), got {int(row[0])} for box {k}"
            )
