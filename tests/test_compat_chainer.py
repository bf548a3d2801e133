"""`roi_numba.compat.chainer` against what Chainer computed (data/compat/make_chainer.py)."""

from pathlib import Path

import numpy as np
import pytest

from roi_numba.compat import chainer

FILES = sorted((Path(__file__).parent / "data" / "compat").glob("chainer_*.npz"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_as_recorded(file):
    with np.load(file) as golden:
        golden = dict(golden)
    rois = golden["rois"]
    function = getattr(chainer, file.stem.removeprefix("chainer_").rpartition("_")[0])
    options = {"sampling_ratio": (2, None)} if "align" in file.stem else {}
    output = function(
        golden["features"],
        rois[:, [2, 1, 4, 3]],
        rois[:, 0].astype(np.int32),
        tuple(golden["outsize"].tolist()),
        golden["spatial_scale"].item(),
        **options,
    )
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, golden["expected"], rtol=0, atol=1e-6 * 3)


def test_the_recorded_boxes_have_empty_bins():
    """There are empty bins, which are -inf, and others."""
    for name in ("max_pooling_2d", "max_align_2d"):
        for file in FILES:
            if name in file.stem:
                expected = np.load(file)["expected"]
                assert np.isneginf(expected).any()
                assert np.isfinite(expected).mean() > 0.2


def test_maxima_near_nan_and_infinities():
    """As in Chainer NaN never wins an alignment, and what lies far from it is as without it."""
    x = np.full((1, 1, 6, 6), -3, np.float32)
    x[0, 0, 0] = np.nan
    x[0, 0, 5] = -np.inf
    rows = np.array([[0, 0, 0.5, 4], [2, 0, 3, 4], [4, 1, 4.5, 4]], np.float32)
    output = chainer.roi_max_align_2d(x, rows, np.zeros(3, np.int32), 1, 1.0, 1)
    assert output.ravel().tolist() == [-np.inf, -3, -np.inf]
    output = chainer.roi_max_pooling_2d(x, rows[1:], np.zeros(2, np.int32), 1, 1.0)
    assert output.ravel().tolist() == [-3, -3]
    empty = chainer.roi_max_align_2d(x[:0], rows[:0], np.zeros(0, np.int32), 1, 1.0)
    assert empty.shape == (0, 1, 1, 1)


def grid(low, high, scale, bins, ratio):
    """Chainer's samples along an axis, bin by bin."""
    start, length = low * scale, max(high * scale - low * scale, 1)
    n = ratio or int(np.ceil(length / bins))
    return [[start + (p + (k + 0.5) / n) * length / bins for k in range(n)] for p in range(bins)]


def sampled(image, y, x):
    """The value at a point, None off the map."""
    corners = []
    for t, size in ((y, image.shape[0]), (x, image.shape[1])):
        if t < -1 or t > size:
            return None
        t = min(max(t, 0.0), size - 1.0)
        corners.append((int(t), min(int(t) + 1, size - 1), t - int(t)))
    (y0, y1, v), (x0, x1, u) = corners
    pixels = {(y0, x0): (1 - v) * (1 - u)}
    for pixel, weight in (((y0, x1), (1 - v) * u), ((y1, x0), v * (1 - u)), ((y1, x1), v * u)):
        pixels[pixel] = pixels.get(pixel, 0) + weight
    return sum(weight * image[pixel] for pixel, weight in pixels.items() if weight)


def largest(x, rois, images, outsize, scale, ratio):
    """What Chainer's function is said to be, sample by sample."""
    output = np.full((len(rois), x.shape[1], *outsize), -np.inf)
    for k, (y1, x1, y2, x2) in enumerate(rois.astype(float)):
        rows, columns = (
            grid(y1, y2, scale, outsize[0], ratio),
            grid(x1, x2, scale, outsize[1], ratio),
        )
        for c, p, q in np.ndindex(output.shape[1:]):
            image = x[images[k], c].astype(float)
            values = [sampled(image, y, x) for y in rows[p] for x in columns[q]]
            output[k, c, p, q] = max((v for v in values if v is not None), default=-np.inf)
    return output


@pytest.mark.parametrize("ratio", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_maxima_where_the_map_spans_all_magnitudes(ratio, dtype):
    """Negative maps, boxes over all edges, and a pixel beside which the others are nothing."""
    rng = np.random.default_rng(7)
    x = (-100 * rng.random((2, 2, 9, 11)) - 1).astype(dtype)
    x[0, 0, 0, 0] = np.iinfo(dtype).min if dtype is np.int32 else np.finfo(dtype).min
    x[1] += 50
    rois = np.sort(rng.uniform(-16, 32, (60, 2, 2)), 1).reshape(60, 4).astype(np.float32)
    rois[:20] = rois[:20] / 4 + [12, 12, 12, 12]  # on the map
    images = np.arange(60) % 2
    output = chainer.roi_max_align_2d(x, rois, images, (2, 3), 0.5, ratio)
    expected = largest(x, rois, images, (2, 3), 0.5, ratio)
    assert np.isneginf(expected).any()
    assert (expected[images == 1] > 0).any()
    assert output.dtype == (np.float64 if dtype is np.float64 else np.float32)
    near = ~(np.abs(expected) > 1e6) | np.isneginf(expected)
    assert near.mean() > 0.9
    np.testing.assert_allclose(output[near], expected[near], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(output[~near], expected[~near], rtol=2e-5)


def test_adaptive_maxima_of_boxes_too_large():
    x, indices = np.ones((1, 1, 4, 4), np.float32), np.zeros(2, np.int32)
    rois = np.array([[0, 0, 4, 4], [-1e6, 0, 1e6, 4]])
    with pytest.raises(
        ValueError, match=r"off the map .* at most 1048576 .*, got 8000000 for box 1"
    ):
        chainer.roi_max_align_2d(x, rois, indices, 1, 1.0)
    assert chainer.roi_max_align_2d(x, rois, indices, 1, 1.0, 2)[0] == 1


@pytest.mark.parametrize("name", chainer.__all__)
@pytest.mark.parametrize("scale", ["a", -1.0, 0, np.nan])
def test_bad_scales(name, scale):
    x, rois = np.zeros((1, 1, 4, 4), np.float32), np.ones((1, 4))
    with pytest.raises((TypeError, ValueError), match=r"^spatial_scale must be "):
        getattr(chainer, name)(x, rois, np.zeros(1, np.int32), 1, scale)


def test_sampling_ratios():
    x, rois = np.arange(16.0).reshape(1, 1, 4, 4), np.array([[0.5, 0, 3, 3]])
    for name in ("roi_average_align_2d", "roi_max_align_2d"):
        function, arguments = getattr(chainer, name), (x, rois, np.zeros(1, np.int32), 2, 1.0)
        np.testing.assert_array_equal(
            function(*arguments, [2, None]), function(*arguments, (2, None))
        )
        for ratio in ("a", 1.5, (1, 2, 3)):
            with pytest.raises((TypeError, ValueError), match=r"^sampling_ratio must be "):
                function(*arguments, ratio)


@pytest.mark.parametrize(
    ("rois", "error", "words"),
    [
        ([[0, 0, 1, 1]], TypeError, "rois must be an array, got list"),
        (np.zeros((2, 5)), ValueError, r"rois must have shape \(K, 4\), got \(2, 5\)"),
        (np.zeros(4), ValueError, r"rois must have shape \(K, 4\), got \(4,\)"),
    ],
)
def test_bad_boxes(rois, error, words):
    x = np.zeros((1, 1, 4, 4), np.float32)
    for name in chainer.__all__:
        with pytest.raises(error, match=words):
            getattr(chainer, name)(x, rois, np.zeros(len(rois), np.int32), 1, 1.0)
