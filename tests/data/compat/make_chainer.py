"""Write what Chainer makes of boxes of every sort, beside this file.

python tests/data/compat/make_chainer.py        # with chainer 7.8.1 and numpy<1.24
"""

from pathlib import Path

import chainer
import numpy as np
from chainer import functions

folder = Path(__file__).parent
with np.load(folder.parent / "torchvision_roi_align_f32_sr2_al0_3x5_s037.npz") as file:
    features, nasty, scale = file["features"], file["rois"], file["spatial_scale"].item()
# Corners half-way between cells, and an extent of 29 cells in 7 bins, which float64 overruns.
halves = np.random.default_rng(11).integers(-6, 40, (12, 4)) + 0.5
halves = np.column_stack([np.arange(12) % 2, np.sort(halves.reshape(12, 2, 2), 1).reshape(12, 4)])
wide = [(0, -12, -9, 17, 20), (1, -5, 0, 24, 13)]
cases = {
    "s037": (nasty, scale, (3, 2)),
    "s1": (np.concatenate([halves, wide]).astype(np.float32), 1.0, (7, 3)),
}
names = (
    "roi_max_pooling_2d",
    "roi_average_pooling_2d",
    "roi_max_align_2d",
    "roi_average_align_2d",
)
for name in names:
    for case, (rois, spatial_scale, outsize) in cases.items():
        ratio = {"sampling_ratio": (2, None)} if "align" in name else {}
        pooled = getattr(functions, name)(
            features,
            np.ascontiguousarray(rois[:, [2, 1, 4, 3]]),
            rois[:, 0].astype(np.int32),
            outsize,
            spatial_scale,
            **ratio,
        )
        np.savez_compressed(
            folder / f"chainer_{name}_{case}.npz",
            peer=f"chainer {chainer.__version__}",
            call=f"functions.{name}(features, yxyx, indices, outsize, spatial_scale, **{ratio})",
            features=features,
            rois=rois,
            outsize=np.array(outsize),
            spatial_scale=spatial_scale,
            expected=pooled.array,
        )
