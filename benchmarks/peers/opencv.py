"""OpenCV: crop_and_resize as one remap a box, by maps made beforehand.

One map of pairs: maps in fixed point take longer with OpenCV 5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import crops
from ..cases import Call, Workload
from . import NotServed

NAME = "OpenCV"
MODULE = "cv2"
PACKAGES = ("opencv-python-headless", "numpy")
TOLERANCE = 0.004
"""Crops of uint8 are rounded to uint8, up to 0.002; OpenCV 4 takes positions in 1/32 of a pixel."""


def versions() -> dict[str, str]:
    import cv2

    return {"opencv": cv2.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    if call.operator != "crop_and_resize":
        raise NotServed(f"OpenCV has no {call.operator}")
    if workload.levels[0].features.dtype == np.float16:
        raise NotServed("remap takes no float16")
    import cv2

    cv2.setNumThreads(threads)
    (level,) = workload.levels
    height, width = workload.output_size
    calls = []
    for image, y, x in zip(
        level.boxes[:, 0], *crops.positions(level, (height, width)), strict=True
    ):
        grid = np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)
        calls.append((level.features[int(image)], grid))

    def run() -> np.ndarray:
        cut = np.empty((len(calls), height, width, level.features.shape[3]), np.float32)
        for crop, (image, grid) in zip(cut, calls, strict=True):
            if image.dtype == np.float32:
                cv2.remap(image, grid, None, cv2.INTER_LINEAR, dst=crop)
            else:
                crop[...] = cv2.remap(image, grid, None, cv2.INTER_LINEAR)
        return cut

    return run, lambda cut: [cut]
