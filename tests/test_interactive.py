"""The interactive figure: its rules in JavaScript against the library's own results."""

import inspect
import json
import re
import shutil
import subprocess
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
"""The operators that the figure has."""

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
    assert set(offered) == {operator.name for operator in FIGURE} != set()
    for operator in FIGURE:
        parameters = inspect.signature(operator.function).parameters
        choices = offered[operator.name]["options"] | {"reduce": offered[operator.name]["reduce"]}
        assert set(choices["reduce"]) <= set(operator.reductions)
        if "reduce" not in parameters:
            del choices["reduce"]
        assert {name: values[0] for name, values in choices.items()} == {
            name: parameters[name].default for name in choices
        }
        own = inspect.signature(operator.rule.options).parameters
        assert set(choices) - {"reduce"} == set(own)


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
    offered = rules({})[operator.name]
    choices = [
        dict(zip(offered["options"], each, strict=True))
        for each in product(*offered["options"].values())
    ]
    compared = 0

    @given(calls())
    def compare(call):
        nonlocal compared
        features, rows, bins, scale = call
        for options, reduce in product(choices, offered["reduce"]):
            compare_one(operator, rules, features, rows, bins, scale, options, reduce)
            compared += len(rows)

    compare()
    assert compared > 100


def compare_one(operator, rules, features, rows, bins, scale, options, reduce):
    image = features[0, 0]
    question = {"name": operator.name, "boxes": rows[:, 1:].tolist(), "map": image.tolist()}
    question |= {"bins": bins, "scale": scale, "options": options, "reduce": reduce}
    answers = rules(question)
    for axis, ends, size, count in (
        ("y", rows[:, [2, 4]], image.shape[0], bins[0]),
        ("x", rows[:, [1, 3]], image.shape[1], bins[1]),
    ):
        read = dense([each for answer in answers for each in answer[axis]], size)
        expected = roi_numba.axis_weights(
            operator.name, ends, size, count, spatial_scale=scale, **options
        )
        np.testing.assert_allclose(read, expected.toarray(), rtol=0, atol=1e-14)

    results = [result for answer in answers for result in answer["pooled"]]
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
