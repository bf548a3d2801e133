"""Memory on the device and kernels that run there, on CuPy's current device and stream.

In the simulator NumPy takes CuPy's place.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np

from .compile import MISSING, SIMULATED, Kernel

__all__ = ["address", "empty", "launch", "scratch", "zeros"]

if SIMULATED:
    from .simulator import address, empty, joined, scratch_arrays, simulate

    zeros: Any = np.zeros
else:
    try:
        import cupy
    except ImportError as error:
        raise ImportError(MISSING) from error
    empty, zeros = cupy.empty, cupy.zeros

    def address(array: Any) -> int:
        """Of an array's element [0, …, 0]."""
        pointer: int = array.data.ptr
        return pointer


_functions: dict[tuple[Kernel, int], Any] = {}
"""Kernels as they are loaded on devices."""

_loading = threading.Lock()


ITEMSIZE = {"int32": 4, "int64": 8, "float32": 4, "float64": 8}


def launch(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Start a kernel; without a block there is nothing to start.

    Parameters
    ----------
    kernel : Kernel
        What to run.
    grid : tuple of int
        The number of blocks along x, or x, y and z: up to 2**31 - 1 along x and 65535 along the
        others, to which the caller sees.
    arguments : tuple
        For a pointer an array, whose element [0, …, 0] it points to, or an address; for an integer
        an int; for a float a NumPy number of exactly that type.  Nothing is converted and nothing
        is checked, except in the simulator.
    """
    if 0 in grid:
        return
    if SIMULATED:
        simulate(kernel, grid, arguments)
        return
    number = cupy.cuda.runtime.getDevice()
    function = _functions.get((kernel, number))
    if function is None:
        function = _loaded(kernel, number)
    function(grid, kernel.block, arguments)


def _loaded(kernel: Kernel, number: int) -> Any:
    """The kernel on the current device, whose number is given."""
    with _loading:  # a module that is loaded twice is unloaded once, while its kernel may run
        function = _functions.get((kernel, number))
        if function is None:
            digits = cupy.cuda.Device(number).compute_capability
            module = cupy.cuda.function.Module()
            module.load(kernel.cubin((int(digits[:-1]), int(digits[-1]))))
            function = _functions[kernel, number] = module.get_function(kernel.name)
        return function


_captured: list[Any] = []
"""What CUDA graphs write to at every replay: nobody tells when they are gone."""


def captured(memory: Any) -> bool:
    """Whether the call becomes part of a CUDA graph; if so its memory is kept from now on."""
    if SIMULATED:
        return False
    stream = cupy.cuda.get_current_stream()
    # The default streams, 0 and 1, cannot be captured, and to ask them fails while another is.
    capturing: bool = stream.ptr > 1 and stream.is_capturing()
    if capturing:
        _captured.append(memory)
    return capturing


def current() -> tuple[int, int]:
    """The device and the stream that launches go to."""
    if SIMULATED:
        return 0, 0
    return cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr


def memory_of_all(maps: list[Any]) -> tuple[Any, list[int]]:
    """Memory in which all arrays (`Flat`) lie, and where their elements [0, …, 0] are in it."""
    if SIMULATED:
        return joined([each.array for each in maps])
    start, size = address(maps[0].array), maps[0].array.itemsize
    return maps[0].array, [(address(each.array) - start) // size for each in maps]


ALIGNMENT = 16
"""Bytes, what the widest load asks for."""


def scratch(*parts: tuple[int, str]) -> tuple[Any, ...]:
    """Memory for the length of a call, or of the process if the call becomes part of a graph.

    For each part, (how many, of which dtype), what a kernel takes for it; before these what owns
    them all, for the caller to keep.  One allocation keeps the host for about a microsecond, a
    call needs up to twelve parts, and an address is a cheaper argument than an array.
    """
    if SIMULATED:
        return scratch_arrays(parts)
    places, size = _arranged(parts)
    memory = cupy.cuda.alloc(size)
    captured(memory)
    start = memory.ptr
    return (memory, *[start + place for place in places])


@lru_cache
def _arranged(parts: tuple[tuple[int, str], ...]) -> tuple[list[int], int]:
    """Where the parts begin, and how much they need in all."""
    places, size = [], 0
    for count, dtype in parts:
        places.append(size)
        size += -(-count * ITEMSIZE[dtype] // ALIGNMENT) * ALIGNMENT
    return places, size
