"""The CPU engine: tables from the operator's rule, then one of two kernels on all threads."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import flat_memory
from .blocks import Layout
from .contract import contract
from .lanes import LANE_BYTES
from .maximum import maximum
from .plan import COST
from .tables import Bands, tabulate
from .threads import run

PORTION_COST = 1_000_000
"""Work handed to a thread at a time: about 3 ms, so that Ctrl-C is heard and no thread waits."""


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
) -> None:
    """Pool `features` over the boxes `corners` (K, 4) of `images` (K,) into `output`.

    A box of image -1 gives zeros.  Nothing here depends on the number of threads.
    """
    source, source_layout = _flat(features, channel_axis)
    target, target_layout = _flat(output, channel_axis)
    if argmax is None:
        labels, labels_layout = np.empty(0, np.int64), target_layout
    else:
        labels, labels_layout = _flat(argmax, channel_axis)
    y_axis, x_axis = (2, 3) if channel_axis == 1 else (1, 2)
    sizes = features.shape[y_axis], features.shape[x_axis]
    bins = output.shape[y_axis], output.shape[x_axis]
    like = np.empty(0, np.float64 if features.dtype == np.float64 else np.float32)
    places = np.empty(0, np.int64 if like.itemsize == 8 else np.int32)
    whole = rule.argmax == "cell"
    lanes = LANE_BYTES // like.itemsize
    blocks = -(-source_layout.channels // lanes)

    start = 0
    while start < len(corners):
        stop, table, order, groups = tabulate(
            rule, reduce, corners, images, start, bins, sizes, options, like
        )
        shared = source, source_layout, target, target_layout, start, sizes, bins, table
        work: Callable[[int, int], None]
        if isinstance(table, Bands):
            work = partial(contract, *shared, order, groups, like)
        else:
            work = partial(
                maximum, *shared, whole, labels, labels_layout, order, groups, like, places
            )
        run(work, pairwise(_cuts(groups[:, COST], blocks)))
        start = stop


def _cuts(costs: NDArray[np.int64], blocks: int) -> list[int]:
    """Cut the items (group, channel block) into portions of about PORTION_COST."""
    items = len(costs) * blocks
    if int(costs.sum()) * blocks <= PORTION_COST:
        return [0, items]
    before = np.cumsum(np.repeat(costs, blocks)) // PORTION_COST
    return [0, *(np.flatnonzero(np.diff(before)) + 1).tolist(), items]


def _flat(array: NDArray[Any], channel_axis: int) -> tuple[NDArray[Any], Layout]:
    """Flat memory of a 4-D array and where its elements lie."""
    flat, origin, strides = flat_memory(array)
    channels = array.shape[channel_axis]
    if channel_axis == -1:
        strides = strides[0], strides[3], strides[1], strides[2]
    return flat, Layout(origin, strides[0], channels, *strides[1:])
