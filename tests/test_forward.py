"""Every operator in every reduction, on every dtype, layout and box, against the reference."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import MAXIMA, MEANS, OPERATORS, REDUCTIONS, ids
from strategies import (
    FLOATS,
    HUGE,
    INTEGERS,
    LAYOUTS,
    SEEDS,
    Call,
    as_boxes,
    calls,
    exact_calls,
    inside_calls,
    large_calls,
    result_dtype,
    specials,
    values,
)

ROI_ALIGN = next(operator for operator in OPERATORS if operator.name == "roi_align")
MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)


def accumulator(dtype):
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def tolerance(call, expected):
    """The error allowed at each output.

    Weights are rounded to the geometry dtype and sums to the accumulator: some 20 roundings, each
    relative to the largest feature a weighted mean can hold. A 16-bit result is then rounded once
    more: half a unit in its last place.
    """
    dtype, boxes = call.input.dtype, call.boxes.dtype
    exact_geometry = boxes == np.float64 or np.issubdtype(boxes, np.integer)
    eps = np.finfo(accumulator(dtype)).eps
    if not exact_geometry:
        eps = max(eps, np.finfo(np.float32).eps)
    features = call.input.astype(np.float64)
    error = 20 * eps * np.abs(features[np.isfinite(features)]).max(initial=0)
    if dtype.itemsize > 2 or result_dtype(dtype) != dtype:
        return error
    info = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(np.where(np.isfinite(expected), np.abs(expected), 0) + error)
    exponent = np.maximum(exponent - 1, info.minexp)
    return error + 0.5 * np.ldexp(float(info.eps), exponent)


def assert_close(actual, expected, allowed):
    """Equal within ``allowed``; infinities and NaN in the same places."""
    actual = actual.astype(np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    error = np.abs(np.where(finite, actual, 0) - np.where(finite, expected, 0))
    excess = error / np.maximum(allowed, np.finfo(np.float64).tiny)
    assert np.isfinite(actual[finite]).all()
    worst = np.unravel_index(excess.argmax(), excess.shape) if excess.size else None
    assert worst is None or excess[worst] <= 1, (
        f"at {tuple(map(int, worst))}: {actual[worst]} instead of {expected[worst]}, "
        f"{excess[worst]:.3g} times the error allowed"
    )


def run(operator, call, channel_axis=1, **options):
    """The operator's output, argmax last where asked for, as (K, C, PH, PW)."""
    features = np.moveaxis(call.input, 1, channel_axis)
    result = operator.function(features, *call[1:], channel_axis=channel_axis, **options)
    if options.get("return_argmax"):
        return tuple(np.moveaxis(array, channel_axis, 1) for array in result)
    return np.moveaxis(result, channel_axis, 1)


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=ids)
@MATRIX
@given(data=st.data())
def test_equals_reference(operator, reduction, dtype, data):
    call = data.draw(calls(dtype))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    output = run(operator, call, data.draw(st.sampled_from([1, -1])), **options)
    expected = operator.reference(*call, **options)
    assert output.shape == expected.shape
    assert output.dtype == result_dtype(call.input.dtype)
    assert_close(output, expected, tolerance(call, expected))


@MATRIX
@given(data=st.data())
def test_layout_changes_no_bit(operator, reduction, data):
    call = data.draw(calls(data.draw(st.sampled_from(FLOATS)), layouts=["contiguous"]))
    layout = data.draw(st.sampled_from(list(LAYOUTS)))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    laid_out = call._replace(input=LAYOUTS[layout](call.input))
    plain = call._replace(input=np.array(laid_out.input, order="C"))
    expected = run(operator, plain, **options)
    for channel_axis in (1, -1):
        output = run(operator, laid_out, channel_axis, **options)
        np.testing.assert_array_equal(output.view("V"), expected.view("V"))


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
@given(data=st.data())
def test_argmax_is_the_first_maximum(operator, reduction, data):
    """Where nothing is rounded, values and winners are the reference's: ties, NaN and all."""
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.uint8]))
    call = data.draw(exact_calls(dtype, operator.exact_sizes))
    if data.draw(st.booleans()) and call.input.dtype.kind == "f":
        data.draw(specials(call.input))
    options = operator.reductions[reduction] | data.draw(operator.draw_options(exact=True))
    axis = data.draw(st.sampled_from([1, -1]))
    output, argmax = run(operator, call, axis, return_argmax=True, **options)
    expected, first = operator.reference(*call, return_argmax=True, **options)
    assert argmax.dtype == np.int64
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(argmax, first)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
@given(data=st.data())
def test_argmax_names_a_maximum(operator, reduction, data):
    """Where rounding may choose between near ties, the winner named has the maximum's value."""
    call = data.draw(calls(np.float32, ties=False))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    output, argmax = run(operator, call, return_argmax=True, **options)
    np.testing.assert_array_equal(output, run(operator, call, **options))
    expected, first = operator.reference(*call, return_argmax=True, **options)
    if operator.name == "roi_pool":
        np.testing.assert_array_equal(argmax, first)
        np.testing.assert_array_equal(output, expected)
    else:
        named = operator.reference(*call, return_argmax=False, at=argmax, **options)
        assert_close(output, named, tolerance(call, named))


@pytest.mark.parametrize("reduce", ["max", "max_corner"])
@pytest.mark.parametrize("side", [2**20, 2**31 - 1, 2**32, 2**33, 2**40, 2**52])
def test_winners_of_grids_of_any_size(reduce, side, rng):
    """Adaptive samples beyond 2**31 an axis, whose product int64 could not number."""
    features = rng.normal(size=(1, 2, 3, 2))
    far, near = (-side / 2, side / 2), (0.25, 1.75)
    boxes = np.array([[0, x1, y1, x2, y2] for x1, x2 in (far, near) for y1, y2 in (far, near)])
    call = Call(features, boxes, (2, 1), 1.0)
    output, argmax = run(ROI_ALIGN, call, reduce=reduce, return_argmax=True)
    expected, first = ROI_ALIGN.reference(*call, reduce=reduce, return_argmax=True)
    np.testing.assert_array_equal(argmax, first)
    assert_close(output, expected, tolerance(call, expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
@given(data=st.data())
def test_nan_and_infinity_reach_the_bins_that_weigh_them(operator, reduction, dtype, data):
    call = data.draw(calls(dtype, layouts=["contiguous"]))
    data.draw(specials(call.input))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    output, expected = run(operator, call, **options), operator.reference(*call, **options)
    assert_close(output, expected, tolerance(call, expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_huge_boxes_equal_reference(operator, reduction, dtype, rng):
    """Every pair of huge sides, with every option: the mapping to integers must not wrap."""
    features = rng.normal(size=(1, 3, 5, 6)).astype(dtype)
    sides = [*HUGE, (1.0, 4.0)]
    boxes = as_boxes([(0, *x, *y) for x in sides for y in sides], dtype)[:, [0, 1, 3, 2, 4]]
    for options in operator.all_options():
        call = Call(features, boxes, 2, 1.0)
        options = operator.reductions[reduction] | options
        expected = operator.reference(*call, **options)
        assert_close(run(operator, call, **options), expected, tolerance(call, expected))


@MATRIX
def test_small_bins_keep_their_digits(operator, reduction, rng):
    """Bins of 1/200 pixel across the map's edges and its first pixels, in float32."""
    start = np.arange(-1.1, 2.2, 0.1)
    boxes = as_boxes(np.stack([0 * start, start, start, start + 0.03, start + 0.02], 1), np.float32)
    call = Call(rng.normal(size=(1, 2, 3, 2)).astype(np.float32), boxes, 5, 1.0)
    for options in operator.all_options():
        options = operator.reductions[reduction] | options
        expected = operator.reference(*call, **options)
        assert_close(run(operator, call, **options), expected, tolerance(call, expected))


@MATRIX
@settings(max_examples=4)
@given(data=st.data())
def test_large_maps_equal_reference(operator, reduction, data):
    """Maps of more pixels than any scratch memory, boxes that cover them."""
    call = data.draw(large_calls())
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    expected = operator.reference(*call, **options)
    for channel_axis in (1, -1):
        output = run(operator, call, channel_axis, **options)
        assert_close(output, expected, tolerance(call, expected))


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
@pytest.mark.parametrize("channel_axis", [1, -1])
def test_rows_that_cannot_be_used_give_zeros(operator, channel_axis, rng):
    rows = [
        (0, np.nan, 1, 4, 4),
        (0, 1, 1, 4, np.inf),
        (0, 1, -np.inf, 4, 4),
        (-1, 1, 1, 4, 4),
        (2, 1, 1, 4, 4),
        (0.5, 1, 1, 4, 4),
        (np.nan, 1, 1, 4, 4),
        (1e30, 1, 1, 4, 4),
        (1, 1, 1, 4, 4),
    ]
    features = rng.normal(size=(2, 19, 6, 7)).astype(np.float32)
    for reduction, options in operator.reductions.items():
        call = (np.moveaxis(features, 1, channel_axis), np.array(rows, np.float32), (2, 3))
        options = {**options, "check_boxes": False, "channel_axis": channel_axis}
        output = operator.function(*call, **options)
        assert (output[:-1] == 0).all()
        assert (output[-1] != 0).any()
        if reduction != "mean":
            _, argmax = operator.function(*call, return_argmax=True, **options)
            assert (argmax[:-1] == -1).all()
            assert (argmax[-1] != -1).any()


@pytest.mark.parametrize("shape", [(2, 0, 5, 5), (2, 3, 0, 5), (2, 3, 5, 0), (2, 3, 0, 0)])
@MATRIX
def test_empty_maps_give_zeros(operator, reduction, shape):
    boxes = as_boxes([(0, 1, 1, 4, 4), (1, -1, -1, 0, 0), (1, 0, 0, 0, 0)], np.float32)
    options = operator.reductions[reduction]
    for n_boxes in (0, 3):
        output = operator.function(np.ones(shape, np.float32), boxes[:n_boxes], (2, 3), **options)
        assert output.shape == (n_boxes, shape[1], 2, 3)
        assert not output.any()
        if reduction != "mean":
            _, argmax = operator.function(
                np.ones(shape), boxes[:n_boxes], (2, 3), return_argmax=True, **options
            )
            assert (argmax == -1).all()


@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
@given(data=st.data())
def test_means_are_linear(operator, reduction, data):
    call = data.draw(calls(np.float64))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    other = values(data.draw(SEEDS), call.input.shape, np.float64)
    mixed = run(operator, call._replace(input=2 * call.input - 3 * other), **options)
    parts = 2 * run(operator, call, **options)
    parts -= 3 * run(operator, call._replace(input=other), **options)
    np.testing.assert_allclose(mixed, parts, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("operator", "reduction"), [row for row in REDUCTIONS if row[1] != "max_corner"], ids=ids
)
@given(data=st.data())
def test_constant_maps_stay_constant(operator, reduction, data):
    call = data.draw(inside_calls())
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    call = call._replace(input=np.full_like(call.input, 3.7))
    output = run(operator, call, **options)
    if options.get("bins") == "truncate":  # bins beyond the box are empty
        output = output[output != 0]
    np.testing.assert_allclose(output, 3.7, rtol=1e-14)


@MATRIX
@given(data=st.data())
def test_moving_box_and_map_by_whole_cells_changes_nothing(operator, reduction, data):
    """Up to the rounding of positions, which are larger after the move."""
    call = data.draw(inside_calls())
    # thousandths would round otherwise after the move, and may then fall on another cell
    sixty_fourths = np.rint(call.boxes * 64) / 64
    size = data.draw(st.sampled_from([1, 2, (4, 8)]))
    call = call._replace(boxes=sixty_fourths, output_size=size)
    options = operator.reductions[reduction] | data.draw(operator.draw_options(exact=True))
    dy, dx = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    moved = np.pad(call.input, ((0, 0), (0, 0), (dy, 2), (dx, 1)))
    boxes = call.boxes + np.array([0, dx, dy, dx, dy])
    output = run(operator, call._replace(input=moved, boxes=boxes), **options)
    np.testing.assert_allclose(output, run(operator, call, **options), rtol=0, atol=1e-12)


@MATRIX
@given(data=st.data())
def test_boxes_and_channels_do_not_see_each_other(operator, reduction, data):
    """Whatever their order and company, every box and channel gives the same bits."""
    call = data.draw(calls(data.draw(st.sampled_from([np.float32, np.float64]))))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    rng = np.random.default_rng(data.draw(SEEDS))
    k = rng.permutation(len(call.boxes))[: data.draw(st.sampled_from([1, 2, None]))]
    c = rng.permutation(call.input.shape[1])[: data.draw(st.sampled_from([1, 5, None]))]
    output = run(operator, call, **options)[k][:, c]
    chosen = call._replace(input=call.input[:, c], boxes=call.boxes[k])
    np.testing.assert_array_equal(run(operator, chosen, **options), output)
