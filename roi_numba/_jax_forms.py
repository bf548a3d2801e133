"""What every operator does with JAX arrays: check them while tracing, and bind a primitive."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _arrays, _op
from ._derivatives import Options
from ._jax_host import Pooling, stand_in
from ._jax_primitives import LINEAR, MAXIMUM
from ._memory import HOST


def pool(
    rule: _op.Rule,
    options: Options,
    input: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: Any,
    *,
    reduce: str,
    return_argmax: Any,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
) -> Any:
    """Pool `input` over `boxes` by `rule`; `options` are those of the y and of the x axis."""
    bins = _op.int_pair("output_size", output_size, minimum=1)
    if _op.flag("return_argmax", return_argmax) and reduce == "mean":
        raise ValueError('return_argmax must be False with reduce="mean", got True')
    look = check_boxes is None or _op.flag("check_boxes", check_boxes)
    call = entered(
        options,
        seen("input", input, False),
        boxes,
        spatial_scale,
        batch_indices,
        channel_axis,
        look,
    )
    corners, images = corners_and_images(boxes, batch_indices)
    pooling = Pooling(
        rule=rule,
        options=options,
        spatial_scale=float(spatial_scale),
        reduce=reduce,
        channel_axis=call.channel_axis,
        output_size=bins,
        map_shape=call.features.shape,
        check=None if check_boxes is None else bool(check_boxes),
        rows=batch_indices is None and not isinstance(boxes, (list, tuple)),
    )
    operands = as_jax(input), corners, images
    if reduce == "mean":
        (output,) = LINEAR["bins", ("map",)].bind(*operands, pooling=pooling)
        return output
    wide = jax.dtypes.canonicalize_dtype(np.int64) == np.int64
    found = MAXIMUM.bind(
        *operands, pooling=pooling, named=bool(return_argmax), narrow=return_argmax and not wide
    )
    if not return_argmax:
        return found[0]
    output, words = found
    argmax = jax.lax.bitcast_convert_type(words, np.int64) if wide else words[..., 0]
    return output, argmax


def entered(
    options: Options,
    input: Any,
    boxes: Any,
    spatial_scale: Any,
    batch_indices: Any,
    channel_axis: Any,
    look: bool,
) -> _op.Call:
    """Check what is seen of all arguments."""
    several = isinstance(boxes, (list, tuple))
    return _op.enter(
        HOST,
        options,
        input,
        [seen("boxes", part, look) for part in boxes] if several else seen("boxes", boxes, look),
        spatial_scale,
        None if batch_indices is None else seen("batch_indices", batch_indices, look),
        channel_axis,
        look,
    )


def corners_and_images(boxes: Any, batch_indices: Any) -> tuple[Any, Any]:
    """Boxes in any form, checked, as JAX arrays (K, 4) and (K,)."""
    if isinstance(boxes, (list, tuple)):
        counts = [len(part) for part in boxes]
        images = jnp.asarray(np.repeat(np.arange(len(boxes), dtype=np.int32), counts))
        return _joined(boxes), images
    if batch_indices is not None:
        return as_jax(boxes), as_jax(batch_indices)
    rows = as_jax(boxes)
    corners = jax.lax.slice_in_dim(rows, 1, 5, axis=1)
    return corners, jax.lax.index_in_dim(rows, 0, axis=1, keepdims=False)


def seen(name: str, array: Any, look: bool) -> Any:
    """An array as checks may see it: with its values if they are there and `look` is true."""
    if name == "boxes" and isinstance(array, (list, tuple)):
        return array
    if not isinstance(array, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be a JAX or NumPy array, got {type(array).__name__}")
    if look and not isinstance(array, jax.core.Tracer):
        return np.asarray(array)
    return stand_in(array.shape, array.dtype)


def as_jax(array: Any) -> Any:
    return jnp.asarray(_arrays.native(array)) if isinstance(array, np.ndarray) else array


def _joined(boxes: Any) -> Any:
    """The boxes of all images as one array, in a dtype whose geometry is that of all of them."""
    parts = [
        as_jax(np.asarray(part) if isinstance(part, (list, tuple)) else part) for part in boxes
    ]
    dtypes = {part.dtype for part in parts if len(part)} or {jnp.zeros(()).dtype}
    if len(dtypes) == 1:
        dtype = dtypes.pop()
    elif all(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
        dtype = jnp.result_type(*dtypes)
    elif jax.dtypes.canonicalize_dtype(np.float64) == np.float64:
        dtype = np.dtype(np.float64)
    else:
        names = " and ".join(sorted(map(str, dtypes)))
        raise TypeError(f"boxes must be of one dtype unless jax_enable_x64 is set, got {names}")
    parts = [part.reshape(-1, 4).astype(dtype) for part in parts]
    return jnp.concatenate(parts) if parts else jnp.zeros((0, 4))
