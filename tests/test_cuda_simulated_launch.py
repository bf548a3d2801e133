"""Launches in numba-cuda's simulator, in processes of their own."""

import textwrap

import numpy as np
import pytest

from small_kernel import NEEDED
from subprocesses import run as run_python

pytest.importorskip("roi_numba._cuda.launch", reason=NEEDED, exc_type=ImportError)

SIMULATED = """
from concurrent.futures import ThreadPoolExecutor
import ml_dtypes
import numpy as np
from roi_numba._cuda.compile import SIMULATED, Kernel, cuda, device, on_device
from roi_numba._cuda.launch import empty, launch, scratch, zeros
from roi_numba._cuda.simulator import Memory
from roi_numba._scalar import faded_tap
from device_functions import where

assert SIMULATED

def raised(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")
"""

WHERE = """
from roi_numba._cuda.compile import cuda, device

@device
def where():
    return cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
"""


@pytest.fixture
def simulated(tmp_path):
    """Run code in a process with the simulator, where warnings are errors."""
    (tmp_path / "device_functions.py").write_text(WHERE)

    def run(code):
        path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        code = path + SIMULATED + textwrap.dedent(code)
        return run_python(code, NUMBA_ENABLE_CUDASIM=1, NUMBA_DISABLE_JIT=1)

    return run


def test_simulated_launch(simulated):
    """Blocks, threads, functions of other files, shared memory, and a division by zero."""
    code = """
        def reverse(result, values, count, factor):
            i = where()
            line = cuda.shared.array(4, np.float32)
            if i < count:
                line[cuda.threadIdx.x] = values[-i] * factor
            cuda.syncthreads()
            if i < count:
                result[i] = line[cuda.threadIdx.x] / (values[-i] - np.float32(3))

        kernel = Kernel(reverse, "reverse", ("float64*", "float32*", "int32", "float32"), 4)
        result, values = zeros(6, np.float64), np.arange(6, dtype=np.float32)
        assert launch(kernel, (2,), (result, values[::-1], 6, np.float32(2))) is None
        print(result.tolist())
        launch(kernel, (0,), (result, values[::-1], 6, np.float32(2)))
        # What is wrong on a GPU is wrong here.
        wrong = result, values[::-1], 6, 2.0
        assert "argument 3 must be float32, got float 2.0" in raised(
            TypeError, launch, kernel, (1,), wrong
        )
        beyond = result, values[::-1], 7, np.float32(2)
        assert "-6 is not in memory from -5 to 0" in raised(
            IndexError, launch, kernel, (2,), beyond
        )
        # And a failure leaves the simulator as it was, for every thread.
        again = result, values[::-1], 6, np.float32(4)
        with ThreadPoolExecutor(8) as threads:
            for _ in threads.map(lambda _: launch(kernel, (2,), again), range(16)):
                pass
        print(result.tolist())
        assert on_device(faded_tap) is faded_tap
    """
    lines = simulated(code).splitlines()
    first, second = ([float(each) for each in line[1:-1].split(",")] for line in lines)
    expected = [2 * value / (value - 3) if value != 3 else np.inf for value in range(5, -1, -1)]
    assert first == pytest.approx(expected)
    assert second == pytest.approx([2 * value for value in expected])


def test_simulated_memory(simulated):
    """Everything between the first and the last element, in the dtype; nothing else."""
    simulated("""
        array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        view = Memory(array[:, ::-1, 1:3])
        assert view[0] == array[0, 2, 1] and type(view[0]) is np.float32
        assert view[-4] == array[0, 1, 1] and view[12 + 1] == array[1, 2, 2]
        assert view[np.int32(-8)] == array[0, 0, 1]
        view[-8] = np.float64(0.1)
        assert array[0, 0, 1] == np.float32(0.1)
        for index in (-9, 14, 10**12, np.int64(14)):
            raised(IndexError, view.__getitem__, index)
            raised(IndexError, view.__setitem__, index, 0)
        raised(TypeError, view.__getitem__, 0.0)

        # An int32 that is added to a far origin does not wrap around.
        repeated = Memory(np.broadcast_to(np.ones(1, np.int8), (2**40,)))
        assert repeated[0] == 1
        raised(IndexError, repeated.__getitem__, 1)

        for shape in ((0,), (3, 0, 2), (0, 0, 0, 0)):
            raised(IndexError, Memory(np.zeros(shape)).__getitem__, 0)
        one = Memory(np.full((), 7))
        assert one[0] == 7 and type(one[0]) is np.int64
        raised(IndexError, one.__getitem__, 1)

        source = np.zeros(3)
        source.flags.writeable = False
        assert "read-only" in raised(ValueError, Memory(source).__setitem__, 0, 1)

        for dtype in (ml_dtypes.bfloat16, np.dtype([("bfloat16", np.uint16)])):
            bits = np.array([0x3F80, 0xC000], np.uint16).view(dtype)
            for array in (bits, bits[::-1]):
                memory = Memory(array)
                assert type(memory[0]) is np.uint16
                assert memory[0] == (0x3F80 if array is bits else 0xC000)

        # 16 bytes at once lie at multiples of 16, and whole in the memory.
        memory = Memory(np.arange(12, dtype=np.float32))
        assert memory.vector(4).tolist() == [4, 5, 6, 7]
        memory.vector(8)[:] = memory.vector(0)
        assert [memory[i] for i in range(7, 12)] == [7, 0, 1, 2, 3]
        assert "multiple of 16 bytes" in raised(ValueError, memory.vector, 2)
        for index in (-4, 10, 12):
            raised(IndexError, memory.vector, index)

        for dtype in (np.float16, np.bool_, np.uint8, np.int64):
            memory = Memory(np.zeros(4, dtype)[::2])
            memory[2] = 1
            assert type(memory[2]) is dtype and memory[2] == 1
        half = Memory(np.zeros(1, np.float16))
        half[0] = np.float32(0.1)
        assert half[0] == np.float16(0.1)
    """)


def test_simulated_allocation(simulated):
    """What nobody has written does not look like a result."""
    simulated("""
        for dtype in (np.float64, np.float32, np.int32, np.int64):
            _, part = scratch((6, np.dtype(dtype).name))
            for array in (empty((2, 3), dtype), part.reshape(2, 3)):
                assert array.shape == (2, 3) and array.dtype == dtype
                assert array.flags.c_contiguous and array.flags.writeable
                assert (abs(array) > 10**9).all()
        assert empty(4, np.float32).shape == (4,)
        assert empty((0, 2), np.float32).shape == (0, 2)
        assert empty((), np.float32).shape == ()
        assert [len(part) for part in scratch((0, "int32"), (2, "float64"))[1:]] == [0, 2]
        assert not zeros((2, 3), np.float32).any()
    """)
