"""Our side, with the interface of a peer."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Call, Workload

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
    operator = getattr(roi_numba, call.operator)
    size = workload.output_size
    # A fresh result is what users get; into a buffer of its own is what IO binding gives a peer.
    keep = os.environ.get("ROI_NUMBA_BENCH_OUT") == "1"
    levels = [
        (
            level.features,
            level.boxes,
            size,
            level.spatial_scale,
            {"out": np.zeros((len(level.boxes), level.features.shape[1], *size), np.float32)}
            if keep
            else {},
        )
        for level in workload.levels
    ]
    options = call.options

    def run() -> list[np.ndarray]:
        return [
            operator(features, boxes, size, scale, **options, **out)
            for features, boxes, size, scale, out in levels
        ]

    return run, lambda outputs: outputs
