"""`mmcv.ops`: roi_align, roi_pool, prroi_pool and their modules."""

from dataclasses import dataclass
from typing import Any

from .. import _checks
from .._docstrings import like
from . import Row
from ._arrays import operators

__all__ = ["PrRoIPool", "RoIAlign", "RoIPool", "prroi_pool", "roi_align", "roi_pool"]

PEER = "mmcv.ops"

TABLE = (
    Row(
        "roi_align(input, boxes, 7, 1/16, 2)",
        "roi_numba.roi_align(input, boxes, 7, 1/16, 2, aligned=True)",
        "`aligned` is True by default.",
    ),
    Row(
        "roi_align(input, boxes, 7, 1/16, 2, 'max')",
        'roi_numba.roi_align(input, boxes, 7, 1/16, 2, True, reduce="max")',
        "A bin without samples, where the box has no size and sampling is adaptive, is a large "
        "negative number in mmcv, 0 here.",
    ),
    Row(
        "roi_pool(input, boxes, 7, 1/16)",
        'roi_numba.roi_pool(input, boxes, 7, 1/16, rounding="none")',
        "Nothing is rounded, and a box ends one image pixel later. The gradient of a box without "
        "area, which mmcv gives to pixel (0, 0), goes nowhere.",
    ),
    Row(
        "prroi_pool(input, boxes, 7, 1/16)",
        "roi_numba.prroi_pool(input, boxes, 7, 1/16)",
        "The same call.",
    ),
    Row(
        "RoIAlign(7, 1/16, aligned=False)(input, boxes)",
        "roi_numba.roi_align(input, boxes, 7, 1/16)",
        "`sampling_ratio` is 0, adaptive, by default. With `use_torchvision=True` mmcv takes the "
        'mean whatever `pool_mode`; here "max" is refused then.',
    ),
    Row(
        "RoIPool(7, 1/16)(input, boxes)",
        'roi_numba.roi_pool(input, boxes, 7, 1/16, rounding="none")',
    ),
    Row("PrRoIPool(7, 1/16)(input, boxes)", "roi_numba.prroi_pool(input, boxes, 7, 1/16)"),
)

REDUCTIONS = {"avg": "mean", "max": "max"}

Pair = int | tuple[int, int]


@like("roi_align")
def roi_align(
    input: Any,
    rois: Any,
    output_size: Pair,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Any:
    """`mmcv.ops.roi_align`: the mean or the largest of bilinear samples in each bin.

    Parameters
    ----------
    rois : array, shape (K, 5)
        Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.
    sampling_ratio : int, default 0
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.
    pool_mode : {"avg", "max"}, default "avg"
        The mean or the largest of the samples of a bin.
    aligned : bool, default True
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `input`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.roi_align(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
    return operators(input).roi_align(
        input,
        rois,
        output_size,
        spatial_scale,
        sampling_ratio,
        aligned,
        reduce=REDUCTIONS[_checks.choice("pool_mode", pool_mode, tuple(REDUCTIONS))],
    )


@like("roi_pool")
def roi_pool(input: Any, rois: Any, output_size: Pair, spatial_scale: float = 1.0) -> Any:
    """`mmcv.ops.roi_pool`: the largest cell of each bin of an unrounded box.

    Parameters
    ----------
    rois : array, shape (K, 5)
        Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `input`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``rounding="none"``.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.roi_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return operators(input).roi_pool(input, rois, output_size, spatial_scale, rounding="none")


@like("prroi_pool")
def prroi_pool(features: Any, rois: Any, output_size: Pair, spatial_scale: float = 1.0) -> Any:
    """`mmcv.ops.prroi_pool`: the exact mean of the interpolated map in each bin.

    Parameters
    ----------
    features : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 5)
        Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `features`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.prroi_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """
    return operators(features).prroi_pool(features, rois, output_size, spatial_scale)


@like("roi_align")
@dataclass
class RoIAlign:
    """`mmcv.ops.RoIAlign`, without being a module of torch.

    Parameters
    ----------
    sampling_ratio : int, default 0
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.
    pool_mode : {"avg", "max"}, default "avg"
        The mean or the largest of the samples of a bin.
    aligned : bool, default True
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.
    use_torchvision : bool, default False
        Changes nothing, but that the maximum is refused, which torchvision does not have.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.RoIAlign(2, pool_mode="max", sampling_ratio=2)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[17.875, 19.375],
             [32.875, 34.375]]]])
    """

    output_size: Pair
    spatial_scale: float = 1.0
    sampling_ratio: int = 0
    pool_mode: str = "avg"
    aligned: bool = True
    use_torchvision: bool = False

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`.

        Parameters
        ----------
        rois : array, shape (K, 5)
            Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `input`, float32 for integers and bool.
        """
        if self.use_torchvision and self.pool_mode != "avg":
            raise ValueError(
                f'pool_mode must be "avg" with use_torchvision=True, got {self.pool_mode!r}'
            )
        return roi_align(
            input,
            rois,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.pool_mode,
            self.aligned,
        )


@like("roi_pool")
@dataclass
class RoIPool:
    """`mmcv.ops.RoIPool`, without being a module of torch.

    Notes
    -----
    `roi_numba.roi_pool` with ``rounding="none"``.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.RoIPool(2)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[22., 24.],
             [42., 44.]]]])
    """

    output_size: Pair
    spatial_scale: float = 1.0

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`.

        Parameters
        ----------
        rois : array, shape (K, 5)
            Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `input`, float32 for integers and bool.
        """
        return roi_pool(input, rois, self.output_size, self.spatial_scale)


@like("prroi_pool")
@dataclass
class PrRoIPool:
    """`mmcv.ops.PrRoIPool`, without being a module of torch.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import mmcv
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> mmcv.PrRoIPool(2)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """

    output_size: Pair
    spatial_scale: float = 1.0

    def __call__(self, features: Any, rois: Any) -> Any:
        """Pool `rois` from `features`.

        Parameters
        ----------
        features : array, shape (N, C, H, W)
            Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
        rois : array, shape (K, 5)
            Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `features`, float32 for integers and bool.
        """
        return prroi_pool(features, rois, self.output_size, self.spatial_scale)
