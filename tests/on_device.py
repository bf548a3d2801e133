"""Operators whose calls go to a GPU, for tests that are written for NumPy's arrays."""

import ctypes
import warnings

import numpy as np
import pytest

from arrays import bits
from operators import OPERATORS, REDUCTIONS, ids

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of CuPy, about how it is installed
    cupy = pytest.importorskip(
        "cupy", reason="CuPy is not installed: extra cuda12 or cuda13", exc_type=ImportError
    )
pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: extra cuda12 or cuda13")
if not cupy.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)


def on_device(value):
    """NumPy's arrays on the current device, in the layout they have; anything else as it is."""
    if isinstance(value, list):
        return [on_device(part) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind == "V":  # bfloat16
        return on_device(value.view(np.uint16)).view(value.dtype)
    if not value.size:
        return cupy.empty(value.shape, value.dtype)
    reach = [stride * (n - 1) for n, stride in zip(value.shape, value.strides, strict=True)]
    before = -sum(min(each, 0) for each in reach)
    length = before + sum(max(each, 0) for each in reach) + value.itemsize
    memory = (ctypes.c_char * length).from_address(value.ctypes.data - before)
    there = cupy.asarray(np.frombuffer(memory, np.uint8))
    return cupy.ndarray(value.shape, value.dtype, there.data + before, value.strides)


def fetched(result):
    """CuPy's arrays as NumPy's; anything else as it is."""
    if isinstance(result, (tuple, list)):
        return type(result)(fetched(part) for part in result)
    if not isinstance(result, cupy.ndarray):
        return result
    if result.dtype.kind == "V":
        return result.view(np.uint16).get().view(result.dtype)
    return result.get()


def assert_same_bits(actual, expected):
    """Each array of one sequence is as that of the other, wherever they are."""
    for one, other in zip(actual, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(bits(fetched(one)), bits(fetched(other)))


def all_on_device(*arrays):
    return [on_device(array) for array in arrays]


class OnDevice:
    """An operator of the table that takes and gives NumPy's arrays, and computes on the GPU."""

    def __init__(self, operator):
        self.of = operator

    def __getattr__(self, name):
        return getattr(self.of, name)

    def function(self, *arguments, **options):
        return self._called(self.of.function, arguments, options)

    def backward(self, *arguments, **options):
        return self._called(self.of.backward, arguments, options)

    def _called(self, function, arguments, options):
        options = {name: on_device(value) for name, value in options.items()}
        return fetched(function(*map(on_device, arguments), **options))


EVERY_OPERATOR = pytest.mark.parametrize("operator", map(OnDevice, OPERATORS), ids=ids)
ROWS = [(OnDevice(operator), reduction) for operator, reduction in REDUCTIONS]
MATRIX = pytest.mark.parametrize(("operator", "reduction"), ROWS, ids=ids)
MAXIMA = pytest.mark.parametrize(
    ("operator", "reduction"), [row for row in ROWS if row[1] != "mean"], ids=ids
)
MEANS = pytest.mark.parametrize(
    ("operator", "reduction"), [row for row in ROWS if row[1] == "mean"], ids=ids
)
