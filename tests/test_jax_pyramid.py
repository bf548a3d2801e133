"""Pyramids and crops of JAX arrays: the array level's numbers, in jit, with gradients."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest

import roi_numba
from strategies import values
from test_jax import (  # noqa: F401
    COMPILED,
    MATRIX,
    MAXIMA_ONLY,
    _narrow,
    _x64,
    close,
    jax,
    jnp,
    pooling,
    same_bits,
    smooth,
    upstream,
)

check_grads = import_module("jax.test_util").check_grads

SCALES = [1 / 2, 1 / 4, (1 / 8, 0.11)]
MAPS = [values(i, (2, 2, *size), np.float64) for i, size in enumerate([(8, 9), (4, 5), (3, 3)])]
LEVELS = np.array([0, 2, 1, 1])
# No sample on a pixel, none on the edge of its map.
BOXES = np.array(
    [(0, 1.3, 0.9, 8.3, 6.7), (1, 2.3, 3.1, 17.9, 16.3), (1, 0.7, 1.1, 9.7, 8.3),
     (0, -1.7, 2.9, 6.1, 11.3)]
)  # fmt: skip
ALL = {"spatial_scales": SCALES, "levels": LEVELS}


def on_jax(operator, maps, boxes, **options):
    function = getattr(pooling, operator.name)
    return pooling.pyramid_pool(function, maps, boxes, 2, **ALL | options)


def on_arrays(function, operator, *arguments, **options):
    return function(operator.function, *arguments, **ALL | options)


@COMPILED
@MATRIX
def test_pyramids(operator, reduction, compiled):
    options = operator.reductions[reduction]

    def both(maps, boxes, grad):
        output, pull = jax.vjp(partial(on_jax, operator, **options), maps, boxes)
        return output, pull(grad)

    expected = on_arrays(roi_numba.pyramid_pool, operator, MAPS, BOXES, 2, **options)
    grad = values(3, expected.shape, np.float64)
    maps = list(map(jnp.asarray, MAPS))
    output, (to_maps, to_boxes) = (jax.jit(both) if compiled else both)(
        maps, jnp.asarray(BOXES), jnp.asarray(grad)
    )
    same_bits(output, expected)
    wanted = on_arrays(roi_numba.pyramid_pool_backward, operator, grad, MAPS, BOXES, **options)
    # Rounding of an own order, where the scales along x and y differ.
    for found, gradient in zip([*to_maps, to_boxes], [*wanted[0], wanted[1]], strict=True):
        close(found, gradient)


@pytest.mark.parametrize("how", ["sum", "mean", "max", "concat"])
@MATRIX
def test_all_levels(operator, reduction, how):
    options = operator.reductions[reduction] | {"reduce_levels": how, "levels": None}
    maps, boxes = list(map(jnp.asarray, MAPS)), jnp.asarray(BOXES)
    output, pull = jax.vjp(partial(on_jax, operator, **options), maps, boxes)
    same_bits(output, on_arrays(roi_numba.pyramid_pool, operator, MAPS, BOXES, 2, **options))
    grad = upstream(output)
    wanted = on_arrays(
        roi_numba.pyramid_pool_backward, operator, np.asarray(grad), MAPS, BOXES, **options
    )
    to_maps, to_boxes = pull(grad)
    for found, gradient in zip([*to_maps, to_boxes], [*wanted[0], wanted[1]], strict=True):
        close(found, gradient)


@MATRIX
def test_derivatives(operator, reduction):
    """In both modes."""
    options = operator.reductions[reduction] | (smooth(operator) or {})
    corners, images = jnp.asarray(BOXES[:, 1:]), BOXES[:, 0].astype(int)
    f = partial(on_jax, operator, batch_indices=images, **options)
    maps = list(map(jnp.asarray, MAPS))
    if smooth(operator) is None:
        check_grads(lambda maps: f(maps, corners), (maps,), order=1, modes=("fwd", "rev"))
    else:
        check_grads(f, (maps, corners), order=1, modes=("fwd", "rev"))


def test_second_derivatives():
    """By the maps; with the boxes once, and twice never."""
    maps, corners = list(map(jnp.asarray, MAPS)), jnp.asarray(BOXES[:, 1:])
    more = ALL | {"batch_indices": BOXES[:, 0].astype(int), "sampling_ratio": 2}

    def energy(first, corners):
        maps_now = [first, *maps[1:]]
        pooled = pooling.pyramid_pool(pooling.roi_align, maps_now, corners, 1, **more)
        return (pooled**2).sum()

    check_grads(lambda m: jax.grad(energy)(m, corners), (maps[0],), order=1, modes=("rev",))
    check_grads(lambda m: jax.grad(energy, 1)(m, corners), (maps[0],), order=1, modes=("rev",))
    with pytest.raises(NotImplementedError, match="no second derivative with respect to boxes"):
        jax.hessian(energy, 1)(maps[0], corners)


@MAXIMA_ONLY
def test_argmax(operator, reduction):
    options = operator.reductions[reduction] | {"return_argmax": True}
    expected = on_arrays(roi_numba.pyramid_pool, operator, MAPS, BOXES, 2, **options)
    for found, one in zip(on_jax(operator, MAPS, BOXES, **options), expected, strict=True):
        same_bits(found, one)


def test_levels_of_the_paper():
    sides = np.array([10.0, 111, 112, 223, 224, 447, 448, 900], np.float32)
    boxes = jnp.asarray(np.column_stack([0 * sides, 0 * sides, 0 * sides, sides, sides]))
    maps = [np.full((1, 1, 2, 2), level, np.float32) for level in range(4)]

    def pooled(boxes):
        scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        return pooling.pyramid_pool(pooling.roi_pool, maps, boxes, 1, spatial_scales=scales).ravel()

    expected = [0, 0, 1, 1, 2, 2, 3, 3]
    for function in (pooled, jax.jit(pooled)):
        assert function(boxes).tolist() == expected
    both = jax.vmap(pooled)(jnp.stack([boxes, boxes[::-1]]))
    assert both.tolist() == [expected, expected[::-1]]


@pytest.mark.usefixtures("_narrow")
def test_boxes_in_any_form():
    order = np.argsort(BOXES[:, 0], kind="stable")
    rows, levels = BOXES[order].astype(np.float32), LEVELS[order]
    maps = [each.astype(np.float32) for each in MAPS]
    pool = partial(
        pooling.pyramid_pool, pooling.prroi_pool, maps, output_size=2, spatial_scales=SCALES,
        levels=levels,
    )  # fmt: skip
    expected = pool(boxes=rows)
    same_bits(pool(boxes=[rows[:2, 1:], rows[2:, 1:]]), expected)
    same_bits(pool(boxes=rows[:, 1:], batch_indices=rows[:, 0].astype(int)), expected)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"op": roi_numba.roi_align}, TypeError, "op must be an operator of roi_numba.jax"),
        ({"op": pooling.crop_and_resize}, TypeError, "op must be an operator of roi_numba.jax"),
        ({"inputs": []}, TypeError, "inputs must be a list of at least one array"),
        ({"inputs": [*MAPS[:2], MAPS[2][:1]]}, ValueError, r"inputs\[2\] must have 2 images"),
        ({"boxes": BOXES * np.nan}, ValueError, "must be"),
        ({"boxes": BOXES + 1}, IndexError, "batch index in boxes"),
        ({"levels": LEVELS + 1}, IndexError, "levels must be in"),
        ({"levels": [0, 1, 2, 0]}, TypeError, "levels must be a JAX or NumPy array"),
        ({"levels": None, "spatial_scales": [1, 1, 2]}, ValueError, "levels must be given"),
        ({"out": 0}, TypeError, "out"),
    ],
)
def test_refused(changed, error, message):
    arguments = {"op": pooling.roi_align, "inputs": MAPS, "boxes": BOXES, "output_size": 2} | ALL
    with pytest.raises(error, match=message):
        pooling.pyramid_pool(**arguments | changed)


def test_bad_boxes_in_jit():
    """Zeros, unless they are to be checked."""
    bad = BOXES.copy()
    bad[1, 0], bad[2, 3] = 9, np.nan

    def pooled(boxes, **more):
        return pooling.pyramid_pool(pooling.roi_align, MAPS, boxes, 2, **ALL, **more)

    expected = pooled(BOXES).at[1:3].set(0)
    same_bits(jax.jit(pooled)(bad), expected)
    same_bits(pooled(bad, check_boxes=False), expected)
    with pytest.raises(jax.errors.JaxRuntimeError, match="must be in"):
        jax.block_until_ready(jax.jit(partial(pooled, check_boxes=True))(bad))


# ---- crops ---------------------------------------------------------------------------------

IMAGE = values(2, (2, 9, 11, 3), np.float32)
CORNERS = np.array([[0.14, 0.21, 0.87, 0.66], [-0.2, 0.12, 0.61, 1.22], [0.91, 0.72, 0.11, 0.33]])
INDICES = np.array([1, 0, 1])


def crop(image, boxes, **options):
    return pooling.crop_and_resize(image, boxes, (3, 4), box_indices=INDICES, **options)


@COMPILED
@pytest.mark.parametrize(
    "options",
    [{}, {"method": "nearest"}, {"edges": "tensorflow"}, {"normalized": False, "channel_axis": 1}],
    ids=str,
)
def test_crops(options, compiled):
    image = np.moveaxis(IMAGE, -1, 1) if "channel_axis" in options else IMAGE

    def both(image, boxes, grad):
        crops, pull = jax.vjp(lambda *arrays: crop(*arrays, **options), image, boxes)
        return crops, pull(grad)

    expected = roi_numba.crop_and_resize(image, CORNERS, (3, 4), box_indices=INDICES, **options)
    grad = values(3, expected.shape, np.float32)
    both = jax.jit(both) if compiled else both
    crops, gradients = both(jnp.asarray(image), jnp.asarray(CORNERS), jnp.asarray(grad))
    same_bits(crops, expected)
    wanted = roi_numba.crop_and_resize_backward(
        grad, image, CORNERS, box_indices=INDICES, **options
    )
    for found, gradient in zip(gradients, wanted, strict=True):
        same_bits(found, gradient)


def test_crops_of_many_calls_and_of_integers():
    both = jnp.stack([CORNERS, CORNERS[::-1]])
    pixels = (abs(IMAGE) * 50).astype(np.uint8)
    found = jax.vmap(lambda boxes: crop(pixels, boxes))(both)
    for one, boxes in zip(found, both, strict=True):
        same_bits(one, crop(pixels, boxes))
    _, wanted = roi_numba.crop_and_resize_backward(
        np.ones((3, 3, 4, 3), np.float32), pixels, CORNERS, box_indices=INDICES
    )
    same_bits(jax.grad(lambda boxes: crop(pixels, boxes).sum())(both[0]), wanted)
    many = jax.vmap(jax.grad(lambda boxes: crop(pixels, boxes).sum()))(both)
    same_bits(many[0], wanted)


def test_what_crops_refuse():
    boxes = jnp.asarray(CORNERS)
    with pytest.raises(NotImplementedError, match="crop_and_resize has no second derivatives"):
        jax.grad(lambda b: jax.grad(lambda b: (crop(IMAGE, b) ** 2).sum())(b).sum())(boxes)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda b: crop(IMAGE, b), (boxes,), (boxes,))
    for changed, error, message in (
        ({"image": IMAGE[0]}, ValueError, r"input must have shape \(N, H, W, C\)"),
        ({"boxes": boxes[:, :3]}, ValueError, r"boxes must have shape \(K, 4\)"),
        ({"method": "cubic"}, ValueError, "method must be one of"),
        ({"channel_axis": 3}, ValueError, "channel_axis must be 1 or -1"),
    ):
        call = partial(crop, **{"image": IMAGE, "boxes": boxes} | changed)
        for function in (call, jax.jit(call) if "channel_axis" not in changed else call):
            with pytest.raises(error, match=message):
                function()
    bad = boxes.at[1, 2].set(jnp.nan)
    with pytest.raises(ValueError, match="boxes must be finite"):
        crop(IMAGE, bad)
    unchecked = jax.jit(lambda b: crop(IMAGE, b, extrapolation_value=7))(bad)
    assert (unchecked[1] == 7).all()
