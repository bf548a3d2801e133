"""`torchvision.ops`: roi_align, roi_pool and their modules."""

from dataclasses import dataclass
from typing import Any

from . import Row
from ._arrays import operators

__all__ = ["RoIAlign", "RoIPool", "roi_align", "roi_pool"]

PEER = "torchvision.ops"

TABLE = (
    Row(
        "roi_align(input, boxes, 7, 1/16, 2, True)",
        "roi_numba.roi_align(input, boxes, 7, 1/16, 2, True)",
        "The same call.",
    ),
    Row(
        "roi_pool(input, boxes, 7, 1/16)",
        'roi_numba.roi_pool(input, boxes, 7, 1/16, bins="float")',
        "Bins in floating point may reach a cell beyond the box; ours are exact by default.",
    ),
    Row(
        "RoIAlign(7, 1/16, 2)(input, by_image)",
        "roi_numba.roi_align(input, by_image, 7, 1/16, 2)",
        "Half a pixel off for images and maps of any scale: `aligned` is False by default.",
    ),
    Row(
        "RoIPool(7, 1/16)(input, boxes)", 'roi_numba.roi_pool(input, boxes, 7, 1/16, bins="float")'
    ),
)


def roi_align(
    input: Any,
    boxes: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    """`torchvision.ops.roi_align`."""
    return operators(input).roi_align(
        input, boxes, output_size, spatial_scale, sampling_ratio, aligned
    )


def roi_pool(
    input: Any, boxes: Any, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> Any:
    """`torchvision.ops.roi_pool`."""
    return operators(input).roi_pool(input, boxes, output_size, spatial_scale, bins="float")


@dataclass
class RoIAlign:
    """`torchvision.ops.RoIAlign`, without being a module of torch."""

    output_size: int | tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = False

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`."""
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )


@dataclass
class RoIPool:
    """`torchvision.ops.RoIPool`, without being a module of torch."""

    output_size: int | tuple[int, int]
    spatial_scale: float

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)
