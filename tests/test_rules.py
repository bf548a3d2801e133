"""The rules as plain Python, one axis at a time, beside the scalar references.

A map of one channel a pixel, one in that pixel's column and zero elsewhere, gives a bin's weights
for results.  No kernel runs but the references' own loops, so a changed rule shows at once:
docs/inside/trust-mutations.md has how many changes do.
"""

from functools import cache

import numpy as np
import pytest

import reference_crops
from operators import OPERATORS, RULES
from roi_numba import crop_and_resize

SIZE = 7
ENDS = -3.5, -1, -0.5, 0.0, 0.3, 1.0, 1.5, 2.5, 4.6, 6.0, 6.5, 7, 9.25
INTERVALS = np.array(
    [(low, high) for low in ENDS for high in ENDS]
    + [(-40, 40), (-2e7, 3), (2, 2**25), (-(2.0**24), 2.0**24), (2**53, 2**54), (-3e8, 3e8)]
    # Of these the end alone is beyond what float32 and float64 tell apart.
    + [(2, 2**24 + 2), (2, 2**53 + 2)]
    # Of these neither end is but the length, and of six samples from end to end the third is at 2.
    + [(2 - 1e7, 2 + 1.5e7), (2.0 - 2**52, 2 + 1.5 * 2**52)]
)
ACROSS = 10.0, 20.0
"""Of the other axis all is weighed alike: inside the map, where a maximum finds a whole pixel."""
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
        weights = np.zeros((last - first, size))
        for k in range(first, last):
            pixel, *both = rule.entry(span, p, k, bins, size, axis_options)
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
        for k in range(len(boxes)):
            found = entries(operator.rule, boxes[k, [1, 3]], bins, scale, dtype, options)
            for p, (divisor, weights) in enumerate(found):
                if mean:
                    weight = weights.sum(axis=0) / (divisor or 1)
                else:
                    weight = weights.max(axis=0, initial=0)
                limit = 20 * np.finfo(dtype).eps
                np.testing.assert_allclose(weight, expected[k, :, 0, p], rtol=0, atol=limit)


def moved_rows(scale):
    """Boxes on a ramp of noise near the map, and a gradient for three bins of each."""
    rng = np.random.default_rng(0)
    intervals = INTERVALS[np.abs(INTERVALS).max(axis=1) < 50] / scale
    rows = np.zeros((len(intervals), 5))
    rows[:, 1], rows[:, 3] = intervals.T
    rows[:, 2], rows[:, 4] = np.array(ACROSS) / scale
    features = np.broadcast_to(rng.normal(size=SIZE), (1, 1, 41, SIZE))
    return rows, features, rng.normal(size=(len(rows), 1, 1, 3))


def rates(operator, row, features, scale, options, entries_of):
    """How each bin changes with the ends of the box, by the slopes of some of its entries."""
    rule, values = operator.rule, features[0, 0, 0]
    axis_options = (scale, *rule.options(**options)[1])
    span = rule.span(row[1], row[3], 3, axis_options)
    found = np.zeros((3, 2))
    for p in range(3):
        numbers, divisor = entries_of(rule.entries(span, p, 3, SIZE, axis_options))
        for k in numbers:
            pixel, change, next_change, *ends = rule.slope(span, p, k, 3, SIZE, axis_options)
            rate = change * values[pixel] if change else 0.0
            rate += next_change * values[pixel + 1] if next_change else 0.0
            found[p] += rate * np.array(ends) / divisor
    return found


@pytest.mark.parametrize(("operator", "options"), SLOPES)
def test_slopes(operator, options):
    """Beside the reference's gradient to the box, which itself is held to be a slope."""
    rows, features, grad = moved_rows(0.37)
    _, expected = operator.reference_backward(
        grad, features, rows, 0.37, **operator.reductions["mean"], **options
    )
    for k, row in enumerate(rows):
        found = rates(
            operator, row, features, 0.37, options, lambda each: (range(*each[:2]), each[2])
        )
        np.testing.assert_allclose(grad[k, 0, 0] @ found, expected[k, [1, 3]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", ["zeros", "cut"])
def test_slopes_of_single_samples(border):
    """Of crop_pool, a maximum only, whose gradient is that of the sample it names."""
    (operator,) = (each for each in OPERATORS if each.name == "crop_pool")
    rows, features, grad = moved_rows(0.37)
    for sample in range(2):
        _, expected = operator.reference_backward(
            grad, features, rows, 0.37, border=border, argmax=np.full(grad.shape, sample)
        )
        for k, row in enumerate(rows):
            found = rates(
                operator, row, features, 0.37, {"border": border},
                lambda _, sample=sample: ((sample,), 1),
            )  # fmt: skip
            np.testing.assert_allclose(
                grad[k, 0, 0] @ found, expected[k, [1, 3]], rtol=0, atol=1e-12
            )


@pytest.mark.parametrize("edges", ["exact", "tensorflow"])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("normalized", [True, False])
@np.errstate(all="ignore")
def test_crops(method, normalized, edges):
    """Weights, and slopes by way of the gradient to the box."""
    options = {"method": method, "normalized": normalized, "edges": edges}
    dtype = np.float32 if edges == "tensorflow" else np.float64
    reach = SIZE - 1 if normalized else 1
    intervals = INTERVALS / reach
    across = (0.0, 1.0) if normalized else (0.0, 40.0)
    boxes = np.empty((len(intervals), 4), dtype)
    boxes[:, 0], boxes[:, 2] = across
    boxes[:, 1], boxes[:, 3] = intervals.T
    indices = np.zeros(len(boxes), int)
    images = np.moveaxis(columns(), 1, -1)
    rule = crop_and_resize.__globals__["RULE"]
    for bins in (1, 2, 4):
        expected = reference_crops.crop_and_resize(
            images, boxes, (1, bins), box_indices=indices, **options
        )
        for k in range(len(boxes)):
            found = entries(rule, boxes[k, [1, 3]], bins, 1.0, dtype, options)
            for p, (divisor, weights) in enumerate(found):
                assert divisor == 1
                np.testing.assert_allclose(
                    weights.sum(axis=0), expected[k, 0, p], rtol=0, atol=20 * np.finfo(dtype).eps
                )


def test_every_rule_is_here():
    assert {rule.name for rule in RULES} == {
        "crop_and_resize", *(case.values[0].name for case in CASES)
    }  # fmt: skip
