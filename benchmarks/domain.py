"""The random domain that accuracy is stated over: maps, boxes, sizes, options, in one place.

Maps are standard normal.  Boxes have log-uniform sides and uniform centres, and so may reach over
the edges of their map.
"""

from typing import NamedTuple

import numpy as np

from .cases import ADAPTIVE, ALIGN, FLOAT, Call, Level, Workload

CHANNELS = 20
"""A whole vector of channels and a part of one."""
BOXES = 12
"""On each map."""
SIZE = 7, 7


class Scene(NamedTuple):
    """A map, and what boxes are drawn on it."""

    images: int
    height: int
    width: int
    spatial_scale: float
    shortest: float
    """Side of a box, in pixels of the image."""
    longest: float


SCENES = (
    Scene(2, 50, 84, 1 / 16, 32, 600),
    Scene(1, 100, 120, 1 / 4, 8, 112),
    Scene(3, 13, 11, 0.37, 1, 60),
)
CROPPED = Scene(3, 40, 52, 1.0, 2, 30)

CALLS = {
    "roi_pool": Call("roi_pool", FLOAT | {"reduce": "max"}),
    "roi_pool-mean": Call("roi_pool", FLOAT | {"reduce": "mean"}),
    "roi_align": Call("roi_align", ALIGN),
    "roi_align-adaptive": Call("roi_align", ADAPTIVE),
    "roi_align-max": Call("roi_align", ALIGN | {"reduce": "max"}),
    "roi_align-max_corner": Call("roi_align", ALIGN | {"reduce": "max_corner"}),
    "roi_warp": Call("roi_warp", {"sampling_ratio": 2, "reduce": "max"}),
    "roi_warp-mean": Call("roi_warp", {"sampling_ratio": 2, "reduce": "mean"}),
    "crop_pool": Call("crop_pool"),
    "prroi_pool": Call("prroi_pool"),
    "crop_and_resize": Call("crop_and_resize", {"edges": "tensorflow"}),
}


def draw_boxes(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """Boxes (K, 5) in pixels of the image."""
    image = np.array([scene.width, scene.height]) / scene.spatial_scale
    sides = np.exp(rng.uniform(np.log(scene.shortest), np.log(scene.longest), (BOXES, 2)))
    centres = rng.uniform(0, 1, (BOXES, 2)) * image
    images = rng.integers(0, scene.images, BOXES)
    boxes = np.column_stack([images, centres - sides / 2, centres + sides / 2])
    return boxes.astype(np.float32)


def draw(call: Call, seed: int) -> Workload:
    """Everything a call of ``CALLS`` is made on; crops have one map, channels last."""
    rng = np.random.default_rng(seed)
    if call.operator == "crop_and_resize":
        return Workload([draw_crops(rng)], SIZE)
    levels = []
    for scene in SCENES:
        shape = scene.images, CHANNELS, scene.height, scene.width
        features = rng.standard_normal(shape, dtype=np.float32)
        levels.append(Level(features, draw_boxes(rng, scene), scene.spatial_scale))
    return Workload(levels, SIZE)


def draw_crops(rng: np.random.Generator) -> Level:
    """Boxes (image, y1, x1, y2, x2), 0 and 1 the outermost pixels, within a hundredth of these."""
    shape = CROPPED.images, CROPPED.height, CROPPED.width, CHANNELS
    features = rng.standard_normal(shape, dtype=np.float32)
    boxes = draw_boxes(rng, CROPPED)
    reach = np.array([CROPPED.height, CROPPED.width, CROPPED.height, CROPPED.width]) - 1
    # Rounding may put a last sample off the image, which makes another result of it.
    boxes[:, 1:] = np.clip(boxes[:, [2, 1, 4, 3]] / reach, 0.01, 0.99)
    return Level(features, boxes, 1.0)
