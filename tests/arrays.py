"""What the tests of arrays share: one call, arrays laid out oddly, and what "the same" means."""

import numpy as np
import pytest

from operators import OPERATORS, REDUCTIONS, ids
from strategies import values

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=ids)

SHAPE = (2, 19, 9, 11)
SIZE = (3, 2)
GUARD = 77.0  # what lies in an output before it is filled
ROWS = [
    (0, 1.3, 0.7, 8.2, 6.9),
    (1, -2.5, 3.1, 4.4, 12.0),
    (0, 5.0, 5.0, 5.2, 5.1),
    (1, 0.0, 0.0, 10.0, 8.0),
]
BOXES = np.array(ROWS, np.float32)


def features(dtype=np.float32, shape=SHAPE):
    return values(7, shape, dtype)


def bits(array):
    """The bits of an array, in C order: what "the same result" means here."""
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.itemsize}")


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(bits(actual), bits(expected))


def results(operator, reduction, *arguments, **options):
    """The output and, for a maximum, its argmax."""
    options = operator.reductions[reduction] | options
    if reduction == "mean":
        return (operator.function(*arguments, **options),)
    return operator.function(*arguments, return_argmax=True, **options)


class Subclass(np.ndarray):
    """A subclass that would notice if its own arithmetic were used."""

    def __array_finalize__(self, parent):
        self.note = "mine"

    def __getitem__(self, key):
        raise AssertionError("the library reads memory, not items")


def big_endian(array):
    return array.astype(array.dtype.newbyteorder(">"))


def packed_field(array):
    """A field of records of an odd size: neither aligned nor at whole strides."""
    records = np.zeros(array.shape, [("tag", np.uint8), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


def unaligned(array):
    """Whole strides from an odd address."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    moved = memory.view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved
