"""`mmcv.ops`: roi_align, roi_pool, prroi_pool and their modules."""

from dataclasses import dataclass
from typing import Any

from .. import _checks
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


def roi_align(
    input: Any,
    rois: Any,
    output_size: Pair,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Any:
    """`mmcv.ops.roi_align`."""
    return operators(input).roi_align(
        input,
        rois,
        output_size,
        spatial_scale,
        sampling_ratio,
        aligned,
        reduce=REDUCTIONS[_checks.choice("pool_mode", pool_mode, tuple(REDUCTIONS))],
    )


def roi_pool(input: Any, rois: Any, output_size: Pair, spatial_scale: float = 1.0) -> Any:
    """`mmcv.ops.roi_pool`."""
    return operators(input).roi_pool(input, rois, output_size, spatial_scale, rounding="none")


def prroi_pool(features: Any, rois: Any, output_size: Pair, spatial_scale: float = 1.0) -> Any:
    """`mmcv.ops.prroi_pool`."""
    return operators(features).prroi_pool(features, rois, output_size, spatial_scale)


@dataclass
class RoIAlign:
    """`mmcv.ops.RoIAlign`, without being a module of torch; `use_torchvision` knows no maximum."""

    output_size: Pair
    spatial_scale: float = 1.0
    sampling_ratio: int = 0
    pool_mode: str = "avg"
    aligned: bool = True
    use_torchvision: bool = False

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`."""
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


@dataclass
class RoIPool:
    """`mmcv.ops.RoIPool`, without being a module of torch."""

    output_size: Pair
    spatial_scale: float = 1.0

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)


@dataclass
class PrRoIPool:
    """`mmcv.ops.PrRoIPool`, without being a module of torch."""

    output_size: Pair
    spatial_scale: float = 1.0

    def __call__(self, features: Any, rois: Any) -> Any:
        """Pool `rois` from `features`."""
        return prroi_pool(features, rois, self.output_size, self.spatial_scale)
