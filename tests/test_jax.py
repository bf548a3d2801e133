"""The operators on JAX arrays: the same bits, gradients included, in every dtype and form."""

from importlib import import_module
from textwrap import dedent

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from operators import MAXIMA, MEANS, OPERATORS, REDUCTIONS, ids
from strategies import BOX_DTYPES, FLOATS, values
from subprocesses import run as run_python

jax = pytest.importorskip("jax", reason="JAX is not installed: extra jax")
jnp = jax.numpy
pooling = import_module("roi_numba.jax")

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=ids)
MEANS_ONLY = pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
MAXIMA_ONLY = pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
COMPILED = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])

SHAPE = (2, 5, 9, 11)
SIZE, SCALE = (3, 2), 0.5
BOXES = np.array(
    [
        (0, 3.1, 2.3, 15.7, 13.9),
        (1, 1.3, 5.3, 18.9, 11.1),
        (0, 9.3, 4.7, 12.7, 9.7),
        (1, -2.1, 3.7, 7.3, 21.9),
    ]
)
IMAGES = BOXES[:, 0].astype(np.int32)


@pytest.fixture(autouse=True)
def _x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def _narrow(_x64):
    jax.config.update("jax_enable_x64", False)


def features(dtype=np.float64, shape=SHAPE):
    return jnp.asarray(values(7, shape, dtype))


def pool(operator, reduction, **options):
    """The operator as a function of arrays: input, boxes and, with corners alone, images."""
    options = operator.reductions[reduction] | options

    def pooled(input, boxes, batch_indices=None):
        function = getattr(pooling, operator.name)
        return function(input, boxes, SIZE, SCALE, batch_indices=batch_indices, **options)

    return pooled


def on_arrays(operator, reduction, input, boxes, **options):
    """The same of NumPy arrays."""
    options = operator.reductions[reduction] | options
    return operator.function(np.asarray(input), boxes, SIZE, SCALE, **options)


def backward_on_arrays(operator, reduction, gradient, input, boxes, **options):
    function = getattr(roi_numba, f"{operator.name}_backward")
    options = operator.reductions[reduction] | options
    return function(np.asarray(gradient), np.asarray(input), boxes, SCALE, **options)


def smooth(operator):
    """Options with which the results are differentiable in the boxes, or None."""
    options = {"prroi_pool": {}, "roi_align": {"sampling_ratio": 2}}
    options["roi_warp"] = {"sampling_ratio": 2, "quantize": False}
    return options.get(operator.name)


def upstream(output, seed=3):
    return jnp.asarray(values(seed, output.shape, output.dtype.type))


def same_bits(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    assert actual.tobytes() == expected.tobytes()


def close(actual, expected, tolerance=1e-12):
    assert actual.dtype == expected.dtype
    largest = np.abs(np.asarray(expected, np.float64)).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)


# ---- the numbers of the array level --------------------------------------------------------


@COMPILED
@MATRIX
def test_results_and_gradients_are_the_same_bits(operator, reduction, compiled):
    for options in operator.all_options()[:: 4 if compiled else 3]:
        x, f = features(), pool(operator, reduction, **options)
        g = upstream(jax.eval_shape(f, x, BOXES))

        def both(x, boxes, g, f=f):
            output, pull = jax.vjp(f, x, boxes)
            return output, pull(g)

        output, gradients = (jax.jit(both) if compiled else both)(x, jnp.asarray(BOXES), g)
        same_bits(output, on_arrays(operator, reduction, x, BOXES, **options))
        expected = backward_on_arrays(operator, reduction, g, x, BOXES, **options)
        for actual, wanted in zip(gradients, expected, strict=True):
            same_bits(actual, wanted)


@COMPILED
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=ids)
def test_subnormal_numbers_count(dtype, compiled):
    """XLA's threads take them for zero."""
    operator, reduction = MEANS[-1]
    x, boxes = features(dtype), BOXES.astype(np.float32)
    x = jnp.asarray(np.asarray(x) * np.finfo(dtype).smallest_subnormal.astype(dtype) * dtype(9))
    f = pool(operator, reduction)
    output = (jax.jit(f) if compiled else f)(x, jnp.asarray(boxes))
    same_bits(output, on_arrays(operator, reduction, x, boxes))
    assert np.asarray(output).any()


@COMPILED
@pytest.mark.parametrize("dtype", [*FLOATS, np.int32], ids=ids)
def test_dtypes_of_maps(dtype, compiled):
    operator, reduction = MEANS[-1]
    x, boxes = features(dtype), BOXES.astype(np.float32)
    f = pool(operator, reduction)
    output, pull = jax.vjp(jax.jit(f) if compiled else f, x, jnp.asarray(boxes))
    same_bits(output, on_arrays(operator, reduction, x, boxes))
    g = upstream(output)
    grad_input, grad_boxes = pull(g)
    expected = backward_on_arrays(operator, reduction, g, x, boxes)
    same_bits(grad_boxes, expected[1])
    if dtype in FLOATS:
        same_bits(grad_input, expected[0])
    else:
        assert grad_input.dtype == jax.dtypes.float0
        assert grad_input.shape == x.shape


@pytest.mark.parametrize("dtype", BOX_DTYPES, ids=ids)
@pytest.mark.parametrize("form", ["rows", "list", "indices"])
def test_dtypes_and_forms_of_boxes(form, dtype):
    operator, reduction = MEANS[-1]
    rows, options = BOXES.astype(dtype), {}
    if form == "rows":
        boxes = rows
    elif form == "list":
        boxes = [rows[IMAGES == image, 1:] for image in range(2)]
    else:
        boxes, options = rows[:, 1:], {"batch_indices": IMAGES}
    x, f = features(), pool(operator, reduction)
    output, pull = jax.vjp(
        jax.jit(lambda x, boxes: f(x, boxes, **options)), x, jax.tree.map(jnp.asarray, boxes)
    )
    same_bits(output, on_arrays(operator, reduction, x, boxes, **options))
    g = upstream(output)
    expected = backward_on_arrays(operator, reduction, g, x, boxes, **options)
    gradients = pull(g)
    same_bits(gradients[0], expected[0])
    trees = gradients[1], expected[1], boxes
    for actual, wanted, given in zip(*map(jax.tree.leaves, trees), strict=True):
        if np.issubdtype(dtype, np.integer):
            assert (actual.shape, actual.dtype) == (given.shape, jax.dtypes.float0)
        else:
            same_bits(actual, wanted)


def test_boxes_of_several_dtypes_and_none():
    x = features()
    first, second = (BOXES[IMAGES == image, 1:] for image in range(2))
    mixed = [
        [first.astype(np.int32), second.astype(np.float32)],
        [first.astype(np.float16), second.astype(ml_dtypes.bfloat16)],
        [first.astype(np.float16), second.astype(np.float64)],
        [first.astype(np.float32), np.empty((0, 4), np.int64)],
        [first.tolist(), []],
    ]
    for boxes in mixed:
        expected = roi_numba.prroi_pool(np.asarray(x), boxes, SIZE, SCALE)
        given = [part if isinstance(part, list) else jnp.asarray(part) for part in boxes]
        same_bits(pooling.prroi_pool(x, given, SIZE, SCALE), expected)
    assert pooling.prroi_pool(x[:0], [], SIZE).shape == (0, 5, *SIZE)

    def total(boxes):
        return pooling.prroi_pool(x, boxes, SIZE, SCALE).sum()

    gradients = jax.grad(total)([jnp.asarray(first, np.float16), jnp.asarray(second[:0])])
    assert [g.dtype for g in gradients] == [np.float16, np.float64]
    assert [g.shape for g in gradients] == [(2, 4), (0, 4)]
    assert gradients[0].any()


@pytest.mark.usefixtures("_narrow")
def test_boxes_whose_geometry_is_beyond_jax():
    boxes = [jnp.ones((1, 4), jnp.int32), jnp.ones((1, 4))]
    with pytest.raises(TypeError, match="boxes must be of one dtype unless jax_enable_x64 is set"):
        pooling.prroi_pool(features(np.float32), boxes, SIZE)


@COMPILED
@MATRIX
def test_channels_last(operator, reduction, compiled):
    x, boxes = jnp.moveaxis(features(), 1, -1), jnp.asarray(BOXES)
    motion = upstream(boxes).at[:, 0].set(0)

    def everything(x, boxes):
        f = pool(operator, reduction, channel_axis=-1)
        output, pull = jax.vjp(f, x, boxes)
        rate = jax.jvp(f, (x, boxes), (upstream(x), motion))[1]
        return output, rate, pull(upstream(output))

    output, rate, gradients = (jax.jit(everything) if compiled else everything)(x, boxes)
    same_bits(output, on_arrays(operator, reduction, x, BOXES, channel_axis=-1))
    g = upstream(output)
    expected = backward_on_arrays(operator, reduction, g, x, BOXES, channel_axis=-1)
    for actual, wanted in zip(gradients, expected, strict=True):
        same_bits(actual, wanted)
    adjoint = jnp.vdot(gradients[0], upstream(x)) + jnp.vdot(gradients[1], motion)
    np.testing.assert_allclose(jnp.vdot(rate, g), adjoint, rtol=1e-10)


@COMPILED
@MAXIMA_ONLY
def test_argmax(operator, reduction, compiled):
    x, f = features(), pool(operator, reduction, return_argmax=True)
    output, argmax = (jax.jit(f) if compiled else f)(x, jnp.asarray(BOXES))
    expected = on_arrays(operator, reduction, x, BOXES, return_argmax=True)
    same_bits(output, expected[0])
    same_bits(argmax, expected[1])
    with_names = jax.grad(lambda x: f(x, BOXES)[0].sum())(x)
    same_bits(with_names, jax.grad(lambda x: pool(operator, reduction)(x, BOXES).sum())(x))
    tangents = jax.jvp(f, (x, BOXES), (x, 0 * BOXES))[1]
    close(tangents[0], output)
    assert tangents[1].dtype == jax.dtypes.float0


@COMPILED
@pytest.mark.usefixtures("_narrow")
def test_argmax_without_x64(compiled):
    """As int32 where the caller asks for it, in full where derivatives need it."""
    x = features(np.float32)
    boxes = BOXES.astype(np.float32)

    def named(x, boxes):
        return pooling.roi_align(x, boxes, 1, reduce="max", return_argmax=True)

    argmax = (jax.jit(named) if compiled else named)(x, boxes)[1]
    assert argmax.dtype == np.int32
    expected = roi_numba.roi_align(np.asarray(x), boxes, 1, reduce="max", return_argmax=True)[1]
    np.testing.assert_array_equal(argmax, expected)

    boxes = np.array([[0, -1e5, -1e5, 1e5, 1e5]], np.float32)  # 4e10 samples, 1e5 * 1e5 won
    expected = roi_numba.roi_align_backward(
        np.ones((1, 5, 1, 1), np.float32), np.asarray(x), boxes, reduce="max", needs="input"
    )[0]
    assert expected.any()
    total = jax.grad(lambda x: pooling.roi_align(x, boxes, 1, reduce="max").sum())
    same_bits((jax.jit(total) if compiled else total)(x), expected)
    with pytest.raises(Exception, match="argmax must fit int32 unless jax_enable_x64 is set"):
        jax.block_until_ready((jax.jit(named) if compiled else named)(x, boxes))


def test_winners_are_named_only_for_derivatives():
    x = features()
    f = pool(OPERATORS[0], "max")
    assert "named=False" in str(jax.make_jaxpr(f)(x, BOXES))
    assert "named=True" in str(jax.make_jaxpr(jax.grad(lambda x: f(x, BOXES).sum()))(x))


def test_imports():
    """JAX comes with `roi_numba.jax` alone, and its absence is told in a sentence."""
    code = """
        import sys
        import roi_numba
        assert "jax" not in sys.modules
        sys.modules["jax"] = None
        try:
            import roi_numba.jax
        except ImportError as error:
            print(error)
    """
    assert run_python(dedent(code)).strip().startswith("roi_numba.jax needs JAX, pip install")
