"""Calls on arrays of CuPy's stand-in, which are to give what they give on NumPy's."""

import ml_dtypes
import numpy as np
import pytest

import device_stand_in
from arrays import BOXES, SHAPE, SIZE, bits
from device_stand_in import machine, ndarray, plain
from operators import ids
from strategies import values

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.uint8, np.int64, np.bool_]
FLOATS = pytest.mark.parametrize("dtype", DTYPES[:4], ids=ids)

PARTS = [BOXES[BOXES[:, 0] == i, 1:].copy() for i in range(2)]
RESULT = (4, 19, *SIZE)


@pytest.fixture(autouse=True)
def called():
    """What the engine's stand-in was called for; a module of tests has it by naming it."""
    with device_stand_in.installed() as (_, asked), machine.unchanged():
        yield asked


def there(array, device=0):
    """A copy of NumPy's array on a device, in its layout; lists of them too."""
    if isinstance(array, list):
        return [there(part, device) for part in array]
    if 0 in array.strides:
        return ndarray.over(array, device)
    copy = np.empty_like(array)  # keeps the order of the axes
    copy[...] = array
    return ndarray.over(copy, device)


def assert_same(actual, expected, device=0):
    """CuPy's array on the device, with the bits of NumPy's."""
    assert type(actual) is ndarray
    assert actual._device == device
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(bits(plain(actual)), bits(expected))


def assert_all_same(actual, expected, device=0):
    for one, other in zip(actual, expected, strict=True):
        assert_same(one, other, device)


def gradient(dtype=np.float32, boxes=4):
    dtype = dtype if np.dtype(dtype).kind in "fV" else np.float32
    return values(3, (boxes, SHAPE[1], *SIZE), dtype)
