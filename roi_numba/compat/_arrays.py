"""What modules do with arrays of whatever library: find its operators, rearrange boxes."""

from importlib import import_module
from typing import Any

import numpy as np

from .. import _arrays

BINDINGS = {"torch", "jax"}
"""Libraries with operators of their own, which have gradients."""


def operators(input: Any) -> Any:
    """The module with the operators for an array: `roi_numba`, or its binding of that library."""
    library = _arrays.home(input).__name__.partition(".")[0]
    package = __name__.partition(".")[0]
    return import_module(f"{package}.{library}" if library in BINDINGS else package)


def library(name: str, array: Any) -> Any:
    """The module an array comes from, traced or with gradients too; TypeError if it is none."""
    return _arrays.home(array) if hasattr(array, "shape") else _arrays.owner(name, array)


def corners(name: str, boxes: Any, order: tuple[int, int, int, int]) -> Any:
    """Boxes of shape (K, 4) with columns in another order, in their own library."""
    stack = library(name, boxes).stack
    if len(boxes.shape) != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must have shape (K, 4), got {tuple(boxes.shape)}")
    return stack([boxes[:, column] for column in order], 1)


def converted(array: Any, dtype: Any) -> Any:
    """The array in a dtype of its library, or in `float`."""
    return array.astype(dtype) if hasattr(array, "astype") else array.to(dtype)


def images(name: str, counts: Any, boxes: Any) -> Any:
    """The image of each of K boxes: the first ``counts[0]`` are of the first, and so on."""
    if isinstance(counts, (list, tuple)):
        counts = np.asarray(counts)
    xp = library(name, counts)
    if len(counts.shape) != 1:
        raise ValueError(f"{name} must have shape (N,), got {tuple(counts.shape)}")
    if xp is np:
        if (counts < 0).any() or counts.sum() != boxes.shape[0]:
            K = boxes.shape[0]
            raise ValueError(f"{name} must add up to {K} boxes, got {counts.tolist()}")
        return np.repeat(np.arange(len(counts)), counts)
    # By where each image's boxes end: the number of boxes is looked at nowhere, and nobody waits.
    place = xp.cumsum(xp.ones_like(boxes[:, 0], dtype=counts.dtype), 0)
    return (place[:, None] > xp.cumsum(counts, 0)[None, :]).sum(1)
