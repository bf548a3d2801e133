"""One photograph, every operator: what each of them reads, and what comes of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import axis_weights, get_num_threads, prroi_pool, roi_align, roi_pool, roi_warp

Box = tuple[float, float, float, float]
Floats = NDArray[np.floating[Any]]

# The head of matplotlib's portrait; no side of it is a multiple of the stride.
_PORTRAIT_BOX = (145.0, 20.0, 380.0, 335.0)
_REPEATS = 25


class DemoError(Exception):
    """The demo cannot run; the message is one sentence for the user."""


@dataclass(frozen=True)
class Variant:
    """An operator and its options: ``rule`` says where it reads, ``reduce`` what it makes of it.

    All are in the table; those that are ``drawn``, one step better each, in the picture too.
    """

    name: str
    note: str
    operator: Callable[..., Any]
    rule: dict[str, Any] = field(default_factory=dict)
    reduce: dict[str, Any] = field(default_factory=dict)
    drawn: bool = False

    def __call__(self, features: Floats, boxes: Sequence[Box], size: int, stride: int) -> Floats:
        rows = np.insert(np.asarray(boxes, np.float64), 0, 0, axis=1)
        options = {"spatial_scale": 1 / stride, **self.rule, **self.reduce}
        pooled: Floats = self.operator(features, rows, size, **options)
        return pooled


EXACT = Variant(
    "prroi_pool, aligned", "the exact integral", prroi_pool, {"aligned": True}, drawn=True
)
VARIANTS = (
    Variant("roi_pool", "rounded corners, max", roi_pool, drawn=True),
    Variant("roi_pool, mean", "the same cells, mean", roi_pool, {}, {"reduce": "mean"}),
    Variant(
        "roi_pool, truncated",
        "the tutorials' rounding",
        roi_pool,
        {"rounding": "truncate", "bins": "truncate"},
    ),
    Variant(
        "roi_warp", "rounded, then bilinear", roi_warp, {"sampling_ratio": 2}, {"reduce": "mean"}
    ),
    Variant(
        "roi_align",
        "default: half a cell off",
        roi_align,
        {"sampling_ratio": 2, "aligned": False},
        drawn=True,
    ),
    Variant(
        "roi_align, aligned",
        "4 samples a bin",
        roi_align,
        {"sampling_ratio": 2, "aligned": True},
        drawn=True,
    ),
    EXACT,
)


# ---- where an operator reads ---------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """What an operator reads along one axis, in image pixels."""

    bins: Floats  # (P, 2) start and end; NaN for a bin that reads nothing
    samples: Floats

    @property
    def extent(self) -> tuple[float, float]:
        if np.isnan(self.bins).all():
            return np.nan, np.nan
        return float(np.nanmin(self.bins)), float(np.nanmax(self.bins))


def axis_reads(
    variant: Variant, span: tuple[float, float], cells: int, size: int, stride: int
) -> Reads:
    """Recover from the weights alone what ``variant`` reads of a box's ``span`` on one axis."""
    if variant.operator is roi_pool:
        weights = axis_weights(
            roi_pool, span, cells, size, spatial_scale=1 / stride, **variant.rule
        )
        rows = np.split(weights.indices, weights.indptr[1:-1])
        bins = [(row.min(), row.max() + 1) if row.size else (np.nan, np.nan) for row in rows]
        return Reads(np.array(bins, np.float64) * stride, np.empty(0))
    at = _positions(variant, span, cells, size, stride)
    step = at[1] - at[0]
    start = at[0] if variant.operator is roi_warp else at[0] - step / 2
    edges = start + step * np.arange(0, len(at) + 1, len(at) // size)
    samples = at if "sampling_ratio" in variant.rule else np.empty(0)
    # An interpolating operator puts the value of cell k at k; it covers [k, k + 1) of the photo.
    return Reads(
        (np.stack([edges[:-1], edges[1:]], axis=1) + 0.5) * stride, (samples + 0.5) * stride
    )


def _positions(
    variant: Variant, span: tuple[float, float], cells: int, size: int, stride: int
) -> Floats:
    """Return where the samples (or, for the integral, the halves of its bins) lie on the map.

    With one sample a bin, the weights' centre of mass is the sample. A rim of cells around the
    map keeps the border rule from moving it.
    """
    rim = 2
    rule = {name: 1 if name == "sampling_ratio" else value for name, value in variant.rule.items()}
    bins = size * variant.rule.get("sampling_ratio", 2)
    shifted = np.asarray(span) + rim * stride
    weights = axis_weights(
        variant.operator, shifted, cells + 2 * rim, bins, spatial_scale=1 / stride, **rule
    )
    centres: Floats = weights @ np.arange(cells + 2.0 * rim) / weights.sum(axis=1) - rim
    return centres


# ---- the measurement -----------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One variant on one box."""

    variant: Variant
    x: Reads
    y: Reads
    pooled: Floats  # (C, P, P)
    error: float
    milliseconds: float


@dataclass(frozen=True)
class Scene:
    """A photograph, its feature map, and how to pool from it."""

    photo: NDArray[np.uint8]
    stride: int
    size: int

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the feature map; the last ones may be incomplete blocks."""
        height, width, _ = self.photo.shape
        return -(-height // self.stride), -(-width // self.stride)

    @cached_property
    def features(self) -> Floats:
        """Means over blocks of stride x stride pixels, (1, 3, rows, columns)."""
        mean = self.photo.astype(np.float64)
        for axis in (0, 1):
            starts = np.arange(0, mean.shape[axis], self.stride)
            counts = np.diff(starts, append=mean.shape[axis])
            shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
            mean = np.add.reduceat(mean, starts, axis) / counts.reshape(shape)
        return np.ascontiguousarray(mean.transpose(2, 0, 1)[None], np.float32)


def measure(scene: Scene, box: Box) -> list[Result]:
    """Pool ``box`` with every variant and compare with the exact integral."""
    features, (rows, columns) = scene.features, scene.cells
    exact = EXACT(features, [box], scene.size, scene.stride)[0]
    results = []
    for variant in VARIANTS:
        pooled = variant(features, [box], scene.size, scene.stride)[0]
        results.append(
            Result(
                variant,
                axis_reads(variant, (box[0], box[2]), columns, scene.size, scene.stride),
                axis_reads(variant, (box[1], box[3]), rows, scene.size, scene.stride),
                pooled,
                float(np.abs(pooled - exact).mean()),
                _median_ms(variant, features, box, scene),
            )
        )
    return results


def _median_ms(variant: Variant, features: Floats, box: Box, scene: Scene) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        variant(features, [box], scene.size, scene.stride)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


@dataclass(frozen=True)
class Slide:
    """One value of one bin, by every variant, while the box slides over two feature pixels."""

    shifts: Floats  # image pixels, negative to the left
    values: Floats  # (variants, shifts)
    channel: int
    row: int
    column: int


def slide(scene: Scene, box: Box) -> Slide:
    """Slide ``box`` sideways and follow the bin on which the exact integral varies most."""
    width = scene.cells[1] * scene.stride
    direction = 1 if box[2] + 2 * scene.stride <= width else -1
    shifts = direction * np.linspace(0, 2 * scene.stride, 8 * scene.stride + 1)
    x1, y1, x2, y2 = box
    boxes = [(x1 + shift, y1, x2 + shift, y2) for shift in shifts]
    pooled = [variant(scene.features, boxes, scene.size, scene.stride) for variant in VARIANTS]
    exact = pooled[VARIANTS.index(EXACT)]
    channel, row, column = np.unravel_index(np.ptp(exact, axis=0).argmax(), exact.shape[1:])
    values = np.array([result[:, channel, row, column] for result in pooled])
    return Slide(shifts, values, int(channel), int(row), int(column))


def table(scene: Scene, box: Box, results: Sequence[Result]) -> str:
    """Return the table of one box."""
    (rows, columns), stride = scene.cells, scene.stride

    def line(name: str, x: tuple[float, float], y: tuple[float, float], tail: str = "") -> str:
        columns = [_span(x, 1, 1), _span(y, 1, 1), _span(x, stride, 2), _span(y, stride, 2)]
        return f"{name:<21}{''.join(f'{text:<16}' for text in columns)}{tail}".rstrip()

    return "\n".join(
        [
            f"box {corners(box)} on a feature map of {rows} x {columns}"
            f" cells, {scene.size} x {scene.size} bins",
            f"{'':<21}{'image pixels':<32}{'feature pixels':<32}{'mean':>7}{'time':>8}",
            f"{'operator':<21}{'x':<16}{'y':<16}{'x':<16}{'y':<16}{'error':>7}{'ms':>8}",
            line("(the box itself)", (box[0], box[2]), (box[1], box[3])),
            *(
                line(
                    result.variant.name,
                    result.x.extent,
                    result.y.extent,
                    f"{result.error:7.2f}{result.milliseconds:8.3f}",
                )
                for result in results
            ),
        ]
    )


def corners(box: Box) -> str:
    return ",".join(f"{value:g}" for value in box)


def _span(extent: tuple[float, float], unit: int, digits: int) -> str:
    if np.isnan(extent).any():
        return "nothing"
    # Recovered positions carry rounding noise, which must not decide how a half is printed.
    low, high = (round(value / unit, 6) + 0.0 for value in extent)
    return f"{low:.{digits}f} - {high:.{digits}f}"


# ---- the command ---------------------------------------------------------------------------


def run(
    image: str | None, boxes: Sequence[Box] | None, stride: int, size: int, output: str
) -> None:
    """Pool ``image``, print a table for each box and draw the picture into ``output``.

    Raises
    ------
    DemoError
        The demo's extra is not installed, or the image, a box or the output is unusable.
    """
    try:
        import scipy.sparse  # noqa: F401

        from . import _figure
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise DemoError(f'{missing} is missing: pip install "roi_numba[demo]"') from None
    scene = Scene(_figure.read_photo(image), stride, size)
    height, width, _ = scene.photo.shape
    boxes = boxes or [_PORTRAIT_BOX if image is None else _middle(width, height)]
    for box in boxes:
        if min(box) < 0 or box[2] > width or box[3] > height:
            raise DemoError(f"a box must lie in the image, {width} x {height}, got {corners(box)}")

    print(f"{image or 'Grace Hopper, 1985 (from matplotlib)'}: {width} x {height} pixels;")
    print(f"the feature map is its block means, one value per {stride} x {stride} pixels.")
    results = []
    for box in boxes:
        results.append(measure(scene, box))
        print(f"\n{table(scene, box, results[-1])}")
    print(f"\n{_NOTE.format(half=stride / 2, repeats=_REPEATS, threads=get_num_threads())}")
    _figure.draw(scene, boxes, results, output)
    print(f"\nthe picture is in {output}")


_NOTE = """\
Feature pixel k covers image pixels [k stride, (k + 1) stride), so its centre is at k + 1/2.
aligned=True subtracts that half; roi_warp and roi_align without it read {half:g} pixels too far
right and down.
error: mean absolute difference to the last row, grey levels of 0-255
time: one box, median of {repeats} calls, threads: {threads}"""


def _middle(width: int, height: int) -> Box:
    return 0.213 * width, 0.213 * height, 0.769 * width, 0.769 * height
