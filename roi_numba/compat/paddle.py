"""`paddle.vision.ops`: roi_align, roi_pool and their layers.

The boxes of all images follow each other, and `boxes_num` says how many each image has.
"""

from dataclasses import dataclass
from typing import Any

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
    """`paddle.vision.ops.roi_align`; `name` names nothing here."""
    return operators(x).roi_align(
        x,
        boxes,
        output_size,
        spatial_scale,
        sampling_ratio,
        aligned,
        batch_indices=images("boxes_num", boxes_num, boxes, x),
    )


def roi_pool(
    x: Any,
    boxes: Any,
    boxes_num: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    name: str | None = None,
) -> Any:
    """`paddle.vision.ops.roi_pool`; `name` names nothing here."""
    return operators(x).roi_pool(
        x,
        boxes,
        output_size,
        spatial_scale,
        bins="float",
        batch_indices=images("boxes_num", boxes_num, boxes, x),
    )


@dataclass
class RoIAlign:
    """`paddle.vision.ops.RoIAlign`, without being a layer of Paddle."""

    output_size: int | tuple[int, int]
    spatial_scale: float = 1.0

    def __call__(self, x: Any, boxes: Any, boxes_num: Any, aligned: bool = True) -> Any:
        """Pool `boxes` from `x`."""
        return roi_align(x, boxes, boxes_num, self.output_size, self.spatial_scale, aligned=aligned)


@dataclass
class RoIPool:
    """`paddle.vision.ops.RoIPool`, without being a layer of Paddle."""

    output_size: int | tuple[int, int]
    spatial_scale: float = 1.0

    def __call__(self, x: Any, boxes: Any, boxes_num: Any) -> Any:
        """Pool `boxes` from `x`."""
        return roi_pool(x, boxes, boxes_num, self.output_size, self.spatial_scale)
