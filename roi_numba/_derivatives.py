"""Derivatives of the operators: gradients to the map and the boxes, and the derivatives of those.

A mean is linear in the map, and so is its rate of change as the boxes move; a maximum is linear in
the map once its winners are named.  Hence four functions cover what autograd bindings need:

===============  ==================================================================================
`backward`       from the gradient of the result to those of map and boxes
`rate`           how the result changes as the boxes move
`rate_backward`  from the gradient of that to the one of the map
`at_argmax`      the values of named winners in another map
===============  ==================================================================================
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _checks
from ._op import Array, Boxes, Rule, enter, first_use, int_pair

Options = tuple[tuple[Any, ...], tuple[Any, ...]]


def backward(
    rule: Rule,
    options: Options,
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: Any,
    *,
    reduce: str,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    needs: Any,
    argmax: Any = None,
) -> tuple[Any, Any]:
    """Return the gradients to `input` and to `boxes`, each None unless `needs` names it."""
    needs_input, needs_boxes = _checks.needed(needs)
    call = enter(options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes)
    grad = call.bins_like_output("grad_output", grad_output, input)
    if reduce == "mean":
        if argmax is not None:
            raise ValueError('argmax must be None with reduce="mean", got an array')
        names = None
    else:
        names = call.names(rule, reduce, argmax, input, grad.shape)
    grad_input = grad_boxes = None
    shape = call.features.shape
    engine = _gradients()
    if needs_input:
        if not (grad.size and call.features.size):
            grad_input = np.zeros(shape, grad.dtype)
        elif names is None:
            grad_input = engine.to_map_of_mean(
                rule, call.options, grad, call.corners, call.images, shape, call.channel_axis
            )
        else:
            grad_input = engine.at_winners(*call.at_winners(rule, reduce, names), grad=grad)
        grad_input = call.leave(_arrays.rounded(grad_input, grad.dtype))
    if needs_boxes:
        if not (grad.size and call.features.size) or rule.slope is None:
            corners = np.zeros((len(call.corners), 4))
        elif names is None:
            corners = engine.to_boxes_of_mean(
                rule, call.options, grad, call.features, call.corners, call.images,
                call.channel_axis,
            )  # fmt: skip
        else:
            corners = engine.at_winners(
                *call.at_winners(rule, reduce, names), grad=grad, boxes=True
            )
        grad_boxes = _as_boxes(corners, boxes, call.borrowed)
    return grad_input, grad_boxes


def rate(
    rule: Rule,
    options: Options,
    input: Array,
    boxes: Boxes,
    motion: Array,
    output_size: Any,
    spatial_scale: Any,
    *,
    reduce: str,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    argmax: Any = None,
) -> Any:
    """How the result changes as each box's corners move by `motion` (K, 4)."""
    bins = int_pair("output_size", output_size, minimum=1)
    call = enter(options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes)
    velocity = call.velocity(motion)
    dtype = _arrays.result_dtype(call.features.dtype)
    output = np.zeros(call.output_shape(bins), dtype)
    if output.size and rule.slope is not None:
        if reduce == "mean":
            parts = np.empty((2, *output.shape), np.result_type(_arrays.widened(output[:0])))
            for axis in range(2):
                call.pool(rule, reduce, parts[axis], None, (axis, velocity))
            output = _arrays.rounded(parts[0] + parts[1], dtype)
        else:
            names = call.names(rule, reduce, argmax, input, output.shape)
            _gradients().at_winners(
                *call.at_winners(rule, reduce, names), pooled=output, motion=velocity
            )
    return call.leave(output)


def rate_backward(
    rule: Rule,
    options: Options,
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    motion: Array,
    spatial_scale: Any,
    *,
    reduce: str,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    argmax: Any = None,
) -> Any:
    """Return the gradient of `rate` to `input`."""
    call = enter(options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes)
    grad = call.bins_like_output("grad_output", grad_output, input)
    velocity = call.velocity(motion)
    shape = call.features.shape
    if not (grad.size and call.features.size) or rule.slope is None:
        total = np.zeros(shape, grad.dtype)
    elif reduce == "mean":
        arguments = rule, call.options, grad, call.corners, call.images, shape, call.channel_axis
        parts = [_gradients().to_map_of_mean(*arguments, (axis, velocity)) for axis in range(2)]
        total = _arrays.widened(parts[0]) + _arrays.widened(parts[1])
    else:
        names = call.names(rule, reduce, argmax, input, grad.shape)
        total = _gradients().at_winners(
            *call.at_winners(rule, reduce, names), grad=grad, motion=velocity
        )
    return call.leave(_arrays.rounded(total, grad.dtype))


def at_argmax(
    rule: Rule,
    options: Options,
    input: Array,
    boxes: Boxes,
    spatial_scale: Any,
    *,
    reduce: str,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    argmax: Array,
) -> Any:
    """Pool not the largest but what `argmax` names, 0 where it names nothing."""
    call = enter(options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes)
    names = call.names(rule, reduce, argmax, input, None)
    output = np.zeros(names.shape, _arrays.result_dtype(call.features.dtype))
    if output.size:
        _gradients().at_winners(*call.at_winners(rule, reduce, names), pooled=output)
    return call.leave(output)


def _gradients() -> Any:
    """The CPU engine's way back."""
    with first_use:
        from ._cpu import gradients
    return gradients


def _as_boxes(corners: NDArray[Any], boxes: Any, borrowed: Any) -> Any:
    """The gradient (K, 4) to the corners in the form, library and dtype of `boxes`.

    Boxes of integers get float64, the dtype of their geometry.
    """
    several = isinstance(borrowed, list)
    gradients, first = [], 0
    for part, given in zip(borrowed, boxes, strict=True) if several else [(borrowed, boxes)]:
        gradient = np.zeros(part.shape)
        gradient[:, -4:] = corners[first : first + len(part)]
        first += len(part)
        if isinstance(given, (list, tuple)):
            gradients.append(gradient)
            continue
        dtype = _arrays.host("boxes", given).dtype
        if dtype.kind in "fV":
            gradient = _arrays.rounded(gradient, dtype.newbyteorder("="))
        gradients.append(_arrays.handing_back(given)(gradient))
    return gradients if several else gradients[0]
