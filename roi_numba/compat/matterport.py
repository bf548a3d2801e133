"""`mrcnn.model` of matterport's Mask R-CNN: PyramidROIAlign.

Boxes (N, R, 4) are rows (y1, x1, y2, x2) from 0 to 1, maps P2 to P5 (N, H, W, C), the result
(N, R, height, width, C). A box is cropped from the level that its size in the image asks for: one
sample a bin, from corner to corner of the box. Rows of zeros, which fill up an image's boxes,
sample the first pixel of P2.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import roi_numba

from .. import _checks
from .._docstrings import like
from . import Row
from ._arrays import as_array, count_of, library, operators

__all__ = ["PyramidROIAlign"]

PEER = "mrcnn.model"

TABLE = (
    Row(
        "PyramidROIAlign([7, 7])([normalized.reshape(2, 12, 4), image_meta, *images])"
        ".reshape(24, 7, 7, 3)",
        "np.choose(roi_numba.assign_levels(normalized, canonical_size=224/1024, min_level=2, "
        'max_level=5, rounding="round")[:, None, None, None] - 2, '
        "[roi_numba.crop_and_resize(image, normalized, 7, box_indices=np.repeat([0, 1], 12), "
        'edges="tensorflow") for image in images])',
        "Levels are rounded where the FPN paper rounds down. Theirs crops each box once only.",
    ),
)


@like("crop_and_resize")
@dataclass
class PyramidROIAlign:
    """`mrcnn.model.PyramidROIAlign`, without being a layer of Keras.

    Parameters
    ----------
    pool_shape : int or (int, int)
        Bins per box, (pooled_height, pooled_width).

    Notes
    -----
    The level of a box is ``round(4 + log2(sqrt(area) / (224 / sqrt(height * width))))``, from 2 to
    5, where height and width are the image's in pixels and the area the box's, from 0 to 1.  It is
    cropped by `roi_numba.crop_and_resize` with ``edges="tensorflow"``.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import matterport
    >>> maps = [np.full((1, 256 // s, 256 // s, 1), s) for s in (4, 8, 16, 32)]
    >>> boxes = np.array([[[0.0, 0, 0.875, 0.875], [0.1, 0.1, 0.2, 0.2]]])
    >>> image_meta = np.array([[0, 0, 0, 0, 256, 256]])
    >>> matterport.PyramidROIAlign((1, 1))([boxes, image_meta, *maps]).ravel()
    array([16.,  4.], dtype=float32)
    """

    pool_shape: Any

    def __call__(self, inputs: Any) -> Any:
        """Pool boxes from maps.

        Parameters
        ----------
        inputs : list of six arrays, shapes (N, R, 4), (N, 6 or more), four times (N, H_l, W_l, C)
            ``[boxes, image_meta, P2, P3, P4, P5]``: rows ``(y1, x1, y2, x2)`` from 0 to 1; height
            and width of the images, in pixels, in columns 4 and 5 of the first row; the maps.

        Returns
        -------
        output : array of float32, shape (N, R, pooled_height, pooled_width, C)
            In the library of the maps.
        """
        if len(inputs) < 2:
            raise ValueError(
                f"inputs must be boxes, image_meta and maps, got {len(inputs)} of them"
            )
        boxes, image_meta, *feature_maps = inputs
        home = library("boxes", boxes)
        if len(boxes.shape) != 3 or boxes.shape[2] != 4:
            raise ValueError(f"boxes must have shape (N, R, 4), got {tuple(boxes.shape)}")
        if len(feature_maps) != 4:
            raise ValueError(f"inputs must have four feature maps, got {len(feature_maps)}")
        rows = boxes.reshape(-1, 4)
        for level, features in enumerate(feature_maps, 2):
            if count_of(f"P{level}", features, "(N, H, W, C)") != boxes.shape[0]:
                raise ValueError(
                    f"boxes must be of as many images as P{level}, {features.shape[0]}, "
                    f"got {boxes.shape[0]}"
                )
        image_meta = as_array("image_meta", image_meta)
        library("image_meta", image_meta)
        if len(image_meta.shape) != 2 or not image_meta.shape[0] or image_meta.shape[1] < 6:
            shape = tuple(image_meta.shape)
            raise ValueError(f"image_meta must have shape (N, 6 or more), got {shape}")
        height, width = (
            _checks.scale(f"image_meta[0, {column}]", image_meta[0, column]) for column in (4, 5)
        )
        levels = roi_numba.assign_levels(
            rows,
            canonical_size=224 / sqrt(height * width),
            min_level=2,
            max_level=5,
            rounding="round",
        )
        order = home.argsort(levels)
        pooled = []
        for level, features in enumerate(feature_maps, 2):
            here = order[levels[order] == level]
            pooled.append(
                operators(features).crop_and_resize(
                    features,
                    rows[here],
                    self.pool_shape,
                    box_indices=here // boxes.shape[1],
                    edges="tensorflow",
                )
            )
        together = home.concatenate(pooled)[home.argsort(order)]
        return together.reshape(*boxes.shape[:2], *together.shape[1:])
