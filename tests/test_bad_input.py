"""Wrong arguments are refused in one sentence, and nothing is written.

What every binding has to do, `bad_input` has: here is what else may be wrong with NumPy's calls.
"""

import re

import ml_dtypes
import numpy as np
import pytest

from operators import ids
from small_call import (
    BY_NAME,
    EVERY_OPERATOR,
    GUARD,
    MAXIMUM,
    RESULT,
    SHAPE,
    SIZE,
    features,
    read_only,
    rows,
    with_row,
)

INT = r"an int or \(height, width\)"

# argument, value, exception, pattern of the message: what came is at its end
REFUSED = [
    ("input", [[[[1.0]]]], TypeError, r"input must be an array, got list"),
    ("input", None, TypeError, r"input must be an array, got NoneType"),
    ("input", 3.0, TypeError, r"input must be an array, got float"),
    ("input", np.ndarray, TypeError, r"input must be an array, got type"),
    ("input", features()[0], ValueError, r"input .*\(N, C, H, W\), got \(3, 8, 9\)"),
    ("input", features()[None], ValueError, r"input .*\(N, C, H, W\), got \(1, 2, 3, 8, 9\)"),
    ("input", np.float32(1), (TypeError, ValueError), r"input must .*, got .*"),
    ("input", features().astype(np.complex64), TypeError, r"input .*dtype.*, got complex64"),
    ("input", features().astype(object), TypeError, r"input .*dtype.*, got object"),
    ("input", features().astype(str), TypeError, r"input .*dtype.*, got <U32"),
    ("input", features().astype(np.longdouble), TypeError, r"input .*dtype.*, got \w+"),
    ("input", np.zeros(SHAPE, "M8[s]"), TypeError, r"input .*dtype.*, got datetime64\[s\]"),
    ("input", np.zeros(SHAPE, [("a", "f4")]), TypeError, r"input .*dtype.*, got .*'a'.*"),
    (
        "input",
        np.zeros(SHAPE, ml_dtypes.float8_e5m2),
        TypeError,
        r"input .*dtype.*, got float8_e5m2",
    ),
    ("input", features()[:0], ValueError, r"input .*image.* 3 boxes, got none"),
    ("boxes", None, TypeError, r"boxes must be an array, got NoneType"),
    ("boxes", 5, TypeError, r"boxes must be an array, got int"),
    ("boxes", np.float32(5), (TypeError, ValueError), r"boxes must .*, got .*"),
    ("boxes", rows()[0], ValueError, r"boxes .*\(K, 5\).*\(K, 4\).*, got \(5,\).*"),
    ("boxes", rows()[:, :3], ValueError, r"boxes .*\(K, 5\).*\(K, 4\).*, got \(3, 3\).*"),
    ("boxes", rows()[:, 1:], ValueError, r"boxes .*\(K, 4\) with batch_indices.*, got \(3, 4\).*"),
    ("boxes", rows()[None], ValueError, r"boxes .*\(K, 5\).*, got \(1, 3, 5\).*"),
    ("boxes", rows()[:0, 0], ValueError, r"boxes .*\(K, 5\).*, got \(0,\).*"),
    ("boxes", rows() > 0, TypeError, r"boxes .*dtype.*, got bool"),
    ("boxes", rows(np.complex64), TypeError, r"boxes .*dtype.*, got complex64"),
    ("boxes", rows().astype(object), TypeError, r"boxes .*dtype.*, got object"),
    ("boxes", rows().astype(str), TypeError, r"boxes .*dtype.*, got <U32"),
    ("boxes", rows(np.longdouble), TypeError, r"boxes .*dtype.*, got \w+"),
    ("boxes", [], ValueError, r"boxes must be a list of 2 arrays.*, got 0"),
    ("boxes", [rows()[:, 1:]], ValueError, r"boxes must be a list of 2 arrays.*, got 1"),
    ("boxes", [rows()[:, 1:]] * 3, ValueError, r"boxes must be a list of 2 arrays.*, got 3"),
    (
        "boxes",
        [rows()[:, 1:], rows()],
        ValueError,
        r"boxes\[1\] must have shape \(L, 4\), got \(3, 5\)",
    ),
    ("boxes", [rows()[0, 1:]] * 2, ValueError, r"boxes\[0\] .*\(L, 4\), got \(4,\)"),
    ("boxes", [rows()[:, 1:], None], TypeError, r"boxes(\[1\])? must be an array, got NoneType"),
    ("boxes", [[1, 1, 4, 4], [1, 1, 4, 4]], ValueError, r"boxes\[0\] .*\(L, 4\), got \(4,\)"),
    ("boxes", [[[1, 1, 4]], [[1, 1, 4, 4]]], ValueError, r"boxes\[0\] .*\(L, 4\), got \(1, 3\)"),
    ("boxes", [[[1, 1], [1, 1, 4, 4]], []], ValueError, r"boxes(\[0\])? must .*, got .*"),
    ("boxes", [[["a", 1, 1, 1]], []], TypeError, r"boxes\[0\] .*dtype.*, got <U\d+"),
    ("boxes", [[[None, 1, 1, 1]], []], TypeError, r"boxes\[0\] .*dtype.*, got object"),
    ("boxes", with_row(1e30, 1, 1, 4, 4), IndexError, r"batch .*\[0, 2\), got 1\d{30} for box 2"),
    (
        "boxes",
        with_row(np.inf, 1, 1, 4, 4),
        (ValueError, IndexError),
        r"batch .*, got inf for box 2",
    ),
    (
        "boxes",
        with_row(-np.inf, 1, 1, 4, 4),
        (ValueError, IndexError),
        r"batch .*, got -inf for box 2",
    ),
    ("batch_indices", np.zeros(3, int), ValueError, r"boxes .*, got \(3, 5\) with batch_indices"),
    ("output_size", 0, ValueError, rf"output_size must be {INT} of at least 1, got 0"),
    ("output_size", -1, ValueError, rf"output_size must be {INT} of at least 1, got -1"),
    ("output_size", (2, 0), ValueError, rf"output_size must be {INT} .*, got \(2, 0\)"),
    ("output_size", (7,), ValueError, rf"output_size must be {INT} .*, got \(7,\)"),
    ("output_size", (1, 2, 3), ValueError, rf"output_size must be {INT} .*, got \(1, 2, 3\)"),
    ("output_size", (), ValueError, rf"output_size must be {INT} .*, got \(\)"),
    ("output_size", 7.0, TypeError, rf"output_size must be {INT} .*, got 7\.0"),
    ("output_size", (7, 2.0), TypeError, rf"output_size must be {INT} .*, got \(7, 2\.0\)"),
    ("output_size", "7", TypeError, rf"output_size must be {INT} .*, got '7'"),
    ("output_size", True, TypeError, rf"output_size must be {INT} .*, got True"),
    ("output_size", None, TypeError, rf"output_size must be {INT} .*, got None"),
    ("output_size", np.ones((2, 2), int), TypeError, r"(?s)output_size must be .*, got .*"),
    ("output_size", 2**31, ValueError, r"output_size must be below 2\*\*31, got 2147483648"),
    ("output_size", 10**30, ValueError, r"output_size must be below 2\*\*31, got 10+"),
    ("spatial_scale", 0, ValueError, r"spatial_scale .*positive, got 0"),
    ("spatial_scale", -0.5, ValueError, r"spatial_scale .*positive, got -0\.5"),
    ("spatial_scale", np.nan, ValueError, r"spatial_scale .*finite.*, got nan"),
    ("spatial_scale", np.inf, ValueError, r"spatial_scale .*finite.*, got inf"),
    ("spatial_scale", 10**400, ValueError, r"spatial_scale .*finite.*, got .*"),
    ("spatial_scale", None, TypeError, r"spatial_scale must be a number, got NoneType"),
    ("spatial_scale", "0.5", TypeError, r"spatial_scale must be a number, got str"),
    ("spatial_scale", 1j, TypeError, r"spatial_scale must be a number, got complex"),
    ("spatial_scale", (1.0, 0.5), TypeError, r"spatial_scale must be a number, got tuple"),
    ("spatial_scale", np.ones(1), TypeError, r"spatial_scale must be a number, got ndarray"),
    ("channel_axis", 0, ValueError, r"channel_axis must be 1 or -1, got 0"),
    ("channel_axis", 3, ValueError, r"channel_axis must be 1 or -1, got 3"),
    ("channel_axis", 1.0, TypeError, r"channel_axis must be 1 or -1, got 1\.0"),
    ("channel_axis", True, TypeError, r"channel_axis must be 1 or -1, got True"),
    ("channel_axis", "last", TypeError, r"channel_axis must be 1 or -1, got 'last'"),
    ("channel_axis", None, TypeError, r"channel_axis must be 1 or -1, got None"),
    ("check_boxes", 1, TypeError, r"check_boxes must be True or False, got 1"),
    ("check_boxes", "no", TypeError, r"check_boxes must be True or False, got 'no'"),
    ("out", [0.0], TypeError, r"out must be an array, got list"),
    ("out", np.zeros((3, 3, 2, 2), np.float32), ValueError, r"out .*\(3, 3, 2, 3\), got \(3, 3.*"),
    ("out", np.zeros(RESULT[1:], np.float32), ValueError, r"out .*\(3, 3, 2, 3\), got \(3, 2, 3\)"),
    ("out", np.zeros(RESULT), TypeError, r"out .*dtype float32, got float64"),
    ("out", np.zeros(RESULT, np.int32), TypeError, r"out .*dtype float32, got int32"),
    ("out", read_only(), ValueError, r"out must be writeable, got a read-only array"),
]

# what only some operators have
REFUSED_OPTIONS = [
    ("roi_pool", "reduce", "sum", ValueError, r'reduce .*"max".*"mean".*, got \'sum\''),
    ("roi_pool", "reduce", "max_corner", ValueError, r"reduce .*, got 'max_corner'"),
    ("roi_pool", "reduce", None, TypeError, r"reduce must be a string, got NoneType"),
    ("roi_pool", "rounding", "nearest", ValueError, r"rounding .*, got 'nearest'"),
    ("roi_pool", "rounding", True, TypeError, r"rounding must be a string, got bool"),
    ("roi_pool", "bins", "Exact", ValueError, r'bins .*"exact".*, got \'Exact\''),
    ("roi_pool", "bins", 0, TypeError, r"bins must be a string, got int"),
    ("roi_pool", "return_argmax", 1, TypeError, r"return_argmax must be True or False, got 1"),
    ("roi_align", "reduce", "", ValueError, r"reduce .*, got ''"),
    ("roi_align", "reduce", ["mean"], TypeError, r"reduce must be a string, got list"),
    ("roi_align", "sampling_ratio", 1.5, TypeError, rf"sampling_ratio must be {INT}, got 1\.5"),
    ("roi_align", "sampling_ratio", None, TypeError, rf"sampling_ratio must be {INT}, got None"),
    ("roi_align", "sampling_ratio", (2,), ValueError, rf"sampling_ratio must be {INT}, got \(2,\)"),
    ("roi_align", "sampling_ratio", 2**40, ValueError, r"sampling_ratio must be below .*, got 1.*"),
    ("roi_align", "aligned", 1, TypeError, r"aligned must be True or False, got 1"),
    ("roi_align", "aligned", "yes", TypeError, r"aligned must be True or False, got 'yes'"),
    ("roi_align", "return_argmax", None, TypeError, r"return_argmax must be True or False.*None"),
    (
        "roi_align",
        "return_argmax",
        True,
        ValueError,
        r'return_argmax must be False with reduce="mean", got True',
    ),
    ("roi_warp", "reduce", "max_corner", ValueError, r"reduce .*, got 'max_corner'"),
    ("roi_warp", "sampling_ratio", 0, ValueError, r"sampling_ratio .*at least 1, got 0"),
    ("roi_warp", "sampling_ratio", (2, -1), ValueError, r"sampling_ratio .*, got \(2, -1\)"),
    ("roi_warp", "sampling_ratio", 2.0, TypeError, r"sampling_ratio .*, got 2\.0"),
    ("roi_warp", "quantize", 0, TypeError, r"quantize must be True or False, got 0"),
    ("crop_pool", "border", "clamp", ValueError, r"border must be one of .*, got 'clamp'"),
    ("crop_pool", "border", None, TypeError, r"border must be a string, got NoneType"),
    ("prroi_pool", "aligned", None, TypeError, r"aligned must be True or False, got None"),
]

# boxes of shape (3, 4), and these batch_indices
REFUSED_INDICES = [
    ([0, 1, 1], TypeError, r"batch_indices must be an array, got list"),
    (1, TypeError, r"batch_indices must be an array, got int"),
    (np.zeros((3, 1), int), ValueError, r"batch_indices .*\(3,\), got \(3, 1\)"),
    (np.zeros(2, int), ValueError, r"batch_indices .*\(3,\), got \(2,\)"),
    (np.zeros(3, bool), TypeError, r"batch_indices .*integers, got .*bool"),
    (np.zeros(3, complex), TypeError, r"batch_indices .*integers, got .*complex128"),
    (np.zeros(3, np.longdouble), TypeError, r"batch_indices .*integers, got .*float\d+"),
    (np.zeros(3, ml_dtypes.float8_e5m2), TypeError, r"batch_indices .*integers, got .*float8_e5m2"),
    (np.array(["0", "1", "1"]), TypeError, r"batch_indices .*integers, got .*<U1"),
    (np.array([0, 1, 2]), IndexError, r"batch_indices .*\[0, 2\), got 2 for box 2"),
    (np.array([0, -1, 1]), IndexError, r"batch_indices .*\[0, 2\), got -1 for box 1"),
    (np.array([2**64 - 1, 0, 0], "u8"), IndexError, r"batch.*, got 18446744073709551615 .*"),
    (np.array([0, -(2**63), 0]), IndexError, r"batch_indices .*, got -9223372036854775808 .*"),
    (np.array([0, 0.5, 1]), ValueError, r"batch_indices .*whole.*, got 0\.5 for box 1"),
    (np.array([0, np.nan, 1]), ValueError, r"batch_indices .*, got nan for box 1"),
    (np.array([0, np.inf, 1]), (ValueError, IndexError), r"batch_indices .*, got inf for box 1"),
]


def call_with(argument, value):
    """A good call but for one argument, with an `out` of the right shape."""
    call = {
        "input": features(),
        "boxes": rows(),
        "output_size": SIZE,
        "out": np.full(RESULT, GUARD, np.float32),
    }
    return call | {argument: value}


def assert_refused(function, call, exceptions, pattern):
    """One sentence, and nothing has been written."""
    checked = [part for part in call.values() if isinstance(part, np.ndarray)]
    before = [part.tobytes() for part in checked if part.dtype != object]
    with pytest.raises(exceptions) as caught:
        function(**call)
    message = str(caught.value)
    assert re.fullmatch(pattern, message), message
    assert not message.endswith(".")
    assert [part.tobytes() for part in checked if part.dtype != object] == before


def name_of(value):
    return value if isinstance(value, str) and value.isidentifier() else ""


@pytest.mark.parametrize(("argument", "value", "exceptions", "pattern"), REFUSED, ids=name_of)
@EVERY_OPERATOR
def test_refused(operator, argument, value, exceptions, pattern):
    assert_refused(operator.function, call_with(argument, value), exceptions, pattern)


@pytest.mark.parametrize(
    ("name", "argument", "value", "exceptions", "pattern"), REFUSED_OPTIONS, ids=name_of
)
def test_refused_options(name, argument, value, exceptions, pattern):
    function = BY_NAME[name].function
    assert_refused(function, call_with(argument, value), exceptions, pattern)


@pytest.mark.parametrize(("value", "exceptions", "pattern"), REFUSED_INDICES)
@EVERY_OPERATOR
def test_refused_batch_indices(operator, value, exceptions, pattern):
    call = call_with("batch_indices", value) | {"boxes": rows()[:, 1:]}
    assert_refused(operator.function, call, exceptions, pattern)


@EVERY_OPERATOR
def test_batch_indices_beside_a_list(operator):
    call = call_with("batch_indices", np.zeros(3, int))
    call["boxes"] = [rows()[:2, 1:], rows()[2:, 1:]]
    pattern = r"batch_indices must be None for a list of boxes, got .*"
    assert_refused(operator.function, call, ValueError, pattern)


@EVERY_OPERATOR
def test_channels_last_names_its_own_shape(operator):
    call = call_with("input", features()[0]) | {"channel_axis": -1}
    assert_refused(operator.function, call, ValueError, r"input .*\(N, H, W, C\), got \(3, 8, 9\)")


@pytest.mark.parametrize(("operator", "reduction"), MAXIMUM, ids=ids)
def test_maxima_know_return_argmax_by_name_only(operator, reduction):
    with pytest.raises(TypeError):
        operator.function(features(), rows(), SIZE, returnargmax=True)


@EVERY_OPERATOR
def test_out_that_shares_memory(operator):
    """With the input, or with boxes in any form: they would be written to."""
    memory = np.zeros(2 * 3 * 8 * 9, np.float32)
    input, out = memory.reshape(SHAPE), memory[-54:].reshape(RESULT)
    call = {"boxes": rows(), "output_size": SIZE, "out": out}
    pattern = r"out must not (share memory|overlap) with input.*"
    assert_refused(operator.function, call | {"input": input}, ValueError, pattern)

    for dtype in (np.float32, np.float64):
        memory = np.zeros(54, dtype)
        out = memory.reshape(RESULT)
        memory[:15] = rows(dtype).ravel()
        whole = memory[:15].reshape(3, 5)
        memory[40:52] = rows(dtype)[:, 1:].ravel()
        corners = memory[40:52].reshape(3, 4)
        forms = [
            {"boxes": whole},
            {"boxes": corners, "batch_indices": np.array([0, 1, 1])},
            {"boxes": [corners[:2], corners[2:]]},
        ]
        for form in forms:
            call = {"input": features(dtype), "output_size": SIZE, "out": out} | form
            pattern = r"out must not (share memory|overlap) with boxes.*"
            assert_refused(operator.function, call, ValueError, pattern)

    memory = np.zeros(54, np.float32)
    out, numbers = memory.reshape(RESULT), memory[:6].view(np.int64)
    call = {"input": features(), "boxes": rows()[:, 1:], "batch_indices": numbers, "out": out}
    pattern = r"out must not share memory with batch_indices"
    assert_refused(operator.function, call | {"output_size": SIZE}, ValueError, pattern)


@pytest.mark.parametrize("axis", [1, -1])
@EVERY_OPERATOR
def test_out_has_the_axes_of_the_input(operator, axis):
    call = call_with("channel_axis", axis)
    call["input"] = np.moveaxis(call["input"], 1, axis)
    shapes = {1: RESULT, -1: (3, *SIZE, 3)}
    operator.function(**call | {"out": np.zeros(shapes[axis], np.float32)})
    call["out"] = np.full(shapes[-axis], GUARD, np.float32)
    assert_refused(operator.function, call, ValueError, r"out must have shape .*, got .*")


@pytest.mark.parametrize("value", [np.int64(2), np.uint8(2), (np.int32(2), 2), [2, 2]], ids=repr)
@EVERY_OPERATOR
def test_any_integer_is_an_integer(operator, value):
    expected = operator.function(features(), rows(), 2)
    np.testing.assert_array_equal(operator.function(features(), rows(), value), expected)
    if operator.name in ("roi_align", "roi_warp"):
        expected = operator.function(features(), rows(), 2, sampling_ratio=2)
        output = operator.function(features(), rows(), 2, sampling_ratio=value)
        np.testing.assert_array_equal(output, expected)


@EVERY_OPERATOR
def test_any_real_number_is_a_scale(operator):
    expected = operator.function(features(), rows(), SIZE, 0.5)
    for scale in (np.float32(0.5), np.float64(0.5), np.array(0.5)):
        np.testing.assert_array_equal(operator.function(features(), rows(), SIZE, scale), expected)
