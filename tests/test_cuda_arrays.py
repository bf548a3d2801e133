"""Calls on a device's arrays, with stand-ins for CuPy and the engine: everything but kernels."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

import device_stand_in
from arrays import BOXES, EVERY_OPERATOR, GUARD, MATRIX, SHAPE, SIZE, bits, features, results
from device_stand_in import Capsule, machine, ndarray, plain
from operators import MAXIMA, OPERATORS, ids
from roi_numba import _derivatives, _op
from strategies import LAYOUTS, values
from subprocesses import run

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.uint8, np.int64, np.bool_]
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=ids)
FLOATS = pytest.mark.parametrize("dtype", DTYPES[:4], ids=ids)
EVERY_MAXIMUM = pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)


@pytest.fixture(autouse=True)
def _installed():
    with device_stand_in.installed() as (module, asked), machine.unchanged():
        global cupy, called
        cupy, called = module, asked
        yield


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


# ---- results -------------------------------------------------------------------------------


@EVERY_DTYPE
@MATRIX
def test_forward(operator, reduction, dtype):
    """The bits of the host's, without a wait or a copy."""
    input = features(dtype)
    expected = results(operator, reduction, input, BOXES, SIZE)
    found = results(operator, reduction, there(input), there(BOXES), SIZE)
    assert_all_same(found, expected)
    assert (machine.waits, machine.copies) == (0, 0)
    assert called.names == ["pool"]


@EVERY_DTYPE
@MATRIX
def test_backward(operator, reduction, dtype):
    input, upstream = features(dtype), gradient(dtype)
    options = operator.reductions[reduction]
    expected = operator.backward(upstream, input, BOXES, **options)
    found = operator.backward(there(upstream), there(input), there(BOXES), **options)
    assert_all_same(found, expected)
    for needs in ("input", "boxes"):
        one = operator.backward(there(upstream), there(input), there(BOXES), needs=needs, **options)
        assert one[needs == "input"] is None
        assert_same(one[needs == "boxes"], expected[needs == "boxes"])
    assert (machine.waits, machine.copies) == (0, 0)


@EVERY_MAXIMUM
def test_backward_from_named_winners(operator, reduction):
    options = operator.reductions[reduction]
    _, argmax = results(operator, reduction, features(), BOXES, SIZE)
    expected = operator.backward(gradient(), features(), BOXES, argmax=argmax, **options)
    found = operator.backward(
        there(gradient()), there(features()), there(BOXES), argmax=there(argmax), **options
    )
    assert_all_same(found, expected)
    assert "pool" not in called.names
    assert machine.waits == 0


@FLOATS
@MATRIX
def test_derivatives(operator, reduction, dtype):
    """What the bindings for autograd ask for."""
    input, upstream, motion = features(dtype), gradient(dtype), values(4, (4, 4), np.float32)
    chosen = {"reduce": reduction}
    common = dict.fromkeys(("batch_indices", "check_boxes")) | {"channel_axis": 1} | chosen
    given = operator.rule, operator.rule.options()

    def everything(at):
        map, boxes = at(input), at(BOXES)
        yield _derivatives.rate(*given, map, boxes, at(motion), SIZE, 1.0, **common)
        yield _derivatives.rate_backward(
            *given, at(upstream), map, boxes, at(motion), 1.0, **common
        )
        if reduction != "mean":
            options = {**common, "return_argmax": True, "out": None}
            _, argmax = _op.forward(*given, map, boxes, SIZE, 1.0, **options)
            yield _derivatives.at_argmax(*given, map, boxes, 1.0, argmax=argmax, **common)

    expected = list(everything(lambda array: array))
    assert_all_same(everything(there), expected)
    assert (machine.waits, machine.copies) == (0, 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_layouts(operator, reduction, layout, channel_axis):
    input = LAYOUTS[layout](np.moveaxis(features(), 1, channel_axis))
    expected = results(operator, reduction, input, BOXES, SIZE, channel_axis=channel_axis)
    found = results(
        operator, reduction, there(input), there(BOXES), SIZE, channel_axis=channel_axis
    )
    assert_all_same(found, expected)
    upstream = LAYOUTS[layout](np.moveaxis(gradient(), 1, channel_axis))
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    expected = operator.backward(upstream, input, BOXES, **options)
    assert_all_same(
        operator.backward(there(upstream), there(input), there(BOXES), **options), expected
    )


@EVERY_OPERATOR
def test_empty(operator):
    """No boxes, channels, rows, images: no engine."""
    for shape, boxes in [
        (SHAPE, BOXES[:0]),
        ((2, 0, 9, 11), BOXES),
        ((2, 19, 0, 11), BOXES),
        ((0, 19, 9, 11), BOXES[:0]),
        ((0, 19, 9, 11), []),
    ]:
        input = np.zeros(shape, np.float32)
        expected = operator.function(input, boxes, SIZE)
        assert_same(operator.function(there(input), there(boxes), SIZE), expected)
        upstream = np.ones_like(expected)
        expected = operator.backward(upstream, input, boxes)
        found = operator.backward(there(upstream), there(input), there(boxes))
        assert_same(found[0], expected[0])
        if boxes != [] if isinstance(boxes, list) else True:
            assert_same(found[1], expected[1])
        else:
            assert found[1] == []
    assert machine.waits == 0
    with pytest.raises(ValueError, match="input must have at least one image for 4 boxes, got n"):
        operator.function(there(features()[:0]), there(BOXES), SIZE)


# ---- boxes ---------------------------------------------------------------------------------

PARTS = [BOXES[BOXES[:, 0] == i, 1:].copy() for i in range(2)]
MANY_BOXES = {
    "float64": BOXES.astype(np.float64),
    "float16": BOXES.astype(np.float16),
    "bfloat16": BOXES.astype(ml_dtypes.bfloat16),
    "int32": BOXES.astype(np.int32),
    "int64": BOXES.astype(np.int64),
    "columns": np.asfortranarray(BOXES),
    "every other": np.repeat(BOXES, 2, axis=0)[::2],
    "list": PARTS,
    "tuple": tuple(PARTS),
    "list of float64 and float32": [PARTS[0].astype(np.float64), PARTS[1]],
    "list of bfloat16": [part.astype(ml_dtypes.bfloat16) for part in PARTS],
    "list of integers": [part.astype(np.int16) for part in PARTS],
    "one empty": [PARTS[0], PARTS[1][:0].astype(np.float64)],
    "all empty": [PARTS[0][:0], PARTS[1][:0]],
}


def on_device(boxes):
    return type(boxes)(there(list(boxes))) if isinstance(boxes, (list, tuple)) else there(boxes)


def assert_like(found, expected):
    """A gradient to boxes, of CuPy's, is NumPy's in numbers and form."""
    if isinstance(expected, list):
        assert type(found) is list
        assert_all_same(found, expected)
    else:
        assert_same(found, expected)


@pytest.mark.parametrize("boxes", MANY_BOXES.values(), ids=MANY_BOXES)
@EVERY_OPERATOR
def test_boxes(operator, boxes):
    expected = operator.function(features(), boxes, SIZE)
    assert_same(operator.function(there(features()), on_device(boxes), SIZE), expected)
    upstream = gradient(boxes=len(expected))
    expected = operator.backward(upstream, features(), boxes)
    found = operator.backward(there(upstream), there(features()), on_device(boxes))
    assert_same(found[0], expected[0])
    assert_like(found[1], expected[1])
    assert (machine.waits, machine.copies) == (0, 0)


INDEX_DTYPES = [np.int64, np.int32, np.uint8, np.uint64, np.float32, np.float64, np.float16]


@pytest.mark.parametrize("geometry", [np.float32, np.float64], ids=ids)
@pytest.mark.parametrize("dtype", INDEX_DTYPES, ids=ids)
@EVERY_OPERATOR
def test_batch_indices(operator, dtype, geometry):
    corners, images = BOXES[:, 1:].astype(geometry), BOXES[:, 0].astype(dtype)
    expected = operator.function(features(), corners, SIZE, batch_indices=images)
    for given in (images, there(images)):
        found = operator.function(there(features()), there(corners), SIZE, batch_indices=given)
        assert_same(found, expected)
    expected = operator.backward(gradient(), features(), corners, batch_indices=images)
    found = operator.backward(
        there(gradient()), there(features()), there(corners), batch_indices=there(images)
    )
    assert_all_same(found, expected)
    assert machine.waits == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@EVERY_OPERATOR
def test_batch_indices_that_are_none(operator, dtype):
    """They are looked at before they are rounded."""
    images = np.array([0, 1 - 2.0**-30, np.nan, 60000]).astype(dtype)
    corners = BOXES[:, 1:]
    expected = operator.function(features(), corners, SIZE, batch_indices=images, check_boxes=False)
    found = operator.function(there(features()), there(corners), SIZE, batch_indices=there(images))
    assert_same(found, expected)


HOST_BOXES = {
    "rows": BOXES,
    "float64": BOXES.astype(np.float64),
    "bfloat16": BOXES.astype(ml_dtypes.bfloat16),
    "big-endian": BOXES.astype(">f4"),
    "integers": BOXES.astype(np.int8),
    "list": PARTS,
    "numbers": [part.tolist() for part in PARTS],
    "one empty": [PARTS[0].tolist(), []],
    "here and there": [PARTS[0], there(PARTS[1])],
}


@pytest.mark.parametrize("boxes", HOST_BOXES.values(), ids=HOST_BOXES)
@EVERY_OPERATOR
def test_boxes_in_host_memory(operator, boxes):
    """They are copied over; their gradient comes back to where they are."""
    several = isinstance(boxes, list)
    on_host = [plain(part) for part in boxes] if several else boxes
    expected = operator.function(features(), on_host, SIZE)
    assert_same(operator.function(there(features()), boxes, SIZE), expected)
    assert machine.waits == 0
    assert machine.copies > 0
    upstream = gradient(boxes=len(expected))
    expected = operator.backward(upstream, features(), on_host)
    operator.backward(there(upstream), there(features()), boxes, needs="input")
    assert machine.waits == 0
    found = operator.backward(there(upstream), there(features()), boxes)
    assert_same(found[0], expected[0])
    pairs = (
        zip(found[1], expected[1], boxes, strict=True)
        if several
        else [(found[1], expected[1], boxes)]
    )
    for actual, wanted, given in pairs:
        if type(given) is ndarray:
            assert_same(actual, wanted)
        else:
            assert type(actual) is np.ndarray
            assert actual.dtype == wanted.dtype
            np.testing.assert_array_equal(bits(actual), bits(wanted))


BAD = {
    "NaN": (1, 2, np.nan),
    "infinite": (2, 4, -np.inf),
    "no such image": (1, 0, 2),
    "negative image": (3, 0, -1),
    "half an image": (0, 0, 0.5),
    "image NaN": (3, 0, np.nan),
    "image infinite": (1, 0, np.inf),
}


def bad(place, column, value):
    boxes = BOXES.copy()
    boxes[place, column] = value
    return boxes


@pytest.mark.parametrize("spoiled", BAD.values(), ids=BAD)
@EVERY_OPERATOR
def test_bad_boxes(operator, spoiled):
    """Zeros, in silence and without a wait, unless they are to be checked."""
    boxes = bad(*spoiled)
    expected = operator.function(features(), boxes, SIZE, check_boxes=False)
    assert not expected[spoiled[0]].any()
    for check in (None, False):
        found = operator.function(there(features()), there(boxes), SIZE, check_boxes=check)
        assert_same(found, expected)
        found = operator.backward(
            there(gradient()), there(features()), there(boxes), check_boxes=check
        )
        wanted = operator.backward(gradient(), features(), boxes, check_boxes=False)
        assert_all_same(found, wanted)
    assert machine.waits == 0
    called.names.clear()
    with pytest.raises((ValueError, IndexError)) as wanted:
        operator.function(features(), boxes, SIZE)
    with pytest.raises(wanted.type) as found:
        operator.function(there(features()), there(boxes), SIZE, check_boxes=True)
    assert str(found.value) == str(wanted.value)
    assert machine.waits == 1
    with pytest.raises(wanted.type) as found:
        operator.backward(there(gradient()), there(features()), there(boxes), check_boxes=True)
    assert str(found.value) == str(wanted.value)
    corners, images = boxes[:, 1:], boxes[:, 0]
    for function, upstream in ((operator.function, ()), (operator.backward, (gradient(),))):
        size = () if upstream else (SIZE,)
        on_host = {"batch_indices": images}
        with pytest.raises((ValueError, IndexError)) as wanted:
            function(*upstream, features(), corners, *size, **on_host)
        with pytest.raises(wanted.type) as found:
            function(
                *map(there, upstream), there(features()), there(corners), *size,
                batch_indices=there(images), check_boxes=True,
            )  # fmt: skip
        assert str(found.value) == str(wanted.value)
    assert not called.names


@EVERY_OPERATOR
def test_checked_boxes_that_are_good(operator):
    for boxes in (BOXES, PARTS, BOXES.astype(ml_dtypes.bfloat16)):
        expected = operator.function(features(), boxes, SIZE)
        found = operator.function(there(features()), on_device(boxes), SIZE, check_boxes=True)
        assert_same(found, expected)
    machine.waits = 0
    operator.function(there(features()), BOXES, SIZE, check_boxes=True)
    assert machine.waits == 0  # they are at hand


# ---- out -----------------------------------------------------------------------------------


def whole_out(shape, dtype):
    return np.full(shape, GUARD, dtype)


def strided_out(shape, dtype):
    whole = np.full([2 * n + 1 for n in shape], GUARD, dtype)
    return whole[tuple(slice(1, None, 2) for _ in shape)]


def reversed_out(shape, dtype):
    return np.full(shape, GUARD, dtype)[::-1, ::-1, ::-1, ::-1]


@FLOATS
@pytest.mark.parametrize("make", [whole_out, strided_out, reversed_out])
@MATRIX
def test_out(operator, reduction, make, dtype):
    expected = results(operator, reduction, features(dtype), BOXES, SIZE)
    out = ndarray.over(make(expected[0].shape, dtype))
    found = results(operator, reduction, there(features(dtype)), there(BOXES), SIZE, out=out)
    assert found[0] is out
    assert_all_same(found, expected)


RESULT = (4, 19, *SIZE)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        (np.zeros((4, 19, 2, 3), np.float32), ValueError, r"have shape \(4, 19, 3, 2\), got"),
        (np.zeros(RESULT), TypeError, "be of dtype float32, got float64"),
        (np.zeros(RESULT, np.int16), TypeError, "be of dtype float32, got int16"),
    ],
)
@EVERY_OPERATOR
def test_out_refused(operator, out, error, words):
    with pytest.raises(error, match=f"^out must {words}"):
        operator.function(there(features()), there(BOXES), SIZE, out=there(out))


@EVERY_OPERATOR
def test_out_overlaps(operator):
    """Memory between first and last element counts, whether or not it is used."""
    count = np.prod(RESULT)
    memory = np.zeros(3 * features().size, np.float32)
    input, boxes = features(), BOXES

    def refused(out, name):
        before = memory.copy()
        with pytest.raises(ValueError, match=f"^out must not share memory with {name}"):
            operator.function(given[0], given[1], SIZE, out=ndarray.over(out.reshape(RESULT)))
        np.testing.assert_array_equal(memory, before)

    twice = memory[: 2 * input.size].reshape(*SHAPE, 2)
    twice[..., 0] = input
    given = ndarray.over(twice[..., 0]), there(boxes)
    refused(memory[: 2 * count : 2], "input")
    refused(memory[1 : 2 * count : 2], "input")
    refused(memory[2 * input.size - 2 :][:count], "input")
    expected = operator.function(input, boxes, SIZE)
    out = ndarray.over(memory[2 * input.size - 1 :][:count].reshape(RESULT))
    assert_same(operator.function(*given, SIZE, out=out), expected)

    memory[100:120] = boxes.ravel()
    given = there(input), ndarray.over(memory[100:120].reshape(4, 5))
    refused(memory[119:][:count], "boxes")
    refused(memory[:count], "boxes")
    out = ndarray.over(memory[120:][:count].reshape(RESULT))
    assert_same(operator.function(*given, SIZE, out=out), expected)


# ---- what is refused -----------------------------------------------------------------------


@EVERY_OPERATOR
def test_host_and_device_do_not_mix(operator):
    """But for boxes, which may come from the host."""
    input, boxes, upstream = features(), BOXES, gradient()
    library = "must come from the library of input"
    for arguments in [
        (there(input), boxes, SIZE, "out", np.zeros(RESULT, np.float32)),
        (input, boxes, SIZE, "out", there(np.zeros(RESULT, np.float32))),
        (input, there(boxes), SIZE, "boxes", None),
        (input, [PARTS[0], there(PARTS[1])], SIZE, "boxes", None),
    ]:
        *arguments, name, out = arguments
        with pytest.raises(TypeError, match=f"^{name} {library}"):
            operator.function(*arguments, out=out)
    with pytest.raises(TypeError, match=r"^batch_indices must be in host memory as input is, got "):
        operator.function(input, boxes[:, 1:], SIZE, batch_indices=there(boxes[:, 0]))
    for mixed in ((there(upstream), input), (upstream, there(input))):
        with pytest.raises(TypeError, match=f"^grad_output {library}"):
            operator.backward(*mixed, boxes)
    if "max" in operator.reductions:
        names = np.full(RESULT, -1)
        with pytest.raises(TypeError, match=f"^argmax {library}"):
            operator.backward(
                there(upstream), there(input), there(boxes), argmax=names,
                **operator.reductions["max"],
            )  # fmt: skip
    assert not called.names


@EVERY_OPERATOR
def test_another_device(operator):
    """Everything is where the input is, which is current during the call and not after."""
    input, upstream = there(features(), 1), there(gradient(), 1)
    expected = operator.function(features(), BOXES, SIZE)
    for boxes in (there(BOXES, 1), there(PARTS, 1), BOXES, [part.tolist() for part in PARTS]):
        found = operator.function(input, boxes, SIZE)
        on_host = [plain(part) for part in boxes] if type(boxes) is list else plain(boxes)
        assert_same(found, operator.function(features(), on_host, SIZE), device=1)
    wanted = operator.backward(gradient(), features(), BOXES)
    assert_all_same(operator.backward(upstream, input, there(BOXES, 1)), wanted, device=1)
    elsewhere = r"must be on CUDA device 1 as input is, got one on CUDA device 0$"
    calls = {
        "boxes": (operator.function, (input, there(BOXES), SIZE), {}),
        "out": (operator.function, (input, BOXES, SIZE), {"out": there(expected)}),
        "grad_output": (operator.backward, (there(gradient()), input, BOXES), {}),
        "batch_indices": (
            operator.function,
            (input, BOXES[:, 1:], SIZE),
            {"batch_indices": there(BOXES[:, 0])},
        ),
    }
    for name, (function, arguments, options) in calls.items():
        with pytest.raises(TypeError, match=f"^{name} {elsewhere}"):
            function(*arguments, **options)
        assert machine.device == 0


def off_by_a_byte(array):
    memory = np.zeros(array.nbytes + array.itemsize, np.uint8)
    start = 1 + -memory.ctypes.data % array.itemsize
    moved = memory[start:][: array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return ndarray.over(moved)


def in_records(array):
    records = np.zeros(array.shape, [("tag", np.uint8), ("value", array.dtype)])
    return ndarray.over(records["value"])


@pytest.mark.parametrize("spoiled", [off_by_a_byte, in_records])
@EVERY_OPERATOR
def test_arrays_no_gpu_can_read(operator, spoiled):
    out = np.zeros(RESULT, np.float32)
    good = {"input": features(), "boxes": BOXES, "out": out}
    for name, array in good.items():
        call = {other: there(value) for other, value in good.items()} | {name: spoiled(array)}
        words = f"^{name} must lie at whole multiples of its item's size of 4 bytes on a device"
        with pytest.raises(ValueError, match=words):
            operator.function(output_size=SIZE, **call)
    with pytest.raises(ValueError, match=r"^grad_output must lie at whole multiples"):
        operator.backward(spoiled(gradient()), there(features()), there(BOXES))
    assert not called.names


REFUSED = {
    "complex map": ("input", features().astype(np.complex64), TypeError, "got complex64"),
    "map of three axes": ("input", features()[0], ValueError, r"\(N, C, H, W\), got"),
    "big-endian map": ("input", features().astype(">f4"), TypeError, "order of bytes"),
    "bool boxes": ("boxes", BOXES > 0, TypeError, "a float or integer dtype, got bool"),
    "boxes of three": ("boxes", BOXES[:, :3], ValueError, r"shape \(K, 5\)"),
    "list too short": ("boxes", PARTS[:1], ValueError, "a list of 2 arrays"),
    "ragged numbers": ("boxes", [[[1, 2], [3]], []], ValueError, "a ragged list"),
    "words": ("boxes", [[["a", 1, 1, 1]], []], TypeError, "a float or integer dtype, got <U"),
    "no array": ("boxes", 5, TypeError, "be an array, got int"),
}


@pytest.mark.parametrize(("name", "array", "error", "words"), REFUSED.values(), ids=REFUSED)
@EVERY_OPERATOR
def test_refused(operator, name, array, error, words):
    call = {"input": there(features()), "boxes": there(BOXES)}
    for given in (array, there(array)) if isinstance(array, np.ndarray) else (array,):
        if name == "input" and given is array:
            continue
        with pytest.raises(error, match=f"^{name}(\\[0\\])? must .*{words}"):
            operator.function(output_size=SIZE, **call | {name: given})


# ---- how gradients are added ---------------------------------------------------------------


@MATRIX
def test_deterministic(operator, reduction):
    """The engine is told; the host need not care."""
    options = operator.reductions[reduction]
    expected = operator.backward(gradient(), features(), BOXES, **options)
    for wanted in (True, False):
        found = operator.backward(gradient(), features(), BOXES, deterministic=wanted, **options)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        called.names.clear(), called.options.clear()
        operator.backward(
            there(gradient()), there(features()), there(BOXES), deterministic=wanted, **options
        )
        asked = dict(zip(called.names, called.options, strict=True))
        way = asked.get("to_map_of_mean") or asked["at_winners"]
        assert way == {"deterministic": wanted}
    with pytest.raises(TypeError, match=r"^deterministic must be True or False, got 1"):
        operator.backward(gradient(), features(), BOXES, deterministic=1, **options)


# ---- other libraries -----------------------------------------------------------------------


class Tensor:
    """An array of a library of ours, on a device or not; it speaks DLPack."""

    requires_grad = False

    def __init__(self, array, device=0, dtype=None):
        self.array, self.number = array, device
        self.dtype = dtype or f"its.{array.dtype}"

    @property
    def shape(self):
        return self.array.shape

    def view(self, dtype):
        name = "its.bfloat16" if dtype == "bfloat16" else None
        array = self.array if name else self.array.view(dtype)
        return type(self)(array, self.number, name)

    def __len__(self):
        return len(self.array)

    def __dlpack__(self, stream=None, **options):
        if self.number is None:
            return self.array.__dlpack__(**options)
        assert str(self.dtype) != "its.bfloat16"
        return Capsule(self.array, self.number)

    def __dlpack_device__(self):
        return (1, 0) if self.number is None else (2, self.number)


def its_own(number):
    """A library's from_dlpack, which makes its stream wait for ours."""

    def from_dlpack(array):
        if isinstance(array, np.ndarray):
            return sys.modules[number].Tensor(array, None)
        assert type(array) is ndarray
        capsule = array.__dlpack__(stream=machine.streams[array._device].ptr or 1)
        return sys.modules[number].Tensor(capsule.array, capsule.device)

    return from_dlpack


@pytest.fixture
def library(monkeypatch):
    """Make a library with tensors on devices: torch, or one whose streams nobody knows."""

    def make(name):
        module = types.ModuleType(name)
        module.Tensor = type("Tensor", (Tensor,), {"__module__": name})
        module.int16, module.bfloat16 = np.dtype(np.int16), "bfloat16"
        module.from_dlpack = its_own(name)
        module.streams = [types.SimpleNamespace(cuda_stream=70 + i) for i in range(2)]
        module.cuda = types.SimpleNamespace(current_stream=lambda number: module.streams[number])
        module.allocated = []

        class UntypedStorage:
            def __init__(self, size, device):
                self.memory = np.full(size + 1, 0x7B, np.uint8)
                module.allocated.append((size, device))

            def data_ptr(self):
                return self.memory.ctypes.data

        module.UntypedStorage = UntypedStorage
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


@pytest.mark.parametrize("name", ["torch", "its"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8], ids=ids)
@MATRIX
def test_dlpack(library, operator, reduction, dtype, name):
    """A library's arrays in and out, forward and back."""
    its = library(name)
    input, upstream = features(dtype), gradient(dtype)
    expected = results(operator, reduction, input, BOXES, SIZE)
    found = results(operator, reduction, its.Tensor(input), its.Tensor(BOXES), SIZE)
    options = operator.reductions[reduction]
    expected += operator.backward(upstream, input, BOXES, **options)
    found += operator.backward(
        its.Tensor(upstream), its.Tensor(input), its.Tensor(BOXES), **options
    )
    for tensor, wanted in zip(found, expected, strict=True):
        assert type(tensor) is its.Tensor
        assert tensor.number == 0
        assert tensor.array.dtype == wanted.dtype
        np.testing.assert_array_equal(bits(tensor.array), bits(wanted))
    assert (machine.waits, machine.copies) == (0, 0)


@pytest.mark.parametrize("name", ["torch", "its"])
@EVERY_OPERATOR
def test_dlpack_of_bfloat16(library, operator, name):
    its = library(name)
    input = features(ml_dtypes.bfloat16)
    expected = operator.function(input, BOXES, SIZE)
    tensor = its.Tensor(input.view(np.int16), dtype="its.bfloat16")
    found = operator.function(tensor, its.Tensor(BOXES), SIZE)
    assert type(found) is its.Tensor
    assert found.dtype == "its.bfloat16"
    np.testing.assert_array_equal(found.array, expected.view(np.int16))


@EVERY_OPERATOR
def test_torch_stream_and_memory(library, operator):
    """One stream, torch's, and all memory from it."""
    torch = library("torch")
    for number in (0, 1):
        machine.exchanges.clear(), called.streams.clear(), torch.allocated.clear()
        input, boxes = torch.Tensor(features(), number), torch.Tensor(BOXES, number)
        found = operator.function(input, boxes, SIZE)
        assert found.number == number
        assert set(machine.exchanges) == set(called.streams) == {70 + number}
        assert torch.allocated == [(found.array.nbytes, f"cuda:{number}")]
        assert machine.device == 0
        torch.allocated.clear()
        operator.backward(torch.Tensor(gradient(), number), input, boxes)
        assert set(called.streams) == {70 + number}
        assert all(device == f"cuda:{number}" for _, device in torch.allocated)
        with pytest.raises(ValueError, match="grad_output must have shape"):
            operator.backward(torch.Tensor(gradient()[1:], number), input, boxes)


@EVERY_OPERATOR
def test_tensors_elsewhere(library, operator):
    """On the host, or on another device, or of CuPy."""
    torch = library("torch")
    input = torch.Tensor(features())
    expected = operator.function(features(), BOXES, SIZE)
    for boxes in (torch.Tensor(BOXES, None), BOXES):
        found = operator.function(input, boxes, SIZE)
        np.testing.assert_array_equal(found.array, expected)
    _, found = operator.backward(torch.Tensor(gradient()), input, torch.Tensor(BOXES, None))
    assert type(found) is torch.Tensor
    assert found.number is None
    np.testing.assert_array_equal(found.array, operator.backward(gradient(), features(), BOXES)[1])
    out = np.zeros(RESULT, np.float32)
    here = "must be on CUDA device 0 as input is, got"
    for arguments, options, words in [
        ((input, torch.Tensor(BOXES, 1), SIZE), {}, f"boxes {here} one on device 1"),
        ((input, there(BOXES), SIZE), {}, "boxes must come from the library of input or NumPy"),
        (
            (input, BOXES, SIZE),
            {"out": torch.Tensor(out, None)},
            f"out {here} a torch array in host memory",
        ),
        ((input, BOXES, SIZE), {"out": there(out)}, "out must come from the library of input"),
        (
            (torch.Tensor(features(), None), torch.Tensor(BOXES), SIZE),
            {},
            "boxes must be in host memory as input is, got a torch array on a device",
        ),
    ]:
        with pytest.raises(TypeError, match=f"^{words}"):
            operator.function(*arguments, **options)
    assert not out.any()


@pytest.mark.parametrize("argument", ["input", "boxes", "out", "grad_output"])
@EVERY_OPERATOR
def test_recorded_tensors(library, operator, argument):
    torch = library("torch")
    call = {"input": torch.Tensor(features()), "boxes": torch.Tensor(BOXES)}
    function = operator.function
    if argument == "grad_output":
        function, call["grad_output"] = operator.backward, torch.Tensor(gradient())
    else:
        call["output_size"] = SIZE
        call["out"] = torch.Tensor(np.zeros(RESULT, np.float32))
    call[argument].requires_grad = True
    words = rf"^{argument} must not require grad here.*detach\(\).*roi_numba\.torch"
    with pytest.raises(TypeError, match=words):
        function(**call)


@EVERY_OPERATOR
def test_arrays_are_held_until_kernels_have_read_them(library, operator):
    """Of a library whose streams we do not know."""
    its = library("its")
    lent = sys.modules.get("roi_numba._cuda.arrays")
    operator.function(there(features()), there(BOXES), SIZE)
    lent = sys.modules["roi_numba._cuda.arrays"]._lent
    assert not lent
    operator.function(its.Tensor(features()), its.Tensor(BOXES), SIZE)
    ((event, arrays),) = lent
    assert [array.shape for array in arrays] == [SHAPE, BOXES.shape]
    assert machine.streams[0].events == [event]
    operator.function(its.Tensor(features()), BOXES, SIZE)
    assert len(lent) == 2
    event.done = True
    operator.function(its.Tensor(features(), 1), its.Tensor(BOXES, 1), SIZE)
    assert len(lent) == 2
    assert machine.streams[1].events == [lent[-1][0]]
    for event, _ in lent:
        event.done = True
    operator.function(its.Tensor(features(), 1), its.Tensor(BOXES, 1), SIZE)
    assert len(lent) == 1


@EVERY_OPERATOR
def test_jax_arrays_are_not_written_to(library, operator):
    jax = library("jax")
    out = jax.Tensor(np.zeros(RESULT, np.float32))
    with pytest.raises(ValueError, match=r"^out must be writeable, got a read-only array"):
        operator.function(jax.Tensor(features()), BOXES, SIZE, out=out)


class OnTPU(Tensor):
    """Its device is no GPU."""

    def __dlpack_device__(self):
        return 8, 0


@EVERY_OPERATOR
def test_devices_of_another_kind(operator):
    words = r"^input must be in host memory or on a CUDA device, got .* of another kind \(8\)"
    with pytest.raises(TypeError, match=words):
        operator.function(OnTPU(features()), BOXES, SIZE)


def test_without_cupy(monkeypatch):
    """What is missing is named, and how to get it."""
    (operator,) = (operator for operator in OPERATORS if operator.name == "roi_align")
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = r"^input must be in host memory, got a test_cuda_arrays array on a device: a sentence"
    with pytest.raises(ImportError, match=words):
        operator.function(Tensor(features()), BOXES, SIZE)


# ---- with kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["calls", "pyramid"])
@EVERY_OPERATOR
def test_with_simulated_kernels(operator, what):
    """The whole way, from the public function to the kernels and back."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: extra cuda13")
    code = f"import simulated_calls; simulated_calls.{what}({operator.name!r})"
    run(code, timeout=600, NUMBA_ENABLE_CUDASIM=1, NUMBA_DISABLE_JIT=1)
