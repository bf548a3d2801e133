"""The interactive figure: its rules in JavaScript against the library's own results."""

import inspect
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roi_numba
from operators import OPERATORS
from strategies import SCALES, SEEDS, boxes, values

RULES = Path(__file__).parents[1] / "docs" / "_static" / "interactive" / "rules.js"

# Answers a line with a line: the operators and their options, or what one box reads and gives.
NODE = """
require(process.argv[1]);
const { OPERATORS, pool, weights } = globalThis.RoiRules;
function answer({ name, box: [x1, y1, x2, y2], map, bins, scale, options, reduce }) {
  if (!name) return OPERATORS;
  const { axis } = OPERATORS[name];
  const rows = axis(y1, y2, bins[0], map.length, scale, options);
  const columns = axis(x1, x2, bins[1], map[0].length, scale, options);
  const read = (axis) => axis.map(({ entries, divisor }) => weights(entries, divisor));
  return { y: read(rows), x: read(columns), pooled: pool(map, rows, columns, reduce) };
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
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


def test_options_are_the_librarys(rules):
    """Names, defaults (the first of the choices) and values are those of the library."""
    offered = rules({"box": []})
    assert set(offered) == {operator.name for operator in OPERATORS}
    for operator in OPERATORS:
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
def questions(draw, offered, operator):
    """A small map, boxes of every sort, and options that the figure offers."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    scale = draw(SCALES)
    features = values(draw(SEEDS), (1, 1, height, width), np.float64, draw(st.booleans()))
    rows = draw(boxes(features.shape, scale, np.float64, max_boxes=8))
    bins = draw(st.sampled_from([(1, 1), (2, 2), (2, 3), (5, 1), (7, 7)]))
    choices = offered[operator.name]
    options = {name: draw(st.sampled_from(each)) for name, each in choices["options"].items()}
    return features, rows, bins, scale, options, draw(st.sampled_from(choices["reduce"]))


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
def test_rules_are_the_librarys(rules, operator):
    """The same weights, the same pooled values, and a maximum's weights make its value.

    Both sides compute in float64, in the same order but for the sums: values agree to the
    rounding of a sum of 81 products of numbers below 5 (1e-12), weights to that of a sum of
    shares of 1.
    """
    asked = []

    @given(st.data())
    def check(data):
        features, rows, bins, scale, options, reduce = data.draw(questions(OFFERED, operator))
        keywords = options | operator.reductions[reduce]
        expected = operator.function(features, rows, bins, scale, **keywords)
        height, width = features.shape[2:]
        for k, row in enumerate(rows):
            answer = rules(
                {
                    "name": operator.name,
                    "box": row[1:].tolist(),
                    "map": features[0, 0].tolist(),
                    "bins": bins,
                    "scale": scale,
                    "options": options,
                    "reduce": reduce,
                }
            )
            for ends, size, count, read in (
                (row[[2, 4]], height, bins[0], answer["y"]),
                (row[[1, 3]], width, bins[1], answer["x"]),
            ):
                wanted = roi_numba.axis_weights(
                    operator.name, ends, size, count, spatial_scale=scale, **options
                )
                np.testing.assert_allclose(dense(read, size), wanted.toarray(), rtol=0, atol=1e-14)
            pooled = [result for line in answer["pooled"] for result in line]
            y = dense([result["y"] for result in pooled], height)
            x = dense([result["x"] for result in pooled], width)
            made = np.einsum("bi,ij,bj->b", y, features[0, 0], x)
            got = np.array([result["value"] for result in pooled])
            np.testing.assert_allclose(got, expected[k].ravel(), rtol=0, atol=1e-12)
            np.testing.assert_allclose(made, got, rtol=0, atol=1e-12)
            asked.append(row)

    OFFERED = rules({"box": []})
    check()
    assert len(asked) > 50


def dense(rows, size):
    """Lists of (cell, weight) as a matrix."""
    matrix = np.zeros((len(rows), size))
    for number, row in enumerate(rows):
        for cell, weight in row:
            matrix[number, cell] = weight
    return matrix
