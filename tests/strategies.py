"""What the operators promise to take: feature maps in any layout, boxes of every bad sort."""

from typing import NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
INTEGERS = [np.uint8, np.int32, np.int64, np.bool_]
BOX_DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64]

SCALES = st.sampled_from([1.0, 0.5, 2.0, 1 / 16, 0.37])
OUTPUT_SIZES = st.sampled_from([1, 2, 3, 7, (2, 3), (5, 1), (1, 14)])
CHANNELS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 40])  # either side of 16 and 32
SEEDS = st.integers(0, 2**32 - 1)

# image pixels, whatever the scale: 8000 px on a small map, past 2**24, past any integer
HUGE = [
    (-4000.0, 4000.0),
    (3.0, 8003.0),
    (-1e7, 1e7),
    (-2e7, 1e6),
    (-1e30, 1e30),
    (2.0, 1e30),
    (-3e38, 3.0),
    (-3e38, 3e38),
    (1e30, 1e30),
    (3e38, -3e38),
]


def result_dtype(dtype):
    return dtype if dtype.kind in "fV" else np.dtype(np.float32)  # V: bfloat16


class Call(NamedTuple):
    """The arguments every operator has; ``input`` is (N, C, H, W)."""

    input: np.ndarray
    boxes: np.ndarray
    output_size: int | tuple[int, int]
    spatial_scale: float


def positions(low, high):
    """Numbers in [low, high]: sixty-fourths, and thousandths, which are never exact."""
    return st.one_of(
        st.integers(round(64 * low), round(64 * high)).map(lambda i: i / 64),
        st.integers(round(1000 * low), round(1000 * high)).map(lambda i: i / 1000),
    )


@st.composite
def intervals(draw, size, scale):
    """One side of a box, (start, end) in image pixels, for a map of ``size`` pixels."""
    near = positions(-3, size + 3)
    kinds = {
        "inside": lambda: sorted((draw(positions(0, size - 1)), draw(positions(0, size - 1)))),
        "any": lambda: sorted((draw(near), draw(near))),
        "before": lambda: (-6 - draw(positions(0, 9)), -1 - draw(positions(0, 5))),
        "after": lambda: (size + draw(positions(0, 5)), size + 5 + draw(positions(0, 9))),
        "over": lambda: (draw(positions(-9, 0)), size + draw(positions(0, 9))),
        "integer": lambda: sorted(draw(st.integers(-2, size + 2)) for _ in range(2)),
        "half": lambda: sorted(draw(st.integers(-2, size + 2)) + 0.5 for _ in range(2)),
        "point": lambda: (draw(near),) * 2,
        "sub-pixel": lambda: (z := draw(near), z + draw(positions(0, 1)) / 16),
        "reversed": lambda: sorted((draw(near), draw(near)), reverse=True),
        "huge": lambda: (side * scale for side in draw(st.sampled_from(HUGE))),
    }
    start, end = kinds[draw(st.sampled_from([*kinds, "inside", "any", "over"]))]()
    return start / scale, end / scale


def as_boxes(rows, dtype):
    """Rows (batch_index, x1, y1, x2, y2) as an array of any dtype, saturating."""
    rows = np.asarray(rows, np.float64).reshape(-1, 5)
    if np.issubdtype(dtype, np.integer):
        limit = min(np.iinfo(dtype).max, 2**40)
        return np.clip(np.rint(rows), -limit, limit).astype(dtype)
    limit = float(ml_dtypes.finfo(dtype).max)
    return np.clip(rows, -limit, limit).astype(dtype)


@st.composite
def boxes(draw, shape, scale, dtype=np.float32, max_boxes=5):
    """Boxes of every sort for features of ``shape``."""
    n_images, _, height, width = shape
    rows = []
    for _ in range(draw(st.integers(1, max_boxes))):
        (x1, x2), (y1, y2) = draw(intervals(width, scale)), draw(intervals(height, scale))
        rows.append((draw(st.integers(0, n_images - 1)), x1, y1, x2, y2))
    return as_boxes(rows, dtype)


@st.composite
def shapes(draw, max_side=20):
    sides = st.integers(1, max_side)
    return draw(st.integers(1, 3)), draw(CHANNELS), draw(sides), draw(sides)


def values(seed, shape, dtype, ties=False):
    """Features: normal, or with ``ties`` integers of -3..3; unsigned and bool from 0 up."""
    rng = np.random.default_rng(seed)
    if dtype is np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if np.issubdtype(dtype, np.unsignedinteger):
        return rng.integers(0, 255, shape).astype(dtype)
    if ties or np.issubdtype(dtype, np.integer):
        return rng.integers(-3, 4, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def _strided(array):
    spread = np.zeros([2 * n for n in array.shape], array.dtype)
    spread[::2, ::2, ::2, 1::2] = array
    return spread[::2, ::2, ::2, 1::2]


def _read_only(array):
    array.flags.writeable = False
    return array


# the same values (a broadcast apart) in another memory layout
LAYOUTS = {
    "contiguous": lambda array: array,
    "read-only": _read_only,
    "channels last": lambda array: np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1),
    "fortran": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda array: array[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "one image": lambda array: np.broadcast_to(array[:1], array.shape),
    "one channel": lambda array: np.broadcast_to(array[:, :1], array.shape),
    "one pixel": lambda array: np.broadcast_to(array[..., :1, :1], array.shape),
}


@st.composite
def calls(draw, dtype=np.float32, box_dtypes=BOX_DTYPES, layouts=tuple(LAYOUTS), ties=None):
    """Any call of an operator."""
    shape, scale = draw(shapes()), draw(SCALES)
    ties = draw(st.booleans()) if ties is None else ties
    features = LAYOUTS[draw(st.sampled_from(layouts))](values(draw(SEEDS), shape, dtype, ties))
    rois = draw(boxes(shape, scale, draw(st.sampled_from(box_dtypes))))
    return Call(features, rois, draw(OUTPUT_SIZES), scale)


@st.composite
def specials(draw, features):
    """Put NaN and infinities in a few pixels of ``features``, or many, or all."""
    rng = np.random.default_rng(draw(SEEDS))
    hit = rng.random(features.shape) < draw(st.sampled_from([0.02, 0.2, 0.9, 1]))
    kinds = [[np.nan], [np.inf], [-np.inf], [np.nan, -np.inf], [np.nan, np.inf, -np.inf]]
    features[hit] = rng.choice(draw(st.sampled_from(kinds)), hit.sum())


@st.composite
def exact_calls(draw, dtype=np.float32, sizes=(1, 2, 4, (2, 1))):
    """A call whose every position and value is a short binary fraction: no rounding anywhere."""
    shape, scale = draw(shapes()), draw(st.sampled_from([1.0, 0.5, 1 / 16]))
    quarters = st.integers(-12, 4 * (max(shape[2:]) + 3)).map(lambda i: i / 4 / scale)
    n_images = shape[0]
    rows = draw(st.lists(st.tuples(st.integers(0, n_images - 1), *[quarters] * 4), max_size=5))
    features = values(draw(SEEDS), shape, dtype, ties=True)
    size = draw(st.sampled_from(sizes))
    return Call(features, as_boxes(rows, np.float32), size, scale)


@st.composite
def inside_calls(draw, max_side=20, dtype=np.float64):
    """A call at scale 1 with boxes well inside a map, at least a quarter pixel wide."""
    shape = draw(st.tuples(st.integers(1, 2), CHANNELS, *[st.integers(6, max_side)] * 2))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        sides = []
        for size in (shape[3], shape[2]):
            start = draw(positions(1, size - 3))
            sides.append((start, start + draw(positions(0.25, size - 2 - start))))
        (x1, x2), (y1, y2) = sides
        rows.append((draw(st.integers(0, shape[0] - 1)), x1, y1, x2, y2))
    return Call(
        values(draw(SEEDS), shape, dtype), as_boxes(rows, np.float64), draw(OUTPUT_SIZES), 1.0
    )


@st.composite
def large_calls(draw, dtype=np.float32):
    """A call on a map of 100 to 200 pixels a side, with boxes of half that size and more."""
    sides = st.integers(100, 200)
    shape = draw(st.tuples(st.integers(1, 2), st.sampled_from([1, 17]), sides, sides))
    rows = []
    for _ in range(draw(st.integers(2, 3))):
        x1, y1 = draw(positions(-60, 60)), draw(positions(-60, 60))
        width, height = draw(positions(60, 250)), draw(positions(60, 250))
        rows.append((draw(st.integers(0, shape[0] - 1)), x1, y1, x1 + width, y1 + height))
    return Call(
        values(draw(SEEDS), shape, dtype), as_boxes(rows, np.float32), draw(OUTPUT_SIZES), 1.0
    )
