"""The worked numbers of the operators' definitions, by hand and by running the originals.

Each holds for the library and for the reference the other tests compare it with.
"""

import numpy as np
import pytest

import reference
import roi_numba


def ramp(x, y, size=6, add=0.0):
    """The map ``x * column + y * row + add``."""
    index = np.arange(float(size))
    return (x * index + y * index[:, None] + add)[None, None]


@pytest.fixture(params=[roi_numba, reference], ids=["library", "reference"])
def operators(request):
    return request.param


TENS = ramp(1, 10)
TENS_PLUS_1 = ramp(1, 10, add=1)
SIXES = ramp(1, 6)
ONES = ramp(0, 0, add=1)
HALF_PIXEL = {"sampling_ratio": 2, "aligned": True}
SR2 = {"sampling_ratio": 2}
CORNER = (-3, -3, 1, 1)
BEYOND = (4, 4, 8, 8)

# operator, map, box, spatial_scale, output_size, options, result
# fmt: off
EXAMPLES = [
    # RoIPool: corners rounded half away from zero, end inclusive, clipped after the bins are laid
    ("roi_pool", TENS, (1, 1, 4, 4), 1, 2, {}, [[22, 24], [42, 44]]),
    ("roi_pool", TENS, (1, 1, 4, 4), 1, 2, {"reduce": "mean"}, [[16.5, 18.5], [36.5, 38.5]]),
    ("roi_pool", TENS, (20, 40, 70, 88), 1 / 16, 2, {}, [[42, 44], [52, 54]]),
    ("roi_pool", TENS_PLUS_1, CORNER, 1, 2, {}, [[0, 0], [0, 12]]),
    ("roi_pool", TENS, (4, 4, 1, 1), 1, 2, {}, [[44, 44], [44, 44]]),
    # RoIAlign: on a plane a bin's mean is the value at its centre while every sample is inside
    *[
        ("roi_align", TENS, (1, 1, 4, 4), 1, 2, {"sampling_ratio": n, "aligned": aligned}, result)
        for n in (-1, 0, 1, 2, 3)
        for aligned, result in [
            (False, [[19.25, 20.75], [34.25, 35.75]]),
            (True, [[13.75, 15.25], [28.75, 30.25]]),
        ]
    ],
    ("roi_align", TENS, (1, 1, 4, 4), 1, 2, SR2 | {"reduce": "max"},
     [[23.375, 24.875], [38.375, 39.875]]),
    ("roi_align", TENS, (1, 1, 4, 4), 1, 2, SR2 | {"reduce": "max_corner"},
     [[16.84375, 17.609375], [24.5, 25.265625]]),
    ("roi_align", TENS, (20, 40, 70, 88), 1 / 16, 2, SR2,
     [[34.53125, 36.09375], [48.90625, 50.46875]]),
    ("roi_align", TENS, (20, 40, 70, 88), 1 / 16, 2, HALF_PIXEL,
     [[29.03125, 30.59375], [44.03125, 45.59375]]),
    # ... its border: samples count as far as one pixel beyond the map, inclusive
    ("roi_align", TENS_PLUS_1, CORNER, 1, 2, SR2, [[0, 0], [0, 3.75]]),
    ("roi_align", TENS_PLUS_1, CORNER, 1, 2, HALF_PIXEL, [[0, 0], [0, 1]]),
    ("roi_align", ONES, BEYOND, 1, 2, SR2, [[1, 0], [0, 0]]),
    ("roi_align", ONES, BEYOND, 1, 2, HALF_PIXEL, [[1, 0.5], [0.5, 0.25]]),
    ("roi_align", SIXES, (4, 4, 10, 10), 1, 2, SR2, [[8.3125, 0], [0, 0]]),
    # ... its degenerate boxes: at least one pixel wide, unless aligned: a point, flipped, nothing
    *[
        ("roi_align", SIXES, (2, 2, end, end), 1, 2, {}, [[15.75, 16.25], [18.75, 19.25]])
        for end in (3, 2.5, 2, 1)
    ],
    ("roi_align", SIXES, (2.5, 2.5, 2.5, 2.5), 1, 2, HALF_PIXEL, [[14, 14], [14, 14]]),
    ("roi_align", SIXES, (2.5, 2.5, 2.5, 2.5), 1, 2, {"aligned": True}, [[0, 0], [0, 0]]),
    ("roi_align", SIXES, (4, 4, 2, 2), 1, 2, HALF_PIXEL, [[21, 20], [15, 14]]),
    ("roi_align", SIXES, (4, 4, 2, 2), 1, 2, {"aligned": True}, [[0, 0], [0, 0]]),
    ("roi_align", SIXES, (4, 2, 2, 4), 1, 2, {"aligned": True}, [[0, 0], [0, 0]]),
    # RoIWarp: corners rounded, end exclusive, samples on left edges, border half a pixel
    ("roi_warp", TENS, (1, 1, 4, 4), 1, 2, {}, [[11, 12.5], [26, 27.5]]),
    ("roi_warp", TENS, (1, 1, 4, 4), 1, (1, 4), {}, [[11, 11.75, 12.5, 13.25]]),
    ("roi_warp", TENS, (1, 1, 4, 4), 1, 2, SR2, [[19.25, 20.75], [34.25, 35.75]]),
    ("roi_warp", TENS, (20, 40, 70, 88), 1 / 16, 2, {}, [[31, 32.5], [46, 47.5]]),
    ("roi_warp", TENS, (20, 40, 70, 88), 1 / 16, 2, SR2, [[39.25, 40.75], [51.75, 53.25]]),
    ("roi_warp", TENS, CORNER, 1, 2, {}, [[0, 0], [0, 0]]),
    ("roi_warp", ONES, BEYOND, 1, 2, {}, [[1, 0], [0, 0]]),
    # Crop pooling: samples from corner to corner, flipped boxes, fades over a pixel or is cut
    *[
        ("crop_pool", TENS, box, scale, 2, {"border": border}, result)
        for border in ("zeros", "cut")
        for box, scale, result in [
            ((1, 1, 4, 4), 1, [[22, 24], [42, 44]]),
            ((4, 4, 1, 1), 1, [[44, 42], [24, 22]]),
            ((20, 40, 70, 88), 1 / 16, [[37.291667, 39.375], [47.291667, 49.375]]),
        ]
    ],
    ("crop_pool", TENS_PLUS_1, CORNER, 1, 2, {}, [[0, 0], [0, 12]]),
    ("crop_pool", ONES, (5.5, 5.5, 7, 7), 1, 1, {}, [[0.25]]),
    ("crop_pool", ONES, (5.5, 5.5, 7, 7), 1, 1, {"border": "cut"}, [[0]]),
    # Exact integral: stride-1 average pooling is a special case; fades over a pixel beyond the map
    ("prroi_pool", TENS, (0, 0, 3, 3), 1, 3, {},
     [[5.5, 6.5, 7.5], [15.5, 16.5, 17.5], [25.5, 26.5, 27.5]]),
    ("prroi_pool", TENS, (1, 1, 4, 4), 1, 2, {}, [[19.25, 20.75], [34.25, 35.75]]),
    ("prroi_pool", TENS, (1.5, 1.5, 4.5, 4.5), 1, 2, {"aligned": True},
     [[19.25, 20.75], [34.25, 35.75]]),
    ("prroi_pool", TENS, (20, 40, 70, 88), 1 / 16, 2, {},
     [[34.53125, 36.09375], [44.361979, 45.794271]]),
    ("prroi_pool", ONES, BEYOND, 1, 2, {}, [[0.5625, 0], [0, 0]]),
    ("prroi_pool", TENS_PLUS_1, CORNER, 1, 2, {}, [[0, 0], [0, 2.625]]),
]
# fmt: on


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("example", EXAMPLES)
def test_example(operators, dtype, example):
    name, features, box, scale, size, options, result = example
    boxes = np.array([(0, *box)], dtype)
    output = getattr(operators, name)(features.astype(dtype), boxes, size, scale, **options)
    np.testing.assert_allclose(output[0, 0], result, rtol=1e-6, atol=1e-6)


def test_roi_pool_argmax(operators):
    boxes = np.array([(0, 1, 1, 4, 4), (0, *CORNER)], np.float32)
    _, argmax = operators.roi_pool(TENS, boxes, 2, return_argmax=True)
    assert argmax.dtype == np.int64
    np.testing.assert_array_equal(argmax[:, 0], [[[14, 16], [26, 28]], [[-1, -1], [-1, 7]]])


STEP = 665 / 32 / 7
TUTORIAL = [
    ("roi_pool", {}, 0, [3, 6, 9, 12, 15, 18, 21]),
    ("roi_pool", {}, 100, [6, 9, 12, 15, 18, 21, 24]),
    ("roi_pool", {"bins": "float"}, 0, [3, 6, 9, 12, 15, 18, 21]),
    ("roi_pool", {"rounding": "truncate"}, 0, [2, 5, 8, 11, 14, 17, 19]),
    ("roi_pool", {"rounding": "none"}, 0, [2, 5, 8, 11, 14, 17, 20]),
    ("roi_pool", {"rounding": "truncate", "bins": "truncate"}, 0, [1, 3, 5, 7, 9, 11, 13]),
    ("roi_align", SR2, 0, 1.484375 + STEP * np.arange(7)),
    ("roi_align", {}, 0, 1.484375 + STEP * np.arange(7)),
    ("roi_align", HALF_PIXEL, 0, 0.984375 + STEP * np.arange(7)),
    ("roi_align", SR2 | {"reduce": "max"}, 0, 2.2265625 + STEP * np.arange(7)),
    ("roi_align", {"reduce": "max"}, 0, 2.473958 + STEP * np.arange(7)),  # 3 samples: 2.96… up
    ("roi_warp", SR2, 0, 1.5 + 3 * np.arange(7)),
    ("crop_pool", {}, 0, 665 / 32 * (2 * np.arange(7) + 1) / 13),
    ("prroi_pool", {}, 0, 1.484375 + STEP * np.arange(7)),
]


@pytest.mark.parametrize(("name", "options", "shift", "row"), TUTORIAL)
def test_tutorials_800_pixel_image(operators, name, options, shift, row):
    """The 665-pixel box of an 800-pixel image at stride 32, which most introductions compute."""
    boxes = np.array([(0, shift, shift, 665 + shift, 665 + shift)], np.float32)
    operator = getattr(operators, name)
    along_x = operator(ramp(1, 0, 25), boxes, 7, 1 / 32, **options)[0, 0]
    along_y = operator(ramp(0, 1, 25), boxes, 7, 1 / 32, **options)[0, 0]
    np.testing.assert_allclose(along_x, np.tile(row, (7, 1)), rtol=1e-6)
    np.testing.assert_allclose(along_y, along_x.T, rtol=1e-6)


@pytest.mark.parametrize(
    ("rounding", "x", "y"), [("half_away", (9, 8), (6, 6)), ("truncate", (9, 6), (6, 4))]
)
def test_tutorials_dog(operators, rounding, x, y):
    """X 296, y 192, width 200, height 145 at stride 32: (first cell, cells) along x and y."""
    boxes = np.array([(0, 296, 192, 496, 337)], np.float32)
    for features, (first, extent) in [(ramp(1, 0, 25), x), (ramp(0, 1, 25), y)]:
        for sign, end in [(1, first + extent - 1), (-1, -first)]:
            output = operators.roi_pool(sign * features, boxes, 1, 1 / 32, rounding=rounding)
            assert output.item() == end


@pytest.mark.parametrize(
    ("dtype", "extent", "size", "p", "exact", "overrun"),
    [
        (np.float32, 57, 7, 6, (48, 57), (48, 58)),
        (np.float32, 57, 14, 13, (52, 57), (52, 58)),
        (np.float32, 62, 14, 7, (31, 36), (30, 36)),
        (np.float32, 4, 28, 20, (2, 3), (2, 4)),
        (np.float32, 29, 7, 6, (24, 29), (24, 29)),
        (np.float64, 29, 7, 6, (24, 29), (24, 30)),
        (np.float64, 57, 7, 6, (48, 57), (48, 57)),
    ],
)
def test_float_bins_overrun(operators, dtype, extent, size, p, exact, overrun):
    """A product in floating point may cross an integer: the bin then reads outside its box."""
    features = ramp(1, 0, 64)
    boxes = np.array([(0, 0, 0, extent - 1, extent - 1)], dtype)
    for bins, (first, end) in [("exact", exact), ("float", overrun)]:
        assert operators.roi_pool(features, boxes, size, bins=bins)[0, 0, p, p] == end - 1
        assert operators.roi_pool(-features, boxes, size, bins=bins)[0, 0, p, p] == -first
