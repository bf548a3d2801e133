"""Whoever owns the arrays, the numbers are the same and the results are the owner's."""

import functools
import sys
import types

import numpy as np
import pytest

from arrays import BOXES, EVERY_OPERATOR, GUARD, MATRIX, SIZE, assert_same_bits, features, results
from device_stand_in import without_cupy
from operators import MAXIMA, MEANS, ids


class Foreign:
    """An array of this module, as far as anyone can tell: it speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def from_dlpack(array):
    return Foreign(np.from_dlpack(array))


class OldForeign(Foreign):
    """It knows nothing of DLPack 1.0."""

    def __dlpack__(self, stream=None):
        return self._array.__dlpack__(stream=stream)


class OnDevice(Foreign):
    """An array in the memory of a GPU."""

    def __dlpack__(self, **options):
        raise AssertionError("nobody can read this")

    def __dlpack_device__(self):
        return (2, 0)


def borrowed(array):
    """The NumPy array in a `Foreign`, which is what it should be."""
    assert type(array).__mro__[-2] is Foreign
    return array._array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64], ids=ids)
@MATRIX
def test_dlpack_in_and_out(operator, reduction, dtype):
    input = features(dtype)
    expected = results(operator, reduction, input, BOXES, SIZE)
    for boxes in (Foreign(BOXES), BOXES):
        found = results(operator, reduction, Foreign(input), boxes, SIZE)
        for actual, wanted in zip(found, expected, strict=True):
            assert_same_bits(borrowed(actual), wanted)


@EVERY_OPERATOR
def test_dlpack_in_every_argument(operator):
    input = features()
    parts = [Foreign(BOXES[BOXES[:, 0] == i, 1:].copy()) for i in range(2)]
    order = np.argsort(BOXES[:, 0], kind="stable")
    expected = operator.function(input, BOXES, SIZE)

    output = operator.function(Foreign(input), parts, SIZE)
    assert_same_bits(borrowed(output), expected[order])
    output = operator.function(Foreign(input), [parts[0], borrowed(parts[1])], SIZE)
    assert_same_bits(borrowed(output), expected[order])

    images = Foreign(BOXES[:, 0].astype(np.int64))
    corners = Foreign(np.ascontiguousarray(BOXES[:, 1:]))
    output = operator.function(Foreign(input), corners, SIZE, batch_indices=images)
    assert_same_bits(borrowed(output), expected)

    last = Foreign(np.moveaxis(input, 1, -1))
    output = operator.function(last, Foreign(BOXES), SIZE, channel_axis=-1)
    assert_same_bits(np.moveaxis(borrowed(output), -1, 1), expected)

    out = Foreign(np.full(expected.shape, GUARD, np.float32))
    assert operator.function(Foreign(input), Foreign(BOXES), SIZE, out=out) is out
    assert_same_bits(borrowed(out), expected)


@EVERY_OPERATOR
def test_dlpack_before_version_1(operator):
    output = operator.function(OldForeign(features()), OldForeign(BOXES), SIZE)
    assert_same_bits(borrowed(output), operator.function(features(), BOXES, SIZE))


@EVERY_OPERATOR
def test_dlpack_of_no_boxes(operator):
    output = operator.function(Foreign(features()), Foreign(BOXES[:0].copy()), SIZE)
    assert borrowed(output).shape == (0, 19, *SIZE)


@pytest.fixture
def other_library(monkeypatch):
    """A second library with arrays of its own, and one whose arrays are of the first's kind."""

    def library(name, base, **attributes):
        module = types.ModuleType(name)
        module.Array = type("Array", (base,), {"__module__": f"{name}.arrays"})
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return library


@EVERY_OPERATOR
def test_libraries_do_not_mix(operator, other_library):
    """Except with NumPy's boxes, which any library may have."""
    other = other_library("another", Foreign, from_dlpack=from_dlpack)
    mine, its = Foreign(features()), other.Array(features())
    boxes = Foreign(BOXES)
    shape = (len(BOXES), 19, *SIZE)
    out = np.full(shape, GUARD, np.float32)
    with pytest.raises(TypeError, match=r"^boxes must come from the library of input or NumPy"):
        operator.function(its, boxes, SIZE)
    with pytest.raises(TypeError, match=r"^boxes must come from the library of input or NumPy"):
        operator.function(features(), boxes, SIZE)
    with pytest.raises(TypeError, match=r"^boxes.* must come from the library of input or NumPy"):
        operator.function(mine, [BOXES[:, 1:], other.Array(BOXES[:, 1:].copy())], SIZE)
    for wrong in (out, other.Array(out)):
        with pytest.raises(TypeError, match=r"^out must come from the library of input"):
            operator.function(mine, boxes, SIZE, out=wrong)
    with pytest.raises(TypeError, match=r"^out must come from the library of input"):
        operator.function(features(), BOXES, SIZE, out=Foreign(out))
    assert (out == GUARD).all()


@EVERY_OPERATOR
def test_a_subclass_belongs_to_the_library_of_its_base(operator, other_library):
    """As torchvision's tensors of boxes and images belong to torch."""
    extension = other_library("extension", Foreign)
    expected = operator.function(features(), BOXES, SIZE)
    output = operator.function(Foreign(features()), extension.Array(BOXES), SIZE)
    assert_same_bits(borrowed(output), expected)
    output = operator.function(extension.Array(features()), Foreign(BOXES), SIZE)
    assert_same_bits(borrowed(output), expected)


@EVERY_OPERATOR
def test_a_library_that_cannot_take_results(operator, other_library):
    mute = other_library("mute", object)
    array = type("Array", (), {**vars(Foreign), "__module__": "mute"})(features())
    assert sys.modules["mute"] is mute
    with pytest.raises(TypeError, match=r"^input must come from a library with from_dlpack"):
        operator.function(array, BOXES, SIZE)


@pytest.mark.parametrize("argument", ["boxes", "batch_indices", "out"])
@EVERY_OPERATOR
def test_device_arrays_beside_those_of_the_host(operator, argument):
    call = {"input": Foreign(features()), "boxes": Foreign(BOXES)}
    if argument == "batch_indices":
        call["boxes"] = Foreign(BOXES[:, 1:].copy())
    call[argument] = OnDevice(np.zeros(1))
    words = rf"^{argument} must be in host memory as input is, got a test_dlpack array on a device"
    with pytest.raises(TypeError, match=words):
        operator.function(output_size=SIZE, **call)


@EVERY_OPERATOR
def test_device_arrays_without_cupy(operator, monkeypatch):
    """What computes there is not installed, and the message says how to get it."""
    without_cupy(monkeypatch)
    words = r"^input must be in host memory, got a test_dlpack array on a device: .*cuda12.*cuda13"
    with pytest.raises(ImportError, match=words):
        operator.function(OnDevice(features()), Foreign(BOXES), SIZE)


# ---- torch ---------------------------------------------------------------------------------


@functools.cache
def imported(name):
    """A library that need not be there; its own import may warn."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@pytest.fixture
def torch():
    return imported("torch")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "uint8", "bool"])
@MATRIX
def test_torch(torch, operator, reduction, dtype):
    tensor = torch.from_numpy(features(np.float32)).to(getattr(torch, dtype))
    boxes = torch.from_numpy(BOXES)
    wide = tensor.to(torch.float32) if dtype == "bfloat16" else tensor
    expected = results(operator, reduction, wide.numpy(), BOXES, SIZE)
    found = results(operator, reduction, tensor, boxes, SIZE)
    assert all(type(array) is torch.Tensor for array in found)
    assert found[0].dtype == (torch.float32 if dtype in ("uint8", "bool") else tensor.dtype)
    wanted = torch.from_numpy(expected[0]).to(found[0].dtype)
    assert torch.equal(found[0], wanted)
    if reduction != "mean":
        assert found[1].dtype == torch.int64
        np.testing.assert_array_equal(found[1].numpy(), expected[1])


@EVERY_OPERATOR
def test_torch_in_every_argument(torch, operator):
    tensor, rows = torch.from_numpy(features()), torch.from_numpy(BOXES)
    expected = torch.from_numpy(operator.function(features(), BOXES, SIZE))
    order = torch.argsort(rows[:, 0], stable=True)
    parts = [rows[rows[:, 0] == i, 1:] for i in range(2)]
    assert torch.equal(operator.function(tensor, parts, SIZE), expected[order])
    assert torch.equal(operator.function(tensor, BOXES, SIZE), expected)
    indices = rows[:, 0].to(torch.int64)
    corners = rows[:, 1:]
    assert torch.equal(operator.function(tensor, corners, SIZE, batch_indices=indices), expected)
    last = tensor.to(memory_format=torch.channels_last)
    assert torch.equal(operator.function(last, rows, SIZE), expected)
    output = operator.function(tensor.permute(0, 2, 3, 1), rows, SIZE, channel_axis=-1)
    assert torch.equal(output.permute(0, 3, 1, 2), expected)
    out = torch.empty_like(expected)
    assert operator.function(tensor, rows, SIZE, out=out) is out
    assert torch.equal(out, expected)
    narrow = rows.to(torch.bfloat16)
    wide = narrow.to(torch.float32)
    assert torch.equal(
        operator.function(tensor, narrow, SIZE), operator.function(tensor, wide, SIZE)
    )
    half = tensor.to(torch.bfloat16)
    out = torch.empty_like(expected, dtype=torch.bfloat16)
    assert operator.function(half, rows, SIZE, out=out) is out
    assert torch.equal(out, operator.function(half, rows, SIZE))


@EVERY_OPERATOR
def test_torch_results_are_the_callers_own(torch, operator):
    """They can be written to, and they outlive everything else."""
    output = operator.function(torch.from_numpy(features()), torch.from_numpy(BOXES), SIZE)
    output += 1
    assert torch.equal(output - 1, output.clone() - 1)


@pytest.mark.parametrize("argument", ["input", "boxes", "out"])
@EVERY_OPERATOR
def test_torch_gradients_are_not_lost_in_silence(torch, operator, argument):
    out = torch.zeros((len(BOXES), 19, *SIZE))
    call = {"input": torch.from_numpy(features()), "boxes": torch.from_numpy(BOXES), "out": out}
    call[argument] = call[argument].clone().requires_grad_()
    with pytest.raises(TypeError, match=rf"^{argument} .*detach\(\).*roi_numba\.torch"):
        operator.function(output_size=SIZE, **call)
    call[argument] = call[argument].detach()
    operator.function(output_size=SIZE, **call)


@EVERY_OPERATOR
def test_torch_subclasses_are_tensors(torch, operator):
    subclass = type("Boxes", (torch.Tensor,), {"__module__": "pytest"})
    boxes = torch.from_numpy(BOXES).as_subclass(subclass)
    output = operator.function(torch.from_numpy(features()), boxes, SIZE)
    assert torch.equal(output, operator.function(torch.from_numpy(features()), BOXES, SIZE))


# ---- JAX -----------------------------------------------------------------------------------


@pytest.fixture
def jnp():
    imported("jax")
    return imported("jax.numpy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "uint8", "int32"])
@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_jax(jnp, operator, reduction, dtype):
    array = jnp.asarray(features(np.float32)).astype(dtype)
    expected = operator.function(np.asarray(array), BOXES, SIZE, **operator.reductions[reduction])
    for boxes in (jnp.asarray(BOXES), BOXES):
        output = operator.function(array, boxes, SIZE, **operator.reductions[reduction])
        assert type(output) is type(array)
        assert_same_bits(np.asarray(output), expected)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_jax_maxima(jnp, operator, reduction):
    """JAX keeps argmax in its own widest integer."""
    expected = results(operator, reduction, features(), BOXES, SIZE)
    found = results(operator, reduction, jnp.asarray(features()), jnp.asarray(BOXES), SIZE)
    for actual, wanted in zip(found, expected, strict=True):
        assert isinstance(actual, type(jnp.zeros(1)))
        np.testing.assert_array_equal(np.asarray(actual), wanted)


@EVERY_OPERATOR
def test_jax_arrays_are_never_written_to(jnp, operator):
    array = jnp.asarray(features())
    before = np.asarray(array).copy()
    operator.function(array, jnp.asarray(BOXES), SIZE)
    np.testing.assert_array_equal(np.asarray(array), before)
    out = jnp.zeros((len(BOXES), 19, *SIZE))
    with pytest.raises((TypeError, ValueError), match=r"^out must be writeable"):
        operator.function(array, BOXES, SIZE, out=out)
    assert not np.asarray(out).any()
