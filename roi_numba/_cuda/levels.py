"""Several maps for one launch: a table on the device says where each lies and how it is scaled.

Written there by kernels, a tiny one for each map: what is copied from the host could not be part of
a CUDA graph, or would have to stay where it was.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .compile import SIMULATED, Kernel, block, cuda, device
from .launch import kept, launch, owner_of_stream, scratch
from .layout import Flat, offset_between

FIELDS = 7
"""Of a map: its first element, counted from that of the first map; the distances of a `Layout`; its
height and width."""

MOST_TABLES = 64
"""Kept, for calls with maps in the same places."""

_tables: OrderedDict[Any, tuple[Any, ...]] = OrderedDict()


class Maps(NamedTuple):
    """What kernels for several maps take, beside a layout and a scale that they leave alone."""

    source: Any
    memory: Any
    places: Any
    scales: Any


NO_LEVELS = 0, 0, 0
"""What they take in the place of levels, places and scales where there is a single map."""


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
        def scales_of(levels, scales, k, scale):
            return scales[2 * levels[k]], scales[2 * levels[k] + 1]
    else:

        @device
        def scales_of(levels, scales, k, scale):
            return scale, scale

    return scales_of


def tabled(maps: list[Flat], options: list[Any], geometry: str) -> Maps:
    """Describe maps to kernels."""
    source, origins = offset_between(maps)
    scales = [(y[0], x[0]) for y, x in options]
    rows = [
        (origin, *each.layout, each.rows, each.columns)
        for origin, each in zip(origins, maps, strict=True)
    ]
    where = owner_of_stream()
    key = (*where, geometry, *rows, *scales)
    table = None if SIMULATED else _tables.get(key)
    if table is None:
        table = scratch((len(maps) * FIELDS, "int64"), (len(maps) * 2, geometry))
        kernel = describe_of(geometry)
        for level, (row, scale) in enumerate(zip(rows, scales, strict=True)):
            launch(kernel, (1,), (*table[1:], level, *row, *scale))
    return Maps(source, *table)
