"""Blocks of channels that go together, and gradients that are asked for ahead, change no bit."""

import numpy as np
import pytest

import roi_numba
from roi_numba._cpu.blocks import FAR
from roi_numba._cpu.plan import ROWS_PIXELS

SIDE = 9
BINS = 5


def drawn(rng, shape, channel_axis, dtype):
    values = rng.standard_normal(shape).astype(dtype)
    return values if channel_axis == 1 else np.ascontiguousarray(np.moveaxis(values, 1, -1))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [16, 64, 83])
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("images", [1, 3])
def test_gradients_from_afar(images, shift, channel_axis, channels, dtype):
    rng = np.random.default_rng(7)
    count = FAR // (channels * BINS**2 * np.dtype(dtype).itemsize) + 1
    maps = drawn(rng, (images, channels, SIDE, SIDE + 2), channel_axis, dtype)
    corners = rng.uniform(-2, SIDE + 2, (count, 4))
    boxes = np.column_stack([rng.integers(0, images, count), corners]).astype(np.float32)
    grad = drawn(rng, (count, channels, BINS, BINS), channel_axis, dtype)
    grad = np.concatenate([np.zeros(shift, dtype), grad.ravel()])[shift:].reshape(grad.shape)
    assert grad.nbytes >= FAR

    def backward(grad, boxes, maps, needs):
        to_map, to_boxes = roi_numba.roi_align_backward(
            grad, maps, boxes, sampling_ratio=2, needs=needs, channel_axis=channel_axis
        )
        return to_map if needs == "input" else to_boxes

    channel = 1 if channel_axis == 1 else 3
    few = np.s_[:16] if dtype != "float64" else np.s_[:8]  # of one vector
    alone = (slice(None),) * channel + (few,)
    to_map = backward(grad, boxes, maps, "input")
    np.testing.assert_array_equal(to_map[alone], backward(grad[alone], boxes, maps[alone], "input"))
    to_boxes = backward(grad, boxes, maps, "boxes")
    for k in 0, count // 2, count - 1:
        one = backward(grad[k : k + 1], boxes[k : k + 1], maps, "boxes")
        np.testing.assert_array_equal(to_boxes[k : k + 1], one)


@pytest.mark.parametrize("pool", [roi_numba.roi_align, roi_numba.prroi_pool])
@pytest.mark.parametrize("width", [40, ROWS_PIXELS // 2 + 3, 2 * ROWS_PIXELS])
def test_wide_boxes_of_several_blocks(pool, width):
    roi_numba.set_num_threads(1)  # or there were too few to go together
    rng = np.random.default_rng(8)
    maps = rng.standard_normal((1, 4, width, 519)).astype(np.float32)
    ys = rng.uniform(0, 4, (40, 2))
    xs = rng.uniform(0, width, (40, 2))
    xs[::3] = 0, width
    boxes = np.column_stack([np.zeros(40), xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]])
    boxes = boxes.astype(np.float32)
    first = np.moveaxis(np.ascontiguousarray(np.moveaxis(maps, -1, 1)), 1, -1)
    together = pool(maps, boxes, 3, channel_axis=-1)
    alone = pool(first, boxes, 3, channel_axis=-1)
    np.testing.assert_array_equal(together, alone)
