"""Crop pooling: a 2x2 maximum over bilinear samples from corner to corner of a box."""

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
    scalar,
)


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[Real, Real, Real, int]:
    """Start and end of the box, distance of samples, samples per bin."""
    T = type(low)
    start = low * options[0]
    end = high * options[0]
    if not (on_scale(start) and on_scale(end) and on_scale(end - start)):
        return T(0), T(0), T(0), 0
    return start, end, (end - start) / T(2 * bins - 1), 2


@scalar
def entries(
    box: tuple[Real, Real, Real, int], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """Both samples of bin ``p``."""
    T = type(box[0])
    return 0, box[3], T(box[3])


@scalar
def position(box: tuple[Real, Real, Real, int], p: int, k: int, bins: int) -> Real:
    """Where sample ``k`` lies; the last one is the end itself, which rounding may not pass."""
    start, end, step, _ = box
    T = type(start)
    place = 2 * p + k
    return end if place == 2 * bins - 1 else start + T(place) * step


@scalar
def entry(
    box: tuple[Real, Real, Real, int], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Pixel and weights of sample ``k``."""
    T = type(box[0])
    t = position(box, p, k, bins)
    if options[1]:
        return faded_tap(t, size)
    return clamped_tap(t, T(0), size)


@scalar
def slope(
    box: tuple[Real, Real, Real, int], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real, Real, Real]:
    """How the weights of sample ``k`` change with its position, and that with the box's ends."""
    T = type(box[0])
    t = position(box, p, k, bins)
    if options[1]:
        pixel, change, next_change = faded_slope(t, size)
    else:
        pixel, change, next_change = clamped_slope(t, size)
    share = T(2 * p + k) / T(2 * bins - 1)
    return pixel, change, next_change, options[0] * (T(1) - share), options[0] * share


def options(border: str = "zeros") -> tuple[tuple[bool], tuple[bool]]:
    """Check the operator's own option; return those of the y and of the x axis."""
    fades = _op.choice("border", border, ("zeros", "cut")) == "zeros"
    return (fades,), (fades,)


RULE = _op.Rule("crop_pool", options, span, entries, entry, slope, argmax="sample")


@overload
def crop_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    return_argmax: Literal[False] = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array: ...
@overload
def crop_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    return_argmax: Literal[True],
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> tuple[Array, Array]: ...
def crop_pool(
    input: Array,
    boxes: Boxes,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    return_argmax: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Any:
    r"""Pool each box by a 2x2 maximum over bilinear samples laid from corner to corner.

    The crop mode of tf-faster-rcnn and pytorch-faster-rcnn.  A box whose ends are reversed is
    flipped.

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
    border : {"zeros", "cut"}, default "zeros"
        How samples off the map count.  "zeros": zeros surround it, so that it fades over one
        pixel beyond its edge; "cut": a sample beyond the outermost pixel centres is 0.
    return_argmax : bool, default False
        Also return which sample won.
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
        Row-major index of the winner among the four samples of a bin; -1 where it lies outside
        the map.

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
    The largest of four samples of the interpolated map,

    .. math::

        \mathrm{output}[k, c, p, q] = \max_{0 \le i, j \le 1} f(y_{2p + i}, x_{2q + j})

    .. math::

        f(y, x) = \sum_{i, j} \mathrm{input}[b_k, c, i, j] \, h(y - i) \, h(x - j),
        \quad h(t) = \max(0, 1 - |t|)

    With ``s = spatial_scale``, ``a = z1 * s`` and ``b = z2 * s``, sample ``k`` of all ``2 * P`` on
    an axis lies at ``a + k * (b - a) / (2 * P - 1)``, the last one exactly at ``b``.  Bin ``p`` has
    the samples ``2 * p`` and ``2 * p + 1``, four in two dimensions.  pytorch-faster-rcnn's code
    sampled with zeros around the map (`border="zeros"`); tf-faster-rcnn's, by TensorFlow's
    ``crop_and_resize``, cuts.

    References
    ----------
    Chen, Gupta, "An Implementation of Faster RCNN with Study for Region Sampling", 2017,
    arXiv:1702.02138.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> roi_numba.crop_pool(ramp, np.array([[0, 1.0, 1, 4, 4]]), 2)
    array([[[[22., 24.],
             [42., 44.]]]])
    """
    return _op.forward(
        RULE,
        options(border),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce="max",
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        out=out,
    )


def crop_pool_backward(
    grad_output: Array,
    input: Array,
    boxes: Boxes,
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    argmax: Array | None = None,
    deterministic: bool = True,
) -> tuple[Any, Any]:
    """Gradients of `crop_pool` to the feature maps and to the boxes.

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
    border : {"zeros", "cut"}, default "zeros"
        How samples off the map counted.
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
        The winners as the forward returns them; found again if it is None.
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
    Both go to the winner of a bin.  Sample ``k`` moves by ``spatial_scale * (1 - r)`` and
    ``spatial_scale * r`` with the two ends of the box, ``r = k / (2 * P - 1)``; on the last pixel
    of a map that is cut, and off the map, it has no slope.

    References
    ----------
    Chen, Gupta, "An Implementation of Faster RCNN with Study for Region Sampling", 2017,
    arXiv:1702.02138.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> ramp = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, None]
    >>> box = np.array([[0, 1.0, 1, 4, 4]])
    >>> _, grad_boxes = roi_numba.crop_pool_backward(
    ...     np.ones((1, 1, 2, 2)), ramp, box, needs=("boxes",)
    ... )
    >>> grad_boxes
    array([[ 0.        ,  1.33333333, 13.33333333,  2.66666667, 26.66666667]])
    """
    return _derivatives.backward(
        RULE,
        options(border),
        grad_output,
        input,
        boxes,
        spatial_scale,
        reduce="max",
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        needs=needs,
        argmax=argmax,
        deterministic=deterministic,
    )
