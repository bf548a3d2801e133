"""Write what OpenVINO's ROIPooling makes of boxes whose corners round half-way, beside this file.

`python tests/data/compat/make_openvino.py`, with openvino 2026.4.1.
"""

from pathlib import Path

import numpy as np


def main():
    import openvino
    from openvino import opset9

    rng = np.random.default_rng(3)
    features = rng.normal(size=(2, 3, 13, 17)).astype(np.float32)
    # 0.7 is less than 7/10 in float32: 5 * 0.7 is 3.4999999, and 3.5 once it is rounded to float32.
    corners = 5.0 * rng.integers(-2, 7, (30, 4))
    corners[20:] = rng.uniform(-20, 40, (10, 4))
    rois = np.column_stack([rng.integers(0, 2, 30), corners]).astype(np.float32)
    inputs = [opset9.parameter(list(array.shape), array.dtype) for array in (features, rois)]
    pooled = opset9.roi_pooling(*inputs, [3, 4], 0.7, "max")
    compiled = openvino.Core().compile_model(
        openvino.Model([pooled], inputs), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.savez_compressed(
        Path(__file__).with_name("openvino_roipooling_max_s07.npz"),
        peer=f"openvino {openvino.__version__}",
        call="opset9.roi_pooling(features, rois, [3, 4], 0.7, 'max')",
        features=features,
        rois=rois,
        output_size=np.array([3, 4]),
        spatial_scale=0.7,
        expected=compiled([features, rois])[0],
    )


if __name__ == "__main__":
    main()
