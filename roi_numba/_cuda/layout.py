"""Where the elements of a 4-D array lie, as kernels take it."""

from functools import cache, lru_cache
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
    """An array, its layout, its sizes, and how its elements are stored.

    ``inner``: 1 if channels lie next to each other, else 0.  ``whole``: whether vectors of channels
    are at whole multiples of their size, if the array is.
    """

    array: Any
    layout: Layout
    channels: int
    rows: int
    columns: int
    stored: str
    long: bool
    inner: int
    whole: bool


@cache
def stored(dtype: Any) -> str:
    """The name of a storage format; NumPy takes 1.7 us to make up a dtype's name."""
    name: str = dtype.names[0] if dtype.names else dtype.name
    return name


def flat(array: Any, channel_axis: int) -> Flat:
    """Describe (N, C, H, W), or (N, H, W, C) if `channel_axis` is -1."""
    return Flat(array, *_described(array.shape, array.strides, array.dtype, channel_axis))


@lru_cache(1024)
def _described(
    shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any, channel_axis: int
) -> tuple[Any, ...]:
    size = dtype.itemsize
    first, second, third, last = (stride // size for stride in strides)
    n, *sizes = shape
    if channel_axis == 1:
        channels, rows, columns = sizes
        layout = Layout(first, second, third, last)
    else:
        rows, columns, channels = sizes
        layout = Layout(first, last, second, third)
    reach = n * abs(layout.outer) + channels * abs(layout.channel)
    reach += rows * abs(layout.row) + columns * abs(layout.column)
    inner = int(layout.channel < layout.column)
    steps = channels, layout.outer, layout.row, layout.column
    whole = layout.channel == 1 and not any(step % (VECTOR // size) for step in steps)
    return layout, channels, rows, columns, stored(dtype), reach > LONGEST, inner, whole


def offsets(*arrays: Any) -> str:
    """The integer that counts through all of the arrays."""
    return "int64" if any(array.long for array in arrays) else "int32"


def in_vectors(array: Flat) -> bool:
    """Whether whole vectors of channels lie next to each other, at addresses that are multiples."""
    return array.whole and address(array.array) % VECTOR == 0
