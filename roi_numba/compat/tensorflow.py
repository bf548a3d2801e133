"""`tensorflow.image`: crop_and_resize.

`name`, which names a node of a graph, is ignored. TensorFlow's own tensors have no library to go
back to through DLPack: pass their `.numpy()`.
"""

from typing import Any

from .._docstrings import like
from . import Row
from ._arrays import as_array, operators, size

__all__ = ["crop_and_resize"]

PEER = "tensorflow.image"

TABLE = (
    Row(
        "crop_and_resize(image, normalized, indices, [14, 14])",
        'roi_numba.crop_and_resize(image, normalized, 14, box_indices=indices, edges="tensorflow")',
        "Rounding may put the last row or column of a box that ends with the image outside it; "
        'not so with `edges="exact"`, our default.',
    ),
    Row(
        'crop_and_resize(image, normalized, indices, [7, 5], "nearest", -1.0)',
        "roi_numba.crop_and_resize(image, normalized, (7, 5), box_indices=indices, "
        'method="nearest", extrapolation_value=-1.0, edges="tensorflow")',
    ),
)


@like("crop_and_resize")
def crop_and_resize(
    image: Any,
    boxes: Any,
    box_indices: Any,
    crop_size: Any,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    name: str | None = None,
) -> Any:
    """`tensorflow.image.crop_and_resize`: one sample for each pixel of a crop.

    All arrays may be nested lists of numbers.

    Parameters
    ----------
    image : array, shape (N, H, W, C)
        Images: integer, bool, float16, bfloat16, float32 or float64, with any strides.
    crop_size : int or (int, int), or array of them
        Pixels of a crop, (crop_height, crop_width).
    name : str, optional
        Ignored.

    Returns
    -------
    crops : array of float32, shape (K, crop_height, crop_width, C)
        In the library of `image`.

    Notes
    -----
    `roi_numba.crop_and_resize` with ``edges="tensorflow"``.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import tensorflow
    >>> image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    >>> tensorflow.crop_and_resize(image, [[0.0, 0, 1, 1]], [0], [2, 2])[..., 0]
    array([[[ 0.,  3.],
            [ 8., 11.]]], dtype=float32)
    """
    image = as_array("image", image)
    return operators(image).crop_and_resize(
        image,
        as_array("boxes", boxes),
        size(crop_size),
        box_indices=as_array("box_indices", box_indices),
        method=method,
        extrapolation_value=extrapolation_value,
        edges="tensorflow",
    )
