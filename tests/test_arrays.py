"""Whatever memory the arrays lie in, and whatever their dtypes, the numbers are the same."""

import sys

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import (
    BOXES,
    EVERY_OPERATOR,
    MATRIX,
    ROWS,
    SHAPE,
    SIZE,
    Subclass,
    assert_same_bits,
    big_endian,
    bits,
    features,
    packed_field,
    results,
    unaligned,
)
from operators import MAXIMA, MEANS, REDUCTIONS, ids
from strategies import FLOATS, LAYOUTS, values
from subprocesses import run as run_python

# ---- memory layouts ------------------------------------------------------------------------


def mapped(array, folder):
    """A read-only memory map of a file."""
    path = folder / "features.bin"
    array.tofile(path)
    return np.memmap(path, array.dtype, "r", shape=array.shape)


MORE_LAYOUTS = {
    **LAYOUTS,
    "subclass": lambda array: array.view(Subclass),
    "big-endian": big_endian,
    "packed field": packed_field,
    "unaligned": unaligned,
    "transposed": lambda array: np.ascontiguousarray(array.transpose(3, 1, 0, 2)).transpose(
        2, 1, 3, 0
    ),
    "every third column": lambda array: np.repeat(array, 3, axis=3)[..., ::3],
    "gaps between rows": lambda array: np.pad(array, ((0, 0), (0, 0), (0, 3), (0, 5)))[
        :, :, : array.shape[2], : array.shape[3]
    ],
}


@pytest.mark.parametrize("layout", MORE_LAYOUTS)
@MATRIX
def test_layout_of_input(operator, reduction, layout):
    input = MORE_LAYOUTS[layout](features())
    plain = np.array(input, np.float32, order="C", subok=False)
    for axis in (1, -1):
        moved = input if axis == 1 else np.moveaxis(input, 1, -1)
        found = results(operator, reduction, moved, BOXES, SIZE, channel_axis=axis)
        expected = results(operator, reduction, plain, BOXES, SIZE)
        for actual, wanted in zip(found, expected, strict=True):
            assert type(actual) is np.ndarray
            assert actual.flags.c_contiguous
            assert_same_bits(np.moveaxis(actual, axis, 1), wanted)


@EVERY_OPERATOR
def test_records_that_are_called_aligned(operator):
    """They equal the library's own for bfloat16, and Numba tells them apart."""
    plain = features(ml_dtypes.bfloat16)
    expected = operator.function(plain, BOXES, SIZE).view(np.uint16)
    for align in (False, True):
        dtype = np.dtype([("bfloat16", np.uint16)], align=align)
        found = operator.function(plain.view(dtype), BOXES, SIZE)
        np.testing.assert_array_equal(found.view(np.uint16), expected)


@EVERY_OPERATOR
def test_memory_map(operator, tmp_path):
    input = mapped(features(), tmp_path)
    output = operator.function(input, BOXES, SIZE)
    assert type(output) is np.ndarray
    assert_same_bits(output, operator.function(features(), BOXES, SIZE))


@pytest.mark.parametrize(
    "layout", ["big-endian", "packed field", "reversed", "fortran", "unaligned", "subclass"]
)
@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@EVERY_OPERATOR
def test_layout_of_boxes(operator, dtype, layout):
    layouts = MORE_LAYOUTS | {"reversed": lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1]}
    if layout == "big-endian" and dtype is ml_dtypes.bfloat16:
        pytest.skip("ml_dtypes has no big-endian bfloat16")
    rows = BOXES.astype(dtype)
    output = operator.function(features(), layouts[layout](rows), SIZE)
    assert_same_bits(output, operator.function(features(), rows, SIZE))


@EVERY_OPERATOR
def test_one_box_for_all(operator):
    """Boxes with a stride of zero."""
    output = operator.function(features(), np.broadcast_to(BOXES[0], (40, 5)), SIZE)
    expected = operator.function(features(), BOXES[:1], SIZE)
    assert_same_bits(output, np.broadcast_to(expected, output.shape))


@pytest.mark.parametrize("shape", [(1, 1, 0, 0), (1, 1, 0, 1), (2, 3, 5, 0), (1, 0, 5, 5)])
@pytest.mark.parametrize("writeable", [True, False])
@EVERY_OPERATOR
def test_empty_maps_in_any_memory(operator, shape, writeable):
    boxes = np.array([(0, 0, 0, 1, 1)], np.float32)
    for input in (np.ones(shape, np.float32), np.ones(shape[::-1], np.float32).T):
        input.flags.writeable = writeable
        for axis in (1, -1):
            moved = input if axis == 1 else np.moveaxis(input, 1, -1)
            output = operator.function(moved, boxes, SIZE, channel_axis=axis)
            assert output.shape == ((1, shape[1], 3, 2) if axis == 1 else (1, 3, 2, shape[1]))
            assert not output.any()


def guarded():
    """Call every operator on arrays that end, or begin, where memory does; run in a process."""
    import ctypes
    import mmap

    page = mmap.PAGESIZE
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    keep = []

    def fenced(array, at_end):
        """The array between two pages that can be neither read nor written."""
        room = -(-array.nbytes // page) * page
        memory = mmap.mmap(-1, room + 2 * page)
        keep.append(memory)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for fence in (address, address + page + room):
            assert mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), 0) == 0
        offset = page + (room - array.nbytes if at_end else 0)
        placed = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
        placed[...] = array
        return placed

    rows = np.array([*ROWS, (0, -50, -50, 50, 50), (1, 10, 8, 10.4, 8.4), (0, 9, 7, 30, 30)])
    for channels in (1, 3, 15, 16, 17, 32, 40):
        for height, width in ((1, 1), (2, 2), (9, 11), (3, 64), (100, 100)):
            shape = (2, channels, height, width)
            array = features(np.float32, shape)
            boxes = rows.astype(np.float32)
            for axis in (1, -1):
                moved = np.ascontiguousarray(np.moveaxis(array, 1, axis))
                for operator, reduction in REDUCTIONS:
                    wanted = results(operator, reduction, moved, boxes, SIZE, channel_axis=axis)
                    for at_end in (True, False):
                        (output, *argmax) = results(
                            operator,
                            reduction,
                            fenced(moved, at_end),
                            fenced(boxes, at_end),
                            SIZE,
                            channel_axis=axis,
                            out=fenced(np.empty_like(wanted[0]), at_end),
                        )
                        for actual, expected in zip((output, *argmax), wanted, strict=True):
                            np.testing.assert_array_equal(actual, expected)
                        del output, argmax
                        # Channels last to first: the first channel is the one at the end.
                        turned = fenced(np.ascontiguousarray(np.flip(moved, axis)), at_end)
                        (output, *_) = results(
                            operator,
                            reduction,
                            np.flip(turned, axis),
                            boxes,
                            SIZE,
                            channel_axis=axis,
                        )
                        np.testing.assert_array_equal(output, wanted[0])
    print("inside")


@pytest.mark.skipif(sys.platform != "linux", reason="fences need mprotect")
def test_nothing_outside_the_arrays_is_touched():
    assert run_python("import test_arrays; test_arrays.guarded()") == "inside\n"


# ---- dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MATRIX
def test_floats_come_back_as_they_are(operator, reduction, dtype):
    output, *argmax = results(operator, reduction, features(dtype), BOXES, SIZE)
    assert output.dtype == dtype
    assert all(array.dtype == np.int64 for array in argmax)


# other sizes of signed integers only cost the time to compile for them
WHOLE = ["?", "u1", "u2", "u4", "u8", "i4", "i8"]


def whole_numbers(dtype):
    """Whole numbers up to the extremes of their type."""
    if dtype == "?":
        return features(np.bool_)
    info = np.iinfo(dtype)
    rng = np.random.default_rng(3)
    array = rng.integers(info.min, info.max, SHAPE, dtype, endpoint=True)
    array.flat[:4] = info.min, info.max, 0, 1
    return array


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_whole_numbers_become_float32(operator, reduction, dtype):
    array = whole_numbers(dtype)
    for input in (array, array[..., ::-1, ::2], np.asfortranarray(array)):
        (output,) = results(operator, reduction, input, BOXES, SIZE)
        (expected,) = results(operator, reduction, input.astype(np.float32), BOXES, SIZE)
        assert_same_bits(output, expected)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "i8"])
@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_maxima_of_whole_numbers(operator, reduction, dtype):
    input = whole_numbers(dtype)
    found = results(operator, reduction, input, BOXES, SIZE)
    expected = results(operator, reduction, input.astype(np.float32), BOXES, SIZE)
    for actual, wanted in zip(found, expected, strict=True):
        assert_same_bits(actual, wanted)


def every_number(dtype):
    """A (1, 1, 256, 256) map of every bit pattern of a 16-bit float, shuffled."""
    patterns = np.random.default_rng(0).permutation(2**16).astype(np.uint16)
    return patterns.view(dtype).reshape(1, 1, 256, 256)


def assert_rounded_once(narrow, wide):
    """``narrow`` is ``wide``, float32, correctly rounded; NaN may have any payload."""
    with np.errstate(over="ignore"):
        expected = wide.astype(narrow.dtype)
    nan = np.isnan(wide)
    np.testing.assert_array_equal(np.isnan(narrow.astype(np.float32)), nan)
    np.testing.assert_array_equal(bits(narrow)[~nan], bits(expected)[~nan])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=ids)
@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("channels", [1, 16])
def test_every_16_bit_number(dtype, reduce, channels):
    """Each is read and written exactly, and results between them are rounded to nearest even."""
    input = np.repeat(every_number(dtype), channels, axis=1)
    box = np.array([(0, 0, 0, 255, 255)], np.float32)
    for size in ((256, 256), (256, 128)):
        narrow = roi_numba.roi_pool(input, box, size, reduce=reduce)
        with np.errstate(invalid="ignore"):  # signalling NaN
            wide = roi_numba.roi_pool(input.astype(np.float32), box, size, reduce=reduce)
        assert_rounded_once(narrow, wide)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=ids)
@MATRIX
def test_16_bit_results_are_rounded_once(operator, reduction, dtype):
    rng = np.random.default_rng(1)
    exponents = rng.integers(-24, 16, SHAPE)  # down to float16's subnormals, up to its largest
    with np.errstate(over="ignore"):
        input = np.ldexp(rng.normal(size=SHAPE), exponents).astype(dtype)
    input[~np.isfinite(input.astype(np.float32))] = 1
    for channel_axis in (1, -1):
        call = np.moveaxis(input, 1, channel_axis)
        narrow, *argmax = results(operator, reduction, call, BOXES, SIZE, channel_axis=channel_axis)
        wide, *wanted = results(
            operator,
            reduction,
            call.astype(np.float32),
            BOXES,
            SIZE,
            channel_axis=channel_axis,
        )
        assert_rounded_once(narrow, wide)
        for actual, expected in zip(argmax, wanted, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_float64_is_accumulated_in_float64():
    input = np.ones((1, 1, 1, 4)) + np.array([0, 2.0**-40, 2.0**-41, 2.0**-42])
    output = roi_numba.roi_pool(input, np.array([[0, 0, 0, 3, 0]]), 1, reduce="mean")
    assert output.item() == input.mean() != 1


def test_float16_is_accumulated_in_float32():
    input = np.full((1, 1, 64, 64), 60000, np.float16)  # the sum overflows float16
    output = roi_numba.roi_pool(input, np.array([[0, 0, 0, 63, 63]]), 1, reduce="mean")
    assert output.item() == 60000


# ---- boxes ---------------------------------------------------------------------------------


def box_forms(rows):
    """The same boxes in every form, with the order in which each has them."""
    order = np.argsort(rows[:, 0], kind="stable")
    images = rows[:, 0].astype(np.int64)
    parts = [rows[images == i, 1:] for i in range(SHAPE[0])]
    forms = {
        "rows": (rows, None, slice(None)),
        "list": (parts, None, order),
        "tuple": (tuple(parts), None, order),
        "nested lists": ([part.tolist() for part in parts], None, order),
        "strided parts": ([np.repeat(part, 2, 0)[::2] for part in parts], None, order),
    }
    for dtype in ("i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8", ">i4"):
        forms[f"indices {dtype}"] = (rows[:, 1:], images.astype(dtype), slice(None))
    return forms


@pytest.mark.parametrize("form", box_forms(BOXES))
@EVERY_OPERATOR
def test_box_forms(operator, form):
    rows = BOXES.astype(np.float64) if form == "nested lists" else BOXES
    boxes, indices, order = box_forms(rows)[form]
    output = operator.function(features(), boxes, SIZE, batch_indices=indices)
    assert_same_bits(output, operator.function(features(), rows, SIZE)[order])


@EVERY_OPERATOR
def test_a_list_of_one_is_for_one_image(operator):
    output = operator.function(features()[:1], [BOXES[:2, 1:]], SIZE)
    rows = BOXES[:2].copy()
    rows[:, 0] = 0
    assert_same_bits(output, operator.function(features()[:1], rows, SIZE))


@pytest.mark.parametrize("empty", [[], (), np.empty((0, 4), np.float32)], ids=str)
@EVERY_OPERATOR
def test_an_image_without_boxes_changes_nothing(operator, empty):
    """Not even the dtype in which the boxes of the others are computed."""
    rows = BOXES[BOXES[:, 0] == 0] + np.float32(1 / 3)
    rows[:, 0] = 0
    output = operator.function(features(), [rows[:, 1:], empty], SIZE, 0.37)
    assert_same_bits(output, operator.function(features(), rows, SIZE, 0.37))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@EVERY_OPERATOR
def test_whole_boxes_are_computed_in_float64(operator, dtype):
    rows = np.array([(0, 1, 2, 9, 7), (1, 0, 0, 100, 5)], dtype)
    output = operator.function(features(), rows, SIZE, 1 / 3)
    assert_same_bits(output, operator.function(features(), rows.astype(np.float64), SIZE, 1 / 3))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=ids)
@EVERY_OPERATOR
def test_narrow_boxes_are_computed_in_float32(operator, dtype):
    rows = BOXES.astype(dtype)
    output = operator.function(features(), rows, SIZE, 1 / 3)
    assert_same_bits(output, operator.function(features(), rows.astype(np.float32), SIZE, 1 / 3))


@EVERY_OPERATOR
def test_boxes_are_not_rounded_to_the_dtype_of_the_input(operator):
    """1000.3 in an image is 31.26 on the map, and 31.25 if it went through float16."""
    rows = np.array([(0, 200.3, 200.7, 1000.3, 900.9)], np.float64)
    input = values(0, (1, 3, 40, 40), np.float16)
    wide = operator.function(input.astype(np.float32), rows, SIZE, 1 / 32)
    assert_rounded_once(operator.function(input, rows, SIZE, 1 / 32), wide)
    once = operator.function(input.astype(np.float64), rows, SIZE, 1 / 32)
    rounded = operator.function(
        input.astype(np.float64), rows.astype(np.float16).astype(np.float64), SIZE, 1 / 32
    )
    if operator.name not in ("roi_pool", "roi_warp"):  # those round boxes on purpose
        assert (once != rounded).any()
