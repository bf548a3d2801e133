"""On a GPU: maps and results of more elements than 32 bits count."""

import numpy as np
import pytest

from on_device import MATRIX, cupy, fetched, on_device
from strategies import values
from thread_scenarios import draw_boxes

pytestmark = pytest.mark.gpu


@pytest.fixture
def room():
    """Skips a test that needs more memory than is free; frees what it used."""
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()

    def needs(gigabytes):
        if cupy.cuda.Device().mem_info[0] < gigabytes * 2**30:
            pytest.skip(f"there are no {gigabytes} GiB of free device memory")

    yield needs
    pool.free_all_blocks()


CROP = 64
"""The size of what a large map holds at its far end; the rest is zero."""

SIDE, SIDE_BACK, MANY = 40_000, 30_000, 60_000
"""Pixels of a side of three maps, forward and back, and boxes of 50 176 bins."""


def at_the_end(side, image):
    """Boxes in the last pixels of an image: rows for the whole map, and for its last crop."""
    corners = np.array(
        [(8.0, 9.5, 40.25, 50.0), (30.0, 20.0, 63.0, 63.0), (40.5, 40.5, 70.0, 70.0)]
    )
    numbers = np.zeros((3, 1))
    return np.hstack([numbers + image, corners + (side - CROP)]), np.hstack([numbers, corners])


@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_maps_of_more_than_32_bits(operator, reduction, channel_axis, room):
    """The last pixels of 4.8e9."""
    room(8)
    crop = values(5, (1, 1, CROP, CROP), np.uint8)
    whole = cupy.zeros((3, 1, SIDE, SIDE), np.uint8)
    whole[2, 0, -CROP:, -CROP:] = cupy.asarray(crop[0, 0])
    boxes, there = at_the_end(SIDE, 2)
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 2
    shape = (3, 1, SIDE, SIDE) if channel_axis == 1 else (3, SIDE, SIDE, 1)
    found = operator.of.function(whole.reshape(shape), on_device(boxes), 3, **options)
    expected = operator.of.function(np.moveaxis(crop, 1, channel_axis), there, 3, **options)
    np.testing.assert_allclose(fetched(found), expected, rtol=1e-5, atol=1e-3)


@MATRIX
def test_gradients_of_maps_of_more_than_32_bits(operator, reduction, room):
    room(40)
    crop = values(5, (1, 1, CROP, CROP), np.float16)
    whole = cupy.zeros((3, 1, SIDE_BACK, SIDE_BACK), np.float16)
    whole[2, 0, -CROP:, -CROP:] = cupy.asarray(crop[0, 0])
    boxes, there = at_the_end(SIDE_BACK, 2)
    options = dict(operator.reductions[reduction])
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 2
    gradient = values(6, (3, 1, 2, 2), np.float16)
    expected = operator.of.backward(gradient, crop, there, **options)
    found = operator.of.backward(on_device(gradient), whole, on_device(boxes), **options)
    last = found[0][2, 0, -CROP:, -CROP:]
    np.testing.assert_allclose(fetched(last), expected[0][0, 0], rtol=2e-3, atol=2e-3)
    assert int(cupy.count_nonzero(found[0])) == int(cupy.count_nonzero(last))
    np.testing.assert_allclose(fetched(found[1])[:, 1:], expected[1][:, 1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_results_of_more_than_32_bits(operator, reduction, channel_axis, room):
    """The last boxes of 60 000: 3e9 numbers."""
    room(14)
    map = values(7, (2, 1024, 8, 9), np.float16)
    boxes = draw_boxes(MANY, 2, 9)
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 1
    map = np.moveaxis(map, 1, channel_axis)
    found = operator.of.function(on_device(map), on_device(boxes), 7, **options)
    assert found.size == MANY * 1024 * 49
    for some in (slice(0, 3), slice(-3, None)):
        expected = operator.function(map, boxes[some], 7, **options)
        np.testing.assert_array_equal(fetched(found[some]), expected)
