"""onnxruntime: RoiAlign (opset 16), MaxRoiPool, and the CropAndResize of its own domain.

One graph, with a node for each level.

Inputs and outputs are bound once, so a run neither copies nor allocates; one session, so one
thread pool; no spinning, or its idle threads would slow the other side's rounds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload
from ..crops import channels_first
from . import NotServed, only_float32_channels_first

NAME = "onnxruntime"
MODULE = "onnxruntime"
PACKAGES = ("onnxruntime", "onnx")
OWN_DOMAIN = "com.microsoft"


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
    if call.options.get("return_argmax"):
        raise NotServed("MaxRoiPool names no winners")
    only_float32_channels_first(NAME, call)
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
        elif call.operator == "crop_and_resize" and level.features.dtype == np.float32:
            feed = {
                f"features{k}": np.ascontiguousarray(channels_first(level.features)),
                f"boxes{k}": np.ascontiguousarray(level.boxes[:, 1:]),
                f"images{k}": level.boxes[:, 0].astype(np.int32),
                f"size{k}": np.array([ph, pw], np.int32),
            }
            node = helper.make_node(
                "CropAndResize", list(feed), [f"output{k}"], domain=OWN_DOMAIN, mode="bilinear"
            )
        else:
            raise NotServed(f"onnxruntime has no {call.operator} of {level.features.dtype}")
        nodes.append(node)
        feeds.append(feed)
        for name, array in feed.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
        shape = (len(level.boxes), feed[f"features{k}"].shape[1], ph, pw)
        outputs.append(helper.make_tensor_value_info(f"output{k}", TensorProto.FLOAT, shape))
    model = helper.make_model(
        helper.make_graph(nodes, "pool", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 16), helper.make_opsetid(OWN_DOMAIN, 1)],
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
        channels = feed[f"features{k}"].shape[1]
        shape = (len(workload.levels[k].boxes), channels, *workload.output_size)
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
        binding.bind_ortvalue_output(f"output{k}", value)
        bound.append(value)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return bound

    def read(_: Any) -> list[np.ndarray]:
        pooled = [value.numpy() for value in binding.get_outputs()]
        crops = call.operator == "crop_and_resize"
        return [output.transpose(0, 2, 3, 1) for output in pooled] if crops else pooled

    return run, read
