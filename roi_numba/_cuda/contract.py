"""Means: every bin adds up what its two bands weigh."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .compile import Kernel, block, cuda, device
from .formats import LANES, accumulator, loader, saver, vector_loader, vector_saver
from .integers import divided, groups_of, unit_of
from .levels import picker

THREADS = block(128)

AT_ONCE = 4
"""Channels of a thread, so that bands are read and offsets computed once for four loads."""


class Lanes(NamedTuple):
    """The channels that a thread takes at once, and the device functions that take them.

    ``unit(unit, bins, groups, inner, first_channel)``: its bin, its first channel, the distance to
    the next.  ``places(channel, step, last, stride)``: their offsets.  ``load(source, at, places)``
    and ``save(target, at, places, channel, step, limit, sums)``: no channel from `limit` on is
    written.
    """

    at_once: int
    unit: Any
    places: Any
    load: Any
    save: Any


def apart(stored: str, result: str, N: type[np.integer[Any]]) -> Lanes:
    """One by one, wherever they lie."""
    load_one, save_one = loader(stored), saver(result)

    @device
    def unit(unit, bins, groups, inner, first_channel):
        return unit_of(unit, bins, groups, inner, first_channel, AT_ONCE)

    @device
    def places(channel, step, last, stride):
        # Beyond the last channel it is loaded again, and nothing stored.
        c1, c2 = np.int32(channel + step), np.int32(channel + 2 * step)
        c3 = np.int32(channel + 3 * step)
        return (
            N(channel * stride), N(min(c1, last) * stride), N(min(c2, last) * stride),
            N(min(c3, last) * stride),
        )  # fmt: skip

    @device
    def load(source, at, places):
        return (
            load_one(source, N(at + places[0])), load_one(source, N(at + places[1])),
            load_one(source, N(at + places[2])), load_one(source, N(at + places[3])),
        )  # fmt: skip

    @device
    def save(target, at, places, channel, step, limit, sums):
        save_one(target, N(at + places[0]), sums[0])
        if channel + step < limit:
            save_one(target, N(at + places[1]), sums[1])
        if channel + 2 * step < limit:
            save_one(target, N(at + places[2]), sums[2])
        if channel + 3 * step < limit:
            save_one(target, N(at + places[3]), sums[3])

    return Lanes(AT_ONCE, unit, places, load, save)


def together(stored: str, result: str, N: type[np.integer[Any]]) -> Lanes:
    """16 bytes of them, next to each other in `stored` and in `result`."""
    load_all, save_all, count = vector_loader(stored), vector_saver(result), LANES[stored]

    @device
    def unit(unit, bins, groups, inner, first_channel):
        cell, group = divided(unit, groups)
        return cell, np.int32(first_channel + group * count), np.int32(1)

    @device
    def places(channel, step, last, stride):
        return N(channel)

    @device
    def load(source, at, places):
        return load_all(source, N(at + places))

    @device
    def save(target, at, places, channel, step, limit, sums):
        save_all(target, N(at + places), sums)

    return Lanes(count, unit, places, load, save)


@cache
def combiner(lanes: int) -> Any:
    """A device function: ``sums + weight * values``, each of them a tuple."""

    def one(sums, weight, values):
        return (sums[0] + weight * values[0],)

    if lanes == 1:
        return device(one)
    half, combined = lanes // 2, combiner(lanes // 2)

    def both(sums, weight, values):
        lower = combined(sums[:half], weight, values[:half])
        return lower + combined(sums[half:], weight, values[half:])

    return device(both)


@cache
def contract_of(
    stored: str, result: str, offsets: str, vectors: bool, several: bool = False
) -> Kernel:
    """The kernel that pools maps stored as `stored` into `result`.

    A block pools a share of the channels of one box, a thread one bin of a few channels at a time:
    neighbouring channels for channels first, where neighbouring threads take neighbouring bins; for
    channels last (`inner`) neighbouring threads take neighbouring channels, so that what they read
    is adjacent either way.  ``offsets``: int32 where no array is longer than it can count.
    ``vectors``: whether both arrays, of one format, can be taken 16 bytes at a time
    (`layout.in_vectors`); a share is then of whole vectors, and `inner` or not is not asked.
    ``several``: whether each box has a map of its own (`levels`).
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    lanes = together if vectors else apart
    at_once, unit_at, places_of, load, save = lanes(stored, result, N)
    combined, nothing = combiner(at_once), (A(0),) * at_once
    pick = picker(several, offsets)

    def contract(
        source, image_stride, channel_stride, row_stride, column_stride, channels,
        begin, end, index, weight, image, bins_y, bins_x,
        target, start, box_stride, target_channel_stride, bin_row_stride, bin_column_stride,
        share, inner, levels, maps,
    ):  # fmt: skip
        k = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        groups = groups_of(min(share, channels - first_channel), at_once)
        bins = np.int32(bins_y * bins_x)
        number = image[k]
        plane, image_stride, channel_stride, row_stride, column_stride, _, _ = pick(
            levels, maps, start + k, image_stride, channel_stride, row_stride, column_stride, 0, 0
        )
        if number >= 0:
            plane += N(number * image_stride)
        out = N((start + k) * box_stride)
        last = channels - 1
        limit = min(first_channel + share, channels)
        for unit in range(cuda.threadIdx.x, np.int32(bins * groups), THREADS):
            cell, channel, step = unit_at(unit, bins, groups, inner, first_channel)
            p, q = divided(cell, bins_x)
            places = places_of(channel, step, last, channel_stride)
            b = k * (bins_y + bins_x)
            begin_y, end_y = begin[b + p], end[b + p]
            begin_x, end_x = begin[b + bins_y + q], end[b + bins_y + q]
            sums = nothing
            for i in range(begin_y, end_y):
                row = N(plane + N(index[i] * row_stride))
                across = nothing
                for j in range(begin_x, end_x):
                    at = N(row + N(index[j] * column_stride))
                    across = combined(across, weight[j], load(source, at, places))
                sums = combined(sums, weight[i], across)
            at = N(out + N(p * bin_row_stride) + N(q * bin_column_stride))
            places = places_of(channel, step, last, target_channel_stride)
            save(target, at, places, channel, step, limit, sums)

    A_pointer = f"{np.dtype(A).name}*"
    parameters = (
        f"{stored}*", *[offsets] * 4, "int32",
        "int32*", "int32*", "int32*", A_pointer, "int32*", "int32", "int32",
        f"{result}*", "int32", *[offsets] * 4, "int32", "int32", "int64*", "int64*",
    )  # fmt: skip
    name = "contract" + "_vectors" * vectors + "_levels" * several
    return Kernel(contract, f"{name}_{stored}_{offsets}", parameters, THREADS)
