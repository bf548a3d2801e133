"""The CUDA engine: tables from the operator's rule, then one kernel for means, another for maxima.

Everything is enqueued on CuPy's current stream; nothing waits for it.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from .contract import contract_of
from .formats import LANES, accumulator
from .launch import launch, scratch
from .layout import flat, in_vectors, offsets, stored
from .levels import ONE, Maps, one_map, several_maps
from .maximum import maximum_of
from .rules import DeviceRule, axis_options, rule_on_device
from .tables import bands_of

ROUND_ENTRIES = 2**24
"""Table entries after which the remaining boxes wait for the next round: 128 MiB."""

MOST_BLOCKS = 65535
"""Along y of a grid."""

MOST_LANES = max(LANES.values())
"""A multiple of all others: so many channels are whole vectors in every format."""


class Corners(NamedTuple):
    """Boxes as kernels take them: corners and image numbers, wherever they lie."""

    arguments: tuple[Any, ...]
    geometry: str
    numbers: str


def boxes_of(corners: Any, images: Any) -> Corners:
    """Describe corners (K, 4) and images (K,) of any strides."""
    row, column = corners.strides
    size = corners.itemsize
    arguments = (
        corners, row // size, column // size, images, images.strides[0] // images.itemsize
    )  # fmt: skip
    return Corners(arguments, stored(corners.dtype), stored(images.dtype))


class Bands(NamedTuple):
    """A table of some boxes, and the memory it lies in; see `tables`."""

    capacity: tuple[int, int]
    memory: Any
    begin: Any
    end: Any
    index: Any
    weight: Any
    image: Any
    windows: Any


def tabulate(
    rule: DeviceRule,
    what: str,
    options: Any,
    boxes: Corners,
    images: int,
    start: int,
    count: int,
    bins: tuple[int, int],
    sizes: tuple[int, int],
    weights: str,
    motion: Any = None,
    maps: Maps | None = None,
) -> Bands:
    """Fill a table for `count` boxes from number `start`.

    ``motion``: the axis that moves and how the corners do, (K, 4) in the dtype of the corners.
    ``maps``: what is pooled, if it may be several; `sizes` are the largest then.
    """
    capacity = sizes[0] + 2 * bins[0], sizes[1] + 2 * bins[1]
    both, room = bins[0] + bins[1], capacity[0] + capacity[1]
    parts = scratch(
        (count * both, "int32"),
        (count * both, "int32"),
        (count * room, "int32"),
        (count * room, weights),
        (count, "int32"),
        (count * 4, "int32"),
    )
    table = Bands(capacity, *parts)
    moved, velocity = motion or (-1, boxes.arguments[0])
    several = maps is not None and maps.several
    kernel = bands_of(rule, boxes.geometry, boxes.numbers, weights, what, several)
    arguments = (
        *boxes.arguments, velocity, velocity.strides[0] // velocity.itemsize, moved,
        *axis_options(options), *bins, *sizes, images, start,
        *capacity, table.begin, table.end, table.index, table.weight, table.image, table.windows,
        *(ONE if maps is None else maps.arguments),
    )  # fmt: skip
    launch(kernel, (count,), arguments)
    return table


def rounds(boxes: int, per_box: int) -> list[tuple[int, int]]:
    """Parts of the boxes, (first, how many), whose tables are of bounded size."""
    if boxes * per_box <= ROUND_ENTRIES:  # nearly every call
        return [(0, boxes)] if boxes else []
    most = max(ROUND_ENTRIES // per_box, 1)
    return [(start, min(most, boxes - start)) for start in range(0, boxes, most)]


@lru_cache
def shares(channels: int, units: int) -> tuple[int, int]:
    """How many channels a block takes, whole vectors of them, and the number of blocks for all.

    ``units``: what a block does with every channel.  Enough for its threads, and no more blocks
    than a grid has along y.
    """
    share = max(32, 1024 // units, -(-channels // MOST_BLOCKS))
    share += -share % MOST_LANES
    return share, -(-channels // share)


def apart(reduce: str) -> int:
    """How many candidates an entry is."""
    return 2 if reduce == "max_corner" else 1


def pool(
    rule: Any,
    reduce: str,
    options: Any,
    features: Any,
    corners: Any,
    images: Any,
    output: Any,
    argmax: Any,
    channel_axis: int,
    motion: Any = None,
) -> None:
    """Pool `features` over the boxes `corners` (K, 4) of `images` (K,) into `output`.

    A box whose number is no image's, or whose corners are not finite, gives zeros.  With a `motion`
    it is the rate of change of a mean that is pooled (`tables.bands_of`).
    """
    maps = one_map(flat(features, channel_axis))
    _pool(
        rule, reduce, options, maps, len(features), corners, images, output, argmax, channel_axis,
        motion,
    )  # fmt: skip


def pool_levels(
    rule: Any,
    reduce: str,
    options: list[Any],
    maps: list[Any],
    levels: Any,
    corners: Any,
    images: Any,
    output: Any,
    argmax: Any,
    channel_axis: int,
) -> None:
    """Pool each box from the map that `levels` (K,) says, each map by its own options."""
    flats = [flat(each, channel_axis) for each in maps]
    together = several_maps(flats, levels, options, stored(corners.dtype))
    _pool(
        rule, reduce, options[0], together, len(maps[0]), corners, images, output, argmax,
        channel_axis,
    )  # fmt: skip


def _pool(
    rule: Any,
    reduce: str,
    options: Any,
    maps: Maps,
    n_images: int,
    corners: Any,
    images: Any,
    output: Any,
    argmax: Any,
    channel_axis: int,
    motion: Any = None,
) -> None:
    source, target = maps.first, flat(output, channel_axis)
    boxes = boxes_of(corners, images)
    bins, sizes = (target.rows, target.columns), maps.sizes
    on_device = rule_on_device(rule, len(options[0]) - 1)
    share, blocks = shares(source.channels, bins[0] * bins[1])
    if reduce == "mean":
        vectors = source.stored == target.stored and maps.in_vectors and in_vectors(target)
        contract = contract_of(
            source.stored, target.stored, offsets(maps, target), vectors, maps.several
        )
        weights = accumulator(source.stored).__name__
        per_box = sum(sizes) + 2 * sum(bins)
        for start, count in rounds(len(corners), per_box):
            table = tabulate(
                on_device, "weights" if motion is None else "rates", options, boxes, n_images,
                start, count, bins, sizes, weights, motion, maps,
            )  # fmt: skip
            arguments = (
                maps.source, *source.layout, source.channels,
                table.begin, table.end, table.index, table.weight, table.image, *bins,
                target.array, start, *target.layout, share, source.inner, *maps.arguments[:2],
            )  # fmt: skip
            launch(contract, (count, blocks), arguments)
        return
    names = target if argmax is None else flat(argmax, channel_axis)
    kernel = maximum_of(
        on_device, boxes.geometry, boxes.numbers, source.stored, target.stored,
        offsets(maps, target, names), argmax is not None, maps.several,
    )  # fmt: skip
    arguments = (
        maps.source, *source.layout, source.channels, n_images, *sizes, *boxes.arguments,
        *axis_options(options), apart(reduce), *bins,
        target.array, *target.layout, names.array, *names.layout, share, source.inner,
        *maps.arguments,
    )  # fmt: skip
    launch(kernel, (len(corners), blocks), arguments)
