"""From the name of a winner to what it read, by the operator's rule.

A name is the row-major number of a sample in its bin, or of a cell on the map.  One that no entry
of the bin bears counts for nothing: nothing is raised on the device.
"""

from functools import cache
from typing import Any

import numpy as np

from .._scalar import MANY_SAMPLES
from .compile import device
from .formats import accumulator
from .maximum import candidate
from .rules import DeviceRule


@cache
def finder(rule: DeviceRule, stored: str) -> Any:
    """A device function from the number of a winner along an axis to what it read.

    Returns ``(pixel, one, two, change, next_change, by_low, by_high)``, the weights of a pixel and
    of the next, how they change with the position, and that with the ends of the box, in the
    numbers that maps stored as `stored` are computed in; all zero if there is no such winner.
    """
    A = accumulator(stored)
    entries, entry, slope = rule.entries, rule.entry, rule.slope
    cells = rule.argmax == "cell"

    if slope is None:

        @device
        def slope_of(box, p, k, bins, size, option):
            return 0, A(0), A(0), A(0), A(0)
    else:
        slope_of = slope

    @device
    def find(box, p, number, apart, bins, size, option):
        first, last, count = entries(box, p, bins, size, option)
        if not cells and np.int64(count) * apart > MANY_SAMPLES:
            number += first * apart
        found, weight, next_weight = 0, A(0), A(0)
        change, next_change, by_low, by_high = A(0), A(0), A(0), A(0)
        if number >= first * apart and number < last * apart:
            side = -1
            k = number
            if apart == 2:
                k, side = number >> 1, number & 1
            pixel, one, two = entry(box, p, k, bins, size, option)
            _, first_change, second_change, low, high = slope_of(box, p, k, bins, size, option)
            if side == 1:
                first_change = second_change
            if side >= 0:
                second_change = type(second_change)(0)
            place, one, two = candidate(pixel, one, two, side)
            if one != 0:
                if place != pixel + max(side, 0):
                    first_change, second_change = second_change, first_change
                found, weight, next_weight = place, A(one), A(two)
                change, next_change = A(first_change), A(second_change)
                by_low, by_high = A(low), A(high)
        return found, weight, next_weight, change, next_change, by_low, by_high

    return find


@cache
def pitch_of(rule: DeviceRule) -> Any:
    """A device function: what argmax calls a row of samples (cells) of a bin."""
    entries = rule.entries
    cells = rule.argmax == "cell"

    @device
    def pitch(box, p, apart, bins, size, option):
        if cells:
            return np.int64(max(size, 1))
        _, _, count = entries(box, p, bins, size, option)
        return np.int64(max(min(np.int64(count) * apart, np.int64(MANY_SAMPLES)), 1))

    return pitch


GEOMETRY = (
    "int32", "int32", "int32", "int64", "int64", "int64", "int64", "int32", "int32", "int32",
)  # fmt: skip
"""images, height, width, the operator's own options, apart, and the numbers of bins."""


def boxes_parameters(geometry: str, numbers: str) -> tuple[str, ...]:
    """Types of corners and numbers with their strides, and the scales."""
    return f"{geometry}*", "int64", "int64", f"{numbers}*", "int64", geometry, geometry
