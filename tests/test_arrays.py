"""Whatever memory the arrays lie in and whoever owns them, the numbers are the same."""

import functools
import sys
import types

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from operators import MAXIMA, MEANS, OPERATORS, REDUCTIONS, ids
from strategies import FLOATS, LAYOUTS, values
from subprocesses import run as run_python

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=ids)

SHAPE = (2, 19, 9, 11)
SIZE = (3, 2)
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


# ---- memory layouts ------------------------------------------------------------------------


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


# ---- out -----------------------------------------------------------------------------------

GUARD = 77.0


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


# ---- other libraries -----------------------------------------------------------------------


class Foreign:
    """An array of this module, as far as anyone can tell: it speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def from_dlpack(array):
    return Foreign(np.from_dlpack(array))


class OldForeign(Foreign):
    """It knows nothing of DLPack 1.0."""

    def __dlpack__(self, stream=None):
        return self._array.__dlpack__(stream=stream)


class OnDevice(Foreign):
    """An array in the memory of a GPU."""

    def __dlpack__(self, **options):
        raise AssertionError("nobody can read this")

    def __dlpack_device__(self):
        return (2, 0)


def borrowed(array):
    """The NumPy array in a `Foreign`, which is what it should be."""
    assert type(array).__mro__[-2] is Foreign
    return array._array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64], ids=ids)
@MATRIX
def test_dlpack_in_and_out(operator, reduction, dtype):
    input = features(dtype)
    expected = results(operator, reduction, input, BOXES, SIZE)
    for boxes in (Foreign(BOXES), BOXES):
        found = results(operator, reduction, Foreign(input), boxes, SIZE)
        for actual, wanted in zip(found, expected, strict=True):
            assert_same_bits(borrowed(actual), wanted)


@EVERY_OPERATOR
def test_dlpack_in_every_argument(operator):
    input = features()
    parts = [Foreign(BOXES[BOXES[:, 0] == i, 1:].copy()) for i in range(2)]
    order = np.argsort(BOXES[:, 0], kind="stable")
    expected = operator.function(input, BOXES, SIZE)

    output = operator.function(Foreign(input), parts, SIZE)
    assert_same_bits(borrowed(output), expected[order])
    output = operator.function(Foreign(input), [parts[0], borrowed(parts[1])], SIZE)
    assert_same_bits(borrowed(output), expected[order])

    images = Foreign(BOXES[:, 0].astype(np.int64))
    corners = Foreign(np.ascontiguousarray(BOXES[:, 1:]))
    output = operator.function(Foreign(input), corners, SIZE, batch_indices=images)
    assert_same_bits(borrowed(output), expected)

    last = Foreign(np.moveaxis(input, 1, -1))
    output = operator.function(last, Foreign(BOXES), SIZE, channel_axis=-1)
    assert_same_bits(np.moveaxis(borrowed(output), -1, 1), expected)

    out = Foreign(np.full(expected.shape, GUARD, np.float32))
    assert operator.function(Foreign(input), Foreign(BOXES), SIZE, out=out) is out
    assert_same_bits(borrowed(out), expected)


@EVERY_OPERATOR
def test_dlpack_before_version_1(operator):
    output = operator.function(OldForeign(features()), OldForeign(BOXES), SIZE)
    assert_same_bits(borrowed(output), operator.function(features(), BOXES, SIZE))


@EVERY_OPERATOR
def test_dlpack_of_no_boxes(operator):
    output = operator.function(Foreign(features()), Foreign(BOXES[:0].copy()), SIZE)
    assert borrowed(output).shape == (0, 19, *SIZE)


@pytest.fixture
def other_library(monkeypatch):
    """A second library with arrays of its own, and one whose arrays are of the first's kind."""

    def library(name, base, **attributes):
        module = types.ModuleType(name)
        module.Array = type("Array", (base,), {"__module__": f"{name}.arrays"})
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return library


@EVERY_OPERATOR
def test_libraries_do_not_mix(operator, other_library):
    """Except with NumPy's boxes, which any library may have."""
    other = other_library("another", Foreign, from_dlpack=from_dlpack)
    mine, its = Foreign(features()), other.Array(features())
    boxes = Foreign(BOXES)
    shape = (len(BOXES), 19, *SIZE)
    out = np.full(shape, GUARD, np.float32)
    with pytest.raises(TypeError, match=r"^boxes must come from the library of input or NumPy"):
        operator.function(its, boxes, SIZE)
    with pytest.raises(TypeError, match=r"^boxes must come from the library of input or NumPy"):
        operator.function(features(), boxes, SIZE)
    with pytest.raises(TypeError, match=r"^boxes.* must come from the library of input or NumPy"):
        operator.function(mine, [BOXES[:, 1:], other.Array(BOXES[:, 1:].copy())], SIZE)
    for wrong in (out, other.Array(out)):
        with pytest.raises(TypeError, match=r"^out must come from the library of input"):
            operator.function(mine, boxes, SIZE, out=wrong)
    with pytest.raises(TypeError, match=r"^out must come from the library of input"):
        operator.function(features(), BOXES, SIZE, out=Foreign(out))
    assert (out == GUARD).all()


@EVERY_OPERATOR
def test_a_subclass_belongs_to_the_library_of_its_base(operator, other_library):
    """As torchvision's tensors of boxes and images belong to torch."""
    extension = other_library("extension", Foreign)
    expected = operator.function(features(), BOXES, SIZE)
    output = operator.function(Foreign(features()), extension.Array(BOXES), SIZE)
    assert_same_bits(borrowed(output), expected)
    output = operator.function(extension.Array(features()), Foreign(BOXES), SIZE)
    assert_same_bits(borrowed(output), expected)


@EVERY_OPERATOR
def test_a_library_that_cannot_take_results(operator, other_library):
    mute = other_library("mute", object)
    array = type("Array", (), {**vars(Foreign), "__module__": "mute"})(features())
    assert sys.modules["mute"] is mute
    with pytest.raises(TypeError, match=r"^input must come from a library with from_dlpack"):
        operator.function(array, BOXES, SIZE)


@pytest.mark.parametrize("argument", ["input", "boxes", "out"])
@EVERY_OPERATOR
def test_device_arrays(operator, argument):
    call = {"input": Foreign(features()), "boxes": Foreign(BOXES)}
    call[argument] = OnDevice(np.zeros(1))
    with pytest.raises(TypeError, match=rf"^{argument} must be in host memory.*cuda12.*cuda13"):
        operator.function(output_size=SIZE, **call)


# ---- torch ---------------------------------------------------------------------------------


@functools.cache
def imported(name):
    """A library that need not be there; its own import may warn."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@pytest.fixture
def torch():
    return imported("torch")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "uint8", "bool"])
@MATRIX
def test_torch(torch, operator, reduction, dtype):
    tensor = torch.from_numpy(features(np.float32)).to(getattr(torch, dtype))
    boxes = torch.from_numpy(BOXES)
    wide = tensor.to(torch.float32) if dtype == "bfloat16" else tensor
    expected = results(operator, reduction, wide.numpy(), BOXES, SIZE)
    found = results(operator, reduction, tensor, boxes, SIZE)
    assert all(type(array) is torch.Tensor for array in found)
    assert found[0].dtype == (torch.float32 if dtype in ("uint8", "bool") else tensor.dtype)
    wanted = torch.from_numpy(expected[0]).to(found[0].dtype)
    assert torch.equal(found[0], wanted)
    if reduction != "mean":
        assert found[1].dtype == torch.int64
        np.testing.assert_array_equal(found[1].numpy(), expected[1])


@EVERY_OPERATOR
def test_torch_in_every_argument(torch, operator):
    tensor, rows = torch.from_numpy(features()), torch.from_numpy(BOXES)
    expected = torch.from_numpy(operator.function(features(), BOXES, SIZE))
    order = torch.argsort(rows[:, 0], stable=True)
    parts = [rows[rows[:, 0] == i, 1:] for i in range(2)]
    assert torch.equal(operator.function(tensor, parts, SIZE), expected[order])
    assert torch.equal(operator.function(tensor, BOXES, SIZE), expected)
    indices = rows[:, 0].to(torch.int64)
    corners = rows[:, 1:]
    assert torch.equal(operator.function(tensor, corners, SIZE, batch_indices=indices), expected)
    last = tensor.to(memory_format=torch.channels_last)
    assert torch.equal(operator.function(last, rows, SIZE), expected)
    output = operator.function(tensor.permute(0, 2, 3, 1), rows, SIZE, channel_axis=-1)
    assert torch.equal(output.permute(0, 3, 1, 2), expected)
    out = torch.empty_like(expected)
    assert operator.function(tensor, rows, SIZE, out=out) is out
    assert torch.equal(out, expected)
    narrow = rows.to(torch.bfloat16)
    wide = narrow.to(torch.float32)
    assert torch.equal(
        operator.function(tensor, narrow, SIZE), operator.function(tensor, wide, SIZE)
    )
    half = tensor.to(torch.bfloat16)
    out = torch.empty_like(expected, dtype=torch.bfloat16)
    assert operator.function(half, rows, SIZE, out=out) is out
    assert torch.equal(out, operator.function(half, rows, SIZE))


@EVERY_OPERATOR
def test_torch_results_are_the_callers_own(torch, operator):
    """They can be written to, and they outlive everything else."""
    output = operator.function(torch.from_numpy(features()), torch.from_numpy(BOXES), SIZE)
    output += 1
    assert torch.equal(output - 1, output.clone() - 1)


@pytest.mark.parametrize("argument", ["input", "boxes", "out"])
@EVERY_OPERATOR
def test_torch_gradients_are_not_lost_in_silence(torch, operator, argument):
    out = torch.zeros((len(BOXES), 19, *SIZE))
    call = {"input": torch.from_numpy(features()), "boxes": torch.from_numpy(BOXES), "out": out}
    call[argument] = call[argument].clone().requires_grad_()
    with pytest.raises(TypeError, match=rf"^{argument} .*detach\(\).*roi_numba\.torch"):
        operator.function(output_size=SIZE, **call)
    call[argument] = call[argument].detach()
    operator.function(output_size=SIZE, **call)


@EVERY_OPERATOR
def test_torch_subclasses_are_tensors(torch, operator):
    subclass = type("Boxes", (torch.Tensor,), {"__module__": "pytest"})
    boxes = torch.from_numpy(BOXES).as_subclass(subclass)
    output = operator.function(torch.from_numpy(features()), boxes, SIZE)
    assert torch.equal(output, operator.function(torch.from_numpy(features()), BOXES, SIZE))


# ---- JAX -----------------------------------------------------------------------------------


@pytest.fixture
def jnp():
    imported("jax")
    return imported("jax.numpy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "uint8", "int32"])
@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_jax(jnp, operator, reduction, dtype):
    array = jnp.asarray(features(np.float32)).astype(dtype)
    expected = operator.function(np.asarray(array), BOXES, SIZE, **operator.reductions[reduction])
    for boxes in (jnp.asarray(BOXES), BOXES):
        output = operator.function(array, boxes, SIZE, **operator.reductions[reduction])
        assert type(output) is type(array)
        assert_same_bits(np.asarray(output), expected)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_jax_maxima(jnp, operator, reduction):
    """JAX keeps argmax in its own widest integer."""
    expected = results(operator, reduction, features(), BOXES, SIZE)
    found = results(operator, reduction, jnp.asarray(features()), jnp.asarray(BOXES), SIZE)
    for actual, wanted in zip(found, expected, strict=True):
        assert isinstance(actual, type(jnp.zeros(1)))
        np.testing.assert_array_equal(np.asarray(actual), wanted)


@EVERY_OPERATOR
def test_jax_arrays_are_never_written_to(jnp, operator):
    array = jnp.asarray(features())
    before = np.asarray(array).copy()
    operator.function(array, jnp.asarray(BOXES), SIZE)
    np.testing.assert_array_equal(np.asarray(array), before)
    out = jnp.zeros((len(BOXES), 19, *SIZE))
    with pytest.raises((TypeError, ValueError), match=r"^out must be writeable"):
        operator.function(array, BOXES, SIZE, out=out)
    assert not np.asarray(out).any()
