"""Feature pyramids of torch tensors: one call of the array level, or composed of operators.

Eager calls go to the array level as a whole, forth and back.  Where it cannot follow, under
`torch.compile`, `torch.func`, forward mode and for second derivatives, a pyramid is composed: every
map pools all boxes, those of other maps from no image.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from . import _checks
from ._docstrings import like
from ._torch_call import box_tensors, tensor
from ._torch_crops import crop_pool
from ._torch_functions import Boxes, Pair, prroi_pool, roi_align, roi_pool, roi_warp
from ._torch_ops import OPS
from .pyramid_pool import combined, images_by_level, scales_of
from .pyramid_pool import pyramid_pool as pooled
from .pyramid_pool import pyramid_pool_backward as pooled_backward

OPERATORS = (crop_pool, prroi_pool, roi_align, roi_pool, roi_warp)


@like("pyramid_pool")
def pyramid_pool(
    op: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    boxes: Boxes,
    output_size: Pair,
    *,
    spatial_scales: Sequence[float | tuple[float, float]],
    levels: torch.Tensor | None = None,
    reduce_levels: str = "assigned",
    **options: Any,
) -> Any:
    """Pool boxes from the maps of a feature pyramid, in the order of the boxes.

    `roi_numba.pyramid_pool` on torch tensors, with gradients to all maps and to boxes of floats,
    of every kind that `op` has; the assignment to levels has none.

    Parameters
    ----------
    op : function
        The operator, one of `roi_numba.torch`: `roi_align`, `roi_pool`, ….
    inputs : sequence of Tensors, shape (N, C, H_l, W_l)
        The maps, from fine to coarse: of one dtype, and of any sizes.
    boxes : Tensor, shape (K, 5), or list of N Tensors, shape (L, 4), or Tensor, shape (K, 4)
        The boxes, in any form that `op` takes; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scales : sequence of float or (float, float)
        Feature pixels per image pixel for each map, (along y, along x) where they differ.
    levels : Tensor of int, shape (K,), optional
        The number in `inputs` of the map that each box is pooled from.  By default that of Lin et
        al., for maps whose strides double.
    reduce_levels : {"assigned", "sum", "mean", "max", "concat"}, default "assigned"
        From one map each, or from all maps, and what to make of their results; of equal maxima
        the first map's has the gradient.
    **options
        What else `op` takes: ``sampling_ratio``, ``reduce``, ``batch_indices``, ….

    Returns
    -------
    output : Tensor, shape (K, C, pooled_height, pooled_width)
        In the dtype of the maps (float32 for integers and bool); with "concat" there are as many
        channels as all maps have.
    argmax : Tensor of int64, same shape, only with ``return_argmax=True``
        As `op` returns it, of the map that a box was pooled from.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box; scales from which no
        level follows, if `levels` is not given.
    TypeError
        A tensor of the wrong kind, dtype or device, or something that is no operator.
    IndexError
        A batch index outside [0, N), or a level that is no map's.
    NotImplementedError
        A second derivative with respect to the boxes, or forward mode inside `torch.compile`.

    See Also
    --------
    roi_numba.pyramid_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import torch
    >>> import roi_numba.torch
    >>> maps = [torch.ones(1, 1, 256 // s, 256 // s, requires_grad=True) for s in (4, 8, 16, 32)]
    >>> boxes = torch.tensor([[0, 0.0, 0, 224, 224], [0, 9, 9, 60, 50]])
    >>> pooled = roi_numba.torch.pyramid_pool(
    ...     roi_numba.torch.roi_align, maps, boxes, 2, spatial_scales=[1 / 4, 1 / 8, 1 / 16, 1 / 32]
    ... )
    >>> pooled.sum().backward()
    >>> [round(features.grad.sum().item(), 4) for features in maps]
    [4.0, 0.0, 4.0, 0.0]
    """
    if op not in OPERATORS:
        raise TypeError(f"op must be an operator of roi_numba.torch, got {op!r}")
    scales = scales_of(inputs, spatial_scales, levels, reduce_levels)
    for i, features in enumerate(inputs):
        if not isinstance(features, torch.Tensor):
            raise TypeError(f"inputs[{i}] must be a torch tensor, got {type(features).__name__}")
    boxes, numbers = box_tensors(boxes, options.pop("batch_indices", None), inputs[0])
    if levels is not None:
        levels = tensor("levels", levels, inputs[0].device)
    axis = _checks.channel_axis(options.get("channel_axis", 1))
    asked = _checks.flag("return_argmax", options.pop("return_argmax", False))
    call = Call(op, output_size, scales, axis, options, {"return_argmax": True} if asked else {})
    if reduce_levels != "assigned":
        if asked:
            raise ValueError(
                f'return_argmax must not be given with reduce_levels="{reduce_levels}"'
            )
        _checks.alike(list(inputs), axis)
        parts = [call.of_map(i, features, boxes, numbers) for i, features in enumerate(inputs)]
        return combined(torch, parts, reduce_levels, axis)
    if torch.compiler.is_compiling() or followed():
        return call.composed(inputs, boxes, numbers, levels)
    known = inspect.signature(op).parameters
    if not options.keys() <= known.keys():  # the array level has `out` besides
        raise TypeError(f"{op.__name__} has no option {min(options.keys() - known.keys())}")
    if (
        "return_argmax" in known
        and ("reduce" not in known or options.get("reduce", known["reduce"].default) != "mean")
        and torch.is_grad_enabled()
        and any([boxes.requires_grad, *(features.requires_grad for features in inputs)])
    ):  # naming the winners takes less time than finding them again in backward
        call = call._replace(named={"return_argmax": True})
    result = Assigned.apply(call, boxes, numbers, levels, *inputs)
    return result[0] if call.named and not asked else result


def followed() -> bool:
    """Whether torch.func or forward mode looks at what is computed."""
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


class Call(NamedTuple):
    """What is not a tensor of a call; `named`: the option that asks for winners, if they are."""

    op: Any
    output_size: Any
    scales: list[tuple[float, float]]
    channel_axis: int
    options: dict[str, Any]
    named: dict[str, Any]

    def of_map(self, level: int, features: Any, boxes: Any, numbers: Any, **changed: Any) -> Any:
        """All boxes from one map."""
        y, x = self.scales[level]
        if y != x:
            wide = boxes.dtype == torch.float64 or not boxes.is_floating_point()
            columns = list(boxes.to(torch.float64 if wide else torch.float32).unbind(1))
            columns[-4:] = [z * s for z, s in zip(columns[-4:], (x, y, x, y), strict=True)]
            boxes, x = torch.stack(columns, 1), 1.0
        options = {**self.options, **self.named, **changed}
        return self.op(features, boxes, self.output_size, x, batch_indices=numbers, **options)

    def composed(self, inputs: Any, boxes: Any, numbers: Any, levels: Any) -> Any:
        """Each box from its own map, by operators that can be followed."""
        _checks.alike(list(inputs), self.channel_axis)
        boxes = boxes.to(inputs[0].device)
        y_scales, x_scales = zip(*self.scales, strict=True)
        images = torch.ops.roi_numba.images_by_level(
            boxes.detach(), numbers, levels, y_scales, x_scales, inputs[0].shape[0],
            self.options.get("check_boxes"),
        )  # fmt: skip
        results: list[Any] = []
        for level, features in enumerate(inputs):
            here = images[level]
            parts = self.of_map(level, features, boxes[:, -4:], here, check_boxes=False)
            parts = list(parts) if self.named else [parts]
            there = (here >= 0)[:, None, None, None]
            pairs = zip(parts, results, strict=True)
            results = [torch.where(there, *pair) for pair in pairs] if level else parts
        return tuple(results) if self.named else results[0]


class Assigned(torch.autograd.Function):  # type: ignore[misc]
    """Each box from its own map by one call of the array level, and by one call back."""

    @staticmethod
    def forward(ctx: Any, call: Call, boxes: Any, numbers: Any, levels: Any, *inputs: Any) -> Any:
        """Pool, and keep what the way back will need: for that of a mean to the maps, no map."""
        # Memory of a tensor that requires grad is not lent.
        maps = [features.detach() for features in inputs]
        result = pooled(
            on_arrays(call), maps, boxes.detach(), call.output_size, batch_indices=numbers,
            levels=levels, spatial_scales=call.scales, **call.options, **call.named,
        )  # fmt: skip
        argmax = None
        if call.named:
            argmax = result[1]
            ctx.mark_non_differentiable(argmax)
        ctx.set_materialize_grads(False)
        ctx.call = call
        if argmax is None and not ctx.needs_input_grad[1]:
            inputs = tuple(
                features.new_zeros(()).expand(features.shape).requires_grad_(needed)
                for features, needed in zip(maps, ctx.needs_input_grad[4:], strict=True)
            )
        ctx.save_for_backward(boxes, numbers, levels, argmax, *inputs)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any, *_: Any) -> tuple[Any, ...]:
        """All gradients that are wanted."""
        needed = ctx.needs_input_grad
        if grad is None:
            return (None,) * len(needed)
        call, again = ctx.call, torch.is_grad_enabled()
        boxes, numbers, levels, argmax, *inputs = ctx.saved_tensors
        if again or followed() or torch._C._functorch.is_legacy_batchedtensor(grad):
            with torch.enable_grad():
                output = call.composed(inputs, boxes, numbers, levels)
            leaves = [None, boxes, None, None, *inputs]
            wanted = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            output = output[0] if call.named else output
            found = iter(torch.autograd.grad(output, wanted, grad, create_graph=again))
            return tuple(next(found) if need else None for need in needed)
        names = {"argmax": argmax} if call.named else {}
        to_maps, to_boxes = pooled_backward(
            on_arrays(call), grad, [features.detach() for features in inputs], boxes.detach(),
            batch_indices=numbers, levels=levels, spatial_scales=call.scales,
            needs=("input",) * any(needed[4:]) + ("boxes",) * needed[1], **call.options, **names,
        )  # fmt: skip
        gradients = to_maps or [None] * len(inputs)
        return None, to_boxes, None, None, *gradients


def on_arrays(call: Call) -> Any:
    """The operator of the array level."""
    name = call.op.__name__
    return getattr(OPS[name, ""].module, name)


def _images_by_level(
    boxes: Any,
    numbers: Any,
    levels: Any,
    y_scales: Any,
    x_scales: Any,
    n_images: int,
    check: bool | None,
) -> Any:
    scales = list(zip(y_scales, x_scales, strict=True))
    return images_by_level(boxes, numbers, levels, scales, n_images, check)


def _shape_of_images(boxes: Any, numbers: Any, levels: Any, scales: Any, *_: Any) -> Any:
    return boxes.new_empty((len(scales), boxes.shape[0]), dtype=torch.int64)


def _many_images(info: Any, in_dims: Any, *args: Any) -> tuple[Any, int]:
    """The boxes of many calls as those of one: nothing is said of a box that others change."""
    merged = []
    for each, dim in zip(args[:3], in_dims, strict=False):
        if each is not None:
            each = (
                each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            )
            each = each.flatten(0, 1)
        merged.append(each)
    images = torch.ops.roi_numba.images_by_level(*merged, *args[3:])
    return images.unflatten(1, (info.batch_size, -1)), 1


_images = torch.library.custom_op(
    "roi_numba::images_by_level",
    _images_by_level,
    mutates_args=(),
    schema="(Tensor boxes, Tensor? batch_indices, Tensor? levels, float[] y_scales, "
    "float[] x_scales, SymInt images, bool? check_boxes) -> Tensor",
)
_images.register_fake(_shape_of_images)
_images.register_vmap(_many_images)
