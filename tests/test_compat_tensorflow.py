"""`roi_numba.compat.tensorflow` and `.matterport` against TensorFlow and what it computed."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from roi_numba.compat import matterport
from roi_numba.compat import tensorflow as compat

DATA = Path(__file__).parent / "data"
GOLDENS = ["1x1", "3x5", "uint8_5x4"]


def load(name):
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: value if value.ndim else value.item() for key, value in arrays.items()}


def assert_same(found, expected):
    """Between the same pixels both interpolate in float32, a few roundings apart.

    What is outside is so for both, to the last bit of a position.
    """
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# ---- what was computed before ----------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDENS)
def test_crop_and_resize_results(name):
    stored = load(f"tensorflow_crop_bilinear_{name}")
    found = compat.crop_and_resize(
        stored["image"],
        stored["boxes"],
        stored["box_indices"],
        stored["crop_size"].tolist(),
        stored["method"],
        stored["extrapolation_value"],
        name="crops",
    )
    assert_same(found, stored["expected"])


def test_the_last_row_is_lost_as_in_tensorflow():
    """Whole images of 8 pixels cropped to 14: semantics.md, 6.1."""
    image, box = np.ones((1, 8, 8, 1), np.float32), np.array([[0, 0, 1, 1]], np.float32)
    crop = compat.crop_and_resize(image, box, np.zeros(1, int), [14, 14], extrapolation_value=-1)
    expected = np.ones((14, 14), np.float32)
    expected[-1], expected[:, -1] = -1, -1
    np.testing.assert_array_equal(crop[0, ..., 0], expected)


@pytest.fixture(scope="module")
def pyramid():
    return load("compat/tensorflow_pyramid_roi_align")


def pooled(pyramid, **changes):
    names = ["boxes", "image_meta", *(f"features{level}" for level in range(2, 6))]
    inputs = [(pyramid | changes)[name] for name in names]
    return matterport.PyramidROIAlign(pyramid["pool_shape"].tolist())(inputs)


def test_pyramid_roi_align_results(pyramid):
    counts = np.bincount(pyramid["levels"].ravel())
    assert counts[2:].min() > 4  # boxes of every level
    assert_same(pooled(pyramid), pyramid["expected"])


def test_rows_of_zeros_sample_the_first_pixel(pyramid):
    padded = np.all(pyramid["boxes"] == 0, -1)
    assert padded.sum() == 16
    image, row = np.nonzero(padded)
    first = pyramid["features2"][image, 0, 0][:, None, None]
    found = pooled(pyramid)[image, row]
    np.testing.assert_array_equal(found, np.broadcast_to(first, found.shape))


def test_the_size_of_the_image_chooses_the_level(pyramid):
    meta = pyramid["image_meta"].copy()
    meta[:, 4:6] /= 2
    assert not np.array_equal(pooled(pyramid, image_meta=meta), pyramid["expected"])


def test_no_boxes_at_all(pyramid):
    found = pooled(pyramid, boxes=np.zeros((2, 0, 4), np.float32))
    assert found.shape == (2, 0, 7, 5, 2)


def test_bad_pyramids(pyramid):
    with pytest.raises(ValueError, match=r"^boxes must have shape \(N, R, 4\), got \(80, 4\)"):
        pooled(pyramid, boxes=pyramid["boxes"].reshape(-1, 4))
    with pytest.raises(ValueError, match=r"^inputs must have four feature maps, got 1"):
        matterport.PyramidROIAlign([7, 7])(
            [pyramid[key] for key in ("boxes", "image_meta", "features2")]
        )
    with pytest.raises(TypeError, match=r"^boxes must be an array"):
        pooled(pyramid, boxes=[[[0.0, 0.0, 1.0, 1.0]]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_meta": np.zeros((2, 7))}, r"image_meta\[0, 4\] must be finite and positive, got"),
        ({"image_meta": []}, r"image_meta must have shape \(N, 6 or more\), got \(0,\)"),
        ({"image_meta": np.ones((2, 5))}, r"image_meta must have shape .*, got \(2, 5\)"),
        ({"image_meta": [[1, 2], [3]]}, "image_meta must be an array, got a ragged list"),
        ({"boxes": np.ones((1, 3, 4))}, "boxes must be of as many images as P2, 2, got 1"),
        ({"boxes": np.ones((3, 3, 4))}, "boxes must be of as many images as P2, 2, got 3"),
        ({"features4": np.ones((1, 3, 4, 2))}, "boxes must be of as many images as P4, 1, got 2"),
        ({"features3": np.ones((3, 4, 2))}, r"P3 must have shape \(N, H, W, C\), got \(3, 4, 2\)"),
    ],
)
def test_bad_images_of_pyramids(pyramid, changes, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        pooled(pyramid, **changes)


def test_pyramids_of_lists(pyramid):
    with pytest.raises(ValueError, match=r"^inputs must be boxes, image_meta and maps, got 0"):
        matterport.PyramidROIAlign([7, 7])([])
    found = pooled(pyramid, image_meta=pyramid["image_meta"].tolist())
    np.testing.assert_array_equal(found, pooled(pyramid))


def test_lists_as_tensorflow_takes_them():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    corners = np.array([[0, 3], [12, 15]], np.float32)[None, ..., None]
    for size in (np.array([2, 2]), [2, 2], (2, 2)):
        for given in (image, image.tolist()):
            crops = compat.crop_and_resize(given, [[0, 0, 1, 1]], [0], size)
            np.testing.assert_array_equal(crops, corners)
    with pytest.raises(ValueError, match=r"^boxes must be an array, got a ragged list"):
        compat.crop_and_resize(image, [[0, 0, 1, 1], [0]], [0], [2, 2])


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_other_libraries(name, pyramid):
    xp = pytest.importorskip(name)
    arrays = {key: xp.asarray(value) for key, value in pyramid.items() if key != "peer"}
    found = pooled(arrays)
    assert type(found) is type(arrays["boxes"])
    np.testing.assert_array_equal(np.asarray(found), pooled(pyramid))
    image, boxes = arrays["features2"], arrays["boxes"].reshape(-1, 4)
    indices = np.repeat([0, 1], 40)
    crops = compat.crop_and_resize(image, boxes, xp.asarray(indices), [5, 5])
    expected = compat.crop_and_resize(np.asarray(image), np.asarray(boxes), indices, [5, 5])
    np.testing.assert_array_equal(np.asarray(crops), expected)


# ---- TensorFlow itself -----------------------------------------------------------------------


def test_signature():
    tensorflow = pytest.importorskip("tensorflow")
    theirs = inspect.signature(tensorflow.image.crop_and_resize).parameters
    ours = inspect.signature(compat.crop_and_resize).parameters
    assert [(each.name, each.default) for each in ours.values()] == [
        (each.name, each.default) for each in theirs.values()
    ]


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64, np.float16])
def test_crop_and_resize_in_tensorflow(method, dtype):
    tensorflow = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(4)
    for height, width in ((8, 15), (57, 16), (13, 1), (1, 9), (30, 40)):
        image = (100 * rng.random((3, height, width, 5))).astype(dtype)
        boxes = rng.uniform(-0.3, 1.3, (300, 4)).astype(np.float32)
        boxes[:10], boxes[10:20], boxes[20:30, 2:] = [0, 0, 1, 1], [1, 1, 0, 0], 1
        boxes[30:100] = np.round(boxes[30:100] * 8) / 8
        boxes[100:120, 2:] = boxes[100:120, :2]
        indices = rng.integers(0, 3, len(boxes)).astype(np.int32)
        for size in ([14, 14], [1, 1], [7, 28], [2, 5]):
            arguments = (image, boxes, indices, size, method, -7.0)
            expected = tensorflow.image.crop_and_resize(*arguments).numpy()
            found = compat.crop_and_resize(*arguments)
            np.testing.assert_array_equal(found == -7, expected == -7)
            assert_same(found, expected)
