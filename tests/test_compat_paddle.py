"""`roi_numba.compat.paddle` against what Paddle computed, and Paddle itself where it is there."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from roi_numba.compat import paddle as compat

FILES = sorted((Path(__file__).parent / "data" / "compat").glob("paddle_*.npz"))
OPTIONS = {
    "paddle_roi_align_sr2": {"sampling_ratio": 2},
    "paddle_roi_align_sr0_al0": {"sampling_ratio": 0, "aligned": False},
    "paddle_roi_pool": {},
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_as_recorded(file):
    with np.load(file) as golden:
        golden = dict(golden)
    function = compat.roi_align if "roi_align" in file.stem else compat.roi_pool
    arguments = [golden[name] for name in ("x", "boxes", "boxes_num")]
    scale = golden["spatial_scale"].item()
    output = function(*arguments, (3, 2), scale, **OPTIONS[file.stem])
    np.testing.assert_allclose(output, golden["expected"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", compat.__all__)
def test_as_paddle(name, rng):
    paddle = pytest.importorskip("paddle")
    theirs, ours = getattr(paddle.vision.ops, name), getattr(compat, name)
    parameters = inspect.signature(theirs).parameters
    assert list(inspect.signature(ours).parameters) == list(parameters)
    for key, value in inspect.signature(ours).parameters.items():
        assert value.default == parameters[key].default
    x = rng.normal(size=(3, 4, 20, 30)).astype(np.float32)
    boxes = rng.uniform(-20, 320, (40, 4)).astype(np.float32)
    boxes[:30] = np.sort(boxes[:30].reshape(30, 2, 2), 1).reshape(30, 4)
    if name.lower() == "roialign" or name == "roi_align":  # reversed on one axis is an error there
        boxes = boxes[:30]
    counts = np.array([7, 0, len(boxes) - 7], np.int32)
    arrays = x, boxes, counts
    tensors = [paddle.to_tensor(array) for array in arrays]
    if name[:3] == "RoI":
        expected, found = theirs(7, 1 / 16)(*tensors), ours(7, 1 / 16)
        found = found(*arrays), found(*tensors)
    else:
        expected = theirs(*tensors, 7, 1 / 16)
        found = ours(*arrays, 7, 1 / 16), ours(*tensors, 7, 1 / 16)
    assert isinstance(found[1], paddle.Tensor)
    for output in found:
        np.testing.assert_allclose(np.asarray(output), expected.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("boxes_num", "error", "words"),
    [
        ([1, 2], ValueError, "must add up to 4 boxes, got 3"),
        (np.array([5, -1]), ValueError, "must not be negative, got -1"),
        (np.array([[2, 2]]), ValueError, r"must have shape \(N,\), got \(1, 2\)"),
        ([[1], [1, 2]], ValueError, "must be an array, got a ragged list"),
        (4, TypeError, "must be an array, got int"),
        ([], ValueError, "must have one number for each of 2 images, got 0"),
        ([4], ValueError, "must have one number for each of 2 images, got 1"),
        (np.array([0, 0, 4]), ValueError, "must have one number for each of 2 images, got 3"),
        ([2.0, 2.0], TypeError, "must be integers, got dtype float64"),
        ([True, True], TypeError, "must be integers, got dtype bool"),
    ],
)
def test_bad_counts(boxes_num, error, words):
    x, boxes = np.zeros((2, 1, 4, 4), np.float32), np.ones((4, 4), np.float32)
    for function in (compat.roi_align, compat.roi_pool):
        with pytest.raises(error, match=f"^boxes_num {words}"):
            function(x, boxes, boxes_num, 2)


def test_other_bad_arrays():
    x, boxes = np.zeros((1, 1, 4, 4), np.float32), np.ones((1, 4), np.float32)
    for function in (compat.roi_align, compat.roi_pool):
        with pytest.raises(TypeError, match=r"^boxes must be an array, got list"):
            function(x, boxes.tolist(), [1], 2)
        with pytest.raises(ValueError, match=r"^boxes must have shape \(K, 4\), got \(4,\)"):
            function(x, boxes[0], [1], 2)
        with pytest.raises(ValueError, match=r"^x must have shape \(N, C, H, W\), got \(1, 4, 4\)"):
            function(x[0], boxes, [1], 2)
        with pytest.raises(TypeError, match=r"^x must be an array, got list"):
            function(x.tolist(), boxes, [1], 2)


def test_no_boxes():
    x = np.zeros((2, 3, 4, 4), np.float32)
    for counts in ([0, 0], np.zeros(2, np.int32)):
        assert compat.roi_align(x, np.zeros((0, 4)), counts, 2).shape == (0, 3, 2, 2)
    assert compat.roi_pool(x[:0], np.zeros((0, 4)), [], 2).shape == (0, 3, 2, 2)
