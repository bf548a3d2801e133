"""TensorFlow: crop_and_resize."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Call, Workload
from . import NotServed

NAME = "TensorFlow"
MODULE = "tensorflow"
PACKAGES = ("tensorflow-cpu", "numpy")


def versions() -> dict[str, str]:
    import tensorflow

    return {"tensorflow": tensorflow.__version__}


def prepare(
    workload: Workload, call: Call, threads: int
) -> tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]:
    if call.operator != "crop_and_resize":
        raise NotServed(f"TensorFlow has no {call.operator}")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    levels = [
        (
            tf.constant(level.features),
            tf.constant(level.boxes[:, 1:]),
            tf.constant(level.boxes[:, 0].astype(np.int32)),
        )
        for level in workload.levels
    ]

    def run() -> Any:
        return [tf.image.crop_and_resize(*level, workload.output_size) for level in levels]

    return run, lambda outputs: [output.numpy() for output in outputs]
