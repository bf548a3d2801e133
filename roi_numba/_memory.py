"""Where the arrays of a call lie, and who computes there: host memory here, a device in `_cuda`.

The public functions are written once, for a `Memory`; which one it is, `input` decides.
"""

import os
import threading
from functools import cached_property
from typing import Any

import numpy as np

from . import _arrays, _checks

first_use = threading.RLock()
"""Held while an engine is imported.  No fork happens then: the child would wait for ever for a
module that nobody goes on importing."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=first_use.acquire,
        after_in_parent=first_use.release,
        after_in_child=first_use.release,
    )


class Memory:
    """Host memory; `_cuda.arrays.DeviceMemory` offers the same for that of a CUDA device.

    A call enters the memory of its input first and leaves it last.
    """

    checks = True
    """Whether boxes are checked unless the caller says."""

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    # ---- arrays ------------------------------------------------------------------------------

    def source(self, name: str, array: Any) -> Any:
        """The caller's array as an engine reads it: over the same memory, if that can be."""
        if type(array) is not np.ndarray or not array.dtype.isnative or array.dtype.kind == "V":
            array = _arrays.native(_arrays.host(name, array))
        return array if _arrays.addressable(array) else array.copy()

    def boxes(self, name: str, array: Any) -> Any:
        """As `source`, of what may also lie in host memory, and stays there until it is needed."""
        if type(array) is np.ndarray and array.dtype.isnative and array.dtype.kind != "V":
            return array  # nearly every small call, and small calls count microseconds
        return _arrays.native(_arrays.host(name, array))

    def brought(self, array: Any) -> Any:
        """What `boxes` gave, here."""
        return array

    def target(self, name: str, array: Any) -> Any:
        """The caller's array, to write a result to."""
        array = _arrays.host(name, array)
        _checks.writeable(name, array)
        return array

    def direct(self, target: Any) -> bool:
        """Whether an engine can write to it."""
        return _arrays.addressable(target)

    def apart(self, name: str, array: Any, other_name: str, other: Any) -> None:
        """ValueError if the arrays share memory."""
        _checks.apart(name, array, other_name, other)

    def empty(self, shape: Any, dtype: Any) -> Any:
        """Return a new array, to be filled."""
        if 0 in shape:  # nothing to compute, so no engine is imported
            return np.empty(shape, dtype)
        return self.engine.empty(shape, dtype)

    zeros: Any = staticmethod(np.zeros)
    """New arrays of zeros, of a shape and dtype."""

    handing_back = staticmethod(_arrays.handing_back)
    """How a result from here becomes an array of the library that an input came from."""

    def returned(self, given: Any, array: Any) -> Any:
        """An array from here as one like the caller's `given`; NumPy's for nested lists."""
        return array if isinstance(given, (list, tuple)) else self.handing_back(given)(array)

    # ---- boxes -------------------------------------------------------------------------------

    def regions(
        self, boxes: Any, numbers: Any, images: int, check: bool, indices: str = "batch_indices"
    ) -> tuple[Any, Any]:
        """Corners (K, 4) and image numbers (K,) of boxes in any form, as an engine takes them.

        `indices` is what messages call the numbers.  Here they are int64, and boxes that are to
        give zeros have -1.
        """
        corners, numbers, name = _checks.regions(boxes, numbers, images, self, indices)
        numbers = _checks.box_values(corners, numbers, name, images, check)
        return np.ascontiguousarray(corners), numbers

    def joined(self, parts: list[Any], counts: list[int]) -> tuple[Any, Any]:
        """Corners and image numbers of the images' boxes; how many, and those that are there."""
        corners = np.concatenate(parts) if parts else np.empty((0, 4))
        return corners, np.repeat(np.arange(len(counts)), counts)

    def levels(
        self, levels: Any, boxes: int, maps: int, images: Any, check: bool
    ) -> tuple[Any, Any]:
        """The number of each box's map, and the images: -1 for a box whose map is none of `maps`.

        `levels` are what `boxes` gave; without them all boxes are on the first.
        """
        if levels is None:
            return np.zeros(boxes, np.int64), images
        _checks.level_numbers("levels", levels, boxes)
        if check:
            _checks.level_values("levels", levels, maps)
        there = (levels >= 0) & (levels < maps)
        return np.where(there, levels, 0).astype(np.int64), np.where(there, images, -1)

    def only(self, images: Any, wanted: Any) -> Any:
        """Images of the boxes that are wanted, -1 for others."""
        return np.where(wanted, images, -1)

    # ---- the engine --------------------------------------------------------------------------

    @cached_property
    def engine(self) -> Any:
        """The engine, imported by the first call that computes."""
        with first_use:
            from ._cpu import engine
        return engine

    @cached_property
    def crops(self) -> Any:
        """What it has for crops."""
        with first_use:
            from ._cpu import crop
        return crop

    @cached_property
    def gradients(self) -> Any:
        """Its way back."""
        with first_use:
            from ._cpu import gradients
        return gradients

    def manner(self, deterministic: bool) -> dict[str, Any]:
        """How its way back is to be gone: here always the same."""
        return {}


HOST = Memory()

_cuda_arrays: Any = None
"""The module of that name, once there was an array on a device."""


def memory_of(name: str, array: Any) -> Memory:
    """The memory that an array lies in."""
    if type(array) is np.ndarray:
        return HOST
    if _cuda_arrays is None or type(array) is not _cuda_arrays.ndarray:
        _arrays.owner(name, array)
        if _arrays.on_host(array):
            return HOST
        kind = array.__dlpack_device__()[0]
        if kind not in _arrays.CUDA_DEVICES:
            raise TypeError(
                f"{name} must be in host memory or on a CUDA device, got a "
                f"{type(array).__module__} array on a device of another kind ({int(kind)})"
            )
        _import_cuda(name, array)
    memory: Memory = _cuda_arrays.memory_of(array)
    return memory


def _import_cuda(name: str, array: Any) -> None:
    """Import what computes on devices, or say which extra is missing."""
    global _cuda_arrays
    try:
        with first_use:
            from ._cuda import arrays
    except ImportError as error:
        raise ImportError(
            f"{name} must be in host memory, got a {type(array).__module__} array on a device: "
            f"{error}"
        ) from error
    _cuda_arrays = arrays
