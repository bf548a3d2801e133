"""The engine's way back: from the gradient of a pooled result to those of the map and the boxes.

All sums are added in a fixed order: a pixel takes box after box, a box takes block after block of
channels.
"""

from functools import partial
from itertools import pairwise
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Layout
from .engine import DOUBLE, SINGLE, blocks_together, costs_of_items, cuts, even_share, flat
from .pages import empty, zeros
from .project import project
from .scatter import fitting, scatter, tiling
from .scratch import in_scratch
from .tables import tabulate
from .threads import get_num_threads, run
from .turned import turn
from .vectors import LANE_BYTES
from .winners import SUMMED_PIXELS, at_cells, at_samples


def to_map_of_mean(
    rule: Any,
    options: Any,
    grad: NDArray[Any],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    shape: tuple[int, ...],
    channel_axis: int,
    motion: Any = None,
) -> NDArray[Any]:
    """Return the gradient of a mean to a map of a shape, in `grad`'s dtype or a wider one.

    With a `motion` it is the gradient of the mean's rate of change (`tables.bands_of`).
    """
    result = zeros(shape, grad.dtype)
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = result.shape[y_axis], result.shape[x_axis]
    bins = grad.shape[y_axis], grad.shape[x_axis]
    source, source_layout, cells = _flat_bins(grad, channel_axis)
    like, _ = DOUBLE if result.dtype.char == "d" else SINGLE
    lanes = LANE_BYTES // like.itemsize
    blocks = -(-shape[channel_axis] // lanes)
    tiles = tiling(sizes)
    tiles_of_map = tiles[2] * tiles[3]
    units = tiles[1] * lanes, lanes
    start = 0
    while start < len(corners):
        stop, bands, *_ = tabulate(
            rule, "mean", corners, images, start, bins, sizes, options, like, motion, placed=False
        )
        if start == 0 and stop < len(corners) and result.itemsize < like.itemsize:
            result = zeros(shape, like.dtype)  # or else every round would round
        turned = turn(bands, stop - start, bins, sizes, units)
        order, first_box = _by_image(images[start:stop], len(result))
        target, target_layout = flat(result, channel_axis)
        together = 1
        if source_layout.channel_stride == 1 == target_layout.channel_stride:
            together = blocks_together(len(result) * tiles_of_map, blocks, bins)
            together = even_share(blocks, min(together, fitting(tiles, bins)))
        lines = np.diff(turned.first).reshape(-1, 2)
        costs = lines[:, 0] * lines[:, 1] + 4 * bins[0] * bins[1]
        before = np.concatenate(([0], np.cumsum(costs[order])))
        per_tile = np.diff(before[first_box]) // tiles_of_map + tiles[0] * tiles[1]
        kernel = scatter.typed((source.dtype, target.dtype))
        work = partial(
            in_scratch, like, kernel, source, source_layout, cells, target, target_layout, start,
            sizes, bins, tiles, turned, order, first_box, start == 0, together,
        )  # fmt: skip
        items = -(-blocks // together)
        run(work, pairwise(cuts(np.repeat(per_tile * together, tiles_of_map * items))))
        start = stop
    return result


def to_boxes_of_mean(
    rule: Any,
    options: Any,
    grad: NDArray[Any],
    features: NDArray[Any],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    channel_axis: int,
) -> NDArray[np.float64]:
    """Return the gradient (K, 4) of a mean to the corners."""
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = features.shape[y_axis], features.shape[x_axis]
    bins = grad.shape[y_axis], grad.shape[x_axis]
    source, source_layout = flat(features, channel_axis)
    grad_flat, grad_layout, cells = _flat_bins(grad, channel_axis)
    like, _ = DOUBLE if features.dtype.char == "d" else SINGLE
    lanes = LANE_BYTES // like.itemsize
    products = np.zeros((-(-source_layout.channels // lanes), len(corners), 4))
    start = 0
    while start < len(corners):
        stop, table, order, groups, _, large = tabulate(
            rule, "mean", corners, images, start, bins, sizes, options, like, rates=True
        )
        for some, too_large in ((groups, None), (large, True)):
            if len(some):
                kernel = project.typed((source.dtype, grad_flat.dtype, too_large))
                work = partial(
                    in_scratch, like, kernel, source, source_layout, grad_flat, grad_layout,
                    cells, start, sizes, bins, table, order, some, too_large, products,
                )  # fmt: skip
                run(work, pairwise(cuts(costs_of_items(some, source_layout, lanes))))
        start = stop
    result: NDArray[np.float64] = products.sum(axis=0)
    return result


def at_winners(
    rule: Any,
    reduce: str,
    options: Any,
    features: NDArray[Any],
    argmax: NDArray[np.int64],
    corners: NDArray[Any],
    images: NDArray[np.int64],
    channel_axis: int,
    *,
    grad: NDArray[Any] | None = None,
    boxes: bool = False,
    pooled: NDArray[Any] | None = None,
    motion: NDArray[Any] | None = None,
) -> Any:
    """Go through the winners of a maximum, as `argmax` names them.

    With `pooled`, fill it with the winners' values in `features`.  With `grad`, the gradient of
    the maximum, return that to `features`, in an accumulation dtype, or if `boxes`, that to the
    corners (K, 4).  With a `motion` (K, 4) it is all about rates of change.
    """
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = features.shape[y_axis], features.shape[x_axis]
    bins = argmax.shape[y_axis], argmax.shape[x_axis]
    source, source_layout = flat(features, channel_axis)
    names, names_layout = flat(argmax, channel_axis)
    like, _ = DOUBLE if features.dtype.char == "d" else SINGLE
    lanes = LANE_BYTES // like.itemsize
    blocks = -(-source_layout.channels // lanes)
    bins_of, bins_layout = (like, names_layout) if grad is None else flat(grad, channel_axis)
    output, output_layout = (None, names_layout) if pooled is None else flat(pooled, channel_axis)
    velocity = None if motion is None else motion.astype(like.dtype)
    products = np.zeros((blocks, len(corners), 4)) if boxes else None
    summable = sizes[0] * sizes[1] <= SUMMED_PIXELS

    def work(kernel: Any, parts: int, start: int, stop: int, *arguments: Any) -> None:
        order, first_box = _by_image(images[start:stop], len(features))

        def checked(first: int, last: int) -> None:
            box = in_scratch(like, kernel, *arguments, order, first_box, first, last)
            if box >= 0:
                raise ValueError(
                    "argmax must be what the forward returns for these arguments, got a winner "
                    f"that cannot be for box {box}"
                )

        cost = sizes[0] * sizes[1] + 8 * lanes * bins[0] * bins[1] * np.diff(first_box)
        run(checked, pairwise(cuts(np.repeat(parts * cost, -(-blocks // parts)))))

    def new_map(summed: bool) -> tuple[Any, Any]:
        """The gradient to the map, if that is wanted; and as kernels take it.

        Sums in scratch are near each other, and go to any format and layout.  Where channels lie
        side by side in names and map there is no need: line after line is read and added to
        (c4-head: 64 -> 36 ms).
        """
        if grad is None or boxes:
            return None, (source, source_layout, None, None, source_layout)
        if summed:
            result = empty(features.shape, grad.dtype)
            target, layout = flat(result, channel_axis)
            return result, (like, layout, None, target, layout)
        result = zeros(features.shape, like.dtype)
        sums, layout = flat(result, channel_axis)
        return result, (like, layout, sums, None, layout)

    pooled_maps = names, names_layout, bins_of, bins_layout, output, output_layout
    if rule.argmax == "cell":
        layouts = names_layout, bins_layout, output_layout
        if all(each.height_stride == bins[1] * each.width_stride for each in layouts):
            bins = 1, bins[0] * bins[1]
        beside = names_layout.channel_stride == 1
        directly = beside and channel_axis != 1 and bins_of.dtype == like.dtype
        result, of_map = new_map(summable and not directly)
        *_, target, place_layout = of_map
        parts = 1
        if beside and (target is not None or place_layout.channel_stride == 1):
            parts = lines_together(blocks, images, argmax.size)
        if target is not None:
            parts = max(1, min(parts, SUMMED_PIXELS // (sizes[0] * sizes[1])))
        work(at_cells, parts, 0, len(corners), *of_map, parts, *pooled_maps, sizes, bins)
    else:
        start = 0
        while start < len(corners):
            stop, table, *_ = tabulate(
                rule, reduce, corners, images, start, bins, sizes, options, like, placed=False
            )
            if start == 0:
                result, of_map = new_map(summable and stop == len(corners))  # all boxes at once
            work(
                at_samples, 1, start, stop, *of_map, *pooled_maps, start, sizes, bins, table,
                velocity, products,
            )  # fmt: skip
            start = stop
    return result if products is None else products.sum(axis=0)


UNHEARD = 1 << 27
"""Winners of an image that are gone through at a time, at most, so that Ctrl-C is heard: 1 GiB."""


def lines_together(blocks: int, images: NDArray[np.int64], winners: int) -> int:
    """How many lines of channels are an item: many, and of all items each thread gets as many."""
    threads, busy = get_num_threads(), max(1, len(np.unique(images[images >= 0])))
    items_of_image = max(threads // gcd(threads, busy), winners // busy // UNHEARD)
    return -(-blocks // items_of_image)


def _flat_bins(grad: NDArray[Any], channel_axis: int) -> tuple[NDArray[Any], Layout, Any]:
    """As `flat`, and how its bins are packed: as one line where they lie so."""
    memory, layout = flat(grad, channel_axis)
    height, width = grad.shape[2:] if channel_axis == 1 else grad.shape[1:3]
    if layout.height_stride == width * layout.width_stride:
        height, width = 1, height * width
    return memory, layout, (height, width)


def _by_image(images: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Boxes by image, in order, and where those of each of `n` images begin."""
    order = np.argsort(images, kind="stable")
    return order, np.searchsorted(images[order], np.arange(n + 1))
