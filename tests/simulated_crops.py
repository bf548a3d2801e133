"""Crops on a device's arrays down to the kernels; see `simulated_calls`."""

import itertools

import ml_dtypes
import numpy as np

import reference_crops
import roi_numba
from device_stand_in import machine, ndarray, plain, zeros
from simulated_calls import DTYPES, there
from strategies import values

# isort: split
from roi_numba._cuda import crop  # now that CuPy is there

crop.empty, crop.zeros = ndarray, zeros

ROWS = [
    (0.1, 0.2, 0.9, 0.7),
    (0.8, -0.1, 0.3, 1.2),
    (0.0, 0.0, 1.0, 1.0),
    (np.nan, 0.0, 1.0, 1.0),
    (0.0, 0.0, 1.0, 1.0),
]
INDICES = np.array([0, 1, 0, 1, 7])


def calls():
    """Both methods, edges and places of the channels, forward and backward."""
    choices = itertools.product(("bilinear", "nearest"), ("exact", "tensorflow"), (-1, 1))
    dtypes, geometries = itertools.cycle(DTYPES), itertools.cycle([np.float32, np.float64])
    for (method, edges, axis), dtype in zip(choices, dtypes, strict=False):
        image, boxes = values(1, (2, 4, 5, 3), dtype), np.array(ROWS, next(geometries))
        options = {"method": method, "edges": edges}
        call = image, boxes, (3, 2)
        turned = there(image if axis == -1 else np.moveaxis(image, -1, 1))
        given = options | {"box_indices": there(INDICES), "channel_axis": axis}
        options["box_indices"] = INDICES
        for value in (0.0, -7.0):
            expected = reference_crops.crop_and_resize(*call, extrapolation_value=value, **options)
            found = roi_numba.crop_and_resize(
                turned, there(boxes), (3, 2), extrapolation_value=value, **given
            )
            assert (type(found), found.dtype) == (ndarray, np.float32)
            near(found, expected, axis, 2e-6)
        grad = values(2, expected.shape, np.float32)
        on_image, on_boxes = roi_numba.crop_and_resize_backward(
            there(grad if axis == -1 else np.moveaxis(grad, -1, 1)), turned, there(boxes), **given
        )
        expected, boxes_expected = reference_crops.crop_and_resize_backward(
            grad, image, boxes, **options
        )
        assert on_image.dtype == (np.float32 if np.dtype(dtype).kind in "iu" else dtype)
        assert on_boxes.dtype == boxes.dtype
        eps = float(ml_dtypes.finfo(on_image.dtype).eps)
        near(on_image, expected, axis, max(4 * eps, 5e-6))
        near(on_boxes, boxes_expected, -1, 5e-6)
    assert (machine.waits, machine.device) == (0, 0)


def near(found, expected, axis, tolerance):
    found = plain(found).astype(np.float64)
    if axis == 1:
        found = np.moveaxis(found, 1, -1)
    limit = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
