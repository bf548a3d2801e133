"""`detectron2.layers.ROIAlign` and `detectron2.modeling.poolers.ROIPooler`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import roi_numba

from .. import _checks
from . import Row
from ._arrays import operators, pyramid_levels

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


@dataclass
class ROIAlign:
    """`detectron2.layers.ROIAlign`, without being a module of torch."""

    output_size: Pair
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = True

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`."""
        return operators(input).roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )


@dataclass
class ROIPooler:
    """`detectron2.modeling.poolers.ROIPooler`, without being a module of torch."""

    output_size: Pair
    scales: Sequence[float]
    sampling_ratio: int
    pooler_type: str
    canonical_box_size: int = 224
    canonical_level: int = 4

    def __call__(self, x: Sequence[Any], box_lists: Sequence[Any]) -> Any:
        """Pool boxes, arrays or what has one as its `tensor`, one for each image, from maps."""
        pooler_type = _checks.choice("pooler_type", self.pooler_type, tuple(POOLERS))
        op, options = POOLERS[pooler_type]
        if op == "roi_align":
            options = options | {"sampling_ratio": self.sampling_ratio}
        boxes = [getattr(each, "tensor", each) for each in box_lists]
        own = pyramid_levels("scales", self.scales)
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
