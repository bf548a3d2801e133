"""Blocks of channels that go together, and gradients that are asked for ahead, change no bit."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import assert_same_bits
from roi_numba._cpu import gradients, tables
from roi_numba._cpu.blocks import FAR
from roi_numba._cpu.plan import ROWS_PIXELS, SCRATCH_PIXELS

DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16


def last(array):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def drawn_boxes(rng, count, images, height, width):
    """Boxes of which the first is off the map."""
    xs = np.sort(rng.uniform(-5, width + 5, (count, 2)))
    ys = np.sort(rng.uniform(-5, height + 5, (count, 2)))
    xs[0] += 1e4
    numbers = rng.integers(0, images, count)
    boxes = np.column_stack([numbers, xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]])
    return boxes.astype(np.float32)


def turned(array):
    return np.ascontiguousarray(array[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]


def sliced(array):
    wide = np.full((*array.shape[:-1], array.shape[-1] + 7), 7, array.dtype)
    wide[..., 3:-4] = array
    return wide[..., 3:-4]


@pytest.mark.parametrize("form", [np.asarray, turned, sliced])
@pytest.mark.parametrize("entries", [tables.ROUND_ENTRIES, 64], ids="{} entries".format)
@pytest.mark.parametrize("together", [2, 3, 4])
@pytest.mark.parametrize(
    ("channels", "height", "width", "bins"),
    [(83, 9, 11, (5, 5)), (70, 70, 300, (3, 7)), (37, 20, 140, (14, 14)), (33, 1, 1, (1, 2))],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_gradients_to_the_map(
    dtype, channels, height, width, bins, together, entries, form, rng, monkeypatch
):
    monkeypatch.setattr(tables, "ROUND_ENTRIES", entries)
    monkeypatch.setattr(gradients, "blocks_together", lambda *_: together)
    boxes = drawn_boxes(rng, 12, 2, height, width)
    grad = rng.standard_normal((12, channels, *bins)).astype(dtype)
    grad[2, 3, 0, 0] = np.nan
    grad[3, 1] = np.inf
    maps = np.zeros((2, channels, height, width), dtype)
    options = {"sampling_ratio": 2, "needs": "input"}
    expected, _ = roi_numba.roi_align_backward(grad, maps, boxes, **options)
    found, _ = roi_numba.roi_align_backward(
        form(last(grad)), last(maps), boxes, channel_axis=-1, **options
    )
    assert_same_bits(found, last(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("misplaced", [0, 1])
def test_gradients_from_afar(misplaced, channel_axis, dtype, rng):
    """They are large enough to be asked for ahead: the same as of a few boxes, or channels."""
    channels, side, bins = 147, 9, 5
    count = FAR // (channels * bins**2 * np.dtype(dtype).itemsize) + 1
    form = last if channel_axis == -1 else np.asarray
    maps = form(rng.standard_normal((1, channels, side, side + 2)).astype(dtype))
    boxes = drawn_boxes(rng, count, 1, side, side + 2)
    grad = form(rng.standard_normal((count, channels, bins, bins)).astype(dtype))
    grad = np.append(np.zeros(misplaced, dtype), grad)[misplaced:].reshape(grad.shape)
    assert grad.nbytes >= FAR
    options = {"sampling_ratio": 2, "channel_axis": channel_axis}

    to_map, to_boxes = roi_numba.roi_align_backward(grad, maps, boxes, **options)
    for k in 1, count // 2, count - 1:
        one = slice(k, k + 1)
        _, alone = roi_numba.roi_align_backward(grad[one], maps, boxes[one], **options)
        assert_same_bits(to_boxes[one], alone)
    before = (slice(None),) * (channel_axis % 4)
    for first in range(0, channels, 20):
        some = (*before, slice(first, first + 20))
        part, _ = roi_numba.roi_align_backward(grad[some], maps[some], boxes, **options)
        assert_same_bits(to_map[some], part)


def test_box_gradients_are_added_block_by_block(rng):
    channels, lanes = 147, 8  # of float64; sums of float32 are exact in any order, nearly always
    maps = rng.standard_normal((1, channels, 9, 11))
    boxes = drawn_boxes(rng, 30, 1, 9, 11).astype(np.float64)
    grad = rng.standard_normal((30, channels, 5, 5))
    expected = 0
    for first in range(0, channels, lanes):
        some = np.s_[:, first : first + lanes]
        part = roi_numba.prroi_pool_backward(grad[some], maps[some], boxes, needs="boxes")[1]
        expected = expected + part
    found = roi_numba.prroi_pool_backward(grad, maps, boxes, needs="boxes")[1]
    assert_same_bits(found, expected)


@pytest.mark.parametrize("pool", [roi_numba.roi_align, roi_numba.prroi_pool])
@pytest.mark.parametrize("width", [40, ROWS_PIXELS // 2 + 3, 2 * ROWS_PIXELS])
def test_wide_boxes_of_several_blocks(pool, width, rng):
    roi_numba.set_num_threads(1)  # or there were too few to go together
    maps = rng.standard_normal((1, 519, 4, width)).astype(np.float32)
    boxes = drawn_boxes(rng, 40, 1, 4, width)
    boxes[1::3, 1::2] = 0, width
    expected = pool(maps, boxes, 3)
    assert np.count_nonzero(expected.any(axis=(1, 2, 3))) > 20
    assert_same_bits(pool(last(maps), boxes, 3, channel_axis=-1), last(expected))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pool", [roi_numba.roi_align, roi_numba.prroi_pool])
def test_wide_boxes_off_the_map(pool, channels_last):
    """Rows of sums were written for columns that nothing reads, beyond their memory."""
    roi_numba.set_num_threads(1)
    width = 4 * SCRATCH_PIXELS
    shape = (1, 1, width, 512) if channels_last else (1, 64, 1, 8 * width)
    maps = np.ones(shape, np.float16)
    boxes = np.array([[0, 0, -60, 8 * width, -50]] * 20, np.float32)
    assert not pool(maps, boxes, 2, channel_axis=-1 if channels_last else 1).any()
