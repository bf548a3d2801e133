"""The fixed workloads, equal in every process: same seed, same order of draws."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

IMAGE = (800, 1344)  # height, width in pixels


@dataclass(frozen=True)
class Call:
    """One operator with the options it is timed with."""

    operator: str
    options: dict[str, Any] = field(default_factory=dict)
    gradient: str | None = None
    """Not the pooling is timed but its gradient to the "input" or to the "boxes"."""
    dtype: str = "float32"
    """Of the maps; boxes are float32."""
    out: bool = False
    """Ours writes into an array made beforehand, as OpenVINO and onnxruntime do in every call."""
    against: str | None = None
    """Another of our own operators (a key of `OPS`) that this one's time is measured by."""


ALIGN = {"sampling_ratio": 2, "aligned": True}
ADAPTIVE = {"sampling_ratio": -1, "aligned": True}
FLOAT = {"bins": "float"}  # as the peers round, or the results could not be compared

OPS = {
    "roi_align": Call("roi_align", ALIGN),
    "roi_align-adaptive": Call("roi_align", ADAPTIVE),
    "roi_pool": Call("roi_pool", FLOAT),
    "roi_pool-argmax": Call("roi_pool", FLOAT | {"return_argmax": True}, against="roi_pool"),
    "roi_warp": Call("roi_warp", against="roi_align-adaptive"),
    "roi_warp-2x2": Call("roi_warp", {"sampling_ratio": 2}, against="roi_align-adaptive"),
    "roi_warp-mean": Call(
        "roi_warp", {"sampling_ratio": 2, "reduce": "mean"}, against="roi_align-adaptive"
    ),
    "crop_pool": Call("crop_pool"),
    "prroi_pool": Call("prroi_pool", against="roi_align-adaptive"),
    "pyramid_pool": Call("pyramid_pool", {"sampling_ratio": 2}),
    "crop_and_resize": Call("crop_and_resize", {"edges": "tensorflow"}),
    "crop_and_resize-nchw": Call(
        "crop_and_resize", {"edges": "tensorflow", "channel_axis": 1}, against="crop_and_resize"
    ),
    "roi_align-gradient": Call("roi_align", ALIGN, "input"),
    "roi_pool-gradient": Call("roi_pool", FLOAT, "input"),
    "roi_align-boxes": Call("roi_align", ALIGN, "boxes", against="roi_align"),
    "prroi_pool-boxes": Call("prroi_pool", {}, "boxes", against="prroi_pool"),
    "sha256": Call("sha256"),
}


def in_forms(*names: str) -> tuple[str, ...]:
    """The names of operators with maps and results channels-last, and with float16 maps."""
    return tuple(f"{name}-{form}" for name in names for form in ("nhwc", "float16"))


POOLED = "roi_align", "roi_align-adaptive", "roi_pool", "roi_warp", "prroi_pool", "pyramid_pool"
GRADIENTS = "roi_align-gradient", "roi_pool-gradient"
COMPARED = "roi_align", "roi_align-adaptive", "roi_pool"
for name in (*POOLED, *GRADIENTS):
    call = replace(OPS[name], against=name)
    last, half = in_forms(name)
    OPS[last] = replace(call, options=call.options | {"channel_axis": -1})
    OPS[half] = replace(call, dtype="float16")
for name in COMPARED:
    OPS[f"{name}-out"] = replace(OPS[name], out=True, against=name)


class Level(NamedTuple):
    """One map and the boxes pooled from it."""

    features: np.ndarray  # (N, C, H, W) float32; for crops (N, H, W, C)
    boxes: np.ndarray  # (K, 5) float32: batch index, x1, y1, x2, y2; for crops normalised, y first
    spatial_scale: float


class Workload(NamedTuple):
    """What an operator is called on: one call for each level, the sum is timed.

    `pyramid_pool` is one call, of all boxes in the order they were drawn.
    """

    levels: list[Level]
    output_size: tuple[int, int]
    boxes: np.ndarray | None = None  # those of all levels, (K, 5), for a pyramid


class Case(NamedTuple):
    """A named workload and the operators (keys of `OPS`) it is for."""

    about: str
    ops: tuple[str, ...]
    build: Callable[[], Workload]
    against: str | None = None  # the case that our own time is measured by
    peers: tuple[str, ...] | None = None  # those with a chance to end; None: all


def draw_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (K, 5): log-uniform sides of 32 to 600 px, uniform centres, clipped to the image."""
    height, width = IMAGE
    sides = np.exp(rng.uniform(np.log(32), np.log(600), (count, 2)))
    x, y = rng.uniform(0, width, count), rng.uniform(0, height, count)
    corners = [
        np.clip(x - sides[:, 0] / 2, 0, width),
        np.clip(y - sides[:, 1] / 2, 0, height),
        np.clip(x + sides[:, 0] / 2, 0, width),
        np.clip(y + sides[:, 1] / 2, 0, height),
    ]
    return np.stack([np.zeros(count), *corners], axis=1).astype(np.float32)


def draw_features(rng: np.random.Generator, *shape: int, images: int = 1) -> np.ndarray:
    """Draw normal float32 features (N, C, H, W)."""
    features: np.ndarray = rng.standard_normal((images, *shape), dtype=np.float32)
    return features


def stored(features: np.ndarray, call: Call) -> np.ndarray:
    """(N, C, H, W) in the layout and dtype that our call wants."""
    if call.options.get("channel_axis") == -1:
        features = features.transpose(0, 2, 3, 1)
    return features.astype(call.dtype, order="C", copy=False)


def draw_gradients(workload: Workload) -> list[np.ndarray]:
    """Draw a gradient (K, C, height, width) for the result of each level."""
    rng = np.random.default_rng(1)
    shapes = [
        (len(level.boxes), level.features.shape[1], *workload.output_size)
        for level in workload.levels
    ]
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def fpn_levels(boxes: np.ndarray, lowest: int = 2, highest: int = 5) -> np.ndarray:
    """Level of each box (K, 5): floor(4 + log2(sqrt(area) / 224)), clipped."""
    x1, y1, x2, y2 = boxes[:, 1:].astype(np.float64).T
    area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    with np.errstate(divide="ignore"):
        level = np.floor(4 + np.log2(np.sqrt(area) / 224))
    return np.asarray(np.clip(level, lowest, highest), np.int64)


def c4_head(count: int = 300, channels: int = 1024, images: int = 1) -> Workload:
    """The first ``count`` of 300 boxes on the stride-16 map of a ResNet-50 C4 head.

    Of more than one image the boxes are in no order.
    """
    rng = np.random.default_rng(0)
    boxes = draw_boxes(rng, max(count, 300))
    features = draw_features(rng, channels, 50, 84, images=images)
    boxes[:, 0] = rng.integers(0, images, len(boxes))
    return Workload([Level(features, boxes[:count], 1 / 16)], (7, 7))


def fpn(count: int, bins: int) -> Workload:
    """Boxes shared out over P2 to P5 of a 256-channel pyramid."""
    rng = np.random.default_rng(0)
    boxes = draw_boxes(rng, count)
    of_box = fpn_levels(boxes)
    levels = []
    for level in range(2, 6):
        stride = 2**level
        size = (math.ceil(side / stride) for side in IMAGE)
        levels.append(Level(draw_features(rng, 256, *size), boxes[of_box == level], 1 / stride))
    return Workload(levels, (bins, bins), boxes)


def on_wide_map(side: float, away: float = 0) -> Workload:
    """20 boxes of ``side`` px about the map's middle, or that far ``away`` from it."""
    rng = np.random.default_rng(0)
    middle = np.array([1088, 800]) / 2
    centre = middle + away + rng.uniform(-0.5, 0.5, (20, 2)) * middle
    boxes = np.column_stack([np.zeros(20), centre - side / 2, centre + side / 2])
    features = draw_features(rng, 256, 200, 272)
    return Workload([Level(features, boxes.astype(np.float32), 1 / 4)], (7, 7))


def covering_wide_map() -> Workload:
    """20 boxes that cover the map exactly."""
    level = on_wide_map(0).levels[0]
    level.boxes[:, 1:] = 0, 0, 1088, 800
    return Workload([level], (7, 7))


def tiny() -> Workload:
    """One box on 16 x 32 x 32: the cost of a call rather than of the work."""
    rng = np.random.default_rng(0)
    boxes = np.array([[0, 3.2, 4.1, 27.5, 22.9]], np.float32)
    return Workload([Level(draw_features(rng, 16, 32, 32), boxes, 1.0)], (7, 7))


def images(dtype: type) -> Workload:
    """256 crops out of 8 images of 1080 x 1920, log-uniform sides of 64 to 1000 px.

    The images are waves of 190 px, which change by 5 from pixel to pixel: most peers' samples are
    some 1e-4 px off, which noise would make a different result of.
    """
    rng = np.random.default_rng(0)
    size = np.array([1080, 1920])
    across, down = (
        np.sin(np.arange(side) / 30 + rng.uniform(0, 2 * np.pi, (8, 3, 1))) for side in size[::-1]
    )
    waves = down.transpose(0, 2, 1)[:, :, None] * across.transpose(0, 2, 1)[:, None]
    features = (127.5 * (1 + waves)).astype(np.uint8).astype(dtype, order="C")
    sides = np.exp(rng.uniform(np.log(64), np.log(1000), (256, 2)))
    start = rng.uniform(0, 1, (256, 2)) * (size - 1 - sides)
    # Strictly inside: TensorFlow's rounding may put the last row off the image.
    corners = np.concatenate([start, start + sides], axis=1) / np.tile(size - 1, 2)
    boxes = np.column_stack([rng.integers(0, 8, 256), corners]).astype(np.float32)
    return Workload([Level(features, boxes, 1.0)], (224, 224))


CROPS = "crop_and_resize", "crop_and_resize-nchw"
ROI_OPS = (
    "roi_align", "roi_align-adaptive", "roi_pool", "roi_pool-argmax", "roi_warp", "roi_warp-2x2",
    "roi_warp-mean", "crop_pool", "prroi_pool", *GRADIENTS, "roi_align-boxes", "prroi_pool-boxes",
)  # fmt: skip
HOPELESS = ("torchvision",)  # stands for all whose work grows with the box

CASES = {
    "machine": Case(
        "no pooling: 64 hashes of 256 KiB, what threads are worth that share nothing",
        ("sha256",),
        lambda: Workload([], (0, 0)),
        peers=(),
    ),
    "c4-head": Case(
        "1x1024x50x84, 300 boxes, 7x7",
        (*ROI_OPS, *in_forms(*POOLED[:-1], *GRADIENTS), *(f"{op}-out" for op in COMPARED)),
        c4_head,
    ),
    "c4-head-50": Case("1x1024x50x84, 50 boxes, 7x7", COMPARED[:2], lambda: c4_head(50)),
    "c4-head-10": Case("1x1024x50x84, 10 boxes, 7x7", COMPARED[:2], lambda: c4_head(10)),
    "c4-head-1": Case("1x1024x50x84, 1 box, 7x7", COMPARED[:2], lambda: c4_head(1)),
    "c4-head-batch": Case(
        "8x1024x50x84, 300 boxes of all images in no order, 7x7",
        COMPARED,
        lambda: c4_head(images=8),
    ),
    "fpn-box": Case(
        "P2-P5, 256 channels, 1000 boxes, 7x7, a call for each level",
        ("roi_align", "roi_align-gradient", *in_forms("roi_align", "roi_align-gradient")),
        lambda: fpn(1000, 7),
    ),
    "fpn-pyramid": Case(
        "P2-P5, 256 channels, 1000 boxes, 7x7, one call",
        ("pyramid_pool", *in_forms("pyramid_pool")),
        lambda: fpn(1000, 7),
    ),
    "fpn-mask": Case(
        "P2-P5, 256 channels, 100 boxes, 14x14, a call for each level",
        ("roi_align", *in_forms("roi_align")),
        lambda: fpn(100, 14),
    ),
    "fpn-mask-pyramid": Case(
        "P2-P5, 256 channels, 100 boxes, 14x14, one call",
        ("pyramid_pool",),
        lambda: fpn(100, 14),
    ),
    "whole-map": Case(
        "1x256x200x272, 20 boxes that cover the map, 7x7",
        ("roi_align-adaptive",),
        covering_wide_map,
    ),
    "huge-boxes": Case(
        "1x256x200x272, 20 boxes of 8000 px, 7x7",
        ("roi_align-adaptive",),
        lambda: on_wide_map(8000),
        against="whole-map",
        peers=HOPELESS,
    ),
    "off-map": Case(
        "1x256x200x272, 20 boxes of 1000 px off the map, 7x7",
        ("roi_align-adaptive",),
        lambda: on_wide_map(1000, away=5000),
        against="whole-map",
        peers=HOPELESS,
    ),
    "crop": Case(
        "8x1080x1920x3 uint8, 256 crops, 224x224",
        CROPS,
        lambda: images(np.uint8),
        against="crop-float32",
    ),
    "crop-float32": Case(
        "8x1080x1920x3 float32, 256 crops, 224x224",
        CROPS,
        lambda: images(np.float32),
    ),
    "crop-float16": Case(
        "8x1080x1920x3 float16, 256 crops, 224x224",
        CROPS,
        lambda: images(np.float16),
        against="crop-float32",
    ),
    "tiny": Case("1x16x32x32, 1 box, 7x7", ROI_OPS, tiny),
}


def measured_by(case: str, op: str) -> list[tuple[str, str]]:
    """The cases and operators of our own that ours of this one is compared with."""
    others = [(case, OPS[op].against), (CASES[case].against, op)]
    return [(other_case, other_op) for other_case, other_op in others if other_case and other_op]


HEADLINES = {
    ("c4-head", "roi_align"): "RoIAlign, 300 boxes, 1024 channels",
    ("c4-head", "roi_align-adaptive"): "RoIAlign, as many samples as pixels",
    ("c4-head-batch", "roi_align"): "RoIAlign, boxes of 8 images",
    ("c4-head", "roi_pool"): "RoIPool, 300 boxes, 1024 channels",
    ("fpn-box", "roi_align"): "RoIAlign on 4 levels, 1000 boxes, 7×7",
    ("fpn-mask", "roi_align"): "RoIAlign on 4 levels, 100 boxes, 14×14",
    ("c4-head", "roi_align-gradient"): "gradient of RoIAlign to the map",
    ("c4-head", "roi_pool-gradient"): "gradient of RoIPool to the map",
    ("crop-float32", "crop_and_resize"): "256 crops of 224×224, float32",
}
"""What the charts show, and under which title."""
