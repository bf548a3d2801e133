"""Derivatives of the operators on JAX arrays: in every mode and order, and those refused."""

from importlib import import_module

import numpy as np
import pytest

from operators import OPERATORS
from test_jax import (  # noqa: F401
    BOXES,
    COMPILED,
    IMAGES,
    MATRIX,
    MEANS_ONLY,
    SIZE,
    _x64,
    close,
    features,
    jax,
    jnp,
    pool,
    pooling,
    same_bits,
    smooth,
    upstream,
)

check_grads = import_module("jax.test_util").check_grads


@COMPILED
@MATRIX
def test_first_derivatives(operator, reduction, compiled):
    """Forward and reverse; of boxes that are rounded `test_results_…` compares the gradient."""
    options = smooth(operator)
    f = pool(operator, reduction, **(options or {}))

    def of_corners(x, corners):
        return f(x, corners, IMAGES)

    of_corners = jax.jit(of_corners) if compiled else of_corners
    x, corners = features(), jnp.asarray(BOXES[:, 1:])
    check_grads(lambda x: of_corners(x, corners), (x,), order=1, modes=("fwd", "rev"))
    if options is not None:
        check_grads(of_corners, (x, corners), order=1, modes=("fwd", "rev"))


@MATRIX
def test_forward_and_reverse_agree(operator, reduction):
    """Also where boxes are rounded, and their derivative goes straight through."""
    x, boxes = features(), jnp.asarray(BOXES)
    f = pool(operator, reduction)
    output, pull = jax.vjp(f, x, boxes)
    g, dx, db = upstream(output), upstream(x), upstream(boxes)
    for tangents in ((dx, 0 * db), (0 * dx, db)):
        rate = jax.jit(lambda *t: jax.jvp(f, (x, boxes), t)[1])(*tangents)
        gradients = pull(g)
        expected = sum(jnp.vdot(a, b) for a, b in zip(gradients, tangents, strict=True))
        np.testing.assert_allclose(jnp.vdot(rate, g), expected, rtol=1e-10, atol=1e-12)
    same_bits(jax.linearize(f, x, boxes)[1](0 * dx, db), rate)


@MATRIX
def test_second_derivatives_by_input(operator, reduction):
    f = pool(operator, reduction, **(smooth(operator) or {}))
    check_grads(lambda x: f(x, BOXES) ** 2, (features(),), order=2, modes=("fwd", "rev"))


@MEANS_ONLY
def test_second_derivatives_by_input_and_gradient(operator, reduction):
    """What gradient penalties need: both gradients, differentiated once more but not by boxes."""
    f = pool(operator, reduction, **(smooth(operator) or {}))
    x, boxes = features(), jnp.asarray(BOXES)

    def gradients(x, g):
        return jax.vjp(f, x, boxes)[1](g)

    g = upstream(f(x, boxes))
    check_grads(gradients, (x, g), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("reduction", ["mean", "max", "max_corner"])
def test_mixed_derivatives(reduction):
    """By boxes and input, in any order and mode, and three times: twice by input, once by boxes."""
    x, corners = features(), jnp.asarray(BOXES[:, 1:])
    f = pool(OPERATORS[1], reduction, sampling_ratio=2)

    def energy(x, corners):
        return (f(x, corners, IMAGES) ** 2).sum() / 2

    def by_boxes(x):
        return jax.grad(energy, 1)(x, corners)

    check_grads(by_boxes, (x,), order=1, modes=("fwd", "rev"))
    v, w = upstream(x), upstream(corners)
    rate = jax.jvp(lambda c: jax.grad(energy)(x, c), (corners,), (w,))[1]
    pulled = jax.vjp(lambda c: jax.grad(energy)(x, c), corners)[1](v)[0]
    np.testing.assert_allclose(jnp.vdot(rate, v), jnp.vdot(pulled, w), rtol=1e-10)
    close(pulled, jax.jvp(by_boxes, (x,), (v,))[1], 1e-10)
    step = 1e-6
    slope = sum(s * jax.grad(energy)(x, corners + s * step * w) for s in (1, -1)) / (2 * step)
    close(rate, slope, 1e-6)

    def curvature(c):
        return jnp.vdot(v, jax.jvp(lambda x: jax.grad(energy)(x, c), (x,), (v,))[1])

    check_grads(curvature, (corners,), order=1, modes=("fwd", "rev"))


@MATRIX
def test_second_derivatives_by_boxes_are_refused(operator, reduction):
    x, boxes, f = features(), jnp.asarray(BOXES), pool(operator, reduction)

    def total(boxes):
        return (f(x, boxes) ** 2).sum()

    def rate(boxes):
        return jax.jvp(f, (x, boxes), (0 * x, boxes))[1].sum()

    for second in (jax.hessian(total), jax.grad(rate), jax.jit(jax.jacfwd(jax.jacfwd(total)))):
        if operator.name == "roi_pool":
            assert not second(boxes).any()
        else:
            words = f"{operator.name} has no second derivative with respect to boxes"
            with pytest.raises(NotImplementedError, match=words):
                second(boxes)


def test_integer_arguments_have_no_gradient():
    x, boxes = features(np.int32), jnp.asarray(BOXES, np.int32)
    gradients = jax.grad(lambda *a: pooling.prroi_pool(*a, SIZE).sum(), (0, 1), allow_int=True)
    for gradient, argument in zip(gradients(x, boxes), (x, boxes), strict=True):
        assert (gradient.shape, gradient.dtype) == (argument.shape, jax.dtypes.float0)
