"""Pooling as JAX primitives, which know each other as derivatives and transposes.

A mean is linear in the map, and so is a maximum whose winners are named; how either changes as the
boxes move is linear in the map and in the motion.  Two numbers, linear in every array they name,

    <bins, pooled(map)>        and        <bins, rate(map, motion)>

are all there is to differentiate.  Leave one array out, and what remains is a linear map to it:

====================  ===========================================================
from                  to
====================  ===========================================================
map                   bins: the mean, or what the winners have in this map
bins                  map: the gradient
map, motion           bins: the rate of change as the boxes move
bins, motion          map: the gradient of the rate
map, bins             motion: the gradient to the boxes
====================  ===========================================================

Each is a primitive.  To transpose one is to swap the result with an operand; to differentiate by
the boxes leads from the first two to the others, with the motion as one more operand.  So forward
and reverse mode, in any order and as often as wanted, need no rule per operator.

`_jax_host` computes them.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from numpy.typing import NDArray

from . import _jax_host
from ._jax_callback import on_the_host
from ._jax_host import Pooling

SPACES = "map", "bins", "motion"
"""Operands come in this order; corners, images and, of maxima, the words of argmax follow."""


def _primitive(
    name: str,
    others: tuple[str, ...],
    results: tuple[str, ...],
    shapes: Callable[..., Any],
    on_host: Callable[..., tuple[NDArray[Any], ...]],
) -> Primitive:
    """A primitive that is computed on the host and can be mapped."""
    primitive = on_the_host(name, shapes, on_host)

    def batch(operands: Any, dims: Any, *, pooling: Pooling, **static: Any) -> Any:
        """Many calls as one with all their boxes, and if need be all their images."""
        kinds = (*others, "corners", "images", "words")[: len(operands)]
        mapped = [kind for kind, dim in zip(kinds, dims, strict=True) if dim is not None]
        n_images = pooling.map_shape[0] if "map" in (*results, *mapped) else None
        merged = _merged(tuple(operands), kinds=kinds, dims=tuple(dims), n_images=n_images)
        size = next(a.shape[dim] for a, dim in zip(operands, dims, strict=True) if dim is not None)
        if n_images is not None:
            shape = size * n_images, *pooling.map_shape[1:]
            pooling = pooling._replace(map_shape=shape, rows=False)
        outputs = primitive.bind(*merged, pooling=pooling, **static)
        parted = [a.reshape(size, a.shape[0] // size, *a.shape[1:]) for a in outputs]
        return parted, [0] * len(parted)

    batching.primitive_batchers[primitive] = batch
    return primitive


@partial(jax.jit, static_argnames=("kinds", "dims", "n_images"))
def _merged(
    operands: tuple[Any, ...],
    *,
    kinds: tuple[str, ...],
    dims: tuple[int | None, ...],
    n_images: int | None,
) -> list[Any]:
    """Operands of many calls as those of one: as many boxes, and unless it is None images, of each.

    In `jit` because outside of it every step would be compiled on its own.
    """
    size = next(a.shape[dim] for a, dim in zip(operands, dims, strict=True) if dim is not None)
    merged = []
    for kind, array, dim in zip(kinds, operands, dims, strict=True):
        if kind != "map" or n_images is not None:
            if dim is None:
                array = jnp.broadcast_to(array, (size, *array.shape))
            else:
                array = jnp.moveaxis(array, dim, 0)
            if kind == "images" and n_images is not None:
                # A bad number must not become one of the next call's.
                whole = array.astype(jnp.int32)
                good = (whole.astype(array.dtype) == array) & (whole >= 0) & (whole < n_images)
                first = n_images * jnp.arange(size, dtype=jnp.int32)[:, None]
                array = jnp.where(good, whole + first, -1)
            array = array.reshape(size * array.shape[1], *array.shape[2:])
        merged.append(array)
    return merged


def _linear(result: str, *others: str) -> Primitive:
    n = len(others)

    def shapes(pooling: Pooling, *avals: Any) -> Any:
        corners = avals[n]
        if result == "map":
            yield pooling.map_shape, avals[others.index("bins")].dtype
        elif result == "bins":
            yield pooling.bins_shape(corners.shape[0]), _pooled_dtype(avals[0])
        else:
            yield corners.shape, corners.dtype

    primitive = _primitive(
        f"{'_'.join(others)}_to_{result}",
        others,
        (result,),
        shapes,
        partial(_jax_host.linear, result, others),
    )

    def jvp(primals: Any, tangents: Any, *, pooling: Pooling) -> Any:
        """Linear in each of `others`; the boxes move, the winners of a maximum stay."""
        outputs = primitive.bind(*primals, pooling=pooling)
        terms = []
        for i in range(n):
            if type(tangents[i]) is not ad.Zero:
                operands = *primals[:i], tangents[i], *primals[i + 1 :]
                terms += primitive.bind(*operands, pooling=pooling)
        if type(tangents[n]) is not ad.Zero and pooling.rule.slope is not None:
            if "motion" in (result, *others):
                raise NotImplementedError(
                    f"{pooling.rule.name} has no second derivative with respect to boxes"
                )
            moving = LINEAR[result, (*others, "motion")]
            operands = *primals[:n], tangents[n], *primals[n:]
            terms += moving.bind(*operands, pooling=pooling)
        return outputs, [_sum(terms, outputs[0])]

    def transpose(cotangents: Any, *operands: Any, pooling: Pooling) -> Any:
        """The operand that is asked for and the result change places."""
        (wanted,) = (i for i in range(n) if ad.is_undefined_primal(operands[i]))
        answer: list[Any] = [None] * len(operands)
        if type(cotangents[0]) is ad.Zero:
            answer[wanted] = ad.Zero(operands[wanted].aval)
            return answer
        given = {**dict(zip(others, operands, strict=False)), result: cotangents[0]}
        del given[others[wanted]]
        order = tuple(space for space in SPACES if space in given)
        back = LINEAR[others[wanted], order]
        operands = *(given[space] for space in order), *operands[n:]
        (answer[wanted],) = back.bind(*operands, pooling=pooling)
        return answer

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    return primitive


def _pooled_dtype(aval: Any) -> Any:
    """Dtype of what is pooled from a map."""
    return aval.dtype if jnp.issubdtype(aval.dtype, jnp.floating) else jnp.float32


def _sum(terms: list[Any], like: Any) -> Any:
    """The sum of tangents, symbolically zero if there are none."""
    return reduce(ad.add_tangents, terms, ad.Zero(jax.core.ShapedArray(like.shape, like.dtype)))


LINEAR = {
    (result, tuple(others)): _linear(result, *others)
    for result, *others in (
        ("bins", "map"),
        ("map", "bins"),
        ("bins", "map", "motion"),
        ("map", "bins", "motion"),
        ("motion", "map", "bins"),
    )
}


def _maximum_shapes(pooling: Pooling, features: Any, corners: Any, _: Any, **static: bool) -> Any:
    shape = pooling.bins_shape(corners.shape[0])
    yield shape, _pooled_dtype(features)
    if static["named"]:
        yield (*shape, 2), np.int32


MAXIMUM = _primitive("maximum", ("map",), ("bins", "words"), _maximum_shapes, _jax_host.maximum)
"""The maximum itself, not linear.  If `named` its winners too: int64 as two int32, which are there
without jax_enable_x64 as well.  `narrow`: they will have to fit one."""


def _maximum_jvp(
    primals: Any, tangents: Any, *, pooling: Pooling, named: bool, narrow: bool
) -> Any:
    """The winners, found once, are what moves."""
    moves = [type(tangent) is not ad.Zero for tangent in tangents]
    moves[1] &= pooling.rule.slope is not None
    needed = named or moves[0] or moves[1]
    outputs = MAXIMUM.bind(*primals, pooling=pooling, named=needed, narrow=narrow)
    terms = []
    if moves[0]:
        operands = tangents[0], *primals[1:], outputs[1]
        terms += LINEAR["bins", ("map",)].bind(*operands, pooling=pooling)
    if moves[1]:
        operands = primals[0], tangents[1], *primals[1:], outputs[1]
        terms += LINEAR["bins", ("map", "motion")].bind(*operands, pooling=pooling)
    rates = [_sum(terms, outputs[0])]
    if not named:
        return outputs[:1], rates
    words = jax.core.ShapedArray(outputs[1].shape, jax.dtypes.float0)
    return outputs, [*rates, ad.Zero(words)]


ad.primitive_jvps[MAXIMUM] = _maximum_jvp
