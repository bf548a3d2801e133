"""Pyramid levels: other libraries' rules and their boundaries, a scalar reference, any array."""

import math
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import device_stand_in
from reference_levels import assign_level
from roi_numba import assign_levels

FPN = {"min_level": 2, "max_level": 5}
DETECTRON = {"epsilon": 1e-6, "epsilon_inside": True}
RULES = {
    "paper": FPN,
    "torchvision": FPN | {"epsilon": 1e-6},
    "detectron2": FPN | {"epsilon": 1e-8, "epsilon_inside": True},
    "detectron": FPN | DETECTRON | {"pixel_offset": True},
    "tensorpack": FPN | DETECTRON,
    "mmdet": DETECTRON
    | {"canonical_size": 56, "canonical_level": 0, "min_level": 0, "max_level": 3},
    "matterport": FPN | {"rounding": "round", "canonical_size": 224 / 1024},
}


def square(size):
    return np.array([[10.0, 20, 10 + size, 20 + size]])


@pytest.mark.parametrize(
    ("size", "wh", "offset", "matterport"),
    [
        (224, 4, 4, 4),
        (223, 3, 4, 4),
        (200, 3, 3, 4),
        (111, 2, 3, 3),
        (320, 4, 4, 5),
        (400, 4, 4, 5),
        (665, 5, 5, 5),
    ],
)
def test_the_levels_of_squares(size, wh, offset, matterport):
    for name, options in RULES.items():
        boxes = square(size) / 1024 if name == "matterport" else square(size)
        level = {"detectron": offset, "matterport": matterport, "mmdet": wh - 2}.get(name, wh)
        assert assign_levels(boxes, **options).tolist() == [level], name


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 55),
        (5, 5, 55, 5),
        (5, 5, 5, 5),
        (500, 500, 1, 1),
        (500, 1, 1, 500),
        (1, 500, 500, 1),
        (math.nan, 0, 500, 500),
        (0, 0, 500, math.nan),
        (-math.inf, 0, -math.inf, 500),
        (0, 3, math.inf, 3),
    ],
)
def test_no_area_is_the_lowest_level(name, box):
    options = RULES[name]
    if options.get("pixel_offset") and box[2:] in [(math.inf, 3)]:
        pytest.skip("one pixel high, and infinitely wide")
    assert assign_levels(np.array([box]), **options).tolist() == [options["min_level"]]


def test_infinite_boxes_are_of_the_highest_level():
    boxes = np.array([(0, 0, math.inf, 1), (-math.inf, -math.inf, math.inf, math.inf)])
    for options in RULES.values():
        assert (assign_levels(boxes, **options) == options["max_level"]).all()


def test_where_epsilon_is_added():
    """Sizes just below a boundary: §7's example, and what each epsilon is as a share of it."""
    just_below = square(111.9999)
    assert assign_levels(just_below, **RULES["paper"]) == 2
    assert assign_levels(just_below, **RULES["torchvision"]) == 2
    assert assign_levels(just_below, **RULES["tensorpack"]) == 3
    for size, outside, inside in [(1e-8, 3, 3), (6e-7, 3, 3), (8e-7, 2, 3), (1.8e-6, 2, 3)]:
        boxes = np.array([[0, 0, 112 * (1 - size), 112 * (1 - size)]])
        assert assign_levels(boxes, **FPN, epsilon=1e-6) == outside
        assert assign_levels(boxes, **FPN, **DETECTRON) == inside
        assert assign_levels(boxes, **FPN) == 2


def test_halves_go_to_even():
    options = {"min_level": -20, "max_level": 20, "rounding": "round", "canonical_level": 0}
    sizes = 2.0 ** np.arange(-4, 5)
    boxes = np.stack([0 * sizes, 0 * sizes, sizes, sizes], 1)
    found = assign_levels(boxes, canonical_size=1, epsilon=0.5, **options)
    assert found.tolist() == [-4, -2, -2, 0, 0, 2, 2, 4, 4]


def test_as_torchvision_recorded():
    """MultiScaleRoIAlign's boxes, many of them exactly on a boundary."""
    with np.load(Path(__file__).parent / "data/torchvision_multiscale_f32_canon224.npz") as golden:
        boxes = [golden["boxes_image0"], golden["boxes_image1"]]
        levels, scales = golden["levels"], golden["scales"]
    lowest, highest = -np.log2(scales[[0, -1]]).astype(int)
    options = {"min_level": int(lowest), "max_level": int(highest), "epsilon": 1e-6}
    assert set(levels.tolist()) == {0, 1}
    np.testing.assert_array_equal(assign_levels(boxes, **options) - lowest, levels)


LENGTHS = st.one_of(
    st.floats(-1e3, 1e4), st.sampled_from([0.0, 28, 56, 111, 112, 224, math.inf, math.nan, 1e200])
)


@given(st.data())
def test_equals_the_reference(data):
    corner = st.floats(-1e3, 1e3)
    rows = data.draw(st.lists(st.tuples(corner, corner, LENGTHS, LENGTHS), max_size=8))
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows]).reshape(-1, 4)
    lowest = data.draw(st.integers(-3, 4))
    options = {
        "min_level": lowest,
        "max_level": lowest + data.draw(st.integers(0, 6)),
        "canonical_size": data.draw(st.sampled_from([1, 56, 224, 224 / 1024, 0.3])),
        "canonical_level": data.draw(st.integers(-1, 5)),
        "rounding": data.draw(st.sampled_from(["floor", "round"])),
        "epsilon": data.draw(st.sampled_from([0, 1e-8, 1e-6, 0.5])),
        "epsilon_inside": data.draw(st.booleans()),
        "pixel_offset": data.draw(st.booleans()),
    }
    expected = [assign_level(box, **options) for box in boxes.tolist()]
    assert assign_levels(boxes, **options).tolist() == expected


# ---- arrays --------------------------------------------------------------------------------

ROWS = np.array([[0, 0, 224, 224], [0, 0, 30, 30], [8, 8, 600, 700], [3, 3, 2, 2]])
LEVELS = [4, 2, 5, 2]


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.uint16, np.int64, ">f4"]
)
def test_every_dtype_and_form(dtype):
    boxes = ROWS.astype(dtype)
    rows = np.column_stack([[0, 1, 0, 1], ROWS]).astype(dtype)
    for form in (boxes, rows, [boxes[:1], boxes[1:]], (boxes[:0], boxes), rows[:, 1:]):
        levels = assign_levels(form, **FPN)
        assert levels.dtype == np.int64
        assert levels.tolist() == LEVELS


def test_no_boxes():
    for boxes in (np.empty((0, 4)), np.empty((0, 5)), [], [np.empty((0, 4))] * 3):
        levels = assign_levels(boxes, **FPN)
        assert (levels.dtype, levels.shape) == (np.int64, (0,))


def test_on_a_device_nothing_waits():
    with device_stand_in.installed(), device_stand_in.machine.unchanged():
        machine = device_stand_in.machine
        before = machine.waits, machine.copies
        there = device_stand_in.ndarray.over(ROWS.astype(np.float32), 1)
        for boxes in (there, [there[:1], there[1:]]):
            for name in ("paper", "torchvision", "detectron", "tensorpack", "matterport"):
                expected = assign_levels(ROWS, **RULES[name])
                levels = assign_levels(boxes, **RULES[name])
                assert type(levels) is device_stand_in.ndarray
                assert levels._device == 1
                np.testing.assert_array_equal(device_stand_in.plain(levels), expected)
        assert (machine.waits, machine.copies) == before


def test_torch():
    torch = pytest.importorskip("torch")
    boxes = torch.tensor(ROWS, dtype=torch.float32, requires_grad=True)
    for form in (boxes, [boxes[:1], boxes[1:]]):
        levels = assign_levels(form, **FPN)
        assert isinstance(levels, torch.Tensor)
        assert levels.tolist() == LEVELS


def test_nested_lists():
    rows = ROWS.tolist()
    for form in (rows, tuple(rows), [[0, *row] for row in rows], [rows], [rows[:1], [], rows[1:]]):
        levels = assign_levels(form, **FPN)
        assert levels.dtype == np.int64
        assert levels.tolist() == LEVELS
    assert assign_levels([[0, 0, 224, 224]], **FPN).shape == (1,)
    assert assign_levels([[], []], **FPN).shape == (0,)


@pytest.mark.parametrize(
    ("boxes", "options", "error", "words"),
    [
        (ROWS[0], {}, ValueError, r"boxes must have shape \(K, 4\) or \(K, 5\), got \(4,\)"),
        (ROWS[:, :3], {}, ValueError, r"boxes must have shape .*, got \(4, 3\)"),
        ([ROWS, ROWS[0]], {}, ValueError, r"boxes\[1\] must have shape \(L, 4\), got \(4,\)"),
        ([[1, 2, 3]], {}, ValueError, r"boxes must have shape .*, got \(1, 3\)"),
        ([[1, 2, 3, 4], [5]], {}, ValueError, "boxes must be rows of four numbers, got a ragged"),
        ([[[1, 2]]], {}, ValueError, r"boxes\[0\] must have shape \(L, 4\), got \(1, 2\)"),
        ([[None] * 4], {}, TypeError, "boxes must be of a float or integer dtype"),
        ([3], {}, TypeError, r"boxes\[0\] must be an array, got int"),
        (3, {}, TypeError, "boxes must be an array, got int"),
        (ROWS > 0, {}, TypeError, "boxes must be of a float or integer dtype, got bool"),
        (ROWS, {"max_level": 1}, ValueError, "max_level must be at least 2, got 1"),
        (ROWS, {"min_level": 2.0}, TypeError, "min_level must be an integer, got 2.0"),
        (ROWS, {"canonical_size": 0}, ValueError, "canonical_size must be finite and positive"),
        (ROWS, {"epsilon": -1}, ValueError, "epsilon must be finite and not negative, got -1"),
        (ROWS, {"rounding": "ceil"}, ValueError, 'rounding must be one of "floor", "round"'),
        (ROWS, {"pixel_offset": 1}, TypeError, "pixel_offset must be True or False, got 1"),
        (ROWS, {"epsilon_inside": 1e-6}, TypeError, "epsilon_inside must be True or False"),
    ],
)
def test_bad_arguments(boxes, options, error, words):
    with pytest.raises(error, match=words):
        assign_levels(boxes, **FPN | options)
