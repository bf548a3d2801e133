"""`roi_numba.compat.mmcv` against what mmcv's kernels computed (data/compat/make_mmcv.py)."""

from pathlib import Path

import numpy as np
import pytest

import reference
from roi_numba.compat import mmcv

DATA = Path(__file__).parent / "data"


def load(name):
    with np.load(DATA / f"{name}.npz") as golden:
        golden = dict(golden)
    size, scale = tuple(golden["output_size"].tolist()), golden["spatial_scale"].item()
    return (golden["features"], golden["rois"], size, scale), golden["expected"]


def assert_same(output, expected):
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pool_mode", ["avg", "max"])
def test_roi_align(pool_mode):
    arguments, expected = load(f"compat/mmcv_roi_align_{pool_mode}")
    assert_same(mmcv.roi_align(*arguments, 2, pool_mode), expected)
    for use_torchvision in {False, pool_mode == "avg"}:
        module = mmcv.RoIAlign(*arguments[2:], 2, pool_mode, True, use_torchvision)
        assert_same(module(*arguments[:2]), expected)


def test_torchvision_has_no_maximum():
    arguments, _ = load("compat/mmcv_roi_align_max")
    module = mmcv.RoIAlign(*arguments[2:], pool_mode="max", use_torchvision=True)
    with pytest.raises(ValueError, match='pool_mode must be "avg" with use_torchvision=True, got'):
        module(*arguments[:2])


def test_roi_pool():
    arguments, expected = load("compat/mmcv_roi_pool")
    assert (expected[:, 0, 0, 0] == 0).any()  # boxes without area
    np.testing.assert_array_equal(mmcv.roi_pool(*arguments), expected)
    np.testing.assert_array_equal(mmcv.RoIPool(*arguments[2:])(*arguments[:2]), expected)
    np.testing.assert_array_equal(reference.roi_pool(*arguments, rounding="none"), expected)


@pytest.mark.parametrize("name", ["original_prroi_f32_7x7_s16", "cuda_prroi_f32_2x2_s05"])
def test_prroi_pool(name):
    """The kernel of the authors, which is mmcv's."""
    arguments, expected = load(name)
    assert_same(mmcv.prroi_pool(*arguments), expected)
    assert_same(mmcv.PrRoIPool(*arguments[2:])(*arguments[:2]), expected)


def test_defaults():
    arguments, _ = load("compat/mmcv_roi_align_avg")
    adaptive = mmcv.roi_align(*arguments, 0, "avg", True)
    np.testing.assert_array_equal(mmcv.roi_align(*arguments), adaptive)
    with pytest.raises(ValueError, match='pool_mode must be one of "avg", "max", got \'mean\''):
        mmcv.roi_align(*arguments, 0, "mean")
