"""`detectron2.layers`: ROIAlign."""

from dataclasses import dataclass
from typing import Any

from . import Row
from ._arrays import operators

__all__ = ["ROIAlign"]

PEER = "detectron2.layers"

TABLE = (
    Row(
        "ROIAlign(7, 1/16, 0)(input, boxes)",
        "roi_numba.roi_align(input, boxes, 7, 1/16, aligned=True)",
        "`aligned` is True by default. Boxes are not rounded to the dtype of the input first.",
    ),
)

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
