"""Pyramids and crops on a GPU, against the CPU's engine; streams and graphs."""

import numpy as np
import pytest

import roi_numba
from on_device import MATRIX, cupy, fetched, on_device
from strategies import values
from thread_scenarios import draw_boxes

pytestmark = pytest.mark.gpu

SCALES = [1 / 4, 1 / 8, (1 / 16, 1 / 8)]
SIZES = [(40, 50), (20, 25), (10, 25)]
MAPS = [values(level, (2, 37, *size), np.float32) for level, size in enumerate(SIZES)]
BOXES = draw_boxes(60, 2, 160)
LEVELS = np.random.default_rng(1).integers(-1, 4, 60)  # some are no map's


def both_ways(operator, reduction, maps, boxes, levels, gradient):
    keywords = operator.reductions[reduction] | {
        "spatial_scales": SCALES, "levels": levels, "check_boxes": False,
    }  # fmt: skip
    output = roi_numba.pyramid_pool(operator.of.function, maps, boxes, (3, 2), **keywords)
    to_maps, to_boxes = roi_numba.pyramid_pool_backward(
        operator.of.function, gradient, maps, boxes, **keywords
    )
    return output, *to_maps, to_boxes


@MATRIX
def test_pyramid(operator, reduction):
    arguments = MAPS, BOXES, LEVELS, values(2, (60, 37, 3, 2), np.float32)
    expected = both_ways(operator, reduction, *arguments)
    found = both_ways(operator, reduction, *map(on_device, arguments))
    for actual, wanted in zip(fetched(list(found)), expected, strict=True):
        # float32 sums of up to 37 * 6 products for a box, of as many as there are boxes for a pixel
        limit = 2e-5 * max(np.abs(wanted).max(), 1)
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=limit)


@MATRIX
def test_pyramid_in_a_graph(operator, reduction):
    gradient = values(2, (60, 37, 3, 2), np.float32)
    others = [array[::-1].copy() for array in (*MAPS, BOXES, LEVELS, gradient)]
    expected = both_ways(
        operator, reduction, [*map(on_device, others[:3])], *map(on_device, others[3:])
    )
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = [on_device(array) for array in (*MAPS, BOXES, LEVELS, gradient)]
        for _ in range(2):  # the second with memory that is there
            both_ways(operator, reduction, arrays[:3], *arrays[3:])
        stream.synchronize()
        stream.begin_capture()
        try:
            found = both_ways(operator, reduction, arrays[:3], *arrays[3:])
        finally:
            graph = stream.end_capture()
        for array, value in zip(arrays, others, strict=True):
            array.set(value)
        graph.launch()
        stream.synchronize()
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual.get(), wanted.get())


@pytest.mark.parametrize("edges", ["exact", "tensorflow"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_crops(dtype, edges):
    images = values(3, (2, 30, 40, 3), dtype)
    boxes = np.random.default_rng(2).uniform(-0.2, 1.2, (50, 4))
    numbers = np.arange(50) % 2
    options = {"edges": edges, "extrapolation_value": -7.0}
    arguments = images, boxes, (9, 11)
    expected = roi_numba.crop_and_resize(*arguments, box_indices=numbers, **options)
    found = roi_numba.crop_and_resize(
        *map(on_device, arguments), box_indices=on_device(numbers), **options
    )
    # Interpolated along the other axis first.
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
