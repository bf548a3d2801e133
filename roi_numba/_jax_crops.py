"""Crops on JAX arrays."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.interpreters import ad, batching
from numpy.typing import NDArray

from . import _op
from ._docstrings import like
from ._jax_callback import on_the_host
from ._jax_forms import as_jax, pool, seen
from ._jax_host import stand_in
from .crop_and_resize import crop_and_resize as on_arrays
from .crop_and_resize import crop_and_resize_backward as on_arrays_backward
from .crop_pool import RULE as CROP_POOL


@like("crop_pool")
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
        Feature maps: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
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
    NotImplementedError
        A second derivative with respect to the boxes.

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


@like("crop_and_resize")
def crop_and_resize(
    input: jax.Array,
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
) -> jax.Array:
    """Cut boxes out of images and resize them, by one sample for each pixel of a crop.

    With first derivatives in reverse mode, in `jit` and out of it.

    Parameters
    ----------
    input : jax.Array, shape (N, H, W, C)
        Images: float16, bfloat16, float32, integer or bool; float64 with ``jax_enable_x64``.
    boxes : jax.Array, shape (K, 4)
        Rows ``(y1, x1, y2, x2)``, where 0 is the centre of the first pixel and 1 that of the last
        one.
    crop_size : int or (int, int)
        Pixels of a crop, (crop_height, crop_width).
    box_indices : jax.Array of int, shape (K,)
        The image of each box.
    method : {"bilinear", "nearest"}, default "bilinear"
        Interpolate between four pixels, or take the nearest one, which has no gradient to boxes.
    extrapolation_value : float, default 0.0
        What is off the image.
    normalized : bool, default True
        Boxes are relative to the image.  If False, they are in feature pixels.
    edges : {"exact", "tensorflow"}, default "exact"
        The last sample lies exactly on the end of the box; or where TensorFlow's arithmetic has it.
    channel_axis : {-1, 1}, default -1
        Where ``input`` has its channels, and the output will.
    check_boxes : bool, optional
        Raise on bad boxes: by default outside `jit`, if True also in compiled code.

    Returns
    -------
    crops : jax.Array of float32, shape (K, crop_height, crop_width, C)
        Of every dtype they are float32.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense, or a non-finite box.
    TypeError
        An array of the wrong kind or dtype, or a derivative in forward mode.
    IndexError
        A box index outside [0, N).
    NotImplementedError
        A second derivative.

    See Also
    --------
    roi_numba.crop_and_resize : The same on other arrays, with all that there is to say.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import roi_numba.jax
    >>> ramp = jnp.add.outer(10.0 * jnp.arange(6), jnp.arange(6))[None, ..., None]
    >>> def total(boxes):
    ...     return roi_numba.jax.crop_and_resize(ramp, boxes, 2, box_indices=jnp.array([0])).sum()
    >>> jax.jit(jax.grad(total))(jnp.array([[0.1, 0.1, 0.9, 0.7]])).round().astype(int)
    Array([[100,  10, 100,  10]], dtype=int32)
    """
    look = check_boxes is None or _op.flag("check_boxes", check_boxes)
    both: dict[str, Any] = {
        "method": method,
        "normalized": normalized,
        "edges": edges,
        "channel_axis": channel_axis,
    }
    # An image without channels is checked as any other, and nothing is computed of it.
    image = seen("input", input, False)
    shape = list(image.shape)
    if len(shape) == 4 and channel_axis in (1, -1):
        shape[channel_axis] = 0
    crops = on_arrays(
        stand_in(tuple(shape), image.dtype),
        seen("boxes", boxes, look),
        crop_size,
        box_indices=seen("box_indices", box_indices, look),
        extrapolation_value=extrapolation_value,
        check_boxes=look,
        **both,
    )
    size = crops.shape[2:] if channel_axis == 1 else crops.shape[1:3]
    crop = Crop(size, float(extrapolation_value), tuple(both.items()), check_boxes)
    found: jax.Array = _cropped(crop, as_jax(input), as_jax(boxes), as_jax(box_indices))
    return found


class Crop(NamedTuple):
    """All that is known of a call when it is traced; `both`: options that both ways have."""

    size: tuple[int, int]
    value: float
    both: tuple[tuple[str, Any], ...]
    check: bool | None


def _crops(
    check: bool, crop: Crop, input: Any, boxes: Any, indices: Any
) -> tuple[NDArray[np.float32]]:
    crops = on_arrays(
        input, boxes, crop.size, box_indices=indices, extrapolation_value=crop.value,
        check_boxes=check, **dict(crop.both),
    )  # fmt: skip
    return (crops,)


def _crops_shape(crop: Crop, input: Any, boxes: Any, indices: Any) -> Any:
    axis = dict(crop.both)["channel_axis"]
    count, channels = boxes.shape[0], input.shape[axis]
    yield (count, channels, *crop.size) if axis == 1 else (count, *crop.size, channels), np.float32


def _gradient(
    needs: str, check: bool, crop: Crop, grad: Any, input: Any, boxes: Any, indices: Any
) -> tuple[NDArray[Any]]:
    gradients = on_arrays_backward(
        grad,
        input,
        boxes,
        box_indices=indices,
        needs=(needs,),
        check_boxes=check,
        **dict(crop.both),
    )
    return (gradients[needs == "boxes"],)


def _one_by_one(primitive: Any, operands: Any, dims: Any, *, pooling: Crop) -> tuple[Any, Any]:
    """Many calls one after the other."""
    size = next(a.shape[dim] for a, dim in zip(operands, dims, strict=True) if dim is not None)
    calls = [
        [a if dim is None else jax.lax.index_in_dim(a, i, dim, keepdims=False)
         for a, dim in zip(operands, dims, strict=True)]
        for i in range(size)
    ]  # fmt: skip
    return [jax.numpy.stack([primitive.bind(*call, pooling=pooling)[0] for call in calls])], [0]


def _no_second(primals: Any, tangents: Any, **static: Any) -> Any:
    raise NotImplementedError("crop_and_resize has no second derivatives")


CROPS = on_the_host("crops", _crops_shape, _crops)
TO_INPUT = on_the_host(
    "crops_to_input",
    lambda crop, grad, input, *boxes: [(input.shape, input.dtype)],
    partial(_gradient, "input"),
)
TO_BOXES = on_the_host(
    "crops_to_boxes",
    lambda crop, grad, input, boxes, indices: [(boxes.shape, boxes.dtype)],
    partial(_gradient, "boxes"),
)
for _primitive in (CROPS, TO_INPUT, TO_BOXES):
    batching.primitive_batchers[_primitive] = partial(_one_by_one, _primitive)
for _primitive in (TO_INPUT, TO_BOXES):
    ad.primitive_jvps[_primitive] = _no_second


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cropped(crop: Crop, input: Any, boxes: Any, indices: Any) -> Any:
    return CROPS.bind(input, boxes, indices, pooling=crop)[0]


def _forth(crop: Crop, input: Any, boxes: Any, indices: Any) -> tuple[Any, Any]:
    arrays = input.value, boxes.value, indices.value
    wanted = tuple(() if each.perturbed else None for each in (input, boxes))
    return _cropped(crop, *arrays), (arrays, wanted)


def _back(crop: Crop, kept: Any, grad: Any) -> tuple[Any, Any, None]:
    arrays, wanted = kept
    if type(grad) is jax.custom_derivatives.SymbolicZero:
        return None, None, None
    to_input, to_boxes = (
        None if want is None else primitive.bind(grad, *arrays, pooling=crop)[0]
        for primitive, want in zip((TO_INPUT, TO_BOXES), wanted, strict=True)
    )
    return to_input, to_boxes, None


_cropped.defvjp(_forth, _back, symbolic_zeros=True)
