"""Paddle: roi_align and roi_pool, and their gradients to the map through autograd.

Paddle wants the boxes sorted by image, which they are beforehand.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload, draw_gradients
from . import NotServed, only_float32_channels_first, only_gradient_to_input

NAME = "Paddle"
MODULE = "paddle"
PACKAGES = ("paddlepaddle", "numpy")
TOLERANCE = 1e-4
"""Positions of samples are rounded otherwise, 4e-5 on the largest map of a pyramid."""


def versions() -> dict[str, str]:
    import paddle

    return {"paddlepaddle": paddle.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    only_float32_channels_first(NAME, call)
    only_gradient_to_input(NAME, call)
    if call.options.get("return_argmax"):
        raise NotServed("Paddle does not give its winners")
    import paddle
    from paddle.vision import ops

    paddle.base.core.set_num_threads(threads)
    options: dict[str, Any] = {}
    if call.operator == "roi_align":
        operator, options = ops.roi_align, call.options
    elif call.operator == "roi_pool":
        operator = ops.roi_pool
    else:
        raise NotServed(f"Paddle has no {call.operator}")
    orders = [np.argsort(level.boxes[:, 0], kind="stable") for level in workload.levels]
    levels = []
    for level, order in zip(workload.levels, orders, strict=True):
        boxes = level.boxes[order]
        counts = np.bincount(boxes[:, 0].astype(np.int64), minlength=len(level.features))
        features = paddle.to_tensor(level.features, stop_gradient=call.gradient is None)
        arrays = paddle.to_tensor(boxes[:, 1:]), paddle.to_tensor(counts.astype(np.int32))
        levels.append((features, *arrays, workload.output_size, level.spatial_scale))

    if call.gradient:
        pooled = [operator(*level, **options) for level in levels]
        grads = [
            paddle.to_tensor(grad[order])
            for grad, order in zip(draw_gradients(workload), orders, strict=True)
        ]

        def run_back() -> Any:
            return [
                paddle.grad([result], [level[0]], [grad], retain_graph=True)[0]
                for result, level, grad in zip(pooled, levels, grads, strict=True)
            ]

        return run_back, lambda outputs: [output.numpy() for output in outputs]

    def run() -> Any:
        with paddle.no_grad():
            return [operator(*level, **options) for level in levels]

    def read(outputs: Any) -> list[np.ndarray]:
        return [
            output.numpy()[np.argsort(order)] for output, order in zip(outputs, orders, strict=True)
        ]

    return run, read
