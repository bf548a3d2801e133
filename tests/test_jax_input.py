"""Bad and empty input of the operators on JAX arrays: the same sentences, or zeros."""

from functools import partial

import numpy as np
import pytest

import roi_numba
from operators import MAXIMA, MEANS
from test_jax import (  # noqa: F401
    BOXES,
    COMPILED,
    EVERY_OPERATOR,
    _x64,
    close,
    features,
    jax,
    jnp,
    pool,
    pooling,
    same_bits,
)

BAD_BOXES = [
    ((1, 3), np.nan, "boxes must be finite, got"),
    ((2, 0), 2, "batch index in boxes must be in"),
    ((3, 0), 0.5, "batch index in boxes must be whole numbers"),
]


ALL_BAD = [pytest.param(*MEANS[-1], *bad, id=bad[2]) for bad in BAD_BOXES]
ONE_BAD = [pytest.param(*row, *BAD_BOXES[0], id=row[0].name) for row in MAXIMA[:2]]


@pytest.mark.parametrize(("operator", "reduction", "place", "value", "words"), ALL_BAD + ONE_BAD)
def test_bad_boxes(operator, reduction, place, value, words):
    """Errors outside jit and where they are asked for, else zeros and no gradient."""
    x, good = features(), jnp.asarray(BOXES)
    bad, f = good.at[place].set(value), pool(operator, reduction)

    def everything(x, boxes, f=f):
        output, pull = jax.vjp(f, x, boxes)
        motion = jnp.ones_like(boxes).at[:, 0].set(0)
        rates = [jax.jvp(f, (x, boxes), t)[1] for t in ((x, 0 * motion), (0 * x, motion))]
        second = jax.jvp(lambda m: jax.vjp(f, m, boxes)[1](output), (x,), (x,))[1]
        return pull(output), second, output, pull(output)[1], rates

    for call in (f, everything, lambda x, boxes: jax.grad(lambda b: f(x, b).sum())(boxes)):
        with pytest.raises((ValueError, IndexError), match=words):
            call(x, bad)
    checking = jax.jit(pool(operator, reduction, check_boxes=True))
    same_bits(checking(x, good), f(x, good))
    with pytest.raises(Exception, match=words):
        jax.block_until_ready(checking(x, bad))
    k = place[0]
    unchecked = pool(operator, reduction, check_boxes=False)
    without = jax.tree.leaves(everything(x, jnp.delete(good, k, axis=0)))
    for found in (jax.jit(everything)(x, bad), everything(x, bad, unchecked)):
        for actual, wanted in zip(jax.tree.leaves(found), without, strict=True):
            if actual.shape != x.shape:
                assert not actual[k].any()
                actual = jnp.delete(actual, k, axis=0)
            close(actual, wanted)


CALLS = [
    lambda m, x, b: m.roi_align(x, b, 0),
    lambda m, x, b: m.roi_align(x, b, "7"),
    lambda m, x, b: m.roi_align(x, b, 2, -1.0),
    lambda m, x, b: m.roi_align(x, b, 2, "1"),
    lambda m, x, b: m.roi_align(x, b, 2, sampling_ratio=1.5),
    lambda m, x, b: m.roi_align(x, b, 2, aligned=1),
    lambda m, x, b: m.roi_align(x, b, 2, reduce="sum"),
    lambda m, x, b: m.roi_align(x, b, 2, return_argmax=True),
    lambda m, x, b: m.roi_align(x, b, 2, return_argmax=1),
    lambda m, x, b: m.roi_align(x, b, 2, channel_axis=2),
    lambda m, x, b: m.roi_align(x, b, 2, check_boxes="yes"),
    lambda m, x, b: m.roi_align(x, b, 2, batch_indices=b[:, 0]),
    lambda m, x, b: m.roi_align(x, b[:, 1:], 2, batch_indices=b[:3, 0]),
    lambda m, x, b: m.roi_align(x, b[:, 1:], 2),
    lambda m, x, b: m.roi_align(x, b[0], 2),
    lambda m, x, b: m.roi_align(x, [b[:, 1:]], 2),
    lambda m, x, b: m.roi_align(x, [b[:, 1:], b], 2),
    lambda m, x, b: m.roi_align(x, [b[:2, 1:], b[2:, 1:]], 2, batch_indices=b[:, 0]),
    lambda m, x, b: m.roi_align(x, [[[1, 2], [3]], b[2:, 1:]], 2),
    lambda m, x, b: m.roi_align(x, [b[:2, 1:], b[:2, 1:] > 0], 2),
    lambda m, x, b: m.roi_align(x, b > 0, 2),
    lambda m, x, b: m.roi_align(x[0], b, 2),
    lambda m, x, b: m.roi_align(x[:0], b, 2),
    lambda m, x, b: m.roi_align(x + 0j, b, 2),
    lambda m, x, b: m.roi_pool(x, b, 2, rounding="up"),
    lambda m, x, b: m.roi_pool(x, b, 2, bins="few"),
    lambda m, x, b: m.roi_warp(x, b, 2, sampling_ratio=0),
    lambda m, x, b: m.roi_warp(x, b, 2, quantize=None),
    lambda m, x, b: m.prroi_pool(x, b, 2, aligned=None),
]


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_errors_are_those_of_the_array_level(call):
    x = np.asarray(features())
    with pytest.raises((TypeError, ValueError)) as wanted:
        call(roi_numba, x, BOXES)
    for function in (call, lambda *a: jax.make_jaxpr(partial(call, pooling))(*a[1:])):
        with pytest.raises(type(wanted.value)) as found:
            function(pooling, jnp.asarray(x), jnp.asarray(BOXES))
        assert str(found.value) == str(wanted.value)


def test_what_is_no_array():
    x, boxes = features(), jnp.asarray(BOXES)
    with pytest.raises(TypeError, match="input must be a JAX or NumPy array, got list"):
        pooling.roi_align([[1.0]], boxes, 2)
    with pytest.raises(TypeError, match="boxes must be a JAX or NumPy array, got str"):
        pooling.roi_align(x, "boxes", 2)
    with pytest.raises(TypeError, match="batch_indices must be a JAX or NumPy array, got list"):
        pooling.roi_align(x, boxes[:, 1:], 2, batch_indices=[0, 1, 0, 1])
    with pytest.raises(TypeError, match="spatial_scale must be a number, got"):
        jax.jit(lambda s: pooling.roi_align(x, boxes, 2, s))(0.5)
    swapped = np.asarray(x, ">f8"), np.asarray(BOXES, ">f8")
    same_bits(pooling.roi_align(*swapped, 2), pooling.roi_align(x, boxes, 2))


@COMPILED
@EVERY_OPERATOR
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (2, 0, 9, 11), (0, 3, 9, 11)])
def test_nothing_to_pool(operator, shape, compiled):
    x, boxes = jnp.zeros(shape), jnp.zeros((0 if shape[1] else 2, 5))
    f = getattr(pooling, operator.name)

    def everything(x, boxes):
        output, pull = jax.vjp(lambda x, boxes: f(x, boxes, 2), x, boxes)
        return output, *pull(output), jax.jvp(lambda b: f(x, b, 2), (boxes,), (boxes,))[1]

    output, *rest = (jax.jit(everything) if compiled else everything)(x, boxes)
    assert output.shape == (len(boxes), shape[1], 2, 2)
    assert [a.shape for a in rest] == [x.shape, boxes.shape, output.shape]
    assert not any(a.any() for a in (output, *rest))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_the_array_level_is_not_traced(transform):
    def pool(x):
        return roi_numba.roi_align(x, BOXES, 2).sum()

    x = features()
    with pytest.raises(TypeError, match=r"input must not be traced here: use roi_numba\.jax"):
        transform(pool)(x[None] if transform is jax.vmap else x)
