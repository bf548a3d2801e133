"""Gradients of every operator in every reduction: against the reference, and as slopes."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrays import MATRIX, bits
from operators import MAXIMA, MEANS, ids
from roi_numba import _derivatives
from strategies import FLOATS, INTEGERS, SEEDS, Call, as_boxes, calls, result_dtype, values
from test_forward import accumulator, assert_close
from test_reference_gradients import CASES, SMOOTH, a_call

AXES = st.sampled_from([1, -1])


def upstream(call, seed=0):
    """Normal gradients of the result, in its dtype."""
    size = call.output_size
    bins = (size, size) if np.ndim(size) == 0 else size
    shape = len(call.boxes), call.input.shape[1], *bins
    return values(seed, shape, result_dtype(call.input.dtype).type)


def pool(operator, call, **options):
    return operator.function(**call._asdict(), **options)


def backward(operator, gradient, call, channel_axis=1, **options):
    """Both gradients, that of the map as (N, C, H, W)."""
    if options.get("argmax") is not None:
        options["argmax"] = np.moveaxis(options["argmax"], 1, channel_axis)
    grad_input, grad_boxes = operator.backward(
        np.moveaxis(gradient, 1, channel_axis),
        np.moveaxis(call.input, 1, channel_axis),
        call.boxes,
        call.spatial_scale,
        channel_axis=channel_axis,
        **options,
    )
    return np.moveaxis(grad_input, channel_axis, 1), grad_boxes


def with_winners(operator, call, options):
    """The options, and for a maximum what the forward named: of near ties it chooses."""
    if operator.reduce(options) == "mean":
        return options
    return options | {"argmax": pool(operator, call, return_argmax=True, **options)[1]}


def draw_call(data, operator, reduction, dtype, **restrictions):
    """A call and its options, winners included."""
    call = data.draw(calls(dtype, **restrictions))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    return call, with_winners(operator, call, options)


def assert_same_bits(actual, expected):
    """Of two pairs of gradients."""
    for one, other in zip(actual, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(bits(one), bits(other))


# ---- against the reference -----------------------------------------------------------------


def stored(dtype, expected, error):
    """The expected values as ``dtype`` can hold them, and the error once they are rounded to it."""
    with np.errstate(over="ignore"):
        held = expected.astype(dtype).astype(np.float64)
    finite = np.isfinite(held)
    info = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(np.where(finite, np.abs(expected), 0) + error)
    half_a_unit = 0.5 * np.ldexp(float(info.eps), np.maximum(exponent - 1, info.minexp))
    return np.where(finite, expected, held), error + half_a_unit


def assert_gradients(operator, call, channel_axis=1, seed=0, **options):
    """Both gradients equal the reference's.

    Map: weights have some 20 roundings, each sum along x one for every bin, and each box another
    for every bin along y, all relative to the sum of absolute values at the pixel.  Boxes: rates
    have a few roundings more and one for every pixel they add up, and so has the sum for every
    bin; two pixels change with each sample, so no rate exceeds twice the largest feature.
    """
    gradient = upstream(call, seed)
    n_boxes, _, *bins = gradient.shape
    grad_input, grad_boxes = backward(operator, gradient, call, channel_axis, **options)
    wide = gradient.astype(np.float64)
    if "argmax" in options:
        options["argmax"] = np.tile(options["argmax"], (1, 2, 1, 1))
    # As many channels again, whose features are zero, for the absolute values: they move no box.
    expected_input, expected_boxes = operator.reference_backward(
        np.concatenate([wide, np.abs(wide)], 1),
        np.concatenate([call.input, np.zeros_like(call.input)], 1),
        call.boxes,
        call.spatial_scale,
        **options,
    )
    box_dtype, precision = call.boxes.dtype, accumulator(call.input.dtype)
    if np.issubdtype(box_dtype, np.integer):
        box_dtype = np.dtype(np.float64)
    eps = max(np.finfo(precision).eps, np.finfo(accumulator(box_dtype)).eps)
    tiny = np.finfo(precision).tiny

    expected, sizes = np.split(expected_input, 2, axis=1)
    roundings = 20 + bins[1] + bins[0] * n_boxes
    assert grad_input.dtype == gradient.dtype
    assert_close(grad_input, *stored(gradient.dtype, expected, roundings * (eps * sizes + tiny)))

    largest = np.abs(call.input.astype(np.float64)).max(initial=0)
    sizes = 2 * call.spatial_scale * largest * np.abs(wide).sum((1, 2, 3))[:, None]
    roundings = 30 + sum(call.input.shape[2:]) + bins[0] * bins[1]
    error = roundings * (eps * sizes + tiny)
    assert grad_boxes.dtype == box_dtype
    assert_close(grad_boxes, *stored(box_dtype, expected_boxes, error))
    assert not grad_boxes[:, 0].any()


@pytest.mark.parametrize("dtypes", [*([d] for d in FLOATS), INTEGERS], ids=lambda d: ids(d[0]))
@MATRIX
@given(data=st.data())
def test_equal_reference(operator, reduction, dtypes, data):
    dtype = data.draw(st.sampled_from(dtypes))
    call, options = draw_call(data, operator, reduction, dtype)
    assert_gradients(operator, call, data.draw(AXES), data.draw(SEEDS), **options)


@MATRIX
def test_large_maps_equal_reference(operator, reduction):
    """More pixels than any scratch memory, and boxes that cover them."""
    boxes = as_boxes([(0, -20.3, 3.1, 130.2, 111.7), (1, 1.2, -7, 99.4, 128)], np.float32)
    call = Call(values(1, (2, 17, 110, 120), np.float32), boxes, (2, 3), 1.0)
    options = dict(operator.reductions[reduction])
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 3
    options = with_winners(operator, call, options)
    for axis in (1, -1):
        assert_gradients(operator, call, axis, **options)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
@given(data=st.data())
def test_winners_are_found_again(operator, reduction, data):
    call, options = draw_call(data, operator, reduction, data.draw(st.sampled_from(FLOATS)))
    gradient, axis = upstream(call), data.draw(AXES)
    expected = backward(operator, gradient, call, axis, **options)
    found = backward(operator, gradient, call, axis, **options | {"argmax": None})
    assert_same_bits(found, expected)


# ---- slopes of the library itself ----------------------------------------------------------

STEP = 1e-5


def slope(operator, call, gradient, options, argument, change):
    """Central difference along ``change`` of each box's results, weighed by ``gradient``."""
    low, high = (
        pool(operator, call._replace(**{argument: getattr(call, argument) + step}), **options)
        for step in (-STEP * change, STEP * change)
    )
    return ((high - low) * gradient).sum((1, 2, 3)) / (2 * STEP)


def assert_relative(found, expected):
    assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()


@pytest.mark.parametrize(("operator", "options"), CASES)
def test_gradient_of_the_map_is_its_slope(rng, operator, options):
    call = a_call(rng)
    gradient = upstream(call)
    grad_input, _ = backward(operator, gradient, call, **options)
    change = rng.normal(size=call.input.shape)
    expected = slope(operator, call, gradient, options, "input", change).sum()
    assert_relative((grad_input * change).sum(), expected)


@pytest.mark.parametrize(("operator", "options"), SMOOTH)
def test_gradient_of_the_boxes_is_their_slope(rng, operator, options):
    call = a_call(rng)
    gradient = upstream(call)
    _, grad_boxes = backward(operator, gradient, call, **options)
    change = rng.normal(size=call.boxes.shape) * [0, 1, 1, 1, 1]
    expected = slope(operator, call, gradient, options, "boxes", change)
    assert_relative((grad_boxes * change).sum(1), expected)


@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
@given(data=st.data())
def test_adjoint(operator, reduction, data):
    """Pooling a map and spreading a gradient are a matrix and its transpose."""
    call, options = draw_call(data, operator, reduction, np.float64)
    gradient = upstream(call, data.draw(SEEDS))
    grad_input, _ = backward(operator, gradient, call, data.draw(AXES), **options)
    pooled = pool(operator, call, **options) * gradient
    sizes = pool(operator, call._replace(input=np.abs(call.input)), **options) * np.abs(gradient)
    assert abs((call.input * grad_input).sum() - pooled.sum()) <= 1e-12 * sizes.sum()


# ---- rates of change -----------------------------------------------------------------------


def derivative(function, operator, call, options, channel_axis=1, **arguments):
    """Call a function of `_derivatives` as a binding would."""
    own = {name: value for name, value in options.items() if name in operator.options}
    return function(
        rule=operator.rule,
        options=operator.rule.options(**own),
        input=call.input,
        boxes=call.boxes,
        spatial_scale=call.spatial_scale,
        reduce=operator.reduce(options),
        batch_indices=None,
        channel_axis=channel_axis,
        check_boxes=None,
        argmax=options.get("argmax"),
        **arguments,
    )


@pytest.mark.parametrize(("operator", "options"), SMOOTH)
def test_rate_is_the_slope_along_a_motion(rng, operator, options):
    call = a_call(rng)
    motion = rng.normal(size=(len(call.boxes), 4))
    arguments = {"motion": motion, "output_size": call.output_size}
    found = derivative(_derivatives.rate, operator, call, options, **arguments)
    change = np.pad(motion, ((0, 0), (1, 0)))
    for lone in np.eye(found[0].size).reshape(-1, 1, *found.shape[1:]):
        expected = slope(operator, call, lone, options, "boxes", change)
        np.testing.assert_allclose((found * lone).sum((1, 2, 3)), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("speed", [np.nan, np.inf])
@MATRIX
def test_motion_beyond_all_numbers(rng, operator, reduction, speed):
    """What does not change is not moved; pixels beside the map, which do not, are not looked at."""
    rows = [(0, -3, -2, 2, 3), (0, 3.4, 2.3, 8, 7), (0, -1.5, -1.5, 6.5, 5.5), (0, 20, 20, 30, 30)]
    call = a_call(rng)._replace(
        input=rng.uniform(1, 2, (1, 2, 4, 5)), boxes=np.array(rows, np.float64)
    )
    options = operator.reductions[reduction]
    grads = rng.uniform(1, 2, (len(rows), 2, *call.output_size))
    ways = (
        (_derivatives.rate, {"output_size": call.output_size}),
        (_derivatives.rate_backward, {"grad_output": grads}),
    )
    for function, arguments in ways:
        still, moved = (
            derivative(function, operator, call, options, motion=motion, **arguments)
            for motion in (rng.uniform(0.3, 1, (len(rows), 4)), np.full((len(rows), 4), speed))
        )
        assert not np.isfinite(moved[still != 0]).any()
        if operator.name != "roi_warp":  # where changes are opposite, and cancel
            assert (moved[still == 0] == 0).all()
        if function is _derivatives.rate:
            assert (moved[3] == 0).all()  # off the map


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MATRIX
@given(data=st.data())
def test_rates_are_contractions(operator, reduction, dtype, data):
    """Of the gradient of the boxes with the motion; their own gradient gives them of the map."""
    restricted = {"box_dtypes": [np.float64, np.int64]}
    call, options = draw_call(data, operator, reduction, dtype, **restricted)
    gradient = upstream(call, data.draw(SEEDS))
    motion = np.random.default_rng(data.draw(SEEDS)).normal(size=(len(call.boxes), 4))
    _, grad_boxes = backward(operator, gradient, call, **options)
    arguments = {"motion": motion, "output_size": call.output_size}
    rate = derivative(_derivatives.rate, operator, call, options, **arguments)
    arguments = {"motion": motion, "grad_output": gradient}
    back = derivative(_derivatives.rate_backward, operator, call, options, **arguments)
    assert rate.dtype == back.dtype == gradient.dtype

    gradient, features = gradient.astype(np.float64), call.input.astype(np.float64)
    changes = (rate * gradient).sum()
    largest = 2 * call.spatial_scale * np.abs(features).max() * np.abs(motion).sum(1)
    limit = (largest * np.abs(gradient).sum((1, 2, 3))).sum()
    # 16-bit rates are rounded once, their gradients in two parts.
    precision = 200 * np.finfo(accumulator(np.dtype(dtype))).eps
    limit *= max(1e-12, float(ml_dtypes.finfo(dtype).eps), precision)
    assert abs(changes - (grad_boxes[:, 1:] * motion).sum()) <= limit
    assert abs(changes - (features * back).sum()) <= 2 * limit


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32], ids=ids)
@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
@given(data=st.data())
def test_named_values(operator, reduction, dtype, data):
    """They are the maxima in the map they were named in, and linear in any other."""
    call, options = draw_call(data, operator, reduction, dtype)
    found = derivative(_derivatives.at_argmax, operator, call, options)
    maxima = pool(operator, call, **{k: v for k, v in options.items() if k != "argmax"})
    eps = np.finfo(found.dtype).eps
    limit = 20 * eps * np.abs(call.input.astype(np.float64)).max()
    np.testing.assert_allclose(found, maxima, rtol=0, atol=limit)

    other = call._replace(input=values(data.draw(SEEDS), call.input.shape, found.dtype.type))
    gradient = upstream(other, data.draw(SEEDS)).astype(np.float64)
    grad_input, _ = backward(operator, gradient.astype(found.dtype), other, **options)
    pooled = gradient * derivative(_derivatives.at_argmax, operator, other, options)
    limit = 200 * eps * (np.abs(other.input).max() * np.abs(gradient).sum())
    assert abs(pooled.sum() - (grad_input * other.input.astype(np.float64)).sum()) <= limit
