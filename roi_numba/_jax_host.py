"""What compiled JAX code calls back: NumPy arrays in and out, nothing of JAX in between.

`jax.pure_callback` would first make JAX arrays of them, on a thread that XLA waits for: a copy, and
a way to hang that users have met (jax-ml/jax#24255).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _derivatives, _op
from ._memory import HOST


class Pooling(NamedTuple):
    """All that is known of a call when it is traced."""

    rule: _op.Rule
    options: _derivatives.Options
    spatial_scale: float
    reduce: str
    channel_axis: int
    output_size: tuple[int, int]
    map_shape: tuple[int, ...]
    check: bool | None
    """None: only outside jit, where an exception is nothing unusual."""
    rows: bool
    """Images and corners were rows of five numbers: for what is said of bad ones."""

    def bins_shape(self, boxes: int) -> tuple[int, ...]:
        """Shape of a result."""
        channels = self.map_shape[self.channel_axis]
        if self.channel_axis == 1:
            return boxes, channels, *self.output_size
        return boxes, *self.output_size, channels


def _images(
    pooling: Pooling, corners: NDArray[Any], images: NDArray[Any], check: bool
) -> NDArray[np.int64]:
    """The image of each box, -1 for those that are to give zeros."""
    boxes = _arrays.widened(_arrays.host("boxes", corners))
    numbers: Any = _arrays.widened(_arrays.host("batch_indices", images))
    if pooling.rows:
        boxes, numbers = np.column_stack([numbers, boxes]), None
    found: NDArray[np.int64] = HOST.regions(boxes, numbers, pooling.map_shape[0], check)[1]
    return found


def linear(
    result: str,
    others: tuple[str, ...],
    check: bool,
    pooling: Pooling,
    *operands: NDArray[Any],
) -> tuple[NDArray[Any]]:
    """What a linear primitive computes."""
    n = len(others)
    given = dict(zip(others, operands[:n], strict=True))
    corners, images, *words = operands[n:]
    images = _images(pooling, corners, images, check)
    argmax = words[0].view(np.int64)[..., 0] if words else None
    features = given.get("map")
    if features is None:  # of a map that is only to be written nothing is read but its shape
        features = stand_in(pooling.map_shape, given["bins"].dtype)
    rule, options, scale, size = (*pooling[:2], pooling.spatial_scale, pooling.output_size)
    common: dict[str, Any] = {
        "reduce": pooling.reduce,
        "batch_indices": images,
        "channel_axis": pooling.channel_axis,
        "check_boxes": False,
    }
    bins, motion = given.get("bins"), given.get("motion")
    if bins is None and motion is not None:
        array = _derivatives.rate(
            rule, options, features, corners, motion, size, scale, **common, argmax=argmax
        )
    elif bins is None and argmax is not None:
        array = _derivatives.at_argmax(
            rule, options, features, corners, scale, **common, argmax=argmax
        )
    elif bins is None:
        array = _op.forward(
            rule, options, features, corners, size, scale, **common, return_argmax=False, out=None
        )
    elif motion is not None:
        array = _derivatives.rate_backward(
            rule, options, bins, features, corners, motion, scale, **common, argmax=argmax
        )
    else:
        wanted = "input" if result == "map" else "boxes"
        gradients = _derivatives.backward(
            rule, options, bins, features, corners, scale, **common, needs=wanted, argmax=argmax
        )
        array = gradients[wanted == "boxes"]
    return (array,)


def maximum(
    check: bool, pooling: Pooling, *operands: NDArray[Any], named: bool, narrow: bool
) -> tuple[NDArray[Any], ...]:
    """The maximum, and if `named` its winners."""
    features, corners, images = operands
    pooled = _op.forward(
        pooling.rule,
        pooling.options,
        features,
        corners,
        pooling.output_size,
        pooling.spatial_scale,
        reduce=pooling.reduce,
        return_argmax=named,
        batch_indices=_images(pooling, corners, images, check),
        channel_axis=pooling.channel_axis,
        check_boxes=False,
        out=None,
    )
    if not named:
        return (pooled,)
    output, argmax = pooled
    if narrow and argmax.size and argmax.max() > np.iinfo(np.int32).max:
        raise OverflowError(
            f"argmax must fit int32 unless jax_enable_x64 is set, got winner {argmax.max()}"
        )
    return output, argmax.view(np.int32).reshape(*argmax.shape, 2)


def stand_in(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array that has a shape and a dtype, and one zero for all elements."""
    return np.broadcast_to(np.zeros((), dtype), shape)
