"""What crop_and_resize takes and refuses: layouts, libraries, threads, boxes and values."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import GUARD, assert_same_bits, big_endian, packed_field, unaligned
from operators import ids
from roi_numba import crop_and_resize, crop_and_resize_backward
from roi_numba._cpu import crop
from strategies import values
from test_dlpack import Foreign, borrowed

BOXES = np.array(
    [
        (0.1, 0.2, 0.9, 0.7),
        (0.8, 0.1, 0.2, 0.9),
        (-0.3, 0.4, 0.6, 1.5),
        (0.0, 0.0, 1.0, 1.0),
        (1.2, 0.0, 1.9, 1.0),
        (0.3, 0.3, 0.3, 0.6),
    ],
    np.float32,
)
INDICES = np.array([0, 1, 0, 1, 0, 1])
SIZE = (4, 5)
SHAPE = (2, 9, 11, 3)
RESULT = (6, *SIZE, 3)
VALUE = -7.5


def images(dtype=np.float32, shape=SHAPE):
    return values(3, shape, dtype)


def cut(input, boxes=BOXES, size=SIZE, indices=INDICES, **options):
    return crop_and_resize(
        input, boxes, size, box_indices=indices, extrapolation_value=VALUE, **options
    )


def gradients(grad, input, boxes=BOXES, indices=INDICES, **options):
    return crop_and_resize_backward(grad, input, boxes, box_indices=indices, **options)


# ---- arrays --------------------------------------------------------------------------------

LAYOUTS = {
    "reversed": lambda array: array[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "every other": lambda array: np.repeat(np.repeat(array, 2, 1), 2, 2)[:, ::2, ::2],
    "channels first": lambda array: np.moveaxis(np.moveaxis(array, -1, 1).copy(), 1, -1),
    "channels reversed": lambda array: array[..., ::-1].copy()[..., ::-1],
    "wider pixels": lambda array: np.concatenate([array, array], axis=-1)[..., : array.shape[-1]],
    "big endian": big_endian,
    "packed": packed_field,
    "unaligned": unaligned,
}


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float16, np.int64], ids=ids)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype, channels):
    """The bits of what lies in order, wherever the last pixel of memory is."""
    image = images(dtype, (2, 9, 11, channels))
    odd = LAYOUTS[layout](image)
    np.testing.assert_array_equal(odd, image)
    expected = cut(image)
    assert_same_bits(cut(odd), expected)
    turned = cut(np.moveaxis(odd, -1, 1), channel_axis=1)
    assert_same_bits(np.moveaxis(turned, 1, -1), expected)
    grad = values(5, expected.shape, np.float32)
    for actual, wanted in zip(gradients(grad, odd), gradients(grad, image), strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_one_image_for_all():
    """A broadcast map, of strides zero."""
    one = images(shape=(1, 9, 11, 3))
    everywhere = np.broadcast_to(one, SHAPE)
    assert_same_bits(cut(everywhere), cut(one, indices=0 * INDICES))
    one_colour = np.broadcast_to(images(shape=(2, 9, 11, 1)), SHAPE)
    assert_same_bits(cut(one_colour), cut(one_colour.copy()))


@pytest.mark.parametrize("layout", ["in order", "reversed", "channels first", "unaligned"])
def test_out(layout):
    expected = cut(images())
    out = np.full(RESULT, GUARD, np.float32)
    if layout != "in order":
        out = LAYOUTS[layout](out)
    assert cut(images(), out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_out_and_nothing_beside():
    """Rows that end in the middle of a vector write no further."""
    for size in ((1, 1), (2, 3), (1, 17), (5, 16), (3, 33)):
        for channels in (1, 3, 17):
            image = images(shape=(2, 9, 11, channels))
            expected = cut(image, size=size)
            memory = np.full(expected.size + 64, GUARD, np.float32)
            out = memory[32:-32].reshape(expected.shape)
            cut(image, size=size, out=out)
            np.testing.assert_array_equal(out, expected)
            assert (memory[:32] == GUARD).all()
            assert (memory[-32:] == GUARD).all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8], ids=ids)
def test_dlpack(dtype):
    arrays = images(dtype), BOXES, INDICES
    image, boxes, indices = map(Foreign, arrays)
    expected = cut(images(dtype))
    assert_same_bits(borrowed(cut(image, boxes, indices=indices)), expected)
    assert_same_bits(borrowed(cut(image)), expected)
    grad = values(5, RESULT, np.float32)
    found = gradients(Foreign(grad), image, boxes, indices)
    for actual, wanted in zip(found, gradients(grad, images(dtype)), strict=True):
        assert_same_bits(borrowed(actual), wanted)


@pytest.mark.parametrize("channel_axis", [-1, 1])
def test_bits_do_not_depend_on_threads(channel_axis, monkeypatch):
    """However the rows are shared out, and however many boxes a table holds."""
    image = images(np.uint8)
    if channel_axis == 1:
        image = np.moveaxis(image, -1, 1).copy()
    expected = cut(image, channel_axis=channel_axis)
    for threads in (1, 2, 5):
        for portion, entries in ((1, 2**17), (40, 9), (10**6, 20)):
            monkeypatch.setattr(crop, "PORTION", portion)
            monkeypatch.setattr(crop, "ROUND_ENTRIES", entries)
            roi_numba.set_num_threads(threads)
            assert_same_bits(cut(image, channel_axis=channel_axis), expected)


def test_bfloat16():
    image = images(ml_dtypes.bfloat16)
    wide = image.astype(np.float32)
    assert_same_bits(cut(image), cut(wide))
    grad = values(5, RESULT, np.float32)
    on_image, on_boxes = gradients(grad, image)
    expected, boxes_expected = gradients(grad, wide)
    assert on_image.dtype == image.dtype
    np.testing.assert_array_equal(on_image, expected.astype(image.dtype))
    assert_same_bits(on_boxes, boxes_expected)


# ---- boxes and values ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, ml_dtypes.bfloat16], ids=ids)
@pytest.mark.parametrize("edges", ["exact", "tensorflow"])
def test_dtypes_of_boxes(dtype, edges):
    """Their values are all that counts."""
    boxes = (8 * BOXES).astype(dtype)
    plain = boxes.astype(np.float32 if np.dtype(dtype).itemsize == 2 else np.float64)
    options = {"normalized": False, "edges": edges}
    assert_same_bits(cut(images(), boxes, **options), cut(images(), plain, **options))
    _, on_boxes = gradients(np.ones(RESULT, np.float32), images(), boxes, **options)
    assert on_boxes.dtype == (np.float64 if dtype == np.int32 else dtype)


@pytest.mark.parametrize("channel_axis", [-1, 1])
def test_unusable_boxes_give_the_extrapolation_value(channel_axis):
    boxes = np.vstack([BOXES, [(np.nan, 0, 1, 1), (0, 0, np.inf, 1), (0, 0, 1, 1), (0, 0, 1, 1)]])
    indices = np.array([*INDICES, 0, 1, 2, -1])
    image = images() if channel_axis == -1 else np.moveaxis(images(), -1, 1)
    options = {"channel_axis": channel_axis, "check_boxes": False}
    found = cut(image, boxes, indices=indices, **options)
    assert (found[6:] == VALUE).all()
    assert_same_bits(found[:6], cut(image, boxes[:6], channel_axis=channel_axis))
    grad = np.full(found.shape, np.nan, np.float32)
    grad[:6] = values(5, found[:6].shape, np.float32)
    on_image, on_boxes = gradients(grad, image, boxes, indices, **options)
    expected, boxes_expected = gradients(grad[:6], image, boxes[:6], channel_axis=channel_axis)
    np.testing.assert_array_equal(on_image, expected)
    np.testing.assert_array_equal(on_boxes[:6], boxes_expected)
    assert not on_boxes[6:].any()


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_pixels_without_weight_are_not_read(special, method):
    """A sample on a whole pixel is that pixel, whatever is beside it and below."""
    image = np.full((1, 5, 5, 1), special)
    image[0, ::2, ::2] = np.arange(9.0).reshape(3, 3, 1)
    box = np.array([(0, 0, 1, 1)])
    for axis, turned in ((-1, image), (1, np.moveaxis(image, -1, 1))):
        found = cut(turned, box, 3, np.array([0]), method=method, channel_axis=axis)
        np.testing.assert_array_equal(found.reshape(3, 3), np.arange(9).reshape(3, 3))


@pytest.mark.parametrize("edges", ["exact", "tensorflow"])
def test_samples_too_far_off_for_an_integer(edges):
    """They are neither read nor have a slope."""
    boxes = np.array([(0, -1e30, 0, 1e30), (1e30, 1e30, 3e38, -3e38)], np.float32)
    for normalized in (True, False):
        options = {"normalized": normalized, "edges": edges}
        found = cut(images(), boxes, 2, INDICES[:2], **options)
        assert (found == VALUE).all()
        for gradient in gradients(np.ones_like(found), images(), boxes, INDICES[:2], **options):
            assert not gradient.any()


def test_needs():
    grad = values(5, RESULT, np.float32)
    on_image, on_boxes = gradients(grad, images())
    for needs, expected in {("input",): (on_image, None), ("boxes",): (None, on_boxes)}.items():
        found = gradients(grad, images(), needs=needs)
        for actual, wanted in zip(found, expected, strict=True):
            assert actual is wanted or (actual == wanted).all()
    assert gradients(grad, images(), needs=()) == (None, None)


@pytest.mark.parametrize("shape", [(2, 0, 11, 3), (2, 9, 0, 3), (2, 9, 11, 0), SHAPE])
@pytest.mark.parametrize("count", [0, 6])
def test_nothing_there(shape, count):
    image, boxes, indices = images(shape=shape), BOXES[:count], INDICES[:count]
    found = cut(image, boxes, indices=indices)
    assert found.shape == (count, *SIZE, shape[-1])
    if shape != SHAPE:
        assert (found == VALUE).all()
    on_image, on_boxes = gradients(np.ones_like(found), image, boxes, indices)
    assert (on_image.shape, on_boxes.shape) == (shape, (count, 4))
    if shape != SHAPE:
        assert not on_boxes.any()


# ---- refused -------------------------------------------------------------------------------

CALL = {"input": images(), "boxes": BOXES, "crop_size": SIZE, "box_indices": INDICES}
REFUSED = [
    ("input", [[1.0]], TypeError, r"input must be an array, got list"),
    ("boxes", BOXES.tolist(), TypeError, r"boxes must be an array, got list"),
    ("boxes", BOXES[0], ValueError, r"boxes must have shape \(K, 4\), got \(4,\)"),
    ("boxes", np.ones((6, 5)), ValueError, r"boxes must have shape \(K, 4\), got \(6, 5\)"),
    ("box_indices", None, TypeError, r"box_indices must be an array, got NoneType"),
    ("box_indices", [0] * 6, TypeError, r"box_indices must be an array, got list"),
    ("box_indices", INDICES / 1, TypeError, r"box_indices must be integers, got dtype float64"),
    ("crop_size", 2.0, TypeError, r"crop_size must be .*, got 2\.0"),
    ("edges", "open", ValueError, r"edges must be one of .*, got 'open'"),
    ("normalized", 1, TypeError, r"normalized must be True or False, got 1"),
    ("extrapolation_value", "0", TypeError, r"extrapolation_value must be a number, got str"),
    ("check_boxes", 1, TypeError, r"check_boxes must be True or False, got 1"),
    ("out", np.zeros(RESULT), TypeError, r"out must be of dtype float32, got float64"),
    ("out", np.zeros((6, 5, 4, 3), np.float32), ValueError, r"out must have shape .*, got .*"),
]


@pytest.mark.parametrize(("name", "value", "error", "pattern"), REFUSED)
def test_refused(name, value, error, pattern):
    out = np.full(RESULT, GUARD, np.float32)
    with pytest.raises(error, match=f"^{pattern}$"):
        crop_and_resize(**CALL | {"out": out} | {name: value})
    assert (out == GUARD).all()
    shared = set(inspect.signature(crop_and_resize_backward).parameters)
    if name in shared:
        call = {key: value for key, value in (CALL | {name: value}).items() if key in shared}
        with pytest.raises(error, match=f"^{pattern}$"):
            crop_and_resize_backward(np.ones(RESULT, np.float32), **call)


def test_refused_out_over_the_input():
    image = images()
    out = np.lib.stride_tricks.as_strided(image, (1, 4, 5, 3), image.strides)
    with pytest.raises(ValueError, match="out must not share memory with input"):
        crop_and_resize(image, BOXES[:1], SIZE, box_indices=INDICES[:1], out=out)
    out = np.zeros(RESULT, np.float32)
    numbers = out.reshape(-1)[:12].view(np.int64)
    with pytest.raises(ValueError, match="out must not share memory with box_indices"):
        crop_and_resize(image, BOXES, SIZE, box_indices=numbers, out=out)


@pytest.mark.parametrize(
    ("name", "value", "error", "pattern"),
    [
        ("grad_output", np.ones(RESULT), TypeError, r"grad_output .*float32, got float64"),
        ("grad_output", np.ones((5, 4, 5, 3), np.float32), ValueError, r"grad_output must .*"),
        ("needs", "both", ValueError, r"needs must name .*, got 'both'"),
        ("deterministic", 1, TypeError, r"deterministic must be True or False, got 1"),
    ],
)
def test_refused_gradients(name, value, error, pattern):
    call = {"grad_output": np.ones(RESULT, np.float32), **CALL, name: value}
    del call["crop_size"]
    with pytest.raises(error, match=f"^{pattern}$"):
        crop_and_resize_backward(**call)


def test_an_extrapolation_value_beyond_float32():
    crops = roi_numba.crop_and_resize(
        np.ones((1, 2, 2, 1)), np.array([[2.0, 2, 3, 3]]), 1, box_indices=np.array([0]),
        extrapolation_value=1e300,
    )  # fmt: skip
    assert crops.tolist() == [[[[np.inf]]]]
