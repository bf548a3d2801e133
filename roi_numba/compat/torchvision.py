"""`torchvision.ops`: roi_align, roi_pool, their modules and MultiScaleRoIAlign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import roi_numba

from .. import _checks
from . import Row
from ._arrays import count_of, operators, pyramid_levels

__all__ = ["MultiScaleRoIAlign", "RoIAlign", "RoIPool", "roi_align", "roi_pool"]

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
    Row(
        'MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)(dict(zip("0123", inputs)), by_image, '
        "[(256, 320), (250, 300)])",
        "roi_numba.pyramid_pool(roi_numba.roi_align, inputs, by_image, 7, "
        "spatial_scales=[1/4, 1/8, 1/16, 1/32], levels=roi_numba.assign_levels("
        "by_image, min_level=2, max_level=5, epsilon=1e-6) - 2, sampling_ratio=2)",
        "Scales are found from the heights of the maps and of the highest image, and rounded to "
        "powers of two, in every call (torchvision keeps those of the first). A box reversed on "
        "both axes has a positive area in torchvision; here it is on the lowest level.",
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


@dataclass
class MultiScaleRoIAlign:
    """`torchvision.ops.MultiScaleRoIAlign`, without being a module of torch."""

    featmap_names: Sequence[str]
    output_size: int | tuple[int, int]
    sampling_ratio: int
    canonical_scale: int = field(default=224, kw_only=True)
    canonical_level: int = field(default=4, kw_only=True)

    def __call__(
        self, x: Mapping[str, Any], boxes: list[Any], image_shapes: Sequence[tuple[int, int]]
    ) -> Any:
        """Pool `boxes`, one array for each image, from the maps of `x`."""
        names = self.featmap_names
        maps = [x[name] for name in x if name in ([names] if isinstance(names, str) else names)]
        if not maps:
            raise ValueError(f"featmap_names must name maps of x, got {names!r} for {list(x)}")
        if not image_shapes:
            raise ValueError("image_shapes must be one (height, width) for each image, got none")
        heights = [
            _checks.int_pair(f"image_shapes[{i}]", shape, minimum=1)[0]
            for i, shape in enumerate(image_shapes)
        ]
        for each in maps:
            count_of("each map of x", each)
        scales = [each.shape[-2] / max(heights) for each in maps]
        levels = pyramid_levels("heights of the maps in x, relative to image_shapes,", scales)
        assigned = roi_numba.assign_levels(
            boxes,
            min_level=levels[0],
            max_level=levels[-1],
            canonical_size=self.canonical_scale,
            canonical_level=self.canonical_level,
            epsilon=1e-6,
        )
        home = operators(maps[0])
        return home.pyramid_pool(
            home.roi_align,
            maps,
            boxes,
            self.output_size,
            spatial_scales=[2.0**-level for level in levels],
            levels=assigned - levels[0],
            sampling_ratio=self.sampling_ratio,
        )
