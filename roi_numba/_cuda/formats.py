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

from .bits import bits_of, float_of
from .compile import device

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
FLOATS = ("float32", "float64", "float16", "bfloat16")


def accumulator(storage: str) -> type[np.floating[Any]]:
    """The type that values of a storage format are computed in."""
    return np.float64 if storage == "float64" else np.float32


@cache
def loader(storage: str) -> Any:
    """A device function ``load(memory, at)`` for one storage format."""
    A = accumulator(storage)

    def load(memory, at):
        return A(memory[at])

    def load_bfloat16(memory, at):
        return float_of(np.uint32(memory[at]) << np.uint32(16))

    return device(load_bfloat16 if storage == "bfloat16" else load)


@cache
def saver(storage: str) -> Any:
    """A device function ``save(memory, at, value)``: rounded to nearest, ties to even."""

    def save(memory, at, value):
        memory[at] = value

    def save_bfloat16(memory, at, value):
        rounded = np.uint32(0x7FC0)
        if value == value:
            bits = bits_of(value)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            rounded = np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
        memory[at] = np.uint16(rounded)

    return device(save_bfloat16 if storage == "bfloat16" else save)
