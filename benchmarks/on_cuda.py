"""``python -m benchmarks --device cuda``: ourselves and torchvision on one GPU, in one process.

Times are those of the GPU, by CUDA events around calls in a row, so that neither side waits for
Python where the GPU is the slower; what a call costs the host is a figure of its own.  The floor is
what must move, each pixel and each bin once, at the rate at which this GPU copies.
"""

import gc
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

import numpy as np

from . import peers
from .cases import CASES, IMAGE, OPS, Call, Workload, draw_gradients, stored
from .worker import TOLERANCE, relative_difference

IN_A_ROW = 20
"""Calls between two events."""

Run = Callable[[], Any]


def copy_rate(cupy: Any) -> float:
    """Bytes a second, read and written, of a copy too large for any cache."""
    source = cupy.ones(2**28, np.float32)
    target = cupy.empty_like(source)
    seconds = min(gpu_times(cupy, lambda: cupy.copyto(target, source), 20))
    return 2 * source.nbytes / seconds


def gpu_times(cupy: Any, run: Run, count: int) -> list[float]:
    """Seconds a call, of `count` times `IN_A_ROW` calls."""
    run()
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(count):
        begin.record()
        for _ in range(IN_A_ROW):
            run()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / IN_A_ROW)
    return times


def host_times(cupy: Any, run: Run, count: int = 300) -> list[float]:
    """Seconds until a call returns, the GPU having nothing else to do."""
    times = []
    gc.disable()
    for _ in range(count):
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    gc.enable()
    return times


def ours(cupy: Any, workload: Workload, call: Call, deterministic: bool = True) -> Run:
    """Our call on CuPy arrays."""
    import roi_numba

    operator = getattr(roi_numba, call.operator)
    backward = getattr(roi_numba, f"{call.operator}_backward")
    size = workload.output_size
    levels = [
        (cupy.asarray(stored(level.features, call)), cupy.asarray(level.boxes), level.spatial_scale)
        for level in workload.levels
    ]
    if call.operator == "pyramid_pool":
        maps, _, scales = zip(*levels, strict=True)
        boxes = cupy.asarray(workload.boxes)
        options = {"spatial_scales": scales, **call.options}
        return lambda: [operator(roi_numba.roi_align, maps, boxes, size, **options)]
    if call.operator == "crop_and_resize":
        ((features, rows, _),) = levels
        numbers, boxes = rows[:, 0].astype(np.int32), rows[:, 1:]
        if call.options.get("channel_axis") == 1:
            features = cupy.ascontiguousarray(features.transpose(0, 3, 1, 2))
        return lambda: [operator(features, boxes, size, box_indices=numbers, **call.options)]
    if not call.gradient:
        return lambda: [
            operator(features, boxes, size, scale, **call.options)
            for features, boxes, scale in levels
        ]
    grads = [cupy.asarray(stored(grad, call)) for grad in draw_gradients(workload)]
    options = {"needs": (call.gradient,), "deterministic": deterministic, **call.options}
    winners: list[dict[str, Any]] = [{} for _ in levels]
    if call.operator == "roi_pool":
        winners = [
            {"argmax": operator(*level[:2], size, level[2], **call.options, return_argmax=True)[1]}
            for level in levels
        ]
    wanted = 0 if call.gradient == "input" else 1
    return lambda: [
        backward(grad, *level, **options, **named)[wanted]
        for grad, level, named in zip(grads, levels, winners, strict=True)
    ]


def theirs(workload: Workload, call: Call) -> Run | None:
    """torchvision's call on the same numbers, or None if it has none."""
    import torch
    from torchvision import ops

    try:
        peers.only_float32_channels_first("torchvision", call)
        peers.only_gradient_to_input("torchvision", call)
    except peers.NotServed:
        return None
    if call.operator == "pyramid_pool":
        return their_pyramid(workload, call)
    arguments = {
        "roi_align": (call.options.get("sampling_ratio"), call.options.get("aligned")),
        "roi_pool": (),
    }
    if call.operator not in arguments:
        return None
    operator, options = getattr(ops, call.operator), arguments[call.operator]
    levels = [
        (torch.from_numpy(level.features).cuda(), torch.from_numpy(level.boxes).cuda())
        for level in workload.levels
    ]
    scales = [level.spatial_scale for level in workload.levels]
    size = workload.output_size

    def pooled() -> list[Any]:
        return [
            operator(*level, size, scale, *options)
            for level, scale in zip(levels, scales, strict=True)
        ]

    if not call.gradient:
        return pooled
    for features, _ in levels:
        features.requires_grad_()
    results = pooled()
    grads = [torch.from_numpy(grad).cuda() for grad in draw_gradients(workload)]
    return lambda: [
        torch.autograd.grad(result, level[0], grad, retain_graph=True)[0]
        for result, level, grad in zip(results, levels, grads, strict=True)
    ]


def their_pyramid(workload: Workload, call: Call) -> Run:
    """MultiScaleRoIAlign, which chooses the levels."""
    import torch
    from torchvision import ops

    assert workload.boxes is not None
    maps = {
        str(i): torch.from_numpy(each.features).cuda() for i, each in enumerate(workload.levels)
    }
    boxes = [torch.from_numpy(workload.boxes[:, 1:]).cuda()]
    pooler = ops.MultiScaleRoIAlign([*maps], workload.output_size, call.options["sampling_ratio"])
    return lambda: [pooler(maps, boxes, [IMAGE])]


def floor(workload: Workload, call: Call, rate: float) -> float:
    """Seconds to read every pixel and write every bin once, or the other way round."""
    pixels = sum(level.features.nbytes for level in workload.levels)
    axis = -1 if call.operator == "crop_and_resize" else 1
    bins = workload.output_size[0] * workload.output_size[1] * 4
    pooled = sum(len(level.boxes) * level.features.shape[axis] * bins for level in workload.levels)
    return (pixels + pooled) / rate


def flat(arrays: Any) -> np.ndarray:
    """All numbers of a result but winners, on the host."""
    arrays = [a[0] if isinstance(a, tuple) else a for a in arrays]
    parts = [a.detach().cpu().numpy() if hasattr(a, "detach") else a.get() for a in arrays]
    return np.concatenate([part.reshape(-1) for part in parts])


def pooled() -> list[tuple[str, str]]:
    """Cases and operators for a device: all but what is asked of the host's cores."""
    return [(case, op) for case in CASES if case != "machine" for op in CASES[case].ops]


def rows(cupy: Any, cases: list[str], ops: list[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure every case; a side whose result differs is not timed."""
    rate = copy_rate(cupy)
    for case, op in pooled():
        wanted = any(fnmatchcase(case, glob) for glob in cases)
        if not wanted or not any(fnmatchcase(op, glob) for glob in ops):
            continue
        workload, call = CASES[case].build(), OPS[op]
        sides = {"roi_numba": ours(cupy, workload, call)}
        if call.gradient:
            sides["roi_numba, atomics"] = ours(cupy, workload, call, deterministic=False)
        peer = theirs(workload, call)
        if peer is not None:
            sides["torchvision"] = peer
        expected = flat(sides["roi_numba"]())
        times: dict[str, list[float]] = {}
        for name, run in sides.items():
            difference = relative_difference(flat(run()), expected)
            yield {"case": case, "op": op, "side": name, "difference": difference}
            if difference <= TOLERANCE:
                times[name] = []
        for turn in range(rounds):
            for name in list(times)[:: 1 if turn % 2 == 0 else -1]:
                times[name] += gpu_times(cupy, sides[name], 5)
        for name, measured in times.items():
            yield {
                "case": case, "op": op, "side": name, "times": measured,
                "floor": floor(workload, call, rate), "copy rate": rate,
                "host": host_times(cupy, sides[name]),
            }  # fmt: skip


def device_name(cupy: Any) -> str:
    """The GPU and what drives it."""
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return f"{name}, driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}"


def versions() -> dict[str, str]:
    """Of all that takes part."""
    from importlib import metadata

    import cupy

    import roi_numba

    names = ("numpy", "numba", "numba-cuda", "torch", "torchvision")
    found = {name: metadata.version(name) for name in names}
    return found | {"roi_numba": roi_numba.__version__, "cupy": cupy.__version__}


def lines(measured: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of the table: medians and minima of the GPU's time, and ratios."""
    table = []
    mine: dict[tuple[str, str], float] = {}
    for row in measured:
        key = row["case"], row["op"]
        if "times" not in row:
            if not row["difference"] <= TOLERANCE:
                table.append([*key, row["side"], f"differs by {row['difference']:.1e}"] + [""] * 4)
            continue
        middle = median(row["times"])
        mine.setdefault(key, middle)
        table.append(
            [
                *key,
                row["side"],
                f"{middle * 1e6:.1f}",
                f"{min(row['times']) * 1e6:.1f}",
                f"{middle / mine[key]:.2f}x",
                f"{middle / row['floor']:.1f}",
                f"{median(row['host']) * 1e6:.1f}",
            ]
        )
    return table


HEAD = ["case", "operator", "side", "µs", "least", "over ours", "over the floor", "host µs"]
