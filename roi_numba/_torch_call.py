"""From the arguments of a public function on tensors to those of its op."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from . import _arrays, _checks
from ._torch_ops import OPS


def pool(
    operator: str,
    input: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: Any,
    *own: Any,
    reduce: str,
    return_argmax: Any = False,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
) -> Any:
    """Check what is no tensor, bring boxes into one tensor, call the op; `own` are its options."""
    if not isinstance(input, torch.Tensor):
        raise TypeError(f"input must be a torch tensor, got {type(input).__name__}")
    if _checks.flag("return_argmax", return_argmax) and reduce == "mean":
        raise ValueError('return_argmax must be False with reduce="mean", got True')
    if check_boxes is not None:
        check_boxes = _checks.flag("check_boxes", check_boxes)
    size = _checks.int_pair("output_size", output_size, minimum=1)
    if not torch.compiler.is_compiling():  # there it may be a symbol, and is checked when it runs
        spatial_scale = _checks.scale("spatial_scale", spatial_scale)
    axis = _checks.channel_axis(channel_axis)
    boxes, batch_indices = box_tensors(boxes, batch_indices, input)
    # Naming the winners takes time, but finding them again in backward takes more.
    named = return_argmax or (
        reduce != "mean"
        and torch.is_grad_enabled()
        and (input.requires_grad or boxes.requires_grad)
    )
    op = OPS[operator, "_argmax" if named else ""]
    settings = spatial_scale, *own, reduce, axis, check_boxes
    result = op(input, boxes, batch_indices, None, size, *settings)
    return result[0] if named and not return_argmax else result


def box_tensors(boxes: Any, batch_indices: Any, input: Any) -> tuple[Any, Any]:
    """Boxes in any form as one tensor, and batch indices unless it has them."""
    if isinstance(boxes, (list, tuple)):
        if batch_indices is not None:
            raise ValueError("batch_indices must be None for a list of boxes, got an array")
        return _joined(boxes, input)
    if batch_indices is not None:
        batch_indices = tensor("batch_indices", batch_indices, input.device)
    return tensor("boxes", boxes, input.device), batch_indices


def tensor(name: str, array: Any, device: torch.device) -> Any:
    """A tensor; NumPy's boxes are welcome, as they are at array level, and copied to `device`."""
    if isinstance(array, torch.Tensor):
        return array
    if isinstance(array, np.ndarray):
        if torch.compiler.is_compiling():  # to Dynamo it is a tensor, and has no NumPy dtype
            return torch.as_tensor(array, device=device)
        array = _arrays.marked(_arrays.native(array))  # torch knows no other order of bytes,
        if array.dtype == _arrays.BFLOAT16:  # and no dtype of ml_dtypes
            array = _arrays.widened(array)
        return torch.tensor(array, device=device)
    raise TypeError(f"{name} must be an array, got {type(array).__name__}")


def _joined(boxes: Sequence[Any], input: Any) -> tuple[Any, Any]:
    """A list of boxes, one tensor per image, as one tensor (K, 4) and its batch indices."""
    images = input.shape[0] if input.ndim else 0
    if len(boxes) != images:
        raise ValueError(
            f"boxes must be a list of {images} arrays, one per image, got {len(boxes)}"
        )
    parts = []
    for i, part in enumerate(boxes):
        if isinstance(part, (list, tuple)):
            try:
                part = np.asarray(part) if len(part) else np.empty((0, 4))
            except ValueError:
                raise ValueError("boxes must be rows of four numbers, got a ragged list") from None
        part = tensor("boxes", part, input.device)
        if part.ndim != 2 or part.shape[1] != 4:
            raise ValueError(f"boxes[{i}] must have shape (L, 4), got {tuple(part.shape)}")
        if part.dtype == torch.bool or part.is_complex():
            dtype = str(part.dtype).removeprefix("torch.")
            raise TypeError(f"boxes[{i}] must be of a float or integer dtype, got {dtype}")
        if part.device != input.device:
            if part.device.type != "cpu":
                raise TypeError(
                    f"boxes[{i}] must be on the device of input, {input.device}, or in host "
                    f"memory, got one on {part.device}"
                )
            part = part.to(input.device)
        parts.append(part)
    # The dtype of the geometry, in which an empty tensor has no say: integers are as float64.
    wide = any(
        part.dtype == torch.float64 or not part.is_floating_point()
        for part in parts
        if part.shape[0]
    )
    geometry = torch.float64 if wide else torch.float32
    if not parts:
        return input.new_empty((0, 4), dtype=geometry), input.new_empty(0, dtype=torch.int64)
    numbers = [
        part.new_full((part.shape[0],), i, dtype=torch.int64) for i, part in enumerate(parts)
    ]
    return torch.cat([part.to(geometry) for part in parts]), torch.cat(numbers)
