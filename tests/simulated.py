"""The CUDA engine in numba-cuda's simulator, against the reference; run in processes of its own.

The simulator has to be chosen before Numba is imported: NUMBA_ENABLE_CUDASIM=1, and
NUMBA_DISABLE_JIT=1 because compiled code cannot take the simulator's arrays.
"""

import contextlib
import itertools
import os
from unittest import mock

import ml_dtypes
import numpy as np

from operators import OPERATORS
from roi_numba._cuda import engine, gradients
from strategies import Call
from test_forward import accumulator, assert_close, tolerance

SCALE = 0.75

LAYOUTS = {
    "channels first": lambda array: array,
    "channels last": lambda array: np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1),
    "backwards": lambda array: array[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "broadcast": lambda array: np.broadcast_to(array[:, :1], array.shape),
}

# On the map, over every edge, off it, smaller than a pixel, reversed, without an area, huge, and
# some that are no boxes on any image.
ROWS = [
    (0, 0.7, 1.1, 5.3, 4.2),
    (1, -3, -2.5, 9.9, 8),
    (1, 2, 2, 2.4, 2.1),
    (0, 5, 4, 1, 1),
    (1, 3, 3, 3, 3),
    (0, 20, 20, 30, 30),
    (0, -1e7, -4000, 2e7, 4003),
    (1, -3e38, 2, 3e38, 1e30),
    (0, np.nan, 1, 4, 4),
    (0, 1, 1, np.inf, 4),
    (2, 1, 1, 4, 4),
    (-1, 1, 1, 4, 4),
    (0.5, 1, 1, 4, 4),
    (np.nan, 1, 1, 4, 4),
    (1e30, 1, 1, 4, 4),
]


def features(rng, dtype, layout="channels first"):
    return LAYOUTS[layout](rng.normal(size=(2, 3, 4, 5)).astype(dtype))


def described(operator, call, options):
    """What the engine is told of a call: options of both axes, corners, and image numbers."""
    own = {name: value for name, value in options.items() if name in operator.options}
    T = np.float64 if call.boxes.dtype == np.float64 else np.float32
    both = tuple((T(call.spatial_scale), *each) for each in operator.rule.options(**own))
    return operator.rule, operator.reduce(options), both, call.boxes[:, 1:], call.boxes[:, 0]


def pool(operator, call, options, named=False, axis=1):
    """Pooled values, and the winners if they are to be named."""
    rule, reduce, both, corners, images = described(operator, call, options)
    size = (call.output_size,) * 2 if np.ndim(call.output_size) == 0 else call.output_size
    shape = len(call.boxes), call.input.shape[1], *size
    output = np.full(shape, 99, call.input.dtype)
    argmax = np.full(shape, 99) if named else None
    if axis == -1:
        output = np.moveaxis(np.ascontiguousarray(np.moveaxis(output, 1, -1)), -1, 1)
    arrays = [np.moveaxis(a, 1, axis) if a is not None else None for a in (output, argmax)]
    source = np.moveaxis(call.input, 1, axis)
    engine.pool(rule, reduce, both, source, corners, images, *arrays, axis)
    return (output, argmax) if named else output


def assert_near(added, expected):
    """By atomics or in order, it is the same up to rounding."""
    eps = float(ml_dtypes.finfo(expected.dtype).eps)
    added, expected = added.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(added, expected, rtol=0, atol=20 * eps * np.abs(expected).max())


def pull(operator, call, options, gradient, argmax=None):
    """The gradients to the map and to the corners."""
    rule, reduce, both, corners, images = described(operator, call, options)
    if reduce == "mean":
        arguments = rule, both, gradient, corners, images, call.input.shape, 1
        to_map = gradients.to_map_of_mean(*arguments)
        added = gradients.to_map_of_mean(*arguments, deterministic=False)
        assert_near(added, to_map)
        if rule.slope is None:
            return to_map, np.zeros(corners.shape)
        arguments = rule, both, gradient, call.input, corners, images, 1
        return to_map, gradients.to_boxes_of_mean(*arguments)
    arguments = rule, reduce, both, call.input, argmax, corners, images, 1
    to_map = gradients.at_winners(*arguments, grad=gradient)
    assert_near(gradients.at_winners(*arguments, grad=gradient, deterministic=False), to_map)
    if rule.slope is None:
        return to_map, np.zeros(corners.shape)
    return to_map, gradients.at_winners(*arguments, grad=gradient, boxes=True)


def winners(operator, call, options):
    """What the forward named: of near ties it chooses."""
    if operator.reduce(options) == "mean":
        return {}
    return {"argmax": pool(operator, call, options, named=True)[1]}


def of_operator(name, haste=5):
    """(operator, options with the reduction): every combination, or in haste some of them."""
    operator = next(operator for operator in OPERATORS if operator.name == name)
    every = list(itertools.product(operator.reductions, operator.all_options()))
    step = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "full" or len(every) < 9 else haste
    for reduction, options in every[::step]:
        yield operator, operator.reductions[reduction] | options


def forward(name):
    """Every option, dtype of map and boxes, layout and place of the channels."""
    rng = np.random.default_rng(0)
    dtypes = itertools.cycle([np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
    sizes, axes = itertools.cycle([2, (3, 1), (1, 4)]), itertools.cycle([1, -1])
    layouts = itertools.cycle([*LAYOUTS, "channels first"])
    for operator, options in of_operator(name):
        for geometry in (np.float32, np.float64):
            dtype = next(dtypes)
            maps = features(rng, dtype, next(layouts))
            with np.errstate(over="ignore"):
                boxes = np.array(ROWS).astype(geometry)
            call = Call(maps, boxes, next(sizes), SCALE)
            expected = operator.reference(*call, **options)
            axis = next(axes)
            assert_close(
                pool(operator, call, options, axis=axis), expected, tolerance(call, expected)
            )
            if operator.reduce(options) == "mean":
                continue
            output, argmax = pool(operator, call, options, named=True, axis=axis)
            assert_close(output, expected, tolerance(call, expected))
            named = expected
            if name == "roi_pool":
                np.testing.assert_array_equal(
                    argmax, operator.reference(*call, return_argmax=True, **options)[1]
                )
            else:
                named = operator.reference(*call, at=argmax, **options)
            assert_close(output, named, tolerance(call, named))


def shifted(array):
    """A copy that begins one element later in memory."""
    memory = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    memory[...] = array
    return memory


def stepping(array, axis):
    """A copy whose step along an axis is one element longer than it need be."""
    before, after = array.shape[: axis + 1], array.shape[axis + 1 :]
    memory = np.empty((*before, np.prod(after) + 1), array.dtype)[..., :-1].reshape(array.shape)
    memory[...] = array
    return memory


def repeated(array):
    return np.broadcast_to(array[:, :1, :1], array.shape)


# Of an array (N, H, W, C), by how many channels are 16 bytes, where these can be taken at once.
WHOLE = {
    "as it lies": lambda array, lanes: array[..., : 2 * lanes].copy(),
    "half of every pixel": lambda array, lanes: array[..., : 2 * lanes].copy()[..., lanes:],
    "some pixels": lambda array, lanes: array[..., :lanes].copy()[:, ::2, 1:],
    "backwards": lambda array, lanes: array[..., :lanes].copy()[::-1, ::-1, ::-1],
    "one pixel": lambda array, lanes: repeated(array[..., :lanes].copy()),
}
# And where not.
APART = {
    "half a vector left": lambda array, lanes: array[..., : lanes + lanes // 2].copy(),
    "less than a vector": lambda array, lanes: array[..., : lanes // 2].copy(),
    "images of broken vectors": lambda array, lanes: stepping(array[..., :lanes], 0),
    "rows of broken vectors": lambda array, lanes: stepping(array[..., :lanes], 1),
    "pixels of broken vectors": lambda array, lanes: stepping(array[:, :, :4, :lanes], 2),
    "another address": lambda array, lanes: shifted(array[..., :lanes]),
    "every other channel": lambda array, lanes: array[..., : 2 * lanes].copy()[..., ::2],
    "channels backwards": lambda array, lanes: array[..., :lanes].copy()[..., ::-1],
    "channels first": lambda array, lanes: np.moveaxis(
        np.moveaxis(array[..., :lanes], -1, 1).copy(), 1, -1
    ),
}


def vectors():
    """Channels 16 bytes at a time where the arrays allow it, and the same bits as one by one."""
    (operator,) = (operator for operator in OPERATORS if operator.name == "roi_align")
    rng = np.random.default_rng(3)
    rows = np.array(ROWS[:3], np.float32)
    for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        lanes = 16 // np.dtype(dtype).itemsize
        for part, cut in (WHOLE | APART).items():
            maps = cut(rng.normal(size=(2, 4, 5, 2 * lanes)).astype(dtype), lanes)
            call = Call(np.moveaxis(maps, -1, 1), rows, 2, SCALE)
            in_vectors(operator, call, part in WHOLE)
    # More channels than a block takes, of which 1024 // 9 is no number of vectors.
    maps = rng.normal(size=(1, 4, 5, 132)).astype(np.float32)
    in_vectors(operator, Call(np.moveaxis(maps, -1, 1), rows[:1], 3, SCALE), True)


def in_vectors(operator, call, possible):
    """A call to results that lie as well as can be, and to others that do not."""
    rule, reduce, both, corners, images = described(operator, call, {})
    expected = operator.reference(*call)
    whole = np.moveaxis(np.full_like(expected, 99, call.input.dtype), 1, -1).copy()
    started, launch, allowed = [], engine.launch, engine.in_vectors

    def recorded(kernel, *arguments):
        started.append(kernel.name.startswith("contract_vectors"))
        launch(kernel, *arguments)

    def pooled(output):
        maps = np.moveaxis(call.input, 1, -1)
        engine.pool(rule, reduce, both, maps, corners, images, output, None, -1)
        assert_close(np.moveaxis(output, -1, 1), expected, tolerance(call, expected))
        return output.view(np.uint8), started[-1]

    engine.launch = recorded
    try:
        result, vectors = pooled(whole.copy())
        assert vectors is possible
        other, vectors = pooled(shifted(whole))
        assert not vectors
        engine.in_vectors = lambda array: False
        one_by_one, vectors = pooled(whole.copy())
        assert not vectors
    finally:
        engine.launch, engine.in_vectors = launch, allowed
    np.testing.assert_array_equal(result, one_by_one)
    np.testing.assert_array_equal(other, one_by_one)


def backward(name):
    """Both gradients, for every option."""
    rng = np.random.default_rng(1)
    dtypes = itertools.cycle([np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.float32])
    for operator, options in of_operator(name):
        dtype = next(dtypes)
        call = Call(features(rng, dtype), np.array(ROWS, np.float64), (2, 3), SCALE)
        gradient = rng.normal(size=(len(ROWS), 3, 2, 3)).astype(dtype)
        named = winners(operator, call, options)
        to_map, to_corners = pull(operator, call, options, gradient, **named)
        expected = operator.reference_backward(
            gradient.astype(np.float64), call.input, call.boxes, SCALE, **options, **named
        )
        eps = np.finfo(accumulator(call.input.dtype)).eps
        eps = max(eps, float(ml_dtypes.finfo(to_map.dtype).eps))
        limit = 50 * eps * np.abs(expected[0]).max()
        np.testing.assert_allclose(to_map.astype(np.float64), expected[0], rtol=0, atol=limit)
        eps = np.finfo(to_corners.dtype).eps
        limit = 500 * eps * max(np.abs(expected[1]).max(), 1)
        np.testing.assert_allclose(to_corners, expected[1][:, 1:], rtol=0, atol=limit)


def rates(name):
    """Along a motion: the change of the result, and that of the gradient to the map."""
    rng = np.random.default_rng(2)
    for operator, options in of_operator(name):
        rule, reduce, both, corners, images = described(
            operator,
            call := Call(features(rng, np.float64), np.array(ROWS), (2, 3), SCALE),
            options,
        )
        if rule.slope is None:
            continue
        gradient = rng.normal(size=(len(ROWS), 3, 2, 3))
        motion = rng.normal(size=corners.shape)
        named = winners(operator, call, options)
        _, to_corners = pull(operator, call, options, gradient, **named)
        if reduce == "mean":
            parts = np.zeros((2, *gradient.shape))
            back = 0
            for axis in range(2):
                engine.pool(
                    rule, reduce, both, call.input, corners, images, parts[axis], None, 1,
                    (axis, motion),
                )  # fmt: skip
                back = back + gradients.to_map_of_mean(
                    rule, both, gradient, corners, images, call.input.shape, 1, (axis, motion)
                )
            rate = parts.sum(0)
        else:
            arguments = rule, reduce, both, call.input, named["argmax"], corners, images, 1
            rate = np.zeros(gradient.shape)
            gradients.at_winners(*arguments, pooled=rate, motion=motion)
            back = gradients.at_winners(*arguments, grad=gradient, motion=motion)
            values = np.zeros(gradient.shape)
            gradients.at_winners(*arguments, pooled=values)
            np.testing.assert_allclose(values, pool(operator, call, options), rtol=0, atol=1e-14)
        change = (rate * gradient).sum()
        limit = 1e-12 * (np.abs(gradient).sum() * np.abs(motion).max() * np.abs(call.input).max())
        assert abs(change - (to_corners * motion).sum()) <= limit
        assert abs(change - (back * call.input).sum()) <= limit


def parts(name):
    """Every box in a round of its own, two channels a block: the same bits as all at once."""
    rng = np.random.default_rng(3)
    rows = np.array([*ROWS[:3], *ROWS[8:10]], np.float64)
    for operator, options in of_operator(name, haste=8):
        for dtype in (np.float32, np.float16):
            call = Call(features(rng, dtype), rows, (2, 3), SCALE)
            gradient = rng.normal(size=(len(rows), 3, 2, 3)).astype(dtype)
            named = winners(operator, call, options)
            arguments = operator, call, options
            whole = pool(*arguments), *pull(*arguments, gradient, **named)
            with in_parts():
                found = pool(*arguments), *pull(*arguments, gradient, **named)
            for one, other in zip(found, whole, strict=True):
                # What rounds add to is wide, and rounded by the caller.
                np.testing.assert_array_equal(one.astype(other.dtype), other)


def levels(name):
    """Each box from a map of its own, by its scales: the bits of a call for each map."""
    rng = np.random.default_rng(5)
    sizes, ways = [(4, 5), (7, 3), (1, 9), (2, 2)], itertools.cycle(LAYOUTS.values())
    scales = [(0.75, 0.5), (1.5, 0.25), (0.75, 0.75), (0.1, 2.0)]
    rows = np.array(ROWS)
    of_box = rng.integers(0, len(sizes), len(rows))
    for operator, options in of_operator(name, haste=8):
        for dtype, geometry, axis in (
            (np.float32, np.float32, 1),
            (np.float32, np.float64, -1),
            (ml_dtypes.bfloat16, np.float32, -1),
        ):
            maps = [
                np.moveaxis(next(ways)(rng.normal(size=(2, 4, *size)).astype(dtype)), 1, axis)
                for size in sizes
            ]
            own = {name: value for name, value in options.items() if name in operator.options}
            T = geometry
            both = [
                tuple((T(scale), *each) for scale, each in zip(pair, of_axes, strict=True))
                for of_axes in [operator.rule.options(**own)]
                for pair in scales
            ]
            reduce = options.get("reduce", "mean")
            with np.errstate(over="ignore"):
                corners, images = rows[:, 1:].astype(T), rows[:, 0].astype(T)
            shape = (len(rows), 4, 2, 3) if axis == 1 else (len(rows), 2, 3, 4)
            output, names = np.full(shape, 99, dtype), np.full(shape, 99)
            named = () if reduce == "mean" else (names,)
            engine.pool_levels(
                operator.rule, reduce, both, maps, of_box, corners, images, output,
                *(named or (None,)), axis,
            )  # fmt: skip
            for level, array in enumerate(maps):
                there = of_box == level
                alone = [np.full_like(each[there], 99) for each in (output, names)]
                engine.pool(
                    operator.rule, reduce, both[level], array, corners[there], images[there],
                    alone[0], alone[1] if named else None, axis,
                )  # fmt: skip
                for each, expected in zip((output, *named), alone, strict=False):
                    np.testing.assert_array_equal(each[there], expected)


@contextlib.contextmanager
def in_parts():
    """Tables for a single box, and blocks of two channels."""

    def shares(channels, units):
        return 2, -(-channels // 2)

    with (
        mock.patch.multiple(engine, ROUND_ENTRIES=1, shares=shares),
        mock.patch.object(gradients, "shares", shares),
    ):
        yield


def grids(name):
    """Winners of as many samples as are still numbered one by one, and of one pixel more."""
    rng = np.random.default_rng(4)
    operator, _ = next(of_operator(name))
    for reduce, most in (("max", 2**31), ("max_corner", 2**30)):
        for side in (most, most + 2):
            rows = np.array([[0, -side / 2, 0.25, side / 2, 3.5], [1, 1, -side / 2, 3, side / 2]])
            call = Call(features(rng, np.float64), rows, 1, 1.0)
            options = {"reduce": reduce, "aligned": True}
            output, argmax = pool(operator, call, options, named=True)
            expected, first = operator.reference(*call, return_argmax=True, **options)
            np.testing.assert_array_equal(argmax, first)
            gradient = rng.normal(size=output.shape)
            to_map, to_corners = pull(operator, call, options, gradient, argmax)
            wanted = operator.reference_backward(gradient, *call[:2], 1.0, **options)
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-14)
            np.testing.assert_allclose(to_map, wanted[0], rtol=0, atol=1e-14)
            np.testing.assert_allclose(to_corners, wanted[1][:, 1:], rtol=0, atol=1e-12)
