"""Our side, with the interface of a peer."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Call, Workload, draw_gradients, stored
from .crops import channels_first

MODULE = "roi_numba"


def versions() -> dict[str, str]:
    import numba

    import roi_numba

    return {
        "roi_numba": getattr(roi_numba, "__version__", "unreleased"),
        "numba": numba.__version__,
        "numpy": np.__version__,
    }


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    import roi_numba

    roi_numba.set_num_threads(threads)
    if call.operator == "sha256":
        return hashes()
    operator = getattr(roi_numba, call.operator)
    size = workload.output_size
    if call.gradient:
        return gradients(workload, call)
    if call.operator == "pyramid_pool":
        return pyramid(workload, call)
    if call.operator == "crop_and_resize":
        return crops(workload, call)
    levels = []
    for level in workload.levels:
        arguments = stored(level.features, call), level.boxes, size, level.spatial_scale
        out = operator(*arguments, **call.options) if call.out else None
        levels.append((arguments, call.options | {"out": out}))

    def run() -> list[Any]:
        return [operator(*arguments, **options) for arguments, options in levels]

    return run, lambda outputs: channels_first_again(outputs, call)


def hashes() -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    """What the cores do for threads of ours that share nothing: no more is to be had."""
    from roi_numba._cpu.threads import run as run_in_threads

    text = bytes(1 << 18)

    def hash_some(first: int, last: int) -> None:
        for _ in range(first, last):
            hashlib.sha256(text)

    def run() -> list[np.ndarray]:
        run_in_threads(hash_some, [(i, i + 1) for i in range(64)])
        return [np.zeros(1, np.float32)]

    return run, lambda outputs: outputs


def channels_first_again(results: list[Any], call: Call) -> list[np.ndarray]:
    """Results, without their winners, as (K, C, height, width)."""
    pooled = [result[0] if isinstance(result, tuple) else result for result in results]
    last = call.options.get("channel_axis") == -1
    return [result.transpose(0, 3, 1, 2) if last else result for result in pooled]


def pyramid(
    workload: Workload, call: Call
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    """One call, which chooses the levels."""
    import roi_numba

    assert workload.boxes is not None
    maps = [stored(level.features, call) for level in workload.levels]
    scales = [level.spatial_scale for level in workload.levels]
    by_image = [workload.boxes[:, 1:]]

    def run() -> np.ndarray:
        pooled: np.ndarray = roi_numba.pyramid_pool(
            roi_numba.roi_align, maps, by_image, workload.output_size,
            spatial_scales=scales, **call.options,
        )  # fmt: skip
        return pooled

    return run, lambda output: channels_first_again([output], call)


def crops(
    workload: Workload, call: Call
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    """Boxes and the images they are in go apart."""
    import roi_numba

    (level,) = workload.levels
    images, boxes = level.boxes[:, 0].astype(np.int32), level.boxes[:, 1:]
    first = call.options.get("channel_axis") == 1
    features = np.ascontiguousarray(channels_first(level.features)) if first else level.features

    def run() -> np.ndarray:
        return roi_numba.crop_and_resize(
            features, boxes, workload.output_size, box_indices=images, **call.options
        )

    return run, lambda output: [output.transpose(0, 2, 3, 1) if first else output]


def gradients(
    workload: Workload, call: Call
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    """One of the gradients alone, as the peers give it; a maximum's winners are kept."""
    import roi_numba

    operator = getattr(roi_numba, call.operator)
    backward = getattr(roi_numba, f"{call.operator}_backward")
    wanted = 0 if call.gradient == "input" else 1
    levels = []
    for level, grad in zip(workload.levels, draw_gradients(workload), strict=True):
        arguments = stored(level.features, call), level.boxes
        options = call.options | {"needs": (call.gradient,)}
        if call.operator == "roi_pool":
            size, scale = workload.output_size, level.spatial_scale
            winners = operator(*arguments, size, scale, **call.options, return_argmax=True)[1]
            options |= {"argmax": winners}
        levels.append((stored(grad, call), *arguments, level.spatial_scale, options))

    def run() -> list[np.ndarray]:
        return [backward(*arguments, **options)[wanted] for *arguments, options in levels]

    if call.gradient == "boxes":
        return run, lambda outputs: outputs
    return run, lambda outputs: channels_first_again(outputs, call)
