"""`onnx`: the operators RoiAlign and MaxRoiPool, and classes of them for `onnx.reference`.

Attributes are keyword arguments. `RoiAlign` is that of opsets 16 and 22, `RoiAlign_10` that of
opset 10, which knows no half pixel. After `from roi_numba.compat import onnx as roi_onnx`,
`ReferenceEvaluator(model, new_ops=roi_onnx.new_ops())` runs a model with our kernels, in the opset
it asks for: the evaluator's own RoiAlign takes the default of opset 16 for that of opset 10, and it
has no MaxRoiPool.
"""

from typing import Any

from .. import _checks
from . import Row
from ._arrays import operators

__all__ = ["MaxRoiPool", "RoiAlign", "RoiAlign_10", "new_ops"]

PEER = "onnx"

TABLE = (
    Row(
        "RoiAlign(input, xyxy, indices, output_height=7, output_width=7, sampling_ratio=2, "
        "spatial_scale=1/16)",
        "roi_numba.roi_align(input, xyxy, 7, 1/16, 2, True, batch_indices=indices)",
        "Opsets 16 and 22: `half_pixel` is the default.",
    ),
    Row(
        'RoiAlign(input, xyxy, indices, coordinate_transformation_mode="output_half_pixel", '
        "output_height=7, output_width=7, spatial_scale=1/16)",
        "roi_numba.roi_align(input, xyxy, 7, 1/16, batch_indices=indices)",
        "The other mode is not aligned, in spite of its name.",
    ),
    Row(
        'RoiAlign(input, xyxy, indices, mode="max", output_height=7, output_width=7, '
        "sampling_ratio=2, spatial_scale=1/16)",
        'roi_numba.roi_align(input, xyxy, 7, 1/16, 2, True, reduce="max_corner", '
        "batch_indices=indices)",
        "The largest weighted corner of the samples, not the largest sample.",
    ),
    Row(
        "RoiAlign_10(input, xyxy, indices, output_height=7, output_width=7, spatial_scale=1/16)",
        "roi_numba.roi_align(input, xyxy, 7, 1/16, batch_indices=indices)",
        "Opset 10: not aligned.",
    ),
    Row(
        "MaxRoiPool(input, boxes, pooled_shape=(7, 7), spatial_scale=1/16)",
        'roi_numba.roi_pool(input, boxes, 7, 1/16, bins="float")',
        "Bins in floating point may reach a cell beyond the box; ours are exact by default.",
    ),
)

REDUCTIONS = {"avg": "mean", "max": "max_corner"}


def RoiAlign(
    X: Any,
    rois: Any,
    batch_indices: Any,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Any:
    """RoiAlign of opsets 16 and 22."""
    transformation = _checks.choice(
        "coordinate_transformation_mode",
        coordinate_transformation_mode,
        ("half_pixel", "output_half_pixel"),
    )
    return operators(X).roi_align(
        X,
        rois,
        (output_height, output_width),
        spatial_scale,
        sampling_ratio,
        transformation == "half_pixel",
        reduce=REDUCTIONS[_checks.choice("mode", mode, tuple(REDUCTIONS))],
        batch_indices=batch_indices,
    )


def RoiAlign_10(
    X: Any,
    rois: Any,
    batch_indices: Any,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Any:
    """RoiAlign of opset 10."""
    return RoiAlign(
        X,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


def MaxRoiPool(
    X: Any, rois: Any, *, pooled_shape: tuple[int, int], spatial_scale: float = 1.0
) -> Any:
    """MaxRoiPool of opsets 1 and 22."""
    return operators(X).roi_pool(X, rois, pooled_shape, spatial_scale, bins="float")


def new_ops() -> list[type]:
    """Make operator classes for ``onnx.reference.ReferenceEvaluator(model, new_ops=new_ops())``."""
    from onnx.reference.op_run import OpRun

    def align(node: Any, *inputs: Any, **attributes: Any) -> tuple[Any]:
        # onnx fills in the newest opset's defaults, whatever the model's.
        if node.run_params["opsets"][node.domain] >= 16:
            return (RoiAlign(*inputs, **attributes),)
        del attributes["coordinate_transformation_mode"]
        return (RoiAlign_10(*inputs, **attributes),)

    def pool(node: Any, *inputs: Any, **attributes: Any) -> tuple[Any]:
        return (MaxRoiPool(*inputs, **attributes),)

    # The evaluator finds an operator by the name of its class.
    methods = {"RoiAlign": align, "MaxRoiPool": pool}
    return [type(name, (OpRun,), {"op_domain": "", "_run": run}) for name, run in methods.items()]
