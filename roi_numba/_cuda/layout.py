"""Where the elements of a 4-D array lie, as kernels take it."""

from functools import cache
from typing import Any, NamedTuple

from .bits import VECTOR
from .launch import address

LONGEST = 2**31 - 1


class Layout(NamedTuple):
    """Distances in elements: from image (or box) to image, channel to channel, row, column."""

    outer: int
    channel: int
    row: int
    column: int


class Flat(NamedTuple):
    """An array, its layout, its sizes, and how its elements are stored."""

    array: Any
    layout: Layout
    channels: int
    rows: int
    columns: int
    stored: str
    long: bool

    @property
    def inner(self) -> int:
        """1 if channels lie next to each other, else 0."""
        return int(self.layout.channel < self.layout.column)


@cache
def stored(dtype: Any) -> str:
    """The name of a storage format; NumPy takes 1.7 us to make up a dtype's name."""
    name: str = dtype.names[0] if dtype.names else dtype.name
    return name


def flat(array: Any, channel_axis: int) -> Flat:
    """Describe (N, C, H, W), or (N, H, W, C) if `channel_axis` is -1."""
    size = array.itemsize
    first, second, third, last = array.strides
    n, *shape = array.shape
    if channel_axis == 1:
        channels, rows, columns = shape
        layout = Layout(first // size, second // size, third // size, last // size)
    else:
        rows, columns, channels = shape
        layout = Layout(first // size, last // size, second // size, third // size)
    reach = n * abs(layout.outer) + channels * abs(layout.channel)
    reach += rows * abs(layout.row) + columns * abs(layout.column)
    return Flat(array, layout, channels, rows, columns, stored(array.dtype), reach > LONGEST)


def offsets(*arrays: Any) -> str:
    """The integer that counts through all of the arrays."""
    return "int64" if any(array.long for array in arrays) else "int32"


def in_vectors(array: Flat) -> bool:
    """Whether whole vectors of channels lie next to each other, at addresses that are multiples."""
    at, count = array.layout, VECTOR // array.array.itemsize
    return (
        at.channel == 1
        and not (array.channels % count or at.outer % count or at.row % count or at.column % count)
        and address(array.array) % VECTOR == 0
    )
