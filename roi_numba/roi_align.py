"""RoIAlign: the mean (or maximum) of bilinear samples in each bin (He et al., 2017)."""

import math
from typing import Any, Literal, overload

from . import _derivatives, _op
from ._op import Array, Boxes
from ._scalar import Real, clamped_slope, clamped_tap, on_scale, scalar


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[Real, Real, int, bool]:
    """Start of the box, size of a bin, samples per bin; whether the box has the minimum size."""
    scale, sampling_ratio, aligned = options
    T = type(low)
    offset = T(0.5) if aligned else T(0)
    start = low * scale - offset
    end = high * scale - offset
    length = end - start
    if not (on_scale(start) and on_scale(end) and on_scale(length)):
        return T(0), T(0), 0, False
    held = not aligned and length < T(1)
    if held:
        length = T(1)
    samples = sampling_ratio
    if samples <= 0:
        samples = max(int(math.ceil(length / T(bins))), 0)
    return start, length / T(bins), samples, held


@scalar
def position(box: tuple[Real, Real, int, bool], p: int, k: int) -> Real:
    """Where sample ``k`` of bin ``p`` lies."""
    start, size, samples, _ = box
    T = type(start)
    return start + T(p) * size + (T(k) + T(0.5)) * size / T(samples)


@scalar
def entries(
    box: tuple[Real, Real, int, bool], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """The samples of bin ``p`` that touch the map and one beyond on each side; all samples.

    Positions are monotone in ``k``, rounding included, so bisection finds the range exactly and a
    box of any size costs no more than the map.
    """
    start, step, samples, _ = box
    T = type(start)
    rising = step >= T(0)
    first, end = 0, samples
    while first < end:
        middle = (first + end) // 2
        t = position(box, p, middle)
        if t < T(-1) if rising else t > T(size):
            first = middle + 1
        else:
            end = middle
    last, end = first, samples
    while last < end:
        middle = (last + end) // 2
        t = position(box, p, middle)
        if t <= T(size) if rising else t >= T(-1):
            last = middle + 1
        else:
            end = middle
    return max(first - 1, 0), min(last + 1, samples), T(samples)


@scalar
def entry(
    box: tuple[Real, Real, int, bool], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Pixel and weights of sample ``k``: edges repeat for one pixel, beyond is zero."""
    T = type(box[0])
    return clamped_tap(position(box, p, k), T(1), size)


@scalar
def slope(
    box: tuple[Real, Real, int, bool], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real, Real, Real]:
    """How the weights of sample ``k`` change with its position, and that with the box's ends.

    The number of samples is held, as if it did not depend on the box.
    """
    _, _, samples, held = box
    T = type(box[0])
    t = position(box, p, k)
    pixel, change, next_change = clamped_slope(t, size)
    if t == T(0):  # on the edge as before it: the samples there are held by the clamp
        change, next_change = T(0), T(0)
    share = (T(p) + (T(k) + T(0.5)) / T(samples)) / T(bins)
    if held:
        share = T(0)
    return pixel, change, next_change, options[0] * (T(1) - share), options[0] * share


def options(
    sampling_ratio: int | tuple[int, int] = -1, aligned: bool = False
) -> tuple[tuple[int, bool], tuple[int, bool]]:
    """Check the operator's own options; return those of the y and of the x axis."""
    sampling_y, sampling_x = _op.int_pair("sampling_ratio", sampling_ratio)
    aligned = _op.flag("aligned", aligned)
    return (sampling_y, aligned), (sampling_x, aligned)


RULE = _op.Rule("roi_align", options, span, entries, entry, slope, argmax="sample")


@overload
def roi_align(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = -1,
    aligned: bool = False,
    *,
    reduce: str = "mean",
    return_argmax: Literal[False] = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array: ...
@overload
def roi_align(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = -1,
    aligned: bool = False,
    *,
    reduce: str = "mean",
    return_argmax: Literal[True],
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]: ...
def roi_align(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = -1,
    aligned: bool = False,
    *,
    reduce: str = "mean",
    return_argmax: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Any:
    r"""Pool each box to a fixed size from bilinear samples on a regular grid in each bin.

    Nothing is rounded: inside the map, and with a fixed number of samples, the pooled values move
    with the box without jumps.

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
    sampling_ratio : int or (int, int), default -1
        Samples per bin and axis, (height, width); zero or less: as many as the bin has feature
        pixels, rounded up.
    aligned : bool, default False
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.  Without it boxes are also at least one feature pixel wide and high.
    reduce : {"mean", "max", "max_corner"}, default "mean"
        "max": the largest interpolated sample; "max_corner": the largest of all samples' four
        weighted corners, as ONNX defines its max mode.
    return_argmax : bool, default False
        Also return which sample won (max reductions only).
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
        Row-major index of the winner in the bin's grid of samples (of their corners, two per
        sample and axis, for "max_corner"); -1 where it lies outside the map.  Where an axis has
        more than 2**31 of them, they count from the first that may touch the map, a row as 2**31.

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
    The mean of a bin is that of its samples of the interpolated map, a maximum the largest:

    .. math::

        \mathrm{output}[k, c, p, q] =
        \frac{1}{g_y g_x} \sum_{i=0}^{g_y - 1} \sum_{j=0}^{g_x - 1} f(y_{p,i}, x_{q,j})

    .. math::

        f(y, x) = \sum_{i, j} \mathrm{input}[b_k, c, i, j] \, h(y - i) \, h(x - j),
        \quad h(t) = \max(0, 1 - |t|)

    With ``s = spatial_scale`` and ``o = 0.5 if aligned else 0`` an axis of a box starts at
    ``a = z1 * s - o`` and is ``n = (z2 * s - o) - a`` long (at least 1 unless aligned); sample
    ``k`` of ``g`` in bin ``p`` of ``P`` lies at ``a + (p + (k + 1/2) / g) * n / P``.  Samples
    between -1 and the size of the map take the value of the nearest edge, those beyond count
    as 0.  The same numbers as torchvision, detectron2, mmcv and ONNX.

    References
    ----------
    He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, arXiv:1703.06870.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_numba.roi_align(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2, aligned=True)
    array([[[[13.75, 15.25],
             [28.75, 30.25]]]])
    """
    return _op.forward(
        RULE,
        options(sampling_ratio, aligned),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("mean", "max", "max_corner")),
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        out=out,
    )


def roi_align_backward(
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: float = 1.0,
    sampling_ratio: int | tuple[int, int] = -1,
    aligned: bool = False,
    *,
    reduce: str = "mean",
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    argmax: Array | None = None,
    deterministic: bool = True,
) -> tuple[Any, Any]:
    """Gradients of `roi_align` to the feature maps and to the boxes.

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
    sampling_ratio : int or (int, int), default -1
        Samples per bin and axis, (height, width); zero or less: adaptive.
    aligned : bool, default False
        Half a feature pixel was subtracted after scaling.
    reduce : {"mean", "max", "max_corner"}, default "mean"
        How the samples were reduced.
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
    The number of samples is held, also where it depends on the box.  With it a sample at share
    ``r`` of a box of size ``n`` moves by ``spatial_scale * (1 - r)`` and ``spatial_scale * r``
    with the two ends, by ``spatial_scale`` and 0 while an unaligned box is held at its minimum
    size; where it lies on or beyond the edge of the map it has no slope.  A maximum differentiates
    its winner.

    References
    ----------
    He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, arXiv:1703.06870.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box = np.array([[0, 1.0, 1, 4, 4]])
    >>> grad_input, grad_boxes = roi_numba.roi_align_backward(
    ...     np.ones((1, 1, 2, 2)), ramp, box, sampling_ratio=2
    ... )
    >>> grad_boxes
    array([[ 0.,  2., 20.,  2., 20.]])
    >>> grad_input.sum()
    np.float64(4.0)
    """
    return _derivatives.backward(
        RULE,
        options(sampling_ratio, aligned),
        grad_output,
        input,
        boxes,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("mean", "max", "max_corner")),
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        needs=needs,
        argmax=argmax,
        deterministic=deterministic,
    )
