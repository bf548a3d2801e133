"""OpenVINO: crop_and_resize as GridSample, a node for each image, by grids made beforehand.

Its ROIPooling with ``method="bilinear"`` is that operator, and ROIAlign of boxes half a step wider
has the same samples: they took 8 and 16 times as long as GridSample.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import crops
from ..cases import Call, Workload
from . import NotServed

MODULE = "openvino"
PACKAGES = ("openvino", "numpy")


def versions() -> dict[str, str]:
    import openvino

    return {"openvino": openvino.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    if call.operator != "crop_and_resize":
        raise NotServed(f"no {call.operator} of OpenVINO is timed")
    if workload.levels[0].features.dtype != np.float32:
        raise NotServed("GridSample is timed on float32")
    import openvino
    from openvino import opset9

    parameters, pooled, feeds = [], [], []
    attributes = {"align_corners": True, "mode": "bilinear", "padding_mode": "zeros"}
    for of_image in crops.by_image(workload):
        arrays = [np.ascontiguousarray(array) for array in of_image]
        nodes = [opset9.parameter(array.shape, array.dtype) for array in arrays]
        pooled.append(opset9.grid_sample(*nodes, attributes))
        parameters += nodes
        feeds += arrays
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # or it may be bfloat16
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    model = openvino.Core().compile_model(openvino.Model(pooled, parameters), "CPU", settings)
    request = model.create_infer_request()

    def run() -> Any:
        return request.infer(feeds, share_inputs=True, share_outputs=True)

    return run, lambda outputs: [crops.in_order(workload, list(outputs.values()))]
