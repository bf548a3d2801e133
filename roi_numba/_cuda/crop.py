"""Crops: one interpolated sample a bin, by the kernels of means."""

from typing import Any

import numpy as np

from .engine import pool
from .launch import empty, zeros


def sample(
    rule: Any,
    options: Any,
    features: Any,
    corners: Any,
    images: Any,
    fill: float,
    output: Any,
    channel_axis: int,
) -> None:
    """Write into `output` what the only sample of each bin finds, `fill` where it is off the map.

    So it is of all bins of a box whose number is no image's, or whose corners are not finite.
    """
    pool(rule, "mean", options, features, corners, images, output, None, channel_axis)
    if fill == 0:
        return
    # A map of ones, by the same rule, tells which samples are on the map.
    one = zeros((1, 1, 1, 1), np.float32)
    one.fill(1)
    like = [1 if axis == channel_axis % 4 else n for axis, n in enumerate(features.shape)]
    bins = [1 if axis == channel_axis % 4 else n for axis, n in enumerate(output.shape)]
    seen = empty(tuple(bins), np.float32)
    ones = np.broadcast_to(one, tuple(like))
    pool(rule, "mean", options, ones, corners, images, seen, None, channel_axis)
    np.copyto(output, np.float32(fill), where=seen == 0)
