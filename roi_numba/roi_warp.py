"""RoIWarp: bilinear samples at the left edges of a rounded box's bins (Dai et al., 2016)."""

from typing import Any, Literal, overload

from . import _derivatives, _op
from ._op import Array, Boxes
from ._scalar import (
    Real,
    clamped_slope,
    clamped_tap,
    faded_slope,
    faded_tap,
    on_scale,
    round_half_away,
    scalar,
)


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[Real, Real, int, bool]:
    """Start of the box, distance of samples, samples per bin; whether the ends are reversed."""
    scale, samples, quantize = options
    T = type(low)
    start = low * scale
    end = high * scale
    if not (on_scale(start) and on_scale(end) and on_scale(end - start)):
        return T(0), T(0), 0, False
    if quantize:
        start = round_half_away(start)
        end = round_half_away(end)
    reversed_ends = end < start
    length = T(0) if reversed_ends else end - start
    return start, length / T(samples * bins), samples, reversed_ends


@scalar
def entries(
    box: tuple[Real, Real, int, bool], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """All samples of bin ``p``."""
    T = type(box[0])
    return 0, box[2], T(box[2])


@scalar
def entry(
    box: tuple[Real, Real, int, bool], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Pixel and weights of sample ``k``, at the left edge of its share of the bin."""
    start, step, samples, _ = box
    T = type(start)
    t = start + T(p * samples + k) * step
    if options[2]:
        return clamped_tap(t, T(0.5), size)
    return faded_tap(t, size)


@scalar
def slope(
    box: tuple[Real, Real, int, bool], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real, Real, Real]:
    """How the weights of sample ``k`` change with its position, and that with the box's ends.

    Straight through the rounding, as if rounded ends moved like the box's own.
    """
    scale, _, quantize = options
    start, step, samples, reversed_ends = box
    T = type(start)
    t = start + T(p * samples + k) * step
    if quantize:
        pixel, change, next_change = clamped_slope(t, size)
    else:
        pixel, change, next_change = faded_slope(t, size)
    share = T(p * samples + k) / T(samples * bins)
    if reversed_ends:
        share = T(0)
    return pixel, change, next_change, scale * (T(1) - share), scale * share


def options(
    sampling_ratio: int | tuple[int, int] = 1, quantize: bool = True
) -> tuple[tuple[int, bool], tuple[int, bool]]:
    """Check the operator's own options; return those of the y and of the x axis."""
    sampling_y, sampling_x = _op.int_pair("sampling_ratio", sampling_ratio, minimum=1)
    quantize = _op.flag("quantize", quantize)
    return (sampling_y, quantize), (sampling_x, quantize)


RULE = _op.Rule("roi_warp", options, span, entries, entry, slope, argmax="sample")


@overload
def roi_warp(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = 1,
    *,
    reduce: str = "max",
    quantize: bool = True,
    return_argmax: Literal[False] = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array: ...
@overload
def roi_warp(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = 1,
    *,
    reduce: str = "max",
    quantize: bool = True,
    return_argmax: Literal[True],
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]: ...
def roi_warp(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = 1,
    *,
    reduce: str = "max",
    quantize: bool = True,
    return_argmax: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Any:
    r"""Warp each box to a fixed size by bilinear samples, then reduce groups of samples.

    The RoIWarp layer of MNC: corners are rounded, so pooled values jump as the box moves.

    Parameters
    ----------
    input : array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, float64, integer or bool, with any strides.
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel: 1/16 for a map of stride 16.
    sampling_ratio : int or (int, int), default 1
        Samples per bin and axis, (height, width): warp to ``sampling_ratio * output_size``, then
        reduce.  MNC warps to 28 and takes the maximum over 2 x 2.
    reduce : {"max", "mean"}, default "max"
        What to make of the samples of a bin.
    quantize : bool, default True
        Round the corners, as MNC's code does.  False is the paper's formula: no rounding, and
        the map fades to zero over one pixel beyond its edge.
    return_argmax : bool, default False
        Also return which sample won (`reduce="max"` only).
    batch_indices : array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` has its channels: 1 for (N, C, H, W), -1 for (N, H, W, C).  The output
        has them in the same place.
    check_boxes : bool, optional
        Raise on boxes with non-finite coordinates or a bad batch index.  If False, such boxes
        give zeros.  Default: True for arrays in host memory.
    out : array, optional
        Where to put the result: same shape, dtype and library as the result.

    Returns
    -------
    output : array, shape (K, C, pooled_height, pooled_width)
        In the library and dtype of ``input`` (float32 for integers and bool); accumulated in
        float32, in float64 for float64.
    argmax : array of int64, same shape, only if `return_argmax`
        Row-major index of the winner in the bin's grid of samples; -1 where it lies outside
        the map.  Where an axis has more than 2**31 of them, they count from the first that may
        touch the map, a row as 2**31.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind or dtype.
    IndexError
        A batch index outside [0, N).

    Notes
    -----
    With :math:`r_y` and :math:`r_x` samples a bin, the largest of the interpolated map,

    .. math::

        \mathrm{output}[k, c, p, q] =
        \max_{0 \le i < r_y, \, 0 \le j < r_x} f(y_{r_y p + i}, x_{r_x q + j})

    .. math::

        f(y, x) = \sum_{i, j} \mathrm{input}[b_k, c, i, j] \, h(y - i) \, h(x - j),
        \quad h(t) = \max(0, 1 - |t|)

    or their mean.  With ``s = spatial_scale``, ``o = round(z1 * s)`` and ``e = round(z2 * s)``,
    halves away from zero, or ``z1 * s`` and ``z2 * s`` if not `quantize`, sample ``j`` of all
    ``m = sampling_ratio * P`` on an axis lies at ``o + j * max(e - o, 0) / m``.  Samples up to
    half a pixel beyond the outermost pixel centres take the value of the edge, others 0.

    References
    ----------
    Dai, He, Sun, "Instance-aware Semantic Segmentation via Multi-task Network Cascades",
    CVPR 2016, arXiv:1512.04412.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_numba.roi_warp(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2, sampling_ratio=2)
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """
    return _op.forward(
        RULE,
        options(sampling_ratio, quantize),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("max", "mean")),
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        out=out,
    )


def roi_warp_backward(
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = 1,
    *,
    reduce: str = "max",
    quantize: bool = True,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    argmax: Array | None = None,
    deterministic: bool = True,
) -> tuple[Any, Any]:
    """Gradients of `roi_warp` to the feature maps and to the boxes.

    Parameters
    ----------
    grad_output : array, shape (K, C, pooled_height, pooled_width)
        Gradient with respect to the result, in its dtype and the library of ``input``; its shape
        says how many bins there are.
    input : array, shape (N, C, H, W)
        The feature maps that were pooled.
    boxes : array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        The boxes, in any form the forward takes; in image pixels.
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    sampling_ratio : int or (int, int), default 1
        Samples per bin and axis, (height, width).
    reduce : {"max", "mean"}, default "max"
        How the samples were reduced.
    quantize : bool, default True
        Corners were rounded.
    batch_indices : array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` and ``grad_output`` have their channels.
    check_boxes : bool, optional
        Raise on boxes with non-finite coordinates or a bad batch index.  If False, such boxes
        have no part in either gradient.  Default: True for arrays in host memory.
    needs : tuple of {"input", "boxes"}, default ("input", "boxes")
        The gradients to compute; the others are None.
    argmax : array of int64, shape of ``grad_output``, optional
        The winners as the forward returns them (max reductions only); found again if it is None.
    deterministic : bool, default True
        On a CUDA device: add in a fixed order, so that every run gives the same bits.  If False,
        in any order, which may be faster.  In host memory the order is always fixed.

    Returns
    -------
    grad_input : array, shape of ``input``, or None
        In the library of ``input`` and the dtype of ``grad_output``.  Each pixel adds box after
        box, so the bits do not depend on the number of threads.
    grad_boxes : array or list of arrays, shaped as ``boxes``, or None
        In image pixels, in the library and floating dtype of ``boxes`` (float64 for integers);
        0 for batch indices.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, a non-finite box, a winner that cannot be.
    TypeError
        An array of the wrong kind, dtype or library.
    IndexError
        A batch index outside [0, N).

    Notes
    -----
    The gradient to the maps is the exact adjoint of the forward.  That to the boxes goes straight
    through the rounding: a sample at share ``r`` of the box moves by ``spatial_scale * (1 - r)``
    and ``spatial_scale * r`` with the two ends, by ``spatial_scale`` and 0 while they are reversed;
    where it is clamped to the edge of the map it has no slope.

    References
    ----------
    Dai, He, Sun, "Instance-aware Semantic Segmentation via Multi-task Network Cascades",
    CVPR 2016, arXiv:1512.04412.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box = np.array([[0, 1.0, 1, 4, 4]])
    >>> _, grad_boxes = roi_numba.roi_warp_backward(
    ...     np.ones((1, 1, 2, 2)), ramp, box, needs=("boxes",)
    ... )
    >>> grad_boxes
    array([[ 0.,  3., 30.,  1., 10.]])
    """
    return _derivatives.backward(
        RULE,
        options(sampling_ratio, quantize),
        grad_output,
        input,
        boxes,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("max", "mean")),
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        needs=needs,
        argmax=argmax,
        deterministic=deterministic,
    )
