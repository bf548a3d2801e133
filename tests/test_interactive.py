"""The interactive figure: its rules in JavaScript against the library's own results."""

import inspect
import json
import re
import shutil
import subprocess
from importlib import import_module
from itertools import product
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roi_numba
from operators import OPERATORS, ids
from strategies import SCALES, SEEDS, boxes, values

RULES = Path(__file__).parents[1] / "docs" / "_static" / "interactive" / "rules.js"
FIGURE = [
    operator
    for operator in OPERATORS
    if re.search(rf"^ +{operator.name}: {{", RULES.read_text(encoding="utf-8"), re.MULTILINE)
]
"""The operators that the figure has, but for crops."""

# Answers a line with a line: the operators and their options, or what boxes read and give.
NODE = """
require(process.argv[1]);
const { OPERATORS, pool, weights } = globalThis.RoiRules;
function answer({ name, boxes, map, bins, scale, options, reduce }) {
  if (!name) return OPERATORS;
  const { axis } = OPERATORS[name];
  const read = (axis) => axis.map(({ entries, divisor }) => weights(entries, divisor));
  return boxes.map(([x1, y1, x2, y2]) => {
    const rows = axis(y1, y2, bins[0], map.length, scale, options);
    const columns = axis(x1, x2, bins[1], map[0].length, scale, options);
    const pooled = pool(map, rows, columns, reduce);
    return { y: read(rows), x: read(columns), pooled: pooled.flat() };
  });
}
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(answer(JSON.parse(line))) + "\\n");
});
"""


@pytest.fixture(scope="module")
def rules():
    """A function that asks Node.js one question."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    with subprocess.Popen(
        [node, "-e", NODE, RULES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(question):
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            limit = Timer(60, process.kill)  # a loop over 1e30 samples would not end
            limit.start()
            answer = process.stdout.readline()
            limit.cancel()
            assert answer, f"no answer to {question}"
            return json.loads(answer)

        yield ask
        process.stdin.close()


def test_options_are_the_librarys(rules):
    """Names, defaults (the first of the choices) and values are those of the library."""
    offered = rules({})
    names = {operator.name for operator in FIGURE}
    assert set(offered) == names | {"crop_and_resize"} != {"crop_and_resize"}
    for operator in FIGURE:
        assert set(offered[operator.name]["reduce"]) == set(operator.reductions)
    for name, has in offered.items():
        parameters = inspect.signature(getattr(roi_numba, name)).parameters
        choices = has["options"] | ({"reduce": has["reduce"]} if "reduce" in parameters else {})
        assert {option: values[0] for option, values in choices.items()} == {
            option: parameters[option].default for option in choices
        }
        own = inspect.signature(import_module(f"roi_numba.{name}").RULE.options).parameters
        assert set(has["options"]) == set(own)


@st.composite
def calls(draw):
    """A small map and boxes of every sort."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    features = values(draw(SEEDS), (1, 1, height, width), np.float64, draw(st.booleans()))
    scale = draw(SCALES)
    rows = draw(boxes(features.shape, scale, np.float64, max_boxes=8))
    return features, rows, draw(st.sampled_from([(1, 1), (2, 2), (2, 3), (5, 1), (7, 7)])), scale


@pytest.mark.parametrize("operator", FIGURE, ids=ids)
def test_rules_are_the_librarys(rules, operator):
    """The same weights, pooled values and largest cells, and the weights of a value make it.

    Both sides compute in float64, and in the same order but for sums: values agree to the
    rounding of 81 products of numbers below 10, weights to that of shares of 1.
    """
    choices, reductions = offered_by(rules, operator.name)
    compared = 0

    @given(calls())
    def compare(call):
        nonlocal compared
        features, rows, bins, scale = call
        for options, reduce in product(choices, reductions):
            compare_one(operator, rules, features, rows, bins, scale, options, reduce)
            compared += len(rows)

    compare()
    assert compared > 100


def offered_by(rules, name):
    """Every choice of an operator's options that the figure has, and the reductions."""
    offered = rules({})[name]
    options = offered["options"]
    choices = [dict(zip(options, each, strict=True)) for each in product(*options.values())]
    return choices, offered["reduce"]


def asked(rules, name, image, rows, bins, scale, options, reduce):
    """What the figure has for boxes: the weights along y and along x, and the bins' results."""
    question = {"name": name, "boxes": rows[:, 1:].tolist(), "map": image.tolist()}
    question |= {"bins": bins, "scale": scale, "options": options, "reduce": reduce}
    answers = rules(question)
    y, x = (
        dense([each for answer in answers for each in answer[axis]], size)
        for axis, size in zip("yx", image.shape, strict=True)
    )
    return y, x, [result for answer in answers for result in answer["pooled"]]


def compare_one(operator, rules, features, rows, bins, scale, options, reduce):
    image = features[0, 0]
    *read, results = asked(rules, operator.name, image, rows, bins, scale, options, reduce)
    for axis in range(2):
        expected = roi_numba.axis_weights(
            operator.name, rows[:, [2 - axis, 4 - axis]], image.shape[axis], bins[axis],
            spatial_scale=scale, **options,
        )  # fmt: skip
        np.testing.assert_allclose(read[axis], expected.toarray(), rtol=0, atol=1e-14)

    pooled = np.array([result["value"] for result in results])
    keywords = options | operator.reductions[reduce]
    expected = operator.function(features, rows, bins, scale, **keywords)
    np.testing.assert_allclose(pooled, expected.ravel(), rtol=0, atol=1e-12)
    y = dense([result["y"] for result in results], image.shape[0])
    x = dense([result["x"] for result in results], image.shape[1])
    np.testing.assert_allclose(np.einsum("bi,ij,bj->b", y, image, x), pooled, rtol=0, atol=1e-12)
    if operator.rule.argmax == "cell" and reduce == "max":
        _, cells = operator.function(features, rows, bins, scale, return_argmax=True, **keywords)
        largest = [largest_cell(result["winner"], image.shape[1]) for result in results]
        assert largest == cells.ravel().tolist()


def test_crops_are_the_librarys(rules):
    """The same weights and values, of boxes as shares of the image and in cells.

    Weights agree to the rounding of shares of 1 in the dtype of the geometry, values, which are
    float32, to that of a number of the map's size.
    """
    choices, (reduce,) = offered_by(rules, "crop_and_resize")
    compared = 0

    @given(calls())
    def compare(call):
        nonlocal compared
        features, rows, bins, scale = call
        rows = np.clip(rows, -1e37, 1e37)  # float32 holds them
        image = features[0, 0]
        height, width = image.shape
        for options in choices:
            y, x, results = asked(
                rules, "crop_and_resize", image, rows, bins, scale, options, reduce
            )
            boxes = rows[:, [2, 1, 4, 3]] * scale
            boxes = boxes / ([height, width] * 2) if options["normalized"] else boxes - 0.5
            single = options["edges"] == "tensorflow"
            ends = boxes.astype(np.float32 if single else np.float64)
            for axis, read in enumerate((y, x)):
                expected = roi_numba.axis_weights(
                    "crop_and_resize", ends[:, axis::2], image.shape[axis], bins[axis], **options
                )
                limit = 1e-7 if single else 1e-14
                np.testing.assert_allclose(read, expected.toarray(), rtol=0, atol=limit)
            expected = roi_numba.crop_and_resize(
                features, boxes, bins, box_indices=np.zeros(len(rows), int), channel_axis=1,
                **options,
            )  # fmt: skip
            pooled = [result["value"] for result in results]
            limit = 1e-6 * np.abs(image).max()
            np.testing.assert_allclose(pooled, expected.ravel(), rtol=0, atol=limit)
            compared += len(rows)

    compare()
    assert compared > 100


def test_the_last_sample_of_a_crop_lies_on_the_end(rules):
    """Where rounding would put it beyond, off a map that is cut there."""
    (crop_pool,) = (operator for operator in FIGURE if operator.name == "crop_pool")
    for size in range(2, 60):
        end = size - 1.0
        features, rows = np.ones((1, 1, 1, size)), np.array([[0, 0, 0, end, 0]])
        options = {"border": "cut"}
        compare_one(crop_pool, rules, features, rows, (1, 7), 1.0, options, "max")


def test_bins_narrower_than_floats_are_spaced(rules, rng):
    """They have the value at a point."""
    (prroi_pool,) = (operator for operator in FIGURE if operator.name == "prroi_pool")
    features = rng.standard_normal((1, 1, 6, 6))
    rows = np.array([[0, 3, 2, np.nextafter(3, 4), np.nextafter(2, 3)]])
    for aligned in (False, True):
        compare_one(prroi_pool, rules, features, rows, (7, 7), 1.0, {"aligned": aligned}, "mean")
    assert prroi_pool.function(features, rows, 7).all()


def test_a_bin_in_floats_overruns_the_box(rules):
    """29 cells / 7 * 7 are more than 29 in float64: the last bin reads one cell beyond."""
    (roi_pool,) = (operator for operator in FIGURE if operator.name == "roi_pool")
    features, rows = np.arange(40.0)[None, None, None], np.array([[0, 0, 0, 28, 0]])
    for bins, last in (("exact", 28), ("float", 29)):
        options = {"rounding": "half_away", "bins": bins}
        compare_one(roi_pool, rules, features, rows, (1, 7), 1.0, options, "max")
        assert roi_pool.function(features, rows, (1, 7), bins=bins)[..., -1] == last


def test_just_below_a_half_is_rounded_down(rules, rng):
    """Although adding a half to it gives 1."""
    (roi_pool,) = (operator for operator in FIGURE if operator.name == "roi_pool")
    features = rng.standard_normal((1, 1, 6, 6))
    below = np.nextafter(0.5, 0)
    rows = np.array([[0, below, -below, 3, 3]])
    options = {"rounding": "half_away", "bins": "exact"}
    compare_one(roi_pool, rules, features, rows, (2, 2), 1.0, options, "max")


def largest_cell(winner, width):
    """As argmax numbers it."""
    if winner is None:
        return -1
    y, x = winner
    return y["pixel"] * width + x["pixel"]


def dense(rows, size):
    """Lists of (cell, weight) as a matrix."""
    matrix = np.zeros((len(rows), size))
    for number, row in enumerate(rows):
        for cell, weight in row:
            matrix[number, cell] = weight
    return matrix
