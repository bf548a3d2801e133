"""onnxruntime: RoiAlign (opset 16) and MaxRoiPool, one graph with a node for each level.

Inputs and outputs are bound once, so a run neither copies nor allocates; one session, so one
thread pool; no spinning, or its idle threads would slow the other side's rounds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload
from . import NotServed

MODULE = "onnxruntime"
PACKAGES = ("onnxruntime", "onnx")


def versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def graph(workload: Workload, call: Call) -> tuple[bytes, list[dict[str, np.ndarray]]]:
    """The model, serialised, and each level's inputs."""
    from onnx import TensorProto, checker, helper

    ph, pw = workload.output_size
    if call.gradient:
        raise NotServed("onnxruntime has no gradients")
    nodes, inputs, outputs, feeds = [], [], [], []
    for k, level in enumerate(workload.levels):
        common = {"spatial_scale": level.spatial_scale}
        feed = {f"features{k}": level.features}
        if call.operator == "roi_align":
            feed[f"boxes{k}"] = np.ascontiguousarray(level.boxes[:, 1:])
            feed[f"images{k}"] = level.boxes[:, 0].astype(np.int64)
            node = helper.make_node(
                "RoiAlign",
                list(feed),
                [f"output{k}"],
                mode="avg",
                output_height=ph,
                output_width=pw,
                sampling_ratio=max(call.options["sampling_ratio"], 0),
                coordinate_transformation_mode=(
                    "half_pixel" if call.options["aligned"] else "output_half_pixel"
                ),
                **common,
            )
        elif call.operator == "roi_pool":
            feed[f"boxes{k}"] = level.boxes
            node = helper.make_node(
                "MaxRoiPool", list(feed), [f"output{k}"], pooled_shape=[ph, pw], **common
            )
        else:
            raise NotServed(f"onnxruntime has no {call.operator}")
        nodes.append(node)
        feeds.append(feed)
        for name, array in feed.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
        shape = (len(level.boxes), level.features.shape[1], ph, pw)
        outputs.append(helper.make_tensor_value_info(f"output{k}", TensorProto.FLOAT, shape))
    model = helper.make_model(
        helper.make_graph(nodes, "pool", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 16)],
        ir_version=8,
    )
    checker.check_model(model)
    return model.SerializeToString(), feeds


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import onnxruntime

    model, feeds = graph(workload, call)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    bound = []  # a binding keeps no reference to the memory it names
    for k, feed in enumerate(feeds):
        for name, array in feed.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(name, value)
            bound.append(value)
        channels = workload.levels[k].features.shape[1]
        shape = (len(workload.levels[k].boxes), channels, *workload.output_size)
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
        binding.bind_ortvalue_output(f"output{k}", value)
        bound.append(value)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return bound

    return run, lambda _: [value.numpy() for value in binding.get_outputs()]
