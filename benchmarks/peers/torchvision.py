"""torchvision: roi_align and roi_pool, and their gradients to the map through autograd.

A pyramid is one roi_align per level; `MultiScaleRoIAlign`, which also chooses the levels, takes
no ``aligned`` and so computes something else.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload, draw_gradients
from . import NotServed

MODULE = "torchvision"
PACKAGES = ("torchvision", "numpy")


def versions() -> dict[str, str]:
    import torch
    import torchvision

    return {"torchvision": torchvision.__version__, "torch": torch.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import torch
    from torchvision import ops

    torch.set_num_threads(threads)
    options: tuple[Any, ...]
    if call.operator == "roi_align":
        operator = ops.roi_align
        options = (call.options["sampling_ratio"], call.options["aligned"])
    elif call.operator == "roi_pool":
        operator = ops.roi_pool
        options = ()
    else:
        raise NotServed(f"torchvision has no {call.operator}")
    levels = [
        (torch.from_numpy(level.features), torch.from_numpy(level.boxes), level.spatial_scale)
        for level in workload.levels
    ]
    size = workload.output_size

    if call.gradient:
        for features, _, _ in levels:
            features.requires_grad_()
        pooled = [operator(*level[:2], size, level[2], *options) for level in levels]
        grads = [torch.from_numpy(grad) for grad in draw_gradients(workload)]

        def run_back() -> Any:
            return [
                torch.autograd.grad(result, level[0], grad, retain_graph=True)[0]
                for result, level, grad in zip(pooled, levels, grads, strict=True)
            ]

        return run_back, lambda outputs: [output.numpy() for output in outputs]

    def run() -> Any:
        with torch.inference_mode():
            return [
                operator(features, boxes, size, scale, *options)
                for features, boxes, scale in levels
            ]

    return run, lambda outputs: [output.numpy() for output in outputs]
