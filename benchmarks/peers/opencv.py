"""OpenCV: crop_and_resize as one remap a box, by maps made beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload
from . import NotServed

MODULE = "cv2"
PACKAGES = ("opencv-python-headless", "numpy")
TOLERANCE = 0.05
"""remap takes positions in 1/32 of a pixel, and the images are noise; uint8 is rounded besides."""


def versions() -> dict[str, str]:
    import cv2

    return {"opencv": cv2.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    if call.operator != "crop_and_resize":
        raise NotServed(f"OpenCV has no {call.operator}")
    import cv2

    cv2.setNumThreads(threads)
    (level,) = workload.levels
    height, width = workload.output_size
    rows, columns = level.features.shape[1:3]
    calls = []
    for image, y1, x1, y2, x2 in level.boxes:
        y = np.linspace(y1 * (rows - 1), y2 * (rows - 1), height, dtype=np.float32)
        x = np.linspace(x1 * (columns - 1), x2 * (columns - 1), width, dtype=np.float32)
        maps = (np.ascontiguousarray(grid) for grid in np.meshgrid(x, y))
        calls.append((level.features[int(image)], *cv2.convertMaps(*maps, cv2.CV_16SC2)))

    def run() -> np.ndarray:
        crops = np.empty((len(calls), height, width, level.features.shape[3]), np.float32)
        for crop, (image, first, second) in zip(crops, calls, strict=True):
            if image.dtype == np.float32:
                cv2.remap(image, first, second, cv2.INTER_LINEAR, dst=crop)
            else:
                crop[...] = cv2.remap(image, first, second, cv2.INTER_LINEAR)
        return crops

    return run, lambda crops: [crops]
