"""Pyramids of which every box is pooled from all maps: sums, means, maxima and channels."""

import numpy as np
import pytest

import roi_numba
from arrays import assert_same_bits
from roi_numba import pyramid_pool_backward
from strategies import values
from test_pyramid_pool import FPN, PLAIN, of_plain

COMBINE = {
    "sum": lambda parts, axis: sum(parts[1:], parts[0]),
    "mean": lambda parts, axis: sum(parts[1:], parts[0]) / 4,
    "max": lambda parts, axis: np.max(parts, axis=0),
    "concat": lambda parts, axis: np.concatenate(parts, axis),
}


def on_every_map(axis=1, **options):
    return [
        roi_numba.roi_align(np.moveaxis(array, 1, axis), PLAIN.boxes, (2, 3), scale,
                            channel_axis=axis, **options)
        for array, scale in zip(PLAIN.inputs, FPN, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("how", COMBINE)
def test_all_levels(how, axis):
    inputs = [np.moveaxis(array, 1, axis) for array in PLAIN.inputs]
    output = of_plain(inputs=inputs, levels=None, reduce_levels=how, channel_axis=axis)
    assert_same_bits(output, COMBINE[how](on_every_map(axis), axis))


@pytest.mark.parametrize("needs", [("input", "boxes"), ("input",), ("boxes",)], ids=str)
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("how", COMBINE)
def test_gradients_of_all_levels(how, axis, needs):
    inputs = [np.moveaxis(array, 1, axis) for array in PLAIN.inputs]
    parts = on_every_map(axis)
    grad = values(3, COMBINE[how](parts, axis).shape, np.float32)
    shares = {
        "sum": lambda: [grad] * 4,
        "mean": lambda: [grad / 4] * 4,
        "max": lambda: [grad * (np.argmax(parts, axis=0) == level) for level in range(4)],
        "concat": lambda: np.split(grad, 4, axis),
    }[how]()
    grad_inputs, grad_boxes = pyramid_pool_backward(
        roi_numba.roi_align, grad, inputs, PLAIN.boxes, spatial_scales=FPN, reduce_levels=how,
        channel_axis=axis, needs=needs,
    )  # fmt: skip
    expected = [
        roi_numba.roi_align_backward(share, array, PLAIN.boxes, scale, channel_axis=axis)
        for share, array, scale in zip(shares, inputs, FPN, strict=True)
    ]
    if "input" in needs:
        for found, (wanted, _) in zip(grad_inputs, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    else:
        assert grad_inputs is None
    if "boxes" in needs:
        total = sum(wanted for _, wanted in expected[1:]) + expected[0][1]
        # Four numbers of about 10, added in float32 in another order.
        np.testing.assert_allclose(grad_boxes, total, rtol=0, atol=1e-5)
    else:
        assert grad_boxes is None


def test_the_first_of_equal_maxima_takes_the_gradient():
    maps = [np.ones((1, 2, 4, 4), np.float32)] * 2
    boxes = np.array([[0, 0.0, 0, 3, 3]])
    arguments = {"spatial_scales": [1, 1], "reduce_levels": "max"}
    grad = np.ones((1, 2, 1, 1), np.float32)
    (first, second), _ = pyramid_pool_backward(roi_numba.roi_align, grad, maps, boxes, **arguments)
    assert first.sum() == pytest.approx(2)
    assert not second.any()


def test_gradients_to_boxes_by_image():
    boxes = [PLAIN.boxes[:2, 1:], PLAIN.boxes[2:, 1:]]
    grad = np.ones((6, 5, 2, 3), np.float32)
    both = [
        pyramid_pool_backward(
            roi_numba.roi_align, grad, PLAIN.inputs, given, spatial_scales=FPN,
            reduce_levels="sum", needs="boxes", **numbers,
        )[1]
        for given, numbers in (
            (boxes, {}), (PLAIN.boxes[:, 1:], {"batch_indices": np.array([0, 0, 1, 1, 1, 1])})
        )
    ]  # fmt: skip
    assert isinstance(both[0], list)
    np.testing.assert_array_equal(np.concatenate(both[0]), both[1])


def test_a_map_of_nan_takes_the_gradient_of_the_maximum():
    maps = [np.ones((1, 1, 4, 4)), np.full((1, 1, 4, 4), np.nan)]
    arguments = {"spatial_scales": np.array([1.0, 1]), "reduce_levels": "max", "argmax": None}
    (first, second), _ = pyramid_pool_backward(
        roi_numba.roi_pool, np.ones((1, 1, 1, 1)), maps, np.array([[0, 0.0, 0, 3, 3]]),
        **arguments, reduce="mean",
    )  # fmt: skip
    assert not first.any()
    assert second.sum() == pytest.approx(1)
