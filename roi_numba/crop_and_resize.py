"""Crops of a fixed size by one sample a pixel, corner to corner: TensorFlow's crop_and_resize."""

from typing import Any

from . import _crops, _op
from ._op import Array
from ._scalar import Real, clamped_slope, clamped_tap, round_half_away, scalar

TENSORFLOW, NEAREST = 1, 2
"""Parts of an axis's second option; 0 is an exact last sample, and interpolation."""


@scalar
def span(low: Real, high: Real, bins: int, options: Any) -> tuple[Real, Real]:
    """Both ends of the box: how far they are apart, the size of the map says."""
    return low, high


@scalar
def entries(
    box: tuple[Real, Real], p: int, bins: int, size: int, options: Any
) -> tuple[int, int, Real]:
    """The only sample of bin ``p``."""
    T = type(box[0])
    return 0, 1, T(1)


@scalar
def position(box: tuple[Real, Real], p: int, bins: int, size: int, options: Any) -> Real:
    """Where the sample of bin ``p`` lies, in TensorFlow's order of operations."""
    low, high = box
    T = type(low)
    reach = T(size - 1) if options[1] else T(1)
    if bins == 1:
        return T(0.5) * (low + high) * reach
    if p == bins - 1 and options[2] % 2 == 0:
        return high * reach
    return low * reach + T(p) * ((high - low) * reach / T(bins - 1))


@scalar
def entry(
    box: tuple[Real, Real], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real]:
    """Pixel and weights of the sample of bin ``p``, none off the map."""
    T = type(box[0])
    t = position(box, p, bins, size, options)
    if options[2] >= 2 and t >= T(0) and t <= T(size - 1):
        t = round_half_away(t)
    return clamped_tap(t, T(0), size)


@scalar
def slope(
    box: tuple[Real, Real], p: int, k: int, bins: int, size: int, options: Any
) -> tuple[int, Real, Real, Real, Real]:
    """How the weights change with the sample's position, and that with the box's ends.

    On a whole pixel they do not, as in TensorFlow, nor does the nearest pixel's.
    """
    T = type(box[0])
    t = position(box, p, bins, size, options)
    pixel, change, next_change = clamped_slope(t, size)
    if options[2] >= 2 or T(pixel) == t:
        change, next_change = T(0), T(0)
    reach = T(size - 1) if options[1] else T(1)
    share = T(0.5) if bins == 1 else T(p) / T(bins - 1)
    return pixel, change, next_change, reach * (T(1) - share), reach * share


def options(
    method: str = "bilinear", normalized: bool = True, edges: str = "exact"
) -> tuple[tuple[bool, int], tuple[bool, int]]:
    """Check the operator's own options; return those of the y and of the x axis."""
    how = NEAREST if _op.choice("method", method, ("bilinear", "nearest")) == "nearest" else 0
    how += _op.choice("edges", edges, ("exact", "tensorflow")) == "tensorflow"
    both = _op.flag("normalized", normalized), how
    return both, both


RULE = _op.Rule("crop_and_resize", options, span, entries, entry, slope, argmax="none")


def crop_and_resize(
    input: Array,
    boxes: Any,
    crop_size: int | tuple[int, int],
    *,
    box_indices: Any,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    normalized: bool = True,
    edges: str = "exact",
    channel_axis: int = -1,
    check_boxes: bool | None = None,
    out: Array | None = None,
) -> Array:
    r"""Cut boxes out of images and resize them, by one sample for each pixel of a crop.

    TensorFlow's operator of this name.  A box whose ends are reversed is flipped.

    Parameters
    ----------
    input : array, shape (N, H, W, C)
        Images: integer, bool, float16, bfloat16, float32 or float64, with any strides.
    boxes : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, where 0 is the centre of the first pixel and 1 that of the last
        one; they may lie beyond.
    crop_size : int or (int, int)
        Pixels of a crop, (crop_height, crop_width).
    box_indices : array of int, shape (K,)
        The image of each box.
    method : {"bilinear", "nearest"}, default "bilinear"
        Interpolate between four pixels, or take the nearest one; of two as near, the later.
    extrapolation_value : float, default 0.0
        What is off the image.
    normalized : bool, default True
        Boxes are relative to the image.  If False, they are in feature pixels: 0 is the centre of
        the first, ``H - 1`` that of the last.
    edges : {"exact", "tensorflow"}, default "exact"
        The last sample lies exactly on the end of the box; or it comes out of TensorFlow's float32
        arithmetic, which may put it off the image, a row or column of extrapolated values.
    channel_axis : {-1, 1}, default -1
        Where ``input`` has its channels: -1 for (N, H, W, C), 1 for (N, C, H, W).  The output
        has them in the same place.
    check_boxes : bool, optional
        Raise on boxes with non-finite coordinates or a bad index.  If False, such boxes give the
        extrapolation value.  Default: True for arrays in host memory.
    out : array of float32, optional
        Where to put the result: same shape and library as the result.

    Returns
    -------
    crops : array of float32, shape (K, crop_height, crop_width, C)
        In the library of ``input``; of every dtype they are float32.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind or dtype.
    IndexError
        A box index outside [0, N).

    See Also
    --------
    crop_pool : Samples at the same places, of boxes in image pixels, and a 2x2 maximum of them.

    Notes
    -----
    A pixel of a crop is the interpolated image at one place,

    .. math::

        \mathrm{crops}[k, p, q, c] = \sum_{i, j} \mathrm{input}[b_k, i, j, c]
        \, h(y_p - i) \, h(x_q - j), \quad h(t) = \max(0, 1 - |t|)

    or the nearest pixel there.  Sample ``k`` of ``P`` on an axis of ``L`` pixels lies at
    ``z1 * (L - 1) + k * (z2 - z1) * (L - 1) / (P - 1)``, a single one in the middle of the box.
    What is not in ``[0, L - 1]`` is off the image.  Geometry is computed in float32, in float64
    for boxes of float64 or integers, unless ``edges="tensorflow"``.  A sample on a whole pixel
    is that pixel; TensorFlow adds its difference from itself there, so that infinity becomes NaN
    and -0 becomes 0.  In host memory results of ``edges="tensorflow"`` are otherwise TensorFlow's,
    bit for bit, on a CUDA device they are rounded in another order.

    References
    ----------
    ``tf.image.crop_and_resize`` of TensorFlow 2.21.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    >>> boxes = np.array([[0, 0, 1, 1], [1, 0, 0, 0.5]])
    >>> crops = roi_numba.crop_and_resize(image, boxes, 2, box_indices=np.array([0, 0]))
    >>> crops[..., 0]
    array([[[ 0. ,  3. ],
            [ 8. , 11. ]],
    <BLANKLINE>
           [[ 8. ,  9.5],
            [ 0. ,  1.5]]], dtype=float32)
    """
    crops: Array = _crops.forward(
        RULE,
        options(method, normalized, edges),
        input,
        boxes,
        crop_size,
        box_indices=box_indices,
        extrapolation_value=extrapolation_value,
        single=edges == "tensorflow",
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        out=out,
    )
    return crops


def crop_and_resize_backward(
    grad_output: Array,
    input: Array,
    boxes: Any,
    *,
    box_indices: Any,
    method: str = "bilinear",
    normalized: bool = True,
    edges: str = "exact",
    channel_axis: int = -1,
    check_boxes: bool | None = None,
    needs: tuple[str, ...] = ("input", "boxes"),
    deterministic: bool = True,
) -> tuple[Any, Any]:
    """Gradients of `crop_and_resize` to the images and to the boxes.

    Parameters
    ----------
    grad_output : array of float32, shape (K, crop_height, crop_width, C)
        Gradient with respect to the crops, in the library of ``input``; its shape says how large
        they are.
    input : array, shape (N, H, W, C)
        The images that were cropped.
    boxes : array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)`` as the forward took them, relative to the image, or with
        `normalized=False` in feature pixels.
    box_indices : array of int, shape (K,)
        The image of each box.
    method : {"bilinear", "nearest"}, default "bilinear"
        How pixels were chosen.  The nearest one does not move with the box, whose gradient is zero.
    normalized : bool, default True
        Boxes are relative to the image.
    edges : {"exact", "tensorflow"}, default "exact"
        Where the last sample was.
    channel_axis : {-1, 1}, default -1
        Where ``input`` and ``grad_output`` have their channels.
    check_boxes : bool, optional
        Raise on boxes with non-finite coordinates or a bad index.  If False, such boxes have no
        part in either gradient.  Default: True for arrays in host memory.
    needs : tuple of {"input", "boxes"}, default ("input", "boxes")
        The gradients to compute; the others are None.
    deterministic : bool, default True
        On a CUDA device: add in a fixed order, so that every run gives the same bits.  If False,
        in any order, which may be faster.  In host memory the order is always fixed.

    Returns
    -------
    grad_input : array, shape of ``input``, or None
        In the library and dtype of ``input``, float32 for integers and bool.  Each pixel adds box
        after box, so the bits do not depend on the number of threads.
    grad_boxes : array, shape (K, 4), or None
        In the units, library and floating dtype of ``boxes`` (float64 for integers).

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind, dtype or library.
    IndexError
        A box index outside [0, N).

    Notes
    -----
    The gradient to the images is the exact adjoint of the forward.  Sample ``k`` of ``P`` moves by
    ``(1 - r) * (L - 1)`` and ``r * (L - 1)`` with the two ends of the box, ``r = k / (P - 1)``, and
    a single one by half of both.  On a whole pixel, where the result has a kink, it has no slope.
    Samples lie where the forward has them; TensorFlow's gradient to boxes multiplies in another
    order, and may see a sample that is on a whole pixel to one side of it.

    References
    ----------
    ``tf.raw_ops.CropAndResizeGradImage`` and ``CropAndResizeGradBoxes`` of TensorFlow 2.21.

    Examples
    --------
    >>> import numpy as np
    >>> import roi_numba
    >>> image = np.add.outer(10.0 * np.arange(6), np.arange(6))[None, ..., None]
    >>> boxes = np.array([[0.1, 0.1, 0.9, 0.7]])
    >>> _, grad_boxes = roi_numba.crop_and_resize_backward(
    ...     np.ones((1, 2, 2, 1), np.float32), image, boxes, box_indices=np.array([0])
    ... )
    >>> grad_boxes
    array([[100.,  10., 100.,  10.]])
    """
    return _crops.backward(
        RULE,
        options(method, normalized, edges),
        grad_output,
        input,
        boxes,
        box_indices=box_indices,
        single=edges == "tensorflow",
        smooth=method == "bilinear",
        channel_axis=channel_axis,
        check_boxes=check_boxes,
        needs=needs,
        deterministic=deterministic,
    )
