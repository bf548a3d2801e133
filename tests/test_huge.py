"""Sizes at the far end: more elements than 2**31, a million boxes, single pixels, many bins.

Large maps are zeros that nobody has touched, which take no memory, but for the pixels near a box.
"""

import os

import numpy as np
import pytest

import roi_numba
from arrays import assert_same_bits
from operators import MEANS, OPERATORS, REDUCTIONS, ids
from strategies import Call, as_boxes, values
from test_backward import assert_gradients, with_winners
from test_forward import assert_close, run, tolerance

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
GIGABYTES = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "full", reason="takes gigabytes: .ci/full has it"
)
SIDE = 46342
"""The least whose square is more than 2**31."""

# ---- more than 2**31 elements --------------------------------------------------------------

SHAPES = {
    "plane": (1, 1, SIDE, SIDE),
    "channels": (1, 2**15 + 7, 257, 256),
    "images": (2**15 + 7, 1, 257, 256),
}
PATCH = 12
"""Pixels along each axis that are not zero: the last ones."""
NEAR = np.array([(1.25, 2.5, 8.75, 7), (-3, 0.5, 5.5, 20), (10, 10.5, 10.25, 11)])
"""Boxes on the patch; as much further on in the map: short binary fractions, so nothing rounds."""


MARGIN = 8


def untouched(shape, dtype=np.uint8):
    """A map of zeros, and the view of its last pixels."""
    features = np.zeros(shape, dtype)
    assert features.size > 2**31
    patch = features[-1:, -2:, -PATCH:, -PATCH:]
    patch[...] = np.random.default_rng(0).integers(0, 255, patch.shape)
    return features, patch


def far(shape):
    """The boxes of the patch where it lies in the map, on the last image."""
    shift = np.array([shape[3] - PATCH, shape[2] - PATCH] * 2)
    return np.column_stack([np.full(len(NEAR), shape[0] - 1), NEAR + shift])


def alone(patch):
    """The patch with some of the zeros before it, as far as boxes reach, and the boxes on it."""
    features = np.pad(patch, ((0, 0), (0, 0), (MARGIN, 0), (MARGIN, 0)))
    return features, np.column_stack([np.zeros(len(NEAR)), NEAR + MARGIN])


@pytest.mark.parametrize("name", SHAPES)
@MATRIX
def test_far_end_of_a_map(operator, reduction, name):
    """The same bits as of the last pixels alone; a cell's name counts all pixels before it."""
    shape = SHAPES[name]
    features, patch = untouched(shape)
    options = operator.reductions[reduction]
    small, boxes = alone(patch)
    found = operator.function(features, far(shape), 2, **options)
    assert_same_bits(found[:, -2:], operator.function(small, boxes, 2, **options))
    assert found.any()
    if operator.name == "roi_pool" and reduction == "max":
        _, argmax = operator.function(features, far(shape), 2, return_argmax=True, **options)
        _, expected = operator.function(small, boxes, 2, return_argmax=True, **options)
        row, column = np.divmod(expected, small.shape[3])
        row, column = row + shape[2] - small.shape[2], column + shape[3] - small.shape[3]
        expected = np.where(expected < 0, -1, row * shape[3] + column)
        np.testing.assert_array_equal(argmax[:, -2:], expected)
        assert (argmax.max() > 2**31) == (name == "plane")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("operator", [op for op in OPERATORS if op.rule.slope is not None], ids=ids)
def test_gradient_to_boxes_at_the_far_end(operator, name):
    shape = SHAPES[name]
    features, patch = untouched(shape)
    grad = np.zeros((len(NEAR), shape[1], 2, 2), np.float32)
    grad[:, -2:] = values(1, grad[:, -2:].shape, np.float32)
    _, found = operator.backward(grad, features, far(shape), needs=("boxes",))
    last = np.ascontiguousarray(grad[:, -2:])
    _, expected = operator.backward(last, *alone(patch), needs=("boxes",))
    assert expected.any()
    # Channels are added up in other blocks: a few roundings of float32.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("layout", ["broadcast", "channels last", "reversed", "mapped"])
def test_layouts_of_more_than_int32_counts(layout, tmp_path):
    """Elements, or bytes between neighbours, that 32 bits cannot count."""
    shape, axis, image = (2, 3, 2**15, 2**14), 1, 1
    last = (slice(-1, None), slice(None), slice(-40, None), slice(-40, None))
    if layout == "broadcast":
        one = values(0, (1, 3, 40, 40), np.float32)
        features = np.broadcast_to(one, (2**22, 3, 40, 40))
        image = 2**22 - 1
    elif layout == "mapped":
        features = np.memmap(tmp_path / "map", np.float32, "w+", shape=shape)
    else:
        features = np.zeros(shape, np.uint8)
    if layout == "channels last":
        features, axis = features.reshape(2, 2**15, 2**14, 3), -1
        last = last[0], last[2], last[3], last[1]
    elif layout == "reversed":  # the first pixels lie last in memory
        features, image = features[::-1, ::-1, ::-1, ::-1], 0
        last = slice(1), slice(None), slice(40), slice(40)
    patch = features[last]
    if layout != "broadcast":
        patch[...] = np.random.default_rng(0).integers(0, 255, patch.shape)
    shift = (0, 0) if layout in ("broadcast", "reversed") else (2**14 - 40, 2**15 - 40)
    box = np.array([[0, 3.5, 4, 30, 20.25]])
    boxes = box + np.array([image, *shift, *shift])
    assert features.size > 2**31
    found = roi_numba.roi_align(features, boxes, 3, channel_axis=axis)
    expected = roi_numba.roi_align(np.array(patch), box, 3, channel_axis=axis)
    assert_same_bits(found, expected)
    assert found.any()


@GIGABYTES
def test_gradient_to_a_map_of_more_than_int32_counts():
    """4 GiB of float16, all of which are written."""
    features, patch = untouched(SHAPES["plane"], np.float16)
    grad = values(1, (len(NEAR), 1, 2, 2), np.float16)
    found, _ = roi_numba.roi_align_backward(grad, features, far(features.shape), needs=("input",))
    expected, _ = roi_numba.roi_align_backward(grad, *alone(patch), needs=("input",))
    assert_same_bits(found[..., -PATCH - MARGIN :, -PATCH - MARGIN :], expected)
    assert np.count_nonzero(found) == np.count_nonzero(expected)


@GIGABYTES
@pytest.mark.parametrize(
    ("operator", "channel_axis"), [(roi_numba.roi_align, 1), (roi_numba.roi_pool, -1)], ids=ids
)
def test_result_of_more_than_int32_counts(operator, channel_axis, tmp_path):
    """A few boxes over and over, into a mapped file of 4 GiB: everywhere the same."""
    shape = (2, 2048, 6, 7)
    features = np.moveaxis(values(0, shape, np.float16), 1, channel_axis)
    some = np.random.default_rng(1).uniform(-1, 8, (250, 5))
    some[:, 0] = np.arange(250) % 2
    boxes = np.tile(some, (90, 1))
    expected = operator(features, some, 7, channel_axis=channel_axis)
    out = np.memmap(tmp_path / "out", np.float16, "w+", shape=(len(boxes), *expected.shape[1:]))
    assert out.size > 2**31
    assert operator(features, boxes, 7, channel_axis=channel_axis, out=out) is out
    for first in range(0, len(boxes), len(some)):
        np.testing.assert_array_equal(out[first : first + len(some)], expected)


# ---- many, few, small ----------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_a_million_boxes(operator):
    """A thousand over and over: each gives what it gave, whatever comes before it."""
    features = values(0, (3, 2, 9, 11), np.float32)
    some = np.random.default_rng(1).uniform(-2, 12, (1000, 5)).astype(np.float32)
    some[:, 0] = np.arange(1000) % 3
    boxes = np.tile(some, (1000, 1))
    found = operator.function(features, boxes, 1)
    assert found.shape == (10**6, 2, 1, 1)
    expected = operator.function(features, some, 1)
    assert_same_bits(found, np.tile(expected, (1000, 1, 1, 1)))
    grad = values(2, expected.shape, np.float32)
    to_input, to_boxes = operator.backward(np.tile(grad, (1000, 1, 1, 1)), features, boxes)
    once, each = operator.backward(grad, features, some)
    assert_same_bits(to_boxes, np.tile(each, (1000, 1)))
    # A sum of 333 000 terms in float32, and mostly of one sign nowhere.
    scale = np.abs(once).max()
    np.testing.assert_allclose(to_input / 1000, once, rtol=0, atol=2e-4 * scale)


@MATRIX
def test_maps_of_one_pixel(operator, reduction):
    """Every option and box about it, forward and back."""
    ends = (-1.5, 0.0, 0.25, 2.5)
    sides = [(low, high) for low in ends for high in ends]
    boxes = as_boxes([(0, *x, *y) for x in sides for y in sides], np.float64)[:, [0, 1, 3, 2, 4]]
    call = Call(values(3, (1, 3, 1, 1), np.float64), boxes, 2, 1.0)
    for options in operator.all_options():
        options = operator.reductions[reduction] | options
        expected = operator.reference(*call, **options)
        assert_close(run(operator, call, **options), expected, tolerance(call, expected))
        assert_gradients(operator, call, **with_winners(operator, call, options))


@pytest.mark.parametrize("size", [(512, 2), (2, 512)], ids=str)
@MATRIX
def test_512_bins(operator, reduction, size):
    """Along either axis, forward and back."""
    boxes = as_boxes([(0, 1.2, -3, 30.7, 44), (1, 3, 3, 4, 4.5)], np.float32)
    call = Call(values(3, (2, 3, 40, 35), np.float32), boxes, size, 1.0)
    options = operator.reductions[reduction]
    expected = operator.reference(*call, **options)
    assert_close(run(operator, call, **options), expected, tolerance(call, expected))
    assert_gradients(operator, call, **with_winners(operator, call, options))


@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_512_bins_along_both_axes(operator, reduction):
    """Beside the product of the axes' weights."""
    features = values(3, (1, 2, 40, 35), np.float64)
    boxes = np.array([(0, 1.2, -3, 30.7, 44), (0, 3, 3, 4, 4.5)])
    options = operator.reductions[reduction]
    output = operator.function(features, boxes, 512, **options)
    rows = roi_numba.axis_weights(operator.function, boxes[:, [2, 4]], 40, 512).toarray()
    columns = roi_numba.axis_weights(operator.function, boxes[:, [1, 3]], 35, 512).toarray()
    for k in range(2):
        part = slice(512 * k, 512 * (k + 1))
        expected = rows[part] @ features[0] @ columns[part].T
        np.testing.assert_allclose(output[k], expected, rtol=0, atol=1e-13)


@MATRIX
def test_a_batch_of_ten_thousand(operator, reduction):
    """A box on each image, in no order: what the image alone would give."""
    features = values(3, (10**4, 2, 5, 6), np.float32)
    rng = np.random.default_rng(1)
    boxes = rng.uniform(-1, 7, (10**4, 5))
    boxes[:, 0] = rng.permutation(10**4)
    options = operator.reductions[reduction]
    found = operator.function(features, boxes, 2, **options)
    grad = values(4, found.shape, np.float32)
    to_input, to_boxes = operator.backward(grad, features, boxes, **options)
    for k in range(0, 10**4, 997):
        image = int(boxes[k, 0])
        it_alone = features[image : image + 1], boxes[k : k + 1] * [0, 1, 1, 1, 1]
        assert_same_bits(found[k : k + 1], operator.function(*it_alone, 2, **options))
        one_input, one_boxes = operator.backward(grad[k : k + 1], *it_alone, **options)
        assert_same_bits(to_input[image : image + 1], one_input)
        assert_same_bits(to_boxes[k : k + 1], one_boxes)
