"""`paddle.vision.ops`: roi_align, roi_pool and their layers.

The boxes of all images follow each other, and `boxes_num` says how many each image has.
"""

from dataclasses import dataclass
from typing import Any

from .._docstrings import like
from . import Row
from ._arrays import images, operators

__all__ = ["RoIAlign", "RoIPool", "roi_align", "roi_pool"]

PEER = "paddle.vision.ops"

TABLE = (
    Row(
        "roi_align(input, xyxy, counts, 7, 1/16, 2)",
        "roi_numba.roi_align(input, by_image, 7, 1/16, 2, aligned=True)",
        "`aligned` is True by default.",
    ),
    Row(
        "roi_pool(input, xyxy, counts, 7, 1/16)",
        'roi_numba.roi_pool(input, by_image, 7, 1/16, bins="float")',
    ),
    Row(
        "RoIAlign(7, 1/16)(input, xyxy, counts)",
        "roi_numba.roi_align(input, xyxy, 7, 1/16, aligned=True, "
        "batch_indices=np.repeat(np.arange(len(counts)), counts))",
        "The layer's sampling is adaptive.",
    ),
    Row(
        "RoIPool(7, 1/16)(input, xyxy, counts)",
        'roi_numba.roi_pool(input, xyxy, 7, 1/16, bins="float", batch_indices=indices)',
    ),
)


@like("roi_align")
def roi_align(
    x: Any,
    boxes: Any,
    boxes_num: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = True,
    name: str | None = None,
) -> Any:
    """`paddle.vision.ops.roi_align`: the mean of bilinear samples in each bin.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : array, shape (K, 4)
        Rows ``(x1, y1, x2, y2)``, in image pixels, those of one image after the other.
    boxes_num : array of int, shape (N,)
        The number of boxes of each image.
    aligned : bool, default True
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.
    name : str, optional
        Ignored.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import paddle
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, count = np.array([[1.0, 1, 4, 4]]), np.array([1])
    >>> paddle.roi_align(ramp, box, count, 2)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
    return operators(x).roi_align(
        x,
        boxes,
        output_size,
        spatial_scale,
        sampling_ratio,
        aligned,
        batch_indices=images("boxes_num", boxes_num, boxes, x),
    )


@like("roi_pool")
def roi_pool(
    x: Any,
    boxes: Any,
    boxes_num: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    name: str | None = None,
) -> Any:
    """`paddle.vision.ops.roi_pool`: the largest cell of each bin.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : array, shape (K, 4)
        Rows ``(x1, y1, x2, y2)``, in image pixels, those of one image after the other.
    boxes_num : array of int, shape (N,)
        The number of boxes of each image.
    name : str, optional
        Ignored.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `x`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"``, which for some sizes reads a cell more.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import paddle
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, count = np.array([[1.0, 1, 4, 4]]), np.array([1])
    >>> paddle.roi_pool(ramp, box, count, 2)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return operators(x).roi_pool(
        x,
        boxes,
        output_size,
        spatial_scale,
        bins="float",
        batch_indices=images("boxes_num", boxes_num, boxes, x),
    )


@like("roi_align")
@dataclass
class RoIAlign:
    """`paddle.vision.ops.RoIAlign`, without being a layer of Paddle; sampling is adaptive.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import paddle
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, count = np.array([[1.0, 1, 4, 4]]), np.array([1])
    >>> paddle.RoIAlign(2)(ramp, box, count)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """

    output_size: int | tuple[int, int]
    spatial_scale: float = 1.0

    def __call__(self, x: Any, boxes: Any, boxes_num: Any, aligned: bool = True) -> Any:
        """Pool `boxes` from `x`.

        Parameters
        ----------
        x : array, shape (N, C, H, W)
            Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
        boxes : array, shape (K, 4)
            Rows ``(x1, y1, x2, y2)``, in image pixels, those of one image after the other.
        boxes_num : array of int, shape (N,)
            The number of boxes of each image.
        aligned : bool, default True
            Subtract half a feature pixel after scaling, so that coordinates mean the same in image
            and map.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `x`, float32 for integers and bool.
        """
        return roi_align(x, boxes, boxes_num, self.output_size, self.spatial_scale, aligned=aligned)


@like("roi_pool")
@dataclass
class RoIPool:
    """`paddle.vision.ops.RoIPool`, without being a layer of Paddle.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"``, which for some sizes reads a cell more.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import paddle
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, count = np.array([[1.0, 1, 4, 4]]), np.array([1])
    >>> paddle.RoIPool(2)(ramp, box, count)
    array([[[[22., 24.],
             [42., 44.]]]])
    """

    output_size: int | tuple[int, int]
    spatial_scale: float = 1.0

    def __call__(self, x: Any, boxes: Any, boxes_num: Any) -> Any:
        """Pool `boxes` from `x`.

        Parameters
        ----------
        x : array, shape (N, C, H, W)
            Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
        boxes : array, shape (K, 4)
            Rows ``(x1, y1, x2, y2)``, in image pixels, those of one image after the other.
        boxes_num : array of int, shape (N,)
            The number of boxes of each image.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `x`, float32 for integers and bool.
        """
        return roi_pool(x, boxes, boxes_num, self.output_size, self.spatial_scale)
