"""Large results are written past the caches, whole lines at a time: same bits, same places."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import GUARD, assert_same_bits, unaligned
from roi_numba._cpu.blocks import Layout
from roi_numba._cpu.streams import STREAMED as LARGE
from roi_numba._cpu.unpack import waits

BOXES = np.random.default_rng(0).uniform(0, 12, (LARGE // (72 * 5 * 7) + 1, 4))
BOXES[:, 2:] += BOXES[:, :2]
SIZE = 5, 7
DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16


OPERATORS = {roi_numba.roi_align: {"sampling_ratio": 2}, roi_numba.roi_pool: {}}


def pooled(operator, features, boxes, channel_axis, out=None):
    return operator(
        features, boxes, SIZE, channel_axis=channel_axis, out=out,
        batch_indices=np.zeros(len(boxes), int), **OPERATORS[operator],
    )  # fmt: skip


def case(dtype, channel_axis, channels=72):
    features = np.random.default_rng(1).standard_normal((1, channels, 12, 14)).astype(dtype)
    return features if channel_axis == 1 else np.ascontiguousarray(np.moveaxis(features, 1, 3))


@pytest.fixture(params=OPERATORS, ids=lambda operator: operator.__name__)
def operator(request):
    return request.param


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_large_is_like_small(operator, dtype, channel_axis):
    features = case(dtype, channel_axis)
    whole = pooled(operator, features, BOXES, channel_axis)
    assert whole.size >= LARGE
    parts = [pooled(operator, features, some, channel_axis) for some in np.array_split(BOXES, 4)]
    assert_same_bits(whole, np.concatenate(parts))


@pytest.mark.parametrize("bins", [(64, 64), (65, 64)], ids=str)
def test_as_many_bins_as_wait_in_scratch_and_more(operator, bins):
    features = case(np.float32, 1, 32)
    boxes = BOXES[:9]
    options = {"batch_indices": np.zeros(9, int), **OPERATORS[operator]}
    whole = operator(features, boxes, bins, **options)
    assert whole.size >= LARGE
    parts = [operator(features[:, c : c + 16], boxes, bins, **options) for c in (0, 16)]
    assert parts[0].size < LARGE
    assert_same_bits(whole, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_boxes_that_read_nothing_between_others(reduce, threads):
    """Lines of a box are written while the next is pooled, of which there may be nothing."""
    features = case(np.float32, 1)
    out, memory = shifted((len(BOXES), 72, *SIZE), np.float32, 4)
    guards = memory.copy()
    boxes = BOXES.copy()
    boxes[1::2] += 1000
    boxes[2::7] = np.nan
    roi_numba.set_num_threads(threads)
    whole = roi_numba.roi_align(
        features, boxes, SIZE, sampling_ratio=2, reduce=reduce, check_boxes=False,
        batch_indices=np.zeros(len(boxes), int), out=out,
    )  # fmt: skip
    read = np.isfinite(boxes).all(axis=1) & (boxes[:, 0] < 1000)
    assert not whole[~read].any()
    whole = whole.copy()
    out[...] = GUARD
    assert_same_bits(memory, guards)
    for some in np.array_split(np.flatnonzero(read), 4):
        part = roi_numba.roi_align(
            features, boxes[some], SIZE, sampling_ratio=2, reduce=reduce,
            batch_indices=np.zeros(len(some), int),
        )  # fmt: skip
        assert part.size < LARGE
        assert_same_bits(whole[some], part)


@pytest.mark.parametrize("size", [(2, 8), (1, 17), (1, 20), (3, 7), (6, 8)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_around_whole_tiles(dtype, size):
    """Channels in fours are no full lanes, so each of their values is copied by itself."""
    features = case(dtype, 1, 32)
    boxes = np.resize(BOXES, (LARGE // (32 * size[0] * size[1]) + 1, 4))

    def winners(part):
        return roi_numba.roi_pool(
            part, boxes, size, batch_indices=np.zeros(len(boxes), int), return_argmax=True
        )

    whole = winners(features)
    assert whole[0].size >= LARGE
    parts = [winners(features[:, c : c + 4]) for c in range(0, 32, 4)]
    for actual, *expected in zip(whole, *parts, strict=True):
        assert_same_bits(actual, np.concatenate(expected, axis=1))


def shifted(shape, dtype, elements):
    """An array that begins some elements after a cache line, within one filled with guards."""
    whole = np.full(np.prod(shape) + 256, GUARD, dtype)
    first = -whole.ctypes.data % 64 // whole.itemsize + elements
    return whole[first:][: np.prod(shape)].reshape(shape), whole


@pytest.mark.parametrize("elements", [0, 1, 4, 15])
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_out_that_begins_anywhere(operator, dtype, channel_axis, elements):
    features = case(dtype, channel_axis)
    expected = pooled(operator, features, BOXES, channel_axis)
    out, whole = shifted(expected.shape, dtype, elements)
    before = whole.copy()
    assert pooled(operator, features, BOXES, channel_axis, out) is out
    assert_same_bits(out, expected)
    out[...] = GUARD
    assert_same_bits(whole, before)


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_out_at_an_odd_address(operator, channel_axis):
    features = case(np.float32, channel_axis)
    expected = pooled(operator, features, BOXES, channel_axis)
    out = unaligned(np.full(expected.shape, GUARD, np.float32))
    pooled(operator, features, BOXES, channel_axis, out)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_result_begins_with_a_line(threads):
    roi_numba.set_num_threads(threads)
    whole = pooled(roi_numba.roi_align, case(np.float32, 1), BOXES, 1)
    assert whole.ctypes.data % 64 == 0
    assert whole.flags.c_contiguous
    assert whole.flags.writeable


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gradient_to_a_large_map_is_like_those_of_its_parts(dtype, channel_axis):
    # A box covers the map; channels last, its lines are streamed.
    axis = channel_axis % 4
    channels = LARGE // (12 * 14) + 16
    boxes = np.array([[0, 0, 14, 12.0], [2, 3, 9, 9]])
    shape = (2, channels, *SIZE) if axis == 1 else (2, *SIZE, channels)
    grad = np.random.default_rng(2).standard_normal(shape).astype(dtype)
    features = case(dtype, channel_axis, channels)

    def gradient(part):
        return roi_numba.roi_align_backward(
            grad.take(part, axis), features.take(part, axis), boxes, sampling_ratio=2,
            batch_indices=np.zeros(2, int), channel_axis=channel_axis, needs=("input",),
        )[0]  # fmt: skip

    whole = gradient(range(channels))
    assert whole.size >= LARGE
    middle = channels // 2 // 16 * 16  # a block has the same sums wherever it begins
    parts = [gradient(range(middle)), gradient(range(middle, channels))]
    assert_same_bits(whole, np.concatenate(parts, axis))


@pytest.mark.parametrize("bins", [1, (1, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gradient_of_a_maximum_to_a_large_map(dtype, bins):
    """Names of single bins lie side by side, as channels-last, but the map does not."""
    features = np.random.default_rng(1).standard_normal((1, 256, 65, 65)).astype(dtype)
    assert features.size >= LARGE
    boxes = np.array([[0, 0, 0, 20, 30], [0, 5, 5, 60, 60], [0, 40, 2, 64, 30.0]])
    output, argmax = roi_numba.roi_pool(features, boxes, bins, return_argmax=True)
    grad = np.random.default_rng(2).standard_normal(output.shape).astype(dtype)
    found, _ = roi_numba.roi_pool_backward(grad, features, boxes, argmax=argmax, needs="input")
    expected = np.zeros((256, 65 * 65), np.float32)
    for names, gradients in zip(argmax, grad, strict=True):  # in the order that is promised
        for channel in range(256):
            np.add.at(expected[channel], names[channel].ravel(), gradients[channel].ravel())
    assert_same_bits(found, expected.astype(dtype).reshape(features.shape))


@pytest.mark.parametrize("offset", [0, 4])
@pytest.mark.parametrize("width", [64, 61])
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8], ids=lambda d: d.__name__)
def test_large_crops_are_like_small(dtype, channel_axis, width, offset):
    rng = np.random.default_rng(2)
    images = (99 * rng.random((2, 30, 70, 3))).astype(dtype)
    boxes = rng.uniform(-0.1, 1.1, (150, 4))
    indices = rng.integers(0, 2, 150)
    shape = 150, 40, width, 3
    if channel_axis == 1:
        images, shape = np.ascontiguousarray(np.moveaxis(images, 3, 1)), (150, 3, 40, width)
    out, memory = shifted(shape, np.float32, offset)
    guards = memory.copy()

    def cut(some, out=None):
        return roi_numba.crop_and_resize(
            images, boxes[some], (40, width), box_indices=indices[some], extrapolation_value=-1,
            channel_axis=channel_axis, out=out,
        )  # fmt: skip

    whole = cut(slice(None), out).copy()
    out[...] = GUARD
    assert_same_bits(memory, guards)
    assert whole.size >= LARGE
    parts = [cut(slice(first, first + 50)) for first in range(0, 150, 50)]
    assert_same_bits(whole, np.concatenate(parts))


@pytest.mark.parametrize("lanes", [8, 16])
def test_bins_wait_with_room_for_them_twice(lanes):
    """As much as the names of a block's winners have (`maximum._unpack_names`)."""
    target, layout = np.empty(LARGE, np.int64), Layout(0, 35 * lanes, lanes, 35, 7, 1)
    for room in (2 * 35 * lanes, 2 * 35 * lanes - 1):
        found = waits(np.empty(room, np.int64), target, layout, lanes, (5, 7), lanes)
        assert found == (room == 2 * 35 * lanes)
