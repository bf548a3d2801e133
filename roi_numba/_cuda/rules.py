"""An operator's rule on the device, and what every kernel that asks it begins with."""

from functools import cache
from typing import Any

import numpy as np

from .._scalar import at_rate as at_rate_anywhere
from .compile import device, on_device

at_rate = on_device(at_rate_anywhere)


class DeviceRule:
    """The functions of a rule, compiled into the kernels that call them.

    ``pack(scale, first, second)`` makes the options of an axis: kernels have two numbers for an
    operator's own options, of which some operators need one.
    """

    def __init__(self, rule: Any, own: int) -> None:
        self.name, self.argmax = rule.name, rule.argmax
        self.span = on_device(rule.span)
        self.entries = on_device(rule.entries)
        self.entry = on_device(rule.entry)
        self.slope = None if rule.slope is None else on_device(rule.slope)

        def pack_one(scale, first, second):
            return scale, first

        def pack_two(scale, first, second):
            return scale, first, second

        self.pack = device(pack_one if own == 1 else pack_two)


@cache
def rule_on_device(rule: Any, own: int) -> DeviceRule:
    """The rule of an operator with so many options of its own."""
    return DeviceRule(rule, own)


@cache
def own_options(y: tuple[Any, ...], x: tuple[Any, ...]) -> tuple[int, int, int, int]:
    """The operator's own options of the y and the x axis, as kernels take them."""
    first, second = (*map(int, y), 0)[:2]
    third, fourth = (*map(int, x), 0)[:2]
    return first, second, third, fourth


def axis_options(options: Any) -> tuple[Any, ...]:
    """The scales and then the operator's own options of the y and the x axis."""
    y, x = options
    return y[0], x[0], *own_options(y[1:], x[1:])


@device
def corners_of(corners, at, step):
    """x1, y1, x2, y2 of the box whose corners begin at `at`."""
    return corners[at], corners[at + step], corners[at + 2 * step], corners[at + 3 * step]


@device
def checked_box(corners, at, step, numbers, number_at, images):
    """The image of a box and its corners; -1 and zeros if it is no box on an image.

    A number is compared before it becomes an integer: NaN and 1e30 have none.
    """
    x1, y1, x2, y2 = corners_of(corners, at, step)
    T = type(x1)
    number = numbers[number_at]
    S = type(number)  # or a comparison would be one of float64
    image = np.int32(-1)
    if number >= S(0) and number < S(images):
        whole = np.int32(number)
        if S(whole) == number and (x1 - x1) + (y1 - y1) + (x2 - x2) + (y2 - y2) == T(0):
            image = whole
    if image < 0:
        x1, y1, x2, y2 = T(0), T(0), T(0), T(0)
    return image, x1, y1, x2, y2
