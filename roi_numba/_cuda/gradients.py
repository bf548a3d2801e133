"""The CUDA engine's way back: from the gradient of a pooled result to those of map and boxes.

All sums are added in a fixed order unless they need not be (`deterministic`).
"""

from typing import Any, NamedTuple

from .engine import (
    Bands,
    Corners,
    apart,
    boxes_of,
    rounds,
    shares,
    tabulate,
)
from .formats import accumulator
from .gather import gather_of
from .launch import empty, launch, scratch, zeros
from .layout import LONGEST, Flat, flat, offsets
from .project import project_of
from .rules import DeviceRule, axis_options, rule_on_device
from .scatter import scatter_of, spread_of
from .turned import THREADS, TILE_HEIGHT, TILE_WIDTH, touching, turned_of
from .winners import boxes_of as gradient_to_boxes
from .winners import values_of

MOST_TOUCHED = 2**26
"""Entries of the lists of boxes of all tiles: 256 MiB."""


def counted(channels: int, bins: tuple[int, int]) -> None:
    """Raise unless the numbers of one box can be counted in 32 bits, as kernels do."""
    if channels * bins[0] * bins[1] > LONGEST:
        raise ValueError(
            "grad_output must have fewer than 2**31 numbers a box on a CUDA device, got "
            f"{channels} channels of {bins[0]} x {bins[1]} bins"
        )


class Lines(NamedTuple):
    """A table turned around, and the memory it lies in: see `turned`."""

    memory: Any
    begin: Any
    end: Any
    bin: Any
    weight: Any
    count: Any
    touched: Any


def tiling(images: int, sizes: tuple[int, int]) -> tuple[int, int, int]:
    """Tiles in all, along y, along x."""
    tiles_y, tiles_x = -(-sizes[0] // TILE_HEIGHT), -(-sizes[1] // TILE_WIDTH)
    return images * tiles_y * tiles_x, tiles_y, tiles_x


def turn(
    table: Bands,
    count: int,
    bins: tuple[int, int],
    sizes: tuple[int, int],
    tiles: tuple[int, int, int],
    weights: str,
) -> Lines:
    """Turn a table of `count` boxes around."""
    places, room = count * sum(sizes), count * sum(table.capacity)
    lines = Lines(
        *scratch(
            (places, "int32"),
            (places, "int32"),
            (room, "int32"),
            (room, weights),
            (tiles[0], "int32"),
            (tiles[0] * count, "int32"),
        )
    )
    arguments = (
        table.begin, table.end, table.index, table.weight, table.windows, *bins, *sizes,
        *table.capacity, lines.begin, lines.end, lines.bin, lines.weight,
    )  # fmt: skip
    launch(turned_of(weights), (count,), arguments)
    blocks = -(-tiles[0] // THREADS)
    reach = table.image, table.windows, count, *tiles, lines.count, lines.touched
    launch(touching(), (blocks,), reach)
    return lines


def reached(
    rule: DeviceRule,
    what: str,
    options: Any,
    boxes: Corners,
    n_boxes: int,
    images: int,
    bins: tuple[int, int],
    sizes: tuple[int, int],
    weights: str,
    motion: Any,
) -> Any:
    """Tables of all boxes, and turned around, round by round: (first box, count, table, lines)."""
    tiles = tiling(images, sizes)
    per_box = max(sum(sizes) + 2 * sum(bins), tiles[0] * 2**24 // MOST_TOUCHED)
    for start, count in rounds(n_boxes, per_box):
        table = tabulate(
            rule, what, options, boxes, images, start, count, bins, sizes, weights, motion
        )
        yield start, count, table, turn(table, count, bins, sizes, tiles, weights)


def to_map_of_mean(
    rule: Any,
    options: Any,
    grad: Any,
    corners: Any,
    images: Any,
    shape: tuple[int, ...],
    channel_axis: int,
    motion: Any = None,
    *,
    deterministic: bool = True,
) -> Any:
    """Return the gradient of a mean to a map of a shape, in `grad`'s dtype or a wider one.

    Unless `deterministic` atomics add it up: bits then change from run to run.
    """
    source = flat(grad, channel_axis)
    bins = source.rows, source.columns
    if not deterministic:
        return _spread(rule, options, source, corners, images, shape, channel_axis, motion)
    result = empty(shape, grad.dtype)
    target = flat(result, channel_axis)
    sizes = target.rows, target.columns
    boxes = boxes_of(corners, images)
    weights = accumulator(source.stored).__name__
    tiles = tiling(len(result), sizes)
    first = True
    for start, count, table, lines in reached(
        rule_on_device(rule, len(options[0]) - 1), "weights" if motion is None else "rates",
        options, boxes, len(corners), len(result), bins, sizes, weights, motion,
    ):  # fmt: skip
        if first and count < len(corners) and result.dtype != weights:
            result = empty(shape, weights)  # or else every round would round
            target = flat(result, channel_axis)
        share, blocks = shares(source.channels, THREADS)
        kernel = scatter_of(source.stored, target.stored, offsets(source, target))
        arguments = (
            source.array, *source.layout, source.channels, lines.begin, lines.end, lines.bin,
            lines.weight, table.windows, lines.count, lines.touched, count, start,
            target.array, *target.layout, *sizes, *tiles[1:], share, target.inner, int(not first),
        )  # fmt: skip
        launch(kernel, (tiles[0], blocks), arguments)
        first = False
    return zeros(shape, grad.dtype) if first else result


def _spread(
    rule: Any,
    options: Any,
    source: Flat,
    corners: Any,
    images: Any,
    shape: tuple[int, ...],
    channel_axis: int,
    motion: Any,
) -> Any:
    """Return the same by atomics."""
    weights = accumulator(source.stored).__name__
    result = zeros(shape, weights)
    target = flat(result, channel_axis)
    bins, sizes = (source.rows, source.columns), (target.rows, target.columns)
    boxes, on_device = boxes_of(corners, images), rule_on_device(rule, len(options[0]) - 1)
    kernel = spread_of(source.stored, weights, offsets(source, target))
    share, blocks = shares(source.channels, bins[0] * bins[1])
    what = "weights" if motion is None else "rates"
    for start, count in rounds(len(corners), sum(sizes) + 2 * sum(bins)):
        table = tabulate(
            on_device, what, options, boxes, len(result), start, count, bins, sizes, weights,
            motion,
        )  # fmt: skip
        arguments = (
            target.array, *target.layout, target.channels, table.begin, table.end, table.index,
            table.weight, table.image, *bins, source.array, start, *source.layout, share,
            source.inner,
        )  # fmt: skip
        launch(kernel, (count, blocks), arguments)
    return result


def to_boxes_of_mean(
    rule: Any,
    options: Any,
    grad: Any,
    features: Any,
    corners: Any,
    images: Any,
    channel_axis: int,
) -> Any:
    """Return the gradient (K, 4) of a mean to the corners."""
    source, bins_of = flat(features, channel_axis), flat(grad, channel_axis)
    bins, sizes = (bins_of.rows, bins_of.columns), (source.rows, source.columns)
    counted(source.channels, bins)
    boxes = boxes_of(corners, images)
    weights = accumulator(source.stored).__name__
    on_device = rule_on_device(rule, len(options[0]) - 1)
    result = empty((len(corners), 4), weights)
    kernel = project_of(source.stored, bins_of.stored, weights, offsets(source, bins_of))
    per_box = sum(sizes) + 2 * sum(bins)
    for corner in range(4):
        velocity = zeros((len(corners), 4), corners.dtype)
        velocity[:, corner] = 1
        for start, count in rounds(len(corners), per_box):
            table = tabulate(
                on_device, "rates", options, boxes, len(features), start, count, bins, sizes,
                weights, (1 - corner % 2, velocity),
            )  # fmt: skip
            arguments = (
                source.array, *source.layout, source.channels, table.begin, table.end, table.index,
                table.weight, table.image, *bins, bins_of.array, start, *bins_of.layout,
                result, corner, source.inner,
            )  # fmt: skip
            launch(kernel, (count,), arguments)
    return result


def at_winners(
    rule: Any,
    reduce: str,
    options: Any,
    features: Any,
    argmax: Any,
    corners: Any,
    images: Any,
    channel_axis: int,
    *,
    grad: Any = None,
    boxes: bool = False,
    pooled: Any = None,
    motion: Any = None,
    deterministic: bool = True,
) -> Any:
    """Go through the winners of a maximum, as `argmax` names them.

    With `pooled`, fill it with the winners' values in `features`.  With `grad`, the gradient of
    the maximum, return that to `features`, or if `boxes`, that to the corners (K, 4).  With a
    `motion` (K, 4) it is all about rates of change.
    """
    source, names = flat(features, channel_axis), flat(argmax, channel_axis)
    bins, sizes = (names.rows, names.columns), (source.rows, source.columns)
    counted(source.channels, bins)
    given = boxes_of(corners, images)
    of_axes = axis_options(options)
    scales, own = of_axes[:2], of_axes[2:]
    weights = accumulator(source.stored).__name__
    on_device = rule_on_device(rule, len(options[0]) - 1)
    velocity, moving = (corners, False) if motion is None else (motion, True)
    motion_row = velocity.strides[0] // velocity.itemsize
    all_options = (*own, apart(reduce), *bins)
    layouts = given.geometry, given.numbers, source.stored
    if pooled is not None:
        target = flat(pooled, channel_axis)
        kernel = values_of(
            on_device, *layouts, target.stored, offsets(source, names, target), moving, False
        )
        arguments = (
            source.array, *source.layout, source.channels, *given.arguments, *scales,
            len(features), *sizes, *all_options, names.array, *names.layout,
            target.array, *target.layout, velocity, motion_row, source.inner,
        )  # fmt: skip
        launch(kernel, (len(corners),), arguments)
        return None
    gradient = flat(grad, channel_axis)
    if boxes:
        result = empty((len(corners), 4), weights)
        kernel = gradient_to_boxes(
            on_device, *layouts, gradient.stored, weights, offsets(source, names, gradient)
        )
        arguments = (
            source.array, *source.layout, source.channels, *given.arguments, *scales,
            len(features), *sizes, *all_options, names.array, *names.layout,
            gradient.array, *gradient.layout, result, source.inner,
        )  # fmt: skip
        launch(kernel, (len(corners),), arguments)
        return result
    result = zeros(features.shape, weights)
    target = flat(result, channel_axis)
    if not deterministic:
        kernel = values_of(
            on_device, given.geometry, given.numbers, target.stored, gradient.stored,
            offsets(target, names, gradient), moving, True,
        )  # fmt: skip
        arguments = (
            target.array, *target.layout, target.channels, *given.arguments, *scales,
            len(features), *sizes, *all_options, names.array, *names.layout,
            gradient.array, *gradient.layout, velocity, motion_row, target.inner,
        )  # fmt: skip
        launch(kernel, (len(corners),), arguments)
        return result
    tiles = tiling(len(result), sizes)
    share, blocks = shares(source.channels, THREADS)
    kernel = gather_of(
        on_device, given.geometry, gradient.stored, target.stored,
        offsets(gradient, names, target), moving,
    )  # fmt: skip
    for start, count, table, lines in reached(
        on_device, "reach" if moving else "weights", options, given, len(corners), len(result),
        bins, sizes, weights, None,
    ):  # fmt: skip
        arguments = (
            gradient.array, *gradient.layout, gradient.channels, *given.arguments[:3],
            *scales, *sizes, *all_options, names.array, *names.layout,
            lines.begin, lines.end, lines.bin, table.windows, lines.count, lines.touched, count,
            start, target.array, *target.layout, velocity, motion_row, *tiles[1:], share,
            target.inner,
        )  # fmt: skip
        launch(kernel, (tiles[0], blocks), arguments)
    return result
