"""`detectron2.layers.ROIAlign` and `detectron2.modeling.poolers.ROIPooler`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import roi_numba

from .. import _checks
from .._docstrings import like
from . import Row
from ._arrays import operators

__all__ = ["ROIAlign", "ROIPooler"]

PEER = "detectron2"

TABLE = (
    Row(
        "ROIAlign(7, 1/16, 0)(input, boxes)",
        "roi_numba.roi_align(input, boxes, 7, 1/16, aligned=True)",
        "`aligned` is True by default. Boxes are not rounded to the dtype of the input first.",
    ),
    Row(
        "ROIPooler(7, (1/4, 1/8, 1/16, 1/32), 0, 'ROIAlignV2')(inputs, by_image)",
        "roi_numba.pyramid_pool(roi_numba.roi_align, inputs, by_image, 7, "
        "spatial_scales=[1/4, 1/8, 1/16, 1/32], levels=roi_numba.assign_levels(by_image, "
        "min_level=2, max_level=5, epsilon=1e-8, epsilon_inside=True) - 2, aligned=True)",
        "`ROIAlign` is not aligned, `ROIAlignV2` is, `ROIPool` is torchvision's; there are no "
        "rotated boxes. A box reversed on both axes has a positive area in detectron2; here it is "
        "on the lowest level.",
    ),
)

POOLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ROIAlign": ("roi_align", {"aligned": False}),
    "ROIAlignV2": ("roi_align", {"aligned": True}),
    "ROIPool": ("roi_pool", {"bins": "float"}),
}

Pair = int | tuple[int, int]


@like("roi_align")
@dataclass
class ROIAlign:
    """`detectron2.layers.ROIAlign`, without being a module of torch.

    Parameters
    ----------
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.
    aligned : bool, default True
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import detectron2
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> detectron2.ROIAlign(2, 1.0, 0)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """

    output_size: Pair
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = True

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
        return operators(input).roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )


@like("pyramid_pool", without=("Notes", "Raises"))
@dataclass
class ROIPooler:
    """`detectron2.modeling.poolers.ROIPooler`, without being a module of torch.

    Parameters
    ----------
    scales : sequence of float
        Feature pixels per image pixel of each map, each half the one before.
    sampling_ratio : int
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.
    pooler_type : {"ROIAlign", "ROIAlignV2", "ROIPool"}
        `roi_numba.roi_align`, the same with ``aligned=True``, or `roi_numba.roi_pool` with
        ``bins="float"``.
    canonical_box_size : int, default 224
        The size in image pixels, square root of the area, at which boxes of `canonical_level`
        begin.
    canonical_level : int, default 4
        The level of a box of that size.

    Notes
    -----
    A level is ``floor(canonical_level + log2(sqrt(area) / canonical_box_size + 1e-8))``, within
    those that there are.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import detectron2
    >>> maps = [np.full((1, 1, 256 // stride, 256 // stride), stride) for stride in (4, 8)]
    >>> boxes = [np.array([[0.0, 0, 224, 224], [9, 9, 60, 50]])]
    >>> detectron2.ROIPooler(1, (1 / 4, 1 / 8), 0, "ROIAlignV2")(maps, boxes).ravel()
    array([7.999997 , 3.9999993], dtype=float32)
    """

    output_size: Pair
    scales: Sequence[float]
    sampling_ratio: int
    pooler_type: str
    canonical_box_size: int = 224
    canonical_level: int = 4

    def __call__(self, x: Sequence[Any], box_lists: Sequence[Any]) -> Any:
        """Pool boxes from maps.

        Parameters
        ----------
        x : sequence of arrays, shape (N, C, H_l, W_l)
            The maps, one for each of the scales.
        box_lists : list of N arrays, shape (L, 4), or of objects with one as ``tensor``
            Rows ``(x1, y1, x2, y2)``, one array per image; in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `x`, float32 for integers and bool.

        Raises
        ------
        ValueError
            A shape, value or option that makes no sense, or a non-finite box.
        TypeError
            An array of the wrong kind or dtype.
        """
        pooler_type = _checks.choice("pooler_type", self.pooler_type, tuple(POOLERS))
        op, options = POOLERS[pooler_type]
        if op == "roi_align":
            options = options | {"sampling_ratio": self.sampling_ratio}
        boxes = [getattr(each, "tensor", each) for each in box_lists]
        own = _levels(self.scales)
        if len(x) != len(own):
            raise ValueError(f"x must be {len(own)} maps, one for each of scales, got {len(x)}")
        levels = roi_numba.assign_levels(
            boxes,
            min_level=own[0],
            max_level=own[-1],
            canonical_size=self.canonical_box_size,
            canonical_level=self.canonical_level,
            epsilon=1e-8,
            epsilon_inside=True,
        )
        home = operators(x[0])
        return home.pyramid_pool(
            getattr(home, op),
            x,
            boxes,
            self.output_size,
            spatial_scales=self.scales,
            levels=levels - own[0],
            **options,
        )


def _levels(scales: Sequence[float]) -> list[int]:
    """The levels of maps, from their scales."""
    if not len(scales):
        raise ValueError("scales must be one for each map, got none")
    known = [_checks.scale(f"scales[{i}]", scale) for i, scale in enumerate(scales)]
    levels = [-round(math.log2(scale)) for scale in known]
    if levels != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"scales must halve from each map to the next, got {known}")
    return levels
