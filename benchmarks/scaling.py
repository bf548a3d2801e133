"""Workloads along one axis at a time: boxes, their size, channels; threads by the caller.

A point is a case of the name ``axis=value``; all others are as in c4-head, but for the size of the
boxes, which is one for all.
"""

from typing import Any

import numpy as np

from .cases import CASES, Workload, c4_head

AXES: dict[str, tuple[int, ...]] = {
    "boxes": (1, 3, 10, 30, 100, 300, 1000),
    "side": (16, 32, 64, 128, 256, 512),
    "channels": (1, 4, 16, 64, 256, 1024),
}
UNITS = {
    "boxes": "boxes",
    "side": "side of a box, px of the image",
    "channels": "channels",
    "threads": "threads",
}
POINTS = [f"{axis}={value}" for axis, values in AXES.items() for value in values]
BASE = "boxes=300"
"""The point at which threads are compared: c4-head itself."""
OPS = "roi_align", "roi_pool"


def workload(case: str) -> Workload:
    """Make the workload of a case, or of a point of an axis."""
    axis, _, value = case.partition("=")
    if not value:
        return CASES[case].build()
    if axis == "boxes":
        return c4_head(int(value))
    if axis == "channels":
        return c4_head(channels=int(value))
    return with_sides(int(value))


def with_sides(side: int) -> Workload:
    """c4-head with square boxes of one size, all inside the image."""
    made = c4_head()
    boxes = made.levels[0].boxes
    start = np.random.default_rng(2).uniform(0, np.array([1344, 800]) - side, (len(boxes), 2))
    boxes[:, 1:3], boxes[:, 3:] = start, start + side
    return made


def position(row: dict[str, Any]) -> tuple[str, int]:
    """Axis and value of a point's row."""
    axis, _, value = row["case"].partition("=")
    return axis, int(value)
