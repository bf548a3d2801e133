"""On a GPU: the operators against the reference and the CPU's engine, and what only a GPU shows.

``pytest -m gpu``; elsewhere all of this is skipped.
"""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrays import BOXES, SIZE, bits, features
from on_device import (
    EVERY_OPERATOR,
    MATRIX,
    MAXIMA,
    MEANS,
    cupy,
    fetched,
    on_device,
)
from operators import ids
from strategies import (
    FLOATS,
    HUGE,
    INTEGERS,
    LAYOUTS,
    Call,
    as_boxes,
    calls,
    exact_calls,
    specials,
    values,
)
from test_backward import AXES, assert_gradients, draw_call, with_winners
from test_forward import assert_close, run, tolerance
from thread_scenarios import draw_boxes

pytestmark = pytest.mark.gpu

SPIN = cupy.RawKernel(
    """
    extern "C" __global__ void spin(long long cycles) {
        long long start = clock64();
        while (clock64() - start < cycles);
    }
    """,
    "spin",
)
A_WHILE = np.int64(400_000_000)  # a fifth of a second and more


def spin():
    """Keep the current stream busy."""
    SPIN((1,), (1,), (A_WHILE,))


def assert_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(bits(fetched(one)), bits(fetched(other)))


def all_on_device(*arrays):
    return [on_device(array) for array in arrays]


def smooth_call(dtype=np.float32, boxes=200, channels=37):
    """Many boxes over each other on two maps; 37 channels are no whole vectors of 16 bytes."""
    map = values(3, (2, channels, 40, 50), dtype)
    return Call(map, draw_boxes(boxes, 2, 640), (7, 5), 1 / 16)


def upstream(call):
    bins = call.output_size if np.ndim(call.output_size) else (call.output_size,) * 2
    dtype = call.input.dtype if call.input.dtype.kind in "fV" else np.dtype(np.float32)
    return values(4, (len(call.boxes), call.input.shape[1], *bins), dtype.type)


# ---- the table of operators ----------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [*([d] for d in FLOATS), INTEGERS], ids=lambda d: ids(d[0]))
@MATRIX
@settings(max_examples=10)
@given(data=st.data())
def test_forward(operator, reduction, dtypes, data):
    call = data.draw(calls(data.draw(st.sampled_from(dtypes))))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    expected = operator.reference(*call, **options)
    output = run(operator, call, data.draw(AXES), **options)
    assert_close(output, expected, tolerance(call, expected))


@pytest.mark.parametrize("dtypes", [*([d] for d in FLOATS), INTEGERS], ids=lambda d: ids(d[0]))
@MATRIX
@settings(max_examples=10)
@given(data=st.data())
def test_backward(operator, reduction, dtypes, data):
    call, options = draw_call(data, operator, reduction, data.draw(st.sampled_from(dtypes)))
    assert_gradients(operator, call, data.draw(AXES), **options)


@MAXIMA
@settings(max_examples=20)
@given(data=st.data())
def test_first_maximum(operator, reduction, data):
    """Where nothing is rounded the winners are the reference's: ties, NaN and all."""
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.uint8]))
    call = data.draw(exact_calls(dtype, operator.exact_sizes))
    if data.draw(st.booleans()) and call.input.dtype.kind == "f":
        data.draw(specials(call.input))
    options = operator.reductions[reduction] | data.draw(operator.draw_options(exact=True))
    output, argmax = run(operator, call, data.draw(AXES), return_argmax=True, **options)
    expected, first = operator.reference(*call, return_argmax=True, **options)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(argmax, first)


@MATRIX
@settings(max_examples=10)
@given(data=st.data())
def test_nan_and_infinity(operator, reduction, data):
    call = data.draw(calls(np.float32, layouts=["contiguous"]))
    data.draw(specials(call.input))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    expected = operator.reference(*call, **options)
    assert_close(run(operator, call, **options), expected, tolerance(call, expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_huge_boxes(operator, reduction, dtype, rng):
    map = rng.normal(size=(1, 3, 5, 6)).astype(dtype)
    sides = [*HUGE, (1.0, 4.0)]
    boxes = as_boxes([(0, *x, *y) for x in sides for y in sides], dtype)[:, [0, 1, 3, 2, 4]]
    call = Call(map, boxes, 2, 1.0)
    for options in operator.all_options():
        options = operator.reductions[reduction] | options
        expected = operator.reference(*call, **options)
        assert_close(run(operator, call, **options), expected, tolerance(call, expected))


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_equals_the_cpu(operator, reduction, channel_axis, dtype):
    """A larger call, both ways; a unit in the last place of 16 bits, else a few of float32."""
    call = smooth_call(dtype)
    options = operator.reductions[reduction]
    expected = run(operator.of, call, channel_axis, **options)
    found = run(operator, call, channel_axis, **options)
    unit = float(ml_dtypes.finfo(dtype).eps)
    allowed = 2e-5 * np.abs(expected.astype(float)).max() * max(1, unit / 1e-5)
    assert_close(found, expected.astype(np.float64), allowed)
    options = with_winners(operator, call, dict(options))
    gradient = upstream(call)
    axis = {"channel_axis": channel_axis}
    if "argmax" in options:
        options["argmax"] = np.moveaxis(options["argmax"], 1, channel_axis)
    arguments = (
        np.moveaxis(gradient, 1, channel_axis),
        np.moveaxis(call.input, 1, channel_axis),
        *call[1:2],
        call.spatial_scale,
    )
    expected = operator.of.backward(*arguments, **options, **axis)
    found = operator.backward(*arguments, **options, **axis)
    for actual, wanted in zip(found, expected, strict=True):
        unit = float(ml_dtypes.finfo(actual.dtype).eps)
        wanted = wanted.astype(np.float64)
        allowed = 1e-4 * max(np.abs(wanted).max(), 1e-3) * max(1, unit / 5e-5)
        assert_close(actual, wanted, allowed)


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MEANS
def test_channels_in_vectors(operator, reduction, dtype):
    """16 bytes at a time or one by one, it is the same; and what the CPU says, nearly."""
    call = smooth_call(dtype, channels=41)
    maps = np.moveaxis(call.input, 1, -1).copy()[..., :40]  # vectors here do not lie at multiples
    one_by_one, vectors = (
        operator.function(each, *call[1:], channel_axis=-1, **operator.reductions[reduction])
        for each in (maps, maps.copy())
    )
    assert_same_bits([vectors], [one_by_one])
    call = call._replace(input=call.input[:, :40])
    expected = run(operator.of, call, -1, **operator.reductions[reduction]).astype(np.float64)
    unit = float(ml_dtypes.finfo(dtype).eps)
    allowed = 2e-5 * np.abs(expected).max() * max(1, unit / 1e-5)
    assert_close(np.moveaxis(vectors, -1, 1), expected, allowed)


@pytest.mark.parametrize("layout", LAYOUTS)
@MATRIX
def test_layout_changes_no_bit(operator, reduction, layout):
    map = LAYOUTS[layout](features())
    options = operator.reductions[reduction]
    plain = Call(np.array(map, order="C"), BOXES, SIZE, 1.0)
    expected = run(operator, plain, **options)
    for axis in (1, -1):
        found = run(operator, plain._replace(input=map), axis, **options)
        np.testing.assert_array_equal(bits(found), bits(expected))


# ---- boxes and results ---------------------------------------------------------------------


@EVERY_OPERATOR
def test_forms_of_boxes(operator):
    expected = operator.function(features(), BOXES, SIZE)
    order = np.argsort(BOXES[:, 0], kind="stable")
    parts = [BOXES[BOXES[:, 0] == i, 1:] for i in range(2)]
    map = on_device(features())
    for boxes, options, wanted in [
        (BOXES, {}, expected),
        (on_device(parts), {}, expected[order]),
        (parts, {}, expected[order]),
        (on_device(BOXES[:, 1:]), {"batch_indices": on_device(BOXES[:, 0])}, expected),
        (on_device(BOXES[:, 1:]), {"batch_indices": BOXES[:, 0].astype(int)}, expected),
        (on_device(BOXES[:, 1:]), {"batch_indices": on_device(BOXES[:, 0].astype("u1"))}, expected),
    ]:
        found = operator.of.function(map, boxes, SIZE, **options)
        np.testing.assert_array_equal(fetched(found), wanted)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.int32):
        boxes = BOXES.astype(dtype)
        wide = boxes.astype(np.float64 if dtype == np.int32 else np.float32)
        np.testing.assert_array_equal(
            operator.function(features(), boxes, SIZE), operator.function(features(), wide, SIZE)
        )
        _, gradient = operator.backward(np.ones_like(expected), features(), boxes)
        assert gradient.dtype == (np.float64 if dtype == np.int32 else dtype)
    _, gradient = operator.of.backward(on_device(np.ones_like(expected)), map, BOXES)
    assert type(gradient) is np.ndarray


@EVERY_OPERATOR
def test_out(operator):
    expected = operator.function(features(), BOXES, SIZE)
    memory = cupy.full([2 * n + 1 for n in expected.shape], 77, np.float32)
    out = memory[1::2, 1::2, 1::2, 1::2]
    assert operator.of.function(on_device(features()), on_device(BOXES), SIZE, out=out) is out
    np.testing.assert_array_equal(fetched(out), expected)
    assert int((memory != 77).sum()) == np.count_nonzero(expected != 77)


BAD = [
    (np.nan, 1, 1, 5, 5),
    (-1, 1, 1, 5, 5),
    (2, 1, 1, 5, 5),
    (0.5, 1, 1, 5, 5),
    (1e30, 1, 1, 5, 5),
    (-np.inf, 1, 1, 5, 5),
    (2**40, 1, 1, 5, 5),
    (0, np.nan, 1, 5, 5),
    (1, 1, np.inf, 5, 5),
    (1, 1, 1, -np.inf, 5),
    (0, 1, 1, 5, np.nan),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_bad_boxes(operator, reduction, dtype):
    """They give zeros and no gradient, and touch nothing of the others'."""
    good = BOXES.astype(dtype)
    rows = np.array([row for box in good for row in (*BAD, tuple(box))], dtype)
    places = slice(len(BAD), None, len(BAD) + 1)
    rest = np.ones(len(rows), bool)
    rest[places] = False
    options = operator.reductions[reduction]
    call = Call(features(), rows, SIZE, 1.0)
    found = run(operator, call, **options)
    np.testing.assert_array_equal(
        found[places], run(operator, call._replace(boxes=good), **options)
    )
    assert not found[rest].any()
    gradient = values(2, found.shape, np.float32)
    to_map, to_boxes = operator.backward(gradient, features(), rows, **options)
    wanted = operator.backward(gradient[places], features(), good, **options)
    np.testing.assert_array_equal(to_map, wanted[0])
    np.testing.assert_array_equal(to_boxes[places], wanted[1])
    assert not to_boxes[rest].any()
    with pytest.raises((ValueError, IndexError)):
        operator.function(features(), rows, SIZE, check_boxes=True, **options)


@MAXIMA
def test_winners_that_cannot_be(operator, reduction):
    """None is followed into memory."""
    names = np.array([-(2**63), -2, 10**5, 2**31, 2**32 + 5, 10**18, 2**63 - 1])
    gradient = values(2, (4, 19, *SIZE), np.float32)
    argmax = np.resize(names, gradient.shape)
    options = operator.reductions[reduction] | {"argmax": argmax}
    to_map, to_boxes = operator.backward(gradient, features(), BOXES, **options)
    assert np.isfinite(to_map).all()
    assert np.isfinite(to_boxes).all()
    cupy.cuda.Device().synchronize()


# ---- the same bits -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MATRIX
def test_every_run_gives_the_same_bits(operator, reduction, dtype):
    call = smooth_call(dtype)
    map, boxes, gradient = all_on_device(call.input, call.boxes, upstream(call))
    options = operator.reductions[reduction]
    rest = call.output_size, call.spatial_scale

    def everything():
        yield operator.of.function(map, boxes, *rest, **options)
        yield from operator.of.backward(gradient, map, boxes, call.spatial_scale, **options)

    expected = list(everything())
    for _ in range(5):
        assert_same_bits(everything(), expected)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        found = list(everything())
        stream.synchronize()
    assert_same_bits(found, expected)


@MATRIX
def test_not_deterministic(operator, reduction):
    """Sums in any order are close to those in order."""
    call = smooth_call()
    gradient, options = upstream(call), operator.reductions[reduction]
    arguments = gradient, call.input, call.boxes, call.spatial_scale
    expected = operator.backward(*arguments, **options)
    found = operator.backward(*arguments, deterministic=False, **options)
    for actual, wanted in zip(found, expected, strict=True):
        assert_close(actual, wanted.astype(np.float64), 1e-5 * max(np.abs(wanted).max(), 1e-3))


# ---- streams, graphs, devices --------------------------------------------------------------


def both_ways(operator, reduction, map, boxes, gradient):
    """Every result of a call and of its gradients."""
    options = operator.reductions[reduction]
    named = {} if reduction == "mean" else {"return_argmax": True}
    forward = operator.of.function(map, boxes, SIZE, **options, **named)
    forward = forward if named else (forward,)
    return *forward, *operator.of.backward(gradient, map, boxes, **options)


@MATRIX
def test_nothing_waits(operator, reduction):
    """Calls return while the stream is still busy with what came before, and CuPy sees no wait."""
    allow_synchronize = pytest.importorskip("cupyx").allow_synchronize
    gradient = values(2, (4, 19, *SIZE), np.float32)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = all_on_device(features(), BOXES, gradient)
        parts = [arrays[1][arrays[1][:, 0] == i, 1:] for i in range(2)]
        rows = [arrays[1], parts]
        expected = [both_ways(operator, reduction, arrays[0], r, arrays[2])[0] for r in rows]
        stream.synchronize()  # all is compiled and allocated
        spin()
        with allow_synchronize(False):
            found = [both_ways(operator, reduction, arrays[0], r, arrays[2])[0] for r in rows]
        assert not stream.done
        stream.synchronize()
    assert_same_bits(found, expected)


@MATRIX
def test_current_stream(operator, reduction):
    """It is the one whose earlier work is waited for."""
    gradient = values(2, (4, 19, *SIZE), np.float32)
    arrays = all_on_device(features(), BOXES, gradient)
    expected = both_ways(operator, reduction, *arrays)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = [cupy.zeros_like(array) for array in arrays]
        both_ways(operator, reduction, *late)
        spin()
        for array, value in zip(late, arrays, strict=True):
            array[...] = value
        found = both_ways(operator, reduction, *late)
        stream.synchronize()
    assert_same_bits(found, expected)


@MATRIX
def test_graph(operator, reduction):
    """A captured call reads what is there when it is launched, each time."""
    options = operator.reductions[reduction]
    gradient = values(2, (4, 19, *SIZE), np.float32)
    others = features()[::-1].copy(), BOXES[::-1].copy(), gradient[::-1].copy()
    expected = both_ways(operator, reduction, *all_on_device(*others))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = all_on_device(features(), BOXES, gradient)
        out = cupy.zeros((4, 19, *SIZE), np.float32)
        for _ in range(2):  # the second with memory that is there
            both_ways(operator, reduction, *arrays)
        operator.of.function(*arrays[:2], SIZE, out=out, **options)
        stream.synchronize()
        stream.begin_capture()
        try:
            operator.of.function(*arrays[:2], SIZE, out=out, **options)
            found = both_ways(operator, reduction, *arrays)
        finally:
            graph = stream.end_capture()
        for _ in range(2):
            for array in (*found, out):
                array[...] = 0
            for array, value in zip(arrays, others, strict=True):
                array.set(value)
            graph.launch()
        stream.synchronize()
    assert_same_bits(found, expected)
    assert_same_bits([out], expected[:1])


needs_two = pytest.mark.skipif(
    cupy.cuda.runtime.getDeviceCount() < 2, reason="there is only one CUDA device"
)


@needs_two
@MATRIX
def test_two_devices(operator, reduction):
    gradient = values(2, (4, 19, *SIZE), np.float32)
    expected = fetched(both_ways(operator, reduction, *all_on_device(features(), BOXES, gradient)))
    with cupy.cuda.Device(1):
        arrays = all_on_device(features(), BOXES, gradient)
    found = both_ways(operator, reduction, *arrays)
    assert cupy.cuda.runtime.getDevice() == 0
    assert all(array.device.id == 1 for array in found)
    with cupy.cuda.Device(1):
        found = fetched(found)
    assert_same_bits(found, expected)
    words = r"^boxes must be on CUDA device 1 as input is, got one on CUDA device 0$"
    with pytest.raises(TypeError, match=words):
        operator.of.function(arrays[0], on_device(BOXES), SIZE)


# ---- large arrays --------------------------------------------------------------------------


@pytest.fixture
def room():
    """Skips a test that needs more memory than is free; frees what it used."""
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()

    def needs(gigabytes):
        if cupy.cuda.Device().mem_info[0] < gigabytes * 2**30:
            pytest.skip(f"there are no {gigabytes} GiB of free device memory")

    yield needs
    pool.free_all_blocks()


CROP = 64
"""The size of what a large map holds at its far end; the rest is zero."""

SIDE, SIDE_BACK, MANY = 40_000, 30_000, 60_000
"""Pixels of a side of three maps, forward and back, and boxes of 50 176 bins."""


def at_the_end(side, image):
    """Boxes in the last pixels of an image: rows for the whole map, and for its last crop."""
    corners = np.array(
        [(8.0, 9.5, 40.25, 50.0), (30.0, 20.0, 63.0, 63.0), (40.5, 40.5, 70.0, 70.0)]
    )
    numbers = np.zeros((3, 1))
    return np.hstack([numbers + image, corners + (side - CROP)]), np.hstack([numbers, corners])


@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_maps_of_more_than_32_bits(operator, reduction, channel_axis, room):
    """The last pixels of 4.8e9."""
    room(8)
    crop = values(5, (1, 1, CROP, CROP), np.uint8)
    whole = cupy.zeros((3, 1, SIDE, SIDE), np.uint8)
    whole[2, 0, -CROP:, -CROP:] = cupy.asarray(crop[0, 0])
    boxes, there = at_the_end(SIDE, 2)
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 2
    shape = (3, 1, SIDE, SIDE) if channel_axis == 1 else (3, SIDE, SIDE, 1)
    found = operator.of.function(whole.reshape(shape), on_device(boxes), 3, **options)
    expected = operator.of.function(np.moveaxis(crop, 1, channel_axis), there, 3, **options)
    np.testing.assert_allclose(fetched(found), expected, rtol=1e-5, atol=1e-3)


@MATRIX
def test_gradients_of_maps_of_more_than_32_bits(operator, reduction, room):
    room(40)
    crop = values(5, (1, 1, CROP, CROP), np.float16)
    whole = cupy.zeros((3, 1, SIDE_BACK, SIDE_BACK), np.float16)
    whole[2, 0, -CROP:, -CROP:] = cupy.asarray(crop[0, 0])
    boxes, there = at_the_end(SIDE_BACK, 2)
    options = dict(operator.reductions[reduction])
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 2
    gradient = values(6, (3, 1, 2, 2), np.float16)
    expected = operator.of.backward(gradient, crop, there, **options)
    found = operator.of.backward(on_device(gradient), whole, on_device(boxes), **options)
    last = found[0][2, 0, -CROP:, -CROP:]
    np.testing.assert_allclose(fetched(last), expected[0][0, 0], rtol=2e-3, atol=2e-3)
    assert int(cupy.count_nonzero(found[0])) == int(cupy.count_nonzero(last))
    np.testing.assert_allclose(fetched(found[1])[:, 1:], expected[1][:, 1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("channel_axis", [1, -1])
@MATRIX
def test_results_of_more_than_32_bits(operator, reduction, channel_axis, room):
    """The last boxes of 60 000: 3e9 numbers."""
    room(14)
    map = values(7, (2, 1024, 8, 9), np.float16)
    boxes = draw_boxes(MANY, 2, 9)
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 1
    map = np.moveaxis(map, 1, channel_axis)
    found = operator.of.function(on_device(map), on_device(boxes), 7, **options)
    assert found.size == MANY * 1024 * 49
    for some in (slice(0, 3), slice(-3, None)):
        expected = operator.function(map, boxes[some], 7, **options)
        np.testing.assert_array_equal(fetched(found[some]), expected)
