"""torchvision: roi_align and roi_pool, and their gradients to the map through autograd.

A pyramid is one roi_align per level, or as a `pyramid_pool` its MultiScaleRoIAlign, which chooses
the levels, and takes no ``aligned``.  Crops are torch's grid_sample, a call for each image, by
grids made beforehand: roi_align of boxes half a step wider has the same samples, and takes 2 to 3
times as long, as does a call for each box.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import crops
from ..cases import IMAGE, Call, Workload, draw_gradients
from . import NotServed, only_float32_channels_first, only_gradient_to_input

NAME = "torchvision"
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

    only_gradient_to_input(NAME, call)
    torch.set_num_threads(threads)
    if call.operator != "crop_and_resize":
        only_float32_channels_first(NAME, call)
    if call.operator == "pyramid_pool":
        return pyramid(workload, call)
    if call.operator == "crop_and_resize":
        return samples(workload)
    options: tuple[Any, ...]
    if call.operator == "roi_align":
        operator = ops.roi_align
        options = (call.options["sampling_ratio"], call.options["aligned"])
    elif call.operator == "roi_pool":
        operator = ops.roi_pool  # names its winners, always
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


def pyramid(
    workload: Workload, call: Call
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import torch
    from torchvision import ops

    assert workload.boxes is not None
    names = [str(k) for k in range(len(workload.levels))]
    maps = {
        name: torch.from_numpy(level.features)
        for name, level in zip(names, workload.levels, strict=True)
    }
    by_image = [torch.from_numpy(workload.boxes[:, 1:]).contiguous()]
    pooler = ops.MultiScaleRoIAlign(names, workload.output_size, call.options["sampling_ratio"])

    def run() -> Any:
        with torch.inference_mode():
            return pooler(maps, by_image, [IMAGE])

    return run, lambda output: [output.numpy()]


def samples(workload: Workload) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import torch

    if workload.levels[0].features.dtype != np.float32:
        raise NotServed("grid_sample takes no integers")
    grid_sample = torch.nn.functional.grid_sample
    calls = [
        [torch.from_numpy(np.ascontiguousarray(array)) for array in of_image]
        for of_image in crops.by_image(workload)
    ]

    def run() -> Any:
        with torch.inference_mode():
            return [grid_sample(*call, align_corners=True) for call in calls]

    return run, lambda outputs: [crops.in_order(workload, [output.numpy() for output in outputs])]
