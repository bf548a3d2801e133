"""The rules as plain Python, one axis at a time, beside the scalar references.

A map of one channel a pixel, one in that pixel's column and zero elsewhere, gives a bin's weights
for results.  No kernel runs but the references' own loops, so a changed rule shows at once:
docs/inside/trust-mutations.md has how many changes do.
"""

from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib import import_module
from itertools import product

import numpy as np
import pytest

import reference_crops
from operators import OPERATORS, RULES
from roi_numba import _scalar, crop_and_resize

SIZE = 7
ENDS = -3.5, -1, -0.5, 0.0, 0.3, 1.0, 1.5, 2.5, 4.6, 6.0, 6.5, 7, 9.25
INTERVALS = np.array(
    [(low, high) for low in ENDS for high in ENDS]
    + [(-40, 40), (-2e7, 3), (2, 2**25), (-(2.0**24), 2.0**24), (2**53, 2**54), (-3e8, 3e8)]
    # Of these the end alone is beyond what float32 and float64 tell apart.
    + [(2, 2**24 + 2), (2, 2**53 + 2)]
    # Or the start, of a box whose ends are reversed.
    + [(2**24 + 2, 2), (2**53 + 2, 2)]
    # Of these neither end is but the length, and of six samples from end to end the third is at 2.
    + [(2 - 1e7, 2 + 1.5e7), (2.0 - 2**52, 2 + 1.5 * 2**52)]
    # Parts of these in 3 are narrower than the numbers there are apart, inside and over an edge.
    + [(x, x + gap) for x in (-1.25, -0.75, 2.25, 6.75, 7.25) for gap in (2**-22, 2**-51)]
    # The last of the steps from one end goes beyond the other, by rounding.
    + [(-2.3, 6), (-2.1, 6), (-0.6, 6)]
)
ACROSS = 10.0, 20.0
"""Of the other axis all is weighed alike: inside the map, where a maximum finds a whole pixel."""
BY_NAME = {operator.name: operator for operator in OPERATORS}
CASES = [
    pytest.param(operator, options, id=f"{operator.name}-{options}")
    for operator in OPERATORS
    for options in operator.all_options()
    if not isinstance(options.get("sampling_ratio"), tuple)
]
SLOPES = [
    case
    for case in CASES
    if case.values[0].rule.slope is not None and "mean" in case.values[0].reductions
]


def entries(rule, interval, bins, scale, dtype, options, size=SIZE):
    """For each bin its divisor and, entry by entry, weights of all pixels."""
    T = np.dtype(dtype).type
    axis_options = (T(scale), *rule.options(**options)[1])
    span = rule.span(T(interval[0]), T(interval[1]), bins, axis_options)
    found = []
    for p in range(bins):
        first, last, divisor = rule.entries(span, p, bins, size, axis_options)
        assert type(divisor) is T
        weights = np.zeros((last - first, size))
        for k in range(first, last):
            pixel, *both = rule.entry(span, p, k, bins, size, axis_options)
            assert {type(weight) for weight in both} == {T}
            for step, weight in enumerate(both):
                if weight != 0:
                    weights[k - first, pixel + step] += weight
        found.append((divisor, weights))
    return found


def columns(size=SIZE):
    """A map (1, C, 41, size) with a one in every pixel of one column in each channel."""
    return np.broadcast_to(np.eye(size)[None, :, None], (1, size, 41, size))


@cache
def pooled_columns(case, bins, scale, dtype):
    """Boxes and what the reference makes of `columns`; kept, for `mutations` asks often."""
    operator, options = next(each.values for each in CASES if each.id == case)
    across = np.array(ACROSS)
    if options.get("aligned") and operator.name == "roi_align":
        across += 0.5
    intervals = INTERVALS / scale
    rows = np.zeros((len(intervals), 5))
    rows[:, 1], rows[:, 3] = intervals.T
    rows[:, 2], rows[:, 4] = across / scale
    boxes = rows.astype(dtype)
    reduce = operator.reductions["mean" if "mean" in operator.reductions else "max"]
    size = 1, bins
    return boxes, operator.reference(columns(), boxes, size, scale, **reduce, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(("operator", "options"), CASES)
@np.errstate(all="ignore")
def test_weights(operator, options, dtype):
    mean = "mean" in operator.reductions
    for bins, scale in ((1, 1.0), (3, 0.37)):
        boxes, expected = pooled_columns(f"{operator.name}-{options}", bins, scale, dtype)
        found = [
            weights.sum(axis=0) / (divisor or 1) if mean else weights.max(axis=0, initial=0)
            for ends in boxes[:, [1, 3]]
            for divisor, weights in entries(operator.rule, ends, bins, scale, dtype, options)
        ]
        expected = np.moveaxis(expected[:, :, 0], 1, 2).reshape(-1, SIZE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=20 * np.finfo(dtype).eps)
        # However little one of a great many samples weighs.
        assert not np.array(found)[expected == 0].any()


def test_samples_that_touch_the_map():
    """Of roi_align, and one beyond on each side: what a call costs is bounded by the map."""
    align = import_module("roi_numba.roi_align")
    bins = 2
    for start, size, samples, p in product(
        np.arange(-6, 12, 0.5), (-9, -3, -0.5, 0.0, 0.5, 3, 9), (1, 2, 3, 12), range(bins)
    ):
        box = start, np.float64(size), samples, False
        at = np.array([align.position(box, p, k) for k in range(samples)])
        touching = np.flatnonzero((at >= -1) & (at <= SIZE))
        first, last, divisor = align.entries(box, p, bins, SIZE, None)
        assert divisor == samples
        if len(touching):
            assert (first, last) == (max(touching[0] - 1, 0), min(touching[-1] + 2, samples))
        else:
            assert last - first <= 2


@cache
def moved_rows(name, scale, argmax=None, **options):
    """Boxes near a map of noise, a gradient for three bins of each, the reference's to boxes."""
    rng = np.random.default_rng(0)
    intervals = INTERVALS[np.abs(INTERVALS).max(axis=1) < 50] / scale
    rows = np.zeros((len(intervals), 5))
    rows[:, 1], rows[:, 3] = intervals.T
    rows[:, 2], rows[:, 4] = np.array(ACROSS) / scale
    features = np.broadcast_to(rng.normal(size=SIZE), (1, 1, 41, SIZE))
    grad = rng.normal(size=(len(rows), 1, 1, 3))
    if argmax is not None:
        options["argmax"] = np.full(grad.shape, argmax)
    _, expected = BY_NAME[name].reference_backward(grad, features, rows, scale, **options)
    return rows, features[0, 0, 0], grad[:, 0, 0], expected[:, [1, 3]]


def rates(rule, interval, values, bins, axis_options, entries_of):
    """How each bin changes with the ends of the box, by the slopes of some of its entries."""
    span = rule.span(*interval, bins, axis_options)
    found = np.zeros((bins, 2))
    for p in range(bins):
        numbers, divisor = entries_of(rule.entries(span, p, bins, SIZE, axis_options))
        for k in numbers:
            pixel, change, next_change, *ends = rule.slope(span, p, k, bins, SIZE, axis_options)
            rate = change * values[pixel] if change else 0.0
            rate += next_change * values[pixel + 1] if next_change else 0.0
            found[p] += rate * np.array(ends) / divisor
    return found


def all_of_them(entries):
    """Those of a mean, and what it divides by."""
    first, last, divisor = entries
    return range(first, last), divisor


@pytest.mark.parametrize(("operator", "options"), SLOPES)
def test_slopes(operator, options):
    """Beside the reference's gradient to the box, which itself is held to be a slope."""
    mean = operator.reductions["mean"]
    rows, values, grad, expected = moved_rows(operator.name, 0.37, **mean, **options)
    axis_options = (0.37, *operator.rule.options(**options)[1])
    found = [
        grad[k] @ rates(operator.rule, row[[1, 3]], values, 3, axis_options, all_of_them)
        for k, row in enumerate(rows)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", ["zeros", "cut"])
def test_slopes_of_single_samples(border):
    """Of crop_pool, a maximum only, whose gradient is that of the sample it names."""
    operator = BY_NAME["crop_pool"]
    for sample in range(2):
        rows, values, grad, expected = moved_rows(operator.name, 0.37, sample, border=border)
        found = [
            grad[k]
            @ rates(
                operator.rule, row[[1, 3]], values, 3, (0.37, border == "zeros"),
                lambda _, sample=sample: ((sample,), 1),
            )
            for k, row in enumerate(rows)
        ]  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


CROP_RULE = crop_and_resize.__globals__["RULE"]
CROPS = [
    {"method": method, "normalized": normalized, "edges": edges}
    for method in ("bilinear", "nearest")
    for normalized in (True, False)
    for edges in ("exact", "tensorflow")
]


def crop_rows(intervals, normalized, edges, **_):
    """Rows (y1, x1, y2, x2) of crops from all of the first axis, and an image for each."""
    rows = np.empty((len(intervals), 4), np.float32 if edges == "tensorflow" else np.float64)
    rows[:, 0], rows[:, 2] = (0.0, 1.0) if normalized else (0.0, 40.0)
    rows[:, 1], rows[:, 3] = intervals.T / (SIZE - 1 if normalized else 1)
    return rows, np.zeros(len(rows), int)


@cache
def cropped_columns(bins, **options):
    """Ends of boxes, and what the reference makes of `columns`."""
    rows, indices = crop_rows(INTERVALS, **options)
    images = np.moveaxis(columns(), 1, -1)
    expected = reference_crops.crop_and_resize(
        images, rows, (1, bins), box_indices=indices, **options
    )
    return rows[:, [1, 3]], expected[:, 0].reshape(-1, SIZE)


@pytest.mark.parametrize("options", CROPS, ids=str)
@np.errstate(all="ignore")
def test_crops(options):
    for bins in (1, 2, 4):
        intervals, expected = cropped_columns(bins, **options)
        dtype = intervals.dtype
        found = [
            (divisor, weights.sum(axis=0))
            for ends in intervals
            for divisor, weights in entries(CROP_RULE, ends, bins, 1.0, dtype, options)
        ]
        divisors, found = zip(*found, strict=True)
        assert set(divisors) == {1}
        np.testing.assert_allclose(found, expected, rtol=0, atol=20 * np.finfo(dtype).eps)


@cache
def moved_crops(bins, **options):
    """As `moved_rows`."""
    near = INTERVALS[np.abs(INTERVALS).max(axis=1) < 50]
    rows, indices = crop_rows(near, **options)
    rng = np.random.default_rng(0)
    values = rng.normal(size=SIZE).astype(rows.dtype)
    images = np.broadcast_to(values[:, None], (1, 41, SIZE, 1))
    grad = rng.normal(size=(len(rows), 1, bins, 1))
    _, expected = reference_crops.crop_and_resize_backward(
        grad, images, rows, box_indices=indices, **options
    )
    return rows[:, [1, 3]], values, grad[:, 0, :, 0], expected[:, [1, 3]]


@pytest.mark.parametrize("options", CROPS, ids=str)
def test_slopes_of_crops(options):
    """As `test_slopes`; in float32 of rates that are sums of some tens of numbers below ten."""
    for bins in (1, 2, 4):
        intervals, values, grad, expected = moved_crops(bins, **options)
        dtype = intervals.dtype
        axis_options = (dtype.type(1), *CROP_RULE.options(**options)[1])
        found = [
            grad[k] @ rates(CROP_RULE, ends, values, bins, axis_options, all_of_them)
            for k, ends in enumerate(intervals)
        ]
        limit = 1e-12 if dtype == np.float64 else 1e-4
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def test_every_rule_is_here():
    assert {rule.name for rule in RULES} == {
        "crop_and_resize", *(case.values[0].name for case in CASES)
    }  # fmt: skip


# ---- the scalar mathematics that rules share -----------------------------------------------

REALS = pytest.mark.parametrize("T", [np.float32, np.float64], ids=lambda each: each.__name__)
BEYOND = np.inf, -np.inf, np.nan, 1e30, -1e30


def points(T):
    """Whole pixels around a map, halves and between, and the numbers next to all of these."""
    near = [T(whole + part) for whole in range(-3, SIZE + 3) for part in (0, 0.3, 0.5)]
    return [each for x in near for each in (np.nextafter(x, T(-9)), x, np.nextafter(x, T(99)))]


@REALS
def test_on_scale(T):
    limit = T(2 / np.finfo(T).eps)
    for sign in (T(1), T(-1)):
        for x in (T(0), T(1.5), limit):
            assert _scalar.on_scale(sign * x) is True
        for x in (np.nextafter(limit, T(np.inf)), 2 * limit, *map(T, BEYOND)):
            assert _scalar.on_scale(sign * x) is False


@REALS
def test_round_half_away(T):
    for x in (*points(T), T(0.49999997), T(-0.49999997), T(2**22 + 0.5), T(-(2**22) - 0.5)):
        expected = Decimal(float(x)).quantize(Decimal(1), ROUND_HALF_UP)
        found = _scalar.round_half_away(x)
        assert type(found) is T
        assert found == expected
        assert np.signbit(found) == (x < 0)


@REALS
def test_clamped(T):
    for limit in (0, 3):
        for x in (*points(T), T(np.inf), T(-np.inf)):
            found = _scalar.clamped(x, limit)
            assert type(found) is T
            assert found == sorted([-limit, x, limit])[1]


def spread(tap, size):
    """The weights of a tap, none of which is off the map."""
    pixel, *both = tap
    weights = np.zeros(size)
    for step, weight in enumerate(both):
        if weight != 0:
            assert 0 <= pixel + step < size
            weights[pixel + step] += weight
    return weights


def hats(t, size):
    """Linear interpolation between pixels, zero beyond the first and the last."""
    return np.maximum(1 - np.abs(np.arange(size) - float(t)), 0)


@REALS
def test_taps(T):
    nothing = 0, 0, 0
    for size in (0, 1, 2, SIZE):
        for t in (*points(T), *map(T, BEYOND)):
            for border in (0, 0.5, 1):
                tap = _scalar.clamped_tap(t, T(border), size)
                if size and -border <= t <= size - 1 + border:
                    expected = hats(np.clip(t, 0, size - 1), size)
                    np.testing.assert_allclose(spread(tap, size), expected, atol=np.finfo(T).eps)
                else:
                    assert tap == nothing
            tap = _scalar.faded_tap(t, size)
            if size and -1 < t < size:
                expected = hats(t, size)
                np.testing.assert_allclose(spread(tap, size), expected, atol=np.finfo(T).eps)
            else:
                assert tap == nothing


@REALS
def test_slopes_of_taps(T):
    """By how weights differ a little further on; where they do not, no pixel is named either."""
    step = 2.0**-30
    for size in (0, 1, 2, SIZE):
        for t in (*points(T), *map(T, BEYOND)):
            near = -1 < t < size
            if near and np.floor(t) != np.floor(float(t) + step):
                continue  # a kink between the two
            expected = (hats(float(t) + step, size) - hats(t, size)) / step if near else 0
            clamped, faded = _scalar.clamped_slope(t, size), _scalar.faded_slope(t, size)
            np.testing.assert_allclose(spread(faded, size), expected, atol=1e-6)
            if 0 <= t < size - 1:
                np.testing.assert_allclose(spread(clamped, size), expected, atol=1e-6)
            else:
                assert clamped == (0, 0, 0)
            if not -1 < t < size:
                assert faded == (0, 0, 0)
