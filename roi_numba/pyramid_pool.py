"""Any operator over a feature pyramid: each box is pooled from its own level, or from all."""

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from . import _arrays, _checks, _op
from ._derivatives import silence
from ._memory import memory_of
from ._op import Array, Boxes
from .assign_levels import assign_levels

REDUCTIONS = "assigned", "sum", "mean", "max", "concat"


def pyramid_pool(
    op: Callable[..., Any],
    inputs: Sequence[Array],
    boxes: Boxes,
    output_size: int | tuple[int, int],
    *,
    spatial_scales: Sequence[float | tuple[float, float]],
    levels: Any = None,
    reduce_levels: str = "assigned",
    **options: Any,
) -> Any:
    r"""Pool boxes from the maps of a feature pyramid, in the order of the boxes.

    Parameters
    ----------
    op : function
        The operator: `roi_align`, `roi_pool`, `roi_warp`, `prroi_pool`, ….
    inputs : sequence of arrays, shape (N, C, H_l, W_l)
        The maps, from fine to coarse: of one dtype, and of any sizes.
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        The boxes, in any form that `op` takes; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scales : sequence of float or (float, float)
        Feature pixels per image pixel for each map, (along y, along x) where they differ.
    levels : array of int, shape (K,), optional
        The number in `inputs` of the map that each box is pooled from, of a list of boxes in their
        order.  By default that of Lin et al., for maps whose strides double: `assign_levels` with
        the levels from that of the first map, ``round(-log2(scale))``, to that of the last.
    reduce_levels : {"assigned", "sum", "mean", "max", "concat"}, default "assigned"
        "assigned": from one map each.  All others: from all maps, and the sum, mean or maximum of
        them is the result, in its dtype, or their channels one after the other.
    **options
        What else `op` takes: ``sampling_ratio``, ``reduce``, ``batch_indices``, ``channel_axis``,
        ``out``, ….

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of the maps (float32 for integers and bool); with "concat" there
        are as many channels as all maps have.
    argmax : array of int64, same shape, only with ``return_argmax=True``
        As `op` returns it, of the map that a box was pooled from.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box; scales from which no
        level follows, if `levels` is not given.
    TypeError
        An array of the wrong kind or dtype, or something that is no operator.
    IndexError
        A batch index outside [0, N), or a level that is no map's.

    Notes
    -----
    With the maps :math:`x_l`, their scales :math:`s_l` and the level :math:`l(k)` of box k,

    .. math::

        \mathrm{output}[k] = \mathrm{op}(x_{l(k)}, \mathrm{box}_k, s_{l(k)}),
        \quad \mathrm{or} \quad \sum_l \mathrm{op}(x_l, \mathrm{box}_k, s_l)

    and the like for the mean, the maximum and all channels side by side.  By default

    .. math::

        l(k) = \min \left( \max \left( \left\lfloor
        4 + \log_2 \frac{\sqrt{w_k h_k}}{224} \right\rfloor, l_0 \right), l_0 + L - 1 \right) - l_0

    for a box of ``w_k`` times ``h_k`` image pixels and L maps, the first of which is of level
    ``l_0 = round(-log2(spatial_scales[0]))``.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> maps = [np.full((1, 1, 256 // stride, 256 // stride), stride) for stride in (4, 8, 16, 32)]
    >>> boxes = np.array([[0, 0.0, 0, 224, 224], [0, 9, 9, 60, 50]])
    >>> scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    >>> pooled = roi_numba.pyramid_pool(
    ...     roi_numba.roi_align, maps, boxes, 1, spatial_scales=scales, sampling_ratio=2
    ... )
    >>> pooled.ravel()
    array([16.,  4.], dtype=float32)
    """
    pyramid = _pyramid(op, inputs, boxes, spatial_scales, levels, reduce_levels)
    if reduce_levels == "assigned":
        return op(pyramid, boxes, output_size, 1.0, **options)
    for name, given in (
        ("out", options.get("out") is not None),
        ("return_argmax", options.get("return_argmax", False)),
    ):
        if given:
            raise ValueError(f'{name} must not be given with reduce_levels="{reduce_levels}"')
    _check_maps(inputs, _checks.channel_axis(options.get("channel_axis", 1)))
    parts = [op(level, boxes, output_size, 1.0, **options) for level in _one_by_one(pyramid)]
    return combined(_op.home(inputs[0]), parts, reduce_levels, options.get("channel_axis", 1))


def pyramid_pool_backward(
    op: Callable[..., Any],
    grad_output: Array,
    inputs: Sequence[Array],
    boxes: Boxes,
    *,
    spatial_scales: Sequence[float | tuple[float, float]],
    levels: Any = None,
    reduce_levels: str = "assigned",
    **options: Any,
) -> tuple[Any, Any]:
    r"""Gradients of `pyramid_pool` to all maps and to the boxes.

    Parameters
    ----------
    op : function
        The operator that pooled.
    grad_output : array, shape (K, C, pooled_height, pooled_width)
        Gradient with respect to the result, in its dtype and the library of the maps.
    inputs : sequence of arrays, shape (N, C, H_l, W_l)
        The maps that were pooled.
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        The boxes, in any form the forward takes; in image pixels.
    spatial_scales : sequence of float or (float, float)
        Feature pixels per image pixel for each map.
    levels : array of int, shape (K,), optional
        The number of each box's map; the assignment to levels has no gradient.
    reduce_levels : {"assigned", "sum", "mean", "max", "concat"}, default "assigned"
        How the maps' results became one; of equal maxima the first map's counts.
    **options
        What else the operator's backward function takes: ``sampling_ratio``, ``needs``, ….

    Returns
    -------
    grad_inputs : list of arrays, or None
        The gradient to each map, in its shape.
    grad_boxes : array or list of arrays in the shape and dtype of ``boxes``, or None
        The gradient to the boxes, zero for batch indices.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind or dtype, or something that is no operator.
    IndexError
        A batch index outside [0, N), or a level that is no map's.

    Notes
    -----
    With `grad_output` G, the maps :math:`x_l`, their scales :math:`s_l` and levels :math:`l(k)`,

    .. math::

        \mathrm{grad\_inputs}[l] = \sum_{k: \, l(k) = l} \left(
        \frac{\partial \, \mathrm{op}(x_l, \mathrm{box}_k, s_l)}{\partial x_l}
        \right)^\mathsf{T} G[k]

    over all boxes where all maps are pooled: of a mean of L maps with ``G / L``, of a maximum with
    G where the map had it, of channels side by side with the map's own.  A box adds up over maps.

    References
    ----------
    Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv:1612.03144.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> maps = [np.ones((1, 1, 256 // stride, 256 // stride)) for stride in (4, 8, 16, 32)]
    >>> boxes = np.array([[0, 0.0, 0, 224, 224], [0, 9, 9, 60, 50]])
    >>> scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    >>> grad_inputs, grad_boxes = roi_numba.pyramid_pool_backward(
    ...     roi_numba.roi_align, np.ones((2, 1, 2, 2)), maps, boxes, spatial_scales=scales
    ... )
    >>> [float(round(grad.sum(), 6)) for grad in grad_inputs]
    [4.0, 0.0, 4.0, 0.0]
    """
    pyramid = _pyramid(op, inputs, boxes, spatial_scales, levels, reduce_levels)
    backward = _backward_of(op)
    if reduce_levels == "assigned":
        gradients: tuple[Any, Any] = backward(grad_output, pyramid, boxes, 1.0, **options)
        return gradients
    if options.get("argmax") is not None:
        raise ValueError(f'argmax must not be given with reduce_levels="{reduce_levels}"')
    if getattr(grad_output, "ndim", None) != 4:
        got = getattr(grad_output, "shape", type(grad_output).__name__)
        raise ValueError(f"grad_output must be an array with four axes, got {got}")
    axis = _checks.channel_axis(options.get("channel_axis", 1))
    _check_maps(inputs, axis, grad_output)
    to_maps: list[Any] = []
    to_boxes: Any = None
    with silence():
        parts = _shares(op, grad_output, pyramid, boxes, reduce_levels, options, axis)
        for share, level in zip(parts, _one_by_one(pyramid), strict=True):
            to_map, moved = backward(share, level, boxes, 1.0, **options)
            to_maps += to_map or []
            if to_boxes is None:
                to_boxes = moved
            elif isinstance(moved, list):
                to_boxes = [one + other for one, other in zip(to_boxes, moved, strict=True)]
            else:
                to_boxes = to_boxes + moved
    return to_maps or None, to_boxes


@cache
def _backward_of(op: Any) -> Any:
    """The way back of an operator that takes a scale, None for any other function."""
    module = sys.modules.get(op.__module__)
    if not hasattr(module, "RULE") or "spatial_scale" not in inspect.signature(op).parameters:
        return None
    return getattr(module, f"{op.__name__}_backward", None)


def _pyramid(
    op: Any, inputs: Any, boxes: Any, spatial_scales: Any, levels: Any, reduce_levels: Any
) -> _op.Pyramid:
    """Check what is the pyramid's own."""
    if not inspect.isfunction(op) or _backward_of(op) is None:
        raise TypeError(f"op must be an operator, such as roi_numba.roi_align, got {op!r}")
    scales = scales_of(inputs, spatial_scales, levels, reduce_levels)
    if levels is None and reduce_levels == "assigned" and len(inputs) > 1:
        levels = _assigned(boxes, scales)
    return _op.Pyramid(list(inputs), scales, levels)


def scales_of(
    inputs: Any, spatial_scales: Any, levels: Any, reduce_levels: Any
) -> list[tuple[float, float]]:
    """Check what makes a pyramid of maps; return the scale of each along y and x."""
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise TypeError(
            f"inputs must be a list of at least one array, got {type(inputs).__name__}"
            + " of none" * isinstance(inputs, (list, tuple))
        )
    scales = _op.scale_pairs("spatial_scales", spatial_scales, len(inputs))
    _op.choice("reduce_levels", reduce_levels, REDUCTIONS)
    if reduce_levels != "assigned" and levels is not None:
        raise ValueError(f'levels must be None with reduce_levels="{reduce_levels}"')
    return scales


def _assigned(boxes: Any, scales: list[tuple[float, float]]) -> Any:
    """The levels of Lin et al., counted from that of the first map."""
    own = [round(-math.log2(math.sqrt(y) * math.sqrt(x))) for y, x in scales]
    if own != list(range(own[0], own[0] + len(own))):
        raise ValueError(
            "levels must be given unless each of spatial_scales is half the one before, got scales "
            f"of levels {own}"
        )
    return assign_levels(boxes, min_level=own[0], max_level=own[-1]) - own[0]


def images_by_level(
    boxes: Any,
    batch_indices: Any,
    levels: Any,
    scales: list[tuple[float, float]],
    n_images: int,
    check: bool | None,
) -> Any:
    """The image of each box for each map (L, K), -1 for boxes that are on another or bad.

    With these a pyramid is a composition: each map pools all boxes, and has zeros for most.
    """
    if levels is None and len(scales) > 1:
        levels = _assigned(boxes, scales)
    with memory_of("boxes", boxes) as memory:
        numbers = None if batch_indices is None else memory.boxes("batch_indices", batch_indices)
        check = memory.checks if check is None else check
        corners, images = memory.regions(memory.boxes("boxes", boxes), numbers, n_images, check)
        whole = images.astype(np.int64)
        whole = memory.only(whole, whole == images)
        levels = None if levels is None else memory.boxes("levels", levels)
        of_box, whole = memory.levels(levels, len(corners), len(scales), whole, check)
        parted = [memory.only(whole, of_box == level) for level in range(len(scales))]
        return memory.handing_back(boxes)(np.stack(parted))


def _one_by_one(pyramid: _op.Pyramid) -> list[_op.Pyramid]:
    """Each map alone, for all boxes."""
    pairs = zip(pyramid.inputs, pyramid.scales, strict=True)
    return [_op.Pyramid([array], [scale], None) for array, scale in pairs]


def combined(library: Any, parts: list[Any], reduce_levels: str, axis: int) -> Any:
    """The levels' results as one, by a module that has their arrays."""
    if reduce_levels == "concat":
        return library.concatenate(parts, axis=axis)
    total = parts[0]
    with silence():
        for part in parts[1:]:
            if reduce_levels == "max":  # not `maximum`, whose gradient equals would share
                total = library.where((part > total) | (part != part), part, total)
            else:
                total = total + part
        return total / len(parts) if reduce_levels == "mean" else total


def _check_maps(inputs: Any, axis: int, grad: Any = None) -> None:
    """Results of all maps, and a gradient, are computed with before or after an operator does."""
    with memory_of("inputs[0]", inputs[0]) as memory:
        maps = [memory.source(f"inputs[{i}]", each) for i, each in enumerate(inputs)]
        _checks.pyramid(maps, axis)
        if grad is not None:
            _arrays.same_library("grad_output", grad, inputs[0])
            dtype = _arrays.result_dtype(maps[0].dtype)
            given = memory.source("grad_output", grad)
            _checks.result_array("grad_output", given, given.shape, dtype)


def _shares(
    op: Any,
    grad: Any,
    pyramid: _op.Pyramid,
    boxes: Any,
    reduce_levels: str,
    options: Any,
    axis: int,
) -> list[Any]:
    """What part of the gradient every level's result has."""
    count = len(pyramid.inputs)
    if reduce_levels == "sum":
        return [grad] * count
    if reduce_levels == "mean":
        return [grad / count] * count
    if reduce_levels == "concat":
        return _parted(grad, pyramid, axis)
    ways_back = ("argmax", "deterministic", "needs")
    forth = {name: value for name, value in options.items() if name not in ways_back}
    size = tuple(grad.shape[2:] if axis == 1 else grad.shape[1:3])
    parts = [op(level, boxes, size, 1.0, **forth) for level in _one_by_one(pyramid)]
    largest = combined(_op.home(grad), parts, "max", 1)
    if largest.shape != grad.shape:
        raise ValueError(
            f"grad_output must have shape {tuple(largest.shape)}, got {tuple(grad.shape)}"
        )
    shares, left, where = [], grad, _op.home(grad).where
    for part in parts:
        won = (part == largest) | (part != part)
        shares.append(where(won, left, 0))
        left = where(won, 0, left)
    return shares


def _parted(grad: Any, pyramid: _op.Pyramid, axis: int) -> list[Any]:
    """The channels of each level."""
    count = len(pyramid.inputs)
    channels = grad.shape[axis] // count
    if grad.shape[axis] != count * pyramid.inputs[0].shape[axis]:
        raise ValueError(
            f"grad_output must have the channels of all {count} maps, got shape {grad.shape}"
        )
    slices = [slice(level * channels, (level + 1) * channels) for level in range(count)]
    if axis == 1:
        return [grad[:, part] for part in slices]
    return [grad[..., part] for part in slices]
