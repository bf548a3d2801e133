"""The CPU engine: tables from the operator's rule, then one of two kernels on all threads."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, pairwise, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import flat_memory
from .blocks import Layout
from .contract import contract, contract_large
from .maximum import maximum, maximum_large
from .narrow import picks_pixels
from .pages import empty
from .plan import COST, by_group
from .scratch import in_scratch
from .tables import tabulate
from .threads import get_num_threads, run
from .unpack import TURNED
from .vectors import LANE_BYTES

__all__ = ["empty", "flat", "pool", "pool_levels"]

PORTION_COST = 200_000
"""Work handed to a thread at a time: 0.1 to 0.3 ms, so that no thread waits long at the end and
Ctrl-C is heard.  Each costs about 4 µs more (c4-head)."""

TOGETHER = 4
"""Blocks of channels that are packed and written together, at most, where channels lie next to each
other: of float32 256 bytes of a pixel or bin, not 64, which lie 4 KB apart.  To write c4-head's
60 MB so takes half as long."""

ITEMS_A_THREAD = 8
"""Work items each thread should get, lest threads wait for the last."""

BOXES_A_GROUP = 16
"""A guess, before boxes are grouped."""

SINGLE = np.empty(0, np.float32), np.empty(0, np.int32)
DOUBLE = np.empty(0, np.float64), np.empty(0, np.int64)
"""What kernels accumulate in, and integers of the same size."""


def pool(
    rule: Any,
    reduce: str,
    options: Any,
    features: NDArray[Any],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    output: NDArray[Any],
    argmax: NDArray[np.int64] | None,
    channel_axis: int,
    motion: Any = None,
) -> None:
    """Pool `features` over the boxes `corners` (K, 4) of `images` (K,) into `output`.

    A box of image -1 gives zeros.  No bit depends on the number of threads.  With a
    `motion` it is the rate of change of a mean that is pooled (`tables.bands_of`).
    """
    numbers = np.arange(len(corners))
    for jobs in _rounds(
        rule, reduce, options, features, corners, images, numbers, output, argmax, channel_axis,
        motion,
    ):  # fmt: skip
        run(_do, jobs)


def pool_levels(
    rule: Any,
    reduce: str,
    options: list[Any],
    maps: list[NDArray[Any]],
    levels: NDArray[np.int64],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    output: NDArray[Any],
    argmax: NDArray[np.int64] | None,
    channel_axis: int,
) -> None:
    """Pool each box from the map that `levels` (K,) says, each map by its own options."""
    order = np.argsort(levels, kind="stable")
    ends = np.searchsorted(levels[order], np.arange(len(maps) + 1))
    of_levels = [
        _rounds(
            rule, reduce, options[level], maps[level], corners[order[first:last]],
            images[order[first:last]], order[first:last], output, argmax, channel_axis,
        )
        for level, (first, last) in enumerate(pairwise(ends.tolist()))
    ]  # fmt: skip
    for rounds in zip_longest(*of_levels, fillvalue=()):
        run(_do, chain(*rounds))  # threads wait for each other once, not at the end of every level


def _do(kernel: Any, portion: tuple[int, int]) -> None:
    kernel(*portion)


def _rounds(
    rule: Any,
    reduce: str,
    options: Any,
    features: NDArray[Any],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    numbers: NDArray[np.int64],
    output: NDArray[Any],
    argmax: NDArray[np.int64] | None,
    channel_axis: int,
    motion: Any = None,
) -> Iterator[Iterable[tuple[Any, tuple[int, int]]]]:
    """What there is to do, (kernel, portion), for as many boxes at a time as a table holds.

    Box k is box ``numbers[k]`` of the output.
    """
    source, source_layout = flat(features, channel_axis)
    target, target_layout = flat(output, channel_axis)
    if argmax is None:
        labels, labels_layout = None, target_layout
    else:
        labels, labels_layout = flat(argmax, channel_axis)
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = features.shape[y_axis], features.shape[x_axis]
    bins = output.shape[y_axis], output.shape[x_axis]
    like, places = DOUBLE if features.dtype.char == "d" else SINGLE
    whole = rule.argmax == "cell"
    lanes = LANE_BYTES // like.itemsize
    blocks = -(-source_layout.channels // lanes)
    together = 1
    if source_layout.channel_stride == 1 == target_layout.channel_stride:
        together = blocks_together(1 + len(corners) // BOXES_A_GROUP, blocks, bins)

    start = 0
    types = features.dtype, output.dtype, argmax is None
    while start < len(corners):
        stop, table, order, groups, cost, large = tabulate(
            rule, reduce, corners, images, start, bins, sizes, options, like, motion,
            together=together,
        )  # fmt: skip
        shared = source, source_layout, target, target_layout, numbers[start:], sizes, bins, table
        last: tuple[Any, ...]
        if reduce == "mean":
            kernels, last = (contract, contract_large), ()
        else:
            kernels = maximum, maximum_large
            last = whole, labels, labels_layout, places
        jobs: list[tuple[Any, tuple[int, int]]] = []
        if len(groups):
            several = min(together, blocks_together(len(groups), blocks, bins))
            how: tuple[Any, ...] = (several,)
            if reduce == "mean":
                how = None if several == 1 else several, picks_pixels()
            kernel = kernels[0].typed((*types, several == 1, picks_pixels()))
            work = partial(in_scratch, like, kernel, *shared, order, groups, *last, *how)
            if cost * blocks <= PORTION_COST:
                ends = [0, len(groups) * -(-blocks // several)]
            else:
                ends = cuts(costs_of_items(groups, source_layout, lanes, several))
            jobs += [(work, portion) for portion in pairwise(ends)]
        if len(large):
            kernel = kernels[1].typed(types)
            work = partial(in_scratch, like, kernel, *shared, order, large, *last)
            ends = cuts(costs_of_items(large, source_layout, lanes))
            jobs += [(work, portion) for portion in pairwise(ends)]
        yield jobs
        start = stop


def blocks_together(groups: int, blocks: int, bins: tuple[int, int]) -> int:
    """How many of a group's blocks of channels are packed together, 1 if bins would fill caches."""
    enough = groups * blocks // (ITEMS_A_THREAD * get_num_threads())
    if enough < 2 or blocks < 2 or bins[0] * bins[1] > TURNED:
        return 1
    return even_share(blocks, min(TOGETHER, enough, blocks))


def even_share(blocks: int, most: int) -> int:
    """How many blocks are an item, so that items are as few and even: of 5 not 4 and 1, 3 and 2."""
    return -(-blocks // -(-blocks // most))


def costs_of_items(
    groups: NDArray[np.int64], layout: Layout, lanes: int, together: int = 1
) -> NDArray[np.int64]:
    """What each work item of ``together`` blocks costs, in the order of `plan.item_at`."""
    items = -(-layout.channels // (lanes * together))
    repeat = np.repeat if by_group(groups, layout) else np.tile
    costs: NDArray[np.int64] = repeat(groups[:, COST] * together, items)
    return costs


def cuts(costs: NDArray[np.int64]) -> list[int]:
    """Cut items into portions of about PORTION_COST."""
    before = np.cumsum(costs) // PORTION_COST
    return [0, *(np.flatnonzero(np.diff(before)) + 1).tolist(), len(costs)]


def flat(array: NDArray[Any], channel_axis: int) -> tuple[NDArray[Any], Layout]:
    """Flat memory of a 4-D array and where its elements lie."""
    memory, origin, (first, second, third, last) = flat_memory(array)
    channels = array.shape[channel_axis]
    if channel_axis == 1:
        return memory, Layout(origin, first, channels, second, third, last)
    return memory, Layout(origin, first, channels, last, second, third)
