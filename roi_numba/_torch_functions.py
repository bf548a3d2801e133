"""The operators as functions of torch tensors."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from ._checks import choice, flag, int_pair
from ._docstrings import like
from ._torch_call import pool

Boxes: TypeAlias = torch.Tensor | Sequence[Any]
Pair: TypeAlias = int | tuple[int, int]


@like("roi_align")
def roi_align(
    input: torch.Tensor,
    boxes: Boxes,
    output_size: Pair,
    spatial_scale: float = 1.0,
    sampling_ratio: Pair = -1,
    aligned: bool = False,
    *,
    reduce: str = "mean",
    return_argmax: bool = False,
    batch_indices: torch.Tensor | None = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Pool each box to a fixed size from bilinear samples on a regular grid in each bin.

    `roi_numba.roi_align` on torch tensors, with gradients to `input` and to boxes of floats.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one tensor per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), default -1
        Samples per bin and axis, (height, width); zero or less: as many as the bin has feature
        pixels, rounded up.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    reduce : {"mean", "max", "max_corner"}, default "mean"
        What to make of the samples of a bin.
    return_argmax : bool, default False
        Also return which sample won (max reductions only).
    batch_indices : Tensor of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where `input` and the result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes.  If False, they give zeros and have no gradient.  Default: True for
        feature maps in host memory.

    Returns
    -------
    output : Tensor, shape (K, C, pooled_height, pooled_width)
        In the dtype of `input` (float32 for integers and bool).
    argmax : Tensor of int64, same shape, only if `return_argmax`
        The winners, as `roi_numba.roi_align` names them.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        A tensor of the wrong kind, dtype or device.
    IndexError
        A batch index outside [0, N).
    NotImplementedError
        A second derivative with respect to the boxes, or forward mode inside `torch.compile`.

    See Also
    --------
    roi_numba.roi_align : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, None]
    >>> box = torch.tensor([[0, 1.0, 1, 4, 4]], requires_grad=True)
    >>> roi_numba.torch.roi_align(ramp, box, 1, sampling_ratio=2, aligned=True).sum().backward()
    >>> box.grad
    tensor([[0.0000, 0.5000, 5.0000, 0.5000, 5.0000]])
    """
    return pool(
        "roi_align", input, boxes, output_size, spatial_scale,
        int_pair("sampling_ratio", sampling_ratio), flag("aligned", aligned),
        reduce=choice("reduce", reduce, ("mean", "max", "max_corner")),
        return_argmax=return_argmax, batch_indices=batch_indices, channel_axis=channel_axis,
        check_boxes=check_boxes,
    )  # fmt: skip


@like("roi_pool")
def roi_pool(
    input: torch.Tensor,
    boxes: Boxes,
    output_size: Pair,
    spatial_scale: float = 1.0,
    *,
    reduce: str = "max",
    rounding: str = "half_away",
    bins: str = "exact",
    return_argmax: bool = False,
    batch_indices: torch.Tensor | None = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Pool each box to a fixed size over whole cells of the map.

    `roi_numba.roi_pool` on torch tensors, with a gradient to `input`; that to the boxes is zero.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one tensor per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    reduce : {"max", "mean"}, default "max"
        What to make of the cells of a bin.
    rounding : {"half_away", "truncate", "none"}, default "half_away"
        How corners become cells.
    bins : {"exact", "float", "truncate"}, default "exact"
        How cells are divided among bins; "float" as torchvision does.
    return_argmax : bool, default False
        Also return which cell won (`reduce="max"` only).
    batch_indices : Tensor of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where `input` and the result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes.  If False, they give zeros and have no gradient.  Default: True for
        feature maps in host memory.

    Returns
    -------
    output : Tensor, shape (K, C, pooled_height, pooled_width)
        In the dtype of `input` (float32 for integers and bool).
    argmax : Tensor of int64, same shape, only if `return_argmax`
        The winners, as `roi_numba.roi_pool` names them.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        A tensor of the wrong kind, dtype or device.
    IndexError
        A batch index outside [0, N).
    NotImplementedError
        A second derivative with respect to the boxes, or forward mode inside `torch.compile`.

    See Also
    --------
    roi_numba.roi_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, None].requires_grad_()
    >>> box = torch.tensor([[0, 1.0, 1, 4, 4]])
    >>> roi_numba.torch.roi_pool(ramp, box, 2).sum().backward()
    >>> ramp.grad.nonzero()[:, 2:].tolist()
    [[2, 2], [2, 4], [4, 2], [4, 4]]
    """
    return pool(
        "roi_pool", input, boxes, output_size, spatial_scale,
        choice("rounding", rounding, ("half_away", "truncate", "none")),
        choice("bins", bins, ("exact", "float", "truncate")),
        reduce=choice("reduce", reduce, ("max", "mean")),
        return_argmax=return_argmax, batch_indices=batch_indices, channel_axis=channel_axis,
        check_boxes=check_boxes,
    )  # fmt: skip


@like("roi_warp")
def roi_warp(
    input: torch.Tensor,
    boxes: Boxes,
    output_size: Pair,
    spatial_scale: float = 1.0,
    sampling_ratio: Pair = 1,
    *,
    reduce: str = "max",
    quantize: bool = True,
    return_argmax: bool = False,
    batch_indices: torch.Tensor | None = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Warp each box to a fixed size by bilinear samples, then reduce groups of samples.

    `roi_numba.roi_warp` on torch tensors, with gradients to `input` and to boxes of floats; the
    latter goes straight through the rounding.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one tensor per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), default 1
        Samples per bin and axis, (height, width).
    reduce : {"max", "mean"}, default "max"
        What to make of the samples of a bin.
    quantize : bool, default True
        Round the corners, as MNC's code does.
    return_argmax : bool, default False
        Also return which sample won (`reduce="max"` only).
    batch_indices : Tensor of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where `input` and the result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes.  If False, they give zeros and have no gradient.  Default: True for
        feature maps in host memory.

    Returns
    -------
    output : Tensor, shape (K, C, pooled_height, pooled_width)
        In the dtype of `input` (float32 for integers and bool).
    argmax : Tensor of int64, same shape, only if `return_argmax`
        The winners, as `roi_numba.roi_warp` names them.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        A tensor of the wrong kind, dtype or device.
    IndexError
        A batch index outside [0, N).
    NotImplementedError
        A second derivative with respect to the boxes, or forward mode inside `torch.compile`.

    See Also
    --------
    roi_numba.roi_warp : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, None]
    >>> box = torch.tensor([[0, 1.0, 1, 4, 4]], requires_grad=True)
    >>> roi_numba.torch.roi_warp(ramp, box, 2).sum().backward()
    >>> box.grad
    tensor([[ 0.,  3., 30.,  1., 10.]])
    """
    return pool(
        "roi_warp", input, boxes, output_size, spatial_scale,
        int_pair("sampling_ratio", sampling_ratio, minimum=1), flag("quantize", quantize),
        reduce=choice("reduce", reduce, ("max", "mean")),
        return_argmax=return_argmax, batch_indices=batch_indices, channel_axis=channel_axis,
        check_boxes=check_boxes,
    )  # fmt: skip


@like("prroi_pool")
def prroi_pool(
    input: torch.Tensor,
    boxes: Boxes,
    output_size: Pair,
    spatial_scale: float = 1.0,
    *,
    aligned: bool = False,
    batch_indices: torch.Tensor | None = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> torch.Tensor:
    """Pool each box to a fixed size by the exact mean of the interpolated map over each bin.

    `roi_numba.prroi_pool` on torch tensors, with gradients to `input` and to boxes of floats.

    Parameters
    ----------
    input : Tensor, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one tensor per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    batch_indices : Tensor of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where `input` and the result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes.  If False, they give zeros and have no gradient.  Default: True for
        feature maps in host memory.

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
    NotImplementedError
        A second derivative with respect to the boxes, or forward mode inside `torch.compile`.

    See Also
    --------
    roi_numba.prroi_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, None]
    >>> box = torch.tensor([[0, 1.0, 1, 4, 4]], requires_grad=True)
    >>> roi_numba.torch.prroi_pool(ramp, box, 2).sum().backward()
    >>> box.grad.round(decimals=4)
    tensor([[ 0.,  2., 20.,  2., 20.]])
    """
    return pool(
        "prroi_pool", input, boxes, output_size, spatial_scale, flag("aligned", aligned),
        reduce="mean", batch_indices=batch_indices, channel_axis=channel_axis,
        check_boxes=check_boxes,
    )  # fmt: skip
