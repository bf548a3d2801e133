"""How numbers lie in device memory, and what kernels compute with.

====================================  ==============
stored                                computed in
====================================  ==============
float64                               float64
float32, float16, bfloat16            float32
integers, bool                        float32
====================================  ==============

bfloat16 is stored as uint16, whose bits are the upper half of a float32's.
"""

from functools import cache
from typing import Any

import numpy as np

from .bits import bits_of, float_of, load_vector, store_vector
from .compile import device

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
FLOATS = ("float32", "float64", "float16", "bfloat16")


def accumulator(storage: str) -> type[np.floating[Any]]:
    """The type that values of a storage format are computed in."""
    return np.float64 if storage == "float64" else np.float32


@cache
def read_as(storage: str) -> Any:
    """A device function: the number that is computed with for one that is stored."""
    A = accumulator(storage)

    def read(number):
        return A(number)

    def read_bfloat16(number):
        return float_of(np.uint32(number) << np.uint32(16))

    return device(read_bfloat16 if storage == "bfloat16" else read)


@cache
def kept_as(storage: str) -> Any:
    """A device function: what to store for a number, rounded to nearest, ties to even.

    Of all but bfloat16 the assignment makes what it must.
    """

    def keep(value):
        return value

    def keep_bfloat16(value):
        rounded = np.uint32(0x7FC0)
        if value == value:
            bits = bits_of(value)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            rounded = np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        return np.uint16(rounded)

    return device(keep_bfloat16 if storage == "bfloat16" else keep)


@cache
def loader(storage: str) -> Any:
    """A device function ``load(memory, at)`` for one storage format."""
    read = read_as(storage)

    def load(memory, at):
        return read(memory[at])

    return device(load)


@cache
def saver(storage: str) -> Any:
    """A device function ``save(memory, at, value)``."""
    keep = kept_as(storage)

    def save(memory, at, value):
        memory[at] = keep(value)

    return device(save)


# ---- 16 bytes at once ----------------------------------------------------------------------
LANES = {"float64": 2, "float32": 4, "float16": 8, "bfloat16": 8}
"""How many numbers of a format a vector of 16 bytes is."""


@cache
def each(function: Any, lanes: int) -> Any:
    """A device function: the tuple of what a function makes of each of so many numbers."""

    def of_one(values):
        return (function(values[0]),)

    if lanes == 1:
        return device(of_one)
    half, of_half = lanes // 2, each(function, lanes // 2)

    def of_both(values):
        return of_half(values[:half]) + of_half(values[half:])

    return device(of_both)


@cache
def vector_loader(storage: str) -> Any:
    """A device function ``load(memory, at)`` of a tuple; `at` is a whole multiple of vectors."""
    read = each(read_as(storage), LANES[storage])

    def load(memory, at):
        return read(load_vector(memory, at))

    return device(load)


@cache
def vector_saver(storage: str) -> Any:
    """A device function ``save(memory, at, values)``; `at` is a whole multiple of vectors."""
    keep = each(kept_as(storage), LANES[storage])

    def save(memory, at, values):
        store_vector(memory, at, keep(values))

    return device(save)
