"""Crops as functions of torch tensors."""

from typing import Any

import torch
from torch.autograd import forward_ad

from ._checks import channel_axis as checked_axis
from ._checks import choice, flag, int_pair, number
from ._docstrings import like
from ._torch_call import pool, tensor
from ._torch_functions import Boxes, Pair
from .crop_and_resize import crop_and_resize as on_arrays
from .crop_and_resize import crop_and_resize_backward as on_arrays_backward

ONLY_BACKWARD = (
    "crop_and_resize has first derivatives in reverse mode alone: no second ones, none in forward "
    "mode, and it does not run under torch.func"
)


@like("crop_pool")
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

    See Also
    --------
    roi_numba.crop_pool : The same on other arrays, with all that there is to say.

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


@like("crop_and_resize")
def crop_and_resize(
    input: torch.Tensor,
    boxes: torch.Tensor,
    crop_size: Pair,
    *,
    box_indices: torch.Tensor,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    normalized: bool = True,
    edges: str = "exact",
    channel_axis: int = -1,
    check_boxes: bool | None = None,
) -> torch.Tensor:
    """Cut boxes out of images and resize them, by one sample for each pixel of a crop.

    `roi_numba.crop_and_resize` on torch tensors, with gradients to `input` and to boxes, also in
    `torch.compile`.  There are no second derivatives, no forward mode and no `torch.func`.

    Parameters
    ----------
    input : Tensor, shape (N, H, W, C)
        Images: integer, bool, float16, bfloat16, float32 or float64, with any strides.
    boxes : Tensor, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, where 0 is the centre of the first pixel and 1 that of the last
        one.
    crop_size : int or (int, int)
        Pixels of a crop, (crop_height, crop_width).
    box_indices : Tensor of int, shape (K,)
        The image of each box.
    method : {"bilinear", "nearest"}, default "bilinear"
        Interpolate between four pixels, or take the nearest one, which has no gradient to boxes.
    extrapolation_value : float, default 0.0
        What is off the image.
    normalized : bool, default True
        Boxes are relative to the image.  If False, they are in feature pixels.
    edges : {"exact", "tensorflow"}, default "exact"
        The last sample lies exactly on the end of the box; or where TensorFlow's arithmetic has it.
    channel_axis : {-1, 1}, default -1
        Where `input` and the result have their channels.
    check_boxes : bool, optional
        Raise on bad boxes.  If False, they give the extrapolation value.  Default: True for images
        in host memory.

    Returns
    -------
    crops : Tensor of float32, shape (K, crop_height, crop_width, C)
        Of every dtype they are float32.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        A tensor of the wrong kind, dtype or device.
    IndexError
        A box index outside [0, N).
    NotImplementedError
        A derivative that there is not.

    See Also
    --------
    roi_numba.crop_and_resize : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> ramp = torch.arange(6.0).add(10 * torch.arange(6.0)[:, None])[None, ..., None]
    >>> box = torch.tensor([[0.1, 0.1, 0.9, 0.7]], requires_grad=True)
    >>> crops = roi_numba.torch.crop_and_resize(ramp, box, 2, box_indices=torch.tensor([0]))
    >>> crops.sum().backward()
    >>> box.grad
    tensor([[100.,  10., 100.,  10.]])
    """
    if not isinstance(input, torch.Tensor):
        raise TypeError(f"input must be a torch tensor, got {type(input).__name__}")
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        raise NotImplementedError(ONLY_BACKWARD)
    crops: torch.Tensor = torch.ops.roi_numba.crop_and_resize(
        input,
        tensor("boxes", boxes, input.device),
        tensor("box_indices", box_indices, input.device),
        int_pair("crop_size", crop_size, minimum=1),
        number("extrapolation_value", extrapolation_value, "a number"),
        choice("method", method, ("bilinear", "nearest")),
        flag("normalized", normalized),
        choice("edges", edges, ("exact", "tensorflow")),
        checked_axis(channel_axis),
        None if check_boxes is None else flag("check_boxes", check_boxes),
    )
    return crops


def _options(
    box_indices: Any, method: str, normalized: bool, edges: str, axis: int, check: bool | None
) -> dict[str, Any]:
    """The arguments that both ways have."""
    return {
        "box_indices": box_indices,
        "method": method,
        "normalized": normalized,
        "edges": edges,
        "channel_axis": axis,
        "check_boxes": check,
    }


def _crop(input: Any, boxes: Any, box_indices: Any, size: Any, value: float, *settings: Any) -> Any:
    # Memory of a tensor that requires grad is not lent.
    return on_arrays(
        input.detach(), boxes.detach(), tuple(size), extrapolation_value=value,
        **_options(box_indices, *settings),
    )  # fmt: skip


def _crop_shape(input: Any, boxes: Any, _: Any, size: Any, *settings: Any) -> Any:
    if input.ndim != 4:
        raise ValueError(f"input must have shape (N, H, W, C), got {tuple(input.shape)}")
    axis = settings[-2]
    count, channels = boxes.shape[0], input.shape[axis]
    shape = (count, channels, *size) if axis == 1 else (count, *size, channels)
    return input.new_empty(shape, dtype=torch.float32)


def _gradient(
    grad: Any, input: Any, boxes: Any, box_indices: Any, needs: str, *settings: Any
) -> Any:
    gradients = on_arrays_backward(
        grad.detach(), input.detach(), boxes.detach(), needs=(needs,),
        **_options(box_indices, *settings),
    )  # fmt: skip
    return gradients[needs == "boxes"]


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    input, boxes, box_indices, _, _, *ctx.settings = inputs
    ctx.save_for_backward(input, boxes, box_indices)


def _back(ctx: Any, grad: Any) -> tuple[Any, ...]:
    saved, needed = ctx.saved_tensors, ctx.needs_input_grad
    return *(
        torch.ops.roi_numba.crop_and_resize_backward(grad, *saved, needs, *ctx.settings)
        if need
        else None
        for needs, need in zip(("input", "boxes"), needed, strict=False)
    ), *[None] * (len(needed) - 2)


def _no_way_back(ctx: Any, grad: Any) -> None:
    raise NotImplementedError(ONLY_BACKWARD)


_SETTINGS = "str method, bool normalized, str edges, int channel_axis, bool? check_boxes"
_crops = torch.library.custom_op(
    "roi_numba::crop_and_resize",
    _crop,
    mutates_args=(),
    schema="(Tensor input, Tensor boxes, Tensor box_indices, SymInt[2] crop_size, "
    f"float extrapolation_value, {_SETTINGS}) -> Tensor",
)
_crops.register_fake(_crop_shape)
_crops.register_autograd(_back, setup_context=_keep)
_gradients = torch.library.custom_op(
    "roi_numba::crop_and_resize_backward",
    _gradient,
    mutates_args=(),
    schema="(Tensor grad_output, Tensor input, Tensor boxes, Tensor box_indices, str needs, "
    f"{_SETTINGS}) -> Tensor",
)
_gradients.register_fake(
    lambda grad, input, boxes, box_indices, needs, *settings: (
        boxes.new_empty(boxes.shape) if needs == "boxes" else input.new_empty(input.shape)
    )
)
_gradients.register_autograd(_no_way_back)
