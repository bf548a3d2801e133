"""OpenVINO: ROIAlign and ROIPooling, a node for each level; crop_and_resize as GridSample.

GridSample is a node for each image, by grids made beforehand: ROIPooling with
``method="bilinear"`` is that operator, and ROIAlign of boxes half a step wider has the same
samples: they took 8 and 16 times as long.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import crops
from ..cases import Call, Workload
from . import NotServed, only_float32_channels_first

NAME = "OpenVINO"
MODULE = "openvino"
PACKAGES = ("openvino", "numpy")

Graph = tuple[list[Any], list[Any], list[np.ndarray]]
"""Results, parameters, and what is fed to these."""


def versions() -> dict[str, str]:
    import openvino

    return {"openvino": openvino.__version__.partition("-")[0]}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import openvino

    if call.gradient:
        raise NotServed("OpenVINO has no gradients")
    if call.options.get("return_argmax"):
        raise NotServed("ROIPooling names no winners")
    only_float32_channels_first(NAME, call)
    graphs = {"roi_align": align, "roi_pool": pool, "crop_and_resize": sample}
    if call.operator not in graphs:
        raise NotServed(f"no {call.operator} of OpenVINO is timed")
    if workload.levels[0].features.dtype != np.float32:
        raise NotServed("OpenVINO is timed on float32")
    pooled, parameters, feeds = graphs[call.operator](workload, call)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # or it may be bfloat16
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    model = openvino.Core().compile_model(openvino.Model(pooled, parameters), "CPU", settings)
    request = model.create_infer_request()

    def run() -> Any:
        return request.infer(feeds, share_inputs=True, share_outputs=True)

    def read(outputs: Any) -> list[np.ndarray]:
        arrays = list(outputs.values())
        return [crops.in_order(workload, arrays)] if call.operator == "crop_and_resize" else arrays

    return run, read


def empty_graph() -> Graph:
    return [], [], []


def parameters_of(*arrays: np.ndarray) -> list[Any]:
    from openvino import opset9

    return [opset9.parameter(array.shape, array.dtype) for array in arrays]


def align(workload: Workload, call: Call) -> Graph:
    from openvino import opset9

    pooled, parameters, feeds = empty_graph()
    for level in workload.levels:
        boxes = np.ascontiguousarray(level.boxes[:, 1:])
        arrays = level.features, boxes, level.boxes[:, 0].astype(np.int32)
        nodes = parameters_of(*arrays)
        samples = max(call.options["sampling_ratio"], 0)
        mode = "half_pixel_for_nn" if call.options["aligned"] else "asymmetric"
        rest = *workload.output_size, samples, level.spatial_scale, "avg", mode
        pooled.append(opset9.roi_align(*nodes, *rest))
        parameters += nodes
        feeds += arrays
    return pooled, parameters, feeds


def pool(workload: Workload, call: Call) -> Graph:
    from openvino import opset9

    pooled, parameters, feeds = empty_graph()
    for level in workload.levels:
        arrays = level.features, level.boxes
        nodes = parameters_of(*arrays)
        size = list(workload.output_size)
        pooled.append(opset9.roi_pooling(*nodes, size, level.spatial_scale, "max"))
        parameters += nodes
        feeds += arrays
    return pooled, parameters, feeds


def sample(workload: Workload, call: Call) -> Graph:
    from openvino import opset9

    pooled, parameters, feeds = empty_graph()
    attributes = {"align_corners": True, "mode": "bilinear", "padding_mode": "zeros"}
    for of_image in crops.by_image(workload):
        arrays = [np.ascontiguousarray(array) for array in of_image]
        nodes = parameters_of(*arrays)
        pooled.append(opset9.grid_sample(*nodes, attributes))
        parameters += nodes
        feeds += arrays
    return pooled, parameters, feeds
