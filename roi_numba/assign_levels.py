"""Which level of a feature pyramid a box is pooled from, by its size (Lin et al., 2017)."""

from typing import Any

import numpy as np

from . import _checks
from ._memory import memory_of

ROUNDINGS = ("floor", "round")


def assign_levels(
    boxes: Any,
    *,
    min_level: int,
    max_level: int,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
    rounding: str = "floor",
    epsilon: float = 0.0,
    epsilon_inside: bool = False,
    pixel_offset: bool = False,
) -> Any:
    """Return the pyramid level of each box, from the square root of its area.

    Parameters
    ----------
    boxes : array, shape (K, 4) or (K, 5), or list of arrays, shape (L, 4)
        Two corners ``(x1, y1, x2, y2)``, in (K, 5) after a batch index, in the unit of
        `canonical_size`, image pixels.  A list is one array after the other; all may be nested
        lists of numbers.
    min_level : int
        The lowest level, of everything smaller.
    max_level : int
        The highest level, of everything larger.
    canonical_size : float, default 224.0
        The size, square root of the area, at which boxes of `canonical_level` begin.
    canonical_level : int, default 4
        The level of a box of `canonical_size`.
    rounding : {"floor", "round"}, default "floor"
        How the logarithm becomes a level: "floor", or "round" to the nearest, halves to even.
    epsilon : float, default 0.0
        Added to the logarithm, so that sizes just below a boundary count as above.
    epsilon_inside : bool, default False
        Add `epsilon` inside the logarithm instead, to the size relative to `canonical_size`.
    pixel_offset : bool, default False
        A box ends one further in each direction: corners are the first and the last pixel.

    Returns
    -------
    levels : array of int64, shape (K,)
        In the library of ``boxes`` and on its device; NumPy's for an empty list.

    Raises
    ------
    ValueError
        A shape or value that makes no sense.
    TypeError
        An argument of the wrong type, or boxes of the wrong dtype.

    See Also
    --------
    roi_align, roi_pool

    Notes
    -----
    The level is ``floor(canonical_level + log2(sqrt(area) / canonical_size))``, computed in
    float64.  A box without area, with its corners reversed or with a NaN has the lowest level.
    Other libraries have, besides the levels of their pyramid,

    =======================  ==================================================================
    FPN paper                the defaults
    torchvision              ``epsilon=1e-6``
    detectron2               ``epsilon=1e-8, epsilon_inside=True``
    Detectron                ``epsilon=1e-6, epsilon_inside=True, pixel_offset=True``
    tensorpack               ``epsilon=1e-6, epsilon_inside=True``
    mmdetection              the same and ``canonical_size=56, canonical_level=0``; levels from 0
    Paddle                   the same as tensorpack, ``pixel_offset`` its argument of that name
    matterport's Mask RCNN   ``rounding="round", canonical_size=224 / sqrt(height * width)`` of
                             the image, for boxes from 0 to 1
    medicaldetectiontoolkit  ``rounding="round", canonical_size=1``, for boxes from 0 to 1
    =======================  ==================================================================

    References
    ----------
    Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object
    Detection", CVPR 2017, arXiv:1612.03144, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> boxes = np.array([[0.0, 0, 224, 224], [10, 10, 233, 233], [0, 0, 665, 665], [5, 5, 5, 5]])
    >>> roi_numba.assign_levels(boxes, min_level=2, max_level=5)
    array([4, 3, 5, 2])
    >>> roi_numba.assign_levels(boxes, min_level=2, max_level=5, rounding="round")
    array([4, 4, 5, 2])
    """
    # An image's coordinates are no level: bounds beyond these are a mistake somewhere.
    min_level = _checks.whole("min_level", min_level, -1000)
    max_level = _checks.whole("max_level", max_level, min_level)
    canonical_size = _checks.scale("canonical_size", canonical_size)
    canonical_level = _checks.whole("canonical_level", canonical_level, -1000)
    rounding = _checks.choice("rounding", rounding, ROUNDINGS)
    epsilon = _checks.scale("epsilon", epsilon, zero=True)
    inside = _checks.flag("epsilon_inside", epsilon_inside)
    further = 1.0 if _checks.flag("pixel_offset", pixel_offset) else 0.0
    if isinstance(boxes, (list, tuple)) and any(map(_is_row, boxes)):
        boxes = _checks.nested("boxes", boxes)
    several = isinstance(boxes, (list, tuple))
    given = list(boxes) if several else [boxes]
    names = [f"boxes[{i}]" if several else "boxes" for i in range(len(given))]
    for i, each in enumerate(given):
        if several and isinstance(each, (list, tuple)):
            given[i] = _checks.nested(names[i], each)
    # No gradient passes a level, so tensors that have one are welcome.
    arrays = [
        each.detach() if getattr(each, "requires_grad", False) else each for each in given
    ] or [np.empty((0, 4))]
    with memory_of(names[0] if names else "boxes", arrays[0]) as memory:
        parts = []
        for name, array in zip(names, arrays, strict=False):
            part = memory.boxes(name, array)
            _checks.box_corners(name, part, several)
            part = memory.brought(_checks.geometry(name, part)).astype(np.float64)
            parts.append(part[:, -4:])
        corners = parts[0] if len(parts) == 1 else memory.joined(parts, [len(p) for p in parts])[0]
        # NumPy's functions, which CuPy's arrays answer in CuPy.
        with np.errstate(all="ignore"):
            width, height = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
            area = (width + further) * (height + further)
            size = np.sqrt(area) / canonical_size
            level = canonical_level + np.log2(size + epsilon if inside else size)
            level = level if inside else level + epsilon
            level = np.floor(level) if rounding == "floor" else np.rint(level)
            real = (width >= 0) & (height >= 0) & (area > 0)
            level = np.where(real, np.minimum(level, max_level), min_level)
            levels = np.maximum(level, min_level).astype(np.int64)
        return memory.handing_back(arrays[0])(levels)


def _is_row(value: Any) -> bool:
    """Whether it is a list of numbers."""
    return isinstance(value, (list, tuple)) and any(not hasattr(n, "__len__") for n in value)
