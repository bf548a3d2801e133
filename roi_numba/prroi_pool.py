"""Precise RoI pooling: the exact mean of the interpolated map in a bin (Jiang et al., 2018)."""

import math
from typing import Any

from . import _derivatives, _op
from ._op import Array, Boxes
from ._scalar import Real, on_scale, scalar


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[Real, Real]:
    """Start of the box and size of a bin, in feature pixels; size 0 if there is none."""
    scale, aligned = options
    T = type(low)
    offset = T(0.5) if aligned else T(0)
    start = low * scale - offset
    end = high * scale - offset
    length = end - start
    if not (on_scale(start) and on_scale(end) and on_scale(length)):
        return T(0), T(0)
    return start, max(length, T(0)) / T(bins)


@scalar
def edges(box: tuple[Real, Real], p: int) -> tuple[Real, Real]:
    """The two ends of bin ``p``."""
    start, size = box
    T = type(start)
    return start + T(p) * size, start + T(p + 1) * size


@scalar
def entries(
    box: tuple[Real, Real], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """The unit cells, from pixel ``k`` to ``k + 1``, in which bin ``p`` meets the map."""
    T = type(box[0])
    if not box[1] > T(0):
        return 0, 0, T(1)
    low, high = edges(box, p)
    first = max(int(math.floor(low)), -1)
    if not high > low:  # narrower than the spacing of floats here: the value at a point
        last = int(math.floor(low)) + 1
        return first, max(min(last, size), first), T(1)
    last = int(math.ceil(high))
    return first, max(min(last, size), first), high - low


@scalar
def entry(
    box: tuple[Real, Real], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Integrals of the two hat functions over the part of unit cell ``k`` in the bin.

    Differences of antiderivatives would lose digits in small bins; this form has none to lose.
    """
    T = type(box[0])
    low, high = edges(box, p)
    begin = max(low, T(k))
    end = min(high, T(k + 1))
    middle = ((begin - T(k)) + (end - T(k))) / T(2)
    width = end - begin if high > low else T(1)
    left = width * (T(1) - middle) if k >= 0 else T(0)
    right = width * middle if k + 1 < size else T(0)
    return k, left, right


@scalar
def slope(
    box: tuple[Real, Real], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real, Real, Real]:
    """How the integrals of `entry` change, as if all of the part moved like its middle.

    That is exact: the mean changes by the rise over each unit cell, weighted by how far from the
    other end of the bin the part's middle lies.
    """
    T = type(box[0])
    low, high = edges(box, p)
    begin = max(low, T(k))
    end = min(high, T(k + 1))
    width, middle = T(1), T(0.5)
    if high > low:
        width = end - begin
        middle = ((begin - low) + (end - low)) / (T(2) * (high - low))
    share = (T(p) + middle) / T(bins)
    left = -width if k >= 0 else T(0)
    right = width if k + 1 < size else T(0)
    return k, left, right, options[0] * (T(1) - share), options[0] * share


def options(aligned: bool = False) -> tuple[tuple[bool], tuple[bool]]:
    """Check the operator's own options; return those of the y and of the x axis."""
    axis = (_op.flag("aligned", aligned),)
    return axis, axis


RULE = _op.Rule("prroi_pool", options, span, entries, entry, slope, argmax="none")


def prroi_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    aligned: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array:
    r"""Pool each box to a fixed size by the exact integral of the interpolated map.

    No rounding and no samples: the value of a bin is continuous in the box and has a continuous
    derivative almost everywhere.

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
    aligned : bool, default False
        Subtract half a feature pixel after scaling, so that coordinates mean the same in image
        and map.
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
    A bin is the integral of the interpolated map over its rectangle, divided by the area:

    .. math::

        \mathrm{output}[k, c, p, q] = \frac{1}{(y_{p+1} - y_p) (x_{q+1} - x_q)}
        \int_{y_p}^{y_{p+1}} \int_{x_q}^{x_{q+1}} f(y, x) \, dx \, dy

    .. math::

        f(y, x) = \sum_{i, j} \mathrm{input}[b_k, c, i, j] \, h(y - i) \, h(x - j),
        \quad h(t) = \max(0, 1 - |t|)

    With ``s = spatial_scale`` and ``o = 0.5 if aligned else 0`` an axis of a box starts at
    ``a = z1 * s - o`` and is ``n = max((z2 * s - o) - a, 0)`` long; of ``P`` bins, bin ``p`` goes
    from ``a + p * n / P`` to ``a + (p + 1) * n / P``.  The map fades to zero over one pixel beyond
    its edge; the area is the whole rectangle's, also where part of it lies off the map.  A box
    without area gives 0.

    References
    ----------
    Jiang, Luo, Mao, Xiao, Jiang, "Acquisition of Localization Confidence for Accurate Object
    Detection", ECCV 2018, arXiv:1807.11590.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_numba.prroi_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[19.25, 20.75],
             [34.25, 35.75]]]])
    """
    output: Array = _op.forward(
        RULE,
        options(aligned),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce="mean",
        return_argmax=False,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        out=out,
    )
    return output


def prroi_pool_backward(
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: float = 1.0,
    *,
    aligned: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    deterministic: bool = True,
) -> tuple[Any, Any]:
    r"""Gradients of `prroi_pool` to the feature maps and to the boxes, both exact.

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
    aligned : bool, default False
        Half a feature pixel was subtracted after scaling.
    batch_indices : array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` and ``grad_output`` have their channels.
    check_boxes : bool, optional
        Raise on boxes with non-finite coordinates or a bad batch index.  If False, such boxes
        have no part in either gradient.  Default: True for arrays in host memory.
    needs : tuple of {"input", "boxes"}, default ("input", "boxes")
        The gradients to compute; the others are None.
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
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind, dtype or library.
    IndexError
        A batch index outside [0, N).

    Notes
    -----
    Pushing an edge of a bin outward changes its value by the mean of the map along that edge, less
    the value, over the size of the bin.  For the lower edge of bin (p, q), with the value
    :math:`v = \mathrm{output}[k, c, p, q]`,

    .. math::

        \frac{\partial v}{\partial y_{p+1}} = \frac{1}{y_{p+1} - y_p}
        \left( \frac{1}{x_{q+1} - x_q} \int_{x_q}^{x_{q+1}} f(y_{p+1}, x) \, dx - v \right)

    and ``y_p`` moves by ``spatial_scale * (1 - p / P)`` with ``y1``, by ``spatial_scale * p / P``
    with ``y2``.  A box without area has no gradient.

    References
    ----------
    Jiang, Luo, Mao, Xiao, Jiang, "Acquisition of Localization Confidence for Accurate Object
    Detection", ECCV 2018, arXiv:1807.11590.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box = np.array([[0, 1.0, 1, 4, 4]])
    >>> _, grad_boxes = roi_numba.prroi_pool_backward(np.ones((1, 1, 2, 2)), ramp, box)
    >>> grad_boxes.round(6)
    array([[ 0.,  2., 20.,  2., 20.]])
    """
    return _derivatives.backward(
        RULE,
        options(aligned),
        grad_output,
        input,
        boxes,
        spatial_scale,
        reduce="mean",
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        needs=needs,
        deterministic=deterministic,
    )
