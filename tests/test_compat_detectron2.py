"""`roi_numba.compat.detectron2`: a wrapper over torchvision's operators, held to their records."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import roi_numba
from compat_arrays import ARRAYS
from roi_numba.compat import detectron2

DATA = Path(__file__).parent / "data"
SCALES = 1 / 4, 1 / 8, 1 / 16, 1 / 32


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align(aligned):
    name = "sr2_al1_7x7_s16" if aligned else "sr2_al0_3x5_s037"
    with np.load(DATA / f"torchvision_roi_align_f32_{name}.npz") as file:
        golden = dict(file)
    size, scale = tuple(golden["output_size"].tolist()), golden["spatial_scale"].item()
    options = {} if aligned else {"aligned": False}
    output = detectron2.ROIAlign(size, scale, 2, **options)(golden["features"], golden["rois"])
    np.testing.assert_allclose(output, golden["expected"], rtol=0, atol=2e-5)


def test_roi_pooler_as_torchvision_recorded():
    """Its levels too: no recorded box lies between the two libraries' ways with epsilon."""
    with np.load(DATA / "torchvision_multiscale_f32_canon224.npz") as file:
        golden = dict(file)
    maps = [golden[f"features{i}"] for i in range(4)]
    boxes = [SimpleNamespace(tensor=golden[f"boxes_image{i}"]) for i in range(2)]
    pooler = detectron2.ROIPooler(tuple(golden["output_size"].tolist()), SCALES, 2, "ROIAlign")
    np.testing.assert_allclose(pooler(maps, boxes), golden["expected"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["ROIAlign", "ROIAlignV2", "ROIPool"])
def test_poolers_pool_each_box_from_its_map(kind):
    inputs, by_image, boxes = ARRAYS["inputs"], ARRAYS["by_image"], ARRAYS["boxes"]
    found = detectron2.ROIPooler(3, SCALES, 0, kind, 100, 3)(inputs, by_image)
    sizes = np.sqrt((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]))
    levels = np.clip(np.floor(3 + np.log2(sizes / 100)), 2, 5).astype(int) - 2
    assert len(set(levels)) == 4
    for k, level in enumerate(levels):
        call = inputs[level], boxes[k : k + 1], 3, SCALES[level]
        if kind == "ROIPool":
            expected = roi_numba.roi_pool(*call, bins="float")
        else:
            expected = roi_numba.roi_align(*call, aligned=kind == "ROIAlignV2")
        np.testing.assert_allclose(found[k], expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ([], "scales must be one for each map, got none"),
        ([0], r"scales\[0\] must be finite and positive, got 0"),
        (SCALES[::-1], "scales must halve from each map to the next, got"),
        ([1 / 4, 1 / 16, 1 / 32, 1 / 64], "scales must halve from each map to the next, got"),
        (SCALES[:3], "x must be 3 maps, one for each of scales, got 4"),
    ],
)
def test_bad_scales(scales, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        detectron2.ROIPooler(3, scales, 0, "ROIAlign")(ARRAYS["inputs"], ARRAYS["by_image"])


def test_rotated_boxes_are_refused():
    pooler = detectron2.ROIPooler(3, SCALES, 0, "ROIAlignRotated")
    with pytest.raises(ValueError, match='pooler_type must be one of "ROIAlign", "ROIAlignV2"'):
        pooler(ARRAYS["inputs"], ARRAYS["by_image"])
