"""Arrays of other libraries on a device, through DLPack: streams, memory, who holds what."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

import on_stand_in
from arrays import BOXES, EVERY_OPERATOR, MATRIX, SHAPE, SIZE, bits, features, results
from device_stand_in import Capsule, machine, ndarray
from on_stand_in import RESULT, gradient, there
from operators import OPERATORS, ids

called = on_stand_in.called


class Tensor:
    """An array of a library of ours, on a device or not; it speaks DLPack."""

    requires_grad = False

    def __init__(self, array, device=0, dtype=None):
        self.array, self.number = array, device
        self.dtype = dtype or f"its.{array.dtype}"

    @property
    def shape(self):
        return self.array.shape

    def view(self, dtype):
        name = "its.bfloat16" if dtype == "bfloat16" else None
        array = self.array if name else self.array.view(dtype)
        return type(self)(array, self.number, name)

    def __len__(self):
        return len(self.array)

    def __dlpack__(self, stream=None, **options):
        if self.number is None:
            return self.array.__dlpack__(**options)
        assert str(self.dtype) != "its.bfloat16"
        return Capsule(self.array, self.number)

    def __dlpack_device__(self):
        return (1, 0) if self.number is None else (2, self.number)


def its_own(number):
    """A library's from_dlpack, which makes its stream wait for ours."""

    def from_dlpack(array):
        if isinstance(array, np.ndarray):
            return sys.modules[number].Tensor(array, None)
        assert type(array) is ndarray
        capsule = array.__dlpack__(stream=machine.streams[array._device].ptr or 1)
        return sys.modules[number].Tensor(capsule.array, capsule.device)

    return from_dlpack


@pytest.fixture
def library(monkeypatch):
    """Make a library with tensors on devices: torch, or one whose streams nobody knows."""

    def make(name):
        module = types.ModuleType(name)
        module.Tensor = type("Tensor", (Tensor,), {"__module__": name})
        module.int16, module.bfloat16 = np.dtype(np.int16), "bfloat16"
        module.from_dlpack = its_own(name)
        module.streams = [types.SimpleNamespace(cuda_stream=70 + i) for i in range(2)]
        module.cuda = types.SimpleNamespace(current_stream=lambda number: module.streams[number])
        module.allocated = []

        class UntypedStorage:
            def __init__(self, size, device):
                self.memory = np.full(size + 1, 0x7B, np.uint8)
                module.allocated.append((size, device))

            def data_ptr(self):
                return self.memory.ctypes.data

        module.UntypedStorage = UntypedStorage
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


@pytest.mark.parametrize("name", ["torch", "its"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8], ids=ids)
@MATRIX
def test_dlpack(library, operator, reduction, dtype, name):
    """A library's arrays in and out, forward and back."""
    its = library(name)
    input, upstream = features(dtype), gradient(dtype)
    expected = results(operator, reduction, input, BOXES, SIZE)
    found = results(operator, reduction, its.Tensor(input), its.Tensor(BOXES), SIZE)
    options = operator.reductions[reduction]
    expected += operator.backward(upstream, input, BOXES, **options)
    found += operator.backward(
        its.Tensor(upstream), its.Tensor(input), its.Tensor(BOXES), **options
    )
    for tensor, wanted in zip(found, expected, strict=True):
        assert type(tensor) is its.Tensor
        assert tensor.number == 0
        assert tensor.array.dtype == wanted.dtype
        np.testing.assert_array_equal(bits(tensor.array), bits(wanted))
    assert (machine.waits, machine.copies) == (0, 0)


@pytest.mark.parametrize("name", ["torch", "its"])
@EVERY_OPERATOR
def test_dlpack_of_bfloat16(library, operator, name):
    its = library(name)
    input = features(ml_dtypes.bfloat16)
    expected = operator.function(input, BOXES, SIZE)
    tensor = its.Tensor(input.view(np.int16), dtype="its.bfloat16")
    found = operator.function(tensor, its.Tensor(BOXES), SIZE)
    assert type(found) is its.Tensor
    assert found.dtype == "its.bfloat16"
    np.testing.assert_array_equal(found.array, expected.view(np.int16))


@EVERY_OPERATOR
def test_torch_stream_and_memory(called, library, operator):
    """One stream, torch's, and all memory from it."""
    torch = library("torch")
    for number in (0, 1):
        machine.exchanges.clear(), called.streams.clear(), torch.allocated.clear()
        input, boxes = torch.Tensor(features(), number), torch.Tensor(BOXES, number)
        found = operator.function(input, boxes, SIZE)
        assert found.number == number
        assert set(machine.exchanges) == set(called.streams) == {70 + number}
        assert torch.allocated == [(found.array.nbytes, f"cuda:{number}")]
        assert machine.device == 0
        torch.allocated.clear()
        operator.backward(torch.Tensor(gradient(), number), input, boxes)
        assert set(called.streams) == {70 + number}
        assert all(device == f"cuda:{number}" for _, device in torch.allocated)
        with pytest.raises(ValueError, match="grad_output must have shape"):
            operator.backward(torch.Tensor(gradient()[1:], number), input, boxes)


@EVERY_OPERATOR
def test_tensors_elsewhere(library, operator):
    """On the host, or on another device, or of CuPy."""
    torch = library("torch")
    input = torch.Tensor(features())
    expected = operator.function(features(), BOXES, SIZE)
    for boxes in (torch.Tensor(BOXES, None), BOXES):
        found = operator.function(input, boxes, SIZE)
        np.testing.assert_array_equal(found.array, expected)
    _, found = operator.backward(torch.Tensor(gradient()), input, torch.Tensor(BOXES, None))
    assert type(found) is torch.Tensor
    assert found.number is None
    np.testing.assert_array_equal(found.array, operator.backward(gradient(), features(), BOXES)[1])
    out = np.zeros(RESULT, np.float32)
    here = "must be on CUDA device 0 as input is, got"
    for arguments, options, words in [
        ((input, torch.Tensor(BOXES, 1), SIZE), {}, f"boxes {here} one on device 1"),
        ((input, there(BOXES), SIZE), {}, "boxes must come from the library of input or NumPy"),
        (
            (input, BOXES, SIZE),
            {"out": torch.Tensor(out, None)},
            f"out {here} a torch array in host memory",
        ),
        ((input, BOXES, SIZE), {"out": there(out)}, "out must come from the library of input"),
        (
            (torch.Tensor(features(), None), torch.Tensor(BOXES), SIZE),
            {},
            "boxes must be in host memory as input is, got a torch array on a device",
        ),
    ]:
        with pytest.raises(TypeError, match=f"^{words}"):
            operator.function(*arguments, **options)
    assert not out.any()


@pytest.mark.parametrize("argument", ["input", "boxes", "out", "grad_output"])
@EVERY_OPERATOR
def test_recorded_tensors(library, operator, argument):
    torch = library("torch")
    call = {"input": torch.Tensor(features()), "boxes": torch.Tensor(BOXES)}
    function = operator.function
    if argument == "grad_output":
        function, call["grad_output"] = operator.backward, torch.Tensor(gradient())
    else:
        call["output_size"] = SIZE
        call["out"] = torch.Tensor(np.zeros(RESULT, np.float32))
    call[argument].requires_grad = True
    words = rf"^{argument} must not require grad here.*detach\(\).*roi_numba\.torch"
    with pytest.raises(TypeError, match=words):
        function(**call)


@EVERY_OPERATOR
def test_arrays_are_held_until_kernels_have_read_them(library, operator):
    """Of a library whose streams we do not know."""
    its = library("its")
    lent = sys.modules.get("roi_numba._cuda.arrays")
    operator.function(there(features()), there(BOXES), SIZE)
    lent = sys.modules["roi_numba._cuda.arrays"]._lent
    assert not lent
    operator.function(its.Tensor(features()), its.Tensor(BOXES), SIZE)
    ((event, arrays),) = lent
    assert [array.shape for array in arrays] == [SHAPE, BOXES.shape]
    assert machine.streams[0].events == [event]
    operator.function(its.Tensor(features()), BOXES, SIZE)
    assert len(lent) == 2
    event.done = True
    operator.function(its.Tensor(features(), 1), its.Tensor(BOXES, 1), SIZE)
    assert len(lent) == 2
    assert machine.streams[1].events == [lent[-1][0]]
    for event, _ in lent:
        event.done = True
    operator.function(its.Tensor(features(), 1), its.Tensor(BOXES, 1), SIZE)
    assert len(lent) == 1


@EVERY_OPERATOR
def test_jax_arrays_are_not_written_to(library, operator):
    jax = library("jax")
    out = jax.Tensor(np.zeros(RESULT, np.float32))
    with pytest.raises(ValueError, match=r"^out must be writeable, got a read-only array"):
        operator.function(jax.Tensor(features()), BOXES, SIZE, out=out)


class OnTPU(Tensor):
    """Its device is no GPU."""

    def __dlpack_device__(self):
        return 8, 0


@EVERY_OPERATOR
def test_devices_of_another_kind(operator):
    words = r"^input must be in host memory or on a CUDA device, got .* of another kind \(8\)"
    with pytest.raises(TypeError, match=words):
        operator.function(OnTPU(features()), BOXES, SIZE)


def test_without_cupy(monkeypatch):
    """What is missing is named, and how to get it."""
    (operator,) = (operator for operator in OPERATORS if operator.name == "roi_align")
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = (
        r"^input must be in host memory, got a test_cuda_libraries array on a device: a sentence"
    )
    with pytest.raises(ImportError, match=words):
        operator.function(Tensor(features()), BOXES, SIZE)
