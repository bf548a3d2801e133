"""What crops do in place of `_op.forward` and `_derivatives.backward`.

Their boxes have y first and indices apart, a bin has one sample, and the result is float32.
"""

from typing import Any

import numpy as np

from . import _arrays, _checks
from ._derivatives import Options, as_boxes, silence
from ._memory import memory_of
from ._op import Array, Call, Rule, enter, flag, int_pair


def forward(
    rule: Rule,
    options: Options,
    input: Array,
    boxes: Any,
    crop_size: Any,
    *,
    box_indices: Any,
    extrapolation_value: Any,
    single: bool,
    channel_axis: Any,
    check_boxes: Any,
    out: Any,
) -> Any:
    """Sample `input` once for each of the bins of `boxes`."""
    bins = int_pair("crop_size", crop_size, minimum=1)
    fill = _checks.number("extrapolation_value", extrapolation_value, "a number")
    with np.errstate(over="ignore"):
        fill = float(np.float32(fill))
    with memory_of("input", input) as memory:
        call = _enter(memory, options, input, boxes, box_indices, single, channel_axis, check_boxes)
        target, output = call.room(out, input, call.output_shape(bins), np.dtype(np.float32))
        if output.size:
            memory.crops.sample(
                rule, call.options, call.features, call.corners, call.images, fill, output,
                call.channel_axis,
            )  # fmt: skip
        return call.result(out, target, output)


def backward(
    rule: Rule,
    options: Options,
    grad_output: Array,
    input: Array,
    boxes: Any,
    *,
    box_indices: Any,
    single: bool,
    smooth: bool,
    channel_axis: Any,
    check_boxes: Any,
    needs: Any,
    deterministic: Any,
) -> tuple[Any, Any]:
    """Return the gradients to `input` and to `boxes`; these are zero unless crops are `smooth`."""
    needs_input, needs_boxes = _checks.needed(needs)
    deterministic = flag("deterministic", deterministic)
    with memory_of("input", input) as memory, silence():
        call = _enter(memory, options, input, boxes, box_indices, single, channel_axis, check_boxes)
        grad = call.bins_like_output("grad_output", grad_output, input, np.dtype(np.float32))
        dtype = _arrays.result_dtype(call.features.dtype)
        if dtype == np.float64:
            grad = grad.astype(np.float64)
        there = grad.size and call.features.size
        grad_input = grad_boxes = None
        if needs_input:
            if there:
                total = call.to_map_of_mean(rule, grad, memory.manner(deterministic))
            else:
                total = memory.zeros(call.features.shape, grad.dtype)
            grad_input = call.leave(_arrays.rounded(total, dtype))
        if needs_boxes:
            corners = None
            if there and smooth:
                corners = _other_way(call.to_boxes_of_mean(rule, grad))
            grad_boxes = as_boxes(call, corners, boxes)
        return grad_input, grad_boxes


def _enter(
    memory: Any,
    options: Options,
    input: Any,
    boxes: Any,
    box_indices: Any,
    single: bool,
    channel_axis: Any,
    check_boxes: Any,
) -> Call:
    """Check and borrow all arguments; with `single`, geometry is computed in float32."""
    for name, array in (("boxes", boxes), ("box_indices", box_indices)):
        if _arrays.owner(name, array) not in (_arrays.owner("input", input), np):
            raise TypeError(
                f"{name} must come from the library of input or NumPy, got "
                f"{type(array).__name__} for {type(input).__name__}"
            )
    numbers = memory.boxes("box_indices", box_indices)
    _checks.crop_boxes(memory.boxes("boxes", boxes), numbers)
    call = enter(
        memory, options, input, boxes, 1.0, numbers, channel_axis, check_boxes, "box_indices"
    )
    corners = _other_way(call.corners)
    if single:
        with np.errstate(over="ignore"):
            corners = corners.astype(np.float32)
    T = corners.dtype.type
    both = (T(1), *options[0]), (T(1), *options[1])
    return call._replace(corners=corners, options=both)


def _other_way(corners: Any) -> Any:
    """Corners (K, 4) with y before x as x before y, and back."""
    return corners.reshape(len(corners), 2, 2)[:, :, ::-1].reshape(len(corners), 4)
