"""Channels-last maps of many channels, which are pooled blocks of channels at a time."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import GUARD, assert_same_bits
from operators import MAXIMA, MEANS, REDUCTIONS, ids
from roi_numba._cpu import engine
from roi_numba._cpu.streams import STREAMED

DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8
MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
CHANNELS = 117  # of float32 seven blocks and five channels
SIZE, SCALE = (3, 2), 0.5


@pytest.fixture(params=[3, 4], ids="{} together".format)
def together(request, monkeypatch):
    """So many blocks are packed together, however few boxes there are."""
    monkeypatch.setattr(engine, "blocks_together", lambda *_: request.param)


def case(rng, dtype, side, boxes):
    """A map (2, side, side + 3, CHANNELS) and boxes, one off the map and one of NaN."""
    features = 40 * rng.standard_normal((2, side, side + 3, CHANNELS))
    features = np.abs(features).astype(dtype) if dtype == np.uint8 else features.astype(dtype)
    if dtype != np.uint8:
        features[rng.random(features.shape) < 0.01] = np.nan
        features[rng.random(features.shape) < 0.01] = -np.inf
    corners = rng.uniform(-2, 2 * side, (boxes, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(0, side, (boxes, 2))
    corners[0] += 1000
    corners[1] = np.nan
    return features, np.column_stack([rng.integers(0, 2, boxes), corners])


def first(array):
    """The same, channels first."""
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("side", "boxes"), [(9, 5), (40, 3), (40, 150)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@MATRIX
def test_the_bits_of_channels_first(operator, reduction, dtype, side, boxes, rng):
    features, rows = case(rng, dtype, side, boxes)
    options = {"check_boxes": False, **operator.reductions[reduction]}
    expected = operator.function(first(features), rows, SIZE, SCALE, **options)
    expected = expected.transpose(0, 2, 3, 1)
    found = operator.function(features, rows, SIZE, SCALE, channel_axis=-1, **options)
    assert_same_bits(found, expected)
    wide = np.full((*expected.shape[:3], CHANNELS + 5), GUARD, expected.dtype)
    out = wide[..., 2:-3]
    operator.function(features, rows, SIZE, SCALE, channel_axis=-1, out=out, **options)
    assert_same_bits(out, expected)
    out[...] = GUARD
    assert (wide == GUARD).all()


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_the_winners_of_channels_first(operator, reduction, rng):
    features, rows = case(rng, np.float32, 9, 20)
    options = {"check_boxes": False, "return_argmax": True, **operator.reductions[reduction]}
    expected = operator.function(first(features), rows, SIZE, SCALE, **options)
    found = operator.function(features, rows, SIZE, SCALE, channel_axis=-1, **options)
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other.transpose(0, 2, 3, 1))


@pytest.mark.usefixtures("together")
@MATRIX
def test_maps_turned_round(operator, reduction, rng):
    """Rows and images from the last to the first, every other column; a box too large to pack."""
    features, rows = case(rng, np.float32, 95, 12)
    rows[2] = 1, -5, -5, 400, 400
    turned = features.repeat(2, axis=2)[::-1, ::-1, ::2]
    options = {"check_boxes": False, **operator.reductions[reduction]}
    expected = operator.function(first(turned), rows, SIZE, SCALE, **options)
    found = operator.function(turned, rows, SIZE, SCALE, channel_axis=-1, **options)
    assert_same_bits(found, expected.transpose(0, 2, 3, 1))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("operator", "reduction"), MEANS[:1] + MAXIMA[:1], ids=ids)
def test_pyramids(operator, reduction, rng):
    features, rows = case(rng, np.float32, 40, 60)
    maps = [features, features[:, ::2, ::2], features[:, ::4, ::4]]
    options = {
        "spatial_scales": [0.5, 0.25, 0.125], "levels": rng.integers(0, 3, len(rows)),
        "check_boxes": False, **operator.reductions[reduction],
    }  # fmt: skip
    expected = roi_numba.pyramid_pool(operator.function, list(map(first, maps)), rows, 3, **options)
    found = roi_numba.pyramid_pool(operator.function, maps, rows, 3, channel_axis=-1, **options)
    assert_same_bits(found, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("threads", "groups", "blocks", "bins", "expected"),
    [
        (1, 1, 64, (7, 7), 4),
        (2, 1, 64, (7, 7), 4),
        (8, 1, 64, (7, 7), 1),
        (8, 100, 64, (7, 7), 4),
        (1, 1, 7, (7, 7), 1),  # too few for a thread
        (1, 100, 3, (7, 7), 3),
        (1, 100, 5, (7, 7), 3),  # and then 2
        (1, 100, 1, (7, 7), 1),
        (1, 100, 64, (65, 64), 1),  # bins that would fill a cache
    ],
)
def test_how_many_go_together(threads, groups, blocks, bins, expected):
    roi_numba.set_num_threads(threads)
    assert engine.blocks_together(groups, blocks, bins) == expected


@pytest.mark.parametrize("flip", [False, True], ids=["as it is", "columns backwards"])
@pytest.mark.parametrize("channels", [16, 256, 257, 272, 512])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8], ids=ids)
@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_boxes_read_where_they_lie(operator, reduction, dtype, channels, flip, rng):
    """Or packed: pixels lie near each other or far apart, and are read seldom or often."""
    corners = np.array([[1, 2, 12, 13], [3, 1, 6, 3], [-4, -3, 30, 30], [0, 5, 14, 5.5]])
    rows = np.column_stack([np.arange(4), corners])
    features = np.abs(40 * rng.standard_normal((4, 15, 17, channels))).astype(dtype)
    if flip:
        features = features[:, :, ::-1]
    options = operator.reductions[reduction]
    expected = operator.function(first(features), rows, (5, 4), **options)
    found = operator.function(features, rows, (5, 4), channel_axis=-1, **options)
    assert_same_bits(found, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=ids)
def test_results_that_wait_of_boxes_read_where_they_lie(dtype, threads, rng):
    """The map has its channels last, the result, a large one, first."""
    boxes = STREAMED // (128 * 7 * 7) + 1
    corners = rng.uniform(0, 9, (boxes, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(1, 16, (boxes, 2))
    rows = np.column_stack([np.arange(boxes), corners])  # none shares an image
    features = rng.standard_normal((boxes, 15, 17, 128)).astype(dtype)
    roi_numba.set_num_threads(threads)
    expected = roi_numba.roi_align(first(features), rows, 7)
    found = roi_numba.roi_align(features.transpose(0, 3, 1, 2), rows, 7)
    assert found.size >= STREAMED
    assert_same_bits(found, expected)
