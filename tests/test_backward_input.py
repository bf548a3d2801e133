"""What the gradients take: boxes in every form, any memory and library, special values."""

import ml_dtypes
import numpy as np
import pytest

from arrays import BOXES, EVERY_OPERATOR, MATRIX, SHAPE, SIZE
from operators import OPERATORS, ids
from strategies import Call, as_boxes, values
from subprocesses import run
from test_arrays import MORE_LAYOUTS, box_forms, mapped
from test_backward import assert_gradients, assert_same_bits, backward, pool, upstream, with_winners
from test_dlpack import Foreign, borrowed
from test_odd_input import FAR, UNUSABLE
from test_reference_gradients import BOXES as AROUND
from test_reference_gradients import a_call


def plain_call(dtype=np.float32, boxes=BOXES):
    return Call(values(7, SHAPE, dtype), boxes, SIZE, 1.0)


def plain(operator, reduction, call=None):
    """A call, its gradient and its options."""
    call = call or plain_call()
    return call, upstream(call), with_winners(operator, call, operator.reductions[reduction])


def in_file(array, folder):
    folder.mkdir()
    return mapped(array, folder)


# ---- which gradients -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "wanted"),
    [
        ("input", (True, False)),
        (("input",), (True, False)),
        (["boxes"], (False, True)),
        ("boxes", (False, True)),
        ({"boxes"}, (False, True)),
        (["boxes", "input", "boxes"], (True, True)),
        ((), (False, False)),
    ],
    ids=repr,
)
@MATRIX
def test_needs(operator, reduction, needs, wanted):
    call, gradient, options = plain(operator, reduction)
    expected = backward(operator, gradient, call, **options)
    found = operator.backward(gradient, call.input, call.boxes, needs=needs, **options)
    for part, whole, want in zip(found, expected, wanted, strict=True):
        if want:
            assert_same_bits([part], [whole])
        else:
            assert part is None


# ---- boxes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", box_forms(BOXES))
@MATRIX
def test_box_forms(operator, reduction, form):
    """A list for a list; boxes of an image keep their order, and pixels the order of their sums."""
    rows = BOXES.astype(np.float64) if form == "nested lists" else BOXES
    boxes, indices, order = box_forms(rows)[form]
    call, gradient, options = plain(operator, reduction, plain_call(boxes=rows))
    expected = backward(operator, gradient, call, **options)
    if "argmax" in options:
        options["argmax"] = options["argmax"][order]
    found = operator.backward(gradient[order], call.input, boxes, batch_indices=indices, **options)
    parts = found[1]
    if isinstance(boxes, (list, tuple)):
        assert type(parts) is list
        for part, given in zip(parts, boxes, strict=True):
            assert part.shape == np.shape(given)
            assert type(part) is np.ndarray
        parts = np.concatenate(parts)
    columns = slice(1, 5) if parts.shape[1] == 4 else slice(5)
    assert_same_bits((found[0], parts), (expected[0], expected[1][order, columns]))


@pytest.mark.parametrize("empty", [[], (), np.empty((0, 4), np.float32)], ids=str)
@MATRIX
def test_an_image_without_boxes(operator, reduction, empty):
    rows = BOXES[BOXES[:, 0] == 0]
    call, gradient, options = plain(operator, reduction, plain_call(boxes=rows))
    grad_input, grad_boxes = backward(operator, gradient, call, **options)
    found = operator.backward(gradient, call.input, [rows[:, 1:], empty], **options)
    assert_same_bits((found[0], found[1][0]), (grad_input, grad_boxes[:, 1:]))
    assert found[1][1].shape == (0, 4)
    assert not grad_input[1].any()


@pytest.mark.parametrize("layout", ["big-endian", "packed field", "reversed", "unaligned"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32], ids=ids)
@EVERY_OPERATOR
def test_layout_of_boxes(operator, dtype, layout):
    layouts = MORE_LAYOUTS | {"reversed": lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1]}
    call = plain_call(boxes=BOXES.astype(dtype))
    laid_out = call._replace(boxes=layouts[layout](call.boxes))
    expected = backward(operator, upstream(call), call)
    assert_same_bits(backward(operator, upstream(call), laid_out), expected)


@MATRIX
def test_unusable_boxes_have_no_part(operator, reduction):
    rows = np.array([BOXES[0], *UNUSABLE, BOXES[1]])
    call, _, options = plain(operator, reduction, plain_call(boxes=rows[[0, -1]]))
    mixed = call._replace(boxes=rows)
    gradient = upstream(mixed)
    expected = backward(operator, gradient[[0, -1]], call, **options)
    if "argmax" in options:  # not even if they are said to have winners
        options["argmax"] = np.insert(options["argmax"], [1] * len(UNUSABLE), 0, axis=0)
    found = backward(operator, gradient, mixed, check_boxes=False, **options)
    assert_same_bits((found[0], found[1][[0, -1]]), expected)
    assert not found[1][1:-1].any()


@pytest.mark.parametrize("shape", [(2, 0, 8, 9), (2, 3, 0, 9), (2, 3, 8, 0), (2, 3, 0, 0)])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=ids)
@MATRIX
def test_empty_maps_and_no_boxes(operator, reduction, dtype, shape):
    for rows in (BOXES, BOXES[:0], as_boxes(BOXES, np.float16)):
        call = Call(np.empty(shape, dtype), rows, SIZE, 1.0)
        options = with_winners(operator, call, operator.reductions[reduction])
        for axis in (1, -1):
            found = backward(operator, upstream(call), call, axis, **options)
            assert_same_bits(found, (np.zeros(shape, dtype), np.zeros_like(rows)))


@MATRIX
def test_no_boxes(operator, reduction):
    """On a map that is not empty, or of no image at all."""
    options = operator.reductions[reduction]
    input, gradient = values(7, SHAPE, np.float16), np.empty((0, 19, *SIZE), np.float16)
    for boxes in (BOXES[:0], BOXES[:0].astype(np.float64), [BOXES[:0, 1:], []]):
        grad_input, grad_boxes = operator.backward(gradient, input, boxes, **options)
        assert_same_bits([grad_input], [np.zeros_like(input)])
        if isinstance(boxes, list):
            assert [part.shape for part in grad_boxes] == [(0, 4)] * 2
        else:
            assert_same_bits([grad_boxes], [boxes])
    grad_input, grad_boxes = operator.backward(gradient, input[:0], [], **options)
    assert grad_input.shape == (0, *SHAPE[1:])
    assert grad_boxes == []


@MATRIX
def test_absurd_sizes_equal_reference(operator, reduction, rng):
    """Maps of a pixel, bins much smaller than pixels, more samples than pixels."""
    own = {"sampling_ratio": (1, 13)} if "sampling_ratio" in operator.options else {}
    rows = [(0, -0.4, 0.1, 0.3, 0.9), (0, 0.0, 0.0, 1.0, 1.0), (0, 2.2, 1.4, 2.9, 1.5)]
    for sides, size in [((1, 1), 3), ((1, 6), (20, 1)), ((5, 1), (2, 19)), ((4, 5), (15, 14))]:
        call = Call(values(2, (1, 3, *sides), np.float32), np.array(rows), size, 1.0)
        for options in ({}, own):
            options = with_winners(operator, call, operator.reductions[reduction] | options)
            assert_gradients(operator, call, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
@MATRIX
def test_far_boxes(operator, reduction, dtype):
    boxes = [
        (0, *box)
        for far in FAR
        if far <= float(np.finfo(dtype).max)
        for box in ((far,) * 4, (1, -far, 5, -far), (far, far, -far, -far), (-far, 1, far, 4))
    ]
    call, gradient, options = plain(operator, reduction, plain_call(boxes=np.array(boxes, dtype)))
    for scale in (1e-300, 1.0, 1e300):
        call = call._replace(spatial_scale=scale)
        options = with_winners(operator, call, operator.reductions[reduction])
        for part in backward(operator, gradient, call, **options):
            assert np.isfinite(part).all()


@pytest.mark.parametrize("reduction", ["max", "max_corner"])
def test_more_samples_than_integers_can_number(reduction):
    """A box of 1e10 pixels a side has 1e20 of them; those on the map are few."""
    (align,) = (operator for operator in OPERATORS if operator.name == "roi_align")
    call = Call(values(7, SHAPE, np.float64), np.array([[0, -1e10, -1e10, 1e10, 1e10]]), 1, 1.0)
    pooled = pool(align, call, reduce=reduction) * upstream(call)
    given = with_winners(align, call, {"reduce": reduction})
    for options in (given, {"reduce": reduction}):
        grad_input, _ = backward(align, upstream(call), call, **options)
        np.testing.assert_allclose((grad_input * call.input).sum(), pooled.sum(), rtol=1e-12)


# ---- memory and libraries ------------------------------------------------------------------


@pytest.mark.parametrize("layout", MORE_LAYOUTS)
@MATRIX
def test_layout_changes_no_bit(operator, reduction, layout):
    lay_out = MORE_LAYOUTS[layout]
    call, gradient, options = plain(operator, reduction)
    for axis in (1, -1):
        laid_out = call._replace(input=lay_out(values(7, SHAPE, np.float32)))
        same = call._replace(input=np.array(laid_out.input, order="C", subok=False))
        options = with_winners(operator, same, operator.reductions[reduction])
        expected = backward(operator, gradient, same, **options)
        assert_same_bits(backward(operator, gradient, laid_out, axis, **options), expected)

        moved = lay_out(upstream(call))
        expected = backward(operator, np.array(moved, order="C", subok=False), same, **options)
        if "argmax" in options and not layout.startswith("one"):
            options["argmax"] = lay_out(options["argmax"].copy())
        assert_same_bits(backward(operator, moved, same, axis, **options), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=ids)
@MATRIX
def test_inputs_are_never_written(operator, reduction, dtype, tmp_path):
    """All of them lie in files that may only be read."""
    call, gradient, options = plain(operator, reduction, plain_call(dtype))
    expected = backward(operator, gradient, call, **options)
    if "argmax" in options:
        options["argmax"] = in_file(options["argmax"], tmp_path / "argmax")
    read_only = call._replace(
        input=in_file(call.input, tmp_path / "input"), boxes=in_file(BOXES, tmp_path / "boxes")
    )
    found = backward(operator, in_file(gradient, tmp_path / "gradient"), read_only, **options)
    assert_same_bits(found, expected)
    corners, images = BOXES[:, 1:].copy(), BOXES[:, 0].astype(np.int64)
    images.flags.writeable = False
    found = operator.backward(gradient, call.input, corners, batch_indices=images, **options)
    assert_same_bits(found, (expected[0], expected[1][:, 1:]))


@MATRIX
def test_arrays_go_back_to_their_libraries(operator, reduction):
    call, gradient, options = plain(operator, reduction)
    expected = backward(operator, gradient, call, **options)
    if "argmax" in options:
        options["argmax"] = Foreign(options["argmax"])
    arguments = Foreign(gradient), Foreign(call.input)
    grad_input, grad_boxes = operator.backward(*arguments, Foreign(BOXES), **options)
    assert_same_bits((borrowed(grad_input), borrowed(grad_boxes)), expected)
    grad_input, grad_boxes = operator.backward(*arguments, BOXES, **options)
    assert_same_bits((borrowed(grad_input), grad_boxes), expected)

    order = np.argsort(BOXES[:, 0], kind="stable")
    first, second = (BOXES[BOXES[:, 0] == image, 1:] for image in range(2))
    arguments = Foreign(gradient[order]), Foreign(call.input), [Foreign(first), second]
    if "argmax" in options:
        options["argmax"] = Foreign(borrowed(options["argmax"])[order])
    grad_input, (one, other) = operator.backward(*arguments, **options)
    found = borrowed(grad_input), np.concatenate([borrowed(one), other])
    assert_same_bits(found, (expected[0], expected[1][order, 1:]))


# ---- special values ------------------------------------------------------------------------


@pytest.mark.parametrize("special", [np.nan, np.inf])
@MATRIX
def test_special_gradients_reach_what_their_bin_reads(operator, reduction, special, rng):
    """Pixels with a weight, and their own box."""
    call, clean, options = plain(operator, reduction, a_call(rng))
    expected = backward(operator, clean, call, **options)
    for k in range(len(AROUND)):
        lone, gradient = np.zeros_like(clean), clean.copy()
        lone[k, 1, 1, 1], gradient[k, 1, 1, 1] = 1, special
        read, moved = operator.reference_backward(
            lone, call.input, call.boxes, call.spatial_scale, **options
        )
        grad_input, grad_boxes = backward(operator, gradient, call, **options)
        np.testing.assert_array_equal(~np.isfinite(grad_input), read != 0)
        np.testing.assert_array_equal(grad_input[read == 0], expected[0][read == 0])
        assert not np.isfinite(grad_boxes[moved != 0]).any()
        others = np.arange(len(AROUND)) != k
        np.testing.assert_array_equal(grad_boxes[others], expected[1][others])


@pytest.mark.parametrize("special", [np.nan, np.inf])
@MATRIX
def test_special_features_reach_the_boxes_that_move_over_them(operator, reduction, special, rng):
    call = a_call(rng)._replace(output_size=1)
    options = operator.reductions[reduction]
    if "sampling_ratio" in operator.options:
        options = options | {"sampling_ratio": 1}
    options = with_winners(operator, call, options)
    gradient = np.ones((len(AROUND), 3, 1, 1))
    expected = backward(operator, gradient, call, **options)
    for pixel in [(0, 0), (1, 4), (3, 2), (3, 5), (6, 7)]:
        lone, spoilt = np.zeros_like(call.input), call.input.copy()
        lone[:, 1, *pixel], spoilt[:, 1, *pixel] = 1, special
        _, moved = operator.reference_backward(
            gradient, lone, call.boxes, call.spatial_scale, **options
        )
        found = backward(operator, gradient, call._replace(input=spoilt), **options)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(~np.isfinite(found[1]), moved != 0)
        np.testing.assert_array_equal(found[1][moved == 0], expected[1][moved == 0])


# ---- memory --------------------------------------------------------------------------------

NAMED_VALUES = """
import numpy as np
from arrays import BOXES, SHAPE, SIZE
from operators import OPERATORS
from roi_numba import _derivatives
from strategies import Call, values
from test_backward import derivative, with_winners

operator = next(each for each in OPERATORS if each.name == "roi_pool")
call = Call(values(7, SHAPE, np.float32), BOXES, SIZE, 1.0)
options = with_winners(operator, call, operator.reductions["max"])
print(derivative(_derivatives.at_argmax, operator, call, options).sum())
"""


def test_named_values_read_no_gradient():
    """There is none; what was read in its place was foreign memory, and not used."""
    run(NAMED_VALUES, NUMBA_BOUNDSCHECK=1)
