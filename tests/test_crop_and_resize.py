"""crop_and_resize: TensorFlow's numbers bit for bit, and the reference's on nasty boxes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_crops
import roi_numba
from roi_numba import crop_and_resize, crop_and_resize_backward
from strategies import CHANNELS, FLOATS, HUGE, INTEGERS, SEEDS, positions, values

GOLDENS = sorted((Path(__file__).parent / "data").glob("tensorflow_crop_*.npz"))


def golden(file):
    with np.load(file) as opened:
        return dict(opened)


# ---- TensorFlow ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", GOLDENS, ids=lambda file: file.stem)
def test_tensorflows_bits(file):
    known = golden(file)
    options = {"box_indices": known["box_indices"], "extrapolation_value": -7.0}
    size = tuple(known["crop_size"].tolist())
    crops = crop_and_resize(known["image"], known["boxes"], size, edges="tensorflow", **options)
    assert crops.dtype == np.float32
    np.testing.assert_array_equal(crops.view(np.uint32), known["expected"].view(np.uint32))
    # Its last row may be one unit in the last place of a position away, or off the image.
    exact = crop_and_resize(known["image"], known["boxes"], size, **options)
    inside = known["expected"] != -7
    np.testing.assert_allclose(exact[inside], crops[inside], rtol=0, atol=1e-3)
    expected = reference_crops.crop_and_resize(
        known["image"], known["boxes"], size, edges="tensorflow", **options
    )
    largest = np.abs(known["image"]).max()
    np.testing.assert_allclose(crops, expected, rtol=0, atol=1e-6 * largest)


@pytest.mark.parametrize("gradients", [roi_numba, reference_crops], ids=["library", "reference"])
@pytest.mark.parametrize(
    "file", [f for f in GOLDENS if "uint8" not in f.stem], ids=lambda f: f.stem
)
def test_tensorflows_gradients(gradients, file):
    known = golden(file)
    found = gradients.crop_and_resize_backward(
        known["grad_output"], known["image"], known["boxes"], edges="tensorflow",
        box_indices=known["box_indices"],
    )  # fmt: skip
    for actual, name in zip(found, ("image", "boxes"), strict=True):
        expected = known[f"expected_grad_{name}"]
        # float32 sums of up to a few hundred terms, in another order
        limit = 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


@pytest.mark.parametrize(("size", "bins"), [(8, 14), (15, 14), (57, 14), (16, 28)])
def test_last_row_of_the_whole_image(size, bins):
    """TensorFlow's position of the last sample is one unit too far, and off the image."""
    image = np.ones((1, size, size, 1), np.float32)
    box = np.array([[0, 0, 1, 1]], np.float32)
    call = {"box_indices": np.array([0]), "extrapolation_value": -7.0}
    exact = crop_and_resize(image, box, bins, **call)
    np.testing.assert_array_equal(exact, np.ones_like(exact))
    hurt = crop_and_resize(image, box, bins, edges="tensorflow", **call)[0, :, :, 0]
    assert (hurt[-1] == -7).all()
    assert (hurt[:, -1] == -7).all()
    assert (hurt[:-1, :-1] == 1).all()
    expected = reference_crops.crop_and_resize(image, box, bins, edges="tensorflow", **call)
    np.testing.assert_array_equal(hurt, expected[0, :, :, 0])


# ---- by hand -------------------------------------------------------------------------------

RAMP = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, ..., None]
ROWS = [
    ((0, 0, 1, 1), 2, {}, [[0, 5], [50, 55]]),
    ((0, 0, 1, 1), 1, {}, [[27.5]]),
    ((1, 0, 0, 1), 2, {}, [[50, 55], [0, 5]]),
    ((0.2, 0.4, 0.5, 1.0), (2, 3), {}, [[12, 13.5, 15], [27, 28.5, 30]]),
    ((-0.2, 0, 0.2, 0), (3, 1), {"extrapolation_value": 7}, [[7], [0], [10]]),
    ((1, 1, 4, 4), 2, {"normalized": False}, [[11, 14], [41, 44]]),
    ((0, 2.5, 2.5, 5.1), 2, {"normalized": False, "method": "nearest"}, [[3, 0], [33, 0]]),
]  # fmt: skip


@pytest.mark.parametrize("operators", [roi_numba, reference_crops], ids=["library", "reference"])
@pytest.mark.parametrize(("box", "size", "options", "expected"), ROWS)
def test_worked_examples(operators, box, size, options, expected):
    crops = operators.crop_and_resize(
        RAMP, np.array([box], np.float64), size, box_indices=np.array([0]), **options
    )
    np.testing.assert_allclose(crops[0, :, :, 0], expected, rtol=1e-6, atol=1e-5)


# ---- the reference -------------------------------------------------------------------------


@st.composite
def crops(draw, dtype):
    """Images, boxes normalised and not, indices and a size."""
    shape = (2, *[draw(st.integers(1, 12)) for _ in range(2)], draw(CHANNELS))
    normalized, count = draw(st.booleans()), draw(st.integers(0, 4))
    rows = []
    for _ in range(count):
        sides = []
        for size in shape[1:3]:
            reach = 1 if normalized else size - 1
            near = st.one_of(positions(-0.5, 1.5), st.sampled_from([0.0, 1.0, 0.5]))
            side = [draw(near) * reach, draw(near) * reach]
            sides.append(draw(st.sampled_from(HUGE)) if draw(st.integers(0, 9)) == 9 else side)
        (y1, y2), (x1, x2) = sides
        rows.append((y1, x1, y2, x2))
    boxes = np.array(rows, draw(st.sampled_from([np.float32, np.float64]))).reshape(-1, 4)
    indices = np.array(
        [draw(st.integers(0, 1)) for _ in rows], draw(st.sampled_from([np.int32, np.int64]))
    )
    size = draw(st.sampled_from([1, 2, 3, 7, (2, 5), (6, 1), (1, 20)]))
    options = {
        "box_indices": indices,
        "normalized": normalized,
        "edges": draw(st.sampled_from(["exact", "tensorflow"])),
        "method": draw(st.sampled_from(["bilinear", "nearest"])),
    }
    return values(draw(SEEDS), shape, dtype), boxes, size, options


def last(array, axis):
    return array if axis == -1 else np.moveaxis(array, 1, -1)


@pytest.mark.parametrize(
    "dtype", [*FLOATS, *INTEGERS, np.int8, np.uint16], ids=lambda t: t.__name__
)
@given(data=st.data())
def test_reference(dtype, data):
    image, boxes, size, options = data.draw(crops(dtype))
    axis, value = data.draw(st.sampled_from([-1, 1])), data.draw(st.sampled_from([0.0, -3.5]))
    given_image = image if axis == -1 else np.moveaxis(image, -1, 1)
    found = crop_and_resize(
        given_image, boxes, size, channel_axis=axis, extrapolation_value=value, **options
    )
    expected = reference_crops.crop_and_resize(
        image, boxes, size, extrapolation_value=value, **options
    )
    assert found.dtype == np.float32
    # two roundings to float32 of pixels and shares, and three steps of interpolation
    limit = 1e-6 * np.abs(image.astype(np.float64)).max(initial=1)
    np.testing.assert_allclose(last(found, axis), expected, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [*FLOATS, np.uint8], ids=lambda t: t.__name__)
@given(data=st.data())
def test_gradients_of_the_reference(dtype, data):
    image, boxes, size, options = data.draw(crops(dtype))
    axis = data.draw(st.sampled_from([-1, 1]))
    shape = reference_crops.crop_and_resize(image, boxes, size, **options).shape
    grad = values(data.draw(SEEDS), shape, np.float32)
    turned = [np.moveaxis(array, -1, 1) if axis == 1 else array for array in (grad, image)]
    found, on_boxes = crop_and_resize_backward(*turned, boxes, channel_axis=axis, **options)
    expected, boxes_expected = reference_crops.crop_and_resize_backward(
        grad, image, boxes, **options
    )
    float_image = image.dtype if image.dtype != np.uint8 else np.float32
    assert (found.dtype, on_boxes.dtype) == (float_image, boxes.dtype)
    precision = {2: 1e-2}.get(found.itemsize, 1e-5)
    limit = precision * np.abs(grad).max(initial=0)
    np.testing.assert_allclose(
        last(found, axis).astype(np.float64), expected, rtol=precision, atol=4 * limit
    )
    terms = np.abs(grad).sum((1, 2, 3)) * np.abs(image.astype(np.float64)).max(initial=0)
    reach = max(image.shape[1:3]) if options["normalized"] else 1
    limits = 1e-5 * reach * terms[:, None] * np.ones(4)
    assert (np.abs(on_boxes - boxes_expected) <= limits).all()
    if options["method"] == "nearest":
        assert not on_boxes.any()


def test_gradients_are_slopes(rng):
    """Differences of the reference, where nothing has a kink."""
    image, step = rng.normal(size=(2, 7, 8, 3)), 1e-6
    boxes = rng.uniform(-0.2, 1.2, (12, 4))
    call = {"box_indices": rng.integers(0, 2, 12)}
    grad = rng.normal(size=(12, 3, 4, 3)).astype(np.float32)
    on_image, on_boxes = crop_and_resize_backward(grad, image, boxes, **call)

    def change(image_change, boxes_change):
        high, low = (
            reference_crops.crop_and_resize(
                image + sign * step * image_change,
                boxes + sign * step * boxes_change,
                (3, 4),
                **call,
            )
            for sign in (1, -1)
        )
        return ((high - low) / (2 * step) * grad).sum()

    way = rng.normal(size=image.shape)
    np.testing.assert_allclose((on_image * way).sum(), change(way, 0), rtol=1e-6)
    way = rng.normal(size=boxes.shape)
    np.testing.assert_allclose((on_boxes * way).sum(), change(0, way), rtol=1e-6)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.float64])
def test_rows_of_more_bins_than_a_vector_has_lanes(rng, dtype, axis):
    image = (99 * rng.random((1, 9, 40, 3))).astype(dtype)
    box = np.array([[0.1, 0.05, 0.8, 0.9]])
    expected = reference_crops.crop_and_resize(image, box, (3, 37), box_indices=np.array([0]))
    array = np.ascontiguousarray(np.moveaxis(image, -1, axis))
    found = roi_numba.crop_and_resize(
        array, box, (3, 37), box_indices=np.array([0]), channel_axis=axis
    )
    limit = 8 * 99 * np.finfo(np.float32).eps  # float32 rounds thrice along each axis
    np.testing.assert_allclose(np.moveaxis(found, axis, -1), expected, rtol=0, atol=limit)
