"""Results go where the caller says, and nowhere beside."""

import ml_dtypes
import numpy as np
import pytest

from arrays import (
    BOXES,
    EVERY_OPERATOR,
    GUARD,
    MATRIX,
    SHAPE,
    SIZE,
    Subclass,
    assert_same_bits,
    features,
    packed_field,
    results,
    unaligned,
)
from operators import ids


def plain_out(shape, dtype):
    return np.full(shape, GUARD, dtype), None


def strided_out(shape, dtype):
    whole = np.full([2 * n + 1 for n in shape], GUARD, dtype)
    return whole[tuple(slice(1, None, 2) for _ in shape)], whole


def reversed_out(shape, dtype):
    whole = np.full(shape, GUARD, dtype)
    return whole[::-1, ::-1, ::-1, ::-1], whole


def transposed_out(shape, dtype):
    whole = np.full(shape[::-1], GUARD, dtype)
    return whole.T, whole


def inner_out(shape, dtype):
    whole = np.full([n + 2 for n in shape], GUARD, dtype)
    return whole[1:-1, 1:-1, 1:-1, 1:-1], whole


def subclass_out(shape, dtype):
    return np.full(shape, GUARD, dtype).view(Subclass), None


def unaligned_out(shape, dtype):
    return unaligned(np.full(shape, GUARD, dtype)), None


def packed_out(shape, dtype):
    return packed_field(np.full(shape, GUARD, dtype)), None


OUTS = [
    plain_out,
    strided_out,
    reversed_out,
    transposed_out,
    inner_out,
    subclass_out,
    unaligned_out,
    packed_out,
]


@pytest.mark.parametrize("make", OUTS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_out(operator, reduction, channel_axis, make):
    """The very array given is filled and returned; the memory between its elements is left."""
    input = np.moveaxis(features(), 1, channel_axis)
    expected = results(operator, reduction, input, BOXES, SIZE, channel_axis=channel_axis)
    out, whole = make(expected[0].shape, np.float32)
    strides = out.strides
    found = results(operator, reduction, input, BOXES, SIZE, channel_axis=channel_axis, out=out)
    assert found[0] is out
    assert out.strides == strides
    assert_same_bits(np.asarray(out), expected[0])
    for actual, wanted in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(actual, wanted)
    if whole is not None:
        assert np.count_nonzero(whole != GUARD) == np.count_nonzero(expected[0] != GUARD)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=ids)
@EVERY_OPERATOR
def test_out_of_other_dtypes(operator, dtype):
    input = features(dtype)
    expected = operator.function(input, BOXES, SIZE)
    out, _ = strided_out(expected.shape, dtype)
    assert operator.function(input, BOXES, SIZE, out=out) is out
    assert_same_bits(np.asarray(out), expected)


@EVERY_OPERATOR
def test_big_endian_out_is_filled_or_refused(operator):
    expected = operator.function(features(), BOXES, SIZE)
    out = np.full(expected.shape, GUARD, ">f4")
    try:
        operator.function(features(), BOXES, SIZE, out=out)
    except TypeError:
        expected = np.full_like(expected, GUARD)
    np.testing.assert_array_equal(out, expected)


@EVERY_OPERATOR
def test_out_between_the_elements_of_input(operator):
    """Interleaved arrays share no memory."""
    memory = np.zeros((2, 2, *SHAPE[1:]), np.float32)
    input, out = memory[:, 0], memory[:, 1]
    input[...] = features()
    boxes = np.array([(0, 0, 0, 10, 8), (1, 2, 1, 6, 4)], np.float32)
    expected = operator.function(input.copy(), boxes, SHAPE[2:])
    assert operator.function(input, boxes, SHAPE[2:], out=out) is out
    np.testing.assert_array_equal(out, expected)
