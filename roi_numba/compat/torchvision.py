"""`torchvision.ops`: roi_align, roi_pool, their modules and MultiScaleRoIAlign."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import Any

import roi_numba

from .. import _checks
from .._docstrings import like
from . import Row
from ._arrays import count_of, operators

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


@like("roi_align")
def roi_align(
    input: Any,
    boxes: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    """`torchvision.ops.roi_align`: the mean of bilinear samples in each bin.

    Parameters
    ----------
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image;
        in image pixels.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `input`, float32 for integers and bool.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import torchvision
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> torchvision.roi_align(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2, aligned=True)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
    return operators(input).roi_align(
        input, boxes, output_size, spatial_scale, sampling_ratio, aligned
    )


@like("roi_pool")
def roi_pool(
    input: Any, boxes: Any, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> Any:
    """`torchvision.ops.roi_pool`: the largest cell of each bin.

    Parameters
    ----------
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image;
        in image pixels.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `input`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"``, which for some sizes reads a cell more.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import torchvision
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> torchvision.roi_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return operators(input).roi_pool(input, boxes, output_size, spatial_scale, bins="float")


@like("roi_align")
@dataclass
class RoIAlign:
    """`torchvision.ops.RoIAlign`, without being a module of torch.

    Parameters
    ----------
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import torchvision
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> torchvision.RoIAlign(2, 1.0, 2, aligned=True)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """

    output_size: int | tuple[int, int]
    spatial_scale: float
    sampling_ratio: int
    aligned: bool = False

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`.

        Parameters
        ----------
        rois : array, shape (K, 5), or list of N arrays, shape (L, 4)
            Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per
            image; in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `input`, float32 for integers and bool.
        """
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )


@like("roi_pool")
@dataclass
class RoIPool:
    """`torchvision.ops.RoIPool`, without being a module of torch.

    Parameters
    ----------
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"``, which for some sizes reads a cell more.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import torchvision
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> torchvision.RoIPool(2, 1.0)(ramp, np.array([[0, 1.0, 1, 4, 4]]))
    array([[[[22., 24.],
             [42., 44.]]]])
    """

    output_size: int | tuple[int, int]
    spatial_scale: float

    def __call__(self, input: Any, rois: Any) -> Any:
        """Pool `rois` from `input`.

        Parameters
        ----------
        rois : array, shape (K, 5), or list of N arrays, shape (L, 4)
            Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per
            image; in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `input`, float32 for integers and bool.
        """
        return roi_pool(input, rois, self.output_size, self.spatial_scale)


@like("pyramid_pool", without=("Notes", "Raises"))
@dataclass
class MultiScaleRoIAlign:
    """`torchvision.ops.MultiScaleRoIAlign`, without being a module of torch.

    Parameters
    ----------
    featmap_names : sequence of str
        The maps to pool from, by their names in what is pooled.
    sampling_ratio : int
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.
    canonical_scale : int, default 224
        The size in image pixels, square root of the area, at which boxes of `canonical_level`
        begin.
    canonical_level : int, default 4
        The level of a box of that size.

    Notes
    -----
    The scale of a map is its height over that of the highest image, rounded to a power of two.
    A level is ``floor(canonical_level + log2(sqrt(area) / canonical_scale) + 1e-6)``, within those
    that there are; a map is pooled by `roi_numba.roi_align`, not aligned.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import torchvision
    >>> maps = {name: np.full((1, 1, 256 // s, 256 // s), s) for name, s in (("p2", 4), ("p3", 8))}
    >>> boxes = [np.array([[0.0, 0, 224, 224], [9, 9, 60, 50]])]
    >>> pool = torchvision.MultiScaleRoIAlign(["p2", "p3"], 1, 2)
    >>> pool(maps, boxes, [(256, 256)]).ravel()
    array([8., 4.], dtype=float32)
    """

    featmap_names: Sequence[str]
    output_size: int | tuple[int, int]
    sampling_ratio: int
    canonical_scale: int = field(default=224, kw_only=True)
    canonical_level: int = field(default=4, kw_only=True)

    def __call__(
        self, x: Mapping[str, Any], boxes: list[Any], image_shapes: Sequence[tuple[int, int]]
    ) -> Any:
        """Pool boxes from the maps that are named.

        Parameters
        ----------
        x : mapping of str to array, shape (N, C, H_l, W_l)
            The maps, from fine to coarse; others than those named are not looked at.
        boxes : list of N arrays, shape (L, 4)
            Rows ``(x1, y1, x2, y2)``, one array per image; in image pixels.
        image_shapes : sequence of (int, int)
            Height and width of each image, in image pixels.

        Returns
        -------
        output : array, shape (K, C, pooled_height, pooled_width)
            In the library and dtype of `x`, float32 for integers and bool.

        Raises
        ------
        ValueError
            A shape or value that makes no sense, a non-finite box, or no map that is named.
        TypeError
            An array of the wrong kind or dtype.
        """
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
        scales = [
            _checks.scale("heights of the maps in x", each.shape[-2] / max(heights))
            for each in maps
        ]
        levels = [-round(log2(scale)) for scale in scales]
        # Some detectors have two maps of one level: the first is pooled, as there.
        if not 0 <= levels[-1] - levels[0] < len(levels):
            raise ValueError(
                "x must have a map for each level from that of the first to that of the last, got "
                f"levels {levels}"
            )
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
