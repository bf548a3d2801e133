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
