"""`tensorflow.image`: crop_and_resize.

`name`, which names a node of a graph, is ignored. TensorFlow's own tensors have no library to go
back to through DLPack: pass their `.numpy()`.
"""

from typing import Any

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


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_indices: Any,
    crop_size: Any,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    name: str | None = None,
) -> Any:
    """`tensorflow.image.crop_and_resize`; lists are taken for all arrays, too."""
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
