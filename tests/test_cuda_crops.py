"""crop_and_resize on a device's arrays, without a GPU."""

import numpy as np
import pytest

import device_stand_in
from device_stand_in import machine, ndarray, plain
from roi_numba import crop_and_resize, crop_and_resize_backward
from strategies import values
from subprocesses import run
from test_cuda_simulated import SIMULATOR

BOXES = np.array([(0.1, 0.2, 0.9, 0.7), (1.3, 0, 0.2, 1)], np.float32)
INDICES = np.array([1, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_arrays_of_a_device(dtype):
    """They are worked on where they are, and nobody waits."""
    image, grad = values(1, (2, 6, 7, 3), dtype), values(2, (2, 4, 3, 3), np.float32)
    options = {"box_indices": INDICES, "extrapolation_value": 3.5}
    expected = crop_and_resize(image, BOXES, (4, 3), **options)
    gradients = crop_and_resize_backward(grad, image, BOXES, box_indices=INDICES)
    with device_stand_in.installed() as (_, called):
        there = [ndarray.over(array) for array in (image, BOXES, INDICES, grad)]
        found = crop_and_resize(*there[:2], (4, 3), box_indices=there[2], extrapolation_value=3.5)
        assert type(found) is ndarray
        np.testing.assert_array_equal(plain(found), expected)
        found = crop_and_resize_backward(there[3], *there[:2], box_indices=there[2])
        for actual, wanted in zip(found, gradients, strict=True):
            np.testing.assert_array_equal(plain(actual), wanted)
        assert called.names == ["sample", "to_map_of_mean", "to_boxes_of_mean"]
        assert machine.waits == 0
        with pytest.raises(IndexError, match=r"box_indices must be in \[0, 2\), got 2 for box 0"):
            crop_and_resize(
                *there[:2], (4, 3), box_indices=ndarray.over(INDICES + 1), check_boxes=True
            )


def test_with_simulated_kernels():
    """The whole way, from the public function to the kernels and back."""
    run("import simulated_crops; simulated_crops.calls()", timeout=600, **SIMULATOR)
