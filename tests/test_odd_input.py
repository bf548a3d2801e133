"""Absurd arguments do no harm: far boxes, empty maps, NaN; inputs are never written to."""

import zlib

import numpy as np
import pytest

import roi_numba
from operators import MEANS, ids
from small_call import EVERY_OPERATOR, GUARD, MATRIX, ROWS, SIZE, features, rows, with_row

# ---- inputs are never written ---------------------------------------------------------------


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8], ids=ids)
@MATRIX
def test_inputs_are_never_written(operator, reduction, dtype, axis):
    """Neither read-only ones nor those that could be."""
    for writeable in (True, False):
        input = np.moveaxis(features(dtype), 1, axis)
        boxes, corners, indices = rows(), rows()[:, 1:], np.array([0, 1, 1])
        inputs = input, boxes, corners, indices
        for array in inputs:
            array.flags.writeable = writeable
        before = [zlib.crc32(array.tobytes()) for array in inputs]
        options = operator.reductions[reduction] | {"channel_axis": axis}
        operator.function(input, boxes, SIZE, **options)
        operator.function(input, corners, SIZE, batch_indices=indices, **options)
        operator.function(input, [corners[:1], corners[1:]], SIZE, **options)
        with pytest.raises(ValueError, match=r"^out must"):
            operator.function(input, boxes, SIZE, out=input, **options)
        assert [zlib.crc32(array.tobytes()) for array in inputs] == before


# ---- what is absurd but allowed -------------------------------------------------------------

UNUSABLE = [
    (0, np.nan, 1, 6, 5),
    (0, 1, np.nan, 6, 5),
    (0, 1, 1, np.inf, 5),
    (0, 1, 1, 6, -np.inf),
    (0, -np.inf, -np.inf, np.inf, np.inf),
    (-1, 1, 1, 6, 5),
    (2, 1, 1, 6, 5),
    (0.5, 1, 1, 6, 5),
    (1e30, 1, 1, 6, 5),
    (np.nan, 1, 1, 6, 5),
    (np.inf, 1, 1, 6, 5),
    (-np.inf, 1, 1, 6, 5),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_unchecked_boxes(operator, reduction, dtype):
    """Those that cannot be used give zeros and argmax -1; their neighbours notice nothing."""
    good = ROWS[:2]
    mixed = as_rows([good[0], *UNUSABLE, good[1]], dtype)
    options = operator.reductions[reduction] | {"check_boxes": False}
    if reduction != "mean":
        options["return_argmax"] = True
    found = operator.function(features(), mixed, SIZE, **options)
    expected = operator.function(features(), as_rows(good, dtype), SIZE, **options)
    if reduction == "mean":
        found, expected = (found,), (expected,)
    for array, alone, empty in zip(found, expected, (0, -1), strict=False):
        assert (array[1:-1] == empty).all()
        np.testing.assert_array_equal(array[[0, -1]], alone)


def as_rows(sequence, dtype):
    return np.array(sequence, dtype)


@EVERY_OPERATOR
def test_unchecked_batch_indices(operator):
    indices = {
        "int": np.array([-1, 1, 2]),
        "float": np.array([np.nan, 1, 0.5]),
        "huge": np.array([2**64 - 1, 1, 2**63], "u8"),
    }
    expected = operator.function(features(), rows()[1:2], SIZE)
    for numbers in indices.values():
        output = operator.function(
            features(), rows()[:, 1:], SIZE, batch_indices=numbers, check_boxes=False
        )
        assert not output[[0, 2]].any()
        np.testing.assert_array_equal(output[1:2], expected)


@MATRIX
def test_unchecked_boxes_without_images(operator, reduction):
    """No image, so no box can be used: it is refused whatever is checked."""
    for check in (None, True, False):
        options = operator.reductions[reduction] | {"check_boxes": check}
        with pytest.raises(ValueError, match=r"^input .*image"):
            operator.function(features()[:0], rows(), SIZE, **options)
        output = operator.function(features()[:0], rows()[:0], SIZE, **options)
        assert output.shape == (0, 3, *SIZE)
        output = operator.function(features()[:0], [], SIZE, **options)
        assert output.shape == (0, 3, *SIZE)


FAR = [1e30, 3e38, 1e8, 2.0**24, 2.0**31, 2.0**53, 2.0**63, 1e300]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_far_boxes(operator, reduction, dtype):
    """Alone on their side of the map, larger than it, reversed: all finite, none harmful."""
    boxes = [
        (0, *box)
        for far in FAR
        if far <= float(np.finfo(dtype).max)
        for box in (
            (far, far, far, far),
            (-far, -far, -far, -far),
            (far, 1, far, 5),
            (1, -far, 5, -far),
            (far, far, -far, -far),
        )
    ]
    options = operator.reductions[reduction]
    output = operator.function(features(), np.array(boxes, dtype), SIZE, **options)
    assert np.isfinite(output).all()
    assert not output.reshape(-1, 5, output[0].size)[:, :4].any()


@pytest.mark.parametrize("far", [1e30, 3e38])
@MATRIX
def test_boxes_from_one_end_of_the_plane_to_the_other(operator, reduction, far):
    """RoIPool has a cell for every bin that meets the map; the others call it off the map."""
    box = np.array([(0, -far, -far, far, far)], np.float32)
    output = operator.function(features(), box, 2, **operator.reductions[reduction])
    if operator.name != "roi_pool":
        assert not output.any()
    elif reduction == "max":
        np.testing.assert_array_equal(output[0, :, 1, 1], features()[0].max(axis=(1, 2)))


@MATRIX
def test_reversed_and_empty_boxes(operator, reduction):
    """As semantics say: RoIPool has one cell, a plain RoIAlign one pixel, the rest a point or 0."""
    input = features()
    box = np.array([(0, 6, 5, 2, 1), (0, 3, 2, 3, 2)], np.float32)
    options = operator.reductions[reduction]
    output = operator.function(input, box, 1, **options)
    if operator.name == "roi_pool":
        np.testing.assert_array_equal(output[:, :, 0, 0], input[0, :, [5, 2], [6, 3]])
    elif operator.name == "crop_pool":  # flipped: of its four corners the largest; a point
        largest = input[0][:, [5, 5, 1, 1], [6, 2, 6, 2]].max(axis=1)
        np.testing.assert_array_equal(output[:, :, 0, 0], [largest, input[0, :, 2, 3]])
    elif operator.name == "roi_warp":  # the point at the first corner
        np.testing.assert_array_equal(output[:, :, 0, 0], input[0, :, [5, 2], [6, 3]])
    elif operator.name == "prroi_pool":
        assert not output.any()
    else:
        aligned = operator.function(input, box, 1, aligned=True, **options)
        assert not aligned.any()
        pixel = np.array([(0, 6, 5, 7, 6), (0, 3, 2, 4, 3)], np.float32)
        np.testing.assert_array_equal(output, operator.function(input, pixel, 1, **options))


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_extreme_scales(operator, reduction, dtype, scale):
    """No warning, nothing but finite numbers."""
    options = operator.reductions[reduction]
    output = operator.function(features(), rows(dtype), SIZE, scale, **options)
    assert np.isfinite(output).all()


@pytest.mark.parametrize("shape", [(2, 0, 8, 9), (2, 3, 0, 9), (2, 3, 8, 0), (2, 3, 0, 0)])
@MATRIX
def test_empty_maps(operator, reduction, shape):
    """K = 0 and C = 0 give empty arrays, H = 0 or W = 0 zeros; `out` may come along."""
    input = np.empty(shape, np.float32)
    for axis in (1, -1):
        options = operator.reductions[reduction] | {"channel_axis": axis}
        for boxes in (rows(), rows()[:0]):
            expected = np.zeros((len(boxes), shape[1], *SIZE), np.float32)
            out = np.full_like(np.moveaxis(expected, 1, axis), GUARD)
            call = np.moveaxis(input, 1, axis), boxes, SIZE
            output = operator.function(*call, **options)
            np.testing.assert_array_equal(np.moveaxis(output, axis, 1), expected)
            turned = call[0][:, ::-1, ::-1]
            turned.flags.writeable = False
            output = operator.function(turned, *call[1:], **options)
            np.testing.assert_array_equal(np.moveaxis(output, axis, 1), expected)
            assert operator.function(*call, out=out, **options) is out
            np.testing.assert_array_equal(np.moveaxis(out, axis, 1), expected)
            if reduction != "mean":
                output, argmax = operator.function(*call, return_argmax=True, **options)
                assert argmax.shape == output.shape
                assert (argmax == -1).all()


@MATRIX
def test_wrong_boxes_are_refused_on_empty_maps_too(operator, reduction):
    options = operator.reductions[reduction]
    for shape in ((2, 0, 8, 9), (2, 3, 0, 9)):
        with pytest.raises(IndexError, match=r"got 2 for box 2"):
            operator.function(np.empty(shape), with_row(2, 1, 1, 4, 4), SIZE, **options)


# ---- special values -------------------------------------------------------------------------

WHERE = {
    # whole cells and whole pixels: every neighbour of a sample has weight zero
    "whole": ((8, 9), [(0, 1, 1, 5, 5), (0, 0, 0, 8, 7), (0, 2, 3, 6, 7)], 1.0),
    "broken": ((8, 9), [(0, 1.3, 0.7, 6.2, 5.9), (0, -3, -4, 4.5, 3), (0, 6, 6, 20, 20)], 1.0),
    # more cells than the engine packs at once, and few of them read
    "large": ((140, 150), [(0, 0, 0, 150, 140), (0, 3, 5, 147, 133), (0, -60, 20, 300, 90)], 1.0),
}

OPTIONS = {
    "roi_pool": [{}, {"bins": "float"}, {"rounding": "truncate", "bins": "truncate"}],
    "roi_align": [
        {"sampling_ratio": 2},
        {"sampling_ratio": 1, "aligned": True},
        {"sampling_ratio": -1},
    ],
    "roi_warp": [{}, {"sampling_ratio": 2}, {"quantize": False}],
    "crop_pool": [{}, {"border": "cut"}],
    "prroi_pool": [{}, {"aligned": True}],
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@MATRIX
def test_pixels_without_weight_are_not_read(operator, reduction, special, where):
    """Everything that no bin of a box weighs may be NaN or infinite: the bits stay the same."""
    (height, width), boxes, scale = WHERE[where]
    clean = features(np.float32, (1, 17, height, width))
    for options in OPTIONS[operator.name]:
        for box in np.array(boxes, np.float64):
            _, x1, y1, x2, y2 = box
            seen_y = np.zeros(height, bool)
            seen_x = np.zeros(width, bool)
            for seen, side, bins in ((seen_y, (y1, y2), 2), (seen_x, (x1, x2), 3)):
                weights = roi_numba.axis_weights(
                    operator.function, side, len(seen), bins, scale, **options
                )
                seen[weights.indices] = True
            dirty = clean.copy()
            dirty[..., ~(seen_y[:, None] & seen_x)] = special
            call = box[None], (2, 3), scale
            chosen = options | operator.reductions[reduction]
            expected = operator.function(clean, *call, **chosen)
            output = operator.function(dirty, *call, **chosen)
            np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("shape", [(1, 3, 0, 4), (1, 3, 4, 0), (1, 3, 0, 0)])
@MATRIX
def test_gradients_of_empty_maps(operator, reduction, shape):
    """Nothing is divided by their size."""
    options = operator.reductions[reduction]
    boxes = np.array([[0, 0, 0, 2, 2]], np.float32)
    grad_input, grad_boxes = operator.backward(
        np.ones((1, 3, 2, 2), np.float32), np.empty(shape, np.float32), boxes, **options
    )
    assert grad_input.shape == shape
    assert not grad_boxes.any()


@MATRIX
def test_infinities_warn_of_nothing(operator, reduction):
    """Neither their sums nor those of what is too large: in the tests a warning is an error."""
    input = features(np.float32, (2, 40, 8, 9))
    options = operator.reductions[reduction]
    for large in (np.inf, 3e38):
        grad = np.full((3, 40, 2, 2), large, np.float32)
        grad[:, ::3] *= -1
        for maps in (input, np.where(input > 0, grad[0, 0, 0, 0], input)):
            operator.function(maps, rows(), 2, **options)
            operator.backward(grad, maps, rows(), **options)


@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_nan_gradients_of_boxes_off_the_map(operator, reduction):
    """A bin that reads nothing tells the box nothing."""
    features = np.ones((1, 3, 8, 9), np.float32)
    boxes = np.array([[0, 50, 50, 60, 60], [0, 1, 1, 5, 5]], np.float32)
    grad = np.ones((2, 3, 2, 2), np.float32)
    grad[0] = np.nan
    options = operator.reductions[reduction]
    for gradient in operator.backward(grad, features, boxes, **options):
        assert np.isfinite(gradient).all()
