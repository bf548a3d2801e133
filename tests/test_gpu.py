"""On a GPU: the operators against the reference and the CPU's engine.

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
    all_on_device,
    assert_same_bits,
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
