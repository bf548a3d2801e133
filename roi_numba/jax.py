"""The operators on JAX arrays, under `jit`, `grad`, `vjp`, `jvp` and `vmap`.

The same names, options and numbers as on other arrays, from the same engine, which compiled code
calls on the host: JAX brings arrays of another device there and back.

* There are derivatives with respect to `input` and `boxes`, in forward and reverse mode and of any
  order, but at most one of them to `boxes`: a second one raises NotImplementedError.  (`roi_pool`
  does not change with its boxes: all such derivatives are zero.)  `crop_and_resize` has first ones
  in reverse mode.
* Errors of shape, dtype and option are raised while tracing.  The values of boxes are looked at
  where they are there, outside `jit`; compiled code gives zeros and no gradient for bad boxes, and
  fails only if ``check_boxes=True``, with an exception of JAX that ends in the usual sentence.
* Without ``jax_enable_x64`` an argmax is of int32.
* `jax.export` cannot write down calls of the host, and so none of these.
"""

from typing import Any

from . import _op
from .prroi_pool import RULE as PRROI_POOL
from .roi_align import RULE as ROI_ALIGN
from .roi_pool import RULE as ROI_POOL
from .roi_warp import RULE as ROI_WARP

try:
    import jax
except ImportError as error:
    raise ImportError(
        f"roi_numba.jax needs JAX, pip install 'roi_numba[jax]', got: {error}"
    ) from None

from ._docstrings import like
from ._jax_crops import crop_and_resize, crop_pool
from ._jax_forms import pool
from ._jax_pyramid import pyramid_pool

__all__ = [
    "crop_and_resize",
    "crop_pool",
    "prroi_pool",
    "pyramid_pool",
    "roi_align",
    "roi_pool",
    "roi_warp",
]


@like("roi_align")
def roi_align(
    input: jax.Array,
    boxes: Any,
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
) -> Any:
    """Pool each box from bilinear samples on a regular grid in each bin.

    Parameters
    ----------
    input : jax.Array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    sampling_ratio : int or (int, int), default -1
        Samples per bin and axis, (height, width); zero or less: adaptive.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    reduce : {"mean", "max", "max_corner"}, default "mean"
        What to make of the samples of a bin, or of their corners.
    return_argmax : bool, default False
        Also return what won (max reductions only).
    batch_indices : jax.Array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` has its channels, and the output will.
    check_boxes : bool, optional
        Raise on bad boxes: by default outside `jit`, if True also in compiled code.

    Returns
    -------
    output : jax.Array, shape (K, C, pooled_height, pooled_width)
        In the dtype of ``input``, float32 for integers and bool.
    argmax : jax.Array of int, same shape, only if `return_argmax`
        Number of the sample that won; -1 where it lies outside the map.

    Raises
    ------
    NotImplementedError
        A second derivative with respect to the boxes.

    See Also
    --------
    roi_numba.roi_align : The same on other arrays, with all that there is to say.

    Notes
    -----
    In derivatives the number of samples is held, also where it depends on the box.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramp = jnp.arange(36.0).reshape(1, 1, 6, 6)
    >>> def total(boxes):
    ...     return roi_numba.jax.roi_align(ramp, boxes, 2, sampling_ratio=2).sum()
    >>> jax.jit(jax.grad(total))(jnp.array([[0, 1.0, 1, 4, 4]]))
    Array([[ 0.,  2., 12.,  2., 12.]], dtype=float32)
    """
    return pool(
        ROI_ALIGN,
        ROI_ALIGN.options(sampling_ratio, aligned),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("mean", "max", "max_corner")),
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
    )


@like("roi_pool")
def roi_pool(
    input: jax.Array,
    boxes: Any,
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
) -> Any:
    """Pool each box over whole cells of the map.

    Parameters
    ----------
    input : jax.Array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    reduce : {"max", "mean"}, default "max"
        What to make of the cells of a bin.
    rounding : {"half_away", "truncate", "none"}, default "half_away"
        How corners become cells.
    bins : {"exact", "float", "truncate"}, default "exact"
        How cells are dealt out to bins.
    return_argmax : bool, default False
        Also return what won (max reductions only).
    batch_indices : jax.Array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` has its channels, and the output will.
    check_boxes : bool, optional
        Raise on bad boxes: by default outside `jit`, if True also in compiled code.

    Returns
    -------
    output : jax.Array, shape (K, C, pooled_height, pooled_width)
        In the dtype of ``input``, float32 for integers and bool.
    argmax : jax.Array of int, same shape, only if `return_argmax`
        Index ``i * W + j`` of the cell that won; -1 for an empty bin.

    See Also
    --------
    roi_numba.roi_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramp = jnp.arange(36.0).reshape(1, 1, 6, 6)
    >>> boxes = jnp.array([[0, 1.0, 1, 4, 4]])
    >>> _, pull = jax.vjp(lambda maps: roi_numba.jax.roi_pool(maps, boxes, 1), ramp)
    >>> (gradient,) = pull(jnp.ones((1, 1, 1, 1)))
    >>> jnp.argwhere(gradient[0, 0])
    Array([[4, 4]], dtype=int32)
    """
    return pool(
        ROI_POOL,
        ROI_POOL.options(rounding, bins),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("max", "mean")),
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
    )


@like("roi_warp")
def roi_warp(
    input: jax.Array,
    boxes: Any,
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
) -> Any:
    """Warp each box to a fixed size by bilinear samples, then reduce groups of samples.

    Parameters
    ----------
    input : jax.Array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    sampling_ratio : int or (int, int), default 1
        Samples per bin and axis, (height, width).
    reduce : {"max", "mean"}, default "max"
        What to make of the samples of a bin.
    quantize : bool, default True
        Round the corners.
    return_argmax : bool, default False
        Also return what won (max reductions only).
    batch_indices : jax.Array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` has its channels, and the output will.
    check_boxes : bool, optional
        Raise on bad boxes: by default outside `jit`, if True also in compiled code.

    Returns
    -------
    output : jax.Array, shape (K, C, pooled_height, pooled_width)
        In the dtype of ``input``, float32 for integers and bool.
    argmax : jax.Array of int, same shape, only if `return_argmax`
        Number of the sample that won; -1 where it lies outside the map.

    Raises
    ------
    NotImplementedError
        A second derivative with respect to the boxes.

    See Also
    --------
    roi_numba.roi_warp : The same on other arrays, with all that there is to say.

    Notes
    -----
    The derivative with respect to boxes goes straight through the rounding.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramps = jnp.arange(72.0).reshape(2, 1, 1, 6, 6)
    >>> boxes = jnp.array([[0, 1.0, 1, 4, 4]])
    >>> jax.vmap(lambda maps: roi_numba.jax.roi_warp(maps, boxes, (1, 2)))(ramps).squeeze()
    Array([[ 7. ,  8.5],
           [43. , 44.5]], dtype=float32)
    """
    return pool(
        ROI_WARP,
        ROI_WARP.options(sampling_ratio, quantize),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce=_op.choice("reduce", reduce, ("max", "mean")),
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
    )


@like("prroi_pool")
def prroi_pool(
    input: jax.Array,
    boxes: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    aligned: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Pool each box by the exact integral of the interpolated map.

    Parameters
    ----------
    input : jax.Array, shape (N, C, H, W)
        Feature maps: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    aligned : bool, default False
        Subtract half a feature pixel after scaling.
    batch_indices : jax.Array of int, shape (K,), optional
        The image of each box, for boxes of shape (K, 4).
    channel_axis : {1, -1}, default 1
        Where ``input`` has its channels, and the output will.
    check_boxes : bool, optional
        Raise on bad boxes: by default outside `jit`, if True also in compiled code.

    Returns
    -------
    output : jax.Array, shape (K, C, pooled_height, pooled_width)
        In the dtype of ``input``, float32 for integers and bool.

    Raises
    ------
    NotImplementedError
        A second derivative with respect to the boxes.

    See Also
    --------
    roi_numba.prroi_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramp = jnp.arange(36.0).reshape(1, 1, 6, 6)
    >>> box = jnp.array([[0, 1.0, 1, 4, 4]])
    >>> right = jnp.array([[0, 1.0, 0, 1, 0]])
    >>> jax.jvp(lambda boxes: roi_numba.jax.prroi_pool(ramp, boxes, 1), (box,), (right,))
    (Array([[[[17.5]]]], dtype=float32), Array([[[[1.]]]], dtype=float32))
    """
    return pool(
        PRROI_POOL,
        PRROI_POOL.options(aligned),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce="mean",
        return_argmax=False,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
    )
