"""The reference of the gradients against the forward reference, worked numbers and closed forms.

Nothing here runs the library: what is wrong here is wrong in the reference.
"""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
import reference_gradients
from operators import MAXIMA, OPERATORS, REDUCTIONS, ids
from strategies import Call, calls, exact_calls

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
RAMP = np.add.outer(10.0 * np.arange(6), np.arange(6.0))[None, None]
STEP = 1e-6

# image, then x1, y1, x2, y2 in map pixels: inside, over each edge, around, beside, smaller than a
# pixel, reversed along one axis and both
BOXES = np.array(
    [
        (0, 1.13, 1.27, 5.41, 4.58),
        (1, -1.38, 2.11, 3.17, 6.82),
        (1, 2.83, -2.42, 8.36, 2.94),
        (0, -2.31, -1.72, 9.33, 8.77),
        (1, 9.61, 1.19, 12.43, 3.7),
        (0, 3.12, 2.23, 3.57, 2.61),
        (0, -0.37, 4.19, 0.21, 5.33),
        (1, 4.68, 1.33, 2.29, 3.12),
        (0, 4.21, 3.74, 2.77, 1.62),
    ]
)

OPTIONS = {
    "roi_pool": [{}, {"rounding": "truncate", "bins": "truncate"}],
    "roi_align": [
        {"sampling_ratio": ratio, "aligned": aligned}
        for ratio in (-1, 2, (1, 3))
        for aligned in (False, True)
    ],
    "roi_warp": [
        {"sampling_ratio": ratio, "quantize": quantize}
        for ratio in (1, (3, 2))
        for quantize in (True, False)
    ],
    "crop_pool": [{"border": border} for border in ("zeros", "cut")],
    "prroi_pool": [{"aligned": aligned} for aligned in (False, True)],
}
CASES = [
    pytest.param(operator, operator.reductions[r] | options, id=f"{operator.name}-{r}-{options}")
    for operator, r in REDUCTIONS
    for options in OPTIONS[operator.name]
]
# roi_pool and a quantized roi_warp jump as the box moves
SMOOTH = [case for case in CASES if not case.values[1].get("quantize", case.id[:8] == "roi_pool")]
BY_NAME = {operator.name: operator for operator in OPERATORS}
ALIGN, WARP, PRROI = (BY_NAME[name] for name in ("roi_align", "roi_warp", "prroi_pool"))


def backward(operator, gradient, call, **options):
    """The two gradients; ``output_size`` is what the shape of ``gradient`` says."""
    function = getattr(reference_gradients, f"{operator.name}_backward")
    return function(gradient, call.input, call.boxes, call.spatial_scale, **options)


def upstream(rng, operator, call, **options):
    return rng.normal(size=operator.reference(*call, **options).shape)


def a_call(rng, scale=0.37, boxes=BOXES):
    boxes = boxes / np.array([1, scale, scale, scale, scale])
    return Call(rng.normal(size=(2, 3, 7, 8)), boxes, (2, 3), scale)


def slope(operator, call, options, argument, change):
    """Central difference of the output as ``argument`` moves along ``change``."""
    low, high = (
        call._replace(**{argument: getattr(call, argument) + step * change})
        for step in (-STEP, STEP)
    )
    difference = operator.reference(*high, **options) - operator.reference(*low, **options)
    return difference / (2 * STEP)


def assert_close(actual, expected):
    limit = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit, strict=True)


def test_stands_alone():
    source = Path(reference_gradients.__file__).read_text(encoding="utf-8")
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names == {"math", "numpy", "reference"}
    assert "roi_numba" not in source


@pytest.mark.parametrize(("operator", "options"), CASES)
def test_gradient_of_the_map_is_the_slope_of_the_output(rng, operator, options):
    call = a_call(rng)
    gradient = upstream(rng, operator, call, **options)
    grad_input, _ = backward(operator, gradient, call, **options)
    for _ in range(3):
        change = rng.normal(size=call.input.shape)
        expected = (slope(operator, call, options, "input", change) * gradient).sum()
        np.testing.assert_allclose((grad_input * change).sum(), expected, rtol=1e-6)


@pytest.mark.parametrize(("operator", "options"), SMOOTH)
def test_gradient_of_the_boxes_is_the_slope_of_the_output(rng, operator, options):
    call = a_call(rng)
    gradient = upstream(rng, operator, call, **options)
    _, grad_boxes = backward(operator, gradient, call, **options)
    expected = np.zeros(call.boxes.shape)
    for column in range(1, 5):
        change = slope(operator, call, options, "boxes", np.eye(5)[column])
        expected[:, column] = (change * gradient).sum((1, 2, 3))
    assert np.abs(expected).max() > 0.1
    assert_close(grad_boxes, expected)


@MATRIX
@given(data=st.data())
def test_output_is_its_gradient_times_the_map(operator, reduction, data):
    """Means are linear in the map, maxima homogeneous: true of every box there is."""
    call = data.draw(calls(np.float32, layouts=["contiguous"]))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    output = operator.reference(*call, **options)
    gradient = np.random.default_rng(0).normal(size=output.shape)
    grad_input, grad_boxes = backward(operator, gradient, call, **options)
    assert (grad_input.shape, grad_boxes.shape) == (call.input.shape, call.boxes.shape)
    terms, expected = grad_input * call.input, output * gradient
    limit = 1e-10 * (np.abs(terms).sum() + np.abs(expected).sum())
    np.testing.assert_allclose(terms.sum(), expected.sum(), rtol=0, atol=limit)
    assert np.isfinite(grad_boxes).all()
    assert not grad_boxes[:, 0].any()
    assert operator.name != "roi_pool" or not grad_boxes.any()


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
@pytest.mark.parametrize("shift", [0, 1, -1])
def test_maxima_follow_the_argmax_given(rng, operator, reduction, shift):
    """Also where it is not the first maximum: ties and rounding may choose another."""
    call, options = a_call(rng), operator.reductions[reduction]
    gradient = upstream(rng, operator, call, **options)
    _, argmax = operator.reference(*call, return_argmax=True, **options)
    found = backward(operator, gradient, call, **options)
    np.testing.assert_equal(backward(operator, gradient, call, argmax=argmax, **options), found)
    nothing = backward(operator, gradient, call, argmax=np.full_like(argmax, -1), **options)
    assert not any(each.any() for each in nothing)
    if operator.name != "roi_pool":
        moved = np.maximum(argmax + shift, -1)
        grad_input, _ = backward(operator, gradient, call, argmax=moved, **options)
        output = operator.reference(*call, at=moved, **options)
        np.testing.assert_allclose((grad_input * call.input).sum(), (gradient * output).sum())


@MATRIX
@given(data=st.data())
def test_float32_boxes_whose_positions_are_exact(operator, reduction, data):
    """They have the gradients of the same boxes in float64."""
    call = data.draw(exact_calls(sizes=operator.exact_sizes))
    options = operator.reductions[reduction] | data.draw(operator.draw_options(exact=True))
    gradient = upstream(np.random.default_rng(0), operator, call, **options)
    actual = backward(operator, gradient, call, **options)
    call = call._replace(boxes=call.boxes.astype(np.float64))
    np.testing.assert_equal(actual, backward(operator, gradient, call, **options))


@pytest.mark.parametrize(
    ("operator", "box", "scale", "expected"),
    [
        (PRROI, (1, 1, 4, 4), 1, (2, 20, 2, 20)),
        (PRROI, (20, 40, 70, 88), 1 / 16, (0.119792, 1.031901, 0.119792, -1.149089)),
        (ALIGN, (1, 1, 4, 4), 1, (2, 20, 2, 20)),
        # one pixel wide at least: only x1 and y1 move the samples
        (ALIGN, (2, 2, 2.5, 2.5), 1, (4, 40, 0, 0)),
    ],
    ids=ids,
)
def test_worked_gradients(operator, box, scale, expected):
    call = Call(RAMP, np.array([(0.0, *box)]), 2, scale)
    _, grad_boxes = backward(operator, np.ones((1, 1, 2, 2)), call)
    np.testing.assert_allclose(grad_boxes, [(0, *expected)], atol=1e-6)


def test_roi_pool_gives_all_to_the_winner_or_alike_to_the_bin():
    call = Call(RAMP, np.array([(0.0, 1, 1, 4, 4)]), 2, 1.0)
    gradient = np.array([[[[1.0, 2], [3, 4]]]])
    grad_input, _ = reference_gradients.roi_pool_backward(gradient, *call[:2])
    expected = np.zeros((6, 6))
    expected[[2, 2, 4, 4], [2, 4, 2, 4]] = 1, 2, 3, 4
    np.testing.assert_array_equal(grad_input[0, 0], expected)
    grad_input, _ = reference_gradients.roi_pool_backward(gradient, *call[:2], reduce="mean")
    quarters = gradient[0, 0].repeat(2, 0).repeat(2, 1) / 4
    np.testing.assert_array_equal(grad_input[0, 0, 1:5, 1:5], quarters)


# the slope along x of a map of 1, 4, 9, 16 at positions on its pixels, between and beyond them
AT = [-1, -0.5, 0, 0.5, 1, 2, 2.5, 3, 3.5, 4]
STAYS = [0, 0, 0, 3, 5, 7, 7, 0, 0, 0]
LEAVES = [0, 0, 3, 3, 5, 7, 7, 0, 0, 0]
FADES = [0, 1, 3, 3, 5, 7, 7, -16, -16, 0]
CORNERS = [0, 0, 0, 4, -4, -9, 16, 0, 0, 0]


@pytest.mark.parametrize(
    ("operator", "options", "slopes", "first", "by"),
    [
        (ALIGN, {"sampling_ratio": 1}, STAYS, -1, (0.5, 0.5)),
        (ALIGN, {"sampling_ratio": 1, "reduce": "max"}, STAYS, -1, (0.5, 0.5)),
        (ALIGN, {"sampling_ratio": 1, "reduce": "max_corner"}, CORNERS, -1, (0.5, 0.5)),
        (WARP, {"quantize": True}, LEAVES, 0, (1, 0)),
        (WARP, {"quantize": False}, FADES, 0, (1, 0)),
    ],
    ids=ids,
)
def test_slope_at_pixels_and_borders(operator, options, slopes, first, by):
    """At a pixel it is that of the next piece; outside and where the edge repeats it is zero.

    The first pixel belongs to the repeated edge in RoIAlign, and not in RoIWarp.
    """
    features = np.tile(np.arange(1.0, 5) ** 2, (3, 1))[None, None]
    for t, expected in zip(AT, slopes, strict=True):
        if options.get("quantize") and t % 1:
            continue
        call = Call(features, np.array([(0, t + first, 0.0, t + first + 2, 2)]), 1, 1.0)
        _, grad_boxes = backward(operator, np.ones((1, 1, 1, 1)), call, **options)
        np.testing.assert_array_equal(grad_boxes[0, [1, 3]], expected * np.array(by), f"at {t}")


def test_corners_without_weight_have_no_gradient():
    """Samples on pixels: the corners beyond have slopes, but cannot win."""
    call = Call(RAMP, np.array([(0.0, 1, 1, 3, 3)]), 1, 1.0)
    for corner in (1, 2, 3):
        options = {"sampling_ratio": 1, "reduce": "max_corner", "argmax": [[[[corner]]]]}
        assert not backward(ALIGN, np.ones((1, 1, 1, 1)), call, **options)[1].any()


def test_roi_warp_of_a_box_rounded_to_a_point():
    """Its samples still divide it; only a reversed one hangs on its first corner."""
    for end, (by_low, by_high) in [(2.4, (1.5, 0.5)), (1.4, (2, 0))]:
        call = Call(RAMP, np.array([(0, 2.3, 2.3, end, end)]), 2, 1.0)
        _, grad_boxes = backward(WARP, np.full((1, 1, 2, 2), 0.5), call, reduce="mean")
        expected = [[0, by_low, 10 * by_low, by_high, 10 * by_high]]
        np.testing.assert_allclose(grad_boxes, expected)


def test_roi_warp_at_every_sample(rng):
    """The weights written out at the four samples of a box of 3 pixels, which 2 bins halve."""
    features = rng.normal(size=(6, 6))
    call = Call(features[None, None], np.array([(0, 1.2, 0.8, 4.4, 3.6)]), 2, 1.0)
    for p, q in np.ndindex(2, 2):
        gradient = np.zeros((1, 1, 2, 2))
        gradient[0, 0, p, q] = 3
        _, grad_boxes = backward(WARP, gradient, call)
        i, fy = divmod(1 + 1.5 * p, 1)
        j, fx = divmod(1 + 1.5 * q, 1)
        (a, b), (c, d) = features[int(i) : int(i) + 2, int(j) : int(j) + 2]
        along_x = (1 - fy) * (b - a) + fy * (d - c)
        along_y = (1 - fx) * (c - a) + fx * (d - b)
        ry, rx = p / 2, q / 2
        expected = 0, (1 - rx) * along_x, (1 - ry) * along_y, rx * along_x, ry * along_y
        np.testing.assert_allclose(grad_boxes / 3, [expected], atol=1e-14)


@pytest.mark.parametrize("scale", [1, 0.25])
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_quantized_roi_warp_moves_as_the_rounded_box_would(rng, reduce, scale):
    """Inside the map the rounded box is pooled alike with and without rounding.

    Its samples lie on pixels, and move up there as either end does: forward differences.
    """
    rounded = np.array([(0, 1, 1, 4, 5), (1, 2, 3, 6, 4), (0, 4, 2, 1, 5), (1, 5, 5, 3, 2)])
    options = {"sampling_ratio": (3, 2), "reduce": reduce}
    off = rng.uniform(-0.4, 0.4, rounded.shape) * [0, 1, 1, 1, 1]
    call = a_call(rng, scale, rounded + off)
    gradient = upstream(rng, WARP, call, **options)
    _, grad_boxes = backward(WARP, gradient, call, **options)

    still, expected = a_call(rng, scale, rounded)._replace(input=call.input), np.zeros((4, 5))
    output = reference.roi_warp(*still, quantize=False, **options)
    for column in range(1, 5):
        moved = still._replace(boxes=still.boxes + STEP * np.eye(5)[column])
        change = reference.roi_warp(*moved, quantize=False, **options) - output
        expected[:, column] = (gradient * change).sum((1, 2, 3)) / STEP
    assert_close(grad_boxes, expected)


def integral_of_hat(t):
    """From -inf to ``t``."""
    t = np.clip(t, -1, 1)
    return np.where(t < 0, (t + 1) ** 2 / 2, 0.5 + t - t**2 / 2)


def hat(t):
    return np.maximum(0, 1 - np.abs(t))


@pytest.mark.parametrize(
    ("start", "end"), [(1.3, 1.42), (0.2, 5.7), (-2.6, 3.3), (6.1, 12.9), (2, 5), (-0.5, 8.25)]
)
def test_prroi_pool_moves_as_the_closed_form(start, end):
    """The end of a bin adds the map there and takes the mean, each divided by the bin's width.

    One box for each bin and pixel of the axis: the gradient of its weight.
    """
    size, n_bins, scale = 8, 3, 0.5
    features = np.broadcast_to(np.eye(size)[:, None], (size, 8, size))[None]
    gradient = np.zeros((size * n_bins, size, 1, n_bins))
    expected = np.zeros((size * n_bins, 5))
    for k, (i, p) in enumerate(np.ndindex(size, n_bins)):
        gradient[k, i, 0, p] = 1
        low, high = (start + (end - start) * edge / n_bins for edge in (p, p + 1))
        weight = (integral_of_hat(high - i) - integral_of_hat(low - i)) / (high - low)
        by_low, by_high = (weight - hat(low - i)), (hat(high - i) - weight)
        by_ends = by_low * (1 - p / n_bins) + by_high * (1 - (p + 1) / n_bins)
        expected[k, 1] = scale * by_ends / (high - low)
        expected[k, 3] = scale * (by_low * p + by_high * (p + 1)) / n_bins / (high - low)
    boxes = np.tile([0, start / scale, 4, end / scale, 11], (size * n_bins, 1))
    _, grad_boxes = backward(PRROI, gradient, Call(features, boxes, (1, n_bins), scale))
    np.testing.assert_allclose(grad_boxes, expected, atol=1e-12)


def test_prroi_pool_bins_narrower_than_numbers_are_points():
    narrow = np.array([(0, 3, 2, np.nextafter(np.float32(3), np.float32(4)), 4)], np.float32)
    features = np.broadcast_to(np.arange(8.0) ** 2, (1, 1, 8, 8))
    for q in (0, 1, 6):
        gradient = np.zeros((1, 1, 1, 7))
        gradient[..., q] = 1
        _, grad_boxes = backward(PRROI, gradient, Call(features, narrow, (1, 7), 1.0))
        along = (q + 0.5) / 7
        np.testing.assert_allclose(grad_boxes[0, [1, 3]], [7 * (1 - along), 7 * along])


@MATRIX
def test_no_gradient_of_boxes_that_are_nowhere(rng, operator, reduction):
    bad = [(0, np.nan, 1, 4, 4), (0, 1, 1, np.inf, 4), (0, -np.inf, 1, 4, np.inf)]
    bad += [(b, 1.5, 1, 4, 4) for b in (-1, 2, 0.5, np.nan, np.inf)]
    if operator.name != "roi_pool":
        bad += [(1, -1e30, 1, 1e30, 4), (1, 1, 2, 4, 1e16), (1, 1e30, 1e30, 1e30, 1e30)]
    options = operator.reductions[reduction]
    call = a_call(rng, 1, np.array([*bad, BOXES[0]]))
    gradient = upstream(rng, operator, call, **options)
    alone = call._replace(boxes=call.boxes[-1:])
    expected_input, expected_boxes = backward(operator, gradient[-1:], alone, **options)
    if reduction != "mean":
        _, argmax = operator.reference(*call, return_argmax=True, **options)
        options = options | {"argmax": np.maximum(argmax, 0)}
    grad_input, grad_boxes = backward(operator, gradient, call, **options)
    np.testing.assert_array_equal(grad_input, expected_input)
    assert not grad_boxes[:-1].any()
    np.testing.assert_array_equal(grad_boxes[-1:], expected_boxes)


@MATRIX
def test_nan_upstream_reaches_what_its_bin_reads(rng, operator, reduction):
    call, options = a_call(rng), operator.reductions[reduction]
    clean = upstream(rng, operator, call, **options)
    for k in range(len(BOXES)):
        lone, gradient = np.zeros_like(clean), clean.copy()
        lone[k, 1, 1, 1], gradient[k, 1, 1, 1] = 1, np.nan
        read, moved = backward(operator, lone, call, **options)
        grad_input, grad_boxes = backward(operator, gradient, call, **options)
        np.testing.assert_array_equal(np.isnan(grad_input), read != 0)
        np.testing.assert_array_equal(np.isnan(grad_boxes), moved != 0)


@pytest.mark.parametrize(("operator", "options"), [case for case in CASES if "mean" in case.id])
def test_nan_in_the_map_reaches_what_moves_over_it(rng, operator, options):
    options = options | ({"sampling_ratio": 1} if "sampling_ratio" in options else {})
    call, gradient = a_call(rng), np.ones((len(BOXES), 3, 1, 1))
    expected_input, _ = backward(operator, gradient, call, **options)
    for pixel in [(0, 0), (1, 4), (3, 2), (3, 5), (6, 7)]:
        lone, spoilt = np.zeros_like(call.input), call.input.copy()
        lone[:, 1, *pixel], spoilt[:, 1, *pixel] = 1, np.nan
        _, moved = backward(operator, gradient, call._replace(input=lone), **options)
        spoilt = call._replace(input=spoilt)
        grad_input, grad_boxes = backward(operator, gradient, spoilt, **options)
        np.testing.assert_array_equal(grad_input, expected_input)
        np.testing.assert_array_equal(np.isnan(grad_boxes), moved != 0)


@MATRIX
@pytest.mark.parametrize("width", [1e6, 1e9])
def test_absurd_boxes_cost_no_more_than_the_map(rng, operator, reduction, width):
    """A billion samples in a bin: only those on the map are ever looked at."""
    boxes = np.array([(0, 2.2, -width, width, 1.1 * width), (0, -width, 1.3, width, 4.7)])
    options = operator.reductions[reduction]
    call = Call(rng.normal(size=(1, 2, 10, 10)), boxes, 2, 1.0)
    gradient = upstream(rng, operator, call, **options)
    grad_input, grad_boxes = backward(operator, gradient, call, **options)
    output = operator.reference(*call, **options)
    np.testing.assert_allclose((grad_input * call.input).sum(), (gradient * output).sum())
    assert np.isfinite(grad_boxes).all()
