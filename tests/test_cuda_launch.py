"""Launches without a GPU: what reaches the driver."""

import itertools
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

from operators import REDUCTIONS, ids
from small_kernel import NEEDED, compilation
from subprocesses import run as run_python

launching = pytest.importorskip("roi_numba._cuda.launch", reason=NEEDED, exc_type=ImportError)
simulator = pytest.importorskip("roi_numba._cuda.simulator", reason=NEEDED, exc_type=ImportError)
engine = pytest.importorskip("roi_numba._cuda.engine", reason=NEEDED, exc_type=ImportError)
gradients = pytest.importorskip("roi_numba._cuda.gradients", reason=NEEDED, exc_type=ImportError)
recorded_cupy = pytest.importorskip("recorded_cupy", reason=NEEDED, exc_type=ImportError)

Kernel, launch = compilation.Kernel, launching.launch

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # as roi_numba._arrays has it


def body(*arguments):
    """Never run nor compiled here."""


@pytest.fixture
def kernel():
    return Kernel(body, "body", ("float32*", "int64*", "int32", "int64", "float32"), 96)


@pytest.fixture
def right():
    """Arguments for it."""
    return (np.ones(3, np.float32), np.ones(2, np.int64), 5, 2**40, np.float32(0.5))


@pytest.fixture
def cupy(monkeypatch):
    with recorded_cupy.recorded(monkeypatch, "90", "103") as cupy:
        yield cupy


# ---- to the driver -------------------------------------------------------------------------


def test_launch(cupy, kernel, right):
    """What is given arrives as it is: no copies, nothing added."""
    launch(kernel, (7,), right)
    (seen,) = cupy.launches
    assert (seen.kernel, seen.device, seen.grid) == (kernel, 0, (7,))
    assert all(one is other for one, other in zip(seen.arguments, right, strict=True))


def test_a_kernel_is_loaded_once(cupy, kernel, right):
    for blocks in (1, 2, 3):
        launch(kernel, (blocks, 1, 1), right)
    assert [seen.grid for seen in cupy.launches] == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert len(cupy.loads) == 1


def test_every_kernel_is_loaded(cupy, kernel, right):
    """Kernels are told apart by what they are, not by what they are called."""
    twin = Kernel(body, kernel.name, kernel.parameters, kernel.threads)
    for each in (kernel, twin, kernel, twin):
        launch(each, (1,), right)
    assert [seen.kernel for seen in cupy.launches] == [kernel, twin, kernel, twin]
    assert len(cupy.loads) == 2


def test_every_device_has_its_own(cupy, kernel, right):
    """Machine code of its compute capability, loaded while it is current."""
    for device in (0, 1, 0, 1):
        cupy.device = device
        launch(kernel, (1,), right)
    assert [seen.device for seen in cupy.launches] == [0, 1, 0, 1]
    (first, zero), (second, one) = cupy.loads
    assert (zero, one) == (0, 1)
    assert b"(9, 0)" in first
    assert b"(10, 3)" in second


@pytest.mark.parametrize("grid", [(0,), (0, 3, 1), (3, 0, 1), (3, 1, 0)])
def test_without_a_block_nothing_is_started(cupy, kernel, right, grid):
    launch(kernel, grid, right)
    assert not cupy.launches
    assert not cupy.loads


def test_threads_load_a_kernel_once(cupy, kernel, right, monkeypatch):
    """A second one would be thrown away, and unloaded while its kernel runs."""
    loaded = cupy.loaded

    def slowly(cubin):
        time.sleep(0.05)
        return loaded(cubin)

    monkeypatch.setattr(cupy, "loaded", slowly)
    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(lambda _: launch(kernel, (1,), right), range(8)))
    assert len(cupy.launches) == 8
    assert len(cupy.loads) == 1


# ---- what is held against the parameters ---------------------------------------------------


WRONG = {
    "an array of another dtype": (0, np.ones(3, np.float64)),
    "an array in the other byte order": (0, np.ones(3, np.dtype(np.float32).newbyteorder())),
    "a number for an array": (0, np.float32(1)),
    "a list for an array": (0, [1.0]),
    "None for an array": (0, None),
    "unsigned for signed": (1, np.ones(2, np.uint64)),
    "too large for 32 bits": (2, 2**31),
    "too small for 32 bits": (2, -(2**31) - 1),
    "too large for 64 bits": (3, 2**63),
    "a bool for an int": (2, True),
    "a float for an int": (2, 5.0),
    "a NumPy int of another size": (2, np.int64(5)),
    "a Python float for a float32": (4, 0.5),
    "a float64 for a float32": (4, np.float64(0.5)),
    "an int for a float32": (4, 1),
    "an array of one number": (4, np.ones((), np.float32)),
}


def test_right_arguments(kernel, right):
    simulator.check(kernel, (1,), right)
    simulator.check(kernel, (2**31 - 1, 65535, 65535), right)
    simulator.check(kernel, (1,), (*right[:2], -(2**31), -(2**63), right[4]))
    simulator.check(kernel, (1,), (*right[:2], np.int32(3), np.int64(3), right[4]))


@pytest.mark.parametrize("why", WRONG)
def test_wrong_arguments(cupy, kernel, right, why):
    number, value = WRONG[why]
    arguments = [*right]
    arguments[number] = value
    with pytest.raises(TypeError, match=rf"argument {number} must be"):
        launch(kernel, (1,), tuple(arguments))


def test_wrong_number_of_arguments(cupy, kernel, right):
    for arguments in (right[:-1], (*right, 1)):
        with pytest.raises(TypeError, match=f"5 arguments are expected, got {len(arguments)}"):
            launch(kernel, (1,), arguments)


@pytest.mark.parametrize("grid", [(), (1, 1, 1, 1), (1.0,), (np.int64(1),), (2**31,), (1, 65536)])
def test_wrong_grid(kernel, right, grid):
    with pytest.raises(TypeError, match="grid"):
        simulator.check(kernel, grid, right)


FORMATS = {
    "float16*": (np.float16, np.uint16),
    "bfloat16*": (ml_dtypes.bfloat16, np.float16),
    "uint16*": (np.uint16, ml_dtypes.bfloat16),
    "bool*": (np.bool_, np.uint8),
    "int8*": (np.int8, np.bool_),
}


@pytest.mark.parametrize("parameter", FORMATS)
def test_formats(parameter):
    """bfloat16 comes as ml_dtypes', as the record of one field, or as its bits."""
    kernel = Kernel(body, "body", (parameter,), 32)
    good, bad = FORMATS[parameter]
    simulator.check(kernel, (1,), (np.zeros(3, good),))
    with pytest.raises(TypeError):
        simulator.check(kernel, (1,), (np.zeros(3, bad),))
    for dtype in (np.uint16, BFLOAT16):
        if parameter == "bfloat16*":
            simulator.check(kernel, (1,), (np.zeros(3, dtype),))


# ---- every launch of the engine ------------------------------------------------------------

SHAPE = {1: (2, 6, 9, 7), -1: (2, 9, 7, 6)}
POOLED = {1: (5, 6, 3, 2), -1: (5, 3, 2, 6)}
STORED = [
    np.float32, np.float64, np.float16, ml_dtypes.bfloat16, BFLOAT16,
    np.bool_, np.uint8, np.int16, np.int64,
]  # fmt: skip


class Described:
    """A call as the engine is told of it."""

    def __init__(self, operator, reduction, stored, geometry=np.float32, axis=1, boxes=None):
        self.rule, self.axis, self.geometry = operator.rule, axis, geometry
        self.reduce = reduction
        scale = geometry(0.25)
        self.options = tuple((scale, *own) for own in operator.rule.options())
        self.features = np.zeros(SHAPE[axis], stored)
        self.grad = np.zeros(POOLED[axis], _result(self.features.dtype))
        self.names = np.zeros(POOLED[axis], np.int64)
        rows = np.zeros((5, 5), geometry) if boxes is None else boxes
        self.corners, self.images = rows[:, 1:], rows[:, 0]

    def forward(self, named, motion=None):
        engine.pool(
            self.rule, self.reduce, self.options, self.features, self.corners, self.images,
            self.grad, self.names if named else None, self.axis, motion,
        )  # fmt: skip

    def backward(self):
        if self.reduce == "mean":
            tail = self.corners, self.images
            shape = self.features.shape
            gradients.to_map_of_mean(self.rule, self.options, self.grad, *tail, shape, self.axis)
            if self.rule.slope is not None:
                gradients.to_boxes_of_mean(
                    self.rule, self.options, self.grad, self.features, *tail, self.axis
                )
            return
        arguments = (
            self.rule, self.reduce, self.options, self.features, self.names, self.corners,
            self.images, self.axis,
        )  # fmt: skip
        gradients.at_winners(*arguments, grad=self.grad)
        gradients.at_winners(*arguments, pooled=self.grad)
        if self.rule.slope is not None:
            gradients.at_winners(*arguments, grad=self.grad, boxes=True)


def _result(dtype):
    return dtype if dtype.kind in "fV" else np.dtype(np.float32)


every_reduction = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)


@every_reduction
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("geometry", [np.float32, np.float64])
@pytest.mark.parametrize("stored", STORED, ids=str)
def test_arguments_of_the_engine(cupy, operator, reduction, stored, geometry, axis):
    """They are what the kernels take, and a forward is one launch or two."""
    call = Described(operator, reduction, stored, geometry, axis)
    for named in (False, True)[: 1 + (call.reduce != "mean")]:
        before = len(cupy.launches)
        call.forward(named)
        assert 1 <= len(cupy.launches) - before <= 2
    if call.features.dtype.kind in "fV":
        before = len(cupy.launches)
        call.backward()
        assert len(cupy.launches) > before


@every_reduction
def test_box_numbers_apart(cupy, operator, reduction):
    """As int64 beside the boxes, and boxes of any strides."""
    call = Described(operator, reduction, np.float32)
    call.images = np.zeros(10, np.int64)[::-2]
    call.corners = np.zeros((4, 20), np.float32).T[::-4]
    call.forward(False)
    call.backward()
    assert cupy.launches


def spread(shape, dtype):
    """An array that spans far more memory than there is, and that nobody may touch."""
    array = np.zeros(1, dtype)
    strides = np.multiply(array.itemsize, [*np.cumprod(shape[::-1])[-2::-1], 1])
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def span(array):
    """How far apart the array's first and last element are, in elements."""
    steps = zip(array.strides, array.shape, strict=True)
    return sum(stride * (count - 1) for stride, count in steps) // array.itemsize


def with_distances(launches):
    """The arrays of launches, each with the types of the numbers that follow it."""
    for seen in launches:
        types = seen.kernel.parameters
        for number, value in enumerate(seen.arguments):
            if types[number].endswith("*") and not isinstance(value, int):
                rest = types[number + 1 :]
                yield value, [*itertools.takewhile(lambda each: not each.endswith("*"), rest)]


@every_reduction
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("long", ["features", "result"])
def test_beyond_32_bits(cupy, operator, reduction, axis, long):
    """Kernels count in 64 bits through arrays that need it."""
    call = Described(operator, reduction, np.float32, axis=axis)
    if long == "features":
        call.features = spread((300_000_000, *SHAPE[axis][1:]), np.float32)
    else:
        call.grad = spread((100_000_000, *POOLED[axis][1:]), np.float32)
        call.names = spread(call.grad.shape, np.int64)
        rows = spread((100_000_000, 5), np.float32)
        call.corners, call.images = rows[:, 1:], rows[:, 0]
    for named in (False, True)[: 1 + (call.reduce != "mean")]:
        call.forward(named)
    far = [types for array, types in with_distances(cupy.launches) if span(array) >= 2**31]
    assert far
    assert all("int64" in types for types in far)


@every_reduction
def test_within_32_bits(cupy, operator, reduction):
    call = Described(operator, reduction, np.float32)
    call.forward(False)
    ours = call.features, call.grad
    near = [
        types
        for array, types in with_distances(cupy.launches)
        if any(array is each for each in ours)
    ]
    assert len(near) >= 2
    assert not any("int64" in types for types in near)


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_channels_in_vectors(cupy, stored):
    """16 bytes at a time from a map to a result of the same format."""
    (mean,) = [row for row in REDUCTIONS if row[0].name == "roi_align" and row[1] == "mean"]
    call = Described(*mean, stored, axis=-1)
    call.features, shape = np.zeros((2, 9, 7, 16), stored), (5, 3, 2, 16)
    call.grad = np.zeros(shape, call.grad.dtype)
    call.forward(False)
    name = cupy.launches[-1].kernel.name
    assert name.startswith("contract_vectors") is (call.features.dtype.kind in "fV")
    if call.features.itemsize == 2:
        call.grad = np.zeros(shape, np.float32)
        call.forward(False)
        assert not cupy.launches[-1].kernel.name.startswith("contract_vectors")


# ---- memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts", [[(1, "int32")], [(0, "float64"), (3, "int32")], [(5, "int32"), (7, "float64")] * 3]
)
def test_parts_of_scratch_lie_apart(cupy, parts):
    memory, *addresses = launching.scratch(*parts)
    (allocation,) = cupy.allocations
    assert allocation is memory
    free = memory.ptr
    for address, (count, dtype) in zip(addresses, parts, strict=True):
        assert address >= free
        assert address % 16 == 0  # what the widest load asks for
        free = address + count * np.dtype(dtype).itemsize
    assert free <= memory.ptr + memory.size


def test_scratch_is_the_callers(cupy):
    launching.scratch((12, "float32"))
    cupy.stream = recorded_cupy.Stream(ptr=1234)
    launching.scratch((12, "float32"))
    assert not launching._captured


def test_scratch_of_a_graph_stays(cupy):
    """The graph writes to it at each replay, when the call is long over."""
    cupy.stream = recorded_cupy.Stream(ptr=1234, capturing=True)
    owners = [launching.scratch((count, "int32"))[0] for count in (3, 4)]
    assert all(one is other for one, other in zip(launching._captured, owners, strict=True))


@every_reduction
def test_few_allocations(cupy, operator, reduction):
    """Beside the result: a table is one."""
    call = Described(operator, reduction, np.float32)
    call.forward(False)
    assert len(cupy.allocations) == (call.reduce == "mean")
    assert len(cupy.launches) == 1 + (call.reduce == "mean")


# ---- without the extras --------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["cupy", "numba_cuda"])
def test_the_message_names_the_extras(missing):
    """And whatever else there is works without them."""
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        import numpy as np, roi_numba
        roi_numba.axis_weights("roi_align", [1, 4], 6, 2)
        try:
            import roi_numba._cuda.launch
        except ImportError as error:
            print(error)
    """
    printed = run_python(textwrap.dedent(code))
    assert len(printed.splitlines()) == 1
    assert "roi_numba[cuda12]" in printed
    assert "roi_numba[cuda13]" in printed
