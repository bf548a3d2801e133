"""RoIPool: the maximum (or mean) over the cells of rounded bins (Girshick, 2015)."""

import math
from typing import Any, Literal, overload

from . import _derivatives, _op
from ._op import Array, Boxes
from ._scalar import CORNER_LIMIT, Real, clamped, round_half_away, scalar

ROUNDINGS = ("half_away", "truncate", "none")
BINS = ("exact", "float", "truncate")


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[int, int, Real, Real]:
    """First cell of the box and its number of cells; unrounded, where it starts and ends."""
    scale, rounding, _ = options
    T = type(scale)
    if rounding == 2:  # "none"
        start = clamped(low * scale, CORNER_LIMIT)
        return 0, 0, start, clamped((high + T(1)) * scale, CORNER_LIMIT)
    if rounding == 1:  # "truncate"
        # Twice the limit: a box around every map keeps covering it.
        cells = int(clamped((high - low) * scale, 2 * CORNER_LIMIT))
        return int(clamped(low * scale, CORNER_LIMIT)), max(cells, 1), T(0), T(0)
    first = int(round_half_away(clamped(low * scale, CORNER_LIMIT)))
    last = int(round_half_away(clamped(high * scale, CORNER_LIMIT)))
    return first, max(last - first + 1, 1), T(0), T(0)


@scalar
def entries(
    box: tuple[int, int, Real, Real], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """The cells of bin ``p`` that lie on the map."""
    scale, rounding, mode = options
    T = type(scale)
    first, cells, start, end = box
    if rounding == 2:  # "none": every cell that the bin touches
        width = (end - start) / T(bins)
        if mode == 2:  # "truncate"
            width = max(T(math.floor(width)), T(1))
        stop = T(p + 1) * width + start
        if mode == 2:
            stop = min(stop, end)
        low = int(math.floor(T(p) * width + start))
        high = int(math.ceil(stop)) if end > start else low
    elif mode == 0:  # "exact"
        low = p * cells // bins
        high = ((p + 1) * cells + bins - 1) // bins
    elif mode == 1:  # "float": torchvision's arithmetic, which may overrun the box by a cell
        width = T(cells) / T(bins)
        low = int(math.floor(T(p) * width))
        high = int(math.ceil(T(p + 1) * width))
    else:  # "truncate"
        width_in_cells = max(cells // bins, 1)
        low = p * width_in_cells
        high = min(low + width_in_cells, cells)
    low = min(max(low + first, 0), size)
    high = min(max(high + first, low), size)
    return low, high, T(high - low)


@scalar
def entry(
    box: tuple[int, int, Real, Real], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Cell ``k`` counts in full."""
    T = type(options[0])
    return k, T(1), T(0)


def options(
    rounding: str = "half_away", bins: str = "exact"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Check the operator's own options; return those of the y and of the x axis."""
    rounded = ROUNDINGS.index(_op.choice("rounding", rounding, ROUNDINGS))
    axis = rounded, BINS.index(_op.choice("bins", bins, BINS))
    return axis, axis


RULE = _op.Rule("roi_pool", options, span, entries, entry, None, argmax="cell")


@overload
def roi_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    reduce: str = "max",
    rounding: str = "half_away",
    bins: str = "exact",
    return_argmax: Literal[False] = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array: ...
@overload
def roi_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    reduce: str = "max",
    rounding: str = "half_away",
    bins: str = "exact",
    return_argmax: Literal[True],
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]: ...
def roi_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    reduce: str = "max",
    rounding: str = "half_away",
    bins: str = "exact",
    return_argmax: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Any:
    r"""Pool each box to a fixed size over whole cells of the map.

    The box is rounded to cells and divided into bins of whole cells, which overlap where the
    division leaves a remainder: pooled values jump as the box moves.

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
    reduce : {"max", "mean"}, default "max"
        Maximum or mean over the cells of a bin that lie on the map; an empty bin gives 0.
    rounding : {"half_away", "truncate", "none"}, default "half_away"
        "half_away": corners to the nearest cell, halves away from zero, the last one included.
        "truncate": the first corner and the length are truncated (at least one cell).
        "none": bins of real size, from the first corner to one image pixel beyond the last, as
        in mmcv; a bin reads every cell that it touches, but none if the box has no length.
    bins : {"exact", "float", "truncate"}, default "exact"
        "exact": from floor to ceiling in integer arithmetic.  "float": in the floating-point
        arithmetic of Caffe, torchvision and ONNX, which for some sizes reads one cell more.
        "truncate": bins of the truncated size, which leave the end of the box unread.  Where
        nothing is rounded, "exact" and "float" are alike.
    return_argmax : bool, default False
        Also return which cell won (`reduce="max"` only).
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
        Index ``i * W + j`` of the first largest cell in its H x W plane; -1 for an empty bin.

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
    With the cells :math:`Y_p` along y and :math:`X_q` along x that bin (p, q) has on the map,

    .. math::

        \mathrm{output}[k, c, p, q] = \max_{i \in Y_p, \, j \in X_q} \mathrm{input}[b_k, c, i, j]

    or their mean.  With ``s = spatial_scale`` an axis of a box covers ``n = max(e - o + 1, 1)``
    cells from ``o = round(z1 * s)`` to ``e = round(z2 * s)``; bin ``p`` of ``P`` has cells
    ``floor(p * n / P) + o`` up to, not including, ``ceil((p + 1) * n / P) + o``.  With
    ``rounding="none"`` the box goes from ``a = z1 * s`` to ``b = (z2 + 1) * s``, and bin ``p`` has
    cells ``floor(p * w + a)`` up to ``ceil((p + 1) * w + a)``, ``w = (b - a) / P``.

    References
    ----------
    Girshick, "Fast R-CNN", ICCV 2015, arXiv:1504.08083.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_numba.roi_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return _op.forward(
        RULE,
        options(rounding, bins),
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


def roi_pool_backward(
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: float = 1.0,
    *,
    reduce: str = "max",
    rounding: str = "half_away",
    bins: str = "exact",
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    argmax: Array | None = None,
    deterministic: bool = True,
) -> tuple[Any, Any]:
    r"""Gradients of `roi_pool` to the feature maps and, all zero, to the boxes.

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
    reduce : {"max", "mean"}, default "max"
        How the cells were reduced.
    rounding : {"half_away", "truncate", "none"}, default "half_away"
        How corners became cells.
    bins : {"exact", "float", "truncate"}, default "exact"
        How cells were dealt out to bins.
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
        A shape, value or option that makes no sense, a non-finite box, a winner off the map.
    TypeError
        An array of the wrong kind, dtype or library.
    IndexError
        A batch index outside [0, N).

    Notes
    -----
    The gradient of a bin goes to the cell that won, or to all n cells of the bin alike:

    .. math::

        \mathrm{grad\_input}[b, c, i, j] = \sum_{k, p, q} \mathrm{grad\_output}[k, c, p, q] \, w,
        \quad w = 1 \; \mathrm{or} \; 1 / n

    over those bins of boxes of image b that cell (i, j) won, or that have it.  The corners are
    rounded, so the result does not change with them.

    References
    ----------
    Girshick, "Fast R-CNN", ICCV 2015, arXiv:1504.08083.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box = np.array([[0, 1.0, 1, 4, 4]])
    >>> grad_input, grad_boxes = roi_numba.roi_pool_backward(np.ones((1, 1, 2, 2)), ramp, box)
    >>> np.argwhere(grad_input[0, 0]).tolist()
    [[2, 2], [2, 4], [4, 2], [4, 4]]
    >>> grad_boxes
    array([[0., 0., 0., 0., 0.]])
    """
    return _derivatives.backward(
        RULE,
        options(rounding, bins),
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
