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

from . import _arrays, _checks
from ._memory import memory_of
from ._op import Array, Boxes, Call, Rule, enter, first_map, flag, int_pair

Options = tuple[tuple[Any, ...], tuple[Any, ...]]


def silence() -> np.errstate:
    """No warning of sums that overflow or are of infinities: those are the caller's."""
    return np.errstate(over="ignore", invalid="ignore")


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
    deterministic: Any = True,
) -> tuple[Any, Any]:
    """Return the gradients to `input` and to `boxes`, each None unless `needs` names it.

    That to a pyramid is a list.
    """
    needs_input, needs_boxes = _checks.needed(needs)
    deterministic = flag("deterministic", deterministic)
    with memory_of("input", first_map(input)) as memory, silence():
        call = enter(
            memory, options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes
        )
        grad = call.bins_like_output("grad_output", grad_output, input)
        if reduce == "mean":
            if argmax is not None:
                raise ValueError('argmax must be None with reduce="mean", got an array')
            names = None
        else:
            names = call.names(rule, reduce, argmax, input, grad.shape)
        to_maps, corners, grad_boxes = [], None, None
        manner = memory.manner(deterministic)
        for part in call.level_by_level():
            empty = not (grad.size and part.features.size)
            if needs_input:
                if empty:
                    to_map = memory.zeros(part.features.shape, grad.dtype)
                elif names is None:
                    to_map = part.to_map_of_mean(rule, grad, manner)
                else:
                    to_map = memory.gradients.at_winners(
                        *part.at_winners(rule, reduce, names), grad=grad, **manner
                    )
                to_maps.append(call.leave(_arrays.rounded(to_map, grad.dtype)))
            if needs_boxes and not empty and rule.slope is not None:
                if names is None:
                    moved = part.to_boxes_of_mean(rule, grad)
                else:
                    moved = memory.gradients.at_winners(
                        *part.at_winners(rule, reduce, names), grad=grad, boxes=True, **manner
                    )
                # A box is on one map: of the others it has zeros.
                corners = moved if corners is None else corners + moved
        if needs_boxes:
            grad_boxes = as_boxes(call, corners, boxes)
        if not needs_input:
            return None, grad_boxes
        return (to_maps[0] if call.levels is None else to_maps), grad_boxes


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
    with memory_of("input", input) as memory, silence():
        call = enter(
            memory, options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes
        )
        velocity = call.velocity(motion)
        dtype = _arrays.result_dtype(call.features.dtype)
        shape = call.output_shape(bins)
        if rule.slope is None or 0 in shape:
            output = memory.zeros(shape, dtype)
        elif reduce == "mean":
            parts = memory.empty((2, *shape), np.float64 if dtype == np.float64 else np.float32)
            for axis in range(2):
                call.pool(rule, reduce, parts[axis], None, (axis, velocity))
            output = _arrays.rounded(parts[0] + parts[1], dtype)
        else:
            output = memory.zeros(shape, dtype)
            names = call.names(rule, reduce, argmax, input, shape)
            memory.gradients.at_winners(
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
    with memory_of("input", input) as memory, silence():
        call = enter(
            memory, options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes
        )
        grad = call.bins_like_output("grad_output", grad_output, input)
        velocity = call.velocity(motion)
        shape = call.features.shape
        if not (grad.size and call.features.size) or rule.slope is None:
            total = memory.zeros(shape, grad.dtype)
        elif reduce == "mean":
            to_map = memory.gradients.to_map_of_mean
            arguments = grad, call.corners, call.images, shape, call.channel_axis
            parts = [to_map(rule, call.options, *arguments, (axis, velocity)) for axis in range(2)]
            total = _arrays.widened(parts[0]) + _arrays.widened(parts[1])
        else:
            names = call.names(rule, reduce, argmax, input, grad.shape)
            total = memory.gradients.at_winners(
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
    with memory_of("input", input) as memory:
        call = enter(
            memory, options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes
        )
        names = call.names(rule, reduce, argmax, input, None)
        output = memory.zeros(names.shape, _arrays.result_dtype(call.features.dtype))
        if output.size:
            memory.gradients.at_winners(*call.at_winners(rule, reduce, names), pooled=output)
        return call.leave(output)


def as_boxes(call: Call, corners: Any, boxes: Any) -> Any:
    """The gradient (K, 4) to the corners, None if it is zero, in form, library, dtype of `boxes`.

    Boxes of integers get float64, the dtype of their geometry.
    """
    several = isinstance(call.borrowed, list)
    gradients, first = [], 0
    for part, given in (
        zip(call.borrowed, boxes, strict=True) if several else [(call.borrowed, boxes)]
    ):
        dtype = part.dtype if part.dtype.kind in "fV" else np.dtype(np.float64)
        if corners is None:
            gradient = call.memory.zeros(part.shape, dtype)
        else:
            gradient = corners[first : first + len(part)] if several else corners
            first += len(part)
            if part.shape[1] > 4:
                rows = call.memory.zeros(part.shape, gradient.dtype)
                rows[:, -4:] = gradient
                gradient = rows
        gradients.append(call.memory.returned(given, _arrays.rounded(gradient, dtype)))
    return gradients if several else gradients[0]
