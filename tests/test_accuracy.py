"""Errors over the domain that `benchmarks.domain` states, beside the scalar reference in float64.

`benchmarks.accuracy` measures the same, beside the peers, for docs/inside/accuracy.md.
"""

import ml_dtypes
import numpy as np
import pytest

from benchmarks import accuracy, domain

CALLS = pytest.mark.parametrize("key", domain.CALLS)
MOST = {
    np.float32: accuracy.Ours(forward=4, to_input=40, to_boxes=4),
    np.float64: accuracy.Ours(forward=6, to_input=12, to_boxes=60),
}
"""Units in the last place; docs/inside/accuracy.md has what was measured. A gradient to the map has
more where all that a pixel gets is a small difference of positions (prroi_pool: 22, others 4); the
reference of float64 rounds in float64 as well."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@CALLS
def test_errors(key, dtype):
    """Of the result, in units of the largest feature that a bin weighs; of the gradients."""
    if key == "crop_and_resize" and dtype == np.float64:
        pytest.skip("crops are float32 whatever the dtype of the images: their boxes decide")
    errors = accuracy.ours(domain.CALLS[key], dtype, seed=0)
    for part, found, most in zip(errors._fields, errors, MOST[dtype], strict=True):
        assert found.max() <= most, (part, found.max())


def rounded(array, dtype):
    return array.astype(dtype).view(np.uint16)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name)
@CALLS
def test_16_bits_are_float32_rounded_once(key, dtype):
    """The same bits as from maps and gradients widened to float32, rounded to nearest even."""
    call = domain.CALLS[key]
    workload = domain.draw(call, seed=0)
    for drawn, normal in zip(workload.levels, accuracy.gradients_of(workload, call), strict=True):
        level = drawn._replace(features=drawn.features.astype(dtype))
        wide = level._replace(features=level.features.astype(np.float32))
        winners = accuracy.named(wide, call)
        found, expected = accuracy.pooled(level, call), accuracy.pooled(wide, call)
        grad = normal.astype(dtype)
        if key == "crop_and_resize":  # results are float32
            np.testing.assert_array_equal(found, expected)
            grad = grad.astype(np.float32)
        else:
            np.testing.assert_array_equal(found.view(np.uint16), rounded(expected, dtype))
        to_input, to_boxes = accuracy.gradients(grad, level, call, winners)
        wide_input, wide_boxes = accuracy.gradients(grad.astype(np.float32), wide, call, winners)
        if to_input.dtype == dtype:
            np.testing.assert_array_equal(to_input.view(np.uint16), rounded(wide_input, dtype))
        else:
            np.testing.assert_array_equal(to_input, wide_input)
        np.testing.assert_array_equal(to_boxes, wide_boxes)


def test_units():
    """Of a value between powers of two; the reference's value moved by one unit is one away."""
    values = np.array([1.0, 1.5, 2.0, 3.9, 2**-20])
    expected = np.spacing(values.astype(np.float32)).astype(np.float64)
    np.testing.assert_array_equal(accuracy.unit(values, np.float32), expected)
    np.testing.assert_array_equal(accuracy.unit(values, np.float64), np.spacing(values))
    found = np.nextafter(np.float32(1.5), np.float32(2))[None]
    assert accuracy.in_units(found, np.array([1.5]), np.array([1.5])) == 1


def test_largest_weighed():
    """Beside the weights themselves: no pixel that a bin reads is larger, and one is as large."""
    call = domain.CALLS["roi_align"]
    level = domain.draw(call, seed=0).levels[2]
    largest = accuracy.largest_weighed(level, call)
    constant = level._replace(features=np.full_like(level.features, -3))
    weighed = accuracy.largest_weighed(constant, call)
    assert set(np.unique(weighed)) == {0, 3}  # some bins are off the map
    np.testing.assert_array_equal(weighed == 0, accuracy.pooled(constant, call) == 0)
    assert (np.abs(accuracy.pooled(level, call)) <= largest * (1 + 1e-6)).all()
    assert largest.max() <= np.abs(level.features).max()
