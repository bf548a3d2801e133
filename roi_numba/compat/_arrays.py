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


def listed(name: str, boxes: Any, columns: int = 4) -> Any:
    """The library of an array of shape (K, 4), or of as many columns as are asked for."""
    home = library(name, boxes)
    if len(boxes.shape) != 2 or boxes.shape[1] != columns:
        raise ValueError(f"{name} must have shape (K, {columns}), got {tuple(boxes.shape)}")
    return home


def corners(name: str, boxes: Any, order: tuple[int, int, int, int]) -> Any:
    """Boxes of shape (K, 4) with columns in another order, in their own library."""
    stack = listed(name, boxes).stack
    return stack([boxes[:, column] for column in order], 1)


def converted(array: Any, dtype: Any) -> Any:
    """The array in a dtype of its library, or in `float`."""
    return array.astype(dtype) if hasattr(array, "astype") else array.to(dtype)


def as_array(name: str, values: Any) -> Any:
    """An array itself; nested lists of numbers as NumPy's."""
    if not isinstance(values, (list, tuple)):
        return values
    try:
        return np.asarray(values, None if len(values) else np.int64)
    except ValueError:
        raise ValueError(f"{name} must be an array, got a ragged list") from None


def count_of(name: str, maps: Any, shape: str = "(N, C, H, W)") -> int:
    """How many images there are."""
    library(name, maps)
    if len(maps.shape) != 4:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(maps.shape)}")
    return int(maps.shape[0])


def size(value: Any) -> Any:
    """A size as a tuple, where it may also be an array."""
    return tuple(value.tolist()) if getattr(value, "ndim", 0) == 1 else value


def images(name: str, counts: Any, boxes: Any, x: Any) -> Any:
    """The image in `x` of each of K boxes: the first ``counts[0]`` are of the first, and so on."""
    listed("boxes", boxes)
    N, K = count_of("x", x), boxes.shape[0]
    counts = as_array(name, counts)
    xp = library(name, counts)
    if len(counts.shape) != 1:
        raise ValueError(f"{name} must have shape (N,), got {tuple(counts.shape)}")
    kind = getattr(counts.dtype, "kind", None)  # torch's dtypes and Paddle's have but a name
    if kind not in ("i", "u") and (kind or "int" not in str(counts.dtype)):
        raise TypeError(f"{name} must be integers, got dtype {counts.dtype}")
    if counts.shape[0] != N:
        raise ValueError(
            f"{name} must have one number for each of {N} images, got {counts.shape[0]}"
        )
    if seen(counts):
        numbers = counts.tolist()
        if min(numbers, default=0) < 0:
            raise ValueError(f"{name} must not be negative, got {min(numbers)}")
        if sum(numbers) != K:
            raise ValueError(f"{name} must add up to {K} boxes, got {sum(numbers)}")
        return np.repeat(np.arange(N), numbers)
    if library("boxes", boxes) is not xp:
        raise TypeError(
            f"{name} must come from the library of boxes or lie in host memory, got "
            f"{type(counts).__name__} for {type(boxes).__name__}"
        )
    # By where each image's boxes end: the number of boxes is looked at nowhere, and nobody waits.
    place = xp.cumsum(xp.ones_like(boxes[:, 0], dtype=counts.dtype), 0)
    return (place[:, None] > xp.cumsum(counts, 0)[None, :]).sum(1)


def seen(array: Any) -> bool:
    """Whether an array's values are there to look at: not traced, in host memory."""
    if _arrays.is_traced(array):
        return False
    xp = library("array", array)
    if xp.__name__ == "torch" and hasattr(xp, "compiler"):  # another library has that name, too
        if xp.compiler.is_compiling() or hasattr(array, "fake_mode") or array.is_meta:
            return False
        if xp._C._functorch.is_functorch_wrapped_tensor(array):
            return False
    return _arrays.on_host(array)
