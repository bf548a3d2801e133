"""Crops on JAX arrays."""

from typing import Any

import jax

from ._jax_forms import pool
from .crop_pool import RULE as CROP_POOL


def crop_pool(
    input: jax.Array,
    boxes: Any,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    border: str = "zeros",
    return_argmax: bool = False,
    batch_indices: Any = None,
    channel_axis: int = 1,
    check_boxes: bool | None = None,
) -> Any:
    """Pool each box by a 2x2 maximum over bilinear samples laid from corner to corner.

    Parameters
    ----------
    input : jax.Array, shape (N, C, H, W)
        Feature maps.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        Rows ``(batch_index, x1, y1, x2, y2)``, or ``(x1, y1, x2, y2)`` with one array per image
        or with `batch_indices`; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    border : {"zeros", "cut"}, default "zeros"
        Whether zeros surround the map, or samples beyond its outermost pixel centres are 0.
    return_argmax : bool, default False
        Also return which sample won.
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
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind or dtype.
    IndexError
        A batch index outside [0, N).

    See Also
    --------
    roi_numba.crop_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramps = jnp.arange(72.0).reshape(2, 1, 1, 6, 6)
    >>> boxes = jnp.array([[0, 1.0, 1, 4, 4]])
    >>> jax.vmap(lambda maps: roi_numba.jax.crop_pool(maps, boxes, (1, 2)))(ramps).squeeze()
    Array([[26., 28.],
           [62., 64.]], dtype=float32)
    """
    return pool(
        CROP_POOL,
        CROP_POOL.options(border),
        input,
        boxes,
        output_size,
        spatial_scale,
        reduce="max",
        return_argmax=return_argmax,
        batch_indices=batch_indices,
        channel_axis=channel_axis,
        check_boxes=check_boxes,
    )
