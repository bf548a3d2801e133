"""Kernels run as plain Python on NumPy arrays: slow, and strict about what no GPU looks at."""

from __future__ import annotations

import operator
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import flat_memory
from .bits import VECTOR
from .compile import Kernel, cuda


def check(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Raise TypeError unless a launch would put into the registers what the kernel expects there.

    CuPy sends the address of an array whatever its dtype, a NumPy number in its own bytes, an int
    as 8 bytes, an address or of which a kernel may read the lower 4, and a float as a float64.
    """
    if len(grid) not in (1, 2, 3) or not all(type(blocks) is int for blocks in grid):
        raise TypeError(f"{kernel}: the grid must be one to three ints, got {grid!r}")
    most = (2**31 - 1, 65535, 65535)
    if not all(0 <= blocks <= limit for blocks, limit in zip(grid, most, strict=False)):
        raise TypeError(f"{kernel}: a grid cannot be {grid}")
    if len(arguments) != len(kernel.parameters):
        count = len(kernel.parameters)
        raise TypeError(f"{kernel}: {count} arguments are expected, got {len(arguments)}")
    for number, (parameter, value) in enumerate(zip(kernel.parameters, arguments, strict=True)):
        if not _fits(parameter, value):
            got = f"{type(value).__name__} {getattr(value, 'dtype', value)}"
            raise TypeError(f"{kernel}: argument {number} must be {parameter}, got {got}")


def _fits(parameter: str, value: Any) -> bool:
    name = parameter.removesuffix("*")
    if name != parameter:
        if type(value) is int:  # an address
            return bool(value >= 0 and not value % np.dtype(name).itemsize)
        if not hasattr(value, "__dlpack__") or not value.dtype.isnative:
            return False
        dtype = value.dtype
        held = dtype.names[0] if dtype.names else dtype.name  # a record if NumPy knows no such
        return held == name or (name == "bfloat16" and held == "uint16")
    if type(value) is int and "int" in name:
        limits = np.iinfo(name)
        return bool(limits.min <= value <= limits.max)
    return type(value) is np.dtype(name).type


def empty(shape: Any, dtype: Any) -> NDArray[Any]:
    """An array of values that show where they are used: huge numbers, or not even numbers."""
    array = np.empty(shape, dtype)
    return np.full(array.nbytes, 0x7F, np.uint8).view(array.dtype).reshape(array.shape)


def scratch_arrays(parts: tuple[tuple[int, str], ...]) -> tuple[Any, ...]:
    """As `launch.scratch`, in arrays of their own: nothing gets from one part into the next."""
    return (None, *[empty((count,), dtype) for count, dtype in parts])


def address(array: Any) -> int:
    """Of an array's element [0, …, 0]."""
    at: int = array.__array_interface__["data"][0]
    return at


def joined(arrays: list[NDArray[Any]]) -> tuple[NDArray[Any], list[int]]:
    """One copy of the memory of all, and where their elements [0, …, 0] are in it."""
    parts, origins, start = [], [], 0
    for array in arrays:
        if array.size:
            flat, origin, _ = flat_memory(array)
            origins.append(start + origin)
            parts.append(flat.view(array.dtype))
            start += len(flat)
        else:
            origins.append(start)
    return np.concatenate([arrays[0].reshape(-1)[:0], *parts]), origins


class Memory:
    """An array as a kernel sees it: a pointer to its element [0, …, 0].

    Index i is i elements of memory further, or back if it is negative.  Only between the array's
    first and last element is there anything: elsewhere is an IndexError.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        if array.dtype.kind == "V":  # bfloat16
            array = array.view(np.uint16)
        self._flat, self._origin = array.reshape(-1)[:0], 0
        if array.size:
            axes = (None,) * (4 - array.ndim)
            flat, self._origin, _ = flat_memory(array[axes])
            self._flat = flat.view(array.dtype)
            self._flat.flags.writeable = array.flags.writeable
        self._array = array  # or its memory might go

    def _place(self, index: Any) -> int:
        place = self._origin + operator.index(index)
        if not 0 <= place < len(self._flat):
            last = len(self._flat) - 1 - self._origin
            raise IndexError(f"{index} is not in memory from {-self._origin} to {last}")
        return place

    def __getitem__(self, index: Any) -> Any:
        return self._flat[self._place(index)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._flat[self._place(index)] = value

    def vector(self, index: Any) -> NDArray[Any]:
        """The 16 bytes from an index on; ValueError where a GPU would stop at their address."""
        flat = self._flat
        first = self._place(index)
        last = self._place(operator.index(index) + VECTOR // flat.itemsize - 1)
        if address(flat[first:]) % VECTOR:
            raise ValueError(f"{index} is not at a multiple of {VECTOR} bytes")
        return flat[first : last + 1]


_one_launch = threading.Lock()
"""The simulator knows of one kernel at a time.  Its threads are Python's and need no lock."""


_one_array = threading.Lock()


def _shared_array(shared: Any, shape: Any, dtype: Any) -> NDArray[Any]:
    """What stands for ``cuda.shared.array``: one array for each place in a kernel.

    The simulator's own looks for it and then stores a new one, without a lock: of two threads that
    come at once each may have its own, and a sum over a block lacks a part (once in some hundred
    kernels; numba-cuda 0.30.4).
    """
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lineno
    with _one_array:
        if place not in shared._allocations:
            shared._allocations[place] = np.empty(shape, dtype)
        array: NDArray[Any] = shared._allocations[place]
        return array


def simulate(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Check and run a kernel."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    check(kernel, grid, arguments)
    FakeCUDAShared.array = _shared_array

    def quietly(*values: Any) -> None:
        with np.errstate(all="ignore"):  # a GPU divides by zero and overflows without a word
            body(*values)

    seen = [Memory(value) if isinstance(value, np.ndarray) else value for value in arguments]
    with _one_launch:
        body = cuda.jit(device=True)(kernel.body)
        cuda.jit(quietly)[grid, kernel.block](*seen)
