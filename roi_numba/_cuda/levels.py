"""Several maps for one launch: a table on the device says where each lies and how it is scaled.

Written there by kernels, a tiny one for each map: what is copied from the host could not be part of
a CUDA graph, or would have to stay where it was.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .compile import Kernel, block, cuda, device
from .launch import captured, current, launch, memory_of_all, scratch
from .layout import Flat, in_vectors

FIELDS = 7
"""Of a map: its first element, counted from that of the first map; the distances of a `Layout`; its
height and width."""

MOST_TABLES = 64
"""Kept for calls with maps in the same places."""

_tables: OrderedDict[Any, tuple[Any, ...]] = OrderedDict()


ONE = 0, 0, 0
"""What kernels get for the levels of the boxes and the table's two parts if there is one map."""


class Maps(NamedTuple):
    """One map, or several, as kernels take them: `first` says of what kind all are.

    ``sizes`` are the largest, ``arguments`` as in `ONE`, ``memory`` is what they lie in.
    """

    first: Flat
    source: Any
    sizes: tuple[int, int]
    long: bool
    in_vectors: bool
    several: bool
    arguments: tuple[Any, Any, Any]
    memory: Any


def one_map(array: Flat) -> Maps:
    """A single map."""
    sizes = array.rows, array.columns
    return Maps(array, array.array, sizes, array.long, in_vectors(array), False, ONE, None)


@cache
def describe_of(geometry: str) -> Kernel:
    """The kernel that writes the row of one map; scales are of the dtype of the geometry."""

    def describe(
        places, scales, level, origin, image_stride, channel_stride, row_stride, column_stride,
        height, width, scale_y, scale_x,
    ):  # fmt: skip
        if cuda.threadIdx.x == 0:
            at = level * FIELDS
            places[at] = origin
            places[at + 1] = image_stride
            places[at + 2] = channel_stride
            places[at + 3] = row_stride
            places[at + 4] = column_stride
            places[at + 5] = height
            places[at + 6] = width
            scales[2 * level] = scale_y
            scales[2 * level + 1] = scale_x

    parameters = (
        "int64*", f"{geometry}*", "int32", *["int64"] * 7, geometry, geometry,
    )  # fmt: skip
    return Kernel(describe, f"describe_{geometry}", parameters, block(32))


@cache
def picker(several: bool, offsets: str) -> Any:
    """A device function: the level of box k -> first element, four distances, height and width."""
    N = np.dtype(offsets).type

    if several:

        @device
        def pick(levels, places, k, image, channel, row, column, height, width):
            at = levels[k] * FIELDS
            return (
                N(places[at]), N(places[at + 1]), N(places[at + 2]), N(places[at + 3]),
                N(places[at + 4]), np.int32(places[at + 5]), np.int32(places[at + 6]),
            )  # fmt: skip
    else:

        @device
        def pick(levels, places, k, image, channel, row, column, height, width):
            return N(0), image, channel, row, column, height, width

    return pick


@cache
def scaler(several: bool) -> Any:
    """A device function: the level of box k -> its scales along y and x."""
    if several:

        @device
        def scales_of(levels, scales, k, scale_y, scale_x):
            return scales[2 * levels[k]], scales[2 * levels[k] + 1]
    else:

        @device
        def scales_of(levels, scales, k, scale_y, scale_x):
            return scale_y, scale_x

    return scales_of


def several_maps(maps: list[Flat], levels: Any, options: list[Any], geometry: str) -> Maps:
    """Maps of which `levels` (K,), int64, has the number of each box's; each by its own options."""
    source, origins = memory_of_all(maps)
    scales = [(y[0], x[0]) for y, x in options]
    rows = [
        (origin, *each.layout, each.rows, each.columns)
        for origin, each in zip(origins, maps, strict=True)
    ]
    key = (*current(), geometry, *rows, *scales)
    table = _tables.get(key)
    if table is None:
        table = scratch((len(maps) * FIELDS, "int64"), (len(maps) * 2, geometry))
        for level, (row, scale) in enumerate(zip(rows, scales, strict=True)):
            launch(describe_of(geometry), (1,), (*table[1:], level, *row, *scale))
        if not captured(table[0]):  # what a graph writes is there once it runs
            _tables[key] = table
            if len(_tables) > MOST_TABLES:
                _tables.popitem(last=False)
    else:
        captured(table[0])
    sizes = max(each.rows for each in maps), max(each.columns for each in maps)
    # Distances between maps are longer than any map.
    vectors = all(in_vectors(each) for each in maps)
    return Maps(maps[0], source, sizes, True, vectors, True, (levels, *table[1:]), table[0])
