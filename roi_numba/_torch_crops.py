"""Crops as functions of torch tensors."""

from typing import Any

import torch

from ._checks import choice
from ._torch_call import pool
from ._torch_functions import Boxes, Pair


def crop_pool(
    input: torch.Tensor,
    boxes: Boxes,
    output_size: Pair,
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    return_argmax: bool = False,
    batch_indices: torch.Tensor | None = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Pool each box by a 2x2 maximum over bilinear samples laid from corner to corner.

    `roi_numba.crop_pool` on torch tensors, with gradients to `input` and to boxes of floats.

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
    border : {"zeros", "cut"}, default "zeros"
        Whether zeros surround the map, or samples beyond its outermost pixel centres are 0.
    return_argmax : bool, default False
        Also return which sample won.
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
        The winners, as `roi_numba.crop_pool` names them.

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

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, None]
    >>> box = torch.tensor([[0, 1.0, 1, 4, 4]], requires_grad=True)
    >>> roi_numba.torch.crop_pool(ramp, box, 2).sum().backward()
    >>> box.grad
    tensor([[ 0.0000,  1.3333, 13.3333,  2.6667, 26.6667]])
    """
    return pool(
        "crop_pool", input, boxes, output_size, spatial_scale,
        choice("border", border, ("zeros", "cut")), reduce="max",
        return_argmax=return_argmax, batch_indices=batch_indices, channel_axis=channel_axis,
        check_boxes=check_boxes,
    )  # fmt: skip
