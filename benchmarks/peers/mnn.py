"""MNN: roi_align and roi_pooling of its expressions, and their gradients to the map.

Maps and gradients are packed by four channels beforehand, as MNN's own operators hand them on; the
time has the way back to NumPy's channels first.  A module loaded from a file took as long, with
precision "high" too, and so did the other lazy modes.  A second thread is busy and no help.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload, draw_gradients
from . import NotServed, Otherwise, only_float32_channels_first, only_gradient_to_input

NAME = "MNN"
MODULE = "MNN"
PACKAGES = ("MNN", "numpy")
PAST_A_CELL = "a box's last bin reads one cell more where rounding puts its end past a cell"
OTHERWISE = {
    "roi_pool": Otherwise(0.03, PAST_A_CELL),
    "roi_pool-out": Otherwise(0.03, PAST_A_CELL),
    "roi_pool-gradient": Otherwise(0.12, PAST_A_CELL),
}


def versions() -> dict[str, str]:
    import MNN

    return {"MNN": MNN.version()}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    only_float32_channels_first(NAME, call)
    only_gradient_to_input(NAME, call)
    if call.options.get("return_argmax"):
        raise NotServed("MNN names no winners")
    if call.operator not in ("roi_align", "roi_pool"):
        raise NotServed(f"MNN has no {call.operator}")
    from MNN import expr

    expr.set_thread_number(threads)

    def tensor(array: np.ndarray) -> Any:
        return expr.const(array, list(array.shape), expr.NCHW)

    def packed(array: np.ndarray) -> Any:
        result = expr.convert(tensor(array), expr.NC4HW4)
        result.fix_as_const()
        return result

    back: list[tuple[Any, ...]] = [() for _ in workload.levels]
    if call.gradient:
        back = [(True, packed(grad)) for grad in draw_gradients(workload)]
    levels = []
    for level, grad in zip(workload.levels, back, strict=True):
        common = packed(level.features), tensor(level.boxes), *workload.output_size
        if call.operator == "roi_align":
            samples = max(call.options["sampling_ratio"], 0)
            rest = level.spatial_scale, samples, call.options["aligned"], expr.AVEPOOL
            levels.append((expr.roi_align, (*common, *rest, *grad)))
        else:
            levels.append((expr.roi_pooling, (*common, level.spatial_scale, *grad)))

    def run() -> list[Any]:
        pooled = [expr.convert(operator(*arguments), expr.NCHW) for operator, arguments in levels]
        return [(each, each.read()) for each in pooled]  # what is read is the tensor's own memory

    return run, lambda outputs: [np.array(array) for _, array in outputs]
