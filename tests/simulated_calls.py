"""Public calls on a device's arrays down to the kernels, which numba-cuda's simulator runs.

CuPy is `device_stand_in`; as there, the host must not wait.  In a process of its own, with
NUMBA_ENABLE_CUDASIM=1 and NUMBA_DISABLE_JIT=1.
"""

import sys

import ml_dtypes
import numpy as np

import device_stand_in
import roi_numba
from device_stand_in import machine, ndarray, plain
from operators import OPERATORS
from strategies import Call, values
from test_forward import accumulator, assert_close, tolerance

sys.modules.update(device_stand_in.modules())

from roi_numba._cuda import gradients, launch, layout, simulator  # noqa: E402

ROWS = [(0, 0.7, 1.1, 4.3, 3.2), (1, -1, -0.5, 9, 8), (1, np.nan, 1, 2, 2), (7, 1, 1, 3, 3)]
SHAPE, SIZE, SCALE = (2, 3, 4, 5), (2, 1), 0.75
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8]


def simulate(kernel, grid, arguments):
    simulator.simulate(kernel, grid, tuple(map(plain, arguments)))


launch.simulate = simulate
launch.joined = lambda arrays: simulator.joined([*map(plain, arrays)])
layout.address = lambda array: simulator.address(plain(array))
gradients.empty = ndarray  # what the engine returns is its own
gradients.zeros = device_stand_in.zeros


def there(array):
    return ndarray.over(array.copy())


def calls(name):
    """Forward and backward of every reduction, of the first with every dtype; forms of boxes."""
    (operator,) = (operator for operator in OPERATORS if operator.name == name)
    rows = np.array(ROWS, np.float32)
    for number, (reduction, options) in enumerate(operator.reductions.items()):
        for dtype in DTYPES[: None if number == 0 else 1]:
            input = values(1, SHAPE, dtype)
            expected = operator.reference(input, rows, SIZE, SCALE, **options)
            allowed = tolerance(Call(input, rows, SIZE, SCALE), expected)
            found = operator.function(there(input), there(rows), SIZE, SCALE, **options)
            assert type(found) is ndarray
            assert_close(plain(found), expected, allowed)
            backward(operator, options, input, rows)
        if reduction == "mean":
            for boxes, images in forms(rows):
                found = operator.function(there(input), boxes, SIZE, SCALE, **options, **images)
                assert_close(plain(found), expected[: len(found)], allowed)
    assert (machine.waits, machine.device) == (0, 0)


def forms(rows):
    """Rows as corners and indices, and the good ones as a list."""
    corners, images = there(rows[:, 1:]), rows[:, 0].astype(np.int64)
    yield corners, {"batch_indices": there(images)}
    yield corners, {"batch_indices": images}
    yield [there(rows[:1, 1:]), there(rows[1:2, 1:])], {}
    yield [rows[:1, 1:].tolist(), rows[1:2, 1:]], {}


def backward(operator, options, input, rows):
    dtype = input.dtype if input.dtype.kind in "fV" else np.dtype(np.float32)
    upstream = values(2, (len(rows), SHAPE[1], *SIZE), dtype)
    expected = operator.reference_backward(
        upstream.astype(np.float64), input, rows, SCALE, **options
    )
    boxes = there(rows), there(rows.astype(np.float64))
    for given in boxes:
        found = operator.backward(there(upstream), there(input), given, SCALE, **options)
        assert [array.dtype for array in found] == [dtype, given.dtype]
        for actual, wanted in zip(found, expected, strict=True):
            eps = max(np.finfo(accumulator(input.dtype)).eps, ml_dtypes.finfo(actual.dtype).eps)
            eps = max(eps, np.finfo(np.float32).eps)  # of the geometry
            limit = 500 * eps * max(np.abs(wanted).max(), np.abs(input.astype(float)).max())
            actual = plain(actual).astype(np.float64)
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=limit)


def pyramid(name):
    """Two maps with scales of their own along y and x, forth and back; a level that is no map's."""
    (operator,) = (operator for operator in OPERATORS if operator.name == name)
    rows = np.array([*ROWS, (1, 0.5, 1, 3, 3.5), (0, 2, 0, 4, 2)])
    levels = np.array([0, 1, 1, 0, 5, 1])
    scales = [(0.5, 1.0), (1.0, 0.25)]  # powers of two: a box can be scaled beforehand
    maps = [values(level, (2, 3, *size), np.float64) for level, size in enumerate([(4, 5), (3, 7)])]
    for options in operator.reductions.values():
        arguments = there(rows), SIZE
        keywords = options | {"spatial_scales": scales, "levels": there(levels)}
        found = plain(
            roi_numba.pyramid_pool(
                operator.function, list(map(there, maps)), *arguments, **keywords
            )
        )
        upstream = values(2, found.shape, np.float64)
        to_maps, to_boxes = roi_numba.pyramid_pool_backward(
            operator.function, there(upstream), list(map(there, maps)), there(rows), **keywords
        )
        assert not found[levels == 5].any()
        assert not plain(to_boxes)[levels == 5].any()
        for level, (y, x) in enumerate(scales):
            on = levels == level
            factors = np.array([1, x, y, x, y])
            here = maps[level], rows[on] * factors
            expected = operator.reference(*here, SIZE, 1.0, **options)
            backward = operator.reference_backward(upstream[on], *here, 1.0, **options)
            for actual, wanted in (
                (found[on], expected),
                (plain(to_maps[level]), backward[0]),
                (plain(to_boxes)[on], backward[1] * factors),
            ):
                np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-12)
    assert (machine.waits, machine.device) == (0, 0)
