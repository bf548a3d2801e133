"""Calls on a device's arrays, with stand-ins for CuPy and the engine: everything but kernels."""

import numpy as np
import pytest

import on_stand_in
from arrays import BOXES, EVERY_OPERATOR, GUARD, MATRIX, SHAPE, SIZE, features, results
from device_stand_in import machine, ndarray, plain
from on_stand_in import DTYPES, FLOATS, PARTS, RESULT, assert_all_same, assert_same, gradient, there
from operators import MAXIMA, ids
from roi_numba import _derivatives, _op
from strategies import LAYOUTS, values
from subprocesses import run

called = on_stand_in.called

EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=ids)
EVERY_MAXIMUM = pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)

# ---- results -------------------------------------------------------------------------------


@EVERY_DTYPE
@MATRIX
def test_forward(called, operator, reduction, dtype):
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
def test_backward_from_named_winners(called, operator, reduction):
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
def test_host_and_device_do_not_mix(called, operator):
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
def test_arrays_no_gpu_can_read(called, operator, spoiled):
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
def test_deterministic(called, operator, reduction):
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


# ---- with kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["calls", "pyramid"])
@EVERY_OPERATOR
def test_with_simulated_kernels(operator, what):
    """The whole way, from the public function to the kernels and back."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: extra cuda13")
    code = f"import simulated_calls; simulated_calls.{what}({operator.name!r})"
    run(code, timeout=600, NUMBA_ENABLE_CUDASIM=1, NUMBA_DISABLE_JIT=1)
