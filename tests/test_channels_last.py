"""Channels-last maps of many channels, which are pooled blocks of channels at a time."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import GUARD, assert_same_bits
from operators import MAXIMA, REDUCTIONS, ids

DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8
BLOCKS = {
    "3 at a time": (400, 1),
    "4, and the last incomplete": (549, 1),
    "2, and the last incomplete": (549, 2),
}
SIZE, SCALE = (3, 2), 0.5


@pytest.fixture(params=BLOCKS.values(), ids=BLOCKS)
def channels(request):
    """Channels, called with such a number of threads that so many blocks go together."""
    before = roi_numba.get_num_threads()
    channels, threads = request.param
    roi_numba.set_num_threads(threads)
    yield channels
    roi_numba.set_num_threads(before)


def case(rng, channels, dtype, side, boxes):
    """A map (2, side, side + 3, channels) and boxes, one off the map and one of NaN."""
    features = 40 * rng.standard_normal((2, side, side + 3, channels))
    features = np.abs(features).astype(dtype) if dtype == np.uint8 else features.astype(dtype)
    if dtype != np.uint8:
        features[rng.random(features.shape) < 0.01] = np.nan
        features[rng.random(features.shape) < 0.01] = -np.inf
    corners = rng.uniform(-2, 2 * side, (boxes, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(0, side, (boxes, 2))
    corners[0] += 1000
    corners[1] = np.nan
    return features, np.column_stack([rng.integers(0, 2, boxes), corners])


@pytest.mark.parametrize(("side", "boxes"), [(9, 5), (40, 3), (40, 150)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
def test_the_bits_of_channels_first(operator, reduction, dtype, side, boxes, channels, rng):
    features, rows = case(rng, channels, dtype, side, boxes)
    options = {"check_boxes": False, **operator.reductions[reduction]}
    first = np.ascontiguousarray(features.transpose(0, 3, 1, 2))
    expected = operator.function(first, rows, SIZE, SCALE, **options).transpose(0, 2, 3, 1)
    found = operator.function(features, rows, SIZE, SCALE, channel_axis=-1, **options)
    assert_same_bits(found, expected)
    wide = np.full((*expected.shape[:3], channels + 5), GUARD, expected.dtype)
    out = wide[..., 2:-3]
    operator.function(features, rows, SIZE, SCALE, channel_axis=-1, out=out, **options)
    assert_same_bits(out, expected)
    out[...] = GUARD
    assert (wide == GUARD).all()


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_the_winners_of_channels_first(operator, reduction, channels, rng):
    features, rows = case(rng, channels, np.float32, 9, 20)
    options = {"check_boxes": False, "return_argmax": True, **operator.reductions[reduction]}
    first = np.ascontiguousarray(features.transpose(0, 3, 1, 2))
    expected = operator.function(first, rows, SIZE, SCALE, **options)
    found = operator.function(features, rows, SIZE, SCALE, channel_axis=-1, **options)
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other.transpose(0, 2, 3, 1))
