"""Write what Paddle makes of boxes of every sort, beside this file.

python tests/data/compat/make_paddle.py         # with paddlepaddle 3.3.1
"""

from pathlib import Path

import numpy as np
import paddle
from paddle.vision import ops

folder = Path(__file__).parent
with np.load(folder.parent / "torchvision_roi_align_f32_sr2_al0_3x5_s037.npz") as file:
    features, rois, scale = file["features"], file["rois"], file["spatial_scale"].item()
rois = rois[np.argsort(rois[:, 0], kind="stable")]
boxes, counts = rois[:, 1:], np.bincount(rois[:, 0].astype(int), minlength=2).astype(np.int32)
calls = {
    "roi_align_sr2": (ops.roi_align, {"sampling_ratio": 2}),
    "roi_align_sr0_al0": (ops.roi_align, {"sampling_ratio": 0, "aligned": False}),
    "roi_pool": (ops.roi_pool, {}),
}
for name, (function, options) in calls.items():
    tensors = [paddle.to_tensor(array) for array in (features, boxes, counts)]
    pooled = function(*tensors, (3, 2), scale, **options)
    np.savez_compressed(
        folder / f"paddle_{name}.npz",
        peer=f"paddlepaddle {paddle.__version__}",
        call=f"vision.ops.{function.__name__}(x, boxes, boxes_num, (3, 2), scale, {options})",
        x=features,
        boxes=boxes,
        boxes_num=counts,
        spatial_scale=scale,
        expected=pooled.numpy(),
    )
