"""The operators under JAX's transformations: mapped, looped, trained, on devices."""

from textwrap import dedent

import numpy as np
import pytest

from operators import MAXIMA, MEANS, REDUCTIONS, ids
from subprocesses import run as run_python
from test_jax import (  # noqa: F401
    BOXES,
    COMPILED,
    IMAGES,
    SCALE,
    SHAPE,
    SIZE,
    _x64,
    close,
    features,
    jax,
    jnp,
    pool,
    pooling,
    same_bits,
)

MAPPED = [(*row, (0, 0), True) for row in REDUCTIONS]
MAPPED += [(*MEANS[-1], axes, False) for axes in ((0, None), (None, 0), (1, 2))]
MAPPED += [(*MAXIMA[1], axes, True) for axes in ((0, None), (None, 0), (1, 2))]


@pytest.mark.parametrize(("operator", "reduction", "axes", "compiled"), MAPPED, ids=ids)
def test_vmap(operator, reduction, axes, compiled):
    """Of results and of all first derivatives: what one call after the other gives."""
    n = 3
    x, boxes = features(), jnp.asarray(BOXES)
    if axes[0] is not None:
        x = jnp.stack([features() + 0.1 * i for i in range(n)], axes[0])
        x = x.at[(slice(None),) * axes[0] + (1,)].multiply(-1)
    if axes[1] is not None:
        moves = jnp.asarray(BOXES[None] + 0.37 * np.arange(n)[:, None, None] * [0, 1, 1, 1, 1])
        boxes = jnp.moveaxis(moves, 0, axes[1])
    f = pool(operator, reduction)

    def everything(x, boxes):
        output, pull = jax.vjp(f, x, boxes)
        motion = boxes.at[:, 0].set(0)
        rates = [jax.jvp(f, (x, boxes), t)[1] for t in ((x, 0 * motion), (0 * x, motion))]
        return output, pull(jnp.sin(output)), rates

    mapped = jax.vmap(everything, axes)
    found = (jax.jit(mapped) if compiled else mapped)(x, boxes)
    for i in range(n):
        given = zip((x, boxes), axes, strict=True)
        one = (a if axis is None else jnp.take(a, i, axis) for a, axis in given)
        for actual, wanted in zip(*map(jax.tree.leaves, (found, everything(*one))), strict=True):
            close(actual[i], wanted)


@COMPILED
def test_vmap_of_second_derivatives_and_of_images(compiled):
    """Jacobians map over directions; images are numbered within each call."""
    x, corners = features(shape=(2, 2, 5, 6)), jnp.asarray(BOXES[:, 1:])

    def energy(x, corners):
        return (pooling.prroi_pool(x, corners, 1, SCALE, batch_indices=IMAGES) ** 2).sum()

    mixed = jax.jacfwd(jax.grad(energy, 1)), jax.jacrev(jax.grad(energy, 1))
    one, other = ((jax.jit(f) if compiled else f)(x, corners) for f in mixed)
    close(one, other)
    assert one.any()

    def pooled(x, images):
        return pooling.prroi_pool(x, corners, 1, SCALE, batch_indices=images, check_boxes=False)

    images = jnp.array([[0, 1, 0, 1], [1, 2, -1, 7], [0, 0, 1, 3]])
    maps = jnp.stack([x, 2 * x, -x])
    mapped = (jax.jit(jax.vmap(pooled)) if compiled else jax.vmap(pooled))(maps, images)
    for i in range(3):
        close(mapped[i], pooled(maps[i], images[i]))
    assert not mapped[1, 1:].any()
    nested = jax.vmap(jax.vmap(pooled, (None, 0)), (0, None))(maps, images)
    close(nested[2, 1], mapped[1] * -0.5)


def test_control_flow_and_recomputation():
    x, boxes = features(), jnp.asarray(BOXES)

    def loss(boxes):
        return (pooling.roi_align(x, boxes, SIZE, SCALE, sampling_ratio=2) ** 2).mean()

    def step(boxes, _):
        return boxes - jax.grad(loss)(boxes).at[:, 0].set(0), loss(boxes)

    losses = jax.lax.scan(step, boxes, None, length=3)[1]
    assert losses[2] < losses[1] < losses[0]
    with jax.disable_jit():
        close(jax.lax.scan(step, boxes, None, length=3)[1], losses)
    same_bits(jax.grad(jax.checkpoint(loss))(boxes), jax.grad(loss)(boxes))
    assert jax.lax.cond(True, loss, lambda _: 0.0, boxes) == losses[0]


def test_equal_calls_are_compiled_once():
    traced = []

    @jax.jit
    def inner(x, boxes):
        traced.append(1)
        return pooling.roi_pool(x, boxes, 2)

    first = jax.make_jaxpr(lambda x: pooling.roi_align(x, BOXES, 2, sampling_ratio=(1, 2)))(
        features()
    )
    again = jax.make_jaxpr(lambda x: pooling.roi_align(x, BOXES, 2, sampling_ratio=(1, 2)))(
        features()
    )
    assert first.eqns[-1].params == again.eqns[-1].params
    assert hash(first.eqns[-1].params["pooling"]) == hash(again.eqns[-1].params["pooling"])
    for i in range(3):
        inner(features() + i, jnp.asarray(BOXES))
    assert len(traced) == 1


def test_no_gradient_reaches_what_is_not_read():
    gradient = jax.jit(jax.grad(lambda x: pooling.roi_pool(x, BOXES[:1], 1, SCALE).sum()))
    assert np.count_nonzero(gradient(features())) == SHAPE[1]


def test_boxes_and_maps_are_trained():
    """A jitted step moves a box onto the bright patch of a map, and makes the patch brighter."""
    y, x = np.mgrid[:24, :24]
    bump = np.exp(-((x - 14.0) ** 2 + (y - 9.0) ** 2) / 18)[None, None]

    def loss(parameters, scale):
        boxes = parameters["center"][None, [0, 1, 0, 1]] + jnp.array([-3.0, -3, 3, 3])
        pooled = pooling.prroi_pool(
            scale * parameters["map"], boxes, 3, batch_indices=jnp.zeros(1, int)
        )
        return -(pooled * jnp.ones(3)).mean()

    @jax.jit
    def step(parameters):
        value, gradients = jax.value_and_grad(loss)(parameters, 1.0)
        rates = {"center": 20.0, "map": 0.01}
        moved = {name: parameters[name] - rates[name] * gradients[name] for name in rates}
        return moved, value

    parameters = {"center": jnp.array([10.0, 12.0]), "map": jnp.asarray(bump)}
    losses = []
    for _ in range(60):
        parameters, value = step(parameters)
        losses.append(float(value))
    assert np.abs(parameters["center"] - np.array([14, 9])).max() < 0.3
    assert losses[-1] < 1.2 * losses[0] < 0
    assert parameters["map"].max() > bump.max()


def test_large_arrays_on_few_processors():
    """Dispatched asynchronously, call upon call, on two processors and two devices: no deadlock."""
    code = """
        import os, threading
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        import jax, jax.numpy as jnp, numpy as np
        import roi_numba, roi_numba.jax as pooling

        maps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 128, 128)), jnp.float32)
        boxes = jnp.array([[0, 9.0, 7.0, 90.0, 80.0], [1, 3.0, 40.0, 60.0, 120.0]] * 20)

        @jax.jit
        def step(maps, boxes):
            def loss(maps, boxes):
                return (pooling.prroi_pool(jnp.tanh(maps), boxes, 32) ** 2).mean()

            gradients = jax.grad(loss, (0, 1))(maps, boxes)
            return maps - gradients[0], boxes - gradients[1]

        def train():
            state = maps, boxes
            for _ in range(10):
                state = step(*state)
            jax.block_until_ready(state)

        threads = [threading.Thread(target=train) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        mesh = jax.sharding.Mesh(np.array(jax.devices()), "d")
        shards = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
        apart = jax.device_put(maps, shards), jax.device_put(boxes, shards)
        expected = roi_numba.prroi_pool(np.asarray(maps), np.asarray(boxes), 7)
        for call in (pooling.prroi_pool, jax.jit(pooling.prroi_pool, static_argnums=2)):
            np.testing.assert_array_equal(call(*apart, 7), expected)
        other = [jax.device_put(a, jax.devices()[1]) for a in (maps, boxes)]
        assert pooling.prroi_pool(*other, 7).devices() == {jax.devices()[1]}
        print("done")
    """
    flags = "--xla_force_host_platform_device_count=2"
    assert "done" in run_python(dedent(code), XLA_FLAGS=flags)
