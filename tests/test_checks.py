"""Checks of arguments, one by one: what the tests of whole calls leave open."""

import re

import ml_dtypes
import numpy as np
import pytest

from roi_numba import _checks
from roi_numba._arrays import BFLOAT16
from roi_numba._memory import HOST

BOXES = np.array([(0, 1, 2, 3, 4), (1, 5, 6, 7, 8), (0, 2, 2, 9, 9)], np.float32)
FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int64, np.uint64]


def refused(error, message, check, *arguments):
    with pytest.raises(error, match=f"^{re.escape(message)}$") as caught:
        check(*arguments)
    assert type(caught.value) is error


# ---- numbers -------------------------------------------------------------------------------


def test_integers():
    assert _checks.int_pair("n", 100, 1) == (100, 100)
    assert _checks.int_pair("n", (100, 1), 1) == (100, 1)
    assert _checks.int_pair("n", [np.uint8(3), -200]) == (3, -200)
    wanted = "an int or (height, width)"
    for bad in ((2.0, 7), (7, 2.0), (np.True_, 1)):
        refused(TypeError, f"n must be {wanted}, got {bad!r}", _checks.int_pair, "n", bad)
    for bad in ((2**31, 1), (1, -(2**31))):
        refused(ValueError, f"n must be below 2**31, got {bad!r}", _checks.int_pair, "n", bad)
    refused(TypeError, f"n must be an integer, got {np.True_!r}", _checks.whole, "n", np.True_, 0)


@pytest.mark.parametrize("value", [True, False])
def test_flags_of_numpy(value):
    assert _checks.flag("n", np.bool_(value)) is value


def test_numbers():
    for bad in (b"0.5", np.array([0.5])):
        name = type(bad).__name__
        refused(TypeError, f"n must be a number, got {name}", _checks.number, "n", bad, "finite")


def test_scales():
    pairs = [(0.5, 0.25), (1.0, 1.0)]
    for form in ([(0.5, 0.25), 1], ([0.5, 0.25], 1), np.array(pairs)):
        assert _checks.scale_pairs("n", form, 2) == pairs
    for bad, which, got in (((0.5, -1), 1, -1), ((0, 1), 1, 0), (-2, 1, -2)):
        message = f"n[{which}] must be finite and positive, got {got}"
        refused(ValueError, message, _checks.scale_pairs, "n", [1, bad], 2)


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("boxes", (False, True)),
        (["input"], (True, False)),
        ({"boxes"}, (False, True)),
        (frozenset({"input", "boxes"}), (True, True)),
        ((), (False, False)),
    ],
)
def test_needs(form, wanted):
    assert _checks.needed(form) == wanted


def test_needs_that_equal_a_word():
    """An array that does is none."""
    bad = (np.array(["input"]),)
    message = f'needs must name "input" or "boxes" or both, got {bad!r}'
    refused(ValueError, message, _checks.needed, bad)


# ---- arrays --------------------------------------------------------------------------------


def held(array):
    """An array as the library holds it: NumPy has no bfloat16 of its own."""
    if array.dtype == ml_dtypes.bfloat16:
        return array.view(np.uint16).view(BFLOAT16)
    return array


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.bool_])
def test_dtypes_of_maps(dtype):
    _checks.feature_map("input", held(np.empty((1, 2, 3, 4), dtype)), 1)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_dtypes_of_boxes(dtype):
    given = held(BOXES.astype(dtype))
    found = _checks.geometry("boxes", given)
    single = dtype in FLOATS and dtype is not np.float64
    assert found.dtype == (np.float32 if single else np.float64)
    np.testing.assert_array_equal(found, BOXES)
    assert (found is given) == (dtype in (np.float32, np.float64))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_dtypes_of_batch_indices(dtype):
    if dtype is ml_dtypes.bfloat16:
        message = "batch_indices must be integers, got dtype bfloat16"
        refused(TypeError, message, _checks.box_rows, BOXES[:, 1:], np.zeros(3, dtype))
    else:
        _checks.box_rows(BOXES[:, 1:], np.zeros(3, dtype))


def test_records_are_no_boxes():
    records = np.zeros((3, 4), [("a", "u2")])
    message = f"boxes must be of a float or integer dtype, got {records.dtype}"
    refused(TypeError, message, _checks.geometry, "boxes", records)


def test_bins_of_one():
    _checks.pooled("grad_output", np.empty((3, 2, 1, 1)), (3, 2, "height", "width"))


def test_what_is_hard_to_tell_apart_shares_memory():
    """To tell takes NumPy minutes; addresses alone say that the arrays may."""
    memory = np.zeros(192163377, np.int8)
    view = np.lib.stride_tricks.as_strided
    one = view(memory, (1049, 1049, 1049), (36674, 61119, 85569))
    other = view(memory[64023025:], (1049, 1049, 1), (12223, 12224, 1))
    refused(ValueError, "out must not share memory with input",
            _checks.apart, "out", one, "input", other)  # fmt: skip


# ---- boxes ---------------------------------------------------------------------------------


def test_rows_of_one_image_have_four_numbers():
    _checks.box_corners("boxes", BOXES, False)
    _checks.box_corners("boxes[0]", BOXES[:, 1:], True)
    message = "boxes[0] must have shape (L, 4), got (3, 5)"
    refused(ValueError, message, _checks.box_corners, "boxes[0]", BOXES, True)


def test_four_numbers_and_no_image():
    message = (
        "boxes must have shape (K, 5), or (K, 4) with batch_indices, or be a list of arrays "
        "(L, 4), one per image, got (3, 4) without batch_indices"
    )
    refused(ValueError, message, _checks.box_rows, BOXES[:, 1:], None)


def test_fewer_indices_than_crops():
    message = "box_indices must have shape (3,), got (2,)"
    refused(ValueError, message, _checks.crop_boxes, BOXES[:, 1:], np.zeros(2, int))


def test_forms_of_boxes():
    """The same corners and numbers, and what messages call these."""
    numbers, corners = BOXES[:, 0].astype(int), BOXES[:, 1:]
    whole = _checks.regions(BOXES, None, 2, HOST, "indices")
    apart = _checks.regions(corners, numbers, 2, HOST, "indices")
    parts = _checks.regions([corners[:2], corners[2:]], None, 2, HOST, "indices")
    for found, images, name in (
        (whole, numbers, "batch index in boxes"),
        (apart, numbers, "indices"),
        (parts, [0, 0, 1], "batch index in boxes"),
    ):
        np.testing.assert_array_equal(found[0], corners)
        np.testing.assert_array_equal(found[1], images)
        assert found[2] == name
    none, numbers, _ = _checks.regions(BOXES[:0], None, 0, HOST, "indices")
    assert (none.shape, numbers.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(4))
def test_coordinates_that_are_none(column, bad):
    """One is enough; the first box that has one is named."""
    corners, numbers = BOXES[:, 1:].copy(), np.array([0, 1, 0])
    corners[1:, column] = bad
    found = _checks.box_values(corners, numbers, "indices", 2, False)
    assert (found.tolist(), found.dtype) == ([0, -1, -1], np.int64)
    message = f"boxes must be finite, got {corners[1].tolist()} for box 1"
    refused(ValueError, message, _checks.box_values, corners, numbers, "indices", 2, True)


def test_images_that_are_none():
    corners = BOXES[:, 1:]
    for numbers, images, wanted, error, words in (
        ([0, 1, 1], 2, [0, 1, 1], None, None),
        ([0, 2, -1], 2, [0, -1, -1], IndexError, "in [0, 2), got 2 for box 1"),
        ([0.0, 1, 0.5], 2, [0, 1, -1], ValueError, "whole numbers, got 0.5 for box 2"),
        ([0.0, np.nan, 1], 2, [0, -1, 1], ValueError, "whole numbers, got nan for box 1"),
        ([0.0, 1e30, 1], 2, [0, -1, 1], IndexError, f"in [0, 2), got {int(1e30)} for box 1"),
        ([0, 0, 0], 0, [-1, -1, -1], IndexError, "in [0, 0), got 0 for box 0"),
    ):
        given = corners, np.array(numbers), "indices", images
        assert _checks.box_values(*given, False).tolist() == wanted
        if error is None:
            assert _checks.box_values(*given, True).tolist() == wanted
        else:
            refused(error, f"indices must be {words}", _checks.box_values, *given, True)


def test_levels_that_are_none():
    _checks.level_values("levels", np.array([0, 1, 3]), 4)
    for levels, k in (([0, 4, -1], 1), ([0, 1, -1], 2)):
        message = f"levels must be in [0, 4), got {levels[k]} for box {k}"
        refused(IndexError, message, _checks.level_values, "levels", np.array(levels), 4)
