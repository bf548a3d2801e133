"""The operators on torch tensors: with autograd, `torch.compile`, `torch.export`, and as modules.

The functions have the names and options of those of `roi_numba`, but for ``out``.  A result is
differentiable with respect to the feature maps and to boxes of floats, by reverse and forward mode;
its gradients are again, except a second time with respect to the boxes.  Sums are added in a fixed
order: all results have the same bits at every run.

Under autocast an operator computes in the dtype that its input comes in, and adds up 16-bit floats
in float32; boxes may stay in float32.
"""

from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("roi_numba.torch needs PyTorch: pip install 'roi_numba[torch]'") from error

from inspect import Parameter, signature

from ._docstrings import like
from ._torch_crops import crop_and_resize, crop_pool
from ._torch_functions import Boxes, Pair, prroi_pool, roi_align, roi_pool, roi_warp
from ._torch_pyramid import pyramid_pool

__all__ = [
    "CropPool",
    "PrRoIPool",
    "RoIAlign",
    "RoIPool",
    "RoIWarp",
    "crop_and_resize",
    "crop_pool",
    "prroi_pool",
    "pyramid_pool",
    "roi_align",
    "roi_pool",
    "roi_warp",
]


class _Pooling(torch.nn.Module):  # type: ignore[misc]
    """A module that keeps a function's options as attributes."""

    function: Any

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def forward(
        self, input: torch.Tensor, rois: Boxes, batch_indices: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Pool boxes from feature maps, with the gradients that the function has.

        Parameters
        ----------
        input : Tensor, shape (N, C, H, W)
            Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
        rois : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
            Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one tensor per
            image or with `batch_indices`; in image pixels.
        batch_indices : Tensor of int, shape (K,), optional
            The image of each box, for boxes of shape (K, 4).

        Returns
        -------
        output : Tensor, shape (K, C, pooled_height, pooled_width)
            In the dtype of `input` (float32 for integers and bool).

        Raises
        ------
        ValueError
            A shape, value or option that makes no sense, or a non-finite box.
        TypeError
            A tensor of the wrong kind, dtype or device.
        IndexError
            A batch index outside [0, N).
        """
        options = {name: getattr(self, name) for name in self._options}
        return self.function(input, rois, batch_indices=batch_indices, **options)

    def extra_repr(self) -> str:
        """As torchvision's modules print themselves, and what else is not at its default."""
        shown = [
            parameter.name
            for parameter in signature(type(self)).parameters.values()
            if parameter.kind is not Parameter.KEYWORD_ONLY
            or getattr(self, parameter.name) != parameter.default
        ]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


@like("roi_align")
class RoIAlign(_Pooling):
    """`roi_align` as a module, in the place of ``torchvision.ops.RoIAlign``.

    Parameters
    ----------
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int)
        Samples per bin and axis, (height, width); zero or less: adaptive.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    reduce : {"mean", "max", "max_corner"}, default "mean"
        What to make of the samples of a bin.
    channel_axis : {1, -1}, default 1
        Where input and result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes; if False, they give zeros.  Default: True in host memory.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> pool = roi_numba.torch.RoIAlign(7, spatial_scale=1 / 16, sampling_ratio=2)
    >>> pool
    RoIAlign(output_size=7, spatial_scale=0.0625, sampling_ratio=2, aligned=False)
    >>> pool(torch.ones(1, 3, 50, 84), [torch.tensor([[32.0, 48.0, 411.5, 300.0]])]).shape
    torch.Size([1, 3, 7, 7])
    """

    function = staticmethod(roi_align)

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        sampling_ratio: Pair,
        aligned: bool = False,
        *,
        reduce: str = "mean",
        channel_axis: int = 1,
        check_boxes: bool | None = None,
    ) -> None:
        super().__init__(
            output_size=output_size,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            reduce=reduce,
            channel_axis=channel_axis,
            check_boxes=check_boxes,
        )


@like("roi_pool")
class RoIPool(_Pooling):
    """`roi_pool` as a module, in the place of ``torchvision.ops.RoIPool``.

    Parameters
    ----------
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    reduce : {"max", "mean"}, default "max"
        What to make of the cells of a bin.
    rounding : {"half_away", "truncate", "none"}, default "half_away"
        How corners become cells.
    bins : {"exact", "float", "truncate"}, default "exact"
        How cells are divided among bins; "float" as torchvision does.
    channel_axis : {1, -1}, default 1
        Where input and result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes; if False, they give zeros.  Default: True in host memory.

    Examples
    --------
    >>> import roi_numba.torch
    >>> roi_numba.torch.RoIPool((7, 7), 0.25, bins="float")
    RoIPool(output_size=(7, 7), spatial_scale=0.25, bins='float')
    """

    function = staticmethod(roi_pool)

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        *,
        reduce: str = "max",
        rounding: str = "half_away",
        bins: str = "exact",
        channel_axis: int = 1,
        check_boxes: bool | None = None,
    ) -> None:
        super().__init__(
            output_size=output_size,
            spatial_scale=spatial_scale,
            reduce=reduce,
            rounding=rounding,
            bins=bins,
            channel_axis=channel_axis,
            check_boxes=check_boxes,
        )


@like("roi_warp")
class RoIWarp(_Pooling):
    """`roi_warp` as a module.

    Parameters
    ----------
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), default 1
        Samples per bin and axis, (height, width).
    reduce : {"max", "mean"}, default "max"
        What to make of the samples of a bin.
    quantize : bool, default True
        Round the corners, as MNC's code does.
    channel_axis : {1, -1}, default 1
        Where input and result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes; if False, they give zeros.  Default: True in host memory.

    Examples
    --------
    >>> import roi_numba.torch
    >>> roi_numba.torch.RoIWarp(14, 1 / 16, 2)
    RoIWarp(output_size=14, spatial_scale=0.0625, sampling_ratio=2)
    """

    function = staticmethod(roi_warp)

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        sampling_ratio: Pair = 1,
        *,
        reduce: str = "max",
        quantize: bool = True,
        channel_axis: int = 1,
        check_boxes: bool | None = None,
    ) -> None:
        super().__init__(
            output_size=output_size,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            reduce=reduce,
            quantize=quantize,
            channel_axis=channel_axis,
            check_boxes=check_boxes,
        )


@like("crop_pool")
class CropPool(_Pooling):
    """`crop_pool` as a module.

    Parameters
    ----------
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    border : {"zeros", "cut"}, default "zeros"
        Whether zeros surround the map, or samples beyond its outermost pixel centres are 0.
    channel_axis : {1, -1}, default 1
        Where input and result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes; if False, they give zeros.  Default: True in host memory.

    Examples
    --------
    >>> import roi_numba.torch
    >>> roi_numba.torch.CropPool(7, 1 / 16, border="cut")
    CropPool(output_size=7, spatial_scale=0.0625, border='cut')
    """

    function = staticmethod(crop_pool)

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        *,
        border: str = "zeros",
        channel_axis: int = 1,
        check_boxes: bool | None = None,
    ) -> None:
        super().__init__(
            output_size=output_size,
            spatial_scale=spatial_scale,
            border=border,
            channel_axis=channel_axis,
            check_boxes=check_boxes,
        )


@like("prroi_pool")
class PrRoIPool(_Pooling):
    """`prroi_pool` as a module.

    Parameters
    ----------
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    channel_axis : {1, -1}, default 1
        Where input and result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes; if False, they give zeros.  Default: True in host memory.

    Examples
    --------
    >>> import roi_numba.torch
    >>> roi_numba.torch.PrRoIPool(7, 0.25)
    PrRoIPool(output_size=7, spatial_scale=0.25)
    """

    function = staticmethod(prroi_pool)

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        *,
        aligned: bool = False,
        channel_axis: int = 1,
        check_boxes: bool | None = None,
    ) -> None:
        super().__init__(
            output_size=output_size,
            spatial_scale=spatial_scale,
            aligned=aligned,
            channel_axis=channel_axis,
            check_boxes=check_boxes,
        )
