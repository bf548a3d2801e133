"""Several maps for one launch: a table on the device says where each lies and how it is scaled.

Written there by kernels, a tiny one for each map: what is copied from the host could not be part of
a CUDA graph, or would have to stay where it was.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .compile import Kernel, block, cuda, device
from .launch import capturing, current, launch, memory_of_all, scratch
from .layout import Flat, in_vectors

FIELDS = 7
"""Of a map: its first element, counted from that of the first map; the distances of a `Layout`; its
height and width.  Before all of them is the number of maps."""

MOST_TABLES = 64
"""Kept for calls with maps in the same places."""

_tables: OrderedDict[Any, tuple[Any, ...]] = OrderedDict()
_keeping = threading.Lock()


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
        places, scales, maps, level, origin, image_stride, channel_stride, row_stride,
        column_stride, height, width, scale_y, scale_x,
    ):  # fmt: skip
        if cuda.threadIdx.x == 0:
            at = 1 + level * FIELDS
            places[0] = maps
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
        "int64*", f"{geometry}*", "int32", "int32", *["int64"] * 7, geometry, geometry,
    )  # fmt: skip
    return Kernel(describe, f"describe_{geometry}", parameters, block(32))


@device
def level_of(levels, places, k):
    """The number of box k's map, the first map's for one that is no map's."""
    level = levels[k]
    if level < 0 or level >= places[0]:
        level = np.int64(0)
    return level


@cache
def checker(several: bool) -> Any:
    """A device function: the image of box k -> the same, or -1 if its level is no map's."""
    if several:

        @device
        def on_level(image, levels, places, k):
            if levels[k] != level_of(levels, places, k):
                image = np.int32(-1)
            return image
    else:

        @device
        def on_level(image, levels, places, k):
            return image

    return on_level


@cache
def picker(several: bool, offsets: str) -> Any:
    """A device function: the map of box k -> first element, four distances, height and width."""
    N = np.dtype(offsets).type

    if several:

        @device
        def pick(levels, places, k, image, channel, row, column, height, width):
            at = 1 + level_of(levels, places, k) * FIELDS
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
    """A device function: the map of box k -> its scales along y and x."""
    if several:

        @device
        def scales_of(levels, places, scales, k, scale_y, scale_x):
            at = 2 * level_of(levels, places, k)
            return scales[at], scales[at + 1]
    else:

        @device
        def scales_of(levels, places, scales, k, scale_y, scale_x):
            return scale_y, scale_x

    return scales_of


def _kept(key: Any) -> Any:
    with _keeping:
        if key in _tables:
            _tables.move_to_end(key)
        return _tables.get(key)


def _keep(key: Any, table: tuple[Any, ...]) -> None:
    with _keeping:
        _tables[key] = table
        if len(_tables) > MOST_TABLES:
            _tables.popitem(last=False)


def several_maps(maps: list[Flat], levels: Any, options: list[Any], geometry: str) -> Maps:
    """Maps of which `levels` (K,), int64, has the number of each box's; each by its own options."""
    source, origins = memory_of_all(maps)
    scales = [(y[0], x[0]) for y, x in options]
    rows = [
        (origin, *each.layout, each.rows, each.columns)
        for origin, each in zip(origins, maps, strict=True)
    ]
    key = (*current(), geometry, *rows, *scales)
    # What a graph needs it writes itself: a table from before may not be there yet, or no more.
    keeping = not capturing()
    table = _kept(key) if keeping else None
    if table is None:
        table = scratch((1 + len(maps) * FIELDS, "int64"), (len(maps) * 2, geometry))
        for level, (row, scale) in enumerate(zip(rows, scales, strict=True)):
            arguments = (*table[1:], len(maps), level, *row, *scale)
            launch(describe_of(geometry), (1,), arguments)
        if keeping:
            _keep(key, table)
    sizes = max(each.rows for each in maps), max(each.columns for each in maps)
    # Distances between maps are longer than any map.
    vectors = all(in_vectors(each) for each in maps)
    return Maps(maps[0], source, sizes, True, vectors, True, (levels, *table[1:]), table[0])
