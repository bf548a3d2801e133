"""Feature pyramids of JAX arrays, composed of operators.

Every map pools all boxes, those of other maps from no image; so there is no rule of differentiation
here but that the numbers of images have none.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import batching
from numpy.typing import NDArray

from . import _checks, _op
from ._docstrings import like
from ._jax_callback import on_the_host
from ._jax_forms import as_jax, corners_and_images, entered, seen
from .pyramid_pool import combined, images_by_level, scales_of


@like("pyramid_pool")
def pyramid_pool(
    op: Callable[..., Any],
    inputs: Sequence[jax.Array],
    boxes: Any,
    output_size: int | tuple[int, int],
    *,
    spatial_scales: Sequence[float | tuple[float, float]],
    levels: Any = None,
    reduce_levels: str = "assigned",
    **options: Any,
) -> Any:
    """Pool boxes from the maps of a feature pyramid, in the order of the boxes.

    With all derivatives that `op` has; the assignment to levels has none.

    Parameters
    ----------
    op : function
        The operator, one of `roi_numba.jax`: `roi_align`, `roi_pool`, ….
    inputs : sequence of jax.Array, shape (N, C, H_l, W_l)
        The maps, from fine to coarse: of one dtype, and of any sizes.
    boxes : jax.Array, shape (K, 5), or list of N arrays, shape (L, 4), or array, shape (K, 4)
        The boxes, in any form that `op` takes; in image pixels.
    output_size : int or (int, int)
        Bins per box, (pooled_height, pooled_width).
    spatial_scales : sequence of float or (float, float)
        Feature pixels per image pixel for each map, (along y, along x) where they differ.
    levels : jax.Array of int, shape (K,), optional
        The number in `inputs` of the map that each box is pooled from.  By default that of Lin et
        al., for maps whose strides double.
    reduce_levels : {"assigned", "sum", "mean", "max", "concat"}, default "assigned"
        From one map each, or from all maps, and what to make of their results; of equal maxima
        the first map's has the gradient.
    **options
        What else `op` takes: ``sampling_ratio``, ``reduce``, ``batch_indices``, ….

    Returns
    -------
    output : jax.Array, shape (K, C, pooled_height, pooled_width)
        In the dtype of the maps, float32 for integers and bool; with "concat" there are as many
        channels as all maps have.
    argmax : jax.Array of int, same shape, only with ``return_argmax=True``
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
    NotImplementedError
        A second derivative with respect to the boxes.

    See Also
    --------
    roi_numba.pyramid_pool : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> boxes = jnp.array([[0, 0.0, 0, 224, 224], [0, 9, 9, 60, 50]])
    >>> @jax.grad
    ... def gradients(maps):
    ...     scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    ...     align = roi_numba.jax.roi_align
    ...     return roi_numba.jax.pyramid_pool(align, maps, boxes, 2, spatial_scales=scales).sum()
    >>> maps = [jnp.ones((1, 1, 256 // stride, 256 // stride)) for stride in (4, 8, 16, 32)]
    >>> [round(float(gradient.sum()), 4) for gradient in gradients(maps)]
    [4.0, 0.0, 4.0, 0.0]
    """
    known = getattr(op, "__module__", "") in MODULES and inspect.signature(op).parameters
    if not known or "spatial_scale" not in known:
        raise TypeError(f"op must be an operator of roi_numba.jax, got {op!r}")
    scales = scales_of(inputs, spatial_scales, levels, reduce_levels)
    axis = _checks.channel_axis(options.get("channel_axis", 1))
    numbers, check = options.pop("batch_indices", None), options.pop("check_boxes", None)
    look = check is None or _op.flag("check_boxes", check)
    maps = [seen(f"inputs[{i}]", features, False) for i, features in enumerate(inputs)]
    given = None if levels is None else seen("levels", levels, look)
    entered(((), ()), _op.Pyramid(maps, scales, given), boxes, 1.0, numbers, axis, look)
    corners, numbers = corners_and_images(boxes, numbers)

    def of_map(level: int, images: Any, check: Any) -> Any:
        y, x = scales[level]
        moved = corners
        if y != x:
            wide = corners.astype(jnp.result_type(corners.dtype, np.float32))
            moved, x = wide * jnp.asarray([x, y, x, y], wide.dtype), 1.0
        features = as_jax(inputs[level])
        return op(
            features, moved, output_size, x, batch_indices=images, check_boxes=check, **options
        )

    if reduce_levels != "assigned":
        if options.get("return_argmax"):
            raise ValueError(
                f'return_argmax must not be given with reduce_levels="{reduce_levels}"'
            )
        parts = [of_map(level, numbers, check) for level in range(len(scales))]
        return combined(jnp, parts, reduce_levels, axis)
    operands = [corners, numbers] if levels is None else [corners, numbers, as_jax(levels)]
    assignment = Assignment(tuple(scales), maps[0].shape[0], check)
    (images,) = IMAGES.bind(*map(jax.lax.stop_gradient, operands), pooling=assignment)
    results: Any = of_map(0, images[0], False)
    for level in range(1, len(scales)):
        there = (images[level] >= 0)[:, None, None, None]
        parts = of_map(level, images[level], False)
        results = jax.tree.map(
            lambda one, other, there=there: jnp.where(there, one, other), parts, results
        )
    return results


MODULES = f"{__package__}.jax", f"{__package__}._jax_crops"
"""Modules that have operators."""


class Assignment(NamedTuple):
    """All that is known of boxes on a pyramid when they are traced."""

    scales: tuple[tuple[float, float], ...]
    n_images: int
    check: bool | None


def _images(
    check: bool, assignment: Assignment, corners: Any, numbers: Any, levels: Any = None
) -> tuple[NDArray[np.int32]]:
    """The image of each box for each map, -1 where it is on another."""
    scales, n_images, _ = assignment
    images = images_by_level(corners, numbers, levels, list(scales), n_images, check)
    return (images.astype(np.int32),)


def _shape(assignment: Assignment, corners: Any, *others: Any) -> Any:
    yield (len(assignment.scales), corners.shape[0]), np.int32


def _batch(operands: Any, dims: Any, *, pooling: Assignment) -> tuple[list[Any], list[int]]:
    """The boxes of many calls as those of one: nothing is said of a box that others change."""
    size = next(a.shape[dim] for a, dim in zip(operands, dims, strict=True) if dim is not None)
    merged = []
    for array, dim in zip(operands, dims, strict=True):
        if dim is None:
            array = jnp.broadcast_to(array, (size, *array.shape))
        else:
            array = jnp.moveaxis(array, dim, 0)
        merged.append(array.reshape(size * array.shape[1], *array.shape[2:]))
    (images,) = IMAGES.bind(*merged, pooling=pooling)
    return [images.reshape(images.shape[0], size, -1)], [1]


IMAGES = on_the_host("images_by_level", _shape, _images)
batching.primitive_batchers[IMAGES] = _batch
