"""What modules do with arrays of whatever library: find its operators, reorder columns of boxes."""

from importlib import import_module
from typing import Any

from .. import _arrays

BINDINGS = {"torch", "jax"}
"""Libraries with operators of their own, which have gradients."""


def operators(input: Any) -> Any:
    """The module with the operators for an array: `roi_numba`, or its binding of that library."""
    library = _arrays.home(input).__name__.partition(".")[0]
    package = __package__.partition(".")[0]
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
