"""On a GPU: streams, graphs and devices."""

import numpy as np
import pytest

from arrays import BOXES, SIZE, features
from on_device import MATRIX, all_on_device, assert_same_bits, cupy, fetched, on_device
from strategies import values

pytestmark = pytest.mark.gpu

SPIN = cupy.RawKernel(
    """
    extern "C" __global__ void spin(long long cycles) {
        long long start = clock64();
        while (clock64() - start < cycles);
    }
    """,
    "spin",
)
A_WHILE = np.int64(400_000_000)  # a fifth of a second and more


def spin():
    """Keep the current stream busy."""
    SPIN((1,), (1,), (A_WHILE,))


def both_ways(operator, reduction, map, boxes, gradient):
    """Every result of a call and of its gradients."""
    options = operator.reductions[reduction]
    named = {} if reduction == "mean" else {"return_argmax": True}
    forward = operator.of.function(map, boxes, SIZE, **options, **named)
    forward = forward if named else (forward,)
    return *forward, *operator.of.backward(gradient, map, boxes, **options)


@MATRIX
def test_nothing_waits(operator, reduction):
    """Calls return while the stream is still busy with what came before, and CuPy sees no wait."""
    allow_synchronize = pytest.importorskip("cupyx").allow_synchronize
    gradient = values(2, (4, 19, *SIZE), np.float32)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = all_on_device(features(), BOXES, gradient)
        parts = [arrays[1][arrays[1][:, 0] == i, 1:] for i in range(2)]
        rows = [arrays[1], parts]
        expected = [both_ways(operator, reduction, arrays[0], r, arrays[2])[0] for r in rows]
        stream.synchronize()  # all is compiled and allocated
        spin()
        with allow_synchronize(False):
            found = [both_ways(operator, reduction, arrays[0], r, arrays[2])[0] for r in rows]
        assert not stream.done
        stream.synchronize()
    assert_same_bits(found, expected)


@MATRIX
def test_current_stream(operator, reduction):
    """It is the one whose earlier work is waited for."""
    gradient = values(2, (4, 19, *SIZE), np.float32)
    arrays = all_on_device(features(), BOXES, gradient)
    expected = both_ways(operator, reduction, *arrays)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        late = [cupy.zeros_like(array) for array in arrays]
        both_ways(operator, reduction, *late)
        spin()
        for array, value in zip(late, arrays, strict=True):
            array[...] = value
        found = both_ways(operator, reduction, *late)
        stream.synchronize()
    assert_same_bits(found, expected)


@MATRIX
def test_graph(operator, reduction):
    """A captured call reads what is there when it is launched, each time."""
    options = operator.reductions[reduction]
    gradient = values(2, (4, 19, *SIZE), np.float32)
    others = features()[::-1].copy(), BOXES[::-1].copy(), gradient[::-1].copy()
    expected = both_ways(operator, reduction, *all_on_device(*others))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        arrays = all_on_device(features(), BOXES, gradient)
        out = cupy.zeros((4, 19, *SIZE), np.float32)
        for _ in range(2):  # the second with memory that is there
            both_ways(operator, reduction, *arrays)
        operator.of.function(*arrays[:2], SIZE, out=out, **options)
        stream.synchronize()
        stream.begin_capture()
        try:
            operator.of.function(*arrays[:2], SIZE, out=out, **options)
            found = both_ways(operator, reduction, *arrays)
        finally:
            graph = stream.end_capture()
        for _ in range(2):
            for array in (*found, out):
                array[...] = 0
            for array, value in zip(arrays, others, strict=True):
                array.set(value)
            graph.launch()
        stream.synchronize()
    assert_same_bits(found, expected)
    assert_same_bits([out], expected[:1])


needs_two = pytest.mark.skipif(
    cupy.cuda.runtime.getDeviceCount() < 2, reason="there is only one CUDA device"
)


@needs_two
@MATRIX
def test_two_devices(operator, reduction):
    gradient = values(2, (4, 19, *SIZE), np.float32)
    expected = fetched(both_ways(operator, reduction, *all_on_device(features(), BOXES, gradient)))
    with cupy.cuda.Device(1):
        arrays = all_on_device(features(), BOXES, gradient)
    found = both_ways(operator, reduction, *arrays)
    assert cupy.cuda.runtime.getDevice() == 0
    assert all(array.device.id == 1 for array in found)
    with cupy.cuda.Device(1):
        found = fetched(found)
    assert_same_bits(found, expected)
    words = r"^boxes must be on CUDA device 1 as input is, got one on CUDA device 0$"
    with pytest.raises(TypeError, match=words):
        operator.of.function(arrays[0], on_device(BOXES), SIZE)
