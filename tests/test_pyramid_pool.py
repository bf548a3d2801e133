"""Pyramids: every box has the bits that its own map alone gives it, forth and back."""

from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roi_numba
from arrays import MATRIX, assert_same_bits
from operators import OPERATORS, ids
from roi_numba import pyramid_pool, pyramid_pool_backward
from roi_numba._cpu import engine
from strategies import CHANNELS, FLOATS, OUTPUT_SIZES, SEEDS, as_boxes, intervals, values

FPN = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


class Pyramid(NamedTuple):
    """The arguments of a call; maps are (N, C, H, W)."""

    inputs: list
    boxes: np.ndarray
    output_size: int | tuple[int, int]
    spatial_scales: list
    levels: np.ndarray


@st.composite
def pyramids(draw, dtype=np.float32):
    """Maps of unrelated sizes and scales, boxes of every sort on any of them."""
    n_images, channels = draw(st.integers(1, 3)), draw(CHANNELS)
    count = draw(st.integers(1, 5))
    sides = st.integers(1, 20)
    sizes = [(draw(sides), draw(sides)) for _ in range(count)]
    scales = [draw(st.sampled_from([1.0, 0.5, 1 / 16, 0.37])) for _ in range(count)]
    rows, levels = [], []
    for _ in range(draw(st.integers(1, 8))):
        level = draw(st.integers(0, count - 1))
        height, width = sizes[level]
        (x1, x2), (y1, y2) = (draw(intervals(side, scales[level])) for side in (width, height))
        rows.append((draw(st.integers(0, n_images - 1)), x1, y1, x2, y2))
        levels.append(level)
    inputs = [
        values(draw(SEEDS), (n_images, channels, *size), dtype, draw(st.booleans()))
        for size in sizes
    ]
    boxes = as_boxes(rows, draw(st.sampled_from([np.float32, np.float64])))
    return Pyramid(inputs, boxes, draw(OUTPUT_SIZES), scales, np.array(levels))


def level_by_level(call):
    """Which boxes are on each map, and the call of an operator on those alone."""
    for level, (array, scale) in enumerate(zip(call.inputs, call.spatial_scales, strict=True)):
        there = call.levels == level
        yield there, (array, call.boxes[there], call.output_size, scale)


def pool(operator, call, axis=1, **options):
    inputs = [np.moveaxis(array, 1, axis) for array in call.inputs]
    return pyramid_pool(
        operator.function, inputs, call.boxes, call.output_size, channel_axis=axis,
        spatial_scales=call.spatial_scales, levels=call.levels, **options,
    )  # fmt: skip


@MATRIX
@given(data=st.data())
def test_forward(operator, reduction, data):
    dtype = data.draw(st.sampled_from(FLOATS))
    call = data.draw(pyramids(dtype))
    options = data.draw(operator.draw_options()) | operator.reductions[reduction]
    axis = data.draw(st.sampled_from([1, -1]))
    named = reduction != "mean"
    if named:
        output, argmax = pool(operator, call, axis, return_argmax=True, **options)
    else:
        output, argmax = pool(operator, call, axis, **options), None
    for there, arguments in level_by_level(call):
        if named:
            expected, first = operator.function(*arguments, return_argmax=True, **options)
            np.testing.assert_array_equal(np.moveaxis(argmax[there], axis, 1), first)
        else:
            expected = operator.function(*arguments, **options)
        assert_same_bits(np.moveaxis(output[there], axis, 1), expected)


@MATRIX
@given(data=st.data())
def test_backward(operator, reduction, data):
    dtype = data.draw(st.sampled_from(FLOATS))
    call = data.draw(pyramids(dtype))
    options = data.draw(operator.draw_options()) | operator.reductions[reduction]
    grad = values(1, pool(operator, call, **options).shape, dtype)
    grad_inputs, grad_boxes = pyramid_pool_backward(
        operator.function, grad, call.inputs, call.boxes, spatial_scales=call.spatial_scales,
        levels=call.levels, **options,
    )  # fmt: skip
    assert len(grad_inputs) == len(call.inputs)
    parts = zip(grad_inputs, level_by_level(call), strict=True)
    for grad_input, (there, (array, boxes, _, scale)) in parts:
        expected = operator.backward(grad[there], array, boxes, scale, **options)
        assert_same_bits(grad_input, expected[0])
        # Zeros of the other maps are added: to -0 too.
        np.testing.assert_array_equal(grad_boxes[there], expected[1])
        assert grad_boxes.dtype == expected[1].dtype


@MATRIX
def test_against_the_reference(operator, reduction):
    call = PLAIN._replace(inputs=DOUBLE, boxes=PLAIN.boxes.astype(np.float64))
    options = operator.reductions[reduction]
    output = pool(operator, call, **options)
    for there, (array, *arguments) in level_by_level(call):
        expected = operator.reference(array, *arguments, **options)
        np.testing.assert_allclose(output[there], expected, rtol=0, atol=1e-13)


SIZES = [(24, 32), (12, 16), (6, 8), (3, 4)]
DOUBLE = [values(i, (2, 5, *size), np.float64) for i, size in enumerate(SIZES)]
PLAIN = Pyramid(
    [array.astype(np.float32) for array in DOUBLE],
    np.array(
        [
            (0, 3, 2, 60, 40), (1, 0, 0, 120, 90), (0, 0.5, 0, 9, 13), (1, 20, 8, 21, 70),
            (0, 70, 3, 30, 90), (1, 5, 5, 118, 92.5),
        ],
        np.float32,
    ),
    (2, 3),
    FPN,
    np.array([1, 3, 0, 1, 2, 2]),
)  # fmt: skip
ALIGN = OPERATORS[1]


def of_plain(**changed):
    """`pyramid_pool` of the plain call, with some arguments changed."""
    arguments = PLAIN._asdict() | changed
    return pyramid_pool(arguments.pop("op", roi_numba.roi_align), **arguments)


def test_boxes_in_other_forms():
    expected = of_plain()
    images = PLAIN.boxes[:, 0].astype(int)
    assert_same_bits(of_plain(boxes=PLAIN.boxes[:, 1:], batch_indices=images), expected)
    by_image = np.argsort(images, kind="stable")
    parts = [PLAIN.boxes[images == image, 1:] for image in range(2)]
    output = of_plain(boxes=parts, levels=PLAIN.levels[by_image])
    assert_same_bits(output, expected[by_image])


def test_into_an_array():
    out = np.full((6, 5, 2, 3), 7, np.float32)
    assert of_plain(out=out) is out
    assert_same_bits(out, of_plain())
    with pytest.raises(ValueError, match=r"out must not share memory with inputs\[3\]"):
        of_plain(out=PLAIN.inputs[3].reshape(-1)[: 6 * 5].reshape(6, 5, 1, 1), output_size=1)
    memory = np.zeros((6, 5, 2, 3), np.float32)
    levels = memory.reshape(-1)[:12].view(np.int64)
    with pytest.raises(ValueError, match="out must not share memory with levels"):
        of_plain(out=memory, levels=levels)


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_scales_that_differ_by_axis(operator):
    """Powers of two, so that boxes can be scaled beforehand without a rounding."""
    scales = [(1 / 4, 1 / 8), (1 / 8, 1 / 2), (1 / 16, 1 / 16), (1, 1 / 32)]
    output = pool(operator, PLAIN._replace(spatial_scales=scales))
    boxes = PLAIN.boxes.copy()
    for level, (y, x) in enumerate(scales):
        boxes[PLAIN.levels == level, 1:] *= (x, y, x, y)
    call = PLAIN._replace(boxes=boxes, spatial_scales=[1, 1, 1, 1])
    assert_same_bits(output, pool(operator, call))


def test_nothing_changes_with_threads():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 90, (600, 5)).astype(np.float32) * (0, 1, 1, 1, 1)
    maps = [values(i, (1, 64, *size), np.float32) for i, size in enumerate(SIZES)]
    call = PLAIN._replace(inputs=maps, boxes=boxes, levels=rng.integers(0, 4, 600))
    roi_numba.set_num_threads(1)
    expected = pool(ALIGN, call)
    roi_numba.set_num_threads(3)
    assert_same_bits(pool(ALIGN, call), expected)


def test_one_call_of_the_engine():
    with (
        mock.patch.object(engine, "pool") as alone,
        mock.patch.object(engine, "pool_levels", wraps=engine.pool_levels) as together,
    ):
        of_plain()
    assert (alone.call_count, together.call_count) == (0, 1)


def test_torchvision_boundaries():
    """Boxes on the boundaries of levels and worse, with the levels that torchvision gave them."""
    data = np.load(Path(__file__).parent / "data" / "torchvision_multiscale_f32_canon224.npz")
    output = pyramid_pool(
        roi_numba.roi_align,
        [data[f"features{level}"] for level in range(4)],
        [data["boxes_image0"], data["boxes_image1"]],
        (3, 5),
        spatial_scales=data["scales"].tolist(),
        levels=data["levels"],
        sampling_ratio=2,
    )
    # As the other outputs of peers: in tests/test_goldens.py is said why.
    np.testing.assert_allclose(output, data["expected"], rtol=0, atol=2e-6)


# ---- levels --------------------------------------------------------------------------------


def test_levels_of_the_paper():
    sides = [10, 111, 112, 223, 224, 447, 448, 900]
    boxes = np.array([(0, 0, 0, side, side) for side in sides], np.float32)
    maps = [np.full((1, 1, 2, 2), level, np.float32) for level in range(4)]
    output = pyramid_pool(roi_numba.roi_pool, maps, boxes, 1, spatial_scales=FPN)
    assert output.ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    shifted = pyramid_pool(roi_numba.roi_pool, maps[1:], boxes, 1, spatial_scales=FPN[1:])
    assert shifted.ravel().tolist() == [1, 1, 1, 1, 2, 2, 3, 3]


def test_one_map_needs_no_levels():
    output = of_plain(inputs=PLAIN.inputs[:1], spatial_scales=[0.3], levels=None)
    expected = roi_numba.roi_align(PLAIN.inputs[0], PLAIN.boxes, (2, 3), 0.3)
    assert_same_bits(output, expected)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_a_level_that_is_no_maps(bad):
    levels = PLAIN.levels.copy()
    levels[2] = bad
    with pytest.raises(IndexError, match=rf"levels must be in \[0, 4\), got {bad} for box 2"):
        of_plain(levels=levels)
    expected = of_plain()
    expected[2] = 0
    assert_same_bits(of_plain(levels=levels, check_boxes=False), expected)
    grads = [
        pyramid_pool_backward(
            roi_numba.roi_align, np.ones_like(expected[rows]), PLAIN.inputs, PLAIN.boxes[rows],
            spatial_scales=FPN, levels=levels[rows], check_boxes=False,
        )
        for rows in (np.arange(6), np.array([0, 1, 3, 4, 5]))
    ]  # fmt: skip
    for one, other in zip(*(grad[0] for grad in grads), strict=True):
        assert_same_bits(one, other)
    assert not grads[0][1][2].any()


def test_bad_boxes_give_zeros():
    boxes = PLAIN.boxes.copy()
    boxes[1, 2], boxes[4, 0] = np.nan, 9
    with pytest.raises(IndexError, match="batch index in boxes"):
        of_plain(boxes=boxes)
    expected = of_plain()
    expected[[1, 4]] = 0
    assert_same_bits(of_plain(boxes=boxes, check_boxes=False), expected)


def test_no_boxes():
    assert of_plain(boxes=np.empty((0, 5)), levels=np.empty(0, int)).shape == (0, 5, 2, 3)
    grad_inputs, grad_boxes = pyramid_pool_backward(
        roi_numba.roi_align, np.empty((0, 5, 2, 3), np.float32), PLAIN.inputs, np.empty((0, 5)),
        spatial_scales=FPN,
    )  # fmt: skip
    assert grad_boxes.shape == (0, 5)
    assert [grad.shape for grad in grad_inputs] == [array.shape for array in PLAIN.inputs]
    assert not any(grad.any() for grad in grad_inputs)


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"op": "roi_align"}, TypeError, "op must be an operator"),
        ({"op": roi_numba.axis_weights}, TypeError, "op must be an operator"),
        ({"op": len}, TypeError, "op must be an operator"),
        ({"inputs": []}, TypeError, "inputs must be a list of at least one array, got list of"),
        ({"inputs": PLAIN.inputs[0]}, TypeError, "inputs must be a list .* got ndarray"),
        (
            {"inputs": [*PLAIN.inputs[:3], DOUBLE[3]]},
            TypeError,
            r"inputs\[3\] must be of dtype float32, got float64",
        ),
        (
            {"inputs": [*PLAIN.inputs[:3], PLAIN.inputs[3][:1]]},
            ValueError,
            r"inputs\[3\] must have 2 images of 5 channels",
        ),
        (
            {"inputs": [PLAIN.inputs[0][0], *PLAIN.inputs[1:]]},
            ValueError,
            r"inputs\[0\] must have shape \(N, C, H, W\)",
        ),
        ({"spatial_scales": FPN[:3]}, ValueError, "spatial_scales must be 4 scales"),
        ({"spatial_scales": 0.25}, TypeError, "spatial_scales must be a list of 4 scales"),
        ({"spatial_scales": [*FPN[:3], 0]}, ValueError, r"spatial_scales\[3\] must be finite"),
        ({"spatial_scales": [*FPN[:3], (1, 2, 3)]}, ValueError, r"spatial_scales\[3\] must be a"),
        ({"spatial_scales": [*FPN[:3], "1"]}, TypeError, r"spatial_scales\[3\] must be a number"),
        ({"levels": None, "spatial_scales": [1, 0.5, 0.5, 1]}, ValueError, "levels must be given"),
        ({"levels": PLAIN.levels[:5]}, ValueError, r"levels must have shape \(6,\)"),
        ({"levels": PLAIN.levels * 1.0}, TypeError, "levels must be integers, got dtype float64"),
        ({"levels": 1}, TypeError, "levels must be an array, got int"),
        ({"reduce_levels": "min"}, ValueError, "reduce_levels must be one of"),
        ({"reduce_levels": "sum"}, ValueError, 'levels must be None with reduce_levels="sum"'),
        (
            {"reduce_levels": "sum", "levels": None, "out": np.zeros((6, 5, 2, 3), np.float32)},
            ValueError,
            'out must not be given with reduce_levels="sum"',
        ),
        (
            {"reduce_levels": "sum", "levels": None, "return_argmax": True},
            ValueError,
            'return_argmax must not be given with reduce_levels="sum"',
        ),
        ({"sampling": 2}, TypeError, "sampling"),
    ],
)  # fmt: skip
def test_refused(changed, error, message):
    with pytest.raises(error, match=message):
        of_plain(**changed)


def test_refused_on_the_way_back():
    with pytest.raises(ValueError, match="grad_output must have the channels of all 4 maps"):
        pyramid_pool_backward(
            roi_numba.roi_align, np.ones((6, 5, 2, 3), np.float32), PLAIN.inputs, PLAIN.boxes,
            spatial_scales=FPN, reduce_levels="concat",
        )  # fmt: skip
    with pytest.raises(ValueError, match="argmax must not be given"):
        pyramid_pool_backward(
            roi_numba.roi_pool, np.ones((6, 5, 2, 3), np.float32), PLAIN.inputs, PLAIN.boxes,
            spatial_scales=FPN, reduce_levels="max", argmax=np.zeros((6, 5, 2, 3), int),
        )  # fmt: skip


@pytest.mark.parametrize("how", ["max", "concat"])
@pytest.mark.parametrize("grad", [[1.0], np.ones(3, np.float32), np.ones((6, 5), np.float32)])
def test_no_gradient_of_a_result(how, grad):
    with pytest.raises(ValueError, match="grad_output must be an array with four axes, got"):
        pyramid_pool_backward(
            roi_numba.roi_align, grad, PLAIN.inputs, PLAIN.boxes, spatial_scales=FPN,
            reduce_levels=how,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "shape", "options", "error", "message"),
    [
        (
            "max",
            (7, 5, 2, 3),
            {},
            ValueError,
            r"must have shape \(6, 5, 2, 3\), got \(7, 5, 2, 3\)",
        ),
        (
            "mean",
            (6, 5, 2, 3),
            {"dtype": object},
            TypeError,
            "must be of dtype float32, got object",
        ),
        ("sum", (6, 5, 2, 3), {"dtype": "f8"}, TypeError, "must be of dtype float32, got float64"),
        ("concat", (6, 20, 2, 3), {"channel_axis": 1.0}, TypeError, "channel_axis must be 1 or -1"),
        ("max", (6, 5, 2, 3), {"channel_axis": [1]}, TypeError, "channel_axis must be 1 or -1"),
    ],
)
def test_what_is_wrong_before_an_operator_sees_it(how, shape, options, error, message):
    grad = np.ones(shape, options.get("dtype", np.float32))
    options = {name: value for name, value in options.items() if name != "dtype"}
    with pytest.raises(error, match=message):
        pyramid_pool_backward(
            roi_numba.roi_align, grad, PLAIN.inputs, PLAIN.boxes, spatial_scales=FPN,
            reduce_levels=how, **options,
        )  # fmt: skip


@pytest.mark.parametrize("how", ["sum", "mean", "max", "concat"])
def test_maps_of_other_channels(how):
    inputs = [*PLAIN.inputs[:3], PLAIN.inputs[3][:, :4]]
    words = r"inputs\[3\] must have 2 images of 5 channels as inputs\[0\] has, got shape \(2, 4,"
    with pytest.raises(ValueError, match=words):
        of_plain(inputs=inputs, levels=None, reduce_levels=how)
    grad = np.ones((6, 19 if how == "concat" else 5, 2, 3), np.float32)
    with pytest.raises(ValueError, match=words):
        pyramid_pool_backward(
            roi_numba.roi_align, grad, inputs, PLAIN.boxes, spatial_scales=FPN, reduce_levels=how
        )


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_infinities_warn_of_nothing(how):
    """A warning is an error in the tests."""
    inputs = [np.full_like(array, (-1) ** i * np.inf) for i, array in enumerate(PLAIN.inputs)]
    pooled = of_plain(inputs=inputs, levels=None, reduce_levels=how)
    pyramid_pool_backward(
        roi_numba.roi_align, pooled, inputs, PLAIN.boxes, spatial_scales=FPN, reduce_levels=how
    )
