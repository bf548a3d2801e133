"""`onnx`: the operators RoiAlign and MaxRoiPool, and classes of them for `onnx.reference`.

Attributes are keyword arguments. `RoiAlign` is that of opsets 16 and 22, `RoiAlign_10` that of
opset 10, which knows no half pixel. After `from roi_numba.compat import onnx as roi_onnx`,
`ReferenceEvaluator(model, new_ops=roi_onnx.new_ops())` runs a model with our kernels, in the opset
it asks for: the evaluator's own RoiAlign takes the default of opset 16 for that of opset 10, and it
has no MaxRoiPool.
"""

from typing import Any

from .. import _checks
from .._docstrings import like
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


@like("roi_align")
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
    """RoiAlign of opsets 16 and 22: the mean or a maximum of bilinear samples in each bin.

    Parameters
    ----------
    X : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(x1, y1, x2, y2)``, in image pixels.
    batch_indices : array of int, shape (K,)
        The image of each box.
    coordinate_transformation_mode : {"half_pixel", "output_half_pixel"}, default "half_pixel"
        Whether half a feature pixel is subtracted after scaling: ``aligned=True``, or False.
    mode : {"avg", "max"}, default "avg"
        The mean of the samples of a bin, or the largest of their weighted corners.
    output_height : int, default 1
        Bins per box along y.
    output_width : int, default 1
        Bins per box along x.
    sampling_ratio : int, default 0
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.

    Returns
    -------
    Y : array, shape (K, C, output_height, output_width)
        In the library and dtype of `X`, float32 for integers and bool.

    Notes
    -----
    ``mode="max"`` is ``reduce="max_corner"`` of `roi_numba.roi_align`.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import onnx as roi_onnx
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> roi_onnx.RoiAlign(ramp, box, image, output_height=2, output_width=2)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
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


@like("roi_align")
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
    """RoiAlign of opset 10, which knows no half pixel.

    Parameters
    ----------
    X : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 4)
        Rows ``(x1, y1, x2, y2)``, in image pixels.
    batch_indices : array of int, shape (K,)
        The image of each box.
    mode : {"avg", "max"}, default "avg"
        The mean of the samples of a bin, or the largest of their weighted corners.
    output_height : int, default 1
        Bins per box along y.
    output_width : int, default 1
        Bins per box along x.
    sampling_ratio : int, default 0
        Samples per bin and axis; zero or less: as many as the bin has feature pixels, rounded up.

    Returns
    -------
    Y : array, shape (K, C, output_height, output_width)
        In the library and dtype of `X`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_align` with ``aligned=False``; ``mode="max"`` is its ``reduce="max_corner"``.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import onnx as roi_onnx
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box, image = np.array([[1.0, 1, 4, 4]]), np.array([0])
    >>> roi_onnx.RoiAlign_10(ramp, box, image, output_height=2, output_width=2)
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """
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


@like("roi_pool")
def MaxRoiPool(
    X: Any, rois: Any, *, pooled_shape: tuple[int, int], spatial_scale: float = 1.0
) -> Any:
    """MaxRoiPool of opsets 1 and 22: the largest cell of each bin.

    Parameters
    ----------
    X : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    rois : array, shape (K, 5)
        Rows ``(batch_index, x1, y1, x2, y2)``, in image pixels.
    pooled_shape : (int, int)
        Bins per box, (pooled_height, pooled_width).

    Returns
    -------
    Y : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of `X`, float32 for integers and bool.

    Notes
    -----
    `roi_numba.roi_pool` with ``bins="float"``, which for some sizes reads a cell more.

    Examples
    --------
    >>> import numpy as np
    >>> from roi_numba.compat import onnx as roi_onnx
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_onnx.MaxRoiPool(ramp, np.array([[0, 1.0, 1, 4, 4]]), pooled_shape=(2, 2))
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return operators(X).roi_pool(X, rois, pooled_shape, spatial_scale, bins="float")


def new_ops() -> list[type]:
    """Make operator classes for ``onnx.reference.ReferenceEvaluator(model, new_ops=new_ops())``.

    Returns
    -------
    classes : list of type
        RoiAlign and MaxRoiPool, of ``onnx.reference.op_run.OpRun``.

    Raises
    ------
    ImportError
        If onnx is not installed.

    See Also
    --------
    RoiAlign, RoiAlign_10, MaxRoiPool

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> from onnx.reference import ReferenceEvaluator
    >>> from roi_numba.compat import onnx as roi_onnx
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["": 16]>
    ...     head (float[1, 1, 6, 6] X, float[K, 4] rois, int64[K] image) => (float[K, 1, 2, 2] Y)
    ...     { Y = RoiAlign <output_height = 2, output_width = 2> (X, rois, image) }
    ... ''')
    >>> evaluator = ReferenceEvaluator(model, new_ops=roi_onnx.new_ops())
    >>> ramp = np.add.outer(10 * np.arange(6), np.arange(6))[None, None].astype(np.float32)
    >>> box = np.array([[1, 1, 4, 4]], np.float32)
    >>> evaluator.run(None, {"X": ramp, "rois": box, "image": np.array([0])})[0]
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]], dtype=float32)
    """
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
